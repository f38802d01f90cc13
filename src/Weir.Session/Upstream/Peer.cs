// A server of a group on one loop, and one exchange's way through a group. The changing state is a PeerRecord, here or
// in a zone. One loop's thread.
using System.Security.Cryptography;
using Weir.Kernel;

namespace Weir.Session.Upstream;

/// <summary>A server's address and what is known of it.</summary>
public sealed class Peer
{
    private PeerRecord _own;
    private GroupZone? _zone;
    private uint _block;
    private byte[]? _bindName;

    internal Peer(PeerSpec spec) => Start(spec);

    internal void Start(PeerSpec spec)
    {
        Spec = spec;
        IsGone = false;
        LocalConnections = 0;
        Write(ref _own, spec);
        _own.SpecStamp = spec.Stamp;
    }

    /// <summary>Sets the fields of a record that come from the configuration, and forgets the rest. What it was
    /// written from (SpecStamp) the caller sets.</summary>
    internal static void Write(ref PeerRecord record, PeerSpec spec)
    {
        record = default;
        record.Weight = spec.Weight;
        record.EffectiveWeight = spec.Weight;
        record.ConnectionsMax = spec.ConnectionsMax;
        record.FailsMax = spec.FailsMax;
        record.FailTimeoutSec = spec.FailTimeoutSec;
        record.SlowStartMs = spec.SlowStartMs;
        record.Flags = FlagsOf(spec);
    }

    private static PeerFlags FlagsOf(PeerSpec spec) => (spec.Down ? PeerFlags.Down : 0)
        | (spec.Drain ? PeerFlags.Drain : 0) | (spec.MustPassCheck ? PeerFlags.Checking : 0);

    /// <summary>Takes over what the configuration says now, and keeps what is known of the server. True when it says
    /// something else than before. Which configuration it was is written last: a killed worker's successor does it
    /// all again.</summary>
    internal static bool Configure(ref PeerRecord record, PeerSpec spec, GroupState group)
    {
        if (record.SpecStamp == spec.Stamp)
        {
            return false;
        }
        record.Weight = spec.Weight;
        group.Wrote();
        record.EffectiveWeight = spec.Weight;
        group.Wrote();
        record.CurrentWeight = 0;
        group.Wrote();
        record.ConnectionsMax = spec.ConnectionsMax;
        group.Wrote();
        record.FailsMax = spec.FailsMax;
        group.Wrote();
        record.FailTimeoutSec = spec.FailTimeoutSec;
        group.Wrote();
        record.SlowStartMs = spec.SlowStartMs;
        group.Wrote();
        PeerFlags kept = record.Flags & (PeerFlags.Unhealthy | PeerFlags.Ejected);
        record.Flags = kept | (FlagsOf(spec) & (record.LastCheckPassed != 0 ? ~PeerFlags.Checking : (PeerFlags)~0));
        group.Wrote();
        record.Fails = 0;
        group.Wrote();
        record.SpecStamp = spec.Stamp;
        group.Wrote();
        return true;
    }

    public PeerSpec Spec { get; private set; } = null!;

    /// <summary>The same server, of which something else is written down.</summary>
    internal void Adopt(PeerSpec spec)
    {
        Spec = spec;
        IsGone = false;
        _bindName = null;
    }

    /// <summary>Its state. In a zone: only under the zone's lock.</summary>
    public ref PeerRecord Record
    {
        get
        {
            if (_zone is not null)
            {
                return ref _zone.Record(_block);
            }
            return ref _own;
        }
    }

    /// <summary>Attempts of this loop under way.</summary>
    public int LocalConnections { get; internal set; }

    /// <summary>Sum of the start times of these attempts, for `least_time … inflight`.</summary>
    internal long LocalStartsMs { get; set; }

    /// <summary>The name it came from does not lead to it any more.</summary>
    public bool IsGone { get; internal set; }

    /// <summary>Where it stands, in which of the group's lists.</summary>
    internal int Place { get; set; }
    internal bool IsBackup { get; set; }

    internal uint Block => _block;

    internal bool IsShared => _zone is not null;

    internal void Share(GroupZone zone, uint block)
    {
        _zone = zone;
        _block = block;
    }

    internal void Unshare()
    {
        _own = Record;
        _zone = null;
        _block = 0;
    }

    /// <summary>What binds a session to it: `route=`, else a digest of its address.</summary>
    public ReadOnlySpan<byte> BindName => _bindName ??= Spec.Route.IsEmpty
        ? System.Text.Encoding.ASCII.GetBytes(Convert.ToHexStringLower(MD5.HashData(Text(Spec.Address))))
        : Spec.Route.Span.ToArray();

    private static byte[] Text(byte[] address)
    {
        Span<byte> text = stackalloc byte[SocketAddress.TextBytesMax];
        return text[..SocketAddress.Format(address, text, withPort: true)].ToArray();
    }
}

/// <summary>How an attempt at a peer ended.</summary>
public enum PeerEnd : byte
{
    Fine,

    /// <summary>The server is to blame.</summary>
    Failed,

    /// <summary>Another server is tried, but this one did nothing wrong (403, 404).</summary>
    Next,
}

/// <summary>What was measured of an attempt; -1 for what it did not come to.</summary>
public readonly record struct AttemptFacts(int Status, long StartMs, long HeaderMs, long SentBytes,
    long ReceivedBytes);

/// <summary>One exchange's way through a group: what it has tried and how often it may go on. Reused.</summary>
public struct PeerWalk
{
    private ulong[]? _tried;

    /// <summary>Attempts left.</summary>
    public int TriesLeft { get; set; }

    internal bool InBackup { get; private set; }

    /// <summary>Nothing was tried yet.</summary>
    public bool IsFresh { get; private set; }

    /// <summary>Which list of servers the marks are about.</summary>
    internal int ListVersion;

    /// <summary>What a hashing balancer keeps: the key, the hash, how often it hashed again and looked.</summary>
    internal NativeSlice Key;
    internal uint Hash;
    internal int Rehashes;
    internal int Looks;

    /// <summary>The server that the client's session asks for; empty for none.</summary>
    internal NativeSlice Wanted;

    /// <summary>The server it got is the one its session asked for.</summary>
    public bool IsBound { get; internal set; }

    internal void Start(int peers, int tries)
    {
        InBackup = false;
        TriesLeft = tries;
        Key = default;
        Wanted = default;
        Hash = 0;
        Rehashes = 0;
        Looks = 0;
        IsBound = false;
        Forget(peers);
    }

    /// <summary>As before the first try, with the tries that are left.</summary>
    public void Restart()
    {
        InBackup = false;
        IsFresh = true;
        Looks = 0;
        Array.Clear(_tried!);
    }

    internal void EnterBackup(int peers)
    {
        InBackup = true;
        Forget(peers);
    }

    private void Forget(int peers)
    {
        IsFresh = true;
        int words = (peers + 63) / 64;
        if (_tried is null || _tried.Length < words)
        {
            _tried = new ulong[Math.Max(words, 1)];
        }
        Array.Clear(_tried);
    }

    /// <summary>A bit for each server that was tried.</summary>
    internal readonly ReadOnlySpan<ulong> Tried => _tried;

    internal readonly bool HasTried(int index) =>
        !IsFresh && (uint)index >> 6 < (uint)_tried!.Length && (_tried[index >> 6] & (1UL << (index & 63))) != 0;

    internal void Mark(int index)
    {
        IsFresh = false;
        if (index >> 6 >= _tried!.Length)
        {
            Array.Resize(ref _tried, (index >> 6) + 1);
        }
        _tried[index >> 6] |= 1UL << (index & 63);
    }
}
