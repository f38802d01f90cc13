// A listening socket on a loop, whatever the engine: who wants it quiet, and why. It is armed (the engine accepts) only
// while nobody holds it: its owner, want of descriptors, want of connection slots, or another worker that accepts now.
// One loop's thread. Engines derive and supply Arm and Disarm.
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>Why a listener accepts nothing for now.</summary>
[Flags]
public enum AcceptHold : byte
{
    None = 0,

    /// <summary><see cref="Listener.Pause"/>.</summary>
    Owner = 1,

    /// <summary>The system ran out of memory or descriptors; a timer lets go.</summary>
    Pressure = 2,

    /// <summary>All connection slots are taken and none is idle.</summary>
    Room = 4,

    /// <summary>Another worker accepts now (nginx's accept_mutex).</summary>
    Gate = 8,
}

/// <summary>A listening socket on a loop.</summary>
public abstract class Listener(EventLoop loop, Action<Connection> accepted)
{
    public EventLoop Loop { get; } = loop;

    /// <summary>What the owner of the listener wants to find again (its server table).</summary>
    public object? Tag { get; set; }

    /// <summary>What a client reads that is turned away because descriptors ran out; empty for a reset.</summary>
    public ReadOnlyMemory<byte> Refusal { get; set; }

    /// <summary>Other processes accept from the same socket.</summary>
    public bool IsShared { get; protected init; }

    /// <summary>Who keeps it from accepting.</summary>
    public AcceptHold Holds { get; private set; }

    protected void Accepted(Connection connection) => accepted(connection);

    /// <summary>Stops accepting for good. Who waits in a queue that other processes share is accepted first, and some
    /// may still be until the loop's next turn has begun.</summary>
    public abstract void Stop();

    /// <summary>Accepts no more until <see cref="Resume"/>.</summary>
    public void Pause() => Hold(AcceptHold.Owner);

    public void Resume() => LetGo(AcceptHold.Owner);

    /// <summary>The engine begins to accept. Called once after each <see cref="Disarm"/>.</summary>
    protected abstract void Arm();

    /// <summary>The engine accepts no more.</summary>
    protected abstract void Disarm();

    internal void Hold(AcceptHold why)
    {
        bool was = Holds == AcceptHold.None;
        Holds |= why;
        if (was)
        {
            Disarm();
        }
    }

    internal void LetGo(AcceptHold why)
    {
        if (Holds != AcceptHold.None && (Holds &= ~why) == AcceptHold.None)
        {
            Arm();
        }
    }

    /// <summary>Held before it was ever armed.</summary>
    internal void StartHeld(AcceptHold why) => Holds |= why;

    /// <summary>
    /// Descriptors ran out. An idle connection's is taken back; else the spare one accepts the client that waits
    /// longest, so that it reads a refusal instead of waiting for nothing. False when neither helped: the caller backs
    /// off.
    /// </summary>
    internal unsafe bool MakeDescriptorRoom(int listenFd)
    {
        if (Loop.ReclaimIdle(AcceptPressure.ReclaimedAtOnce) > 0)
        {
            return true;
        }
        if (!Loop.Spare.Release())
        {
            return false;
        }
        byte* address = stackalloc byte[112];
        int length = 112;
        Kernel.SysResult fd = Sys.Accept(listenFd, address, ref length);
        if (fd.IsOk)
        {
            Refuse(fd.Int);
            Loop.Pressure.RefusedCount++;
            Loop.RefusedCount++;
        }
        return Loop.Spare.Hold() && fd.IsOk;
    }

    /// <summary>Answers and closes without a connection. What the client already sent is read first: a close over
    /// unread bytes would be a reset and take the answer with it.</summary>
    private unsafe void Refuse(int fd)
    {
        if (Refusal.IsEmpty)
        {
            Sys.SetResetOnClose(fd);
        }
        else
        {
            byte* unread = stackalloc byte[4096];
            Sys.Receive(fd, unread, 4096);
            fixed (byte* text = Refusal.Span)
            {
                Sys.Send(fd, text, Refusal.Length, more: false);
            }
        }
        Sys.Close(fd);
    }
}
