// TLS beside nginx: the same configuration, the same connections by openssl's client; alerts, the decrypted stream, how
// the connection ends, and what the access log says. Both servers are started once for all connections.
using System.Globalization;
using System.Text.RegularExpressions;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;
using Xunit;

namespace Weir.Tests.Differential;

/// <summary>Both servers under one configuration.</summary>
public sealed class TlsServers : IDisposable
{
    private const string Configuration = """
        log_format tls '$request|$status|$body_bytes_sent|$scheme|$https|$ssl_protocol|$ssl_cipher|$ssl_server_name|'
            '$ssl_session_reused|$ssl_client_verify|$ssl_client_s_dn|$ssl_client_i_dn|$ssl_client_serial|'
            '$ssl_client_fingerprint|$ssl_client_v_start|$ssl_client_v_end|$ssl_client_v_remain|$ssl_early_data|'
            '$ssl_client_s_dn_legacy|$ssl_client_i_dn_legacy|$ssl_curves|$ssl_ciphers';
        ssl_certificate %FILES%/rsa.crt; ssl_certificate_key %FILES%/rsa.key;
        ssl_client_certificate %FILES%/ca.crt; ssl_crl %FILES%/ca.crl;
        ssl_protocols TLSv1.2 TLSv1.3; proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse off;
        proxy_http_version 1.1;
        map $uri $told { default "$ssl_protocol $ssl_cipher $ssl_server_name $ssl_session_reused $ssl_client_verify"; }
        server {
            listen 127.0.0.1:%PORT% ssl default_server; listen 127.0.0.1:%PORT3%;
            server_name localhost; root %FILES%; ssl_verify_client optional;
            access_log %DIR%/access.log tls;
            location /told { return 200 "$told\n"; }
            location /close { return 200 "$told\n"; keepalive_timeout 0; }
            set $who "$ssl_client_s_dn|$ssl_client_i_dn|$ssl_client_serial|$ssl_client_fingerprint";
            location /cert { return 200 "$who|$ssl_client_v_start|$ssl_client_v_end\n"; }
            location /escaped { return 200 "$ssl_client_escaped_cert\n"; }
            location /raw { return 200 "$ssl_client_raw_cert\n"; }
            location /folded { return 200 "$ssl_client_cert\n"; }
            location /self { proxy_pass https://127.0.0.1:%PORT%/told; }
            location /named { proxy_pass https://127.0.0.1:%PORT%/told; proxy_ssl_server_name on;
                proxy_ssl_name a.wild.test; proxy_set_header Host a.wild.test; }
            location /trusted { proxy_pass https://127.0.0.1:%PORT%/told; proxy_ssl_verify on;
                proxy_ssl_trusted_certificate %FILES%/ca.crt; proxy_ssl_name localhost; }
            location /mistrusted { proxy_pass https://127.0.0.1:%PORT%/told; proxy_ssl_verify on;
                proxy_ssl_trusted_certificate %FILES%/strange-ca.crt; proxy_ssl_name localhost; }
            location /misnamed { proxy_pass https://127.0.0.1:%PORT%/told; proxy_ssl_verify on;
                proxy_ssl_trusted_certificate %FILES%/ca.crt; proxy_ssl_name other.test; }
            location /shows { proxy_pass https://127.0.0.1:%PORT%/cert;
                proxy_ssl_certificate %FILES%/good.crt; proxy_ssl_certificate_key %FILES%/good.key; }
            location /old { proxy_pass https://127.0.0.1:%PORT2%/; proxy_ssl_protocols TLSv1.2;
                proxy_ssl_server_name on; proxy_ssl_name modern.test; }
            location /plain { proxy_pass https://127.0.0.1:%PORT3%/; }
        }
        server {
            listen 127.0.0.1:%PORT% ssl; server_name *.wild.test; access_log %DIR%/access.log tls;
            ssl_certificate %FILES%/wild.crt; ssl_certificate_key %FILES%/wild.key;
            location / { return 200 "wild $told\n"; }
        }
        server {
            listen 127.0.0.1:%PORT% ssl; server_name exact.wild.test;
            location / { return 200 "exact $told\n"; }
        }
        server {
            listen 127.0.0.1:%PORT% ssl; server_name ~^re(?<n>[0-9]+)\.test$;
            location / { return 200 "re $n $told\n"; }
        }
        server {
            listen 127.0.0.1:%PORT% ssl; server_name verify.test; ssl_verify_client on;
            access_log %DIR%/access.log tls;
            location / { return 200 "verify $told\n"; }
        }
        server {
            listen 127.0.0.1:%PORT% ssl; server_name pages.test; ssl_verify_client on;
            error_page 495 496 /refused; error_page 497 =200 /plain;
            location / { return 200 "pages $told\n"; }
        }
        server {
            listen 127.0.0.1:%PORT% ssl; server_name noca.test; ssl_verify_client optional_no_ca;
            access_log %DIR%/access.log tls;
            location / { return 200 "noca $told\n"; }
        }
        server { listen 127.0.0.1:%PORT2% ssl default_server; ssl_reject_handshake on; }
        server { listen 127.0.0.1:%PORT2% ssl; server_name known.test; location / { return 200 "known $told\n"; } }
        server {
            listen 127.0.0.1:%PORT4% ssl; server_name modern.test; ssl_protocols TLSv1.3;
            error_page 497 =301 https://$host:443$request_uri;
            location / { return 200 "modern $told\n"; }
        }
        server {
            listen 127.0.0.1:%PORT5% ssl; ssl_protocols TLSv1.2; ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384;
            ssl_ecdh_curve secp384r1; ssl_session_cache shared:s:1m; ssl_session_tickets off;
            access_log %DIR%/access.log tls;
            location / { return 200 "narrow $told\n"; }
        }
        """;

