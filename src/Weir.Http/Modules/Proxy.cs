// proxy_pass and its family: where a request is passed, with which target, headers and body, and how the answer's
// redirects and cookies are rewritten. The exchange itself is Proxy/Exchange.cs; what all upstream protocols share is
// declared by Proxy/UpstreamDirectives.cs.
using Weir.Conf;
using Weir.Http.Cache;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

/// <summary>Where proxy_pass leads.</summary>
internal sealed class ProxyTarget
{
    public required string Url { get; init; }
    public required ConfSpan Span { get; init; }

    /// <summary>The URL when it has variables.</summary>
    public Template? Template { get; init; }

    public bool IsTls { get; init; }
    public string Host { get; init; } = "";
    public int Port { get; init; }
    public bool HasPort { get; init; }

    /// <summary>The URI part as written; empty for none.</summary>
    public string Uri { get; init; } = "";
}

/// <summary>proxy_pass of one very block.</summary>
internal sealed class ProxyPass
{
    public ProxyTarget? Target { get; set; }
}

internal sealed class ProxySettings : UpstreamSettings
{
    /// <summary>10, 11 or 20.</summary>
    public Inherited<int> Version;
    public Inherited<Template> Method;
    public Inherited<Template> Body;
    public Inherited<bool> PassTrailers;
    public InheritedList<(string Name, Template Value)> SetHeaders;
    public InheritedList<RedirectRule> Redirects;
    public Inherited<bool> RedirectsOff;
    public InheritedList<CookieRule> CookieDomains;
    public InheritedList<CookieRule> CookiePaths;
    public InheritedList<CookieFlags> CookieFlags;

    /// <summary>proxy_ssl_*</summary>
    public UpstreamTlsSettings Tls { get; } = new();

    protected override string Prefix => "proxy";

    protected override ReadOnlySpan<string> HiddenByDefault => (string[])["Date", "Server", "X-Pad", "X-Accel-Expires",
        "X-Accel-Redirect", "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset"];

    internal void Merge(HttpBuild build, ProxySettings p)
    {
        MergeCommon(build, p);
        Version.Merge(p.Version, 11);
        Method.Merge(p.Method, null!);
        Body.Merge(p.Body, null!);
        PassTrailers.Merge(p.PassTrailers, false);
        SetHeaders.Merge(p.SetHeaders);
        bool own = Redirects.IsSet || RedirectsOff.IsSet;
        if (!own)
        {
            RedirectsOff.Merge(p.RedirectsOff, false);
        }
        Redirects.Merge(own ? default : p.Redirects);
        CookieDomains.Merge(p.CookieDomains);
        CookiePaths.Merge(p.CookiePaths);
        CookieFlags.Merge(p.CookieFlags);
        Tls.Merge(p.Tls);
    }
}

