// Static files: types, indexes, listings, directory redirects, ranges and conditions.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class FileCases
{
    private const string Area = "files";
    private const string Modified = "Thu, 29 Feb 2024 12:34:56 GMT";
    private const string Before = "Thu, 29 Feb 2024 12:34:55 GMT";
    private const string After = "Thu, 29 Feb 2024 12:34:57 GMT";

    private const string Types = """
        types { text/html html; text/plain txt; text/css css; application/json json; }
        default_type application/octet-stream;
        """;

    private static readonly (string, string)[] _files =
    [
        ("index.html", "<p>index</p>\n"),
        ("a.txt", "0123456789abcdefghij"),
        ("b.css", "p{}"),
        ("c.unknown", "?"),
        ("empty.txt", ""),
        ("dir/index.html", "inner"),
        ("bare/one.txt", "1"),
        ("bare/sub/", ""),
        ("bare/two words & more.txt", "2"),
        ("bare/a-very-long-name-that-autoindex-cuts-because-it-is-longer-than-fifty-characters.txt", "3"),
        ("sp ace.txt", "space"),
        ("big.txt", new string('x', 200_000)),
        ("spa/app.html", "the app"),
    ];

    public static readonly Case[] All =
    [
        One("types by extension", Get("/a.txt"), Get("/b.css"), Get("/c.unknown"), Get("/empty.txt")),
        One("the index of a folder", Get("/"), Get("/dir/")),
        One("a folder without its slash is redirected", Get("/dir"), Get("/dir?a=b")),
        One("a folder without an index is forbidden", Get("/bare/")),
        One("a file that is not there", Get("/none"), Get("/a.txt/x"), Get("/a.txt/")),
        One("an escaped name", Get("/sp%20ace.txt"), Get("/sp+ace.txt")),
        One("a method that files do not know", Post("/a.txt", "x"), Raw("PUT /a.txt HTTP/1.1\r\nHost: x\r\n\r\n"),
            Raw("OPTIONS /a.txt HTTP/1.1\r\nHost: x\r\n\r\n")),
        One("a large file", Get("/big.txt")),
        One("several files on one connection", Pipeline(Line("/a.txt"), Line("/big.txt"), Line("/b.css"))),
        One("one range", Get("/a.txt", "Range: bytes=0-4"), Get("/a.txt", "Range: bytes=5-"),
            Get("/a.txt", "Range: bytes=-3"), Get("/a.txt", "Range: bytes=10-100"), Get("/a.txt", "Range: bytes=0-0")),
        One("a range that cannot be", Get("/a.txt", "Range: bytes=20-"), Get("/a.txt", "Range: bytes=100-200"),
            Get("/a.txt", "Range: bytes=-0"), Get("/empty.txt", "Range: bytes=0-")),
        One("a range that is none", Get("/a.txt", "Range: bytes=5-2"), Get("/a.txt", "Range: lines=0-1"),
            Get("/a.txt", "Range: bytes=x-y"), Get("/a.txt", "Range: bytes=")),
        One("several ranges", Get("/a.txt", "Range: bytes=0-1,4-5"), Get("/a.txt", "Range: bytes=0-1, 3-4, -2"),
            Get("/a.txt", "Range: bytes=0-1,30-40")),
        One("several ranges of a large file", Get("/big.txt", "Range: bytes=0-99999,150000-150009")),
        One("HEAD with a range", Head("/a.txt", "Range: bytes=0-4")),
        One("If-Range by date", Get("/a.txt", "Range: bytes=0-4", "If-Range: " + Modified),
            Get("/a.txt", "Range: bytes=0-4", "If-Range: " + Before)),
        One("If-Modified-Since", Get("/a.txt", "If-Modified-Since: " + Modified),
            Get("/a.txt", "If-Modified-Since: " + Before), Get("/a.txt", "If-Modified-Since: " + After),
            Get("/a.txt", "If-Modified-Since: nonsense")),
        One("If-Unmodified-Since", Get("/a.txt", "If-Unmodified-Since: " + Before),
            Get("/a.txt", "If-Unmodified-Since: " + After)),
        One("If-None-Match", Get("/a.txt", "If-None-Match: \"65e07970-14\""), Get("/a.txt", "If-None-Match: \"other\""),
            Get("/a.txt", "If-None-Match: *"), Get("/a.txt", "If-None-Match: \"x\", W/\"65e07970-14\"")),
        One("If-Match", Get("/a.txt", "If-Match: \"other\""), Get("/a.txt", "If-Match: *"),
            Get("/a.txt", "If-Match: \"65e07970-14\"")),
        With("if_modified_since before", "if_modified_since before;", Get("/a.txt", "If-Modified-Since: " + After)),
        With("if_modified_since off", "if_modified_since off;", Get("/a.txt", "If-Modified-Since: " + Modified)),
        With("etag off", "etag off;", Get("/a.txt")),
        With("max_ranges 0", "max_ranges 0;", Get("/a.txt", "Range: bytes=0-4")),
        With("max_ranges 1", "max_ranges 1;", Get("/a.txt", "Range: bytes=0-4,6-7")),
        With("several index names", "index none.html a.txt index.html;", Get("/"), Get("/dir/")),
        With("an index that is a path", "index /spa/app.html;", Get("/bare/")),
        With("open_file_cache on", "open_file_cache max=10;", Pipeline(Line("/a.txt"), Line("/a.txt"), Line("/none"),
            Line("/none"), Line("/dir"))),
        With("sendfile on and aio off", "sendfile on; tcp_nopush on;", Get("/big.txt")),
        With("autoindex as html", "autoindex on;", Get("/bare/")),
        With("autoindex with local time and sizes of people", "autoindex on; autoindex_exact_size off;", Get("/bare/")),
        With("autoindex as json", "autoindex on; autoindex_format json;", Get("/bare/")),
        With("autoindex as xml", "autoindex on; autoindex_format xml;", Get("/bare/")),
        With("autoindex as jsonp", "autoindex on; autoindex_format jsonp;", Get("/bare/?callback=f"), Get("/bare/")),
        With("absolute_redirect off", "absolute_redirect off;", Get("/dir")),
        With("port_in_redirect off", "port_in_redirect off;", Get("/dir")),
        With("server_name_in_redirect on", "server_name_in_redirect on;", Get("/dir")),
        With("try_files falls back to a file", "location /s { try_files $uri /spa/app.html; }",
            Get("/s/x/y"), Get("/s")),
        With("try_files ends with a status", "location /s { try_files $uri $uri/ =404; }", Get("/s/x")),
        With("try_files finds a folder", "location /b { rewrite ^/b(.*) $1 break; try_files $uri $uri/ =404; }",
            Get("/b/dir/"), Get("/b/dir")),
        With("try_files to a named location",
            "location /s { try_files $uri @back; } location @back { return 200 \"back $uri\"; }", Get("/s/x")),
        With("alias", "location /al/ { alias %FILES%/dir/; }", Get("/al/index.html"), Get("/al/"), Get("/al")),
        With("alias with a regular expression", "location ~ ^/r/(.+)$ { alias %FILES%/$1; }", Get("/r/a.txt")),
        With("add_header and expires", "add_header X-A b; add_header X-C d always; expires 1h;",
            Get("/none")),
        With("expires epoch and off", "location /a { expires epoch; } location /b { expires -1; }", Get("/a.txt")),
        With("limit_except", "location / { limit_except GET { deny all; } }", Post("/a.txt", "x"), Get("/a.txt")),
        With("deny", "location /a { deny all; } location /b { allow 127.0.0.1; deny all; }", Get("/a.txt"),
            Get("/b.css")),
        With("disable_symlinks off, internal", "location /spa { internal; }", Get("/spa/app.html")),
    ];

    private static Case One(string name, params Talk[] talks) => With(name, "", talks);

    private static Case With(string name, string server, params Talk[] talks) => new(Area, name)
    {
        Http = Types,
        Server = server,
        Files = _files,
        Talks = talks,
    };
}
