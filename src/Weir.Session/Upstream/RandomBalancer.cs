// random: any server, by weight; `two` takes the better of two. Numbers come from a generator per group and loop that
// is seeded from the engine's. One loop's thread; under the zone's lock where state is shared.
using System.Runtime.InteropServices;

namespace Weir.Session.Upstream;

/// <summary>Which of two servers is the better one.</summary>
public enum BetterOf
{
    Any,
    LeastConn,
    LeastHeaderTime,
    LeastResponseTime,
}

/// <summary>`random [two [METHOD]]`.</summary>
public sealed class RandomRule(BetterOf better) : BalancerRule
{
    public override string Name => "random";

    internal override Balancer Create(GroupState group) => new RandomBalancer(group, better);
}

internal sealed class RandomBalancer : HashBalancer
{
    private readonly BetterOf _better;
    private ulong _state;

    public RandomBalancer(GroupState group, BetterOf better) : base(group)
    {
        _better = better;
        group.Loop.FillRandom(MemoryMarshal.AsBytes(new Span<ulong>(ref _state)));
        _state |= 1;
    }

    public override int Choose(List<Peer> peers, ref PeerWalk walk)
    {
        int total = TotalWeight(peers);
        int first = -1;
        while (walk.Looks <= LooksMax && peers.Count >= 2 && total > 0)
        {
            int index = At((int)(Next() % (uint)total));
            if (index != first && MayAsk(peers, index, in walk))
            {
                if (_better == BetterOf.Any)
                {
                    return index;
                }
                if (first >= 0)
                {
                    return Cost(peers[index]) * (Int128)peers[first].Record.Weight
                        > Cost(peers[first]) * (Int128)peers[index].Record.Weight ? first : index;
                }
                first = index;
            }
            walk.Looks++;
        }
        return Smooth.Choose(peers, ref walk);
    }

    private long Cost(Peer peer)
    {
        ref PeerRecord record = ref peer.Record;
        return _better switch
        {
            BetterOf.LeastHeaderTime => record.HeaderTimeUs * (record.Connections + 1),
            BetterOf.LeastResponseTime => record.ResponseTimeUs * (record.Connections + 1),
            _ => record.Connections,
        };
    }

    private uint Next()
    {
        _state ^= _state << 13;
        _state ^= _state >> 7;
        _state ^= _state << 17;
        return (uint)(_state >> 32);
    }
}
