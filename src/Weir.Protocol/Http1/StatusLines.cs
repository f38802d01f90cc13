// Status lines with nginx's reason phrases, and their text alone for error pages and logs. Constant bytes only.
namespace Weir.Protocol.Http1;

/// <summary>Status lines of responses.</summary>
public static class StatusLines
{
    /// <summary>Room for any status line.</summary>
    public const int LengthMax = 64;

    /// <summary>The whole line with its line end; empty for a status without a phrase (see
    /// <see cref="Write"/>).</summary>
    public static ReadOnlySpan<byte> StatusLine(int status) => status switch
    {
        100 => "HTTP/1.1 100 Continue\r\n"u8,
        101 => "HTTP/1.1 101 Switching Protocols\r\n"u8,
        103 => "HTTP/1.1 103 Early Hints\r\n"u8,
        200 => "HTTP/1.1 200 OK\r\n"u8,
        201 => "HTTP/1.1 201 Created\r\n"u8,
        202 => "HTTP/1.1 202 Accepted\r\n"u8,
        204 => "HTTP/1.1 204 No Content\r\n"u8,
        206 => "HTTP/1.1 206 Partial Content\r\n"u8,
        301 => "HTTP/1.1 301 Moved Permanently\r\n"u8,
        302 => "HTTP/1.1 302 Moved Temporarily\r\n"u8,
        303 => "HTTP/1.1 303 See Other\r\n"u8,
        304 => "HTTP/1.1 304 Not Modified\r\n"u8,
        307 => "HTTP/1.1 307 Temporary Redirect\r\n"u8,
        308 => "HTTP/1.1 308 Permanent Redirect\r\n"u8,
        400 => "HTTP/1.1 400 Bad Request\r\n"u8,
        401 => "HTTP/1.1 401 Unauthorized\r\n"u8,
        402 => "HTTP/1.1 402 Payment Required\r\n"u8,
        403 => "HTTP/1.1 403 Forbidden\r\n"u8,
        404 => "HTTP/1.1 404 Not Found\r\n"u8,
        405 => "HTTP/1.1 405 Not Allowed\r\n"u8,
        406 => "HTTP/1.1 406 Not Acceptable\r\n"u8,
        408 => "HTTP/1.1 408 Request Time-out\r\n"u8,
        409 => "HTTP/1.1 409 Conflict\r\n"u8,
        410 => "HTTP/1.1 410 Gone\r\n"u8,
        411 => "HTTP/1.1 411 Length Required\r\n"u8,
        412 => "HTTP/1.1 412 Precondition Failed\r\n"u8,
        413 => "HTTP/1.1 413 Request Entity Too Large\r\n"u8,
        414 => "HTTP/1.1 414 Request-URI Too Large\r\n"u8,
        415 => "HTTP/1.1 415 Unsupported Media Type\r\n"u8,
        416 => "HTTP/1.1 416 Requested Range Not Satisfiable\r\n"u8,
        421 => "HTTP/1.1 421 Misdirected Request\r\n"u8,
        425 => "HTTP/1.1 425 Too Early\r\n"u8,
        429 => "HTTP/1.1 429 Too Many Requests\r\n"u8,
        500 => "HTTP/1.1 500 Internal Server Error\r\n"u8,
        501 => "HTTP/1.1 501 Not Implemented\r\n"u8,
        502 => "HTTP/1.1 502 Bad Gateway\r\n"u8,
        503 => "HTTP/1.1 503 Service Temporarily Unavailable\r\n"u8,
        504 => "HTTP/1.1 504 Gateway Time-out\r\n"u8,
        505 => "HTTP/1.1 505 HTTP Version Not Supported\r\n"u8,
        507 => "HTTP/1.1 507 Insufficient Storage\r\n"u8,
        _ => default,
    };

    /// <summary>Writes the line for any status and returns its length. Without a known phrase the line ends after the
    /// digits and a space, as nginx writes it.</summary>
    public static int Write(int status, Span<byte> destination)
    {
        ReadOnlySpan<byte> line = StatusLine(status);
        if (!line.IsEmpty)
        {
            line.CopyTo(destination);
            return line.Length;
        }
        "HTTP/1.1 "u8.CopyTo(destination);
        int n = 9 + WriteNumber(status, destination[9..]);
        " \r\n"u8.CopyTo(destination[n..]);
        return n + 3;
    }

    /// <summary>"404 Not Found"; empty for a status without a phrase.</summary>
    public static ReadOnlySpan<byte> Text(int status)
    {
        ReadOnlySpan<byte> line = StatusLine(status);
        return line.IsEmpty ? default : line[9..^2];
    }

    /// <summary>"Not Found"; empty for a status without a phrase.</summary>
    public static ReadOnlySpan<byte> Phrase(int status)
    {
        ReadOnlySpan<byte> line = StatusLine(status);
        return line.IsEmpty ? default : line[13..^2];
    }

    private static int WriteNumber(int value, Span<byte> destination)
    {
        value = Math.Clamp(value, 0, 99999);
        System.Buffers.Text.Utf8Formatter.TryFormat(value, destination, out int written,
            new System.Buffers.StandardFormat('D', 3));
        return written;
    }
}
