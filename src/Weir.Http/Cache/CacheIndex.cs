// The keys of a cache in its zone, shared by all workers and the cache processes: which files exist, how they are used,
// who is fetching. Each method is one short critical section. The files are the truth: an entry without a file is
// noticed when the file is opened, and forgotten. A lock belongs to a life of its worker's counter slot, so that the
// lock of a worker that was killed is free as soon as the master has collected it.
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Http.Cache;

/// <summary>The shared index of one cache.</summary>
public sealed class CacheIndex
{
    public const ulong Layout = 0x4361_6368_6500_0002;
    private const int EntryBytes = 64, BytesPerKey = 128, TriesMax = 20, EvictedMax = 1024;

    private readonly Zone _zone;
    private readonly SharedTable _keys;
    private readonly SharedTable _marks;
    private readonly ZoneOwner _owner;
    private readonly uint _meta;
    private readonly Queue<CacheKey> _evicted = new();

    private CacheIndex(Zone zone, SharedTable keys, SharedTable marks, uint meta, ZoneOwner owner)
    {
        _zone = zone;
        _keys = keys;
        _marks = marks;
        _meta = meta;
        _owner = owner;
    }

    /// <summary>Opens the index in its zone; null when the zone is too small.</summary>
    public static CacheIndex? Open(Zone zone, ZoneOwner owner)
    {
        SharedTable? keys = SharedTable.Open(zone, 0, zone.Spec.SizeBytes / BytesPerKey is var n and < int.MaxValue
            ? (int)n : int.MaxValue);
        SharedTable? marks = SharedTable.Open(zone, 1, 64);
        SharedTable? whole = SharedTable.Open(zone, 2, 64);
        if (keys is null || marks is null || whole is null)
        {
            return null;
        }
        ReadOnlySpan<byte> name = "meta"u8;
        uint hash = SharedTable.HashOf(name);
        using ZoneLock held = zone.Lock();
        uint meta = whole.Find(name, hash);
        if (meta == 0)
        {
            meta = whole.Add(name, hash, System.Runtime.CompilerServices.Unsafe.SizeOf<CacheMeta>());
        }
        return meta == 0 ? null : new CacheIndex(zone, keys, marks, meta, owner);
    }

    internal Zone Zone => _zone;

    private ref CacheMeta Meta => ref WholeMeta();

    private ref CacheMeta WholeMeta()
    {
        ref CacheMeta meta = ref _zone.At<CacheMeta>((long)_meta * ZoneSlab.UnitBytes + SharedTable.EntryOverheadBytes);
        if (meta.RepairsSeen != _zone.RepairCount)
        {
            // Somebody died in here: what was counted is counted again.
            meta.Bytes = 0;
            for (uint at = _keys.Oldest; at != 0; at = _keys.Newer(at))
            {
                meta.Bytes += Entry(at).Exists != 0 ? Entry(at).FileBytes : 0;
            }
            meta.RepairsSeen = _zone.RepairCount;
        }
        return ref meta;
    }

    private ref CacheEntry Entry(uint at) => ref _keys.Value<CacheEntry>(at);

    private uint Find(CacheKey key)
    {
        Span<byte> bytes = stackalloc byte[CacheKey.Bytes];
        key.Write(bytes);
        return _keys.Find(bytes, (uint)key.Second);
    }

    private uint FindOrAdd(CacheKey key, uint nowSec)
    {
        uint at = Find(key);
        return at != 0 ? at : Add(key, nowSec);
    }

    /// <summary>Adds an entry; when the zone is full those used longest ago go.</summary>
    private uint Add(CacheKey key, uint nowSec)
    {
        Span<byte> bytes = stackalloc byte[CacheKey.Bytes];
        key.Write(bytes);
        uint at = _keys.Add(bytes, (uint)key.Second, EntryBytes);
        for (int i = 0; at == 0 && i < TriesMax && EvictOldest(); i++)
        {
            at = _keys.Add(bytes, (uint)key.Second, EntryBytes);
        }
        if (at != 0)
        {
            Entry(at).UsedSec = nowSec;
        }
        return at;
    }

    private bool EvictOldest()
    {
        uint oldest = _keys.Oldest;
        if (oldest == 0)
        {
            return false;
        }
        ref CacheEntry entry = ref Entry(oldest);
        if (IsLocked(in entry))
        {
            _keys.Touch(oldest);
            return true;
        }
        if (entry.Exists != 0 && _evicted.Count < EvictedMax)
        {
            _evicted.Enqueue(CacheKey.Read(_keys.Key(oldest)));
        }
        Drop(oldest);
        return true;
    }

