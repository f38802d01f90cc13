// How an address of an AppServer speaks TLS. Plain values with defaults; read once when the server starts, but for the
// selector, which is asked at every handshake.
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;

namespace Weir.Server;

/// <summary>Whether clients are asked for a certificate of their own.</summary>
public enum ClientCertificates : byte
{
    /// <summary>They are not asked.</summary>
    None,

    /// <summary>Asked; one that is shown must be good, none is good too.</summary>
    Optional,

    /// <summary>Asked; a request without a good one is answered 400.</summary>
    Required,

    /// <summary>Asked, and whatever is shown is let through: the application judges it.</summary>
    Unchecked,
}

/// <summary>The TLS of a listening address.</summary>
public sealed class HttpsOptions
{
    /// <summary>The certificate that is shown where <see cref="CertificateFor"/> names no other. Needed.</summary>
    public ServerCertificate? Certificate { get; set; }

    /// <summary>Chooses the certificate by the name that the client asks for (in lower case; empty when it names none);
    /// null takes <see cref="Certificate"/>. Called at each handshake, on the thread that serves the connection, so it
    /// must not wait; the same certificate must be the same object each time.</summary>
    public Func<string, ServerCertificate?>? CertificateFor { get; set; }

    /// <summary>TLS versions; <see cref="SslProtocols.None"/> stands for 1.2 and 1.3.</summary>
    public SslProtocols Protocols { get; set; }

    /// <summary>Cipher suites of TLS 1.2 in OpenSSL's words.</summary>
    public string Ciphers { get; set; } = "HIGH:!aNULL:!MD5";

    /// <summary>Whether clients are asked for a certificate.</summary>
    public ClientCertificates ClientCertificates { get; set; }

    /// <summary>Who must have signed clients' certificates; without any, those that this machine trusts.</summary>
    public X509Certificate2Collection ClientAuthorities { get; } = [];

    /// <summary>Whether HTTP/2 is offered (ALPN), where the concurrency model can speak it: event loops can, the
    /// blocking models cannot and never offer it.</summary>
    public bool Http2 { get; set; } = true;

    /// <summary>Settings of the same values.</summary>
    public HttpsOptions Clone()
    {
        var copy = new HttpsOptions
        {
            Certificate = Certificate,
            CertificateFor = CertificateFor,
            Protocols = Protocols,
            Ciphers = Ciphers,
            ClientCertificates = ClientCertificates,
            Http2 = Http2,
        };
        copy.ClientAuthorities.AddRange(ClientAuthorities);
        return copy;
    }
}
