// What changes a body on its way: sub_filter, addition, slice, gunzip, and what memcached gives.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class FilterCases
{
    private const string Area = "filters";
    private const string Modern = "proxy_http_version 1.1; proxy_set_header Connection ''; ";

    private const string Subs = """
        types { text/html html; text/plain txt; } default_type text/html;
        location / { sub_filter Hello "<$arg_v>"; }
        location /all/ { alias %FILES%/; sub_filter_once off; sub_filter hello bye; }
        location /two/ { alias %FILES%/; sub_filter_once off; sub_filter hello A; sub_filter hell B;
            sub_filter lo C; }
        location /once/ { alias %FILES%/; sub_filter hello A; sub_filter world B; }
        location /time/ { alias %FILES%/; sub_filter_last_modified on; sub_filter hello A; }
        location /types/ { alias %FILES%/; sub_filter_types text/plain; sub_filter hello A; }
        location /any/ { alias %FILES%/; sub_filter_types *; sub_filter hello A; }
        location /var/ { alias %FILES%/; sub_filter_once off; sub_filter $arg_s "[$arg_s]"; }
        location /empty/ { alias %FILES%/; sub_filter_once off; sub_filter hello ""; }
        location /text { default_type text/html; sub_filter hello A; return 200 "oh hello\n"; }
        location /gone { sub_filter Not A; return 404; }
        location /long/ { alias %FILES%/; sub_filter_once off; sub_filter aab X; }
        location /inner/ { sub_filter hello outer; location /inner/a { alias %FILES%/index.html; }
            location /inner/b { alias %FILES%/index.html; sub_filter world inner; } }
        """;

    private const string Adds = """
        types { text/html html; text/plain txt; } default_type text/html;
        location / { add_before_body /before; add_after_body /after; }
        location /before { return 200 "before $uri $args\n"; }
        location /after { return 200 "after\n"; }
        location /only/ { alias %FILES%/; add_after_body /after; }
        location /first/ { alias %FILES%/; add_before_body /a.txt; }
        location /types/ { alias %FILES%/; addition_types text/plain; add_before_body /before; }
        location /missing/ { alias %FILES%/; add_before_body /nothing/here; add_after_body /after; }
        location /off/ { alias %FILES%/; add_before_body ""; }
        location /sub/ { alias %FILES%/; sub_filter hello SUB; sub_filter_once off; add_before_body /before;
            add_after_body /hello; }
        location /hello { return 200 "hello from a subrequest\n"; }
        location /zip/ { alias %FILES%/; gzip on; gzip_min_length 1; add_before_body /before; }
        location /up/ { alias %FILES%/; add_before_body /proxied; add_after_body /proxied; }
        location /proxied { proxy_pass http://127.0.0.1:%UPSTREAM%/x; }
        location /big/ { alias %FILES%/; add_before_body /big.txt; add_after_body /big.txt; }
        """;

    private static readonly (string, string)[] _files =
    [
        ("index.html", "hello world, HELLO World, hell hELLo\n"), ("a.txt", "hello text\n"), ("empty.html", ""),
        ("aaa.html", "aaaab aab aaaaaaaaaaaaab ab\n"), ("big.txt", new string('b', 150_000)),
        ("big.html", string.Concat(Enumerable.Repeat("0123456789 hello 0123456789\n", 3000))),
    ];

    public static readonly Case[] All =
    [
        Sub("sub_filter once", Get("/?v=x"), Get("/?v="), Head("/"), Get("/a.txt"), Get("/empty.html")),
        Sub("sub_filter everywhere and in any case", Get("/all/"), Get("/all/a.txt")),
        Sub("sub_filter of several texts, the first that fits", Get("/two/"), Get("/once/")),
        Sub("sub_filter keeps the time where it may", Get("/time/"), Get("/all/"),
            Get("/time/", "If-None-Match: \"65e07970-26\"")),
        Sub("sub_filter_types", Get("/types/a.txt"), Get("/types/"), Get("/any/a.txt"), Get("/any/big.txt")),
        Sub("sub_filter of a text from a variable", Get("/var/?s=hello"), Get("/var/?s=HELL"), Get("/var/?s="),
            Get("/var/?s=none")),
        Sub("sub_filter with nothing", Get("/empty/")),
        Sub("sub_filter of an answer that is made here", Get("/text"), Get("/gone")),
        Sub("sub_filter of a text that begins like itself", Get("/long/aaa.html")),
        Sub("sub_filter in an inner location replaces the outer", Get("/inner/a"), Get("/inner/b")),
        Sub("sub_filter turns ranges off", Get("/all/", "Range: bytes=0-3"), Get("/types/", "Range: bytes=0-3")),
        Sub("sub_filter of a large file", Get("/all/big.html")),
        new Case(Area, "sub_filter across the pieces of an upstream")
        {
            Server = "location / { " + Modern + """
                proxy_pass http://127.0.0.1:%UPSTREAM%; sub_filter_once off; sub_filter hello BYE; sub_filter lot X;
                }
                """,
            Origin = Origin.Answering("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "3\r\nxhe\r\n1\r\nl\r\n4\r\nlohe\r\n6\r\nhellot\r\n5\r\nhellO\r\n4\r\nhell\r\n0\r\n\r\n"),
            Talks = [Get("/")],
        },
        Add("addition before and after", Get("/"), Get("/?a=b"), Head("/"), Get("/a.txt")),
        Add("addition of one part", Get("/only/"), Get("/first/"), Get("/off/")),
        Add("addition_types", Get("/types/a.txt"), Get("/types/")),
        Add("addition of what is not there", Get("/missing/")),
        Add("addition goes through the filters", Get("/sub/")),
        Add("addition and ranges", Get("/only/", "Range: bytes=0-3"), Get("/off/", "Range: bytes=0-3")),
        Add("addition to what is no page", Get("/only/none.html"), Get("/only/index.html",
            "If-None-Match: W/\"65e07970-26\"")),
        Add("addition of what an upstream gives", Get("/up/")),
        Add("addition of large parts to a large page", Get("/big/big.html")),
        new Case(Area, "slice asks for one part after the other")
        {
            Server = "location / { slice 10; proxy_set_header Range $slice_range; " + Modern
                + "proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin = Parts("0123456789abcdefghijABCDE"),
            Talks = [Get("/file"), Get("/file?x=y", "Range: bytes=5-12"), Get("/file", "Range: bytes=12-"),
                Get("/f%20g", "Range: bytes=22-23"), Get("/file", "Range: bytes=-3"),
                Get("/file", "Range: bytes=0-1,5-6"), Head("/file")],
        },
        new Case(Area, "slice of what cannot be cut")
        {
            Server = "location / { slice 10; proxy_set_header Range $slice_range; " + Modern
                + "proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin = Origin.Answering(r => r.Target == "/404"
                ? "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno" : Upstream.Ok("whole")),
            Talks = [Get("/"), Get("/404"), Get("/", "Range: bytes=1-2")],
        },
        new Case(Area, "$slice_range without slice is nothing")
        {
            Server = "location / { return 200 \"[$slice_range]\"; } location /s { slice 1k; set $s $slice_range;"
                + " return 200 $s; }",
            Talks = [Get("/"), Get("/s"), Get("/s", "Range: bytes=3000-")],
        },
        new Case(Area, "memcached gives what it has")
        {
            Server = """
                types { text/html html; text/plain txt; } default_type a/b;
                location / { set $memcached_key "$uri$arg_k"; memcached_pass 127.0.0.1:%UPSTREAM%; }
                location /nokey { memcached_pass 127.0.0.1:%UPSTREAM%; }
                """,
            MayOverlap = false,
            Origin = Origin.PerConnection([Act.Send("VALUE /a.html 0 5\r\nhello\r\nEND\r\n"), Act.Hold],
                [Act.Send("END\r\n"), Act.Hold], [Act.Send("VALUE /a%20b.txt 0 0\r\n\r\nEND\r\n"), Act.Hold],
                [Act.Send("VALUE /h 0 3\r\nabc\r\nEND\r\n"), Act.Hold]),
            Talks = [Get("/a.html"), Get("/none"), Get("/a%20b.txt"), Head("/h"), Post("/x", "y"), Get("/nokey")],
        },
        new Case(Area, "memcached says what it should not")
        {
            Server = "location / { set $memcached_key $uri; memcached_pass 127.0.0.1:%UPSTREAM%; }",
            MayOverlap = false,
            Origin = Origin.PerConnection([Act.Send("VALUE /other 0 5\r\nhello\r\nEND\r\n"), Act.Hold],
                [Act.Send("ERROR\r\n"), Act.Hold], [Act.Send("VALUE /x x 5\r\nhello\r\nEND\r\n"), Act.Hold],
                [Act.Send("VALUE /x 0 x\r\nhello\r\nEND\r\n"), Act.Hold], [Act.Send("VALU")],
                [Act.Send(new string('x', 9000)), Act.Hold]),
            Talks = [Get("/x"), Get("/x"), Get("/x"), Get("/x"), Get("/x"), Get("/x")],
        },
        new Case(Area, "memcached with a flag that says gzip")
        {
            Server = """
                default_type text/plain;
                location / { set $memcached_key $uri; memcached_gzip_flag 2; memcached_pass 127.0.0.1:%UPSTREAM%; }
                location /error { set $memcached_key $uri; memcached_pass 127.0.0.1:%UPSTREAM%; error_page 404 = @a; }
                location @a { return 200 "fallback\n"; }
                """,
            MayOverlap = false,
            Origin = Origin.PerConnection([Act.Send("VALUE /a 2 3\r\nzip\r\nEND\r\n"), Act.Hold],
                [Act.Send("VALUE /b 1 3\r\nabc\r\nEND\r\n"), Act.Hold], [Act.Send("END\r\n"), Act.Hold]),
            Talks = [Get("/a"), Get("/b"), Get("/error")],
        },
        new Case(Area, "post_action asks when the answer was given")
        {
            Server = "location / { post_action /done; return 200 \"answer\\n\"; } location /file { post_action /done;"
                + " root %FILES%; } location /done { internal; " + Modern + """
                proxy_pass http://127.0.0.1:%UPSTREAM%/counted?status=$status&bytes=$body_bytes_sent; }
                """,
            Origin = Origin.Answering(Upstream.Ok("")),
            Files = [("file/a.txt", "12345")],
            Talks = [Get("/"), Get("/file/a.txt"), Get("/done")],
        },
    ];

    private static Case Sub(string name, params Talk[] talks) => new(Area, name)
    {
        Server = Subs, Files = _files, Talks = talks,
    };

    private static Case Add(string name, params Talk[] talks) => new(Area, name)
    {
        Server = Adds, Files = _files, Talks = talks, Http = Modern,
        Origin = Origin.Answering(Upstream.Ok("from the upstream\n")),
    };

    /// <summary>An origin that gives the range it is asked for.</summary>
    private static Origin Parts(string whole) => Origin.Answering(r =>
    {
        string[] ends = r.Header("Range")!.Split('=')[1].Split('-');
        int from = int.Parse(ends[0], System.Globalization.CultureInfo.InvariantCulture);
        int last = Math.Min(int.Parse(ends[1], System.Globalization.CultureInfo.InvariantCulture), whole.Length - 1);
        string part = whole[from..(last + 1)];
        return $"HTTP/1.1 206 Partial Content\r\nContent-Length: {part.Length}\r\nETag: \"e\"\r\n"
            + $"Content-Range: bytes {from}-{last}/{whole.Length}\r\n\r\n"
            + (r.Line.StartsWith("HEAD", StringComparison.Ordinal) ? "" : part);
    });
}
