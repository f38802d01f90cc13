// rewrite, return, set, if, break, rewrite_log, uninitialized_variable_warn: nginx's rewrite module. The directives of
// a block are compiled, in their order, to a list of steps; an `if` holds the steps of its block and, in a location,
// the settings that are in force from then on. Steps are frozen with the configuration and keep nothing of a request.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>The steps of one very server, location or `if`.</summary>
internal sealed class RewriteSteps
{
    public List<RewriteStep> List { get; } = new(1);
}

internal sealed class RewriteSettings
{
    public Inherited<bool> Log;
    public Inherited<bool> WarnUninitialized;
}

internal sealed class RewriteModule : HttpModule<RewriteSettings>
{
    public override string Name => "http_rewrite";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Block("rewrite", static u => Add(u, RewriteRule.Compile(u)));
        d.Block("return", static u => Add(u, ReturnStep.Compile(u)));
        d.Block("break", static u => Add(u, new BreakStep()));
        d.Block("set", u => Add(u, SetStep.Compile(u, this)));
        d.Block("if", static u => Add(u, EnterIf(u)));
        d.Location<RewriteSettings>("rewrite_log", static (u, s) => u.SetFlag(ref s.Log));
        d.Location<RewriteSettings>("uninitialized_variable_warn", static (u, s) => u.SetFlag(ref s.WarnUninitialized));
    }

    private static void Add(DirectiveUse use, RewriteStep? step)
    {
        if (step is not null)
        {
            if (use.Build.Trace is { } trace)
            {
                step = new TracedStep(trace, use.Directive, step);
            }
            use.Block.Here<RewriteSteps>().List.Add(step);
        }
    }

    /// <summary>The block has settings of its own, below those of the location around; its steps belong to the
    /// `if`.</summary>
    private static IfStep? EnterIf(DirectiveUse use)
    {
        Condition? condition = Condition.Compile(use);
        HttpBlock block = use.Build.NewBlock(HttpBlockKind.If, use.Block, use.Directive);
        LocationConf location = block.Core;
        LocationConf around = use.Block.Core;
        location.IsNoName = true;
        location.Name = around.Name;
        location.Modifier = around.Modifier;
        location.NameBytes = around.NameBytes;
        (around.Children ??= []).Add(location);
        bool inServer = use.Block.Kind == HttpBlockKind.Server;
        use.Walker.WalkBlock(use.Directive, inServer ? ConfContext.IfInServer : ConfContext.IfInLocation, block);
        RewriteStep[] steps = block.FindHere<RewriteSteps>() is { } own ? [.. own.List] : [];
        if (use.Build.Trace is { } trace)
        {
            steps = [new TracedIf(trace, use.Directive), .. steps];
        }
        return condition is null ? null : new IfStep(condition, steps, inServer ? null : location);
    }

    /// <summary>The getter of a variable that only `set` gives a value.</summary>
    internal bool WarnUninitialized(HttpRequest r, Variable variable)
    {
        if (r.Logs(LogLevel.Warn) && Settings(r.Location).WarnUninitialized.Value)
        {
            r.LogError(LogLevel.Warn, $"using uninitialized \"{variable.Name}\" variable");
        }
        return true;
    }

    protected override void Merge(HttpBuild build, RewriteSettings parent, RewriteSettings child)
    {
        child.Log.Merge(parent.Log, false);
        child.WarnUninitialized.Merge(parent.WarnUninitialized, true);
    }

    public override void InstallServer(ServerInstall install)
    {
        if (install.Here<RewriteSteps>() is { } steps)
        {
            install.Add(Phase.ServerRewrite, HandlerFor(steps, install.Settings<RewriteSettings>(this)));
        }
    }

    public override void InstallLocation(LocationInstall install)
    {
        // A server's own steps run before a location is looked for, and not again where none is found.
        if (install.Location.Block.Kind == HttpBlockKind.Location
            && install.Here<RewriteSteps>() is { } steps)
        {
            install.Add(Phase.Rewrite, HandlerFor(steps, install.Settings<RewriteSettings>(this)));
        }
    }

    private static PhaseHandler HandlerFor(RewriteSteps steps, RewriteSettings settings) =>
        steps.List is [ReturnStep only] ? new ReturnHandler(only)
            : new RewriteHandler([.. steps.List], settings.Log.Value);
}

