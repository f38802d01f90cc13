// ssl_*: checked and kept while no listener uses `ssl`, so that configurations which carry TLS settings beside plain
// listeners (Debian's own does) are accepted. `listen … ssl` is refused by CoreListen until TLS is there.
using Weir.Conf;

namespace Weir.Http.Modules;

/// <summary>TLS settings of a server, as written.</summary>
internal sealed class SslSettings
{
    public List<string> Certificates { get; } = [];
    public List<string> CertificateKeys { get; } = [];
    public Inherited<int> Protocols;
    public Inherited<string> Ciphers;
    public Inherited<string> EcdhCurve;
    public Inherited<string> DhParam;
    public Inherited<bool> PreferServerCiphers;
    public Inherited<long> BufferSize;
    public Inherited<int> VerifyClient;
    public Inherited<int> VerifyDepth;
    public Inherited<string> ClientCertificate;
    public Inherited<string> TrustedCertificate;
    public Inherited<string> Crl;
    public Inherited<string> PasswordFile;
    public Inherited<bool> SessionTickets;
    public Inherited<string> SessionCache;
    public List<string> TicketKeys { get; } = [];
    public Inherited<long> SessionTimeoutSec;
    public Inherited<int> Ocsp;
    public Inherited<string> OcspResponder;
    public Inherited<string> OcspCache;
    public Inherited<bool> Stapling;
    public Inherited<bool> StaplingVerify;
    public Inherited<string> StaplingFile;
    public Inherited<string> StaplingResponder;
    public Inherited<bool> EarlyData;
    public Inherited<bool> RejectHandshake;
    public Inherited<bool> CertificateCompression;
    public Inherited<string> CertificateCache;
    public Inherited<string> EchFile;
    public List<(string Name, string Value)> ConfCommands { get; } = [];
}

internal sealed class SslModule : HttpModule
{
    private const int TicketKeyBytesShort = 48, TicketKeyBytesLong = 80;

    public override string Name => "http_ssl_settings";

    public override bool InheritsWhole => true;

    public override object CreateServer(HttpBuild build) => new SslSettings();

