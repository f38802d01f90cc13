// The request's walk through the phases: pipeline after pipeline, internal redirects as a loop with a counter, error
// pages. Handlers that complete at once cost no suspension and no allocation.
using Weir.Kernel;

using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

public sealed partial class HttpRequest
{
    private bool _runsServer;
    private NativeSlice _namedLocation;

    /// <summary>Normalises a complex path. False when it is malformed (400).</summary>
    internal bool NormalizeUri()
    {
        if ((Head.UriFlags & UriFlags.Complex) == 0)
        {
            return true;
        }
        NativeSlice target = Arena.Allocate(Uri.Length);
        if (UriNormalizer.Normalize(Uri.Span, target.Span, Server.MergeSlashes.Value, out int length) != UriOutcome.Ok)
        {
            return false;
        }
        Uri = target.Slice(0, length);
        return true;
    }

    /// <summary>A head that was refused: what is known of it, for the log and the answer.</summary>
    internal void SetRejectedHead(NativeSlice bytes)
    {
        RequestHead head = Head;
        HeadBytes = default;
        Version = head.Version is >= 10 and < 20 ? head.Version : head.Version == 9 && head.HeadersStart > 0 ? 9 : 11;
        Method = head.Method;
        MethodName = default;
        UnparsedUri = default;
        Args = default;
        Uri = NativeSlice.Literal("/"u8);
        int end = bytes.Span.IndexOf("\r\n\r\n"u8);
        RequestBytes = head.Reject == RejectReason.MissingHost && end > 0 ? end + 4 : head.HeadLength;
        IsLineKnown = head.RequestLine.Length > 0 && head.RequestLine.End <= bytes.Length && head.Path.Length > 0;
        if (IsLineKnown)
        {
            UnparsedUri = Arena.Store(head.Target.Of(bytes.Span));
            Uri = Arena.Store(head.Path.Of(bytes.Span));
            Args = Arena.Store(head.Query.Of(bytes.Span));
            if (!NormalizeUri())
            {
                Uri = NativeSlice.Literal("/"u8);
            }
        }
        if (head.MethodRange.Length > 0 && head.Reject != RejectReason.RequestLineTooLong
            && head.MethodRange.End <= bytes.Length)
        {
            MethodName = Arena.Store(head.MethodRange.Of(bytes.Span));
        }
        if (head.RequestLine.Length > 0 && head.RequestLine.End <= bytes.Length)
        {
            RequestLine = Arena.Store(head.RequestLine.Of(bytes.Span));
        }
        else if (bytes.Span.IndexOfAny((byte)'\r', (byte)'\n') is > 0 and int line)
        {
            // What was refused before its line was understood is still told in the log.
            RequestLine = Arena.Store(bytes.Span[..line]);
        }
        else if (head.Reject == RejectReason.RequestLineTooLong)
        {
            RequestLine = Arena.Store(
                bytes.Span[..(int)Math.Min(bytes.Length, Server.LargeClientHeaderBuffers.Value.Bytes)]);
        }
    }

    /// <summary>Runs the request to the end of its response.</summary>
    internal LoopTask<Unit> RunAsync()
    {
        return ContinueAsync(StartAsync());
    }

    /// <summary>The first pipeline; who runs a request asks <see cref="IsOver"/> of each result and goes on with
    /// <see cref="Follow"/> until it is.</summary>
    internal LoopTask<PhaseResult> StartAsync() =>
        Server.Pipeline.Length == 0 ? EnterLocation() : RunPipeline(Server.Pipeline, 0);

    private async LoopTask<Unit> RunSuspendedAsync(LoopTask<PhaseResult> task)
    {
        while (true)
        {
            PhaseResult result = await task;
            if (IsOver(ref result))
            {
                return _children == 0 ? default : await JoinAsync();
            }
            task = Follow(result);
        }
    }

    /// <summary>Whether the request is over. A head that a filter refused becomes that answer.</summary>
    internal bool IsOver(ref PhaseResult result)
    {
        if (result.Outcome != PhaseOutcome.Done)
        {
            return false;
        }
        if (_refusedStatus == 0 || Response.IsSent)
        {
            return true;
        }
        result = PhaseResult.Answer(_refusedStatus);
        _refusedStatus = 0;
        return false;
    }

    private bool _isMatchFailed;

    /// <summary>An expression reached its match limit where no answer could be given: a line in the log, and the
    /// request ends with 500 unless its head has left. Once: the page for that 500 may ask the same expression.
    /// </summary>
    internal void FailMatch(NativeSlice subject, string expression)
    {
        LogError(LogLevel.Alert, $"pcre2_match() failed: match limit on \"{subject}\" using \"{expression}\"");
        if (!_isMatchFailed && !Response.IsSent)
        {
            _isMatchFailed = true;
            RefuseHead(500);
        }
    }

