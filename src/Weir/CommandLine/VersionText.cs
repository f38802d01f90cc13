// What -v and -V print. Tools read nginx's -V for the version line and for the `configure arguments:` line, so its
// words are nginx's: a module that nginx builds only when asked is named when it is here (--with-…), one that nginx
// builds unless told otherwise is named when it is missing (--without-…). Made from this very binary's catalogue.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Weir.Conf;
using Weir.Http;
using Weir.Tls;

namespace Weir;

internal static class VersionText
{
    /// <summary>The nginx whose configuration language this is.</summary>
    public const string NginxVersion = "1.31.5";

    private const string UpstreamPrefix = "http_upstream_";

    // nginx's `configure --with-…_module`: absent there unless asked for.
    private static readonly string[] _optional =
    [
        "http_ssl", "http_v2", "http_v3", "http_realip", "http_addition", "http_xslt", "http_image_filter",
        "http_geoip", "http_sub", "http_dav", "http_flv", "http_mp4", "http_gunzip", "http_gzip_static",
        "http_auth_request", "http_random_index", "http_secure_link", "http_degradation", "http_slice",
        "http_stub_status", "http_perl", "http_tunnel",
    ];

    // nginx's `configure --without-…_module`: present there unless refused.
    private static readonly string[] _usual =
    [
        "http_charset", "http_gzip", "http_ssi", "http_userid", "http_access", "http_auth_basic", "http_mirror",
        "http_autoindex", "http_geo", "http_map", "http_split_clients", "http_referer", "http_rewrite", "http_proxy",
        "http_fastcgi", "http_uwsgi", "http_scgi", "http_grpc", "http_memcached", "http_limit_conn",
        "http_limit_req", "http_empty_gif", "http_browser", "http_upstream_hash", "http_upstream_ip_hash",
        "http_upstream_least_conn", "http_upstream_least_time", "http_upstream_random", "http_upstream_keepalive",
        "http_upstream_zone", "http_upstream_sticky",
    ];

    public static string Version { get; } =
        typeof(VersionText).Assembly.GetName().Version is { } v ? $"{v.Major}.{v.Minor}.{v.Build}" : "0.0.0";

    /// <summary>"weir/0.1.0".</summary>
    public static string Product => "weir/" + Version;

    /// <summary>-v.</summary>
    public static string Short => $"nginx version: nginx/{NginxVersion} ({Product})\n";

    /// <summary>-V.</summary>
    public static string Full => Short + Built + TlsLines + "configure arguments: " + ConfigureArguments() + "\n";

    private static string Built
    {
        get
        {
            string kind = RuntimeFeature.IsDynamicCodeSupported ? "JIT" : "Native AOT";
            string architecture = RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();
            string line = $"built with {RuntimeInformation.FrameworkDescription} ({kind}, {architecture})\n";
            return Environment.Version.Major >= 10 ? line
                : line + "the runtime of this binary is .NET 9: .NET 10 is used wherever its Native AOT runtime pack"
                    + " can be restored\n";
        }
    }

    /// <summary>nginx's two lines; where the library is missing, what is missing.</summary>
    private static string TlsLines => OpenSsl.Version is { } version
        ? $"built with {version}\nTLS SNI support enabled\n" : $"without TLS: {OpenSsl.Load()}\n";

    private static string ConfigureArguments() => Arguments(PresentModules());

    /// <summary>The catalogue in nginx's names: filters lose their suffix there, and what one upstream module does
    /// here is several there, each known by its directive.</summary>
    internal static HashSet<string> PresentModules()
    {
        const string Suffix = "_filter";
        HashSet<string> present = [.. Catalog.Modules.Select(static m =>
            m.Name.EndsWith(Suffix, StringComparison.Ordinal) ? m.Name[..^Suffix.Length] : m.Name)];
        DirectiveRegistry registry = new HttpBuild(new CollectResources("/", "/", []), new ConfErrors()).Registry;
        foreach (string module in _usual.Where(static m => m.StartsWith(UpstreamPrefix, StringComparison.Ordinal)))
        {
            if (registry.Find(module[UpstreamPrefix.Length..], ConfContext.Upstream) is not null)
            {
                present.Add(module);
            }
        }
        return present;
    }

    /// <summary>The line for a set of modules.</summary>
    internal static string Arguments(IReadOnlySet<string> present)
    {
        var text = new StringBuilder();
        text.Append("--prefix=").Append(Invocation.DefaultPrefix.TrimEnd('/'));
        text.Append(" --conf-path=").Append(Invocation.DefaultConfPath);
        text.Append(" --pid-path=/run/nginx.pid --with-threads");
        foreach (string module in _optional.Where(present.Contains))
        {
            text.Append(" --with-").Append(module).Append("_module");
        }
        foreach (string module in _usual.Where(m => !present.Contains(m)))
        {
            text.Append(" --without-").Append(module).Append("_module");
        }
        return text.ToString();
    }
}
