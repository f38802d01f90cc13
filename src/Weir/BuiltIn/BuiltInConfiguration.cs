// Configurations without a file: the welcome page of a start without arguments, and what the verbs stand for. Each is
// ordinary nginx.conf text in memory, which takes the same road as a file from there on; --print-conf shows it.
// Deterministic: the same command line gives the same text, in the master and after a reload. Start-up only.
using System.Globalization;
using System.Text;
using Weir.Conf;
using Weir.Kernel;
using Weir.Server;

namespace Weir;

/// <summary>A configuration in memory.</summary>
/// <param name="Path">The name of the main file, as messages show it.</param>
/// <param name="Text">The main file.</param>
/// <param name="Files">The same, as the configuration's reader wants it.</param>
/// <param name="Listens">The addresses it listens on, as `listen` has them.</param>
/// <param name="Banner">What to tell the person at the terminal.</param>
internal sealed record BuiltInConfiguration(
    string Path, string Text, MemoryConfFiles Files, IReadOnlyList<string> Listens, string Banner);

/// <summary>What every verb has.</summary>
internal sealed record CommonOptions(IReadOnlyList<string> Listens, int? Workers, bool Logs)
{
    /// <summary>With it the addresses speak TLS and HTTP/2.</summary>
    public DevelopmentCertificate? Certificate { get; init; }
}

/// <summary>`weir serve`. <paramref name="Root"/> is quoted already.</summary>
internal sealed record ServeOptions(CommonOptions Common, string Root)
{
    public bool IsSpa { get; init; }
    public bool Lists { get; init; } = true;
}

/// <summary>Writes built-in configurations.</summary>
internal static class BuiltInConfigurations
{
    public const int DefaultPort = 8080;

    public const int DefaultHttpsPort = 8443;

    private const string Directory = "/built-in/";

    /// <summary>`weir` without arguments.</summary>
    public static BuiltInConfiguration Welcome()
    {
        IReadOnlyList<string> listens = Localhost(DefaultPort);
        string body = """
                location = / {
                    weir_welcome;
                }
                location = /status.json {
                    weir_status json;
                }
                location = /favicon.ico {
                    return 204;
                }
            """;
        string text = Compose("The welcome page of a start without arguments.",
            new CommonOptions(listens, null, false), "", body);
        string banner = $"Weir is running: {Url(new CommonOptions(listens, null, false))}\n"
            + "Stop it with Ctrl-C. \"weir help\" says what else it does.";
        if (File.Exists(Invocation.DefaultConfPath))
        {
            banner += $"\nTo run {Invocation.DefaultConfPath}: weir -c {Invocation.DefaultConfPath}";
        }
        return Make("welcome", text, listens, banner);
    }

    public static BuiltInConfiguration Serve(ServeOptions options)
    {
        string find = options.IsSpa ? "try_files $uri $uri/index.html /index.html =404;"
            : options.Lists ? "autoindex on;\n        autoindex_exact_size off;\n        autoindex_localtime on;" : "";
        string body = $$"""
                root {{options.Root}};
                index index.html index.htm;
                location / {
                    {{find}}
                }
                # What versioning tools keep in a folder is nobody's business.
                location ~ /\.(?:git|hg|svn)(?:/|$) {
                    return 404;
                }
            """;
        string http = """
                default_type application/octet-stream;
                sendfile on;
                tcp_nopush on;
                gzip on;
                gzip_min_length 1k;
                gzip_types text/plain text/css text/javascript application/javascript application/json
                    application/xml application/manifest+json application/wasm image/svg+xml;


            """ + "    " + MimeTypes.Text.TrimEnd().Replace("\n", "\n    ", StringComparison.Ordinal)
            .Replace("\n    \n", "\n\n", StringComparison.Ordinal) + "\n";
        // As root, the files are those that root can read; nobody else was named.
        string text = Compose("A folder over HTTP.", options.Common, http, body, Identity.IsRoot ? "\nuser root;" : "");
        IReadOnlyList<string> listens = options.Common.Listens;
        return Make("serve", text, listens,
            $"Serving {options.Root} on {Url(options.Common)}\n{Trust(options.Common)}Stop it with Ctrl-C.");
    }

