// The zone of limit_req: for every key how far it is ahead of its rate, in thousandths of a request, and when that was
// true. All workers count in one zone under its lock, so the limit is exact over all of them. The lock is held for a
// lookup and two writes; a full zone loses the keys used longest ago.
using System.Runtime.InteropServices;
using Weir.Kernel;
using Weir.Session;
using Weir.Zones;

namespace Weir.Http.Modules;

/// <summary>What a look at one limit said.</summary>
internal enum LimitVerdict
{
    Admitted,
    Excessive,
    NoRoom,
}

internal sealed class LimitReqZone(string name) : LimitZone(name)
{
    public const int KeyBytesMax = 65535;

    private const ulong Layout = 0x5201;
    private const int EntryBytesTypical = 64;

    /// <summary>A clock that seems to run backwards by more than this was set anew.</summary>
    private const long BackwardsMsMax = 60_000;

    /// <summary>Keys unused for so long go when room is needed, if they owe nothing.</summary>
    private const long IdleMs = 60_000;

    private Zone? _zone;
    private SharedTable? _table;

    [StructLayout(LayoutKind.Sequential)]
    private struct Record
    {
        public long LastMs;
        public long Excess;
    }

    /// <summary>Thousandths of requests per second.</summary>
    public long Rate { get; set; }

    public override void Open(HttpBuild build)
    {
        Open(build.Resources.Zone(
            new ZoneSpec("limit_req:" + Name, SizeBytes, SharedZones.LayoutOf(Layout, Key!.Source))));
    }

    internal void Open(Zone? zone)
    {
        _zone = zone;
        _table = _zone is null ? null : SharedTable.Open(_zone, 0, (int)(SizeBytes / EntryBytesTypical / 2));
    }

    /// <summary>How far the key would be ahead with one request more; counted at once when <paramref
    /// name="account"/> says so and the burst allows it.</summary>
    public LimitVerdict Look(ReadOnlySpan<byte> key, long burst, bool account, long nowMs, out long excess)
    {
        excess = 0;
        if (_table is not { } table)
        {
            return LimitVerdict.Admitted;
        }
        uint hash = SharedTable.HashOf(key);
        using ZoneLock held = _zone!.Lock();
        uint entry = table.Find(key, hash);
        if (entry != 0)
        {
            table.Touch(entry);
            ref Record record = ref table.Value<Record>(entry);
            excess = Ahead(record, nowMs);
            if (excess > burst)
            {
                return LimitVerdict.Excessive;
            }
            if (account)
            {
                Write(ref record, nowMs, excess);
            }
            return LimitVerdict.Admitted;
        }
        Expire(table, nowMs, least: 0);
        entry = table.Add(key, hash, Marshal.SizeOf<Record>());
        if (entry == 0)
        {
            Expire(table, nowMs, least: 1);
            entry = table.Add(key, hash, Marshal.SizeOf<Record>());
        }
        if (entry == 0)
        {
            return LimitVerdict.NoRoom;
        }
        if (account)
        {
            Write(ref table.Value<Record>(entry), nowMs, 0);
        }
        return LimitVerdict.Admitted;
    }

    /// <summary>Counts a request that every limit has admitted.</summary>
    public long Account(ReadOnlySpan<byte> key, long nowMs)
    {
        if (_table is not { } table)
        {
            return 0;
        }
        using ZoneLock held = _zone!.Lock();
        uint entry = table.Find(key, SharedTable.HashOf(key));
        if (entry == 0)
        {
            return 0;
        }
        ref Record record = ref table.Value<Record>(entry);
        // A record that was made by the look alone has never been counted.
        long excess = record.LastMs == 0 ? 0 : Ahead(record, nowMs);
        Write(ref record, nowMs, excess);
        return excess;
    }

    private long Ahead(in Record record, long nowMs)
    {
        if (record.LastMs == 0)
        {
            return 0;
        }
        long ms = nowMs - record.LastMs;
        ms = ms < -BackwardsMsMax ? 1 : Math.Max(ms, 0);
        return Math.Max(record.Excess - (Rate * ms / 1000) + 1000, 0);
    }

    /// <summary>The excess first: a kill in between admits nobody who should wait.</summary>
    private void Write(ref Record record, long nowMs, long excess)
    {
        Volatile.Write(ref record.Excess, excess);
        _zone!.Wrote();
        long ms = nowMs - record.LastMs;
        if (ms > 0 || ms < -BackwardsMsMax)
        {
            Volatile.Write(ref record.LastMs, nowMs);
            _zone.Wrote();
        }
    }

    /// <summary>Drops one or two keys that owe nothing, and before them <paramref name="least"/> whatever they
    /// owe.</summary>
    private void Expire(SharedTable table, long nowMs, int least)
    {
        for (int i = least > 0 ? 0 : 1; i < 3; i++)
        {
            uint oldest = table.Oldest;
            if (oldest == 0)
            {
                return;
            }
            if (i > 0)
            {
                ref Record record = ref table.Value<Record>(oldest);
                long ms = Math.Abs(nowMs - record.LastMs);
                if (ms < IdleMs || record.Excess - (Rate * ms / 1000) > 0)
                {
                    return;
                }
            }
            table.Remove(oldest);
        }
    }
}
