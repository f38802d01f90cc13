// Smooth weighted round robin: each turn every server that can serve gains its weight, the one with most is asked and
// pays the sum. Long lists follow an order that was worked out ahead (SmoothPlan), which is the same order; whatever
// changes who can serve, or with what weight, first brings the weights in turn up to date (Deviate). One loop's thread;
// under the zone's lock where state is shared.
namespace Weir.Session.Upstream;

internal sealed class RoundRobin(GroupState group) : Balancer(group)
{
    /// <summary>Shorter lists are walked each time.</summary>
    private const int PlanPeersMin = 12;

    /// <summary>With slow starts weights are counted in hundredths.</summary>
    private const int FineWeight = 100;

    private SmoothPlan? _plan;
    private int _stepsSinceDeviation = int.MaxValue / 2;

    public override int Choose(List<Peer> peers, ref PeerWalk walk)
    {
        if (peers.Count >= PlanPeersMin && !Group.StartsSlowly && !walk.InBackup)
        {
            int planned = walk.IsFresh ? ByPlan(peers) : -1;
            if (planned >= 0)
            {
                return planned;
            }
            _stepsSinceDeviation++;
        }
        Settle();
        return Step(peers, in walk);
    }

    /// <summary>One turn of the order as nginx defines it.</summary>
    private int Step(List<Peer> peers, in PeerWalk walk)
    {
        long nowMs = Group.Loop.NowMs;
        bool fine = Group.StartsSlowly;
        int best = -1, bestWeight = 0, total = 0;
        for (int i = 0; i < peers.Count; i++)
        {
            ref PeerRecord peer = ref peers[i].Record;
            if (walk.HasTried(i) || !peer.CanServe(nowMs))
            {
                continue;
            }
            int gain = fine ? ShareOf(in peer, peer.EffectiveWeight, nowMs) : peer.EffectiveWeight;
            peer.CurrentWeight += gain;
            Group.Wrote();
            total += gain;
            if (peer.EffectiveWeight < peer.Weight)
            {
                peer.EffectiveWeight++;
                Group.Wrote();
            }
            if (best < 0 || peer.CurrentWeight > bestWeight)
            {
                best = i;
                bestWeight = peer.CurrentWeight;
            }
        }
        if (best >= 0)
        {
            peers[best].Record.CurrentWeight -= total;
            Group.Wrote();
        }
        return best;
    }

    /// <summary>The part of a weight that a server has got to since it came back, in hundredths.</summary>
    internal static int ShareOf(in PeerRecord peer, int weight, long nowMs)
    {
        long full = (long)weight * FineWeight;
        long since = nowMs - peer.SlowStartFromMs;
        if (peer.SlowStartMs == 0 || peer.SlowStartFromMs == 0 || since >= peer.SlowStartMs || full == 0)
        {
            return (int)full;
        }
        return (int)Math.Max(full * Math.Max(since, 0) / peer.SlowStartMs, 1);
    }

    private int ByPlan(List<Peer> peers)
    {
        ref GroupRecord state = ref Group.Record;
        long nowMs = Group.Loop.NowMs;
        if (_plan is null || !_plan.IsOf(in state, Group.ListVersion))
        {
            if (_stepsSinceDeviation < peers.Count / 4 && state.Position == 0)
            {
                return -1;
            }
            _plan = SmoothPlan.Make(peers, in state, Group.ListVersion, nowMs);
            if (_plan is null)
            {
                _stepsSinceDeviation = 0;
                return -1;
            }
        }
        if (nowMs >= _plan.ValidUntilMs)
        {
            return -1;
        }
        if (state.Position >= _plan.Length)
        {
            if (!_plan.Repeats)
            {
                return -1;
            }
            state.Position = 0;
            Group.Wrote();
        }
        int next = _plan[state.Position++];
        Group.Wrote();
        return next;
    }

    /// <summary>To be called before anything changes that an order which was worked out rests on.</summary>
    internal void Deviate()
    {
        Settle();
        _stepsSinceDeviation = Math.Min(_stepsSinceDeviation, 0);
    }

    /// <summary>Leaves the order that was worked out: the weights in turn are what they would be without it.</summary>
    internal void Settle()
    {
        ref GroupRecord state = ref Group.Record;
        List<Peer> peers = Group.PrimaryList;
        if (state.Position > 0)
        {
            SmoothPlan? plan = _plan is not null && _plan.IsOf(in state, Group.ListVersion) ? _plan
                : SmoothPlan.Make(peers, in state, Group.ListVersion, Group.Loop.NowMs);
            plan?.Apply(Group, peers, state.Position);
            state.Position = 0;
            Group.Wrote();
        }
        Group.Unload();
        state.Version++;
        Group.Wrote();
    }
}

/// <summary>The order of a group's next choices, as long as nothing happens.</summary>
internal sealed class SmoothPlan
{
    private const int LengthMax = 1 << 16;

    private readonly int[] _order;
    private readonly int[] _start;
    private readonly int[] _weights;
    private readonly int _total;
    private readonly long _version;
    private readonly int _listVersion;

