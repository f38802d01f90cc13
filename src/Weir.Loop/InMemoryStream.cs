// The streams of the in-memory engine: a pipe for each direction, the server's end (a Connection), and the peer's end
// that test code holds. They behave as Linux does where a server can notice: bytes come in a later turn, a full window
// blocks, closing with unread bytes resets, writing to a closed peer is noticed one write later.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>An end of a pipe: told when something changed.</summary>
internal interface IInMemoryEnd
{
    void Poke();
}

/// <summary>Bytes in one direction.</summary>
internal sealed class InMemoryPipe
{
    private byte[] _bytes = new byte[256];
    private int _start;

    internal IInMemoryEnd? Reader;
    internal IInMemoryEnd? Writer;

    /// <summary>Bytes that become readable per turn; 0 for all at once.</summary>
    internal int ChunkBytes;

    /// <summary>Bytes that may wait for the reader before the writer blocks.</summary>
    internal int WindowBytes = int.MaxValue;

    /// <summary>Bytes written and not yet read, and how many of them the reader may see.</summary>
    internal int Count { get; private set; }
    internal int Visible { get; private set; }

    internal bool IsEnded { get; private set; }
    internal bool IsBroken { get; private set; }

    /// <summary>The reader has closed: bytes go nowhere.</summary>
    internal bool IsDeaf;

    /// <summary>Whether the reader would find something: bytes, the end, or an error.</summary>
    internal bool IsReadable => Visible > 0 || IsBroken || EndVisible;
    internal bool EndVisible => IsEnded && Count == 0;
    internal int Room => Math.Max(WindowBytes - Count, 0);
    internal bool HasHidden => Visible < Count;

    internal int Write(ReadOnlySpan<byte> bytes)
    {
        int n = Math.Min(bytes.Length, Room);
        if (_start + Count + n > _bytes.Length)
        {
            byte[] target = Count + n > _bytes.Length ? new byte[Math.Max(Count + n, _bytes.Length * 2)] : _bytes;
            _bytes.AsSpan(_start, Count).CopyTo(target);
            _bytes = target;
            _start = 0;
        }
        bytes[..n].CopyTo(_bytes.AsSpan(_start + Count));
        Count += n;
        if (n > 0)
        {
            Reader?.Poke();
        }
        return n;
    }

    /// <summary>Lets the reader see more.</summary>
    internal void Reveal() => Visible = ChunkBytes == 0 ? Count : Math.Min(Count, Visible + ChunkBytes);

    internal int Read(Span<byte> into)
    {
        int n = Math.Min(into.Length, Visible);
        bool wasFull = Room == 0;
        _bytes.AsSpan(_start, n).CopyTo(into);
        _start += n;
        Count -= n;
        Visible -= n;
        if (Count == 0)
        {
            _start = 0;
        }
        if (wasFull && Room > 0)
        {
            Writer?.Poke();
        }
        return n;
    }

    internal void End()
    {
        if (IsEnded)
        {
            return;
        }
        IsEnded = true;
        Reader?.Poke();
    }

