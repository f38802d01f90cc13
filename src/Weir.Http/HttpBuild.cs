// Builds a configuration from a parsed tree: walks it with the modules' directives, merges settings level by level as
// nginx does, builds server tables, location trees and pipelines. A pure function of the tree and the resources: no
// worker does I/O here, all workers get the same result. Runs on any thread; errors are collected, never thrown.
using System.Runtime.InteropServices;
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

    /// <summary>The same of a file that the server writes itself; null when there is none yet.</summary>
    byte[]? ReadState(string path) => ReadFile(path, out string? _);

    /// <summary>A directory that must exist and belong to the workers' user (a temporary path).</summary>
    void NeedDirectory(string path);

    /// <summary>Where a temporary path lies that the configuration names: there, unless it is only tried
    /// out.</summary>
    string TempPath(string path) => path;

    /// <summary>The prefix that relative paths of files belong to (-p).</summary>
    string Prefix { get; }

    /// <summary>The directory of the configuration file, for relative includes and conf files.</summary>
    string ConfPrefix { get; }

    /// <summary>Where temporary files go when no directive says so.</summary>
    string TempPrefix { get; }

    /// <summary>What `app_pass NAME` hands requests to; null when nobody of that name lives in this
    /// process.</summary>
    PhaseHandler? Application(string name) => null;

    /// <summary>The TLS that a program brings for an address of its own; null where the configuration names
    /// certificates.</summary>
    OwnTls? TlsOf(ListenSpec spec) => null;

    /// <summary>A sink instead of a file for a log; null for the ordinary way.</summary>
    LogSink? SinkOf(LogSpec spec, LogLevel level) => null;

    /// <summary>Status counters of all workers, for status pages; null while collecting.</summary>
    CounterSlots? Counters { get; }

    /// <summary>As whom this process counts in zones.</summary>
    ZoneOwner Owner => ZoneOwner.Alone;

    /// <summary>Which reading of the configuration it is, alike in all processes; 0 where there is but
    /// one.</summary>
    ulong Stamp => 0;
}

/// <summary>TLS of an address whose certificates come from the program around the server. It outlives the
/// configuration, whose loops share it.</summary>
public sealed record OwnTls(Tls.TlsContext Context, Tls.ITlsNames Names);

/// <summary>One build of a configuration.</summary>
public sealed class HttpBuild
{
    private readonly List<HttpBlock> _blocks = [];
    private readonly Dictionary<string, Log> _logs = [];
    private readonly Dictionary<(Type, object), object> _shared = [];
    private readonly Dictionary<int, object[]> _arrays = [];
    private readonly List<PhaseHandler> _pipeline = [];
    private LocationInstall? _install;
    private ServerInstall? _serverInstall;
    private bool _hasHttp;

    public HttpBuild(IBuildResources resources, ConfErrors errors)
    {
        Resources = resources;
        Errors = errors;
        Stamp = Math.Max(resources.Stamp, 1);
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

    /// <summary>Which reading of the configuration this is.</summary>
    public ulong Stamp { get; }
    public DirectiveRegistry Registry { get; }
    public HttpConfiguration Configuration { get; }

    /// <summary>Who is told how requests walk; null for nobody. Set before <see cref="Run"/>.</summary>
    public RequestTrace? Trace
    {
        get => Configuration.Trace;
        init => Configuration.Trace = value;
    }

    public MainSettings Main { get; }

    /// <summary>Every block that was read.</summary>
    internal IReadOnlyList<HttpBlock> Blocks => _blocks;

    /// <summary>Shared zones by name.</summary>
    public SharedZones ZoneNames { get; } = new();
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
        Configuration.DebugConnections = Main.DebugConnections.Count > 0 ? [.. Main.DebugConnections] : null;
        if (Http is not null && !Errors.Failed)
        {
            Merge();
        }
        return Configuration;
    }

    /// <summary>What a `listen` without parameters means, by its text.</summary>
    internal Dictionary<string, ListenSpec[]> PlainListens { get; } = new(StringComparer.Ordinal);

