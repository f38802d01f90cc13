// resolver and resolver_timeout: which name servers are asked for names that are known only while requests run. The
// asking
// is Session/Upstream/Resolver.cs.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

/// <summary>A level's resolver.</summary>
internal sealed class ResolverBlock
{
    public Inherited<ResolverSettings?> Servers;
    public Inherited<long> TimeoutMs;

    /// <summary>The resolver in force, or null; after merging.</summary>
    public ResolverSettings? Settings { get; set; }

    /// <summary>The settings with the timeout, or null when this level has none.</summary>
    public ResolverSettings? Freeze()
    {
        if (Servers.ValueOr(null) is not { } s)
        {
            return null;
        }
        return new ResolverSettings
        {
            Servers = s.Servers,
            ValidSec = s.ValidSec,
            Inet = s.Inet,
            Inet6 = s.Inet6,
            TimeoutMs = TimeoutMs.ValueOr(30_000),
        };
    }
}

internal sealed class ResolverModule : HttpModule
{
    public override string Name => "http_resolver";

    public override bool InheritsWhole => true;

    public override object CreateLocation(HttpBuild build) => new ResolverBlock();

    public override void Declare(HttpDeclarations d)
    {
        d.Location<ResolverBlock>("resolver", static (u, s) => Set(u.Walker, u.Directive, u.Build, s));
        d.Location<ResolverBlock>("resolver_timeout", static (u, s) => u.SetMsec(ref s.TimeoutMs));
        d.Upstream<UpstreamBlock>("resolver", static (w, u, g) => Set(w, u, g.Build, g.Resolver));
        d.Upstream<UpstreamBlock>("resolver_timeout", static (w, u, g) =>
        {
            if (w.Fresh(u, in g.Resolver.TimeoutMs) && w.TryMsec(u, out long ms))
            {
                g.Resolver.TimeoutMs.Set(ms);
            }
        });
    }

    public override void MergeLocation(HttpBuild build, object parent, object child)
    {
        var p = (ResolverBlock)parent;
        var c = (ResolverBlock)child;
        c.Servers.Merge(p.Servers, null);
        c.TimeoutMs.Merge(p.TimeoutMs, 30_000);
        c.Settings = c.Servers.IsSet || c.TimeoutMs.IsSet || p.Settings is null ? c.Freeze() : p.Settings;
        if (c.Settings is { } settings && settings != p.Settings)
        {
            build.Configuration.Own(new ResolverEnd(settings));
        }
    }

    /// <summary>Closes the loop's resolver when the last request of the configuration has ended.</summary>
    internal sealed class ResolverEnd(ResolverSettings settings) : IDisposable
    {
        public void Dispose()
        {
            if (EventLoop.Current is { } loop)
            {
                Session.Upstream.Resolver.Forget(loop, settings);
            }
        }
    }

    private static HttpModule Module { get; } = Catalog.Modules.First(static m => m is ResolverModule);

    /// <summary>The resolver of the http level, for upstreams without one of their own.</summary>
    internal static ResolverSettings? OfHttp(HttpBuild build) =>
        ((ResolverBlock?)build.Http!.LocationOf(Module))?.Freeze();

    /// <summary>The resolver of a location.</summary>
    internal static ResolverSettings? Of(LocationConf location) =>
        ((ResolverBlock?)location.Block.LocationOf(Module))?.Settings;

    private static void Set(ConfWalker walker, ConfDirective use, HttpBuild build, ResolverBlock level)
    {
        if (!walker.Fresh(use, in level.Servers))
        {
            return;
        }
        var servers = new List<byte[]>();
        long valid = 0;
        bool inet = true, inet6 = true;
        for (int i = 0; i < use.Args.Length; i++)
        {
            string arg = use[i];
            if (arg.StartsWith("valid=", StringComparison.Ordinal))
            {
                if (!ConfValues.TrySec(arg[6..], out valid))
                {
                    walker.Error(use.Args[i], $"invalid parameter: {arg}");
                    return;
                }
            }
            else if (arg is "ipv4=on" or "ipv4=off")
            {
                inet = arg == "ipv4=on";
            }
            else if (arg is "ipv6=on" or "ipv6=off")
            {
                inet6 = arg == "ipv6=on";
            }
            else if (arg.StartsWith("status_zone=", StringComparison.Ordinal))
            {
                walker.Error(use.Args[i], $"invalid parameter: {arg}", "this build of weir does not support it yet");
                return;
            }
            else if (!TryServer(build, arg, servers, out string? error))
            {
                walker.Error(use.Args[i], $"{error} in resolver \"{arg}\"");
                return;
            }
        }
        if (!inet && !inet6)
        {
            walker.Error(use, "\"ipv4\" and \"ipv6\" cannot both be \"off\"");
        }
        else if (servers.Count == 0)
        {
            walker.Error(use, "no name servers defined");
        }
        else
        {
            level.Servers.Set(new ResolverSettings { Servers = [.. servers], ValidSec = valid, Inet = inet,
                Inet6 = inet6 });
        }
    }

    private static bool TryServer(HttpBuild build, string text, List<byte[]> servers, out string? error)
    {
        if (!UpstreamServers.TrySplit(text, 53, out string host, out int port, out bool _) || host.StartsWith("unix:"))
        {
            error = "invalid port";
            return false;
        }
        SocketAddress[]? addresses = UpstreamServers.Addresses(build, host, port, out error);
        foreach (SocketAddress address in addresses ?? [])
        {
            servers.Add(address.Native.ToArray());
        }
        return addresses is not null;
    }
}
