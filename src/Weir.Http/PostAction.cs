// post_action: a request that was answered goes on to another location, whose answer nobody gets: it counts, or tells
// another server what was sent. Runs as a subrequest that knows the status and the bytes of the answer, also when the
// client went away before its end; the connection waits for it.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

internal static class PostAction
{
    /// <summary>The location that a post_action leads to may have one of its own, and so on.</summary>
    internal static async LoopTask<Unit> RunAsync(HttpRequest r)
    {
        NativeSlice target = r.Location.Settings.PostActionBytes;
        for (int steps = 0; !target.IsEmpty; steps++)
        {
            if (steps == HttpRequest.RedirectsMax)
            {
                r.LogError(LogLevel.Error,
                    $"rewrite or internal redirection cycle while internally redirecting to \"{target}\"");
                r.Response.Status = 500;
                break;
            }
            if (SubRequest.Start(r, target, default) is not { } sub)
            {
                break;
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
                target = sub.Location.Settings.PostActionBytes;
                SubRequest.End(sub, keepsVariables: false);
            }
        }
        return default;
    }
}
