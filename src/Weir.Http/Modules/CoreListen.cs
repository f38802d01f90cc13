// listen: addresses and their socket options.
using Weir.Conf;
using Weir.Kernel;

namespace Weir.Http.Modules;

internal static class CoreListen
{
    internal static void AddDefault(DirectiveUse use, ServerConf server)
    {
        var address = SocketAddress.Parse(Environment.IsPrivilegedProcess ? "*:80" : "*:8000");
        use.Build.Configuration.Listens.Add(new ListenUse(new ListenSpec { Address = address }, server, false, false,
            false,
            false, false, use.Directive.Span));
    }

    internal static void Apply(DirectiveUse use, ServerConf server)
    {
        server.HasListen = true;
        if (use.Count == 1 && use.Build.PlainListens.TryGetValue(use[0], out ListenSpec[]? known))
        {
            Add(use, known, server);
            return;
        }
        SocketAddress[] addresses = Addresses(use);
        if (addresses.Length == 0)
        {
            return;
        }
        if (use.Count == 1)
        {
            ListenSpec[] plain = [.. addresses.Select(static a => new ListenSpec { Address = a })];
            use.Build.PlainListens.Add(use[0], plain);
            Add(use, plain, server);
            return;
        }
        var spec = new ListenSpec { Address = addresses[0] };
        bool isDefault = false, proxyProtocol = false, tls = false, http2 = false, hasOptions = false;
        for (int i = 1; i < use.Count; i++)
        {
            string word = use[i];
            switch (word)
            {
                case "default" or "default_server":
                    isDefault = true;
                    break;
                case "bind":
                    hasOptions = true;
                    break;
                case "proxy_protocol":
                    proxyProtocol = true;
                    break;
                case "ssl":
                    tls = true;
                    break;
                case "http2":
                    http2 = true;
                    use.Walker.Warn(use.Directive, "the \"listen ... http2\" directive is deprecated, use the "
                        + "\"http2\" directive instead");
                    break;
                case "quic":
                    use.Error(i, "the \"quic\" parameter is not supported by this build of weir yet");
                    break;
                case "reuseport":
                    spec = spec with { ReusePort = true };
                    hasOptions = true;
                    break;
                case "deferred":
                    spec = spec with { DeferAccept = true };
                    hasOptions = true;
                    break;
                default:
                    if (!TryOption(use, i, word, ref spec))
                    {
                        use.InvalidParameter(i);
                    }
                    hasOptions = true;
                    break;
            }
        }
        foreach (SocketAddress address in addresses)
        {
            use.Build.Configuration.Listens.Add(new ListenUse(spec with { Address = address }, server, isDefault,
                proxyProtocol,
                tls, http2, hasOptions, use.Directive.Args[0].Span));
        }
    }

    /// <summary>A `listen` of nothing but an address, as most are: all that name it share what it means.</summary>
    private static void Add(DirectiveUse use, ListenSpec[] plain, ServerConf server)
    {
        foreach (ListenSpec spec in plain)
        {
            use.Build.Configuration.Listens.Add(new ListenUse(spec, server, false, false, false, false, false,
                use.Directive.Args[0].Span));
        }
    }

    private static bool TryOption(DirectiveUse use, int i, string word, ref ListenSpec spec)
    {
        int equals = word.IndexOf('=');
        if (equals < 0)
        {
            return false;
        }
        string value = word[(equals + 1)..];
        switch (word[..equals])
        {
            case "backlog":
                if (!int.TryParse(value, out int backlog) || backlog == 0)
                {
                    use.Error(i, $"invalid backlog \"{value}\"");
                    return true;
                }
                spec = spec with { Backlog = backlog };
                return true;
            case "rcvbuf" or "sndbuf":
                if (!ConfValues.TrySize(value, out long bytes) || bytes > int.MaxValue)
                {
                    use.Error(i, $"invalid {word[..equals]} \"{value}\"");
                    return true;
                }
                spec = word[0] == 'r' ? spec with { ReceiveBufferBytes = (int)bytes }
                    : spec with { SendBufferBytes = (int)bytes };
                return true;
            case "fastopen":
                if (!int.TryParse(value, out int queue))
                {
                    use.Error(i, $"invalid fastopen \"{value}\"");
                    return true;
                }
                spec = spec with { FastOpenQueue = queue };
                return true;
            case "ipv6only":
                if (value is not ("on" or "off"))
                {
                    use.Error(i, $"invalid ipv6only flags \"{value}\"");
                    return true;
                }
                spec = spec with { Ipv6Only = value == "on" };
                return true;
            case "so_keepalive":
                return TryKeepAlive(use, i, value, ref spec);
            default:
                return false;
        }
    }

    private static bool TryKeepAlive(DirectiveUse use, int i, string value, ref ListenSpec spec)
    {
        if (value is "on" or "off")
        {
            spec = spec with { KeepAlive = value == "on" ? ListenKeepAlive.On : ListenKeepAlive.Off };
            return true;
        }
        string[] parts = value.Split(':');
        long idle = 0, interval = 0, count = 0;
        if (parts.Length != 3 || value == "::"
            || parts[0].Length > 0 && !ConfValues.TrySec(parts[0], out idle)
            || parts[1].Length > 0 && !ConfValues.TrySec(parts[1], out interval)
            || parts[2].Length > 0 && !ConfValues.TryNumber(parts[2], out count))
        {
            use.Error(i, $"invalid so_keepalive value: \"{value}\"");
            return true;
        }
        spec = spec with
        {
            KeepAlive = ListenKeepAlive.On,
            KeepIdleSeconds = (int)idle,
            KeepIntervalSeconds = (int)interval,
            KeepCount = (int)count,
        };
        return true;
    }

    private static SocketAddress[] Addresses(DirectiveUse use)
    {
        string text = use[0];
        if (SocketAddress.TryParse(text, 80, out SocketAddress? address, out string error))
        {
            return [address!];
        }
        int colon = text.LastIndexOf(':');
        string host = colon < 0 ? text : text[..colon];
        int port = 80;
        bool hostIsName = host.Length > 0 && host.Any(char.IsAsciiLetter)
            && host.All(static c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_');
        if (!hostIsName || colon >= 0 && (!int.TryParse(text.AsSpan(colon + 1), out port) || port is < 1 or > 65535))
        {
            use.Error(0, $"{error} in \"{text}\" of the \"listen\" directive");
            return [];
        }
        SocketAddress[]? found = use.Build.Resources.Resolve(host, port, out string? why);
        if (found is null)
        {
            use.Error(0, $"{why} in \"{text}\" of the \"listen\" directive");
            return [];
        }
        return found;
    }
}
