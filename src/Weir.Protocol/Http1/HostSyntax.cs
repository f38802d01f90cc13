// The syntax of a host with an optional port, as it stands in a Host header, an absolute target or an :authority
// (RFC 3986 §3.2). Pure, no memory.
namespace Weir.Protocol.Http1;

/// <summary>Where host and port stand in an authority.</summary>
public readonly struct HostParts(int hostLength, int portStart, int portLength, int port, bool hasUpper)
{
    /// <summary>Length of the host, brackets of an IPv6 literal included, one trailing dot not.</summary>
    public readonly int HostLength = hostLength;
    public readonly int PortStart = portStart;
    public readonly int PortLength = portLength;
    /// <summary>The port, or 0 when there is none.</summary>
    public readonly int Port = port;
    public readonly bool HasUpper = hasUpper;
}

/// <summary>Reads <c>host[:port]</c>.</summary>
public static class HostSyntax
{
    /// <summary>False when the bytes are no host: empty, a character outside RFC 3986's host, two dots in a row, a
    /// broken literal, a port that is no number up to 65535.</summary>
    public static bool TryParse(ReadOnlySpan<byte> text, out HostParts parts)
    {
        ReadOnlySpan<byte> classes = HostClass;
        int seen = 0;
        foreach (byte c in text)
        {
            seen |= classes[c];
        }
        if (seen < 4 && text.Length > 0 && (seen < 2 || text[^1] != '.' && text.IndexOf(".."u8) < 0))
        {
            parts = new HostParts(text.Length, text.Length, 0, 0, (seen & 1) != 0);
            return true;
        }
        return TryParseAny(text, out parts);
    }

    /// <summary>0 letter in lower case, digit or hyphen; 1 letter in upper case; 2 dot; 4 anything else.</summary>
    private static ReadOnlySpan<byte> HostClass =>
    [
        4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,
        4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 0, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4,
        4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 4, 4, 4, 4,
        4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4,
        4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,
        4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,
        4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,
        4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,
    ];

    private static bool TryParseAny(ReadOnlySpan<byte> text, out HostParts parts)
    {
        parts = default;
        int i = 0;
        bool upper = false;
        if (text.Length > 0 && text[0] == '[')
        {
            i = LiteralLength(text, ref upper);
            if (i == 0)
            {
                return false;
            }
        }
        else
        {
            byte previous = 0;
            for (; i < text.Length; i++)
            {
                byte c = text[i];
                if ((uint)((c | 0x20) - 'a') <= 'z' - 'a')
                {
                    upper |= c < 'a';
                }
                else if (c == ':')
                {
                    break;
                }
                else if ((uint)(c - '0') > 9 && c != '-' && !IsOtherHostByte(text, i, previous))
                {
                    return false;
                }
                previous = c;
            }
        }
        int hostLength = i;
        if (hostLength > 0 && text[hostLength - 1] == '.')
        {
            hostLength--;
        }
        if (hostLength == 0)
        {
            return false;
        }
        if (i == text.Length)
        {
            parts = new HostParts(hostLength, i, 0, 0, upper);
            return true;
        }
        if (text[i] != ':')
        {
            return false;
        }
        int portStart = ++i;
        int port = 0;
        for (; i < text.Length; i++)
        {
            uint digit = (uint)(text[i] - '0');
            if (digit > 9)
            {
                return false;
            }
            port = port * 10 + (int)digit;
            if (port > 65535)
            {
                return false;
            }
        }
        parts = new HostParts(hostLength, portStart, i - portStart, port, upper);
        return true;
    }

    private static bool IsOtherHostByte(ReadOnlySpan<byte> text, int i, byte previous)
    {
        switch (text[i])
        {
            case (byte)'.':
                return previous != '.';
            case (byte)'_' or (byte)'~' or (byte)'!' or (byte)'$' or (byte)'&' or (byte)'\'' or (byte)'(' or (byte)')'
                or (byte)'*' or (byte)'+' or (byte)',' or (byte)';' or (byte)'=':
                return true;
            case (byte)'%':
                return i + 2 < text.Length && Hex.IsDigit(text[i + 1]) && Hex.IsDigit(text[i + 2]);
            default:
                return false;
        }
    }

    /// <summary>Length of <c>[…]</c> with the brackets, or 0 when it is not an IPv6 address or a future
    /// literal.</summary>
    private static int LiteralLength(ReadOnlySpan<byte> text, ref bool upper)
    {
        int close = text.IndexOf((byte)']');
        if (close < 3)
        {
            return 0;
        }
        bool future = (text[1] | 0x20) == 'v';
        for (int i = 1; i < close; i++)
        {
            byte c = text[i];
            bool letter = (uint)((c | 0x20) - 'a') <= 'z' - 'a';
            upper |= letter && c < 'a';
            bool fine = Hex.IsDigit(c) || c == ':' || c == '.'
                || future && (letter || i > 1 && c != '.' && c != '%' && IsOtherHostByte(text, i, 0));
            if (!fine)
            {
                return 0;
            }
        }
        return close + 1;
    }
}
