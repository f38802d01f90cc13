// What is told of a request's walk to whoever asks for it (`weir explain`): the build puts these between a
// configuration and its requests when it has a trace, by wrapping steps, handlers and filters. Without one nothing of
// this file is in any pipeline, so it costs nothing. On the loop's thread; a trace must not keep a request or its
// memory.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http;

/// <summary>Is told how requests walk.</summary>
public abstract class RequestTrace
{
    // While the configuration is read.

    /// <summary>These settings are those of a block: a server, a location, an `if`, a limit_except.</summary>
    public virtual void OnBlock(LocationConf settings, ConfDirective directive)
    {
    }

    // While a request walks.

    /// <summary>A request enters a server: it begins, or an internal redirect starts it over.</summary>
    public virtual void OnServer(HttpRequest r)
    {
    }

    /// <summary>The settings of a location or of an `if` come into force.</summary>
    public virtual void OnLocation(HttpRequest r)
    {
    }

    /// <summary>A directive of the rewrite module is about to run.</summary>
    public virtual void BeforeStep(HttpRequest r, ConfDirective directive)
    {
    }

    /// <summary>It ran.</summary>
    public virtual void AfterStep(HttpRequest r, ConfDirective directive, PhaseResult result)
    {
    }

    /// <summary>The condition of an `if` holds.</summary>
    public virtual void OnIfTaken(HttpRequest r, ConfDirective directive)
    {
    }

    /// <summary>A module's handler is about to run; null for a location's own content handler.</summary>
    public virtual void BeforeHandler(HttpRequest r, HttpModule? module)
    {
    }

    /// <summary>It ran.</summary>
    public virtual void AfterHandler(HttpRequest r, HttpModule? module, PhaseResult result)
    {
    }

    /// <summary>A rule of allow and deny decided: the one of this number among those in force.</summary>
    public virtual void OnAccessRule(HttpRequest r, int rule)
    {
    }

    /// <summary>A file or directory that try_files or index asks for.</summary>
    public virtual void OnTriedFile(HttpRequest r, NativeSlice path, bool exists, bool isTaken)
    {
    }

    /// <summary>A module's head filter is about to see the response.</summary>
    public virtual void BeforeFilter(HttpRequest r, HttpModule module)
    {
    }

    /// <summary>It saw it.</summary>
    public virtual void AfterFilter(HttpRequest r, HttpModule module)
    {
    }

    /// <summary>The request is answered with a status alone, or by the error page for it.</summary>
    public virtual void OnAnswer(HttpRequest r, int status, ErrorPage? page)
    {
    }
}

/// <summary>The first of a server's or a location's pipeline under trace.</summary>
internal sealed class TracedEntry(RequestTrace trace, bool isServer) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (isServer)
        {
            trace.OnServer(r);
        }
        else
        {
            trace.OnLocation(r);
        }
        return PhaseResult.Next;
    }
}

/// <summary>A handler under trace.</summary>
internal sealed class TracedHandler(RequestTrace trace, HttpModule? module, PhaseHandler inner) : PhaseHandler
{
    internal override bool AlwaysAnswers => inner.AlwaysAnswers;

    public override async LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        trace.BeforeHandler(r, module);
        PhaseResult result = await inner.RunAsync(r);
        trace.AfterHandler(r, module, result);
        return result;
    }
}

/// <summary>A head filter under trace.</summary>
internal sealed class TracedFilter(RequestTrace trace, HttpModule module, HeadFilter inner) : HeadFilter
{
    public override void OnHead(HttpRequest r)
    {
        trace.BeforeFilter(r, module);
        inner.OnHead(r);
        trace.AfterFilter(r, module);
    }
}