    public static BuiltInConfiguration Proxy(CommonOptions common, IReadOnlyList<ProxyTarget> targets)
    {
        var upstream = new StringBuilder();
        upstream.Append("    upstream application {\n");
        foreach (ProxyTarget target in targets)
        {
            upstream.Append(CultureInfo.InvariantCulture, $"        server {target.Server};\n");
        }
        upstream.Append("        keepalive 32;\n    }\n");
        string http = upstream + """
                # Upgrades (WebSocket) go through; everything else keeps its connection to the application.
                map $http_upgrade $application_connection {
                    default upgrade;
                    "" "";
                }

            """;
        string body = $$"""
                client_max_body_size 0;
                location / {
                    proxy_pass http://application{{targets[0].Uri}};
                    proxy_http_version 1.1;
                    proxy_set_header Host $http_host;
                    proxy_set_header X-Real-IP $remote_addr;
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_set_header X-Forwarded-Proto $scheme;
                    proxy_set_header X-Forwarded-Host $http_host;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection $application_connection;
                    proxy_read_timeout 1h;
                    proxy_send_timeout 1h;
                }
            """;
        string what = string.Join(", ", targets.Select(static t => t.Server + t.Uri));
        return Make("proxy", Compose("A reverse proxy in front of an application.", common, http, body), common.Listens,
            $"Passing {Url(common)} to {what}\n{Trust(common)}Stop it with Ctrl-C.");
    }

    /// <summary>Loopback addresses for a port: IPv6's only where the machine has it.</summary>
    public static IReadOnlyList<string> Localhost(int port)
    {
        string number = port.ToString(CultureInfo.InvariantCulture);
        return HasIpv6Loopback() ? ["127.0.0.1:" + number, "[::1]:" + number] : ["127.0.0.1:" + number];
    }

    private static string Compose(string what, CommonOptions common, string http, string server, string main = "")
    {
        var listens = new StringBuilder();
        string tls = common.Certificate is null ? "" : " ssl";
        foreach (string listen in common.Listens)
        {
            listens.Append(CultureInfo.InvariantCulture, $"        listen {listen}{tls};\n");
        }
        if (common.Certificate is { } certificate)
        {
            listens.Append(CultureInfo.InvariantCulture, $"""
                        http2 on;
                        ssl_certificate {ConfQuote.Of(certificate.CertificatePath)};
                        ssl_certificate_key {ConfQuote.Of(certificate.KeyPath)};
                        # Who comes with http:// is shown the way.
                        error_page 497 =301 https://$http_host$request_uri;

                """);
        }
        string workers = common.Workers?.ToString(CultureInfo.InvariantCulture) ?? "auto";
        string log = common.Logs ? "/dev/stdout" : "off";
        return $$"""
            # {{what}}
            daemon off;{{main}}
            worker_processes {{workers}};
            pid {{PidPath(common.Listens)}};
            error_log stderr;

            events {
                worker_connections 1024;
            }

            http {
                access_log {{log}};
                server_tokens off;

            """ + http + "\n    server {\n" + listens + server.Replace("\n", "\n    ", StringComparison.Ordinal)
            .Insert(0, "    ") + "\n    }\n}\n";
    }

    private static BuiltInConfiguration Make(string name, string text, IReadOnlyList<string> listens, string banner)
    {
        string path = Directory + name + ".conf";
        MemoryConfFiles files = new MemoryConfFiles().Add(path, text);
        return new BuiltInConfiguration(path, text, files, listens, banner);
    }

    /// <summary>One file per first address, so that several can run side by side, where the user may write.</summary>
    private static string PidPath(IReadOnlyList<string> listens)
    {
        string name = string.Concat(listens[0].Select(static c => char.IsAsciiLetterOrDigit(c) ? c : '-')).Trim('-');
        string? runtime = Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR");
        bool hasRuntime = runtime is { Length: > 0 } && System.IO.Directory.Exists(runtime) && !runtime.Contains('$');
        string directory = Identity.IsRoot && System.IO.Directory.Exists("/run") ? "/run"
            : hasRuntime ? runtime! : "/tmp";
        return ConfQuote.Of($"{directory}/weir-{Environment.UserName}-{name}.pid")!;
    }

    /// <summary>How the certificate is trusted, when it is new; where it lies, when it is not.</summary>
    private static string Trust(CommonOptions common) => common.Certificate is not { } certificate ? ""
        : certificate.IsNew ? certificate.HowToTrust.ReplaceLineEndings("\n") + "\n"
        : $"Certificate: {certificate.CertificatePath} (\"weir help https\" says how to trust it)\n";

    private static string Url(CommonOptions common)
    {
        string first = common.Listens[0];
        string scheme = common.Certificate is null ? "http" : "https";
        string usual = common.Certificate is null ? ":80" : ":443";
        if (first.StartsWith("unix:", StringComparison.Ordinal)
            || !SocketAddress.TryParse(first, 80, out SocketAddress? address, out string _))
        {
            return first;
        }
        string text = address!.ToString();
        int colon = text.LastIndexOf(':');
        string host = text[..colon] is "0.0.0.0" or "127.0.0.1" or "[::]" or "[::1]" ? "localhost" : text[..colon];
        return text[colon..] == usual ? $"{scheme}://{host}/" : $"{scheme}://{host}{text[colon..]}/";
    }

    private static bool HasIpv6Loopback()
    {
        try
        {
            return File.ReadLines("/proc/net/if_inet6")
                .Any(static line => line.StartsWith("00000000000000000000000000000001 ", StringComparison.Ordinal));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
