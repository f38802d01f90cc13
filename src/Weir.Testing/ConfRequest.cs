// A request as a test describes it. Immutable: With-methods give another one. No I/O, any thread.
using System.Text;

namespace Weir.Testing;

/// <summary>A request to a configuration under test.</summary>
public sealed record ConfRequest
{
    /// <summary>A request.</summary>
    /// <param name="method">GET, POST and the like.</param>
    /// <param name="url">An absolute URL, whose port chooses the listening address and whose host becomes the Host
    /// header; or a path, for the first listening address and the host "localhost".</param>
    /// <param name="headers">Header lines such as "Accept: text/html".</param>
    public ConfRequest(string method, string url, params string[] headers)
    {
        Method = method;
        Url = url;
        Headers = headers;
    }

    /// <summary>The method.</summary>
    public string Method { get; init; }

    /// <summary>The URL or path.</summary>
    public string Url { get; init; }

    /// <summary>Header lines, sent as they stand; one that begins with "Host:" replaces the URL's host.</summary>
    public IReadOnlyList<string> Headers { get; init; }

    /// <summary>The body; Content-Length is sent with it unless a header line says Transfer-Encoding or
    /// Content-Length. Null for none.</summary>
    public byte[]? Body { get; init; }

    /// <summary>The client's address.</summary>
    public string From { get; init; } = "127.0.0.1";

    /// <summary>The listening address as the configuration gives it ("10.0.0.5:8080", "unix:/run/x.sock"), where the
    /// URL's port does not say enough; null for the one of the URL's port.</summary>
    public string? To { get; init; }

    /// <summary>9 for nothing but the line, 10 for HTTP/1.0, 11 for HTTP/1.1.</summary>
    public int Version { get; init; } = 11;

    /// <summary>The same with one more header line.</summary>
    public ConfRequest WithHeader(string name, string value) =>
        this with { Headers = [.. Headers, $"{name}: {value}"] };

    /// <summary>The same with a text as its body, in UTF-8.</summary>
    public ConfRequest WithBody(string text) => this with { Body = Encoding.UTF8.GetBytes(text) };

    /// <summary>The same from another client.</summary>
    public ConfRequest FromAddress(string address) => this with { From = address };

    internal bool IsAbsolute => !Url.StartsWith('/') && Url != "*";

    internal (string Scheme, string Host, string Authority, int Port, string Target) Split()
    {
        if (!IsAbsolute)
        {
            return ("", "localhost", "localhost", 0, Url);
        }
        int scheme = Url.IndexOf("://", StringComparison.Ordinal);
        string name = scheme < 0 ? "" : Url[..scheme].ToLowerInvariant();
        if (name is not ("http" or "https"))
        {
            throw new ArgumentException($"\"{Url}\" is neither a path nor an http or https URL");
        }
        string rest = Url[(scheme + 3)..];
        int end = rest.IndexOfAny(['/', '?', '#']);
        string authority = end < 0 ? rest : rest[..end];
        string target = end < 0 ? "/" : rest[end..].Split('#')[0];
        if (!target.StartsWith('/'))
        {
            target = "/" + target;
        }
        int colon = authority.LastIndexOf(':');
        bool hasPort = colon > authority.LastIndexOf(']') && colon > 0;
        int port = hasPort && int.TryParse(authority.AsSpan(colon + 1), out int given) ? given
            : name == "https" ? 443 : 80;
        return (name, hasPort ? authority[..colon] : authority, authority, port, target);
    }

    internal byte[] ToBytes()
    {
        (_, _, string authority, _, string target) = Split();
        if (Version == 9)
        {
            return Encoding.Latin1.GetBytes($"{Method} {target}\r\n");
        }
        var text = new StringBuilder($"{Method} {target} HTTP/{Version / 10}.{Version % 10}\r\n");
        if (!Has("Host"))
        {
            text.Append("Host: ").Append(authority).Append("\r\n");
        }
        foreach (string line in Headers)
        {
            text.Append(line).Append("\r\n");
        }
        if (Body is not null && !Has("Content-Length") && !Has("Transfer-Encoding"))
        {
            text.Append("Content-Length: ").Append(Body.Length).Append("\r\n");
        }
        return [.. Encoding.Latin1.GetBytes(text.Append("\r\n").ToString()), .. Body ?? []];
    }

    private bool Has(string name) =>
        Headers.Any(h => h.StartsWith(name + ":", StringComparison.OrdinalIgnoreCase));
}
