// Where certificates come from: variables in ssl_certificate and proxy_ssl_certificate, `data:`, caches, and what the
// library cannot do.
using System.Security.Authentication;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class TlsCertificatesTests
{
    private static readonly TestAuthority _authority = new();

    private static ServerProcess Serve(string server, string http = "", Action<TempDir>? prepare = null)
    {
        var files = new TempDir();
        _authority.Write(files, "a.test", TestKey.Ecdsa, "a.test");
        _authority.Write(files, "b.test", TestKey.Rsa, "b.test");
        files.Write("ca.crt", _authority.Pem);
        prepare?.Invoke(files);
        return ServerProcess.Weir(Conf.Http($$"""
            {{http}}
            server {
                listen 127.0.0.1:%PORT% ssl;
                {{server}}
            }
            """), files);
    }

    private const string ByName =
        "ssl_certificate %FILES%/$ssl_server_name.crt; ssl_certificate_key %FILES%/$ssl_server_name.key;";

    [Theory]
    [InlineData(SslProtocols.Tls12)]
    [InlineData(SslProtocols.Tls13)]
    public void Variables_choose_the_certificate_of_a_connection(SslProtocols protocol)
    {
        using ServerProcess weir = Serve(ByName + "return 200 $ssl_server_name;");
        foreach (string name in new[] { "a.test", "b.test", "a.test" })
        {
            using TlsClient client = TlsClient.Connect(weir.Port, name, protocols: protocol);
            Assert.Equal("CN=" + name, client.ServerCertificate!.Subject);
            Assert.Equal(name, client.Get("/").Text);
        }
    }

    [Fact]
    public void A_certificate_that_is_missing_ends_the_handshake_and_is_logged()
    {
        using ServerProcess weir = Serve(ByName + "return 200 ok;");
        Assert.Throws<AuthenticationException>(() => TlsClient.Connect(weir.Port, "no.test"));
        Wait.For("the reason", () => weir.ErrorLog.Contains($"cannot load certificate "
            + $"\"{weir.Files.At("no.test.crt")}\": BIO_new_file() failed (SSL: error:80000002:"));
        Wait.For("the log",
            () => weir.ErrorLog.Contains(
                "SSL_do_handshake() failed (SSL: error:0A000179:SSL routines::cert cb error)"));
    }

    [Fact]
    public void A_map_may_hold_certificates_as_data()
    {
        var made = _authority.Issue(TestKey.Ecdsa, false, "data.test");
        using ServerProcess weir = Serve("ssl_certificate data:$crt; ssl_certificate_key data:$key; return 200 ok;",
            $"map $ssl_server_name $crt {{ data.test '{made.Pem}'; }} map '' $key {{ default '{made.KeyPem}'; }}");
        using TlsClient client = TlsClient.Connect(weir.Port, "data.test");
        Assert.Equal("CN=data.test", client.ServerCertificate!.Subject);
        Assert.Equal("ok", client.Get("/").Text);
    }

    [Fact]
    public void A_constant_may_be_data()
    {
        var made = _authority.Issue(TestKey.Ecdsa, false, "data.test");
        using ServerProcess weir = Serve(
            $"ssl_certificate 'data:{made.Pem}'; ssl_certificate_key 'data:{made.KeyPem}'; return 200 ok;");
        using TlsClient client = TlsClient.Connect(weir.Port, "data.test");
        Assert.Equal("CN=data.test", client.ServerCertificate!.Subject);
    }

    [Theory]
    [InlineData("off", false)]
    [InlineData("max=4 inactive=1h valid=1h", true)]
    [InlineData("max=4 inactive=1h valid=0", false)]
    [InlineData("max=4 inactive=0 valid=1h", false)]
    public void The_cache_keeps_what_was_loaded_as_long_as_it_says(string cache, bool keeps)
    {
        using ServerProcess weir = Serve(ByName + $"ssl_certificate_cache {cache}; return 200 ok;");
        string before = Serial(weir, "a.test");
        _authority.Write(weir.Files, "a.test", TestKey.Ecdsa, "a.test");
        Assert.Equal(keeps, before == Serial(weir, "a.test"));
    }

    [Fact]
    public void The_cache_holds_no_more_than_it_may()
    {
        using ServerProcess weir = Serve(ByName + "ssl_certificate_cache max=1 inactive=1h valid=1h; return 200 ok;");
        string before = Serial(weir, "a.test");
        _ = Serial(weir, "b.test");
        _authority.Write(weir.Files, "a.test", TestKey.Ecdsa, "a.test");
        Assert.NotEqual(before, Serial(weir, "a.test"));
    }

    private static string Serial(ServerProcess weir, string name)
    {
        using TlsClient client = TlsClient.Connect(weir.Port, name);
        return client.ServerCertificate!.SerialNumber;
    }

    [Theory]
    [InlineData("off", "b")]
    [InlineData("max=4 inactive=1h valid=1h", "a")]
    [InlineData("max=4 inactive=1h valid=0", "b")]
    public void What_is_shown_to_upstream_servers_is_kept_as_long_as_the_cache_says(string cache, string second)
    {
        using ServerProcess weir = Serve($$"""
            ssl_certificate %FILES%/a.test.crt; ssl_certificate_key %FILES%/a.test.key;
            ssl_verify_client optional; ssl_client_certificate %FILES%/ca.crt;
            location / { return 200 "$ssl_client_s_dn"; }
            location /as/ {
                proxy_pass https://127.0.0.1:%PORT%/; proxy_ssl_session_reuse off;
                proxy_ssl_certificate $shown.crt; proxy_ssl_certificate_key $shown.key;
                proxy_ssl_certificate_cache {{cache}};
            }
            """, "map $arg_as $shown { default %FILES%/$arg_as; }");
        void Show(string name)
        {
            foreach (string kind in new[] { ".crt", ".key" })
            {
                File.Copy(weir.Files.At(name + ".test" + kind), weir.Files.At("new" + kind));
                File.Move(weir.Files.At("new" + kind), weir.Files.At("shown" + kind), overwrite: true);
            }
        }
        using TlsClient client = TlsClient.Connect(weir.Port);
        Show("a");
        Assert.Equal("CN=a.test", client.Get("/as/?as=shown").Text);
        Show("b");
        Assert.Equal($"CN={second}.test", client.Get("/as/?as=shown").Text);
    }

    [Fact]
    public void Upstream_servers_are_shown_what_variables_name_and_no_connection_changes_its_certificate()
    {
        using ServerProcess weir = Serve("""
            ssl_certificate %FILES%/a.test.crt; ssl_certificate_key %FILES%/a.test.key;
            ssl_verify_client optional; ssl_client_certificate %FILES%/ca.crt;
            location / { return 200 "$ssl_client_verify $ssl_client_s_dn $ssl_session_reused"; }
            location /as/ {
                proxy_pass https://back/; proxy_set_header Connection "";
                proxy_ssl_certificate $shown_crt; proxy_ssl_certificate_key $shown_key;
                proxy_ssl_certificate_cache max=10;
            }
            """, """
            upstream back { server 127.0.0.1:%PORT%; keepalive 8; }
            map $arg_as $shown_crt { '' ''; default %FILES%/$arg_as.crt; }
            map $arg_as $shown_key { '' ''; default %FILES%/$arg_as.key; }
            """);
        using TlsClient client = TlsClient.Connect(weir.Port);
        Assert.Equal("SUCCESS CN=a.test .", client.Get("/as/?as=a.test").Text);
        Assert.Equal("SUCCESS CN=b.test .", client.Get("/as/?as=b.test").Text);
        Assert.Equal("NONE  .", client.Get("/as/").Text);
        Assert.Equal("SUCCESS CN=a.test .", client.Get("/as/?as=a.test").Text);
        Assert.Equal(500, client.Get("/as/?as=no.test").Status);
        Wait.For("the log",
            () => weir.ErrorLog.Contains("cannot load certificate \"" + weir.Files.At("no.test.crt")));
    }

    [Theory]
    [InlineData("ssl_certificate_cache inactive=5;", "\"ssl_certificate_cache\" must have the \"max\" parameter in ")]
    [InlineData("ssl_certificate_cache max=0;", "invalid parameter \"max=0\" in ")]
    [InlineData("ssl_certificate_cache max=1 old=2;", "invalid parameter \"old=2\" in ")]
    [InlineData("ssl_ech_file keys.pem;", "\"ssl_ech_file\" requires a library with encrypted ClientHello")]
    [InlineData("ssl_certificate $no_such_variable;", "unknown \"no_such_variable\" variable")]
    public void What_cannot_be_is_said_by_the_test(string settings, string message)
    {
        using var files = new TempDir();
        _authority.Write(files, "ec");
        Conf conf = Conf.Http($"server {{ listen 127.0.0.1:%PORT% ssl; {settings} ssl_certificate %FILES%/ec.crt; "
            + "ssl_certificate_key %FILES%/ec.key; ssl_certificate_key %FILES%/ec.key; }");
        using ServerProcess weir = ServerProcess.Weir(conf, files, waitReady: false, arguments: "-t");
        Assert.True(weir.Process.WaitForExit(30_000));
        Assert.Equal(1, weir.Process.ExitCode);
        Assert.Contains(message, weir.Process.Errors);
    }

    [Fact]
    public void Compression_of_certificates_is_a_warning_where_the_library_has_none()
    {
        using ServerProcess weir = Serve("ssl_certificate %FILES%/a.test.crt; ssl_certificate_key %FILES%/a.test.key;"
            + "ssl_certificate_compression on; return 200 ok;");
        using TlsClient client = TlsClient.Connect(weir.Port, "a.test");
        Assert.Equal("ok", client.Get("/").Text);
    }
}
