// least_conn and least_time choose from dense rows: that must be the choice which nginx's walk through the list makes,
// whatever fails, comes back, is full, begins slowly, is changed while it serves, or is taken by other workers.
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Session.Upstream;

public sealed class LeastTableTests
{
    private const int FirstPort = 1000;

    /// <summary>nginx's rule, walked each time. What is counted of a server it reads from the records, the weights in
    /// turn are its own.</summary>
    private sealed class Model(GroupState state, bool byTime)
    {
        private readonly Dictionary<int, int> _current = [];
        private readonly Dictionary<int, int> _effective = [];

        private Int128 CostOf(in PeerRecord record) =>
            byTime ? (Int128)record.HeaderTimeUs * (record.Connections + 1) : record.Connections;

        public int Choose(IReadOnlyList<Peer> peers, HashSet<int> tried, long nowMs)
        {
            var can = new List<(int Port, PeerRecord Record, Int128 Cost, Int128 Share)>();
            foreach (Peer peer in peers)
            {
                PeerRecord record = state.Copy(peer);
                if (!tried.Contains(PortOf(peer)) && record.CanServe(nowMs))
                {
                    can.Add((PortOf(peer), record, CostOf(in record),
                        RoundRobin.ShareOf(in record, record.Weight, nowMs)));
                }
            }
            if (can.Count == 0)
            {
                return -1;
            }
            (int Port, PeerRecord Record, Int128 Cost, Int128 Share) best = can[0];
            foreach ((int Port, PeerRecord Record, Int128 Cost, Int128 Share) other in can)
            {
                best = other.Cost * best.Share < best.Cost * other.Share ? other : best;
            }
            can.RemoveAll(o => o.Cost * best.Share != best.Cost * o.Share);
            if (can.Count == 1)
            {
                return best.Port;
            }
            int total = 0, chosen = -1;
            foreach ((int port, PeerRecord record, Int128 _, Int128 _) in can)
            {
                int gain = _effective.GetValueOrDefault(port, record.Weight);
                int now = _current[port] = _current.GetValueOrDefault(port) + gain;
                total += gain;
                _effective[port] = gain < record.Weight ? gain + 1 : gain;
                chosen = chosen < 0 || now > _current[chosen] ? port : chosen;
            }
            _current[chosen] -= total;
            return chosen;
        }

        public void Failed(int port, in PeerRecord record)
        {
            if (record.FailsMax > 0)
            {
                _effective[port] = Math.Max(
                    _effective.GetValueOrDefault(port, record.Weight) - (record.Weight / record.FailsMax), 0);
            }
        }

        public void Reweighed(int port, IEnumerable<Peer> list)
        {
            _effective.Remove(port);
            foreach (Peer peer in list)
            {
                _current.Remove(PortOf(peer));
            }
        }

        public void Gone(int port)
        {
            _current.Remove(port);
            _effective.Remove(port);
        }
    }

    private static int PortOf(Peer peer) => SocketAddress.PortOf(peer.Spec.Address);

    private static ServerLine Line(Random random, int id, bool backup, int weights, int full, bool slow) => new()
    {
        Id = id,
        Server = $"127.0.0.1:{FirstPort + id}",
        Name = $"127.0.0.1:{FirstPort + id}",
        Weight = random.Next(1, weights + 1),
        FailsMax = random.Next(0, 4),
        FailTimeoutSec = random.Next(1, 5),
        ConnectionsMax = full == 0 ? 0 : random.Next(0, full + 1),
        SlowStartMs = slow ? random.Next(0, 2) * 3000 : 0,
        IsDown = random.Next(12) == 0,
        IsBackup = backup,
    };

    private static PeerSpec[] Specs(IEnumerable<ServerLine> lines, bool backup) =>
        [.. lines.Where(l => l.IsBackup == backup).Select(static l => l.ToSpec(
            SocketAddress.Inet([127, 0, 0, 1], FirstPort + l.Id).Native.ToArray(), static _ => default, false))];

