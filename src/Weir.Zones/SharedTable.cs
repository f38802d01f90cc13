// A hash table with an LRU order inside a zone: entries found by bytes, oldest last used first to go. Limits, caches,
// sticky sessions are such tables. An entry is one block: header, value, key. Up to eight tables share a zone.
// Every method is called under the zone's lock. An entry is whole once its tag is set (last) and gone once its tag is
// cleared (first), so a repair after a killed holder only has to link the tagged ones again.
using System.Runtime.InteropServices;

namespace Weir.Zones;

/// <summary>One table of a zone. Entries are named by block number; 0 is none.</summary>
public sealed class SharedTable
{
    public const int KeyBytesMax = ushort.MaxValue;

    /// <summary>What an entry costs beside its key and value.</summary>
    public const int EntryOverheadBytes = 40;

    private readonly Zone _zone;
    private readonly int _index;

    private SharedTable(Zone zone, int index)
    {
        _zone = zone;
        _index = index;
    }

    /// <summary>Entries in the table.</summary>
    public int Count => Root.Count;

    /// <summary>The entry used longest ago, or 0.</summary>
    public uint Oldest => Root.LruLast;

    private ref TableRoot Root => ref RootOf(_zone, _index);

    private uint OwnTag => (uint)_index + 1;

    /// <summary>
    /// Opens table <paramref name="index"/> (0 to 7), making it on first use with about <paramref
    /// name="expectedEntries"/> entries in mind. Takes the lock itself. Null when the zone is too small for its
    /// buckets.
    /// </summary>
    public static SharedTable? Open(Zone zone, int index, int expectedEntries)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)ZoneHeader.TablesMax);
        using ZoneLock held = zone.Lock();
        ref TableRoot root = ref RootOf(zone, index);
        if (root.Buckets == 0)
        {
            int wanted = Math.Clamp(expectedEntries, 64, 1 << 22);
            int buckets = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)wanted);
            uint block = zone.Slab.Allocate(8 + (buckets * sizeof(uint)));
            if (block == 0)
            {
                return null;
            }
            root.BucketCount = buckets;
            zone.Wrote();
            // A repair takes the block back unless the table's head names it.
            zone.Slab.Tag(block) = ZoneSlab.PermanentTag;
            zone.Wrote();
            Volatile.Write(ref root.Buckets, block);
            zone.Wrote();
        }
        return new SharedTable(zone, index);
    }

    /// <summary>FNV-1a with a final mix: spreads short keys well enough for buckets.</summary>
    public static uint HashOf(ReadOnlySpan<byte> key)
    {
        uint hash = 2166136261;
        foreach (byte b in key)
        {
            hash = (hash ^ b) * 16777619;
        }
        hash ^= hash >> 15;
        hash *= 0x2c1b3c6d;
        return hash ^ (hash >> 12);
    }

    /// <summary>The entry of a key, or 0. Does not count as a use: see <see cref="Touch"/>.</summary>
    public uint Find(ReadOnlySpan<byte> key, uint hash)
    {
        for (uint at = Bucket(hash); at != 0; at = Entry(at).Chain)
        {
            ref EntryHeader entry = ref Entry(at);
            if (entry.Hash == hash && entry.KeyBytes == key.Length && Key(at).SequenceEqual(key))
            {
                return at;
            }
        }
        return 0;
    }

    /// <summary>
    /// Adds an entry with a zero-filled value, newest in the order; 0 when the zone is full (drop the oldest, try
    /// again). The key must not be in the table.
    /// </summary>
    public uint Add(ReadOnlySpan<byte> key, uint hash, int valueBytes)
    {
        if (key.Length > KeyBytesMax)
        {
            return 0;
        }
        uint at = _zone.Slab.Allocate(EntryOverheadBytes + ((valueBytes + 7) & ~7) + key.Length);
        if (at == 0)
        {
            return 0;
        }
        ref EntryHeader entry = ref Entry(at);
        entry.Hash = hash;
        _zone.Wrote();
        entry.KeyBytes = (ushort)key.Length;
        _zone.Wrote();
        entry.ValueBytes = valueBytes;
        _zone.Wrote();
        Stamp(at);
        key.CopyTo(_zone.Bytes(KeyOffset(at, valueBytes), key.Length));
        _zone.WroteMany();
        Link(at);
        Volatile.Write(ref entry.Tag, OwnTag);
        _zone.Wrote();
        return at;
    }

    /// <summary>Makes the entry the newest.</summary>
    public void Touch(uint at)
    {
        Stamp(at);
        if (Root.LruFirst != at)
        {
            LruRemove(at);
            LruPush(at);
        }
    }

    private void Stamp(uint at)
    {
        ulong stamp = ++_zone.Header.Stamp;
        _zone.Wrote();
        Entry(at).Stamp = stamp;
        _zone.Wrote();
    }

    /// <summary>Takes an entry out and gives its block back.</summary>
    public void Remove(uint at)
    {
        ref EntryHeader entry = ref Entry(at);
        Volatile.Write(ref entry.Tag, 0u);
        _zone.Wrote();
        ref uint from = ref Bucket(entry.Hash);
        while (from != at)
        {
            if (from == 0)
            {
                throw new InvalidOperationException("an entry is removed that is not in the table");
            }
            from = ref Entry(from).Chain;
        }
        from = entry.Chain;
        _zone.Wrote();
        LruRemove(at);
        Root.Count--;
        _zone.Wrote();
        _zone.Slab.Release(at);
    }

    /// <summary>Removes the entry used longest ago; false when there is none.</summary>
    public bool RemoveOldest()
    {
        uint oldest = Oldest;
        if (oldest != 0)
        {
            Remove(oldest);
        }
        return oldest != 0;
    }

    /// <summary>The next entry towards the newest, or 0.</summary>
    public uint Newer(uint at) => Entry(at).LruPrevious;

    public ReadOnlySpan<byte> Key(uint at)
    {
        ref EntryHeader entry = ref Entry(at);
        return _zone.Bytes(KeyOffset(at, entry.ValueBytes), entry.KeyBytes);
    }

    public Span<byte> Value(uint at) => _zone.Bytes(ValueOffset(at), Entry(at).ValueBytes);

    /// <summary>The value as a struct; writes to one aligned field of it survive a kill whole.</summary>
    public ref T Value<T>(uint at)
        where T : unmanaged => ref _zone.At<T>(ValueOffset(at));

    /// <summary>
    /// Forgets a table's chains and order and makes them anew from its complete entries, oldest first.
    /// </summary>
    internal static void Unlink(Zone zone, int index)
    {
        ref TableRoot root = ref RootOf(zone, index);
        if (root.Buckets == 0)
        {
            return;
        }
        var table = new SharedTable(zone, index);
        zone.Bytes(((long)root.Buckets * ZoneSlab.UnitBytes) + 8, root.BucketCount * sizeof(uint)).Clear();
        zone.WroteMany();
        root.LruFirst = root.LruLast = 0;
        zone.Wrote();
        root.Count = 0;
        zone.Wrote();
        var blocks = new List<uint>();
        zone.Slab.CollectTagged(blocks);
        blocks.RemoveAll(block => zone.Slab.Tag(block) != table.OwnTag);
        blocks.Sort((a, b) => table.Entry(a).Stamp.CompareTo(table.Entry(b).Stamp));
        foreach (uint block in blocks)
        {
            table.Link(block);
        }
    }

    /// <summary>Whether some table's buckets lie in this block.</summary>
    internal static bool IsBuckets(Zone zone, uint block)
    {
        for (int i = 0; i < ZoneHeader.TablesMax; i++)
        {
            if (RootOf(zone, i).Buckets == block)
            {
                return true;
            }
        }
        return false;
    }

    private static ref TableRoot RootOf(Zone zone, int index) =>
        ref zone.At<TableRoot>(ZoneHeader.TablesOffset + (index * 64));

    private static long ValueOffset(uint at) => ((long)at * ZoneSlab.UnitBytes) + EntryOverheadBytes;

    private static long KeyOffset(uint at, int valueBytes) => ValueOffset(at) + ((valueBytes + 7) & ~7);

    private ref EntryHeader Entry(uint at) => ref _zone.At<EntryHeader>((long)at * ZoneSlab.UnitBytes);

    private ref uint Bucket(uint hash)
    {
        ref TableRoot root = ref Root;
        long slot = hash & ((uint)root.BucketCount - 1);
        return ref _zone.At<uint>(((long)root.Buckets * ZoneSlab.UnitBytes) + 8 + (slot * sizeof(uint)));
    }

    private void Link(uint at)
    {
        ref EntryHeader entry = ref Entry(at);
        ref uint bucket = ref Bucket(entry.Hash);
        entry.Chain = bucket;
        _zone.Wrote();
        bucket = at;
        _zone.Wrote();
        LruPush(at);
        Root.Count++;
        _zone.Wrote();
    }

    private void LruPush(uint at)
    {
        ref TableRoot root = ref Root;
        ref EntryHeader entry = ref Entry(at);
        entry.LruPrevious = 0;
        _zone.Wrote();
        entry.LruNext = root.LruFirst;
        _zone.Wrote();
        if (root.LruFirst != 0)
        {
            Entry(root.LruFirst).LruPrevious = at;
            _zone.Wrote();
        }
        else
        {
            root.LruLast = at;
            _zone.Wrote();
        }
        root.LruFirst = at;
        _zone.Wrote();
    }

    private void LruRemove(uint at)
    {
        ref TableRoot root = ref Root;
        ref EntryHeader entry = ref Entry(at);
        if (entry.LruPrevious != 0)
        {
            Entry(entry.LruPrevious).LruNext = entry.LruNext;
            _zone.Wrote();
        }
        else
        {
            root.LruFirst = entry.LruNext;
            _zone.Wrote();
        }
        if (entry.LruNext != 0)
        {
            Entry(entry.LruNext).LruPrevious = entry.LruPrevious;
            _zone.Wrote();
        }
        else
        {
            root.LruLast = entry.LruPrevious;
            _zone.Wrote();
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct TableRoot
    {
        public uint Buckets;
        public int BucketCount;
        public uint LruFirst;
        public uint LruLast;
        public int Count;
    }

    [StructLayout(LayoutKind.Sequential, Size = EntryOverheadBytes)]
    private struct EntryHeader
    {
        public uint Tag;
        public uint Hash;
        public uint Chain;
        public uint LruPrevious;
        public uint LruNext;
        public ushort KeyBytes;
        public ushort Spare;
        public int ValueBytes;
        public uint Spare2;
        public ulong Stamp;
    }
}
