// One request: its identity (method, URI, server, location), its response, its memory, and the walk through the phases.
// Charter: here lives only what every request has. A module's state goes into a RequestSlot; how bytes travel is the
// ClientStream's; how a body is read is RequestBody's; error pages are SpecialResponse's. One loop's thread; rented
// from
// the loop's pool and used again, so nobody keeps a request after it ended.
using System.Runtime.CompilerServices;
using Weir.Kernel;

using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

/// <summary>Why a request's current wait ends before its time.</summary>
public enum AbortReason : byte
{
    None,
    ClientGone,
    Timeout,
    Shutdown,
    Failed,
}

/// <summary>An HTTP request, main or sub.</summary>
public sealed partial class HttpRequest : Session.Session
{
    private StateEntry[] _states = new StateEntry[8];
    private RequestState? _rented;
    private BodyFilter? _firstBodyFilter;
    private BodyFilter? _lastBodyFilter;
    private readonly RequestBody _body;

    // Identity.

    /// <summary>The configuration this request was bound to when it began.</summary>
    public HttpConfiguration Configuration { get; private set => Set(ref field, value); } = null!;

    public ClientStream Stream { get; private set => Set(ref field, value); } = null!;

    /// <summary>The request that started this one; null for a client's own.</summary>
    public HttpRequest? Parent { get; private set; }

    /// <summary>The client's request at the top.</summary>
    public HttpRequest Main { get; private set => Set(ref field, value); } = null!;

    public bool IsMain => Parent is null;

    /// <summary>The parsed head; of the main request in a subrequest.</summary>
    public RequestHead Head { get; private set => Set(ref field, value); } = null!;

    /// <summary>The bytes <see cref="Head"/> refers to, in the main request's arena.</summary>
    public NativeSlice HeadBytes { get; private set; }

    public HttpMethod Method { get; set; }
    public NativeSlice MethodName { get; set; }

    /// <summary>The normalised path; changed by rewrites and internal redirects.</summary>
    public NativeSlice Uri { get; set; }

    /// <summary>The query without the question mark.</summary>
    public NativeSlice Args { get; set; }

    /// <summary>The target as the client sent it ($request_uri).</summary>
    public NativeSlice UnparsedUri { get; private set; }

    /// <summary>The request line as sent ($request).</summary>
    public NativeSlice RequestLine { get; private set; }

    /// <summary>Host of the request: lower case, no port. Empty for none.</summary>
    public NativeSlice Host { get; private set; }

    /// <summary>9, 10, 11, 20.</summary>
    public int Version { get; private set; }

    public ServerConf Server { get; set => Set(ref field, value); } = null!;
    public LocationConf Location { get; private set => Set(ref field, value); } = null!;

    /// <summary>The server of the request that this object served before, when that was on the same address of the same
    /// configuration.</summary>
    internal ServerConf? ServerBefore { get; private set => Set(ref field, value); }

    /// <summary>Its header lines are those of the request before, which came on the same connection: so is its
    /// server.</summary>
    internal bool RepeatsHost { get; set; }

    /// <summary>The address group it was accepted on.</summary>
    public ListenGroup Group { get; private set => Set(ref field, value); } = null!;

    /// <summary>The client's address as access rules and logs see it: the peer's, or what realip and the PROXY
    /// protocol put in its place. Native sockaddr bytes.</summary>
    public NativeSlice ClientAddress { get; set; }

    /// <summary>The client's address in force: <see cref="ClientAddress"/>, else the peer's.</summary>
    public override ReadOnlySpan<byte> RemoteAddress => Main.ClientAddress.IsEmpty ? Connection.PeerAddress
        : Main.ClientAddress.Span;

    /// <summary>It was in the buffer already when the answer before it was made ($pipe).</summary>
    public bool IsPipelined { get; internal set; }

    public ResponseHead Response { get; } = new();

    /// <summary>The request's body; of the main request where <see cref="SharesBody"/> says so.</summary>
    public RequestBody Body => SharesBody ? Main._body : _body;

