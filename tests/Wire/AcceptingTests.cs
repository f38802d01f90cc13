// Accepting when something runs out (descriptors, connection slots), and who accepts when several workers share a
// socket: each tier seen from the client and in the log, the registrations seen in /proc.
using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

// Most of it is about workers beside each other; the rest about tiers that the portable engine leaves to the framework.
[Trait("Needs", "master")]
public sealed partial class AcceptingTests
{
    private const int PatientMs = 30_000;

    [Fact]
    public void Without_a_descriptor_a_client_is_told_503_and_the_log_says_so_once()
    {
        using var weir = ServerProcess.Weir(Small("worker_rlimit_nofile 200;", ""));
        Assert.Equal("ok", weir.Get("/").Text);
        List<RawClient> halves = Halves(weir, 240);
        try
        {
            // Those at the end of the queue found no descriptor: each reads an answer and its end.
            string told = System.Text.Encoding.Latin1.GetString(halves[^1].ReadToEnd(PatientMs));
            Assert.StartsWith("HTTP/1.1 503 ", told, StringComparison.Ordinal);
            Wait.For("the log", () => weir.ErrorLog.Contains("[crit]", StringComparison.Ordinal));
            Assert.Single(TooManyFiles().Matches(weir.ErrorLog));
            Assert.Contains("512 worker_connections exceed open file resource limit: 200", weir.ErrorLog,
                StringComparison.Ordinal);
        }
        finally
        {
            halves.ForEach(static c => c.Dispose());
        }
        Wait.For("a client is served again", () => weir.Get("/").Status == 200, PatientMs);
        Assert.Single(TooManyFiles().Matches(weir.ErrorLog));
    }

    [Fact]
    public void Without_a_descriptor_an_idle_connection_gives_its_own()
    {
        using var weir = ServerProcess.Weir(Small("worker_rlimit_nofile 200;", ""));
        var clients = new List<RawClient>();
        for (int i = 0; i < 240; i++)
        {
            RawClient client = weir.Connect();
            clients.Add(client);
            Assert.Equal("ok", client.Get("/").Text);
        }
        Assert.Equal("ok", clients[^1].Get("/").Text);
        Assert.True(clients[0].WaitClosed(PatientMs));
        clients.ForEach(static c => c.Dispose());
    }

    [Fact]
    public void Without_a_connection_slot_a_client_waits_in_the_queue()
    {
        using var weir = ServerProcess.Weir(Small("", "", connections: 16));
        List<RawClient> halves = Halves(weir, 16);
        using RawClient late = weir.Connect();
        late.Send(RawClient.Request("GET", "/", []));
        Wait.For("the alert", () => weir.ErrorLog.Contains("[alert]", StringComparison.Ordinal), PatientMs);
        Wait.For("the log",
            () => weir.ErrorLog.Contains("16 worker_connections are not enough", StringComparison.Ordinal));
        halves[0].Dispose();
        halves[1].Dispose();
        Assert.Equal(200, late.ReadResponse(timeoutMs: PatientMs).Status);
        // The others were never touched.
        Assert.Equal("ok", halves[5].Send("\r\n").ReadResponse(timeoutMs: PatientMs).Text);
        halves.ForEach(static c => c.Dispose());
    }

    [Fact]
    public void A_client_that_never_says_anything_gives_way_when_slots_run_out()
    {
        using var weir = ServerProcess.Weir(Small("", "", connections: 16));
        var silent = new List<RawClient>();
        for (int i = 0; i < 40; i++)
        {
            silent.Add(weir.Connect());
        }
        Wait.For("an answer", () => weir.Get("/").Status == 200, PatientMs);
        Assert.Contains("16 worker_connections are not enough, reusing connections", weir.ErrorLog,
            StringComparison.Ordinal);
        Assert.True(silent[0].WaitClosed(PatientMs));
        silent.ForEach(static c => c.Dispose());
    }

