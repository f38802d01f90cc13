// Cache-Control (RFC 9111 §5.2, RFC 5861, RFC 8246) and its targeted form CDN-Cache-Control (RFC 9213), read from a
// field's text into numbers and flags. Pure: text in, values out. Several lines of a field are read one after the
// other into the same object; of a repeated directive the stricter value counts.
using Weir.Protocol.Http1;

namespace Weir.Http.Cache;

/// <summary>Directives without an argument, of requests and responses.</summary>
[Flags]
public enum CacheFlags : ushort
{
    None = 0,
    NoStore = 1,

    /// <summary>Without field names: nothing may be used unasked.</summary>
    NoCache = 2,

    /// <summary>Without field names: not for shared caches.</summary>
    Private = 4,
    Public = 8,
    MustRevalidate = 16,
    ProxyRevalidate = 32,
    MustUnderstand = 64,
    OnlyIfCached = 128,

    /// <summary>no-cache or private with field names: those fields are not kept.</summary>
    Fields = 256,

    /// <summary>max-stale without a number.</summary>
    AnyStale = 512,
}

/// <summary>What Cache-Control says; -1 for what it does not.</summary>
public struct CacheControl()
{
    public CacheFlags Flags;
    public long MaxAge = -1;
    public long SharedMaxAge = -1;
    public long StaleWhileRevalidate = -1;
    public long StaleIfError = -1;
    public long MinFresh = -1;
    public long MaxStale = -1;

    /// <summary>Some directive was there.</summary>
    public bool IsPresent;

    public readonly bool Has(CacheFlags flag) => (Flags & flag) != 0;

    /// <summary>Reads one line of Cache-Control.</summary>
    public void Read(ReadOnlySpan<byte> text)
    {
        while (NextDirective(ref text, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value, out bool hasValue))
        {
            IsPresent = true;
            Take(name, value, hasValue);
        }
    }

    private void Take(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, bool hasValue)
    {
        switch (name.Length)
        {
            case 6 when Same(name, "public"u8):
                Flags |= CacheFlags.Public;
                break;
            case 7 when Same(name, "private"u8):
                Flags |= value.IsEmpty ? CacheFlags.Private : CacheFlags.Fields;
                break;
            case 7 when Same(name, "max-age"u8):
                Take(ref MaxAge, value);
                break;
            case 8 when Same(name, "no-cache"u8):
                Flags |= value.IsEmpty ? CacheFlags.NoCache : CacheFlags.Fields;
                break;
            case 8 when Same(name, "no-store"u8):
                Flags |= CacheFlags.NoStore;
                break;
            case 8 when Same(name, "s-maxage"u8):
                Take(ref SharedMaxAge, value);
                break;
            case 9 when Same(name, "min-fresh"u8):
                Take(ref MinFresh, value);
                break;
            case 9 when Same(name, "max-stale"u8):
                if (hasValue)
                {
                    Take(ref MaxStale, value);
                }
                else
                {
                    Flags |= CacheFlags.AnyStale;
                }
                break;
            case 14 when Same(name, "stale-if-error"u8):
                Take(ref StaleIfError, value);
                break;
            case 14 when Same(name, "only-if-cached"u8):
                Flags |= CacheFlags.OnlyIfCached;
                break;
            case 15 when Same(name, "must-revalidate"u8):
                Flags |= CacheFlags.MustRevalidate;
                break;
            case 15 when Same(name, "must-understand"u8):
                Flags |= CacheFlags.MustUnderstand;
                break;
            case 16 when Same(name, "proxy-revalidate"u8):
                Flags |= CacheFlags.ProxyRevalidate;
                break;
            case 22 when Same(name, "stale-while-revalidate"u8):
                Take(ref StaleWhileRevalidate, value);
                break;
        }
    }

    private static bool Same(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b) => HeaderName.Same(a, b);

    private static void Take(ref long place, ReadOnlySpan<byte> value)
    {
        // What cannot be read is stale at once (RFC 9111 §4.2.1); what does not fit is very long.
        long seconds = Seconds(value);
        place = place < 0 ? seconds : Math.Min(place, seconds);
    }

    /// <summary>The longest time that is told apart: 2^31 seconds (RFC 9111 §1.2.2).</summary>
    public const long SecondsMax = 1L << 31;

