// Declares what a location says of its cache under a family's prefix (proxy_cache, fastcgi_cache_valid, …), with
// nginx's words and messages, and this build's own: cache_purge (as nginx Plus), cache_purge_tags, cache_conformance.
using Weir.Conf;
using Weir.Http.Proxy;
using Weir.Session;

namespace Weir.Http.Cache;

internal static class CacheDirectives
{
    private static readonly ConfChoice<int>[] s_stale =
    [
        new("error", (int)NextUpstream.Error), new("timeout", (int)NextUpstream.Timeout),
        new("invalid_header", (int)NextUpstream.InvalidHeader), new("updating", (int)UseStale.Updating),
        new("http_500", (int)NextUpstream.Http500), new("http_502", (int)NextUpstream.Http502),
        new("http_503", (int)NextUpstream.Http503), new("http_504", (int)NextUpstream.Http504),
        new("http_403", (int)NextUpstream.Http403), new("http_404", (int)NextUpstream.Http404),
        new("http_429", (int)NextUpstream.Http429), new("off", (int)NextUpstream.Off),
    ];

    private static readonly ConfChoice<int>[] s_methods =
    [
        new("GET", (int)CacheMethods.Get), new("HEAD", (int)CacheMethods.Head), new("POST", (int)CacheMethods.Post),
    ];

