// add_header, add_trailer, expires and what 1.31 added for their inheritance: nginx's headers module.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal enum ExpiresForm
{
    Off,
    Epoch,
    Max,
    Access,
    Modified,
    Daily,
}

internal enum HeaderInheritance
{
    Off,
    On,
    Merge,
}

internal enum HeaderKind
{
    Add,
    LastModified,
    ETag,
}

internal readonly record struct ExpiresRule(ExpiresForm Form, long Seconds, Template? Value);

internal sealed record AddedHeader(NativeSlice Name, Template Value, bool Always, KnownResponseHeader Known,
    HeaderKind Kind);

internal sealed class HeadersSettings
{
    internal Inherited<ExpiresRule> Expires;
    internal Inherited<HeaderInheritance> HeadersInherit;
    internal Inherited<HeaderInheritance> TrailersInherit;
    internal List<AddedHeader> Headers = [];
    internal List<AddedHeader> Trailers = [];
}

internal sealed class HeadersModule : HttpModule<HeadersSettings>
{
    private static readonly ConfChoice<HeaderInheritance>[] s_inherit =
        [new("off", HeaderInheritance.Off), new("on", HeaderInheritance.On), new("merge", HeaderInheritance.Merge)];

    public override string Name => "http_headers_filter";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<HeadersSettings>("expires", SetExpires);
        d.Location<HeadersSettings>("add_header", static (u, s) => Add(u, s.Headers, isTrailer: false));
        d.Location<HeadersSettings>("add_trailer", static (u, s) => Add(u, s.Trailers, isTrailer: true));
        d.Location<HeadersSettings>("add_header_inherit", static (u, s) => u.SetEnum(ref s.HeadersInherit, s_inherit));
        d.Location<HeadersSettings>("add_trailer_inherit", static (u, s) => u.SetEnum(ref s.TrailersInherit,
            s_inherit));
    }

    private static void SetExpires(DirectiveUse use, HeadersSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.Expires))
        {
            return;
        }
        ExpiresForm form = ExpiresForm.Access;
        int last = use.Count - 1;
        if (last == 1)
        {
            if (use[0] != "modified")
            {
                use.Complain("invalid value");
                return;
            }
            form = ExpiresForm.Modified;
        }
        if (use.Template(last) is not { } template)
        {
            return;
        }
        if (!template.IsConstant)
        {
            settings.Expires.Set(new ExpiresRule(form, 0, template));
            return;
        }
        string? error = ExpiresText.Parse(template.Constant.Span, ref form, out long seconds);
        if (error is not null)
        {
            use.Complain(error);
            return;
        }
        settings.Expires.Set(new ExpiresRule(form, seconds, null));
    }

    private static void Add(DirectiveUse use, List<AddedHeader> list, bool isTrailer)
    {
        if (use.Template(1) is not { } value)
        {
            return;
        }
        if (use.Count == 3 && use[2] != "always")
        {
            use.InvalidParameter(2);
            return;
        }
        KnownResponseHeader known = isTrailer ? KnownResponseHeader.None : use[0].ToLowerInvariant() switch
        {
            "cache-control" => KnownResponseHeader.CacheControl,
            "link" => KnownResponseHeader.Link,
            "last-modified" => KnownResponseHeader.LastModified,
            "etag" => KnownResponseHeader.ETag,
            _ => KnownResponseHeader.None,
        };
        HeaderKind kind = known == KnownResponseHeader.LastModified ? HeaderKind.LastModified
            : known == KnownResponseHeader.ETag ? HeaderKind.ETag : HeaderKind.Add;
        list.Add(new AddedHeader(use.Store(0), value, use.Count == 3, known, kind));
    }

    protected override void Merge(HttpBuild build, HeadersSettings parent, HeadersSettings child)
    {
        child.Expires.Merge(in parent.Expires, default);
        child.HeadersInherit.Merge(in parent.HeadersInherit, HeaderInheritance.On);
        child.TrailersInherit.Merge(in parent.TrailersInherit, HeaderInheritance.On);
        child.Headers = Inherit(child.HeadersInherit.Value, parent.Headers, child.Headers);
        child.Trailers = Inherit(child.TrailersInherit.Value, parent.Trailers, child.Trailers);
    }

    private static List<AddedHeader> Inherit(HeaderInheritance how, List<AddedHeader> outer, List<AddedHeader> own)
    {
        if (how == HeaderInheritance.Off || outer.Count == 0)
        {
            return own;
        }
        return own.Count == 0 ? outer : how == HeaderInheritance.Merge ? [.. own, .. outer] : own;
    }

    public override void InstallLocation(LocationInstall install)
    {
        HeadersSettings settings = Settings(install.Location);
        if (settings.Expires.Value.Form != ExpiresForm.Off || settings.Headers.Count > 0 || settings.Trailers.Count > 0)
        {
            install.AddFilter(FilterPlace.Headers, install.Shared(settings, static s => new HeadersFilter(s)));
        }
    }
}

