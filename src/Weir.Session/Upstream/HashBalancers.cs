// ip_hash, hash and hash … consistent: the same key leads to the same server, with the hashes that nginx (and through
// it Cache::Memcached and its ketama relatives) uses, so that two proxies agree. After twenty looks that met servers
// which cannot serve, weights in turn decide. One loop's thread; under the zone's lock where state is shared.
using Weir.Kernel;

namespace Weir.Session.Upstream;

/// <summary>`ip_hash`.</summary>
public sealed class IpHashRule : BalancerRule
{
    public override string Name => "ip_hash";

    internal override Balancer Create(GroupState group) => new IpHash(group);
}

/// <summary>`hash KEY [consistent]`.</summary>
public sealed class HashRule(Template key, bool consistent) : BalancerRule
{
    public override string Name => "hash";

    public Template Key { get; } = key;

    internal override Balancer Create(GroupState group) =>
        consistent ? new ConsistentHash(group, Key) : new PlainHash(group, Key);
}

/// <summary>CRC-32 as Ethernet and zlib have it, resumable.</summary>
internal static class Crc32
{
    private static readonly uint[] s_table = Make();

    public const uint Start = 0xffffffff;

    public static uint Update(uint crc, ReadOnlySpan<byte> bytes)
    {
        uint[] table = s_table;
        foreach (byte b in bytes)
        {
            crc = table[(byte)crc ^ b] ^ (crc >> 8);
        }
        return crc;
    }

    public static uint End(uint crc) => ~crc;

    public static uint Of(ReadOnlySpan<byte> bytes) => End(Update(Start, bytes));

    private static uint[] Make()
    {
        uint[] table = new uint[256];
        for (uint i = 0; i < 256; i++)
        {
            uint value = i;
            for (int bit = 0; bit < 8; bit++)
            {
                value = (value & 1) != 0 ? (value >> 1) ^ 0xedb88320 : value >> 1;
            }
            table[i] = value;
        }
        return table;
    }
}

/// <summary>What hashing balancers share.</summary>
internal abstract class HashBalancer(GroupState group) : Balancer(group)
{
    protected const int LooksMax = 20;

    /// <summary>The sums of the weights up to each server: who a point belongs to is searched, not walked to.</summary>
    private int[] _sums = [];
    private int _sumsAt = -1;

    /// <summary>Sum of all weights, of servers that are down too.</summary>
    protected int TotalWeight(List<Peer> peers)
    {
        if (_sumsAt != Group.ListVersion)
        {
            var sums = new int[peers.Count];
            int total = 0;
            for (int i = 0; i < sums.Length; i++)
            {
                sums[i] = total += peers[i].Record.Weight;
            }
            _sums = sums;
            _sumsAt = Group.ListVersion;
        }
        return _sums.Length == 0 ? 0 : _sums[^1];
    }

    public override void Changed() => _sumsAt = -1;

    /// <summary>The server in whose part of the sum of weights this point lies.</summary>
    protected int At(int point)
    {
        int[] sums = _sums;
        int low = 0, high = sums.Length - 1;
        while (low < high)
        {
            int middle = (low + high) >> 1;
            if (point < sums[middle])
            {
                high = middle;
            }
            else
            {
                low = middle + 1;
            }
        }
        return low;
    }
}

internal sealed class IpHash(GroupState group) : HashBalancer(group)
{
    private const int SocketAddressInet = 2, SocketAddressInet6 = 10;

    public override void Begin(ref PeerWalk walk, Session? session)
    {
        walk.Hash = 89;
        if (session is null)
        {
            return;
        }
        ReadOnlySpan<byte> address = session.RemoteAddress;
        int family = address.Length > 1 ? address[0] : 0;
        ReadOnlySpan<byte> bytes = family switch
        {
            SocketAddressInet => SocketAddress.AddressBytesOf(address)[..3],
            SocketAddressInet6 => SocketAddress.AddressBytesOf(address),
            _ => [0, 0, 0],
        };
        walk.Key = session.Arena.Store(bytes);
    }

    public override int Choose(List<Peer> peers, ref PeerWalk walk)
    {
        int total = TotalWeight(peers);
        if (walk.Looks > LooksMax || peers.Count < 2 || total <= 0)
        {
            return Smooth.Choose(peers, ref walk);
        }
        while (true)
        {
            uint hash = walk.Hash;
            foreach (byte b in walk.Key.Span)
            {
                hash = ((hash * 113) + b) % 6271;
            }
            walk.Hash = hash;
            int index = At((int)(hash % (uint)total));
            if (MayAsk(peers, index, in walk))
            {
                return index;
            }
            if (++walk.Looks > LooksMax)
            {
                return Smooth.Choose(peers, ref walk);
            }
        }
    }
}

internal sealed class PlainHash(GroupState group, Template key) : HashBalancer(group)
{
    public override void Begin(ref PeerWalk walk, Session? session) =>
        walk.Key = session is null ? default : key.Evaluate(session);

    public override int Choose(List<Peer> peers, ref PeerWalk walk)
    {
        int total = TotalWeight(peers);
        if (walk.Looks > LooksMax || peers.Count < 2 || walk.Key.IsEmpty || total <= 0)
        {
            return Smooth.Choose(peers, ref walk);
        }
        Span<byte> digits = stackalloc byte[12];
        while (true)
        {
            // crc32([REHASH] KEY), its upper half, added to the hash before: Cache::Memcached's.
            uint crc = Crc32.Start;
            if (walk.Rehashes > 0)
            {
                System.Buffers.Text.Utf8Formatter.TryFormat(walk.Rehashes, digits, out int n);
                crc = Crc32.Update(crc, digits[..n]);
            }
            crc = Crc32.End(Crc32.Update(crc, walk.Key.Span));
            walk.Hash += (crc >> 16) & 0x7fff;
            walk.Rehashes++;
            int index = At((int)(walk.Hash % (uint)total));
            if (MayAsk(peers, index, in walk))
            {
                return index;
            }
            if (++walk.Looks > LooksMax)
            {
                return Smooth.Choose(peers, ref walk);
            }
        }
    }
}

