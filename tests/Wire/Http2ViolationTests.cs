// Every MUST of RFC 9113 (and 7541, 8441, 9218) that a client can break, as a row: the section, what the client sends
// behind its preface, and what it gets for it. After a stream's error the connection has to work on, after the
// connection's it has to end. docs/http2.md points here.
using System.Text;
using Weir.Protocol.Http2;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

/// <summary>One server for all rows.</summary>
public sealed class Http2ViolationServer : IDisposable
{
    public Http2ViolationServer()
    {
        Upstream = new Upstream(static c =>
        {
            c.ReadRequest();
            c.Hold();
        });
        Weir = ServerProcess.Weir(Conf.Server("""
            http2 on;
            location / { return 200 ok; }
            location /asked { auth_request /held; }
            location /held { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_request_buffering off; }
            """), upstreamPort: Upstream.Port);
    }

    public Upstream Upstream { get; }

    public ServerProcess Weir { get; }

    public void Dispose()
    {
        Weir.Dispose();
        Upstream.Dispose();
    }
}

public sealed class Http2ViolationTests(Http2ViolationServer server) : IClassFixture<Http2ViolationServer>
{
    private static readonly string[] _get = Http2Client.Request("/");
    private static readonly string[] _post = Http2Client.Request("/held", "POST");
    private static readonly byte[] _held = Http2Client.Headers(1, false, _post);
    private static readonly byte[] _open = Http2Client.Headers(1, true, Http2Client.Request("/held"));

    /// <summary>What a row asks for: GOAWAY or RST_STREAM with a code.</summary>
    private sealed record Row(string Section, string What, byte[] Bytes, Http2Error Error, int Stream);

    private static Row Away(string section, string what, Http2Error error, params byte[][] bytes) =>
        new(section, what, [.. bytes.SelectMany(static b => b)], error, 0);

    private static Row Reset(string section, string what, Http2Error error, params byte[][] bytes) =>
        new(section, what, [.. bytes.SelectMany(static b => b)], error, 1);

    private static byte[] Frame(FrameType type, int flags, int stream, params ReadOnlySpan<byte> payload) =>
        Http2Client.Frame(type, (FrameFlags)flags, stream, payload);

    private static byte[] Head(params string[] fields) => Http2Client.Headers(1, true, fields);

    private static byte[] Block(int stream, params byte[] block) => Frame(FrameType.Headers, 0x5, stream, block);

    private static string[] Without(string name) => [.. _get.Where(f => !f.StartsWith(name, StringComparison.Ordinal))];

    private static byte[] Setting(SettingId id, uint value) => Http2Client.Settings((id, value));

    private const Http2Error Protocol = Http2Error.ProtocolError, Size = Http2Error.FrameSizeError,
        Flow = Http2Error.FlowControlError, Compression = Http2Error.CompressionError, Closed = Http2Error.StreamClosed;

