// One stream of an HTTP/2 connection to an upstream server, in the seat of a connection: what an exchange sends through
// it leaves as DATA frames within the windows; a receive ends when there is news, and the news (a head, body bytes,
// trailers, the end) is taken from here by the protocol. Rented from its connection and used again. One loop's thread.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Protocol.Http2;

namespace Weir.Session.Upstream;

/// <summary>A stream to an upstream server.</summary>
public sealed class UpstreamStream : Connection
{
    private readonly LoopOperation<RecvLease> _receive = new();
    private readonly LoopOperation<IoResult> _drain = new();
    private readonly StallTimer _stall;
    private BufferChain? _plain;
    private BufferChain? _body;
    private BufferSlab? _headText;
    private BufferSlab? _trailerText;
    private long _drainKept;
    private long _readDueMs;
    private int _headBytesMax;
    private int _error;
    private int _sendError;
    private bool _hasNews;
    private bool _endsAfterChain;
    private bool _finalHead;

    internal StreamState State;
    internal SendWindow SendWindow;
    internal ReceiveWindow ReceiveWindow;
    internal UpstreamStream? NextFree;
    internal UpstreamStream? NextToWake;
    internal UpstreamStream? NextBlocked;
    internal bool IsToWake;
    internal bool IsBlocked;

    internal UpstreamStream(Http2Upstream connection) : base(connection.Loop)
    {
        Upstream = connection;
        _stall = new StallTimer(this);
    }

    /// <summary>Sending makes no progress: neither windows nor the connection let bytes go.</summary>
    private sealed class StallTimer(UpstreamStream stream) : LoopTimer
    {
        protected override void Fire() => stream.FailSending(Errno.ETIMEDOUT);
    }

    public Http2Upstream Upstream { get; }
    public uint Id { get; internal set; }

    /// <summary>The head that came last, complete when <see cref="HasHead"/>.</summary>
    public ResponseHead Head { get; private set; } = null!;

    /// <summary>A head is there that nobody took yet.</summary>
    public bool HasHead { get; private set; }

    /// <summary>Why the peer's fields or frames were refused, or None.</summary>
    public Http2Reason Reason { get; private set; }

    /// <summary>The peer reset the stream, for <see cref="ResetError"/>.</summary>
    public bool IsReset { get; private set; }
    public Http2Error ResetError { get; private set; }

    /// <summary>The peer has said that it did not work on the request: it may be sent again, whatever it is.</summary>
    public bool IsUnprocessed { get; private set; }

    /// <summary>All of the answer has come and was taken.</summary>
    public bool IsFinished =>
        State.RemoteEnded && !IsReset && _finalHead && !HasHead && _body is null or { IsEmpty: true };

    /// <summary>The answer ends with its head.</summary>
    public bool EndedWithHead => State.RemoteEnded && !IsReset && _body is null or { IsEmpty: true };

    /// <summary>Trailer lines as HTTP/1 has them; their length in <see cref="TrailerLength"/>.</summary>
    public BufferSlab? TrailerText => _trailerText;
    public int TrailerLength { get; private set; }

    internal void Start(int initialSendWindow, int receiveWindow)
    {
        State = default;
        SendWindow = new SendWindow(initialSendWindow);
        ReceiveWindow = new ReceiveWindow(receiveWindow);
        Id = 0;
        HasHead = IsReset = IsUnprocessed = false;
        Reason = Http2Reason.None;
        _error = _sendError = 0;
        _hasNews = _endsAfterChain = _finalHead = false;
        TrailerLength = 0;
        SentBytes = 0;
        IsClosed = false;
        StartMs = Loop.NowMs;
        Number = Upstream.Inner.Number;
    }

    // What the protocol does.

    /// <summary>Begins a request: fields are added, then <see cref="Http2Upstream.EndHead"/>. Answers go to this head
    /// and may have so many bytes of text.</summary>
    public void BeginRequest(ResponseHead head, int headBytesMax)
    {
        Head = head;
        _headBytesMax = headBytesMax;
    }

    /// <summary>The request's body ends with what the chain holds at the next <see cref="Send"/>.</summary>
    public void EndAfterChain() => _endsAfterChain = true;

    /// <summary>The text of the head; it is good until the next receive.</summary>
    public ReadOnlySpan<byte> TakeHead()
    {
        HasHead = false;
        // What came with it was told together with it.
        _hasNews |= _finalHead && (State.RemoteEnded || _body is { IsEmpty: false });
        return _headText!.Span[..Head.HeadLength];
    }

    /// <summary>Gives the head's memory back.</summary>
    public void ReleaseHead()
    {
        _headText?.Release();
        _headText = null;
    }

