// A configuration served inside this process: one loop, no master, no signals. A program that embeds Weir gives it a
// text and a loop of any engine; the tests run it on the simulated one. Everything here is on the loop's thread.
// It opens what the configuration names (listening sockets, log files, zones) and closes it again; it never forks,
// never changes the process's user, and never reads a configuration that was not given to it.
using Weir.Conf;
using Weir.Http;
using Weir.Http.Cache;
using Weir.Kernel;
using Weir.Loop;
using Weir.Zones;

namespace Weir.Server;

/// <summary>Where a configuration comes from.</summary>
/// <param name="Files">The disk (<see cref="DiskConfFiles"/>) or texts in memory.</param>
/// <param name="Path">The path of the main file.</param>
public sealed record WebServerOptions(IConfFiles Files, string Path)
{
    /// <summary>What relative paths of files belong to.</summary>
    public string Prefix { get; init; } = "/";

    /// <summary>Directives before the file's own, as after -g.</summary>
    public string Globals { get; init; } = "";

    /// <summary>The error log where the configuration names none: "stderr" or a path.</summary>
    public string ErrorLog { get; init; } = LogSpec.StandardError;

    /// <summary>Applications of this process, by the names that <c>app_pass</c> calls them by.</summary>
    public IReadOnlyDictionary<string, HostedApplication> Applications { get; init; } =
        new Dictionary<string, HostedApplication>();

    /// <summary>Stands between a configuration and what it opens; null for nobody.</summary>
    internal Func<IBuildResources, IBuildResources>? Around { get; init; }

    /// <summary>The configuration, where it was parsed already.</summary>
    internal ConfTree? Tree { get; init; }

    /// <summary>Is told how requests walk; null for nobody.</summary>
    internal RequestTrace? Trace { get; init; }

    /// <summary>A configuration that is a text.</summary>
    public static WebServerOptions FromText(string text, string prefix = "/") =>
        new(new MemoryConfFiles().Add("/nginx.conf", text), "/nginx.conf") { Prefix = prefix };

    /// <summary>A configuration file, with its includes; relative paths belong to its directory.</summary>
    public static WebServerOptions FromFile(string path) =>
        new(new DiskConfFiles(), System.IO.Path.GetFullPath(path))
        {
            Prefix = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path)) ?? "/",
        };
}

/// <summary>A web server on one event loop of the calling process.</summary>
public sealed class WebServer : IDisposable
{
    private readonly CounterSlots _counters = CounterSlots.CreatePrivate();
    private readonly Dictionary<ZoneSpec, Zone> _zones = [];
    private readonly Dictionary<HostedApplication, GuestHandler> _handlers = [];
    private CacheKeeper? _keeper;
    private bool _disposed;
    private bool _drained;

    private WebServer(EventLoop loop)
    {
        Loop = loop;
        Counters = _counters[_counters.Claim()];
        Http = new HttpServer(loop, Log.None, Counters) { Drained = ConnectionsDrained };
    }

    /// <summary>The loop it lives on.</summary>
    public EventLoop Loop { get; }

    /// <summary>The server on that loop.</summary>
    public HttpServer Http { get; }

    /// <summary>What the status pages show.</summary>
    public CounterSlot Counters { get; }

    /// <summary>Called when the last connection has closed after <see cref="Quit"/>.</summary>
    public Action? Drained { get; set; }

    /// <summary>Called after <see cref="Drained"/>, as soon as every handler of an application has come back, those
    /// that were answered for included. What they await continues on the loop, so who stops it before leaves them
    /// there.</summary>
    public Action? HandlersEnded { get; set; }

    /// <summary>Builds a configuration and listens. Null when it cannot be served; the errors say why, all of
    /// them.</summary>
    /// <param name="loop">The loop that serves; the calling thread becomes its thread.</param>
    /// <param name="options">The configuration.</param>
    /// <param name="errors">What was found, warnings included.</param>
    public static WebServer? TryStart(EventLoop loop, WebServerOptions options, out ConfErrors errors)
    {
        loop.Adopt();
        var server = new WebServer(loop);
        if (server.TryReload(options, out errors))
        {
            return server;
        }
        server.Dispose();
        return null;
    }

