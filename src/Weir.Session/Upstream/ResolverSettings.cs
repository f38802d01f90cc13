// `resolver` and `resolver_timeout` as a configuration describes them. Frozen.
namespace Weir.Session.Upstream;

/// <summary>Name servers and how their answers are used.</summary>
public sealed class ResolverSettings
{
    /// <summary>Native sockaddrs of the name servers.</summary>
    public required byte[][] Servers { get; init; }

    /// <summary>How long an answer is valid, seconds; 0 for as long as the answer says.</summary>
    public long ValidSec { get; init; }
    public bool Inet { get; init; } = true;
    public bool Inet6 { get; init; } = true;
    public long TimeoutMs { get; init; } = 30_000;
}
