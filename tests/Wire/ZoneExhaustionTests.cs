// Zones that are full: what is oldest goes, or the one request that has no room is refused with one line in the log;
// the server lives on and everybody who is known stays known.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class ZoneExhaustionTests
{
    private const int PatientMs = 30_000;

    /// <summary>Long, so that a small zone has room for a hundred of them.</summary>
    private static string Key(int n) => n.ToString("D4", CultureInfo.InvariantCulture) + new string('x', 196);

    private static int Count(string text, string what)
    {
        int count = 0;
        for (int at = 0; (at = text.IndexOf(what, at, StringComparison.Ordinal)) >= 0; at += what.Length)
        {
            count++;
        }
        return count;
    }

    [Fact]
    public void A_zone_of_rates_that_is_full_forgets_the_oldest_key()
    {
        using var weir = ServerProcess.Weir(Conf.Server(
            "keepalive_requests 10000; location / { limit_req zone=rates; try_files /none =404; }",
            "limit_req_zone $arg_k zone=rates:32k rate=1r/m;"));
        using RawClient client = weir.Connect();
        for (int i = 0; i < 400; i++)
        {
            Assert.Equal(404, client.Get("/?k=" + Key(i)).Status);
        }
        Assert.Equal(503, client.Get("/?k=" + Key(399)).Status);
        Assert.Equal(404, client.Get("/?k=" + Key(0)).Status);
        Assert.DoesNotContain("could not allocate node", weir.ErrorLog, StringComparison.Ordinal);
    }

    [Fact]
    public void A_zone_of_connections_that_is_full_refuses_whom_it_cannot_count_with_a_line_each()
    {
        const int Clients = 150;
        using var weir = ServerProcess.Weir(Conf.Server(
            "location / { limit_conn conns 1; proxy_pass http://127.0.0.1:1; }",
            "limit_conn_zone $arg_k zone=conns:32k;"));
        var clients = new List<RawClient>();
        for (int i = 0; i < Clients; i++)
        {
            // A body that does not come keeps its request under way.
            clients.Add(weir.Connect().Send(RawClient.Request("POST", "/?k=" + Key(i), ["Content-Length: 1"])));
        }
        Wait.For("the zone is full", () => weir.ErrorLog.Contains("no memory in limit_conn_zone \"conns\"",
            StringComparison.Ordinal), PatientMs);
        int refused = 0;
        foreach (RawClient client in clients)
        {
            client.TrySend("x"u8.ToArray());
            int status = client.ReadResponse().Status;
            Assert.True(status is 502 or 503, $"{status}");
            refused += status == 503 ? 1 : 0;
            client.Dispose();
        }
        Assert.InRange(refused, 1, Clients - 10);
        Wait.For("a line each", () => Count(weir.ErrorLog, "no memory in limit_conn_zone") == refused, PatientMs);
        Wait.For("room again", () => weir.Get("/?k=" + Key(Clients)).Status == 502, PatientMs);
    }

    [Fact]
    public void A_zone_of_cache_keys_that_is_full_forgets_the_oldest_answer()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("body", "Cache-Control: max-age=1000"));
        using var weir = ServerProcess.Weir(Conf.Server("""
            keepalive_requests 10000; add_header X-Cache $upstream_cache_status;
            location / { proxy_cache keys; proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1;
                proxy_set_header Connection ""; }
            """, "proxy_cache_path %DIR%/cache keys_zone=keys:32k use_temp_path=off;"), upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        string? State(int n) => client.Get("/" + n.ToString(CultureInfo.InvariantCulture))["X-Cache"];
        for (int i = 0; i < 450; i++)
        {
            Assert.Equal("MISS", State(i));
        }
        Assert.Equal("HIT", State(449));
        Assert.Equal("MISS", State(0));
        Assert.DoesNotContain("[alert]", weir.ErrorLog, StringComparison.Ordinal);
        Assert.DoesNotContain("[crit]", weir.ErrorLog, StringComparison.Ordinal);
    }

    [Fact]
    public void A_zone_of_sessions_that_is_full_forgets_the_oldest_session()
    {
        int made = 0;
        string Session(string name) => Upstream.Ok(name, "Set-Cookie: sid=" + Key(Interlocked.Increment(ref made)));
        using Upstream a = Upstream.Answering(_ => Session("a"));
        using Upstream b = Upstream.Answering(_ => Session("b"));
        using var weir = ServerProcess.Weir(Conf.Server("""
            keepalive_requests 10000;
            location / { proxy_pass http://pool; proxy_http_version 1.1; proxy_set_header Connection ""; }
            """, $"upstream pool {{ server 127.0.0.1:{a.Port}; server 127.0.0.1:{b.Port}; sticky learn "
            + "create=$upstream_cookie_sid lookup=$cookie_sid zone=sessions:32k timeout=1h; }"));
        using RawClient client = weir.Connect();
        string newest = "";
        for (int i = 0; i < 400; i++)
        {
            newest = client.Get("/").Text;
        }
        string[] Asked(int session) => [.. Enumerable.Range(0, 4)
            .Select(_ => client.Get("/", "Cookie: sid=" + Key(session)).Text).Distinct()];
        Assert.Equal([newest], Asked(400));
        Assert.Equal(2, Asked(1).Length);
        Assert.DoesNotContain("[alert]", weir.ErrorLog, StringComparison.Ordinal);
    }

    [Fact]
    public void A_zone_of_servers_that_is_full_refuses_one_more_with_a_line_and_has_room_again_without_one()
    {
        const string Servers = "/api/9/http/upstreams/pool/servers/";
        using Upstream upstream = Upstream.Answering(Upstream.Ok("body"));
        using var weir = ServerProcess.Weir(Conf.Server(
            "keepalive_requests 10000; location / { proxy_pass http://pool; } location /api/ { api write=on; }",
            "upstream pool { zone pool 32k; server 127.0.0.1:%UPSTREAM%; }"), upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        HttpResponse Ask(string method, string path, string body = "") =>
            client.Send(RawClient.Request(method, path, ["Content-Type: application/json"], body)).ReadResponse();
        HttpResponse Add(int n) =>
            Ask("POST", Servers, $"{{\"server\":\"127.1.{n / 250}.{n % 250}:1\",\"down\":true}}");
        int added = 0;
        HttpResponse last;
        while ((last = Add(added)).Status == 201)
        {
            Assert.True(++added < 10_000);
        }
        Assert.Equal(400, last.Status);
        Assert.Contains("memory exhausted", last.Text, StringComparison.Ordinal);
        Assert.InRange(added, 20, 9999);
        Wait.For("a line", () => Count(weir.ErrorLog, "no room for one more server") == 1, PatientMs);
        Assert.Equal("body", client.Get("/").Text);
        Assert.Equal(200, Ask("DELETE", Servers + "1").Status);
        Assert.Equal(201, Add(added).Status);
        Assert.Equal("body", client.Get("/").Text);
        Assert.Equal(1, Count(weir.ErrorLog, "no room for one more server"));
        Assert.DoesNotContain("[alert]", weir.ErrorLog, StringComparison.Ordinal);
    }
}
