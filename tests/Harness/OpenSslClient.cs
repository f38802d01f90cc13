// A TLS 1.3 client, or server, that is OpenSSL itself over a blocking socket, for what .NET's SslStream does not let a
// test do: new keys at any time. Certificates are not looked at. One thread.
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;

namespace Weir.Tests.Harness;

/// <summary>A connection that libssl drives.</summary>
public sealed class OpenSslClient : IDisposable
{
    private readonly Socket _socket;
    private readonly nint _ctx;
    private readonly nint _ssl;

    private OpenSslClient(Socket socket, string certificate, string key)
    {
        const int pem = 1;
        _socket = socket;
        _ctx = SSL_CTX_new(TLS_server_method());
        SSL_CTX_use_certificate_chain_file(_ctx, certificate);
        SSL_CTX_use_PrivateKey_file(_ctx, key, pem);
        _ssl = SSL_new(_ctx);
        SSL_set_fd(_ssl, (int)_socket.SafeHandle.DangerousGetHandle());
        if (SSL_accept(_ssl) != 1)
        {
            Dispose();
            throw new IOException("no TLS handshake");
        }
    }

    private OpenSslClient(int port, string alpn)
    {
        _socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        _socket.Connect(IPAddress.Loopback, port);
        _socket.ReceiveTimeout = _socket.SendTimeout = 30_000;
        _socket.NoDelay = true;
        _ctx = SSL_CTX_new(TLS_client_method());
        _ssl = SSL_new(_ctx);
        byte[] list = [(byte)alpn.Length, .. Encoding.ASCII.GetBytes(alpn)];
        SSL_set_alpn_protos(_ssl, list, (uint)list.Length);
        SSL_set_fd(_ssl, (int)_socket.SafeHandle.DangerousGetHandle());
        if (SSL_connect(_ssl) != 1)
        {
            Dispose();
            throw new IOException("no TLS handshake");
        }
    }

    /// <summary>Connects and shakes hands.</summary>
    public static OpenSslClient Connect(int port, string alpn) => new(port, alpn);

    /// <summary>The server's side of a connection.</summary>
    public static OpenSslClient Accept(Socket socket, string certificate, string key) => new(socket, certificate, key);

    public void Write(byte[] bytes)
    {
        if (SSL_write(_ssl, bytes, bytes.Length) != bytes.Length)
        {
            throw new IOException("the connection has ended");
        }
    }

    /// <summary>What comes next; empty at the end.</summary>
    public byte[] Read()
    {
        byte[] bytes = new byte[16 * 1024];
        int count = SSL_read(_ssl, bytes, bytes.Length);
        return bytes[..Math.Max(count, 0)];
    }

    /// <summary>Sends with other keys from here on, and asks the peer to do the same or not. False when the connection
    /// has ended.</summary>
    public bool UpdateKeys(bool asks) => SSL_key_update(_ssl, asks ? 1 : 0) == 1 && SSL_do_handshake(_ssl) == 1;

    /// <summary>Bytes and updates of the keys behind them, all in one write.</summary>
    public void WriteWithKeys(byte[] bytes, int updates)
    {
        nint wire = SSL_get_wbio(_ssl), memory = BIO_new(BIO_s_mem());
        BIO_up_ref(wire);
        SSL_set0_wbio(_ssl, memory);
        Write(bytes);
        for (int i = 0; i < updates; i++)
        {
            UpdateKeys(asks: true);
        }
        byte[] all = new byte[256 * 1024];
        int count = BIO_read(memory, all, all.Length);
        SSL_set0_wbio(_ssl, wire);
        _socket.Send(all.AsSpan(0, count));
    }

    /// <summary>What OpenSSL has to say about the last call, for a test's own message.</summary>
    public string Trouble
    {
        get
        {
            byte[] text = new byte[256];
            ERR_error_string_n(ERR_peek_last_error(), text, (nuint)text.Length);
            return Encoding.ASCII.GetString(text).TrimEnd('\0');
        }
    }

    public void Dispose()
    {
        SSL_free(_ssl);
        SSL_CTX_free(_ctx);
        _socket.Dispose();
    }

    private const string Library = "libssl.so.3";

    [DllImport(Library)] private static extern nint SSL_get_wbio(nint ssl);
    [DllImport(Library)] private static extern void SSL_set0_wbio(nint ssl, nint bio);
    [DllImport("libcrypto.so.3")] private static extern nint BIO_s_mem();
    [DllImport("libcrypto.so.3")] private static extern nint BIO_new(nint method);
    [DllImport("libcrypto.so.3")] private static extern int BIO_up_ref(nint bio);
    [DllImport("libcrypto.so.3")] private static extern int BIO_read(nint bio, byte[] into, int count);
    [DllImport("libcrypto.so.3")] private static extern nuint ERR_peek_last_error();
    [DllImport("libcrypto.so.3")] private static extern void ERR_error_string_n(nuint code, byte[] into, nuint length);
    [DllImport(Library)] private static extern nint TLS_client_method();
    [DllImport(Library)] private static extern nint TLS_server_method();
    [DllImport(Library)] private static extern int SSL_CTX_use_certificate_chain_file(nint ctx, string file);
    [DllImport(Library)] private static extern int SSL_CTX_use_PrivateKey_file(nint ctx, string file, int type);
    [DllImport(Library)] private static extern int SSL_accept(nint ssl);
    [DllImport(Library)] private static extern nint SSL_CTX_new(nint method);
    [DllImport(Library)] private static extern void SSL_CTX_free(nint ctx);
    [DllImport(Library)] private static extern nint SSL_new(nint ctx);
    [DllImport(Library)] private static extern void SSL_free(nint ssl);
    [DllImport(Library)] private static extern int SSL_set_alpn_protos(nint ssl, byte[] list, uint length);
    [DllImport(Library)] private static extern int SSL_set_fd(nint ssl, int descriptor);
    [DllImport(Library)] private static extern int SSL_connect(nint ssl);
    [DllImport(Library)] private static extern int SSL_do_handshake(nint ssl);
    [DllImport(Library)] private static extern int SSL_key_update(nint ssl, int kind);
    [DllImport(Library)] private static extern int SSL_read(nint ssl, byte[] into, int count);
    [DllImport(Library)] private static extern int SSL_write(nint ssl, byte[] from, int count);
}
