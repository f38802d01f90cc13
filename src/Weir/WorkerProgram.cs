// What runs in a worker: one event loop, the HTTP server on it, and the answers to what the master asks. A new snapshot
// is built off the loop, acknowledged, and made current when all workers have acknowledged.
using Weir.Conf;
using Weir.Http;
using Weir.Http.Cache;
using Weir.Kernel;
using Weir.Loop;
using Weir.Process;
using Weir.Zones;

namespace Weir;

internal sealed class WorkerProgram : IWorkerProgram
{
    private readonly WorkerHost _host;
    private EventLoop _loop = null!;
    private HttpServer _http = null!;
    private BuiltConfiguration? _prepared;
    private CacheKeeper? _keeper;
    private bool _quitting;

    private WorkerProgram(WorkerHost host) => _host = host;

    /// <summary>The role's entry.</summary>
    public static int Run(WorkerHost host) => new WorkerProgram(host).Run();

    private int Run()
    {
        NativeHeap.UseOneArena();
        _host.Program = this;
        BuiltConfiguration first = BuiltConfiguration.Build(_host, _host.First, out string? error)!;
        if (error is not null)
        {
            _host.Log.Write(LogLevel.Emerg, $"the worker cannot build its configuration: {error}");
            return Role.FatalExitCode;
        }
        EventLoop? loop = Engines.Open(first.Main.Use.ValueOr(""), out string engine);
        _host.Log.Write(loop is null ? LogLevel.Emerg : LogLevel.Notice, engine);
        if (loop is null)
        {
            return Role.FatalExitCode;
        }
        _loop = loop;
        _loop.Adopt();
        _loop.ConnectionsMax = first.Main.WorkerConnections.ValueOr(512);
        _loop.Blocking.ThreadsMax = first.Main.BlockingThreads;
        _loop.Alert = (message, errno) => _host.Log.Write(LogLevel.Alert, message, errno);
        _loop.Report = (level, message, errno) => _host.Log.Write(level, message, errno);
        _loop.Trimmed = dropped =>
        {
            if (dropped > TrimmedManyMin)
            {
                CollectSoon();
            }
        };
        SetUpAccepting(first.Main);
        _loop.SlowTurn = took => _host.Log.Write(LogLevel.Warn, $"a turn of the loop took {took} ms");
        _http = new HttpServer(_loop, first.Configuration.DefaultLog, _host.Counters)
        {
            Drained = () =>
            {
                if (_quitting)
                {
                    _loop.Stop();
                }
            },
        };
        Apply(first);
        IDisposable channel = _loop.WatchReadable(_host.ChannelFd, OnChannel);
        IDisposable? signals = _host.SignalFd >= 0 ? _loop.WatchReadable(_host.SignalFd, _host.OnSignalReadable) : null;
        _channelWatch = channel;
        _host.Acknowledge(first.Generation);
        CollectSoon();
        _loop.Run();
        FlushLogs();
        signals?.Dispose();
        _channelWatch?.Dispose();
        // A ring holds the files it watches: the master would never see the channel's end.
        _loop.Dispose();
        _host.Log.Write(LogLevel.Notice, "exiting");
        _host.Log.Write(LogLevel.Notice, "exit");
        return 0;
    }

    /// <summary>What of accepting only a new process can take up; see <see cref="MainSettings.ClassicKey"/>.</summary>
    private void SetUpAccepting(MainSettings main)
    {
        if (main.UsesAcceptMutex && _host.SignalFd >= 0)
        {
            _loop.AcceptGate = new MutexGate(_host.AllCounters.AcceptMutex)
            {
                DelayMs = (int)Math.Clamp(main.AcceptMutexDelayMs.ValueOr(500), 1, int.MaxValue),
            };
        }
        SysResult files = ProcessControl.GetLimit(ResourceLimit.OpenFiles);
        if (files.IsOk && files.Value < _loop.ConnectionsMax)
        {
            _host.Log.Write(LogLevel.Warn,
                $"{_loop.ConnectionsMax} worker_connections exceed open file resource limit: {files.Value}");
        }
    }

