// listen … ssl and what hangs on it: handshakes, names, certificates, resumption, client certificates, as real clients
// see them.
using System.Security.Authentication;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class TlsTests
{
    private static readonly TestAuthority _authority = new();

    private static ServerProcess Serve(string server, string http = "", int workers = 1, bool master = false,
        Action<TempDir>? prepare = null)
    {
        var files = new TempDir();
        _authority.Write(files, "rsa", TestKey.Rsa);
        _authority.Write(files, "ec");
        files.Write("ca.crt", _authority.Pem);
        prepare?.Invoke(files);
        return ServerProcess.Weir(Conf.Http($$"""
            {{http}}
            server {
                listen 127.0.0.1:%PORT% ssl default_server;
                server_name localhost;
                root %FILES%;
                {{server}}
            }
            """, workers, master), files);
    }

    private const string Rsa = "ssl_certificate %FILES%/rsa.crt; ssl_certificate_key %FILES%/rsa.key;";
    private const string Ec = "ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key;";

    [Theory]
    [InlineData(SslProtocols.Tls12, "TLSv1.2")]
    [InlineData(SslProtocols.Tls13, "TLSv1.3")]
    public void A_connection_carries_many_requests(SslProtocols protocol, string name)
    {
        using ServerProcess weir = Serve(Rsa + "return 200 '$scheme $https $ssl_protocol $uri';");
        using TlsClient client = TlsClient.Connect(weir.Port, protocols: protocol);
        for (int i = 0; i < 50; i++)
        {
            Assert.Equal($"https on {name} /{i}", client.Get($"/{i}").Text);
        }
    }

    [Theory]
    [InlineData(1000)]
    [InlineData(100_000)]
    [InlineData(3_000_000)]
    public void A_file_arrives_whole(int bytes)
    {
        byte[] content = new byte[bytes];
        new Random(bytes).NextBytes(content);
        using ServerProcess weir = Serve(Ec, prepare: files => files.Write("file", content));
        using TlsClient client = TlsClient.Connect(weir.Port);
        Assert.Equal(content, client.Get("/file").Body);
        Assert.Equal(content, client.Get("/file").Body);
    }

    /// <summary>The first 16 KiB of an answer come in records that fit a segment, the rest in large ones.</summary>
    [Fact]
    public void The_first_records_of_an_answer_are_small()
    {
        using ServerProcess weir = Serve(Ec, prepare: static files => files.Write("file", new byte[100_000]));
        using Tls12Client client = Tls12Client.Connect(weir.Port);
        client.Send("GET /file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        List<int> lengths = [];
        while (client.Read() is { Type: Tls12Client.ApplicationData } record)
        {
            lengths.Add(record.Content.Length);
        }
        int first = lengths.TakeWhile(static l => l <= 1360).Sum();
        Assert.InRange(first, 16 * 1024 - 1360, 16 * 1024 + 1360);
        Assert.Contains(16 * 1024, lengths);
        Assert.True(lengths.Sum() > 100_000);
    }

    /// <summary>A library of that name that cannot be loaded is as good as none.</summary>
    [Fact]
    public void A_missing_library_is_named_with_its_package()
    {
        using var files = new TempDir();
        files.Write("libssl.so.3", "no library");
        files.Write("tls.conf", """
            events {}
            http { server { listen 127.0.0.1:1 ssl; ssl_certificate a.crt; ssl_certificate_key a.key; } }
            """);
        (int code, _, string errors) = ChildProcess.Run("env", $"LD_LIBRARY_PATH={files.Path}",
            ServerProcess.WeirBinary, "-t", "-c", files.At("tls.conf"));
        Assert.Equal(1, code);
        Assert.Contains("libssl.so.3 is missing (Debian: apt-get install libssl3)", errors);
    }

    [Fact]
    public void A_request_body_arrives_whole()
    {
        using var upstream = Upstream.Answering(request => Upstream.Ok(request.Body));
        using ServerProcess weir = Serve(Ec + $"location / {{ proxy_pass http://127.0.0.1:{upstream.Port}; }}");
        using TlsClient client = TlsClient.Connect(weir.Port);
        string body = string.Concat(Enumerable.Range(0, 40_000).Select(i => $"{i};"));
        client.Send(RawClient.Request("POST", "/", [], body));
        Assert.EndsWith(body, client.ReadResponse().Text);
    }

    [Fact]
    public void Plain_HTTP_on_a_TLS_port_is_answered_with_400_and_its_page()
    {
        using ServerProcess weir = Serve(Rsa);
        HttpResponse response = weir.Get("/");
        Assert.Equal(400, response.Status);
        Assert.Contains("The plain HTTP request was sent to HTTPS port", response.Text);
        Wait.For("the log",
            () => weir.ErrorLog.Contains("client sent plain HTTP request to HTTPS port", StringComparison.Ordinal));
    }

    [Fact]
    public void The_name_chooses_the_certificate()
    {
        using ServerProcess weir = Serve(Rsa + "return 200 default;", """
            server {
                listen 127.0.0.1:%PORT% ssl;
                server_name *.wild.test;
                ssl_certificate %FILES%/wild.crt; ssl_certificate_key %FILES%/wild.key;
                return 200 "wild $ssl_server_name";
            }
            """, prepare: files => _authority.Write(files, "wild", TestKey.Ecdsa, "*.wild.test"));
        using TlsClient wild = TlsClient.Connect(weir.Port, "a.wild.test");
        Assert.Equal("CN=*.wild.test", wild.ServerCertificate!.Subject);
        Assert.Equal("wild a.wild.test",
            wild.Send("GET / HTTP/1.1\r\nHost: a.wild.test\r\n\r\n").ReadResponse().Text);
        using TlsClient other = TlsClient.Connect(weir.Port, "other.test");
        Assert.Equal("CN=localhost", other.ServerCertificate!.Subject);
        Assert.Equal("default", other.Get("/").Text);
    }

    [NeedsFact("curl")]
    public void Curl_trusts_the_chain()
    {
        using ServerProcess weir = Serve(Rsa + "return 200 hello;");
        (int exit, string output, string errors) = ChildProcess.Run("curl", "-sS", "--cacert", weir.Files.At("ca.crt"),
            $"https://localhost:{weir.Port}/");
        Assert.Equal(("hello", ""), (output.Trim(), errors));
        Assert.Equal(0, exit);
    }

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, true)]
    [Trait("Needs", "master")]
    public void Certificates_that_change_are_picked_up_without_a_reload(int workers, bool master)
    {
        using ServerProcess weir = Serve(Ec + "return 200 ok;", workers: workers, master: master);
        string before = Serial(weir);
        TestCertificate next = _authority.Issue(TestKey.Ecdsa, false, "localhost");
        // A certificate without its key changes nothing yet.
        weir.Files.Write("ec.crt", next.Pem);
        Wait.For("the refusal of half a pair", () => weir.ErrorLog.Contains("key values mismatch"));
        Assert.Equal(before, Serial(weir));
        weir.Files.Write("ec.key", next.KeyPem);
        Wait.For("the new certificate", () => Serial(weir) == next.Certificate.SerialNumber);
    }

    private static string Serial(ServerProcess weir)
    {
        using TlsClient client = TlsClient.Connect(weir.Port);
        Assert.Equal("ok", client.Get("/").Text);
        return client.ServerCertificate!.SerialNumber;
    }

    [NeedsFact("openssl")]
    public void A_certificate_is_chosen_by_what_the_client_can_verify()
    {
        using ServerProcess weir = Serve(Rsa + Ec + "return 200 ok;");
        foreach ((string algorithms, string kind) in new[] { ("RSA+SHA256", "RSA"), ("ECDSA+SHA256", "EC") })
        {
            (_, string output, _) = ChildProcess.Run("sh", "-c",
                $"echo | openssl s_client -connect 127.0.0.1:{weir.Port} -tls1_2 -sigalgs {algorithms} -cipher ALL "
                + "2>/dev/null | openssl x509 -noout -text");
            Assert.Contains(kind == "RSA" ? "rsaEncryption" : "id-ecPublicKey", output);
        }
    }

    [Fact]
    public void A_client_certificate_is_verified_and_told()
    {
        TestCertificate good = _authority.Issue(TestKey.Ecdsa, false, "client.test");
        TestCertificate strange = new TestAuthority("Another CA").Issue(TestKey.Ecdsa, false, "client.test");
        using ServerProcess weir = Serve(Rsa + """
            ssl_verify_client on; ssl_client_certificate %FILES%/ca.crt;
            return 200 "$ssl_client_verify $ssl_client_s_dn $ssl_client_i_dn";
            """);
        using (TlsClient client = TlsClient.Connect(weir.Port, certificate: good))
        {
            Assert.Equal("SUCCESS CN=client.test CN=Weir Test CA", client.Get("/").Text);
        }
        using (TlsClient client = TlsClient.Connect(weir.Port))
        {
            HttpResponse response = client.Get("/");
            Assert.Equal(400, response.Status);
            Assert.Contains("No required SSL certificate was sent", response.Text);
        }
        using (TlsClient client = TlsClient.Connect(weir.Port, certificate: strange))
        {
            HttpResponse response = client.Get("/");
            Assert.Equal(400, response.Status);
            Assert.Contains("The SSL certificate error", response.Text);
        }
        Wait.For("the log",
            () => weir.ErrorLog.Contains("client SSL certificate verify error: (", StringComparison.Ordinal));
        Wait.For("the log",
            () => weir.ErrorLog.Contains("client sent no required SSL certificate", StringComparison.Ordinal));
    }

    [Fact]
    public void A_revoked_client_certificate_is_refused()
    {
        TestCertificate good = _authority.Issue(TestKey.Ecdsa, false, "good.test");
        TestCertificate revoked = _authority.Issue(TestKey.Ecdsa, false, "revoked.test");
        using ServerProcess weir = Serve(Rsa + """
            ssl_verify_client on; ssl_client_certificate %FILES%/ca.crt; ssl_crl %FILES%/ca.crl; return 200 ok;
            """, prepare: files => files.Write("ca.crl", _authority.Revoke(revoked)));
        using TlsClient first = TlsClient.Connect(weir.Port, certificate: good);
        Assert.Equal(200, first.Get("/").Status);
        using TlsClient second = TlsClient.Connect(weir.Port, certificate: revoked);
        Assert.Equal(400, second.Get("/").Status);
        Wait.For("the log", () => weir.ErrorLog.Contains("certificate revoked", StringComparison.Ordinal));
    }

    [Fact]
    public void An_unknown_authority_is_accepted_where_nobody_asks_for_it()
    {
        TestCertificate strange = new TestAuthority("Another CA").Issue(TestKey.Ecdsa, false, "client.test");
        using ServerProcess weir = Serve(Rsa + "ssl_verify_client optional_no_ca; return 200 $ssl_client_verify;");
        using TlsClient client = TlsClient.Connect(weir.Port, certificate: strange);
        Assert.StartsWith("FAILED:", client.Get("/").Text);
        using TlsClient without = TlsClient.Connect(weir.Port);
        Assert.Equal("NONE", without.Get("/").Text);
    }

    [Fact]
    public void A_refused_name_ends_the_handshake()
    {
        using ServerProcess weir = Serve("ssl_reject_handshake on;", """
            server {
                listen 127.0.0.1:%PORT% ssl; server_name known.test;
                ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key; return 200 known;
            }
            """);
        Assert.Throws<AuthenticationException>(() => TlsClient.Connect(weir.Port, "unknown.test"));
        using TlsClient client = TlsClient.Connect(weir.Port, "known.test");
        Assert.Equal("known", client.Send("GET / HTTP/1.1\r\nHost: known.test\r\n\r\n").ReadResponse().Text);
    }

    [Fact]
    public void Protocols_are_those_of_the_named_server()
    {
        using ServerProcess weir = Serve(Rsa + "ssl_protocols TLSv1.3; return 200 $ssl_protocol;", """
            server {
                listen 127.0.0.1:%PORT% ssl; server_name old.test; ssl_protocols TLSv1.2;
                ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key; return 200 $ssl_protocol;
            }
            """);
        Assert.ThrowsAny<Exception>(() => TlsClient.Connect(weir.Port, protocols: SslProtocols.Tls12));
        using TlsClient old = TlsClient.Connect(weir.Port, "old.test");
        Assert.Equal("TLSv1.2", old.Send("GET / HTTP/1.1\r\nHost: old.test\r\n\r\n").ReadResponse().Text);
    }

    [NeedsTheory("openssl")]
    [Trait("Needs", "master")]
    [InlineData("-tls1_2", "ssl_session_tickets off; ssl_session_cache shared:one:1m;", "Reused")]
    [InlineData("-tls1_2", "ssl_session_cache off;", "Reused")]
    [InlineData("-tls1_2", "ssl_session_tickets off;", "New")]
    [InlineData("-tls1_2", "ssl_session_tickets off; ssl_session_cache builtin;", "Reused", 1)]
    public void Sessions_are_resumed_by_any_worker(string version, string settings, string expected, int workers = 2)
    {
        using ServerProcess weir = Serve(Rsa + settings + "return 200 ok;", workers: workers, master: workers > 1);
        (_, string output, _) = ChildProcess.Run("sh", "-c",
            $"echo | openssl s_client -connect 127.0.0.1:{weir.Port} {version} -reconnect 2>/dev/null");
        string[] lines = [.. output.Split('\n').Where(static l => l.StartsWith("New,") || l.StartsWith("Reused,"))];
        Assert.Equal(6, lines.Length);
        Assert.All(lines[1..], line => Assert.StartsWith(expected + ",", line));
    }

    [NeedsTheory("openssl")]
    [Trait("Needs", "master")]
    [InlineData("-tls1_2")]
    [InlineData("-tls1_3")]
    public void A_ticket_resumes_at_any_worker_after_a_reload(string version)
    {
        using ServerProcess weir = Serve(Rsa + "return 200 ok;", workers: 2, master: true);
        string asks = $"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 20 openssl s_client -connect "
            + $"127.0.0.1:{weir.Port} {version} -ign_eof";
        string Run(string more) =>
            ChildProcess.Run("sh", "-c", $"cd {weir.Files.Path}; {asks} {more} 2>/dev/null").Output;
        Run("-sess_out ticket");
        weir.Send(Signal.Hup);
        Wait.For("the reload", () => weir.ErrorLog.Contains("reconfigured", StringComparison.Ordinal)
            || weir.ErrorLog.Contains("reconfiguring", StringComparison.Ordinal));
        for (int i = 0; i < 6; i++)
        {
            Assert.Contains("Reused, ", Run("-sess_in ticket"), StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("ssl_certificate %FILES%/no.crt; ssl_certificate_key %FILES%/ec.key;",
        "cannot load certificate \"%FILES%/no.crt\": BIO_new_file() failed (SSL: error:80000002:system library::No "
        + "such file or directory:calling fopen(%FILES%/no.crt, r) error:10000080:BIO routines::no such file) in ")]
    [InlineData("ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/rsa.key;",
        "SSL_CTX_use_PrivateKey(\"%FILES%/rsa.key\") failed (SSL: error:")]
    [InlineData("ssl_certificate %FILES%/ec.crt;",
        "no \"ssl_certificate_key\" is defined for certificate \"%FILES%/ec.crt\"")]
    [InlineData("", "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive in ")]
    [InlineData(Ec + "ssl_ciphers NOTHING;", "SSL_CTX_set_cipher_list(\"NOTHING\") failed (SSL: error:0A0000B9:SSL "
        + "routines::no cipher match) in ")]
    public void What_is_wrong_is_said_by_the_test(string settings, string message)
    {
        using var files = new TempDir();
        _authority.Write(files, "ec");
        _authority.Write(files, "rsa", TestKey.Rsa);
        Conf conf = Conf.Http($"server {{ listen 127.0.0.1:%PORT% ssl; {settings} }}");
        using ServerProcess weir = ServerProcess.Weir(conf, files, waitReady: false, arguments: "-t");
        Assert.True(weir.Process.WaitForExit(30_000));
        Assert.Equal(1, weir.Process.ExitCode);
        Assert.Contains("[emerg] " + message.Replace("%FILES%", files.Path), weir.Process.Errors);
    }
}
