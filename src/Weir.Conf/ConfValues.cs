// What arguments mean: nginx's numbers, sizes, times, words, buffers and file modes. Every reader answers whether the
// text is one and gives it out; which message that makes is the caller's (ConfWalker has nginx's). Pure, any thread.
namespace Weir.Conf;

/// <summary>The pair of a <c>proxy_buffers 8 4k</c>.</summary>
public readonly record struct ConfBufs(int Count, long Bytes);

/// <summary>One word of a directive that takes words, and what it stands for.</summary>
public readonly record struct ConfChoice<T>(string Word, T Value);

public static class ConfValues
{
    private const long SecondsPerMinute = 60;
    private const long SecondsPerHour = 60 * SecondsPerMinute;
    private const long SecondsPerDay = 24 * SecondsPerHour;

    /// <summary>"on" or "off", in either case.</summary>
    public static bool TryFlag(string text, out bool value)
    {
        value = text.Equals("on", StringComparison.OrdinalIgnoreCase);
        return value || text.Equals("off", StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>Digits only, up to 2^63−1.</summary>
    public static bool TryNumber(ReadOnlySpan<char> text, out long value)
    {
        value = 0;
        foreach (char c in text)
        {
            if (!char.IsAsciiDigit(c) || value > (long.MaxValue - (c - '0')) / 10)
            {
                value = 0;
                return false;
            }
            value = (value * 10) + (c - '0');
        }
        return text.Length > 0;
    }

    /// <summary>
    /// A number with up to <paramref name="digits"/> decimal places, times 10^digits: weights, rates, quality.
    /// </summary>
    public static bool TryFixed(ReadOnlySpan<char> text, int digits, out long value)
    {
        value = 0;
        int left = digits;
        bool point = false;
        foreach (char c in text)
        {
            if (c == '.' && !point)
            {
                point = true;
                continue;
            }
            if (!char.IsAsciiDigit(c) || (point && left == 0) || value > (long.MaxValue - (c - '0')) / 10)
            {
                return false;
            }
            value = (value * 10) + (c - '0');
            left -= point ? 1 : 0;
        }
        for (; left > 0; left--)
        {
            if (value > long.MaxValue / 10)
            {
                return false;
            }
            value *= 10;
        }
        return text.Length > 0;
    }

    /// <summary>Bytes in memory: a number, or one with k, K, m or M.</summary>
    public static bool TrySize(ReadOnlySpan<char> text, out long bytes) => TryScaled(text, gigabytes: false, out bytes);

    /// <summary>Bytes in a file: as a size, and g or G.</summary>
    public static bool TryOffset(ReadOnlySpan<char> text, out long bytes) =>
        TryScaled(text, gigabytes: true, out bytes);

    /// <summary>
    /// A time in milliseconds: units w d h m s ms, largest first, each once; a plain number is seconds.
    /// </summary>
    public static bool TryMsec(ReadOnlySpan<char> text, out long ms) => TryTime(text, inSeconds: false, out ms);

    /// <summary>A time in seconds: as milliseconds with y and M (months of 30 days) before, and without ms.</summary>
    public static bool TrySec(ReadOnlySpan<char> text, out long seconds) => TryTime(text, inSeconds: true, out seconds);

    public static bool TryBufs(ReadOnlySpan<char> count, ReadOnlySpan<char> size, out ConfBufs bufs)
    {
        bool good = TryNumber(count, out long number) & TrySize(size, out long bytes)
            && number is > 0 and <= int.MaxValue && bytes > 0;
        bufs = good ? new ConfBufs((int)number, bytes) : default;
        return good;
    }

    /// <summary>One of a set of words, in either case.</summary>
    public static bool TryEnum<T>(string text, ReadOnlySpan<ConfChoice<T>> choices, out T value)
    {
        foreach (ConfChoice<T> choice in choices)
        {
            if (text.Equals(choice.Word, StringComparison.OrdinalIgnoreCase))
            {
                value = choice.Value;
                return true;
            }
        }
        value = default!;
        return false;
    }

    /// <summary>
    /// The right-hand words of proxy_store_access and its like: <c>user:rw</c>, <c>group:r</c>, <c>all:r</c>, as
    /// bits of a file mode to be added to 0600.
    /// </summary>
    public static bool TryAccess(ReadOnlySpan<char> text, ref int mode)
    {
        int colon = text.IndexOf(':');
        int shift = colon < 0 ? -1 : text[..colon] switch
        {
            "user" => 6,
            "group" => 3,
            "all" => 0,
            _ => -1,
        };
        int bits = shift < 0 ? -1 : text[(colon + 1)..] switch
        {
            "rw" => 6,
            "r" => 4,
            _ => -1,
        };
        if (bits < 0)
        {
            return false;
        }
        mode |= bits << shift;
        return true;
    }

    /// <summary>An octal file mode such as 0640.</summary>
    public static bool TryMode(ReadOnlySpan<char> text, out int mode)
    {
        mode = 0;
        foreach (char c in text)
        {
            if (c is < '0' or > '7' || mode > 0x1FF)
            {
                return false;
            }
            mode = (mode * 8) + (c - '0');
        }
        return text.Length > 0 && mode <= 0xFFF;
    }

    private static bool TryScaled(ReadOnlySpan<char> text, bool gigabytes, out long bytes)
    {
        bytes = 0;
        if (text.IsEmpty)
        {
            return false;
        }
        int shift = text[^1] switch
        {
            'k' or 'K' => 10,
            'm' or 'M' => 20,
            'g' or 'G' when gigabytes => 30,
            _ => 0,
        };
        if (!TryNumber(shift > 0 ? text[..^1] : text, out long number) || number > long.MaxValue >> shift)
        {
            return false;
        }
        bytes = number << shift;
        return true;
    }

    /// <summary>Where in the order of units a time has arrived; each unit is used at most once.</summary>
    private enum Step
    {
        Start,
        Year,
        Month,
        Week,
        Day,
        Hour,
        Minute,
        Second,
        Millisecond,
        Last,
    }

    private static bool TryTime(ReadOnlySpan<char> text, bool inSeconds, out long total)
    {
        total = 0;
        long value = 0;
        bool digits = false;
        Step step = inSeconds ? Step.Start : Step.Month;
        int i = 0;
        while (i < text.Length)
        {
            char c = text[i++];
            if (char.IsAsciiDigit(c))
            {
                if (value > (long.MaxValue - (c - '0')) / 10)
                {
                    return false;
                }
                value = (value * 10) + (c - '0');
                digits = true;
                continue;
            }
            bool milli = c == 'm' && i < text.Length && text[i] == 's';
            i += milli ? 1 : 0;
            (Step unit, long scale) = milli ? (Step.Millisecond, 1) : Unit(c);
            // A year may stand only first; seconds also end what a space ended.
            bool late = unit == Step.Last ? step >= Step.Second : step >= unit;
            if (unit == Step.Start || late || (milli && inSeconds))
            {
                return false;
            }
            step = unit;
            if (!milli && !inSeconds)
            {
                scale *= 1000;
            }
            if (!TryAdd(ref total, value, scale))
            {
                return false;
            }
            value = 0;
            while (i < text.Length && text[i] == ' ')
            {
                i++;
            }
        }
        return digits && TryAdd(ref total, value, inSeconds ? 1 : 1000);
    }

    private static (Step Unit, long Scale) Unit(char c) => c switch
    {
        'y' => (Step.Year, 365 * SecondsPerDay),
        'M' => (Step.Month, 30 * SecondsPerDay),
        'w' => (Step.Week, 7 * SecondsPerDay),
        'd' => (Step.Day, SecondsPerDay),
        'h' => (Step.Hour, SecondsPerHour),
        'm' => (Step.Minute, SecondsPerMinute),
        's' => (Step.Second, 1),
        ' ' => (Step.Last, 1),
        _ => (Step.Start, 0),
    };

    private static bool TryAdd(ref long total, long value, long scale)
    {
        if (value > long.MaxValue / scale || total > long.MaxValue - (value * scale))
        {
            return false;
        }
        total += value * scale;
        return true;
    }
}
