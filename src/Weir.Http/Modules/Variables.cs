// The built-in variables of nginx's ngx_http_variables.c: the request line and its parts, addresses, the connection,
// sizes, times and states. Families over header fields are in VariablesHeaders.cs. Getters are synchronous, keep
// nothing and write into the request's arena.
using System.Buffers.Binary;
using System.Buffers.Text;
using Weir.Kernel;
using Weir.Loop;
using Weir.Kernel.Net;
using Weir.Protocol.Http1;
using Weir.Protocol.Proxy;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class VariablesModule : HttpModule
{
    /// <summary>The version of nginx whose behaviour this is.</summary>
    internal const string NginxVersion = "1.31.5";

    /// <summary>Where it is used, a body's temporary file has a name.</summary>
    internal const string RequestBodyFile = "request_body_file";

    public override string Name => "http_variables";

    public override void Declare(HttpDeclarations d)
    {
        VariablesHeaders.Declare(d);
        DeclareRequest(d);
        DeclareConnection(d);
        DeclareProxyProtocol(d);
        DeclareAnswer(d);
        DeclareTimes(d);
        NativeArena memory = d.Build.Memory;
        NativeSlice host = memory.Store(Environment.MachineName.ToLowerInvariant());
        NativeSlice version = memory.Store(NginxVersion);
        NativeSlice pid = memory.Store(
            Environment.ProcessId.ToString(System.Globalization.CultureInfo.InvariantCulture));
        d.Variable("hostname", (Session.Session _, Variable _, ref NativeSlice value) => Is(host, ref value));
        d.Variable("nginx_version", (Session.Session _, Variable _, ref NativeSlice value) => Is(version, ref value));
        d.Variable("pid", (Session.Session _, Variable _, ref NativeSlice value) => Is(pid, ref value));
    }

    private static bool Is(NativeSlice text, ref NativeSlice value)
    {
        value = text;
        return true;
    }

    /// <summary>Of a request whose line was not understood there is none.</summary>
    private static bool Uri(Session.Session s, Variable variable, ref NativeSlice value) =>
        IfAny(R(s) is { IsLineKnown: false, IsMain: true, IsInternal: false } ? default : R(s).Uri, ref value);

    /// <summary>Found when not empty.</summary>
    private static bool IfAny(NativeSlice text, ref NativeSlice value)
    {
        value = text;
        return !text.IsEmpty;
    }

    private static HttpRequest R(Session.Session s) => (HttpRequest)s;

    private static void DeclareRequest(HttpDeclarations d)
    {
        const VariableFlags fresh = VariableFlags.NoCache;
        d.Variable("host", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(R(s).Host.IsEmpty ? R(s).Server.PrimaryNameBytes : R(s).Host, ref v));
        d.Variable("server_name", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(R(s).Server.PrimaryNameBytes, ref v));
        d.Variable("request_uri", static (Session.Session s, Variable _, ref NativeSlice v) =>
            IfAny(R(s).UnparsedUri, ref v));
        d.Variable("uri", Uri, fresh);
        d.Variable("document_uri", Uri, fresh);
        d.Variable("request", static (Session.Session s, Variable _, ref NativeSlice v) =>
            IfAny(R(s).RequestLine, ref v));
        d.Variable("args", static (Session.Session s, Variable _, ref NativeSlice v) => IfAny(R(s).Args, ref v),
            fresh | VariableFlags.Changeable, SetArgs);
        d.Variable("query_string", static (Session.Session s, Variable _, ref NativeSlice v) => IfAny(R(s).Args, ref v),
            fresh);
        d.Variable("is_args", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(R(s).Args.IsEmpty ? default : NativeSlice.Literal("?"u8), ref v), fresh);
        d.Variable("request_method", static (Session.Session s, Variable _, ref NativeSlice v) =>
            IfAny(R(s).Main.MethodName, ref v), fresh);
        d.Variable("server_protocol", static (Session.Session s, Variable _, ref NativeSlice v) =>
            IfAny(R(s).Main.IsLineKnown ? Protocol(R(s)) : default, ref v));
        d.Variable("scheme", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(R(s).Tls is not null ? NativeSlice.Literal("https"u8) : NativeSlice.Literal("http"u8), ref v));
        d.Variable("https", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(R(s).Tls is not null ? NativeSlice.Literal("on"u8) : default, ref v));
        d.Variable("request_port", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(RequestPort(R(s)), ref v));
        d.Variable("is_request_port", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(RequestPort(R(s)).IsEmpty ? default : NativeSlice.Literal(":"u8), ref v));
        d.Variable("request_id", RequestId);
        d.Variable("request_body", RequestBody);
        d.Variable(RequestBodyFile, static (Session.Session s, Variable _, ref NativeSlice v) =>
            R(s).Main.Body.SpillPath is { } path && IfAny(StoreText(s.Arena, path), ref v));
        d.Variable("remote_user", RemoteUser);
        d.VariablePrefix("arg_", Argument, fresh);
    }

    private static void DeclareConnection(HttpDeclarations d)
    {
        const VariableFlags fresh = VariableFlags.NoCache;
        d.Variable("remote_addr", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Address(s, R(s).RemoteAddress, ref v));
        d.Variable("remote_port", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Port(s, SocketAddress.PortOf(R(s).RemoteAddress), ref v));
        d.Variable("binary_remote_addr", static (Session.Session s, Variable _, ref NativeSlice v) =>
        {
            ReadOnlySpan<byte> address = R(s).RemoteAddress;
            ReadOnlySpan<byte> bytes = SocketAddress.AddressBytesOf(address);
            return bytes.IsEmpty ? Address(s, address, ref v) : Is(s.Arena.Store(bytes), ref v);
        });
        d.Variable("server_addr", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Address(s, s.Connection.LocalAddress, ref v));
        d.Variable("server_port", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Port(s, SocketAddress.PortOf(s.Connection.LocalAddress), ref v));
        d.Variable("connection", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(s.Arena.StoreNumber(s.Connection.Number), ref v));
        d.Variable("connection_requests", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(s.Arena.StoreNumber(R(s).Main.ConnectionRequests), ref v));
        d.Variable("connection_time", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(Seconds(s.Arena, s.Loop.NowMs - s.Connection.StartMs), ref v), fresh);
        d.Variable("pipe", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(R(s).Main.IsPipelined ? NativeSlice.Literal("p"u8) : NativeSlice.Literal("."u8), ref v));
        d.Variable("tcpinfo_rtt", static (Session.Session s, Variable _, ref NativeSlice v) => TcpInfo(s, 68, ref v),
            fresh);
        d.Variable("tcpinfo_rttvar", static (Session.Session s, Variable _, ref NativeSlice v) => TcpInfo(s, 72, ref v),
            fresh);
        d.Variable("tcpinfo_snd_cwnd", static (Session.Session s, Variable _, ref NativeSlice v) =>
            TcpInfo(s, 80, ref v), fresh);
        d.Variable("tcpinfo_rcv_space", static (Session.Session s, Variable _, ref NativeSlice v) =>
            TcpInfo(s, 96, ref v), fresh);
    }

    private static void DeclareProxyProtocol(HttpDeclarations d)
    {
        d.Variable("proxy_protocol_addr", static (Session.Session s, Variable _, ref NativeSlice v) =>
            ProxyAddr(s, false, ref v));
        d.Variable("proxy_protocol_port", static (Session.Session s, Variable _, ref NativeSlice v) =>
            ProxyPort(s, false, ref v));
        d.Variable("proxy_protocol_server_addr", static (Session.Session s, Variable _, ref NativeSlice v) =>
            ProxyAddr(s, true, ref v));
        d.Variable("proxy_protocol_server_port", static (Session.Session s, Variable _, ref NativeSlice v) =>
            ProxyPort(s, true, ref v));
        d.VariablePrefix("proxy_protocol_tlv_", ProxyTlv);
    }

    private static void DeclareAnswer(HttpDeclarations d)
    {
        const VariableFlags fresh = VariableFlags.NoCache;
        d.Variable("status", Status, fresh);
        d.Variable("bytes_sent", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(s.Arena.StoreNumber(R(s).Main.HeadBytesSent + R(s).Main.WireBodyBytes), ref v), fresh);
        d.Variable("body_bytes_sent", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(s.Arena.StoreNumber(R(s).Main.WireBodyBytes), ref v), fresh);
        d.Variable("request_length", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(s.Arena.StoreNumber(R(s).Main.RequestBytes), ref v), fresh);
        d.Variable("request_completion", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(R(s).Main is { Aborted: AbortReason.None, Response.IsSent: true } ? NativeSlice.Literal("OK"u8)
                : default, ref v), fresh);
    }

    private static void DeclareTimes(HttpDeclarations d)
    {
        const VariableFlags fresh = VariableFlags.NoCache;
        d.Variable("request_time", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(Seconds(s.Arena, Math.Max(0, s.Loop.NowMs - R(s).Main.StartMs)), ref v), fresh);
        d.Variable("msec", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(Seconds(s.Arena, s.Loop.UnixMs), ref v), fresh);
        d.Variable("time_local", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(s.Arena.Store(LogClock.Of(s.Loop).Local), ref v), fresh);
        d.Variable("time_iso8601", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(s.Arena.Store(LogClock.Of(s.Loop).Iso8601), ref v), fresh);
    }

    // The getters that are more than a line.

    private static void SetArgs(Session.Session s, Variable variable, NativeSlice value)
    {
        R(s).Args = value;
        R(s).IsUriAsSent = false;
    }

    private static NativeSlice Protocol(HttpRequest r)
    {
        switch (r.Version)
        {
            case 30:
                return NativeSlice.Literal("HTTP/3.0"u8);
            case 20:
                return NativeSlice.Literal("HTTP/2.0"u8);
            case 11 when r.Head.VersionMinor <= 1:
                return NativeSlice.Literal("HTTP/1.1"u8);
            case 10:
                return NativeSlice.Literal("HTTP/1.0"u8);
            case 11:
                NativeSlice text = r.Arena.Store("HTTP/1.0"u8);
                text.Span[7] = (byte)('0' + r.Head.VersionMinor % 10);
                return text;
            default:
                return default;
        }
    }

    private static NativeSlice RequestPort(HttpRequest r) => r.HeadBytes.IsEmpty
        ? default
        : r.HeadBytes.Slice(r.Head.HostPort.Start, r.Head.HostPort.Length);

    private static bool RequestId(Session.Session s, Variable variable, ref NativeSlice value)
    {
        Span<byte> random = stackalloc byte[16];
        R(s).Loop.FillRandom(random);
        value = s.Arena.Allocate(32);
        Span<byte> text = value.Span;
        for (int i = 0; i < 16; i++)
        {
            text[2 * i] = "0123456789abcdef"u8[random[i] >> 4];
            text[2 * i + 1] = "0123456789abcdef"u8[random[i] & 15];
        }
        return true;
    }

    /// <summary>The body where it is in memory as a whole.</summary>
    private static bool RequestBody(Session.Session s, Variable variable, ref NativeSlice value)
    {
        RequestBody body = R(s).Main.Body;
        if (body.Memory is not { IsEmpty: false } memory || body.SpillDescriptor >= 0)
        {
            return false;
        }
        if (memory.Count == 1)
        {
            value = memory[0].Memory;
            return true;
        }
        value = s.Arena.Allocate((int)memory.Length);
        memory.CopyTo(value.Span);
        return true;
    }

    private static NativeSlice StoreText(Arena arena, string text)
    {
        NativeSlice bytes = arena.Allocate(System.Text.Encoding.UTF8.GetByteCount(text));
        System.Text.Encoding.UTF8.GetBytes(text, bytes.Span);
        return bytes;
    }

    private static bool RemoteUser(Session.Session s, Variable variable, ref NativeSlice value)
    {
        if (!BasicCredentials.TryRead(R(s), out NativeSlice user, out NativeSlice _))
        {
            return false;
        }
        value = user;
        return true;
    }

    /// <summary>$arg_name: the first argument of that name, in any case, as it stands in the query.</summary>
    private static bool Argument(Session.Session s, Variable variable, ref NativeSlice value)
    {
        NativeSlice args = R(s).Args;
        ReadOnlySpan<byte> text = args.Span;
        ReadOnlySpan<byte> name = variable.Rest.Span;
        for (int at = 0; at + name.Length < text.Length;)
        {
            if (text[at + name.Length] == '=' && HeaderName.Same(text.Slice(at, name.Length), name))
            {
                int start = at + name.Length + 1;
                int length = text[start..].IndexOf((byte)'&');
                value = length < 0 ? args.Slice(start) : args.Slice(start, length);
                return true;
            }
            int ampersand = text[at..].IndexOf((byte)'&');
            if (ampersand < 0)
            {
                return false;
            }
            at += ampersand + 1;
        }
        return false;
    }

    internal static bool Address(Session.Session s, ReadOnlySpan<byte> native, ref NativeSlice value)
    {
        Span<byte> text = stackalloc byte[SocketAddress.TextBytesMax];
        value = s.Arena.Store(text[..SocketAddress.Format(native, text, withPort: false)]);
        return true;
    }

    internal static bool Port(Session.Session s, int port, ref NativeSlice value)
    {
        value = port > 0 ? s.Arena.StoreNumber(port) : default;
        return true;
    }

    private static bool TcpInfo(Session.Session s, int offset, ref NativeSlice value)
    {
        Span<byte> info = stackalloc byte[256];
        int length = s.Connection.TcpInfo(info);
        if (length < offset + 4)
        {
            return false;
        }
        value = s.Arena.StoreNumber(BinaryPrimitives.ReadUInt32LittleEndian(info[offset..]));
        return true;
    }

    private static bool ProxyAddr(Session.Session s, bool server, ref NativeSlice value)
    {
        if (R(s).Main.Stream.Proxy is not { } proxy)
        {
            return false;
        }
        ProxyAddress address = server ? proxy.Header.Destination : proxy.Header.Source;
        if (!address.IsNone)
        {
            Span<byte> text = stackalloc byte[ProxyAddress.TextMax];
            value = s.Arena.Store(text[..address.Format(text)]);
        }
        return true;
    }

    private static bool ProxyPort(Session.Session s, bool server, ref NativeSlice value)
    {
        if (R(s).Main.Stream.Proxy is not { } proxy)
        {
            return false;
        }
        return Port(s, server ? proxy.Header.Destination.Port : proxy.Header.Source.Port, ref value);
    }

    private static bool ProxyTlv(Session.Session s, Variable variable, ref NativeSlice value)
    {
        return R(s).Main.Stream.Proxy is { } proxy && ProxyTlvs.Find(proxy.Tlvs, variable.Rest.Span,
            out ReadOnlySpan<byte> found)
            && Is(s.Arena.Store(found), ref value);
    }

    private static bool Status(Session.Session s, Variable variable, ref NativeSlice value)
    {
        HttpRequest r = R(s);
        int status = r.ErrorStatus != 0 ? r.ErrorStatus : r.Response.Status != 0 ? r.Response.Status : r.Version == 9
            ? 9 : 0;
        value = s.Arena.Allocate(3);
        value.Span[0] = (byte)('0' + status / 100 % 10);
        value.Span[1] = (byte)('0' + status / 10 % 10);
        value.Span[2] = (byte)('0' + status % 10);
        return true;
    }

    /// <summary>Milliseconds as "1.234".</summary>
    internal static NativeSlice Seconds(Arena arena, long ms)
    {
        Span<byte> text = stackalloc byte[24];
        return arena.Store(text[..WriteSeconds(ms, text)]);
    }

    internal static int WriteSeconds(long ms, Span<byte> text)
    {
        Utf8Formatter.TryFormat(ms / 1000, text, out int n);
        int rest = (int)(ms % 1000);
        text[n++] = (byte)'.';
        text[n++] = (byte)('0' + rest / 100);
        text[n++] = (byte)('0' + rest / 10 % 10);
        text[n++] = (byte)('0' + rest % 10);
        return n;
    }
}

/// <summary>The local time as logs write it, formatted once a second. One per loop.</summary>
internal sealed class LogClock
{
    private static readonly LoopSlot<LogClock> s_slot = new();

    private readonly EventLoop _loop;
    private readonly byte[] _local = new byte[TimeFormats.LocalLength];
    private readonly byte[] _iso = new byte[TimeFormats.Iso8601Length];
    private long _second = -1;

    private LogClock(EventLoop loop) => _loop = loop;

    internal static LogClock Of(EventLoop loop) => loop.Slot(s_slot, static l => new LogClock(l));

    internal ReadOnlySpan<byte> Local
    {
        get
        {
            Refresh();
            return _local;
        }
    }

    internal ReadOnlySpan<byte> Iso8601
    {
        get
        {
            Refresh();
            return _iso;
        }
    }

    private void Refresh()
    {
        long second = _loop.UnixMs / 1000;
        if (second != _second)
        {
            _second = second;
            int offset = WallClock.OffsetMinutes(second);
            TimeFormats.WriteLocal(second, offset, _local);
            TimeFormats.WriteIso8601(second, offset, _iso);
        }
    }
}
