// Connections on event loops, one thread each, driven by the same code as the web server's: a configuration is written
// for the options, and its one location hands requests to guests. Handlers run on the loop, on a bounded pool, or on
// the runtime's. All loops accept from the same sockets.
using System.Globalization;
using System.Text;
using Weir.Conf;
using Weir.Http;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Zones;

namespace Weir.Server;

/// <summary>EventDriven and its two relatives.</summary>
internal sealed class EventDrivenModel(AppServerOptions options, GuestApplication application, AppCounters counters,
    Log log, AppInstruments? instruments) : ServerModel(options, application, counters, log)
{
    private readonly List<LoopHost> _hosts = [];
    private readonly CounterSlots _slots = CounterSlots.CreatePrivate();
    private HandlerPool? _pool;
    private Watchdog? _watchdog;
    private IReadOnlyList<OpenListener> _listeners = [];

    /// <summary>How long a loop has to close what it serves when a stop waits no longer.</summary>
    private const int CutOffMs = 1000;

    internal override void Start(IReadOnlyList<OpenListener> listeners)
    {
        _listeners = listeners;
        Concurrency concurrency = Options.Concurrency;
        GuestPlace place = concurrency.Kind switch
        {
            ConcurrencyKind.EventDriven => GuestPlace.Inline,
            ConcurrencyKind.EventDrivenWithThreadPool => GuestPlace.Threads,
            _ => GuestPlace.TaskPool,
        };
        if (place == GuestPlace.Threads)
        {
            _pool = new HandlerPool(concurrency.Threads, concurrency.Queue, Counters) { Measured = TellThreadCost };
            _pool.Start();
        }
        int handlerTimeoutMs = Milliseconds(Options.HandlerTimeout);
        if (place == GuestPlace.Inline && handlerTimeoutMs > 0)
        {
            _watchdog = new Watchdog(Counters);
        }
        for (int i = 0; i < concurrency.Loops; i++)
        {
            _hosts.Add(new LoopHost(this, i, place, handlerTimeoutMs));
        }
        foreach (LoopHost host in _hosts)
        {
            host.Start();
            _watchdog?.Add(host, handlerTimeoutMs / 10);
        }
        Counters.MoreIdle = () => _hosts.Sum(static h => (long)h.Loop.IdleCount);
        Counters.MoreRefused = () => _hosts.Sum(static h => h.Loop.RefusedCount);
    }

    internal override async Task StopAsync(TimeSpan patience, CancellationToken hurry)
    {
        foreach (LoopHost host in _hosts)
        {
            host.Loop.Post(host.Quit);
        }
        Task all = Task.WhenAll(_hosts.Select(static h => h.Ended));
        if (await Task.WhenAny(all, Task.Delay(patience, hurry)) != all)
        {
            foreach (LoopHost host in _hosts)
            {
                host.Loop.Post(host.CutOff);
            }
            if (await Task.WhenAny(all, Task.Delay(CutOffMs)) != all)
            {
                // A loop that is held by a handler does not hear this; its thread is left to it, its client is not.
                foreach (LoopHost host in _hosts)
                {
                    host.CutOffOutside();
                }
            }
        }
        _watchdog?.Stop();
        _pool?.Stop();
        foreach (OpenListener listener in _listeners)
        {
            listener.Close();
        }
    }

    /// <summary>The options as a configuration.</summary>
    private string ConfigurationText()
    {
        var servers = new StringBuilder();
        foreach (OpenListener listener in _listeners)
        {
            string text = listener.Address.ToString();
            if (text.AsSpan().IndexOfAny("\"\\$;{}\n\r") >= 0)
            {
                throw new ArgumentException($"\"{text}\" has characters that no listening address has");
            }
            string tls = listener.Tls is null ? "" : " ssl";
            servers.Append(CultureInfo.InvariantCulture, $"server {{ listen \"{text}\"{tls}; ");
            servers.Append("location / { app_pass handler; } }\n");
        }
        long idleMs = Milliseconds(Options.IdleTimeout);
        return string.Create(CultureInfo.InvariantCulture, $$"""
            error_log app;
            events { worker_connections 1024; }
            http {
                access_log off;
                server_tokens off;
                absolute_redirect off;
                merge_slashes off;
                underscores_in_headers on;
                client_header_timeout {{Milliseconds(Options.HeaderTimeout)}}ms;
                client_body_timeout {{Milliseconds(Options.BodyTimeout)}}ms;
                send_timeout {{Milliseconds(Options.SendTimeout)}}ms;
                keepalive_timeout {{(idleMs == 0 ? "0" : idleMs + "ms")}};
                keepalive_requests {{Options.KeepAliveRequests}};
                keepalive_time 3650d;
                client_max_body_size {{Options.MaxBodyBytes}};
                large_client_header_buffers 4 {{Math.Max(1024, Options.MaxHeadBytes / 4)}};
                http2 {{(Options.Http2 ? "on" : "off")}};
                http2_max_concurrent_streams {{Math.Max(1, Options.Http2MaxStreams)}};
                http2_body_preread_size {{Math.Max(1, Options.Http2BodyWindowBytes)}};
                http2_chunk_size 16k;
                {{servers}}
            }

            """);
    }

    /// <summary>One loop with its thread.</summary>
    private sealed class LoopHost(EventDrivenModel model, int index, GuestPlace place, int handlerTimeoutMs) : IWatched
    {
        private readonly TaskCompletionSource _started = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private GuestLoop _guests = null!;
        private HttpServer? _http;
        private bool _drained;

        /// <summary>From <see cref="Start"/> on.</summary>
        internal EventLoop Loop { get; private set; } = null!;

        internal Task Ended => _ended.Task;

        internal void Start()
        {
            new Thread(Run) { IsBackground = true, Name = "weir-loop" }.Start();
            _started.Task.GetAwaiter().GetResult();
        }

        internal void CutOff() => new CuttingOff(Loop, [_guests], () => _drained).Begin();

        /// <summary>On the thread that stops.</summary>
        internal void CutOffOutside() => _guests.Inside?.CutOffOutside();

        internal void Quit() => _http!.Quit();

        /// <summary>No connection is left; who told so may be about to say that its handler is back.</summary>
        private void Drained()
        {
            _drained = true;
            Loop.Ready(EndWhenAllAreBack);
        }

        private void EndWhenAllAreBack()
        {
            if (_guests.Out == 0)
            {
                Loop.Stop();
                return;
            }
            _guests.AllBack = Loop.Stop;
            _ended.TrySetResult();
        }

        /// <summary>On the watchdog's thread.</summary>
        public void Watch(long nowMs) => _guests.Inside?.TimeIsUpOutside(nowMs);

        private void Run()
        {
            model.Counters.Thread(1);
            try
            {
                Open();
                Build();
            }
            catch (Exception e)
            {
                _started.SetException(e);
                model.Counters.Thread(-1);
                return;
            }
            _started.SetResult();
            Loop.Run();
            _http!.Configuration!.FlushLogs();
            Loop.Dispose();
            model.Counters.Thread(-1);
            _ended.TrySetResult();
        }

        private void Open()
        {
            AppServerOptions options = model.Options;
            string name = options.Engine switch
            {
                LoopEngine.Epoll => Engines.Epoll,
                LoopEngine.IoUring => Engines.IoUring,
                _ => "",
            };
            Loop = Engines.Open(name, out string note) ?? throw new NotSupportedException(note);
            Loop.SlowTurnMs = 0;
            if (index == 0)
            {
                model.Log.Write(LogLevel.Notice, note);
            }
            _guests = new GuestLoop
            {
                Loop = Loop,
                Index = index,
                LoopCount = options.Concurrency.Loops,
                Application = model.Application,
                Place = place,
                Counters = model.Counters,
                HandlerTimeoutMs = handlerTimeoutMs,
                QueueFull = options.QueueFull,
                UnsentBytesMax = Math.Max(0, options.MaxUnsentBytes),
                RetryAfter = Encoding.ASCII.GetBytes(options.RetryAfterSeconds.ToString(CultureInfo.InvariantCulture)),
                LateAnswer = ServerAnswers.Late(options.RetryAfterSeconds),
                ServerName = Encoding.ASCII.GetBytes(options.ServerName),
                Pool = model._pool,
                OwnsLoop = true,
                IsTimed = () => model.Counters.Observer is not null
                    || model.InstrumentsOf is { MeasuresDuration: true },
            };
        }

        private void Build()
        {
            Loop.Adopt();
            Loop.TurnEnded += _guests.HandOver;
            Log log = model.Log;
            Loop.Alert = (message, errno) => log.Write(LogLevel.Warn, message, errno);
            Loop.Report = (level, message, errno) => log.Write(level, message, errno);
            Loop.Fault = e => log.Write(LogLevel.Error, $"a fault on a loop: {e}");
            var resources = new AppResources(log, new GuestHandler(_guests), model._slots, model._listeners);
            MemoryConfFiles files = new MemoryConfFiles().Add("/app/app.conf", model.ConfigurationText());
            ConfTree tree = ConfParser.Parse(files, "/app/app.conf", "");
            var build = new HttpBuild(resources, tree.Errors);
            HttpConfiguration configuration = build.Run(tree);
            foreach (ConfError error in tree.Errors.All)
            {
                if (error.Level == ConfLevel.Emerg)
                {
                    throw new ArgumentException($"the options cannot be served: {error.Format()}");
                }
            }
            configuration.DefaultLog = log;
            configuration.LogHandlers.Add(new AnsweredHandler(_guests, model.Counters, model.InstrumentsOf));
            Loop.ConnectionsMax = int.MaxValue;
            _http = new HttpServer(Loop, log, model._slots[1 + (_guests.Index % CounterSlots.SlotsMax)])
            {
                QuitGraceMs = 100,
                Drained = Drained,
                Observer = new ConnectionEvents(_guests, model.Options.MaxConnections),
            };
            _guests.Http = _http;
            _http.Apply(configuration, spec => model._listeners
                .Where(l => l.Address.Equals(spec.Address))
                .Select(static l => Descriptors.Duplicate(l.Fd).Int));
        }
    }

    private AppInstruments? InstrumentsOf => instruments;
}

