// A connection to an upstream server and its life between exchanges: leased, idle in its group's list (last in, first
// out), closed when the peer closes, when its time is over or when the list is full. Holds no buffer while idle.
// One loop's thread; the objects are rented from the loop's UpstreamStates and used again.
using Weir.Loop;

namespace Weir.Session.Upstream;

/// <summary>A connection to a server of a group.</summary>
public sealed class UpstreamConnection : LoopTimer, IPeerWatcher
{
    internal UpstreamConnection? Newer;
    internal UpstreamConnection? Older;
    private IdleConnections? _list;

    /// <summary>Connections have run out: one that waits here may go as one that a client left waiting.</summary>
    private static readonly Action<Connection> s_reclaim = static stream =>
    {
        if (stream.Watcher is UpstreamConnection { _list: { } list } idle)
        {
            list.CloseOne(idle);
        }
    };

    private UpstreamConnection()
    {
    }

    /// <summary>Takes over a connection that was opened to this peer.</summary>
    public static UpstreamConnection Rent(EventLoop loop, Connection connection, Peer peer)
    {
        UpstreamStates states = UpstreamStates.Of(loop);
        UpstreamConnection c = states.FreeConnections ?? new UpstreamConnection();
        states.FreeConnections = c.Older;
        states.OpenConnections++;
        c.Older = null;
        c.Stream = connection;
        c.Peer = peer;
        c.Requests = 0;
        c.OpenedMs = loop.NowMs;
        return c;
    }

    public Connection Stream { get; private set; } = null!;
    public Peer Peer { get; private set; } = null!;

    /// <summary>Who may use it again: the location (`keepalive … local`), else the protocol spoken on it.</summary>
    public object? Tag { get; set; }

    /// <summary>Exchanges begun on it.</summary>
    public int Requests { get; set; }
    public long OpenedMs { get; private set; }

    /// <summary>Closes it and gives the object back.</summary>
    public void Close()
    {
        if (Stream is not { } stream)
        {
            return;
        }
        EventLoop loop = stream.Loop;
        Stream = null!;
        Peer = null!;
        Tag = null;
        loop.Timers.Cancel(this);
        stream.Close();
        UpstreamStates states = UpstreamStates.Of(loop);
        states.OpenConnections--;
        Older = states.FreeConnections;
        states.FreeConnections = this;
    }

    internal void EnterIdle(IdleConnections list, long timeoutMs)
    {
        _list = list;
        Stream.Watcher = this;
        Stream.Loop.EnterIdle(Stream, s_reclaim);
        if (timeoutMs > 0)
        {
            Stream.Loop.Timers.Set(this, Stream.Loop.NowMs + timeoutMs);
        }
    }

    internal void LeaveIdle()
    {
        _list = null;
        Stream.Loop.LeaveIdle(Stream);
        Stream.Watcher = null;
        Stream.Loop.Timers.Disarm(this);
    }

    /// <summary>An idle connection whose peer closed, or said something that nobody asked for, is of no use.</summary>
    void IPeerWatcher.PeerGone(Connection connection, bool reset) => _list?.CloseOne(this);

    protected override void Fire() => _list?.CloseOne(this);
}

/// <summary>The idle connections of one group on one loop.</summary>
public sealed class IdleConnections(GroupState state)
{
    private UpstreamConnection? _newest;
    private UpstreamConnection? _oldest;

    public int Count { get; private set; }

    /// <summary>The most recently used idle connection to this peer with this tag, or null.</summary>
    public UpstreamConnection? Take(Peer peer, object tag)
    {
        UpstreamConnection? next;
        for (UpstreamConnection? c = _newest; c is not null; c = next)
        {
            next = c.Older;
            if (c.Peer != peer || c.Tag != tag)
            {
                continue;
            }
            if (c.Stream.PeerClosed || c.Stream.MayHaveInput || c.Stream.IsClosed)
            {
                CloseOne(c);
                continue;
            }
            Unlink(c);
            c.LeaveIdle();
            return c;
        }
        return null;
    }

    /// <summary>Keeps a connection after a clean exchange, or closes it when it may not be kept.</summary>
    public void Give(UpstreamConnection connection)
    {
        KeepAliveSettings settings = state.Group.KeepAlive;
        Connection stream = connection.Stream;
        if (settings.ConnectionsMax == 0 || state.IsRetired || connection.Peer.IsGone
            || connection.Requests >= settings.RequestsMax || stream.PeerClosed || stream.MayHaveInput
            || stream.Loop.NowMs - connection.OpenedMs > settings.TimeMs)
        {
            connection.Close();
            return;
        }
        if (Count >= settings.ConnectionsMax)
        {
            CloseOne(_oldest!);
        }
        connection.Older = _newest;
        connection.Newer = null;
        if (_newest is null)
        {
            _oldest = connection;
        }
        else
        {
            _newest.Newer = connection;
        }
        _newest = connection;
        Count++;
        state.TellHeld();
        connection.EnterIdle(this, settings.TimeoutMs);
    }

    internal void CloseOne(UpstreamConnection connection)
    {
        Unlink(connection);
        connection.LeaveIdle();
        connection.Close();
    }

    internal void CloseAll()
    {
        while (_newest is { } connection)
        {
            CloseOne(connection);
        }
    }

    internal void CloseOf(Peer peer)
    {
        UpstreamConnection? next;
        for (UpstreamConnection? c = _newest; c is not null; c = next)
        {
            next = c.Older;
            if (c.Peer == peer)
            {
                CloseOne(c);
            }
        }
    }

    private void Unlink(UpstreamConnection c)
    {
        if (c.Newer is null)
        {
            _newest = c.Older;
        }
        else
        {
            c.Newer.Older = c.Older;
        }
        if (c.Older is null)
        {
            _oldest = c.Newer;
        }
        else
        {
            c.Older.Newer = c.Newer;
        }
        c.Newer = null;
        c.Older = null;
        Count--;
        state.TellHeld();
    }
}
