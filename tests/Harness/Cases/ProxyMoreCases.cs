// The reverse proxy in more shapes: targets, headers, statuses, framing, redirects, cookies, retries.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class ProxyMoreCases
{
    private const string Area = "proxy";
    private const string Modern = "proxy_http_version 1.1; proxy_set_header Connection ''; ";

    private static Origin Echo =>
        Origin.Answering(r => Upstream.Ok($"{r.Line}|{r.Header("Host")}|{r.Header("X-A")}|{r.Body}"));

    private static Case One(string name, string server, Origin? origin, params Talk[] talks) => new(Area, name)
    {
        Http = Modern, Server = server, Origin = origin, Talks = talks, Files = [("f.txt", "inner file")],
    };

    private static Talk Ask(string target, params string[] headers) => Get(target, ["Connection: close", .. headers]);

    /// <summary>An origin that answers by the target: what stands in the table under it.</summary>
    private static Origin Answers(params (string Target, string Answer)[] table) =>
        Origin.Answering(r => table.First(t => t.Target == r.Target).Answer.Replace("\n", "\r\n"));

    private static readonly (string Target, string Answer)[] _heads =
    [
        ("/upper", "HTTP/1.1 200 OK\nCONTENT-LENGTH: 1\nContent-TYPE: Text/HTML\n\nx"),
        ("/many", "HTTP/1.1 200 OK\nSet-Cookie: a=1\nSet-Cookie: b=2; Path=/x\nX-Y: 1\nX-Y: 2\nContent-Length: 0\n\n"),
        ("/date", "HTTP/1.1 200 OK\nLast-Modified: Thu, 29 Feb 2024 12:34:56 GMT\nETag: W/\"x\"\n"
            + "Content-Length: 1\n\nx"),
        ("/empty", "HTTP/1.1 200 OK\nX-Empty:\nContent-Length: 0\n\n"),
        ("/spaces", "HTTP/1.1 200 OK\nX-S:   a  b   \nContent-Length: 0\n\n"),
        ("/201", "HTTP/1.1 201 Created\nLocation: /made\nContent-Length: 0\n\n"),
        ("/205", "HTTP/1.1 205 Reset\nContent-Length: 0\n\n"),
        ("/206", "HTTP/1.1 206 Partial Content\nContent-Range: bytes 0-1/5\nContent-Length: 2\n\nab"),
        ("/300", "HTTP/1.1 300 Choices\nContent-Length: 0\n\n"),
        ("/302", "HTTP/1.1 302 Found\nLocation: http://o.example/x?y\nContent-Length: 0\n\n"),
        ("/refresh", "HTTP/1.1 200 OK\nRefresh: 5; url=http://o.example/x\nContent-Length: 0\n\n"),
        ("/401", "HTTP/1.1 401 No\nWWW-Authenticate: Basic realm=\"o\"\nContent-Length: 2\n\nno"),
        ("/404", "HTTP/1.1 404 Not Found\nContent-Length: 4\nContent-Type: text/plain\n\nnone"),
        ("/416", "HTTP/1.1 416 Range\nContent-Range: bytes */5\nContent-Length: 0\n\n"),
        ("/503", "HTTP/1.1 503 Busy\nRetry-After: 5\nContent-Length: 4\n\nbusy"),
        ("/noreason", "HTTP/1.1 200\nContent-Length: 1\n\nx"), ("/599", "HTTP/1.1 599 Odd\nContent-Length: 0\n\n"),
        ("/vary", "HTTP/1.1 200 OK\nVary: Accept\nCache-Control: no-store\nExpires: 0\nPragma: x\n"
            + "Content-Length: 0\n\n"),
        ("/cookie", "HTTP/1.1 200 OK\nSet-Cookie: a=b; domain=O.Example; path=/old; Secure\nContent-Length: 0\n\n"),
        ("/hop", "HTTP/1.1 200 OK\nKeep-Alive: timeout=5\nConnection: keep-alive\nContent-Length: 1\n\nx"),
        ("/chunks", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1;x=y\na\n10\n0123456789abcdef\n0\nX-T: 1\n\n"),
        ("/html", "HTTP/1.1 200 OK\nContent-Type: text/html; charset=utf-8\nContent-Length: 1\n\nx"),
        ("/accel", "HTTP/1.1 200 OK\nX-Accel-Redirect: /inner/f.txt?a=b\nX-Accel-Limit-Rate: 1000\n"
            + "Content-Length: 0\n\n"),
        ("/accelnamed", "HTTP/1.1 200 OK\nX-Accel-Redirect: @n\nContent-Length: 0\n\n"),
        ("/acceloff", "HTTP/1.1 200 OK\nX-Accel-Redirect: /../x\nContent-Length: 0\n\n"),
    ];

    public static readonly Case[] All =
    [
        One("answers of every shape", """
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_redirect http://o.example/ /new/;
                proxy_cookie_domain o.example n.example; proxy_cookie_path /old /new; }
            location /inner/ { internal; alias %FILES%/; } location @n { return 200 "n $uri"; }
            """, Answers(_heads), [.. _heads.Select(static h => Ask(h.Target))]),
        One("answers to HEAD", "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }", Origin.Answering(r =>
            $"HTTP/1.1 200 OK\r\n{(r.Target == "/n" ? "" : "Content-Length: 5\r\n")}X-M: {r.Line}\r\n\r\n"),
            Head("/", "Connection: close"), Head("/x", "Connection: close")),
        One("targets in every form", """
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location /one/ { proxy_pass http://127.0.0.1:%UPSTREAM%/; }
            location /two/ { proxy_pass http://127.0.0.1:%UPSTREAM%/p/q; }
            location = /three { proxy_pass http://127.0.0.1:%UPSTREAM%/exact?z; }
            location ~ ^/four/(.*)$ { proxy_pass http://127.0.0.1:%UPSTREAM%/re/$1; }
            location ~ ^/five { proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location /six/ { rewrite ^/six/(.*)$ /seven/$1 break; proxy_pass http://127.0.0.1:%UPSTREAM%/never/; }
            location /eight { set $t /v; proxy_pass http://127.0.0.1:%UPSTREAM%$t$is_args$args; }
            location /nine { if ($arg_x) { proxy_pass http://127.0.0.1:%UPSTREAM%; } return 404; }
            location /ten { limit_except GET { proxy_pass http://127.0.0.1:%UPSTREAM%; } }
            """, Echo, [.. new[]
            {
                "/a", "/a%20b?c=%20", "/a//b", "/./a/../b", "/one/x%2Fy", "/one/", "/one/?q", "/two/x", "/three?y",
                    "/four/a-b",
                "/four/a?b", "/five%41?x", "/six/x%3Fy?z", "/eight?q=1", "/eight", "/nine?x=1", "/nine",
                    "/%E2%82%AC", "/a;b",
                "/a?b=\"c\"", "/one/%25", "/two/..%2f",
            }.Select(static t => Ask(t))]),
        One("headers towards the upstream", """
            location / { proxy_set_header Connection ''; proxy_set_header X-A "$http_x_b-$arg_a";
                proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location /host { proxy_set_header Connection ''; proxy_set_header Host $http_host;
                proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location /fixed { proxy_set_header Connection ''; proxy_set_header Host fixed.example;
                proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location /none { proxy_set_header Connection ''; proxy_set_header Host "";
                proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location /up { proxy_pass http://group; } location /body { proxy_pass_request_body off;
                proxy_set_header Connection ''; proxy_set_header Content-Length "";
                    proxy_pass http://127.0.0.1:%UPSTREAM%; }
            """, Echo, Ask("/?a=1", "X-B: b"), Ask("/", "X-A: own"), Ask("/host"), Ask("/fixed"), Ask("/none"),
                Ask("/up"),
            Post("/body", "never", "Connection: close"), Post("/", "sent", "Connection: close"),
            Raw("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "3\r\nabc\r\n0\r\n\r\n"))
            with { Http = Modern + "upstream group { server 127.0.0.1:%UPSTREAM%; keepalive 2; }" },
        One("error pages in an upstream's place", """
            proxy_intercept_errors on; error_page 404 =200 /f.txt; error_page 503 @busy; error_page 401 /own;
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; } location = /f.txt { root %FILES%; }
            location @busy { return 503 "busy $upstream_status\n"; } location = /own { internal; return 200 own; }
            """, Answers(_heads), Ask("/404"), Ask("/503"), Ask("/401"), Ask("/302"), Ask("/206"), Ask("/416")),
    ];
}
