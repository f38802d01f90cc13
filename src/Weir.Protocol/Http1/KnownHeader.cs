// The header names that have a number, so that a head finds them in one step: the two enums and the table from name to
// number. The table is built once, holds no collision for its own names, and is read only afterwards.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Weir.Protocol.Http1;

/// <summary>Request headers with a number.</summary>
public enum KnownHeader : byte
{
    None,
    Host, Connection, ContentLength, TransferEncoding, Expect, Upgrade, KeepAlive, Te, Trailer, UserAgent, Accept,
    AcceptEncoding, AcceptLanguage, AcceptCharset, Referer, Cookie, Authorization, ProxyAuthorization,
    ProxyConnection, ContentType, ContentRange, ContentEncoding, Range, IfRange, IfMatch, IfNoneMatch,
    IfModifiedSince, IfUnmodifiedSince, CacheControl, Pragma, Origin, XForwardedFor, XForwardedProto,
    XForwardedHost, XForwardedPort, XRealIp, XRequestId, XRequestedWith, Forwarded, Via, Date, Dnt, Priority,
    UpgradeInsecureRequests, SecFetchSite, SecFetchMode, SecFetchDest, SecFetchUser, SecChUa, SecChUaMobile,
    SecChUaPlatform, SecWebSocketKey, SecWebSocketVersion, SecWebSocketProtocol, SecWebSocketExtensions,
    Destination, Depth, Overwrite, Http2Settings, EarlyData, Traceparent,
}

/// <summary>Response headers with a number.</summary>
public enum KnownResponseHeader : byte
{
    None,
    Status, ContentType, ContentLength, TransferEncoding, Connection, KeepAlive, Upgrade, Trailer, Location,
    Refresh, SetCookie, WwwAuthenticate, ProxyAuthenticate, LastModified, ETag, Expires, CacheControl, Pragma, Vary,
    Age, Date, Server, Link, AcceptRanges, ContentRange, ContentEncoding, ContentLanguage, ContentDisposition,
    XAccelRedirect, XAccelExpires, XAccelLimitRate, XAccelBuffering, XAccelCharset, XPoweredBy, P3p, Via, Allow,
    RetryAfter, StrictTransportSecurity, ContentSecurityPolicy, XContentTypeOptions, XFrameOptions,
    AccessControlAllowOrigin, AltSvc, SetCookie2, ContentLocation, Warning, XPad, XCache, XRequestId,
    ProxyConnection, ProxyStatus,
}

/// <summary>Names with numbers from 1, in the order of their enum.</summary>
internal sealed class KnownNames
{
    public const int CountMax = 64;

    public static readonly KnownNames Request = new(
    [
        "Host", "Connection", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade", "Keep-Alive", "TE",
        "Trailer", "User-Agent", "Accept", "Accept-Encoding", "Accept-Language", "Accept-Charset", "Referer",
        "Cookie", "Authorization", "Proxy-Authorization", "Proxy-Connection", "Content-Type", "Content-Range",
        "Content-Encoding", "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since",
        "If-Unmodified-Since", "Cache-Control", "Pragma", "Origin", "X-Forwarded-For", "X-Forwarded-Proto",
        "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP", "X-Request-ID", "X-Requested-With", "Forwarded", "Via",
        "Date", "DNT", "Priority", "Upgrade-Insecure-Requests", "Sec-Fetch-Site", "Sec-Fetch-Mode",
        "Sec-Fetch-Dest", "Sec-Fetch-User", "Sec-CH-UA", "Sec-CH-UA-Mobile", "Sec-CH-UA-Platform",
        "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions",
        "Destination", "Depth", "Overwrite", "HTTP2-Settings", "Early-Data", "Traceparent",
    ]);

