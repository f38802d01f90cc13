// OpenSSL's calls back to us. Each finds its session in TlsSession.Current: callbacks only run inside of a call on the
// same thread. Nothing may be thrown into OpenSSL: an exception here ends the handshake with internal_error.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Weir.Tls;

internal static unsafe class TlsCallbacks
{
    private const int SessionBytesMax = 4096;
    private const int AlertInternal = 80, AlertUnrecognizedName = 112;
    private const int HelloError = 0, HelloGoOn = 1;
    private const int ExtensionDone = 0, ExtensionFatal = 2, ExtensionNoAck = 3;
    private const int HostNameBytesMax = 255;
    internal const int Tls13 = 0x0304;

    [UnmanagedCallersOnly]
    internal static int Verified(int good, nint store) => 1;

    [UnmanagedCallersOnly]
    internal static int ClientHello(nint ssl, int* alert, nint argument)
    {
        TlsSession? session = TlsSession.Current;
        if (session?.Names is not { } names)
        {
            return HelloGoOn;
        }
        try
        {
            Span<byte> name = stackalloc byte[HostNameBytesMax];
            name = name[..ReadName(ssl, name)];
            TlsContext? chosen = names.Choose(session, name);
            if (chosen is null)
            {
                session.Refuse();
                *alert = AlertUnrecognizedName;
                return HelloError;
            }
            if (chosen != session.Chosen)
            {
                session.Chosen = chosen;
                Switch(ssl, chosen.Handle);
            }
            return HelloGoOn;
        }
        catch (Exception)
        {
            *alert = AlertInternal;
            return HelloError;
        }
    }

    /// <summary>The first host name of the extension, in lower case.</summary>
    private static int ReadName(nint ssl, Span<byte> into)
    {
        byte* data;
        nuint length;
        // RFC 6066 §3: list length, type 0, name length, name.
        if (Native.SSL_client_hello_get0_ext(ssl, 0, &data, &length) == 0 || length < 5 || data[2] != 0)
        {
            return 0;
        }
        int count = (data[3] << 8) | data[4];
        if ((nuint)count + 5 > length || count > into.Length)
        {
            return 0;
        }
        for (int i = 0; i < count; i++)
        {
            byte c = data[5 + i];
            into[i] = c is >= (byte)'A' and <= (byte)'Z' ? (byte)(c | 0x20) : c;
        }
        return count > 0 && into[count - 1] == '.' ? count - 1 : count;
    }

    private static void Switch(nint ssl, nint ctx)
    {
        Native.SSL_set_SSL_CTX(ssl, ctx);
        // What SSL_set_SSL_CTX does not take over.
        Native.SSL_set_verify(ssl, Native.SSL_CTX_get_verify_mode(ctx), Native.SSL_CTX_get_verify_callback(ctx));
        Native.SSL_set_verify_depth(ssl, Native.SSL_CTX_get_verify_depth(ctx));
        ulong options = Native.SSL_CTX_get_options(ctx);
        Native.SSL_clear_options(ssl, Native.SSL_get_options(ssl) & ~options);
        Native.SSL_set_options(ssl, options | Native.OP_NO_RENEGOTIATION);
        Native.SSL_set_max_early_data(ssl, Native.SSL_CTX_get_max_early_data(ctx));
        Native.SSL_set_allow_early_data_cb(ssl, (nint)(delegate* unmanaged<nint, nint, int>)&AllowEarlyData, 0);
        foreach ((int get, int set) in (ReadOnlySpan<(int, int)>)
            [(Native.CTRL_GET_MIN_PROTO_VERSION, Native.CTRL_SET_MIN_PROTO_VERSION),
            (Native.CTRL_GET_MAX_PROTO_VERSION, Native.CTRL_SET_MAX_PROTO_VERSION)])
        {
            Native.SSL_ctrl(ssl, set, Native.SSL_CTX_ctrl(ctx, get, 0, null), null);
        }
    }

    [UnmanagedCallersOnly]
    internal static int ServerName(nint ssl, int* alert, nint argument) =>
        Native.SSL_get_servername(ssl, 0) != 0 ? ExtensionDone : ExtensionNoAck;

    [UnmanagedCallersOnly]
    internal static int Alpn(nint ssl, byte** chosen, byte* chosenLength, byte* offered, uint length, nint argument)
    {
        try
        {
            if (TlsSession.Current is not { Names: { } names } session)
            {
                return ExtensionNoAck;
            }
            Kernel.NativeSlice ours = names.Alpn(session);
            int result = Native.SSL_select_next_proto(chosen, chosenLength, ours.Pointer, (uint)ours.Length, offered,
                length);
            const int negotiated = 1;
            return result == negotiated ? ExtensionDone : ExtensionFatal;
        }
        catch (Exception)
        {
            return ExtensionFatal;
        }
    }

    [UnmanagedCallersOnly]
    internal static int Certificates(nint ssl, nint argument) => TlsSession.Current?.AskForCertificates() ?? 0;

    [UnmanagedCallersOnly]
    internal static int AllowEarlyData(nint ssl, nint argument)
    {
        const int randomBytes = 32;
        try
        {
            byte* random = stackalloc byte[randomBytes];
            return TlsSession.Current is { IsHandshakeDone: false, Chosen.ReplayGuard: { } guard }
                && Native.SSL_get_client_random(ssl, random, randomBytes) == randomBytes
                && guard.IsFirst(new ReadOnlySpan<byte>(random, randomBytes)) ? 1 : 0;
        }
        catch (Exception)
        {
            return 0;
        }
    }

