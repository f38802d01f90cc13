// The HTTP server on one loop: listeners, drivers, requests in their pools, the current configuration, counters.
// A reload swaps the configuration: bindings point to the new groups, connections follow with their next request.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Zones;

namespace Weir.Http;

/// <summary>A listening socket and the group of servers that is current on it.</summary>
public sealed class ListenBinding
{
    internal ListenBinding(ListenSpec spec, ListenGroup group)
    {
        Spec = spec;
        Group = group;
    }

    public ListenSpec Spec { get; }

    /// <summary>The servers of the address in the current configuration.</summary>
    public ListenGroup Group { get; internal set; }
    internal List<Listener> Listeners { get; } = [];

    /// <summary>The address is not in the configuration any more: its connections end after their request.</summary>
    internal bool IsGone { get; set; }
}

/// <summary>The Date line, and with it the start of most heads, formatted once a second.</summary>
public sealed class HttpClock
{
    private const int StartBytesMax = 512;
    private readonly EventLoop _loop;
    private readonly byte[] _dateLine = new byte[6 + HttpDate.Length + 2];
    private readonly byte[] _start = new byte[StartBytesMax];
    private int _startLength;
    private NativeSlice _startServer;
    private long _second = -1;
    private long _startUntilMs;

    internal HttpClock(EventLoop loop) => _loop = loop;

    // The last dates that were written, by their second: files of a site share few.
    private const int DatesKept = 256;
    private readonly long[] _dateSeconds = new long[DatesKept];
    private readonly byte[] _dates = new byte[DatesKept * HttpDate.Length];

    /// <summary>A date as HTTP writes it.</summary>
    internal ReadOnlySpan<byte> DateOf(long second)
    {
        int slot = (int)((ulong)second & (DatesKept - 1));
        Span<byte> text = _dates.AsSpan(slot * HttpDate.Length, HttpDate.Length);
        if (_dateSeconds[slot] != second || second == 0)
        {
            HttpDate.Format(second, text);
            _dateSeconds[slot] = second;
        }
        return text;
    }

    /// <summary>Memory of a configuration may become another's: nothing is known by its address any more.</summary>
    internal void Forget()
    {
        _startUntilMs = 0;
        _usual.AsSpan().Clear();
    }

    // Whole heads that were written in this second and had nothing of their own: see UsualHead.
    private const int UsualKept = 8;
    private readonly UsualHead[] _usual = new UsualHead[UsualKept];
    private readonly byte[] _usualBytes = new byte[UsualKept * StartBytesMax];

    /// <summary>A 200 on a connection that stays, with a length and a type and nothing else: what one location answers
    /// again and again.</summary>
    private struct UsualHead
    {
        public long UntilMs;
        public NativeSlice Server;
        public long ContentLength;
        public int Length;
        public int TypeStart;
        public int TypeLength;
    }

    /// <summary>The usual head for these, if it was written in this second; empty otherwise.</summary>
    internal ReadOnlySpan<byte> FindUsual(NativeSlice serverLine, NativeSlice type, long contentLength)
    {
        int slot = (int)((ulong)contentLength % UsualKept);
        ref UsualHead usual = ref _usual[slot];
        long now = _loop.UnixMs;
        if (now >= usual.UntilMs || now < usual.UntilMs - 1000 || usual.ContentLength != contentLength
            || !serverLine.IsSameAs(usual.Server))
        {
            return default;
        }
        ReadOnlySpan<byte> bytes = _usualBytes.AsSpan(slot * StartBytesMax, usual.Length);
        // By its bytes: the memory of an upstream's type is another's soon.
        return type.Span.SequenceEqual(bytes.Slice(usual.TypeStart, usual.TypeLength)) ? bytes : default;
    }

    /// <summary>Keeps a usual head as it was written, its type from <paramref name="typeStart"/> on.</summary>
    internal void KeepUsual(ReadOnlySpan<byte> head, NativeSlice serverLine, int typeStart, int typeLength,
        long contentLength)
    {
        if (head.Length > StartBytesMax)
        {
            return;
        }
        int slot = (int)((ulong)contentLength % UsualKept);
        head.CopyTo(_usualBytes.AsSpan(slot * StartBytesMax));
        _usual[slot] = new UsualHead
        {
            UntilMs = (_loop.UnixMs / 1000 + 1) * 1000,
            Server = serverLine,
            ContentLength = contentLength,
            Length = head.Length,
            TypeStart = typeStart,
            TypeLength = typeLength,
        };
    }

