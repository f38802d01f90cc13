// limit_req beside nginx in the same run: both servers with two workers are asked without a pause from several
// connections, and admit what the formula says: burst + 1 + rate * elapsed.
using System.Diagnostics;
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Differential;

public sealed class LimitTests
{
    private const int Burst = 100, RatePerSec = 50;

    private const string Zone = "limit_req_zone $uri zone=z:64k rate=50r/s;";
    private const string Location =
        "keepalive_requests 1000000; location / { limit_req zone=z burst=100 nodelay; "
        + "add_header X-Msec $msec always; try_files /ok =404; }";

    private const string Target = "/measured";

    private sealed record Count(int Admitted, double Seconds)
    {
        public double Expected => Burst + 1 + Math.Floor(RatePerSec * Math.Round(Seconds, 3));
    }

    [NeedsTheory("nginx"), InlineData(1), InlineData(2)]
    public void Workers_admit_what_nginx_s_do(int workers)
    {
        var conf = Harness.Conf.Server(Location, Zone, workers, master: true);
        using ServerProcess ours = ServerProcess.Weir(conf);
        using ServerProcess theirs = ServerProcess.Nginx(conf);
        foreach (ServerProcess server in new[] { ours, theirs })
        {
            server.Files.Write("ok", "ok");
            Count count = Ask(server);
            Assert.True(Math.Abs(count.Admitted - count.Expected) <= 1,
                $"{server.Binary} admitted {count}, not {count.Expected}");
        }
    }

    /// <summary>Asks from four connections for a while, then from the first until it is refused. The time is the
    /// server's own, as its clock stood when it decided: how long answers took does not matter.</summary>
    private static Count Ask(ServerProcess server)
    {
        for (int i = 0; i < 8; i++)
        {
            // Both workers have been through it once: what starts cold is slow.
            Assert.Equal(200, server.Get("/warm").Status);
        }
        // A stack of requests at once: from the second on there is a debt, and no time passes unused.
        using RawClient opener = server.Connect();
        opener.Send(string.Concat(Enumerable.Repeat(RawClient.Request("GET", Target, []), Burst)));
        HttpResponse first = opener.ReadResponse();
        Assert.Equal(200, first.Status);
        for (int i = 1; i < Burst; i++)
        {
            Assert.Equal(200, opener.ReadResponse().Status);
        }
        int admitted = Burst;
        var clock = Stopwatch.StartNew();
        var threads = new List<Thread>();
        for (int i = 0; i < 4; i++)
        {
            var thread = new Thread(() =>
            {
                using RawClient client = server.Connect();
                while (clock.Elapsed.TotalSeconds < 0.7)
                {
                    if (client.Get(Target).Status == 200)
                    {
                        Interlocked.Increment(ref admitted);
                    }
                }
            });
            thread.Start();
            threads.Add(thread);
        }
        threads.ForEach(static t => t.Join());
        while (true)
        {
            HttpResponse answer = opener.Get(Target);
            if (answer.Status != 200)
            {
                return new Count(admitted, Msec(answer) - Msec(first));
            }
            admitted++;
        }
    }

    private static double Msec(HttpResponse answer) =>
        double.Parse(answer["X-Msec"]!, CultureInfo.InvariantCulture);
}
