// What sessions of one server (or towards one kind of upstream) have in common: certificates, protocols, verification,
// resumption. Built once, beside the loop, from bytes that somebody else read; every step that can fail returns its
// complaint in nginx's words. Frozen by its first session. Sessions keep OpenSSL's part of it alive by themselves.
using System.Runtime.InteropServices;
using System.Text;
using Weir.Kernel;

namespace Weir.Tls;

/// <summary>Protocol versions, with the numbers of nginx's ssl_protocols.</summary>
[Flags]
public enum TlsProtocols
{
    None = 0,
    Ssl2 = 1,
    Ssl3 = 2,
    Tls10 = 4,
    Tls11 = 8,
    Tls12 = 16,
    Tls13 = 32,
}

/// <summary>Whether a client is asked for its certificate (ssl_verify_client).</summary>
public enum TlsVerify
{
    Off,
    On,
    Optional,

    /// <summary>Asked for; who signed it is somebody else's question.</summary>
    OptionalNoCa,
}

/// <summary>A password that keys may be locked with.</summary>
public sealed record TlsPassword(byte[] Bytes);

/// <summary>Chooses a context by the name in a ClientHello, before anything else is decided.</summary>
public interface ITlsNames
{
    /// <summary>The context of the name (lower case as sent, empty when none was sent). Null refuses the
    /// handshake with unrecognized_name.</summary>
    TlsContext? Choose(TlsSession session, ReadOnlySpan<byte> name);

    /// <summary>Protocols for ALPN in order of preference, as on the wire (length, name).</summary>
    NativeSlice Alpn(TlsSession session);
}

/// <summary>Settings of sessions.</summary>
public sealed unsafe partial class TlsContext : IDisposable
{
    private nint _ctx;

    private TlsContext(nint ctx) => _ctx = ctx;

    internal nint Handle => _ctx;

    /// <summary>Whether clients are asked for a certificate.</summary>
    public TlsVerify Verify { get; private set; }

    /// <summary>Plaintext bytes of a record (ssl_buffer_size).</summary>
    public int RecordBytes { get; private set; } = TlsSession.RecordBytesMax;

    public void LimitRecords(long bytes)
    {
        const int recordBytesMin = 512, maxSendFragment = 52;
        RecordBytes = (int)Math.Clamp(bytes, recordBytesMin, TlsSession.RecordBytesMax);
        Native.SSL_CTX_ctrl(_ctx, maxSendFragment, RecordBytes, null);
    }

    /// <summary>Where sessions are kept for resumption; null: nowhere.</summary>
    public ITlsSessionStore? Store { get; private set; }

    /// <summary>The keys of tickets; null: OpenSSL's own, which no other process knows.</summary>
    public ITlsTicketKeys? Tickets { get; private set; }

    /// <summary>Seconds that a session may be resumed.</summary>
    public long SessionTimeoutSec { get; private set; } = 300;

    /// <summary>Anything its owner wants to find again.</summary>
    public object? Owner { get; set; }

    private readonly List<TlsPair> _pairs = [];
    private readonly List<byte[]> _leaves = [];
    private readonly List<byte[]> _authorities = [];

    /// <summary>An empty context; null with the reason.</summary>
    public static TlsContext? Create(TlsProtocols protocols, out string? error)
    {
        error = OpenSsl.Load();
        if (error is not null)
        {
            return null;
        }
        Native.ERR_clear_error();
        nint ctx = Native.SSL_CTX_new(Native.TLS_method());
        if (ctx == 0)
        {
            error = "SSL_CTX_new() failed" + TlsErrors.Take();
            return null;
        }
        ulong options = Native.OP_NO_COMPRESSION | Native.OP_NO_ANTI_REPLAY | Native.OP_IGNORE_UNEXPECTED_EOF
            | Native.OP_NO_RENEGOTIATION;
        Native.SSL_CTX_clear_options(ctx, Native.OP_NO_SSLv3 | Native.OP_NO_TLSv1);
        options |= Missing(protocols, TlsProtocols.Ssl3, Native.OP_NO_SSLv3)
            | Missing(protocols, TlsProtocols.Tls10, Native.OP_NO_TLSv1)
            | Missing(protocols, TlsProtocols.Tls11, Native.OP_NO_TLSv1_1)
            | Missing(protocols, TlsProtocols.Tls12, Native.OP_NO_TLSv1_2)
            | Missing(protocols, TlsProtocols.Tls13, Native.OP_NO_TLSv1_3);
        Native.SSL_CTX_set_options(ctx, options);
        // As nginx: what the library's own configuration says about versions does not count.
        Native.SSL_CTX_ctrl(ctx, Native.CTRL_SET_MIN_PROTO_VERSION, 0, null);
        Native.SSL_CTX_ctrl(ctx, Native.CTRL_SET_MAX_PROTO_VERSION, 0, null);
        Native.SSL_CTX_ctrl(ctx, Native.CTRL_MODE,
            (nint)(Native.MODE_RELEASE_BUFFERS | Native.MODE_MOVING_WRITE_BUFFER | Native.MODE_NO_AUTO_CHAIN), null);
        return new TlsContext(ctx);
    }

