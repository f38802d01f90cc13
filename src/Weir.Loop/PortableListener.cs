// Accepting and datagrams on the portable engine: one operation under way at a time, its completion delivered through
// the loop's mailbox. The sockets are owned here and closed with Stop or Dispose. One loop's thread but for Completed.
using System.Net.Sockets;
using Weir.Kernel;

namespace Weir.Loop;

/// <summary>A listening socket of the framework.</summary>
internal sealed class PortableListener : Listener
{
    private readonly PortableLoop _loop;
    private readonly Socket _socket;
    private readonly SocketAsyncEventArgs _accept = new();
    private readonly Action _deliver;
    private readonly CallbackTimer _backOff;
    private bool _pending;
    private bool _stopped;

    /// <summary>Accepted while somebody held the listener.</summary>
    private Socket? _held;

    internal PortableListener(PortableLoop loop, Socket socket, Action<Connection> accepted) : base(loop, accepted)
    {
        _loop = loop;
        _socket = socket;
        _deliver = Deliver;
        _backOff = new CallbackTimer(() => LetGo(AcceptHold.Pressure));
        _accept.Completed += (_, _) => _loop.Post(_deliver);
        if (loop.Enlist(this))
        {
            Arm();
        }
    }

    protected override void Arm()
    {
        if (_pending || _stopped)
        {
            return;
        }
        _pending = true;
        if (_held is not null || !_socket.AcceptAsync(_accept))
        {
            // The loop's other work gets its turn between two connections.
            _loop.Ready(_deliver);
        }
    }

    protected override void Disarm()
    {
        // The framework cannot take an accept back: what it brings waits.
    }

    private void Deliver()
    {
        _pending = false;
        Socket? socket = _held ?? _accept.AcceptSocket;
        SocketError error = _held is null ? _accept.SocketError : SocketError.Success;
        _held = null;
        _accept.AcceptSocket = null;
        if (_stopped)
        {
            socket?.Dispose();
            _accept.Dispose();
            return;
        }
        if (error != SocketError.Success || socket is null)
        {
            socket?.Dispose();
            Failed(PortableLoop.ErrnoOf(error));
        }
        else if (Holds != AcceptHold.None)
        {
            _held = socket;
        }
        else if (!_loop.MakeRoom())
        {
            _held = socket;
            _loop.HoldForRoom();
        }
        else
        {
            _loop.NoteAccepted();
            var stream = new PortableStream(_loop);
            stream.Open(socket, this);
            Accepted(stream);
        }
        if (Holds == AcceptHold.None)
        {
            Arm();
        }
    }

    /// <summary>There is no queue to take a client from with a spare descriptor: idle connections go, and accepting
    /// rests for a while.</summary>
    private void Failed(int errno)
    {
        AcceptAnswer tier = AcceptPressure.TierOf(errno);
        if (tier is AcceptAnswer.Empty or AcceptAnswer.Next)
        {
            return;
        }
        _loop.NotePressure(errno);
        _loop.ReclaimIdle(AcceptPressure.ReclaimedAtOnce);
        Hold(AcceptHold.Pressure);
        _loop.Timers.Set(_backOff, _loop.NowMs + _loop.Pressure.NextBackOffMs());
    }

    public override void Stop()
    {
        if (_stopped)
        {
            return;
        }
        _stopped = true;
        _loop.Delist(this);
        _loop.Timers.Cancel(_backOff);
        _held?.Dispose();
        _held = null;
        _socket.Dispose();
        if (!_pending)
        {
            _accept.Dispose();
        }
    }
}

/// <summary>A datagram socket of the framework.</summary>
internal sealed class PortableDatagram : DatagramSocket
{
    private const int DatagramBytesMax = 65536;

    private readonly PortableLoop _loop;
    private readonly Socket _socket;
    private readonly DatagramReceived _received;
    private readonly SocketAsyncEventArgs _receive = new();
    private readonly Action _deliver;
    private bool _disposed;

    internal PortableDatagram(PortableLoop loop, Socket socket, DatagramReceived received)
    {
        _loop = loop;
        _socket = socket;
        _received = received;
        _deliver = Deliver;
        _socket.Blocking = false;
        _receive.SetBuffer(new byte[DatagramBytesMax]);
        _receive.Completed += (_, _) => _loop.Post(_deliver);
        Receive();
    }

    private void Receive()
    {
        if (!_socket.ReceiveAsync(_receive))
        {
            _loop.Ready(_deliver);
        }
    }

    private void Deliver()
    {
        if (!_disposed && _receive.SocketError == SocketError.Success)
        {
            _received(_receive.MemoryBuffer.Span[.._receive.BytesTransferred]);
        }
        if (_disposed)
        {
            _receive.Dispose();
            return;
        }
        // A refusal reports an earlier datagram; the next one may do better.
        Receive();
    }

    public override int Send(ReadOnlySpan<byte> bytes)
    {
        if (_disposed)
        {
            return Errno.EBADF;
        }
        _socket.Send(bytes, SocketFlags.None, out SocketError error);
        return PortableLoop.ErrnoOf(error);
    }

    public override void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _socket.Dispose();
        }
    }
}
