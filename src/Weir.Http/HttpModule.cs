// What a module is: a name, settings per level, directives and variables, and its place in the pipeline. Modules are
// stateless singletons listed in Catalog.cs; everything that changes lives in settings (while a configuration is read)
// or in a request's or loop's slot.
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http;

/// <summary>A feature of the HTTP server: one file, named after its directive family.</summary>
public abstract class HttpModule
{
    /// <summary>nginx's name of it in `configure --with-…` terms, "http_rewrite".</summary>
    public abstract string Name { get; }

    internal int Index { get; set; } = -1;

    /// <summary>New settings of the http level; null for none.</summary>
    public virtual object? CreateMain(HttpBuild build) => null;

    /// <summary>New settings of a server (also made for the http level, to inherit from).</summary>
    public virtual object? CreateServer(HttpBuild build) => null;

    /// <summary>New settings of a location (also made for the http and server levels).</summary>
    public virtual object? CreateLocation(HttpBuild build) => null;

    /// <summary>Settings with nothing set merge to what the level around has, so blocks in which no directive of the
    /// module stands share the object of the level around. What a directive means for its very block alone belongs
    /// into <see cref="HttpBlock.Here{T}"/> then.</summary>
    public virtual bool InheritsWhole => false;

    /// <summary>Defaults of the http level, after `http {}` was read and before anything is merged.</summary>
    public virtual void InitMain(HttpBuild build, object main)
    {
    }

    /// <summary>Merges a server's settings from the http level's.</summary>
    public virtual void MergeServer(HttpBuild build, object parent, object child)
    {
    }

    /// <summary>Merges a location's settings from the level around. For the http level itself (the outermost)
    /// <paramref name="parent"/> is a fresh, unset object.</summary>
    public virtual void MergeLocation(HttpBuild build, object parent, object child)
    {
    }

    /// <summary>Declares directives and variables. Called for every build; closures must not keep state.</summary>
    public abstract void Declare(HttpDeclarations d);

    /// <summary>Adds handlers that run before a location is known (post-read, server rewrite).</summary>
    public virtual void InstallServer(ServerInstall install)
    {
    }

    /// <summary>Adds handlers and filters to one location, after its settings were merged.</summary>
    public virtual void InstallLocation(LocationInstall install)
    {
    }

    /// <summary>After everything was merged and installed: log handlers, timers, checks over the whole
    /// configuration.</summary>
    public virtual void Finish(HttpBuild build)
    {
    }
}

/// <summary>A module with settings on the location level only: the common kind.</summary>
public abstract class HttpModule<TLocation> : HttpModule where TLocation : class, new()
{
    public override object? CreateLocation(HttpBuild build) => new TLocation();

    public sealed override void MergeLocation(HttpBuild build, object parent, object child) =>
        Merge(build, (TLocation)parent, (TLocation)child);

    /// <summary>Merges settings parent to child, once; then they are frozen.</summary>
    protected abstract void Merge(HttpBuild build, TLocation parent, TLocation child);

    public TLocation Settings(LocationConf location) => (TLocation)location.Modules[Index]!;
}

/// <summary>The kind of block a set of settings belongs to.</summary>
public enum HttpBlockKind
{
    Http,
    Server,
    Location,
    If,
    LimitExcept,
}

/// <summary>A block of the configuration while it is read: nginx's three levels of settings. A block has objects of its
/// own for what is set in it and shares those of the block around for everything else.</summary>
public sealed class HttpBlock
{
    private readonly HttpBuild _build;
    private object?[]? _server;
    private object?[]? _location;
    private List<object>? _here;

