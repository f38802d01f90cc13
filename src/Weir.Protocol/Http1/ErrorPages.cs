// The pages that a status without a body of its own is answered with: head, optional note, tail, optional padding, each
// as constant bytes, to be sent one after the other. Same markup as nginx's, with our name in the tail.
namespace Weir.Protocol.Http1;

/// <summary>The built-in error pages.</summary>
public static class ErrorPages
{
    /// <summary>The page up to the tail; empty when nginx has no page for this status (the answer has an empty
    /// body).</summary>
    public static ReadOnlySpan<byte> Head(int status) => status switch
    {
        301 => "<html>\r\n<head><title>301 Moved Permanently</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>301 Moved Permanently</h1></center>\r\n"u8,
        302 => "<html>\r\n<head><title>302 Found</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>302 Found</h1></center>\r\n"u8,
        303 => "<html>\r\n<head><title>303 See Other</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>303 See Other</h1></center>\r\n"u8,
        307 => "<html>\r\n<head><title>307 Temporary Redirect</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>307 Temporary Redirect</h1></center>\r\n"u8,
        308 => "<html>\r\n<head><title>308 Permanent Redirect</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>308 Permanent Redirect</h1></center>\r\n"u8,
        400 => "<html>\r\n<head><title>400 Bad Request</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>400 Bad Request</h1></center>\r\n"u8,
        401 => "<html>\r\n<head><title>401 Authorization Required</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>401 Authorization Required</h1></center>\r\n"u8,
        402 => "<html>\r\n<head><title>402 Payment Required</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>402 Payment Required</h1></center>\r\n"u8,
        403 => "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>403 Forbidden</h1></center>\r\n"u8,
        404 => "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>404 Not Found</h1></center>\r\n"u8,
        405 => "<html>\r\n<head><title>405 Not Allowed</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>405 Not Allowed</h1></center>\r\n"u8,
        406 => "<html>\r\n<head><title>406 Not Acceptable</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>406 Not Acceptable</h1></center>\r\n"u8,
        408 => "<html>\r\n<head><title>408 Request Time-out</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>408 Request Time-out</h1></center>\r\n"u8,
        409 => "<html>\r\n<head><title>409 Conflict</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>409 Conflict</h1></center>\r\n"u8,
        410 => "<html>\r\n<head><title>410 Gone</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>410 Gone</h1></center>\r\n"u8,
        411 => "<html>\r\n<head><title>411 Length Required</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>411 Length Required</h1></center>\r\n"u8,
        412 => "<html>\r\n<head><title>412 Precondition Failed</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>412 Precondition Failed</h1></center>\r\n"u8,
        413 => "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>413 Request Entity Too Large</h1></center>\r\n"u8,
        414 => "<html>\r\n<head><title>414 Request-URI Too Large</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>414 Request-URI Too Large</h1></center>\r\n"u8,
        415 => "<html>\r\n<head><title>415 Unsupported Media Type</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>415 Unsupported Media Type</h1></center>\r\n"u8,
        416 => "<html>\r\n<head><title>416 Requested Range Not Satisfiable</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>416 Requested Range Not Satisfiable</h1></center>\r\n"u8,
        421 => "<html>\r\n<head><title>421 Misdirected Request</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>421 Misdirected Request</h1></center>\r\n"u8,
        425 => "<html>\r\n<head><title>425 Too Early</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>425 Too Early</h1></center>\r\n"u8,
        429 => "<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>429 Too Many Requests</h1></center>\r\n"u8,
        498 => "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>404 Not Found</h1></center>\r\n"u8,
        500 => "<html>\r\n<head><title>500 Internal Server Error</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>500 Internal Server Error</h1></center>\r\n"u8,
        501 => "<html>\r\n<head><title>501 Not Implemented</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>501 Not Implemented</h1></center>\r\n"u8,
        502 => "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>502 Bad Gateway</h1></center>\r\n"u8,
        503 => "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n"u8,
        504 => "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>504 Gateway Time-out</h1></center>\r\n"u8,
        505 => "<html>\r\n<head><title>505 HTTP Version Not Supported</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>505 HTTP Version Not Supported</h1></center>\r\n"u8,
        507 => "<html>\r\n<head><title>507 Insufficient Storage</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>507 Insufficient Storage</h1></center>\r\n"u8,
        494 => "<html>\r\n<head><title>400 Request Header Or Cookie Too Large</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>400 Bad Request</h1></center>\r\n<center>Request Header Or Cookie Too Large</center>\r\n"u8,
        495 => "<html>\r\n<head><title>400 The SSL certificate error</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>400 Bad Request</h1></center>\r\n<center>The SSL certificate error</center>\r\n"u8,
        496 => "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>\r\n<body>\r\n"u8 +
            "<center><h1>400 Bad Request</h1></center>\r\n<center>No required SSL certificate was sent</center>\r\n"u8,
        497 => "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n"u8 +
            "<body>\r\n"u8 +
            "<center><h1>400 Bad Request</h1></center>\r\n"u8 +
            "<center>The plain HTTP request was sent to HTTPS port</center>\r\n"u8,
        _ => default,
    };

    /// <summary>The status that goes on the wire: nginx's own codes for refused requests are 400.</summary>
    public static int WireStatus(int status) => status is >= 494 and <= 497 ? 400 : status;

    /// <summary>The page's end with <c>server_tokens off</c>.</summary>
    public static ReadOnlySpan<byte> Tail => "<hr><center>weir</center>\r\n</body>\r\n</html>\r\n"u8;

    /// <summary>What stands around the version text in the page's end with <c>server_tokens on</c>.</summary>
    public static ReadOnlySpan<byte> TailStart => "<hr><center>"u8;
    public static ReadOnlySpan<byte> TailEnd => "</center>\r\n</body>\r\n</html>\r\n"u8;

    /// <summary>Comments that make a short page long enough for the browsers that would show one of their
    /// own.</summary>
    public static ReadOnlySpan<byte> MsiePadding =>
        "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n"u8 +
        "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n"u8 +
        "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n"u8 +
        "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n"u8 +
        "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n"u8 +
        "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n"u8;

    /// <summary>What stands around the location in a refresh page for browsers (<c>msie_refresh</c>).</summary>
    public static ReadOnlySpan<byte> RefreshStart => "<html><head><meta http-equiv=\"Refresh\" content=\"0; URL="u8;
    public static ReadOnlySpan<byte> RefreshEnd => "\"></head><body></body></html>\r\n"u8;
}
