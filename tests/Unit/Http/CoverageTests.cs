// What of nginx's HTTP core there is: the tables of data/ name every directive and variable of nginx, and the lists
// here name what this build lacks of the modules it means to have. A list only shrinks: what is implemented but still
// listed fails, and so does what is missing and not listed.
using Weir.Conf;
using Weir.Http;
using Weir.Kernel;
using Weir.Tests.Unit.Conf;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class CoverageTests
{
    /// <summary>Module files of nginx that make its core, as the tables name them.</summary>
    private static readonly string[] _modules =
    [
        "core/nginx.c", "core/ngx_conf_file.c", "core/ngx_log.c", "core/ngx_regex.c", "core/ngx_thread_pool.c",
        "event/ngx_event.c", "event/modules/ngx_epoll_module.c", "http/ngx_http.c", "http/ngx_http_core_module.c",
        "http/ngx_http_upstream.c", "http/v2/ngx_http_v2_module.c", "http/ngx_http_copy_filter_module.c",
        "http/ngx_http_variables.c",
        .. ((string[])
        [
            "access", "addition_filter", "auth_basic", "auth_request", "autoindex", "browser", "charset_filter",
            "empty_gif", "fastcgi", "geo", "grpc", "gunzip_filter", "gzip_filter", "gzip_static", "headers_filter",
            "index",
            "log", "map", "memcached", "mirror", "proxy", "random_index", "realip", "referer", "rewrite",
            "secure_link", "slice_filter", "split_clients", "ssl", "stub_status", "sub_filter", "try_files",
            "upstream_hash", "upstream_ip_hash", "upstream_keepalive", "upstream_least_conn", "upstream_least_time",
            "upstream_random", "upstream_sticky", "upstream_zone", "userid_filter",
        ]).Select(static name => $"http/modules/ngx_http_{name}_module.c"),
    ];

    /// <summary>The cache of upstreams' answers is counted by itself.</summary>
    private static bool IsCache(string name) => name.Contains("_cache", StringComparison.Ordinal)
        && !name.StartsWith("open_", StringComparison.Ordinal) && !name.Contains("ssl", StringComparison.Ordinal)
        || name.Contains("_no_cache", StringComparison.Ordinal) || name.Contains("_store", StringComparison.Ordinal);

    /// <summary>Directives that are not there yet.</summary>
    private static readonly string[] _missingDirectives = [];

    /// <summary>Variables that are not there yet; this one stands in nginx's source, where nobody compiles it.
    /// </summary>
    private static readonly string[] _missingVariables =
    [
        "proxy_add_via",
    ];

    private sealed record Row(string Module, string Name, string Contexts);

    private static string[] Lines(string path) =>
        File.ReadAllLines(Path.Combine(GoldenConfTests.RepositoryRoot(), path));

    /// <summary>Those of the modules; `include` is the parser's own.</summary>
    private static IEnumerable<Row> Directives() => Lines("data/nginx-directives.tsv").Skip(1)
        .Select(static line => line.Split('\t')).Select(static cells => new Row(cells[0], cells[1], cells[2]))
        .Where(static row => _modules.Contains(row.Module) && !IsCache(row.Name) && row.Name != "include");

    /// <summary>The variables of the tables; a family ends with a star.</summary>
    private static IEnumerable<string> Variables()
    {
        foreach (string line in Lines("data/nginx-variables.md").TakeWhile(static l => l != "## stream"))
        {
            string[] cells = line.Split('|');
            if (cells.Length > 3 && _modules.Contains(cells[1].Trim()))
            {
                foreach (string word in cells[3].Split(' ', StringSplitOptions.RemoveEmptyEntries))
                {
                    string name = word.Trim('`', '$', '=', '~', '!').TrimEnd('`');
                    if (!IsCache(name))
                    {
                        yield return name;
                    }
                }
            }
        }
    }

    private static ConfContext Context(string name) => Enumerable.Range(0, 14).Select(static i => (ConfContext)(1 << i))
        .FirstOrDefault(c => name == "any" || ConfContexts.Name(c) == name);

    private static HttpBuild Build() => new(new CollectResources("/", "/", []), new ConfErrors());

    /// <summary>For the page on compatibility: names of modules, how many directives they have, which are missing.
    /// </summary>
    internal static IEnumerable<(string Module, int Count, string[] Missing)> ByModule() =>
        Directives().GroupBy(static row => row.Module).Select(static rows => (
            Path.GetFileNameWithoutExtension(rows.Key).Replace("ngx_", "", StringComparison.Ordinal)
                .Replace("_module", "", StringComparison.Ordinal),
            rows.Select(static r => r.Name).Distinct().Count(),
            (string[])
            [
                .. rows.Select(static r => r.Name).Where(static n => _missingDirectives.Contains(n)).Distinct(),
            ]));

    /// <summary>Directives of `http` that nginx Plus alone has, by what they are about.</summary>
    private static readonly (string About, string[] Names)[] _plus =
    [
        ("health checks", ["health_check", "match"]),
        ("requests that wait for a server", ["queue"]),
        ("servers that change while they serve", ["api", "state"]),
        ("purging a cache", ["proxy_cache_purge", "fastcgi_cache_purge"]),
        ("counts by zone", ["status_zone"]),
        ("key-value stores", ["keyval", "keyval_zone"]),
        ("tokens and sign-on", ["auth_jwt", "auth_oidc", "auth_require"]),
        ("media", ["f4f", "hls"]),
        ("sessions in the log", ["session_log", "session_log_format", "session_log_zone"]),
        ("connections bound to clients", ["ntlm"]),
    ];

    /// <summary>For the same page: what there is of nginx Plus.</summary>
    internal static IEnumerable<(string About, string[] Here, string[] Missing)> Plus()
    {
        DirectiveRegistry registry = Build().Registry;
        bool Is(string name) => registry.All.Any(spec => spec.Name == name);
        return _plus.Select(p => (p.About, p.Names.Where(Is).ToArray(), p.Names.Where(n => !Is(n)).ToArray()));
    }

    internal static int VariableCount => Variables().Distinct().Count();

    internal static int MissingVariableCount => _missingVariables.Length;

    [Fact]
    public void What_is_missing_of_the_directives_is_listed()
    {
        DirectiveRegistry registry = Build().Registry;
        string[] missing =
        [
            .. Directives().Where(row => registry.All.All(spec => spec.Name != row.Name)).Select(static row => row.Name)
                .Distinct().Order(StringComparer.Ordinal),
        ];
        Assert.Equal(string.Join(' ', _missingDirectives.Order(StringComparer.Ordinal)), string.Join(' ', missing));
    }

    [Fact]
    public void Every_directive_stands_wherever_it_may_stand_in_nginx()
    {
        DirectiveRegistry registry = Build().Registry;
        var gaps = new List<string>();
        foreach (Row row in Directives().Where(static row => !_missingDirectives.Contains(row.Name)))
        {
            foreach (string name in row.Contexts.Split(','))
            {
                if (registry.Find(row.Name, Context(name)) is null)
                {
                    gaps.Add($"{row.Name} in {name}");
                }
            }
        }
        Assert.Empty(gaps);
    }

    [Fact]
    public void What_is_missing_of_the_variables_is_listed()
    {
        HttpBuild build = Build();
        Weir.Session.VariableTable table = build.Configuration.Variables;
        string[] missing =
        [
            .. Variables().Where(name => name.EndsWith('*')
                    ? table.Use(name[..^1] + "x").Get is null : !table.IsDeclared(name) && table.Use(name).Get is null)
                .Distinct().Order(StringComparer.Ordinal),
        ];
        Assert.Equal(string.Join(' ', _missingVariables.Order(StringComparer.Ordinal)), string.Join(' ', missing));
    }
}
