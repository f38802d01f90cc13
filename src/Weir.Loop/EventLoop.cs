// One loop: one thread, one engine, everything that happens on it. A turn: wait once, read the clock once, dispatch
// what completed, fire due timers, drain the mailbox, drain the ready list; each drain is bounded.
// Loop state is touched only by its thread; others knock at the mailbox.
using System.Collections.Concurrent;
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>A place for one value per loop; created once, at start-up, per use.</summary>
public sealed class LoopSlot<T> where T : class
{
    public int Index { get; } = LoopSlots.Next();
}

/// <summary>One count for the slots of all types.</summary>
internal static class LoopSlots
{
    private static int s_next;

    internal static int Next() => Interlocked.Increment(ref s_next) - 1;
}

/// <summary>An event loop. Engines derive from it and supply the operations.</summary>
public abstract partial class EventLoop : IDisposable
{
    [ThreadStatic]
    private static EventLoop? t_current;

    private const int MailboxBatchMax = 256;

    private readonly ConcurrentQueue<Action> _mailbox = new();
    private int _isAsleep;
    private int _knocked;
    private object?[] _slots = new object?[16];
    private readonly Queue<Action> _ready = new();
    private readonly LoopPool<BufferChain> _chains;
    private Thread? _thread;
    private volatile bool _stop;
    private Connection? _idleFirst;
    private Connection? _idleLast;

    protected EventLoop()
    {
        NowMs = ReadMonotonicMs();
        UnixMs = ReadUnixMs();
        Timers = new TimerWheel(NowMs);
        Blocking = new BlockingWork(this);
        _files = new FileReads(this);
        _chains = new LoopPool<BufferChain>(this, "chains");
        _yields = new LoopPool<YieldWait>(this, "yields");
        _delays = new LoopPool<DelayWait>(this, "delays");
        _receives = new LoopPool<LoopOperation<RecvLease>>(this, "receives", SpareOperationsMax);
        _drains = new LoopPool<LoopOperation<IoResult>>(this, "drains", SpareOperationsMax);
        _ = new SparePool.OfThread(this);
    }

    /// <summary>The loop whose thread this is, or null.</summary>
    public static EventLoop? Current => t_current;

    /// <summary>Monotonic milliseconds, read once a turn.</summary>
    public long NowMs { get; private set; }

    /// <summary>Milliseconds since 1970 UTC, read once a turn.</summary>
    public long UnixMs { get; private set; }

    public TimerWheel Timers { get; }
    public BufferPool Buffers { get; } = new();
    public BlockingWork Blocking { get; }

    /// <summary>The engine's name as in nginx's <c>use</c>.</summary>
    public abstract string EngineName { get; }

    /// <summary>Connections open on this loop now, accepted and own.</summary>
    public int ConnectionCount { get; protected internal set; }

    /// <summary>How many there may be (nginx's worker_connections).</summary>
    public int ConnectionsMax { get; set; } = 512;

    /// <summary>Clients that were closed as soon as they were accepted, because there was no room.</summary>
    public long RefusedCount { get; protected internal set; }

    /// <summary>Closes every connection that is open: the loop is about to be disposed of.</summary>
    public virtual void CloseConnections()
    {
    }

    /// <summary>A new connection's number: unique on this loop.</summary>
    public long NextConnectionNumber() => ++_lastConnectionNumber;

    private long _lastConnectionNumber;

    /// <summary>The longest turn (dispatch to end) since start, microseconds.</summary>
    public long LongestTurnUs { get; private set; }

    /// <summary>Called with an exception that no one awaited: a broken invariant. The default ends the
    /// process.</summary>
    public Action<Exception>? Fault { get; set; }

    /// <summary>Called at the end of every turn: work that batches what the turn produced (log buffers).</summary>
    public Action? TurnEnded { get; set; }

    /// <summary>Warned when a turn took longer than this; 0 for never.</summary>
    public int SlowTurnMs { get; set; } = 50;

    public Action<long>? SlowTurn { get; set; }

    /// <summary>The engine failed: which call, and the error number. What runs out is told to
    /// <see cref="Report"/>.</summary>
    public Action<string, int>? Alert { get; set; }

    // Operations of the engine.

    /// <summary>Starts accepting on a listening descriptor; the loop owns it from now on.
    /// <paramref name="shared"/>: other processes accept from it too.</summary>
    public abstract Listener Listen(int fd, bool shared, Action<Connection> accepted);

    /// <summary>Opens a stream to a native sockaddr. The connection comes back at once and is usable when the task
    /// says so; on an error it is already closed.</summary>
    public abstract LoopTask<ConnectOutcome> ConnectAsync(ReadOnlySpan<byte> address, LocalEnd local, int timeoutMs,
        out Connection connection);

