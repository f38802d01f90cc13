// A TCP or unix stream on the io_uring engine. One multishot receive is armed for its whole life and brings each piece
// in a buffer of the shared ring; what nobody asked for yet waits here, up to a bound, then the receive is cancelled
// until the reader has caught up. A small send is a submission entry of its own bytes ("the flight"): the caller's
// chain is free at once, and the kernel never holds memory beyond the submission, because it is told not to wait. What
// is larger, and files, goes by plain calls that do not block, continued when a poll says so.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed unsafe partial class UringStream : SocketStream
{
    /// <summary>Bytes that may wait for a reader before the kernel is told to stop receiving.</summary>
    internal const int WaitingBytesMax = 64 * 1024;

    /// <summary>How long the last bytes of a closed stream may stand still where send_timeout is not set.</summary>
    private const int ClosingTimeoutMs = 60_000;

    private readonly UringLoop _loop;
    private readonly StreamTarget _target;
    private Action? _continueReceive;

    // What has arrived and was not asked for yet, oldest first.
    private BufferSlab? _waitingFirst;
    private BufferSlab? _waitingLast;
    private int _waitingBytes;
    private int _waitingOffset;
    private int _receiveError;
    private bool _isReceiving;

    /// <summary>Nothing has come from this client yet. The first receive is a single one: many clients ask once and are
    /// gone, and arming and cancelling a multishot would be for nothing.</summary>
    private bool _isFirst;
    private bool _isStopping;
    private bool _hasEnd;

    private bool _isPollingPeer;
    private bool _isConnecting;

    internal UringStream(UringLoop loop) : base(loop)
    {
        _loop = loop;
        _target = new StreamTarget(this);
    }

    internal void Open(int fd, Listener listener, ReadOnlySpan<byte> peer)
    {
        Begin();
        _isFirst = true;
        Start(fd, listener, peer);
        Receive();
    }

    private void Begin()
    {
        _isBulk = false;
        _isPollingReadable = false;
        _isReadable = false;
        _isFirst = false;
        _streak = 0;
        _receiveError = 0;
        _isReceiving = false;
        _isStopping = false;
        _hasEnd = false;
        _isFlying = false;
        _isPollingWritable = false;
        _isPollingPeer = false;
        _shutdownAfterFlight = false;
        _closeAfterFlight = false;
        _isConnecting = false;
        _loop.Register(_target);
    }

    internal LoopTask<ConnectOutcome> Connect(ReadOnlySpan<byte> address, LocalEnd local, int timeoutMs)
    {
        Begin();
        int errno = Prepare(address, local);
        if (errno != 0)
        {
            return new LoopTask<ConnectOutcome>(new ConnectOutcome(errno));
        }
        _isConnecting = true;
        byte* copy = _loop.Scratch(address);
        UringEntry* entry = _loop.Begin(_target, UringKind.Connect, UringOperation.Connect, Fd);
        entry->Address = (ulong)copy;
        entry->Offset = (ulong)address.Length;
        return BeginConnect(timeoutMs);
    }

    // Receiving.

    private void Receive()
    {
        _isReceiving = true;
        _isReadable = false;
        UringEntry* entry = _loop.Begin(_target, UringKind.Receive, UringOperation.Recv, Fd);
        entry->Flags = UringOperation.BufferSelect;
        entry->Priority = _isFirst ? (ushort)0 : UringOperation.RecvMultishot;
        entry->BufferGroup = UringBuffers.Group;
    }

    public override bool MayHaveInput =>
        _waitingFirst is not null || _hasEnd || _receiveError != 0 || _isReadable;

    public override LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize)
    {
        ReceiveMax = Math.Max(maxBytes, 1);
        if (MayHaveInput && ++ImmediateCount <= ImmediateMax && !IsClosed && TryTake(out RecvLease lease))
        {
            return new LoopTask<RecvLease>(lease);
        }
        LoopTask<RecvLease> task = BeginReceive();
        AwaitInput();
        return task;
    }

    protected override void AwaitInput()
    {
        if (IsClosed)
        {
            Deliver(RecvLease.Failed(Errno.ECANCELED));
        }
        else if (MayHaveInput)
        {
            // Too many immediate results in a row: others get their turn first.
            _loop.Ready(_continueReceive ??= ContinueReceive);
        }
        else
        {
            ResumeReceiving();
        }
    }

    private void ContinueReceive()
    {
        ImmediateCount = 0;
        if (HasReader && MayHaveInput && !IsClosed && TryTake(out RecvLease lease))
        {
            DisarmRead();
            Deliver(lease);
        }
    }

    /// <summary>What waits here, else what the kernel has. False when that is nothing after all.</summary>
    private bool TryTake(out RecvLease lease)
    {
        if (_waitingFirst is null && _isReadable && !_hasEnd && _receiveError == 0)
        {
            return TryReceive(out lease);
        }
        lease = TakeWaiting();
        return true;
    }

    private RecvLease TakeWaiting()
    {
        if (_waitingFirst is not { } slab)
        {
            return _receiveError != 0 ? RecvLease.Failed(_receiveError) : RecvLease.End;
        }
        int left = slab.Filled - _waitingOffset;
        int length = Math.Min(left, ReceiveMax);
        _waitingBytes -= length;
        RecvLease lease;
        if (length == slab.Filled)
        {
            lease = RecvLease.Bytes(slab, length);
        }
        else
        {
            // The reader wants less than arrived, or has had the beginning.
            BufferSlab copy = _loop.Buffers.Rent(length);
            slab.Span.Slice(_waitingOffset, length).CopyTo(copy.Span);
            lease = RecvLease.Bytes(copy, length);
            if (length < left)
            {
                _waitingOffset += length;
                return lease;
            }
        }
        _waitingOffset = 0;
        _waitingFirst = slab.NextFree;
        slab.NextFree = null;
        if (_waitingFirst is null)
        {
            _waitingLast = null;
        }
        if (lease.Slab != slab)
        {
            slab.Release();
        }
        ResumeReceiving();
        return lease;
    }

    /// <summary>Receives again when the reader has caught up with half of what may wait.</summary>
    private void ResumeReceiving()
    {
        if (_isReceiving || _hasEnd || _receiveError != 0 || IsClosed || _waitingBytes > WaitingBytesMax / 2)
        {
            return;
        }
        if (!_isBulk)
        {
            Receive();
        }
        else if (!_isPollingReadable)
        {
            PollReadable();
        }
    }

    protected override void OnWatched() => ResumeReceiving();

    private void OnReceive(in UringCompletion completion)
    {
        ImmediateCount = 0;
        int n = completion.Result;
        if (!completion.HasMore)
        {
            // It may end by itself at any time (no buffer, no room for the completion): only the flag says so.
            _loop.SilentEndCount += n > 0 && !_isStopping && !_isFirst ? 1 : 0;
            _isReceiving = false;
            _isStopping = false;
        }
        bool wasFirst = _isFirst;
        _isFirst &= n <= 0;
        BufferSlab? slab = completion.HasBuffer ? _loop.ReceiveBuffers.Take(completion.BufferId, Math.Max(n, 0)) : null;
        if (IsClosed || n <= 0)
        {
            slab?.Release();
            if (!IsClosed)
            {
                OnReceiveEnd(n);
            }
            return;
        }
        if (!_isBulk)
        {
            NoteFull(slab!, n);
        }
        if (HasReader && _waitingFirst is null && n <= ReceiveMax)
        {
            if (!wasFirst)
            {
                ResumeReceiving();
            }
            DisarmRead();
            Deliver(RecvLease.Bytes(slab!, n));
            return;
        }
        Keep(slab!);
        if (HasReader)
        {
            ContinueReceive();
            if (IsClosed)
            {
                return;
            }
        }
        if (!_isReceiving)
        {
            ResumeReceiving();
        }
        else if (_waitingBytes >= WaitingBytesMax)
        {
            StopReceiving();
        }
        if (!_isReceiving && !_isPollingReadable && !IsClosed)
        {
            WatchPeer(Sys.EPOLLRDHUP);
        }
    }

    private void Keep(BufferSlab slab)
    {
        _waitingBytes += slab.Filled;
        if (_waitingLast is null)
        {
            _waitingFirst = slab;
        }
        else
        {
            _waitingLast.NextFree = slab;
        }
        _waitingLast = slab;
    }

    private void OnReceiveEnd(int result)
    {
        if (result == -Errno.ENOBUFS)
        {
            _loop.ReceiveBuffers.Starved();
            _loop.TrimLater();
            ResumeReceiving();
            return;
        }
        if (result is -Errno.ECANCELED or -Errno.EINTR or -Errno.EAGAIN)
        {
            ResumeReceiving();
            if (!_isReceiving && !_isPollingReadable)
            {
                WatchPeer(Sys.EPOLLRDHUP);
            }
            return;
        }
        bool broken = result < 0;
        _hasEnd |= !broken;
        _receiveError = -result;
        if (_isFlying && broken)
        {
            // The flight's own completion says how it ended.
            _receiveError = -result;
        }
        TellPeerGone(broken);
    }

    /// <summary>The peer's end or its reset: to the reader, else to the watcher.</summary>
    private void TellPeerGone(bool broken)
    {
        bool news = !HasPeerEnded || (broken && !IsBroken);
        HasPeerEnded = true;
        IsBroken |= broken;
        if (HasReader)
        {
            if (MayHaveInput)
            {
                ContinueReceive();
            }
            return;
        }
        if (news && Watcher is { } watcher)
        {
            watcher.PeerGone(this, IsBroken);
        }
        if (!IsClosed && !broken)
        {
            // A reset may still follow.
            WatchPeer(0);
        }
    }

    /// <summary>While nothing is received only a poll tells that the peer went.</summary>
    private void WatchPeer(uint events)
    {
        if (!_isPollingPeer && !(HasPeerEnded && events != 0))
        {
            _isPollingPeer = true;
            // Edge by edge: after the peer's end a reset is the next one.
            _loop.BeginPoll(_target, UringKind.PeerState, Fd, events)->Length = UringOperation.PollMultishot;
        }
    }

    private void OnPeerState(in UringCompletion completion)
    {
        _isPollingPeer = completion.HasMore;
        if (IsClosed || completion.Result < 0)
        {
            return;
        }
        uint events = (uint)completion.Result;
        if ((events & Sys.EPOLLERR) != 0)
        {
            if (_isReceiving || _waitingFirst is not null)
            {
                // What was received before is read first; the receive brings the error itself.
                TellPeerGone(broken: true);
                return;
            }
            _receiveError = _receiveError == 0 ? Errno.ECONNRESET : _receiveError;
            TellPeerGone(broken: true);
        }
        else if ((events & (Sys.EPOLLRDHUP | Sys.EPOLLHUP)) != 0 && !HasPeerEnded)
        {
            TellPeerGone(broken: false);
        }
    }

    // Closing.

    protected override void LetGo(bool reset)
    {
        while (_waitingFirst is { } slab)
        {
            _waitingFirst = slab.NextFree;
            slab.NextFree = null;
            slab.Release();
        }
        _waitingLast = null;
        _waitingBytes = 0;
        _waitingOffset = 0;
        if (_flightBytes > 0 && !reset)
        {
            // The caller counts it as sent. The receive ends already, so that the socket is free with the last byte.
            _closeAfterFlight = true;
            StopListening();
            if (SendTimeoutMs == 0)
            {
                SendTimeoutMs = ClosingTimeoutMs;
            }
            StartSendTimer();
            return;
        }
        CloseSocket(reset);
    }

    private void StopReceiving()
    {
        if (_isReceiving && !_isStopping)
        {
            _isStopping = true;
            _loop.Cancel(_target, UringKind.Receive);
        }
    }

    private void StopListening()
    {
        StopReceiving();
        if (_isPollingReadable)
        {
            _loop.Cancel(_target, UringKind.Readable);
        }
        if (_isPollingPeer)
        {
            _loop.Cancel(_target, UringKind.PeerState);
        }
    }

    /// <summary>The close comes behind the cancels in the ring, so nothing begins on a descriptor that is gone. The
    /// slot and the object are free when the last operation has said that it ended.</summary>
    private void CloseSocket(bool reset)
    {
        StopListening();
        if (_isPollingWritable)
        {
            _loop.Cancel(_target, UringKind.Writable);
        }
        if (_isConnecting)
        {
            _loop.Cancel(_target, UringKind.Connect);
        }
        if (_flightBytes > 0 && !_isFlying)
        {
            DropFlight();
        }
        if (Fd >= 0)
        {
            if (reset)
            {
                Sys.SetResetOnClose(Fd);
            }
            _loop.CloseLater(Fd);
            Fd = -1;
        }
        _loop.Retire(_target);
    }

    private void OnCompletion(UringKind kind, in UringCompletion completion)
    {
        switch (kind)
        {
            case UringKind.Receive:
                OnReceive(in completion);
                break;
            case UringKind.Readable:
                OnReadable(in completion);
                break;
            case UringKind.Send:
                OnFlightEnd(completion.Result);
                break;
            case UringKind.Writable:
                OnWritable();
                break;
            case UringKind.PeerState:
                OnPeerState(in completion);
                break;
            case UringKind.Connect:
                OnConnect(completion.Result);
                break;
        }
    }

    private void OnFlightEnd(int result)
    {
        if (Fd < 0)
        {
            // Closed with a reset while it was under way.
            _isFlying = false;
            DropFlight();
            return;
        }
        OnSend(result);
    }

    private void OnConnect(int result)
    {
        _isConnecting = false;
        if (IsClosed)
        {
            return;
        }
        if (result == 0)
        {
            Receive();
        }
        FinishConnect(-result);
    }

    private sealed class StreamTarget(UringStream stream) : UringTarget
    {
        internal override Connection? Connection => stream;

        internal override void OnCompletion(UringKind kind, in UringCompletion completion) =>
            stream.OnCompletion(kind, in completion);

        internal override void OnRetired() => stream._loop.Streams.Return(stream);
    }
}