    internal HttpBlock(HttpBuild build, HttpBlockKind kind, HttpBlock? parent, object?[] main)
    {
        _build = build;
        Kind = kind;
        Parent = parent;
        Main = main;
        Core = new LocationConf { Block = this };
        CoreServer = kind is HttpBlockKind.Http or HttpBlockKind.Server ? new ServerConf { Block = this }
            : parent!.CoreServer;
        if (kind == HttpBlockKind.Http)
        {
            OwnCore();
        }
        foreach (HttpModule module in Catalog.Modules)
        {
            if (kind == HttpBlockKind.Http || !module.InheritsWhole)
            {
                if (kind is HttpBlockKind.Http or HttpBlockKind.Server)
                {
                    OwnServer(module);
                }
                OwnLocation(module);
            }
        }
    }

    public HttpBlockKind Kind { get; }

    /// <summary>What opened it.</summary>
    public required ConfDirective Directive { get; init; }
    public HttpBlock? Parent { get; }
    public object?[] Main { get; }

    /// <summary>The core settings of this block's location level.</summary>
    public LocationConf Core { get; }

    /// <summary>The core settings of the server around.</summary>
    public ServerConf CoreServer { get; }

    /// <summary>The settings of a module in force here: the block's own, or those around.</summary>
    public object? LocationOf(HttpModule module) => OwnLocationOrNull(module) ?? Parent?.LocationOf(module);

    /// <inheritdoc cref="LocationOf"/>
    public object? ServerOf(HttpModule module) => OwnServerOrNull(module) ?? Parent?.ServerOf(module);

    internal object? OwnLocationOrNull(HttpModule module) => _location?[module.Index];

    internal object? OwnServerOrNull(HttpModule module) => _server?[module.Index];

    /// <summary>The block's own core settings, made when the first of them is set.</summary>
    public LocationConf OwnCore()
    {
        Core.Settings ??= new LocationSettings();
        return Core;
    }

    /// <summary>The block's own settings of a module, made when the first of them is set; null when the module has
    /// none on this level.</summary>
    public object? OwnLocation(HttpModule module)
    {
        if (OwnLocationOrNull(module) is { } known)
        {
            return known;
        }
        return module.CreateLocation(_build) is { } made
            ? (_location ??= new object?[Catalog.Modules.Length])[module.Index] = made : null;
    }

    /// <summary>The server's own settings of a module, made when the first of them is set.</summary>
    public object? OwnServer(HttpModule module)
    {
        if (Kind is not (HttpBlockKind.Http or HttpBlockKind.Server))
        {
            return Parent!.OwnServer(module);
        }
        if (OwnServerOrNull(module) is { } known)
        {
            return known;
        }
        return module.CreateServer(_build) is { } made
            ? (_server ??= new object?[Catalog.Modules.Length])[module.Index] = made : null;
    }

    /// <summary>What directives say about this very block, which no block inside inherits; made on first use.</summary>
    public T Here<T>() where T : class, new()
    {
        if (FindHere<T>() is { } known)
        {
            return known;
        }
        var made = new T();
        (_here ??= []).Add(made);
        return made;
    }

    /// <summary>The same, or null when nothing was said.</summary>
    public T? FindHere<T>() where T : class
    {
        foreach (object item in _here ?? [])
        {
            if (item is T found)
            {
                return found;
            }
        }
        return null;
    }

    /// <summary>The settings in force by module index: the array of the block around when nothing differs.</summary>
    internal object?[] FreezeLocation() => Freeze(_location, Parent?.Core.Modules,
        static (block, module) => block.LocationOf(module));

    internal object?[] FreezeServer() => Freeze(_server, Parent?.CoreServer.Modules,
        static (block, module) => block.ServerOf(module));

    private object?[] Freeze(object?[]? own, object?[]? around, Func<HttpBlock, HttpModule, object?> inForce)
    {
        if (own is null && around is not null)
        {
            return around;
        }
        HttpModule[] modules = Catalog.Modules;
        var all = new object?[modules.Length];
        for (int i = 0; i < all.Length; i++)
        {
            all[i] = inForce(this, modules[i]);
        }
        return all;
    }
}

