// What the cache manager does, in bounded steps: files that nobody used for a while go, then those used longest ago
// while the cache is too large or the disk too full, then those that a purge named. A file goes before its entry, so
// that a manager that is killed leaves at worst an entry without a file, which is noticed when it is used. The mark of
// a purge outlives its work by some seconds: what was asked for before the purge and comes to the disk after it is
// compared with it there, and what comes even later is not kept. A disk that does not answer is the caller's to
// report: its exceptions leave a step. Blocking; one thread at a time. The loader that finds the files of an earlier
// server is CacheLoader.
using System.IO.Enumeration;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;

namespace Weir.Http.Cache;

/// <summary>Keeps one cache within its bounds.</summary>
internal sealed class CacheManager(CachePath path, EventLoop? loop = null)
{
    private const long IdleMs = 1000, IdleMsMax = 10_000, LoadingMs = 100;

    private readonly CacheIndex _index = path.Index!;
    private IEnumerator<string>? _purging;

    // Numbers of purges, in their order: what the walk under way carries out, what one has carried out, what is in the
    // file that was taken aside, and what is taken out of memory and disk at a time; 0 for none.
    private uint _purgingUpTo, _purgedUpTo, _takenUpTo, _droppingUpTo;
    private long _dropsAtMs;

    /// <summary>So long the marks of a purge stay when it is carried out, milliseconds.</summary>
    internal long LingerMs { get; init; } = 5000;

    /// <summary>A step; the value is when the next should follow, milliseconds.</summary>
    internal long Step()
    {
        long startMs = Sys.MonotonicMs();
        CachePurge.EnsureMarks(path, _index);
        DropMarks(startMs);
        int files = 0;
        while (files < path.ManagerFiles && Sys.MonotonicMs() - startMs < path.ManagerThresholdMs)
        {
            if (!DropOne(out long idleMs))
            {
                return _purging is not null || _index.HasMarks && _index.Purges != _purgedUpTo ? PurgeStep(startMs)
                    : _droppingUpTo != 0 ? Math.Clamp(_dropsAtMs - startMs, 1, idleMs) : idleMs;
            }
            files++;
        }
        return path.ManagerSleepMs;
    }

    /// <summary>Removes one file that has to go; false when there is none.</summary>
    private bool DropOne(out long idleMs)
    {
        // While files of an earlier server come in by the thousand, there may soon be too many.
        idleMs = _index.IsLoaded ? IdleMs : LoadingMs;
        if (!_index.TryOldest(out CacheVictim victim))
        {
            idleMs = _index.IsLoaded ? IdleMsMax : LoadingMs;
            return false;
        }
        long idleSec = CacheClock.NowSec(loop) - victim.UsedSec;
        bool goes = idleSec > path.InactiveSec || _index.Bytes > path.MaxBytes
            || path.MinFreeBytes > 0 && Descriptors.FreeBytes(path.Directory) is { IsError: false } free
                && free.Value < path.MinFreeBytes;
        if (!goes)
        {
            return false;
        }
        Descriptors.Unlink(path.FileOf(victim.Key));
        _index.Remove(victim);
        return true;
    }

    // Purges.

    /// <summary>Looks into files for what purges named.</summary>
    private long PurgeStep(long startMs)
    {
        if (_purging is null)
        {
            bool isTaken = CachePurge.TakeMarks(path);
            _purgingUpTo = _index.Purges;
            _takenUpTo = isTaken || _takenUpTo == 0 ? _purgingUpTo : _takenUpTo;
            _purging = CacheLoader.Files(path).GetEnumerator();
        }
        Span<byte> head = stackalloc byte[CacheFileHead.HeadBytes];
        (int files, long sleepMs, long thresholdMs) = path.HasPurger
            ? (path.PurgerFiles, path.PurgerSleepMs, path.PurgerThresholdMs)
            : (path.ManagerFiles, path.ManagerSleepMs, path.ManagerThresholdMs);
        for (int i = 0; i < files && (i == 0 || Sys.MonotonicMs() - startMs < thresholdMs); i++)
        {
            if (!HasNext(_purging))
            {
                _purging.Dispose();
                _purging = null;
                _purgedUpTo = _purgingUpTo;
                if (_droppingUpTo == 0)
                {
                    DropLater(startMs);
                    DropMarks(startMs);
                }
                return sleepMs;
            }
            DropIfPurged(_purging.Current);
        }
        return sleepMs;
    }

    private void DropLater(long nowMs)
    {
        _droppingUpTo = _purgedUpTo;
        _dropsAtMs = nowMs + LingerMs;
    }

    /// <summary>Takes out the marks whose time has come.</summary>
    private void DropMarks(long nowMs)
    {
        if (_droppingUpTo == 0 || nowMs < _dropsAtMs)
        {
            return;
        }
        _index.DropMarks(_droppingUpTo);
        if ((int)(_takenUpTo - _droppingUpTo) <= 0)
        {
            CachePurge.DropTakenMarks(path);
            _takenUpTo = 0;
        }
        if (_purgedUpTo == _droppingUpTo)
        {
            _droppingUpTo = 0;
            return;
        }
        DropLater(nowMs);
    }

    /// <summary>An enumerator that has thrown goes on nowhere: the next step begins anew.</summary>
    private bool HasNext(IEnumerator<string> files)
    {
        try
        {
            return files.MoveNext();
        }
        catch
        {
            files.Dispose();
            _purging = null;
            throw;
        }
    }

