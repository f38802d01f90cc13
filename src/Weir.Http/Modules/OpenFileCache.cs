// open_file_cache and its companions: what paths turned out to be, kept per loop. Descriptors are kept as in nginx;
// of small files the bytes themselves are kept, so that a warm file costs no system call but the send. Without the
// directive a file's bytes are kept too, but a path is asked for its status on every request, so that what is sent is
// always what the file is. Entries die with their configuration, by age, and by number and bytes at most.
using System.Buffers.Binary;
using Weir.Conf;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;

namespace Weir.Http.Modules;

/// <summary>`open_file_cache`: one cache; locations that inherit it share it.</summary>
internal sealed class FileCacheConf(int entriesMax, long inactiveMs, bool keepsDescriptors, long contentBytesMax)
{
    internal int EntriesMax { get; } = entriesMax;
    internal long InactiveMs { get; } = inactiveMs;
    internal bool KeepsDescriptors { get; } = keepsDescriptors;
    internal long ContentBytesMax { get; } = contentBytesMax;

    /// <summary>Its configuration is no longer current: what still runs does without.</summary>
    internal bool IsRetired { get; set; }

    /// <summary>The loop's cache that was used last.</summary>
    internal FileCache? LastUsed { get; set; }
}

/// <summary>How one location uses a cache.</summary>
internal sealed class FileCacheRules(FileCacheConf cache, long validMs, int minUses, bool cachesErrors)
{
    internal FileCacheConf Cache { get; } = cache;
    internal long ValidMs { get; } = validMs;
    internal int MinUses { get; } = minUses;
    internal bool CachesErrors { get; } = cachesErrors;
}

internal sealed class OpenFileCacheSettings
{
    /// <summary>Null for `off`.</summary>
    internal Inherited<FileCacheConf?> Cache;
    internal Inherited<long> ValidSec;
    internal Inherited<int> MinUses;
    internal Inherited<bool> Errors;
    internal Inherited<bool> Events;
}

internal sealed class OpenFileCacheModule : HttpModule<OpenFileCacheSettings>
{
    private const long ContentBytesMax = 64 * 1024 * 1024;
    private const long CheckedContentBytesMax = 16 * 1024 * 1024;
    private const int CheckedEntriesMax = 2048;
    private const long InactiveMsDefault = 60_000;

    public override string Name => "http_open_file_cache";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<OpenFileCacheSettings>("open_file_cache", SetCache);
        d.Location<OpenFileCacheSettings>("open_file_cache_valid", static (u, s) => u.SetSec(ref s.ValidSec));
        d.Location<OpenFileCacheSettings>("open_file_cache_min_uses", static (u, s) => u.SetNumber(ref s.MinUses));
        d.Location<OpenFileCacheSettings>("open_file_cache_errors", static (u, s) => u.SetFlag(ref s.Errors));
        d.Location<OpenFileCacheSettings>("open_file_cache_events", static (u, s) => u.SetFlag(ref s.Events));
    }

    private static void SetCache(DirectiveUse use, OpenFileCacheSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.Cache))
        {
            return;
        }
        long entries = 0;
        long inactive = InactiveMsDefault / 1000;
        for (int i = 0; i < use.Count; i++)
        {
            bool good = use[i] == "off"
                || use[i].StartsWith("max=", StringComparison.Ordinal)
                    && ConfValues.TryNumber(use[i].AsSpan(4), out entries) && entries > 0
                || use[i].StartsWith("inactive=", StringComparison.Ordinal)
                    && ConfValues.TrySec(use[i].AsSpan(9), out inactive);
            if (!good)
            {
                use.Error(i, $"invalid \"open_file_cache\" parameter \"{use[i]}\"");
                return;
            }
            if (use[i] == "off")
            {
                settings.Cache.Set(null);
                return;
            }
        }
        if (entries == 0)
        {
            use.Error($"\"{use.Name}\" must have the \"max\" parameter");
            return;
        }
        settings.Cache.Set(NewCache(use.Build, (int)Math.Min(entries, int.MaxValue), inactive * 1000, true,
            ContentBytesMax));
    }

    private static FileCacheConf NewCache(HttpBuild build, int entries, long inactiveMs, bool keepsDescriptors,
        long contentBytes)
    {
        var cache = new FileCacheConf(entries, inactiveMs, keepsDescriptors, contentBytes);
        build.Configuration.OnRetire(() => FileCache.Drop(cache));
        return cache;
    }

    protected override void Merge(HttpBuild build, OpenFileCacheSettings parent, OpenFileCacheSettings child)
    {
        child.Cache.Merge(in parent.Cache, null);
        child.ValidSec.Merge(in parent.ValidSec, 60);
        child.MinUses.Merge(in parent.MinUses, 1);
        child.Errors.Merge(in parent.Errors, false);
        // Only kqueue reports changes of open files; on Linux the flag has no effect, in nginx neither.
        child.Events.Merge(in parent.Events, false);
    }

    public override void InstallLocation(LocationInstall install)
    {
        OpenFileCacheSettings settings = Settings(install.Location);
        install.Location.FileCache = settings.Cache.Value is { } cache
            ? install.Shared(settings, s => new FileCacheRules(cache, s.ValidSec.Value * 1000, s.MinUses.Value,
                s.Errors.Value))
            : Checked(install.Build);
    }

    private static FileCacheRules Checked(HttpBuild build)
    {
        HttpConfiguration configuration = build.Configuration;
        return configuration.CheckedFiles ??= new FileCacheRules(
            NewCache(build, CheckedEntriesMax, InactiveMsDefault, false, CheckedContentBytesMax), 0, 1, false);
    }
}