/// <summary>Reads what stands behind `expires`.</summary>
internal static class ExpiresText
{
    private const long SecondsPerDay = 24 * 3600;

    /// <summary>Null, or what is wrong with it. Does not allocate when nothing is.</summary>
    internal static string? Parse(ReadOnlySpan<byte> text, ref ExpiresForm form, out long seconds)
    {
        seconds = 0;
        if (form != ExpiresForm.Modified)
        {
            ExpiresForm word = text.SequenceEqual("epoch"u8) ? ExpiresForm.Epoch
                : text.SequenceEqual("max"u8) ? ExpiresForm.Max
                : text.SequenceEqual("off"u8) ? ExpiresForm.Off : ExpiresForm.Access;
            if (word != ExpiresForm.Access)
            {
                form = word;
                return null;
            }
        }
        bool minus = false;
        if (text.Length > 0 && text[0] is (byte)'@' or (byte)'+' or (byte)'-')
        {
            if (text[0] == '@')
            {
                if (form == ExpiresForm.Modified)
                {
                    return "daily time cannot be used with \"modified\" parameter";
                }
                form = ExpiresForm.Daily;
            }
            minus = text[0] == '-';
            text = text[1..];
        }
        Span<char> chars = stackalloc char[64];
        if (text.Length > chars.Length)
        {
            return "invalid value";
        }
        for (int i = 0; i < text.Length; i++)
        {
            chars[i] = (char)text[i];
        }
        if (!ConfValues.TrySec(chars[..text.Length], out seconds))
        {
            return "invalid value";
        }
        if (form == ExpiresForm.Daily && seconds > SecondsPerDay)
        {
            return "daily time value must be less than 24 hours";
        }
        if (minus)
        {
            seconds = -seconds;
        }
        return null;
    }
}

internal sealed class HeadersFilter(HeadersSettings settings) : HeadFilter
{
    private readonly ExpiresRule _expires = settings.Expires.Value;
    private readonly AddedHeader[] _headers = [.. settings.Headers];
    private readonly AddedHeader[] _trailers = [.. settings.Trailers];

    public override void OnHead(HttpRequest r)
    {
        if (!r.IsMain)
        {
            return;
        }
        ResponseHead head = r.Response;
        bool safe = head.Status is 200 or 201 or 204 or 206 or 301 or 302 or 303 or 304 or 307 or 308;
        if (safe && _expires.Form != ExpiresForm.Off)
        {
            SetExpires(r, head);
        }
        foreach (AddedHeader header in _headers)
        {
            if (safe || header.Always)
            {
                Apply(r, head, header);
            }
        }
        foreach (AddedHeader trailer in _trailers)
        {
            if (safe || trailer.Always)
            {
                head.ExpectTrailers = true;
                TrailerFilter filter = r.Get(TrailerFilter.Slot);
                filter.Start(_trailers, safe);
                r.AddBodyFilter(filter);
                break;
            }
        }
    }

    private static void Apply(HttpRequest r, ResponseHead head, AddedHeader header)
    {
        NativeSlice value = Sanitized(r, header.Value.Evaluate(r));
        switch (header.Kind)
        {
            case HeaderKind.LastModified:
                head.LastModified = !value.IsEmpty && HttpDate.TryParse(value.Span, out long time) ? time : -1;
                head.Remove(KnownResponseHeader.LastModified);
                if (!value.IsEmpty)
                {
                    head.Add(header.Name, value, header.Known);
                }
                break;
            case HeaderKind.ETag:
                int i = head.Find(KnownResponseHeader.ETag);
                if (value.IsEmpty)
                {
                    head.Remove(KnownResponseHeader.ETag);
                }
                else if (i >= 0)
                {
                    head[i].Name = header.Name;
                    head[i].Value = value;
                }
                else
                {
                    head.Add(header.Name, value, header.Known);
                }
                break;
            default:
                if (!value.IsEmpty)
                {
                    head.Add(header.Name, value, header.Known);
                }
                break;
        }
    }

