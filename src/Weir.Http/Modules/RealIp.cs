// set_real_ip_from, real_ip_header, real_ip_recursive: the client's address as a trusted proxy gives it. Runs before
// the rewrite phase with the server's settings and again with the location's where the server has none. What it finds
// is ClientAddress of the main request.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal enum RealIpSource
{
    Header,
    ForwardedFor,
    ProxyProtocol,
}

internal sealed class RealIpSettings
{
    public InheritedList<Cidr> From;
    public Inherited<RealIpSource> Source;
    public Inherited<bool> Recursive;

    /// <summary>The header, where it is neither X-Forwarded-For nor the PROXY protocol.</summary>
    public string HeaderName { get; set; } = "X-Real-IP";
}

internal sealed class RealIpModule : HttpModule<RealIpSettings>
{
    public override string Name => "http_realip";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<RealIpSettings>("set_real_ip_from", AddProxy);
        d.Location<RealIpSettings>("real_ip_header", SetHeader);
        d.Location<RealIpSettings>("real_ip_recursive", static (u, s) => u.SetFlag(ref s.Recursive));
        d.Variable("realip_remote_addr", static (Session.Session s, Variable _, ref NativeSlice v) =>
            VariablesModule.Address(s, s.Connection.PeerAddress, ref v));
        d.Variable("realip_remote_port", static (Session.Session s, Variable _, ref NativeSlice v) =>
            VariablesModule.Port(s, SocketAddress.PortOf(s.Connection.PeerAddress), ref v));
    }

    private static void AddProxy(DirectiveUse use, RealIpSettings settings)
    {
        if (use[0] == "unix:")
        {
            settings.From.Add(Cidr.Unix);
            return;
        }
        if (Cidr.TryParse(use[0], out Cidr network, out bool hasLowBits))
        {
            if (hasLowBits)
            {
                use.Walker.Warn(use.Directive.Args[0].Span, $"low address bits of {use[0]} are meaningless");
            }
            settings.From.Add(network);
            return;
        }
        if (use[0].Contains('/') || use.Build.Resources.Resolve(use[0], 0, out string? error) is not { } addresses)
        {
            use.Error(0, $"host not found in set_real_ip_from \"{use[0]}\"");
            return;
        }
        foreach (SocketAddress address in addresses)
        {
            settings.From.Add(Cidr.Of(address));
        }
    }

    private static void SetHeader(DirectiveUse use, RealIpSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.Source))
        {
            return;
        }
        settings.Source.Set(use[0].ToLowerInvariant() switch
        {
            "proxy_protocol" => RealIpSource.ProxyProtocol,
            "x-forwarded-for" => RealIpSource.ForwardedFor,
            _ => RealIpSource.Header,
        });
        settings.HeaderName = use[0];
    }

    protected override void Merge(HttpBuild build, RealIpSettings parent, RealIpSettings child)
    {
        if (!child.Source.IsSet)
        {
            child.HeaderName = parent.HeaderName;
        }
        child.From.Merge(parent.From);
        child.Source.Merge(parent.Source, RealIpSource.Header);
        child.Recursive.Merge(parent.Recursive, false);
    }

    private static RealIpHandler Handler(HttpBuild build, RealIpSettings settings) =>
        build.Shared(settings, s => new RealIpHandler(s, build.Memory));

    public override void InstallServer(ServerInstall install)
    {
        RealIpSettings settings = install.Settings<RealIpSettings>(this);
        if (settings.From.Array.Length > 0)
        {
            install.Add(Phase.PostRead, Handler(install.Build, settings));
        }
    }

    public override void InstallLocation(LocationInstall install)
    {
        RealIpSettings settings = install.Settings<RealIpSettings>(this);
        if (settings.From.Array.Length > 0)
        {
            install.Add(Phase.PreAccess, Handler(install.Build, settings));
        }
    }
}

internal sealed class RealIpHandler : PhaseHandler
{
    private readonly Cidr[] _proxies;
    private readonly RealIpSource _source;
    private readonly bool _recursive;
    private readonly NativeSlice _headerName;
    private readonly uint _headerHash;

