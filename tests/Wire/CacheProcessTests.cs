// The cache's processes and what workers share: manager and loader by name, evictions, a warm start, kills at any time,
// locks across workers.
using System.Diagnostics;
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

[Trait("Needs", "master")]
public sealed class CacheProcessTests
{
    private const string Long = "Cache-Control: max-age=1000";

    private static void Kill(int pid) => System.Diagnostics.Process.GetProcessById(pid).Kill();

    [Fact]
    public void Manager_and_loader_are_processes_of_their_own_and_the_loader_ends()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("x", Long));
        using ServerProcess weir = CacheTests.Start(upstream, master: true, workers: 2);
        Wait.For("the manager", () => weir.Named("weir: cache manager process").Length == 1);
        Wait.For("the loader's end", () => weir.Named("weir: cache loader process").Length == 0
            && weir.ErrorLog.Contains("cache loader process", StringComparison.Ordinal));
        Assert.Equal(2, weir.Named("weir: worker process").Length);
    }

    /// <summary>Ten nicer than a worker; a priority that workers are given above others is not theirs.</summary>
    [Theory]
    [InlineData(0, 0, 10)]
    [InlineData(3, 3, 13)]
    [InlineData(-5, -5, 10)]
    public void Manager_and_loader_give_way_to_workers(int priority, int worker, int upkeep)
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("x", Long));
        int mine = NiceOf(Environment.ProcessId);
        using var weir = ServerProcess.Weir(Conf.Server(CacheTests.Pass.Replace("%MORE%", ""),
            "proxy_cache_path %DIR%/cache keys_zone=one:1m use_temp_path=off loader_files=1 loader_sleep=50ms;",
            workers: 1, master: true, main: $"worker_priority {priority};"), upstreamPort: upstream.Port);
        for (int i = 0; i < 100; i++)
        {
            weir.Get($"/{i}");
        }
        Wait.For("the files", () => CacheTests.Files(weir).Length == 100);
        weir.Restart();
        foreach (string title in (string[])["manager", "loader"])
        {
            Wait.For(title, () => weir.Named($"weir: cache {title} process") is [var pid]
                && NiceOf(pid) == Math.Min(priority > 0 ? upkeep : mine + upkeep, 19));
        }
        // Only root may go before others.
        bool isSet = priority > 0 || priority < 0 && Environment.IsPrivilegedProcess;
        Wait.For("the worker", () => weir.Named("weir: worker process") is [var pid]
            && NiceOf(pid) == (isSet ? worker : mine));
    }

    /// <summary>Behind the name in parentheses: the state is field 3, the nice value 19.</summary>
    private static int NiceOf(int pid) => int.Parse(
        File.ReadAllText($"/proc/{pid}/stat").Split(") ")[^1].Split(' ')[19 - 3], CultureInfo.InvariantCulture);

    [Fact]
    public void Without_a_cache_there_are_none()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("x"));
        using var weir = ServerProcess.Weir(Conf.Server("", master: true), upstreamPort: upstream.Port);
        Wait.For("the worker", () => weir.Named("weir: worker process").Length == 1);
        Assert.Empty(weir.Named("weir: cache manager process"));
    }

    [Fact]
    public void A_killed_manager_and_a_killed_loader_come_back_and_nothing_is_lost()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("x", Long));
        using ServerProcess weir = CacheTests.Start(upstream, master: true,
            path: "proxy_cache_path %DIR%/cache keys_zone=one:1m use_temp_path=off loader_files=1 loader_sleep=20ms;");
        for (int i = 0; i < 100; i++)
        {
            weir.Get($"/{i}");
        }
        Wait.For("the files", () => CacheTests.Files(weir).Length == 100);
        weir.Restart();
        Wait.For("the loader", () => weir.Named("weir: cache loader process").Length == 1);
        int manager = 0;
        Wait.For("the manager", () => (manager = weir.Named("weir: cache manager process").FirstOrDefault()) != 0);
        Kill(weir.Named("weir: cache loader process")[0]);
        Kill(manager);
        Wait.For("another manager", () => weir.Named("weir: cache manager process") is [var other]
            && other != manager);
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal("HIT", CacheTests.CacheOf(weir.Get($"/{i}")));
        }
        Wait.For("the loader's end", () => weir.Named("weir: cache loader process").Length == 0
            && weir.ErrorLog.Contains("cache loader process", StringComparison.Ordinal));
        Assert.Equal(100, upstream.Requests.Count);
    }

    [Fact]
    public void What_is_too_much_goes_least_recently_used_first()
    {
        string body = new('x', 8192);
        using Upstream upstream = Upstream.Answering(Upstream.Ok(body, Long));
        using ServerProcess weir = CacheTests.Start(upstream, master: true,
            path: "proxy_cache_path %DIR%/cache keys_zone=one:1m max_size=100k use_temp_path=off;");
        for (int i = 0; i < 40; i++)
        {
            weir.Get($"/{i}");
        }
        Wait.For("the eviction", () => CacheTests.Files(weir).Length <= 12);
        Assert.Equal("HIT", CacheTests.CacheOf(weir.Get("/39")));
        Assert.Equal("MISS", CacheTests.CacheOf(weir.Get("/0")));
    }

    [Fact]
    public void What_nobody_uses_goes()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("x", Long));
        using ServerProcess weir = CacheTests.Start(upstream,
            path: "proxy_cache_path %DIR%/cache keys_zone=one:1m inactive=2s use_temp_path=off;");
        weir.Get("/");
        Wait.For("the file", () => CacheTests.Files(weir).Length == 1);
        Wait.For("the end of the file", () => CacheTests.Files(weir).Length == 0
            && upstream.Requests.Count == 1);
        Assert.Equal("MISS", CacheTests.CacheOf(weir.Get("/")));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void A_herd_for_one_expired_key_reaches_the_upstream_once(int workers)
    {
        using var go = new ManualResetEventSlim();
        int asked = 0;
        using Upstream upstream = Upstream.Answering(_ =>
        {
            if (Interlocked.Increment(ref asked) == 1)
            {
                return Upstream.Ok("old", "ETag: \"a\"", "Cache-Control: max-age=5", "Age: 10");
            }
            go.Wait(30_000);
            return Upstream.Ok("new", Long);
        });
        using ServerProcess weir = CacheTests.Start(upstream,
            "proxy_cache_lock on; proxy_cache_lock_timeout 60s; proxy_cache_lock_age 60s;", workers: workers,
            master: true);
        weir.Get("/");
        Wait.For("the file", () => CacheTests.Files(weir).Length == 1);
        RawClient[] herd = [.. Enumerable.Range(0, 1000).Select(_ => weir.Connect())];
        foreach (RawClient client in herd)
        {
            client.Send(RawClient.Request("GET", "/", []));
        }
        Wait.For("the one request", () => Volatile.Read(ref asked) == 2);
        go.Set();
        Assert.All(herd, static client => Assert.Equal("new", client.ReadResponse().Text));
        Assert.Equal(2, asked);
        foreach (RawClient client in herd)
        {
            client.Dispose();
        }
    }

    [Fact]
    public void The_lock_of_a_killed_worker_is_given_back()
    {
        using var hold = new ManualResetEventSlim();
        int asked = 0;
        using Upstream upstream = Upstream.Answering(_ =>
        {
            if (Interlocked.Increment(ref asked) == 1)
            {
                hold.Wait(30_000);
            }
            return Upstream.Ok("fetched", Long);
        });
        using ServerProcess weir = CacheTests.Start(upstream,
            "proxy_cache_lock on; proxy_cache_lock_timeout 60s; proxy_cache_lock_age 60s;"
            + "add_header X-Worker $pid always;", workers: 2, master: true);
        using RawClient first = weir.Connect();
        first.Send(RawClient.Request("GET", "/", []));
        Wait.For("the first request", () => Volatile.Read(ref asked) == 1);
        int[] workers = weir.Named("weir: worker process");
        int holder = workers.First(pid => SocketsTo(pid, upstream.Port));
        Kill(holder);
        using RawClient second = weir.Connect();
        second.Send(RawClient.Request("GET", "/", []));
        Assert.Equal("fetched", second.ReadResponse().Text);
        Assert.Equal(2, asked);
        hold.Set();
    }

    /// <summary>Whether a process has a connection to this port.</summary>
    private static bool SocketsTo(int pid, int port)
    {
        string remote = $":{port:X4} ";
        HashSet<string> inodes = [.. File.ReadLines("/proc/net/tcp")
            .Select(static line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Where(parts => parts.Length > 9 && (parts[2] + " ").EndsWith(remote, StringComparison.Ordinal))
            .Select(static parts => $"socket:[{parts[9]}]")];
        return Directory.GetFiles($"/proc/{pid}/fd").Any(fd =>
            new FileInfo(fd).LinkTarget is { } target && inodes.Contains(target));
    }
}