    private int _children;
    private LoopOperation<Unit>? _joined;

    internal bool HasChildren => _children > 0;

    /// <summary>A background subrequest begins: this request does not end before it.</summary>
    internal void Attach() => _children++;

    internal void Detach()
    {
        if (--_children == 0 && _joined is { IsWaiting: true } joined)
        {
            joined.SetResult(default);
        }
    }

    /// <summary>Lets the answer leave and waits for the subrequests that are under way.</summary>
    internal LoopTask<Unit> JoinAsync()
    {
        Stream.Flush(this);
        return (_joined ??= new LoopOperation<Unit>()).Begin();
    }

    /// <summary>What comes after a pipeline ended without a complete response.</summary>
    internal LoopTask<PhaseResult> Follow(PhaseResult result)
    {
        if (_refusedStatus != 0 && !Response.IsSent)
        {
            int refused = _refusedStatus;
            _refusedStatus = 0;
            return SpecialResponse.RunAsync(this, refused);
        }
        switch (result.Outcome)
        {
            case PhaseOutcome.Rerun:
                return Rerun();
            case PhaseOutcome.Answer:
                return SpecialResponse.RunAsync(this, result.Status);
            default:
                // The end of the server's pipeline leads to a location; the end of a location's leads nowhere.
                if (_runsServer && !_inLocation)
                {
                    return EnterLocation();
                }
                return SpecialResponse.RunAsync(this, 404);
        }
    }

    private bool _inLocation;

    private LoopTask<PhaseResult> Rerun()
    {
        if (--RedirectsLeft == 0)
        {
            LogError(LogLevel.Error, $"rewrite or internal redirection cycle while processing \"{Uri}\"");
            return SpecialResponse.RunAsync(this, 500);
        }
        if (!_namedLocation.IsEmpty)
        {
            LocationConf? named = Server.Locations.FindNamed(_namedLocation.Span);
            if (named is null)
            {
                LogError(LogLevel.Error, $"could not find named location \"{_namedLocation}\"");
                _namedLocation = default;
                return SpecialResponse.RunAsync(this, 500);
            }
            _namedLocation = default;
            UriChanged = false;
            return Enter(named);
        }
        if (_restartsAtServer)
        {
            _restartsAtServer = false;
            _inLocation = false;
            UriChanged = false;
            return RunPipeline(Server.Pipeline, 0);
        }
        UriChanged = false;
        return EnterLocation();
    }

    private bool _restartsAtServer;

    private LoopTask<PhaseResult> EnterLocation()
    {
        UriChanged = false;
        LocationMatch match = Server.Locations.Find(this);
        switch (match.Kind)
        {
            case LocationMatchKind.Error:
                return SpecialResponse.RunAsync(this, 500);
            case LocationMatchKind.AutoRedirect:
                // A prefix location with a handler of its own, asked for without its slash.
                Location = match.Location!;
                Response.Location = match.Redirect;
                return SpecialResponse.RunAsync(this, 301);
        }
        return Enter(match.Location!);
    }

    private LoopTask<PhaseResult> Enter(LocationConf location)
    {
        _inLocation = true;
        location = location.LimitExcept?.For(this) ?? location;
        Location = location;
        if (IsTold)
        {
            Tell($"using configuration \"{(location.IsExact ? "=" : "")}{location.Name}\"");
        }
        if (location.IsInternal && !IsInternal)
        {
            return SpecialResponse.RunAsync(this, 404);
        }
        if (IsMain && location.MaxBodyBytes > 0 && Head.ContentLength > location.MaxBodyBytes && !Body.IsDiscarding)
        {
            LogError(LogLevel.Error, $"client intended to send too large body: {Head.ContentLength} bytes");
            KeepAlive = false;
            // It has been refused once: the location of an error page does not refuse it again.
            Body.StartDiscarding();
            return SpecialResponse.RunAsync(this, 413);
        }
        UpdateKeepAlive();
        return RunPipeline(location.Pipeline, 0);
    }

    /// <summary>The location decides how long the connection may live, as in nginx's update_location_config.</summary>
    private void UpdateKeepAlive()
    {
        if (KeepAlive && (Location.KeepAliveTimeoutMs == 0 || ConnectionRequests >= Location.KeepAliveRequests
            || Loop.NowMs - Connection.StartMs > Location.KeepAliveTimeMs || IsKeepAliveDisabled()))
        {
            KeepAlive = false;
        }
    }

    /// <summary>keepalive_disable: old browsers that get it wrong.</summary>
    private bool IsKeepAliveDisabled()
    {
        const int none = 1;
        const int msie6 = 2;
        const int safari = 4;
        int browsers = Location.KeepAliveDisable.Value;
        return (browsers & none) == 0
            && ((browsers & msie6) != 0 && Method == HttpMethod.Post && UserAgents.IsMsie6(this)
            || (browsers & safari) != 0 && UserAgents.IsSafari(this));
    }

