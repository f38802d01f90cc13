// What each model does with many requests at the same time: the claims that the models exist for, by count and order.
using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Sockets;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class ConcurrencyTests
{
    private const int Long = 30_000;
    private const string Get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

    /// <summary>A handler that waits to be let go, and counts how many were in it together.</summary>
    private sealed class Crowd : IDisposable
    {
        private readonly ManualResetEventSlim _gate = new();
        private int _inside;
        private int _most;

        public int Most => _most;

        public void Handle(AppRequest request, AppResponse response)
        {
            int now = Interlocked.Increment(ref _inside);
            int most;
            while (now > (most = Volatile.Read(ref _most)) && Interlocked.CompareExchange(ref _most, now, most) != most)
            {
            }
            _gate.Wait();
            Interlocked.Decrement(ref _inside);
            response.Write("done");
        }

        public void LetGo() => _gate.Set();

        public void Dispose() => _gate.Dispose();
    }

    private static List<RawClient> Ask(Running running, int count)
    {
        var clients = new List<RawClient>();
        for (int i = 0; i < count; i++)
        {
            clients.Add(running.Connect().Send(Get));
        }
        return clients;
    }

    private static void AllAnswered(List<RawClient> clients)
    {
        foreach (RawClient client in clients)
        {
            Assert.Equal("done", client.ReadResponse(timeoutMs: Long).Text);
            client.Dispose();
        }
    }

    [Fact]
    public void Sequential_never_runs_two_handlers_at_once()
    {
        using var crowd = new Crowd();
        using Running running = Running.With(Concurrency.Sequential, crowd.Handle);
        List<RawClient> clients = Ask(running, 8);
        running.Await(static m => m.Running == 1);
        crowd.LetGo();
        AllAnswered(clients);
        Assert.Equal(1, crowd.Most);
    }

    [Fact]
    public void A_thread_per_connection_runs_all_at_once()
    {
        using var crowd = new Crowd();
        using Running running = Running.With(Concurrency.ThreadPerConnection(100), crowd.Handle);
        List<RawClient> clients = Ask(running, 30);
        running.Await(static m => m.Running == 30);
        crowd.LetGo();
        AllAnswered(clients);
        Assert.Equal(30, crowd.Most);
    }

    [Fact]
    public void A_pool_of_ten_runs_ten_and_queues_twenty()
    {
        using var crowd = new Crowd();
        using Running running = Running.With(Concurrency.ThreadPool(10, 100), crowd.Handle);
        List<RawClient> clients = Ask(running, 30);
        running.Await(static m => m is { Running: 10, Queued: 20 });
        crowd.LetGo();
        AllAnswered(clients);
        Assert.Equal(10, crowd.Most);
    }

    [Fact]
    public void Loops_with_a_pool_of_ten_run_ten_and_queue_twenty()
    {
        using var crowd = new Crowd();
        using Running running = Running.With(Concurrency.EventDrivenWithThreadPool(2, 10, 100), crowd.Handle);
        List<RawClient> clients = Ask(running, 30);
        running.Await(static m => m is { Running: 10, Queued: 20 });
        crowd.LetGo();
        AllAnswered(clients);
        Assert.Equal(10, crowd.Most);
    }

    [Fact]
    public void A_handler_that_blocks_its_loop_stalls_everyone_on_it()
    {
        using var entered = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        var order = new System.Collections.Concurrent.ConcurrentQueue<string>();
        using Running running = Running.With(Concurrency.EventDriven(1), (request, response) =>
        {
            order.Enqueue(request.Path + " begins");
            if (request.Path == "/block")
            {
                entered.Set();
                release.Wait();
            }
            order.Enqueue(request.Path + " ends");
        });
        using RawClient blocked = running.Connect().Send("GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.True(entered.Wait(Long));
        using RawClient other = running.Connect().Send("GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.False(other.WaitForBytes(100));
        release.Set();
        Assert.Equal(200, other.ReadResponse(timeoutMs: Long).Status);
        Assert.Equal(["/block begins", "/block ends", "/other begins", "/other ends"], order);
    }

    [Fact]
    public void A_handler_that_awaits_on_a_loop_lets_others_pass()
    {
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var threads = new System.Collections.Concurrent.ConcurrentQueue<int>();
        using var running = new Running("event-driven", async (request, response) =>
        {
            threads.Enqueue(Environment.CurrentManagedThreadId);
            if (request.Path == "/wait")
            {
                await gate.Task;
                threads.Enqueue(Environment.CurrentManagedThreadId);
            }
            response.Write(request.Path);
        });
        using RawClient waits = running.Connect().Send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
        using RawClient passes = running.Connect();
        Assert.Equal("/pass", passes.Get("/pass").Text);
        gate.SetResult();
        Assert.Equal("/wait", waits.ReadResponse(timeoutMs: Long).Text);
        // And what follows the await runs on the loop again.
        Assert.Single(threads.Distinct());
    }

    [Fact]
    public void Loops_with_a_pool_go_on_answering_when_one_handler_blocks()
    {
        using var entered = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        using Running running = Running.With(Concurrency.EventDrivenWithThreadPool(1, 2, 10), (request, response) =>
        {
            if (request.Path == "/block")
            {
                entered.Set();
                release.Wait();
            }
        });
        using RawClient blocked = running.Connect().Send("GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.True(entered.Wait(Long));
        using RawClient other = running.Connect();
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal(200, other.Get("/").Status);
        }
        release.Set();
        Assert.Equal(200, blocked.ReadResponse(timeoutMs: Long).Status);
    }

    public static TheoryData<string> Bounded => ["thread-per-connection", "thread-pool", "event-driven-thread-pool"];

    private static Concurrency OneAndOne(string model) => model switch
    {
        "thread-per-connection" => Concurrency.ThreadPerConnection(2),
        "thread-pool" => Concurrency.ThreadPool(1, 1),
        _ => Concurrency.EventDrivenWithThreadPool(1, 1, 1),
    };

    [Theory]
    [MemberData(nameof(Bounded))]
    public void One_beyond_threads_and_queue_is_refused_with_503_and_Retry_After(string model)
    {
        using var crowd = new Crowd();
        using Running running = Running.With(OneAndOne(model), crowd.Handle, o => o.RetryAfterSeconds = 7);
        List<RawClient> clients = Ask(running, 2);
        running.Await(static m => m.Running + m.Queued == 2);
        using (RawClient refused = running.Connect().Send(Get))
        {
            HttpResponse answer = refused.ReadResponse(timeoutMs: Long);
            Assert.Equal(503, answer.Status);
            Assert.Equal("7", answer["Retry-After"]);
        }
        Assert.Equal(1, running.Metrics.Refused);
        crowd.LetGo();
        AllAnswered(clients);
        using RawClient again = running.Connect().Send(Get);
        Assert.Equal("done", again.ReadResponse(timeoutMs: Long).Text);
    }

    [Theory]
    [MemberData(nameof(Bounded))]
    public void Where_accepting_stops_instead_nobody_is_refused(string model)
    {
        using var crowd = new Crowd();
        using Running running = Running.With(OneAndOne(model), crowd.Handle,
            o => o.QueueFull = QueueFull.StopAccepting);
        List<RawClient> clients = Ask(running, 12);
        running.Await(static m => m.Running >= 1);
        crowd.LetGo();
        AllAnswered(clients);
        Assert.Equal(0, running.Metrics.Refused);
        Assert.InRange(crowd.Most, 1, 2);
    }

    [Fact]
    public void Beyond_a_full_backlog_the_SYN_is_dropped_and_its_client_comes_back()
    {
        using var crowd = new Crowd();
        using Running running = Running.With(Concurrency.Sequential, crowd.Handle, o => o.Backlog = 1);
        List<RawClient> clients = Ask(running, 1);
        running.Await(static m => m.Running == 1);
        // Linux keeps one more than it was told.
        clients.AddRange(Ask(running, 2));
        using var late = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
        {
            Blocking = false,
        };
        Assert.Equal(SocketError.WouldBlock, Assert.Throws<SocketException>(
            () => late.Connect(IPAddress.Loopback, running.Port)).SocketErrorCode);
        const int synSent = 2;
        Assert.True(Wait.Until(() => Tcp(late) is { State: synSent, Repeated: > 0 }));
        Assert.Equal(1, running.Metrics.Accepted);
        crowd.LetGo();
        AllAnswered(clients);
        Assert.True(late.Poll(TimeSpan.FromSeconds(30), SelectMode.SelectWrite));
        late.Blocking = true;
        using var stream = new NetworkStream(late, ownsSocket: false) { ReadTimeout = Long };
        stream.Write(System.Text.Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        Assert.EndsWith("done", new StreamReader(stream).ReadToEnd());
        Assert.Equal(0, running.Metrics.Refused);
    }

    /// <summary>What the kernel says of a connection (tcp_info): its state, and how often it repeated the last
    /// segment.</summary>
    private static (int State, int Repeated) Tcp(Socket socket)
    {
        Span<byte> info = stackalloc byte[8];
        socket.GetRawSocketOption(6, 11, info);
        return (info[0], info[2]);
    }

    [Fact]
    public void Slow_clients_starve_a_pool_until_the_header_timeout_frees_it()
    {
        using Running running = Running.With(Concurrency.ThreadPool(2, 10), static (request, response) =>
            response.Write("done"), o => o.HeaderTimeout = TimeSpan.FromMilliseconds(300));
        using RawClient slow = running.Connect().Send("GET / HT");
        using RawClient slower = running.Connect().Send("G");
        running.Await(static m => m.Accepted == 2);
        using RawClient quick = running.Connect().Send(Get);
        Assert.Equal("done", quick.ReadResponse(timeoutMs: Long).Text);
        slow.ReadToEnd(Long);
        slower.ReadToEnd(Long);
        running.Await(static m => m.Connections == 0);
        List<AppServerEvent> events = [.. running.Events.Read()];
        int firstFreed = events.FindIndex(static e => e.Kind == AppServerEventKind.Closed);
        Assert.InRange(firstFreed, 0, events.FindIndex(static e => e.Kind == AppServerEventKind.Started));
    }

    [Fact]
    public void Slow_clients_cost_loops_nothing()
    {
        using Running running = Running.With(Concurrency.EventDriven(1), static (request, response) =>
            response.Write("done"));
        List<RawClient> slow = [.. Enumerable.Range(0, 50).Select(_ => running.Connect().Send("GET / HT"))];
        using RawClient quick = running.Connect().Send(Get);
        Assert.Equal("done", quick.ReadResponse(timeoutMs: Long).Text);
        Assert.DoesNotContain(running.Events.Read(), static e => e.Kind == AppServerEventKind.Closed
            && e.Request == 0 && e.Status != 0);
        slow.ForEach(static c => c.Dispose());
    }

    [Theory]
    [InlineData("sequential")]
    [InlineData("thread-pool")]
    [InlineData("thread-per-connection")]
    public void An_idle_connection_gives_its_thread_to_whoever_waits(string model)
    {
        Concurrency one = model switch
        {
            "sequential" => Concurrency.Sequential,
            "thread-pool" => Concurrency.ThreadPool(1, 5),
            _ => Concurrency.ThreadPerConnection(1),
        };
        using Running running = Running.With(one, static (request, response) => response.Write("done"));
        using RawClient idle = running.Connect();
        Assert.Equal("done", idle.Get("/").Text);
        running.Await(static m => m.Idle == 1);
        using RawClient other = running.Connect().Send(Get);
        Assert.Equal("done", other.ReadResponse(timeoutMs: Long).Text);
        Assert.True(idle.WaitClosed(Long));
    }

    [Fact]
    public void A_request_whose_time_is_up_in_the_queue_never_reaches_its_handler()
    {
        using var crowd = new Crowd();
        using Running running = Running.With(Concurrency.EventDrivenWithThreadPool(1, 1, 10), crowd.Handle,
            static o => o.HandlerTimeout = TimeSpan.FromMilliseconds(300));
        List<RawClient> clients = Ask(running, 3);
        foreach (RawClient client in clients)
        {
            Assert.Equal(503, client.ReadResponse(timeoutMs: Long).Status);
            client.Dispose();
        }
        Assert.Equal(1, running.Metrics.Stuck);
        Assert.Equal(3, running.Metrics.TimedOut);
        crowd.LetGo();
        running.Await(static m => m is { Stuck: 0, Running: 0, Queued: 0 });
        Assert.Single(running.Events.Read(), static e => e.Kind == AppServerEventKind.Started);
    }

    [Theory]
    [InlineData("sequential")]
    [InlineData("thread-per-connection")]
    [InlineData("thread-pool")]
    [InlineData("event-driven-thread-pool")]
    public void Models_with_threads_say_what_a_thread_costs(string model)
    {
        using Running running = Running.Sync(model, static (request, response) => response.Write("x"),
            static o => o.LogLevel = AppLogLevel.Information);
        using RawClient client = running.Connect().Send(Get);
        client.ReadResponse(timeoutMs: Long);
        running.Await(static m => m is { ThreadStackReservedBytes: > 0, ThreadStackCommittedBytes: > 0 });
        running.Await(m => running.Log.Contains("KiB of address space"));
        Assert.InRange(running.Metrics.ThreadStackCommittedBytes, 4096, running.Metrics.ThreadStackReservedBytes);
    }

    [Theory]
    [MemberData(nameof(Models.All), MemberType = typeof(Models))]
    public void Instruments_tell_what_the_snapshot_tells(string model)
    {
        var seen = new System.Collections.Concurrent.ConcurrentDictionary<string, double>();
        using var listener = new MeterListener
        {
            InstrumentPublished = static (instrument, l) =>
            {
                if (instrument.Meter.Name == "Weir.Server")
                {
                    l.EnableMeasurementEvents(instrument);
                }
            },
        };
        // Several servers run in this process: the tag of an instrument's meter is not among those of a measurement.
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) =>
        {
            if (tags.Length == 0)
            {
                seen[instrument.Name] = value;
            }
            foreach (KeyValuePair<string, object?> tag in tags)
            {
                if (tag is { Key: "http.response.status_code", Value: 418 })
                {
                    seen[instrument.Name] = value;
                }
            }
        });
        listener.Start();
        using Running running = Running.Sync(model, static (request, response) => response.StatusCode = 418);
        using RawClient client = running.Connect().Send(Get);
        Assert.Equal(418, client.ReadResponse(timeoutMs: Long).Status);
        running.Await(m => seen.ContainsKey("http.server.request.duration"));
        Assert.InRange(seen["http.server.request.duration"], 0, 30);
        client.Dispose();
        running.Await(m => m.Connections == 0 && seen.ContainsKey("weir.server.connection.duration"));
        Assert.InRange(seen["weir.server.connection.duration"], 0, 300);
    }
}
