// Writes HPACK header blocks (RFC 7541) into memory of the caller's: static indexes, a dynamic table for what repeats,
// Huffman code where it is shorter. Names may come in any case and go out in lower case. One per connection; allocates
// nothing but its table, on first use.
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using Weir.Protocol.Http1;

namespace Weir.Protocol.Http2;

/// <summary>How a field is written when it has no index yet.</summary>
public enum HpackIndexing : byte
{
    /// <summary>Into the table: it will come again.</summary>
    Add,
    /// <summary>A literal: it changes with every message.</summary>
    Literal,
    /// <summary>A literal that no intermediary may put into a table either: a secret.</summary>
    Never,
}

/// <summary>A writer of header blocks.</summary>
public sealed class HpackEncoder
{
    private const int SlotCount = 64;
    private readonly HpackHuffman _huffman = HpackHuffman.Instance;
    private readonly HpackNames _names = HpackNames.Instance;
    private readonly HpackTable _table;
    private readonly int _sizeWanted;
    // By hash of name and value: the number of the field in the table, counted from its first.
    private int[]? _slots;
    // Size updates the next block has to begin with; the lowest limit since the last one.
    private int _lowest = int.MaxValue;
    private bool _resized;

    /// <param name="sizeWanted">The largest table worth having; the peer may allow less.</param>
    public HpackEncoder(int sizeWanted = Http2Limits.TableSizeDefault)
    {
        _sizeWanted = sizeWanted;
        _table = new HpackTable(Math.Min(sizeWanted, Http2Limits.TableSizeDefault));
        _resized = _table.SizeMax != Http2Limits.TableSizeDefault;
        _lowest = _table.SizeMax;
    }

    public int TableSizeMax => _table.SizeMax;
    public int TableCount => _table.Count;

    /// <summary>The most bytes a field takes, and a block's beginning.</summary>
    public static int BytesMax(int nameLength, int valueLength) => nameLength + valueLength + 3 * HpackInteger.BytesMax;

    /// <summary>The peer's SETTINGS_HEADER_TABLE_SIZE. The next block says what is made of it (§4.2).</summary>
    public void Allow(uint tableSizeMax)
    {
        int size = (int)Math.Min((uint)_sizeWanted, tableSizeMax);
        if (size == _table.SizeMax)
        {
            return;
        }
        _table.Resize(size);
        _lowest = Math.Min(_lowest, size);
        _resized = true;
    }

    /// <summary>Nothing is in the table, and the peer knows all there is to know of it.</summary>
    public bool IsUntouched => _table.Count == 0 && !_resized;

    /// <summary>Begins anew, with another peer or with one that was away: the table is empty. What the peer allows is
    /// what it has said, or the default. When its own table may still hold something the next block tells it to forget
    /// that.</summary>
    public void Restart(uint tableSizeMax, bool owesUpdate)
    {
        _table.Clear();
        _table.Resize((int)Math.Min((uint)_sizeWanted, tableSizeMax));
        _resized = owesUpdate;
        _lowest = owesUpdate ? 0 : int.MaxValue;
    }

    /// <summary>Begins a block. Every block is begun, with room for <see cref="BytesMax"/> of nothing.</summary>
    public int Begin(Span<byte> to)
    {
        if (!_resized)
        {
            return 0;
        }
        _resized = false;
        int n = 0;
        if (_lowest < _table.SizeMax)
        {
            n = HpackInteger.Write(to, 0x20, 5, _lowest);
        }
        n += HpackInteger.Write(to[n..], 0x20, 5, _table.SizeMax);
        _lowest = int.MaxValue;
        return n;
    }

    /// <summary>The :status of a response: three digits.</summary>
    public int Status(Span<byte> to, int status)
    {
        int index = status switch
        {
            200 => 8, 204 => 9, 206 => 10, 304 => 11, 400 => 12, 404 => 13, 500 => 14, _ => 0,
        };
        if (index != 0)
        {
            to[0] = (byte)(0x80 | index);
            return 1;
        }
        ReadOnlySpan<byte> digits =
            [(byte)('0' + status / 100 % 10), (byte)('0' + status / 10 % 10), (byte)('0' + status % 10)];
        return Field(to, ":status"u8, digits, HpackIndexing.Add);
    }

    /// <summary>A field of the static table that is there with its value.</summary>
    public static int Indexed(Span<byte> to, int staticIndex)
    {
        to[0] = (byte)(0x80 | staticIndex);
        return 1;
    }