    /// <summary>A subrequest that sends the main request's body, which was collected before.</summary>
    internal bool SharesBody { get; set; }

    // Times, in loop milliseconds and Unix milliseconds.
    public long StartMs { get; private set; }
    public long StartUnixMs { get; private set; }

    /// <summary>Bytes of request head and body received.</summary>
    public long RequestBytes { get; set; }

    /// <summary>Bytes of response head sent; the log's $bytes_sent is head + body on the wire.</summary>
    public long HeadBytesSent { get; set; }

    /// <summary>Bytes of the response after filters, chunk framing included.</summary>
    public long WireBodyBytes { get; set; }

    /// <summary>Bytes of the response body after filters, framing not included ($body_bytes_sent).</summary>
    public long BodyBytesSent { get; set; }

    // Flags of the walk.

    /// <summary>Keep-alive as the client asked and the configuration allows; cleared by whoever needs the
    /// end.</summary>
    public bool KeepAlive { get; set; }

    /// <summary>An internal redirect, error page or subrequest: `internal` locations are open.</summary>
    public bool IsInternal { get; set; }

    /// <summary>A rewrite changed the URI: the location must be found again.</summary>
    public bool UriChanged { get; set; }

    /// <summary>No rewrite or redirect changed the URI: $request_uri can be passed upstream as the client sent
    /// it.</summary>
    public bool IsUriAsSent { get; set; }

    /// <summary>The request line was understood.</summary>
    internal bool IsLineKnown { get; private set; }

    /// <summary>The path begins with the location's name; not so after a rewrite that stays (break).</summary>
    internal bool IsLocationValid { get; set; }

    /// <summary>An error page is being made: `error_page` is not consulted again unless
    /// recursive_error_pages.</summary>
    public bool IsErrorPage { get; set; }

    /// <summary>The status that led to the error page ($status keeps it).</summary>
    public int ErrorStatus { get; set; }

    /// <summary>Redirects left: rewrites and internal redirects together.</summary>
    public int RedirectsLeft { get; set; }

    /// <summary>So many internal redirects may follow each other; nginx's number.</summary>
    internal const int RedirectsMax = 10;

    /// <summary>Subrequests left below this request's main one.</summary>
    public int SubrequestsLeft { get; set; }

    public AbortReason Aborted { get; private set; }

    /// <summary>The client's TLS connection; null where it speaks plain HTTP.</summary>
    public Tls.TlsConnection? Tls => Connection as Tls.TlsConnection;

    /// <summary>The log answers where this request writes errors.</summary>
    public Log Log
    {
        get
        {
            Log log = Location?.ErrorLog ?? Server?.Location.ErrorLog ?? Configuration.DefaultLog;
            return _isDebugged ? log.Everything : log;
        }
    }

    private bool _isDebugged;

    internal HttpRequest() => _body = new RequestBody(this);

    // Beginning and end.

    internal RequestHead OwnHead { get; } = new();

    internal void Begin(HttpConfiguration configuration, ListenGroup group, ClientStream stream, EventLoop loop)
    {
        Loop = loop;
        ServerBefore = Configuration == configuration && Group == group ? Server : null;
        RepeatsHost = false;
        Configuration = configuration;
        Group = group;
        Stream = stream;
        if (Connection != stream.Transport)
        {
            Connection = stream.Transport;
        }
        Parent = null;
        Main = this;
        Head = OwnHead;
        // Until a head is whole there are no bytes of it; those of an earlier request are somebody else's by now.
        HeadBytes = default;
        Server = group.DefaultServer;
        Location = Server.Location;
        StartMs = loop.NowMs;
        StartUnixMs = loop.UnixMs;
        Arena.Start(loop.Buffers);
        _isDebugged = configuration.DebugConnections is not null && configuration.IsDebugged(Connection.PeerAddress);
        RedirectsLeft = RedirectsMax + 1;
        SubrequestsLeft = 50;
        StartVariables(configuration.Variables);
        configuration.AddReference();
    }

