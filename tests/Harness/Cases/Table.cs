// Every script there is, area by area. A new area is a line here and, where nginx plays it too, a class in
// tests/Differential that compares it.
namespace Weir.Tests.Harness.Cases;

public static class Table
{
    /// <summary>A seed means the same script as before these came.</summary>
    private static readonly string[] _late =
    [
        "framing: a version with a big minor number", "framing: a chunk whose size is empty",
        "framing: a Host with a user's name",
    ];

    /// <summary>Scripts that nginx plays too.</summary>
    public static readonly IReadOnlyList<Case> Differential =
    [
        .. ConnectionCases.All, .. FramingCases.All, .. FileCases.All, .. RoutingCases.All, .. ProxyCases.All,
        .. RewriteCases.All, .. AccessCases.All, .. ModuleCases.All,
        .. FilterCases.All, .. UriCases.All, .. LogCases.All, .. ProxyMoreCases.All,
        .. LocationCases.All, .. RewriteMoreCases.All, .. ProxyFormCases.All,
    ];

    /// <summary>Scripts that say themselves what must come back.</summary>
    public static readonly IReadOnlyList<Case> Expecting = [.. TimeCases.All];

    public static readonly IReadOnlyList<Case> All = [.. Differential, .. Expecting];

    /// <summary>Scripts that seeded networks draw from: those with connections of many shapes.</summary>
    public static readonly IReadOnlyList<Case> Seeded =
    [
        .. ConnectionCases.All, .. FramingCases.All.Where(static c => !_late.Contains(c.Id)), .. FileCases.All,
        .. RoutingCases.All, .. ProxyCases.All, .. RewriteCases.All, .. AccessCases.All, .. ModuleCases.All,
        .. FilterCases.All, .. UriCases.All, .. LogCases.All, .. ProxyMoreCases.All, .. TimeCases.All,
    ];
}
