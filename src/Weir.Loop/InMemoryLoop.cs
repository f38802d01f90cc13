// The engine without an operating system: connections are pipes in memory, the clock is a number, and everything that
// happens is one queue served in order, so that a test plays out the same way every time. Time moves only when told
// (AdvanceClock) or, where a test asks for it, to the next timer when there is nothing else to do.
// One thread, as every engine; only Post may come from elsewhere. For tests: it allocates as it likes.
using Weir.Kernel;

namespace Weir.Loop;

/// <summary>Something that the loop's queue can call: one turn, one delivery.</summary>
internal interface IInMemoryTarget
{
    void Deliver();
}

/// <summary>Answers datagrams; call <paramref name="reply"/> any number of times, now or later.</summary>
public delegate void InMemoryResponder(byte[] datagram, Action<byte[]> reply);

/// <summary>The in-memory engine.</summary>
public sealed class InMemoryLoop : EventLoop
{
    private const int TurnsMax = 1_000_000;

    private readonly Queue<IInMemoryTarget> _events = new();
    private readonly Dictionary<string, InMemoryListener> _listeners = [];
    private readonly Dictionary<string, InMemoryResponder> _responders = [];
    private readonly Dictionary<int, string> _bound = [];
    private readonly Dictionary<int, Watch> _watches = [];
    private readonly SemaphoreSlim _wake = new(0);
    private int _lastHandle = 1_000_000;
    private int _lastPeerPort = 40_000;

    // Set before the base constructor reads the clock for the first time; a due time of 0 means "not set".
    private long _clockMs = 1_000_000;

    public InMemoryLoop()
    {
        SlowTurnMs = 0;
        Blocking.ThreadsMax = 0;
    }

    /// <summary>What the wall clock shows when the loop is made: 2026-01-01T00:00:00Z.</summary>
    public const long FirstUnixMs = 1_767_225_600_000;

    /// <summary>Bytes that may wait in one direction of a new connection before its writer blocks.</summary>
    public int WindowBytes { get; set; } = int.MaxValue;

    internal InMemoryPipe NewPipe() => new() { WindowBytes = WindowBytes };

    public override string EngineName => "memory";

    protected override long ReadMonotonicMs() => _clockMs;

    protected override long ReadUnixMs() => FirstUnixMs + _clockMs - 1_000_000;

    protected override void Wake() => _wake.Release();

    /// <summary>Alerts as <see cref="EpollLoop.Alert"/>.</summary>
    public Action<string, int>? Alert { get; set; }

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

    internal InMemoryListener? Find(ReadOnlySpan<byte> address) => _listeners.GetValueOrDefault(Key(address));

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
        var toServer = NewPipe();
        var toPeer = NewPipe();
        peer.Open(toPeer, toServer);
        byte[] source = from.IsEmpty ? NextPeerAddress() : from.ToArray();
        listener.Enqueue(new InMemoryCall(toServer, toPeer, source));
        return peer;
    }

    internal byte[] NextPeerAddress() => SocketAddress.Inet([127, 0, 0, 1], ++_lastPeerPort).Native.ToArray();

    public override LoopTask<ConnectOutcome> ConnectAsync(ReadOnlySpan<byte> address, ReadOnlySpan<byte> localAddress,
        int timeoutMs, out Connection connection)
    {
        var stream = new InMemoryStream(this);
        connection = stream;
        return stream.Connect(address, localAddress, timeoutMs);
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

    internal void Enqueue(IInMemoryTarget target) => _events.Enqueue(target);

    protected override void WaitAndDispatch(int timeoutMs)
    {
        if (_events.Count == 0 && timeoutMs != 0)
        {
            // Only Run() comes here: the clock stands, so nothing but a message can end the wait.
            _wake.Wait();
        }
        Tick();
        for (int n = _events.Count; n > 0; n--)
        {
            _events.Dequeue().Deliver();
        }
    }

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
        while (_events.Count > 0 || HasReadyWork || Timers.NextDelayMs(_clockMs) == 0);
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
            int delay = Timers.NextDelayMs(_clockMs);
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
            int delay = Timers.NextDelayMs(_clockMs);
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

/// <summary>A connection on its way to a listener: both directions, and who calls.</summary>
internal readonly record struct InMemoryCall(InMemoryPipe ToServer, InMemoryPipe ToPeer, byte[] Source);

/// <summary>An address that can be connected to.</summary>
public sealed class InMemoryListener : Listener, IInMemoryTarget
{
    private readonly InMemoryLoop _loop;
    private readonly string _key;
    private readonly Queue<InMemoryCall> _backlog = new();
    private Action<Connection>? _accepted;
    private bool _queued;
    private bool _paused;
    private bool _stopped;

    internal InMemoryListener(InMemoryLoop loop, string key, byte[] address) : base(loop, static _ => { })
    {
        _loop = loop;
        _key = key;
        Address = address;
    }

    /// <summary>The native sockaddr it is bound to.</summary>
    public byte[] Address { get; }

    /// <summary>Set where test code serves the address.</summary>
    internal Action<InMemoryPeer>? PeerAccepted { get; set; }

    /// <summary>Set to make connecting fail with this error number.</summary>
    public int ConnectError { get; set; }

    /// <summary>Set to let connecting wait for ever, as a full backlog or a lost host does.</summary>
    public bool IsSilent { get; set; }

    /// <summary>Connections that nobody has accepted yet.</summary>
    public int Waiting => _backlog.Count;

    internal void Start(Action<Connection> accepted)
    {
        _accepted = accepted;
        Poke();
    }

    internal void Enqueue(InMemoryCall call)
    {
        _backlog.Enqueue(call);
        Poke();
    }

    private void Poke()
    {
        if (!_queued && !_paused && !_stopped && _backlog.Count > 0)
        {
            _queued = true;
            _loop.Enqueue(this);
        }
    }

    void IInMemoryTarget.Deliver()
    {
        _queued = false;
        while (!_stopped && !_paused && _accepted is not null && _backlog.Count > 0)
        {
            if (!_loop.MakeRoom())
            {
                InMemoryCall refused = _backlog.Dequeue();
                _loop.Alert?.Invoke($"{_loop.ConnectionsMax} worker_connections are not enough", 0);
                new InMemoryStream(_loop).OpenAccepted(refused, this).Close();
                continue;
            }
            _accepted(new InMemoryStream(_loop).OpenAccepted(_backlog.Dequeue(), this));
        }
    }

    /// <summary>Stops accepting; later connects are refused, what waits is reset.</summary>
    public override void Stop()
    {
        if (_stopped)
        {
            return;
        }
        _stopped = true;
        _loop.Unbind(_key);
        while (_backlog.TryDequeue(out InMemoryCall call))
        {
            call.ToPeer.Break();
            call.ToServer.Break();
        }
    }

    public override void Pause() => _paused = true;

    public override void Resume()
    {
        _paused = false;
        Poke();
    }
}
