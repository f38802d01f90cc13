// Which server and location answers, and what return, rewrite, error_page, variables, gzip and logs make of it.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class RoutingCases
{
    private const string Area = "routing";

    public static readonly Case[] All =
    [
        With("locations in nginx's order", """
            location / { return 200 prefix; }
            location = / { return 200 exact; }
            location /img/ { return 200 img; }
            location ^~ /stop/ { return 200 stop; }
            location ~ \.png$ { return 200 png; }
            location ~* \.jpg$ { return 200 jpg; }
            location /outer/ { location /outer/in/ { return 200 inner; } location ~ z$ { return 200 z;
            } return 200 outer; }
            """, Get("/"), Get("/x"), Get("/img/a"), Get("/img/a.png"), Get("/stop/a.png"), Get("/a.JPG"),
            Get("/a.PNG"),
            Get("/outer/in/b"), Get("/outer/z"), Get("/outer/y")),
        With("return with a status, a text, a place", """
            location /a { return 204; } location /b { return 301 /there;
            } location /c { return 302 http://x.example/y; }
            location /d { return 404 "none\n"; } location /e { return 444; } location /f { return 200; }
            location /g { return http://x.example/z; } location /h { return 307 /h2$is_args$args; }
            location /i { return 503; } location /j { return 418; } location /k { default_type text/html;
            return 200 k; }
            """, Get("/a"), Get("/b"), Get("/c"), Get("/d"), Get("/e"), Get("/f"), Get("/g"), Get("/h?q=1"), Get("/i"),
            Get("/j"), Get("/k")),
        With("error pages of every kind", """
            location /400 { return 400; } location /401 { return 401; } location /403 { return 403; }
            location /405 { return 405; } location /410 { return 410; } location /413 { return 413; }
            location /416 { return 416; } location /429 { return 429; } location /500 { return 500; }
            location /501 { return 501; } location /502 { return 502; } location /504 { return 504; }
            location /308 { return 308 /x; } location /303 { return 303 /x; }
            """, Get("/400"), Get("/401"), Get("/403"), Get("/405"), Get("/410"), Get("/413"), Get("/416"), Get("/429"),
            Get("/500"), Get("/501"), Get("/502"), Get("/504"), Get("/308"), Get("/303")),
        With("error_page to a file, to a status, to a place, to a name", """
            error_page 404 /sorry.html; error_page 403 =200 /sorry.html; error_page 500 http://x.example/;
            error_page 502 @n;
            location /403 { return 403; } location /500 { return 500; } location /502 { return 502; }
            location @n { return 200 "named $status $uri"; }
            """, Get("/none"), Get("/403"), Get("/500"), Get("/502"), Head("/none")),
        With("rewrite with its flags", """
            location /a { rewrite ^/a/(.*)$ /b/$1 last; } location /b { return 200 "b $uri $args"; }
            location /c { rewrite ^/c/(.*)$ /b/$1 break; return 200 "c $uri"; }
            location /d { rewrite ^/d/(.*)$ /e/$1? redirect; } location /f { rewrite ^/f/(.*)$ /e/$1 permanent; }
            location /g { rewrite ^/g http://x.example/$request_method; }
            location /h { rewrite ^/h(.*)$ /b$1?x=1; }
            """, Get("/a/1?q=2"), Get("/c/1"), Get("/d/1?q=2"), Get("/f/1?q=2"), Get("/g"), Get("/h/1?q=2")),
        With("rewrite in a circle ends", "location / { rewrite ^ /again last; }", Get("/")),
        With("if and set", """
            set $v none; if ($arg_a = 1) { set $v one; } if ($arg_a ~ ^(2.)$) { set $v "re $1"; }
            if ($request_method = POST) { return 405; } if (-f %FILES%/sorry.html) { set $f file; }
            if ($http_x) { set $v "$v+$http_x"; }
            location / { return 200 "$v $f\n"; }
            """, Get("/"), Get("/?a=1"), Get("/?a=23"), Post("/", ""), Get("/", "X: y")),
        With("variables of a request", """
            location / {
                return 200 "$request|$request_uri|$uri|$args|$query_string|$is_args|$arg_b|$host|$server_name|$scheme|
            $request_method|$server_protocol|$remote_addr|$document_uri|$http_user_agent|$cookie_c|$content_length|
            $content_type|$https|$request_length|$document_root|$nginx_none_of_it\n";
            }
            """.Replace("|$nginx_none_of_it", ""),
            Get("/a%20b/../c?b=1&d=%41", "User-Agent: ua", "Cookie: x=1; c=2", "Content-Type: t/t")),
        With("map and geo choose values", "location / { return 200 \"$m $g\"; }", http: """
            map $arg_a $m { default d; x one; ~^y(.+)$ "re $1"; *.example.com host; hostnames; }
            geo $g { default far; 127.0.0.0/8 near; }
            """, Get("/"), Get("/?a=x"), Get("/?a=yes"), Get("/?a=w.example.com")),
        With("gzip of a text", "gzip on; gzip_min_length 10; gzip_types text/plain; default_type text/plain;"
            + "location /l { return 200 \"" + new string('a', 500) + "\"; } location /s { return 200 short; }"
            + "location /v { gzip_vary on; return 200 \"" + new string('b', 500) + "\"; }",
            Get("/l", "Accept-Encoding: gzip"), Get("/l"), Get("/s", "Accept-Encoding: gzip"),
            Get("/v", "Accept-Encoding: gzip"), Get("/v"), Get("/l", "Accept-Encoding: gzip;q=0"),
            Get("/l", "Accept-Encoding: gzip, deflate, br"), Get("/l", "Accept-Encoding: gzip", "Via: 1.1 x")),
        With("gzip of a file", "gzip on; gzip_types *; gzip_proxied any;",
            Get("/long.html", "Accept-Encoding: gzip"), Get("/long.html", "Accept-Encoding: gzip", "Range: bytes=0-4")),
        With("gzip_static", "gzip_static on;", Get("/long.html", "Accept-Encoding: gzip"), Get("/long.html")),
        With("stub_status counts", "location / { stub_status; }", Get("/")) with { MayOverlap = false },
        With("auth_request", """
            location / { auth_request /ask; return 200 never; }
            location /in/ { auth_request /ask-yes; root %FILES%; try_files /sorry.html =404; }
            location = /ask { return 403; } location = /ask-yes { return 204; }
            location /file { auth_request /ask401; alias %FILES%/sorry.html; }
            location = /ask401 { return 401; }
            """, Get("/in/x"), Get("/file")),
        new Case(Area, "server names: exact, wildcards, regular expressions, default")
        {
            Conf = """
                server { listen 127.0.0.1:%PORT% default_server; server_name _; return 200 default; }
                server { listen 127.0.0.1:%PORT%; server_name a.example b.example; return 200 "exact $server_name"; }
                server { listen 127.0.0.1:%PORT%; server_name *.example; return 200 "star $host"; }
                server { listen 127.0.0.1:%PORT%; server_name www.a.*; return 200 tail; }
                server { listen 127.0.0.1:%PORT%; server_name ~^(?<n>.+)\.re$; return 200 "re $n"; }
                server { listen 127.0.0.1:%PORT%; server_name .dot; return 200 dot; }
                """,
            Talks =
            [
                Host("a.example"), Host("B.EXAMPLE"), Host("c.example"), Host("www.a.org"), Host("x.re"), Host("dot"),
                Host("y.dot"), Host("z"), Host("a.example:1234"), Host("a.example."), Raw("GET / HTTP/1.0\r\n\r\n"),
            ],
        },
        new Case(Area, "an access log in the combined format and in one's own")
        {
            Http = """
                log_format own '$remote_addr|$request|$status|$body_bytes_sent|$http_user_agent|'
                    '$request_length|$upstream_addr|$arg_a|$sent_http_content_type|$pipe|'
                    '$connection_requests|$request_completion';
                log_format js escape=json '{"r":"$request","u":"$http_user_agent"}';
                log_format none escape=none '$http_user_agent';
                """,
            Server = """
                access_log %DIR%/access.log own; access_log %DIR%/access.log js; access_log %DIR%/access.log none;
                location / { return 200 hello; } location /q { access_log off; return 200 q; }
                location /if { access_log %DIR%/access.log own if=$arg_a; return 200 if; }
                """,
            Talks =
            [
                Get("/", "User-Agent: plain"), Get("/x?a=1", "User-Agent: \"quo\\ted\" \t\xe4"), Get("/q"), Get("/if"),
                Get("/if?a=0"), Get("/if?a=1"), Pipeline(Line("/1"), Line("/2")),
            ],
            ComparesAccessLog = true,
        },
        new Case(Area, "an access log of what was refused")
        {
            Http = "log_format r '$request|$status';",
            Server = "access_log %DIR%/access.log r; location / { return 200 hello; }",
            Talks =
            [
                Raw("nonsense\r\n\r\n"), Raw("GET / HTTP/1.1\r\n\r\n"), Raw("GET /x HTTP/1.1\r\nHost: a b\r\n\r\n"),
                Raw("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n"), Raw("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n"),
            ],
            ComparesAccessLog = true,
        },
    ];

    private static Talk Host(string name) => Raw($"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");

    private static Case With(string name, string server, params Talk[] talks) => With(name, server, "", talks);

    private static Case With(string name, string server, string http, params Talk[] talks) => new(Area, name)
    {
        Http = http,
        Server = server,
        Files = [("sorry.html", "sorry\n"), ("long.html", new string('l', 5000)), ("long.html.gz", "not really gzip")],
        Talks = talks,
    };
}
