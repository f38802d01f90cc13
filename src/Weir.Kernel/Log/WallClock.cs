// Wall-clock time in the forms log lines use, in the local time zone as libc knows it (TZ, /etc/localtime).
// An instance keeps one immutable stamp of the last second it formatted, swapped whole, so any thread may ask.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>The time of day for logs.</summary>
public sealed unsafe partial class WallClock
{
    /// <summary>Bytes of "2026/11/22 10:17:59".</summary>
    public const int LogTimeBytes = 19;

    /// <summary>Bytes of "Nov 22 10:17:59".</summary>
    public const int SyslogTimeBytes = 15;

    private Stamp _last = new(long.MinValue, new byte[LogTimeBytes], new byte[SyslogTimeBytes]);

    /// <summary>Seconds since 1970.</summary>
    public static long NowSeconds()
    {
        long* time = stackalloc long[2];
        clock_gettime(0, time);
        return time[0];
    }

    /// <summary>nginx's error log time; returns the bytes written.</summary>
    public int FormatLogTime(long seconds, Span<byte> text)
    {
        StampOf(seconds).Log.CopyTo(text);
        return LogTimeBytes;
    }

    /// <summary>The time as syslog wants it (RFC 3164); returns the bytes written.</summary>
    public int FormatSyslogTime(long seconds, Span<byte> text)
    {
        StampOf(seconds).Syslog.CopyTo(text);
        return SyslogTimeBytes;
    }

    /// <summary>Minutes that local time is ahead of UTC at that second.</summary>
    public static int OffsetMinutes(long seconds)
    {
        // tm_gmtoff stands behind nine ints, at the next multiple of eight.
        int* tm = stackalloc int[16];
        localtime_r(&seconds, tm);
        return (int)(*(long*)(tm + 10) / 60);
    }

    private Stamp StampOf(long seconds)
    {
        Stamp last = _last;
        if (last.Second != seconds)
        {
            last = Format(seconds);
            _last = last;
        }
        return last;
    }

    private static Stamp Format(long seconds)
    {
        // struct tm: nine ints (sec, min, hour, mday, mon, year, wday, yday, isdst), then the zone.
        int* tm = stackalloc int[16];
        localtime_r(&seconds, tm);
        byte[] log = new byte[LogTimeBytes];
        Four(log, 0, tm[5] + 1900);
        log[4] = log[7] = (byte)'/';
        Two(log, 5, tm[4] + 1);
        Two(log, 8, tm[3]);
        log[10] = (byte)' ';
        Clock(log, 11, tm);
        byte[] syslog = new byte[SyslogTimeBytes];
        "JanFebMarAprMayJunJulAugSepOctNovDec"u8.Slice(tm[4] * 3, 3).CopyTo(syslog);
        syslog[3] = syslog[6] = (byte)' ';
        Two(syslog, 4, tm[3]);
        if (syslog[4] == '0')
        {
            syslog[4] = (byte)' ';
        }
        Clock(syslog, 7, tm);
        return new Stamp(seconds, log, syslog);

        static void Clock(byte[] text, int at, int* tm)
        {
            Two(text, at, tm[2]);
            Two(text, at + 3, tm[1]);
            Two(text, at + 6, tm[0]);
            text[at + 2] = text[at + 5] = (byte)':';
        }

        static void Two(byte[] text, int at, int value)
        {
            text[at] = (byte)('0' + (value / 10 % 10));
            text[at + 1] = (byte)('0' + (value % 10));
        }

        static void Four(byte[] text, int at, int value)
        {
            Two(text, at, value / 100);
            Two(text, at + 2, value % 100);
        }
    }

    [LibraryImport("libc")]
    private static partial int clock_gettime(int clock, long* time);

    [LibraryImport("libc")]
    private static partial int* localtime_r(long* seconds, int* tm);

    private sealed record Stamp(long Second, byte[] Log, byte[] Syslog);
}
