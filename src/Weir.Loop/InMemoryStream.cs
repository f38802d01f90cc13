// The server's end of an in-memory connection. It behaves as Linux does where a server can notice: bytes come in a
// later turn, a full window blocks, closing with unread bytes resets, writing to a closed peer is noticed one write
// later. One loop's thread; recycled only where a plan says so: otherwise a use after Close shows.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>The server's end.</summary>
internal sealed unsafe class InMemoryStream(InMemoryLoop loop) : Connection(loop), IInMemoryEnd, IInMemoryTarget
{
    private readonly InMemoryLoop _loop = loop;
    private readonly LoopOperation<RecvLease> _receive = new();
    private readonly LoopOperation<IoResult> _drain = new();
    private readonly LoopOperation<ConnectOutcome> _connect = new();
    private CallbackTimer? _readTimer;
    private CallbackTimer? _sendTimer;
    private InMemoryPipe _in = new();
    private InMemoryPipe _out = new();
    private BufferChain? _sending;
    private long _drainKept;
    private int _sendError;
    private int _receiveMax;
    private bool _queued;
    private bool _blocked;
    private bool _peerClosed;
    private bool _broken;

    /// <summary>Connecting is never answered: a plan says so.</summary>
    private bool _isUnanswered;

    /// <summary>The end of the connection that had this slot before is still to be delivered: a planted bug.</summary>
    private bool _hasStaleEnd;
    private byte[] _peer = [];
    private byte[] _local = [];
    private uint _generation;
    internal InMemoryStream? NextFree;

    uint IInMemoryTarget.Generation => _generation;

    /// <summary>Nobody waits on it any more.</summary>
    internal bool IsQuiet => !_receive.IsPending && !_drain.IsPending && !_connect.IsPending;

    internal InMemoryStream OpenAccepted(InMemoryCall call, InMemoryListener listener)
    {
        Start(listener);
        _peer = call.Source;
        _local = listener.Address;
        Attach(call.ToServer, call.ToPeer);
        return this;
    }

    private void Start(Listener? listener)
    {
        Listener = listener;
        Number = _loop.NextConnectionNumber();
        StartMs = _loop.NowMs;
        IsClosed = false;
        SentBytes = 0;
        SendTimeoutMs = 0;
        Watcher = null;
        Owner = null;
        OwnerCount = 0;
        Guest = null;
        _in = new InMemoryPipe();
        _out = new InMemoryPipe();
        _sendError = 0;
        _queued = false;
        _hasStaleEnd = _peerClosed && _loop.Plan is { Planted: PlantedBug.StaleCompletion };
        _peerClosed = false;
        _broken = false;
        _isUnanswered = false;
        _generation++;
        _loop.ConnectionCount++;
    }

    private void Attach(InMemoryPipe incoming, InMemoryPipe outgoing)
    {
        _in = incoming;
        _out = outgoing;
        _in.Reader = this;
        _out.Writer = this;
        if (_hasStaleEnd)
        {
            _in.End();
        }
        Poke();
    }

    internal LoopTask<ConnectOutcome> Connect(ReadOnlySpan<byte> address, LocalEnd local, int timeoutMs)
    {
        Start(null);
        _peer = address.ToArray();
        _local = local.IsEmpty ? _loop.NextPeerAddress() : local.Address.ToArray();
        LoopTask<ConnectOutcome> task = _connect.Begin();
        if (timeoutMs > 0)
        {
            SetReadDeadline(_loop.NowMs + timeoutMs);
        }
        Poke();
        return task;
    }

    private void TryConnect()
    {
        InMemoryListener? listener = _loop.FindForServer(_peer);
        if (listener is { IsSilent: true } || _isUnanswered)
        {
            return;
        }
        if (_loop.Plan is { } plan && plan.Random.Chance(plan.ConnectFaults))
        {
            plan.Faults++;
            _isUnanswered = plan.Random.Chance(300);
            if (!_isUnanswered)
            {
                FinishConnect(plan.Random.Chance(500) ? Errno.ECONNREFUSED : Errno.EHOSTUNREACH);
            }
            return;
        }
        int error = listener is null ? Errno.ECONNREFUSED : listener.ConnectError;
        if (error != 0)
        {
            FinishConnect(error);
            return;
        }
        // The loop opened it: what "to the server" means for a plan is the direction that the loop reads.
        int cuts = _loop.Plan?.UpstreamCuts ?? 0;
        var toServer = _loop.NewPipe(cuts, toServer: false);
        var toClient = _loop.NewPipe(cuts, toServer: true);
        InMemoryPipe.Pair(toServer, toClient);
        Attach(toClient, toServer);
        if (listener!.PeerAccepted is { } accepted)
        {
            var peer = new InMemoryPeer(_loop);
            toClient.WindowBytes = int.MaxValue;
            peer.Open(toServer, toClient);
            accepted(peer);
        }
        else
        {
            listener.Enqueue(new InMemoryCall(toServer, toClient, _local));
        }
        FinishConnect(0);
    }

