// A listening socket on epoll, level-triggered: what one turn does not take is there in the next one. Sockets that
// several workers share wake one of them for each connection (EPOLLEXCLUSIVE), unless an accept gate chooses who.
// One loop's thread; it owns the descriptor.
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed class EpollListener : SocketListener
{
    /// <summary>The kernel wakes the first waiter of a shared socket while it can: after so many connections this
    /// worker goes to the end of the queue.</summary>
    private const int RequeueAfter = 16;

    private readonly EpollLoop _loop;
    private readonly AcceptTarget _target;
    private readonly uint _interest;
    private int _sinceRequeue;

    // How well reading at once went lately, up to EarlyMax; at 0 one connection in EarlyProbe still tries.
    private const int EarlyMax = 64;
    private const int EarlyProbe = 16;
    private int _early = EarlyProbe;
    private int _sinceProbe;

    internal EpollListener(EpollLoop loop, int fd, bool shared, Action<Connection> accepted)
        : base(loop, fd, shared, accepted)
    {
        _loop = loop;
        _target = new AcceptTarget(this) { Fd = fd };
        _interest = Sys.EPOLLIN | (shared && loop.AcceptGate is null ? Sys.EPOLLEXCLUSIVE : 0);
        if (loop.Enlist(this))
        {
            Arm();
        }
    }

    protected override void Leave() => _loop.Unregister(_target);

    protected override void Arm()
    {
        if (!IsStopped)
        {
            _loop.Register(_target, _interest);
        }
    }

    protected override void Disarm() => _loop.Unregister(_target);

    protected override Connection? Open(int fd, ReadOnlySpan<byte> peer)
    {
        EpollStream stream = _loop.RentStream();
        return stream.Open(fd, this, peer, ReadsEarly()) ? stream : null;
    }

    private bool ReadsEarly()
    {
        if (_early == 0 && ++_sinceProbe < EarlyProbe)
        {
            return false;
        }
        _sinceProbe = 0;
        return true;
    }

    /// <summary>Whether the first read of a connection found something.</summary>
    internal void NoteEarlyRead(bool found) =>
        _early = found ? Math.Min(_early + 1, EarlyMax) : Math.Max(_early - 1, 0);

    private void OnReadable()
    {
        _sinceRequeue += AcceptSome();
        if (_sinceRequeue >= RequeueAfter)
        {
            _sinceRequeue = 0;
            if ((_interest & Sys.EPOLLEXCLUSIVE) != 0 && _loop.HasSiblings && Holds == AcceptHold.None && !IsStopped)
            {
                _loop.Unregister(_target);
                _loop.Register(_target, _interest);
            }
        }
    }

    internal sealed class AcceptTarget(EpollListener listener) : EpollTarget
    {
        internal override void OnEvents(uint events) => listener.OnReadable();
    }
}
