// Every limit of the application server at one less, at the limit, and at one more, under every concurrency model; and
// what has not left yet, held at its bound.
using System.Net.Sockets;
using System.Text;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class LimitTests
{
    public static TheoryData<string> All => Models.All;

    private const int Long = 30_000;

    private static async Task Echo(AppRequest request, AppResponse response)
    {
        string text = await request.ReadTextAsync();
        response.Write($"{text.Length} {request.Trailers["X-T"]?.Length}");
    }

    private static int Ask(Running running, string request)
    {
        using RawClient client = running.Connect();
        return client.Send(request).ReadResponse(timeoutMs: Long).Status;
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_request_line_and_a_field_may_take_a_quarter_of_the_head(string model)
    {
        using var running = new Running(model, Echo, o => o.MaxHeadBytes = 8192);
        foreach ((int length, int line, int field) in new[] { (2047, 200, 200), (2048, 200, 200), (2049, 414, 400) })
        {
            // With their line ends.
            const string around = "GET / HTTP/1.1\r\n";
            string target = "/" + new string('a', length - around.Length);
            Assert.Equal(line, Ask(running, $"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            string value = new('v', length - "X: \r\n".Length);
            Assert.Equal(field, Ask(running, $"GET / HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n"));
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_head_may_be_as_large_as_the_option_and_a_first_kilobyte(string model)
    {
        using var running = new Running(model, Echo, o => o.MaxHeadBytes = 8192);
        foreach ((int length, int status) in new[] { (9215, 200), (9216, 200), (9217, 400) })
        {
            Assert.Equal(status, Ask(running, Head(length)));
        }

        static string Head(int length)
        {
            var head = new StringBuilder("GET / HTTP/1.1\r\nHost: a\r\n");
            while (length - head.Length - 2 > 1100)
            {
                head.Append("X: ").Append('v', 995).Append("\r\n");
            }
            int value = length - head.Length - "X: \r\n\r\n".Length;
            head.Append("X: ").Append('v', value).Append("\r\n\r\n");
            Assert.Equal(length, head.Length);
            return head.ToString();
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Trailers_are_bounded_as_the_head_is(string model)
    {
        using var running = new Running(model, Echo, o => o.MaxHeadBytes = 8192);
        foreach ((int length, int status) in new[] { (9215, 200), (9216, 200), (9217, 400) })
        {
            string value = new('v', length - "X-T: \r\n".Length);
            using RawClient client = running.Connect();
            client.Send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
                + $"X-T: {value}\r\n\r\n");
            HttpResponse answer = client.ReadResponse(timeoutMs: Long);
            Assert.Equal(status, answer.Status);
            if (status == 200)
            {
                Assert.Equal($"3 {value.Length}", answer.Text);
            }
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_body_may_be_as_large_as_the_option(string model)
    {
        using var running = new Running(model, Echo, o => o.MaxBodyBytes = 5000);
        foreach ((int length, int status) in new[] { (4999, 200), (5000, 200), (5001, 413) })
        {
            string body = new('b', length);
            Assert.Equal(status, Ask(running,
                $"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"));
            Assert.Equal(status, Ask(running, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                + $"{length:x}\r\n{body}\r\n0\r\n\r\n"));
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_connection_has_as_many_requests_as_the_option_says(string model)
    {
        using var running = new Running(model, Echo, o => o.KeepAliveRequests = 3);
        using RawClient client = running.Connect();
        Assert.Equal("keep-alive", client.Get("/")["Connection"]);
        Assert.Equal("keep-alive", client.Get("/")["Connection"]);
        Assert.Equal("close", client.Get("/")["Connection"]);
        Assert.True(client.WaitClosed(Long));
    }

    [Theory]
    [InlineData("thread-per-connection")]
    [InlineData("thread-pool")]
    [InlineData("event-driven")]
    [InlineData("event-driven-thread-pool")]
    [InlineData("event-driven-task-pool")]
    public void As_many_connections_are_served_as_the_option_says_and_the_next_is_closed(string model)
    {
        using var running = new Running(model, Echo, o => o.MaxConnections = 3);
        var within = new List<RawClient>();
        for (int i = 1; i <= 3; i++)
        {
            // Within a request, so that none is idle and makes room.
            RawClient client = running.Connect();
            within.Add(client.Send("GET / HTTP/1.1\r\nHost: a\r\n"));
            int open = i;
            running.Await(m => m.Connections == open && m.Refused == 0);
        }
        using (RawClient beyond = running.Connect())
        {
            Assert.Empty(beyond.ReadToEnd(Long));
        }
        running.Await(static m => m is { Refused: 1, Connections: 3 });
        foreach (RawClient client in within)
        {
            Assert.Equal(200, client.Send("Connection: close\r\n\r\n").ReadResponse(timeoutMs: Long).Status);
            client.Dispose();
        }
        running.Await(static m => m.Connections == 0);
        Assert.Equal(200, Ask(running, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    }

    [Theory]
    [InlineData("thread-per-connection", 3)]
    [InlineData("thread-pool", 2)]
    [InlineData("event-driven-thread-pool", 2)]
    public void As_many_run_and_wait_as_there_is_room_for_and_the_next_is_refused(string model, int threads)
    {
        const int room = 3;
        Concurrency concurrency = model switch
        {
            "thread-per-connection" => Concurrency.ThreadPerConnection(room),
            "thread-pool" => Concurrency.ThreadPool(threads, room - threads),
            _ => Concurrency.EventDrivenWithThreadPool(1, threads, room - threads),
        };
        using var release = new ManualResetEventSlim();
        using Running running = Running.With(concurrency, (_, response) =>
        {
            release.Wait();
            response.Write("ran");
        });
        var within = new List<RawClient>();
        for (int i = 1; i <= room; i++)
        {
            within.Add(running.Connect().Send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
            int all = i;
            running.Await(m => m.Running + m.Queued == all && m.Running == Math.Min(all, threads) && m.Refused == 0);
        }
        using (RawClient beyond = running.Connect())
        {
            HttpResponse refused = beyond.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ReadResponse(timeoutMs: Long);
            Assert.Equal(503, refused.Status);
            Assert.Equal("1", refused["Retry-After"]);
        }
        release.Set();
        foreach (RawClient client in within)
        {
            Assert.Equal("ran", client.ReadResponse(timeoutMs: Long).Text);
            client.Dispose();
        }
        Assert.Equal(1, running.Metrics.Refused);
    }

    // What has not left. Over a unix socket, whose buffers in the kernel are small and of a known size.

    private const int Blocks = 64, BlockBytes = 64 * 1024;

    public static TheoryData<string, bool, LoopEngine> Writers
    {
        get
        {
            var all = new TheoryData<string, bool, LoopEngine>();
            foreach (string model in Models.Names)
            {
                all.Add(model, true, LoopEngine.Best);
                all.Add(model, false, LoopEngine.Best);
            }
            all.Add("event-driven", true, LoopEngine.Epoll);
            return all;
        }
    }

    [Theory]
    [MemberData(nameof(Writers))]
    public void A_handler_that_writes_faster_than_its_client_reads_is_held_at_the_bound(string model, bool sync,
        LoopEngine engine)
    {
        long written = 0;
        var failed = new TaskCompletionSource<Exception>();
        using var directory = new TempDir();
        string path = directory.At("s");
        void Set(AppServerOptions options)
        {
            options.Listen.Clear();
            options.Listen.Add("unix:" + path);
            options.Engine = engine;
            options.MaxUnsentBytes = 100_000;
        }
        void Write(AppRequest request, AppResponse response)
        {
            response.ContentLength = Blocks * BlockBytes;
            for (int i = 0; i < Blocks; i++)
            {
                response.Write(Block(i));
                Interlocked.Add(ref written, BlockBytes);
            }
        }
        async Task WriteAsync(AppRequest request, AppResponse response)
        {
            response.ContentLength = Blocks * BlockBytes;
            for (int i = 0; i < Blocks; i++)
            {
                await response.WriteAsync(Block(i));
                Interlocked.Add(ref written, BlockBytes);
            }
        }
        using Running running = sync ? Running.Sync(model, Write, Set) : new Running(model, WriteAsync, Set);
        using RawClient client = RawClient.Connect(new UnixDomainSocketEndPoint(path));
        client.Send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        long before = -1;
        for (int same = 0; same < 20;)
        {
            Thread.Sleep(10);
            long now = Interlocked.Read(ref written);
            same = now == before && now > 0 ? same + 1 : 0;
            before = now;
        }
        // The bound, a piece of 64 KiB, the block that is being written, and what the kernel keeps of a unix socket.
        Assert.InRange(before, 1, 1_000_000);
        byte[] all = new byte[Blocks * BlockBytes + 10_000];
        int end = 0;
        client.Socket.ReceiveTimeout = Long;
        for (int n; (n = client.Socket.Receive(all.AsSpan(end))) > 0;)
        {
            end += n;
        }
        int start = end - Blocks * BlockBytes;
        Assert.EndsWith("\r\n\r\n", Encoding.ASCII.GetString(all, 0, start));
        for (int i = 0; i < Blocks; i++)
        {
            Assert.True(Block(i).AsSpan().SequenceEqual(all.AsSpan(start + i * BlockBytes, BlockBytes)));
        }
        running.Await(static m => m is { Running: 0, Failed: 0, Answered: 1 });
    }

    private static byte[] Block(int number)
    {
        byte[] block = new byte[BlockBytes];
        Array.Fill(block, (byte)number);
        return block;
    }

    [Theory]
    [MemberData(nameof(All))]
    public void One_large_write_is_held_like_many_small_ones(string model)
    {
        using Running running = Running.Sync(model, static (_, response) =>
        {
            response.Write(new byte[1_000_000]);
            response.Write("end");
        }, static o => o.MaxUnsentBytes = 0);
        using RawClient client = running.Connect();
        HttpResponse answer = client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ReadResponse(timeoutMs: Long);
        Assert.Equal(1_000_003, answer.Body.Length);
        Assert.EndsWith("end", answer.Text);
        running.Await(static m => m is { Running: 0, Failed: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_writer_that_is_held_hears_when_its_client_takes_nothing_any_more(string model)
    {
        using var told = new ManualResetEventSlim();
        using Running running = Running.Sync(model, (request, response) =>
        {
            try
            {
                for (int i = 0; i < 10_000; i++)
                {
                    response.Write(new byte[BlockBytes]);
                }
            }
            catch (IOException)
            {
                told.Set();
                throw;
            }
        }, o => o.SendTimeout = TimeSpan.FromMilliseconds(200));
        using RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.True(told.Wait(Long));
        running.Await(static m => m is { Running: 0, Failed: 0, Connections: 0 });
    }
}
