// What one loop knows of a group: whose turn it is (smooth weighted round robin), who failed and when, how many
// connections each server has, and the idle connections. One loop's thread; made at first use, retired with its
// configuration.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Session.Upstream;

/// <summary>A server's address and what is known of it on this loop.</summary>
public sealed class Peer
{
    internal Peer(PeerSpec spec) => Start(spec);

    internal void Start(PeerSpec spec)
    {
        Spec = spec;
        EffectiveWeight = spec.Weight;
        CurrentWeight = 0;
        Fails = 0;
        Connections = 0;
        CheckedSec = 0;
        AccessedSec = 0;
        IsGone = false;
    }

    public PeerSpec Spec { get; private set; } = null!;
    public int CurrentWeight { get; internal set; }
    public int EffectiveWeight { get; internal set; }
    public int Fails { get; internal set; }
    public int Connections { get; internal set; }
    internal long CheckedSec { get; set; }
    internal long AccessedSec { get; set; }

    /// <summary>The name it came from does not lead to it any more.</summary>
    internal bool IsGone { get; set; }
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

/// <summary>One exchange's way through a group: what it has tried and how often it may go on. Reused.</summary>
public struct PeerWalk
{
    private ulong[]? _tried;

    /// <summary>Attempts left.</summary>
    public int TriesLeft { get; set; }

    internal bool InBackup { get; private set; }

    internal void Start(int peers, int tries)
    {
        InBackup = false;
        TriesLeft = tries;
        Forget(peers);
    }

    internal void EnterBackup(int peers)
    {
        InBackup = true;
        Forget(peers);
    }

    private void Forget(int peers)
    {
        int words = (peers + 63) / 64;
        if (_tried is null || _tried.Length < words)
        {
            _tried = new ulong[Math.Max(words, 1)];
        }
        Array.Clear(_tried);
    }

    internal readonly bool HasTried(int index) => (_tried![index >> 6] & (1UL << (index & 63))) != 0;

    internal readonly void Mark(int index) => _tried![index >> 6] |= 1UL << (index & 63);
}

/// <summary>A group on one loop.</summary>
public sealed class GroupState
{
    private readonly List<Peer> _primary = [];
    private readonly List<Peer> _backup = [];

    internal GroupState(UpstreamGroup group, EventLoop loop)
    {
        Group = group;
        Loop = loop;
        Idle = new IdleConnections(this);
        Fill(_primary, group.Primary);
        Fill(_backup, group.Backup);
        if (group.Named.Length > 0)
        {
            Named = new NamedPeers(this);
        }
    }

    /// <summary>The servers with changing addresses; null without such.</summary>
    public NamedPeers? Named { get; }

    /// <summary>An empty group that <see cref="Restart"/> fills.</summary>
    public GroupState(EventLoop loop) : this(s_none, loop)
    {
    }

    private static readonly UpstreamGroup s_none = new() { Name = default, Primary = [] };

    public UpstreamGroup Group { get; }
    public EventLoop Loop { get; }

    /// <summary>Idle connections to the group's servers.</summary>
    public IdleConnections Idle { get; }

    /// <summary>The configuration is no longer current: connections are not kept any more.</summary>
    public bool IsRetired { get; private set; }

    /// <summary>There is only one server, which therefore is never put aside.</summary>
    private bool IsSingle => _primary.Count == 1 && _backup.Count == 0;

    public IReadOnlyList<Peer> Primary => _primary;
    public IReadOnlyList<Peer> Backup => _backup;

    private static void Fill(List<Peer> peers, PeerSpec[] specs)
    {
        foreach (PeerSpec spec in specs)
        {
            peers.Add(new Peer(spec));
        }
    }

    /// <summary>Makes the peers those of these addresses; the ones that stay keep what is known of them.</summary>
    public void Assign(ReadOnlySpan<PeerSpec> specs, bool backup = false)
    {
        List<Peer> peers = backup ? _backup : _primary;
        foreach (Peer peer in peers)
        {
            peer.IsGone = true;
        }
        foreach (PeerSpec spec in specs)
        {
            Peer? known = Known(peers, spec);
            if (known is null)
            {
                peers.Add(new Peer(spec));
            }
            else
            {
                known.IsGone = false;
            }
        }
        for (int i = peers.Count - 1; i >= 0; i--)
        {
            if (peers[i].IsGone)
            {
                Idle.CloseOf(peers[i]);
                peers.RemoveAt(i);
            }
        }
    }

    /// <summary>Makes the peers those of these addresses, with nothing known of them: for one exchange.</summary>
    public void Restart(ReadOnlySpan<PeerSpec> specs)
    {
        while (_primary.Count > specs.Length)
        {
            _primary.RemoveAt(_primary.Count - 1);
        }
        for (int i = 0; i < specs.Length; i++)
        {
            if (i < _primary.Count)
            {
                _primary[i].Start(specs[i]);
            }
            else
            {
                _primary.Add(new Peer(specs[i]));
            }
        }
    }

    private static Peer? Known(List<Peer> peers, PeerSpec spec)
    {
        foreach (Peer peer in peers)
        {
            if (peer.Spec.Address.AsSpan().SequenceEqual(spec.Address))
            {
                return peer;
            }
        }
        return null;
    }

    /// <summary>Begins an exchange's walk: as many tries as there are servers that are not down, or fewer.</summary>
    public void StartWalk(ref PeerWalk walk, int triesMax)
    {
        int tries = CountUp(_primary) + CountUp(_backup);
        if (triesMax > 0 && tries > triesMax)
        {
            tries = triesMax;
        }
        walk.Start(_primary.Count, tries);
    }

