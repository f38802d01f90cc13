// What the streams of the kernel's engines share: the waits of both directions and their deadlines, the chain that is
// on its way out, addresses, options, the order of closing. An engine adds how bytes come in, how a send that the
// kernel does not take at once goes on, and how the descriptor is let go. One loop's thread; recycled by its engine.
using System.Runtime.CompilerServices;
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal abstract unsafe partial class SocketStream(EventLoop loop) : Connection(loop)
{
    internal const int AddressBytesMax = 112;
    private const int InlineAddressBytes = 28;
    /// <summary>Receives in a row that find bytes before others get their turn.</summary>
    protected const int ImmediateMax = 64;

    // One of the two while somebody waits for bytes: a suspended method, or who the connection is parked for. An
    // operation is rented when it is needed and goes back when the connection is parked.
    private LoopOperation<RecvLease>? _receiving;
    private IParkOwner? _parkedFor;
    protected LoopOperation<ConnectOutcome>? Connecting;
    private LoopOperation<IoResult>? _drain;
    private SendTimer? _sendTimer;
    private Action? _resumeSend;
    private BufferChain? _sending;
    private long _drainKept;
    private int _sendError;

    /// <summary>The chain waits for the kernel to take more.</summary>
    protected bool IsBlocked { get; private set; }

    protected bool HasPeerEnded;
    protected bool IsBroken;
    protected int ReceiveMax;
    protected int ImmediateCount;
    private bool _noDelay;
    private byte _peerLength, _localLength;
    private AddressBytes _peer;
    private AddressBytes _local;
    private byte[]? _longLocal;

    [InlineArray(InlineAddressBytes)]
    private struct AddressBytes
    {
        private byte _first;
    }

    internal int Fd { get; set; } = -1;

    /// <summary>Among the <see cref="ClosedStreams{T}"/>.</summary>
    internal SocketStream? NextClosed;

    /// <summary>Nobody waits on it any more: the object may serve another descriptor.</summary>
    internal bool IsQuiet =>
        _receiving is not { IsPending: true } && _drain is not { IsPending: true }
        && Connecting is not { IsPending: true };

    protected void Start(int fd, Listener? listener, ReadOnlySpan<byte> peer)
    {
        Fd = fd;
        Listener = listener;
        Number = Loop.NextConnectionNumber();
        StartMs = Loop.NowMs;
        IsClosed = false;
        SentBytes = 0;
        SendTimeoutMs = 0;
        SendTurnBytes = SendTurnBytesMax;
        HeldFileBytes = 0;
        Watcher = null;
        Owner = null;
        OwnerCount = 0;
        Guest = null;
        _sending = null;
        _sendError = 0;
        ImmediateCount = 0;
        HasPeerEnded = false;
        IsBroken = false;
        IsBlocked = false;
        _isWarming = false;
        _noDelay = false;
        _localLength = 0;
        _peerLength = (byte)Math.Min(peer.Length, InlineAddressBytes);
        peer[.._peerLength].CopyTo(_peer);
        Loop.ConnectionCount++;
    }

    /// <summary>A socket towards an address, bound to a local one where it is given. On an error the stream is
    /// closed.</summary>
    protected int Prepare(ReadOnlySpan<byte> address, LocalEnd local)
    {
        int family = address[0] | (address[1] << 8);
        SysResult fd = Sys.Socket(family, Sys.SOCK_STREAM);
        Start(fd.IsError ? -1 : fd.Int, null, address);
        if (fd.IsError)
        {
            Close();
            return fd.Errno;
        }
        if (family == Sys.AF_UNIX)
        {
            _noDelay = true;
        }
        else
        {
            SetNoDelay();
        }
        if (!local.IsEmpty)
        {
            SysResult bound = local.IsTransparent ? SetTransparent(fd.Int, family) : default;
            if (bound.IsOk)
            {
                fixed (byte* p = local.Address)
                {
                    bound = Sys.Bind(fd.Int, p, local.Address.Length);
                }
            }
            if (bound.IsError)
            {
                Close();
                return bound.Errno;
            }
        }
        return 0;
    }

    private static SysResult SetTransparent(int fd, int family) => family == Sys.AF_INET6
        ? Sys.SetOption(fd, Sys.IPPROTO_IPV6, Sys.IPV6_TRANSPARENT, 1)
        : Sys.SetOption(fd, Sys.IPPROTO_IP, Sys.IP_TRANSPARENT, 1);

    // Waiting for bytes.

    /// <summary>Somebody waits for bytes.</summary>
    protected bool HasReader => _parkedFor is not null || _receiving is { IsWaiting: true };

    /// <summary>A method is suspended until <see cref="Deliver"/>; <see cref="AwaitInput"/> comes next.</summary>
    protected LoopTask<RecvLease> BeginReceive()
    {
        _receiving ??= Loop.RentReceive();
        return _receiving.Begin();
    }

    /// <summary>The engine sees to it that <see cref="Deliver"/> will be called: at once when the stream is closed,
    /// soon when there may be input. Both ways to wait come here.</summary>
    protected abstract void AwaitInput();

    protected void Deliver(RecvLease lease)
    {
        if (_parkedFor is { } owner)
        {
            _parkedFor = null;
            owner.Unpark(this, lease);
        }
        else
        {
            _receiving!.SetResult(lease);
        }
    }

    public override void Park(IParkOwner owner)
    {
        if (_receiving is { IsPending: false } receiving)
        {
            _receiving = null;
            Loop.Return(receiving);
        }
        if (_drain is { IsPending: false } drain)
        {
            _drain = null;
            Loop.Return(drain);
        }
        ReceiveMax = BufferPool.StandardSize;
        _parkedFor = owner;
        AwaitInput();
    }

    protected LoopTask<ConnectOutcome> BeginConnect(int timeoutMs)
    {
        Connecting ??= new LoopOperation<ConnectOutcome>();
        LoopTask<ConnectOutcome> task = Connecting.Begin();
        if (timeoutMs > 0)
        {
            SetReadDeadline(Loop.NowMs + timeoutMs);
        }
        return task;
    }

    protected void FinishConnect(int errno)
    {
        LoopOperation<ConnectOutcome> connect = Connecting!;
        DisarmRead();
        if (errno != 0)
        {
            Connecting = null;
            Close();
            Connecting = connect;
        }
        connect.SetResult(new ConnectOutcome(errno));
    }

    public override ReadOnlySpan<byte> PeerAddress => ((ReadOnlySpan<byte>)_peer)[.._peerLength];

    public override ReadOnlySpan<byte> LocalAddress
    {
        get
        {
            if (Listener is SocketListener { OneAddress: { } one })
            {
                return one;
            }
            if (_localLength == 0 && Fd >= 0)
            {
                byte* address = stackalloc byte[AddressBytesMax];
                int length = AddressBytesMax;
                if (Sys.LocalName(Fd, address, ref length).IsOk)
                {
                    _localLength = (byte)Math.Min(length, AddressBytesMax);
                    bool isLong = _localLength > InlineAddressBytes;
                    Span<byte> into = isLong ? _longLocal ??= new byte[AddressBytesMax] : _local;
                    new ReadOnlySpan<byte>(address, _localLength).CopyTo(into);
                }
            }
            // The path of a unix socket is the one address that is long.
            ReadOnlySpan<byte> local = _localLength > InlineAddressBytes ? _longLocal! : _local;
            return local[.._localLength];
        }
    }

    public override int SendError => _sendError;
    public override bool PeerClosed => HasPeerEnded || IsBroken;

    // Sending.

    public override bool Send(BufferChain chain)
    {
        if (IsBlocked)
        {
            System.Diagnostics.Debug.Assert(_sending == chain, "one chain at a time");
            return _sendError == 0;
        }
        if (IsClosed)
        {
            chain.Clear();
            return false;
        }
        if (_sendError == 0)
        {
            SetSeen(long.MaxValue, Loop.NowMs);
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
        _drain ??= Loop.RentDrain();
        return _drain.Begin();
    }

    public override bool SendHolding(BufferChain chain, long keptBytes)
    {
        Land();
        _isHolding = true;
        bool held = false;
        long untilMs = Sys.MonotonicMs() + SendTimeoutMs;
        while (IsBlocked && chain.Length > keptBytes && MaySendNow)
        {
            held = true;
            long sent = SentBytes;
            Span<PollEntry> entry = [new PollEntry(Fd, PollEntry.Writable)];
            long leftMs = untilMs - Sys.MonotonicMs();
            Descriptors.Poll(entry, SendTimeoutMs > 0 ? (int)Math.Clamp(leftMs, 0, int.MaxValue) : -1);
            if (entry[0].Returned != 0)
            {
                SendOn();
            }
            else if (SendTimeoutMs > 0 && Sys.MonotonicMs() >= untilMs)
            {
                SendTimedOut();
            }
            if (SentBytes != sent)
            {
                untilMs = Sys.MonotonicMs() + SendTimeoutMs;
            }
        }
        _isHolding = false;
        if (held && IsBlocked && _sendTimer is not null && SendTimeoutMs > 0)
        {
            // The loop's clock stood still meanwhile.
            Loop.Timers.Set(_sendTimer, Sys.MonotonicMs() + SendTimeoutMs);
        }
        return _sendError == 0 && !IsClosed;
    }

    /// <summary>Whether the rest may go by plain sends now: nothing of it is the engine's.</summary>
    protected virtual bool MaySendNow => true;

    /// <summary>There is room again.</summary>
    protected virtual void SendOn() => ContinueSend();

    /// <summary>Gives bytes at the front of the chain to the engine, which tells later what became of them. False when
    /// the kernel is to be asked now. The bytes taken are no longer in the chain.</summary>
    protected abstract bool TakesOver(BufferChain chain);

    /// <summary>Bytes that the engine took over have not left yet: what follows has to wait for
    /// <see cref="ContinueSend"/>.</summary>
    protected abstract bool MustWait { get; }

    /// <summary>Bytes that were taken over in this turn may still leave at once, because more follows.</summary>
    protected virtual void Land() { }

    /// <summary>The kernel takes no more now, or took a part: the engine calls <see cref="ContinueSend"/> when there
    /// is room, at once if the part had another reason (<paramref name="mayHaveRoom"/>).</summary>
    protected abstract void AwaitWritable(bool mayHaveRoom = false);

    protected void ContinueSend()
    {
        if (!IsBlocked || IsClosed)
        {
            return;
        }
        BufferChain chain = _sending!;
        long before = SentBytes;
        IsBlocked = false;
        Transmit(chain);
        if (_sendError != 0)
        {
            chain.Clear();
        }
        else if (IsBlocked && SentBytes != before)
        {
            StartSendTimer();
        }
        if (_drain is { IsWaiting: true } drain && (_sendError != 0 || chain.Length <= _drainKept))
        {
            drain.SetResult(_sendError != 0 ? IoResult.Failed(_sendError) : IoResult.Ok());
        }
    }

    /// <summary>What was taken over could not be sent, or the peer is known to be gone: sending has ended.</summary>
    protected void FailSend(int errno)
    {
        _sendError = errno;
        IsBroken |= errno != Errno.ETIMEDOUT;
        StopSendTimer();
        if (IsBlocked)
        {
            BufferChain chain = _sending!;
            IsBlocked = false;
            _sending = null;
            chain.Clear();
        }
        if (_drain is { IsWaiting: true } drain)
        {
            drain.SetResult(IoResult.Failed(errno));
        }
    }

    private void Transmit(BufferChain chain)
    {
        long stopAt = SentBytes + SendTurnBytes; // a fast reader never lets a send block
        while (!chain.IsEmpty)
        {
            if (MustWait)
            {
                Land();
                if (MustWait)
                {
                    Block(chain);
                    return;
                }
                if (_sendError != 0)
                {
                    break;
                }
            }
            if (SentBytes >= stopAt)
            {
                Block(chain);
                Loop.Ready(_resumeSend ??= ContinueSend);
                return;
            }
            bool isFile = chain[0].IsFile;
            if (isFile && IsCold(ref chain[0]))
            {
                Block(chain);
                Warm(ref chain[0]);
                return;
            }
            if (!isFile && TakesOver(chain))
            {
                continue;
            }
            SysResult n = Write(chain, out long wanted);
            if (n.Value > 0)
            {
                SentBytes += n.Value;
                chain.Consume(n.Value);
                if (n.Value == wanted)
                {
                    continue;
                }
            }
            else if (n.Errno != Errno.EAGAIN)
            {
                _sendError = n.Errno;
                IsBroken = true;
                break;
            }
            // To ask again after a part would follow the peer from segment to segment, a call for each. That of a file
            // may have had another reason than a full buffer, which no edge would tell.
            Block(chain);
            AwaitWritable(mayHaveRoom: isFile && n.Value > 0);
            return;
        }
        _sending = null;
        if (!MustWait)
        {
            StopSendTimer();
        }
    }

    private void Block(BufferChain chain)
    {
        bool first = _sending is null;
        IsBlocked = true;
        _sending = chain;
        if (first)
        {
            StartSendTimer();
        }
    }

    protected void StartSendTimer()
    {
        if (SendTimeoutMs > 0)
        {
            _sendTimer ??= new SendTimer(this);
            Loop.Timers.Set(_sendTimer, Loop.NowMs + SendTimeoutMs);
        }
    }

    protected void StopSendTimer()
    {
        if (_sendTimer is not null)
        {
            Loop.Timers.Disarm(_sendTimer);
        }
    }

    // Deadlines and cancelling.

    public override void SetReadDeadline(long dueMs)
    {
        if (dueMs == 0)
        {
            DisarmRead();
            return;
        }
        Loop.Timers.Set(this, dueMs);
    }

    protected void DisarmRead() => Loop.Timers.Disarm(this);

    protected virtual void SendTimedOut()
    {
        if (IsBlocked)
        {
            FailSend(Errno.ETIMEDOUT);
        }
    }

    /// <summary>The read deadline.</summary>
    protected internal override void Fire()
    {
        if (Connecting is { IsWaiting: true })
        {
            FinishConnect(Errno.ETIMEDOUT);
        }
        else if (HasReader)
        {
            Deliver(RecvLease.Failed(Errno.ETIMEDOUT));
        }
    }

    public override void CancelReceive()
    {
        if (HasReader)
        {
            Deliver(RecvLease.Failed(Errno.ECANCELED));
        }
    }

    public override void CancelDrain()
    {
        if (_drain is { IsWaiting: true } drain)
        {
            drain.SetResult(IoResult.Failed(Errno.ECANCELED));
        }
    }

    // The socket.

    public override void ShutdownSend()
    {
        if (!IsClosed)
        {
            Sys.Shutdown(Fd, Sys.SHUT_WR);
        }
    }

    protected override int OutsideDescriptor => Fd;

    protected override bool IsSending => MustWait;

    public override bool MayLendSending => !IsClosed && !IsBlocked && !MustWait && _sendError == 0;

    public override void SetNoDelay()
    {
        if (!_noDelay && !IsClosed)
        {
            _noDelay = true;
            Sys.SetOption(Fd, Sys.IPPROTO_TCP, Sys.TCP_NODELAY, 1);
        }
    }

    protected override void SetOption(int option, int n) => Sys.SetOption(Fd, Sys.SOL_SOCKET, option, n);

    public override int TcpInfo(Span<byte> into)
    {
        SysResult r = Sys.GetOptionBytes(Fd, Sys.IPPROTO_TCP, Sys.TCP_INFO, into);
        return r.IsError ? 0 : r.Int;
    }

    /// <summary>Lets the descriptor go and the object become free, now or when the kernel is done with it.</summary>
    protected abstract void LetGo(bool reset);

    public override void Close(bool reset = false)
    {
        if (IsClosed)
        {
            return;
        }
        IsClosed = true;
        Loop.LeaveIdle(this);
        Loop.ConnectionCount--;
        Loop.Timers.Cancel(this);
        if (_sendTimer is not null)
        {
            Loop.Timers.Cancel(_sendTimer);
        }
        _sending = null;
        IsBlocked = false;
        Watcher = null;
        LetGo(reset);
        if (Connecting is { IsWaiting: true } connect)
        {
            connect.SetResult(new ConnectOutcome(Errno.ECANCELED));
        }
        CancelReceive();
        CancelDrain();
    }

    private sealed class SendTimer(SocketStream stream) : LoopTimer
    {
        protected internal override void Fire() => stream.SendTimedOut();
    }
}