/// <summary>One use of a directive: its arguments, where it stands, and how to complain.</summary>
public readonly struct DirectiveUse(ConfWalker walker, ConfDirective directive, HttpBlock block, HttpBuild build)
{
    public ConfWalker Walker { get; } = walker;
    public ConfDirective Directive { get; } = directive;

    /// <summary>The block it stands in.</summary>
    public HttpBlock Block { get; } = block;
    public HttpBuild Build { get; } = build;

    public string Name => Directive.Name;
    public int Count => Directive.Args.Length;

    /// <summary>The text of an argument (chars are bytes).</summary>
    public string this[int i] => Directive.Args[i].Text;

    /// <summary>An error at the directive, nginx's wording; the walk goes on.</summary>
    public void Error(string message, string? hint = null) => Walker.Error(Directive, message, hint);

    /// <summary>An error at an argument.</summary>
    public void Error(int arg, string message, string? hint = null) => Walker.Error(Directive.Args[arg], message, hint);

    /// <summary>`"NAME" directive COMPLAINT`.</summary>
    public void Complain(string complaint) => Walker.Complain(Directive, complaint);

    /// <summary>`invalid parameter "x"`.</summary>
    public void InvalidParameter(int arg) => Error(arg, $"invalid parameter \"{this[arg]}\"");

    /// <summary>Compiles an argument with variables; null after reporting the error.</summary>
    public Template? Template(int arg) => TemplateOf(this[arg], arg);

    /// <summary>Compiles a text that comes from an argument.</summary>
    public Template? TemplateOf(string text, int arg)
    {
        Template? template = Session.Template.Compile(text, Build.Configuration.Variables, out string? error);
        if (template is null)
        {
            Error(arg, error!);
        }
        return template;
    }

    /// <summary>The text in the configuration's memory.</summary>
    public NativeSlice Store(int arg) => Build.Memory.StorePath(this[arg]);

    // Setters of nginx's ordinary slots: refuse a repetition, parse, set.

    public void SetFlag(ref Inherited<bool> setting)
    {
        if (Walker.Fresh(Directive, in setting) && Walker.TryFlag(Directive, out bool value))
        {
            setting.Set(value);
        }
    }

    public void SetNumber(ref Inherited<int> setting)
    {
        if (Walker.Fresh(Directive, in setting) && Walker.TryNumber(Directive, out long value))
        {
            setting.Set((int)Math.Min(value, int.MaxValue));
        }
    }

    /// <summary>A size in bytes.</summary>
    public void SetSize(ref Inherited<long> setting)
    {
        if (Walker.Fresh(Directive, in setting) && Walker.TrySize(Directive, out long value))
        {
            setting.Set(value);
        }
    }

    /// <summary>A size in bytes that may be given in gigabytes.</summary>
    public void SetOffset(ref Inherited<long> setting)
    {
        if (Walker.Fresh(Directive, in setting) && Walker.TryOffset(Directive, out long value))
        {
            setting.Set(value);
        }
    }

    /// <summary>A time in milliseconds.</summary>
    public void SetMsec(ref Inherited<long> setting)
    {
        if (Walker.Fresh(Directive, in setting) && Walker.TryMsec(Directive, out long value))
        {
            setting.Set(value);
        }
    }

    /// <summary>A time in seconds.</summary>
    public void SetSec(ref Inherited<long> setting)
    {
        if (Walker.Fresh(Directive, in setting) && Walker.TrySec(Directive, out long value))
        {
            setting.Set(value);
        }
    }

    public void SetText(ref Inherited<string> setting)
    {
        if (Walker.Fresh(Directive, in setting))
        {
            setting.Set(this[0]);
        }
    }

    public void SetTemplate(ref Inherited<Template> setting)
    {
        if (Walker.Fresh(Directive, in setting) && Template(0) is { } template)
        {
            setting.Set(template);
        }
    }

    public void SetBufs(ref Inherited<ConfBufs> setting)
    {
        if (Walker.Fresh(Directive, in setting) && Walker.TryBufs(Directive, out ConfBufs value))
        {
            setting.Set(value);
        }
    }

    public void SetEnum<T>(ref Inherited<T> setting, ReadOnlySpan<ConfChoice<T>> choices)
    {
        if (Walker.Fresh(Directive, in setting) && Walker.TryEnum(Directive, choices, out T value))
        {
            setting.Set(value);
        }
    }

    public void SetBitmask(ref Inherited<int> setting, ReadOnlySpan<ConfChoice<int>> choices)
    {
        if (Walker.Fresh(Directive, in setting) && Walker.TryBitmask(Directive, choices, out int value))
        {
            setting.Set(value);
        }
    }
}

