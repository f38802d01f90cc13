// One request's exchange with upstream servers: pick a server, lease a connection, send, read the head, relay the body,
// give the connection back or try the next server. Charter: here lives the order of these steps and nothing of a
// protocol (UpstreamProtocol), of TLS (UpstreamTls), of headers (AnswerHead), of balancing (GroupState). One loop's
// thread; pooled with its request.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.FastCgi;
using Weir.Protocol.Http1;
using Weir.Session.Upstream;
using Weir.Tls;

using HttpResponse = Weir.Protocol.Http1.ResponseHead;

namespace Weir.Http.Proxy;

/// <summary>An exchange with upstream servers.</summary>
public sealed partial class Exchange : RequestState, IPeerWatcher
{
    public static readonly RequestSlot<Exchange> Slot = new();

    private PeerWalk _walk;
    private UpstreamConnection? _lease;
    private Connection? _connecting;
    private Peer? _peer;
    private BufferChain? _output;
    private BufferChain? _body;
    private BufferSlab? _input;
    private int _start;
    private int _end;
    private UpstreamRecord _record = null!;
    private long _startedMs;
    private bool _requestSent;
    private bool _reused;
    private bool _clientGone;
    private bool _firstAttempt;

    // The request.

    public HttpRequest Request { get; private set; } = null!;
    public UpstreamSettings Settings { get; private set; } = null!;
    public UpstreamProtocol Protocol { get; private set; } = null!;

    /// <summary>The group that is asked; set by the handler, or by the resolver's answer.</summary>
    public GroupState Group { get; set; } = null!;

    /// <summary>Who may use a connection of this exchange again.</summary>
    private object _tag = null!;

    /// <summary>The authority as the configuration names it ($proxy_host), its port, and the target to ask
    /// for.</summary>
    public NativeSlice TargetHost { get; set; }
    public NativeSlice TargetPort { get; set; }
    public NativeSlice TargetUri { get; set; }

    /// <summary>How the server is spoken to by TLS; null for plain connections.</summary>
    public UpstreamTls? Tls { get; set; }

    private UpstreamTlsName? _tlsName;

    /// <summary>The host to look up when there is no group yet, and who looks it up.</summary>
    public NativeSlice TargetName { get; set; }
    public int TargetPortNumber { get; set; }
    public ResolverSettings? Resolver { get; set; }

    /// <summary>A body that the configuration puts in place of the client's.</summary>
    public NativeSlice OwnBody { get; set; }
    public bool HasOwnBody { get; set; }

    /// <summary>The request body is sent while it is read from the client.</summary>
    public bool StreamsBody { get; private set; }

    /// <summary>Bytes of the request body, or -1 when they are sent in chunks; 0 also when there is none.</summary>
    public long BodyBytes { get; private set; }

    /// <summary>Whether a body or at least its length is sent.</summary>
    public bool HasBody { get; private set; }

    /// <summary>The method the server was asked with.</summary>
    public HttpMethod MethodAsked { get; internal set; }
    /// <summary>Who watches the answer; null for nobody.</summary>
    public AnswerTee? Tee { get; set; }

    /// <summary>Ask with this method instead of the client's; <see cref="HttpMethod.Other"/> for the
    /// client's.</summary>
    public HttpMethod MethodInstead { get; set; }

    /// <summary>What the exchange ended with when no server answered.</summary>
    public UpstreamFault Fault { get; internal set; }

    /// <summary>Who is called instead of servers; null for servers.</summary>
    internal PhaseHandler? Application { get; set; }

    /// <summary>The client is gone and nobody else wants the answer.</summary>
    private bool IsAbandoned => _clientGone && Tee is not { GoesOnAlone: true };

    /// <summary>The request named a protocol to change to.</summary>
    public bool AsksForUpgrade { get; internal set; }

    /// <summary>Values of header templates while a head is written.</summary>
    internal NativeSlice[] Values = new NativeSlice[16];

    // The answer.

    public HttpResponse Head { get; } = new();

    /// <summary>The bytes <see cref="Head"/> refers to, in the request's arena.</summary>
    public NativeSlice HeadBytes { get; internal set; }
    internal ResponseHeadParser Parser;
    internal ChunkedDecoder Chunks = new();
    internal FastCgiReader Records;
    internal BufferSlab? HeadSlab;
    internal int HeadLength;
    internal long BodyLeft;
    internal bool BodyEnded;

    /// <summary>Trailer lines of a chunked answer as they came.</summary>
    internal BufferSlab? TrailerSlab;
    internal int TrailerLength;

    /// <summary>Trailers of the answer reach the client.</summary>
    public bool PassesTrailers { get; internal set; }

    internal bool Obeys(IgnoredHeaders header) => (Settings.IgnoreHeaders.Value & header) == 0;

