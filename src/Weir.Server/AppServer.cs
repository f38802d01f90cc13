// An application server in this process: one handler under the concurrency model of the caller's choice. Opens sockets,
// starts the model, stops it. No signal handlers, no child processes, nothing static: a program may have many.
using Weir.Kernel;

namespace Weir.Server;

/// <summary>Serves HTTP/1.1, HTTPS and HTTP/2 with a handler, under one of several concurrency models.</summary>
/// <example><code>
/// var options = new AppServerOptions { Concurrency = Concurrency.ThreadPool(threads: 10, queue: 100) };
/// options.Listen.Add("127.0.0.1:8080");
/// new AppServer(options).Run((request, response) => response.Write("Hello World\n"));
/// </code></example>
public sealed class AppServer : IAsyncDisposable, IDisposable
{
    private readonly AppServerOptions _options;
    private readonly AppCounters _counters;
    private readonly Log _log;
    private readonly Lock _gate = new();
    private readonly TaskCompletionSource _stopped = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private AppInstruments? _instruments;
    private ServerModel? _model;
    private Task? _stopping;

    /// <summary>Makes a server; it serves from <see cref="Start(GuestApplication)"/> or Run on.</summary>
    public AppServer(AppServerOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _counters = new AppCounters(options.Observer);
        LogLevel level = CallbackSink.LevelOf(options.LogLevel);
        _log = new Log(options.Log is { } write ? new CallbackSink(write, level) : new FileLogSink(2, level));
    }

    /// <summary>What it listens on, as bound: a port of 0 has become a real one, "https://" stays before an address
    /// that speaks TLS. Empty before the start.</summary>
    public IReadOnlyList<string> Addresses { get; private set; } = [];

    /// <summary>The port of the first address; 0 before the start and for unix sockets.</summary>
    public int Port { get; private set; }

    /// <summary>The model it serves under.</summary>
    public Concurrency Concurrency => _options.Concurrency;

    /// <summary>What it is doing now.</summary>
    public AppServerMetrics GetMetrics() => _counters.Snapshot();

    /// <summary>Ends when the server has stopped.</summary>
    public Task Stopped => _stopped.Task;

    /// <summary>Serves until <see cref="StopAsync"/>, or until the token is cancelled.</summary>
    public void Run(Action<AppRequest, AppResponse> handler, CancellationToken stop = default)
    {
        Start(handler);
        WaitForStop(stop);
    }

    /// <summary>Serves until <see cref="StopAsync"/>, or until the token is cancelled.</summary>
    public void Run(Func<AppRequest, AppResponse, Task> handler, CancellationToken stop = default)
    {
        Start(handler);
        WaitForStop(stop);
    }

    /// <summary>Begins to serve and returns.</summary>
    /// <exception cref="IOException">An address cannot be had; the message says who has it.</exception>
    public void Start(Action<AppRequest, AppResponse> handler)
    {
        ArgumentNullException.ThrowIfNull(handler);
        Start(new SyncHandlerApplication(handler));
    }

    /// <summary>Begins to serve and returns.</summary>
    /// <exception cref="IOException">An address cannot be had; the message says who has it.</exception>
    public void Start(Func<AppRequest, AppResponse, Task> handler)
    {
        ArgumentNullException.ThrowIfNull(handler);
        Start(new AsyncHandlerApplication(handler));
    }

    /// <summary>Begins to serve an application at the border itself and returns.</summary>
    /// <exception cref="IOException">An address cannot be had; the message says who has it.</exception>
    public void Start(GuestApplication application)
    {
        ArgumentNullException.ThrowIfNull(application);
        lock (_gate)
        {
            if (_model is not null)
            {
                throw new InvalidOperationException("a server serves once");
            }
            List<OpenListener> listeners = OpenListener.OpenAll(_options, _log);
            _instruments = !_options.Metrics ? null
                : new AppInstruments(_counters, _options.Concurrency.Name, _options.RequestMetrics);
            _counters.Instruments = _instruments;
            ServerModel model = _options.Concurrency.Kind switch
            {
                ConcurrencyKind.Sequential => new SequentialModel(_options, application, _counters, _log, _instruments),
                ConcurrencyKind.ThreadPerConnection => new ThreadPerConnectionModel(_options, application, _counters,
                    _log, _instruments),
                ConcurrencyKind.ThreadPool => new ThreadPoolModel(_options, application, _counters, _log, _instruments),
                _ => new EventDrivenModel(_options, application, _counters, _log, _instruments),
            };
            try
            {
                model.Start(listeners);
            }
            catch
            {
                foreach (OpenListener listener in listeners)
                {
                    listener.Close();
                }
                throw;
            }
            _model = model;
            Addresses = [.. listeners.Select(static l => l.Text)];
            Port = listeners[0].Address.Port;
        }
    }

    /// <summary>Stops accepting, finishes what runs, closes. After <see cref="AppServerOptions.StopTimeout"/>, or when
    /// the token is cancelled, what still runs is cut off.</summary>
    public Task StopAsync(CancellationToken hurry = default)
    {
        lock (_gate)
        {
            return _stopping ??= StopOnceAsync(hurry);
        }
    }

    private async Task StopOnceAsync(CancellationToken hurry)
    {
        await Task.Yield();
        if (_model is not null)
        {
            await _model.StopAsync(_options.StopTimeout, hurry);
        }
        _instruments?.Dispose();
        _stopped.TrySetResult();
    }

    private void WaitForStop(CancellationToken stop)
    {
        using CancellationTokenRegistration registration = stop.Register(() => StopAsync());
        _stopped.Task.GetAwaiter().GetResult();
    }

    /// <summary>Stops; see <see cref="StopAsync"/>.</summary>
    public async ValueTask DisposeAsync() => await StopAsync();

    /// <summary>Stops and waits for it; see <see cref="StopAsync"/>.</summary>
    public void Dispose() => StopAsync().GetAwaiter().GetResult();
}
