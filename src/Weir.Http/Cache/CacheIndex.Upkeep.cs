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

    /// <summary>So many marks, or so many bytes of them, are looked at while the lock is held.</summary>
    internal const int MarksPerHold = 64, MarkBytesPerHold = 4096;

    /// <summary>The most marks that this index has looked at in one critical section.</summary>
    internal int MostMarksOfHold { get; private set; }

    /// <summary>Whether a response that was stored at a time is purged: by its key's text or by one of its tags. Marks
    /// are copied out a few at a time and compared without the lock. What is marked meanwhile has a greater number than
    /// <paramref name="purges"/>, so that it is looked at again.</summary>
    internal bool IsPurged(ReadOnlySpan<byte> keyText, ReadOnlySpan<byte> tags, long storedMs, long unixMs,
        out uint purges)
    {
        Span<byte> copied = stackalloc byte[MarkBytesPerHold];
        var place = new MarkPlace();
        purges = 0;
        for (bool isFirst = true; isFirst || place.At != 0; isFirst = false)
        {
            int length = CopyMarks(copied, ref place, storedMs, unixMs, out uint number);
            purges = isFirst ? number : purges;
            for (ReadOnlySpan<byte> rest = copied[..length]; !rest.IsEmpty;)
            {
                int end = 3 + (rest[0] << 8 | rest[1]);
                ReadOnlySpan<byte> text = rest[3..end];
                if (rest[2] == (byte)PurgeKind.Prefix ? keyText.StartsWith(text) : CacheTags.Has(tags, text))
                {
                    return true;
                }
                rest = rest[end..];
            }
        }
        return false;
    }

    /// <summary>Where a walk over marks goes on: a mark, 0 at the end, and how often marks had gone.</summary>
    private struct MarkPlace
    {
        internal uint At;
        internal uint Drops;
        internal int Repairs;
    }

    /// <summary>Whether the mark is where it was: none was taken out, and no repair left one out.</summary>
    private bool IsStill(in MarkPlace place, in CacheMeta meta) =>
        place.At != 0 && place.Drops == meta.MarkDrops && place.Repairs == _zone.RepairCount;

    /// <summary>Copies the marks from a place on that may mean a response: two bytes of length, kind, text.</summary>
    private int CopyMarks(Span<byte> to, ref MarkPlace place, long storedMs, long unixMs, out uint purges)
    {
        using ZoneLock held = _zone.Lock();
        ref CacheMeta meta = ref Meta;
        purges = meta.Purges;
        // Where marks have gone since, the place may be one of them: from the oldest again.
        uint at = IsStill(place, in meta) ? place.At : _marks.Oldest;
        int length = 0, seen = 0;
        for (; at != 0 && seen < MarksPerHold; at = _marks.Newer(at), seen++)
        {
            // From the future: stored before the clock was set back, and so before whatever was purged since.
            if (_marks.Value<PurgeMark>(at).AtMs < storedMs && storedMs <= unixMs + FutureMsMax)
            {
                continue;
            }
            ReadOnlySpan<byte> key = _marks.Key(at);
            if (length + 2 + key.Length > to.Length)
            {
                break;
            }
            to[length] = (byte)(key.Length - 1 >> 8);
            to[length + 1] = (byte)(key.Length - 1);
            key.CopyTo(to[(length + 2)..]);
            length += 2 + key.Length;
        }
        place = new MarkPlace { At = at, Drops = meta.MarkDrops, Repairs = _zone.RepairCount };
        MostMarksOfHold = Math.Max(MostMarksOfHold, seen);
        return length;
    }

    /// <summary>Purges up to this number are carried out on the disk.</summary>
    internal void DropMarks(uint upTo)
    {
        var place = new MarkPlace();
        do
        {
            DropSomeMarks(upTo, ref place);
        }
        while (place.At != 0);
    }

    private void DropSomeMarks(uint upTo, ref MarkPlace place)
    {
        using ZoneLock held = _zone.Lock();
        ref CacheMeta meta = ref Meta;
        uint at = IsStill(place, in meta) ? place.At : _marks.Oldest;
        // First of all: whoever stands at a mark in another process must not go on from there, and what is on its way
        // to the disk will find no mark.
        meta.MarkDrops++;
        _zone.Wrote();
        meta.PurgesDone = Math.Min(upTo, meta.Purges);
        _zone.Wrote();
        int seen = 0;
        for (uint next; at != 0 && seen < MarksPerHold; at = next, seen++)
        {
            next = _marks.Newer(at);
            if (_marks.Value<PurgeMark>(at).Number <= upTo)
            {
                _marks.Remove(at);
            }
        }
        place = new MarkPlace { At = at, Drops = meta.MarkDrops, Repairs = _zone.RepairCount };
        MostMarksOfHold = Math.Max(MostMarksOfHold, seen);
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
