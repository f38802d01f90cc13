// upstream, server, keepalive: groups of servers, and $upstream_* that tell what came of asking them. The groups are
// frozen when the configuration is complete; servers that were only named in proxy_pass become groups of their own.
using Weir.Conf;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

/// <summary>An `upstream` block while it is read.</summary>
internal sealed class UpstreamBlock(string name, HttpBuild build)
{
    public string Name { get; } = name;
    public HttpBuild Build { get; } = build;
    public List<ServerLine> Lines { get; } = [];
    public Inherited<int> KeepAlive;
    public bool KeepAliveLocal { get; set; } = true;
    public Inherited<long> KeepAliveTimeMs;
    public Inherited<long> KeepAliveTimeoutMs;
    public Inherited<int> KeepAliveRequests;
    public ResolverBlock Resolver { get; } = new();
    public int ServerCount { get; set; }
    public BalancerRule? Balancing { get; set; }

    /// <summary>What the balancing method cannot do.</summary>
    public bool RefusesBackup { get; set; }
    public bool RefusesSlowStart { get; set; }
    public UpstreamZone? Zone { get; set; }
    public StickyRule? Sticky { get; set; }
    public QueueRule? Queue { get; set; }
    public EjectionRule? Ejection { get; set; }
    public RetryBudgetRule? RetryBudget { get; set; }

    /// <summary>Where changes of the servers are kept; null for nowhere.</summary>
    public string? StatePath { get; set; }
    public UpstreamGroup? Frozen { get; set; }
}

/// <summary>All groups of a configuration.</summary>
internal sealed class UpstreamGroups
{
    public Dictionary<string, UpstreamBlock> Explicit { get; } = new(StringComparer.OrdinalIgnoreCase);
    public Dictionary<string, UpstreamGroup> Implicit { get; } = new(StringComparer.Ordinal);

    /// <summary>Some group has a zone.</summary>
    public bool HasShared { get; set; }

    /// <summary>Explicit groups by name, for names that come from variables.</summary>
    public ByteTable<UpstreamGroup> ByName { get; } = new();
}

internal sealed class UpstreamModule : HttpModule
{
    public override string Name => "http_upstream";

    public override object CreateMain(HttpBuild build) => new UpstreamGroups();

    public override void Declare(HttpDeclarations d)
    {
        d.Block("upstream", use => EnterGroup(use, (UpstreamGroups)use.Block.Main[Index]!));
        d.Upstream<UpstreamBlock>("server", UpstreamServers.Add);
        d.Upstream<UpstreamBlock>("keepalive", static (w, u, g) => SetKeepAlive(w, u, g));
        d.Upstream<UpstreamBlock>("keepalive_time", static (w, u, g) =>
        {
            if (w.Fresh(u, in g.KeepAliveTimeMs) && w.TryMsec(u, out long ms))
            {
                g.KeepAliveTimeMs.Set(ms);
            }
        });
        d.Upstream<UpstreamBlock>("keepalive_timeout", static (w, u, g) =>
        {
            if (w.Fresh(u, in g.KeepAliveTimeoutMs) && w.TryMsec(u, out long ms))
            {
                g.KeepAliveTimeoutMs.Set(ms);
            }
        });
        d.Upstream<UpstreamBlock>("keepalive_requests", static (w, u, g) =>
        {
            if (w.Fresh(u, in g.KeepAliveRequests) && w.TryNumber(u, out long n))
            {
                g.KeepAliveRequests.Set((int)Math.Min(n, int.MaxValue));
            }
        });
        UpstreamVariables.Declare(d);
        UpstreamBalancing.Declare(d);
        UpstreamSticky.Declare(d);
        UpstreamResilience.Declare(d);
    }

    private static void EnterGroup(DirectiveUse use, UpstreamGroups groups)
    {
        var block = new UpstreamBlock(use[0], use.Build);
        if (!groups.Explicit.TryAdd(use[0], block))
        {
            use.Error(0, $"duplicate upstream \"{use[0]}\"");
            return;
        }
        use.Walker.WalkBlock(use.Directive, ConfContext.Upstream, block);
        if (block.StatePath is not null)
        {
            return;
        }
        if (block.ServerCount == 0)
        {
            use.Error($"no servers are inside upstream \"{use[0]}\"");
        }
        else if (block.Lines.Count > 0 && block.Lines.TrueForAll(static l => l.IsBackup))
        {
            use.Error($"no servers in upstream \"{use[0]}\"", "all of them are marked as backup");
        }
    }

    private static void SetKeepAlive(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        if (!walker.Fresh(use, in group.KeepAlive))
        {
            return;
        }
        if (!ConfValues.TryNumber(use[0], out long n))
        {
            walker.Error(use.Args[0], $"invalid value \"{use[0]}\" in \"keepalive\" directive");
            return;
        }
        group.KeepAliveLocal = false;
        if (use.Args.Length == 2)
        {
            if (use[1] != "local")
            {
                walker.Error(use.Args[1], $"invalid parameter \"{use[1]}\"");
                return;
            }
            group.KeepAliveLocal = true;
        }
        group.KeepAlive.Set((int)Math.Min(n, int.MaxValue));
    }

