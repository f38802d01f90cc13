// Waiting for something to become true: polled, bounded, and never longer than it takes.
using System.Diagnostics;

namespace Weir.Tests.Harness;

/// <summary>Bounded waiting.</summary>
public static class Wait
{
    /// <summary>Polls until the condition holds; false when the time is up.</summary>
    public static bool Until(Func<bool> condition, int timeoutMs = 30_000)
    {
        long start = Stopwatch.GetTimestamp();
        for (int pauseMs = 1; ; pauseMs = Math.Min(pauseMs * 2, 20))
        {
            if (condition())
            {
                return true;
            }

            if (Stopwatch.GetElapsedTime(start).TotalMilliseconds > timeoutMs)
            {
                return false;
            }

            Thread.Sleep(pauseMs);
        }
    }

    /// <summary>Polls until the condition holds, or throws with what was waited for.</summary>
    public static void For(string what, Func<bool> condition, int timeoutMs = 30_000)
    {
        if (!Until(condition, timeoutMs))
        {
            throw new TimeoutException($"waited {timeoutMs} ms in vain: {what}");
        }
    }
}
