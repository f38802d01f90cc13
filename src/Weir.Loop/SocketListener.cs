// Accepting from a descriptor by plain calls, as engines do that are told when a client waits: how many in one turn,
// what happens when slots, descriptors or memory run out. One loop's thread; it owns the descriptor.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal abstract unsafe class SocketListener : Listener
{
    private readonly CallbackTimer _backOff;
    private AcceptBatch _batch;

    protected SocketListener(EventLoop loop, int fd, bool shared, Action<Connection> accepted) : base(loop, accepted)
    {
        IsShared = shared;
        Fd = fd;
        OneAddress = BoundAddress(fd);
        _backOff = new CallbackTimer(EndBackOff);
    }

    protected int Fd { get; private set; }

    /// <summary>What every connection's own end is called, so that nobody asks the kernel for it; null where the socket
    /// takes connections to any address.</summary>
    internal byte[]? OneAddress { get; }

    protected bool IsStopped { get; private set; }

    /// <summary>Makes a stream of an accepted descriptor; null when the engine could not take it.</summary>
    protected abstract Connection? Open(int fd, ReadOnlySpan<byte> peer);

    /// <summary>The engine lets go of the descriptor, which is closed next.</summary>
    protected abstract void Leave();

    private static byte[]? BoundAddress(int fd)
    {
        byte* address = stackalloc byte[SocketStream.AddressBytesMax];
        int length = SocketStream.AddressBytesMax;
        if (Sys.LocalName(fd, address, ref length).IsError || length > SocketStream.AddressBytesMax)
        {
            return null;
        }
        var native = new ReadOnlySpan<byte>(address, length);
        return SocketAddress.FamilyOf(native) == SocketFamily.Unspecified
            || SocketAddress.FromNative(native).IsWildcard ? null : native.ToArray();
    }

    public override void Stop()
    {
        if (!IsStopped)
        {
            IsStopped = true;
            Loop.Delist(this);
            Loop.Timers.Cancel(_backOff);
            Leave();
            if (IsShared)
            {
                TakeRest();
            }
            Sys.Close(Fd);
            Fd = -1;
        }
    }

    /// <summary>The wake-up of who waits now may have been this worker's, and then nobody else hears of them until
    /// the next client comes: they are taken along.</summary>
    private void TakeRest()
    {
        const int most = 512;
        byte* address = stackalloc byte[SocketStream.AddressBytesMax];
        for (int taken = 0; taken < most && Loop.MakeRoom(); taken++)
        {
            int length = SocketStream.AddressBytesMax;
            SysResult fd = Sys.Accept(Fd, address, ref length);
            if (!fd.IsError)
            {
                Admit(fd.Int, new ReadOnlySpan<byte>(address, Math.Min(length, SocketStream.AddressBytesMax)));
            }
            else if (AcceptPressure.TierOf(fd.Errno) != AcceptAnswer.Next)
            {
                return;
            }
        }
    }

    private void EndBackOff()
    {
        Loop.Spare.Hold();
        LetGo(AcceptHold.Pressure);
    }

    /// <summary>Takes this turn's share of what waits; returns how many.</summary>
    protected int AcceptSome()
    {
        byte* address = stackalloc byte[SocketStream.AddressBytesMax];
        int most = _batch.Next(Loop.TurnCount, IsShared && Loop.HasSiblings, Loop.MultiAccept);
        int accepted = 0;
        for (int tried = 0; tried < most; tried++)
        {
            if (IsStopped || Holds != AcceptHold.None || (tried > 0 && Loop.IsNearlyFull))
            {
                break;
            }
            // Before the queue is touched: a client that cannot be served is better off waiting in it.
            if (!Loop.MakeRoom())
            {
                Loop.HoldForRoom();
                break;
            }
            int length = SocketStream.AddressBytesMax;
            SysResult fd = Sys.Accept(Fd, address, ref length);
            if (fd.IsError)
            {
                if (!GoesOn(fd.Errno))
                {
                    break;
                }
                continue;
            }
            accepted++;
            Admit(fd.Int, new ReadOnlySpan<byte>(address, Math.Min(length, SocketStream.AddressBytesMax)));
        }
        return accepted;
    }

    protected void Admit(int fd, ReadOnlySpan<byte> peer)
    {
        Loop.NoteAccepted();
        if (Open(fd, peer) is { } stream)
        {
            Accepted(stream);
        }
    }

    /// <summary>After a failed accept: whether to try again now. If not, the listener is held or the queue is
    /// empty.</summary>
    protected bool GoesOn(int errno)
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
        Loop.NotePressure(errno);
        if (tier == AcceptAnswer.Shed && MakeDescriptorRoom(Fd))
        {
            return true;
        }
        // The socket stays readable: nothing may listen to it until the timer fires.
        Hold(AcceptHold.Pressure);
        Loop.Timers.Set(_backOff, Loop.NowMs + Loop.Pressure.NextBackOffMs());
        return false;
    }
}