    public override void InitMain(HttpBuild build, object main)
    {
        var groups = (UpstreamGroups)main;
        UpstreamBalancing.OpenZones(build, groups);
        foreach (UpstreamBlock block in groups.Explicit.Values)
        {
            if (block.StatePath is not null && block.Zone is null)
            {
                build.Errors.Emerg($"\"state\" needs a \"zone\" in upstream \"{block.Name}\"", null, null);
                continue;
            }
            bool named = block.Lines.Exists(static l => l.IsNamed);
            ResolverSettings? resolver = !named && block.Zone is null ? null
                : block.Resolver.Freeze() ?? ResolverModule.OfHttp(build);
            if (named && resolver is null)
            {
                build.Errors.Emerg($"no resolver defined to resolve names at run time in upstream \"{block.Name}\"",
                    null, null);
                continue;
            }
            bool checksFirst = HealthCheckModule.IsMandatory(build, block.Name);
            UpstreamGroup frozen = block.Frozen = new UpstreamGroup
            {
                Name = build.Memory.Store(block.Name),
                Primary = UpstreamServers.Specs(block, backup: false, checksFirst),
                Backup = UpstreamServers.Specs(block, backup: true, checksFirst),
                Named = [.. block.Lines.Where(static l => l.IsNamed)],
                Lines = block.Zone is null ? null : [.. block.Lines],
                Stamp = build.Stamp,
                ChecksFirst = checksFirst,
                RefusesBackup = block.RefusesBackup,
                ZoneName = block.Zone?.Name ?? "",
                StatePath = block.StatePath,
                Resolver = resolver,
                Balancing = block.Balancing ?? BalancerRule.RoundRobin,
                Zone = block.Zone?.Open,
                Sticky = block.Sticky,
                Queue = block.Queue,
                Ejection = block.Ejection,
                RetryBudget = block.RetryBudget,
                StartsSlowly = block.Lines.Exists(static l => l.SlowStartMs > 0),
                KeepAlive = new KeepAliveSettings
                {
                    ConnectionsMax = block.KeepAlive.IsSet ? block.KeepAlive.Value : 32,
                    Local = block.KeepAliveLocal,
                    RequestsMax = block.KeepAliveRequests.ValueOr(1000),
                    TimeMs = block.KeepAliveTimeMs.ValueOr(3_600_000),
                    TimeoutMs = block.KeepAliveTimeoutMs.ValueOr(60_000),
                },
            };
            if (resolver is not null)
            {
                build.Configuration.Own(new ResolverModule.ResolverEnd(resolver));
            }
            groups.ByName.TryAdd(frozen.Name, frozen);
            Own(build, frozen);
            if (frozen.Zone is not null)
            {
                groups.HasShared = true;
                // From the first moment: every worker knows the list of servers, and who changes it finds it there.
                build.Configuration.OnStart(loop => UpstreamStates.Of(loop).For(frozen));
            }
        }
    }

    /// <summary>The group that a host and port name: an `upstream`, or addresses found now. Null after an
    /// error.</summary>
    internal static UpstreamGroup? Find(HttpBuild build, string host, int port, bool hasPort, ConfSpan span, string url)
    {
        UpstreamGroups groups = build.Configuration.MainConfs.OfType<UpstreamGroups>().First();
        if (groups.Explicit.TryGetValue(host, out UpstreamBlock? block))
        {
            if (hasPort)
            {
                build.Errors.Emerg($"upstream \"{host}\" may not have port {port}", span, null);
            }
            return block.Frozen;
        }
        string key = host.StartsWith("unix:", StringComparison.Ordinal) ? host : $"{host}:{port}";
        if (groups.Implicit.TryGetValue(key, out UpstreamGroup? known))
        {
            return known;
        }
        SocketAddress[]? addresses = UpstreamServers.Addresses(build, host, port, out string? error);
        if (addresses is null)
        {
            build.Errors.Emerg($"{error} in upstream \"{url}\"", span, null);
            return null;
        }
        var group = new UpstreamGroup
        {
            Name = build.Memory.Store(key),
            Primary = [.. addresses.Select(a => new PeerSpec
            {
                Address = a.Native.ToArray(),
                Name = build.Memory.Store(a.ToString()),
            })],
        };
        groups.Implicit.Add(key, group);
        Own(build, group);
        return group;
    }

    private static void Own(HttpBuild build, UpstreamGroup group)
    {
        build.Configuration.OnRetire(() =>
        {
            if (EventLoop.Current is { } loop)
            {
                UpstreamStates.Of(loop).Retire(group);
            }
        });
        build.Configuration.Own(new GroupEnd(group));
    }

    private sealed class GroupEnd(UpstreamGroup group) : IDisposable
    {
        public void Dispose()
        {
            if (EventLoop.Current is { } loop)
            {
                UpstreamStates.Of(loop).Forget(group);
            }
        }
    }
}
