// A client that speaks TLS through .NET's SslStream: sends what a test gives it, reads responses, and tells what the
// handshake brought.
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;

namespace Weir.Tests.Harness;

/// <summary>A TLS connection to a server under test.</summary>
public sealed class TlsClient : IDisposable
{
    private readonly Socket _socket;
    private byte[] _pending = [];

    private TlsClient(Socket socket, SslStream stream)
    {
        _socket = socket;
        Stream = stream;
    }

    public SslStream Stream { get; }

    public X509Certificate2? ServerCertificate { get; private set; }

    /// <summary>Connects and shakes hands; any certificate is accepted and kept for the test to look at.</summary>
    public static TlsClient Connect(int port, string name = "localhost", SslProtocols protocols = SslProtocols.None,
        TestCertificate? certificate = null, string[]? alpn = null, IPAddress? address = null)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Connect(address ?? IPAddress.Loopback, port);
        socket.ReceiveTimeout = 30_000;
        var client = new TlsClient(socket, new SslStream(new NetworkStream(socket, ownsSocket: true)));
        var options = new SslClientAuthenticationOptions
        {
            TargetHost = name,
            EnabledSslProtocols = protocols,
            AllowTlsResume = address is null,
            RemoteCertificateValidationCallback = (_, shown, _, _) =>
            {
                client.ServerCertificate = shown as X509Certificate2;
                return true;
            },
        };
        if (certificate is not null)
        {
            X509Certificate2 own = certificate.Key is System.Security.Cryptography.RSA rsa
                ? certificate.Certificate.CopyWithPrivateKey(rsa)
                : certificate.Certificate.CopyWithPrivateKey((System.Security.Cryptography.ECDsa)certificate.Key);
            options.ClientCertificates = [own];
            options.LocalCertificateSelectionCallback = (_, _, _, _, _) => own;
        }

        if (alpn is not null)
        {
            options.ApplicationProtocols = [.. alpn.Select(static a => new SslApplicationProtocol(a))];
        }

        try
        {
            client.Stream.AuthenticateAsClient(options);
        }
        catch
        {
            client.Dispose();
            throw;
        }

        return client;
    }

    public HttpResponse Get(string target, params string[] headers) =>
        Send(RawClient.Request("GET", target, headers)).ReadResponse();

    public TlsClient Send(string text) => Send(System.Text.Encoding.Latin1.GetBytes(text));

    public TlsClient Send(ReadOnlySpan<byte> bytes)
    {
        Stream.Write(bytes);
        return this;
    }

    public HttpResponse ReadResponse()
    {
        byte[] buffer = new byte[64 * 1024];
        bool ended = false;
        while (true)
        {
            if (HttpResponse.Parse(_pending, false, ended) is { } response && (response.IsComplete || ended))
            {
                _pending = _pending[response.Raw.Length..];
                return response;
            }

            if (ended)
            {
                throw new EndOfStreamException(System.Text.Encoding.Latin1.GetString(_pending));
            }

            int count = Stream.Read(buffer);
            ended = count == 0;
            _pending = [.. _pending, .. buffer.AsSpan(0, count)];
        }
    }

    /// <summary>Whether the server ends the connection in order, without another byte.</summary>
    public bool WaitClosed() => _pending.Length == 0 && Stream.Read(new byte[1]) == 0;

    public void Dispose()
    {
        Stream.Dispose();
        _socket.Dispose();
    }
}
