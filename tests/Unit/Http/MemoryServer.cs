// The whole HTTP server on the in-memory engine: a configuration as text, connections as byte strings, a virtual clock.
using Weir.Conf;
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;
using Weir.Server;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Http;

internal sealed class MemoryServer : IDisposable
{
    private readonly WebServer _server;
    private readonly string _errorLog = Path.Combine(Path.GetTempPath(), "weir-memory-" + Path.GetRandomFileName());

    public MemoryServer(string servers, string main = "")
    {
        Loop = new InMemoryLoop { WindowBytes = 1 << 20 };
        Loop.Adopt();
        Loop.Fault = e => Fault = e;
        WebServer? server = WebServer.TryStart(Loop, Options(servers, main), out ConfErrors errors);
        Assert.True(server is not null, string.Join('\n', errors.All.Select(static e => e.Format())));
        _server = server;
    }

    private WebServerOptions Options(string servers, string main) => WebServerOptions.FromText(
        $"{main} error_log {_errorLog} info; events {{}} http {{ {servers} }}", "/nonexistent");

    public string ErrorLog => File.ReadAllText(_errorLog);

    public InMemoryLoop Loop { get; }
    public HttpServer Http => _server.Http;
    public CounterSlot Counters => _server.Counters;
    public Exception? Fault { get; private set; }

    /// <summary>Builds a configuration and makes it current, as a reload does.</summary>
    public HttpConfiguration Apply(string servers, string main = "")
    {
        bool applied = _server.TryReload(Options(servers, main), out ConfErrors errors);
        Assert.True(applied, string.Join('\n', errors.All.Select(static e => e.Format())));
        return Http.Configuration!;
    }

    public InMemoryPeer Connect(int port = 80) => Loop.Connect(SocketAddress.Parse($"127.0.0.1:{port}").Native);

    /// <summary>Sends bytes and returns what the server answered at once.</summary>
    public string Exchange(InMemoryPeer peer, string bytes)
    {
        peer.Send(bytes);
        Settle();
        return peer.ReadText();
    }

    /// <summary>Runs what can run without time passing.</summary>
    public void Settle()
    {
        for (int i = 0; i < 50; i++)
        {
            Loop.RunTurn(0);
        }
        Assert.Null(Fault);
    }

    public void Dispose()
    {
        _server.Dispose();
        Loop.Dispose();
        File.Delete(_errorLog);
    }
}
