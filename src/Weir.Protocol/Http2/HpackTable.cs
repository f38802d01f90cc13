// HPACK's dynamic table (RFC 7541 §2.3.2, §4): fields in the order they were added, names and values one after the
// other in one array that grows with what is put in, up to four times the table's size. Nothing is allocated before
// the first field. Owned by one decoder or encoder.
namespace Weir.Protocol.Http2;

internal sealed class HpackTable(int sizeMax)
{
    /// <summary>What each entry counts beyond its bytes (§4.1).</summary>
    public const int Overhead = 32;

    /// <summary>The largest table: places in its array of four times that fit 16 bits.</summary>
    private const int SizeLimit = 16 * 1024 - 1;

    private struct Entry
    {
        public ushort Start;
        public ushort NameLength;
        public ushort ValueLength;
        // What the owner wants to know about it again.
        public ushort Tag;
    }

    private Entry[] _entries = [];
    private byte[] _bytes = [];
    private int _first;
    private int _end;

    public int Count { get; private set; }
    public int Size { get; private set; }
    public int SizeMax { get; private set; } = Checked(sizeMax);
    /// <summary>How many fields were ever added.</summary>
    public int Inserted { get; private set; }

    /// <summary>Index 0 is the field added last.</summary>
    public ReadOnlySpan<byte> Name(int index)
    {
        ref readonly Entry entry = ref At(index);
        return _bytes.AsSpan(entry.Start, entry.NameLength);
    }

    public ReadOnlySpan<byte> Value(int index)
    {
        ref readonly Entry entry = ref At(index);
        return _bytes.AsSpan(entry.Start + entry.NameLength, entry.ValueLength);
    }

    public int Tag(int index) => At(index).Tag;

    private ref Entry At(int index) => ref _entries[(_first + Count - 1 - index) & (_entries.Length - 1)];

    /// <summary>Another limit; what no longer fits goes.</summary>
    public void Resize(int sizeMax)
    {
        SizeMax = Checked(sizeMax);
        EvictTo(sizeMax);
    }

    /// <summary>Takes everything out.</summary>
    public void Clear() => EvictTo(0);

    /// <summary>Adds a field; a field larger than the table empties it (§4.4). Neither span may lie in the
    /// table. False when the field did not fit.</summary>
    public bool Add(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, int tag)
    {
        int length = name.Length + value.Length;
        long size = (long)length + Overhead;
        if (size > SizeMax)
        {
            EvictTo(0);
            return false;
        }
        EvictTo(SizeMax - (int)size);
        if (_end + length > _bytes.Length)
        {
            MakeRoom(length);
        }
        if (Count == _entries.Length)
        {
            GrowEntries();
        }
        Count++;
        Inserted++;
        Size += (int)size;
        At(0) = new Entry
        {
            Start = (ushort)_end,
            NameLength = (ushort)name.Length,
            ValueLength = (ushort)value.Length,
            Tag = (ushort)tag,
        };
        name.CopyTo(_bytes.AsSpan(_end));
        value.CopyTo(_bytes.AsSpan(_end + name.Length));
        _end += length;
        return true;
    }

    private static int Checked(int sizeMax)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sizeMax, SizeLimit);
        return sizeMax;
    }

    private void EvictTo(int size)
    {
        while (Size > size)
        {
            ref readonly Entry oldest = ref _entries[_first];
            Size -= oldest.NameLength + oldest.ValueLength + Overhead;
            _first = (_first + 1) & (_entries.Length - 1);
            Count--;
        }
        if (Count == 0)
        {
            _end = 0;
        }
    }

    /// <summary>Moves what lives to the front, into a larger array where it would fill half of this one.</summary>
    private void MakeRoom(int length)
    {
        int start = Count == 0 ? _end : _entries[_first].Start;
        int live = _end - start;
        byte[] bytes = _bytes;
        if ((live + length) * 2 > bytes.Length)
        {
            bytes = new byte[Math.Max(128, (int)System.Numerics.BitOperations.RoundUpToPowerOf2(
                (uint)(live + length) * 2))];
        }
        Buffer.BlockCopy(_bytes, start, bytes, 0, live);
        _bytes = bytes;
        _end = live;
        for (int i = 0; i < Count; i++)
        {
            At(i).Start -= (ushort)start;
        }
    }

    private void GrowEntries()
    {
        var entries = new Entry[Math.Max(4, _entries.Length * 2)];
        for (int i = 0; i < Count; i++)
        {
            entries[i] = _entries[(_first + i) & (_entries.Length - 1)];
        }
        _entries = entries;
        _first = 0;
    }
}
