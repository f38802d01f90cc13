// Reads one header line, for requests, responses and trailers alike: one pass over the name (classification, hash), one
// vectorised search for the end of the value. Says "more" without consuming when the line is not whole yet.
using System.Buffers;

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
    /// <summary>Control characters that cannot stand in a value: all but HTAB (RFC 9110 §5.5). CR and LF end it.</summary>
    public static readonly SearchValues<byte> Stops = SearchValues.Create(
    [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
        31, 0x7f,
    ]);

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
        next = buffer.Length;
        ReadOnlySpan<byte> classes = NameClass;
        FieldOutcome outcome = FieldOutcome.Field;
        uint hash = 0;
        int i = pos;
        while (true)
        {
            if ((uint)i >= (uint)buffer.Length)
            {
                return FieldOutcome.More;
            }
            byte c = buffer[i];
            byte k = classes[c];
            if (k > 4)
            {
                hash = hash * 31 + k;
                i++;
                continue;
            }
            if (k == Colon)
            {
                break;
            }
            if (k == 0)
            {
                return NotInName(buffer, pos, i, ref next);
            }
            if (k == Underscore)
            {
                if (!underscores && outcome == FieldOutcome.Field)
                {
                    outcome = FieldOutcome.Unusual;
                }
            }
            else
            {
                FieldOutcome unusual = k == 3 ? FieldOutcome.Unusual : FieldOutcome.NotToken;
                outcome = unusual > outcome ? unusual : outcome;
            }
            hash = hash * 31 + c;
            i++;
        }
        if (i == pos)
        {
            return FieldOutcome.EmptyName;
        }
        field.NameStart = pos;
        field.NameLength = i - pos;
        field.Hash = hash;
        i++;
        while ((uint)i < (uint)buffer.Length && (buffer[i] == ' ' || buffer[i] == '\t'))
        {
            i++;
        }
        int length = buffer[i..].IndexOfAny(Stops);
        if (length < 0)
        {
            return FieldOutcome.More;
        }
        int end = i + length;
        if (buffer[end] == '\r')
        {
            if (end + 1 >= buffer.Length)
            {
                next = end;
                return FieldOutcome.More;
            }
            if (buffer[end + 1] != '\n')
            {
                return FieldOutcome.BareCr;
            }
            next = end + 2;
        }
        else if (buffer[end] == '\n')
        {
            next = end + 1;
        }
        else
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
