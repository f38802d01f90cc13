// Whole answers that the server gives by itself where no request's machinery is at hand: a refusal at the door, the
// watchdog's word for a handler that does not come back. Bytes, made once.
using System.Globalization;
using System.Text;
using Weir.Protocol.Http1;

namespace Weir.Server;

internal static class ServerAnswers
{
    /// <summary>503 with Retry-After, and the end of the connection.</summary>
    internal static byte[] Late(int retryAfterSeconds)
    {
        string page = Page(503);
        return Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture,
            $"HTTP/1.1 503 Service Temporarily Unavailable\r\nContent-Type: text/html\r\n"
            + $"Content-Length: {page.Length}\r\nRetry-After: {retryAfterSeconds}\r\nConnection: close\r\n\r\n{page}"));
    }

    /// <summary>The built-in page of a status.</summary>
    internal static string Page(int status) =>
        Encoding.ASCII.GetString(ErrorPages.Head(status)) + "<hr><center>weir</center>\r\n</body>\r\n</html>\r\n";
}
