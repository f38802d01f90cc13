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
    public List<PeerSpec> Primary { get; } = [];
    public List<PeerSpec> Backup { get; } = [];
    public List<NamedServer> Named { get; } = [];
    public Inherited<int> KeepAlive;
    public bool KeepAliveLocal { get; set; } = true;
    public Inherited<long> KeepAliveTimeMs;
    public Inherited<long> KeepAliveTimeoutMs;
    public Inherited<int> KeepAliveRequests;
    public ResolverBlock Resolver { get; } = new();
    public int ServerCount { get; set; }
    public UpstreamGroup? Frozen { get; set; }
}

/// <summary>All groups of a configuration.</summary>
internal sealed class UpstreamGroups
{
    public Dictionary<string, UpstreamBlock> Explicit { get; } = new(StringComparer.OrdinalIgnoreCase);
    public Dictionary<string, UpstreamGroup> Implicit { get; } = new(StringComparer.Ordinal);

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
        if (block.ServerCount == 0)
        {
            use.Error($"no servers are inside upstream \"{use[0]}\"");
        }
        else if (block.Primary.Count == 0 && block.Named.TrueForAll(static n => n.IsBackup))
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
        foreach (UpstreamBlock block in groups.Explicit.Values)
        {
            ResolverSettings? resolver = block.Named.Count == 0 ? null
                : block.Resolver.Freeze() ?? ResolverModule.OfHttp(build);
            if (block.Named.Count > 0 && resolver is null)
            {
                build.Errors.Emerg($"no resolver defined to resolve names at run time in upstream \"{block.Name}\"",
                    null, null);
                continue;
            }
            block.Frozen = new UpstreamGroup
            {
                Name = build.Memory.Store(block.Name),
                Primary = [.. block.Primary],
                Backup = [.. block.Backup],
                Named = [.. block.Named],
                Resolver = resolver,
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
            groups.ByName.TryAdd(block.Frozen.Name, block.Frozen);
            Own(build, block.Frozen);
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

/// <summary>`server` inside `upstream`, and addresses from hosts.</summary>
internal static class UpstreamServers
{
    internal static void Add(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        int weight = 1, maxConnections = 0, maxFails = 1;
        long failTimeout = 10;
        bool backup = false, down = false, resolve = false;
        for (int i = 1; i < use.Args.Length; i++)
        {
            string arg = use[i];
            bool good = arg switch
            {
                "backup" => backup = true,
                "down" => down = true,
                "resolve" => resolve = true,
                _ when arg.StartsWith("weight=", StringComparison.Ordinal) => TryInt(arg[7..], 1, out weight),
                _ when arg.StartsWith("max_conns=", StringComparison.Ordinal) => TryInt(arg[10..], 0,
                    out maxConnections),
                _ when arg.StartsWith("max_fails=", StringComparison.Ordinal) => TryInt(arg[10..], 0, out maxFails),
                _ when arg.StartsWith("fail_timeout=", StringComparison.Ordinal) => ConfValues.TrySec(arg[13..],
                    out failTimeout),
                _ => false,
            };
            if (!good)
            {
                string? hint = arg.StartsWith("slow_start=", StringComparison.Ordinal)
                    || arg.StartsWith("service=", StringComparison.Ordinal) || arg.StartsWith("route=",
                        StringComparison.Ordinal)
                    || arg == "drain" ? "this build of weir does not support it yet" : null;
                walker.Error(use.Args[i], $"invalid parameter \"{arg}\"", hint);
                return;
            }
        }
        group.ServerCount++;
        HttpBuild build = group.Build;
        PeerSpec Spec(byte[] address, NativeSlice name) => new()
        {
            Address = address,
            Name = name,
            Weight = weight,
            ConnectionsMax = maxConnections,
            FailsMax = maxFails,
            FailTimeoutSec = failTimeout,
            Down = down,
        };
        string text = use[0];
        if (!TrySplit(text, 80, out string host, out int port, out bool _))
        {
            walker.Error(use.Args[0], $"invalid port in upstream \"{text}\"");
            return;
        }
        if (resolve && !SocketAddress.TryParse(text, 80, out SocketAddress? _, out string _))
        {
            group.Named.Add(new NamedServer
            {
                Host = build.Memory.Store(host),
                Port = port,
                IsBackup = backup,
                Template = Spec([], default),
            });
            return;
        }
        SocketAddress[]? addresses = Addresses(build, host, port, out string? error);
        if (addresses is null)
        {
            walker.Error(use.Args[0], $"{error} in upstream \"{text}\"");
            return;
        }
        foreach (SocketAddress address in addresses)
        {
            (backup ? group.Backup : group.Primary).Add(Spec(address.Native.ToArray(),
                build.Memory.Store(address.ToString())));
        }
    }

    private static bool TryInt(string text, int least, out int value)
    {
        bool good = ConfValues.TryNumber(text, out long n) && n >= least && n <= int.MaxValue;
        value = (int)n;
        return good;
    }

    /// <summary>Splits host and port; unix paths stay whole.</summary>
    internal static bool TrySplit(string text, int defaultPort, out string host, out int port, out bool hasPort)
    {
        host = text;
        port = defaultPort;
        hasPort = false;
        if (text.StartsWith("unix:", StringComparison.Ordinal))
        {
            return text.Length > 5;
        }
        int colon = text.StartsWith('[') ? text.IndexOf("]:", StringComparison.Ordinal) + 1 : text.LastIndexOf(':');
        if (colon <= 0)
        {
            return text.Length > 0;
        }
        host = text[..colon];
        hasPort = true;
        bool good = ConfValues.TryNumber(text.AsSpan(colon + 1), out long n) && n is > 0 and < 65536;
        port = (int)n;
        return good;
    }

    internal static SocketAddress[]? Addresses(HttpBuild build, string host, int port, out string? error)
    {
        if (host.StartsWith("unix:", StringComparison.Ordinal))
        {
            SocketAddress? unix = SocketAddress.Unix(host[5..]);
            error = unix is null ? "invalid path" : null;
            return unix is null ? null : [unix];
        }
        if (SocketAddress.TryParse($"{host}:{port}", port, out SocketAddress? literal, out string _))
        {
            error = null;
            return [literal!];
        }
        return build.Resources.Resolve(host, port, out error);
    }
}
