// Rows of the http core module and of what decides about a request: rewrite, access, limits, variables.
using static Weir.Tests.Harness.Rows.Row;

namespace Weir.Tests.Harness.Rows;

public static class CoreRows
{
    private const string Up = "location / { proxy_pass http://%UP%; ";
    private const string Half = "POST / HTTP/1.1\r\nHost: row\r\nContent-Length: 10\r\n\r\nhalf";
    private const string Refuse = "client_max_body_size 1; ";
    private const string Held = "location / { open_file_cache max=10; open_file_cache_valid 1h; ";
    private const string Msie = "User-Agent: Mozilla/4.0 (compatible; MSIE 8.0)";

    private const string Named = "location / { set $host_of_it it.test; proxy_pass http://$host_of_it:%UPPORT%/%ID%; ";

    // A request is held by an origin while another asks for a file.
    private const string Held1 = "location / { limit_conn %ID% 9; proxy_pass http://%UP%; } location /b.txt { ";
    private const string Places = "limit_conn_zone $server_port zone=%ID%:32k;";
    private static readonly string Second = Beside + Get("/") + Beside + Get("/b.txt");

    public static readonly Row[] All =
    [
        new("client_header_timeout", "client_header_timeout %V; return 200 ok;", "200ms", "60s", "<end>", "<open>")
        {
            Send = "GET / HTTP/1.1\r\nHo" + Until,
        },
        new("client_header_buffer_size",
            "client_header_buffer_size %V; large_client_header_buffers 1 100; return 200 ok;",
            "64", "4k", " 414 ", " 200 ") { Send = Get("/" + new string('u', 200)) },
        new("large_client_header_buffers",
            "client_header_buffer_size 64; large_client_header_buffers %V; return 200 ok;",
            "2 256", "4 8k", " 414 ", " 200 ") { Send = Get("/" + new string('u', 600)) },
        new("max_headers", "max_headers %V; return 200 ok;", "3", "50", " 400 ", " 200 ")
        {
            Send = Get("/", "A: 1", "B: 2", "C: 3"), IsNewer = true,
        },
        new("ignore_invalid_headers", "ignore_invalid_headers %V; " + Up + "}", "on", "off", "!X$y", "X$y")
        {
            Send = Get("/", "X$y: 1"),
        },
        new("merge_slashes", "merge_slashes %V; location / { return 200 \"u=$uri\"; }", "on", "off", "u=/a/b",
            "u=//a//b")
        {
            Send = Get("//a//b"),
        },
        new("underscores_in_headers", "underscores_in_headers %V; return 200 \"v=$http_a_b.\";", "on", "off",
            "v=yes.", "v=.") { Send = Get("/", "A_b: yes") },
        new("server", "return 200 row;", "one", "two", "said one", "said two")
        {
            After = "server { listen %HOST%:%PORT%; server_name other; return 200 \"said %V\"; }",
            Send = "GET / HTTP/1.0\r\nHost: other\r\n\r\n",
        },
        new("listen", "return 200 first;", "default_server", "", "second", "first")
        {
            After = "server { listen %HOST%:%PORT% %V; server_name other; return 200 second; }",
            Send = "GET / HTTP/1.0\r\nHost: nobody\r\n\r\n",
        },
        new("server_name", "return 200 first;", "*.zone", "~^b", "second", "first")
        {
            After = "server { listen %HOST%:%PORT%; server_name %V; return 200 second; }",
            Send = "GET / HTTP/1.0\r\nHost: a.zone\r\n\r\n",
        },
        new("location", "location %V { return 200 in; } location / { return 200 out; }", "/a", "= /a", "in", "out")
        {
            Send = Get("/ab"),
        },
        new("types", "types { %V txt; }", "text/a", "text/b", "Content-Type: text/a", "Content-Type: text/b")
        {
            Send = Get("/b.txt"),
        },
        new("default_type", "default_type %V;", "text/a", "text/b", "Content-Type: text/a", "Content-Type: text/b")
        {
            Send = Get("/plain.zzz"),
        },
        new("root", "root %FILES%/%V;", "dir", "solo", " 200 ", " 404 ") { Send = Get("/one.txt") },
        new("alias", "location /al/ { alias %FILES%/%V/; }", "dir", "solo", " 200 ", " 404 ")
        {
            Send = Get("/al/one.txt"),
        },
        new("limit_except", "location / { limit_except %V { deny all; } }", "GET", "POST", " 403 ", " 405 ")
        {
            Send = Post("/b.txt", ""),
        },
        new("client_max_body_size", "client_max_body_size %V; " + Up + "}", "4", "5", " 413 ", " 200 ")
        {
            Send = Post("/", "12345"),
        },
        new("client_body_buffer_size", "client_body_buffer_size %V; error_log %LOG% warn; " + Up + "}", "1k", "64k",
            "buffered to a temporary file", "!buffered to a temporary file")
        {
            Send = Post("/", new string('b', 40_000)),
        },
        new("client_body_timeout", "client_body_timeout %V; " + Up + "}", "200ms", "60s", "<end>", "<open>")
        {
            Send = Half + Until,
        },
        new("client_body_temp_path", "client_body_temp_path %DIR%/%V; client_body_in_file_only on; "
            + "add_header X-F $request_body_file; " + Up + "}", "bodya", "bodyb", "/bodya/", "/bodyb/")
        {
            Send = Post("/", "body"),
        },
        new("client_body_in_file_only",
            "client_body_in_file_only %V; add_header X-F \"f$request_body_file.\"; " + Up + "}", "clean", "off",
            "X-F: f/",
            "X-F: f.") { Send = Post("/", "body") },
        new("client_body_early_read", "client_body_early_read %V; set $body $request_body; return 200 \"[$body]\";",
            "1", "0", "[body]", "[]") { Send = Post("/", "body"), IsNewer = true },
        new("limit_rate", "limit_rate %V;", "1", "0", "<open>", "<end>") { Send = Get("/mid.txt") + Until },
        new("limit_rate_after", "limit_rate 1; limit_rate_after %V;", "1", "1m", "<open>", "<end>")
        {
            Send = Get("/mid.txt") + Until,
        },
        new("keepalive_time", "keepalive_time %V; location / { return 200 ok; }", "1ms", "1h", "<end>", "<open>")
        {
            Send = Keep("/") + Row.Answer + Row.Wait + Row.Wait + Keep("/") + Until,
        },
        new("keepalive_timeout", "keepalive_timeout %V; location / { return 200 ok; }", "0", "30", "!keep-alive",
            "keep-alive")
        {
            Send = Keep("/") + Get("/"),
        },
        new("keepalive_requests", "keepalive_requests %V; location / { return 200 ok; }", "1", "2", "!keep-alive",
            "keep-alive")
        {
            Send = Keep("/") + Get("/"),
        },
        new("keepalive_disable", "keepalive_disable %V; location / { return 200 ok; }", "safari", "none", "!keep-alive",
            "keep-alive")
        {
            Send = Keep("/", "User-Agent: Mozilla/5.0 (Macintosh; Mac OS X) AppleWebKit/525 Safari/525") + Get("/"),
        },
        new("satisfy", "satisfy %V; allow all; auth_basic x; auth_basic_user_file %FILES%/pw;", "any", "all", " 200 ",
            " 401 "),
        new("auth_delay", "auth_delay %V; auth_basic x; auth_basic_user_file %FILES%/pw;", "600s", "0", "<open>",
            " 401 ") { Send = Get("/") + Until },
        new("internal", "location = /b.txt { %V }", "internal;", "", " 404 ", " 200 ") { Send = Get("/b.txt") },
        new("lingering_close", Refuse + "lingering_close %V; lingering_timeout 60s; " + Up + "}", "off", "always",
            "<broken>", "<taken>") { Send = Half + Poke },
        new("lingering_time", Refuse + "lingering_time %V; lingering_timeout 60s; " + Up + "}", "0", "60s", "<broken>",
            "<taken>") { Send = Half + Poke },
        new("lingering_timeout", Refuse + "lingering_timeout %V; " + Up + "}", "100ms", "60s", "<broken>", "<taken>")
        {
            Send = Half + Poke,
        },
        new("absolute_redirect", "absolute_redirect %V; return 301 /x;", "on", "off", "Location: http://row",
            "Location: /x"),
        new("server_name_in_redirect", "server_name_in_redirect %V; return 301 /x;", "on", "off", "http://row:",
            "http://other:") { Send = "GET / HTTP/1.0\r\nHost: other\r\n\r\n" },
        new("port_in_redirect", "port_in_redirect %V; return 301 /x;", "on", "off", "row:%PORT%/", "row/x"),
        new("msie_padding", "msie_padding %V;", "on", "off", "a padding to disable MSIE", "!a padding")
        {
            Send = Get("/none", Msie),
        },
        new("msie_refresh", "msie_refresh %V; return 301 /x;", "on", "off", "http-equiv=\"Refresh\"", "Location: ")
        {
            Send = Get("/", Msie),
        },
        new("log_not_found", "error_log %LOG%; log_not_found %V;", "on", "off", "/none\" failed", "!failed")
        {
            Send = Get("/none"),
        },
        new("log_subrequest", "access_log %LOG% row; log_subrequest %V; add_after_body /b.txt;", "on", "off",
            "logged /b.txt", "!logged /b.txt"),
        new("recursive_error_pages", "recursive_error_pages %V; error_page 404 /e; error_page 403 =200 /ok; "
            + "location / { return 404; } location = /e { return 403; } location = /ok { return 200 again; }", "on",
            "off",
            "again", " 403 "),
        new("server_tokens", "server_tokens %V; return 200 ok;", "on", "off", "Server: %NAME%/", "Server: %NAME%\r"),
        new("if_modified_since", "if_modified_since %V;", "exact", "before", " 200 ", " 304 ")
        {
            Send = Get("/", "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT"),
        },
        new("max_ranges", "max_ranges %V;", "0", "1", " 200 ", " 206 ") { Send = Get("/b.txt", "Range: bytes=0-1") },
        new("chunked_transfer_encoding", "chunked_transfer_encoding %V; sub_filter i j;", "on", "off", "chunked",
            "!chunked"),
        new("etag", "etag %V;", "on", "off", "ETag: ", "!ETag: "),
        new("error_page", "error_page 404 =%V /ok; location = /ok { return 200 ok; }", "201", "202", " 201 ", " 202 ")
        {
            Send = Get("/none"),
        },
        new("post_action", "post_action /%V; error_log %LOG%;", "p1", "p2", "/p1\" failed", "/p2\" failed"),
        new("early_hints", "early_hints %V; " + Up + "}", "1", "0", "103 Early Hints", "!103 Early Hints")
        {
            Up = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            IsNewer = true,
        },
        new("resolver", Named + "resolver %V ipv6=off; resolver_timeout 60s; }", "%NAMES%", "%SILENT%", " 200 ",
            "<open>") { Send = Get("/") + Until },
        new("resolver_timeout", Named + "resolver %SILENT% ipv6=off; resolver_timeout %V; }", "200ms", "60s", " 502 ",
            "<open>") { Send = Get("/") + Until },
        new("send_timeout", "send_timeout %V; error_log %LOG% info; " + Up + "proxy_buffering off; }", "200ms", "60s",
            "timed out", "!timed out") { Up = "~large~", LogFirst = true },
        new("error_log", "error_log %LOG% %V;", "error", "crit", "/none\" failed", "!failed") { Send = Get("/none") },
        new("open_file_cache",
            "location / { open_file_cache %V; open_file_cache_valid 1h; open_file_cache_errors on; }",
            "max=10", "off", "!now there", "now there") { Send = Keep("/made-%ID%") + Touch + Get("/made-%ID%") },
        new("open_file_cache_errors", Held + "open_file_cache_errors %V; }", "on", "off", "!now there", "now there")
        {
            Send = Keep("/made-%ID%") + Touch + Get("/made-%ID%"),
        },
        new("open_file_cache_valid",
            "location / { open_file_cache max=10; open_file_cache_errors on; open_file_cache_valid %V; }",
            "1h", "0", "!now there", "now there") { Send = Keep("/made-%ID%") + Touch + Get("/made-%ID%") },
        new("open_file_cache_min_uses", Held + "open_file_cache_min_uses %V; }", "1", "5", "!now there", "now there")
        {
            Send = Keep("/held-%ID%") + Touch + Get("/held-%ID%"),
        },
        new("disable_symlinks", "disable_symlinks %V;", "on", "off", " 403 ", " 200 ") { Send = Get("/link.txt") },
        new("try_files", "try_files /%V =404;", "b.txt", "none", " 200 ", " 404 "),

        new("rewrite", "rewrite ^ /%V break; root %FILES%;", "b.txt", "none", " 200 ", " 404 "),
        new("return", "return %V;", "201", "202", " 201 ", " 202 "),
        new("break", "location / { %V return 200 behind; }", "break;", "", "!behind", "behind"),
        new("if", "if (%V) { return 200 inside; } return 200 outside;", "$arg_a", "!-d /etc", "inside", "outside")
        {
            Send = Get("/?a=1"),
        },
        new("set", "set $v %V; return 200 \"v=$v.\";", "a", "b", "v=a.", "v=b."),
        new("rewrite_log", "error_log %LOG% notice; rewrite_log %V; rewrite ^ /x; return 200 ok;", "on", "off",
            "\"^\" matches \"/\"", "!matches"),
        new("uninitialized_variable_warn", "error_log %LOG% warn; uninitialized_variable_warn %V; "
            + "if ($arg_never) { set $never_set 1; } return 200 \"$never_set\";", "on", "off",
            "using uninitialized \"never_set\" variable", "!uninitialized"),
        new("allow", "location / { allow %V; deny all; }", "127.0.0.0/8", "10.0.0.0/8", " 200 ", " 403 "),
        new("deny", "location / { deny %V; }", "127.0.0.0/8", "10.0.0.0/8", " 403 ", " 200 "),
        new("auth_basic", "auth_basic %V; auth_basic_user_file %FILES%/pw;", "realm", "off", "realm=\"realm\"",
            " 200 "),
        new("auth_basic_user_file", "auth_basic x; auth_basic_user_file %FILES%/%V;", "pw", "pw2", " 200 ", " 401 ")
        {
            Send = Get("/", "Authorization: Basic dXNlcjpwYXNz"),
        },
        new("auth_request", "location / { auth_request %V; } location = /no { return 403; }", "/no", "off", " 403 ",
            " 200 "),
        new("auth_request_set", "location / { auth_request /yes; auth_request_set $said %V; add_header X-S $said; } "
            + "location = /yes { return 204; }", "a$status", "b$status", "X-S: a204", "X-S: b204"),
        new("set_real_ip_from", "set_real_ip_from %V; real_ip_header X-R; return 200 \"i=$remote_addr.\";",
            "127.0.0.0/8", "10.0.0.0/8", "i=1.2.3.4.", "i=127.") { Send = Get("/", "X-R: 1.2.3.4") },
        new("real_ip_header", "set_real_ip_from 127.0.0.0/8; real_ip_header %V; return 200 \"i=$remote_addr.\";", "X-R",
            "X-Q", "i=1.2.3.4.", "i=5.6.7.8.") { Send = Get("/", "X-R: 1.2.3.4", "X-Q: 5.6.7.8") },
        new("real_ip_recursive", "set_real_ip_from 127.0.0.0/8; real_ip_header X-R; real_ip_recursive %V; "
            + "return 200 \"i=$remote_addr.\";", "on", "off", "i=1.2.3.4.", "i=127.9.9.9.")
        {
            Send = Get("/", "X-R: 1.2.3.4, 127.9.9.9"),
        },
        new("valid_referers", "valid_referers %V; return 200 \"r=$invalid_referer.\";", "*.zone", "none", "r=.", "r=1.")
        {
            Send = Get("/", "Referer: http://a.zone/"),
        },
        new("secure_link", "secure_link %V; secure_link_md5 \"key\"; return 200 \"s=$secure_link.\";",
            "$arg_m", "$arg_x", "s=1.", "s=.") { Send = Get("/?m=PG4LipwVIkqCKLmpjKFTHQ") },
        new("secure_link_md5", "secure_link $arg_m; secure_link_md5 \"%V\"; return 200 \"s=$secure_link.\";",
            "key", "other", "s=1.", "s=.") { Send = Get("/?m=PG4LipwVIkqCKLmpjKFTHQ") },
        new("secure_link_secret",
            "location /p/ { secure_link_secret %V; return 200 \"s=$secure_link.\"; }", "key", "other", "s=file.", "s=.")
        {
            Send = Get("/p/0276fbd42bb061bc414cc789840e9467/file"),
        },
        new("limit_req_zone", "location / { limit_req zone=%ID%; try_files /b.txt =404; }", "1r/m", "1000r/s", " 503 ",
            "! 503 ")
        {
            Http = "limit_req_zone $server_port zone=%ID%:32k rate=%V;",
            Send = Keep("/") + Row.Answer + Row.Wait + Get("/"),
        },
        new("limit_req", "location / { limit_req zone=%ID% %V; try_files /b.txt =404; }", "", "burst=1 nodelay",
            " 503 ",
            "! 503 ")
        {
            Http = "limit_req_zone $server_port zone=%ID%:32k rate=1r/m;", Send = Keep("/") + Get("/"),
        },
        new("limit_req_status", "location / { limit_req zone=%ID%; limit_req_status %V; try_files /b.txt =404; }",
            "429",
            "599", " 429 ", " 599 ")
        {
            Http = "limit_req_zone $server_port zone=%ID%:32k rate=1r/m;", Send = Keep("/") + Get("/"),
        },
        new("limit_req_log_level", "error_log %LOG%; location / { limit_req zone=%ID%; limit_req_log_level %V; "
            + "try_files /b.txt =404; }", "error", "notice", "limiting requests", "!limiting requests")
        {
            Http = "limit_req_zone $server_port zone=%ID%:32k rate=1r/m;", Send = Keep("/") + Get("/"),
        },
        new("limit_req_dry_run", "location / { limit_req zone=%ID%; limit_req_dry_run %V; try_files /b.txt =404; }",
            "off", "on", " 503 ", "! 503 ")
        {
            Http = "limit_req_zone $server_port zone=%ID%:32k rate=1r/m;", Send = Keep("/") + Get("/"),
        },
        new("limit_conn_zone", Held1 + "limit_conn %ID% 1; }", "$server_port", "$request_uri", " 503 ", " 200 ")
        {
            Http = "limit_conn_zone %V zone=%ID%:32k;", Send = Second, Up = "~deaf~",
        },
        new("limit_conn", Held1 + "limit_conn %ID% %V; }", "1", "2", " 503 ", " 200 ")
        {
            Http = Places, Send = Second, Up = "~deaf~",
        },
        new("limit_conn_status", Held1 + "limit_conn %ID% 1; limit_conn_status %V; }", "429", "599", " 429 ", " 599 ")
        {
            Http = Places, Send = Second, Up = "~deaf~",
        },
        new("limit_conn_log_level", "error_log %LOG%; " + Held1 + "limit_conn %ID% 1; limit_conn_log_level %V; }",
            "error", "notice", "limiting connections", "!limiting connections")
        {
            Http = Places, Send = Second, Up = "~deaf~",
        },
        new("limit_conn_dry_run", Held1 + "limit_conn %ID% 1; limit_conn_dry_run %V; }", "off", "on", " 503 ", " 200 ")
        {
            Http = Places, Send = Second, Up = "~deaf~",
        },
        new("map", "return 200 \"m=$m_%ID%.\";", "a", "b", "m=a.", "m=b.")
        {
            Http = "map $arg_a $m_%ID% { 1 %V; }", Send = Get("/?a=1"),
        },
        new("geo", "return 200 \"g=$g_%ID%.\";", "127.0.0.0/8", "10.0.0.0/8", "g=in.", "g=out.")
        {
            Http = "geo $g_%ID% { default out; %V in; }",
        },
        new("split_clients", "return 200 \"s=$s_%ID%.\";", "99.99%", "0.01%", "s=in.", "s=out.")
        {
            Http = "split_clients \"one of many\" $s_%ID% { %V in; * out; }",
        },
        new("modern_browser", "modern_browser %V; return 200 \"m=$modern_browser.\";", "gecko 1.0", "gecko 9.0", "m=1.",
            "m=.") { Send = Get("/", "User-Agent: Mozilla/5.0 (X11; rv:2.0) Gecko/20100101 Firefox/4.0") },
        new("ancient_browser", "modern_browser unlisted; ancient_browser %V; return 200 \"a=$ancient_browser.\";",
            "Old",
            "Older", "a=1.", "a=.")
        {
            Send = Get("/", "User-Agent: Old/1"),
        },
        new("modern_browser_value",
            "modern_browser unlisted; modern_browser_value %V; return 200 \"m=$modern_browser.\";",
            "x", "y", "m=x.", "m=y.") { Send = Get("/", "User-Agent: New/1") },
        new("ancient_browser_value",
            "ancient_browser Old; ancient_browser_value %V; return 200 \"a=$ancient_browser.\";",
            "x", "y", "a=x.", "a=y.") { Send = Get("/", "User-Agent: Old/1") },
        new("access_log", "access_log %V;", "%LOG% row", "off", "logged /", "!logged") { },
        new("log_format", "access_log %LOG% %ID%;", "one", "two", "said one", "said two")
        {
            Http = "log_format %ID% \"said %V\";",
        },
        new("stub_status", "location / { %V }", "stub_status;", "", "Active connections", "!Active"),
    ];
}