internal sealed class ProxyModule : HttpModule<ProxySettings>
{
    public override string Name => "http_proxy";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        UpstreamDirectives.Declare<ProxySettings>(d, "proxy");
        UpstreamTlsSettings.Declare<ProxySettings>(d, "proxy", static s => s.Tls);
        d.Block("proxy_pass", static u => SetPass(u, u.Block.Here<ProxyPass>()));
        d.Location<ProxySettings>("proxy_set_header", static (u, s) =>
        {
            if (u.Template(1) is { } value)
            {
                s.SetHeaders.Add((u[0], value));
            }
        });
        d.Location<ProxySettings>("proxy_http_version", static (u, s) => u.SetEnum(ref s.Version,
            [new ConfChoice<int>("1.0", 10), new("1.1", 11), new("2", 20)]));
        d.Location<ProxySettings>("proxy_method", static (u, s) => u.SetTemplate(ref s.Method));
        d.Location<ProxySettings>("proxy_set_body", static (u, s) => u.SetTemplate(ref s.Body));
        d.Location<ProxySettings>("proxy_pass_trailers", static (u, s) => u.SetFlag(ref s.PassTrailers));
        d.Location<ProxySettings>("proxy_redirect", ProxyRewrites.SetRedirect);
        d.Location<ProxySettings>("proxy_cookie_domain", static (u, s) =>
            ProxyRewrites.AddCookieRule(u, ref s.CookieDomains, isDomain: true));
        d.Location<ProxySettings>("proxy_cookie_path", static (u, s) =>
            ProxyRewrites.AddCookieRule(u, ref s.CookiePaths, isDomain: false));
        d.Location<ProxySettings>("proxy_cookie_flags", ProxyRewrites.AddCookieFlags);
        // Tables that grow by themselves: accepted, checked, without effect (docs/proxy.md).
        d.Block("proxy_headers_hash_max_size", static u => CoreModule.CheckHash(u));
        d.Block("proxy_headers_hash_bucket_size", static u => CoreModule.CheckHash(u));
        d.Location<LocationConf>("early_hints", SetEarlyHints);
        ProxyVariables.Declare(d);
    }

    private static void SetEarlyHints(DirectiveUse use, LocationConf location)
    {
        if (!use.Walker.Fresh(use.Directive, in location.EarlyHints))
        {
            return;
        }
        var conditions = new List<Template>();
        for (int i = 0; i < use.Count; i++)
        {
            if (use.Template(i) is { } template)
            {
                conditions.Add(template);
            }
        }
        location.EarlyHints.Set([.. conditions]);
    }

    private const int HttpLength = 7, HttpsLength = 8;

    private static void SetPass(DirectiveUse use, ProxyPass pass)
    {
        if (pass.Target is not null)
        {
            use.Complain("is duplicate");
            return;
        }
        string url = use[0];
        if (url.Contains('$'))
        {
            if (use.Template(0) is { } template)
            {
                pass.Target = new ProxyTarget { Url = url, Span = use.Directive.Args[0].Span, Template = template };
            }
            return;
        }
        bool tls = url.StartsWith("https://", StringComparison.OrdinalIgnoreCase);
        if (!tls && !url.StartsWith("http://", StringComparison.OrdinalIgnoreCase))
        {
            use.Error(0, "invalid URL prefix", "http://HOST[:PORT][/URI] or http://unix:/PATH[:/URI]");
            return;
        }
        string rest = url[(tls ? HttpsLength : HttpLength)..];
        string uri = "";
        if (rest.StartsWith("unix:", StringComparison.Ordinal))
        {
            int end = rest.IndexOf(':', 5);
            uri = end < 0 ? "" : rest[(end + 1)..];
            rest = end < 0 ? rest : rest[..end];
        }
        else if (rest.AsSpan().IndexOfAny('/', '?') is var slash and >= 0)
        {
            uri = rest[slash] == '?' ? "/" + rest[slash..] : rest[slash..];
            rest = rest[..slash];
        }
        if (!UpstreamServers.TrySplit(rest, tls ? 443 : 80, out string host, out int port, out bool hasPort)
            || host.Length == 0)
        {
            use.Error(0, $"{(host.Length == 0 ? "no host" : "invalid port")} in upstream "
                + $"\"{url[(tls ? HttpsLength : HttpLength)..]}\"");
            return;
        }
        LocationConf location = use.Block.Core;
        if (uri.Length > 0 && (location.IsNamed || location.Regex is not null
            || use.Block.Kind is HttpBlockKind.If or HttpBlockKind.LimitExcept))
        {
            use.Error(0, "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named "
                + "location, or inside \"if\" statement, or inside \"limit_except\" block");
            return;
        }
        if (location.Name.EndsWith('/') && location.Regex is null && !location.IsExact)
        {
            location.AutoRedirect = true;
        }
        pass.Target = new ProxyTarget
        {
            Url = url,
            Span = use.Directive.Args[0].Span,
            IsTls = tls,
            Host = host,
            Port = port,
            HasPort = hasPort,
            Uri = uri,
        };
    }

    protected override void Merge(HttpBuild build, ProxySettings parent, ProxySettings child) => child.Merge(build,
        parent);

    public override void InstallLocation(LocationInstall install)
    {
        LocationConf location = install.Location;
        var settings = install.Settings<ProxySettings>(this);
        ProxyPass? passing = install.HereOrAround<ProxyPass>(static p => p.Target is not null, out HttpBlock block);
        if (passing?.Target is not { } target || location.ContentHandler is not null)
        {
            return;
        }
        location.ContentHandler = Handler(install.Build, location, settings, target, block.Core);
    }

    private static ProxyHandler? Handler(HttpBuild build, LocationConf location, ProxySettings settings,
        ProxyTarget target,
        LocationConf named)
    {
        NativeArena memory = build.Memory;
        SetHeader[] headers = build.Shared(settings, s => Headers(build, s, []));
        UpstreamGroup? group = null;
        NativeSlice hostHeader = default, port = default;
        if (target.Template is null)
        {
            group = UpstreamModule.Find(build, target.Host, target.Port, target.HasPort, target.Span,
                target.Url[(target.IsTls ? HttpsLength : HttpLength)..]);
            if (group is null)
            {
                return null;
            }
            bool unix = target.Host.StartsWith("unix:", StringComparison.Ordinal);
            string text = unix ? "localhost" : target.HasPort
                && target.Port != (target.IsTls ? 443 : 80) ? $"{target.Host}:{target.Port}" : target.Host;
            hostHeader = memory.Store(text);
            port = unix ? default
                : memory.Store(target.Port.ToString(System.Globalization.CultureInfo.InvariantCulture));
        }
        RedirectRule[] rewrites = ProxyRewrites.Rules(build, settings, target, named);
        UpstreamProtocol Protocol(SetHeader[] set)
        {
            var http1 = new ProxyProtocolHttp(set, settings, rewrites);
            return settings.Version.Value != 20 ? http1
                : new Http2Protocol(set, settings.Method.Value, settings.PassTrailers.Value, http1);
        }
        UpstreamProtocol protocol = Protocol(headers);
        CacheRules? cache = settings.Cache.Zone.Value is null ? null : CacheDirectives.Rules(build, settings.Cache,
            "proxy", Protocol(Headers(build, settings, s_conditions)));
        // Under trace nobody is connected to: an encrypted answer could not be made up.
        bool mayBeTls = target.IsTls && (build.Trace is null || target.Template is not null)
            || target.Template is not null && !target.Url.StartsWith("http://", StringComparison.OrdinalIgnoreCase);
        return new ProxyHandler(settings, protocol, group, target.Template)
        {
            Tls = !mayBeTls ? null
                : build.Shared(settings.Tls, s => new MadeTls(UpstreamTls.Make(build, s, "proxy", target.Span))).Tls,
            HostHeader = hostHeader,
            Port = port,
            UriPart = memory.Store(target.Uri),
            Groups = build.Configuration.MainConfs.OfType<UpstreamGroups>().First().ByName,
            Resolver = target.Template is null ? null : ResolverModule.Of(location),
            Cache = cache,
            LocationName = named.Regex is null && !named.IsNamed ? named.NameBytes : default,
        };
    }

    /// <summary>Made once, also where it could not be made.</summary>
    private sealed record MadeTls(UpstreamTls? Tls);

    /// <summary>The headers of a request: the configured ones, then Host unless it is among them.</summary>
    private static SetHeader[] Headers(HttpBuild build, ProxySettings settings, (string Name, string Value)[] more)
    {
        VariableTable variables = build.Configuration.Variables;
        var headers = new List<SetHeader>();
        void Add(string name, Template value)
        {
            NativeSlice bytes = build.Memory.Store(name);
            // The framing of a request is never the configuration's: Content-Length and Transfer-Encoding are ours.
            if (HeaderName.Find(bytes.Span) is not (KnownHeader.ContentLength or KnownHeader.TransferEncoding))
            {
                headers.Add(new SetHeader(bytes, HeaderName.Hash(bytes.Span), value));
            }
        }
        foreach ((string name, Template value) in settings.SetHeaders.Items)
        {
            Add(name, value);
        }
        if (!headers.Exists(static h => HeaderName.Same(h.Name.Span, "Host"u8)))
        {
            Add("Host", Template.Compile("$proxy_host", variables, out string? _)!);
        }
        foreach ((string name, string value) in more.Concat(SslModule.ForwardedBy(build)))
        {
            if (!headers.Exists(h => HeaderName.Same(h.Name.Span, System.Text.Encoding.ASCII.GetBytes(name))))
            {
                Add(name, Template.Compile(value, variables, out string? _)!);
            }
        }
        return [.. headers];
    }

    /// <summary>Where a cache asks, its own conditions stand for the client's.</summary>
    private static readonly (string Name, string Value)[] s_conditions =
    [
        ("If-Modified-Since", "$upstream_cache_last_modified"), ("If-None-Match", "$upstream_cache_etag"),
        ("If-Unmodified-Since", ""), ("If-Match", ""), ("Range", ""), ("If-Range", ""),
    ];
}
