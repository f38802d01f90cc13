// Every case in which Weir answers otherwise than the nginx that the machine has, with the reason. A case that stands
// here must really differ: one that no longer does fails as stale, so the list never outlives its reasons.
namespace Weir.Tests.Differential;

internal static class KnownDifferences
{
    private const string _refusedHead =
        "a 412 says keep-alive and the connection stays; nginx says keep-alive and closes";

    private const string _malformed =
        "a malformed request ends its stream with PROTOCOL_ERROR (RFC 9113, 8.1.1); nginx answers it with 400";

    private const string _connectionFault =
        "ends the connection with the code that RFC 9113 names; nginx 1.22 reads on";

    private const string _logged =
        "a refused request is logged with the fields that were read; nginx stops at the first that it refuses";

    private const string _grpcStatus = "a client of gRPC is told in gRPC that no server answered; nginx sends its page";

    /// <summary>Those that nginx shows only when the pieces of a connection happen to arrive together.</summary>
    public static readonly IReadOnlySet<string> Varying =
        new HashSet<string> { "grpc: a server that resets in the middle" };

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
        ["framing: a version with a big minor number"] = "a version has one digit on each side (RFC 9112, 2.3)",
        ["framing: a chunk whose size is empty"] =
            "an answer that wants no body is sent before the body is looked at, and the connection ends after it",
        ["framing: a Host with a user's name"] = "a host has no user before it (RFC 9110, 4.2.4); nginx reads on",
        ["proxy: a 100 Continue before the answer"] =
            "an interim answer of the upstream is not the answer; nginx before 1.29 takes it for one",
        ["proxy: an answer that is garbage"] =
            "an answer without a status line is a 502; nginx 1.22 passes it on as HTTP/0.9",
        ["http2: a condition that fails"] =
            "as over HTTP/1, the answer is complete; nginx says in its log that it is not",
        ["http2: 444"] = "444 ends the stream; the code says that it was the server's will, not the client's fault",
        ["http2: a path that leaves the root"] = _logged,
        ["http2: no authority at all"] = _logged,
        ["http2: a field twice"] = "fields that come twice are joined in variables, as nginx does since 1.23",
        ["http2: an authority and its host"] = "a host beside the same authority is no fault (RFC 9113, 8.3.1)",
        ["http2: DATA on an idle stream"] = _connectionFault,
        ["http2: a frame that is too large"] = _connectionFault,
        ["http2: fields that are too large"] = "a 400 for this request alone; nginx ends the connection",
        ["http2: a body longer than it says"] = _malformed,
        ["http2: a body shorter than it says"] = _malformed,
        ["http2: an unknown pseudo-header"] = _malformed,
        ["http2: a pseudo-header twice"] = _malformed,
        ["http2: no path"] = _malformed,
        ["http2: connection: close"] = _malformed,
        ["grpc: a server that is not there"] = _grpcStatus,
        ["grpc: a server that is late"] = _grpcStatus,
        ["grpc: a server that resets"] = _grpcStatus,
        ["grpc: a server that closes"] = _grpcStatus,
        ["grpc: a server that resets in the middle"] =
            "what came before the reset reaches the client; nginx drops it where both arrive together",
        ["grpc: Server and Date that are passed"] = "a passed Server or Date stands where the server's own would",
        ["grpc: an interim answer"] =
            "an interim answer of the upstream is not the answer; nginx before 1.29 takes it for one",
    };
}
