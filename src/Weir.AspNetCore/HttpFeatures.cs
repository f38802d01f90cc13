// What ASP.NET Core's middleware asks a server for, of one request: the collection of features, and the life of a
// request from its head to its end. One object per exchange, reused with it, so that neither features nor an
// HttpContext are made per request. The code of one request uses it at a time; what is known about the client
// going comes from the loop.
using System.Collections;
using System.Globalization;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting.Server.Abstractions;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Routing;
using Weir.Server;

namespace Weir.AspNetCore;

/// <summary>The features of one request.</summary>
internal partial class HttpFeatures : IFeatureCollection, IHttpRequestIdentifierFeature, IHttpConnectionFeature,
    IHttpRequestLifetimeFeature, IPersistentStateFeature, IHttpBodyControlFeature, IEndpointFeature,
    IRouteValuesFeature
{
    private static readonly Type[] s_own =
    [
        typeof(IHttpRequestFeature), typeof(IHttpResponseFeature), typeof(IHttpResponseBodyFeature),
        typeof(IRequestBodyPipeFeature), typeof(IHttpRequestIdentifierFeature), typeof(IHttpConnectionFeature),
        typeof(IHttpRequestLifetimeFeature), typeof(IHttpRequestBodyDetectionFeature),
        typeof(IHttpMaxRequestBodySizeFeature), typeof(IHttpUpgradeFeature), typeof(IHttpResponseTrailersFeature),
        typeof(IHttpRequestTrailersFeature), typeof(IHttpBodyControlFeature), typeof(IPersistentStateFeature),
        typeof(IEndpointFeature), typeof(IRouteValuesFeature), typeof(IBadRequestExceptionFeature),
    ];

    private (Type Type, object? Feature)[] _set = new (Type, object?)[6];
    private int _setCount;
    private string? _traceIdentifier;
    private string? _connectionId;
    private CancellationToken? _aborted;
    private ConnectionAddresses _addresses;
    private RouteValueDictionary? _routeValues;

    internal HttpFeatures(AspNetServerSettings settings)
    {
        Settings = settings;
        _responseBody = new ResponseBody(this);
        _responseStream = new ResponseStream(_responseBody);
    }

    internal AspNetServerSettings Settings { get; }

    internal GuestExchange Exchange { get; private set; } = null!;

    private struct ConnectionAddresses
    {
        internal bool AreKnown;
        internal System.Net.IPAddress? Remote, Local;
        internal int RemotePort, LocalPort;
    }

    // The life of a request.

    internal void Begin(GuestExchange exchange)
    {
        Exchange = exchange;
        BeginRequest(exchange);
        BeginResponse(exchange);
        AllowSynchronousIO = Settings.AllowSynchronousIO;
    }

    /// <summary>Nothing of this request is reachable from here any more.</summary>
    internal void End()
    {
        EndRequest();
        EndResponse();
        Array.Clear(_set, 0, _setCount);
        _setCount = 0;
        _traceIdentifier = null;
        _connectionId = null;
        _aborted = null;
        _addresses = default;
        Endpoint = null;
        _routeValues = null;
        _tls = null;
        _connection = null;
        Revision++;
    }

    // IFeatureCollection.

    public bool IsReadOnly => false;

    public int Revision { get; private set; }

    public object? this[Type key]
    {
        get
        {
            ArgumentNullException.ThrowIfNull(key);
            return TryFind(key, out object? found) ? found : Array.IndexOf(s_own, key) >= 0 ? this : Special(key);
        }

        set => SetFeature(key, value);
    }

    public TFeature? Get<TFeature>()
    {
        // A few types in a row: faster than any table.
        if (_setCount > 0 && TryFind(typeof(TFeature), out object? found))
        {
            return (TFeature?)found;
        }
        return this is TFeature own ? own : (TFeature?)Special(typeof(TFeature));
    }

    private static readonly Type[] s_special =
    [
        typeof(ITlsConnectionFeature), typeof(ITlsHandshakeFeature), typeof(IHttpResetFeature),
        typeof(IHttpExtendedConnectFeature), typeof(IConnectionIdFeature), typeof(IConnectionEndPointFeature),
        typeof(IConnectionItemsFeature),
    ];

    private TlsFeatures? _tls;
    private ResetFeature? _reset;
    private ExtendedConnectFeature? _connect;
    private ConnectionFeatures? _connection;

    /// <summary>What only some connections have, TLS and HTTP/2, and what hardly anybody asks for.</summary>
    private object? Special(Type key)
    {
        if (key == typeof(ITlsConnectionFeature) || key == typeof(ITlsHandshakeFeature))
        {
            return Exchange.Security is { } security ? _tls ??= new TlsFeatures(security) : null;
        }
        if (key == typeof(IConnectionIdFeature) || key == typeof(IConnectionEndPointFeature)
            || key == typeof(IConnectionItemsFeature))
        {
            return _connection ??= new ConnectionFeatures(this);
        }
        return key == typeof(IHttpExtendedConnectFeature) ? _connect ??= new ExtendedConnectFeature(this)
            : key == typeof(IHttpResetFeature) && Exchange.Version >= 20 ? _reset ??= new ResetFeature(this) : null;
    }

    public void Set<TFeature>(TFeature? instance) => SetFeature(typeof(TFeature), instance);

    private bool TryFind(Type key, out object? found)
    {
        (Type Type, object? Feature)[] set = _set;
        for (int i = 0; i < _setCount; i++)
        {
            if (set[i].Type == key)
            {
                found = set[i].Feature;
                return true;
            }
        }
        found = null;
        return false;
    }

    private void SetFeature(Type key, object? value)
    {
        Revision++;
        for (int i = 0; i < _setCount; i++)
        {
            if (_set[i].Type == key)
            {
                _set[i].Feature = value;
                return;
            }
        }
        if (_setCount == _set.Length)
        {
            Array.Resize(ref _set, _setCount * 2);
        }
        _set[_setCount++] = (key, value);
    }

    public IEnumerator<KeyValuePair<Type, object>> GetEnumerator()
    {
        foreach (Type own in s_own)
        {
            if (!TryFind(own, out _))
            {
                yield return new KeyValuePair<Type, object>(own, this);
            }
        }
        foreach (Type special in s_special)
        {
            if (!TryFind(special, out _) && Special(special) is { } feature)
            {
                yield return new KeyValuePair<Type, object>(special, feature);
            }
        }
        for (int i = 0; i < _setCount; i++)
        {
            if (_set[i].Feature is { } feature)
            {
                yield return new KeyValuePair<Type, object>(_set[i].Type, feature);
            }
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    // Routing's two features live here so that it makes none per request.

    public Endpoint? Endpoint { get; set; }

    RouteValueDictionary IRouteValuesFeature.RouteValues
    {
        get => _routeValues ??= [];
        set => _routeValues = value;
    }

    // The connection.

    public string ConnectionId
    {
        get => _connectionId ??= string.Create(CultureInfo.InvariantCulture,
            $"{Settings.InstanceName}{Exchange.ConnectionNumber:X6}");
        set => _connectionId = value;
    }

    public string TraceIdentifier
    {
        get => _traceIdentifier ??= string.Create(CultureInfo.InvariantCulture,
            $"{ConnectionId}:{Exchange.RequestNumber:X8}");
        set => _traceIdentifier = value;
    }

    public System.Net.IPAddress? RemoteIpAddress
    {
        get => Addresses().Remote;
        set => Addresses().Remote = value;
    }

    public System.Net.IPAddress? LocalIpAddress
    {
        get => Addresses().Local;
        set => Addresses().Local = value;
    }

    public int RemotePort
    {
        get => Addresses().RemotePort;
        set => Addresses().RemotePort = value;
    }

    public int LocalPort
    {
        get => Addresses().LocalPort;
        set => Addresses().LocalPort = value;
    }

    private ref ConnectionAddresses Addresses()
    {
        if (!_addresses.AreKnown)
        {
            _addresses.AreKnown = true;
            if (Exchange.RemoteEndPoint is System.Net.IPEndPoint remote)
            {
                (_addresses.Remote, _addresses.RemotePort) = (remote.Address, remote.Port);
            }
            if (Exchange.LocalEndPoint is System.Net.IPEndPoint local)
            {
                (_addresses.Local, _addresses.LocalPort) = (local.Address, local.Port);
            }
        }
        return ref _addresses;
    }

    public IDictionary<object, object?> State
    {
        get
        {
            if (Exchange.ConnectionState is not IDictionary<object, object?> state)
            {
                state = new Dictionary<object, object?>();
                Exchange.ConnectionState = state;
            }
            return state;
        }
    }

    public CancellationToken RequestAborted
    {
        get => _aborted ?? Exchange.Aborted;
        set => _aborted = value;
    }

    public void Abort() => Exchange.Abort();

    public bool AllowSynchronousIO { get; set; }

    internal void CheckSynchronous(string what)
    {
        if (!AllowSynchronousIO)
        {
            throw new InvalidOperationException(
                $"synchronous operations are disallowed: call {what}Async, or set AllowSynchronousIO to true");
        }
    }
}

/// <summary>The same, with a place for what the hosting layer keeps from request to request.</summary>
internal sealed class HttpFeatures<TContext>(AspNetServerSettings settings) : HttpFeatures(settings),
    IHostContextContainer<TContext> where TContext : notnull
{
    public TContext? HostContext { get; set; }
}

/// <summary>What requests need to know of their server.</summary>
internal sealed class AspNetServerSettings
{
    internal required bool AllowSynchronousIO { get; init; }
    internal required long? MaxRequestBodySize { get; init; }
    internal required string InstanceName { get; init; }
    internal required Microsoft.Extensions.Logging.ILogger Log { get; init; }
}
