// The system calls of the data path, one wrapper shape: call, read errno at once, return a SysResult.
// Calls on non-blocking descriptors are short and never block, so they skip the GC transition; calls that may block
// (epoll_wait, a read of a cold file) do not. EINTR is retried here where nothing was transferred yet.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Weir.Kernel.Net;

/// <summary>One piece of a gathered write, as the kernel lays it out.</summary>
public struct IoVec
{
    public nint Base;
    public nuint Length;
}

/// <summary>What the server needs to know of a file.</summary>
public readonly record struct FileStatus(
    uint Mode, long Size, long ModifiedSec, uint ModifiedNsec, ulong Inode, ulong Device, uint Uid)
{
    public bool IsDirectory => (Mode & 0xF000) == 0x4000;
    public bool IsRegular => (Mode & 0xF000) == 0x8000;
    public bool IsSymlink => (Mode & 0xF000) == 0xA000;

    /// <summary>When the file's bytes, name count or rights changed last, seconds and nanoseconds.</summary>
    public long ChangedSec { get; init; }
    public uint ChangedNsec { get; init; }
}

/// <summary>Thin wrappers over the system calls a loop makes.</summary>
public static unsafe partial class Sys
{
    public const int AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10;
    public const int SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_NONBLOCK = 0x800, SOCK_CLOEXEC = 0x80000;
    public const int MSG_NOSIGNAL = 0x4000, MSG_MORE = 0x8000, MSG_DONTWAIT = 0x40, MSG_PEEK = 2;
    public const int SHUT_RD = 0, SHUT_WR = 1, SHUT_RDWR = 2;
    public const int SOL_SOCKET = 1, SO_REUSEADDR = 2, SO_ERROR = 4, SO_SNDBUF = 7, SO_RCVBUF = 8, SO_KEEPALIVE = 9,
        SO_LINGER = 13, SO_REUSEPORT = 15;
    public const int IPPROTO_TCP = 6, TCP_NODELAY = 1, TCP_CORK = 3, TCP_KEEPIDLE = 4, TCP_KEEPINTVL = 5,
        TCP_KEEPCNT = 6, TCP_DEFER_ACCEPT = 9, TCP_INFO = 11, TCP_FASTOPEN = 23;
    public const int IPPROTO_IP = 0, IP_TRANSPARENT = 19;
    public const int IPPROTO_IPV6 = 41, IPV6_V6ONLY = 26, IPV6_TRANSPARENT = 75;
    public const uint EPOLLIN = 1, EPOLLOUT = 4, EPOLLERR = 8, EPOLLHUP = 0x10, EPOLLRDHUP = 0x2000,
        EPOLLEXCLUSIVE = 1u << 28, EPOLLET = 1u << 31;
    public const int EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, EPOLL_CTL_MOD = 3;
    public const int O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0x40, O_EXCL = 0x80, O_TRUNC = 0x200,
        O_APPEND = 0x400, O_NONBLOCK = 0x800, O_CLOEXEC = 0x80000, O_TMPFILE = 0x410000, O_PATH = 0x200000;
    public static readonly int O_NOFOLLOW =
        RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 0x8000 : 0x20000;
    public static readonly int O_DIRECTORY =
        RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 0x4000 : 0x10000;
    public const int AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100, AT_EMPTY_PATH = 0x1000;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static SysResult Result(nint value) => value < 0 ? Failed() : new SysResult(value);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static SysResult Failed() => new(-Marshal.GetLastSystemError());

    // Sockets on the data path: non-blocking descriptors only.

    public static SysResult Receive(int fd, byte* buffer, int length)
    {
        while (true)
        {
            var result = Result(recv(fd, buffer, (nuint)length, MSG_DONTWAIT));
            if (result.Value != -Errno.EINTR)
            {
                return result;
            }
        }
    }

    public static SysResult Peek(int fd, byte* buffer, int length) =>
        Result(recv(fd, buffer, (nuint)length, MSG_DONTWAIT | MSG_PEEK));

