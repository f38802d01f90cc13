// A network of IPv4 or IPv6 addresses, or all unix peers, as access rules, trusted proxies and geo tables name it.
// Immutable values; matching allocates nothing.
using System.Buffers.Binary;
using Weir.Kernel;

namespace Weir.Http;

/// <summary>A CIDR network.</summary>
public readonly struct Cidr
{
    private readonly UInt128 _address;
    private readonly UInt128 _mask;

    private Cidr(SocketFamily family, UInt128 address, UInt128 mask)
    {
        Family = family;
        _address = address;
        _mask = mask;
    }

    /// <summary>Inet, Inet6 or Unix.</summary>
    public SocketFamily Family { get; }

    public static Cidr Unix => new(SocketFamily.Unix, 0, 0);
    public static Cidr AllInet => new(SocketFamily.Inet, 0, 0);
    public static Cidr AllInet6 => new(SocketFamily.Inet6, 0, 0);

    /// <summary>The network's address and mask, 32 bits of IPv4 in the low end.</summary>
    public UInt128 Address => _address;
    public UInt128 Mask => _mask;
    public int PrefixLength => (int)UInt128.PopCount(_mask);

    /// <summary>"10.0.0.0/8", "10.1.2.3", "2001:db8::/32". <paramref name="hasLowBits"/>: bits below the mask were
    /// given and dropped.</summary>
    public static bool TryParse(string text, out Cidr cidr, out bool hasLowBits)
    {
        cidr = default;
        hasLowBits = false;
        int slash = text.IndexOf('/');
        ReadOnlySpan<char> address = slash < 0 ? text : text.AsSpan(0, slash);
        Span<byte> bytes = stackalloc byte[16];
        int bits;
        SocketFamily family;
        UInt128 value;
        if (SocketAddress.TryParseInet(address, bytes))
        {
            bits = 32;
            family = SocketFamily.Inet;
            value = BinaryPrimitives.ReadUInt32BigEndian(bytes);
        }
        else if (SocketAddress.TryParseInet6(address, bytes))
        {
            bits = 128;
            family = SocketFamily.Inet6;
            value = BinaryPrimitives.ReadUInt128BigEndian(bytes);
        }
        else
        {
            return false;
        }
        int prefix = bits;
        if (slash >= 0 && (!int.TryParse(text.AsSpan(slash + 1), System.Globalization.NumberStyles.None,
            System.Globalization.CultureInfo.InvariantCulture, out prefix) || prefix > bits))
        {
            return false;
        }
        UInt128 all = bits == 32 ? uint.MaxValue : UInt128.MaxValue;
        UInt128 mask = prefix == 0 ? 0 : all & ~(prefix == bits ? UInt128.Zero : (UInt128.One << (bits - prefix)) - 1);
        hasLowBits = (value & ~mask & all) != 0;
        cidr = new Cidr(family, value & mask, mask);
        return true;
    }

    /// <summary>The network of one address.</summary>
    public static Cidr Of(SocketAddress address)
    {
        (SocketFamily family, UInt128 value) = Read(address.Native);
        return new Cidr(family, value, family == SocketFamily.Inet ? uint.MaxValue : UInt128.MaxValue);
    }

    public bool Contains(SocketFamily family, UInt128 address) => family == Family && (address & _mask) == _address;

    /// <summary>Family and number of a native sockaddr; an IPv4 address mapped into IPv6 counts as IPv4, as in
    /// nginx.</summary>
    public static (SocketFamily Family, UInt128 Value) Read(ReadOnlySpan<byte> native)
    {
        ReadOnlySpan<byte> bytes = SocketAddress.AddressBytesOf(native);
        if (bytes.Length == 4)
        {
            return (SocketFamily.Inet, BinaryPrimitives.ReadUInt32BigEndian(bytes));
        }
        if (bytes.Length == 16)
        {
            UInt128 value = BinaryPrimitives.ReadUInt128BigEndian(bytes);
            return value >> 32 == 0xFFFF ? (SocketFamily.Inet, (uint)value) : (SocketFamily.Inet6, value);
        }
        return (SocketFamily.Unix, 0);
    }

    /// <summary>Whether a native sockaddr is in one of the networks.</summary>
    public static bool ContainsAny(ReadOnlySpan<Cidr> networks, ReadOnlySpan<byte> native)
    {
        (SocketFamily family, UInt128 value) = Read(native);
        foreach (ref readonly Cidr network in networks)
        {
            if (network.Contains(family, value))
            {
                return true;
            }
        }
        return false;
    }
}
