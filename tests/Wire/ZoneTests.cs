// What zones hold over a reload and over an upgrade to another binary, kind by kind, and what a killed worker leaves in
// them: nothing. Each kind is asked before and after by a request whose answer depends on what was known.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

[Trait("Needs", "master")]
public sealed class ZoneTests
{
    private const int PatientMs = 30_000;

    private static readonly TestAuthority _authority = new();

    private static void Kill(int[] pids)
    {
        foreach (int pid in pids)
        {
            ChildProcess.Send(pid, Signal.Kill);
        }
    }

    /// <summary>A server with a zone of every kind.</summary>
    private static Conf Everything(int held, int bad, int good, string more) => Conf.Http($$"""
        limit_req_zone $arg_k zone=rate:64k rate=1r/m;
        limit_conn_zone $arg_k zone=conns:64k;
        proxy_cache_path %DIR%/cache keys_zone=keys:1m use_temp_path=off;
        upstream pool { zone pool 64k; server 127.0.0.1:{{bad}} fail_timeout=1h; server 127.0.0.1:{{good}}; }
        upstream learned {
            server 127.0.0.1:{{bad}}; server 127.0.0.1:{{good}};
            sticky learn create=$upstream_cookie_sid lookup=$cookie_sid zone=sessions:64k timeout=1h;
        }
        server {
            listen 127.0.0.1:%PORT%;
            listen 127.0.0.1:%PORT2% ssl;
            ssl_certificate %FILES%/ec.crt;
            ssl_certificate_key %FILES%/ec.key;
            ssl_session_tickets off;
            ssl_session_cache shared:tls:1m;
            add_header X-Pid $pid always;
            add_header X-Cache $upstream_cache_status always;
            location /pid { return 200 ok; }
            location /rate { limit_req zone=rate; try_files /none =404; }
            location /conns { limit_conn conns 1; proxy_pass http://127.0.0.1:{{held}}; }
            location /keys { proxy_cache keys; proxy_cache_min_uses 3; proxy_pass http://127.0.0.1:{{good}}; }
            location /pool { proxy_next_upstream http_500; proxy_pass http://pool; }
            location /learned { proxy_pass http://learned; }
            {{more}}
        }
        """, workers: 2, master: true);

