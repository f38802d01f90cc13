// Escaping and unescaping of URIs and HTML over spans, with nginx's character sets. Pure; the caller owns the
// destination and gives it enough room (three bytes for one in URIs, six in HTML).
namespace Weir.Protocol.Http1;

/// <summary>Escapes and unescapes.</summary>
public static class UriEscaper
{
    /// <summary>Bytes a URI path may grow to.</summary>
    public static int EscapedMax(int length) => length * 3;

    /// <summary>Escapes a path: controls, space, non-ASCII and <c># % ? " &lt; &gt; \ ^ ` { | }</c>.</summary>
    public static int EscapeUri(ReadOnlySpan<byte> text, Span<byte> destination) => Escape(text, destination, UriSet);

    /// <summary>Escapes an argument's value: what a path's set has, and <c>&amp; + ;</c>.</summary>
    public static int EscapeArgs(ReadOnlySpan<byte> text, Span<byte> destination) => Escape(text, destination, ArgsSet);

    /// <summary>Escapes all but unreserved characters.</summary>
    public static int EscapeUriComponent(ReadOnlySpan<byte> text, Span<byte> destination) =>
        Escape(text, destination, ComponentSet);

    /// <summary>Escapes what would end an attribute's value or is no character of a URI.</summary>
    public static int EscapeRefresh(ReadOnlySpan<byte> text, Span<byte> destination) =>
        Escape(text, destination, RefreshSet);

    /// <summary>Escapes <c>&lt; &gt; &amp; "</c> for HTML.</summary>
    public static int EscapeHtml(ReadOnlySpan<byte> text, Span<byte> destination)
    {
        int n = 0;
        foreach (byte c in text)
        {
            ReadOnlySpan<byte> entity = c switch
            {
                (byte)'<' => "&lt;"u8,
                (byte)'>' => "&gt;"u8,
                (byte)'&' => "&amp;"u8,
                (byte)'"' => "&quot;"u8,
                _ => default,
            };
            if (entity.IsEmpty)
            {
                destination[n++] = c;
                continue;
            }
            entity.CopyTo(destination[n..]);
            n += entity.Length;
        }
        return n;
    }

    /// <summary>Whether a path holds anything that <see cref="EscapeUri"/> would change.</summary>
    public static bool NeedsEscape(ReadOnlySpan<byte> text)
    {
        foreach (byte c in text)
        {
            if (IsIn(UriSet, c))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Decodes percent escapes as nginx does in arguments: of a broken escape the percent sign (and a first
    /// digit that has no second) is lost, the rest stays. May decode in place.</summary>
    public static int Unescape(ReadOnlySpan<byte> text, Span<byte> destination)
    {
        int n = 0;
        for (int i = 0; i < text.Length; i++)
        {
            byte c = text[i];
            if (c != '%')
            {
                destination[n++] = c;
                continue;
            }
            if (++i >= text.Length)
            {
                break;
            }
            int high = Hex.Value(text[i]);
            if (high < 0)
            {
                destination[n++] = text[i];
                continue;
            }
            if (++i >= text.Length)
            {
                break;
            }
            int low = Hex.Value(text[i]);
            if (low >= 0)
            {
                destination[n++] = (byte)(high << 4 | low);
            }
        }
        return n;
    }

    /// <summary>Decodes what need not be escaped in a redirect, in place, up to the question mark.</summary>
    public static int UnescapeRedirect(Span<byte> text)
    {
        int n = 0;
        for (int i = 0; i < text.Length; i++)
        {
            byte c = text[i];
            if (c == '?')
            {
                return CopyRest(text, i, n);
            }
            if (c != '%')
            {
                text[n++] = c;
                continue;
            }
            if (++i >= text.Length)
            {
                break;
            }
            int high = Hex.Value(text[i]);
            if (high < 0)
            {
                text[n++] = text[i];
                continue;
            }
            if (++i >= text.Length)
            {
                break;
            }
            int low = Hex.Value(text[i]);
            if (low < 0)
            {
                continue;
            }
            byte decoded = (byte)(high << 4 | low);
            // nginx ends at a question mark that was escaped only when its second digit is a letter: it always is.
            if (decoded == '?')
            {
                text[n++] = decoded;
                return CopyRest(text, i + 1, n);
            }
            if (decoded is > (byte)'%' and < 0x7F)
            {
                text[n++] = decoded;
                continue;
            }
            byte first = text[i - 1];
            byte second = text[i];
            text[n++] = (byte)'%';
            text[n++] = first;
            text[n++] = second;
        }
        return n;

        static int CopyRest(Span<byte> text, int from, int to)
        {
            text[from..].CopyTo(text[to..]);
            return to + text.Length - from;
        }
    }

    private static ReadOnlySpan<uint> UriSet =>
        [~0u, 0xD000002D, 0x50000000, 0xB8000001, ~0u, ~0u, ~0u, ~0u];

    private static ReadOnlySpan<uint> ArgsSet =>
        [~0u, 0xD800086D, 0x50000000, 0xB8000001, ~0u, ~0u, ~0u, ~0u];

    private static ReadOnlySpan<uint> ComponentSet =>
        [~0u, 0xFC009FFF, 0x78000001, 0xB8000001, ~0u, ~0u, ~0u, ~0u];

    private static ReadOnlySpan<uint> RefreshSet =>
        [~0u, 0x00000085, 0x10000000, 0x80000000, ~0u, ~0u, ~0u, ~0u];

    private static bool IsIn(ReadOnlySpan<uint> set, byte c) => (set[c >> 5] >> (c & 31) & 1) != 0;

    private static int Escape(ReadOnlySpan<byte> text, Span<byte> destination, ReadOnlySpan<uint> set)
    {
        int n = 0;
        foreach (byte c in text)
        {
            if (!IsIn(set, c))
            {
                destination[n++] = c;
                continue;
            }
            destination[n++] = (byte)'%';
            destination[n++] = Hex.Upper[c >> 4];
            destination[n++] = Hex.Upper[c & 15];
        }
        return n;
    }
}
