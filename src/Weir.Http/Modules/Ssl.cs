// ssl_*: certificates, keys, protocols, verification and resumption of servers, and the `$ssl_*` variables. What they
// make of it are TLS contexts (SslContexts.cs); `listen … ssl` is CoreListen's. Bytes of certificates and keys come
// through the build's resources: a worker never opens a key file.
using Weir.Conf;
using Weir.Tls;

namespace Weir.Http.Modules;

/// <summary>A text of the configuration, and where it stands.</summary>
internal readonly record struct PlacedText(string Text, ConfSpan Span);

/// <summary>TLS settings of a server, as written.</summary>
internal sealed class SslSettings
{
    public InheritedList<PlacedText> Certificates;
    public InheritedList<PlacedText> CertificateKeys;
    public Inherited<int> Protocols;
    public Inherited<PlacedText> Ciphers;
    public Inherited<PlacedText> EcdhCurve;
    public Inherited<PlacedText> DhParam;
    public Inherited<bool> PreferServerCiphers;
    public Inherited<long> BufferSize;
    public Inherited<TlsVerify> VerifyClient;
    public Inherited<int> VerifyDepth;
    public Inherited<PlacedText> ClientCertificate;
    public Inherited<PlacedText> TrustedCertificate;
    public Inherited<PlacedText> Crl;
    public Inherited<PlacedText> PasswordFile;
    public Inherited<bool> SessionTickets;
    public Inherited<SessionCacheRule> SessionCache;
    public InheritedList<PlacedText> TicketKeys;
    public Inherited<long> SessionTimeoutSec;
    public Inherited<bool> Stapling;
    public Inherited<PlacedText> StaplingFile;
    public Inherited<bool> EarlyData;
    public Inherited<bool> Compression;
    public Inherited<CertificateCacheRule?> CertificateCache;
    public Inherited<PlacedText> StaplingResponder;
    public Inherited<bool> StaplingVerify;
    public Inherited<OcspMode> Ocsp;
    public Inherited<PlacedText> OcspResponder;
    public Inherited<(string Name, long Bytes)?> OcspCache;
    public Inherited<bool> RejectHandshake;
    public InheritedList<(string Name, string Value, ConfSpan Span)> ConfCommands;

    /// <summary>What is made of them, once, when a server needs it.</summary>
    public TlsContext? Context { get; set; }
}

/// <summary>What all servers' settings together mean.</summary>
internal sealed class SslMain
{
    /// <summary>Some server accepts early data.</summary>
    public bool TakesEarlyData { get; set; }
}

/// <summary>ssl_session_cache.</summary>
/// <param name="Off">`off`: the client is told that sessions are not resumed.</param>
/// <param name="Builtin">Sessions that OpenSSL keeps itself; 0 none, -1 its default.</param>
/// <param name="Shared">The name of a shared zone, or null.</param>
internal sealed record SessionCacheRule(bool Off, int Builtin, string? Shared, long SharedBytes);

internal sealed class SslModule : HttpModule
{
    internal static readonly ConfChoice<int>[] ProtocolNames =
    [
        new("SSLv2", (int)TlsProtocols.Ssl2), new("SSLv3", (int)TlsProtocols.Ssl3), new("TLSv1",
            (int)TlsProtocols.Tls10),
        new("TLSv1.1", (int)TlsProtocols.Tls11), new("TLSv1.2", (int)TlsProtocols.Tls12), new("TLSv1.3",
            (int)TlsProtocols.Tls13),
    ];

    public override string Name => "http_ssl";

    public override bool InheritsWhole => true;

    public override object CreateServer(HttpBuild build) => new SslSettings();

    public override object CreateMain(HttpBuild build) => new SslMain();

    /// <summary>Headers that requests to upstream servers carry because of how they came (RFC 8470 §5.1).</summary>
    internal static (string Name, string Value)[] ForwardedBy(HttpBuild build) =>
        build.Configuration.MainConfs.OfType<SslMain>().Any(static m => m.TakesEarlyData)
            ? [("Early-Data", "$" + SslVariables.ForwardedEarlyData)] : [];

