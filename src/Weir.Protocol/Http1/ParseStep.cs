// The outcomes and switches every HTTP/1 parser shares. Values only.
namespace Weir.Protocol.Http1;

/// <summary>What a parser says after it was given bytes.</summary>
public enum ParseStep : byte
{
    /// <summary>All bytes so far are fine and there are not enough of them.</summary>
    NeedMore,
    /// <summary>The thing is complete.</summary>
    Done,
    /// <summary>The bytes break the protocol; the reason says how. The parser must be reset before it is used
    /// again.</summary>
    Reject,
}

/// <summary>The switches of a configuration that decide how a head is read.</summary>
public readonly struct ParseOptions()
{
    /// <summary>nginx's <c>ignore_invalid_headers</c>: unusual names are dropped (and flagged) instead of
    /// kept.</summary>
    public bool IgnoreInvalidHeaders { get; init; } = true;

    /// <summary>nginx's <c>underscores_in_headers</c>: an underscore does not make a name unusual.</summary>
    public bool UnderscoresInHeaders { get; init; }

    /// <summary>nginx's <c>max_headers</c>; at most 65,000.</summary>
    public int MaxHeaders { get; init => field = Math.Clamp(value, 0, 65_000); } = 1000;
}
