// The cache's manager and loader are killed while clients ask without pause: no client sees it, what was cached is
// still served from the cache, and both processes come back and finish their work.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed class CacheProcessDeathTests
{
    private const int Keys = 60;
    private const string Manager = "weir: cache manager process", Loader = "weir: cache loader process";

    /// <summary>Kills the process with this title so many times under load, each time after it has come back.</summary>
    private static void KillUnderLoad(ServerProcess weir, Load load, string title, int times)
    {
        for (int i = 0, last = 0; i < times; i++)
        {
            int victim = 0;
            Wait.For(title, () => (victim = weir.Named(title).FirstOrDefault(p => p != last)) != 0);
            load.WaitFor(100);
            ChildProcess.Send(victim, Signal.Kill);
            last = victim;
            load.WaitFor(100);
            Wait.For("its end in the log", () => weir.ErrorLog.Contains(
                $"process {victim} exited on signal 9", StringComparison.Ordinal));
        }
    }

    private static string Path(int i) => "/" + i.ToString(CultureInfo.InvariantCulture);

    [Fact]
    public void A_cache_manager_killed_under_load_while_it_evicts_costs_no_answer()
    {
        string body = new('x', 4000);
        using Upstream upstream = Upstream.Answering(_ => Upstream.Ok(body, "Cache-Control: max-age=1000"));
        using ServerProcess weir = Start(upstream, "max_size=100k manager_files=1 manager_sleep=20ms");
        using var load = new Load(weir.Port, 4, r => r.Status == 200 && r.Text == body,
            path: static n => Path((int)(n % Keys)));
        KillUnderLoad(weir, load, Manager, times: 3);
        // Its successor carries on: with more stored than may be, the size comes down.
        load.Stop();
        Assert.Empty(load.Failures);
        Wait.For("the eviction", () => Files(weir).Length is > 0 and <= 25);
    }

    [Fact]
    public void A_cache_loader_killed_under_load_costs_no_answer_and_no_cached_file()
    {
        using Upstream upstream = Upstream.Answering(_ => Upstream.Ok("stored", "Cache-Control: max-age=1000"));
        // Slow enough to be found at work: a file at a time.
        using ServerProcess weir = Start(upstream, "loader_files=1 loader_sleep=50ms");
        for (int i = 0; i < Keys; i++)
        {
            Assert.Equal("stored", weir.Get(Path(i)).Text);
        }
        Wait.For("the files", () => Files(weir).Length == Keys);
        weir.Restart();
        using (var load = new Load(weir.Port, 4, static r => r is { Status: 200, Text: "stored" }
            && r["X-Cache"] == "HIT", path: static n => Path((int)(n % Keys))))
        {
            KillUnderLoad(weir, load, Loader, times: 2);
            Wait.For("the end of the loader's work", () => weir.Named(Loader).Length == 0
                && weir.ErrorLog.Contains("exited with code 0", StringComparison.Ordinal));
            load.WaitFor(100);
            load.Stop();
            Assert.Empty(load.Failures);
        }
        Assert.Equal(Keys, upstream.Requests.Count);
    }

    private static string[] Files(ServerProcess weir) => Directory.Exists(weir.Dir.At("cache"))
        ? Directory.GetFiles(weir.Dir.At("cache"), "*", SearchOption.AllDirectories)
            .Where(static f => System.IO.Path.GetFileName(f).Length == 32).ToArray()
        : [];

    private static ServerProcess Start(Upstream upstream, string cache) => ServerProcess.Weir(Conf.Http($$"""
        proxy_cache_path %DIR%/cache keys_zone=one:1m use_temp_path=off {{cache}};
        server { listen 127.0.0.1:%PORT%; location / { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_cache one;
            add_header X-Cache $upstream_cache_status; } }
        """, workers: 2, master: true), upstreamPort: upstream.Port);
}
