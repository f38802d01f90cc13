// Every case in which Weir answers otherwise than the nginx that the machine has, with the reason. A case that stands
// here must really differ: one that no longer does fails as stale, so the list never outlives its reasons.
namespace Weir.Tests.Differential;

internal static class KnownDifferences
{
    private const string _refusedHead =
        "a 412 says keep-alive and the connection stays; nginx says keep-alive and closes";

    /// <summary>Case id -> why the answers differ.</summary>
    public static readonly IReadOnlyDictionary<string, string> Reasons = new Dictionary<string, string>
    {
        ["files: If-Match"] = _refusedHead,
        ["files: If-Unmodified-Since"] = _refusedHead,
        ["connection: 100-continue for a body nobody wants"] =
            "a client that waits is answered at once; nginx asks for the body and then discards it (RFC 9110, 10.1.1)",
        ["proxy: a plain proxy_pass"] =
            "fields that Connection names are meant for the next hop only (RFC 9110, 7.6.1); nginx 1.22 passes them on",
        ["proxy: headers set and hidden"] =
            "a passed Server field stands where the server's own would; nginx puts it among the upstream's",
        ["framing: a header without a colon"] =
            "a line that is no header is refused (RFC 9112, 2.2); nginx drops it under ignore_invalid_headers",
        ["proxy: a 100 Continue before the answer"] =
            "an interim answer of the upstream is not the answer; nginx before 1.29 takes it for one",
        ["proxy: an answer that is garbage"] =
            "an answer without a status line is a 502; nginx 1.22 passes it on as HTTP/0.9",
    };
}