    private void FinishConnect(int errno)
    {
        DisarmRead();
        if (errno != 0)
        {
            CloseQuietly(reset: false);
        }
        _connect.SetResult(new ConnectOutcome(errno));
    }

    public void Poke()
    {
        if (!_queued && !IsClosed)
        {
            _queued = true;
            _loop.Enqueue(this);
        }
    }

    void IInMemoryTarget.Deliver()
    {
        _queued = false;
        if (IsClosed)
        {
            return;
        }
        if (_connect.IsWaiting)
        {
            TryConnect();
            return;
        }
        _in.Reveal(_loop.Plan);
        bool news = (_in.IsEnded && !_peerClosed && !_in.HasHidden) || (_in.IsBroken && !_broken);
        _peerClosed |= (_in.IsEnded && !_in.HasHidden) || _in.IsBroken;
        _broken |= _in.IsBroken;
        if (_blocked && (_out.Room > 0 || _out.IsBroken || _out.IsDeaf))
        {
            ContinueSend();
        }
        if (!IsClosed && _in.IsReadable)
        {
            if (_receive.IsWaiting)
            {
                DisarmRead();
                _receive.SetResult(Take());
            }
            else if (news && Watcher is { } watcher)
            {
                watcher.PeerGone(this, _broken);
            }
        }
        if (!IsClosed && _in.HasHidden)
        {
            Poke();
        }
    }

    public override ReadOnlySpan<byte> PeerAddress => _peer;
    public override ReadOnlySpan<byte> LocalAddress => _local;
    public override int SendError => _sendError;
    public override bool PeerClosed => _peerClosed || _broken;
    public override bool MayHaveInput => !IsClosed && _in.IsReadable;