    private static ulong Missing(TlsProtocols protocols, TlsProtocols wanted, ulong option) =>
        (protocols & wanted) == 0 ? option : 0;

    /// <summary>Adds a certificate with its chain, and its key. One of each kind (RSA, ECDSA) may be
    /// added.</summary>
    public string? AddCertificate(string name, ReadOnlySpan<byte> pem, string keyName, ReadOnlySpan<byte> keyPem,
        IReadOnlyList<TlsPassword> passwords)
    {
        TlsPair? pair = TlsPair.Read(name, pem, keyName, keyPem, passwords, out string? error);
        if (pair is null)
        {
            return error;
        }
        _pairs.Add(pair);
        _leaves.Add(TlsCertificate.Encode(pair.Leaf));
        return pair.UseIn(_ctx);
    }

    /// <summary>Who finds certificates for each connection (variables in ssl_certificate); null: they are
    /// here.</summary>
    public ITlsCertificates? Certificates { get; private set; }

    public void FindCertificates(ITlsCertificates finder)
    {
        Certificates = finder;
        Native.SSL_CTX_set_cert_cb(_ctx, (nint)(delegate* unmanaged<nint, nint, int>)&TlsCallbacks.Certificates, 0);
    }

    /// <summary>Compresses certificates for clients that know it (RFC 8879), where the library does. False where it
    /// does not: OpenSSL does since 3.2.</summary>
    public bool CompressCertificates()
    {
        const string name = "SSL_CTX_compress_certs";
        if (!NativeLibrary.TryGetExport(NativeLibrary.Load(Native.Ssl), name, out nint function))
        {
            return false;
        }
        const int everyAlgorithm = 0;
        ((delegate* unmanaged<nint, int, int>)function)(_ctx, everyAlgorithm);
        return true;
    }

    public string? SetCiphers(string list, bool preferServer)
    {
        Native.ERR_clear_error();
        fixed (byte* p = Native.Z(list))
        {
            if (Native.SSL_CTX_set_cipher_list(_ctx, p) == 0)
            {
                return $"SSL_CTX_set_cipher_list(\"{list}\") failed" + TlsErrors.Take();
            }
        }
        if (preferServer)
        {
            Native.SSL_CTX_set_options(_ctx, Native.OP_CIPHER_SERVER_PREFERENCE);
        }
        return null;
    }

    /// <summary>Groups for key exchange; "auto" leaves the library's.</summary>
    public string? SetCurves(string list)
    {
        if (list == "auto")
        {
            return null;
        }
        Native.ERR_clear_error();
        fixed (byte* p = Native.Z(list))
        {
            return Native.SSL_CTX_ctrl(_ctx, Native.CTRL_SET_GROUPS_LIST, 0, p) == 1 ? null
                : $"SSL_CTX_set1_curves_list(\"{list}\") failed" + TlsErrors.Take();
        }
    }

    public string? SetDhParam(string name, ReadOnlySpan<byte> pem)
    {
        Native.ERR_clear_error();
        fixed (byte* p = pem)
        {
            nint bio = Native.BIO_new_mem_buf(p, pem.Length);
            nint key = Native.PEM_read_bio_Parameters(bio, null);
            Native.BIO_free(bio);
            if (key == 0)
            {
                return $"PEM_read_bio_Parameters(\"{name}\") failed" + TlsErrors.Take();
            }
            if (Native.SSL_CTX_set0_tmp_dh_pkey(_ctx, key) != 1)
            {
                Native.EVP_PKEY_free(key);
                return $"SSL_CTX_set0_tmp_dh_pkey(\"{name}\") failed" + TlsErrors.Take();
            }
        }
        return null;
    }

