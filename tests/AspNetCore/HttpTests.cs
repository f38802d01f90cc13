// HTTP/1.1 beneath ASP.NET Core: the table that every concurrency model of the application server passes too
// (tests/Harness/HttpCases.cs), against its application written for ASP.NET Core; and what only ASP.NET Core has.
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Weir.AspNetCore;
using Weir.Tests.Harness;
using Xunit;
using HttpResponse = Weir.Tests.Harness.HttpResponse;
using Paths = Weir.Tests.Harness.HttpCases.Paths;

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
            case Paths.Hello:
                response.ContentType = "text/plain";
                await response.WriteAsync("Hello World\n");
                break;
            case Paths.Echo:
                await request.Body.CopyToAsync(response.Body);
                break;
            case Paths.Chunks:
                for (int i = 0; i < 3; i++)
                {
                    await response.WriteAsync($"piece {i}\n");
                    await Task.Yield();
                }
                break;
            case Paths.Trailers:
                response.DeclareTrailer("X-Sum");
                await response.WriteAsync("body");
                response.AppendTrailer("X-Sum", "4");
                break;
            case Paths.RequestTrailers:
                await request.Body.CopyToAsync(response.Body);
                await response.WriteAsync($" {request.GetTrailer("X-Sum")}");
                break;
            case Paths.Large:
                byte[] block = new byte[HttpCases.LargeBlockBytes];
                for (int i = 0; i < HttpCases.LargeBlocks; i++)
                {
                    Array.Fill(block, (byte)('a' + i));
                    await response.Body.WriteAsync(block);
                }
                break;
            case Paths.Delay:
                await Task.Delay(20);
                await response.WriteAsync("later\n");
                break;
            case Paths.Throw:
                throw new InvalidOperationException("on purpose");
            case Paths.ThrowLate:
                await response.WriteAsync("begun");
                throw new InvalidOperationException("too late");
            case Paths.Short:
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
            case Paths.Status:
                response.StatusCode = int.Parse(request.Query["code"]!);
                response.Headers.Append("Set-Cookie", "a=1");
                response.Headers.Append("Set-Cookie", "b=2");
                response.Headers["X-Query"] = request.QueryString.Value!.TrimStart('?');
                break;
            case Paths.Who:
                await response.WriteAsync(
                    $"{request.Method} {request.Path}{request.QueryString} {request.Protocol[5..]} "
                    + $"{request.Host.Host} {request.Headers["X-Test"]}");
                break;
            default:
                response.StatusCode = 404;
                await response.WriteAsync("nothing here\n");
                break;
        }
    });

    public static TheoryData<RequestPlacement, string> Cases
    {
        get
        {
            var all = new TheoryData<RequestPlacement, string>();
            foreach (string name in HttpCases.Names)
            {
                all.Add(RequestPlacement.ThreadPool, name);
                all.Add(RequestPlacement.Inline, name);
            }
            return all;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task HTTP_1_1_is_spoken_as_everywhere(RequestPlacement placement, string name)
    {
        HttpCase one = HttpCases.Of(name);
        await using Hosted hosted = await Hosted.StartAsync(placement, Map, set: options =>
        {
            HttpLimits limits = one.Limits;
            options.Limits.MaxRequestBodySize = limits.MaxBodyBytes > 0 ? limits.MaxBodyBytes
                : options.Limits.MaxRequestBodySize;
            options.Limits.MaxRequestHeadSize = limits.MaxHeadBytes > 0 ? limits.MaxHeadBytes
                : options.Limits.MaxRequestHeadSize;
            options.Limits.MaxRequestsPerConnection = limits.RequestsPerConnection > 0 ? limits.RequestsPerConnection
                : options.Limits.MaxRequestsPerConnection;
        });
        one.Run(new HttpSubject(hosted.Connect, SeesWholeAnswers: placement == RequestPlacement.Inline));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Repeated_fields_of_a_request_and_its_host_with_a_port_arrive(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static c =>
            c.Response.WriteAsync($"{c.Request.Protocol} {c.Request.Host} {c.Request.Headers["X-Test"]}")));
        using RawClient client = hosted.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: example:80\r\nX-Test: t\r\nx-test: u\r\n\r\n");
        Assert.Equal("HTTP/1.1 example:80 t,u", client.ReadResponse(timeoutMs: Long).Text);
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
