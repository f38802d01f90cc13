// The table of variables: what a request makes each of nginx's variables say. Every row has a server of its own (its
// address is %HOST%); what it shows stands between << and >> in the answer, or in the log where the row says so.
//   %HOST%, %PORT%, %PEER% (the client's port), %PID%, %VERSION%, %NAME% (the machine's), %FILES%, %DIR%, %UPSTREAM%
//   <n> a number   <t> seconds with three digits   <h> 32 hexadecimal digits   <iso>, <local> a time
//   <same> whatever nginx says to the same bytes
using static Weir.Tests.Harness.Rows.Row;

namespace Weir.Tests.Harness.Rows;

/// <summary>How a row's request travels.</summary>
public enum Travel
{
    Plain,
    Http2,
    Tls,
}

/// <summary>A template, and what it says.</summary>
public sealed record VariableRow(string Show, string Says)
{
    /// <summary>Text of the server; %SHOW% is the template. Without it every request is answered with it.</summary>
    public string Server { get; init; } = "return 200 \"%SHOW%\";";

    public string Http { get; init; } = "";

    /// <summary>What stands behind the address.</summary>
    public string Listen { get; init; } = "";

    public string Send { get; init; } = Get("/");

    /// <summary>Whether it is read from the row's log.</summary>
    public bool AtLog { get; init; }

    /// <summary>Whether the machine's nginx does not know it.</summary>
    public bool IsNewer { get; init; }

    /// <summary>Whether it is asked again until it says so: what others do counts.</summary>
    public bool Settles { get; init; }

    public Travel Travel { get; init; }
}

public static class VariableRows
{
    private const string Proxied = "location / { proxy_http_version 1.1; proxy_set_header Connection close; "
        + "proxy_pass http://127.0.0.1:%UPSTREAM%; }";
    private const string Tls = "ssl_certificate %FILES%/rsa.crt; ssl_certificate_key %FILES%/rsa.key; "
        + "ssl_client_certificate %FILES%/ca.crt; ssl_verify_client on; ssl_protocols TLSv1.2; "
        + "ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384; ssl_ecdh_curve secp384r1; return 200 \"%SHOW%\";";

    private const string ProxyProtocol2 =
        "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x18\x01\x02\x03\x04\x05\x06\x07\x08\0\x50\0\x51"
        + "\x01\0\x02h2" + "\xe0\0\u0004abcd";

    /// <summary>What the scripted upstream answers, whatever it is asked.</summary>
    public const string Answer = "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Length: 4\r\nX-Up: up\r\n"
        + "Set-Cookie: c=cookie; path=/\r\nLast-Modified: Mon, 05 Jan 2026 10:00:00 GMT\r\nETag: \"tag\"\r\n"
        + "X-Accel-Expires: 1\r\n\r\nbody";

    /// <summary>What it answers to /trailers.</summary>
    public const string Trailing = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
        + "4\r\nbody\r\n0\r\nX-T: behind\r\n\r\n";

