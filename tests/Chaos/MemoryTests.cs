// What a worker keeps resident while it has nothing to do: after its start, and after it has answered.
using System.Globalization;
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed class MemoryTests
{
    private const int IdleKibibytesMax = 10 * 1024;

    [Fact]
    public void An_idle_worker_stays_below_ten_mebibytes_before_and_after_it_answered()
    {
        using var weir = ServerProcess.Weir(Conf.Full("""
            daemon off;
            worker_processes 2;
            pid %DIR%/server.pid;
            error_log %DIR%/error.log info;
            events { worker_connections 512; }
            http { access_log off; server { listen 127.0.0.1:%PORT%; location / { return 200 ok; } } }
            """));
        AssertSmall(weir);

        RawClient[] clients = [.. Enumerable.Range(0, 64).Select(_ => weir.Connect())];
        byte[] request = Encoding.Latin1.GetBytes(RawClient.Request("GET", "/", []));
        for (int round = 0; round < 50; round++)
        {
            foreach (RawClient client in clients)
            {
                client.Send(request);
            }
            foreach (RawClient client in clients)
            {
                Assert.Equal("ok", client.ReadResponse().Text);
            }
        }
        AssertSmall(weir);
        foreach (RawClient client in clients)
        {
            client.Dispose();
        }
    }

    /// <summary>What a start left is collected a moment later, so that it is waited for.</summary>
    private static void AssertSmall(ServerProcess weir)
    {
        Wait.For("both workers", () => weir.Workers().Length == 2);
        int[] workers = weir.Workers();
        bool small = Wait.Until(() => workers.All(static pid => ResidentKibibytes(pid) <= IdleKibibytesMax));
        Assert.True(small, string.Join(", ", workers.Select(ResidentKibibytes)));
    }

    private static int ResidentKibibytes(int pid)
    {
        string line = File.ReadLines($"/proc/{pid}/smaps_rollup")
            .First(static l => l.StartsWith("Rss:", StringComparison.Ordinal));
        return int.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }
}
