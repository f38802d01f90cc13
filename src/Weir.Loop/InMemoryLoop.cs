// The engine without an operating system: connections are pipes in memory, the clock is a number, and everything that
// happens is one queue served in order, so that a test plays out the same way every time. Time moves only when told
// (AdvanceClock) or, where a test asks for it, to the next timer when there is nothing else to do.
// With a SimulationPlan it is a network with weather and faults, and the seed says which: docs/simulation.md.
// One thread, as every engine; only Post may come from elsewhere. For tests: it allocates as it likes.
using Weir.Kernel;

namespace Weir.Loop;

/// <summary>Something that the loop's queue can call: one turn, one delivery.</summary>
internal interface IInMemoryTarget
{
    void Deliver();

    /// <summary>What is queued for an earlier life of the object is dropped.</summary>
    uint Generation => 0;
}

/// <summary>Answers datagrams; call <paramref name="reply"/> any number of times, now or later.</summary>
public delegate void InMemoryResponder(byte[] datagram, Action<byte[]> reply);

/// <summary>The in-memory engine.</summary>
public sealed class InMemoryLoop : EventLoop
{
    private const int TurnsMax = 1_000_000;

    private readonly SimulationPlan? _plan;
    private readonly List<InMemoryEvent> _events = [];
    private readonly PriorityQueue<InMemoryEvent, (long DueMs, long Order)> _later = new();
    private readonly List<Action> _arranged = [];
    private long _lastOrder;
    private InMemoryStream? _freeStreams;
    private readonly List<InMemoryStream> _closedStreams = [];
    private readonly Dictionary<string, InMemoryListener> _listeners = [];
    private readonly Dictionary<string, InMemoryResponder> _responders = [];
    private readonly Dictionary<int, string> _bound = [];
    private readonly Dictionary<int, Watch> _watches = [];
    private readonly SemaphoreSlim _wake = new(0);
    private int _lastHandle = 1_000_000;
    private int _lastPeerPort = 40_000;

    // Set before the base constructor reads the clock for the first time; a due time of 0 means "not set".
    private long _clockMs = 1_000_000;

    public InMemoryLoop(SimulationPlan? plan = null)
    {
        _plan = plan;
        SlowTurnMs = 0;
        Blocking.ThreadsMax = 0;
    }

    /// <summary>The plan this loop plays; null for calm weather.</summary>
    public SimulationPlan? Plan => _plan;

    /// <summary>The draw of the plan, or null.</summary>
    internal SeededRandom? Random => _plan?.Random;

    /// <summary>What the wall clock shows when the loop is made: 2026-01-01T00:00:00Z.</summary>
    public const long FirstUnixMs = 1_767_225_600_000;

    /// <summary>Bytes that may wait in one direction of a new connection before its writer blocks.</summary>
    public int WindowBytes { get; set; } = int.MaxValue;

    /// <summary>A direction of a new connection, with the fate that the plan gives it.</summary>
    /// <param name="cuts">How many of a thousand are cut.</param>
    /// <param name="toServer">Whether the loop's end reads it: only that direction may end early.</param>
    internal InMemoryPipe NewPipe(int cuts, bool toServer)
    {
        var pipe = new InMemoryPipe { WindowBytes = WindowBytes };
        if (_plan is { } plan && plan.Random.Chance(cuts))
        {
            pipe.Plan = plan;
            pipe.Cut = toServer ? (Cut)(1 + plan.Random.Below(3)) : plan.Random.Chance(500) ? Cut.Reset : Cut.Stall;
            pipe.CutAfter = plan.Random.Size(plan.CutBytesMax) - 1;
        }
        return pipe;
    }

    public override string EngineName => "memory";

    public override int OpenListening(ListenSpec spec, bool reusePort, out ListenFailure failure)
    {
        failure = default;
        if (_listeners.ContainsKey(Key(spec.Address.Native)))
        {
            failure = new ListenFailure("bind()", Errno.EADDRINUSE);
            return -1;
        }
        return Bind(spec.Address.Native);
    }

