// fastcgi_pass and its family: requests to FastCGI servers such as PHP-FPM. The protocol is Proxy/FastCgiProtocol.cs,
// the
// exchange Proxy/Exchange.cs.
using Weir.Conf;
using Weir.Http.Cache;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

/// <summary>fastcgi_pass of one very block.</summary>
internal sealed class FastCgiPass
{
    public ProxyTarget? Target { get; set; }
}

internal sealed class FastCgiSettings : UpstreamSettings
{
    public InheritedList<(string Name, Template Value, bool IfNotEmpty)> Params;
    public Inherited<string> IndexName;
    public Inherited<Regex?> SplitPath;
    public Inherited<bool> KeepConnection;
    public InheritedList<string> CatchStderr;

    public NativeSlice IndexBytes { get; set; }

    protected override string Prefix => "fastcgi";

    protected override ReadOnlySpan<string> HiddenByDefault => (string[])["Status", "X-Accel-Expires",
        "X-Accel-Redirect",
        "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset"];

    internal void Merge(HttpBuild build, FastCgiSettings p)
    {
        MergeCommon(build, p);
        Params.Merge(p.Params);
        IndexName.Merge(p.IndexName, "");
        IndexBytes = build.Memory.Store(IndexName.Value);
        SplitPath.Merge(p.SplitPath, null);
        KeepConnection.Merge(p.KeepConnection, false);
        CatchStderr.Merge(p.CatchStderr);
    }
}