/// <summary>Where modules declare what they understand.</summary>
public sealed class HttpDeclarations(DirectiveRegistry registry, HttpBuild build)
{
    /// <summary>Blocks with settings of their own; `upstream` is none of them.</summary>
    private const ConfContext HttpBlocks = ConfContext.HttpAny & ~ConfContext.Upstream;

    internal HttpModule Module { get; set; } = null!;

    public VariableTable Variables => build.Configuration.Variables;

    public HttpBuild Build => build;

    /// <summary>A directive of nginx's: contexts and arity come from nginx's table. <paramref name="apply"/> gets the
    /// location-level settings of the block it stands in, which are its own from then on: the module's, or those of
    /// the core for <see cref="LocationConf"/>.</summary>
    public void Location<T>(string name, Action<DirectiveUse, T> apply) where T : class
    {
        HttpModule module = Module;
        registry.AddNginx(name, HttpBlocks, (walker, directive) =>
        {
            HttpBlock block = walker.Need<HttpBlock>();
            object own = typeof(T) == typeof(LocationConf) ? block.OwnCore() : block.OwnLocation(module)!;
            apply(new DirectiveUse(walker, directive, block, build), (T)own);
        });
    }

    public void Server<T>(string name, Action<DirectiveUse, T> apply) where T : class
    {
        HttpModule module = Module;
        registry.AddNginx(name, HttpBlocks, (walker, directive) =>
        {
            HttpBlock block = walker.Need<HttpBlock>();
            object own = typeof(T) == typeof(ServerConf) ? block.CoreServer : block.OwnServer(module)!;
            apply(new DirectiveUse(walker, directive, block, build), (T)own);
        });
    }

    public void Main<T>(string name, Action<DirectiveUse, T> apply) where T : class
    {
        int index = Module.Index;
        registry.AddNginx(name, HttpBlocks, (walker, directive) =>
        {
            HttpBlock block = walker.Need<HttpBlock>();
            apply(new DirectiveUse(walker, directive, block, build), (T)block.Main[index]!);
        });
    }

    /// <summary>A directive that needs more than one level, or opens a block.</summary>
    public void Block(string name, Action<DirectiveUse> apply) =>
        registry.AddNginx(name, HttpBlocks, (walker, directive) =>
            apply(new DirectiveUse(walker, directive, walker.Need<HttpBlock>(), build)));

    /// <summary>A directive inside `upstream`; its block is the walker's scope.</summary>
    public void Upstream<T>(string name, Action<ConfWalker, ConfDirective, T> apply) where T : class =>
        registry.AddNginx(name, ConfContext.Upstream, (walker, directive) =>
            apply(walker, directive, walker.Need<T>()));

    /// <summary>A directive that nginx does not have.</summary>
    public void Own(DirectiveSpec spec) => registry.Add(spec);

    public void Variable(string name, VariableGet get, VariableFlags flags = VariableFlags.None, VariableSet? set =
        null) =>
        Variables.Declare(name, get, flags, set);

    public void VariablePrefix(string prefix, VariableGet get, VariableFlags flags = VariableFlags.None,
        Func<string, int>? number = null) => Variables.DeclarePrefix(prefix, get, flags, number);
}

/// <summary>One location's pipeline while it is built. One object serves all locations of a build.</summary>
public sealed class LocationInstall(HttpBuild build)
{
    internal readonly List<(Phase Phase, PhaseHandler Handler)> Handlers = [];
    private readonly List<(FilterPlace Place, HeadFilter Filter)> _filters = [];
    private readonly List<HeadFilter> _ordered = [];