    internal static void Declare<T>(HttpDeclarations d, string family) where T : UpstreamSettings
    {
        d.Location<T>($"{family}_cache", static (u, s) => SetZone(u, s.Cache));
        d.Location<T>($"{family}_cache_key", static (u, s) => u.SetTemplate(ref s.Cache.Key));
        d.Location<T>($"{family}_cache_valid", static (u, s) => AddValid(u, s.Cache));
        d.Location<T>($"{family}_cache_min_uses", static (u, s) => u.SetNumber(ref s.Cache.MinUses));
        d.Location<T>($"{family}_cache_max_range_offset", static (u, s) => u.SetOffset(ref s.Cache.MaxRangeOffset));
        d.Location<T>($"{family}_cache_bypass", static (u, s) => AddTemplates(u, ref s.Cache.Bypass));
        d.Location<T>($"{family}_no_cache", static (u, s) => AddTemplates(u, ref s.Cache.NoCache));
        d.Location<T>($"{family}_cache_lock", static (u, s) => u.SetFlag(ref s.Cache.Lock));
        d.Location<T>($"{family}_cache_lock_timeout", static (u, s) => u.SetMsec(ref s.Cache.LockTimeoutMs));
        d.Location<T>($"{family}_cache_lock_age", static (u, s) => u.SetMsec(ref s.Cache.LockAgeMs));
        d.Location<T>($"{family}_cache_revalidate", static (u, s) => SetFlag(u, ref s.Cache.Revalidate));
        d.Location<T>($"{family}_cache_background_update",
            static (u, s) => SetFlag(u, ref s.Cache.BackgroundUpdate));
        if (family == "proxy")
        {
            d.Location<T>("proxy_cache_convert_head", static (u, s) => u.SetFlag(ref s.Cache.ConvertHead));
        }
        d.Location<T>($"{family}_cache_use_stale", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Cache.UseStale)
                && u.Walker.TryBitmask(u.Directive, s_stale, out int mask))
            {
                s.Cache.UseStale.Set((NextUpstream)mask);
            }
        });
        d.Location<T>($"{family}_cache_methods", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Cache.Methods)
                && u.Walker.TryBitmask(u.Directive, s_methods, out int mask))
            {
                s.Cache.Methods.Set((CacheMethods)mask | CacheMethods.Get | CacheMethods.Head);
            }
        });
        d.Location<T>($"{family}_store", static (u, s) => SetStore(u, s.Cache));
        d.Location<T>($"{family}_store_access", static (u, s) => SetStoreAccess(u, s.Cache));
        DeclareOwn<T>(d, family);
    }

    private static void SetStore(DirectiveUse use, CacheSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.Store))
        {
            return;
        }
        if (use[0] == "off")
        {
            settings.Store.Set(null);
            return;
        }
        if (settings.Zone.IsSet && settings.Zone.Value is not null)
        {
            use.Complain($"is incompatible with \"{use.Name.Replace("_store", "_cache", StringComparison.Ordinal)}\"");
            return;
        }
        if (use.TemplateOf(use[0] == "on" ? ""
            : use[0].StartsWith('$') ? use[0] : use.Build.FullPath(use[0]), 0) is { } path)
        {
            settings.Store.Set(path);
        }
    }

    private static void SetStoreAccess(DirectiveUse use, CacheSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.StoreMode))
        {
            return;
        }
        int mode = 0x180;
        for (int i = 0; i < use.Count; i++)
        {
            if (!ConfValues.TryAccess(use[i], ref mode))
            {
                use.Error(i, $"invalid value \"{use[i]}\"");
                return;
            }
        }
        settings.StoreMode.Set(mode);
    }

    /// <summary>What nginx's open source does not have.</summary>
    private static void DeclareOwn<T>(HttpDeclarations d, string family) where T : UpstreamSettings
    {
        Own<T>(d, $"{family}_cache_purge", "Requests for which a value is neither empty nor 0 remove the response of "
            + "their key, or of all keys that begin so with * at the end.", ConfArity.OneOrMore,
            static (u, s) => AddTemplates(u, ref s.Cache.Purge));
        Own<T>(d, $"{family}_cache_purge_tags", "Requests for which a value is neither empty nor 0 remove all "
            + "responses that carry one of the tags it lists.", ConfArity.OneOrMore,
            static (u, s) => AddTemplates(u, ref s.Cache.PurgeTags));
        Own<T>(d, $"{family}_cache_conformance", "Which rules the cache follows: rfc9111 (the default) or nginx.",
            ConfArity.One, static (u, s) => u.SetEnum(ref s.Cache.Conforms,
                [new ConfChoice<bool>("rfc9111", true), new("nginx", false)]));
    }

    private static void Own<T>(HttpDeclarations d, string name, string summary, ConfArity arity,
        Action<DirectiveUse, T> apply) where T : UpstreamSettings
    {
        HttpModule module = d.Module;
        HttpBuild build = d.Build;
        d.Own(new DirectiveSpec
        {
            Name = name,
            Contexts = ConfContext.Http | ConfContext.Server | ConfContext.Location,
            Arity = arity,
            Summary = summary,
            Apply = (walker, directive) =>
            {
                HttpBlock block = walker.Need<HttpBlock>();
                apply(new DirectiveUse(walker, directive, block, build), (T)block.OwnLocation(module)!);
            },
        });
    }

    private static void SetFlag(DirectiveUse use, ref Inherited<bool?> setting)
    {
        if (use.Walker.Fresh(use.Directive, in setting) && use.Walker.TryFlag(use.Directive, out bool value))
        {
            setting.Set(value);
        }
    }

    private static void SetZone(DirectiveUse use, CacheSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.Zone))
        {
            return;
        }
        if (use[0] == "off")
        {
            settings.Zone.Set(null);
            return;
        }
        if (settings.Store.IsSet && settings.Store.Value is not null)
        {
            use.Complain($"is incompatible with \"{use.Name.Replace("_cache", "_store", StringComparison.Ordinal)}\"");
            return;
        }
        if (use.Template(0) is { } template)
        {
            settings.Zone.Set(template);
            settings.Family = use.Name[..^"_cache".Length];
            settings.ZoneSpan = use.Directive.Span;
        }
    }

    /// <summary>Before settings are merged: the zone that they name themselves is there.</summary>
    internal static void CheckZone(HttpBuild build, CacheSettings settings)
    {
        if (settings.Zone.IsSet && settings.Zone.Value is { IsConstant: true } zone
            && build.Configuration.MainConfs.OfType<CachePaths>().First().Find(settings.Family, zone.Source) is null)
        {
            build.Errors.Emerg($"\"{settings.Family}_cache\" zone \"{zone.Source}\" is unknown",
                settings.ZoneSpan, $"{settings.Family}_cache_path PATH keys_zone={zone.Source}:10m; makes it");
        }
        settings.ZoneSpan = null;
    }

    private static void AddTemplates(DirectiveUse use, ref InheritedList<Template> list)
    {
        for (int i = 0; i < use.Count; i++)
        {
            if (use.Template(i) is { } template)
            {
                list.Add(template);
            }
        }
    }

    private static void AddValid(DirectiveUse use, CacheSettings settings)
    {
        int last = use.Count - 1;
        if (!ConfValues.TrySec(use[last], out long seconds))
        {
            use.Error(last, $"invalid time value \"{use[last]}\"");
            return;
        }
        if (last == 0)
        {
            foreach (int status in (ReadOnlySpan<int>)[200, 301, 302])
            {
                settings.Valid.Add(new ValidRule(status, seconds));
            }
            return;
        }
        for (int i = 0; i < last; i++)
        {
            if (use[i] == "any")
            {
                settings.Valid.Add(new ValidRule(0, seconds));
            }
            else if (ConfValues.TryNumber(use[i], out long status) && status is >= 100 and <= 599)
            {
                settings.Valid.Add(new ValidRule((int)status, seconds));
            }
            else
            {
                use.Error(i, $"invalid status \"{use[i]}\"");
            }
        }
    }

    /// <summary>The rules of a location, or null where nothing is cached.</summary>
    internal static CacheRules? Rules(HttpBuild build, CacheSettings settings, string family, UpstreamProtocol protocol)
    {
        if (settings.Zone.Value is not { } zone)
        {
            return null;
        }
        CachePaths paths = build.Configuration.MainConfs.OfType<CachePaths>().First();
        CachePath? path = zone.IsConstant ? paths.Find(family, zone.Source) : null;
        Template? key = settings.Key.Value;
        if (key is null && family == "fastcgi")
        {
            build.Errors.Warn("no \"fastcgi_cache_key\" for \"fastcgi_cache\"", null);
            key = Template.Compile("$scheme$request_method$host$request_uri", build.Configuration.Variables, out _);
        }
        return new CacheRules
        {
            Settings = settings,
            Path = path,
            Paths = paths,
            Family = family,
            Key = key,
            Valid = settings.Valid.Array,
            Bypass = settings.Bypass.Array,
            NoCache = settings.NoCache.Array,
            Purge = settings.Purge.Array,
            PurgeTags = settings.PurgeTags.Array,
            Conforms = settings.Conforms.Value,
            Methods = settings.Methods.Value,
            Locks = settings.Lock.Value,
            MinUses = settings.MinUses.Value,
            IsCgi = family != "proxy",
            Protocol = protocol,
        };
    }
}
