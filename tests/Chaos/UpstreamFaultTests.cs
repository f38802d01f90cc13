// Steady load through a pool of which one server misbehaves, in every way a server can, or a worker is killed: what the
// clients saw, what the servers were asked, and that the one order of weights stayed the one order. The short forms run
// in ./test; the long ones by `./test chaos-long`.
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
                case "a byte a second":
                    foreach (char b in "HTTP/1.1 200 OK\r\n")
                    {
                        c.Send(b.ToString());
                        never.Wait(1000);
                    }
                    return;
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
    [InlineData("a byte a second")]
    public void No_client_sees_a_server_that_misbehaves_before_its_answer_has_begun(string kind)
    {
        using Upstream good = Good("ok");
        using Upstream bad = Bad(kind);
        using ServerProcess weir = Start(
            $"server {At(good)} max_fails=0; server {At(bad)} max_fails=1 fail_timeout=1s;", workers: 2);
        using var load = new Load(weir.Port, 4, static r => r is { Status: 200, Text: "ok" });
        load.WaitFor(100);
        Wait.For("it was asked again after its time aside", () => bad.Connections >= 2, PatientMs);
        load.Stop();
        Assert.Empty(load.Failures);
    }

    [Fact]
    public void Who_is_sent_half_a_body_and_a_reset_knows_it_and_nobody_else_does()
    {
        using Upstream good = Good("ok");
        using var half = new Upstream(static c =>
        {
            c.ReadRequest();
            c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf");
            c.Reset();
        });
        using ServerProcess weir = Start(
            $"server {At(good)}; server {At(half)} max_fails=3 fail_timeout=1h;", workers: 2);
        int whole = 0, cut = 0;
        for (int i = 0; i < 40; i++)
        {
            using RawClient client = weir.Connect();
            client.Send(RawClient.Request("GET", "/", []));
            try
            {
                HttpResponse answer = client.ReadResponse();
                // A cut answer has less than its length says: nothing is passed off as whole that is not.
                bool isWhole = answer["Content-Length"] == answer.Text.Length.ToString(CultureInfo.InvariantCulture);
                Assert.True(!isWhole || answer is { Status: 200, Text: "ok" }, answer.Text);
                whole += isWhole ? 1 : 0;
                cut += isWhole ? 0 : 1;
            }
            catch (Exception e) when (e is IOException or InvalidOperationException
                or System.Net.Sockets.SocketException)
            {
                cut++;
            }
        }
        // Three failures put it aside, in all workers.
        Assert.Equal((37, 3), (whole, cut));
    }

    [NeedsFact("node")]
    public void A_server_that_is_killed_and_restarted_costs_no_request()
    {
        int answers = IsLong ? 100_000 : 1500;
        using Upstream one = Good("one");
        using Port port = Port.Lease();
        using var files = new TempDir();
        files.Write("app.js",
            "require('http').createServer((q, r) => r.end('two')).listen(process.argv[2], '127.0.0.1')");
        ChildProcess Run() => new(Tools.Require("node"),
            [files.At("app.js"), port.Number.ToString(CultureInfo.InvariantCulture)], files.Path);
        ChildProcess two = Run();
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
            two = Run();
        }
        load.Stop();
        two.Dispose();
        Assert.Empty(load.Failures);
        Assert.True(load.Answers >= answers, $"{load.Answers} answers");
    }

    [Fact]
    public void Four_workers_keep_one_order_of_weights_and_a_killed_one_shifts_it_by_no_more_than_its_turn()
    {
        int cycles = IsLong ? 5000 : 150, kills = 0;
        using Upstream a = Good("a"), b = Good("b"), c = Good("c");
        using ServerProcess weir = Start($"server {At(a)} weight=5; server {At(b)} weight=3; server {At(c)};",
            workers: 4);
        Wait.For("four workers", () => weir.Workers().Length == 4, PatientMs);
        using (var load = new Load(weir.Port, 8, static r => r.Status == 200, requestsPerConnection: 20))
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
