// memcached_pass and its family: answers out of a memcached server, by the key in $memcached_key. The protocol is
// Proxy/MemcachedProtocol.cs, the exchange Proxy/Exchange.cs.
using Weir.Conf;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

/// <summary>memcached_pass of one very block.</summary>
internal sealed class MemcachedPass
{
    public ProxyTarget? Target { get; set; }
}

internal sealed class MemcachedSettings : UpstreamSettings
{
    internal Inherited<int> GzipFlag;

    protected override string Prefix => "memcached";

    protected override ReadOnlySpan<string> HiddenByDefault => [];

    internal void Merge(HttpBuild build, MemcachedSettings p)
    {
        if (!Buffering.IsSet)
        {
            // No directives set these: what is not asked of a cache is not sent to it.
            Buffering.Set(false);
            PassRequestHeaders.Set(false);
            PassRequestBody.Set(false);
            InterceptErrors.Set(true);
            ForceRanges.Set(true);
        }
        MergeCommon(build, p);
        GzipFlag.Merge(in p.GzipFlag, 0);
    }
}

internal sealed class MemcachedModule : HttpModule<MemcachedSettings>
{
    private static readonly ConfChoice<int>[] s_next =
    [
        new("error", (int)NextUpstream.Error), new("timeout", (int)NextUpstream.Timeout),
        new("invalid_response", (int)NextUpstream.InvalidHeader), new("not_found", (int)NextUpstream.Http404),
        new("off", (int)NextUpstream.Off),
    ];

    public override string Name => "http_memcached";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Block("memcached_pass", static u => SetPass(u, u.Block.Here<MemcachedPass>()));
        d.Location<MemcachedSettings>("memcached_bind", static (u, s) => UpstreamDirectives.SetBind(u, s));
        d.Location<MemcachedSettings>("memcached_socket_keepalive", static (u, s) => u.SetFlag(ref s.SocketKeepAlive));
        d.Location<MemcachedSettings>("memcached_connect_timeout", static (u, s) => u.SetMsec(ref s.ConnectTimeoutMs));
        d.Location<MemcachedSettings>("memcached_send_timeout", static (u, s) => u.SetMsec(ref s.SendTimeoutMs));
        d.Location<MemcachedSettings>("memcached_read_timeout", static (u, s) => u.SetMsec(ref s.ReadTimeoutMs));
        d.Location<MemcachedSettings>("memcached_buffer_size", static (u, s) => u.SetSize(ref s.BufferSizeBytes));
        d.Location<MemcachedSettings>("memcached_next_upstream", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Next) && u.Walker.TryBitmask(u.Directive, s_next, out int mask))
            {
                s.Next.Set((NextUpstream)mask);
            }
        });
        d.Location<MemcachedSettings>("memcached_next_upstream_tries", static (u, s) => u.SetNumber(ref s.NextTries));
        d.Location<MemcachedSettings>("memcached_next_upstream_timeout", static (u, s) =>
            u.SetMsec(ref s.NextTimeoutMs));
        d.Location<MemcachedSettings>("memcached_gzip_flag", static (u, s) => u.SetNumber(ref s.GzipFlag));
    }

    private static void SetPass(DirectiveUse use, MemcachedPass pass)
    {
        if (pass.Target is not null)
        {
            use.Complain("is duplicate");
            return;
        }
        LocationConf location = use.Block.Core;
        location.AutoRedirect |= location.Name.EndsWith('/') && location.Regex is null && !location.IsExact;
        if (!UpstreamServers.TrySplit(use[0], 0, out string host, out int port, out bool hasPort))
        {
            use.Error(0, $"{(use[0].Length == 0 ? "no host" : "invalid port")} in upstream \"{use[0]}\"");
            return;
        }
        // Without such a variable in the configuration there is nothing to ask for.
        Variable key = use.Build.Configuration.Variables.Use("memcached_key");
        key.Get ??= static (Session.Session _, Variable _, ref NativeSlice _) => false;
        pass.Target = new ProxyTarget
        {
            Url = use[0], Span = use.Directive.Args[0].Span, Host = host, Port = port, HasPort = hasPort,
        };
    }

    protected override void Merge(HttpBuild build, MemcachedSettings parent, MemcachedSettings child) =>
        child.Merge(build, parent);

    public override void InstallLocation(LocationInstall install)
    {
        LocationConf location = install.Location;
        MemcachedPass? passing = install.HereOrAround<MemcachedPass>(static p => p.Target is not null, out _);
        if (passing?.Target is not { } target || location.ContentHandler is not null)
        {
            return;
        }
        HttpBuild build = install.Build;
        bool known = build.Configuration.MainConfs.OfType<UpstreamGroups>().First().Explicit.ContainsKey(target.Host);
        if (!known && !target.HasPort && !target.Host.StartsWith("unix:", StringComparison.Ordinal))
        {
            build.Errors.Emerg($"no port in upstream \"{target.Url}\"", target.Span, null);
            return;
        }
        UpstreamGroup? group = UpstreamModule.Find(build, target.Host, target.Port, target.HasPort, target.Span,
            target.Url);
        if (group is not null)
        {
            var settings = install.Settings<MemcachedSettings>(this);
            location.ContentHandler = new MemcachedHandler(settings, new MemcachedProtocol(settings.GzipFlag.Value),
                group, build.Configuration.Variables.Use("memcached_key"));
        }
    }
}

internal sealed class MemcachedHandler(MemcachedSettings settings, MemcachedProtocol protocol, UpstreamGroup group,
    Variable key) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Method is not (HttpMethod.Get or HttpMethod.Head))
        {
            return PhaseResult.Answer(405);
        }
        if (!r.TryGet(key, out NativeSlice value) || value.IsEmpty)
        {
            r.LogError(LogLevel.Error, "the \"$memcached_key\" variable is not set");
            return PhaseResult.Answer(500);
        }
        r.SetContentType();
        Exchange x = r.Get(Exchange.Slot);
        x.Begin(r, settings, protocol);
        x.MethodAsked = r.Method;
        x.Group = UpstreamStates.Of(r.Loop).For(group);
        x.TargetUri = MemcachedProtocol.Escape(r, value);
        return x.RunAsync();
    }
}
