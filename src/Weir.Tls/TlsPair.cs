// A certificate with its chain and its key, parsed: goes into a context when a configuration is read, or into one
// session whose certificates are found during its handshake. Parsing may happen on any thread; the objects are
// OpenSSL's and counted by it, so that a session keeps what it uses.
using Weir.Loop;

namespace Weir.Tls;

/// <summary>Finds certificates for a connection while its handshake waits.</summary>
public interface ITlsCertificates
{
    /// <summary>Puts them into the session (<see cref="TlsPair.UseIn(TlsSession)"/>). False ends the handshake; why
    /// was logged.</summary>
    LoopTask<bool> FindAsync(TlsSession session);
}

/// <summary>A certificate, its chain, its key.</summary>
public sealed unsafe class TlsPair : IDisposable
{
    private readonly List<nint> _chain = [];
    private readonly string _name;
    private readonly string _keyName;
    private nint _leaf;
    private nint _key;

    private TlsPair(string name, string keyName)
    {
        _name = name;
        _keyName = keyName;
    }

    internal nint Leaf => _leaf;
    internal IReadOnlyList<nint> Chain => _chain;
    internal string Name => _name;

    /// <summary>Parses PEM, or opens the key's place (<see cref="TlsKeyPlaces"/>); null with nginx's words.</summary>
    public static TlsPair? Read(string name, ReadOnlySpan<byte> pem, string keyName, ReadOnlySpan<byte> keyPem,
        IReadOnlyList<TlsPassword> passwords, out string? error)
    {
        error = OpenSsl.Load();
        if (error is not null)
        {
            return null;
        }
        Native.ERR_clear_error();
        var pair = new TlsPair(name, keyName);
        error = pair.ReadCertificates(pem) ?? pair.ReadKey(keyPem, passwords);
        if (error is null)
        {
            return pair;
        }
        pair.Dispose();
        return null;
    }

    private string? ReadCertificates(ReadOnlySpan<byte> pem)
    {
        fixed (byte* p = pem)
        {
            nint bio = Native.BIO_new_mem_buf(p, pem.Length);
            _leaf = Native.PEM_read_bio_X509_AUX(bio, null, 0, null);
            for (nint more = _leaf; more != 0;)
            {
                more = Native.PEM_read_bio_X509(bio, null, 0, null);
                if (more != 0)
                {
                    _chain.Add(more);
                }
            }
            Native.BIO_free(bio);
        }
        return _leaf == 0 ? $"cannot load certificate \"{_name}\": PEM_read_bio_X509_AUX() failed" + TlsErrors.Take()
            : TlsPem.IsEnd() ? null
            : $"cannot load certificate \"{_name}\": PEM_read_bio_X509() failed" + TlsErrors.Take();
    }

    private string? ReadKey(ReadOnlySpan<byte> pem, IReadOnlyList<TlsPassword> passwords)
    {
        string failed = "PEM_read_bio_PrivateKey() failed";
        for (int i = 0; _key == 0 && i < Math.Max(passwords.Count, 1); i++)
        {
            Native.ERR_clear_error();
            ReadOnlySpan<byte> password = passwords.Count == 0 ? default : passwords[i].Bytes;
            _key = TlsKeyPlaces.Is(_keyName) ? TlsKeyPlaces.Open(_keyName, pem, password, out failed)
                : TlsPem.ReadKey(pem, password);
        }
        return _key != 0 ? null : $"cannot load certificate key \"{_keyName}\": {failed}" + TlsErrors.Take();
    }

    /// <summary>Null, or why not.</summary>
    internal string? UseIn(nint ctx)
    {
        Native.ERR_clear_error();
        if (Native.SSL_CTX_use_certificate(ctx, _leaf) != 1)
        {
            return $"SSL_CTX_use_certificate(\"{_name}\") failed" + TlsErrors.Take();
        }
        foreach (nint more in _chain)
        {
            if (Native.SSL_CTX_ctrl(ctx, Native.CTRL_CHAIN_CERT, 1, (void*)more) != 1)
            {
                return $"SSL_CTX_add1_chain_cert(\"{_name}\") failed" + TlsErrors.Take();
            }
        }
        // A key of another kind would find a place of its own in the context and fail every handshake.
        return Native.X509_check_private_key(_leaf, _key) == 1 && Native.SSL_CTX_use_PrivateKey(ctx, _key) == 1 ? null
            : $"SSL_CTX_use_PrivateKey(\"{_keyName}\") failed" + TlsErrors.Take();
    }

    /// <summary>Null, or why not.</summary>
    public string? UseIn(TlsSession session)
    {
        nint ssl = session.Ssl;
        Native.ERR_clear_error();
        if (Native.SSL_use_certificate(ssl, _leaf) != 1)
        {
            return $"SSL_use_certificate(\"{_name}\") failed" + TlsErrors.Take();
        }
        foreach (nint more in _chain)
        {
            if (Native.SSL_ctrl(ssl, Native.CTRL_CHAIN_CERT, 1, (void*)more) != 1)
            {
                return $"SSL_set0_chain(\"{_name}\") failed" + TlsErrors.Take();
            }
        }
        return Native.X509_check_private_key(_leaf, _key) == 1 && Native.SSL_use_PrivateKey(ssl, _key) == 1 ? null
            : $"SSL_use_PrivateKey(\"{_keyName}\") failed" + TlsErrors.Take();
    }

    public void Dispose()
    {
        Native.X509_free(_leaf);
        Native.EVP_PKEY_free(_key);
        foreach (nint more in _chain)
        {
            Native.X509_free(more);
        }
        _chain.Clear();
        _leaf = 0;
        _key = 0;
    }
}
