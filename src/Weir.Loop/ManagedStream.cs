// What the portable and the in-memory stream have in common: operations, deadlines, what of a chain has left, closing.
// How bytes move is theirs. The Linux engines share SocketStream instead. One loop's thread; owns no memory but the
// addresses.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>A stream whose waiting is done in managed code.</summary>
internal abstract class ManagedStream(EventLoop loop) : Connection(loop)
{
    private readonly LoopOperation<IoResult> _drain = new();
    private readonly LoopOperation<ConnectOutcome> _connect = new();
    private CallbackTimer? _readTimer;
    private CallbackTimer? _sendTimer;
    private long _drainKept;
    private int _sendError;

    protected LoopOperation<RecvLease> Receiving { get; } = new();
    protected bool IsConnecting => _connect.IsWaiting;
    protected bool IsConnectPending => _connect.IsPending;

    /// <summary>The chain of which a part waits for room; null when nothing does.</summary>
    protected BufferChain? Sending { get; private set; }

    /// <summary>The transport takes no more bytes for now.</summary>
    protected bool IsBlocked { get; private set; }

    /// <summary>The most that the receive under way may take.</summary>
    protected int ReceiveMax { get; set; }

    protected bool IsPeerEnded { get; set; }
    protected bool IsBroken { get; set; }
    protected byte[] Peer { get; set; } = [];
    protected byte[] Local { get; set; } = [];

    public override ReadOnlySpan<byte> PeerAddress => Peer;
    public override ReadOnlySpan<byte> LocalAddress => Local;
    public override int SendError => _sendError;
    public override bool PeerClosed => IsPeerEnded || IsBroken;

    /// <summary>Nobody waits on it any more.</summary>
    internal bool IsQuiet => !Receiving.IsPending && !_drain.IsPending && !_connect.IsPending;

    /// <summary>Moves what it can of the chain; calls <see cref="Block"/>, <see cref="Fail"/> or at its end
    /// <see cref="Unblock"/>.</summary>
    protected abstract void Transmit(BufferChain chain);

    /// <summary>The connection stands: the peer answered.</summary>
    protected virtual void OnConnected()
    {
    }

    /// <summary>Gives the transport back; timers and state of this class are done.</summary>
    protected abstract void CloseTransport(bool reset);

    /// <summary>A new connection, of a client when there is a listener.</summary>
    protected void Begin(Listener? listener)
    {
        Listener = listener;
        Number = Loop.NextConnectionNumber();
        StartMs = Loop.NowMs;
        _sendError = 0;
        IsPeerEnded = false;
        IsBroken = false;
        Loop.ConnectionCount++;
    }

    // Connecting.

    protected LoopTask<ConnectOutcome> BeginConnect(int timeoutMs)
    {
        LoopTask<ConnectOutcome> task = _connect.Begin();
        if (timeoutMs > 0)
        {
            SetReadDeadline(Loop.NowMs + timeoutMs);
        }
        return task;
    }

    protected void FinishConnect(int errno)
    {
        DisarmRead();
        if (errno != 0)
        {
            CloseQuietly(reset: false);
        }
        else
        {
            OnConnected();
        }
        _connect.SetResult(new ConnectOutcome(errno));
    }

    // Sending.

    public override bool Send(BufferChain chain)
    {
        if (IsBlocked)
        {
            return _sendError == 0;
        }
        if (IsClosed)
        {
            chain.Clear();
            return false;
        }
        if (_sendError == 0)
        {
            Transmit(chain);
        }
        if (_sendError != 0)
        {
            chain.Clear();
        }
        return _sendError == 0;
    }

    public override LoopTask<IoResult> DrainAsync(BufferChain chain, long keptBytes = 0)
    {
        if (_sendError != 0 || IsClosed)
        {
            return new LoopTask<IoResult>(IoResult.Failed(_sendError != 0 ? _sendError : Errno.ECANCELED));
        }
        if (!IsBlocked || chain.Length <= keptBytes)
        {
            return new LoopTask<IoResult>(IoResult.Ok());
        }
        _drainKept = keptBytes;
        return _drain.Begin();
    }

