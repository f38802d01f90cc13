// `weir -t` beside its errors: known traps, each with its place and the way out. One walk over the parsed tree; a rule
// looks at one block or one directive. Findings refuse nothing and change no exit code. Start-up only; reads the modes
// of files that hold secrets, nothing else.
using Weir.Conf;

namespace Weir.Lint;

/// <summary>What the rules know beside the tree.</summary>
/// <param name="ConfPrefix">Where relative paths of secrets belong.</param>
/// <param name="DescriptorsMax">How many descriptors a worker may have unless the configuration says.</param>
/// <param name="Off">Rules that are switched off.</param>
internal sealed record LintSettings(string ConfPrefix, long DescriptorsMax, IReadOnlySet<string> Off);

internal sealed class Linter
{
    private readonly LintSettings _settings;
    private readonly ConfErrors _findings = new();
    private readonly LintUpstreams _upstreams;
    private readonly LintUses _uses;

    private Linter(ConfTree tree, LintSettings settings)
    {
        _settings = settings;
        _upstreams = new LintUpstreams(this, tree);
        _uses = new LintUses(this);
    }

    public LintSettings Settings => _settings;

    /// <summary>The names of all rules, each with what it is about.</summary>
    public static IReadOnlyDictionary<string, string> Rules { get; } = new Dictionary<string, string>
    {
        ["if-settings"] = "several `if` of a location with settings of their own: the last that holds is in force "
            + "alone",
        ["if-try-files"] = "`try_files` beside an `if` whose block does not end the rewriting",
        ["if-file"] = "`if (!-f …)` where `try_files` is meant",
        ["if-equals-regex"] = "`=` with what looks like a regular expression",
        ["return-before-access"] = "`return` beside `allow`, `deny` or `auth_basic`, which run later",
        ["header-lost"] = "`add_header` (or `proxy_set_header`, `fastcgi_param`…) of outer levels that a level drops",
        ["header-always"] = "a security header without `always`",
        ["uri-in-header"] = "`$uri` in a redirect, a header or a `proxy_pass`: decoded line ends",
        ["alias-slash"] = "`location /x` with `alias /y/`, or the reverse",
        ["location-unreachable"] = "a location that does not begin with `/`",
        ["args-in-pattern"] = "a location or `rewrite` that waits for a query string",
        ["rewrite-loop"] = "a `rewrite … last` that comes back to its own location",
        ["try-files-order"] = "a status or a named location before the end of `try_files`",
        ["named-missing"] = "`try_files` or `error_page` with a named location that the server lacks",
        ["error-page-status"] = "an error page that goes out with status 200",
        ["root-exposed"] = "a folder of the system as `root` of a whole server",
        ["regex-shadowed"] = "a regular expression that an earlier one always matches before",
        ["regex-dot"] = "an unescaped dot before a file's extension",
        ["php-anchor"] = "a FastCGI location whose expression does not end at `.php`",
        ["proxy-uri"] = "a `proxy_pass` whose URI joins badly with its location",
        ["proxy-uri-variable"] = "a `proxy_pass` with variables in its URI, which replaces the request's",
        ["proxy-resolver"] = "a `proxy_pass` with a variable host and no `resolver`",
        ["proxy-host"] = "`proxy_set_header Host $http_host`",
        ["proxy-keepalive"] = "`keepalive` of an upstream that its `proxy_pass` defeats",
        ["websocket"] = "`Upgrade` passed on without `Connection`",
        ["cache-cookie"] = "cached answers that keep their `Set-Cookie`",
        ["proxy-cache-buffering"] = "`proxy_cache` with `proxy_buffering off`",
        ["upstream-unused"] = "an `upstream` that nothing names",
        ["zone-unused"] = "a zone of a limit or a cache that nothing uses",
        ["outcome-unasked"] = "`valid_referers` or `secure_link` whose variable nothing asks for",
        ["secret-readable"] = "keys and password files that everybody may read",
        ["tls-weak"] = "old protocols and broken ciphers",
        ["tls-missing"] = "port 443 without `ssl`",
        ["server-name"] = "a `server_name` with a port or a scheme: never matches",
        ["merge-slashes"] = "`merge_slashes off` where locations guard paths",
        ["allow-without-deny"] = "`allow` without any `deny`",
        ["access-order"] = "`allow` or `deny` behind one for all",
        ["auth-basic-open"] = "`auth_basic` without `auth_basic_user_file`",
        ["real-ip-from-all"] = "addresses of clients taken from everybody's header",
        ["limit-key"] = "a limit whose key the client chooses",
        ["worker-connections"] = "more `worker_connections` than descriptors",
        ["error-log-off"] = "`error_log off`, which is the name of a file",
        ["gzip-types"] = "compression of what is compressed already",
        ["types-lost"] = "a server's `types` block that drops the table around",
        ["include-backup"] = "an include that reads an editor's or a package's backup",
    };