    [UnmanagedCallersOnly]
    internal static int NewSession(nint ssl, nint nativeSession)
    {
        try
        {
            if (TlsSession.Current is not { } session)
            {
                return 0;
            }
            if (session.Saved is { } saved)
            {
                // The reference that OpenSSL offers goes with it.
                return saved.Keep(nativeSession) ? 1 : 0;
            }
            if (session.StoreNow is not { } store)
            {
                return 0;
            }
            int length = Native.i2d_SSL_SESSION(nativeSession, null);
            if (length is <= 0 or > SessionBytesMax)
            {
                return 0;
            }
            byte* bytes = stackalloc byte[SessionBytesMax];
            byte* end = bytes;
            Native.i2d_SSL_SESSION(nativeSession, &end);
            uint idLength;
            byte* id = Native.SSL_SESSION_get_id(nativeSession, &idLength);
            store.Store(new ReadOnlySpan<byte>(id, (int)idLength), new ReadOnlySpan<byte>(bytes, length),
                session.Context.SessionTimeoutSec);
        }
        catch (Exception)
        {
            // A session that is not kept costs the client a full handshake and nothing else.
        }
        return 0;
    }

    [UnmanagedCallersOnly]
    internal static nint GetSession(nint ssl, byte* id, int idLength, int* copy)
    {
        *copy = 0;
        try
        {
            if (TlsSession.Current?.StoreNow is not { } store)
            {
                return 0;
            }
            byte* bytes = stackalloc byte[SessionBytesMax];
            int length = store.Find(new ReadOnlySpan<byte>(id, idLength), new Span<byte>(bytes, SessionBytesMax));
            return length == 0 ? 0 : Native.d2i_SSL_SESSION(null, &bytes, length);
        }
        catch (Exception)
        {
            return 0;
        }
    }

    [UnmanagedCallersOnly]
    internal static void RemoveSession(nint ctx, nint nativeSession)
    {
        try
        {
            if (TlsSession.Current?.StoreNow is { } store)
            {
                uint length;
                byte* id = Native.SSL_SESSION_get_id(nativeSession, &length);
                store.Remove(new ReadOnlySpan<byte>(id, (int)length));
            }
        }
        catch (Exception)
        {
            // It stays until its time is over.
        }
    }

    [UnmanagedCallersOnly]
    internal static int Ticket(nint ssl, byte* name, byte* iv, nint cipher, nint mac, int encrypts)
    {
        const int failed = -1, unknown = 0, good = 1, renewed = 2;
        try
        {
            if (TlsSession.Current is not { IsHandshakeDone: false, Context.Tickets: { } keys })
            {
                return failed;
            }
            TlsTicketKey key;
            bool is128, renew = false;
            if (encrypts != 0)
            {
                if (!keys.Current(out key, out is128) || Native.RAND_bytes(iv, 16) != 1)
                {
                    // Without a key nobody gets a ticket; the handshake goes on.
                    return unknown;
                }
                ((ReadOnlySpan<byte>)key)[..TlsTicketKey.NameBytes].CopyTo(new Span<byte>(name, 16));
            }
            else if (!keys.Find(new ReadOnlySpan<byte>(name, TlsTicketKey.NameBytes), out key, out is128, out renew))
            {
                return unknown;
            }
            bool set = SetKeys((byte*)Unsafe.AsPointer(ref key), is128, iv, cipher, mac, encrypts != 0);
            if (!set)
            {
                return failed;
            }
            // A ticket of TLS 1.3 is used once.
            return encrypts == 0 && (renew || Native.SSL_version(ssl) == Tls13) ? renewed : good;
        }
        catch (Exception)
        {
            return failed;
        }
    }

    private static bool SetKeys(byte* key, bool is128, byte* iv, nint cipher, nint mac, bool encrypts)
    {
        const uint utf8 = 4;
        byte* macKey = key + 16, cipherKey = key + 48;
        fixed (byte* digest = "digest\0"u8)
        fixed (byte* sha256 = "SHA256\0"u8)
        {
            Native.OsslParam* parameters = stackalloc Native.OsslParam[2];
            parameters[0] = new Native.OsslParam
            {
                Key = digest, Type = utf8, Data = sha256, Size = 6, ReturnSize = nuint.MaxValue,
            };
            parameters[1] = default;
            if (Native.EVP_MAC_init(mac, macKey, is128 ? 16u : 32u, parameters) != 1)
            {
                return false;
            }
        }
        nint algorithm = is128 ? Native.EVP_aes_128_cbc() : Native.EVP_aes_256_cbc();
        return (encrypts ? Native.EVP_EncryptInit_ex(cipher, algorithm, 0, cipherKey, iv)
            : Native.EVP_DecryptInit_ex(cipher, algorithm, 0, cipherKey, iv)) == 1;
    }

    [UnmanagedCallersOnly]
    internal static int Staple(nint ssl, nint argument)
    {
        try
        {
            if (TlsSession.Current is not { } session
                || session.Chosen.StapleOf(Native.SSL_get_certificate(ssl)) is not { Length: > 0 } response)
            {
                return ExtensionNoAck;
            }
            byte* copy = Native.CRYPTO_malloc((nuint)response.Length, 0, 0);
            if (copy == null)
            {
                return ExtensionNoAck;
            }
            response.CopyTo(new Span<byte>(copy, response.Length));
            Native.SSL_ctrl(ssl, Native.CTRL_SET_TLSEXT_STATUS_REQ_OCSP_RESP, response.Length, copy);
            return ExtensionDone;
        }
        catch (Exception)
        {
            return ExtensionNoAck;
        }
    }
}
