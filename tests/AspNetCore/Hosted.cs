// An ASP.NET Core application on Weir, on a free port of loopback, and what it logged. Every case runs with the code of
// requests on the thread pool and on the loop.
using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Weir.AspNetCore;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AspNetCore;

/// <summary>A running application.</summary>
public sealed class Hosted : IAsyncDisposable
{
    private readonly LogKeeper _log;

    private Hosted(WebApplication app, LogKeeper log)
    {
        App = app;
        _log = log;
        Url = app.Urls.First();
        Port = Url.StartsWith("http://unix:", StringComparison.Ordinal) ? 0
            : int.Parse(Url[(Url.LastIndexOf(':') + 1)..], System.Globalization.CultureInfo.InvariantCulture);
        string scheme = Url[..Url.IndexOf(':')];
        Client = new HttpClient(AnyCertificate())
        {
            BaseAddress = new Uri(Port == 0 ? "http://unix" : $"{scheme}://127.0.0.1:{Port}"),
        };
    }

    /// <summary>For clients that take whatever certificate is shown.</summary>
    public static SocketsHttpHandler AnyCertificate()
    {
        var handler = new SocketsHttpHandler();
        handler.SslOptions.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
        return handler;
    }

    /// <summary>Makes the client speak this version and no other.</summary>
    public Hosted Speaking(Version version)
    {
        Client.DefaultRequestVersion = version;
        Client.DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact;
        return this;
    }

    /// <summary>Where requests may run.</summary>
    public static readonly RequestPlacement[] Placements = [RequestPlacement.ThreadPool, RequestPlacement.Inline];

    public static TheoryData<RequestPlacement> Everywhere => [.. Placements];

    private static readonly TestAuthority s_authority = new();

    /// <summary>For localhost and 127.0.0.1.</summary>
    public static readonly TestCertificate Issued = s_authority.Issue(names: ["localhost", "127.0.0.1"]);

    private static readonly ServerCertificate s_certificate = ServerCertificate.FromPem(Issued.Pem, Issued.KeyPem);

    public WebApplication App { get; }

    public string Url { get; }

    public int Port { get; }

    public HttpClient Client { get; }

    public string Log => string.Join('\n', _log.Lines);

    public RawClient Connect() => RawClient.Connect(Port);

    public static async Task<Hosted> StartAsync(RequestPlacement placement, Action<WebApplication> map,
        Action<WebApplicationBuilder>? build = null, Action<WeirServerOptions>? set = null, string? root = null,
        string? url = "http://127.0.0.1:0", string environment = "Production")
    {
        WebApplicationBuilder builder = WebApplication.CreateBuilder(new WebApplicationOptions
        {
            ContentRootPath = root,
            WebRootPath = root,
            EnvironmentName = environment,
        });
        var log = new LogKeeper();
        builder.Logging.ClearProviders().AddProvider(log).SetMinimumLevel(LogLevel.Debug);
        if (url is not null)
        {
            builder.WebHost.UseUrls(url);
        }
        builder.WebHost.UseWeir(options =>
        {
            options.Requests = placement;
            options.Loops = 2;
            set?.Invoke(options);
        });
        // A test that fails must not wait for half a minute to say so.
        builder.Services.Configure<HostOptions>(static o => o.ShutdownTimeout = TimeSpan.FromSeconds(10));
        build?.Invoke(builder);
        WebApplication app = builder.Build();
        map(app);
        await app.StartAsync();
        return new Hosted(app, log);
    }

    /// <summary>On an address of this scheme, asked in this version of HTTP.</summary>
    public static async Task<Hosted> StartAsync(RequestPlacement placement, string scheme, string version,
        Action<WebApplication> map, Action<WebApplicationBuilder>? build = null,
        Action<WeirServerOptions>? set = null) => (await StartAsync(placement, map, build, options =>
        {
            options.Https.Certificate = s_certificate;
            set?.Invoke(options);
        }, url: $"{scheme}://127.0.0.1:0")).Speaking(Version.Parse(version));

    public async Task WaitForLogAsync(string text)
    {
        for (int i = 0; i < 3000 && !Log.Contains(text, StringComparison.Ordinal); i++)
        {
            await Task.Delay(10);
        }
        Assert.Contains(text, Log);
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await App.DisposeAsync();
    }

    private sealed class LogKeeper : ILoggerProvider
    {
        internal ConcurrentQueue<string> Lines { get; } = new();

        public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName);

        public void Dispose()
        {
        }

        private sealed class Logger(LogKeeper keeper, string category) : ILogger
        {
            public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

            public bool IsEnabled(LogLevel logLevel) => true;

            public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception,
                Func<TState, Exception?, string> formatter) =>
                keeper.Lines.Enqueue($"{logLevel} {category}: {formatter(state, exception)} {exception}");
        }
    }
}
