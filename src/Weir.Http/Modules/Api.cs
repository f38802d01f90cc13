// api: nginx Plus's REST interface in a location, as far as Weir has what it shows: the server, connections, requests,
// and groups of servers with a zone, which may be changed. Who may ask is what the location's access rules say. `state`
// keeps the changes in a file. The work behind is Api/.
using Weir.Conf;
using Weir.Http.Api;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Session.Upstream;
using Weir.Zones;

namespace Weir.Http.Modules;

internal sealed class ApiModule : HttpModule
{
    public override string Name => "http_api";

    public override void Declare(HttpDeclarations d)
    {
        d.Own(new DirectiveSpec
        {
            Name = "api",
            Contexts = ConfContext.Location,
            Arity = ConfArity.Zero | ConfArity.One,
            Summary = "Answers with nginx Plus's REST API: api [write=on|off];",
            Apply = static (walker, use) => Set(walker, use),
        });
        d.Own(new DirectiveSpec
        {
            Name = "state",
            Contexts = ConfContext.Upstream,
            Arity = ConfArity.One,
            Summary = "The file that keeps the servers of a group as the API changes them: state FILE;",
            Apply = static (walker, use) => SetState(walker, use, walker.Need<UpstreamBlock>()),
        });
    }

    private static void Set(ConfWalker walker, ConfDirective use)
    {
        if (use.Args.Length > 0 && use[0] is not ("write=on" or "write=off"))
        {
            walker.Error(use.Args[0], $"invalid parameter \"{use[0]}\"");
            return;
        }
        HttpBuild build = walker.Need<HttpBuild>();
        walker.Need<HttpBlock>().Core.ContentHandler = new ApiHandler(build.Resources.Counters,
            build.Configuration.Variables.Use("request_id"), use.Args.Length > 0 && use[0] == "write=on");
    }

    private static void SetState(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        if (group.StatePath is not null)
        {
            walker.Complain(use, "is duplicate");
            return;
        }
        if (group.ServerCount > 0)
        {
            walker.Error(use.Span, "\"state\" directive is incompatible with \"server\"");
            return;
        }
        HttpBuild build = group.Build;
        string path = build.FullPath(use[0]);
        // There is none before the first change.
        if (build.Resources.ReadState(path) is { } bytes)
        {
            Read(walker, use, group, new ConfFile(path, bytes));
        }
        group.StatePath = path;
    }

    private static void Read(ConfWalker walker, ConfDirective use, UpstreamBlock group, ConfFile file)
    {
        ConfTree tree = ConfParser.ParseText(file, new MemoryConfFiles(), group.Build.Resources.ConfPrefix);
        foreach (ConfError error in tree.Errors.All)
        {
            walker.Error(use.Args[0], $"{error.Format()} in state file");
        }
        foreach (ConfDirective line in tree.Directives)
        {
            if (line.Name != "server" || line.Block is not null || line.Args.Length == 0)
            {
                walker.Error(use.Args[0], $"unexpected \"{line.Name}\" in state file \"{file.Path}\"");
                return;
            }
            UpstreamServers.Add(walker, line, group);
        }
    }
}

/// <summary>The API of one location.</summary>
internal sealed class ApiHandler(CounterSlots? counters, Variable requestId, bool writes) : PhaseHandler
{
    private const int VersionMax = 9;

