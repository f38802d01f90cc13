// Status counters: single writers, sums over all, and what happens when a writer is gone.
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Zones;

public sealed class CounterSlotsTests
{
    [Fact(DisplayName = "counters: what workers of a master that was killed held counts nothing, their totals stay")]
    public void AbandonKeepsTotals()
    {
        using CounterSlots slots = CounterSlots.CreatePrivate();
        int slot = slots.Claim();
        uint life = slots.LifeOf(slot);
        slots[slot].Add(StatusCounter.Requests, 10);
        slots[slot].Add(StatusCounter.Active, 3);
        slots.Abandon(Environment.ProcessId + 1);
        Assert.True(slots.IsLive(slot, life));
        slots.Abandon(Environment.ProcessId);
        Assert.False(slots.IsLive(slot, life));
        Assert.Equal(10, slots.Sum(StatusCounter.Requests));
        Assert.Equal(0, slots.Sum(StatusCounter.Active));
        Assert.Equal(0, slots.OwnerCount);
        Assert.NotEqual(slot, slots.Claim());
    }

    [Fact(DisplayName = "counters: a dead worker's totals stay, its gauges vanish, its slot is used again")]
    public void ReleaseFolds()
    {
        using CounterSlots slots = CounterSlots.CreatePrivate();
        int a = slots.Claim(), b = slots.Claim();
        Assert.NotEqual(a, b);
        slots[a].Add(StatusCounter.Requests, 10);
        slots[a].Add(StatusCounter.Active, 3);
        slots[b].Add(StatusCounter.Requests, 5);
        slots[b].Add(StatusCounter.Active, 1);
        slots.Release(a);
        Assert.Equal(15, slots.Sum(StatusCounter.Requests));
        Assert.Equal(1, slots.Sum(StatusCounter.Active));
        Assert.Equal(a, slots.Claim());
        Assert.Equal(0, slots[a].Read(StatusCounter.Requests));
        Assert.Equal(15, slots.Sum(StatusCounter.Requests));
    }

    [Fact(DisplayName = "counters: the last slot is given out and the one after it refused")]
    public void Limit()
    {
        using CounterSlots slots = CounterSlots.CreatePrivate();
        for (int i = 1; i <= CounterSlots.SlotsMax; i++)
        {
            Assert.Equal(i, slots.Claim());
        }
        Assert.Equal(-1, slots.Claim());
        slots[CounterSlots.SlotsMax].Add(StatusCounter.Spare3, 1);
        Assert.Equal(1, slots.Sum(StatusCounter.Spare3));
    }

    [Fact(DisplayName = "counters: a sum of totals never goes backwards while slots are released")]
    public void Monotonic()
    {
        using CounterSlots slots = CounterSlots.CreatePrivate();
        bool done = false;
        var reader = new Thread(() =>
        {
            long last = 0;
            while (!Volatile.Read(ref done))
            {
                long now = slots.Sum(StatusCounter.Accepted);
                Assert.True(now >= last);
                last = now;
            }
        });
        reader.Start();
        for (int i = 0; i < 2000; i++)
        {
            int slot = slots.Claim();
            slots[slot].Add(StatusCounter.Accepted, 7);
            slots.Release(slot);
        }
        Volatile.Write(ref done, true);
        reader.Join();
        Assert.Equal(14_000, slots.Sum(StatusCounter.Accepted));
    }
}
