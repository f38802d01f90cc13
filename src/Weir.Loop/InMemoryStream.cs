// The server's end of an in-memory connection. It behaves as Linux does where a server can notice: bytes come in a
// later turn, a full window blocks, closing with unread bytes resets, writing to a closed peer is noticed one write
// later. One loop's thread; recycled only where a plan says so: otherwise a use after Close shows.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>The server's end.</summary>
internal sealed unsafe class InMemoryStream(InMemoryLoop loop) : ManagedStream(loop), IInMemoryEnd, IInMemoryTarget
{
    private readonly InMemoryLoop _loop = loop;
    private InMemoryPipe _in = new();
    private InMemoryPipe _out = new();
    private bool _queued;

    /// <summary>Connecting is never answered: a plan says so.</summary>
    private bool _isUnanswered;

    /// <summary>The end of the connection that had this slot before is still to be delivered: a planted bug.</summary>
    private bool _hasStaleEnd;
    private uint _generation;
    internal InMemoryStream? NextFree;

    uint IInMemoryTarget.Generation => _generation;

    internal InMemoryStream OpenAccepted(InMemoryCall call, InMemoryListener listener)
    {
        Start(listener);
        Peer = call.Source;
        Local = listener.Address;
        Attach(call.ToServer, call.ToPeer);
        return this;
    }

    private void Start(Listener? listener)
    {
        _hasStaleEnd = IsPeerEnded && _loop.Plan is { Planted: PlantedBug.StaleCompletion };
        Begin(listener);
        IsClosed = false;
        SentBytes = 0;
        SendTimeoutMs = 0;
        SendTurnBytes = SendTurnBytesMax;
        Watcher = null;
        Owner = null;
        OwnerCount = 0;
        Guest = null;
        _in = new InMemoryPipe();
        _out = new InMemoryPipe();
        _queued = false;
        _isUnanswered = false;
        _generation++;
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
        Peer = address.ToArray();
        Local = local.IsEmpty ? _loop.NextPeerAddress() : local.Address.ToArray();
        LoopTask<ConnectOutcome> task = BeginConnect(timeoutMs);
        Poke();
        return task;
    }

    private void TryConnect()
    {
        InMemoryListener? listener = _loop.FindForServer(Peer);
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
            listener.Enqueue(new InMemoryCall(toServer, toClient, Local));
        }
        FinishConnect(0);
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
        if (IsConnecting)
        {
            TryConnect();
            return;
        }
        _in.Reveal(_loop.Plan);
        bool news = (_in.IsEnded && !IsPeerEnded && !_in.HasHidden) || (_in.IsBroken && !IsBroken);
        IsPeerEnded |= (_in.IsEnded && !_in.HasHidden) || _in.IsBroken;
        IsBroken |= _in.IsBroken;
        if (IsBlocked && (_out.Room > 0 || _out.IsBroken || _out.IsDeaf))
        {
            Continue(0);
        }
        if (!IsClosed && _in.IsReadable)
        {
            if (Receiving.IsWaiting)
            {
                DisarmRead();
                Receiving.SetResult(Take());
            }
            else if (news && Watcher is { } watcher)
            {
                watcher.PeerGone(this, IsBroken);
            }
        }
        if (!IsClosed && _in.HasHidden)
        {
            Poke();
        }
    }

    public override bool MayHaveInput => !IsClosed && _in.IsReadable;

    public override LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize)
    {
        ReceiveMax = maxBytes;
        if (!IsClosed && _in.IsReadable && !Receiving.IsPending && !IsSlow())
        {
            return new LoopTask<RecvLease>(Take());
        }
        LoopTask<RecvLease> task = Receiving.Begin();
        if (IsClosed)
        {
            Receiving.SetResult(RecvLease.Failed(Errno.ECANCELED));
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
            BufferSlab slab = _loop.Buffers.Rent(ReceiveMax);
            int room = Math.Min(slab.Capacity, Math.Max(ReceiveMax, 1));
            return RecvLease.Bytes(slab, _in.Read(slab.Span[..room]));
        }
        return _in.IsBroken ? RecvLease.Failed(Errno.ECONNRESET) : RecvLease.End;
    }

    public override LoopTask<IoResult> DrainAsync(BufferChain chain, long keptBytes = 0) =>
        IsBlocked && SendError == 0 && _loop.Plan is { Planted: PlantedBug.DrainTooEarly } plan
            && chain.Length > keptBytes && plan.Random.Chance(500)
            ? new LoopTask<IoResult>(IoResult.Ok()) : base.DrainAsync(chain, keptBytes);

    protected override void Transmit(BufferChain chain)
    {
        long stopAt = SentBytes + SendTurnBytes;
        while (!chain.IsEmpty && SendError == 0)
        {
            if (SentBytes >= stopAt)
            {
                Block(chain);
                Poke();
                return;
            }
            if (_out.IsBroken || _out.IsEnded)
            {
                Fail(_out.IsEnded ? Errno.EPIPE : Errno.ECONNRESET);
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
                Fail(-n);
                break;
            }
            if (n == 0 || n == limit && limit < first.Length && !first.IsFile)
            {
                if (n > 0)
                {
                    // A short write: the socket says when it takes more.
                    Sent(chain, n);
                    Overtake(chain);
                    Poke();
                }
                if (_out.IsBroken)
                {
                    // Cut in the middle: the next write says so.
                    continue;
                }
                Block(chain);
                return;
            }
            Sent(chain, n);
        }
        Unblock();
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

    protected override void CloseTransport(bool reset)
    {
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
