// Every write that a worker makes about a group of servers is once its last one: choices by every way of balancing,
// ends of attempts, failures, health, retries, changes of the list. After each death another worker goes on: each
// server has as many connections as living workers hold, every server can be asked again, and the order is that of the
// weights.
#if DEBUG
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Zones;

public sealed class GroupFaultPointTests
{
    private const ulong FirstStamp = 7;

    private static ServerLine Line(int i, int weight = 1, int connections = 0, bool backup = false, bool down = false,
        bool named = false, long slowStartMs = 0) => new()
    {
        Id = i,
        Server = $"127.0.0.1:{1000 + i}",
        Name = $"127.0.0.1:{1000 + i}",
        Weight = weight,
        ConnectionsMax = connections,
        IsBackup = backup,
        IsDown = down,
        IsNamed = named,
        SlowStartMs = slowStartMs,
    };

    /// <summary>Three servers of weights 5:3:1, the second with a limit of connections, and a backup.</summary>
    private static readonly ServerLine[] s_short =
        [Line(0, 5), Line(1, 3, connections: 9), Line(2), Line(3, backup: true)];

    private static readonly ServerLine[] s_long = [.. Enumerable.Range(0, 13).Select(static i => Line(i, 1 + (i % 3))),
        .. Enumerable.Range(13, 9).Select(static i => Line(i, backup: true))];

    private static readonly ServerLine[] s_slow = [Line(0, 5, slowStartMs: 10_000), Line(1, 3)];

    private static readonly ServerLine[] s_single = [Line(0, 2, connections: 3)];

    private sealed class Worker
    {
        private PeerWalk _walk;

        public Worker(Zone zone, ZoneOwner owner, ServerLine[] lines, BalancerRule? rule, ulong stamp = FirstStamp)
        {
            Loop.Adopt();
            Loop.AdvanceClock(100_000);
            State = UpstreamStates.Of(Loop).For(new UpstreamGroup
            {
                Name = NativeSlice.Literal("app"u8),
                Primary = [],
                Lines = lines,
                Stamp = stamp,
                Balancing = rule ?? BalancerRule.RoundRobin,
                Zone = GroupZone.Open(zone, owner, 2),
                Ejection = new EjectionRule(3, 5000, 100),
                RetryBudget = new RetryBudgetRule(20, 3, 1000),
                StartsSlowly = lines.Any(static l => l.SlowStartMs > 0),
            });
        }

        public InMemoryLoop Loop { get; } = new();
        public GroupState State { get; }
        public IEnumerable<Peer> All => State.Primary.Concat(State.Backup);

        public Peer? Enter()
        {
            State.StartWalk(ref _walk, 0);
            _walk.Key = State.Group.Balancing is HashRule ? NativeSlice.Literal("a key"u8) : default;
            return State.Enter(ref _walk);
        }

        public Peer? Again() => State.Enter(ref _walk);

        public void Leave(Peer peer, PeerEnd end = PeerEnd.Fine, int status = 200) => State.Leave(ref _walk, peer, end,
            new AttemptFacts(status, Loop.NowMs - 20, end == PeerEnd.Failed ? -1 : 10, 100, 200));

        /// <summary>All servers in turn, until none can be asked.</summary>
        public void WalkOn()
        {
            for (Peer? peer = Enter(); peer is not null; peer = Again())
            {
                Leave(peer, PeerEnd.Failed, 502);
            }
        }
    }

    private sealed record Work(ServerLine[] Lines, BalancerRule? Rule, Action<Worker> Prepare, Action<Worker> Do);

    private static readonly BalancerRule s_least = new LeastConnRule();

