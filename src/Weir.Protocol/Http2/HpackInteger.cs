// HPACK's integers (RFC 7541 §5.1) with a limit: no number of a header block needs more than 28 bits, and who sends
// more, or zeros without end, is refused. Any thread, no memory.
namespace Weir.Protocol.Http2;

internal static class HpackInteger
{
    public const int Max = (1 << 28) - 1;
    public const int Truncated = -1, Overflow = -2;
    /// <summary>The most bytes <see cref="Write"/> takes.</summary>
    public const int BytesMax = 6;

    /// <summary>Reads the integer whose first byte stands at <paramref name="i"/>, with so many bits in it.</summary>
    public static int Read(ReadOnlySpan<byte> block, ref int i, int prefixBits)
    {
        int full = (1 << prefixBits) - 1;
        int value = block[i++] & full;
        if (value < full)
        {
            return value;
        }
        for (int shift = 0; shift <= 28; shift += 7)
        {
            if (i >= block.Length)
            {
                return Truncated;
            }
            byte b = block[i++];
            long sum = value + ((long)(b & 0x7f) << shift);
            if (sum > Max)
            {
                return Overflow;
            }
            value = (int)sum;
            if (b < 0x80)
            {
                return value;
            }
        }
        return Overflow;
    }

    /// <summary>Writes a number behind the bits of <paramref name="first"/>. Returns the bytes taken.</summary>
    public static int Write(Span<byte> to, byte first, int prefixBits, int value)
    {
        int full = (1 << prefixBits) - 1;
        if (value < full)
        {
            to[0] = (byte)(first | value);
            return 1;
        }
        to[0] = (byte)(first | full);
        value -= full;
        int n = 1;
        while (value >= 0x80)
        {
            to[n++] = (byte)(value | 0x80);
            value >>= 7;
        }
        to[n++] = (byte)value;
        return n;
    }
}
