// The reference engine: epoll, edge-triggered, one registration per descriptor for its whole life.
// A cookie carries slot and generation, so an event of a descriptor that was closed earlier in the same batch is
// recognised and dropped. One thread; native memory only for the event array.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>Something registered with the loop's epoll instance.</summary>
internal abstract class EpollTarget
{
    internal int Fd = -1;
    internal int Slot = -1;

    /// <summary>The connection it belongs to, if it does.</summary>
    internal virtual Connection? Connection => null;

    internal abstract void OnEvents(uint events);
}

/// <summary>The epoll engine.</summary>
public sealed unsafe class EpollLoop : EventLoop
{
    private const int BatchMax = 512;

    private readonly int _epoll;
    private readonly int _eventFd;
    private readonly byte* _events;
    private EpollTarget?[] _targets = new EpollTarget?[256];
    private uint[] _generations = new uint[256];
    private int[] _freeSlots = new int[256];
    private int _freeCount;
    private bool _disposed;

    /// <exception cref="InvalidOperationException">The kernel refused an epoll instance or an eventfd.</exception>
    public EpollLoop()
    {
        SysResult epoll = Sys.EpollCreate();
        SysResult wake = Sys.EventFd();
        if (epoll.IsError || wake.IsError)
        {
            throw new InvalidOperationException($"epoll_create1() or eventfd() failed {epoll} {wake}");
        }
        _epoll = epoll.Int;
        Streams = new ClosedStreams<EpollStream>(this);
        _eventFd = wake.Int;
        _events = (byte*)NativeMemory.Alloc((nuint)(BatchMax * Sys.EpollEventSize));
        for (int i = _freeSlots.Length - 1; i >= 0; i--)
        {
            _freeSlots[_freeCount++] = i;
        }
        Register(new WakeTarget { Fd = _eventFd }, Sys.EPOLLIN | Sys.EPOLLET);
    }

    public override string EngineName => "epoll";

    protected override long ReadMonotonicMs() => Sys.MonotonicMs();

    protected override long ReadUnixMs() => Sys.UnixMs();

    protected override void Wake() => Sys.EventFdSignal(_eventFd);

    protected override void WaitAndDispatch(int timeoutMs)
    {
        SysResult n = Sys.EpollWait(_epoll, _events, BatchMax, timeoutMs);
        Tick();
        if (n.IsError)
        {
            if (n.Errno != Errno.EINTR)
            {
                Alert?.Invoke("epoll_wait() failed", n.Errno);
            }
            return;
        }
        int size = Sys.EpollEventSize;
        int dataOffset = Sys.EpollDataOffset;
        byte* e = _events;
        bool accepted = IsInGate;
        if (accepted)
        {
            AcceptFirst(n.Int);
        }
        for (int i = 0; i < n.Int; i++, e += size)
        {
            uint events = Unsafe.ReadUnaligned<uint>(e);
            ulong cookie = Unsafe.ReadUnaligned<ulong>(e + dataOffset);
            int slot = (int)(uint)cookie;
            EpollTarget? target = _targets[slot];
            if (target is not null && _generations[slot] == (uint)(cookie >> 32)
                && !(accepted && target is EpollListener.AcceptTarget))
            {
                target.OnEvents(events);
            }
        }
        Streams.Recycle();
    }

    public override void CloseConnections()
    {
        for (int i = 0; i < _targets.Length; i++)
        {
            _targets[i]?.Connection?.Close(reset: true);
        }
    }

    /// <summary>With the gate held the listeners come first, so that another worker may enter before this one serves
    /// what it has.</summary>
    private void AcceptFirst(int count)
    {
        byte* e = _events;
        for (int i = 0; i < count; i++, e += Sys.EpollEventSize)
        {
            ulong cookie = Unsafe.ReadUnaligned<ulong>(e + Sys.EpollDataOffset);
            int slot = (int)(uint)cookie;
            if (_targets[slot] is EpollListener.AcceptTarget target && _generations[slot] == (uint)(cookie >> 32))
            {
                target.OnEvents(Unsafe.ReadUnaligned<uint>(e));
            }
        }
        LeaveGate();
    }

    public override void Dispose()
    {
        if (_disposed)
        {
            return;
        }
        _disposed = true;
        Sys.Close(_epoll);
        Sys.Close(_eventFd);
        NativeMemory.Free(_events);
        base.Dispose();
    }

