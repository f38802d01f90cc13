// HTTPS under every concurrency model: the same certificate options, HTTP/1.1 inside; what a client may do wrong in a
// handshake; names, client certificates, forms of certificates.
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class HttpsTests : IDisposable
{
    private const int Long = 30_000;

    private static readonly TestAuthority _authority = new();
    private static readonly TestCertificate _issued = _authority.Issue(names: ["localhost", "127.0.0.1"]);
    private static readonly ServerCertificate _certificate = ServerCertificate.FromPem(_issued.Pem, _issued.KeyPem);

    private readonly TempDir _files = new();

    public static TheoryData<string> All => Models.All;

    public void Dispose() => _files.Dispose();

    private static Running Start(string model, Func<AppRequest, AppResponse, Task> handler,
        Action<HttpsOptions>? https = null, Action<AppServerOptions>? set = null) => new(model, handler, o =>
    {
        o.Listen.Clear();
        o.LogLevel = AppLogLevel.Information;
        o.ListenHttps("127.0.0.1:0", h =>
        {
            h.Certificate = _certificate;
            https?.Invoke(h);
        });
        set?.Invoke(o);
    });

    private static async Task Tell(AppRequest request, AppResponse response)
    {
        ConnectionSecurity security = request.Security!;
        response.Write($"{request.Scheme} {request.HttpVersion} {security.Protocol} {security.HostName} "
            + $"{security.ApplicationProtocol} {security.ClientCertificate?.Subject} "
            + await request.ReadTextAsync());
    }

    private static Task Echo(AppRequest request, AppResponse response) => request.Body.CopyToAsync(response.Body);

    [Theory]
    [MemberData(nameof(All))]
    public void Requests_over_TLS_are_answered_one_after_the_other(string model)
    {
        using Running running = Start(model, Tell);
        Assert.StartsWith("https://127.0.0.1:", running.Server.Addresses[0]);
        using TlsClient client = TlsClient.Connect(running.Port);
        Assert.Equal(_issued.Certificate.RawData, client.ServerCertificate!.RawData);
        for (int i = 0; i < 3; i++)
        {
            HttpResponse answer = client.Get("/");
            Assert.Equal("https 1.1 Tls13 localhost   ", answer.Text);
            Assert.Equal(200, answer.Status);
        }
        HttpResponse posted = client.Send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody")
            .ReadResponse();
        Assert.EndsWith("body", posted.Text);
        running.Await(static m => m is { Answered: 4, Accepted: 1 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Pipelined_requests_in_one_record_are_all_answered(string model)
    {
        using Running running = Start(model, Echo);
        using TlsClient client = TlsClient.Connect(running.Port);
        client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nHost: a\r\n"
            + "Transfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Equal("abc", client.ReadResponse().Text);
        Assert.Equal("def", client.ReadResponse().Text);
        Assert.Equal("", client.ReadResponse().Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_large_body_goes_both_ways_over_TLS(string model)
    {
        using Running running = Start(model, Echo);
        using TlsClient client = TlsClient.Connect(running.Port);
        byte[] body = new byte[600_000];
        new Random(1).NextBytes(body);
        // Sent beside the reading: an echo of this size would fill both directions.
        var sender = new Thread(() =>
        {
            client.Send($"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {body.Length}\r\n\r\n");
            client.Send(body);
        });
        sender.Start();
        HttpResponse echoed = client.ReadResponse();
        sender.Join();
        Assert.Equal(body, echoed.Body);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Plain_HTTP_on_a_TLS_port_is_told_so(string model)
    {
        using Running running = Start(model, Tell);
        using RawClient client = running.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        string text = Encoding.Latin1.GetString(client.ReadToEnd(Long));
        Assert.StartsWith("HTTP/1.1 400 ", text);
        Assert.Contains("plain HTTP request was sent to HTTPS port", text);
        using TlsClient good = TlsClient.Connect(running.Port);
        Assert.Equal(200, good.Get("/").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_handshake_that_never_ends_is_closed_at_the_header_timeout(string model)
    {
        using Running running = Start(model, Tell, set: static o => o.HeaderTimeout = TimeSpan.FromMilliseconds(200));
        using RawClient half = running.Connect();
        half.Send([0x16, 3, 1, 2, 0, 1]);
        half.ReadToEnd(Long);
        running.Await(static m => m.Connections == 0);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Garbage_in_the_place_of_a_ClientHello_costs_one_connection(string model)
    {
        using Running running = Start(model, Tell);
        using RawClient bad = running.Connect();
        bad.Send([0x16, 3, 1, 0, 5, 9, 9, 9, 9, 9]);
        bad.ReadToEnd(Long);
        using TlsClient good = TlsClient.Connect(running.Port);
        Assert.Equal(200, good.Get("/").Status);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_record_that_comes_byte_by_byte_is_read_when_it_is_whole(string model)
    {
        using Running running = Start(model, Echo);
        using var slow = new TrickleProxy(running.Port);
        using TlsClient client = TlsClient.Connect(slow.Port);
        Assert.Equal("abc", client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            .ReadResponse().Text);
        Assert.Equal("def", client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ndef")
            .ReadResponse().Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void An_idle_TLS_connection_is_closed_in_order(string model)
    {
        using Running running = Start(model, Tell, set: static o => o.IdleTimeout = TimeSpan.FromMilliseconds(200));
        using TlsClient client = TlsClient.Connect(running.Port);
        Assert.Equal(200, client.Get("/").Status);
        Assert.True(client.WaitClosed());
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_late_handler_is_answered_for_over_TLS(string model)
    {
        using var release = new ManualResetEventSlim();
        using Running running = Start(model, (_, _) =>
        {
            release.Wait(Long);
            return Task.CompletedTask;
        }, set: static o => o.HandlerTimeout = TimeSpan.FromMilliseconds(100));
        using TlsClient client = TlsClient.Connect(running.Port);
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        bool holdsLoop = Models.Of(model).Kind == ConcurrencyKind.EventDriven;
        if (holdsLoop)
        {
            // Only the loop may write records: it answers as soon as it has its thread back.
            running.Await(static m => m.TimedOut == 1);
            release.Set();
        }
        Assert.Equal(503, client.ReadResponse().Status);
        release.Set();
        running.Await(static m => m is { Stuck: 0, Running: 0 });
    }

    [Theory]
    [MemberData(nameof(All))]
    public void The_certificate_is_chosen_by_the_name_that_is_asked_for(string model)
    {
        TestCertificate other = _authority.Issue(TestKey.Rsa, false, "other.test");
        ServerCertificate second = ServerCertificate.FromPem(other.Pem, other.KeyPem);
        using Running running = Start(model, Tell, h => h.CertificateFor = name => name switch
        {
            "other.test" => second,
            "broken.test" => throw new InvalidOperationException("on purpose"),
            _ => null,
        });
        using (TlsClient client = TlsClient.Connect(running.Port, "other.test"))
        {
            Assert.Equal(other.Certificate.RawData, client.ServerCertificate!.RawData);
            Assert.Contains(" other.test ", client.Get("/").Text);
        }
        Assert.ThrowsAny<Exception>(() => TlsClient.Connect(running.Port, "broken.test"));
        Assert.Contains("on purpose", running.Log);
        using TlsClient first = TlsClient.Connect(running.Port, "first.test");
        Assert.Equal(_issued.Certificate.RawData, first.ServerCertificate!.RawData);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_client_certificate_is_asked_for_checked_and_shown(string model)
    {
        TestCertificate known = _authority.Issue(names: ["client"]);
        TestCertificate stranger = new TestAuthority("Another CA").Issue(names: ["stranger"]);
        using Running running = Start(model, Tell, static h =>
        {
            h.ClientCertificates = ClientCertificates.Required;
            h.ClientAuthorities.Add(_authority.Certificate);
        });
        using (TlsClient client = TlsClient.Connect(running.Port, certificate: known))
        {
            Assert.Contains(" CN=client ", client.Get("/").Text);
        }
        using (TlsClient client = TlsClient.Connect(running.Port, certificate: stranger))
        {
            HttpResponse refused = client.Get("/");
            Assert.Equal(400, refused.Status);
            Assert.Contains("SSL certificate error", refused.Text);
        }
        using TlsClient nobody = TlsClient.Connect(running.Port);
        Assert.Contains("No required SSL certificate was sent", nobody.Get("/").Text);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Versions_are_those_of_the_options(string model)
    {
        using Running running = Start(model, Tell, static h => h.Protocols = SslProtocols.Tls12);
        using TlsClient client = TlsClient.Connect(running.Port);
        Assert.Contains(" Tls12 ", client.Get("/").Text);
        Assert.ThrowsAny<Exception>(() => TlsClient.Connect(running.Port, protocols: SslProtocols.Tls13));
    }

    [Theory]
    [InlineData("sequential")]
    [InlineData("thread-per-connection")]
    [InlineData("thread-pool")]
    public void A_blocking_model_does_not_offer_HTTP_2_and_refuses_it_in_clear_words(string model)
    {
        using Running running = Start(model, Tell, set: static o => o.Listen.Add("127.0.0.1:0"));
        using (TlsClient client = TlsClient.Connect(running.Port, alpn: ["h2", "http/1.1"]))
        {
            Assert.Equal("http/1.1", client.Stream.NegotiatedApplicationProtocol.ToString());
        }
        Assert.ThrowsAny<Exception>(() => TlsClient.Connect(running.Port, alpn: ["h2"]));
        string plain = running.Server.Addresses[1];
        using RawClient prior = RawClient.Connect(int.Parse(plain[(plain.LastIndexOf(':') + 1)..]));
        prior.Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 505 ", Encoding.Latin1.GetString(prior.ReadToEnd(Long)));
        Assert.Contains("a blocking model cannot speak", running.Log);
    }

    [Theory]
    [InlineData("sequential")]
    [InlineData("event-driven-2")]
    public void A_session_is_resumed(string model)
    {
        using Running running = Start(model, static (request, response) =>
        {
            response.Write(request.Security!.IsResumed ? "resumed" : "new");
            return Task.CompletedTask;
        });
        string certificate = _files.Write("ca.pem", _authority.Pem);
        using var openssl = new ChildProcess("openssl", ["s_client", "-connect", $"127.0.0.1:{running.Port}", "-CAfile",
            certificate, "-reconnect", "-no_tls1_3"], _files.Path);
        Wait.For("five reconnections", () => openssl.Output.Split("Reused, ").Length > 5);
    }

    [Fact]
    public void Plain_and_TLS_addresses_stand_side_by_side_with_settings_of_their_own()
    {
        TestCertificate other = _authority.Issue(names: ["second.test"]);
        using Running running = Start("event-driven", static (request, response) =>
        {
            response.Write(request.Scheme);
            return Task.CompletedTask;
        }, set: o =>
        {
            o.Listen.Add("127.0.0.1:0");
            o.Https.Certificate = ServerCertificate.FromPem(other.Pem, other.KeyPem);
            o.Listen.Add("https://127.0.0.1:0");
        });
        int[] ports = [.. running.Server.Addresses.Select(static a => int.Parse(a[(a.LastIndexOf(':') + 1)..]))];
        using TlsClient first = TlsClient.Connect(ports[0]);
        Assert.Equal("https", first.Get("/").Text);
        using RawClient plain = RawClient.Connect(ports[1]);
        Assert.Equal("http", plain.Get("/").Text);
        using TlsClient second = TlsClient.Connect(ports[2]);
        Assert.Equal(other.Certificate.RawData, second.ServerCertificate!.RawData);
    }

    [Fact]
    public void Certificates_come_as_files_with_keys_that_may_be_locked_or_as_objects()
    {
        _files.Write("a.crt", _issued.Pem);
        var key = (ECDsa)_issued.Key;
        _files.Write("a.key", key.ExportEncryptedPkcs8PrivateKeyPem("secret",
            new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000)));
        using X509Certificate2 both = _issued.Certificate.CopyWithPrivateKey(key);
        File.WriteAllBytes(_files.At("a.pfx"),
            new X509Certificate2Collection { both, _authority.Certificate }.Export(X509ContentType.Pfx, "secret")!);
        foreach (ServerCertificate one in (ServerCertificate[])
        [
            ServerCertificate.FromPemFile(_files.At("a.crt"), _files.At("a.key"), "secret"),
            ServerCertificate.FromPfxFile(_files.At("a.pfx"), "secret"),
            ServerCertificate.From(both),
        ])
        {
            using Running running = Start("event-driven", Tell, h => h.Certificate = one);
            using TlsClient client = TlsClient.Connect(running.Port);
            Assert.Equal(_issued.Certificate.RawData, client.ServerCertificate!.RawData);
        }
        Assert.Throws<CryptographicException>(() => ServerCertificate.FromPfxFile(_files.At("a.pfx"), "wrong"));
        Assert.Throws<CryptographicException>(() => ServerCertificate.From(_issued.Certificate));
    }

    [Theory]
    [InlineData("sequential")]
    [InlineData("event-driven")]
    public void A_certificate_that_is_missing_or_wrong_stops_the_start_with_its_reason(string model)
    {
        ArgumentException none = Assert.Throws<ArgumentException>(() => Start(model, Tell, h => h.Certificate = null));
        Assert.Contains("no certificate for \"https://127.0.0.1:0\"", none.Message);
        TestCertificate other = _authority.Issue(names: ["other"]);
        ArgumentException mixed = Assert.Throws<ArgumentException>(() => Start(model, Tell,
            h => h.Certificate = ServerCertificate.FromPem(_issued.Pem, other.KeyPem)));
        Assert.Contains("key values mismatch", mixed.Message);
    }

    [Fact]
    public void The_development_certificate_is_made_once_kept_for_its_user_and_made_again_in_time()
    {
        string at = _files.At("data/weir");
        DevelopmentCertificate made = DevelopmentCertificate.Ensure(at);
        Assert.True(made.IsNew);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(made.KeyPath));
        Assert.Contains("update-ca-certificates", made.HowToTrust);
        using X509Certificate2 certificate = X509CertificateLoader.LoadCertificateFromFile(made.CertificatePath);
        foreach (string name in (string[])["localhost", "127.0.0.1", "::1"])
        {
            Assert.True(certificate.MatchesHostname(name), name);
        }
        Assert.True(certificate.NotAfter > DateTime.Now.AddDays(300));
        Assert.False(DevelopmentCertificate.Ensure(at).IsNew);
        // One that is about to expire, one whose key others may read, one of another key.
        TestCertificate old = _authority.Issue(names: ["localhost"]);
        File.WriteAllText(made.CertificatePath, old.Pem);
        Assert.True(DevelopmentCertificate.Ensure(at).IsNew);
        File.SetUnixFileMode(made.KeyPath, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.OtherRead);
        Assert.True(DevelopmentCertificate.Ensure(at).IsNew);
        File.WriteAllText(made.CertificatePath, old.Pem);
        File.WriteAllText(made.KeyPath, old.KeyPem);
        Assert.True(DevelopmentCertificate.Ensure(at).IsNew);
        ServerCertificate shown = ServerCertificate.FromPemFile(made.CertificatePath, made.KeyPath);
        using Running running = Start("event-driven", Tell, h => h.Certificate = shown);
        using TlsClient client = TlsClient.Connect(running.Port);
        Assert.Equal(200, client.Get("/").Status);
    }
}
