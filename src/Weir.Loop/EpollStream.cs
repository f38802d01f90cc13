// A TCP or unix stream on the epoll engine. Reading and writing are tried first and suspend only when the kernel would
// block. A read that fills less than its buffer has emptied the socket: with edge triggering and EPOLLRDHUP no second
// read is needed to learn that. The buffer is rented when bytes are there, so a waiting stream holds none.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed unsafe class EpollStream : Connection
{
    internal const int AddressBytesMax = 112;
    private const int InlineAddressBytes = 28;
    private const int GatherMax = 64;
    private const long SendFileChunkBytes = 2 * 1024 * 1024;

    /// <summary>Bytes sent in a row before others get their turn: a fast reader never lets a send block.</summary>
    private const long SendTurnBytesMax = 4 * 1024 * 1024;
    private const int ImmediateMax = 64;

    private readonly EpollLoop _loop;
    private readonly StreamTarget _target;
    private readonly LoopOperation<RecvLease> _receive = new();
    private LoopOperation<IoResult>? _drain;
    private LoopOperation<ConnectOutcome>? _connect;
    private StreamTimer? _readTimer;
    private StreamTimer? _sendTimer;
    private BufferChain? _sending;
    private long _drainKept;
    private int _sendError;
    private int _receiveMax;
    private int _immediate;
    private bool _readReady;
    private bool _peerClosed;
    private bool _broken;
    private bool _blocked;
    private bool _noDelay;
    private byte _peerLength, _localLength;
    private AddressBytes _peer, _local;
    private byte[]? _longLocal;
    internal EpollStream? NextFree;

    [System.Runtime.CompilerServices.InlineArray(InlineAddressBytes)]
    private struct AddressBytes
    {
        private byte _first;
    }

    internal EpollStream(EpollLoop loop) : base(loop)
    {
        _loop = loop;
        _target = new StreamTarget(this);
    }

    /// <summary>Nobody waits on it any more: the object may serve another descriptor.</summary>
    internal bool IsQuiet =>
        !_receive.IsPending && _drain is not { IsPending: true } && _connect is not { IsPending: true };

    internal bool Open(int fd, Listener? listener, ReadOnlySpan<byte> peer)
    {
        Start(fd, listener);
        _peerLength = (byte)Math.Min(peer.Length, InlineAddressBytes);
        peer[.._peerLength].CopyTo(_peer);
        // Most clients send at once; the first read finds bytes or costs one EAGAIN.
        _readReady = false;
        int errno = _loop.Register(_target, Sys.EPOLLIN | Sys.EPOLLOUT | Sys.EPOLLRDHUP | Sys.EPOLLET);
        if (errno != 0)
        {
            _loop.Alert?.Invoke("epoll_ctl() failed", errno);
            Close();
            return false;
        }
        return true;
    }

    private void Start(int fd, Listener? listener)
    {
        _target.Fd = fd;
        Listener = listener;
        Number = _loop.NextConnectionNumber();
        StartMs = _loop.NowMs;
        IsClosed = false;
        SentBytes = 0;
        SendTimeoutMs = 0;
        Watcher = null;
        Owner = null;
        _sending = null;
        _sendError = 0;
        _immediate = 0;
        _readReady = false;
        _peerClosed = false;
        _broken = false;
        _blocked = false;
        _noDelay = false;
        _localLength = 0;
        _peerLength = 0;
        _loop.ConnectionCount++;
    }

    internal LoopTask<ConnectOutcome> Connect(ReadOnlySpan<byte> address, ReadOnlySpan<byte> local, int timeoutMs)
    {
        int family = address[0] | (address[1] << 8);
        SysResult fd = Sys.Socket(family, Sys.SOCK_STREAM);
        if (fd.IsError)
        {
            Start(-1, null);
            Close();
            return new LoopTask<ConnectOutcome>(new ConnectOutcome(fd.Errno));
        }
        Start(fd.Int, null);
        _peerLength = (byte)Math.Min(address.Length, InlineAddressBytes);
        address[.._peerLength].CopyTo(_peer);
        if (family == Sys.AF_UNIX)
        {
            _noDelay = true;
        }
        else
        {
            SetNoDelay();
        }
        if (local.Length > 0)
        {
            SysResult bound;
            fixed (byte* p = local)
            {
                bound = Sys.Bind(fd.Int, p, local.Length);
            }
            if (bound.IsError)
            {
                Close();
                return new LoopTask<ConnectOutcome>(new ConnectOutcome(bound.Errno));
            }
        }
        SysResult r;
        fixed (byte* p = address)
        {
            r = Sys.Connect(fd.Int, p, address.Length);
        }
        if (r.IsError && r.Errno != Errno.EINPROGRESS)
        {
            Close();
            return new LoopTask<ConnectOutcome>(new ConnectOutcome(r.Errno));
        }
        int errno = _loop.Register(_target, Sys.EPOLLIN | Sys.EPOLLOUT | Sys.EPOLLRDHUP | Sys.EPOLLET);
        if (errno != 0)
        {
            Close();
            return new LoopTask<ConnectOutcome>(new ConnectOutcome(errno));
        }
        if (r.IsOk)
        {
            return new LoopTask<ConnectOutcome>(new ConnectOutcome(0));
        }
        _connect ??= new LoopOperation<ConnectOutcome>();
        LoopTask<ConnectOutcome> task = _connect.Begin();
        if (timeoutMs > 0)
        {
            SetReadDeadline(_loop.NowMs + timeoutMs);
        }
        return task;
    }

    public override ReadOnlySpan<byte> PeerAddress => ((ReadOnlySpan<byte>)_peer)[.._peerLength];

    public override ReadOnlySpan<byte> LocalAddress
    {
        get
        {
            if (_localLength == 0 && _target.Fd >= 0)
            {
                byte* address = stackalloc byte[AddressBytesMax];
                int length = AddressBytesMax;
                if (Sys.LocalName(_target.Fd, address, ref length).IsOk)
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
    public override bool PeerClosed => _peerClosed || _broken;
    public override bool MayHaveInput => _readReady;

    public override LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize)
    {
        _receiveMax = maxBytes;
        if (_readReady && ++_immediate <= ImmediateMax)
        {
            RecvLease lease = TryReceive(out bool wouldBlock);
            if (!wouldBlock)
            {
                return new LoopTask<RecvLease>(lease);
            }
        }
        LoopTask<RecvLease> task = _receive.Begin();
        if (IsClosed)
        {
            _receive.SetResult(RecvLease.Failed(Errno.ECANCELED));
        }
        else if (_readReady)
        {
            // Too many immediate results in a row: others get their turn first.
            _loop.Ready(_target.ContinueReceive);
        }
        return task;
    }

    private RecvLease TryReceive(out bool wouldBlock)
    {
        wouldBlock = false;
        BufferSlab slab = _loop.Buffers.Rent(_receiveMax);
        int room = Math.Min(slab.Capacity, Math.Max(_receiveMax, 1));
        SysResult n = Sys.Receive(_target.Fd, slab.Pointer, room);
        if (n.Value > 0)
        {
            if (n.Value < room && !_peerClosed)
            {
                _readReady = false;
            }
            return RecvLease.Bytes(slab, n.Int);
        }
        slab.Release();
        if (n.Value == 0)
        {
            _peerClosed = true;
            return RecvLease.End;
        }
        if (n.Errno == Errno.EAGAIN)
        {
            _readReady = false;
            wouldBlock = true;
            return default;
        }
        _broken = true;
        return RecvLease.Failed(n.Errno);
    }

    private void ContinueReceive()
    {
        _immediate = 0;
        if (_receive.IsWaiting && _readReady && !IsClosed)
        {
            RecvLease lease = TryReceive(out bool wouldBlock);
            if (!wouldBlock)
            {
                DisarmRead();
                _receive.SetResult(lease);
            }
        }
    }

    private void DisarmRead()
    {
        if (_readTimer is not null)
        {
            _loop.Timers.Disarm(_readTimer);
        }
    }

    private void OnEvents(uint events)
    {
        _immediate = 0;
        if (_connect is { IsWaiting: true })
        {
            SysResult error = Sys.GetOption(_target.Fd, Sys.SOL_SOCKET, Sys.SO_ERROR);
            // A peer that speaks first: its bytes (and its end) come with this very edge and with no other.
            _readReady = (events & (Sys.EPOLLIN | Sys.EPOLLRDHUP)) != 0;
            _peerClosed = (events & Sys.EPOLLRDHUP) != 0;
            FinishConnect(error.IsError ? error.Errno : error.Int);
            return;
        }
        bool peerNews = false;
        if ((events & (Sys.EPOLLRDHUP | Sys.EPOLLHUP | Sys.EPOLLERR)) != 0)
        {
            // EPOLLHUP alone only says that both directions have ended.
            bool broken = (events & Sys.EPOLLERR) != 0;
            peerNews = !_peerClosed || (broken && !_broken);
            _peerClosed = true;
            _broken |= broken;
        }
        // Writing first: it frees buffers, and the reader that runs next may close the stream.
        if (_blocked && (events & (Sys.EPOLLOUT | Sys.EPOLLERR | Sys.EPOLLHUP)) != 0)
        {
            ContinueSend();
            // A closed stream is not recycled before this dispatch has ended.
            if (IsClosed)
            {
                return;
            }
        }
        if ((events & (Sys.EPOLLIN | Sys.EPOLLRDHUP | Sys.EPOLLHUP | Sys.EPOLLERR)) != 0)
        {
            _readReady = true;
            if (_receive.IsWaiting)
            {
                ContinueReceive();
            }
            else if (peerNews && Watcher is { } watcher)
            {
                watcher.PeerGone(this, _broken);
            }
        }
    }

    private void FinishConnect(int errno)
    {
        LoopOperation<ConnectOutcome> connect = _connect!;
        DisarmRead();
        if (errno != 0)
        {
            _connect = null;
            Close();
            _connect = connect;
        }
        connect.SetResult(new ConnectOutcome(errno));
    }

    public override bool Send(BufferChain chain)
    {
        if (_blocked)
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
        if (!_blocked || chain.Length <= keptBytes)
        {
            return new LoopTask<IoResult>(IoResult.Ok());
        }
        _drainKept = keptBytes;
        _drain ??= new LoopOperation<IoResult>();
        return _drain.Begin();
    }

    private void ResumeSend()
    {
        if (_blocked && !IsClosed)
        {
            ContinueSend();
        }
    }

    private void ContinueSend()
    {
        BufferChain chain = _sending!;
        long before = SentBytes;
        _blocked = false;
        Transmit(chain);
        if (_sendError != 0)
        {
            chain.Clear();
        }
        else if (_blocked && SentBytes != before && SendTimeoutMs > 0 && _sendTimer is { } timer)
        {
            _loop.Timers.Set(timer, _loop.NowMs + SendTimeoutMs);
        }
        if (_drain is { IsWaiting: true } drain && (_sendError != 0 || chain.Length <= _drainKept))
        {
            drain.SetResult(_sendError != 0 ? IoResult.Failed(_sendError) : IoResult.Ok());
        }
    }

    private void Transmit(BufferChain chain)
    {
        IoVec* pieces = stackalloc IoVec[GatherMax];
        long stopAt = SentBytes + SendTurnBytesMax;
        while (!chain.IsEmpty)
        {
            if (SentBytes >= stopAt)
            {
                Block(chain);
                _loop.Ready(_target.ResumeSend);
                return;
            }
            ref ChainSegment first = ref chain[0];
            SysResult n;
            if (first.IsFile)
            {
                long want = Math.Min(first.Length, SendFileChunkBytes);
                n = Sys.SendFile(_target.Fd, first.File!.Fd, first.FileOffset, want);
                if (n.Value == 0)
                {
                    // The file became shorter than was promised.
                    n = SysResult.Error(Errno.EIO);
                }
            }
            else if (chain.Count == 1)
            {
                n = Sys.Send(_target.Fd, first.Pointer, (int)first.Length, false);
            }
            else
            {
                int count = chain.Gather(pieces, GatherMax);
                bool more = count < chain.Count;
                n = count == 1
                    ? Sys.Send(_target.Fd, first.Pointer, (int)first.Length, more)
                    : Sys.SendGathered(_target.Fd, pieces, count, more);
            }
            if (n.Value > 0)
            {
                SentBytes += n.Value;
                chain.Consume(n.Value);
                continue;
            }
            if (n.Errno == Errno.EAGAIN)
            {
                Block(chain);
                return;
            }
            _sendError = n.Errno;
            _broken = true;
            break;
        }
        _sending = null;
        if (_sendTimer is not null)
        {
            _loop.Timers.Disarm(_sendTimer);
        }
    }

    private void Block(BufferChain chain)
    {
        bool first = _sending is null;
        _blocked = true;
        _sending = chain;
        if (first && SendTimeoutMs > 0)
        {
            _sendTimer ??= new StreamTimer(this, isRead: false);
            _loop.Timers.Set(_sendTimer, _loop.NowMs + SendTimeoutMs);
        }
    }

    public override void SetReadDeadline(long dueMs)
    {
        if (dueMs == 0)
        {
            DisarmRead();
            return;
        }
        _readTimer ??= new StreamTimer(this, isRead: true);
        _loop.Timers.Set(_readTimer, dueMs);
    }

    private void TimedOut(bool isRead)
    {
        if (!isRead)
        {
            if (_blocked)
            {
                _sendError = Errno.ETIMEDOUT;
                BufferChain chain = _sending!;
                _blocked = false;
                _sending = null;
                chain.Clear();
                if (_drain is { IsWaiting: true } drain)
                {
                    drain.SetResult(IoResult.Failed(Errno.ETIMEDOUT));
                }
            }
            return;
        }
        if (_connect is { IsWaiting: true })
        {
            FinishConnect(Errno.ETIMEDOUT);
        }
        else if (_receive.IsWaiting)
        {
            _receive.SetResult(RecvLease.Failed(Errno.ETIMEDOUT));
        }
    }

    public override void CancelReceive()
    {
        if (_receive.IsWaiting)
        {
            _receive.SetResult(RecvLease.Failed(Errno.ECANCELED));
        }
    }

    public override void CancelDrain()
    {
        if (_drain is { IsWaiting: true } drain)
        {
            drain.SetResult(IoResult.Failed(Errno.ECANCELED));
        }
    }

    public override void ShutdownSend()
    {
        if (!IsClosed)
        {
            Sys.Shutdown(_target.Fd, Sys.SHUT_WR);
        }
    }

    protected override int OutsideDescriptor => _target.Fd;

    public override void SetNoDelay()
    {
        if (!_noDelay && !IsClosed)
        {
            _noDelay = true;
            Sys.SetOption(_target.Fd, Sys.IPPROTO_TCP, Sys.TCP_NODELAY, 1);
        }
    }

    protected override void SetOption(int option, int n) => Sys.SetOption(_target.Fd, Sys.SOL_SOCKET, option, n);

    public override int TcpInfo(Span<byte> into)
    {
        SysResult r = Sys.GetOptionBytes(_target.Fd, Sys.IPPROTO_TCP, Sys.TCP_INFO, into);
        return r.IsError ? 0 : r.Int;
    }

    public override void Close(bool reset = false)
    {
        if (IsClosed)
        {
            return;
        }
        IsClosed = true;
        _loop.LeaveIdle(this);
        _loop.ConnectionCount--;
        if (_readTimer is not null)
        {
            _loop.Timers.Cancel(_readTimer);
        }
        if (_sendTimer is not null)
        {
            _loop.Timers.Cancel(_sendTimer);
        }
        if (_target.Slot >= 0)
        {
            // Closing the only descriptor of the file removes it from epoll.
            _loop.Forget(_target);
        }
        if (_target.Fd >= 0)
        {
            if (reset)
            {
                Sys.SetResetOnClose(_target.Fd);
            }
            Sys.Close(_target.Fd);
            _target.Fd = -1;
        }
        _sending = null;
        _blocked = false;
        Watcher = null;
        _loop.ReturnStream(this);
        if (_connect is { IsWaiting: true } connect)
        {
            connect.SetResult(new ConnectOutcome(Errno.ECANCELED));
        }
        CancelReceive();
        CancelDrain();
    }

    private sealed class StreamTarget(EpollStream stream) : EpollTarget
    {
        internal override Connection? Connection => stream;
        private Action? _continueReceive, _resumeSend;
        internal Action ResumeSend => _resumeSend ??= stream.ResumeSend;

        internal Action ContinueReceive => _continueReceive ??= stream.ContinueReceive;

        internal override void OnEvents(uint events) => stream.OnEvents(events);
    }

    private sealed class StreamTimer(EpollStream stream, bool isRead) : LoopTimer
    {
        protected internal override void Fire() => stream.TimedOut(isRead);
    }
}
