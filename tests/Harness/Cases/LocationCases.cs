// One question about locations, names and paths in each script: which block answers, and with which path. All requests
// of a script go over one connection, which the last one ends.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class LocationCases
{
    private const string Area = "uri";

    private const string Rest = " location / { return 200 \"rest [$uri] [$args]\"; }";

    public static readonly Case[] All =
    [
        Asked("the longest prefix, whatever the order", "location /a/b/c { return 200 abc; } location /a { return 200 "
            + "a; } location /a/b { return 200 ab; }" + Rest, "/a", "/a/b", "/a/b/c", "/a/b/cd", "/a/bx", "/ab", "/b"),
        Asked("an exact location before everything", "location = /x { return 200 exact; } location ~ ^/x { return 200 "
            + "regex; } location ^~ /x { return 200 stop; }" + Rest, "/x", "/x/", "/xy", "/X"),
        Asked("expressions in their order", "location ~ ^/a { return 200 first; } location ~ ^/ab { return 200 never; "
            + "} location ~ b$ { return 200 second; }" + Rest, "/a", "/ab", "/b", "/cb", "/c"),
        Asked("an expression beats a longer prefix", "location /very/long/prefix { return 200 prefix; } location ~ x$ "
            + "{ return 200 regex; }" + Rest, "/very/long/prefix", "/very/long/prefix/x", "/x"),
        Asked("^~ keeps expressions away", "location ^~ /s { return 200 stop; } location /s/t { return 200 st; } "
            + "location ~ x$ { return 200 regex; }" + Rest, "/s/x", "/s/t/x", "/s", "/x"),
        Asked("capitals matter to a prefix and to ~", "location /Ab { return 200 prefix; } location ~ ^/Cd { return "
            + "200 regex; }" + Rest, "/Ab", "/ab", "/AB", "/Cd", "/cd"),
        Asked("capitals do not matter to ~*", "location ~* ^/cd\\.Jpg$ { return 200 regex; }" + Rest, "/cd.jpg",
            "/CD.JPG", "/cd.jpgx", "/cdxjpg"),
        Asked("captures by number and by name", "location ~ ^/(?<y>\\d+)/(\\w+)/?(.*)$ { return 200 \"$y|$1|$2|$3\"; }"
            + Rest, "/2020/ab/c/d", "/2020/ab", "/x/ab", "/1/%41%42/c%20d"),
        Asked("captures of the server's name", "server_name ~^(?<sub>[a-z]+)\\.x$; location / { return 200 \"$sub "
            + "$1\"; }", "/", "/y"),
        Asked("nested prefixes", "location /a { return 200 a; location /a/b { return 200 ab; location /a/b/c { return "
            + "200 abc; } } }" + Rest, "/a/x", "/a/b", "/a/bc", "/a/b/c/d", "/b"),
        Asked("a nested expression before the outer ones", "location /a { return 200 a; location ~ x$ { return 200 "
            + "inner; } } location ~ x$ { return 200 outer; }" + Rest, "/a/x", "/b/x", "/a/y"),
        Asked("a nested expression within an expression", "location ~ ^/a { return 200 a; location ~ x$ { return 200 "
            + "ax; location ~ yx$ { return 200 ayx; } } }" + Rest, "/a", "/ax", "/ayx", "/x"),
        Asked("a nested exact location", "location /a { return 200 a; location = /a/b { return 200 exact; } }" + Rest,
            "/a/b", "/a/b/", "/a/bc"),
        Asked("^~ within a location", "location /a { return 200 a; location ^~ /a/s { return 200 stop; } location ~ "
            + "x$ { return 200 regex; } }" + Rest, "/a/s/x", "/a/x", "/a/s"),
        Asked("no location fits", "return 404; location /only { return 200 only; }", "/", "/only", "/onl"),
        Asked("settings of a server without a location", "default_type text/z; location /a/ { }", "/f", "/a/f", "/g"),
        Asked("a location without the slash of its end", "location /d/ { proxy_pass http://127.0.0.1:1/; }" + Rest,
            "/d", "/d?x=y", "/dd"),
        Asked("an exact location keeps from that redirect", "location /d/ { proxy_pass http://127.0.0.1:1/; } location "
            + "= /d { return 200 exact; }" + Rest, "/d", "/dd"),
        Asked("quotes and spaces in a location", "location \"/a b\" { return 200 space; } location '/c\"d' { return "
            + "200 quote; } location /e\\ f { return 200 escaped; }" + Rest, "/a%20b", "/c%22d", "/e%20f"),
        Asked("a location beyond ASCII", "location /caf\u00e9 { return 200 cafe; }" + Rest, "/caf%c3%a9",
            "/caf%C3%A9/x", "/caf"),
        Asked("modifiers without a space", "location =/x { return 200 exact; } location ^~/s { return 200 stop; } "
            + "location ~^/r { return 200 regex; } location ~*^/q { return 200 caseless; }" + Rest, "/x", "/xx", "/s1",
            "/rr", "/QQ"),
        Asked("an expression sees the decoded path", "location ~ ^/a\\ b$ { return 200 space; } location ~ ^/%20$ { "
            + "return 200 never; } location ~ ^/c/d$ { return 200 slash; }" + Rest, "/a%20b", "/%2520", "/c%2fd"),
        Asked("an expression does not see the query", "location ~ x=1 { return 200 never; } location ~ \\?$ { return "
            + "200 mark; }" + Rest, "/a?x=1", "/a%3f", "/a?"),
        Asked("alternatives and groups", "location ~ ^/(?:a|b)/(c|d)$ { return 200 \"group $1\"; } location ~ "
            + "\\.(?!txt)(\\w+)$ { return 200 \"not txt $1\"; }" + Rest, "/a/c", "/b/d", "/a/e", "/x.txt", "/x.jpg"),
        Asked("braces and quotes in an expression", "location ~ \"^/[0-9]{2}$\" { return 200 two; } location ~ "
            + "'^/[a-z]{3,4}$' { return 200 letters; }" + Rest, "/12", "/123", "/abc", "/abcde"),
        Asked("options within an expression", "location ~ (?i)^/up$ { return 200 caseless; } location ~ "
            + "^/(?x)s\\ p$ { return 200 extended; }" + Rest, "/UP", "/up", "/sp", "/s%20p"),
        Asked("an empty expression takes all", "location ~ \"\" { return 200 all; } location /a { return 200 never; } "
            + "location = /b { return 200 exact; }", "/", "/a", "/b"),
        Asked("one slash of many", "location //a { return 200 double; } location /a { return 200 single; }" + Rest,
            "//a", "/a", "///a//b"),
        Asked("slashes that count", "merge_slashes off; location //a { return 200 double; } location /a { return 200 "
            + "single; }" + Rest, "//a", "/a", "///a", "/a//b"),
        Asked("dots are folded before the choice", "location /up { return 200 up; } location /up/down { return 200 "
            + "down; }" + Rest, "/up/down/../x", "/up/./down", "/x/../up", "/up/down/..", "/up/%2e%2e/y", "/up%2f../z"),
        Asked("dots that are no segments", "location /... { return 200 dots; } location /..a { return 200 a; }" + Rest,
            "/...", "/..a", "/a..", "/a/..b/c"),
        Asked("escapes of every byte keep their place", Rest, "/%21%22%23%24", "/%25%26%27", "/%2b%2c%3b%3d", "/%7e%7F",
            "/%5b%5d%5e%60", "/%c0%80"),
        Asked("a plus is a plus", Rest, "/a+b?c+d", "/a%2bb?c%2bd"),
        Asked("arguments by name", "location / { return 200 \"[$arg_a] [$arg_A] [$arg_b_c] [$args]\"; }", "/?a=1&b_c=2",
            "/?A=1", "/?a=&a=2", "/?aa=1&xa=2", "/?a", "/?a=%20&b_c=+", "/?b-c=1;a=2"),
        Asked("a named location is no path", "location @a { return 200 named; } location /x { error_page 404 @a; "
            + "return 404; }" + Rest, "/@a", "/x"),
        Asked("try_files chooses again", "location /t { try_files /f /g; } location /f { return 200 f; } location /g { "
            + "return 200 \"g $uri\"; }", "/t", "/t/x"),
        Asked("try_files with a slash asks for a folder", "location / { try_files $uri/ $uri =410; index f; }", "/d",
            "/d/", "/d/f", "/none", "/d/f/"),
        Asked("try_files keeps the arguments it is given", "location /t { try_files /none /to?b=$arg_a; } "
            + "location /u { "
            + "try_files /none /to; } location /to { return 200 \"[$args]\"; }", "/t?a=1", "/t", "/u?c=1"),
        Asked("alias with captures", "location ~ ^/get/(.+)\\.(\\w+)$ { alias %FILES%/d/$1; }" + Rest, "/get/f.x",
            "/get/none.x", "/get/.x"),
        Asked("alias of one file", "location = /one { alias %FILES%/d/f; } location /two { alias %FILES%/d/f; }" + Rest,
            "/one", "/two", "/twox", "/one/"),
        Asked("alias of a folder with its index", "location /al/ { alias %FILES%/d/; index f; } location /no/ { alias "
            + "%FILES%/d/; }" + Rest, "/al/", "/al/f", "/al/none", "/no/", "/al/../al/f"),
        Asked("root of a location is put before the whole path", "location /d/ { root %FILES%; } location /e/ { root "
            + "%FILES%/d; }" + Rest, "/d/f", "/e/f"),
        Asked("an index leads to another location", "index i.x f; location /d/ { } location ~ \\.x$ { return 200 "
            + "\"regex $uri\"; }" + Rest, "/d/", "/d/i.x"),
        Asked("an index with a slash is absolute", "location /d/ { index none /abs; } location = /abs { return 200 "
            + "\"abs $uri\"; }" + Rest, "/d/", "/d/x"),
        Asked("a redirect to a folder keeps escapes and arguments", "absolute_redirect off;", "/sp%20ace",
            "/d", "/d?a=b",
            "/%64"),
        Asked("a redirect to a folder by name and port", "server_name_in_redirect on; port_in_redirect off; "
            + "server_name main.example;", "/d", "/d?a=b"),
        Asked("limit_except chooses by method", "location / { limit_except POST { deny all; } return 200 \"let\"; }",
            "/", "/x"),
        Asked("internal locations from outside and inside", "location /in { internal; return 200 in; } location /go { "
            + "rewrite ^ /in last; } location /ep { error_page 403 /in; return 403; }" + Rest, "/in", "/go", "/ep",
            "/inx"),
    ];

    private static Case Asked(string name, string server, params string[] targets) => new(Area, name)
    {
        Server = server,
        Files = [("d/f", "f of d\n"), ("f", "f\n"), ("sp ace/f", "space\n"), ("d/i.x", "i\n")],
        Talks =
        [
            Pipeline([.. targets.Select((t, i) => "GET " + t + " HTTP/1.1\r\nHost: sub.x\r\n"
                + (i == targets.Length - 1 ? "Connection: close\r\n\r\n" : "\r\n"))]),
        ],
    };
}