    /// <summary>Opens a datagram socket towards one peer; <paramref name="received"/> is called for every
    /// datagram.</summary>
    public abstract DatagramSocket? OpenDatagram(ReadOnlySpan<byte> peer, DatagramReceived received, out int errno);

    /// <summary>Watches a descriptor that is not a stream (signalfd, the master's channel) for readability.</summary>
    public abstract IDisposable WatchReadable(int fd, Action readable);

    /// <summary>Opens a listening socket; its number is what <see cref="Listen"/> takes. -1 when it was
    /// refused.</summary>
    public virtual int OpenListening(ListenSpec spec, bool reusePort, out ListenFailure failure) =>
        ListenSocket.Open(spec, reusePort, out failure);

    /// <summary>Random bytes, as unforeseeable as the engine's are.</summary>
    public virtual void FillRandom(Span<byte> into) => Sys.Random(into);

    /// <summary>Whether the engine runs a piece of blocking work itself and delivers its result when it sees
    /// fit.</summary>
    internal virtual bool TakesWork(BlockingOperation operation) => false;

    /// <summary>Lets an engine choose the order of ready work.</summary>
    protected virtual void Arrange(Queue<Action> ready)
    {
    }

    /// <summary>Gives to the kernel what would go at the turn's end: somebody may hold the thread.</summary>
    public virtual void SubmitNow()
    {
    }

    /// <summary>Reads a piece of a file, which may wait for a disk; the loop does not. Fewer bytes than there is room
    /// for come at the file's end, or where the kernel likes it.</summary>
    public virtual LoopTask<SysResult> ReadFileAsync(int fd, NativeSlice into, long offset) =>
        _files.RunAsync(fd, into, offset, into.Length, all: false);

    /// <summary>Reads through a range, so that it is in the page cache afterwards. The value is the bytes that there
    /// are; what <paramref name="scratch"/> holds then means nothing.</summary>
    public virtual LoopTask<SysResult> WarmFileAsync(int fd, NativeSlice scratch, long offset, long length) =>
        _files.RunAsync(fd, scratch, offset, length, all: true);

    private readonly FileReads _files;

    protected abstract long ReadMonotonicMs();
    protected abstract long ReadUnixMs();

    /// <summary>Waits for events at most <paramref name="timeoutMs"/> (-1: for ever) and dispatches them after
    /// calling <see cref="Tick"/>.</summary>
    protected abstract void WaitAndDispatch(int timeoutMs);

    /// <summary>Ends a wait from another thread.</summary>
    protected abstract void Wake();

    protected void Tick()
    {
        // From here on messages are found without a knock, at the end of the turn.
        Volatile.Write(ref _isAsleep, 0);
        Volatile.Write(ref _knocked, 0);
        NowMs = ReadMonotonicMs();
        UnixMs = ReadUnixMs();
    }

    /// <summary>Runs <paramref name="action"/> on the loop's thread, from any thread.</summary>
    public void Post(Action action)
    {
        PostQuietly(action);
        Knock();
    }

    /// <summary>Wakes the loop if it sleeps: there is a message, or what came is not understood yet.</summary>
    public void Knock()
    {
        if (Volatile.Read(ref _isAsleep) != 0 && Interlocked.Exchange(ref _knocked, 1) == 0)
        {
            Wake();
        }
    }

    /// <summary>As <see cref="Post"/>, but a loop that sleeps is not woken: the message is read with whatever comes
    /// next, and who posts it knows that something will.</summary>
    public void PostQuietly(Action action)
    {
        _mailbox.Enqueue(action);
        // The queue before any flag that is read after it, as the loop sets its flags before it looks into the queue.
        Interlocked.MemoryBarrier();
    }

    /// <summary>Runs <paramref name="action"/> later in this turn or in the next: for yielding.</summary>
    public void Ready(Action action) => _ready.Enqueue(action);

    /// <summary>Lets other work run and continues in the next turn.</summary>
    public LoopTask<Unit> YieldAsync()
    {
        YieldWait wait = _yields.TryTake() ?? new YieldWait(this);
        _yieldReady.Enqueue(wait);
        return wait.Begin();
    }

    private readonly LoopPool<YieldWait> _yields;
    private readonly Queue<YieldWait> _yieldReady = new();

    private sealed class YieldWait(EventLoop loop) : LoopOperation<Unit>
    {
        internal override Unit TakeResult()
        {
            base.TakeResult();
            loop._yields.Return(this);
            return default;
        }
    }

