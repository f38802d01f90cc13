// Why a head was refused, and the one table from reason to status and log text. Texts are nginx's, since log readers
// and intrusion filters match on them; nginx's log context appends " while reading client request line" (or "headers").
namespace Weir.Protocol.Http1;

/// <summary>Why bytes from a peer were refused.</summary>
public enum RejectReason : byte
{
    None,
    // The request line.
    InvalidMethod, InvalidTarget, InvalidRequestLine, InvalidVersion, UnsupportedVersion, InvalidMethodIn09,
    InvalidUri, InvalidTargetHost, BareCrInRequestLine,
    // Header lines.
    BareCrInHeader, FoldedHeader, EmptyHeaderName, SpaceInHeaderName, ControlInHeaderName, InvalidHeaderName, NoColon,
    ControlInHeaderValue, DuplicateHeader, TooManyHeaders,
    // Host and framing.
    MissingHost, DuplicateHost, InvalidHost, InvalidContentLength, LengthAndTransferEncoding,
    UnknownTransferEncoding, TransferEncodingIn10, DuplicateTransferEncoding, DuplicateContentLength,
    // Limits that the reader of the bytes enforces.
    RequestLineTooLong, HeaderLineTooLong, HeadersTooLarge, BodyTooLarge,
    // Chunked bodies.
    InvalidChunk, ChunkTooLarge, ChunkExtensionTooLong, InvalidTrailer, TrailersTooLarge,
    // Answers of upstream servers.
    InvalidStatusLine, InvalidUpstreamHeader, UpstreamDuplicateHeader, UpstreamInvalidContentLength,
    UpstreamLengthAndTransferEncoding, UpstreamUnknownTransferEncoding, UpstreamTooManyHeaders, UpstreamInvalidStatus,
}

/// <summary>What a reason means outside the parser.</summary>
public static class RejectReasons
{
    /// <summary>The status to answer with. 494 is nginx's internal code for heads that are too large: it goes out as
    /// 400 with a page of its own and <c>error_page 494</c> can catch it. Upstream faults are 502.</summary>
    public static int Status(RejectReason reason) => reason switch
    {
        RejectReason.None => 0,
        RejectReason.UnsupportedVersion => 505,
        RejectReason.UnknownTransferEncoding => 501,
        RejectReason.RequestLineTooLong => 414,
        RejectReason.HeaderLineTooLong or RejectReason.HeadersTooLarge or RejectReason.TooManyHeaders => 494,
        RejectReason.BodyTooLarge => 413,
        >= RejectReason.InvalidStatusLine => 502,
        _ => 400,
    };

    /// <summary>True when the rest of the log line needs the offending header line in quotes.</summary>
    public static bool NamesHeaderLine(RejectReason reason) => reason is RejectReason.DuplicateHeader
        or RejectReason.DuplicateHost or RejectReason.DuplicateTransferEncoding or RejectReason.DuplicateContentLength
        or RejectReason.BareCrInHeader or RejectReason.FoldedHeader or RejectReason.EmptyHeaderName
        or RejectReason.SpaceInHeaderName or RejectReason.ControlInHeaderName or RejectReason.InvalidHeaderName
        or RejectReason.NoColon or RejectReason.ControlInHeaderValue or RejectReason.HeaderLineTooLong;

    /// <summary>What the server was doing, as nginx's log context says it.</summary>
    public static string Action(RejectReason reason) => reason switch
    {
        >= RejectReason.InvalidMethod and <= RejectReason.BareCrInRequestLine or RejectReason.RequestLineTooLong =>
            "reading client request line",
        >= RejectReason.InvalidChunk and <= RejectReason.TrailersTooLarge => "reading client request body",
        >= RejectReason.InvalidStatusLine => "reading response header from upstream",
        _ => "reading client request headers",
    };

    /// <summary>The log text, without context and without the quoted line.</summary>
    public static string LogText(RejectReason reason) => reason switch
    {
        RejectReason.None => "",
        RejectReason.InvalidMethod => "client sent invalid method",
        RejectReason.InvalidTarget or RejectReason.InvalidRequestLine or RejectReason.BareCrInRequestLine =>
            "client sent invalid request",
        RejectReason.InvalidVersion => "client sent invalid request",
        RejectReason.UnsupportedVersion => "client sent invalid version",
        RejectReason.InvalidMethodIn09 => "client sent invalid method in HTTP/0.9 request",
        RejectReason.InvalidUri => "client sent invalid request",
        RejectReason.InvalidTargetHost => "client sent invalid host in request line",
        RejectReason.MissingHost => "client sent HTTP/1.1 request without \"Host\" header",
        RejectReason.DuplicateHost => "client sent duplicate host header",
        RejectReason.InvalidHost => "client sent invalid host header",
        RejectReason.InvalidContentLength =>
            "client sent invalid \"Content-Length\" header",
        RejectReason.LengthAndTransferEncoding =>
            "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
        RejectReason.UnknownTransferEncoding => "client sent unknown \"Transfer-Encoding\"",
        RejectReason.TransferEncodingIn10 => "client sent HTTP/1.0 request with \"Transfer-Encoding\" header",
        RejectReason.DuplicateHeader or RejectReason.DuplicateTransferEncoding
            or RejectReason.DuplicateContentLength => "client sent duplicate header line",
        RejectReason.TooManyHeaders => "client sent too many header lines",
        RejectReason.RequestLineTooLong => "client sent too long URI",
        RejectReason.HeaderLineTooLong => "client sent too long header line",
        RejectReason.HeadersTooLarge => "client sent too large request",
        RejectReason.BodyTooLarge => "client intended to send too large body",
        RejectReason.InvalidChunk or RejectReason.ChunkTooLarge or RejectReason.ChunkExtensionTooLong
            or RejectReason.InvalidTrailer or RejectReason.TrailersTooLarge => "client sent invalid chunked body",
        RejectReason.InvalidStatusLine => "upstream sent no valid HTTP/1.0 header",
        RejectReason.InvalidUpstreamHeader => "upstream sent invalid header",
        RejectReason.UpstreamDuplicateHeader => "upstream sent duplicate header line",
        RejectReason.UpstreamInvalidContentLength => "upstream sent invalid \"Content-Length\" header",
        RejectReason.UpstreamLengthAndTransferEncoding =>
            "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
        RejectReason.UpstreamUnknownTransferEncoding => "upstream sent unknown \"Transfer-Encoding\"",
        RejectReason.UpstreamTooManyHeaders => "upstream sent too many header lines",
        RejectReason.UpstreamInvalidStatus => "upstream sent invalid status",
        _ => "client sent invalid header line",
    };
}
