// Every MUST of RFC 9113 and 7541 that an HTTP/2 upstream server can break, as a row: the section, and what the server
// says to a request. Its client gets 502; a fault of the connection is told the server by GOAWAY, a fault of the stream
// by RST_STREAM, with the code of the row; whoever asks next is answered. docs/http2.md points here.
using System.Text;
using Weir.Protocol.Http2;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

/// <summary>One server for all rows; what its upstream says to "/bad" is set by the row.</summary>
public sealed class Http2UpstreamViolationServer : IDisposable
{
    public Http2UpstreamViolationServer()
    {
        Upstream = new Upstream(c =>
        {
            var http = new Http2Script(c);
            while (true)
            {
                int stream = http.ReadRequest(out _);
                if (Says is not { } says)
                {
                    http.Answer(stream, "fine");
                    continue;
                }
                Says = null;
                c.Send(says(stream));
                do
                {
                    Told = http.ReadAny();
                }
                while (Told.Type is not (ScriptFrame.GoAway or ScriptFrame.RstStream));
                ToldSomething.Set();
            }
        });
        Weir = ServerProcess.Weir(Conf.Http("""
            upstream up { server 127.0.0.1:%UPSTREAM% max_fails=0; keepalive 4; }
            server {
                listen 127.0.0.1:%PORT%; proxy_next_upstream off;
                location / { proxy_http_version 2; proxy_pass http://up; }
            }
            """), upstreamPort: Upstream.Port);
    }

    public Func<int, byte[]>? Says { get; set; }
    public ScriptFrame? Told { get; set; }
    public ManualResetEventSlim ToldSomething { get; } = new();
    public Upstream Upstream { get; }
    public ServerProcess Weir { get; }

    public void Dispose()
    {
        Weir.Dispose();
        Upstream.Dispose();
        ToldSomething.Dispose();
    }
}