    /// <summary>Bytes received and not read yet.</summary>
    public ReadOnlySpan<byte> Input => _input is null ? default : _input.Span[_start.._end];

    public NativeSlice InputMemory => _input is null ? default : _input.Memory.Slice(_start, _end - _start);

    public BufferSlab InputSlab => _input!;

    public void Consume(int bytes) => _start += bytes;

    public Connection Stream => _lease!.Stream;

    internal void Begin(HttpRequest r, UpstreamSettings settings, UpstreamProtocol protocol)
    {
        Request = r;
        Settings = settings;
        Protocol = protocol;
        _record = r.Get(UpstreamRecord.Slot);
        _startedMs = r.Loop.NowMs;
        _firstAttempt = true;
        _isBeyondKept = false;
    }

    /// <summary>Asks in another way than was begun with.</summary>
    internal void UseProtocol(UpstreamProtocol protocol) => Protocol = protocol;
    /// <summary>Takes a head that was received before, whose memory outlives the request.</summary>
    internal bool ReadStored(NativeSlice head, bool cgi)
    {
        HeadBytes = head;
        Parser.Reset(cgi);
        _record.Last = this;
        return Parser.Parse(head.Span, Head, new ParseOptions { MaxHeaders = 1000 }) == ParseStep.Done;
    }

    /// <summary>Runs to the end of the response, or to a status to answer with.</summary>
    public async LoopTask<PhaseResult> RunAsync()
    {
        HttpRequest r = Request;
        if (Application is { } application)
        {
            return await r.Get(ApplicationCall.Slot).RunAsync(this, application);
        }
        bool ownsBody = HasOwnBody || !Settings.PassRequestBody.Value;
        StreamsBody = !ownsBody && !Settings.RequestBuffering.Value && r.Body.IsExpected && !r.Body.IsCollected;
        if (!StreamsBody)
        {
            // As nginx: the client's body is read even when another is sent.
            int status = await r.Body.CollectAsync();
            if (status != 0)
            {
                return PhaseResult.Answer(status);
            }
        }
        PlanBody(r, ownsBody);
        if (Group is null)
        {
            int status = await FindGroupAsync();
            if (status != 0)
            {
                return PhaseResult.Answer(status);
            }
        }
        if (Group!.Named is { } named)
        {
            await named.FirstAnswers();
        }
        _tlsName = Tls?.For(r.Loop, this);
        bool isLocal = Group.Group.KeepAlive.Local;
        _tag = _tlsName is { } name ? isLocal ? name.In(r.Location) : name : isLocal ? r.Location : Protocol.Scheme;
        Group.StartWalk(ref _walk, Settings.NextTries.Value, r);
        PhaseResult result;
        Watch(true);
        while (true)
        {
            // An attempt. Written here in one piece: every level of methods that waits for the server costs a request
            // the moving of a state machine.
            if (Group.Queue is { } queue && !await EnterQueuedAsync(queue))
            {
                result = PhaseResult.Answer(IsAbandoned ? 499 : 502);
                break;
            }
            UpstreamFault fault = PickServer(out Peer? fresh);
            if (fresh is not null)
            {
                fault = Protocol.IsMultiplexed ? await ConnectSharedAsync(fresh) : await ConnectAsync(fresh);
            }
            if (_lease is not null)
            {
                fault = StartSending();
                while (fault.IsNone)
                {
                    RecvLease lease = await Stream.ReceiveAsync();
                    if (TakeHead(lease, out fault))
                    {
                        fault = await AnswerAsync();
                        break;
                    }
                }
                if (_senderActive)
                {
                    await StopSenderAsync();
                }
                Leave(fault);
            }
            if (fault.IsNone)
            {
                result = _result;
                break;
            }
            if (!MayTryNext(fault))
            {
                Fault = fault;
                result = PhaseResult.Answer(fault.Status);
                break;
            }
        }
        Watch(false);
        return result;
    }

    private const int ResendsMax = 3;
    private PhaseResult _result;
    private bool _unprocessed;
    private int _resends;

    /// <summary>Bytes of the answer that did not come through the input.</summary>
    internal void Count(long bytes) => _record.Current.ReceivedBytes += bytes;

    // The client.

    private void Watch(bool on)
    {
        if (Settings.IgnoreClientAbort.Value || !Request.IsMain)
        {
            return;
        }
        ClientStream client = Request.Stream;
        if (on)
        {
            client.Watcher = this;
            _clientGone = client.IsClientGone;
        }
        else if (client.Watcher == this)
        {
            client.Watcher = null;
        }
    }

    void IPeerWatcher.PeerGone(Connection connection, bool reset)
    {
        _clientGone = true;
        if (!IsAbandoned)
        {
            return;
        }
        CancelQueued();
        if (_connecting is { } connecting)
        {
            connecting.Close();
        }
        _lease?.Stream.CancelReceive();
    }

