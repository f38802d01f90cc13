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
        Assert.Contains("client sent plain HTTP request to HTTPS port", weir.ErrorLog);
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
}
