// The keys of a cache in its zone, shared by all workers and the cache processes: which files exist, how they are used,
// who is fetching. Each method is one short critical section. The files are the truth: an entry without a file is
// noticed when the file is opened, and forgotten. A lock belongs to a life of its worker's counter slot, so that the
// lock of a worker that was killed is free as soon as the master has collected it. Uses and locks are timed by the
// monotonic clock; what a file says of itself (its number, when it was stored) is wall clock.
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Http.Cache;

/// <summary>The shared index of one cache.</summary>
public sealed partial class CacheIndex
{
    public const ulong Layout = 0x4361_6368_6500_0005;

    /// <summary>A file's number is the time at which its answer was asked for, and so many random bits.</summary>
    public const int IdTimeShift = 20;

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
            _zone.Wrote();
            for (uint at = _keys.Oldest; at != 0; at = _keys.Newer(at))
            {
                meta.Bytes += Entry(at).Exists != 0 ? Entry(at).FileBytes : 0;
                _zone.Wrote();
            }
            meta.RepairsSeen = _zone.RepairCount;
            _zone.Wrote();
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
            _zone.Wrote();
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
            _zone.Wrote();
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
            return Unknown() with { Uses = uint.MaxValue };
        }
        ref CacheEntry entry = ref Entry(at);
        if (entry.UsedSec != (uint)nowSec)
        {
            entry.UsedSec = (uint)nowSec;
            _zone.Wrote();
            _keys.Touch(at);
        }
        entry.Uses++;
        _zone.Wrote();
        return Seen(in entry, nowSec);
    }

    /// <summary>The same without counting: for somebody who has waited.</summary>
    public CacheLook Look(CacheKey key, long nowSec)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(key);
        return at == 0 ? Unknown() : Seen(in Entry(at), nowSec);
    }

    private CacheLook Unknown()
    {
        ref CacheMeta meta = ref Meta;
        return new CacheLook(false, 0, 0, 0, false, 0, meta.Purges, meta.MarkDrops);
    }

    private CacheLook Seen(in CacheEntry entry, long nowSec)
    {
        int status = entry.Status != 0 && entry.StatusUntilSec > (uint)nowSec ? entry.Status : 0;
        ref CacheMeta meta = ref Meta;
        return new CacheLook(entry.Exists != 0, entry.Id, entry.Uses, status, entry.PurgesSeen != meta.Purges,
            entry.Forgotten, meta.Purges, meta.MarkDrops);
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
        _zone.Wrote();
        Volatile.Write(ref entry.LockOwner, OwnName);
        _zone.Wrote();
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
                entry.PassUntilMs = passUntilMs;
                _zone.Wrote();
                Volatile.Write(ref entry.LockOwner, 0);
                _zone.Wrote();
            }
        }
    }

    /// <summary>A file is in its place under the key's name. False, and nothing is known of it, when
    /// <paramref name="main"/> was forgotten since it was asked for, when a purge came after
    /// <paramref name="purgesAsked"/> (<paramref name="purgesSeen"/> unless told) and is done with, so that nobody can
    /// say whether it meant this response, or when what is known was asked for later: then nobody can say which of the
    /// two files is there.</summary>
    public bool Publish(CacheKey key, ulong id, long fileBytes, long nowSec, uint purgesSeen, CacheKey main,
        ushort forgotten, long unixMs, uint? purgesAsked = null)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(main);
        if (at != 0 && Entry(at).Forgotten != forgotten || (int)(Meta.PurgesDone - (purgesAsked ?? purgesSeen)) > 0)
        {
            return false;
        }
        at = main == key ? at : Find(key);
        if (at != 0 && IsOvertaken(in Entry(at), id, unixMs))
        {
            ForgetHeld(ref Entry(at));
            return false;
        }
        PublishHeld(key, id, fileBytes, nowSec, purgesSeen);
        return true;
    }

    /// <summary>Whether a response is known that was asked for after this one.</summary>
    public bool IsOvertaken(CacheKey key, ulong id, long unixMs)
    {
        using ZoneLock held = _zone.Lock();
        uint at = Find(key);
        return at != 0 && IsOvertaken(in Entry(at), id, unixMs);
    }

    /// <summary>A number from the future is of before the clock was set back.</summary>
    private static bool IsOvertaken(in CacheEntry entry, ulong id, long unixMs) => entry.Exists != 0 && entry.Id > id
        && (long)(entry.Id >> IdTimeShift) <= unixMs + FutureMsMax;

    /// <summary>What is from so far in the future was stored before the clock was set back.</summary>
    public const long FutureMsMax = 2000;

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
        _zone.Wrote();
        entry.FileBytes = fileBytes;
        _zone.Wrote();
        // What the purges were compared with goes first: a kill in between has the new file compared once more.
        entry.PurgesSeen = purgesSeen;
        _zone.Wrote();
        entry.Id = id;
        _zone.Wrote();
        entry.Status = 0;
        _zone.Wrote();
        entry.PassUntilMs = 0;
        _zone.Wrote();
        Volatile.Write(ref entry.Exists, 1);
        _zone.Wrote();
    }

    /// <summary>The file in force is of this number after all: it was found on the disk, and no purge up to
    /// <paramref name="purges"/> means it. False, and nothing is known of it, when marks were taken out since there had
    /// been <paramref name="drops"/> of that: the file may have been opened before a purge removed it.</summary>
    public bool Learn(CacheKey key, ulong id, long fileBytes, long nowSec, uint purges, uint drops)
    {
        using ZoneLock held = _zone.Lock();
        if (Meta.MarkDrops != drops)
        {
            return false;
        }
        uint at = FindOrAdd(key, (uint)nowSec);
        if (at == 0)
        {
            return true;
        }
        ref CacheEntry entry = ref Entry(at);
        Meta.Bytes += fileBytes - (entry.Exists != 0 ? entry.FileBytes : 0);
        _zone.Wrote();
        entry.FileBytes = fileBytes;
        _zone.Wrote();
        entry.PurgesSeen = purges;
        _zone.Wrote();
        entry.Id = id;
        _zone.Wrote();
        Volatile.Write(ref entry.Exists, 1);
        _zone.Wrote();
        return true;
    }

    /// <summary>The purges that there were do not mean this response. False when marks were taken out since there had
    /// been <paramref name="drops"/> of that: one of them may have meant it.</summary>
    public bool PassedPurges(CacheKey key, ulong id, uint purges, uint drops)
    {
        using ZoneLock held = _zone.Lock();
        if (Meta.MarkDrops != drops)
        {
            return false;
        }
        uint at = Find(key);
        if (at != 0 && Entry(at).Id == id)
        {
            Entry(at).PurgesSeen = purges;
            _zone.Wrote();
        }
        return true;
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
            _zone.Wrote();
        }
        if (at == 0 || Entry(at).Exists == 0 || id != 0 && Entry(at).Id != id)
        {
            return false;
        }
        ForgetHeld(ref Entry(at));
        return true;
    }

    private void ForgetHeld(ref CacheEntry entry)
    {
        if (entry.Exists == 0)
        {
            return;
        }
        // First of all: it may count everything anew, this entry among it.
        ref CacheMeta meta = ref Meta;
        Volatile.Write(ref entry.Exists, 0);
        _zone.Wrote();
        meta.Bytes -= entry.FileBytes;
        _zone.Wrote();
        entry.FileBytes = 0;
        _zone.Wrote();
        entry.Id = 0;
        _zone.Wrote();
    }

    /// <summary>Remembers a status in place of a response.</summary>
    public void Remember(CacheKey key, int status, long untilSec)
    {
        using ZoneLock held = _zone.Lock();
        uint at = FindOrAdd(key, (uint)untilSec);
        if (at != 0)
        {
            // Until it is whole it says nothing.
            Entry(at).Status = 0;
            _zone.Wrote();
            Entry(at).StatusUntilSec = (uint)untilSec;
            _zone.Wrote();
            Entry(at).Status = (ushort)status;
            _zone.Wrote();
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
}
