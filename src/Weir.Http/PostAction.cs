// post_action: a request that was answered goes on to another location, whose answer nobody gets: it counts, or tells
// another server what was sent. Runs as a subrequest that knows the status and the bytes of the answer, also when the
// client went away before its end; the connection waits for it.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

internal static class PostAction
{
    internal static async LoopTask<Unit> RunAsync(HttpRequest r)
    {
        NativeSlice target = r.Location.Settings.PostActionBytes;
        if (SubRequest.Start(r, target, default) is not { } sub)
        {
            return default;
        }
        sub.SubStream!.Detach();
        sub.IsPostAction = true;
        sub.Response.Status = r.Response.Status;
        sub.HeadBytesSent = r.HeadBytesSent;
        sub.WireBodyBytes = r.WireBodyBytes;
        sub.BodyBytesSent = r.BodyBytesSent;
        try
        {
            await (target.Span[0] == '@' ? sub.RunNamedAsync(target) : SubRequest.RunAsync(sub));
        }
        finally
        {
            SubRequest.End(sub, keepsVariables: false);
        }
        return default;
    }
}
