// One HTTP/2 stream as a request's way to its client: body bytes that came and were not read yet, response bytes that
// were not framed yet, both windows, and who waits for what. Frames are the driver's to write. Pooled with its
// connection's server; one loop's thread. A stream outlives its frames until its request has ended.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http2;

namespace Weir.Http;

/// <summary>A stream of an HTTP/2 connection.</summary>
internal sealed partial class Http2Stream : ClientStream
{
    /// <summary>Body bytes that may be on their way or wait for their reader, once somebody reads.</summary>
    private const int BodyWindowBytes = 256 * 1024;

    /// <summary>Pieces that are kept where they were received; more small ones are copied together, or a client could
    /// hold a buffer with every byte it sends.</summary>
    private const int PiecesByReference = 4;

    private const int SmallPieceBytes = 2048;

    private struct Piece
    {
        internal BufferSlab Slab;
        internal int Offset;
        internal int Length;
    }

    private readonly ReadTimer _readTimer;
    private readonly SendTimer _sendTimer;
    private readonly LoopOperation<Unit> _bodyCame = new();
    private readonly LoopOperation<bool> _drained = new();
    private Piece[] _pieces = new Piece[4];
    private int _firstPiece;
    private int _pieceCount;
    private Http2Driver _driver = null!;
    private IPeerWatcher? _watcher;

    internal Http2Stream()
    {
        _readTimer = new ReadTimer(this);
        _sendTimer = new SendTimer(this);
    }

    internal uint Id { get; private set; }
    internal StreamState State;
    internal SendWindow Window;
    internal HttpRequest? Request { get; set; }

    // In the connection's table, and in its schedule.
    internal Http2Stream? NextInTable;
    internal Http2Stream? NextInLine;
    internal Http2Stream? PreviousInLine;
    internal int Line = -1;
    internal byte Urgency;

    /// <summary>Its frames alternate with those of others.</summary>
    internal bool TakesTurns;

    /// <summary>The client gave it up, or the connection is gone: nothing it sends arrives.</summary>
    internal bool IsGone { get; private set; }

    private bool _isMalformed;

    internal void Start(Http2Driver driver, uint id, int sendWindow, int receiveWindow, int granted)
    {
        _driver = driver;
        Id = id;
        State = default;
        Window = new SendWindow(sendWindow);
        _receiveWindow = new ReceiveWindow(receiveWindow);
        _granted = granted;
        _received = 0;
        _consumed = 0;
        _bodyEnded = false;
        _bodyStatus = 0;
        _isCancelled = false;
        _sentContinue = false;
        _wantsBody = false;
        _bodyLength = -1;
        _bodyBytes = 0;
        _paddingBytes = 0;
        IsGone = false;
        _isMalformed = false;
        IsTunnel = false;
        _watcher = null;
        StartWriting();
    }

    /// <summary>Its request has ended: what nobody took goes.</summary>
    internal void End()
    {
        EventLoop loop = _driver.Loop;
        loop.Timers.Cancel(_readTimer);
        loop.Timers.Cancel(_sendTimer);
        _wantsBody = false;
        DropBody();
        EndWriting();
        Request = null;
        _watcher = null;
        _driver = null!;
    }

    // The rest of the seam.

    public override Connection Transport => _driver.Connection;

    public override ProxyClient? Proxy => _driver.Proxy;

    public override bool WantsBytes => true;

    public override bool IsShared => true;

    public override IPeerWatcher? Watcher
    {
        get => _watcher;
        set => _watcher = value;
    }

    public override bool IsClientGone => IsGone;

    public override void AnswerFromOutside(ReadOnlySpan<byte> bytes)
    {
        // The connection is other requests' too: the loop answers for this one when it is free again.
    }

    /// <summary>The client gave the stream up, or the connection ended: whoever waits hears of it.</summary>
    /// <param name="malformed">What it sent made its request malformed.</param>
    internal void Fail(bool reset, bool malformed = false)
    {
        if (IsGone)
        {
            return;
        }
        IsGone = true;
        _isMalformed = malformed;
        _driver.Schedule.Remove(this);
        Pending?.Clear();
        if (_drained.IsWaiting)
        {
            _drained.SetResult(false);
        }
        if (_bodyCame.IsWaiting)
        {
            _bodyCame.SetResult(default);
        }
        _watcher?.PeerGone(_driver.Connection, reset);
    }

