// HTTP/1.1 over real sockets, byte for byte, against an ASP.NET Core application: the cases that every concurrency
// model of the application server passes, and those that only ASP.NET Core has.
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Weir.AspNetCore;
using Weir.Tests.Harness;
using Xunit;
using HttpResponse = Weir.Tests.Harness.HttpResponse;

namespace Weir.Tests.AspNetCore;

public sealed class HttpTests
{
    public static TheoryData<RequestPlacement> Everywhere => Hosted.Everywhere;

    private const int Long = 30_000;

    private static void Map(WebApplication app) => app.Run(async context =>
    {
        HttpRequest request = context.Request;
        Microsoft.AspNetCore.Http.HttpResponse response = context.Response;
        switch (request.Path)
        {
            case "/hello":
                response.ContentType = "text/plain";
                await response.WriteAsync("Hello World\n");
                break;
            case "/echo":
                await request.Body.CopyToAsync(response.Body);
                break;
            case "/chunks":
                for (int i = 0; i < 3; i++)
                {
                    await response.WriteAsync($"piece {i}\n");
                    await Task.Yield();
                }
                break;
            case "/trailers":
                response.DeclareTrailer("X-Sum");
                await response.WriteAsync("body");
                response.AppendTrailer("X-Sum", "4");
                break;
            case "/large":
                byte[] block = new byte[64 * 1024];
                for (int i = 0; i < 24; i++)
                {
                    Array.Fill(block, (byte)('a' + i));
                    await response.Body.WriteAsync(block);
                }
                break;
            case "/delay":
                await Task.Delay(20);
                await response.WriteAsync("later\n");
                break;
            case "/throw":
                throw new InvalidOperationException("on purpose");
            case "/throw-late":
                await response.WriteAsync("begun");
                throw new InvalidOperationException("too late");
            case "/short":
                response.ContentLength = 10;
                break;
            case "/short-late":
                response.ContentLength = 10;
                await response.WriteAsync("short");
                break;
            case "/long":
                response.ContentLength = 2;
                try
                {
                    await response.WriteAsync("too long");
                }
                catch (InvalidOperationException)
                {
                    await response.WriteAsync("ok");
                }
                break;
            case "/status":
                response.StatusCode = int.Parse(request.Query["code"]!);
                response.Headers.Append("Set-Cookie", "a=1");
                response.Headers.Append("Set-Cookie", "b=2");
                response.Headers["X-Query"] = request.QueryString.Value;
                break;
            case "/who":
                await response.WriteAsync($"{request.Method} {request.Path}{request.QueryString} {request.Protocol} "
                    + $"{request.Host} {request.Headers["X-Test"]}");
                break;
            default:
                response.StatusCode = 404;
                await response.WriteAsync("nothing here\n");
                break;
        }
    });

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task An_answer_that_was_whole_has_a_length_and_the_connection_stays(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        for (int i = 0; i < 5; i++)
        {
            HttpResponse answer = client.Get("/hello");
            Assert.Equal(200, answer.Status);
            Assert.Equal("Hello World\n", answer.Text);
            if (placement == RequestPlacement.Inline)
            {
                // On a thread of its own the answer may be caught on its way, and then it is in chunks.
                Assert.Equal("12", answer["Content-Length"]);
            }
            Assert.Equal("text/plain", answer["Content-Type"]);
            Assert.Equal("weir", answer["Server"]);
            Assert.NotNull(answer["Date"]);
        }
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Pipelined_requests_are_answered_in_order(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        client.Send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /delay HTTP/1.1\r\nHost: a\r\n\r\n"
            + "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /chunks HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal("Hello World\n", client.ReadResponse(timeoutMs: Long).Text);
        Assert.Equal("later\n", client.ReadResponse(timeoutMs: Long).Text);
        Assert.Equal("abc", client.ReadResponse(timeoutMs: Long).Text);
        Assert.Equal("piece 0\npiece 1\npiece 2\n", client.ReadResponse(timeoutMs: Long).Text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_chunked_body_is_read_and_an_answer_in_steps_is_chunked(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.Send("3\r\nabc\r\n");
        client.Send("5;x=y\r\ndefgh\r\n0\r\nX-T: v\r\n\r\n");
        Assert.Equal("abcdefgh", client.ReadResponse(timeoutMs: Long).Text);
        HttpResponse chunks = client.Get("/chunks");
        Assert.Equal("chunked", chunks["Transfer-Encoding"]);
        Assert.Equal("piece 0\npiece 1\npiece 2\n", chunks.Text);
        Assert.Equal(200, client.Get("/hello").Status);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Trailers_follow_a_chunked_body(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        client.Send("GET /trailers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        string text = Encoding.Latin1.GetString(client.ReadToEnd(Long));
        Assert.EndsWith("4\r\nbody\r\n0\r\nX-Sum: 4\r\n\r\n", text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_large_body_goes_both_ways(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        HttpResponse large = client.Send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").ReadResponse(timeoutMs: Long);
        Assert.Equal(24 * 64 * 1024, large.Body.Length);
        Assert.Equal('x', (char)large.Body[^1]);
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
    [MemberData(nameof(Everywhere))]
    public async Task HEAD_has_the_length_and_no_body(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        client.Send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        HttpResponse head = client.ReadResponse(answersHead: true, timeoutMs: Long);
        if (placement == RequestPlacement.Inline)
        {
            Assert.Equal("12", head["Content-Length"]);
        }
        Assert.Equal("Hello World\n", client.Get("/hello").Text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task HTTP_1_0_is_answered_without_chunks_and_closed(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        client.Send("GET /chunks HTTP/1.0\r\n\r\n");
        string text = Encoding.Latin1.GetString(client.ReadToEnd(Long));
        Assert.DoesNotContain("chunked", text);
        Assert.EndsWith("\r\n\r\npiece 0\npiece 1\npiece 2\n", text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_client_that_asks_first_is_told_to_continue_when_the_body_is_read(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        Assert.Equal(100, client.ReadResponse(timeoutMs: Long).Status);
        client.Send("hello");
        Assert.Equal("hello", client.ReadResponse(timeoutMs: Long).Text);
        using RawClient unwanted = hosted.Connect();
        unwanted.Send("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        Assert.Equal(404, unwanted.ReadResponse(timeoutMs: Long).Status);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_body_that_nobody_read_does_not_disturb_the_next_request(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        client.Send("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
            + "GET /who/../who?x=1%202 HTTP/1.1\r\nHost: example:80\r\nX-Test: t\r\nx-test: u\r\n\r\n");
        Assert.Equal("Hello World\n", client.ReadResponse(timeoutMs: Long).Text);
        Assert.Equal("GET /who?x=1%202 HTTP/1.1 example:80 t,u", client.ReadResponse(timeoutMs: Long).Text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task What_is_no_request_is_answered_400_and_closed(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        foreach (string bad in new[]
        {
            "GET /hello HTTP/1.1\r\n\r\n",
            "GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "G<T /hello HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /hello HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        })
        {
            using RawClient client = hosted.Connect();
            HttpResponse answer = client.Send(bad).ReadResponse(timeoutMs: Long);
            Assert.Equal(400, answer.Status);
            Assert.Equal("close", answer["Connection"]);
            client.ReadToEnd(Long);
        }
        using RawClient good = hosted.Connect();
        Assert.Equal(200, good.Get("/hello").Status);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_malformed_chunk_is_answered_400_and_closed(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
        Assert.Equal(400, client.ReadResponse(timeoutMs: Long).Status);
        client.ReadToEnd(Long);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_body_larger_than_allowed_is_answered_413(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map,
            set: static o => o.Limits.MaxRequestBodySize = 4);
        using RawClient counted = hosted.Connect();
        counted.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        Assert.Equal(413, counted.ReadResponse(timeoutMs: Long).Status);
        using RawClient chunked = hosted.Connect();
        chunked.Send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        Assert.Equal(413, chunked.ReadResponse(timeoutMs: Long).Status);
        using RawClient just = hosted.Connect();
        Assert.Equal("four", just.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour")
            .ReadResponse(timeoutMs: Long).Text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task An_exception_before_the_start_is_a_500_and_after_it_the_end_of_the_connection(
        RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        Assert.Equal(500, client.Get("/throw").Status);
        using RawClient late = hosted.Connect();
        late.Send("GET /throw-late HTTP/1.1\r\nHost: a\r\n\r\n");
        string text = Encoding.Latin1.GetString(late.ReadToEnd(Long));
        Assert.DoesNotContain("500", text);
        Assert.DoesNotContain("0\r\n\r\n", text);
        using RawClient other = hosted.Connect();
        Assert.Equal(200, other.Get("/hello").Status);
        await hosted.WaitForLogAsync("on purpose");
        Assert.Contains("Error Weir.AspNetCore: ", hosted.Log);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task An_answer_that_breaks_its_promised_length_does_not_look_complete(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        Assert.Equal("ok", client.Get("/long").Text);
        Assert.Equal(500, client.Get("/short").Status);
        using RawClient late = hosted.Connect();
        late.Send("GET /short-late HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.DoesNotContain("500", Encoding.Latin1.GetString(late.ReadToEnd(Long)));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Status_fields_and_repeated_fields_arrive(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        HttpResponse answer = client.Get("/status?code=201");
        Assert.Equal(201, answer.Status);
        Assert.Equal(["a=1", "b=2"], answer.All("Set-Cookie"));
        Assert.Equal("?code=201", answer["X-Query"]);
        Assert.Equal("0", answer["Content-Length"]);
        Assert.Null(client.Get("/status?code=204")["Content-Length"]);
        Assert.Equal(304, client.Get("/status?code=304").Status);
        Assert.Equal(200, client.Get("/hello").Status);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_head_in_single_bytes_is_one_request(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map);
        using RawClient client = hosted.Connect();
        byte[] bytes = Encoding.ASCII.GetBytes("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
        client.SendSplit(bytes, [.. Enumerable.Range(1, bytes.Length - 1)]);
        Assert.Equal("ok", client.ReadResponse(timeoutMs: Long).Text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task The_last_request_allowed_is_answered_with_close(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Map,
            set: static o => o.Limits.MaxRequestsPerConnection = 2);
        using RawClient client = hosted.Connect();
        Assert.Equal("keep-alive", client.Get("/hello")["Connection"]);
        Assert.Equal("close", client.Get("/hello")["Connection"]);
        Assert.True(client.WaitClosed(Long));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Paths_are_decoded_except_for_an_escaped_slash(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static c =>
            c.Response.WriteAsync($"{c.Request.Path.Value} {c.Features.Get<IHttpRequestFeature>()!.RawTarget}",
                Encoding.UTF8)));
        using RawClient client = hosted.Connect();
        Assert.Equal("/a b/c%2Fd /a%20b/./x/../c%2Fd", client.Get("/a%20b/./x/../c%2Fd").Text);
        Assert.Equal("/\u00e4 /%C3%A4", Encoding.UTF8.GetString(client.Get("/%C3%A4").Body));
        Assert.Equal("//a /" + "/a", client.Get("//a").Text);
        Assert.Equal("/x http://h/x", client.Get("http://h/x").Text);
        Assert.Equal("/ /", client.Get("/").Text);
    }
}
