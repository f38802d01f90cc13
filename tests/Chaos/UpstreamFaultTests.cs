// Steady load through a pool of which one server misbehaves, in every way a server can, or a worker is killed: what the
// clients saw, what the servers were asked, and that the one order of weights stayed the one order. Scripted servers
// and real application servers; names that change. The short forms run in ./test; the long ones by `./test chaos-long`.
using System.Globalization;
using System.Text.Json;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed class UpstreamFaultTests
{
    private const int PatientMs = 30_000;

    private static bool IsLong => Environment.GetEnvironmentVariable("WEIR_CHAOS_LONG") is not null;

    private static string At(Upstream upstream) =>
        string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{upstream.Port}");

    private static Upstream Good(string name) => Upstream.Answering(_ => Upstream.Ok(name));

    private static ServerProcess Start(string group, int workers) => ServerProcess.Weir(Conf.Http($$"""
        upstream g { zone z 128k; {{group}} }
        server { listen 127.0.0.1:%PORT%; location /api/ { api; }
            location / { proxy_pass http://g; proxy_read_timeout 2s; proxy_connect_timeout 2s;
                proxy_next_upstream error timeout invalid_header; } }
        """, workers, master: true));

    /// <summary>Servers that accept and then do what the name says.</summary>
    private static Upstream Bad(string kind) => new(c =>
    {
        using var never = new ManualResetEventSlim();
        while (c.ReadRequest() is not null)
        {
            switch (kind)
            {
                case "closes":
                    return;
                case "resets":
                    c.Reset();
                    return;
                case "garbage":
                    c.Send("what is this?\r\n\r\n");
                    return;
                case "a byte a second, then the end":
                    foreach (char b in "HTT")
                    {
                        c.Send(b.ToString());
                        never.Wait(1000);
                    }
                    return;
                case "a body of a byte a second":
                    c.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
                    foreach (char b in "ok")
                    {
                        never.Wait(1000);
                        c.Send(b.ToString());
                    }
                    break;
                default:
                    break;
            }
        }
    });

    [Theory]
    [InlineData("closes")]
    [InlineData("resets")]
    [InlineData("garbage")]
    [InlineData("silence")]
    [InlineData("a byte a second, then the end")]
    [InlineData("a body of a byte a second")]
    public void No_client_sees_a_server_that_misbehaves_before_its_answer_has_begun_or_is_slow(string kind)
    {
        using Upstream good = Good("ok");
        using Upstream bad = Bad(kind);
        using ServerProcess weir = Start(
            $"server {At(good)} weight=20 max_fails=0; server {At(bad)} max_fails=1 fail_timeout=1s;", workers: 2);
        using var load = new Load(weir.Port, 4, static r => r is { Status: 200, Text: "ok" });
        // The slow ones among them take two seconds each.
        load.WaitFor(100);
        Wait.For("it was asked again after its time aside", () => bad.Connections >= 2, PatientMs);
        load.Stop();
        Assert.Empty(load.Failures);
    }

    [Fact]
    public void Who_is_sent_half_a_body_and_a_reset_knows_it_and_nobody_else_does()
    {
        int sent = 0;
        using Upstream good = Good("ok");
        using var half = new Upstream(c =>
        {
            c.ReadRequest();
            c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf");
            Interlocked.Increment(ref sent);
            c.Reset();
        });
        using ServerProcess weir = Start(
            $"server {At(good)} max_fails=0; server {At(half)} max_fails=1 fail_timeout=1s;", workers: 2);
        using var load = new Load(weir.Port, 4, static r => r is { Status: 200, Text: "ok" });
        load.WaitFor(200);
        Wait.For("it was asked again after its time aside", () => Volatile.Read(ref sent) >= 2, PatientMs);
        load.WaitFor(200);
        load.Stop();
        // Its head had been passed on: that client has less than the length says, and is answered when it asks again.
        // A reset that overtakes the head cost nobody anything.
        Assert.True(load.Failures.Count <= sent && load.Lost == 0, $"{sent} sent, {load.Lost} lost\n"
            + string.Join('\n', load.Failures));
        Assert.All(load.Failures, static f => Assert.DoesNotContain("ok", f, StringComparison.Ordinal));
    }

    /// <summary>What Node and Gunicorn run. Written once: who starts while it is written again
    /// finds it empty.</summary>
    private static TempDir Applications()
    {
        var files = new TempDir();
        files.Write("app.js",
            "require('http').createServer((q, r) => r.end('two')).listen(process.argv[2], '127.0.0.1')");
        files.Write("app.py", """
            def app(environ, start):
                start("200 OK", [("Content-Length", "3")])
                return [b"two"]
            """);
        return files;
    }

    private static ChildProcess Run(string application, TempDir files, int port)
    {
        string number = port.ToString(CultureInfo.InvariantCulture);
        return application switch
        {
            "node" => new(Tools.Require("node"), [files.At("app.js"), number], files.Path),
            "gunicorn" => new(Tools.Require("gunicorn"), ["--bind", "127.0.0.1:" + number, "--workers", "1",
                "--threads", "4", "app:app"], files.Path),
            // One at a time means one connection at a time: an idle one of another worker would hold it for a minute.
            _ => new(ServerProcess.WeirBinary, ["app", "--listen", "127.0.0.1:" + number, "--model", application,
                "--idle-timeout", "500ms"], files.Path),
        };
    }

    private static string Told(string kind, ChildProcess application) =>
        $"{kind}, {(application.HasExited ? $"ended with {application.ExitCode}" : "running")}\n"
        + application.Output + application.Errors;

    private static void SendAll(ChildProcess application, Signal signal)
    {
        int[] all = [application.Pid, .. application.Children()];
        Array.ForEach(all, pid => ChildProcess.Send(pid, signal));
    }

    /// <summary>Five application servers beside one that never fails: all five are killed, then told to end, then
    /// stopped so that they accept and do not answer, and serve again after each.</summary>
    [NeedsFact("node", "gunicorn")]
    public void Application_servers_that_are_killed_restarted_or_stopped_cost_no_request()
    {
        string[] kinds = ["node", "gunicorn", "sequential", "thread-pool", "event-driven-thread-pool"];
        int round = IsLong ? 5000 : 150;
        using Upstream good = Good("good");
        using TempDir files = Applications();
        Port[] ports = [.. kinds.Select(static _ => Port.Lease())];
        ChildProcess Start(int i) => Run(kinds[i], files, ports[i].Number);
        ChildProcess[] applications = [.. kinds.Select((_, i) => Start(i))];
        try
        {
            string lines = string.Concat(ports.Select(static p => string.Create(CultureInfo.InvariantCulture,
                $"server 127.0.0.1:{p.Number} max_fails=1 fail_timeout=1s;")));
            using ServerProcess weir = UpstreamFaultTests.Start($"server {At(good)} max_fails=0; {lines}", workers: 2);
            using var load = new Load(weir.Port, 4, static r => r.Status == 200);
            void AllServe()
            {
                long[] before = Served(weir);
                bool[] serve = [];
                Assert.True(Wait.Until(() =>
                {
                    serve = [.. Served(weir).Zip(before, static (now, then) => now > then)];
                    return Array.TrueForAll(serve, static s => s);
                }, PatientMs), "these do not serve: " + string.Join('\n', kinds.Where((_, i) => !serve[i + 1])
                    .Select(k => Told(k, applications[Array.IndexOf(kinds, k)]))) + weir.Describe());
            }
            foreach (Signal signal in (Signal[])[Signal.Kill, Signal.Term, Signal.Stop])
            {
                AllServe();
                Array.ForEach(applications, a => SendAll(a, signal));
                load.WaitFor(round);
                for (int i = 0; i < applications.Length; i++)
                {
                    if (signal == Signal.Stop)
                    {
                        SendAll(applications[i], Signal.Cont);
                    }
                    else
                    {
                        applications[i].Dispose();
                        applications[i] = Start(i);
                    }
                }
            }
            AllServe();
            load.Stop();
            Assert.Empty(load.Failures);
        }
        finally
        {
            foreach (ChildProcess application in applications)
            {
                SendAll(application, Signal.Cont);
                application.Dispose();
            }
            Array.ForEach(ports, static p => p.Dispose());
        }
    }

    /// <summary>Good answers of each server of the group.</summary>
    private static long[] Served(ServerProcess weir) => [.. JsonDocument.Parse(weir.Get("/api/9/http/upstreams/g").Text)
        .RootElement.GetProperty("peers").EnumerateArray()
        .Select(static p => p.GetProperty("responses").GetProperty("2xx").GetInt64())];

    [NeedsFact("node")]
    public void A_server_that_is_killed_and_restarted_costs_none_of_many_requests()
    {
        int answers = IsLong ? 100_000 : 600;
        using Upstream one = Good("one");
        using Port port = Port.Lease();
        using TempDir files = Applications();
        ChildProcess two = Run("node", files, port.Number);
        string address = string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{port.Number}");
        using ServerProcess weir = Start($"server {At(one)} max_fails=0; server {address} fail_timeout=1s;",
            workers: 2);
        using var load = new Load(weir.Port, 8, static r => r.Status == 200);
        for (int round = 0; round < 3; round++)
        {
            load.WaitFor(answers / 6);
            two.Send(Signal.Kill);
            load.WaitFor(answers / 6);
            two.Dispose();
            two = Run("node", files, port.Number);
        }
        load.Stop();
        two.Dispose();
        Assert.Empty(load.Failures);
        Assert.True(load.Answers >= answers, $"{load.Answers} answers");
    }

    [Fact]
    public void Four_workers_keep_one_order_of_weights_and_a_killed_one_shifts_it_by_no_more_than_its_turn()
    {
        const int Clients = 8;
        int cycles = IsLong ? 5000 : 150, kills = 0;
        using Upstream a = Good("a"), b = Good("b"), c = Good("c");
        using ServerProcess weir = Start($"server {At(a)} weight=5; server {At(b)} weight=3; server {At(c)};",
            workers: 4);
        Wait.For("four workers", () => weir.Workers().Length == 4, PatientMs);
        using (var load = new Load(weir.Port, Clients, static r => r.Status == 200, requestsPerConnection: 20))
        {
            while (load.Answers < cycles * 9)
            {
                load.WaitFor(cycles * 2);
                int[] before = weir.Workers();
                if (kills < 3 && before.Length == 4)
                {
                    ChildProcess.Send(before[0], Signal.Kill);
                    kills++;
                    Wait.For("another worker", () => weir.Workers() is { Length: 4 } now && !now.Contains(before[0]),
                        PatientMs);
                }
            }
            load.Stop();
            // A client saw the end of the connection that it had with the killed worker, and was answered on another.
            Assert.True(load.Failures.Count <= Clients * kills && load.Lost == 0,
                $"{load.Lost} lost\n{string.Join('\n', load.Failures)}");
        }
        // What was chosen is counted where it is chosen, under the zone's lock: smooth weights are exact to one at any
        // moment, and a worker that dies holding the lock begins the cycle anew.
        long[] chosen = [.. JsonDocument.Parse(weir.Get("/api/9/http/upstreams/g").Text).RootElement
            .GetProperty("peers").EnumerateArray().Select(static p => p.GetProperty("requests").GetInt64())];
        double cycle = chosen.Sum() / 9.0;
        foreach ((long count, int weight) in chosen.Zip([5, 3, 1]))
        {
            Assert.InRange(count - (cycle * weight), -1.0 - kills, 1.0 + kills);
        }
        Assert.True(kills > 0 && chosen.Sum() >= cycles * 9, $"{chosen.Sum()} choices, {kills} kills");
    }

    [Theory]
    [InlineData("")]
    [InlineData("zone z 128k;")]
    public void A_name_that_changes_fails_falls_silent_and_comes_back_costs_no_request(string zone)
    {
        using Upstream a = Good("a"), b = Good("b");
        using var dns = new ScriptedNameServer();
        dns.Set("local.test", "127.0.0.1");
        void Lead(Upstream to) => dns.SetServices("_http._tcp.app.test", (1, 1, to.Port, "local.test"));
        Lead(a);
        using var weir = ServerProcess.Weir(Conf.Http($$"""
            resolver 127.0.0.1:{{dns.Port}} ipv6=off; resolver_timeout 1s;
            upstream g { {{zone}} server app.test service=http resolve; }
            server { listen 127.0.0.1:%PORT%; location / { proxy_pass http://g; proxy_next_upstream off; } }
            """, 2, master: true));
        Wait.For("the name", () => weir.Get("/").Status == 200, PatientMs);
        string last = "";
        using var load = new Load(weir.Port, 4, r => (last = r.Text) is "a" or "b" && r.Status == 200,
            requestsPerConnection: 50);
        void Asked(int more)
        {
            int until = dns.Questions + more;
            Wait.For("questions", () => dns.Questions >= until, PatientMs);
        }
        load.WaitFor(100);
        Lead(b);
        int from = a.Requests.Count;
        Wait.For("the other server", () => last == "b", PatientMs);
        dns.Mode = NameServerMode.Failing;
        Asked(3);
        dns.Mode = NameServerMode.Silent;
        Asked(2);
        dns.Mode = NameServerMode.Answering;
        Lead(a);
        Wait.For("the first server again", () => a.Requests.Count > from + 200, PatientMs);
        load.Stop();
        Assert.Empty(load.Failures);
    }

    [Fact]
    public void Without_a_kill_many_at_once_are_divided_exactly()
    {
        using Upstream a = Good("a"), b = Good("b"), c = Good("c");
        using ServerProcess weir = Start($"server {At(a)} weight=5; server {At(b)} weight=3; server {At(c)};",
            workers: 4);
        Parallel.For(0, 10, _ =>
        {
            using RawClient client = weir.Connect();
            for (int i = 0; i < 45; i++)
            {
                Assert.Equal(200, client.Get("/").Status);
            }
        });
        Assert.Equal((250, 150, 50), (a.Requests.Count, b.Requests.Count, c.Requests.Count));
    }
}
