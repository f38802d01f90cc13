// Features that only some connections have, those of TLS and of HTTP/2, and those of connections that few ask for.
// Made when somebody asks, for the request that asks; the rest of the time nobody pays for them.
using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http.Features;
using Weir.Server;

namespace Weir.AspNetCore;

/// <summary>The TLS of a request's connection.</summary>
internal sealed class TlsFeatures(ConnectionSecurity security) : ITlsConnectionFeature, ITlsHandshakeFeature
{
    private X509Certificate2? _set;
    private bool _isSet;

    internal ConnectionSecurity Security => security;

    public X509Certificate2? ClientCertificate
    {
        get => _isSet ? _set : security.ClientCertificate;
        set
        {
            _set = value;
            _isSet = true;
        }
    }

    /// <summary>It was shown in the handshake or not at all: connections are not renegotiated.</summary>
    public Task<X509Certificate2?> GetClientCertificateAsync(CancellationToken cancellationToken) =>
        Task.FromResult(ClientCertificate);

    public SslProtocols Protocol => security.Protocol;

    public TlsCipherSuite? NegotiatedCipherSuite => security.CipherSuite;

    public string HostName => security.HostName;

    // The parts of a suite, as its name says them; where TLS 1.3 knows no such part there is none.
#pragma warning disable SYSLIB0058
    public CipherAlgorithmType CipherAlgorithm => Name switch
    {
        var n when n.Contains("_AES_128_", StringComparison.Ordinal) => CipherAlgorithmType.Aes128,
        var n when n.Contains("_AES_256_", StringComparison.Ordinal) => CipherAlgorithmType.Aes256,
        _ => CipherAlgorithmType.None,
    };

    public int CipherStrength => Name switch
    {
        var n when n.Contains("_128_", StringComparison.Ordinal) => 128,
        var n when n.Contains("_256_", StringComparison.Ordinal)
            || n.Contains("CHACHA20", StringComparison.Ordinal) => 256,
        _ => 0,
    };

    public HashAlgorithmType HashAlgorithm => Name switch
    {
        var n when n.EndsWith("_SHA256", StringComparison.Ordinal) => HashAlgorithmType.Sha256,
        var n when n.EndsWith("_SHA384", StringComparison.Ordinal) => HashAlgorithmType.Sha384,
        var n when n.EndsWith("_SHA", StringComparison.Ordinal) => HashAlgorithmType.Sha1,
        _ => HashAlgorithmType.None,
    };

    public int HashStrength => 0;

    public ExchangeAlgorithmType KeyExchangeAlgorithm =>
        Name.StartsWith("TLS_RSA_", StringComparison.Ordinal) ? ExchangeAlgorithmType.RsaKeyX
        : Name.StartsWith("TLS_DHE_", StringComparison.Ordinal) ? ExchangeAlgorithmType.DiffieHellman
        : ExchangeAlgorithmType.None;

    public int KeyExchangeStrength => 0;
#pragma warning restore SYSLIB0058

    private string Name => security.CipherSuite.ToString();
}

/// <summary>What is known of a request's connection, in the words of those who think in connections.</summary>
internal sealed class ConnectionFeatures(HttpFeatures features) : IConnectionIdFeature, IConnectionEndPointFeature,
    IConnectionItemsFeature
{
    private EndPoint? _local, _remote;
    private IDictionary<object, object?>? _items;

    public string ConnectionId
    {
        get => features.ConnectionId;
        set => features.ConnectionId = value;
    }

    public EndPoint? LocalEndPoint
    {
        get => _local ?? features.Exchange.LocalEndPoint;
        set => _local = value;
    }

    public EndPoint? RemoteEndPoint
    {
        get => _remote ?? features.Exchange.RemoteEndPoint;
        set => _remote = value;
    }

    /// <summary>They live as long as the connection.</summary>
    public IDictionary<object, object?> Items
    {
        get => _items ?? ((IPersistentStateFeature)features).State;
        set => _items = value;
    }
}

/// <summary>What HTTP/2 can do to a request alone.</summary>
internal sealed class ResetFeature(HttpFeatures features) : IHttpResetFeature
{
    public void Reset(int errorCode) => features.Exchange.Reset(errorCode);
}

/// <summary>A tunnel in a stream (RFC 8441).</summary>
internal sealed class ExtendedConnectFeature(HttpFeatures features) : IHttpExtendedConnectFeature
{
    public bool IsExtendedConnect => features.Exchange.IsExtendedConnect;

    public string? Protocol => IsExtendedConnect ? RequestHeaderTable.Decode(features.Exchange.UpgradeProtocol) : null;

    public ValueTask<Stream> AcceptAsync() => features.AcceptConnectAsync();
}
