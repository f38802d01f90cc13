// The content handler of proxy_pass: computes the target of one request and runs its exchange. One per location.
using Weir.Http.Cache;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

internal sealed class ProxyHandler(ProxySettings settings, UpstreamProtocol protocol, UpstreamGroup? group,
    Template? url)
    : PhaseHandler
{
    internal UpstreamSettings Settings => settings;
    internal UpstreamProtocol Protocol => protocol;

    /// <summary>$proxy_host and $proxy_port of a constant URL.</summary>
    public NativeSlice HostHeader { get; init; }
    public NativeSlice Port { get; init; }

    /// <summary>The URI of proxy_pass, which takes the place of the location's name; empty for none.</summary>
    public NativeSlice UriPart { get; init; }
    public NativeSlice LocationName { get; init; }

    /// <summary>For URLs with variables: the groups that a host may name, and who looks others up.</summary>
    public ByteTable<UpstreamGroup>? Groups { get; init; }
    public ResolverSettings? Resolver { get; init; }

    /// <summary>What is done with answers and asked before a server; null for nothing.</summary>
    public CacheRules? Cache { get; init; }

    /// <summary>For https:// and URLs that may become it.</summary>
    public UpstreamTls? Tls { get; init; }

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        Exchange x = r.Get(Exchange.Slot);
        x.Begin(r, settings, protocol);
        NativeSlice uriPart = UriPart;
        if (url is null)
        {
            x.Group = UpstreamStates.Of(r.Loop).For(group!);
            x.TargetHost = HostHeader;
            x.TargetPort = Port;
            x.TargetUri = Target(r, uriPart);
            x.Tls = Tls;
        }
        else
        {
            NativeSlice text = url.Evaluate(r);
            if (!VariableTarget.Apply(x, text, Groups!, Resolver, Tls, out NativeSlice uri))
            {
                return PhaseResult.Answer(500);
            }
            x.TargetUri = uri.IsEmpty ? Target(r, default) : uri;
        }
        if (settings.Body.Value is { } body)
        {
            x.OwnBody = body.Evaluate(r);
            x.HasOwnBody = true;
        }
        if (Cache is not null)
        {
            return CachedRequest.RunAsync(x, Cache);
        }
        if (settings.Cache.Store.Value is not null)
        {
            StoredFile.Watch(x, settings.Cache);
        }
        return x.RunAsync();
    }

    /// <summary>The target as nginx forms it: as the client sent it, or with the location's name replaced.</summary>
    private NativeSlice Target(HttpRequest r, NativeSlice uriPart) => TargetOf(r, uriPart, LocationName);

    internal static NativeSlice TargetOf(HttpRequest r, NativeSlice uriPart, NativeSlice locationName)
    {
        if (uriPart.IsEmpty && r.IsUriAsSent && !r.UnparsedUri.IsEmpty && (r.IsMain || r.IsClone))
        {
            return r.UnparsedUri;
        }
        NativeSlice path = r.Uri;
        if (!r.IsLocationValid)
        {
            // As nginx: what a rewrite made of the URI is passed whole.
            uriPart = default;
        }
        else if (!uriPart.IsEmpty)
        {
            path = path.Slice(Math.Min(locationName.Length, path.Length));
        }
        bool escape = ((r.Head.UriFlags & UriFlags.Percent) != 0 || r.IsInternal || !r.IsUriAsSent)
            && UriEscaper.NeedsEscape(path.Span);
        NativeSlice args = r.Args;
        int room = uriPart.Length + (escape ? UriEscaper.EscapedMax(path.Length) : path.Length) + 1 + args.Length;
        NativeSlice target = r.Arena.Allocate(room);
        var w = new SpanWriter(target.Span);
        w.Write(uriPart.Span);
        if (escape)
        {
            w.Skip(UriEscaper.EscapeUri(path.Span, w.Rest));
        }
        else
        {
            w.Write(path.Span);
        }
        if (!args.IsEmpty)
        {
            w.Write("?"u8);
            w.Write(args.Span);
        }
        return target.Slice(0, w.Written);
    }
}