    /// <summary>Everything that the rules have to say, in the order of the text.</summary>
    public static IReadOnlyList<ConfError> Check(ConfTree tree, LintSettings settings)
    {
        var linter = new Linter(tree, settings);
        linter.Walk(new LintScope(null, tree.Directives, null));
        linter._upstreams.Finish();
        linter._uses.Finish();
        LintFiles.Check(linter, tree);
        return linter._findings.All;
    }

    /// <summary>A finding: what happens, and what to write instead.</summary>
    public void Say(string rule, ConfSpan place, string message, string fix)
    {
        if (!_settings.Off.Contains(rule))
        {
            _findings.Add(new ConfError(ConfLevel.Lint, $"{message} [{rule}]", place, fix));
        }
    }

    public void Say(string rule, ConfDirective at, string message, string fix) => Say(rule, at.Span, message, fix);

    private void Walk(LintScope scope)
    {
        switch (scope.Name)
        {
            case "location":
                LintLocations.Check(this, scope);
                LintPaths.CheckReach(this, scope);
                LintRewrites.CheckIfs(this, scope);
                break;
            case "server" when scope.Around?.Name == "http":
                LintLocations.CheckRegexes(this, scope);
                LintServers.Check(this, scope);
                LintContents.CheckTypes(this, scope);
                break;
            case "http":
                LintServers.CheckHttp(this, scope);
                break;
            case "":
                LintServers.CheckMain(this, scope);
                break;
        }
        LintHeaders.Check(this, scope);
        foreach (ConfDirective directive in scope.Inside)
        {
            if (directive.Broken)
            {
                continue;
            }
            Visit(scope, directive);
            _upstreams.Visit(directive);
            _uses.Visit(directive);
            if (directive.Block is { } inside)
            {
                if (directive.Name is "map" or "geo" or "split_clients" or "types" or "charset_map" or "match")
                {
                    foreach (ConfDirective line in inside)
                    {
                        _upstreams.Visit(line);
                        _uses.Visit(line);
                    }
                }
                else if (directive.Name is not ("stream" or "mail"))
                {
                    Walk(new LintScope(directive, inside, scope));
                }
            }
        }
    }

    private void Visit(LintScope scope, ConfDirective directive)
    {
        switch (directive.Name)
        {
            case "if":
                LintRewrites.CheckCondition(this, directive);
                break;
            case "return":
                LintRewrites.CheckReturn(this, scope, directive);
                break;
            case "add_header":
                LintHeaders.CheckAdded(this, scope, directive);
                break;
            case "proxy_pass":
                LintProxies.CheckPass(this, scope, directive, _upstreams);
                break;
            case "proxy_set_header":
                LintProxies.CheckHost(this, directive);
                LintProxies.CheckUpgrade(this, scope, directive);
                break;
            case "proxy_cache":
                LintProxies.CheckCache(this, scope, directive);
                LintGuards.CheckCookies(this, scope, directive);
                break;
            case "fastcgi_cache":
                LintGuards.CheckCookies(this, scope, directive);
                break;
            case "rewrite":
                LintPaths.CheckRewrite(this, scope, directive);
                break;
            case "try_files":
                LintPaths.CheckTryFiles(this, scope, directive);
                break;
            case "error_page":
                LintPaths.CheckErrorPage(this, scope, directive);
                break;
            case "auth_basic":
                LintGuards.CheckPassword(this, scope, directive);
                break;
            case "root":
                LintGuards.CheckRoot(this, scope, directive);
                break;
            case "error_log":
                LintGuards.CheckErrorLog(this, directive);
                break;
            case "gzip_types" or "brotli_types" or "zstd_types":
                LintContents.CheckCompression(this, directive);
                break;
            case "fastcgi_pass":
                LintLocations.CheckPhp(this, scope);
                break;
            case "ssl_protocols" or "ssl_ciphers" or "proxy_ssl_protocols" or "proxy_ssl_ciphers":
                LintServers.CheckTls(this, directive);
                break;
            case "set_real_ip_from":
                LintServers.CheckRealIp(this, directive);
                break;
            case "limit_req_zone" or "limit_conn_zone":
                LintServers.CheckLimitKey(this, directive);
                break;
            case "ssl_certificate_key" or "proxy_ssl_certificate_key" or "grpc_ssl_certificate_key"
                or "ssl_password_file" or "proxy_ssl_password_file" or "ssl_session_ticket_key"
                or "auth_basic_user_file":
                LintFiles.CheckSecret(this, directive);
                break;
            default:
                break;
        }
    }
}