internal sealed class FastCgiModule : HttpModule<FastCgiSettings>
{
    public override string Name => "http_fastcgi";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        UpstreamDirectives.Declare<FastCgiSettings>(d, "fastcgi");
        d.Block("fastcgi_pass", static u => SetPass(u, u.Block.Here<FastCgiPass>()));
        d.Location<FastCgiSettings>("fastcgi_param", static (u, s) =>
        {
            if (u.Count == 3 && u[2] != "if_not_empty")
            {
                u.InvalidParameter(2);
            }
            else if (u.Template(1) is { } value)
            {
                s.Params.Add((u[0], value, u.Count == 3));
            }
        });
        d.Location<FastCgiSettings>("fastcgi_index", static (u, s) => u.SetText(ref s.IndexName));
        d.Location<FastCgiSettings>("fastcgi_split_path_info", SetSplit);
        d.Location<FastCgiSettings>("fastcgi_keep_conn", static (u, s) => u.SetFlag(ref s.KeepConnection));
        d.Location<FastCgiSettings>("fastcgi_catch_stderr", static (u, s) => s.CatchStderr.Add(u[0]));
        d.Variable("fastcgi_script_name", (Session.Session s, Variable _, ref NativeSlice value) =>
            ScriptName((HttpRequest)s, ref value), VariableFlags.NoCache);
        d.Variable("fastcgi_path_info", (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            bool split = TrySplit((HttpRequest)s, out NativeSlice _, out NativeSlice info);
            value = info;
            return split;
        }, VariableFlags.NoCache);
    }

    private static void SetPass(DirectiveUse use, FastCgiPass pass)
    {
        if (pass.Target is not null)
        {
            use.Complain("is duplicate");
            return;
        }
        LocationConf location = use.Block.Core;
        if (location.Name.EndsWith('/') && location.Regex is null && !location.IsExact)
        {
            location.AutoRedirect = true;
        }
        ConfSpan span = use.Directive.Args[0].Span;
        if (use[0].Contains('$'))
        {
            if (use.Template(0) is { } template)
            {
                pass.Target = new ProxyTarget { Url = use[0], Span = span, Template = template };
            }
            return;
        }
        if (!UpstreamServers.TrySplit(use[0], 0, out string host, out int port, out bool hasPort))
        {
            use.Error(0, $"{(use[0].Length == 0 ? "no host" : "invalid port")} in upstream \"{use[0]}\"");
            return;
        }
        pass.Target = new ProxyTarget { Url = use[0], Span = span, Host = host, Port = port, HasPort = hasPort };
    }

    private static void SetSplit(DirectiveUse use, FastCgiSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.SplitPath))
        {
            return;
        }
        Regex? regex = Regex.Compile(use[0], caseless: false, use.Build.Configuration.Variables, out string? error);
        if (regex is null)
        {
            use.Error(0, error!);
            return;
        }
        use.Build.Configuration.Own(regex.Pattern);
        if (regex.CaptureCount != 2)
        {
            use.Error(0, $"pattern \"{use[0]}\" must have 2 captures");
            return;
        }
        settings.SplitPath.Set(regex);
    }

    protected override void Merge(HttpBuild build, FastCgiSettings parent,
        FastCgiSettings child) => child.Merge(build, parent);

    public override void InstallLocation(LocationInstall install)
    {
        LocationConf location = install.Location;
        var settings = install.Settings<FastCgiSettings>(this);
        FastCgiPass? passing = install.HereOrAround<FastCgiPass>(static p => p.Target is not null, out _);
        if (passing?.Target is not { } target || location.ContentHandler is not null)
        {
            return;
        }
        HttpBuild build = install.Build;
        UpstreamGroup? group = null;
        if (target.Template is null)
        {
            bool known =
                build.Configuration.MainConfs.OfType<UpstreamGroups>().First().Explicit.ContainsKey(target.Host);
            if (!known && !target.HasPort && !target.Host.StartsWith("unix:", StringComparison.Ordinal))
            {
                build.Errors.Emerg($"no port in upstream \"{target.Url}\"", target.Span, null);
                return;
            }
            group = UpstreamModule.Find(build, target.Host, target.Port, target.HasPort, target.Span, target.Url);
            if (group is null)
            {
                return;
            }
        }
        FastCgiParam[] parameters = build.Shared(settings, s => Parameters(build, s, []));
        var protocol = new FastCgiProtocol(parameters, settings.KeepConnection.Value,
            [.. settings.CatchStderr.Array.Select(System.Text.Encoding.Latin1.GetBytes)]);
        CacheRules? cache = settings.Cache.Zone.Value is null ? null : CacheDirectives.Rules(build, settings.Cache,
            "fastcgi", new FastCgiProtocol(Parameters(build, settings, s_conditions), settings.KeepConnection.Value,
                [.. settings.CatchStderr.Array.Select(System.Text.Encoding.Latin1.GetBytes)]));
        location.ContentHandler = new FastCgiHandler(settings, protocol, group, target.Template,
            build.Configuration.MainConfs.OfType<UpstreamGroups>().First().ByName, ResolverModule.Of(location), cache);
    }

    private static FastCgiParam[] Parameters(HttpBuild build, FastCgiSettings settings,
        (string Name, string Value)[] more)
    {
        List<FastCgiParam> all = [.. settings.Params.Array.Select(p =>
            new FastCgiParam(build.Memory.Store(p.Name), p.Value, p.IfNotEmpty))];
        foreach ((string name, string value) in more)
        {
            if (!settings.Params.Array.Any(p => p.Name == name))
            {
                Template template = Template.Compile(value, build.Configuration.Variables, out string? _)!;
                all.Add(new FastCgiParam(build.Memory.Store(name), template, IfNotEmpty: true));
            }
        }
        return [.. all];
    }

    /// <summary>Where a cache asks, its own conditions stand for the client's.</summary>
    private static readonly (string Name, string Value)[] s_conditions =
    [
        ("HTTP_IF_MODIFIED_SINCE", "$upstream_cache_last_modified"), ("HTTP_IF_NONE_MATCH", "$upstream_cache_etag"),
        ("HTTP_IF_UNMODIFIED_SINCE", ""), ("HTTP_IF_MATCH", ""), ("HTTP_RANGE", ""), ("HTTP_IF_RANGE", ""),
    ];

    // Variables.

    private bool TrySplit(HttpRequest r, out NativeSlice script, out NativeSlice info)
    {
        script = r.Uri;
        info = default;
        if (Settings(r.Location).SplitPath.Value is not { } regex)
        {
            return false;
        }
        // Not through Regex.Match: $1 and $2 of the location stay what they are.
        Span<int> groups = stackalloc int[6];
        int count = regex.Pattern.Match(r.Uri.Span, groups);
        if (count <= 0)
        {
            if (count < 0)
            {
                r.FailMatch(r.Uri, regex.Source);
            }
            return false;
        }
        script = groups[2] < 0 ? default : r.Uri.Slice(groups[2], groups[3] - groups[2]);
        info = groups[4] < 0 ? default : r.Uri.Slice(groups[4], groups[5] - groups[4]);
        return true;
    }

    private bool ScriptName(HttpRequest r, ref NativeSlice value)
    {
        TrySplit(r, out value, out NativeSlice _);
        NativeSlice index = Settings(r.Location).IndexBytes;
        if (value.Length > 0 && value.Span[^1] == '/' && index.Length > 0)
        {
            value = r.Arena.Concat(value.Span, index.Span);
        }
        return true;
    }
}

internal sealed class FastCgiHandler(FastCgiSettings settings, FastCgiProtocol protocol, UpstreamGroup? group,
    Template? address,
    ByteTable<UpstreamGroup> groups, ResolverSettings? resolver, CacheRules? cache) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        Exchange x = r.Get(Exchange.Slot);
        x.Begin(r, settings, protocol);
        x.MethodAsked = r.Method;
        if (address is null)
        {
            x.Group = UpstreamStates.Of(r.Loop).For(group!);
        }
        else
        {
            // The same forms as in proxy_pass, without a scheme.
            NativeSlice url = r.Arena.Concat("http://"u8, address.Evaluate(r).Span);
            if (!VariableTarget.Apply(x, url, groups, resolver, null, out NativeSlice _))
            {
                return PhaseResult.Answer(500);
            }
        }
        if (cache is not null)
        {
            return CachedRequest.RunAsync(x, cache);
        }
        if (settings.Cache.Store.Value is not null)
        {
            StoredFile.Watch(x, settings.Cache);
        }
        return x.RunAsync();
    }
}
