// Reloads under load: every answer wholly of one configuration, no connection touched, nothing left behind.
using System.Globalization;
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed class ReloadTests
{
    private const int ServerCount = 1000;

    /// <summary>A thousand servers that all say which configuration they belong to, in a header and in the
    /// body.</summary>
    private static Conf Marked(string mark)
    {
        var servers = new StringBuilder("keepalive_requests 10000000;\n");
        for (int i = 0; i < ServerCount; i++)
        {
            servers.Append(CultureInfo.InvariantCulture, $$"""
                server {
                    listen 127.0.0.1:%PORT%;
                    server_name s{{i}}.example{{(i == 0 ? " localhost" : "")}};
                    location / { add_header X-Mark {{mark}}; return 200 "{{mark}}-{{i}}"; }
                }

                """);
        }
        servers.Append("server { listen 127.0.0.1:%PORT2%; location / { stub_status; } }\n");
        return Conf.Http(servers.ToString(), workers: 2, master: true, events: "");
    }

    private static bool IsWhole(HttpResponse answer)
    {
        string mark = answer["X-Mark"] ?? "";
        return answer.Text == mark + "-0" && mark is "red" or "blue";
    }

    [Fact]
    public void A_storm_of_reloads_costs_no_answer_and_no_connection()
    {
        using var weir = ServerProcess.Weir(Marked("red"));
        using var load = new Load(weir.Port, 8, IsWhole);
        load.WaitFor(100);
        long accepted = Accepted(weir);
        for (int i = 1; i <= Rounds; i++)
        {
            string mark = i % 2 == 0 ? "red" : "blue";
            weir.Rewrite(Marked(mark));
            weir.Send(Signal.Hup);
            Thread.Sleep(100);
        }
        string last = Rounds % 2 == 0 ? "red" : "blue";
        int asked = 0;
        Wait.For("the last configuration", () =>
        {
            asked++;
            return weir.Get("/")["X-Mark"] == last;
        });
        load.Stop();
        Assert.Empty(load.Failures);
        Assert.Equal(8, load.Connections);
        // What was accepted meanwhile are the questions of this test itself: the counter and the last answers.
        Assert.InRange(Accepted(weir) - accepted, 1, asked + 2);
    }

    [Fact]
    public void After_two_hundred_reloads_nothing_is_left_behind()
    {
        using var weir = ServerProcess.Weir(Marked("red"));
        for (int i = 0; i < 6; i++)
        {
            Reload(weir, i % 2 == 0 ? "blue" : "red");
        }
        int worker = weir.Workers()[0];
        (string[] Descriptors, int Mappings, long Rss) before = Settled(worker);
        for (int i = 0; i < LeakRounds; i++)
        {
            Reload(weir, i % 2 == 0 ? "blue" : "red");
        }
        (string[] Descriptors, int Mappings, long Rss) after = Settled(worker);
        Assert.Contains(worker, weir.Workers());
        Assert.True(after.Descriptors.Length <= before.Descriptors.Length,
            $"{string.Join(' ', before.Descriptors)}\n{string.Join(' ', after.Descriptors)}");
        // Stacks of threads that came and went stay mapped for the next ones; a leak would be one for every reload.
        Assert.InRange(after.Mappings, 1, before.Mappings + LeakRounds / 2);
        Assert.InRange(after.Rss, 1, before.Rss * 12 / 10);
    }

    /// <summary>Ten seconds of storm where the whole suite runs; WEIR_CHAOS_SHORT shortens it.</summary>
    private static int Rounds => Short ? 30 : 100;

    private static int LeakRounds => Short ? 60 : 200;

    private static bool Short => Environment.GetEnvironmentVariable("WEIR_CHAOS_SHORT") is not null;

    private static void Reload(ServerProcess weir, string mark)
    {
        weir.Rewrite(Marked(mark));
        weir.Send(Signal.Hup);
        Wait.For($"{mark} on both workers", () => Enumerable.Range(0, 4).All(_ => weir.Get("/")["X-Mark"] == mark));
    }

    private static long Accepted(ServerProcess weir)
    {
        using RawClient client = weir.Connect(2);
        string[] lines = client.Get("/").Text.Split('\n');
        return long.Parse(lines[2].Trim().Split(' ')[0], CultureInfo.InvariantCulture);
    }

    /// <summary>The footprint once what the last reload left has been collected and closed: the least of each that is
    /// seen in two seconds.</summary>
    private static (string[] Descriptors, int Mappings, long Rss) Settled(int pid)
    {
        (string[] Descriptors, int Mappings, long Rss) least = Footprint(pid);
        for (int i = 0; i < 6; i++)
        {
            Thread.Sleep(300);
            (string[] Descriptors, int Mappings, long Rss) now = Footprint(pid);
            least = (now.Descriptors.Length < least.Descriptors.Length ? now.Descriptors : least.Descriptors,
                Math.Min(now.Mappings, least.Mappings), Math.Min(now.Rss, least.Rss));
        }
        return least;
    }

    private static (string[] Descriptors, int Mappings, long Rss) Footprint(int pid)
    {
        string status = File.ReadAllText($"/proc/{pid}/status");
        string rss = status.Split('\n').First(static l => l.StartsWith("VmRSS:", StringComparison.Ordinal));
        string[] descriptors = [.. Directory.GetFiles($"/proc/{pid}/fd").Select(static f =>
            new FileInfo(f).LinkTarget ?? "closed")];
        return (descriptors, File.ReadAllLines($"/proc/{pid}/maps").Length,
            long.Parse(rss.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture));
    }
}
