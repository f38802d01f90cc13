// Explains one request: the whole server on the simulated engine with a trace in its pipelines, one client, and
// upstream servers that are played. Nothing is listened on, nobody is connected to, no log is written; files are read
// as the server would read them. Start-up only.
using System.Globalization;
using System.Text;
using Weir.Conf;
using Weir.Http;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Server;
using Weir.Session;

namespace Weir.Explain;

internal sealed class Explainer
{
    private const int PatienceMs = 120_000;
    private const int ClientPort = 50_000;

    private readonly ExplainOptions _options;
    private readonly ExplainReport _report = new();
    private readonly ExplainNames _names = new();
    private readonly string _scheme;
    private readonly string _host;
    private readonly int _port;
    private readonly string _target;

    private Explainer(ExplainOptions options)
    {
        _options = options;
        string url = options.Url;
        IsAbsolute = url.StartsWith("http://", StringComparison.OrdinalIgnoreCase)
            || url.StartsWith("https://", StringComparison.OrdinalIgnoreCase);
        _scheme = url.StartsWith("https", StringComparison.OrdinalIgnoreCase) && IsAbsolute ? "https" : "http";
        _port = _scheme == "https" ? 443 : 80;
        _host = "localhost";
        _target = url;
        if (IsAbsolute)
        {
            string rest = url[(_scheme.Length + 3)..];
            int slash = rest.AsSpan().IndexOfAny('/', '?');
            string authority = slash < 0 ? rest : rest[..slash];
            _target = slash < 0 ? "/" : rest[slash] == '?' ? "/" + rest[slash..] : rest[slash..];
            int colon = authority.LastIndexOf(':');
            if (colon > authority.LastIndexOf(']') && int.TryParse(authority.AsSpan(colon + 1),
                NumberStyles.None, CultureInfo.InvariantCulture, out int port))
            {
                _port = port;
            }
            _host = authority;
        }
    }

    private bool IsAbsolute { get; }

