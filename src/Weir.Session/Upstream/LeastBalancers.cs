// least_conn: the server with the fewest connections for its weight. least_time: the one that answers soonest, counting
// what it has to do already. Ties go round by weight. Lists of eight and more are kept in rows (LeastTable); the walk
// here is what the rows must give, and what chooses while costs change by themselves (slow starts, `inflight`).
// One loop's thread; under the zone's lock where state is shared.
namespace Weir.Session.Upstream;

/// <summary>`least_conn`.</summary>
public sealed class LeastConnRule : BalancerRule
{
    public override string Name => "least_conn";

    internal override Balancer Create(GroupState group) => new LeastConn(group);
}

/// <summary>`least_time`: by the first byte or by the last, and whether attempts under way count as long as they have
/// taken.</summary>
public sealed class LeastTimeRule(bool byHeader, bool inFlight) : BalancerRule
{
    public override string Name => "least_time";

    public bool ByHeader { get; } = byHeader;
    public bool InFlight { get; } = inFlight;

    internal override Balancer Create(GroupState group) => new LeastTime(group, this);
}

/// <summary>Chooses the least of a cost; among equals in turn.</summary>
internal abstract class LeastBalancer : Balancer
{
    private readonly LeastTable _table;
    private readonly LeastTable _backup;

    protected LeastBalancer(GroupState group) : base(group)
    {
        _table = new LeastTable(group, this, backup: false);
        _backup = new LeastTable(group, this, backup: true);
    }

    /// <summary>What asking the server costs, before its weight divides it.</summary>
    internal abstract long CostOf(Peer peer, in PeerRecord record);

    /// <summary>Costs change with what is counted of a server alone, not with time.</summary>
    internal virtual bool CostsRest => true;

    public sealed override bool CountsRoom => true;

    public sealed override int Choose(List<Peer> peers, ref PeerWalk walk)
    {
        int index = _table.Choose(peers, ref walk);
        return index == -2 ? Walk(peers, ref walk) : index;
    }

    public sealed override int ChooseBackup(List<Peer> peers, ref PeerWalk walk)
    {
        int index = _backup.Choose(peers, ref walk);
        return index == -2 ? Walk(peers, ref walk) : index;
    }

    public sealed override void Counted(Peer peer)
    {
        if (peer.IsBackup)
        {
            _backup.Refresh(Group.BackupList, peer);
        }
        else
        {
            _table.Refresh(Group.PrimaryList, peer);
        }
    }

    public sealed override void Unload()
    {
        _table.Unload(Group.PrimaryList);
        _backup.Unload(Group.BackupList);
    }

    public sealed override void Changed()
    {
        _table.Changed();
        _backup.Changed();
    }

    private int Walk(List<Peer> peers, ref PeerWalk walk)
    {
        long nowMs = Group.Loop.NowMs;
        int best = -1;
        long bestCost = 0;
        long bestWeight = 1;
        bool many = false;
        for (int i = 0; i < peers.Count; i++)
        {
            if (!MayAsk(peers, i, in walk))
            {
                continue;
            }
            ref PeerRecord peer = ref peers[i].Record;
            long cost = CostOf(peers[i], in peer);
            long weight = RoundRobin.ShareOf(in peer, peer.Weight, nowMs);
            int order = best < 0 ? -1 : Compare(cost, bestWeight, bestCost, weight);
            if (order < 0)
            {
                best = i;
                bestCost = cost;
                bestWeight = weight;
                many = false;
            }
            else if (order == 0)
            {
                many = true;
            }
        }
        if (best < 0)
        {
            return -1;
        }
        int total = 0;
        if (many)
        {
            best = InTurn(peers, best, bestCost, bestWeight, in walk, ref total);
        }
        peers[best].Record.CurrentWeight -= total;
        Group.Wrote();
        return best;
    }

    /// <summary>a * b against c * d. Nearly always the products fit, and wide ones cost as much as all the rest.
    /// </summary>
    private static int Compare(long a, long b, long c, long d) => ((a | b | c | d) & ~(long)int.MaxValue) == 0
        ? (a * b).CompareTo(c * d) : ((Int128)a * b).CompareTo((Int128)c * d);

    private int InTurn(List<Peer> peers, int from, long bestCost, long bestWeight, in PeerWalk walk, ref int total)
    {
        long nowMs = Group.Loop.NowMs;
        int best = from;
        for (int i = from; i < peers.Count; i++)
        {
            if (!MayAsk(peers, i, in walk))
            {
                continue;
            }
            ref PeerRecord peer = ref peers[i].Record;
            if (Compare(CostOf(peers[i], in peer), bestWeight, bestCost,
                RoundRobin.ShareOf(in peer, peer.Weight, nowMs)) != 0)
            {
                continue;
            }
            peer.CurrentWeight += peer.EffectiveWeight;
            Group.Wrote();
            total += peer.EffectiveWeight;
            if (peer.EffectiveWeight < peer.Weight)
            {
                peer.EffectiveWeight++;
                Group.Wrote();
            }
            if (peer.CurrentWeight > peers[best].Record.CurrentWeight)
            {
                best = i;
            }
        }
        return best;
    }
}

internal sealed class LeastConn(GroupState group) : LeastBalancer(group)
{
    internal override long CostOf(Peer peer, in PeerRecord record) => record.Connections;
}

internal sealed class LeastTime(GroupState group, LeastTimeRule rule) : LeastBalancer(group)
{
    internal override bool CostsRest => !rule.InFlight;

    internal override long CostOf(Peer peer, in PeerRecord record)
    {
        long us = rule.ByHeader ? record.HeaderTimeUs : record.ResponseTimeUs;
        if (rule.InFlight && peer.LocalConnections > 0)
        {
            long waitedMs = ((Group.Loop.NowMs * peer.LocalConnections) - peer.LocalStartsMs) / peer.LocalConnections;
            us = Math.Max(us, waitedMs * 1000);
        }
        return us * (record.Connections + 1);
    }
}