    /// <summary>Moves body bytes that came to the chain, and lets the peer send as many more. Returns how
    /// many.</summary>
    public long MoveBody(BufferChain output)
    {
        if (_body is not { IsEmpty: false } body)
        {
            return 0;
        }
        long bytes = body.Length;
        body.MoveTo(output);
        Upstream.Credit(this, (int)bytes);
        return bytes;
    }

    // What the connection does.

    internal void TakeData(ReadOnlySpan<byte> bytes, NativeSlice memory, BufferSlab slab)
    {
        _body ??= Loop.RentChain();
        if (bytes.Length < 2048)
        {
            _body.Append(bytes);
        }
        else
        {
            _body.AppendSlice(memory, slab);
        }
        News();
    }

    internal Http2Reason TakeFields(
        HpackDecoder decoder, ReadOnlySpan<byte> block, Span<byte> scratch, bool endStream)
    {
        if (_finalHead)
        {
            return TakeTrailers(decoder, block, scratch, endStream);
        }
        _headText ??= Loop.Buffers.Rent(_headBytesMax);
        var fields = new ResponseFields(_headText.Span[..Math.Min(_headBytesMax, _headText.Capacity)], Head, 1000);
        Http2Reason reason = decoder.Decode(block, scratch, int.MaxValue, ref fields);
        if (reason != Http2Reason.None)
        {
            return reason;
        }
        reason = fields.Finish();
        if (reason == Http2Reason.None && Head.Status < 200 && endStream)
        {
            reason = Http2Reason.TrailersNotLast;
        }
        if (reason == Http2Reason.None)
        {
            _finalHead = Head.Status >= 200;
            HasHead = true;
        }
        return reason;
    }

    private Http2Reason TakeTrailers(
        HpackDecoder decoder, ReadOnlySpan<byte> block, Span<byte> scratch, bool endStream)
    {
        _trailerText ??= Loop.Buffers.Rent(_headBytesMax);
        var fields = new TrailerFields(_trailerText.Span[..Math.Min(_headBytesMax, _trailerText.Capacity)]);
        Http2Reason reason = decoder.Decode(block, scratch, int.MaxValue, ref fields);
        TrailerLength = fields.Length;
        return reason != Http2Reason.None ? reason
            : fields.Reason != Http2Reason.None ? fields.Reason
            : endStream ? Http2Reason.None : Http2Reason.TrailersNotLast;
    }

    internal bool HasFinalHead => _finalHead;

    /// <summary>An interim head must be taken before the next one comes.</summary>
    internal bool HasInterimHead => HasHead && !_finalHead;

    /// <summary>There is something to take: who waits for it is woken when the connection has read all it
    /// got.</summary>
    internal void News()
    {
        _hasNews = true;
        Upstream.WakeLater(this);
    }

    /// <summary>The answer is refused.</summary>
    internal void Refuse(Http2Reason reason)
    {
        Reason = reason;
        News();
    }

    internal void TakeReset(Http2Error error)
    {
        bool complete = State.RemoteEnded;
        State.ReceiveReset();
        if (!complete)
        {
            IsReset = true;
            ResetError = error;
            IsUnprocessed |= error == Http2Error.RefusedStream;
        }
        // A server that has answered may not care for the rest of the request (RFC 9113 §8.1).
        FailSending(complete ? Errno.EPIPE : Errno.ECONNRESET);
        News();
    }

    /// <summary>The connection is gone. <paramref name="unprocessed"/>: the peer never worked on this stream.</summary>
    internal void Break(int errno, bool unprocessed)
    {
        if (State.RemoteEnded && !IsReset)
        {
            FailSending(Errno.EPIPE);
            return;
        }
        _error = errno;
        IsUnprocessed |= unprocessed;
        FailSending(errno == 0 ? Errno.ECONNRESET : errno);
        State.ReceiveReset();
        IsReset = errno == 0 && IsReset;
        _isBroken = true;
        News();
    }

    private bool _isBroken;

    internal void Wake()
    {
        if (_receive.IsWaiting && _hasNews)
        {
            Loop.Timers.Cancel(this);
            _receive.SetResult(NextLease());
        }
    }

    private RecvLease NextLease()
    {
        _hasNews = false;
        if (_isBroken && !HasHead && _body is null or { IsEmpty: true })
        {
            return _error == 0 ? RecvLease.End : RecvLease.Failed(_error);
        }
        BufferSlab token = Upstream.Token;
        token.AddReference();
        return RecvLease.Bytes(token, 0);
    }

    // The seat of a connection.