    private static readonly Row[] _rows =
    [
        // Frames.
        Away("4.2", "a frame larger than SETTINGS_MAX_FRAME_SIZE", Size, _held,
            Frame(FrameType.Data, 0, 1, new byte[16_385])),
        Away("4.2", "a HEADERS frame too small for its priority", Size, Frame(FrameType.Headers, 0x25, 1, 0, 0)),
        Away("4.2", "a HEADERS frame larger than SETTINGS_MAX_FRAME_SIZE", Size,
            Frame(FrameType.Headers, 0x5, 1, new byte[16_385])),
        Away("5.5", "a frame of an unknown type within a header block", Protocol,
            Frame(FrameType.Headers, 0x1, 1, Http2Client.Block(_get)), Frame((FrameType)0x77, 0, 1, 1)),
        Away("4.3", "another frame within a header block", Protocol,
            Frame(FrameType.Headers, 0x1, 1, Http2Client.Block(_get)), Http2Client.Ping()),
        Away("4.3", "a CONTINUATION of another stream", Protocol,
            Frame(FrameType.Headers, 0x1, 1, Http2Client.Block(_get)), Frame(FrameType.Continuation, 0x4, 3)),
        Away("6.10", "a CONTINUATION without a header block", Protocol, Frame(FrameType.Continuation, 0x4, 1)),
        Away("6.10", "a CONTINUATION after END_HEADERS", Protocol, _held, Frame(FrameType.Continuation, 0x4, 1)),
        Away("6.10", "a CONTINUATION on stream 0", Protocol,
            Frame(FrameType.Headers, 0x1, 1, Http2Client.Block(_get)), Frame(FrameType.Continuation, 0x4, 0)),
        Away("6.1", "DATA on stream 0", Protocol, Http2Client.Data(0, "x")),
        Away("6.1", "DATA whose padding is as long as its payload", Protocol, _held,
            Frame(FrameType.Data, 0x9, 1, 5, 1, 2, 3, 4)),
        Away("6.1", "a padded DATA frame without a byte", Size, _held, Frame(FrameType.Data, 0x8, 1)),
        Away("6.2", "HEADERS on stream 0", Protocol, Http2Client.Headers(0, true, _get)),
        Away("6.2", "a padded HEADERS frame without a byte", Size, Frame(FrameType.Headers, 0xd, 1)),
        Away("6.2", "HEADERS within the header block of another stream", Protocol,
            Frame(FrameType.Headers, 0x1, 1, Http2Client.Block(_get)), Http2Client.Headers(3, true, _get)),
        Away("6.2", "HEADERS with too much padding", Protocol, Frame(FrameType.Headers, 0xd, 1, 200, 0x82)),
        Away("6.3", "PRIORITY on stream 0", Protocol, Frame(FrameType.Priority, 0, 0, 0, 0, 0, 0, 0)),
        Reset("6.3", "PRIORITY of another length than 5", Size, _held, Frame(FrameType.Priority, 0, 1, 0, 0, 0, 0)),
        Away("6.4", "RST_STREAM on stream 0", Protocol, Http2Client.RstStream(0, Http2Error.Cancel)),
        Away("6.4", "RST_STREAM of another length than 4", Size, _held, Frame(FrameType.RstStream, 0, 1, 0, 0, 8)),
        Away("6.5", "SETTINGS on a stream", Protocol, Frame(FrameType.Settings, 0, 1)),
        Away("6.5", "a SETTINGS acknowledgement with a payload", Size,
            Frame(FrameType.Settings, 1, 0, 0, 4, 0, 0, 0, 0)),
        Away("6.5", "SETTINGS whose length is no multiple of 6", Size, Frame(FrameType.Settings, 0, 0, 0, 4, 0, 0, 0)),
        Away("6.5.2", "ENABLE_PUSH of 2", Protocol, Setting(SettingId.EnablePush, 2)),
        Away("6.5.2", "INITIAL_WINDOW_SIZE above 2^31-1", Flow, Setting(SettingId.InitialWindowSize, 0x8000_0000)),
        Away("6.5.2", "MAX_FRAME_SIZE below 16384", Protocol, Setting(SettingId.MaxFrameSize, 16_383)),
        Away("6.5.2", "MAX_FRAME_SIZE above 2^24-1", Protocol, Setting(SettingId.MaxFrameSize, 1 << 24)),
        Away("RFC 8441 3", "ENABLE_CONNECT_PROTOCOL of 2", Protocol, Setting(SettingId.EnableConnectProtocol, 2)),
        Away("RFC 9218 2.1", "NO_RFC7540_PRIORITIES of 2", Protocol, Setting(SettingId.NoRfc7540Priorities, 2)),
        Away("8.4", "PUSH_PROMISE", Protocol, _held, Frame(FrameType.PushPromise, 0x4, 1, 0, 0, 0, 2, 0x82)),
        Away("6.7", "PING on a stream", Protocol, Frame(FrameType.Ping, 0, 1, new byte[8])),
        Away("6.7", "PING of another length than 8", Size, Frame(FrameType.Ping, 0, 0, new byte[6])),
        Away("6.8", "GOAWAY on a stream", Protocol, Frame(FrameType.GoAway, 0, 1, new byte[8])),
        Away("6.8", "GOAWAY shorter than 8", Size, Frame(FrameType.GoAway, 0, 0, new byte[4])),
        Reset("6.9", "WINDOW_UPDATE of 0 on a stream", Protocol, _open, Http2Client.WindowUpdate(1, 0)),
        Away("6.9", "WINDOW_UPDATE of 0 for the connection", Protocol, Http2Client.WindowUpdate(0, 0)),
        Away("6.9", "WINDOW_UPDATE of another length than 4", Size, Frame(FrameType.WindowUpdate, 0, 0, 0, 0, 1)),
        Reset("6.9.1", "a stream's window above 2^31-1", Flow, _open,
            Http2Client.WindowUpdate(1, int.MaxValue), Http2Client.WindowUpdate(1, 1)),
        Away("6.9.1", "the connection's window above 2^31-1", Flow,
            Http2Client.WindowUpdate(0, int.MaxValue), Http2Client.WindowUpdate(0, 1)),
        Away("6.9.2", "INITIAL_WINDOW_SIZE that makes a window exceed 2^31-1", Flow, _open,
            Http2Client.WindowUpdate(1, int.MaxValue - 65_535), Setting(SettingId.InitialWindowSize, 65_536)),
        Reset("6.9.1", "more data than the stream's window allows", Flow,
            Http2Client.Headers(1, false, Http2Client.Request("/asked", "POST")),
            [.. Enumerable.Range(0, 5).SelectMany(static _ => Frame(FrameType.Data, 0, 1, new byte[16_000]))]),
        Away("RFC 9218 7.1", "PRIORITY_UPDATE on a stream", Protocol,
            Frame(FrameType.PriorityUpdate, 0, 1, 0, 0, 0, 1)),
        Away("RFC 9218 7.1", "PRIORITY_UPDATE for stream 0", Protocol,
            Frame(FrameType.PriorityUpdate, 0, 0, 0, 0, 0, 0)),
        Away("RFC 9218 7.1", "PRIORITY_UPDATE shorter than 4", Size, Frame(FrameType.PriorityUpdate, 0, 0, 0, 0, 1)),

        // States of streams.
        Away("5.1", "DATA on an idle stream", Protocol, Http2Client.Data(1, "x")),
        Away("5.1", "RST_STREAM on an idle stream", Protocol, Http2Client.RstStream(1, Http2Error.Cancel)),
        Away("5.1", "WINDOW_UPDATE on an idle stream", Protocol, Http2Client.WindowUpdate(1, 100)),
        Reset("5.1", "DATA on a stream that the client has ended", Closed, _open, Http2Client.Data(1, "x")),
        Reset("5.1", "HEADERS on a stream that the client has ended", Closed, _open, Head(_get)),
        Away("5.1", "DATA on a closed stream", Closed, Head(_get), Http2Client.Data(1, "x")),
        Away("5.1", "HEADERS on a closed stream", Closed, Head(_get), Head(_get)),
        Away("5.1.1", "a stream of an even number", Protocol, Http2Client.Headers(2, true, _get)),
        Away("5.1.1", "a new stream below the last one", Protocol, Http2Client.Headers(5, true, _get),
            Http2Client.Headers(3, true, _get)),

        // Messages.
        Reset("8.1", "trailers without END_STREAM", Protocol, _held, Http2Client.Headers(1, false, "a: b")),
        Reset("8.1", "a pseudo-header in trailers", Protocol, _held, Http2Client.Headers(1, true, ":path: /")),
        Reset("8.1.1", "a body shorter than content-length", Protocol,
            Http2Client.Headers(1, false, [.. _post, "content-length: 5"]), Http2Client.Data(1, "abc")),
        Reset("8.1.1", "a body longer than content-length", Protocol,
            Http2Client.Headers(1, false, [.. _post, "content-length: 2"]), Http2Client.Data(1, "abc")),
        Reset("8.1.1", "content-length without a body", Protocol, Head([.. _get, "content-length: 2"])),
        Reset("8.1", "a message behind the one that has ended", Closed, _open, Http2Client.Headers(1, false, _get)),
        Reset("8.2.1", "a trailer's name with upper case", Protocol, _held, Http2Client.Headers(1, true, "A: b")),
        Reset("8.2.2", "a header of the connection in trailers", Protocol, _held,
            Http2Client.Headers(1, true, "connection: close")),
        Reset("8.2.1", "a name with upper case", Protocol, Head([.. _get, "X-Y: z"])),
        Reset("8.2.1", "an empty name", Protocol, Block(1, [.. Http2Client.Block(_get), 0, 0, 1, (byte)'x'])),
        Reset("8.2.1", "a name with a space", Protocol, Head([.. _get, "x y: z"])),
        Reset("8.2.1", "a name with a colon", Protocol, Head([.. _get, "x:y: z"])),
        Reset("8.2.1", "a name with DEL", Protocol, Head([.. _get, "x\x7f: z"])),
        Reset("8.2.1", "a name beyond ASCII", Protocol, Head([.. _get, "x\xe4: z"])),
        Reset("8.2.1", "a value with NUL", Protocol, Head([.. _get, "x: a\0b"])),
        Reset("8.2.1", "a value with CR", Protocol, Head([.. _get, "x: a\rb"])),
        Reset("8.2.1", "a value with LF", Protocol, Head([.. _get, "x: a\nb"])),
        Reset("8.2.1", "a value that begins with a space", Protocol, Head([.. _get, "x:  b"])),
        Reset("8.2.1", "a value that ends with a tab", Protocol, Head([.. _get, "x: b\t"])),
        Reset("8.2.2", "connection", Protocol, Head([.. _get, "connection: close"])),
        Reset("8.2.2", "keep-alive", Protocol, Head([.. _get, "keep-alive: 1"])),
        Reset("8.2.2", "proxy-connection", Protocol, Head([.. _get, "proxy-connection: close"])),
        Reset("8.2.2", "transfer-encoding", Protocol, Head([.. _get, "transfer-encoding: chunked"])),
        Reset("8.2.2", "upgrade", Protocol, Head([.. _get, "upgrade: h2c"])),
        Reset("8.2.2", "te of gzip", Protocol, Head([.. _get, "te: gzip"])),
        Reset("8.3", "a pseudo-header after a header", Protocol, Head(["a: b", .. _get])),
        Reset("8.3", "an unknown pseudo-header", Protocol, Head([":x: y", .. _get])),
        Reset("8.3", "a pseudo-header of responses", Protocol, Head([":status: 200", .. _get])),
        Reset("8.3", "a pseudo-header sent twice", Protocol, Head([":method: GET", .. _get])),
        Reset("8.3.1", "no :method", Protocol, Head(Without(":method"))),
        Reset("8.3.1", "no :scheme", Protocol, Head(Without(":scheme"))),
        Reset("8.3.1", "no :path", Protocol, Head(Without(":path"))),
        Reset("8.3.1", "an empty :path", Protocol, Head([.. Without(":path"), ":path: "])),
        Reset("8.3.1", "a :path without its slash", Protocol, Head([.. Without(":path"), ":path: a"])),
        Reset("8.3.1", "a :path with a space", Protocol, Head([.. Without(":path"), ":path: /a b"])),
        Reset("8.3.1", "a :method that is no token", Protocol, Head([.. Without(":method"), ":method: G T"])),
        Reset("8.3.1", "a :scheme that is none", Protocol, Head([.. Without(":scheme"), ":scheme: 1:"])),
        Reset("8.3.1", "a host that differs from :authority", Protocol, Head([.. _get, "host: other"])),
        Reset("8.5", "CONNECT with :scheme", Protocol,
            Head(":method: CONNECT", ":scheme: http", ":authority: localhost:1")),
        Reset("RFC 8441 4", "an extended CONNECT without :scheme", Protocol,
            Head(":method: CONNECT", ":protocol: websocket", ":path: /", ":authority: localhost")),
        Reset("RFC 8441 4", ":protocol sent twice", Protocol, Head(":method: CONNECT", ":protocol: websocket",
            ":protocol: websocket", ":scheme: http", ":path: /", ":authority: localhost")),
        Reset("8.5", "CONNECT with an :authority without a port", Protocol,
            Head(":method: CONNECT", ":authority: localhost")),
        Reset("8.5", "CONNECT with :path", Protocol,
            Head(":method: CONNECT", ":path: /", ":authority: localhost:1")),
        Reset("8.5", "CONNECT without :authority", Protocol, Head(":method: CONNECT")),
        Reset("RFC 8441 4", ":protocol without CONNECT", Protocol, Head([":protocol: websocket", .. _get])),
        Reset("RFC 8441 4", "an extended CONNECT without :path", Protocol,
            Head(":method: CONNECT", ":protocol: websocket", ":scheme: http", ":authority: localhost")),

        // HPACK.
        Away("RFC 7541 2.3.3", "index 0", Compression, Block(1, 0x80)),
        Away("RFC 7541 2.3.3", "an index beyond the table", Compression, Block(1, 0xff, 0x20)),
        Away("RFC 7541 6.2.1", "a literal whose name is beyond the table", Compression, Block(1, 0x7f, 0x20, 1, 0x78)),
        Away("RFC 7541 6.2.2", "an unindexed literal whose name is beyond the table", Compression,
            Block(1, 0x0f, 0x50, 1, 0x78)),
        Away("RFC 7541 5.2", "a Huffman-coded name with EOS", Compression,
            Block(1, 0x40, 0x84, 0xff, 0xff, 0xff, 0xff, 1, 0x78)),
        Away("RFC 7541 4.3", "an index of an entry that a smaller table has lost", Compression,
            Block(1, [0x82, 0x86, 0x84, 0x41, 1, 0x78, 0x40, 1, 0x61, 1, 0x62]), Block(3, 0x20, 0xbe)),
        Away("RFC 7541 2.3.3", "a literal never indexed whose name is beyond the table", Compression,
            Block(1, 0x1f, 0x50, 1, 0x78)),
        Away("RFC 7541 5.1", "a string longer than its block", Compression, Block(1, 0x82, 0x86, 0x44, 0x7f, 0x20)),
        Away("RFC 7541 4.2", "a table size update within a block", Compression, Block(1, 0x82, 0x20)),
        Away("RFC 7541 6.3", "a table size update above the limit", Compression, Block(1, 0x3f, 0xe2, 0x1f)),
        Away("RFC 7541 5.1", "an integer without end", Compression,
            Block(1, [0x7f, .. Enumerable.Repeat((byte)0xff, 12)])),
        Away("RFC 7541 5.2", "Huffman padding longer than 7 bits", Compression,
            Block(1, 0x82, 0x86, 0x04, 0x83, 0x63, 0xff, 0xff)),
        Away("RFC 7541 5.2", "Huffman padding that is not of ones", Compression,
            Block(1, 0x82, 0x86, 0x04, 0x81, 0x60)),
        Away("RFC 7541 5.2", "Huffman code with EOS", Compression,
            Block(1, 0x82, 0x86, 0x04, 0x84, 0xff, 0xff, 0xff, 0xff)),
        Away("RFC 7541 5.2", "a block that ends within a field", Compression, Block(1, 0x82, 0x86, 0x04, 0x05, 0x2f)),
    ];

