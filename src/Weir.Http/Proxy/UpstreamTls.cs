// TLS towards upstream servers (proxy_ssl_*): settings, the context made of them, and the handshake of one connection.
// What is remembered between connections (sessions to resume, tags of names) belongs to a loop. Idle connections are
// kept by these settings and the name they were opened for: none is used for another.
using Weir.Conf;
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session;
using Weir.Tls;

namespace Weir.Http.Proxy;

/// <summary>TLS settings towards upstream servers.</summary>
public sealed class UpstreamTlsSettings
{
    internal Inherited<bool> SessionReuse;
    internal Inherited<int> Protocols;
    internal Inherited<PlacedText> Ciphers;
    internal Inherited<Template> Name;
    internal Inherited<bool> SendsServerName;
    internal Inherited<bool> Verifies;
    internal Inherited<int> VerifyDepth;
    internal Inherited<PlacedText> TrustedCertificate;
    internal Inherited<PlacedText> Crl;
    internal Inherited<PlacedText> Certificate;
    internal Inherited<PlacedText> CertificateKey;
    internal Inherited<PlacedText> PasswordFile;
    internal Inherited<CertificateCacheRule?> CertificateCache;
    internal InheritedList<(string Name, string Value, ConfSpan Span)> ConfCommands;

    internal static void Declare<T>(HttpDeclarations d, string family, Func<T, UpstreamTlsSettings> of) where T : class
    {
        void Add(string name, Action<DirectiveUse, UpstreamTlsSettings> apply) =>
            d.Location<T>($"{family}_ssl_{name}", (u, s) => apply(u, of(s)));
        Add("session_reuse", static (u, s) => u.SetFlag(ref s.SessionReuse));
        Add("protocols", static (u, s) => u.SetBitmask(ref s.Protocols, SslModule.ProtocolNames));
        Add("ciphers", static (u, s) => SslModule.SetPlaced(u, ref s.Ciphers));
        Add("name", static (u, s) => u.SetTemplate(ref s.Name));
        Add("server_name", static (u, s) => u.SetFlag(ref s.SendsServerName));
        Add("verify", static (u, s) => u.SetFlag(ref s.Verifies));
        Add("verify_depth", static (u, s) => u.SetNumber(ref s.VerifyDepth));
        Add("trusted_certificate", static (u, s) => SslModule.SetPlaced(u, ref s.TrustedCertificate));
        Add("crl", static (u, s) => SslModule.SetPlaced(u, ref s.Crl));
        Add("certificate", static (u, s) => SslModule.SetPlaced(u, ref s.Certificate));
        Add("certificate_key", static (u, s) => SslModule.SetPlaced(u, ref s.CertificateKey));
        Add("certificate_cache", static (u, s) => CertificateCacheRule.Set(u, ref s.CertificateCache));
        Add("password_file", static (u, s) => SslModule.SetPlaced(u, ref s.PasswordFile));
        Add("conf_command", static (u, s) => s.ConfCommands.Add((u[0], u[1], u.Directive.Span)));
    }

    internal void Merge(UpstreamTlsSettings p)
    {
        SessionReuse.Merge(p.SessionReuse, true);
        Protocols.Merge(p.Protocols, (int)(TlsProtocols.Tls12 | TlsProtocols.Tls13));
        Ciphers.Merge(p.Ciphers, new PlacedText("DEFAULT", default));
        Name.Merge(p.Name, null!);
        SendsServerName.Merge(p.SendsServerName, false);
        Verifies.Merge(p.Verifies, false);
        VerifyDepth.Merge(p.VerifyDepth, 1);
        TrustedCertificate.Merge(p.TrustedCertificate, default);
        Crl.Merge(p.Crl, default);
        Certificate.Merge(p.Certificate, default);
        CertificateKey.Merge(p.CertificateKey, default);
        PasswordFile.Merge(p.PasswordFile, default);
        CertificateCache.Merge(p.CertificateCache, null);
        ConfCommands.Merge(p.ConfCommands);
    }
}

/// <summary>TLS settings made ready.</summary>
public sealed class UpstreamTls : IDisposable
{
    private readonly UpstreamTlsSettings _settings;
    private readonly TlsContext _context;

    private readonly Template? _certificate;
    private readonly Template? _key;
    private readonly CertificateLoader? _loader;

    private UpstreamTls(UpstreamTlsSettings settings, TlsContext context, SslContexts.Maker maker)
    {
        _settings = settings;
        _context = context;
        PlacedText certificate = settings.Certificate.Value, key = settings.CertificateKey.Value;
        if (certificate.Text is { Length: > 0 } && SslContexts.Maker.HasVariables([certificate, key]))
        {
            _certificate = maker.Template(certificate);
            _key = maker.Template(key);
            _loader = maker.Loader(maker.Passwords(settings.PasswordFile.Value), settings.CertificateCache.Value);
        }
    }