    /// <summary>Status line of a 200, Server and Date in one piece; empty when they do not fit.</summary>
    internal ReadOnlySpan<byte> Start200(NativeSlice serverLine)
    {
        long now = _loop.UnixMs;
        if (now >= _startUntilMs || now < _startUntilMs - 1000 || !serverLine.IsSameAs(_startServer))
        {
            _startServer = serverLine;
            _startUntilMs = (now / 1000 + 1) * 1000;
            ReadOnlySpan<byte> status = StatusLines.StatusLine(200);
            ReadOnlySpan<byte> date = DateLine();
            _startLength = status.Length + serverLine.Length + date.Length;
            if (_startLength > StartBytesMax)
            {
                _startLength = 0;
                return default;
            }
            status.CopyTo(_start);
            serverLine.Span.CopyTo(_start.AsSpan(status.Length));
            date.CopyTo(_start.AsSpan(status.Length + serverLine.Length));
        }
        return _start.AsSpan(0, _startLength);
    }

    public ReadOnlySpan<byte> DateLine()
    {
        long second = _loop.UnixMs / 1000;
        if (second != _second)
        {
            _second = second;
            "Date: "u8.CopyTo(_dateLine);
            HttpDate.Format(second, _dateLine.AsSpan(6));
            "\r\n"u8.CopyTo(_dateLine.AsSpan(6 + HttpDate.Length));
        }
        return _dateLine;
    }
}

/// <summary>What a client's connection is doing, as stub_status counts it.</summary>
internal enum ConnectionState : byte
{
    None,
    Reading,
    Writing,
    Waiting,
}

/// <summary>Told about clients' connections, on the loop.</summary>
public interface IConnectionObserver
{
    void Opened(Connection connection);

    void Closed(Connection connection);
}

/// <summary>HTTP on one loop.</summary>
public sealed class HttpServer : IParkOwner
{
    /// <summary>What a client reads when no descriptor is left for its connection.</summary>
    private static readonly byte[] s_refusal = ("HTTP/1.1 503 Service Temporarily Unavailable\r\n"u8
        + "Content-Length: 0\r\nConnection: close\r\n\r\n"u8).ToArray();

    private readonly List<ListenBinding> _bindings = [];
    private readonly Action<Connection> _accepted;
    private readonly LoopPool<Http1Driver> _drivers;
    private readonly LoopPool<HttpRequest> _freeRequests;
    private readonly LoopPool<Http2Stream> _streams;
    private Http2Driver? _http2;

    public HttpServer(EventLoop loop, Log log, CounterSlot counters)
    {
        Loop = loop;
        Log = log;
        Counters = counters;
        Clock = new HttpClock(loop);
        _drivers = new LoopPool<Http1Driver>(loop, "drivers");
        _freeRequests = new LoopPool<HttpRequest>(loop, "requests", RequestsKeptMax);
        Waiting = new WaitingDrivers(loop);
        WaitingHttp2 = new WaitingDrivers(loop);
        _streams = new LoopPool<Http2Stream>(loop, "streams");
        _accepted = OnAccepted;
    }

    public EventLoop Loop { get; }

    /// <summary>Where lines go that belong to no request.</summary>
    public Log Log { get; set; }
    public CounterSlot Counters { get; }
    public HttpClock Clock { get; }
    internal WaitingDrivers Waiting { get; }

    /// <summary>The same for HTTP/2, whose drivers keep their connection and let their tools go.</summary>
    internal WaitingDrivers WaitingHttp2 { get; }
    public HttpConfiguration? Configuration { get; private set; }

    /// <summary>A graceful stop is under way: every answer is the last on its connection.</summary>
    public bool IsQuitting { get; private set; }

    /// <summary>How long an idle connection may still send a request after a graceful stop began,
    /// milliseconds.</summary>
    public int QuitGraceMs { get; set; } = 1000;

    /// <summary>Connections of clients that are open.</summary>
    public int ActiveCount { get; private set; }

    /// <summary>Who hears of connections that open and close.</summary>
    public IConnectionObserver? Observer { get; set; }

    /// <summary>Called when the last connection closed during a graceful stop.</summary>
    public Action? Drained { get; set; }

    public IReadOnlyList<ListenBinding> Bindings => _bindings;

