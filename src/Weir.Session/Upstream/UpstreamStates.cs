// The states of all groups on one loop, by group. One loop's thread.
using Weir.Loop;

namespace Weir.Session.Upstream;

/// <summary>The states of all groups on one loop.</summary>
public sealed class UpstreamStates
{
    private static readonly LoopSlot<UpstreamStates> s_slot = new();

    private readonly EventLoop _loop;
    private readonly Dictionary<UpstreamGroup, GroupState> _states = [];
    internal UpstreamConnection? FreeConnections;

    private UpstreamStates(EventLoop loop) => _loop = loop;

    public static UpstreamStates Of(EventLoop loop) => loop.Slot(s_slot, static l => new UpstreamStates(l));

    /// <summary>The state of a group, made at its first use.</summary>
    public GroupState For(UpstreamGroup group)
    {
        if (!_states.TryGetValue(group, out GroupState? state))
        {
            state = new GroupState(group, _loop);
            _states.Add(group, state);
        }
        return state;
    }

    /// <summary>Its configuration is no longer current: idle connections are closed, none are kept any more.</summary>
    public void Retire(UpstreamGroup group)
    {
        if (_states.TryGetValue(group, out GroupState? state))
        {
            state.Retire();
        }
    }

    /// <summary>The last request of its configuration has ended.</summary>
    public void Forget(UpstreamGroup group)
    {
        if (_states.Remove(group, out GroupState? state))
        {
            state.Retire();
            state.Detach();
            state.FreeTexts();
        }
    }

    public int Count => _states.Count;

    /// <summary>Connections to upstream servers, leased and idle.</summary>
    public int OpenConnections { get; internal set; }

    /// <summary>Attempts under way at the peers of all groups.</summary>
    public int Leases()
    {
        int leases = 0;
        foreach (GroupState state in _states.Values)
        {
            foreach (Peer peer in state.Primary)
            {
                leases += peer.LocalConnections;
            }
            foreach (Peer peer in state.Backup)
            {
                leases += peer.LocalConnections;
            }
        }
        return leases;
    }
}