    public override void MergeServer(HttpBuild build, object parent, object child)
    {
        var from = (SslSettings)parent;
        var s = (SslSettings)child;
        s.Certificates.Merge(in from.Certificates);
        s.CertificateKeys.Merge(in from.CertificateKeys);
        s.Protocols.Merge(in from.Protocols, (int)(TlsProtocols.Tls12 | TlsProtocols.Tls13));
        s.Ciphers.Merge(in from.Ciphers, new PlacedText("HIGH:!aNULL:!MD5", default!));
        s.EcdhCurve.Merge(in from.EcdhCurve, new PlacedText("auto", default!));
        s.DhParam.Merge(in from.DhParam, default);
        s.PreferServerCiphers.Merge(in from.PreferServerCiphers, false);
        s.BufferSize.Merge(in from.BufferSize, TlsSession.RecordBytesMax);
        s.VerifyClient.Merge(in from.VerifyClient, TlsVerify.Off);
        s.VerifyDepth.Merge(in from.VerifyDepth, 1);
        s.ClientCertificate.Merge(in from.ClientCertificate, default);
        s.TrustedCertificate.Merge(in from.TrustedCertificate, default);
        s.Crl.Merge(in from.Crl, default);
        s.PasswordFile.Merge(in from.PasswordFile, default);
        s.SessionTickets.Merge(in from.SessionTickets, true);
        s.SessionCache.Merge(in from.SessionCache, new SessionCacheRule(false, 0, null, 0));
        s.TicketKeys.Merge(in from.TicketKeys);
        s.SessionTimeoutSec.Merge(in from.SessionTimeoutSec, 300);
        s.Stapling.Merge(in from.Stapling, false);
        s.StaplingFile.Merge(in from.StaplingFile, default);
        s.StaplingResponder.Merge(in from.StaplingResponder, default);
        s.StaplingVerify.Merge(in from.StaplingVerify, false);
        s.Ocsp.Merge(in from.Ocsp, OcspMode.Off);
        s.OcspResponder.Merge(in from.OcspResponder, default);
        s.OcspCache.Merge(in from.OcspCache, null);
        s.Compression.Merge(in from.Compression, false);
        s.CertificateCache.Merge(in from.CertificateCache, null);
        s.EarlyData.Merge(in from.EarlyData, false);
        build.Http!.Main.OfType<SslMain>().First().TakesEarlyData |= s.EarlyData.Value;
        s.RejectHandshake.Merge(in from.RejectHandshake, false);
        s.ConfCommands.Merge(in from.ConfCommands);
    }

    public override void Finish(HttpBuild build) => SslContexts.Build(build, this);

    public override void Declare(HttpDeclarations d)
    {
        SslVariables.Declare(d);
        d.Server<SslSettings>("ssl_certificate", static (u, s) => s.Certificates.Add(Placed(u)));
        d.Server<SslSettings>("ssl_certificate_key", static (u, s) => s.CertificateKeys.Add(Placed(u)));
        d.Server<SslSettings>("ssl_certificate_cache", static (u, s) =>
            CertificateCacheRule.Set(u, ref s.CertificateCache));
        d.Server<SslSettings>("ssl_certificate_compression", static (u, s) => u.SetFlag(ref s.Compression));
        d.Server<SslSettings>("ssl_ech_file", static (u, _) => u.Error("\"ssl_ech_file\" requires a library with "
            + "encrypted ClientHello, which OpenSSL has since 4.0; this is " + (OpenSsl.Version ?? "none")));
        d.Server<SslSettings>("ssl_password_file", static (u, s) => SetPlaced(u, ref s.PasswordFile));
        d.Server<SslSettings>("ssl_dhparam", static (u, s) => SetPlaced(u, ref s.DhParam));
        d.Server<SslSettings>("ssl_ecdh_curve", static (u, s) => SetPlaced(u, ref s.EcdhCurve));
        d.Server<SslSettings>("ssl_protocols", static (u, s) => u.SetBitmask(ref s.Protocols, ProtocolNames));
        d.Server<SslSettings>("ssl_ciphers", static (u, s) => SetPlaced(u, ref s.Ciphers));
        d.Server<SslSettings>("ssl_prefer_server_ciphers", static (u, s) => u.SetFlag(ref s.PreferServerCiphers));
        d.Server<SslSettings>("ssl_buffer_size", static (u, s) => u.SetSize(ref s.BufferSize));
        d.Server<SslSettings>("ssl_verify_client", static (u, s) => u.SetEnum(ref s.VerifyClient,
        [
            new ConfChoice<TlsVerify>("off", TlsVerify.Off), new("on", TlsVerify.On),
            new("optional", TlsVerify.Optional), new("optional_no_ca", TlsVerify.OptionalNoCa),
        ]));
        d.Server<SslSettings>("ssl_verify_depth", static (u, s) => u.SetNumber(ref s.VerifyDepth));
        d.Server<SslSettings>("ssl_client_certificate", static (u, s) => SetPlaced(u, ref s.ClientCertificate));
        d.Server<SslSettings>("ssl_trusted_certificate", static (u, s) => SetPlaced(u, ref s.TrustedCertificate));
        d.Server<SslSettings>("ssl_crl", static (u, s) => SetPlaced(u, ref s.Crl));
        d.Server<SslSettings>("ssl_session_cache", SessionCacheDirective);
        d.Server<SslSettings>("ssl_session_tickets", static (u, s) => u.SetFlag(ref s.SessionTickets));
        d.Server<SslSettings>("ssl_session_ticket_key", TicketKeyDirective);
        d.Server<SslSettings>("ssl_session_timeout", static (u, s) => u.SetSec(ref s.SessionTimeoutSec));
        d.Server<SslSettings>("ssl_stapling", static (u, s) => u.SetFlag(ref s.Stapling));
        d.Server<SslSettings>("ssl_stapling_file", static (u, s) => SetPlaced(u, ref s.StaplingFile));
        d.Server<SslSettings>("ssl_early_data", static (u, s) => u.SetFlag(ref s.EarlyData));
        d.Server<SslSettings>("ssl_stapling_verify", static (u, s) => u.SetFlag(ref s.StaplingVerify));
        d.Server<SslSettings>("ssl_stapling_responder", static (u, s) => SetPlaced(u, ref s.StaplingResponder));
        d.Server<SslSettings>("ssl_ocsp", static (u, s) => SslOcsp.SetMode(u, ref s.Ocsp));
        d.Server<SslSettings>("ssl_ocsp_responder", static (u, s) => SetPlaced(u, ref s.OcspResponder));
        d.Server<SslSettings>("ssl_ocsp_cache", static (u, s) => SslOcsp.SetCache(u, ref s.OcspCache));
        d.Server<SslSettings>("ssl_conf_command", static (u, s) => s.ConfCommands.Add((u[0], u[1], u.Directive.Span)));
        d.Server<SslSettings>("ssl_reject_handshake", static (u, s) => u.SetFlag(ref s.RejectHandshake));
    }