    // Reading.

    private void EnterHttp(ConfWalker walker, ConfDirective directive)
    {
        if (_hasHttp)
        {
            walker.Duplicate(directive);
            return;
        }
        _hasHttp = true;
        Http = NewBlock(HttpBlockKind.Http, null, directive);
        walker.WalkBlock(directive, ConfContext.Http, Http);
    }

    /// <summary>A block with settings of its own, inside another.</summary>
    public HttpBlock NewBlock(HttpBlockKind kind, HttpBlock? parent, ConfDirective directive)
    {
        object?[] main = parent?.Main ?? [.. Catalog.Modules.Select(m => m.CreateMain(this))];
        var block = new HttpBlock(this, kind, parent, main) { Directive = directive };
        _blocks.Add(block);
        return block;
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
        MergeCore();
        foreach (HttpModule module in modules)
        {
            foreach (HttpBlock block in _blocks)
            {
                // A block stands in the list before those inside it.
                if (block.OwnServerOrNull(module) is { } server)
                {
                    object around = block.Parent?.ServerOf(module) ?? module.CreateServer(this)!;
                    module.MergeServer(this, around, server);
                }
                if (block.OwnLocationOrNull(module) is { } location)
                {
                    object around = block.Parent?.LocationOf(module) ?? module.CreateLocation(this)!;
                    module.MergeLocation(this, around, location);
                }
            }
        }
        if (Errors.Failed)
        {
            return;
        }
        Listening.Build(this);
        Http.Core.Modules = Http.FreezeLocation();
        Http.CoreServer.Modules = Http.FreezeServer();
        foreach (ServerConf server in Configuration.Servers)
        {
            Freeze(server);
        }
        foreach (HttpModule module in modules)
        {
            module.Finish(this);
        }
        ReportUnresolved();
        Forget();
    }

