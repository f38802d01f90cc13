// The io_uring engine: one submit-and-wait a turn. What the turn produced (receives to arm, sends, accepts, cancels,
// closes) lies in the submission ring until the turn's end; what the kernel finished meanwhile comes back as
// completions. A cookie carries kind, slot and generation. A target keeps its slot until its last completion: only
// then may another use it. One thread enters the ring: whichever runs the loop first.
using System.Runtime.InteropServices;
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>What a completion is about; part of its cookie.</summary>
internal enum UringKind : byte
{
    /// <summary>Nobody wants to know (a cancel that came too late, a close).</summary>
    None,
    Receive,

    /// <summary>Bytes are there for plain receives.</summary>
    Readable,
    Send,
    Writable,
    PeerState,
    Connect,
    Accept,
    Wake,
    Watch,
    Read,
}

/// <summary>Something that has operations under way.</summary>
internal abstract class UringTarget
{
    internal int Slot = -1;

    /// <summary>The connection it belongs to, if it does.</summary>
    internal virtual Connection? Connection => null;

    /// <summary>Operations whose last completion has not come.</summary>
    internal int UnderWay;

    internal abstract void OnCompletion(UringKind kind, in UringCompletion completion);

    /// <summary>The last operation has ended after <see cref="UringLoop.Retire"/>: the slot is free.</summary>
    internal virtual void OnRetired()
    {
    }
}

/// <summary>The io_uring engine.</summary>
public sealed unsafe class UringLoop : EventLoop
{
    internal const uint EntriesDefault = 512;
    internal const uint CompletionsDefault = 4096;
    private const int FirstBuffers = 16;
    private const int ScratchBytes = 16 * 1024;
    private const uint GenerationMask = 0xFFFFFF;

    private readonly IoUring _ring;
    private readonly int _eventFd;
    private readonly byte* _scratch;
    private int _scratchUsed;
    private UringTarget?[] _targets = new UringTarget?[256];
    private uint[] _generations = new uint[256];
    private bool[] _retired = new bool[256];
    private int[] _freeSlots = new int[256];
    private int _freeCount;
    private readonly LoopPool<UringRead> _freeReads;
    private int _ringThread;
    private bool _disposed;

    private UringLoop(IoUring ring, int eventFd)
    {
        Streams = new ClosedStreams<UringStream>(this);
        _freeReads = new LoopPool<UringRead>(this, "ring reads");
        _ring = ring;
        _eventFd = eventFd;
        _scratch = (byte*)NativeMemory.Alloc(ScratchBytes);
        ReceiveBuffers = new UringBuffers(Buffers, FirstBuffers);
        for (int i = _freeSlots.Length - 1; i >= 0; i--)
        {
            _freeSlots[_freeCount++] = i;
        }
    }

    /// <summary>Creates the engine, or null and why this kernel (or this process) has none.</summary>
    public static UringLoop? TryCreate(out string reason) =>
        TryCreate(EntriesDefault, CompletionsDefault, out reason);

    internal static UringLoop? TryCreate(uint entries, uint completions, out string reason)
    {
        IoUring? ring = IoUring.TryCreate(entries, completions, out reason);
        if (ring is null)
        {
            return null;
        }
        // Blocking on purpose: a read of a non-blocking descriptor completes with EAGAIN instead of waiting.
        SysResult wake = Sys.BlockingEventFd();
        if (wake.IsError)
        {
            ring.Dispose();
            reason = $"eventfd() failed {wake}";
            return null;
        }
        var loop = new UringLoop(ring, wake.Int);
        SysResult registered = loop.ReceiveBuffers.Register(ring);
        if (registered.IsError)
        {
            reason = registered.Errno == Errno.ENOMEM
                ? "there is not enough memory to register a ring of buffers (RLIMIT_MEMLOCK)"
                : $"registering a ring of buffers failed {registered}";
            loop.Dispose();
            return null;
        }
        var waker = new WakeTarget(loop);
        loop.Register(waker);
        waker.Arm();
        return loop;
    }

