// A group's list of servers while it serves: what its zone says, which the API changes in any worker and all others
// follow, and what the API shows. Changes are rare; they allocate under the zone's lock. One loop's thread.
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Session.Upstream;

/// <summary>How a change of the list of servers ended.</summary>
public enum ListChange
{
    Done,
    Unknown,
    Exists,
    NoRoom,
}

/// <summary>What the API shows of a group.</summary>
public readonly record struct GroupView(int Idle, int Zombies, int Queued, long QueueOverflows);

public sealed partial class GroupState
{
    private readonly Dictionary<string, NativeSlice> _texts = [];
    private NativeArena? _textMemory;
    private PeerSpec[] _primarySpecs = [];
    private PeerSpec[] _backupSpecs = [];
    private int _listSeen;
    private bool _follows;

    /// <summary>The list of servers may be changed while it serves.</summary>
    public bool IsDynamic => _follows;

    /// <summary>The servers as they are written down now.</summary>
    public IReadOnlyList<ServerLine> Lines { get; private set; } = [];

    private void BeginList(ServerLine[] lines)
    {
        using (Lock())
        {
            ref GroupRecord record = ref Record;
            if (record.ListStamp != Group.Stamp)
            {
                record.ListStamp = 0;
                Wrote();
                if (!_zone!.Begin(Group.Name.Span, Group.Stamp, lines))
                {
                    Loop.Report?.Invoke(LogLevel.Error,
                        $"the zone of upstream \"{Group.Name}\" has no room for a list of its servers", 0);
                    return;
                }
                record.NextId = Math.Max(record.NextId, lines.Length);
                Wrote();
                record.ListVersion++;
                Wrote();
                record.ListStamp = Group.Stamp;
                Wrote();
            }
            _follows = true;
            _listSeen = record.ListVersion - 1;
        }
        TellHeld();
        Follow();
    }

    /// <summary>Takes over what other workers made of the list.</summary>
    public void Follow()
    {
        if (!_follows || IsRetired)
        {
            return;
        }
        List<ServerLine> lines;
        using (Lock())
        {
            ref GroupRecord record = ref Record;
            if (record.ListVersion == _listSeen)
            {
                return;
            }
            _listSeen = record.ListVersion;
            if (record.ListStamp != Group.Stamp)
            {
                // Another reading of the configuration is in force: this one keeps the servers it has.
                _follows = false;
                return;
            }
            lines = _zone!.Lines(Group.Name.Span, Group.Stamp);
        }
        Use(lines);
    }

    private void Use(List<ServerLine> lines)
    {
        Lines = lines;
        var primary = new List<PeerSpec>();
        var backup = new List<PeerSpec>();
        foreach (ServerLine line in lines)
        {
            if (!line.IsNamed && SocketAddress.TryParse(line.Server, 80, out SocketAddress? address, out string _))
            {
                (line.IsBackup ? backup : primary).Add(SpecOf(line, address!.Native.ToArray()));
            }
        }
        _primarySpecs = [.. primary];
        _backupSpecs = [.. backup];
        Name([.. lines.Where(static l => l.IsNamed)]);
        AssignAll();
        Queue?.Wake();
    }

    /// <summary>A server of a line at an address.</summary>
    internal PeerSpec SpecOf(ServerLine line, byte[] address) => line.ToSpec(address, Store, Group.ChecksFirst);

    private NativeSlice Store(string text)
    {
        if (!_texts.TryGetValue(text, out NativeSlice stored))
        {
            stored = (_textMemory ??= new NativeArena()).Store(text);
            _texts.Add(text, stored);
        }
        return stored;
    }

    private void Name(ServerLine[] named)
    {
        if (named.Length > 0 && Named is null && Group.Resolver is not null)
        {
            Named = new NamedPeers(this);
        }
        Named?.Watch(named);
    }

    /// <summary>Makes the peers those of the lines and of the names' addresses.</summary>
    internal void AssignAll()
    {
        Assign([.. _primarySpecs, .. Named?.Found(backup: false) ?? []]);
        Assign([.. _backupSpecs, .. Named?.Found(backup: true) ?? []], backup: true);
    }

    /// <summary>Writes what the configuration says into a record that says something else. Under the lock.</summary>
    private bool Configure(Peer peer)
    {
        PeerSpec spec = peer.Spec;
        ref PeerRecord record = ref peer.Record;
        bool wasDown = (record.Flags & PeerFlags.Down) != 0;
        bool changed = Peer.Configure(ref record, spec, this);
        if (changed)
        {
            Record.FlagVersion++;
            Wrote();
        }
        if (spec.Down && record.DownSinceMs == 0)
        {
            record.DownSinceMs = Loop.NowMs;
            Wrote();
        }
        else if (changed && wasDown && !spec.Down && (record.Flags & PeerFlags.Unhealthy) == 0)
        {
            Recovered(ref record);
        }
        if (spec.Line is not { IsNamed: true })
        {
            record.Id = spec.Id;
            Wrote();
        }
        else if (record.Id == 0 || record.IdStamp != Group.Stamp)
        {
            int id = Record.NextId++;
            Wrote();
            record.Id = id;
            Wrote();
        }
        record.IdStamp = Group.Stamp;
        Wrote();
        return changed;
    }

    // What the API does.

    /// <summary>The line with the number that a server of the list has; null when there is none.</summary>
    public ServerLine? LineOf(int id)
    {
        Follow();
        return Lines.FirstOrDefault(l => l.Id == id);
    }