    [NeedsTheory("openssl")]
    [InlineData("reload")]
    [InlineData("upgrade")]
    public void Zones_of_every_kind_are_kept(string how)
    {
        using var release = new ManualResetEventSlim();
        using Upstream held = Upstream.Answering(_ =>
        {
            release.Wait(PatientMs);
            return Upstream.Ok("held");
        });
        using Upstream bad = Upstream.Answering(static r => r.Target.StartsWith("/learned", StringComparison.Ordinal)
            ? Upstream.Ok("bad", "Set-Cookie: sid=of-bad") : "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
        using Upstream good = Upstream.Answering(Upstream.Ok("good", "Cache-Control: max-age=1000"));
        int AskedInPool() => bad.Requests.Count(static r => r.AsSpan().IndexOf("GET /pool"u8) >= 0);
        Conf Of(string more) => Everything(held.Port, bad.Port, good.Port, more);
        using var files = new TempDir();
        _authority.Write(files, "ec");
        using var weir = ServerProcess.Weir(Of(""), files);

        Assert.Equal(404, weir.Get("/rate?k=a").Status);
        Assert.Equal(503, weir.Get("/rate?k=a").Status);
        using RawClient holding = weir.Connect();
        holding.Send(RawClient.Request("GET", "/conns?k=a", []));
        Wait.For("the connection that counts", () => held.Requests.Count == 1);
        Assert.Equal(503, weir.Get("/conns?k=a").Status);
        Assert.Equal("MISS", CacheTests.CacheOf(weir.Get("/keys")));
        Assert.Equal("MISS", CacheTests.CacheOf(weir.Get("/keys")));
        Wait.For("the failure", () =>
        {
            weir.Get("/pool");
            return AskedInPool() == 1;
        });
        Wait.For("the session", () => weir.Get("/learned").Text == "bad");
        string session = files.At("session");
        string tls = $"openssl s_client -connect 127.0.0.1:{weir.PortOf(2)} -tls1_2";
        ChildProcess.Run("sh", "-c", $"echo | {tls} -sess_out {session}");

        int next = 0;
        try
        {
            if (how == "reload")
            {
                weir.Rewrite(Of("location /more { return 200; }"));
                weir.Send(Signal.Hup);
                Wait.For("the reload", () => weir.Get("/more").Status == 200);
            }
            else
            {
                next = Upgrade(weir);
            }

            Assert.Equal(503, weir.Get("/rate?k=a").Status);
            Assert.Equal(503, weir.Get("/conns?k=a").Status);
            Assert.Equal("MISS", CacheTests.CacheOf(weir.Get("/keys")));
            // Asked so, nobody fetches: only the third use before can have stored it.
            Wait.For("the file of the third use",
                () => CacheTests.CacheOf(weir.Get("/keys", "Cache-Control: only-if-cached")) == "HIT");
            for (int i = 0; i < 4; i++)
            {
                Assert.Equal("good", weir.Get("/pool").Text);
                Assert.Equal("bad", weir.Get("/learned", "Cookie: sid=of-bad").Text);
            }
            Assert.Equal(1, AskedInPool());
            (_, string said, _) = ChildProcess.Run("sh", "-c", $"echo | {tls} -sess_in {session} 2>/dev/null");
            Assert.Contains("Reused,", said, StringComparison.Ordinal);
            release.Set();
            Assert.Equal("held", holding.ReadResponse().Text);
            Wait.For("the count's end", () => weir.Get("/conns?k=a").Status == 200);
        }
        finally
        {
            if (next != 0)
            {
                ChildProcess.Send(next, Signal.Term);
                Wait.Until(() => !Directory.Exists($"/proc/{next}"));
            }
        }
    }

    /// <summary>Another master takes over; the old one's workers only finish what they have.</summary>
    private static int Upgrade(ServerProcess weir)
    {
        string[] old = [.. weir.Workers().Select(static pid => pid.ToString(CultureInfo.InvariantCulture))];
        string pidPath = weir.Dir.At("server.pid");
        weir.Send(Signal.Usr2);
        Wait.For("the new master", () => File.Exists(pidPath + ".oldbin") && File.Exists(pidPath)
            && File.ReadAllText(pidPath).Length > 1);
        int next = int.Parse(File.ReadAllText(pidPath), CultureInfo.InvariantCulture);
        Wait.For("its workers", () => !old.Contains(weir.Get("/pid")["X-Pid"]));
        int[] serving = weir.Named("weir: worker process");
        weir.Send(Signal.Quit);
        Wait.For("the old ones' word", () => serving.All(pid =>
            weir.ErrorLog.Contains($"{pid}: gracefully shutting down", StringComparison.Ordinal)));
        int inRow = 0;
        Wait.For("the end of the old ones' listening", () =>
            (inRow = old.Contains(PidOf(weir)) ? 0 : inRow + 1) == 10);
        return next;
    }

    /// <summary>Who answers. Clients that come behind wake whoever listens, should the one that was woken for this
    /// client just have stopped.</summary>
    private static string? PidOf(ServerProcess weir)
    {
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/pid", []));
        using RawClient second = weir.Connect(), third = weir.Connect();
        return client.ReadResponse()["X-Pid"];
    }

    [Fact]
    public void A_zone_of_another_size_begins_anew()
    {
        Conf Of(string size) => Conf.Server("location / { limit_req zone=rate; try_files /none =404; }",
            $"limit_req_zone $arg_k zone=rate:{size} rate=1r/m;", master: true);
        using var weir = ServerProcess.Weir(Of("64k"));
        Assert.Equal(404, weir.Get("/?k=a").Status);
        Assert.Equal(503, weir.Get("/?k=a").Status);
        weir.Rewrite(Of("128k"));
        weir.Send(Signal.Hup);
        Wait.For("the reload", () => weir.ErrorLog.Contains("reconfigured, generation", StringComparison.Ordinal));
        Assert.Equal(404, weir.Get("/?k=a").Status);
    }

    [Fact]
    public void Killed_workers_leave_no_status_count_behind()
    {
        using var release = new ManualResetEventSlim();
        using Upstream upstream = Upstream.Answering(_ =>
        {
            release.Wait(PatientMs);
            return Upstream.Ok("held");
        });
        using var weir = ServerProcess.Weir(Conf.Server(
            "location /status { stub_status; } location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }", workers: 2,
            master: true), upstreamPort: upstream.Port);
        RawClient[] clients = [.. Enumerable.Range(0, 6).Select(_ => weir.Connect())];
        foreach (RawClient client in clients[..3])
        {
            client.Send(RawClient.Request("GET", "/", []));
        }
        foreach (RawClient client in clients[3..])
        {
            client.Get("/status");
        }
        Wait.For("three under way", () => upstream.Requests.Count == 3);
        Assert.StartsWith("Active connections: 7 ", weir.Get("/status").Text, StringComparison.Ordinal);
        int[] before = weir.Named("weir: worker process");
        Kill(before);
        Wait.For("new workers", () =>
            weir.Named("weir: worker process") is { Length: 2 } now && !now.Intersect(before).Any());
        string status = weir.Get("/status").Text;
        Assert.StartsWith("Active connections: 1 ", status, StringComparison.Ordinal);
        Assert.Contains("Reading: 0 Writing: 1 Waiting: 0", status, StringComparison.Ordinal);
        release.Set();
        foreach (RawClient client in clients)
        {
            client.Dispose();
        }
    }

    [Fact]
    public void An_update_behind_that_its_worker_did_not_survive_is_begun_again()
    {
        using var release = new ManualResetEventSlim();
        int asked = 0;
        using Upstream upstream = Upstream.Answering(_ =>
        {
            int n = Interlocked.Increment(ref asked);
            if (n == 2)
            {
                release.Wait(PatientMs);
            }
            return n == 1 ? Upstream.Ok("old", "Cache-Control: max-age=5, stale-while-revalidate=600", "Age: 10")
                : Upstream.Ok("new", "Cache-Control: max-age=1000");
        });
        using ServerProcess weir = CacheTests.Start(upstream, master: true);
        weir.Get("/");
        Wait.For("the file", () => CacheTests.Files(weir).Length == 1);
        Assert.Equal(("STALE", "old"), weir.Get("/") is var first ? (CacheTests.CacheOf(first), first.Text) : default);
        Wait.For("the update", () => Volatile.Read(ref asked) == 2);
        Assert.Equal("UPDATING", CacheTests.CacheOf(weir.Get("/")));
        int[] before = weir.Named("weir: worker process");
        Kill(before);
        Wait.For("a new worker", () => weir.Named("weir: worker process") is { Length: 1 } now && now[0] != before[0]);
        Wait.For("the update after all", () => CacheTests.CacheOf(weir.Get("/")) == "HIT");
        Assert.Equal("new", weir.Get("/").Text);
        Assert.Equal(3, asked);
        release.Set();
    }
}