    /// <summary>The rows by section and words.</summary>
    public static TheoryData<string> Names => [.. _rows.Select(static r => $"{r.Section}: {r.What}")];

    [Theory, MemberData(nameof(Names))]
    public void Is_refused_as_the_RFC_says(string name)
    {
        Row row = _rows.Single(r => $"{r.Section}: {r.What}" == name);
        using Http2Client client = Http2Client.Connect(server.Weir.Port).Settle();
        client.TrySend(row.Bytes);
        if (row.Stream == 0)
        {
            while (client.ReadFrame() is not null)
            {
            }

            Assert.NotNull(client.GoAway);
            Assert.Equal(row.Error, client.GoAway.Error);
            return;
        }

        Http2Frame? reset = client.ReadUntil(FrameType.RstStream, row.Stream);
        Assert.NotNull(reset);
        Assert.Equal(row.Error, reset.Error);
        client.Send(Http2Client.Headers(101, true, _get));
        Assert.Equal("ok", client.ReadAnswer(101).Text);
    }

    [Theory]
    [InlineData("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")]
    [InlineData("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\u0008\u0006\0\0\0\0\0\0\0\0\0\0\0\0\0")]
    public void A_connection_begins_with_its_preface_and_SETTINGS(string bytes)
    {
        using Http2Client client = Http2Client.ConnectRaw(server.Weir.Port);
        client.TrySend(Encoding.Latin1.GetBytes(bytes));
        while (client.ReadFrame() is not null)
        {
        }

        Assert.Equal(Http2Error.ProtocolError, client.GoAway!.Error);
    }

