// The content handler of proxy_pass: computes the target of one request and runs its exchange. One per location.
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

internal sealed class ProxyHandler(ProxySettings settings, UpstreamProtocol protocol, UpstreamGroup? group, Template? url)
    : PhaseHandler
{
    /// <summary>$proxy_host and $proxy_port of a constant URL.</summary>
    public NativeSlice HostHeader { get; init; }
    public NativeSlice Port { get; init; }

    /// <summary>The URI of proxy_pass, which takes the place of the location's name; empty for none.</summary>
    public NativeSlice UriPart { get; init; }
    public NativeSlice LocationName { get; init; }

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
        }
        else
        {
            r.LogError(LogLevel.Error, $"invalid URL prefix in \"{url.Evaluate(r)}\"");
            return PhaseResult.Answer(500);
        }
        if (settings.Body.Value is { } body)
        {
            x.OwnBody = body.Evaluate(r);
            x.HasOwnBody = true;
        }
        return x.RunAsync();
    }

    /// <summary>The target as nginx forms it: as the client sent it, or with the location's name replaced.</summary>
    private NativeSlice Target(HttpRequest r, NativeSlice uriPart)
    {
        if (uriPart.IsEmpty && r.IsUriAsSent && !r.UnparsedUri.IsEmpty && r.IsMain)
        {
            return r.UnparsedUri;
        }
        NativeSlice path = r.Uri;
        if (!uriPart.IsEmpty)
        {
            path = path.Slice(Math.Min(LocationName.Length, path.Length));
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
