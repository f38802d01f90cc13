// How an AppServer listens, waits and refuses. Plain values with defaults; read once when the server starts.
namespace Weir.Server;

/// <summary>How many requests are handled at the same time, and by whom.</summary>
public enum ConcurrencyKind : byte
{
    /// <summary>One thread, one request after the other.</summary>
    Sequential,

    /// <summary>Each connection has a thread of its own.</summary>
    ThreadPerConnection,

    /// <summary>A fixed number of threads, each serving one connection; others wait in a queue.</summary>
    ThreadPool,

    /// <summary>Connections and handlers on event loops: a handler must never block.</summary>
    EventDriven,

    /// <summary>Connections on event loops, handlers on a fixed number of threads.</summary>
    EventDrivenWithThreadPool,

    /// <summary>Connections on event loops, handlers on the runtime's thread pool; a handler that awaits holds no
    /// thread.</summary>
    EventDrivenWithTaskPool,
}

/// <summary>A concurrency model with its numbers.</summary>
public sealed record Concurrency
{
    private Concurrency(ConcurrencyKind kind) => Kind = kind;

    /// <summary>Which model.</summary>
    public ConcurrencyKind Kind { get; }

    /// <summary>Event loops; 0 in the blocking models.</summary>
    public int Loops { get; private init; }

    /// <summary>Threads that run handlers at most; 0 where the model has no such number.</summary>
    public int Threads { get; private init; }

    /// <summary>How many may wait for a thread.</summary>
    public int Queue { get; private init; }

    /// <summary>Whether sockets block.</summary>
    public bool IsBlocking => Kind <= ConcurrencyKind.ThreadPool;

    /// <summary>One request at a time. Three requests of ten seconds take thirty.</summary>
    public static Concurrency Sequential { get; } = new(ConcurrencyKind.Sequential) { Threads = 1 };

    /// <summary>A thread per connection, up to <paramref name="limit"/>.</summary>
    public static Concurrency ThreadPerConnection(int limit = 1000)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(limit);
        return new Concurrency(ConcurrencyKind.ThreadPerConnection) { Threads = limit };
    }

    /// <summary><paramref name="threads"/> threads that each serve one connection; <paramref name="queue"/> connections
    /// may wait for one.</summary>
    public static Concurrency ThreadPool(int threads, int queue = 100)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(threads);
        ArgumentOutOfRangeException.ThrowIfNegative(queue);
        return new Concurrency(ConcurrencyKind.ThreadPool) { Threads = threads, Queue = queue };
    }

    /// <summary>Everything on <paramref name="loops"/> event loops. A handler that blocks stalls its loop.</summary>
    public static Concurrency EventDriven(int loops = 1)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(loops);
        return new Concurrency(ConcurrencyKind.EventDriven) { Loops = loops };
    }

    /// <summary>Connections on <paramref name="loops"/> loops, handlers on <paramref name="threads"/> threads;
    /// <paramref name="queue"/> requests may wait for one. A handler holds its thread until it is done, also while it
    /// awaits.</summary>
    public static Concurrency EventDrivenWithThreadPool(int loops, int threads, int queue = 100)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(loops);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(threads);
        ArgumentOutOfRangeException.ThrowIfNegative(queue);
        return new Concurrency(ConcurrencyKind.EventDrivenWithThreadPool)
        {
            Loops = loops,
            Threads = threads,
            Queue = queue,
        };
    }

    /// <summary>Connections on <paramref name="loops"/> loops, handlers on the runtime's own thread pool.</summary>
    public static Concurrency EventDrivenWithTaskPool(int loops = 1)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(loops);
        return new Concurrency(ConcurrencyKind.EventDrivenWithTaskPool) { Loops = loops };
    }

    /// <summary>The model's name as the command line has it.</summary>
    public string Name => Kind switch
    {
        ConcurrencyKind.Sequential => "sequential",
        ConcurrencyKind.ThreadPerConnection => "thread-per-connection",
        ConcurrencyKind.ThreadPool => "thread-pool",
        ConcurrencyKind.EventDriven => "event-driven",
        ConcurrencyKind.EventDrivenWithThreadPool => "event-driven-thread-pool",
        _ => "event-driven-task-pool",
    };
}

/// <summary>What happens to a client when all threads are busy and the queue is full.</summary>
public enum QueueFull : byte
{
    /// <summary>It is answered 503 with Retry-After.</summary>
    Refuse,

    /// <summary>Nobody is accepted until there is room: the kernel's backlog fills, and when that is full, Linux drops
    /// the SYN and the client tries again after 1, 3 and 7 seconds.</summary>
    StopAccepting,
}

/// <summary>How an event loop asks the kernel.</summary>
public enum LoopEngine : byte
{
    /// <summary>io_uring where this kernel and this process may use it, else epoll.</summary>
    Best,

    /// <summary>epoll, which is always there.</summary>
    Epoll,

    /// <summary>io_uring: a start where it may not be used is an error.</summary>
    IoUring,
}

/// <summary>The options of an <see cref="AppServer"/>.</summary>
public sealed class AppServerOptions
{
    /// <summary>The concurrency model.</summary>
    public Concurrency Concurrency { get; set; } = Concurrency.EventDrivenWithThreadPool(1, 32, 1000);

    /// <summary>The engine of the event loops; the blocking models have none.</summary>
    public LoopEngine Engine { get; set; }

    /// <summary>Addresses: "127.0.0.1:8080", "[::1]:8080", "*:8080", "8080" (loopback), "unix:/path". Port 0 takes a
    /// free one, see <see cref="AppServer.Addresses"/>. With "https://" before it an address speaks TLS as
    /// <see cref="Https"/> says, or as <see cref="ListenHttps(string, HttpsOptions)"/> said for it.</summary>
    public IList<string> Listen { get; } = [];

