// ASP.NET Core's own parts on Weir: minimal APIs, controllers, static files, uploads, events.
using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.DependencyInjection;
using Weir.AspNetCore;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AspNetCore;

public sealed record Order(int Id, string Name);

[ApiController]
[Route("orders")]
public sealed class OrdersController : ControllerBase
{
    [HttpGet("{id:int}")]
    public ActionResult<Order> Get(int id) => id > 0 ? new Order(id, "ctl") : NotFound();

    [HttpPost]
    public ActionResult<Order> Post(Order order) => CreatedAtAction(nameof(Get), new { id = order.Id }, order);

    [HttpPost("small")]
    [RequestSizeLimit(10)]
    public IActionResult Small([FromBody] Order order) => Ok(order);
}

public sealed class FrameworkTests
{
    public static TheoryData<RequestPlacement> Everywhere => Hosted.Everywhere;

    private const int Long = 30_000;

    private static readonly TimeSpan s_long = TimeSpan.FromSeconds(30);

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_minimal_api_binds_routes_queries_and_JSON(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app =>
        {
            app.MapGet("/", static () => "Hello World!");
            app.MapGet("/sum/{a:int}", static (int a, int b) => new { Sum = a + b });
            app.MapPost("/orders", static (Order order) => Results.Created($"/orders/{order.Id}", order));
        });
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal("Hello World!", await hosted.Client.GetStringAsync("/"));
            Assert.Equal("{\"sum\":5}", await hosted.Client.GetStringAsync("/sum/2?b=3"));
            using HttpResponseMessage made = await hosted.Client.PostAsJsonAsync("/orders", new Order(7, "caf\u00e9"));
            Assert.Equal(HttpStatusCode.Created, made.StatusCode);
            Assert.Equal("/orders/7", made.Headers.Location!.ToString());
            Assert.Equal(new Order(7, "caf\u00e9"), await made.Content.ReadFromJsonAsync<Order>());
            using HttpResponseMessage missing = await hosted.Client.GetAsync("/missing");
            Assert.Equal(HttpStatusCode.NotFound, missing.StatusCode);
        }
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_controller_answers_and_its_size_limit_holds(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.MapControllers(),
            static builder => builder.Services.AddControllers().AddApplicationPart(typeof(OrdersController).Assembly));
        Assert.Equal(new Order(3, "ctl"), await hosted.Client.GetFromJsonAsync<Order>("/orders/3"));
        using HttpResponseMessage made = await hosted.Client.PostAsJsonAsync("/orders", new Order(4, "x"));
        Assert.Equal(HttpStatusCode.Created, made.StatusCode);
        Assert.Equal($"http://127.0.0.1:{hosted.Port}/orders/4", made.Headers.Location!.ToString());
        using HttpResponseMessage bad = await hosted.Client.PostAsync("/orders",
            new StringContent("{", Encoding.UTF8, "application/json"));
        Assert.Equal(HttpStatusCode.BadRequest, bad.StatusCode);
        using HttpResponseMessage large = await hosted.Client.PostAsJsonAsync("/orders/small", new Order(4, "large"));
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, large.StatusCode);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Static_files_have_ranges_and_validators(RequestPlacement placement)
    {
        using var files = new TempDir();
        byte[] large = new byte[300_000];
        new Random(2).NextBytes(large);
        files.Write("large.bin", large);
        files.Write("small.txt", "0123456789");
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.UseStaticFiles(),
            root: files.Path);
        Assert.Equal(large, await hosted.Client.GetByteArrayAsync("/large.bin"));
        using HttpResponseMessage small = await hosted.Client.GetAsync("/small.txt");
        Assert.Equal("0123456789", await small.Content.ReadAsStringAsync());
        Assert.Equal("text/plain", small.Content.Headers.ContentType!.MediaType);
        using var conditional = new HttpRequestMessage(HttpMethod.Get, "/small.txt");
        conditional.Headers.IfNoneMatch.Add(small.Headers.ETag!);
        using HttpResponseMessage unchanged = await hosted.Client.SendAsync(conditional);
        Assert.Equal(HttpStatusCode.NotModified, unchanged.StatusCode);
        foreach ((string path, int from, int to) in new[] { ("/large.bin", 100_000, 250_000), ("/small.txt", 2, 4) })
        {
            using var part = new HttpRequestMessage(HttpMethod.Get, path);
            part.Headers.Range = new RangeHeaderValue(from, to);
            using HttpResponseMessage partial = await hosted.Client.SendAsync(part);
            Assert.Equal(HttpStatusCode.PartialContent, partial.StatusCode);
            byte[] whole = path == "/large.bin" ? large : "0123456789"u8.ToArray();
            Assert.Equal(whole[from..(to + 1)], await partial.Content.ReadAsByteArrayAsync());
        }
        using var head = new HttpRequestMessage(HttpMethod.Head, "/large.bin");
        using HttpResponseMessage headed = await hosted.Client.SendAsync(head);
        Assert.Equal(large.Length, headed.Content.Headers.ContentLength);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Middleware_that_takes_the_body_in_hand_is_asked_for_it(RequestPlacement placement)
    {
        string text = string.Concat(Enumerable.Repeat("again and again ", 2000));
        await using Hosted hosted = await Hosted.StartAsync(placement, app =>
        {
            app.UseResponseCompression();
            app.UseSession();
            app.MapGet("/text", () => text);
            app.MapGet("/count", (HttpContext c) =>
            {
                int count = (c.Session.GetInt32("count") ?? 0) + 1;
                c.Session.SetInt32("count", count);
                return count;
            });
        }, static builder =>
        {
            builder.Services.AddResponseCompression();
            builder.Services.AddDistributedMemoryCache().AddSession();
        });
        using var handler = new SocketsHttpHandler { AutomaticDecompression = DecompressionMethods.All };
        using var client = new HttpClient(handler) { BaseAddress = hosted.Client.BaseAddress };
        Assert.Equal(text, await client.GetStringAsync("/text"));
        using RawClient raw = hosted.Connect();
        Weir.Tests.Harness.HttpResponse packed = raw.Get("/text", "Accept-Encoding: gzip");
        Assert.Equal("gzip", packed["Content-Encoding"]);
        Assert.True(packed.Body.Length < 2000);
        Assert.Equal("1", await client.GetStringAsync("/count"));
        Assert.Equal("2", await client.GetStringAsync("/count"));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task SendFileAsync_sends_slices_between_written_bytes(RequestPlacement placement)
    {
        using var files = new TempDir();
        byte[] large = new byte[100_000];
        new Random(3).NextBytes(large);
        string path = files.Write("f", large);
        await using Hosted hosted = await Hosted.StartAsync(placement, app => app.Run(async c =>
        {
            await c.Response.Body.WriteAsync("<"u8.ToArray());
            await c.Response.SendFileAsync(path, 10, 5);
            await c.Response.SendFileAsync(path, 1000, 50_000);
            await c.Response.Body.WriteAsync(">"u8.ToArray());
            await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => c.Response.SendFileAsync(path, 0, 200_000));
            await Assert.ThrowsAsync<FileNotFoundException>(() => c.Response.SendFileAsync(path + "x", 0, 1));
        }));
        byte[] wanted = [(byte)'<', .. large[10..15], .. large[1000..51_000], (byte)'>'];
        Assert.Equal(wanted, await hosted.Client.GetByteArrayAsync("/"));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_multipart_upload_arrives_whole(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.MapPost("/up",
            static async (HttpRequest request) =>
            {
                IFormCollection form = await request.ReadFormAsync();
                using var copy = new MemoryStream();
                await form.Files["file"]!.CopyToAsync(copy);
                return Results.Bytes(copy.ToArray(), form["type"]);
            }));
        byte[] body = new byte[700_000];
        new Random(4).NextBytes(body);
        using var content = new MultipartFormDataContent
        {
            { new StringContent("x/y"), "type" },
            { new ByteArrayContent(body), "file", "name.bin" },
        };
        using HttpResponseMessage answer = await hosted.Client.PostAsync("/up", content);
        Assert.Equal("x/y", answer.Content.Headers.ContentType!.ToString());
        Assert.Equal(body, await answer.Content.ReadAsByteArrayAsync());
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Events_arrive_one_by_one_while_the_answer_is_open(RequestPlacement placement)
    {
        var next = new SemaphoreSlim(0);
        await using Hosted hosted = await Hosted.StartAsync(placement, app => app.MapGet("/events", (
            CancellationToken stop) =>
        {
            return TypedResults.ServerSentEvents(Produce(stop));

            async IAsyncEnumerable<string> Produce(
                [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancel)
            {
                for (int i = 0; i < 3; i++)
                {
                    await next.WaitAsync(cancel);
                    yield return "event " + i;
                }
            }
        }));
        next.Release();
        using HttpResponseMessage answer = await hosted.Client.GetAsync("/events",
            HttpCompletionOption.ResponseHeadersRead).WaitAsync(s_long);
        using var reader = new StreamReader(await answer.Content.ReadAsStreamAsync());
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal("data: event " + i, await reader.ReadLineAsync().WaitAsync(s_long));
            Assert.Equal("", await reader.ReadLineAsync().WaitAsync(s_long));
            next.Release();
        }
        Assert.Null(await reader.ReadLineAsync().WaitAsync(s_long));
    }
}
