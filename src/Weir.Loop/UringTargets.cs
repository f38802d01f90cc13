// The small things on the io_uring engine besides streams: watched descriptors, datagram sockets, reads of files. One
// loop's thread. A descriptor is closed when nothing of it is under way any more.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>A foreign descriptor: polled once at a time, so that what the reader leaves is told again.</summary>
internal sealed unsafe class UringWatch : UringTarget, IDisposable
{
    private readonly UringLoop _loop;
    private readonly Action _readable;
    private readonly int _fd;
    private bool _disposed;

    internal UringWatch(UringLoop loop, int fd, Action readable)
    {
        _loop = loop;
        _fd = fd;
        _readable = readable;
        loop.Register(this);
        loop.BeginPoll(this, UringKind.Watch, fd, Sys.EPOLLIN);
    }

    internal override void OnCompletion(UringKind kind, in UringCompletion completion)
    {
        if (_disposed)
        {
            return;
        }
        _readable();
        if (!_disposed)
        {
            _loop.BeginPoll(this, UringKind.Watch, _fd, Sys.EPOLLIN);
        }
    }

    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            if (UnderWay > 0)
            {
                _loop.Cancel(this, UringKind.Watch);
                // The owner closes the descriptor next.
                _loop.Submit();
            }
            _loop.Retire(this);
        }
    }
}

/// <summary>A datagram socket: the ring tells when something is there, and a whole batch is read. Datagrams are larger
/// than a provided buffer may be.</summary>
internal sealed unsafe class UringDatagram : DatagramSocket
{
    private readonly UringLoop _loop;
    private readonly Target _target;
    private readonly DatagramReceived _received;
    private int _fd;

    internal UringDatagram(UringLoop loop, int fd, DatagramReceived received)
    {
        _loop = loop;
        _fd = fd;
        _received = received;
        _target = new Target(this);
        loop.Register(_target);
        loop.BeginPoll(_target, UringKind.Watch, fd, Sys.EPOLLIN);
    }

    public override int Send(ReadOnlySpan<byte> bytes)
    {
        fixed (byte* p = bytes)
        {
            return Sys.Send(_fd, p, bytes.Length, false).Errno;
        }
    }

    public override void Dispose()
    {
        if (_fd >= 0)
        {
            if (_target.UnderWay > 0)
            {
                _loop.Cancel(_target, UringKind.Watch);
            }
            _loop.CloseLater(_fd);
            _fd = -1;
            _loop.Retire(_target);
        }
    }

    private void Receive()
    {
        if (_fd < 0)
        {
            return;
        }
        BufferSlab slab = _loop.Buffers.Rent(65536);
        while (_fd >= 0)
        {
            SysResult n = Sys.Receive(_fd, slab.Pointer, slab.Capacity);
            if (n.IsError)
            {
                // ECONNREFUSED reports an earlier datagram; the next one may do better.
                if (n.Errno == Errno.ECONNREFUSED)
                {
                    continue;
                }
                break;
            }
            _received(slab.Span[..n.Int]);
        }
        slab.Release();
        if (_fd >= 0)
        {
            _loop.BeginPoll(_target, UringKind.Watch, _fd, Sys.EPOLLIN);
        }
    }

    private sealed class Target(UringDatagram socket) : UringTarget
    {
        internal override void OnCompletion(UringKind kind, in UringCompletion completion) => socket.Receive();
    }
}

/// <summary>One read of a file.</summary>
internal sealed unsafe class UringRead(UringLoop loop) : LoopOperation<SysResult>
{
    private readonly UringLoop _loop = loop;
    private Target? _target;

    internal LoopTask<SysResult> Start(int fd, NativeSlice into, long offset)
    {
        _target ??= new Target(this);
        _loop.Register(_target);
        UringEntry* entry = _loop.Begin(_target, UringKind.Read, UringOperation.Read, fd);
        entry->Address = (ulong)into.Pointer;
        entry->Length = (uint)into.Length;
        entry->Offset = (ulong)offset;
        _loop.Retire(_target);
        return Begin();
    }

    internal override SysResult TakeResult()
    {
        SysResult result = base.TakeResult();
        _loop.ReturnRead(this);
        return result;
    }

    private sealed class Target(UringRead read) : UringTarget
    {
        private int _result;

        internal override void OnCompletion(UringKind kind, in UringCompletion completion) =>
            _result = completion.Result;

        internal override void OnRetired() => read.SetResult(new SysResult(_result));
    }
}
