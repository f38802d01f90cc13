// What it costs to choose among 1 to 1,000 servers, by balancing method: one walk with its choice and its end, on one
// loop, without a zone.
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;

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
                GroupState state = UpstreamStates.Of(loop).For(Group(rule, servers));
                var walk = default(PeerWalk);
                Batches.Time($"choosing, {name}, {servers}", () =>
                {
                    state.StartWalk(ref walk, 0);
                    state.Leave(ref walk, state.Enter(ref walk)!, PeerEnd.Fine);
                }, operations: 10_000);
            }
        }
    }

    private static UpstreamGroup Group(BalancerRule rule, int servers) => new()
    {
        Name = NativeSlice.Literal("g"u8),
        Primary = [.. Enumerable.Range(0, servers).Select(static i => new PeerSpec
        {
            Address = SocketAddress.Inet([10, 0, (byte)(i >> 8), (byte)i], 80).Native.ToArray(),
            Name = default,
            Weight = 1 + (i % 3),
        })],
        Balancing = rule,
    };
}
