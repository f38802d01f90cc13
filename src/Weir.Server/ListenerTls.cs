// The TLS of one listening address while its server runs: a context for each certificate, chosen by the name a client
// asks for. Contexts are made at start-up, or in the handshake that first wants a certificate of the selector's; loops
// and threads share them (OpenSSL's contexts may be used by several threads at once). The selector is a program's own
// code: what it throws ends one handshake.
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Weir.Http;
using Weir.Kernel;
using Weir.Tls;

namespace Weir.Server;

internal sealed class ListenerTls : ITlsNames, IDisposable
{
    /// <summary>Certificates of a selector; one that makes a new object for each handshake is a mistake.</summary>
    private const int CertificatesMax = 10_000;

    private readonly HttpsOptions _options;
    private readonly Log _log;
    private readonly bool _offersHttp2;
    private readonly Lock _gate = new();
    private readonly Dictionary<ServerCertificate, TlsContext> _contexts = [];

    /// <exception cref="ArgumentException">The options cannot be served, and why.</exception>
    internal ListenerTls(string address, HttpsOptions options, Log log, bool mayOfferHttp2)
    {
        _options = options;
        _log = log;
        _offersHttp2 = mayOfferHttp2 && options.Http2;
        ServerCertificate certificate = options.Certificate ?? throw new ArgumentException(
            $"no certificate for \"{address}\": set HttpsOptions.Certificate (ServerCertificate.FromPemFile, "
            + "FromPfxFile, From, or Development for this machine alone)");
        Context = Make(certificate, options, out string? error)
            ?? throw new ArgumentException($"\"{address}\" cannot speak TLS: {error}");
        _contexts.Add(certificate, Context);
    }

    /// <summary>That of the certificate which is shown where no other is chosen.</summary>
    internal TlsContext Context { get; }

    internal OwnTls AsOwn => new(Context, this);

    public TlsContext? Choose(TlsSession session, ReadOnlySpan<byte> name)
    {
        if (_options.CertificateFor is not { } choose)
        {
            return Context;
        }
        try
        {
            return choose(Encoding.UTF8.GetString(name)) is { } certificate ? ContextOf(certificate) : Context;
        }
        catch (Exception e)
        {
            _log.Write(LogLevel.Error, $"the selector of certificates failed: {e}");
            return null;
        }
    }

    public NativeSlice Alpn(TlsSession session) =>
        NativeSlice.Literal(_offersHttp2 ? "\x02h2\x08http/1.1"u8 : "\x08http/1.1"u8);

    private TlsContext ContextOf(ServerCertificate certificate)
    {
        lock (_gate)
        {
            if (_contexts.TryGetValue(certificate, out TlsContext? known))
            {
                return known;
            }
            string? error = null;
            TlsContext? made = _contexts.Count < CertificatesMax ? Make(certificate, _options, out error) : null;
            if (made is null)
            {
                _log.Write(LogLevel.Error, error ?? $"the selector of certificates has made {CertificatesMax} of them: "
                    + "it must return the same object for the same certificate");
                return Context;
            }
            _contexts.Add(certificate, made);
            return made;
        }
    }

    private static TlsContext? Make(ServerCertificate certificate, HttpsOptions options, out string? error)
    {
        TlsContext? context = TlsContext.Create(ProtocolsOf(options.Protocols), out error);
        if (context is null)
        {
            return null;
        }
        error = context.AddCertificate(certificate.Name, certificate.Pem, certificate.Name, certificate.KeyPem,
            certificate.Passwords) ?? context.SetCiphers(options.Ciphers, preferServer: false)
            ?? Verify(context, options);
        if (error is not null)
        {
            context.Dispose();
            return null;
        }
        context.Resume(off: false, builtin: 0, store: null, tickets: true, ticketKeys: null, timeoutSec: 300);
        context.FinishServer("HTTP");
        return context;
    }

    private static string? Verify(TlsContext context, HttpsOptions options)
    {
        const int depth = 8;
        TlsVerify verify = options.ClientCertificates switch
        {
            ClientCertificates.Optional => TlsVerify.Optional,
            ClientCertificates.Required => TlsVerify.On,
            ClientCertificates.Unchecked => TlsVerify.OptionalNoCa,
            _ => TlsVerify.Off,
        };
        if (verify == TlsVerify.Off)
        {
            return null;
        }
        context.VerifyClients(verify, depth);
        if (options.ClientAuthorities.Count == 0)
        {
            return verify == TlsVerify.OptionalNoCa ? null : context.TrustSystem();
        }
        var pem = new StringBuilder();
        foreach (X509Certificate2 authority in options.ClientAuthorities)
        {
            pem.Append(authority.ExportCertificatePem()).Append('\n');
        }
        return context.AddAuthorities("ClientAuthorities", Encoding.ASCII.GetBytes(pem.ToString()), told: true);
    }

    private static TlsProtocols ProtocolsOf(SslProtocols wanted)
    {
        if (wanted == SslProtocols.None)
        {
            return TlsProtocols.Tls12 | TlsProtocols.Tls13;
        }
        TlsProtocols protocols = TlsProtocols.None;
        protocols |= wanted.HasFlag(SslProtocols.Tls12) ? TlsProtocols.Tls12 : 0;
        protocols |= wanted.HasFlag(SslProtocols.Tls13) ? TlsProtocols.Tls13 : 0;
        const int tls10 = 0xC0, tls11 = 0x300;
        protocols |= ((int)wanted & tls10) != 0 ? TlsProtocols.Tls10 : 0;
        protocols |= ((int)wanted & tls11) != 0 ? TlsProtocols.Tls11 : 0;
        return protocols;
    }

    public void Dispose()
    {
        lock (_gate)
        {
            foreach (TlsContext context in _contexts.Values)
            {
                context.Dispose();
            }
            _contexts.Clear();
        }
    }
}
