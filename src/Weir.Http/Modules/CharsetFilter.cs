// Recoding bodies between character sets: byte by byte, into UTF-8 and out of it. A table belongs to a configuration
// and is frozen; the filter is a request's and keeps at most the beginning of one character between pushes.
using System.Buffers.Text;
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http.Modules;

/// <summary>A charset_map: one table, read in both directions.</summary>
internal sealed class CharsetTable
{
    private const int Utf8Max = 4;
    private const int UnknownPoint = -1;

    private readonly byte[] _forth = new byte[256];
    private readonly byte[] _back = new byte[256];
    private readonly byte[][] _utf8 = new byte[256][];
    private readonly byte[]?[] _pages = new byte[256][];

    internal CharsetTable(CharsetName first, CharsetName second)
    {
        First = first;
        Second = second;
        for (int i = 0; i < 256; i++)
        {
            // What a table does not say is a question mark, but for ASCII.
            byte same = i < 128 ? (byte)i : (byte)'?';
            _forth[i] = same;
            _back[i] = same;
            _utf8[i] = [same];
        }
    }

    internal CharsetName First { get; }
    internal CharsetName Second { get; }

    internal bool IsUtf8 => Second.IsUtf8;

    /// <summary>One line: a byte of the first set, and the byte or the UTF-8 bytes of the second in
    /// hexadecimal.</summary>
    internal bool TryAdd(byte from, string to)
    {
        if (!IsUtf8)
        {
            if (!CharsetModule.TryHex(to, out int one) || one > byte.MaxValue)
            {
                return false;
            }
            _forth[from] = (byte)one;
            _back[one] = from;
            return true;
        }
        if (to.Length is 0 or > 2 * Utf8Max || to.Length % 2 != 0)
        {
            return false;
        }
        var bytes = new byte[to.Length / 2];
        for (int i = 0; i < bytes.Length; i++)
        {
            if (!CharsetModule.TryHex(to.AsSpan(2 * i, 2), out int value))
            {
                return false;
            }
            bytes[i] = (byte)value;
        }
        int point = bytes.Length == 1 && bytes[0] < 0x80 ? bytes[0] : Decode(bytes, out _);
        if (point is < 0 or > 0xFFFF)
        {
            return false;
        }
        _utf8[from] = bytes;
        (_pages[point >> 8] ??= new byte[256])[point & 0xFF] = from;
        return true;
    }

    /// <summary>The byte-for-byte table in one of the directions.</summary>
    internal byte[] Bytes(bool forth) => forth ? _forth : _back;

    internal byte[] ToUtf8(byte c) => _utf8[c];

    /// <summary>The byte of the first set for a character; 0 for none.</summary>
    internal byte FromUtf8(int point) => point > 0xFFFF ? (byte)0 : _pages[point >> 8]?[point & 0xFF] ?? 0;

    /// <summary>Reads a character that is not ASCII, as nginx does: a number, or less than zero for bytes that are
    /// none. <paramref name="length"/> is 0 when its end is missing.</summary>
    internal static int Decode(ReadOnlySpan<byte> text, out int length)
    {
        byte first = text[0];
        (int bits, int more, int greatestShorter) = first switch
        {
            >= 0xF8 => (0, -1, 0),
            >= 0xF0 => (first & 0x07, 3, 0xFFFF),
            >= 0xE0 => (first & 0x0F, 2, 0x7FF),
            >= 0xC2 => (first & 0x1F, 1, 0x7F),
            _ => (0, -1, 0),
        };
        length = 1;
        if (more < 0)
        {
            return UnknownPoint;
        }
        if (text.Length <= more)
        {
            length = 0;
            return UnknownPoint;
        }
        for (int i = 1; i <= more; i++)
        {
            length = i + 1;
            if (text[i] < 0x80)
            {
                return UnknownPoint;
            }
            bits = (bits << 6) | (text[i] & 0x3F);
        }
        return bits > greatestShorter ? bits : UnknownPoint;
    }
}

/// <summary>Recodes a body.</summary>
internal sealed class CharsetFilter : BodyFilter
{
    internal static readonly RequestSlot<CharsetFilter> Slot = new();

