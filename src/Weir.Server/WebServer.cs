// A configuration served inside this process: one loop, no master, no signals. The executable's single-process mode
// and worker role stand on it; a program that embeds Weir uses it directly.
using Weir.Conf;
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;
using Weir.Zones;

namespace Weir.Server;

/// <summary>A web server on one event loop of the calling process.</summary>
public sealed class WebServer
{
    private WebServer(EventLoop loop, HttpServer http, HttpConfiguration configuration)
    {
        Loop = loop;
        Http = http;
        Configuration = configuration;
    }

    public EventLoop Loop { get; }
    public HttpServer Http { get; }
    public HttpConfiguration Configuration { get; }

    /// <summary>Builds a configuration from parsed text and binds its addresses to this process.</summary>
    /// <param name="open">Gives the descriptors for an address; see ListenSocket for opening them.</param>
    public static WebServer Start(EventLoop loop, HttpBuild build, HttpConfiguration configuration,
        CounterSlot counters,
        Func<ListenSpec, IEnumerable<int>> open)
    {
        loop.Adopt();
        loop.ConnectionsMax = build.Main.WorkerConnections.ValueOr(512);
        loop.Blocking.ThreadsMax = build.Main.BlockingThreads;
        if (loop is EpollLoop epoll)
        {
            epoll.Alert = (message, errno) => configuration.DefaultLog.Write(LogLevel.Alert, message, errno);
        }
        var http = new HttpServer(loop, configuration.DefaultLog, counters);
        http.Apply(configuration, open);
        return new WebServer(loop, http, configuration);
    }
}
