// Directives of a TLS server that another party sees: each with two values, and what `openssl s_client` says of each.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class TlsDirectiveTests
{
    private static readonly TestAuthority _authority = new();

    private static ServerProcess Serve(string settings)
    {
        var files = new TempDir();
        _authority.Write(files, "rsa", TestKey.Rsa);
        _authority.Write(files, "ec");
        files.Write("ca.crt", _authority.Pem);
        files.Write("file", new byte[100_000]);
        files.Write("a.key", [.. Enumerable.Range(0, 80).Select(static i => (byte)i)]);
        // ffdhe2048 (RFC 7919), by its name.
        files.Write("dh.pem", "-----BEGIN DH PARAMETERS-----\n"
            + "MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz\n"
            + "+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a\n"
            + "87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7\n"
            + "YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi\n"
            + "7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD\n"
            + "ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==\n-----END DH PARAMETERS-----\n");
        return ServerProcess.Weir(Conf.Http($$"""
            server {
                listen 127.0.0.1:%PORT% ssl; root %FILES%;
                ssl_certificate %FILES%/rsa.crt; ssl_certificate_key %FILES%/rsa.key;
                {{settings}}
            }
            """), files);
    }

    private static string Shake(ServerProcess weir, string arguments) => ChildProcess.Run("sh", "-c",
        $"echo | timeout 20 openssl s_client -connect 127.0.0.1:{weir.Port} {arguments} 2>&1").Output;

    private const string Two = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384";

    [NeedsTheory("openssl")]
    [InlineData("ssl_conf_command MaxProtocol TLSv1.2;", "ssl_conf_command MinProtocol TLSv1.3;", "",
        "New, TLSv1.2", "New, TLSv1.3")]
    [InlineData("ssl_dhparam %FILES%/dh.pem;", "", "-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256",
        "Cipher is DHE-RSA-AES128-GCM-SHA256", "Cipher is (NONE)")]
    [InlineData("ssl_prefer_server_ciphers on; ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256;",
        "ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256;", "-tls1_2 -cipher " + Two,
        "Cipher is ECDHE-RSA-AES256", "Cipher is ECDHE-RSA-AES128")]
    [InlineData("ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384;", "ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256;",
        "-tls1_2 -cipher " + Two, "Cipher is ECDHE-RSA-AES256", "Cipher is ECDHE-RSA-AES128")]
    [InlineData("ssl_ecdh_curve P-384;", "ssl_ecdh_curve P-256;", "-tls1_2", "Server Temp Key: ECDH, secp384r1",
        "Server Temp Key: ECDH, prime256v1")]
    [InlineData("ssl_session_timeout 77s;", "ssl_session_timeout 99s;", "-tls1_2", "lifetime hint: 77 ",
        "lifetime hint: 99 ")]
    [InlineData("ssl_session_tickets off;", "ssl_session_tickets on;", "-tls1_2", "Verification",
        "TLS session ticket:")]
    [InlineData("ssl_verify_client on; ssl_client_certificate %FILES%/ca.crt;",
        "ssl_verify_client on; ssl_trusted_certificate %FILES%/ca.crt;", "", "Acceptable client certificate CA names",
        "No client certificate CA names sent")]
    public void What_a_directive_says_is_what_the_client_sees(string one, string other, string arguments, string first,
        string second)
    {
        using (ServerProcess weir = Serve(one))
        {
            string said = Shake(weir, arguments);
            Assert.Contains(first, said);
            Assert.DoesNotContain(second, said);
        }
        using (ServerProcess weir = Serve(other))
        {
            Assert.Contains(second, Shake(weir, arguments));
        }
    }

    [Theory]
    [InlineData("4k", 4096)]
    [InlineData("16k", 16384)]
    public void Ssl_buffer_size_is_the_largest_record(string size, int bytes)
    {
        using ServerProcess weir = Serve("ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key; "
            + $"ssl_buffer_size {size};");
        using Tls12Client client = Tls12Client.Connect(weir.Port);
        client.Send("GET /file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        int largest = 0;
        while (client.Read() is { Type: Tls12Client.ApplicationData } record)
        {
            largest = Math.Max(largest, record.Content.Length);
        }
        Assert.Equal(bytes, largest);
    }

    /// <summary>A key of one's own: tickets outlive the server.</summary>
    [NeedsTheory("openssl")]
    [InlineData("ssl_session_ticket_key %FILES%/a.key;", "Reused, ")]
    [InlineData("", "New, ")]
    public void A_ticket_is_good_for_whoever_has_its_key(string settings, string expected)
    {
        using ServerProcess weir = Serve(settings + " return 200 ok;");
        string ticket = weir.Files.At("ticket");
        Assert.Contains("New, ", Shake(weir, $"-tls1_2 -sess_out {ticket}"));
        weir.Restart();
        Assert.Contains(expected, Shake(weir, $"-tls1_2 -sess_in {ticket}"));
    }

    /// <summary>What replaces a certificate is often a rename (certbot) or a link that changes (Kubernetes).</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Certificates_that_are_renamed_or_linked_into_place_are_picked_up(bool links)
    {
        TestCertificate next = _authority.Issue(TestKey.Ecdsa, false, "localhost");
        var files = new TempDir();
        Directory.CreateDirectory(files.At("one"));
        Directory.CreateDirectory(files.At("two"));
        _authority.Write(files, "one/ec");
        files.Write("two/ec.crt", next.Pem);
        files.Write("two/ec.key", next.KeyPem);
        Directory.CreateSymbolicLink(files.At("live"), files.At("one"));
        using ServerProcess weir = ServerProcess.Weir(Conf.Http("""
            server {
                listen 127.0.0.1:%PORT% ssl; return 200 ok;
                ssl_certificate %FILES%/live/ec.crt; ssl_certificate_key %FILES%/live/ec.key;
            }
            """), files);
        if (links)
        {
            Directory.CreateSymbolicLink(files.At("next"), files.At("two"));
            Assert.Equal(0, ChildProcess.Run("mv", "-T", files.At("next"), files.At("live")).ExitCode);
        }
        else
        {
            File.Move(files.At("two/ec.crt"), files.At("one/ec.crt"), overwrite: true);
            File.Move(files.At("two/ec.key"), files.At("one/ec.key"), overwrite: true);
        }
        Wait.For("the new certificate", () =>
        {
            using TlsClient client = TlsClient.Connect(weir.Port);
            return client.ServerCertificate!.SerialNumber == next.Certificate.SerialNumber;
        });
    }

    /// <summary>grpc_ssl_*: which server is believed, and what it is asked for.</summary>
    [Theory]
    [InlineData("grpc_ssl_verify on; grpc_ssl_trusted_certificate %FILES%/ca.crt; grpc_ssl_name localhost;", 200)]
    [InlineData("grpc_ssl_verify on; grpc_ssl_trusted_certificate %FILES%/ca.crt; grpc_ssl_name b.test;", 502)]
    [InlineData("grpc_ssl_verify on; grpc_ssl_trusted_certificate %FILES%/rsa.crt; grpc_ssl_name localhost;", 502)]
    [InlineData("grpc_ssl_verify off; grpc_ssl_name b.test;", 200)]
    [InlineData("grpc_ssl_protocols TLSv1.2; grpc_ssl_conf_command MinProtocol TLSv1.3;", 502)]
    [InlineData("grpc_ssl_ciphers AES128-SHA; grpc_ssl_protocols TLSv1.2;", 502)]
    public void A_server_of_gRPC_is_believed_as_the_directives_say(string settings, int status)
    {
        using ServerProcess weir = Serve("http2 on; ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384; } server { "
            + "listen 127.0.0.1:%PORT2%; location / { grpc_pass grpcs://127.0.0.1:%PORT%; " + settings + " }");
        using RawClient client = weir.Connect(2);
        client.Send("GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        Assert.Equal(status, client.ReadResponse().Status);
    }
}
