// Declares the directives that proxy_* and fastcgi_* share, under a family's prefix.
using Weir.Conf;
using Weir.Http.Cache;
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http.Proxy;

internal static class UpstreamDirectives
{
    private static readonly ConfChoice<int>[] s_next =
    [
        new("error", (int)NextUpstream.Error), new("timeout", (int)NextUpstream.Timeout),
        new("invalid_header", (int)NextUpstream.InvalidHeader), new("non_idempotent", (int)NextUpstream.NonIdempotent),
        new("http_500", (int)NextUpstream.Http500), new("http_502", (int)NextUpstream.Http502),
        new("http_503", (int)NextUpstream.Http503), new("http_504", (int)NextUpstream.Http504),
        new("http_403", (int)NextUpstream.Http403), new("http_404", (int)NextUpstream.Http404),
        new("http_429", (int)NextUpstream.Http429), new("off", (int)NextUpstream.Off),
    ];

    private static readonly ConfChoice<int>[] s_ignore =
    [
        new("X-Accel-Redirect", (int)IgnoredHeaders.XAccelRedirect), new("X-Accel-Expires",
            (int)IgnoredHeaders.XAccelExpires),
        new("X-Accel-Limit-Rate", (int)IgnoredHeaders.XAccelLimitRate),
        new("X-Accel-Buffering", (int)IgnoredHeaders.XAccelBuffering),
        new("X-Accel-Charset", (int)IgnoredHeaders.XAccelCharset), new("Expires", (int)IgnoredHeaders.Expires),
        new("Cache-Control", (int)IgnoredHeaders.CacheControl), new("Set-Cookie", (int)IgnoredHeaders.SetCookie),
        new("Vary", (int)IgnoredHeaders.Vary),
    ];

    /// <summary>What every family has that relays bodies through buffers of its own.</summary>
    internal static void Declare<T>(HttpDeclarations d, string family) where T : UpstreamSettings
    {
        DeclareCommon<T>(d, family);
        CacheDirectives.Declare<T>(d, family);
        d.Location<T>($"{family}_buffering", static (u, s) => u.SetFlag(ref s.Buffering));
        d.Location<T>($"{family}_request_buffering", static (u, s) => u.SetFlag(ref s.RequestBuffering));
        d.Location<T>($"{family}_ignore_client_abort", static (u, s) => u.SetFlag(ref s.IgnoreClientAbort));
        d.Location<T>($"{family}_send_lowat", static (u, s) => u.SetSize(ref s.SendLowatBytes));
        d.Location<T>($"{family}_buffers", static (u, s) => u.SetBufs(ref s.Buffers));
        d.Location<T>($"{family}_busy_buffers_size", static (u, s) => u.SetSize(ref s.BusyBuffersBytes));
        d.Location<T>($"{family}_pass_request_headers", static (u, s) => u.SetFlag(ref s.PassRequestHeaders));
        d.Location<T>($"{family}_pass_request_body", static (u, s) => u.SetFlag(ref s.PassRequestBody));
        d.Location<T>($"{family}_force_ranges", static (u, s) => u.SetFlag(ref s.ForceRanges));
        d.Location<T>($"{family}_limit_rate", static (u, s) => SetRate(u, ref s.LimitRate));
        d.Location<T>($"{family}_temp_path", static (u, s) => CoreLocations.SetTempPath(u, ref s.TempPath));
        d.Location<T>($"{family}_max_temp_file_size", static (u, s) => u.SetSize(ref s.TempFileBytesMax));
        d.Location<T>($"{family}_temp_file_write_size", static (u, s) => u.SetSize(ref s.TempWriteBytes));
    }

    /// <summary>What every family has.</summary>
    internal static void DeclareCommon<T>(HttpDeclarations d, string family) where T : UpstreamSettings
    {
        d.Location<T>($"{family}_bind", static (u, s) => SetBind(u, s));
        d.Location<T>($"{family}_socket_keepalive", static (u, s) => u.SetFlag(ref s.SocketKeepAlive));
        d.Location<T>($"{family}_socket_rcvbuf", static (u, s) => u.SetSize(ref s.SocketReceiveBytes));
        d.Location<T>($"{family}_socket_sndbuf", static (u, s) => u.SetSize(ref s.SocketSendBytes));
        d.Location<T>($"{family}_connect_timeout", static (u, s) => u.SetMsec(ref s.ConnectTimeoutMs));
        d.Location<T>($"{family}_send_timeout", static (u, s) => u.SetMsec(ref s.SendTimeoutMs));
        d.Location<T>($"{family}_read_timeout", static (u, s) => u.SetMsec(ref s.ReadTimeoutMs));
        d.Location<T>($"{family}_buffer_size", static (u, s) => u.SetSize(ref s.BufferSizeBytes));
        d.Location<T>($"{family}_intercept_errors", static (u, s) => u.SetFlag(ref s.InterceptErrors));
        d.Location<T>($"{family}_next_upstream", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Next) && u.Walker.TryBitmask(u.Directive, s_next, out int mask))
            {
                s.Next.Set((NextUpstream)mask);
            }
        });
        d.Location<T>($"{family}_next_upstream_tries", static (u, s) => u.SetNumber(ref s.NextTries));
        d.Location<T>($"{family}_next_upstream_timeout", static (u, s) => u.SetMsec(ref s.NextTimeoutMs));
        d.Location<T>($"{family}_pass_header", static (u, s) => s.PassHeaders.Add(u[0]));
        d.Location<T>($"{family}_hide_header", static (u, s) => s.HideHeaders.Add(u[0]));
        d.Location<T>($"{family}_ignore_headers", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.IgnoreHeaders) && u.Walker.TryBitmask(u.Directive, s_ignore,
                out int mask))
            {
                s.IgnoreHeaders.Set((IgnoredHeaders)mask);
            }
        });
    }

    // A rate without variables is read once, and is wrong here or never.
    private static void SetRate(DirectiveUse use, ref Inherited<Template> rate)
    {
        if (use[0].Contains('$') || use.Walker.TrySize(use.Directive, out _))
        {
            use.SetTemplate(ref rate);
        }
    }

    internal static void SetBind(DirectiveUse use, UpstreamSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.Bind))
        {
            return;
        }
        if (use[0] == "off" && use.Count == 1)
        {
            settings.Bind.Set(null);
            return;
        }
        SocketAddress? address = null;
        // A number would be a port.
        if (!use[0].Contains('$') && (use[0].AsSpan().IndexOfAnyExceptInRange('0', '9') < 0
            || !SocketAddress.TryParse(use[0], 0, out address, out string _) || address!.Family == SocketFamily.Unix))
        {
            use.Error(0, $"invalid address \"{use[0]}\"");
            return;
        }
        bool transparent = use.Count == 2;
        if (transparent && use[1] != "transparent")
        {
            use.InvalidParameter(1);
            return;
        }
        use.Build.Main.KeepsNetRaw |= transparent;
        if (use[0].Contains('$'))
        {
            if (use.Template(0) is { } template)
            {
                settings.Bind.Set(new BindAddress { Template = template, IsTransparent = transparent });
            }
            return;
        }
        settings.Bind.Set(new BindAddress { Address = address!.Native.ToArray(), IsTransparent = transparent });
    }
}