    /// <summary>Makes a configuration current. Addresses that stay keep their listeners; <paramref name="open"/> gives
    /// the
    /// descriptors of a new one (several with reuseport), which the loop owns from then on.</summary>
    public void Apply(HttpConfiguration configuration, Func<ListenSpec, IEnumerable<int>> open)
    {
        HttpConfiguration? old = Configuration;
        Configuration = configuration;
        // What lies in the pool remembers the old one.
        _freeRequests.Clear();
        Clock.Forget();
        var kept = new HashSet<ListenBinding>();
        foreach (ListenGroup group in configuration.Groups)
        {
            ListenBinding? binding = _bindings.Find(b => b.Spec.Equals(group.Spec) && !b.IsGone);
            if (binding is null)
            {
                binding = new ListenBinding(group.Spec, group);
                _bindings.Add(binding);
                bool shared = !group.Spec.ReusePort;
                foreach (int fd in open(group.Spec))
                {
                    Listener listener = Loop.Listen(fd, shared, _accepted);
                    listener.Tag = binding;
                    listener.Refusal = group.Tls ? default : s_refusal;
                    binding.Listeners.Add(listener);
                }
            }
            binding.Group = group;
            kept.Add(binding);
        }
        foreach (ListenBinding binding in _bindings.ToArray())
        {
            if (!kept.Contains(binding))
            {
                binding.IsGone = true;
                StopListening(binding);
                _bindings.Remove(binding);
            }
        }
        // Nobody may wait on an address that is not served any more.
        Loop.ForEachIdle(static c =>
        {
            if (IsBetweenRequests(c) && BindingOf(c).IsGone)
            {
                c.Close();
            }
        });
        ReviewHttp2();
        configuration.Start(Loop);
        old?.Retire();
    }

    /// <summary>Stops accepting and lets what runs end; idle connections get a last chance.</summary>
    public void Quit()
    {
        IsQuitting = true;
        foreach (ListenBinding binding in _bindings)
        {
            StopListening(binding);
        }
        long deadline = Loop.NowMs + QuitGraceMs;
        Loop.ForEachIdle(c =>
        {
            if (IsBetweenRequests(c))
            {
                c.SetReadDeadline(deadline);
            }
        });
        ShortenIdle(QuitGraceMs);
        ReviewHttp2();
        EndAcceptingAsync().Forget();
    }

    private bool _hasLeft;

    /// <summary>Connections that the kernel had taken already are told of in the next turn.</summary>
    private async LoopTask<Unit> EndAcceptingAsync()
    {
        await Loop.YieldAsync();
        await Loop.YieldAsync();
        _hasLeft = true;
        if (ActiveCount == 0)
        {
            Drained?.Invoke();
        }
        return default;
    }

    /// <summary>Deadlines that only move later stay in the wheel; an earlier one is set by a timer of its
    /// own.</summary>
    private void ShortenIdle(int afterMs) =>
        Loop.Timers.Set(new CallbackTimer(() => Loop.ForEachIdle(static c =>
        {
            if (IsBetweenRequests(c))
            {
                c.Close();
            }
        })), Loop.NowMs + afterMs);

    /// <summary>Called before log files change behind their descriptors: what is buffered is written.</summary>
    public void FlushLogs() => Configuration?.FlushLogs();

    /// <summary>Accepts nobody for a while: what comes waits in the kernel's backlog.</summary>
    public void HoldListeners(bool hold)
    {
        foreach (ListenBinding binding in _bindings)
        {
            foreach (Listener listener in binding.Listeners)
            {
                if (hold)
                {
                    listener.Pause();
                }
                else
                {
                    listener.Resume();
                }
            }
        }
    }

    /// <summary>Of an idle connection: a client's that has been answered before. Connections to upstream servers rest
    /// in the same list.</summary>
    private static bool IsBetweenRequests(Connection connection) =>
        connection is { OwnerCount: > 0, Owner: ListenBinding or Http1Driver };

    private static ListenBinding BindingOf(Connection connection) =>
        connection.Owner as ListenBinding ?? ((Http1Driver)connection.Owner!).Binding;

    // HTTP/2.

    /// <summary>Memory for one header block at a time: its decoded strings, and the text that is made of it.</summary>
    internal byte[] Http2Scratch { get; private set; } = [];
    internal byte[] Http2Text { get; private set; } = [];

    private const int Http2ScratchBytes = 64 * 1024, Http2ScratchBytesMax = 1024 * 1024;

    /// <summary>Makes them large enough for heads of this size.</summary>
    internal void EnsureHttp2Memory(long headBytes)
    {
        int need = (int)Math.Clamp(headBytes, Http2ScratchBytes, Http2ScratchBytesMax);
        if (Http2Text.Length < need)
        {
            Http2Scratch = new byte[need];
            Http2Text = new byte[need];
        }
    }

    /// <summary>Goes on with a connection that turned out to speak HTTP/2.</summary>
    internal void StartHttp2(Connection connection, ListenBinding binding, ProxyClient? proxy, BufferSlab? input,
        int start, int end) =>
        new Http2Driver(this, connection, binding, proxy).Start(input, start, end);

    internal void Add(Http2Driver driver)
    {
        driver.Next = _http2;
        if (_http2 is { } first)
        {
            first.Previous = driver;
        }
        _http2 = driver;
    }