    // The body of the request.

    private ReceiveWindow _receiveWindow;
    private long _granted;
    private long _received;
    private long _consumed;
    private bool _bodyEnded;
    private int _bodyStatus;
    private bool _isCancelled;
    private bool _sentContinue;
    private bool _wantsBody;
    private BufferSlab? _tail;
    private int _tailUsed;

    // What the head said the body's length is, -1 for nothing; what of it came; and what padding came with it.
    private long _bodyLength;
    private long _bodyBytes;
    private long _paddingBytes;

    /// <summary>The stream is a tunnel: its body is the other protocol's bytes.</summary>
    internal bool IsTunnel { get; set; }

    public override bool NeedsHandshakeCheck => IsTunnel;

    /// <summary>The head is known.</summary>
    internal void BeginBody(long length, bool ended)
    {
        _bodyLength = IsTunnel ? -1 : length;
        _bodyEnded = ended;
    }

    /// <summary>Counts data against what the head said (RFC 9113 §8.1.1).</summary>
    internal Http2Reason Measure(int length, bool ends)
    {
        _bodyBytes += length;
        return _bodyLength < 0 || (ends ? _bodyBytes == _bodyLength : _bodyBytes <= _bodyLength)
            ? Http2Reason.None : Http2Reason.ContentLengthMismatch;
    }

    /// <summary>Takes bytes from the window. False when the client had no right to send them.</summary>
    internal bool TryReceive(int flowBytes)
    {
        _received += flowBytes;
        return _receiveWindow.TryReceive(flowBytes);
    }

    /// <summary>A piece of the body, within the slab it was received in. What is not data is padding: it is consumed
    /// already.</summary>
    internal void TakeData(BufferSlab slab, int offset, int length, int flowBytes, bool ends)
    {
        _consumed += flowBytes - length;
        _paddingBytes += flowBytes - length;
        if (length > 0)
        {
            Keep(slab, offset, length);
        }
        else if (flowBytes > 0)
        {
            Grant();
        }
        if (ends)
        {
            EndBody();
        }
        else if (length > 0)
        {
            Wake();
        }
    }

    /// <summary>The client has sent all of it.</summary>
    internal void EndBody()
    {
        _bodyEnded = true;
        Wake();
    }

    private void Wake()
    {
        if (_bodyCame.IsWaiting)
        {
            _bodyCame.SetResult(default);
        }
    }

    private void Keep(BufferSlab slab, int offset, int length)
    {
        if (length <= SmallPieceBytes && _pieceCount >= PiecesByReference)
        {
            KeepCopy(slab.Span.Slice(offset, length));
            return;
        }
        slab.AddReference();
        Add(slab, offset, length);
    }

    private void KeepCopy(ReadOnlySpan<byte> bytes)
    {
        if (_tail is { } tail && tail.Capacity - _tailUsed >= bytes.Length)
        {
            bytes.CopyTo(tail.Span[_tailUsed..]);
            ref Piece last = ref PieceAt(_pieceCount - 1);
            if (_pieceCount > 0 && last.Slab == tail && last.Offset + last.Length == _tailUsed)
            {
                last.Length += bytes.Length;
                _tailUsed += bytes.Length;
                return;
            }
        }
        else
        {
            _tail?.Release();
            _tail = _driver.Loop.Buffers.Rent();
            _tailUsed = 0;
            bytes.CopyTo(_tail.Span);
        }
        _tail.AddReference();
        Add(_tail, _tailUsed, bytes.Length);
        _tailUsed += bytes.Length;
    }

    private ref Piece PieceAt(int index) => ref _pieces[(_firstPiece + index) & (_pieces.Length - 1)];

    private void Add(BufferSlab slab, int offset, int length)
    {
        if (_pieceCount == _pieces.Length)
        {
            var more = new Piece[_pieces.Length * 2];
            for (int i = 0; i < _pieceCount; i++)
            {
                more[i] = PieceAt(i);
            }
            _pieces = more;
            _firstPiece = 0;
        }
        ref Piece piece = ref PieceAt(_pieceCount++);
        piece.Slab = slab;
        piece.Offset = offset;
        piece.Length = length;
    }

    private Piece TakePiece()
    {
        ref Piece first = ref PieceAt(0);
        Piece piece = first;
        first.Slab = null!;
        _firstPiece = (_firstPiece + 1) & (_pieces.Length - 1);
        if (--_pieceCount == 0 && _tail is { } tail)
        {
            _tail = null;
            tail.Release();
        }
        _consumed += piece.Length;
        Grant();
        return piece;
    }