    public static SysResult Send(int fd, byte* buffer, int length, bool more)
    {
        while (true)
        {
            var result = Result(send(fd, buffer, (nuint)length, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0)));
            if (result.Value != -Errno.EINTR)
            {
                return result;
            }
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct MsgHdr
    {
        public void* Name;
        public uint NameLength;
        public IoVec* Iov;
        public nuint IovCount;
        public void* Control;
        public nuint ControlLength;
        public int Flags;
    }

    public static SysResult SendGathered(int fd, IoVec* pieces, int count, bool more)
    {
        var message = new MsgHdr { Iov = pieces, IovCount = (nuint)count };
        while (true)
        {
            var result = Result(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0)));
            if (result.Value != -Errno.EINTR)
            {
                return result;
            }
        }
    }

    /// <summary>Sends file bytes without copying them. May read the disk: only for what is known to be cached, or
    /// where the caller accepts the wait.</summary>
    public static SysResult SendFile(int socket, int file, long offset, long count)
    {
        while (true)
        {
            long at = offset;
            var result = Result(sendfile(socket, file, &at, (nuint)count));
            if (result.Value != -Errno.EINTR)
            {
                return result;
            }
        }
    }

    public static SysResult ReceiveFrom(int fd, byte* buffer, int length, byte* address, ref int addressLength)
    {
        fixed (int* al = &addressLength)
        {
            return Result(recvfrom(fd, buffer, (nuint)length, MSG_DONTWAIT, address, al));
        }
    }

    public static SysResult Accept(int fd, byte* address, ref int addressLength)
    {
        fixed (int* al = &addressLength)
        {
            return Result(accept4(fd, address, al, SOCK_NONBLOCK | SOCK_CLOEXEC));
        }
    }

    public static SysResult Socket(int family, int type, int protocol = 0) =>
        Result(socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));

    public static SysResult Connect(int fd, byte* address, int addressLength) =>
        Result(connect(fd, address, (uint)addressLength));

    public static SysResult Bind(int fd, byte* address, int addressLength) =>
        Result(bind(fd, address, (uint)addressLength));

    public static SysResult Listen(int fd, int backlog) => Result(listen(fd, backlog));

    public static SysResult Shutdown(int fd, int how) => Result(shutdown(fd, how));

    public static SysResult SetOption(int fd, int level, int option, int value) =>
        Result(setsockopt(fd, level, option, &value, sizeof(int)));

    /// <summary>Makes the next close send RST instead of FIN.</summary>
    public static SysResult SetResetOnClose(int fd)
    {
        var linger = stackalloc int[2] { 1, 0 };
        return Result(setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, 8));
    }

    public static SysResult GetOption(int fd, int level, int option)
    {
        int value = 0;
        int length = sizeof(int);
        var result = Result(getsockopt(fd, level, option, &value, &length));
        return result.IsError ? result : new SysResult(value);
    }

    public static SysResult GetOptionBytes(int fd, int level, int option, Span<byte> into)
    {
        int length = into.Length;
        fixed (byte* p = into)
        {
            var result = Result(getsockopt(fd, level, option, p, &length));
            return result.IsError ? result : new SysResult(length);
        }
    }

    public static SysResult LocalName(int fd, byte* address, ref int addressLength)
    {
        fixed (int* al = &addressLength)
        {
            return Result(getsockname(fd, address, al));
        }
    }

    public static SysResult PeerName(int fd, byte* address, ref int addressLength)
    {
        fixed (int* al = &addressLength)
        {
            return Result(getpeername(fd, address, al));
        }
    }

    /// <summary>Bytes waiting in a socket's receive queue (FIONREAD).</summary>
    public static SysResult Pending(int fd)
    {
        int value = 0;
        var result = Result(ioctl(fd, 0x541B, &value));
        return result.IsError ? result : new SysResult(value);
    }

    // Readiness.

    public static SysResult EpollCreate() => Result(epoll_create1(O_CLOEXEC));

    /// <summary>Adds, changes or removes a descriptor. The event structure is packed on x86-64 only.</summary>
    public static SysResult EpollControl(int epoll, int operation, int fd, uint events, ulong cookie)
    {
        byte* e = stackalloc byte[16];
        Unsafe.WriteUnaligned(e, events);
        Unsafe.WriteUnaligned(e + EpollDataOffset, cookie);
        return Result(epoll_ctl(epoll, operation, fd, e));
    }

    public static int EpollEventSize => RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 12 : 16;
    public static int EpollDataOffset => RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 4 : 8;

    /// <summary>Waits for events; blocks up to <paramref name="timeoutMs"/> (-1: for ever).</summary>
    public static SysResult EpollWait(int epoll, byte* events, int maxEvents, int timeoutMs)
    {
        int n = timeoutMs == 0 ? epoll_wait_now(epoll, events, maxEvents, 0) : epoll_wait(epoll, events, maxEvents,
            timeoutMs);
        return n < 0 ? Failed() : new SysResult(n);
    }

    public static SysResult EventFd() => Result(eventfd(0, O_NONBLOCK | O_CLOEXEC));

    /// <summary>For io_uring: a read waits for the signal.</summary>
    public static SysResult BlockingEventFd() => Result(eventfd(0, O_CLOEXEC));

    public static void EventFdSignal(int fd)
    {
        ulong one = 1;
        write(fd, (byte*)&one, 8);
    }

    public static void EventFdDrain(int fd)
    {
        ulong value;
        read(fd, (byte*)&value, 8);
    }

    // Files.

    /// <summary>Opens a path given as NUL-terminated bytes.</summary>
    public static SysResult Open(int directory, byte* path, int flags, int mode = 0)
    {
        while (true)
        {
            var result = Result(openat(directory, path, flags | O_CLOEXEC, mode));
            if (result.Value != -Errno.EINTR)
            {
                return result;
            }
        }
    }

    public static SysResult Open(string path, int flags, int mode = 0)
    {
        fixed (byte* p = NulTerminated(path))
        {
            return Open(AT_FDCWD, p, flags, mode);
        }
    }

    public static SysResult Status(int fd, out FileStatus status) => Status(fd, null, AT_EMPTY_PATH, out status);

    /// <summary>Status of a path (NUL-terminated bytes) below a directory descriptor; a null path means the
    /// descriptor itself.</summary>
    public static SysResult Status(int directory, byte* path, int flags, out FileStatus status)
    {
        byte empty = 0;
        byte* sx = stackalloc byte[256];
        var result = Result(statx(directory, path == null ? &empty : path, flags, 0x7FF, sx));
        if (result.IsError)
        {
            status = default;
            return result;
        }
        // struct statx has one layout on every architecture: mode @28, uid @20, ino @32, size @40, ctime @96, mtime
        // @112, dev @136.
        status = new FileStatus(
            *(ushort*)(sx + 28), *(long*)(sx + 40), *(long*)(sx + 112), *(uint*)(sx + 120), *(ulong*)(sx + 32),
            ((ulong)*(uint*)(sx + 136) << 32) | *(uint*)(sx + 140), *(uint*)(sx + 20))
        {
            ChangedSec = *(long*)(sx + 96),
            ChangedNsec = *(uint*)(sx + 104),
        };
        return result;
    }

    public static SysResult Status(string path, out FileStatus status)
    {
        fixed (byte* p = NulTerminated(path))
        {
            return Status(AT_FDCWD, p, 0, out status);
        }
    }

    public static SysResult ReadAt(int fd, byte* buffer, int length, long offset)
    {
        while (true)
        {
            var result = Result(pread(fd, buffer, (nuint)length, offset));
            if (result.Value != -Errno.EINTR)
            {
                return result;
            }
        }
    }

    /// <summary>Reads only what is in the page cache: EAGAIN where the disk would have to be asked (RWF_NOWAIT),
    /// EOPNOTSUPP where the file system cannot tell.</summary>
    public static SysResult ReadCachedAt(int fd, byte* buffer, int length, long offset)
    {
        var piece = new IoVec { Base = (nint)buffer, Length = (nuint)length };
        return Result(preadv2(fd, &piece, 1, offset, 8));
    }

    public static SysResult Read(int fd, byte* buffer, int length) => Result(read(fd, buffer, (nuint)length));

    public static SysResult Write(int fd, byte* buffer, int length)
    {
        while (true)
        {
            var result = Result(write(fd, buffer, (nuint)length));
            if (result.Value != -Errno.EINTR)
            {
                return result;
            }
        }
    }

    public static SysResult Send(int fd, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* p = bytes)
        {
            return Send(fd, p, bytes.Length, more: false);
        }
    }

    public static SysResult Write(int fd, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* p = bytes)
        {
            return Write(fd, p, bytes.Length);
        }
    }

    public static SysResult WriteAt(int fd, byte* buffer, int length, long offset) =>
        Result(pwrite(fd, buffer, (nuint)length, offset));

    public static SysResult WriteAt(int fd, NativeSlice bytes, long offset) => WriteAt(fd, bytes.Pointer,
        bytes.Length, offset);

    public static SysResult ReadAt(int fd, NativeSlice into, long offset) => ReadAt(fd, into.Pointer, into.Length,
        offset);

    public static SysResult ReadCachedAt(int fd, NativeSlice into, long offset) =>
        ReadCachedAt(fd, into.Pointer, into.Length, offset);

    /// <summary>Opens a path whose bytes are followed by a NUL.</summary>
    public static SysResult Open(NativeSlice nulTerminatedPath, int flags, int mode = 0) =>
        Open(AT_FDCWD, nulTerminatedPath.Pointer, flags, mode);

    /// <summary>Status of a path whose bytes are followed by a NUL.</summary>
    public static SysResult Status(NativeSlice nulTerminatedPath, bool followSymlink, out FileStatus status) =>
        Status(AT_FDCWD, nulTerminatedPath.Pointer, followSymlink ? 0 : AT_SYMLINK_NOFOLLOW, out status);

    public static SysResult Close(int fd) => Result(close(fd));

    public static SysResult Unlink(string path)
    {
        fixed (byte* p = NulTerminated(path))
        {
            return Result(unlink(p));
        }
    }

    // Clocks and randomness.

    /// <summary>Milliseconds of CLOCK_MONOTONIC.</summary>
    public static long MonotonicMs()
    {
        TimeSpec t;
        clock_gettime(1, &t);
        return t.Sec * 1000 + t.Nsec / 1_000_000;
    }

    /// <summary>Microseconds of CLOCK_MONOTONIC.</summary>
    public static long MonotonicUs()
    {
        TimeSpec t;
        clock_gettime(1, &t);
        return t.Sec * 1_000_000 + t.Nsec / 1000;
    }

    /// <summary>Milliseconds since 1970 UTC.</summary>
    public static long UnixMs()
    {
        TimeSpec t;
        clock_gettime(0, &t);
        return t.Sec * 1000 + t.Nsec / 1_000_000;
    }

    private struct TimeSpec
    {
        public long Sec;
        public long Nsec;
    }

    public static void Random(Span<byte> into)
    {
        fixed (byte* p = into)
        {
            getrandom(p, (nuint)into.Length, 0);
        }
    }

    internal static byte[] NulTerminated(string path)
    {
        var bytes = new byte[System.Text.Encoding.UTF8.GetByteCount(path) + 1];
        System.Text.Encoding.UTF8.GetBytes(path, bytes);
        return bytes;
    }

    [LibraryImport("libc"), SuppressGCTransition]
    private static partial nint recv(int fd, byte* buffer, nuint length, int flags);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial nint send(int fd, byte* buffer, nuint length, int flags);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial nint sendmsg(int fd, MsgHdr* message, int flags);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial nint recvfrom(int fd, byte* buffer, nuint length, int flags, byte* address,
        int* addressLength);
    [LibraryImport("libc")]
    private static partial nint sendfile(int socket, int file, long* offset, nuint count);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int accept4(int fd, byte* address, int* addressLength, int flags);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int socket(int family, int type, int protocol);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int connect(int fd, byte* address, uint length);
    [LibraryImport("libc")]
    private static partial int bind(int fd, byte* address, uint length);
    [LibraryImport("libc")]
    private static partial int listen(int fd, int backlog);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int shutdown(int fd, int how);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int setsockopt(int fd, int level, int option, void* value, uint length);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int getsockopt(int fd, int level, int option, void* value, int* length);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int getsockname(int fd, byte* address, int* length);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int getpeername(int fd, byte* address, int* length);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int ioctl(int fd, nuint request, void* value);
    [LibraryImport("libc")]
    private static partial int epoll_create1(int flags);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int epoll_ctl(int epoll, int operation, int fd, byte* e);
    [LibraryImport("libc")]
    private static partial int epoll_wait(int epoll, byte* events, int max, int timeout);
    [LibraryImport("libc", EntryPoint = "epoll_wait"), SuppressGCTransition]
    private static partial int epoll_wait_now(int epoll, byte* events, int max, int timeout);
    [LibraryImport("libc")]
    private static partial int eventfd(uint value, int flags);
    [LibraryImport("libc")]
    private static partial int openat(int directory, byte* path, int flags, int mode);
    [LibraryImport("libc")]
    private static partial int statx(int directory, byte* path, int flags, uint mask, byte* status);
    [LibraryImport("libc")]
    private static partial nint pread(int fd, byte* buffer, nuint length, long offset);
    [LibraryImport("libc")]
    private static partial nint preadv2(int fd, IoVec* pieces, int count, long offset, int flags);
    [LibraryImport("libc")]
    private static partial nint read(int fd, byte* buffer, nuint length);
    [LibraryImport("libc")]
    private static partial nint write(int fd, byte* buffer, nuint length);
    [LibraryImport("libc")]
    private static partial nint pwrite(int fd, byte* buffer, nuint length, long offset);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int close(int fd);
    [LibraryImport("libc")]
    private static partial int unlink(byte* path);
    [LibraryImport("libc"), SuppressGCTransition]
    private static partial int clock_gettime(int clock, TimeSpec* time);
    [LibraryImport("libc")]
    private static partial nint getrandom(byte* buffer, nuint length, uint flags);
}
