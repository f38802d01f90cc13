// Whether an answer may be stored and for how long it is fresh, and whether a stored one may be used for a request: RFC
// 9111 with RFC 5861 and RFC 9213, or what nginx does, as the location says. Pure arithmetic over values: no clock, no
// text, no memory. Times are seconds since 1970, spans are seconds.
namespace Weir.Http.Cache;

/// <summary>What an answer says that matters to a cache.</summary>
public struct AnswerFacts()
{
    public int Status;
    public long NowSec;

    /// <summary>Seconds between asking and the answer's head.</summary>
    public long DelaySec;

    /// <summary>The Date field, or -1.</summary>
    public long DateSec = -1;

    /// <summary>The Age field, or 0.</summary>
    public long AgeSec;

    /// <summary>The Expires field, -1 when there is none, 0 when it is none of a date.</summary>
    public long ExpiresSec = -1;

    /// <summary>Last-Modified, or -1.</summary>
    public long LastModifiedSec = -1;
    public bool HasETag;
    public CacheControl Control = new();

    /// <summary>CDN-Cache-Control is there and well-formed: it counts instead of Cache-Control and Expires.</summary>
    public bool IsTargeted;

    /// <summary>X-Accel-Expires: a span, -1 when there is none.</summary>
    public long AccelSec = -1;
    public bool SetsCookie;
    public bool VariesOnAll;

    /// <summary>The request came with Authorization.</summary>
    public bool IsAuthorized;

    /// <summary>The request said no-store.</summary>
    public bool IsNotToBeStored;

    /// <summary>What `cache_valid` says for the status; 0 for nothing.</summary>
    public long ConfiguredSec;

    public readonly bool HasValidator => HasETag || LastModifiedSec >= 0;
}

/// <summary>What becomes of an answer.</summary>
public struct StorePlan()
{
    public bool Stores;

    /// <summary>How old it was when it came.</summary>
    public long InitialAgeSec;

    /// <summary>For how long it is fresh, counted from age 0.</summary>
    public long LifetimeSec;
    public long StaleWhileRevalidateSec = -1;
    public long StaleIfErrorSec = -1;

    /// <summary>It is never used without asking.</summary>
    public bool AlwaysAsks;

    /// <summary>It is never used stale.</summary>
    public bool NeverStale;
}

/// <summary>How a stored response stands to a request.</summary>
public enum Usability : byte
{
    Fresh,

    /// <summary>It has to be validated; whether it may be used when that fails is said beside.</summary>
    Stale,
}

/// <summary>The rules.</summary>
public static class Freshness
{
    /// <summary>Heuristic lifetimes end here: a day.</summary>
    public const long HeuristicSecMax = 86400;

    /// <summary>RFC 9110 §15.1: statuses that may be stored without being told to. 206 is left out: parts are not
    /// kept.</summary>
    public static bool IsHeuristic(int status) => status is 200 or 203 or 204 or 300 or 301 or 308 or 404 or 405
        or 410 or 414 or 501;

    /// <summary>Statuses whose meaning for caches this build knows (must-understand).</summary>
    public static bool IsUnderstood(int status) => IsHeuristic(status) || status is 201 or 202 or 205 or 302 or 303
        or 307 or 400 or 401 or 402 or 403 or 406 or 407 or 408 or 409 or 411 or 412 or 413 or 415 or 416 or 417
        or 421 or 422 or 426 or 429 or 500 or 502 or 503 or 504 or 505;

    /// <summary>RFC 9111 §3.</summary>
    public static StorePlan PlanRfc(in AnswerFacts a)
    {
        var plan = new StorePlan();
        ref readonly CacheControl c = ref a.Control;
        if (a.Status is < 200 or 206 or 304 || a.SetsCookie || a.VariesOnAll || a.IsNotToBeStored)
        {
            return plan;
        }
        bool understands = c.Has(CacheFlags.MustUnderstand);
        if (understands ? !IsUnderstood(a.Status) : c.Has(CacheFlags.NoStore))
        {
            return plan;
        }
        if (c.Has(CacheFlags.Private) && a.AccelSec < 0)
        {
            return plan;
        }
        if (a.IsAuthorized && !c.Has(CacheFlags.Public | CacheFlags.MustRevalidate) && c.SharedMaxAge < 0)
        {
            return plan;
        }
        if (a.AccelSec == 0)
        {
            return plan;
        }
        long lifetime = Lifetime(in a, out bool isExplicit);
        plan.InitialAgeSec = InitialAge(in a);
        plan.LifetimeSec = lifetime;
        plan.StaleWhileRevalidateSec = c.StaleWhileRevalidate;
        plan.StaleIfErrorSec = c.StaleIfError;
        plan.AlwaysAsks = c.Has(CacheFlags.NoCache) && a.AccelSec < 0;
        plan.NeverStale = plan.AlwaysAsks || c.Has(CacheFlags.MustRevalidate | CacheFlags.ProxyRevalidate)
            || c.SharedMaxAge >= 0 && a.AccelSec < 0;
        bool allowed = isExplicit || IsHeuristic(a.Status) || c.Has(CacheFlags.Public);
        bool useful = !plan.AlwaysAsks && lifetime > plan.InitialAgeSec || a.HasValidator
            || plan.StaleWhileRevalidateSec > 0 || plan.StaleIfErrorSec > 0;
        plan.Stores = allowed && useful;
        return plan;
    }

