// Rows of TLS towards origins, and the origin that speaks HTTP/2 without it. The one with TLS is a server of the same
// process that speaks TLS 1.2 alone, with one cipher and a certificate two steps below the trusted authority.
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Weir.Tests.Harness.Rows;

internal static class TlsRows
{
    private const string Secure = "location / { proxy_pass https://127.0.0.1:%PORT2%; ";
    private const string Verified = Secure
        + "proxy_ssl_name origin.zone; proxy_ssl_verify on; proxy_ssl_verify_depth 2; "
        + "proxy_ssl_trusted_certificate %FILES%/root.pem; ";

    public const string Origin = """
        server {
            listen 127.0.0.1:%PORT2% ssl http2; server_name _; return 200 "tls said $ssl_server_name $ssl_cipher";
            ssl_protocols TLSv1.2; ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;
            ssl_certificate %FILES%/origin.pem; ssl_certificate_key %FILES%/origin.key;
            ssl_client_certificate %FILES%/root.pem; ssl_verify_client optional; ssl_verify_depth 3;
            add_header X-Client "c=$ssl_client_verify r=$ssl_session_reused.";
        }
        server {
            listen 127.0.0.1:%PORT3% http2; server_name _;
            location / { return 200 "h2 said peer=$remote_addr host=$host"; }
            location /fields { add_header X-A 1; add_header X-B 2; add_header X-Accel-Expires 1; return 200 "h2 said"; }
            location /miss { return 404 "h2 missed"; }
            location /accel { add_header X-Accel-Redirect /other; return 200 "h2 said"; }
        }

        """;

    /// <summary>gRPC has what the proxy has, towards the same origin over HTTP/2.</summary>
    public static Row[] All => [.. _proxy, .. _proxy.Select(static r => r with
    {
        Directive = Grpc(r.Directive), Server = Grpc(r.Server), A = Grpc(r.A), B = Grpc(r.B),
    })];

    private static string Grpc(string text) => text
        .Replace("proxy_pass https://", "grpc_pass grpcs://", StringComparison.Ordinal)
        .Replace("proxy_ssl", "grpc_ssl", StringComparison.Ordinal);

    private static readonly Row[] _proxy =
    [
        new("proxy_ssl_protocols", Secure + "proxy_ssl_protocols %V; }", "TLSv1.2", "TLSv1.3", "tls said", " 502 "),
        new("proxy_ssl_ciphers", Secure + "proxy_ssl_ciphers %V; }", "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384", "tls said", " 502 "),
        new("proxy_ssl_conf_command", Secure
            + "proxy_ssl_conf_command MaxProtocol %V; proxy_ssl_protocols TLSv1.2 TLSv1.3; "
            + "proxy_ssl_conf_command MinProtocol %V; }", "TLSv1.2", "TLSv1.3", "tls said", " 502 "),
        new("proxy_ssl_server_name", Secure + "proxy_ssl_name origin.zone; proxy_ssl_server_name %V; }", "on", "off",
            "said origin.zone", "!said origin.zone"),
        new("proxy_ssl_name", Secure + "proxy_ssl_server_name on; proxy_ssl_name %V; }", "a.zone", "b.zone",
            "said a.zone",
            "said b.zone"),
        new("proxy_ssl_verify", Secure + "proxy_ssl_name other.zone; proxy_ssl_verify_depth 2; "
            + "proxy_ssl_trusted_certificate %FILES%/root.pem; proxy_ssl_verify %V; }", "on", "off", " 502 ",
            "tls said"),
        new("proxy_ssl_verify_depth", Secure + "proxy_ssl_name origin.zone; proxy_ssl_verify on; "
            + "proxy_ssl_trusted_certificate %FILES%/root.pem; proxy_ssl_verify_depth %V; }", "2", "0", "tls said",
            " 502 "),
        new("proxy_ssl_trusted_certificate", Secure + "proxy_ssl_name origin.zone; proxy_ssl_verify on; "
            + "proxy_ssl_verify_depth 2; proxy_ssl_trusted_certificate %FILES%/%V.pem; }", "root", "stranger",
            "tls said",
            " 502 "),
        new("proxy_ssl_crl", Verified + "proxy_ssl_crl %FILES%/%V.crl; }", "none", "origin", "tls said", " 502 "),
        new("proxy_ssl_certificate", Secure + "%V }", "proxy_ssl_certificate %FILES%/client.pem; "
            + "proxy_ssl_certificate_key %FILES%/client.key;", "", "c=SUCCESS", "c=NONE"),
        new("proxy_ssl_certificate_key", Secure + "proxy_ssl_certificate %FILES%/%V.pem; "
            + "proxy_ssl_certificate_key %FILES%/%V.key; }", "client", "self", "c=SUCCESS", "!c=SUCCESS"),
        new("proxy_ssl_password_file", Secure + "%V }",
            "proxy_ssl_certificate %FILES%/client.pem; proxy_ssl_certificate_key %FILES%/locked.key; "
                + "proxy_ssl_password_file %FILES%/password;",
            "proxy_ssl_certificate_key %FILES%/self.key; proxy_ssl_certificate %FILES%/self.pem;", "c=SUCCESS",
            "!c=SUCCESS"),
    ];

