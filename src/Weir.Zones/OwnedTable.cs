// Counts by key that belong to their owners: how many connections a client has (limit_conn). An entry holds one word
// per owner of its group of slots, life in the upper half, count in the lower, so that a kill leaves a word old or new;
// words of owners that are gone count nothing. Takes the zone's lock itself: a lookup and a write. Allocates nothing.
using System.Runtime.InteropServices;

namespace Weir.Zones;

/// <summary>What came of asking for one more.</summary>
public enum OwnedOutcome
{
    Added,
    Full,

    /// <summary>The zone has no room, and nothing in it could go.</summary>
    NoRoom,
}

/// <summary>Counts of owners by key.</summary>
public sealed class OwnedTable
{
    public const int KeyBytesMax = 255;

    private const int GroupBytes = 2;
    private const int WidthMin = 2, WidthMax = 64;

    /// <summary>Entries that are looked at for one that may go.</summary>
    private const int SweepMax = 64;

    private readonly Zone _zone;
    private readonly SharedTable _table;
    private readonly ZoneOwner _owner;
    private readonly int _width;

    private OwnedTable(Zone zone, SharedTable table, ZoneOwner owner, int width)
    {
        _zone = zone;
        _table = table;
        _owner = owner;
        _width = width;
    }

    /// <summary>Opens table 0 of a zone; the first who does says how many owners an entry has room for. Null when the
    /// zone is too small.</summary>
    public static OwnedTable? Open(Zone zone, int expectedEntries, ZoneOwner owner, int ownersTypical)
    {
        SharedTable? table = SharedTable.Open(zone, 0, expectedEntries);
        if (table is null)
        {
            return null;
        }
        using ZoneLock held = zone.Lock();
        ref long width = ref zone.UserWords.Layout;
        if (width == 0)
        {
            int wanted = Math.Clamp(ownersTypical, WidthMin, WidthMax);
            width = System.Numerics.BitOperations.RoundUpToPowerOf2((uint)wanted);
            zone.Wrote();
        }
        return new OwnedTable(zone, table, owner, (int)width);
    }

    /// <summary>Entries, those of dead owners that nobody met yet included.</summary>
    public int EntryCount => _table.Count;

    /// <summary>Counts one more for this owner, unless all owners together have <paramref name="max"/>.</summary>
    public OwnedOutcome TryAdd(ReadOnlySpan<byte> key, int max)
    {
        Span<byte> grouped = stackalloc byte[KeyBytesMax + GroupBytes];
        uint hash = SharedTable.HashOf(key);
        int group = (_owner.Slot - 1) / _width;
        using ZoneLock held = _zone.Lock();
        if (Total(key, hash, grouped) >= max)
        {
            return OwnedOutcome.Full;
        }
        ReadOnlySpan<byte> own = Grouped(key, group, grouped);
        uint ownHash = HashOf(hash, group);
        uint entry = _table.Find(own, ownHash);
        if (entry == 0)
        {
            entry = _table.Add(own, ownHash, _width * sizeof(long));
            if (entry == 0 && Sweep())
            {
                entry = _table.Add(own, ownHash, _width * sizeof(long));
            }
            if (entry == 0)
            {
                return OwnedOutcome.NoRoom;
            }
        }
        else
        {
            _table.Touch(entry);
        }
        ref long word = ref OwnWord(entry);
        Volatile.Write(ref word, Word(CountOf(word, _owner.Slot) + 1));
        _zone.Wrote();
        return OwnedOutcome.Added;
    }

    /// <summary>Takes back what <see cref="TryAdd"/> counted.</summary>
    public void Remove(ReadOnlySpan<byte> key)
    {
        Span<byte> grouped = stackalloc byte[KeyBytesMax + GroupBytes];
        int group = (_owner.Slot - 1) / _width;
        uint hash = HashOf(SharedTable.HashOf(key), group);
        using ZoneLock held = _zone.Lock();
        uint entry = _table.Find(Grouped(key, group, grouped), hash);
        if (entry == 0)
        {
            return;
        }
        ref long word = ref OwnWord(entry);
        uint count = CountOf(word, _owner.Slot);
        Volatile.Write(ref word, count > 1 ? Word(count - 1) : 0);
        _zone.Wrote();
        if (TotalOf(entry) == 0)
        {
            _table.Remove(entry);
        }
    }

    /// <summary>The count of all living owners.</summary>
    public long Count(ReadOnlySpan<byte> key)
    {
        Span<byte> grouped = stackalloc byte[KeyBytesMax + GroupBytes];
        using ZoneLock held = _zone.Lock();
        return Total(key, SharedTable.HashOf(key), grouped);
    }

    private long Total(ReadOnlySpan<byte> key, uint hash, Span<byte> grouped)
    {
        long total = 0;
        int groups = ((_owner.SlotsUsed - 1) / _width) + 1;
        for (int group = 0; group < groups; group++)
        {
            uint entry = _table.Find(Grouped(key, group, grouped), HashOf(hash, group));
            if (entry != 0)
            {
                total += TotalOf(entry);
            }
        }
        return total;
    }

    private long TotalOf(uint entry)
    {
        int first = FirstSlot(entry);
        long total = 0;
        Span<long> words = WordsOf(entry);
        for (int i = 0; i < _width; i++)
        {
            total += CountOf(words[i], first + i);
        }
        return total;
    }

    /// <summary>Lets an entry go in which nobody counts any more. Those that stay are the newest from now on, so that
    /// the next sweep looks at others.</summary>
    private bool Sweep()
    {
        for (int i = 0; i < SweepMax && _table.Oldest is not 0 and uint oldest; i++)
        {
            if (TotalOf(oldest) == 0)
            {
                _table.Remove(oldest);
                return true;
            }
            _table.Touch(oldest);
        }
        return false;
    }

    private Span<long> WordsOf(uint entry) => MemoryMarshal.Cast<byte, long>(_table.Value(entry));

    private ref long OwnWord(uint entry) => ref WordsOf(entry)[(_owner.Slot - 1) % _width];

    private int FirstSlot(uint entry)
    {
        ReadOnlySpan<byte> group = _table.Key(entry)[^GroupBytes..];
        return ((group[0] | (group[1] << 8)) * _width) + 1;
    }

    private uint CountOf(long word, int slot) => word != 0 && _owner.IsLive(slot, (uint)(word >> 32)) ? (uint)word : 0;

    private long Word(uint count) => ((long)_owner.Life << 32) | count;

    private static uint HashOf(uint hash, int group) => hash + ((uint)group * 0x9e3779b1);

    private static ReadOnlySpan<byte> Grouped(ReadOnlySpan<byte> key, int group, Span<byte> into)
    {
        key.CopyTo(into);
        into[key.Length] = (byte)group;
        into[key.Length + 1] = (byte)(group >> 8);
        return into[..(key.Length + GroupBytes)];
    }
}