    /// <summary>Builds a configuration and makes it current; on an error the old one stays.</summary>
    public bool TryReload(WebServerOptions options, out ConfErrors errors)
    {
        ConfTree tree = options.Tree ?? ConfParser.Parse(options.Files, options.Path, options.Globals);
        errors = tree.Errors;
        string confPrefix = Path.GetDirectoryName(options.Path) is { Length: > 0 } directory ? directory : "/";
        var resources = new OwnResources(options.Prefix, confPrefix, _counters, _zones)
        {
            ApplicationOf = name => HandlerOf(options, name),
        };
        var build = new HttpBuild(options.Around?.Invoke(resources) ?? resources, errors)
        {
            DefaultErrorLog = options.ErrorLog,
            Trace = options.Trace,
        };
        HttpConfiguration configuration = build.Run(tree);
        configuration.Own(resources);
        foreach (string failure in resources.Failures)
        {
            errors.Emerg(failure, null);
        }
        var opened = new Dictionary<ListenSpec, int>();
        if (errors.Failed || !TryOpen(configuration, opened, errors))
        {
            foreach (int fd in opened.Values)
            {
                Loop.Listen(fd, false, static _ => { }).Stop();
            }
            configuration.Release();
            return false;
        }
        Loop.ConnectionsMax = build.Main.WorkerConnections.ValueOr(512);
        Loop.Alert = (message, errno) => Http.Log.Write(LogLevel.Alert, message, errno);
        Loop.Report = (level, message, errno) => Http.Log.Write(level, message, errno);
        Loop.MultiAccept = build.Main.MultiAccept.ValueOr(false);
        if (Loop is not InMemoryLoop)
        {
            Loop.Blocking.ThreadsMax = build.Main.BlockingThreads;
        }
        Http.Log = configuration.DefaultLog;
        Http.Apply(configuration, spec => [opened[spec]]);
        _keeper?.Stop();
        _keeper = CacheKeeper.Start(Loop, configuration, CacheDuties.Manages | CacheDuties.Loads);
        return true;
    }

    /// <summary>One border per application, whatever number of locations name it and however often the configuration
    /// is read.</summary>
    private PhaseHandler? HandlerOf(WebServerOptions options, string name)
    {
        if (!options.Applications.TryGetValue(name, out HostedApplication? application))
        {
            return null;
        }
        if (!_handlers.TryGetValue(application, out GuestHandler? handler))
        {
            handler = application.HandlerOn(Loop, Http);
            _handlers.Add(application, handler);
        }
        return handler;
    }

    private bool TryOpen(HttpConfiguration configuration, Dictionary<ListenSpec, int> opened, ConfErrors errors)
    {
        foreach (ListenGroup group in configuration.Groups)
        {
            if (Http.Bindings.Any(b => b.Spec.Equals(group.Spec)))
            {
                continue;
            }
            int fd = Loop.OpenListening(group.Spec, group.Spec.ReusePort, out ListenFailure failure);
            if (fd < 0)
            {
                errors.Emerg($"{failure.Call} to {group.Spec.Address} failed "
                    + $"({failure.Errno}: {Errno.Describe(failure.Errno)})", null);
                return false;
            }
            opened.Add(group.Spec, fd);
        }
        return true;
    }

    /// <summary>Stops accepting and lets what runs end; <see cref="Drained"/> tells when.</summary>
    public void Quit() => Http.Quit();

    /// <summary>After <see cref="Quit"/>, waits no longer: handlers of applications are told and have a moment to end,
    /// then every connection of the loop is closed. Handlers that go on do so alone; <see cref="HandlersEnded"/> tells
    /// when the last has come back.</summary>
    public void CutOff() =>
        new CuttingOff(Loop, [.. _handlers.Values.Select(static h => h.Guests)], () => _drained).Begin();

    private void ConnectionsDrained()
    {
        _drained = true;
        Drained?.Invoke();
        EndWhenAllAreBack();
    }

    private void EndWhenAllAreBack()
    {
        foreach (GuestHandler handler in _handlers.Values)
        {
            if (handler.Guests.Out > 0)
            {
                handler.Guests.AllBack = EndWhenAllAreBack;
                return;
            }
        }
        HandlersEnded?.Invoke();
    }

    /// <summary>Stops listening, closes idle connections and gives back what the configuration holds; requests that
    /// are under way keep theirs until they end.</summary>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }
        _disposed = true;
        _keeper?.Stop();
        Http.Quit();
        Loop.CloseIdle();
        Http.Configuration?.Retire();
        // Memory that another thread may be in goes with the process.
        if (_keeper is not { IsWorking: true })
        {
            foreach (Zone zone in _zones.Values)
            {
                zone.Dispose();
            }
        }
        _counters.Dispose();
    }
}
