// Time, room and ends under every concurrency model: slow clients, clients that leave, handlers that take too long,
// full queues, a stop under load. Claims are about order and counts, never about how long something took.
using System.Text;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class LifeTests
{
    public static TheoryData<string> All => Models.All;

    private const int Long = 30_000;

    private static readonly TimeSpan _soon = TimeSpan.FromMilliseconds(200);

    private static void Hello(AppRequest request, AppResponse response) => response.Write("Hello World\n");

    [Theory]
    [MemberData(nameof(All))]
    public void A_client_that_sends_half_a_head_is_closed_at_the_header_timeout(string model)
    {
        using Running running = Running.Sync(model, Hello, o => o.HeaderTimeout = _soon);
        using RawClient half = running.Connect();
        half.Send("GET / HTTP/1.1\r\nHos");
        half.ReadToEnd(Long);
        using RawClient silent = running.Connect();
        silent.ReadToEnd(Long);
        using RawClient good = running.Connect();
        Assert.Equal(200, good.Get("/").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_connection_that_idles_too_long_is_closed(string model)
    {
        using Running running = Running.Sync(model, Hello, o => o.IdleTimeout = _soon);
        using RawClient client = running.Connect();
        Assert.Equal(200, client.Get("/").Status);
        Assert.True(client.WaitClosed(Long));
        running.Await(static m => m.Connections == 0);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_body_that_does_not_come_ends_with_408(string model)
    {
        using var running = new Running(model, static async (request, response) =>
            response.Write(await request.ReadTextAsync()), o => o.BodyTimeout = _soon);
        using RawClient client = running.Connect();
        client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        string text = Encoding.Latin1.GetString(client.ReadToEnd(Long));
        Assert.True(text.Length == 0 || text.StartsWith("HTTP/1.1 408 "), text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_client_that_goes_cancels_its_handler(string model)
    {
        using var cancelled = new ManualResetEventSlim();
        using var entered = new ManualResetEventSlim();
        using var running = new Running(model, async (request, response) =>
        {
            entered.Set();
            try
            {
                await Task.Delay(Timeout.Infinite, request.Aborted);
            }
            finally
            {
                cancelled.Set();
            }
        });
        RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.True(entered.Wait(Long));
        client.Dispose();
        Assert.True(cancelled.Wait(Long));
        running.Await(static m => m is { Running: 0, Connections: 0, Failed: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_writer_whose_client_went_is_told(string model)
    {
        using var ended = new ManualResetEventSlim();
        using var running = new Running(model, async (request, response) =>
        {
            byte[] block = new byte[64 * 1024];
            try
            {
                while (true)
                {
                    await response.WriteAsync(block);
                }
            }
            finally
            {
                ended.Set();
            }
        });
        RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal(100_000, client.ReadBytes(100_000, Long).Length);
        client.Reset();
        Assert.True(ended.Wait(Long));
        running.Await(static m => m is { Running: 0, Connections: 0, Failed: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_client_that_takes_nothing_is_closed_at_the_send_timeout(string model)
    {
        using var ended = new ManualResetEventSlim();
        using var running = new Running(model, async (request, response) =>
        {
            byte[] block = new byte[64 * 1024];
            try
            {
                for (int i = 0; i < 10_000; i++)
                {
                    await response.WriteAsync(block);
                }
            }
            finally
            {
                ended.Set();
            }
        }, o => o.SendTimeout = _soon);
        using RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.True(ended.Wait(Long));
        running.Await(static m => m.Running == 0);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_handler_past_its_time_is_answered_for_and_counted_until_it_comes_back(string model)
    {
        using var release = new ManualResetEventSlim();
        using Running running = Running.Sync(model, (request, response) =>
        {
            if (request.Path == "/stuck")
            {
                release.Wait();
                response.Write("too late");
            }
        }, o => o.HandlerTimeout = _soon);
        using RawClient client = running.Connect();
        client.Send("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
        HttpResponse answer = client.ReadResponse(timeoutMs: Long);
        Assert.Equal(503, answer.Status);
        Assert.Equal("1", answer["Retry-After"]);
        running.Await(static m => m is { Stuck: 1, TimedOut: 1 });
        release.Set();
        running.Await(static m => m is { Stuck: 0, TimedOut: 1, Running: 0 });
        Assert.Equal("", Encoding.Latin1.GetString(client.ReadToEnd(Long)));
        using RawClient good = running.Connect();
        Assert.Equal(200, good.Get("/").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void An_answer_that_has_begun_when_the_time_is_up_is_cut(string model)
    {
        using var running = new Running(model, async (request, response) =>
        {
            response.Write("begun");
            await response.FlushAsync();
            await Task.Delay(Timeout.Infinite, request.Aborted);
        }, o => o.HandlerTimeout = _soon);
        using RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        string text = Encoding.Latin1.GetString(client.ReadToEnd(Long));
        Assert.StartsWith("HTTP/1.1 200 OK\r\n", text);
        Assert.DoesNotContain("0\r\n\r\n", text);
        running.Await(static m => m is { Stuck: 0, Running: 0, Connections: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task A_stop_finishes_what_runs_and_accepts_nobody(string model)
    {
        using var entered = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        using Running running = Running.Sync(model, (request, response) =>
        {
            entered.Set();
            release.Wait();
            response.Write("finished");
        });
        using RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.True(entered.Wait(Long));
        Task stop = running.Server.StopAsync();
        release.Set();
        Assert.Equal("finished", client.ReadResponse(timeoutMs: Long).Text);
        client.ReadToEnd(Long);
        await stop.WaitAsync(TimeSpan.FromMilliseconds(Long));
        Assert.ThrowsAny<System.Net.Sockets.SocketException>(() => running.Connect());
        running.Await(static m => m is { Connections: 0, Running: 0, Threads: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task A_stop_without_patience_tells_handlers_and_cuts_clients_off(string model)
    {
        using var entered = new ManualResetEventSlim();
        using var running = new Running(model, async (request, response) =>
        {
            entered.Set();
            await Task.Delay(Timeout.Infinite, request.Aborted);
        }, o => o.StopTimeout = _soon);
        using RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.True(entered.Wait(Long));
        await running.Server.StopAsync().WaitAsync(TimeSpan.FromMilliseconds(Long));
        client.ReadToEnd(Long);
        running.Await(static m => m.Running == 0);
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task A_handler_that_comes_back_after_the_stop_still_runs_to_its_end(string model)
    {
        using var entered = new ManualResetEventSlim();
        using var ended = new ManualResetEventSlim();
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var running = new Running(model, async (request, response) =>
        {
            entered.Set();
            try
            {
                await release.Task;
                response.Write("too late");
                await Task.Yield();
            }
            finally
            {
                ended.Set();
            }
        }, o => o.StopTimeout = _soon);
        using RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.True(entered.Wait(Long));
        await running.Server.StopAsync().WaitAsync(TimeSpan.FromMilliseconds(Long));
        Assert.Empty(client.ReadToEnd(Long));
        release.SetResult();
        Assert.True(ended.Wait(Long));
        running.Await(static m => m is { Running: 0, Stuck: 0, Connections: 0, Threads: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task A_stop_without_patience_cuts_off_the_client_of_a_handler_that_holds_its_thread(string model)
    {
        using var entered = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        using Running running = Running.Sync(model, (request, response) =>
        {
            entered.Set();
            release.Wait();
            response.Write("too late");
        }, o => o.StopTimeout = _soon);
        using RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.True(entered.Wait(Long));
        using RawClient silent = running.Connect();
        await running.Server.StopAsync().WaitAsync(TimeSpan.FromMilliseconds(Long));
        Assert.Empty(client.ReadToEnd(Long));
        release.Set();
        running.Await(static m => m is { Running: 0, Stuck: 0, Connections: 0, Threads: 0 });
        silent.ReadToEnd(Long);
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task A_stop_under_load_loses_no_request_that_had_begun(string model)
    {
        using Running running = Running.Sync(model, Hello);
        int asked = 0;
        int answered = 0;
        var clients = new List<Thread>();
        for (int i = 0; i < 4; i++)
        {
            var thread = new Thread(() =>
            {
                try
                {
                    while (true)
                    {
                        using RawClient client = running.Connect();
                        client.Send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                        Interlocked.Increment(ref asked);
                        Assert.Equal(200, client.ReadResponse(timeoutMs: Long).Status);
                        Interlocked.Increment(ref answered);
                    }
                }
                catch (Exception e) when (e is System.Net.Sockets.SocketException or EndOfStreamException)
                {
                    // Refused, or in the backlog when that was closed.
                }
            });
            clients.Add(thread);
            thread.Start();
        }
        running.Await(static m => m.Answered > 100);
        await running.Server.StopAsync().WaitAsync(TimeSpan.FromMilliseconds(Long));
        foreach (Thread thread in clients)
        {
            thread.Join();
        }
        // At most the one request of each client that the kernel had and the server had not.
        Assert.InRange(answered, asked - 4, asked);
        Assert.Equal(0, running.Metrics.Connections);
        Assert.InRange(running.Metrics.Answered, answered, asked);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void One_connection_beyond_the_most_allowed_is_closed(string model)
    {
        using Running running = Running.Sync(model, static (request, response) => response.Write("x"),
            o => o.MaxConnections = 2);
        using RawClient first = running.Connect();
        using RawClient second = running.Connect();
        if (model is "sequential")
        {
            // There is only ever one.
            Assert.Equal(200, first.Get("/", "Connection: close").Status);
            Assert.Equal(200, second.Get("/").Status);
            return;
        }
        // Within a request, so that no idle one can make room.
        first.Send("GET / HTTP/1.1\r\nHost: a\r\n");
        second.Send("GET / HTTP/1.1\r\nHost: a\r\n");
        running.Await(static m => m.Accepted >= 2);
        var others = new List<RawClient>();
        for (int i = 0; i < 6; i++)
        {
            others.Add(running.Connect());
        }
        running.Await(static m => m.Refused > 0);
        first.Send("\r\n");
        second.Send("\r\n");
        others.ForEach(static o => o.Dispose());
        Assert.Equal(200, first.ReadResponse(timeoutMs: Long).Status);
    }

    [Fact]
    public void A_port_in_use_names_who_holds_it()
    {
        using Running running = Running.Sync("event-driven", Hello);
        var options = new AppServerOptions();
        options.Listen.Add($"127.0.0.1:{running.Port}");
        IOException e = Assert.Throws<IOException>(() => new Server.AppServer(options).Start(Hello));
        Assert.Contains($"(pid {Environment.ProcessId})", e.Message);
    }

    [Fact]
    public void The_path_of_a_unix_socket_in_use_names_who_holds_it()
    {
        using var directory = new TempDir();
        string path = directory.At("a b.sock");
        using Running running = Running.Sync("event-driven", Hello, o => o.Listen.Add("unix:" + path));
        var options = new AppServerOptions();
        options.Listen.Add("unix:" + path);
        IOException e = Assert.Throws<IOException>(() => new Server.AppServer(options).Start(Hello));
        Assert.Contains(": it is in use by ", e.Message);
        Assert.Contains($"(pid {Environment.ProcessId})", e.Message);
        Assert.True(File.Exists(path));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Unix_sockets_and_IPv6_are_served_too(string model)
    {
        string path = Path.Combine(Path.GetTempPath(), $"weir-app-{Environment.ProcessId}-{model}.sock");
        using (Running running = Running.Sync(model, static (request, response) =>
            response.Write(request.RemoteEndPoint!.AddressFamily.ToString()), o =>
        {
            o.Listen.Add("unix:" + path);
            if (System.Net.Sockets.Socket.OSSupportsIPv6)
            {
                o.Listen.Add("[::1]:0");
            }
        }))
        {
            using (RawClient unix = RawClient.Connect(new System.Net.Sockets.UnixDomainSocketEndPoint(path)))
            {
                Assert.Equal("Unix", unix.Get("/", "Connection: close").Text);
            }
            if (running.Server.Addresses.Count > 2)
            {
                int port = int.Parse(running.Server.Addresses[2].Split(':')[^1]);
                using RawClient six = RawClient.Connect(
                    new System.Net.IPEndPoint(System.Net.IPAddress.IPv6Loopback, port));
                Assert.Equal("InterNetworkV6", six.Get("/").Text);
            }
        }
        Assert.False(File.Exists(path));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void An_AsyncLocal_of_one_request_is_not_seen_by_the_next(string model)
    {
        var local = new AsyncLocal<string?>();
        using var running = new Running(model, async (request, response) =>
        {
            response.Write(local.Value ?? "clean");
            local.Value = "dirty";
            await Task.Yield();
        });
        using RawClient client = running.Connect();
        for (int i = 0; i < 8; i++)
        {
            Assert.Equal("clean", client.Get("/").Text);
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_request_that_is_kept_too_long_is_cut_off_from_the_server(string model)
    {
        AppRequest? kept = null;
        using Running running = Running.Sync(model, (request, response) => kept = request);
        using RawClient client = running.Connect();
        Assert.Equal(200, client.Get("/").Status);
        running.Await(static m => m.Running == 0);
        Assert.Throws<ObjectDisposedException>(() => kept!.Headers.Count);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Events_tell_the_story_of_a_request_in_order(string model)
    {
        using Running running = Running.Sync(model, Hello);
        using (RawClient client = running.Connect())
        {
            Assert.Equal(200, client.Get("/").Status);
        }
        running.Await(static m => m.Connections == 0);
        AppServerEvent[] events = running.Events.Read();
        AppServerEventKind[] order = [.. events.Select(static e => e.Kind).Where(static k => k is not
            (AppServerEventKind.Queued or AppServerEventKind.Taken))];
        // Only where a thread takes a whole connection is there a moment when it does.
        Assert.Equal(model is "sequential" or "thread-per-connection" or "thread-pool" ? 1 : 0,
            events.Count(static e => e.Kind == AppServerEventKind.Taken));
        Assert.Equal(
        [
            AppServerEventKind.Accepted, AppServerEventKind.Received, AppServerEventKind.Started,
            AppServerEventKind.Answered, AppServerEventKind.Closed,
        ], order);
        Assert.All(events, e => Assert.Equal(events[0].Connection, e.Connection));
        Assert.Equal(events.Select(static e => e.TimeUs).Order(), events.Select(static e => e.TimeUs));
        Assert.Equal(200, Assert.Single(events, static e => e.Kind == AppServerEventKind.Answered).Status);
        bool queues = model is "thread-pool" or "event-driven-thread-pool";
        Assert.Equal(queues, events.Any(static e => e.Kind == AppServerEventKind.Queued));
    }
}