/// <summary>What is known of a path.</summary>
internal sealed class CachedFile
{
    internal byte[] Path = [];
    internal int Hash;
    internal CachedFile? NextInBucket;
    internal CachedFile? Older;
    internal CachedFile? Newer;

    internal FileStatus Status;
    internal int Error;
    internal string? Call;
    internal FileRef? File;
    internal BufferSlab? Content;
    internal long CheckedMs;
    internal long UsedMs;
    internal int Uses;

    /// <summary>The file had been left alone for a while when its bytes were read: equal times mean equal
    /// bytes.</summary>
    internal bool IsSettled;
}

/// <summary>One cache on one loop.</summary>
internal sealed class FileCache
{
    private const int SettledMs = 1000;
    private const int EvictionsPerLookup = 2;

    private static readonly LoopSlot<Dictionary<FileCacheConf, FileCache>> s_slot = new();

    private readonly EventLoop _loop;
    private readonly FileCacheConf _conf;
    private CachedFile?[] _buckets = new CachedFile?[64];
    private CachedFile? _newest;
    private CachedFile? _oldest;
    private CachedFile? _free;
    private int _count;
    private long _contentBytes;

    private FileCache(EventLoop loop, FileCacheConf conf)
    {
        _loop = loop;
        _conf = conf;
    }

    /// <summary>The cache for a request; null when there is none.</summary>
    internal static FileCache? Of(HttpRequest r, FileCacheConf conf)
    {
        if (conf.IsRetired)
        {
            return null;
        }
        // With one loop to a process, as always in the executable, the configuration remembers whom it was asked by.
        FileCache? last = conf.LastUsed;
        if (last is not null && last._loop == r.Loop)
        {
            return last;
        }
        Dictionary<FileCacheConf, FileCache> caches = r.Loop.Slot(s_slot, static _ => []);
        if (!caches.TryGetValue(conf, out FileCache? cache))
        {
            cache = new FileCache(r.Loop, conf);
            caches.Add(conf, cache);
        }
        conf.LastUsed = cache;
        return cache;
    }

    /// <summary>The configuration was replaced: everything is given back.</summary>
    internal static void Drop(FileCacheConf conf)
    {
        conf.IsRetired = true;
        conf.LastUsed = null;
        if (EventLoop.Current?.Slot(s_slot, static _ => []).Remove(conf, out FileCache? cache) == true)
        {
            while (cache._oldest is { } entry)
            {
                cache.Remove(entry);
            }
        }
    }

    /// <summary>What a path is, with its bytes or descriptor when it is a file; references are the caller's.</summary>
    internal FoundFile Open(FileCacheRules rules, NativeSlice path)
    {
        CachedFile? entry = Lookup(rules, path);
        if (entry is null || entry.Error == 0 && entry.Status.IsRegular && entry.File is null && entry.Content is null)
        {
            return Load(rules, path, entry);
        }
        return Answer(entry);
    }

    /// <summary>What a path is, without opening it.</summary>
    internal FoundFile Test(FileCacheRules rules, NativeSlice path)
    {
        if (Lookup(rules, path) is { } known)
        {
            FoundFile found = Answer(known);
            found.Release();
            return found;
        }
        FoundFile tested = default;
        SysResult result = Sys.Status(path, followSymlink: true, out tested.Status);
        if (result.IsError)
        {
            tested.Error = result.Errno;
            tested.Call = "stat()";
        }
        if (tested.Error == 0 || rules.CachesErrors)
        {
            Describe(Add(path), in tested);
        }
        return tested;
    }

