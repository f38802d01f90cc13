// The server that a host starts and stops: addresses in, listeners out, the application handed to the loops.
// Called by the host's threads; what it starts has threads of its own.
using System.Globalization;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Weir.Server;

namespace Weir.AspNetCore;

internal sealed class WeirHostServer : IServer
{
    private const string DefaultUrl = "http://localhost:5000";

    private readonly WeirServerOptions _options;
    private readonly WeirConfiguration? _configuration;
    private readonly bool _isDevelopment;
    private readonly ILogger _log;
    private readonly ILogger _requestLog;
    private readonly Addresses _addresses = new();
    private AppServer? _server;
    private ConfiguredServer? _configured;

    public WeirHostServer(IOptions<WeirServerOptions> options, ILoggerFactory loggers,
        IConfiguration? configuration = null, IHostEnvironment? environment = null)
    {
        _options = options.Value;
        _isDevelopment = environment?.IsDevelopment() ?? false;
        _configuration = configuration is null ? null
            : new WeirConfiguration(configuration.GetSection("Weir"), environment?.ContentRootPath ?? "");
        _log = loggers.CreateLogger("Weir.Server");
        _requestLog = loggers.CreateLogger("Weir.AspNetCore");
        Features.Set<IServerAddressesFeature>(_addresses);
    }

    public IFeatureCollection Features { get; } = new FeatureCollection();

    public async Task StartAsync<TContext>(IHttpApplication<TContext> application, CancellationToken cancellationToken)
        where TContext : notnull
    {
        ArgumentNullException.ThrowIfNull(application);
        if (_server is not null || _configured is not null)
        {
            throw new InvalidOperationException("a server starts once");
        }
        var guest = new AspNetApplication<TContext>(application, new AspNetServerSettings
        {
            AllowSynchronousIO = _options.AllowSynchronousIO,
            MaxRequestBodySize = _options.Limits.MaxRequestBodySize,
            InstanceName = string.Create(CultureInfo.InvariantCulture,
                $"{(uint)Environment.ProcessId:X}{(uint)Environment.TickCount64:X}-"),
            Log = _requestLog,
        });
        if (_options.Configuration is { } configuration)
        {
            _configured = new ConfiguredServer(configuration, _options.ApplicationName,
                new HostedApplication(guest, _options.Requests == RequestPlacement.Inline));
            Show(await _configured.StartAsync());
            return;
        }
        _configuration?.AddEndpoints(_options);
        ServerAddress[] addresses = [.. Wanted().Select(ServerAddress.Parse)];
        AppServerOptions options = ServerOptions();
        foreach (ServerAddress address in addresses)
        {
            Listen(options, address);
        }
        var server = new AppServer(options);
        server.Start(guest);
        _server = server;
        var bound = new List<string>();
        int at = 0;
        foreach (ServerAddress address in addresses)
        {
            bound.Add(address.Bound([.. server.Addresses.Skip(at).Take(address.Listeners.Count)]));
            at += address.Listeners.Count;
        }
        Show(bound);
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        if (_server is not null)
        {
            await _server.StopAsync(cancellationToken);
        }
        if (_configured is not null)
        {
            await _configured.StopAsync(cancellationToken);
        }
    }

    public void Dispose()
    {
        using var now = new CancellationTokenSource();
        now.Cancel();
        StopAsync(now.Token).GetAwaiter().GetResult();
    }

    /// <summary>The addresses of the options, unless the host's are preferred; the host's; or the usual one.</summary>
    private IReadOnlyList<string> Wanted()
    {
        bool own = _options.Listen.Count > 0;
        if (own && !(_addresses.PreferHostingUrls && _addresses.List.Count > 0))
        {
            if (_addresses.List.Count > 0 && _log.IsEnabled(LogLevel.Warning))
            {
                _log.LogWarning("the addresses of the options are served, not {Addresses}",
                    string.Join(", ", _addresses.List));
            }
            return [.. _options.Listen];
        }
        return _addresses.List.Count > 0 ? [.. _addresses.List] : [DefaultUrl];
    }

