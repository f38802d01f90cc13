// Groups whose state all workers share (`zone` in an upstream): a table of groups and one of servers in a zone. A
// server's entry holds its PeerRecord and a word per worker: life, lists that name it, connections; workers beyond
// those the zone was laid out for have their words in further entries. The total of connections is kept beside and
// made anew when a worker has gone or the zone was repaired, so that no kill leaks a connection. Everything but Lock
// itself is called under the zone's lock.
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Weir.Zones;

namespace Weir.Session.Upstream;

/// <summary>One zone with groups in it, as one process sees it.</summary>
public sealed partial class GroupZone
{
    public const ulong Layout = 0x5053_0000_0000_0007;

    /// <summary>About what a server takes, for the size that a zone must have at least.</summary>
    public const int PeerBytesTypical = 1024 + 32;

    private const int WordsMin = 16, WordsMax = 128;
    private const int UseShift = 24;
    private const int GroupBytes = 2;
    private const uint ConnectionsMask = (1u << UseShift) - 1;

    private readonly Zone _zone;
    private readonly SharedTable _groups;
    private readonly SharedTable _peers;
    private readonly SharedTable _lines;
    private readonly SharedTable _rows;
    private readonly SharedTable _beyond;
    private readonly int _words;

    private GroupZone(Zone zone, SharedTable groups, SharedTable peers, SharedTable lines, SharedTable rows,
        SharedTable beyond, ZoneOwner owner, int words)
    {
        _beyond = beyond;
        _rows = rows;
        _zone = zone;
        _groups = groups;
        _peers = peers;
        _lines = lines;
        Owner = owner;
        _words = words;
    }

    public ZoneOwner Owner { get; }

    /// <summary>Opens the tables; null when the zone is too small even for them.</summary>
    public static GroupZone? Open(Zone zone, ZoneOwner owner, int workers)
    {
        SharedTable? groups = SharedTable.Open(zone, 0, 64);
        SharedTable? peers = SharedTable.Open(zone, 1, 256);
        SharedTable? lines = SharedTable.Open(zone, 2, 256);
        SharedTable? rows = SharedTable.Open(zone, 3, 64);
        SharedTable? beyond = SharedTable.Open(zone, 4, 64);
        if (groups is null || peers is null || lines is null || rows is null || beyond is null)
        {
            return null;
        }
        using ZoneLock held = zone.Lock();
        if (zone.UserWords.Layout == 0)
        {
            int wanted = Math.Clamp(workers * 2, WordsMin, WordsMax);
            zone.UserWords.Layout = System.Numerics.BitOperations.RoundUpToPowerOf2((uint)wanted);
            zone.Wrote();
        }
        return new GroupZone(zone, groups, peers, lines, rows, beyond, owner, (int)zone.UserWords.Layout);
    }

    /// <summary>Takes the lock, and counts anew when that is due.</summary>
    public ZoneLock Lock()
    {
        ZoneLock held = _zone.Lock();
        ref ZoneUserWords words = ref _zone.UserWords;
        if (words.SeenDepartures != Owner.Departures || words.SeenRepairs != _zone.RepairCount)
        {
            Recount();
        }
        return held;
    }

    /// <summary>The group's entry, made when it is missing; 0 when there is no room.</summary>
    internal uint Group(ReadOnlySpan<byte> name)
    {
        uint hash = SharedTable.HashOf(name);
        uint entry = _groups.Find(name, hash);
        return entry != 0 ? entry
            : _groups.Add(name, hash, Unsafe.SizeOf<GroupRecord>() + (_words * sizeof(long)));
    }

    internal ref GroupRecord GroupOf(uint entry) => ref _groups.Value<GroupRecord>(entry);