    private readonly TempDir _files = new();

    public TlsServers()
    {
        var authority = new TestAuthority();
        var strange = new TestAuthority("Strange CA");
        authority.Write(_files, "rsa", TestKey.Rsa);
        authority.Write(_files, "wild", TestKey.Ecdsa, "*.wild.test");
        authority.Write(_files, "good", TestKey.Ecdsa, "good.test");
        TestCertificate revoked = authority.Write(_files, "revoked", TestKey.Ecdsa, "revoked.test");
        strange.Write(_files, "strange", TestKey.Ecdsa, "strange.test");
        TestCertificate expired = authority.Issue(TestKey.Ecdsa, true, "expired.test");
        _files.Write("expired.crt", expired.Pem);
        _files.Write("expired.key", expired.KeyPem);
        _files.Write("ca.crt", authority.Pem);
        _files.Write("strange-ca.crt", strange.Pem);
        _files.Write("ca.crl", authority.Revoke(revoked));
        _files.Write("file.txt", string.Concat(Enumerable.Range(0, 5000).Select(static i => $"line {i}\n")));
        _files.SetFolderTimes();
        var conf = Harness.Conf.Http(Configuration);
        Ours = ServerProcess.Weir(conf, _files);
        Theirs = ServerProcess.Nginx(conf, _files);
    }

    public ServerProcess Ours { get; }
    public ServerProcess Theirs { get; }

    public void Dispose()
    {
        Ours.Dispose();
        Theirs.Dispose();
        _files.Dispose();
    }
}