    private void DropBody()
    {
        while (_pieceCount > 0)
        {
            TakePiece().Slab.Release();
        }
        _tail?.Release();
        _tail = null;
    }

    /// <summary>Lets the client send more, as the reader takes what came.</summary>
    private void Grant()
    {
        if (!_wantsBody || _bodyEnded || IsGone)
        {
            return;
        }
        long target = _consumed + Math.Max(BodyWindowBytes, _driver.PrereadBytes);
        if (_bodyLength >= 0)
        {
            target = Math.Min(target, _bodyLength + _paddingBytes);
        }
        long more = target - _granted;
        if (more >= BodyWindowBytes / 2 || more > 0 && _granted - _received < BodyWindowBytes / 4)
        {
            _granted += more;
            _receiveWindow.Resize(_receiveWindow.Capacity + (int)more);
            _driver.WriteWindowUpdate(Id, (int)more);
        }
    }

    public override async LoopTask<BodyPiece> ReadBodyAsync(HttpRequest r)
    {
        if (!_wantsBody)
        {
            _wantsBody = true;
            Grant();
        }
        while (true)
        {
            if (_pieceCount > 0)
            {
                Piece piece = TakePiece();
                return new BodyPiece(RecvLease.Bytes(piece.Slab, piece.Offset + piece.Length), piece.Offset,
                    piece.Length, _bodyEnded && _pieceCount == 0, 0);
            }
            if (_bodyStatus != 0)
            {
                return new BodyPiece(default, 0, 0, false, _bodyStatus);
            }
            if (_bodyEnded)
            {
                return new BodyPiece(default, 0, 0, true, 0);
            }
            if (IsGone || _isCancelled)
            {
                return FailBody(r);
            }
            if (r.Head.Expect100 && !_sentContinue)
            {
                _sentContinue = true;
                if (!r.Response.IsSent)
                {
                    WriteInterim(r, 100, default);
                }
            }
            _driver.FlushLater();
            _driver.Loop.Timers.Set(_readTimer, _driver.Loop.NowMs + r.Location.ClientBodyTimeoutMs.Value);
            await _bodyCame.Begin();
            _driver.Loop.Timers.Cancel(_readTimer);
        }
    }

    private BodyPiece FailBody(HttpRequest r)
    {
        if (!_isCancelled)
        {
            r.LogAction = "reading client request body";
            r.LogError(LogLevel.Info, "client prematurely closed connection");
            r.LogAction = null;
        }
        _isCancelled = false;
        return new BodyPiece(default, 0, 0, false, _isMalformed ? 400 : 499);
    }

    private sealed class ReadTimer(Http2Stream stream) : LoopTimer
    {
        protected override void Fire() => stream.TimeOutBody();
    }

    private void TimeOutBody()
    {
        if (_bodyCame.IsWaiting && Request is { } r)
        {
            r.LogAction = "reading client request body";
            r.LogError(LogLevel.Info, "client timed out", Errno.ETIMEDOUT);
            r.LogAction = null;
            _bodyStatus = 408;
            _bodyCame.SetResult(default);
        }
    }

    public override void CancelRead()
    {
        if (_bodyCame.IsWaiting)
        {
            _isCancelled = true;
            _bodyCame.SetResult(default);
        }
    }

    public override async LoopTask<RecvLease> ReadTunnelAsync(HttpRequest r)
    {
        _wantsBody = true;
        Grant();
        while (true)
        {
            if (_pieceCount > 0)
            {
                Piece piece = TakePiece();
                if (piece.Offset == 0)
                {
                    return RecvLease.Bytes(piece.Slab, piece.Length);
                }
                BufferSlab slab = _driver.Loop.Buffers.Rent(piece.Length);
                piece.Slab.Span.Slice(piece.Offset, piece.Length).CopyTo(slab.Span);
                piece.Slab.Release();
                return RecvLease.Bytes(slab, piece.Length);
            }
            if (IsGone || _isCancelled)
            {
                _isCancelled = false;
                return RecvLease.Failed(Errno.ECANCELED);
            }
            if (_bodyEnded)
            {
                return RecvLease.End;
            }
            _driver.FlushLater();
            await _bodyCame.Begin();
        }
    }
}
