// The settings of a location's cache (proxy_cache_*, fastcgi_cache_*) and of files that are kept for good
// (proxy_store): set by directives, merged parent to child once, frozen. CacheRules is what requests use.
using Weir.Conf;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Cache;

/// <summary>A rule of `cache_valid`.</summary>
/// <param name="Status">The status; 0 for any.</param>
/// <param name="Seconds">For how long.</param>
public readonly record struct ValidRule(int Status, long Seconds);

/// <summary>Methods as bits.</summary>
[Flags]
public enum CacheMethods
{
    None = 0,
    Get = 1,
    Head = 2,
    Post = 4,
}

/// <summary>`cache_use_stale … updating`, beside the reasons of <see cref="NextUpstream"/>.</summary>
public static class UseStale
{
    public const NextUpstream Updating = (NextUpstream)(1 << 16);
}

/// <summary>What directives say of a cache.</summary>
public sealed class CacheSettings
{
    /// <summary>The cache's name with variables allowed; empty for `off`.</summary>
    public Inherited<Template?> Zone;

    /// <summary>Among whose caches <see cref="Zone"/> is looked for: proxy's or fastcgi's.</summary>
    public string Family = "";

    /// <summary>Where the name stands, until it was looked for.</summary>
    public ConfSpan? ZoneSpan;

    public Inherited<Template> Key;
    public InheritedList<ValidRule> Valid;
    public Inherited<CacheMethods> Methods;
    public Inherited<int> MinUses;
    public InheritedList<Template> Bypass;
    public InheritedList<Template> NoCache;
    public InheritedList<Template> Purge;
    public InheritedList<Template> PurgeTags;
    public Inherited<NextUpstream> UseStale;
    public Inherited<bool?> BackgroundUpdate;
    public Inherited<bool?> Revalidate;
    public Inherited<bool> Lock;
    public Inherited<long> LockTimeoutMs;
    public Inherited<long> LockAgeMs;
    public Inherited<bool> ConvertHead;
    public Inherited<long> MaxRangeOffset;

    /// <summary>True for RFC 9111.</summary>
    public Inherited<bool> Conforms;

    /// <summary>What the RFCs ask for is done unless it is turned off.</summary>
    public bool Updates => BackgroundUpdate.Value ?? Conforms.Value;

    /// <inheritdoc cref="Updates"/>
    public bool Validates => Revalidate.Value ?? Conforms.Value;

    /// <summary>`store`: a path, empty for `on`, null for `off`.</summary>
    public Inherited<Template?> Store;
    public Inherited<int> StoreMode;

    internal void Merge(CacheSettings p)
    {
        Zone.Merge(p.Zone, null);
        Key.Merge(p.Key, null!);
        Valid.Merge(p.Valid);
        Methods.Merge(p.Methods, CacheMethods.Get | CacheMethods.Head);
        MinUses.Merge(p.MinUses, 1);
        Bypass.Merge(p.Bypass);
        NoCache.Merge(p.NoCache);
        Purge.Merge(p.Purge);
        PurgeTags.Merge(p.PurgeTags);
        UseStale.Merge(p.UseStale, NextUpstream.Off);
        Lock.Merge(p.Lock, false);
        LockTimeoutMs.Merge(p.LockTimeoutMs, 5000);
        LockAgeMs.Merge(p.LockAgeMs, 5000);
        ConvertHead.Merge(p.ConvertHead, true);
        MaxRangeOffset.Merge(p.MaxRangeOffset, long.MaxValue);
        Conforms.Merge(p.Conforms, true);
        BackgroundUpdate.Merge(p.BackgroundUpdate, null);
        Revalidate.Merge(p.Revalidate, null);
        // A location that caches does not store because the level around does, and the other way round.
        Store.Merge(Zone.IsSet && Zone.Value is not null ? default : p.Store, null);
        if (Store.IsSet && Store.Value is not null && !Zone.IsSet)
        {
            Zone = default;
            Zone.Merge(null);
        }
        StoreMode.Merge(p.StoreMode, 0x180);
    }
}

/// <summary>The cache of one location as requests use it.</summary>
public sealed class CacheRules
{
    public required CacheSettings Settings { get; init; }

    /// <summary>The cache, where its name is a constant.</summary>
    public CachePath? Path { get; init; }

    /// <summary>The caches that a name with variables may mean.</summary>
    public CachePaths? Paths { get; init; }
    public required string Family { get; init; }

    /// <summary>The key's text; null for the family's own.</summary>
    public Template? Key { get; init; }
    public required ValidRule[] Valid { get; init; }
    public required Template[] Bypass { get; init; }
    public required Template[] NoCache { get; init; }
    public required Template[] Purge { get; init; }
    public required Template[] PurgeTags { get; init; }
    public required bool Conforms { get; init; }
    public required CacheMethods Methods { get; init; }
    public required bool Locks { get; init; }
    public required int MinUses { get; init; }

    /// <summary>Heads are in CGI form.</summary>
    public required bool IsCgi { get; init; }

    /// <summary>The protocol whose requests carry the cache's conditions instead of the client's.</summary>
    public required UpstreamProtocol Protocol { get; init; }

    public bool MayUseStale(NextUpstream reason) => (Settings.UseStale.Value & reason) != 0
        && (Settings.UseStale.Value & NextUpstream.Off) == 0;

    /// <summary>What `cache_valid` says for a status; 0 for nothing.</summary>
    public long ValidFor(int status)
    {
        foreach (ref readonly ValidRule rule in Valid.AsSpan())
        {
            if (rule.Status == status || rule.Status == 0)
            {
                return rule.Seconds;
            }
        }
        return 0;
    }

    public bool Takes(HttpMethod method) => method switch
    {
        HttpMethod.Get => (Methods & CacheMethods.Get) != 0,
        HttpMethod.Head => (Methods & CacheMethods.Head) != 0,
        HttpMethod.Post => (Methods & CacheMethods.Post) != 0,
        _ => false,
    };

    /// <summary>Whether one of the texts is neither empty nor "0".</summary>
    internal static bool IsAnySet(Template[] templates, HttpRequest r, out NativeSlice value)
    {
        foreach (Template template in templates)
        {
            value = template.Evaluate(r);
            if (!value.IsEmpty && !value.Span.SequenceEqual("0"u8))
            {
                return true;
            }
        }
        value = default;
        return false;
    }
}
