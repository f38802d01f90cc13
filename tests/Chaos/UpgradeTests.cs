// A new binary takes over under load: USR2, then QUIT to the old master. No request fails.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed class UpgradeTests
{
    [Fact]
    public void USR2_and_QUIT_under_load_fail_no_request()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 ok; }", workers: 2, master: true));
        using var load = new LoadClient(weir.Port, 8, static a => a.Text == "ok" ? null : a.Text);
        Wait.For("the first answers", () => load.Answers > 100);
        string pidFile = weir.Dir.At("server.pid");
        weir.Send(Signal.Usr2);
        Wait.For("the new master's pid file", () => File.Exists(pidFile) && File.Exists(pidFile + ".oldbin"));
        int heir = int.Parse(File.ReadAllText(pidFile), CultureInfo.InvariantCulture);
        Assert.NotEqual(weir.Process.Pid, heir);
        long both = load.Answers;
        Wait.For("answers by both", () => load.Answers > both + 200);
        weir.Send(Signal.Quit);
        Assert.True(weir.Process.WaitForExit(15_000), weir.Describe());
        long alone = load.Answers;
        Wait.For("answers by the new one", () => load.Answers > alone + 200);
        load.Stop();
        using (var process = System.Diagnostics.Process.GetProcessById(heir))
        {
            ChildProcess.Send(heir, Signal.Quit);
            Assert.True(process.WaitForExit(15_000));
        }
        Assert.Empty(load.Failures);
    }
}
