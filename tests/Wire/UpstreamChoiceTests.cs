// Which server of a group is asked, how often and for how long another one is tried, and who is left out.
using System.Net;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class UpstreamChoiceTests
{
    private const string Fails = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

    [Theory]
    [InlineData("proxy_next_upstream_tries 2;", 2)]
    [InlineData("proxy_next_upstream_tries 0;", 3)]
    [InlineData("proxy_next_upstream off;", 1)]
    public void No_more_servers_are_tried_than_allowed(string directive, int tries)
    {
        using Upstream a = Upstream.Answering(Fails);
        using Upstream b = Upstream.Answering(Fails);
        using Upstream c = Upstream.Answering(Fails);
        using var weir = ServerProcess.Weir(Conf.Server(
            $"location / {{ proxy_pass http://g; proxy_next_upstream http_500; {directive} }}".Replace(
                directive.Contains(" off") ? "proxy_next_upstream http_500; " : "\0", ""),
            $"upstream g {{ server 127.0.0.1:{a.Port}; server 127.0.0.1:{b.Port}; server 127.0.0.1:{c.Port}; }}"));
        Assert.Equal(500, weir.Get("/").Status);
        Assert.Equal(tries, a.Requests.Count + b.Requests.Count + c.Requests.Count);
    }

    [Theory]
    [InlineData("", 200)]
    [InlineData("proxy_next_upstream off;", 502)]
    public void A_server_that_dies_between_head_and_body_has_failed_like_any_other(string directive, int status)
    {
        const string HeadAlone = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        using Upstream dies = Upstream.AnsweringOnce(HeadAlone);
        using Upstream other = Upstream.Answering(static _ => Upstream.Ok("other"));
        using var weir = ServerProcess.Weir(Conf.Server($"location / {{ proxy_pass http://g; {directive} }}",
            $"upstream g {{ server 127.0.0.1:{dies.Port}; server 127.0.0.1:{other.Port} backup; }}"));
        Assert.Equal(status, weir.Get("/").Status);
        Wait.For("the log line", () =>
            weir.ErrorLog.Contains("upstream prematurely closed connection while reading upstream"));
    }

    [Fact]
    public void No_server_is_tried_when_the_time_for_it_is_over()
    {
        using var slow = new Upstream(static c =>
        {
            c.ReadRequest();
            Thread.Sleep(300);
            c.Send(Fails);
        });
        using Upstream other = Upstream.Answering(static _ => Upstream.Ok("other"));
        using var weir = ServerProcess.Weir(Conf.Server(
            "location / { proxy_pass http://g; proxy_next_upstream http_500; proxy_next_upstream_timeout 50ms; }",
            $"upstream g {{ server 127.0.0.1:{slow.Port}; server 127.0.0.1:{other.Port} backup; }}"));
        Assert.Equal(500, weir.Get("/").Status);
        Assert.Empty(other.Requests);
    }

    [Fact]
    public void A_server_that_failed_too_often_is_left_out()
    {
        using Upstream bad = Upstream.Answering(Fails);
        using Upstream good = Upstream.Answering(static _ => Upstream.Ok("good"));
        using var weir = ServerProcess.Weir(Conf.Server(
            "location / { proxy_pass http://g; proxy_next_upstream http_500; }",
            $"upstream g {{ server 127.0.0.1:{bad.Port} max_fails=2 fail_timeout=1h; "
            + $"server 127.0.0.1:{good.Port}; }}"));
        for (int i = 0; i < 12; i++)
        {
            Assert.Equal("good", weir.Get("/").Text);
        }
        Assert.Equal(2, bad.Requests.Count);
    }

    [Fact]
    public void A_backup_serves_only_when_the_others_cannot_and_what_is_down_never()
    {
        using Upstream down = Upstream.Answering(static _ => Upstream.Ok("down"));
        using Upstream backup = Upstream.Answering(static _ => Upstream.Ok("backup"));
        using Upstream main = Upstream.Answering(static _ => Upstream.Ok("main"));
        using var weir = ServerProcess.Weir(Conf.Server(
            "location /g { proxy_pass http://g; } location /dead { proxy_pass http://dead; }",
            $"upstream g {{ server 127.0.0.1:{down.Port} down; server 127.0.0.1:{main.Port}; "
            + $"server 127.0.0.1:{backup.Port} backup; }} upstream dead {{ server 127.0.0.1:1; "
            + $"server 127.0.0.1:{backup.Port} backup; }}"));
        for (int i = 0; i < 4; i++)
        {
            Assert.Equal("main", weir.Get("/g").Text);
            Assert.Equal("backup", weir.Get("/dead").Text);
        }
        Assert.Empty(down.Requests);
    }

    [Fact]
    public void A_server_has_no_more_connections_than_it_may()
    {
        using var asked = new ManualResetEventSlim();
        using var answer = new ManualResetEventSlim();
        using var narrow = new Upstream(c =>
        {
            c.ReadRequest();
            asked.Set();
            answer.Wait(30_000);
            c.Send(Upstream.Ok("narrow", "Connection: close"));
            c.Close();
        });
        using var weir = ServerProcess.Weir(Conf.Server("location / { proxy_pass http://g; }",
            $"upstream g {{ server 127.0.0.1:{narrow.Port} max_conns=1; }}"));
        using RawClient first = weir.Connect();
        first.Send(RawClient.Request("GET", "/", []));
        Assert.True(asked.Wait(30_000));
        Assert.Equal(502, weir.Get("/").Status);
        answer.Set();
        Assert.Equal("narrow", first.ReadResponse().Text);
        Assert.Equal(1, narrow.Connections);
    }

    [Fact]
    public void The_address_to_ask_from_can_be_chosen()
    {
        using var upstream = new Upstream(static c =>
        {
            c.ReadRequest();
            c.Send(Upstream.Ok(((IPEndPoint)c.Socket.RemoteEndPoint!).Address.ToString(), "Connection: close"));
            c.Close();
        });
        using var weir = ServerProcess.Weir(Conf.Server("""
            location /fixed { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_bind 127.0.0.7; }
            location /variable { set $from 127.0.0.8; proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_bind $from; }
            """), upstreamPort: upstream.Port);
        Assert.Equal("127.0.0.7", weir.Get("/fixed").Text);
        Assert.Equal("127.0.0.8", weir.Get("/variable").Text);
    }

    /// <summary>192.0.2.0/24 (RFC 5737) is nobody's: without the parameter nothing can be bound to it, with it the
    /// connection is tried, and nobody's answer never comes.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    [Trait("Needs", "master")]
    public void A_transparent_address_to_ask_from_need_not_be_this_machine_s(bool master)
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("here"));
        const string To = "proxy_pass http://127.0.0.1:%UPSTREAM%;";
        Conf conf = Conf.Server($$"""
            proxy_connect_timeout 200ms;
            location /own { {{To}} proxy_bind 192.0.2.7; }
            location /any { {{To}} proxy_bind 192.0.2.7 transparent; }
            location /variable { {{To}} set $from 192.0.2.8; proxy_bind $from transparent; }
            """, master: master);
        using var weir = ServerProcess.Weir(conf with
        {
            Text = conf.Text.Replace("user root;", "user nobody;", StringComparison.Ordinal),
        }, upstreamPort: upstream.Port);
        Assert.Equal(502, weir.Get("/own").Status);
        bool may = MayOpenRawSockets(ChildProcess.ChildrenOf(weir.Process.Pid) is [int worker, ..] && master
            ? worker : weir.Process.Pid);
        Assert.Equal(MayOpenRawSockets(Environment.ProcessId), may);
        Assert.Equal(may ? 504 : 502, weir.Get("/any").Status);
        Assert.Equal(may ? 504 : 502, weir.Get("/variable").Status);
        Wait.For("the log", () => weir.ErrorLog.Contains(may ? "timed out" : "Operation not permitted",
            StringComparison.Ordinal));
    }

    private static bool MayOpenRawSockets(int pid)
    {
        string line = File.ReadLines($"/proc/{pid}/status").First(static l => l.StartsWith("CapEff:",
            StringComparison.Ordinal));
        return (Convert.ToUInt64(line[7..].Trim(), 16) >> 13 & 1) != 0;
    }

    [Fact]
    public void An_exchange_goes_on_without_its_client_where_that_is_asked_for()
    {
        using var asked = new ManualResetEventSlim();
        using var gone = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            asked.Set();
            gone.Wait(30_000);
            c.Send(Upstream.Ok("whole"));
        });
        using var weir = ServerProcess.Weir(Conf.Server(
            "access_log %DIR%/access.log s; location / { proxy_pass http://127.0.0.1:%UPSTREAM%; "
            + "proxy_ignore_client_abort on; }", "log_format s \"$status $upstream_status $upstream_bytes_received\";"),
            upstreamPort: upstream.Port);
        RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", []));
        Assert.True(asked.Wait(30_000));
        client.Dispose();
        gone.Set();
        Wait.For("the exchange's end", () => weir.AccessLog.EndsWith('\n'), 30_000);
        Assert.StartsWith("200 200 ", weir.AccessLog);
    }
}