    private SmoothPlan(int[] order, int[] start, int[] weights, int total, in GroupRecord state, int listVersion)
    {
        _order = order;
        _start = start;
        _weights = weights;
        _total = total;
        _version = state.Version;
        _listVersion = listVersion;
    }

    public int Length => _order.Length;

    public int this[int position] => _order[position];

    /// <summary>After the last choice everything is as before the first.</summary>
    public bool Repeats { get; private init; }

    /// <summary>When a server that was set aside may be tried again.</summary>
    public long ValidUntilMs { get; private init; }

    public bool IsOf(in GroupRecord state, int listVersion) =>
        _version == state.Version && _listVersion == listVersion;

    /// <summary>Works the order out; null where it would be too long, or where weights are on their way back.</summary>
    public static SmoothPlan? Make(List<Peer> peers, in GroupRecord state, int listVersion, long nowMs)
    {
        int n = peers.Count;
        int[] start = new int[n];
        int[] weights = new int[n];
        long validUntilMs = long.MaxValue;
        long total = 0;
        int divisor = 0;
        for (int i = 0; i < n; i++)
        {
            ref PeerRecord peer = ref peers[i].Record;
            start[i] = peer.CurrentWeight;
            if (!peer.CanServe(nowMs))
            {
                if (peer.IsSetAside(nowMs))
                {
                    validUntilMs = Math.Min(validUntilMs, (peer.CheckedSec + peer.FailTimeoutSec + 1) * 1000);
                }
                if ((peer.Flags & PeerFlags.Ejected) != 0)
                {
                    validUntilMs = Math.Min(validUntilMs, peer.EjectedUntilMs);
                }
                continue;
            }
            if (peer.EffectiveWeight != peer.Weight || peer.FailsMax > 0 && peer.Fails >= peer.FailsMax
                || (peer.Flags & PeerFlags.Ejected) != 0 || peer.Weight <= 0)
            {
                return null;
            }
            weights[i] = peer.Weight;
            total += peer.Weight;
            divisor = Gcd(divisor, peer.Weight);
        }
        if (divisor == 0 || total / divisor > LengthMax || total > int.MaxValue)
        {
            return null;
        }
        int[] order = new int[(int)(total / divisor)];
        bool repeats = Simulate(order, start, weights, total);
        return new SmoothPlan(order, start, weights, (int)total, in state, listVersion)
        {
            Repeats = repeats,
            ValidUntilMs = validUntilMs,
        };
    }

    /// <summary>Servers of one weight gain alike, so among them the order of what they have never changes but for the
    /// one that pays: a queue per weight, and each turn the best of the queues' heads.</summary>
    private static bool Simulate(int[] order, int[] start, int[] weights, long total)
    {
        var classes = new List<(int Weight, PriorityQueue<int, (long Less, int Index)> Queue)>();
        var byWeight = new Dictionary<int, int>();
        for (int i = 0; i < weights.Length; i++)
        {
            if (weights[i] == 0)
            {
                continue;
            }
            if (!byWeight.TryGetValue(weights[i], out int at))
            {
                at = classes.Count;
                byWeight.Add(weights[i], at);
                classes.Add((weights[i], new PriorityQueue<int, (long, int)>()));
            }
            classes[at].Queue.Enqueue(i, (-(long)start[i], i));
        }
        for (int turn = 0; turn < order.Length; turn++)
        {
            long bestWeight = long.MinValue;
            int best = -1, bestClass = -1;
            for (int c = 0; c < classes.Count; c++)
            {
                classes[c].Queue.TryPeek(out int index, out (long Less, int Index) key);
                long weight = -key.Less + ((turn + 1L) * classes[c].Weight);
                if (weight > bestWeight || weight == bestWeight && index < best)
                {
                    bestWeight = weight;
                    best = index;
                    bestClass = c;
                }
            }
            order[turn] = best;
            PriorityQueue<int, (long Less, int Index)> queue = classes[bestClass].Queue;
            queue.TryPeek(out int _, out (long Less, int Index) old);
            queue.DequeueEnqueue(best, (old.Less + total, best));
        }
        foreach ((int weight, PriorityQueue<int, (long Less, int Index)> queue) in classes)
        {
            foreach ((int index, (long less, int _)) in queue.UnorderedItems)
            {
                if (-less + ((long)order.Length * weight) != start[index])
                {
                    return false;
                }
            }
        }
        return true;
    }

    /// <summary>Writes the weights in turn as they are after so many choices.</summary>
    public void Apply(GroupState group, List<Peer> peers, int position)
    {
        position = Math.Min(position, _order.Length);
        int[] chosen = new int[_start.Length];
        for (int i = 0; i < position; i++)
        {
            chosen[_order[i]]++;
        }
        for (int i = 0; i < Math.Min(_start.Length, peers.Count); i++)
        {
            if (_weights[i] > 0)
            {
                peers[i].Record.CurrentWeight = (int)(_start[i] + ((long)position * _weights[i])
                    - ((long)_total * chosen[i]));
                group.Wrote();
            }
        }
    }

    private static int Gcd(int a, int b) => b == 0 ? a : Gcd(b, a % b);
}
