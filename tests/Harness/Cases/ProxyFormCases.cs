// One question about what reaches an upstream server in each script: the path, the fields, the body, and what of the
// answer comes back. All requests of a script go over one connection, which the last one ends.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class ProxyFormCases
{
    private const string Area = "proxy";

    public static readonly Case[] All =
    [
        Passed("a URI takes the place of the location", "location /a/ { proxy_pass http://127.0.0.1:%UPSTREAM%/b/; }",
            "/a/x", "/a/", "/a/x%20y?z", "/a//x/../w"),
        Passed("a URI without slashes of its own", "location /a { proxy_pass http://127.0.0.1:%UPSTREAM%/b; }", "/a",
            "/ax", "/a/x", "/a?q"),
        Passed("without a URI the path goes as it came", "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            "/a%2fb", "/a//b/../c?d=%20", "/%41"),
        Passed("a path that was rewritten goes escaped anew", "location / { rewrite ^/r/(.*)$ /n/$1?x=1 break; "
            + "proxy_pass http://127.0.0.1:%UPSTREAM%; }", "/r/a%20b", "/r/a?y=2", "/s/a%20b"),
        Passed("an expression's location passes without a URI", "location ~ ^/(a|b)/ { proxy_pass "
            + "http://127.0.0.1:%UPSTREAM%; }", "/a/x%20y", "/b/?c"),
        Passed("variables make the whole URI", "location ~ ^/v/(.*)$ { proxy_pass "
            + "http://127.0.0.1:%UPSTREAM%/w/$1$is_args$args; }", "/v/a?b=c", "/v/a", "/v/a%41b"),
        Passed("a variable that is empty leaves the URI", "set $e \"\"; location / { proxy_pass "
            + "http://127.0.0.1:%UPSTREAM%$e; }", "/a%20b?c", "/"),
        Passed("a named location passes what was asked for", "location / { try_files /none @up; } location @up { "
            + "proxy_pass http://127.0.0.1:%UPSTREAM%; }", "/a%2fb?c", "/"),
        Passed("an error page passes on, with its own path", "location / { error_page 403 /up/x?e=1; return 403; } "
            + "location /up/ { proxy_pass http://127.0.0.1:%UPSTREAM%; }", "/a?b=c", "/d"),
        Passed("fields that are set, emptied and inherited", "proxy_set_header X-A outer; proxy_set_header "
            + "Connection ''; location /in { "
            + "proxy_set_header X-B \"b $uri\"; proxy_set_header Connection ''; proxy_set_header Accept \"\"; "
            + "proxy_pass http://127.0.0.1:%UPSTREAM%; } "
            + "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }", "/in", "/out"),
        Passed("Host in its forms", "location /h { proxy_set_header Connection ''; proxy_set_header Host $host; "
            + "proxy_pass http://127.0.0.1:%UPSTREAM%; "
            + "} location /p { proxy_set_header Connection ''; proxy_set_header Host $proxy_host; proxy_pass "
            + "http://127.0.0.1:%UPSTREAM%; }", "/h", "/p"),
        Passed("another method", "location /m { proxy_method PURGE; proxy_pass http://127.0.0.1:%UPSTREAM%; } location "
            + "/v { proxy_method $arg_m; proxy_pass http://127.0.0.1:%UPSTREAM%; }", "/m", "/v?m=OPTIONS"),
        Passed("a body of one's own", "location / { proxy_set_body \"u=$uri\"; proxy_pass http://127.0.0.1:%UPSTREAM%; "
            + "}", "/a", "/bcd"),
        Passed("fields of requests that are not passed", "location / { proxy_pass_request_headers off; "
            + "proxy_set_header Connection ''; proxy_set_header X-Only 1; proxy_pass "
            + "http://127.0.0.1:%UPSTREAM%; }", "/a"),
        Passed("what the server adds to an answer", "add_header X-Out \"$upstream_status $upstream_http_x_up\" always; "
            + "proxy_hide_header X-Hide; location / { proxy_pass http://127.0.0.1:%UPSTREAM%; } location /in { "
            + "add_header X-In 1; proxy_pass http://127.0.0.1:%UPSTREAM%; }", "/a", "/in"),
        Passed("answers of errors are taken over where that is asked for", "proxy_intercept_errors on; error_page 404 "
            + "/sorry; location = /sorry { return 200 \"sorry $upstream_status\"; } location / { proxy_pass "
            + "http://127.0.0.1:%UPSTREAM%; } location /let { proxy_intercept_errors off; proxy_pass "
            + "http://127.0.0.1:%UPSTREAM%; }", "/404", "/let/404", "/ok"),
    ];

    private static Case Passed(string name, string server, params string[] targets) => new(Area, name)
    {
        Http = "proxy_http_version 1.1; proxy_set_header Connection ''; ",
        Server = server,
        Origin = Origin.Answering(static r => r.Target.EndsWith("404", StringComparison.Ordinal)
            ? "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"
            : Upstream.Ok($"{r.Line}|{r.Header("Host")}|{r.Body}", "X-Up: up", "X-Hide: hidden")),
        Talks =
        [
            Pipeline([.. targets.Select((t, i) => "GET " + t + " HTTP/1.1\r\nHost: sub.x\r\nAccept: a/b\r\nX-C: c\r\n"
                + (i == targets.Length - 1 ? "Connection: close\r\n\r\n" : "\r\n"))]),
        ],
    };
}
