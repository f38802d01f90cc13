// What it costs to choose among 1 to 1,000 servers, by balancing method: one walk with its choice and its end, on one
// loop, all servers idle (so that least_conn and least_time have equals all over) or with as many requests under way as
// there are servers, without a zone and with one.
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;
using Weir.Zones;

namespace Weir.Bench.Micro;

internal static class Choices
{
    internal static void Time()
    {
        using var loop = new InMemoryLoop();
        loop.Adopt();
        (string Name, BalancerRule Rule)[] rules =
        [
            ("round robin", BalancerRule.RoundRobin),
            ("ip_hash", new IpHashRule()),
            ("random two", new RandomRule(BetterOf.LeastConn)),
            ("least_conn", new LeastConnRule()),
            ("least_time", new LeastTimeRule(byHeader: true, inFlight: false)),
        ];
        foreach ((string name, BalancerRule rule) in rules)
        {
            foreach (int servers in (ReadOnlySpan<int>)[1, 10, 100, 1000])
            {
                Time(loop, $"choosing, {name}, {servers}", Group(rule, servers, null), busy: false);
                if (rule is LeastConnRule or LeastTimeRule)
                {
                    using Zone zone = Zone.CreatePrivate(new ZoneSpec("g", 4 << 20, GroupZone.Layout));
                    Time(loop, $"choosing, {name}, {servers}, busy", Group(rule, servers, null), busy: true);
                    Time(loop, $"choosing, {name}, {servers}, zone",
                        Group(rule, servers, GroupZone.Open(zone, ZoneOwner.Alone, 1)), busy: false);
                }
            }
        }
    }

    private static void Time(InMemoryLoop loop, string what, UpstreamGroup group, bool busy)
    {
        GroupState state = UpstreamStates.Of(loop).For(group);
        var walk = default(PeerWalk);
        var open = new Queue<Peer>();
        var random = new Random(1);
        for (int i = 0; busy && i < group.Primary.Length; i++)
        {
            state.StartWalk(ref walk, 0);
            open.Enqueue(state.Enter(ref walk)!);
            if (random.Next(3) == 0)
            {
                state.Leave(ref walk, open.Dequeue(), PeerEnd.Fine, new AttemptFacts(200, 0, random.Next(9), 0, 0));
            }
        }
        Batches.Time(what, () =>
        {
            state.StartWalk(ref walk, 0);
            open.Enqueue(state.Enter(ref walk)!);
            state.Leave(ref walk, open.Dequeue(), PeerEnd.Fine);
        }, operations: 10_000);
        UpstreamStates.Of(loop).Forget(group);
    }

    private static UpstreamGroup Group(BalancerRule rule, int servers, GroupZone? zone) => new()
    {
        Name = NativeSlice.Literal("g"u8),
        Primary = [.. Enumerable.Range(0, servers).Select(static i => new PeerSpec
        {
            Address = SocketAddress.Inet([10, 0, (byte)(i >> 8), (byte)i], 80).Native.ToArray(),
            Name = default,
            Weight = 1 + (i % 3),
        })],
        Balancing = rule,
        Zone = zone,
    };
}