    internal int Register(EpollTarget target, uint events)
    {
        if (_freeCount == 0)
        {
            int old = _targets.Length;
            Array.Resize(ref _targets, old * 2);
            Array.Resize(ref _generations, old * 2);
            Array.Resize(ref _freeSlots, old * 2);
            for (int i = old * 2 - 1; i >= old; i--)
            {
                _freeSlots[_freeCount++] = i;
            }
        }
        int slot = _freeSlots[--_freeCount];
        target.Slot = slot;
        _targets[slot] = target;
        ulong cookie = ((ulong)_generations[slot] << 32) | (uint)slot;
        SysResult r = Sys.EpollControl(_epoll, Sys.EPOLL_CTL_ADD, target.Fd, events, cookie);
        if (r.IsError)
        {
            Forget(target);
        }
        return r.Errno;
    }

    /// <summary>Changes what a target hears about.</summary>
    internal void Modify(EpollTarget target, uint events)
    {
        ulong cookie = ((ulong)_generations[target.Slot] << 32) | (uint)target.Slot;
        Sys.EpollControl(_epoll, Sys.EPOLL_CTL_MOD, target.Fd, events, cookie);
    }

    /// <summary>Frees the target's slot; later events of this batch for it are dropped.</summary>
    internal void Forget(EpollTarget target)
    {
        _targets[target.Slot] = null;
        _generations[target.Slot]++;
        _freeSlots[_freeCount++] = target.Slot;
        target.Slot = -1;
    }

    internal void Unregister(EpollTarget target)
    {
        if (target.Slot >= 0)
        {
            Sys.EpollControl(_epoll, Sys.EPOLL_CTL_DEL, target.Fd, 0, 0);
            Forget(target);
        }
    }

    internal ClosedStreams<EpollStream> Streams { get; }

    internal EpollStream RentStream() => Streams.TryTake() ?? new EpollStream(this);

    public override Listener Listen(int fd, bool shared, Action<Connection> accepted) =>
        new EpollListener(this, fd, shared, accepted);

    public override LoopTask<ConnectOutcome> ConnectAsync(ReadOnlySpan<byte> address, LocalEnd local, int timeoutMs,
        out Connection connection)
    {
        EpollStream stream = RentStream();
        connection = stream;
        return stream.Connect(address, local, timeoutMs);
    }

    public override DatagramSocket? OpenDatagram(ReadOnlySpan<byte> peer, DatagramReceived received, out int errno)
    {
        SysResult fd = Sys.Socket(peer[0] | (peer[1] << 8), Sys.SOCK_DGRAM);
        if (fd.IsError)
        {
            errno = fd.Errno;
            return null;
        }
        SysResult r;
        fixed (byte* p = peer)
        {
            r = Sys.Connect(fd.Int, p, peer.Length);
        }
        if (r.IsError)
        {
            Sys.Close(fd.Int);
            errno = r.Errno;
            return null;
        }
        var socket = new EpollDatagram(this, fd.Int, received);
        errno = 0;
        return socket;
    }

    public override IDisposable WatchReadable(int fd, Action readable)
    {
        var target = new WatchTarget(this, readable) { Fd = fd };
        // Level-triggered: the reader may leave something for the next turn.
        Register(target, Sys.EPOLLIN);
        return target;
    }

    private sealed class WakeTarget : EpollTarget
    {
        internal override void OnEvents(uint events) => Sys.EventFdDrain(Fd);
    }

    private sealed class WatchTarget(EpollLoop loop, Action readable) : EpollTarget, IDisposable
    {
        internal override void OnEvents(uint events) => readable();

        public void Dispose() => loop.Unregister(this);
    }

    private sealed class EpollDatagram : DatagramSocket
    {
        private readonly EpollLoop _loop;
        private readonly Target _target;

        internal EpollDatagram(EpollLoop loop, int fd, DatagramReceived received)
        {
            _loop = loop;
            _target = new Target(loop, received) { Fd = fd };
            loop.Register(_target, Sys.EPOLLIN | Sys.EPOLLET);
        }

        public override int Send(ReadOnlySpan<byte> bytes)
        {
            fixed (byte* p = bytes)
            {
                return Sys.Send(_target.Fd, p, bytes.Length, false).Errno;
            }
        }

        public override void Dispose()
        {
            if (_target.Fd >= 0)
            {
                _loop.Unregister(_target);
                Sys.Close(_target.Fd);
                _target.Fd = -1;
            }
        }

        private sealed class Target(EpollLoop loop, DatagramReceived received) : EpollTarget
        {
            internal override void OnEvents(uint events)
            {
                BufferSlab slab = loop.Buffers.Rent(65536);
                while (Fd >= 0)
                {
                    SysResult n = Sys.Receive(Fd, slab.Pointer, slab.Capacity);
                    if (n.IsError)
                    {
                        // ECONNREFUSED reports an earlier datagram; the next one may do better.
                        if (n.Errno == Errno.ECONNREFUSED)
                        {
                            continue;
                        }
                        break;
                    }
                    received(slab.Span[..n.Int]);
                }
                slab.Release();
            }
        }
    }
}
