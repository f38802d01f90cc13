// A peer's certificate as text and bytes, for variables and logs. Everything is written into the caller's span; a
// length beyond it says how much room is wanted. Holds a reference of OpenSSL's for the length of a call only.
using Weir.Kernel;

namespace Weir.Tls;

/// <summary>What can be asked of a certificate.</summary>
public enum TlsCertificateFact
{
    Pem,
    SubjectRfc2253,
    IssuerRfc2253,
    SubjectLegacy,
    IssuerLegacy,
    Serial,
    FingerprintSha1,
    NotBefore,
    NotAfter,
    DaysLeft,
}

internal static unsafe class TlsCertificate
{
    private const nuint Rfc2253 = 0x1110317;
    private const int CtrlInfo = 3;

    internal static byte[] Encode(nint certificate)
    {
        int length = Native.i2d_X509(certificate, null);
        byte[] bytes = new byte[Math.Max(length, 0)];
        fixed (byte* p = bytes)
        {
            byte* end = p;
            if (p != null)
            {
                Native.i2d_X509(certificate, &end);
            }
        }
        return bytes;
    }

    internal static int Write(nint certificate, TlsCertificateFact fact, Span<byte> into)
    {
        switch (fact)
        {
            case TlsCertificateFact.FingerprintSha1:
                return WriteFingerprint(certificate, into);
            case TlsCertificateFact.DaysLeft:
                return WriteDays(certificate, into);
            case TlsCertificateFact.SubjectLegacy:
                return WriteLegacy(Native.X509_get_subject_name(certificate), into);
            case TlsCertificateFact.IssuerLegacy:
                return WriteLegacy(Native.X509_get_issuer_name(certificate), into);
        }
        nint bio = Native.BIO_new(Native.BIO_s_mem());
        if (bio == 0)
        {
            return 0;
        }
        switch (fact)
        {
            case TlsCertificateFact.Pem:
                Native.PEM_write_bio_X509(bio, certificate);
                break;
            case TlsCertificateFact.SubjectRfc2253:
                Native.X509_NAME_print_ex(bio, Native.X509_get_subject_name(certificate), 0, Rfc2253);
                break;
            case TlsCertificateFact.IssuerRfc2253:
                Native.X509_NAME_print_ex(bio, Native.X509_get_issuer_name(certificate), 0, Rfc2253);
                break;
            case TlsCertificateFact.Serial:
                Native.i2a_ASN1_INTEGER(bio, Native.X509_get_serialNumber(certificate));
                break;
            case TlsCertificateFact.NotBefore:
                Native.ASN1_TIME_print(bio, Native.X509_get0_notBefore(certificate));
                break;
            case TlsCertificateFact.NotAfter:
                Native.ASN1_TIME_print(bio, Native.X509_get0_notAfter(certificate));
                break;
        }
        byte* bytes = null;
        int length = (int)Native.BIO_ctrl(bio, CtrlInfo, 0, &bytes);
        if (length <= into.Length)
        {
            new ReadOnlySpan<byte>(bytes, length).CopyTo(into);
        }
        Native.BIO_free(bio);
        return length;
    }

    private static int WriteLegacy(nint name, Span<byte> into)
    {
        byte* text = Native.X509_NAME_oneline(name, null, 0);
        if (text == null)
        {
            return 0;
        }
        int length = 0;
        for (; text[length] != 0; length++)
        {
            if (length < into.Length)
            {
                into[length] = text[length];
            }
        }
        Native.CRYPTO_free(text, 0, 0);
        return length;
    }

    private static int WriteFingerprint(nint certificate, Span<byte> into)
    {
        byte* digest = stackalloc byte[64];
        uint length;
        if (Native.X509_digest(certificate, Native.EVP_sha1(), digest, &length) != 1)
        {
            return 0;
        }
        if (2 * length <= into.Length)
        {
            TlsNames.WriteHex(new ReadOnlySpan<byte>(digest, (int)length), into);
        }
        return (int)(2 * length);
    }

    private static int WriteDays(nint certificate, Span<byte> into)
    {
        int days, seconds;
        if (Native.ASN1_TIME_diff(&days, &seconds, 0, Native.X509_get0_notAfter(certificate)) != 1)
        {
            return 0;
        }
        bool over = days < 0 || seconds < 0;
        System.Buffers.Text.Utf8Formatter.TryFormat(over ? 0 : days, into, out int written);
        return written;
    }
}
