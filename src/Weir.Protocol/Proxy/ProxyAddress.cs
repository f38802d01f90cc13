// An IPv4 or IPv6 address with a port as a value, read from and written as text without memory. Used by the PROXY
// codec, where addresses come as text and as bytes.
using System.Buffers.Binary;

namespace Weir.Protocol.Proxy;

/// <summary>An address and a port; no family when <see cref="IsNone"/>.</summary>
public readonly record struct ProxyAddress
{
    private readonly ulong _high;
    private readonly ulong _low;
    private readonly byte _length;

    /// <summary>From 4 or 16 bytes in network order.</summary>
    public ProxyAddress(ReadOnlySpan<byte> bytes, int port)
    {
        Port = (ushort)port;
        _length = (byte)bytes.Length;
        if (bytes.Length == 4)
        {
            _low = BinaryPrimitives.ReadUInt32BigEndian(bytes);
        }
        else if (bytes.Length == 16)
        {
            _high = BinaryPrimitives.ReadUInt64BigEndian(bytes);
            _low = BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]);
        }
        else
        {
            _length = 0;
        }
    }

    public ushort Port { get; }
    public bool IsNone => _length == 0;
    public bool IsIPv4 => _length == 4;
    public bool IsIPv6 => _length == 16;

    /// <summary>Room for any address in text.</summary>
    public const int TextMax = 45;

    /// <summary>Writes the 4 or 16 bytes and returns how many.</summary>
    public int CopyTo(Span<byte> destination)
    {
        if (_length == 4)
        {
            BinaryPrimitives.WriteUInt32BigEndian(destination, (uint)_low);
        }
        else if (_length == 16)
        {
            BinaryPrimitives.WriteUInt64BigEndian(destination, _high);
            BinaryPrimitives.WriteUInt64BigEndian(destination[8..], _low);
        }
        return _length;
    }

    /// <summary>Reads an address: dotted decimal without leading zeros, or RFC 4291 text without zone.</summary>
    public static bool TryParse(ReadOnlySpan<byte> text, int port, out ProxyAddress address)
    {
        Span<byte> bytes = stackalloc byte[16];
        if (TryParseIPv4(text, bytes))
        {
            address = new ProxyAddress(bytes[..4], port);
            return true;
        }
        if (TryParseIPv6(text, bytes))
        {
            address = new ProxyAddress(bytes, port);
            return true;
        }
        address = default;
        return false;
    }

    /// <summary>Writes the address (no port) and returns its length; IPv6 as in RFC 5952.</summary>
    public int Format(Span<byte> destination)
    {
        if (_length == 4)
        {
            return FormatIPv4((uint)_low, destination);
        }
        if (_length != 16)
        {
            return 0;
        }
        if (_high == 0 && _low >> 32 == 0xFFFF)
        {
            "::ffff:"u8.CopyTo(destination);
            return 7 + FormatIPv4((uint)_low, destination[7..]);
        }
        int bestStart = -1, bestLength = 1, runStart = -1;
        for (int i = 0; i <= 8; i++)
        {
            if (i < 8 && Group(i) == 0)
            {
                runStart = runStart < 0 ? i : runStart;
            }
            else if (runStart >= 0)
            {
                if (i - runStart > bestLength)
                {
                    bestStart = runStart;
                    bestLength = i - runStart;
                }
                runStart = -1;
            }
        }
        int n = 0;
        for (int i = 0; i < 8; i++)
        {
            if (i == bestStart)
            {
                destination[n++] = (byte)':';
                destination[n++] = (byte)':';
                i += bestLength - 1;
                continue;
            }
            if (i > 0 && i != bestStart + bestLength)
            {
                destination[n++] = (byte)':';
            }
            System.Buffers.Text.Utf8Formatter.TryFormat(Group(i), destination[n..], out int written, 'x');
            n += written;
        }
        return n;
    }

    private ushort Group(int index) => (ushort)((index < 4 ? _high : _low) >> (3 - (index & 3)) * 16);

    private static int FormatIPv4(uint address, Span<byte> destination)
    {
        int n = 0;
        for (int shift = 24; shift >= 0; shift -= 8)
        {
            System.Buffers.Text.Utf8Formatter.TryFormat((byte)(address >> shift), destination[n..], out int written);
            n += written;
            if (shift > 0)
            {
                destination[n++] = (byte)'.';
            }
        }
        return n;
    }

    private static bool TryParseIPv4(ReadOnlySpan<byte> text, Span<byte> bytes)
    {
        int octet = 0, value = -1, index = 0;
        foreach (byte c in text)
        {
            if (c == '.')
            {
                if (value < 0 || index == 3)
                {
                    return false;
                }
                bytes[index++] = (byte)octet;
                octet = 0;
                value = -1;
                continue;
            }
            uint digit = (uint)(c - '0');
            if (digit > 9 || value == 0)
            {
                return false;
            }
            octet = octet * 10 + (int)digit;
            value = octet;
            if (octet > 255)
            {
                return false;
            }
        }
        if (value < 0 || index != 3)
        {
            return false;
        }
        bytes[3] = (byte)octet;
        return true;
    }

    private static bool TryParseIPv6(ReadOnlySpan<byte> text, Span<byte> bytes)
    {
        bytes.Clear();
        int n = 0, gap = -1, i = 0;
        if (text.StartsWith("::"u8))
        {
            gap = 0;
            i = 2;
        }
        while (i < text.Length)
        {
            if (n == 16)
            {
                return false;
            }
            int start = i, value = 0;
            while (i < text.Length && i - start < 4 && Http1.Hex.Value(text[i]) >= 0)
            {
                value = value << 4 | Http1.Hex.Value(text[i++]);
            }
            if (i == start)
            {
                return false;
            }
            if (i < text.Length && text[i] == '.')
            {
                if (n > 12 || !TryParseIPv4(text[start..], bytes[n..]))
                {
                    return false;
                }
                n += 4;
                break;
            }
            BinaryPrimitives.WriteUInt16BigEndian(bytes[n..], (ushort)value);
            n += 2;
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
                gap = n;
                i++;
            }
        }
        if (gap < 0)
        {
            return n == 16;
        }
        if (n == 16)
        {
            return false;
        }
        int tail = n - gap;
        bytes[gap..n].CopyTo(bytes[(16 - tail)..]);
        bytes[gap..(16 - tail)].Clear();
        return true;
    }
}
