// Sequential, ThreadPerConnection and ThreadPool: blocking sockets, a thread for every client that is served. What they
// share is here: accepting, turning away, idle connections that give way, and the end. Locks are held for a few lines.
using System.Net.Sockets;
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Server;

/// <summary>A model on blocking sockets.</summary>
internal abstract class BlockingModel(AppServerOptions options, GuestApplication application, AppCounters counters,
    Log log, AppInstruments? instruments) : ServerModel(options, application, counters, log)
{
    private const int LingeringMax = 1024;

    private readonly LinkedList<BlockingExchange> _idle = new();
    private readonly HashSet<BlockingExchange> _active = [];
    private readonly HashSet<BlockingExchange> _leaving = [];
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Watchdog _watchdog = new(counters);
    private IReadOnlyList<OpenListener> _listeners = [];
    private Socket[] _sockets = [];
    private int _stopFd = -1;
    private int _threads;
    private int _lingering;
    private long _numbers;
    private int _measured;

    internal AppServerOptions OptionsOf => Options;
    internal AppCounters CountersOf => Counters;
    internal GuestApplication ApplicationOf => Application;
    internal byte[] LateAnswer { get; } = ServerAnswers.Late(options.RetryAfterSeconds);

    /// <summary>Guards what models count and queue.</summary>
    protected object Gate { get; } = new();

    protected bool IsStopping { get; private set; }

    /// <summary>Others wait: answers are the last of their connections.</summary>
    internal virtual bool MustMakeRoom => IsStopping;

    internal static int ToMilliseconds(TimeSpan time) => Milliseconds(time);

    internal void Complain(string what) => Log.Write(LogLevel.Error, what);

    internal void Note(string what) => Log.Write(LogLevel.Info, what);

    internal override void Start(IReadOnlyList<OpenListener> listeners)
    {
        _listeners = listeners;
        _stopFd = Sys.EventFd().Int;
        _sockets = [.. listeners.Select(Blocking)];
        StartThreads();
    }

    protected abstract void StartThreads();

    private static Socket Blocking(OpenListener listener)
    {
        Descriptors.SetBlocking(listener.Fd);
        int fd = Descriptors.Duplicate(listener.Fd).Int;
        // A client that is gone again when it is its turn must not hold the acceptor.
        return new Socket(new SafeSocketHandle(fd, ownsHandle: true)) { ReceiveTimeout = 1000 };
    }

    /// <summary>A thread of the model's; the stop waits for it.</summary>
    protected void StartThread(string name, Action run)
    {
        Interlocked.Increment(ref _threads);
        Counters.Thread(1);
        new Thread(() =>
        {
            run();
            Counters.Thread(-1);
            if (Interlocked.Decrement(ref _threads) == 0)
            {
                _ended.TrySetResult();
            }
        })
        {
            IsBackground = true,
            Name = name,
        }.Start();
    }

    // Accepting.

    /// <summary>Waits for a client. Null when the server stops.</summary>
    protected bool Accept(out Accepted accepted)
    {
        var entries = new PollEntry[_sockets.Length + 1];
        while (true)
        {
            for (int i = 0; i < _sockets.Length; i++)
            {
                entries[i] = new PollEntry((int)_sockets[i].Handle, PollEntry.Readable);
            }
            entries[^1] = new PollEntry(_stopFd, PollEntry.Readable);
            Descriptors.Poll(entries, -1);
            if (IsStopping)
            {
                accepted = default;
                return false;
            }
            for (int i = 0; i < _sockets.Length; i++)
            {
                if (entries[i].Returned != 0 && TryAccept(_sockets[i]) is { } client)
                {
                    accepted = new Accepted(client, Interlocked.Increment(ref _numbers), _listeners[i].Tls,
                        Sys.MonotonicMs());
                    Counters.Opened();
                    Counters.Tell(AppServerEventKind.Accepted, accepted.Number);
                    if (Counters.Open <= Options.MaxConnections)
                    {
                        return true;
                    }
                    TurnAway(accepted, answer: false);
                }
            }
        }
    }

    private Socket? TryAccept(Socket listener)
    {
        try
        {
            return listener.Accept();
        }
        catch (SocketException e)
        {
            if (e.SocketErrorCode is SocketError.TooManyOpenSockets or SocketError.NoBufferSpaceAvailable)
            {
                Log.Write(LogLevel.Warn, $"accept() failed: {e.Message}");
                Thread.Sleep(100);
            }
            return null;
        }
    }

    /// <summary>A client's connection, its number, the TLS of the address that it came to, and when.</summary>
    internal readonly record struct Accepted(Socket Client, long Number, ListenerTls? Tls, long AtMs);

    /// <summary>There is no room: 503 with Retry-After, or nothing but the end. A handshake would take the time that
    /// nobody has, so over TLS it is the end.</summary>
    protected void TurnAway(Accepted accepted, bool answer)
    {
        Socket client = accepted.Client;
        long number = accepted.Number;
        answer &= accepted.Tls is null;
        Counters.Refuse();
        Counters.Tell(AppServerEventKind.Refused, number, 0, -1, answer ? 503 : 0);
        if (answer)
        {
            try
            {
                client.SendTimeout = 1000;
                client.Send(LateAnswer);
                Linger(client);
            }
            catch (SocketException)
            {
                client.Dispose();
            }
        }
        else
        {
            client.Dispose();
        }
        Counters.Closed(Sys.MonotonicMs() - accepted.AtMs);
        Counters.Tell(AppServerEventKind.Closed, number);
    }

    /// <summary>Closes so that the client can read its answer although it may be sending: reads on for a while, without
    /// a thread.</summary>
    internal void Linger(Socket client)
    {
        try
        {
            client.Shutdown(SocketShutdown.Send);
        }
        catch (SocketException)
        {
            client.Dispose();
            return;
        }
        if (IsStopping || Interlocked.Increment(ref _lingering) > LingeringMax)
        {
            client.Dispose();
            return;
        }
        _watchdog.Add(new LingeringClose(this, client), 50);
    }

    private sealed class LingeringClose(BlockingModel model, Socket client) : IWatched
    {
        private readonly long _untilMs = Sys.MonotonicMs() + 2000;
        private readonly byte[] _waste = new byte[4096];

        public void Watch(long nowMs)
        {
            bool done = nowMs >= _untilMs || model.IsStopping;
            try
            {
                while (!done && client.Poll(0, SelectMode.SelectRead))
                {
                    done = client.Receive(_waste) == 0;
                }
            }
            catch (SocketException)
            {
                done = true;
            }
            if (done)
            {
                client.Dispose();
                Interlocked.Decrement(ref model._lingering);
                model._watchdog.Remove(this);
            }
        }
    }

    // Connections that are served.

    internal void Enter(BlockingExchange exchange)
    {
        lock (Gate)
        {
            _active.Add(exchange);
        }
        int timeoutMs = Milliseconds(Options.HandlerTimeout);
        _watchdog.Add(exchange, timeoutMs > 0 ? Math.Min(100, timeoutMs / 10) : 100);
    }

    internal void Leave(BlockingExchange exchange)
    {
        _watchdog.Remove(exchange);
        lock (Gate)
        {
            _active.Remove(exchange);
        }
    }

    internal static bool WaitReadable(int fd, int milliseconds)
    {
        Span<PollEntry> entry = [new PollEntry(fd, PollEntry.Readable)];
        long untilMs = Sys.MonotonicMs() + milliseconds;
        while (true)
        {
            int left = (int)Math.Max(0, untilMs - Sys.MonotonicMs());
            if (Descriptors.Poll(entry, left).Value > 0)
            {
                return true;
            }
            if (left == 0)
            {
                return false;
            }
        }
    }

    /// <summary>Waits for the next request of a connection. False: time is up, or others need the thread.</summary>
    internal virtual bool WaitIdle(BlockingExchange exchange, int milliseconds)
    {
        LinkedListNode<BlockingExchange> node;
        lock (Gate)
        {
            if (MustMakeRoom)
            {
                return false;
            }
            node = _idle.AddLast(exchange);
            Counters.Idle(1);
        }
        bool readable = WaitReadable(exchange.Fd, milliseconds);
        lock (Gate)
        {
            Counters.Idle(-1);
            if (node.List is null)
            {
                // It was told to go.
                return false;
            }
            _idle.Remove(node);
        }
        return readable;
    }

    /// <summary>The exchange's thread is free again. The gate is held.</summary>
    protected void Gone(BlockingExchange exchange) => _leaving.Remove(exchange);

    /// <summary>Idle connections that were told to go and have not gone. The gate is held.</summary>
    protected int Leaving => _leaving.Count;

    /// <summary>Ends the connection that has been idle longest. False: there is none. The gate is held.</summary>
    protected bool EndOneIdle()
    {
        if (_idle.First is not { } first)
        {
            return false;
        }
        _idle.Remove(first);
        _leaving.Add(first.Value);
        first.Value.EndIdle();
        return true;
    }

    /// <summary>Polls what a thread without a loop may have to see: a connection, and whether others wait.</summary>
    protected bool WaitForConnectionOrOthers(int fd, int milliseconds)
    {
        var entries = new PollEntry[_sockets.Length + 2];
        for (int i = 0; i < _sockets.Length; i++)
        {
            entries[i] = new PollEntry((int)_sockets[i].Handle, PollEntry.Readable);
        }
        entries[^2] = new PollEntry(_stopFd, PollEntry.Readable);
        entries[^1] = new PollEntry(fd, PollEntry.Readable);
        Descriptors.Poll(entries, milliseconds);
        return entries[^1].Returned != 0;
    }

    internal void Measured(BlockingExchange exchange, long tookMs)
    {
        if (instruments is { MeasuresDuration: true })
        {
            instruments.Record(exchange.Method, exchange.Status, tookMs);
        }
        if (_measured == 0 && Interlocked.Exchange(ref _measured, 1) == 0)
        {
            ThreadStack stack = ThreadStack.OfThisThread();
            Counters.Measured(stack);
            TellThreadCost(stack);
        }
    }

    // The end.

    internal override async Task StopAsync(TimeSpan patience, CancellationToken hurry)
    {
        lock (Gate)
        {
            IsStopping = true;
            while (EndOneIdle())
            {
            }
            Monitor.PulseAll(Gate);
        }
        Sys.EventFdSignal(_stopFd);
        if (await Task.WhenAny(_ended.Task, Task.Delay(patience, hurry)) != _ended.Task)
        {
            BlockingExchange[] left;
            lock (Gate)
            {
                left = [.. _active];
            }
            foreach (BlockingExchange exchange in left)
            {
                exchange.CutOff();
            }
            // A thread that is held by its handler cannot be stopped; it is left behind.
            await Task.WhenAny(_ended.Task, Task.Delay(TimeSpan.FromSeconds(1), CancellationToken.None));
        }
        _watchdog.Stop();
        foreach (Socket socket in _sockets)
        {
            socket.Dispose();
        }
        foreach (OpenListener listener in _listeners)
        {
            listener.Close();
        }
        if (_ended.Task.IsCompleted)
        {
            Sys.Close(_stopFd);
        }
    }
}

