// A TCP or unix stream on the epoll engine. Reading and writing are tried first and suspend only when the kernel would
// block. A read that fills less than its buffer has emptied the socket: with edge triggering and EPOLLRDHUP no second
// read is needed to learn that. The buffer is rented when bytes are there, so a waiting stream holds none.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed unsafe class EpollStream : SocketStream
{
    private const uint Interest = Sys.EPOLLIN | Sys.EPOLLOUT | Sys.EPOLLRDHUP | Sys.EPOLLET;

    private readonly EpollLoop _loop;
    private readonly StreamTarget _target;
    private bool _readReady;

    internal EpollStream(EpollLoop loop) : base(loop)
    {
        _loop = loop;
        _target = new StreamTarget(this);
    }

    internal bool Open(int fd, Listener? listener, ReadOnlySpan<byte> peer, bool readsEarly)
    {
        Start(fd, listener, peer);
        // Where clients send at once, the first read comes before the registration, which a short connection then never
        // needs; where they do not, it would cost one EAGAIN each.
        _readReady = readsEarly;
        return readsEarly || Watch();
    }

    /// <summary>Registers with epoll unless that has been done. What became ready before is told then.</summary>
    private bool Watch()
    {
        if (_target.Slot >= 0 || IsClosed)
        {
            return true;
        }
        int errno = Register();
        if (errno != 0)
        {
            _loop.Alert?.Invoke("epoll_ctl() failed", errno);
            Close();
        }
        return errno == 0;
    }

    protected override void OnWatched() => Watch();

    private int Register()
    {
        _target.Fd = Fd;
        return _loop.Register(_target, Interest);
    }

    internal LoopTask<ConnectOutcome> Connect(ReadOnlySpan<byte> address, LocalEnd local, int timeoutMs)
    {
        _readReady = false;
        int errno = Prepare(address, local);
        if (errno != 0)
        {
            return new LoopTask<ConnectOutcome>(new ConnectOutcome(errno));
        }
        SysResult r;
        fixed (byte* p = address)
        {
            r = Sys.Connect(Fd, p, address.Length);
        }
        errno = r.IsError && r.Errno != Errno.EINPROGRESS ? r.Errno : Register();
        if (errno != 0)
        {
            Close();
            return new LoopTask<ConnectOutcome>(new ConnectOutcome(errno));
        }
        return r.IsOk ? new LoopTask<ConnectOutcome>(new ConnectOutcome(0)) : BeginConnect(timeoutMs);
    }

    public override bool MayHaveInput => _readReady;

    public override LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize)
    {
        ReceiveMax = maxBytes;
        if (_readReady && ++ImmediateCount <= ImmediateMax)
        {
            RecvLease lease = TryReceive(out bool wouldBlock);
            if (!wouldBlock)
            {
                return new LoopTask<RecvLease>(lease);
            }
        }
        LoopTask<RecvLease> task = BeginReceive();
        AwaitInput();
        return task;
    }

    protected override void AwaitInput()
    {
        Watch();
        if (IsClosed)
        {
            // Unless closing has said so already.
            CancelReceive();
        }
        else if (_readReady)
        {
            // Too many immediate results in a row: others get their turn first.
            _loop.Ready(_target.ContinueReceive);
        }
    }

    private RecvLease TryReceive(out bool wouldBlock)
    {
        wouldBlock = false;
        BufferSlab slab = _loop.Buffers.Rent(ReceiveMax);
        int room = Math.Min(slab.Capacity, Math.Max(ReceiveMax, 1));
        SysResult n = Sys.Receive(Fd, slab.Pointer, room);
        if (_target.Slot < 0)
        {
            (Listener as EpollListener)?.NoteEarlyRead(n.Value > 0);
        }
        if (n.Value > 0)
        {
            if (n.Value < room && !HasPeerEnded)
            {
                _readReady = false;
            }
            return RecvLease.Bytes(slab, n.Int);
        }
        slab.Release();
        if (n.Value == 0)
        {
            HasPeerEnded = true;
            return RecvLease.End;
        }
        if (n.Errno == Errno.EAGAIN)
        {
            _readReady = false;
            wouldBlock = true;
            return default;
        }
        IsBroken = true;
        return RecvLease.Failed(n.Errno);
    }

    private void ContinueReceive()
    {
        ImmediateCount = 0;
        if (HasReader && _readReady && !IsClosed)
        {
            RecvLease lease = TryReceive(out bool wouldBlock);
            if (!wouldBlock)
            {
                DisarmRead();
                Deliver(lease);
            }
        }
    }

    private void OnEvents(uint events)
    {
        ImmediateCount = 0;
        if (Connecting is { IsWaiting: true })
        {
            SysResult error = Sys.GetOption(Fd, Sys.SOL_SOCKET, Sys.SO_ERROR);
            // A peer that speaks first: its bytes (and its end) come with this very edge and with no other.
            _readReady = (events & (Sys.EPOLLIN | Sys.EPOLLRDHUP)) != 0;
            HasPeerEnded = (events & Sys.EPOLLRDHUP) != 0;
            FinishConnect(error.IsError ? error.Errno : error.Int);
            return;
        }
        bool peerNews = false;
        if ((events & (Sys.EPOLLRDHUP | Sys.EPOLLHUP | Sys.EPOLLERR)) != 0)
        {
            // EPOLLHUP alone only says that both directions have ended.
            bool broken = (events & Sys.EPOLLERR) != 0;
            peerNews = !HasPeerEnded || (broken && !IsBroken);
            HasPeerEnded = true;
            IsBroken |= broken;
        }
        // Writing first: it frees buffers, and the reader that runs next may close the stream.
        if (IsBlocked && (events & (Sys.EPOLLOUT | Sys.EPOLLERR | Sys.EPOLLHUP)) != 0)
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
            if (HasReader)
            {
                ContinueReceive();
            }
            else if (peerNews && Watcher is { } watcher)
            {
                watcher.PeerGone(this, IsBroken);
            }
        }
    }

    protected override bool TakesOver(BufferChain chain) => false;

    protected override bool MustWait => false;

    /// <summary>The registration tells by itself, once there is one, what changes; made anew, it tells what is.
    /// </summary>
    protected override void AwaitWritable(bool mayHaveRoom)
    {
        if (_target.Slot < 0)
        {
            Watch();
        }
        else if (mayHaveRoom)
        {
            _loop.Modify(_target, Interest);
        }
    }

    protected override void LetGo(bool reset)
    {
        if (_target.Slot >= 0)
        {
            // Closing the only descriptor of the file removes it from epoll.
            _loop.Forget(_target);
        }
        if (Fd >= 0)
        {
            if (reset)
            {
                Sys.SetResetOnClose(Fd);
            }
            Sys.Close(Fd);
            Fd = -1;
            _target.Fd = -1;
        }
        _loop.Streams.Return(this);
    }

    private sealed class StreamTarget(EpollStream stream) : EpollTarget
    {
        internal override Connection? Connection => stream;
        private Action? _continueReceive;

        internal Action ContinueReceive => _continueReceive ??= stream.ContinueReceive;

        internal override void OnEvents(uint events) => stream.OnEvents(events);
    }
}
