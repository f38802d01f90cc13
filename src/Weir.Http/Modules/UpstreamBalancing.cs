// least_conn, ip_hash, hash, random, least_time, zone, queue inside `upstream`: how a server is chosen, where the state
// of the group lives, and who waits when all servers are full. The choosing is Weir.Session/Upstream's balancers.
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;
using Weir.Session.Upstream;
using Weir.Zones;

namespace Weir.Http.Modules;

/// <summary>A `zone` of one or several upstreams.</summary>
internal sealed class UpstreamZone(string name)
{
    public string Name { get; } = name;
    public long SizeBytes { get; set; }
    public int Peers { get; set; }

    /// <summary>The tables; null while a master only collects.</summary>
    public GroupZone? Open { get; set; }
}

internal static class UpstreamBalancing
{
    private const string ZoneUse = "upstream";

    /// <summary>Room for the zone's own pages and for names that get more addresses.</summary>
    private const int ZonePagesSpare = 32;

    internal static void Declare(HttpDeclarations d)
    {
        d.Upstream<UpstreamBlock>("least_conn", static (w, u, g) => Set(w, u, g, new LeastConnRule()));
        d.Upstream<UpstreamBlock>("ip_hash", static (w, u, g) => SetHashing(w, u, g, new IpHashRule()));
        d.Upstream<UpstreamBlock>("hash", SetHash);
        d.Upstream<UpstreamBlock>("random", SetRandom);
        d.Upstream<UpstreamBlock>("least_time", SetLeastTime);
        d.Upstream<UpstreamBlock>("zone", SetZone);
        d.Own(new DirectiveSpec
        {
            Name = "queue",
            Contexts = ConfContext.Upstream,
            Arity = ConfArity.OneOrTwo,
            Summary = "Requests that wait while all servers are full: queue NUMBER [timeout=TIME];",
            Apply = static (walker, use) => SetQueue(walker, use, walker.Need<UpstreamBlock>()),
        });
    }

    private static void Set(ConfWalker walker, ConfDirective use, UpstreamBlock group, BalancerRule rule)
    {
        if (group.Balancing is not null)
        {
            walker.Warn(use, "load balancing method redefined");
        }
        group.Balancing = rule;
        group.RefusesBackup = false;
        group.RefusesSlowStart = false;
    }

    private static void SetHashing(ConfWalker walker, ConfDirective use, UpstreamBlock group, BalancerRule rule)
    {
        Set(walker, use, group, rule);
        group.RefusesBackup = true;
        group.RefusesSlowStart = true;
    }

    private static void SetHash(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        Template? key = Template.Compile(use[0], group.Build.Configuration.Variables, out string? error);
        if (key is null)
        {
            walker.Error(use.Args[0], error!);
            return;
        }
        bool consistent = use.Args.Length > 1;
        if (consistent && use[1] != "consistent")
        {
            walker.Error(use.Args[1], $"invalid parameter \"{use[1]}\"");
            return;
        }
        SetHashing(walker, use, group, new HashRule(key, consistent));
    }

    private static void SetRandom(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        BetterOf better = BetterOf.Any;
        if (use.Args.Length > 0 && use[0] != "two")
        {
            walker.Error(use.Args[0], $"invalid parameter \"{use[0]}\"");
            return;
        }
        if (use.Args.Length > 0)
        {
            better = use.Args.Length == 1 ? BetterOf.LeastConn : use[1] switch
            {
                "least_conn" => BetterOf.LeastConn,
                "least_time=header" => BetterOf.LeastHeaderTime,
                "least_time=last_byte" => BetterOf.LeastResponseTime,
                _ => BetterOf.Any,
            };
            if (better == BetterOf.Any)
            {
                walker.Error(use.Args[1], $"invalid parameter \"{use[1]}\"");
                return;
            }
        }
        SetHashing(walker, use, group, new RandomRule(better));
    }

    private static void SetLeastTime(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        if (use[0] is not ("header" or "last_byte"))
        {
            walker.Error(use.Args[0], $"invalid parameter \"{use[0]}\"");
            return;
        }
        bool inFlight = use.Args.Length > 1;
        if (inFlight && use[1] != "inflight")
        {
            walker.Error(use.Args[1], $"invalid parameter \"{use[1]}\"");
            return;
        }
        Set(walker, use, group, new LeastTimeRule(use[0] == "header", inFlight));
    }

    private static void SetZone(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        if (use[0].Length == 0)
        {
            walker.Error(use.Args[0], $"invalid zone name \"{use[0]}\"");
            return;
        }
        long bytes = 0;
        if (use.Args.Length == 2)
        {
            if (!ConfValues.TrySize(use[1], out bytes))
            {
                walker.Error(use.Args[1], $"invalid zone size \"{use[1]}\"");
                return;
            }
            if (bytes < Zone.SizeBytesMin)
            {
                walker.Error(use.Args[1], $"zone \"{use[0]}\" is too small");
                return;
            }
        }
        UpstreamZone? zone = group.Build.ZoneNames.Get(use[0], ZoneUse, static n => new UpstreamZone(n), walker,
            use.Args[0].Span);
        if (zone is null)
        {
            return;
        }
        if (bytes > 0 && zone.SizeBytes > 0 && zone.SizeBytes != bytes)
        {
            walker.Error(use.Args[1], $"the size {bytes} of shared memory zone \"{zone.Name}\" conflicts with already "
                + $"declared size {zone.SizeBytes}");
            return;
        }
        zone.SizeBytes = Math.Max(zone.SizeBytes, bytes);
        group.Zone = zone;
    }

    private static void SetQueue(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        if (group.Queue is not null)
        {
            walker.Complain(use, "is duplicate");
            return;
        }
        long timeoutMs = 60_000;
        if (!ConfValues.TryNumber(use[0], out long max) || max is <= 0 or > int.MaxValue)
        {
            walker.Error(use.Args[0], $"invalid number of requests \"{use[0]}\"");
            return;
        }
        if (use.Args.Length == 2 && (!use[1].StartsWith("timeout=", StringComparison.Ordinal)
            || !ConfValues.TryMsec(use[1][8..], out timeoutMs)))
        {
            walker.Error(use.Args[1], $"invalid parameter \"{use[1]}\"");
            return;
        }
        group.Queue = new QueueRule((int)max, timeoutMs);
    }

    /// <summary>Maps the zones: as large as asked for, and as the servers need.</summary>
    internal static void OpenZones(HttpBuild build, UpstreamGroups groups)
    {
        var zones = new HashSet<UpstreamZone>();
        foreach (UpstreamBlock group in groups.Explicit.Values)
        {
            if (group.Zone is { } zone)
            {
                zones.Add(zone);
                zone.Peers += group.Lines.Count;
            }
        }
        foreach (UpstreamZone zone in zones)
        {
            if (zone.SizeBytes == 0)
            {
                build.Errors.Emerg($"zero size shared memory zone \"{zone.Name}\"", null, null);
                continue;
            }
            long needed = ((long)zone.Peers * GroupZone.PeerBytesTypical) + (ZonePagesSpare * Zone.PageBytes);
            long bytes = Math.Min(Math.Max(zone.SizeBytes, needed) & ~(Zone.PageBytes - 1L), Zone.SizeBytesMax);
            Zone? mapped = build.Resources.Zone(new ZoneSpec("upstream:" + zone.Name, bytes, GroupZone.Layout));
            zone.Open = mapped is null ? null
                : GroupZone.Open(mapped, build.Resources.Owner, build.Main.EffectiveWorkers);
        }
    }
}
