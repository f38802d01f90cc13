// The steps of samples/concurrency: each is run, and does with three requests at once what its first line says.
using Samples;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class SampleTests
{
    private const int Long = 30_000;

    private static readonly Dictionary<string, Func<string, TimeSpan, Server.AppServer>> _steps = new()
    {
        ["1"] = Step1Sequential.Start,
        ["2"] = Step2ThreadPerConnection.Start,
        ["3"] = Step3ThreadPool.Start,
        ["4"] = Step4EventDrivenBlocked.Start,
        ["5"] = Step5EventDriven.Start,
        ["6"] = Step6EventDrivenWithThreadPool.Start,
    };

    public static TheoryData<string> Steps => [.. _steps.Keys];

    [Theory]
    [MemberData(nameof(Steps))]
    public void A_step_answers_everybody(string step)
    {
        using Server.AppServer server = _steps[step]("127.0.0.1:0", TimeSpan.FromMilliseconds(50));
        List<RawClient> clients = [.. Enumerable.Range(0, 3).Select(_ => RawClient.Connect(server.Port)
            .Send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))];
        foreach (RawClient client in clients)
        {
            Assert.Equal("Hello World\n", client.ReadResponse(timeoutMs: Long).Text);
            client.Dispose();
        }
        Wait.For("the answers to be counted", () => server.GetMetrics().Answered == 3, Long);
    }

    [Fact]
    public void Steps_have_forty_lines_at_most()
    {
        string directory = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(directory, "Weir.slnx")))
        {
            directory = Path.GetDirectoryName(directory) ?? throw new DirectoryNotFoundException("Weir.slnx");
        }
        string[] files = Directory.GetFiles(Path.Combine(directory, "samples/concurrency"), "Step*.cs");
        Assert.Equal(_steps.Count, files.Length);
        Assert.All(files, static file => Assert.InRange(File.ReadAllLines(file).Length, 1, 40));
    }
}
