// How connections live: persistence, pipelining, HEAD, bodies of requests, 100-continue, ends.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class ConnectionCases
{
    private const string Area = "connection";

    private const string Answers = """
        location / { return 200 "answer to $request_method $uri\n"; }
        location /body { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1;
        proxy_set_header Connection ""; }
        location /small { client_max_body_size 5; proxy_pass http://127.0.0.1:%UPSTREAM%; }
        location /file { root %FILES%; }
        """;

    private static readonly (string, string)[] _files = [("file/a.txt", "hello\n")];

    public static readonly Case[] All =
    [
        One("one request is answered and the connection stays", Get("/a")),
        One("two requests, one after the other's answer", Split(Line("/a"), Line("/b"))),
        One("Connection: close is answered with a close", Get("/a", "Connection: close")),
        One("Connection: close among other options", Get("/a", "Connection: foo, close")),
        One("HTTP/1.0 is closed", Raw("GET /a HTTP/1.0\r\n\r\n")),
        One("HTTP/1.0 with keep-alive stays", Raw("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")),
        One("three pipelined requests", Pipeline(Line("/1"), Line("/2"), Line("/3"))),
        One("pipelined requests, the middle one closes",
            Pipeline(Line("/1"), Line("/2", "Connection: close"), Line("/3"))),
        One("a request in single bytes", new Talk(Line("/slow").Select(c => Bytes(c.ToString())).ToArray())),
        One("empty lines before a request", Raw("\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n")),
        One("lines that end with LF alone", Raw("GET /a HTTP/1.1\nHost: x\n\n")),
        One("HEAD of a generated answer", Head("/a")),
        One("HEAD of a file", Head("/file/a.txt")),
        One("HEAD of something that is not there", Head("/file/none")),
        One("a half-closed client gets its answer",
            Get("/a") with { HalfClose = true }, Get("/file/a.txt") with { HalfClose = true }),
        One("a body nobody wants is discarded and the connection stays",
            Pipeline(RawClient.Request("POST", "/a", [], "0123456789"), Line("/b"))),
        One("a chunked body nobody wants is discarded", Pipeline(
            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Line("/b"))),
        Proxied("a body with a length reaches the upstream", Post("/body", "0123456789")),
        Proxied("a body in pieces reaches the upstream", Split(
            "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234", "56789")),
        Proxied("a chunked body reaches the upstream with a length", Raw(
            "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n")),
        Proxied("a chunked body split inside a size", Split(
            "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1", "0\r\n0123456789abcdef\r\n0\r\n",
                "\r\n")),
        Proxied("100-continue before a body that is read", Split(
            "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", "hello")
            with { AwaitsBetween = true }),
        One("100-continue for a body nobody wants", Split(
            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", "hello")
            with { AwaitsBetween = true }),
        Proxied("a body over client_max_body_size", Post("/small", "0123456789")),
        Proxied("a chunked body over client_max_body_size", Raw(
            "POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n")),
        new Case(Area, "keepalive_requests ends the connection")
        {
            Server = "keepalive_requests 2; location / { return 200 ok; }",
            Talks = [Pipeline(Line("/1"), Line("/2"), Line("/3"))],
        },
        new Case(Area, "keepalive_timeout 0 closes")
        {
            Server = "keepalive_timeout 0; location / { return 200 ok; }",
            Talks = [Get("/")],
        },
        new Case(Area, "keepalive_timeout with a header value")
        {
            Server = "keepalive_timeout 60s 30s; location / { return 200 ok; }",
            Talks = [Get("/")],
        },
        new Case(Area, "an idle connection is closed after keepalive_timeout")
        {
            Server = "keepalive_timeout 1s; location / { return 200 ok; }",
            Talks = [Get("/") with { QuietMs = 2500 }],
        },
        new Case(Area, "a head that does not come is given up")
        {
            Server = "client_header_timeout 1s; location / { return 200 ok; }",
            Talks = [Raw("GET / HTTP/1.1\r\nHost: x\r\n") with { QuietMs = 2500 }],
        },
        new Case(Area, "keepalive_disable none, server_tokens off")
        {
            Server = "server_tokens off; location / { return 404; }",
            Talks = [Get("/")],
        },
        new Case(Area, "answers of one length that differ in type, tokens, fields, status, method and connection")
        {
            Server = """
                location / { return 200 "12345678"; }
                location /plain { default_type text/plain; return 200 "abcdefgh"; }
                location /html { default_type text/html; return 200 "ABCDEFGH"; }
                location /htm2 { default_type text/htm2; return 200 "ABCDEFGH"; }
                location /none { default_type ""; return 200 "........"; }
                location /tokens { server_tokens off; return 200 "--------"; }
                location /field { add_header X-One 1; return 200 "++++++++"; }
                location /alive { keepalive_timeout 60s 30s; return 200 "________"; }
                location /charset { charset utf-8; default_type text/plain; return 200 "========"; }
                location /gone { return 410 "!!!!!!!!"; }
                location /longer { return 200 "1234567812345678"; }
                location /file { root %FILES%; }
                """,
            Files = [("file/a.txt", "file....")],
            Talks =
            [
                Pipeline([.. Enumerable.Range(0, 2).SelectMany(static _ => new[]
                {
                    "/", "/plain", "/html", "/htm2", "/none", "/tokens", "/", "/field", "/", "/alive", "/", "/charset",
                    "/plain", "/gone", "/longer", "/", "/file/a.txt", "/a.html", "/a.html",
                }.Select(static path => Line(path)))]),
                Pipeline(Line("/html"), Line("/html"), "HEAD /html HTTP/1.1\r\nHost: x\r\n\r\n", Line("/html"),
                    "GET /html HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Line("/html"),
                    Line("/html", "Connection: close")),
            ],
        },
    ];

    private static Case One(string name, params Talk[] talks) =>
        new(Area, name) { Server = Answers.Replace("%UPSTREAM%", "1"), Files = _files, Talks = talks };

    private static Case Proxied(string name, params Talk[] talks) => new(Area, name)
    {
        Server = Answers,
        Talks = talks,
        Origin = Origin.Answering(request => Upstream.Ok($"got {request.Body.Length}")),
    };
}
