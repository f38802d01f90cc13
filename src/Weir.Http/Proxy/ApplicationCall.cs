// An application of this process in the place of an upstream server, where the configuration keeps what it answers
// (proxy_cache or proxy_store beside app_pass). It is called with the head that the cache would send, and what it
// answers reaches the exchange's tee as if a server had sent it. One loop's thread; pooled with its request.
using Weir.Http.Cache;
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Proxy;

/// <summary>The content handler of such a location.</summary>
internal sealed class ApplicationHandler(PhaseHandler application, ProxySettings settings, CacheRules? cache,
    NativeSlice host) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        Exchange x = r.Get(Exchange.Slot);
        x.Begin(r, settings, ApplicationProtocol.Plain);
        x.Application = application;
        x.TargetHost = host;
        x.TargetUri = ProxyHandler.TargetOf(r, default, default);
        if (cache is not null)
        {
            return CachedRequest.RunAsync(x, cache);
        }
        StoredFile.Watch(x, settings.Cache);
        return x.RunAsync();
    }
}

/// <summary>What an exchange asks of a protocol, for an application: it is called, nothing is written to it.</summary>
internal sealed class ApplicationProtocol : UpstreamProtocol
{
    /// <summary>The client's request as it is.</summary>
    internal static readonly ApplicationProtocol Plain = new();

    /// <summary>The cache's conditions stand for the client's.</summary>
    internal static readonly ApplicationProtocol Asking = new();

    public override string Scheme => "app_pass:";

    public override bool IsOfThisProcess => true;

    public override bool CanKeep(Exchange x) => false;

    public override bool EndsWithClose(Exchange x) => false;

    public override long BodyLength(Exchange x) => x.Request.Find(ApplicationCall.Slot)?.BodyBytes ?? -1;

    public override bool IsBodyless(Exchange x) => x.Head.Status is 204 or 304;

    public override int WriteRequest(Exchange x, BufferChain output) => throw Unwritten();

    public override void WritePiece(Exchange x, NativeSlice piece, BufferSlab owner, BufferChain output) =>
        throw Unwritten();

    public override void WriteEnd(Exchange x, BufferChain output) => throw Unwritten();

    public override void StartAnswer(Exchange x) => throw Unwritten();

    public override ReadStep ReadHead(Exchange x) => throw Unwritten();

    public override ReadStep ReadBody(Exchange x, BufferChain output) => throw Unwritten();

    private static NotSupportedException Unwritten() => new("an application is called, not written to");
}

/// <summary>One call, between the application and the tee.</summary>
internal sealed class ApplicationCall : AnswerCapture
{
    internal static readonly RequestSlot<ApplicationCall> Slot = new();

    private readonly RequestHead _ownHead = new();
    private HttpRequest? _r;
    private Exchange? _x;
    private AnswerTee? _tee;
    private bool _isAsked;
    private bool _headSeen;
    private bool _isTaken;
    private bool _isEnded;

    internal override RequestHead? Asked => _isAsked ? _ownHead : null;

    internal override NativeSlice AskedBytes => _askedBytes;

    private NativeSlice _askedBytes;

    /// <summary>Bytes of the body if the application said so, else -1.</summary>
    internal long BodyBytes { get; private set; } = -1;

    /// <summary>Calls it, in the place of a server. A status to answer with is told as a server's would be.</summary>
    internal async LoopTask<PhaseResult> RunAsync(Exchange x, PhaseHandler application)
    {
        HttpRequest r = x.Request;
        _r = r;
        _x = x;
        _tee = x.Tee;
        x.MethodAsked = x.MethodInstead == HttpMethod.Other ? r.Method : x.MethodInstead;
        _isAsked = x.Protocol == ApplicationProtocol.Asking && r.Version >= 10 && WriteHead(x);
        if (_tee is null)
        {
            return await application.RunAsync(r);
        }
        r.Capture = this;
        PhaseResult result = await application.RunAsync(r);
        r.Capture = null;
        if (_headSeen && !_isEnded)
        {
            GiveUp();
        }
        if (_isTaken)
        {
            return PhaseResult.Done;
        }
        if (result.Outcome == PhaseOutcome.Answer && result.Status >= 500)
        {
            x.Fault = new UpstreamFault(FaultKind.Status, FaultLeg.Head, result.Status);
        }
        return result;
    }

    // The request.

