// mirror, mirror_request_body: copies of a request go to other places as background subrequests whose answers nobody
// reads. The answer to the client does not wait for them; the request's memory does.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http.Modules;

internal sealed class MirrorSettings
{
    public InheritedList<NativeSlice> Targets;
    public Inherited<bool> RequestBody;
    public bool IsOff { get; set; }
}

internal sealed class MirrorModule : HttpModule<MirrorSettings>
{
    public override string Name => "http_mirror";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<MirrorSettings>("mirror", static (u, s) =>
        {
            if (u[0] == "off" ? s.Targets.IsSet || s.IsOff : s.IsOff)
            {
                u.Complain("is duplicate");
            }
            else if (u[0] == "off")
            {
                s.IsOff = true;
            }
            else
            {
                s.Targets.Add(u.Store(0));
            }
        });
        d.Location<MirrorSettings>("mirror_request_body", static (u, s) => u.SetFlag(ref s.RequestBody));
    }

    protected override void Merge(HttpBuild build, MirrorSettings parent, MirrorSettings child)
    {
        if (child.IsOff)
        {
            child.Targets.Merge();
        }
        else
        {
            child.Targets.Merge(parent.Targets);
        }
        child.RequestBody.Merge(parent.RequestBody, true);
    }

    public override void InstallLocation(LocationInstall install)
    {
        MirrorSettings settings = install.Settings<MirrorSettings>(this);
        if (settings.Targets.Array.Length > 0)
        {
            install.Add(Phase.PreContent, install.Shared(settings, static s =>
                new MirrorHandler(s.Targets.Array, s.RequestBody.Value)));
        }
    }
}

internal sealed class MirrorHandler(NativeSlice[] targets, bool requestBody) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (!r.IsMain)
        {
            return PhaseResult.Next;
        }
        if (requestBody && r.Body is { IsExpected: true, IsCollected: false })
        {
            return CollectAsync(r);
        }
        Start(r);
        return PhaseResult.Next;
    }

    private async LoopTask<PhaseResult> CollectAsync(HttpRequest r)
    {
        int status = await r.Body.CollectAsync();
        if (status != 0)
        {
            return PhaseResult.Answer(status);
        }
        Start(r);
        return PhaseResult.Next;
    }

    private void Start(HttpRequest r)
    {
        foreach (NativeSlice target in targets)
        {
            if (SubRequest.Start(r, target, r.Args) is { } copy)
            {
                copy.Method = r.Method;
                copy.MethodName = r.MethodName;
                copy.SharesBody = requestBody;
                r.Attach();
                CopyAsync(r, copy).Forget();
            }
        }
    }

    private static async LoopTask<Unit> CopyAsync(HttpRequest r, HttpRequest copy)
    {
        try
        {
            await SubRequest.RunAsync(copy);
        }
        finally
        {
            SubRequest.End(copy, keepsVariables: false);
            r.Detach();
        }
        return default;
    }
}
