// Limits at one less, at themselves and at one more; and what would never end: expressions that backtrack for ever,
// rewrites, error pages and includes in a circle.
using Weir.Conf;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class EdgeTests
{
    private const string Endless = "^/(a+)+$";
    private static readonly string s_path = "/" + new string('a', 60) + "b";

    public static TheoryData<string, string> Places => new()
    {
        { "location", "server { listen 127.0.0.1:80; "
            + $"location ~ \"{Endless}\" {{ }} location / {{ return 204; }} }}" },
        { "rewrite", $"server {{ listen 127.0.0.1:80; rewrite \"{Endless}\" /x last; return 204; }}" },
        { "if", $"server {{ listen 127.0.0.1:80; if ($uri ~ \"{Endless}\") {{ return 403; }} return 204; }}" },
        { "map", $"map $uri $m {{ default none; \"~{Endless}\" first; ~b$ second; }} "
            + $"server {{ listen 127.0.0.1:80; location = /b {{ return 204; }} "
            + "location / { return 200 \"map:$m\"; } }" },
        { "map of a header", $"map $uri $m {{ default none; \"~{Endless}\" first; }} "
            + "server { listen 127.0.0.1:80; add_header X-M $m always; return 204; }" },
        { "map in set", $"map $uri $m {{ volatile; default none; \"~{Endless}\" first; }} "
            + "server { listen 127.0.0.1:80; set $n $m; error_page 500 /page; "
            + "location / { return 204; } location /page { return 200 $m; } }" },
        { "map of a limit", $"map $uri $m {{ default none; \"~{Endless}\" first; }} "
            + "limit_req_zone $m zone=z:64k rate=1r/s; "
            + "server { listen 127.0.0.1:80; location = /b { return 204; } "
            + "location / { limit_req zone=z burst=5 nodelay; empty_gif; } }" },
        { "fastcgi_split_path_info", "server { listen 127.0.0.1:80; "
            + "fastcgi_split_path_info ^/(a+)+()$; location = /b { return 204; } "
            + "location / { return 200 $fastcgi_path_info; } }" },
        { "valid_referers", $"server {{ listen 127.0.0.1:80; valid_referers \"~^x.test/(a+)+$\"; "
            + "location = /b { return 204; } location / { if ($invalid_referer) { return 403; } return 204; } }" },
        { "gzip_disable", "server { listen 127.0.0.1:80; gzip on; gzip_min_length 1; gzip_types *; "
            + "gzip_disable \"^/(a+)+$\"; location = /b { return 204; } "
            + "location / { return 200 long-enough-to-be-compressed; } }" },
        { "server_name", "server { listen 127.0.0.1:80; return 204; } "
            + "server { listen 127.0.0.1:80; server_name \"~^(a+)+$\"; return 403; }" },
    };

    private static string Ask(MemoryServer server, string path, string host = "x") => server.Exchange(server.Connect(),
        $"GET {path} HTTP/1.1\r\nHost: {host}\r\nReferer: http://x.test{path}\r\nUser-Agent: {path}\r\n"
        + "Accept-Encoding: gzip\r\n\r\n");

    [Theory]
    [MemberData(nameof(Places))]
    public void An_expression_that_backtracks_for_ever_ends_in_500_and_a_line_in_the_log(string place, string servers)
    {
        using var server = new MemoryServer(servers);
        string answer = place == "server_name" ? Ask(server, "/", s_path[1..]) : Ask(server, s_path);
        Assert.StartsWith("HTTP/1.1 500 ", answer);
        Assert.Contains("pcre2_match() failed: match limit on \"", server.ErrorLog);
        Assert.StartsWith("HTTP/1.1 204 ", Ask(server, "/b"));
    }

    [Theory]
    [InlineData(9, "404")]
    [InlineData(10, "404")]
    [InlineData(11, "413")]
    public void Client_max_body_size_refuses_what_is_larger(int bytes, string status)
    {
        using var server = new MemoryServer(
            "server { listen 127.0.0.1:80; client_max_body_size 10; location / { root /x; } }");
        string answer = server.Exchange(server.Connect(),
            $"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n{new string('.', bytes)}");
        Assert.StartsWith($"HTTP/1.1 {status} ", answer);
    }

    [Fact]
    public void Keepalive_requests_counts_to_its_number()
    {
        using var server = new MemoryServer("server { listen 127.0.0.1:80; keepalive_requests 3; "
            + "location / { return 204; } }");
        InMemoryPeer peer = server.Connect();
        const string request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        Assert.Contains("Connection: keep-alive", server.Exchange(peer, request));
        Assert.Contains("Connection: keep-alive", server.Exchange(peer, request));
        Assert.Contains("Connection: close", server.Exchange(peer, request));
        Assert.True(peer.IsEnded);
    }

    [Theory]
    [InlineData(4, "204")]
    [InlineData(5, "204")]
    [InlineData(6, "400")]
    public void Max_headers_refuses_a_head_with_more(int fields, string status)
    {
        using var server = new MemoryServer("server { listen 127.0.0.1:80; max_headers 5; return 204; }");
        string more = string.Concat(Enumerable.Range(1, fields - 1).Select(static i => $"X-{i}: y\r\n"));
        Assert.StartsWith($"HTTP/1.1 {status} ",
            server.Exchange(server.Connect(), $"GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n"));
    }

    [Theory]
    [InlineData("location / { rewrite ^ /again last; }")]
    [InlineData("error_page 404 /none; recursive_error_pages on; location / { return 404; }")]
    [InlineData("location / { try_files /none /again; }")]
    public void A_circle_of_redirects_ends_in_500_and_a_line_in_the_log(string text)
    {
        using var server = new MemoryServer($"server {{ listen 127.0.0.1:80; {text} }}");
        Assert.StartsWith("HTTP/1.1 500 ", Ask(server, "/"));
        Assert.Contains("rewrite or internal redirection cycle while ", server.ErrorLog);
    }

    [Fact]
    public void An_error_page_that_fails_itself_is_not_asked_twice()
    {
        using var server = new MemoryServer(
            "server { listen 127.0.0.1:80; error_page 404 /none; location / { return 404; } }");
        Assert.StartsWith("HTTP/1.1 404 ", Ask(server, "/"));
    }

    [Fact]
    public void An_include_in_a_circle_is_refused()
    {
        MemoryConfFiles files = new MemoryConfFiles().Add("/n.conf", "include /a.conf;").Add("/a.conf",
            "include /n.conf;");
        Assert.True(ConfParser.Parse(files, "/n.conf", null).Errors.Failed);
    }
}
