// A listening socket on epoll, level-triggered: what one turn does not take is there in the next one. Sockets that
// several workers share wake one of them for each connection (EPOLLEXCLUSIVE), unless an accept gate chooses who.
// One loop's thread; it owns the descriptor.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed unsafe class EpollListener : Listener
{
    private readonly EpollLoop _loop;
    private readonly AcceptTarget _target;
    private readonly uint _interest;
    private readonly CallbackTimer _backOff;
    /// <summary>The kernel wakes the first waiter of a shared socket while it can: after so many connections this
    /// worker goes to the end of the queue.</summary>
    private const int RequeueAfter = 16;

    private AcceptBatch _batch;
    private int _sinceRequeue;
    private bool _stopped;

    internal EpollListener(EpollLoop loop, int fd, bool shared, Action<Connection> accepted) : base(loop, accepted)
    {
        _loop = loop;
        IsShared = shared;
        _target = new AcceptTarget(this) { Fd = fd };
        _interest = Sys.EPOLLIN | (shared && loop.AcceptGate is null ? Sys.EPOLLEXCLUSIVE : 0);
        _backOff = new CallbackTimer(EndBackOff);
        if (loop.Enlist(this))
        {
            Arm();
        }
    }

    public override void Stop()
    {
        if (!_stopped)
        {
            _stopped = true;
            _loop.Delist(this);
            _loop.Timers.Cancel(_backOff);
            _loop.Unregister(_target);
            Sys.Close(_target.Fd);
            _target.Fd = -1;
        }
    }

    protected override void Arm()
    {
        if (!_stopped)
        {
            _loop.Register(_target, _interest);
        }
    }

    protected override void Disarm() => _loop.Unregister(_target);

    private void EndBackOff()
    {
        _loop.Spare.Hold();
        LetGo(AcceptHold.Pressure);
    }

    private void OnReadable()
    {
        AcceptSome();
        if (_sinceRequeue >= RequeueAfter)
        {
            _sinceRequeue = 0;
            if ((_interest & Sys.EPOLLEXCLUSIVE) != 0 && _loop.HasSiblings && Holds == AcceptHold.None && !_stopped)
            {
                _loop.Unregister(_target);
                _loop.Register(_target, _interest);
            }
        }
    }

    private void AcceptSome()
    {
        byte* address = stackalloc byte[EpollStream.AddressBytesMax];
        int most = _batch.Next(_loop.TurnCount, IsShared && _loop.HasSiblings, _loop.MultiAccept);
        for (int taken = 0; taken < most; taken++)
        {
            if (_stopped || Holds != AcceptHold.None || (taken > 0 && _loop.IsNearlyFull))
            {
                return;
            }
            // Before the queue is touched: a client that cannot be served is better off waiting in it.
            if (!_loop.MakeRoom())
            {
                _loop.HoldForRoom();
                return;
            }
            int length = EpollStream.AddressBytesMax;
            SysResult fd = Sys.Accept(_target.Fd, address, ref length);
            if (fd.IsError)
            {
                if (!GoesOn(fd.Errno))
                {
                    return;
                }
                continue;
            }
            _loop.NoteAccepted();
            _sinceRequeue++;
            EpollStream stream = _loop.RentStream();
            var peer = new ReadOnlySpan<byte>(address, Math.Min(length, EpollStream.AddressBytesMax));
            if (stream.Open(fd.Int, this, peer))
            {
                Accepted(stream);
            }
        }
    }

    private bool GoesOn(int errno)
    {
        AcceptAnswer tier = AcceptPressure.TierOf(errno);
        if (tier == AcceptAnswer.Empty)
        {
            _batch.Emptied();
            return false;
        }
        if (tier == AcceptAnswer.Next)
        {
            return true;
        }
        _loop.NotePressure(errno);
        if (tier == AcceptAnswer.Shed && MakeDescriptorRoom(_target.Fd))
        {
            return true;
        }
        // The socket stays readable: nothing may listen to it until the timer fires.
        Hold(AcceptHold.Pressure);
        _loop.Timers.Set(_backOff, _loop.NowMs + _loop.Pressure.NextBackOffMs());
        return false;
    }

    internal sealed class AcceptTarget(EpollListener listener) : EpollTarget
    {
        internal override void OnEvents(uint events) => listener.OnReadable();
    }
}
