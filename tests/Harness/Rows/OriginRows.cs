// Rows of what asks origins: proxy, fastcgi, memcached and groups of servers. Families share most of their directives,
// so most rows are written once.
using static Weir.Tests.Harness.Rows.Row;

namespace Weir.Tests.Harness.Rows;

public static class OriginRows
{
    private const string Http = "location / { proxy_pass http://%UP%; ";
    private const string Cgi = "location / { fastcgi_pass %CGI%; fastcgi_param ROW %ID%; ";
    private const string Mem = "location / { set $memcached_key %ID%; memcached_pass %MEM%; ";
    private const string Late = "~2000~";
    private const string Pair = "upstream %ID% { server 127.0.0.1:1; server %TO% backup; }";

    private static string Ok(string body, params string[] headers) => "HTTP/1.1 200 OK\r\n"
        + string.Concat(headers.Select(static h => h + "\r\n")) + $"Content-Length: {body.Length}\r\n\r\n{body}";

    private static string Said(string body, params string[] headers) => "Status: 200 OK\r\n"
        + string.Concat(headers.Select(static h => h + "\r\n")) + $"\r\n{body}";

    public static readonly Row[] All =
    [
        .. Shared("proxy", Http, static (body, headers) => Ok(body, headers), "http://%ID%/%ID%/"),
        .. Shared("fastcgi", Cgi, static (body, headers) => Said(body, headers), "%ID%"),
        .. Timed("proxy", Http), .. Timed("fastcgi", Cgi), .. Timed("memcached", Mem),
        .. Unconnected("proxy", "location / { proxy_pass http://"), .. Unconnected("fastcgi",
            "location / { fastcgi_param ROW %ID%; fastcgi_pass "),
        .. Unconnected("memcached", "location / { set $memcached_key %ID%; memcached_pass "),
        .. Next("proxy", "location / { proxy_pass http://%ID%/%ID%/; ", "%UPHOST%"),
        .. Next("fastcgi", "location / { fastcgi_pass %ID%; fastcgi_param ROW %ID%; ", "%CGI%"),
        .. Next("memcached", "location / { set $memcached_key %ID%; memcached_pass %ID%; ", "%MEM%"),
        .. Unconnected("grpc", "location / { grpc_pass "), .. Next("grpc", "location / { grpc_pass %ID%; ", "%GRPC%"),
        new("grpc_bind", "location / { grpc_pass %GRPC%; grpc_bind %V; }", "127.9.9.8", "127.9.9.9", "peer=127.9.9.8",
            "peer=127.9.9.9"),
        new("grpc_ignore_headers", "location / { grpc_pass %GRPC%; grpc_ignore_headers %V; } "
            + "location = /other { return 200 other; }", "X-Accel-Redirect", "X-Accel-Charset", "h2 said", "other")
        {
            Send = Get("/accel"),
        },
        new("grpc_hide_header", "location / { grpc_pass %GRPC%; grpc_hide_header %V; }", "X-A", "X-B", "x-b: 2",
            "x-a: 1") { Send = Get("/fields") },
        new("grpc_pass_header", "location / { grpc_pass %GRPC%; grpc_pass_header %V; }", "X-Accel-Expires", "X-Pad",
            "x-accel-expires: 1", "!x-accel-expires") { Send = Get("/fields") },
        new("grpc_intercept_errors", "location / { grpc_pass %GRPC%; error_page 404 = @caught; "
            + "grpc_intercept_errors %V; } location @caught { return 200 caught; }", "on", "off", "caught", "h2 missed")
        {
            Send = Get("/miss"),
        },
        new("grpc_set_header", "location / { grpc_pass %GRPC%; grpc_set_header Host %V; }", "one.zone", "two.zone",
            "host=one.zone", "host=two.zone"),

        new("proxy_pass", "location / { proxy_pass http://%UPHOST%/%ID%/%V; }", "a", "b", "GET /%ID%/a ",
            "GET /%ID%/b "),
        new("proxy_redirect", Http + "proxy_redirect %V; }", "http://old/ http://new/", "off", "Location: http://new/x",
            "Location: http://old/x")
        {
            Up = "HTTP/1.1 302 Found\r\nLocation: http://old/x\r\nContent-Length: 0\r\n\r\n",
        },
        new("proxy_cookie_domain", Http + "proxy_cookie_domain %V; }", "old new", "off", "domain=new", "domain=old")
        {
            Up = Ok("x", "Set-Cookie: k=v; domain=old; path=/p"),
        },
        new("proxy_cookie_path", Http + "proxy_cookie_path %V; }", "/p /q", "off", "path=/q", "path=/p")
        {
            Up = Ok("x", "Set-Cookie: k=v; domain=old; path=/p"),
        },
        new("proxy_cookie_flags", Http + "proxy_cookie_flags %V; }", "k secure", "k httponly", "; Secure", "; HttpOnly")
        {
            Up = Ok("x", "Set-Cookie: k=v"),
        },
        new("proxy_set_header", Http + "proxy_set_header X-A %V; }", "a", "b", "X-A: a", "X-A: b"),
        new("proxy_set_body", Http + "proxy_set_body %V; }", "bodya", "bodyb", "bodya", "bodyb"),
        new("proxy_pass_trailers", Http + "proxy_pass_trailers %V; }", "on", "off", "X-T: t", "!X-T: t")
        {
            Send = Get("/", "TE: trailers"), IsNewer = true,
            Up = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: t\r\n\r\n",
        },
        new("proxy_method", Http + "proxy_method %V; }", "PUT", "PATCH", "PUT /%ID%", "PATCH /%ID%"),
        new("proxy_http_version", Http + "proxy_http_version %V; }", "1.0", "1.1", " HTTP/1.0\r\nHost",
            " HTTP/1.1\r\nHost"),
        new("fastcgi_pass", "location / { fastcgi_pass %V; fastcgi_param ROW %ID%; }", "%CGI%", "127.0.0.1:1", " 200 ",
            " 502 "),
        new("fastcgi_param", Cgi + "fastcgi_param X_A %V; }", "a", "b", "X_A=a", "X_A=b"),
        new("fastcgi_index", Cgi + "fastcgi_index %V; fastcgi_param N $fastcgi_script_name; }", "a.php", "b.php",
            "N=/a.php", "N=/b.php"),
        new("fastcgi_split_path_info", Cgi + "fastcgi_split_path_info %V; fastcgi_param N $fastcgi_path_info; }",
            "^(/a)(.*)$", "^(/a/b)(.*)$", "N=/b/c", "N=/c") { Send = Get("/a/b/c") },
        new("fastcgi_catch_stderr", Cgi + "fastcgi_catch_stderr %V; }", "broken", "other", " 502 ", " 200 ")
        {
            Up = "!!it is broken!!" + Said("x"),
        },
        new("fastcgi_keep_conn", Cgi + "fastcgi_keep_conn %V; }", "on", "off", "flags=1", "flags=0"),
        new("memcached_pass", "location / { set $memcached_key %ID%; memcached_pass %V; }", "%MEM%", "127.0.0.1:1",
            " 200 ", " 502 "),
        new("memcached_gzip_flag", Mem + "memcached_gzip_flag %V; }", "2", "4", "Content-Encoding: gzip",
            "!Content-Encoding") { Up = "VALUE %ID% 2 4\r\nbody\r\nEND\r\n" },
        new("memcached_bind", Mem + "memcached_bind %V; }", "127.9.9.8", "127.9.9.9", "peer=127.9.9.8",
            "peer=127.9.9.9"),
        new("memcached_socket_keepalive", Mem + "memcached_socket_keepalive %V; }", "on", "off", "timer=02",
            "!timer=02"),
        new("memcached_send_timeout", "large_client_header_buffers 2 16m; location / { "
            + "set $memcached_key %ID%${http_long}; memcached_pass %MEM%; memcached_send_timeout %V; }", "200ms", "60s",
            " 504 ", "<open>") { Send = Get("/", "Long: " + new string('k', 12 << 20)) + Until, Up = "~deaf~" },
        new("memcached_buffer_size", Mem + "memcached_buffer_size %V; }", "4k", "16k", " 502 ", " 200 ")
        {
            Up = $"VALUE %ID% {new string('0', 6000)} 4\r\nbody\r\nEND\r\n",
        },

        new("upstream", "location / { proxy_pass http://%V; }", "%ID%", "none_%ID%", " 200 ", " 502 ")
        {
            Http = "upstream %ID% { server %UPHOST%; } upstream none_%ID% { server 127.0.0.1:1; }",
        },
        new("zone", "location /api/ { api; } location / { proxy_pass http://%ID%; }", "zone z_%ID% 64k;", "",
            "\"peers\"", " 404 ")
        {
            Http = "upstream %ID% { %V server %UPHOST%; }", Send = Get("/api/9/http/upstreams/%ID%"), IsNewer = true,
        },
        new("keepalive", "location / { proxy_http_version 1.1; proxy_set_header Connection ''; "
            + "proxy_pass http://%ID%/%ID%/; }", "1", "0", "nth=2", "!nth=2")
        {
            Http = "upstream %ID% { server %UPHOST%; keepalive %V; }", Send = Keep("/") + Get("/"), IsNewer = true,
        },
        Kept("keepalive_requests", "100", "1"), Kept("keepalive_time", "1h", "1ms"), Kept("keepalive_timeout", "60s",
        "1ms"),
    ];

