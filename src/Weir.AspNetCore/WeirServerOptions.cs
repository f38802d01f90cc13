// How the server of an ASP.NET Core application listens and what it allows. Plain values with defaults, read once when
// the server starts.
using Weir.Server;

namespace Weir.AspNetCore;

/// <summary>Where the code of requests runs.</summary>
public enum RequestPlacement
{
    /// <summary>On the runtime's thread pool, which is right for any application.</summary>
    ThreadPool,

    /// <summary>On the event loop itself: no hop between threads, for applications that never block. Code that holds
    /// the thread stalls every connection of its loop.</summary>
    Inline,
}

/// <summary>The options of <c>UseWeir</c>.</summary>
public sealed class WeirServerOptions
{
    /// <summary>Where the code of requests runs.</summary>
    public RequestPlacement Requests { get; set; } = RequestPlacement.ThreadPool;

    /// <summary>Event loops; 0 takes one per processor for <see cref="RequestPlacement.Inline"/> and one per two
    /// processors otherwise.</summary>
    public int Loops { get; set; }

    /// <summary>How the loops ask the kernel: io_uring where it may be used, unless one is named.</summary>
    public LoopEngine Engine { get; set; }

    /// <summary>Addresses beside those of <c>UseUrls</c> and <c>ASPNETCORE_URLS</c>, in the same form:
    /// "http://127.0.0.1:8080", "http://*:80", "http://unix:/run/app.sock". When there are any, those of the
    /// environment are not used, unless the host prefers them. "https://" addresses, here and in the environment, speak
    /// TLS as <see cref="Https"/> says.</summary>
    public IList<string> Listen { get; } = [];

    /// <summary>The TLS of https:// addresses. Without a certificate here and in the configuration (section
    /// <c>Weir:Certificates:Default</c>), a program in its Development environment uses the certificate of the
    /// machine's developer, <see cref="DevelopmentCertificate"/>.</summary>
    public HttpsOptions Https { get; } = new();

    /// <summary>Adds an https:// address with settings of its own that begin as those of <see cref="Https"/>.</summary>
    public void ListenHttps(string url, Action<HttpsOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(url);
        ArgumentNullException.ThrowIfNull(configure);
        if (!url.StartsWith(AddressScheme.Https, StringComparison.OrdinalIgnoreCase))
        {
            throw new ArgumentException($"\"{url}\" does not begin with https://", nameof(url));
        }
        string own = new(url);
        Listen.Add(own);
        _https[own] = configure;
    }

    // By the very string: two addresses may ask for "any port" in the same words.
    private readonly Dictionary<string, Action<HttpsOptions>> _https = new(ReferenceEqualityComparer.Instance);

    internal void Configure(string url, HttpsOptions https)
    {
        if (_https.TryGetValue(url, out Action<HttpsOptions>? configure))
        {
            configure(https);
        }
    }

    /// <summary>Connections that the kernel completes and keeps before they are accepted.</summary>
    public int Backlog { get; set; } = 511;

    /// <summary>Whether bodies may be read and written while holding the thread.</summary>
    public bool AllowSynchronousIO { get; set; }

    /// <summary>The Server field of answers; empty for none. An application that sets one wins.</summary>
    public string ServerHeader { get; set; } = "weir";

    /// <summary>What clients may ask for.</summary>
    public WeirServerLimits Limits { get; } = new();

    /// <summary>A configuration in the language of nginx that is served instead of addresses: a location of it says
    /// <c>app_pass aspnetcore;</c> (or <see cref="ApplicationName"/>) where requests belong to this application, and
    /// whatever else the configuration says holds around it. Its own directives take the place of
    /// <see cref="Limits"/>, <see cref="Listen"/> and <see cref="Backlog"/>.</summary>
    public WebServerOptions? Configuration { get; set; }

    /// <summary>The application's name in <see cref="Configuration"/>.</summary>
    public string ApplicationName { get; set; } = "aspnetcore";
}

/// <summary>What clients may ask for, and how long they may take.</summary>
public sealed class WeirServerLimits
{
    /// <summary>Bytes of a request's body at most; null for any number. Middleware and attributes may change it for a
    /// request.</summary>
    public long? MaxRequestBodySize { get; set; } = 30_000_000;

    /// <summary>Bytes of a request's head at most.</summary>
    public int MaxRequestHeadSize { get; set; } = 32 * 1024;

    /// <summary>Whether clients may speak HTTP/2: over TLS by ALPN, without it by prior knowledge.</summary>
    public bool Http2 { get; set; } = true;

    /// <summary>Requests that an HTTP/2 connection may have under way.</summary>
    public int Http2MaxStreams { get; set; } = 100;

    /// <summary>Bytes of a body that an HTTP/2 client may send before the application reads.</summary>
    public int Http2BodyWindowBytes { get; set; } = 64 * 1024;

    /// <summary>Connections at most; one beyond takes the place of the longest idle one, or is refused.</summary>
    public int MaxConcurrentConnections { get; set; } = 10_000;

    /// <summary>Requests of one connection at most.</summary>
    public int MaxRequestsPerConnection { get; set; } = 1_000_000;

    /// <summary>How long a connection may wait for its next request; zero: every answer is the last.</summary>
    public TimeSpan KeepAliveTimeout { get; set; } = TimeSpan.FromSeconds(130);

    /// <summary>How long the head of a request may take.</summary>
    public TimeSpan RequestHeadTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a client may be silent within a body.</summary>
    public TimeSpan RequestBodyTimeout { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a client may take nothing of an answer.</summary>
    public TimeSpan SendTimeout { get; set; } = TimeSpan.FromSeconds(60);
}
