// Plain descriptors of the control plane: open a log, copy or replace a descriptor, poll a few, read a small file.
// Everything it makes is close-on-exec by construction. Blocking; for masters and start-up, not for a loop's data path.
// The caller owns every descriptor it is given.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>What <see cref="Descriptors.Poll"/> waits for and reports (struct pollfd).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct PollEntry(int fd, short events)
{
    public const short Readable = 1, Writable = 4, Error = 8, HangUp = 16;

    public int Fd = fd;
    public short Events = events;
    public short Returned;
}

/// <summary>Device and inode of what a descriptor names.</summary>
public readonly record struct DescriptorIdentity(long Device, long Inode);

/// <summary>Calls on plain descriptors. Errors are values.</summary>
public static unsafe class Descriptors
{
    private const int O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0x40, O_TRUNC = 0x200, O_APPEND = 0x400,
        O_NONBLOCK = 0x800, O_CLOEXEC = 0x80000;

    private const int F_GETFD = 1, F_SETFD = 2, F_GETFL = 3, F_SETFL = 4, F_DUPFD_CLOEXEC = 1030, FD_CLOEXEC = 1;

    public static SysResult Close(int fd) => LibcProcess.Of(LibcProcess.close(fd));

    /// <summary>Reads, retrying when interrupted.</summary>
    public static SysResult Read(int fd, Span<byte> buffer)
    {
        fixed (byte* p = buffer)
        {
            SysResult result;
            do
            {
                result = LibcProcess.Of(LibcProcess.read(fd, p, buffer.Length));
            }
            while (result.Errno == Errno.EINTR);
            return result;
        }
    }

    public static SysResult ReadAt(int fd, Span<byte> buffer, long offset)
    {
        fixed (byte* p = buffer)
        {
            SysResult result;
            do
            {
                result = LibcProcess.Of(LibcProcess.pread(fd, p, buffer.Length, offset));
            }
            while (result.Errno == Errno.EINTR);
            return result;
        }
    }

