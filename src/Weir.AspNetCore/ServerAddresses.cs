// Addresses between their two forms: "http://host:port" of ASP.NET Core and those of the server's listeners.
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Http;

namespace Weir.AspNetCore;

internal static class AddressScheme
{
    internal const string Https = "https://";
}

/// <summary>An address that was asked for, and the listeners it becomes.</summary>
internal sealed record ServerAddress(string Url, bool IsHttps, IReadOnlyList<string> Listeners)
{
    /// <exception cref="InvalidOperationException">Nothing of ours can serve it.</exception>
    internal static ServerAddress Parse(string url)
    {
        BindingAddress address = BindingAddress.Parse(url);
        bool isHttps = address.Scheme.Equals("https", StringComparison.OrdinalIgnoreCase);
        if (!isHttps && !address.Scheme.Equals("http", StringComparison.OrdinalIgnoreCase))
        {
            throw new InvalidOperationException(
                $"\"{url}\" cannot be served: \"{address.Scheme}\" is not a scheme of this server: http and https "
                + "are");
        }
        if (address.PathBase.Length > 0)
        {
            throw new InvalidOperationException(
                $"\"{url}\" has a path: use IApplicationBuilder.UsePathBase() for what all paths begin with");
        }
        return new ServerAddress(url, isHttps, ListenersOf(address));
    }

    private static string[] ListenersOf(BindingAddress address)
    {
        if (address.IsUnixPipe)
        {
            return ["unix:" + address.UnixPipePath];
        }
        int port = address.Port;
        if (address.Host.Equals("localhost", StringComparison.OrdinalIgnoreCase))
        {
            // One free port of two families cannot be asked for.
            return port != 0 && HasAddress(IPAddress.IPv6Loopback) ? [$"127.0.0.1:{port}", $"[::1]:{port}"]
                : [$"127.0.0.1:{port}"];
        }
        if (IPAddress.TryParse(address.Host.Trim('[', ']'), out IPAddress? ip))
        {
            return [ip.AddressFamily == AddressFamily.InterNetworkV6 ? $"[{ip}]:{port}" : $"{ip}:{port}"];
        }
        // "*", "+" and names: every address of the machine, as in any server of ASP.NET Core.
        return port != 0 && HasAddress(IPAddress.IPv6Any) ? [$"0.0.0.0:{port}", $"[::]:{port}"] : [$"0.0.0.0:{port}"];
    }

    /// <summary>The address as it is served, for logs and for who asked for any port.</summary>
    internal string Bound(IReadOnlyList<string> listeners)
    {
        string first = listeners[0];
        if (first.Contains("unix:", StringComparison.Ordinal) || !Url.EndsWith(":0", StringComparison.Ordinal))
        {
            return Url;
        }
        string port = first[(first.LastIndexOf(':') + 1)..];
        return string.Concat(Url.AsSpan(0, Url.LastIndexOf(':') + 1), port);
    }

    private static bool HasAddress(IPAddress address)
    {
        if (!Socket.OSSupportsIPv6)
        {
            return false;
        }
        try
        {
            using var probe = new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp);
            probe.Bind(new IPEndPoint(address, 0));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
