// The seam between a group and the ways to choose one of its servers. A rule is what the configuration says, frozen and
// shared by loops; a balancer is what one loop makes of it for one group. Balancers run under the group's lock where
// the state is shared, allocate nothing while they choose, and neither wait nor fail: null says that nobody can serve.
namespace Weir.Session.Upstream;

/// <summary>A way to choose servers, as a configuration says it.</summary>
public abstract class BalancerRule
{
    public static BalancerRule RoundRobin { get; } = new RoundRobinRule();

    /// <summary>The directive's name.</summary>
    public abstract string Name { get; }

    /// <summary>Made for one loop's group.</summary>
    internal abstract Balancer Create(GroupState group);

    private sealed class RoundRobinRule : BalancerRule
    {
        public override string Name => "round_robin";

        internal override Balancer Create(GroupState group) => new RoundRobin(group);
    }
}

/// <summary>Chooses servers of one group on one loop.</summary>
internal abstract class Balancer(GroupState group)
{
    protected GroupState Group { get; } = group;

    /// <summary>The smooth order of weights, which the others fall back on.</summary>
    protected RoundRobin Smooth => Group.Smooth;

    /// <summary>A new exchange: what is needed of its session is taken now.</summary>
    public virtual void Begin(ref PeerWalk walk, Session? session)
    {
    }

    /// <summary>The index of the server to ask among these, or -1.</summary>
    public abstract int Choose(List<Peer> peers, ref PeerWalk walk);

    /// <summary>Chooses among backup servers, whatever the rule is about.</summary>
    public virtual int ChooseBackup(List<Peer> peers, ref PeerWalk walk) => Smooth.Choose(peers, ref walk);

    /// <summary>Full servers are told apart at each choice: nothing that was worked out ahead rests on it.</summary>
    public virtual bool CountsRoom => false;

    /// <summary>A server's connections or times have changed.</summary>
    public virtual void Counted(Peer peer)
    {
    }

    /// <summary>Something else is about to change: records are brought up to date.</summary>
    public virtual void Unload()
    {
    }

    /// <summary>The list of servers has changed.</summary>
    public virtual void Changed()
    {
    }

    protected bool MayAsk(List<Peer> peers, int index, in PeerWalk walk) =>
        !walk.HasTried(index) && peers[index].Record.CanServe(Group.Loop.NowMs);
}
