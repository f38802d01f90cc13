// What a run says in numbers and in one sentence, both computed from the events that the server recorded and from what
// the clients saw; nothing here knows what should have come out. Pure.
using System.Globalization;
using System.Text;

namespace Weir.Lab;

internal sealed record LabFigures
{
    /// <summary>From the first client's start to the last answer.</summary>
    public double TotalSeconds { get; init; }
    public int Answered { get; init; }
    public int Refused { get; init; }
    public int TimedOut { get; init; }

    /// <summary>Handlers under way at the same time, at most.</summary>
    public int AtOnce { get; init; }

    /// <summary>Threads that ran handlers.</summary>
    public int HandlerThreads { get; init; }

    /// <summary>The most handlers that one thread ran one after the other, without overlap: the waves of a
    /// pool.</summary>
    public int Waves { get; init; }
    public double LongestSeconds { get; init; }
    public double ShortestSeconds { get; init; }

    /// <summary>Clients whose SYN had to be repeated, and how long those took to connect.</summary>
    public double[] LateConnects { get; init; } = [];
    public int Retransmits { get; init; }

    /// <summary>From the first slow client's start to the first ordinary handler's.</summary>
    public double StarvedSeconds { get; init; }

    /// <summary>How many slow clients had a thread to themselves.</summary>
    public int ThreadsHeldBySlow { get; init; }

    /// <summary>The longest time between two handlers' starts.</summary>
    public double LongestGapSeconds { get; init; }
    public long PeakThreads { get; init; }
    public long PeakMemoryBytes { get; init; }
    public long PeakConnections { get; init; }
    public long Switches { get; init; }
    public double CpuSeconds { get; init; }

    /// <summary>What the idle connections added.</summary>
    public long IdleMemoryBytes { get; init; }
    public long IdleThreads { get; init; }
    public double IdleBytesEach { get; init; }

    public static LabFigures Of(LabView view)
    {
        LabRow[] rows = [.. view.Rows.Where(static r => !r.Client.IsSlow)];
        LabRow[] ran = [.. rows.Where(static r => r.StartedUs != 0)];
        (LabRow Row, long End)[] ends = EndsOf(view.Spec, ran);
        long first = rows.Length > 0 ? rows.Min(static r => r.Client.BeginUs) : 0;
        long last = rows.Length > 0 ? rows.Max(static r => r.Client.EndUs) : 0;
        LabRow[] late = [.. rows.Where(static r => r.Client.Retransmits > 0 && r.Client.ConnectedUs != 0)];
        double[] took = [.. rows.Where(static r => r.TookUs >= 0).Select(static r => r.TookUs / 1e6)];
        LabRow[] slow = [.. view.Rows.Where(static r => r.Client.IsSlow)];
        long[] starts = [.. ran.Select(static r => r.StartedUs).Order()];
        int idle = Math.Max(view.IdleOpen, 1);
        long idleMemory = view.WithIdle.MemoryBytes - view.Before.MemoryBytes;
        return new LabFigures
        {
            TotalSeconds = last > first ? (last - first) / 1e6 : 0,
            Answered = rows.Count(static r => r.Client.Status == 200),
            Refused = rows.Count(static r => r.Client.Status == 503 && r.TimedOutUs == 0),
            TimedOut = rows.Count(static r => r.TimedOutUs != 0),
            AtOnce = AtOnceOf(ends),
            HandlerThreads = ran.Select(static r => r.Thread).Distinct().Count(),
            Waves = ran.Length == 0 ? 0 : ends.GroupBy(static r => r.Row.Thread).Max(static g => WavesOf(g)),
            LongestSeconds = took.Length > 0 ? took.Max() : 0,
            ShortestSeconds = took.Length > 0 ? took.Min() : 0,
            LateConnects = [.. late.Select(static r => (r.Client.ConnectedUs - r.Client.BeginUs) / 1e6).Order()],
            Retransmits = late.Sum(static r => r.Client.Retransmits),
            StarvedSeconds = slow.Length > 0 && starts.Length > 0
                ? Math.Max(0, (starts[0] - slow.Min(static r => r.Client.BeginUs)) / 1e6) : 0,
            ThreadsHeldBySlow = slow.Where(static r => r.TakenUs != 0).Select(static r => r.TakenBy).Distinct().Count(),
            LongestGapSeconds = starts.Length > 1
                ? starts.Skip(1).Zip(starts, static (b, a) => (b - a) / 1e6).Max() : 0,
            PeakThreads = Math.Max(view.Peak(static s => s.Threads), view.WithIdle.Threads),
            PeakMemoryBytes = Math.Max(view.Peak(static s => s.MemoryBytes), view.WithIdle.MemoryBytes),
            PeakConnections = Math.Max(view.Peak(static s => s.Connections), view.WithIdle.Connections),
            Switches = view.Last.Switches - view.WithIdle.Switches,
            CpuSeconds = (view.Last.CpuUs - view.WithIdle.CpuUs) / 1e6,
            IdleMemoryBytes = view.IdleOpen > 0 ? idleMemory : 0,
            IdleThreads = view.IdleOpen > 0 ? view.WithIdle.Threads - view.Before.Threads : 0,
            IdleBytesEach = view.IdleOpen > 0 ? (double)idleMemory / idle : 0,
        };
    }

