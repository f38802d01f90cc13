// http2 and its companions: nginx's v2 module. Directives and `$http2` only; the connection is Http2Driver's. What
// nginx has given up is accepted with nginx's warning, so that an old configuration still starts.
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>HTTP/2 settings of a server: of connections, so those of a listening address's default server.</summary>
internal sealed class Http2Settings
{
    internal Inherited<bool> Enabled;
    internal Inherited<int> StreamsMax;
    internal Inherited<long> PrereadBytes;

    /// <summary>Bytes received at a time.</summary>
    internal int ReceiveBytes { get; set; }
}

/// <summary>HTTP/2 settings of the http level.</summary>
internal sealed class Http2Main
{
    internal Inherited<long> ReceiveBytes;
}

/// <summary>HTTP/2 settings of a location.</summary>
internal sealed class Http2Chunks
{
    internal Inherited<long> Bytes;
}

internal sealed class Http2Module : HttpModule
{
    internal const int ChunkBytesDefault = 8 * 1024;
    private const int StreamsMaxDefault = 128;
    private const int PrereadBytesDefault = 64 * 1024;
    private const int ReceiveBytesDefault = 256 * 1024;
    private const long WindowMax = int.MaxValue;
    private const long FrameBytesMax = (1 << 24) - 1;
    private const int StateBufferBytes = 16;
    private const int PoolBytesMin = 1024;
    private const int PoolAlignment = 16;

    public override string Name => "http_v2";

    public override bool InheritsWhole => true;

    public override object CreateMain(HttpBuild build) => new Http2Main();

    public override object CreateServer(HttpBuild build) => new Http2Settings();

    public override object CreateLocation(HttpBuild build) => new Http2Chunks();

    public override void MergeServer(HttpBuild build, object parent, object child)
    {
        var from = (Http2Settings)parent;
        var settings = (Http2Settings)child;
        settings.Enabled.Merge(in from.Enabled, false);
        settings.StreamsMax.Merge(in from.StreamsMax, StreamsMaxDefault);
        settings.PrereadBytes.Merge(in from.PrereadBytes, PrereadBytesDefault);
    }

    public override void MergeLocation(HttpBuild build, object parent, object child) =>
        ((Http2Chunks)child).Bytes.Merge(in ((Http2Chunks)parent).Bytes, ChunkBytesDefault);

    public override void InstallLocation(LocationInstall install) =>
        install.Location.Http2ChunkBytes = (int)install.Settings<Http2Chunks>(this).Bytes.Value;

    public override void Finish(HttpBuild build)
    {
        if (build.Http is not { } http)
        {
            return;
        }
        var main = (Http2Main)http.Main[Index]!;
        long receive = main.ReceiveBytes.IsSet ? main.ReceiveBytes.Value : ReceiveBytesDefault;
        foreach (ServerConf server in build.Configuration.Servers)
        {
            var settings = (Http2Settings)server.Modules[Index]!;
            settings.ReceiveBytes = (int)Math.Min(receive, Http2Driver.ReceiveBytesMax);
            server.Http2 = settings;
        }
    }

    public override void Declare(HttpDeclarations d)
    {
        d.Server<Http2Settings>("http2", static (u, s) => u.SetFlag(ref s.Enabled));
        d.Server<Http2Settings>("http2_max_concurrent_streams", static (u, s) => u.SetNumber(ref s.StreamsMax));
        d.Server<Http2Settings>("http2_body_preread_size", static (u, s) =>
            SetChecked(u, ref s.PrereadBytes, static n =>
                n > WindowMax ? $"the maximum body preread buffer size is {WindowMax}" : null));
        d.Main<Http2Main>("http2_recv_buffer_size", static (u, m) =>
            SetChecked(u, ref m.ReceiveBytes, static n => n < 2 * StateBufferBytes ? "value is too small" : null));
        d.Location<Http2Chunks>("http2_chunk_size", static (u, l) =>
        {
            SetChecked(u, ref l.Bytes, static n => n == 0 ? "the http2 chunk size cannot be zero" : null);
            if (l.Bytes.IsSet && l.Bytes.Value > FrameBytesMax)
            {
                l.Bytes.Set(FrameBytesMax);
            }
        });
        DeclarePools(d);
        Obsolete(d, "http2_recv_timeout", "client_header_timeout");
        Obsolete(d, "http2_idle_timeout", "keepalive_timeout");
        Obsolete(d, "http2_max_requests", "keepalive_requests");
        Obsolete(d, "http2_max_field_size", "large_client_header_buffers");
        Obsolete(d, "http2_max_header_size", "large_client_header_buffers");
        Obsolete(d, "http2_max_concurrent_pushes", null);
        Obsolete(d, "http2_push_preload", null);
        Obsolete(d, "http2_push", null);
        d.Variable("http2", static (Session.Session s, Variable _, ref NativeSlice v) =>
        {
            var r = (HttpRequest)s;
            v = r.Version != 20 ? default
                : r.Tls is null ? NativeSlice.Literal("h2c"u8) : NativeSlice.Literal("h2"u8);
            return true;
        });
    }

    /// <summary>Sizes of pools and tables that Weir grows by itself: accepted, checked, without effect
    /// (docs/differences.md).</summary>
    private static void DeclarePools(HttpDeclarations d)
    {
        d.Block("http2_pool_size", static u =>
        {
            if (u.Walker.TrySize(u.Directive, out long bytes))
            {
                Refuse(u, bytes < PoolBytesMin ? $"the pool size must be no less than {PoolBytesMin}"
                    : bytes % PoolAlignment != 0 ? $"the pool size must be a multiple of {PoolAlignment}" : null);
            }
        });
        d.Block("http2_streams_index_size", static u =>
        {
            if (u.Walker.TryNumber(u.Directive, out long number))
            {
                Refuse(u, number == 0 || (number & (number - 1)) != 0 ? "must be a power of two" : null);
            }
        });
    }

    private static void Obsolete(HttpDeclarations d, string name, string? instead) =>
        d.Block(name, u => u.Walker.Warn(u.Directive, instead is null
            ? $"the \"{name}\" directive is obsolete, ignored"
            : $"the \"{name}\" directive is obsolete, use the \"{instead}\" directive instead"));

    private static void SetChecked(DirectiveUse use, ref Inherited<long> setting, Func<long, string?> fault)
    {
        if (use.Walker.Fresh(use.Directive, in setting) && use.Walker.TrySize(use.Directive, out long bytes)
            && Refuse(use, fault(bytes)))
        {
            setting.Set(bytes);
        }
    }

    private static bool Refuse(DirectiveUse use, string? fault)
    {
        if (fault is not null)
        {
            use.Error(0, fault);
        }
        return fault is null;
    }
}