    /// <summary>The entry of a server, made when it is missing, with one use more by this process; 0 when there is no
    /// room.</summary>
    internal uint Attach(ReadOnlySpan<byte> key, PeerSpec spec)
    {
        uint hash = SharedTable.HashOf(key);
        uint entry = _peers.Find(key, hash);
        if (entry == 0)
        {
            int bytes = Unsafe.SizeOf<PeerRecord>() + (_words * sizeof(long));
            entry = _peers.Add(key, hash, bytes);
            while (entry == 0 && DropUnused())
            {
                entry = _peers.Add(key, hash, bytes);
            }
            if (entry == 0)
            {
                return 0;
            }
        }
        if (!MakeOwnWord(entry))
        {
            return 0;
        }
        ref PeerRecord record = ref Record(entry);
        if (record.SpecStamp == 0)
        {
            // Its stamp last: until then it is written again.
            Peer.Write(ref record, spec);
            WroteMany();
            record.SpecStamp = spec.Stamp;
            Wrote();
        }
        Change(entry, uses: 1, connections: 0);
        return entry;
    }

    /// <summary>The dense rows of a group's list, which have at least so many bytes; 0 when there is no room.</summary>
    internal uint MakeRows(ReadOnlySpan<byte> group, bool backup, int bytes)
    {
        Span<byte> key = stackalloc byte[group.Length + 1];
        group.CopyTo(key);
        key[^1] = (byte)(backup ? 2 : 1);
        uint hash = SharedTable.HashOf(key);
        uint entry = _rows.Find(key, hash);
        if (entry != 0 && _rows.Value(entry).Length < bytes)
        {
            _rows.Remove(entry);
            entry = 0;
        }
        return entry != 0 ? entry : _rows.Add(key, hash, bytes);
    }

    internal Span<byte> Rows(uint entry) => _rows.Value(entry);

    /// <summary>One use less; the entry stays until its room is needed.</summary>
    internal void Detach(uint entry) => Change(entry, uses: -1, connections: 0);

    internal ref PeerRecord Record(uint entry) => ref _peers.Value<PeerRecord>(entry);

    /// <summary>Counts a connection of this process: its own word first, the total may be made anew from it.</summary>
    internal void Connect(uint entry)
    {
        if (Change(entry, uses: 0, connections: 1))
        {
            Record(entry).Connections++;
            Wrote();
        }
    }

    internal void Disconnect(uint entry)
    {
        ref PeerRecord record = ref Record(entry);
        if (Change(entry, uses: 0, connections: -1) && record.Connections > 0)
        {
            record.Connections--;
            Wrote();
        }
    }

    /// <summary>Behind every write under the lock: see <see cref="Zone.Wrote"/>.</summary>
    [Conditional("DEBUG")]
    internal void Wrote([CallerFilePath] string file = "", [CallerLineNumber] int line = 0) => _zone.Wrote(file, line);

    [Conditional("DEBUG")]
    internal void WroteMany([CallerFilePath] string file = "", [CallerLineNumber] int line = 0) =>
        _zone.WroteMany(file, line);

    private bool Change(uint entry, int uses, int connections)
    {
        uint holder = Holder(entry, (Owner.Slot - 1) / _words);
        if (holder == 0)
        {
            return false;
        }
        ref long word = ref WordsOf(entry, holder)[(Owner.Slot - 1) % _words];
        uint low = (uint)(word >> 32) == Owner.Life ? (uint)word : 0;
        int open = Math.Max((int)(low & ConnectionsMask) + connections, 0);
        int used = Math.Clamp((int)(low >> UseShift) + uses, 0, 255);
        Volatile.Write(ref word, ((long)Owner.Life << 32) | ((uint)used << UseShift) | (uint)open);
        Wrote();
        return true;
    }