    /// <summary>RFC 9113 §8.1.1 lets a server answer what is malformed; these get the words that HTTP/1 has for
    /// them.</summary>
    [Theory]
    [InlineData("content-length: x")]
    [InlineData("content-length: +1")]
    [InlineData("content-length: 0|content-length: 1")]
    [InlineData("host: user@localhost")]
    [InlineData(":authority: user@localhost")]
    public void A_field_that_HTTP1_refuses_too_is_answered_in_words(string field)
    {
        using Http2Client client = Http2Client.Connect(server.Weir.Port);
        string[] request = field.StartsWith("content", StringComparison.Ordinal) ? _post : Without(":authority");
        client.Send(Http2Client.Headers(1, true, [.. request, .. field.Split('|')]));
        Assert.Equal(400, client.ReadAnswer(1).Status);
        Assert.Equal("ok", client.Send(Http2Client.Headers(3, true, _get)).ReadAnswer(3).Text);
    }

    [Fact]
    public void What_the_RFC_tells_to_ignore_is_ignored()
    {
        using Http2Client client = Http2Client.Connect(server.Weir.Port);
        client.Send(Frame((FrameType)0x77, 0xff, 0, 1, 2, 3));
        client.Send(Frame((FrameType)0x77, 0xff, 9, 1, 2, 3));
        client.Send(Http2Client.Settings(((SettingId)0x7777, 1)));
        client.Send(Frame(FrameType.Priority, 0, 7, 0, 0, 0, 0, 1));
        client.Send(Frame(FrameType.Ping, 0xfe, 0, new byte[8]));
        client.Send(Frame(FrameType.GoAway, 0, 0, [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]));
        Assert.Equal("ok", client.Get("/").Text);
        // On a closed stream these say nothing that matters any more.
        client.Send(Http2Client.WindowUpdate(1, 10)).Send(Http2Client.RstStream(1, Http2Error.Cancel));
        client.Send(Frame(FrameType.Priority, 0, 1, 0, 0, 0, 0, 1));
        // The reserved bits of stream numbers and increments.
        byte[] update = Http2Client.WindowUpdate(0, 0x8000_0001);
        update[5] = 0x80;
        client.Send(update);
        // Padding, priority, CONTINUATION of a header block at every byte.
        byte[] block = Http2Client.Block(_get);
        client.Send(Frame(FrameType.Headers, 0x29, 3, [2, 0, 0, 0, 0, 9, .. block[..5], 0, 0]));
        client.Send(Frame(FrameType.Continuation, 0, 3, block[5..20]));
        client.Send(Frame(FrameType.Continuation, 0x4, 3, block[20..]));
        Assert.Equal("ok", client.ReadAnswer(3).Text);
        Assert.Null(client.GoAway);
    }
}