    internal void Closed(Http2Driver driver)
    {
        if (driver.Previous is { } previous)
        {
            previous.Next = driver.Next;
        }
        else
        {
            _http2 = driver.Next;
        }
        if (driver.Next is { } next)
        {
            next.Previous = driver.Previous;
        }
        CountClosed();
    }

    private Http2Work? _freeWork;

    /// <summary>Stays empty: what connections look at that have no streams.</summary>
    internal Http2Work Http2Idle { get; } = new();

    internal Http2Work RentWork()
    {
        Http2Work work = _freeWork ?? new Http2Work();
        _freeWork = work.Next;
        work.Next = null;
        return work;
    }

    internal void Return(Http2Work work)
    {
        work.Next = _freeWork;
        _freeWork = work;
    }

    private Http2Tools? _freeTools;

    internal Http2Tools RentTools(Http2Driver driver, in Http2Rest rest)
    {
        Http2Tools tools = _freeTools ?? new Http2Tools();
        _freeTools = tools.Next;
        tools.Next = null;
        tools.Driver = driver;
        rest.Hand(tools);
        return tools;
    }

    internal void Return(Http2Tools tools)
    {
        tools.Driver = null;
        tools.Next = _freeTools;
        _freeTools = tools;
    }

    internal Http2Stream RentStream() => _streams.TryTake() ?? new Http2Stream();

    internal void Return(Http2Stream stream) => _streams.Return(stream);

    /// <summary>Connections that must not go on say so to their clients.</summary>
    private void ReviewHttp2()
    {
        Http2Driver? next;
        for (Http2Driver? driver = _http2; driver is not null; driver = next)
        {
            next = driver.Next;
            driver.Review();
        }
    }

    /// <summary>A parked connection has something to say: a driver takes it up.</summary>
    void IParkOwner.Unpark(Connection connection, RecvLease lease)
    {
        if (connection.Owner is ListenBinding binding)
        {
            RentDriver().Resume(connection, binding, lease);
        }
        else
        {
            var driver = (Http1Driver)connection.Owner!;
            driver.Resume(connection, driver.Binding, lease);
        }
    }

    private Http1Driver RentDriver() => _drivers.TryTake() ?? new Http1Driver(this);

    /// <summary>The driver's connection has gone or is parked.</summary>
    internal void Return(Http1Driver driver) => _drivers.Return(driver);

    private static void StopListening(ListenBinding binding)
    {
        foreach (Listener listener in binding.Listeners)
        {
            listener.Stop();
        }
        binding.Listeners.Clear();
    }

    private void OnAccepted(Connection connection)
    {
        Counters.Add(StatusCounter.Accepted, 1);
        Counters.Add(StatusCounter.Handled, 1);
        ActiveCount++;
        Counters.Add(StatusCounter.Active, 1);
        if (Log.Enabled(LogLevel.Debug))
        {
            Log.Write(LogLevel.Debug, $"accept: {HttpRequest.FormatAddress(connection.PeerAddress)}", 0,
                connection.Number);
        }
        var binding = (ListenBinding)connection.Listener!.Tag!;
        Observer?.Opened(connection);
        RentDriver().Start(connection, binding);
    }

    /// <summary>Moves a connection from one state to another in the status counters.</summary>
    internal void Count(ConnectionState from, ConnectionState to)
    {
        if (from != to)
        {
            Add(from, -1);
            Add(to, 1);
        }
    }

    private void Add(ConnectionState state, int amount)
    {
        if (state != ConnectionState.None)
        {
            Counters.Add(StatusCounter.Reading + ((int)state - (int)ConnectionState.Reading), amount);
        }
    }

    internal void Closed(Http1Driver driver)
    {
        Return(driver);
        CountClosed();
    }

    private void CountClosed()
    {
        ActiveCount--;
        Counters.Add(StatusCounter.Active, -1);
        if (_hasLeft && ActiveCount == 0)
        {
            Drained?.Invoke();
        }
    }

    private const int RequestsKeptMax = 1024;

    /// <summary>Requests that are under way, with their memory; subrequests are their parents'.</summary>
    public int RequestsInUse { get; private set; }

    internal HttpRequest RentRequest()
    {
        RequestsInUse++;
        return _freeRequests.TryTake() ?? new HttpRequest();
    }

    /// <summary>A request that an exception ended is not used again.</summary>
    internal void Drop() => RequestsInUse--;

    internal void Return(HttpRequest r)
    {
        RequestsInUse--;
        if (r.Configuration != Configuration)
        {
            r.Forget();
        }
        _freeRequests.Return(r);
    }
}