/// <summary>What a build for an AppServer finds in its process.</summary>
internal sealed class AppResources(Log log, PhaseHandler handler, CounterSlots counters,
    IReadOnlyList<OpenListener> listeners) : IBuildResources
{
    public string Prefix => "/";
    public string ConfPrefix => "/";
    public string TempPrefix { get; } = Path.GetTempPath();
    public CounterSlots? Counters => counters;

    public PhaseHandler? Application(string name) => handler;

    public OwnTls? TlsOf(ListenSpec spec)
    {
        foreach (OpenListener listener in listeners)
        {
            if (listener.Address.Equals(spec.Address))
            {
                return listener.Tls?.AsOwn;
            }
        }
        return null;
    }

    public LogSink? SinkOf(LogSpec spec, LogLevel level) => log.Sinks.Count > 0 ? log.Sinks[0] : new NoSink();

    public int LogDescriptor(LogSpec spec) => -1;

    public Zone? Zone(ZoneSpec spec) => null;

    public SocketAddress[]? Resolve(string host, int port, out string? error)
    {
        error = "host not found";
        return null;
    }

    public byte[]? ReadFile(string path, out string? error)
    {
        error = "no file belongs to an application's configuration";
        return null;
    }

    public void NeedDirectory(string path) => Directory.CreateDirectory(path);

    private sealed class NoSink() : LogSink(LogLevel.None)
    {
        public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart)
        {
        }
    }
}

