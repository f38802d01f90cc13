// Rules about what is prepared and never used: zones that limit nobody, checks whose outcome nobody asks. Fed with
// every directive once, judged at the end. Start-up only.
using Weir.Conf;

namespace Weir.Lint;

internal sealed class LintUses(Linter linter)
{
    private readonly Dictionary<(string Kind, string Name), ConfDirective> _zones = [];
    private readonly HashSet<(string Kind, string Name)> _used = [];
    private readonly Dictionary<string, ConfDirective> _checks = [];
    private readonly HashSet<string> _asked = [];

    public void Visit(ConfDirective directive)
    {
        switch (directive.Name)
        {
            case "limit_req_zone" or "limit_conn_zone":
                AddZone(directive.Name[..^"_zone".Length], "zone=", directive);
                break;
            case "proxy_cache_path" or "fastcgi_cache_path" or "uwsgi_cache_path" or "scgi_cache_path":
                // Any of the families may use any zone.
                AddZone("cache", "keys_zone=", directive);
                break;
            case "limit_req":
                foreach (ConfArg arg in directive.Args)
                {
                    if (arg.Text.StartsWith("zone=", StringComparison.Ordinal))
                    {
                        _used.Add(("limit_req", arg.Text["zone=".Length..]));
                    }
                }
                break;
            case "limit_conn" when directive.Args.Length > 0:
                _used.Add(("limit_conn", directive[0]));
                break;
            case "proxy_cache" or "fastcgi_cache" or "uwsgi_cache" or "scgi_cache" when directive.Args.Length > 0:
                _used.Add(("cache", directive[0].Contains('$') ? "$" : directive[0]));
                break;
            case "valid_referers":
                _checks.TryAdd("$invalid_referer", directive);
                break;
            case "secure_link":
                _checks.TryAdd("$secure_link", directive);
                break;
        }
        if (_asked.Count == 2)
        {
            return;
        }
        foreach (ConfArg arg in directive.Args)
        {
            foreach (string name in (ReadOnlySpan<string>)["invalid_referer", "secure_link"])
            {
                if (arg.Text.Contains(name, StringComparison.Ordinal) && arg.Text.Contains('$'))
                {
                    _asked.Add("$" + name);
                }
            }
        }
    }

    private void AddZone(string kind, string word, ConfDirective directive)
    {
        foreach (ConfArg arg in directive.Args)
        {
            if (arg.Text.StartsWith(word, StringComparison.Ordinal))
            {
                _zones.TryAdd((kind, arg.Text[word.Length..].Split(':')[0]), directive);
            }
        }
    }

    public void Finish()
    {
        foreach (((string kind, string name), ConfDirective directive) in _zones)
        {
            if (!_used.Contains((kind, name)) && !_used.Contains((kind, "$")))
            {
                linter.Say("zone-unused", directive, kind == "cache"
                    ? $"nothing is stored in \"{name}\": no \"proxy_cache\" or its like names it"
                    : $"nobody is limited by \"{name}\": no \"{kind}\" names it",
                    kind switch
                    {
                        "cache" => $"proxy_cache {name};",
                        "limit_req" => $"limit_req zone={name} burst=20;",
                        _ => $"limit_conn {name} 10;",
                    } + " where it is to hold");
            }
        }
        foreach ((string variable, ConfDirective directive) in _checks)
        {
            if (!_asked.Contains(variable))
            {
                linter.Say("outcome-unasked", directive, $"nobody is refused: \"{directive.Name}\" only sets "
                    + $"{variable}, which nothing asks for", directive.Name == "secure_link"
                        ? "if ($secure_link = \"\") { return 403; } if ($secure_link = \"0\") { return 410; }"
                        : "if ($invalid_referer) { return 403; }");
            }
        }
    }
}