public sealed class Http2UpstreamViolationTests(Http2UpstreamViolationServer server)
    : IClassFixture<Http2UpstreamViolationServer>
{
    private sealed record Row(string Section, string What, Func<int, byte[]> Says, Http2Error Error, bool Away);

    private static Row Away(string section, string what, Http2Error error, Func<int, byte[]> says) =>
        new(section, what, says, error, true);

    private static Row Reset(string section, string what, Func<int, byte[]> says,
        Http2Error error = Http2Error.ProtocolError) => new(section, what, says, error, false);

    private static byte[] Frame(FrameType type, int flags, int stream, params ReadOnlySpan<byte> payload) =>
        Http2Client.Frame(type, (FrameFlags)flags, stream, payload);

    private static byte[] Head(int stream, params string[] fields) => Http2Client.Headers(stream, true, fields);

    private static byte[] Block(int stream, params byte[] block) => Frame(FrameType.Headers, 0x5, stream, block);

    private const Http2Error Protocol = Http2Error.ProtocolError, Size = Http2Error.FrameSizeError,
        Flow = Http2Error.FlowControlError, Compression = Http2Error.CompressionError;

    private static readonly Row[] _rows =
    [
        // Frames.
        Away("4.2", "a frame larger than SETTINGS_MAX_FRAME_SIZE", Size,
            s => Frame(FrameType.Data, 0, s, new byte[16_385])),
        Away("4.3", "another frame within a header block", Protocol,
            s => [.. Frame(FrameType.Headers, 0x1, s, 0x88), .. Http2Client.Ping()]),
        Away("6.10", "a CONTINUATION of another stream", Protocol,
            s => [.. Frame(FrameType.Headers, 0x1, s, 0x88), .. Frame(FrameType.Continuation, 0x4, s + 2)]),
        Away("6.10", "a CONTINUATION without a header block", Protocol, s => Frame(FrameType.Continuation, 0x4, s)),
        Away("6.1", "DATA on stream 0", Protocol, _ => Http2Client.Data(0, "x")),
        Away("6.1", "DATA whose padding is as long as its payload", Protocol,
            s => Frame(FrameType.Data, 0x9, s, 5, 1, 2, 3, 4)),
        Away("6.2", "HEADERS on stream 0", Protocol, _ => Head(0, ":status: 200")),
        Away("6.2", "HEADERS with too much padding", Protocol, s => Frame(FrameType.Headers, 0xd, s, 200, 0x88)),
        Away("6.3", "PRIORITY on stream 0", Protocol, _ => Frame(FrameType.Priority, 0, 0, 0, 0, 0, 0, 0)),
        Away("6.4", "RST_STREAM on stream 0", Protocol, _ => Http2Client.RstStream(0, Http2Error.Cancel)),
        Away("6.4", "RST_STREAM of another length than 4", Size, s => Frame(FrameType.RstStream, 0, s, 0, 0, 8)),
        Away("6.5", "SETTINGS on a stream", Protocol, s => Frame(FrameType.Settings, 0, s)),
        Away("6.5", "a SETTINGS acknowledgement with a payload", Size,
            _ => Frame(FrameType.Settings, 1, 0, 0, 4, 0, 0, 0, 0)),
        Away("6.5", "SETTINGS whose length is no multiple of 6", Size,
            _ => Frame(FrameType.Settings, 0, 0, 0, 4, 0, 0, 0)),
        Away("6.5.2", "ENABLE_PUSH of 1 from a server", Protocol,
            _ => Http2Client.Settings((SettingId.EnablePush, 1))),
        Away("6.5.2", "INITIAL_WINDOW_SIZE above 2^31-1", Flow,
            _ => Http2Client.Settings((SettingId.InitialWindowSize, 0x8000_0000))),
        Away("6.5.2", "MAX_FRAME_SIZE below 16384", Protocol,
            _ => Http2Client.Settings((SettingId.MaxFrameSize, 16_383))),
        Away("6.5.2", "MAX_FRAME_SIZE above 2^24-1", Protocol,
            _ => Http2Client.Settings((SettingId.MaxFrameSize, 1 << 24))),
        Away("8.4", "PUSH_PROMISE although push is off", Protocol,
            s => Frame(FrameType.PushPromise, 0x4, s, 0, 0, 0, 2, 0x82)),
        Away("6.7", "PING on a stream", Protocol, s => Frame(FrameType.Ping, 0, s, new byte[8])),
        Away("6.7", "PING of another length than 8", Size, _ => Frame(FrameType.Ping, 0, 0, new byte[6])),
        Away("6.8", "GOAWAY on a stream", Protocol, s => Frame(FrameType.GoAway, 0, s, new byte[8])),
        Away("6.8", "GOAWAY shorter than 8", Size, _ => Frame(FrameType.GoAway, 0, 0, new byte[4])),
        Away("6.9", "WINDOW_UPDATE of 0 for the connection", Protocol, _ => Http2Client.WindowUpdate(0, 0)),
        Reset("6.9", "WINDOW_UPDATE of 0 on a stream", s => Http2Client.WindowUpdate(s, 0)),
        Away("6.9", "WINDOW_UPDATE of another length than 4", Size,
            _ => Frame(FrameType.WindowUpdate, 0, 0, 0, 0, 1)),
        Away("6.9.1", "the connection's window above 2^31-1", Flow,
            _ => [.. Http2Client.WindowUpdate(0, int.MaxValue), .. Http2Client.WindowUpdate(0, 1)]),
        Reset("6.9.1", "a stream's window above 2^31-1",
            s => [.. Http2Client.WindowUpdate(s, int.MaxValue), .. Http2Client.WindowUpdate(s, 1)], Flow),
        Away("6.9.2", "INITIAL_WINDOW_SIZE that makes a window exceed 2^31-1", Flow,
            s => [.. Http2Client.WindowUpdate(s, int.MaxValue - 65_535),
                .. Http2Client.Settings((SettingId.InitialWindowSize, 65_536))]),

        // States of streams.
        Away("5.1", "DATA on an idle stream", Protocol, s => Http2Client.Data(s + 2, "x")),
        Away("5.1", "HEADERS on an idle stream", Protocol, s => Head(s + 2, ":status: 200")),
        Away("5.1", "RST_STREAM on an idle stream", Protocol, s => Http2Client.RstStream(s + 2, Http2Error.Cancel)),
        Away("5.1", "WINDOW_UPDATE on an idle stream", Protocol, s => Http2Client.WindowUpdate(s + 2, 9)),
        Away("5.1.1", "HEADERS on a stream of the server's own", Protocol, _ => Head(2, ":status: 200")),
        Reset("8.1", "DATA before the head", s => Http2Client.Data(s, "x")),
        Reset("8.1", "an interim head that ends the stream", s => Head(s, ":status: 103")),

        // Messages.
        Reset("8.2.1", "a name with upper case", s => Head(s, ":status: 200", "X-A: b")),
        Reset("8.2.1", "an empty name", s => Block(s, 0x88, 0, 0, 1, (byte)'x')),
        Reset("8.2.1", "a name with a space", s => Head(s, ":status: 200", "x y: z")),
        Reset("8.2.1", "a name with a colon", s => Head(s, ":status: 200", "x:y: z")),
        Reset("8.2.1", "a value with NUL", s => Head(s, ":status: 200", "x: a\0b")),
        Reset("8.2.1", "a value with CR", s => Head(s, ":status: 200", "x: a\rb")),
        Reset("8.2.1", "a value with LF", s => Head(s, ":status: 200", "x: a\nb")),
        Reset("8.2.1", "a value that begins with a space", s => Head(s, ":status: 200", "x:  b")),
        Reset("8.2.2", "connection", s => Head(s, ":status: 200", "connection: close")),
        Reset("8.2.2", "keep-alive", s => Head(s, ":status: 200", "keep-alive: 5")),
        Reset("8.2.2", "proxy-connection", s => Head(s, ":status: 200", "proxy-connection: close")),
        Reset("8.2.2", "transfer-encoding", s => Head(s, ":status: 200", "transfer-encoding: chunked")),
        Reset("8.2.2", "upgrade", s => Head(s, ":status: 200", "upgrade: h2c")),
        Reset("8.3", "a pseudo-header after a header", s => Head(s, "a: b", ":status: 200")),
        Reset("8.3", "an unknown pseudo-header", s => Head(s, ":status: 200", ":x: y")),
        Reset("8.3", "a pseudo-header of requests", s => Head(s, ":status: 200", ":path: /")),
        Reset("8.3", "a pseudo-header sent twice", s => Head(s, ":status: 200", ":status: 200")),
        Reset("8.3.2", "no :status", s => Head(s, "a: b")),
        Reset("8.3.2", "a :status that is no number", s => Head(s, ":status: 20x")),
        Reset("8.3.2", "a :status of four digits", s => Head(s, ":status: 2000")),
        Reset("8.6", "a :status of 101", s => Head(s, ":status: 101")),
        Reset("8.1.1", "a content-length that is none", s => Head(s, ":status: 200", "content-length: x")),
        Reset("8.1.1", "two content-lengths", s => Head(s, ":status: 200", "content-length: 1", "content-length: 2")),

        // HPACK.
        Away("RFC 7541 2.3.3", "index 0", Compression, s => Block(s, 0x80)),
        Away("RFC 7541 2.3.3", "an index beyond the table", Compression, s => Block(s, 0xff, 0x20)),
        Away("RFC 7541 6.2.1", "a name beyond the table", Compression, s => Block(s, 0x7f, 0x20, 1, (byte)'x')),
        Away("RFC 7541 4.2", "a table size update within a block", Compression, s => Block(s, 0x88, 0x20)),
        Away("RFC 7541 6.3", "a table size update above the limit", Compression, s => Block(s, 0x3f, 0xe2, 0x1f)),
        Away("RFC 7541 5.1", "an integer without end", Compression,
            s => Block(s, [0x7f, .. Enumerable.Repeat((byte)0xff, 12)])),
        Away("RFC 7541 5.2", "Huffman padding that is not of ones", Compression,
            s => Block(s, 0x88, 0x0f, 0x10, 0x81, 0x60)),
        Away("RFC 7541 5.2", "a block that ends within a field", Compression, s => Block(s, 0x88, 0x0f, 0x10, 5, 0x2f)),
    ];

    /// <summary>The rows by section and words.</summary>
    public static TheoryData<string> Names => [.. _rows.Select(static r => $"{r.Section}: {r.What}")];

    [Theory, MemberData(nameof(Names))]
    public void Is_refused_as_the_RFC_says(string name)
    {
        Row row = _rows.Single(r => $"{r.Section}: {r.What}" == name);
        server.ToldSomething.Reset();
        server.Says = row.Says;
        Assert.Equal(502, server.Weir.Get("/").Status);
        Assert.True(server.ToldSomething.Wait(30_000), "the upstream server was told nothing");
        ScriptFrame told = server.Told!;
        Assert.Equal(row.Away ? ScriptFrame.GoAway : ScriptFrame.RstStream, told.Type);
        byte[] code = told.Payload[(row.Away ? 4 : 0)..];
        Assert.Equal(row.Error, (Http2Error)(code[2] << 8 | code[3]));
        Assert.Equal("fine", server.Weir.Get("/").Text);
    }

    /// <summary>These come after a head that is well: the client has its status already, and then a cut
    /// body.</summary>
    [Theory]
    [InlineData("trailers without an end")]
    [InlineData("a pseudo-header in trailers")]
    [InlineData("more than content-length")]
    [InlineData("less than content-length")]
    public void A_body_that_breaks_the_rules_is_cut(string how)
    {
        using var begun = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            var http = new Http2Script(c);
            int stream = http.ReadRequest(out _);
            http.Head(stream, false, ":status: 200", "content-length: 10");
            http.Data(stream, false, "12345");
            begun.Wait(30_000);
            switch (how)
            {
                case "trailers without an end":
                    http.Head(stream, false, "a: b");
                    break;
                case "a pseudo-header in trailers":
                    http.Head(stream, true, ":status: 200");
                    break;
                case "more than content-length":
                    http.Data(stream, true, "678901");
                    break;
                default:
                    http.Data(stream, true, "");
                    break;
            }
            c.Hold();
        });
        using ServerProcess weir = ServerProcess.Weir(Conf.Server(
            "location / { proxy_http_version 2; proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_buffering off; }"),
            upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", []));
        string answer = "";
        while (!answer.EndsWith("12345", StringComparison.Ordinal))
        {
            answer += Encoding.Latin1.GetString(client.ReadBytes(1));
        }
        begun.Set();
        Assert.True(client.ReadToEnd().Length <= 5);
    }
}
