// A stream on the portable engine. Reading waits with a receive of no bytes, so that a waiting stream holds no buffer,
// and then reads without blocking into a slab. Sending tries without blocking; what a full socket does not take goes
// through a buffer of the stream's own, because the framework may still read it after a timeout gave the chain back.
// One loop's thread but for Completed, which only knocks. Not recycled.
using System.Net;
using System.Net.Sockets;
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed partial class PortableStream : ManagedStream
{
    private const int SendBytes = 64 * 1024;
    private const int ImmediateMax = 64;

    /// <summary>How often a watched connection whose peer has ended its direction is looked at.</summary>
    private const int LookMs = 100;

    private readonly PortableLoop _loop;
    private readonly Action _onReadable;
    private readonly Action _onSent;
    private CallbackTimer? _watchTimer;
    private Socket? _socket;
    private SocketAsyncEventArgs? _wait;
    private SocketAsyncEventArgs? _send;
    private FileRead? _fileRead;
    private byte[]? _sendBuffer;
    private int _sendCount;

    // Bytes taken from the socket while nobody received, so that an end behind them is heard of.
    private BufferSlab? _ahead;
    private int _aheadStart;
    private int _aheadEnd;
    private int _immediate;
    private bool _waiting;
    private bool _sendUnderWay;
    private bool _readReady;

    internal PortableStream(PortableLoop loop) : base(loop)
    {
        _loop = loop;
        _onReadable = OnReadable;
        _onSent = OnSent;
    }

    private void Start(Socket socket, Listener? listener)
    {
        _socket = socket;
        Begin(listener);
        _loop.Streams.Add(this);
    }

    internal void Open(Socket socket, Listener listener)
    {
        Start(socket, listener);
        OnConnected();
    }

    protected override void OnConnected()
    {
        Prepare();
        Arm();
    }

    private void Prepare()
    {
        _socket!.Blocking = false;
        try
        {
            Peer = PortableLoop.ToNative(_socket.RemoteEndPoint);
            Local = PortableLoop.ToNative(_socket.LocalEndPoint);
        }
        catch (SocketException)
        {
            // The peer went while it was accepted; the first read says so.
            IsBroken = true;
        }
    }

    // Connecting.

    internal LoopTask<ConnectOutcome> Connect(ReadOnlySpan<byte> address, LocalEnd local, int timeoutMs)
    {
        Peer = address.ToArray();
        EndPoint to = PortableLoop.ToEndPoint(address);
        var socket = new Socket(to.AddressFamily, SocketType.Stream,
            to.AddressFamily == AddressFamily.Unix ? ProtocolType.Unspecified : ProtocolType.Tcp);
        Start(socket, null);
        try
        {
            if (!local.IsEmpty)
            {
                if (local.IsTransparent)
                {
                    PortableLoop.SetTransparent(socket);
                }
                socket.Bind(PortableLoop.ToEndPoint(local.Address));
            }
            SetNoDelay();
        }
        catch (SocketException e)
        {
            Close();
            return new LoopTask<ConnectOutcome>(new ConnectOutcome(PortableLoop.ErrnoOf(e.SocketErrorCode)));
        }
        var connect = new SocketAsyncEventArgs { RemoteEndPoint = to };
        Action deliver = () => Connected(connect);
        connect.Completed += (_, _) => _loop.Post(deliver);
        LoopTask<ConnectOutcome> task = BeginConnect(timeoutMs);
        if (!socket.ConnectAsync(connect))
        {
            _loop.Ready(deliver);
        }
        return task;
    }

    private void Connected(SocketAsyncEventArgs connect)
    {
        SocketError error = connect.SocketError;
        connect.Dispose();
        if (IsConnecting)
        {
            FinishConnect(PortableLoop.ErrnoOf(error));
        }
    }

    // Receiving.

    public override bool MayHaveInput => !IsClosed && (_readReady || _ahead is not null);

    /// <summary>Waits for bytes without a buffer, if it does not yet.</summary>
    private void Arm()
    {
        if (_waiting || _readReady || IsClosed)
        {
            return;
        }
        if (_wait is null)
        {
            _wait = new SocketAsyncEventArgs();
            _wait.SetBuffer(Memory<byte>.Empty);
            _wait.Completed += (_, _) => _loop.Post(_onReadable);
        }
        _waiting = true;
        if (!_socket!.ReceiveAsync(_wait))
        {
            _loop.Ready(_onReadable);
        }
    }

    private void OnReadable()
    {
        _waiting = false;
        if (IsClosed)
        {
            _wait!.Dispose();
            return;
        }
        _immediate = 0;
        _readReady = true;
        if (Receiving.IsWaiting)
        {
            ContinueReceive();
            return;
        }
        if (Look() && Watcher is { } watcher)
        {
            watcher.PeerGone(this, IsBroken);
        }
    }

    /// <summary>Whether what is readable is news of the peer's end. Bytes that nobody has read yet hide it.</summary>
    private bool Look()
    {
        Span<byte> one = stackalloc byte[1];
        int n = _socket!.Receive(one, SocketFlags.Peek, out SocketError error);
        if (error == SocketError.WouldBlock)
        {
            _readReady = false;
            Arm();
            return false;
        }
        if (n > 0)
        {
            ReadAhead();
            return false;
        }
        bool isEnd = error == SocketError.Success && n == 0;
        bool isBroken = error != SocketError.Success;
        bool isNews = (isEnd && !IsPeerEnded) || (isBroken && !IsBroken);
        IsPeerEnded |= isEnd || isBroken;
        IsBroken |= isBroken;
        if (isEnd && !isBroken && Watcher is not null)
        {
            // A waiting receive ends at once from now on: only looking tells of a reset.
            _watchTimer ??= new CallbackTimer(LookForReset);
            _loop.Timers.Set(_watchTimer, _loop.NowMs + LookMs);
        }
        return isNews;
    }

    private void LookForReset()
    {
        if (Watcher is not { } watcher || IsBroken)
        {
            return;
        }
        if (_socket!.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.Error) is int and not 0)
        {
            IsBroken = true;
            watcher.PeerGone(this, reset: true);
            return;
        }
        _loop.Timers.Set(_watchTimer!, _loop.NowMs + LookMs);
    }

    /// <summary>Takes what came unasked, at most a buffer of it.</summary>
    private void ReadAhead()
    {
        if (Watcher is null || _ahead is not null)
        {
            return;
        }
        _ahead = _loop.Buffers.Rent();
        _aheadStart = 0;
        _aheadEnd = _socket!.Receive(_ahead.Span, SocketFlags.None, out SocketError error);
        if (error != SocketError.Success || _aheadEnd == 0)
        {
            DropAhead();
        }
        _readReady = false;
        Arm();
    }

    private void DropAhead()
    {
        _ahead?.Release();
        _ahead = null;
    }

    private RecvLease TakeAhead()
    {
        BufferSlab part = _loop.Buffers.Rent(ReceiveMax);
        int count = Math.Min(Math.Min(part.Capacity, Math.Max(ReceiveMax, 1)), _aheadEnd - _aheadStart);
        _ahead!.Span.Slice(_aheadStart, count).CopyTo(part.Span);
        _aheadStart += count;
        if (_aheadStart == _aheadEnd)
        {
            DropAhead();
        }
        return RecvLease.Bytes(part, count);
    }

    public override LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize)
    {
        ReceiveMax = maxBytes;
        if (_ahead is not null && !IsClosed)
        {
            return new LoopTask<RecvLease>(TakeAhead());
        }
        if (_readReady && !IsClosed && ++_immediate <= ImmediateMax)
        {
            RecvLease lease = TryReceive(out bool wouldBlock);
            if (!wouldBlock)
            {
                return new LoopTask<RecvLease>(lease);
            }
        }
        LoopTask<RecvLease> task = Receiving.Begin();
        if (IsClosed)
        {
            Receiving.SetResult(RecvLease.Failed(Errno.ECANCELED));
        }
        else if (_readReady)
        {
            // Too many immediate results in a row: others get their turn first.
            _loop.Ready(ContinueReceive);
        }
        return task;
    }

    private void ContinueReceive()
    {
        _immediate = 0;
        if (Receiving.IsWaiting && _readReady && !IsClosed)
        {
            RecvLease lease = TryReceive(out bool wouldBlock);
            if (!wouldBlock)
            {
                DisarmRead();
                Receiving.SetResult(lease);
            }
        }
    }

    private RecvLease TryReceive(out bool wouldBlock)
    {
        wouldBlock = false;
        BufferSlab slab = _loop.Buffers.Rent(ReceiveMax);
        int room = Math.Min(slab.Capacity, Math.Max(ReceiveMax, 1));
        int n = _socket!.Receive(slab.Span[..room], SocketFlags.None, out SocketError error);
        if (error == SocketError.Success && n > 0)
        {
            if (n < room && !IsPeerEnded)
            {
                _readReady = false;
                Arm();
            }
            return RecvLease.Bytes(slab, n);
        }
        slab.Release();
        if (error == SocketError.WouldBlock)
        {
            _readReady = false;
            wouldBlock = true;
            Arm();
            return default;
        }
        IsPeerEnded = true;
        if (error == SocketError.Success)
        {
            return RecvLease.End;
        }
        IsBroken = true;
        return RecvLease.Failed(PortableLoop.ErrnoOf(error));
    }

    // Options, closing.

    public override void ShutdownSend()
    {
        if (!IsClosed)
        {
            TryShutdown();
        }
    }

    private void TryShutdown()
    {
        try
        {
            _socket!.Shutdown(SocketShutdown.Send);
        }
        catch (SocketException)
        {
            // The peer has reset the connection: there is nothing to end.
        }
    }

    public override void SetNoDelay()
    {
        if (!IsClosed && _socket!.AddressFamily != AddressFamily.Unix && !IsBroken)
        {
            try
            {
                _socket.NoDelay = true;
            }
            catch (SocketException)
            {
                IsBroken = true;
            }
        }
    }

    protected override void SetOption(int option, int value)
    {
        SocketOptionName? name = option switch
        {
            Sys.SO_KEEPALIVE => SocketOptionName.KeepAlive,
            Sys.SO_RCVBUF => SocketOptionName.ReceiveBuffer,
            Sys.SO_SNDBUF => SocketOptionName.SendBuffer,
            _ => null,
        };
        if (name is { } known && !IsBroken)
        {
            _socket!.SetSocketOption(SocketOptionLevel.Socket, known, value);
        }
    }

    protected override void CloseTransport(bool reset)
    {
        _loop.Streams.Remove(this);
        if (_watchTimer is not null)
        {
            _loop.Timers.Cancel(_watchTimer);
        }
        // As the kernel: bytes that nobody read make the close a reset.
        if (reset || _ahead is not null)
        {
            _socket!.LingerState = new LingerOption(true, 0);
        }
        else if (!IsConnectPending)
        {
            // The framework resets a connection that is closed under a waiting receive, unless it was shut down before.
            TryShutdown();
        }
        DropAhead();
        _socket!.Dispose();
        if (!_waiting)
        {
            _wait?.Dispose();
        }
    }
}
