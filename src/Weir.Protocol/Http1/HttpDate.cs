// Dates of HTTP (RFC 9110 §5.6.7): written in the one form, read in all three. Proleptic Gregorian calendar, UTC,
// seconds since 1970. Pure, no memory.
namespace Weir.Protocol.Http1;

/// <summary>A moment taken apart.</summary>
public readonly record struct CivilTime(int Year, int Month, int Day, int Hour, int Minute, int Second, int Weekday)
{
    /// <summary>Takes seconds since 1970 apart, within the years 0 to 9999.</summary>
    public static CivilTime FromUnix(long seconds)
    {
        seconds = Math.Clamp(seconds, -62167219200, 253402300799);
        long days = Math.DivRem(seconds, 86400, out long rest);
        if (rest < 0)
        {
            rest += 86400;
            days--;
        }
        int weekday = (int)(((days + 4) % 7 + 7) % 7);
        // Years counted from March, so that the leap day is a year's last.
        long z = days + 719468;
        long era = (z >= 0 ? z : z - 146096) / 146097;
        int dayOfEra = (int)(z - era * 146097);
        int yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365;
        int dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
        int shifted = (5 * dayOfYear + 2) / 153;
        int day = dayOfYear - (153 * shifted + 2) / 5 + 1;
        int month = shifted < 10 ? shifted + 3 : shifted - 9;
        int year = (int)(yearOfEra + era * 400) + (month <= 2 ? 1 : 0);
        int second = (int)rest;
        return new CivilTime(year, month, day, second / 3600, second / 60 % 60, second % 60, weekday);
    }

    /// <summary>Seconds since 1970.</summary>
    public long ToUnix()
    {
        long year = Month <= 2 ? Year - 1 : Year;
        long era = (year >= 0 ? year : year - 399) / 400;
        int yearOfEra = (int)(year - era * 400);
        int dayOfYear = (153 * (Month > 2 ? Month - 3 : Month + 9) + 2) / 5 + Day - 1;
        int dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear;
        long days = era * 146097 + dayOfEra - 719468;
        return days * 86400 + Hour * 3600 + Minute * 60 + Second;
    }

    /// <summary>Whether every part is in its range.</summary>
    public bool IsValid
    {
        get
        {
            if (Month is < 1 or > 12 || Day < 1 || Hour > 23 || Minute > 59 || Second > 59)
            {
                return false;
            }
            bool leap = Year % 4 == 0 && (Year % 100 != 0 || Year % 400 == 0);
            int days = Month switch
            {
                2 => leap ? 29 : 28,
                4 or 6 or 9 or 11 => 30,
                _ => 31,
            };
            return Day <= days;
        }
    }
}

/// <summary>Reads and writes dates of HTTP.</summary>
public static class HttpDate
{
    /// <summary>Length of the written form.</summary>
    public const int Length = 29;

    internal static ReadOnlySpan<byte> Days => "SunMonTueWedThuFriSat"u8;
    internal static ReadOnlySpan<byte> Months => "JanFebMarAprMayJunJulAugSepOctNovDec"u8;

    /// <summary>Writes <c>Sun, 22 Nov 2026 10:17:59 GMT</c>: always <see cref="Length"/> bytes.</summary>
    public static int Format(long unixSeconds, Span<byte> destination)
    {
        CivilTime t = CivilTime.FromUnix(unixSeconds);
        "Sun, 00 Jan 0000 00:00:00 GMT"u8.CopyTo(destination);
        Days.Slice(t.Weekday * 3, 3).CopyTo(destination);
        Two(t.Day, destination[5..]);
        Months.Slice((t.Month - 1) * 3, 3).CopyTo(destination[8..]);
        Four(t.Year, destination[12..]);
        Two(t.Hour, destination[17..]);
        Two(t.Minute, destination[20..]);
        Two(t.Second, destination[23..]);
        return Length;
    }

    /// <summary>Reads a date in any of the three forms. The day's name is not checked against the date, as in
    /// nginx.</summary>
    public static bool TryParse(ReadOnlySpan<byte> text, out long unixSeconds)
    {
        unixSeconds = 0;
        int comma = text.IndexOf((byte)',');
        var reader = new Reader(comma < 0 ? text : text[(comma + 1)..]);
        int year, month, day, hour, minute, second;
        if (comma < 0)
        {
            // Sun Nov  6 08:49:37 1994
            if (text.Length < 4 || text[3] != ' ' || !reader.Skip(4) || !reader.Month(out month)
                || !reader.Is(' ') || !reader.PaddedDay(out day) || !reader.Is(' ')
                || !reader.Time(out hour, out minute, out second) || !reader.Is(' ') || !reader.Number(4, out year))
            {
                return false;
            }
        }
        else
        {
            reader.Blanks();
            if (!reader.Number(2, out day))
            {
                return false;
            }
            bool old = reader.Peek == '-';
            char separator = old ? '-' : ' ';
            if (!reader.Is(separator) || !reader.Month(out month) || !reader.Is(separator)
                || !reader.Number(old ? 2 : 4, out year) || !reader.Is(' ')
                || !reader.Time(out hour, out minute, out second) || !reader.Is(' ') || !reader.Gmt())
            {
                return false;
            }
            if (old)
            {
                // Two digits: nginx takes 70 and above for the last century.
                year += year < 70 ? 2000 : 1900;
            }
        }
        reader.Blanks();
        var time = new CivilTime(year, month, day, hour, minute, second == 60 ? 59 : second, 0);
        if (!reader.AtEnd || !time.IsValid || second > 60)
        {
            return false;
        }
        unixSeconds = time.ToUnix();
        return true;
    }