    /// <summary>Why this kernel or this process has no io_uring for us; null when it has.</summary>
    public static string? WhyUnavailable()
    {
        using UringLoop? loop = TryCreate(8, 64, out string reason);
        return loop is null ? reason : null;
    }

    internal UringBuffers ReceiveBuffers { get; }

    /// <summary>Completions for something that had ended: none, unless a slot was given away too early.</summary>
    internal long LateCount { get; private set; }

    /// <summary>Multishot receives that ended although there was more to come.</summary>
    internal long SilentEndCount { get; set; }

    /// <summary>Slots that are taken, by what is open and by what has not ended yet.</summary>
    internal int SlotCount => _freeSlots.Length - _freeCount;

    /// <summary>Times that the submission ring was full and was handed over in the middle of a turn.</summary>
    internal long FullCount { get; private set; }

    /// <summary>Sends and closings that were accepted from the caller and have not ended.</summary>
    internal int OwedCount { get; set; }

    public override string EngineName => "io_uring";

    protected override long ReadMonotonicMs() => Sys.MonotonicMs();

    protected override long ReadUnixMs() => Sys.UnixMs();

    protected override void Wake() => Sys.EventFdSignal(_eventFd);

    protected override void WaitAndDispatch(int timeoutMs)
    {
        EnsureEnabled();
        ReceiveBuffers.RegisterIfMissing(_ring);
        ReceiveBuffers.Publish(NowMs);
        uint wanted = timeoutMs == 0 || _ring.Ready > 0 ? 0u : 1u;
        SysResult r = _ring.SubmitAndWait(wanted, timeoutMs);
        Tick();
        if (_ring.Pending == 0)
        {
            _scratchUsed = 0;
        }
        if (r.IsError && r.Errno is not (Errno.EINTR or Errno.ETIME or Errno.EAGAIN or Errno.EBUSY))
        {
            Alert?.Invoke("io_uring_enter() failed", r.Errno);
            return;
        }
        Dispatch();
        Streams.Recycle();
    }

    private void EnsureEnabled()
    {
        if (_ring.IsEnabled)
        {
            return;
        }
        _ringThread = Environment.CurrentManagedThreadId;
        SysResult r = _ring.Enable();
        if (r.IsError)
        {
            throw new InvalidOperationException($"the ring could not be enabled {r}");
        }
    }

    private void Dispatch()
    {
        // What completes while this batch is dispatched belongs to the next turn.
        for (uint left = _ring.Ready; left > 0; left--)
        {
            UringCompletion completion = _ring.Take();
            ulong cookie = completion.Cookie;
            int slot = (int)(uint)cookie;
            UringTarget? target = cookie == 0 ? null : _targets[slot];
            if (target is null || (_generations[slot] & GenerationMask) != (uint)(cookie >> 32 & GenerationMask))
            {
                Discard(in completion);
                continue;
            }
            if (!completion.HasMore)
            {
                target.UnderWay--;
            }
            target.OnCompletion((UringKind)(cookie >> 56), in completion);
            if (target.UnderWay == 0 && target.Slot == slot && _retired[slot])
            {
                Forget(target);
            }
        }
    }

    private void Discard(in UringCompletion completion)
    {
        LateCount += completion.Cookie == 0 ? 0 : 1;
        if (completion.HasBuffer)
        {
            ReceiveBuffers.Take(completion.BufferId, 0).Release();
        }
    }

    protected override void OnTrim() => ReceiveBuffers.Renew(_ring);

    // Slots.

    internal void Register(UringTarget target)
    {
        if (_freeCount == 0)
        {
            int old = _targets.Length;
            Array.Resize(ref _targets, old * 2);
            Array.Resize(ref _generations, old * 2);
            Array.Resize(ref _retired, old * 2);
            Array.Resize(ref _freeSlots, old * 2);
            for (int i = old * 2 - 1; i >= old; i--)
            {
                _freeSlots[_freeCount++] = i;
            }
        }
        int slot = _freeSlots[--_freeCount];
        target.Slot = slot;
        target.UnderWay = 0;
        _targets[slot] = target;
        _retired[slot] = false;
    }

