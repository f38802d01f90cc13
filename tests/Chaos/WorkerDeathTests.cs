// A worker killed under load: only its own connections fail, another takes its place, the counters stay right.
using System.Diagnostics;
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed class WorkerDeathTests
{
    private const int Clients = 16;

    [Theory]
    [InlineData("")]
    [InlineData(" reuseport")]
    public void Only_the_connections_of_the_killed_worker_fail(string option)
    {
        using var weir = ServerProcess.Weir(Conf.Http($$"""
            server { listen 127.0.0.1:%PORT%{{option}}; location / { add_header X-Pid $pid; return 200 ok; } }
            server { listen 127.0.0.1:%PORT2%; location / { stub_status; } }
            """, workers: 2, master: true));
        Wait.For("two workers", () => weir.Workers().Length == 2);
        RawClient[] clients = [.. Enumerable.Range(0, Clients).Select(_ => weir.Connect())];
        string[] owner = [.. clients.Select(static c => c.Get("/")["X-Pid"]!)];
        int victim = int.Parse(owner[0], CultureInfo.InvariantCulture);
        Process.GetProcessById(victim).Kill();
        long killedAt = Stopwatch.GetTimestamp();
        Wait.For("another worker", () => weir.Workers() is { Length: 2 } now && !now.Contains(victim));
        for (int i = 0; i < Clients; i++)
        {
            if (owner[i] == owner[0])
            {
                Assert.ThrowsAny<Exception>(() => clients[i].Get("/"));
            }
            else
            {
                Assert.Equal("ok", clients[i].Get("/").Text);
            }
        }
        // New connections are served, by two workers again.
        Wait.For("answers of a new worker", () => Enumerable.Range(0, 50).Any(_ =>
            weir.Get("/")["X-Pid"] is { } pid && !owner.Contains(pid)));
        Assert.True(killedAt > 0);
        int surviving = owner.Count(o => o != owner[0]);
        Wait.For("the gauge without the dead", () =>
        {
            using RawClient status = weir.Connect(2);
            string first = status.Get("/").Text.Split('\n')[0];
            return first.Trim() == $"Active connections: {surviving + 1}";
        });
        foreach (RawClient client in clients)
        {
            client.Dispose();
        }
    }

    [Fact]
    public void Totals_never_go_backwards_when_a_worker_dies()
    {
        using var weir = ServerProcess.Weir(Conf.Http("""
            server { listen 127.0.0.1:%PORT%; location / { return 200 ok; } location /status { stub_status; } }
            """, workers: 2, master: true));
        for (int i = 0; i < 100; i++)
        {
            weir.Get("/");
        }
        long before = Requests(weir);
        Assert.True(before >= 100);
        foreach (int worker in weir.Workers())
        {
            Process.GetProcessById(worker).Kill();
        }
        Wait.For("answers again", () =>
        {
            try
            {
                return Requests(weir) > before;
            }
            catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException or TimeoutException)
            {
                return false;
            }
        });
    }

    private static long Requests(ServerProcess weir)
    {
        string[] lines = weir.Get("/status").Text.Split('\n');
        return long.Parse(lines[2].Trim().Split(' ')[2], CultureInfo.InvariantCulture);
    }
}
