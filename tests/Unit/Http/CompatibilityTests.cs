// docs/compatibility.md says how much of nginx's HTTP core there is and how much of it is compared with nginx. It is
// written by this test (WEIR_GOLDEN_UPDATE=1) and fails when it is not up to date.
using System.Text;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;
using Weir.Tests.Unit.Conf;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class CompatibilityTests
{
    /// <summary>What an area must have at least, counted in connections.</summary>
    private static readonly (string Name, int Least, Case[] Cases)[] _areas =
    [
        ("framing", 50, FramingCases.All),
        ("URI and location choice", 50, [.. UriCases.All, .. LocationCases.All]),
        ("files and ranges", 40, FileCases.All),
        ("proxy", 60, [.. ProxyCases.All, .. ProxyMoreCases.All, .. ProxyFormCases.All]),
        ("rewrite, if, error_page", 40, [.. RewriteCases.All, .. RoutingCases.All, .. CircleCases.All,
            .. RewriteMoreCases.All.Where(static c => c.Area != "logs")]),
        ("access", 0, AccessCases.All),
        ("filters and compression", 20, [.. FilterCases.All, .. ModuleCases.All]),
        ("logs", 20, [.. LogCases.All, .. RewriteMoreCases.All.Where(static c => c.Area == "logs")]),
        ("keep-alive and close", 20, ConnectionCases.All),
    ];

    [Fact]
    public void The_table_is_up_to_date()
    {
        string path = Path.Combine(GoldenConfTests.RepositoryRoot(), "docs/compatibility.md");
        string text = Write();
        if (Environment.GetEnvironmentVariable("WEIR_GOLDEN_UPDATE") == "1")
        {
            File.WriteAllText(path, text);
        }
        Assert.Equal(text, File.ReadAllText(path));
    }

    [Fact]
    public void Every_area_has_its_least_number_of_connections()
    {
        // Each script has its own configuration; its connections have their own bytes.
        Assert.All(_areas, static a => Assert.True(a.Cases.Length >= a.Least,
            $"{a.Name}: {a.Cases.Length} of {a.Least}"));
        Assert.True(_areas.Sum(static a => a.Cases.Length) >= 300, "three hundred in all");
        Assert.Equal(Table.Differential.Count, _areas.Sum(static a => a.Cases.Length));
    }

    private static int Connections(Case[] cases) => cases.Sum(static c => c.Talks.Length);

    private static string Write()
    {
        var text = new StringBuilder("""
            # Compatibility

            How much of nginx's HTTP core is here, and how it is kept so. This page is written by a test, which fails
            when it is not up to date (`WEIR_GOLDEN_UPDATE=1 dotnet test tests/Unit --filter CompatibilityTests`).

            ## Directives and variables

            Every directive and variable of these modules in nginx's own tables (`data/`), without those of the cache of
            upstreams' answers and of `proxy_store`.


            """);
        text.Append("| module | directives | missing |\n|---|---|---|\n");
        foreach ((string module, int all, string[] missing) in CoverageTests.ByModule())
        {
            string names = missing.Length == 0 ? "" : "`" + string.Join("`, `", missing) + "`";
            text.Append($"| {module} | {all} | {names} |\n");
        }
        text.Append($"\nVariables: {CoverageTests.VariableCount}, of which "
            + $"{CoverageTests.MissingVariableCount} is missing (compiled by nobody in nginx itself).\n");
        text.Append("\n## What nginx Plus alone has\n\n| about | here | not here |\n|---|---|---|\n");
        static string Names(string[] names) => names.Length == 0 ? "" : "`" + string.Join("`, `", names) + "`";
        foreach ((string about, string[] here, string[] missing) in CoverageTests.Plus())
        {
            text.Append($"| {about} | {Names(here)} | {Names(missing)} |\n");
        }
        text.Append("""

            ## Compared with nginx

            Scripts that run against both servers: a configuration and the bytes of its connections. Each whole
            connection is compared, byte for byte, including how it ends (`./test differential`). Known differences
            are listed in `tests/Differential/KnownDifferences.cs`, each with its reason.

            | area | at least | scripts | connections |
            |---|---|---|---|

            """);
        foreach ((string name, int least, Case[] cases) in _areas)
        {
            text.Append($"| {name} | {(least > 0 ? least : "")} | {cases.Length} | {Connections(cases)} |\n");
        }
        text.Append($"| **all** | 300 | {_areas.Sum(static a => a.Cases.Length)} | "
            + $"{_areas.Sum(static a => Connections(a.Cases))} |\n");
        text.Append("""

            ## Golden configurations

            What `-t` says of a configuration, compared with what nginx says (`tests/Harness/Golden/`).

            | | configurations | refused by nginx | judged otherwise |
            |---|---|---|---|

            """);
        Row("shapes of real sites", GoldenConf.Sites);
        Row("shipped by packages of Debian", GoldenConf.Debian);
        Row("mistakes", GoldenConf.Faulty);
        Row("**all**", [.. GoldenConf.All]);
        IEnumerable<IGrouping<string, GoldenConf>> packages = GoldenConf.Debian.GroupBy(static g =>
            g.Origin.Split(':')[0]);
        text.Append("\nThe packages, and how many each gave (the file that each was cut out of is named beside it in "
            + "`debian.txt`):\n");
        text.AppendJoin(", ", packages.OrderBy(static p => p.Key, StringComparer.Ordinal).Select(static p =>
            $"{p.Key} {p.Count()}")).Append(".\n");
        text.Append("""

            Judged otherwise, and why:


            """);
        foreach (GoldenConf golden in GoldenConf.All.Where(static g => g.Weir is not null))
        {
            text.Append($"* {golden.Name}: {golden.Reason}\n");
        }
        return text.ToString();

        void Row(string name, IReadOnlyList<GoldenConf> list) => text.Append($"| {name} | {list.Count} | "
            + $"{list.Count(static g => g.Nginx != "accepted")} | {list.Count(static g => g.Weir is not null)} |\n");
    }
}