    /// <summary>The client's head with the cache's method and conditions. False where the client's own will
    /// do.</summary>
    private bool WriteHead(Exchange x)
    {
        HttpRequest r = x.Request;
        NativeSlice since = default, tag = default;
        CacheModule.TryGetValidator(r, KnownResponseHeader.LastModified, ref since);
        CacheModule.TryGetValidator(r, KnownResponseHeader.ETag, ref tag);
        if (since.IsEmpty && tag.IsEmpty && x.MethodAsked == r.Method && !HasConditions(r.Head))
        {
            return false;
        }
        NativeSlice verb = x.MethodAsked == r.Method ? r.MethodName
            : NativeSlice.Literal(HttpMethods.Name(x.MethodAsked));
        ReadOnlySpan<byte> bytes = r.HeadBytes.Span;
        ReadOnlySpan<byte> target = r.Head.Target.Of(bytes);
        const int OwnBytes = 128;
        NativeSlice text = r.Arena.Allocate(OwnBytes + verb.Length + target.Length + bytes.Length + r.Head.Count * 4
            + since.Length + tag.Length);
        var w = new SpanWriter(text.Span);
        w.Write(verb.Span);
        w.Write(" "u8);
        w.Write(target);
        w.Write(r.Head.Has(KnownHeader.Host) && r.Version > 10 ? " HTTP/1.1\r\n"u8 : " HTTP/1.0\r\n"u8);
        foreach (ref readonly HeaderField field in r.Head.Fields)
        {
            if (!field.Dropped && !IsCondition(field.Known))
            {
                Write(field.Name(bytes), field.Value(bytes), ref w);
            }
        }
        Write("If-Modified-Since"u8, since.Span, ref w);
        Write("If-None-Match"u8, tag.Span, ref w);
        w.Write("\r\n"u8);
        _askedBytes = text.Slice(0, w.Written);
        var parser = default(RequestHeadParser);
        parser.Reset();
        var options = new ParseOptions { IgnoreInvalidHeaders = false, MaxHeaders = 65_000 };
        return parser.Parse(_askedBytes.Span, _ownHead, in options) == ParseStep.Done;
    }

    private static void Write(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, ref SpanWriter w)
    {
        if (!value.IsEmpty)
        {
            w.Write(name);
            w.Write(": "u8);
            w.Write(value);
            w.Write("\r\n"u8);
        }
    }

    private static bool HasConditions(RequestHead head) => head.Has(KnownHeader.IfModifiedSince)
        || head.Has(KnownHeader.IfNoneMatch) || head.Has(KnownHeader.IfUnmodifiedSince)
        || head.Has(KnownHeader.IfMatch) || head.Has(KnownHeader.Range) || head.Has(KnownHeader.IfRange);

    private static bool IsCondition(KnownHeader known) => known is KnownHeader.IfModifiedSince
        or KnownHeader.IfNoneMatch or KnownHeader.IfUnmodifiedSince or KnownHeader.IfMatch or KnownHeader.Range
        or KnownHeader.IfRange;

    // The answer.

    internal override bool OnHead(HttpRequest r)
    {
        if (_headSeen)
        {
            return !_isTaken;
        }
        _headSeen = true;
        BodyBytes = r.Response.ContentLength;
        if (!_x!.ReadStored(AnswerBytes(r), cgi: false))
        {
            // What is not a head on the wire is not kept as one.
            _tee = null;
            return true;
        }
        if (_tee!.TakesOver(_x))
        {
            _isTaken = true;
            _isEnded = true;
            r.Response.Reset();
            return false;
        }
        _tee.OnHead(_x);
        return true;
    }

    /// <summary>The response's head as a server would have sent it, without its framing.</summary>
    private static NativeSlice AnswerBytes(HttpRequest r)
    {
        ResponseHead response = r.Response;
        const int OwnBytes = 128;
        int room = StatusLines.LengthMax + OwnBytes + response.StatusText.Length + response.ContentType.Length
            + response.Charset.Length + response.Server.Length + response.Date.Length + response.Location.Length;
        foreach (ref readonly ResponseField field in response.Fields)
        {
            room += field.Name.Length + field.Value.Length + 4;
        }
        NativeSlice text = r.Arena.Allocate(room);
        var w = new SpanWriter(text.Span);
        if (response.StatusText.IsEmpty)
        {
            w.Skip(StatusLines.Write(response.Status, w.Rest));
        }
        else
        {
            w.Write("HTTP/1.1 "u8);
            w.Write(response.StatusText.Span);
            w.Write("\r\n"u8);
        }
        if (response.Charset.IsEmpty)
        {
            Write("Content-Type"u8, response.ContentType.Span, ref w);
        }
        else
        {
            w.Write("Content-Type: "u8);
            w.Write(response.ContentType.Span);
            w.Write("; charset="u8);
            w.Write(response.Charset.Span);
            w.Write("\r\n"u8);
        }
        Write("Server"u8, response.Server.Span, ref w);
        Write("Date"u8, response.Date.Span, ref w);
        Write("Location"u8, response.Location.Span, ref w);
        foreach (ref readonly ResponseField field in response.Fields)
        {
            if (!field.Removed)
            {
                Write(field.Name.Span, field.Value.Span, ref w);
            }
        }
        w.Write("\r\n"u8);
        return text.Slice(0, w.Written);
    }

    internal override bool OnBody(BufferChain chain, PushFlags flags)
    {
        if (_isTaken)
        {
            chain.Clear();
            return false;
        }
        if (_isEnded || _tee is null)
        {
            return true;
        }
        if (chain.Length > 0)
        {
            _tee.OnBody(chain);
        }
        if ((flags & PushFlags.Last) != 0)
        {
            _isEnded = true;
            _tee.OnEnd(whole: true);
        }
        return true;
    }

    internal override bool IsFull => !_isEnded && _tee is { IsFull: true };

    internal override LoopTask<Unit> RoomAsync() => _tee?.RoomAsync() ?? default;

    internal override void GiveUp()
    {
        _isEnded = true;
        _tee?.OnEnd(whole: false);
    }

    protected internal override void Reset()
    {
        _r?.Capture = null;
        _r = null;
        _x = null;
        _tee = null;
        _askedBytes = default;
        BodyBytes = -1;
        _isAsked = _headSeen = _isTaken = _isEnded = false;
    }
}