/// <summary>A URL that variables made, taken apart for one request.</summary>
internal static class VariableTarget
{
    /// <summary>Sets the exchange's host, port and group (or the name to look up). False after logging why
    /// not.</summary>
    internal static bool Apply(Exchange x, NativeSlice url, ByteTable<UpstreamGroup> groups,
        ResolverSettings? resolver, UpstreamTls? secure, out NativeSlice uri)
    {
        uri = default;
        HttpRequest r = x.Request;
        ReadOnlySpan<byte> text = url.Span;
        bool tls = text.Length > 8 && HeaderName.Same(text[..8], "https://"u8) && secure is not null;
        if (!tls && (text.Length < 7 || !HeaderName.Same(text[..7], "http://"u8)))
        {
            r.LogError(LogLevel.Error, $"invalid URL prefix in \"{url}\"");
            return false;
        }
        x.Tls = tls && r.Configuration.Trace is null ? secure : null;
        NativeSlice rest = url.Slice(tls ? 8 : 7);
        if (rest.Span.StartsWith("unix:"u8))
        {
            return ApplyUnix(x, rest, out uri);
        }
        int slash = rest.Span.IndexOfAny((byte)'/', (byte)'?');
        NativeSlice authority = slash < 0 ? rest : rest.Slice(0, slash);
        uri = slash < 0 ? default : rest.Slice(slash);
        if (!uri.IsEmpty && uri.Span[0] == '?')
        {
            uri = r.Arena.Concat("/"u8, uri.Span);
        }
        ReadOnlySpan<byte> a = authority.Span;
        int colon = a.Length > 0 && a[0] == '[' ? a.IndexOf("]:"u8) + 1 : a.LastIndexOf((byte)':');
        bool hasPort = colon > 0;
        NativeSlice host = hasPort ? authority.Slice(0, colon) : authority;
        int defaultPort = tls ? 443 : 80, port = defaultPort;
        if (host.IsEmpty || hasPort && (!System.Buffers.Text.Utf8Parser.TryParse(a[(colon + 1)..], out port,
            out int used)
            || used != a.Length - colon - 1 || port is <= 0 or > 65535))
        {
            r.LogError(LogLevel.Error, $"{(host.IsEmpty ? "no host" : "invalid port")} in upstream \"{rest}\"");
            return false;
        }
        x.TargetHost = hasPort && port != defaultPort ? authority : host;
        x.TargetPort = hasPort ? authority.Slice(colon + 1)
            : tls ? NativeSlice.Literal("443"u8) : NativeSlice.Literal("80"u8);
        if (!hasPort && groups.TryGet(host.Span, out UpstreamGroup group))
        {
            x.Group = UpstreamStates.Of(r.Loop).For(group);
            return true;
        }
        if (TryLiteral(host.Span, port, out SocketAddress? address))
        {
            x.Use([new PeerSpec { Address = address!.Native.ToArray(), Name = default }]);
            return true;
        }
        x.TargetName = host;
        x.TargetPortNumber = port;
        x.Resolver = resolver;
        return true;
    }

    private static bool ApplyUnix(Exchange x, NativeSlice rest, out NativeSlice uri)
    {
        int end = rest.Span[5..].IndexOf((byte)':');
        NativeSlice path = end < 0 ? rest.Slice(5) : rest.Slice(5, end);
        uri = end < 0 ? default : rest.Slice(5 + end + 1);
        x.TargetHost = NativeSlice.Literal("localhost"u8);
        if (SocketAddress.Unix(path.ToString()) is not { } address)
        {
            x.Request.LogError(LogLevel.Error, $"invalid path in upstream \"{rest}\"");
            return false;
        }
        x.Use([new PeerSpec { Address = address.Native.ToArray(), Name = default }]);
        return true;
    }

    private static bool TryLiteral(ReadOnlySpan<byte> host, int port, out SocketAddress? address)
    {
        address = null;
        if (host.Length > 47 || host[0] != '[' && !char.IsAsciiDigit((char)host[0]))
        {
            return false;
        }
        Span<char> chars = stackalloc char[host.Length];
        for (int i = 0; i < host.Length; i++)
        {
            chars[i] = (char)host[i];
        }
        Span<byte> bytes = stackalloc byte[16];
        if (host[0] == '[' && host[^1] == ']' && SocketAddress.TryParseInet6(chars[1..^1], bytes))
        {
            address = SocketAddress.Inet6(bytes, port);
        }
        else if (host[0] != '[' && SocketAddress.TryParseInet(chars, bytes))
        {
            address = SocketAddress.Inet(bytes[..4], port);
        }
        return address is not null;
    }
}