    internal RealIpHandler(RealIpSettings settings, NativeArena memory)
    {
        _proxies = settings.From.Array;
        _source = settings.Source.Value;
        _recursive = settings.Recursive.Value;
        _headerName = memory.Store(settings.HeaderName);
        _headerHash = HeaderName.Hash(_headerName.Span);
    }

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (!r.Main.ClientAddress.IsEmpty || r.HeadBytes.IsEmpty)
        {
            return PhaseResult.Next;
        }
        if (_source == RealIpSource.ProxyProtocol)
        {
            TakeProxyProtocol(r);
            return PhaseResult.Next;
        }
        ReadOnlySpan<byte> head = r.HeadBytes.Span;
        int first = r.Head.Find(_headerName.Span, _headerHash, head);
        if (first < 0)
        {
            return PhaseResult.Next;
        }
        NativeSlice found = default;
        if (_source == RealIpSource.Header)
        {
            ForwardedAddress.TryFind(r, Value(r, first), _proxies, _recursive, ref found);
        }
        else
        {
            TakeForwarded(r, first, ref found);
        }
        if (!found.IsEmpty)
        {
            r.Main.ClientAddress = found;
        }
        return PhaseResult.Next;
    }

    private static NativeSlice Value(HttpRequest r, int field) =>
        r.HeadBytes.Slice(r.Head[field].ValueStart, r.Head[field].ValueLength);

    /// <summary>Repeated fields count as one list; the last field is looked at first.</summary>
    private void TakeForwarded(HttpRequest r, int first, ref NativeSlice found)
    {
        ReadOnlySpan<byte> head = r.HeadBytes.Span;
        Span<int> fields = stackalloc int[32];
        int count = 0;
        for (int i = first; i >= 0 && count < fields.Length; i = r.Head.FindNext(i, head))
        {
            fields[count++] = i;
        }
        while (--count >= 0)
        {
            if (!ForwardedAddress.TryFind(r, Value(r, fields[count]), _proxies, _recursive, ref found) || !_recursive)
            {
                return;
            }
        }
    }

    private void TakeProxyProtocol(HttpRequest r)
    {
        if (r.Stream.Proxy is not { } proxy || proxy.Header.Source.IsNone
            || !Cidr.ContainsAny(_proxies, r.Connection.PeerAddress))
        {
            return;
        }
        Span<byte> bytes = stackalloc byte[16];
        int length = proxy.Header.Source.CopyTo(bytes);
        r.Main.ClientAddress = ForwardedAddress.Native(r, bytes[..length], proxy.Header.Source.Port);
    }
}

/// <summary>Reading the client's address out of a list of addresses, from its end.</summary>
internal static class ForwardedAddress
{
    /// <summary>Takes addresses off the end of a list while the one before is a trusted proxy. True when the list was
    /// used up by trusted addresses, so that an earlier list may be looked at.</summary>
    internal static bool TryFind(HttpRequest r, NativeSlice list, ReadOnlySpan<Cidr> proxies, bool recursive,
        ref NativeSlice found)
    {
        ReadOnlySpan<byte> text = list.Span;
        while (true)
        {
            if (!Cidr.ContainsAny(proxies, found.IsEmpty ? r.Connection.PeerAddress : found.Span))
            {
                return false;
            }
            text = text.TrimEnd(" ,"u8);
            int start = text.LastIndexOfAny((byte)' ', (byte)',') + 1;
            if (!TryParse(r, text[start..], out NativeSlice address))
            {
                return false;
            }
            found = address;
            if (!recursive || start == 0)
            {
                return true;
            }
            text = text[..(start - 1)];
        }
    }

    /// <summary>"1.2.3.4", "1.2.3.4:80", "[::1]:80", "::1" to a native sockaddr in the request's arena.</summary>
    internal static bool TryParse(HttpRequest r, ReadOnlySpan<byte> text, out NativeSlice native)
    {
        native = default;
        const int textBytesMax = 64;
        if (text.IsEmpty || text.Length > textBytesMax)
        {
            return false;
        }
        Span<char> chars = stackalloc char[text.Length];
        for (int i = 0; i < text.Length; i++)
        {
            chars[i] = (char)text[i];
        }
        scoped ReadOnlySpan<char> host = chars;
        scoped ReadOnlySpan<char> digits = default;
        if (host[0] == '[')
        {
            int end = host.IndexOf(']');
            if (end < 0 || end + 1 < host.Length && host[end + 1] != ':')
            {
                return false;
            }
            digits = end + 1 < host.Length ? host[(end + 2)..] : default;
            host = host[1..end];
        }
        else if (host.Count(':') == 1)
        {
            int colon = host.IndexOf(':');
            digits = host[(colon + 1)..];
            host = host[..colon];
        }
        int port = 0;
        if (!digits.IsEmpty && (!int.TryParse(digits, System.Globalization.NumberStyles.None,
            System.Globalization.CultureInfo.InvariantCulture, out port) || port is < 1 or > 65535))
        {
            return false;
        }
        Span<byte> bytes = stackalloc byte[16];
        if (SocketAddress.TryParseInet(host, bytes))
        {
            native = Native(r, bytes[..4], port);
            return true;
        }
        if (SocketAddress.TryParseInet6(host, bytes))
        {
            native = Native(r, bytes, port);
            return true;
        }
        return false;
    }

    /// <summary>A sockaddr of 4 or 16 address bytes.</summary>
    internal static NativeSlice Native(HttpRequest r, ReadOnlySpan<byte> address, int port)
    {
        bool four = address.Length == 4;
        NativeSlice native = r.Main.Arena.Allocate(four ? 16 : 28);
        Span<byte> bytes = native.Span;
        bytes.Clear();
        BitConverter.TryWriteBytes(bytes, (ushort)(four ? SocketFamily.Inet : SocketFamily.Inet6));
        System.Buffers.Binary.BinaryPrimitives.WriteUInt16BigEndian(bytes[2..], (ushort)port);
        address.CopyTo(bytes[(four ? 4 : 8)..]);
        return native;
    }
}
