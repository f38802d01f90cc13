// sticky cookie, sticky route, sticky learn: a session stays with the server it began with. `cookie` hands the client
// the server's name, `route` finds it in the request, `learn` remembers in a zone which session an answer created
// where. Names are the servers' `route=`, else a digest of their address (Peer.BindName). Allocates nothing per
// request.
using Weir.Conf;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Session.Upstream;
using Weir.Zones;

namespace Weir.Http.Modules;

internal static class UpstreamSticky
{
    internal static void Declare(HttpDeclarations d) => d.Upstream<UpstreamBlock>("sticky", Set);

    private static void Set(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        if (group.Sticky is not null)
        {
            walker.Complain(use, "is duplicate");
            return;
        }
        group.Sticky = use[0] switch
        {
            "cookie" => Cookie(walker, use, group),
            "route" => Route(walker, use, group),
            "learn" => Learn(walker, use, group),
            _ => Unknown(walker, use),
        };
    }

    private static StickyRule? Unknown(ConfWalker walker, ConfDirective use)
    {
        walker.Error(use.Args[0], $"unknown sticky type \"{use[0]}\"");
        return null;
    }

    private static Template? Compile(ConfWalker walker, ConfDirective use, UpstreamBlock group, int arg, string text)
    {
        Template? made = Template.Compile(text, group.Build.Configuration.Variables, out string? error);
        if (made is null)
        {
            walker.Error(use.Args[arg], error!);
        }
        return made;
    }

    private static StickyCookie? Cookie(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        var variables = group.Build.Configuration.Variables;
        var tail = new System.Text.StringBuilder();
        long expires = -1;
        for (int i = 2; i < use.Args.Length; i++)
        {
            string arg = use[i];
            int equals = arg.IndexOf('=');
            string value = equals < 0 ? "" : arg[(equals + 1)..];
            switch (equals < 0 ? arg : arg[..equals])
            {
                case "expires" when value == "max":
                    expires = StickyCookie.Forever;
                    break;
                case "expires" when ConfValues.TrySec(value, out expires):
                    break;
                case "domain" when value.Length > 0:
                    tail.Append("; domain=").Append(value);
                    break;
                case "path" when value.Length > 0:
                    tail.Append("; path=").Append(value);
                    break;
                case "samesite" when value is "strict" or "lax" or "none" || value.StartsWith('$'):
                    tail.Append("; samesite=").Append(value);
                    break;
                case "httponly" when equals < 0:
                    tail.Append("; httponly");
                    break;
                case "secure" when equals < 0:
                    tail.Append("; secure");
                    break;
                default:
                    walker.Error(use.Args[i], $"invalid parameter \"{arg}\"");
                    return null;
            }
        }
        Template? rest = Compile(walker, use, group, 0, tail.ToString());
        return rest is null ? null : new StickyCookie(variables.Use("cookie_" + use[1]),
            variables.Memory.Store(use[1] + "="), expires, rest);
    }

    private static StickyRoute? Route(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        var sources = new List<Template>();
        for (int i = 1; i < use.Args.Length; i++)
        {
            if (Compile(walker, use, group, i, use[i]) is { } source)
            {
                sources.Add(source);
            }
        }
        return new StickyRoute([.. sources]);
    }

    private static StickyLearn? Learn(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        var create = new List<Template>();
        var lookup = new List<Template>();
        string? name = null;
        long bytes = 0, timeoutSec = 600;
        for (int i = 1; i < use.Args.Length; i++)
        {
            string arg = use[i];
            int equals = arg.IndexOf('=');
            string value = equals < 0 ? "" : arg[(equals + 1)..];
            switch (equals < 0 ? arg : arg[..equals])
            {
                case "create" or "lookup" when value.StartsWith('$'):
                    if (Compile(walker, use, group, i, value) is { } source)
                    {
                        (arg[0] == 'c' ? create : lookup).Add(source);
                    }
                    break;
                case "zone" when equals > 0:
                    if (!SharedZones.TryParse(walker, use.Args[i], value, out name, out bytes))
                    {
                        return null;
                    }
                    break;
                case "timeout" when ConfValues.TrySec(value, out timeoutSec):
                    break;
                case "header" when equals < 0:
                    // The answer's head is always enough: sessions are remembered as soon as it is there.
                    break;
                default:
                    walker.Error(use.Args[i], $"invalid parameter \"{arg}\"",
                        arg == "sync" ? LimitValues.NoSync : null);
                    return null;
            }
        }
        if (name is null || create.Count == 0 || lookup.Count == 0)
        {
            walker.Error(use, "\"sticky learn\" must have \"create\", \"lookup\" and \"zone\" parameters");
            return null;
        }
        HttpBuild build = group.Build;
        string owner = group.Name;
        if (build.ZoneNames.Get(name, "sticky " + owner, static n => n, walker, use.Span) is null)
        {
            return null;
        }
        Zone? zone = build.Resources.Zone(new ZoneSpec("sticky:" + name, bytes, StickySessions.Layout));
        return new StickyLearn([.. create], [.. lookup], zone is null ? null
            : StickySessions.Open(zone, timeoutSec));
    }
}