    public override LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize)
    {
        _receiveMax = maxBytes;
        if (!IsClosed && _in.IsReadable && !_receive.IsPending && !IsSlow())
        {
            return new LoopTask<RecvLease>(Take());
        }
        LoopTask<RecvLease> task = _receive.Begin();
        if (IsClosed)
        {
            _receive.SetResult(RecvLease.Failed(Errno.ECANCELED));
        }
        return task;
    }

    /// <summary>Whether a receive waits although there is something: others get their turn first.</summary>
    private bool IsSlow()
    {
        if (_loop.Plan is not { } plan || !plan.Random.Chance(plan.SlowReceives))
        {
            return false;
        }
        Poke();
        return true;
    }

    private RecvLease Take()
    {
        if (_in.Visible > 0)
        {
            BufferSlab slab = _loop.Buffers.Rent(_receiveMax);
            int room = Math.Min(slab.Capacity, Math.Max(_receiveMax, 1));
            return RecvLease.Bytes(slab, _in.Read(slab.Span[..room]));
        }
        return _in.IsBroken ? RecvLease.Failed(Errno.ECONNRESET) : RecvLease.End;
    }

    public override bool Send(BufferChain chain)
    {
        if (_blocked)
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
        if (!_blocked || chain.Length <= keptBytes
            || (_loop.Plan is { Planted: PlantedBug.DrainTooEarly } plan && plan.Random.Chance(500)))
        {
            return new LoopTask<IoResult>(IoResult.Ok());
        }
        _drainKept = keptBytes;
        return _drain.Begin();
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
        else if (_blocked && SentBytes != before && SendTimeoutMs > 0)
        {
            ArmSend();
        }
        if (_drain.IsWaiting && (_sendError != 0 || chain.Length <= _drainKept))
        {
            _drain.SetResult(_sendError != 0 ? IoResult.Failed(_sendError) : IoResult.Ok());
        }
    }

    private void Transmit(BufferChain chain)
    {
        while (!chain.IsEmpty && _sendError == 0)
        {
            if (_out.IsBroken || _out.IsEnded)
            {
                _sendError = _out.IsEnded ? Errno.EPIPE : Errno.ECONNRESET;
                _broken = true;
                break;
            }
            ref ChainSegment first = ref chain[0];
            int limit = WriteLimit(ref first);
            int n = _out.IsDeaf ? (int)Math.Min(first.Length, int.MaxValue) : first.IsFile ? SendFile(ref first, limit)
                : _out.Write(first.Memory.Span[..limit]);
            if (_out.IsDeaf)
            {
                // The kernel takes the bytes; the peer's RST comes with the next turn.
                _out.Break();
                _in.Break();
            }
            if (n < 0)
            {
                _sendError = -n;
                _broken = true;
                break;
            }
            if (n == 0 || n == limit && limit < first.Length && !first.IsFile)
            {
                if (n > 0)
                {
                    // A short write: the socket says when it takes more.
                    SentBytes += n;
                    chain.Consume(n);
                    Overtake(chain);
                    Poke();
                }
                if (_out.IsBroken)
                {
                    // Cut in the middle: the next write says so.
                    continue;
                }
                bool wasSending = _sending is not null;
                _blocked = true;
                _sending = chain;
                if (!wasSending && SendTimeoutMs > 0)
                {
                    ArmSend();
                }
                return;
            }
            SentBytes += n;
            chain.Consume(n);
        }
        _sending = null;
        if (_sendTimer is not null)
        {
            _loop.Timers.Disarm(_sendTimer);
        }
    }

    /// <summary>The planted bug of that name.</summary>
    private void Overtake(BufferChain chain)
    {
        if (_loop.Plan is { Planted: PlantedBug.SendOvertakes } && chain.Count > 1)
        {
            (chain[0], chain[1]) = (chain[1], chain[0]);
        }
    }

    /// <summary>How much of a piece one write takes: with weather, not always all of it.</summary>
    private int WriteLimit(ref ChainSegment first)
    {
        int length = (int)Math.Min(first.Length, int.MaxValue);
        return _loop.Plan is { } plan && length > 1 && plan.Random.Chance(plan.ShortWrites)
            ? plan.Random.Size(length - 1) : length;
    }

    /// <summary>A piece of a file through memory: bytes moved, 0 when the window is full, or -errno.</summary>
    private int SendFile(ref ChainSegment first, int limit)
    {
        int want = Math.Min(Math.Min(limit, _out.Room), 64 * 1024);
        if (want == 0)
        {
            return 0;
        }
        BufferSlab slab = _loop.Buffers.Rent(want);
        SysResult n = Sys.ReadAt(first.File!.Fd, slab.Pointer, want, first.FileOffset);
        // The file became shorter than was promised.
        int moved = n.IsError ? -n.Errno : n.Int == 0 ? -Errno.EIO : _out.Write(slab.Span[..n.Int]);
        slab.Release();
        return moved;
    }

    private void ArmSend()
    {
        _sendTimer ??= new CallbackTimer(SendTimedOut);
        _loop.Timers.Set(_sendTimer, _loop.NowMs + SendTimeoutMs);
    }

    private void SendTimedOut()
    {
        if (_blocked)
        {
            _sendError = Errno.ETIMEDOUT;
            BufferChain chain = _sending!;
            _blocked = false;
            _sending = null;
            chain.Clear();
            if (_drain.IsWaiting)
            {
                _drain.SetResult(IoResult.Failed(Errno.ETIMEDOUT));
            }
        }
    }

    public override void SetReadDeadline(long dueMs)
    {
        if (dueMs == 0)
        {
            DisarmRead();
            return;
        }
        _readTimer ??= new CallbackTimer(ReadTimedOut);
        _loop.Timers.Set(_readTimer, dueMs);
    }

    private void DisarmRead()
    {
        if (_readTimer is not null)
        {
            _loop.Timers.Disarm(_readTimer);
        }
    }

    private void ReadTimedOut()
    {
        if (_connect.IsWaiting)
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
        if (_drain.IsWaiting)
        {
            _drain.SetResult(IoResult.Failed(Errno.ECANCELED));
        }
    }

    public override void ShutdownSend()
    {
        if (!IsClosed)
        {
            _out.End();
        }
    }

    public override void SetNoDelay()
    {
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
        _sending = null;
        _blocked = false;
        Watcher = null;
        _in.IsDeaf = true;
        _loop.ReturnStream(this);
        // As Linux: bytes that nobody read make the close a reset.
        if (reset || _in.Count > 0)
        {
            _out.Break();
            _in.Break();
        }
        else
        {
            _out.End();
        }
    }
}
