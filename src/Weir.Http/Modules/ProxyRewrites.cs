// proxy_redirect, proxy_cookie_domain, proxy_cookie_path and proxy_cookie_flags: reading them, and rewriting the
// answers'
// Location, Refresh and Set-Cookie with them.
using Weir.Conf;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>A text to find (a prefix, or a regular expression) and what takes its place.</summary>
internal sealed class RedirectRule
{
    public Template? Prefix { get; init; }
    public Regex? Regex { get; init; }
    public Template? Replacement { get; init; }

    /// <summary>`default`: made from proxy_pass and the location.</summary>
    public bool IsDefault { get; init; }
}

internal sealed class CookieRule
{
    public Template? Text { get; init; }
    public Regex? Regex { get; init; }
    public Template? Replacement { get; init; }
}

[Flags]
internal enum CookieChange
{
    None = 0,
    Secure = 1,
    NoSecure = 2,
    HttpOnly = 4,
    NoHttpOnly = 8,
    Strict = 16,
    Lax = 32,
    AnySite = 64,
    NoSameSite = 128,
    SameSite = Strict | Lax | AnySite,
}

internal sealed class CookieFlags
{
    public Template? Name { get; init; }
    public Regex? Regex { get; init; }
    public required Template[] Flags { get; init; }
}

internal static class ProxyRewrites
{
    /// <summary>Whether an expression matches; one that reaches its limit ends the request.</summary>
    internal static bool Matches(HttpRequest r, Regex regex, NativeSlice text)
    {
        RegexOutcome outcome = regex.Match(r, text);
        if (outcome == RegexOutcome.Failed)
        {
            r.FailMatch(text, regex.Source);
        }
        return outcome == RegexOutcome.Match;
    }

    internal static void SetRedirect(DirectiveUse use, ProxySettings settings)
    {
        if (settings.RedirectsOff.IsSet)
        {
            use.Complain("is duplicate");
            return;
        }
        if (use.Count == 1)
        {
            if (use[0] == "off")
            {
                settings.RedirectsOff.Set(true);
            }
            else if (use[0] != "default")
            {
                use.InvalidParameter(0);
            }
            else if (use.Block.FindHere<ProxyPass>()?.Target is not { } target)
            {
                use.Error("\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive");
            }
            else if (target.Template is not null)
            {
                use.Error("\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables");
            }
            else
            {
                settings.Redirects.Add(new RedirectRule { IsDefault = true });
            }
            return;
        }
        Regex? regex = null;
        Template? prefix = null;
        if (use[0].StartsWith('~') ? !TryRegex(use, 0, caseless: false, out regex) : (prefix = use.Template(0)) is null)
        {
            return;
        }
        if (use.Template(1) is { } replacement)
        {
            settings.Redirects.Add(new RedirectRule { Prefix = prefix, Regex = regex, Replacement = replacement });
        }
    }

    private static bool TryRegex(DirectiveUse use, int arg, bool caseless, out Regex? regex)
    {
        bool star = use[arg].StartsWith("~*", StringComparison.Ordinal);
        regex = Regex.Compile(use[arg][(star ? 2 : 1)..], caseless || star, use.Build.Configuration.Variables,
            out string? error);
        if (regex is null)
        {
            use.Error(arg, error!);
            return false;
        }
        use.Build.Configuration.Own(regex.Pattern);
        return true;
    }

    internal static void AddCookieRule(DirectiveUse use, ref InheritedList<CookieRule> rules, bool isDomain)
    {
        if (use.Count == 1)
        {
            if (use[0] != "off")
            {
                use.InvalidParameter(0);
                return;
            }
            // A rule that matches nothing keeps the outer level's out.
            rules.Add(new CookieRule());
            return;
        }
        Regex? regex = null;
        Template? text = null;
        string literal = isDomain && use[0].StartsWith('.') ? use[0][1..] : use[0];
        if (use[0].StartsWith('~') ? !TryRegex(use, 0, isDomain, out regex) : (text = use.TemplateOf(literal,
            0)) is null)
        {
            return;
        }
        if (use.Template(1) is { } replacement)
        {
            rules.Add(new CookieRule { Text = text, Regex = regex, Replacement = replacement });
        }
    }

    internal static void AddCookieFlags(DirectiveUse use, ProxySettings settings)
    {
        if (use.Count == 1)
        {
            if (use[0] != "off")
            {
                use.InvalidParameter(0);
                return;
            }
            settings.CookieFlags.Add(new CookieFlags { Flags = [] });
            return;
        }
        Regex? regex = null;
        Template? name = null;
        if (use[0].StartsWith('~') ? !TryRegex(use, 0, caseless: true, out regex) : (name = use.Template(0)) is null)
        {
            return;
        }
        var flags = new List<Template>();
        for (int i = 1; i < use.Count; i++)
        {
            if (!use[i].Contains('$') && FlagOf(System.Text.Encoding.Latin1.GetBytes(use[i])) == CookieChange.None)
            {
                use.InvalidParameter(i);
                return;
            }
            if (use.Template(i) is { } flag)
            {
                flags.Add(flag);
            }
        }
        settings.CookieFlags.Add(new CookieFlags { Name = name, Regex = regex, Flags = [.. flags] });
    }