    /// <summary>One command of OpenSSL's configuration language (ssl_conf_command).</summary>
    public string? Command(string name, string value, Func<string, string> fullPath)
    {
        const uint client = 4, server = 8, file = 2, showErrors = 0x10, certificate = 0x20;
        const int valueIsFile = 2, valueIsDirectory = 3;
        Native.ERR_clear_error();
        nint conf = Native.SSL_CONF_CTX_new();
        Native.SSL_CONF_CTX_set_flags(conf, file | server | client | certificate | showErrors);
        Native.SSL_CONF_CTX_set_ssl_ctx(conf, _ctx);
        int result;
        fixed (byte* n = Native.Z(name))
        {
            if (Native.SSL_CONF_cmd_value_type(conf, n) is valueIsFile or valueIsDirectory)
            {
                value = fullPath(value);
            }
            fixed (byte* v = Native.Z(value))
            {
                result = Native.SSL_CONF_cmd(conf, n, v);
            }
        }
        string? error = result > 0 && Native.SSL_CONF_CTX_finish(conf) == 1 ? null
            : $"SSL_CONF_cmd(\"{name}\", \"{value}\") failed" + TlsErrors.Take();
        Native.SSL_CONF_CTX_free(conf);
        return error;
    }

    // Verification.

    /// <summary>Authorities that certificates of the peer are checked against; <paramref name="told"/>: whose names a
    /// client is told.</summary>
    public string? AddAuthorities(string name, ReadOnlySpan<byte> pem, bool told)
    {
        Native.ERR_clear_error();
        int count = 0;
        fixed (byte* p = pem)
        {
            nint bio = Native.BIO_new_mem_buf(p, pem.Length);
            nint store = Native.SSL_CTX_get_cert_store(_ctx);
            nint certificate;
            while ((certificate = Native.PEM_read_bio_X509_AUX(bio, null, 0, null)) != 0)
            {
                count++;
                Native.X509_STORE_add_cert(store, certificate);
                if (told)
                {
                    Native.SSL_CTX_add_client_CA(_ctx, certificate);
                }
                Native.X509_free(certificate);
            }
            Native.BIO_free(bio);
        }
        _authorities.Add(pem.ToArray());
        return count > 0 && TlsPem.IsEnd() ? null
            : $"SSL_CTX_load_verify_locations(\"{name}\") failed" + TlsErrors.Take();
    }

    /// <summary>Checks against the authorities that this machine trusts.</summary>
    public string? TrustSystem()
    {
        Native.ERR_clear_error();
        return Native.SSL_CTX_set_default_verify_paths(_ctx) == 1 ? null
            : "SSL_CTX_set_default_verify_paths() failed" + TlsErrors.Take();
    }

    /// <summary>Revoked certificates.</summary>
    public string? AddRevocations(string name, ReadOnlySpan<byte> pem)
    {
        const nuint checkCrl = 0x4, checkAll = 0x8;
        Native.ERR_clear_error();
        int count = 0;
        nint store = Native.SSL_CTX_get_cert_store(_ctx);
        fixed (byte* p = pem)
        {
            nint bio = Native.BIO_new_mem_buf(p, pem.Length);
            nint crl;
            while ((crl = Native.PEM_read_bio_X509_CRL(bio, null, 0, null)) != 0)
            {
                count++;
                Native.X509_STORE_add_crl(store, crl);
                Native.X509_CRL_free(crl);
            }
            Native.BIO_free(bio);
        }
        if (count == 0 || !TlsPem.IsEnd())
        {
            return $"X509_load_crl_file(\"{name}\") failed" + TlsErrors.Take();
        }
        Native.X509_STORE_set_flags(store, checkCrl | checkAll);
        return null;
    }

    /// <summary>Asks clients for certificates. The handshake always goes on; what was found is the session's
    /// verify result.</summary>
    public void VerifyClients(TlsVerify verify, int depth)
    {
        Verify = verify;
        if (verify != TlsVerify.Off)
        {
            Native.SSL_CTX_set_verify(_ctx, 1, (nint)(delegate* unmanaged<int, nint, int>)&TlsCallbacks.Verified);
            Native.SSL_CTX_set_verify_depth(_ctx, depth);
        }
    }

    /// <summary>As a client: checks the server's chain; the session tells the result.</summary>
    public void VerifyServer(int depth)
    {
        Verify = TlsVerify.On;
        Native.SSL_CTX_set_verify(_ctx, 1, (nint)(delegate* unmanaged<int, nint, int>)&TlsCallbacks.Verified);
        Native.SSL_CTX_set_verify_depth(_ctx, depth);
    }