    private void Listen(AppServerOptions options, ServerAddress address)
    {
        if (!address.IsHttps)
        {
            foreach (string listener in address.Listeners)
            {
                options.Listen.Add(listener);
            }
            return;
        }
        HttpsOptions https = _options.Https.Clone();
        _options.Configure(address.Url, https);
        https.Certificate ??= _configuration?.DefaultCertificate() ?? Development() ?? throw
            new InvalidOperationException($"\"{address.Url}\" needs a certificate: set options.Https.Certificate "
                + "(ServerCertificate.FromPemFile, FromPfxFile, From), or Weir:Certificates:Default:Path in the "
                + "configuration. In the Development environment one of this machine alone is used.");
        foreach (string listener in address.Listeners)
        {
            options.ListenHttps(listener, https);
        }
    }

    private ServerCertificate? Development()
    {
        if (!_isDevelopment)
        {
            return null;
        }
        DevelopmentCertificate made = DevelopmentCertificate.Ensure();
        if (made.IsNew && _log.IsEnabled(LogLevel.Information))
        {
            _log.LogInformation("{HowToTrust}", made.HowToTrust);
        }
        return ServerCertificate.FromPemFile(made.CertificatePath, made.KeyPath);
    }

    private void Show(IEnumerable<string> bound)
    {
        _addresses.List.Clear();
        _addresses.List.AddRange(bound);
    }

    private AppServerOptions ServerOptions()
    {
        WeirServerLimits limits = _options.Limits;
        bool inline = _options.Requests == RequestPlacement.Inline;
        int loops = _options.Loops > 0 ? _options.Loops
            : inline ? Environment.ProcessorCount : Math.Max(1, Environment.ProcessorCount / 2);
        return new AppServerOptions
        {
            Concurrency = inline ? Concurrency.EventDriven(loops) : Concurrency.EventDrivenWithTaskPool(loops),
            Engine = _options.Engine,
            Backlog = _options.Backlog,
            MaxConnections = limits.MaxConcurrentConnections,
            HeaderTimeout = limits.RequestHeadTimeout,
            BodyTimeout = limits.RequestBodyTimeout,
            SendTimeout = limits.SendTimeout,
            IdleTimeout = limits.KeepAliveTimeout,
            KeepAliveRequests = limits.MaxRequestsPerConnection,
            // The limit may differ from request to request; it is kept where the application reads.
            MaxBodyBytes = 0,
            MaxHeadBytes = limits.MaxRequestHeadSize,
            ServerName = _options.ServerHeader,
            Http2 = limits.Http2,
            Http2MaxStreams = limits.Http2MaxStreams,
            Http2BodyWindowBytes = limits.Http2BodyWindowBytes,
            // How long a stop may take is the host's to say: it cancels the token.
            StopTimeout = TimeSpan.FromDays(10),
            // ASP.NET Core measures requests itself, under the same names.
            RequestMetrics = false,
            LogLevel = LevelOf(_log),
            Log = Write,
        };
    }

    private static AppLogLevel LevelOf(ILogger log) =>
        log.IsEnabled(LogLevel.Debug) ? AppLogLevel.Debug
        : log.IsEnabled(LogLevel.Information) ? AppLogLevel.Information
        : log.IsEnabled(LogLevel.Warning) ? AppLogLevel.Warning : AppLogLevel.Error;

    private void Write(AppLogLevel level, string line)
    {
        LogLevel as_ = level switch
        {
            AppLogLevel.Debug => LogLevel.Debug,
            AppLogLevel.Information => LogLevel.Information,
            AppLogLevel.Warning => LogLevel.Warning,
            _ => LogLevel.Error,
        };
        if (_log.IsEnabled(as_))
        {
            _log.Log(as_, default, line, null, static (text, _) => text);
        }
    }

    private sealed class Addresses : IServerAddressesFeature
    {
        internal List<string> List { get; } = [];

        ICollection<string> IServerAddressesFeature.Addresses => List;

        public bool PreferHostingUrls { get; set; }
    }
}