    internal static UpstreamTls? Make(HttpBuild build, UpstreamTlsSettings s, string family, ConfSpan at)
    {
        var maker = new SslContexts.Maker(build);
        TlsContext? context = TlsContext.Create((TlsProtocols)s.Protocols.Value, out string? error);
        if (context is null)
        {
            maker.Complain(error, at);
            return null;
        }
        build.Configuration.Own(context);
        maker.Complain(context.SetCiphers(s.Ciphers.Value.Text, preferServer: false), s.Ciphers.Value.Span);
        if (s.Certificate.Value.Text is { Length: > 0 })
        {
            if (s.CertificateKey.Value.Text is null)
            {
                maker.Complain($"no \"{family}_ssl_certificate_key\" is defined for certificate "
                    + $"\"{s.Certificate.Value.Text}\"", s.Certificate.Value.Span);
                return null;
            }
            if (!SslContexts.Maker.HasVariables([s.Certificate.Value, s.CertificateKey.Value]))
            {
                maker.AddCertificate(context, s.Certificate.Value, s.CertificateKey.Value,
                    maker.Passwords(s.PasswordFile.Value));
            }
        }
        if (s.Verifies.Value)
        {
            if (s.TrustedCertificate.Value.Text is not { Length: > 0 })
            {
                maker.Complain($"no {family}_ssl_trusted_certificate for {family}_ssl_verify", at);
                return null;
            }
            context.VerifyServer(s.VerifyDepth.Value);
            maker.AddAuthorities(context, s.TrustedCertificate.Value, told: false);
            maker.AddRevocations(context, s.Crl.Value);
        }
        maker.AddCommands(context, s.ConfCommands.Items);
        context.FinishClient(s.SessionReuse.Value);
        var made = new UpstreamTls(s, context, maker);
        build.Configuration.Own(made);
        return made;
    }

    /// <summary>The name that a server is asked for and must prove: what is set, else the host of the URL.</summary>
    internal NativeSlice NameOf(Exchange x)
    {
        NativeSlice name = _settings.Name.Value is { } template ? template.Evaluate(x.Request) : x.TargetHost;
        ReadOnlySpan<byte> text = name.Span;
        if (text.Length > 0 && text[0] == '[')
        {
            int end = text.IndexOf((byte)']');
            return end > 0 ? name.Slice(1, end - 1) : name;
        }
        int colon = text.LastIndexOf((byte)':');
        return colon >= 0 ? name.Slice(0, colon) : name;
    }

    /// <summary>What idle connections for the exchange are found by: the name, and which certificate is shown.
    /// </summary>
    internal UpstreamTlsName For(EventLoop loop, Exchange x)
    {
        string certificate = "", key = "";
        if (_loader is not null && _certificate!.Evaluate(x.Request) is { IsEmpty: false } shown)
        {
            certificate = SslDynamic.Text(shown);
            key = SslDynamic.Text(_key!.Evaluate(x.Request));
        }
        return UpstreamTlsNames.Of(loop).Get(this, NameOf(x).Span, certificate, key);
    }

    /// <summary>A session over a fresh connection.</summary>
    internal TlsConnection Begin(Connection connection, UpstreamTlsName name, object peer, bool http2)
    {
        TlsSession session = TlsSession.Connect(_context) ?? throw new OutOfMemoryException("no memory for TLS");
        if (_settings.SendsServerName.Value && !name.IsAddress)
        {
            session.AskFor(name.Text);
        }
        if (http2)
        {
            session.Offer("\u0002h2"u8);
        }
        if (_settings.SessionReuse.Value)
        {
            session.Resume(name.SavedFor(peer));
        }
        return new TlsConnection(connection, session, null, 0, 0);
    }

    /// <summary>Shakes hands and checks what the server shows. A fault was logged.</summary>
    internal async LoopTask<UpstreamFault> ShakeAsync(Exchange x, TlsConnection connection, UpstreamTlsName name)
    {
        const string action = "SSL handshaking to upstream";
        TlsSession session = connection.Session;
        if (name.Certificate.Length > 0 && !await ShowAsync(x, connection, name))
        {
            return connection.IsClosed ? x.ClientGone() : new UpstreamFault(FaultKind.Internal, FaultLeg.Connect, 500);
        }
        int error = await connection.HandshakeAsync(connection.Loop.NowMs + x.Settings.ConnectTimeoutMs.Value);
        switch (error)
        {
            case 0:
                break;
            case Errno.ECANCELED:
                return x.ClientGone();
            case Errno.ETIMEDOUT:
                x.LogWith(LogLevel.Error, "upstream timed out", error, action);
                return new UpstreamFault(FaultKind.Timeout, FaultLeg.Connect);
            case Errno.EPROTO:
                x.LogWith(LogLevel.Error, "SSL_do_handshake() failed" + session.Error, 0, action);
                return new UpstreamFault(FaultKind.Error, FaultLeg.Connect);
            default:
                x.LogWith(LogLevel.Error, "peer closed connection in SSL handshake", error, action);
                return new UpstreamFault(FaultKind.Error, FaultLeg.Connect);
        }
        if (x.Protocol.IsMultiplexed && !session.Alpn.IsEmpty && !session.Alpn.SequenceEqual("h2"u8))
        {
            x.LogWith(LogLevel.Error, "upstream does not speak HTTP/2", 0, action);
            return new UpstreamFault(FaultKind.Error, FaultLeg.Connect);
        }
        session.EndsAtRenegotiation = x.Protocol.IsMultiplexed;
        if (!_settings.Verifies.Value)
        {
            return default;
        }
        int result = session.VerifyResult;
        if (result != 0)
        {
            string why = System.Text.Encoding.ASCII.GetString(TlsSession.VerifyText(result));
            x.LogWith(LogLevel.Error, $"upstream SSL certificate verify error: ({result}:{why})", 0, action);
            return new UpstreamFault(FaultKind.Error, FaultLeg.Connect);
        }
        if (!session.IsPeerNamed(name.Text))
        {
            x.LogWith(LogLevel.Error, $"upstream SSL certificate does not match \"{name.Text}\"", 0, action);
            return new UpstreamFault(FaultKind.Error, FaultLeg.Connect);
        }
        return default;
    }