    internal static void Two(int value, Span<byte> destination)
    {
        destination[0] = (byte)('0' + value / 10);
        destination[1] = (byte)('0' + value % 10);
    }

    internal static void Four(int value, Span<byte> destination)
    {
        Two(value / 100, destination);
        Two(value % 100, destination[2..]);
    }

    private ref struct Reader(ReadOnlySpan<byte> text)
    {
        private ReadOnlySpan<byte> _rest = text;

        public readonly bool AtEnd => _rest.IsEmpty;
        public readonly int Peek => _rest.IsEmpty ? -1 : _rest[0];

        public bool Skip(int count)
        {
            if (_rest.Length < count)
            {
                return false;
            }
            _rest = _rest[count..];
            return true;
        }

        public bool Is(char c) => Peek == c && Skip(1);

        public void Blanks() => _rest = _rest.TrimStart((byte)' ');

        public bool Gmt() => _rest.StartsWith("GMT"u8) && Skip(3);

        public bool Number(int digits, out int value)
        {
            value = 0;
            if (_rest.Length < digits)
            {
                return false;
            }
            foreach (byte c in _rest[..digits])
            {
                uint digit = (uint)(c - '0');
                if (digit > 9)
                {
                    return false;
                }
                value = value * 10 + (int)digit;
            }
            return Skip(digits);
        }

        public bool PaddedDay(out int day)
        {
            if (Peek == ' ')
            {
                Skip(1);
                return Number(1, out day);
            }
            return Number(2, out day);
        }

        public bool Month(out int month)
        {
            month = 0;
            if (_rest.Length < 3)
            {
                return false;
            }
            for (int i = 0; i < 12; i++)
            {
                if (_rest[..3].SequenceEqual(Months.Slice(i * 3, 3)))
                {
                    month = i + 1;
                    return Skip(3);
                }
            }
            return false;
        }

        public bool Time(out int hour, out int minute, out int second)
        {
            minute = second = 0;
            return Number(2, out hour) && Is(':') && Number(2, out minute) && Is(':') && Number(2, out second);
        }
    }
}

/// <summary>The time forms of nginx's logs.</summary>
public static class TimeFormats
{
    public const int LocalLength = 26;
    public const int Iso8601Length = 25;
    public const int ErrorLogLength = 19;

    /// <summary><c>22/Nov/2026:10:17:59 +0000</c> ($time_local).</summary>
    public static int WriteLocal(long unixSeconds, int offsetMinutes, Span<byte> destination)
    {
        CivilTime t = CivilTime.FromUnix(unixSeconds + offsetMinutes * 60L);
        "00/Jan/0000:00:00:00 +0000"u8.CopyTo(destination);
        HttpDate.Two(t.Day, destination);
        HttpDate.Months.Slice((t.Month - 1) * 3, 3).CopyTo(destination[3..]);
        HttpDate.Four(t.Year, destination[7..]);
        Clock(t, destination[12..]);
        Offset(offsetMinutes, destination[21..], 3);
        return LocalLength;
    }

    /// <summary><c>2026-11-22T10:17:59+00:00</c> ($time_iso8601).</summary>
    public static int WriteIso8601(long unixSeconds, int offsetMinutes, Span<byte> destination)
    {
        CivilTime t = CivilTime.FromUnix(unixSeconds + offsetMinutes * 60L);
        "0000-00-00T00:00:00+00:00"u8.CopyTo(destination);
        HttpDate.Four(t.Year, destination);
        HttpDate.Two(t.Month, destination[5..]);
        HttpDate.Two(t.Day, destination[8..]);
        Clock(t, destination[11..]);
        Offset(offsetMinutes, destination[19..], 4);
        return Iso8601Length;
    }

    /// <summary><c>2026/11/22 10:17:59</c>, as the error log has it.</summary>
    public static int WriteErrorLog(long unixSeconds, int offsetMinutes, Span<byte> destination)
    {
        CivilTime t = CivilTime.FromUnix(unixSeconds + offsetMinutes * 60L);
        "0000/00/00 00:00:00"u8.CopyTo(destination);
        HttpDate.Four(t.Year, destination);
        HttpDate.Two(t.Month, destination[5..]);
        HttpDate.Two(t.Day, destination[8..]);
        Clock(t, destination[11..]);
        return ErrorLogLength;
    }

    private static void Clock(CivilTime t, Span<byte> destination)
    {
        HttpDate.Two(t.Hour, destination);
        HttpDate.Two(t.Minute, destination[3..]);
        HttpDate.Two(t.Second, destination[6..]);
    }

    private static void Offset(int offsetMinutes, Span<byte> destination, int minutesAt)
    {
        destination[0] = (byte)(offsetMinutes < 0 ? '-' : '+');
        offsetMinutes = Math.Abs(offsetMinutes);
        HttpDate.Two(offsetMinutes / 60 % 100, destination[1..]);
        HttpDate.Two(offsetMinutes % 60, destination[minutesAt..]);
    }
}
