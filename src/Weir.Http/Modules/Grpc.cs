// grpc_pass and its family: requests to gRPC servers, over HTTP/2 in any case. Bodies are streamed both ways, trailers
// reach the client, and a client that speaks gRPC gets an error of this side as a grpc-status. The protocol is
// Proxy/Http2Protocol.cs, the exchange Proxy/Exchange.cs.
using Weir.Conf;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

/// <summary>grpc_pass of one very block.</summary>
internal sealed class GrpcPass
{
    public ProxyTarget? Target { get; set; }
}

internal sealed class GrpcSettings : UpstreamSettings
{
    public InheritedList<(string Name, Template Value)> SetHeaders;

    /// <summary>grpc_ssl_*</summary>
    public UpstreamTlsSettings Tls { get; } = new();

    protected override string Prefix => "grpc";

    /// <summary>There are no directives for it: messages pass as they come.</summary>
    protected override bool BuffersByDefault => false;

    protected override ReadOnlySpan<string> HiddenByDefault => (string[])["Date", "Server", "X-Accel-Expires",
        "X-Accel-Redirect", "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset"];

    internal void Merge(HttpBuild build, GrpcSettings p)
    {
        MergeCommon(build, p);
        SetHeaders.Merge(p.SetHeaders);
        Tls.Merge(p.Tls);
    }
}

internal sealed class GrpcModule : HttpModule<GrpcSettings>
{
    private const int GrpcLength = 7, GrpcsLength = 8;

    public override string Name => "http_grpc";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        UpstreamDirectives.DeclareCommon<GrpcSettings>(d, "grpc");
        UpstreamTlsSettings.Declare<GrpcSettings>(d, "grpc", static s => s.Tls);
        d.Variable("grpc_internal_trailers", static (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            bool wants = ((HttpRequest)s).Header(KnownHeader.Te).Span.IndexOf("trailers"u8) >= 0;
            value = wants ? NativeSlice.Literal("trailers"u8) : default;
            return wants;
        }, VariableFlags.NoCache);
        d.Block("grpc_pass", static u => SetPass(u, u.Block.Here<GrpcPass>()));
        d.Location<GrpcSettings>("grpc_set_header", static (u, s) =>
        {
            if (u.Template(1) is { } value)
            {
                s.SetHeaders.Add((u[0], value));
            }
        });
    }

    private static void SetPass(DirectiveUse use, GrpcPass pass)
    {
        if (pass.Target is not null)
        {
            use.Complain("is duplicate");
            return;
        }
        LocationConf location = use.Block.Core;
        if (location.Name.EndsWith('/') && location.Regex is null && !location.IsExact)
        {
            location.AutoRedirect = true;
        }
        string url = use[0];
        ConfSpan span = use.Directive.Args[0].Span;
        if (url.Contains('$'))
        {
            if (use.Template(0) is { } template)
            {
                pass.Target = new ProxyTarget { Url = url, Span = span, Template = template };
            }
            return;
        }
        bool tls = url.StartsWith("grpcs://", StringComparison.OrdinalIgnoreCase);
        bool plain = url.StartsWith("grpc://", StringComparison.OrdinalIgnoreCase);
        string rest = url[(tls ? GrpcsLength : plain ? GrpcLength : 0)..];
        if (!UpstreamServers.TrySplit(rest, tls ? 443 : 80, out string host, out int port, out bool hasPort)
            || host.Length == 0 || host.Contains('/') && !host.StartsWith("unix:", StringComparison.Ordinal))
        {
            use.Error(0, $"{(host.Length == 0 ? "no host" : host.Contains('/') ? "invalid host" : "invalid port")} "
                + $"in upstream \"{rest}\"");
            return;
        }
        pass.Target = new ProxyTarget
        {
            Url = url,
            Span = span,
            IsTls = tls,
            Host = host,
            Port = port,
            HasPort = hasPort,
            Uri = rest,
        };
    }

    protected override void Merge(HttpBuild build, GrpcSettings parent, GrpcSettings child) => child.Merge(build,
        parent);

    public override void InstallLocation(LocationInstall install)
    {
        LocationConf location = install.Location;
        var settings = install.Settings<GrpcSettings>(this);
        GrpcPass? passing = install.HereOrAround<GrpcPass>(static p => p.Target is not null, out _);
        if (passing?.Target is { } target && location.ContentHandler is null)
        {
            location.ContentHandler = Handler(install.Build, location, settings, target);
        }
    }

    private static GrpcHandler? Handler(HttpBuild build, LocationConf location, GrpcSettings settings,
        ProxyTarget target)
    {
        SetHeader[] headers = build.Shared(settings, s => Headers(build, s));
        var protocol = new Http2Protocol(headers, method: null, passTrailers: true, rewrites: null);
        UpstreamGroup? group = null;
        NativeSlice authority = default;
        if (target.Template is null)
        {
            group = UpstreamModule.Find(build, target.Host, target.Port, target.HasPort, target.Span, target.Uri);
            if (group is null)
            {
                return null;
            }
            bool unix = target.Host.StartsWith("unix:", StringComparison.Ordinal);
            authority = build.Memory.Store(
                unix ? "localhost" : target.HasPort ? $"{target.Host}:{target.Port}" : target.Host);
        }
        return new GrpcHandler(settings, protocol, group, target.Template)
        {
            Tls = target is { IsTls: false, Template: null } ? null
                : build.Shared(settings.Tls,
                    s => new GrpcTls(UpstreamTls.Make(build, s, "grpc", target.Span))).Tls,
            Authority = authority,
            Groups = build.Configuration.MainConfs.OfType<UpstreamGroups>().First().ByName,
            Resolver = target.Template is null ? null : ResolverModule.Of(location),
        };
    }

    /// <summary>Made once, also where it could not be made.</summary>
    private sealed record GrpcTls(UpstreamTls? Tls);

    private static SetHeader[] Headers(HttpBuild build, GrpcSettings settings)
    {
        var headers = new List<SetHeader>();
        IEnumerable<(string Name, Template Value)> more = SslModule.ForwardedBy(build).Select(h =>
            (h.Name, Template.Compile(h.Value, build.Configuration.Variables, out string? _)!));
        foreach ((string name, Template value) in settings.SetHeaders.Items.ToArray().Concat(more))
        {
            NativeSlice bytes = build.Memory.Store(name);
            if (HeaderName.Find(bytes.Span) is not (KnownHeader.ContentLength or KnownHeader.TransferEncoding))
            {
                headers.Add(new SetHeader(bytes, HeaderName.Hash(bytes.Span), value));
            }
        }
        return [.. headers];
    }
}