    private static FoundFile Answer(CachedFile entry)
    {
        var found = new FoundFile
        {
            Error = entry.Error,
            Call = entry.Call,
            Status = entry.Status,
            File = entry.File,
            Content = entry.Content,
        };
        found.File?.AddReference();
        found.Content?.AddReference();
        return found;
    }

    /// <summary>The entry of a path, when it may still be believed.</summary>
    private CachedFile? Lookup(FileCacheRules rules, NativeSlice path)
    {
        long now = _loop.NowMs;
        ExpireOldest(now);
        CachedFile? entry = Find(path.Span);
        if (entry is null)
        {
            return null;
        }
        Touch(entry, now);
        if (rules.ValidMs > 0 && now - entry.CheckedMs <= rules.ValidMs)
        {
            return entry.Error != 0 && !rules.CachesErrors ? null : entry;
        }
        SysResult result = Sys.Status(path, followSymlink: true, out FileStatus status);
        bool same = result.IsError ? result.Errno == entry.Error && rules.CachesErrors
            : entry.Error == 0 && entry.Status == status && (entry.IsSettled || entry.Content is null);
        if (same)
        {
            entry.CheckedMs = now;
            return entry;
        }
        Remove(entry);
        return null;
    }

    /// <summary>Opens the path and keeps what may be kept of it.</summary>
    private FoundFile Load(FileCacheRules rules, NativeSlice path, CachedFile? entry)
    {
        FoundFile found = FileOpen.OpenUncached(path);
        if (found.Error != 0)
        {
            if (rules.CachesErrors)
            {
                Describe(entry ?? Add(path), in found);
            }
            else if (entry is not null)
            {
                Remove(entry);
            }
            return found;
        }
        // Where the descriptor is at hand, sendfile costs less than a copy much earlier.
        long memoryMax = _conf.KeepsDescriptors ? FileSender.CopyBytesMax : FileSender.MemoryBytesMax;
        bool isSmall = found.Status.IsRegular && found.Status.Size > 0 && found.Status.Size <= memoryMax;
        if (!_conf.KeepsDescriptors && !isSmall)
        {
            // Checked on every request anyway: nothing would be saved.
            if (entry is not null)
            {
                Remove(entry);
            }
            return found;
        }
        entry ??= Add(path);
        Describe(entry, in found);
        if (found.File is null || !found.Status.IsRegular || entry.Uses < rules.MinUses)
        {
            return found;
        }
        if (isSmall && ReadContent(entry, ref found))
        {
            return found;
        }
        if (_conf.KeepsDescriptors)
        {
            entry.File = found.File!;
            found.File!.AddReference();
        }
        return found;
    }

    private void Describe(CachedFile entry, in FoundFile found)
    {
        DropData(entry);
        entry.Status = found.Status;
        entry.Error = found.Error;
        entry.Call = found.Call;
        entry.CheckedMs = _loop.NowMs;
        long changedMs = found.Status.ChangedSec * 1000 + found.Status.ChangedNsec / 1_000_000;
        entry.IsSettled = _loop.UnixMs - changedMs > SettledMs;
    }

    /// <summary>Reads a small file that needs no disk; its descriptor is then closed.</summary>
    private bool ReadContent(CachedFile entry, ref FoundFile found)
    {
        int size = (int)found.Status.Size;
        BufferSlab slab = _loop.Buffers.Rent(size);
        int done = 0;
        FileRef file = found.File!;
        while (done < size)
        {
            SysResult read = FileSender.ReadNow(file.Fd, slab.Memory.Slice(done, size - done), done);
            if (read.Value <= 0)
            {
                slab.Release();
                return false;
            }
            done += read.Int;
        }
        file.Release();
        found.File = null;
        found.Content = slab;
        while (_contentBytes + slab.Capacity > _conf.ContentBytesMax && _oldest is { } oldest && oldest != entry)
        {
            Remove(oldest);
        }
        if (_contentBytes + slab.Capacity <= _conf.ContentBytesMax)
        {
            slab.AddReference();
            entry.Content = slab;
            _contentBytes += slab.Capacity;
        }
        return true;
    }

    // The table and the list by age.

