// The phases of a request in nginx's order, and what a handler answers. The order of phases is written once, here;
// the order of handlers within a phase is the order of Catalog.cs. A location's pipeline is one flat array that is
// built when the configuration is read: a module that is not used costs nothing.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

/// <summary>nginx's phases. Find-config, post-rewrite and post-access are steps of the engine, not places for
/// handlers.</summary>
public enum Phase
{
    PostRead,
    ServerRewrite,
    Rewrite,
    PreAccess,
    Access,
    PreContent,
    Content,
}

/// <summary>What a phase handler decided.</summary>
public enum PhaseOutcome : byte
{
    /// <summary>Not mine, or nothing to object: the next handler.</summary>
    Next,

    /// <summary>The response is complete, or the request is over.</summary>
    Done,

    /// <summary>Answer with <see cref="PhaseResult.Status"/>: through error_page, else with the built-in
    /// page.</summary>
    Answer,

    /// <summary>The URI, named location or server changed: find the location again and run its pipeline.</summary>
    Rerun,

    /// <summary>An `if` put other settings in force: the rest of the phases is taken from the new location.</summary>
    Relocate,

    /// <summary>For access handlers: allowed, which with `satisfy any` is enough.</summary>
    Allow,
}

/// <summary>A handler's decision as a value.</summary>
public readonly struct PhaseResult
{
    public readonly PhaseOutcome Outcome;
    public readonly int Status;

    private PhaseResult(PhaseOutcome outcome, int status)
    {
        Outcome = outcome;
        Status = status;
    }

    public static PhaseResult Next => default;
    public static PhaseResult Done => new(PhaseOutcome.Done, 0);
    public static PhaseResult Rerun => new(PhaseOutcome.Rerun, 0);
    public static PhaseResult Relocate => new(PhaseOutcome.Relocate, 0);
    public static PhaseResult Allow => new(PhaseOutcome.Allow, 0);
    public static PhaseResult Answer(int status) => new(PhaseOutcome.Answer, status);

    public static implicit operator LoopTask<PhaseResult>(PhaseResult result) => new(result);
}

/// <summary>One handler of a location's pipeline. Created when the configuration is read, one per location, with the
/// module's merged configuration in a field; holds no state of a request.</summary>
public abstract class PhaseHandler
{
    /// <summary>Runs. Completes at once where nothing has to be waited for (then nothing is allocated).</summary>
    public abstract LoopTask<PhaseResult> RunAsync(HttpRequest r);

    /// <summary>Nothing that stands behind it ever runs.</summary>
    internal virtual bool AlwaysAnswers => false;
}

/// <summary>The access handlers of a location under `satisfy all|any`.</summary>
internal sealed class AccessHandler(PhaseHandler[] handlers, bool satisfyAny, int delayMs) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (!r.IsMain)
        {
            // As nginx: subrequests pass the access phase unchecked.
            return PhaseResult.Next;
        }
        LoopTask<PhaseResult> task = satisfyAny ? AnyAsync(r) : AllAsync(r, 0);
        return delayMs > 0 ? DelayedAsync(r, task) : task;
    }

    /// <summary>auth_delay: who guesses passwords waits.</summary>
    private async LoopTask<PhaseResult> DelayedAsync(HttpRequest r, LoopTask<PhaseResult> task)
    {
        PhaseResult result = await task;
        if (result is { Outcome: PhaseOutcome.Answer, Status: 401 })
        {
            r.LogError(LogLevel.Info, "delaying unauthorized request");
            await r.Loop.DelayAsync(delayMs);
        }
        return result;
    }

    private LoopTask<PhaseResult> AllAsync(HttpRequest r, int from)
    {
        for (int i = from; i < handlers.Length; i++)
        {
            LoopTask<PhaseResult> task = handlers[i].RunAsync(r);
            if (!task.IsCompleted)
            {
                return ContinueAllAsync(r, task, i);
            }
            PhaseResult result = task.Result;
            if (result.Outcome is not (PhaseOutcome.Next or PhaseOutcome.Allow))
            {
                return result;
            }
        }
        return PhaseResult.Next;
    }

    private async LoopTask<PhaseResult> ContinueAllAsync(HttpRequest r, LoopTask<PhaseResult> task, int at)
    {
        PhaseResult result = await task;
        if (result.Outcome is not (PhaseOutcome.Next or PhaseOutcome.Allow))
        {
            return result;
        }
        return await AllAsync(r, at + 1);
    }

    private async LoopTask<PhaseResult> AnyAsync(HttpRequest r)
    {
        int denied = 0;
        foreach (PhaseHandler handler in handlers)
        {
            PhaseResult result = await handler.RunAsync(r);
            switch (result.Outcome)
            {
                case PhaseOutcome.Allow:
                    // The challenge of another handler is not needed any more.
                    r.Response.Remove(KnownResponseHeader.WwwAuthenticate);
                    return PhaseResult.Next;
                case PhaseOutcome.Answer when result.Status is 401 or 403:
                    // nginx keeps the 401, whose challenge the client needs, over a 403.
                    denied = denied == 401 ? 401 : result.Status;
                    break;
                case PhaseOutcome.Next:
                    break;
                default:
                    return result;
            }
        }
        if (denied == 403)
        {
            r.LogError(LogLevel.Error, "access forbidden by rule");
        }
        return denied == 0 ? PhaseResult.Next : PhaseResult.Answer(denied);
    }
}

/// <summary>The end of the rewrite phase: when the URI was changed, the location is looked up again.</summary>
internal sealed class PostRewriteHandler : PhaseHandler
{
    internal static readonly PostRewriteHandler Instance = new();

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r) => r.UriChanged ? PhaseResult.Rerun
        : PhaseResult.Next;
}
