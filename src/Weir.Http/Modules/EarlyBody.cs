// client_body_early_read: reads the body of a request before its server's rewrites and its location, where one of the
// conditions holds, so that variables may be made of it. Keeps nothing.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class EarlyBodySettings
{
    internal InheritedList<Template> Conditions;
}

internal sealed class EarlyBodyModule : HttpModule
{
    public override string Name => "http_early_body";

    public override bool InheritsWhole => true;

    public override object CreateServer(HttpBuild build) => new EarlyBodySettings();

    public override void Declare(HttpDeclarations d) =>
        d.Server<EarlyBodySettings>("client_body_early_read", static (u, s) =>
        {
            for (int i = 0; i < u.Count; i++)
            {
                if (u.Template(i) is { } condition)
                {
                    s.Conditions.Add(condition);
                }
            }
        });

    public override void MergeServer(HttpBuild build, object parent, object child) =>
        ((EarlyBodySettings)child).Conditions.Merge(in ((EarlyBodySettings)parent).Conditions);

    public override void InstallServer(ServerInstall install)
    {
        var settings = (EarlyBodySettings)install.Server.Modules[Index]!;
        if (settings.Conditions.Array.Length > 0)
        {
            install.Add(Phase.PostRead, new EarlyBodyHandler(settings.Conditions.Array));
        }
    }
}

internal sealed class EarlyBodyHandler(Template[] conditions) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (!r.IsMain || r.IsInternal || !r.Body.IsExpected || r.Body.IsCollected)
        {
            return PhaseResult.Next;
        }
        foreach (Template condition in conditions)
        {
            NativeSlice value = condition.Evaluate(r);
            if (!value.IsEmpty && value.Span is not [(byte)'0'])
            {
                return CollectAsync(r);
            }
        }
        return PhaseResult.Next;
    }

    private static async LoopTask<PhaseResult> CollectAsync(HttpRequest r)
    {
        int status = await r.Body.CollectAsync();
        return status == 0 ? PhaseResult.Next : PhaseResult.Answer(status);
    }
}
