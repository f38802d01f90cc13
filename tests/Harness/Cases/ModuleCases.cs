// The smaller modules of nginx's core: browser, secure_link, userid, charset, random_index, empty_gif and their kin.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class ModuleCases
{
    private const string Area = "modules";

    // MD5 of "2147483647/s/link secret" and of "/s/link secret", in the form of links.
    private const string Links = """
        location /s/ { secure_link $arg_md5,$arg_expires; secure_link_md5 "$secure_link_expires$uri secret";
            return 200 "[$secure_link] [$secure_link_expires]\n"; }
        location /t/ { secure_link $arg_md5; secure_link_md5 "$uri secret"; return 200 "[$secure_link]\n"; }
        location /p/ { secure_link_secret word; if ($secure_link = "") { return 403; } rewrite ^ /q/$secure_link; }
        location /q/ { internal; return 200 "$uri\n"; }
        location /u/ { return 200 "[$secure_link] [$secure_link_expires]\n"; }
        """;

    private const string Agents = """
        location /a { modern_browser opera 7.5; modern_browser msie 5.5; modern_browser gecko 1.0.0;
            modern_browser safari 500; modern_browser konqueror 3.2; modern_browser unlisted;
            ancient_browser Links Lynx netscape4; ancient_browser_value old; modern_browser_value new;
            return 200 "[$modern_browser] [$ancient_browser] [$msie]\n"; }
        location /b { modern_browser gecko 1.9; return 200 "[$modern_browser] [$ancient_browser]\n"; }
        location /c { return 200 "[$modern_browser] [$ancient_browser] [$msie]\n"; }
        """;

    private static readonly string[] _agents =
    [
        "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; en) Opera 8.0", "Opera/9.01 (X11; FreeBSD 6 i386; U; en)",
        "Opera/7.1 (X11)", "Mozilla/4.0 (compatible; MSIE 5.0; Windows NT 5.1)",
        "Mozilla/4.0 (compatible; MSIE 5.5; Windows NT 5.1)", "Mozilla/5.0 (X11; U; Linux; rv:1.0.0) Gecko/20020610",
        "Mozilla/5.0 (X11; U; Linux; rv:0.9.9) Gecko/20020610", "Mozilla/5.0 (X11; rv:1.9.1.2) Gecko/2009",
        "Mozilla/5.0 (Macintosh) AppleWebKit/600 (KHTML) Safari/600.1",
        "Mozilla/5.0 (Macintosh) AppleWebKit/125 (KHTML) Safari/125.7",
        "Mozilla/5.0 (compatible; Konqueror/3.1; Linux)",
        "Mozilla/5.0 (compatible; Konqueror/3.2.1; Linux)", "Links (2.1)", "Lynx/2.8", "Mozilla/4.72 [en] (X11)",
        "Mozilla/4.7 [en]", "curl/8", "x",
    ];

    private const string UserIds = """
        location / { return 200 "[$uid_got] [$uid_reset]\n"; }
        location /log { userid log; return 200 "[$uid_got] [$uid_set]\n"; }
        location /off { userid off; return 200 "[$uid_got] [$uid_set]\n"; }
        location /mark { userid_mark Z; return 200 "[$uid_got]\n"; }
        location /all { userid_mark =; userid_domain a.example; userid_path /x; userid_expires max;
            userid_p3p "policyref=x"; userid_flags secure httponly samesite=lax; return 200 "[$uid_got]\n"; }
        """;

    private const string Sets = """
        types { text/html html; text/plain txt; image/png png; } default_type text/html;
        location / { charset utf-8; }
        location /off/ { alias %FILES%/; charset off; }
        location /koi/ { alias %FILES%/; charset koi8-r; source_charset windows-1251; }
        location /up/ { alias %FILES%/; charset utf-8; source_charset koi8-r; }
        location /down/ { alias %FILES%/; charset koi8-r; source_charset utf-8; }
        location /types/ { alias %FILES%/; charset utf-8; charset_types text/plain; }
        location /var/ { alias %FILES%/; set $set $arg_c; charset $set; source_charset koi8-r; }
        location /move { charset utf-8; return 301 /there; }
        location /text { charset utf-8; return 200 text; }
        location /json { charset utf-8; default_type application/json; return 200 "{}"; }
        location /if { if ($arg_c) { charset utf-8; } return 200 if; }
        """;

    private const string Maps = """
        charset_map koi8-r windows-1251 { C0 FE; C1 E0; C2 E1; }
        charset_map koi8-r utf-8 { C0 D18E; C1 D0B0; C2 D0B1; 80 E29480; }
        """;

    private static readonly (string, string)[] _texts =
    [
        ("index.html", "<p>hello</p>\n"), ("a.txt", "text"), ("p.png", "png"),
        ("win.html", "a\u00fe\u00e0\u00e1\u00ffz"),
        ("koi.html", "a\u00c0\u00c1\u00c2\u00d0z"),
        ("utf.html", "a\u00d1\u008e\u00d0\u00b0\u00d0\u00b1\u00e2\u0082\u00acz"
            + "\u00d0x\u00f0\u009f\u0098\u0080"),
    ];

    public static readonly Case[] All =
    [
        new Case(Area, "empty_gif") { Server = "location / { empty_gif; }", Talks =
            [Get("/"), Head("/"), Post("/", "x"), Get("/", "If-Modified-Since: Mon, 28 Sep 1970 06:00:00 GMT")] },
        new Case(Area, "secure_link with a time") { Server = Links, Talks =
            [Get("/s/link?md5=0Xgm37lo5nFEuHMDKl_vQg&expires=2147483647"), Get("/s/link?md5=abc&expires=2147483647"),
                Get("/s/link?md5=0Xgm37lo5nFEuHMDKl_vQg&expires=2147483646"), Get("/s/link?md5=x,y&expires="),
                Get("/s/link?expires=x"), Get("/s/link"), Get("/u/")] },
        new Case(Area, "secure_link whose time has passed") { Server = Links, Talks =
            [Get("/s/link?md5=f932onB0EioER9ZMjJAvSg&expires=1000000000")] },
        new Case(Area, "secure_link without a time") { Server = Links, Talks =
            [Get("/t/link?md5=gbvzvnSA1m7QxfcjDH83UQ"), Get("/t/link?md5=gbvzvnSA1m7QxfcjDH83UQ=="),
                Get("/t/link?md5=gbvzvnSA1m7QxfcjDH83U"), Get("/t/link?md5=zzzz"), Get("/t/link")] },
        new Case(Area, "secure_link_secret") { Server = Links, Talks =
            [Get("/p/4e2d8ad0b4f2ad0d3f2ab5e4ea9a36d1/link"), Get("/p/" + WordHash + "/link"),
                Get("/p/" + WordHash.ToUpperInvariant() + "/link"), Get("/p/" + WordHash + "/other"),
                Get("/p/x/link"), Get("/p/" + WordHash), Get("/p/")] },
        new Case(Area, "browsers by their names") { Server = Agents, Talks =
            [.. _agents.Select(a => Get("/a", "User-Agent: " + a)), Get("/a")] },
        new Case(Area, "browsers where one is listed") { Server = Agents, Talks =
            [.. _agents.Take(9).Select(a => Get("/b", "User-Agent: " + a)), Get("/b")] },
        new Case(Area, "browsers where none is listed") { Server = Agents, Talks =
            [Get("/c"), Get("/c", "User-Agent: curl"),
                Get("/c", "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; X)")] },
        new Case(Area, "userid of a client that has one") { Http = "userid on;", Server = UserIds, Talks =
            [Get("/", Uid), Get("/log", Uid), Get("/off", Uid), Get("/mark", Uid), Get("/mark", UidMarked),
                Get("/all", Uid), Get("/all", UidMarked), Get("/log"), Get("/off")] },
        new Case(Area, "userid cookies that are wrong are told in the log") { Http = "userid log;", Server = UserIds,
            Talks = [Get("/", "Cookie: uid=short"), Get("/log", "Cookie: uid=!!!!!!!!!!!!!!!!!!!!!!"),
                Get("/log", "Cookie: other=1; UID=fwAAAWVPdXdXjg0mAwMDAg==")] },
        new Case(Area, "charset names the set") { Server = Sets, Files = _texts, Talks =
            [Get("/"), Get("/a.txt"), Get("/p.png"), Get("/off/"), Get("/types/a.txt"), Get("/types/"), Get("/move"),
                Get("/text"), Get("/json"), Get("/if"), Get("/if?c=1"), Head("/"), Get("/none")], Http = Maps },
        new Case(Area, "charset recodes byte by byte") { Server = Sets, Files = _texts, Http = Maps, Talks =
            [Get("/koi/win.html"), Get("/koi/win.html", "Range: bytes=1-2"), Head("/koi/win.html")] },
        new Case(Area, "charset recodes into UTF-8") { Server = Sets, Files = _texts, Http = Maps, Talks =
            [Get("/up/koi.html"), Get("/up/koi.html", "Range: bytes=1-2"), Head("/up/koi.html")] },
        new Case(Area, "charset recodes out of UTF-8") { Server = Sets, Files = _texts, Http = Maps, Talks =
            [Get("/down/utf.html"), Get("/down/koi.html")] },
        new Case(Area, "charset from a variable") { Server = Sets, Files = _texts, Http = Maps, Talks =
            [Get("/var/koi.html?c=utf-8"), Get("/var/koi.html?c=windows-1251"), Get("/var/koi.html?c=koi8-r"),
                Get("/var/koi.html?c=other"), Get("/var/koi.html?c=")] },
        new Case(Area, "random_index of a directory with one file") { Server = "location / { random_index on; }",
            Files = [("one/a.html", "only"), ("one/sub/", ""), ("none/sub/", ""), ("plain.html", "p")],
            Talks = [Get("/one/"), Get("/none/"), Get("/missing/"), Get("/one/a.html"), Head("/one/")] },
        .. new[] { "utf-8", "UTF-8", "koi8-r", "other" }.Select(static set => new Case(Area,
            $"charset of an upstream, {set}")
        {
            Http = Maps + "proxy_http_version 1.1; proxy_set_header Connection '';",
            Server = """
                location / { proxy_pass http://127.0.0.1:%UPSTREAM%; charset utf-8; }
                location /over { proxy_pass http://127.0.0.1:%UPSTREAM%; charset utf-8; override_charset on; }
                location /off { proxy_pass http://127.0.0.1:%UPSTREAM%; }
                """,
            Origin = Origin.Answering(r => "HTTP/1.1 200 OK\r\nContent-Type: " + (r.Target.EndsWith('x')
                ? $"text/html;charset={set}" : r.Target.EndsWith('q') ? $"text/html; charset=\"{set}\""
                : r.Target.EndsWith('a') ? $"text/html\r\nX-Accel-Charset: {set}" : $"text/html; charset={set}")
                + "\r\nContent-Length: 3\r\n\r\na\u00c1b"),
            Talks = [Get("/"), Get("/x"), Get("/q"), Get("/over"), Get("/over/x"), Get("/over/q"), Get("/a"),
                Get("/off/a"), Get("/off/x")],
        }),
    ];

    private const string WordHash = "29245bdc2d04a9e0e729927ed0f84e26";

    // An identity that was given once, with the padding and with a mark in its place.
    private const string Uid = "Cookie: a=b; uid=fwAAAWVPdXdXjg0mAwMDAg==";
    private const string UidMarked = "Cookie: uid=fwAAAWVPdXdXjg0mAwMDAgZ=";
}
