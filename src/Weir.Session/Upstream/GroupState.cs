// What one loop knows of a group: its servers, whose turn it is, who failed and when, how many connections each has,
// and the idle connections. Choosing is a Balancer's; what changes is in records, here or in a zone (then under its
// lock). One loop's thread; made at first use, retired with its configuration.
using System.Diagnostics;
using System.Runtime.CompilerServices;
using Weir.Kernel;
using Weir.Loop;
using Weir.Zones;

namespace Weir.Session.Upstream;

/// <summary>A group on one loop.</summary>
public sealed partial class GroupState
{
    private readonly List<Peer> _primary = [];
    private readonly List<Peer> _backup = [];
    private readonly Balancer _balancer;
    private readonly GroupZone? _zone;
    private readonly uint _entry;
    private GroupRecord _own;
    private int _tries;
    private long _triesAt = -1;

    internal GroupState(UpstreamGroup group, EventLoop loop)
    {
        Group = group;
        Loop = loop;
        Idle = new IdleConnections(this);
        Multiplexed = new MultiplexedConnections(this);
        Smooth = new RoundRobin(this);
        if (group.Zone is { } zone)
        {
            using ZoneLock held = zone.Lock();
            _entry = zone.Group(group.Name.Span);
            _zone = _entry == 0 ? null : zone;
        }
        _balancer = group.Balancing == BalancerRule.RoundRobin ? Smooth : group.Balancing.Create(this);
        _primarySpecs = group.Primary;
        _backupSpecs = group.Backup;
        Assign(group.Primary);
        Assign(group.Backup, backup: true);
        if (group.Queue is not null)
        {
            Queue = new UpstreamQueue(this, group.Queue);
        }
        if (_zone is not null && group.Lines is not null)
        {
            BeginList(group.Lines);
        }
        else
        {
            Name(group.Named);
        }
    }

    /// <summary>The servers with changing addresses; null without such.</summary>
    public NamedPeers? Named { get; private set; }

    /// <summary>Who waits for a server; null where nobody does.</summary>
    public UpstreamQueue? Queue { get; }

    /// <summary>An empty group that <see cref="Restart"/> fills.</summary>
    public GroupState(EventLoop loop) : this(s_none, loop)
    {
    }

    private static readonly UpstreamGroup s_none = new() { Name = default, Primary = [] };

    public UpstreamGroup Group { get; }
    public EventLoop Loop { get; }

    /// <summary>Idle connections to the group's servers.</summary>
    public IdleConnections Idle { get; }

    /// <summary>HTTP/2 connections to the group's servers.</summary>
    public MultiplexedConnections Multiplexed { get; }

    /// <summary>The configuration is no longer current: connections are not kept any more.</summary>
    public bool IsRetired { get; private set; }

    /// <summary>There is only one server, which therefore is never put aside.</summary>
    private bool IsSingle => _primary.Count == 1 && _backup.Count == 0;

    public IReadOnlyList<Peer> Primary => _primary;
    public IReadOnlyList<Peer> Backup => _backup;

    /// <summary>Counts changes of the lists on this loop.</summary>
    internal int ListVersion { get; private set; }

    internal RoundRobin Smooth { get; }

    internal List<Peer> PrimaryList => _primary;
    internal List<Peer> BackupList => _backup;
    internal GroupZone? Zone => _zone;

    /// <summary>What the balancer keeps apart goes back into the records. Under the lock.</summary>
    internal void Unload() => _balancer?.Unload();

    /// <summary>The group's own state. In a zone: only under <see cref="Lock"/>.</summary>
    internal ref GroupRecord Record
    {
        get
        {
            if (_zone is not null)
            {
                return ref _zone.GroupOf(_entry);
            }
            return ref _own;
        }
    }

    /// <summary>Some server begins slowly: weights are told apart more finely.</summary>
    internal bool StartsSlowly { get; private set; }

    /// <summary>All workers keep the group's state together.</summary>
    public bool IsShared => _zone is not null;

    /// <summary>Holds the zone's lock where there is a zone.</summary>
    internal ZoneLock Lock() => _zone is null ? default : _zone.Lock();