    private static int CountUp(List<Peer> peers)
    {
        int n = 0;
        foreach (Peer peer in peers)
        {
            n += peer.Spec.Down ? 0 : 1;
        }
        return n;
    }

    /// <summary>The next peer for this walk, or null when none can serve. The caller owes a <see
    /// cref="Leave"/>.</summary>
    public Peer? Enter(ref PeerWalk walk)
    {
        Peer? peer = walk.InBackup ? null : EnterOne(_primary, ref walk);
        if (peer is null && _backup.Count > 0)
        {
            if (!walk.InBackup)
            {
                walk.EnterBackup(_backup.Count);
            }
            peer = EnterOne(_backup, ref walk);
        }
        if (peer is not null)
        {
            peer.Connections++;
        }
        return peer;
    }

    private Peer? EnterOne(List<Peer> peers, ref PeerWalk walk)
    {
        if (IsSingle)
        {
            Peer only = peers[0];
            bool full = only.Spec.ConnectionsMax > 0 && only.Connections >= only.Spec.ConnectionsMax;
            return only.Spec.Down || full ? null : only;
        }
        long nowSec = Loop.NowMs / 1000;
        Peer? best = null;
        int bestIndex = -1;
        int total = 0;
        for (int i = 0; i < peers.Count; i++)
        {
            Peer peer = peers[i];
            PeerSpec spec = peer.Spec;
            if (spec.Down || walk.HasTried(i)
                || spec.FailsMax > 0 && peer.Fails >= spec.FailsMax && nowSec - peer.CheckedSec <= spec.FailTimeoutSec
                || spec.ConnectionsMax > 0 && peer.Connections >= spec.ConnectionsMax)
            {
                continue;
            }
            peer.CurrentWeight += peer.EffectiveWeight;
            total += peer.EffectiveWeight;
            if (peer.EffectiveWeight < spec.Weight)
            {
                peer.EffectiveWeight++;
            }
            if (best is null || peer.CurrentWeight > best.CurrentWeight)
            {
                best = peer;
                bestIndex = i;
            }
        }
        if (best is null)
        {
            return null;
        }
        walk.Mark(bestIndex);
        best.CurrentWeight -= total;
        if (nowSec - best.CheckedSec > best.Spec.FailTimeoutSec)
        {
            best.CheckedSec = nowSec;
        }
        return best;
    }

    /// <summary>Ends an attempt. True when the peer has just been put aside for its failures.</summary>
    public bool Leave(ref PeerWalk walk, Peer peer, PeerEnd end)
    {
        bool disabled = false;
        peer.Connections--;
        if (IsSingle)
        {
            peer.Fails = 0;
            walk.TriesLeft = 0;
            return false;
        }
        if (end == PeerEnd.Failed)
        {
            long nowSec = Loop.NowMs / 1000;
            peer.Fails++;
            peer.AccessedSec = nowSec;
            peer.CheckedSec = nowSec;
            if (peer.Spec.FailsMax > 0)
            {
                peer.EffectiveWeight -= peer.Spec.Weight / peer.Spec.FailsMax;
                disabled = peer.Fails >= peer.Spec.FailsMax;
            }
            if (peer.EffectiveWeight < 0)
            {
                peer.EffectiveWeight = 0;
            }
        }
        else if (peer.AccessedSec < peer.CheckedSec)
        {
            // It was tried again after its time aside, and served.
            peer.Fails = 0;
        }
        if (walk.TriesLeft > 0)
        {
            walk.TriesLeft--;
        }
        return disabled;
    }

    internal void Retire()
    {
        IsRetired = true;
        Idle.CloseAll();
    }
}

/// <summary>The states of all groups on one loop.</summary>
public sealed class UpstreamStates
{
    private static readonly LoopSlot<UpstreamStates> s_slot = new();

    private readonly EventLoop _loop;
    private readonly Dictionary<UpstreamGroup, GroupState> _states = [];
    internal UpstreamConnection? FreeConnections;

    private UpstreamStates(EventLoop loop) => _loop = loop;

    public static UpstreamStates Of(EventLoop loop) => loop.Slot(s_slot, static l => new UpstreamStates(l));

    /// <summary>The state of a group, made at its first use.</summary>
    public GroupState For(UpstreamGroup group)
    {
        if (!_states.TryGetValue(group, out GroupState? state))
        {
            state = new GroupState(group, _loop);
            _states.Add(group, state);
        }
        return state;
    }

    /// <summary>Its configuration is no longer current: idle connections are closed, none are kept any more.</summary>
    public void Retire(UpstreamGroup group)
    {
        if (_states.TryGetValue(group, out GroupState? state))
        {
            state.Retire();
        }
    }

    /// <summary>The last request of its configuration has ended.</summary>
    public void Forget(UpstreamGroup group)
    {
        if (_states.Remove(group, out GroupState? state))
        {
            state.Retire();
        }
    }

    public int Count => _states.Count;

    /// <summary>Connections to upstream servers, leased and idle.</summary>
    public int OpenConnections { get; internal set; }

    /// <summary>Attempts under way at the peers of all groups.</summary>
    public int Leases()
    {
        int leases = 0;
        foreach (GroupState state in _states.Values)
        {
            foreach (Peer peer in state.Primary)
            {
                leases += peer.Connections;
            }
            foreach (Peer peer in state.Backup)
            {
                leases += peer.Connections;
            }
        }
        return leases;
    }
}