    private void Drop(uint at)
    {
        ref CacheEntry entry = ref Entry(at);
        if (entry.Exists != 0)
        {
            Meta.Bytes -= entry.FileBytes;
        }
        _keys.Remove(at);
    }

    private bool IsLocked(in CacheEntry entry) =>
        entry.LockOwner != 0 && _owner.IsLive((int)(entry.LockOwner & 0xffff), (uint)(entry.LockOwner >> 16));

    /// <summary>The worker's name in locks: its slot and which life of it.</summary>
    private long OwnName => (long)_owner.Life << 16 | (uint)_owner.Slot;

    // What workers ask.

    /// <summary>Looks a key up for a request and counts the use; an unknown key becomes an entry without a
    /// file.</summary>
    public CacheLook Use(CacheKey key, long nowSec)
    {
        using ZoneLock held = _zone.Lock();
        uint at = FindOrAdd(key, (uint)nowSec);
        if (at == 0)
        {
            return new CacheLook(false, 0, uint.MaxValue, 0, false);
        }
        ref CacheEntry entry = ref Entry(at);
        if (entry.UsedSec != (uint)nowSec)
        {
            entry.UsedSec = (uint)nowSec;
            _keys.Touch(at);
        }
        entry.Uses++;
        int status = entry.Status != 0 && entry.StatusUntilSec > (uint)nowSec ? entry.Status : 0;
        return new CacheLook(entry.Exists != 0, entry.Id, entry.Uses, status, entry.PurgesSeen != Meta.Purges);
    }