    private static int HashOf(ReadOnlySpan<byte> path)
    {
        // Eight bytes at a time, folded with a secret of the process: clients choose the paths.
        ulong hash = s_secret ^ (uint)path.Length;
        while (path.Length >= sizeof(ulong))
        {
            hash = Fold(hash ^ BinaryPrimitives.ReadUInt64LittleEndian(path));
            path = path[sizeof(ulong)..];
        }
        ulong rest = 0;
        for (int i = 0; i < path.Length; i++)
        {
            rest |= (ulong)path[i] << (8 * i);
        }
        return (int)Fold(hash ^ rest);
    }

    private static ulong Fold(ulong value)
    {
        ulong high = Math.BigMul(value, s_secret, out ulong low);
        return high ^ low;
    }

    private static readonly ulong s_secret = MakeSecret();

    private static ulong MakeSecret()
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        System.Security.Cryptography.RandomNumberGenerator.Fill(bytes);
        return BinaryPrimitives.ReadUInt64LittleEndian(bytes) | 1;
    }

    private CachedFile? Find(ReadOnlySpan<byte> path)
    {
        int hash = HashOf(path);
        for (CachedFile? one = _buckets[hash & (_buckets.Length - 1)]; one is not null; one = one.NextInBucket)
        {
            if (one.Hash == hash && path.SequenceEqual(one.Path))
            {
                return one;
            }
        }
        return null;
    }

    private CachedFile Add(NativeSlice path)
    {
        if (_count >= _conf.EntriesMax && _oldest is { } oldest)
        {
            Remove(oldest);
        }
        if (_count >= _buckets.Length)
        {
            Grow();
        }
        CachedFile entry = _free ?? new CachedFile();
        _free = entry.NextInBucket;
        // A file that changes all the time comes back to the entry that it left: its path is not allocated again.
        if (entry.Path.Length != path.Length)
        {
            entry.Path = new byte[path.Length];
        }
        path.Span.CopyTo(entry.Path);
        entry.Hash = HashOf(path.Span);
        ref CachedFile? bucket = ref _buckets[entry.Hash & (_buckets.Length - 1)];
        entry.NextInBucket = bucket;
        bucket = entry;
        _count++;
        entry.Uses = 1;
        entry.UsedMs = _loop.NowMs;
        LinkNewest(entry);
        return entry;
    }

    private void Grow()
    {
        var bigger = new CachedFile?[_buckets.Length * 2];
        foreach (CachedFile? first in _buckets)
        {
            CachedFile? next;
            for (CachedFile? one = first; one is not null; one = next)
            {
                next = one.NextInBucket;
                ref CachedFile? bucket = ref bigger[one.Hash & (bigger.Length - 1)];
                one.NextInBucket = bucket;
                bucket = one;
            }
        }
        _buckets = bigger;
    }

    private void Touch(CachedFile entry, long now)
    {
        entry.Uses++;
        entry.UsedMs = now;
        if (_newest != entry)
        {
            Unlink(entry);
            LinkNewest(entry);
        }
    }

    private void ExpireOldest(long now)
    {
        for (int i = 0; i < EvictionsPerLookup && _oldest is { } oldest && now - oldest.UsedMs > _conf.InactiveMs; i++)
        {
            Remove(oldest);
        }
    }

    private void Remove(CachedFile entry)
    {
        Unlink(entry);
        ref CachedFile? at = ref _buckets[entry.Hash & (_buckets.Length - 1)];
        while (at != entry)
        {
            at = ref at!.NextInBucket;
        }
        at = entry.NextInBucket;
        _count--;
        DropData(entry);
        entry.NextInBucket = _free;
        _free = entry;
    }

    private void DropData(CachedFile entry)
    {
        entry.File?.Release();
        entry.File = null;
        if (entry.Content is not null)
        {
            _contentBytes -= entry.Content.Capacity;
            entry.Content.Release();
            entry.Content = null;
        }
    }

    private void LinkNewest(CachedFile entry)
    {
        entry.Newer = null;
        entry.Older = _newest;
        if (_newest is null)
        {
            _oldest = entry;
        }
        else
        {
            _newest.Newer = entry;
        }
        _newest = entry;
    }

    private void Unlink(CachedFile entry)
    {
        if (entry.Newer is null)
        {
            _newest = entry.Older;
        }
        else
        {
            entry.Newer.Older = entry.Older;
        }
        if (entry.Older is null)
        {
            _oldest = entry.Newer;
        }
        else
        {
            entry.Older.Newer = entry.Newer;
        }
        entry.Older = null;
        entry.Newer = null;
    }
}