    /// <summary>Upstream groups have these by the names of the core's: "in upstream" tells them apart.</summary>
    private static Row Kept(string name, string a, string b) => new(name + " in upstream",
        "location / { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://%ID%/%ID%/; }", a, b,
        "nth=3", "!nth=3")
    {
        Http = $"upstream %ID% {{ server %UPHOST%; keepalive 1; {name} %V; }}",
        Send = Keep("/") + Row.Answer + Row.Wait + Row.Wait + Keep("/") + Row.Answer + Row.Wait + Row.Wait + Get("/"),
    };

    private static Row[] Shared(string family, string to, Func<string, string[], string> answer, string group) =>
    [
        new($"{family}_buffering", to + $"{family}_buffering %V; }}", "on", "off", "!half", "half")
        {
            Send = Get("/") + Until, Up = answer("half", []).Replace("Content-Length: 4", "Content-Length: 8")
                + "~hold~",
        },
        new($"{family}_request_buffering", to + $"{family}_request_buffering %V; }}", "on", "off", "!early", "early")
        {
            Send = Post("/", "0123456789")[..^5] + Until, Up = "~early~" + answer("early", []),
        },
        new($"{family}_intercept_errors", to + $"{family}_intercept_errors %V; error_page 404 =201 /i; }} "
            + "location = /i { return 201 caught; }", "on", "off", "caught", " 404 ")
        {
            Up = answer("x", []).Replace("200 OK", "404 Not Found"),
        },
        new($"{family}_pass_request_headers", to + $"{family}_pass_request_headers %V; }}", "on", "off", "marked",
            "!marked") { Send = Get("/", "X-Mark: marked") },
        new($"{family}_pass_request_body", to + $"{family}_pass_request_body %V; }}", "on", "off", "the body",
            "!the body") { Send = Post("/", "the body") },
        new($"{family}_buffer_size", to + $"{family}_buffers 4 8k; {family}_buffer_size %V; }}", "1k", "8k", " 502 ",
            " 200 ") { Up = answer("x", ["X-Long: " + new string('h', 3000)]) },
        new($"{family}_force_ranges", to + $"{family}_force_ranges %V; }}", "on", "off", " 206 ", " 200 ")
        {
            Send = Get("/", "Range: bytes=0-1"), Up = answer("0123456789", ["Content-Length: 10"]).Replace(
                "Content-Length: 10\r\nContent-Length: 10", "Content-Length: 10"),
        },
        new($"{family}_limit_rate", to + $"{family}_limit_rate %V; }}", "1", "0", "<open>", "<end>")
        {
            Send = Get("/") + Until, Up = answer(new string('r', 400_000), []),
        },
        new($"{family}_max_temp_file_size", to + $"error_log %LOG% warn; {family}_max_temp_file_size %V; }}", "64m",
            "0",
            "to a temporary file", "!to a temporary file") { Up = "~large~", LogFirst = true },
        new($"{family}_temp_path", to + $"error_log %LOG% warn; {family}_temp_path %DIR%/%V; }}", $"{family}a",
            $"{family}b", $"/{family}a", $"/{family}b") { Up = "~large~", LogFirst = true },
        new($"{family}_buffers", to + $"error_log %LOG% warn; {family}_buffers %V; }}", "8 4k", "4000 4k",
            "to a temporary file", "!to a temporary file") { Up = "~large~", LogFirst = true },
        new($"{family}_temp_file_write_size", to + $"error_log %LOG% warn; {family}_read_timeout 2s; "
            + $"{family}_temp_file_write_size %V; }}", "16k",
            "64m", "to a temporary file", "!to a temporary file")
        {
            Up = answer(new string('l', 8 << 20), []).Replace("Length: 8", "Length: 9") + "~hold~", LogFirst = true,
        },
        new($"{family}_store", to + $"{family}_store %DIR%/stored-%ID%-%V; }}", "one", "two", "-one.", "-two.")
        {
            Up = answer("x", []),
        },
        new($"{family}_store_access", to + $"{family}_store %DIR%/stored-%ID%-it; {family}_store_access %V; }}",
            "user:rw", "user:rw all:r", ". UserWrite, UserRead.", "OtherRead, UserWrite, UserRead.")
        {
            Up = answer("x", []),
        },
        new($"{family}_cache_path", to + $"{family}_cache %ID%; {family}_cache_key $uri; {family}_cache_valid 1h; }}",
            "one", "two", "-one/", "-two/")
        {
            Http = $"{family}_cache_path %DIR%/stored-%ID%-%V keys_zone=%ID%:64k;", Up = answer("x", []),
        },
        new($"{family}_ignore_client_abort", to + $"access_log %LOG% row; {family}_ignore_client_abort %V; }}", "on",
            "off", "logged / 200", "logged / 499") { Send = Get("/") + Row.Drop, Up = "~2000~" + answer("x", []) },
        new($"{family}_pass_header", to + $"{family}_pass_header %V; }}", "X-Accel-Expires", "X-Pad",
            "X-Accel-Expires: 1",
            "!X-Accel-Expires") { Up = answer("x", ["X-Accel-Expires: 1"]) },
        new($"{family}_hide_header", to + $"{family}_hide_header %V; }}", "X-A", "X-B", "X-B: 2", "X-A: 1")
        {
            Up = answer("x", ["X-A: 1", "X-B: 2"]),
        },
        new($"{family}_ignore_headers", to + $"{family}_ignore_headers %V; }} location = /b.txt {{ }}",
            "X-Accel-Redirect", "Expires", "passed",
            "0123456789") { Up = answer("passed", ["X-Accel-Redirect: /b.txt"]) },
        new($"{family}_bind", to + $"{family}_bind %V; }}", "127.9.9.8", "127.9.9.9", "peer=127.9.9.8",
            "peer=127.9.9.9"),
        new($"{family}_socket_rcvbuf", to + $"{family}_socket_rcvbuf %V; }}", "64k", "96k", "rb131072", "rb196608")
        {
            Up = "~ss~",
        },
        new($"{family}_socket_sndbuf", to + $"{family}_socket_sndbuf %V; }}", "64k", "96k", "tb131072", "tb196608")
        {
            Up = "~ss~",
        },
        new($"{family}_send_timeout", to + $"client_max_body_size 0; {family}_send_timeout %V; }}", "200ms", "60s",
            " 504 ", "<open>") { Send = Post("/", new string('s', 12 << 20)) + Until, Up = "~deaf~" },
        new($"{family}_socket_keepalive", to + $"{family}_socket_keepalive %V; }}", "on", "off", "timer=02",
            "!timer=02"),
    ];

