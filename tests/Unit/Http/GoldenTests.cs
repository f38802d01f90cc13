// What Weir says of the golden configurations: what nginx says, or what the file lists with its reason. The build
// runs in this process, as a master's does.
using Weir.Conf;
using Weir.Http;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class GoldenTests
{
    private const string Directory = "/gc";
    private const string File = Directory + "/n.conf";

    public static TheoryData<string> Ids => [.. GoldenConf.All.Select(static g => g.Id)];

    [Theory]
    [MemberData(nameof(Ids))]
    public void A_golden_configuration_is_judged_as_written(string id)
    {
        GoldenConf golden = GoldenConf.All.Single(g => g.Id == id);
        string[] outcomes = Judge(golden);
        if (golden.Weir is null)
        {
            // Weir names every mistake; nginx the first.
            Assert.True(outcomes.Contains(golden.Nginx), $"nginx: {golden.Nginx}\nweir:  {string.Join("\n       ",
                outcomes)}");
            return;
        }
        Assert.NotEqual("", golden.Reason);
        Assert.Equal(golden.Weir, outcomes[0]);
        Assert.DoesNotContain(golden.Nginx, outcomes);
    }

    [Fact]
    public void There_are_enough_of_them()
    {
        Assert.True(GoldenConf.All.Count() >= 150, "a hundred and fifty");
        Assert.All(GoldenConf.Debian, static g => Assert.Matches("^[a-z0-9+.-]+:/", g.Origin));
        Assert.True(GoldenConf.Debian.Count * 2 >= GoldenConf.All.Count(), "half of them come from packages of Debian");
        int refused = GoldenConf.All.Count(static g => (g.Weir ?? g.Nginx) != "accepted");
        Assert.True(refused * 3 >= GoldenConf.All.Count(), "a third of them is faulty");
        Assert.Equal(GoldenConf.All.Count(), GoldenConf.All.Select(static g => g.Id).Distinct().Count());
    }

    private static string[] Judge(GoldenConf golden)
    {
        var files = new MemoryConfFiles().Add(File, golden.Whole
            .Replace("listen 80", "listen 127.0.0.1:80", StringComparison.Ordinal)
            .Replace("%DIR%", Directory, StringComparison.Ordinal));
        ConfTree tree = ConfParser.Parse(files, File, null);
        var build = new HttpBuild(new CollectResources(Directory + "/", Directory + "/", []), tree.Errors);
        build.Run(tree);
        string[] refusals =
        [
            .. tree.Errors.All.Where(static e => e.Level == ConfLevel.Emerg).Select(e =>
                golden.Outcome(false, e.Format()["[emerg] ".Length..], File, Directory)),
        ];
        return refusals.Length == 0 ? ["accepted"] : refusals;
    }
}