/// <summary>What a run over the steps has come to.</summary>
internal ref struct RewriteRun
{
    /// <summary>rewrite_log.</summary>
    internal bool Log;

    /// <summary>The decision; <see cref="PhaseOutcome.Next"/> while there is none.</summary>
    internal PhaseResult Result;
}

/// <summary>One directive, compiled.</summary>
internal abstract class RewriteStep
{
    /// <summary>Does its work; false ends the run.</summary>
    internal abstract bool Run(HttpRequest r, ref RewriteRun run);
}

/// <summary>A directive under trace.</summary>
internal sealed class TracedStep(RequestTrace trace, ConfDirective directive, RewriteStep inner) : RewriteStep
{
    internal override bool Run(HttpRequest r, ref RewriteRun run)
    {
        trace.BeforeStep(r, directive);
        bool goesOn = inner.Run(r, ref run);
        trace.AfterStep(r, directive, run.Result);
        return goesOn;
    }
}

/// <summary>The first step inside an `if` under trace.</summary>
internal sealed class TracedIf(RequestTrace trace, ConfDirective directive) : RewriteStep
{
    internal override bool Run(HttpRequest r, ref RewriteRun run)
    {
        trace.OnIfTaken(r, directive);
        return true;
    }
}

/// <summary>A block that is nothing but one `return`: the shortest way.</summary>
internal sealed class ReturnHandler(ReturnStep step) : PhaseHandler
{
    internal override bool AlwaysAnswers => true;

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r) => step.Answer(r);
}

/// <summary>Runs the steps of a server or a location.</summary>
internal sealed class RewriteHandler(RewriteStep[] steps, bool log) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        var run = new RewriteRun { Log = log };
        LocationConf entered = r.Location;
        foreach (RewriteStep step in steps)
        {
            if (!step.Run(r, ref run))
            {
                break;
            }
        }
        if (run.Result.Outcome != PhaseOutcome.Next)
        {
            return run.Result;
        }
        if (r.Location != entered && !r.UriChanged)
        {
            return PhaseResult.Relocate;
        }
        return PhaseResult.Next;
    }
}

/// <summary>return code [text | URL], return URL.</summary>
internal sealed class ReturnStep : RewriteStep
{
    private readonly int _status;
    private readonly Template? _text;

    private ReturnStep(int status, Template? text)
    {
        _status = status;
        _text = text;
    }

    internal static ReturnStep? Compile(DirectiveUse use)
    {
        if (!ConfValues.TryNumber(use[0], out long status))
        {
            if (use.Count == 1 && IsUrl(use[0]))
            {
                return use.Template(0) is { } url ? new ReturnStep(302, url) : null;
            }
            use.Error(0, $"invalid return code \"{use[0]}\"");
            return null;
        }
        if (status > 999)
        {
            use.Error(0, $"invalid return code \"{use[0]}\"");
            return null;
        }
        if (use.Count == 1)
        {
            return new ReturnStep((int)status, null);
        }
        return use.Template(1) is { } text ? new ReturnStep((int)status, text) : null;
    }

    /// <summary>A text that nginx takes for an absolute URL.</summary>
    internal static bool IsUrl(string text) => text.StartsWith("http://", StringComparison.Ordinal)
        || text.StartsWith("https://", StringComparison.Ordinal)
            || text.StartsWith("$scheme", StringComparison.Ordinal);

    internal override bool Run(HttpRequest r, ref RewriteRun run)
    {
        run.Result = Answer(r);
        return false;
    }

    internal PhaseResult Answer(HttpRequest r)
    {
        if (_status >= 400 && _text is null or { Source.Length: 0 })
        {
            return PhaseResult.Answer(_status);
        }
        r.Response.Status = _status;
        NativeSlice text = _text is null ? default : _text.Evaluate(r);
        if (_status is 301 or 302 or 303 or 307 or 308)
        {
            r.Response.Location = text;
            if (text.IsEmpty)
            {
                // nginx sends the field even so.
                r.Response.Add(NativeSlice.Literal("Location"u8), default, KnownResponseHeader.Location);
            }
            return PhaseResult.Answer(_status);
        }
        r.SetContentType();
        return r.SendComplete(text);
    }
}