    [Theory]
    [InlineData(1, 40, 1, 0, false, 0, false)]
    [InlineData(2, 40, 7, 0, false, 0, false)]
    [InlineData(3, 33, 5, 2, false, 0, false)]
    [InlineData(4, 70, 3, 1, false, 0, true)]
    [InlineData(5, 20, 4, 0, true, 0, false)]
    [InlineData(6, 40, 6, 0, false, 3, false)]
    [InlineData(7, 25, 1, 2, false, 3, false)]
    [InlineData(8, 30, 5, 3, true, 3, true)]
    [InlineData(9, 9, 3, 1, false, 3, false)]
    public void The_choice_from_rows_is_the_walked_one(int seed, int servers, int weights, int full, bool slow,
        int workers, bool byTime)
    {
        var random = new Random(seed);
        using var loop = new InMemoryLoop();
        loop.Adopt();
        loop.AdvanceClock(100_000);
        List<ServerLine> lines = [.. Enumerable.Range(0, servers + 12).Select(i =>
            Line(random, i, i >= servers, weights, full, slow))];
        using Zone? zone = workers == 0 ? null : Zone.CreatePrivate(new ZoneSpec("g", 1 << 20, GroupZone.Layout));
        using CounterSlots slots = CounterSlots.CreatePrivate();
        BalancerRule rule = byTime ? new LeastTimeRule(byHeader: true, inFlight: false) : new LeastConnRule();
        var states = new List<(GroupState State, int Slot)>();
        for (int i = 0; i < Math.Max(workers, 1); i++)
        {
            int slot = slots.Claim();
            states.Add((UpstreamStates.Of(loop).For(new UpstreamGroup
            {
                Name = NativeSlice.Literal("g"u8),
                Primary = Specs(lines, backup: false),
                Backup = Specs(lines, backup: true),
                Lines = zone is null ? null : [.. lines],
                Stamp = 7,
                Balancing = rule,
                Zone = zone is null ? null : GroupZone.Open(zone, new ZoneOwner(slots, slot), workers),
                StartsSlowly = slow,
            }), slot));
        }
        var model = new Model(states[0].State, byTime);
        var open = new List<(GroupState State, Peer Peer, long StartMs)>();
        var walk = default(PeerWalk);
        void Leave(GroupState state, Peer peer, long startMs, bool failed)
        {
            if (failed)
            {
                model.Failed(PortOf(peer), state.Copy(peer));
            }
            state.Leave(ref walk, peer, failed ? PeerEnd.Failed : PeerEnd.Fine,
                new AttemptFacts(200, startMs, failed ? -1 : loop.NowMs - startMs, 0, 0));
        }
        int choices = 0, nextId = lines.Count;
        for (int step = 0; step < 2500; step++)
        {
            bool trouble = step / 300 % 2 == 1;
            GroupState state = states[random.Next(states.Count)].State;
            if (random.Next(trouble ? 20 : 100) == 0)
            {
                loop.AdvanceClock(random.Next(1, 2500));
            }
            if (trouble && random.Next(40) == 0)
            {
                state.Checked(state.Primary[random.Next(state.Primary.Count)], random.Next(2) == 0, 1, 1);
            }
            if (zone is not null && random.Next(60) == 0)
            {
                ChangeList(random, lines, states, model, ref nextId);
            }
            if (states.Count > 1 && step == 1500)
            {
                // A worker is killed: what it had open ends with it.
                slots.Release(states[^1].Slot);
                open.RemoveAll(o => o.State == states[^1].State);
                states.RemoveAt(states.Count - 1);
                continue;
            }
            var tried = new HashSet<int>();
            state.StartWalk(ref walk, 0);
            for (int tries = trouble ? random.Next(1, 5) : 1; tries > 0; tries--)
            {
                int expected = walk.InBackup ? -1 : model.Choose(state.Primary, tried, loop.NowMs);
                expected = expected >= 0 ? expected : model.Choose(state.Backup, tried, loop.NowMs);
                Peer? peer = state.Enter(ref walk);
                Assert.Equal((step, expected), (step, peer is null ? -1 : PortOf(peer)));
                if (peer is null)
                {
                    break;
                }
                choices++;
                tried.Add(expected);
                if (tries == 1)
                {
                    open.Add((state, peer, loop.NowMs));
                }
                else
                {
                    Leave(state, peer, loop.NowMs, failed: true);
                }
            }
            while (open.Count > (trouble ? servers * 2 : random.Next(1, servers)))
            {
                int at = random.Next(open.Count);
                Leave(open[at].State, open[at].Peer, open[at].StartMs, trouble && random.Next(10) == 0);
                open.RemoveAt(at);
            }
        }
        Assert.True(choices > 1500, $"only {choices} choices");
    }

    private static void ChangeList(Random random, List<ServerLine> lines,
        List<(GroupState State, int Slot)> states, Model model, ref int nextId)
    {
        GroupState by = states[random.Next(states.Count)].State;
        int at = random.Next(lines.Count);
        ServerLine line = lines[at];
        switch (random.Next(3))
        {
            case 0:
                int weight = line.Weight == 3 ? 4 : 3;
                lines[at] = line with { Weight = weight, IsDown = random.Next(8) == 0 };
                Assert.Equal(ListChange.Done, by.Change(lines[at]));
                model.Reweighed(FirstPort + line.Id, line.IsBackup ? by.Backup : by.Primary);
                break;
            case 1 when lines.Count(l => l.IsBackup == line.IsBackup) > 4:
                Assert.Equal(ListChange.Done, by.Remove(line.Id));
                model.Gone(FirstPort + line.Id);
                lines.RemoveAt(at);
                break;
            default:
                ServerLine more = line with { Server = $"127.0.0.1:{FirstPort + nextId}", IsDown = false };
                if (by.Add(ref more) == ListChange.Done)
                {
                    Assert.Equal(nextId++, more.Id);
                    lines.Add(more);
                }
                break;
        }
        foreach ((GroupState state, int _) in states)
        {
            state.Follow();
        }
    }
}
