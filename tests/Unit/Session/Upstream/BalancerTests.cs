// Long lists follow an order that is worked out ahead: it must be the order that walking the list gives, whatever
// fails, comes back, or is full. The other balancers, slow starts, queues and shared groups on the in-memory engine.
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Session.Upstream;

public sealed class BalancerTests
{
    private static PeerSpec Spec(int port, int weight = 1, int fails = 1, int connections = 0, long failTimeoutSec = 10,
        long slowStartMs = 0) => new()
    {
        Address = SocketAddress.Inet([127, 0, 0, 1], port).Native.ToArray(),
        Name = default,
        Weight = weight,
        FailsMax = fails,
        ConnectionsMax = connections,
        FailTimeoutSec = failTimeoutSec,
        SlowStartMs = slowStartMs,
    };

    private static int PortOf(Peer peer) => SocketAddress.PortOf(peer.Spec.Address);

    private static InMemoryLoop NewLoop()
    {
        var loop = new InMemoryLoop();
        loop.Adopt();
        return loop;
    }

    private static UpstreamGroup Group(PeerSpec[] peers, BalancerRule? rule = null, GroupZone? zone = null,
        QueueRule? queue = null) => new()
    {
        Name = NativeSlice.Literal("g"u8),
        Primary = peers,
        Balancing = rule ?? BalancerRule.RoundRobin,
        Zone = zone,
        Queue = queue,
        StartsSlowly = peers.Any(static p => p.SlowStartMs > 0),
    };

    /// <summary>nginx's smooth weighted round robin, walked each time.</summary>
    private sealed class Model(PeerSpec[] specs)
    {
        private readonly int[] _current = new int[specs.Length];
        private readonly int[] _effective = [.. specs.Select(static s => s.Weight)];
        private readonly int[] _fails = new int[specs.Length];
        private readonly int[] _open = new int[specs.Length];
        private readonly long[] _checked = new long[specs.Length];
        private readonly long[] _accessed = new long[specs.Length];

        public int Choose(long nowSec, HashSet<int> tried)
        {
            int best = -1, total = 0;
            for (int i = 0; i < specs.Length; i++)
            {
                PeerSpec s = specs[i];
                if (tried.Contains(i)
                    || s.FailsMax > 0 && _fails[i] >= s.FailsMax && nowSec - _checked[i] <= s.FailTimeoutSec
                    || s.ConnectionsMax > 0 && _open[i] >= s.ConnectionsMax)
                {
                    continue;
                }
                _current[i] += _effective[i];
                total += _effective[i];
                _effective[i] += _effective[i] < s.Weight ? 1 : 0;
                best = best < 0 || _current[i] > _current[best] ? i : best;
            }
            if (best >= 0)
            {
                _current[best] -= total;
                _open[best]++;
                _checked[best] = nowSec - _checked[best] > specs[best].FailTimeoutSec ? nowSec : _checked[best];
            }
            return best;
        }

        public void Leave(int i, bool failed, long nowSec)
        {
            _open[i]--;
            if (failed)
            {
                _fails[i]++;
                _accessed[i] = _checked[i] = nowSec;
                _effective[i] = specs[i].FailsMax > 0
                    ? Math.Max(_effective[i] - (specs[i].Weight / specs[i].FailsMax), 0) : _effective[i];
            }
            else if (_accessed[i] < _checked[i])
            {
                _fails[i] = 0;
            }
        }
    }