    /// <summary>The server of a name with this number; null when there is none.</summary>
    public Peer? ChildOf(int id)
    {
        using ZoneLock held = Lock();
        return _primary.Concat(_backup).FirstOrDefault(p => p.Spec.Line is { IsNamed: true } && p.Record.Id == id);
    }

    /// <summary>Adds a server; the line comes back with its number.</summary>
    public ListChange Add(ref ServerLine line)
    {
        Follow();
        using (Lock())
        {
            ref GroupRecord record = ref Record;
            if (record.ListStamp != Group.Stamp)
            {
                return ListChange.Unknown;
            }
            foreach (ServerLine known in _zone!.Lines(Group.Name.Span, Group.Stamp))
            {
                if (known.Server == line.Server && known.Service == line.Service && known.IsBackup == line.IsBackup)
                {
                    return ListChange.Exists;
                }
            }
            // The number is taken first: who dies after the line was put leaves one unused, not one to be used again.
            line = line with { Id = record.NextId++ };
            Wrote();
            if (!_zone.Put(Group.Name.Span, Group.Stamp, line))
            {
                record.NextId--;
                Wrote();
                return ListChange.NoRoom;
            }
            record.ListVersion++;
            Wrote();
        }
        Follow();
        return ListChange.Done;
    }

    /// <summary>Puts a line in the place of the one with its number.</summary>
    public ListChange Change(ServerLine line) => Change(line.Id, line);

    /// <summary>Changes what is known of one server of a name, for all workers, until its line changes.</summary>
    public void ChangeChild(Peer child, ServerLine line)
    {
        using ZoneLock held = Lock();
        Smooth.Settle();
        ref PeerRecord record = ref child.Record;
        bool wasDown = (record.Flags & PeerFlags.Down) != 0;
        if (record.Weight != line.Weight)
        {
            record.Weight = line.Weight;
            Wrote();
            record.EffectiveWeight = line.Weight;
            Wrote();
            record.CurrentWeight = 0;
            Wrote();
        }
        record.ConnectionsMax = line.ConnectionsMax;
        Wrote();
        record.FailsMax = line.FailsMax;
        Wrote();
        record.FailTimeoutSec = line.FailTimeoutSec;
        Wrote();
        SetFlags(ref record, (record.Flags & ~(PeerFlags.Down | PeerFlags.Drain))
            | (line.IsDown ? PeerFlags.Down : 0) | (line.IsDraining ? PeerFlags.Drain : 0));
        if (line.IsDown && !wasDown && record.DownSinceMs == 0)
        {
            record.DownSinceMs = Loop.NowMs;
            Wrote();
        }
        else if (wasDown && !line.IsDown && (record.Flags & PeerFlags.Unhealthy) == 0)
        {
            Recovered(ref record);
        }
    }

    /// <summary>Takes a server out.</summary>
    public ListChange Remove(int id) => Change(id, null);

    private ListChange Change(int id, ServerLine? line)
    {
        using (Lock())
        {
            ref GroupRecord record = ref Record;
            if (record.ListStamp != Group.Stamp
                || !_zone!.Lines(Group.Name.Span, Group.Stamp).Exists(l => l.Id == id))
            {
                return ListChange.Unknown;
            }
            if (line is null)
            {
                _zone.Remove(Group.Name.Span, Group.Stamp, id);
            }
            else if (!_zone.Put(Group.Name.Span, Group.Stamp, line))
            {
                return ListChange.NoRoom;
            }
            record.ListVersion++;
            Wrote();
        }
        Follow();
        return ListChange.Done;
    }

    /// <summary>The list as a state file has it, and which version of it that is.</summary>
    public (string Text, int Version) ToConf()
    {
        Follow();
        return (string.Concat(Lines.Select(static l => l.ToConf())), _listSeen);
    }

    /// <summary>Sets the counts of all servers to nothing.</summary>
    public void ClearStatistics()
    {
        using ZoneLock held = Lock();
        Smooth.Settle();
        Record.QueueOverflows = 0;
        Wrote();
        foreach (Peer peer in _primary)
        {
            peer.Record.ClearStatistics(this);
        }
        foreach (Peer peer in _backup)
        {
            peer.Record.ClearStatistics(this);
        }
    }

    /// <summary>What is counted of the group as a whole. Takes the lock.</summary>
    public GroupView View()
    {
        if (_zone is null)
        {
            return new GroupView(Idle.Count, 0, Queue?.Count ?? 0, Record.QueueOverflows);
        }
        using ZoneLock held = Lock();
        (int idle, int queued) = _zone.Held(_entry);
        int zombies = _zone.Zombies(Group.Name.Span,
            block => _primary.Exists(p => p.Block == block) || _backup.Exists(p => p.Block == block));
        return new GroupView(idle, zombies, queued, Record.QueueOverflows);
    }

    /// <summary>A copy of what is known of a server. Takes the lock.</summary>
    public PeerRecord Copy(Peer peer)
    {
        using ZoneLock held = Lock();
        return peer.Record;
    }

    /// <summary>The number of idle connections or of places in the queue has changed.</summary>
    internal void TellHeld()
    {
        // One that is retired shares its word with the one that came after it.
        if (_zone is not null && !IsRetired)
        {
            _zone.SetHeld(_entry, Idle.Count, Queue?.Count ?? 0);
        }
    }

    internal void CountOverflow()
    {
        using ZoneLock held = Lock();
        Record.QueueOverflows++;
        Wrote();
    }
}