    private static readonly string[] s_root = ["nginx", "connections", "http"];
    private static readonly string[] s_http = ["requests", "upstreams"];

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        string path = PathOf(r);
        string[] parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
        bool reads = r.Method is HttpMethod.Get or HttpMethod.Head;
        if (parts.Length == 0)
        {
            return reads ? Answer(r, 200, Enumerable.Range(1, VersionMax).Cast<object>()) : Refuse(r, NotSupported);
        }
        if (!int.TryParse(parts[0], out int version) || version is < 1 or > VersionMax)
        {
            return Refuse(r, new ApiError(404, "unknown version", "UnknownVersion"));
        }
        string[]? fields = FieldsOf(r);
        object? shown = parts[1..] switch
        {
        [] => s_root,
        ["nginx"] => Server(r).Only(fields),
        ["connections"] => Connections().Only(fields),
        ["http"] => s_http,
        ["http", "requests"] => Requests().Only(fields),
        ["http", "upstreams"] => Upstreams(r, fields),
            _ => null,
        };
        if (shown is not null)
        {
            return reads ? Answer(r, 200, shown) : Refuse(r, NotSupported);
        }
        return parts.Length is >= 4 and <= 6 && parts[1] == "http" && parts[2] == "upstreams"
            && (parts.Length == 4 || parts[4] == "servers") ? Group(r, parts, fields, reads)
            : Refuse(r, new ApiError(404, "path not found", "PathNotFound"));
    }

    private static ApiError NotSupported { get; } = new(405, "method not supported", "MethodNotSupported");

    private static ApiError Disabled { get; } = new(405, "method disabled", "MethodDisabled");

    private static string PathOf(HttpRequest r)
    {
        NativeSlice name = r.Location.Regex is null && !r.Location.IsNamed ? r.Location.NameBytes : default;
        return System.Text.Encoding.Latin1.GetString(r.Uri.Slice(Math.Min(name.Length, r.Uri.Length)).Span);
    }

    private static string[]? FieldsOf(HttpRequest r)
    {
        foreach (string argument in r.Args.ToString().Split('&'))
        {
            if (argument.StartsWith("fields=", StringComparison.Ordinal))
            {
                return argument[7..].Replace("%2C", ",", StringComparison.OrdinalIgnoreCase)
                    .Split(',', StringSplitOptions.RemoveEmptyEntries);
            }
        }
        return null;
    }

    // What is shown.

    private ApiObject Server(HttpRequest r)
    {
        Span<byte> address = stackalloc byte[SocketAddress.TextBytesMax];
        int length = SocketAddress.Format(r.Connection.LocalAddress, address, withPort: false);
        return new ApiObject()
            .Add("version", VariablesModule.NginxVersion)
            .Add("build", "weir")
            .Add("address", System.Text.Encoding.Latin1.GetString(address[..length]))
            .Add("load_timestamp", ApiUpstreams.Time(counters?.CreatedUnixMs ?? 0))
            .Add("timestamp", ApiUpstreams.Time(r.Loop.UnixMs))
            .Add("pid", Environment.ProcessId);
    }

    private ApiObject Connections()
    {
        long Sum(StatusCounter counter) => counters?.Sum(counter) ?? 0;
        return new ApiObject().Add("accepted", Sum(StatusCounter.Accepted))
            .Add("dropped", Sum(StatusCounter.Accepted) - Sum(StatusCounter.Handled))
            .Add("active", Sum(StatusCounter.Active) - Sum(StatusCounter.Waiting))
            .Add("idle", Sum(StatusCounter.Waiting));
    }

    private ApiObject Requests() => new ApiObject().Add("total", counters?.Sum(StatusCounter.Requests) ?? 0)
        .Add("current", (counters?.Sum(StatusCounter.Reading) ?? 0) + (counters?.Sum(StatusCounter.Writing) ?? 0));

    private static object Upstreams(HttpRequest r, string[]? fields)
    {
        if (fields is [])
        {
            return ApiUpstreams.Shown(r.Configuration).Select(static g => g.Name.ToString()).ToArray();
        }
        var all = new ApiObject();
        foreach (UpstreamGroup group in ApiUpstreams.Shown(r.Configuration))
        {
            all.Add(group.Name.ToString(), ApiUpstreams.Of(UpstreamStates.Of(r.Loop).For(group)).Only(fields));
        }
        return all;
    }

    // Groups.

    private LoopTask<PhaseResult> Group(HttpRequest r, string[] parts, string[]? fields, bool reads)
    {
        UpstreamGroups groups = r.Configuration.Upstreams;
        byte[] name = System.Text.Encoding.Latin1.GetBytes(parts[3]);
        if (!groups.ByName.TryGet(name, out UpstreamGroup group))
        {
            return Refuse(r, new ApiError(404, "upstream not found", "UpstreamNotFound"));
        }
        GroupState state = UpstreamStates.Of(r.Loop).For(group);
        if (!reads && !writes && r.Method is HttpMethod.Post or HttpMethod.Patch or HttpMethod.Delete)
        {
            return Refuse(r, Disabled);
        }
        if (parts.Length == 4)
        {
            if (group.Zone is null)
            {
                return Refuse(r, new ApiError(404, "upstream not found", "UpstreamNotFound"));
            }
            if (reads)
            {
                return Answer(r, 200, ApiUpstreams.Of(state).Only(fields));
            }
            if (r.Method != HttpMethod.Delete)
            {
                return Refuse(r, NotSupported);
            }
            state.ClearStatistics();
            r.Response.Status = 204;
            return r.SendComplete(default);
        }
        if (!state.IsDynamic)
        {
            return Refuse(r, new ApiError(400, "upstream is static", "UpstreamStatic"));
        }
        if (parts.Length == 5)
        {
            return reads ? Answer(r, 200, ApiUpstreams.Servers(state))
                : r.Method == HttpMethod.Post ? WriteAsync(r, state, null) : Refuse(r, NotSupported);
        }
        if (!int.TryParse(parts[5], System.Globalization.NumberStyles.None, null, out int id))
        {
            return Refuse(r, new ApiError(400, "invalid server ID", "UpstreamBadServerId"));
        }
        return One(r, state, id, reads);
    }

    private LoopTask<PhaseResult> One(HttpRequest r, GroupState state, int id, bool reads)
    {
        ServerLine? line = state.LineOf(id);
        Peer? child = line is null ? state.ChildOf(id) : null;
        if (line is null && child is null)
        {
            return Refuse(r, NotFound(id));
        }
        if (reads)
        {
            return Answer(r, 200, line is null ? ApiUpstreams.ChildOf(state, child!) : ApiUpstreams.ServerOf(line));
        }
        if (r.Method is not (HttpMethod.Patch or HttpMethod.Delete))
        {
            return Refuse(r, NotSupported);
        }
        if (line is null)
        {
            return r.Method == HttpMethod.Patch ? WriteChildAsync(r, state, child!)
                : Refuse(r, new ApiError(400, $"server \"{id}\" not removable", "UpstreamServerImmutable"));
        }
        return r.Method == HttpMethod.Patch ? WriteAsync(r, state, line) : RemoveAsync(r, state, id);
    }

    private static ApiError NotFound(int id) =>
        new(404, $"server with ID \"{id}\" does not exist", "UpstreamServerNotFound");

    // Changes.

    /// <summary>A line from the request's body; null with the error that says why not.</summary>
    private static ServerLine? ReadLine(HttpRequest r, GroupState state, ServerLine? from, out ApiError? error)
    {
        if (r.Body.SpillDescriptor >= 0)
        {
            error = new ApiError(413, "request body is too large", "RequestEntityTooLarge");
            return null;
        }
        byte[] body = new byte[r.Body.Memory?.Length ?? 0];
        r.Body.Memory?.CopyTo(body);
        return ApiServerBody.Read(body, from, state.Group, out error);
    }

    /// <summary>A server that a name led to: what its line does not have to agree on may be changed.</summary>
    private async LoopTask<PhaseResult> WriteChildAsync(HttpRequest r, GroupState state, Peer child)
    {
        int status = await r.Body.CollectAsync();
        if (status != 0)
        {
            return PhaseResult.Answer(status);
        }
        ServerLine from = ApiUpstreams.LineOf(state, child);
        ServerLine? line = ReadLine(r, state, from, out ApiError? error);
        if (line is null)
        {
            return Refuse(r, error!);
        }
        if (line.Weight != from.Weight && line.Service.Length > 0)
        {
            return Refuse(r, new ApiError(400, $"server \"{from.Id}\" weight is immutable",
                "UpstreamServerWeightImmutable"));
        }
        if (line.Route != from.Route || line.SlowStartMs != from.SlowStartMs)
        {
            return Refuse(r, new ApiError(400, $"server \"{from.Id}\" has \"route\" and \"slow_start\" of its parent",
                "UpstreamServerImmutable"));
        }
        if (child.IsGone)
        {
            return Refuse(r, NotFound(from.Id));
        }
        state.ChangeChild(child, line);
        return Answer(r, 200, ApiUpstreams.ChildOf(state, child));
    }

    private async LoopTask<PhaseResult> WriteAsync(HttpRequest r, GroupState state, ServerLine? from)
    {
        int status = await r.Body.CollectAsync();
        if (status != 0)
        {
            return PhaseResult.Answer(status);
        }
        ServerLine? line = ReadLine(r, state, from, out ApiError? error);
        if (line is null)
        {
            return Refuse(r, error!);
        }
        ListChange change = from is null ? state.Add(ref line) : state.Change(line);
        if (change == ListChange.NoRoom)
        {
            r.LogError(LogLevel.Error, $"no room for one more server in the zone of upstream \"{state.Group.Name}\"");
        }
        if (change != ListChange.Done)
        {
            return Refuse(r, change switch
            {
                ListChange.Exists => new ApiError(409, $"server \"{line.Server}\" exists", "EntryExists"),
                ListChange.NoRoom => new ApiError(400, $"upstream \"{state.Group.Name}\" memory exhausted",
                    "UpstreamOutOfMemory"),
                _ => NotFound(line.Id),
            });
        }
        await SaveAsync(r, state);
        return Answer(r, from is null ? 201 : 200, ApiUpstreams.ServerOf(line));
    }

    private async LoopTask<PhaseResult> RemoveAsync(HttpRequest r, GroupState state, int id)
    {
        if (state.Remove(id) != ListChange.Done)
        {
            return Refuse(r, NotFound(id));
        }
        await SaveAsync(r, state);
        return Answer(r, 200, ApiUpstreams.Servers(state));
    }

    private static async LoopTask<Unit> SaveAsync(HttpRequest r, GroupState state)
    {
        if (state.Group.StatePath is { } path)
        {
            int errno = await StateFile.SaveAsync(r.Loop, state, path);
            if (errno != 0)
            {
                r.LogError(LogLevel.Crit, $"writing the state file \"{path}\" failed", errno);
            }
        }
        return default;
    }

    // Answers.

    private PhaseResult Refuse(HttpRequest r, ApiError error)
    {
        r.TryGet(requestId, out NativeSlice id);
        return Answer(r, error.Status, new ApiObject()
            .Add("error", new ApiObject().Add("status", error.Status).Add("text", error.Text).Add("code", error.Code))
            .Add("request_id", id.ToString())
            .Add("href", "https://nginx.org/en/docs/http/ngx_http_api_module.html"));
    }

    private static PhaseResult Answer(HttpRequest r, int status, object shown)
    {
        r.Response.Status = status;
        r.Response.ContentType = NativeSlice.Literal("application/json"u8);
        r.Response.Add(NativeSlice.Literal("Cache-Control"u8), NativeSlice.Literal("no-store"u8),
            KnownResponseHeader.CacheControl);
        return r.SendComplete(r.Arena.Store(System.Text.Encoding.Latin1.GetBytes(ApiObject.Text(shown))));
    }
}
