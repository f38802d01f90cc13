// A socket address: IPv4, IPv6 or unix, held as the kernel's own sockaddr bytes, with nginx's text form.
// Immutable. Parsing and the string members allocate and are for start-up and logs; Format over raw sockaddr bytes
// writes into the caller's span and is what $remote_addr and the like use.
using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Weir.Kernel;

/// <summary>The address families Weir listens and connects on.</summary>
public enum SocketFamily : ushort
{
    Unspecified = 0,
    Unix = 1,
    Inet = 2,
    Inet6 = 10,
}

/// <summary>An immutable IPv4, IPv6 or unix socket address.</summary>
public sealed class SocketAddress : IEquatable<SocketAddress>
{
    /// <summary>sizeof(struct sockaddr_storage).</summary>
    public const int NativeBytesMax = 128;

    /// <summary>The longest path of a unix socket (sun_path without its end mark).</summary>
    public const int UnixPathBytesMax = 107;

    /// <summary>Room for any text that Format produces.</summary>
    public const int TextBytesMax = 5 + UnixPathBytesMax + 1;

    private const int InetBytes = 16, Inet6Bytes = 28;

    private readonly byte[] _native;

    private SocketAddress(byte[] native) => _native = native;

    /// <summary>The bytes of the kernel's sockaddr, as bind and connect take them.</summary>
    public ReadOnlySpan<byte> Native => _native;

    public SocketFamily Family => FamilyOf(_native);

    /// <summary>The port in host order, 0 for a unix address.</summary>
    public int Port => PortOf(_native);

    /// <summary>The path of a unix address ("@name" for an abstract one), else null.</summary>
    public string? UnixPath => Family == SocketFamily.Unix ? ToString()[5..] : null;

    /// <summary>The 4 or 16 address bytes in network order; empty for a unix address.</summary>
    public ReadOnlySpan<byte> AddressBytes => AddressBytesOf(_native);

    /// <summary>0.0.0.0 or [::].</summary>
    public bool IsWildcard => Family != SocketFamily.Unix && AddressBytes.IndexOfAnyExcept((byte)0) < 0;

