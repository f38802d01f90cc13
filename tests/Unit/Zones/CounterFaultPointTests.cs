// A master dies after every single write that it makes to the table of counter slots: while it gives a slot out, takes
// one back, or declares another master's slots abandoned. Before anybody else has entered the registry and after it,
// nothing is counted twice, nothing is lost, and who counts connections is told that an owner has gone.
#if DEBUG
using Weir.Kernel;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Zones;

public sealed class CounterFaultPointTests
{
    /// <summary>The table as two masters see it, of which one dies at a write.</summary>
    private sealed class Masters : IDisposable
    {
        private readonly int _fd = CounterSlots.Create().Int;

        private readonly List<CounterSlots> _dead = [];

        public Masters() => Next = Open();

        public CounterSlots Next { get; }

        private CounterSlots Open()
        {
            CounterSlots.Map(_fd, out CounterSlots? slots);
            slots!.Faults.Audits = true;
            return slots;
        }

        public bool DiesAt(int at, Action<CounterSlots> work)
        {
            // The kernel finds the lock through this mapping when the thread is really gone: it stays.
            CounterSlots dying = Open();
            _dead.Add(dying);
            int writes = 0;
            bool died = false;
            var thread = new Thread(() =>
            {
                dying.Faults.DiesHere = () => writes++ == at;
                try
                {
                    work(dying);
                }
                catch (HolderDiedException)
                {
                    died = true;
                }
            });
            thread.Start();
            thread.Join();
            return died;
        }

        public void Dispose()
        {
            Next.Claim();
            _dead.ForEach(static d => d.Dispose());
            Next.Dispose();
            Descriptors.Close(_fd);
        }
    }

    private static void Count(CounterSlots slots, int slot, long requests, long active)
    {
        slots[slot].Add(StatusCounter.Accepted, requests * 2);
        slots[slot].Add(StatusCounter.Requests, requests);
        slots[slot].Add(StatusCounter.Active, active);
    }

    [Fact]
    public void A_worker_s_totals_count_once_whenever_the_master_dies_that_takes_its_slot_back()
    {
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var masters = new Masters();
            CounterSlots next = masters.Next;
            int gone = next.Claim(), stays = next.Claim(), earlier = next.Claim();
            Count(next, earlier, 100, 7);
            next.Release(earlier);
            Count(next, gone, 10, 3);
            Count(next, stays, 5, 1);
            uint life = next.LifeOf(gone);
            long departures = next.Departures;
            bool died = masters.DiesAt(at, slots => slots.Release(gone));
            // Nobody has repaired anything yet.
            Assert.Equal(115, next.Sum(StatusCounter.Requests));
            Assert.Equal(230, next.Sum(StatusCounter.Accepted));
            Assert.Contains(next.Sum(StatusCounter.Active), (long[])[1, 4]);
            int claimed = next.Claim();
            Assert.Equal(115, next.Sum(StatusCounter.Requests));
            if (next.IsLive(gone, life))
            {
                Assert.True(died);
                next.Release(gone);
            }
            Assert.True(next.Departures > departures);
            Assert.Equal(115, next.Sum(StatusCounter.Requests));
            Assert.Equal(230, next.Sum(StatusCounter.Accepted));
            Assert.Equal(1, next.Sum(StatusCounter.Active));
            next.Release(claimed);
            Assert.Equal(115, next.Sum(StatusCounter.Requests));
            Assert.Equal(1, next.OwnerCount);
            return died;
        });
        Assert.True(deaths >= 20, $"only {deaths} fault points");
    }

    [Fact]
    public void A_recount_is_due_whenever_an_owner_is_gone_however_its_master_died()
    {
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var masters = new Masters();
            CounterSlots next = masters.Next;
            int gone = next.Claim(), counting = next.Claim();
            var owner = new ZoneOwner(next, counting);
            uint life = next.LifeOf(gone);
            bool died = masters.DiesAt(at, slots => slots.Release(gone));
            // A worker counts anew in the moment after the death: what it saw of departures must not be the last word.
            (long seen, bool alive) = (owner.Departures, owner.IsLive(gone, life));
            next.Claim();
            Assert.True(owner.IsLive(gone, life) == alive || owner.Departures != seen);
            return died;
        });
        Assert.True(deaths >= 20, $"only {deaths} fault points");
    }

    [Fact]
    public void A_slot_is_given_out_whole_or_not_at_all()
    {
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var masters = new Masters();
            CounterSlots next = masters.Next;
            int first = next.Claim();
            next.Release(first);
            uint life = next.LifeOf(first);
            bool died = masters.DiesAt(at, static slots => slots.Claim());
            Assert.False(next.IsLive(first, life));
            next.Abandon(Environment.ProcessId);
            Assert.Equal(0, next.OwnerCount);
            int claimed = next.Claim();
            Assert.True(next.IsLive(claimed, next.LifeOf(claimed)));
            Assert.True(next.SlotsUsed >= claimed);
            Assert.Equal(1, next.OwnerCount);
            return died;
        });
        Assert.True(deaths >= 4, $"only {deaths} fault points");
    }

    [Fact]
    public void What_a_killed_master_left_is_abandoned_even_if_whoever_does_it_dies()
    {
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var masters = new Masters();
            CounterSlots next = masters.Next;
            int one = next.Claim(), two = next.Claim();
            Count(next, one, 10, 3);
            (uint life1, uint life2) = (next.LifeOf(one), next.LifeOf(two));
            long departures = next.Departures;
            bool died = masters.DiesAt(at, static slots => slots.Abandon(Environment.ProcessId));
            next.Abandon(Environment.ProcessId);
            Assert.False(next.IsLive(one, life1) || next.IsLive(two, life2));
            Assert.True(next.Departures >= departures + 2);
            Assert.Equal(10, next.Sum(StatusCounter.Requests));
            Assert.Equal(0, next.Sum(StatusCounter.Active));
            return died;
        });
        Assert.True(deaths >= 4, $"only {deaths} fault points");
    }

    [Fact]
    public void A_registry_may_die_while_it_is_repaired()
    {
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var masters = new Masters();
            CounterSlots next = masters.Next;
            int gone = next.Claim();
            Count(next, gone, 10, 3);
            // In the midst of the totals.
            Assert.True(masters.DiesAt(6, slots => slots.Release(gone)));
            bool died = masters.DiesAt(at, static slots => slots.Abandon(-1));
            Assert.Equal(10, next.Sum(StatusCounter.Requests));
            next.Claim();
            Assert.Equal(10, next.Sum(StatusCounter.Requests));
            Assert.Equal(0, next.Sum(StatusCounter.Active));
            return died;
        });
        Assert.True(deaths >= 10, $"only {deaths} fault points");
    }
}
#endif
