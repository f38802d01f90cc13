// Reads one header line, for requests, responses and trailers alike: a vectorised pass over a plain name and
// one to the end of the value; other names byte by byte. Says "more" without consuming when the line is not whole yet.
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Weir.Protocol.Http1;

internal enum FieldOutcome : byte
{
    /// <summary>A field with a plain name (letters, digits, hyphen, and underscore where allowed).</summary>
    Field,
    /// <summary>A field whose name is a token but unusual.</summary>
    Unusual,
    /// <summary>A field whose name holds a byte that is no token character, though not a control either.</summary>
    NotToken,
    /// <summary>The empty line that ends a head.</summary>
    End,
    /// <summary>Not whole yet; the search for the line's end continues at the position given.</summary>
    More,
    BareCr, Fold, EmptyName, SpaceInName, ControlInName, NoColon, ControlInValue,
}

internal static class FieldLine
{
    /// <summary>Index, from <paramref name="start"/> on, of the first control character that cannot stand in a value
    /// (all but HTAB, RFC 9110 §5.5; CR and LF end it), or -1. By hand, since most values are shorter than what a
    /// general search needs to get under way.</summary>
    public static int IndexOfStop(ReadOnlySpan<byte> buffer, int start)
    {
        ref byte first = ref MemoryMarshal.GetReference(buffer);
        int i = start;
        int last = buffer.Length - Vector128<byte>.Count;
        for (; i <= last; i += Vector128<byte>.Count)
        {
            uint mask = Stops(ref first, i);
            if (mask != 0)
            {
                return i + BitOperations.TrailingZeroCount(mask);
            }
        }
        if (last >= 0)
        {
            // The rest is looked at together with bytes before it, which do not count.
            uint mask = i < buffer.Length ? Stops(ref first, last) >> (i - last) : 0;
            return mask != 0 ? i + BitOperations.TrailingZeroCount(mask) : -1;
        }
        for (; i < buffer.Length; i++)
        {
            byte c = buffer[i];
            if (c < 0x20 && c != '\t' || c == 0x7f)
            {
                return i;
            }
        }
        return -1;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Stops(ref byte first, int at)
    {
        Vector128<byte> v = Vector128.LoadUnsafe(ref first, (nuint)at);
        return (Vector128.AndNot(
                Vector128.Equals(Vector128.Min(v, Vector128.Create((byte)31)), v),
                Vector128.Equals(v, Vector128.Create((byte)'\t')))
            | Vector128.Equals(v, Vector128.Create((byte)0x7f))).ExtractMostSignificantBits();
    }

    private const byte Colon = 1, Underscore = 2;

    /// <summary>0 control or space, 1 colon, 2 underscore, 3 other token character, 4 no token character, else the
    /// character itself in lower case.</summary>
    private static ReadOnlySpan<byte> NameClass =>
    [
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x03, 0x04, 0x03, 0x03, 0x03, 0x03, 0x03, 0x04, 0x04, 0x03, 0x03, 0x04, 0x2d, 0x03, 0x04,
        0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x01, 0x04, 0x04, 0x04, 0x04, 0x04,
        0x04, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f,
        0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x04, 0x04, 0x04, 0x03, 0x02,
        0x03, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f,
        0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x04, 0x03, 0x04, 0x03, 0x00,
        0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04,
        0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04,
        0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04,
        0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04,
        0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04,
        0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04,
        0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04,
        0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04,

    ];

    /// <summary>A token character (RFC 9110 §5.6.2).</summary>
    public static bool IsToken(byte c) => NameClass[c] is 2 or 3 or > 4;

    /// <summary>Reads the line at <paramref name="pos"/>. <paramref name="next"/> is where the next line starts, or for
    /// <see cref="FieldOutcome.More"/> where to look for the rest.</summary>
    public static FieldOutcome Read(
        ReadOnlySpan<byte> buffer, int pos, bool underscores, ref HeaderField field, out int next)
    {
        ref byte first = ref MemoryMarshal.GetReference(buffer);
        FieldOutcome outcome = FieldOutcome.Field;
        int i = pos;
        uint others = 0;
        while (i <= buffer.Length - Vector128<byte>.Count && (others = NotPlain(ref first, i)) == 0)
        {
            i += Vector128<byte>.Count;
        }
        i += BitOperations.TrailingZeroCount(others | 1U << Vector128<byte>.Count) & (Vector128<byte>.Count - 1);
        if (others == 0 || i == pos || Unsafe.Add(ref first, i) != ':')
        {
            outcome = ReadName(buffer, pos, underscores, out i, out next);
            if (outcome > FieldOutcome.NotToken)
            {
                return outcome;
            }
        }
        field.NameStart = pos;
        field.NameLength = i - pos;
        field.Hash = HeaderName.HashOf(ref Unsafe.Add(ref first, pos), i - pos);
        i++;
        while ((uint)i < (uint)buffer.Length && Unsafe.Add(ref first, i) is (byte)' ' or (byte)'\t')
        {
            i++;
        }
        int end = IndexOfStop(buffer, i);
        if (end < 0)
        {
            next = buffer.Length;
            return FieldOutcome.More;
        }
        next = end + 1;
        if (buffer[end] == '\r')
        {
            if (next >= buffer.Length)
            {
                next = end;
                return FieldOutcome.More;
            }
            if (buffer[next] != '\n')
            {
                return FieldOutcome.BareCr;
            }
            next++;
        }
        else if (buffer[end] != '\n')
        {
            return FieldOutcome.ControlInValue;
        }
        while (end > i && (buffer[end - 1] == ' ' || buffer[end - 1] == '\t'))
        {
            end--;
        }
        field.ValueStart = i;
        field.ValueLength = end - i;
        return outcome;
    }

    /// <summary>A bit for each of sixteen bytes that is no letter, digit or hyphen.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint NotPlain(ref byte first, int at)
    {
        Vector128<byte> v = Vector128.LoadUnsafe(ref first, (nuint)at);
        Vector128<byte> letter = (v | Vector128.Create((byte)0x20)) - Vector128.Create((byte)'a');
        Vector128<byte> digit = v - Vector128.Create((byte)'0');
        Vector128<byte> plain = Vector128.Equals(Vector128.Min(letter, Vector128.Create((byte)25)), letter)
            | Vector128.Equals(Vector128.Min(digit, Vector128.Create((byte)9)), digit)
            | Vector128.Equals(v, Vector128.Create((byte)'-'));
        return plain.ExtractMostSignificantBits() ^ 0xFFFF;
    }

    /// <summary>The name, byte by byte: near the end of the buffer, and whatever else it is than a plain name.
    /// <paramref name="i"/> is where its colon stands.</summary>
    private static FieldOutcome ReadName(
        ReadOnlySpan<byte> buffer, int pos, bool underscores, out int i, out int next)
    {
        next = buffer.Length;
        ReadOnlySpan<byte> classes = NameClass;
        FieldOutcome outcome = FieldOutcome.Field;
        for (i = pos; (uint)i < (uint)buffer.Length; i++)
        {
            byte k = classes[buffer[i]];
            switch (k)
            {
                case 0:
                    return NotInName(buffer, pos, i, ref next);
                case Colon:
                    return i == pos ? FieldOutcome.EmptyName : outcome;
                case Underscore:
                    if (!underscores && outcome == FieldOutcome.Field)
                    {
                        outcome = FieldOutcome.Unusual;
                    }
                    break;
                case 3 or 4:
                    FieldOutcome unusual = k == 3 ? FieldOutcome.Unusual : FieldOutcome.NotToken;
                    outcome = unusual > outcome ? unusual : outcome;
                    break;
            }
        }
        return FieldOutcome.More;
    }

    private static FieldOutcome NotInName(ReadOnlySpan<byte> buffer, int pos, int i, ref int next)
    {
        switch (buffer[i])
        {
            case (byte)'\r':
                if (i + 1 >= buffer.Length)
                {
                    next = i;
                    return FieldOutcome.More;
                }
                if (buffer[i + 1] != '\n')
                {
                    return FieldOutcome.BareCr;
                }
                next = i + 2;
                return i == pos ? FieldOutcome.End : FieldOutcome.NoColon;
            case (byte)'\n':
                next = i + 1;
                return i == pos ? FieldOutcome.End : FieldOutcome.NoColon;
            case (byte)' ' or (byte)'\t':
                return i == pos ? FieldOutcome.Fold : FieldOutcome.SpaceInName;
            default:
                return FieldOutcome.ControlInName;
        }
    }
}