    /// <summary>Continues after <paramref name="ms"/> milliseconds.</summary>
    public LoopTask<Unit> DelayAsync(int ms)
    {
        DelayWait wait = _delays.TryTake() ?? new DelayWait(this);
        Timers.Set(wait.Timer, NowMs + Math.Max(ms, 1));
        return wait.Begin();
    }

    private readonly LoopPool<DelayWait> _delays;

    private sealed class DelayWait : LoopOperation<Unit>
    {
        internal readonly CallbackTimer Timer;
        private readonly EventLoop _loop;

        internal DelayWait(EventLoop loop)
        {
            _loop = loop;
            Timer = new CallbackTimer(() => SetResult(default));
        }

        internal override Unit TakeResult()
        {
            base.TakeResult();
            _loop._delays.Return(this);
            return default;
        }
    }

    private const int SpareOperationsMax = 1024;
    private readonly LoopPool<LoopOperation<RecvLease>> _receives;
    private readonly LoopPool<LoopOperation<IoResult>> _drains;

    internal LoopOperation<RecvLease> RentReceive() => _receives.TryTake() ?? new LoopOperation<RecvLease>();

    internal LoopOperation<IoResult> RentDrain() => _drains.TryTake() ?? new LoopOperation<IoResult>();

    internal void Return(LoopOperation<RecvLease> spare) => _receives.Return(spare);

    internal void Return(LoopOperation<IoResult> spare) => _drains.Return(spare);

    public BufferChain RentChain() => _chains.TryTake() ?? new BufferChain(Buffers);

    public void Return(BufferChain chain)
    {
        chain.Clear();
        chain.TailSize = BufferChain.DefaultTailSize;
        _chains.Return(chain);
        if (Buffers.FreeBytes > BuffersKept)
        {
            TrimLater();
        }
    }

    public T Slot<T>(LoopSlot<T> slot, Func<EventLoop, T> create) where T : class
    {
        if (slot.Index >= _slots.Length)
        {
            Array.Resize(ref _slots, Math.Max(slot.Index + 1, _slots.Length * 2));
        }
        return (T)(_slots[slot.Index] ??= create(this));
    }

    // Idle connections, longest idle first: the first to go when connections run out.

    /// <summary>Says that a connection waits for its next request; <paramref name="reclaim"/> closes it when slots
    /// run out.</summary>
    /// <param name="fresh">It has not sent anything yet: for its first second it is left alone.</param>
    public void EnterIdle(Connection connection, Action<Connection> reclaim, bool fresh = false)
    {
        if (connection.IsIdle)
        {
            return;
        }
        connection.IsIdle = true;
        connection.IsFresh = fresh;
        connection.OnReclaim = reclaim;
        connection.IdleNext = null;
        connection.IdlePrevious = _idleLast;
        if (_idleLast is null)
        {
            _idleFirst = connection;
        }
        else
        {
            _idleLast.IdleNext = connection;
        }
        _idleLast = connection;
        IdleCount++;
    }

    public void LeaveIdle(Connection connection)
    {
        if (!connection.IsIdle)
        {
            return;
        }
        connection.IsIdle = false;
        if (connection.IdlePrevious is null)
        {
            _idleFirst = connection.IdleNext;
        }
        else
        {
            connection.IdlePrevious.IdleNext = connection.IdleNext;
        }
        if (connection.IdleNext is null)
        {
            _idleLast = connection.IdlePrevious;
        }
        else
        {
            connection.IdleNext.IdlePrevious = connection.IdlePrevious;
        }
        connection.IdleNext = null;
        connection.IdlePrevious = null;
        IdleCount--;
    }

    public int IdleCount { get; private set; }

    /// <summary>Closes up to <paramref name="count"/> of the longest-idle connections. Returns how many.</summary>
    public int ReclaimIdle(int count)
    {
        int done = 0;
        while (done < count && OldestToReclaim() is { } oldest)
        {
            Action<Connection> reclaim = oldest.OnReclaim!;
            LeaveIdle(oldest);
            reclaim(oldest);
            done++;
        }
        return done;
    }

    /// <summary>Closes all idle connections, each in its owner's way.</summary>
    public void CloseIdle()
    {
        while (_idleFirst is { } idle)
        {
            LeaveIdle(idle);
            idle.OnReclaim!(idle);
        }
    }

    /// <summary>The longest-idle connection; not one that came a moment ago and had no time to say anything.</summary>
    private Connection? OldestToReclaim()
    {
        Connection? c = _idleFirst;
        for (int looked = 0; c is not null && looked < FreshLookedAtMax; looked++, c = c.IdleNext)
        {
            if (!c.IsFresh || NowMs - c.StartMs >= FreshMs)
            {
                return c;
            }
        }
        return null;
    }

