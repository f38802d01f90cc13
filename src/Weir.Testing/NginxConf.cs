// An nginx.conf under unit test: the whole server on the simulated engine in the calling thread, with no socket, no
// process and a virtual clock. One configuration belongs to one test at a time: its calls come one after another, from
// whatever thread. What it writes lies in a folder of its own, which goes with it.
using System.Text;
using Weir.Conf;
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;
using Weir.Server;
using Weir.Session;

namespace Weir.Testing;

/// <summary>A configuration under test.</summary>
public sealed class NginxConf : IDisposable
{
    private const int FirstClientPort = 20_000;
    private const int DnsHeaderBytes = 12;
    private const int DnsPort = 53;
    private const int DnsTypeA = 1;

    private readonly NginxConfOptions _options;
    private readonly TestingNames _names;
    private readonly string _folder;
    private readonly WebServer _server;
    private readonly List<string> _warnings = [];
    private readonly Dictionary<string, ScriptedUpstream> _upstreams = [];
    private int _lastClientPort = FirstClientPort;
    private long _lastOrder;
    private Exception? _fault;

    private NginxConf(string path, string? text, NginxConfOptions? options)
    {
        _options = options ?? new NginxConfOptions();
        _names = new TestingNames(_options);
        _folder = Directory.CreateTempSubdirectory("weir-testing-").FullName;
        Loop = new InMemoryLoop { Fault = e => _fault ??= e };
        Loop.Adopt();
        var files = new TestingFiles(_options, text is null ? null : path, text);
        var conf = new WebServerOptions(files, path)
        {
            Prefix = _options.Prefix ?? Path.GetDirectoryName(path) ?? "/",
            Globals = _options.Globals,
            Around = inner => new TestingResources(inner, _options, _names, LogLines, _folder),
        };
        AnswerNames(ConfParser.Parse(files, path, _options.Globals).Directives);
        WebServer? server = WebServer.TryStart(Loop, conf, out ConfErrors errors);
        if (server is null)
        {
            Loop.Dispose();
            Directory.Delete(_folder, recursive: true);
            string[] found = [.. errors.All.Select(static e => e.Format())];
            throw new NginxConfException(string.Join('\n', found), found);
        }
        _server = server;
        _warnings.AddRange(errors.All.Select(static e => e.Format()));
        VariableTable variables = Configuration.Variables;
        foreach (string name in variables.DeclaredNames.ToArray())
        {
            variables.Use(name);
        }
        Configuration.LogHandlers.Add(Recorder);
    }

    internal InMemoryLoop Loop { get; }
    internal Recorder Recorder { get; } = new();
    internal List<string> LogLines { get; } = [];
    internal bool IsDisposed { get; private set; }
    internal TimeSpan Patience => _options.Patience;
    internal long PatienceMs => (long)_options.Patience.TotalMilliseconds;

    private HttpConfiguration Configuration => _server.Http.Configuration!;

    /// <summary>Loads a configuration file with its includes.</summary>
    /// <exception cref="NginxConfException">Weir refuses it.</exception>
    public static NginxConf Load(string path, NginxConfOptions? options = null) =>
        new(Path.GetFullPath(path), null, options);

    /// <summary>Loads a configuration that is a text; relative includes belong to the current directory.</summary>
    /// <exception cref="NginxConfException">Weir refuses it.</exception>
    public static NginxConf Parse(string text, NginxConfOptions? options = null) =>
        new(Path.Join(Environment.CurrentDirectory, "nginx.conf"), text, options);

    /// <summary>Warnings that loading gave, in the words of <c>weir -t</c>.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>The error logs, all in one, as "[level] message".</summary>
    public IReadOnlyList<string> Log => LogLines;

    /// <summary>The time on the virtual clock. It begins at 2026-01-01T00:00:00Z and moves when a request waits for
    /// something, and by <see cref="Advance"/>.</summary>
    public DateTimeOffset Now => DateTimeOffset.FromUnixTimeMilliseconds(Loop.UnixMs);

