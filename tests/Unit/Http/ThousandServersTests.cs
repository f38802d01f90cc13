// What a configuration of a thousand servers costs to read and to keep: every reload pays it.
using System.Text;
using Weir.Conf;
using Weir.Http;
using Weir.Server;
using Weir.Zones;
using Xunit;
using Xunit.Abstractions;

namespace Weir.Tests.Unit.Http;

public sealed class ThousandServersTests(ITestOutputHelper output)
{
    [Fact]
    public void Scratch()
    {
        using CounterSlots counters = CounterSlots.CreatePrivate();
        var text = new StringBuilder("events {} http { access_log off; ");
        for (int i = 0; i < 1000; i++)
        {
            text.Append($"server {{ listen 127.0.0.1:80; server_name s{i}.example; location / {{ return 200 \"red-{i}\"; }} "
                + "location = /status { weir_status json; } }\n");
        }
        text.Append('}');
        byte[] bytes = Encoding.ASCII.GetBytes(text.ToString());
        for (int round = 0; round < 6; round++)
        {
            long t0 = System.Diagnostics.Stopwatch.GetTimestamp();
            long a0 = GC.GetAllocatedBytesForCurrentThread();
            ConfTree tree = ConfParser.Parse(new MemoryConfFiles().Add("/conf", bytes), "/conf");
            long a1 = GC.GetAllocatedBytesForCurrentThread();
            long t1 = System.Diagnostics.Stopwatch.GetTimestamp();
            var build = new HttpBuild(new OwnResources("/nonexistent", "/", counters), tree.Errors);
            long a2 = GC.GetAllocatedBytesForCurrentThread();
            long t2 = System.Diagnostics.Stopwatch.GetTimestamp();
            HttpConfiguration c = build.Run(tree);
            long a3 = GC.GetAllocatedBytesForCurrentThread();
            long t3 = System.Diagnostics.Stopwatch.GetTimestamp();
            long native = c.Memory.Bytes;
            tree = null!;
            build = null!;
            long with = GC.GetTotalMemory(true);
            c.Dispose();
            c = null!;
            long without = GC.GetTotalMemory(true);
            output.WriteLine($"text {bytes.Length} parse {a1 - a0} declare {a2 - a1} run {a3 - a2} kept {with - without} native {native}; ms {(t1 - t0) / 1e6:f1} {(t2 - t1) / 1e6:f1} {(t3 - t2) / 1e6:f1}");
        }
    }
}