    /// <summary>The TLS of addresses that begin with "https://".</summary>
    public HttpsOptions Https { get; } = new();

    /// <summary>Adds an address that speaks TLS, with settings of its own that begin as those of
    /// <see cref="Https"/>.</summary>
    public void ListenHttps(string address, Action<HttpsOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        HttpsOptions https = Https.Clone();
        configure(https);
        ListenHttps(address, https);
    }

    /// <summary>Adds an address that speaks TLS, with settings of its own.</summary>
    public void ListenHttps(string address, HttpsOptions https)
    {
        ArgumentNullException.ThrowIfNull(address);
        ArgumentNullException.ThrowIfNull(https);
        string entry = HttpsScheme + address;
        Listen.Add(entry);
        _https[entry] = https;
    }

    internal const string HttpsScheme = "https://";

    // By the very string: two entries may ask for "any port" in the same words.
    private readonly Dictionary<string, HttpsOptions> _https = new(ReferenceEqualityComparer.Instance);

    /// <summary>The TLS of an entry of <see cref="Listen"/>; null for a plain one.</summary>
    internal HttpsOptions? HttpsOf(string entry)
    {
        if (!entry.StartsWith(HttpsScheme, StringComparison.OrdinalIgnoreCase))
        {
            return null;
        }
        return _https.GetValueOrDefault(entry, Https);
    }

    /// <summary>Whether connections may speak HTTP/2: over TLS where <see cref="HttpsOptions.Http2"/> says so too, on
    /// plain addresses when the client begins with it (prior knowledge). Only event loops can; the blocking models
    /// refuse it.</summary>
    public bool Http2 { get; set; } = true;

    /// <summary>Requests that an HTTP/2 connection may have under way.</summary>
    public int Http2MaxStreams { get; set; } = 100;

    /// <summary>Bytes of a request's body that an HTTP/2 client may send before anybody reads it.</summary>
    public int Http2BodyWindowBytes { get; set; } = 64 * 1024;

    /// <summary>Connections that the kernel completes and keeps before they are accepted.</summary>
    public int Backlog { get; set; } = 511;

    /// <summary>Connections at most, in all; one beyond is closed as soon as it is accepted (a loop closes its longest
    /// idle one instead, where there is one).</summary>
    public int MaxConnections { get; set; } = 10_000;

    /// <summary>How long the head of a request may take.</summary>
    public TimeSpan HeaderTimeout { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a client may be silent within a body.</summary>
    public TimeSpan BodyTimeout { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a client may take nothing of an answer.</summary>
    public TimeSpan SendTimeout { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a connection may wait for its next request; zero: every answer is the last of its
    /// connection.</summary>
    public TimeSpan IdleTimeout { get; set; } = TimeSpan.FromSeconds(75);

    /// <summary>Requests of one connection at most.</summary>
    public int KeepAliveRequests { get; set; } = 1000;

    /// <summary>How long a handler may take, its wait in a queue included; zero for any time. Then the client is
    /// answered 503 (or cut off, when the answer had begun); the handler goes on, but nobody listens to it.</summary>
    public TimeSpan HandlerTimeout { get; set; } = TimeSpan.Zero;

    /// <summary>Bytes of a request's body at most; 0 for any number.</summary>
    public long MaxBodyBytes { get; set; } = 30_000_000;

    /// <summary>Bytes of a request's head at most.</summary>
    public int MaxHeadBytes { get; set; } = 32 * 1024;

    /// <summary>Bytes of an answer that were written and have not left (the kernel's own buffers not counted) before a
    /// handler waits for its client: <c>WriteAsync</c> and <c>FlushAsync</c> await, <c>Write</c> and <c>Flush</c> hold
    /// their thread, in the event-driven model their loop. One piece of 64 KiB may come on top.</summary>
    public long MaxUnsentBytes { get; set; } = 64 * 1024;

    /// <summary>What happens when the queue is full.</summary>
    public QueueFull QueueFull { get; set; } = QueueFull.Refuse;

    /// <summary>What Retry-After of a refusal says, seconds.</summary>
    public int RetryAfterSeconds { get; set; } = 1;

    /// <summary>The Server field of what handlers answer; empty for none.</summary>
    public string ServerName { get; set; } = "weir";

    /// <summary>How long <see cref="AppServer.StopAsync"/> waits for requests that run.</summary>
    public TimeSpan StopTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>Takes log lines (one each, without time); null writes them to standard error.</summary>
    public Action<AppLogLevel, string>? Log { get; set; }

    /// <summary>Lines below this level are not made.</summary>
    public AppLogLevel LogLevel { get; set; } = AppLogLevel.Warning;

    /// <summary>Hears every event; null costs nothing.</summary>
    public IAppServerObserver? Observer { get; set; }

    /// <summary>Whether System.Diagnostics.Metrics instruments are made (meter "Weir.Server").</summary>
    public bool Metrics { get; set; } = true;

    /// <summary>Whether the standard instruments of requests (<c>http.server.*</c>) are among them: not where a
    /// framework above this server makes its own, or every request would be counted twice.</summary>
    public bool RequestMetrics { get; set; } = true;
}

/// <summary>How important a log line is.</summary>
public enum AppLogLevel : byte
{
    /// <summary>For finding faults.</summary>
    Debug,

    /// <summary>What went as it should.</summary>
    Information,

    /// <summary>What should be looked at.</summary>
    Warning,

    /// <summary>What failed.</summary>
    Error,
}
