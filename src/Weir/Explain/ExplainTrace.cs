// Writes down how a request walks through a configuration, as the server's own phases tell it: each step with the line
// of the directive behind it. On the thread of the simulated loop; copies what it keeps.
using Weir.Conf;
using Weir.Http;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Explain;

internal sealed class ExplainTrace(ConfScopes scopes, ExplainReport report) : RequestTrace
{
    private readonly Dictionary<LocationConf, ConfDirective> _blocks = [];
    private readonly Dictionary<string, (string Value, ConfDirective? Directive)> _fields =
        new(StringComparer.OrdinalIgnoreCase);
    private readonly List<string> _before = [];
    private readonly HashSet<ConfDirective> _taken = [];
    private (string Uri, string Args) _was;
    private ServerConf? _server;
    private string _ruleText = "";
    private string? _ruleAt;

    public ConfScopes Scopes => scopes;

    /// <summary>From here on nothing is known any more.</summary>
    public bool IsStopped { get; set; }

    /// <summary>Fields that filters gave the answer, with the directives behind them.</summary>
    public IReadOnlyDictionary<string, (string Value, ConfDirective? Directive)> Fields => _fields;

    /// <summary>The block whose settings are in force.</summary>
    private ConfDirective? BlockOf(HttpRequest r) => _blocks.GetValueOrDefault(r.Location);

    public override void OnBlock(LocationConf settings, ConfDirective directive) =>
        _blocks.TryAdd(settings, directive);

    public override void OnServer(HttpRequest r)
    {
        ConfDirective? block = _blocks.GetValueOrDefault(r.Server.Location);
        if (_server == r.Server && r.IsMain)
        {
            Add(r, "again", r.Uri.ToString(), (string?)null, "an internal redirect: from the server's phases on");
        }
        if (_server != r.Server && block is not null)
        {
            _server = r.Server;
            (string why, ConfDirective? name) = ServerReason(r, block);
            PlaceListen(r, block);
            Add(r, "server", name is null ? "server" : ConfScopes.Text(name), name ?? block, why);
        }
    }

    /// <summary>The `listen` that brought the request here.</summary>
    private void PlaceListen(HttpRequest r, ConfDirective block)
    {
        ConfDirective? listen = (block.Block ?? []).Find(d => d.Name == "listen" && d.Args.Length > 0
            && SocketAddress.TryParse(d[0], 80, out SocketAddress? address, out string _)
            && address!.Equals(r.Group.Spec.Address));
        int at = report.Steps.FindIndex(static s => s.Kind == "listen");
        if (listen is not null && at >= 0 && report.Steps[at].Where is null)
        {
            report.Steps[at] = report.Steps[at] with { Text = ConfScopes.Text(listen), Where = ConfScopes.At(listen) };
        }
    }

    private (string Why, ConfDirective? Name) ServerReason(HttpRequest r, ConfDirective block)
    {
        string host = r.Host.ToString().TrimEnd('.');
        List<ConfDirective> directives = [.. (block.Block ?? []).Where(static d => d.Name == "server_name")];
        ConfDirective? Of(string text) => directives.Find(d => d.Args.Any(a =>
            a.Text.Equals(text, StringComparison.OrdinalIgnoreCase))) ?? directives.FirstOrDefault();
        foreach (ServerName name in r.Server.ServerNames)
        {
            string text = name.Text;
            if (host.Length > 0 && (text == host || text == "." + host))
            {
                return ("the name is exactly this", Of(text));
            }
            if (name.Regex is not null && name.Regex.IsMatch(r.Host.Span))
            {
                return ($"the regular expression matches \"{host}\"", Of(text));
            }
            string tail = text.StartsWith('*') ? text[1..] : text;
            if (tail.StartsWith('.') && host.Length > tail.Length
                && host.EndsWith(tail, StringComparison.Ordinal))
            {
                return ("the longest wildcard at the start that fits", Of(text));
            }
            if (text.EndsWith(".*", StringComparison.Ordinal) && host.StartsWith(text[..^1], StringComparison.Ordinal))
            {
                return ("the longest wildcard at the end that fits", Of(text));
            }
        }
        return (host.Length == 0 ? "no Host: the default server of the address"
            : $"no name fits \"{host}\": the default server of the address", null);
    }

    public override void OnLocation(HttpRequest r)
    {
        if (!_blocks.TryGetValue(r.Location, out ConfDirective? block))
        {
            return;
        }
        if (block.Name is "if")
        {
            return;
        }
        if (block.Name == "limit_except")
        {
            Add(r, "limit_except", ConfScopes.Text(block), block, $"holds for {r.MethodName}");
            return;
        }
        if (block.Name != "location")
        {
            Add(r, "location", "none", block, $"no location fits \"{r.Uri}\": the server's own settings");
            return;
        }
        Add(r, "location", ConfScopes.Text(block), block, r.Location.Modifier switch
        {
            "=" => "exact match",
            "^~" => "the longest prefix; regular expressions are not asked (^~)",
            "~" or "~*" => "the first regular expression that matches, in order of appearance",
            _ when r.Location.IsNamed => "named",
            _ => "the longest prefix; no regular expression matches",
        } + (r.Location.IsNamed ? "" : $" for \"{r.Uri}\""));
    }

