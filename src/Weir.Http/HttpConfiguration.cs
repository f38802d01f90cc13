// The configuration of `http` as requests use it: frozen after it was built, shared by all requests of a loop that were
// bound to it, reference-counted per loop because nothing native may wait for a finalizer. Its memory holds every text
// that requests refer to.
using Weir.Kernel;
using Weir.Loop;

using Weir.Session;

namespace Weir.Http;

/// <summary>A built configuration.</summary>
public sealed class HttpConfiguration : IDisposable
{
    private int _references = 1;
    private readonly List<Action<EventLoop>> _start = [];
    private readonly List<Action> _retire = [];
    private readonly List<IDisposable> _owned = [];

    public HttpConfiguration()
    {
        Memory = new NativeArena();
        Variables = new VariableTable(Memory);
    }

    /// <summary>Its memory is gone: the last request that was bound to it has ended.</summary>
    public bool IsDisposed { get; private set; }

    public NativeArena Memory { get; }
    public VariableTable Variables { get; }

    /// <summary>All groups of upstream servers.</summary>
    internal Modules.UpstreamGroups Upstreams => field ??= MainConfs.OfType<Modules.UpstreamGroups>().First();

    /// <summary>The rules of locations without open_file_cache.</summary>
    internal Modules.FileCacheRules? CheckedFiles { get; set; }

    /// <summary>Clients whose requests are told (debug_connection); null for none.</summary>
    internal Cidr[]? DebugConnections { get; set; }

    /// <summary>Whether the requests of this client are told in the error log whatever its level.</summary>
    internal bool IsDebugged(ReadOnlySpan<byte> client)
    {
        (SocketFamily family, UInt128 address) = Cidr.Read(client);
        foreach (ref readonly Cidr network in DebugConnections.AsSpan())
        {
            if (network.Contains(family, address))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Who is told how requests walk; null for nobody.</summary>
    internal RequestTrace? Trace { get; set; }

    /// <summary>The prefix that relative paths of files belong to.</summary>
    public NativeSlice Prefix { get; set; }
    public List<ServerConf> Servers { get; } = [];

    /// <summary>Every `listen` in order.</summary>
    internal List<ListenUse> Listens { get; } = [];

    /// <summary>One per listening address, in the order of the configuration.</summary>
    public List<ListenGroup> Groups { get; } = [];

    /// <summary>What http-level errors go to before a location is known.</summary>
    public Log DefaultLog { get; set; } = null!;

    /// <summary>Settings of the modules at the main level of http, by module index.</summary>
    public object?[] MainConfs { get; internal set; } = [];

    /// <summary>The log phase: handlers run for every request that ended, in Catalog's order.</summary>
    public List<LogHandler> LogHandlers { get; } = [];

    /// <summary>Writes out what the log handlers hold.</summary>
    public void FlushLogs()
    {
        foreach (LogHandler handler in LogHandlers)
        {
            handler.Flush();
        }
    }

    /// <summary>Runs on a loop that makes the configuration its current one.</summary>
    public void OnStart(Action<EventLoop> action) => _start.Add(action);

    internal void Start(EventLoop loop)
    {
        foreach (Action<EventLoop> action in _start)
        {
            action(loop);
        }
    }

    /// <summary>Runs when the configuration is no longer current: timers, pools and caches are closed or
    /// moved.</summary>
    public void OnRetire(Action action) => _retire.Add(action);

    /// <summary>Disposed when the last request of the configuration ended.</summary>
    public void Own(IDisposable resource) => _owned.Add(resource);

    public void AddReference() => _references++;

    public void Release()
    {
        if (--_references == 0)
        {
            Dispose();
        }
    }

    /// <summary>Another configuration took over: no new request binds to this one.</summary>
    public void Retire()
    {
        FlushLogs();
        foreach (Action action in _retire)
        {
            action();
        }
        _retire.Clear();
        Release();
    }

    public void Dispose()
    {
        foreach (IDisposable resource in _owned)
        {
            resource.Dispose();
        }
        _owned.Clear();
        Memory.Dispose();
        IsDisposed = true;
    }
}

/// <summary>Runs when a request has ended: access_log and the like.</summary>
public abstract class LogHandler
{
    public abstract void OnLog(HttpRequest r);

    /// <summary>Writes out what is buffered.</summary>
    public virtual void Flush()
    {
    }
}

/// <summary>A listening address with its servers.</summary>
public sealed class ListenGroup
{
    public required ListenSpec Spec { get; set; }

    internal HashSet<ServerConf> Members { get; } = [];
    internal bool OptionsSet { get; set; }
    public ServerConf DefaultServer { get; set; } = null!;
    public ServerNames Names { get; set; } = null!;
    public HttpConfiguration Configuration { get; set; } = null!;

    /// <summary>listen … proxy_protocol</summary>
    public bool ProxyProtocol { get; set; }
    public bool Tls { get; set; }

    /// <summary>Something comes before the first request: the PROXY protocol's header, a TLS handshake.</summary>
    internal bool IsGuarded => ProxyProtocol || Tls || Narrower.Exists(static g => g.Tls);

    /// <summary>Chooses certificates by name where <see cref="Tls"/> is set.</summary>
    internal Tls.ITlsNames? TlsNames { get; set; }
    public bool Http2 { get; set; }

    /// <summary>For a wildcard address: servers that listen on one address of the same port, chosen by the local
    /// address.</summary>
    public List<ListenGroup> Narrower { get; } = [];

    /// <summary>The group of the address that a connection was accepted on: this one, or a narrower one.</summary>
    internal ListenGroup Of(Loop.Connection connection)
    {
        if (Narrower.Count > 0)
        {
            ReadOnlySpan<byte> local = SocketAddress.AddressBytesOf(connection.LocalAddress);
            foreach (ListenGroup narrower in Narrower)
            {
                if (SocketAddress.AddressBytesOf(narrower.Spec.Address.Native).SequenceEqual(local))
                {
                    return narrower;
                }
            }
        }
        return this;
    }

    /// <summary>The settings before a server is known: header buffers and timeouts of the default server.</summary>
    public ServerConf Server => DefaultServer;
}