    private void MergeCore()
    {
        foreach (HttpBlock block in _blocks)
        {
            if (block.CoreServer.Block == block)
            {
                Modules.CoreModule.Merge(block.Parent?.CoreServer ?? new ServerConf(), block.CoreServer);
            }
            if (block.Core.Settings is { } own)
            {
                Modules.CoreLocations.Merge(this, block.Parent?.Core.Settings, own);
            }
            else
            {
                block.Core.Settings = block.Parent!.Core.Settings;
            }
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

    /// <summary>The one object made from these settings: blocks that share settings share what works with them.
    /// </summary>
    internal T Shared<TKey, T>(TKey settings, Func<TKey, T> make) where TKey : notnull where T : class
    {
        if (_shared.TryGetValue((typeof(T), settings), out object? known))
        {
            return (T)known;
        }
        T made = make(settings);
        _shared.Add((typeof(T), settings), made);
        return made;
    }

    private void Freeze(ServerConf server)
    {
        server.Modules = server.Block.FreezeServer();
        server.Location = server.Block.Core;
        ServerInstall install = _serverInstall ??= new ServerInstall(this);
        install.Start(server);
        foreach (HttpModule module in Catalog.Modules)
        {
            install.Module = module;
            module.InstallServer(install);
        }
        server.Pipeline = Entered(install.InOrder(), isServer: true);
        FreezeLocation(server.Location);
        server.Locations = FreezeInside(server.Location, server.Location);
    }

    private LocationTree FreezeInside(LocationConf level, LocationConf none)
    {
        var tree = new LocationTree(none);
        foreach (LocationConf child in level.Children ?? [])
        {
            FreezeLocation(child);
            LocationTree? inner = child.Children is null ? null : FreezeInside(child, child);
            if (child.IsNoName)
            {
                continue;
            }
            // Repeated locations were reported where they stand.
            tree.TryAdd(child);
            if (inner is not null && child.Children!.Exists(static c => !c.IsNoName))
            {
                tree.SetNested(child, inner);
            }
        }
        return tree;
    }

    private void FreezeLocation(LocationConf location)
    {
        location.Modules = location.Block.FreezeLocation();
        LocationInstall install = _install ??= new LocationInstall(this);
        install.Start(location);
        Trace?.OnBlock(location, location.Block.Directive);
        foreach (HttpModule module in Catalog.Modules)
        {
            install.Module = module;
            module.InstallLocation(install);
        }
        location.HeadFilters = Interned(install.FiltersInOrder());
        List<PhaseHandler> pipeline = _pipeline;
        pipeline.Clear();
        AddPhase(pipeline, install, Phase.Rewrite);
        if (pipeline.Count > 0)
        {
            if (pipeline is [{ AlwaysAnswers: true }])
            {
                location.Pipeline = Trace is null ? [pipeline[0]] : Entered(pipeline, isServer: false);
                return;
            }
            pipeline.Add(PostRewriteHandler.Instance);
        }
        AddPhase(pipeline, install, Phase.PreAccess);
        int access = pipeline.Count;
        AddPhase(pipeline, install, Phase.Access);
        if (pipeline.Count > access)
        {
            PhaseHandler[] rules = Interned(pipeline[access..]);
            pipeline.RemoveRange(access, rules.Length);
            pipeline.Add(Shared((rules, location.SatisfyMode.Value, location.AuthDelayMs.Value), static key =>
                new AccessHandler(key.rules, key.Item2 == Satisfy.Any, (int)Math.Min(key.Item3, int.MaxValue))));
        }
        AddPhase(pipeline, install, Phase.PreContent);
        if (location.ContentHandler is not null)
        {
            pipeline.Add(Trace is null ? location.ContentHandler
                : new TracedHandler(Trace, null, location.ContentHandler));
        }
        else
        {
            AddPhase(pipeline, install, Phase.Content);
        }
        location.Pipeline = Entered(pipeline, isServer: false);
    }

    /// <summary>The pipeline, behind what tells of it where somebody asked.</summary>
    private PhaseHandler[] Entered(List<PhaseHandler> pipeline, bool isServer) =>
        Trace is null ? Interned(pipeline) : [new TracedEntry(Trace, isServer), .. pipeline];

    private static void AddPhase(List<PhaseHandler> pipeline, LocationInstall install, Phase phase)
    {
        foreach ((Phase Phase, PhaseHandler Handler) added in install.Handlers)
        {
            if (added.Phase == phase)
            {
                pipeline.Add(added.Handler);
            }
        }
    }

    /// <summary>One array for equal ones.</summary>
    private T[] Interned<T>(List<T> items) where T : class
    {
        if (items.Count == 0)
        {
            return [];
        }
        var hash = new HashCode();
        foreach (T item in items)
        {
            hash.Add(System.Runtime.CompilerServices.RuntimeHelpers.GetHashCode(item));
        }
        int key = hash.ToHashCode();
        if (_arrays.TryGetValue(key, out object[]? known) && known is T[] same
            && same.AsSpan().SequenceEqual(CollectionsMarshal.AsSpan(items)))
        {
            return same;
        }
        T[] made = [.. items];
        _arrays[key] = made;
        return made;
    }

    /// <summary>Requests need nothing of how the configuration was read.</summary>
    private void Forget()
    {
        foreach (HttpBlock block in _blocks)
        {
            block.Core.Children = null;
            block.Core.Block = null!;
            block.CoreServer.Block = null!;
            block.CoreServer.ServerNames.TrimExcess();
        }
        foreach (ListenGroup group in Configuration.Groups)
        {
            group.Members.Clear();
            group.Members.TrimExcess();
        }
        Configuration.Listens.Clear();
        Configuration.Listens.TrimExcess();
        _blocks.Clear();
        _shared.Clear();
        _arrays.Clear();
        PlainListens.Clear();
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
            if (Resources.SinkOf(new LogSpec(target.Destination), target.Level) is { } sink)
            {
                sinks.Add(sink);
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