    /// <summary>The stream of this object when it serves as a subrequest.</summary>
    internal SubRequestStream? SubStream { get; set; }

    /// <summary>Begins as a subrequest: a GET for the URI, with the head of the main request and no body.</summary>
    internal void BeginSub(HttpRequest parent, SubRequestStream stream, NativeSlice uri, NativeSlice args)
    {
        stream.Start(parent);
        Begin(parent.Configuration, parent.Group, stream, parent.Loop);
        Parent = parent;
        Main = parent.Main;
        Head = parent.Head;
        HeadBytes = parent.HeadBytes;
        Server = parent.Server;
        Location = Server.Location;
        Host = parent.Host;
        Version = parent.Version;
        RequestLine = parent.RequestLine;
        UnparsedUri = parent.UnparsedUri;
        Method = HttpMethod.Get;
        MethodName = NativeSlice.Literal("GET"u8);
        Uri = uri;
        Args = args;
        IsInternal = true;
        IsLocationValid = true;
        SubrequestsLeft = parent.SubrequestsLeft - 1;
        Captures = parent.Captures;
        InheritVariables(parent);
        BeginWalk();
    }

    internal void SetHead(NativeSlice bytes)
    {
        HeadBytes = bytes;
        RequestHead head = Head;
        Method = head.Method;
        MethodName = bytes.Slice(head.MethodRange.Start, head.MethodRange.Length);
        RequestLine = bytes.Slice(head.RequestLine.Start, head.RequestLine.Length);
        Version = head.VersionMajor == 2 ? 20 : Math.Min(head.Version, 11);
        NativeSlice path = head.Path.IsEmpty ? NativeSlice.Literal("/"u8)
            : bytes.Slice(head.Path.Start, head.Path.Length);
        UnparsedUri = head.Form == TargetForm.Absolute
            ? head.Path.IsEmpty
                ? head.Query.Start == 0 ? NativeSlice.Literal("/"u8)
                    : bytes.Slice(head.Query.Start - 1, head.Query.Length + 1)
                : bytes.Slice(head.Path.Start, head.Target.Start + head.Target.Length - head.Path.Start)
            : bytes.Slice(head.Target.Start, head.Target.Length);
        Args = bytes.Slice(head.Query.Start, head.Query.Length);
        Uri = path;
        IsUriAsSent = !head.Path.IsEmpty;
        IsLocationValid = true;
        IsLineKnown = true;
        RequestBytes = head.HeadLength;
        if (head.Host.Length > 0)
        {
            Host = bytes.Slice(head.Host.Start, head.Host.Length);
            if (head.HostHasUpper)
            {
                Host = Arena.Store(Host.Span);
                foreach (ref byte b in Host.Span)
                {
                    b = HeaderName.Lower(b);
                }
            }
        }
    }

    /// <summary>Ends it. With <paramref name="keepsMemory"/> the next request, which follows at once, takes over the
    /// arena's first slab.</summary>
    internal void End(bool keepsMemory = false)
    {
        for (RequestState? state = _rented; state is not null;)
        {
            RequestState? next = state.NextInRequest;
            state.NextInRequest = null;
            state.Reset();
            state.Pool!.Return(state);
            state = next;
        }
        if (_rented is not null)
        {
            _rented = null;
            Array.Clear(_states);
        }
        _firstBodyFilter = null;
        _lastBodyFilter = null;
        _body.Reset();
        SharesBody = false;
        SkipsFilters = false;
        IsClone = false;
        IsPostAction = false;
        Response.Reset();
        Arena.Reset(keepsMemory);
        if (!keepsMemory)
        {
            Stream = null!;
            Connection = null!;
        }
        RequestLine = default;
        Parent = null;
        ClientAddress = default;
        Host = default;
        Captures.Count = 0;
        RequestBytes = 0;
        HeadBytesSent = 0;
        WireBodyBytes = 0;
        BodyBytesSent = 0;
        KeepAlive = false;
        IsInternal = false;
        IsPipelined = false;
        UriChanged = false;
        IsErrorPage = false;
        ErrorStatus = 0;
        Aborted = AbortReason.None;
        Configuration.Release();
    }

