// What a request's exchanges with upstream servers came to: one entry per attempt, for $upstream_* and the access log.
// Survives internal redirects, as nginx keeps it. One per request that was passed on, pooled.
using Weir.Kernel;

namespace Weir.Http.Proxy;

/// <summary>One attempt at a server.</summary>
public struct UpstreamAttempt
{
    public NativeSlice Address;
    public int Status;
    public long StartMs;

    /// <summary>Milliseconds since the start, or -1 while it has not come to that.</summary>
    public long ConnectMs;
    public long HeaderMs;
    public long ResponseMs;
    public long ResponseBytes;
    public long ReceivedBytes;
    public long SentBytes;

    /// <summary>The first attempt after an internal redirect: lists show a colon before it.</summary>
    public bool AfterRedirect;
}

/// <summary>The attempts of a request.</summary>
public sealed class UpstreamRecord : RequestState
{
    public static readonly RequestSlot<UpstreamRecord> Slot = new();

    private UpstreamAttempt[] _attempts = new UpstreamAttempt[4];

    public int Count { get; private set; }

    /// <summary>The last exchange, whose head <c>$upstream_http_*</c> shows.</summary>
    public Exchange? Last { get; set; }

    protected internal override bool SurvivesRedirect => true;

    public ref UpstreamAttempt this[int index] => ref _attempts[index];

    public ref UpstreamAttempt Current => ref _attempts[Count - 1];

    public void Begin(NativeSlice address, long nowMs, bool afterRedirect)
    {
        if (Count == _attempts.Length)
        {
            Array.Resize(ref _attempts, Count * 2);
        }
        _attempts[Count++] = new UpstreamAttempt
        {
            Address = address,
            StartMs = nowMs,
            ConnectMs = -1,
            HeaderMs = -1,
            ResponseMs = -1,
            AfterRedirect = afterRedirect,
        };
    }

    protected internal override void Reset()
    {
        Count = 0;
        Last = null;
    }
}
