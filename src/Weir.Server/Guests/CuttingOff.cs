// A stop that waits no longer: handlers are told, get a moment, then every request is taken back and every connection
// closed. The loop is not stopped here: handlers that have not come back continue on it, and write into its memory.
// The loop's thread.
using Weir.Loop;

namespace Weir.Server;

internal sealed class CuttingOff(EventLoop loop, IReadOnlyCollection<GuestLoop> guests, Func<bool> isDone)
{
    /// <summary>How long handlers that listen for it have to end by themselves.</summary>
    private const int HandlersMs = 500;

    private const int AgainMs = 10;

    internal void Begin()
    {
        if (!isDone())
        {
            foreach (GuestLoop those in guests)
            {
                those.AbortAll();
            }
            loop.Timers.Set(new CallbackTimer(CloseAll), loop.NowMs + HandlersMs);
        }
    }

    /// <summary>Again and again until the last connection has told so: an answer that a guest is giving to the kernel
    /// is waited for.</summary>
    private void CloseAll()
    {
        if (isDone())
        {
            return;
        }
        bool all = true;
        foreach (GuestLoop those in guests)
        {
            all &= those.CutOffAll();
        }
        if (all)
        {
            loop.CloseConnections();
        }
        loop.Timers.Set(new CallbackTimer(CloseAll), loop.NowMs + AgainMs);
    }
}
