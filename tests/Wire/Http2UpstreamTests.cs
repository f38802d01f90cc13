// HTTP/2 towards upstreams: streams of one connection, windows, resets and GOAWAY, what is sent again and what is not.
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class Http2UpstreamTests
{
    private const string Location = "location / { proxy_http_version 2; proxy_pass http://up; }";
    private const string Group = "upstream up { server 127.0.0.1:%UPSTREAM%; keepalive 4; }";

    private static ServerProcess Start(Upstream upstream, string location = Location, string group = Group) =>
        ServerProcess.Weir(
            Conf.Http($$"""{{group}} server { listen 127.0.0.1:%PORT%; {{location}} }"""), upstreamPort: upstream.Port);

    private static Upstream Answering(string text) => new(c =>
    {
        var http = new Http2Script(c);
        while (true)
        {
            http.Answer(http.ReadRequest(out _), text);
        }
    });

    [Fact]
    public void One_connection_serves_requests_after_one_another()
    {
        using Upstream upstream = Answering("hello");
        using ServerProcess weir = Start(upstream);
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal("hello", weir.Get("/").Text);
        }
        Assert.Equal(1, upstream.Connections);
    }

    [Fact]
    public void Requests_at_the_same_time_share_a_connection()
    {
        const int count = 10;
        using var upstream = new Upstream(static c =>
        {
            var http = new Http2Script(c);
            var streams = new List<int>();
            while (streams.Count < count)
            {
                streams.Add(http.ReadRequest(out _));
            }
            streams.Reverse();
            foreach (int stream in streams)
            {
                http.Answer(stream, "hello");
            }
            http.ReadAny();
            c.Hold();
        });
        using ServerProcess weir = Start(upstream);
        RawClient[] clients = [.. Enumerable.Range(0, count).Select(_ => weir.Connect())];
        foreach (RawClient client in clients)
        {
            client.Send(RawClient.Request("GET", "/", []));
        }
        foreach (RawClient client in clients)
        {
            Assert.Equal("hello", client.ReadResponse().Text);
            client.Dispose();
        }
        Assert.Equal(1, upstream.Connections);
    }

    [Fact]
    public void No_more_streams_are_opened_than_the_server_takes()
    {
        using var upstream = new Upstream(static c =>
        {
            var http = new Http2Script(c, (3, 1));
            while (true)
            {
                http.Answer(http.ReadRequest(out _), "hello");
            }
        });
        using ServerProcess weir = Start(upstream);
        Assert.Equal("hello", weir.Get("/").Text);
        RawClient[] clients = [.. Enumerable.Range(0, 4).Select(_ => weir.Connect())];
        foreach (RawClient client in clients)
        {
            client.Send(RawClient.Request("GET", "/", []));
        }
        foreach (RawClient client in clients)
        {
            Assert.Equal("hello", client.ReadResponse().Text);
            client.Dispose();
        }
    }

    [Fact]
    public void A_body_waits_for_the_servers_window()
    {
        using var upstream = new Upstream(static c =>
        {
            // The window of a stream is 10 at first.
            var http = new Http2Script(c, (4, 10));
            http.Answer(http.ReadRequest(out _), "ready");
            int stream = http.Read().Stream;
            int first = http.Read().Payload.Length;
            http.Send(ScriptFrame.WindowUpdate, 0, stream, [0, 1, 0, 0]);
            http.ReadRequest(out byte[] rest);
            http.Answer(stream, $"{first}+{rest.Length}");
            c.Hold();
        });
        using ServerProcess weir = Start(upstream);
        Assert.Equal("ready", weir.Get("/").Text);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/", [], new string('x', 5000)));
        Assert.Equal("10+4990", client.ReadResponse().Text);
    }

    [Fact]
    public void A_large_answer_is_let_in_window_by_window()
    {
        const int size = 3_000_000;
        using var upstream = new Upstream(static c =>
        {
            var http = new Http2Script(c);
            int stream = http.ReadRequest(out _);
            http.Head(stream, false, ":status: 200", $"content-length: {size}");
            // What the settings give a stream; the connection's own window is larger than all of this.
            long window = 256 * 1024;
            for (int sent = 0; sent < size;)
            {
                int n = (int)Math.Min(window, Math.Min(16_000, size - sent));
                if (n > 0)
                {
                    sent += n;
                    http.Data(stream, sent == size, new string('y', n));
                    window -= n;
                    continue;
                }
                ScriptFrame frame = http.ReadAny();
                if (frame.Type == ScriptFrame.WindowUpdate && frame.Stream == stream)
                {
                    window += frame.Payload[1] << 16 | frame.Payload[2] << 8 | frame.Payload[3];
                }
            }
            c.Hold();
        });
        using ServerProcess weir = Start(upstream);
        Assert.Equal(size, weir.Get("/").Body.Length);
    }

    [Theory]
    [InlineData("refused")]
    [InlineData("goaway")]
    public void A_request_that_was_not_processed_is_sent_again_whatever_it_is(string how)
    {
        using var upstream = new Upstream(c =>
        {
            var http = new Http2Script(c);
            int stream = http.ReadRequest(out byte[] body);
            if (c.Index == 0 && how == "goaway")
            {
                http.GoAway(0, 0);
                c.Hold();
                return;
            }
            if (c.Index == 0 && stream == 1)
            {
                http.Reset(stream, 7);
                stream = http.ReadRequest(out body);
            }
            http.Answer(stream, Encoding.Latin1.GetString(body));
            c.Hold();
        });
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/", [], "body"));
        HttpResponse answer = client.ReadResponse();
        Assert.Equal("body", answer.Text);
    }

    [Theory]
    [InlineData("refused", 30, true)]
    [InlineData("goaway", 30, true)]
    [InlineData("refused", 60_000, true)]
    [InlineData("refused", 200_000, false)]
    public void A_streamed_body_is_sent_again_as_far_as_it_is_kept(string how, int first, bool again)
    {
        using var came = new ManualResetEventSlim();
        using var refused = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            var http = new Http2Script(c, (4, 1_000_000));
            http.Send(ScriptFrame.WindowUpdate, 0, 0, [0, 0x10, 0, 0]);
            int stream = http.Read().Stream;
            if (c.Index == 0 && stream == 1)
            {
                for (int bytes = 0; bytes < first;)
                {
                    bytes += http.Read().Payload.Length;
                }
                came.Set();
                if (how == "goaway")
                {
                    http.GoAway(0, 0);
                    refused.Set();
                    c.Hold();
                    return;
                }
                http.Reset(stream, 7);
                refused.Set();
                if (!again)
                {
                    c.Hold();
                    return;
                }
                // What had left before the RST_STREAM was heard of may still come.
                for (int reset = stream; stream == reset;)
                {
                    stream = http.Read().Stream;
                }
            }
            while (true)
            {
                http.ReadRequest(out byte[] body);
                http.Answer(stream, $"{body.Length} {Encoding.Latin1.GetString(body[^4..])}");
                stream = http.Read().Stream;
            }
        });
        using ServerProcess weir = Start(upstream, """
            client_max_body_size 0;
            location / { proxy_http_version 2; proxy_pass http://up; proxy_request_buffering off; }
            """);
        using RawClient client = weir.Connect();
        client.Send($"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {first + 4}\r\n\r\n" + new string('x', first));
        Assert.True(came.Wait(30_000));
        Assert.True(refused.Wait(30_000));
        if (!again)
        {
            Assert.Equal(502, client.ReadResponse().Status);
            return;
        }
        client.Send("last");
        Assert.Equal($"{first + 4} last", client.ReadResponse().Text);
        // The connection goes on.
        client.Send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nmore");
        Assert.Equal("4 more", client.ReadResponse().Text);
    }

    [Fact]
    public void A_goaway_lets_streams_below_its_number_finish()
    {
        using var upstream = new Upstream(static c =>
        {
            var http = new Http2Script(c);
            int stream = http.ReadRequest(out _);
            http.Head(stream, false, ":status: 200");
            http.GoAway(stream, 0);
            http.Data(stream, true, $"connection {c.Index}");
            c.Hold();
        });
        using ServerProcess weir = Start(upstream);
        Assert.Equal("connection 0", weir.Get("/").Text);
        Assert.Equal("connection 1", weir.Get("/").Text);
    }

    [Theory]
    [InlineData("reset", 502, "upstream rejected request with error 2 (INTERNAL_ERROR)")]
    [InlineData("nostatus", 502, "upstream sent no :status header (RFC 9113 8.3.2)")]
    [InlineData("upper", 502, "upstream sent header name with letters in upper case (RFC 9113 8.2.1)")]
    [InlineData("connection", 502, "upstream sent header of the connection (RFC 9113 8.2.2)")]
    [InlineData("big", 502, "upstream sent too big header")]
    [InlineData("databeforehead", 502, "upstream sent no :status header")]
    [InlineData("hpack", 502, "upstream sent header block with an invalid table index (RFC 7541 2.3.3)")]
    [InlineData("http1", 502, "upstream sent frame larger than SETTINGS_MAX_FRAME_SIZE")]
    [InlineData("close", 502, "upstream prematurely closed connection")]
    public void A_server_that_breaks_the_protocol_is_named_in_the_log(string how, int status, string log)
    {
        using var upstream = new Upstream(c =>
        {
            if (how == "http1")
            {
                c.Read();
                c.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                c.Hold();
                return;
            }
            var http = new Http2Script(c);
            int stream = http.ReadRequest(out _);
            switch (how)
            {
                case "reset":
                    http.Reset(stream, 2);
                    break;
                case "nostatus":
                    http.Head(stream, true, "x-a: b");
                    break;
                case "upper":
                    http.Head(stream, true, ":status: 200", "X-A: b");
                    break;
                case "connection":
                    http.Head(stream, true, ":status: 200", "keep-alive: 5");
                    break;
                case "big":
                    http.Head(stream, true,
                        [":status: 200", .. Enumerable.Repeat("x-filler: " + new string('f', 100), 60)]);
                    break;
                case "databeforehead":
                    http.Data(stream, true, "x");
                    break;
                case "hpack":
                    http.Send(ScriptFrame.Headers, 5, stream, [0x80]);
                    break;
                case "close":
                    c.HalfClose();
                    break;
            }
            c.Hold();
        });
        using ServerProcess weir = Start(upstream);
        Assert.Equal(status, weir.Get("/").Status);
        Wait.For("the log", () => weir.ErrorLog.Contains(log, StringComparison.Ordinal));
    }

    [Fact]
    public void A_body_shorter_than_its_length_ends_the_connection_to_the_client()
    {
        using var upstream = new Upstream(static c =>
        {
            var http = new Http2Script(c);
            int stream = http.ReadRequest(out _);
            http.Head(stream, false, ":status: 200", "content-length: 10");
            http.Data(stream, true, "short");
            c.Hold();
        });
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", []));
        Assert.EndsWith("short", Encoding.Latin1.GetString(client.ReadToEnd()), StringComparison.Ordinal);
        Wait.For("the log", () =>
            weir.ErrorLog.Contains("body of another length than content-length", StringComparison.Ordinal));
    }

    [Fact]
    public void A_client_that_leaves_takes_its_stream_along_and_no_other()
    {
        using var asked = new ManualResetEventSlim();
        using var reset = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            var http = new Http2Script(c);
            int first = http.ReadRequest(out _);
            asked.Set();
            while (true)
            {
                ScriptFrame frame = http.ReadAny();
                if (frame is { Type: ScriptFrame.RstStream, Payload: [0, 0, 0, 8] } && frame.Stream == first)
                {
                    reset.Set();
                    break;
                }
            }
            http.Answer(http.ReadRequest(out _), "still here");
            c.Hold();
        });
        using ServerProcess weir = Start(upstream);
        using (RawClient client = weir.Connect())
        {
            client.Send(RawClient.Request("GET", "/", []));
            Assert.True(asked.Wait(30_000));
        }
        Assert.True(reset.Wait(30_000));
        Assert.Equal("still here", weir.Get("/").Text);
        Assert.Equal(1, upstream.Connections);
    }

    [Fact]
    public void A_TLS_server_is_asked_for_HTTP2_by_ALPN()
    {
        using ServerProcess back = Secure("http2 on;");
        using ServerProcess weir = ServerProcess.Weir(Conf.Http($$"""
            server { listen 127.0.0.1:%PORT%;
                location / { proxy_http_version 2; proxy_pass https://127.0.0.1:{{back.Port}}; }
                location /grpc { grpc_pass grpcs://127.0.0.1:{{back.Port}}; } }
            """));
        Assert.Equal("https h2 h2", weir.Get("/").Text);
        Assert.Equal("https h2 h2", weir.Get("/grpc").Text);
    }

    [Fact]
    public void A_TLS_server_without_HTTP2_is_a_bad_gateway()
    {
        using ServerProcess back = Secure("");
        using ServerProcess weir = ServerProcess.Weir(Conf.Http($$"""
            server { listen 127.0.0.1:%PORT%;
                location / { proxy_http_version 2; proxy_pass https://127.0.0.1:{{back.Port}}; } }
            """));
        Assert.Equal(502, weir.Get("/").Status);
        Wait.For("the log", () => weir.ErrorLog.Contains("upstream", StringComparison.Ordinal));
    }

    private static ServerProcess Secure(string settings)
    {
        var files = new TempDir();
        new TestAuthority().Write(files, "back", TestKey.Ecdsa, "back.test", "127.0.0.1");
        return ServerProcess.Weir(Conf.Http($$"""
            server {
                listen 127.0.0.1:%PORT% ssl;
                ssl_certificate %FILES%/back.crt; ssl_certificate_key %FILES%/back.key;
                {{settings}}
                location / { return 200 "$scheme $http2 $ssl_alpn_protocol"; }
            }
            """), files);
    }
}
