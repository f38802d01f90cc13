// Counts that belong to workers: what all living ones hold, what a dead one leaves, and a zone that is full.
using System.Globalization;
using System.Text;
using Weir.Kernel;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Zones;

public sealed class OwnedTableTests
{
    private static readonly ZoneSpec _spec = new("owned", Zone.SizeBytesMin, 7);

    private static OwnedTable Open(Zone zone, CounterSlots slots, int slot) =>
        OwnedTable.Open(zone, 64, new ZoneOwner(slots, slot), 2)!;

    [Fact(DisplayName = "owned counts: the limit holds over all owners, whatever their slots")]
    public void LimitOverAll()
    {
        using var zone = Zone.CreatePrivate(_spec);
        using CounterSlots slots = CounterSlots.CreatePrivate();
        OwnedTable[] tables = [.. Enumerable.Range(0, 5).Select(_ => Open(zone, slots, slots.Claim()))];
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal(OwnedOutcome.Added, tables[i % 5].TryAdd("k"u8, 10));
        }
        Assert.All(tables, t => Assert.Equal(OwnedOutcome.Full, t.TryAdd("k"u8, 10)));
        Assert.Equal(OwnedOutcome.Added, tables[0].TryAdd("other"u8, 1));
        tables[3].Remove("k"u8);
        Assert.Equal(9, tables[0].Count("k"u8));
        Assert.Equal(OwnedOutcome.Added, tables[1].TryAdd("k"u8, 10));
    }

    [Fact(DisplayName = "owned counts: what a dead owner held is free at once, and not its successor's")]
    public void DeadOwner()
    {
        using var zone = Zone.CreatePrivate(_spec);
        using CounterSlots slots = CounterSlots.CreatePrivate();
        int slot = slots.Claim();
        OwnedTable dead = Open(zone, slots, slot);
        OwnedTable alive = Open(zone, slots, slots.Claim());
        dead.TryAdd("k"u8, 3);
        dead.TryAdd("k"u8, 3);
        alive.TryAdd("k"u8, 3);
        Assert.Equal(OwnedOutcome.Full, alive.TryAdd("k"u8, 3));
        slots.Release(slot);
        Assert.Equal(1, alive.Count("k"u8));
        Assert.Equal(slot, slots.Claim());
        OwnedTable next = Open(zone, slots, slot);
        Assert.Equal(1, next.Count("k"u8));
        Assert.Equal(OwnedOutcome.Added, next.TryAdd("k"u8, 3));
        next.Remove("k"u8);
        alive.Remove("k"u8);
        Assert.Equal(0, next.Count("k"u8));
        Assert.Equal(0, next.EntryCount);
    }

    [Fact(DisplayName = "owned counts: a full zone refuses, and takes again what dead owners filled")]
    public void FullZone()
    {
        using var zone = Zone.CreatePrivate(_spec);
        using CounterSlots slots = CounterSlots.CreatePrivate();
        int slot = slots.Claim();
        OwnedTable first = Open(zone, slots, slot);
        int held = 0;
        while (first.TryAdd(Key(held), 1) == OwnedOutcome.Added)
        {
            held++;
        }
        Assert.InRange(held, 100, 10_000);
        OwnedTable second = Open(zone, slots, slots.Claim());
        Assert.Equal(OwnedOutcome.NoRoom, second.TryAdd("new"u8, 1));
        slots.Release(slot);
        for (int i = 0; i < held; i++)
        {
            Assert.Equal(OwnedOutcome.Added, second.TryAdd(Key(100_000 + i), 1));
        }
        Assert.Equal(OwnedOutcome.NoRoom, second.TryAdd("one more"u8, 1));
    }

    private static byte[] Key(int n) => Encoding.ASCII.GetBytes(n.ToString("D6", CultureInfo.InvariantCulture));
}
