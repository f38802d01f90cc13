// Opening a listening socket from its specification: socket, options, bind, listen, in nginx's order. Also for one
// inherited from an older binary: what it is bound to and which options it may still change. Start-up and reload only.
// The caller owns the descriptor, which is non-blocking and close-on-exec.
namespace Weir.Kernel;

/// <summary>Which call refused a listening socket, in nginx's words.</summary>
public readonly record struct ListenFailure(string Call, int Errno)
{
    public bool IsNone => Call is null;
}

/// <summary>Sockets that listen.</summary>
public static unsafe class ListenSocket
{
    private const int SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_CLOEXEC = 0x80000, SOCK_NONBLOCK = 0x800;
    private const int SOL_SOCKET = 1, SO_REUSEADDR = 2, SO_SNDBUF = 7, SO_RCVBUF = 8, SO_KEEPALIVE = 9,
        SO_REUSEPORT = 15, SO_TYPE = 3, SO_ACCEPTCONN = 30;

    private const int IPPROTO_TCP = 6, TCP_KEEPIDLE = 4, TCP_KEEPINTVL = 5, TCP_KEEPCNT = 6, TCP_DEFER_ACCEPT = 9,
        TCP_FASTOPEN = 23;

    private const int IPPROTO_MPTCP = 262, IPPROTO_IPV6 = 41, IPV6_V6ONLY = 26, IPV6_RECVPKTINFO = 49,
        IPPROTO_IP = 0, IP_PKTINFO = 8;

    /// <summary>
    /// Opens, binds and listens. On failure the value is -1 and <paramref name="failure"/> says where.
    /// </summary>
    public static int Open(ListenSpec spec, bool reusePort, out ListenFailure failure) =>
        Open(spec, reusePort, true, out failure);

    /// <summary>Whether <see cref="Open(ListenSpec, bool, out ListenFailure)"/> would find the address free. Nothing
    /// listens meanwhile: a client that came then would be reset with the socket.</summary>
    public static ListenFailure Probe(ListenSpec spec, bool reusePort)
    {
        int fd = Open(spec, reusePort, false, out ListenFailure failure);
        if (fd >= 0)
        {
            Descriptors.Close(fd);
        }
        return failure;
    }