    public static readonly VariableRow[] All =
    [
        // The request.
        new("$http_host|$host|$server_name", "Other.TEST:81|other.test|row.test")
        {
            Server = "server_name row.test other.test; return 200 \"%SHOW%\";",
            Send = "GET / HTTP/1.1\r\nHost: Other.TEST:81\r\nConnection: close\r\n\r\n",
        },
        new("$request_port|$is_request_port", "81|:")
        {
            IsNewer = true, Send = "GET / HTTP/1.1\r\nHost: a:81\r\nConnection: close\r\n\r\n",
        },
        new("$http_user_agent|$http_referer|$http_via|$http_x_any", "ua|http://r/|1.0 p|y")
        {
            Send = Get("/", "User-Agent: ua", "Referer: http://r/", "Via: 1.0 p", "X-Any: y"),
        },
        new("$http_x_forwarded_for|$http_cookie|$cookie_b|$cookie_none", "1.1.1.1, 2.2.2.2|a=1; b=2|2|")
        {
            Send = Get("/", "X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2", "Cookie: a=1", "Cookie: b=2"),
        },
        new("$content_length|$content_type", "5|a/b") { Send = Post("/", "12345", "Content-Type: a/b") },
        new("$binary_remote_addr|$remote_addr|$remote_port", "\x7f\0\0\x01|127.0.0.1|%PEER%"),
        new("$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port "
            + "$remote_addr", "192.0.2.1 1111 198.51.100.2 2222 127.0.0.1")
        {
            Listen = "proxy_protocol", Send = "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n" + Get("/"),
        },
        new("$proxy_protocol_addr $proxy_protocol_tlv_alpn $proxy_protocol_tlv_0xe0 [$proxy_protocol_tlv_unique_id]",
            "1.2.3.4 h2 abcd []") { Listen = "proxy_protocol", IsNewer = true, Send = ProxyProtocol2 + Get("/") },
        new("$server_addr $server_port $server_protocol $scheme [$https]", "%HOST% %PORT% HTTP/1.1 http []"),
        new("$server_protocol", "HTTP/1.0") { Send = "GET / HTTP/1.0\r\n\r\n" },
        new("$request_uri|$uri|$document_uri", "/x/../a%20b/%41?a=1&b=2|/a b/A|/a b/A")
        {
            Send = Get("/x/../a%20b/%41?a=1&b=2"),
        },
        new("$request|$request_method|$args|$query_string|$is_args|$arg_b|$arg_none",
            "PUT /p?a=1&b=%32 HTTP/1.1|PUT|a=1&b=%32|a=1&b=%32|?|%32|") { Send = Ask("PUT", "/p?a=1&b=%32") },
        new("[$args|$is_args]", "[|]"),
        new("$args|$query_string|$arg_z|$is_args|$request_uri", "z=9|z=9|9|?|/?a=1")
        {
            Server = "set $args z=9; return 200 \"%SHOW%\";", Send = Get("/?a=1"),
        },
        new("$document_root|$realpath_root|$request_filename", "%FILES%/link|%FILES%/place|%FILES%/link/f.txt")
        {
            Server = "root %FILES%/link; return 200 \"%SHOW%\";", Send = Get("/f.txt"),
        },
        new("$document_root|$request_filename", "%FILES%/place/|%FILES%/place/f.txt")
        {
            Server = "location /al/ { alias %FILES%/place/; add_header X-Show \"%SHOW%\"; }", Send = Get("/al/f.txt"),
        },
        new("$remote_user", "dora") { Send = Get("/", "Authorization: Basic ZG9yYTpwdw==") },
        new("$request_body|$request_body_file|", "12345||")
        {
            Server = Proxied, AtLog = true, Send = Post("/", "12345"),
        },
        new("$request_body|$request_body_file", "|%DIR%/bodies/<file>")
        {
            Server = "client_body_temp_path %DIR%/bodies; client_body_in_file_only clean; " + Proxied, AtLog = true,
            Send = Post("/", "12345"),
        },
        new("$request_length", "<same>") { Send = Post("/", "12345") },
        new("$request_id", "<h>"),

        // The answer.
        new("$status|$bytes_sent|$body_bytes_sent|$request_completion|$pipe|$request_length", "200|<same>|4|OK|.|48")
        {
            Server = "proxy_pass_header Server; " + Proxied, AtLog = true,
        },
        new("$status|$request_completion|$pipe", "404|OK|p")
        {
            Server = "return 404;", AtLog = true,
            Send = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                + "GET /later HTTP/1.1\r\nHost: a\r\n\r\n",
        },
        new("$status|$bytes_sent|$body_bytes_sent|$pipe|$request_completion", "200|0|0|.|")
        {
            Server = "location / { add_header X-Show \"%SHOW%\"; root %FILES%; }", Send = Get("/place/f.txt"),
        },
        new("$sent_http_content_type|$sent_http_content_length|$sent_http_last_modified|$sent_http_cache_control|"
            + "$sent_http_link|$sent_http_x_any", "text/plain|4|<same>|no-cache, private|</a>, </b>|any")
        {
            Server = "root %FILES%; types { text/plain txt; } add_header Cache-Control no-cache; "
                + "add_header Cache-Control private; add_header Link </a>; add_header Link </b>; add_header X-Any any;",
            AtLog = true, Send = Get("/place/f.txt"),
        },
        new("$sent_http_location", "http://row:%PORT%/there")
        {
            Server = "server_name_in_redirect off; return 301 /there;", AtLog = true,
        },
        new("$sent_http_connection|$sent_http_keep_alive|$sent_http_transfer_encoding", "keep-alive|timeout=7|chunked")
        {
            Server = "keepalive_timeout 60 7; root %FILES%; add_trailer X-Show \"%SHOW%\";",
            Send = Keep("/place/f.txt"),
        },
        new("$sent_trailer_x_t", "behind")
        {
            Server = "root %FILES%; add_trailer X-T behind;", AtLog = true, Send = Get("/place/f.txt"),
        },
        new("$limit_rate", "4096") { Server = "set $limit_rate 4k; return 200 \"%SHOW%\";" },
        new("$limit_rate", "0") { Server = "limit_rate 2k; return 200 \"%SHOW%\";" },
        new("$limit_rate", "2048") { Server = "limit_rate 2k; return 200 ok;", AtLog = true },

        // The connection, the process, the time.
        new("$connection|$connection_requests|$connection_time", "<n>|2|<t>")
        {
            Send = Keep("/") + Get("/"),
        },
        new("$nginx_version|$hostname|$pid", "%VERSION%|%NAME%|%PID%"),
        new("$msec|$time_iso8601|$time_local|$request_time", "<t>|<iso>|<local>|<t>"),
        new("$msec|$time_iso8601|$time_local|$request_time", "<t>|<iso>|<local>|<t>") { AtLog = true },
        new("$tcpinfo_rtt|$tcpinfo_rttvar|$tcpinfo_snd_cwnd|$tcpinfo_rcv_space", "<n>|<n>|<n>|<n>"),
        new("$connections_active|$connections_reading|$connections_writing|$connections_waiting", "1|0|1|0")
        {
            Settles = true,
        },

        // Modules.
        new("$msie|$modern_browser|$ancient_browser", "1|new|")
        {
            Server = "modern_browser msie 5.5; modern_browser_value new; return 200 \"%SHOW%\";",
            Send = Get("/", "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; Windows)"),
        },
        new("$msie|$modern_browser|$ancient_browser", "||old")
        {
            Server = "ancient_browser Lynx; ancient_browser_value old; return 200 \"%SHOW%\";",
            Send = Get("/", "User-Agent: Lynx"),
        },
        new("$fastcgi_script_name|$fastcgi_path_info", "/a.php|/b/c")
        {
            Server = "fastcgi_split_path_info ^(.+\\.php)(.*)$; return 200 \"%SHOW%\";", Send = Get("/a.php/b/c"),
        },
        new("$fastcgi_script_name|$fastcgi_path_info", "/d/i.php|")
        {
            Server = "fastcgi_index i.php; return 200 \"%SHOW%\";", Send = Get("/d/"),
        },
        new("$grpc_internal_trailers", "trailers") { Send = Get("/", "TE: trailers") },
        new("$gzip_ratio", "<same>")
        {
            Server = "gzip on; gzip_min_length 1; gzip_types *; root %FILES%;", AtLog = true,
            Send = Get("/words.txt", "Accept-Encoding: gzip"),
        },
        new("$limit_conn_status|$limit_req_status", "PASSED|DELAYED_DRY_RUN")
        {
            Http = "limit_conn_zone $server_addr zone=vc:64k; limit_req_zone $server_addr zone=vr:64k rate=1r/m;",
            Server = "limit_conn vc 9; limit_req zone=vr burst=9; limit_req_dry_run on; root %FILES%;", AtLog = true,
            Send = Keep("/place/f.txt") + Get("/place/f.txt"),
        },
        new("[$limit_conn_status|$limit_req_status]", "[|REJECTED]")
        {
            Http = "limit_conn_zone $server_addr zone=vc2:64k; limit_req_zone $server_addr zone=vr2:64k rate=1r/m;",
            Server = "limit_conn vc2 9; limit_req zone=vr2; root %FILES%;", AtLog = true,
            Send = Keep("/place/f.txt") + Get("/place/f.txt"),
        },
        new("$proxy_host|$proxy_port|$proxy_add_x_forwarded_for|$proxy_internal_body_length|$proxy_internal_chunked",
            "127.0.0.1:%UPSTREAM%|%UPSTREAM%|9.9.9.9, 127.0.0.1|5|")
        {
            Server = Proxied, AtLog = true, Send = Post("/", "12345", "X-Forwarded-For: 9.9.9.9"),
        },
        new("[$proxy_internal_body_length|$proxy_internal_chunked]", "[|chunked]")
        {
            Server = "proxy_request_buffering off; " + Proxied, AtLog = true,
            Send = Ask("POST", "/", "Transfer-Encoding: chunked") + Row.Wait + "3\r\nabc\r\n0\r\n\r\n", Settles = true,
        },
        new("$realip_remote_addr|$realip_remote_port|$remote_addr|$remote_port", "127.0.0.1|%PEER%|8.8.8.8|")
        {
            Server = "set_real_ip_from 127.0.0.0/8; return 200 \"%SHOW%\";", Send = Get("/", "X-Real-IP: 8.8.8.8"),
        },
        new("[$invalid_referer]", "[1]")
        {
            Server = "valid_referers none *.good; return 200 \"%SHOW%\";", Send = Get("/", "Referer: http://bad/"),
        },
        new("[$invalid_referer]", "[]")
        {
            Server = "valid_referers none *.good; return 200 \"%SHOW%\";", Send = Get("/", "Referer: http://a.good/"),
        },
        new("$secure_link|$secure_link_expires", "1|4102444800")
        {
            Server = "secure_link $arg_m,$arg_e; secure_link_md5 \"k$secure_link_expires\"; return 200 \"%SHOW%\";",
            // md5("k4102444800"), in URL's base64.
            Send = Get("/?m=%SECURE%&e=4102444800"),
        },
        new("$secure_link", "/le")
        {
            // md5("/les") is asked for with the secret "s".
            Server = "secure_link_secret s; add_header X-Show \"%SHOW%\"; root %FILES%; try_files /place/f.txt =404;",
            Send = Get("/p/%SECRET%//le"),
        },
        new("$slice_range", "bytes=0-3") { Server = "slice 4; set $part $slice_range; return 200 \"<<$part>>\";" },
        new("$slice_range", "bytes=8-11")
        {
            Server = "slice 4; set $part $slice_range; return 200 \"<<$part>>\";", Send = Get("/", "Range: bytes=9-20"),
        },
        new("[$uid_got|$uid_set|$uid_reset]", "[|uid=<h>|]") { Server = "userid on; root %FILES%;", AtLog = true, },
        new("[$uid_got|$uid_set|$uid_reset]", "[uid=0100007F00000000C0A80001DEADBEEF||]")
        {
            Server = "userid on; root %FILES%;", AtLog = true,
            Send = Get("/", "Cookie: uid=fwAAAQAAAAABAKjA776t3g=="),
        },
        new("[$uid_got|$uid_set|$uid_reset]", "[<same>|uid=<h>|1]")
        {
            Server = "userid on; set $uid_reset 1; root %FILES%;", AtLog = true,
            Send = Get("/", "Cookie: uid=fwAAAQAAAAABAKjA776t3g=="),
        },

        // Upstreams.
        new("$upstream_addr|$upstream_status|$upstream_connect_time|$upstream_header_time|$upstream_response_time",
            "127.0.0.1:%UPSTREAM%|200|<t>|<t>|<t>") { Server = Proxied, AtLog = true },
        new("$upstream_response_length|$upstream_bytes_received|$upstream_bytes_sent|$upstream_http_x_up|"
            + "$upstream_cookie_c|[$upstream_cache_status]", "4|<same>|<same>|up|cookie|[]")
        {
            Server = Proxied, AtLog = true,
        },
        new("$upstream_addr|$upstream_status|$upstream_response_length",
            "127.0.0.1:1, 127.0.0.1:%UPSTREAM%|502, 200|0, 4")
        {
            Http = "upstream vu { server 127.0.0.1:1; server 127.0.0.1:%UPSTREAM% backup; }",
            Server = "location / { proxy_pass http://vu; }", AtLog = true,
        },
        new("$upstream_trailer_x_t", "behind")
        {
            Server = "proxy_pass_trailers on; " + Proxied, AtLog = true, Send = Get("/trailers"), IsNewer = true,
        },
        new("$upstream_cache_status|$upstream_cache_last_modified|$upstream_cache_etag",
            "EXPIRED|Mon, 05 Jan 2026 10:00:00 GMT|\"tag\"")
        {
            Http = "proxy_cache_path %DIR%/cache keys_zone=vcache:128k;",
            Server = "proxy_cache vcache; proxy_cache_key k; proxy_cache_revalidate on; proxy_ignore_headers "
                + "Set-Cookie; " + Proxied,
            AtLog = true, Settles = true,
        },

        // Protocols.
        new("$http2|$server_protocol|$host", "h2c|HTTP/2.0|localhost")
        {
            Listen = "http2", Travel = Travel.Http2,
        },
        new("[$http2]", "[]"),
        new("$https|$scheme|$ssl_protocol|$ssl_cipher|$ssl_curve|$ssl_session_reused|$ssl_early_data|$ssl_server_name|"
            + "[$ssl_alpn_protocol]", "on|https|TLSv1.2|ECDHE-RSA-AES256-GCM-SHA384|secp384r1|.||name.test|[http/1.1]")
        {
            Listen = "ssl", Server = Tls, Travel = Travel.Tls,
        },
        new("$ssl_ciphers|$ssl_curves", "<same>|<same>") { Listen = "ssl", Server = Tls, Travel = Travel.Tls },
        new("$ssl_session_id", "[0-9a-f]{64}")
        {
            Listen = "ssl", Server = "ssl_session_tickets off; ssl_session_cache shared:vs:1m; " + Tls,
            Travel = Travel.Tls,
        },
        new("$ssl_sigalg|$ssl_client_sigalg", "rsa_pss_rsae_sha256|rsa_pss_rsae_sha256")
        {
            Listen = "ssl", Server = Tls, Travel = Travel.Tls, IsNewer = true,
        },
        new("$ssl_sigalgs", "[a-z0-9_:]+") { Listen = "ssl", Server = Tls, Travel = Travel.Tls, IsNewer = true, },
        new("[$ssl_ech_status|$ssl_ech_outer_server_name]", "[|]")
        {
            Listen = "ssl", Server = Tls, Travel = Travel.Tls, IsNewer = true,
        },
        new("$ssl_client_verify|$ssl_client_s_dn|$ssl_client_i_dn|$ssl_client_s_dn_legacy|$ssl_client_i_dn_legacy|"
            + "$ssl_client_serial|$ssl_client_fingerprint",
            "SUCCESS|%SUBJECT%|%ISSUER%|%LEGACY-SUBJECT%|%LEGACY-ISSUER%|%SERIAL%|%FINGERPRINT%")
        {
            Listen = "ssl", Server = Tls, Travel = Travel.Tls,
        },
        new("$ssl_client_v_start|$ssl_client_v_end|$ssl_client_v_remain", "<same>|<same>|<same>")
        {
            Listen = "ssl", Server = Tls, Travel = Travel.Tls,
        },
        new("$ssl_client_escaped_cert|$ssl_client_raw_cert|$ssl_client_cert", "%ESCAPED%|%PEM%|%TABBED%")
        {
            Listen = "ssl", Server = Tls, Travel = Travel.Tls,
        },
    ];
}