public sealed partial class TlsTests(TlsServers servers) : IClassFixture<TlsServers>
{
    /// <summary>A connection: the port by number, what openssl is told, what is sent.</summary>
    public static TheoryData<string, int, string, string> Connections => new()
    {
        { "TLS 1.2", 1, "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", Get("/told") },
        { "TLS 1.3", 1, "-tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384", Get("/told") },
        { "a name", 1, "-servername localhost", Get("/told") },
        { "a name in capitals", 1, "-servername LOCALHOST", Get("/told") },
        { "an unknown name", 1, "-servername unknown.test", Get("/told") },
        { "no name", 1, "-noservername", Get("/told") },
        { "a wildcard", 1, "-servername a.wild.test", Get("/", "a.wild.test") },
        { "a wildcard over two labels", 1, "-servername b.a.wild.test", Get("/", "b.a.wild.test") },
        { "an exact name before a wildcard", 1, "-servername exact.wild.test", Get("/", "exact.wild.test") },
        { "a regular expression", 1, "-servername re17.test", Get("/", "re17.test") },
        { "another host than the name", 1, "-servername a.wild.test", Get("/told") },
        { "a protocol that is too old", 4, "-tls1_2 -servername modern.test", "" },
        { "ciphers that do not meet", 5, "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", "" },
        { "a protocol that is too new", 5, "-tls1_3", "" },
        { "curves that do not meet", 5, "-tls1_2 -groups X25519", "" },
        { "the one cipher and curve", 5, "-tls1_2", Get("/") },
        { "a refused name", 2, "-servername unknown.test", "" },
        { "a refused connection without a name", 2, "-noservername", "" },
        { "a known name", 2, "-servername known.test", Get("/", "known.test") },
        { "ALPN", 1, "-alpn http/1.1", Get("/told") },
        { "ALPN with a choice", 1, "-alpn foo,http/1.0", Get("/told") },
        { "ALPN that does not meet", 1, "-alpn foo", "" },
        { "a file", 1, "", Get("/file.txt") },
        { "a range", 1, "", "GET /file.txt HTTP/1.1\r\nHost: localhost\r\nRange: bytes=16000-17000\r\n"
            + "Connection: close\r\n\r\n" },
        { "HEAD", 1, "", "HEAD /told HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" },
        { "two requests", 1, "", "GET /told HTTP/1.1\r\nHost: localhost\r\n\r\n" + Get("/file.txt") },
        { "HTTP/1.0", 1, "", "GET /told HTTP/1.0\r\n\r\n" },
        { "keepalive_timeout 0", 1, "", "GET /close HTTP/1.1\r\nHost: localhost\r\n\r\n" },
        { "a bad request", 1, "", "GET /told HTTP/1.1\r\n\r\n" },
        { "nonsense inside TLS", 1, "", "nonsense\r\n\r\n" },
        { "not found", 1, "", Get("/none") },
        { "a certificate", 1, "-cert good.crt -key good.key", Get("/cert") },
        { "a certificate in TLS 1.2", 1, "-tls1_2 -cert good.crt -key good.key", Get("/cert") },
        { "a certificate, escaped", 1, "-cert good.crt -key good.key", Get("/escaped") },
        { "a certificate, raw", 1, "-cert good.crt -key good.key", Get("/raw") },
        { "a certificate, folded", 1, "-cert good.crt -key good.key", Get("/folded") },
        { "a certificate that nobody required", 1, "-cert good.crt -key good.key", Get("/told") },
        { "a strange certificate where one is optional", 1, "-cert strange.crt -key strange.key", Get("/told") },
        { "an expired certificate where one is optional", 1, "-cert expired.crt -key expired.key", Get("/told") },
        { "a required certificate", 1, "-servername verify.test -cert good.crt -key good.key",
            Get("/", "verify.test") },
        { "a required certificate that is missing", 1, "-servername verify.test", Get("/", "verify.test") },
        { "a required certificate that is strange", 1, "-servername verify.test -cert strange.crt -key strange.key",
            Get("/", "verify.test") },
        { "a required certificate that is revoked", 1, "-servername verify.test -cert revoked.crt -key revoked.key",
            Get("/", "verify.test") },
        { "a required certificate that is expired", 1, "-servername verify.test -cert expired.crt -key expired.key",
            Get("/", "verify.test") },
        { "a page for a missing certificate", 1, "-servername pages.test", Get("/", "pages.test") },
        { "a page for a strange certificate", 1, "-servername pages.test -cert strange.crt -key strange.key",
            Get("/", "pages.test") },
        { "anybody's certificate", 1, "-servername noca.test -cert strange.crt -key strange.key",
            Get("/", "noca.test") },
        { "anybody's certificate that is expired", 1, "-servername noca.test -cert expired.crt -key expired.key",
            Get("/", "noca.test") },
        { "a host that asks for certificates, under another name", 1, "-servername localhost",
            Get("/", "verify.test") },
        { "a proxied request", 1, "", Get("/self") },
        { "a proxied request with a name", 1, "", Get("/named") },
        { "a trusted upstream server", 1, "", Get("/trusted") },
        { "an upstream server of a strange authority", 1, "", Get("/mistrusted") },
        { "an upstream server with another name", 1, "", Get("/misnamed") },
        { "a certificate for the upstream server", 1, "", Get("/shows") },
        { "an upstream server that refuses the name", 1, "", Get("/old") },
        { "an upstream server without TLS", 1, "", Get("/plain") },
    };

    private static string Get(string path, string host = "localhost") =>
        $"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n";

    [NeedsTheory("nginx", "openssl"), MemberData(nameof(Connections))]
    public void A_connection_reads_as_nginx_s(string name, int port, string options, string request)
    {
        Assert.NotEqual("", name);
        int before = Logged(servers.Theirs).Length, mine = Logged(servers.Ours).Length;
        string theirs = Talk(servers.Theirs, port, options, request), ours = Talk(servers.Ours, port, options, request);
        Assert.Equal(theirs, ours);
        // Every $ssl_ variable of the connection, as the log has it.
        string[] lines = Logged(servers.Theirs)[before..];
        Wait.For("the log", () => Logged(servers.Ours).Length >= mine + lines.Length);
        Assert.Equal(lines, Logged(servers.Ours)[mine..]);
    }

