// What TLS shares between workers: sessions by id (ssl_session_cache shared:NAME:SIZE) and the keys of tickets, in
// zones. Called from inside of handshakes: the zone's lock is held for a lookup and a copy, nothing is allocated.
// Where there is no shared memory (the library) the same tables live in memory of the process.
using System.Buffers.Binary;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Tls;
using Weir.Zones;

namespace Weir.Http.Modules;

internal static class SslZones
{
    private const ulong SessionLayout = 0x5331_7373_6C00_0011;
    private const ulong TicketLayout = 0x5331_7373_6C00_0022;
    private const ulong EarlyLayout = 0x5331_7373_6C00_0013;
    private const ulong OcspLayout = 0x5331_7373_6C00_0014;
    private const int SessionBytesTypical = 256, EarlyBytesTypical = 128;

    /// <summary>The shared cache of a rule; null without one, and while a master only collects.</summary>
    internal static ITlsSessionStore? Sessions(HttpBuild build, SessionCacheRule rule)
    {
        if (rule.Shared is null)
        {
            return null;
        }
        long bytes = Math.Min(rule.SharedBytes & ~(Zone.PageBytes - 1L), Zone.SizeBytesMax);
        Zone? zone = build.Resources.Zone(new ZoneSpec("ssl_session_cache:" + rule.Shared, bytes, SessionLayout));
        SharedTable? table = zone is null ? null : SharedTable.Open(zone, 0, (int)(bytes / SessionBytesTypical / 2));
        return table is null ? null : new ZoneSessions(zone!, table);
    }

    /// <summary>Ticket keys that all workers know and that outlive a reload; null while a master only
    /// collects.</summary>
    internal static ITlsTicketKeys? TicketKeys(HttpBuild build, long timeoutSec)
    {
        Zone? zone = build.Resources.Zone(new ZoneSpec("weir:ssl_tickets", Zone.SizeBytesMin, TicketLayout));
        SharedTable? table = zone is null ? null : SharedTable.Open(zone, 0, 64);
        return table is null ? null : new ZoneTicketKeys(zone!, table, Math.Max(timeoutSec, 1));
    }

    /// <summary>What all workers know of early data's ClientHellos; null while a master only collects.</summary>
    internal static ITlsReplayGuard? ReplayGuard(HttpBuild build)
    {
        const long bytes = 1 << 20;
        Zone? zone = build.Resources.Zone(new ZoneSpec("weir:ssl_early_data", bytes, EarlyLayout));
        SharedTable? table = zone is null ? null : SharedTable.Open(zone, 0, (int)(bytes / EarlyBytesTypical / 2));
        return table is null ? null : new ZoneReplayGuard(zone!, table);
    }

    /// <summary>What is known of clients' certificates; null without a zone, and while a master only
    /// collects.</summary>
    internal static IOcspStore? Ocsp(HttpBuild build, (string Name, long Bytes)? rule)
    {
        if (rule is not { } cache)
        {
            return null;
        }
        long bytes = Math.Min(cache.Bytes & ~(Zone.PageBytes - 1L), Zone.SizeBytesMax);
        Zone? zone = build.Resources.Zone(new ZoneSpec("ssl_ocsp_cache:" + cache.Name, bytes, OcspLayout));
        SharedTable? table = zone is null ? null : SharedTable.Open(zone, 0, (int)(bytes / SessionBytesTypical / 2));
        return table is null ? null : new ZoneOcsp(zone!, table);
    }

    /// <summary>Monotonic: a clock that is set neither ends sessions nor forgets early data. Never 0.</summary>
    private static long NowSec() => 1 + Sys.MonotonicMs() / 1000;

    internal sealed class ZoneSessions(Zone zone, SharedTable table) : ITlsSessionStore
    {
        private const int ExpiryBytes = 8;

        public void Store(ReadOnlySpan<byte> id, ReadOnlySpan<byte> session, long timeoutSec)
        {
            uint hash = SharedTable.HashOf(id);
            using ZoneLock held = zone.Lock();
            uint known = table.Find(id, hash);
            if (known != 0)
            {
                table.Remove(known);
            }
            uint entry = table.Add(id, hash, ExpiryBytes + session.Length);
            while (entry == 0 && table.RemoveOldest())
            {
                entry = table.Add(id, hash, ExpiryBytes + session.Length);
            }
            if (entry != 0)
            {
                Span<byte> value = table.Value(entry);
                session.CopyTo(value[ExpiryBytes..]);
                zone.WroteMany();
                // Last: until then it is over already.
                BinaryPrimitives.WriteInt64LittleEndian(value, NowSec() + timeoutSec);
                zone.Wrote();
            }
        }

