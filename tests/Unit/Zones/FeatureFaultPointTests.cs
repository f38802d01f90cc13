// Every write that a feature makes under a zone's lock is once the last one of its worker: cache keys, upstream groups,
// request limits, sticky sessions, TLS sessions, the opening of tables. After each death the feature is asked through
// another mapping: what it says is what was true before or what would have been true after, and nothing is lost.
#if DEBUG
using System.Text;
using Weir.Http.Cache;
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Session.Upstream;
using Weir.Tls;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Zones;

public sealed class FeatureFaultPointTests
{
    private const long NowMs = 1_700_000_000_000, NowSec = NowMs / 1000;

    private static CacheKey Key(int i) => CacheKey.Of(Encoding.ASCII.GetBytes($"key {i}"));

    /// <summary>Work on a cache's keys; 1 to 8 are stored, 1 is never touched, 2 is fetched by the dying.</summary>
    private static readonly Dictionary<string, Action<CacheIndex>> s_cache = new()
    {
        ["use an unknown key"] = static i => i.Use(Key(20), NowSec),
        ["use a known key"] = static i => i.Use(Key(3), NowSec + 1),
        ["publish"] = static i => i.Publish(Key(20), 200, 77, NowSec, 0, Key(20), 0, NowMs),
        ["publish over"] = static i => i.Publish(Key(3), 300, 77, NowSec, 0, Key(3), 0, NowMs),
        ["publish too late"] = static i => i.Publish(Key(3), 1, 77, NowSec, 0, Key(3), 0, NowMs),
        ["learn"] = static i => Assert.True(i.Learn(Key(3), 300, 77, NowSec, 0, 0)),
        ["lock"] = static i => i.TryLock(Key(4), NowMs, 60_000, out long _),
        ["lock an unknown key"] = static i => i.TryLock(Key(20), NowMs, 60_000, out long _),
        ["unlock"] = static i =>
        {
            i.TryLock(Key(4), NowMs, 60_000, out long token);
            i.Unlock(Key(4), token, NowMs + 1000);
        },
        ["forget"] = static i => i.Forget(Key(3), 30),
        ["forget by key"] = static i => i.Forget(Key(3), 0),
        ["remember"] = static i => i.Remember(Key(3), 502, NowSec + 10),
        ["load"] = static i => i.Load(Key(20), 77, NowSec),
        ["remove"] = static i => i.Remove(new CacheVictim(Key(3), 30, NowSec)),
        ["mark"] = static i => i.Mark(PurgeKind.Tag, "red"u8, NowMs),
        ["mark a full zone"] = static i =>
        {
            for (int n = 100; !i.TryTakeEvicted(out CacheKey _); n++)
            {
                i.Publish(Key(n), (ulong)n * 10, 77, NowSec, 0);
            }
            i.Mark(PurgeKind.Prefix, new byte[1000], NowMs);
        },
        ["forget what is overtaken"] = static i => i.Publish(Key(4), 1, 77, NowSec, 0, Key(4), 0, NowMs),
        ["say that all is loaded"] = static i => i.IsLoaded = true,
        ["say that marks are read"] = static i => i.HasReadMarks = true,
        ["drop marks"] = static i => i.DropMarks(i.Mark(PurgeKind.Tag, "red"u8, NowMs)),
        ["pass purges"] = static i =>
            Assert.True(i.PassedPurges(Key(3), 30, i.Mark(PurgeKind.Prefix, "none"u8, NowMs), 0)),
        ["evict"] = static i =>
        {
            for (int n = 100; !i.TryTakeEvicted(out CacheKey _); n++)
            {
                i.Publish(Key(n), (ulong)n * 10, 77, NowSec, 0);
            }
        },
    };

    /// <summary>Work for which the zone has to be full.</summary>
    private static readonly string[] s_full = ["evict", "mark a full zone"];

    public static TheoryData<string> CacheWork => [.. s_cache.Keys];