    /// <summary>delta-seconds; 0 for what is none.</summary>
    public static long Seconds(ReadOnlySpan<byte> value)
    {
        long seconds = 0;
        foreach (byte c in value)
        {
            if (c is < (byte)'0' or > (byte)'9')
            {
                return 0;
            }
            seconds = Math.Min(SecondsMax, seconds * 10 + (c - '0'));
        }
        return seconds;
    }

    /// <summary>Takes the next directive off a list; a quoted value comes without its quotes.</summary>
    public static bool NextDirective(ref ReadOnlySpan<byte> text, out ReadOnlySpan<byte> name,
        out ReadOnlySpan<byte> value, out bool hasValue)
    {
        text = text.TrimStart(" \t,"u8);
        int end = text.IndexOfAny((byte)',', (byte)'=');
        value = default;
        hasValue = end >= 0 && text[end] == '=';
        if (!hasValue)
        {
            name = HeaderTokens.Trim(end < 0 ? text : text[..end]);
            text = end < 0 ? default : text[(end + 1)..];
            return !name.IsEmpty;
        }
        name = HeaderTokens.Trim(text[..end]);
        text = text[(end + 1)..].TrimStart(" \t"u8);
        if (!text.IsEmpty && text[0] == '"')
        {
            int close = ClosingQuote(text[1..]);
            value = HeaderTokens.Trim(close < 0 ? text[1..] : text.Slice(1, close));
            text = close < 0 ? default : text[(close + 2)..];
        }
        else
        {
            int comma = text.IndexOf((byte)',');
            value = HeaderTokens.Trim(comma < 0 ? text : text[..comma]);
            text = comma < 0 ? default : text[(comma + 1)..];
        }
        return !name.IsEmpty || !text.IsEmpty;
    }

    /// <summary>Where a quoted text ends; what a backslash stands before does not end it.</summary>
    private static int ClosingQuote(ReadOnlySpan<byte> text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == '"')
            {
                return i;
            }
            i += text[i] == '\\' ? 1 : 0;
        }
        return -1;
    }

    /// <summary>Whether a field is named by no-cache="…" or private="…" in this line.</summary>
    public static bool Names(ReadOnlySpan<byte> text, ReadOnlySpan<byte> field)
    {
        while (NextDirective(ref text, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value, out _))
        {
            if (!value.IsEmpty && (HeaderName.Same(name, "no-cache"u8) || HeaderName.Same(name, "private"u8))
                && HeaderTokens.Contains(value, field))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Whether the text is a dictionary as a targeted field has it (RFC 9213 §2.1, RFC 8941): lower-case keys,
    /// integers without quotes. Anything else makes the field absent.</summary>
    public static bool IsDictionary(ReadOnlySpan<byte> text)
    {
        text = HeaderTokens.Trim(text);
        if (text.IsEmpty)
        {
            return false;
        }
        while (true)
        {
            int comma = text.IndexOf((byte)',');
            if (!IsMember(HeaderTokens.Trim(comma < 0 ? text : text[..comma])))
            {
                return false;
            }
            if (comma < 0)
            {
                return true;
            }
            text = text[(comma + 1)..];
        }
    }

    private static bool IsMember(ReadOnlySpan<byte> member)
    {
        int semicolon = member.IndexOf((byte)';');
        member = semicolon < 0 ? member : member[..semicolon];
        int equals = member.IndexOf((byte)'=');
        ReadOnlySpan<byte> key = equals < 0 ? member : member[..equals];
        if (key.IsEmpty || key[0] is not ((>= (byte)'a' and <= (byte)'z') or (byte)'*'))
        {
            return false;
        }
        foreach (byte c in key)
        {
            if (c is not ((>= (byte)'a' and <= (byte)'z') or (>= (byte)'0' and <= (byte)'9') or (byte)'_' or (byte)'-'
                or (byte)'.' or (byte)'*'))
            {
                return false;
            }
        }
        if (equals < 0)
        {
            return true;
        }
        ReadOnlySpan<byte> value = member[(equals + 1)..];
        bool timed = HeaderName.Same(key, "max-age"u8) || HeaderName.Same(key, "s-maxage"u8)
            || key.StartsWith("stale-"u8);
        return !value.IsEmpty && (!timed || value.IndexOfAnyExceptInRange((byte)'0', (byte)'9') < 0);
    }
}