    /// <summary>One write, retried only when interrupted.</summary>
    public static SysResult Write(int fd, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* p = bytes)
        {
            SysResult result;
            do
            {
                result = LibcProcess.Of(LibcProcess.write(fd, p, bytes.Length));
            }
            while (result.Errno == Errno.EINTR);
            return result;
        }
    }

    /// <summary>Writes all bytes; a short write goes on, an error ends it.</summary>
    public static SysResult WriteAll(int fd, ReadOnlySpan<byte> bytes)
    {
        long total = bytes.Length;
        while (bytes.Length > 0)
        {
            SysResult result = Write(fd, bytes);
            if (result.IsError)
            {
                return result;
            }
            bytes = bytes[result.Int..];
        }
        return new SysResult(total);
    }

    /// <summary>A log file: for appending, made 0644 when missing.</summary>
    public static SysResult OpenAppend(string path) => Open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0x1a4);

    /// <summary>A file to be written anew (0644).</summary>
    public static SysResult OpenTruncate(string path) => Open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0x1a4);

    public static SysResult OpenRead(string path) => Open(path, O_CLOEXEC, 0);

    public static SysResult OpenReadWrite(string path) => Open(path, O_RDWR | O_CLOEXEC, 0);

    /// <summary>A copy with a number of at least <paramref name="atLeast"/>, close-on-exec.</summary>
    public static SysResult Duplicate(int fd, int atLeast = 3) =>
        LibcProcess.Of(LibcProcess.fcntl(fd, F_DUPFD_CLOEXEC, atLeast));

    /// <summary>
    /// Makes the number <paramref name="target"/> mean what <paramref name="source"/> means, atomically.
    /// </summary>
    public static SysResult Replace(int source, int target, bool inheritable = false) =>
        LibcProcess.Of(LibcProcess.dup3(source, target, inheritable ? 0 : O_CLOEXEC));

    public static SysResult SetCloseOnExec(int fd, bool on)
    {
        SysResult flags = LibcProcess.Of(LibcProcess.fcntl(fd, F_GETFD, 0));
        return flags.IsError
            ? flags
            : LibcProcess.Of(LibcProcess.fcntl(fd, F_SETFD, on ? flags.Int | FD_CLOEXEC : flags.Int & ~FD_CLOEXEC));
    }

    public static SysResult SetNonBlocking(int fd)
    {
        SysResult flags = LibcProcess.Of(LibcProcess.fcntl(fd, F_GETFL, 0));
        return flags.IsError ? flags : LibcProcess.Of(LibcProcess.fcntl(fd, F_SETFL, flags.Int | O_NONBLOCK));
    }

    public static SysResult SetBlocking(int fd)
    {
        SysResult flags = LibcProcess.Of(LibcProcess.fcntl(fd, F_GETFL, 0));
        return flags.IsError ? flags : LibcProcess.Of(LibcProcess.fcntl(fd, F_SETFL, flags.Int & ~O_NONBLOCK));
    }

    public static bool IsOpen(int fd) => LibcProcess.fcntl(fd, F_GETFD, 0) >= 0;

    /// <summary>A pipe: the reading and the writing end.</summary>
    public static SysResult Pipe(out int readFd, out int writeFd)
    {
        int* fds = stackalloc int[2];
        SysResult result = LibcProcess.Of(LibcProcess.pipe2(fds, O_CLOEXEC));
        (readFd, writeFd) = result.IsOk ? (fds[0], fds[1]) : (-1, -1);
        return result;
    }

    /// <summary>poll(2). EINTR is returned as 0 ready: callers loop anyway.</summary>
    public static SysResult Poll(Span<PollEntry> entries, int timeoutMs)
    {
        fixed (PollEntry* p = entries)
        {
            SysResult result = LibcProcess.Of(LibcProcess.poll(p, (nuint)entries.Length, timeoutMs));
            if (result.Errno == Errno.EINTR)
            {
                foreach (ref PollEntry entry in entries)
                {
                    entry.Returned = 0;
                }
                return default;
            }
            return result;
        }
    }

    public static SysResult Unlink(string path)
    {
        using var p = new CString(path);
        return LibcProcess.Of(LibcProcess.unlink(p.Pointer));
    }

    public static SysResult Rename(string from, string to)
    {
        using var f = new CString(from);
        using var t = new CString(to);
        return LibcProcess.Of(LibcProcess.rename(f.Pointer, t.Pointer));
    }

    /// <summary>Waits until what was written is on the disk. Blocks.</summary>
    public static SysResult Synchronize(int fd) => LibcProcess.Of(LibcProcess.fdatasync(fd));

    /// <summary>Makes a directory with the given mode; EEXIST is an error value like any other.</summary>
    public static SysResult MakeDirectory(string path, uint mode)
    {
        using var p = new CString(path);
        return LibcProcess.Of(LibcProcess.mkdir(p.Pointer, mode));
    }

    /// <summary>Sets when a file was modified (and read), seconds since 1970.</summary>
    public static SysResult SetModified(int fd, long unixSeconds)
    {
        long* times = stackalloc long[4] { unixSeconds, 0, unixSeconds, 0 };
        return LibcProcess.Of(LibcProcess.futimens(fd, times));
    }

    /// <summary>Bytes that are free for everybody in the file system of a path; the value may be large.</summary>
    public static SysResult FreeBytes(string path)
    {
        // struct statvfs begins with f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, eight bytes each.
        ulong* status = stackalloc ulong[32];
        using var p = new CString(path);
        SysResult result = LibcProcess.Of(LibcProcess.statvfs(p.Pointer, status));
        return result.IsError ? result : new SysResult((long)Math.Min(status[1] * status[4], long.MaxValue));
    }

    public static SysResult ChangeMode(string path, uint mode)
    {
        using var p = new CString(path);
        return LibcProcess.Of(LibcProcess.chmod(p.Pointer, mode));
    }

    /// <summary>Gives a file to another user; the group stays.</summary>
    public static SysResult ChangeOwner(string path, uint uid)
    {
        using var p = new CString(path);
        return LibcProcess.Of(LibcProcess.chown(p.Pointer, uid, uint.MaxValue));
    }

    /// <summary>Which kernel object a descriptor names; two descriptors of one object compare equal.</summary>
    public static DescriptorIdentity Identity(int fd)
    {
        // struct stat begins with st_dev and st_ino, eight bytes each, on every 64-bit Linux.
        long* stat = stackalloc long[32];
        return LibcProcess.fstat(fd, stat) == 0 ? new DescriptorIdentity(stat[0], stat[1]) : default;
    }

    private static SysResult Open(string path, int flags, uint mode)
    {
        using var p = new CString(path);
        SysResult result;
        do
        {
            result = LibcProcess.Of(LibcProcess.open(p.Pointer, flags, mode));
        }
        while (result.Errno == Errno.EINTR);
        return result;
    }
}
