// The manual of the linter, tried line by line: each rule with a configuration that it speaks of and one that it is
// silent about. And configurations of others, where every word that the linter says has been read by people.
using Weir.Conf;
using Weir.Lint;
using Weir.Tests.Harness;
using Weir.Tests.Unit.Conf;
using Xunit;

namespace Weir.Tests.Unit.CommandLine;

public sealed class LintManualTests
{
    private const string Path = "/conf/nginx.conf";

    /// <summary>Public configurations with traps: each of these findings is true of its text.</summary>
    private static readonly Dictionary<string, string> s_found = new()
    {
        ["proxy-params"] = "proxy-host",
        ["wordpress-multisite"] = "uri-in-header",
        ["drupal"] = "regex-dot",
        ["jenkins"] = "if-file",
        ["django-gunicorn"] = "proxy-host",
        ["laravel"] = "header-always header-always",
        ["magento"] = "header-lost header-always",
        ["hsts"] = "header-always",
        ["minio"] = "proxy-host",
    };

    private static readonly Dictionary<string, (string Kind, string Bad, string Good)> s_manual = ReadManual();

    public static TheoryData<string> InManual => [.. s_manual.Keys];

    private static string Root(string path) => System.IO.Path.Join(GoldenConfTests.RepositoryRoot(), path);

    private static Dictionary<string, (string Kind, string Bad, string Good)> ReadManual()
    {
        var manual = new Dictionary<string, (string Kind, string Bad, string Good)>();
        foreach (string section in File.ReadAllText(Root("docs/lint.md")).Split("\n## ").Skip(1))
        {
            string[] parts = section.Split("\n```");
            int line = parts[1].IndexOf('\n');
            manual.Add(section[..section.IndexOf('\n')], (parts[1][..line], parts[1][line..],
                parts[3][parts[3].IndexOf('\n')..]));
        }
        return manual;
    }

    private static string[] Check(string text)
    {
        ConfTree tree = ConfParser.Parse(new MemoryConfFiles().Add(Path, text), Path, null);
        Assert.False(tree.Errors.Failed, string.Join('\n', tree.Errors.All.Select(static e => e.Format())));
        return [.. Linter.Check(tree, new LintSettings("/conf", 65536, new HashSet<string>())).Select(static e =>
            e.Message[(e.Message.LastIndexOf('[') + 1)..^1])];
    }

    private static string Whole(string kind, string text) => kind switch
    {
        "nginx main" => text,
        "nginx http" => $"events {{ }} http {{ {text} }}",
        _ => $"events {{ }} http {{ upstream app {{ server 127.0.0.1; keepalive 8; }} server {{ {text} location /app "
            + "{ proxy_pass http://app; } } }",
    };

    [Fact]
    public void The_manual_has_every_rule_in_the_order_of_the_code()
    {
        Assert.Equal(Linter.Rules.Keys, s_manual.Keys);
        string manual = File.ReadAllText(Root("docs/lint.md")).Replace('\n', ' ');
        Assert.All(Linter.Rules, rule => Assert.Contains($"## {rule.Key}  {char.ToUpperInvariant(rule.Value[0])}"
            + $"{rule.Value[1..]}. ", manual));
    }

    [Theory]
    [MemberData(nameof(InManual))]
    public void The_linter_speaks_of_the_manual_s_trap_and_not_of_its_fix(string rule)
    {
        (string kind, string bad, string good) = s_manual[rule];
        if (kind == "text")
        {
            // What it speaks of is a file, which LintTests makes.
            Assert.Contains(rule, (string[])["secret-readable", "include-backup"]);
            return;
        }
        Assert.Equal(rule, Assert.Single(Check(Whole(kind, bad)).Distinct()));
        Assert.Empty(Check(Whole(kind, good)));
    }

    [Fact]
    public void Of_public_configurations_only_what_is_true_is_said()
    {
        var said = GoldenConf.Sites.ToDictionary(static g => g.Name,
            static g => string.Join(' ', Check(g.Whole)));
        Assert.Equal(s_found, said.Where(static s => s.Value.Length > 0).ToDictionary());
        Assert.True(said.Count(static s => s.Value.Length == 0) >= 75, "most of them are sound");
    }

    [Fact]
    public void Nothing_is_said_of_the_samples()
    {
        string[] samples = [.. Directory.GetFiles(Root("samples"), "*.conf", SearchOption.AllDirectories)
            .Where(static p => File.ReadAllText(p).Contains("http {", StringComparison.Ordinal))];
        Assert.True(samples.Length >= 5, "samples are where they are looked for");
        foreach (string sample in samples)
        {
            ConfTree tree = ConfParser.Parse(new DiskConfFiles(), sample, null);
            Assert.Equal((sample, ""), (sample, string.Join('\n', Linter.Check(tree, new LintSettings("/conf", 65536,
                new HashSet<string>())).Select(static e => e.Format()))));
        }
    }
}
