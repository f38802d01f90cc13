// One question about rewrite, if, map and error_page in each script, and one about the access log. All requests of a
// script go over one connection, which the last one ends.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class RewriteMoreCases
{
    private const string Area = "rewrite";

    private const string Show = " location / { return 200 \"[$uri] [$args]\"; }";

    public static readonly Case[] All =
    [
        Asked("last in a server goes on with locations", "rewrite ^/a /b last; rewrite ^/b /c last;" + Show, "/a",
            "/b", "/ab"),
        Asked("no flag goes on with the next line", "rewrite ^/a /b; rewrite ^/b /c; rewrite ^/x /y;" + Show, "/a",
            "/b", "/x", "/z"),
        Asked("break in a server ends its lines", "rewrite ^/a /b break; rewrite ^/b /c last;" + Show, "/a", "/b"),
        Asked("break stays in the location", "location /a { rewrite ^/a(.*)$ /d$1 break; } location /d { return 200 "
            + "never; }", "/a/f", "/a/none", "/d/f"),
        Asked("a question mark at the end drops arguments", "rewrite ^/a /b? last; rewrite ^/c /d?x=1? last; rewrite "
            + "^/e /f?x=1 last;" + Show, "/a?q=1", "/c?q=1", "/e?q=1", "/e"),
        Asked("captures in an if of a rewrite", "location / { if ($uri ~ ^/(\\w+)/(\\w+)$) { rewrite ^/(\\w+) /$2/$1/x "
            + "break; return 200 \"$uri $1 $2\"; } return 200 \"no $1\"; }", "/a/b", "/a", "/a/b/c"),
        Asked("a map with an expression and its captures", "location / { return 200 \"$mapped $named\"; }", "/?m=abc",
            "/?m=xyz", "/?m=", "/?m=ABC"),
        Asked("a map asks when it is read, once", "location / { set $args m=one; set $a $once; set $args m=abc; return "
            + "200 \"$a $once\"; }", "/?m=two", "/"),
        Asked("if with a file, a folder, a link", "location / { if (-d $request_filename) { return 200 folder; "
            + "} if (-f "
            + "$request_filename) { return 200 file; } if (!-e $request_filename) { return 200 none; } return 200 "
            + "else; }", "/d", "/d/f", "/none", "/"),
        Asked("if with empty and zero", "location / { set $r \"\"; if ($arg_a) { set $r A; } if ($arg_b) { set $r "
            + "\"${r}B\"; } return 200 \"[$r]\"; }", "/?a=0&b=1", "/?a=&b=00", "/?a=1", "/"),
        Asked("if chooses settings of its own", "location / { add_header A out; if ($arg_x) { add_header B in; } } ",
            "/d/f", "/d/f?x=1", "/none?x=1"),
        Asked("error_page keeps, sets and takes over the status", "error_page 404 /to; error_page 403 =200 /to; "
            + "error_page 410 =301 /to; error_page 405 = /to; location = /to { return 202 \"to $status\"; } location "
            + "/403 { return 403; } location /410 { return 410; } location /405 { return 405; } location /file { "
            + "error_page 402 =200 /d/f; return 402; }", "/none", "/403", "/410", "/405", "/file"),
        Asked("error_page of an error page", "error_page 404 /one; error_page 403 /two; location = /one { return 403; "
            + "} location = /two { return 200 two; }", "/none", "/one", "/two"),
        Asked("error pages of error pages where they are wanted", "recursive_error_pages on; error_page 404 /one; "
            + "error_page 403 /two; location = /one { return 403; } location = /two { return 402; }", "/none", "/one"),
        Asked("error_page to a URL with variables", "error_page 404 http://x.example$uri?$args; error_page 403 "
            + "@go; location @go { return 302 /n$request_uri; } location /f { return 403; }", "/none?a=b", "/f?c",
            "/a%20b"),
        Asked("error_page of an inner level takes the place of the outer ones", "error_page 404 /to; error_page 403 "
            + "/to; location = /to { return 200 to; } location /in { error_page 410 /to; return 403; } location /out { "
            + "return 403; }", "/in", "/out", "/none"),
        Logged("the request line and its parts", "'$request|$request_method|$request_uri|$uri|$server_protocol'",
            "location / { return 200; }", "/a%20b?c=d", "//x/../y", "/"),
        Logged("the path after a rewrite", "'$request_uri $uri $args'", "rewrite ^/a/(.*)$ /b/$1?x=$1; location / { "
            + "return 200; }", "/a/b", "/a/b?y=z", "/c"),
        Logged("the status of an error page", "'$status $body_bytes_sent $uri'", "error_page 404 =200 /d/f; error_page "
            + "403 /d/f; location /403 { return 403; }", "/none", "/403", "/d/f"),
        Logged("the location of a redirect", "'$status $sent_http_location $sent_http_content_type'",
            "absolute_redirect off; location /r { return 301 /to; } location /d { }", "/r", "/d", "/d/f"),
        Logged("numbers of requests of a connection", "'$connection_requests $pipe'", "location / { return 200; }",
            "/1", "/2", "/3"),
        Logged("fields of answers", "'$sent_http_x_a|$sent_http_content_type|$sent_http_none'", "default_type text/z; "
            + "location / { add_header X-A \"a $uri\" always; return 200 x; } location /n { add_header X-A b; return "
            + "404; }", "/a", "/n"),
        Logged("variables of a map of the status", "'$status $kind'", "location /a { return 200; } location /b "
            + "{ return "
            + "302 /; } location /c { return 404; } location /d/ { }", "/a", "/b", "/c", "/d/"),
        Logged("a format that is never written for some", "'$uri'", "location /q { access_log off; return 200; } "
            + "location / { return 200; }", "/a", "/q", "/b"),
        Logged("the name of the server and what was asked for", "'$host $server_name $http_host $server_port_is'",
            "set $server_port_is ok; server_name one.example two.example; location / { return 200; }", "/", "/x"),
        Logged("JSON of hostile bytes", "escape=json '{\"u\":\"$request_uri\",\"a\":\"$arg_a\"}'",
            "location / { return 200; }", "/\"x\"?a=\\", "/%0a?a=\"", "/?a=\t"),
        Logged("nothing is escaped where that is asked for", "escape=none '$request_uri $arg_a'",
            "location / { return 200; }", "/\"x\"?a=\\", "/%0a?a=\""),
        Logged("two logs of one level", "'$uri'", "access_log %DIR%/access.log own; location / { return 200; }", "/a",
            "/b"),
    ];

    private static Talk Asking(string[] targets) => Pipeline([.. targets.Select((t, i) =>
        "GET " + t + " HTTP/1.1\r\nHost: sub.x\r\n" + (i == targets.Length - 1 ? "Connection: close\r\n\r\n" :
            "\r\n"))]);

    private static Case Asked(string name, string server, params string[] targets) => new(Area, name)
    {
        Http = """
            map $arg_m $mapped { ~^(a)(?<rest>.*)$ "got $1"; xyz plain; "" empty; default other; }
            map $arg_m $named { ~*^ab(?<tail>.)$ $tail; default none; }
            map $arg_m $once { one 1; abc 2; default 0; }
            """,
        Server = server,
        Files = [("d/f", "f of d\n")],
        Talks = [Asking(targets)],
    };

    private static Case Logged(string name, string format, string server, params string[] targets) => new("logs", name)
    {
        Http = $"log_format own {format}; map $status $kind {{ ~^2 good; ~^3 moved; 404 lost; default bad; }}",
        Server = "access_log %DIR%/access.log own; " + server,
        Files = [("d/f", "f of d\n")],
        Talks = [Asking(targets)],
        ComparesAccessLog = true,
    };
}
