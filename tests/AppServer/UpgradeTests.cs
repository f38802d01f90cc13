// Another protocol on a connection, and the fields behind a body, under every concurrency model.
using System.Text;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class UpgradeTests
{
    public static TheoryData<string> All => Models.All;

    private const int Long = 30_000;

    private const string Request = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";

    /// <summary>Answers every piece in capitals, until the client says "bye" or ends.</summary>
    private static async Task Shout(AppRequest request, AppResponse response)
    {
        if (request.Headers["Upgrade"] != "shout")
        {
            response.StatusCode = 426;
            response.Headers["Upgrade"] = "shout";
            return;
        }
        response.StatusCode = 101;
        response.Headers["Upgrade"] = "shout";
        await response.FlushAsync();
        byte[] buffer = new byte[1000];
        while (true)
        {
            int n = await request.Body.ReadAsync(buffer);
            string said = Encoding.ASCII.GetString(buffer, 0, n);
            await response.WriteAsync(n == 0 ? "END" : said.ToUpperInvariant());
            await response.FlushAsync();
            if (n == 0 || said.EndsWith("bye", StringComparison.Ordinal))
            {
                return;
            }
        }
    }

    private static string Read(RawClient client, int count) =>
        Encoding.ASCII.GetString(client.ReadBytes(count, Long));

    [Theory]
    [MemberData(nameof(All))]
    public void An_upgraded_connection_carries_bytes_both_ways(string model)
    {
        using var running = new Running(model, Shout);
        using RawClient client = running.Connect();
        HttpResponse answer = client.Send(Request).ReadResponse(timeoutMs: Long);
        Assert.Equal(101, answer.Status);
        Assert.Equal("shout", answer["Upgrade"]);
        Assert.Equal("upgrade", answer["Connection"], ignoreCase: true);
        Assert.Null(answer["Content-Length"]);
        Assert.Null(answer["Transfer-Encoding"]);
        client.Send("hello");
        Assert.Equal("HELLO", Read(client, 5));
        Assert.Equal(1, running.Metrics.Upgraded);
        client.Send("and bye");
        Assert.Equal("AND BYE", Read(client, 7));
        Assert.Empty(client.ReadToEnd(Long));
        running.Await(static m => m is { Running: 0, Connections: 0, Upgraded: 0, Failed: 0, Answered: 1 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void What_came_right_behind_the_head_belongs_to_the_other_protocol(string model)
    {
        using var running = new Running(model, Shout);
        using RawClient client = running.Connect();
        client.Send(Request + "early bye");
        Assert.Equal(101, client.ReadResponse(timeoutMs: Long).Status);
        Assert.Equal("EARLY BYE", Read(client, 9));
        Assert.Empty(client.ReadToEnd(Long));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void The_end_of_an_upgraded_client_is_the_end_of_what_is_read(string model)
    {
        using var running = new Running(model, Shout);
        using RawClient client = running.Connect();
        Assert.Equal(101, client.Send(Request).ReadResponse(timeoutMs: Long).Status);
        client.Send("a");
        Assert.Equal("A", Read(client, 1));
        client.Socket.Shutdown(System.Net.Sockets.SocketShutdown.Send);
        Assert.Equal("END", Encoding.ASCII.GetString(client.ReadToEnd(Long)));
        running.Await(static m => m is { Running: 0, Connections: 0, Failed: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Who_does_not_ask_for_another_protocol_is_answered_in_this_one(string model)
    {
        using var running = new Running(model, Shout);
        using RawClient client = running.Connect();
        HttpResponse answer = client.Get("/up");
        Assert.Equal(426, answer.Status);
        Assert.Equal("shout", answer["Upgrade"]);
        Assert.Equal(426, client.Get("/up").Status);
    }

    // Trailers.

    [Theory]
    [MemberData(nameof(All))]
    public void Trailers_of_a_request_are_there_when_its_body_has_been_read(string model)
    {
        using var running = new Running(model, static async (request, response) =>
        {
            bool early = false;
            try
            {
                _ = request.Trailers;
                early = true;
            }
            catch (InvalidOperationException)
            {
                // Its body has not been read.
            }
            string body = await request.ReadTextAsync();
            string fields = string.Join(';', request.Trailers.Select(static t => $"{t.Key}={t.Value}"));
            response.Write($"{early} {body} {request.Trailers.Count} {request.Trailers["x-sum"]} "
                + $"{request.Trailers.Contains("x-other")} {fields}");
        });
        using RawClient client = running.Connect();
        client.Send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.Send("3\r\nabc\r\n");
        client.Send("0\r\nX-Sum: 1\r\nX-");
        client.Send("Sum:  2 \r\nY:\r\n\r\n");
        string text = client.ReadResponse(timeoutMs: Long).Text;
        Assert.Equal("False abc 3 1, 2 False X-Sum=1;X-Sum=2;Y=", text);
        client.Send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nd\r\n0\r\n\r\n");
        Assert.EndsWith(" d 0  False ", client.ReadResponse(timeoutMs: Long).Text);
        Assert.EndsWith("True  0  False ", client.Get("/").Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Synchronous_handlers_see_trailers_too(string model)
    {
        using Running running = Running.Sync(model, static (request, response) =>
        {
            using var reader = new StreamReader(request.Body);
            response.Write($"{reader.ReadToEnd()} {request.Trailers["X-Sum"]}");
        });
        using RawClient client = running.Connect();
        client.Send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n");
        Assert.Equal("abc 3", client.ReadResponse(timeoutMs: Long).Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void What_is_no_field_behind_a_body_is_answered_400(string model)
    {
        using var running = new Running(model, static async (request, response) =>
            response.Write(await request.ReadTextAsync()));
        foreach (string bad in new[] { "X\r\n", ": x\r\n", "X : y\r\n", "X: a\0b\r\n", " X: y\r\n" })
        {
            using RawClient client = running.Connect();
            client.Send($"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{bad}\r\n");
            Assert.Equal(400, client.ReadResponse(timeoutMs: Long).Status);
        }
    }
}
