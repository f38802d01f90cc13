// Every case in which Weir answers otherwise than the nginx that the machine has, with the reason. A case that stands
// here must really differ: one that no longer does fails as stale, so the list never outlives its reasons.
namespace Weir.Tests.Differential;

internal static class KnownDifferences
{
    /// <summary>Case id -> why the answers differ.</summary>
    public static readonly IReadOnlyDictionary<string, string> Reasons = new Dictionary<string, string>
    {
    };
}
