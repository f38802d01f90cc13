// HTTP/2 as clients see it: prior knowledge and ALPN, files, proxies, bodies both ways with their windows, interim
// answers, trailers, WebSocket, priorities, and how a connection ends. The frames are the test's own; that real clients
// agree is in Http2RealPartiesTests.
using System.Text;
using Weir.Protocol.Http2;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class Http2Tests
{
    private const string Answer = "location / { return 200 \"$request_method $uri $server_protocol $http2\"; }";

    private static ServerProcess Serve(string server, string http = "", TempDir? files = null, int upstreamPort = 0,
        int workers = 1, bool master = false) =>
        ServerProcess.Weir(Conf.Server("http2 on;\n" + server, http, workers, master), files, upstreamPort);

    private static string Blob(int length)
    {
        var text = new StringBuilder(length);
        for (int i = 0; text.Length < length; i++)
        {
            text.Append(i).Append('\n');
        }

        return text.ToString(0, length);
    }

    [Fact]
    public void A_connection_carries_many_requests_at_once()
    {
        using ServerProcess weir = Serve(Answer);
        using Http2Client client = Http2Client.Connect(weir.Port);
        int[] ids = Enumerable.Range(0, 100).Select(i => client.Begin($"/{i}")).ToArray();
        for (int i = 0; i < ids.Length; i++)
        {
            Http2Answer answer = client.ReadAnswer(ids[i]);
            Assert.Equal(200, answer.Status);
            Assert.Equal($"GET /{i} HTTP/2.0 h2c", answer.Text);
        }
    }

    /// <summary>A line as HTTP/1.1 would have it within one of the large buffers, the list (RFC 9113 §6.5.2: 32 bytes
    /// more for each field) within all of them: one below, at and one above.</summary>
    [Theory]
    [InlineData("line", 512, 414)]
    [InlineData("field", 512, 400)]
    [InlineData("list", 3 * 512, 400)]
    public void A_head_over_HTTP_2_is_bounded_as_the_buffers_say(string what, int limit, int refused)
    {
        using ServerProcess weir = Serve("client_header_buffer_size 64; large_client_header_buffers 3 512; " + Answer);
        using Http2Client client = Http2Client.Connect(weir.Port);
        int[] statuses = [.. Enumerable.Range(limit - 1, 3).Select(n => what switch
        {
            "line" => client.Get("/" + new string('u', n - "GET / HTTP/2.0\r\n".Length)).Status,
            "field" => client.Get("/", "x: " + new string('x', n - "x: \r\n".Length)).Status,
            _ => client.Get("/", [.. Fields(n - ListBytes("/"))]).Status,
        })];
        Assert.Equal([200, 200, refused], statuses);
        Assert.Equal(200, client.Get("/").Status);
    }

    private static int ListBytes(string path) => Http2Client.Request(path).Sum(static f => f.Length - ": ".Length + 32);

    /// <summary>Three fields that take so many bytes of a list.</summary>
    private static IEnumerable<string> Fields(int bytes) =>
        Enumerable.Range(0, 3).Select(i => "x: " + new string('x', (bytes + i) / 3 - "x".Length - 32));

    [Fact]
    public void An_address_speaks_both_protocols()
    {
        using ServerProcess weir = Serve(Answer);
        using RawClient old = weir.Connect();
        Assert.Equal("GET /a HTTP/1.1 ", old.Get("/a").Text);
        Assert.Equal("POST /b HTTP/1.1 ", old.Send(RawClient.Request("POST", "/b", [], "x")).ReadResponse().Text);
        using Http2Client client = Http2Client.ConnectRaw(weir.Port);
        byte[] preface = [.. Http2Limits.Preface, .. Http2Client.Settings()];
        foreach (byte b in preface)
        {
            client.Send(b);
        }

        Assert.Equal("GET /c HTTP/2.0 h2c", client.Get("/c").Text);
    }

    [Fact]
    public void Without_http2_the_preface_is_no_request()
    {
        using var weir = ServerProcess.Weir(Conf.Server(Answer));
        using RawClient client = weir.Connect();
        client.Send([.. Http2Limits.Preface]);
        Assert.StartsWith("HTTP/1.1 400 ", Encoding.Latin1.GetString(client.ReadToEnd()), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(9_000)]
    [InlineData(70_000)]
    [InlineData(2_000_000)]
    public void A_file_arrives_whole(int bytes)
    {
        using var files = new TempDir();
        string content = Blob(bytes);
        files.Write("file", content);
        using ServerProcess weir = Serve("", files: files);
        using Http2Client client = Http2Client.Connect(weir.Port);
        for (int i = 0; i < 2; i++)
        {
            Http2Answer answer = client.Get("/file");
            Assert.Equal(200, answer.Status);
            Assert.Equal(bytes.ToString(System.Globalization.CultureInfo.InvariantCulture), answer["content-length"]);
            Assert.Equal(content, answer.Text);
        }
    }

    [Fact]
    public void Bodies_wait_for_the_windows_of_stream_and_connection()
    {
        using var files = new TempDir();
        files.Write("file", Blob(200_000));
        using ServerProcess weir = Serve("", files: files);
        using Http2Client client = Http2Client.Connect(weir.Port, (SettingId.InitialWindowSize, 1000));
        int id = client.Begin("/file");
        client.Settle();
        Assert.Equal(1000, client.Answer(id).Body.Count);
        client.Send(Http2Client.WindowUpdate(id, 500)).Settle();
        Assert.Equal(1500, client.Answer(id).Body.Count);
        client.Send(Http2Client.Settings((SettingId.InitialWindowSize, 0)));
        client.Send(Http2Client.WindowUpdate(id, 900)).Settle();
        Assert.Equal(1500, client.Answer(id).Body.Count);
        client.Send(Http2Client.WindowUpdate(id, 1_000_000)).Settle();
        Assert.Equal(65_535, client.Answer(id).Body.Count);
        client.Send(Http2Client.WindowUpdate(0, 1_000_000));
        Assert.Equal(Blob(200_000), client.ReadAnswer(id).Text);
    }

    [Fact]
    public void Chunks_are_no_larger_than_http2_chunk_size_and_the_clients_frames()
    {
        using var files = new TempDir();
        files.Write("file", Blob(100_000));
        using ServerProcess weir = Serve("http2_chunk_size 3k; location /big { http2_chunk_size 1m; alias %FILES%/; }",
            files: files);
        using Http2Client client = Http2Client.Connect(weir.Port);
        foreach ((string path, int most) in (ReadOnlySpan<(string, int)>)[("/file", 3072), ("/big/file", 16_384)])
        {
            int id = client.Begin(path);
            int largest = 0;
            while (client.ReadFrame() is { } frame && !(frame.EndsStream && frame.StreamId == id))
            {
                largest = Math.Max(largest, frame.Type == FrameType.Data ? frame.Payload.Length : 0);
                if (frame is { Type: FrameType.Data, Payload.Length: > 0 })
                {
                    client.Send(Http2Client.WindowUpdate(0, (uint)frame.Payload.Length));
                    client.Send(Http2Client.WindowUpdate(id, (uint)frame.Payload.Length));
                }
            }

            Assert.Equal(most, largest);
        }
    }

    [Fact]
    public void Answers_without_a_body_end_with_their_head()
    {
        using var files = new TempDir();
        files.Write("file", "abc");
        using ServerProcess weir = Serve("location /no { return 204; } location /to { return 301 /x; }", files: files);
        using Http2Client client = Http2Client.Connect(weir.Port);
        Http2Frame Head(int id) => client.ReadUntil(FrameType.Headers, id)!;
        int head = client.Begin("/file", "HEAD");
        Assert.True(Head(head).EndsStream);
        Assert.Equal("3", client.Answer(head)["content-length"]);
        int none = client.Begin("/no");
        Assert.True(Head(none).EndsStream);
        Assert.Equal(204, client.Answer(none).Status);
        Assert.Equal("http://localhost/x", client.Get("/to", "x: y")["location"]?.Replace($":{weir.Port}", "",
            StringComparison.Ordinal));
        string tag = client.Get("/file")["etag"]!;
        int same = client.Begin("/file", more: [$"if-none-match: {tag}"]);
        Assert.True(Head(same).EndsStream);
        Assert.Equal(304, client.Answer(same).Status);
    }

    [Fact]
    public void What_the_phases_make_is_the_same_as_over_http1()
    {
        using var files = new TempDir();
        files.Write("file.txt", Blob(5000));
        files.Write("lost.html", "lost");
        using ServerProcess weir = Serve("""
            error_page 404 /lost.html;
            location /zip/ { gzip on; gzip_types *; gzip_min_length 1; alias %FILES%/; }
            location /closed/ { auth_request /ask; alias %FILES%/; }
            location = /ask { return 403; }
            location /hop { add_header Connection x; add_header X-Kept yes; add_header Set-Cookie a=b; return 200; }
            """, files: files);
        using Http2Client client = Http2Client.Connect(weir.Port);
        Assert.Equal("lost", client.Get("/none").Text);
        Assert.Equal(404, client.Get("/none").Status);
        Http2Answer part = client.Get("/file.txt", "range: bytes=10-19");
        Assert.Equal((206, Blob(5000)[10..20], "bytes 10-19/5000"), (part.Status, part.Text, part["content-range"]));
        Assert.Equal(403, client.Get("/closed/file.txt").Status);
        Http2Answer zip = client.Get("/zip/file.txt", "accept-encoding: gzip");
        Assert.Equal("gzip", zip["content-encoding"]);
        using var gzip = new System.IO.Compression.GZipStream(new MemoryStream([.. zip.Body]),
            System.IO.Compression.CompressionMode.Decompress);
        Assert.Equal(Blob(5000), new StreamReader(gzip).ReadToEnd());
        Http2Answer hop = client.Get("/hop");
        Assert.Equal((null, "yes", "a=b"), (hop["connection"], hop["x-kept"], hop["set-cookie"]));
    }

    [Theory]
    [InlineData("")]
    [InlineData("proxy_request_buffering off; proxy_buffering off;")]
    public void Bodies_go_through_a_proxy_both_ways(string settings)
    {
        using Upstream upstream = Upstream.Answering(static r =>
            Upstream.Ok($"{r.Line}|{r.Body.Count(c => c is 'X' or 'Z')}|{r.Body.Trim('0', '\r', '\n')[^1]}|"));
        using ServerProcess weir = Serve($$"""
            client_max_body_size 10m; client_body_buffer_size 16k;
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1; {{settings}} }
            """, upstreamPort: upstream.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        foreach ((int length, bool said) in (ReadOnlySpan<(int, bool)>)
            [(1, true), (1, false), (1000, true), (300_000, true), (300_000, false)])
        {
            int id = said ? client.Begin("/p", "POST", end: false, $"content-length: {length}")
                : client.Begin("/p", "POST", end: false);
            client.SendBody(id, new string('X', length - 1) + "Z");
            Assert.Equal($"POST /p HTTP/1.1|{length}|Z|", client.ReadAnswer(id).Text);
        }
    }

    [Fact]
    public void A_body_that_nobody_reads_does_not_open_its_window()
    {
        using var gate = new ManualResetEventSlim();
        using Upstream upstream = new(c =>
        {
            c.ReadRequest();
            gate.Wait(Http2Client.TimeoutMs);
            c.Send(Upstream.Ok("ok"));
        });
        using ServerProcess weir = Serve("""
            http2_body_preread_size 10k;
            location / { return 200 no; }
            """, upstreamPort: upstream.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        client.Settle();
        Assert.Equal(10_240u, client.ServerSettings[SettingId.InitialWindowSize]);
        gate.Set();
        int id = client.Begin("/p", "POST", end: false, "content-length: 100000");
        Http2Answer answer = client.ReadAnswer(id);
        Assert.Equal((200, "no"), (answer.Status, answer.Text));
        Assert.Equal(Http2Error.NoError, client.ReadUntil(FrameType.RstStream, id)!.Error);
        Assert.Equal(200, client.Get("/after").Status);
    }

    [Fact]
    public void A_client_that_expects_it_is_told_to_continue()
    {
        using Upstream upstream = Upstream.Answering(static r => Upstream.Ok(r.Body));
        using ServerProcess weir = Serve("location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            upstreamPort: upstream.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        int id = client.Begin("/", "POST", end: false, "content-length: 2", "expect: 100-continue");
        client.ReadUntil(FrameType.Headers, id);
        Assert.Equal("100", client.Answer(id).Heads[0].First(f => f.Name == ":status").Value);
        client.Send(Http2Client.Data(id, "hi"));
        Assert.Equal("hi", client.ReadAnswer(id).Text);
    }

    /// <summary>Each version towards the client with each towards the server. A request's own trailers end here, as
    /// nginx has it; its body arrives whole.</summary>
    [Theory]
    [InlineData(1, 1)]
    [InlineData(1, 2)]
    [InlineData(2, 1)]
    [InlineData(2, 2)]
    public void Early_hints_and_trailers_pass_between_versions(int down, int up)
    {
        using Upstream upstream = new(c => AnswerWithTrailers(c, up));
        using ServerProcess weir = Serve($$"""
            early_hints 1;
            location / {
                proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version {{(up == 1 ? "1.1" : "2")}};
                proxy_pass_trailers on; proxy_request_buffering off;
            }
            """, upstreamPort: upstream.Port);
        if (down == 2)
        {
            using Http2Client client = Http2Client.Connect(weir.Port);
            int id = client.Begin("/", "POST", end: false, "te: trailers");
            client.Send([.. Http2Client.Data(id, "body", end: false), .. Http2Client.Headers(id, true, "x-mine: 1")]);
            Http2Answer answer = client.ReadAnswer(id);
            Assert.Equal([(":status", "103"), ("link", "</a>")], answer.Heads[0]);
            Assert.Equal((200, "body"), (answer.Status, answer.Text));
            Assert.Equal([("x-sum", "7")], answer.Trailers);
            return;
        }
        using RawClient plain = weir.Connect();
        plain.Send("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "4\r\nbody\r\n0\r\nX-Mine: 1\r\n\r\n");
        Assert.Equal(103, plain.ReadResponse().Status);
        HttpResponse whole = plain.ReadResponse();
        Assert.Equal((200, "body"), (whole.Status, whole.Text));
        KeyValuePair<string, string> trailer = Assert.Single(whole.Trailers);
        Assert.Equal(("x-sum", "7"), (trailer.Key.ToLowerInvariant(), trailer.Value));
    }

    private static void AnswerWithTrailers(UpstreamConnection c, int version)
    {
        if (version == 1)
        {
            UpstreamRequest request = c.ReadRequest()!;
            c.Send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                + $"Trailer: X-Sum\r\n\r\n{request.Body.Replace("\r\n0\r\n\r\n", "")}\r\n0\r\nX-Sum: 7\r\n\r\n");
            return;
        }
        var http = new Http2Script(c);
        int stream = http.ReadRequest(out byte[] body);
        http.Head(stream, false, ":status: 103", "link: </a>");
        http.Head(stream, false, ":status: 200");
        http.Data(stream, false, Encoding.Latin1.GetString(body));
        http.Head(stream, true, "x-sum: 7");
        c.Hold();
    }

    [Fact]
    public void A_stream_that_is_given_up_ends_its_request_at_the_upstream()
    {
        using var gone = new ManualResetEventSlim();
        using Upstream upstream = new(c =>
        {
            UpstreamRequest? request = c.ReadRequest();
            if (request!.Target == "/slow")
            {
                c.Hold();
                gone.Set();
                return;
            }

            c.Send(Upstream.Ok("fine"));
        });
        using ServerProcess weir = Serve("""
            access_log %DIR%/access.log;
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }
            """, upstreamPort: upstream.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        int slow = client.Begin("/slow");
        client.Settle();
        Wait.Until(() => upstream.Requests.Count == 1);
        client.Send(Http2Client.RstStream(slow, Http2Error.Cancel));
        Assert.True(gone.Wait(Http2Client.TimeoutMs));
        Assert.Equal("fine", client.Get("/other").Text);
        Wait.Until(() => weir.AccessLog.Contains("GET /slow HTTP/2.0\" 499", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("x")]
    [InlineData(null)]
    public void A_websocket_whose_answer_does_not_fit_its_key_is_a_bad_gateway(string? accept)
    {
        using Upstream upstream = new(c =>
        {
            c.ReadRequest();
            c.Send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + (accept is null ? "\r\n" : $"Sec-WebSocket-Accept: {accept}\r\n\r\n"));
            c.Hold();
        });
        using ServerProcess weir = Serve("""
            location / {
                proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
            }
            """, upstreamPort: upstream.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        client.Send(Http2Client.Headers(1, end: false, ":method: CONNECT", ":protocol: websocket", ":scheme: http",
            ":path: /chat", ":authority: localhost", "sec-websocket-version: 13"));
        client.ReadUntil(FrameType.Headers, 1);
        Assert.Equal(502, client.Answer(1).Status);
        Wait.Until(() => weir.ErrorLog.Contains("upstream sent invalid \"Sec-WebSocket-Accept\" header",
            StringComparison.Ordinal));
    }

    private static string AcceptOf(UpstreamRequest request)
    {
        string text = request.Header("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        return Convert.ToBase64String(System.Security.Cryptography.SHA1.HashData(Encoding.ASCII.GetBytes(text)));
    }

    [Fact]
    public void A_request_about_the_server_itself_is_answered_in_words()
    {
        using ServerProcess weir = Serve("location / { return 200 ok; }");
        using Http2Client client = Http2Client.Connect(weir.Port);
        client.Send(Http2Client.Headers(1, true, Http2Client.Request("*", "OPTIONS")));
        Assert.Equal(400, client.ReadAnswer(1).Status);
        client.Send(Http2Client.Headers(3, true, Http2Client.Request("*")));
        Assert.Equal(Http2Error.ProtocolError, client.ReadAnswer(3).Reset);
    }

    [Fact]
    public void A_websocket_passes_to_an_http1_upstream()
    {
        using Upstream upstream = new(c =>
        {
            UpstreamRequest request = c.ReadRequest()!;
            bool asks = request.Head.Contains("Upgrade: websocket", StringComparison.OrdinalIgnoreCase)
                && request.Head.Contains("sec-websocket-key: ", StringComparison.OrdinalIgnoreCase)
                && request.Line == "GET /chat HTTP/1.1";
            c.Send(asks ? "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + $"Sec-WebSocket-Accept: {AcceptOf(request)}\r\nSec-WebSocket-Protocol: p\r\n\r\n>"
                : Upstream.Ok(request.Head));
            while (c.Read() is { Length: > 0 } bytes)
            {
                c.Send(Encoding.Latin1.GetString(bytes).ToUpperInvariant());
            }
        });
        using ServerProcess weir = Serve("""
            location / {
                proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
            }
            """, upstreamPort: upstream.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        client.Settle();
        Assert.Equal(1u, client.ServerSettings[SettingId.EnableConnectProtocol]);
        client.Send(Http2Client.Headers(1, end: false, ":method: CONNECT", ":protocol: websocket", ":scheme: http",
            ":path: /chat", ":authority: localhost", "sec-websocket-version: 13"));
        client.ReadUntil(FrameType.Headers, 1);
        Http2Answer answer = client.Answer(1);
        Assert.Equal((200, null, "p"), (answer.Status, answer["upgrade"], answer["sec-websocket-protocol"]));
        foreach (string word in (ReadOnlySpan<string>)["one", "two"])
        {
            client.Send(Http2Client.Data(1, word, end: false));
            while (!answer.Text.EndsWith(word.ToUpperInvariant(), StringComparison.Ordinal))
            {
                Assert.NotNull(client.ReadUntil(FrameType.Data, 1));
            }
        }

        client.Send(Http2Client.Data(1, ""));
        Assert.Equal(">ONETWO", client.ReadAnswer(1).Text);
    }

    [Fact]
    public void Urgent_streams_come_first_and_incremental_ones_take_turns()
    {
        using var files = new TempDir();
        files.Write("file", Blob(30_000));
        using ServerProcess weir = Serve("", files: files);
        using Http2Client client = Http2Client.Connect(weir.Port, (SettingId.InitialWindowSize, 1_000_000));
        client.Settle();
        // The connection's window is closed while the streams begin.
        int filler = client.Begin("/file");
        int filler2 = client.Begin("/file");
        int filler3 = client.Begin("/file");
        client.Settle();
        Assert.Equal(65_535, client.Answer(filler).Body.Count + client.Answer(filler2).Body.Count
            + client.Answer(filler3).Body.Count);
        // What of them fitted into the window has ended: how many depends on how they came to be read.
        int left = 5 + new[] { filler, filler2, filler3 }.Count(f => !client.Answer(f).IsComplete);
        int late = client.Begin("/file", more: ["priority: u=5"]);
        int turn1 = client.Begin("/file", more: ["priority: u=4, i"]);
        int turn2 = client.Begin("/file", more: ["priority: u=4, i"]);
        int first = client.Begin("/file", more: ["priority: u=1"]);
        int promoted = client.Begin("/file", more: ["priority: u=7"]);
        client.Send(Http2Client.Frame(FrameType.PriorityUpdate, FrameFlags.None, 0,
            [.. Http2Client.Word((uint)promoted), .. "u=0"u8]));
        client.Settle();
        client.Send(Http2Client.WindowUpdate(0, 1_000_000));
        List<int> order = [];
        while (order.Count(s => s < 0) < left && client.ReadFrame() is { } frame)
        {
            if (frame.Type == FrameType.Data && frame.StreamId > filler3)
            {
                order.Add(frame.StreamId);
            }

            if (frame.EndsStream)
            {
                order.Add(-frame.StreamId);
            }
        }

        int End(int id) => order.IndexOf(-id);
        Assert.True(End(promoted) < order.IndexOf(first), "the promoted stream is whole before the next begins");
        Assert.True(End(first) < order.IndexOf(turn1));
        Assert.True(order.IndexOf(turn2) < End(turn1), "incremental streams of one urgency alternate");
        Assert.True(Math.Max(End(turn1), End(turn2)) < order.IndexOf(late));
    }

    [Fact]
    public void More_streams_than_allowed_are_refused_and_the_others_go_on()
    {
        using Upstream upstream = new(c =>
        {
            c.ReadRequest();
            c.Hold();
        });
        using ServerProcess weir = Serve("""
            http2_max_concurrent_streams 2;
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location /now { return 200 now; }
            """, upstreamPort: upstream.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        int one = client.Begin("/");
        client.Begin("/");
        int third = client.Begin("/");
        Http2Frame reset = client.ReadUntil(FrameType.RstStream)!;
        Assert.Equal((third, Http2Error.RefusedStream), (reset.StreamId, reset.Error));
        Assert.Equal(2u, client.ServerSettings[SettingId.MaxConcurrentStreams]);
        client.Send(Http2Client.RstStream(one, Http2Error.Cancel)).Settle();
        Wait.Until(() => client.Get("/now").Reset is null);
    }

    [Fact]
    public void A_connection_says_goodbye_after_its_requests_are_used_up()
    {
        using ServerProcess weir = Serve(Answer + "keepalive_requests 3;");
        using Http2Client client = Http2Client.Connect(weir.Port);
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(200, client.Get("/x").Status);
        }

        while (client.ReadFrame() is not null)
        {
        }

        Assert.Equal((Http2Error.NoError, 5), (client.GoAway!.Error, client.GoAway.LastStreamId));
    }

    [Fact]
    public void An_idle_connection_ends_with_a_goaway()
    {
        using ServerProcess weir = Serve(Answer + "keepalive_timeout 200ms;");
        using Http2Client client = Http2Client.Connect(weir.Port);
        Assert.Equal(200, client.Get("/x").Status);
        while (client.ReadFrame() is not null)
        {
        }

        Assert.Equal(Http2Error.NoError, client.GoAway!.Error);
    }

    /// <summary>More connections than have a seat while they are silent: the others rest, with and without TLS, and go
    /// on where they were.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Connections_that_rest_go_on_where_they_were(bool tls)
    {
        using var files = new TempDir();
        new TestAuthority().Write(files, "ec");
        using ServerProcess weir = ServerProcess.Weir(Conf.Http($$"""
            server {
                listen 127.0.0.1:%PORT% {{(tls ? "ssl" : "")}}; http2 on; keepalive_timeout 600s;
                ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key;
                location / { return 200 $request_uri; add_header x-kept always-the-same; }
            }
            """), files);
        Http2Client[] clients = [.. Enumerable.Range(0, 290).Select(_ => tls ? Http2Client.ConnectTls(weir.Port)
            : Http2Client.Connect(weir.Port))];
        for (int i = 0; i < 3; i++)
        {
            foreach (Http2Client client in clients)
            {
                Http2Answer answer = client.Get($"/{i}");
                Assert.Equal((200, $"/{i}", "always-the-same"), (answer.Status, answer.Text, answer["x-kept"]));
            }
        }
        // Whoever rests hears that the server leaves, too.
        weir.Send(Signal.Quit);
        foreach (Http2Client client in clients)
        {
            Assert.NotNull(client.ReadUntil(FrameType.GoAway));
            client.Dispose();
        }
    }

    [Fact]
    public void A_head_that_never_ends_is_given_up()
    {
        using ServerProcess weir = Serve(Answer + "client_header_timeout 200ms;");
        using Http2Client client = Http2Client.Connect(weir.Port);
        client.Send(Http2Client.Frame(FrameType.Headers, FrameFlags.EndStream, 1, Http2Client.Block("a: b")));
        while (client.ReadFrame() is not null)
        {
        }

        Assert.NotNull(client.GoAway);
    }

    [Fact]
    public void A_slow_body_ends_its_stream_and_the_connection_lives()
    {
        using Upstream upstream = Upstream.Answering(static r => Upstream.Ok(r.Body));
        using ServerProcess weir = Serve("""
            client_body_timeout 200ms;
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location /now { return 200 now; }
            """, upstreamPort: upstream.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        int id = client.Begin("/", "POST", end: false, "content-length: 10");
        Assert.NotNull(client.ReadAnswer(id).Reset);
        Assert.Equal("now", client.Get("/now").Text);
    }

    [Fact]
    public void A_closed_window_times_the_stream_out_and_not_the_connection()
    {
        using var files = new TempDir();
        files.Write("file", Blob(500_000));
        using ServerProcess weir = Serve("send_timeout 200ms; location /now { return 200 now; }", files: files);
        using Http2Client client = Http2Client.Connect(weir.Port);
        client.Send(Http2Client.WindowUpdate(0, 1_000_000));
        int id = client.Begin("/file");
        Assert.Equal(Http2Error.InternalError, client.ReadUntil(FrameType.RstStream, id)!.Error);
        Assert.Equal("now", client.Get("/now").Text);
    }

    [Fact]
    public void Too_large_heads_are_answered_in_words()
    {
        using ServerProcess weir = Serve(Answer + "large_client_header_buffers 2 1k;");
        using Http2Client client = Http2Client.Connect(weir.Port);
        Assert.Equal(400, client.Get("/x", "long: " + new string('x', 1100)).Status);
        string[] many = [.. Enumerable.Range(0, 3).Select(i => $"h{i}: " + new string('x', 800))];
        Assert.Equal(400, client.Get("/x", many).Status);
        Assert.Equal(200, client.Get("/x", "long: " + new string('x', 900)).Status);
    }

    [Fact]
    public void Listen_http2_still_works_and_is_warned_of()
    {
        using var weir = ServerProcess.Weir(Conf.Http($$"""
            http2_push on; http2_recv_timeout 3s;
            server { listen 127.0.0.1:%PORT% http2; {{Answer}} }
            """));
        using Http2Client client = Http2Client.Connect(weir.Port);
        Assert.Equal("GET /x HTTP/2.0 h2c", client.Get("/x").Text);
        string log = weir.ErrorLog + weir.Process.Errors;
        Assert.Contains("the \"listen ... http2\" directive is deprecated, use the \"http2\" directive instead", log,
            StringComparison.Ordinal);
        Assert.Contains("the \"http2_push\" directive is obsolete, ignored", log, StringComparison.Ordinal);
        Assert.Contains("the \"http2_recv_timeout\" directive is obsolete, use the \"client_header_timeout\" directive "
            + "instead", log, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http2_idle_timeout 3m", "keepalive_timeout")]
    [InlineData("http2_max_requests 3", "keepalive_requests")]
    [InlineData("http2_max_field_size 4k", "large_client_header_buffers")]
    [InlineData("http2_max_header_size 16k", "large_client_header_buffers")]
    [InlineData("http2_max_concurrent_pushes 3", null)]
    [InlineData("http2_push_preload on", null)]
    public void What_is_obsolete_is_warned_of_with_what_stands_for_it(string directive, string? instead)
    {
        using var weir = ServerProcess.Weir(Conf.Http(
            $"{directive}; server {{ listen 127.0.0.1:%PORT%; http2 on; {Answer} }}"));
        using Http2Client client = Http2Client.Connect(weir.Port);
        // What was the bound of a request or of its fields has no effect any more.
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(200, client.Get("/x", "long: " + new string('x', 5000)).Status);
        }
        string name = directive[..directive.IndexOf(' ')];
        Assert.Contains($"the \"{name}\" directive is obsolete, "
            + (instead is null ? "ignored" : $"use the \"{instead}\" directive instead"),
            weir.ErrorLog + weir.Process.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void A_graceful_stop_answers_what_is_under_way_and_says_goodbye()
    {
        using var gate = new ManualResetEventSlim();
        using Upstream upstream = new(c =>
        {
            c.ReadRequest();
            gate.Wait(Http2Client.TimeoutMs);
            c.Send(Upstream.Ok("late"));
        });
        using ServerProcess weir = Serve("location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            upstreamPort: upstream.Port, master: Conf.Engine != "portable");
        using Http2Client client = Http2Client.Connect(weir.Port);
        int id = client.Begin("/");
        client.Settle();
        weir.Send(Signal.Quit);
        Http2Frame announced = client.ReadUntil(FrameType.GoAway)!;
        Assert.Equal((int.MaxValue, Http2Error.NoError), (announced.LastStreamId, announced.Error));
        Http2Frame last = client.ReadUntil(FrameType.GoAway)!;
        Assert.Equal((id, Http2Error.NoError), (last.LastStreamId, last.Error));
        gate.Set();
        Assert.Equal("late", client.ReadAnswer(id).Text);
        while (client.ReadFrame() is not null)
        {
        }
    }
}