    // Resumption.

    /// <summary>How sessions are kept: by id in <paramref name="store"/>, in OpenSSL's own cache of
    /// <paramref name="builtin"/> sessions (0: none, -1: its default size), as tickets.</summary>
    public void Resume(bool off, int builtin, ITlsSessionStore? store, bool tickets, ITlsTicketKeys? ticketKeys,
        long timeoutSec)
    {
        const int modeOff = 0, modeServer = 2, noInternal = 0x300;
        Store = store;
        SessionTimeoutSec = timeoutSec;
        int mode = off ? modeOff : builtin != 0 ? modeServer : modeServer | noInternal;
        Native.SSL_CTX_ctrl(_ctx, Native.CTRL_SET_SESS_CACHE_MODE, mode, null);
        if (builtin > 0)
        {
            Native.SSL_CTX_ctrl(_ctx, Native.CTRL_SET_SESS_CACHE_SIZE, builtin, null);
        }
        Native.SSL_CTX_set_timeout(_ctx, (nint)timeoutSec);
        if (store is not null)
        {
            Native.SSL_CTX_sess_set_new_cb(_ctx, (nint)(delegate* unmanaged<nint, nint, int>)&TlsCallbacks.NewSession);
            Native.SSL_CTX_sess_set_get_cb(_ctx,
                (nint)(delegate* unmanaged<nint, byte*, int, int*, nint>)&TlsCallbacks.GetSession);
            Native.SSL_CTX_sess_set_remove_cb(_ctx,
                (nint)(delegate* unmanaged<nint, nint, void>)&TlsCallbacks.RemoveSession);
        }
        if (!tickets)
        {
            Native.SSL_CTX_set_options(_ctx, Native.OP_NO_TICKET);
        }
        else if (ticketKeys is not null)
        {
            Tickets = ticketKeys;
            Native.SSL_CTX_set_tlsext_ticket_key_evp_cb(_ctx,
                (nint)(delegate* unmanaged<nint, byte*, byte*, nint, nint, int, int>)&TlsCallbacks.Ticket);
        }
    }

    /// <summary>Makes it a server's: names, ALPN, the identity under which sessions are resumed.</summary>
    public void FinishServer(string purpose)
    {
        Native.ERR_clear_error();
        Native.SSL_CTX_set_client_hello_cb(_ctx,
            (nint)(delegate* unmanaged<nint, int*, nint, int>)&TlsCallbacks.ClientHello, 0);
        Native.SSL_CTX_callback_ctrl(_ctx, Native.CTRL_SET_TLSEXT_SERVERNAME_CB,
            (nint)(delegate* unmanaged<nint, int*, nint, int>)&TlsCallbacks.ServerName);
        Native.SSL_CTX_set_alpn_select_cb(_ctx,
            (nint)(delegate* unmanaged<nint, byte**, byte*, byte*, uint, nint, int>)&TlsCallbacks.Alpn, 0);
        byte[] identity = [.. Encoding.ASCII.GetBytes(purpose), .. _leaves.SelectMany(static l => l),
            .. _authorities.SelectMany(static a => a)];
        byte* digest = stackalloc byte[32];
        uint length;
        fixed (byte* p = identity)
        {
            Native.EVP_Digest(p, (nuint)identity.Length, digest, &length, Native.EVP_sha256(), 0);
        }
        Native.SSL_CTX_set_session_id_context(_ctx, digest, 32);
        Native.ERR_clear_error();
    }

    /// <summary>Makes it a client's.</summary>
    public void FinishClient(bool resumes)
    {
        const int modeOff = 0, modeClient = 1, noInternal = 0x300;
        Native.SSL_CTX_ctrl(_ctx, Native.CTRL_SET_SESS_CACHE_MODE, resumes ? modeClient | noInternal : modeOff, null);
        if (resumes)
        {
            Native.SSL_CTX_sess_set_new_cb(_ctx, (nint)(delegate* unmanaged<nint, nint, int>)&TlsCallbacks.NewSession);
        }
        Native.ERR_clear_error();
    }

    public void Dispose()
    {
        if (_ctx != 0)
        {
            Native.SSL_CTX_free(_ctx);
            _ctx = 0;
        }
        ForgetStaples();
    }
}
