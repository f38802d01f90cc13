// health_check and match: servers of a shared group are asked regularly, by one worker, and left out while they fail.
// This file reads the configuration; Proxy/HealthChecker.cs asks. Frozen when the configuration is complete.
using Weir.Conf;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

/// <summary>A health_check of one very block.</summary>
internal sealed class HealthUse
{
    public ConfDirective? Directive { get; set; }
    public long IntervalMs { get; set; } = 5000;
    public long JitterMs { get; set; }
    public int Fails { get; set; } = 1;
    public int Passes { get; set; } = 1;
    public string Uri { get; set; } = "/";
    public string? Match { get; set; }
    public int Port { get; set; }
    public bool Mandatory { get; set; }
    public long KeepAliveMs { get; set; }
    public bool IsGrpc { get; set; }

    /// <summary>Nothing is asked: who accepts a connection is well.</summary>
    public bool IsTcp { get; set; }
    public string GrpcService { get; set; } = "";
    public int GrpcStatus { get; set; }
    public bool HasUri { get; set; }
}

/// <summary>What is known about health checks of a whole configuration.</summary>
internal sealed class HealthMain
{
    public Dictionary<string, HealthMatch> Matches { get; } = new(StringComparer.Ordinal);

    /// <summary>The checks of all locations.</summary>
    public List<HealthRule> Rules { get; } = [];
}

internal sealed class HealthCheckModule : HttpModule
{
    public override string Name => "http_health_check";

    public override object CreateMain(HttpBuild build) => new HealthMain();

    public override void Declare(HttpDeclarations d)
    {
        int index = Index;
        d.Own(new DirectiveSpec
        {
            Name = "match",
            Contexts = ConfContext.Http,
            Arity = ConfArity.One,
            Block = true,
            FreeBlock = true,
            Summary = "What an answer to a health check must look like: status, header, body.",
            Apply = (walker, use) =>
            {
                var main = (HealthMain)walker.Need<HttpBlock>().Main[index]!;
                if (HealthMatch.Read(walker.Need<HttpBuild>(), walker, use) is { } match
                    && !main.Matches.TryAdd(use[0], match))
                {
                    walker.Error(use.Args[0], $"duplicate match \"{use[0]}\"");
                }
            },
        });
        d.Own(new DirectiveSpec
        {
            Name = "health_check",
            Contexts = ConfContext.Location,
            Arity = ConfArity.Any | ConfArity.Zero,
            Summary = "Asks the servers of the location's group regularly and leaves out those that fail.",
            Apply = static (walker, use) => Set(walker, use, walker.Need<HttpBlock>().Here<HealthUse>()),
        });
    }

    private static void Set(ConfWalker walker, ConfDirective use, HealthUse check)
    {
        if (check.Directive is not null)
        {
            walker.Complain(use, "is duplicate");
            return;
        }
        check.Directive = use;
        for (int i = 0; i < use.Args.Length; i++)
        {
            string arg = use[i];
            int equals = arg.IndexOf('=');
            string value = equals < 0 ? "" : arg[(equals + 1)..];
            bool good;
            long n = 0;
            switch (equals < 0 ? arg : arg[..equals])
            {
                case "interval":
                    good = ConfValues.TryMsec(value, out n) && n > 0;
                    check.IntervalMs = n;
                    break;
                case "jitter":
                    good = ConfValues.TryMsec(value, out n);
                    check.JitterMs = n;
                    break;
                case "fails":
                    good = ConfValues.TryNumber(value, out n) && n is > 0 and <= int.MaxValue;
                    check.Fails = (int)n;
                    break;
                case "passes":
                    good = ConfValues.TryNumber(value, out n) && n is > 0 and <= int.MaxValue;
                    check.Passes = (int)n;
                    break;
                case "port":
                    good = ConfValues.TryNumber(value, out n) && n is > 0 and < 65536;
                    check.Port = (int)n;
                    break;
                case "uri":
                    good = value.StartsWith('/') && value.AsSpan().IndexOfAnyInRange('\0', ' ') < 0 && !check.IsGrpc
                        && !check.IsTcp;
                    check.Uri = value;
                    check.HasUri = true;
                    break;
                case "match":
                    good = value.Length > 0 && !check.IsGrpc && !check.IsTcp;
                    check.Match = value;
                    break;
                case "keepalive_time":
                    good = ConfValues.TryMsec(value, out n) && !check.IsTcp;
                    check.KeepAliveMs = n;
                    break;
                case "type":
                    bool asks = check.HasUri || check.Match is not null;
                    good = value == "http" || value == "grpc" && !asks
                        || value == "tcp" && !asks && check.KeepAliveMs == 0;
                    check.IsGrpc = value == "grpc";
                    check.IsTcp = value == "tcp";
                    break;
                case "grpc_service":
                    good = check.IsGrpc && value.Length is > 0 and <= 100;
                    check.GrpcService = value;
                    break;
                case "grpc_status":
                    good = check.IsGrpc && ConfValues.TryNumber(value, out n) && n <= int.MaxValue;
                    check.GrpcStatus = (int)n;
                    break;
                case "mandatory" when equals < 0:
                    good = check.Mandatory = true;
                    break;
                case "persistent" when equals < 0:
                    // What is known of a server outlives a reload in any case (docs/balancing.md).
                    good = check.Mandatory;
                    break;
                default:
                    good = false;
                    break;
            }
            if (!good)
            {
                walker.Error(use.Args[i], $"invalid parameter \"{arg}\"");
                return;
            }
        }
    }