/// <summary>Counts and tells what became of requests.</summary>
internal sealed class AnsweredHandler(GuestLoop guests, AppCounters counters, AppInstruments? instruments) : LogHandler
{
    public override void OnLog(HttpRequest r)
    {
        counters.Answer();
        guests.Tell(AppServerEventKind.Answered, r, r.Response.Status);
        if (instruments is { MeasuresDuration: true })
        {
            instruments.Record(r.MethodName.Span, r.Response.Status, r.Loop.NowMs - r.StartMs);
        }
    }
}

/// <summary>Counts and tells of connections.</summary>
internal sealed class ConnectionEvents(GuestLoop guests, int connectionsMax) : IConnectionObserver
{
    public void Opened(Connection connection)
    {
        guests.Counters.Opened();
        guests.Counters.Tell(AppServerEventKind.Accepted, guests.ConnectionNumber(connection), 0, guests.Index);
        // The limit is that of all loops together; the longest idle connection of this one goes first.
        if (guests.Counters.Open > connectionsMax && guests.Loop.ReclaimIdle(1) == 0)
        {
            guests.Counters.Refuse();
            guests.Counters.Tell(AppServerEventKind.Refused, guests.ConnectionNumber(connection), 0, guests.Index);
            connection.Close();
        }
    }

    public void Closed(Connection connection)
    {
        guests.Counters.Closed(connection.Loop.NowMs - connection.StartMs);
        guests.Counters.Tell(AppServerEventKind.Closed, guests.ConnectionNumber(connection), 0, guests.Index);
    }
}
