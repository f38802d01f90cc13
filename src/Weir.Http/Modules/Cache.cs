// proxy_cache_path and fastcgi_cache_path, and the variables that tell what a cache did: $upstream_cache_status,
// $upstream_cache_age, $upstream_cache_key, $upstream_cache_last_modified, $upstream_cache_etag. What a location says
// of its cache is declared by Cache/CacheDirectives.cs; the work is Cache/CachedRequest.cs.
using Weir.Conf;
using Weir.Http.Cache;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Zones;

namespace Weir.Http.Modules;

internal sealed class CacheModule : HttpModule
{
    public override string Name => "http_cache";

    public override object CreateMain(HttpBuild build) => new CachePaths();

    public override void Declare(HttpDeclarations d)
    {
        d.Main<CachePaths>("proxy_cache_path", static (u, paths) => AddPath(u, paths, "proxy"));
        d.Main<CachePaths>("fastcgi_cache_path", static (u, paths) => AddPath(u, paths, "fastcgi"));
        d.Variable("upstream_cache_status", GetStatus, VariableFlags.NoCache);
        d.Variable("upstream_cache_age", GetAge, VariableFlags.NoCache);
        d.Variable("upstream_cache_key", GetKey, VariableFlags.NoCache);
        d.Variable("upstream_cache_last_modified", static (Session.Session s, Variable _, ref NativeSlice value) =>
            TryGetValidator((HttpRequest)s, KnownResponseHeader.LastModified, ref value), VariableFlags.NoCache);
        d.Variable("upstream_cache_etag", static (Session.Session s, Variable _, ref NativeSlice value) =>
            TryGetValidator((HttpRequest)s, KnownResponseHeader.ETag, ref value), VariableFlags.NoCache);
    }

    private static void AddPath(DirectiveUse use, CachePaths paths, string family)
    {
        if (CachePath.Parse(use, family) is not { } path)
        {
            return;
        }
        if (!paths.TryAdd(path))
        {
            use.Error($"duplicate zone \"{path.ZoneName}\"");
            return;
        }
        use.Build.Resources.NeedDirectory(path.Directory);
        var spec = new ZoneSpec(path.ZoneIdentity, path.ZoneBytes, CacheIndex.Layout);
        if (use.Build.Resources.Zone(spec) is { } zone)
        {
            path.Index = CacheIndex.Open(zone, use.Build.Resources.Owner);
            if (path.Index is null)
            {
                use.Error($"keys zone \"{path.ZoneName}\" is too small");
            }
        }
    }

    private static bool GetStatus(Session.Session s, Variable variable, ref NativeSlice value)
    {
        value = (((HttpRequest)s).Find(CachedRequest.Slot)?.Status ?? CacheStatus.None) switch
        {
            CacheStatus.Miss => NativeSlice.Literal("MISS"u8),
            CacheStatus.Bypass => NativeSlice.Literal("BYPASS"u8),
            CacheStatus.Expired => NativeSlice.Literal("EXPIRED"u8),
            CacheStatus.Stale => NativeSlice.Literal("STALE"u8),
            CacheStatus.Updating => NativeSlice.Literal("UPDATING"u8),
            CacheStatus.Revalidated => NativeSlice.Literal("REVALIDATED"u8),
            CacheStatus.Hit => NativeSlice.Literal("HIT"u8),
            _ => default,
        };
        return !value.IsEmpty;
    }

    private static bool GetAge(Session.Session s, Variable variable, ref NativeSlice value)
    {
        var r = (HttpRequest)s;
        if (r.Find(CachedRequest.Slot) is not { AgeSec: >= 0 and var age })
        {
            return false;
        }
        value = r.Arena.StoreNumber(age);
        return true;
    }

    private static bool GetKey(Session.Session s, Variable variable, ref NativeSlice value)
    {
        value = ((HttpRequest)s).Find(CachedRequest.Slot)?.KeyText ?? default;
        return !value.IsEmpty;
    }

    /// <summary>A validator of the stored response that is asked about again.</summary>
    internal static bool TryGetValidator(HttpRequest r, KnownResponseHeader header, ref NativeSlice value)
    {
        if (r.Find(CachedRequest.Slot)?.Validated is not { } stored)
        {
            return false;
        }
        value = StoredFields.Find(stored.Texts.Response, KnownHeaders.Name(header));
        return !value.IsEmpty;
    }
}
