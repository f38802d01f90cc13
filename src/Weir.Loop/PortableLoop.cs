// The engine over System.Net.Sockets, for the library on systems without epoll or io_uring: completions arrive on the
// framework's threads and knock at the loop's mailbox; everything else happens on the loop's one thread. It is the
// slowest engine and allocates per connection. Buffers that a socket may still write from are the stream's own, never
// a slab. No descriptor is watched but the master's channel, by a thread that polls it.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Weir.Kernel;
using SocketAddress = Weir.Kernel.SocketAddress;

namespace Weir.Loop;

/// <summary>The portable engine.</summary>
public sealed class PortableLoop : EventLoop
{
    /// <summary>Its name in the "use" directive.</summary>
    public const string Name = "portable";

    private readonly AutoResetEvent _wake = new(false);
    private readonly Dictionary<int, Socket> _opened = [];

    // Numbers of the loop's own sockets lie far above any descriptor.
    private int _lastNumber = 1 << 30;
    private bool _disposed;

    public override string EngineName => Name;

    protected override long ReadMonotonicMs() => Stopwatch.GetTimestamp() / (Stopwatch.Frequency / 1000);

    protected override long ReadUnixMs() => DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();

    public override void FillRandom(Span<byte> into) => RandomNumberGenerator.Fill(into);

    protected override void Wake() => _wake.Set();

    protected override void WaitAndDispatch(int timeoutMs)
    {
        // What completed is in the mailbox, which is drained after the wait.
        _wake.WaitOne(timeoutMs);
        Tick();
    }

    /// <summary>Streams that are open.</summary>
    internal HashSet<PortableStream> Streams { get; } = [];

    public override void CloseConnections()
    {
        foreach (PortableStream stream in Streams.ToArray())
        {
            stream.Close(reset: true);
        }
    }

    public override void Dispose()
    {
        if (_disposed)
        {
            return;
        }
        _disposed = true;
        foreach (Socket socket in _opened.Values)
        {
            socket.Dispose();
        }
        base.Dispose();
    }

    // Listening: the number stands for a socket of the framework; a number that this loop did not give is a descriptor.

    public override int OpenListening(ListenSpec spec, bool reusePort, out ListenFailure failure)
    {
        failure = default;
        EndPoint at = ToEndPoint(spec.Address.Native);
        string call = "socket()";
        try
        {
            var socket = new Socket(at.AddressFamily, SocketType.Stream,
                at.AddressFamily == AddressFamily.Unix ? ProtocolType.Unspecified : ProtocolType.Tcp);
            call = "bind()";
            if (at.AddressFamily == AddressFamily.InterNetworkV6)
            {
                socket.DualMode = !spec.Ipv6Only;
            }
            socket.Bind(at);
            call = "listen()";
            socket.Listen(spec.Backlog);
            _opened.Add(++_lastNumber, socket);
            return _lastNumber;
        }
        catch (SocketException e)
        {
            failure = new ListenFailure(call, ErrnoOf(e.SocketErrorCode));
            return -1;
        }
    }

    public override Listener Listen(int fd, bool shared, Action<Connection> accepted)
    {
        if (!_opened.Remove(fd, out Socket? socket))
        {
            socket = new Socket(new SafeSocketHandle(fd, ownsHandle: true));
        }
        return new PortableListener(this, socket, accepted);
    }

    public override LoopTask<ConnectOutcome> ConnectAsync(ReadOnlySpan<byte> address, LocalEnd local, int timeoutMs,
        out Connection connection)
    {
        var stream = new PortableStream(this);
        connection = stream;
        return stream.Connect(address, local, timeoutMs);
    }