    /// <summary>Behind every write to records under the lock: a test kills whoever holds it there.</summary>
    [Conditional("DEBUG")]
    internal void Wrote([CallerFilePath] string file = "", [CallerLineNumber] int line = 0) =>
        _zone?.Wrote(file, line);

    /// <summary>Behind many writes at once, to what counts for nothing after a repair.</summary>
    [Conditional("DEBUG")]
    internal void WroteMany([CallerFilePath] string file = "", [CallerLineNumber] int line = 0) =>
        _zone?.WroteMany(file, line);

    /// <summary>Makes the peers those of these addresses; the ones that stay keep what is known of them.</summary>
    public void Assign(ReadOnlySpan<PeerSpec> specs, bool backup = false)
    {
        List<Peer> peers = backup ? _backup : _primary;
        using ZoneLock held = Lock();
        Smooth.Settle();
        foreach (Peer peer in peers)
        {
            peer.IsGone = true;
        }
        bool changed = false;
        int place = 0;
        for (int i = 0; i < specs.Length; i++)
        {
            PeerSpec spec = specs[i];
            Peer? peer = Known(peers, spec);
            if (peer is null)
            {
                peer = new Peer(spec);
                Attach(peer, backup, CountSame(specs[..i], spec));
                peers.Add(peer);
            }
            peer.Adopt(spec);
            if (_zone is not null)
            {
                // Alike in all workers: the shared order of weights in turn counts by places.
                peers.Remove(peer);
                peers.Insert(place++, peer);
            }
            changed |= Configure(peer);
        }
        for (int i = 0; changed && i < peers.Count; i++)
        {
            peers[i].Record.CurrentWeight = 0;
            Wrote();
        }
        for (int i = peers.Count - 1; i >= 0; i--)
        {
            if (peers[i].IsGone)
            {
                Peer gone = peers[i];
                Idle.CloseOf(gone);
                Multiplexed.CloseOf(gone);
                peers.RemoveAt(i);
                if (gone.LocalConnections == 0)
                {
                    Leave(gone);
                }
            }
        }
        for (int i = 0; i < peers.Count; i++)
        {
            peers[i].Place = i;
            peers[i].IsBackup = backup;
        }
        StartsSlowly = Group.StartsSlowly || _primary.Exists(static p => p.Spec.SlowStartMs > 0)
            || _backup.Exists(static p => p.Spec.SlowStartMs > 0);
        ListVersion++;
        _balancer.Changed();
    }

    /// <summary>How many of these have the server's address.</summary>
    private static int CountSame(ReadOnlySpan<PeerSpec> specs, PeerSpec spec)
    {
        int same = 0;
        foreach (PeerSpec other in specs)
        {
            same += other.Address.AsSpan().SequenceEqual(spec.Address) ? 1 : 0;
        }
        return same;
    }

    private void Attach(Peer peer, bool backup, int same)
    {
        if (_zone is null)
        {
            return;
        }
        ReadOnlySpan<byte> name = Group.Name.Span;
        byte[] address = peer.Spec.Address;
        byte[] key = new byte[name.Length + address.Length + 1 + (same > 0 ? sizeof(int) : 0)];
        name.CopyTo(key);
        key[name.Length] = (byte)(backup ? 2 : 1);
        address.CopyTo(key.AsSpan(name.Length + 1));
        if (same > 0)
        {
            BitConverter.TryWriteBytes(key.AsSpan(key.Length - sizeof(int)), same);
        }
        uint block = _zone.Attach(key, peer.Spec);
        if (block != 0)
        {
            peer.Share(_zone, block);
        }
        else
        {
            Loop.Report?.Invoke(LogLevel.Error,
                $"the zone of upstream \"{Group.Name}\" is full: a server is not shared by the workers", 0);
        }
    }

