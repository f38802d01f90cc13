// A process's title as ps shows it: the argv area of its own memory, overwritten in place. Its room is what the program
// was started with, so whoever starts a Weir process leaves room (empty arguments). Main thread, rarely.
using System.Globalization;
using System.Text;

namespace Weir.Kernel;

/// <summary>Overwrites the argument area that /proc/self/cmdline shows.</summary>
public static unsafe class ProcessTitle
{
    /// <summary>Room in bytes, end mark included; 0 when /proc does not say.</summary>
    public static int RoomBytes => TryFindArea(out _, out int room) ? room : 0;

    /// <summary>Shows as much of the title as there is room for. False when there is no /proc.</summary>
    public static bool Set(string title)
    {
        if (!TryFindArea(out byte* start, out int room) || room < 2)
        {
            return false;
        }
        byte[] text = Encoding.UTF8.GetBytes(title);
        int bytes = Math.Min(text.Length, room - 1);
        var area = new Span<byte>(start, room);
        text.AsSpan(0, bytes).CopyTo(area);
        area[bytes..].Clear();
        return true;
    }

    private static bool TryFindArea(out byte* start, out int room)
    {
        start = null;
        room = 0;
        // proc(5): arg_start and arg_end are fields 48 and 49; the name in field 2 may hold spaces and brackets.
        string stat;
        try
        {
            stat = File.ReadAllText("/proc/self/stat");
        }
        catch (IOException)
        {
            return false;
        }
        catch (UnauthorizedAccessException)
        {
            return false;
        }
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        const int firstField = 3;
        if (fields.Length <= 49 - firstField
            || !ulong.TryParse(fields[48 - firstField], CultureInfo.InvariantCulture, out ulong from)
            || !ulong.TryParse(fields[49 - firstField], CultureInfo.InvariantCulture, out ulong to)
            || from == 0 || to <= from || to - from > 1 << 20)
        {
            return false;
        }
        start = (byte*)from;
        room = (int)(to - from);
        return true;
    }
}
