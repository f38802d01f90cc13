// The clock of all paths here: batches of one operation, the median of their times, the bytes that were allocated.
using System.Diagnostics;

namespace Weir.Bench.Micro;

internal static class Batches
{
    private const int Operations = 100_000;
    private const int Count = 15;

    internal static void Head() => Console.WriteLine($"{"path",-36}{"ns",10}{"bytes",10}");

    internal static void Time(string name, Action operation, int operations = Operations)
    {
        for (int i = 0; i < operations; i++)
        {
            operation();
        }
        var times = new double[Count];
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        for (int b = 0; b < Count; b++)
        {
            long start = Stopwatch.GetTimestamp();
            for (int i = 0; i < operations; i++)
            {
                operation();
            }
            times[b] = Stopwatch.GetElapsedTime(start).TotalNanoseconds / operations;
        }
        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        Array.Sort(times);
        Console.WriteLine($"{name,-36}{times[Count / 2],10:F1}{(double)allocated / operations / Count,10:F2}");
    }
}
