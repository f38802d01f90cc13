// Builds a configuration from a parsed tree: walks it with the modules' directives, merges settings level by level as
// nginx does, builds server tables, location trees and pipelines. A pure function of the tree and the resources: no
// worker does I/O here, all workers get the same result. Runs on any thread; errors are collected, never thrown.
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;
using Weir.Zones;

namespace Weir.Http;

/// <summary>What a build needs from outside the text. In a master that only collects, the answers are placeholders
/// and what was asked for is what has to be opened.</summary>
public interface IBuildResources
{
    /// <summary>The descriptor of a log file; -1 while collecting.</summary>
    int LogDescriptor(LogSpec spec);

    /// <summary>A shared zone; null while collecting.</summary>
    Zone? Zone(ZoneSpec spec);

    /// <summary>The addresses of a host name, as the master resolved it at start; null with nginx's message.</summary>
    SocketAddress[]? Resolve(string host, int port, out string? error);

    /// <summary>The bytes of a file that the configuration names (password files excepted: those are read per
    /// request).</summary>
    byte[]? ReadFile(string path, out string? error);

    /// <summary>A directory that must exist and belong to the workers' user (a temporary path).</summary>
    void NeedDirectory(string path);

    /// <summary>The prefix that relative paths of files belong to (-p).</summary>
    string Prefix { get; }

    /// <summary>The directory of the configuration file, for relative includes and conf files.</summary>
    string ConfPrefix { get; }

    /// <summary>Where temporary files go when no directive says so.</summary>
    string TempPrefix { get; }

    /// <summary>Status counters of all workers, for status pages; null while collecting.</summary>
    CounterSlots? Counters { get; }
}

/// <summary>One build of a configuration.</summary>
public sealed class HttpBuild
{
    private readonly List<HttpBlock> _blocks = [];
    private readonly Dictionary<string, Log> _logs = [];
    private bool _hasHttp;

    public HttpBuild(IBuildResources resources, ConfErrors errors)
    {
        Resources = resources;
        Errors = errors;
        Configuration = new HttpConfiguration();
        Configuration.Prefix = Configuration.Memory.Store(Text(resources.Prefix));
        Registry = new DirectiveRegistry();
        Main = new MainSettings();
        HttpModule[] modules = Catalog.Modules;
        MainSettings.Declare(Registry, this);
        var declarations = new HttpDeclarations(Registry, this);
        for (int i = 0; i < modules.Length; i++)
        {
            modules[i].Index = i;
            declarations.Module = modules[i];
            modules[i].Declare(declarations);
        }
        Registry.AddNginx("http", ConfContext.Main, EnterHttp);
    }

    /// <summary>A path as the configuration's texts are: chars are bytes.</summary>
    private static string Text(string path) =>
        System.Text.Encoding.Latin1.GetString(System.Text.Encoding.UTF8.GetBytes(path));

    public IBuildResources Resources { get; }
    public ConfErrors Errors { get; }
    public DirectiveRegistry Registry { get; }
    public HttpConfiguration Configuration { get; }
    public MainSettings Main { get; }
    public NativeArena Memory => Configuration.Memory;

    /// <summary>Where errors go when the configuration does not say: standard error, or what -e names.</summary>
    public string DefaultErrorLog { get; set; } = LogSpec.StandardError;

    /// <summary>Settings of the http level, to inherit from; null without an http block.</summary>
    public HttpBlock? Http { get; private set; }

    /// <summary>Reads a whole tree. Returns the configuration; <see cref="Errors"/> says whether it may be
    /// used.</summary>
    public HttpConfiguration Run(ConfTree tree)
    {
        var walker = new ConfWalker(Registry, Errors);
        walker.Walk(tree, this);
        Configuration.DefaultLog = LogOf(Main.ErrorLogsOr(DefaultErrorLog));
        if (Http is not null && !Errors.Failed)
        {
            Merge();
        }
        return Configuration;
    }

    // Reading.

    private void EnterHttp(ConfWalker walker, ConfDirective directive)
    {
        if (_hasHttp)
        {
            walker.Duplicate(directive);
            return;
        }
        _hasHttp = true;
        Http = NewBlock(HttpBlockKind.Http, null);
        walker.WalkBlock(directive, ConfContext.Http, Http);
    }

    /// <summary>A block with settings of its own, inside another.</summary>
    public HttpBlock NewBlock(HttpBlockKind kind, HttpBlock? parent)
    {
        HttpModule[] modules = Catalog.Modules;
        var block = new HttpBlock
        {
            Kind = kind,
            Parent = parent,
            Main = parent?.Main ?? Create(modules, static (m, b) => m.CreateMain(b)),
            Server = kind is HttpBlockKind.Http or HttpBlockKind.Server
                ? Create(modules, static (m, b) => m.CreateServer(b)) : parent!.Server,
            Location = Create(modules, static (m, b) => m.CreateLocation(b)),
        };
        block.Core.Block = block;
        if (kind is HttpBlockKind.Http or HttpBlockKind.Server)
        {
            block.CoreServer.Block = block;
        }
        _blocks.Add(block);
        return block;
    }

    private object?[] Create(HttpModule[] modules, Func<HttpModule, HttpBuild, object?> create)
    {
        var made = new object?[modules.Length];
        for (int i = 0; i < modules.Length; i++)
        {
            made[i] = create(modules[i], this);
        }
        return made;
    }

    // Merging, in nginx's order: per module http, then its servers, then their locations.

