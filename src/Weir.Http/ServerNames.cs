// Choosing a server by name, with nginx's order: exact, the longest wildcard at the start (*.example.com,
// .example.com),
// the longest wildcard at the end (www.example.*), regular expressions in order of appearance, else the default server.
// Built with the configuration, frozen afterwards, allocates nothing.
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http;

/// <summary>A server_name as written.</summary>
public sealed record ServerName(string Text, Regex? Regex);

/// <summary>The names of one listening address.</summary>
public sealed class ServerNames(NativeArena memory)
{
    private readonly ByteTable<ServerConf> _exact = new();
    private readonly ByteTable<ServerConf> _head = new();
    private readonly ByteTable<ServerConf> _tail = new();
    private readonly List<(Regex Regex, ServerConf Server)> _regexes = [];

    public bool IsEmpty => _exact.Count + _head.Count + _tail.Count + _regexes.Count == 0;

    /// <summary>A match by a regular expression sets captures: it cannot be remembered.</summary>
    public bool HasRegexes => _regexes.Count > 0;

    /// <summary>Adds a name; false when another server of the address has it already (nginx ignores it with a
    /// warning).</summary>
    public bool TryAdd(ServerName name, ServerConf server)
    {
        if (name.Regex is not null)
        {
            _regexes.Add((name.Regex, server));
            return true;
        }
        string text = name.Text.ToLowerInvariant();
        if (text.StartsWith("*.", StringComparison.Ordinal))
        {
            return _head.TryAdd(memory.Store(text[1..]), server);
        }
        if (text.StartsWith('.'))
        {
            return _exact.TryAdd(memory.Store(text[1..]), server) & _head.TryAdd(memory.Store(text), server);
        }
        if (text.EndsWith(".*", StringComparison.Ordinal))
        {
            return _tail.TryAdd(memory.Store(text[..^1]), server);
        }
        return _exact.TryAdd(memory.Store(text), server);
    }

    /// <summary>The server of a host (lower case, no port, no final dot), or null for the default one.</summary>
    public ServerConf? Find(HttpRequest r, NativeSlice host, out bool failed)
    {
        failed = false;
        if (FindPlain(host.Span) is { } server)
        {
            return server;
        }
        foreach ((Regex regex, ServerConf candidate) in _regexes)
        {
            switch (regex.Match(r, host))
            {
                case RegexOutcome.Match:
                    return candidate;
                case RegexOutcome.Failed:
                    r.LogError(LogLevel.Alert,
                        $"pcre2_match() failed: match limit on \"{host}\" using \"{regex.Source}\"");
                    failed = true;
                    return null;
            }
        }
        return null;
    }

    /// <summary>The same without a request, for the name in a TLS handshake: captures are set by the request's own
    /// Host later.</summary>
    public ServerConf? Find(ReadOnlySpan<byte> name)
    {
        if (FindPlain(name) is { } server)
        {
            return server;
        }
        foreach ((Regex regex, ServerConf candidate) in _regexes)
        {
            if (regex.IsMatch(name))
            {
                return candidate;
            }
        }
        return null;
    }

    private ServerConf? FindPlain(ReadOnlySpan<byte> name)
    {
        if (_exact.Count > 0 && _exact.TryGet(name, out ServerConf server))
        {
            return server;
        }
        if (_head.Count > 0)
        {
            for (int dot = name.IndexOf((byte)'.'); dot >= 0;)
            {
                // "*.example.com" wants something before the dot.
                if (dot > 0 && _head.TryGet(name[dot..], out server))
                {
                    return server;
                }
                int next = name[(dot + 1)..].IndexOf((byte)'.');
                dot = next < 0 ? -1 : dot + 1 + next;
            }
        }
        if (_tail.Count > 0)
        {
            for (int dot = name.LastIndexOf((byte)'.'); dot >= 0; dot = name[..dot].LastIndexOf((byte)'.'))
            {
                if (_tail.TryGet(name[..(dot + 1)], out server))
                {
                    return server;
                }
            }
        }
        return null;
    }
}
