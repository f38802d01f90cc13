// The zone of `sticky learn`: which session is bound to which server. An entry is a time (when it was used last) and
// the server's name; the time is set last and cleared first, so that a holder of the zone's lock that is killed leaves
// a session whole or unknown. Any worker; the lock is held for a lookup and a copy. Allocates nothing.
using System.Runtime.InteropServices;
using Weir.Zones;

namespace Weir.Http.Modules;

internal sealed class StickySessions
{
    public const ulong Layout = 0x5354_0000_0000_0001;
    public const int KeyBytesMax = 255, NameBytesMax = 256;

    private const int EntryBytesTypical = 128, TimeBytes = 8;

    private readonly Zone _zone;
    private readonly SharedTable _table;
    private readonly long _timeoutSec;

    private StickySessions(Zone zone, SharedTable table, long timeoutSec)
    {
        _zone = zone;
        _table = table;
        _timeoutSec = timeoutSec;
    }

    internal SharedTable Table => _table;

    /// <summary>Null when the zone is too small.</summary>
    public static StickySessions? Open(Zone zone, long timeoutSec) =>
        SharedTable.Open(zone, 0, (int)(zone.Spec.SizeBytes / EntryBytesTypical / 2)) is { } table
            ? new StickySessions(zone, table, timeoutSec) : null;

    /// <summary>The name of the session's server and its length, 0 for none; counts as a use.</summary>
    public int Find(ReadOnlySpan<byte> id, long nowSec, Span<byte> name)
    {
        uint hash = SharedTable.HashOf(id);
        using ZoneLock held = _zone.Lock();
        uint entry = _table.Find(id, hash);
        if (entry == 0)
        {
            return 0;
        }
        ref long time = ref TimeOf(entry);
        ReadOnlySpan<byte> value = _table.Value(entry)[TimeBytes..];
        if (time == 0 || time + _timeoutSec < nowSec || value.Length > name.Length)
        {
            _table.Remove(entry);
            return 0;
        }
        Volatile.Write(ref time, nowSec);
        _zone.Wrote();
        _table.Touch(entry);
        value.CopyTo(name);
        return value.Length;
    }

    /// <summary>Binds a session; when the zone is full those used longest ago go.</summary>
    public void Remember(ReadOnlySpan<byte> id, ReadOnlySpan<byte> name, long nowSec)
    {
        uint hash = SharedTable.HashOf(id);
        using ZoneLock held = _zone.Lock();
        uint entry = _table.Find(id, hash);
        if (entry != 0 && _table.Value(entry).Length != TimeBytes + name.Length)
        {
            _table.Remove(entry);
            entry = 0;
        }
        while (entry == 0)
        {
            entry = _table.Add(id, hash, TimeBytes + name.Length);
            if (entry == 0 && !_table.RemoveOldest())
            {
                return;
            }
        }
        ref long time = ref TimeOf(entry);
        Span<byte> value = _table.Value(entry)[TimeBytes..];
        if (!value.SequenceEqual(name))
        {
            Volatile.Write(ref time, 0);
            _zone.Wrote();
            name.CopyTo(value);
            _zone.WroteMany();
        }
        Volatile.Write(ref time, nowSec);
        _zone.Wrote();
        _table.Touch(entry);
    }

    private ref long TimeOf(uint entry) => ref MemoryMarshal.Cast<byte, long>(_table.Value(entry))[0];
}