/// <summary>`sticky cookie`.</summary>
internal sealed class StickyCookie(Variable cookie, NativeSlice start, long expiresSec, Template tail) : StickyRule
{
    public const long Forever = long.MaxValue;

    public override NativeSlice Wanted(Session.Session session)
    {
        session.TryGet(cookie, out NativeSlice value);
        return value;
    }

    public override void Answered(Session.Session session, Peer peer, bool isBound)
    {
        if (isBound)
        {
            return;
        }
        var r = (HttpRequest)session;
        ReadOnlySpan<byte> name = peer.BindName;
        NativeSlice rest = tail.Evaluate(r);
        ReadOnlySpan<byte> expires = "; expires="u8;
        ReadOnlySpan<byte> forever = "Thu, 31 Dec 2037 23:55:55 GMT"u8;
        NativeSlice line = r.Arena.Allocate(start.Length + name.Length + rest.Length + expires.Length
            + HttpDate.Length);
        Span<byte> at = line.Span;
        at = Put(at, start.Span);
        at = Put(at, name);
        if (expiresSec >= 0)
        {
            at = Put(at, expires);
            if (expiresSec == Forever)
            {
                at = Put(at, forever);
            }
            else
            {
                HttpDate.Format((r.Loop.UnixMs / 1000) + expiresSec, at[..HttpDate.Length]);
                at = at[HttpDate.Length..];
            }
        }
        at = Put(at, rest.Span);
        r.Response.Add(NativeSlice.Literal("Set-Cookie"u8), line.Slice(0, line.Length - at.Length),
            KnownResponseHeader.SetCookie);
    }

    private static Span<byte> Put(Span<byte> at, ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(at);
        return at[bytes.Length..];
    }
}

/// <summary>`sticky route`: the first of these that is not empty.</summary>
internal sealed class StickyRoute(Template[] sources) : StickyRule
{
    public override NativeSlice Wanted(Session.Session session) => First(sources, session);

    public override void Answered(Session.Session session, Peer peer, bool isBound)
    {
    }

    internal static NativeSlice First(Template[] sources, Session.Session session)
    {
        foreach (Template source in sources)
        {
            NativeSlice value = source.Evaluate(session);
            if (!value.IsEmpty)
            {
                return value;
            }
        }
        return default;
    }
}

/// <summary>`sticky learn`.</summary>
internal sealed class StickyLearn(Template[] create, Template[] lookup, StickySessions? sessions) : StickyRule
{
    public override NativeSlice Wanted(Session.Session session)
    {
        NativeSlice id = StickyRoute.First(lookup, session);
        if (sessions is null || id.IsEmpty || id.Length > StickySessions.KeyBytesMax)
        {
            return default;
        }
        Span<byte> name = stackalloc byte[StickySessions.NameBytesMax];
        int length = sessions.Find(id.Span, session.Loop.NowMs / 1000, name);
        return length == 0 ? default : session.Arena.Store(name[..length]);
    }

    public override void Answered(Session.Session session, Peer peer, bool isBound) => HeadCame(session, peer);

    public override void HeadCame(Session.Session session, Peer peer)
    {
        NativeSlice id = StickyRoute.First(create, session);
        if (sessions is null || id.IsEmpty || id.Length > StickySessions.KeyBytesMax)
        {
            return;
        }
        sessions.Remember(id.Span, peer.BindName, session.Loop.NowMs / 1000);
    }
}