    public override DatagramSocket? OpenDatagram(ReadOnlySpan<byte> peer, DatagramReceived received, out int errno)
    {
        errno = 0;
        try
        {
            EndPoint to = ToEndPoint(peer);
            var socket = new Socket(to.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
            socket.Connect(to);
            return new PortableDatagram(this, socket, received);
        }
        catch (SocketException e)
        {
            errno = ErrnoOf(e.SocketErrorCode);
            return null;
        }
    }

    public override IDisposable WatchReadable(int fd, Action readable) => new Watch(this, fd, readable);

    // Addresses and errors.

    /// <summary>Lets a socket be bound to an address that is not this machine's, where the system can.</summary>
    internal static void SetTransparent(Socket socket)
    {
        bool is6 = socket.AddressFamily == AddressFamily.InterNetworkV6;
        socket.SetRawSocketOption((int)(is6 ? SocketOptionLevel.IPv6 : SocketOptionLevel.IP),
            is6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, BitConverter.GetBytes(1));
    }

    // Linux's numbers; another system answers that it has no such option, and the connection fails with that.
    private const int IP_TRANSPARENT = 19, IPV6_TRANSPARENT = 75;

    internal static EndPoint ToEndPoint(ReadOnlySpan<byte> native)
    {
        SocketAddress address = SocketAddress.FromNative(native);
        return address.UnixPath is { } path
            ? new UnixDomainSocketEndPoint(path)
            : new IPEndPoint(new IPAddress(address.AddressBytes), address.Port);
    }

    internal static byte[] ToNative(EndPoint? point) => point switch
    {
        IPEndPoint { AddressFamily: AddressFamily.InterNetwork } ip =>
            SocketAddress.Inet(ip.Address.GetAddressBytes(), ip.Port).Native.ToArray(),
        IPEndPoint ip => SocketAddress.Inet6(ip.Address.GetAddressBytes(), ip.Port).Native.ToArray(),
        UnixDomainSocketEndPoint unix when unix.ToString() is { Length: > 0 } path
            && SocketAddress.Unix(path) is { } named => named.Native.ToArray(),
        // A unix client has no name: the family alone.
        _ => [1, 0],
    };

    internal static int ErrnoOf(SocketError error) => error switch
    {
        SocketError.Success => 0,
        SocketError.ConnectionRefused => Errno.ECONNREFUSED,
        SocketError.ConnectionReset => Errno.ECONNRESET,
        SocketError.ConnectionAborted => Errno.ECONNABORTED,
        SocketError.Shutdown => Errno.EPIPE,
        SocketError.TimedOut => Errno.ETIMEDOUT,
        SocketError.HostUnreachable => Errno.EHOSTUNREACH,
        SocketError.NetworkUnreachable => Errno.ENETUNREACH,
        SocketError.NetworkDown => Errno.ENETDOWN,
        SocketError.AddressAlreadyInUse => Errno.EADDRINUSE,
        SocketError.AddressNotAvailable => Errno.EADDRNOTAVAIL,
        SocketError.AddressFamilyNotSupported => Errno.EAFNOSUPPORT,
        SocketError.AccessDenied => Errno.EACCES,
        SocketError.TooManyOpenSockets => Errno.EMFILE,
        SocketError.NoBufferSpaceAvailable => Errno.ENOBUFS,
        SocketError.OperationAborted => Errno.ECANCELED,
        SocketError.WouldBlock or SocketError.IOPending => Errno.EAGAIN,
        // A unix socket that is not there comes without a name of its own.
        _ => Errno.ENOENT,
    };

    /// <summary>A thread that waits for a descriptor and lets the loop read before it waits again.</summary>
    private sealed class Watch : IDisposable
    {
        private const int LookMs = 1000;

        private readonly PortableLoop _loop;
        private readonly int _fd;
        private readonly Action _readable;
        private readonly AutoResetEvent _handled = new(false);
        private volatile bool _disposed;

        internal Watch(PortableLoop loop, int fd, Action readable)
        {
            _loop = loop;
            _fd = fd;
            _readable = readable;
            new Thread(Run) { IsBackground = true, Name = "weir-watch" }.Start();
        }

        private void Run()
        {
            var entries = new PollEntry[1];
            while (!_disposed)
            {
                entries[0] = new PollEntry(_fd, PollEntry.Readable);
                if (Descriptors.Poll(entries, LookMs).Value > 0 && !_disposed)
                {
                    _loop.Post(Handle);
                    _handled.WaitOne();
                }
            }
        }

        private void Handle()
        {
            if (!_disposed)
            {
                _readable();
            }
            _handled.Set();
        }

        public void Dispose() => _disposed = true;
    }
}