    internal UpstreamFault ClientGone()
    {
        LogWith(LogLevel.Info, "client prematurely closed connection, so upstream connection is closed too", 0, null);
        return new UpstreamFault(FaultKind.Client, FaultLeg.Head, 499);
    }

    // Attempts.

    /// <summary>Picks a server, and an idle connection to it; without one <paramref name="fresh"/> is the server to
    /// connect to. A fault when nobody can be asked.</summary>
    private UpstreamFault PickServer(out Peer? fresh)
    {
        fresh = null;
        HttpRequest r = Request;
        EventLoop loop = r.Loop;
        _requestSent = false;
        _reused = false;
        Peer? peer = _entered ?? Group.Enter(ref _walk);
        _entered = null;
        bool afterRedirect = _firstAttempt && _record.Count > 0;
        _firstAttempt = false;
        if (peer is null)
        {
            _record.Begin(Group.Group.Name, loop.NowMs, afterRedirect);
            LogWith(LogLevel.Error, "no live upstreams", 0, "connecting to upstream", Group.Group.Name.ToString());
            EndRecord(502);
            return new UpstreamFault(FaultKind.NoLive, FaultLeg.Connect);
        }
        _peer = peer;
        _peerName = peer.Spec.Name.IsEmpty ? NameOf(r, peer.Spec.Address) : peer.Spec.Name;
        _record.Begin(_peerName, loop.NowMs, afterRedirect);
        _record.Last = this;
        if (IsAbandoned)
        {
            UpstreamFault gone = ClientGone();
            EndRecord(499);
            LeavePeer(PeerEnd.Fine);
            return gone;
        }
        if (Protocol.IsMultiplexed)
        {
            if (TakeStream(peer))
            {
                return default;
            }
        }
        else if ((_lease = Group.Idle.Take(peer, _tag)) is not null)
        {
            _reused = true;
            _lease.Requests++;
            _record.Current.ConnectMs = 0;
            return default;
        }
        fresh = peer;
        return default;
    }

    private NativeSlice _peerName;

    private static NativeSlice NameOf(HttpRequest r, byte[] address)
    {
        Span<byte> text = stackalloc byte[SocketAddress.TextBytesMax];
        return r.Arena.Store(text[..SocketAddress.Format(address, text, withPort: true)]);
    }

    /// <summary>Starts sending the request, and makes ready for the answer's head.</summary>
    private UpstreamFault StartSending()
    {
        HttpRequest r = Request;
        Connection stream = Stream;
        _sentBefore = stream.SentBytes;
        _output ??= r.Loop.RentChain();
        int status = Protocol.WriteRequest(this, _output);
        if (status == 0 && r.IsHeadRefused)
        {
            // An expression of a variable in it failed.
            status = 500;
        }
        if (status != 0)
        {
            return new UpstreamFault(FaultKind.Internal, FaultLeg.Send, status);
        }
        _requestSent = true;
        _senderStatus = 0;
        stream.SendTimeoutMs = (int)Settings.SendTimeoutMs.Value;
        if (!stream.Send(_output))
        {
            LogWith(LogLevel.Error, "writev() failed", stream.SendError, "sending request to upstream");
            return new UpstreamFault(FaultKind.Error, FaultLeg.Send);
        }
        if (StreamsBody || !_output.IsEmpty)
        {
            _senderActive = true;
            SendRestAsync().Forget();
        }
        Protocol.StartAnswer(this);
        BodyEnded = false;
        _holdsHead = false;
        _interims = 0;
        return AwaitMore();
    }

    private long _sentBefore;

    /// <summary>Ends an attempt: the connection is kept or closed, the server judged.</summary>
    private void Leave(UpstreamFault fault)
    {
        if (_lease is { } lease)
        {
            _record.Current.SentBytes = lease.Stream.SentBytes - _sentBefore;
            _lease = null;
            if (fault.IsNone && _keep && _start == _end && !Protocol.IsMultiplexed)
            {
                Group.Idle.Give(lease);
            }
            else
            {
                lease.Close();
            }
        }
        ReleaseInput();
        _output?.Clear();
        EndRecord(fault.Kind is FaultKind.None or FaultKind.Status ? 0 : fault.Status);
        PeerEnd end = fault.Kind switch
        {
            FaultKind.None or FaultKind.Client or FaultKind.Internal => PeerEnd.Fine,
            FaultKind.Status when fault.UpstreamStatus is 403 or 404 => PeerEnd.Next,
            _ => PeerEnd.Failed,
        };
        LeavePeer(_bodyFailed ? PeerEnd.Failed : _unprocessed ? PeerEnd.Fine : end);
    }