    public override void FillRandom(Span<byte> into)
    {
        if (_plan is { } plan)
        {
            plan.ServerRandom.Fill(into);
            return;
        }
        base.FillRandom(into);
    }

    internal override bool TakesWork(BlockingOperation operation)
    {
        if (_plan is not { } plan || !plan.Random.Chance(plan.SlowWork))
        {
            return false;
        }
        Enqueue(new Call(() =>
        {
            operation.RunWork();
            operation.SetResult(default);
        }));
        return true;
    }

    protected override void Arrange(Queue<Action> ready)
    {
        if (_plan is not { Reorders: true } plan)
        {
            return;
        }
        _arranged.AddRange(ready);
        ready.Clear();
        while (_arranged.Count > 0)
        {
            int at = plan.Random.Below(_arranged.Count);
            ready.Enqueue(_arranged[at]);
            _arranged[at] = _arranged[^1];
            _arranged.RemoveAt(_arranged.Count - 1);
        }
    }

    /// <summary>An object for a new connection, one that has served before where the plan says so.</summary>
    internal InMemoryStream RentStream()
    {
        InMemoryStream stream = _freeStreams ?? new InMemoryStream(this);
        _freeStreams = stream.NextFree;
        stream.NextFree = null;
        return stream;
    }

    internal void ReturnStream(InMemoryStream stream)
    {
        if (_plan is { Recycles: true })
        {
            _closedStreams.Add(stream);
        }
    }

    private void RecycleClosed()
    {
        for (int i = _closedStreams.Count - 1; i >= 0; i--)
        {
            // A result that nobody has taken yet may take a turn more.
            if (_closedStreams[i].IsQuiet)
            {
                _closedStreams[i].NextFree = _freeStreams;
                _freeStreams = _closedStreams[i];
                _closedStreams.RemoveAt(i);
            }
        }
    }

    protected override long ReadMonotonicMs() => _clockMs;

    protected override long ReadUnixMs()
    {
        if (_plan is { ClockSteps: > 0 } plan && plan.ClockRandom.Chance(plan.ClockSteps))
        {
            WallStepMs = plan.ClockRandom.Below(2 * WallStepMsMax) - WallStepMsMax;
        }
        return FirstUnixMs + _clockMs - 1_000_000 + WallStepMs;
    }

    /// <summary>An hour either way.</summary>
    private const int WallStepMsMax = 3_600_000;

    /// <summary>How far somebody has set the wall clock; the clock that timers run by does not notice.</summary>
    public long WallStepMs { get; set; }

    protected override void Wake() => _wake.Release();

    // Listening: an address gets a number that stands for the descriptor a real worker inherits.

    /// <summary>Makes an address connectable; what connects waits until
    /// <see cref="Listen(int, bool, Action{Connection})"/>
    /// is called with the number returned.</summary>
    public int Bind(ReadOnlySpan<byte> address)
    {
        string key = Key(address);
        if (_listeners.ContainsKey(key))
        {
            throw new InvalidOperationException("the address is taken");
        }
        _bound[++_lastHandle] = key;
        _listeners[key] = new InMemoryListener(this, key, address.ToArray());
        return _lastHandle;
    }

    public override Listener Listen(int fd, bool exclusive, Action<Connection> accepted)
    {
        if (!_bound.TryGetValue(fd, out string? key) || !_listeners.TryGetValue(key, out InMemoryListener? listener))
        {
            throw new InvalidOperationException($"{fd} is not the number of a bound address");
        }
        listener.Start(accepted);
        return listener;
    }

    /// <summary>Binds and listens: for a second server on the same loop, such as an upstream.</summary>
    public InMemoryListener Listen(ReadOnlySpan<byte> address, Action<Connection> accepted) =>
        (InMemoryListener)Listen(Bind(address), false, accepted);

    /// <summary>Binds an address that test code serves: each connection comes as the peer's end.</summary>
    public InMemoryListener ListenPeers(ReadOnlySpan<byte> address, Action<InMemoryPeer> accepted)
    {
        var listener = _listeners[_bound[Bind(address)]];
        listener.PeerAccepted = accepted;
        return listener;
    }