    public override void BeforeStep(HttpRequest r, ConfDirective directive) =>
        _was = (r.Uri.ToString(), r.Args.ToString());

    public override void OnIfTaken(HttpRequest r, ConfDirective directive)
    {
        _taken.Add(directive);
        Add(r, "if", ConfScopes.Text(directive), directive, "holds");
    }

    public override void AfterStep(HttpRequest r, ConfDirective directive, PhaseResult result)
    {
        string text = ConfScopes.Text(directive);
        switch (directive.Name)
        {
            case "if":
                if (!_taken.Remove(directive))
                {
                    Add(r, "if", text, directive, "does not hold");
                }
                break;
            case "set":
                Variable variable = r.Configuration.Variables.Use(directive[0][1..]);
                r.TryGet(variable, out NativeSlice value);
                Add(r, "set", text, directive, $"\"{value}\"");
                break;
            case "rewrite":
                (string Uri, string Args) now = (r.Uri.ToString(), r.Args.ToString());
                Add(r, "rewrite", text, directive, result.Outcome == PhaseOutcome.Answer
                    ? $"answers {result.Status}" + (r.Response.Location.IsEmpty ? "" : $" to {r.Response.Location}")
                    : now != _was ? $"{Target(_was)} becomes {Target(now)}" : "does not match");
                break;
            case "return":
                Add(r, "return", text, directive, Answer(r, result));
                break;
            default:
                Add(r, directive.Name, text, directive, "");
                break;
        }
    }

    private static string Answer(HttpRequest r, PhaseResult result)
    {
        int status = result.Outcome == PhaseOutcome.Answer ? result.Status : r.Response.Status;
        return status == 444 ? "closes the connection without an answer"
            : $"answers {status}" + (r.Response.Location.IsEmpty ? "" : $" to {r.Response.Location}");
    }

    private static string Target((string Uri, string Args) target) =>
        target.Args.Length > 0 ? $"\"{target.Uri}?{target.Args}\"" : $"\"{target.Uri}\"";

    public override void BeforeHandler(HttpRequest r, HttpModule? module) =>
        _was = (r.Uri.ToString(), r.Args.ToString());

    public override void OnAccessRule(HttpRequest r, int rule)
    {
        int at = 0;
        foreach (ConfDirective directive in scopes.InForce(BlockOf(r), "allow", "deny"))
        {
            at += directive[0] == "all" ? 3 : 1;
            if (rule < at)
            {
                _ruleText = ConfScopes.Text(directive);
                _ruleAt = ConfScopes.At(directive);
                return;
            }
        }
    }

    public override void AfterHandler(HttpRequest r, HttpModule? module, PhaseResult result)
    {
        string outcome = result.Outcome switch
        {
            PhaseOutcome.Answer => $"refuses with {result.Status}",
            PhaseOutcome.Allow => "allows",
            PhaseOutcome.Done => "answers",
            PhaseOutcome.Rerun => "goes on elsewhere",
            _ => "lets pass",
        };
        switch (module?.Name)
        {
            case "http_access":
                Add(r, "access", _ruleText.Length > 0 ? _ruleText : "allow, deny", _ruleAt,
                    _ruleText.Length > 0 ? outcome : "no rule fits");
                _ruleText = "";
                _ruleAt = null;
                break;
            case "http_auth_basic":
                Cite(r, "access", outcome, "auth_basic");
                break;
            case "http_auth_request":
                Cite(r, "access", outcome, "auth_request");
                break;
            case "http_limit_req":
                Cite(r, "limit", outcome, "limit_req");
                break;
            case "http_limit_conn":
                Cite(r, "limit", outcome, "limit_conn");
                break;
            case "http_try_files" or "http_index":
                string name = module.Name[5..];
                string now = r.Uri.ToString();
                if (result.Outcome == PhaseOutcome.Answer || now != _was.Uri || name == "try_files")
                {
                    Cite(r, name, result.Outcome == PhaseOutcome.Answer ? $"answers {result.Status}"
                        : now != _was.Uri ? $"\"{_was.Uri}\" becomes \"{now}\""
                        : result.Outcome == PhaseOutcome.Rerun ? "goes to the last argument" : "the URI stays", name);
                }
                break;
            case null:
                ConfDirective? handler = scopes.InForce(BlockOf(r), s_contents).FirstOrDefault();
                Add(r, "content", handler is null ? "handler" : ConfScopes.Text(handler), handler,
                    result.Outcome == PhaseOutcome.Answer ? $"answers {result.Status}" : "");
                break;
            case "http_static" or "http_autoindex" or "http_random_index" or "http_gzip_static"
                when result.Outcome != PhaseOutcome.Next:
                ConfDirective? root = scopes.InForce(BlockOf(r), "root", "alias").FirstOrDefault();
                Add(r, "content", root is null ? "root \"html\"" : ConfScopes.Text(root), root,
                    result.Outcome == PhaseOutcome.Answer ? $"answers {result.Status}"
                    : $"serves \"{Filename(r)}\"" + (module.Name == "http_static" ? "" : $" ({module.Name[5..]})"));
                break;
            default:
                break;
        }
    }

