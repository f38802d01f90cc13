// A configuration in nginx's language around an ASP.NET Core application: one loop on a thread of its own serves
// it, and the locations that name the application hand their requests over inside the process.
using Weir.Conf;
using Weir.Loop;
using Weir.Server;

namespace Weir.AspNetCore;

internal sealed class ConfiguredServer
{
    private const int CutOffMs = 1500;

    private readonly WebServerOptions _options;
    private readonly EpollLoop _loop = new();
    private readonly TaskCompletionSource<List<string>> _started =
        new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private WebServer? _server;
    private bool _isStopping;

    internal ConfiguredServer(WebServerOptions options, string name, HostedApplication application)
    {
        var applications = new Dictionary<string, HostedApplication>(options.Applications) { [name] = application };
        _options = options with { Applications = applications };
    }

    /// <summary>The addresses it listens on.</summary>
    /// <exception cref="InvalidOperationException">The configuration cannot be served, and why.</exception>
    internal Task<List<string>> StartAsync()
    {
        var thread = new Thread(Run) { IsBackground = true, Name = "weir-loop" };
        thread.Start();
        return _started.Task;
    }

    internal async Task StopAsync(CancellationToken hurry)
    {
        if (_server is null || _isStopping)
        {
            return;
        }
        _isStopping = true;
        _loop.Post(_server.Quit);
        if (await Task.WhenAny(_ended.Task, Task.Delay(Timeout.Infinite, hurry)) != _ended.Task)
        {
            _loop.Post(_server.CutOff);
            // A handler that never comes back keeps the loop's thread.
            await Task.WhenAny(_ended.Task, Task.Delay(CutOffMs, CancellationToken.None));
        }
    }

    /// <summary>All is served, but code of the application has not come back: the loop is left to it.</summary>
    private void EndWithoutHandlers()
    {
        if (!_loop.IsStopping)
        {
            _server!.Http.FlushLogs();
            _ended.TrySetResult();
        }
    }

    private void Run()
    {
        try
        {
            _server = WebServer.TryStart(_loop, _options, out ConfErrors errors);
            if (_server is null)
            {
                _started.SetException(new InvalidOperationException("the configuration cannot be served:\n"
                    + string.Join('\n', errors.All.Select(static e => e.Format()))));
                _loop.Dispose();
                return;
            }
            _server.Drained = () => _loop.Ready(EndWithoutHandlers);
            _server.HandlersEnded = _loop.Stop;
            _started.SetResult([.. _server.Http.Bindings.Select(static b =>
                (b.Group.Tls ? "https://" : "http://") + b.Spec.Address)]);
        }
        catch (Exception e)
        {
            _started.TrySetException(e);
            return;
        }
        _loop.Run();
        _server.Dispose();
        _loop.Dispose();
        _ended.TrySetResult();
    }
}
