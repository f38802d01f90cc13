// What accepting does when something runs out: which tier an error number belongs to, how long to back off, what is
// logged (once per shortage), how many connections one turn takes, and the spare descriptor that lets a client be told
// instead of waiting. Pure decisions and one descriptor; one loop's thread.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>What to do after accept() failed.</summary>
public enum AcceptAnswer : byte
{
    /// <summary>The queue is empty.</summary>
    Empty,

    /// <summary>That one connection is gone; the next may be there.</summary>
    Next,

    /// <summary>No descriptor is left: make room, or turn the client away with the spare one.</summary>
    Shed,

    /// <summary>Memory (or something unknown) is short: come back when the timer says so.</summary>
    BackOff,
}

/// <summary>A shortage of descriptors or memory, as accepting sees it.</summary>
public sealed class AcceptPressure
{
    /// <summary>Idle connections given up for one failed accept.</summary>
    public const int ReclaimedAtOnce = 8;

    public const int BackOffFirstMs = 10, BackOffLongestMs = 500;

    /// <summary>Without an error for this long a shortage is over.</summary>
    public const int CalmMs = 1000;

    private long _lastErrorMs;
    private int _backOffMs;

    /// <summary>A shortage is on.</summary>
    public bool IsOn { get; private set; }

    /// <summary>Clients turned away since the shortage began.</summary>
    public long RefusedCount { get; set; }

    /// <summary>Which tier an error belongs to.</summary>
    public static AcceptAnswer TierOf(int errno) => errno switch
    {
        Errno.EAGAIN => AcceptAnswer.Empty,
        // accept(2): errors of the connection that was taken from the queue, not of the listener.
        Errno.ECONNABORTED or Errno.EINTR or Errno.EPROTO or Errno.ENETDOWN or Errno.EHOSTDOWN or Errno.EHOSTUNREACH
            or Errno.EOPNOTSUPP or Errno.ENETUNREACH or Errno.EPERM or Errno.ETIMEDOUT => AcceptAnswer.Next,
        Errno.EMFILE or Errno.ENFILE => AcceptAnswer.Shed,
        _ => AcceptAnswer.BackOff,
    };

    /// <summary>Notes an error of the last two tiers; true when it is the first of a shortage and belongs into the
    /// log.</summary>
    public bool Begin(long nowMs)
    {
        _lastErrorMs = nowMs;
        if (IsOn)
        {
            return false;
        }
        IsOn = true;
        RefusedCount = 0;
        _backOffMs = BackOffFirstMs;
        return true;
    }

    /// <summary>How long to wait this time: longer each time while the shortage lasts.</summary>
    public int NextBackOffMs()
    {
        int wait = _backOffMs;
        _backOffMs = Math.Min(wait * 2, BackOffLongestMs);
        return wait;
    }

    /// <summary>A connection was accepted; true when that ends the shortage.</summary>
    public bool End(long nowMs)
    {
        if (!IsOn || nowMs - _lastErrorMs < CalmMs)
        {
            return false;
        }
        IsOn = false;
        return true;
    }
}

/// <summary>How many connections a listener takes in one turn. A lone client costs one accept and no second one that
/// finds the queue empty; a queue that is still there in the next turn doubles what that turn takes.</summary>
public struct AcceptBatch
{
    /// <summary>Most connections of one turn, alone on the socket and with other workers on it.</summary>
    public const int Most = 64, MostShared = 4;

    /// <summary>Most with multi_accept: all there are, as long as others get their turn.</summary>
    public const int MostMulti = 1024;

    private long _lastTurn;
    private int _size;

    /// <summary>The size for this turn.</summary>
    public int Next(long turn, bool shared, bool multi)
    {
        if (multi)
        {
            return MostMulti;
        }
        _size = turn == _lastTurn + 1 ? Math.Clamp(_size * 2, 1, shared ? MostShared : Most) : 1;
        _lastTurn = turn;
        return _size;
    }

    /// <summary>The queue was found empty: start small again.</summary>
    public void Emptied() => _lastTurn = long.MinValue;
}

/// <summary>A descriptor kept for the moment when there is no other.</summary>
public sealed class SpareDescriptor : IDisposable
{
    private int _fd = -1;

    /// <summary>Takes one if none is held; false when the system has none.</summary>
    public bool Hold()
    {
        if (_fd < 0)
        {
            SysResult fd = Sys.Open("/dev/null", Sys.O_RDONLY);
            _fd = fd.IsOk ? fd.Int : -1;
        }
        return _fd >= 0;
    }

    /// <summary>Gives it up; false when none was held.</summary>
    public bool Release()
    {
        if (_fd < 0)
        {
            return false;
        }
        Sys.Close(_fd);
        _fd = -1;
        return true;
    }

    public void Dispose() => Release();
}

/// <summary>Who may accept now, of several workers on one socket: nginx's accept_mutex.</summary>
public abstract class AcceptGate
{
    /// <summary>How long a worker that was not let in waits at most before it asks again.</summary>
    public int DelayMs { get; init; } = 500;

    /// <summary>Enters if nobody else is inside. Never waits.</summary>
    public abstract bool TryEnter();

    public abstract void Leave();
}
