// What the main context says about processes, read back from the kernel: where they run, as what, and with which
// environment; how long a worker that shuts down may take.
using System.Globalization;
using System.Net.Sockets;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

[Trait("Needs", "master")]
public sealed class ProcessSettingsTests
{
    private static string Proc(int pid, string file) => File.ReadAllText($"/proc/{pid}/{file}");

    [Theory]
    [InlineData("1 1", "0", 3, 777, "", "value")]
    [InlineData("10 10", "1", 5, 888, "/in", "other")]
    public void Workers_run_where_and_as_the_configuration_says(string mask, string processor, int priority,
        int descriptors, string directory, string variable)
    {
        mask = Environment.ProcessorCount > 1 ? mask : "1 1";
        processor = Environment.ProcessorCount > 1 ? processor : "0";
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 a; }", "", 2, true, $$"""
            worker_cpu_affinity {{mask}};
            worker_priority {{priority}};
            worker_rlimit_nofile {{descriptors}};
            working_directory %FILES%{{directory}};
            env WEIR_TEST_SET={{variable}};
            env PATH;
            load_module modules/ngx_http_geoip_module.so;
            """), Made("in/x"));
        Assert.Equal("a", weir.Get("/").Text);
        // Both have become what they should be once the last of it, the directory, is set.
        Wait.For("two workers", () => weir.Workers() is { Length: 2 } started && started.All(w =>
            Directory.ResolveLinkTarget($"/proc/{w}/cwd", false)!.FullName == weir.Files.Path + directory), 30_000);
        int[] workers = weir.Workers();
        foreach (int worker in workers)
        {
            Assert.Contains($"Cpus_allowed_list:\t{processor}\n", Proc(worker, "status"));
            string[] limits = Proc(worker, "limits").Split('\n');
            Assert.Contains($" {descriptors} ", limits.First(static l => l.StartsWith("Max open files")));
            // Behind the name in parentheses: the state is field 3, the nice value 19.
            string[] fields = Proc(worker, "stat").Split(") ")[1].Split(' ');
            Assert.Equal($"{priority}", fields[19 - 3]);
            string[] environment = Proc(worker, "environ").TrimEnd('\0').Split('\0');
            Assert.Contains("WEIR_TEST_SET=" + variable, environment);
            Assert.Contains("PATH=" + Environment.GetEnvironmentVariable("PATH"), environment);
            Assert.DoesNotContain(environment, static e => e.StartsWith("HOME=", StringComparison.Ordinal));
        }
        weir.Files.Dispose();
    }

    private static TempDir Made(string file)
    {
        var files = new TempDir();
        files.Write(file, "");
        return files;
    }

    [Fact]
    public void Workers_that_choose_their_processors_themselves_stay_within_the_mask()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 a; }", "", 2, true,
            "worker_cpu_affinity auto 1;"));
        Assert.Equal("a", weir.Get("/").Text);
        Wait.For("two workers on the first processor", () => weir.Workers() is { Length: 2 } started
            && started.All(static w => Proc(w, "status").Contains("Cpus_allowed_list:\t0\n")));
    }

    /// <summary>Passwords are hashed on blocking threads; there are never more than the pool may have.</summary>
    [Theory]
    [InlineData("default threads=1", 1)]
    [InlineData("default threads=3", 3)]
    public void What_may_block_has_as_many_threads_as_its_pool(string pool, int threads)
    {
        using var files = new TempDir();
        // Two hundred thousand rounds of SHA-512.
        files.Write("pw", "user:$6$rounds=200000$salt$" + new string('x', 86) + "\n");
        using var weir = ServerProcess.Weir(Conf.Server(
            "auth_basic x; auth_basic_user_file %FILES%/pw; location / { root %FILES%; }",
            main: $"thread_pool {pool};"), files);
        RawClient[] clients = [.. Enumerable.Range(0, 6).Select(_ => weir.Connect())];
        foreach (RawClient client in clients)
        {
            client.Send(RawClient.Request("GET", "/", ["Authorization: Basic dXNlcjpwYXNz"]));
        }
        Assert.All(clients, static c => Assert.Equal(401, c.ReadResponse(timeoutMs: 30_000).Status));
        Array.ForEach(clients, static c => c.Dispose());
        Assert.Equal(threads, Names(weir.Process.Pid).Count(static n => n == "weir-blocking"));
    }

    [Theory]
    [InlineData("epoll", "eventpoll", "io_uring")]
    [InlineData("io_uring", "io_uring", "eventpoll")]
    public void The_engine_is_the_one_that_is_used(string engine, string has, string hasNot)
    {
        if (engine == "io_uring" && Conf.Engine != engine)
        {
            // Whether the machine has it is for ./test to say, which then runs all of this on it.
            return;
        }
        using var weir = ServerProcess.Weir(Conf.Full($$"""
            daemon off; master_process off; pid %DIR%/p; error_log %DIR%/error.log;
            events { use {{engine}}; }
            http { %TEMP_PATHS% server { listen 127.0.0.1:%PORT%; return 200 a; } }
            """));
        Assert.Equal("a", weir.Get("/").Text);
        string[] open = [.. Directory.GetFiles($"/proc/{weir.Process.Pid}/fd").Select(static f =>
            new FileInfo(f).LinkTarget ?? "")];
        Assert.Contains($"anon_inode:[{has}]", open);
        Assert.DoesNotContain($"anon_inode:[{hasNot}]", open);
    }

    private static IEnumerable<string> Names(int pid) => Directory.GetDirectories($"/proc/{pid}/task")
        .Select(static t => File.ReadAllText(t + "/comm").Trim());

    [Fact]
    public void The_main_context_is_seen_in_the_processes()
    {
        foreach ((int workers, string user, long core, string pid) in new[]
        {
            (1, "nobody", 4096L, "one.pid"), (3, "root", 8192L, "two.pid"),
        })
        {
            using var weir = ServerProcess.Weir(Conf.Full($$"""
                daemon off; master_process on; worker_processes {{workers}}; user {{user}}; pid %DIR%/{{pid}};
                worker_rlimit_core {{core}}; error_log %DIR%/error.log;
                events { } http { server { listen 127.0.0.1:%PORT%; location / { return 200 a; } } }
                """));
            Assert.Equal("a", weir.Get("/").Text);
            Wait.For("the workers", () => weir.Workers().Length == workers, 30_000);
            Wait.For("the pid", () => weir.Dir.Read(pid).Trim() == $"{weir.Process.Pid}", 30_000);
            foreach (int worker in weir.Workers())
            {
                Wait.For("the limit", () => Proc(worker, "limits").Split('\n').Any(l =>
                    l.StartsWith("Max core file size", StringComparison.Ordinal) && l.Contains($" {core} ")), 30_000);
                if (Environment.IsPrivilegedProcess)
                {
                    Wait.For("the user", () => Proc(worker, "status").Contains("\nUid:\t0\t") == (user == "root"),
                        30_000);
                }
            }
        }
    }

    [NeedsFact("ss")]
    public void The_kernel_shows_the_backlog_and_the_buffers_that_were_asked_for()
    {
        using var weir = ServerProcess.Weir(Conf.Http("""
            server { listen 127.0.0.1:%PORT% backlog=37 rcvbuf=64k sndbuf=96k; location / { return 200 a; } }
            """));
        Assert.Equal("a", weir.Get("/").Text);
        string port = weir.Port.ToString(CultureInfo.InvariantCulture);
        string told = ChildProcess.Run(Tools.Require("ss"), "-Hltnm", "sport", "=", ":" + port).Output;
        // State, connections that wait, how many may; the kernel doubles the sizes of buffers.
        string[] fields = told.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(["LISTEN", "0", "37"], fields[..3]);
        Assert.Contains("rb131072,", told);
        Assert.Contains("tb196608,", told);
    }

    [Fact]
    public void A_worker_that_shuts_down_leaves_when_its_time_is_over()
    {
        using var asked = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            asked.Set();
            c.Hold();
        });
        using var weir = ServerProcess.Weir(Conf.Server("location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            master: true, main: "worker_shutdown_timeout 300ms;"), upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", []));
        Assert.True(asked.Wait(30_000));
        weir.Send(Signal.Quit);
        Assert.True(weir.Process.WaitForExit(30_000));
        Assert.Equal(0, weir.Process.ExitCode);
    }

    [Fact]
    public void A_listening_socket_has_the_options_that_it_was_given()
    {
        using var weir = ServerProcess.Weir(Conf.Http("""
            server {
                listen 127.0.0.1:%PORT% backlog=37 rcvbuf=64k sndbuf=96k so_keepalive=7m:8s:9;
                location / { return 200 a; }
            }
            server { listen 127.0.0.1:%PORT2% deferred reuseport; location / { return 200 b; } }
            server { listen [::1]:%PORT3% ipv6only=on; location / { return 200 c; } }
            """));
        Assert.Equal("a", weir.Get("/").Text);
        using (RawClient deferred = weir.Connect(2))
        {
            Assert.Equal("b", deferred.Get("/").Text);
        }
        // The kernel's table of listening sockets: local address, and behind it queues; the backlog is not told there.
        string hex = weir.Port.ToString("X4", CultureInfo.InvariantCulture);
        Assert.Contains($"0100007F:{hex} 00000000:0000 0A", File.ReadAllText("/proc/net/tcp"));
        string hex6 = weir.PortOf(3).ToString("X4", CultureInfo.InvariantCulture);
        Assert.Contains($":{hex6} ", File.ReadAllText("/proc/net/tcp6"));
        using RawClient client = weir.Connect();
        Assert.Equal("a", client.Get("/").Text);
        // Keep-alive of the accepted socket shows as a timer of kind 2.
        int local = ((System.Net.IPEndPoint)client.Socket.LocalEndPoint!).Port;
        string pair = $"0100007F:{hex} 0100007F:{local.ToString("X4", CultureInfo.InvariantCulture)} 01";
        Assert.Contains(File.ReadLines("/proc/net/tcp"), line => line.Contains(pair) && line.Contains(" 02:"));
    }

    [Fact]
    public void TLS_settings_are_kept_while_no_listener_wants_them_and_checked_all_the_same()
    {
        using (var weir = ServerProcess.Weir(Conf.Server("""
            ssl_protocols TLSv1.2 TLSv1.3;
            ssl_ciphers HIGH:!aNULL;
            ssl_session_cache shared:SSL:10m;
            location / { return 200 plain; }
            """)))
        {
            Assert.Equal("plain", weir.Get("/").Text);
        }
        using var wrong = ServerProcess.Weir(Conf.Server("ssl_protocols TLSv9; location / { return 200; }"),
            waitReady: false);
        Assert.True(wrong.Process.WaitForExit(30_000));
        Assert.Equal(1, wrong.Process.ExitCode);
        // As nginx: a certificate is read although nobody listens with TLS.
        using var missing = ServerProcess.Weir(Conf.Server("""
            ssl_certificate /nonexistent/cert.pem;
            ssl_certificate_key /nonexistent/key.pem;
            location / { return 200; }
            """), waitReady: false);
        Assert.True(missing.Process.WaitForExit(30_000));
        Assert.Equal(1, missing.Process.ExitCode);
    }

    [Fact]
    public void The_debug_log_tells_the_story_of_a_request()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location /told { return 200 a; }",
            main: "error_log %DIR%/debug.log debug;"));
        Assert.Equal("a", weir.Get("/told").Text);
        Wait.For("the story", () => weir.Dir.Read("debug.log").Contains("using configuration \"/told\""), 30_000);
        Assert.Contains("[debug]", weir.Dir.Read("debug.log"));
    }
}
