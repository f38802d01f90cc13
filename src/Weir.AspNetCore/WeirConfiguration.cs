// The section "Weir" of a program's configuration (appsettings.json, environment): endpoints and certificates. Read
// once when the server starts, by hand, so that nothing of it needs reflection; what is not understood is an error with
// its key, never skipped.
using System.Security.Authentication;
using Microsoft.Extensions.Configuration;
using Weir.Server;

namespace Weir.AspNetCore;

internal sealed class WeirConfiguration(IConfiguration section, string contentRoot)
{
    private static readonly string[] s_sections = ["Endpoints", "Certificates"];

    private static readonly string[] s_endpointKeys =
        ["Url", "Certificate", "ClientCertificates", "TlsProtocols", "Http2"];

    private static readonly string[] s_certificateKeys = ["Path", "KeyPath", "Password"];

    /// <summary>The certificate for https:// addresses that name none; null without one.</summary>
    /// <exception cref="InvalidOperationException">The section cannot be understood.</exception>
    internal ServerCertificate? DefaultCertificate() =>
        CertificateOf(section.GetSection("Certificates:Default"));

    /// <summary>Adds the endpoints to the options.</summary>
    /// <exception cref="InvalidOperationException">The section cannot be understood.</exception>
    internal void AddEndpoints(WeirServerOptions options)
    {
        OnlyKnows(section, s_sections);
        foreach (IConfigurationSection endpoint in section.GetSection("Endpoints").GetChildren())
        {
            OnlyKnows(endpoint, s_endpointKeys);
            string url = endpoint["Url"] is { Length: > 0 } text ? text
                : throw Wrong(endpoint, "an endpoint needs a Url");
            if (!url.StartsWith(AddressScheme.Https, StringComparison.OrdinalIgnoreCase))
            {
                options.Listen.Add(url);
                continue;
            }
            options.ListenHttps(url, https =>
            {
                https.Certificate = CertificateOf(endpoint.GetSection("Certificate")) ?? https.Certificate;
                https.ClientCertificates = Choice(endpoint, "ClientCertificates", https.ClientCertificates);
                https.Protocols = Choice(endpoint, "TlsProtocols", https.Protocols);
                if (endpoint["Http2"] is { } http2)
                {
                    https.Http2 = bool.TryParse(http2, out bool on) ? on
                        : throw Wrong(endpoint.GetSection("Http2"), $"\"{http2}\" is neither true nor false");
                }
            });
        }
    }

    private ServerCertificate? CertificateOf(IConfigurationSection certificate)
    {
        if (!certificate.Exists())
        {
            return null;
        }
        OnlyKnows(certificate, s_certificateKeys);
        string path = certificate["Path"] is { Length: > 0 } text ? text
            : throw Wrong(certificate, "a certificate needs a Path");
        path = Path.Combine(contentRoot, path);
        string? key = certificate["KeyPath"] is { Length: > 0 } keyPath ? Path.Combine(contentRoot, keyPath) : null;
        try
        {
            bool isPfx = Path.GetExtension(path) is ".pfx" or ".p12" or ".PFX" or ".P12";
            return isPfx ? ServerCertificate.FromPfxFile(path, certificate["Password"])
                : ServerCertificate.FromPemFile(path, key, certificate["Password"]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException
            or System.Security.Cryptography.CryptographicException)
        {
            throw Wrong(certificate, e.Message);
        }
    }

    private static TEnum Choice<TEnum>(IConfigurationSection at, string key, TEnum otherwise) where TEnum : struct, Enum
        => at[key] is not { } text ? otherwise
        : Enum.TryParse(text, ignoreCase: true, out TEnum value) ? value
        : throw Wrong(at.GetSection(key), $"\"{text}\" is not of {string.Join(", ", Enum.GetNames<TEnum>())}");

    private static void OnlyKnows(IConfiguration at, string[] keys)
    {
        foreach (IConfigurationSection child in at.GetChildren())
        {
            if (!keys.Contains(child.Key, StringComparer.OrdinalIgnoreCase))
            {
                throw Wrong(child, $"is not known here; known are {string.Join(", ", keys)}");
            }
        }
    }

    private static InvalidOperationException Wrong(IConfigurationSection at, string why) =>
        new($"configuration \"{at.Path}\": {why}");
}
