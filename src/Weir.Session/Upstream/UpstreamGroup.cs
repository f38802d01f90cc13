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

    /// <summary>The same at another address.</summary>
    public PeerSpec At(byte[] address) => new()
    {
        Address = address,
        Name = default,
        Weight = Weight,
        ConnectionsMax = ConnectionsMax,
        FailsMax = FailsMax,
        FailTimeoutSec = FailTimeoutSec,
        Down = Down,
        Drain = Drain,
        MustPassCheck = MustPassCheck,
        SlowStartMs = SlowStartMs,
        Route = Route,
        Server = Server,
    };

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

/// <summary>A server of a group whose addresses change while the configuration lives (`resolve`).</summary>
public sealed class NamedServer
{
    public required NativeSlice Host { get; init; }
    public required int Port { get; init; }
    public required bool IsBackup { get; init; }

    /// <summary>Weight, limits and state of every address that the name will have.</summary>
    public required PeerSpec Template { get; init; }
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
    public NamedServer[] Named { get; init; } = [];

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
