// The reverse proxy over real sockets: connections that are kept, streaming, upgrades, failures in every place.
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class ProxyTests
{
    private const string Pass = "proxy_pass http://127.0.0.1:%UPSTREAM%;";

    private const string Kept = """
        location / { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://kept; }
        """;

    [Fact]
    public void One_upstream_connection_serves_a_hundred_requests()
    {
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Target));
        using var weir = Start(upstream, Kept, "upstream kept { server 127.0.0.1:%UPSTREAM%; keepalive 4; }");
        using RawClient client = weir.Connect();
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal($"/{i}", client.Get($"/{i}").Text);
        }

        Assert.Equal(1, upstream.Connections);
    }

    [Fact]
    public void A_kept_connection_that_the_upstream_closed_is_not_used_again()
    {
        using var upstream = new Upstream(c =>
        {
            if (c.ReadRequest() is not null)
            {
                c.Send(Upstream.Ok($"connection {c.Index}"));
            }
        });
        using var weir = Start(upstream, Kept, "upstream kept { server 127.0.0.1:%UPSTREAM%; keepalive 4; }");
        using RawClient client = weir.Connect();
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal(200, client.Get("/").Status);
        }
    }

    [Fact]
    public void An_unbuffered_answer_reaches_the_client_as_it_is_made()
    {
        using var second = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            c.Send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "5\r\nfirst\r\n");
            second.Wait(10_000);
            c.Send("6\r\nsecond\r\n0\r\n\r\n");
        });
        using var weir = Start(upstream, "location / { proxy_http_version 1.1; proxy_buffering off; " + Pass + " }");
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", []));
        var seen = new StringBuilder();
        Wait.For("the first event", () =>
        {
            seen.Append(Encoding.Latin1.GetString(client.ReadUntilQuiet(20)));
            return seen.ToString().Contains("first", StringComparison.Ordinal);
        });
        Assert.DoesNotContain("second", seen.ToString());
        second.Set();
        Wait.For("the second event", () =>
        {
            seen.Append(Encoding.Latin1.GetString(client.ReadUntilQuiet(20)));
            return seen.ToString().Contains("second", StringComparison.Ordinal);
        });
    }

    [Fact]
    public void An_upgraded_connection_is_a_pipe_in_both_directions()
    {
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            c.Send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n");
            byte[] bytes;
            while ((bytes = c.Read()).Length > 0)
            {
                c.Send(bytes);
            }
        });
        using var weir = Start(upstream, """
            location / {
                proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
            """ + Pass + "}");
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", ["Upgrade: chat", "Connection: Upgrade"]));
        Assert.Equal(101, client.ReadResponse().Status);
        foreach (int size in new[] { 1, 100, 100_000 })
        {
            byte[] message = Encoding.Latin1.GetBytes(new string((char)('a' + (size % 26)), size));
            client.Send(message);
            Assert.Equal(message, client.ReadBytes(size));
        }

        client.HalfClose();
        Assert.True(client.WaitClosed());
    }

    [Fact]
    public void A_dead_upstream_is_a_502_and_a_silent_one_a_504()
    {
        using var upstream = new Upstream(c => c.Hold());
        using var weir = Start(upstream, "location /dead { proxy_pass http://127.0.0.1:1; }"
            + "location /silent { proxy_read_timeout 1s; " + Pass + " }");
        Assert.Equal(502, weir.Get("/dead").Status);
        Assert.Equal(504, weir.Get("/silent").Status);
        Wait.For("the log", () => weir.ErrorLog.Contains("Connection refused", StringComparison.Ordinal));
        Wait.For("the log", () => weir.ErrorLog.Contains("upstream timed out", StringComparison.Ordinal));
    }

    [Fact]
    public void An_answer_cut_short_ends_the_clients_connection()
    {
        using Upstream upstream = Upstream.AnsweringOnce("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        using var weir = Start(upstream, "location / { " + Pass + " }");
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", []));
        HttpResponse response = client.ReadResponse();
        Assert.False(response.IsComplete);
        Assert.Equal("half", response.Text);
    }

    [Fact]
    public void A_client_that_leaves_is_a_499_in_the_log()
    {
        using var asked = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            asked.Set();
            c.Hold();
        });
        using var weir = Start(upstream, "access_log %DIR%/access.log s; location / { " + Pass + " }",
            "log_format s $status;");
        RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", []));
        Assert.True(asked.Wait(5000));
        client.Dispose();
        Wait.For("a 499", () => weir.AccessLog.StartsWith("499", StringComparison.Ordinal));
    }

    [Fact]
    public void The_next_server_is_tried_when_one_is_dead()
    {
        using Upstream upstream = Upstream.Answering(_ => Upstream.Ok("alive"));
        using var weir = Start(upstream, "location / { proxy_pass http://g; }",
            "upstream g { server 127.0.0.1:1; server 127.0.0.1:%UPSTREAM%; }");
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal("alive", weir.Get("/").Text);
        }
    }

    [Fact]
    public void Weights_are_kept_smoothly()
    {
        using Upstream heavy = Upstream.Answering(_ => Upstream.Ok("h"));
        using Upstream light = Upstream.Answering(_ => Upstream.Ok("l"));
        using var weir = Start(heavy, "location / { proxy_pass http://g; }",
            "upstream g { server 127.0.0.1:%UPSTREAM% weight=3; server 127.0.0.1:" + light.Port + "; }");
        string order = string.Concat(Enumerable.Range(0, 8).Select(_ => weir.Get("/").Text));
        Assert.Equal("hhlhhhlh", order);
    }

    [Fact]
    public void A_large_body_passes_in_both_directions()
    {
        string body = new('b', 3_000_000);
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Body));
        using var weir = Start(upstream, "client_max_body_size 10m; location / { " + Pass + " }"
            + "location /stream { proxy_request_buffering off; proxy_buffering off; proxy_http_version 1.1; " + Pass
                + " }");
        foreach (string target in new[] { "/", "/stream" })
        {
            using RawClient client = weir.Connect();
            client.Send(RawClient.Request("POST", target, [], body));
            Assert.Equal(body, client.ReadResponse().Text);
        }
    }

    [Fact]
    public void A_unix_socket_upstream_is_reached()
    {
        using var front = ServerProcess.Weir(Conf.Http("""
            server { listen 127.0.0.1:%PORT%; location / { proxy_pass http://unix:%DIR%/back.sock:/base/; } }
            server { listen unix:%DIR%/back.sock; return 200 "back $uri"; }
            """));
        Assert.Equal("back /base/x", front.Get("/x").Text);
    }

    private static ServerProcess Start(Upstream upstream, string server, string http = "") =>
        ServerProcess.Weir(Conf.Server(server, http), upstreamPort: upstream.Port);
}