    /// <summary>Requests served on this connection, this one included ($connection_requests).</summary>
    public int ConnectionRequests { get; internal set; }

    private LoopTask<PhaseResult> RunPipeline(PhaseHandler[] pipeline, int from)
    {
        _runsServer = pipeline == Server.Pipeline;
        for (int i = from; i < pipeline.Length; i++)
        {
            LoopTask<PhaseResult> task = pipeline[i].RunAsync(this);
            if (!task.IsCompleted)
            {
                // Nobody comes after the last one: what it says is the pipeline's result.
                return i == pipeline.Length - 1 ? task : ContinuePipelineAsync(pipeline, task, i);
            }
            PhaseResult result = task.Result;
            if (result.Outcome is not (PhaseOutcome.Next or PhaseOutcome.Allow))
            {
                if (result.Outcome != PhaseOutcome.Relocate)
                {
                    return result;
                }
                // The block of an `if` has no rewrite steps of its own, so its pipeline is what follows them.
                pipeline = Location.Pipeline;
                _runsServer = pipeline == Server.Pipeline;
                i = -1;
            }
        }
        return PhaseResult.Next;
    }

    private async LoopTask<PhaseResult> ContinuePipelineAsync(PhaseHandler[] pipeline, LoopTask<PhaseResult> task,
        int at)
    {
        PhaseResult result = await task;
        if (result.Outcome is not (PhaseOutcome.Next or PhaseOutcome.Allow))
        {
            return result;
        }
        return await RunPipeline(pipeline, at + 1);
    }

    /// <summary>An internal redirect (error_page, try_files, index, X-Accel-Redirect): the phases run again from the
    /// server's with another URI. Return what this returns.</summary>
    public PhaseResult RedirectInternally(NativeSlice uri, NativeSlice args)
    {
        Uri = uri;
        Args = args;
        IsUriAsSent = false;
        IsLocationValid = true;
        IsInternal = true;
        UriChanged = true;
        _restartsAtServer = true;
        OnRedirect();
        return PhaseResult.Rerun;
    }

    /// <summary>Goes to a named location. Return what this returns.</summary>
    public PhaseResult GoToNamed(NativeSlice name)
    {
        _namedLocation = name;
        IsInternal = true;
        OnRedirect();
        return PhaseResult.Rerun;
    }

    private void OnRedirect()
    {
        // Modules' states belong to the location that was left, as nginx clears its contexts.
        foreach (ref StateEntry entry in _states.AsSpan())
        {
            if (entry.State is { SurvivesRedirect: false })
            {
                entry.State = null;
            }
        }
        _firstBodyFilter = null;
        _lastBodyFilter = null;
    }

    /// <summary>Runs on from a result that came from outside the pipelines (a refused head).</summary>
    internal LoopTask<Unit> ContinueAsync(LoopTask<PhaseResult> task)
    {
        while (task.IsCompleted)
        {
            PhaseResult result = task.Result;
            if (IsOver(ref result))
            {
                return _children == 0 ? default : JoinAsync();
            }
            task = Follow(result);
        }
        return RunSuspendedAsync(task);
    }

    /// <summary>Waits until the client has taken enough that more may be produced. False when it is gone.</summary>
    public LoopTask<bool> Drained(long keptBytes = 64 * 1024)
    {
        if (Aborted != AbortReason.None)
        {
            return new LoopTask<bool>(false);
        }
        if (Capture is { IsFull: true } capture)
        {
            return DrainCapturedAsync(capture, keptBytes);
        }
        for (BodyFilter? filter = _firstBodyFilter; filter is not null; filter = filter.Downstream)
        {
            if (filter.HeldBytes > 0)
            {
                return DrainFiltersAsync(keptBytes);
            }
        }
        return Stream.DrainAsync(this, keptBytes);
    }

    /// <summary>Who sees the answer of the handler that is running; null for nobody.</summary>
    internal AnswerCapture? Capture { get; set; }

    /// <summary>The head that a handler of this process is asked with: the client's, or what a cache asks in its
    /// place.</summary>
    public RequestHead HandlerHead => Capture?.Asked ?? Head;

    /// <summary>The bytes of <see cref="HandlerHead"/>.</summary>
    public NativeSlice HandlerHeadBytes => Capture is { Asked: not null } capture ? capture.AskedBytes : HeadBytes;

    /// <summary>For a handler that holds the loop's thread and goes on writing: what keeps its answer cannot catch up
    /// meanwhile, and lets go of it instead of filling the memory.</summary>
    public void ReleaseCapture()
    {
        if (Capture is { IsFull: true } capture)
        {
            capture.GiveUp();
        }
    }

    /// <summary>As much as makes every producer wait.</summary>
    private const long CaptureFullBytes = 1L << 40;