    private static PlacedText Placed(DirectiveUse use) => new(use[0], use.Directive.Span);

    internal static void SetPlaced(DirectiveUse use, ref Inherited<PlacedText> setting)
    {
        if (use.Walker.Fresh(use.Directive, in setting))
        {
            setting.Set(Placed(use));
        }
    }

    private static void SessionCacheDirective(DirectiveUse use, SslSettings s)
    {
        if (!use.Walker.Fresh(use.Directive, in s.SessionCache))
        {
            return;
        }
        var rule = new SessionCacheRule(false, 0, null, 0);
        for (int i = 0; i < use.Count; i++)
        {
            SessionCacheRule? next = Extend(rule, use[i]);
            if (next is null)
            {
                use.Error(i, $"invalid session cache \"{use[i]}\"");
                return;
            }
            rule = next;
        }
        s.SessionCache.Set(rule);
    }

    private static SessionCacheRule? Extend(SessionCacheRule rule, string word)
    {
        string[] parts = word.Split(':');
        switch (parts[0])
        {
            case "off" when parts.Length == 1:
                return rule with { Off = true };
            case "none" when parts.Length == 1:
                return rule;
            case "builtin" when parts.Length == 1:
                return rule with { Builtin = -1 };
            case "builtin" when parts.Length == 2 && ConfValues.TryNumber(parts[1], out long count):
                return rule with { Builtin = (int)Math.Min(count, int.MaxValue) };
            case "shared" when parts.Length == 3 && parts[1].Length > 0
                && ConfValues.TrySize(parts[2], out long bytes) && bytes >= 8 * 4096:
                return rule with { Shared = parts[1], SharedBytes = bytes };
            default:
                return null;
        }
    }

    private static void TicketKeyDirective(DirectiveUse use, SslSettings s)
    {
        string path = SslContexts.FullPath(use.Build, use[0]);
        byte[]? key = use.Build.Resources.ReadFile(path, out string? error);
        if (key is null)
        {
            use.Error(0, error!);
        }
        else if (key.Length is not (TlsTicketKey.ShortBytes or TlsTicketKey.BytesMax))
        {
            use.Error(0, $"\"{path}\" must be {TlsTicketKey.ShortBytes} or {TlsTicketKey.BytesMax} bytes");
        }
        else
        {
            s.TicketKeys.Add(Placed(use));
        }
    }
}