    private const int FreshMs = 1000, FreshLookedAtMax = 256;

    /// <summary>Calls <paramref name="action"/> for each idle connection; it may close them.</summary>
    public void ForEachIdle(Action<Connection> action)
    {
        Connection? next;
        for (Connection? c = _idleFirst; c is not null; c = next)
        {
            next = c.IdleNext;
            action(c);
        }
    }

    // Running.

    /// <summary>Makes the calling thread this loop's thread, for building what lives on it before it runs.</summary>
    public void Adopt()
    {
        t_current = this;
        _thread = Thread.CurrentThread;
    }

    /// <summary>Whether the calling thread is the loop's.</summary>
    public bool IsOnThread => t_current == this;

    /// <summary>Runs turns until <see cref="Stop"/>.</summary>
    public void Run()
    {
        Adopt();
        while (!_stop)
        {
            RunTurn(int.MaxValue);
        }
        Settle();
    }

    /// <summary>After the last turn: an engine lets out what callers count as sent.</summary>
    protected virtual void Settle()
    {
    }

    public void Stop() => _stop = true;

    public bool IsStopping => _stop;

    /// <summary>Whether the next turn has something to do that no event brings.</summary>
    protected bool HasReadyWork => _ready.Count > 0 || _yieldReady.Count > 0 || !_mailbox.IsEmpty;

    /// <summary>Gives back what the engine holds of the system. The loop has stopped, its connections are
    /// closed.</summary>
    public virtual void Dispose()
    {
        if (t_current == this)
        {
            t_current = null;
        }
        Buffers.Trim();
        foreach (object? held in _slots)
        {
            (held as IDisposable)?.Dispose();
        }
        Spare.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>One turn, waiting at most <paramref name="maxWaitMs"/>.</summary>
    public void RunTurn(int maxWaitMs)
    {
        int timeout;
        if (HasReadyWork)
        {
            timeout = 0;
        }
        else
        {
            timeout = Timers.NextDelayMs(NowMs);
            if (maxWaitMs != int.MaxValue)
            {
                timeout = timeout < 0 ? maxWaitMs : Math.Min(timeout, maxWaitMs);
            }
            Interlocked.Exchange(ref _isAsleep, 1);
            if (!_mailbox.IsEmpty)
            {
                timeout = 0;
            }
        }
        TurnCount++;
        try
        {
            if (AcceptGate is not null)
            {
                timeout = EnterGate(timeout);
            }
            WaitAndDispatch(timeout);
            LeaveGate();
            Timers.Advance(NowMs);
            DrainMailbox();
            DrainReady();
            if (_roomRanOut)
            {
                ResumeIfRoom();
            }
            TurnEnded?.Invoke();
        }
        catch (Exception e)
        {
            ReportFault(e);
        }
        if (SlowTurnMs > 0)
        {
            long tookMs = ReadMonotonicMs() - NowMs;
            if (tookMs * 1000 > LongestTurnUs)
            {
                LongestTurnUs = tookMs * 1000;
            }
            if (tookMs >= SlowTurnMs)
            {
                SlowTurn?.Invoke(tookMs);
            }
        }
    }

    private void DrainMailbox()
    {
        for (int left = MailboxBatchMax; left > 0 && _mailbox.TryDequeue(out Action? action); left--)
        {
            action();
        }
    }

    private void DrainReady()
    {
        if (_ready.Count > 1)
        {
            Arrange(_ready);
        }
        for (int n = Math.Min(_ready.Count, 1024); n > 0; n--)
        {
            _ready.Dequeue()();
        }
        for (int n = Math.Min(_yieldReady.Count, 1024); n > 0; n--)
        {
            _yieldReady.Dequeue().SetResult(default);
        }
    }

    /// <summary>Reports an exception that nobody awaits.</summary>
    public static void ReportFault(Exception e)
    {
        if (t_current?.Fault is { } handler)
        {
            handler(e);
            return;
        }
        Environment.FailFast("an unhandled exception on a loop", e);
    }
}

/// <summary>How opening a stream ended.</summary>
public readonly struct ConnectOutcome(int error)
{
    /// <summary>0, or the error number (ETIMEDOUT when the deadline passed).</summary>
    public readonly int Error = error;
    public bool IsError => Error != 0;
}

public delegate void DatagramReceived(ReadOnlySpan<byte> bytes);

/// <summary>A datagram socket towards one peer.</summary>
public abstract class DatagramSocket : IDisposable
{
    /// <summary>Sends one datagram; a full queue drops it, as a network would. Returns the error number or 0.</summary>
    public abstract int Send(ReadOnlySpan<byte> bytes);

    public abstract void Dispose();
}
