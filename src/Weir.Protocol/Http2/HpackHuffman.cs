// HPACK's Huffman code (RFC 7541 §5.2, appendix B). The code is canonical, so that its lengths are all there is to
// write down. Decoding looks up eleven bits at a time and gets up to two symbols; longer codes are rare and found by
// their length. Tables are built once and read only; who decodes holds the object.
using System.Buffers.Binary;

namespace Weir.Protocol.Http2;

/// <summary>The Huffman code of HPACK.</summary>
public sealed class HpackHuffman
{
    /// <summary>The tables. Keep the object: reaching it here is checked each time.</summary>
    public static readonly HpackHuffman Instance = new();

    /// <summary>What <see cref="Decode"/> says for padding that is too long or not all ones, and for EOS.</summary>
    public const int Invalid = -1;
    /// <summary>What <see cref="Decode"/> says when there is no room for all of it.</summary>
    public const int NoRoom = -2;

    private const int Eos = 256, LookupBits = 11, LengthMax = 30;

    private static ReadOnlySpan<byte> Lengths =>
    [
        13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
        28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
        6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8,
        7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7,
        7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23,
        24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
        23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
        26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24,
        20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
        27, 27, 27, 26, 30,
    ];

    // Eleven bits to: first symbol, second symbol << 8, bits of the first << 16, bits of all << 20, symbols << 24.
    private readonly uint[] _lookup = new uint[1 << LookupBits];
    private readonly uint[] _codes = new uint[Eos + 1];
    // For each length: the code after its last one, as the top bits of 32; its first code; where its symbols begin.
    private readonly ulong[] _limits = new ulong[LengthMax + 1];
    private readonly uint[] _firsts = new uint[LengthMax + 1];
    private readonly int[] _offsets = new int[LengthMax + 1];
    private readonly ushort[] _symbols = new ushort[Eos + 1];

    private HpackHuffman()
    {
        uint code = 0;
        int at = 0;
        for (int length = 1; length <= LengthMax; length++)
        {
            code <<= 1;
            _firsts[length] = code;
            _offsets[length] = at;
            for (int symbol = 0; symbol <= Eos; symbol++)
            {
                if (Lengths[symbol] == length)
                {
                    _codes[symbol] = code++;
                    _symbols[at++] = (ushort)symbol;
                }
            }
            _limits[length] = (ulong)code << (32 - length);
        }
        for (uint bits = 0; bits < _lookup.Length; bits++)
        {
            int first = SymbolOf(bits << (32 - LookupBits), out int firstBits);
            if (firstBits > LookupBits)
            {
                continue;
            }
            int second = SymbolOf(bits << (32 - LookupBits + firstBits), out int secondBits);
            bool both = firstBits + secondBits <= LookupBits;
            _lookup[bits] = (uint)first | (both ? (uint)second << 8 : 0) | (uint)firstBits << 16
                | (uint)(both ? firstBits + secondBits : firstBits) << 20 | (both ? 2u : 1u) << 24;
        }
    }

    private int SymbolOf(uint top, out int length)
    {
        length = 5;
        while (top >= _limits[length])
        {
            length++;
        }
        return _symbols[_offsets[length] + (int)((top >> (32 - length)) - _firsts[length])];
    }

    /// <summary>Bytes that these take when encoded.</summary>
    public static int EncodedLength(ReadOnlySpan<byte> text)
    {
        ReadOnlySpan<byte> lengths = Lengths;
        int bits = 0;
        foreach (byte c in text)
        {
            bits += lengths[c];
        }
        return (bits + 7) >> 3;
    }

    /// <summary>Encodes; there is room for <see cref="EncodedLength"/> bytes.</summary>
    public void Encode(ReadOnlySpan<byte> text, Span<byte> to)
    {
        ReadOnlySpan<byte> lengths = Lengths;
        uint[] codes = _codes;
        ulong bits = 0;
        int have = 0;
        int n = 0;
        foreach (byte c in text)
        {
            int length = lengths[c];
            bits = bits << length | codes[c];
            have += length;
            while (have >= 8)
            {
                have -= 8;
                to[n++] = (byte)(bits >> have);
            }
        }
        if (have > 0)
        {
            to[n] = (byte)(bits << (8 - have) | 0xffu >> have);
        }
    }

    /// <summary>Decodes. Returns how many bytes it made, or <see cref="Invalid"/> or <see cref="NoRoom"/>.</summary>
    public int Decode(ReadOnlySpan<byte> from, Span<byte> to)
    {
        uint[] lookup = _lookup;
        ulong bits = 0;
        int have = 0;
        int i = 0;
        int n = 0;
        while (true)
        {
            if (from.Length - i >= sizeof(ulong))
            {
                bits |= BinaryPrimitives.ReadUInt64BigEndian(from[i..]) >> have;
                int taken = (63 - have) >> 3;
                i += taken;
                have += taken << 3;
                // What lies below the bits counted is read again and must not be there twice.
                bits &= ulong.MaxValue << (64 - have);
            }
            else
            {
                while (have <= 56 && i < from.Length)
                {
                    bits |= (ulong)from[i++] << (56 - have);
                    have += 8;
                }
            }
            bool last = i == from.Length;
            // Below 30 bits the next code may not be whole yet, unless nothing is to come.
            while (have >= LengthMax || last)
            {
                uint entry = lookup[(int)(bits >> (64 - LookupBits))];
                int length = (int)(entry >> 20 & 15);
                int count = (int)(entry >> 24);
                int symbol = (byte)entry;
                if (entry == 0)
                {
                    symbol = SymbolOf((uint)(bits >> 32), out length);
                    count = 1;
                }
                else if (length > have)
                {
                    length = (int)(entry >> 16 & 15);
                    count = 1;
                }
                if (length > have)
                {
                    // The end: at most seven bits, all ones.
                    return have < 8 && bits >> (64 - have) == (1UL << have) - 1 || have == 0 ? n : Invalid;
                }
                if (symbol == Eos)
                {
                    return Invalid;
                }
                if (count > to.Length - n)
                {
                    return NoRoom;
                }
                to[n] = (byte)symbol;
                if (count == 2)
                {
                    to[n + 1] = (byte)(entry >> 8);
                }
                n += count;
                bits <<= length;
                have -= length;
            }
        }
    }
}