    private void LeavePeer(PeerEnd end)
    {
        if (_peer is { } peer)
        {
            _peer = null;
            ref UpstreamAttempt attempt = ref _record.Current;
            var facts = new AttemptFacts(attempt.Status, attempt.StartMs, attempt.HeaderMs, attempt.SentBytes,
                attempt.ReceivedBytes);
            if (Group.Leave(ref _walk, peer, end, in facts))
            {
                LogWith(LogLevel.Warn, "upstream server temporarily disabled", 0, "connecting to upstream",
                    _peerName.ToString());
            }
        }
    }

    private void EndRecord(int status)
    {
        ref UpstreamAttempt attempt = ref _record.Current;
        if (status != 0)
        {
            attempt.Status = status;
        }
        attempt.ResponseMs = Request.Loop.NowMs - attempt.StartMs;
    }

    private bool MayTryNext(UpstreamFault fault)
    {
        if (fault.Kind is FaultKind.Client or FaultKind.Internal or FaultKind.NoLive || IsAbandoned
            || Request.Response.IsSent)
        {
            return false;
        }
        if (_unprocessed)
        {
            // The server did not look at it: any request may be sent again, and no server is to blame.
            _unprocessed = false;
            if (++_resends > ResendsMax || !CanSendAgain())
            {
                return false;
            }
            _walk.TriesLeft++;
            return true;
        }
        if (_reused && fault.Kind == FaultKind.Error)
        {
            // An idle connection that the server closed at this very moment says nothing about the server.
            _walk.TriesLeft++;
        }
        NextUpstream reason = fault.Reason;
        if (_requestSent && Request.Method is HttpMethod.Post or HttpMethod.Lock or HttpMethod.Patch)
        {
            reason |= NextUpstream.NonIdempotent;
        }
        long timeoutMs = Settings.NextTimeoutMs.Value;
        bool may = _walk.TriesLeft > 0 && (Settings.Next.Value & reason) == reason && !(_requestSent && StreamsBody)
            && (timeoutMs == 0 || Request.Loop.NowMs - _startedMs < timeoutMs);
        if (may && !Group.MayRetry())
        {
            LogWith(LogLevel.Warn, "retry budget is used up", 0, "connecting to upstream",
                Group.Group.Name.ToString());
            return false;
        }
        return may;
    }

    // The log.

    internal void LogWith(LogLevel level, string message, int errno, string? action, string? upstream = null)
    {
        HttpRequest r = Request;
        if (!r.Logs(level))
        {
            return;
        }
        string? address = upstream ?? (_peer is null ? null : _peerName.ToString());
        string? before = r.LogAction;
        string text = errno == 0 ? message : $"{message} ({errno}: {Errno.Describe(errno)})";
        r.LogAction = action;
        string scheme = Tls is null ? Protocol.Scheme : Protocol.SecureScheme;
        r.LogUpstream = address is null ? null : scheme + address + HttpRequest.Shown(TargetUri);
        r.LogError(level, text);
        r.LogAction = before;
        r.LogUpstream = null;
    }

    // Memory.

    internal void ReleaseSlabs()
    {
        HeadSlab?.Release();
        HeadSlab = null;
        HeadLength = 0;
        TrailerSlab?.Release();
        TrailerSlab = null;
        TrailerLength = 0;
    }

    protected internal override void Reset()
    {
        // A request that was torn down in the middle of its exchange still owes these.
        Connection? connecting = _connecting;
        _connecting = null;
        connecting?.Close();
        LeaveSharedConnect();
        _lease?.Close();
        _lease = null;
        if (_peer is { } peer)
        {
            _peer = null;
            Group.Leave(ref _walk, peer, PeerEnd.Fine,
                new AttemptFacts(0, _record.Current.StartMs, -1, 0, 0));
        }
        LeaveQueue();
        ReleaseInput();
        ReleaseSlabs();
        DropKept();
        EventLoop loop = Request.Loop;
        if (_output is not null)
        {
            loop.Return(_output);
            _output = null;
        }
        if (_body is not null)
        {
            loop.Return(_body);
            _body = null;
        }
        ResetSpill();
        Request = null!;
        Group = null!;
        TargetHost = TargetPort = TargetUri = TargetName = OwnBody = HeadBytes = _peerName = default;
        Resolver = null;
        Tee = null;
        Application = null;
        MethodInstead = HttpMethod.Other;
        Fault = default;
        _alone = false;
        Tls = null;
        _tlsName = null;
        HasOwnBody = false;
        _clientGone = false;
        _bodyFailed = false;
        _unprocessed = false;
        _resends = 0;
        _keep = false;
        _senderActive = false;
        _stopSending = false;
        _result = default;
    }
}
