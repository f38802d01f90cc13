// What runs in the cache manager and the cache loader: the same configuration as in a worker, a loop without listeners,
// and the caches' work on it. A reload is taken up as by a worker. The loader ends when all files are loaded.
using Weir.Http;
using Weir.Http.Cache;
using Weir.Kernel;
using Weir.Loop;
using Weir.Process;

namespace Weir;

internal sealed class CacheProgram : IWorkerProgram
{
    private readonly WorkerHost _host;
    private readonly CacheDuties _duties;
    private EpollLoop _loop = null!;
    private BuiltConfiguration? _current;
    private BuiltConfiguration? _prepared;
    private CacheKeeper? _keeper;
    private bool _stopping;

    private CacheProgram(WorkerHost host, CacheDuties duties)
    {
        _host = host;
        _duties = duties;
    }

    /// <summary>As nginx's, and like it started only where there is a cache.</summary>
    internal static Role Manager { get; } = new("cache manager process", "weir: cache manager process",
        RestartPolicy.Always, static host => new CacheProgram(host, CacheDuties.Manages).Run()) { GivesWay = true };

    internal static Role Loader { get; } = new("cache loader process", "weir: cache loader process",
        RestartPolicy.OnFailure, static host => new CacheProgram(host, CacheDuties.Loads).Run()) { GivesWay = true };

    private int Run()
    {
        NativeHeap.UseOneArena();
        _host.Program = this;
        BuiltConfiguration? first = BuiltConfiguration.Build(_host, _host.First, out string? error);
        if (first is null)
        {
            _host.Log.Write(LogLevel.Emerg, $"the process cannot build its configuration: {error}");
            return Role.FatalExitCode;
        }
        _loop = new EpollLoop();
        _loop.Adopt();
        // This process serves nobody: the work is done right here.
        _loop.Blocking.ThreadsMax = 0;
        _loop.SlowTurnMs = int.MaxValue;
        _loop.Report = (level, message, errno) => _host.Log.Write(level, message, errno);
        IDisposable? channel = _loop.WatchReadable(_host.ChannelFd, OnChannel);
        IDisposable? signals = _host.SignalFd >= 0 ? _loop.WatchReadable(_host.SignalFd, _host.OnSignalReadable) : null;
        _channelWatch = channel;
        Apply(first);
        _host.Acknowledge(first.Generation);
        if (!_stopping)
        {
            _loop.Run();
        }
        _keeper?.Stop();
        signals?.Dispose();
        _channelWatch?.Dispose();
        _loop.Dispose();
        _host.Log.Write(LogLevel.Notice, "exit");
        return 0;
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
        _keeper?.Stop();
        built.Configuration.Own(built.Snapshot);
        _host.Log = built.Configuration.DefaultLog;
        BuiltConfiguration? old = _current;
        _current = built;
        _keeper = CacheKeeper.Start(_loop, built.Configuration, _duties, Loaded);
        old?.Configuration.Retire();
        if (_keeper is null && (_duties & CacheDuties.Loads) != 0)
        {
            Loaded();
        }
    }

    private void Loaded() => Terminate();

    public void Prepare(WorkerSnapshot snapshot)
    {
        BuiltConfiguration? built = BuiltConfiguration.Build(_host, snapshot, out string? error);
        if (built is null)
        {
            _host.Refuse(snapshot.Generation, error ?? "unknown");
            return;
        }
        _prepared = built;
        _host.Acknowledge(snapshot.Generation);
    }

    public void Commit(uint generation)
    {
        if (_prepared is { } built && built.Generation == generation)
        {
            _prepared = null;
            Apply(built);
        }
    }

    public void Abort(uint generation)
    {
        if (_prepared is { } built && built.Generation == generation)
        {
            _prepared = null;
            built.Configuration.Release();
        }
    }

    public void FlushLogs() => _current?.Configuration.FlushLogs();

    public void Quit() => Terminate();

    public void Terminate()
    {
        _stopping = true;
        _loop.Stop();
    }
}
