// Shared zones: allocation, tables, the lock that survives its holder, and the rebuild after it.
using System.Text;
using Weir.Kernel;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Zones;

public sealed class ZoneTests
{
    private static readonly ZoneSpec s_spec = new("test:one", 256 * 1024, 7);

    [Fact(DisplayName = "zone: two mappings of one descriptor see the same bytes and are the same zone")]
    public void TwoMappings()
    {
        int fd = Zone.Create(s_spec).Int;
        Assert.True(Zone.Map(fd, s_spec, out Zone? a).IsOk);
        Assert.True(Zone.Map(fd, s_spec, out Zone? b).IsOk);
        Descriptors.Close(fd);
        Assert.Equal(a!.Identity, b!.Identity);
        SharedTable first = SharedTable.Open(a, 0, 100)!, second = SharedTable.Open(b, 0, 100)!;
        using (a.Lock())
        {
            first.Value<long>(first.Add("k"u8, 1, 8)) = 42;
            a.Wrote();
        }
        using (b.Lock())
        {
            Assert.Equal(42, second.Value<long>(second.Find("k"u8, 1)));
        }
        a.Dispose();
        b.Dispose();
    }

    [Fact(DisplayName = "zone: another layout or another size is refused")]
    public void LayoutMismatch()
    {
        int fd = Zone.Create(s_spec).Int;
        Assert.Equal(Errno.EINVAL, Zone.Map(fd, s_spec with { LayoutId = 8 }, out _).Errno);
        Assert.Equal(Errno.EINVAL, Zone.Map(fd, s_spec with { SizeBytes = 128 * 1024 }, out _).Errno);
        Descriptors.Close(fd);
        Assert.Equal(Errno.EINVAL, Zone.Create(s_spec with { SizeBytes = Zone.SizeBytesMin - 1 }).Errno);
        Descriptors.Close(Zone.Create(s_spec with { SizeBytes = Zone.SizeBytesMin }).Int);
    }

    [Fact(DisplayName = "slab: blocks never overlap, a full zone says so, and everything comes back")]
    public void SlabRoundTrip()
    {
        using Zone zone = Zone.CreatePrivate(s_spec);
        int free = zone.Slab.FreePages;
        var random = new Random(1);
        var live = new Dictionary<uint, int>();
        var owner = new Dictionary<uint, uint>();
        using (zone.Lock())
        {
            for (int round = 0; round < 20_000; round++)
            {
                if (live.Count > 0 && random.Next(3) == 0)
                {
                    uint victim = live.Keys.ElementAt(random.Next(Math.Min(live.Count, 10)));
                    zone.Slab.Release(victim);
                    live.Remove(victim);
                    Forget(victim);
                    continue;
                }
                int bytes = random.Next(1, random.Next(10) == 0 ? 20_000 : 3000);
                uint block = zone.Slab.Allocate(bytes);
                if (block == 0)
                {
                    foreach (uint all in live.Keys)
                    {
                        zone.Slab.Release(all);
                    }
                    live.Clear();
                    owner.Clear();
                    Assert.Equal(free, zone.Slab.FreePages);
                    continue;
                }
                Assert.True(zone.Slab.SizeOf(block) >= bytes);
                for (uint unit = 0; unit < zone.Slab.SizeOf(block) / ZoneSlab.UnitBytes; unit++)
                {
                    Assert.True(owner.TryAdd(block + unit, block));
                }
                live.Add(block, bytes);
            }
        }

        void Forget(uint block)
        {
            foreach (uint unit in owner.Where(p => p.Value == block).Select(p => p.Key).ToList())
            {
                owner.Remove(unit);
            }
        }
    }

    [Fact(DisplayName = "table: a full zone refuses, dropping the oldest makes room, and the order is by use")]
    public void LruOrder()
    {
        using Zone zone = Zone.CreatePrivate(s_spec);
        SharedTable table = SharedTable.Open(zone, 0, 1000)!;
        using (zone.Lock())
        {
            int n = 0;
            while (Add(table, "key" + n) != 0)
            {
                n++;
            }
            Assert.True(n > 100);
            table.Touch(Find(table, "key0"));
            Assert.True(table.RemoveOldest());
            Assert.Equal(0u, Find(table, "key1"));
            Assert.NotEqual(0u, Find(table, "key0"));
            Assert.NotEqual(0u, Add(table, "more"));
            Assert.Equal(n, table.Count);
            while (table.RemoveOldest())
            {
            }
            Assert.Equal(0, table.Count);
        }
    }

