// User name and password of an Authorization header of the Basic scheme (RFC 7617), decoded into the request's arena.
// Shared by $remote_user and auth_basic; keeps nothing.
using Weir.Kernel;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal static class BasicCredentials
{
    /// <summary>False when there are none, or none that can be read.</summary>
    internal static bool TryRead(HttpRequest r, out NativeSlice user, out NativeSlice password)
    {
        user = default;
        password = default;
        if (r.HeadBytes.IsEmpty)
        {
            return false;
        }
        ReadOnlySpan<byte> text = r.Header(KnownHeader.Authorization).Span;
        if (text.Length <= 6 || !HeaderName.Same(text[..6], "Basic "u8))
        {
            return false;
        }
        text = text[6..].TrimStart((byte)' ');
        if (text.IsEmpty)
        {
            return false;
        }
        NativeSlice decoded = r.Arena.Allocate(text.Length);
        int length = Decode(text, decoded.Span);
        int colon = length < 0 ? -1 : decoded.Span[..length].IndexOf((byte)':');
        if (colon <= 0)
        {
            return false;
        }
        user = decoded.Slice(0, colon);
        password = decoded.Slice(colon + 1, length - colon - 1);
        return true;
    }

    /// <summary>Base 64 with or without its padding; -1 when malformed.</summary>
    private static int Decode(ReadOnlySpan<byte> text, Span<byte> target)
    {
        int n = 0;
        uint bits = 0;
        int count = 0;
        foreach (byte c in text)
        {
            if (c == '=')
            {
                break;
            }
            int value = c switch
            {
                >= (byte)'A' and <= (byte)'Z' => c - 'A',
                >= (byte)'a' and <= (byte)'z' => c - 'a' + 26,
                >= (byte)'0' and <= (byte)'9' => c - '0' + 52,
                (byte)'+' => 62,
                (byte)'/' => 63,
                _ => -1,
            };
            if (value < 0)
            {
                return -1;
            }
            bits = bits << 6 | (uint)value;
            if (++count == 4)
            {
                target[n++] = (byte)(bits >> 16);
                target[n++] = (byte)(bits >> 8);
                target[n++] = (byte)bits;
                count = 0;
                bits = 0;
            }
        }
        switch (count)
        {
            case 1:
                return -1;
            case 2:
                target[n++] = (byte)(bits >> 4);
                break;
            case 3:
                target[n++] = (byte)(bits >> 10);
                target[n++] = (byte)(bits >> 2);
                break;
        }
        return n;
    }
}
