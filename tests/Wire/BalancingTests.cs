// Groups of servers whose state the workers share, requests that wait for a server, and sessions that stay with theirs.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class BalancingTests
{
    private const int PatientMs = 30_000;

    private static Upstream Named(string name, params string[] headers) =>
        Upstream.Answering(_ => Upstream.Ok(name, headers));

    private static Upstream Holding(string name, ManualResetEventSlim release) => new(c =>
    {
        while (c.ReadRequest() is not null)
        {
            release.Wait(PatientMs);
            c.Send(Upstream.Ok(name));
        }
    });

    private static string Server(Upstream upstream, string parameters = "") =>
        string.Create(CultureInfo.InvariantCulture, $"server 127.0.0.1:{upstream.Port} {parameters};");

    private static Conf Pool(string group, int workers = 1, string location = "", string server = "") =>
        Conf.Server($"{server} location / {{ proxy_pass http://g; {location} }}", $"upstream g {{ {group} }}", workers,
            master: workers > 1);

    [Fact]
    [Trait("Needs", "master")]
    public void Four_workers_keep_one_order_of_weights()
    {
        using Upstream a = Named("a");
        using Upstream b = Named("b");
        using Upstream c = Named("c");
        using var weir = ServerProcess.Weir(Pool(
            "zone z 64k;" + Server(a, "weight=5") + Server(b, "weight=3") + Server(c, "weight=1"), workers: 4));
        string order = string.Concat(Enumerable.Range(0, 45).Select(_ => weir.Get("/").Text));
        for (int i = 0; i < order.Length; i += 9)
        {
            Assert.Equal("aaaaabbbc", string.Concat(order.Substring(i, 9).Order()));
        }
    }

    [Fact]
    [Trait("Needs", "master")]
    public void The_limit_of_connections_holds_over_workers_and_a_killed_one_leaves_none_behind()
    {
        using var release = new ManualResetEventSlim();
        using Upstream narrow = Holding("narrow", release);
        using var weir = ServerProcess.Weir(Pool("zone z 64k;" + Server(narrow, "max_conns=3"), workers: 2));
        var clients = new List<RawClient>();
        for (int i = 0; i < 3; i++)
        {
            RawClient client = weir.Connect();
            client.Send(RawClient.Request("GET", "/", []));
            clients.Add(client);
        }
        Wait.For("three are under way", () => narrow.Requests.Count == 3, PatientMs);
        for (int i = 0; i < 8; i++)
        {
            Assert.Equal(502, weir.Get("/").Status);
        }
        int[] before = weir.Workers();
        foreach (int worker in before)
        {
            ChildProcess.Send(worker, Signal.Kill);
        }
        Wait.For("new workers", () => weir.Workers() is { Length: 2 } now && !now.Intersect(before).Any(), PatientMs);
        release.Set();
        Assert.Equal("narrow", weir.Get("/").Text);
        clients.ForEach(static c => c.Dispose());
    }

    [Fact]
    [Trait("Needs", "master")]
    public void A_failure_that_one_worker_saw_is_known_to_all()
    {
        using Upstream bad = Upstream.Answering("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
        using Upstream good = Named("good");
        using var weir = ServerProcess.Weir(Pool(
            "zone z 64k;" + Server(bad, "max_fails=2 fail_timeout=1h") + Server(good), workers: 2,
            location: "proxy_next_upstream http_500;"));
        for (int i = 0; i < 30; i++)
        {
            Assert.Equal("good", weir.Get("/").Text);
        }
        Assert.Equal(2, bad.Requests.Count);
    }

    [Fact]
    public void Requests_wait_in_the_queue_in_their_order_until_a_server_has_room()
    {
        using var release = new ManualResetEventSlim();
        using Upstream narrow = Holding("narrow", release);
        using var weir = ServerProcess.Weir(Pool(Server(narrow, "max_conns=1") + "queue 2 timeout=1h;"));
        var clients = new List<RawClient>();
        for (int i = 0; i < 3; i++)
        {
            RawClient client = weir.Connect();
            clients.Add(client);
            client.Send(RawClient.Request("GET", $"/{i}", []));
            // One is under way, then each of the others has taken its place before the next comes.
            Wait.For("the first is asked", () => narrow.Requests.Count == 1, PatientMs);
        }
        Wait.For("the queue is full", () => weir.Get("/over").Status == 502, PatientMs);
        Wait.For("the log", () => weir.ErrorLog.Contains("upstream queue is full", StringComparison.Ordinal));
        release.Set();
        Assert.All(clients, static c => Assert.Equal("narrow", c.ReadResponse().Text));
        clients.ForEach(static c => c.Dispose());
    }

    [Fact]
    public void A_wait_in_the_queue_ends_with_its_time_or_its_client()
    {
        using var release = new ManualResetEventSlim();
        using Upstream narrow = Holding("narrow", release);
        using var weir = ServerProcess.Weir(Pool(Server(narrow, "max_conns=1") + "queue 2 timeout=100ms;"));
        using RawClient first = weir.Connect();
        first.Send(RawClient.Request("GET", "/", []));
        Wait.For("the first is asked", () => narrow.Requests.Count == 1, PatientMs);
        Assert.Equal(502, weir.Get("/").Status);
        Wait.For("the log", () => weir.ErrorLog.Contains("upstream queue timed out", StringComparison.Ordinal));
        for (int i = 0; i < 5; i++)
        {
            RawClient gone = weir.Connect();
            gone.Send(RawClient.Request("GET", "/", []));
            gone.Dispose();
        }
        release.Set();
        Assert.Equal("narrow", first.ReadResponse().Text);
        Wait.For("a server with room", () => weir.Get("/").Status == 200, PatientMs);
    }

    [Fact]
    public void A_cookie_binds_a_client_to_its_server_until_that_is_gone()
    {
        using Upstream a = Named("a");
        Upstream b = Named("b");
        using var weir = ServerProcess.Weir(Pool(Server(a, "route=one") + Server(b)
            + "sticky cookie srv expires=1h domain=.example.com httponly path=/x;"));
        HttpResponse first = weir.Get("/");
        HttpResponse second = weir.Get("/");
        Assert.Equal(["a", "b"], [first.Text, second.Text]);
        Assert.Matches("^srv=one; expires=[A-Z][a-z]{2}, .* GMT; domain=.example.com; httponly; path=/x$",
            first["Set-Cookie"]!);
        string bound = second["Set-Cookie"]!.Split(';')[0];
        Assert.Matches("^srv=[0-9a-f]{32}$", bound);
        for (int i = 0; i < 4; i++)
        {
            HttpResponse again = weir.Get("/", "Cookie: " + bound);
            Assert.Equal("b", again.Text);
            Assert.Null(again["Set-Cookie"]);
        }
        b.Dispose();
        HttpResponse moved = weir.Get("/", "Cookie: " + bound);
        Assert.Equal("a", moved.Text);
        Assert.StartsWith("srv=one;", moved["Set-Cookie"]!, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "")]
    [InlineData("expires=max", "; expires=Thu, 31 Dec 2037 23:55:55 GMT")]
    [InlineData("domain=.$host", "; domain=.localhost")]
    [InlineData("path=/$arg_a", "; path=/lax")]
    [InlineData("httponly", "; httponly")]
    [InlineData("secure", "; secure")]
    [InlineData("samesite=strict", "; samesite=strict")]
    [InlineData("samesite=$arg_a", "; samesite=lax")]
    [InlineData("secure samesite=none path=/", "; secure; samesite=none; path=/")]
    public void A_cookie_has_the_attributes_that_are_asked_for(string options, string attributes)
    {
        using Upstream a = Named("a");
        using var weir = ServerProcess.Weir(Pool(Server(a, "route=one") + $"sticky cookie srv {options};"));
        Assert.Equal("srv=one" + attributes, weir.Get("/?a=lax")["Set-Cookie"]);
    }

    [Fact]
    public void A_session_that_nobody_used_for_its_time_is_forgotten()
    {
        using Upstream a = Upstream.Answering(static r =>
            r.Target == "/new" ? Upstream.Ok("a", "Set-Cookie: sid=s") : Upstream.Ok("a"));
        using Upstream b = Named("b");
        using var weir = ServerProcess.Weir(Pool(Server(a) + Server(b)
            + "sticky learn create=$upstream_cookie_sid lookup=$cookie_sid zone=s:64k timeout=1s;"));
        Wait.For("the session", () => weir.Get("/new").Text == "a");
        Assert.Equal("a", weir.Get("/", "Cookie: sid=s").Text);
        Assert.Equal("a", weir.Get("/", "Cookie: sid=s").Text);
        // Each use keeps it, so whether it is gone is asked at intervals longer than its time.
        var since = System.Diagnostics.Stopwatch.StartNew();
        Wait.For("its end", () =>
        {
            if (since.ElapsedMilliseconds < 2500)
            {
                return false;
            }
            since.Restart();
            return weir.Get("/", "Cookie: sid=s").Text == "b";
        }, PatientMs);
    }

    [Theory]
    [InlineData("")]
    [InlineData(" header")]
    public void A_session_is_learned_when_the_head_is_there_although_the_body_is_not(string header)
    {
        using var goOn = new ManualResetEventSlim();
        using var a = new Upstream(c =>
        {
            while (c.ReadRequest() is { } request)
            {
                if (request.Target != "/new")
                {
                    c.Send(Upstream.Ok("a"));
                    continue;
                }
                c.Send("HTTP/1.1 200 OK\r\nSet-Cookie: sid=s\r\nContent-Length: 3\r\n\r\n");
                goOn.Wait(PatientMs);
                c.Send("new");
            }
        });
        using Upstream b = Named("b");
        using var weir = ServerProcess.Weir(Pool(Server(a) + Server(b)
            + $"sticky learn create=$upstream_cookie_sid lookup=$cookie_sid zone=s:64k{header};"));
        using RawClient first = weir.Connect();
        first.Send(RawClient.Request("GET", "/new", []));
        string Next() => string.Concat(Enumerable.Range(0, 4).Select(_ => weir.Get("/", "Cookie: sid=s").Text));
        try
        {
            // Without it they are asked in turn.
            Wait.For("the session", () => Next() == "aaaa");
            Assert.Equal(0, first.PendingBytes);
        }
        finally
        {
            goOn.Set();
        }
        Assert.Equal("new", first.ReadResponse().Text);
    }

    [Fact]
    public void A_route_leads_to_its_server_even_while_that_is_drained()
    {
        using Upstream a = Named("a");
        using Upstream b = Named("b");
        using var weir = ServerProcess.Weir(Pool(Server(a, "route=one drain") + Server(b, "route=two")
            + "sticky route $cookie_r $arg_r;"));
        Assert.Equal(["b", "b", "b"], Enumerable.Range(0, 3).Select(_ => weir.Get("/").Text));
        Assert.Equal("a", weir.Get("/?r=one").Text);
        Assert.Equal("a", weir.Get("/?r=two", "Cookie: r=one").Text);
        Assert.Equal("b", weir.Get("/?r=none").Text);
    }

    [Fact]
    [Trait("Needs", "master")]
    public void A_session_that_a_server_created_is_learned_by_all_workers()
    {
        using Upstream a = Named("a", "Set-Cookie: sid=from-a");
        using Upstream b = Named("b", "Set-Cookie: sid=from-b");
        using var weir = ServerProcess.Weir(Pool(Server(a) + Server(b)
            + "sticky learn create=$upstream_cookie_sid lookup=$cookie_sid zone=s:64k timeout=1h;", workers: 2));
        Wait.For("both have answered", () => { weir.Get("/"); return a.Requests.Count > 0 && b.Requests.Count > 0; },
            PatientMs);
        for (int i = 0; i < 6; i++)
        {
            Assert.Equal("a", weir.Get("/", "Cookie: sid=from-a").Text);
            Assert.Equal("b", weir.Get("/", "Cookie: sid=from-b").Text);
        }
    }

    [Fact]
    public void A_server_that_failed_and_serves_again_begins_slowly()
    {
        bool fails = true;
        using Upstream a = Upstream.Answering(_ => Volatile.Read(ref fails)
            ? "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n" : Upstream.Ok("a"));
        using Upstream b = Named("b");
        using var weir = ServerProcess.Weir(Pool(Server(a, "fail_timeout=1s slow_start=1h") + Server(b),
            location: "proxy_next_upstream http_500;"));
        Assert.Equal("b", weir.Get("/").Text);
        Volatile.Write(ref fails, false);
        Wait.For("it serves again", () => weir.Get("/").Text == "a", PatientMs);
        Assert.InRange(Enumerable.Range(0, 40).Count(_ => weir.Get("/").Text == "a"), 0, 3);
    }

    [Fact]
    [Trait("Needs", "master")]
    public void A_reload_keeps_what_is_known_of_the_servers()
    {
        using Upstream bad = Upstream.Answering("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
        using Upstream good = Named("good");
        Conf Of(string more) => Pool("zone z 64k;" + Server(bad, "fail_timeout=1h") + Server(good), workers: 2,
            location: "proxy_next_upstream http_500;" + more);
        using var weir = ServerProcess.Weir(Of(""));
        Wait.For("it failed", () => { weir.Get("/"); return bad.Requests.Count == 1; }, PatientMs);
        weir.Rewrite(Of("proxy_buffering off;"));
        weir.Send(Signal.Hup);
        Wait.For("the reload", () => weir.ErrorLog.Contains("reconfigured, generation", StringComparison.Ordinal),
            PatientMs);
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal("good", weir.Get("/").Text);
        }
        Assert.Single(bad.Requests);
    }

    /// <summary>A client per request, as far as the methods can tell.</summary>
    private static string Asked(ServerProcess weir, int requests)
    {
        using RawClient client = weir.Connect();
        return string.Concat(Enumerable.Range(0, requests).Select(i => client.Get($"/?k={i}",
            string.Create(CultureInfo.InvariantCulture, $"X-Forwarded-For: 10.{i % 250}.{i / 250}.1")).Text));
    }

    private const string Clients = "set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;";

    /// <summary>Three of four requests are the heavier server's: exactly where the method takes turns, about so where
    /// it hashes or draws.</summary>
    [Theory]
    [InlineData("", 150, 150)]
    [InlineData("zone z 64k;", 150, 150)]
    [InlineData("least_conn;", 150, 150)]
    [InlineData("zone z 64k; least_conn;", 150, 150)]
    [InlineData("ip_hash;", 110, 185)]
    [InlineData("hash $arg_k;", 110, 185)]
    [InlineData("hash $arg_k consistent;", 110, 185)]
    [InlineData("random;", 110, 185)]
    public void Every_method_obeys_weights(string method, int least, int most)
    {
        using Upstream a = Named("a");
        using Upstream b = Named("b");
        using var weir = ServerProcess.Weir(Pool(method + Server(a, "weight=3") + Server(b), server: Clients));
        Assert.InRange(Asked(weir, 200).Count(static c => c == 'a'), least, most);
    }

    [Theory]
    [InlineData("")]
    [InlineData("zone z 64k;")]
    [InlineData("least_conn;")]
    [InlineData("zone z 64k; least_conn;")]
    [InlineData("least_time header;")]
    public void A_backup_serves_when_nobody_else_does_and_only_then(string method)
    {
        bool fails = false;
        using Upstream a = Upstream.Answering(_ => Volatile.Read(ref fails)
            ? "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n" : Upstream.Ok("a"));
        using Upstream b = Named("b");
        using var weir = ServerProcess.Weir(Pool(method + Server(a, "fail_timeout=1s") + Server(b, "weight=3 backup"),
            location: "proxy_next_upstream http_500;"));
        Assert.Equal(new string('a', 20), Asked(weir, 20));
        Volatile.Write(ref fails, true);
        Assert.Equal(new string('b', 20), Asked(weir, 20));
        Volatile.Write(ref fails, false);
        Wait.For("it serves again", () => weir.Get("/").Text == "a", PatientMs);
        Assert.Equal(new string('a', 20), Asked(weir, 20));
    }

    [Theory]
    [InlineData("ip_hash")]
    [InlineData("hash $uri")]
    [InlineData("hash $uri consistent")]
    [InlineData("random")]
    public void A_method_without_backups_says_so(string method)
    {
        using var weir = ServerProcess.Weir(Conf.Http($"upstream g {{ {method}; server 127.0.0.1:1 backup; }}"),
            waitReady: false, arguments: ["-t"]);
        Assert.True(weir.Process.WaitForExit(PatientMs));
        Assert.Contains("balancing method does not support parameter \"backup\"",
            weir.Process.Errors + weir.ErrorLog, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("random; server 127.0.0.1:1 slow_start=1s;", "does not support parameter \"slow_start=1s\"")]
    [InlineData("random three; server 127.0.0.1:1;", "invalid parameter \"three\"")]
    [InlineData("hash $uri other; server 127.0.0.1:1;", "invalid parameter \"other\"")]
    [InlineData("least_time body; server 127.0.0.1:1;", "invalid parameter \"body\"")]
    [InlineData("zone z; server 127.0.0.1:1;", "zero size shared memory zone \"z\"")]
    [InlineData("zone z 1k; server 127.0.0.1:1;", "zone \"z\" is too small")]
    [InlineData("server 127.0.0.1:1; queue 0;", "invalid number of requests \"0\"")]
    [InlineData("server 127.0.0.1:1; sticky learn create=$cookie_a zone=s:64k;", "must have \"create\", \"lookup\"")]
    [InlineData("server 127.0.0.1:1; sticky cookie a age=1;", "invalid parameter \"age=1\"")]
    [InlineData("least_conn; ip_hash; server 127.0.0.1:1;", "load balancing method redefined")]
    public void What_makes_no_sense_is_named(string group, string message)
    {
        using var weir = ServerProcess.Weir(Conf.Http($"upstream g {{ {group} }}"), waitReady: false,
            arguments: ["-t"]);
        Assert.True(weir.Process.WaitForExit(PatientMs));
        Assert.Contains(message, weir.Process.Errors + weir.ErrorLog, StringComparison.Ordinal);
    }
}
