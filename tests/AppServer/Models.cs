// A server per concurrency model, on a free port of loopback, with a handler that does what the path asks for.
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

/// <summary>The models by name.</summary>
public static class Models
{
    public static Concurrency Of(string name) => name switch
    {
        "sequential" => Concurrency.Sequential,
        "thread-per-connection" => Concurrency.ThreadPerConnection(200),
        "thread-pool" => Concurrency.ThreadPool(4, 100),
        "event-driven" => Concurrency.EventDriven(1),
        "event-driven-2" => Concurrency.EventDriven(2),
        "event-driven-thread-pool" => Concurrency.EventDrivenWithThreadPool(1, 4, 100),
        "event-driven-task-pool" => Concurrency.EventDrivenWithTaskPool(2),
        _ => throw new ArgumentException(name),
    };

    public static IReadOnlyList<string> Names { get; } =
    [
        "sequential", "thread-per-connection", "thread-pool", "event-driven", "event-driven-2",
        "event-driven-thread-pool", "event-driven-task-pool",
    ];

    public static TheoryData<string> All => [.. Names];
}

/// <summary>A running server and what it said.</summary>
public sealed class Running : IDisposable
{
    private readonly List<string> _log = [];

    public Running(string model, Func<AppRequest, AppResponse, Task> handler, Action<AppServerOptions>? set = null)
        : this(Options(Models.Of(model), set), server => server.Start(handler))
    {
    }

    private Running(AppServerOptions options, Action<Server.AppServer> start)
    {
        options.Log = (level, line) =>
        {
            lock (_log)
            {
                _log.Add($"{level}: {line}");
            }
        };
        Events = new AppEventRing();
        options.Observer = Events;
        Server = new Server.AppServer(options);
        start(Server);
    }

    public static Running Sync(string model, Action<AppRequest, AppResponse> handler,
        Action<AppServerOptions>? set = null) =>
        new(Options(Models.Of(model), set), server => server.Start(handler));

    public static Running With(Concurrency concurrency, Action<AppRequest, AppResponse> handler,
        Action<AppServerOptions>? set = null) => new(Options(concurrency, set), server => server.Start(handler));

    public Server.AppServer Server { get; }

    public AppEventRing Events { get; }

    public int Port => Server.Port;

    public AppServerMetrics Metrics => Server.GetMetrics();

    public string Log
    {
        get
        {
            lock (_log)
            {
                return string.Join('\n', _log);
            }
        }
    }

    public RawClient Connect() => RawClient.Connect(Port);

    /// <summary>Waits until the server's numbers are as wanted.</summary>
    public void Await(Func<AppServerMetrics, bool> wanted)
    {
        for (int i = 0; i < 3000 && !wanted(Metrics); i++)
        {
            Thread.Sleep(10);
        }
        Assert.True(wanted(Metrics), $"still {Metrics}\n{Log}");
    }

    public void Dispose() => Server.Dispose();

    private static AppServerOptions Options(Concurrency concurrency, Action<AppServerOptions>? set)
    {
        var options = new AppServerOptions
        {
            Concurrency = concurrency,
            IdleTimeout = TimeSpan.FromSeconds(30),
            StopTimeout = TimeSpan.FromSeconds(5),
        };
        options.Listen.Add("127.0.0.1:0");
        set?.Invoke(options);
        return options;
    }
}