    private static readonly string[] s_contents =
        ["proxy_pass", "fastcgi_pass", "grpc_pass", "memcached_pass", "uwsgi_pass", "scgi_pass", "app_pass",
            "stub_status", "empty_gif", "api", "weir_status", "weir_welcome", "flv", "mp4"];

    private static string Filename(HttpRequest r) =>
        r.TryGet(r.Configuration.Variables.Use("request_filename"), out NativeSlice path) ? path.ToString() : "";

    public override void OnTriedFile(HttpRequest r, NativeSlice path, bool exists, bool isTaken) =>
        Add(r, "file", path.ToString(), (string?)null, isTaken ? "is there"
            : exists ? "is there, but a directory where a file is asked for, or the reverse" : "is not there");

    public override void BeforeFilter(HttpRequest r, HttpModule module)
    {
        _before.Clear();
        if (r.IsMain)
        {
            Collect(r, _before);
        }
    }

    public override void AfterFilter(HttpRequest r, HttpModule module)
    {
        if (!r.IsMain || IsStopped)
        {
            return;
        }
        var now = new List<string>();
        Collect(r, now);
        foreach (string line in now)
        {
            if (!_before.Remove(line))
            {
                int colon = line.IndexOf(':', StringComparison.Ordinal);
                string name = line[..colon];
                _fields[name] = (line[(colon + 2)..], Source(r, module, name));
            }
        }
        if (module.Name == "http_headers_filter")
        {
            NoteMissing(r, now);
        }
    }

    /// <summary>add_header whose field is not there: mostly a status that wants `always`.</summary>
    private void NoteMissing(HttpRequest r, List<string> fields)
    {
        foreach (ConfDirective directive in scopes.InForce(BlockOf(r), "add_header"))
        {
            if (!fields.Exists(f => f.StartsWith(directive[0] + ":", StringComparison.OrdinalIgnoreCase)))
            {
                string why = directive.Args.Length < 3
                    && r.Response.Status is not (200 or 201 or 204 or 206 or 301 or 302 or 303 or 304 or 307 or 308)
                    ? $"not added: the status is {r.Response.Status} and \"always\" is not given"
                    : "not added: its value is empty";
                report.Missing.Add(new ExplainStep("add_header", ConfScopes.Text(directive),
                    ConfScopes.At(directive), why, 0));
            }
        }
    }

    private ConfDirective? Source(HttpRequest r, HttpModule module, string field)
    {
        if (module.Name == "http_headers_filter")
        {
            return scopes.InForce(BlockOf(r), "add_header").FirstOrDefault(d =>
                    d[0].Equals(field, StringComparison.OrdinalIgnoreCase))
                ?? scopes.InForce(BlockOf(r), "expires").FirstOrDefault();
        }
        string directive = module.Name.StartsWith("http_", StringComparison.Ordinal) ? module.Name[5..] : module.Name;
        const string Filter = "_filter";
        return scopes.InForce(BlockOf(r), directive, directive.EndsWith(Filter, StringComparison.Ordinal)
            ? directive[..^Filter.Length] : directive).FirstOrDefault();
    }

    private static void Collect(HttpRequest r, List<string> lines)
    {
        foreach (ref readonly ResponseField field in r.Response.Fields)
        {
            if (!field.Removed)
            {
                lines.Add($"{field.Name}: {field.Value}");
            }
        }
    }

    public override void OnAnswer(HttpRequest r, int status, ErrorPage? page)
    {
        if (page is null)
        {
            if (r.Location.IsInternal && !r.IsInternal && status == 404)
            {
                _blocks.TryGetValue(r.Location, out ConfDirective? block);
                Add(r, "internal", block is null ? "internal" : ConfScopes.Text(block), block,
                    "is for internal redirects only: answers 404");
            }
            return;
        }
        string code = page.Status.ToString(System.Globalization.CultureInfo.InvariantCulture);
        ConfDirective? rule = scopes.InForce(BlockOf(r), "error_page")
            .FirstOrDefault(d => d.Args.Any(a => a.Text == code));
        Add(r, "error_page", rule is null ? $"error_page {code}" : ConfScopes.Text(rule), rule,
            $"{status} goes to \"{page.Target.Source}\"");
    }

    private void Cite(HttpRequest r, string kind, string outcome, string name)
    {
        ConfDirective? directive = scopes.InForce(BlockOf(r), name).FirstOrDefault();
        Add(r, kind, directive is null ? name : ConfScopes.Text(directive), directive, outcome);
    }

    private void Add(HttpRequest r, string kind, string text, ConfDirective? directive, string outcome) =>
        Add(r, kind, text, directive is null ? null : ConfScopes.At(directive), outcome);

    private void Add(HttpRequest r, string kind, string text, string? where, string outcome)
    {
        int depth = 0;
        for (HttpRequest? parent = r.Parent; parent is not null; parent = parent.Parent)
        {
            depth++;
        }
        if (!IsStopped)
        {
            report.Steps.Add(new ExplainStep(kind, text, where, outcome, depth));
        }
    }
}
