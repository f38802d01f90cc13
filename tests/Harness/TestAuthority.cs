// A certificate authority that lives for one test: makes certificates and keys as PEM files, so that no key is ever
// committed.
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Weir.Tests.Harness;

/// <summary>The kind of a key.</summary>
public enum TestKey
{
    Rsa,
    Ecdsa,
}

/// <summary>A certificate with its key.</summary>
public sealed record TestCertificate(X509Certificate2 Certificate, string Pem, string KeyPem, AsymmetricAlgorithm Key);

/// <summary>An authority; made once, shared by the tests of a class.</summary>
public sealed class TestAuthority
{
    // Between two full days, so that the days that remain are the same for everybody who asks.
    private static readonly DateTimeOffset _from = DateTimeOffset.UtcNow.AddDays(-2).AddHours(-1);
    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private int _serial;

    public TestAuthority(string name = "Weir Test CA")
    {
        var request = new CertificateRequest($"CN={name}", _key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(
            X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        Certificate = request.CreateSelfSigned(_from, _from.AddDays(30));
    }

    public X509Certificate2 Certificate { get; }

    public string Pem => Certificate.ExportCertificatePem() + "\n";

    /// <summary>A certificate for the names; the first is its subject.</summary>
    public TestCertificate Issue(TestKey kind = TestKey.Ecdsa, bool isExpired = false, params string[] names)
    {
        AsymmetricAlgorithm key = kind == TestKey.Rsa ? RSA.Create(2048) : ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = key is RSA rsa
            ? new CertificateRequest($"CN={names[0]}", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            : new CertificateRequest($"CN={names[0]}", (ECDsa)key, HashAlgorithmName.SHA256);
        var alternatives = new SubjectAlternativeNameBuilder();
        foreach (string name in names)
        {
            if (IPAddress.TryParse(name, out IPAddress? address))
            {
                alternatives.AddIpAddress(address);
            }
            else
            {
                alternatives.AddDnsName(name);
            }
        }

        request.CertificateExtensions.Add(alternatives.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        byte[] serial = new byte[8];
        BitConverter.TryWriteBytes(serial, ++_serial);
        serial[7] = 1;
        Array.Reverse(serial);
        DateTimeOffset to = isExpired ? _from.AddDays(1) : _from.AddDays(20);
        X509Certificate2 made = request.Create(Certificate.SubjectName, X509SignatureGenerator.CreateForECDsa(_key),
            _from, to, serial);
        string keyPem = (key is RSA r ? r.ExportPkcs8PrivateKeyPem() : ((ECDsa)key).ExportPkcs8PrivateKeyPem()) + "\n";
        return new TestCertificate(made, made.ExportCertificatePem() + "\n", keyPem, key);
    }

    /// <summary>Writes NAME.crt and NAME.key for the names.</summary>
    public TestCertificate Write(TempDir files, string file, TestKey kind = TestKey.Ecdsa, params string[] names)
    {
        TestCertificate made = Issue(kind, false, names.Length == 0 ? ["localhost", "127.0.0.1"] : names);
        files.Write(file + ".crt", made.Pem);
        files.Write(file + ".key", made.KeyPem);
        return made;
    }

    /// <summary>A list of revoked certificates.</summary>
    public string Revoke(params TestCertificate[] revoked)
    {
        var list = new CertificateRevocationListBuilder();
        foreach (TestCertificate one in revoked)
        {
            list.AddEntry(one.Certificate);
        }

        byte[] der = list.Build(Certificate, 1, _from.AddDays(30), HashAlgorithmName.SHA256,
            null, _from);
        return PemEncoding.WriteString("X509 CRL", der) + "\n";
    }
}