    private static readonly Dictionary<string, Work> s_work = new()
    {
        ["choose"] = new(s_short, null, static _ => { }, static w => w.Enter()),
        ["walk on to the backup"] = new(s_short, null, static _ => { }, static w => w.WalkOn()),
        ["choose by a plan"] = new(s_long, null, static w => w.Enter(), static w =>
        {
            w.Enter();
            w.Leave(w.Enter()!, PeerEnd.Failed, 502);
        }),
        ["go round by a plan"] = new(s_long, null, static w =>
        {
            int round = s_long.Where(static l => !l.IsBackup).Sum(static l => l.Weight);
            for (int i = 0; i < round; i++)
            {
                w.Leave(w.Enter()!);
            }
        }, static w => w.Enter()),
        ["least_conn"] = new(s_short, s_least, static _ => { }, static w => w.WalkOn()),
        ["least_conn among many"] = new(s_long, s_least, static w => w.Enter(), static w =>
        {
            Peer peer = w.Enter()!;
            w.Leave(peer);
            w.Enter();
            w.Again();
            w.Leave(w.Again()!, PeerEnd.Failed, 502);
        }),
        ["least_conn among many, and backups"] = new(s_long, s_least, static w => w.WalkOn(), static w => w.WalkOn()),
        ["least_conn with a fresh list"] = new(s_long, s_least, static _ => { }, static w => w.Enter()),
        ["least_conn after a failure"] = new(s_short, s_least, static w =>
        {
            w.Leave(w.Enter()!, PeerEnd.Failed, 502);
            w.Loop.AdvanceClock(11_000);
        }, static w => w.Enter()),
        ["hash consistent"] = new(s_short, new HashRule(null!, consistent: true), static w =>
        {
            w.Leave(w.Enter()!, PeerEnd.Failed, 502);
            w.Loop.AdvanceClock(11_000);
        }, static w => w.Enter()),
        ["least_time"] = new(s_short, new LeastTimeRule(true, false), static _ => { }, static w => w.WalkOn()),
        ["least_time inflight"] = new(s_short, new LeastTimeRule(false, true), static _ => { }, static w => w.WalkOn()),
        ["random"] = new(s_short, new RandomRule(BetterOf.LeastConn), static _ => { }, static w => w.WalkOn()),
        ["leave"] = new(s_short, null, static w => w.Enter(), static w => w.Leave(w.State.Primary[0])),
        ["leave with 304"] = new(s_short, null, static w => w.Enter(),
            static w => w.Leave(w.State.Primary[0], status: 304)),
        ["fail"] = new(s_short, null, static w => w.Enter(), static w =>
            w.Leave(w.State.Primary[0], PeerEnd.Failed, 502)),
        ["serve again"] = new(s_slow, null, static w =>
        {
            w.Leave(w.Enter()!, PeerEnd.Failed, 502);
            w.Loop.AdvanceClock(11_000);
        }, static w =>
        {
            for (int i = 0; i < 8; i++)
            {
                w.Leave(w.Enter()!);
                w.Loop.AdvanceClock(i == 6 ? 3000 : 0);
            }
        }),
        ["a full server"] = new(s_short, null, static w =>
        {
            for (int i = 0; i < 26; i++)
            {
                w.Enter();
            }
        }, static w =>
        {
            w.Enter();
            w.Enter();
            w.Leave(w.State.Primary[1]);
        }),
        ["the only server"] = new(s_single, null, static w => w.Enter(), static w =>
        {
            w.Enter();
            w.Enter();
            w.Enter();
            w.Leave(w.State.Primary[0], PeerEnd.Failed, 502);
        }),
        ["eject"] = new(s_short, null, static w => w.Enter(), static w =>
        {
            for (int i = 0; i < 3; i++)
            {
                w.Enter();
                w.Leave(w.State.Primary[0], PeerEnd.Fine, 500);
            }
            w.Loop.AdvanceClock(6000);
            w.Leave(w.Enter()!);
        }),
        ["a check fails"] = new(s_short, null, static _ => { },
            static w => w.State.Checked(w.State.Primary[0], false, 1, 1)),
        ["a check passes"] = new(s_short, null, static w => w.State.Checked(w.State.Primary[0], false, 1, 1),
            static w => w.State.Checked(w.State.Primary[0], true, 1, 1)),
        ["claim checks"] = new(s_short, null, static _ => { }, static w => w.State.ClaimChecks(200_000)),
        ["retry"] = new(s_short, null, static w => w.State.MayRetry(), static w =>
        {
            w.Loop.AdvanceClock(1000);
            w.State.MayRetry();
        }),
        ["overflow"] = new(s_short, null, static _ => { }, static w => w.State.CountOverflow()),
        ["clear statistics"] = new(s_short, null, static w => w.Leave(w.Enter()!),
            static w => w.State.ClearStatistics()),
        ["add"] = new(s_short, null, static _ => { }, static w =>
        {
            ServerLine line = Line(90, 2);
            w.State.Add(ref line);
        }),
        ["add without room"] = new(s_short, null, static _ => { }, static w =>
        {
            for (int i = 0; i < 9; i++)
            {
                ServerLine line = Line(90 + i) with { Service = new string('s', 9000) };
                w.State.Add(ref line);
            }
        }),
        ["change"] = new(s_short, null, static _ => { }, static w => w.State.Change(Line(1, 4, down: true))),
        ["change back"] = new(s_short, null, static w => w.State.Change(Line(1, 4, down: true)),
            static w => w.State.Change(Line(1, 4))),
        ["remove"] = new(s_short, null, static _ => { }, static w => w.State.Remove(2)),
        ["change a child"] = new(s_short, null, static _ => { },
            static w => w.State.ChangeChild(w.State.Primary[1], Line(1, 4, down: true))),
        ["change a child back"] = new(s_short, null,
            static w => w.State.ChangeChild(w.State.Primary[1], Line(1, 4, down: true)),
            static w => w.State.ChangeChild(w.State.Primary[1], Line(1, 4))),
        ["a name's servers"] = new(s_short, null, static _ => { }, static w =>
        {
            ServerLine named = Line(0, 5, named: true);
            w.State.Assign([.. w.State.Primary.Select(p => named.ToSpec(p.Spec.Address, NativeSliceOf, false))]);
        }),
        ["the list of another configuration"] = new(s_short, null, static _ => { }, static w =>
            Another(w, [Line(0, 2), Line(1, 3, down: true), Line(4)])),
        ["leave the group"] = new(s_short, null, static w => w.Enter(), static w => w.State.Detach()),
    };

