// A stale response was served and is asked for anew behind the client's back: a request of its own, with its own
// memory, which nobody waits for. It runs the same content handler with the same head; what it brings is stored and
// sent to nobody. One loop's thread.
using Weir.Loop;

namespace Weir.Http.Cache;

internal static class BackgroundUpdate
{
    /// <summary>Starts the update; the right to fetch goes over to it. False when the request cannot be made
    /// again.</summary>
    internal static bool TryStart(CachedRequest cached)
    {
        HttpRequest r = cached.OfRequest;
        if (r.Head.HasBody || !r.IsMain || r.Location.ContentHandler is not { } handler)
        {
            return false;
        }
        HttpRequest update = DetachedRequest.Start(r);
        cached.HandOver(update.Get(CachedRequest.Slot));
        RunAsync(update, handler).Forget();
        return true;
    }

    private static async LoopTask<Unit> RunAsync(HttpRequest update, PhaseHandler handler)
    {
        try
        {
            // What answers the client now goes first.
            await update.Loop.YieldAsync();
            await handler.RunAsync(update);
        }
        finally
        {
            DetachedRequest.End(update);
        }
        return default;
    }
}