    public override ReadOnlySpan<byte> PeerAddress => Upstream.Inner.PeerAddress;
    public override ReadOnlySpan<byte> LocalAddress => Upstream.Inner.LocalAddress;
    public override int SendError => _sendError;
    public override bool PeerClosed => _isBroken || IsReset;
    public override bool MayHaveInput => _hasNews;

    public override LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize)
    {
        if (IsClosed)
        {
            return new LoopTask<RecvLease>(RecvLease.Failed(Errno.ECANCELED));
        }
        if (_hasNews || _isBroken)
        {
            return new LoopTask<RecvLease>(NextLease());
        }
        if (_readDueMs > 0)
        {
            Loop.Timers.Set(this, _readDueMs);
        }
        return _receive.Begin();
    }

    protected override void Fire()
    {
        if (_receive.IsWaiting)
        {
            _receive.SetResult(RecvLease.Failed(Errno.ETIMEDOUT));
        }
    }

    public override void SetReadDeadline(long dueMs)
    {
        _readDueMs = dueMs;
        if (_receive.IsWaiting && dueMs > 0)
        {
            Loop.Timers.Set(this, dueMs);
        }
    }

    public override void CancelReceive()
    {
        if (_receive.IsWaiting)
        {
            Loop.Timers.Cancel(this);
            _receive.SetResult(RecvLease.Failed(Errno.ECANCELED));
        }
    }

    public override bool Send(BufferChain chain)
    {
        if (IsClosed || _sendError != 0)
        {
            chain.Clear();
            // An answer that is complete does not fail for a request that nobody wants the rest of.
            return _sendError == Errno.EPIPE;
        }
        _plain = chain;
        Pump();
        return true;
    }

    /// <summary>Gives the connection what the windows allow.</summary>
    internal void Pump()
    {
        if (_plain is not { } plain || State.LocalEnded)
        {
            return;
        }
        bool moved = false;
        while (!plain.IsEmpty)
        {
            int bytes = Upstream.WriteData(this, plain, _endsAfterChain);
            if (bytes == 0)
            {
                break;
            }
            SentBytes += bytes;
            moved = true;
        }
        if (plain.IsEmpty)
        {
            Loop.Timers.Cancel(_stall);
            if (_endsAfterChain && !State.LocalEnded)
            {
                Upstream.WriteEnd(this);
            }
        }
        else if ((moved || !_stall.IsSet) && SendTimeoutMs > 0)
        {
            Loop.Timers.Set(_stall, Loop.NowMs + SendTimeoutMs);
        }
        CompleteDrain();
    }

    private void CompleteDrain()
    {
        if (_drain.IsWaiting && (_sendError != 0 || _plain is null || _plain.Length <= _drainKept))
        {
            _drain.SetResult(_sendError == 0 ? IoResult.Ok() : IoResult.Failed(_sendError));
        }
    }

    private void FailSending(int errno)
    {
        _sendError = errno;
        _plain?.Clear();
        _plain = null;
        Loop.Timers.Cancel(_stall);
        CompleteDrain();
        if (errno == Errno.ETIMEDOUT)
        {
            CancelReceive();
        }
    }

    internal void CountSent(int bytes) => SentBytes += bytes;

    public override LoopTask<IoResult> DrainAsync(BufferChain chain, long keptBytes = 0)
    {
        if (_sendError != 0 || IsClosed)
        {
            return new LoopTask<IoResult>(IoResult.Failed(_sendError != 0 ? _sendError : Errno.ECANCELED));
        }
        if (chain.Length <= keptBytes)
        {
            return new LoopTask<IoResult>(IoResult.Ok());
        }
        _drainKept = keptBytes;
        return _drain.Begin();
    }

    public override void CancelDrain()
    {
        if (_drain.IsWaiting)
        {
            _drain.SetResult(IoResult.Failed(Errno.ECANCELED));
        }
    }

    public override void ShutdownSend()
    {
    }

    public override void SetNoDelay()
    {
    }

    /// <summary>Gives the stream back; one that is not over on both sides is reset.</summary>
    public override void Close(bool reset = false)
    {
        if (IsClosed)
        {
            return;
        }
        IsClosed = true;
        Loop.Timers.Cancel(this);
        Loop.Timers.Cancel(_stall);
        Watcher = null;
        _plain = null;
        _isBroken = false;
        _readDueMs = 0;
        ReleaseHead();
        _trailerText?.Release();
        _trailerText = null;
        if (_body is { } body)
        {
            _body = null;
            Loop.Return(body);
        }
        Head = null!;
        CancelReceive();
        CancelDrain();
        Upstream.Leave(this);
    }
}