    private static NativeSlice NativeSliceOf(string text) => default;

    [ThreadStatic]
    private static Func<ServerLine[], Worker>? s_another;

    private static void Another(Worker _, ServerLine[] lines) => s_another!(lines);

    public static TheoryData<string> Kinds => [.. s_work.Keys];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_group_goes_on_after_a_death_at_any_write(string kind)
    {
        Work work = s_work[kind];
        var spec = new ZoneSpec("upstream:faults", 64 * 1024, GroupZone.Layout);
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            using CounterSlots slots = CounterSlots.CreatePrivate();
            var dying = new ZoneOwner(slots, slots.Claim());
            var next = new Worker(pair.Next, new ZoneOwner(slots, slots.Claim()), work.Lines, work.Rule);
            next.Enter();
            next.Leave(next.Enter() ?? next.State.Primary[0]);
            bool died = pair.DiesAt(at, zone =>
            {
                var mine = new Worker(zone, dying, work.Lines, work.Rule);
                s_another = lines => new Worker(zone, dying, lines, work.Rule, FirstStamp + 1);
                work.Prepare(mine);
                return mine;
            }, (_, mine) => work.Do(mine));
            slots.Release(dying.Slot);
            next.State.Follow();
            pair.Next.Faults.Audits = false;
            GoesOn(next);
            return died;
        }, kind);
        Assert.True(deaths >= 1, $"only {deaths} fault points");
    }

    [Fact]
    public void Whoever_counts_anew_what_a_death_left_may_die_of_it()
    {
        var spec = new ZoneSpec("upstream:faults", 64 * 1024, GroupZone.Layout);
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            using CounterSlots slots = CounterSlots.CreatePrivate();
            var dying = new ZoneOwner(slots, slots.Claim());
            var next = new Worker(pair.Next, new ZoneOwner(slots, slots.Claim()), s_short, null);
            next.Enter();
            Assert.True(pair.DiesAt(6, zone => new Worker(zone, dying, s_short, null), static (_, w) => w.Enter()));
            slots.Release(dying.Slot);
            var second = new ZoneOwner(slots, slots.Claim());
            bool died = pair.DiesAt(at, zone => GroupZone.Open(zone, second, 2)!, static (_, zone) =>
            {
                using ZoneLock held = zone.Lock();
            });
            slots.Release(second.Slot);
            GoesOn(next);
            return died;
        });
        Assert.True(deaths >= 15, $"only {deaths} fault points");
    }

    [Fact]
    public void A_group_that_is_begun_may_be_left_at_any_write()
    {
        var spec = new ZoneSpec("upstream:faults", 64 * 1024, GroupZone.Layout);
        ServerLine[] lines = s_short;
        int deaths = FaultSuite.AtEveryWrite(at =>
        {
            using var pair = new DyingHolder(spec);
            using CounterSlots slots = CounterSlots.CreatePrivate();
            var dying = new ZoneOwner(slots, slots.Claim());
            bool died = pair.DiesAt(at, zone => new Worker(zone, dying, lines, null));
            slots.Release(dying.Slot);
            var next = new Worker(pair.Next, new ZoneOwner(slots, slots.Claim()), lines, null);
            Assert.Equal(lines.Length, next.State.Lines.Count);
            Assert.Equal(lines, next.State.Lines);
            pair.Next.Faults.Audits = false;
            GoesOn(next);
            return died;
        });
        Assert.True(deaths >= 100, $"only {deaths} fault points");
    }

    /// <summary>The worker that is left finds connections exact, and can ask every server by its weight.</summary>
    private static void GoesOn(Worker next)
    {
        foreach (Peer peer in next.All)
        {
            Assert.Equal(peer.LocalConnections, next.State.Copy(peer).Connections);
        }
        Assert.Equal(next.State.Lines.Count, next.State.Lines.Select(static l => l.Id).Distinct().Count());
        // Whatever was set aside may be asked again, and whatever fails its checks passes them.
        next.Loop.AdvanceClock(3_600_000);
        foreach (Peer peer in next.All)
        {
            next.State.Checked(peer, passed: true, 1, 1);
        }
        Assert.True(next.State.ClaimChecks(next.Loop.NowMs + 1000));
        foreach (Peer peer in next.All)
        {
            while (peer.LocalConnections > 0)
            {
                next.Leave(peer);
            }
        }
        next.Loop.AdvanceClock(3_600_000);
        var servers = next.State.Primary.Where(p => !next.State.IsDown(p)).ToList();
        int cycle = servers.Sum(p => next.State.Copy(p).Weight);
        var asked = new Dictionary<Peer, int>();
        // Weights that failures took come back one by one.
        for (int i = 0; i < cycle * 8; i++)
        {
            // Whoever came back begins slowly.
            next.Loop.AdvanceClock(i == cycle * 3 ? 3_600_000 : 0);
            Peer peer = next.Enter()!;
            Assert.Contains(peer, servers);
            asked[peer] = asked.GetValueOrDefault(peer) + (i < cycle * 7 ? 0 : 1);
            next.Leave(peer);
        }
        foreach (Peer peer in next.State.Group.Balancing is RandomRule or LeastTimeRule or HashRule ? [] : servers)
        {
            int weight = next.State.Copy(peer).Weight;
            Assert.InRange(asked.GetValueOrDefault(peer), weight - 1, weight + 1);
        }
        foreach (Peer peer in next.All)
        {
            Assert.Equal(0, next.State.Copy(peer).Connections);
        }
    }
}
#endif
