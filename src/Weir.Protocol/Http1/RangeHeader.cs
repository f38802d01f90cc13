// The Range request header, read as nginx reads it: several ranges, suffixes, and what makes a server ignore it or
// refuse it. Pure; the ranges go into a span of the caller's.
namespace Weir.Protocol.Http1;

/// <summary>What a Range header comes to for a body of a certain length.</summary>
public enum RangeOutcome : byte
{
    /// <summary>The header is ignored: the whole body is the answer.</summary>
    None,
    Single,
    Multi,
    /// <summary>416.</summary>
    Unsatisfiable,
}

/// <summary>Bytes from Start up to, and without, End.</summary>
public readonly record struct ByteRange(long Start, long End)
{
    public long Length => End - Start;
}

/// <summary>Reads Range headers.</summary>
public static class RangeHeader
{
    /// <summary>Reads the header's value for a body of <paramref name="length"/> bytes. At most as many ranges are
    /// served as the span has room for (<c>max_ranges</c>); with more of them, or when together they are longer than
    /// the body, the header is ignored.</summary>
    public static RangeOutcome Parse(ReadOnlySpan<byte> value, long length, Span<ByteRange> ranges, out int count)
    {
        count = 0;
        if (ranges.IsEmpty || value.Length < 7 || !HeaderName.Same(value[..6], "bytes="u8))
        {
            return RangeOutcome.None;
        }
        int p = 6;
        long total = 0;
        while (true)
        {
            long start = 0, end;
            SkipBlanks(value, ref p);
            bool suffix = Peek(value, p) == '-';
            if (suffix)
            {
                p++;
                if (!Number(value, ref p, out long last))
                {
                    return RangeOutcome.Unsatisfiable;
                }
                start = last < length ? length - last : 0;
                end = last == 0 ? start : length;
            }
            else
            {
                if (!Number(value, ref p, out start))
                {
                    return RangeOutcome.Unsatisfiable;
                }
                SkipBlanks(value, ref p);
                if (Peek(value, p) != '-')
                {
                    return RangeOutcome.Unsatisfiable;
                }
                p++;
                SkipBlanks(value, ref p);
                end = length;
                if (Peek(value, p) is not (',' or -1))
                {
                    if (!Number(value, ref p, out long last))
                    {
                        return RangeOutcome.Unsatisfiable;
                    }
                    end = last >= length ? length : last + 1;
                }
            }
            SkipBlanks(value, ref p);
            int next = Peek(value, p);
            if (next is not (',' or -1))
            {
                return RangeOutcome.Unsatisfiable;
            }
            if (start < end)
            {
                if (count == ranges.Length)
                {
                    count = 0;
                    return RangeOutcome.None;
                }
                ranges[count++] = new ByteRange(start, end);
                if (total > long.MaxValue - (end - start))
                {
                    return RangeOutcome.Unsatisfiable;
                }
                total += end - start;
            }
            else if (start == 0)
            {
                count = 0;
                return RangeOutcome.None;
            }
            if (next != ',')
            {
                break;
            }
            p++;
        }
        if (count == 0)
        {
            return RangeOutcome.Unsatisfiable;
        }
        if (total > length)
        {
            count = 0;
            return RangeOutcome.None;
        }
        return count == 1 ? RangeOutcome.Single : RangeOutcome.Multi;
    }

    private static int Peek(ReadOnlySpan<byte> value, int p) => p < value.Length ? value[p] : -1;

    private static void SkipBlanks(ReadOnlySpan<byte> value, ref int p)
    {
        while (p < value.Length && value[p] == ' ')
        {
            p++;
        }
    }

    /// <summary>One digit or more; false when there is none or the number does not fit.</summary>
    private static bool Number(ReadOnlySpan<byte> value, ref int p, out long number)
    {
        number = 0;
        int start = p;
        while (p < value.Length)
        {
            uint digit = (uint)(value[p] - '0');
            if (digit > 9)
            {
                break;
            }
            if (number > (long.MaxValue - digit) / 10)
            {
                return false;
            }
            number = number * 10 + digit;
            p++;
        }
        return p > start;
    }
}
