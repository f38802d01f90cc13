// What a server is doing, as a snapshot, and the counters behind it: written from any thread, each with one interlocked
// step; the gauges of System.Diagnostics.Metrics read the same numbers.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Server;

/// <summary>A server at one moment.</summary>
public sealed record AppServerMetrics
{
    /// <summary>Connections that are open.</summary>
    public long Connections { get; init; }

    /// <summary>Open connections that wait for their next request.</summary>
    public long Idle { get; init; }

    /// <summary>Open connections that speak another protocol since an answer of 101 (WebSockets).</summary>
    public long Upgraded { get; init; }

    /// <summary>Connections accepted since the start.</summary>
    public long Accepted { get; init; }

    /// <summary>Requests (in blocking pools: connections) that wait for a thread.</summary>
    public long Queued { get; init; }

    /// <summary>Handlers that run, or wait for something they await.</summary>
    public long Running { get; init; }

    /// <summary>Threads of this server: loops, handlers, connections, watchdog.</summary>
    public long Threads { get; init; }

    /// <summary>Handlers that were answered for and have not come back.</summary>
    public long Stuck { get; init; }

    /// <summary>Handlers that were answered for since the start.</summary>
    public long TimedOut { get; init; }

    /// <summary>Requests and connections turned away because there was no room.</summary>
    public long Refused { get; init; }

    /// <summary>Answers since the start, those of the server itself (400, 503) included.</summary>
    public long Answered { get; init; }

    /// <summary>Handlers that threw since the start.</summary>
    public long Failed { get; init; }

    /// <summary>Address space reserved for one thread's stack, bytes; 0 until it was measured.</summary>
    public long ThreadStackReservedBytes { get; init; }

    /// <summary>Memory that one thread's stack really holds, bytes; 0 until it was measured.</summary>
    public long ThreadStackCommittedBytes { get; init; }
}

/// <summary>The counters of one server, and its events.</summary>
internal sealed class AppCounters(IAppServerObserver? observer)
{
    private long _connections, _accepted, _queued, _running, _threads, _stuck, _timedOut, _refused, _answered, _failed;
    private long _idle, _upgraded;
    private long _stackReserved, _stackCommitted;

    internal IAppServerObserver? Observer { get; } = observer;

    /// <summary>Refusals that are counted elsewhere: by loops that ran out of descriptors.</summary>
    internal Func<long>? MoreRefused { get; set; }

    /// <summary>Idle connections that are counted elsewhere: by loops.</summary>
    internal Func<long>? MoreIdle { get; set; }

    internal long Stuck => Volatile.Read(ref _stuck);

    internal long Open => Volatile.Read(ref _connections);

    internal void Opened()
    {
        Interlocked.Increment(ref _accepted);
        Interlocked.Increment(ref _connections);
    }

    /// <summary>Hears how long each connection was open, milliseconds; null while nobody measures.</summary>
    internal AppInstruments? Instruments { get; set; }

    internal void Closed(long openMs)
    {
        Interlocked.Decrement(ref _connections);
        Instruments?.RecordConnection(openMs);
    }

    internal void Upgrade(int change) => Interlocked.Add(ref _upgraded, change);

    internal void Idle(int change) => Interlocked.Add(ref _idle, change);

    internal void Queue(int change) => Interlocked.Add(ref _queued, change);

    internal void Run(int change) => Interlocked.Add(ref _running, change);

    internal void Thread(int change) => Interlocked.Add(ref _threads, change);

    internal void GaveUp() => Interlocked.Increment(ref _timedOut);

    internal void Stick(int change) => Interlocked.Add(ref _stuck, change);

    internal void Refuse() => Interlocked.Increment(ref _refused);

    internal void Answer() => Interlocked.Increment(ref _answered);

    internal void Fail() => Interlocked.Increment(ref _failed);

    internal void Measured(ThreadStack stack)
    {
        Volatile.Write(ref _stackReserved, Math.Max(stack.ReservedBytes, Volatile.Read(ref _stackReserved)));
        Volatile.Write(ref _stackCommitted, Math.Max(stack.CommittedBytes, Volatile.Read(ref _stackCommitted)));
    }

    internal void Tell(AppServerEventKind kind, long connection, int request = 0, int loop = -1, int status = 0)
    {
        if (Observer is { } observer)
        {
            observer.On(new AppServerEvent(kind, connection, request, ProcessControl.OwnThreadId, loop, status,
                Sys.MonotonicUs()));
        }
    }

    internal AppServerMetrics Snapshot() => new()
    {
        Connections = Volatile.Read(ref _connections),
        Idle = Volatile.Read(ref _idle) + (MoreIdle?.Invoke() ?? 0),
        Upgraded = Volatile.Read(ref _upgraded),
        Accepted = Volatile.Read(ref _accepted),
        Queued = Volatile.Read(ref _queued),
        Running = Volatile.Read(ref _running),
        Threads = Volatile.Read(ref _threads),
        Stuck = Volatile.Read(ref _stuck),
        TimedOut = Volatile.Read(ref _timedOut),
        Refused = Volatile.Read(ref _refused) + (MoreRefused?.Invoke() ?? 0),
        Answered = Volatile.Read(ref _answered),
        Failed = Volatile.Read(ref _failed),
        ThreadStackReservedBytes = Volatile.Read(ref _stackReserved),
        ThreadStackCommittedBytes = Volatile.Read(ref _stackCommitted),
    };
}

/// <summary>What the calling thread's stack takes: its mapping, and the part of it that is in memory.</summary>
internal readonly record struct ThreadStack(long ReservedBytes, long CommittedBytes)
{
    /// <summary>Measures the calling thread; zero where /proc does not say. Slow: once per server.</summary>
    internal static ThreadStack OfThisThread()
    {
        try
        {
            ulong here = ProcessControl.StackAddress;
            bool inside = false;
            long size = 0;
            foreach (string line in File.ReadLines("/proc/self/smaps"))
            {
                if (!inside)
                {
                    int dash = line.IndexOf('-');
                    int space = line.IndexOf(' ');
                    inside = dash > 0 && space > dash && ulong.TryParse(line.AsSpan(0, dash),
                            System.Globalization.NumberStyles.HexNumber, null, out ulong from)
                        && ulong.TryParse(line.AsSpan(dash + 1, space - dash - 1),
                            System.Globalization.NumberStyles.HexNumber, null, out ulong to)
                        && here >= from && here < to;
                    size = 0;
                }
                else if (line.StartsWith("Size:", StringComparison.Ordinal))
                {
                    size = Kilobytes(line);
                }
                else if (line.StartsWith("Rss:", StringComparison.Ordinal))
                {
                    return new ThreadStack(size, Kilobytes(line));
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A machine without smaps: nothing is known.
        }
        return default;
    }

    private static long Kilobytes(string line)
    {
        string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return words.Length > 1 && long.TryParse(words[1], out long value) ? value * 1024 : 0;
    }
}
