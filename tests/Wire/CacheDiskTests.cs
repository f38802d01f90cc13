// The cache and its disk: files that are cut short, that are left behind half-written or that a full file system
// refuses; space that has to stay free; processes that are killed while clients ask.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class CacheDiskTests
{
    private const string Long = "Cache-Control: max-age=1000";

    [Fact]
    public void A_file_that_was_cut_short_is_dropped_and_fetched_again()
    {
        string body = new('x', 300_000);
        using Upstream upstream = Upstream.Answering(Upstream.Ok(body, Long));
        using ServerProcess weir = CacheTests.Start(upstream);
        weir.Get("/");
        Wait.For("the file", () => CacheTests.Files(weir).Length == 1);
        weir.Stop();
        using (FileStream file = File.OpenWrite(CacheTests.Files(weir)[0]))
        {
            file.SetLength(file.Length - 1);
        }
        weir.Restart();
        HttpResponse again = weir.Get("/");
        Assert.Equal(("MISS", body), (CacheTests.CacheOf(again), again.Text));
        Wait.For("the log", () => weir.ErrorLog.Contains("is not whole", StringComparison.Ordinal));
        Wait.For("the whole file", () => CacheTests.CacheOf(weir.Get("/")) == "HIT");
    }

    [Fact]
    public void What_a_dead_writer_left_is_never_served_and_goes()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("whole", Long));
        using ServerProcess weir = CacheTests.Start(upstream);
        weir.Get("/");
        Wait.For("the file", () => CacheTests.Files(weir).Length == 1);
        weir.Stop();
        string file = CacheTests.Files(weir)[0], half = System.IO.Path.GetDirectoryName(file) + "/1f.2a.3";
        File.Copy(file, half);
        File.SetLastWriteTimeUtc(half, DateTime.UtcNow.AddHours(-1));
        weir.Restart();
        Wait.For("its end", () => !File.Exists(half));
        Assert.Equal("HIT", CacheTests.CacheOf(weir.Get("/")));
    }

    [Fact]
    public void Files_go_while_less_is_free_than_should_be()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("x", Long));
        using ServerProcess weir = CacheTests.Start(upstream,
            path: "proxy_cache_path %DIR%/cache keys_zone=one:1m min_free=1000000g use_temp_path=off;");
        for (int i = 0; i < 5; i++)
        {
            weir.Get($"/{i}");
        }
        Wait.For("the end of the files", () => CacheTests.Files(weir).Length == 0);
        Assert.Equal("MISS", CacheTests.CacheOf(weir.Get("/0")));
    }

    [NeedsFact("unshare")]
    [Trait("Needs", "root")]
    public void A_full_disk_costs_stored_responses_and_never_an_answer()
    {
        string small = new('s', 2000), large = new('l', 900_000);
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Target == "/small" ? small : large, Long));
        using var files = new TempDir();
        string script = files.Write("weir", $"""
            #!/bin/sh
            exec unshare -m sh -c 'mount -t tmpfs -o size=600k tmpfs {files.At("disk")} && exec "$0" "$@"' \
                {ServerProcess.WeirBinary} "$@"
            """);
        files.Write("disk/", "");
        File.SetUnixFileMode(script, (UnixFileMode)0b111_101_101);
        using var weir = ServerProcess.Start(script, Conf.Server(CacheTests.Pass.Replace("%MORE%", ""),
            "proxy_cache_path %FILES%/disk keys_zone=one:1m use_temp_path=off;"), files, upstream.Port);
        for (int i = 0; i < 3; i++)
        {
            HttpResponse response = weir.Get("/large");
            Assert.Equal(("MISS", 200), (CacheTests.CacheOf(response), response.Status));
            Assert.Equal(large, response.Text);
        }
        Wait.For("a line in the log", () => weir.ErrorLog.Contains("(28: No space left", StringComparison.Ordinal));
        Assert.Equal(small, weir.Get("/small").Text);
        Wait.For("room again", () => CacheTests.CacheOf(weir.Get("/small")) == "HIT");
    }

    [Fact]
    [Trait("Needs", "master")]
    public void Managers_loaders_and_clients_do_not_meet_when_the_former_are_killed()
    {
        string body = new('x', 4000);
        using Upstream upstream = Upstream.Answering(Upstream.Ok(body, Long));
        using ServerProcess weir = CacheTests.Start(upstream, master: true, path: "proxy_cache_path %DIR%/cache "
            + "keys_zone=one:1m max_size=200k manager_files=2 manager_sleep=5ms loader_files=1 loader_sleep=5ms "
            + "use_temp_path=off;");
        for (int i = 0; i < 50; i++)
        {
            weir.Get($"/{i}");
        }
        Wait.For("the files", () => CacheTests.Files(weir).Length >= 30);
        weir.Restart();
        int kills = 0;
        using RawClient client = weir.Connect();
        for (int i = 0; kills < 6 || i < 300; i++)
        {
            HttpResponse response = client.Get($"/{i * 7 % 60}");
            Assert.Equal((200, body), (response.Status, response.Text));
            if (i % 20 == 0)
            {
                foreach (int pid in weir.Named("weir: cache "))
                {
                    ChildProcess.Send(pid, Signal.Kill);
                    kills++;
                }
            }
            if (i % 900 == 899)
            {
                break;
            }
        }
        Assert.InRange(kills, 1, int.MaxValue);
        Wait.For("the bounds", () => CacheTests.Files(weir).Length <= 50);
    }
}