    private async LoopTask<bool> DrainCapturedAsync(AnswerCapture capture, long keptBytes)
    {
        await capture.RoomAsync();
        return await Drained(keptBytes);
    }

    /// <summary>The same for what has passed a filter already.</summary>
    internal LoopTask<bool> DrainedBelow(BodyFilter above, long keptBytes)
    {
        if (Aborted != AbortReason.None)
        {
            return new LoopTask<bool>(false);
        }
        return above.Downstream is null ? Stream.DrainAsync(this, keptBytes)
            : DrainFromAsync(above.Downstream, keptBytes);
    }

    private LoopTask<bool> DrainFiltersAsync(long keptBytes) => DrainFromAsync(_firstBodyFilter, keptBytes);

    private async LoopTask<bool> DrainFromAsync(BodyFilter? first, long keptBytes)
    {
        for (BodyFilter? filter = first; filter is not null; filter = filter.Downstream)
        {
            if (filter.HeldBytes > 0 && !await filter.DrainAsync(this))
            {
                return false;
            }
        }
        return await Stream.DrainAsync(this, keptBytes);
    }

    /// <summary>A subrequest that runs another request's content again.</summary>
    internal bool IsClone { get; private set; }

    /// <summary>Runs a subrequest in a named location.</summary>
    internal LoopTask<Unit> RunNamedAsync(NativeSlice name) => ContinueAsync(GoToNamed(name));

    /// <summary>What post_action made of a request that was answered.</summary>
    internal bool IsPostAction { get; set; }

    /// <summary>Runs the content handler of another request's location.</summary>
    internal LoopTask<Unit> RunAsCloneAsync(HttpRequest of)
    {
        IsClone = true;
        IsUriAsSent = of.IsUriAsSent;
        UnparsedUri = of.UnparsedUri;
        Location = of.Location;
        _inLocation = true;
        return ContinueAsync(Location.ContentHandler is { } handler ? handler.RunAsync(this)
            : RunPipeline(Location.Pipeline, 0));
    }

    /// <summary>The settings of an `if` block are in force from here on.</summary>
    internal void SwitchLocation(LocationConf location)
    {
        Location = location;
        UpdateKeepAlive();
    }

    /// <summary>The server is known: its settings are in force until a location is found.</summary>
    internal void EnterServer() => Location = Server.Location;

    /// <summary>Lets go of a configuration that the pool it returns to does not serve any more.</summary>
    internal void Forget()
    {
        Configuration = null!;
        Server = null!;
        ServerBefore = null;
        Location = null!;
        Group = null!;
        Main = null!;
        Head = OwnHead;
        ForgetVariables();
    }

    internal void BeginWalk()
    {
        _inLocation = false;
        _restartsAtServer = false;
        _namedLocation = default;
        _refusedStatus = 0;
        _isMatchFailed = false;
        UriChanged = false;
    }

    // A copy without a client.

    internal DetachedStream? DetachedStream { get; set; }

    /// <summary>Begins as a request that the server makes itself, of a location, with the head of one that a client
    /// might have sent.</summary>
    internal void BeginAlone(HttpConfiguration configuration, DetachedStream stream, EventLoop loop,
        ServerConf server, LocationConf location, byte[] head)
    {
        stream.Start();
        Begin(configuration, configuration.Groups[0], stream, loop);
        NativeSlice bytes = Arena.Store(head);
        var parser = default(RequestHeadParser);
        parser.Reset();
        parser.Parse(bytes.Span, OwnHead, new ParseOptions { MaxHeaders = 100 });
        SetHead(bytes);
        Server = server;
        Location = location;
        BeginWalk();
    }

    internal void BeginDetached(HttpRequest original, DetachedStream stream)
    {
        stream.Start(original);
        Begin(original.Configuration, original.Group, stream, original.Loop);
        HeadBytes = Arena.Store(original.HeadBytes.Span);
        Head.CopyFrom(original.Head);
        Server = original.Server;
        Location = original.Location;
        Host = Arena.Store(original.Host.Span);
        Version = original.Version;
        RequestLine = Arena.Store(original.RequestLine.Span);
        UnparsedUri = Arena.Store(original.UnparsedUri.Span);
        Method = original.Method;
        MethodName = Arena.Store(original.MethodName.Span);
        Uri = Arena.Store(original.Uri.Span);
        Args = Arena.Store(original.Args.Span);
        IsUriAsSent = original.IsUriAsSent;
        IsInternal = original.IsInternal;
        ClientAddress = Arena.Store(original.RemoteAddress);
        CopyVariables(original);
        Captures.Count = original.Captures.Count;
        for (int i = 0; i < Captures.Count; i++)
        {
            Captures.Set(i, Arena.Store(original.Captures[i].Span));
        }
        BeginWalk();
    }
}
