// A self-signed certificate for localhost, one per user: made when first wanted, used until a month before it expires,
// then made again. The key is the user's alone (0600). Start-up only; several programs may ask at the same time, the
// last that writes wins and each reads a whole pair.
using System.Globalization;
using Weir.Tls;

namespace Weir.Server;

/// <summary>The certificate of a developer's machine.</summary>
public sealed class DevelopmentCertificate
{
    private const int ValidDays = 397;
    private const int RenewDays = 30;
    private const UnixFileMode UserOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private DevelopmentCertificate(string certificatePath, string keyPath, bool isNew)
    {
        CertificatePath = certificatePath;
        KeyPath = keyPath;
        IsNew = isNew;
    }

    /// <summary>The certificate, PEM.</summary>
    public string CertificatePath { get; }

    /// <summary>Its key, PEM; for the user alone.</summary>
    public string KeyPath { get; }

    /// <summary>It was made just now.</summary>
    public bool IsNew { get; }

    /// <summary>Where it is kept unless somebody says otherwise: <c>$XDG_DATA_HOME/weir</c>, or
    /// <c>~/.local/share/weir</c>.</summary>
    public static string DefaultDirectory
    {
        get
        {
            string? data = Environment.GetEnvironmentVariable("XDG_DATA_HOME");
            if (data is not { Length: > 0 } || !Path.IsPathRooted(data))
            {
                string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
                data = home.Length > 0 ? Path.Combine(home, ".local", "share")
                    : Path.Combine(Path.GetTempPath(), "weir-" + Environment.UserName);
            }
            return Path.Combine(data, "weir");
        }
    }

    /// <summary>The certificate in <paramref name="directory"/>, made there when there is none, when it does not fit
    /// its key, or when it expires within a month. Its names are localhost, 127.0.0.1 and ::1.</summary>
    /// <exception cref="IOException">It can be neither read nor made.</exception>
    public static DevelopmentCertificate Ensure(string? directory = null)
    {
        string at = directory ?? DefaultDirectory;
        string certificate = Path.Combine(at, "localhost.crt");
        string key = Path.Combine(at, "localhost.key");
        if (IsGood(certificate, key))
        {
            return new DevelopmentCertificate(certificate, key, isNew: false);
        }
        TlsKeyPair pair = TlsSelfSigned.Make("localhost", ["localhost", "127.0.0.1", "::1"], ValidDays,
            out string? error) ?? throw new IOException($"no development certificate: {error}");
        try
        {
            Directory.CreateDirectory(at, UserOnly | UnixFileMode.UserExecute);
            // The key first: who finds a certificate finds its key.
            Replace(key, pair.KeyPem);
            Replace(certificate, pair.CertificatePem);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new IOException($"no development certificate: {e.Message}", e);
        }
        return new DevelopmentCertificate(certificate, key, isNew: true);
    }

    private static void Replace(string path, string text)
    {
        string fresh = string.Create(CultureInfo.InvariantCulture, $"{path}.{Environment.ProcessId}");
        File.Delete(fresh);
        using (var writer = new StreamWriter(fresh, System.Text.Encoding.ASCII,
            new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, UnixCreateMode = UserOnly }))
        {
            writer.Write(text);
        }
        File.Move(fresh, path, overwrite: true);
    }

    private static bool IsGood(string certificate, string key)
    {
        try
        {
            return File.Exists(certificate) && (File.GetUnixFileMode(key) & ~UserOnly) == 0
                && TlsSelfSigned.DaysLeft(File.ReadAllBytes(certificate), File.ReadAllBytes(key)) > RenewDays;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>How clients are made to trust it, as text for a terminal.</summary>
    public string HowToTrust => $"""
        The certificate is self-signed: clients refuse it until they are told to trust it.
          {CertificatePath}
        once:      curl --cacert {CertificatePath} https://localhost:PORT/
        Debian:    sudo cp {CertificatePath} /usr/local/share/ca-certificates/weir-localhost.crt
                   sudo update-ca-certificates
                   (curl, wget and .NET then trust it; a single .NET program: SSL_CERT_FILE={CertificatePath})
        Chromium:  certutil -d sql:$HOME/.pki/nssdb -A -t P,, -n weir-localhost -i {CertificatePath}
                   (Debian package libnss3-tools)
        Node:      NODE_EXTRA_CA_CERTS={CertificatePath}
        """;
}