    public override void Declare(HttpDeclarations d)
    {
        d.Server<SslSettings>("ssl_certificate", static (u, s) => s.Certificates.Add(u[0]));
        d.Server<SslSettings>("ssl_certificate_key", static (u, s) => s.CertificateKeys.Add(u[0]));
        d.Server<SslSettings>("ssl_certificate_cache", static (u, s) => Joined(u, ref s.CertificateCache));
        d.Server<SslSettings>("ssl_certificate_compression", static (u, s) => u.SetFlag(ref s.CertificateCompression));
        d.Server<SslSettings>("ssl_ech_file", static (u, s) => u.SetText(ref s.EchFile));
        d.Server<SslSettings>("ssl_password_file", static (u, s) => u.SetText(ref s.PasswordFile));
        d.Server<SslSettings>("ssl_dhparam", static (u, s) => u.SetText(ref s.DhParam));
        d.Server<SslSettings>("ssl_ecdh_curve", static (u, s) => u.SetText(ref s.EcdhCurve));
        d.Server<SslSettings>("ssl_protocols", static (u, s) => u.SetBitmask(ref s.Protocols,
        [
            new ConfChoice<int>("SSLv2", 1), new("SSLv3", 2), new("TLSv1", 4), new("TLSv1.1", 8), new("TLSv1.2", 16),
            new("TLSv1.3", 32),
        ]));
        d.Server<SslSettings>("ssl_ciphers", static (u, s) => u.SetText(ref s.Ciphers));
        d.Server<SslSettings>("ssl_prefer_server_ciphers", static (u, s) => u.SetFlag(ref s.PreferServerCiphers));
        d.Server<SslSettings>("ssl_buffer_size", static (u, s) => u.SetSize(ref s.BufferSize));
        d.Server<SslSettings>("ssl_verify_client", static (u, s) => u.SetEnum(ref s.VerifyClient,
            [new ConfChoice<int>("off", 0), new("on", 1), new("optional", 2), new("optional_no_ca", 3)]));
        d.Server<SslSettings>("ssl_verify_depth", static (u, s) => u.SetNumber(ref s.VerifyDepth));
        d.Server<SslSettings>("ssl_client_certificate", static (u, s) => u.SetText(ref s.ClientCertificate));
        d.Server<SslSettings>("ssl_trusted_certificate", static (u, s) => u.SetText(ref s.TrustedCertificate));
        d.Server<SslSettings>("ssl_crl", static (u, s) => u.SetText(ref s.Crl));
        d.Server<SslSettings>("ssl_session_cache", SessionCacheDirective);
        d.Server<SslSettings>("ssl_session_tickets", static (u, s) => u.SetFlag(ref s.SessionTickets));
        d.Server<SslSettings>("ssl_session_ticket_key", TicketKeyDirective);
        d.Server<SslSettings>("ssl_session_timeout", static (u, s) => u.SetSec(ref s.SessionTimeoutSec));
        d.Server<SslSettings>("ssl_ocsp", static (u, s) => u.SetEnum(ref s.Ocsp,
            [new ConfChoice<int>("off", 0), new("on", 1), new("leaf", 2)]));
        d.Server<SslSettings>("ssl_ocsp_responder", static (u, s) => u.SetText(ref s.OcspResponder));
        d.Server<SslSettings>("ssl_ocsp_cache", static (u, s) => Joined(u, ref s.OcspCache));
        d.Server<SslSettings>("ssl_stapling", static (u, s) => u.SetFlag(ref s.Stapling));
        d.Server<SslSettings>("ssl_stapling_file", static (u, s) => u.SetText(ref s.StaplingFile));
        d.Server<SslSettings>("ssl_stapling_responder", static (u, s) => u.SetText(ref s.StaplingResponder));
        d.Server<SslSettings>("ssl_stapling_verify", static (u, s) => u.SetFlag(ref s.StaplingVerify));
        d.Server<SslSettings>("ssl_early_data", static (u, s) => u.SetFlag(ref s.EarlyData));
        d.Server<SslSettings>("ssl_conf_command", static (u, s) => s.ConfCommands.Add((u[0], u[1])));
        d.Server<SslSettings>("ssl_reject_handshake", static (u, s) => u.SetFlag(ref s.RejectHandshake));
    }

    private static void Joined(DirectiveUse use, ref Inherited<string> setting)
    {
        if (use.Walker.Fresh(use.Directive, in setting))
        {
            setting.Set(string.Join(' ', use.Directive.Args.Select(static a => a.Text)));
        }
    }

    private static void SessionCacheDirective(DirectiveUse use, SslSettings s)
    {
        for (int i = 0; i < use.Count; i++)
        {
            string word = use[i];
            if (word is "off" or "none" or "builtin")
            {
                continue;
            }
            string[] parts = word.Split(':');
            bool good = parts[0] switch
            {
                "builtin" => parts.Length == 2 && ConfValues.TryNumber(parts[1], out long _),
                "shared" => parts.Length == 3 && parts[1].Length > 0 && ConfValues.TrySize(parts[2], out long bytes)
                    && bytes >= 8 * 4096,
                _ => false,
            };
            if (!good)
            {
                use.Error(i, $"invalid session cache \"{word}\"");
                return;
            }
        }
        Joined(use, ref s.SessionCache);
    }

    private static void TicketKeyDirective(DirectiveUse use, SslSettings s)
    {
        string path = use[0].StartsWith('/') ? use[0] : Path.Join(use.Build.Resources.ConfPrefix, use[0]);
        byte[]? key = use.Build.Resources.ReadFile(path, out string? error);
        if (key is null)
        {
            use.Error(0, error!);
        }
        else if (key.Length is not (TicketKeyBytesShort or TicketKeyBytesLong))
        {
            use.Error(0, $"\"{path}\" must be {TicketKeyBytesShort} or {TicketKeyBytesLong} bytes");
        }
        else
        {
            s.TicketKeys.Add(path);
        }
    }
}
