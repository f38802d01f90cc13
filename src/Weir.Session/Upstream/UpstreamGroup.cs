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

    /// <summary>Who looks them up; null without such servers.</summary>
    public ResolverSettings? Resolver { get; init; }
}
