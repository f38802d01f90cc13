// Receiving much: a stream whose receives fill buffer after buffer goes over to a poll and plain receives. A multishot
// would take whatever the peers of all streams have sent before any of it is passed on; a plain receive takes large
// pieces, one stream at a time, while they are warm in the cache, and stops by itself when the reader stops. It goes
// back when little comes in. Never both at once: the bytes would change places.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed unsafe partial class UringStream
{
    /// <summary>Buffers filled one after the other before a stream receives by plain calls, and receives smaller than a
    /// buffer before it goes back.</summary>
    private const int FullBeforeBulk = 3, SmallAfterBulk = 16,
        BulkBytesMin = 8192;

    private bool _isBulk;
    private bool _isPollingReadable;
    private bool _isReadable;
    private int _streak;

    private void NoteFull(BufferSlab slab, int n)
    {
        _streak = n == slab.Capacity ? _streak + 1 : 0;
        if (_streak == FullBeforeBulk)
        {
            _streak = 0;
            _isBulk = true;
            StopReceiving();
        }
    }

    private void PollReadable()
    {
        _isPollingReadable = true;
        _isReadable = false;
        UringEntry* entry =
            _loop.BeginPoll(_target, UringKind.Readable, Fd, Sys.EPOLLIN | Sys.EPOLLRDHUP);
        entry->Length = UringOperation.PollMultishot;
    }

    private void OnReadable(in UringCompletion completion)
    {
        ImmediateCount = 0;
        _isPollingReadable = completion.HasMore;
        if (IsClosed)
        {
            return;
        }
        if (completion.Result < 0)
        {
            // Cancelled: the multishot receive takes over again.
            ResumeReceiving();
            return;
        }
        uint events = (uint)completion.Result;
        bool broken = (events & Sys.EPOLLERR) != 0;
        bool ended = broken || (events & (Sys.EPOLLRDHUP | Sys.EPOLLHUP)) != 0;
        bool news = (ended && !HasPeerEnded) || (broken && !IsBroken);
        HasPeerEnded |= ended;
        IsBroken |= broken;
        _isReadable = true;
        if (!_isPollingReadable)
        {
            ResumeReceiving();
        }
        if (HasReader)
        {
            ContinueReceive();
        }
        else if (news && Watcher is { } watcher)
        {
            watcher.PeerGone(this, IsBroken);
        }
    }

    /// <summary>Edge by edge: less than was asked for means that the socket is empty.</summary>
    private bool TryReceive(out RecvLease lease)
    {
        lease = default;
        BufferSlab slab = _loop.Buffers.Rent(ReceiveMax);
        int room = Math.Min(slab.Capacity, ReceiveMax);
        SysResult n = Sys.Receive(Fd, slab.Pointer, room);
        if (n.Value > 0)
        {
            if (n.Value < room && !HasPeerEnded)
            {
                _isReadable = false;
                NoteSmall(n.Int);
            }
            lease = RecvLease.Bytes(slab, n.Int);
            return true;
        }
        slab.Release();
        if (n.Errno == Errno.EAGAIN)
        {
            _isReadable = false;
            return false;
        }
        _hasEnd = n.IsOk;
        _receiveError = n.Errno;
        HasPeerEnded = true;
        IsBroken |= n.IsError;
        lease = n.IsOk ? RecvLease.End : RecvLease.Failed(n.Errno);
        return true;
    }

    private void NoteSmall(int n)
    {
        _streak = n < BulkBytesMin ? _streak + 1 : 0;
        if (_streak == SmallAfterBulk && _isPollingReadable)
        {
            _streak = 0;
            _isBulk = false;
            _loop.Cancel(_target, UringKind.Readable);
        }
    }
}
