// What a TLS connection is to a handler: version, suite, the name that was asked for, the client's certificate. Taken
// from the session once, by the thread that owns it, after the handshake; from then on plain values for any thread.
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Weir.Tls;

namespace Weir.Server;

/// <summary>The TLS of a connection.</summary>
public sealed class ConnectionSecurity
{
    private readonly byte[] _clientCertificate;

    private ConnectionSecurity(TlsSession session)
    {
        const int tls10 = 0x0301, tls11 = 0x0302, tls12 = 0x0303;
        Protocol = session.ProtocolVersion switch
        {
            tls10 => (SslProtocols)0xC0,
            tls11 => (SslProtocols)0x300,
            tls12 => SslProtocols.Tls12,
            _ => SslProtocols.Tls13,
        };
        CipherSuite = (TlsCipherSuite)session.CipherSuite;
        HostName = Text(session, TlsFact.ServerName);
        ApplicationProtocol = Encoding.ASCII.GetString(session.Alpn);
        IsResumed = session.IsResumed;
        _clientCertificate = session.Context.Verify == TlsVerify.Off ? [] : session.PeerCertificate;
    }

    /// <summary>The version.</summary>
    public SslProtocols Protocol { get; }

    /// <summary>The cipher suite.</summary>
    public TlsCipherSuite CipherSuite { get; }

    /// <summary>The name of the server that the client asked for (SNI); empty without one.</summary>
    public string HostName { get; }

    /// <summary>What ALPN chose: "h2", "http/1.1", or empty.</summary>
    public string ApplicationProtocol { get; }

    /// <summary>The client came back with a session of before.</summary>
    public bool IsResumed { get; }

    /// <summary>The client's certificate; null when it showed none.</summary>
    public X509Certificate2? ClientCertificate
    {
        get
        {
            if (field is null && _clientCertificate.Length > 0)
            {
                field = X509CertificateLoader.LoadCertificate(_clientCertificate);
            }
            return field;
        }
    }

    /// <summary>That of a session, the same object each time.</summary>
    internal static ConnectionSecurity Of(TlsSession session)
    {
        if (session.Owner is not ConnectionSecurity known)
        {
            session.Owner = known = new ConnectionSecurity(session);
        }
        return known;
    }

    private static string Text(TlsSession session, TlsFact fact)
    {
        Span<byte> text = stackalloc byte[256];
        int length = session.Write(fact, text);
        return length > text.Length ? "" : Encoding.UTF8.GetString(text[..length]);
    }
}