    /// <summary>The same without counting: for somebody who has waited.</summary>
    public CacheLook Look(CacheKey key, long nowSec)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(key);
        if (at == 0)
        {
            return default;
        }
        ref CacheEntry entry = ref Entry(at);
        int status = entry.Status != 0 && entry.StatusUntilSec > (uint)nowSec ? entry.Status : 0;
        return new CacheLook(entry.Exists != 0, entry.Id, entry.Uses, status, entry.PurgesSeen != Meta.Purges);
    }

    /// <summary>Asks for the right to fetch. <paramref name="ageMs"/> is when it may be taken away.</summary>
    public CacheLockOutcome TryLock(CacheKey key, long nowMs, long ageMs, out long token)
    {
        token = 0;
        using ZoneLock held = _zone.Lock();
        uint at = FindOrAdd(key, (uint)(nowMs / 1000));
        if (at == 0)
        {
            return CacheLockOutcome.Pass;
        }
        ref CacheEntry entry = ref Entry(at);
        if (entry.PassUntilMs > nowMs && entry.PassUntilMs < nowMs + PassMs * 2)
        {
            return CacheLockOutcome.Pass;
        }
        if (IsLocked(in entry) && nowMs < entry.LockUntilMs)
        {
            return CacheLockOutcome.Busy;
        }
        token = nowMs + ageMs;
        if (token == entry.LockUntilMs)
        {
            token++;
        }
        entry.LockUntilMs = token;
        entry.LockOwner = OwnName;
        return CacheLockOutcome.Taken;
    }

    /// <summary>For how long nobody waits after an answer that cannot be stored.</summary>
    public const long PassMs = 1000;

    /// <summary>Whether somebody fetches the key.</summary>
    public bool IsFetched(CacheKey key, long nowMs)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(key);
        return at != 0 && IsLocked(in Entry(at)) && nowMs < Entry(at).LockUntilMs;
    }

    /// <summary>Gives the right to fetch back.</summary>
    public void Unlock(CacheKey key, long token, long passUntilMs = 0)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(key);
        if (at != 0)
        {
            ref CacheEntry entry = ref Entry(at);
            if (entry.LockOwner == OwnName && entry.LockUntilMs == token)
            {
                entry.LockOwner = 0;
                entry.PassUntilMs = passUntilMs;
            }
        }
    }

    /// <summary>How often the key was forgotten: taken before an answer is asked for, compared when it is
    /// published.</summary>
    public ushort ForgottenOf(CacheKey key)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(key);
        return at == 0 ? (ushort)0 : Entry(at).Forgotten;
    }

    /// <summary>A file is in its place under the key's name. False, and nothing is known of it, when
    /// <paramref name="main"/> was forgotten since it was asked for.</summary>
    public bool Publish(CacheKey key, ulong id, long fileBytes, long nowSec, uint purgesSeen, CacheKey main,
        ushort forgotten)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(main);
        if (at != 0 && Entry(at).Forgotten != forgotten)
        {
            return false;
        }
        PublishHeld(key, id, fileBytes, nowSec, purgesSeen);
        return true;
    }

    /// <summary>A file is in its place under the key's name.</summary>
    public void Publish(CacheKey key, ulong id, long fileBytes, long nowSec, uint purgesSeen)
    {
        using ZoneLock held = _zone.Lock();
        PublishHeld(key, id, fileBytes, nowSec, purgesSeen);
    }

    private void PublishHeld(CacheKey key, ulong id, long fileBytes, long nowSec, uint purgesSeen)
    {
        uint at = FindOrAdd(key, (uint)nowSec);
        if (at == 0)
        {
            _evicted.Enqueue(key);
            return;
        }
        ref CacheEntry entry = ref Entry(at);
        ref CacheMeta meta = ref Meta;
        meta.Bytes += fileBytes - (entry.Exists != 0 ? entry.FileBytes : 0);
        entry.FileBytes = fileBytes;
        entry.Id = id;
        entry.Status = 0;
        entry.PassUntilMs = 0;
        entry.PurgesSeen = purgesSeen;
        Volatile.Write(ref entry.Exists, 1);
    }

    /// <summary>The file in force is of this number after all: it was found on the disk.</summary>
    public void Learn(CacheKey key, ulong id, long fileBytes, long nowSec)
    {
        using ZoneLock held = _zone.Lock();
        uint at = FindOrAdd(key, (uint)nowSec);
        if (at == 0)
        {
            return;
        }
        ref CacheEntry entry = ref Entry(at);
        Meta.Bytes += fileBytes - (entry.Exists != 0 ? entry.FileBytes : 0);
        entry.FileBytes = fileBytes;
        entry.Id = id;
        Volatile.Write(ref entry.Exists, 1);
    }

    /// <summary>The purges that there were do not mean this response.</summary>
    public void PassedPurges(CacheKey key, ulong id, uint purges)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(key);
        if (at != 0 && Entry(at).Id == id)
        {
            Entry(at).PurgesSeen = purges;
        }
    }

    /// <summary>The file of this number is gone, or worth nothing. With 0, whatever file there was.</summary>
    public bool Forget(CacheKey key, ulong id)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(key);
        if (at != 0 && id == 0)
        {
            // What is on its way to the disk goes as well.
            Entry(at).Forgotten++;
        }
        if (at == 0 || Entry(at).Exists == 0 || id != 0 && Entry(at).Id != id)
        {
            return false;
        }
        ref CacheEntry entry = ref Entry(at);
        Volatile.Write(ref entry.Exists, 0);
        Meta.Bytes -= entry.FileBytes;
        entry.FileBytes = 0;
        entry.Id = 0;
        return true;
    }

    /// <summary>Remembers a status in place of a response.</summary>
    public void Remember(CacheKey key, int status, long untilSec)
    {
        using ZoneLock held = _zone.Lock();
        uint at = FindOrAdd(key, (uint)untilSec);
        if (at != 0)
        {
            Entry(at).StatusUntilSec = (uint)untilSec;
            Entry(at).Status = (ushort)status;
        }
    }

    /// <summary>A key whose file has to go because the zone was full; false when there is none.</summary>
    public bool TryTakeEvicted(out CacheKey key)
    {
        if (_evicted.Count == 0)
        {
            key = default;
            return false;
        }
        using ZoneLock held = _zone.Lock();
        return _evicted.TryDequeue(out key);
    }

    // What the cache processes ask.

    /// <summary>The loader has been through all files: what has no entry has no file.</summary>
    public bool IsLoaded
    {
        get
        {
            using ZoneLock held = _zone.Lock();
            return Meta.IsLoaded != 0;
        }
        set
        {
            using ZoneLock held = _zone.Lock();
            Meta.IsLoaded = value ? (byte)1 : (byte)0;
        }
    }

    /// <summary>The purges of an earlier server have been read.</summary>
    internal bool HasReadMarks
    {
        get
        {
            using ZoneLock held = _zone.Lock();
            return Meta.HasReadMarks != 0;
        }
        set
        {
            using ZoneLock held = _zone.Lock();
            Meta.HasReadMarks = value ? (byte)1 : (byte)0;
        }
    }

    public long Bytes
    {
        get
        {
            using ZoneLock held = _zone.Lock();
            return Meta.Bytes;
        }
    }

    public int Count
    {
        get
        {
            using ZoneLock held = _zone.Lock();
            return _keys.Count;
        }
    }

    /// <summary>Makes an entry for a file that was found, unless there is one.</summary>
    public void Load(CacheKey key, long fileBytes, long usedSec)
    {
        using ZoneLock held = _zone.Lock();
        if (Find(key) != 0)
        {
            return;
        }
        uint at = Add(key, (uint)usedSec);
        if (at == 0)
        {
            return;
        }
        ref CacheEntry entry = ref Entry(at);
        entry.FileBytes = fileBytes;
        Meta.Bytes += fileBytes;
        Volatile.Write(ref entry.Exists, 1);
    }

    /// <summary>The entry used longest ago; those that are being fetched go to the end of the line.</summary>
    public bool TryOldest(out CacheVictim victim)
    {
        using ZoneLock held = _zone.Lock();
        for (int i = 0; i < TriesMax; i++)
        {
            uint at = _keys.Oldest;
            if (at == 0)
            {
                break;
            }
            ref CacheEntry entry = ref Entry(at);
            if (!IsLocked(in entry))
            {
                victim = new CacheVictim(CacheKey.Read(_keys.Key(at)), entry.Id, entry.UsedSec);
                return true;
            }
            _keys.Touch(at);
        }
        victim = default;
        return false;
    }

    /// <summary>Removes the entry if it is still the same.</summary>
    public void Remove(CacheVictim victim)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(victim.Key);
        if (at != 0 && Entry(at).Id == victim.Id && !IsLocked(in Entry(at)))
        {
            Drop(at);
        }
    }

    // Purges.

    /// <summary>The number of the last purge.</summary>
    internal uint Purges
    {
        get
        {
            using ZoneLock held = _zone.Lock();
            return Meta.Purges;
        }
    }

    /// <summary>Marks everything that a text names as purged; the number of the purge, 0 when there is no
    /// room.</summary>
    internal uint Mark(PurgeKind kind, ReadOnlySpan<byte> text, long nowMs)
    {
        Span<byte> key = stackalloc byte[1 + Math.Min(text.Length, MarkBytesMax)];
        key[0] = (byte)kind;
        text[..(key.Length - 1)].CopyTo(key[1..]);
        uint hash = SharedTable.HashOf(key);
        using ZoneLock held = _zone.Lock();
        uint at = _marks.Find(key, hash);
        for (int i = 0; at == 0 && i < TriesMax; i++)
        {
            at = _marks.Add(key, hash, 16);
            if (at == 0 && !EvictOldest())
            {
                return 0;
            }
        }
        if (at == 0)
        {
            return 0;
        }
        ref CacheMeta meta = ref Meta;
        ref PurgeMark mark = ref _marks.Value<PurgeMark>(at);
        mark.AtMs = nowMs;
        mark.Number = ++meta.Purges;
        return mark.Number;
    }

    internal const int MarkBytesMax = 1024;

    /// <summary>Whether a response that was stored at a time is purged: by its key's text or by one of its
    /// tags.</summary>
    internal bool IsPurged(ReadOnlySpan<byte> keyText, ReadOnlySpan<byte> tags, long storedMs, out uint purges)
    {
        using ZoneLock held = _zone.Lock();
        purges = Meta.Purges;
        for (uint at = _marks.Oldest; at != 0; at = _marks.Newer(at))
        {
            ReadOnlySpan<byte> key = _marks.Key(at);
            if (_marks.Value<PurgeMark>(at).AtMs < storedMs)
            {
                continue;
            }
            if (key[0] == (byte)PurgeKind.Prefix ? keyText.StartsWith(key[1..]) : CacheTags.Has(tags, key[1..]))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Purges up to this number are carried out on the disk.</summary>
    internal void DropMarks(uint upTo)
    {
        using ZoneLock held = _zone.Lock();
        uint next;
        for (uint at = _marks.Oldest; at != 0; at = next)
        {
            next = _marks.Newer(at);
            if (_marks.Value<PurgeMark>(at).Number <= upTo)
            {
                _marks.Remove(at);
            }
        }
    }

    internal bool HasMarks
    {
        get
        {
            using ZoneLock held = _zone.Lock();
            return _marks.Oldest != 0;
        }
    }
}

/// <summary>Lists of tags (Surrogate-Key, Cache-Tag): words between spaces or commas.</summary>
internal static class CacheTags
{
    /// <summary>Whether a list has this word.</summary>
    internal static bool Has(ReadOnlySpan<byte> tags, ReadOnlySpan<byte> tag)
    {
        while (Next(ref tags, out ReadOnlySpan<byte> word))
        {
            if (word.SequenceEqual(tag))
            {
                return true;
            }
        }
        return false;
    }

    internal static bool Next(ref ReadOnlySpan<byte> tags, out ReadOnlySpan<byte> word)
    {
        tags = tags.TrimStart(" \t,\r\n"u8);
        int end = tags.IndexOfAny(" \t,\r\n"u8);
        word = end < 0 ? tags : tags[..end];
        tags = end < 0 ? default : tags[end..];
        return !word.IsEmpty;
    }
}
