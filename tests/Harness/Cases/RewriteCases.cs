// What the rewrite module, maps and variables make of a request: escaping, arguments, flags, conditions, captures.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class RewriteCases
{
    private const string Area = "rewrite";

    public static readonly Case[] All =
    [
        With("what was escaped is escaped again in arguments and redirects only", """
            location /a/ { return 200 "uri=$uri args=$args is_args=$is_args ru=$request_uri m=$request_method"; }
            location /rw1/ { rewrite ^/rw1/(.*)/(.*)$ /a/$2/$1 last; return 200 "no"; }
            location /rw2/ { rewrite ^/rw2/(.*)$ /a/$1?x=$1 last; }
            location /rw3/ { rewrite ^/rw3/(.*)$ /a/$1? last; }
            location /rw4/ { rewrite ^/rw4/(.*)$ http://h/$1 ; }
            location /rw5/ { rewrite ^/rw5/(.*)$ /q/$1?a=b redirect; }
            location /rw9/ { rewrite ^/rw9/(.*)$ /a/$1?x=1&y=$arg_k? last; }
            """, Get("/rw1/x/y"), Get("/rw1/x%20z/y%2Fw?q=1"), Get("/rw2/x%20z%3Fk"), Get("/rw2/p?m=1"),
            Get("/rw3/x?gone=1"), Get("/rw4/u%20v?x=1"), Get("/rw5/x%2525y"), Get("/rw5/x%41y?z=1"), Get("/rw9/x?k=v"),
            Get("/rw2/a+b"), Get("/rw4/a+b%7e")),
        With("steps of a server and of a location", """
            rewrite ^/srv/(.*)$ /a/$1?s=1 last; rewrite ^/sperm/(.*)$ /a/$1 permanent;
            set $sv "server-$arg_x";
            location / { return 200 "root $sv"; } location /a/ { return 200 "a $uri $args $sv"; }
            location /b/ { rewrite ^/b/(.*)$ /c/$1; rewrite ^/c/(.*)$ /a/c$1; return 200 "seq $uri"; }
            location /n/ { rewrite ^/n/(?<nm>.*)$ /b2/$nm break; return 200 "after $uri"; }
            location /brk { set $k 1; break; return 200 never; }
            location /args { set $args "z=9"; return 200 "$args $arg_z"; }
            location /unset { if ($arg_q) { set $uu 1; } return 200 "[$uu]"; }
            """, Get("/srv/foo"), Get("/srv/foo?b=1"), Get("/sperm/x"), Get("/sperm/x?y=1"), Get("/?x=5"), Get("/b/z"),
            Get("/n/zed"), Get("/brk"), Get("/args?a=b"), Get("/unset"), Get("/unset?q=1")),
        With("conditions of every kind", """
            location /v { set $v 0; if ($arg_a) { set $v 1; } if ($arg_a = b) { set $v 2; }
                if ($arg_a ~ "^c(.*)$") { set $v 3$1; } if ($arg_a !~* "^D") { set $v "${v}n"; } return 200 "v=$v"; }
            location /t { default_type text/foo; if ($arg_a) { return 200 "in if"; } return 200 "not"; }
            location /f { if (-f /etc/passwd) { return 200 "file"; } return 200 "nofile"; }
            location /d { if (!-d /etc) { return 200 "nodir"; } if (-x /bin/sh) { return 200 "exec"; }
                return 200 "dir"; }
            location /e { if (-e $document_uri) { return 200 "exists"; } return 200 "nx"; }
            location /s { if ($arg_x = "a b") { return 200 "ab"; } if ($arg_x != "a") { return 204; }
                return 200 "is a"; }
            location /i { if ($arg_y) { add_header X-If yes; root %FILES%; } root %FILES%; }
            """, Get("/v"), Get("/v?a=0"), Get("/v?a=1"), Get("/v?a=b"), Get("/v?a=cxyz"), Get("/v?a=dd"), Get("/t"),
            Get("/t?a=1"), Get("/f"), Get("/d"), Get("/e"), Get("/s?x=a"), Get("/s?x=b"), Get("/i"), Get("/i?y=1")),
        With("return with nothing to say", """
            location /a { return 301; } location /b { return 204 ""; } location /c { return 304; }
            location /d { return 999; } location /e { return 418 tea; } location /f.html { return 201 "$uri"; }
            """, Get("/a"), Get("/b"), Get("/c"), Get("/d"), Get("/e"), Get("/f.html"), Head("/e")),
        With("redirects, relative and absolute", """
            absolute_redirect off;
            location / { return 302 /rel; } location /abs { return 302 http://abs/; }
            location /port { absolute_redirect on; port_in_redirect off; return 301 /p; }
            location /sn { absolute_redirect on; server_name_in_redirect on; return 301 /p; }
            """, Get("/"), Get("/abs"), Get("/port"), Get("/sn")),
        With("a map of texts, patterns and itself", "location / { return 200 \"$mx|$my|$sp\"; }", http: """
            map $http_x $mx { default def-$arg_z; a aaa; B bbb; ~^r(.*)$ "re-$1"; ~*^CI ci; "" empty; "x y" xy; }
            map $mx $my { volatile; aaa second; default other; }
            split_clients "$arg_s" $sp { 10% ten; 20.5% twenty; * rest; }
            """, Get("/?z=9&s=1", "X: a"), Get("/?s=2", "X: A"), Get("/?s=3", "X: b"), Get("/?s=4", "X: rxyz"),
            Get("/?s=5", "X: cifoo"), Get("/?s=6", "X: x y"), Get("/?s=7", "X: zzz"), Get("/?s=8", "X: ")),
        With("a map of host names", "location / { return 200 $hx; }", http: """
            map $host $hx { hostnames; default nohost; example.com ex; *.example.com star; .foo.com dotfoo;
                www.bar.* tail; }
            """, Host("example.com"), Host("a.b.example.com"), Host("foo.com"), Host("x.foo.com"), Host("www.bar.org"),
            Host("Example.COM"), Host("other")),
        With("addresses choose a value", "location / { return 200 \"$n|$r|$p\"; }", http: """
            geo $arg_a $n { default none; 10.0.0.0/8 ten; 10.1.0.0/16 ten-one; 10.1.2.3 exact; 2001:db8::/32 doc; }
            geo $arg_a $r { ranges; default none; 10.0.0.0-10.255.255.255 ten; 10.1.0.0-10.1.0.255 cut; }
            geo $p { proxy 127.0.0.1; default far; 10.0.0.0/8 near; }
            """, Get("/?a=10.9.9.9"), Get("/?a=10.1.9.9"), Get("/?a=10.1.2.3"), Get("/?a=2001:db8::1"), Get("/?a=bad"),
            Get("/?a=10.1.0.77"), Get("/", "X-Forwarded-For: 10.2.3.4"), Get("/", "X-Forwarded-For: 11.2.3.4")),
        With("header, cookie and argument variables", """
            location / { return 200 "ck=$cookie_foo|$cookie_b|$cookie_c ua=$http_user_agent h=$http_x_one
            a=$arg_a|$arg_B|$arg_c r=$http_referer u=$remote_user ct=$content_type cl=$content_length"; }
            """, Get("/?A=1&b=2&c", "Cookie: foo=bar; b=c;c = d", "X-One: 1",
                "Authorization: Basic dTpwOng=", "Referer: r"),
            Get("/?xa=1&a=2&a=3", "Authorization: Basic !!", "Cookie: xfoo=1; foo=2"),
                Post("/", "body", "Content-Type: a/b")),
    ];

    private static Talk Host(string name) => Raw($"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");

    private static Case With(string name, string server, params Talk[] talks) => With(name, server, "", talks);

    private static Case With(string name, string server, string http, params Talk[] talks) => new(Area, name)
    {
        Http = http,
        Server = server,
        Files = [("i", "a file\n")],
        Talks = talks,
    };
}