    /// <summary>The target begins nothing more: its slot is free after the last completion, which may be now.</summary>
    internal void Retire(UringTarget target)
    {
        _retired[target.Slot] = true;
        if (target.UnderWay == 0)
        {
            Forget(target);
        }
    }

    private void Forget(UringTarget target)
    {
        int slot = target.Slot;
        _targets[slot] = null;
        _generations[slot]++;
        _freeSlots[_freeCount++] = slot;
        target.Slot = -1;
        target.OnRetired();
    }

    internal ulong CookieOf(UringTarget target, UringKind kind) =>
        (ulong)kind << 56 | (ulong)(_generations[target.Slot] & GenerationMask) << 32 | (uint)target.Slot;

    // Submitting.

    /// <summary>An entry for an operation of a target, which counts as under way from now on.</summary>
    internal UringEntry* Begin(UringTarget target, UringKind kind, byte operation, int fd)
    {
        UringEntry* entry = Next();
        entry->Operation = operation;
        entry->Fd = fd;
        entry->Cookie = CookieOf(target, kind);
        target.UnderWay++;
        return entry;
    }

    /// <summary>Waits once for one of <paramref name="events"/> on a descriptor.</summary>
    internal UringEntry* BeginPoll(UringTarget target, UringKind kind, int fd, uint events)
    {
        UringEntry* entry = Begin(target, kind, UringOperation.PollAdd, fd);
        entry->OperationFlags = events;
        return entry;
    }

    /// <summary>Ends an operation early; its last completion still comes.</summary>
    internal void Cancel(UringTarget target, UringKind kind)
    {
        UringEntry* entry = Next();
        entry->Operation = UringOperation.AsyncCancel;
        entry->Fd = -1;
        entry->Address = CookieOf(target, kind);
        entry->Flags = UringOperation.SkipSuccess;
    }

    /// <summary>Closes a descriptor after everything that was begun on it before.</summary>
    internal void CloseLater(int fd)
    {
        UringEntry* entry = Next();
        entry->Operation = UringOperation.Close;
        entry->Fd = fd;
        entry->Flags = UringOperation.SkipSuccess;
    }

    private UringEntry* Next()
    {
        MakeRoomInRing();
        return _ring.Next();
    }

    private void MakeRoomInRing()
    {
        if (_ring.IsFull)
        {
            FullCount++;
            Submit();
        }
    }

    public override void SubmitNow() => Submit();

    /// <summary>Hands over what is pending without waiting.</summary>
    internal void Submit()
    {
        EnsureEnabled();
        for (int tries = 0; _ring.Pending > 0; tries++)
        {
            SysResult r = _ring.Submit();
            if (r.IsError && tries >= 1000)
            {
                // Memory for requests is short: what completed makes room, and the kernel needs a moment.
                throw new InvalidOperationException($"the kernel takes no submissions {r}");
            }
            if (r.IsError)
            {
                _ring.SubmitAndWait(0, 0);
            }
        }
        _scratchUsed = 0;
    }

    /// <summary>Submits and lets everything that was cancelled come to its end, so that nothing but our descriptors
    /// holds the files.</summary>
    internal void SubmitAndRun()
    {
        Submit();
        _ring.SubmitAndWait(0, 0);
    }

    /// <summary>A copy of bytes that an entry points to; good until the entry is submitted.</summary>
    internal byte* Scratch(ReadOnlySpan<byte> bytes)
    {
        if (_scratchUsed + bytes.Length > ScratchBytes)
        {
            Submit();
        }
        byte* at = _scratch + _scratchUsed;
        bytes.CopyTo(new Span<byte>(at, bytes.Length));
        _scratchUsed += (bytes.Length + 7) & ~7;
        return at;
    }