    [Fact(DisplayName = "zone: a thread that dies holding the lock leaves a zone that the next one repairs")]
    public void HolderDies()
    {
        using Zone zone = Zone.CreatePrivate(s_spec);
        SharedTable table = SharedTable.Open(zone, 0, 64)!, other = SharedTable.Open(zone, 3, 64)!;
        using (zone.Lock())
        {
            for (int i = 0; i < 50; i++)
            {
                Add(table, "a" + i);
                Add(other, "b" + i);
            }
            table.Touch(Find(table, "a0"));
        }
        int free = zone.Slab.FreePages;
        var dying = new Thread(() =>
        {
            _ = zone.Lock();
            // Half an entry, as a kill in the middle of an Add leaves it.
            zone.Slab.Allocate(3000);
            zone.Slab.Allocate(100);
        });
        dying.Start();
        dying.Join();
        using (zone.Lock())
        {
            Assert.Equal(1, zone.RepairCount);
            Assert.Equal(50, table.Count);
            Assert.Equal(50, other.Count);
            Assert.Equal(Find(table, "a1"), table.Oldest);
            for (int i = 0; i < 50; i++)
            {
                Assert.NotEqual(0u, Find(table, "a" + i));
                Assert.NotEqual(0u, Find(other, "b" + i));
            }
            Assert.Equal(free, zone.Slab.FreePages);
        }
        using (zone.Lock())
        {
            Assert.Equal(1, zone.RepairCount);
        }
    }

    [Fact(DisplayName = "zone: a rebuild of a whole zone changes nothing that is reachable")]
    public void RebuildIsHarmless()
    {
        using Zone zone = Zone.CreatePrivate(s_spec);
        SharedTable table = SharedTable.Open(zone, 0, 64)!;
        using (zone.Lock())
        {
            for (int i = 0; i < 200; i++)
            {
                table.Value<int>(Add(table, "k" + i)) = i;
                zone.Wrote();
            }
            for (int i = 0; i < 200; i += 3)
            {
                table.Remove(Find(table, "k" + i));
            }
            int free = zone.Slab.FreePages, count = table.Count;
            zone.Repair();
            Assert.Equal((free, count), (zone.Slab.FreePages, table.Count));
            for (int i = 0; i < 200; i++)
            {
                uint at = Find(table, "k" + i);
                Assert.Equal(i % 3 != 0, at != 0);
                Assert.True(at == 0 || table.Value<int>(at) == i);
            }
        }
    }

    private static uint Find(SharedTable table, string key)
    {
        byte[] bytes = Encoding.ASCII.GetBytes(key);
        return table.Find(bytes, SharedTable.HashOf(bytes));
    }

    private static uint Add(SharedTable table, string key)
    {
        byte[] bytes = Encoding.ASCII.GetBytes(key);
        return table.Add(bytes, SharedTable.HashOf(bytes), 24);
    }

    [Fact]
    public void A_zone_of_TLS_sessions_that_is_full_forgets_those_resumed_longest_ago()
    {
        using Zone zone = Zone.CreatePrivate(new ZoneSpec("ssl:full", Zone.SizeBytesMin, 1));
        var sessions = new Weir.Http.Modules.SslZones.ZoneSessions(zone, SharedTable.Open(zone, 0, 64)!);
        byte[] session = new byte[1000], found = new byte[2000];
        bool Knows(int n) => sessions.Find(BitConverter.GetBytes(n), found) == session.Length;
        for (int i = 0; i < 200; i++)
        {
            sessions.Store(BitConverter.GetBytes(i), session, 1000);
            // Whoever comes again stays.
            Assert.True(Knows(0) && Knows(i));
        }
        Assert.False(Knows(1));
        // One for which there is no room at all costs the others nothing but their places.
        sessions.Store("large"u8, new byte[Zone.SizeBytesMin], 1000);
        Assert.Equal(0, sessions.Find("large"u8, found));
        sessions.Store("next"u8, session, 1000);
        Assert.Equal(session.Length, sessions.Find("next"u8, found));
    }

#if DEBUG
    [Fact]
    public async Task An_audit_does_not_mistake_those_who_wait_for_a_lock_for_its_holder()
    {
        const int LockAt = 64;
        byte[] memory = new byte[4096];
        var points = new FaultPoints("z", (LockAt, 64)) { Audits = true };
        points.Begin(memory);
        bool isOver = false;
        Task waiter = Task.Run(() =>
        {
            for (byte n = 0; !Volatile.Read(ref isOver); n++)
            {
                Volatile.Write(ref memory[LockAt + 4], n);
            }
        });
        Exception? complaint = Record.Exception(() =>
        {
            for (int i = 1; i < 50_000; i++)
            {
                memory[32] = (byte)i;
                points.Point(memory, many: false, "file", 1);
            }
        });
        Volatile.Write(ref isOver, true);
        await waiter;
        Assert.Null(complaint);
        memory[33]++;
        Assert.NotNull(points.End(memory));
    }
#endif
}