    /// <summary>Line ends and NULs of a variable's value become spaces: no header can be smuggled in.</summary>
    internal static NativeSlice Sanitized(HttpRequest r, NativeSlice value)
    {
        if (value.Span.IndexOfAny((byte)0, (byte)'\r', (byte)'\n') < 0)
        {
            return value;
        }
        NativeSlice clean = r.Arena.Store(value.Span);
        foreach (ref byte b in clean.Span)
        {
            if (b is 0 or (byte)'\r' or (byte)'\n')
            {
                b = (byte)' ';
            }
        }
        return clean;
    }

    private void SetExpires(HttpRequest r, ResponseHead head)
    {
        ExpiresForm form = _expires.Form;
        long seconds = _expires.Seconds;
        if (_expires.Value is not null)
        {
            if (ExpiresText.Parse(_expires.Value.Evaluate(r).Span, ref form, out seconds) is not null
                || form == ExpiresForm.Off)
            {
                return;
            }
        }
        NativeSlice expires;
        NativeSlice control;
        long now = r.Loop.UnixMs / 1000;
        if (form == ExpiresForm.Epoch)
        {
            expires = NativeSlice.Literal("Thu, 01 Jan 1970 00:00:01 GMT"u8);
            control = NativeSlice.Literal("no-cache"u8);
        }
        else if (form == ExpiresForm.Max)
        {
            expires = NativeSlice.Literal("Thu, 31 Dec 2037 23:55:55 GMT"u8);
            control = NativeSlice.Literal("max-age=315360000"u8);
        }
        else
        {
            long at;
            if (form == ExpiresForm.Daily)
            {
                at = NextTimeOfDay(now, seconds);
            }
            else if (form == ExpiresForm.Access || head.LastModified < 0)
            {
                at = now + seconds;
            }
            else
            {
                at = seconds == 0 ? now : head.LastModified + seconds;
            }
            expires = r.Arena.Allocate(HttpDate.Length);
            HttpDate.Format(at, expires.Span);
            // As nginx: the sign of the configured time counts, not of one that a variable brought.
            control = _expires.Seconds < 0 || at < now ? NativeSlice.Literal("no-cache"u8) : MaxAge(r, at - now);
        }
        Replace(head, NativeSlice.Literal("Expires"u8), expires, KnownResponseHeader.Expires);
        Replace(head, NativeSlice.Literal("Cache-Control"u8), control, KnownResponseHeader.CacheControl);
    }

    private static NativeSlice MaxAge(HttpRequest r, long seconds)
    {
        Span<byte> text = stackalloc byte[32];
        var w = new SpanWriter(text);
        w.Write("max-age="u8);
        w.Number(seconds);
        return r.Arena.Store(text[..w.Written]);
    }

    /// <summary>The next moment with this time of the local day.</summary>
    private static long NextTimeOfDay(long now, long seconds)
    {
        long offset = WallClock.OffsetMinutes(now) * 60L;
        long midnight = (now + offset) / 86400 * 86400 - offset;
        long next = midnight + seconds;
        return next > now ? next : next + 86400;
    }

    /// <summary>One field of this number remains, with this value.</summary>
    private static void Replace(ResponseHead head, NativeSlice name, NativeSlice value, KnownResponseHeader known)
    {
        int first = head.Find(known);
        if (first < 0)
        {
            head.Add(name, value, known);
            return;
        }
        head.Remove(known);
        head[first].Removed = false;
        head[first].Value = value;
    }
}

/// <summary>Computes the trailers when the body ends.</summary>
internal sealed class TrailerFilter : BodyFilter
{
    internal static readonly RequestSlot<TrailerFilter> Slot = new();

    private AddedHeader[] _trailers = [];
    private bool _isSafe;

    public override bool NeedsBytes => false;

    internal void Start(AddedHeader[] trailers, bool isSafe)
    {
        _trailers = trailers;
        _isSafe = isSafe;
    }

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if ((flags & PushFlags.Last) != 0 && r.Response.Chunked)
        {
            foreach (AddedHeader trailer in _trailers)
            {
                if (!_isSafe && !trailer.Always)
                {
                    continue;
                }
                NativeSlice value = HeadersFilter.Sanitized(r, trailer.Value.Evaluate(r));
                if (!value.IsEmpty)
                {
                    r.Response.AddTrailer(trailer.Name, value);
                }
            }
        }
        PassOn(r, input, flags);
    }

    protected internal override void Reset()
    {
        _trailers = [];
        _isSafe = false;
    }
}
