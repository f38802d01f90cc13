// Opening what a path names, for every module that serves files: status and descriptor in one step, the rules of
// disable_symlinks, nginx's statuses and log lines for what fails. A descriptor found here belongs to the caller.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;

namespace Weir.Http.Modules;

/// <summary>What a path turned out to be.</summary>
internal struct FoundFile
{
    /// <summary>0, or the error number of the call that failed.</summary>
    internal int Error;

    /// <summary>The call that failed, as nginx's log names it.</summary>
    internal string? Call;

    internal FileStatus Status;

    /// <summary>The open file, with a reference of the caller's; null for directories, failures and mere
    /// questions.</summary>
    internal FileRef? File;

    /// <summary>All bytes of the file instead of a descriptor, with a reference of the caller's.</summary>
    internal BufferSlab? Content;

    internal void Release()
    {
        File?.Release();
        File = null;
        Content?.Release();
        Content = null;
    }

    internal readonly bool IsDirectory => Error == 0 && Status.IsDirectory;
    internal readonly bool IsRegular => Error == 0 && Status.IsRegular;

    internal static FoundFile Failed(int errno, string call) => new() { Error = errno, Call = call };
}

/// <summary>Opens files for requests.</summary>
internal static class FileOpen
{
    /// <summary>Opens a path (NUL behind it) for reading.</summary>
    internal static FoundFile Open(HttpRequest r, NativeSlice path)
    {
        SymlinkPolicy policy = r.Location.DisableSymlinks.Value;
        if (policy != SymlinkPolicy.Off)
        {
            return SymlinkWalk.Open(path, policy, TrustedPrefix(r, path), Sys.O_RDONLY | Sys.O_NONBLOCK);
        }
        if (r.Location.FileCache is { } rules && FileCache.Of(r, rules.Cache) is { } cache)
        {
            return cache.Open(rules, path);
        }
        return OpenUncached(path);
    }

    internal static FoundFile OpenUncached(NativeSlice path)
    {
        SysResult opened = Sys.Open(path, Sys.O_RDONLY | Sys.O_NONBLOCK);
        return opened.IsError ? FoundFile.Failed(opened.Errno, "open()") : Describe(opened.Int);
    }

    /// <summary>Asks what a path is without opening it.</summary>
    internal static FoundFile Test(HttpRequest r, NativeSlice path)
    {
        SymlinkPolicy policy = r.Location.DisableSymlinks.Value;
        if (policy != SymlinkPolicy.Off)
        {
            FoundFile walked = SymlinkWalk.Open(path, policy, TrustedPrefix(r, path), Sys.O_PATH);
            walked.File?.Release();
            walked.File = null;
            return walked;
        }
        if (r.Location.FileCache is { Cache.KeepsDescriptors: true } rules && FileCache.Of(r, rules.Cache) is { } cache)
        {
            return cache.Test(rules, path);
        }
        FoundFile found = default;
        SysResult result = Sys.Status(path, followSymlink: true, out found.Status);
        if (result.IsError)
        {
            found.Error = result.Errno;
            found.Call = "stat()";
        }
        return found;
    }

    /// <summary>Takes over a fresh descriptor: its status, and the descriptor itself when it is a file.</summary>
    internal static FoundFile Describe(int fd)
    {
        FoundFile found = default;
        SysResult result = Sys.Status(fd, out found.Status);
        if (result.IsError || found.Status.IsDirectory)
        {
            Sys.Close(fd);
            if (result.IsError)
            {
                found.Error = result.Errno;
                found.Call = "fstat()";
            }
            return found;
        }
        found.File = FileRef.Own(fd);
        return found;
    }

    /// <summary>Bytes of the path that disable_symlinks' from= trusts.</summary>
    private static int TrustedPrefix(HttpRequest r, NativeSlice path)
    {
        if (r.Location.DisableSymlinksFrom.Value is not { } template)
        {
            return 0;
        }
        ReadOnlySpan<byte> from = template.Evaluate(r).Span;
        if (from.IsEmpty || !path.Span.StartsWith(from))
        {
            return 0;
        }
        if (from.Length == path.Length)
        {
            return from.Length;
        }
        return from[^1] == '/' ? from.Length - 1 : path.Span[from.Length] == '/' ? from.Length : 0;
    }

