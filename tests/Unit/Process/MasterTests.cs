// The master with real processes: a fixture server of ten lines under it answers with who it is and what it runs.
// Each test has its own directory and its own ports, and waits for what it expects, never for a time.
using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using Weir.Kernel;
using Weir.Tests.Harness;
using Xunit;
using Signal = Weir.Kernel.Signal;

namespace Weir.Tests.Unit.Process;

public sealed class MasterTests
{
    [Fact(DisplayName = "master: two workers answer, ps shows nginx's titles, TERM ends all and removes the pid file")]
    public void StartAndTerm()
    {
        using var server = new Fixture(18430, "workers 2");
        Assert.Equal(2, server.Workers().Length);
        Assert.StartsWith("weir: master process ", ChildProcess.Title(server.Master));
        Assert.All(server.Workers(), pid => Assert.Equal("weir: worker process", ChildProcess.Title(pid)));
        Reply reply = server.Ask();
        Assert.Equal(("one", "1", "secret"), (reply["answer"], reply["generation"], reply["secret"]));
        server.Signal(Signal.Term);
        Assert.Equal(0, server.WaitForExit());
        Assert.False(File.Exists(server.PidPath));
        Assert.False(File.Exists(server.Directory + "/sock"));
        Assert.Contains("(SIGTERM) received from", server.ErrorLog());
    }

    [Fact(DisplayName = "reload: the same processes answer with the new configuration, and nothing is leaked")]
    public void LiveReload()
    {
        using var server = new Fixture(18432, "workers 2");
        int[] before = server.Workers();
        int fds = 0;
        for (int round = 2; round <= 20; round++)
        {
            server.Configure($"workers 2\nanswer a{round}");
            server.Signal(Signal.Hup);
            Reply reply = server.AskUntil(r => r["answer"] == "a" + round);
            Assert.Equal(round.ToString(CultureInfo.InvariantCulture), reply["generation"]);
            Assert.Equal("1", reply["living"]);
            int now = int.Parse(reply["fds"], CultureInfo.InvariantCulture);
            fds = fds == 0 ? now : fds;
            Assert.InRange(now, 0, fds + 1);
        }
        Assert.Equal(before, server.Workers());
        Assert.True(int.Parse(server.Ask()["hits"], CultureInfo.InvariantCulture) >= 20);
    }

    [Fact(DisplayName = "reload: a broken file, a refusing worker and a taken port each leave the old one running")]
    public void RefusedReload()
    {
        using var server = new Fixture(18434, "workers 2");
        server.Configure("broken");
        server.Signal(Signal.Hup);
        server.WaitForLog("the configuration is broken");
        server.Configure("workers 2\nanswer refused-by-worker");
        server.Signal(Signal.Hup);
        server.WaitForLog("is not applied: worker process");
        Assert.Contains("I cannot build this", server.ErrorLog());
        Assert.Equal("one", server.Ask()["answer"]);
        using var taken = new TcpListener(System.Net.IPAddress.Loopback, 18436);
        taken.Start();
        server.Configure("workers 2\nanswer never\nlisten 127.0.0.1:18436");
        server.Signal(Signal.Hup);
        server.WaitForLog("still could not bind()");
        Assert.Contains("[emerg]", server.ErrorLog());
        Assert.Contains("bind() to 127.0.0.1:18436 failed (98: Address already in use)", server.ErrorLog());
        Assert.Equal("one", server.Ask()["answer"]);
        taken.Stop();
        server.Signal(Signal.Hup);
        server.AskUntil(r => r["answer"] == "never");
        Assert.Equal("never", Fixture.AskPort(18436)["answer"]);
    }

    [Fact(DisplayName = "reload: what a living process cannot change starts new workers and quits the old")]
    public void ClassicReload()
    {
        using var server = new Fixture(18438, "workers 2");
        int[] before = server.Workers();
        server.Configure("workers 2\nanswer two\nclassic x\nenv new");
        server.Signal(Signal.Hup);
        Reply reply = server.AskUntil(r => r["answer"] == "two" && server.Workers().Length == 2);
        Assert.Equal("new", reply["env"]);
        Assert.Empty(before.Intersect(server.Workers()));
        int[] second = server.Workers();
        server.Configure("workers 2\nanswer exit-at-start\nclassic y");
        server.Signal(Signal.Hup);
        server.WaitForLog("ended while starting");
        Assert.Equal("two", server.Ask()["answer"]);
        server.WaitUntil(() => server.Workers().SequenceEqual(second));
    }