    private static int Open(ListenSpec spec, bool reusePort, bool listens, out ListenFailure failure)
    {
        int type = (spec.Datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
        int protocol = spec.Multipath ? IPPROTO_MPTCP : 0;
        SysResult opened = LibcProcess.Of(LibcProcess.socket((int)spec.Address.Family, type, protocol));
        if (opened.IsError)
        {
            failure = new ListenFailure("socket()", opened.Errno);
            return -1;
        }
        int fd = opened.Int;
        failure = Bind(fd, spec, reusePort);
        if (failure.IsNone)
        {
            failure = Configure(fd, spec);
        }
        if (failure.IsNone && !spec.Datagram && listens)
        {
            failure = Check("listen()", LibcProcess.Of(LibcProcess.listen(fd, spec.Backlog)));
        }
        if (!failure.IsNone)
        {
            Descriptors.Close(fd);
            return -1;
        }
        return fd;
    }

    /// <summary>Applies what may change on a living socket (a reload, an inherited one), backlog included.</summary>
    public static ListenFailure Reconfigure(int fd, ListenSpec spec, bool reusePort)
    {
        if (reusePort)
        {
            SetFlag(fd, SOL_SOCKET, SO_REUSEPORT, 1);
        }
        ListenFailure failure = Configure(fd, spec);
        return failure.IsNone && !spec.Datagram
            ? Check("listen()", LibcProcess.Of(LibcProcess.listen(fd, spec.Backlog)))
            : failure;
    }

    /// <summary>
    /// What an inherited descriptor is bound to; null when it is no listening (or bound datagram) socket.
    /// </summary>
    public static SocketAddress? AddressOf(int fd, out bool datagram)
    {
        datagram = false;
        byte* address = stackalloc byte[SocketAddress.NativeBytesMax];
        uint bytes = SocketAddress.NativeBytesMax;
        int type = 0;
        uint typeBytes = sizeof(int);
        if (LibcProcess.getsockname(fd, address, &bytes) != 0
            || LibcProcess.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &typeBytes) != 0)
        {
            return null;
        }
        datagram = type == SOCK_DGRAM;
        int accepting = 0;
        typeBytes = sizeof(int);
        LibcProcess.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &typeBytes);
        var native = new ReadOnlySpan<byte>(address, (int)bytes);
        return (datagram || accepting != 0) && SocketAddress.FamilyOf(native) != SocketFamily.Unspecified
            ? SocketAddress.FromNative(native)
            : null;
    }

    private static ListenFailure Bind(int fd, ListenSpec spec, bool reusePort)
    {
        SocketFamily family = spec.Address.Family;
        ListenFailure failure = default;
        if (family != SocketFamily.Unix)
        {
            failure = Set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "setsockopt(SO_REUSEADDR)");
        }
        if (failure.IsNone && reusePort && family != SocketFamily.Unix)
        {
            failure = Set(fd, SOL_SOCKET, SO_REUSEPORT, 1, "setsockopt(SO_REUSEPORT)");
        }
        if (failure.IsNone && family == SocketFamily.Inet6)
        {
            failure = Set(fd, IPPROTO_IPV6, IPV6_V6ONLY, spec.Ipv6Only ? 1 : 0, "setsockopt(IPV6_V6ONLY)");
        }
        if (!failure.IsNone)
        {
            return failure;
        }
        fixed (byte* address = spec.Address.Native)
        {
            SysResult bound = LibcProcess.Of(LibcProcess.bind(fd, address, (uint)spec.Address.Native.Length));
            if (bound.IsError)
            {
                return new ListenFailure("bind()", bound.Errno);
            }
        }
        if (spec.Address.UnixPath is { } path && path[0] != '@')
        {
            // Anybody may connect, as nginx leaves it: access is governed by the directory.
            Descriptors.ChangeMode(path, 0x1b6);
        }
        return default;
    }

    private static ListenFailure Configure(int fd, ListenSpec spec)
    {
        // nginx logs and goes on where an option is refused; only bind and listen decide.
        if (spec.ReceiveBufferBytes >= 0)
        {
            SetFlag(fd, SOL_SOCKET, SO_RCVBUF, spec.ReceiveBufferBytes);
        }
        if (spec.SendBufferBytes >= 0)
        {
            SetFlag(fd, SOL_SOCKET, SO_SNDBUF, spec.SendBufferBytes);
        }
        if (spec.KeepAlive != ListenKeepAlive.Unset)
        {
            SetFlag(fd, SOL_SOCKET, SO_KEEPALIVE, spec.KeepAlive == ListenKeepAlive.On ? 1 : 0);
        }
        if (spec.Address.Family == SocketFamily.Unix)
        {
            return default;
        }
        if (spec.Datagram)
        {
            // A wildcard datagram socket must be told which address a packet came to, to answer from it.
            bool six = spec.Address.Family == SocketFamily.Inet6;
            if (spec.Address.IsWildcard)
            {
                SetFlag(fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_RECVPKTINFO : IP_PKTINFO, 1);
            }
            return default;
        }
        if (spec.KeepIdleSeconds > 0)
        {
            SetFlag(fd, IPPROTO_TCP, TCP_KEEPIDLE, spec.KeepIdleSeconds);
        }
        if (spec.KeepIntervalSeconds > 0)
        {
            SetFlag(fd, IPPROTO_TCP, TCP_KEEPINTVL, spec.KeepIntervalSeconds);
        }
        if (spec.KeepCount > 0)
        {
            SetFlag(fd, IPPROTO_TCP, TCP_KEEPCNT, spec.KeepCount);
        }
        if (spec.FastOpenQueue >= 0)
        {
            SetFlag(fd, IPPROTO_TCP, TCP_FASTOPEN, spec.FastOpenQueue);
        }
        SetFlag(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, spec.DeferAccept ? 1 : 0);
        return default;
    }

    private static void SetFlag(int fd, int level, int option, int value) =>
        LibcProcess.setsockopt(fd, level, option, &value, sizeof(int));

    private static ListenFailure Set(int fd, int level, int option, int value, string call) =>
        Check(call, LibcProcess.Of(LibcProcess.setsockopt(fd, level, option, &value, sizeof(int))));

    private static ListenFailure Check(string call, SysResult result) =>
        result.IsError ? new ListenFailure(call, result.Errno) : default;
}
