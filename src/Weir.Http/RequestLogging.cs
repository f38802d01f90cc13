// Error log lines of a request, with nginx's context behind the message: client, server, request, upstream, host,
// referrer. Not on the data path: a line is written only when something is wrong or `debug` is on.
using System.Text;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

public sealed partial class HttpRequest
{
    /// <summary>What the request is doing, as nginx appends it (" while reading client request line"); null for
    /// nothing.</summary>
    public string? LogAction { get; set; }

    /// <summary>The upstream as the log shows it; null when none is involved.</summary>
    public string? LogUpstream { get; set; }

    /// <summary>Whether an error log line of this level would be written.</summary>
    public bool Logs(LogLevel level) => Log.Enabled(level);

    /// <summary>What a failed receive is told as.</summary>
    internal static string Failure(Connection connection) => connection.Fault ?? "recv() failed";

    /// <summary>The error number beside it; 0 where the words say it all.</summary>
    internal static int FailureNumber(Connection connection, int error) => connection.Fault is null ? error : 0;

    /// <summary>Writes a line to the error log of the request's location, with the request's context.</summary>
    public void LogError(LogLevel level, string message, int errno = 0)
    {
        Log log = Log;
        if (!log.Enabled(level))
        {
            return;
        }
        if (level == LogLevel.Debug)
        {
            log.Write(level, message, errno, Connection.Number);
            return;
        }
        var line = new StringBuilder(message);
        if (errno != 0)
        {
            line.Append(" (").Append(errno).Append(": ").Append(Errno.Describe(errno)).Append(')');
        }
        if (LogAction is not null)
        {
            line.Append(" while ").Append(LogAction);
        }
        line.Append(", client: ").Append(FormatAddress(ClientAddress.IsEmpty ? Connection.PeerAddress
            : ClientAddress.Span));
        line.Append(", server: ").Append(Server.PrimaryName);
        if (!RequestLine.IsEmpty)
        {
            line.Append(", request: \"").Append(Shown(RequestLine)).Append('"');
        }
        if (!IsMain)
        {
            line.Append(", subrequest: \"").Append(Shown(Uri)).Append('"');
        }
        if (LogUpstream is not null)
        {
            line.Append(", upstream: \"").Append(LogUpstream).Append('"');
        }
        NativeSlice host = HeadBytes.IsEmpty ? default : Header(KnownHeader.Host);
        if (!host.IsEmpty)
        {
            line.Append(", host: \"").Append(Shown(host)).Append('"');
        }
        NativeSlice referrer = HeadBytes.IsEmpty ? default : Header(KnownHeader.Referer);
        if (!referrer.IsEmpty)
        {
            line.Append(", referrer: \"").Append(Shown(referrer)).Append('"');
        }
        log.Write(level, line.ToString(), 0, Connection.Number);
    }

    /// <summary>As much of a text as a line of the log holds: what a client sends may be megabytes.</summary>
    internal static string Shown(NativeSlice text) =>
        (text.Length > Weir.Kernel.Log.LineBytesMax ? text.Slice(0, Weir.Kernel.Log.LineBytesMax) : text).ToString();

    /// <summary>Whether the story of the request is told (`error_log … debug`). Guards every call of <see
    /// cref="Tell"/>.</summary>
    internal bool IsTold => Log.Enabled(LogLevel.Debug);

    /// <summary>A debug line in nginx's manner.</summary>
    internal void Tell(string text) => Log.Write(LogLevel.Debug, text, 0, Connection.Number);

    /// <summary>The request as it was understood: line, normalised URI, arguments, header lines.</summary>
    internal void TellHead()
    {
        Tell($"http request line: \"{RequestLine}\"");
        Tell($"http uri: \"{Uri}\"");
        Tell($"http args: \"{Args}\"");
        foreach (ref readonly HeaderField field in Head.Fields)
        {
            string text = Encoding.Latin1.GetString(field.Line(HeadBytes.Span));
            Tell(field.Dropped ? $"client sent invalid header line: \"{text}\"" : $"http header: \"{text}\"");
        }
    }

    internal static string FormatAddress(ReadOnlySpan<byte> native)
    {
        if (native.Length < 2)
        {
            return "unix:";
        }
        Span<byte> text = stackalloc byte[SocketAddress.TextBytesMax];
        int n = SocketAddress.Format(native, text, withPort: false);
        return Encoding.Latin1.GetString(text[..n]);
    }
}
