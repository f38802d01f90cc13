// A group of upstream servers as a configuration describes it: frozen, shared by all loops that use the configuration.
// What changes (weights in turn, failures, idle connections) is GroupState's, one per loop. Texts live in the
// configuration's memory.
using Weir.Kernel;

namespace Weir.Session.Upstream;

/// <summary>One address of a group's server.</summary>
public sealed class PeerSpec
{
    /// <summary>The native sockaddr.</summary>
    public required byte[] Address { get; init; }

    /// <summary>Which server of the group it is, in the order of the configuration.</summary>
    public int Id { get; init; }

    /// <summary>What was written down of it; null for a server that was only named in `proxy_pass`.</summary>
    public ServerLine? Line { get; init; }

    /// <summary>The address as logs and <c>$upstream_addr</c> show it.</summary>
    public required NativeSlice Name { get; init; }

    public int Weight { get; init; } = 1;

    /// <summary>Connections at the same time at most; 0 for any number.</summary>
    public int ConnectionsMax { get; init; }

    /// <summary>Failures within <see cref="FailTimeoutSec"/> that put it aside; 0 for never.</summary>
    public int FailsMax { get; init; } = 1;
    public long FailTimeoutSec { get; init; } = 10;
    public bool Down { get; init; }

    /// <summary>Asked only for sessions that are bound to it.</summary>
    public bool Drain { get; init; }

    /// <summary>Asked only after it has passed a health check.</summary>
    public bool MustPassCheck { get; set; }

    /// <summary>How long it takes to its full weight after it came back; 0 for at once.</summary>
    public long SlowStartMs { get; init; }

    /// <summary>What sessions are bound to it by (`route=`).</summary>
    public NativeSlice Route { get; init; }

    /// <summary>The server as the configuration names it: what hashing places it by.</summary>
    public NativeSlice Server { get; init; }

    /// <summary>Equal for what says the same: shared state is kept then.</summary>
    internal ulong Stamp
    {
        get
        {
            if (field == 0)
            {
                var hash = new StampHash();
                hash.Add(Weight);
                hash.Add(ConnectionsMax);
                hash.Add(FailsMax);
                hash.Add(FailTimeoutSec);
                hash.Add(SlowStartMs);
                hash.Add((Down ? 1 : 0) | (Drain ? 2 : 0) | (MustPassCheck ? 4 : 0));
                field = hash.Value;
            }
            return field;
        }
    }

    private struct StampHash()
    {
        public ulong Value { get; private set; } = 14695981039346656037;

        public void Add(long value) => Value = ((Value ^ (ulong)value) * 1099511628211) | 1;
    }
}

/// <summary>How idle connections of a group are kept.</summary>
public sealed record KeepAliveSettings
{
    /// <summary>Idle connections kept per loop; 0 for none.</summary>
    public int ConnectionsMax { get; init; }

    /// <summary>Connections serve again only the location that opened them.</summary>
    public bool Local { get; init; }
    public int RequestsMax { get; init; } = 1000;
    public long TimeMs { get; init; } = 3_600_000;
    public long TimeoutMs { get; init; } = 60_000;
}

/// <summary>How sessions are bound to servers (`sticky`). One object for all loops: it keeps nothing of a
/// session.</summary>
public abstract class StickyRule
{
    /// <summary>The name of the server that a session is bound to; empty for none.</summary>
    public abstract NativeSlice Wanted(Session session);

    /// <summary>A server has answered: the head of the answer may still be changed.</summary>
    /// <param name="session">The session.</param>
    /// <param name="peer">The server.</param>
    /// <param name="isBound">It was asked because the session is bound to it.</param>
    public abstract void Answered(Session session, Peer peer, bool isBound);

    /// <summary>The head of an answer has come, and waits for its body before it leaves: what only has to be known is
    /// known from now on.</summary>
    public virtual void HeadCame(Session session, Peer peer)
    {
    }
}

/// <summary>`outlier_ejection`: after so many failures in a row a server is set aside, for longer each time, as long as
/// no more than this share of the group is.</summary>
public sealed record EjectionRule(int Failures, long TimeMs, int PercentMax);

/// <summary>`retry_budget`: retries may be this share of the requests, but so many in each span always.</summary>
public sealed record RetryBudgetRule(int Percent, int Least, long SpanMs);

/// <summary>A group of servers.</summary>
public sealed class UpstreamGroup
{
    /// <summary>Its name, or the host and port of a server that was named directly.</summary>
    public required NativeSlice Name { get; init; }

    /// <summary>The servers that serve first, in the order of the configuration.</summary>
    public required PeerSpec[] Primary { get; init; }

    /// <summary>The servers that serve when no primary one can.</summary>
    public PeerSpec[] Backup { get; init; } = [];

    public KeepAliveSettings KeepAlive { get; init; } = new();

    /// <summary>Servers whose addresses are looked up while running.</summary>
    public ServerLine[] Named { get; init; } = [];

    /// <summary>All of it as it was written down, in order: what a zone begins with. Null for a group whose servers
    /// stay what they are.</summary>
    public ServerLine[]? Lines { get; init; }

    /// <summary>Which reading of the configuration the lines come from; equal in all workers.</summary>
    public ulong Stamp { get; init; }

    /// <summary>Servers have to pass a check before they serve.</summary>
    public bool ChecksFirst { get; init; }

    /// <summary>The balancing method knows no backup servers.</summary>
    public bool RefusesBackup { get; init; }

    /// <summary>The zone's name; empty without one.</summary>
    public string ZoneName { get; init; } = "";

    /// <summary>Where changes of the servers are kept (`state`); null for nowhere.</summary>
    public string? StatePath { get; init; }

    /// <summary>How the next server is chosen.</summary>
    public BalancerRule Balancing { get; init; } = BalancerRule.RoundRobin;

    /// <summary>Where all workers keep the group's state together; null for each on its own.</summary>
    public GroupZone? Zone { get; init; }

    /// <summary>How sessions are bound to servers; null where they are not.</summary>
    public StickyRule? Sticky { get; init; }

    /// <summary>How many requests may wait for a server, and how long; null for none.</summary>
    public QueueRule? Queue { get; init; }

    /// <summary>When a server that fails among others is set aside; null for never.</summary>
    public EjectionRule? Ejection { get; init; }

    /// <summary>How many retries the group bears; null for any number.</summary>
    public RetryBudgetRule? RetryBudget { get; init; }

    /// <summary>Some server begins slowly: weights are told apart more finely.</summary>
    public bool StartsSlowly { get; init; }

    /// <summary>Who looks them up; null without such servers.</summary>
    public ResolverSettings? Resolver { get; init; }
}