    /// <summary>When each handler's thread was free again. Where handlers hold their thread, the next start on it says
    /// so too: a loop may tell of an answer after the thread that made it has gone on.</summary>
    private static (LabRow Row, long End)[] EndsOf(LabRunSpec spec, LabRow[] ran)
    {
        bool holds = spec.Blocks || spec.Model is not ("event-driven" or "event-driven-task-pool");
        LabRow[] sorted = [.. ran.OrderBy(static r => r.Thread).ThenBy(static r => r.StartedUs)];
        return [.. sorted.Select((row, i) =>
        {
            long end = row.EndedUs != 0 ? row.EndedUs : long.MaxValue;
            bool hasNext = i + 1 < sorted.Length && sorted[i + 1].Thread == row.Thread;
            return (row, holds && hasNext ? Math.Min(end, sorted[i + 1].StartedUs) : end);
        })];
    }

    private static int AtOnceOf((LabRow Row, long End)[] ran)
    {
        int now = 0, most = 0;
        foreach ((long _, int change) in ran
            .SelectMany(static r => new[] { (r.Row.StartedUs, 1), (r.End, -1) })
            .OrderBy(static x => x.Item1).ThenBy(static x => x.Item2))
        {
            now += change;
            most = Math.Max(most, now);
        }
        return most;
    }

    private static int WavesOf(IEnumerable<(LabRow Row, long End)> ofOneThread)
    {
        int waves = 0;
        long free = 0;
        foreach ((LabRow row, long end) in ofOneThread.OrderBy(static r => r.Row.StartedUs))
        {
            if (row.StartedUs >= free)
            {
                waves++;
                free = end;
            }
        }
        return waves;
    }
}

/// <summary>Sentences about figures.</summary>
internal static class LabSentence
{
    public static string Of(LabView view, LabFigures f)
    {
        if (view.State == LabState.Failed)
        {
            return "This run ended early: " + view.Failure + ".";
        }
        if (view.State is LabState.Waiting or LabState.Preparing)
        {
            return view.Spec.Idle > 0 && view.State == LabState.Preparing
                ? $"{LabPlan.Number(view.IdleOpen)} of {LabPlan.Number(view.Spec.Idle)} idle connections are open."
                : "Not begun.";
        }
        if (view.State == LabState.Running)
        {
            return string.Create(CultureInfo.InvariantCulture,
                $"{f.Answered} of {view.Spec.Requests * view.Spec.KeepAlive} answered; ")
                + $"{view.Last.Running} running, {view.Last.Queued} queued.";
        }
        var text = new StringBuilder(Outcome(view.Spec, f));
        if (view.Spec.Blocker > 0 && f.LongestGapSeconds > 0)
        {
            double blocked = view.Spec.BlockerDelay.TotalSeconds;
            text.Append(f.LongestGapSeconds > blocked / 2
                ? $" While request {view.Spec.Blocker} blocked its thread for {S(blocked)}, no other handler could "
                    + $"start for {S(f.LongestGapSeconds)}: everyone on that loop waited for one."
                : $" Request {view.Spec.Blocker} blocked its thread for {S(blocked)} and nobody else noticed: the "
                    + $"longest pause between two starts was {S(f.LongestGapSeconds)}.");
        }
        if (view.Spec.SlowClients > 0)
        {
            text.Append(f.ThreadsHeldBySlow > 0
                ? $" {view.Spec.SlowClients} slow clients held {f.ThreadsHeldBySlow} threads while sending a byte a "
                    + $"second; the first ordinary request ran after {S(f.StarvedSeconds)}"
                    + (f.StarvedSeconds > view.Spec.HeaderTimeout.TotalSeconds * 0.8
                        ? $", when the timeout of {S(view.Spec.HeaderTimeout.TotalSeconds)} had closed them." : ".")
                : $" {view.Spec.SlowClients} slow clients were connected all the time and held no thread.");
        }
        if (f.LateConnects.Length > 0)
        {
            text.Append(CultureInfo.InvariantCulture, $" {f.LateConnects.Length} clients found the backlog full: ")
                .Append(CultureInfo.InvariantCulture, $"Linux dropped their SYN ({f.Retransmits} times in all), ")
                .Append("and they were connected only after ")
                .Append(string.Join(", ", f.LateConnects.Take(12).Select(S))).Append('.');
        }
        if (view.IdleOpen > 0)
        {
            text.Append($" {LabPlan.Number(view.IdleOpen)} idle connections took {Bytes(f.IdleMemoryBytes)} of memory "
                + $"({Bytes((long)f.IdleBytesEach)} each) and {LabPlan.Number(Math.Max(0, f.IdleThreads))} threads.");
        }
        return text.ToString();
    }