    private void Recount()
    {
        ref ZoneUserWords seen = ref _zone.UserWords;
        long departures = Owner.Departures;
        int repairs = _zone.RepairCount;
        bool repaired = seen.SeenRepairs != repairs;
        bool changes = repaired;
        bool counts = repaired;
        for (uint entry = _peers.Oldest; entry != 0; entry = _peers.Newer(entry))
        {
            (int _, int connections) = Living(entry);
            ref PeerRecord record = ref Record(entry);
            changes |= record.ConnectionsMax > 0 && record.Connections != connections;
            counts |= record.Connections != connections;
            record.Connections = connections;
            Wrote();
            if (repaired)
            {
                // Weights in turn may have been left between two steps.
                record.CurrentWeight = 0;
                Wrote();
                record.EffectiveWeight = Math.Min(record.EffectiveWeight, record.Weight);
                Wrote();
            }
        }
        for (uint entry = counts ? _groups.Oldest : 0; entry != 0; entry = _groups.Newer(entry))
        {
            ref GroupRecord group = ref GroupOf(entry);
            group.Recounts++;
            Wrote();
            if (repaired)
            {
                // Who died may have changed a server's flags and not yet said so.
                group.FlagVersion++;
                Wrote();
            }
        }
        for (uint entry = changes ? _groups.Oldest : 0; entry != 0; entry = _groups.Newer(entry))
        {
            ref GroupRecord group = ref GroupOf(entry);
            // A list of servers may have been left between a change and its announcement.
            group.ListVersion += repaired ? 1 : 0;
            Wrote();
            if (repaired || (group.Table | group.BackupTable) == 0)
            {
                group.Position = 0;
                Wrote();
                group.Version++;
                Wrote();
            }
        }
        seen.SeenDepartures = departures;
        Wrote();
        seen.SeenRepairs = repairs;
        Wrote();
    }

    /// <summary>Uses and connections of the processes that live.</summary>
    internal (int Uses, int Connections) Living(uint entry)
    {
        int uses = 0, connections = 0;
        int groups = ((Owner.SlotsUsed - 1) / _words) + 1;
        for (int group = 0; group < groups; group++)
        {
            uint holder = Holder(entry, group);
            Span<long> words = holder == 0 ? default : WordsOf(entry, holder);
            for (int i = 0; i < words.Length; i++)
            {
                long word = words[i];
                if (word != 0 && Owner.IsLive((group * _words) + i + 1, (uint)(word >> 32)))
                {
                    uses += (int)((uint)word >> UseShift);
                    connections += (int)((uint)word & ConnectionsMask);
                }
            }
        }
        return (uses, connections);
    }

    // Words of workers whose slots come in groups as large as the zone was laid out for: those of the first group stand
    // in the server's own entry, those of each further one in an entry of its own, made by the first who needs it.

    /// <summary>The entry that has the words of a group of slots; 0 when nobody made it.</summary>
    private uint Holder(uint entry, int group)
    {
        if (group == 0)
        {
            return entry;
        }
        ReadOnlySpan<byte> key = _peers.Key(entry);
        Span<byte> grouped = stackalloc byte[key.Length + GroupBytes];
        Grouped(key, group, grouped);
        return _beyond.Find(grouped, SharedTable.HashOf(grouped));
    }

    /// <summary>Makes room for this process's word; false when there is none.</summary>
    private bool MakeOwnWord(uint entry)
    {
        int group = (Owner.Slot - 1) / _words;
        if (Holder(entry, group) != 0)
        {
            return true;
        }
        ReadOnlySpan<byte> key = _peers.Key(entry);
        Span<byte> grouped = stackalloc byte[key.Length + GroupBytes];
        Grouped(key, group, grouped);
        return _beyond.Add(grouped, SharedTable.HashOf(grouped), _words * sizeof(long)) != 0;
    }

    private static void Grouped(ReadOnlySpan<byte> key, int group, Span<byte> into)
    {
        key.CopyTo(into);
        into[^2] = (byte)group;
        into[^1] = (byte)(group >> 8);
    }

    private Span<long> WordsOf(uint entry, uint holder) => MemoryMarshal.Cast<byte, long>(holder == entry
        ? _peers.Value(entry)[Unsafe.SizeOf<PeerRecord>()..] : _beyond.Value(holder))[.._words];

    private bool DropUnused()
    {
        for (uint entry = _peers.Oldest; entry != 0; entry = _peers.Newer(entry))
        {
            if (Living(entry) == (0, 0))
            {
                for (int group = (Owner.SlotsUsed - 1) / _words; group > 0; group--)
                {
                    if (Holder(entry, group) is not 0 and uint holder)
                    {
                        _beyond.Remove(holder);
                    }
                }
                _peers.Remove(entry);
                return true;
            }
        }
        return false;
    }
}
