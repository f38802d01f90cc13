// Scripted upstreams that behave in every way an upstream can: what the client gets, and what the upstream was sent.
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class ProxyAnswersTests
{
    private const string Pass = "proxy_pass http://127.0.0.1:%UPSTREAM%;";

    private static ServerProcess Start(Upstream upstream, string location, string http = "") =>
        ServerProcess.Weir(Conf.Server($"location / {{ {location} }}", http), upstreamPort: upstream.Port);

    private static HttpResponse Answered(string answer, string location = Pass, string method = "GET")
    {
        using Upstream upstream = Upstream.AnsweringOnce(answer);
        using ServerProcess server = Start(upstream, location);
        using RawClient client = server.Connect();
        client.Send(RawClient.Request(method, "/", []));
        return client.ReadResponse(answersHead: method == "HEAD");
    }

    [Fact]
    public void A_chunked_answer_is_framed_anew()
    {
        HttpResponse response =
            Answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        Assert.Equal("abcde", response.Text);
        Assert.True(response.IsComplete);
    }

    [Fact]
    public void An_answer_without_a_length_ends_with_the_connection() =>
        Assert.Equal("until the end", Answered("HTTP/1.0 200 OK\r\n\r\nuntil the end").Text);

    [Fact]
    public void Interim_answers_are_not_the_answer() =>
        Assert.Equal("ok", Answered("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").Text);

    [Fact]
    public void Early_hints_pass_where_they_are_wanted()
    {
        HttpResponse hint =
            Answered("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "early_hints 1; " + Pass);
        Assert.Equal(103, hint.Status);
        Assert.Equal("</a>", hint["Link"]);
    }

    [Theory]
    [InlineData("garbage\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nA B: c\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Le")]
    [InlineData("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")]
    public void An_answer_that_could_be_read_two_ways_is_a_502(string answer) => Assert.Equal(502,
        Answered(answer).Status);

    [Fact]
    public void A_head_larger_than_its_buffer_is_a_502() =>
        Assert.Equal(502,
            Answered($"HTTP/1.1 200 OK\r\nX: {new string('h', 9000)}\r\nContent-Length: 0\r\n\r\n").Status);

    [Fact]
    public void A_head_request_keeps_the_length_and_has_no_body()
    {
        HttpResponse response = Answered("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method: "HEAD");
        Assert.Equal("5", response["Content-Length"]);
    }

    [Theory]
    [InlineData(204)]
    [InlineData(304)]
    public void Answers_without_a_body_keep_the_connection(int status)
    {
        using Upstream upstream = Upstream.Answering($"HTTP/1.1 {status} Fine\r\nETag: \"x\"\r\n\r\n");
        using ServerProcess server = Start(upstream, "proxy_pass http://g;",
            $"upstream g {{ server 127.0.0.1:{upstream.Port}; }}");
        using RawClient client = server.Connect();
        Assert.Equal(status, client.Get("/").Status);
        Assert.Equal(status, client.Get("/").Status);
        Assert.Equal(1, upstream.Connections);
    }

    [Fact]
    public void Hop_by_hop_fields_do_not_pass_and_framing_is_written_anew()
    {
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Head));
        using ServerProcess server = Start(upstream, Pass);
        using RawClient client = server.Connect();
        client.Send("POST / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n"
            + "TE: trailers\r\nKeep-Alive: 5\r\n"
            + "Proxy-Connection: close\r\nUpgrade: y\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
        string head = client.ReadResponse().Text;
        Assert.Contains("Content-Length: 2\r\n", head);
        foreach (string name in (string[])["X-Hop", "TE:", "Keep-Alive", "Proxy-Connection", "Upgrade",
            "Transfer-Encoding"])
        {
            Assert.DoesNotContain(name, head);
        }
    }

    [Fact]
    public void A_streamed_body_reaches_the_upstream_while_the_client_sends_it()
    {
        using var seen = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            c.ReadHead();
            seen.Set();
            string all = "";
            while (!all.EndsWith("0\r\n\r\n", StringComparison.Ordinal) && c.Read() is { Length: > 0 } more)
            {
                all += Encoding.Latin1.GetString(more);
            }
            c.Send(Upstream.Ok(all.Contains("second", StringComparison.Ordinal) ? "whole" : "part"));
        });
        using ServerProcess server = Start(upstream, "proxy_request_buffering off; " + Pass);
        using RawClient client = server.Connect();
        client.Send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        Assert.True(seen.Wait(5000));
        client.Send("6\r\nsecond\r\n0\r\n\r\n");
        Assert.Equal("whole", client.ReadResponse().Text);
    }

    [Fact]
    public void A_slow_client_does_not_hold_the_upstream()
    {
        const int Bytes = 8_000_000;
        using var done = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            c.Send(Upstream.Ok(new string('z', Bytes)));
            c.Read();
            done.Set();
        });
        using ServerProcess server = Start(upstream, Pass + " proxy_read_timeout 5s;");
        using RawClient client = server.Connect();
        client.Send(RawClient.Request("GET", "/", ["Connection: close"]));
        Assert.True(done.Wait(10_000), "the upstream still waits");
        Assert.Equal(Bytes, client.ReadResponse(timeoutMs: 20_000).Body.Length);
    }

    [Fact]
    public void An_error_status_is_passed_over_only_where_it_is_named()
    {
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            c.Send(c.Index == 0 ? "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n" : Upstream.Ok("second"));
        });
        string group = $"upstream g {{ server 127.0.0.1:{upstream.Port}; server 127.0.0.1:{upstream.Port}; }}";
        using ServerProcess server = Start(upstream, "proxy_pass http://g; proxy_next_upstream http_503;", group);
        Assert.Equal("second", server.Get("/").Text);
    }

    [Fact]
    public void A_post_is_not_sent_twice_unless_that_is_allowed()
    {
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            c.Close();
        });
        string group = $"upstream g {{ server 127.0.0.1:{upstream.Port}; server 127.0.0.1:{upstream.Port}; }}";
        using ServerProcess server = Start(upstream, "proxy_pass http://g;", group);
        using RawClient client = server.Connect();
        client.Send(RawClient.Request("POST", "/", [], "body"));
        Assert.Equal(502, client.ReadResponse().Status);
        Assert.Single(upstream.Requests);
    }

    [Fact]
    public void A_kept_connection_that_closes_under_a_request_is_replaced()
    {
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            c.Send(Upstream.Ok($"connection {c.Index}"));
            if (c.Index == 0)
            {
                // Closes as soon as the next request arrives, without an answer.
                c.ReadHead();
                c.Reset();
            }
        });
        using ServerProcess server = Start(upstream, "proxy_pass http://g;",
            $"upstream g {{ server 127.0.0.1:{upstream.Port}; }}");
        using RawClient client = server.Connect();
        Assert.Equal("connection 0", client.Get("/").Text);
        Assert.Equal("connection 1", client.Get("/").Text);
    }

    [Fact]
    public void A_name_in_a_variable_is_looked_up_and_a_dead_one_stops_nothing()
    {
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Header("host") ?? ""));
        using var dns = new NameServer();
        using ServerProcess server = ServerProcess.Weir(Conf.Server($$"""
            resolver 127.0.0.1:{{dns.Port}} ipv6=off; resolver_timeout 20s;
            location / { set $h app.test; proxy_pass http://$h:%UPSTREAM%; }
            location /nx { set $h nx.test; proxy_pass http://$h:%UPSTREAM%; }
            """), upstreamPort: upstream.Port);
        Assert.Equal($"app.test:{upstream.Port}", server.Get("/").Text);
        Assert.Equal($"app.test:{upstream.Port}", server.Get("/").Text);
        Assert.Equal(1, dns.Questions);
        Assert.Equal(502, server.Get("/nx").Status);
        Wait.For("the log",
            () => server.ErrorLog.Contains("nx.test could not be resolved (3: Host not found)"));
    }

    [Fact]
    public void An_answer_that_does_not_fit_into_a_datagram_is_fetched_over_TCP()
    {
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Header("host") ?? ""));
        using var dns = new NameServer();
        using ServerProcess server = ServerProcess.Weir(Conf.Server($$"""
            resolver 127.0.0.1:{{dns.Port}} ipv6=off; resolver_timeout 20s;
            location / { set $h $arg_h; proxy_pass http://$h:%UPSTREAM%/; }
            """), upstreamPort: upstream.Port);
        Assert.Equal($"tall.test:{upstream.Port}", server.Get("/?h=tall.test").Text);
        Assert.Equal(1, dns.StreamQuestions);
        Assert.Equal($"tall.test:{upstream.Port}", server.Get("/?h=tall.test").Text);
        Assert.Equal(1, dns.StreamQuestions);
        Assert.Equal(502, server.Get("/?h=txt-only.test").Status);
        Wait.For("the log",
            () => server.ErrorLog.Contains("txt-only.test could not be resolved (2: Server failure)"));
    }

    [Fact]
    public void Idle_connections_to_servers_make_room_when_connections_run_out()
    {
        const int groups = 20;
        using Upstream upstream = Upstream.Answering(static _ => Upstream.Ok("up"));
        var http = new System.Text.StringBuilder();
        var locations = new System.Text.StringBuilder("location /own { return 200 own; }\n");
        for (int i = 0; i < groups; i++)
        {
            http.AppendLine($"upstream g{i} {{ server 127.0.0.1:{upstream.Port}; keepalive 4; }}");
            locations.AppendLine($"location /up{i}/ {{ proxy_pass http://g{i}; }}");
        }
        using ServerProcess server = ServerProcess.Weir(Conf.Full($$"""
            daemon off;
            worker_processes 1;
            user root;
            pid %DIR%/server.pid;
            error_log %DIR%/error.log info;
            events { worker_connections 32; }
            http { {{http}} server { listen 127.0.0.1:%PORT%; {{locations}} } }
            """));
        var clients = new List<RawClient> { server.Connect() };
        for (int i = 0; i < groups; i++)
        {
            Assert.Equal("up", clients[0].Get($"/up{i}/").Text);
        }
        // The first client asks before each newcomer: what has been idle longest are connections to servers.
        for (int i = 0; i < groups; i++)
        {
            RawClient client = server.Connect();
            clients.Add(client);
            clients.ForEach(static c => Assert.Equal("own", c.Get("/own").Text));
        }
        clients.ForEach(static c => c.Dispose());
    }
}
