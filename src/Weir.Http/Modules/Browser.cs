// modern_browser, ancient_browser and their values: $modern_browser and $ancient_browser by the User-Agent header, and
// $msie. Frozen with the configuration; a lookup allocates nothing.
using Weir.Conf;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>A browser as modern_browser names it: where in the header its name is looked for, and where its version
/// stands from there.</summary>
internal sealed record BrowserKind(string Name, int Skip, string Mark, int VersionAt);

internal readonly record struct ModernBrowser(int Kind, long Version, NativeSlice Mark, int Skip, int VersionAt);

internal sealed class BrowserSettings
{
    internal List<ModernBrowser>? Modern { get; set; }
    internal List<NativeSlice>? Ancient { get; set; }
    internal bool UnlistedIsModern { get; set; }
    internal bool Netscape4IsAncient { get; set; }
    internal Inherited<string> ModernValue;
    internal Inherited<string> AncientValue;
    internal NativeSlice ModernBytes;
    internal NativeSlice AncientBytes;
}

internal sealed class BrowserModule : HttpModule<BrowserSettings>
{
    // nginx's order: Opera called itself by the others' names, so it is looked for first.
    private static readonly BrowserKind[] s_kinds =
    [
        new("opera", 0, "Opera", 6),
        new("msie", "Mozilla/4.0 (compatible; ".Length, "MSIE ", 5),
        new("gecko", "Mozilla/5.0 (".Length, "rv:", 3),
        new("safari", "Mozilla/5.0 (".Length, "Safari/", 7),
        new("konqueror", "Mozilla/5.0 (compatible; ".Length, "Konqueror/", 10),
    ];

    public override string Name => "http_browser";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<BrowserSettings>("modern_browser", AddModern);
        d.Location<BrowserSettings>("ancient_browser", static (u, s) =>
        {
            for (int i = 0; i < u.Count; i++)
            {
                if (u[i] == "netscape4")
                {
                    s.Netscape4IsAncient = true;
                    continue;
                }
                (s.Ancient ??= []).Add(u.Build.Memory.Store(u[i]));
            }
        });
        d.Location<BrowserSettings>("modern_browser_value", static (u, s) => u.SetText(ref s.ModernValue));
        d.Location<BrowserSettings>("ancient_browser_value", static (u, s) => u.SetText(ref s.AncientValue));
        d.Variable("msie", static (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            value = UserAgents.IsMsie((HttpRequest)s) ? NativeSlice.Literal("1"u8) : default;
            return true;
        }, VariableFlags.Changeable);
        d.Variable("modern_browser", (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            var r = (HttpRequest)s;
            BrowserSettings settings = Settings(r.Location);
            value = IsModern(r, settings) ? settings.ModernBytes : default;
            return true;
        }, VariableFlags.Changeable);
        d.Variable("ancient_browser", (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            var r = (HttpRequest)s;
            BrowserSettings settings = Settings(r.Location);
            value = IsModern(r, settings) ? default : settings.AncientBytes;
            return true;
        }, VariableFlags.Changeable);
    }

    private static void AddModern(DirectiveUse use, BrowserSettings settings)
    {
        if (use.Count == 1)
        {
            if (use[0] == "unlisted")
            {
                settings.UnlistedIsModern = true;
                return;
            }
            use.Complain("needs a version behind the browser");
            return;
        }
        int kind = Array.FindIndex(s_kinds, k => k.Name.Equals(use[0], StringComparison.OrdinalIgnoreCase));
        if (kind < 0)
        {
            use.Error(0, $"unknown browser name \"{use[0]}\"");
            return;
        }
        long version = 0;
        long part = 0;
        long scale = 1_000_000;
        foreach (char c in use[1])
        {
            if (char.IsAsciiDigit(c))
            {
                part = part * 10 + c - '0';
            }
            else if (c == '.')
            {
                version += part * scale;
                part = 0;
                scale /= 100;
            }
            else
            {
                use.Error(1, $"invalid browser version \"{use[1]}\"");
                return;
            }
        }
        (settings.Modern ??= []).Add(Of(use.Build, kind, version + part * scale));
    }

    private static ModernBrowser Of(HttpBuild build, int kind, long version) => new(kind, version,
        build.Memory.Store(s_kinds[kind].Mark), s_kinds[kind].Skip, s_kinds[kind].VersionAt);

    protected override void Merge(HttpBuild build, BrowserSettings parent, BrowserSettings child)
    {
        if (child.Modern is null && !child.UnlistedIsModern)
        {
            child.Modern = parent.Modern;
            child.UnlistedIsModern = parent.UnlistedIsModern;
        }
        else if (child.Modern is { } own)
        {
            if (!own.Exists(static b => b.Kind == 0))
            {
                // Opera is ancient where nothing is said of it.
                own.Add(Of(build, 0, uint.MaxValue));
            }
            child.Modern = [.. own.OrderBy(static b => b.Kind)];
        }
        if (child.Ancient is null && !child.Netscape4IsAncient)
        {
            child.Ancient = parent.Ancient;
            child.Netscape4IsAncient = parent.Netscape4IsAncient;
        }
        child.ModernValue.Merge(in parent.ModernValue, "1");
        child.AncientValue.Merge(in parent.AncientValue, "1");
        child.ModernBytes = build.Memory.Store(child.ModernValue.Value);
        child.AncientBytes = build.Memory.Store(child.AncientValue.Value);
    }

    private static bool IsModern(HttpRequest r, BrowserSettings settings)
    {
        ReadOnlySpan<byte> agent = r.Header(KnownHeader.UserAgent).Span;
        if (agent.IsEmpty && r.Head.Find(KnownHeader.UserAgent) < 0)
        {
            return settings.UnlistedIsModern;
        }
        foreach (ModernBrowser browser in settings.Modern ?? [])
        {
            if (browser.Skip >= agent.Length)
            {
                continue;
            }
            int found = agent[browser.Skip..].IndexOf(browser.Mark.Span);
            if (found >= 0)
            {
                int at = Math.Min(browser.Skip + found + browser.VersionAt, agent.Length);
                return VersionOf(agent[at..], browser.Version) >= browser.Version;
            }
        }
        foreach (NativeSlice mark in settings.Ancient ?? [])
        {
            if (agent.IndexOf(mark.Span) >= 0)
            {
                return false;
            }
        }
        const int netscapeBytes = 13;
        if (settings.Netscape4IsAncient && agent.Length >= netscapeBytes && agent.StartsWith("Mozilla/"u8)
            && agent[8] is > (byte)'0' and < (byte)'5')
        {
            return false;
        }
        return settings.UnlistedIsModern;
    }

    /// <summary>A version as a number; reading ends when it is enough.</summary>
    private static long VersionOf(ReadOnlySpan<byte> text, long enough)
    {
        long version = 0;
        long part = 0;
        long scale = 1_000_000;
        foreach (byte c in text)
        {
            if (c is >= (byte)'0' and <= (byte)'9')
            {
                part = Math.Min(part * 10 + c - '0', uint.MaxValue);
                continue;
            }
            if (c != '.')
            {
                break;
            }
            version += part * scale;
            if (version >= enough)
            {
                return version;
            }
            part = 0;
            scale /= 100;
        }
        return version + part * scale;
    }
}