    [Theory]
    [MemberData(nameof(CacheWork))]
    public void A_cache_is_whole_after_a_death_at_any_write(string work)
    {
        var spec = new ZoneSpec("cache:faults", 64 * 1024, CacheIndex.Layout);
        int first = 0;
        if (s_full.Contains(work))
        {
            // Only the writes of the last, full zone: each before has been another test's.
            using var probe = new DyingHolder(spec);
            int writes = 0;
            using CounterSlots slots = CounterSlots.CreatePrivate();
            CacheIndex index = Filled(probe.Next, slots, out ZoneOwner _);
            probe.Next.Faults.DiesHere = () => writes++ < 0;
            s_cache[work](index);
            probe.Next.Faults.DiesHere = null;
            first = writes - 60;
        }
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            using CounterSlots slots = CounterSlots.CreatePrivate();
            CacheIndex next = Filled(pair.Next, slots, out ZoneOwner dying);
            int free = Free(spec);
            bool died = pair.DiesAt(first + at, zone => CacheIndex.Open(zone, dying)!, (_, i) => s_cache[work](i));
            slots.Release(dying.Slot);
            // What comes first after a death counts everything anew in the midst of its own work.
            next.Forget(Key(5), 50);
            if (!s_full.Contains(work))
            {
                CacheLook one = next.Look(Key(1), NowSec);
                Assert.True(one.Exists);
                Assert.Equal(10u, one.Id);
                Assert.Equal(CacheLockOutcome.Taken, next.TryLock(Key(2), NowMs, 60_000, out long token));
                next.Unlock(Key(2), token);
            }
            while (next.TryOldest(out CacheVictim victim))
            {
                next.Remove(victim);
            }
            Assert.Equal(0, next.Bytes);
            Assert.Equal(0, next.Count);
            next.DropMarks(uint.MaxValue);
            Assert.False(next.HasMarks);
            Assert.Equal(free, pair.Next.Slab.FreePages);
            return died;
        }, work);
        Assert.True(deaths >= 1, $"only {deaths} fault points");
    }

    [Fact]
    public void Whoever_asks_first_counts_anew_what_a_death_left_and_may_die_of_it()
    {
        var spec = new ZoneSpec("cache:faults", 64 * 1024, CacheIndex.Layout);
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            using CounterSlots slots = CounterSlots.CreatePrivate();
            CacheIndex next = Filled(pair.Next, slots, out ZoneOwner dying);
            long bytes = next.Bytes;
            Assert.True(pair.DiesAt(0, zone => CacheIndex.Open(zone, dying)!,
                static (_, i) => i.Learn(Key(3), 30, 9, 0, 0, 0)));
            bool died = pair.DiesAt(at, zone => CacheIndex.Open(zone, dying)!, static (_, i) =>
                Assert.False(i.IsPurged("key"u8, default, NowMs, NowMs, out uint _)));
            Assert.Equal(bytes, next.Bytes);
            return died;
        });
        Assert.True(deaths >= 8, $"only {deaths} fault points");
    }

    private static CacheIndex Filled(Zone zone, CounterSlots slots, out ZoneOwner dying)
    {
        dying = new ZoneOwner(slots, slots.Claim());
        CacheIndex theirs = CacheIndex.Open(zone, dying)!;
        CacheIndex index = CacheIndex.Open(zone, new ZoneOwner(slots, slots.Claim()))!;
        for (int i = 1; i <= 8; i++)
        {
            index.Publish(Key(i), (ulong)i * 10, 1000 + i, NowSec, 0);
        }
        theirs.TryLock(Key(2), NowMs, 60_000, out long _);
        return index;
    }

    /// <summary>Free pages of a cache's zone without entries.</summary>
    private static int Free(ZoneSpec spec)
    {
        using Zone zone = Zone.CreatePrivate(spec);
        CacheIndex.Open(zone, ZoneOwner.Alone);
        return zone.Slab.FreePages;
    }

    [Fact]
    public void Opening_tables_may_be_cut_short_at_any_write()
    {
        var spec = new ZoneSpec("cache:faults", 64 * 1024, CacheIndex.Layout);
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            bool died = pair.DiesAt(at, static zone => CacheIndex.Open(zone, ZoneOwner.Alone));
            Assert.NotNull(CacheIndex.Open(pair.Next, ZoneOwner.Alone));
            Assert.Equal(Free(spec), pair.Next.Slab.FreePages);
            return died;
        });
        Assert.True(deaths >= 20, $"only {deaths} fault points");
    }

    private static readonly PeerSpec s_peer = new() { Address = [1, 2, 3], Name = default, ConnectionsMax = 9 };

    [Theory]
    [InlineData("attach")]
    [InlineData("attach another")]
    [InlineData("attach beyond the layout")]
    [InlineData("connect")]
    [InlineData("disconnect")]
    [InlineData("detach")]
    [InlineData("recount")]
    [InlineData("rows")]
    public void Connections_of_a_group_are_exact_after_a_death_at_any_write(string work)
    {
        var spec = new ZoneSpec("upstream:faults", 64 * 1024, GroupZone.Layout);
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            using CounterSlots slots = CounterSlots.CreatePrivate();
            for (int i = 0; work == "attach beyond the layout" && i < 20; i++)
            {
                slots.Claim();
            }
            var dying = new ZoneOwner(slots, slots.Claim());
            int gone = slots.Claim();
            GroupZone next = GroupZone.Open(pair.Next, new ZoneOwner(slots, slots.Claim()), 2)!;
            uint group, entry;
            using (next.Lock())
            {
                group = next.Group("app"u8);
                entry = next.Attach("app 1"u8, s_peer);
                next.Connect(entry);
                next.Connect(entry);
            }
            GroupZone third = GroupZone.Open(pair.Next, new ZoneOwner(slots, gone), 2)!;
            using (third.Lock())
            {
                third.Connect(entry);
            }
            bool died = pair.DiesAt(at, zone =>
            {
                GroupZone mine = GroupZone.Open(zone, dying, 2)!;
                using ZoneLock held = mine.Lock();
                mine.Attach("app 1"u8, s_peer);
                mine.Connect(entry);
                if (work == "recount")
                {
                    slots.Release(gone);
                }
                return mine;
            }, (_, mine) =>
            {
                using ZoneLock held = mine.Lock();
                switch (work)
                {
                    case "attach":
                        mine.Attach("app 1"u8, s_peer);
                        break;
                    case "attach another":
                    case "attach beyond the layout":
                        mine.Attach("app 2"u8, s_peer);
                        break;
                    case "connect":
                        mine.Connect(entry);
                        break;
                    case "disconnect":
                        mine.Disconnect(entry);
                        break;
                    case "detach":
                        mine.Detach(entry);
                        break;
                    case "rows":
                        mine.MakeRows("app"u8, backup: false, 100);
                        mine.MakeRows("app"u8, backup: false, 4000);
                        break;
                }
            });
            slots.Release(dying.Slot);
            int others = work == "recount" ? 2 : 3;
            using ZoneLock held = next.Lock();
            Assert.Equal(others, next.Living(entry).Connections);
            Assert.Equal(others, next.Record(entry).Connections);
            Assert.Equal(group, next.Group("app"u8));
            Assert.Equal(entry, next.Attach("app 1"u8, s_peer));
            Assert.Equal(9, next.Record(entry).ConnectionsMax);
            Assert.True(next.Rows(next.MakeRows("app"u8, backup: false, 4000)).Length >= 4000);
            return died;
        }, work);
        Assert.True(deaths >= 1, $"only {deaths} fault points");
    }

    [Fact]
    public void A_rate_admits_nobody_more_after_a_death_at_any_write()
    {
        var spec = new ZoneSpec("limit_req:faults", 32 * 1024, 1);
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            var next = new LimitReqZone("faults") { SizeBytes = spec.SizeBytes, Rate = 1000 };
            next.Open(pair.Next);
            for (int i = 0; i < 4; i++)
            {
                Assert.Equal(LimitVerdict.Admitted, next.Look("known"u8, 10_000, account: true, NowMs, out long _));
            }
            bool died = pair.DiesAt(at, static zone =>
            {
                var mine = new LimitReqZone("faults") { SizeBytes = 32 * 1024, Rate = 1000 };
                mine.Open(zone);
                return mine;
            }, static (_, mine) =>
            {
                mine.Look("known"u8, 10_000, account: true, NowMs + 100, out long _);
                mine.Look("new"u8, 10_000, account: false, NowMs + 100, out long _);
                mine.Account("new"u8, NowMs + 100);
                mine.Look("third"u8, 10_000, account: true, NowMs + 100, out long _);
            });
            next.Look("known"u8, 10_000, account: false, NowMs + 100, out long excess);
            // Four in one moment owe three; a tenth of a second pays back a tenth, and asking costs one.
            Assert.InRange(excess, 3900, 4900);
            return died;
        });
        Assert.True(deaths >= 20, $"only {deaths} fault points");
    }

    [Fact]
    public void A_sticky_session_is_whole_or_unknown_after_a_death_at_any_write()
    {
        var spec = new ZoneSpec("sticky:faults", 32 * 1024, StickySessions.Layout);
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            StickySessions next = StickySessions.Open(pair.Next, 600)!;
            next.Remember("a"u8, "server1"u8, NowSec);
            next.Remember("b"u8, "server1"u8, NowSec);
            next.Remember("stays"u8, "server9"u8, NowSec);
            bool died = pair.DiesAt(at, static zone => StickySessions.Open(zone, 600)!, static (_, mine) =>
            {
                Span<byte> name = stackalloc byte[StickySessions.NameBytesMax];
                mine.Remember("new"u8, "server2"u8, NowSec);
                mine.Remember("a"u8, "server2"u8, NowSec);
                mine.Remember("b"u8, "another2"u8, NowSec);
                mine.Find("a"u8, NowSec + 1, name);
                mine.Find("new"u8, NowSec + 1000, name);
            });
            Span<byte> name = stackalloc byte[StickySessions.NameBytesMax];
            string Of(string id, Span<byte> into) =>
                Encoding.ASCII.GetString(into[..next.Find(Encoding.ASCII.GetBytes(id), NowSec + 1, into)]);
            Assert.Contains(Of("a", name), (string[])["", "server1", "server2"]);
            Assert.Contains(Of("b", name), (string[])["", "server1", "another2"]);
            Assert.Contains(Of("new", name), (string[])["", "server2"]);
            Assert.Equal("server9", Of("stays", name));
            return died;
        });
        Assert.True(deaths >= 20, $"only {deaths} fault points");
    }

    [Fact]
    public void A_TLS_session_is_whole_or_unknown_after_a_death_at_any_write()
    {
        var spec = new ZoneSpec("ssl:faults", 32 * 1024, 1);
        byte[] one = [.. Enumerable.Repeat((byte)1, 200)], two = [.. Enumerable.Repeat((byte)2, 200)];
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            var next = new SslZones.ZoneSessions(pair.Next, SharedTable.Open(pair.Next, 0, 64)!);
            next.Store("a"u8, one, 1000);
            next.Store("stays"u8, one, 1000);
            bool died = pair.DiesAt(at, static zone =>
                new SslZones.ZoneSessions(zone, SharedTable.Open(zone, 0, 64)!), (_, mine) =>
            {
                mine.Store("a"u8, two, 1000);
                mine.Store("new"u8, two, 1000);
                mine.Find("a"u8, new byte[500]);
                mine.Remove("a"u8);
            });
            foreach (string id in (string[])["a", "new", "stays"])
            {
                byte[] found = new byte[500];
                int length = next.Find(Encoding.ASCII.GetBytes(id), found);
                byte[] session = found[..length];
                Assert.True(length == 0 && id != "stays" || session.SequenceEqual(one)
                    || id != "stays" && session.SequenceEqual(two), id);
            }
            return died;
        });
        Assert.True(deaths >= 20, $"only {deaths} fault points");
    }

    [Fact]
    public void A_ClientHello_that_was_accepted_is_never_accepted_again_after_a_death_at_any_write()
    {
        var spec = new ZoneSpec("early:faults", 32 * 1024, 1);
        byte[] known = [.. Enumerable.Repeat((byte)1, 32)], last = [.. Enumerable.Repeat((byte)2, 32)];
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            var next = new SslZones.ZoneReplayGuard(pair.Next, SharedTable.Open(pair.Next, 0, 64)!);
            Assert.True(next.IsFirst(known));
            bool died = pair.DiesAt(at, static zone =>
                new SslZones.ZoneReplayGuard(zone, SharedTable.Open(zone, 0, 64)!), (_, mine) => mine.IsFirst(last));
            Assert.False(next.IsFirst(known));
            // Whoever died has answered nobody yet; what it went through with is known.
            bool again = next.IsFirst(last);
            Assert.True(died || !again);
            Assert.False(next.IsFirst(known));
            return died;
        });
        Assert.True(deaths >= 8, $"only {deaths} fault points");
    }

    [Fact]
    public void What_is_known_of_a_certificate_is_whole_or_unknown_after_a_death_at_any_write()
    {
        var spec = new ZoneSpec("ocsp:faults", 32 * 1024, 1);
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            var next = new SslZones.ZoneOcsp(pair.Next, SharedTable.Open(pair.Next, 0, 64)!);
            next.Keep("a"u8, TlsOcspStatus.Good, 1000);
            next.Keep("stays"u8, TlsOcspStatus.Good, 1000);
            // Over: good once more only if somebody said so.
            next.Keep("over"u8, TlsOcspStatus.Good, -1000);
            bool died = pair.DiesAt(at, static zone =>
                new SslZones.ZoneOcsp(zone, SharedTable.Open(zone, 0, 64)!), static (_, mine) =>
            {
                mine.Keep("over"u8, TlsOcspStatus.Revoked, 1000);
                mine.Keep("a"u8, TlsOcspStatus.Revoked, 1000);
                mine.Keep("new"u8, TlsOcspStatus.Revoked, 1000);
            });
            Assert.True(next.TryFind("stays"u8, out TlsOcspStatus stays) && stays == TlsOcspStatus.Good);
            Assert.True(!next.TryFind("over"u8, out TlsOcspStatus over) || over == TlsOcspStatus.Revoked);
            Assert.True(!next.TryFind("new"u8, out TlsOcspStatus made) || made == TlsOcspStatus.Revoked);
            return died;
        });
        Assert.True(deaths >= 16, $"only {deaths} fault points");
    }

    private static byte[] NameOf(TlsTicketKey key) =>
        ((ReadOnlySpan<byte>)key)[..TlsTicketKey.NameBytes].ToArray();

    [Fact]
    public void Ticket_keys_that_are_good_stay_good_after_a_death_at_any_write_of_a_rotation()
    {
        var spec = new ZoneSpec("tickets:faults", Zone.SizeBytesMin, 1);
        // The library is loaded by whoever needs it first.
        using TlsContext context = TlsContext.Create(TlsProtocols.Tls13, out string? _)!;
        foreach (int rotations in (int[])[0, 1, 2, 3])
        {
            int deaths = FaultSuite.AtEveryWrite(at =>
            {
                using var pair = new DyingHolder(spec);
                long now = 1000;
                SslZones.ZoneTicketKeys Of(Zone zone) => new(zone, SharedTable.Open(zone, 0, 64)!, 100, () => now);
                SslZones.ZoneTicketKeys next = Of(pair.Next);
                TlsTicketKey last = default;
                for (int i = 0; i < rotations; i++)
                {
                    Assert.True(next.Current(out last, out bool _));
                    now += 100;
                }
                bool died = pair.DiesAt(at, Of, static (_, mine) => mine.Current(out TlsTicketKey _, out bool _));
                // Tickets of the last period are good for another one.
                Assert.True(rotations == 0
                    || next.Find(NameOf(last), out TlsTicketKey found, out bool _, out bool renew) && renew
                    && ((ReadOnlySpan<byte>)found).SequenceEqual(last));
                Assert.True(next.Current(out TlsTicketKey current, out bool _));
                Assert.False(((ReadOnlySpan<byte>)current).SequenceEqual(last));
                Assert.True(((ReadOnlySpan<byte>)current).ContainsAnyExcept((byte)0));
                Assert.True(next.Find(NameOf(current), out TlsTicketKey _, out bool _, out bool renewed) && !renewed);
                return died;
            }, rotations.ToString(System.Globalization.CultureInfo.InvariantCulture));
            Assert.True(deaths >= 5, $"only {deaths} fault points");
        }
    }
}
#endif