    /// <summary>RFC 9111 §4.2.1, with X-Accel-Expires before and `cache_valid` in place of a heuristic.</summary>
    private static long Lifetime(in AnswerFacts a, out bool isExplicit)
    {
        isExplicit = true;
        if (a.AccelSec >= 0)
        {
            return a.AccelSec;
        }
        if (a.Control.SharedMaxAge >= 0)
        {
            return a.Control.SharedMaxAge;
        }
        if (a.Control.MaxAge >= 0)
        {
            return a.Control.MaxAge;
        }
        if (a.ExpiresSec >= 0 && !a.IsTargeted)
        {
            return Math.Max(0, a.ExpiresSec - (a.DateSec >= 0 ? a.DateSec : a.NowSec));
        }
        if (a.ConfiguredSec > 0)
        {
            return a.ConfiguredSec;
        }
        isExplicit = a.Control.Has(CacheFlags.Public);
        if (a.LastModifiedSec >= 0 && (isExplicit || IsHeuristic(a.Status)))
        {
            long since = (a.DateSec >= 0 ? a.DateSec : a.NowSec) - a.LastModifiedSec;
            return Math.Clamp(since / 10, 0, HeuristicSecMax);
        }
        return 0;
    }

    /// <summary>RFC 9111 §4.2.3.</summary>
    private static long InitialAge(in AnswerFacts a)
    {
        if (a.AccelSec >= 0)
        {
            return 0;
        }
        long apparent = a.DateSec < 0 ? 0 : Math.Max(0, a.NowSec - a.DateSec);
        return Math.Max(apparent, a.AgeSec + a.DelaySec);
    }

    /// <summary>What nginx does: X-Accel-Expires, Cache-Control, Expires, `cache_valid`, the first of them that says
    /// something; nothing is stored to be asked for again.</summary>
    public static StorePlan PlanNginx(in AnswerFacts a)
    {
        var plan = new StorePlan();
        ref readonly CacheControl c = ref a.Control;
        if (a.Status is < 200 or 304 || a.SetsCookie || a.VariesOnAll)
        {
            return plan;
        }
        long lifetime;
        if (a.AccelSec >= 0)
        {
            lifetime = a.AccelSec;
        }
        else if (c.Has(CacheFlags.NoStore | CacheFlags.NoCache | CacheFlags.Private | CacheFlags.Fields))
        {
            return plan;
        }
        else if (c.SharedMaxAge >= 0)
        {
            lifetime = c.SharedMaxAge;
        }
        else if (c.MaxAge >= 0)
        {
            lifetime = c.MaxAge;
        }
        else if (a.ExpiresSec >= 0)
        {
            lifetime = a.ExpiresSec - a.NowSec;
        }
        else
        {
            lifetime = a.ConfiguredSec;
        }
        plan.Stores = lifetime > 0;
        plan.LifetimeSec = lifetime;
        plan.StaleWhileRevalidateSec = c.StaleWhileRevalidate;
        plan.StaleIfErrorSec = c.StaleIfError;
        return plan;
    }

    /// <summary>Whether a stored response may be used now (RFC 9111 §4.2, §5.2.1).</summary>
    /// <param name="ageSec">Its age.</param>
    /// <param name="plan">What was decided when it came.</param>
    /// <param name="request">The request's own Cache-Control; nothing where it does not count.</param>
    /// <param name="allowsStale">Whether it may be used although it is stale, when it cannot be validated.</param>
    public static Usability Judge(long ageSec, in StorePlan plan, in CacheControl request, out bool allowsStale)
    {
        allowsStale = !plan.NeverStale && !request.Has(CacheFlags.NoCache);
        if (plan.AlwaysAsks || request.Has(CacheFlags.NoCache))
        {
            return Usability.Stale;
        }
        // An age is counted in whole seconds: max-age=0 asks whatever the clock says.
        if (request.MaxAge == 0 || request.MaxAge > 0 && ageSec > request.MaxAge)
        {
            allowsStale = false;
            return Usability.Stale;
        }
        long left = plan.LifetimeSec - ageSec;
        if (request.MinFresh >= 0 && left < request.MinFresh)
        {
            return Usability.Stale;
        }
        if (left > 0)
        {
            return Usability.Fresh;
        }
        bool asked = request.Has(CacheFlags.AnyStale) || request.MaxStale >= 0 && -left <= request.MaxStale;
        return asked && !plan.NeverStale ? Usability.Fresh : Usability.Stale;
    }
}