    /// <summary>The number of the entry that <see cref="Begin"/> fills next; see <see cref="Withdraw"/>.</summary>
    internal uint NextNumber()
    {
        MakeRoomInRing();
        return _ring.NextNumber;
    }

    /// <summary>Takes an entry back that the kernel has not seen: no completion comes of it. False when it is too
    /// late.</summary>
    internal bool Withdraw(UringTarget target, uint number)
    {
        UringEntry* entry = _ring.Unsubmitted(number);
        if (entry == null)
        {
            return false;
        }
        *entry = default;
        entry->Operation = UringOperation.Nop;
        entry->Flags = UringOperation.SkipSuccess;
        target.UnderWay--;
        return true;
    }

    // Streams.

    internal ClosedStreams<UringStream> Streams { get; }

    internal UringStream RentStream() => Streams.TryTake() ?? new UringStream(this);

    public override void CloseConnections()
    {
        for (int i = 0; i < _targets.Length; i++)
        {
            _targets[i]?.Connection?.Close(reset: true);
        }
    }

    public override Listener Listen(int fd, bool shared, Action<Connection> accepted) =>
        new UringListener(this, fd, shared, accepted);

    public override LoopTask<ConnectOutcome> ConnectAsync(ReadOnlySpan<byte> address, LocalEnd local, int timeoutMs,
        out Connection connection)
    {
        UringStream stream = RentStream();
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
        errno = 0;
        return new UringDatagram(this, fd.Int, received);
    }

    public override IDisposable WatchReadable(int fd, Action readable) => new UringWatch(this, fd, readable);

    /// <summary>Reads of files need no thread: the kernel waits for the disk.</summary>
    public override LoopTask<SysResult> ReadFileAsync(int fd, NativeSlice into, long offset)
    {
        UringRead read = _freeReads.TryTake() ?? new UringRead(this);
        return read.Start(fd, into, offset);
    }

    public override LoopTask<SysResult> WarmFileAsync(int fd, NativeSlice scratch, long offset, long length) =>
        FileReads.WarmAsync(this, fd, scratch, offset, length);

    internal void ReturnRead(UringRead read) => _freeReads.Return(read);

    // The end.

    /// <summary>After the last turn: what callers gave away as sent and closed really leaves, within a
    /// second.</summary>
    protected override void Settle()
    {
        long until = ReadMonotonicMs() + 1000;
        RunTurn(0);
        while (OwedCount > 0 && ReadMonotonicMs() < until)
        {
            RunTurn(10);
        }
    }

    public override void Dispose()
    {
        if (_disposed)
        {
            return;
        }
        _disposed = true;
        if (_ring.IsEnabled && _ringThread == Environment.CurrentManagedThreadId)
        {
            CancelAll();
        }
        _ring.Dispose();
        Sys.Close(_eventFd);
        ReceiveBuffers.Free();
        NativeMemory.Free(_scratch);
        base.Dispose();
    }

    /// <summary>The kernel lets go of every buffer before their memory goes.</summary>
    private void CancelAll()
    {
        UringEntry* entry = Next();
        entry->Operation = UringOperation.AsyncCancel;
        entry->Fd = -1;
        // ALL | ANY
        entry->OperationFlags = 1 | 4;
        for (int turn = 0; turn < 4; turn++)
        {
            _ring.SubmitAndWait(0, 0);
            while (_ring.Ready > 0)
            {
                _ring.Take();
            }
        }
    }

    private sealed class WakeTarget(UringLoop loop) : UringTarget
    {
        private readonly ulong* _value = (ulong*)NativeMemory.Alloc(8);

        internal void Arm()
        {
            UringEntry* entry = loop.Begin(this, UringKind.Wake, UringOperation.Read, loop._eventFd);
            entry->Address = (ulong)_value;
            entry->Length = 8;
        }

        internal override void OnCompletion(UringKind kind, in UringCompletion completion) => Arm();
    }
}
