// $proxy_host, $proxy_port, $proxy_add_x_forwarded_for, $proxy_add_via.
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal static class ProxyVariables
{
    internal static void Declare(HttpDeclarations d)
    {
        d.Variable("proxy_host", static (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            value = ((HttpRequest)s).Find(Exchange.Slot)?.TargetHost ?? default;
            return !value.IsEmpty;
        }, VariableFlags.NoCache | VariableFlags.Changeable);
        d.Variable("proxy_port", static (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            value = ((HttpRequest)s).Find(Exchange.Slot)?.TargetPort ?? default;
            return !value.IsEmpty;
        }, VariableFlags.NoCache | VariableFlags.Changeable);
        d.Variable("proxy_add_x_forwarded_for", static (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            value = AddForwardedFor((HttpRequest)s);
            return true;
        });
        d.Variable("proxy_internal_body_length", static (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            if (((HttpRequest)s).Find(Exchange.Slot) is not { HasBody: true, StreamsBody: false } x)
            {
                return false;
            }
            value = s.Arena.StoreNumber(x.BodyBytes);
            return true;
        }, VariableFlags.NoCache);
        d.Variable("proxy_internal_chunked", static (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            value = NativeSlice.Literal("chunked"u8);
            return ((HttpRequest)s) is { Head.Chunked: true } r && r.Find(Exchange.Slot) is { StreamsBody: true };
        }, VariableFlags.NoCache);
    }

    /// <summary>All X-Forwarded-For lines of the client, and its address behind them.</summary>
    private static NativeSlice AddForwardedFor(HttpRequest r)
    {
        Span<byte> address = stackalloc byte[SocketAddress.TextBytesMax];
        ReadOnlySpan<byte> native = r.ClientAddress.IsEmpty ? r.Connection.PeerAddress : r.ClientAddress.Span;
        int length = SocketAddress.Format(native, address, withPort: false);
        if (native.Length < 2 || SocketAddress.FamilyOf(native) == SocketFamily.Unix)
        {
            "unix:"u8.CopyTo(address);
            length = 5;
        }
        RequestHead head = r.Head;
        int room = length;
        for (int i = head.Find(KnownHeader.XForwardedFor); i >= 0; i = head.FindNext(i))
        {
            room += head[i].ValueLength + 2;
        }
        NativeSlice text = r.Arena.Allocate(room);
        var w = new SpanWriter(text.Span);
        for (int i = head.Find(KnownHeader.XForwardedFor); i >= 0; i = head.FindNext(i))
        {
            w.Write(head[i].Value(r.HeadBytes.Span));
            w.Write(", "u8);
        }
        w.Write(address[..length]);
        return text;
    }
}
