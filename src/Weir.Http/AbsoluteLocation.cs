// A redirect's target as an absolute URL: what absolute_redirect, server_name_in_redirect and port_in_redirect make of
// a path. Written into the request's arena; keeps nothing.
using Weir.Kernel;

namespace Weir.Http;

internal static class AbsoluteLocation
{
    private const int SchemeAndPortBytes = 16;

    internal static NativeSlice Of(HttpRequest r, ReadOnlySpan<byte> path)
    {
        LocationConf location = r.Location;
        NativeSlice memory = r.Arena.Allocate(SchemeAndPortBytes + SocketAddress.TextBytesMax + r.Host.Length
            + r.Server.PrimaryNameBytes.Length + path.Length);
        var w = new SpanWriter(memory.Span);
        bool tls = r.Tls is not null;
        w.Write(tls ? "https://"u8 : "http://"u8);
        if (location.ServerNameInRedirect.Value && !r.Server.PrimaryNameBytes.IsEmpty)
        {
            w.Text(r.Server.PrimaryNameBytes.Span);
        }
        else if (!r.Host.IsEmpty)
        {
            w.Text(r.Host.Span);
        }
        else
        {
            w.Skip(SocketAddress.Format(r.Connection.LocalAddress, w.Rest, withPort: false));
        }
        int port = SocketAddress.PortOf(r.Connection.LocalAddress);
        if (location.PortInRedirect.Value && port != (tls ? 443 : 80) && port > 0)
        {
            w.Write(":"u8);
            w.Number(port);
        }
        w.Text(path);
        return memory.Slice(0, w.Written);
    }
}
