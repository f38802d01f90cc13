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
    private readonly CounterSlots _counters = CounterSlots.CreatePrivate();

    public MemoryServer(string servers, string main = "")
    {
        Loop = new InMemoryLoop { WindowBytes = 1 << 20 };
        Loop.Adopt();
        Loop.Fault = e => Fault = e;
        Counters = _counters[_counters.Claim()];
        Http = new HttpServer(Loop, Log.None, Counters);
        Apply(servers, main);
    }

    public InMemoryLoop Loop { get; }
    public HttpServer Http { get; }
    public CounterSlot Counters { get; }
    public Exception? Fault { get; private set; }

    /// <summary>Builds a configuration and makes it current, as a reload does.</summary>
    public HttpConfiguration Apply(string servers, string main = "")
    {
        string text = $"{main} events {{}} http {{ {servers} }}";
        ConfTree tree = ConfParser.Parse(new MemoryConfFiles().Add("/conf", text), "/conf");
        var build = new HttpBuild(new OwnResources("/nonexistent", "/", _counters), tree.Errors);
        build.DefaultErrorLog = "/dev/null";
        HttpConfiguration configuration = build.Run(tree);
        Assert.False(tree.Errors.Failed, string.Join('\n', tree.Errors.All.Select(static e => e.Format())));
        Http.Apply(configuration, spec => [Loop.Bind(spec.Address.Native)]);
        return configuration;
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
        Loop.Dispose();
        _counters.Dispose();
    }
}
