// The table of limits: what a limit lets through at one less and at itself, and what it refuses at one more. Every row
// has a server of its own (its address is %HOST%) and is asked with each of the three numbers.
using static Weir.Tests.Harness.Rows.Row;

namespace Weir.Tests.Harness.Rows;

/// <summary>A limit, and how to come so far.</summary>
/// <param name="Name">The directive, or what is bounded.</param>
/// <param name="Server">Text of the server.</param>
/// <param name="Limit">The last number that is let through.</param>
/// <param name="Send">What is sent for a number.</param>
/// <param name="Within">What the answers say up to the limit.</param>
/// <param name="Beyond">What they say at one more.</param>
public sealed record EdgeRow(string Name, string Server, int Limit, Func<int, string> Send, string Within,
    string Beyond)
{
    public string Http { get; init; } = "";

    /// <summary>Why nginx is not asked.</summary>
    public string? IsWeirAlone { get; init; }
}

public static class EdgeRows
{
    private const string Head = " HTTP/1.1\r\nHost: row\r\nConnection: close\r\n";

    /// <summary>A request line of so many bytes, its end included.</summary>
    private static string Line(int bytes) =>
        "GET /" + new string('u', bytes - "GET / HTTP/1.1\r\n".Length) + Head + "\r\n";

    /// <summary>A field of so many bytes, its end included.</summary>
    private static string Field(int bytes) => "X: " + new string('x', bytes - "X: \r\n".Length) + "\r\n";

    private static string Chunks(int bytes) => Ask("POST", "/", "Transfer-Encoding: chunked")
        + $"{bytes:x}\r\n{new string('b', bytes)}\r\n0\r\n\r\n";

    private static string Letters(int count) => new('a', count);

    /// <summary>So many requests under a key of their own.</summary>
    private static string Several(int count) =>
        string.Concat(Enumerable.Repeat(Keep("/", $"N: {count}"), count - 1)) + Get("/", $"N: {count}");

    private const string Up = "127.0.0.1:%UPSTREAM%";

    /// <summary>An upstream group for each of the three numbers around 3.</summary>
    private static string Groups(string name, Func<int, string> servers) => string.Concat(
        Enumerable.Range(2, 3).Select(n => $"upstream {name}{n} {{ {servers(n)}}} "));