internal sealed class ConsistentHash(GroupState group, Template key) : HashBalancer(group)
{
    private const int PointsPerWeight = 160;

    private (uint Hash, int Name)[] _points = [];

    /// <summary>The servers of each name.</summary>
    private int[][] _named = [];
    private int _pointsAt = -1;

    public override void Begin(ref PeerWalk walk, Session? session)
    {
        walk.Key = session is null ? default : key.Evaluate(session);
        walk.Rehashes = -1;
    }

    public override void Changed()
    {
        base.Changed();
        _pointsAt = -1;
    }

    public override int Choose(List<Peer> peers, ref PeerWalk walk)
    {
        if (walk.Looks > LooksMax || peers.Count < 2 || walk.Key.IsEmpty)
        {
            return Smooth.Choose(peers, ref walk);
        }
        if (_pointsAt != Group.ListVersion)
        {
            MakePoints(peers);
            _pointsAt = Group.ListVersion;
        }
        if (_points.Length == 0)
        {
            return Smooth.Choose(peers, ref walk);
        }
        if (walk.Rehashes < 0)
        {
            walk.Hash = (uint)Find(Crc32.Of(walk.Key.Span));
            walk.Rehashes = 0;
        }
        Smooth.Settle();
        while (true)
        {
            int best = AmongNamed(peers, _named[_points[walk.Hash % (uint)_points.Length].Name], in walk);
            if (best >= 0)
            {
                return best;
            }
            walk.Hash++;
            if (++walk.Looks > LooksMax)
            {
                return Smooth.Choose(peers, ref walk);
            }
        }
    }

    /// <summary>A name may have several addresses: they take turns.</summary>
    private int AmongNamed(List<Peer> peers, int[] named, in PeerWalk walk)
    {
        int best = -1, total = 0;
        foreach (int i in named)
        {
            if (!MayAsk(peers, i, in walk))
            {
                continue;
            }
            ref PeerRecord peer = ref peers[i].Record;
            peer.CurrentWeight += peer.EffectiveWeight;
            Group.Wrote();
            total += peer.EffectiveWeight;
            if (peer.EffectiveWeight < peer.Weight)
            {
                peer.EffectiveWeight++;
                Group.Wrote();
            }
            if (best < 0 || peer.CurrentWeight > peers[best].Record.CurrentWeight)
            {
                best = i;
            }
        }
        if (best >= 0)
        {
            peers[best].Record.CurrentWeight -= total;
            Group.Wrote();
        }
        return best;
    }

    private static NativeSlice NameOf(Peer peer) => peer.Spec.Server.IsEmpty ? peer.Spec.Name : peer.Spec.Server;

    /// <summary>The first point at or behind a hash; one behind the last wraps around.</summary>
    private int Find(uint hash)
    {
        int low = 0, high = _points.Length;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (hash > _points[middle].Hash)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }
        return low;
    }

    private void MakePoints(List<Peer> peers)
    {
        var points = new List<(uint Hash, int Name)>();
        var names = new Dictionary<string, int>(StringComparer.Ordinal);
        var named = new List<List<int>>();
        Span<byte> before = stackalloc byte[4];
        for (int peer = 0; peer < peers.Count; peer++)
        {
            NativeSlice server = NameOf(peers[peer]);
            string text = server.ToString();
            if (!names.TryGetValue(text, out int name))
            {
                name = named.Count;
                names.Add(text, name);
                named.Add([]);
            }
            named[name].Add(peer);
            (ReadOnlySpan<byte> host, ReadOnlySpan<byte> port) = Split(server.Span);
            // crc32(HOST \0 PORT PREVIOUS): Cache::Memcached::Fast's.
            uint start = Crc32.Update(Crc32.Update(Crc32.Update(Crc32.Start, host), [0]), port);
            uint previous = 0;
            int count = peers[peer].Record.Weight * PointsPerWeight;
            for (int i = 0; i < count; i++)
            {
                System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(before, previous);
                previous = Crc32.End(Crc32.Update(start, before));
                points.Add((previous, name));
            }
        }
        (uint Hash, int Name)[] sorted = [.. points.OrderBy(static p => p.Hash)];
        int kept = 0;
        for (int i = 1; i < sorted.Length; i++)
        {
            if (sorted[i].Hash != sorted[kept].Hash)
            {
                sorted[++kept] = sorted[i];
            }
        }
        _points = sorted.Length == 0 ? sorted : sorted[..(kept + 1)];
        _named = [.. named.Select(static n => n.ToArray())];
    }

    private static (byte[] Host, byte[] Port) Split(ReadOnlySpan<byte> server)
    {
        if (server.StartsWith("unix:"u8))
        {
            return (server[5..].ToArray(), []);
        }
        for (int i = server.Length - 1; i >= 0; i--)
        {
            if (server[i] == (byte)':')
            {
                return (server[..i].ToArray(), server[(i + 1)..].ToArray());
            }
            if (server[i] is < (byte)'0' or > (byte)'9')
            {
                break;
            }
        }
        return (server.ToArray(), []);
    }
}
