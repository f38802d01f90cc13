// A listening socket on io_uring. Alone on its socket: one multishot accept, so that a client costs no call of its own
// to be taken. Beside other workers: a poll that wakes one of them, and plain accepts of this worker's share, because a
// multishot would empty the queue that the others want their part of. One loop's thread; it owns the descriptor.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed unsafe class UringListener : SocketListener
{
    private readonly UringLoop _loop;
    private readonly AcceptTarget _target;

    /// <summary>Accepted when there was no room: they wait here as they would have waited in the queue.</summary>
    private readonly Queue<int> _waiting = new();
    private UringKind _armed;
    private bool _isStopping;

    internal UringListener(UringLoop loop, int fd, bool shared, Action<Connection> accepted)
        : base(loop, fd, shared, accepted)
    {
        _loop = loop;
        _target = new AcceptTarget(this);
        loop.Register(_target);
        if (loop.Enlist(this))
        {
            Arm();
        }
    }

    protected override void Arm()
    {
        while (_waiting.Count > 0 && Holds == AcceptHold.None)
        {
            if (!_loop.MakeRoom())
            {
                _loop.HoldForRoom();
                return;
            }
            Admit(_waiting.Dequeue());
        }
        if (_armed != UringKind.None || IsStopped || Holds != AcceptHold.None)
        {
            // What is being cancelled is followed by the next when it has ended.
            return;
        }
        if (IsShared && (_loop.HasSiblings || _loop.AcceptGate is not null))
        {
            _armed = UringKind.Watch;
            _loop.BeginPoll(_target, _armed, Fd,
                Sys.EPOLLIN | (_loop.AcceptGate is null ? Sys.EPOLLEXCLUSIVE : 0));
            return;
        }
        _armed = UringKind.Accept;
        UringEntry* entry = _loop.Begin(_target, _armed, UringOperation.Accept, Fd);
        entry->Priority = UringOperation.AcceptMultishot;
        entry->OperationFlags = Sys.SOCK_NONBLOCK | Sys.SOCK_CLOEXEC;
    }

    protected override void Disarm()
    {
        if (_armed != UringKind.None && !_isStopping)
        {
            _isStopping = true;
            _loop.Cancel(_target, _armed);
        }
    }

    protected override void Leave()
    {
        if (_armed != UringKind.None)
        {
            Disarm();
            // The operation holds the socket open: without this a client could still connect.
            _loop.SubmitAndRun();
        }
        while (_waiting.TryDequeue(out int fd))
        {
            OnAccepted(fd);
        }
        _loop.Retire(_target);
    }

    protected override Connection? Open(int fd, ReadOnlySpan<byte> peer)
    {
        UringStream stream = _loop.RentStream();
        stream.Open(fd, this, peer);
        return stream;
    }

    private void OnCompletion(UringKind kind, in UringCompletion completion)
    {
        if (!completion.HasMore)
        {
            _armed = UringKind.None;
            _isStopping = false;
        }
        int result = completion.Result;
        if (kind == UringKind.Accept && result >= 0)
        {
            OnAccepted(result);
        }
        else if (IsStopped || Holds != AcceptHold.None)
        {
            return;
        }
        else if (kind == UringKind.Watch)
        {
            AcceptSome();
        }
        else if (result != -Errno.ECANCELED)
        {
            // Whatever it was, a multishot that ended begins again below unless the listener is held.
            GoesOn(-result);
        }
        if (_armed == UringKind.None && Holds == AcceptHold.None && !IsStopped)
        {
            Arm();
        }
    }

    private void OnAccepted(int fd)
    {
        if (IsStopped)
        {
            // Taken by the kernel before it heard of the end: nobody else can have it.
            if (_loop.MakeRoom())
            {
                Admit(fd);
            }
            else
            {
                Sys.Close(fd);
            }
        }
        else if ((Holds & AcceptHold.Room) != 0 || !_loop.MakeRoom())
        {
            _waiting.Enqueue(fd);
            _loop.HoldForRoom();
        }
        else
        {
            Admit(fd);
        }
    }

    private void Admit(int fd)
    {
        byte* address = stackalloc byte[SocketStream.AddressBytesMax];
        int length = SocketStream.AddressBytesMax;
        if (Sys.PeerName(fd, address, ref length).IsError)
        {
            // Reset while it waited in the queue.
            length = 0;
        }
        Admit(fd, new ReadOnlySpan<byte>(address, Math.Min(length, SocketStream.AddressBytesMax)));
    }

    private sealed class AcceptTarget(UringListener listener) : UringTarget
    {
        internal override void OnCompletion(UringKind kind, in UringCompletion completion) =>
            listener.OnCompletion(kind, in completion);
    }
}
