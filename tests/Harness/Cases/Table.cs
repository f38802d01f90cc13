// Every script there is, area by area. A new area is a line here and a class in tests/Differential that compares it.
namespace Weir.Tests.Harness.Cases;

public static class Table
{
    /// <summary>Scripts that nginx plays too.</summary>
    public static readonly IReadOnlyList<Case> All =
    [
        .. ConnectionCases.All, .. FramingCases.All, .. FileCases.All, .. RoutingCases.All, .. ProxyCases.All,
        .. RewriteCases.All, .. AccessCases.All,
    ];
}