    /// <summary>Gives the session the certificate that variables name.</summary>
    private async LoopTask<bool> ShowAsync(Exchange x, TlsConnection connection, UpstreamTlsName name)
    {
        void Log(string message) => x.LogWith(LogLevel.Error, message, 0, "SSL handshaking to upstream");
        LoadedPair? loaded = await _loader!.LoadAsync(connection.Loop, name.Certificate, name.Key, Log);
        if (loaded is null || connection.IsClosed)
        {
            loaded?.Release();
            return false;
        }
        string? error = loaded.Pair.UseIn(connection.Session);
        loaded.Release();
        if (error is not null)
        {
            Log(error);
        }
        return error is null;
    }

    public void Dispose()
    {
        if (EventLoop.Current is { } loop)
        {
            UpstreamTlsNames.Of(loop).Forget(this);
        }
    }
}

/// <summary>A name under which upstream servers are asked, with one set of TLS settings.</summary>
internal sealed class UpstreamTlsName(string text, string certificate, string key) : IDisposable
{
    /// <summary>The places of the certificate that is shown and its key; empty where no variable says so.</summary>
    internal string Certificate { get; } = certificate;
    internal string Key { get; } = key;

    private const int SavedMax = 64;
    private readonly Dictionary<object, TlsSavedSession> _saved = [];
    private readonly Dictionary<LocationConf, object> _local = [];

    internal string Text { get; } = text;

    /// <summary>An address is no server name (RFC 6066 §3).</summary>
    internal bool IsAddress { get; } = System.Net.IPAddress.TryParse(text, out _);

    /// <summary>What idle connections of one location (`keepalive … local`) are found by.</summary>
    internal object In(LocationConf location)
    {
        if (!_local.TryGetValue(location, out object? tag))
        {
            tag = new object();
            _local.Add(location, tag);
        }
        return tag;
    }

    /// <summary>The session with one server that the next connection to it goes on with.</summary>
    internal TlsSavedSession SavedFor(object peer)
    {
        if (!_saved.TryGetValue(peer, out TlsSavedSession? saved))
        {
            if (_saved.Count >= SavedMax)
            {
                Dispose();
            }
            saved = new TlsSavedSession();
            _saved.Add(peer, saved);
        }
        return saved;
    }

    public void Dispose()
    {
        foreach (TlsSavedSession saved in _saved.Values)
        {
            saved.Dispose();
        }
        _saved.Clear();
    }
}

/// <summary>The names of one loop.</summary>
internal sealed class UpstreamTlsNames
{
    private const int NamesMax = 1024;
    private static readonly LoopSlot<UpstreamTlsNames> s_slot = new();
    private readonly Dictionary<(UpstreamTls, string, string, string), UpstreamTlsName> _names = [];
    private UpstreamTls? _lastTls;
    private UpstreamTlsName? _last;

    internal static UpstreamTlsNames Of(EventLoop loop) => loop.Slot(s_slot, static _ => new UpstreamTlsNames());

    internal UpstreamTlsName Get(UpstreamTls tls, ReadOnlySpan<byte> name, string certificate, string key)
    {
        // Nearly always the one that was asked for before: no text is made for it.
        if (_lastTls == tls && System.Text.Ascii.Equals(name, _last!.Text) && _last.Certificate == certificate
            && _last.Key == key)
        {
            return _last;
        }
        string text = System.Text.Encoding.Latin1.GetString(name);
        if (!_names.TryGetValue((tls, text, certificate, key), out UpstreamTlsName? known))
        {
            if (_names.Count >= NamesMax)
            {
                ForgetAll();
            }
            known = new UpstreamTlsName(text, certificate, key);
            _names.Add((tls, text, certificate, key), known);
        }
        _lastTls = tls;
        _last = known;
        return known;
    }

    internal void Forget(UpstreamTls tls)
    {
        foreach (((UpstreamTls Owner, string, string, string) key, UpstreamTlsName name) in _names)
        {
            if (key.Owner == tls)
            {
                name.Dispose();
                _names.Remove(key);
            }
        }
        _lastTls = null;
        _last = null;
    }

    private void ForgetAll()
    {
        foreach (UpstreamTlsName name in _names.Values)
        {
            name.Dispose();
        }
        _names.Clear();
        _lastTls = null;
        _last = null;
    }
}
