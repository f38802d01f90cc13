// An application behind `weir proxy`, as people write it: http://localhost:3000/base, localhost:3000, :3000, 3000,
// unix:/path. Pure.
using Weir.Kernel;

namespace Weir;

/// <summary>One server of the upstream group.</summary>
/// <param name="Server">As the `server` directive has it.</param>
/// <param name="Uri">The path that replaces "/", or empty to pass the client's on as it is.</param>
internal sealed record ProxyTarget(string Server, string Uri)
{
    public static bool TryParse(string text, out ProxyTarget? target, out string? error)
    {
        target = null;
        string rest = text;
        int scheme = text.IndexOf("://", StringComparison.Ordinal);
        if (scheme >= 0)
        {
            string name = text[..scheme].ToLowerInvariant();
            if (name is not ("http" or "ws"))
            {
                error = name is "https" or "wss"
                    ? "TLS to an application is not supported by this build of weir yet; use http://"
                    : $"\"{name}\" is not a protocol that weir passes on; use http://";
                return false;
            }
            rest = text[(scheme + 3)..];
        }
        if (rest.StartsWith("unix:", StringComparison.Ordinal))
        {
            return Finish(rest, "", out target, out error);
        }
        int slash = rest.IndexOf('/', StringComparison.Ordinal);
        string host = slash < 0 ? rest : rest[..slash];
        // "http://host/" means the same as "http://host": what the client asked for, unchanged.
        string uri = slash < 0 || slash == rest.Length - 1 ? "" : rest[slash..];
        if (uri.AsSpan().ContainsAny(" ?#;{}$\"'\\"))
        {
            error = "a path of plain characters is expected after the host";
            return false;
        }
        if (host.Length > 0 && host.All(char.IsAsciiDigit))
        {
            host = "localhost:" + host;
        }
        else if (host.StartsWith(':'))
        {
            host = "localhost" + host;
        }
        return Finish(host, uri, out target, out error);
    }

    private static bool Finish(string server, string uri, out ProxyTarget? target, out string? error)
    {
        target = null;
        error = null;
        bool isPath = server.StartsWith("unix:", StringComparison.Ordinal);
        if (ConfQuote.Of(server) is not { } quoted || (!isPath && quoted != server && !server.StartsWith('[')))
        {
            error = "this is no host name";
            return false;
        }
        if (!isPath)
        {
            int colon = server.EndsWith(']') ? -1 : server.LastIndexOf(':');
            string host = colon < 0 ? server : server[..colon];
            if (host.Length == 0)
            {
                error = "there is no host in it";
                return false;
            }
            if (colon >= 0 && (!int.TryParse(server.AsSpan(colon + 1), out int port) || port is < 1 or > 65535))
            {
                error = $"\"{server[(colon + 1)..]}\" is no port";
                return false;
            }
            quoted = server;
        }
        else if (server.Length == 5 || SocketAddress.Unix(server[5..]) is null)
        {
            error = "this is no path of a unix socket";
            return false;
        }
        target = new ProxyTarget(quoted, uri);
        return true;
    }
}
