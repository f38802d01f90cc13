// The golden configurations before nginx itself: what the files say of it is what it says. Differences between versions
// of nginx are the files' business; this is the nginx that the machine has.
using System.Text.RegularExpressions;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Differential;

public sealed partial class GoldenTests
{
    public static TheoryData<string> Ids => [.. GoldenConf.All.Select(static g => g.Id)];

    [NeedsTheory("nginx"), MemberData(nameof(Ids))]
    public void Nginx_says_what_the_file_says(string id)
    {
        GoldenConf golden = GoldenConf.All.Single(g => g.Id == id);
        using var directory = new TempDir();
        using Port port = Port.Lease();
        string file = directory.At("n.conf");
        string text = ListenPattern().Replace(golden.Whole, $"listen 127.0.0.1:{port.Number}")
            .Replace("%DIR%", directory.Path, StringComparison.Ordinal);
        File.WriteAllText(file, text);
        List<string> arguments = ["-t", "-q", "-p", directory.Path + "/", "-c", file];
        if (!golden.Text.Contains("pid ", StringComparison.Ordinal))
        {
            arguments.AddRange(["-g", $"pid {directory.At("pid")}; error_log {directory.At("error.log")};"]);
        }
        (int exit, _, string errors) = ChildProcess.Run(Tools.Require("nginx"), [.. arguments]);
        string? message = (errors + "\n" + directory.Read("error.log")).Split('\n')
            .Select(static l => MessagePattern().Match(l)).FirstOrDefault(static m => m.Success)?.Groups[1].Value
            .Replace($":{port.Number}", ":80", StringComparison.Ordinal);
        Assert.Equal(golden.Nginx, golden.Outcome(exit == 0, message, file, directory.Path));
    }

    [GeneratedRegex(@"\blisten 80\b")]
    private static partial Regex ListenPattern();

    [GeneratedRegex(@"\[emerg\] (?:\d+#\d+: )?(.*)$")]
    private static partial Regex MessagePattern();
}
