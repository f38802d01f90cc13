// The sending half of a stream on io_uring. A small send is "the flight": bytes taken over from the caller's chain, in
// an entry that is told not to wait, so that the kernel never holds memory beyond the submission. What it did not take
// goes by plain sends when a poll says that there is room. One flight at a time: a second could overtake the rest of
// the first.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed unsafe partial class UringStream
{
    /// <summary>Pieces of a chain up to this size together are copied into one entry.</summary>
    private const int CopiedBytesMax = 4096;

    /// <summary>A single piece up to this size is an entry of its own; what is larger is better sent while it is warm
    /// in the cache.</summary>
    private const int FlightBytesMax = 16 * 1024;

    // The flight: bytes taken over from the caller. An entry is under way, or the rest waits for room.
    private BufferSlab? _flight;
    private byte* _flightAt;
    private int _flightBytes;
    private uint _flightNumber;
    private bool _isFlying;
    private bool _isPollingWritable;
    private bool _shutdownAfterFlight;
    private bool _closeAfterFlight;

    protected override bool MustWait => _flightBytes > 0;

    /// <summary>More follows in the same turn: the entry becomes an empty one, and its bytes go now, before the rest.
    /// Whoever produces so much must see what the kernel takes, or it would count the client as slow.</summary>
    protected override void Land()
    {
        if (_isFlying && _loop.Withdraw(_target, _flightNumber))
        {
            _isFlying = false;
            ResumeFlight(more: true);
        }
    }

    protected override bool TakesOver(BufferChain chain)
    {
        ref ChainSegment first = ref chain[0];
        if (chain.Count == 1 && first.Slab is { } owner && first.Length <= FlightBytesMax)
        {
            owner.AddReference();
            _flight = owner;
            _flightAt = first.Pointer;
            _flightBytes = (int)first.Length;
        }
        else if (chain.Length <= CopiedBytesMax && chain.MemoryBytes == chain.Length)
        {
            int length = (int)chain.Length;
            _flight = _loop.Buffers.Rent(length);
            _flightAt = _flight.Pointer;
            _flightBytes = chain.CopyTo(new Span<byte>(_flightAt, length));
        }
        else
        {
            return false;
        }
        SentBytes += _flightBytes;
        chain.Consume(_flightBytes);
        _loop.OwedCount++;
        _isFlying = true;
        _flightNumber = _loop.NextNumber();
        UringEntry* entry = _loop.Begin(_target, UringKind.Send, UringOperation.Send, Fd);
        entry->Address = (ulong)_flightAt;
        entry->Length = (uint)_flightBytes;
        entry->OperationFlags = Sys.MSG_NOSIGNAL | Sys.MSG_DONTWAIT;
        return true;
    }

    private void OnSend(int result)
    {
        _isFlying = false;
        if (result < 0 && result is not (-Errno.EAGAIN or -Errno.EINTR))
        {
            FailFlight(-result);
            return;
        }
        Sent(Math.Max(result, 0));
        ResumeFlight(more: false);
    }

    private void Sent(int count)
    {
        _flightAt += count;
        _flightBytes -= count;
        if (_flightBytes == 0)
        {
            EndFlight();
        }
    }

    /// <summary>The kernel took a part: the rest leaves by plain sends whenever there is room. The end of a flight may
    /// begin the next one, which is the ring's.</summary>
    private void ResumeFlight(bool more)
    {
        while (_flightBytes > 0 && !_isFlying)
        {
            SysResult n = Sys.Send(Fd, _flightAt, _flightBytes, more);
            if (n.Errno == Errno.EAGAIN)
            {
                // Something left since the last time, or the first time: the clock begins again.
                StartSendTimer();
                AwaitWritable();
                return;
            }
            if (n.IsError)
            {
                FailFlight(n.Errno);
                return;
            }
            Sent(n.Int);
        }
    }

    private void EndFlight()
    {
        DropFlight();
        StopSendTimer();
        if (_closeAfterFlight)
        {
            _closeAfterFlight = false;
            CloseSocket(reset: false);
            return;
        }
        if (_shutdownAfterFlight)
        {
            _shutdownAfterFlight = false;
            base.ShutdownSend();
        }
        ContinueSend();
    }

    private void DropFlight()
    {
        _flight!.Release();
        _flight = null;
        _flightBytes = 0;
        _loop.OwedCount--;
    }

    private void FailFlight(int errno)
    {
        SentBytes -= _flightBytes;
        DropFlight();
        if (_closeAfterFlight)
        {
            _closeAfterFlight = false;
            CloseSocket(reset: errno == Errno.ETIMEDOUT);
            return;
        }
        if (IsClosed)
        {
            return;
        }
        FailSend(errno);
        if (!IsClosed && errno == Errno.ETIMEDOUT && HasReader)
        {
            // Nobody waits for the send any more: whoever waits for the next bytes hears it.
            DisarmRead();
            Deliver(RecvLease.Failed(errno));
        }
    }

    protected override void SendTimedOut()
    {
        if (_flightBytes > 0 && !_isFlying)
        {
            FailFlight(Errno.ETIMEDOUT);
            return;
        }
        base.SendTimedOut();
    }

    protected override void AwaitWritable(bool mayHaveRoom = false)
    {
        if (!_isPollingWritable)
        {
            _isPollingWritable = true;
            _loop.BeginPoll(_target, UringKind.Writable, Fd, Sys.EPOLLOUT);
        }
    }

    private void OnWritable()
    {
        _isPollingWritable = false;
        if (Fd >= 0)
        {
            SendOn();
        }
    }

    protected override bool MaySendNow => !_isFlying;

    protected override void SendOn()
    {
        if (_flightBytes > 0 && !_isFlying)
        {
            ResumeFlight(more: false);
            return;
        }
        ContinueSend();
    }

    public override void ShutdownSend()
    {
        if (_flightBytes > 0)
        {
            _shutdownAfterFlight = true;
            return;
        }
        base.ShutdownSend();
    }
}
