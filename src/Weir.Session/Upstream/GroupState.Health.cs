// What a group learns of its servers' health: checks, outliers, the budget of retries, times and counters. One loop's
// thread; records in a zone are touched under its lock.
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Session.Upstream;

public sealed partial class GroupState
{
    // Health.

    /// <summary>Whether this loop is the one that checks the group's servers, until the given time at most; it becomes
    /// that when nobody alive is.</summary>
    public bool ClaimChecks(long untilMs)
    {
        if (_zone is null)
        {
            return true;
        }
        using ZoneLock held = Lock();
        ref GroupRecord record = ref Record;
        ZoneOwner owner = _zone.Owner;
        bool mine = record.CheckerSlot == owner.Slot && record.CheckerLife == owner.Life;
        if (!mine && record.CheckerSlot != 0 && record.CheckerUntilMs > Loop.NowMs
            && owner.IsLive(record.CheckerSlot, record.CheckerLife))
        {
            return false;
        }
        record.CheckerUntilMs = untilMs;
        record.CheckerLife = owner.Life;
        record.CheckerSlot = owner.Slot;
        return true;
    }

    /// <summary>Whether the server is not to be asked at all.</summary>
    public bool IsDown(Peer peer)
    {
        using ZoneLock held = Lock();
        return (peer.Record.Flags & PeerFlags.Down) != 0;
    }

    /// <summary>Takes down how a health check ended.</summary>
    public HealthChange Checked(Peer peer, bool passed, int fails, int passes)
    {
        HealthChange change = HealthChange.None;
        using (Lock())
        {
            ref PeerRecord record = ref peer.Record;
            record.Checks++;
            record.LastCheckPassed = passed ? 1 : 0;
            record.PassesInRow = passed ? record.PassesInRow + 1 : 0;
            record.FailuresInRow = passed ? 0 : record.FailuresInRow + 1;
            record.ChecksFailed += passed ? 0 : 1;
            const PeerFlags Unwell = PeerFlags.Unhealthy | PeerFlags.Checking;
            if (passed && (record.Flags & Unwell) != 0 && record.PassesInRow >= passes)
            {
                SetFlags(ref record, record.Flags & ~Unwell);
                Recovered(ref record);
                change = HealthChange.Healthy;
            }
            else if (!passed && (record.Flags & PeerFlags.Unhealthy) == 0 && record.FailuresInRow >= fails)
            {
                SetFlags(ref record, (record.Flags & ~PeerFlags.Checking) | PeerFlags.Unhealthy);
                record.ChecksUnhealthy++;
                record.UnavailableTotal++;
                record.DownSinceMs = Loop.NowMs;
                change = HealthChange.Unhealthy;
            }
        }
        if (change == HealthChange.Healthy)
        {
            Queue?.Wake();
        }
        return change;
    }

    /// <summary>Changes why a server is not asked. Under the lock.</summary>
    internal void SetFlags(ref PeerRecord record, PeerFlags flags)
    {
        Smooth.Deviate();
        record.Flags = flags;
        Record.FlagVersion++;
    }

    // Outliers and retries.

    /// <summary>How often a server's time aside grows.</summary>
    private const int EjectionGrowthMax = 10;

    /// <summary>Sets a server aside that fails again and again while the others do not.</summary>
    private void Judge(Peer peer, EjectionRule rule, bool failed)
    {
        ref PeerRecord record = ref peer.Record;
        if (!failed)
        {
            record.FailuresSeen = 0;
            return;
        }
        if (++record.FailuresSeen < rule.Failures || (record.Flags & PeerFlags.Ejected) != 0 || IsSingle)
        {
            return;
        }
        int aside = 0;
        foreach (Peer other in _primary)
        {
            aside += (other.Record.Flags & PeerFlags.Ejected) != 0 && other.Record.EjectedUntilMs > Loop.NowMs ? 1 : 0;
        }
        if ((aside + 1) * 100 > Math.Max(rule.PercentMax * _primary.Count, 100))
        {
            return;
        }
        record.Ejections++;
        record.EjectedUntilMs = Loop.NowMs + (rule.TimeMs * Math.Min(record.Ejections, EjectionGrowthMax));
        SetFlags(ref record, record.Flags | PeerFlags.Ejected);
        record.UnavailableTotal++;
        record.DownSinceMs = Loop.NowMs;
        Loop.Report?.Invoke(LogLevel.Warn,
            $"a server of upstream \"{Group.Name}\" is set aside after {record.FailuresSeen} failures in a row", 0);
    }

    /// <summary>Takes one retry from the budget; false when nothing is left. Without a budget always true.</summary>
    public bool MayRetry()
    {
        if (Group.RetryBudget is not { } rule)
        {
            return true;
        }
        using ZoneLock held = Lock();
        ref GroupRecord record = ref Record;
        bool may = HasRetry(ref record, rule);
        record.BudgetRetries += may ? 1 : 0;
        return may;
    }

    /// <summary>Whether <see cref="MayRetry"/> would say yes.</summary>
    public bool HasRetry()
    {
        if (Group.RetryBudget is not { } rule)
        {
            return true;
        }
        using ZoneLock held = Lock();
        return HasRetry(ref Record, rule);
    }

    private bool HasRetry(ref GroupRecord record, RetryBudgetRule rule)
    {
        TurnSpan(ref record, rule);
        int requests = record.BudgetRequests + record.LastRequests;
        int retries = record.BudgetRetries + record.LastRetries;
        return retries < rule.Least || (long)retries * 100 < (long)requests * rule.Percent;
    }

    /// <summary>Counts a request for the budget.</summary>
    private void CountForBudget(RetryBudgetRule rule)
    {
        ref GroupRecord record = ref Record;
        TurnSpan(ref record, rule);
        record.BudgetRequests++;
    }

    private void TurnSpan(ref GroupRecord record, RetryBudgetRule rule)
    {
        long span = Loop.NowMs / rule.SpanMs;
        if (span == record.BudgetSpan)
        {
            return;
        }
        bool next = span == record.BudgetSpan + 1;
        record.LastRequests = next ? record.BudgetRequests : 0;
        record.LastRetries = next ? record.BudgetRetries : 0;
        record.BudgetRequests = 0;
        record.BudgetRetries = 0;
        record.BudgetSpan = span;
    }

    // Measures.

    private const int AverageOf = 8;

    private void Measure(ref PeerRecord record, in AttemptFacts facts, PeerEnd end)
    {
        record.SentBytes += facts.SentBytes;
        record.ReceivedBytes += facts.ReceivedBytes;
        record.FailsTotal += end == PeerEnd.Failed ? 1 : 0;
        switch (facts.Status / 100)
        {
            case 1:
                record.Responses1++;
                break;
            case 2:
                record.Responses2++;
                break;
            case 3:
                record.Responses3++;
                break;
            case 4:
                record.Responses4++;
                break;
            case 5:
                record.Responses5++;
                break;
            default:
                break;
        }
        if (facts.HeaderMs >= 0)
        {
            record.HeaderTimeUs = Average(record.HeaderTimeUs, facts.HeaderMs);
            record.ResponseTimeUs = Average(record.ResponseTimeUs, Loop.NowMs - facts.StartMs);
        }
    }

    private static long Average(long averageUs, long ms)
    {
        long us = Math.Max(ms * 1000, 1);
        return averageUs == 0 ? us : Math.Max(((averageUs * (AverageOf - 1)) + us) / AverageOf, 1);
    }
}
