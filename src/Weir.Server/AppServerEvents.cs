// What a server tells about every connection and request, as events with a monotonic time and a thread or loop: the
// material of timelines. Recorded by the server itself where it happens; off, it costs one comparison.
using Weir.Kernel.Net;

namespace Weir.Server;

/// <summary>What happened.</summary>
public enum AppServerEventKind : byte
{
    /// <summary>A connection was accepted.</summary>
    Accepted,

    /// <summary>A request's head is complete.</summary>
    Received,

    /// <summary>It (or, in a blocking pool, its connection) waits for a thread.</summary>
    Queued,

    /// <summary>The handler runs; thread and loop say where.</summary>
    Started,

    /// <summary>The answer has been handed to the kernel, or given up; the status is its own.</summary>
    Answered,

    /// <summary>The handler threw.</summary>
    Failed,

    /// <summary>The handler's time was up: the watchdog answered for it.</summary>
    TimedOut,

    /// <summary>A handler that had been answered for came back.</summary>
    CameBack,

    /// <summary>There was no room: 503, or closed at once.</summary>
    Refused,

    /// <summary>The client went while the handler ran.</summary>
    ClientGone,

    /// <summary>The connection is closed.</summary>
    Closed,

    /// <summary>A thread of a blocking model has taken the connection and serves nobody else until it ends.</summary>
    Taken,
}

/// <summary>One event.</summary>
/// <param name="Kind">What happened.</param>
/// <param name="Connection">The connection's number in this server.</param>
/// <param name="Request">Which request of the connection, from 1; 0 where it is about the connection.</param>
/// <param name="Thread">The system's id of the thread it happened on.</param>
/// <param name="Loop">The loop's index, or -1.</param>
/// <param name="Status">The status of an answer, or 0.</param>
/// <param name="TimeUs">Monotonic microseconds, of this machine's one clock.</param>
public readonly record struct AppServerEvent(
    AppServerEventKind Kind, long Connection, int Request, int Thread, int Loop, int Status, long TimeUs);

/// <summary>Hears every event, on the thread where it happens: it must be quick, must not block and must not
/// throw.</summary>
public interface IAppServerObserver
{
    /// <summary>An event happened.</summary>
    void On(in AppServerEvent appEvent);
}

/// <summary>Keeps the latest events in a ring. Any thread writes and reads.</summary>
public sealed class AppEventRing : IAppServerObserver
{
    private readonly AppServerEvent[] _events;
    private readonly Lock _gate = new();
    private long _count;

    /// <param name="capacity">How many events are kept.</param>
    public AppEventRing(int capacity = 65536)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(capacity);
        _events = new AppServerEvent[capacity];
    }

    /// <summary>Events since the start, those that were overwritten included.</summary>
    public long Count => Volatile.Read(ref _count);

    /// <inheritdoc/>
    public void On(in AppServerEvent appEvent)
    {
        lock (_gate)
        {
            _events[_count % _events.Length] = appEvent;
            _count++;
        }
    }

    /// <summary>The events from number <paramref name="from"/> on that are still kept, in order.
    /// <paramref name="next"/> is what to ask for next time.</summary>
    public AppServerEvent[] Read(long from, out long next)
    {
        lock (_gate)
        {
            long first = Math.Max(Math.Max(from, 0), _count - _events.Length);
            var found = new AppServerEvent[Math.Max(0, _count - first)];
            for (int i = 0; i < found.Length; i++)
            {
                found[i] = _events[(first + i) % _events.Length];
            }
            next = _count;
            return found;
        }
    }

    /// <summary>All events that are kept, in order.</summary>
    public AppServerEvent[] Read() => Read(0, out _);

    /// <summary>The clock of the events, now.</summary>
    public static long NowUs => Sys.MonotonicUs();
}