    /// <summary>The costs beside the sentence.</summary>
    public static string Costs(LabFigures f) => string.Create(CultureInfo.InvariantCulture,
        $"at most {LabPlan.Number(f.PeakThreads)} threads in the process and {Bytes(f.PeakMemoryBytes)} of memory, ")
        + string.Create(CultureInfo.InvariantCulture,
        $"{LabPlan.Number(f.Switches)} context switches, {f.CpuSeconds * 1000:0} ms of CPU");

    private static string Outcome(LabRunSpec spec, LabFigures f)
    {
        int count = spec.Requests * spec.KeepAlive;
        var text = new StringBuilder();
        text.Append($"{Count(count, "request")} of {S((spec.Delay + spec.Cpu).TotalSeconds)} ");
        text.Append($"took {S(f.TotalSeconds)} in all: ");
        string threads = Count(f.HandlerThreads, "thread");
        if (f.Answered == 0)
        {
            text.Append("none was answered");
        }
        else if (f.AtOnce == 1)
        {
            text.Append($"{threads} handled them, never two at the same time");
        }
        else if (f.HandlerThreads == 1)
        {
            text.Append($"one thread had up to {f.AtOnce} under way at the same time, ");
            text.Append("because they wait without holding it");
        }
        else if (f.Waves > 1 && f.AtOnce == f.HandlerThreads)
        {
            text.Append($"{threads} handled {f.AtOnce} at the same time, in {f.Waves} waves, while the others waited");
        }
        else
        {
            text.Append($"{threads} handled up to {f.AtOnce} at the same time");
        }
        text.Append($". The quickest answer took {S(f.ShortestSeconds)}, the slowest {S(f.LongestSeconds)}.");
        if (f.Refused > 0)
        {
            text.Append($" {Count(f.Refused, "request")} found the queue full and got 503.");
        }
        if (f.TimedOut > 0)
        {
            text.Append($" The watchdog answered for {Count(f.TimedOut, "handler")} that ran over "
                + $"{S(spec.HandlerTimeout.TotalSeconds)}.");
        }
        return text.ToString();
    }

    public static string S(double seconds) => seconds < 0.995
        ? string.Create(CultureInfo.InvariantCulture, $"{seconds * 1000:0} ms")
        : string.Create(CultureInfo.InvariantCulture, $"{seconds:0.0} s");

    public static string Bytes(long bytes) => Math.Abs(bytes) switch
    {
        < 1024 => string.Create(CultureInfo.InvariantCulture, $"{bytes} bytes"),
        < 1 << 20 => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1024.0:0.0} KiB"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1048576.0:0.0} MiB"),
    };

    private static string Count(int number, string what) =>
        number == 1 ? $"one {what}" : $"{LabPlan.Number(number)} {what}s";
}