    /// <summary>The report, or null with what is wrong.</summary>
    /// <param name="options">The request.</param>
    /// <param name="files">Where the configuration's texts come from.</param>
    /// <param name="complaint">Why there is no report; configuration errors in their rendered form.</param>
    public static ExplainReport? Explain(ExplainOptions options, IConfFiles files, out string complaint)
    {
        string folder = Directory.CreateTempSubdirectory("weir-explain-").FullName;
        try
        {
            return new Explainer(options).Run(files, folder, out complaint);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private ExplainReport? Run(IConfFiles files, string folder, out string complaint)
    {
        using var loop = new InMemoryLoop();
        loop.Adopt();
        Exception? fault = null;
        loop.Fault = e => fault ??= e;
        // The build and the scopes must look at the same objects.
        ConfTree tree = ConfParser.Parse(files, _options.ConfPath, _options.Globals);
        var trace = new ExplainTrace(new ConfScopes(tree), _report);
        var conf = new WebServerOptions(files, _options.ConfPath)
        {
            Prefix = _options.Prefix,
            Globals = _options.Globals,
            Tree = tree,
            Trace = trace,
            Around = inner => new ExplainResources(inner, _names, _report.Log, folder),
        };
        AnswerNames(loop, tree.Directives);
        using WebServer? server = WebServer.TryStart(loop, conf, out ConfErrors errors);
        if (server is null)
        {
            complaint = string.Concat(errors.All.Where(static e => e.Level == ConfLevel.Emerg)
                .Select(static e => e.Render()));
            return null;
        }
        if (Find(server, out complaint) is not { } binding)
        {
            return null;
        }
        var upstreams = new ExplainUpstreams(loop, trace, _options.UpstreamStatus);
        if (!Ask(loop, server, binding, trace, upstreams, out complaint))
        {
            return null;
        }
        if (fault is not null)
        {
            complaint = $"the server failed: {fault.Message}";
            return null;
        }
        return _report;
    }

    private ListenBinding? Find(WebServer server, out string complaint)
    {
        complaint = "";
        foreach (ListenBinding binding in server.Http.Bindings)
        {
            if (_options.To.Length > 0 ? binding.Spec.Address.ToString() == _options.To
                : !IsAbsolute || binding.Spec.Address.Port == _port && binding.Group.Tls == (_scheme == "https"))
            {
                return binding;
            }
        }
        string wanted = _options.To.Length > 0 ? _options.To : $"{_scheme} on port {_port}";
        complaint = $"nobody listens for {wanted}; the configuration listens on "
            + string.Join(", ", server.Http.Bindings.Select(static b => b.Spec.Address + (b.Group.Tls ? " ssl" : "")));
        return null;
    }

    private bool Ask(InMemoryLoop loop, WebServer server, ListenBinding binding, ExplainTrace trace,
        ExplainUpstreams upstreams, out string complaint)
    {
        complaint = "";
        if (!SocketAddress.TryParse(_options.From.Contains(':') && !_options.From.Contains('[')
            && !_options.From.StartsWith("unix:", StringComparison.Ordinal) ? $"[{_options.From}]" : _options.From,
            ClientPort, out SocketAddress? from, out string why))
        {
            complaint = $"\"{_options.From}\" is no address: {why}";
            return false;
        }
        HttpConfiguration configuration = server.Http.Configuration!;
        var ended = new Ended(this, from!.Native.ToArray(), upstreams, trace);
        foreach (string name in (string[])[.. _options.Variables, "proxy_host", "request_filename"])
        {
            configuration.Variables.Use(name);
        }
        configuration.LogHandlers.Add(ended);
        bool isTls = binding.Group.Tls;
        byte[] request = RequestBytes(binding);
        _report.Steps.Add(new ExplainStep("listen", binding.Spec.Address + (isTls ? " ssl" : ""), null,
            IsAbsolute || _options.To.Length > 0 ? "" : "the first address of the configuration", 0));
        using var client = new ExplainClient(loop, loop.Connect(binding.Spec.Address.Native, from.Native.ToArray()),
            isTls ? _host.Split(':')[0] : null);
        if (client.Send(request) is { } failed)
        {
            complaint = failed;
            return false;
        }
        loop.RunUntil(() => ended.IsEnded || client.IsOver, PatienceMs);
        loop.RunUntilIdle();
        client.Take();
        ReadAnswer(client.Received, trace);
        return true;
    }

    private byte[] RequestBytes(ListenBinding binding)
    {
        bool isUsual = _port == (_scheme == "https" ? 443 : 80);
        string host = IsAbsolute ? _host
            : binding.Spec.Address.Port is 80 or 443 ? "localhost" : $"localhost:{binding.Spec.Address.Port}";
        if (isUsual && host.EndsWith($":{_port}", StringComparison.Ordinal))
        {
            host = host[..host.LastIndexOf(':')];
        }
        var text = new StringBuilder();
        _report.RequestLine = $"{_options.Method} {_target} HTTP/1.1";
        text.Append(_report.RequestLine).Append("\r\n");
        string? given = _options.Headers.FirstOrDefault(static h =>
            h.StartsWith("Host:", StringComparison.OrdinalIgnoreCase));
        _report.Host = given is null ? host : given[5..].Trim();
        if (given is null)
        {
            text.Append("Host: ").Append(host).Append("\r\n");
        }
        foreach (string line in _options.Headers)
        {
            text.Append(line).Append("\r\n");
        }
        byte[] body = Encoding.UTF8.GetBytes(_options.Body);
        if (body.Length > 0 || _options.Method is "POST" or "PUT" or "PATCH")
        {
            text.Append("Content-Length: ").Append(body.Length).Append("\r\n");
        }
        text.Append("\r\n");
        return [.. Encoding.UTF8.GetBytes(text.ToString()), .. body];
    }

    private void ReadAnswer(byte[] bytes, ExplainTrace trace)
    {
        _report.IsOpen = trace.IsStopped;
        string text = Encoding.Latin1.GetString(bytes);
        int end = text.IndexOf("\r\n\r\n", StringComparison.Ordinal);
        if (end < 0 || trace.IsStopped)
        {
            return;
        }
        string[] lines = text[..end].Split("\r\n");
        _report.Status = int.Parse(lines[0].Split(' ')[1], CultureInfo.InvariantCulture);
        _report.BodyBytes = bytes.Length - end - 4;
        foreach (string line in lines.Skip(1))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            string name = line[..colon];
            (string Value, ConfDirective? Directive) source = trace.Fields.GetValueOrDefault(name);
            _report.Fields.Add(new ExplainField(name, line[(colon + 1)..].Trim(),
                source.Directive is null ? null : ConfScopes.Text(source.Directive),
                source.Directive is null ? null : ConfScopes.At(source.Directive)));
        }
    }

    /// <summary>Every name server that the configuration names knows every name.</summary>
    private void AnswerNames(InMemoryLoop loop, IEnumerable<ConfDirective> directives)
    {
        const int dnsPort = 53;
        foreach (ConfDirective directive in directives)
        {
            if (directive.Name == "resolver")
            {
                foreach (ConfArg arg in directive.Args)
                {
                    if (!arg.Text.Contains('=') && _names.Find(arg.Text, dnsPort) is { } address)
                    {
                        bool isLiteral = SocketAddress.TryParse(arg.Text, dnsPort, out SocketAddress? literal,
                            out string _);
                        loop.Respond((isLiteral ? literal! : address).Native, AnswerName);
                    }
                }
            }
            AnswerNames(loop, directive.Block ?? []);
        }
    }

    private void AnswerName(byte[] question, Action<byte[]> reply)
    {
        const int headBytes = 12;
        if (question.Length <= headBytes)
        {
            return;
        }
        var name = new StringBuilder();
        int at = headBytes;
        while (at < question.Length && question[at] > 0 && at + question[at] < question.Length)
        {
            name.Append(name.Length > 0 ? "." : "").Append(Encoding.ASCII.GetString(question, at + 1, question[at]));
            at += question[at] + 1;
        }
        bool isA = at + 2 < question.Length && question[at + 2] == 1;
        byte[] address = SocketAddress.AddressBytesOf(_names.Find(name.ToString(), 53)!.Native).ToArray();
        byte[] answer = isA ? [0xC0, headBytes, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, .. address] : [];
        int end = Math.Min(at + 5, question.Length);
        reply([question[0], question[1], 0x81, 0x80, 0, 1, 0, (byte)(isA ? 1 : 0), 0, 0, 0, 0,
            .. question[headBytes..end], .. answer]);
    }

    /// <summary>The log phase: variables and upstream servers as they were when the request ended.</summary>
    private sealed class Ended(Explainer owner, byte[] client, ExplainUpstreams upstreams, ExplainTrace trace)
        : LogHandler
    {
        public bool IsEnded { get; private set; }

        public override void OnLog(HttpRequest r)
        {
            if (!r.IsMain || !r.Connection.PeerAddress.SequenceEqual(client))
            {
                return;
            }
            IsEnded = true;
            ExplainReport report = owner._report;
            foreach (string name in owner._options.Variables)
            {
                Variable variable = r.Configuration.Variables.Use(name);
                report.Variables.Add((variable.Name, variable.Get is null && variable.Data is null ? null
                    : r.TryGet(variable, out NativeSlice value) ? value.ToString() : null));
            }
            if (r.Find(UpstreamRecord.Slot) is not { } attempts)
            {
                return;
            }
            string group = r.TryGet(r.Configuration.Variables.Use("proxy_host"), out NativeSlice host)
                ? host.ToString() : "";
            for (int i = 0; i < attempts.Count; i++)
            {
                string address = attempts[i].Address.ToString();
                PlayedRequest? played = upstreams.Requests.Find(p => p.Address == address);
                if (played is not null)
                {
                    upstreams.Requests.Remove(played);
                }
                ConfDirective? block = trace.Scopes.Find("upstream", group);
                ConfDirective? line = block?.Block?.FirstOrDefault(d => d.Name == "server" && d.Args.Length > 0
                    && owner._names.Find(HostOf(d[0]), PortOf(d[0]))?.ToString() == address) ?? block;
                report.Upstreams.Add(new ExplainUpstream(owner._names.Describe(address), group,
                    line is null ? null : ConfScopes.At(line), played?.Line ?? "", played?.Fields ?? [],
                    played?.IsAnswered ?? true));
            }
        }

        private static string HostOf(string address)
        {
            int colon = address.LastIndexOf(':');
            return address.StartsWith("unix:", StringComparison.Ordinal) || colon <= address.LastIndexOf(']')
                ? address : address[..colon];
        }

        private static int PortOf(string address)
        {
            string host = HostOf(address);
            return host.Length == address.Length ? 80
                : int.TryParse(address.AsSpan(host.Length + 1), NumberStyles.None, CultureInfo.InvariantCulture,
                    out int port) ? port : 80;
        }
    }
}
