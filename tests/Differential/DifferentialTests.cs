// Runs every case of the table against both servers and compares the connections byte for byte.
using System.Text;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;
using Weir.Tests.Simulation;
using Xunit;

namespace Weir.Tests.Differential;

public abstract class DifferentialTests(IEnumerable<Case> cases)
{
    // Connections are declared open after a silence; a slow moment of the machine is given more patience before a
    // verdict.
    private const int MorePatience = 6;

    // The harness looks whether a real server is ready, which is a connection more.
    private static readonly string[] _countsConnections = ["routing: stub_status counts"];

    protected void Compare(string id)
    {
        Case one = cases.Single(c => c.Id == id);
        (string ours, string theirs) = Run(one, patience: 1);
        if (ours != theirs)
        {
            (ours, theirs) = Run(one, MorePatience);
        }

        string simulated = Simulated.Transcribe(one);
        Assert.True(ours == simulated || _countsConnections.Contains(id),
            $"{id}: the simulation answers otherwise\n{Difference(ours, simulated)}\n--- Weir answered\n{ours}"
            + $"\n--- simulated\n{simulated}");

        bool isKnown = KnownDifferences.Reasons.TryGetValue(id, out string? reason);
        if (isKnown && ours == theirs)
        {
            Assert.Fail($"no longer a difference; take it from the list ({reason})\n{ours}");
        }

        if (!isKnown && ours != theirs)
        {
            Assert.Fail($"{id}\n{Difference(ours, theirs)}\n--- Weir answered\n{ours}\n--- nginx answered\n{theirs}");
        }
    }

    public static TheoryData<string> Ids(IEnumerable<Case> cases)
    {
        var data = new TheoryData<string>();
        foreach (Case one in cases)
        {
            data.Add(one.Id);
        }

        return data;
    }

    private static (string Ours, string Theirs) Run(Case one, int patience)
    {
        using var files = new TempDir();
        foreach ((string name, string content) in one.Files)
        {
            files.Write(name, content);
        }

        files.SetFolderTimes();

        Task<string> theirs = Task.Run(() => Transcribe(Tools.Require("nginx"), one, files, patience));
        string ours;
        try
        {
            ours = Transcribe(ServerProcess.WeirBinary, one, files, patience);
        }
        catch (InvalidOperationException e)
        {
            ours = e.Message;
        }

        return (ours, theirs.GetAwaiter().GetResult());
    }

    private static string Transcribe(string binary, Case one, TempDir files, int patience)
    {
        using Upstream? upstream = one.Origin is { } origin ? Upstream.Playing(origin) : null;
        int upstreamPort = upstream?.Port ?? 0;
        using ServerProcess server = ServerProcess.Start(binary, one.Configuration, files, upstreamPort);
        var text = new StringBuilder();
        foreach (Talk talk in one.Talks)
        {
            text.Append(Transcript.Of(server, upstreamPort, talk, patience)).Append("=====\n");
        }

        if (upstream is not null)
        {
            text.Append("----- the upstream received\n").Append(Transcript.Of(upstream.Requests,
                Surroundings.Of(server, upstreamPort)));
        }

        if (one.ComparesAccessLog)
        {
            // A request whose connection lingers is logged when that ends: longer than lingering_timeout, 5 s.
            server.Stop(graceMs: 20_000);
            text.Append("----- access.log\n").Append(Transcript.Normalise(server.AccessLog,
                Surroundings.Of(server, upstreamPort)));
        }

        return text.ToString();
    }

    private static string Difference(string ours, string theirs)
    {
        string[] a = ours.Split('\n');
        string[] b = theirs.Split('\n');
        int at = 0;
        while (at < a.Length && at < b.Length && a[at] == b[at])
        {
            at++;
        }

        return $"first difference in line {at + 1}:\n"
            + $"  Weir:  {a.ElementAtOrDefault(at)}\n  other: {b.ElementAtOrDefault(at)}";
    }
}

