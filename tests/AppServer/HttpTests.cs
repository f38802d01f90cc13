// HTTP/1.1 under every concurrency model: the table that UseWeir() passes too (tests/Harness/HttpCases.cs), against its
// application written for AppServer; and what only this library's own handlers can do.
using System.Text;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;
using Paths = Weir.Tests.Harness.HttpCases.Paths;

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
            case Paths.Hello:
                response.Write("Hello World\n");
                break;
            case Paths.Echo:
                await CopyAsync(request.Body, response);
                break;
            case Paths.Chunks:
                for (int i = 0; i < 3; i++)
                {
                    await response.WriteAsync($"piece {i}\n");
                    await response.FlushAsync();
                }
                break;
            case Paths.Trailers:
                response.ExpectTrailers();
                await response.WriteAsync("body");
                await response.FlushAsync();
                response.Trailers.Add("X-Sum", "4");
                break;
            case Paths.RequestTrailers:
                await CopyAsync(request.Body, response);
                response.Write($" {request.Trailers["X-Sum"]}");
                break;
            case Paths.Large:
                byte[] block = new byte[HttpCases.LargeBlockBytes];
                for (int i = 0; i < HttpCases.LargeBlocks; i++)
                {
                    Array.Fill(block, (byte)('a' + i));
                    await response.WriteAsync(block);
                }
                break;
            case Paths.Delay:
                await Task.Delay(20);
                response.Write("later\n");
                break;
            case Paths.Throw:
                throw new InvalidOperationException("on purpose");
            case Paths.ThrowLate:
                await response.WriteAsync("begun");
                await response.FlushAsync();
                throw new InvalidOperationException("too late");
            case Paths.Short:
                response.ContentLength = 10;
                break;
            case Paths.Status:
                response.StatusCode = int.Parse(request.QueryValue("code")!);
                response.Headers.Add("Set-Cookie", "a=1");
                response.Headers.Add("Set-Cookie", "b=2");
                response.Headers["X-Query"] = request.Query;
                break;
            case Paths.Who:
                response.Write($"{request.Method} {request.Path}?{request.Query} {request.HttpVersion} {request.Host} "
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

    public static TheoryData<string, string> Cases
    {
        get
        {
            var all = new TheoryData<string, string>();
            foreach (string model in Models.Names)
            {
                foreach (string name in HttpCases.Names)
                {
                    all.Add(model, name);
                }
            }
            return all;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void HTTP_1_1_is_spoken_as_everywhere(string model, string name)
    {
        HttpCase one = HttpCases.Of(name);
        using var running = new Running(model, Serve, options =>
        {
            HttpLimits limits = one.Limits;
            options.MaxBodyBytes = limits.MaxBodyBytes > 0 ? limits.MaxBodyBytes : options.MaxBodyBytes;
            options.MaxHeadBytes = limits.MaxHeadBytes > 0 ? limits.MaxHeadBytes : options.MaxHeadBytes;
            options.KeepAliveRequests = limits.RequestsPerConnection > 0 ? limits.RequestsPerConnection
                : options.KeepAliveRequests;
        });
        one.Run(new HttpSubject(running.Connect, SeesWholeAnswers: true));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Requests_and_failures_are_counted_and_failures_are_told(string model)
    {
        using var running = new Running(model, Serve);
        using RawClient client = running.Connect();
        Assert.Equal(200, client.Get("/hello").Status);
        Assert.Equal(200, client.Get("/hello").Status);
        running.Await(static m => m is { Answered: 2, Connections: 1, Accepted: 1, Running: 0, Failed: 0 });
        Assert.Equal(500, client.Get("/throw").Status);
        running.Await(static m => m.Failed == 1);
        Assert.Contains("on purpose", running.Log);
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
