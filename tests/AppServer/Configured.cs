// A configuration in the process of a test, with applications that its locations name.
using Weir.Conf;
using Weir.Loop;
using Weir.Server;
using Xunit;

namespace Weir.Tests.AppServer;

/// <summary>A configuration in this process, served on a thread of its own until it is disposed.</summary>
internal sealed class Configured : IDisposable
{
    private readonly EpollLoop _loop = new();
    private readonly Thread _thread;
    private WebServer? _server;

    public Configured(string text, Dictionary<string, HostedApplication> applications)
    {
        WebServerOptions options = WebServerOptions.FromText(text) with { Applications = applications };
        using var ready = new ManualResetEventSlim();
        string errors = "";
        _thread = new Thread(() =>
        {
            _server = WebServer.TryStart(_loop, options, out ConfErrors found);
            errors = string.Join('\n', found.All.Select(static e => e.Format()));
            ready.Set();
            if (_server is not null)
            {
                _server.Drained = _loop.Stop;
                _loop.Run();
                _loop.CloseConnections();
                _server.Dispose();
            }
        });
        _thread.Start();
        Assert.True(ready.Wait(30_000));
        Assert.True(_server is not null, errors);
    }

    public void Dispose()
    {
        _loop.Post(_server!.Quit);
        Assert.True(_thread.Join(30_000));
        _loop.Dispose();
    }
}
