// Rows of what makes and changes bodies: files, listings, filters, headers.
using static Weir.Tests.Harness.Rows.Row;

namespace Weir.Tests.Harness.Rows;

public static class BodyRows
{
    private const string Gzip = "Accept-Encoding: gzip";
    private const string On = "gzip on; gzip_min_length 1; gzip_types text/plain; ";
    private const string Agent = "User-Agent: Modern/2";
    private const string Latin = "charset_map src_%ID% utf-8 { E9 C3A9; } ";

    private static string Noise()
    {
        var random = new Random(1);
        return string.Create(300_000, random, static (text, random) =>
        {
            foreach (ref char c in text)
            {
                // No mark of an origin's.
                c = (char)random.Next(128, 256);
            }
        });
    }

    public static readonly Row[] All =
    [
        new("index", "index %V;", "b.txt", "index.html", "0123456789", "the index"),
        new("autoindex", "autoindex %V;", "on", "off", "Index of /dir/", " 403 ") { Send = Get("/dir/") },
        new("autoindex_format", "autoindex on; autoindex_format %V;", "json", "html", "\"name\":\"one.txt\"",
            "<a href=")
        {
            Send = Get("/dir/"),
        },
        new("autoindex_exact_size", "autoindex on; autoindex_exact_size %V;", "on", "off", " 30000", " 29K")
        {
            Send = Get("/dir/"),
        },
        new("random_index", "location / { random_index %V; }", "on", "off", "alone", " 403 ") { Send = Get("/solo/") },
        new("empty_gif", "location / { %V }", "empty_gif;", "", "image/gif", "text/html"),
        new("expires", "expires %V;", "1h", "-1", "max-age=3600", "no-cache"),
        new("add_header", "add_header X-A %V;", "a", "b", "X-A: a", "X-A: b"),
        new("add_trailer", "add_trailer X-T %V; sub_filter i j;", "a", "b", "X-T: a", "X-T: b"),
        new("add_header_inherit", "add_header X-O o; location / { add_header X-I i; add_header_inherit %V; }", "merge",
            "on", "X-O: o", "!X-O: o") { IsNewer = true },
        new("add_trailer_inherit", "sub_filter i j; add_trailer X-O o; "
            + "location / { add_trailer X-I i; add_trailer_inherit %V; }", "merge", "on", "X-O: o", "!X-O: o")
        {
            IsNewer = true,
        },
        new("gzip", "gzip %V; gzip_min_length 1; gzip_types text/plain;", "on", "off", "Content-Encoding: gzip",
            "!Content-Encoding") { Send = Get("/mid.txt", Gzip) },
        new("gzip_types", "gzip on; gzip_min_length 1; gzip_types %V;", "text/plain", "text/css",
            "Content-Encoding: gzip", "!Content-Encoding") { Send = Get("/mid.txt", Gzip) },
        new("gzip_min_length", "gzip on; gzip_types text/plain; gzip_min_length %V;", "3000", "3001",
            "Content-Encoding: gzip", "!Content-Encoding") { Send = Get("/mid.txt", Gzip) },
        new("gzip_comp_level", On + "gzip_comp_level %V;", "1", "9", "", "") { Send = Get("/words.txt", Gzip) },
        new("gzip_window", On + "gzip_window %V;", "1k", "32k", "", "") { Send = Get("/words.txt", Gzip) },
        new("gzip_hash", On + "gzip_hash %V;", "512", "128k", "", "") { Send = Get("/words.txt", Gzip) },
        new("gzip_http_version", On + "gzip_http_version %V;", "1.0", "1.1", "Content-Encoding: gzip",
            "!Content-Encoding") { Send = "GET /mid.txt HTTP/1.0\r\nHost: row\r\nAccept-Encoding: gzip\r\n\r\n" },
        new("gzip_proxied", On + "gzip_proxied %V;", "any", "off", "Content-Encoding: gzip", "!Content-Encoding")
        {
            Send = Get("/mid.txt", Gzip, "Via: 1.1 p"),
        },
        new("gzip_disable", On + "gzip_disable %V;", "Modern", "Other", "!Content-Encoding", "Content-Encoding: gzip")
        {
            Send = Get("/mid.txt", Gzip, Agent),
        },
        new("gzip_vary", On + "gzip_vary %V;", "on", "off", "Vary: Accept-Encoding", "!Vary")
        {
            Send = Get("/mid.txt", Gzip),
        },
        // 300,000 bytes that cannot be compressed, and no end of them: what is not postponed comes out.
        new("postpone_gzipping", On + "postpone_gzipping %V; location / { proxy_pass http://%UP%; }", "0", "1m",
            "\u001f\u008b\b", "!\u001f\u008b\b")
        {
            Send = Get("/", Gzip) + Until,
            Up = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 300001\r\n\r\n" + Noise() + "~hold~",
        },
        new("gzip_static", "gzip_static %V;", "on", "off", "Content-Encoding: gzip", "!Content-Encoding")
        {
            Send = Get("/gz.txt", Gzip),
        },
        new("gunzip", "gzip_static always; gunzip %V;", "on", "off", "!Content-Encoding", "Content-Encoding: gzip")
        {
            Send = Get("/gz.txt"),
        },
        new("add_before_body", "add_before_body /%V;", "b.txt", "dir/one.txt", "0123456789", "one one"),
        new("add_after_body", "add_after_body /%V;", "b.txt", "dir/one.txt", "0123456789", "one one"),
        new("addition_types", "add_after_body /b.txt; addition_types %V;", "text/plain", "text/css", "0123456789",
            "!0123456789") { Send = Get("/mid.txt") },
        new("sub_filter", "sub_filter index %V;", "changed", "altered", "the changed", "the altered"),
        new("sub_filter_once", "sub_filter_once %V; sub_filter one 1;", "on", "off", "1 one", "1 1")
        {
            Send = Get("/one.html"),
        },
        new("sub_filter_types", "sub_filter 0123 abcd; sub_filter_types %V;", "text/plain", "text/css", "abcd", "0123")
        {
            Send = Get("/b.txt"),
        },
        new("sub_filter_last_modified", "sub_filter index x; sub_filter_last_modified %V;", "on", "off",
            "Last-Modified: ", "!Last-Modified"),
        new("charset", "charset %V;", "utf-8", "koi8-r", "charset=utf-8", "charset=koi8-r"),
        new("charset_map", "charset out_%ID%; source_charset src_%ID%;", "41", "42", "caf\u0041", "caf\u0042")
        {
            Http = "charset_map src_%ID% out_%ID% { E9 %V; }", Send = Get("/latin.txt"),
        },
        new("source_charset", "charset utf-8; source_charset %V;", "src_%ID%", "utf-8", "caf\u00c3\u00a9", "caf\u00e9")
        {
            Http = Latin, Send = Get("/latin.txt"),
        },
        new("override_charset", "location / { charset utf-8; override_charset %V; proxy_pass http://%UP%; }", "on",
            "off",
            "caf\u00c3\u00a9", "caf\u00e9")
        {
            Http = Latin,
            Up = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=src_%ID%\r\nContent-Length: 4\r\n\r\ncaf\u00e9",
        },
        new("charset_types", "charset utf-8; charset_types %V;", "text/css", "text/xml", "charset=utf-8", "!charset")
        {
            Send = Get("/c.css"),
        },
        new("slice", "location / { slice %V; proxy_set_header Range $slice_range; proxy_pass http://%UP%; }", "5", "4",
            "bytes=0-4", "bytes=0-3"),
        new("mirror", "location / { mirror %V; proxy_pass http://%UP%; } location = /m { internal; error_log %LOG%; "
            + "alias %FILES%/mirrored-%ID%; } ", "/m", "off", "/mirrored-%ID%\" failed", "!mirrored"),
        new("userid", "userid %V;", "on", "off", "Set-Cookie: uid=", "!Set-Cookie"),
        new("userid_name", "userid on; userid_name %V;", "a", "b", "Set-Cookie: a=", "Set-Cookie: b="),
        new("userid_domain", "userid on; userid_domain %V;", "a.zone", "b.zone", "domain=a.zone", "domain=b.zone"),
        new("userid_path", "userid on; userid_path %V;", "/a", "/b", "path=/a", "path=/b"),
        new("userid_expires", "userid on; userid_expires %V;", "1d", "off", "expires=", "!expires="),
        new("userid_flags", "userid on; userid_flags %V;", "httponly", "secure", "; httponly", "; secure"),
        new("userid_p3p", "userid on; userid_p3p %V;", "'CP=\"A\"'", "'CP=\"B\"'", "CP=\"A\"", "CP=\"B\""),
        new("userid_service", "userid on; userid_service %V; add_header X-U \"$uid_set\";", "1", "2",
            "X-U: uid=01000000",
            "X-U: uid=02000000"),
        new("userid_mark", "userid on; userid_mark %V;", "X", "off", "X=; ", "!X=; ")
        {
            Send = Get("/", "Cookie: uid=fwAAAWk8AAABAAAAAwMEAg=="),
        },
    ];
}