    private static Row[] Timed(string family, string to) =>
    [
        new($"{family}_read_timeout", to + $"{family}_read_timeout %V; }}", "100ms", "60s", " 504 ", "! 504 ")
        {
            Up = Late + (family == "memcached" ? "VALUE %ID% 0 4\r\nbody\r\nEND\r\n" : family == "proxy" ? Ok("x")
                : Said("x")),
        },
    ];

    /// <summary>What is asked never lets anybody in.</summary>
    private static Row[] Unconnected(string family, string to) =>
    [
        new($"{family}_connect_timeout", to + $"%FULL%; {family}_connect_timeout %V; }}", "200ms", "60s", " 504 ",
            "<open>") { Send = Get("/") + Until },
        new($"{family}_next_upstream_timeout", to + $"%ID%{(family == "proxy" ? "/%ID%/" : "")}; "
            + $"{family}_connect_timeout 300ms; {family}_next_upstream_timeout %V; }}", "60s", "100ms", " 200 ",
            " 504 ")
        {
            Http = $"upstream %ID% {{ server %FULL%; server {Origin(family)} backup; }}",
        },
    ];

    private static string Origin(string family) =>
        family switch { "proxy" => "%UPHOST%", "fastcgi" => "%CGI%", "grpc" => "%GRPC%", _ => "%MEM%" };

    private static Row[] Next(string family, string to, string address) =>
    [
        new($"{family}_next_upstream", to + $"{family}_next_upstream %V; }}", "error", "off", " 200 ", " 502 ")
        {
            Http = Pair.Replace("%TO%", address),
        },
        new($"{family}_next_upstream_tries", to + $"{family}_next_upstream_tries %V; }}", "2", "1", " 200 ", " 502 ")
        {
            Http = Pair.Replace("%TO%", address),
        },
    ];
}