    /// <summary>The addresses that the configuration listens on.</summary>
    public IReadOnlyList<string> Addresses =>
        [.. _server.Http.Bindings.Select(static b => b.Spec.Address.ToString())];

    /// <summary>Sends a GET and gives its answer.</summary>
    /// <param name="url">A URL, or a path for the first listening address.</param>
    /// <param name="headers">Header lines such as "Accept: text/html".</param>
    public Answer Get(string url, params string[] headers) => Send(new ConfRequest("GET", url, headers));

    /// <summary>Sends a HEAD.</summary>
    public Answer Head(string url, params string[] headers) => Send(new ConfRequest("HEAD", url, headers));

    /// <summary>Sends a POST with a text as its body.</summary>
    public Answer Post(string url, string body, params string[] headers) =>
        Send(new ConfRequest("POST", url, headers).WithBody(body));

    /// <summary>Sends a request on a connection of its own and gives its answer. Time passes on the virtual clock when
    /// the answer has to wait for it.</summary>
    public Answer Send(ConfRequest request)
    {
        using PendingAnswer pending = Begin(request);
        return pending.Wait();
    }

    /// <summary>Sends a request and does not wait: others can be sent while it is under way.</summary>
    public PendingAnswer Begin(ConfRequest request)
    {
        Enter();
        (string scheme, string host, _, int port, _) = request.Split();
        ListenBinding binding = Find(request, scheme, port);
        bool isTls = binding.Group.Tls;
        SocketAddress from = _names.Find(request.From, ++_lastClientPort)
            ?? throw new ArgumentException($"\"{request.From}\" is no address");
        byte[] native = from.Native.ToArray();
        InMemoryPeer peer = Loop.Connect(binding.Spec.Address.Native, native);
        return new PendingAnswer(this, request, peer, Recorder.KeyOf(native), isTls ? host : null);
    }

    /// <summary>The scripted upstream server at an address as the configuration writes it: "10.0.0.1:8080",
    /// "backend:8080", "unix:/run/app.sock". Without a port it is 80.</summary>
    public ScriptedUpstream Upstream(string address)
    {
        Enter();
        SocketAddress native = AddressOf(address);
        string key = native.ToString();
        if (!_upstreams.TryGetValue(key, out ScriptedUpstream? upstream))
        {
            upstream = new ScriptedUpstream(this, address, native.Native.ToArray());
            _upstreams.Add(key, upstream);
        }
        return upstream;
    }

    /// <summary>Lets time pass on the virtual clock; every timer on the way fires at its own time.</summary>
    public void Advance(TimeSpan time)
    {
        Enter();
        Loop.AdvanceClock((long)time.TotalMilliseconds);
        Check();
    }

    /// <summary>Lets <see cref="Answer.Variables"/> have these as well: variables of a family, such as "arg_id",
    /// "http_accept", "sent_http_location", "cookie_session", "upstream_http_server".</summary>
    /// <exception cref="ArgumentException">There is no such variable.</exception>
    public void Watch(params string[] variables)
    {
        Enter();
        foreach (string name in variables)
        {
            if (Configuration.Variables.Use(name.TrimStart('$')).Get is null)
            {
                throw new ArgumentException($"there is no variable \"{name}\"");
            }
        }
    }

    /// <summary>What an access log of the configuration holds by now.</summary>
    /// <param name="path">The path that the <c>access_log</c> directive gives.</param>
    public string AccessLog(string path)
    {
        Enter();
        _server.Http.FlushLogs();
        string full = Path.IsPathRooted(path) ? path : Path.Join(_options.Prefix ?? Environment.CurrentDirectory, path);
        string file = TestingResources.LogFile(_folder, full);
        return File.Exists(file) ? File.ReadAllText(file) : "";
    }