    internal static CookieChange FlagOf(ReadOnlySpan<byte> flag) =>
        HeaderName.Same(flag, "secure"u8) ? CookieChange.Secure
        : HeaderName.Same(flag, "nosecure"u8) ? CookieChange.NoSecure
        : HeaderName.Same(flag, "httponly"u8) ? CookieChange.HttpOnly
        : HeaderName.Same(flag, "nohttponly"u8) ? CookieChange.NoHttpOnly
        : HeaderName.Same(flag, "samesite=strict"u8) ? CookieChange.Strict
        : HeaderName.Same(flag, "samesite=lax"u8) ? CookieChange.Lax
        : HeaderName.Same(flag, "samesite=none"u8) ? CookieChange.AnySite
        : HeaderName.Same(flag, "nosamesite"u8) ? CookieChange.NoSameSite
        : CookieChange.None;

    /// <summary>The redirect rules in force: the configured ones, else the default one where proxy_pass is
    /// constant.</summary>
    internal static RedirectRule[] Rules(HttpBuild build, ProxySettings settings, ProxyTarget target,
        LocationConf location)
    {
        if (settings.RedirectsOff.ValueOr(false))
        {
            return [];
        }
        RedirectRule[] rules = settings.Redirects.Array;
        if (rules.Length == 0)
        {
            return target.Template is null ? [Default(build, target, location)] : [];
        }
        return [.. rules.Select(r => r.IsDefault ? Default(build, target, location) : r)];
    }

    private static RedirectRule Default(HttpBuild build, ProxyTarget target, LocationConf location)
    {
        VariableTable variables = build.Configuration.Variables;
        bool hasUri = target.Uri.Length > 0;
        return new RedirectRule
        {
            Prefix = Template.Compile(hasUri ? target.Url : target.Url + "/", variables, out string? _),
            Replacement = Template.Compile(hasUri ? location.Name : "/", variables, out string? _),
        };
    }
}

