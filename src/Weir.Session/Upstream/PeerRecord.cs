// What changes of a server while it serves: weights in turn, failures, connections, health, times and counters. It lies
// in the Peer itself, or in a zone where all workers see it (GroupZone); then it is touched under the zone's lock
// alone. Only fixed-size fields, so that it means the same in every process.
using System.Runtime.InteropServices;

namespace Weir.Session.Upstream;

/// <summary>Why a server is not asked.</summary>
[Flags]
public enum PeerFlags
{
    None = 0,

    /// <summary>`down`, in the configuration or by the API.</summary>
    Down = 1,

    /// <summary>`drain`: only sessions that are bound to it.</summary>
    Drain = 2,

    /// <summary>Its health checks fail.</summary>
    Unhealthy = 4,

    /// <summary>Its first mandatory health check has not been passed.</summary>
    Checking = 8,

    /// <summary>Set aside as an outlier until <see cref="PeerRecord.EjectedUntilMs"/>.</summary>
    Ejected = 16,
}

/// <summary>What a health check changed.</summary>
public enum HealthChange
{
    None,
    Healthy,
    Unhealthy,
}

/// <summary>The changing state of one server.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct PeerRecord
{
    public int CurrentWeight;
    public int EffectiveWeight;
    public int Weight;
    public int Fails;
    public int Connections;
    public int ConnectionsMax;
    public int FailsMax;
    public PeerFlags Flags;
    public long FailTimeoutSec;
    public long CheckedSec;
    public long AccessedSec;
    public long SlowStartMs;
    public long SlowStartFromMs;
    public long EjectedUntilMs;

    /// <summary>Moving averages in microseconds; 0 while nothing was measured.</summary>
    public long HeaderTimeUs;
    public long ResponseTimeUs;

    /// <summary>Which configuration wrote the fields that come from one.</summary>
    public ulong SpecStamp;

    /// <summary>Its number in the API, and which list of servers gave it.</summary>
    public ulong IdStamp;
    public int Id;

    // Counters for the API and the status page.

    public long Requests;
    public long Responses1;
    public long Responses2;
    public long Responses3;
    public long Responses4;
    public long Responses5;
    public long SentBytes;
    public long ReceivedBytes;
    public long FailsTotal;
    public long UnavailableTotal;
    public long SelectedUnixMs;
    public long DownSinceMs;
    public long DowntimeMs;

    // Health checks and outliers.

    public long Checks;
    public long ChecksFailed;
    public long ChecksUnhealthy;
    public int PassesInRow;
    public int FailuresInRow;
    public int LastCheckPassed;
    public int Ejections;
    public int FailuresSeen;

    /// <summary>Forgets the counts; what decides who is asked stays.</summary>
    internal void ClearStatistics(GroupState group)
    {
        Requests = 0;
        group.Wrote();
        Responses1 = 0;
        group.Wrote();
        Responses2 = 0;
        group.Wrote();
        Responses3 = 0;
        group.Wrote();
        Responses4 = 0;
        group.Wrote();
        Responses5 = 0;
        group.Wrote();
        SentBytes = 0;
        group.Wrote();
        ReceivedBytes = 0;
        group.Wrote();
        FailsTotal = 0;
        group.Wrote();
        UnavailableTotal = 0;
        group.Wrote();
        SelectedUnixMs = 0;
        group.Wrote();
        DowntimeMs = 0;
        group.Wrote();
        Checks = 0;
        group.Wrote();
        ChecksFailed = 0;
        group.Wrote();
        ChecksUnhealthy = 0;
        group.Wrote();
        HeaderTimeUs = 0;
        group.Wrote();
        ResponseTimeUs = 0;
        group.Wrote();
    }

    /// <summary>Whether it may get a request now.</summary>
    public readonly bool CanServe(long nowMs) => (Flags == PeerFlags.None || !IsBarred(nowMs)) && HasRoom(nowMs);

    /// <summary>The same for a session that is bound to it: draining does not matter.</summary>
    public readonly bool CanServeBound(long nowMs)
    {
        PeerRecord own = this;
        own.Flags &= ~PeerFlags.Drain;
        return own.CanServe(nowMs);
    }

    public readonly bool IsSetAside(long nowMs) =>
        FailsMax > 0 && Fails >= FailsMax && nowMs / 1000 - CheckedSec <= FailTimeoutSec;

    public readonly bool IsFull => ConnectionsMax > 0 && Connections >= ConnectionsMax;

    private readonly bool HasRoom(long nowMs) => !IsSetAside(nowMs) && !IsFull;

    private readonly bool IsBarred(long nowMs) =>
        (Flags & ~PeerFlags.Ejected) != 0 || (Flags & PeerFlags.Ejected) != 0 && nowMs < EjectedUntilMs;
}

/// <summary>The changing state of a group.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct GroupRecord
{
    /// <summary>Counts what makes an order of servers that was worked out before untrue.</summary>
    public long Version;

    /// <summary>Counts changes of servers' flags.</summary>
    public long FlagVersion;

    /// <summary>How far into such an order the group is.</summary>
    public int Position;

    /// <summary>Counts changes of the list of servers made by the API.</summary>
    public int ListVersion;

    /// <summary>Who checks the health of the group's servers, and until when that is believed.</summary>
    public int CheckerSlot;
    public uint CheckerLife;
    public long CheckerUntilMs;

    /// <summary>Requests and retries of the current and the last span of the retry budget.</summary>
    public long BudgetSpan;
    public int BudgetRequests;
    public int BudgetRetries;
    public int LastRequests;
    public int LastRetries;

    /// <summary>Which reading of the configuration the list of servers in the zone belongs to.</summary>
    public ulong ListStamp;

    /// <summary>The number that the next server gets.</summary>
    public int NextId;

    /// <summary>Dense rows of the servers and of the backups (LeastTable); 0 for none.</summary>
    public uint Table;
    public uint BackupTable;

    /// <summary>Counts how often connections were counted anew.</summary>
    public long Recounts;

    /// <summary>Requests that found the queue full.</summary>
    public long QueueOverflows;
}
