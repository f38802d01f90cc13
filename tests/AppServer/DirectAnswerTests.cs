// Small answers that the handler's own thread gives to the kernel: the same bytes as the loop would send, in order
// whatever the kernel takes of them, and never on a connection that has become another's.
using System.Text;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class DirectAnswerTests
{
    private const int Long = 30_000;

    public static TheoryData<string, LoopEngine> Pools => new()
    {
        { "event-driven-task-pool", LoopEngine.Epoll },
        { "event-driven-task-pool", LoopEngine.IoUring },
        { "event-driven-thread-pool", LoopEngine.Epoll },
        { "event-driven-thread-pool", LoopEngine.IoUring },
    };

    /// <summary>Without an observer: one that measures makes the loop hear of every end at once.</summary>
    private static Server.AppServer Start(string model, LoopEngine engine, Func<AppRequest, AppResponse, Task> handler,
        Action<AppServerOptions>? set = null)
    {
        var options = new AppServerOptions
        {
            Concurrency = Models.Of(model),
            Engine = engine,
            KeepAliveRequests = 1_000_000,
            StopTimeout = TimeSpan.FromSeconds(10),
            Log = static (_, _) => { },
        };
        options.Listen.Add("127.0.0.1:0");
        set?.Invoke(options);
        var server = new Server.AppServer(options);
        server.Start(handler);
        return server;
    }

    private static Task Answer(AppRequest request, AppResponse response)
    {
        switch (request.Path)
        {
            case "/type":
                response.ContentType = "text/plain; charset=utf-8";
                response.Write("typed");
                break;
            case "/own":
                response.Headers.Add("Server", "other");
                response.Headers.Add("Date", "Thu, 01 Jan 1970 00:00:00 GMT");
                response.Write("own");
                break;
            case "/fields":
                response.StatusCode = 201;
                response.Headers.Add("Set-Cookie", "a=1");
                response.Headers.Add("Location", "/there");
                response.Headers.Add("Set-Cookie", "b=2");
                response.Headers.Add("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT");
                response.Headers.Add("ETag", "\"x\"");
                response.Headers.Add("Cache-Control", "no-store");
                response.Write("fields");
                break;
            case "/empty":
                break;
            case "/no-content":
                response.StatusCode = 204;
                break;
            case "/odd-status":
                response.StatusCode = 299;
                response.Write("odd");
                break;
            case "/close":
                response.Headers.Add("Connection", "close");
                response.Write("bye");
                break;
            case "/many-fields":
                for (int i = 0; i < 40; i++)
                {
                    response.Headers.Add($"X-Field-{i}", new string('v', i));
                }
                response.Write("many");
                break;
            case "/promised":
                response.ContentLength = 4;
                response.Write("four");
                break;
            default:
                response.StatusCode = 404;
                response.Write(new string('x', int.Parse(request.Path[1..])));
                break;
        }
        return Task.CompletedTask;
    }

    [Theory]
    [MemberData(nameof(Pools))]
    public void An_answer_of_the_handlers_thread_is_byte_for_byte_that_of_the_loop(string model, LoopEngine engine)
    {
        using Server.AppServer server = Start(model, engine, Answer);
        foreach (string path in (string[])["/type", "/own", "/fields", "/empty", "/no-content", "/odd-status", "/close",
            "/many-fields", "/promised", "/1", "/3583", "/3584", "/3585", "/20000"])
        {
            string get = $"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n";
            string end = "GET /type HTTP/1.0\r\n\r\n";
            using RawClient alone = RawClient.Connect(server.Port).Send(get);
            HttpResponse direct = alone.ReadResponse(timeoutMs: Long);
            // What follows in the same bytes makes the loop send the first.
            using RawClient pipelined = RawClient.Connect(server.Port).Send(get + end);
            HttpResponse byLoop = pipelined.ReadResponse(timeoutMs: Long);
            Assert.Equal(WithoutDate(byLoop), WithoutDate(direct));
            Assert.Equal(byLoop.Text, direct.Text);
            Assert.Equal(path != "/close", alone.TrySend(Encoding.ASCII.GetBytes(end)) && Again(alone));
        }

        static bool Again(RawClient client)
        {
            byte[] rest = client.ReadToEnd(Long);
            return Encoding.ASCII.GetString(rest).StartsWith("HTTP/1.1 200 OK\r\n", StringComparison.Ordinal);
        }
    }

    private static string WithoutDate(HttpResponse response)
    {
        string raw = Encoding.Latin1.GetString(response.Raw);
        string head = raw[..raw.IndexOf("\r\n\r\n", StringComparison.Ordinal)];
        int at = head.IndexOf("\r\nDate: ", StringComparison.Ordinal);
        return at < 0 || head[at..].Contains("1970", StringComparison.Ordinal) && head.Contains("Server: other",
            StringComparison.Ordinal) ? head : head.Remove(at, "\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT".Length);
    }

    [Theory]
    [MemberData(nameof(Pools))]
    public void Answers_that_nobody_reads_yet_keep_their_order_and_their_bytes(string model, LoopEngine engine)
    {
        using Server.AppServer server = Start(model, engine, static async (request, response) =>
        {
            int number = int.Parse(request.Path[1..]);
            if (number % 5 == 0)
            {
                await Task.Yield();
            }
            response.Write(Body(number));
        }, static o => o.Observer = new AppEventRing());
        using RawClient client = RawClient.Connect(server.Port);
        client.Socket.ReceiveBufferSize = 64 * 1024;
        // One after the other, until the kernel's buffers are full of what is not read and no answer ends any more.
        int asked = 0;
        for (int stood = 0; asked < 1000 && stood < 300;)
        {
            client.Send($"GET /{asked} HTTP/1.1\r\nHost: a\r\n\r\n");
            asked++;
            for (stood = 0; server.GetMetrics().Answered < asked && stood < 300; stood++)
            {
                Thread.Sleep(1);
            }
        }
        // Two more at once are the loop's to answer.
        client.Send($"GET /{asked} HTTP/1.1\r\nHost: a\r\n\r\nGET /{asked + 1} HTTP/1.1\r\nHost: a\r\n\r\n");
        asked += 2;
        for (int i = 0; i < asked; i++)
        {
            Assert.Equal(Body(i), client.ReadResponse(timeoutMs: Long).Text);
        }

        static string Body(int number) => $"{number}:" + new string((char)('a' + number % 26), 3400 + number % 100);
    }

    [Theory]
    [MemberData(nameof(Pools))]
    public void A_body_that_was_read_does_not_change_the_answer(string model, LoopEngine engine)
    {
        using Server.AppServer server = Start(model, engine, static async (request, response) =>
            response.Write("got " + await request.ReadTextAsync()));
        using RawClient client = RawClient.Connect(server.Port);
        for (int i = 0; i < 50; i++)
        {
            string body = $"number {i}";
            client.Send($"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {body.Length}\r\n\r\n");
            client.Send(body);
            Assert.Equal("got " + body, client.ReadResponse(timeoutMs: Long).Text);
            client.Send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
            Assert.Equal("got ab", client.ReadResponse(timeoutMs: Long).Text);
        }
    }

    [Theory]
    [MemberData(nameof(Pools))]
    public void Clients_that_go_at_any_moment_leave_nothing_behind(string model, LoopEngine engine)
    {
        using Server.AppServer server = Start(model, engine, static async (request, response) =>
        {
            if (request.Path.Length % 2 == 0)
            {
                await Task.Yield();
            }
            response.Write(new string('x', 2000));
        });
        Parallel.For(0, 300, new ParallelOptions { MaxDegreeOfParallelism = 8 }, i =>
        {
            using RawClient client = RawClient.Connect(server.Port);
            client.Send($"GET /{new string('p', i % 7)} HTTP/1.1\r\nHost: a\r\n\r\n");
            if (i % 3 == 0)
            {
                Assert.Equal(2000, client.ReadResponse(timeoutMs: Long).Body.Length);
                client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            if (i % 2 == 0)
            {
                client.Reset();
            }
        });
        using RawClient last = RawClient.Connect(server.Port);
        Assert.Equal(200, last.Get("/").Status);
        for (int i = 0; i < 3000 && server.GetMetrics() is not { Connections: 1, Running: 0 }; i++)
        {
            Thread.Sleep(10);
        }
        Assert.Equal(1, server.GetMetrics().Connections);
        Assert.Equal(0, server.GetMetrics().Failed);
    }

    [Theory]
    [MemberData(nameof(Pools))]
    public void A_stop_without_patience_under_load_ends(string model, LoopEngine engine)
    {
        for (int round = 0; round < 3; round++)
        {
            using Server.AppServer server = Start(model, engine, static async (_, response) =>
            {
                await Task.Yield();
                response.Write("x");
            }, static o => o.StopTimeout = TimeSpan.Zero);
            int port = server.Port;
            var clients = new Thread[4];
            var begun = new CountdownEvent(clients.Length);
            for (int t = 0; t < clients.Length; t++)
            {
                clients[t] = new Thread(() =>
                {
                    using RawClient client = RawClient.Connect(port);
                    byte[] get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"u8.ToArray();
                    bool first = true;
                    while (client.TrySend(get) && client.WaitForBytes(Long) && client.Ending == Ending.Open)
                    {
                        client.ReadResponse(timeoutMs: Long);
                        if (first)
                        {
                            begun.Signal();
                        }
                        first = false;
                    }
                });
                clients[t].Start();
            }
            begun.Wait(Long);
            server.Dispose();
            foreach (Thread client in clients)
            {
                Assert.True(client.Join(Long));
            }
        }
    }
}
