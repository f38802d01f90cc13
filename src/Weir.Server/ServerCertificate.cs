// A certificate with its chain and key as a server shows it, whatever form it came in. Always PEM inside: that is what
// OpenSSL is given. Made at start-up or by a program's own selector, on any thread; never changes.
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Weir.Tls;

namespace Weir.Server;

/// <summary>A certificate, its chain and its private key.</summary>
public sealed class ServerCertificate
{
    private ServerCertificate(string name, string pem, string keyPem, string? password)
    {
        Name = name;
        Pem = Encoding.UTF8.GetBytes(pem);
        KeyPem = Encoding.UTF8.GetBytes(keyPem);
        Passwords = password is null ? [] : [new TlsPassword(Encoding.UTF8.GetBytes(password))];
    }

    /// <summary>What messages call it: a path, a subject.</summary>
    public string Name { get; }

    internal byte[] Pem { get; }

    internal byte[] KeyPem { get; }

    internal IReadOnlyList<TlsPassword> Passwords { get; }

    /// <summary>From PEM texts: the certificate with its chain behind it, and the key, which may be locked.</summary>
    public static ServerCertificate FromPem(string certificatePem, string keyPem, string? password = null)
    {
        ArgumentNullException.ThrowIfNull(certificatePem);
        ArgumentNullException.ThrowIfNull(keyPem);
        return new ServerCertificate("PEM text", certificatePem, keyPem, password);
    }

    /// <summary>From PEM files; without <paramref name="keyPath"/> the key is in the first file too.</summary>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static ServerCertificate FromPemFile(string certificatePath, string? keyPath = null, string? password = null)
    {
        ArgumentNullException.ThrowIfNull(certificatePath);
        return new ServerCertificate(certificatePath, File.ReadAllText(certificatePath),
            File.ReadAllText(keyPath ?? certificatePath), password);
    }

    /// <summary>From a PKCS #12 file (.pfx, .p12), with the chain that is in it.</summary>
    /// <exception cref="IOException">The file cannot be read.</exception>
    /// <exception cref="CryptographicException">It is no such file, or the password is wrong.</exception>
    public static ServerCertificate FromPfxFile(string path, string? password = null)
    {
        ArgumentNullException.ThrowIfNull(path);
        X509Certificate2Collection all = X509CertificateLoader.LoadPkcs12CollectionFromFile(path, password,
            X509KeyStorageFlags.Exportable | X509KeyStorageFlags.EphemeralKeySet);
        X509Certificate2? leaf = null;
        foreach (X509Certificate2 certificate in all)
        {
            if (certificate.HasPrivateKey)
            {
                leaf ??= certificate;
            }
        }
        if (leaf is null)
        {
            throw new CryptographicException($"\"{path}\" holds no certificate with a private key");
        }
        ServerCertificate made = From(leaf, all);
        foreach (X509Certificate2 certificate in all)
        {
            certificate.Dispose();
        }
        return new ServerCertificate(path, Encoding.UTF8.GetString(made.Pem), Encoding.UTF8.GetString(made.KeyPem),
            null);
    }

    /// <summary>From a certificate object whose private key may be exported; <paramref name="chain"/> are those that
    /// signed it, in order.</summary>
    /// <exception cref="CryptographicException">It has no private key that can be exported.</exception>
    public static ServerCertificate From(X509Certificate2 certificate, X509Certificate2Collection? chain = null)
    {
        ArgumentNullException.ThrowIfNull(certificate);
        var pem = new StringBuilder(certificate.ExportCertificatePem()).Append('\n');
        foreach (X509Certificate2 above in chain ?? [])
        {
            // Roots are known to who trusts them.
            if (!above.RawData.AsSpan().SequenceEqual(certificate.RawData) && above.Subject != above.Issuer)
            {
                pem.Append(above.ExportCertificatePem()).Append('\n');
            }
        }
        return new ServerCertificate(certificate.Subject, pem.ToString(), KeyOf(certificate), null);
    }

    private static string KeyOf(X509Certificate2 certificate)
    {
        using RSA? rsa = certificate.GetRSAPrivateKey();
        if (rsa is not null)
        {
            return PemOf(rsa);
        }
        using ECDsa? ecdsa = certificate.GetECDsaPrivateKey();
        return ecdsa is not null ? PemOf(ecdsa)
            : throw new CryptographicException($"\"{certificate.Subject}\" has no private key of RSA or ECDSA");
    }

    /// <summary>A key that may only be exported encrypted is taken that way.</summary>
    private static string PemOf(AsymmetricAlgorithm key)
    {
        try
        {
            return key.ExportPkcs8PrivateKeyPem();
        }
        catch (CryptographicException)
        {
            const string once = "once";
            byte[] locked = key.ExportEncryptedPkcs8PrivateKey(once,
                new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1));
            using RSA? rsa = key is RSA ? RSA.Create() : null;
            using ECDsa? ecdsa = rsa is null ? ECDsa.Create() : null;
            AsymmetricAlgorithm copy = rsa ?? (AsymmetricAlgorithm)ecdsa!;
            copy.ImportEncryptedPkcs8PrivateKey(once, locked, out _);
            return copy.ExportPkcs8PrivateKeyPem();
        }
    }

    /// <summary>The certificate of this machine's developer: made when there is none or when it is about to expire,
    /// kept in the user's data directory. See <see cref="DevelopmentCertificate"/>.</summary>
    /// <exception cref="IOException">It can be neither read nor made.</exception>
    public static ServerCertificate Development()
    {
        DevelopmentCertificate made = DevelopmentCertificate.Ensure();
        return FromPemFile(made.CertificatePath, made.KeyPath);
    }

    /// <inheritdoc/>
    public override string ToString() => Name;
}