    // State of modules.

    /// <summary>A slot's state; it is always of the slot's own type.</summary>
    private struct StateEntry
    {
        internal RequestState? State;
    }

    /// <summary>The module's state in this request, made when it is asked for the first time.</summary>
    public T Rent<T>(RequestSlot<T> slot) where T : RequestState, new()
    {
        T state = slot.Rent(Loop);
        state.NextInRequest = _rented;
        _rented = state;
        return state;
    }

    /// <summary>The one state of this slot in this request, or null.</summary>
    public T? Find<T>(RequestSlot<T> slot) where T : RequestState, new()
    {
        int index = slot.Index;
        return index < _states.Length ? Unsafe.As<T?>(_states[index].State) : null;
    }

    /// <summary>The one state of this slot in this request, made when it is missing.</summary>
    public T Get<T>(RequestSlot<T> slot) where T : RequestState, new()
    {
        int index = slot.Index;
        if (index >= _states.Length)
        {
            Array.Resize(ref _states, Math.Max(index + 1, _states.Length * 2));
        }
        ref StateEntry entry = ref _states[index];
        if (entry.State is null)
        {
            entry.State = Rent(slot);
        }
        return Unsafe.As<T>(entry.State);
    }

    /// <summary>The value of a request header; empty when it is missing or dropped.</summary>
    public NativeSlice Header(KnownHeader header)
    {
        int i = Head.Find(header);
        if (i < 0)
        {
            return default;
        }
        ref readonly HeaderField field = ref Head[i];
        return HeadBytes.Slice(field.ValueStart, field.ValueLength);
    }

    // The response.

    /// <summary>The type that the extension of the URI has in `types`, else default_type.</summary>
    public void SetContentType()
    {
        if (!Response.ContentType.IsEmpty)
        {
            // X-Accel-Redirect brought the upstream's.
            return;
        }
        ReadOnlySpan<byte> extension = UriNormalizer.Extension(Uri.Span);
        Response.ContentType = !extension.IsEmpty && Location.Types.TryGet(extension, out NativeSlice type)
            ? type
            : Location.DefaultType.Value.Evaluate(this);
    }

    private int _refusedStatus;

    /// <summary>For head filters: the response must not be sent; the request is answered with this status instead
    /// (412, 416), and what the producer still pushes is dropped.</summary>
    public void RefuseHead(int status) => _refusedStatus = status;

    /// <summary>For a head filter: what is left of the filters has nothing to do with this response.</summary>
    internal bool SkipsFilters { get; set; }

    /// <summary>A head filter refused the response: a producer may stop and return Done.</summary>
    public bool IsHeadRefused => _refusedStatus != 0;

    /// <summary>Runs the head filters and writes the head.</summary>
    public void SendHead()
    {
        if (Response.IsSent || _refusedStatus != 0)
        {
            return;
        }
        if (Response.Status == 0)
        {
            Response.Status = 200;
        }
        if (ErrorStatus != 0)
        {
            Response.Status = ErrorStatus;
            Response.StatusText = default;
        }
        if (Capture is { } capture && !capture.OnHead(this))
        {
            return;
        }
        if (Method == HttpMethod.Head || Response.Status is 204 or 304)
        {
            Response.HeaderOnly = true;
        }
        foreach (HeadFilter filter in Location.HeadFilters)
        {
            filter.OnHead(this);
            if (_refusedStatus != 0)
            {
                _firstBodyFilter = null;
                _lastBodyFilter = null;
                return;
            }
            if (SkipsFilters)
            {
                break;
            }
        }
        if (Response.Status == 304)
        {
            Response.HeaderOnly = true;
        }
        if (Response.Status is not (200 or 206 or 304))
        {
            // As nginx: the time belongs to the file, not to an error page made of it.
            Response.LastModified = -1;
        }
        Response.IsSent = true;
        if (IsTold)
        {
            Tell($"http response: {Response.Status}, content length {Response.ContentLength}");
        }
        Stream.WriteHead(this);
    }