/// <summary>The table's areas; each runs on its own so that areas run side by side.</summary>
public sealed class ConnectionTests() : DifferentialTests(ConnectionCases.All)
{
    public static TheoryData<string> All => Ids(ConnectionCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_connection_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>Malformed and unusual requests.</summary>
public sealed class FramingTests() : DifferentialTests(FramingCases.All)
{
    public static TheoryData<string> All => Ids(FramingCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_refusal_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>Files, ranges, conditions, listings.</summary>
public sealed class FileTests() : DifferentialTests(FileCases.All)
{
    public static TheoryData<string> All => Ids(FileCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_file_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>Locations, rewrites, error pages, variables, filters.</summary>
public sealed class RoutingTests() : DifferentialTests(RoutingCases.All)
{
    public static TheoryData<string> All => Ids(RoutingCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void An_answer_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>Rewrites, conditions, maps, variables.</summary>
public sealed class RewriteTests() : DifferentialTests(RewriteCases.All)
{
    public static TheoryData<string> All => Ids(RewriteCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_rewrite_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>Access by address, password, subrequest, referrer.</summary>
public sealed class AccessTests() : DifferentialTests(AccessCases.All)
{
    public static TheoryData<string> All => Ids(AccessCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_decision_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>The reverse proxy: what the client gets and what the upstream received.</summary>
public sealed class ProxyTests() : DifferentialTests(ProxyCases.All)
{
    public static TheoryData<string> All => Ids(ProxyCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_proxied_exchange_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>Targets, paths and locations.</summary>
public sealed class UriTests() : DifferentialTests(UriCases.All)
{
    public static TheoryData<string> All => Ids(UriCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_target_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>What the access log says.</summary>
public sealed class LogTests() : DifferentialTests(LogCases.All)
{
    public static TheoryData<string> All => Ids(LogCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_log_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>The reverse proxy in more shapes.</summary>
public sealed class ProxyMoreTests() : DifferentialTests(ProxyMoreCases.All)
{
    public static TheoryData<string> All => Ids(ProxyMoreCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_proxied_answer_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>What changes bodies on their way.</summary>
public sealed class FilterTests() : DifferentialTests(FilterCases.All)
{
    public static TheoryData<string> All => Ids(FilterCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_filtered_answer_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>The smaller modules.</summary>
public sealed class ModuleTests() : DifferentialTests(ModuleCases.All)
{
    public static TheoryData<string> All => Ids(ModuleCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_module_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>Locations, one question in each script.</summary>
public sealed class LocationTests() : DifferentialTests(LocationCases.All)
{
    public static TheoryData<string> All => Ids(LocationCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_choice_of_location_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>Rewrites, error pages and logs, one question in each script.</summary>
public sealed class RewriteMoreTests() : DifferentialTests(RewriteMoreCases.All)
{
    public static TheoryData<string> All => Ids(RewriteMoreCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_step_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>What upstream servers receive, one question in each script.</summary>
public sealed class ProxyFormTests() : DifferentialTests(ProxyFormCases.All)
{
    public static TheoryData<string> All => Ids(ProxyFormCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_passed_request_reads_as_nginx_s(string id) => Compare(id);
}

/// <summary>What leads back to where it began.</summary>
public sealed class CircleTests() : DifferentialTests(CircleCases.All)
{
    public static TheoryData<string> All => Ids(CircleCases.All);

    [NeedsTheory("nginx"), MemberData(nameof(All))]
    public void A_circle_ends_where_nginx_ends_it(string id) => Compare(id);
}

/// <summary>The list of differences names cases that exist.</summary>
public sealed class KnownDifferenceTests
{
    [Fact]
    public void Every_known_difference_names_a_case()
    {
        HashSet<string> ids = Table.Differential.Select(c => c.Id)
            .Concat(Http2CaseTests.Names).ToHashSet();
        Assert.All(KnownDifferences.Reasons.Keys, id => Assert.Contains(id, ids));
        Assert.All(KnownDifferences.Reasons.Values, reason => Assert.NotEqual("", reason));
    }
}
