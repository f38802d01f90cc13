// A certificate that signs itself, for machines of developers: an ECDSA key on P-256, names in the extension that
// clients look at. Start-up only, any thread; what OpenSSL makes is freed before the texts are returned.
using System.Text;

namespace Weir.Tls;

/// <summary>A certificate and its key, as PEM.</summary>
public sealed record TlsKeyPair(string CertificatePem, string KeyPem);

public static unsafe class TlsSelfSigned
{
    private const int KeyKindEc = 408, CurveP256 = 415;
    private const int BasicConstraints = 87, KeyUsage = 83, ExtendedKeyUsage = 126, AlternativeNames = 85,
        SubjectKeyIdentifier = 82;
    private const int TextUtf8 = 0x1000;
    private const int VersionThree = 2;
    private const int CtrlInfo = 3;

    /// <summary>X509V3_CTX is opaque here and smaller than this in every OpenSSL 3.</summary>
    private const int ContextBytes = 256;

    /// <summary>Makes a pair for the names: "localhost", "127.0.0.1", "::1". Null with the reason.</summary>
    public static TlsKeyPair? Make(string commonName, IReadOnlyList<string> names, int days, out string? error)
    {
        error = OpenSsl.Load();
        if (error is not null)
        {
            return null;
        }
        Native.ERR_clear_error();
        nint key = NewKey();
        nint certificate = key == 0 ? 0 : Native.X509_new();
        bool made = certificate != 0 && Fill(certificate, key, commonName, names, days)
            && Native.X509_sign(certificate, key, Native.EVP_sha256()) > 0;
        TlsKeyPair? pair = made ? new TlsKeyPair(Text(certificate, isKey: false), Text(key, isKey: true)) : null;
        if (pair is null)
        {
            error = "a certificate cannot be made" + TlsErrors.Take();
        }
        Native.X509_free(certificate);
        Native.EVP_PKEY_free(key);
        return pair;
    }

    /// <summary>Days until a certificate expires; -1 when it is none, or not that of the key.</summary>
    public static int DaysLeft(ReadOnlySpan<byte> pem, ReadOnlySpan<byte> keyPem)
    {
        if (OpenSsl.Load() is not null)
        {
            return -1;
        }
        Native.ERR_clear_error();
        int days = -1, seconds;
        fixed (byte* p = pem)
        {
            nint bio = Native.BIO_new_mem_buf(p, pem.Length);
            nint certificate = Native.PEM_read_bio_X509(bio, null, 0, null);
            nint key = TlsPem.ReadKey(keyPem, default);
            if (certificate == 0 || key == 0 || Native.X509_check_private_key(certificate, key) != 1
                || Native.ASN1_TIME_diff(&days, &seconds, 0, Native.X509_get0_notAfter(certificate)) != 1)
            {
                days = -1;
            }
            Native.EVP_PKEY_free(key);
            Native.X509_free(certificate);
            Native.BIO_free(bio);
        }
        Native.ERR_clear_error();
        return days;
    }

    private static nint NewKey()
    {
        nint key = 0;
        nint context = Native.EVP_PKEY_CTX_new_id(KeyKindEc, 0);
        if (Native.EVP_PKEY_keygen_init(context) != 1
            || Native.EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, CurveP256) != 1
            || Native.EVP_PKEY_keygen(context, &key) != 1)
        {
            key = 0;
        }
        Native.EVP_PKEY_CTX_free(context);
        return key;
    }

    private static bool Fill(nint certificate, nint key, string commonName, IReadOnlyList<string> names, int days)
    {
        ulong serial;
        if (Native.RAND_bytes((byte*)&serial, sizeof(ulong)) != 1)
        {
            return false;
        }
        // An hour back, for clocks that differ.
        Native.X509_set_version(certificate, VersionThree);
        Native.ASN1_INTEGER_set_uint64(Native.X509_get_serialNumber(certificate), serial >> 1);
        Native.X509_gmtime_adj(Native.X509_getm_notBefore(certificate), -3600);
        Native.X509_gmtime_adj(Native.X509_getm_notAfter(certificate), (nint)days * 24 * 3600);
        nint name = Native.X509_get_subject_name(certificate);
        byte[] text = Encoding.UTF8.GetBytes(commonName);
        fixed (byte* field = "CN\0"u8)
        fixed (byte* value = text)
        {
            Native.X509_NAME_add_entry_by_txt(name, field, TextUtf8, value, text.Length, -1, 0);
        }
        string alternatives = string.Join(',', names.Select(static n =>
            (System.Net.IPAddress.TryParse(n, out _) ? "IP:" : "DNS:") + n));
        return Native.X509_set_issuer_name(certificate, name) == 1 && Native.X509_set_pubkey(certificate, key) == 1
            && Extend(certificate, BasicConstraints, "critical,CA:FALSE")
            && Extend(certificate, KeyUsage, "critical,digitalSignature")
            && Extend(certificate, ExtendedKeyUsage, "serverAuth")
            && Extend(certificate, SubjectKeyIdentifier, "hash")
            && Extend(certificate, AlternativeNames, alternatives);
    }

    private static bool Extend(nint certificate, int kind, string value)
    {
        byte* context = stackalloc byte[ContextBytes];
        new Span<byte>(context, ContextBytes).Clear();
        Native.X509V3_set_ctx(context, certificate, certificate, 0, 0, 0);
        fixed (byte* p = Native.Z(value))
        {
            nint extension = Native.X509V3_EXT_nconf_nid(0, context, kind, p);
            bool added = extension != 0 && Native.X509_add_ext(certificate, extension, -1) == 1;
            Native.X509_EXTENSION_free(extension);
            return added;
        }
    }

    private static string Text(nint what, bool isKey)
    {
        nint bio = Native.BIO_new(Native.BIO_s_mem());
        if (isKey)
        {
            Native.PEM_write_bio_PKCS8PrivateKey(bio, what, 0, null, 0, 0, null);
        }
        else
        {
            Native.PEM_write_bio_X509(bio, what);
        }
        byte* bytes = null;
        int length = (int)Native.BIO_ctrl(bio, CtrlInfo, 0, &bytes);
        string text = Encoding.ASCII.GetString(bytes, length);
        Native.BIO_free(bio);
        return text;
    }
}