    public static readonly KnownNames Response = new(
    [
        "Status", "Content-Type", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade",
        "Trailer", "Location", "Refresh", "Set-Cookie", "WWW-Authenticate", "Proxy-Authenticate", "Last-Modified",
        "ETag", "Expires", "Cache-Control", "Pragma", "Vary", "Age", "Date", "Server", "Link", "Accept-Ranges",
        "Content-Range", "Content-Encoding", "Content-Language", "Content-Disposition", "X-Accel-Redirect",
        "X-Accel-Expires", "X-Accel-Limit-Rate", "X-Accel-Buffering", "X-Accel-Charset", "X-Powered-By", "P3P",
        "Via", "Allow", "Retry-After", "Strict-Transport-Security", "Content-Security-Policy",
        "X-Content-Type-Options", "X-Frame-Options", "Access-Control-Allow-Origin", "Alt-Svc", "Set-Cookie2",
        "Content-Location", "Warning", "X-Pad", "X-Cache", "X-Request-ID", "Proxy-Connection", "Proxy-Status",
    ]);

    private const int SlotBits = 10;
    private readonly byte[][] _names;
    private readonly byte[] _slots = new byte[1 << SlotBits];
    private readonly uint _multiplier;

    private KnownNames(string[] names)
    {
        _names = new byte[names.Length + 1][];
        _names[0] = [];
        uint[] hashes = new uint[names.Length + 1];
        for (int i = 1; i < _names.Length; i++)
        {
            _names[i] = System.Text.Encoding.ASCII.GetBytes(names[i - 1]);
            hashes[i] = HeaderName.Hash(_names[i]);
        }
        // A multiplier that gives every name a slot of its own; about one in five does.
        _multiplier = 0x9E3779B1;
        while (!TryFill(hashes, _multiplier))
        {
            _multiplier = _multiplier * 1664525 + 1013904222 | 1;
        }
    }

    /// <summary>The number of a name, or 0. The name may be in any case; the hash must be its own.</summary>
    public byte Find(ReadOnlySpan<byte> name, uint hash)
    {
        byte id = _slots[(int)(hash * _multiplier >> (32 - SlotBits))];
        return id != 0 && HeaderName.Same(_names[id], name) ? id : (byte)0;
    }

    /// <summary>As <see cref="Find"/>, for a name that is known to hold letters, digits and hyphens (and underscores)
    /// only: among those setting bit 5 folds case and nothing else that could equal a known name.</summary>
    public byte FindPlain(ReadOnlySpan<byte> name, uint hash)
    {
        byte id = _slots[(int)(hash * _multiplier >> (32 - SlotBits))];
        byte[] known = _names[id];
        if (known.Length != name.Length || id == 0)
        {
            return 0;
        }
        ref byte a = ref MemoryMarshal.GetArrayDataReference(known);
        ref byte b = ref MemoryMarshal.GetReference(name);
        int length = known.Length;
        if (length >= sizeof(ulong))
        {
            for (int i = 0; i < length - sizeof(ulong); i += sizeof(ulong))
            {
                if (Differ8(ref Unsafe.Add(ref a, i), ref Unsafe.Add(ref b, i)))
                {
                    return 0;
                }
            }
            length -= sizeof(ulong);
            return Differ8(ref Unsafe.Add(ref a, length), ref Unsafe.Add(ref b, length)) ? (byte)0 : id;
        }
        for (int i = 0; i < length; i++)
        {
            if (((Unsafe.Add(ref a, i) ^ Unsafe.Add(ref b, i)) & ~0x20) != 0)
            {
                return 0;
            }
        }
        return id;
    }

    private static bool Differ8(ref byte a, ref byte b) =>
        ((Unsafe.ReadUnaligned<ulong>(ref a) ^ Unsafe.ReadUnaligned<ulong>(ref b)) & ~0x2020_2020_2020_2020UL) != 0;

    /// <summary>The name as it is usually written.</summary>
    public ReadOnlySpan<byte> Name(int id) => _names[id];

    public int Count => _names.Length - 1;

    private bool TryFill(uint[] hashes, uint multiplier)
    {
        Array.Clear(_slots);
        for (int i = 1; i < hashes.Length; i++)
        {
            ref byte slot = ref _slots[(int)(hashes[i] * multiplier >> (32 - SlotBits))];
            if (slot != 0)
            {
                return false;
            }
            slot = (byte)i;
        }
        return true;
    }
}

/// <summary>How the known headers are usually written.</summary>
public static class KnownHeaders
{
    public static ReadOnlySpan<byte> Name(KnownHeader header) => KnownNames.Request.Name((int)header);
    public static ReadOnlySpan<byte> Name(KnownResponseHeader header) => KnownNames.Response.Name((int)header);
}