    /// <summary>The status for a failure, logged as nginx does.</summary>
    internal static int Report(HttpRequest r, in FoundFile found, NativeSlice path)
    {
        LogLevel level = LogLevel.Error;
        int status;
        switch (found.Error)
        {
            case Errno.ENOENT or Errno.ENOTDIR or Errno.ENAMETOOLONG:
                status = 404;
                break;
            case Errno.EACCES or Errno.EMLINK or Errno.ELOOP:
                status = 403;
                break;
            default:
                level = LogLevel.Crit;
                status = 500;
                break;
        }
        if (status != 404 || r.Location.LogNotFound.Value)
        {
            Log(r, level, in found, path);
        }
        return status;
    }

    internal static void Log(HttpRequest r, LogLevel level, in FoundFile found, NativeSlice path)
    {
        if (r.Logs(level))
        {
            r.LogError(level, $"{found.Call} \"{path}\" failed", found.Error);
        }
    }
}

/// <summary>disable_symlinks: opens a path component by component, so that no link on the way is followed
/// unseen.</summary>
internal static class SymlinkWalk
{
    private const string Call = "openat()";

    internal static FoundFile Open(NativeSlice path, SymlinkPolicy policy, int trusted, int flags)
    {
        if (path.IsEmpty)
        {
            return FoundFile.Failed(Errno.ENOENT, Call);
        }
        int directory = Sys.AT_FDCWD;
        int at = 0;
        SysResult opened;
        if (trusted >= path.Length)
        {
            opened = Sys.Open(path, flags);
            return opened.IsError ? FoundFile.Failed(opened.Errno, Call) : FileOpen.Describe(opened.Int);
        }
        if (trusted > 0)
        {
            path.Span[trusted] = 0;
            opened = Sys.Open(path.Slice(0, trusted), Sys.O_PATH | Sys.O_DIRECTORY);
            path.Span[trusted] = (byte)'/';
            at = trusted + 1;
        }
        else if (path.Span[0] == '/')
        {
            opened = Sys.Open(NativeSlice.Literal("/\0"u8), Sys.O_PATH | Sys.O_DIRECTORY);
            at = 1;
        }
        else
        {
            opened = Sys.Open(NativeSlice.Literal(".\0"u8), Sys.O_PATH | Sys.O_DIRECTORY);
        }
        while (true)
        {
            if (opened.IsError)
            {
                return FoundFile.Failed(opened.Errno, Call);
            }
            directory = opened.Int;
            int slash = path.Span[at..].IndexOf((byte)'/');
            if (slash < 0)
            {
                break;
            }
            if (slash == 0)
            {
                at++;
                continue;
            }
            path.Span[at + slash] = 0;
            opened = OpenOne(directory, path.Slice(at, slash), Sys.O_PATH | Sys.O_DIRECTORY, policy);
            path.Span[at + slash] = (byte)'/';
            Sys.Close(directory);
            at += slash + 1;
        }
        // A trailing slash names the directory itself.
        NativeSlice last = at == path.Length ? NativeSlice.Literal(".\0"u8) : path.Slice(at);
        opened = OpenOne(directory, last, flags, policy);
        Sys.Close(directory);
        return opened.IsError ? FoundFile.Failed(opened.Errno, Call) : FileOpen.Describe(opened.Int);
    }

    private static SysResult OpenOne(int directory, NativeSlice name, int flags, SymlinkPolicy policy)
    {
        if (policy == SymlinkPolicy.On)
        {
            return OpenNoFollow(directory, name, flags);
        }
        SysResult opened = Sys.OpenAt(directory, name, flags);
        if (opened.IsError)
        {
            return opened;
        }
        SysResult link = Sys.StatusAt(directory, name, followSymlink: false, out FileStatus named);
        if (link.IsOk)
        {
            link = Sys.Status(opened.Int, out FileStatus target);
            if (link.IsOk && named.Uid != target.Uid)
            {
                link = SysResult.Error(Errno.ELOOP);
            }
        }
        if (link.IsError)
        {
            Sys.Close(opened.Int);
            return link;
        }
        return opened;
    }

    /// <summary>A directory's link fails with ENOTDIR (404, as in nginx), a last one with ELOOP (403); O_PATH alone
    /// would open the link itself.</summary>
    private static SysResult OpenNoFollow(int directory, NativeSlice name, int flags)
    {
        SysResult opened = Sys.OpenAt(directory, name, flags | Sys.O_NOFOLLOW);
        if (opened.IsOk && (flags & Sys.O_PATH) != 0 && Sys.Status(opened.Int, out FileStatus status).IsOk
            && status.IsSymlink)
        {
            Sys.Close(opened.Int);
            return SysResult.Error(Errno.ELOOP);
        }
        return opened;
    }
}