        public int Find(ReadOnlySpan<byte> id, Span<byte> into)
        {
            uint hash = SharedTable.HashOf(id);
            using ZoneLock held = zone.Lock();
            uint entry = table.Find(id, hash);
            if (entry == 0)
            {
                return 0;
            }
            ReadOnlySpan<byte> value = table.Value(entry);
            if (BinaryPrimitives.ReadInt64LittleEndian(value) < NowSec())
            {
                table.Remove(entry);
                return 0;
            }
            value = value[ExpiryBytes..];
            if (value.Length > into.Length)
            {
                return 0;
            }
            table.Touch(entry);
            value.CopyTo(into);
            return value.Length;
        }

        public void Remove(ReadOnlySpan<byte> id)
        {
            using ZoneLock held = zone.Lock();
            uint entry = table.Find(id, SharedTable.HashOf(id));
            if (entry != 0)
            {
                table.Remove(entry);
            }
        }
    }

    /// <summary>Randoms of ClientHellos with the second they came in. OpenSSL takes early data only while the ticket's
    /// age as the client sees it fits within ten seconds, so that a copy that is older is refused anyway.</summary>
    internal sealed class ZoneReplayGuard(Zone zone, SharedTable table) : ITlsReplayGuard
    {
        private const int KeptSec = 30, TrimmedMax = 4;

        public bool IsFirst(ReadOnlySpan<byte> clientRandom)
        {
            uint hash = SharedTable.HashOf(clientRandom);
            long now = NowSec();
            using ZoneLock held = zone.Lock();
            for (int i = 0; i < TrimmedMax && table.Oldest is not 0 and var oldest; i++)
            {
                if (now - BinaryPrimitives.ReadInt64LittleEndian(table.Value(oldest)) < KeptSec)
                {
                    break;
                }
                table.Remove(oldest);
            }
            uint entry = table.Find(clientRandom, hash) != 0 ? 0 : table.Add(clientRandom, hash, sizeof(long));
            if (entry == 0)
            {
                // A copy, or no room to remember it: the client gets its handshake without early data.
                return false;
            }
            // A kill before this leaves it known, with the oldest of times: its early data is refused meanwhile.
            BinaryPrimitives.WriteInt64LittleEndian(table.Value(entry), now);
            zone.Wrote();
            return true;
        }
    }

    internal sealed class ZoneOcsp(Zone zone, SharedTable table) : IOcspStore
    {
        private const int EndsBytes = 8, ValueBytes = EndsBytes + 1;

        public bool TryFind(ReadOnlySpan<byte> key, out TlsOcspStatus status)
        {
            status = TlsOcspStatus.Failed;
            using ZoneLock held = zone.Lock();
            uint entry = table.Find(key, SharedTable.HashOf(key));
            if (entry == 0)
            {
                return false;
            }
            ReadOnlySpan<byte> value = table.Value(entry);
            if (BinaryPrimitives.ReadInt64LittleEndian(value) <= NowSec())
            {
                table.Remove(entry);
                return false;
            }
            table.Touch(entry);
            status = (TlsOcspStatus)value[EndsBytes];
            return true;
        }

        public void Keep(ReadOnlySpan<byte> key, TlsOcspStatus status, long validSec)
        {
            uint hash = SharedTable.HashOf(key);
            using ZoneLock held = zone.Lock();
            uint entry = table.Find(key, hash);
            if (entry == 0)
            {
                entry = table.Add(key, hash, ValueBytes);
                while (entry == 0 && table.RemoveOldest())
                {
                    entry = table.Add(key, hash, ValueBytes);
                }
            }
            if (entry != 0)
            {
                Span<byte> value = table.Value(entry);
                // Over until it is whole: an old status does not get a new time.
                BinaryPrimitives.WriteInt64LittleEndian(value, 0);
                zone.Wrote();
                value[EndsBytes] = (byte)status;
                zone.Wrote();
                BinaryPrimitives.WriteInt64LittleEndian(value, NowSec() + validSec);
                zone.Wrote();
            }
        }
    }

    internal sealed class ZoneTicketKeys(Zone zone, SharedTable table, long periodSec, Func<long>? clock = null)
        : TlsRotatingTicketKeys
    {
        protected override long PeriodSec => periodSec;

        protected override long NowSec => clock?.Invoke() ?? SslZones.NowSec();

        protected override void WithState(ref Turn turn)
        {
            using ZoneLock held = zone.Lock();
            ReadOnlySpan<byte> key = "keys"u8;
            uint hash = SharedTable.HashOf(key);
            uint entry = table.Find(key, hash);
            if (entry == 0)
            {
                entry = table.Add(key, hash, StateBytes);
                if (entry == 0)
                {
                    return;
                }
            }
            turn.Run(table.Value(entry));
        }

        protected override void Wrote(string file, int line) => zone.Wrote(file, line);

        protected override void WroteMany(string file, int line) => zone.WroteMany(file, line);
    }
}