    private void DropIfPurged(string file)
    {
        if (!CacheKey.TryParseName(System.Text.Encoding.ASCII.GetBytes(Path.GetFileName(file)), out CacheKey key)
            || !TryReadHead(file, out CacheFileHead head, out byte[] text))
        {
            return;
        }
        ReadOnlySpan<byte> all = text;
        ReadOnlySpan<byte> keyText = all.Slice(CacheFileHead.HeadBytes, head.KeyLength);
        ReadOnlySpan<byte> tags = all.Slice(
            CacheFileHead.HeadBytes + head.KeyLength + head.VaryLength + head.ResponseLength, head.TagsLength);
        if (_index.IsPurged(keyText, tags, head.StoredMs, loop?.UnixMs ?? Sys.UnixMs(), out uint _))
        {
            Descriptors.Unlink(file);
            _index.Forget(key, head.Id);
        }
    }

    private static bool TryReadHead(string file, out CacheFileHead head, out byte[] text)
    {
        head = default;
        text = new byte[4096];
        SysResult opened = Descriptors.OpenRead(file);
        if (opened.IsError)
        {
            return false;
        }
        int have = Descriptors.ReadAt(opened.Int, text, 0).Int;
        bool good = CacheFileHead.TryReadFixed(text.AsSpan(0, Math.Max(have, 0)), out head);
        if (good && head.BodyStart > have)
        {
            text = new byte[head.BodyStart];
            have = Descriptors.ReadAt(opened.Int, text, 0).Int;
        }
        Descriptors.Close(opened.Int);
        return good && CacheFileHead.TryRead(text.AsSpan(0, Math.Max(have, 0)), out head);
    }
}

/// <summary>Finds the files of an earlier server and makes their entries, in bounded steps; it opens none of them:
/// names and sizes say enough. Until it has been through, workers look for files themselves.</summary>
internal sealed class CacheLoader(CachePath path, EventLoop? loop = null)
{
    private const long TempAgeSec = 600;

    private IEnumerator<Found>? _files;

    /// <summary>A file of the cache's directory.</summary>
    private readonly record struct Found(string Name, string Directory, long Bytes, DateTimeOffset Modified);

    /// <summary>Files seen.</summary>
    internal long Count { get; private set; }

    /// <summary>A step; true when all files have been seen. <see cref="IOException"/> and
    /// <see cref="UnauthorizedAccessException"/> when the directory cannot be read.</summary>
    internal bool Step()
    {
        CacheIndex index = path.Index!;
        if (index.IsLoaded)
        {
            return true;
        }
        long startMs = Sys.MonotonicMs();
        long nowSec = Sys.UnixMs() / 1000;
        _files ??= All().GetEnumerator();
        for (int files = 0; files < path.LoaderFiles; files++)
        {
            if (!_files.MoveNext())
            {
                Abandon();
                return true;
            }
            Take(_files.Current, index, nowSec);
            if ((files & 31) == 31 && Sys.MonotonicMs() - startMs >= path.LoaderThresholdMs)
            {
                break;
            }
        }
        return false;
    }

    /// <summary>No more files are looked for.</summary>
    internal void Abandon()
    {
        _files?.Dispose();
        _files = null;
        path.Index!.IsLoaded = true;
    }

    private void Take(Found file, CacheIndex index, long nowSec)
    {
        Count++;
        Span<byte> name = stackalloc byte[CacheKey.NameLength];
        if (file.Name.Length == CacheKey.NameLength
            && System.Text.Encoding.ASCII.GetBytes(file.Name, name) == name.Length
            && CacheKey.TryParseName(name, out CacheKey key) && IsInPlace(key, file.Directory))
        {
            index.Load(key, file.Bytes, CacheClock.NowSec(loop));
        }
        else if (IsAbandoned(file, nowSec))
        {
            Descriptors.Unlink($"{file.Directory}/{file.Name}");
        }
    }

    /// <summary>A file under construction that nobody has touched for long: its writer is dead.</summary>
    private static bool IsAbandoned(Found file, long nowSec) => file.Name.Count(static c => c == '.') >= 2
        && file.Name.All(static c => c is '.' or 'm' || char.IsAsciiHexDigitLower(c))
        && nowSec - file.Modified.ToUnixTimeSeconds() > TempAgeSec;

    private bool IsInPlace(CacheKey key, string directory)
    {
        string place = path.FileOf(key);
        return place.AsSpan(0, place.LastIndexOf('/')).SequenceEqual(directory.AsSpan().TrimEnd('/'));
    }

    private static EnumerationOptions Options => new()
    {
        RecurseSubdirectories = true, IgnoreInaccessible = true, AttributesToSkip = FileAttributes.ReparsePoint,
        MaxRecursionDepth = 3,
    };

    // Whether there is a directory is not asked before: it may go, or become a file, between the question and its
    // opening.
    private FileSystemEnumerable<Found> All() => new(
        path.Directory, static (ref FileSystemEntry e) =>
            new Found(e.FileName.ToString(), e.Directory.ToString(), e.Length, e.LastWriteTimeUtc), Options)
    {
        ShouldIncludePredicate = static (ref FileSystemEntry e) => !e.IsDirectory,
    };

    /// <summary>The paths of all files that have the name of a key.</summary>
    internal static FileSystemEnumerable<string> Files(CachePath path) =>
        new(path.Directory, static (ref FileSystemEntry e) => e.ToFullPath(), Options)
        {
            ShouldIncludePredicate = static (ref FileSystemEntry e) =>
                !e.IsDirectory && e.FileName.Length == CacheKey.NameLength,
        };
}

/// <summary>The clock by which uses are timed: monotonic, so that a wall clock that is set ages nothing.</summary>
internal static class CacheClock
{
    /// <summary>The loop's, as requests count by it; without a loop the machine's.</summary>
    internal static long NowSec(EventLoop? loop) => (loop?.NowMs ?? Sys.MonotonicMs()) / 1000;
}