/// <summary>HTTP with the rewriting of proxy_redirect and proxy_cookie_*.</summary>
internal sealed class ProxyProtocolHttp(SetHeader[] headers, ProxySettings settings, RedirectRule[] redirects)
    : HttpProtocol(headers, settings.Version.Value == 11, settings.Method.Value, settings.PassTrailers.Value)
{
    private readonly CookieRule[] _domains = settings.CookieDomains.Array;
    private readonly CookieRule[] _paths = settings.CookiePaths.Array;
    private readonly CookieFlags[] _flags = settings.CookieFlags.Array;

    public override NativeSlice RewriteLocation(Exchange x, NativeSlice value)
    {
        HttpRequest r = x.Request;
        foreach (RedirectRule rule in redirects)
        {
            if (rule.Regex is { } regex)
            {
                if (ProxyRewrites.Matches(r, regex, value))
                {
                    return rule.Replacement!.Evaluate(r);
                }
                continue;
            }
            NativeSlice prefix = rule.Prefix!.Evaluate(r);
            if (value.Span.StartsWith(prefix.Span))
            {
                return r.Arena.Concat(rule.Replacement!.Evaluate(r).Span, value.Span[prefix.Length..]);
            }
        }
        return value;
    }

    public override NativeSlice RewriteRefresh(Exchange x, NativeSlice value) => RewriteLocation(x, value);

    public override NativeSlice RewriteCookie(Exchange x, NativeSlice value)
    {
        if (_domains.Length > 0)
        {
            value = RewriteAttribute(x.Request, value, "domain"u8, _domains, isDomain: true);
        }
        if (_paths.Length > 0)
        {
            value = RewriteAttribute(x.Request, value, "path"u8, _paths, isDomain: false);
        }
        return _flags.Length > 0 ? ChangeFlags(x.Request, value) : value;
    }

    /// <summary>Finds an attribute behind the cookie's own pair; -1 when it is missing.</summary>
    private static int FindAttribute(ReadOnlySpan<byte> cookie, ReadOnlySpan<byte> name, out int valueStart,
        out int end)
    {
        valueStart = 0;
        end = 0;
        int at = cookie.IndexOf((byte)';');
        while (at >= 0)
        {
            int start = at + 1;
            int length = cookie[start..].IndexOf((byte)';');
            end = length < 0 ? cookie.Length : start + length;
            ReadOnlySpan<byte> part = cookie[start..end];
            int skipped = part.Length - part.TrimStart((byte)' ').Length;
            int equals = part.IndexOf((byte)'=');
            ReadOnlySpan<byte> key = (equals < 0 ? part : part[..equals]).Trim((byte)' ');
            if (HeaderName.Same(key, name))
            {
                valueStart = equals < 0 ? end : start + equals + 1;
                return at;
            }
            at = length < 0 ? -1 : end;
        }
        return -1;
    }

    private static NativeSlice RewriteAttribute(HttpRequest r, NativeSlice cookie, ReadOnlySpan<byte> name,
        CookieRule[] rules,
        bool isDomain)
    {
        if (FindAttribute(cookie.Span, name, out int start, out int end) < 0)
        {
            return cookie;
        }
        NativeSlice value = cookie.Slice(start, end - start);
        int dot = isDomain && value.Length > 0 && value.Span[0] == '.' ? 1 : 0;
        foreach (CookieRule rule in rules)
        {
            int replaced;
            int skipped = 0;
            if (rule.Regex is { } regex)
            {
                if (!ProxyRewrites.Matches(r, regex, value))
                {
                    continue;
                }
                replaced = value.Length;
            }
            else if (rule.Text is { } text)
            {
                ReadOnlySpan<byte> wanted = text.Evaluate(r).Span;
                ReadOnlySpan<byte> have = value.Span[dot..];
                if (isDomain ? !HeaderName.Same(have, wanted) : !have.StartsWith(wanted))
                {
                    continue;
                }
                skipped = dot;
                replaced = wanted.Length;
            }
            else
            {
                continue;
            }
            NativeSlice with = rule.Replacement!.Evaluate(r);
            NativeSlice made = r.Arena.Allocate(cookie.Length - replaced + with.Length);
            var w = new SpanWriter(made.Span);
            w.Write(cookie.Span[..(start + skipped)]);
            w.Write(with.Span);
            w.Write(cookie.Span[(start + skipped + replaced)..]);
            return made;
        }
        return cookie;
    }

    private NativeSlice ChangeFlags(HttpRequest r, NativeSlice cookie)
    {
        int equals = cookie.Span.IndexOf((byte)'=');
        if (equals <= 0)
        {
            return cookie;
        }
        NativeSlice name = cookie.Slice(0, equals);
        foreach (CookieFlags rule in _flags)
        {
            bool matches = rule.Regex is { } regex ? ProxyRewrites.Matches(r, regex, name)
                : rule.Name is { } literal && HeaderName.Same(literal.Evaluate(r).Span, name.Span);
            if (!matches)
            {
                continue;
            }
            CookieChange change = CookieChange.None;
            foreach (Template flag in rule.Flags)
            {
                change |= ProxyRewrites.FlagOf(flag.Evaluate(r).Span);
            }
            return Apply(r, cookie, change);
        }
        return cookie;
    }

    private static NativeSlice Apply(HttpRequest r, NativeSlice cookie, CookieChange change)
    {
        NativeSlice made = r.Arena.Store(cookie.Span);
        int length = made.Length;
        if ((change & (CookieChange.NoSecure | CookieChange.Secure)) != 0)
        {
            length = Cut(made.Span[..length], "secure"u8);
        }
        if ((change & (CookieChange.NoHttpOnly | CookieChange.HttpOnly)) != 0)
        {
            length = Cut(made.Span[..length], "httponly"u8);
        }
        if ((change & (CookieChange.NoSameSite | CookieChange.SameSite)) != 0)
        {
            length = Cut(made.Span[..length], "samesite"u8);
        }
        NativeSlice text = r.Arena.Allocate(length + 48);
        var w = new SpanWriter(text.Span);
        w.Write(made.Span[..length]);
        w.Write((change & CookieChange.Secure) != 0 ? "; Secure"u8 : default);
        w.Write((change & CookieChange.HttpOnly) != 0 ? "; HttpOnly"u8 : default);
        w.Write((change & CookieChange.Strict) != 0 ? "; SameSite=Strict"u8
            : (change & CookieChange.Lax) != 0 ? "; SameSite=Lax"u8
            : (change & CookieChange.AnySite) != 0 ? "; SameSite=None"u8 : default);
        return text.Slice(0, w.Written);
    }

    /// <summary>Removes an attribute in place and returns the new length.</summary>
    private static int Cut(Span<byte> cookie, ReadOnlySpan<byte> name)
    {
        int at = FindAttribute(cookie, name, out int _, out int end);
        if (at < 0)
        {
            return cookie.Length;
        }
        cookie[end..].CopyTo(cookie[at..]);
        return cookie.Length - (end - at);
    }
}
