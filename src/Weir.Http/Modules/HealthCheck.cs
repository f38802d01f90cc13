// health_check and match: servers of a shared group are asked regularly, by one worker, and left out while they fail.
// This file reads the configuration; Proxy/HealthChecker.cs asks. Frozen when the configuration is complete.
using Weir.Conf;
using Weir.Http.Proxy;
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
                    good = value.StartsWith('/');
                    check.Uri = value;
                    break;
                case "match":
                    good = value.Length > 0;
                    check.Match = value;
                    break;
                case "type":
                    good = value == "http";
                    break;
                case "mandatory" when equals < 0:
                    good = check.Mandatory = true;
                    break;
                case "persistent" when equals < 0:
                    // What is known of a server that did not change always outlives a reload (docs/balancing.md).
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
            && b.FindHere<ProxyPass>()?.Target is { } target
            && string.Equals(target.Host, group, StringComparison.OrdinalIgnoreCase));

    private static IEnumerable<HttpBlock> Blocks(HttpBuild build) => build.Blocks;

    public override void InstallLocation(LocationInstall install)
    {
        if (install.Here<HealthUse>() is not { Directive: { } directive } check)
        {
            return;
        }
        HttpBuild build = install.Build;
        ProxyTarget? target = install.Here<ProxyPass>()?.Target;
        UpstreamBlock? block = target is null ? null : build.Configuration.MainConfs.OfType<UpstreamGroups>().First()
            .Explicit.GetValueOrDefault(target.Host);
        var main = build.Configuration.MainConfs.OfType<HealthMain>().First();
        HealthMatch? match = HealthMatch.Usual;
        string? error = target is null || block is null
            ? "\"health_check\" needs a \"proxy_pass\" to an upstream in the same location"
            : target.IsTls ? "\"health_check\" cannot ask servers over TLS"
            : block.Zone is null ? $"\"health_check\" needs a \"zone\" in upstream \"{block.Name}\""
            : check.Match is { } name && !main.Matches.TryGetValue(name, out match) ? $"unknown match \"{name}\""
            : null;
        if (error is not null)
        {
            build.Errors.Emerg(error, directive.Span, null);
            return;
        }
        var settings = (ProxySettings)install.Location.Modules[ProxyIndex]!;
        main.Rules.Add(new HealthRule
        {
            Group = block!.Frozen!,
            IntervalMs = check.IntervalMs,
            JitterMs = check.JitterMs,
            Fails = check.Fails,
            Passes = check.Passes,
            Port = check.Port,
            Match = match!,
            ConnectTimeoutMs = settings.ConnectTimeoutMs.Value,
            ReadTimeoutMs = settings.ReadTimeoutMs.Value,
            Log = install.Location.ErrorLog,
            Request = System.Text.Encoding.Latin1.GetBytes(
                $"GET {check.Uri} HTTP/1.0\r\nHost: {block.Name}\r\nConnection: close\r\nUser-Agent: weir\r\n\r\n"),
        });
    }

    private static int ProxyIndex => Catalog.Modules.First(static m => m is ProxyModule).Index;

    public override void Finish(HttpBuild build)
    {
        HttpConfiguration configuration = build.Configuration;
        foreach (HealthRule rule in configuration.MainConfs.OfType<HealthMain>().First().Rules)
        {
            configuration.OnStart(loop => new HealthChecker(loop, configuration, rule).Start());
        }
    }
}