/// <summary>One thread does everything: accepts, reads, runs the handler, writes, and only then looks up.</summary>
internal sealed class SequentialModel(AppServerOptions options, GuestApplication application, AppCounters counters,
    Log log, AppInstruments? instruments) : BlockingModel(options, application, counters, log, instruments)
{
    protected override void StartThreads() => StartThread("weir-sequential", Run);

    private void Run()
    {
        var exchange = new BlockingExchange(this);
        while (Accept(out Accepted accepted))
        {
            exchange.Serve(accepted);
        }
    }

    /// <summary>An idle connection is kept only until somebody else knocks.</summary>
    internal override bool WaitIdle(BlockingExchange exchange, int milliseconds)
    {
        Counters.Idle(1);
        bool readable = !IsStopping && WaitForConnectionOrOthers(exchange.Fd, milliseconds);
        Counters.Idle(-1);
        return readable;
    }
}

/// <summary>A thread that accepts, and one for every connection.</summary>
internal sealed class ThreadPerConnectionModel(AppServerOptions options, GuestApplication application,
    AppCounters counters, Log log, AppInstruments? instruments)
    : BlockingModel(options, application, counters, log, instruments)
{
    private int _serving;

    internal override bool MustMakeRoom => IsStopping;

    protected override void StartThreads() => StartThread("weir-acceptor", AcceptAll);

    private void AcceptAll()
    {
        while (Accept(out Accepted accepted))
        {
            if (!TakeRoom())
            {
                TurnAway(accepted, answer: !IsStopping);
                continue;
            }
            Accepted served = accepted;
            StartThread("weir-connection", () =>
            {
                var exchange = new BlockingExchange(this);
                exchange.Serve(served);
                lock (Gate)
                {
                    Gone(exchange);
                    _serving--;
                    Monitor.PulseAll(Gate);
                }
            });
        }
    }

    private bool TakeRoom()
    {
        lock (Gate)
        {
            bool waits = Options.QueueFull == QueueFull.StopAccepting;
            while (_serving >= Options.Concurrency.Threads && !IsStopping)
            {
                // One that is idle makes room as soon as its thread has noticed.
                bool makesRoom = Leaving > 0 || EndOneIdle();
                if (!waits && !makesRoom)
                {
                    return false;
                }
                Monitor.Wait(Gate);
            }
            _serving++;
            return !IsStopping || UndoRoom();
        }
    }

    private bool UndoRoom()
    {
        _serving--;
        return false;
    }
}

