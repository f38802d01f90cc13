// The reverse proxy: what the upstream receives, what the client gets, and what happens when the upstream misbehaves.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class ProxyCases
{
    private const string Area = "proxy";

    // What nginx does unasked since 1.29.7; the nginx that the machine has may be older.
    private const string NewDefaults = "proxy_http_version 1.1; proxy_set_header Connection \"\"; ";

    public static readonly Case[] All =
    [
        With("a plain proxy_pass", "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }", Echo,
            Get("/a/b?c=d", "User-Agent: ua", "Accept: */*", "Connection: keep-alive, X-Hop", "X-Hop: 1",
                "TE: trailers",
                "Keep-Alive: 5", "Upgrade: x", "Cookie: a=b", "A_B: dropped")),
        With("HEAD and other methods", "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }", Echo,
            Raw("DELETE /x HTTP/1.1\r\nHost: x\r\n\r\n"), Raw("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")),
        With("proxy_pass with a URI", """
            location /a/ { proxy_pass http://127.0.0.1:%UPSTREAM%/b/; }
            location /c { proxy_pass http://127.0.0.1:%UPSTREAM%/; }
            location /d/ { proxy_pass http://127.0.0.1:%UPSTREAM%/e?f=g; }
            """, Echo, Get("/a/x%20y?q=1"), Get("/c/z"), Get("/c"), Get("/d/h"), Get("/a/../c/%2F")),
        With("proxy_pass without a URI keeps the bytes",
            "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }", Echo, Get("/x%20y/..%2f//z?%41=%zz#")),
        With("proxy_pass with variables", """
            location / { set $p /fixed; proxy_pass http://127.0.0.1:%UPSTREAM%$p?$args; }
            location /v { set $h 127.0.0.1:%UPSTREAM%; proxy_pass http://$h; }
            """, Echo, Get("/a?b=c"), Get("/v/w?x")),
        With("proxy_pass after a rewrite",
            "location /a { rewrite ^/a/(.*)$ /r/$1?z=1 break; proxy_pass http://127.0.0.1:%UPSTREAM%; }", Echo,
            Get("/a/b?c=d")),
        With("HTTP/1.1, keep-alive upstream", """
            location / { proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_pass http://127.0.0.1:%UPSTREAM%; }
            """, Echo, Get("/"), Post("/p", "body")),
        With("headers set and hidden", """
            location / {
                proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;
                proxy_set_header X-Empty "";
                proxy_set_header Connection "";
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header Accept-Encoding "";
                proxy_hide_header X-Secret; proxy_pass_header Server; proxy_pass http://127.0.0.1:%UPSTREAM%;
            }
            """, Origin.Answering(_ => Upstream.Ok("x", "X-Secret: 1", "X-Open: 2", "Server: origin",
            "X-Pad: 3",
                "Set-Cookie: a=b", "Set-Cookie: c=d", "Date: Thu, 01 Jan 1970 00:00:01 GMT")),
            Get("/", "X-Forwarded-For: 1.2.3.4", "Accept-Encoding: gzip", "X-Empty: full")),
        With("proxy_method, proxy_set_body, no headers", """
            location / { proxy_method POST; proxy_set_body "m=$request_method"; proxy_pass_request_headers off;
                proxy_pass http://127.0.0.1:%UPSTREAM%; }
            """, Echo, Get("/", "X: y")),
        Answer("an answer without a length", "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end"),
        Answer("a chunked answer",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        Answer("an answer with a status only", "HTTP/1.1 204 No Content\r\n\r\n"),
        Answer("an answer that is not modified", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
        Answer("an error passed through", "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\nContent-Type: a/b\r\n\r\nfail"),
        Answer("an unusual reason", "HTTP/1.1 299 Very Fine Indeed\r\nContent-Length: 0\r\n\r\n"),
        Answer("an answer cut short", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        Answer("a head cut short", "HTTP/1.1 200 OK\r\nContent-Le"),
        Answer("no answer at all", ""),
        Answer("an answer that is garbage", "garbage\r\n\r\n"),
        Answer("more than was promised", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"),
        Answer("a redirect to itself", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%UP%/next?x\r\n"
            + "Content-Length: 0\r\n\r\n"),
        Answer("a relative redirect", "HTTP/1.1 302 Found\r\nLocation: /rel\r\nContent-Length: 0\r\n\r\n"),
        Answer("X-Accel-Redirect", "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /inner/f.txt\r\nContent-Type: a/b\r\n"
            + "Set-Cookie: kept=1\r\nContent-Length: 0\r\n\r\n"),
        Answer("X-Accel-Expires and Cache-Control",
            "HTTP/1.1 200 OK\r\nX-Accel-Expires: 5\r\nCache-Control: no-cache\r\n"
            + "Content-Length: 1\r\n\r\nx"),
        Answer("a 100 Continue before the answer",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        With("HEAD is passed on", "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin.AnsweringOnce("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), Head("/")),
        With("nobody listens", "location / { proxy_pass http://127.0.0.1:1; }", null, Get("/")),
        With("the upstream is silent",
            "location / { proxy_read_timeout 1s; proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin.Of(Act.Hold), Get("/") with { QuietMs = 2500 }),
        With("the upstream resets", "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin.Of(Act.Read, Act.Reset), Get("/")),
        With("the next server is tried",
            "location / { proxy_pass http://two; proxy_next_upstream error timeout http_503; }",
            Origin.Of(Act.Read, Act.Send(c =>
                c.Index == 0 ? "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n" : Upstream.Ok("second"))),
            http: "upstream two { server 127.0.0.1:%UPSTREAM%; server 127.0.0.1:%UPSTREAM%; }", talks: Get("/"))
            with { MayOverlap = false },
        With("all are down",
            "location / { proxy_pass http://g; } error_page 502 =200 @s; location @s { return 200 sorry; }",
            null, http: "upstream g { server 127.0.0.1:1; server 127.0.0.1:2; }", talks: Get("/")),
        With("proxy_intercept_errors", """
            proxy_intercept_errors on; error_page 404 /own; location = /own { return 200 "own page"; }
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }
            """, Origin.AnsweringOnce("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nX: y\r\n\r\nold"),
            Get("/")),
        With("proxy_redirect and cookies", """
            location / {
                proxy_redirect http://o.example/ /new/; proxy_redirect ~^http://r\.example/(.*)$ /re/$1;
                proxy_cookie_domain o.example localhost; proxy_cookie_path /old /new;
                proxy_pass http://127.0.0.1:%UPSTREAM%;
            }
            """, Origin.AnsweringOnce("HTTP/1.1 302 Found\r\nLocation: http://r.example/x\r\n"
                + "Content-Length: 0\r\nSet-Cookie: a=b; Domain=o.example; Path=/old/x; HttpOnly\r\n\r\n"), Get("/")),
        With("a large answer, buffered", "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin.Answering(_ => Upstream.Ok(new string('z', 300_000))), Get("/")),
        With("a large answer, unbuffered",
            "location / { proxy_buffering off; proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin.Answering(_ => Upstream.Ok(new string('z', 300_000))), Get("/")),
        With("a large request body",
            "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; client_body_buffer_size 8k; }",
            Echo, Post("/", new string('b', 100_000))),
        With("a head that is too large", "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin.Answering(_ => Upstream.Ok("x", "X-Big: " + new string('h', 9000))), Get("/")),
        new Case(Area, "variables of the upstream in a log")
        {
            Http = NewDefaults
                + "log_format u '$upstream_status|$upstream_addr|$upstream_http_x|$upstream_response_length|"
                + "$upstream_bytes_received|$upstream_bytes_sent|$status';",
            Server = "access_log %DIR%/access.log u; location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }"
                + "location /d { proxy_pass http://127.0.0.1:1; }",
            Origin = Origin.Answering(_ => Upstream.Ok("12345", "X: y")),
            Talks = [Get("/"), Get("/d")],
            ComparesAccessLog = true,
        },
        With("gzip of a proxied answer",
            "gzip on; gzip_proxied any; gzip_types text/plain; location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin.Answering(_ => Upstream.Ok(new string('g', 1000), "Content-Type: text/plain",
            "ETag: \"e\"")),
            Get("/", "Accept-Encoding: gzip")),
        With("an upgraded connection", """
            location / { proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection upgrade; proxy_pass http://127.0.0.1:%UPSTREAM%; }
            """, Origin.Of(Act.Read,
                Act.Send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello"),
                Act.Relay(4)), Split(Line("/", "Upgrade: x", "Connection: upgrade"), "ping")),
    ];

    // Answers with what reached it, so that the client's transcript tells too.
    private static Origin Echo => Origin.Answering(r => Upstream.Ok($"{r.Line} {r.Body.Length}"));

    private static Case Answer(string name, string answer) => With(name,
        "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; } location /inner/ { internal; alias %FILES%/; }",
        Origin.Of(Act.Read, Act.Send(c => answer.Replace("%UP%", c.Port))), Get("/x"));

    private static Case With(string name, string server, Origin? origin, params Talk[] talks) =>
        With(name, server, origin, "", talks);

    private static Case With(string name, string server, Origin? origin, string http, params Talk[] talks) =>
        new(Area, name)
        {
            Http = NewDefaults + http,
            Server = server,
            Origin = origin,
            Files = [("f.txt", "inner file")],
            Talks = talks,
        };
}
