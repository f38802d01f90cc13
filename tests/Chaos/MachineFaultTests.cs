// Steady load while the machine under the server misbehaves: the disk of the cache and of temporary files fills, the
// wall clock is set by an hour. Each test says what every client saw.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed class MachineFaultTests
{
    /// <summary>A wall clock that is wrong by as many seconds as a file says. Programs that look functions up by name
    /// are given it as well as those that were linked.</summary>
    private const string Clock = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <fcntl.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/mman.h>
        #include <sys/syscall.h>
        #include <time.h>
        #include <unistd.h>
        static volatile long *offset;
        __attribute__((constructor)) static void start(void)
        {
            int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY);
            void *map = fd < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
            offset = map == MAP_FAILED ? 0 : map;
            if (fd >= 0) close(fd);
        }
        int clock_gettime(clockid_t id, struct timespec *t)
        {
            int result = syscall(SYS_clock_gettime, id, t);
            if (result == 0 && id == CLOCK_REALTIME && offset) t->tv_sec += *offset;
            return result;
        }
        void *dlsym(void *from, const char *name)
        {
            static const char *const versions[] = { "GLIBC_2.34", "GLIBC_2.17", "GLIBC_2.2.5" };
            static void *(*real)(void *, const char *);
            for (int i = 0; !real && i < 3; i++) real = dlvsym(RTLD_NEXT, "dlsym", versions[i]);
            return strcmp(name, "clock_gettime") == 0 ? (void *)clock_gettime : real(from, name);
        }
        """;

    [NeedsFact("gcc")]
    public void A_wall_clock_that_jumps_an_hour_either_way_costs_no_request()
    {
        using Upstream upstream = Upstream.Answering(static r => r.Target.StartsWith("/stored")
            ? Upstream.Ok("ok", "Cache-Control: max-age=60") : Upstream.Ok("ok"));
        using var files = new TempDir();
        files.Write("clock.c", Clock);
        string offset = files.Write("offset", new byte[8]), library = files.At("clock.so");
        using (var gcc = new ChildProcess(Tools.Require("gcc"),
            ["-shared", "-fPIC", "-O1", "-o", library, files.At("clock.c"), "-ldl"]))
        {
            Assert.True(gcc.WaitForExit(30_000) && gcc.ExitCode == 0, gcc.Errors);
        }
        string script = files.Write("weir", $"""
            #!/bin/sh
            CLOCK_OFFSET={offset} LD_PRELOAD={library} exec {ServerProcess.WeirBinary} "$@"
            """);
        File.SetUnixFileMode(script, (UnixFileMode)0b111_101_101);
        using var weir = ServerProcess.Start(script, Conf.Http("""
            proxy_cache_path %DIR%/cache keys_zone=one:1m use_temp_path=off;
            limit_req_zone $server_name zone=rate:64k rate=1000000r/s;
            upstream g { zone z 128k; server 127.0.0.1:%UPSTREAM% max_fails=1 fail_timeout=10s; keepalive 8; }
            server { listen 127.0.0.1:%PORT%; limit_req zone=rate burst=100; access_log %DIR%/access.log;
                location / { proxy_pass http://g; health_check interval=1s; proxy_read_timeout 30s; }
                location /stored { proxy_pass http://g; proxy_cache one; proxy_cache_lock on; } }
            """, workers: 2, master: true, main: "env LD_PRELOAD; env CLOCK_OFFSET;"), files, upstream.Port);
        long shift = 0;
        int told = 0;
        using var load = new Load(weir.Port, 4, r =>
        {
            var date = DateTimeOffset.Parse(r["Date"]!, CultureInfo.InvariantCulture);
            told += Math.Abs((date - DateTimeOffset.UtcNow).TotalSeconds - Volatile.Read(ref shift)) < 600 ? 1 : 0;
            return r is { Status: 200, Text: "ok" };
        }, requestsPerConnection: 50, path: static n => n % 2 == 0 ? "/" : $"/stored{n % 7}");
        load.WaitFor(100);
        foreach (long hours in (long[])[1, 0, -1, 0])
        {
            Volatile.Write(ref shift, hours * 3600);
            using (FileStream file = File.OpenWrite(offset))
            {
                file.Write(BitConverter.GetBytes(hours * 3600));
            }
            Volatile.Write(ref told, 0);
            Wait.For("answers by the new clock", () => Volatile.Read(ref told) > 0);
            load.WaitFor(200);
        }
        load.Stop();
        Assert.Empty(load.Failures);
    }

    /// <summary>Weir where `disk` in these files is a disk of 600 KiB of its own.</summary>
    private static string OnSmallDisk(TempDir files)
    {
        files.Write("disk/", "");
        string script = files.Write("weir", $"""
            #!/bin/sh
            exec unshare -m sh -c 'mount -t tmpfs -o size=600k tmpfs {files.At("disk")} && exec "$0" "$@"' \
                {ServerProcess.WeirBinary} "$@"
            """);
        File.SetUnixFileMode(script, (UnixFileMode)0b111_101_101);
        return script;
    }

    /// <summary>The cache lies on a disk of 600 KiB, which is full at once and stays so.</summary>
    [NeedsFact("unshare", "root")]
    public void A_full_disk_costs_stored_responses_and_never_an_answer_under_load()
    {
        string body = new('b', 100_000);
        using Upstream upstream = Upstream.Answering(_ => Upstream.Ok(body, "Cache-Control: max-age=1000"));
        using var files = new TempDir();
        string script = OnSmallDisk(files);
        using var weir = ServerProcess.Start(script, Conf.Http("""
            proxy_cache_path %FILES%/disk/cache keys_zone=one:1m use_temp_path=off;
            server { listen 127.0.0.1:%PORT%; location / { proxy_pass http://127.0.0.1:%UPSTREAM%;
                proxy_cache one; add_header X-Cache $upstream_cache_status; } }
            """, workers: 2, master: true), files, upstream.Port);
        long hits = 0;
        using var load = new Load(weir.Port, 4, r => r.Status == 200 && r.Text == body
            && (r["X-Cache"] == "HIT" ? Interlocked.Increment(ref hits) : 1) > 0,
            path: static n => $"/{n % 30}");
        load.WaitFor(200);
        Wait.For("a full disk", () => weir.ErrorLog.Contains("(28: No space left", StringComparison.Ordinal));
        load.WaitFor(200);
        load.Stop();
        Assert.Empty(load.Failures);
        // What found room is served from it still.
        Assert.True(hits > 0);
    }

    /// <summary>A client that reads slowly makes the answer wait in a temporary file, for which there is no room: it
    /// waits with the server instead, and nothing of it is missing.</summary>
    [NeedsFact("unshare", "root")]
    public void A_disk_without_room_for_temporary_files_cuts_no_answer_short()
    {
        string body = new('b', 8_000_000);
        using Upstream upstream = Upstream.Answering(Upstream.Ok(body));
        using var files = new TempDir();
        string script = OnSmallDisk(files);
        Conf conf = Conf.Server("location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }");
        using var weir = ServerProcess.Start(script, conf with
        {
            Text = conf.Text.Replace("%TEMP_PATHS%", "proxy_temp_path %FILES%/disk/temp;", StringComparison.Ordinal),
        }, files, upstream.Port);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", []));
        Wait.For("the full disk", () => weir.ErrorLog.Contains("(28: No space left", StringComparison.Ordinal));
        HttpResponse answer = client.ReadResponse();
        Assert.True(answer.IsComplete && answer.Text == body, $"{answer.Text.Length} bytes");
    }

    /// <summary>A body that does not fit into memory has to be whole before the server is asked, as in nginx: where
    /// there is no room for it the request fails alone, before the server has seen any of it.</summary>
    [NeedsTheory("unshare", "root")]
    [InlineData("", 500, "")]
    [InlineData("proxy_request_buffering off; proxy_http_version 1.1;", 200, "POST")]
    public void A_disk_without_room_for_a_request_body_costs_that_request_where_it_is_buffered(string settings,
        int status, string seen)
    {
        using Upstream upstream = Upstream.Answering(static r => Upstream.Ok(r.Target == "/" ? "POST" : ""));
        using var files = new TempDir();
        string script = OnSmallDisk(files);
        Conf conf = Conf.Server("client_max_body_size 10m; location / { proxy_pass http://127.0.0.1:%UPSTREAM%; "
            + settings + " }");
        using var weir = ServerProcess.Start(script, conf with
        {
            Text = conf.Text.Replace("%TEMP_PATHS%", "client_body_temp_path %FILES%/disk/temp;",
                StringComparison.Ordinal),
        }, files, upstream.Port);
        using (RawClient client = weir.Connect())
        {
            client.TrySend(System.Text.Encoding.ASCII.GetBytes(
                RawClient.Request("POST", "/", [], new string('b', 3_000_000))));
            HttpResponse answer = client.ReadResponse();
            Assert.Equal(status, answer.Status);
            Assert.True(seen.Length == 0 || answer.Text == seen);
        }
        Assert.Equal(seen.Length > 0, upstream.Requests.Any(static r => r.AsSpan().StartsWith("POST"u8)));
        Assert.Equal(status == 500,
            weir.ErrorLog.Contains("(28: No space left", StringComparison.Ordinal));
        // Room is given back with the request.
        using RawClient next = weir.Connect();
        next.Send(RawClient.Request("POST", "/", [], new string('s', 100_000)));
        Assert.Equal((200, "POST"), (next.ReadResponse() is var r ? (r.Status, r.Text) : default));
    }
}
