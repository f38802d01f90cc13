// Circles: what leads back to where it began ends where nginx ends it, with its status, for the client and in the log.
// All requests of a script go over one connection, which the last one ends.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class CircleCases
{
    public static readonly Case[] All =
    [
        Circle("rewrites of a server and of locations", """
            rewrite ^/s$ /t; rewrite ^/t$ /s last;
            location /a { rewrite ^ /b last; } location /b { rewrite ^ /a last; }
            location / { return 200 "$uri"; }
            """, "/s", "/a", "/b", "/c"),
        Circle("rewrites that grow", "location / { rewrite ^(.*)$ $1/x last; }", "/", "/a?b"),
        Circle("an index that leads to itself", """
            location /d/ { index /d/; } location /e/ { index /f/; } location /f/ { index /e/; }
            """, "/d/", "/e/"),
        Circle("try_files that falls back on itself", """
            location / { try_files /none /none2$uri; } location /n { try_files /none @n; }
            location @n { try_files /none @n; } location = /x { try_files /none /x; }
            """, "/a", "/n", "/x"),
        Circle("error pages of error pages", """
            recursive_error_pages on; error_page 404 /e; error_page 403 /f;
            location = /e { return 403; } location = /f { return 404; }
            location /own { error_page 404 /own; return 404; }
            location /named { error_page 404 @named; return 404; }
            location @named { error_page 404 @named; return 404; }
            """, "/none", "/e", "/own", "/named"),
        Circle("error pages of error pages that are not wanted", """
            error_page 404 /e; error_page 403 /f; location = /e { return 403; } location = /f { return 404; }
            location /own { error_page 404 /own; return 404; }
            """, "/none", "/e", "/own"),
        Circle("a subrequest that asks itself for leave", """
            location / { auth_request /ask; alias %FILES%/d/f; } location /ask { auth_request /ask; return 204; }
            location /pair { auth_request /one; alias %FILES%/d/f; }
            location /one { auth_request /two; alias %FILES%/d/f; }
            location /two { auth_request /one; alias %FILES%/d/f; }
            """, "/", "/pair", "/one"),
        Circle("bodies before and after themselves", """
            location / { add_before_body /d/f; add_after_body /d/f; root %FILES%; }
            location /d/f { add_after_body /d/f; root %FILES%; }
            """, "/d/f", "/d/f?x"),
        Circle("copies of copies", """
            location / { mirror /; mirror /m; root %FILES%; } location /m { mirror /m; root %FILES%; }
            """, "/d/f", "/m/none"),
        Circle("a post_action of a post_action", """
            location /a { post_action /a; return 200 a; } location /b { post_action /c; return 200 b; }
            location /c { post_action /b; return 204; }
            location /n { post_action @n; return 200 n; } location @n { post_action @n; return 200 n; }
            """, "/a", "/b", "/n"),
        Circle("X-Accel-Redirect to where it came from", """
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1;
                proxy_set_header Connection ""; }
            """, "/a", "/b?c") with
        {
            Origin = Origin.Answering(Upstream.Ok("", "X-Accel-Redirect: /again")),
        },
    ];

    private static Case Circle(string name, string server, params string[] targets) => new("circles", name)
    {
        Http = "log_format own $status;",
        Server = "default_type text/plain; access_log %DIR%/access.log own; " + server,
        Files = [("d/f", "f of d\n")],
        Talks =
        [
            .. targets.Select(static t =>
                Pipeline("GET " + t + " HTTP/1.1\r\nHost: sub.x\r\nConnection: close\r\n\r\n")),
        ],
        ComparesAccessLog = true,
    };
}