    [Theory]
    [InlineData(1, 40, 1, 0, false)]
    [InlineData(2, 40, 6, 0, false)]
    [InlineData(3, 25, 1, 3, false)]
    [InlineData(4, 60, 9, 2, false)]
    [InlineData(5, 30, 4, 0, true)]
    [InlineData(6, 30, 1, 2, true)]
    public void The_order_worked_out_ahead_is_the_walked_one(int seed, int peers, int weights, int full, bool shared)
    {
        var random = new Random(seed);
        PeerSpec[] specs = [.. Enumerable.Range(0, peers).Select(i => Spec(1000 + i, random.Next(1, weights + 1),
            random.Next(0, 3), full == 0 ? 0 : random.Next(0, full + 1), failTimeoutSec: random.Next(1, 5)))];
        InMemoryLoop loop = NewLoop();
        using Zone? zone = shared ? Zone.CreatePrivate(new ZoneSpec("g", 1 << 20, GroupZone.Layout)) : null;
        GroupState state = UpstreamStates.Of(loop).For(Group(specs, null,
            zone is null ? null : GroupZone.Open(zone, ZoneOwner.Alone, 1)));
        var model = new Model(specs);
        var open = new List<(int Index, Peer Peer)>();
        var walk = default(PeerWalk);
        for (int step = 0; step < 4000; step++)
        {
            if (random.Next(200) == 0)
            {
                loop.AdvanceClock(random.Next(1, 3000));
            }
            // Quiet times between the troubles, so that orders are worked out and dropped again.
            bool trouble = step / 500 % 2 == 1;
            var tried = new HashSet<int>();
            state.StartWalk(ref walk, 0);
            for (int tries = trouble ? random.Next(1, 4) : 1; tries > 0; tries--)
            {
                int expected = model.Choose(loop.NowMs / 1000, tried);
                Peer? peer = state.Enter(ref walk);
                Assert.Equal(expected, peer is null ? -1 : PortOf(peer) - 1000);
                if (peer is null)
                {
                    break;
                }
                tried.Add(expected);
                if (tries == 1)
                {
                    open.Add((expected, peer));
                }
                else
                {
                    model.Leave(expected, failed: true, loop.NowMs / 1000);
                    state.Leave(ref walk, peer, PeerEnd.Failed);
                }
            }
            while (open.Count > (trouble ? 20 : 5))
            {
                int at = random.Next(open.Count);
                bool failed = trouble && random.Next(10) == 0;
                model.Leave(open[at].Index, failed, loop.NowMs / 1000);
                state.Leave(ref walk, open[at].Peer, failed ? PeerEnd.Failed : PeerEnd.Fine);
                open.RemoveAt(at);
            }
        }
    }

    [Fact]
    public void Workers_with_a_shared_group_keep_the_order_together_and_the_limit_of_connections()
    {
        InMemoryLoop loop = NewLoop();
        using var zone = Zone.CreatePrivate(new ZoneSpec("g", 1 << 20, GroupZone.Layout));
        using CounterSlots slots = CounterSlots.CreatePrivate();
        int dying = slots.Claim();
        PeerSpec[] specs = [.. Enumerable.Range(0, 20).Select(static i => Spec(1000 + i, connections: i == 0 ? 3 : 0))];
        GroupState[] workers = [.. new[] { dying, slots.Claim(), slots.Claim() }.Select(s =>
            UpstreamStates.Of(loop).For(Group(specs, null, GroupZone.Open(zone, new ZoneOwner(slots, s), 3))))];
        PeerWalk walk = default;
        var held = new List<Peer>();
        for (int i = 0; i < 60; i++)
        {
            GroupState worker = workers[i % 3];
            worker.StartWalk(ref walk, 0);
            held.Add(worker.Enter(ref walk)!);
            Assert.Equal(1000 + (i % 20), PortOf(held[i]));
        }
        // Three connections to the first: it is full for all, until one worker dies.
        workers[1].StartWalk(ref walk, 0);
        Assert.Equal(1001, PortOf(workers[1].Enter(ref walk)!));
        slots.Release(dying);
        workers[1].StartWalk(ref walk, 0);
        Assert.Contains(Enumerable.Range(0, 20), _ => PortOf(workers[1].Enter(ref walk)!) == 1000);
    }

