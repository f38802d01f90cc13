// Health checks by one worker for all, what a match asks for, servers that are set aside as outliers, and retries that
// stay within their budget.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class HealthTests
{
    private const int PatientMs = 30_000;

    /// <summary>A server whose health the test decides.</summary>
    private sealed class Patient : IDisposable
    {
        private string _health = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

        public Patient(string name) => Server = Upstream.Answering(r => r.Target == "/health" ? Checked()
            : Upstream.Ok(name));

        public Upstream Server { get; }

        public int Checks;

        public string Health
        {
            set => Volatile.Write(ref _health, value);
        }

        private string Checked()
        {
            Interlocked.Increment(ref Checks);
            return Volatile.Read(ref _health);
        }

        public void Dispose() => Server.Dispose();
    }

    private const string Sick = "HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n";

    private static Conf Pool(string check, string http, int workers, params Patient[] patients) => Conf.Server(
        $"location / {{ proxy_pass http://g; health_check uri=/health interval=50ms {check}; }}",
        http + " upstream g { zone z 64k; " + string.Concat(patients.Select(static p => string.Create(
            CultureInfo.InvariantCulture, $"server 127.0.0.1:{p.Server.Port} fail_timeout=1h;"))) + " }", workers,
        master: workers > 1);

    private static string Asked(ServerProcess weir) =>
        string.Concat(Enumerable.Range(0, 6).Select(_ => weir.Get("/").Text).Distinct().Order());

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [Trait("Needs", "master")]
    public void A_server_whose_checks_fail_is_left_out_until_they_pass(int workers)
    {
        using var a = new Patient("a");
        using var b = new Patient("b");
        using var weir = ServerProcess.Weir(Pool("fails=2 passes=2", "", workers, a, b));
        Assert.Equal("ab", Asked(weir));
        b.Health = Sick;
        Wait.For("b is left out", () => Asked(weir) == "a", PatientMs);
        Wait.For("the log", () => weir.ErrorLog.Contains("is unhealthy: status 503", StringComparison.Ordinal));
        a.Health = Sick;
        Wait.For("nobody is left", () => weir.Get("/").Status == 502, PatientMs);
        a.Health = b.Health = Upstream.Ok("well");
        Wait.For("both are back", () => weir.Get("/").Status == 200 && Asked(weir) == "ab", PatientMs);
    }

    [Fact]
    [Trait("Needs", "master")]
    public void One_worker_checks_for_all_and_another_goes_on_when_it_is_killed()
    {
        using var a = new Patient("a");
        using var b = new Patient("b");
        using var weir = ServerProcess.Weir(Pool("", "", 2, a, b));
        Wait.For("checks", () => Volatile.Read(ref a.Checks) > 3, PatientMs);
        b.Health = Sick;
        Wait.For("b is left out", () => Asked(weir) == "a", PatientMs);
        int[] before = weir.Workers();
        ChildProcess.Send(before[0], Signal.Kill);
        Wait.For("a new worker", () => weir.Workers() is { Length: 2 } now && !now.Contains(before[0]), PatientMs);
        ChildProcess.Send(before[1], Signal.Kill);
        Wait.For("another new worker", () => weir.Workers() is { Length: 2 } now && !now.Intersect(before).Any(),
            PatientMs);
        int seen = Volatile.Read(ref a.Checks);
        Wait.For("checks go on", () => Volatile.Read(ref a.Checks) > seen + 3, PatientMs);
        Assert.Equal("a", Asked(weir));
        b.Health = Upstream.Ok("well");
        Wait.For("b is back", () => Asked(weir) == "ab", PatientMs);
    }

    [Fact]
    public void A_match_says_what_a_healthy_answer_looks_like()
    {
        using var a = new Patient("a");
        using var b = new Patient("b");
        using var weir = ServerProcess.Weir(Pool("match=well", """
            match well { status 200-299 404; header Content-Type ~ "^text/"; header ! X-Sick; body ~ "^o"; }
            """, 1, a, b));
        Wait.For("checks", () => Volatile.Read(ref a.Checks) > 1 && Volatile.Read(ref b.Checks) > 1, PatientMs);
        Assert.Equal("ab", Asked(weir));
        foreach ((string answer, string fault) in new[]
        {
            ("HTTP/1.1 302 Found\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\no", "status 302"),
            ("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\no", "header \"Content-Type\""),
            ("HTTP/1.1 200 OK\r\nContent-Type: text/a\r\nX-Sick: 1\r\nContent-Length: 1\r\n\r\no", "header \"X-Sick\""),
            ("HTTP/1.1 200 OK\r\nContent-Type: text/a\r\nContent-Length: 1\r\n\r\nx", "body, \"^o\""),
            ("nonsense\r\n\r\n", "an invalid answer"),
        })
        {
            b.Health = answer;
            Wait.For(fault, () => weir.ErrorLog.Contains("is unhealthy: " + fault, StringComparison.Ordinal),
                PatientMs);
            b.Health = "HTTP/1.1 404 No\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\no";
            Wait.For("b is back", () => Asked(weir) == "ab", PatientMs);
        }
    }

    [Fact]
    public void A_match_may_require_variables_that_the_answer_makes()
    {
        using var a = new Patient("a");
        using var weir = ServerProcess.Weir(Pool("match=well", """
            map $upstream_status $good { 200 1; 204 1; default 0; } match well { require $good $upstream_http_x_ok; }
            """, 1, a));
        a.Health = "HTTP/1.1 204 Fine\r\nX-Ok: yes\r\n\r\n";
        Wait.For("it serves", () => Volatile.Read(ref a.Checks) > 3 && weir.Get("/").Text == "a", PatientMs);
        a.Health = "HTTP/1.1 204 Fine\r\nX-Other: yes\r\n\r\n";
        Wait.For("it fails", () => weir.ErrorLog.Contains("unhealthy: variable \"$upstream_http_x_ok\"",
            StringComparison.Ordinal), PatientMs);
        a.Health = "HTTP/1.1 204 Fine\r\nX-Ok: yes\r\n\r\n";
        Wait.For("it serves again", () => weir.Get("/").Text == "a", PatientMs);
        a.Health = "HTTP/1.1 304 Same\r\nX-Ok: yes\r\n\r\n";
        Wait.For("it fails", () => weir.ErrorLog.Contains("unhealthy: variable \"$good\"", StringComparison.Ordinal),
            PatientMs);
    }

    [Fact]
    public void Checks_go_over_TLS_where_requests_do()
    {
        using var files = new TempDir();
        new TestAuthority().Write(files, "a.test", TestKey.Ecdsa, "a.test");
        files.Write("well", "");
        string keys = $"ssl_certificate {files.At("a.test.crt")}; ssl_certificate_key {files.At("a.test.key")};";
        using var back = ServerProcess.Weir(Conf.Http("server { listen 127.0.0.1:%PORT%; } server { "
            + $"listen 127.0.0.1:%PORT2% ssl; {keys} location / {{ return 200 $ssl_server_name; }} "
            + $"location = /health {{ if (!-f {files.At("well")}) {{ return 503; }} "
            + "return 200 $ssl_server_name; } }"));
        using var weir = ServerProcess.Weir(Conf.Server(
            "location / { proxy_pass https://g; proxy_ssl_server_name on; proxy_ssl_name a.test; "
                + "health_check uri=/health interval=50ms mandatory match=well keepalive_time=1h; }",
            "match well { status 200; body ~ ^a.test; } upstream g { zone z 64k; "
                + string.Create(CultureInfo.InvariantCulture, $"server 127.0.0.1:{back.PortOf(2)}; }}")));
        Wait.For("it serves", () => weir.Get("/").Text == "a.test", PatientMs);
        File.Delete(files.At("well"));
        Wait.For("it is left out", () => weir.Get("/").Status == 502, PatientMs);
        Wait.For("the log", () => weir.ErrorLog.Contains("is unhealthy: status 503", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("", 1)]
    [InlineData("keepalive_time=1h", int.MaxValue)]
    public void A_connection_serves_one_check_unless_it_is_kept(string parameter, int most)
    {
        int checks = 0, longest = 0;
        using var server = new Upstream(c =>
        {
            for (int here = 1; c.ReadRequest() is not null; here++)
            {
                Interlocked.Increment(ref checks);
                int seen = Volatile.Read(ref longest);
                while (here > seen)
                {
                    seen = Interlocked.CompareExchange(ref longest, here, seen);
                }
                c.Send(Upstream.Ok("ok"));
            }
        });
        using var weir = ServerProcess.Weir(Conf.Server(
            $"location / {{ proxy_pass http://g; health_check interval=20ms {parameter}; }}",
            "upstream g { zone z 64k; " + string.Create(CultureInfo.InvariantCulture,
                $"server 127.0.0.1:{server.Port}; }}")));
        Wait.For("checks", () => Volatile.Read(ref checks) > 5, PatientMs);
        int kept = Volatile.Read(ref longest);
        Assert.True(most == 1 ? kept == 1 : kept > 3, $"{kept} checks on one connection");
    }

    [Theory]
    [InlineData("silence")]
    [InlineData("a byte a second")]
    [InlineData("no end")]
    public void A_check_ends_with_its_time(string kind)
    {
        using var never = new ManualResetEventSlim();
        using var server = new Upstream(c =>
        {
            c.ReadRequest();
            c.Send(kind == "no end" ? "HTTP/1.1 200 OK\r\n\r\n" : "");
            // Until the connection is closed, which ends the script.
            while (true)
            {
                c.Send(kind switch { "silence" => "", "no end" => new string('x', 1000), _ => "H" });
                never.Wait(kind == "no end" ? 0 : 20);
                if (kind == "silence" && c.ReadRequest() is null)
                {
                    return;
                }
            }
        });
        using var weir = ServerProcess.Weir(Conf.Server(
            "location / { proxy_pass http://g; proxy_read_timeout 200ms; proxy_connect_timeout 200ms; "
                + "health_check interval=50ms match=m; }",
            "match m { body ~ y; } upstream g { zone z 64k; " + string.Create(CultureInfo.InvariantCulture,
                $"server 127.0.0.1:{server.Port}; }}")));
        Wait.For("it is left out", () => weir.ErrorLog.Contains("is unhealthy: ", StringComparison.Ordinal),
            PatientMs);
    }

    /// <summary>Requests go to one port, connections for checks to another, where nobody answers anything.</summary>
    [Fact]
    public void A_check_by_TCP_wants_a_connection_on_the_port_it_is_told()
    {
        using var a = new Patient("a");
        var accepts = new Upstream(static c => c.Hold());
        string check = string.Create(CultureInfo.InvariantCulture,
            $"health_check type=tcp interval=50ms jitter=5ms port={accepts.Port} mandatory persistent;");
        using var weir = ServerProcess.Weir(Conf.Server($"location / {{ proxy_pass http://g; {check} }}",
            string.Create(CultureInfo.InvariantCulture,
                $"upstream g {{ zone z 64k; server 127.0.0.1:{a.Server.Port}; }}")));
        Wait.For("it serves", () => weir.Get("/").Text == "a", PatientMs);
        int seen = accepts.Connections;
        Wait.For("checks", () => accepts.Connections > seen + 2, PatientMs);
        Assert.Equal(0, a.Checks);
        accepts.Dispose();
        Wait.For("it is left out", () => weir.Get("/").Status == 502, PatientMs);
        Wait.For("the log", () => weir.ErrorLog.Contains("is unhealthy: it cannot be connected to",
            StringComparison.Ordinal));
    }

    [Fact]
    public void A_mandatory_check_comes_before_the_first_request()
    {
        using var a = new Patient("a") { Health = Sick };
        using var weir = ServerProcess.Weir(Pool("mandatory", "", 1, a));
        Wait.For("checks", () => Volatile.Read(ref a.Checks) > 1, PatientMs);
        Assert.Equal(502, weir.Get("/").Status);
        a.Health = Upstream.Ok("well");
        Wait.For("it serves", () => weir.Get("/").Text == "a", PatientMs);
    }

    [Fact]
    public void A_server_that_fails_among_others_is_set_aside()
    {
        using Upstream bad = Upstream.Answering("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops");
        using Upstream good = Upstream.Answering(static _ => Upstream.Ok("good"));
        using Upstream worse = Upstream.Answering("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops");
        using var weir = ServerProcess.Weir(Conf.Server("location / { proxy_pass http://g; }", string.Create(
            CultureInfo.InvariantCulture, $$"""
            upstream g { outlier_ejection failures=3 time=1h max=40%; server 127.0.0.1:{{bad.Port}};
                server 127.0.0.1:{{good.Port}}; server 127.0.0.1:{{worse.Port}}; }
            """)));
        for (int i = 0; i < 40; i++)
        {
            weir.Get("/");
        }
        // One of three is the most that may be aside.
        Assert.Equal(3, Math.Min(bad.Requests.Count, worse.Requests.Count));
        Assert.InRange(Math.Max(bad.Requests.Count, worse.Requests.Count), 15, 22);
        Wait.For("the log",
            () => weir.ErrorLog.Contains("is set aside after 3 failures in a row", StringComparison.Ordinal));
    }

    [Fact]
    public void Retries_stay_within_their_budget()
    {
        using Upstream bad = Upstream.Answering("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops");
        using Upstream worse = Upstream.Answering("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops");
        using var weir = ServerProcess.Weir(Conf.Server(
            "location / { proxy_pass http://g; proxy_next_upstream http_500; }", string.Create(
            CultureInfo.InvariantCulture, $$"""
            upstream g { retry_budget 10% min=5 span=1h; server 127.0.0.1:{{bad.Port}} max_fails=0;
                server 127.0.0.1:{{worse.Port}} max_fails=0; }
            """)));
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal(500, weir.Get("/").Status);
        }
        Assert.Equal(25, bad.Requests.Count + worse.Requests.Count);
    }

    [Theory]
    [InlineData("location / { health_check; }", "needs a \"proxy_pass\" or")]
    [InlineData("location / { proxy_pass http://n; health_check; }", "needs a \"zone\" in upstream \"n\"")]
    [InlineData("location / { proxy_pass http://g; health_check match=m; }", "unknown match \"m\"")]
    [InlineData("location / { proxy_pass http://g; health_check interval=0; }", "invalid parameter \"interval=0\"")]
    [InlineData("location / { proxy_pass http://g; health_check type=grpc; }", "needs a \"grpc_pass\"")]
    [InlineData("location / { grpc_pass g; health_check uri=/a type=grpc; }", "invalid parameter \"type=grpc\"")]
    [InlineData("location / { proxy_pass http://g; health_check type=tcp uri=/a; }", "invalid parameter \"uri=/a\"")]
    [InlineData("location / { proxy_pass http://g; health_check match=m type=tcp; }", "invalid parameter \"type=tcp\"")]
    [InlineData("location / { grpc_pass g; health_check grpc_status=1; }", "invalid parameter \"grpc_status=1\"")]
    [InlineData("} match m { status 99; } server {", "invalid status \"99\"")]
    [InlineData("} match m { require $a; } server {", "unknown \"a\" variable")]
    [InlineData("} upstream h { server 127.0.0.1:1; retry_budget 101%; } server {", "invalid percent value \"101%\"")]
    [InlineData("} upstream h { server 127.0.0.1:1; outlier_ejection max=5; } server {", "invalid parameter \"max=5\"")]
    public void What_makes_no_sense_is_refused(string text, string message)
    {
        using var weir = ServerProcess.Weir(Conf.Http("upstream g { zone z 64k; server 127.0.0.1:1; } "
            + "upstream n { server 127.0.0.1:1; } server { listen 127.0.0.1:%PORT%; " + text + "}"),
            waitReady: false, arguments: ["-t"]);
        Assert.True(weir.Process.WaitForExit(PatientMs));
        Assert.Contains(message, weir.Process.Errors + weir.ErrorLog, StringComparison.Ordinal);
    }
}
