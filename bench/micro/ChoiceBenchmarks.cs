// What it costs to choose among 1 to 1,000 servers, by balancing method: one walk with its choice and its end, on one
// loop, all servers idle (so that least_conn and least_time have equals all over) or with as many requests under way as
// there are servers, without a zone and with one.
using BenchmarkDotNet.Attributes;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;
using Weir.Zones;

namespace Weir.Bench.Micro;

public class ChoiceBenchmarks
{
    private static readonly Dictionary<string, BalancerRule> _rules = new()
    {
        ["round robin"] = BalancerRule.RoundRobin,
        ["ip_hash"] = new IpHashRule(),
        ["random two"] = new RandomRule(BetterOf.LeastConn),
        ["least_conn"] = new LeastConnRule(),
        ["least_time"] = new LeastTimeRule(byHeader: true, inFlight: false),
    };

    private readonly Queue<Peer> _open = new();
    private InMemoryLoop? _loop;
    private Zone? _zone;
    private GroupState? _state;
    private PeerWalk _walk;

    /// <summary>Every method idle; those that compare servers also busy and with a zone.</summary>
    public static IEnumerable<object[]> Cases =>
        from rule in _rules
        from servers in (int[])[1, 10, 100, 1000]
        from how in (string[])(rule.Value is LeastConnRule or LeastTimeRule ? ["idle", "busy", "zone"] : ["idle"])
        select new object[] { rule.Key, servers, how };

    [GlobalCleanup]
    public void CleanUp()
    {
        _loop!.Dispose();
        _zone?.Dispose();
    }

    [Benchmark(Description = "choosing")]
    [ArgumentsSource(nameof(Cases))]
    public void Choosing(string method, int servers, string how)
    {
        GroupState state = _state ??= SetUp(_rules[method], servers, how);
        state.StartWalk(ref _walk, 0);
        _open.Enqueue(state.Enter(ref _walk)!);
        state.Leave(ref _walk, _open.Dequeue(), PeerEnd.Fine);
    }

    private GroupState SetUp(BalancerRule rule, int servers, string how)
    {
        _loop = new InMemoryLoop();
        _loop.Adopt();
        _zone = how == "zone" ? Zone.CreatePrivate(new ZoneSpec("g", 4 << 20, GroupZone.Layout)) : null;
        UpstreamGroup group = Group(rule, servers, _zone is null ? null : GroupZone.Open(_zone, ZoneOwner.Alone, 1));
        GroupState state = UpstreamStates.Of(_loop).For(group);
        var random = new Random(1);
        for (int i = 0; how == "busy" && i < servers; i++)
        {
            state.StartWalk(ref _walk, 0);
            _open.Enqueue(state.Enter(ref _walk)!);
            if (random.Next(3) == 0)
            {
                state.Leave(ref _walk, _open.Dequeue(), PeerEnd.Fine, new AttemptFacts(200, 0, random.Next(9), 0, 0));
            }
        }
        return state;
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
