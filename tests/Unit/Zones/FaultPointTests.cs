// A holder of a zone's lock dies after every single write that it makes inside of a critical section, one write at a
// time, also while it repairs what the one before it left. After each death the zone is looked at as the next process
// sees it: nothing is half there, nothing else has changed, no memory is lost. In a release build there are no fault
// points.
#if DEBUG
using System.Globalization;
using System.Text;
using Weir.Kernel;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Zones;

public sealed class FaultPointTests
{
    private static readonly ZoneSpec _spec = new("faults", 64 * 1024, 9);

    private static byte[] Key(int n) => Encoding.ASCII.GetBytes("key" + n.ToString(CultureInfo.InvariantCulture));

    private static int ValueBytes(int n) => n % 7 == 0 ? 5000 : 8 + (n % 5 * 60);

    private static void Add(SharedTable table, int n)
    {
        Assert.NotEqual(0u, table.Add(Key(n), SharedTable.HashOf(Key(n)), ValueBytes(n)));
    }

    /// <summary>Everything that the table says must agree; the keys it holds.</summary>
    private static HashSet<string> Check(Zone zone, SharedTable table)
    {
        var keys = new HashSet<string>();
        using ZoneLock held = zone.Lock();
        var tagged = new List<uint>();
        zone.Slab.CollectTagged(tagged);
        int count = 0;
        for (uint entry = table.Oldest; entry != 0; entry = table.Newer(entry))
        {
            byte[] key = table.Key(entry).ToArray();
            Assert.Equal(entry, table.Find(key, SharedTable.HashOf(key)));
            Assert.True(keys.Add(Encoding.ASCII.GetString(key)));
            Assert.Contains(entry, tagged);
            count++;
        }
        Assert.Equal(count, table.Count);
        return keys;
    }

    [Theory]
    [InlineData("add")]
    [InlineData("add large")]
    [InlineData("remove")]
    [InlineData("remove large")]
    [InlineData("touch")]
    [InlineData("replace oldest")]
    public void A_table_is_whole_after_a_death_at_any_write(string work)
    {
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(_spec);
            SharedTable table = SharedTable.Open(pair.Next, 2, 16)!;
            int empty = pair.Next.Slab.FreePages;
            using (pair.Next.Lock())
            {
                for (int i = 1; i < 12; i++)
                {
                    Add(table, i);
                }
            }
            HashSet<string> before = Check(pair.Next, table);
            bool died = pair.DiesAt(at, zone =>
            {
                SharedTable mine = SharedTable.Open(zone, 2, 16)!;
                using ZoneLock held = zone.Lock();
                uint Of(int n) => mine.Find(Key(n), SharedTable.HashOf(Key(n)));
                switch (work)
                {
                    case "add":
                        Add(mine, 20);
                        break;
                    case "add large":
                        Add(mine, 21);
                        break;
                    case "remove":
                        mine.Remove(Of(5));
                        break;
                    case "remove large":
                        mine.Remove(Of(7));
                        break;
                    case "touch":
                        mine.Touch(Of(6));
                        break;
                    default:
                        mine.RemoveOldest();
                        Add(mine, 22);
                        break;
                }
            });
            HashSet<string> after = Check(pair.Next, table);
            var changed = new HashSet<string>(before);
            changed.SymmetricExceptWith(after);
            Assert.True(changed.Count <= (work == "replace oldest" ? 2 : 1), string.Join(' ', changed));
            Assert.DoesNotContain("key3", changed);
            using (pair.Next.Lock())
            {
                while (table.RemoveOldest())
                {
                }
                Assert.Equal(empty, pair.Next.Slab.FreePages);
            }
            Assert.Equal(died ? 1 : 0, pair.Next.RepairCount);
            return died;
        }, work);
        Assert.True(deaths >= 3, $"only {deaths} fault points");
    }

    [Fact]
    public void A_repair_that_dies_is_repaired_by_the_next()
    {
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(_spec);
            SharedTable table = SharedTable.Open(pair.Next, 2, 16)!;
            using (pair.Next.Lock())
            {
                // Blocks of all kinds: part of a page, a full page of the largest, a run of pages.
                for (int i = 1; i < 8; i++)
                {
                    Add(table, i);
                }
            }
            HashSet<string> before = Check(pair.Next, table);
            Assert.True(pair.DiesAt(6, zone =>
            {
                SharedTable mine = SharedTable.Open(zone, 2, 16)!;
                using ZoneLock held = zone.Lock();
                Add(mine, 30);
            }));
            bool died = pair.DiesAt(at, static zone =>
            {
                using ZoneLock held = zone.Lock();
            });
            Assert.Equal(before, Check(pair.Next, table));
            return died;
        });
        Assert.True(deaths > 10, $"only {deaths} fault points in a repair");
    }

    [Fact]
    public void A_table_that_was_half_opened_is_opened_again_by_whoever_is_left()
    {
        int deaths = 0;
        for (int first = 7; first < 15; first++)
        {
            int opened = first;
            deaths += FaultSuite.AtEveryWrite(at =>
            {
                using var pair = new DyingHolder(_spec);
                int empty = pair.Next.Slab.FreePages;
                pair.DiesAt(opened, static zone => SharedTable.Open(zone, 0, 64));
                bool died = pair.DiesAt(at, static zone => OwnedTable.Open(zone, 64, ZoneOwner.Alone, 2));
                OwnedTable next = OwnedTable.Open(pair.Next, 64, ZoneOwner.Alone, 2)!;
                Assert.Equal(OwnedOutcome.Added, next.TryAdd("k"u8, 1));
                Assert.Equal(OwnedOutcome.Full, next.TryAdd("k"u8, 1));
                next.Remove("k"u8);
                // A page of the table's buckets, nothing else.
                Assert.Equal(empty - 1, pair.Next.Slab.FreePages);
                return died;
            }, first.ToString(CultureInfo.InvariantCulture));
        }
        Assert.True(deaths >= 60, $"only {deaths} fault points");
    }

    [Fact]
    public void Counts_of_owners_are_exact_after_a_death_at_any_write()
    {
        int deaths = 0;
        for (int step = 0; step < 4; step++)
        {
            int steps = step;
            deaths += FaultSuite.AtEveryWrite(at =>
            {
                using var pair = new DyingHolder(_spec);
                using CounterSlots slots = CounterSlots.CreatePrivate();
                int dying = slots.Claim();
                OwnedTable next = OwnedTable.Open(pair.Next, 32, new ZoneOwner(slots, slots.Claim()), 2)!;
                next.TryAdd("k"u8, 100);
                next.TryAdd("k"u8, 100);
                next.TryAdd("other"u8, 100);
                var owner = new ZoneOwner(slots, dying);
                bool died = pair.DiesAt(at, zone =>
                {
                    OwnedTable mine = OwnedTable.Open(zone, 32, owner, 2)!;
                    mine.TryAdd("k"u8, 100);
                    for (int i = 0; i < steps; i++)
                    {
                        mine.TryAdd("mine"u8, 100);
                        mine.Remove(i == 1 ? "mine"u8 : "k"u8);
                    }
                });
                slots.Release(dying);
                Assert.Equal(2, next.Count("k"u8));
                Assert.Equal(1, next.Count("other"u8));
                Assert.Equal(0, next.Count("mine"u8));
                next.Remove("k"u8);
                Assert.Equal(1, next.Count("k"u8));
                return died;
            }, step.ToString(CultureInfo.InvariantCulture));
        }
        Assert.True(deaths >= 40, $"only {deaths} fault points");
    }
}
#endif
