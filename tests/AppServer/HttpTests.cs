// The same HTTP/1.1 cases against every concurrency model: raw bytes over real sockets.
using System.Text;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class HttpTests
{
    public static TheoryData<string> All => Models.All;

    private const int Long = 30_000;

    private static async Task Serve(AppRequest request, AppResponse response)
    {
        response.ContentType = "text/plain";
        switch (request.Path)
        {
            case "/hello":
                response.Write("Hello World\n");
                break;
            case "/echo":
                await CopyAsync(request.Body, response);
                break;
            case "/chunks":
                for (int i = 0; i < 3; i++)
                {
                    await response.WriteAsync($"piece {i}\n");
                    await response.FlushAsync();
                }
                break;
            case "/trailers":
                response.ExpectTrailers();
                await response.WriteAsync("body");
                await response.FlushAsync();
                response.Trailers.Add("X-Sum", "4");
                break;
            case "/large":
                byte[] block = new byte[64 * 1024];
                for (int i = 0; i < 24; i++)
                {
                    Array.Fill(block, (byte)('a' + (i % 26)));
                    await response.WriteAsync(block);
                }
                break;
            case "/delay":
                await Task.Delay(20);
                response.Write("later\n");
                break;
            case "/throw":
                throw new InvalidOperationException("on purpose");
            case "/throw-late":
                await response.WriteAsync("begun");
                await response.FlushAsync();
                throw new InvalidOperationException("too late");
            case "/short":
                response.ContentLength = 10;
                response.Write("short");
                break;
            case "/status":
                response.StatusCode = int.Parse(request.QueryValue("code")!);
                response.Headers.Add("Set-Cookie", "a=1");
                response.Headers.Add("Set-Cookie", "b=2");
                response.Headers["X-Query"] = request.Query;
                break;
            case "/who":
                response.Write($"{request.Method} {request.Target} {request.HttpVersion} {request.Host} "
                    + $"{request.Headers["X-Test"]}");
                break;
            case "/early":
                response.SendInterim(103, new KeyValuePair<string, string>("Link", "</a.css>; rel=preload"));
                response.Write("done");
                break;
            default:
                response.StatusCode = 404;
                response.Write("nothing here\n");
                break;
        }
    }

    private static async Task CopyAsync(Stream body, AppResponse response)
    {
        byte[] buffer = new byte[10_000];
        while (true)
        {
            int n = await body.ReadAsync(buffer);
            if (n == 0)
            {
                return;
            }
            await response.WriteAsync(buffer.AsMemory(0, n));
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void An_answer_that_was_whole_has_a_length_and_the_connection_stays(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        for (int i = 0; i < 5; i++)
        {
            HttpResponse answer = client.Get("/hello");
            Assert.Equal(200, answer.Status);
            Assert.Equal("Hello World\n", answer.Text);
            Assert.Equal("12", answer["Content-Length"]);
            Assert.Equal("text/plain", answer["Content-Type"]);
            Assert.Equal("weir", answer["Server"]);
            Assert.NotNull(answer["Date"]);
        }
        running.Await(static m => m is { Answered: 5, Connections: 1, Accepted: 1, Running: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Pipelined_requests_are_answered_in_order(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /delay HTTP/1.1\r\nHost: a\r\n\r\n"
            + "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /chunks HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal("Hello World\n", client.ReadResponse().Text);
        Assert.Equal("later\n", client.ReadResponse().Text);
        Assert.Equal("abc", client.ReadResponse().Text);
        Assert.Equal("piece 0\npiece 1\npiece 2\n", client.ReadResponse().Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_chunked_body_is_read_and_a_flushed_answer_is_chunked(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.Send("3\r\nabc\r\n");
        client.Send("5;x=y\r\ndefgh\r\n0\r\nX-T: v\r\n\r\n");
        Assert.Equal("abcdefgh", client.ReadResponse().Text);
        HttpResponse chunks = client.Get("/chunks");
        Assert.Equal("chunked", chunks["Transfer-Encoding"]);
        Assert.Equal("piece 0\npiece 1\npiece 2\n", chunks.Text);
        Assert.Equal(200, client.Get("/hello").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Trailers_follow_a_chunked_body(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("GET /trailers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        string text = Encoding.Latin1.GetString(client.ReadToEnd(Long));
        Assert.EndsWith("4\r\nbody\r\n0\r\nX-Sum: 4\r\n\r\n", text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_large_body_goes_both_ways(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        HttpResponse large = client.Send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").ReadResponse(timeoutMs: Long);
        Assert.Equal(24 * 64 * 1024, large.Body.Length);
        byte[] body = new byte[600_000];
        new Random(1).NextBytes(body);
        // Sent beside the reading: an echo of this size would fill both directions.
        var sender = new Thread(() =>
        {
            client.Send($"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {body.Length}\r\n\r\n");
            client.Send(body);
        });
        sender.Start();
        HttpResponse echoed = client.ReadResponse(timeoutMs: Long);
        sender.Join();
        Assert.Equal(body, echoed.Body);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void HEAD_has_the_length_and_no_body(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        HttpResponse head = client.ReadResponse(answersHead: true);
        Assert.Equal("12", head["Content-Length"]);
        Assert.Equal("Hello World\n", client.Get("/hello").Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void HTTP_1_0_is_answered_without_chunks_and_closed(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("GET /chunks HTTP/1.0\r\n\r\n");
        string text = Encoding.Latin1.GetString(client.ReadToEnd(Long));
        Assert.DoesNotContain("chunked", text);
        Assert.EndsWith("\r\n\r\npiece 0\npiece 1\npiece 2\n", text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_client_that_asks_first_is_told_to_continue_when_the_body_is_read(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        Assert.Equal(100, client.ReadResponse().Status);
        client.Send("hello");
        HttpResponse answer = client.ReadResponse();
        Assert.Equal(200, answer.Status);
        Assert.Equal("hello", answer.Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_client_that_asks_first_and_is_not_wanted_gets_the_answer_and_no_continue(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        HttpResponse answer = client.ReadResponse();
        Assert.Equal(404, answer.Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_body_that_nobody_read_does_not_disturb_the_next_request(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
            + "GET /who?x=1 HTTP/1.1\r\nHost: Example:80\r\nX-Test: t\r\n\r\n");
        Assert.Equal("Hello World\n", client.ReadResponse().Text);
        Assert.Equal("GET /who?x=1 1.1 Example t", client.ReadResponse().Text, ignoreCase: true);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void What_is_no_request_is_answered_400_and_closed(string model)
    {
        using var running = new Running(model, Serve);
        foreach (string bad in new[]
        {
            "GET /hello HTTP/1.1\r\n\r\n",
            "GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "G<T /hello HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /hello HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        })
        {
            using RawClient client = running.Connect();
            HttpResponse answer = client.Send(bad).ReadResponse();
            Assert.Equal(400, answer.Status);
            Assert.Equal("close", answer["Connection"]);
            client.ReadToEnd(Long);
        }
        using RawClient good = running.Connect();
        Assert.Equal(200, good.Get("/hello").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_malformed_chunk_is_answered_400_and_closed(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
        Assert.Equal(400, client.ReadResponse().Status);
        client.ReadToEnd(Long);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_head_that_is_too_large_is_refused(string model)
    {
        using var running = new Running(model, Serve, o => o.MaxHeadBytes = 8192);
        using RawClient line = running.Connect();
        Assert.Equal(414, line.Send($"GET /{new string('a', 9000)} HTTP/1.1\r\nHost: a\r\n\r\n").ReadResponse().Status);
        using RawClient field = running.Connect();
        field.Send($"GET / HTTP/1.1\r\nHost: a\r\nX: {new string('a', 9000)}\r\n\r\n");
        Assert.Equal(400, field.ReadResponse().Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_body_larger_than_allowed_is_answered_413(string model)
    {
        using var running = new Running(model, Serve, o => o.MaxBodyBytes = 4);
        using RawClient counted = running.Connect();
        counted.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        Assert.Equal(413, counted.ReadResponse().Status);
        using RawClient chunked = running.Connect();
        chunked.Send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        Assert.Equal(413, chunked.ReadResponse().Status);
        using RawClient just = running.Connect();
        Assert.Equal("four", just.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour")
            .ReadResponse().Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_handler_that_throws_answers_500_and_costs_nobody_else(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        Assert.Equal(500, client.Get("/throw").Status);
        using RawClient other = running.Connect();
        Assert.Equal(200, other.Get("/hello").Status);
        running.Await(static m => m.Failed == 1);
        Assert.Contains("on purpose", running.Log);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_handler_that_throws_after_the_head_left_ends_the_connection_without_an_end_of_body(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("GET /throw-late HTTP/1.1\r\nHost: a\r\n\r\n");
        string text = Encoding.Latin1.GetString(client.ReadToEnd(Long));
        Assert.DoesNotContain("0\r\n\r\n", text);
        using RawClient other = running.Connect();
        Assert.Equal(200, other.Get("/hello").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void An_answer_that_falls_short_of_its_length_does_not_look_complete(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        Assert.Equal(500, client.Get("/short").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Status_fields_and_repeated_fields_arrive(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        HttpResponse answer = client.Get("/status?code=201");
        Assert.Equal(201, answer.Status);
        Assert.Equal(["a=1", "b=2"], answer.All("Set-Cookie"));
        Assert.Equal("code=201", answer["X-Query"]);
        Assert.Equal("0", answer["Content-Length"]);
        HttpResponse none = client.Get("/status?code=204");
        Assert.Null(none["Content-Length"]);
        Assert.Equal(304, client.Get("/status?code=304").Status);
        Assert.Equal(200, client.Get("/hello").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void An_interim_answer_goes_before_the_answer(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        client.Send("GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
        HttpResponse early = client.ReadResponse();
        Assert.Equal(103, early.Status);
        Assert.Equal("</a.css>; rel=preload", early["Link"]);
        Assert.Equal("done", client.ReadResponse().Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_head_in_single_bytes_is_one_request(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        byte[] bytes = Encoding.ASCII.GetBytes("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
        client.SendSplit(bytes, [.. Enumerable.Range(1, bytes.Length - 1)]);
        Assert.Equal("ok", client.ReadResponse().Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void The_last_request_allowed_is_answered_with_close(string model)
    {
        using var running = new Running(model, Serve, o => o.KeepAliveRequests = 2);
        using RawClient client = running.Connect();
        Assert.Equal("keep-alive", client.Get("/hello")["Connection"]);
        Assert.Equal("close", client.Get("/hello")["Connection"]);
        Assert.True(client.WaitClosed(Long));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Synchronous_handlers_read_and_write_too(string model)
    {
        using Running running = Running.Sync(model, static (request, response) =>
        {
            using var reader = new StreamReader(request.Body);
            string text = reader.ReadToEnd();
            for (int i = 0; i < 20; i++)
            {
                response.Write(text);
            }
        });
        using RawClient client = running.Connect();
        string body = new('x', 100_000);
        client.Send($"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {body.Length}\r\n\r\n{body}");
        Assert.Equal(2_000_000, client.ReadResponse(timeoutMs: Long).Body.Length);
    }
}
