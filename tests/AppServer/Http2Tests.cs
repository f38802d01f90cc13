// HTTP/2 on the event-driven models, over TLS and by prior knowledge: what handlers see and what clients get, frame by
// frame where it matters. The blocking models' refusal is in HttpsTests.
using System.Net;
using System.Text;
using Weir.Loop;
using Weir.Protocol.Http2;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class Http2Tests
{
    private const int Long = 30_000;

    private static readonly TestAuthority _authority = new();
    private static readonly TestCertificate _issued = _authority.Issue(names: ["localhost", "127.0.0.1"]);

    private static readonly string[] _models =
        ["event-driven", "event-driven-2", "event-driven-thread-pool", "event-driven-task-pool"];

    public static TheoryData<string, bool> All
    {
        get
        {
            var data = new TheoryData<string, bool>();
            foreach (string model in _models)
            {
                data.Add(model, true);
                data.Add(model, false);
            }
            return data;
        }
    }

    private static Running Start(string model, bool tls, Func<AppRequest, AppResponse, Task> handler,
        Action<AppServerOptions>? set = null) => new(model, handler, o =>
    {
        if (tls)
        {
            o.Listen.Clear();
            o.ListenHttps("127.0.0.1:0", static h =>
                h.Certificate = ServerCertificate.FromPem(_issued.Pem, _issued.KeyPem));
        }
        set?.Invoke(o);
    });

    private static Http2Client Connect(Running running, bool tls) =>
        tls ? Http2Client.ConnectTls(running.Port) : Http2Client.Connect(running.Port);

    [Theory]
    [MemberData(nameof(All))]
    public void A_request_is_answered_and_its_handler_sees_what_it_is(string model, bool tls)
    {
        using Running running = Start(model, tls, static (request, response) =>
        {
            response.Headers["X-Seen"] = $"{request.HttpVersion} {request.Scheme} {request.Method} {request.Path}?"
                + $"{request.Query} {request.Host} {request.Security?.ApplicationProtocol}";
            response.Write("Hello World\n");
            return Task.CompletedTask;
        });
        using Http2Client client = Connect(running, tls);
        for (int i = 0; i < 3; i++)
        {
            Http2Answer answer = client.Get("/a%20b?c=d");
            Assert.Equal(200, answer.Status);
            Assert.Equal("Hello World\n", answer.Text);
            Assert.Equal("12", answer["content-length"]);
            Assert.Equal("weir", answer["server"]);
            Assert.NotNull(answer["date"]);
            Assert.StartsWith(tls ? "2.0 https GET /a b?c=d " : "2.0 http GET /a b?c=d ", answer["x-seen"]);
            Assert.EndsWith(tls ? " h2" : " ", answer["x-seen"]);
        }
        running.Await(static m => m is { Answered: 3, Accepted: 1, Running: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Streams_of_one_connection_run_side_by_side(string model, bool tls)
    {
        int together = 0;
        var all = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using Running running = Start(model, tls, async (request, response) =>
        {
            if (Interlocked.Increment(ref together) == 3)
            {
                all.SetResult();
            }
            await all.Task;
            response.Write(request.Path);
        });
        using Http2Client client = Connect(running, tls);
        int[] streams = [.. Enumerable.Range(0, 3).Select(i => client.Begin($"/{i}"))];
        for (int i = 0; i < streams.Length; i++)
        {
            Assert.Equal($"/{i}", client.ReadAnswer(streams[i]).Text);
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task A_large_body_goes_either_way_within_the_windows(string model, bool tls)
    {
        using Running running = Start(model, tls, static async (request, response) =>
            await response.WriteAsync(await System.Security.Cryptography.SHA256.HashDataAsync(request.Body)));
        using Running sender = Start(model, tls, static (_, response) => response.WriteAsync(Large()).AsTask());
        using var handler = new SocketsHttpHandler();
        handler.SslOptions.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
        using var client = new HttpClient(handler)
        {
            DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        string url = tls ? "https://127.0.0.1:" : "http://127.0.0.1:";
        using var content = new ByteArrayContent(Large());
        using HttpResponseMessage answer = await client.PostAsync($"{url}{running.Port}/", content);
        Assert.Equal(HttpVersion.Version20, answer.Version);
        Assert.Equal(System.Security.Cryptography.SHA256.HashData(Large()),
            await answer.Content.ReadAsByteArrayAsync());
        Assert.Equal(Large(), await client.GetByteArrayAsync($"{url}{sender.Port}/"));
    }

    private static byte[] Large()
    {
        byte[] body = new byte[3_000_000];
        new Random(1).NextBytes(body);
        return body;
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_writer_waits_for_the_clients_window_and_a_reader_opens_it(string model, bool tls)
    {
        long written = 0;
        using Running running = Start(model, tls, async (_, response) =>
        {
            byte[] block = new byte[16 * 1024];
            for (int i = 0; i < 100; i++)
            {
                await response.WriteAsync(block);
                await response.FlushAsync();
                Interlocked.Add(ref written, block.Length);
            }
        });
        using Http2Client client = Connect(running, tls);
        int stream = client.Begin("/");
        int got = 0;
        while (got < Http2Limits.WindowDefault)
        {
            got += client.ReadUntil(FrameType.Data, stream)!.Payload.Length;
        }
        Assert.Equal(Http2Limits.WindowDefault, got);
        client.Settle();
        Assert.InRange(Interlocked.Read(ref written), 0, 100 * 16 * 1024 - 1);
        client.Send(Http2Client.WindowUpdate(0, 10_000_000)).Send(Http2Client.WindowUpdate(stream, 10_000_000));
        Http2Frame frame;
        do
        {
            frame = client.ReadUntil(FrameType.Data, stream)!;
            got += frame.Payload.Length;
        }
        while (!frame.EndsStream);
        Assert.Equal(100 * 16 * 1024, got);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Trailers_go_both_ways(string model, bool tls)
    {
        using Running running = Start(model, tls, static async (request, response) =>
        {
            string text = await request.ReadTextAsync();
            response.ExpectTrailers();
            await response.WriteAsync(text);
            await response.FlushAsync();
            response.Trailers.Add("x-sum", text.Length.ToString());
            response.Trailers.Add("x-heard", request.Trailers["x-from"] ?? "nothing");
        });
        using Http2Client client = Connect(running, tls);
        int stream = client.Begin("/", "POST", end: false);
        client.Send(Http2Client.Data(stream, "body", end: false));
        client.Send(Http2Client.Headers(stream, true, "x-from: client"));
        Http2Answer answer = client.ReadAnswer(stream);
        Assert.Equal("body", answer.Text);
        Assert.Contains(("x-sum", "4"), answer.Trailers);
        Assert.Contains(("x-heard", "client"), answer.Trailers);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_stream_that_the_client_resets_cancels_its_handler_alone(string model, bool tls)
    {
        using var cancelled = new ManualResetEventSlim();
        using var entered = new ManualResetEventSlim();
        using Running running = Start(model, tls, async (request, response) =>
        {
            if (request.Path == "/other")
            {
                response.Write("fine");
                return;
            }
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
        using Http2Client client = Connect(running, tls);
        int stream = client.Begin("/wait");
        Assert.True(entered.Wait(Long));
        client.Send(Http2Client.RstStream(stream, Http2Error.Cancel));
        Assert.True(cancelled.Wait(Long));
        Assert.Equal("fine", client.Get("/other").Text);
        running.Await(static m => m is { Running: 0, Connections: 1, Failed: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_handler_resets_its_stream_with_a_code_of_its_own(string model, bool tls)
    {
        using Running running = Start(model, tls, static async (request, response) =>
        {
            if (request.Path == "/late")
            {
                await response.WriteAsync("begun");
                await response.FlushAsync();
            }
            response.Reset((int)Http2Error.EnhanceYourCalm);
        });
        using Http2Client client = Connect(running, tls);
        Assert.Equal(Http2Error.EnhanceYourCalm, client.Get("/").Reset);
        Assert.Equal(Http2Error.EnhanceYourCalm, client.Get("/late").Reset);
        Assert.Null(client.GoAway);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_handler_that_throws_costs_its_stream_and_nobody_elses(string model, bool tls)
    {
        using Running running = Start(model, tls, static async (request, response) =>
        {
            if (request.Path == "/late")
            {
                await response.WriteAsync("begun");
                await response.FlushAsync();
            }
            if (request.Path != "/good")
            {
                throw new InvalidOperationException("on purpose");
            }
        });
        using Http2Client client = Connect(running, tls);
        Assert.Equal(500, client.Get("/").Status);
        Assert.Equal(Http2Error.InternalError, client.Get("/late").Reset);
        Assert.Equal(200, client.Get("/good").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_handler_past_its_time_is_answered_for(string model, bool tls)
    {
        using var release = new ManualResetEventSlim();
        using Running running = Start(model, tls, async (_, _) =>
        {
            await Task.Yield();
            release.Wait(Long);
        }, static o => o.HandlerTimeout = TimeSpan.FromMilliseconds(100));
        using Http2Client client = Connect(running, tls);
        int stream = client.Begin("/");
        if (Models.Of(model).Kind == ConcurrencyKind.EventDriven)
        {
            running.Await(static m => m.TimedOut == 1);
            release.Set();
        }
        Assert.Equal(503, client.ReadAnswer(stream).Status);
        release.Set();
        running.Await(static m => m is { Stuck: 0, Running: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_stop_says_GOAWAY_and_lets_streams_end(string model, bool tls)
    {
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var entered = new ManualResetEventSlim();
        using Running running = Start(model, tls, async (_, response) =>
        {
            entered.Set();
            await release.Task;
            response.Write("to the end");
        });
        using Http2Client client = Connect(running, tls);
        int stream = client.Begin("/");
        Assert.True(entered.Wait(Long));
        Task stopping = running.Server.StopAsync();
        Assert.NotNull(client.ReadUntil(FrameType.GoAway));
        release.SetResult();
        Assert.Equal("to the end", client.ReadAnswer(stream).Text);
        client.Dispose();
        Assert.True(Wait.Until(() => stopping.IsCompleted));
    }

    [Fact]
    public void A_stop_does_not_wait_for_a_client_that_has_read_everything_and_stays()
    {
        using Port port = Port.Lease();
        WebServerOptions options = WebServerOptions.FromText($$"""
            events { }
            http {
                access_log off;
                lingering_time 1h;
                lingering_timeout 1h;
                server { listen 127.0.0.1:{{port.Number}}; http2 on; return 200 all; }
            }
            """);
        using var ready = new ManualResetEventSlim();
        var loop = new EpollLoop();
        WebServer? server = null;
        var thread = new Thread(() =>
        {
            server = WebServer.TryStart(loop, options, out _);
            ready.Set();
            server!.Drained = loop.Stop;
            loop.Run();
            server.Dispose();
        });
        thread.Start();
        Assert.True(ready.Wait(Long));
        using Http2Client client = Http2Client.Connect(port.Number);
        Assert.Equal("all", client.Get("/").Text);
        loop.Post(server!.Quit);
        // Ours stays open to the end; whoever does not answer is given the hour.
        while (client.ReadFrame() is { } frame)
        {
            if (frame.Type == FrameType.Ping && !frame.Has(FrameFlags.Ack))
            {
                client.Send(Http2Client.Frame(FrameType.Ping, FrameFlags.Ack, 0, frame.Payload));
            }
        }
        Assert.True(thread.Join(Long));
        loop.Dispose();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_a_handler_writes_while_it_holds_its_loop_waits_in_a_file_beyond_the_bound(bool tls)
    {
        const int block = 64 * 1024, blocks = 320;
        using var written = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        using Running running = Running.Sync("event-driven", (_, response) =>
        {
            byte[] bytes = new byte[block];
            for (int i = 0; i < blocks; i++)
            {
                Array.Fill(bytes, (byte)i);
                response.Write(bytes);
            }
            written.Set();
            release.Wait(Long);
        }, o =>
        {
            o.MaxUnsentBytes = 100_000;
            if (tls)
            {
                o.Listen.Clear();
                o.ListenHttps("127.0.0.1:0", static h =>
                    h.Certificate = ServerCertificate.FromPem(_issued.Pem, _issued.KeyPem));
            }
        });
        using Http2Client client = Connect(running, tls);
        int stream = client.Begin("/");
        Assert.True(written.Wait(Long));
        Assert.Contains(Spilled(), static bytes => bytes is > (blocks - 8) * block and <= blocks * block);
        release.Set();
        byte[] body = [.. client.ReadAnswer(stream).Body];
        Assert.Equal(blocks * block, body.Length);
        for (int i = 0; i < blocks; i++)
        {
            Assert.Equal(-1, body.AsSpan(i * block, block).IndexOfAnyExcept((byte)i));
        }
        running.Await(static m => m is { Running: 0, Failed: 0 });
    }

    /// <summary>The sizes of files of this process that have no name.</summary>
    private static List<long> Spilled()
    {
        var sizes = new List<long>();
        foreach (string entry in Directory.GetFiles("/proc/self/fd"))
        {
            try
            {
                if (new FileInfo(entry).LinkTarget is { } target && target.StartsWith(Path.GetTempPath(),
                    StringComparison.Ordinal) && target.EndsWith(" (deleted)", StringComparison.Ordinal))
                {
                    using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(entry);
                    sizes.Add(RandomAccess.GetLength(file));
                }
            }
            catch (IOException)
            {
                // It was closed meanwhile: another test's.
            }
        }
        return sizes;
    }

    [Theory]
    [MemberData(nameof(All))]
    public void More_streams_than_are_allowed_are_refused(string model, bool tls)
    {
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using Running running = Start(model, tls, (_, _) => release.Task, static o => o.Http2MaxStreams = 2);
        using Http2Client client = Connect(running, tls);
        int[] streams = [client.Begin("/"), client.Begin("/"), client.Begin("/")];
        Assert.Equal(Http2Error.RefusedStream, client.ReadAnswer(streams[2]).Reset);
        Assert.Equal(2u, client.ServerSettings[SettingId.MaxConcurrentStreams]);
        release.SetResult();
        Assert.Equal(200, client.ReadAnswer(streams[0]).Status);
        Assert.Equal(200, client.ReadAnswer(streams[1]).Status);
    }

    [Theory]
    [InlineData("event-driven", true)]
    [InlineData("event-driven-task-pool", false)]
    public void A_flood_of_resets_ends_the_connection(string model, bool tls)
    {
        using Running running = Start(model, tls, static (request, _) => Task.Delay(Timeout.Infinite, request.Aborted));
        using Http2Client client = Connect(running, tls);
        bool open = true;
        for (int i = 0; i < 2000 && open; i++)
        {
            int stream = (2 * i) + 1;
            open = client.TrySend([.. Http2Client.Headers(stream, true, Http2Client.Request("/")),
                .. Http2Client.RstStream(stream, Http2Error.Cancel)]);
        }
        Assert.Equal(Http2Error.EnhanceYourCalm, client.ReadUntil(FrameType.GoAway)!.Error);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void HTTP_2_that_is_switched_off_is_not_spoken(string model, bool tls)
    {
        using Running running = Start(model, tls, static (_, response) =>
        {
            response.Write("hello");
            return Task.CompletedTask;
        }, static o => o.Http2 = false);
        if (tls)
        {
            using TlsClient client = TlsClient.Connect(running.Port, alpn: ["h2", "http/1.1"]);
            Assert.Equal("http/1.1", client.Stream.NegotiatedApplicationProtocol.ToString());
            Assert.Equal("hello", client.Get("/").Text);
            return;
        }
        using RawClient prior = running.Connect();
        prior.Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 400 ", Encoding.Latin1.GetString(prior.ReadToEnd(Long)));
    }

    [NeedsTheory("curl", "h2load")]
    [InlineData("event-driven-2")]
    [InlineData("event-driven-thread-pool")]
    public void Curl_and_h2load_are_served(string model)
    {
        using Running running = Start(model, true, static (_, response) =>
        {
            response.Write("Hello World\n");
            return Task.CompletedTask;
        });
        string url = $"https://127.0.0.1:{running.Port}/";
        foreach (string version in (string[])["--http1.1", "--http2"])
        {
            (_, string output, string errors) = ChildProcess.Run("curl", Long,
                ["-sk", version, "-w", "%{http_version}", url]);
            Assert.Equal($"Hello World\n{(version == "--http2" ? "2" : "1.1")}", (output + errors).TrimEnd());
        }
        (int code, string report, _) = ChildProcess.Run("h2load", Long, ["-n2000", "-c4", "-m16", url]);
        Assert.Equal(0, code);
        Assert.Contains("2000 succeeded, 0 failed, 0 errored", report, StringComparison.Ordinal);
    }
}
