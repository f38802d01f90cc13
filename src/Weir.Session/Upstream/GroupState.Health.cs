// What a group learns of its servers' health: checks, outliers, the budget of retries, times and counters. One loop's
// thread; records in a zone are touched under its lock.
using System.Runtime.CompilerServices;
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
        Wrote();
        record.CheckerLife = owner.Life;
        Wrote();
        record.CheckerSlot = owner.Slot;
        Wrote();
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
            Wrote();
            record.LastCheckPassed = passed ? 1 : 0;
            Wrote();
            record.PassesInRow = passed ? record.PassesInRow + 1 : 0;
            Wrote();
            record.FailuresInRow = passed ? 0 : record.FailuresInRow + 1;
            Wrote();
            record.ChecksFailed += passed ? 0 : 1;
            Wrote();
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
                Wrote();
                record.UnavailableTotal++;
                Wrote();
                record.DownSinceMs = Loop.NowMs;
                Wrote();
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
        Wrote();
        Record.FlagVersion++;
        Wrote();
    }

    // Failures in a row, as nginx counts them.

    private bool Fail(ref PeerRecord record)
    {
        Smooth.Deviate();
        long nowSec = Loop.NowMs / 1000;
        record.AccessedSec = nowSec;
        Wrote();
        record.CheckedSec = nowSec;
        Wrote();
        bool disabled = false;
        record.Fails++;
        Wrote();
        if (record.FailsMax > 0)
        {
            record.EffectiveWeight = Math.Max(record.EffectiveWeight - (record.Weight / record.FailsMax), 0);
            Wrote();
            disabled = record.Fails >= record.FailsMax;
            if (disabled && record.Fails == record.FailsMax)
            {
                record.UnavailableTotal++;
                Wrote();
                record.DownSinceMs = Loop.NowMs;
                Wrote();
            }
        }
        return disabled;
    }

    /// <summary>It was tried again after its time aside, and served.</summary>
    private bool Serve(ref PeerRecord record)
    {
        if (record.Fails > 0 && record.AccessedSec < record.CheckedSec)
        {
            Smooth.Deviate();
            if (record.FailsMax > 0 && record.Fails >= record.FailsMax)
            {
                Recovered(ref record);
            }
            record.Fails = 0;
            Wrote();
        }
        return false;
    }

    /// <summary>A server is back: its slow start begins, its downtime ends.</summary>
    internal void Recovered(ref PeerRecord record)
    {
        record.SlowStartFromMs = Loop.NowMs;
        Wrote();
        if (record.DownSinceMs > 0)
        {
            record.DowntimeMs += Math.Max(Loop.NowMs - record.DownSinceMs, 0);
            Wrote();
            record.DownSinceMs = 0;
            Wrote();
        }
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
            Wrote();
            return;
        }
        record.FailuresSeen++;
        Wrote();
        if (record.FailuresSeen < rule.Failures || (record.Flags & PeerFlags.Ejected) != 0 || IsSingle)
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
        Wrote();
        record.EjectedUntilMs = Loop.NowMs + (rule.TimeMs * Math.Min(record.Ejections, EjectionGrowthMax));
        Wrote();
        SetFlags(ref record, record.Flags | PeerFlags.Ejected);
        record.UnavailableTotal++;
        Wrote();
        record.DownSinceMs = Loop.NowMs;
        Wrote();
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
        Wrote();
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
        Wrote();
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
        Wrote();
        record.LastRetries = next ? record.BudgetRetries : 0;
        Wrote();
        record.BudgetRequests = 0;
        Wrote();
        record.BudgetRetries = 0;
        Wrote();
        record.BudgetSpan = span;
        Wrote();
    }

    // Measures.

    private const int AverageOf = 8;

    private void Measure(ref PeerRecord record, in AttemptFacts facts, PeerEnd end)
    {
        record.SentBytes += facts.SentBytes;
        Wrote();
        record.ReceivedBytes += facts.ReceivedBytes;
        Wrote();
        record.FailsTotal += end == PeerEnd.Failed ? 1 : 0;
        Wrote();
        if (facts.Status / 100 is >= 1 and <= 5 and int kind)
        {
            Unsafe.Add(ref record.Responses1, kind - 1)++;
            Wrote();
        }
        if (facts.HeaderMs >= 0)
        {
            record.HeaderTimeUs = Average(record.HeaderTimeUs, facts.HeaderMs);
            Wrote();
            record.ResponseTimeUs = Average(record.ResponseTimeUs, Loop.NowMs - facts.StartMs);
            Wrote();
        }
    }

    private static long Average(long averageUs, long ms)
    {
        long us = Math.Max(ms * 1000, 1);
        return averageUs == 0 ? us : Math.Max(((averageUs * (AverageOf - 1)) + us) / AverageOf, 1);
    }
}