    /// <summary>Asked for addresses that nobody has bound, when the server connects to them; may bind them. Null:
    /// such a connection is refused.</summary>
    public Action<byte[]>? Missing { get; set; }

    internal InMemoryListener? Find(ReadOnlySpan<byte> address) => _listeners.GetValueOrDefault(Key(address));

    /// <summary>Where the server connects to.</summary>
    internal InMemoryListener? FindForServer(ReadOnlySpan<byte> address)
    {
        if (Missing is not null && Find(address) is null)
        {
            Missing(address.ToArray());
        }
        return Find(address);
    }

    internal void Unbind(string key) => _listeners.Remove(key);

    /// <summary>Connects as a client. The server sees it in its next turn. A refused peer says so.</summary>
    public InMemoryPeer Connect(ReadOnlySpan<byte> address, ReadOnlySpan<byte> from = default)
    {
        var peer = new InMemoryPeer(this);
        InMemoryListener? listener = Find(address);
        if (listener is null)
        {
            peer.Refuse();
            return peer;
        }
        var toServer = NewPipe(_plan?.ClientCuts ?? 0, toServer: true);
        var toPeer = NewPipe(_plan?.ClientCuts ?? 0, toServer: false);
        InMemoryPipe.Pair(toServer, toPeer);
        // A peer never waits: what it sends is on its way.
        toServer.WindowBytes = int.MaxValue;
        peer.Open(toPeer, toServer);
        byte[] source = from.IsEmpty ? NextPeerAddress() : from.ToArray();
        listener.Enqueue(new InMemoryCall(toServer, toPeer, source));
        return peer;
    }

    internal byte[] NextPeerAddress() => SocketAddress.Inet([127, 0, 0, 1], ++_lastPeerPort).Native.ToArray();

    public override LoopTask<ConnectOutcome> ConnectAsync(ReadOnlySpan<byte> address, LocalEnd local, int timeoutMs,
        out Connection connection)
    {
        InMemoryStream stream = RentStream();
        connection = stream;
        return stream.Connect(address, local, timeoutMs);
    }

    // Datagrams.

    /// <summary>Answers datagrams that are sent to an address.</summary>
    public void Respond(ReadOnlySpan<byte> address, InMemoryResponder responder) =>
        _responders[Key(address)] = responder;

    public override DatagramSocket? OpenDatagram(ReadOnlySpan<byte> peer, DatagramReceived received, out int errno)
    {
        errno = 0;
        return new InMemoryDatagram(this, Key(peer), received);
    }

    public override IDisposable WatchReadable(int fd, Action readable)
    {
        var watch = new Watch(this, fd, readable);
        _watches[fd] = watch;
        return watch;
    }

    /// <summary>Makes a watched number readable once.</summary>
    public void Signal(int fd)
    {
        if (_watches.TryGetValue(fd, out Watch? watch))
        {
            Enqueue(watch);
        }
    }

    // Time and turns.

    internal void Enqueue(IInMemoryTarget target)
    {
        var queued = new InMemoryEvent(target, target.Generation);
        if (_plan is { } plan && plan.Random.Chance(plan.Delays))
        {
            _later.Enqueue(queued, (_clockMs + 1 + plan.Random.Below(plan.DelayMsMax), ++_lastOrder));
            return;
        }
        _events.Add(queued);
    }

    private readonly record struct InMemoryEvent(IInMemoryTarget Target, uint Generation)
    {
        internal void Deliver()
        {
            if (Target.Generation == Generation)
            {
                Target.Deliver();
            }
        }
    }

    /// <summary>Milliseconds to the next timer or late delivery; -1 when there is none.</summary>
    private int NextDelayMs()
    {
        int timer = Timers.NextDelayMs(_clockMs);
        if (!_later.TryPeek(out InMemoryEvent _, out (long DueMs, long Order) first))
        {
            return timer;
        }
        int late = (int)Math.Max(first.DueMs - _clockMs, 0);
        return timer < 0 ? late : Math.Min(timer, late);
    }

