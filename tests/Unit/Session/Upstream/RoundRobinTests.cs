// Smooth weighted round robin with failures, limits and backups, on the in-memory engine.
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;
using Xunit;

namespace Weir.Tests.Unit.Session.Upstream;

public sealed class RoundRobinTests
{
    private static PeerSpec Spec(int port, int weight = 1, int fails = 1, bool down = false,
        int connections = 0) => new()
    {
        Address = SocketAddress.Inet([127, 0, 0, 1], port).Native.ToArray(),
        Name = default,
        Weight = weight,
        FailsMax = fails,
        Down = down,
        ConnectionsMax = connections,
    };

    private static GroupState State(PeerSpec[] primary, params PeerSpec[] backup)
    {
        var loop = new InMemoryLoop();
        loop.Adopt();
        var group = new UpstreamGroup { Name = default, Primary = primary, Backup = backup };
        return UpstreamStates.Of(loop).For(group);
    }

    private static int PortOf(Peer peer) => SocketAddress.PortOf(peer.Spec.Address);

    private static string Order(GroupState state, int count)
    {
        var order = new List<int>();
        var walk = default(PeerWalk);
        for (int i = 0; i < count; i++)
        {
            state.StartWalk(ref walk, 0);
            Peer peer = state.Enter(ref walk)!;
            order.Add(PortOf(peer));
            state.Leave(ref walk, peer, PeerEnd.Fine);
        }
        return string.Join(' ', order);
    }

    [Fact]
    public void Weights_interleave_smoothly() =>
        Assert.Equal("1 1 2 1 3 1 1", Order(State([Spec(1, 5), Spec(2), Spec(3)]), 7));

    [Fact]
    public void A_server_that_is_down_is_never_asked() =>
        Assert.Equal("2 2 2", Order(State([Spec(1, down: true), Spec(2)]), 3));

    [Fact]
    public void A_failed_server_is_put_aside_and_tried_within_one_walk_only_once()
    {
        GroupState state = State([Spec(1), Spec(2)]);
        var walk = default(PeerWalk);
        state.StartWalk(ref walk, 0);
        Assert.Equal(2, walk.TriesLeft);
        Peer first = state.Enter(ref walk)!;
        Assert.True(state.Leave(ref walk, first, PeerEnd.Failed));
        Assert.Equal(1, walk.TriesLeft);
        Peer second = state.Enter(ref walk)!;
        Assert.NotSame(first, second);
        state.Leave(ref walk, second, PeerEnd.Fine);
        Assert.Equal("2 2", Order(state, 2));
    }

    [Fact]
    public void A_backup_serves_when_no_primary_server_can()
    {
        GroupState state = State([Spec(1)], Spec(9));
        var walk = default(PeerWalk);
        state.StartWalk(ref walk, 0);
        Peer first = state.Enter(ref walk)!;
        state.Leave(ref walk, first, PeerEnd.Failed);
        Assert.Equal(9, PortOf(state.Enter(ref walk)!));
    }

    [Fact]
    public void A_full_server_is_passed_over_until_a_connection_ends()
    {
        GroupState state = State([Spec(1, connections: 1)]);
        var walk = default(PeerWalk);
        state.StartWalk(ref walk, 0);
        Peer held = state.Enter(ref walk)!;
        Assert.Null(state.Enter(ref walk));
        state.Leave(ref walk, held, PeerEnd.Fine);
        Assert.NotNull(state.Enter(ref walk));
    }

    [Fact]
    public void The_only_server_is_asked_again_after_any_failure()
    {
        GroupState state = State([Spec(1)]);
        var walk = default(PeerWalk);
        state.StartWalk(ref walk, 0);
        state.Leave(ref walk, state.Enter(ref walk)!, PeerEnd.Failed);
        Assert.Equal("1 1", Order(state, 2));
    }

    [Fact]
    public void Fewer_tries_are_made_when_the_configuration_says_so()
    {
        GroupState state = State([Spec(1), Spec(2), Spec(3)]);
        var walk = default(PeerWalk);
        state.StartWalk(ref walk, 2);
        Assert.Equal(2, walk.TriesLeft);
    }
}
