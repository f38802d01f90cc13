// What the access log says: of every kind of request, in every kind of escaping, from variables of every phase.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class LogCases
{
    private const string Area = "logs";

    private const string Formats = """
        log_format one '$remote_addr "$request" $status $request_length "$http_referer" $connection_requests $pipe '
            '$request_completion [$uri] [$args] $request_method $server_protocol $scheme $host $server_name '
            '"$sent_http_content_type" "$sent_http_location" "$http_cookie" "$sent_http_connection" $content_length '
            '"$request_body" "$sent_http_etag" [$request_uri]';
        log_format bytes '$status $body_bytes_sent "$sent_http_content_length"';
        log_format js escape=json '{"a":"$http_a","u":"$request_uri","r":"$request"}';
        log_format raw escape=none '$http_a|$request_uri';
        map $status $loud { ~^[23] 0; default 1; }
        map $arg_m $mapped { default none; a one; }
        """;

    private static Case One(string name, string server, params Talk[] talks) => new(Area, name)
    {
        Http = Formats,
        Server = server,
        Files = [("f.html", "<p>file</p>\n"), ("d/index.html", "index")],
        Talks = talks,
        ComparesAccessLog = true,
    };

    private static Talk Ask(string target, params string[] headers) => Get(target, ["Connection: close", .. headers]);

    public static readonly Case[] All =
    [
        One("requests of every kind", "access_log %DIR%/access.log one; default_type text/html;"
            + " location /r { return 301 /x; } location /t { return 200 text; } location /e { return 204; }"
            + " location /d/ { } location /444 { return 444; }",
            Ask("/f.html"), Ask("/none"), Ask("/r?a=b"), Ask("/t", "Referer: r", "Cookie: a=b"), Ask("/e"), Ask("/d"),
            Ask("/d/"), Ask("/444"), Head("/t", "Connection: close"), Post("/t", "body", "Connection: close"),
            Ask("/t?x=y%20z"), Pipeline(Line("/t"), Line("/none"), Line("/e", "Connection: close")),
            Ask("/f.html", "Range: bytes=0-2"), Ask("/f.html", "If-None-Match: *"),
            Raw("GET /t HTTP/1.0\r\n\r\n"), Raw("GET /t\r\n"), Raw("FOO /t HTTP/1.1\r\nHost: x\r\n\r\n"),
            Raw("GET /t HTTP/1.1\r\n\r\n"), Raw("\x16\x03\x01\r\n\r\n"), Raw("GET /" + new string('x', 40000))),
        One("bytes that are escaped", "access_log %DIR%/access.log one; access_log %DIR%/access.log js;"
            + " access_log %DIR%/access.log raw; location / { return 200; }",
            Ask("/\"q\"\\b", "A: \"\\\t?", "Referer: \x80\xff<>"), Ask("/caf\xc3\xa9", "A: caf\xc3\xa9 \xe2\x82"),
            Ask("/'", "A: ' & <")),
        One("a condition", "access_log %DIR%/access.log one if=$loud; location /ok { return 200; }"
            + " location /no { return 404; } location /mv { return 302 /x; }",
            Ask("/ok"), Ask("/no"), Ask("/mv"), Ask("/none")),
        One("the log of the location that answered", "access_log %DIR%/access.log raw; location /in { access_log off;"
            + " return 200; } location /js { access_log %DIR%/access.log js; return 200; }"
            + " location /ep { error_page 404 /js; return 404; } location /rw { rewrite ^ /in last; }",
            Ask("/in"), Ask("/js"), Ask("/ep"), Ask("/rw"), Ask("/x")),
        One("off beside others of its level", "access_log %DIR%/access.log raw;"
            + " location /after { access_log %DIR%/access.log js; access_log off; return 200; }"
            + " location /before { access_log off; access_log %DIR%/access.log js; return 200; }",
            Ask("/after"), Ask("/before"), Ask("/x")),
        One("bytes of answers", "access_log %DIR%/access.log bytes; default_type text/html;"
            + " location /t { return 200 text; }"
            + " location /z { gzip on; gzip_min_length 1; return 200 zipped; } location /e { return 204; }",
            Ask("/t"), Ask("/f.html"), Ask("/f.html", "Range: bytes=2-4"), Head("/t", "Connection: close"), Ask("/e"),
            Ask("/z", "Accept-Encoding: gzip"), Raw("GET /t\r\n")),
        One("variables that a request set", "access_log %DIR%/access.log own; set $v none;"
            + " location / { set $v $arg_v; return 200 $mapped; }", Ask("/?v=1&m=a"), Ask("/?v=%22"), Ask("/")) with
        {
            Http = Formats
                + "log_format own '$v $mapped $arg_v';",
        },
        One("subrequests where they are wanted", "access_log %DIR%/access.log raw; log_subrequest on;"
            + " location / { auth_request /ask; return 200; }"
            + " location /file { auth_request /ask; alias %FILES%/f.html; }"
            + " location /ask { return 204; }", Ask("/file", "A: x"), Ask("/file?y")),
    ];
}