    /// <summary>A field. There is room for <see cref="BytesMax"/>. Returns the bytes written.</summary>
    public int Field(
        Span<byte> to, scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, HpackIndexing indexing)
    {
        uint nameHash = HeaderName.Hash(name);
        int staticName = _names.Find(name, nameHash);
        if (staticName != 0)
        {
            int whole = WithValue(staticName, value);
            if (whole != 0)
            {
                return Indexed(to, whole);
            }
        }
        if (indexing != HpackIndexing.Add || name.Length + value.Length + HpackTable.Overhead > _table.SizeMax / 2)
        {
            return Literal(to, indexing == HpackIndexing.Never ? (byte)0x10 : (byte)0, 4, staticName, name, value);
        }
        int slot = SlotOf(nameHash, value);
        _slots ??= new int[SlotCount];
        int age = _table.Inserted - _slots[slot];
        if (_slots[slot] != 0 && age < _table.Count && HeaderName.Same(_table.Name(age), name)
            && _table.Value(age).SequenceEqual(value))
        {
            return HpackInteger.Write(to, 0x80, 7, HpackStaticTable.Count + 1 + age);
        }
        int n = Literal(to, 0x40, 6, staticName, name, value);
        _table.Add(name, value, staticName);
        _slots[slot] = _table.Inserted;
        return n;
    }

    private int Literal(Span<byte> to, byte first, int prefixBits, int staticName,
        scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value)
    {
        int n = HpackInteger.Write(to, first, prefixBits, staticName);
        if (staticName == 0)
        {
            n += Name(to[n..], name);
        }
        return n + Text(to[n..], value);
    }

    /// <summary>A name in lower case, as Huffman code: names nearly always are shorter so.</summary>
    private int Name(Span<byte> to, scoped ReadOnlySpan<byte> name)
    {
        const int lowered = 128;
        if (name.Length > lowered)
        {
            int n = HpackInteger.Write(to, 0, 7, name.Length);
            System.Text.Ascii.ToLower(name, to[n..], out int written);
            return n + written;
        }
        Span<byte> lower = stackalloc byte[lowered];
        System.Text.Ascii.ToLower(name, lower, out int length);
        return Text(to, lower[..length]);
    }

    /// <summary>A string literal, whichever way is shorter.</summary>
    private int Text(Span<byte> to, scoped ReadOnlySpan<byte> text)
    {
        int encoded = HpackHuffman.EncodedLength(text);
        int n;
        if (encoded < text.Length)
        {
            n = HpackInteger.Write(to, 0x80, 7, encoded);
            _huffman.Encode(text, to.Slice(n, encoded));
            return n + encoded;
        }
        n = HpackInteger.Write(to, 0, 7, text.Length);
        text.CopyTo(to[n..]);
        return n + text.Length;
    }

    /// <summary>The static entry that has this value as well, among those that have values (1 to 16).</summary>
    private static int WithValue(int staticName, scoped ReadOnlySpan<byte> value)
    {
        if (staticName > 16)
        {
            return 0;
        }
        for (int i = staticName; i <= 16 && HpackStaticTable.Name(i).SequenceEqual(HpackStaticTable.Name(staticName));
            i++)
        {
            ReadOnlySpan<byte> has = HpackStaticTable.Value(i);
            if (!has.IsEmpty && has.SequenceEqual(value))
            {
                return i;
            }
        }
        return 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int SlotOf(uint nameHash, scoped ReadOnlySpan<byte> value)
    {
        // Ends and length tell most values apart; whatever they do not is compared.
        ulong hash = nameHash ^ (uint)value.Length * 0x9E37_79B9UL;
        if (value.Length >= sizeof(ulong))
        {
            hash ^= BinaryPrimitives.ReadUInt64LittleEndian(value);
            hash = hash * 0x9E37_79B9_7F4A_7C15 ^ BinaryPrimitives.ReadUInt64LittleEndian(value[^sizeof(ulong)..]);
        }
        else
        {
            foreach (byte c in value)
            {
                hash = hash << 8 ^ hash >> 56 ^ c;
            }
        }
        return (int)(hash * 0xC2B2_AE3D_27D4_EB4F >> 58);
    }
}

/// <summary>From a name in any case to its first index in the static table.</summary>
internal sealed class HpackNames
{
    public static readonly HpackNames Instance = new();

    private const int SlotBits = 10;
    private readonly byte[] _slots = new byte[1 << SlotBits];
    private readonly uint _multiplier = 0x9E37_79B1;

    private HpackNames()
    {
        while (!TryFill(_multiplier))
        {
            _multiplier = _multiplier * 1664525 + 1013904222 | 1;
        }
    }

    public int Find(ReadOnlySpan<byte> name, uint hash)
    {
        int index = _slots[(int)(hash * _multiplier >> (32 - SlotBits))];
        return index != 0 && HeaderName.Same(HpackStaticTable.Name(index), name) ? index : 0;
    }

    private bool TryFill(uint multiplier)
    {
        Array.Clear(_slots);
        for (int i = HpackStaticTable.Count; i > 0; i--)
        {
            ref byte slot = ref _slots[(int)(HeaderName.Hash(HpackStaticTable.Name(i)) * multiplier
                >> (32 - SlotBits))];
            if (slot != 0 && !HpackStaticTable.Name(slot).SequenceEqual(HpackStaticTable.Name(i)))
            {
                return false;
            }
            slot = (byte)i;
        }
        return true;
    }
}