    public static readonly EdgeRow[] All =
    [
        // The head.
        new("large_client_header_buffers: a request line",
            "client_header_buffer_size 64; large_client_header_buffers 2 512; return 200 ok;", 512,
            Line, " 200 ", " 414 "),
        new("large_client_header_buffers: a field",
            "client_header_buffer_size 64; large_client_header_buffers 2 512; return 200 ok;", 512,
            static n => "GET / HTTP/1.1\r\nHost: row\r\nConnection: close\r\n" + Field(n) + "\r\n", " 200 ", " 400 "),
        new("large_client_header_buffers: their number",
            "client_header_buffer_size 64; large_client_header_buffers 3 512; return 200 ok;", 3,
            static n => "GET / HTTP/1.1\r\nHost: row\r\nConnection: close\r\n"
                + string.Concat(Enumerable.Repeat(Field(400), n)) + "\r\n", " 200 ", " 400 "),
        new("client_header_buffer_size: with the large ones",
            "client_header_buffer_size 128; large_client_header_buffers 1 512; return 200 ok;", 128 + 512,
            static n => Line(100)[..100] + "Host: row\r\nConnection: close\r\n" + Field(400)
                + Field(n - 100 - 11 - 19 - 400 - 2) + "\r\n", " 200 ", " 400 ")
        {
            IsWeirAlone = "nginx lets no line lie in two buffers, so what it takes depends on how lines fall",
        },
        new("max_headers", "max_headers 4; return 200 ok;", 4,
            static n => Get("/", [.. Enumerable.Range(0, n - 2).Select(static i => $"X-{i}: x")]), " 200 ", " 400 ")
        {
            IsWeirAlone = "newer",
        },

        // The body. A buffer may be a quarter larger where that holds it all.
        new("client_max_body_size", "client_max_body_size 10; location / { proxy_pass http://%UP%; }", 10,
            static n => Post("/", Letters(n)), " 200 ", " 413 "),
        new("client_max_body_size: chunks", "client_max_body_size 10; location / { proxy_pass http://%UP%; }", 10,
            Chunks, " 200 ", " 413 "),
        new("client_body_buffer_size", "client_body_buffer_size 1k; client_body_in_file_only off; "
            + "location / { proxy_pass http://%UP%; add_header X-File \"f$request_body_file.\"; }", 1279,
            static n => Ask("POST", "/", "Expect: 100-continue", $"Content-Length: {n}") + Until + Letters(n),
            "X-File: f.", "X-File: f/"),

        // The connection.
        new("keepalive_requests", "keepalive_requests 3; location / { return 200 ok; }", 3,
            static n => string.Concat(Enumerable.Repeat(Keep("/"), n - 1)) + Get("/last"), "<all>",
            "<fewer>"),
        new("limit_req: burst", "limit_req zone=er burst=2 nodelay; root %FILES%;", 3,
            Several, "<all>", " 503 ") { Http = "limit_req_zone $http_n zone=er:64k rate=1r/m;" },

        // Ranges, filters.
        new("max_ranges", "max_ranges 2; root %FILES%;", 2,
            static n => Get("/ten.txt", "Range: bytes=" + string.Join(',', Enumerable.Range(0, n).Select(static i =>
                $"{2 * i}-{2 * i}"))), " 206 ", " 200 "),
        new("gzip_min_length",
            "gzip on; gzip_types *; gzip_min_length 21; location / { proxy_pass http://%UP%; }", 20,
            static n => Get($"/body/{n}", "Accept-Encoding: gzip"), "Content-Length", "Content-Encoding: gzip"),

        // What an upstream says.
        new("proxy_buffer_size", "location / { proxy_buffer_size 1k; proxy_buffers 8 1k; proxy_busy_buffers_size 2k; "
            + "proxy_pass http://%UP%; }", 1024, static n => Get($"/head/{n}"), " 200 ", " 502 "),
        // The eight bytes of a record's head lie in the same buffer.
        new("fastcgi_buffer_size", "location / { fastcgi_buffer_size 1k; fastcgi_buffers 8 1k; "
            + "fastcgi_busy_buffers_size 2k; fastcgi_param ROW $arg_n; fastcgi_pass %CGI%; }", 1024 - 8,
            static n => Get($"/?n={n}"), " 200 OK", " 502 "),
        new("proxy_cache_min_uses", "location / { proxy_cache ec; proxy_cache_key $http_n; proxy_cache_valid 1m; "
            + "proxy_cache_min_uses 3; add_header X-Last \"$http_last=$upstream_cache_status\"; "
            + "proxy_pass http://%UP%; }", 3,
            static n => string.Concat(Enumerable.Repeat(Keep("/", $"N: {n}"), n - 1))
                + Get("/", $"N: {n}", "Last: yes"), "X-Last: yes=MISS", "X-Last: yes=HIT")
        {
            Http = "proxy_cache_path %DIR%/edge keys_zone=ec:64k;",
        },
        new("proxy_cache_max_range_offset", "location / { proxy_cache eo; proxy_cache_valid 1m; "
            + "proxy_cache_max_range_offset 5; add_header X-Last \"$http_last=$upstream_cache_status.\"; "
            + "proxy_pass http://%UP%; }", 4,
            static n => Keep($"/body/{20 + n}", $"Range: bytes={n}-")
                + Get($"/body/{20 + n}", $"Range: bytes={n}-", "Last: yes"), "X-Last: yes=HIT.", "X-Last: yes=MISS.")
        {
            Http = "proxy_cache_path %DIR%/offset keys_zone=eo:64k;",
        },
        new("proxy_next_upstream_tries", "location / { proxy_next_upstream_tries 3; proxy_pass http://et$http_n; }", 3,
            static n => Get("/", $"N: {n}"), " 200 ", " 502 ")
        {
            Http = Groups("et", static n => string.Concat(Enumerable.Range(1, n - 1).Select(static i =>
                $"server 127.0.0.1:{i} max_fails=0; ")) + $"server {Up}; "),
        },
        new("max_fails", "location / { proxy_pass http://ef$http_n; "
            + "add_header X-Last \"$http_last=$upstream_status.\"; }", 3,
            static n => string.Concat(Enumerable.Repeat(Keep("/", $"N: {n}"), n - 1))
                + Get("/", $"N: {n}", "Last: yes"), "X-Last: yes=502, 200.", "X-Last: yes=200.")
        {
            Http = Groups("ef", static _ => $"server 127.0.0.1:1 max_fails=3 fail_timeout=1h; server {Up} backup; "),
        },
        new("brotli_min_length",
            "brotli on; brotli_types *; brotli_min_length 21; location / { proxy_pass http://%UP%; }", 20,
            static n => Get($"/body/{n}", "Accept-Encoding: br"), "Content-Length", "Content-Encoding: br")
        {
            IsWeirAlone = "a module of others",
        },
        new("zstd_min_length",
            "zstd on; zstd_types *; zstd_min_length 21; location / { proxy_pass http://%UP%; }", 20,
            static n => Get($"/body/{n}", "Accept-Encoding: zstd"), "Content-Length", "Content-Encoding: zstd")
        {
            IsWeirAlone = "a module of others",
        },

        // Circles.
        new("rewrites of one request", "location / { rewrite ^/(a*)a$ /$1 last; return 200 ok; }", 10,
            static n => Get("/" + Letters(n)), " 200 ", " 500 "),
        new("internal redirects of one request",
            "location ~ ^/(a*)a$ { try_files /none /$1; } location / { return 200 ok; }", 10,
            static n => Get("/" + Letters(n)), " 200 ", " 500 "),
        new("error pages of one request", "recursive_error_pages on; location ~ ^/(a*)a$ { error_page 404 = /$1; "
            + "return 404; } location / { return 200 ok; }", 10,
            static n => Get("/" + Letters(n)), " 200 ", " 500 "),
        new("steps between named locations", "recursive_error_pages on; set $n \"\"; "
            + "location ~ ^/a { error_page 404 = @n; return 404; } "
            + "location @n { error_page 404 = @n; set $n \"${n}a\"; if ($n = $uri) { return 200 ok; } "
            + "if ($uri = \"/$n\") { return 200 ok; } return 404; }", 10,
            static n => Get("/" + Letters(n)), " 200 ", " 500 "),

        // Expressions.
        new("captures that have a number", "location ~ ^/x(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)$ { "
            + "if ($http_n = 8) { return 200 \"v=$8.\"; } if ($http_n = 9) { return 200 \"v=$9.\"; } "
            + "return 200 \"v=$10.\"; }", 9, static n => Get("/x123456789ab", $"N: {n}"), "v=<n>.", "v=10."),
    ];
}
