// The HTTP/2 connections of one group on one loop: who can take one more stream, and who is being connected to, so that
// exchanges that come at once share a connection from its first moment. One loop's thread.
using Weir.Loop;

namespace Weir.Session.Upstream;

/// <summary>Multiplexed connections to a group's servers.</summary>
public sealed class MultiplexedConnections(GroupState state)
{
    private readonly List<Http2Upstream> _all = [];
    private readonly List<Wanted> _wanted = [];

    /// <summary>Somebody connects, or waits for that (with an operation).</summary>
    private readonly record struct Wanted(Peer Peer, object Tag, LoopOperation<int>? Waiter);

    public int Count => _all.Count;

    /// <summary>A stream on a connection to this peer with this tag that has room, or null.</summary>
    public UpstreamStream? Take(Peer peer, object tag)
    {
        foreach (Http2Upstream connection in _all)
        {
            if (connection.Peer == peer && connection.Tag == tag && connection.CanOpen)
            {
                return connection.Open();
            }
        }
        return null;
    }

    /// <summary>Makes a connection that was opened one of these, and opens a stream on it.</summary>
    public UpstreamStream Add(Connection inner, Peer peer, object tag)
    {
        var connection = new Http2Upstream(this, inner, peer, tag);
        _all.Add(connection);
        return connection.Open();
    }

    internal void Remove(Http2Upstream connection) => _all.Remove(connection);

    /// <summary>Whether a connection has served its time.</summary>
    internal bool IsWornOut(Http2Upstream connection)
    {
        KeepAliveSettings settings = state.Group.KeepAlive;
        return state.IsRetired || connection.Peer.IsGone || connection.Requests >= settings.RequestsMax
            || state.Loop.NowMs - connection.OpenedMs > settings.TimeMs;
    }

    /// <summary>How long a connection without streams is kept; 0 for ever, less to close it now.</summary>
    internal long RestMs(Http2Upstream connection)
    {
        KeepAliveSettings settings = state.Group.KeepAlive;
        int resting = 0;
        foreach (Http2Upstream other in _all)
        {
            resting += other.ActiveStreams == 0 ? 1 : 0;
        }
        return resting > settings.ConnectionsMax || IsWornOut(connection) ? -1 : settings.TimeoutMs;
    }

    // Connecting.

    /// <summary>True when somebody else is connecting: wait. Else the caller connects and says how it went by
    /// <see cref="EndConnecting"/>.</summary>
    public bool BeginConnecting(Peer peer, object tag)
    {
        foreach (ref readonly Wanted wanted in System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_wanted))
        {
            if (wanted.Peer == peer && wanted.Tag == tag && wanted.Waiter is null)
            {
                return false;
            }
        }
        _wanted.Add(new Wanted(peer, tag, null));
        return true;
    }

    /// <summary>Waits for who connects. 0, or the error number.</summary>
    public LoopTask<int> WaitAsync(Peer peer, object tag, LoopOperation<int> waiter)
    {
        LoopTask<int> task = waiter.Begin();
        _wanted.Add(new Wanted(peer, tag, waiter));
        return task;
    }

    /// <summary>A connection is there, or could not be had: who waited for it goes on.</summary>
    public void EndConnecting(Peer peer, object tag, int errno)
    {
        // Whoever is woken may begin anew: only those that are here now are woken.
        for (int left = _wanted.Count, i = 0; left > 0; left--)
        {
            if (i >= _wanted.Count)
            {
                break;
            }
            Wanted wanted = _wanted[i];
            if (wanted.Peer != peer || wanted.Tag != tag)
            {
                i++;
                continue;
            }
            _wanted.RemoveAt(i);
            wanted.Waiter?.SetResult(errno);
        }
    }

    /// <summary>Who waited is gone.</summary>
    public void Forget(LoopOperation<int> waiter) => _wanted.RemoveAll(w => w.Waiter == waiter);

    internal void CloseOf(Peer peer)
    {
        for (int i = _all.Count - 1; i >= 0; i--)
        {
            if (_all[i].Peer == peer)
            {
                _all[i].Retire();
            }
        }
    }

    internal void RetireAll()
    {
        for (int i = _all.Count - 1; i >= 0; i--)
        {
            _all[i].Retire();
        }
    }
}
