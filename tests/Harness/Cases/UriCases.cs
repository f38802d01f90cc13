// How a target becomes a path, and which location a path finds: normalisation, escapes, slashes, nesting, order.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class UriCases
{
    private const string Area = "uri";

    private const string Show = "location / { return 200 \"[$uri] [$args] [$request_uri] [$is_args]\\n\"; }";

    private static readonly string[] _targets =
    [
        "/", "//", "///a", "/a//b", "/a/./b", "/a/../b", "/a/b/..", "/a/b/.", "/./", "/a/...", "/a/..b", "/a/.b",
            "/a./b",
        "/a%2fb", "/a%2Fb", "/%2e/a", "/a/%2e%2e/b", "/a%20b", "/a+b", "/%41%5a%7a", "/%c3%a9", "/%E2%82%AC", "/a%3fb",
        "/a%23b", "/a%25b", "/a%253F", "/a?", "/a?b", "/a?b=c&d", "/a??b", "/a?b?c", "/a?b=/../c", "/a?b=%20",
            "/a#frag",
        "/a?b#frag", "/a;x=y", "/a:b", "/a@b", "/a!$&'()*,=", "/a|b", "/a\"b", "/a<b>", "/a\\b", "/a\u00e9b",
            "/a/%2E./b",
        "/%5C", "/a%00", "/%", "/%1", "/%g1", "/..", "/../", "/a/../../b", "/a/%2e%2e/%2e%2e/b", "http://x/a",
            "http://x",
        "http://x?y", "http://y:80/a?b", "//x/y", "/a%0ab", "/a%7f", "*", "a", "",
    ];

    private const string Nest = """
        location / { return 200 "root"; }
        location /a { return 200 "a"; location /a/b { return 200 "ab"; location ~ \.x$ { return 200 "abx"; } }
            location ~ c$ { return 200 "ac"; } location = /a/e { return 200 "ae"; } }
        location ^~ /n { return 200 "n"; location ~ \.x$ { return 200 "nx"; } }
        location ~ ^/r(\d+)/(?<name>[a-z]+)$ { return 200 "r $1 $name"; }
        location ~ ^/r { return 200 "r"; } location ~* ^/R.*END$ { return 200 "never"; }
        location ~ \.(gif|jpg)$ { return 200 "picture $1"; }
        location = /exact { return 200 "exact"; } location /exact { return 200 "prefix of exact"; }
        location = /slash/ { return 200 "slash"; } location /CaSe { return 200 "case"; }
        location "/with space" { return 200 "space"; } location /%41 { return 200 "escaped"; }
        location /longer/path { return 200 "long"; } location /longer { return 200 "longer"; }
        location @named { return 200 "named"; } location /go { error_page 418 = @named; return 418; }
        location /gone { return 410; error_page 410 @missing; }
        """;

    private static readonly string[] _places =
    [
        "/", "/a", "/a/", "/a/b", "/a/b.x", "/a/b/c", "/abc", "/a/e", "/a/ex", "/n.x", "/n/a.gif", "/r12/ab", "/r12/AB",
        "/rEND", "/R1END", "/x.gif", "/x.GIF", "/exact", "/exact/", "/exactly", "/slash/", "/slash", "/case", "/CaSe/x",
        "/with%20space", "/with space", "/A", "/%41x", "/longer/path/x", "/longer/pat", "/go", "/gone", "/@named",
            "/a%2fb",
        "/a/../n.x", "/r%31/x",
    ];

    public static readonly Case[] All =
    [
        new Case(Area, "targets as they are read") { Server = Show, Talks = [.. _targets.Select(Closing)] },
        new Case(Area, "targets with slashes that count")
        {
            Server = "merge_slashes off; " + Show, Talks = [.. _targets.Take(12).Select(Closing)],
        },
        new Case(Area, "locations as they are found") { Server = Nest, Talks = [.. _places.Select(Closing)] },
        new Case(Area, "paths of files")
        {
            Server = """
                location /al/ { alias %FILES%/d/; } location /al2 { alias %FILES%/d;
                    } location = /one { alias %FILES%/d/f; }
                location ~ ^/re/(.*)$ { alias %FILES%/d/$1; } location /root/ { root %FILES%/e; }
                location /try { try_files $uri $uri/ /d/f; } location /code { try_files /none =418; }
                location /name { try_files /none @n; } location @n { return 200 "n $uri"; }
                location /args { try_files /none /arg?x=$arg_y; } location /arg { return 200 "[$args]"; }
                location /auto/ { proxy_pass http://127.0.0.1:1; }
                """,
            Files = [("d/f", "f\n"), ("d/index.html", "index\n"), ("e/root/g", "g\n"), ("sp ace", "space\n"),
                ("d/%41", "p")],
            Talks = [.. new[]
            {
                "/al/f", "/al/", "/al/index.html", "/al", "/al/none", "/al2/f", "/al2", "/al2x", "/one", "/one/x",
                    "/re/f",
                "/re/", "/root/g", "/root/", "/try/x", "/try", "/code", "/name/x", "/args?y=z", "/auto", "/auto?x=y",
                "/sp%20ace", "/d/%2541", "/d", "/d/", "/d?x", "/d/f/", "/d/f/x", "/%64/f", "/d%2ff", "/D/f",
            }.Select(Closing)],
        },
    ];

    private static Talk Closing(string target) => Raw($"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}
