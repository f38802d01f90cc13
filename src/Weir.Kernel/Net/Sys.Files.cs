// System calls on files that only the file-serving side makes: opening below a directory, what the page cache holds,
// reading a directory, the real path of a name. May block where noted; the caller decides where they run.
using System.Runtime.InteropServices;

namespace Weir.Kernel.Net;

public static unsafe partial class Sys
{
    /// <summary>Longest path the kernel takes, its NUL included.</summary>
    public const int PathBytesMax = 4096;

    /// <summary>Opens a name (NUL behind its bytes) below a directory descriptor.</summary>
    public static SysResult OpenAt(int directory, NativeSlice nulTerminatedName, int flags, int mode = 0) =>
        Open(directory, nulTerminatedName.Pointer, flags, mode);

    /// <summary>Status of a name (NUL behind its bytes) below a directory descriptor.</summary>
    public static SysResult StatusAt(int directory, NativeSlice nulTerminatedName, bool followSymlink,
        out FileStatus status) =>
        Status(directory, nulTerminatedName.Pointer, followSymlink ? 0 : AT_SYMLINK_NOFOLLOW, out status);

    private struct CacheRange
    {
        public ulong Offset;
        public ulong Length;
    }

    private struct CacheCounts
    {
        public ulong Cached;
        public ulong Dirty;
        public ulong Writeback;
        public ulong Evicted;
        public ulong RecentlyEvicted;
    }

    /// <summary>How many pages of a range the page cache holds (cachestat, Linux 6.5). ENOSYS on older kernels. Never
    /// blocks.</summary>
    public static SysResult CachedPages(int fd, long offset, long length)
    {
        CacheRange range = new() { Offset = (ulong)offset, Length = (ulong)length };
        CacheCounts counts;
        SysResult result = Result(syscall_cachestat(CachestatNumber, fd, &range, &counts, 0));
        return result.IsError ? result : new SysResult((long)counts.Cached);
    }

    /// <summary>Fills a buffer with raw directory entries; 0 at the end. May block.</summary>
    public static SysResult ReadDirectory(int fd, NativeSlice into) =>
        Result(syscall_getdents64(GetdentsNumber, fd, into.Pointer, (nuint)into.Length));

    /// <summary>The absolute path without symlinks; <paramref name="into"/> holds at least
    /// <see cref="PathBytesMax"/> bytes. May block.</summary>
    public static SysResult RealPath(NativeSlice nulTerminatedPath, NativeSlice into)
    {
        nint end = realpath(nulTerminatedPath.Pointer, into.Pointer);
        if (end == 0)
        {
            return Failed();
        }
        return new SysResult(into.Span.IndexOf((byte)0));
    }

    // Both numbers are those of every architecture that .NET runs on, x86-64's getdents64 excepted.
    private const nint CachestatNumber = 451;
    private static nint GetdentsNumber => RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 217 : 61;

    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint syscall_cachestat(nint number, nint fd, CacheRange* range, CacheCounts* counts,
        nint flags);
    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint syscall_getdents64(nint number, nint fd, byte* buffer, nuint length);
    [LibraryImport("libc")]
    private static partial nint realpath(byte* path, byte* resolved);
}