    /// <summary>Without it a turn takes twice as many as the one before: sixteen of thirty-two at most. On io_uring one
    /// entry brings all that wait in any case.</summary>
    [Theory]
    [InlineData("on", 17, 64)]
    [InlineData("off", 1, 16)]
    public void With_multi_accept_one_turn_takes_all_that_wait(string multi, int least, int most)
    {
        using var weir = ServerProcess.Weir(Conf.Full($$"""
            daemon off;
            user root;
            pid %DIR%/server.pid;
            error_log %DIR%/error.log info;
            events { use epoll; multi_accept {{multi}}; }
            http { access_log off; server { listen 127.0.0.1:%PORT%; location / { weir_status json; } } }
            """));
        Assert.Equal(200, weir.Get("/").Status);
        int worker = weir.Workers().Single();
        ChildProcess.Send(worker, Signal.Stop);
        Wait.For("the worker stands still", () => File.ReadAllText($"/proc/{worker}/stat").Contains(") T ",
            StringComparison.Ordinal));
        List<RawClient> clients = [.. Enumerable.Range(0, 32).Select(_ => weir.Connect())];
        ChildProcess.Send(worker, Signal.Cont);
        // All have been accepted when the last one has its answer.
        clients.ForEach(static c => Assert.Equal(200, c.Get("/").Status));
        int taken = int.Parse(MostAccepted().Match(clients[0].Get("/").Text).Groups[1].Value,
            CultureInfo.InvariantCulture);
        Assert.InRange(taken, least, most);
        clients.ForEach(static c => c.Dispose());
    }

    [GeneratedRegex("\"most_accepted_in_turn\":([0-9]+)")]
    private static partial Regex MostAccepted();

    [Fact]
    public void With_accept_mutex_one_worker_at_a_time_listens_and_a_killed_one_leaves_it_to_the_others()
    {
        using var weir = ServerProcess.Weir(
            Small("", SeenInProc + "accept_mutex on; accept_mutex_delay 20ms;", workers: 3));
        Assert.Equal("ok", weir.Get("/").Text);
        Wait.For("one listener of three", () => Listening(weir).Length == 1, PatientMs);
        Assert.All(Flags(weir), static f => Assert.Equal(0u, f & Exclusive));
        for (int i = 0; i < 3; i++)
        {
            Wait.For("one listener", () => Listening(weir).Length == 1, PatientMs);
            int[] holder = Listening(weir);
            if (holder.Length == 1)
            {
                ChildProcess.Send(holder[0], Signal.Kill);
            }
            Assert.Equal("ok", weir.Get("/").Text);
            Wait.For("three workers", () => weir.Workers().Length == 3, PatientMs);
        }
    }

    /// <summary>Longer than the first timers of a worker take.</summary>
    private const int RestMs = 1500;

    private static string Switches(int pid) => File.ReadLines($"/proc/{pid}/status")
        .Single(static l => l.StartsWith("voluntary_ctxt_switches", StringComparison.Ordinal));

    /// <summary>Whoever has not begun yet has not tried either, and every event is a reason to try.</summary>
    private static void WaitForRest(ServerProcess weir)
    {
        var rest = Stopwatch.StartNew();
        string before = "";
        Wait.For("both workers to rest", () =>
        {
            string now = string.Concat(weir.Workers().Select(Switches));
            if (now != before)
            {
                before = now;
                rest.Restart();
            }
            return rest.ElapsedMilliseconds > RestMs;
        }, PatientMs);
    }

    /// <summary>The master is held so that no new worker comes: whoever is left takes over after the delay, or not.
    /// </summary>
    [Theory]
    [InlineData("20ms", true)]
    [InlineData("600s", false)]
    public void A_worker_tries_for_the_accept_mutex_again_after_the_delay(string delay, bool takesOver)
    {
        using var weir = ServerProcess.Weir(
            Small("", SeenInProc + $"accept_mutex on; accept_mutex_delay {delay};", workers: 2));
        Wait.For("one listener of two", () => weir.Workers().Length == 2 && Listening(weir).Length == 1, PatientMs);
        if (!takesOver)
        {
            WaitForRest(weir);
        }
        weir.Send(Signal.Stop);
        try
        {
            // While the mutex changes hands both are seen for a moment.
            int holder = 0;
            Wait.For("one listener", () => (holder = Listening(weir) is [var one] ? one : 0) != 0, PatientMs);
            ChildProcess.Send(holder, Signal.Kill);
            bool IsTaken() => Listening(weir) is [var now] && now != holder;
            if (takesOver)
            {
                Wait.For("the other one", IsTaken, PatientMs);
            }
            else
            {
                Assert.False(Wait.Until(IsTaken, 500));
            }
        }
        finally
        {
            weir.Send(Signal.Cont);
        }
    }

    [Fact]
    public void With_accept_mutex_and_one_worker_nobody_takes_turns()
    {
        using var weir = ServerProcess.Weir(Small("", SeenInProc + "accept_mutex on;"));
        Assert.Equal("ok", weir.Get("/").Text);
        Assert.All(Flags(weir), static f => Assert.Equal(Exclusive, f & Exclusive));
    }

