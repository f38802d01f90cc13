// An application of this process that locations of a configuration name with app_pass: what runs it, and where.
// Given to a WebServer with its options; the exchanges belong to the server's loop, the counters may be read from
// any thread.
using System.Globalization;
using System.Text;
using Weir.Http;
using Weir.Loop;

namespace Weir.Server;

/// <summary>A handler that <c>app_pass NAME;</c> hands requests to.</summary>
public sealed class HostedApplication
{
    private readonly GuestApplication _application;
    private readonly bool _inline;
    private readonly AppCounters _counters = new(null);

    /// <summary>An application at the border itself.</summary>
    /// <param name="application">What answers.</param>
    /// <param name="inline">On the server's loop, for what never blocks; else on the runtime's thread pool.</param>
    public HostedApplication(GuestApplication application, bool inline = false)
    {
        ArgumentNullException.ThrowIfNull(application);
        _application = application;
        _inline = inline;
    }

    /// <summary>A handler that awaits.</summary>
    public HostedApplication(Func<AppRequest, AppResponse, Task> handler, bool inline = false)
        : this(new AsyncHandlerApplication(handler), inline)
    {
    }

    /// <summary>A handler that returns when it is done.</summary>
    public HostedApplication(Action<AppRequest, AppResponse> handler, bool inline = false)
        : this(new SyncHandlerApplication(handler), inline)
    {
    }

    /// <summary>How long a handler may take; zero for any time. Then the client is answered 503.</summary>
    public TimeSpan HandlerTimeout { get; init; }

    /// <summary>What it is doing now: what its handlers do, not the connections of the server.</summary>
    public AppServerMetrics GetMetrics() => _counters.Snapshot();

    internal GuestHandler HandlerOn(EventLoop loop, HttpServer http) => new GuestHandler(new GuestLoop
    {
        Loop = loop,
        Index = 0,
        LoopCount = 1,
        Application = _application,
        Place = _inline ? GuestPlace.Inline : GuestPlace.TaskPool,
        Counters = _counters,
        HandlerTimeoutMs = (int)Math.Clamp(HandlerTimeout.TotalMilliseconds, 0, int.MaxValue),
        QueueFull = QueueFull.Refuse,
        RetryAfter = Encoding.ASCII.GetBytes(1.ToString(CultureInfo.InvariantCulture)),
        LateAnswer = ServerAnswers.Late(1),
        ServerName = null,
        Http = http,
    });
}