    /// <summary>The mutex that all workers map; the kernel frees it when its holder dies, and it guards nothing that
    /// could be left half done.</summary>
    private sealed class MutexGate(NativeSlice mutex) : AcceptGate
    {
        public override bool TryEnter()
        {
            switch (RobustMutex.TryLock(mutex))
            {
                case LockOutcome.Taken:
                    return true;
                case LockOutcome.TakenFromDead:
                    RobustMutex.MarkRepaired(mutex);
                    return true;
                case LockOutcome.Busy:
                    return false;
                default:
                    // No mutex at all: better all at once than nobody.
                    return true;
            }
        }

        public override void Leave() => RobustMutex.Unlock(mutex);
    }

    private IDisposable? _channelWatch;

    private void OnChannel()
    {
        _host.OnChannelReadable();
        if (_host.MasterIsGone)
        {
            _channelWatch?.Dispose();
            _channelWatch = null;
        }
    }

    private void Apply(BuiltConfiguration built)
    {
        built.Configuration.Own(built.Snapshot);
        _http.Log = built.Configuration.DefaultLog;
        _host.Log = built.Configuration.DefaultLog;
        _http.QuitGraceMs = QuitGraceMs(built.Configuration);
        _loop.MultiAccept = built.Main.MultiAccept.ValueOr(false);
        _loop.HasSiblings = built.Main.EffectiveWorkers > 1;
        // The descriptors stay the host's: the loop closes copies.
        _http.Apply(built.Configuration, spec => built.Snapshot.Listeners(spec).Select(static fd =>
            Descriptors.Duplicate(fd).Int));
        if (_host.SignalFd < 0)
        {
            // The only process: there are no others to look after the caches.
            _keeper?.Stop();
            _keeper = CacheKeeper.Start(_loop, built.Configuration, CacheDuties.Manages | CacheDuties.Loads);
        }
    }

    /// <summary>nginx closes idle connections at once unless keepalive_min_timeout says otherwise; a request that is
    /// already on its way would fail. At least a second is granted (docs/differences.md).</summary>
    private static int QuitGraceMs(HttpConfiguration configuration)
    {
        long longest = 1000;
        foreach (ServerConf server in configuration.Servers)
        {
            longest = Math.Max(longest, server.Location.KeepAliveMinTimeout.Value);
        }
        return (int)Math.Min(longest, int.MaxValue);
    }

    public void Prepare(WorkerSnapshot snapshot)
    {
        var thread = new Thread(() =>
        {
            BuiltConfiguration? built = null;
            string? error;
            try
            {
                built = BuiltConfiguration.Build(_host, snapshot, out error);
            }
            catch (Exception e)
            {
                error = e.ToString();
            }
            _loop.Post(() =>
            {
                if (built is null)
                {
                    _host.Refuse(snapshot.Generation, error ?? "unknown");
                    return;
                }
                _prepared = built;
                _host.Acknowledge(snapshot.Generation);
            });
        }, 16 * 1024 * 1024)
        {
            IsBackground = true,
            Name = "weir-build",
        };
        thread.Start();
    }

    public void Commit(uint generation)
    {
        if (_prepared is { } built && built.Generation == generation)
        {
            _prepared = null;
            Apply(built);
            CollectSoon();
        }
    }

    /// <summary>What a start or a reload left behind is collected once reloads have settled. The pause grows with what
    /// is alive, not with what is left.</summary>
    private void CollectSoon()
    {
        _collect ??= new CallbackTimer(Collect);
        _loop.Timers.Set(_collect, _loop.NowMs + CollectDelayMs);
    }

    private static void Collect() => new Thread(ManagedHeap.Settle)
    {
        IsBackground = true,
        Name = "weir-collect",
    }.Start();

    private const int CollectDelayMs = 300;

    /// <summary>So many objects out of the pools are worth a collection.</summary>
    private const int TrimmedManyMin = 1000;
    private CallbackTimer? _collect;

    public void Abort(uint generation)
    {
        if (_prepared is { } built && built.Generation == generation)
        {
            _prepared = null;
            built.Configuration.Release();
        }
    }

    public void FlushLogs() => _http?.FlushLogs();

    public void Quit()
    {
        if (_quitting)
        {
            return;
        }
        _quitting = true;
        if (_host.First.Content.Settings.ShutdownTimeoutMs is > 0 and long ms)
        {
            _loop.Timers.Set(new CallbackTimer(_loop.Stop), _loop.NowMs + ms);
        }
        _http.Quit();
    }

    public void Terminate() => _loop.Stop();
}