    /// <summary>Groups whose servers must pass a check first.</summary>
    internal static bool IsMandatory(HttpBuild build, string group) =>
        Blocks(build).Any(b => b.FindHere<HealthUse>() is { Mandatory: true }
            && (b.FindHere<ProxyPass>()?.Target ?? b.FindHere<GrpcPass>()?.Target) is { } target
            && string.Equals(target.Host, group, StringComparison.OrdinalIgnoreCase));

    private static IEnumerable<HttpBlock> Blocks(HttpBuild build) => build.Blocks;

    public override void InstallLocation(LocationInstall install)
    {
        if (install.Here<HealthUse>() is not { Directive: { } directive } check)
        {
            return;
        }
        HttpBuild build = install.Build;
        LocationConf location = install.Location;
        ProxyTarget? target = install.Here<ProxyPass>()?.Target ?? install.Here<GrpcPass>()?.Target;
        UpstreamBlock? block = target is null ? null : build.Configuration.Upstreams.Explicit
            .GetValueOrDefault(target.Host);
        var main = build.Configuration.MainConfs.OfType<HealthMain>().First();
        HealthMatch? match = HealthMatch.Usual;
        bool grpc = location.ContentHandler is GrpcHandler;
        string? error = target is null || block is null
            ? "\"health_check\" needs a \"proxy_pass\" or \"grpc_pass\" to an upstream in the same location"
            : block.Zone is null ? $"\"health_check\" needs a \"zone\" in upstream \"{block.Name}\""
            : check.IsGrpc && !grpc ? "\"health_check type=grpc\" needs a \"grpc_pass\""
            : check.Match is { } name && !main.Matches.TryGetValue(name, out match) ? $"unknown match \"{name}\""
            : null;
        if (error is not null)
        {
            build.Errors.Emerg(error, directive.Span, null);
            return;
        }
        if (block!.Frozen is not { } group
            || Way(location.ContentHandler) is not var (settings, protocol, tls, host, port))
        {
            // Why there is none has been said.
            return;
        }
        main.Rules.Add(new HealthRule
        {
            Group = group,
            IntervalMs = check.IntervalMs,
            JitterMs = check.JitterMs,
            Fails = check.Fails,
            Passes = check.Passes,
            Port = check.Port,
            Match = match!,
            Grpc = check.IsGrpc ? new GrpcCheck(GrpcMessage(check.GrpcService), check.GrpcStatus) : null,
            IsTcp = check.IsTcp,
            KeepAliveMs = check.KeepAliveMs,
            Location = location,
            Server = location.Block.CoreServer,
            Settings = settings,
            Protocol = protocol,
            Tls = tls,
            TargetHost = host,
            TargetPort = port,
            Head = System.Text.Encoding.Latin1.GetBytes(check.IsGrpc
                ? $"POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: {block.Name}\r\n"
                    + "Content-Type: application/grpc\r\nTE: trailers\r\nUser-Agent: weir\r\n\r\n"
                : $"GET {check.Uri} HTTP/1.1\r\nHost: {block.Name}\r\nUser-Agent: weir\r\n\r\n"),
        });
    }

    private static (UpstreamSettings, UpstreamProtocol, UpstreamTls?, NativeSlice, NativeSlice)? Way(
        PhaseHandler? handler) => handler switch
        {
            ProxyHandler proxy => (proxy.Settings, proxy.Protocol, proxy.Tls, proxy.HostHeader, proxy.Port),
            GrpcHandler grpc => (grpc.Settings, grpc.Protocol, grpc.Tls, grpc.Authority, default),
            _ => null,
        };

    /// <summary>A gRPC message with a HealthCheckRequest: field 1 is the name of the service.</summary>
    private static byte[] GrpcMessage(string service)
    {
        byte[] name = System.Text.Encoding.Latin1.GetBytes(service);
        byte[] request = name.Length == 0 ? [] : [0x0a, (byte)name.Length, .. name];
        return [0, 0, 0, 0, (byte)request.Length, .. request];
    }

    public override void Finish(HttpBuild build)
    {
        HttpConfiguration configuration = build.Configuration;
        foreach (HealthRule rule in configuration.MainConfs.OfType<HealthMain>().First().Rules)
        {
            configuration.OnStart(loop => new HealthChecker(loop, configuration, rule).Start());
        }
    }
}