    /// <summary>A server that is in no list any more and that nobody asks: its shared entry may go.</summary>
    private void Leave(Peer peer)
    {
        if (peer.IsShared)
        {
            uint block = peer.Block;
            peer.Unshare();
            _zone!.Detach(block);
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
        _own = default;
        ListVersion++;
    }

    private static Peer? Known(List<Peer> peers, PeerSpec spec)
    {
        foreach (Peer peer in peers)
        {
            if (peer.IsGone && peer.Spec.Id == spec.Id
                && peer.Spec.Address.AsSpan().SequenceEqual(spec.Address))
            {
                return peer;
            }
        }
        return null;
    }

    /// <summary>Begins an exchange's walk: as many tries as there are servers that are not down, or fewer.</summary>
    public void StartWalk(ref PeerWalk walk, int triesMax, Session? session = null)
    {
        int tries = CountUp(out bool isStale);
        if (isStale)
        {
            Follow();
            tries = CountUp(out bool _);
        }
        if (triesMax > 0 && tries > triesMax)
        {
            tries = triesMax;
        }
        walk.Start(_primary.Count, tries);
        walk.ListVersion = ListVersion;
        _balancer.Begin(ref walk, session);
        if (Group.Sticky is { } sticky && session is not null)
        {
            walk.Wanted = sticky.Wanted(session);
        }
    }

    private int CountUp(out bool isStale)
    {
        using ZoneLock held = Lock();
        isStale = Record.ListVersion != _listSeen && _follows && !IsRetired;
        if (isStale)
        {
            return 0;
        }
        if (Group.RetryBudget is { } budget)
        {
            CountForBudget(budget);
        }
        long at = (Record.FlagVersion << 20) + ListVersion;
        if (at != _triesAt)
        {
            _tries = CountUp(_primary) + CountUp(_backup);
            _triesAt = at;
        }
        return _tries;
    }

    private static int CountUp(List<Peer> peers)
    {
        int n = 0;
        foreach (Peer peer in peers)
        {
            n += (peer.Record.Flags & PeerFlags.Down) != 0 ? 0 : 1;
        }
        return n;
    }

    /// <summary>The next peer for this walk, or null when none can serve. The caller owes its
    /// leaving.</summary>
    public Peer? Enter(ref PeerWalk walk)
    {
        using ZoneLock held = Lock();
        walk.IsBound = false;
        if (walk.ListVersion != ListVersion)
        {
            // The marks are about another list.
            walk.Restart();
            walk.ListVersion = ListVersion;
        }
        if (!walk.Wanted.IsEmpty && walk.IsFresh && !walk.InBackup && FindBound(ref walk) is { } bound)
        {
            walk.IsBound = true;
            return Take(bound);
        }
        Peer? peer = walk.InBackup ? null : Take(_primary, ref walk);
        if (peer is null && _backup.Count > 0)
        {
            if (!walk.InBackup)
            {
                walk.EnterBackup(_backup.Count);
            }
            peer = Take(_backup, ref walk);
        }
        return peer;
    }

    /// <summary>Whether some server could be asked now by whoever has tried none.</summary>
    internal bool HasRoom()
    {
        using ZoneLock held = Lock();
        return HasRoom(_primary) || HasRoom(_backup);
    }

    private bool HasRoom(List<Peer> peers)
    {
        foreach (Peer peer in peers)
        {
            if (peer.Record.CanServe(Loop.NowMs))
            {
                return true;
            }
        }
        return false;
    }

    private Peer? FindBound(ref PeerWalk walk)
    {
        for (int list = 0; list < 2; list++)
        {
            List<Peer> peers = list == 0 ? _primary : _backup;
            for (int i = 0; i < peers.Count; i++)
            {
                if (peers[i].BindName.SequenceEqual(walk.Wanted.Span)
                    && (peers[i].Record.CanServeBound(Loop.NowMs) || IsSingle && !peers[i].Record.IsFull))
                {
                    if (list == 0)
                    {
                        walk.Mark(i);
                    }
                    return peers[i];
                }
            }
        }
        return null;
    }

    private Peer? Take(List<Peer> peers, ref PeerWalk walk)
    {
        if (IsSingle && !walk.InBackup)
        {
            ref PeerRecord only = ref peers[0].Record;
            bool serves = only.Flags == PeerFlags.None && !only.IsFull;
            if (!serves)
            {
                only.UnavailableTotal += only.IsFull ? 1 : 0;
                Wrote();
            }
            return serves ? Take(peers[0]) : null;
        }
        int index = walk.InBackup ? _balancer.ChooseBackup(peers, ref walk) : _balancer.Choose(peers, ref walk);
        if (index < 0)
        {
            return null;
        }
        walk.Mark(index);
        return Take(peers[index]);
    }

    private Peer Take(Peer peer)
    {
        ref PeerRecord record = ref peer.Record;
        long nowSec = Loop.NowMs / 1000;
        if (nowSec - record.CheckedSec > record.FailTimeoutSec && !IsSingle)
        {
            if (record.FailsMax > 0 && record.Fails >= record.FailsMax)
            {
                // This request tries it, no other one does.
                Smooth.Deviate();
            }
            record.CheckedSec = nowSec;
            Wrote();
        }
        if (record.ConnectionsMax > 0 && record.Connections + 1 >= record.ConnectionsMax && !_balancer.CountsRoom)
        {
            Smooth.Deviate();
        }
        if ((record.Flags & PeerFlags.Ejected) != 0)
        {
            // Its time aside is over, else it would not be here.
            SetFlags(ref record, record.Flags & ~PeerFlags.Ejected);
            record.FailuresSeen = 0;
            Wrote();
            Recovered(ref record);
        }
        record.Requests++;
        Wrote();
        record.SelectedUnixMs = Loop.UnixMs;
        Wrote();
        if (peer.IsShared)
        {
            _zone!.Connect(peer.Block);
        }
        else
        {
            record.Connections++;
        }
        peer.LocalConnections++;
        peer.LocalStartsMs += Loop.NowMs;
        _balancer.Counted(peer);
        return peer;
    }

    /// <summary>Ends an attempt. True when the peer has just been put aside for its failures.</summary>
    public bool Leave(ref PeerWalk walk, Peer peer, PeerEnd end) =>
        Leave(ref walk, peer, end, new AttemptFacts(0, Loop.NowMs, -1, 0, 0));

    /// <summary>Ends an attempt, with what was measured of it. True when the peer has just been put aside for its
    /// failures.</summary>
    public bool Leave(ref PeerWalk walk, Peer peer, PeerEnd end, in AttemptFacts facts)
    {
        bool disabled;
        using (Lock())
        {
            ref PeerRecord record = ref peer.Record;
            if (record.IsFull && !_balancer.CountsRoom)
            {
                Smooth.Deviate();
            }
            if (peer.IsShared)
            {
                _zone!.Disconnect(peer.Block);
            }
            else
            {
                record.Connections--;
            }
            peer.LocalConnections--;
            peer.LocalStartsMs -= facts.StartMs;
            Measure(ref record, in facts, end);
            _balancer.Counted(peer);
            if (Group.Ejection is { } ejection)
            {
                Judge(peer, ejection, end == PeerEnd.Failed || facts.Status >= 500);
            }
            if (IsSingle && _primary[0] == peer)
            {
                record.Fails = 0;
                Wrote();
                walk.TriesLeft = 0;
                disabled = false;
            }
            else
            {
                disabled = end == PeerEnd.Failed ? Fail(ref record) : Serve(ref record);
                if (walk.TriesLeft > 0)
                {
                    walk.TriesLeft--;
                }
            }
            if (peer.IsGone && peer.LocalConnections == 0)
            {
                Leave(peer);
            }
        }
        Queue?.Wake();
        return disabled;
    }

    internal void Retire()
    {
        IsRetired = true;
        Idle.CloseAll();
        Multiplexed.RetireAll();
    }

    /// <summary>The last exchange has ended: nothing of this loop stays in the zone.</summary>
    internal void Detach()
    {
        if (_zone is null)
        {
            return;
        }
        using ZoneLock held = Lock();
        foreach (Peer peer in _primary)
        {
            Leave(peer);
        }
        foreach (Peer peer in _backup)
        {
            Leave(peer);
        }
    }

    internal void FreeTexts()
    {
        _textMemory?.Dispose();
        _textMemory = null;
        _texts.Clear();
    }
}