    /// <summary>Ends the server and removes what it wrote.</summary>
    public void Dispose()
    {
        if (IsDisposed)
        {
            return;
        }
        Enter();
        IsDisposed = true;
        _server.Dispose();
        Loop.RunUntilIdle();
        Loop.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    internal long NextOrder() => ++_lastOrder;

    internal IEnumerable<UpstreamRequest> RequestsOf(string address) =>
        _upstreams.Values.Where(u => u.Address == address).SelectMany(static u => u.Requests);

    /// <summary>The calling thread becomes the loop's.</summary>
    internal void Enter()
    {
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        if (!Loop.IsOnThread)
        {
            Loop.Adopt();
        }
        Check();
    }

    private void Check()
    {
        if (_fault is { } fault)
        {
            throw new InvalidOperationException("the server failed", fault);
        }
    }

    private SocketAddress AddressOf(string address)
    {
        if (address.StartsWith("unix:", StringComparison.Ordinal))
        {
            return _names.Find(address, 0)!;
        }
        int colon = address.LastIndexOf(':');
        bool hasPort = colon > address.LastIndexOf(']') && int.TryParse(address.AsSpan(colon + 1), out int _);
        return _names.Find(hasPort ? address[..colon] : address, hasPort ? int.Parse(address.AsSpan(colon + 1)) : 80)
            ?? throw new ArgumentException($"\"{address}\" is no address");
    }

    private ListenBinding Find(ConfRequest request, string scheme, int port)
    {
        foreach (ListenBinding binding in _server.Http.Bindings)
        {
            ReadOnlySpan<byte> native = binding.Spec.Address.Native;
            if (request.To is { } to ? binding.Spec.Address.ToString() == to
                : !request.IsAbsolute || (SocketAddress.PortOf(native) == port
                    && binding.Group.Tls == (scheme == "https")))
            {
                return binding;
            }
        }
        throw new ArgumentException($"the configuration does not listen for {request.To ?? request.Url}; it listens on "
            + string.Join(", ", _server.Http.Bindings.Select(
                static b => b.Spec.Address + (b.Group.Tls ? " (TLS)" : ""))));
    }

    /// <summary>Every name server that the configuration names knows every name.</summary>
    private void AnswerNames(IEnumerable<ConfDirective> directives)
    {
        foreach (ConfDirective directive in directives)
        {
            if (directive.Name == "resolver")
            {
                foreach (ConfArg arg in directive.Args)
                {
                    if (!arg.Text.Contains('='))
                    {
                        Loop.Respond(ResolverAddress(arg.Text).Native, AnswerName);
                    }
                }
            }
            AnswerNames(directive.Block ?? []);
        }
    }

    private SocketAddress ResolverAddress(string text) =>
        SocketAddress.TryParse(text, DnsPort, out SocketAddress? address, out string _) ? address!
            : _names.Find(text.Split(':')[0], DnsPort)!;

    private void AnswerName(byte[] question, Action<byte[]> reply)
    {
        if (question.Length <= DnsHeaderBytes)
        {
            return;
        }
        var name = new StringBuilder();
        int at = DnsHeaderBytes;
        while (at < question.Length && question[at] > 0 && at + question[at] < question.Length)
        {
            name.Append(name.Length > 0 ? "." : "").Append(Encoding.ASCII.GetString(question, at + 1, question[at]));
            at += question[at] + 1;
        }
        int type = at + 2 < question.Length ? question[at + 2] : 0;
        byte[] address = SocketAddress.AddressBytesOf(_names.Find(name.ToString(), DnsPort)!.Native).ToArray();
        bool fits = type == DnsTypeA && address.Length == 4;
        byte[] answer = fits ? [0xC0, DnsHeaderBytes, 0, DnsTypeA, 0, 1, 0, 0, 0, 60, 0, 4, .. address] : [];
        // The question goes back up to its class; records behind it (EDNS) do not.
        int end = Math.Min(at + 5, question.Length);
        reply([question[0], question[1], 0x81, 0x80, 0, 1, 0, (byte)(fits ? 1 : 0), 0, 0, 0, 0,
            .. question[DnsHeaderBytes..end], .. answer]);
    }
}
