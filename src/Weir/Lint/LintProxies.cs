// Rules about passing on: how the URI of a proxy_pass joins with its location, which name is sent, what is kept alive.
// Start-up only.
using Weir.Conf;
using Weir.Kernel;

namespace Weir.Lint;

internal static class LintProxies
{
    public static void CheckPass(Linter linter, LintScope scope, ConfDirective directive, LintUpstreams upstreams)
    {
        if (directive.Args.Length != 1)
        {
            return;
        }
        string url = directive[0];
        int scheme = url.IndexOf("://", StringComparison.Ordinal);
        string rest = scheme < 0 ? url : url[(scheme + 3)..];
        if (rest.StartsWith("unix:", StringComparison.Ordinal))
        {
            return;
        }
        int slash = rest.IndexOf('/');
        string host = slash < 0 ? rest : rest[..slash];
        string uri = slash < 0 ? "" : rest[slash..];
        bool hasVariables = url.Contains('$');
        if (!hasVariables && uri.Length > 0 && scope.IsPrefixLocation)
        {
            CheckJoint(linter, scope, directive, uri);
        }
        if (hasVariables && scheme >= 0 && uri.Length > 1 && !uri.Contains('$'))
        {
            linter.Say("proxy-uri-variable", directive, $"every request is passed on as \"{uri}\": with variables in "
                + "\"proxy_pass\" its URI takes the place of the whole request's",
                $"{url}$is_args$args, with $1 of a regular expression or $request_uri where the path is to follow");
        }
        if (LintRewrites.UsesUri(url) is { } decoded)
        {
            linter.Say("uri-in-header", directive, $"\"{decoded}\" is decoded: escaped slashes and question marks are "
                + "passed on as plain ones (nginx passes on line ends, too), and the query string is lost",
                url.Replace(decoded, "$request_uri"));
        }
        if (host.Contains('$') && !upstreams.MayBeGroup(host) && !IsAddress(host) && scope.InForce("resolver") is null)
        {
            linter.Say("proxy-resolver", directive, $"\"{host}\" is known only when a request is there: a name that is "
                + "no \"upstream\" cannot be looked up and is answered with 502", "resolver 127.0.0.53;");
        }
        if (upstreams.Find(host) is { } group && group.Block!.Find(static d => d.Name == "keepalive") is { } kept)
        {
            CheckKeepAlive(linter, scope, directive, kept);
        }
    }

    /// <summary>Only the path behind it varies.</summary>
    private static bool IsAddress(string host)
    {
        string fixedPart = host[..host.IndexOf('$')];
        return fixedPart.StartsWith("localhost:", StringComparison.Ordinal)
            || fixedPart.Contains(':') && SocketAddress.TryParse(fixedPart, 80, out SocketAddress? _, out string _);
    }

    private static void CheckJoint(Linter linter, LintScope scope, ConfDirective directive, string uri)
    {
        string location = scope.Pattern;
        bool fromSlash = location.EndsWith('/');
        bool toSlash = uri.EndsWith('/');
        if (fromSlash && !toSlash)
        {
            linter.Say("proxy-uri", directive, $"\"{location}x\" is passed on as \"{uri}x\": the URI takes the "
                + $"place of "
                + $"\"{location}\" with its slash", $"proxy_pass {directive[0]}/;");
        }
        else if (!fromSlash && toSlash)
        {
            linter.Say("proxy-uri", directive, $"\"{location}/x\" is passed on as \"{uri}/x\", and \"{location}x\" as "
                + $"\"{uri}x\": the URI takes the place of \"{location}\"", $"location {location}/ {{ … }}");
        }
        else if (scope.All("rewrite").FirstOrDefault(static d => d.Args.Length == 3 && d[2] == "break") is { } rewrite)
        {
            linter.Say("proxy-uri", directive, $"\"{uri}\" is not used where \"rewrite\" of line {rewrite.Span.Line} "
                + "matches: a path that was rewritten is passed on as it is", "leave the URI out of \"proxy_pass\"");
        }
    }

    private static void CheckKeepAlive(Linter linter, LintScope scope, ConfDirective directive, ConfDirective kept)
    {
        if (scope.InForce("proxy_http_version") is { Args.Length: 1 } version && version[0] == "1.0")
        {
            linter.Say("proxy-keepalive", version, $"\"keepalive\" of line {kept.Span.Line} keeps nothing: HTTP/1.0 "
                + "closes after each answer", "proxy_http_version 1.1; (the default since nginx 1.29.7)");
        }
        if (scope.LevelOf("proxy_set_header")?.All("proxy_set_header").FirstOrDefault(static d => d.Args.Length == 2
            && d[0].Equals("Connection", StringComparison.OrdinalIgnoreCase)
            && d[1].Equals("close", StringComparison.OrdinalIgnoreCase)) is { } closes)
        {
            linter.Say("proxy-keepalive", closes, $"\"keepalive\" of line {kept.Span.Line} keeps nothing: every "
                + $"request "
                + "asks for the end", "proxy_set_header Connection \"\";");
        }
    }

    public static void CheckHost(Linter linter, ConfDirective directive)
    {
        if (directive.Args.Length == 2 && directive[0].Equals("Host", StringComparison.OrdinalIgnoreCase)
            && directive[1] == "$http_host")
        {
            linter.Say("proxy-host", directive, "$http_host is what the client wrote: it need not be the name that "
                + "chose "
                + "the server (a URL in the request line counts more), and is empty when it is missing",
                "proxy_set_header Host $host; or $host:$server_port where the port matters");
        }
    }

