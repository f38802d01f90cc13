// Every script there is, area by area. A new area is a line here and, where nginx plays it too, a class in
// tests/Differential that compares it.
namespace Weir.Tests.Harness.Cases;

public static class Table
{
    /// <summary>Scripts that nginx plays too.</summary>
    public static readonly IReadOnlyList<Case> Differential =
    [
        .. ConnectionCases.All, .. FramingCases.All, .. FileCases.All, .. RoutingCases.All, .. ProxyCases.All,
        .. RewriteCases.All, .. AccessCases.All, .. ModuleCases.All,
        .. FilterCases.All, .. UriCases.All, .. LogCases.All, .. ProxyMoreCases.All,
        .. LocationCases.All, .. RewriteMoreCases.All, .. ProxyFormCases.All, .. CircleCases.All,
    ];

    /// <summary>Scripts that say themselves what must come back.</summary>
    public static readonly IReadOnlyList<Case> Expecting = [.. TimeCases.All];

    public static readonly IReadOnlyList<Case> All = [.. Differential, .. Expecting];
}
