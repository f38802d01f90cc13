// limit_req and limit_conn: who is admitted, who waits, who is refused with what, what the log and the variables say,
// and that the counts hold over workers, also over one that was killed.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class LimitTests
{
    private const int PatientMs = 30_000;

    // One request in an hour: nothing of what these tests do depends on the time they take.
    private const string Slow = "limit_req_zone $arg_k zone=slow:32k rate=1r/m; "
        + "log_format l \"$request_uri $status $limit_req_status $limit_conn_status\"; ";

    private static string Burst(int n) =>
        $"location / {{ limit_req zone=slow burst={n} nodelay; try_files /ok =404; }}";

    private static ServerProcess Start(Conf conf, int upstreamPort = 0)
    {
        var weir = ServerProcess.Weir(conf, upstreamPort: upstreamPort);
        weir.Files.Write("ok", "ok");
        return weir;
    }

    private static int[] Statuses(ServerProcess server, string path, int count) =>
        [.. Enumerable.Range(0, count).Select(_ => server.Get(path).Status)];

    [Fact]
    public void A_burst_and_one_are_admitted_then_requests_are_refused()
    {
        using var weir = Start(Conf.Server(Burst(2), Slow));
        Assert.Equal([200, 200, 200, 503, 503], Statuses(weir, "/?k=a", 5));
        Assert.Equal([200], Statuses(weir, "/?k=b", 1));
        // Without a key there is no limit.
        Assert.Equal([200, 200, 200, 200, 200], Statuses(weir, "/", 5));
        Wait.For("the log", () => weir.ErrorLog.Contains("limiting requests, excess: ", StringComparison.Ordinal));
        Wait.For("the log", () => weir.ErrorLog.Contains("by zone \"slow\"", StringComparison.Ordinal));
    }

    [Fact]
    public void The_status_the_level_and_the_dry_run_are_chosen()
    {
        using var weir = Start(Conf.Server("""
            access_log %DIR%/access.log l;
            location /s { limit_req zone=slow; limit_req_status 429; limit_req_log_level warn; try_files /ok =404; }
            location /d { limit_req zone=slow; limit_req_dry_run on; try_files /ok =404; }
            """, Slow));
        Assert.Equal([200, 429], Statuses(weir, "/s?k=a", 2));
        Assert.Equal([200, 200], Statuses(weir, "/d?k=b", 2));
        Wait.For("four lines", () => weir.AccessLog.Count(static c => c == '\n') == 4, PatientMs);
        Assert.Equal("/s?k=a 200 PASSED -\n/s?k=a 429 REJECTED -\n/d?k=b 200 PASSED -\n"
            + "/d?k=b 200 REJECTED_DRY_RUN -\n", weir.AccessLog);
        Wait.For("the log", () => weir.ErrorLog.Contains("[warn]", StringComparison.Ordinal));
        Wait.For("the log",
            () => weir.ErrorLog.Contains("limiting requests, dry run, excess: ", StringComparison.Ordinal));
    }

    [Fact]
    public void A_request_within_the_burst_waits_for_its_turn()
    {
        using var weir = Start(Conf.Server("""
            access_log %DIR%/access.log l;
            location / { limit_req zone=fast burst=2 delay=1; try_files /ok =404; }
            """, Slow + "limit_req_zone $arg_k zone=fast:32k rate=10r/s;"));
        using RawClient client = weir.Connect();
        for (int i = 0; i < 3; i++)
        {
            client.Send(RawClient.Request("GET", "/?k=a", []));
        }
        Assert.Equal([200, 200, 200], Enumerable.Range(0, 3).Select(_ => client.ReadResponse().Status));
        Wait.For("three lines", () => weir.AccessLog.Count(static c => c == '\n') == 3, PatientMs);
        Assert.Contains(" PASSED ", weir.AccessLog, StringComparison.Ordinal);
        Assert.DoesNotContain("REJECTED", weir.AccessLog, StringComparison.Ordinal);
    }

    [Fact]
    public void A_client_that_goes_while_it_waits_is_forgotten()
    {
        using var weir = Start(Conf.Server("""
            access_log %DIR%/access.log l;
            location / { limit_req zone=slow burst=5; try_files /ok =404; }
            """, Slow));
        Assert.Equal(200, weir.Get("/?k=a").Status);
        RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/?k=a", []));
        Wait.For("the wait", () => weir.ErrorLog.Contains("delaying request, excess: ", StringComparison.Ordinal),
            PatientMs);
        client.Dispose();
        Wait.For("its line", () => weir.AccessLog.Contains("/?k=a 499 DELAYED -", StringComparison.Ordinal),
            PatientMs);
    }

    [Fact]
    public void All_limits_of_a_location_count_a_request_or_none_does()
    {
        using var weir = Start(Conf.Server("""
            location /both { limit_req zone=slow burst=5 nodelay; limit_req zone=narrow; try_files /ok =404; }
            location /slow { limit_req zone=slow burst=5 nodelay; try_files /ok =404; }
            """, Slow + "limit_req_zone $server_name zone=narrow:32k rate=1r/m;"));
        Assert.Equal([200, 503, 503], Statuses(weir, "/both?k=a", 3));
        Assert.Equal([200, 200, 200, 200, 200, 503], Statuses(weir, "/slow?k=a", 6));
    }

    [Fact]
    public void A_full_zone_forgets_the_key_used_longest_ago()
    {
        using var weir = Start(Conf.Server(Burst(1), Slow));
        string pad = new('x', 1500);
        Assert.Equal([200, 200, 503], Statuses(weir, $"/?k=0{pad}", 3));
        for (int i = 1; i < 30; i++)
        {
            Assert.Equal(200, weir.Get($"/?k={i}{pad}").Status);
        }
        Assert.Equal(200, weir.Get($"/?k=0{pad}").Status);
    }

    [Fact]
    [Trait("Needs", "master")]
    public void Workers_count_together_and_a_reload_keeps_the_count()
    {
        Conf conf = Conf.Server(Burst(9), Slow, workers: 2, master: true);
        using var weir = Start(conf);
        Assert.Equal(6, Statuses(weir, "/?k=a", 6).Count(static s => s == 200));
        weir.Rewrite(Conf.Server(Burst(9) + " # changed", Slow, workers: 2, master: true));
        weir.Send(Signal.Hup);
        Wait.For("the reload", () => weir.ErrorLog.Contains("reconfigured, generation",
            StringComparison.Ordinal), PatientMs);
        Assert.Equal(4, Statuses(weir, "/?k=a", 20).Count(static s => s == 200));
    }

    private static Upstream Holding(ManualResetEventSlim release) => new(c =>
    {
        while (c.ReadRequest() is not null)
        {
            release.Wait(PatientMs);
            c.Send(Upstream.Ok("held"));
        }
    });

    private const string Connections = "limit_conn_zone $arg_k zone=conns:32k; " + Slow;

    [Fact]
    public void No_more_requests_of_one_key_are_under_way_than_allowed()
    {
        using var release = new ManualResetEventSlim();
        using Upstream upstream = Holding(release);
        using var weir = Start(Conf.Server("""
            access_log %DIR%/access.log l;
            location / { limit_conn conns 1; limit_conn_status 429; proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location /dry { limit_conn conns 1; limit_conn_dry_run on; limit_conn_log_level notice;
                try_files /ok =404; }
            """, Connections), upstream.Port);
        using RawClient first = weir.Connect();
        first.Send(RawClient.Request("GET", "/?k=a", []));
        Wait.For("the first is under way", () => upstream.Requests.Count == 1, PatientMs);
        Assert.Equal(429, weir.Get("/?k=a").Status);
        Assert.Equal(200, weir.Get("/dry?k=a").Status);
        using RawClient other = weir.Connect();
        other.Send(RawClient.Request("GET", "/?k=b", []));
        Wait.For("another key's is under way", () => upstream.Requests.Count == 2, PatientMs);
        release.Set();
        Assert.Equal(200, first.ReadResponse().Status);
        Assert.Equal(200, other.ReadResponse().Status);
        Assert.Equal(200, first.Get("/?k=a").Status);
        Wait.For("five lines", () => weir.AccessLog.Count(static c => c == '\n') == 5, PatientMs);
        Assert.Contains("/?k=a 429 - REJECTED\n", weir.AccessLog, StringComparison.Ordinal);
        Assert.Contains("/dry?k=a 200 - REJECTED_DRY_RUN\n", weir.AccessLog, StringComparison.Ordinal);
        Assert.Contains("/?k=a 200 - PASSED\n", weir.AccessLog, StringComparison.Ordinal);
        Wait.For("the log",
            () => weir.ErrorLog.Contains("limiting connections by zone \"conns\"", StringComparison.Ordinal));
        Wait.For("the log",
            () => weir.ErrorLog.Contains("limiting connections, dry run by zone \"conns\"", StringComparison.Ordinal));
    }

    [Fact]
    [Trait("Needs", "master")]
    public void A_killed_worker_leaves_no_connection_count_behind()
    {
        using var release = new ManualResetEventSlim();
        using Upstream upstream = Holding(release);
        using var weir = Start(Conf.Server(
            "location / { limit_conn conns 3; proxy_pass http://127.0.0.1:%UPSTREAM%; }", Connections, workers: 2,
            master: true), upstream.Port);
        var clients = new List<RawClient>();
        for (int i = 0; i < 3; i++)
        {
            RawClient client = weir.Connect();
            client.Send(RawClient.Request("GET", "/?k=a", []));
            clients.Add(client);
        }
        Wait.For("three are under way", () => upstream.Requests.Count == 3, PatientMs);
        Assert.Equal(503, weir.Get("/?k=a").Status);
        int[] before = weir.Workers();
        foreach (int worker in before)
        {
            ChildProcess.Send(worker, Signal.Kill);
        }
        Wait.For("new workers", () => weir.Workers() is { Length: 2 } now && !now.Intersect(before).Any(), PatientMs);
        release.Set();
        Assert.Equal(200, weir.Get("/?k=a").Status);
        clients.ForEach(static c => c.Dispose());
    }

    [Theory]
    [InlineData("limit_req_zone $uri zone=a:1k rate=1r/s;", "zone \"a\" is too small")]
    [InlineData("limit_req_zone $uri zone=a rate=1r/s;", "invalid zone size \"zone=a\"")]
    [InlineData("limit_req_zone $uri zone=a:32k rate=0r/s;", "invalid rate \"rate=0r/s\"")]
    [InlineData("limit_req_zone $uri zone=a:32k sync;", "invalid parameter \"sync\"")]
    [InlineData("limit_req_zone $uri rate=1r/s rate=2r/s;", "must have \"zone\" parameter")]
    [InlineData("limit_req zone=nowhere;", "zero size shared memory zone \"nowhere\"")]
    [InlineData("limit_req zone=slow burst=0;", "invalid burst value \"burst=0\"")]
    [InlineData("limit_req zone=slow; limit_req zone=slow;", "\"limit_req\" directive is duplicate")]
    [InlineData("limit_conn_zone $uri zone=slow:32k;", "already declared for a different use")]
    [InlineData("limit_conn conns 0;", "invalid number of connections \"0\"")]
    [InlineData("limit_conn conns 65536;", "connection limit must be less 65536")]
    [InlineData("limit_req_status 200;", "value must be between 400 and 599")]
    public void What_makes_no_sense_is_refused(string directive, string message)
    {
        using var weir = ServerProcess.Weir(Conf.Http(Connections + directive), waitReady: false, arguments: ["-t"]);
        Assert.True(weir.Process.WaitForExit(PatientMs));
        Assert.Contains(message, weir.Process.Errors + weir.ErrorLog, StringComparison.Ordinal);
    }
}