    protected override void WaitAndDispatch(int timeoutMs)
    {
        if (_events.Count == 0 && _later.Count == 0 && timeoutMs != 0)
        {
            // Only Run() comes here: the clock stands, so nothing but a message can end the wait.
            _wake.Wait();
        }
        Tick();
        while (_later.TryPeek(out InMemoryEvent late, out (long DueMs, long Order) at) && at.DueMs <= _clockMs)
        {
            _later.Dequeue();
            _events.Add(late);
        }
        int n = _events.Count;
        if (n > 1 && _plan is { Reorders: true } plan)
        {
            for (int i = n - 1; i > 0; i--)
            {
                int other = plan.Random.Below(i + 1);
                (_events[i], _events[other]) = (_events[other], _events[i]);
            }
        }
        try
        {
            for (_delivered = 0; _delivered < n;)
            {
                _events[_delivered++].Deliver();
            }
        }
        finally
        {
            _events.RemoveRange(0, _delivered);
        }
        RecycleClosed();
    }

    private int _delivered;

    /// <summary>Runs turns until there is nothing to do at the present time.</summary>
    public void RunUntilIdle()
    {
        AdoptHere();
        int turns = 0;
        do
        {
            RunTurn(0);
            if (++turns == TurnsMax)
            {
                throw new InvalidOperationException("the loop does not come to rest");
            }
        }
        while (_events.Count > 0 || HasReadyWork || NextDelayMs() == 0);
    }

    /// <summary>Runs turns until a condition holds; the clock moves to the next timer when nothing else is to be
    /// done. False when nothing can ever make it true or the clock would pass
    /// <paramref name="advanceMsMax"/>.</summary>
    public bool RunUntil(Func<bool> condition, long advanceMsMax = 3_600_000)
    {
        long stopMs = _clockMs + advanceMsMax;
        while (true)
        {
            RunUntilIdle();
            if (condition())
            {
                return true;
            }
            int delay = NextDelayMs();
            if (delay < 0 || _clockMs + delay > stopMs)
            {
                return false;
            }
            _clockMs += delay;
        }
    }

    /// <summary>Lets time pass; each timer on the way fires at its own time, with all that follows from it.</summary>
    public void AdvanceClock(long ms)
    {
        long until = _clockMs + ms;
        RunUntilIdle();
        while (true)
        {
            int delay = NextDelayMs();
            if (delay < 0 || _clockMs + delay > until)
            {
                break;
            }
            _clockMs += delay;
            RunUntilIdle();
        }
        _clockMs = until;
        RunUntilIdle();
    }

    private void AdoptHere()
    {
        if (!IsOnThread)
        {
            Adopt();
        }
    }

    private static string Key(ReadOnlySpan<byte> address) =>
        SocketAddress.FamilyOf(address) == SocketFamily.Unspecified
            ? Convert.ToHexString(address)
            : SocketAddress.FromNative(address).ToString();

    private sealed class Watch(InMemoryLoop loop, int fd, Action readable) : IInMemoryTarget, IDisposable
    {
        private bool _disposed;

        public void Deliver()
        {
            if (!_disposed)
            {
                readable();
            }
        }

        public void Dispose()
        {
            _disposed = true;
            loop._watches.Remove(fd);
        }
    }

    private sealed class InMemoryDatagram(InMemoryLoop loop, string key, DatagramReceived received) : DatagramSocket
    {
        private bool _disposed;

        public override int Send(ReadOnlySpan<byte> bytes)
        {
            if (_disposed)
            {
                return Errno.EBADF;
            }
            if (loop._plan is { } plan && plan.Random.Chance(plan.LostDatagrams))
            {
                plan.Faults++;
                return 0;
            }
            if (loop._responders.TryGetValue(key, out InMemoryResponder? responder))
            {
                byte[] datagram = bytes.ToArray();
                loop.Enqueue(new Call(() => responder(datagram, Reply)));
            }
            return 0;
        }

        public override void Dispose() => _disposed = true;

        private void Reply(byte[] bytes) => loop.Enqueue(new Call(() =>
        {
            if (!_disposed)
            {
                received(bytes);
            }
        }));
    }

    private sealed class Call(Action action) : IInMemoryTarget
    {
        public void Deliver() => action();
    }
}