    public static SocketAddress Inet(ReadOnlySpan<byte> address, int port)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(address.Length, 4);
        byte[] native = new byte[InetBytes];
        BitConverter.TryWriteBytes(native, (ushort)SocketFamily.Inet);
        BinaryPrimitives.WriteUInt16BigEndian(native.AsSpan(2), (ushort)port);
        address.CopyTo(native.AsSpan(4));
        return new SocketAddress(native);
    }

    public static SocketAddress Inet6(ReadOnlySpan<byte> address, int port, uint scopeId = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(address.Length, 16);
        byte[] native = new byte[Inet6Bytes];
        BitConverter.TryWriteBytes(native, (ushort)SocketFamily.Inet6);
        BinaryPrimitives.WriteUInt16BigEndian(native.AsSpan(2), (ushort)port);
        address.CopyTo(native.AsSpan(8));
        BitConverter.TryWriteBytes(native.AsSpan(24), scopeId);
        return new SocketAddress(native);
    }

    /// <summary>
    /// A unix address; a path that begins with '@' is an abstract one. Null when the path is too long or empty.
    /// </summary>
    public static SocketAddress? Unix(string path)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(path);
        if (bytes.Length is 0 or > UnixPathBytesMax)
        {
            return null;
        }
        bool isAbstract = bytes[0] == '@';
        byte[] native = new byte[2 + bytes.Length + (isAbstract ? 0 : 1)];
        BitConverter.TryWriteBytes(native, (ushort)SocketFamily.Unix);
        bytes.CopyTo(native, 2);
        if (isAbstract)
        {
            native[2] = 0;
        }
        return new SocketAddress(native);
    }

    /// <summary>A copy of what the kernel filled in (accept, getsockname). Unknown families are refused.</summary>
    public static SocketAddress FromNative(ReadOnlySpan<byte> native)
    {
        if (FamilyOf(native) == SocketFamily.Unspecified)
        {
            throw new ArgumentException("not a socket address of a known family", nameof(native));
        }
        return new SocketAddress(native.ToArray());
    }

    /// <summary>
    /// "127.0.0.1:80", "[::1]:80", "unix:/path", "*:80", "8080" (a port alone), or an address alone with
    /// <paramref name="defaultPort"/>. Names are not resolved: they are refused, the caller looks them up.
    /// </summary>
    public static SocketAddress Parse(string text, int defaultPort = 80) =>
        TryParse(text, defaultPort, out SocketAddress? address, out string error)
            ? address!
            : throw new FormatException(error + " in \"" + text + "\"");

    /// <summary>As <see cref="Parse"/>; on failure <paramref name="error"/> holds nginx's words.</summary>
    public static bool TryParse(string text, int defaultPort, out SocketAddress? address, out string error)
    {
        address = null;
        error = "";
        if (text.StartsWith("unix:", StringComparison.OrdinalIgnoreCase))
        {
            string path = text[5..];
            if (path.Length == 0)
            {
                error = "no path in the unix domain socket";
                return false;
            }
            address = Unix(path);
            error = address is null ? "too long path in the unix domain socket" : "";
            return address is not null;
        }
        if (!SplitPort(text, out string host, out string? portText))
        {
            error = "invalid host";
            return false;
        }
        int port = defaultPort;
        if (portText is null && IsDigits(host))
        {
            (portText, host) = (host, "*");
        }
        if (portText is not null && !TryParsePort(portText, out port))
        {
            error = portText.Length == 0 ? "no port" : "invalid port";
            return false;
        }
        if (host.Length == 0)
        {
            error = "no host";
            return false;
        }
        Span<byte> bytes = stackalloc byte[16];
        if (host == "*")
        {
            address = Inet([0, 0, 0, 0], port);
        }
        else if (host[0] == '[')
        {
            if (!TryParseInet6(host.AsSpan(1, host.Length - 2), bytes))
            {
                error = "invalid IPv6 address";
                return false;
            }
            address = Inet6(bytes, port);
        }
        else if (TryParseInet(host, bytes))
        {
            address = Inet(bytes[..4], port);
        }
        else
        {
            error = "host not found";
            return false;
        }
        return true;
    }

    /// <summary>Dotted decimal, four parts, nothing else (as inet_pton).</summary>
    public static bool TryParseInet(ReadOnlySpan<char> text, Span<byte> address)
    {
        int part = 0, value = 0, digits = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && char.IsAsciiDigit(text[i]))
            {
                value = (value * 10) + (text[i] - '0');
                if (++digits > 3 || value > 255)
                {
                    return false;
                }
                continue;
            }
            if ((i < text.Length && text[i] != '.') || digits == 0 || part == 4)
            {
                return false;
            }
            address[part++] = (byte)value;
            value = digits = 0;
        }
        return part == 4;
    }

    /// <summary>
    /// An IPv6 address without brackets, with "::" and a dotted tail (RFC 4291 section 2.2). No scope.
    /// </summary>
    public static bool TryParseInet6(ReadOnlySpan<char> text, Span<byte> address)
    {
        Span<byte> bytes = stackalloc byte[16];
        bytes.Clear();
        int used = 0, gap = -1, i = 0;
        if (text.StartsWith("::"))
        {
            gap = 0;
            i = 2;
        }
        else if (text.Length == 0 || text[0] == ':')
        {
            return false;
        }
        while (i < text.Length)
        {
            int end = i;
            int value = 0;
            while (end < text.Length && char.IsAsciiHexDigit(text[end]))
            {
                value = (value << 4) | Convert.ToInt32(text[end..(end + 1)].ToString(), 16);
                if (++end - i > 4)
                {
                    break;
                }
            }
            if (end < text.Length && text[end] == '.')
            {
                if (used > 12 || !TryParseInet(text[i..], bytes.Slice(used, 4)))
                {
                    return false;
                }
                used += 4;
                i = text.Length;
                break;
            }
            if (end == i || end - i > 4 || used > 14)
            {
                return false;
            }
            bytes[used++] = (byte)(value >> 8);
            bytes[used++] = (byte)value;
            i = end;
            if (i == text.Length)
            {
                break;
            }
            if (text[i++] != ':' || i == text.Length)
            {
                return false;
            }
            if (text[i] == ':')
            {
                if (gap >= 0)
                {
                    return false;
                }
                gap = used;
                i++;
            }
        }
        if (gap < 0 ? used != 16 : used > 14)
        {
            return false;
        }
        if (gap >= 0)
        {
            int tail = used - gap;
            bytes.Slice(gap, tail).CopyTo(bytes[(16 - tail)..]);
            bytes[gap..(16 - tail)].Clear();
        }
        bytes.CopyTo(address);
        return true;
    }

    public static SocketFamily FamilyOf(ReadOnlySpan<byte> native) =>
        native.Length < 2 ? SocketFamily.Unspecified : (SocketFamily)BitConverter.ToUInt16(native) switch
        {
            SocketFamily.Inet when native.Length >= InetBytes => SocketFamily.Inet,
            SocketFamily.Inet6 when native.Length >= Inet6Bytes => SocketFamily.Inet6,
            SocketFamily.Unix => SocketFamily.Unix,
            _ => SocketFamily.Unspecified,
        };

    public static int PortOf(ReadOnlySpan<byte> native) =>
        FamilyOf(native) is SocketFamily.Inet or SocketFamily.Inet6
            ? BinaryPrimitives.ReadUInt16BigEndian(native[2..])
            : 0;

    public static ReadOnlySpan<byte> AddressBytesOf(ReadOnlySpan<byte> native) => FamilyOf(native) switch
    {
        SocketFamily.Inet => native.Slice(4, 4),
        SocketFamily.Inet6 => native.Slice(8, 16),
        _ => [],
    };

    /// <summary>
    /// nginx's text of an address: "127.0.0.1:80", "[::1]:80", "unix:/path" ("unix:" for an unnamed peer);
    /// without the port also without brackets. Returns the bytes written; no allocation.
    /// </summary>
    public static int Format(ReadOnlySpan<byte> native, Span<byte> text, bool withPort)
    {
        switch (FamilyOf(native))
        {
            case SocketFamily.Inet:
                {
                    int n = FormatInet(native.Slice(4, 4), text);
                    return withPort ? AppendPort(text, n, PortOf(native)) : n;
                }
            case SocketFamily.Inet6:
                {
                    if (!withPort)
                    {
                        return FormatInet6(native.Slice(8, 16), text);
                    }
                    text[0] = (byte)'[';
                    int n = 1 + FormatInet6(native.Slice(8, 16), text[1..]);
                    text[n++] = (byte)']';
                    return AppendPort(text, n, PortOf(native));
                }
            case SocketFamily.Unix:
                {
                    "unix:"u8.CopyTo(text);
                    ReadOnlySpan<byte> path = native[2..];
                    if (path.Length > 0 && path[0] == 0)
                    {
                        // An abstract name (or none at all): the first byte is the mark, the rest is the name.
                        path = path[1..].TrimEnd((byte)0);
                        if (path.Length == 0)
                        {
                            return 5;
                        }
                        text[5] = (byte)'@';
                        path.CopyTo(text[6..]);
                        return 6 + path.Length;
                    }
                    int end = path.IndexOf((byte)0);
                    path = end >= 0 ? path[..end] : path;
                    path.CopyTo(text[5..]);
                    return 5 + path.Length;
                }
            default:
                return 0;
        }
    }

    /// <summary>Dotted decimal of four bytes; returns the bytes written.</summary>
    public static int FormatInet(ReadOnlySpan<byte> address, Span<byte> text)
    {
        int n = 0;
        for (int i = 0; i < 4; i++)
        {
            if (i > 0)
            {
                text[n++] = (byte)'.';
            }
            n += WriteDecimal(address[i], text[n..]);
        }
        return n;
    }

    /// <summary>RFC 5952 form of sixteen bytes, mapped IPv4 with a dotted tail; returns the bytes written.</summary>
    public static int FormatInet6(ReadOnlySpan<byte> address, Span<byte> text)
    {
        int gap = -1, gapGroups = 1;
        for (int i = 0; i < 8;)
        {
            int run = i;
            while (run < 8 && address[run * 2] == 0 && address[(run * 2) + 1] == 0)
            {
                run++;
            }
            if (run - i > gapGroups)
            {
                (gap, gapGroups) = (i, run - i);
            }
            i = Math.Max(run, i + 1);
        }
        bool mapped = gap == 0 && gapGroups == 5 && address[10] == 0xff && address[11] == 0xff;
        int n = 0;
        for (int i = 0; i < 8; i++)
        {
            if (i == gap)
            {
                text[n++] = (byte)':';
                text[n++] = (byte)':';
                i += gapGroups - 1;
                continue;
            }
            if (i > 0 && i != gap + gapGroups)
            {
                text[n++] = (byte)':';
            }
            else if (i > 0 && gap < 0)
            {
                text[n++] = (byte)':';
            }
            if (mapped && i == 6)
            {
                return n + FormatInet(address[12..], text[n..]);
            }
            n += WriteHex((address[i * 2] << 8) | address[(i * 2) + 1], text[n..]);
        }
        return n;
    }

    public bool Equals(SocketAddress? other) => other is not null && _native.AsSpan().SequenceEqual(other._native);

    public override bool Equals(object? obj) => Equals(obj as SocketAddress);

    public override int GetHashCode()
    {
        var hash = new HashCode();
        hash.AddBytes(_native);
        return hash.ToHashCode();
    }

    /// <summary>nginx's text, with the port.</summary>
    public override string ToString() => ToText(withPort: true);

    public string ToText(bool withPort)
    {
        Span<byte> text = stackalloc byte[NativeBytesMax + 8];
        return Encoding.UTF8.GetString(text[..Format(_native, text, withPort)]);
    }

    private static bool SplitPort(string text, out string host, out string? port)
    {
        port = null;
        host = text;
        int search = 0;
        if (text.StartsWith('['))
        {
            search = text.IndexOf(']');
            if (search < 0 || (search + 1 < text.Length && text[search + 1] != ':'))
            {
                return false;
            }
        }
        int colon = text.IndexOf(':', search);
        if (colon >= 0)
        {
            host = text[..colon];
            port = text[(colon + 1)..];
        }
        return true;
    }

    private static bool IsDigits(string text) => text.Length > 0 && text.AsSpan().IndexOfAnyExceptInRange('0', '9') < 0;

    private static bool TryParsePort(string text, out int port) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out port) && port is > 0 and < 65536;

    private static int AppendPort(Span<byte> text, int n, int port)
    {
        text[n++] = (byte)':';
        return n + WriteDecimal(port, text[n..]);
    }

    private static int WriteDecimal(int value, Span<byte> text)
    {
        int digits = value >= 10000 ? 5 : value >= 1000 ? 4 : value >= 100 ? 3 : value >= 10 ? 2 : 1;
        for (int i = digits - 1; i >= 0; i--)
        {
            text[i] = (byte)('0' + (value % 10));
            value /= 10;
        }
        return digits;
    }

    private static int WriteHex(int value, Span<byte> text)
    {
        int digits = value >= 0x1000 ? 4 : value >= 0x100 ? 3 : value >= 0x10 ? 2 : 1;
        for (int i = digits - 1; i >= 0; i--)
        {
            int nibble = value & 15;
            text[i] = (byte)(nibble < 10 ? '0' + nibble : 'a' + nibble - 10);
            value >>= 4;
        }
        return digits;
    }
}
