// Whether a request may pass what was agreed with its client: the certificate it had to show, and that it asks for the
// server whose rules the handshake followed. Pure; the thread of the session.
namespace Weir.Tls;

/// <summary>Judges clients' certificates, with nginx's statuses.</summary>
public static class TlsClientCheck
{
    /// <summary>The certificate was not good.</summary>
    public const int BadCertificate = 495;

    /// <summary>A certificate was required and none was shown.</summary>
    public const int NoCertificate = 496;

    /// <summary>The handshake was about another server's name.</summary>
    public const int Misdirected = 421;

    /// <summary>0, or why a request for <paramref name="host"/> may not pass. <paramref name="result"/> is OpenSSL's
    /// verdict.</summary>
    public static int Judge(TlsSession session, TlsVerify verify, ReadOnlySpan<byte> host, out int result)
    {
        result = 0;
        if (verify == TlsVerify.Off)
        {
            return 0;
        }
        if (IsMisdirected(session, host))
        {
            return Misdirected;
        }
        result = session.VerifyResult;
        if (result != 0 && (verify != TlsVerify.OptionalNoCa || !IsAboutTrust(result)))
        {
            return BadCertificate;
        }
        if (session.StatusFault is not null)
        {
            return BadCertificate;
        }
        return verify == TlsVerify.On && !session.HasPeerCertificate ? NoCertificate : 0;
    }

    /// <summary>The certificate was asked for by one server's rules and the request is for another's.</summary>
    private static bool IsMisdirected(TlsSession session, ReadOnlySpan<byte> host)
    {
        if (session is { Names: not null, IsNameKnown: false })
        {
            // A name that no server has: the default server's rules were followed, as without a name.
            return false;
        }
        Span<byte> name = stackalloc byte[256];
        int length = session.Write(TlsFact.ServerName, name);
        return length > 0 && length <= name.Length && !System.Text.Ascii.EqualsIgnoreCase(name[..length], host);
    }

    /// <summary>Whether a verdict only says that nobody vouches for the certificate.</summary>
    public static bool IsAboutTrust(int result)
    {
        const int selfSigned = 18, selfSignedInChain = 19, noIssuer = 20, noLeafSignature = 21, untrusted = 27;
        return result is selfSigned or selfSignedInChain or noIssuer or noLeafSignature or untrusted;
    }
}