    /// <summary>Adds a body filter behind those that are there: head filters run from the producer towards the
    /// client.</summary>
    public void AddBodyFilter(BodyFilter filter)
    {
        filter.Downstream = null;
        if (_lastBodyFilter is null)
        {
            _firstBodyFilter = filter;
        }
        else
        {
            _lastBodyFilter.Downstream = filter;
        }
        _lastBodyFilter = filter;
    }

    /// <summary>Whether a body filter must see the bytes, so that a file must be read rather than sent by the
    /// kernel.</summary>
    public bool BodyNeedsBytes
    {
        get
        {
            for (BodyFilter? filter = _firstBodyFilter; filter is not null; filter = filter.Downstream)
            {
                if (filter.NeedsBytes)
                {
                    return true;
                }
            }
            return false;
        }
    }

    /// <summary>A filter keeps bytes that may not leave yet: the request lasts until they have.</summary>
    internal bool HoldsBody
    {
        get
        {
            for (BodyFilter? filter = _firstBodyFilter; filter is not null; filter = filter.Downstream)
            {
                if (filter.HeldBytes > 0)
                {
                    return true;
                }
            }
            return false;
        }
    }

    /// <summary>Pushes body bytes through the filters. Empties the chain.</summary>
    public void Push(BufferChain chain, PushFlags flags)
    {
        if (Capture is null || Capture.OnBody(chain, flags))
        {
            PushFrom(_firstBodyFilter, chain, flags);
        }
    }

    /// <summary>Pushes one slice; see <see cref="BufferChain.AppendSlice"/> for the owner.</summary>
    public void Push(NativeSlice slice, BufferSlab? owner, PushFlags flags)
    {
        BufferChain chain = Loop.RentChain();
        chain.AppendSlice(slice, owner);
        Push(chain, flags);
        Loop.Return(chain);
    }

    internal void PushFrom(BodyFilter? filter, BufferChain chain, PushFlags flags)
    {
        if (Aborted != AbortReason.None || _refusedStatus != 0)
        {
            chain.Clear();
            return;
        }
        if (filter is not null)
        {
            filter.Push(this, chain, flags);
            return;
        }
        if (Response.HeaderOnly)
        {
            chain.Clear();
        }
        Stream.WriteBody(this, chain, flags);
    }

    /// <summary>A whole response from one slice of memory: length, head, body.</summary>
    public PhaseResult SendComplete(NativeSlice body, BufferSlab? owner = null)
    {
        Response.ContentLength = body.Length;
        SendHead();
        if (_firstBodyFilter is not null || !Response.IsSent || Aborted != AbortReason.None
            || !Stream.TryWriteSmall(this, body.Span))
        {
            Push(body, owner, PushFlags.Last);
        }
        return PhaseResult.Done;
    }

    /// <summary>Bytes of the body that were pushed and have not left: held by filters, or not taken by the
    /// kernel.</summary>
    public long PendingBytes
    {
        get
        {
            long bytes = Stream.UnsentBytes + (Capture is { IsFull: true } ? CaptureFullBytes : 0);
            for (BodyFilter? filter = _firstBodyFilter; filter is not null; filter = filter.Downstream)
            {
                bytes += filter.HeldBytes;
            }
            return bytes;
        }
    }

    /// <summary>Ends the request: what was not sent is dropped and the connection does not survive a begun
    /// response.</summary>
    public void Abort(AbortReason reason)
    {
        if (Aborted == AbortReason.None)
        {
            Aborted = reason;
            KeepAlive = false;
            Stream.Abort(this);
        }
    }
}
