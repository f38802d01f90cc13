// Processes and signals: what TERM, QUIT, HUP, USR1 and a killed worker do to connections, answers, logs and pids.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

[Trait("Needs", "master")]
public sealed class ProcessTests
{
    private static Conf Answering(string text, int workers = 2) =>
        Conf.Server($"location / {{ return 200 \"{text}\"; }}", workers: workers, master: true);

    [Theory]
    [InlineData(Signal.Term), InlineData(Signal.Int), InlineData(Signal.Quit)]
    public void A_server_ends_with_zero_and_takes_its_pid_file_with_it(Signal signal)
    {
        using var weir = ServerProcess.Weir(Answering("a"));
        Wait.For("the pid file", () => weir.Dir.Read("server.pid").Trim() == $"{weir.Process.Pid}");
        int[] workers = weir.Workers();
        weir.Send(signal);
        Assert.True(weir.Process.WaitForExit(5000));
        Assert.Equal(0, weir.Process.ExitCode);
        Assert.False(File.Exists(weir.Dir.At("server.pid")));
        Assert.All(workers, pid => Assert.True(Wait.Until(() => !Directory.Exists($"/proc/{pid}"))));
    }

    [Fact]
    public void Master_and_workers_carry_their_titles()
    {
        using var weir = ServerProcess.Weir(Answering("a"));
        Wait.For("two workers", () => weir.Workers().Length == 2);
        Wait.For("the master's title", () =>
            ChildProcess.Title(weir.Process.Pid).Contains("master process", StringComparison.Ordinal));
        Wait.For("the workers' titles", () => weir.Named("weir: worker process").Length == 2);
    }

    [Fact]
    public void A_reload_changes_the_answers_and_keeps_the_connections()
    {
        using var weir = ServerProcess.Weir(Answering("old"));
        using RawClient client = weir.Connect();
        Assert.Equal("old", client.Get("/").Text);
        weir.Rewrite(Answering("new"));
        weir.Send(Signal.Hup);
        Wait.For("the new answer", () => weir.Get("/").Text == "new");
        Assert.Equal("new", client.Get("/").Text);
        Assert.Equal("new", client.Get("/").Text);
    }

    [Fact]
    public void A_reload_with_an_error_changes_nothing()
    {
        using var weir = ServerProcess.Weir(Answering("old"));
        weir.Rewrite(Conf.Server("nonsense;", workers: 2, master: true));
        weir.Send(Signal.Hup);
        Wait.For("the refusal", () => weir.ErrorLog.Contains("unknown directive \"nonsense\"",
            StringComparison.Ordinal));
        Assert.Equal("old", weir.Get("/").Text);
    }

    [Fact]
    public void QUIT_lets_a_request_end()
    {
        using var asked = new ManualResetEventSlim();
        using var answer = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            asked.Set();
            answer.Wait(10_000);
            c.Send(Upstream.Ok("late"));
        });
        using var weir = ServerProcess.Weir(
            Conf.Server("location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }", workers: 2, master: true),
            upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/", []));
        Assert.True(asked.Wait(5000));
        weir.Send(Signal.Quit);
        Assert.False(weir.Process.WaitForExit(300));
        answer.Set();
        Assert.Equal("late", client.ReadResponse().Text);
        Assert.True(weir.Process.WaitForExit(5000));
        Assert.Equal(0, weir.Process.ExitCode);
    }

    [Fact]
    public void Within_keepalive_min_timeout_a_connection_is_answered_once_more_after_QUIT()
    {
        using var weir = ServerProcess.Weir(Conf.Server(
            "keepalive_min_timeout 60s; location / { return 200 a; }", workers: 2, master: true));
        using RawClient client = weir.Connect();
        Assert.Equal("a", client.Get("/").Text);
        weir.Send(Signal.Quit);
        // More than the second that every connection is granted.
        Assert.False(weir.Process.WaitForExit(2000));
        HttpResponse last = client.Get("/");
        Assert.Equal("a", last.Text);
        Assert.Equal("close", last["Connection"]);
        Assert.True(client.WaitClosed(30_000));
        Assert.True(weir.Process.WaitForExit(30_000));
        Assert.Equal(0, weir.Process.ExitCode);
    }

    [Fact]
    public void Without_keepalive_min_timeout_QUIT_closes_idle_connections_by_itself()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 a; }", workers: 2, master: true));
        using RawClient client = weir.Connect();
        Assert.Equal("a", client.Get("/").Text);
        weir.Send(Signal.Quit);
        Assert.True(client.WaitClosed(30_000));
        Assert.True(weir.Process.WaitForExit(30_000));
    }

    [Fact]
    public void USR1_opens_the_logs_again()
    {
        using var weir = ServerProcess.Weir(Conf.Server(
            "access_log %DIR%/access.log l; location / { return 200 a; }", "log_format l $uri;", 2, true));
        weir.Get("/first");
        Wait.For("the first line", () => weir.AccessLog.Contains("/first", StringComparison.Ordinal));
        File.Move(weir.Dir.At("access.log"), weir.Dir.At("access.old"));
        weir.Send(Signal.Usr1);
        Wait.For("a new file", () => File.Exists(weir.Dir.At("access.log")));
        Wait.For("a line in the new file", () =>
        {
            weir.Get("/second");
            return weir.AccessLog.Contains("/second", StringComparison.Ordinal);
        });
        Assert.StartsWith("/first\n", weir.Dir.Read("access.old"));
    }

    [Fact]
    public void A_killed_worker_is_replaced()
    {
        using var weir = ServerProcess.Weir(Answering("a"));
        Wait.For("two workers", () => weir.Workers().Length == 2);
        int victim = weir.Workers()[0];
        ChildProcess.Send(victim, Signal.Kill);
        Wait.For("another worker", () => weir.Workers() is { Length: 2 } workers && !workers.Contains(victim));
        Wait.For("an answer", () => weir.Get("/").Text == "a");
        Wait.For("the log", () => weir.ErrorLog.Contains("exited on signal 9", StringComparison.Ordinal));
    }

    [Fact]
    public void A_worker_sees_the_end_of_its_master()
    {
        using var weir = ServerProcess.Weir(Answering("a"));
        Wait.For("two workers", () => weir.Workers().Length == 2);
        int[] workers = weir.Workers();
        weir.Send(Signal.Kill);
        Assert.All(workers, pid => Wait.For("the worker's end", () => !Directory.Exists($"/proc/{pid}")));
    }
}
