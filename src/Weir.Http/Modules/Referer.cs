// valid_referers and $invalid_referer: whether the Referer header names one of the hosts (and the beginning of a path)
// that the location lists. Frozen with the configuration; a lookup allocates nothing.
using Weir.Conf;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class RefererSettings
{
    /// <summary>Host to the beginning of the path that is wanted; empty for any.</summary>
    public NameTable<NativeSlice>? Names { get; set; }
    public List<Regex> Regexes { get; set; } = [];
    public List<Regex> NameRegexes { get; set; } = [];
    public bool AllowsNone { get; set; }
    public bool AllowsBlocked { get; set; }
    public bool AddsServerNames { get; set; }
    public bool IsSet { get; set; }
}

internal sealed class RefererModule : HttpModule<RefererSettings>
{
    public override string Name => "http_referer";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<RefererSettings>("valid_referers", Set);
        d.Block("referer_hash_max_size", static u => u.Walker.TryNumber(u.Directive, out long _));
        d.Block("referer_hash_bucket_size", static u => u.Walker.TryNumber(u.Directive, out long _));
        d.Variable("invalid_referer", (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            var r = (HttpRequest)s;
            value = IsValid(r, Settings(r.Location)) ? default : NativeSlice.Literal("1"u8);
            return true;
        });
    }

    private static void Set(DirectiveUse use, RefererSettings settings)
    {
        settings.IsSet = true;
        settings.Names ??= new NameTable<NativeSlice>(use.Build.Memory);
        for (int i = 0; i < use.Count; i++)
        {
            string text = use[i];
            switch (text)
            {
                case "":
                    use.Error(i, $"invalid referer \"{text}\"");
                    return;
                case "none":
                    settings.AllowsNone = true;
                    continue;
                case "blocked":
                    settings.AllowsBlocked = true;
                    continue;
                case "server_names":
                    settings.AddsServerNames = true;
                    continue;
            }
            if (text[0] == '~')
            {
                Regex? regex = text.Length == 1
                    ? null : Regex.Compile(text[1..], caseless: true, use.Build.Configuration.Variables, out string? _);
                if (regex is null)
                {
                    use.Error(i, $"empty regex in \"{text}\"");
                    return;
                }
                use.Build.Configuration.Own(regex.Pattern);
                settings.Regexes.Add(regex);
                continue;
            }
            int slash = text.IndexOf('/');
            string host = slash < 0 ? text : text[..slash];
            NativeSlice path = slash < 0 ? default : use.Build.Memory.Store(text[slash..]);
            if (!NameTable<NativeSlice>.IsValid(host))
            {
                use.Error(i, $"invalid hostname or wildcard \"{host}\"");
                return;
            }
            if (!settings.Names.TryAdd(host, path))
            {
                use.Error(i, $"conflicting parameter \"{host}\"");
                return;
            }
        }
    }

    protected override void Merge(HttpBuild build, RefererSettings parent, RefererSettings child)
    {
        if (!child.IsSet)
        {
            child.Names = parent.Names;
            child.Regexes = parent.Regexes;
            child.NameRegexes = parent.NameRegexes;
            child.AllowsNone = parent.AllowsNone;
            child.AllowsBlocked = parent.AllowsBlocked;
            child.IsSet = parent.IsSet;
        }
    }

    public override void InstallLocation(LocationInstall install)
    {
        RefererSettings settings = install.Settings<RefererSettings>(this);
        if (!settings.AddsServerNames || install.Location.Block.OwnLocationOrNull(this) is null)
        {
            return;
        }
        foreach (ServerName name in install.Location.Block.CoreServer.ServerNames)
        {
            if (name.Regex is not null)
            {
                settings.NameRegexes.Add(name.Regex);
            }
            else if (name.Text.Length > 0)
            {
                settings.Names!.TryAdd(name.Text, default);
            }
        }
    }

    private static bool IsValid(HttpRequest r, RefererSettings settings)
    {
        if (!settings.IsSet)
        {
            return true;
        }
        int field = r.HeadBytes.IsEmpty ? -1 : r.Head.Find(KnownHeader.Referer);
        if (field < 0)
        {
            return settings.AllowsNone;
        }
        NativeSlice referer = r.HeadBytes.Slice(r.Head[field].ValueStart, r.Head[field].ValueLength);
        const int shortestUrl = 11;
        int scheme = 0;
        if (referer.Length >= shortestUrl)
        {
            scheme = HeaderName.Same(referer.Span[..7], "http://"u8) ? 7
                : HeaderName.Same(referer.Span[..8], "https://"u8) ? 8 : 0;
        }
        if (scheme == 0)
        {
            return settings.AllowsBlocked;
        }
        NativeSlice rest = referer.Slice(scheme);
        int hostEnd = rest.Span.IndexOfAny((byte)'/', (byte)':');
        hostEnd = hostEnd < 0 ? rest.Length : hostEnd;
        const int hostBytesMax = 256;
        if (hostEnd > hostBytesMax)
        {
            return false;
        }
        NativeSlice host = r.Arena.Store(rest.Span[..hostEnd]);
        foreach (ref byte c in host.Span)
        {
            c = HeaderName.Lower(c);
        }
        if (settings.Names!.TryFind(host.Span, out NativeSlice path))
        {
            int slash = rest.Span[hostEnd..].IndexOf((byte)'/');
            ReadOnlySpan<byte> given = slash < 0 ? default : rest.Span[(hostEnd + slash)..];
            return given.StartsWith(path.Span);
        }
        return Matches(r, settings.NameRegexes, host) || Matches(r, settings.Regexes, rest);
    }

    private static bool Matches(HttpRequest r, List<Regex> regexes, NativeSlice text)
    {
        foreach (Regex regex in regexes)
        {
            switch (regex.Test(text.Span))
            {
                case RegexOutcome.Match:
                    return true;
                case RegexOutcome.Failed:
                    r.FailMatch(text, regex.Source);
                    return false;
            }
        }
        return false;
    }
}