    public HttpBuild Build { get; } = build;
    public LocationConf Location { get; private set; } = null!;

    internal void Start(LocationConf location)
    {
        Location = location;
        Handlers.Clear();
        _filters.Clear();
    }

    /// <summary>The module's merged settings of this location.</summary>
    public T Settings<T>(HttpModule module) where T : class => (T)Location.Modules[module.Index]!;

    /// <summary>What directives said about this very block; null for nothing.</summary>
    public T? Here<T>() where T : class => Location.Block.FindHere<T>();

    /// <summary>The same; in `if` and `limit_except`, where it is not set, of the nearest block around it: as nginx,
    /// they pass to where the location around them does.</summary>
    public T? HereOrAround<T>(Func<T, bool> isSet, out HttpBlock block) where T : class
    {
        block = Location.Block;
        T? said = block.FindHere<T>();
        while ((said is null || !isSet(said)) && block.Core.IsNoName && block.Parent is { } parent)
        {
            block = parent;
            said = block.FindHere<T>();
        }
        return said;
    }

    /// <summary>Whose turn it is to install.</summary>
    internal HttpModule? Module { get; set; }

    public void Add(Phase phase, PhaseHandler handler) =>
        Handlers.Add((phase, Build.Trace is null ? handler : new TracedHandler(Build.Trace, Module, handler)));

    public void AddFilter(FilterPlace place, HeadFilter filter)
    {
        if (Build.Trace is not null)
        {
            filter = new TracedFilter(Build.Trace, Module!, filter);
        }
        int at = _filters.Count;
        while (at > 0 && _filters[at - 1].Place > place)
        {
            at--;
        }
        _filters.Insert(at, (place, filter));
    }

    /// <summary>The filters from the producer's side to the client's. The list is used again for the next location.
    /// </summary>
    internal List<HeadFilter> FiltersInOrder()
    {
        _ordered.Clear();
        foreach ((FilterPlace _, HeadFilter filter) in _filters)
        {
            _ordered.Add(filter);
        }
        return _ordered;
    }

    /// <summary>The one handler or filter for these settings: locations that share settings share what works with
    /// them.</summary>
    public T Shared<TKey, T>(TKey settings, Func<TKey, T> make) where TKey : notnull where T : class =>
        Build.Shared(settings, make);
}

/// <summary>What runs for a server before a location is known.</summary>
public sealed class ServerInstall(HttpBuild build)
{
    private readonly List<(Phase Phase, PhaseHandler Handler)> _handlers = [];
    private readonly List<PhaseHandler> _ordered = [];

    public HttpBuild Build { get; } = build;
    public ServerConf Server { get; private set; } = null!;

    internal void Start(ServerConf server)
    {
        Server = server;
        _handlers.Clear();
    }

    /// <summary>The module's merged location-level settings of the server.</summary>
    public T Settings<T>(HttpModule module) where T : class => (T)Server.Block.LocationOf(module)!;

    /// <summary>What directives said about this very block; null for nothing.</summary>
    public T? Here<T>() where T : class => Server.Block.FindHere<T>();

    /// <summary>Whose turn it is to install.</summary>
    internal HttpModule? Module { get; set; }

    public void Add(Phase phase, PhaseHandler handler)
    {
        if (Build.Trace is not null)
        {
            handler = new TracedHandler(Build.Trace, Module, handler);
        }
        int at = _handlers.Count;
        while (at > 0 && _handlers[at - 1].Phase > phase)
        {
            at--;
        }
        _handlers.Insert(at, (phase, handler));
    }

    internal List<PhaseHandler> InOrder()
    {
        _ordered.Clear();
        foreach ((Phase _, PhaseHandler handler) in _handlers)
        {
            _ordered.Add(handler);
        }
        return _ordered;
    }
}
