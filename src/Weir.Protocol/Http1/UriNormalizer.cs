// A request's path to the path that locations and files are matched with: percent decoding, "." and ".." segments,
// slashes merged, as nginx does it. One pass, into a span of the caller's (which the result never outgrows).
namespace Weir.Protocol.Http1;

/// <summary>How the normalisation of a path ended.</summary>
public enum UriOutcome : byte
{
    Ok,
    /// <summary>A percent sign without two hexadecimal digits.</summary>
    BadPercent,
    /// <summary>An encoded NUL.</summary>
    EncodedNul,
    /// <summary>A control character that is not encoded.</summary>
    Control,
    /// <summary>".." above the root.</summary>
    AboveRoot,
    /// <summary>The path does not begin with a slash.</summary>
    NotAbsolute,
    /// <summary>The destination is shorter than the path.</summary>
    NoRoom,
}

/// <summary>Normalises paths.</summary>
public static class UriNormalizer
{
    private enum State : byte
    {
        Usual, Slash, Dot, DotDot,
    }

    /// <summary>Decodes and normalises the path of a target (no query, no fragment; empty counts as "/"). The
    /// destination must be at least as long as the path, and at least one byte.</summary>
    public static UriOutcome Normalize(
        ReadOnlySpan<byte> path, Span<byte> destination, bool mergeSlashes, out int written)
    {
        written = 0;
        if (destination.Length < Math.Max(1, path.Length))
        {
            return UriOutcome.NoRoom;
        }
        if (path.IsEmpty)
        {
            destination[0] = (byte)'/';
            written = 1;
            return UriOutcome.Ok;
        }
        if (path[0] != '/')
        {
            return UriOutcome.NotAbsolute;
        }
        destination[0] = (byte)'/';
        int u = 1;
        State state = State.Slash;
        int i = 1;
        while (i < path.Length)
        {
            byte c = path[i++];
            bool encoded = c == '%';
            if (encoded)
            {
                int high = i < path.Length ? Hex.Value(path[i]) : -1;
                int low = i + 1 < path.Length ? Hex.Value(path[i + 1]) : -1;
                if (high < 0 || low < 0)
                {
                    return UriOutcome.BadPercent;
                }
                c = (byte)(high << 4 | low);
                i += 2;
                if (c == 0)
                {
                    return UriOutcome.EncodedNul;
                }
            }
            else if (c < 0x20 || c == 0x7f)
            {
                return UriOutcome.Control;
            }
            switch (c)
            {
                case (byte)'/':
                    if (state == State.DotDot && !Up(destination, ref u))
                    {
                        return UriOutcome.AboveRoot;
                    }
                    if (state == State.Dot)
                    {
                        u--;
                    }
                    else if (state == State.Usual || state == State.Slash && !mergeSlashes)
                    {
                        destination[u++] = c;
                    }
                    state = State.Slash;
                    break;
                case (byte)'.':
                    destination[u++] = c;
                    state = state switch
                    {
                        State.Slash => State.Dot,
                        State.Dot => State.DotDot,
                        _ => State.Usual,
                    };
                    break;
                default:
                    destination[u++] = c;
                    state = State.Usual;
                    break;
            }
        }
        if (state == State.DotDot)
        {
            if (!Up(destination, ref u))
            {
                return UriOutcome.AboveRoot;
            }
        }
        else if (state == State.Dot)
        {
            u--;
        }
        written = u;
        return UriOutcome.Ok;
    }

    /// <summary>The path in the destination ends in "/x/..": cuts it back to the slash before x.</summary>
    private static bool Up(Span<byte> destination, ref int u)
    {
        u -= 4;
        while (true)
        {
            if (u < 0)
            {
                return false;
            }
            if (destination[u] == '/')
            {
                u++;
                return true;
            }
            u--;
        }
    }

    /// <summary>The extension of a normalised path's last segment (what <c>types</c> look up), without the dot; empty
    /// when there is none. As in nginx a segment's leading dots (up to three) begin no extension.</summary>
    public static ReadOnlySpan<byte> Extension(ReadOnlySpan<byte> path)
    {
        // By hand: extensions are short.
        int dot = path.Length - 1;
        while ((uint)dot < (uint)path.Length && path[dot] != '.' && path[dot] != '/')
        {
            dot--;
        }
        if (dot < 0 || path[dot] != '.')
        {
            return default;
        }
        bool leading = true;
        for (int i = dot - 1; i >= 0 && path[i] != '/'; i--)
        {
            if (path[i] != '.' || dot - i > 2)
            {
                leading = false;
                break;
            }
        }
        return leading ? default : path[(dot + 1)..];
    }
}
