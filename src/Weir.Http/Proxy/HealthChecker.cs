// Asks the servers of one group whether they are well. Every worker has one of these, but only the one that holds the
// group's claim in the zone asks; when it dies, or holds no more than its claim, another takes the claim and goes on. A
// check is a request without a client that goes through an exchange as the location's own do (so over TLS or HTTP/2
// where these go), to one server, on a connection of its own. One loop's thread; ends with its configuration.
using System.Runtime.InteropServices;
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;

namespace Weir.Http.Proxy;

/// <summary>A health check as the configuration says it.</summary>
internal sealed class HealthRule
{
    public required UpstreamGroup Group { get; init; }
    public required long IntervalMs { get; init; }
    public required long JitterMs { get; init; }
    public required int Fails { get; init; }
    public required int Passes { get; init; }

    /// <summary>The port to ask instead of the server's own; 0 for that.</summary>
    public required int Port { get; init; }
    public required HealthMatch Match { get; init; }

    /// <summary>What a gRPC server is asked; null for HTTP.</summary>
    public required GrpcCheck? Grpc { get; init; }

    /// <summary>A connection that can be made is all that is wanted.</summary>
    public required bool IsTcp { get; init; }

    /// <summary>How long a connection serves checks; 0 for one check.</summary>
    public required long KeepAliveMs { get; init; }

    /// <summary>The location whose way to the servers the checks go.</summary>
    public required LocationConf Location { get; init; }
    public required ServerConf Server { get; init; }
    public required UpstreamSettings Settings { get; init; }
    public required UpstreamProtocol Protocol { get; init; }
    public required UpstreamTls? Tls { get; init; }
    public required NativeSlice TargetHost { get; init; }
    public required NativeSlice TargetPort { get; init; }

    /// <summary>The head of a client's request that would lead to the check's.</summary>
    public required byte[] Head { get; init; }
}

/// <summary>The checks of one group on one loop.</summary>
internal sealed class HealthChecker(EventLoop loop, HttpConfiguration configuration, HealthRule rule)
{
    /// <summary>How often is looked whether another worker's claim has ended, and how long one may be late.</summary>
    private const int LookMs = 500, ClaimGraceMs = 2000;

    private readonly GroupState _group = UpstreamStates.Of(loop).For(rule.Group);
    private readonly HashSet<Peer> _underWay = [];

    /// <summary>Each server as a group of its own, with the connection that is kept to it.</summary>
    private readonly Dictionary<Peer, UpstreamGroup> _ways = [];

    public void Start()
    {
        // Nothing that a check refers to goes before the last one has ended.
        configuration.AddReference();
        RunAsync().Forget();
    }

    private async LoopTask<Unit> RunAsync()
    {
        if (_group.Named is { } named)
        {
            await named.FirstAnswers();
        }
        long nextMs = loop.NowMs;
        while (!_group.IsRetired)
        {
            _group.Follow();
            bool mine = _group.ClaimChecks(loop.NowMs + Math.Max(LookMs, rule.IntervalMs) + ClaimGraceMs);
            if (mine && loop.NowMs >= nextMs)
            {
                nextMs = loop.NowMs + rule.IntervalMs;
                CheckAll(_group.Primary);
                CheckAll(_group.Backup);
            }
            DropWays(all: !mine);
            long wait = mine ? Math.Max(nextMs - loop.NowMs, 1) : LookMs;
            await loop.DelayAsync((int)Math.Min(wait, LookMs));
        }
        while (_underWay.Count > 0)
        {
            await loop.DelayAsync(LookMs);
        }
        DropWays(all: true);
        configuration.Release();
        return default;
    }

    private void DropWays(bool all)
    {
        foreach ((Peer peer, UpstreamGroup way) in _ways)
        {
            if ((all || peer.IsGone) && !_underWay.Contains(peer))
            {
                UpstreamStates.Of(loop).Forget(way);
                _ways.Remove(peer);
            }
        }
    }

    private void CheckAll(IReadOnlyList<Peer> peers)
    {
        for (int i = 0; i < peers.Count; i++)
        {
            Peer peer = peers[i];
            if (!_group.IsDown(peer) && _underWay.Add(peer))
            {
                CheckAsync(peer).Forget();
            }
        }
    }

    private async LoopTask<Unit> CheckAsync(Peer peer)
    {
        if (rule.JitterMs > 0)
        {
            await loop.DelayAsync((int)(Random() % (ulong)rule.JitterMs) + 1);
        }
        string? fault = _group.IsRetired ? null : await HealthCheck.AskAsync(loop, configuration, rule, WayTo(peer));
        _underWay.Remove(peer);
        if (_group.IsRetired || peer.IsGone)
        {
            return default;
        }
        HealthChange change = _group.Checked(peer, fault is null, rule.Fails, rule.Passes);
        if (change != HealthChange.None)
        {
            string name = SocketAddressText(peer);
            rule.Location.ErrorLog?.Write(LogLevel.Warn, change == HealthChange.Unhealthy
                ? $"peer {name} in upstream \"{rule.Group.Name}\" is unhealthy: {fault}"
                : $"peer {name} in upstream \"{rule.Group.Name}\" is healthy");
        }
        return default;
    }

    private UpstreamGroup WayTo(Peer peer)
    {
        if (_ways.TryGetValue(peer, out UpstreamGroup? way))
        {
            return way;
        }
        byte[] address = peer.Spec.Address;
        if (rule.Port > 0 && address.Length > 8)
        {
            address = [.. address];
            address[2] = (byte)(rule.Port >> 8);
            address[3] = (byte)rule.Port;
        }
        way = new UpstreamGroup
        {
            Name = rule.Group.Name,
            Primary = [new PeerSpec { Address = address, Name = default, FailsMax = 0 }],
            KeepAlive = new KeepAliveSettings
            {
                ConnectionsMax = rule.KeepAliveMs > 0 ? 1 : 0,
                RequestsMax = int.MaxValue,
                TimeMs = rule.KeepAliveMs,
                TimeoutMs = 0,
            },
        };
        _ways.Add(peer, way);
        return way;
    }

    private static string SocketAddressText(Peer peer)
    {
        Span<byte> text = stackalloc byte[SocketAddress.TextBytesMax];
        return System.Text.Encoding.Latin1.GetString(
            text[..SocketAddress.Format(peer.Spec.Address, text, withPort: true)]);
    }

    private ulong Random()
    {
        ulong value = 0;
        loop.FillRandom(MemoryMarshal.AsBytes(new Span<ulong>(ref value)));
        return value;
    }
}
