// The static table of HPACK (RFC 7541 appendix A) as constant bytes: entry i's name and value stand one after the other
// in one text. Read only, any thread, no memory.
namespace Weir.Protocol.Http2;

/// <summary>The 61 fields every HPACK peer knows. Indexes begin at 1.</summary>
public static class HpackStaticTable
{
    public const int Count = 61;

    /// <summary>Indexes that writers use by name.</summary>
    public const int Authority = 1, MethodGet = 2, MethodPost = 3, PathSlash = 4, SchemeHttp = 6, SchemeHttps = 7,
        Status200 = 8, Status500 = 14, ContentLength = 28, Cookie = 32, Host = 38, SetCookie = 55,
        TransferEncoding = 57;

    private static ReadOnlySpan<byte> Text =>
        ":authority:methodGET:methodPOST:path/:path/index.html:schemehttp:schemehttps:status200:statu"u8
        + "s204:status206:status304:status400:status404:status500accept-charsetaccept-encodinggzip, def"u8
        + "lateaccept-languageaccept-rangesacceptaccess-control-allow-originageallowauthorizationcache-"u8
        + "controlcontent-dispositioncontent-encodingcontent-languagecontent-lengthcontent-locationcont"u8
        + "ent-rangecontent-typecookiedateetagexpectexpiresfromhostif-matchif-modified-sinceif-none-mat"u8
        + "chif-rangeif-unmodified-sincelast-modifiedlinklocationmax-forwardsproxy-authenticateproxy-au"u8
        + "thorizationrangerefererrefreshretry-afterserverset-cookiestrict-transport-securitytransfer-e"u8
        + "ncodinguser-agentvaryviawww-authenticate"u8;

    private static ReadOnlySpan<ushort> Starts =>
    [
        0, 10, 20, 31, 37, 53, 64, 76, 86, 96, 106, 116, 126, 136, 146, 160, 188, 203, 216, 222, 249, 252, 257,
        270, 283, 302, 318, 334, 348, 364, 377, 389, 395, 399, 403, 409, 416, 420, 424, 432, 449, 462, 470,
        489, 502, 506, 514, 526, 544, 563, 568, 575, 582, 593, 599, 609, 634, 651, 661, 665, 668, 684,
    ];

    private static ReadOnlySpan<byte> NameLengths =>
    [
        10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13,
        12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3,
        16,
    ];

    public static ReadOnlySpan<byte> Name(int index) =>
        Text.Slice(Starts[index - 1], NameLengths[index - 1]);

    public static ReadOnlySpan<byte> Value(int index) =>
        Text[(Starts[index - 1] + NameLengths[index - 1])..Starts[index]];
}
