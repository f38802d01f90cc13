// Whether a client may be given gzip: Accept-Encoding, gzip_http_version, gzip_proxied, gzip_disable. Shared by gzip,
// gzip_static and gunzip, like the core settings it stands on in nginx. Pure over the request.
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>gzip_proxied's bits.</summary>
[Flags]
internal enum GzipProxied
{
    Off = 2,
    Expired = 4,
    NoCache = 8,
    NoStore = 16,
    Private = 32,
    NoLastModified = 64,
    NoETag = 128,
    Auth = 256,
    Any = 512,
}

/// <summary>The rules of one location.</summary>
internal sealed class GzipAcceptance(int httpVersion, GzipProxied proxied, bool disablesMsie6, Regex[] disabled)
{
    internal bool Accepts(HttpRequest r)
    {
        ReadOnlySpan<byte> encodings = r.Header(KnownHeader.AcceptEncoding).Span;
        if (!r.IsMain || encodings.Length < 4 || !encodings.StartsWith("gzip,"u8) && !AcceptsGzip(encodings))
        {
            return false;
        }
        if (r.Version < httpVersion || disablesMsie6 && IsMsie6(r.Header(KnownHeader.UserAgent).Span))
        {
            return false;
        }
        if (!r.Header(KnownHeader.Via).IsEmpty && !AcceptsProxied(r))
        {
            return false;
        }
        if (disabled.Length > 0)
        {
            NativeSlice agent = r.Header(KnownHeader.UserAgent);
            foreach (Regex regex in disabled)
            {
                switch (agent.IsEmpty ? RegexOutcome.NoMatch : regex.Test(agent.Span))
                {
                    case RegexOutcome.Match:
                        return false;
                    case RegexOutcome.Failed:
                        r.FailMatch(agent, regex.Source);
                        return false;
                }
            }
        }
        return true;
    }

    private bool AcceptsProxied(HttpRequest r)
    {
        if ((proxied & GzipProxied.Off) != 0)
        {
            return false;
        }
        if ((proxied & GzipProxied.Any) != 0
            || (proxied & GzipProxied.Auth) != 0 && !r.Header(KnownHeader.Authorization).IsEmpty)
        {
            return true;
        }
        ResponseHead head = r.Response;
        NativeSlice expires = head.Value(KnownResponseHeader.Expires);
        if (!expires.IsEmpty)
        {
            if ((proxied & GzipProxied.Expired) == 0 || !HttpDate.TryParse(expires.Span, out long expiry))
            {
                return false;
            }
            long now = !head.Date.IsEmpty && HttpDate.TryParse(head.Date.Span, out long date) ? date
                : r.Loop.UnixMs / 1000;
            return expiry < now;
        }
        NativeSlice control = head.Value(KnownResponseHeader.CacheControl);
        if (!control.IsEmpty)
        {
            ReadOnlySpan<byte> list = control.Span;
            return (proxied & GzipProxied.NoCache) != 0 && HeaderTokens.Contains(list, "no-cache"u8)
                || (proxied & GzipProxied.NoStore) != 0 && HeaderTokens.Contains(list, "no-store"u8)
                || (proxied & GzipProxied.Private) != 0 && HeaderTokens.Contains(list, "private"u8);
        }
        if ((proxied & GzipProxied.NoLastModified) != 0 && !head.LastModifiedText.IsEmpty)
        {
            return false;
        }
        return (proxied & GzipProxied.NoETag) == 0 || head.Value(KnownResponseHeader.ETag).IsEmpty;
    }

    /// <summary>Finds gzip in the list, with a quality above zero.</summary>
    internal static bool AcceptsGzip(ReadOnlySpan<byte> list)
    {
        int at = 0;
        while (true)
        {
            if (at + 4 > list.Length)
            {
                return false;
            }
            if (HeaderName.Same(list.Slice(at, 4), "gzip"u8) && (at == 0 || list[at - 1] is (byte)',' or (byte)' '))
            {
                break;
            }
            at++;
        }
        ReadOnlySpan<byte> rest = list[(at + 4)..].TrimStart((byte)' ');
        if (rest.IsEmpty || rest[0] == ',')
        {
            return true;
        }
        if (rest[0] != ';')
        {
            return false;
        }
        rest = rest[1..].TrimStart((byte)' ');
        if (rest.IsEmpty)
        {
            return true;
        }
        return rest.Length >= 3 && rest[0] is (byte)'q' or (byte)'Q' && rest[1] == '=' && Quality(rest[2..]) > 0;
    }

    /// <summary>A quality in hundredths as nginx sums it; 0 for none or a wrong one.</summary>
    private static int Quality(ReadOnlySpan<byte> text)
    {
        if (text[0] is not ((byte)'0' or (byte)'1'))
        {
            return 0;
        }
        int quality = (text[0] - '0') * 100;
        if (text.Length == 1 || text[1] is (byte)',' or (byte)' ')
        {
            return quality;
        }
        if (text[1] != '.')
        {
            return 0;
        }
        int digits = 0;
        foreach (byte c in text[2..])
        {
            if (c is (byte)',' or (byte)' ')
            {
                break;
            }
            if (c is < (byte)'0' or > (byte)'9')
            {
                return 0;
            }
            quality += c - '0';
            digits++;
        }
        return quality > 100 || digits > 3 ? 0 : quality;
    }

    /// <summary>MSIE 4 to 6, without the service pack that cured it.</summary>
    private static bool IsMsie6(ReadOnlySpan<byte> agent)
    {
        int at = agent.IndexOf("MSIE "u8);
        if (at < 0 || at + 7 >= agent.Length || agent[at + 6] != '.')
        {
            return false;
        }
        byte version = agent[at + 5];
        return version is (byte)'4' or (byte)'5' || version == '6' && agent[(at + 8)..].IndexOf("SV1"u8) < 0;
    }
}
