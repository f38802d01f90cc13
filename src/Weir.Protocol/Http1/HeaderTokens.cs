// Small readers for the values of the headers that steer a connection: token lists, Connection, Content-Length. Pure,
// no memory.
namespace Weir.Protocol.Http1;

/// <summary>Readers of header values.</summary>
public static class HeaderTokens
{
    /// <summary>Takes the next non-empty element off a comma-separated list, surrounding white space removed. False at
    /// the end.</summary>
    public static bool Next(ref ReadOnlySpan<byte> list, out ReadOnlySpan<byte> token)
    {
        while (!list.IsEmpty)
        {
            int comma = list.IndexOf((byte)',');
            ReadOnlySpan<byte> element = comma < 0 ? list : list[..comma];
            list = comma < 0 ? default : list[(comma + 1)..];
            token = Trim(element);
            if (!token.IsEmpty)
            {
                return true;
            }
        }
        token = default;
        return false;
    }

    /// <summary>Without the spaces and tabs at both ends.</summary>
    public static ReadOnlySpan<byte> Trim(ReadOnlySpan<byte> text) => text.Trim(" \t"u8);

    /// <summary>Whether a comma-separated list has this token (ASCII case does not matter).</summary>
    public static bool Contains(ReadOnlySpan<byte> list, ReadOnlySpan<byte> token)
    {
        while (Next(ref list, out ReadOnlySpan<byte> element))
        {
            if (HeaderName.Same(element, token))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>What a Connection header's value says.</summary>
    public static ConnectionTokens Connection(ReadOnlySpan<byte> value)
    {
        if (HeaderName.Same(value, "keep-alive"u8))
        {
            return ConnectionTokens.KeepAlive;
        }
        ConnectionTokens tokens = ConnectionTokens.None;
        while (Next(ref value, out ReadOnlySpan<byte> token))
        {
            tokens |= HeaderName.Same(token, "keep-alive"u8) ? ConnectionTokens.KeepAlive
                : HeaderName.Same(token, "close"u8) ? ConnectionTokens.Close
                : HeaderName.Same(token, "upgrade"u8) ? ConnectionTokens.Upgrade
                : HeaderName.Same(token, "te"u8) ? ConnectionTokens.Te
                : ConnectionTokens.Other;
        }
        return tokens;
    }

    /// <summary>A length of digits only, or -1 (also when it does not fit).</summary>
    public static long ContentLength(ReadOnlySpan<byte> value)
    {
        if (value.IsEmpty)
        {
            return -1;
        }
        long length = 0;
        foreach (byte c in value)
        {
            uint digit = (uint)(c - '0');
            if (digit > 9 || length > (long.MaxValue - digit) / 10)
            {
                return -1;
            }
            length = length * 10 + digit;
        }
        return length;
    }
}