    private const int CharacterMax = 4;
    private const int ReferenceMax = 16;

    private readonly byte[] _begun = new byte[CharacterMax];
    private int _begunCount;
    private CharsetTable? _table;
    private bool _forth;

    internal void Start(CharsetTable table, CharsetName from)
    {
        _table = table;
        _forth = table.First == from;
        _begunCount = 0;
    }

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if (_table is null)
        {
            PassOn(r, input, flags);
            return;
        }
        BufferChain output = r.Loop.RentChain();
        for (int i = 0; i < input.Count; i++)
        {
            ReadOnlySpan<byte> text = input[i].Memory.Span;
            if (!_table.IsUtf8)
            {
                Translate(text, _table.Bytes(_forth), output);
            }
            else if (_forth)
            {
                IntoUtf8(text, output);
            }
            else
            {
                OutOfUtf8(text, output);
            }
        }
        input.Clear();
        if (!output.IsEmpty || flags != PushFlags.None)
        {
            PassOn(r, output, flags);
        }
        r.Loop.Return(output);
    }

    private static void Translate(ReadOnlySpan<byte> text, byte[] table, BufferChain output)
    {
        while (!text.IsEmpty)
        {
            Span<byte> room = output.GetSpan(Math.Min(text.Length, 4096));
            int n = Math.Min(text.Length, room.Length);
            for (int i = 0; i < n; i++)
            {
                room[i] = table[text[i]];
            }
            output.Advance(n);
            text = text[n..];
        }
    }

    private void IntoUtf8(ReadOnlySpan<byte> text, BufferChain output)
    {
        while (!text.IsEmpty)
        {
            int ascii = text.IndexOfAnyInRange((byte)0x80, (byte)0xFF);
            ascii = ascii < 0 ? text.Length : ascii;
            output.Append(text[..ascii]);
            text = text[ascii..];
            if (!text.IsEmpty)
            {
                output.Append(_table!.ToUtf8(text[0]));
                text = text[1..];
            }
        }
    }

    private void OutOfUtf8(ReadOnlySpan<byte> text, BufferChain output)
    {
        Span<byte> rest = stackalloc byte[CharacterMax];
        while (_begunCount > 0 && !text.IsEmpty)
        {
            _begun[_begunCount++] = text[0];
            text = text[1..];
            if (TryCharacter(_begun.AsSpan(0, _begunCount), output, out int length))
            {
                // Bytes that follow one which began nothing are looked at again.
                int left = _begunCount - length;
                _begun.AsSpan(length, left).CopyTo(rest);
                _begunCount = 0;
                OutOfUtf8(rest[..left], output);
            }
        }
        while (!text.IsEmpty)
        {
            int ascii = text.IndexOfAnyInRange((byte)0x80, (byte)0xFF);
            ascii = ascii < 0 ? text.Length : ascii;
            output.Append(text[..ascii]);
            text = text[ascii..];
            if (text.IsEmpty)
            {
                return;
            }
            if (!TryCharacter(text, output, out int length))
            {
                text.CopyTo(_begun);
                _begunCount = text.Length;
                return;
            }
            text = text[length..];
        }
    }

    /// <summary>Writes the character at the beginning: its byte, a reference in HTML's form where the set has none, a
    /// question mark where it is none. False when its end is missing.</summary>
    private bool TryCharacter(ReadOnlySpan<byte> text, BufferChain output, out int length)
    {
        int point = CharsetTable.Decode(text, out length);
        if (length == 0)
        {
            return false;
        }
        if (point < 0)
        {
            output.Append("?"u8);
            return true;
        }
        byte one = _table!.FromUtf8(point);
        if (one != 0)
        {
            output.Append([one]);
            return true;
        }
        Span<byte> reference = stackalloc byte[ReferenceMax];
        reference[0] = (byte)'&';
        reference[1] = (byte)'#';
        Utf8Formatter.TryFormat(point, reference[2..], out int digits);
        reference[2 + digits] = (byte)';';
        output.Append(reference[..(digits + 3)]);
        return true;
    }

    protected internal override void Reset()
    {
        _table = null;
        _begunCount = 0;
    }
}