    internal void Break()
    {
        if (IsBroken)
        {
            return;
        }
        IsBroken = true;
        Reader?.Poke();
        Writer?.Poke();
    }
}

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
    private byte[] _peer = [];
    private byte[] _local = [];

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
        _loop.ConnectionCount++;
    }

    private void Attach(InMemoryPipe incoming, InMemoryPipe outgoing)
    {
        _in = incoming;
        _out = outgoing;
        _in.Reader = this;
        _out.Writer = this;
        Poke();
    }

    internal LoopTask<ConnectOutcome> Connect(ReadOnlySpan<byte> address, ReadOnlySpan<byte> local, int timeoutMs)
    {
        Start(null);
        _peer = address.ToArray();
        _local = local.IsEmpty ? _loop.NextPeerAddress() : local.ToArray();
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
        InMemoryListener? listener = _loop.Find(_peer);
        if (listener is { IsSilent: true })
        {
            return;
        }
        int error = listener is null ? Errno.ECONNREFUSED : listener.ConnectError;
        if (error != 0)
        {
            FinishConnect(error);
            return;
        }
        var toServer = _loop.NewPipe();
        var toClient = _loop.NewPipe();
        Attach(toClient, toServer);
        if (listener!.PeerAccepted is { } accepted)
        {
            var peer = new InMemoryPeer(_loop);
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
        _in.Reveal();
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
        if (!IsClosed && _in.IsReadable && !_receive.IsPending)
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
        if (!_blocked || chain.Length <= keptBytes)
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
            int n = _out.IsDeaf ? (int)Math.Min(first.Length, int.MaxValue) : first.IsFile ? SendFile(ref first)
                : _out.Write(first.Memory.Span);
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
            if (n == 0)
            {
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

    /// <summary>A piece of a file through memory: bytes moved, 0 when the window is full, or -errno.</summary>
    private int SendFile(ref ChainSegment first)
    {
        int want = (int)Math.Min(Math.Min(first.Length, _out.Room), 64 * 1024);
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

/// <summary>The other end of a connection, held by test code: nothing here waits or runs the loop.</summary>
public sealed class InMemoryPeer : IInMemoryEnd, IInMemoryTarget
{
    private readonly InMemoryLoop _loop;
    private InMemoryPipe _in = new();
    private InMemoryPipe _out = new();
    private bool _queued;

    internal InMemoryPeer(InMemoryLoop loop) => _loop = loop;

    /// <summary>Nobody listens at the address.</summary>
    public bool IsRefused { get; private set; }

    /// <summary>Called in the loop's turn after something has come: bytes, the end, or a reset.</summary>
    public Action<InMemoryPeer>? Arrived { get; set; }

    /// <summary>What is sent arrives in pieces of this many bytes, one per turn; 0 for all at once.</summary>
    public int ChunkBytes
    {
        get => _out.ChunkBytes;
        set => _out.ChunkBytes = value;
    }

    /// <summary>How many unread bytes the other side may have sent before its sends block.</summary>
    public int WindowBytes
    {
        get => _in.WindowBytes;
        set
        {
            _in.WindowBytes = value;
            _in.Writer?.Poke();
        }
    }

    /// <summary>Bytes that have come and were not read yet.</summary>
    public int Available => _in.Count;

    /// <summary>All bytes that were read by <see cref="Read"/>.</summary>
    public long ReadBytes { get; private set; }

    /// <summary>Whether the other side has ended its direction and everything was read.</summary>
    public bool IsEnded => _in.EndVisible;

    /// <summary>Whether the other side has reset the connection (or closed it with unread bytes).</summary>
    public bool IsReset => _in.IsBroken;

    internal void Open(InMemoryPipe incoming, InMemoryPipe outgoing)
    {
        _in = incoming;
        _out = outgoing;
        _in.Reader = this;
        _out.Writer = this;
        if (_in.Count > 0)
        {
            Poke();
        }
    }

    internal void Refuse()
    {
        IsRefused = true;
        _in.Break();
    }

    public void Send(ReadOnlySpan<byte> bytes)
    {
        if (_out.IsDeaf)
        {
            _in.Break();
            return;
        }
        if (!_out.IsEnded && !_out.IsBroken)
        {
            _out.Write(bytes);
        }
    }

    /// <summary>Sends text, one byte per char.</summary>
    public void Send(string latin1) => Send(System.Text.Encoding.Latin1.GetBytes(latin1));

    /// <summary>Takes up to <paramref name="max"/> bytes that have come; this opens the window again.</summary>
    public byte[] Read(int max = int.MaxValue)
    {
        _in.Reveal();
        byte[] bytes = new byte[Math.Min(max, _in.Count)];
        ReadBytes += _in.Read(bytes);
        return bytes;
    }

    /// <summary>As <see cref="Read"/>, as text with one char per byte.</summary>
    public string ReadText(int max = int.MaxValue) => System.Text.Encoding.Latin1.GetString(Read(max));

    /// <summary>Sends FIN; reading goes on.</summary>
    public void ShutdownSend() => _out.End();

    /// <summary>Closes both directions; what the other side still sends is answered with a reset.</summary>
    public void Close()
    {
        _in.IsDeaf = true;
        if (_in.Count > 0)
        {
            Reset();
            return;
        }
        _out.End();
        _in.Writer?.Poke();
    }

    public void Reset()
    {
        _in.IsDeaf = true;
        _out.Break();
        _in.Break();
    }

    void IInMemoryEnd.Poke()
    {
        if (!_queued && Arrived is not null)
        {
            _queued = true;
            _loop.Enqueue(this);
        }
    }

    private void Poke() => ((IInMemoryEnd)this).Poke();

    void IInMemoryTarget.Deliver()
    {
        _queued = false;
        Arrived?.Invoke(this);
    }
}