    private void Merge()
    {
        HttpModule[] modules = Catalog.Modules;
        Configuration.MainConfs = Http!.Main;
        for (int i = 0; i < modules.Length; i++)
        {
            if (Http.Main[i] is { } main)
            {
                modules[i].InitMain(this, main);
            }
        }
        for (int i = 0; i < modules.Length; i++)
        {
            HttpModule module = modules[i];
            if (Http.Server[i] is { } httpServer)
            {
                module.MergeServer(this, module.CreateServer(this)!, httpServer);
            }
            if (Http.Location[i] is { } httpLocation)
            {
                module.MergeLocation(this, module.CreateLocation(this)!, httpLocation);
            }
            foreach (ServerConf server in Configuration.Servers)
            {
                if (server.Block.Server[i] is { } settings)
                {
                    module.MergeServer(this, Http.Server[i]!, settings);
                }
                if (server.Block.Location[i] is { } level)
                {
                    module.MergeLocation(this, Http.Location[i]!, level);
                    MergeChildren(module, i, server.Block);
                }
            }
        }
        if (Errors.Failed)
        {
            return;
        }
        Listening.Build(this);
        foreach (ServerConf server in Configuration.Servers)
        {
            Freeze(server);
        }
        foreach (HttpModule module in modules)
        {
            module.Finish(this);
        }
        ReportUnresolved();
    }

    private void MergeChildren(HttpModule module, int index, HttpBlock parent)
    {
        foreach (LocationConf child in parent.Core.Children)
        {
            module.MergeLocation(this, parent.Location[index]!, child.Block.Location[index]!);
            MergeChildren(module, index, child.Block);
        }
    }

    private void ReportUnresolved()
    {
        foreach (Variable variable in Configuration.Variables.Unresolved)
        {
            Errors.Emerg($"unknown \"{variable.Name}\" variable", null, null);
        }
    }

    // Freezing: trees and pipelines.

    private void Freeze(ServerConf server)
    {
        server.Modules = server.Block.Server;
        server.Location = server.Block.Core;
        var install = new ServerInstall(this, server);
        foreach (HttpModule module in Catalog.Modules)
        {
            module.InstallServer(install);
        }
        server.Pipeline = [.. install.Handlers.OrderBy(static h => h.Phase).Select(static h => h.Handler)];
        server.Locations = FreezeLocations(server.Location, server.Location);
    }

    private LocationTree FreezeLocations(LocationConf level, LocationConf none)
    {
        FreezeLocation(level);
        var tree = new LocationTree(none);
        foreach (LocationConf child in level.Children)
        {
            LocationTree inner = FreezeLocations(child, child);
            if (child.IsNoName)
            {
                continue;
            }
            // Repeated locations were reported where they stand.
            tree.TryAdd(child);
            if (child.Children.Exists(static c => !c.IsNoName))
            {
                tree.SetNested(child, inner);
            }
        }
        return tree;
    }

    private void FreezeLocation(LocationConf location)
    {
        location.Modules = location.Block.Location;
        var install = new LocationInstall(this, location);
        foreach (HttpModule module in Catalog.Modules)
        {
            module.InstallLocation(install);
        }
        location.HeadFilters = [.. install.Filters.OrderBy(static f => f.Place).Select(static f => f.Filter)];
        var pipeline = new List<PhaseHandler>();
        PhaseHandler[] Of(Phase phase) =>
            [.. install.Handlers.Where(h => h.Phase == phase).Select(static h => h.Handler)];
        PhaseHandler[] rewrite = Of(Phase.Rewrite);
        pipeline.AddRange(rewrite);
        if (rewrite.Length > 0)
        {
            pipeline.Add(PostRewriteHandler.Instance);
        }
        pipeline.AddRange(Of(Phase.PreAccess));
        PhaseHandler[] access = Of(Phase.Access);
        if (access.Length > 0)
        {
            pipeline.Add(new AccessHandler(access, location.SatisfyMode.Value == Satisfy.Any,
                (int)Math.Min(location.AuthDelayMs.Value, int.MaxValue)));
        }
        pipeline.AddRange(Of(Phase.PreContent));
        if (location.ContentHandler is not null)
        {
            pipeline.Add(location.ContentHandler);
        }
        else
        {
            pipeline.AddRange(Of(Phase.Content));
        }
        location.Pipeline = [.. pipeline];
    }

    // Logs.

    /// <summary>The log for a list of error_log targets; one object per distinct list.</summary>
    public Log LogOf(IReadOnlyList<LogTarget> targets)
    {
        string key = string.Join('\n', targets.Select(static t => $"{t.Destination} {t.Level}"));
        if (_logs.TryGetValue(key, out Log? known))
        {
            return known;
        }
        var sinks = new List<LogSink>();
        foreach (LogTarget target in targets)
        {
            if (target.Destination.StartsWith("syslog:", StringComparison.Ordinal))
            {
                if (SyslogSettings.TryParse(target.Destination[7..], Resources, out SyslogTarget? syslog,
                    out string? error))
                {
                    sinks.Add(new SyslogSink(syslog!, target.Level));
                }
                else
                {
                    Errors.Emerg(error!, target.Span, null);
                }
                continue;
            }
            int fd = Resources.LogDescriptor(new LogSpec(target.Destination));
            if (fd >= 0)
            {
                sinks.Add(new FileLogSink(fd, target.Level));
            }
        }
        var log = new Log([.. sinks]);
        _logs.Add(key, log);
        return log;
    }

    /// <summary>A path of the configuration made absolute: relative ones belong to the prefix.</summary>
    public string FullPath(string path) => path.StartsWith('/') ? path : Path.Join(Resources.Prefix, path);
}