/// <summary>A thread that accepts, a queue, and a fixed number of threads that each serve one connection.</summary>
internal sealed class ThreadPoolModel(AppServerOptions options, GuestApplication application, AppCounters counters,
    Log log, AppInstruments? instruments) : BlockingModel(options, application, counters, log, instruments)
{
    private readonly Queue<Accepted> _queue = new();
    private int _free;
    private bool _accepts = true;

    internal override bool MustMakeRoom => IsStopping || Volatile.Read(ref _queued) > 0;

    private int _queued;

    protected override void StartThreads()
    {
        _free = Options.Concurrency.Threads;
        for (int i = 0; i < Options.Concurrency.Threads; i++)
        {
            StartThread("weir-pool", ServeAll);
        }
        StartThread("weir-acceptor", AcceptAll);
    }

    private void AcceptAll()
    {
        while (Accept(out Accepted accepted))
        {
            if (!TryQueue(accepted))
            {
                TurnAway(accepted, answer: !IsStopping);
            }
        }
        lock (Gate)
        {
            _accepts = false;
            Monitor.PulseAll(Gate);
        }
    }

    private bool TryQueue(Accepted accepted)
    {
        lock (Gate)
        {
            while (_queue.Count >= Options.Concurrency.Queue + _free)
            {
                bool makesRoom = Leaving > 0 || EndOneIdle();
                if (IsStopping || Options.QueueFull == QueueFull.Refuse && !makesRoom)
                {
                    return false;
                }
                Monitor.Wait(Gate);
            }
            _queue.Enqueue(accepted);
            Counters.Queue(1);
            Counters.Tell(AppServerEventKind.Queued, accepted.Number);
            if (_queue.Count > _free)
            {
                Volatile.Write(ref _queued, _queue.Count - _free);
                EndOneIdle();
            }
            Monitor.PulseAll(Gate);
            return true;
        }
    }

    private void ServeAll()
    {
        var exchange = new BlockingExchange(this);
        while (true)
        {
            Accepted next;
            lock (Gate)
            {
                while (_queue.Count == 0 && _accepts)
                {
                    Monitor.Wait(Gate);
                }
                if (!_queue.TryDequeue(out next))
                {
                    return;
                }
                _free--;
                Volatile.Write(ref _queued, Math.Max(0, _queue.Count - _free));
                Monitor.PulseAll(Gate);
            }
            Counters.Queue(-1);
            exchange.Serve(next);
            lock (Gate)
            {
                Gone(exchange);
                _free++;
                Volatile.Write(ref _queued, Math.Max(0, _queue.Count - _free));
                Monitor.PulseAll(Gate);
            }
        }
    }
}