    /// <summary>A zone is laid out for the workers there are when it is made; a reload may want more of them, and old
    /// ones may stay for long.</summary>
    [Fact]
    public void Workers_beyond_those_a_zone_was_laid_out_for_count_for_the_limit_of_connections()
    {
        InMemoryLoop loop = NewLoop();
        using var zone = Zone.CreatePrivate(new ZoneSpec("g", 1 << 20, GroupZone.Layout));
        using CounterSlots slots = CounterSlots.CreatePrivate();
        int[] claimed = [.. Enumerable.Range(0, 40).Select(_ => slots.Claim())];
        int dying = claimed[^1];
        GroupState[] workers = [.. new[] { claimed[0], claimed[20], dying }.Select(s =>
            UpstreamStates.Of(loop).For(Group([Spec(1, connections: 3)], null,
                GroupZone.Open(zone, new ZoneOwner(slots, s), 1))))];
        PeerWalk walk = default;
        foreach (GroupState worker in workers)
        {
            worker.StartWalk(ref walk, 0);
            Assert.NotNull(worker.Enter(ref walk));
        }
        foreach (GroupState worker in workers)
        {
            worker.StartWalk(ref walk, 0);
            Assert.Null(worker.Enter(ref walk));
        }
        // One connection was the dead worker's.
        slots.Release(dying);
        workers[0].StartWalk(ref walk, 0);
        Assert.NotNull(workers[0].Enter(ref walk));
        workers[1].StartWalk(ref walk, 0);
        Assert.Null(workers[1].Enter(ref walk));
    }

    [Fact]
    public void The_server_that_answers_sooner_is_asked()
    {
        InMemoryLoop loop = NewLoop();
        GroupState state = UpstreamStates.Of(loop).For(Group([Spec(1), Spec(2)], new LeastTimeRule(true, false)));
        PeerWalk walk = default;
        var asked = new List<int>();
        for (int i = 0; i < 12; i++)
        {
            state.StartWalk(ref walk, 0);
            Peer peer = state.Enter(ref walk)!;
            asked.Add(PortOf(peer));
            long start = loop.NowMs;
            loop.AdvanceClock(PortOf(peer) == 1 ? 100 : 20);
            state.Leave(ref walk, peer, PeerEnd.Fine, new AttemptFacts(200, start, loop.NowMs - start, 0, 0));
        }
        Assert.True(asked.Count(static p => p == 2) > 8, string.Join(' ', asked));
        Assert.Contains(1, asked);
    }

    [Theory]
    [InlineData(BetterOf.Any)]
    [InlineData(BetterOf.LeastConn)]
    [InlineData(BetterOf.LeastResponseTime)]
    public void Random_choices_reach_every_server_that_can_serve(BetterOf better)
    {
        InMemoryLoop loop = NewLoop();
        GroupState state = UpstreamStates.Of(loop).For(
            Group([Spec(1, 3), Spec(2), Spec(3), Spec(4, connections: 1)], new RandomRule(better)));
        PeerWalk walk = default;
        var asked = new List<int>();
        for (int i = 0; i < 400; i++)
        {
            state.StartWalk(ref walk, 0);
            Peer peer = state.Enter(ref walk)!;
            asked.Add(PortOf(peer));
            if (PortOf(peer) != 4)
            {
                state.Leave(ref walk, peer, PeerEnd.Fine, new AttemptFacts(200, loop.NowMs, 1, 0, 0));
            }
        }
        Assert.Equal([1, 2, 3, 4], asked.Distinct().Order());
        Assert.Single(asked, 4);
    }

    [Fact]
    public void A_server_that_comes_back_begins_slowly()
    {
        InMemoryLoop loop = NewLoop();
        loop.AdvanceClock(100_000);
        GroupState state = UpstreamStates.Of(loop).For(Group([Spec(1, slowStartMs: 10_000, failTimeoutSec: 1),
            Spec(2)]));
        PeerWalk walk = default;
        List<int> Asked(int count)
        {
            var asked = new List<int>();
            for (int i = 0; i < count; i++)
            {
                state.StartWalk(ref walk, 0);
                Peer peer = state.Enter(ref walk)!;
                asked.Add(PortOf(peer));
                state.Leave(ref walk, peer, PeerEnd.Fine);
            }
            return asked;
        }
        Assert.Equal(10, Asked(20).Count(static p => p == 1));
        state.StartWalk(ref walk, 0);
        Peer first = state.Enter(ref walk)!;
        Assert.Equal(1, PortOf(first));
        state.Leave(ref walk, first, PeerEnd.Failed);
        Assert.DoesNotContain(1, Asked(10));
        loop.AdvanceClock(3000);
        Asked(4);
        loop.AdvanceClock(1000);
        Assert.InRange(Asked(100).Count(static p => p == 1), 5, 20);
        loop.AdvanceClock(10_000);
        Assert.InRange(Asked(100).Count(static p => p == 1), 48, 52);
    }
}
