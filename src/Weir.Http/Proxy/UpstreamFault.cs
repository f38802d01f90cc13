// How an exchange with an upstream server failed, as a value: what happened, on which leg, whether another server may
// be
// asked, and which status the client gets when none is.
namespace Weir.Http.Proxy;

/// <summary>What went wrong.</summary>
public enum FaultKind : byte
{
    None,

    /// <summary>Connecting, sending or receiving failed, or the server closed.</summary>
    Error,
    Timeout,
    InvalidHeader,

    /// <summary>The server answered with a status that <c>next_upstream</c> names.</summary>
    Status,

    /// <summary>No server of the group can be asked.</summary>
    NoLive,

    /// <summary>The client is the cause: its connection or its body.</summary>
    Client,

    /// <summary>This side is the cause.</summary>
    Internal,
}

/// <summary>Where it happened.</summary>
public enum FaultLeg : byte
{
    Connect,
    Send,
    Head,
    Body,
}

/// <summary>A failure of an exchange.</summary>
public readonly struct UpstreamFault(FaultKind kind, FaultLeg leg, int status = 0)
{
    public readonly FaultKind Kind = kind;
    public readonly FaultLeg Leg = leg;

    /// <summary>The upstream's status, or the status the client gets for faults of the client and of this
    /// side.</summary>
    public readonly int UpstreamStatus = status;

    public bool IsNone => Kind == FaultKind.None;

    /// <summary>The word of <c>next_upstream</c> that covers it.</summary>
    public NextUpstream Reason => Kind switch
    {
        FaultKind.Error => NextUpstream.Error,
        FaultKind.Timeout => NextUpstream.Timeout,
        FaultKind.InvalidHeader => NextUpstream.InvalidHeader,
        FaultKind.Status => ReasonOf(UpstreamStatus),
        _ => NextUpstream.NoLive,
    };

    /// <summary>What the client is told when nobody else is asked.</summary>
    public int Status => Kind switch
    {
        FaultKind.Timeout => 504,
        FaultKind.Status or FaultKind.Client or FaultKind.Internal => UpstreamStatus,
        _ => 502,
    };

    public static NextUpstream ReasonOf(int status) => status switch
    {
        500 => NextUpstream.Http500,
        502 => NextUpstream.Http502,
        503 => NextUpstream.Http503,
        504 => NextUpstream.Http504,
        403 => NextUpstream.Http403,
        404 => NextUpstream.Http404,
        429 => NextUpstream.Http429,
        _ => NextUpstream.None,
    };
}