    /// <summary>The transport takes no more; <see cref="Continue"/> goes on.</summary>
    protected void Block(BufferChain chain)
    {
        bool isFirst = Sending is null;
        IsBlocked = true;
        Sending = chain;
        if (isFirst && SendTimeoutMs > 0)
        {
            ArmSend();
        }
    }

    protected void Unblock()
    {
        Sending = null;
        if (_sendTimer is not null)
        {
            Loop.Timers.Disarm(_sendTimer);
        }
    }

    protected void Fail(int errno)
    {
        _sendError = errno;
        IsBroken = true;
    }

    /// <summary>There is room again, and so many bytes of the chain have left meanwhile.</summary>
    protected void Continue(int count)
    {
        BufferChain chain = Sending!;
        long before = SentBytes;
        IsBlocked = false;
        Sent(chain, count);
        if (_sendError == 0)
        {
            Transmit(chain);
        }
        if (_sendError != 0)
        {
            Unblock();
            chain.Clear();
        }
        else if (IsBlocked && SentBytes != before && SendTimeoutMs > 0)
        {
            ArmSend();
        }
        if (_drain.IsWaiting && (_sendError != 0 || chain.Length <= _drainKept))
        {
            _drain.SetResult(_sendError != 0 ? IoResult.Failed(_sendError) : IoResult.Ok());
        }
    }

    protected void Sent(BufferChain chain, int count)
    {
        if (count > 0)
        {
            SentBytes += count;
            chain.Consume(count);
        }
    }

    private void ArmSend()
    {
        _sendTimer ??= new CallbackTimer(SendTimedOut);
        Loop.Timers.Set(_sendTimer, Loop.NowMs + SendTimeoutMs);
    }

    private void SendTimedOut()
    {
        if (!IsBlocked)
        {
            return;
        }
        _sendError = Errno.ETIMEDOUT;
        BufferChain chain = Sending!;
        IsBlocked = false;
        Sending = null;
        chain.Clear();
        if (_drain.IsWaiting)
        {
            _drain.SetResult(IoResult.Failed(Errno.ETIMEDOUT));
        }
    }

    // Deadlines, cancelling, closing.

    public override void SetReadDeadline(long dueMs)
    {
        if (dueMs == 0)
        {
            DisarmRead();
            return;
        }
        _readTimer ??= new CallbackTimer(ReadTimedOut);
        Loop.Timers.Set(_readTimer, dueMs);
    }

    protected void DisarmRead()
    {
        if (_readTimer is not null)
        {
            Loop.Timers.Disarm(_readTimer);
        }
    }

    private void ReadTimedOut()
    {
        if (_connect.IsWaiting)
        {
            FinishConnect(Errno.ETIMEDOUT);
        }
        else if (Receiving.IsWaiting)
        {
            Receiving.SetResult(RecvLease.Failed(Errno.ETIMEDOUT));
        }
    }

    public override void CancelReceive()
    {
        if (Receiving.IsWaiting)
        {
            Receiving.SetResult(RecvLease.Failed(Errno.ECANCELED));
        }
    }

    public override void CancelDrain()
    {
        if (_drain.IsWaiting)
        {
            _drain.SetResult(IoResult.Failed(Errno.ECANCELED));
        }
    }

    public override void Close(bool reset = false)
    {
        if (IsClosed)
        {
            return;
        }
        CloseQuietly(reset);
        if (_connect.IsWaiting)
        {
            _connect.SetResult(new ConnectOutcome(Errno.ECANCELED));
        }
        CancelReceive();
        CancelDrain();
    }

    private void CloseQuietly(bool reset)
    {
        IsClosed = true;
        Loop.LeaveIdle(this);
        Loop.ConnectionCount--;
        if (_readTimer is not null)
        {
            Loop.Timers.Cancel(_readTimer);
        }
        if (_sendTimer is not null)
        {
            Loop.Timers.Cancel(_sendTimer);
        }
        Sending = null;
        IsBlocked = false;
        Watcher = null;
        CloseTransport(reset);
    }
}
