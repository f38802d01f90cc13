// What an HTTP/2 client may not do without end: each flood ends its connection with ENHANCE_YOUR_CALM and one line in
// the log, is counted, and no other connection notices.
using Weir.Protocol.Http2;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class Http2FloodTests
{
    private static byte[] Repeat(int count, Func<int, byte[]> make) => [.. Enumerable.Range(0, count).SelectMany(make)];

    /// <summary>Floods by their glitch: what is sent once, and what again and again.</summary>
    public static TheoryData<string> Kinds => ["reset", "ping", "settings", "priority", "empty_data", "unknown",
        "window_update", "bad_stream", "priority_update", "trailing_reset"];

    private static byte[] Flood(string kind) => kind switch
    {
        "reset" => Repeat(3000, static i => [.. Http2Client.Headers(1 + (2 * i), true, Http2Client.Request("/held")),
            .. Http2Client.RstStream(1 + (2 * i), Http2Error.Cancel)]),
        "ping" => Repeat(3000, static i => Http2Client.Ping((ulong)i)),
        "settings" => Repeat(3000, static _ => Http2Client.Settings((SettingId.InitialWindowSize, 70_000))),
        "priority" => Repeat(5000, static i => Http2Client.Frame(FrameType.Priority, FrameFlags.None, 1 + (2 * i), 0, 0,
            0, 0, 1)),
        "priority_update" => Repeat(5000, static i => Http2Client.Frame(FrameType.PriorityUpdate, FrameFlags.None, 0,
            [.. Http2Client.Word(1 + (2 * (uint)i)), .. "u=1"u8])),
        "empty_data" => [.. Http2Client.Headers(1, false, Http2Client.Request("/held", "POST")),
            .. Repeat(3000, static _ => Http2Client.Data(1, "", end: false))],
        "unknown" => Repeat(3000, static _ => Http2Client.Frame((FrameType)0x99, FrameFlags.None, 0)),
        "window_update" => Repeat(20_000, static _ => Http2Client.WindowUpdate(0, 1)),
        "trailing_reset" => Repeat(3000, static i => [
            .. Http2Client.Headers(1 + (2 * i), false, Http2Client.Request("/held", "POST")),
            .. Http2Client.WindowUpdate(1 + (2 * i), 0)]),
        _ => Repeat(3000, static i => Http2Client.Headers(1 + (2 * i), true, "x: y")),
    };

    [Theory, MemberData(nameof(Kinds))]
    public void Ends_the_connection_and_no_other(string kind)
    {
        using Upstream upstream = new(static c =>
        {
            c.ReadRequest();
            c.Hold();
        });
        using var weir = ServerProcess.Weir(Conf.Server("""
            http2 on;
            location / { return 200 ok; }
            location /held { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_request_buffering off; }
            location /status { weir_status json; }
            """), upstreamPort: upstream.Port);
        using Http2Client other = Http2Client.Connect(weir.Port);
        Assert.Equal("ok", other.Get("/").Text);
        using Http2Client client = Http2Client.Connect(weir.Port);
        client.TrySend(Flood(kind));
        while (client.ReadFrame() is not null)
        {
        }

        Assert.Equal(Http2Error.EnhanceYourCalm, client.GoAway!.Error);
        Assert.Equal("ok", other.Get("/").Text);
        string line = Assert.Single(weir.ErrorLog.Split('\n'), l => l.Contains("client sent too many",
            StringComparison.Ordinal));
        Assert.Contains("while processing HTTP/2 connection, client: 127.0.0.1", line, StringComparison.Ordinal);
        string status = other.Get("/status").Text;
        Assert.Contains("\"floods\":1", status, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_header_block_without_end_is_given_up(bool empty)
    {
        using var weir = ServerProcess.Weir(Conf.Server("http2 on; location / { return 200 ok; }"));
        using Http2Client client = Http2Client.Connect(weir.Port);
        client.Send(Http2Client.Frame(FrameType.Headers, FrameFlags.EndStream, 1, Http2Client.Block("a: b")));
        byte[] piece = empty ? [] : Http2Client.Block("x: " + new string('x', 10_000));
        for (int i = 0; i < 1000; i++)
        {
            if (!client.TrySend(Http2Client.Frame(FrameType.Continuation, FrameFlags.None, 1, piece)))
            {
                break;
            }
        }

        while (client.ReadFrame() is not null)
        {
        }

        Assert.Equal(Http2Error.EnhanceYourCalm, client.GoAway!.Error);
    }

    [Fact]
    public void A_small_block_that_decodes_to_much_is_answered_in_words()
    {
        using var weir = ServerProcess.Weir(Conf.Server("http2 on; location / { return 200 ok; }"));
        using Http2Client client = Http2Client.Connect(weir.Port);
        // One field of 4 KB goes into the table, and is then named a thousand times by a byte each.
        List<byte> block = [.. Http2Client.Block(Http2Client.Request("/")), 0x40];
        Http2Client.Text(block, "x");
        Http2Client.Text(block, new string('y', 4000));
        block.AddRange(Enumerable.Repeat((byte)0xbe, 1000));
        client.Send(Http2Client.Frame(FrameType.Headers, FrameFlags.EndHeaders | FrameFlags.EndStream, 1,
            [.. block]));
        Assert.Equal(400, client.ReadAnswer(1).Status);
        client.Send(Http2Client.Headers(3, true, Http2Client.Request("/")));
        Assert.Equal("ok", client.ReadAnswer(3).Text);
    }

    [Fact]
    public void A_client_that_asks_and_does_not_read_is_not_kept_in_memory()
    {
        using var weir = ServerProcess.Weir(Conf.Server("""
            http2 on; send_timeout 500ms; keepalive_requests 1000000;
            location / { return 304; }
            """));
        using Http2Client client = Http2Client.Connect(weir.Port);
        client.Settle();
        byte[] burst = Repeat(50_000, static i => Http2Client.Headers(1 + (2 * i), true, Http2Client.Request("/")));
        long before = ResidentBytes(weir.Process.Pid);
        // The server stops reading when its answers are not taken, so that this ends when it gives up.
        client.TrySend(burst);
        Assert.InRange(ResidentBytes(weir.Process.Pid) - before, long.MinValue, 64 * 1024 * 1024);
        using Http2Client other = Http2Client.Connect(weir.Port);
        Assert.Equal(304, other.Get("/").Status);
    }

    private static long ResidentBytes(int pid) => long.Parse(File.ReadAllText($"/proc/{pid}/statm").Split(' ')[1],
        System.Globalization.CultureInfo.InvariantCulture) * Environment.SystemPageSize;
}