    private static string[] Logged(ServerProcess server) => [.. server.AccessLog.Split('\n',
        StringSplitOptions.RemoveEmptyEntries).Where(static l => !l.StartsWith("\\x16", StringComparison.Ordinal))
        .Select(line => PageBytes().Replace(line, "$1*"))];

    /// <summary>A page of the server's own is as long as its name.</summary>
    [GeneratedRegex("([|][45][0-9]{2}[|])[0-9]+")]
    private static partial Regex PageBytes();

    /// <summary>Requests without TLS.</summary>
    public static TheoryData<int, string> PlainRequests => new()
    {
        { 1, Get("/told") },
        { 1, Get("/told", "pages.test") },
        { 1, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n" },
        { 1, "GET / HTTP/1.0\r\n\r\n" },
        { 1, "nonsense\r\n\r\n" },
        { 4, Get("/a?b", "modern.test") },
        { 1, "\r\n" },
    };

    [NeedsTheory("nginx"), MemberData(nameof(PlainRequests))]
    public void Plain_HTTP_on_a_TLS_port_reads_as_nginx_s(int port, string request)
    {
        string[] texts = [.. new[] { servers.Theirs, servers.Ours }.Select(server =>
        {
            using RawClient client = RawClient.Connect(server.PortOf(port));
            client.Send(request);
            client.HalfClose();
            client.WaitForBytes(30_000);
            var talk = new Talk { IsHead = request.StartsWith("HEAD", StringComparison.Ordinal) };
            return Transcript.Of(client.ReadUntilQuiet(150), talk, client.Ending != Ending.Open,
                Surroundings.Of(server, 0));
        })];
        Assert.Equal(texts[0], texts[1]);
    }

    [NeedsTheory("nginx", "openssl")]
    [InlineData(1, "-tls1_2")]
    [InlineData(5, "-tls1_2")]
    public void Sessions_are_resumed_as_nginx_s(int port, string options)
    {
        string[] texts = [.. new[] { servers.Theirs, servers.Ours }.Select(server =>
        {
            string asks = $"printf '{Escape(Get("/told"))}' | timeout 20 openssl s_client -connect "
                + $"127.0.0.1:{server.PortOf(port)} {options} -quiet";
            (_, string output, _) = ChildProcess.Run("sh", "-c", $"cd {server.Dir.Path}; "
                + $"({asks} -sess_out s; {asks} -sess_in s) 2>/dev/null | base64 -w0");
            return Transcript.Of(Convert.FromBase64String(output.Trim()), new Talk(), true,
                Surroundings.Of(server, 0));
        })];
        Assert.Contains(" r NONE", texts[0]);
        Assert.Equal(texts[0], texts[1]);
    }

    private static string Escape(string text) =>
        text.Replace("\r", "\\r", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);

    /// <summary>The stream in clear, the alerts, and how it ended.</summary>
    private static string Talk(ServerProcess server, int port, string options, string request)
    {
        (_, string output, string errors) = ChildProcess.Run("sh", "-c", $"cd {server.Files.Path}; "
            + $"printf '{Escape(request)}' | timeout 20 openssl s_client -quiet -connect "
            + $"127.0.0.1:{server.PortOf(port).ToString(CultureInfo.InvariantCulture)} {options} | base64 -w0");
        string text = Transcript.Of(Convert.FromBase64String(output.Trim()), new Talk(), true,
            Surroundings.Of(server, 0));
        text = string.Join('\n', text.Split('\n').Select(l => l.Replace(
            ":" + server.PortOf(port).ToString(CultureInfo.InvariantCulture), ":PORT", StringComparison.Ordinal)));
        string alerts = string.Join(' ', Alert().Matches(errors).Select(static m => m.Value));
        string subject = string.Join(' ', Subject().Matches(errors).Select(static m => m.Value));
        return $"{text}{subject}\n{alerts}\n{(errors.Contains("unexpected eof", StringComparison.Ordinal)
            ? "no goodbye" : "goodbye")}";
    }

    [GeneratedRegex("SSL alert number [0-9]+|errno=[0-9]+|no protocols available|write:errno")]
    private static partial Regex Alert();

    [GeneratedRegex("depth=0 [^\n]*")]
    private static partial Regex Subject();
}