    [Fact]
    public void A_shared_socket_wakes_one_worker_only()
    {
        using var weir = ServerProcess.Weir(Small("", SeenInProc + "multi_accept on;", workers: 2));
        Assert.Equal("ok", weir.Get("/").Text);
        Wait.For("both workers", () => Listening(weir).Length == 2, PatientMs);
        uint[] flags = Flags(weir);
        Assert.Equal(2, flags.Length);
        Assert.All(flags, static f => Assert.Equal(Exclusive, f & Exclusive));
    }

    [Fact]
    public void With_reuseport_each_worker_has_a_socket_of_its_own()
    {
        using var weir = ServerProcess.Weir(Small("", SeenInProc, workers: 2, listen: " reuseport"));
        Assert.Equal("ok", weir.Get("/").Text);
        Wait.For("both workers", () => Listening(weir).Length == 2, PatientMs);
        Assert.Equal(2, SocketsOf(weir.Port).Count);
        Assert.All(Flags(weir), static f => Assert.Equal(0u, f & Exclusive));
    }

    [Theory]
    [InlineData("", "")]
    [InlineData("accept_mutex on; accept_mutex_delay 20ms;", "")]
    [InlineData("multi_accept on;", "")]
    [InlineData("", " reuseport")]
    public void However_workers_share_a_listener_every_client_is_served(string events, string listen)
    {
        using var weir = ServerProcess.Weir(Small("", events, workers: 3, listen: listen));
        for (int round = 0; round < 2; round++)
        {
            var clients = new List<RawClient>();
            for (int i = 0; i < 60; i++)
            {
                clients.Add(weir.Connect());
            }
            foreach (RawClient client in clients)
            {
                Assert.Equal("ok", client.Get("/").Text);
                client.Dispose();
            }
        }
    }

    /// <summary>What a worker waits for shows in /proc with epoll only.</summary>
    private const string SeenInProc = "use epoll; ";

    private static Conf Small(string main, string events, int connections = 512, int workers = 1, string listen = "") =>
        Conf.Full($$"""
            daemon off;
            worker_processes {{workers}};
            user root;
            pid %DIR%/server.pid;
            error_log %DIR%/error.log info;
            {{main}}
            events { worker_connections {{connections}}; {{events}} }
            http {
                access_log off;
                server { listen 127.0.0.1:%PORT%{{listen}}; location / { return 200 ok; } }
            }
            """);

    /// <summary>Connections in the middle of a request: none of them is idle.</summary>
    private static List<RawClient> Halves(ServerProcess weir, int count)
    {
        var clients = new List<RawClient>();
        for (int i = 0; i < count; i++)
        {
            RawClient client = weir.Connect();
            client.TrySend("GET / HTTP/1.1\r\nHost: x\r\n"u8.ToArray());
            clients.Add(client);
        }
        return clients;
    }

    private const uint Exclusive = 1u << 28;

    /// <summary>Workers whose epoll instance holds the listening socket now.</summary>
    private static int[] Listening(ServerProcess weir) =>
        [.. weir.Workers().Where(pid => FlagsOf(pid, SocketsOf(weir.Port)).Length > 0)];

    private static uint[] Flags(ServerProcess weir) =>
        [.. weir.Workers().SelectMany(pid => FlagsOf(pid, SocketsOf(weir.Port)))];

    private static uint[] FlagsOf(int pid, HashSet<string> sockets)
    {
        try
        {
            HashSet<string> numbers = [.. Directory.EnumerateFiles($"/proc/{pid}/fd")
                .Where(f => new FileInfo(f).LinkTarget is { } target && sockets.Contains(target))
                .Select(static f => Path.GetFileName(f))];
            return [.. Directory.EnumerateFiles($"/proc/{pid}/fdinfo")
                .SelectMany(static f => Watched().Matches(File.ReadAllText(f)))
                .Where(m => numbers.Contains(m.Groups[1].Value))
                .Select(static m =>
                    uint.Parse(m.Groups[2].Value, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
        }
        catch (IOException)
        {
            return [];
        }
    }

    /// <summary>Inodes of the sockets that listen on a port, as links in /proc name them.</summary>
    private static HashSet<string> SocketsOf(int port) => [.. File.ReadAllLines("/proc/net/tcp").Skip(1)
        .Select(static line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        .Where(f => f[3] == "0A" && f[1].EndsWith($":{port:X4}", StringComparison.Ordinal))
        .Select(static f => $"socket:[{f[9]}]")];

    [GeneratedRegex("tfd: *([0-9]+) events: *([0-9a-f]+)")]
    private static partial Regex Watched();

    [GeneratedRegex(@"accept4\(\) failed \(24: Too many open files\)")]
    private static partial Regex TooManyFiles();
}
