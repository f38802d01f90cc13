// proxy_pass https:// and proxy_ssl_*: who is trusted, which name is asked for, what is used again.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class ProxyTlsTests
{
    private static readonly TestAuthority _authority = new();

    /// <summary>A plain front and a TLS backend in one process.</summary>
    private static ServerProcess Serve(string location, string backend = "", string http = "",
        Action<TempDir>? prepare = null)
    {
        var files = new TempDir();
        _authority.Write(files, "back", TestKey.Ecdsa, "back.test", "127.0.0.1");
        _authority.Write(files, "client", TestKey.Rsa, "client.test");
        files.Write("ca.crt", _authority.Pem);
        files.Write("other.crt", new TestAuthority("Another CA").Pem);
        prepare?.Invoke(files);
        return ServerProcess.Weir(Conf.Http($$"""
            {{http}}
            server {
                listen 127.0.0.1:%PORT%;
                location / { {{location}} }
            }
            server {
                listen 127.0.0.1:%PORT2% ssl;
                ssl_certificate %FILES%/back.crt; ssl_certificate_key %FILES%/back.key;
                {{backend}}
                location / {
                    return 200 "$scheme [$ssl_server_name] $ssl_session_reused $connection_requests $http_host $uri";
                }
                location /client { return 200 "$ssl_client_verify $ssl_client_s_dn"; }
            }
            """), files);
    }

    [Fact]
    public void A_request_is_passed_over_TLS()
    {
        using ServerProcess weir = Serve("proxy_pass https://127.0.0.1:%PORT2%;");
        Assert.Equal($"https [] . 1 127.0.0.1:{weir.PortOf(2)} /x", weir.Get("/x").Text);
    }

    [Fact]
    public void The_next_connection_goes_on_with_the_session()
    {
        using ServerProcess weir = Serve("proxy_pass https://127.0.0.1:%PORT2%; proxy_set_header Connection close;");
        Assert.StartsWith("https [] . 1", weir.Get("/").Text);
        Assert.StartsWith("https [] r 1", weir.Get("/").Text);
        Assert.StartsWith("https [] r 1", weir.Get("/").Text);
    }

    [Fact]
    public void Sessions_are_not_used_again_when_that_is_off()
    {
        using ServerProcess weir = Serve("""
            proxy_pass https://127.0.0.1:%PORT2%; proxy_set_header Connection close; proxy_ssl_session_reuse off;
            """);
        Assert.StartsWith("https [] . 1", weir.Get("/").Text);
        Assert.StartsWith("https [] . 1", weir.Get("/").Text);
    }

    [Fact]
    public void Idle_connections_serve_the_name_that_they_were_opened_for()
    {
        using ServerProcess weir = Serve("""
            proxy_pass https://back; proxy_ssl_server_name on; proxy_ssl_name $arg_name;
            """, http: "upstream back { server 127.0.0.1:%PORT2%; keepalive 8; }");
        Assert.StartsWith("https [a.test] . 1", weir.Get("/?name=a.test").Text);
        Assert.StartsWith("https [a.test] . 2", weir.Get("/?name=a.test").Text);
        Assert.StartsWith("https [b.test] . 1", weir.Get("/?name=b.test").Text);
        Assert.StartsWith("https [a.test] . 3", weir.Get("/?name=a.test").Text);
    }

    [Fact]
    public void A_trusted_server_with_the_right_name_is_good()
    {
        using ServerProcess weir = Serve("""
            proxy_pass https://127.0.0.1:%PORT2%; proxy_ssl_verify on; proxy_ssl_trusted_certificate %FILES%/ca.crt;
            proxy_ssl_name back.test;
            """);
        Assert.Equal(200, weir.Get("/").Status);
    }

    [Fact]
    public void A_server_with_another_name_is_refused()
    {
        using ServerProcess weir = Serve("""
            proxy_pass https://127.0.0.1:%PORT2%; proxy_ssl_verify on; proxy_ssl_trusted_certificate %FILES%/ca.crt;
            proxy_ssl_name front.test;
            """);
        Assert.Equal(502, weir.Get("/").Status);
        Assert.Contains("upstream SSL certificate does not match \"front.test\" while SSL handshaking to upstream",
            weir.ErrorLog);
    }

    [Fact]
    public void A_server_of_another_authority_is_refused()
    {
        using ServerProcess weir = Serve("""
            proxy_pass https://127.0.0.1:%PORT2%; proxy_ssl_verify on; proxy_ssl_trusted_certificate %FILES%/other.crt;
            """);
        Assert.Equal(502, weir.Get("/").Status);
        Assert.Contains("upstream SSL certificate verify error: (",
            weir.ErrorLog);
    }

    [Fact]
    public void A_certificate_of_our_own_is_shown()
    {
        using ServerProcess weir = Serve("""
            proxy_pass https://127.0.0.1:%PORT2%; proxy_ssl_certificate %FILES%/client.crt;
            proxy_ssl_certificate_key %FILES%/client.key;
            """, "ssl_verify_client on; ssl_client_certificate %FILES%/ca.crt;");
        Assert.Equal("SUCCESS CN=client.test", weir.Get("/client").Text);
    }

    [Fact]
    public void A_server_that_speaks_no_TLS_is_a_bad_gateway()
    {
        using ServerProcess weir = Serve("proxy_pass https://127.0.0.1:%PORT3%;",
            http: "server { listen 127.0.0.1:%PORT3%; }");
        Assert.Equal(502, weir.Get("/").Status);
        Assert.Contains("SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number)",
            weir.ErrorLog);
    }

    [Fact]
    public void A_large_body_goes_up_and_comes_back()
    {
        byte[] content = new byte[2_000_000];
        new Random(7).NextBytes(content);
        using ServerProcess weir = Serve("proxy_pass https://127.0.0.1:%PORT2%;",
            "location /file { root %FILES%; }", prepare: files => files.Write("file", content));
        Assert.Equal(content, weir.Get("/file").Body);
    }

    [Fact]
    public void A_URL_of_variables_may_be_https()
    {
        using ServerProcess weir = Serve("set $up https://127.0.0.1:%PORT2%; proxy_pass $up;");
        Assert.StartsWith("https [] . 1", weir.Get("/").Text);
    }
}