    [Fact(DisplayName = "reload: more workers are started beside the living, fewer take the classic road")]
    public void WorkerCount()
    {
        using var server = new Fixture(18440, "workers 1", " reuseport");
        int first = server.Workers()[0];
        server.Configure("workers 3\nanswer two");
        server.Signal(Signal.Hup);
        server.WaitUntil(() => server.Workers().Length == 3);
        Assert.Contains(first, server.Workers());
        server.Configure("workers 1\nanswer three");
        server.Signal(Signal.Hup);
        server.WaitUntil(() => server.Workers().Length == 1 && !server.Workers().Contains(first));
        // The only worker drains the sockets of the two that are gone: every connection is answered.
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal("three", server.Ask()["answer"]);
        }
        Assert.Equal("7", server.Ask()["listeners"]);
    }

    [Fact(DisplayName = "kill -9: the worker is replaced from the running snapshot and its counters stay right")]
    public void Respawn()
    {
        using var server = new Fixture(18442, "workers 2");
        for (int i = 0; i < 10; i++)
        {
            server.Ask();
        }
        server.Configure("workers 2\nanswer edited-but-not-reloaded");
        int[] before = server.Workers();
        ProcessControl.Kill(before[0], Weir.Kernel.Signal.Kill);
        server.WaitUntil(() => server.Workers() is { Length: 2 } now && !now.Contains(before[0]));
        server.WaitForLog($"worker process {before[0]} exited on signal 9");
        Reply reply = server.Ask();
        Assert.Equal("one", reply["answer"]);
        Assert.Equal("1", reply["active"]);
        Assert.True(int.Parse(reply["accepted"], CultureInfo.InvariantCulture) >= 11);
    }

    [Fact(DisplayName = "start: a worker that exits with code 2 is not started again, one that dies is, with a delay")]
    public void DyingAtStart()
    {
        using (var server = new Fixture(18444, "workers 1\nanswer exit-at-start", wait: false))
        {
            server.WaitForLog("exited with fatal code 2 and cannot be respawned");
        }
        using var second = new Fixture(18446, "workers 1\nanswer die-at-start", wait: false);
        second.WaitUntil(() => second.ErrorLog().Split("exited with code 1").Length > 3);
        second.Configure("workers 1");
        second.Signal(Weir.Kernel.Signal.Hup);
        second.AskUntil(r => r["answer"] == "one");
    }

    [Fact(DisplayName = "USR1: logs moved away are written anew by master and workers")]
    public void ReopenLogs()
    {
        using var server = new Fixture(18448, "workers 2");
        server.Ask();
        string access = server.Directory + "/access.log", error = server.Directory + "/error.log";
        File.Move(access, access + ".1");
        File.Move(error, error + ".1");
        server.Signal(Weir.Kernel.Signal.Usr1);
        server.WaitUntil(() => File.Exists(access) && File.Exists(error));
        server.WaitUntil(() =>
        {
            server.Ask();
            return new FileInfo(access).Length > 0;
        });
        Assert.Contains("reopening logs", File.ReadAllText(error + ".1"));
    }

    [Fact(DisplayName = "USR2: the new binary serves on the same sockets, QUIT to the old leaves it alone in charge")]
    public void Upgrade()
    {
        using var server = new Fixture(18450, "workers 1");
        int oldMaster = server.Master;
        server.Configure("workers 1\nanswer new-binary");
        server.Signal(Weir.Kernel.Signal.Usr2);
        server.WaitUntil(() => File.Exists(server.PidPath) && File.Exists(server.PidPath + ".oldbin")
            && server.Master != oldMaster);
        server.AskUntil(r => r["answer"] == "new-binary");
        server.AskUntil(r => r["answer"] == "one");
        ProcessControl.Kill(oldMaster, Weir.Kernel.Signal.Quit);
        server.WaitForExit();
        server.WaitUntil(() => !File.Exists(server.PidPath + ".oldbin"));
        Assert.True(File.Exists(server.PidPath));
        Assert.True(File.Exists(server.Directory + "/sock"));
        for (int i = 0; i < 10; i++)
        {
            Assert.Equal("new-binary", server.Ask()["answer"]);
        }
        Assert.StartsWith("weir: master process ", ChildProcess.Title(server.Master));
    }

    [Fact(DisplayName = "USR2: a new binary that dies gives the pid file back, and the old one serves on")]
    public void UpgradeRollback()
    {
        using var server = new Fixture(18452, "workers 1");
        int oldMaster = server.Master;
        server.Configure("broken");
        server.Signal(Weir.Kernel.Signal.Usr2);
        server.WaitForLog("new binary process");
        server.WaitUntil(() => File.Exists(server.PidPath) && !File.Exists(server.PidPath + ".oldbin")
            && server.ErrorLog().Contains("exited with code 1"));
        Assert.Equal(oldMaster, server.Master);
        Assert.Equal("one", server.Ask()["answer"]);
    }

    [Fact(DisplayName = "daemon: the start returns once it serves, WINCH stops the workers and HUP brings them back")]
    public void Daemon()
    {
        using var server = new Fixture(18454, "workers 1\ndaemon on");
        Assert.Equal(0, server.WaitForExit());
        server.Ask();
        server.Signal(Weir.Kernel.Signal.Winch);
        server.WaitUntil(() => server.Workers().Length == 0);
        server.Signal(Weir.Kernel.Signal.Hup);
        server.WaitUntil(() => server.Workers().Length == 1);
        Assert.Equal("one", server.Ask()["answer"]);
        server.Signal(Weir.Kernel.Signal.Quit);
        server.WaitUntil(() => !File.Exists(server.PidPath));
    }

    [Fact(DisplayName = "daemon: what fails is told on standard error with exit code 1 before anything is detached")]
    public void DaemonFails()
    {
        using var taken = new TcpListener(System.Net.IPAddress.Loopback, 18456);
        taken.Start();
        using var server = new Fixture(18456, "daemon on", wait: false);
        Assert.Equal(1, server.WaitForExit());
        server.WaitUntil(() => server.Output().Contains(
            "weir: [emerg] bind() to 127.0.0.1:18456 failed (98: Address already in use)"));
        Assert.False(File.Exists(server.PidPath));
    }

    [Fact(DisplayName = "master_process off: one process serves, reloads and ends")]
    public void SingleProcess()
    {
        using var server = new Fixture(18458, "master_process off");
        Assert.Equal(server.Master.ToString(CultureInfo.InvariantCulture), server.Ask()["pid"]);
        server.Configure("master_process off\nanswer two");
        server.Signal(Weir.Kernel.Signal.Hup);
        server.AskUntil(r => r["answer"] == "two");
        server.Signal(Weir.Kernel.Signal.Quit);
        Assert.Equal(0, server.WaitForExit());
        Assert.False(File.Exists(server.PidPath));
    }

    [Fact(DisplayName = "a worker whose master was killed finishes and leaves")]
    public void MasterKilled()
    {
        using var server = new Fixture(18460, "workers 2");
        int[] workers = server.Workers();
        ProcessControl.Kill(server.Master, Weir.Kernel.Signal.Kill);
        server.WaitForExit();
        server.WaitUntil(() => workers.All(pid => !System.IO.Directory.Exists("/proc/" + pid)
            || File.ReadAllText($"/proc/{pid}/stat").Contains(") Z ")));
    }

    private sealed record Reply(Dictionary<string, string> Words)
    {
        public string this[string name] => Words[name];
    }

    /// <summary>The fixture server with a directory of its own.</summary>
    private sealed class Fixture : IDisposable
    {
        private const int PatienceMs = 30_000;

        private readonly System.Diagnostics.Process _process;
        private readonly StringBuilder _output = new();
        private readonly string _listen;
        private readonly int _port;

        public Fixture(int port, string words, string listenOptions = "", bool wait = true)
        {
            _port = port;
            Directory = System.IO.Directory.CreateTempSubdirectory("weir-master-").FullName;
            _listen = $"listen 127.0.0.1:{port}{listenOptions}\nlisten 127.0.0.1:{port + 1}{listenOptions}\n"
                + $"listen unix:{Directory}/sock\nlogs {Directory}\npid {PidPath}\n";
            if (!words.Contains("answer"))
            {
                words += "\nanswer one";
            }
            Configure(words);
            var start = new ProcessStartInfo(AppContext.BaseDirectory + "process-fixture", [Directory + "/conf"])
            {
                RedirectStandardError = true,
            };
            _process = System.Diagnostics.Process.Start(start)!;
            _process.ErrorDataReceived += (_, line) => Append(line.Data);
            _process.BeginErrorReadLine();
            if (wait)
            {
                WaitUntil(() => File.Exists(PidPath) && ErrorLog().Contains("start worker process "));
                AskUntil(_ => true);
            }
        }

        public string Directory { get; }

        public string PidPath => Directory + "/pid";

        /// <summary>The master by the pid file; the started process while there is none.</summary>
        public int Master =>
            File.Exists(PidPath) && int.TryParse(File.ReadAllText(PidPath), out int pid) ? pid : _process.Id;

        public static Reply AskPort(int port)
        {
            using var client = new TcpClient("127.0.0.1", port);
            using var reader = new StreamReader(client.GetStream());
            string line = reader.ReadLine() ?? throw new IOException("no answer");
            return new Reply(line.Split(' ').Select(word => word.Split('=', 2)).ToDictionary(p => p[0], p => p[1]));
        }

        public void Configure(string words)
        {
            if (!words.Contains("answer"))
            {
                words += "\nanswer one";
            }
            File.WriteAllText(Directory + "/conf.new", _listen + words + "\n");
            File.Move(Directory + "/conf.new", Directory + "/conf", overwrite: true);
        }

        public void Signal(Signal signal) => Assert.True(ProcessControl.Kill(Master, signal).IsOk);

        public Reply Ask() => AskPort(_port);

        public Reply AskUntil(Predicate<Reply> condition)
        {
            Reply? last = null;
            WaitUntil(() =>
            {
                try
                {
                    last = Ask();
                    return condition(last);
                }
                catch (Exception e) when (e is IOException or SocketException)
                {
                    return false;
                }
            });
            return last!;
        }

        public void WaitUntil(Func<bool> condition)
        {
            var watch = Stopwatch.StartNew();
            while (!condition())
            {
                Assert.True(watch.ElapsedMilliseconds < PatienceMs, "in vain; the log:\n" + ErrorLog() + Output());
                Thread.Sleep(5);
            }
        }

        public void WaitForLog(string text) => WaitUntil(() => ErrorLog().Contains(text));

        public int WaitForExit()
        {
            // Not the overload that waits for the end of the output: a daemon may keep the pipe.
            Assert.True(_process.WaitForExit(PatienceMs), "does not end; the log:\n" + ErrorLog());
            return _process.ExitCode;
        }

        public string ErrorLog() =>
            File.Exists(Directory + "/error.log") ? File.ReadAllText(Directory + "/error.log") : "";

        public string Output()
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }

        /// <summary>Living children of the master that are workers.</summary>
        public int[] Workers()
        {
            string children = $"/proc/{Master}/task/{Master}/children";
            try
            {
                return [.. File.ReadAllText(children).Split(' ', StringSplitOptions.RemoveEmptyEntries)
                    .Select(pid => int.Parse(pid, CultureInfo.InvariantCulture))
                    .Where(pid => ChildProcess.Title(pid).StartsWith("weir: worker process", StringComparison.Ordinal))
                    .Order()];
            }
            catch (IOException)
            {
                return [];
            }
        }

        public void Dispose()
        {
            // Only what this test started: the masters it knows by pid file, and their workers through them.
            foreach (string path in (string[])[PidPath, PidPath + ".oldbin"])
            {
                if (File.Exists(path) && int.TryParse(File.ReadAllText(path), out int pid))
                {
                    ProcessControl.Kill(pid, Weir.Kernel.Signal.Term);
                }
            }
            if (!_process.HasExited)
            {
                ProcessControl.Kill(_process.Id, Weir.Kernel.Signal.Term);
                _process.WaitForExit(5000);
            }
            var watch = Stopwatch.StartNew();
            while (File.Exists(PidPath) && watch.ElapsedMilliseconds < 5000)
            {
                Thread.Sleep(5);
            }
            _process.Dispose();
            System.IO.Directory.Delete(Directory, recursive: true);
        }

        private void Append(string? line)
        {
            lock (_output)
            {
                _output.AppendLine(line);
            }
        }
    }
}
