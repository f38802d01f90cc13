// What the cache's manager and loader ask of the index, and purges: which entry goes first, files that were found,
// marks of what was purged. Each method is one short critical section of the zone's lock. The other half, what requests
// ask, is CacheIndex.cs; both write so that a holder of the lock that is killed leaves nothing wrong. Never opens a
// file.
using Weir.Zones;

namespace Weir.Http.Cache;

public sealed partial class CacheIndex
{
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
            _zone.Wrote();
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
            _zone.Wrote();
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
        uint at = Find(key);
        if (at != 0 && (Entry(at).Exists != 0 || Entry(at).Forgotten != 0))
        {
            return;
        }
        // An entry without a file may be of somebody who looked the key up before the file was found.
        at = at != 0 ? at : Add(key, (uint)usedSec);
        if (at == 0)
        {
            return;
        }
        ref CacheEntry entry = ref Entry(at);
        ref CacheMeta meta = ref Meta;
        entry.FileBytes = fileBytes;
        _zone.Wrote();
        meta.Bytes += fileBytes;
        _zone.Wrote();
        Volatile.Write(ref entry.Exists, 1);
        _zone.Wrote();
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
    internal uint Mark(PurgeKind kind, ReadOnlySpan<byte> text, long unixMs)
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
        mark.AtMs = unixMs;
        _zone.Wrote();
        mark.Number = meta.Purges + 1;
        _zone.Wrote();
        meta.Purges++;
        _zone.Wrote();
        return mark.Number;
    }

    internal const int MarkBytesMax = 1024;

    /// <summary>Whether a response that was stored at a time is purged: by its key's text or by one of its
    /// tags.</summary>
    internal bool IsPurged(ReadOnlySpan<byte> keyText, ReadOnlySpan<byte> tags, long storedMs, long unixMs,
        out uint purges)
    {
        using ZoneLock held = _zone.Lock();
        purges = Meta.Purges;
        for (uint at = _marks.Oldest; at != 0; at = _marks.Newer(at))
        {
            ReadOnlySpan<byte> key = _marks.Key(at);
            // From the future: stored before the clock was set back, and so before whatever was purged since.
            if (_marks.Value<PurgeMark>(at).AtMs < storedMs && storedMs <= unixMs + FutureMsMax)
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
