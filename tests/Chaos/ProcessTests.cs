// The processes of the published binary: nginx's signals, titles and files, killed workers, reloads and an upgrade
// under load, a daemon, process 1 of a container.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed class ProcessTests
{
    [Fact(DisplayName = "titles: ps shows nginx's words, and one word more while a worker shuts down")]
    public void Titles()
    {
        using ServerProcess server = ServerProcess.Weir(Answers("one"));
        Assert.StartsWith($"weir: master process {server.Binary} -p {server.Dir.Path}/ -c ",
            ChildProcess.Title(server.Process.Pid));
        // A worker that has just been started is the master's copy still.
        Wait.For("the workers' titles", () => server.Workers() is { Length: 2 } workers
            && workers.All(static pid => ChildProcess.Title(pid) == "weir: worker process"));
        Assert.Equal("weir", File.ReadAllText($"/proc/{server.Process.Pid}/comm").Trim());
        // A request that has begun holds its worker.
        using RawClient slow = server.Connect();
        Assert.Equal("one", slow.Get("/").Text);
        slow.Send("GET / HTTP/1.1\r\nHost: ");
        server.Send(Signal.Quit);
        Wait.For("a worker to say that it shuts down", () => server.Process.HasExited
            || server.Workers().Any(pid => ChildProcess.Title(pid) == "weir: worker process is shutting down"));
        slow.Send("x\r\n\r\n");
        Assert.Equal("one", slow.ReadResponse().Text);
        Assert.True(server.Process.WaitForExit(5000), server.Describe());
        Assert.Equal(0, server.Process.ExitCode);
        Assert.False(File.Exists(server.Dir.At("server.pid")));
    }

    [Theory(DisplayName = "kill -9: only the worker's own connections fail, and a new worker serves at once")]
    [InlineData("")]
    [InlineData(" reuseport")]
    public void KilledWorker(string option)
    {
        using ServerProcess server = ServerProcess.Weir(Answers("one", option));
        const int clients = 8;
        using var load = new Load(server.Port, clients, static r => r.Text == "one");
        load.WaitFor(500);
        int[] before = server.Workers();
        ChildProcess.Send(before[0], Signal.Kill);
        Wait.For("a new worker", () => server.Workers() is { Length: 2 } now && !now.Contains(before[0]));
        load.WaitFor(2000);
        load.Stop();
        // Each client may lose the one connection it had, and is answered on the next.
        Assert.InRange(load.Failures.Count, 0, clients);
        Assert.Equal(0, load.Lost);
        Wait.For("the log",
            () => server.ErrorLog.Contains($"worker process {before[0]} exited on signal 9", StringComparison.Ordinal));
        Assert.Equal("one", server.Get("/").Text);
    }

    [Fact(DisplayName = "HUP under load: every answer is whole, old or new, and no connection is lost")]
    public void ReloadUnderLoad()
    {
        using ServerProcess server = ServerProcess.Weir(Answers("round 0"));
        using var load = new Load(server.Port, 8, static r => r.Status == 200 && r.Text.StartsWith("round "));
        load.WaitFor(200);
        int[] before = server.Workers();
        for (int round = 1; round <= 20; round++)
        {
            string text = "round " + round.ToString(CultureInfo.InvariantCulture);
            server.Rewrite(Answers(text));
            server.Send(Signal.Hup);
            string told = "reconfigured, generation " + (round + 1).ToString(CultureInfo.InvariantCulture);
            Wait.For(told, () => server.ErrorLog.Contains(told));
            // Workers switch on the commit that was sent before the line was written; a request after it may still
            // be in the loop's hands, so the first new answer is waited for and all later ones must be new.
            Wait.For(text, () => server.Get("/").Text == text);
            load.WaitFor(50);
        }
        load.Stop();
        Assert.Empty(load.Failures);
        Assert.Equal(8, load.Connections);
        Assert.Equal(before, server.Workers());
    }

    [Fact(DisplayName = "HUP: a broken file is reported and changes nothing")]
    public void BrokenReload()
    {
        using ServerProcess server = ServerProcess.Weir(Answers("one"));
        server.Rewrite(Conf.Full("events { }\nhttp { no_such_directive; }\n"));
        server.Send(Signal.Hup);
        Wait.For("the error", () => server.ErrorLog.Contains("unknown directive \"no_such_directive\" in "));
        Wait.For("the log", () => server.ErrorLog.Contains("[emerg]", StringComparison.Ordinal));
        Assert.Equal("one", server.Get("/").Text);
    }

    [Fact(DisplayName = "HUP: what a living worker cannot change starts new workers without losing a request")]
    public void ClassicReload()
    {
        using ServerProcess server = ServerProcess.Weir(Answers("one"));
        using var load = new Load(server.Port, 8, static r => r.Text is "one" or "two");
        load.WaitFor(200);
        int[] before = server.Workers();
        server.Rewrite(Answers("two", main: "worker_rlimit_nofile 4096;"));
        server.Send(Signal.Hup);
        Wait.For(
            "new workers alone", () => server.Workers() is { Length: 2 } now && !now.Intersect(before).Any(), 10_000);
        load.WaitFor(200);
        load.Stop();
        Assert.Empty(load.Failures);
        Assert.Equal("two", server.Get("/").Text);
    }

    [Fact(DisplayName = "HUP: connections that rest towards upstream servers are not taken for clients'")]
    public void ReloadBesideUpstreamConnections()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("far"));
        Conf Of(string text) => Answers(text, http: $$"""
            access_log off;
            upstream up { server 127.0.0.1:{{upstream.Port}}; keepalive 4; }
            server { listen 127.0.0.1:%PORT2%; location / { proxy_pass http://up; proxy_http_version 1.1;
                proxy_set_header Connection ""; } }
            """, workers: 1);
        using ServerProcess server = ServerProcess.Weir(Of("one"));
        static string Far(ServerProcess server)
        {
            using RawClient client = server.Connect(2);
            return client.Get("/").Text;
        }

        Wait.For("the worker", () => server.Workers().Length == 1);
        int worker = Assert.Single(server.Workers());
        // Connections that were clients' serve as the upstream's next.
        RawClient[] clients = [.. Enumerable.Range(0, 6).Select(_ => server.Connect())];
        foreach (RawClient client in clients)
        {
            Assert.Equal("one", client.Get("/").Text);
            client.Dispose();
        }
        Assert.Equal("far", Far(server));
        server.Rewrite(Of("two"));
        server.Send(Signal.Hup);
        Wait.For("the reload", () => server.Get("/").Text == "two");
        Assert.Equal("far", Far(server));
        Assert.Equal(worker, Assert.Single(server.Workers()));
    }

    [Theory(DisplayName = "HUP: workers that go leave no client behind who comes with every request anew")]
    [InlineData(1)]
    [InlineData(2)]
    public void ClassicReloadUnderShortConnections(int workers)
    {
        using ServerProcess server = ServerProcess.Weir(Answers("one", workers: workers));
        using var load = new Load(server.Port, 8, static r => r.Text == "one", requestsPerConnection: 1);
        load.WaitFor(200);
        for (int i = 1; i <= 8; i++)
        {
            int[] before = server.Workers();
            server.Rewrite(Answers("one", main: $"worker_rlimit_nofile {4096 + i};", workers: workers));
            server.Send(Signal.Hup);
            Wait.For("new workers alone",
                () => server.Workers() is { } now && now.Length == workers && !now.Intersect(before).Any());
        }
        load.WaitFor(200);
        load.Stop();
        Assert.Empty(load.Failures);
    }

    [Fact(DisplayName = "USR1: a log that was moved away is written anew")]
    public void ReopenedLogs()
    {
        using ServerProcess server = ServerProcess.Weir(Answers("one", http: "access_log %DIR%/access.log;"));
        server.Get("/");
        Wait.For("a line", () => server.AccessLog.Length > 0);
        File.Move(server.Dir.At("access.log"), server.Dir.At("access.log.1"));
        server.Send(Signal.Usr1);
        Wait.For("the file to come back", () => File.Exists(server.Dir.At("access.log")));
        Wait.For("a line in it", () =>
        {
            server.Get("/after");
            return server.AccessLog.Contains("/after");
        });
    }

    [Fact(DisplayName = "USR2 and QUIT under load: the new binary takes over without a failed request")]
    public void UpgradeUnderLoad()
    {
        using ServerProcess server = ServerProcess.Weir(Answers("one"));
        using var load = new Load(server.Port, 4, static r => r.Text is "one" or "two", requestsPerConnection: 20);
        load.WaitFor(200);
        server.Rewrite(Answers("two"));
        string pidPath = server.Dir.At("server.pid");
        server.Send(Signal.Usr2);
        Wait.For("the new master's pid file", () => File.Exists(pidPath + ".oldbin") && File.Exists(pidPath)
            && File.ReadAllText(pidPath).EndsWith('\n'), 10_000);
        int next = int.Parse(File.ReadAllText(pidPath), CultureInfo.InvariantCulture);
        Assert.Equal(
            server.Process.Pid, int.Parse(File.ReadAllText(pidPath + ".oldbin"), CultureInfo.InvariantCulture));
        try
        {
            Wait.For("an answer of the new binary", () => server.Get("/").Text == "two", 10_000);
            server.Send(Signal.Quit);
            Assert.True(server.Process.WaitForExit(10_000), server.Describe());
            load.WaitFor(200);
            load.Stop();
            Assert.Empty(load.Failures);
            Assert.Equal("two", server.Get("/").Text);
            Assert.False(File.Exists(pidPath + ".oldbin"));
            Assert.StartsWith("weir: master process ", ChildProcess.Title(next));
        }
        finally
        {
            ChildProcess.Send(next, Signal.Term);
            Wait.Until(() => !File.Exists(pidPath));
        }
    }

    [Fact(DisplayName = "USR2: a new binary that cannot start gives the pid file back")]
    public void UpgradeRollback()
    {
        using ServerProcess server = ServerProcess.Weir(Answers("one"));
        server.Rewrite(Conf.Full("broken"));
        server.Send(Signal.Usr2);
        Wait.For("the new binary's end", () => server.ErrorLog.Contains("exited with code 1"));
        Wait.For("the pid file", () => File.Exists(server.Dir.At("server.pid")));
        Assert.False(File.Exists(server.Dir.At("server.pid.oldbin")));
        Assert.Equal("one", server.Get("/").Text);
    }

    [Fact(DisplayName = "daemon: the start returns when it serves; -s reload, reopen and quit reach it")]
    public void DaemonAndSignals()
    {
        using ServerProcess server = ServerProcess.Weir(Answers("one", daemon: true), waitReady: false);
        Assert.True(server.Process.WaitForExit(10_000), server.Describe());
        Assert.Equal(0, server.Process.ExitCode);
        string pidPath = server.Dir.At("server.pid");
        int master = int.Parse(File.ReadAllText(pidPath), CultureInfo.InvariantCulture);
        try
        {
            Assert.Equal("one", server.Get("/").Text);
            server.Rewrite(Answers("two", daemon: true));
            Assert.Equal(0, Signalled(server, "reload").ExitCode);
            Wait.For("the new answer", () => server.Get("/").Text == "two");
            Assert.Equal(0, Signalled(server, "reopen").ExitCode);
            Wait.For("the reopening", () => server.ErrorLog.Contains("reopening logs"));
            ChildProcess.Send(master, Signal.Winch);
            Wait.For("the workers to go", () => ChildProcess.ChildrenOf(master).Length == 0, 10_000);
            ChildProcess.Send(master, Signal.Hup);
            Wait.For("the workers to come back", () => ChildProcess.ChildrenOf(master).Length == 2);
            Assert.Equal(0, Signalled(server, "quit").ExitCode);
            Wait.For("the end", () => !File.Exists(pidPath));
            (int code, string _, string errors) = Signalled(server, "stop");
            Assert.Equal(1, code);
            Assert.Contains($"open() \"{pidPath}\" failed (2: No such file or directory)", errors);
        }
        finally
        {
            if (File.Exists(pidPath))
            {
                ChildProcess.Send(master, Signal.Kill);
            }
        }
    }

    [Fact(DisplayName = "start: what fails is said on standard error with exit code 1, daemon or not")]
    public void FailingStart()
    {
        using ServerProcess first = ServerProcess.Weir(Answers("one"));
        foreach (string daemon in (string[])["daemon off;", "daemon on;"])
        {
            string conf = first.Dir.Write("second.conf", first.ConfText
                .Replace("daemon off;", daemon).Replace("server.pid", "second.pid"));
            (int code, string _, string errors) = ChildProcess.Run(
                first.Binary, "-p", first.Dir.Path + "/", "-c", conf);
            Assert.Equal(1, code);
            Assert.Contains($"bind() to 127.0.0.1:{first.Port} failed (98: Address already in use)", errors);
            Assert.False(File.Exists(first.Dir.At("second.pid")));
        }
    }

    [NeedsFact("unshare", "nsenter", DisplayName =
        "process 1: serves in a container, logs to standard output, collects orphans, ends on QUIT")]
    public void ProcessOneOfAContainer()
    {
        using var server = new TempDir();
        using Port port = Port.Lease();
        string conf = server.Write("nginx.conf", $$"""
            daemon off;
            worker_processes 2;
            user root;
            pid {{server.At("server.pid")}};
            error_log stderr notice;
            events { }
            http {
                access_log /dev/stdout;
                server { listen 127.0.0.1:{{port.Number}}; return 200 one; }
            }
            """);
        using var process = new ChildProcess(
            Tools.Require("unshare"),
            [
                "--pid", "--fork", "--mount-proc", "--kill-child",
                ServerProcess.WeirBinary, "-p", server.Path + "/", "-c", conf,
            ]);
        Wait.For("an answer", () =>
        {
            try
            {
                using RawClient client = RawClient.Connect(port.Number);
                return client.Get("/").Text == "one";
            }
            catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
            {
                return false;
            }
        }, 10_000);
        Assert.Equal("1", server.Read("server.pid").Trim());
        Wait.For("a line on standard output", () => process.Output.Contains("GET / HTTP/1.1"));
        int init = process.Children().Single();
        // An orphan is process 1's to collect: a shell leaves one behind.
        int[] before = ChildProcess.ChildrenOf(init);
        ChildProcess.Run(
            "nsenter", "-t", init.ToString(CultureInfo.InvariantCulture), "-p", "sh", "-c", "(sleep 0.05 &) ; exit 0");
        Wait.For("the orphan to be collected", () => ChildProcess.ChildrenOf(init).SequenceEqual(before));
        ChildProcess.Send(init, Signal.Quit);
        Assert.True(process.WaitForExit(10_000));
        Assert.Equal(0, process.ExitCode);
        Assert.Contains("signal 3 (SIGQUIT) received", process.Errors);
    }

    private static (int ExitCode, string Output, string Errors) Signalled(ServerProcess server, string word) =>
        ChildProcess.Run(server.Binary, "-p", server.Dir.Path + "/", "-c", server.ConfPath, "-s", word);

    private static Conf Answers(
        string text, string option = "", string http = "", string main = "", bool daemon = false,
        int workers = 2)
    {
        // Nothing but what the processes need: these tests hold whatever modules there are.
        Conf conf = Conf.Full($$"""
            daemon off;
            worker_processes {{workers}};
            user root;
            pid %DIR%/server.pid;
            error_log %DIR%/error.log info;
            {{main}}
            events { }
            http {
                {{(http.Length > 0 ? http : "access_log off;")}}
                keepalive_requests 1000000;
                server {
                    listen 127.0.0.1:%PORT%{{option}};
                    return 200 "{{text}}";
                }
            }

            """);
        return daemon ? conf with { Text = conf.Text.Replace("daemon off;", "daemon on;") } : conf;
    }
}