    public static void WriteFiles(TempDir files)
    {
        (X509Certificate2 root, ECDsa rootKey) = Make("Root", null, null, isAuthority: true);
        (X509Certificate2 middle, ECDsa middleKey) = Make("Middle", root, rootKey, isAuthority: true);
        (X509Certificate2 origin, ECDsa originKey) = Make("origin.zone", middle, middleKey, isAuthority: false);
        (X509Certificate2 client, ECDsa clientKey) = Make("client", root, rootKey, isAuthority: false);
        (X509Certificate2 self, ECDsa selfKey) = Make("self", null, null, isAuthority: false);
        files.Write("root.pem", root.ExportCertificatePem());
        files.Write("stranger.pem", self.ExportCertificatePem());
        files.Write("origin.pem", origin.ExportCertificatePem() + "\n" + middle.ExportCertificatePem());
        files.Write("origin.key", originKey.ExportPkcs8PrivateKeyPem());
        files.Write("client.pem", client.ExportCertificatePem());
        files.Write("client.key", clientKey.ExportPkcs8PrivateKeyPem());
        files.Write("self.pem", self.ExportCertificatePem());
        files.Write("self.key", selfKey.ExportPkcs8PrivateKeyPem());
        files.Write("password", "secret\n");
        files.Write("locked.key", clientKey.ExportEncryptedPkcs8PrivateKeyPem("secret",
            new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000)));
        string rootList = Revoke(root, rootKey, null);
        files.Write("none.crl", rootList + Revoke(middle, middleKey, null));
        files.Write("origin.crl", rootList + Revoke(middle, middleKey, origin));
    }

    private static string Revoke(X509Certificate2 authority, ECDsa key, X509Certificate2? revoked)
    {
        var list = new CertificateRevocationListBuilder();
        if (revoked is not null)
        {
            list.AddEntry(revoked);
        }
        byte[] bytes = list.Build(authority.SubjectName, X509SignatureGenerator.CreateForECDsa(key), 1,
            DateTimeOffset.UtcNow.AddYears(1), HashAlgorithmName.SHA256,
            X509AuthorityKeyIdentifierExtension.CreateFromCertificate(authority, true, false));
        return new string(PemEncoding.Write("X509 CRL", bytes)) + "\n";
    }

    private static (X509Certificate2 Certificate, ECDsa Key) Make(string name, X509Certificate2? issuer,
        ECDsa? issuerKey,
        bool isAuthority)
    {
        var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=" + name, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(isAuthority, false, 0, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name.ToLowerInvariant());
        request.CertificateExtensions.Add(names.Build());
        DateTimeOffset from = DateTimeOffset.UtcNow.AddDays(-1), to = DateTimeOffset.UtcNow.AddYears(2);
        X509Certificate2 certificate = issuer is null
            ? X509CertificateLoader.LoadCertificate(request.CreateSelfSigned(from, to).RawData)
            : request.Create(issuer.SubjectName, X509SignatureGenerator.CreateForECDsa(issuerKey!), from,
                issuer.NotAfter.ToUniversalTime() < to ? issuer.NotAfter.ToUniversalTime() : to,
                RandomNumberGenerator.GetBytes(8));
        return (certificate, key);
    }
}
