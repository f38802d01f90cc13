// docs/directives.md is made from the declarations of the modules: where each directive may stand, what it takes, what
// is in force without it, how it is inherited, where nginx's manual speaks of it and whether Weir differs. Defaults
// are read from settings that a build made: what a directive sets is found by setting it. Written with
// WEIR_GOLDEN_UPDATE=1.
using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Text;
using Weir.Conf;
using Weir.Http;
using Weir.Session;
using Weir.Tests.Unit.Conf;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class DirectiveReferenceTests
{
    private const BindingFlags Members = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;

    private static readonly string[] s_words =
    [
        "1", "17", "17s", "17k", "on", "off", "$request_time", "/x", "word", "1.1", "any", "exact", "clean",
        "127.0.0.1", "TLSv1.2", "default", "error", "always", "utf-8", "none", "all", "json", "modified",
        "text/css",
    ];

    /// <summary>Defaults that settings hold in another form, and those of processes, which are asked for where they are
    /// used.</summary>
    private static readonly Dictionary<string, string> s_defaults = new()
    {
        ["proxy_http_version"] = "1.1",
        ["keepalive_timeout"] = "75s",
        ["worker_connections"] = "512",
        ["worker_processes"] = "1",
        ["worker_priority"] = "0",
        ["daemon"] = "on",
        ["master_process"] = "on",
        ["multi_accept"] = "off",
        ["accept_mutex"] = "off",
        ["accept_mutex_delay"] = "500ms",
        ["error_log"] = "stderr error",
        ["gzip_types"] = "text/html",
        ["listen"] = "*:80 | *:8000",
        ["server_name"] = "\"\"",
        ["root"] = "html",
        ["index"] = "index.html",
        ["charset_types"] = "text/html text/xml text/plain text/vnd.wap.wml application/javascript application/rss+xml",
        ["sub_filter_types"] = "text/html",
        ["addition_types"] = "text/html",
        ["access_log"] = "off",
    };

    /// <summary>What a setting is when a configuration says nothing, and whether a field of it was set.</summary>
    private sealed record Setting(string Value, bool IsSet, bool IsList);

    private static string Root(string path) => Path.Combine(GoldenConfTests.RepositoryRoot(), path);

    [Fact]
    public void The_reference_is_up_to_date()
    {
        string path = Root("docs/directives.md");
        string text = Write();
        if (Environment.GetEnvironmentVariable("WEIR_GOLDEN_UPDATE") == "1")
        {
            File.WriteAllText(path, text);
        }
        Assert.Equal(text, File.ReadAllText(path));
    }

    private static string Write()
    {
        var text = new StringBuilder("""
            # Directives

            Every directive of this build, from the declarations of its modules
            (`WEIR_GOLDEN_UPDATE=1 dotnet test tests/Unit --filter DirectiveReferenceTests` writes this page). What a
            directive means is in nginx's manual, to which each name leads; directives without a link are Weir's own, or
            those of a widely used third-party module. "Inherited" says what an inner level has that does not name the
            directive itself. A star leads to what is otherwise here than in nginx ([differences.md](differences.md)).


            """);
        var manual = File.ReadLines(Root("data/nginx-directives.tsv")).Skip(1).Select(static l => l.Split('\t'))
            .GroupBy(static c => c[1])
            .ToDictionary(static g => g.Key, static g => g.Select(static c => c[0]).ToArray());
        string differences = File.ReadAllText(Root("docs/differences.md"));
        DirectiveSpec[] specs = [.. Build("", "", "", "", out HttpConfiguration _).Registry.All
            .Where(static s => (s.Contexts & (ConfContext.StreamAny | ConfContext.MailAny)) == 0
                || (s.Contexts & (ConfContext.HttpAny | ConfContext.Main)) != 0)];
        Dictionary<string, Setting> baseline = Settings("", "", "", "")!;
        foreach (IGrouping<string, DirectiveSpec> module in specs
            .GroupBy(s => Module(s, manual)).OrderBy(static g => g.Key, StringComparer.Ordinal))
        {
            text.Append($"## {module.Key}\n\n| directive | where | takes | default | inherited | |\n"
                + "|---|---|---|---|---|---|\n");
            foreach (DirectiveSpec spec in module.OrderBy(static s => s.Name, StringComparer.Ordinal))
            {
                (string byDefault, string inherited) = Facts(spec, baseline);
                string star = differences.Contains($"`{spec.Name}`", StringComparison.Ordinal)
                    || differences.Contains($"`{spec.Name} ", StringComparison.Ordinal) ? "[*](differences.md)" : "";
                text.Append($"| {Link(spec, manual)} | {ConfContexts.Names(spec.Contexts)} | {Takes(spec)} ")
                    .Append($"| {byDefault} | {inherited} | {star} |\n");
            }
            text.Append('\n');
        }
        return text.ToString().TrimEnd('\n') + "\n";
    }

    private static string Takes(DirectiveSpec spec) => spec.FreeBlock ? "a block of lines"
        : ConfArities.Describe(spec.Arity) + (spec.Block ? " and a block" : "");

    /// <summary>The page of nginx's manual, which is the module's source file in most cases.</summary>
    private static string Module(DirectiveSpec spec, Dictionary<string, string[]> manual)
    {
        if (!manual.TryGetValue(spec.Name, out string[]? files))
        {
            return "weir";
        }
        string file = spec.Contexts == ConfContext.Upstream
                && files.FirstOrDefault(static f => f.Contains("upstream", StringComparison.Ordinal)) is { } group
                    ? group
            : spec.Contexts != ConfContext.Upstream
                && files.FirstOrDefault(static f => f.EndsWith("ngx_http_core_module.c", StringComparison.Ordinal))
                    is { } core ? core
            : files.FirstOrDefault(f => f.StartsWith("http/", StringComparison.Ordinal)
            == ((spec.Contexts & (ConfContext.Main | ConfContext.Events)) == 0)) ?? files[0];
        string name = Path.GetFileNameWithoutExtension(file);
        return file.StartsWith("core/", StringComparison.Ordinal) || file.StartsWith("event/", StringComparison.Ordinal)
            ? "ngx_core_module" : name switch
            {
                "ngx_http" or "ngx_http_copy_filter_module" or "ngx_http_postpone_filter_module"
                    or "ngx_http_write_filter_module" or "ngx_http_try_files_module" => "ngx_http_core_module",
                "ngx_http_upstream" => "ngx_http_upstream_module",
                _ when name.StartsWith("ngx_http_upstream_", StringComparison.Ordinal) => "ngx_http_upstream_module",
                _ => name.Replace("_filter_module", "_module", StringComparison.Ordinal),
            };
    }

    private static string Link(DirectiveSpec spec, Dictionary<string, string[]> manual)
    {
        string module = Module(spec, manual);
        string folder = module == "ngx_core_module" ? "" : "http/";
        return module == "weir" ? $"`{spec.Name}`"
            : $"[`{spec.Name}`](https://nginx.org/en/docs/{folder}{module}.html#{spec.Name})";
    }

    private static (string Default, string Inherited) Facts(DirectiveSpec spec, Dictionary<string, Setting> baseline)
    {
        const ConfContext levels = ConfContext.Http | ConfContext.Server | ConfContext.Location;
        bool nests = System.Numerics.BitOperations.PopCount((uint)(spec.Contexts & levels)) > 1;
        if (!spec.Block)
        {
            foreach (string arguments in Samples(spec))
            {
                string line = $"{spec.Name}{arguments};";
                Dictionary<string, Setting>? set = (spec.Contexts & ConfContext.Server) != 0
                    ? Settings("", "", line, "")
                    : (spec.Contexts & ConfContext.Http) != 0 ? Settings("", line, "", "")
                    : (spec.Contexts & ConfContext.Location) != 0 ? Settings("", "", "", line)
                    : (spec.Contexts & ConfContext.Events) != 0 ? Settings("", "", "", "", line)
                    : (spec.Contexts & ConfContext.Main) != 0 ? Settings(line, "", "", "") : null;
                if (set is null)
                {
                    continue;
                }
                string? changed = set.Keys.Order(StringComparer.Ordinal).FirstOrDefault(k => set[k].IsSet
                    && baseline.TryGetValue(k, out Setting? before) && !before.IsSet);
                if (changed is not null)
                {
                    string shown = s_defaults.TryGetValue(spec.Name, out string? known) ? $"`{known}`"
                        : changed.StartsWith("0main", StringComparison.Ordinal) ? "" : baseline[changed].Value;
                    return (shown, !nests ? "" : set[changed].IsList ? "as a whole" : "yes");
                }
            }
        }
        return (s_defaults.TryGetValue(spec.Name, out string? other) && spec.Contexts != ConfContext.Upstream
            ? $"`{other}`" : "", "");
    }

    private static IEnumerable<string> Samples(DirectiveSpec spec)
    {
        if ((spec.Arity & (ConfArity.Zero | ConfArity.Any)) != 0)
        {
            yield return "";
        }
        if ((spec.Arity & ConfArity.Flag) != 0)
        {
            yield return " on";
            yield return " off";
            yield break;
        }
        if ((spec.Arity & (ConfArity.One | ConfArity.OneOrMore)) != 0)
        {
            foreach (string word in s_words)
            {
                yield return " " + word;
            }
        }
        if ((spec.Arity & (ConfArity.Two | ConfArity.TwoOrMore | ConfArity.OneOrMore)) != 0)
        {
            foreach (string words in (string[])["x y", "17 17k", "off x", "404 /x", "max=17 inactive=17s", "/x 17"])
            {
                yield return " " + words;
            }
        }
    }

    private static HttpBuild Build(string main, string http, string server, string location,
        out HttpConfiguration made, string events = "")
    {
        string text = $"{main} events {{ {events} }} http {{ {http} server {{ {server} "
            + $"location / {{ {location} }} }} }}";
        ConfTree tree = ConfParser.Parse(new MemoryConfFiles().Add("/n.conf", text), "/n.conf", null);
        var build = new HttpBuild(new CollectResources("/", "/", []), tree.Errors);
        made = build.Run(tree);
        return build;
    }

    /// <summary>Every setting by its path; null when the text is refused.</summary>
    private static Dictionary<string, Setting>? Settings(string main, string http, string server, string location,
        string events = "")
    {
        HttpBuild build = Build(main, http, server, location, out HttpConfiguration made, events);
        try
        {
            if (build.Errors.Failed || made.Servers.Count == 0)
            {
                return null;
            }
            var found = new Dictionary<string, Setting>(StringComparer.Ordinal);
            ServerConf one = made.Servers[0];
            LocationConf level = location.Length > 0 ? Inner(one) : one.Location;
            Collect("0main", build.Main, found, 0);
            Collect("1core", level.Settings, found, 0);
            Collect("2server", one, found, 0);
            for (int i = 0; i < level.Modules.Length; i++)
            {
                Collect($"3module{i:00}", level.Modules[i], found, 0);
                Collect($"4module{i:00}", one.Modules[i], found, 0);
                Collect($"5module{i:00}", made.MainConfs[i], found, 0);
            }
            return found;
        }
        finally
        {
            made.Release();
        }
    }

    private static LocationConf Inner(ServerConf server)
    {
        object root = typeof(LocationTree).GetField("_root", Members)!.GetValue(server.Locations)!;
        object child = ((IList)root.GetType().GetField("Children", Members)!.GetValue(root)!)[0]!;
        return (LocationConf)child.GetType().GetField("Prefix", Members)!.GetValue(child)!;
    }

    private static void Collect(string path, object? from, Dictionary<string, Setting> into, int depth)
    {
        for (Type? type = from?.GetType(); type is not null && type != typeof(object); type = type.BaseType)
        {
            foreach (FieldInfo field in type.GetFields(Members | BindingFlags.DeclaredOnly))
            {
                object? value = field.GetValue(from);
                string name = $"{path}.{field.Name}";
                string kind = field.FieldType.IsGenericType ? field.FieldType.GetGenericTypeDefinition().Name : "";
                if (kind is "Inherited`1" or "InheritedList`1")
                {
                    bool isSet = (bool)field.FieldType.GetProperty("IsSet")!.GetValue(value)!;
                    object? inner = field.FieldType.GetProperty(kind == "Inherited`1" ? "Value" : "Array")!
                        .GetValue(value);
                    into[name] = new Setting(Shown(field.Name, inner), isSet, kind == "InheritedList`1");
                }
                else if (depth < 2 && value is not null
                    && field.FieldType.Name.EndsWith("Settings", StringComparison.Ordinal))
                {
                    Collect(name, value, into, depth + 1);
                }
            }
        }
    }

    private static string Shown(string field, object? value)
    {
        string text = value switch
        {
            null => "",
            bool flag => flag ? "on" : "off",
            Template template => template.Source,
            ConfBufs bufs => $"{bufs.Count} {Size(bufs.Bytes)}",
            Enum word => word.ToString().ToLowerInvariant(),
            long number when field.Contains("Ms", StringComparison.Ordinal) => Time(number),
            long number => Size(number),
            int number => number is int.MaxValue or int.MinValue ? "" : number.ToString(CultureInfo.InvariantCulture),
            string word => word,
            _ => "",
        };
        return text.Length == 0 ? "" : $"`{text}`";
    }

    private static string Time(long ms) => ms is long.MaxValue or < 0 ? "" : ms == 0 ? "0"
        : ms % 86_400_000 == 0 ? $"{ms / 86_400_000}d" : ms % 3_600_000 == 0 ? $"{ms / 3_600_000}h"
        : ms % 60_000 == 0 && ms > 60_000 ? $"{ms / 60_000}m" : ms % 1000 == 0 ? $"{ms / 1000}s" : $"{ms}ms";

    private static string Size(long bytes) => bytes is long.MaxValue or < 0 ? ""
        : bytes != 0 && bytes % (1 << 20) == 0 ? $"{bytes >> 20}m" : bytes != 0 && bytes % 1024 == 0 ? $"{bytes >> 10}k"
        : bytes.ToString(CultureInfo.InvariantCulture);
}