internal sealed class GrpcHandler(GrpcSettings settings, Http2Protocol protocol, UpstreamGroup? group,
    Template? address) : PhaseHandler
{
    internal UpstreamSettings Settings => settings;
    internal UpstreamProtocol Protocol => protocol;

    /// <summary>The authority of a constant address.</summary>
    public NativeSlice Authority { get; init; }
    public ByteTable<UpstreamGroup>? Groups { get; init; }
    public ResolverSettings? Resolver { get; init; }
    public UpstreamTls? Tls { get; init; }

    public override async LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        Exchange x = r.Get(Exchange.Slot);
        x.Begin(r, settings, protocol);
        if (address is null)
        {
            x.Group = UpstreamStates.Of(r.Loop).For(group!);
            x.TargetHost = Authority;
            x.Tls = Tls;
        }
        else if (!VariableTarget.Apply(x, UrlOf(r, address.Evaluate(r)), Groups!, Resolver, Tls, out NativeSlice _))
        {
            return PhaseResult.Answer(500);
        }
        x.TargetUri = ProxyHandler.TargetOf(r, default, default);
        PhaseResult result = await x.RunAsync();
        return result.Outcome == PhaseOutcome.Answer && GrpcErrors.Applies(r, result.Status)
            ? GrpcErrors.Answer(r, result.Status) : result;
    }

    /// <summary>An address in the form that proxy_pass has it.</summary>
    private static NativeSlice UrlOf(HttpRequest r, NativeSlice address)
    {
        ReadOnlySpan<byte> text = address.Span;
        return text.Length > 8 && HeaderName.Same(text[..8], "grpcs://"u8) ? r.Arena.Concat("https://"u8, text[8..])
            : text.Length > 7 && HeaderName.Same(text[..7], "grpc://"u8) ? r.Arena.Concat("http://"u8, text[7..])
            : r.Arena.Concat("http://"u8, text);
    }
}

/// <summary>What a gRPC client is told when no server could answer.</summary>
internal static class GrpcErrors
{
    /// <summary>The request is gRPC, and no error_page is to answer instead.</summary>
    internal static bool Applies(HttpRequest r, int status)
    {
        if (status < 400 || status == 499
            || !IsGrpc(r.Head.Value(KnownHeader.ContentType, r.HeadBytes.Span)))
        {
            return false;
        }
        foreach (ErrorPage page in r.Location.ErrorPages.Items)
        {
            if (page.Status == status)
            {
                return false;
            }
        }
        return true;
    }

    private static bool IsGrpc(ReadOnlySpan<byte> type)
    {
        ReadOnlySpan<byte> grpc = "application/grpc"u8;
        return type.Length >= grpc.Length && HeaderName.Same(type[..grpc.Length], grpc)
            && (type.Length == grpc.Length || type[grpc.Length] is (byte)'+' or (byte)';');
    }

    /// <summary>A response without messages: its head is its trailers.</summary>
    internal static PhaseResult Answer(HttpRequest r, int status)
    {
        ResponseHead response = r.Response;
        response.Status = 200;
        response.ContentType = NativeSlice.Literal("application/grpc"u8);
        response.ContentLength = 0;
        (NativeSlice code, NativeSlice text) = status switch
        {
            504 => (NativeSlice.Literal("4"u8), NativeSlice.Literal("upstream timed out"u8)),
            413 => (NativeSlice.Literal("8"u8), NativeSlice.Literal("request is too large"u8)),
            500 => (NativeSlice.Literal("13"u8), NativeSlice.Literal("internal error"u8)),
            502 or 503 => (NativeSlice.Literal("14"u8), NativeSlice.Literal("upstream is unavailable"u8)),
            _ => (NativeSlice.Literal("2"u8), NativeSlice.Literal("request failed"u8)),
        };
        response.Add(NativeSlice.Literal("grpc-status"u8), code);
        response.Add(NativeSlice.Literal("grpc-message"u8), text);
        return r.SendComplete(default);
    }
}