    /// <summary>An Upgrade that Connection does not name is no request for one (RFC 9110, 7.8).</summary>
    public static void CheckUpgrade(Linter linter, LintScope scope, ConfDirective directive)
    {
        if (directive.Args.Length == 2 && directive[0].Equals("Upgrade", StringComparison.OrdinalIgnoreCase)
            && directive[1].Length > 0 && !scope.All("proxy_set_header").Any(static d => d.Args.Length == 2
                && d[0].Equals("Connection", StringComparison.OrdinalIgnoreCase)))
        {
            linter.Say("websocket", directive, "nothing is upgraded: a server reads \"Upgrade\" only where "
                + "\"Connection\" names it", "proxy_set_header Connection $connection_upgrade; with map "
                + "$http_upgrade $connection_upgrade { default upgrade; '' ''; }");
        }
    }

    public static void CheckCache(Linter linter, LintScope scope, ConfDirective directive)
    {
        if (directive.Args.Length == 1 && directive[0] != "off"
            && scope.InForce("proxy_buffering") is { Args.Length: 1 } buffering && buffering[0] == "off")
        {
            linter.Say("proxy-cache-buffering", directive, "nothing is stored: \"proxy_buffering off\" of line "
                + $"{buffering.Span.Line} is in force", "proxy_buffering on;");
        }
    }
}

/// <summary>The groups of a configuration, and which of them somebody names.</summary>
internal sealed class LintUpstreams
{
    private readonly Linter _linter;
    private readonly Dictionary<string, ConfDirective> _groups = new(StringComparer.OrdinalIgnoreCase);
    private readonly Dictionary<string, ConfDirective> _unused = new(StringComparer.OrdinalIgnoreCase);

    private readonly ConfTree _tree;

    /// <summary>Variables that can only become names of groups; made when the first variable host is met.</summary>
    private HashSet<string>? _variables;

    public LintUpstreams(Linter linter, ConfTree tree)
    {
        _linter = linter;
        _tree = tree;
        foreach (ConfDirective directive in tree.Directives.Where(static d => d.Name == "http")
            .SelectMany(static d => d.Block ?? []))
        {
            if (directive is { Name: "upstream", Args.Length: 1, Block: not null })
            {
                _groups.TryAdd(directive[0], directive);
                _unused.TryAdd(directive[0], directive);
            }
        }
    }

    private HashSet<string> GroupVariables()
    {
        var values = new Dictionary<string, List<string>>();
        Collect(_tree.Directives, values);
        HashSet<string> found = [];
        while (values.Keys.FirstOrDefault(v => !found.Contains(v)
            && values[v].TrueForAll(value => _groups.ContainsKey(value) || found.Contains(value))) is { } next)
        {
            // One that was found may be the value of another one.
            found.Add(next);
        }
        return found;
    }

    private static void Collect(IEnumerable<ConfDirective> directives, Dictionary<string, List<string>> values)
    {
        foreach (ConfDirective directive in directives)
        {
            if (directive is { Name: "set", Args.Length: 2 })
            {
                Of(directive[0]).Add(directive[1]);
            }
            else if (directive is { Name: "map" or "split_clients" or "geo", Args.Length: > 0, Block: not null })
            {
                Of(directive.Args[^1].Text).AddRange(directive.Block.Where(static line =>
                    line.Name is not ("hostnames" or "volatile" or "include" or "ranges" or "proxy" or "delete"))
                    .Select(static line => line.Args.Length == 1 ? line[0] : ""));
            }
            else if (directive.Block is { } inside)
            {
                Collect(inside, values);
            }
        }

        List<string> Of(string variable) => values.TryGetValue(variable, out List<string>? all) ? all
            : values[variable] = [];
    }

    /// <summary>All that the host can become are groups, or it begins as groups do.</summary>
    public bool MayBeGroup(string host)
    {
        int variable = host.IndexOf('$');
        return (_variables ??= GroupVariables()).Contains(host) || variable > 0
            && _groups.Keys.Any(n => n.StartsWith(host[..variable], StringComparison.OrdinalIgnoreCase));
    }

    public ConfDirective? Find(string name) => _groups.GetValueOrDefault(name);

    /// <summary>Any word that is the name of a group, or a URL with it, is a use: of `proxy_pass`, or of a variable
    /// that one may have.</summary>
    public void Visit(ConfDirective directive)
    {
        if (_unused.Count == 0 || directive.Name == "upstream")
        {
            return;
        }
        foreach (ConfArg arg in directive.Args)
        {
            string text = arg.Text;
            if (_unused.Remove(text))
            {
                continue;
            }
            int scheme = text.IndexOf("://", StringComparison.Ordinal);
            if (scheme >= 0 || directive.Name.EndsWith("_pass", StringComparison.Ordinal))
            {
                string host = scheme < 0 ? text : text[(scheme + 3)..];
                int end = host.AsSpan().IndexOfAny('/', ':', '$');
                _unused.Remove(end < 0 ? host : host[..end]);
                if (end >= 0 && host[end] == '$')
                {
                    // "app_$colour": every group that begins so may be meant.
                    foreach (string name in _unused.Keys.Where(n =>
                        n.StartsWith(host[..end], StringComparison.OrdinalIgnoreCase) && end > 0).ToArray())
                    {
                        _unused.Remove(name);
                    }
                }
            }
        }
    }

    public void Finish()
    {
        foreach ((string name, ConfDirective directive) in _unused)
        {
            _linter.Say("upstream-unused", directive, $"nothing passes requests to \"{name}\"",
                "remove it, or name it in a proxy_pass");
        }
    }
}
