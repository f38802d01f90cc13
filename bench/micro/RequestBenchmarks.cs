// What one request asks of the server, timed on a request that is alive: the in-memory engine serves it, and a handler
// of its log phase runs the path again and again. And whole requests, with and without a log line.
using BenchmarkDotNet.Attributes;
using Weir.Conf;
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Server;
using Weir.Session;

namespace Weir.Bench.Micro;

public class RequestBenchmarks
{
    private const string Request = "GET /docs/page-17.html?a=1&b=2 HTTP/1.1\r\nHost: www.example.org\r\n"
        + "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\n"
        + "Accept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\nX-Own: mine\r\n"
        + "Cookie: session=0123456789abcdef; theme=dark\r\n\r\n";

    // Twenty locations, five of them regular expressions, as in the realistic forms of bench/run.
    private const string Locations = """
        location = /favicon.ico { return 204; } location = /robots.txt { return 200; }
        location = /health { return 200; }
        location /admin/ { return 403; } location /api/ { return 404; } location /api/v1/ { return 404; }
        location /api/v2/ { return 404; } location /assets/ { return 404; } location /downloads/ { return 404; }
        location /static/ { return 404; } location /images/ { return 404; } location /old/ { return 301 /new/; }
        location /status { return 200; } location /docs/ { return 200 "hello, world\n"; }
        location ~ \\.php$ { return 404; } location ~* \\.(jpg|jpeg|png|gif|webp|avif)$ { return 404; }
        location ~ ^/user/[0-9]+/profile$ { return 404; } location ~ /\\.(git|svn|ht) { return 404; }
        location ~* \\.(woff2?|ttf|eot)$ { return 404; } location / { return 404; }
        """;

    /// <summary>How often the path runs in one request, so that the request itself no longer counts.</summary>
    private const int PerRequest = 10_000;

    private const string Used = "log_format used '$request_uri $http_x_own $arg_b $cookie_theme $mapped $remote_addr';"
        + "map $uri $mapped { default 0; ~^/docs/ docs; }";

    private Served? _server;
    private Action<HttpRequest>? _path;

    [GlobalSetup(Targets = [nameof(HeaderKnown), nameof(HeaderByName), nameof(Location), nameof(VariableValue)])]
    public void SetUpPaths() => _server = new Served(Used, "access_log /dev/null used;");

    [GlobalSetup(Target = nameof(WholeRequest))]
    public void SetUpPlain() => _server = new Served("", "access_log off;");

    [GlobalSetup(Target = nameof(WholeRequestLogged))]
    public void SetUpLogged() => _server = new Served("", "access_log /dev/null combined;");

    [GlobalCleanup]
    public void CleanUp() => _server!.Dispose();

    [Benchmark(Description = "header lookup, known", OperationsPerInvoke = PerRequest)]
    public void HeaderKnown() => _server!.Probe(static r => r.Header(KnownHeader.UserAgent));

    [Benchmark(Description = "header lookup, by name", OperationsPerInvoke = PerRequest)]
    public void HeaderByName() => Get("http_x_own");

    [Benchmark(Description = "location, 20 of which 5 are regex", OperationsPerInvoke = PerRequest)]
    public void Location() => _server!.Probe(static r => r.Server.Locations.Find(r));

    [Benchmark(Description = "variable", OperationsPerInvoke = PerRequest)]
    [Arguments("request_uri")]
    [Arguments("arg_b")]
    [Arguments("cookie_theme")]
    [Arguments("mapped")]
    [Arguments("remote_addr")]
    public void VariableValue(string name) => Get(name);

    [Benchmark(Description = "a whole request, no log")]
    public void WholeRequest() => _server!.Exchange();

    [Benchmark(Description = "a whole request, combined log line")]
    public void WholeRequestLogged() => _server!.Exchange();

    private void Get(string name)
    {
        if (_path is null)
        {
            Variable variable = _server!.Variables.Use(name);
            _path = r =>
            {
                // Past the cache of values that a request has.
                NativeSlice value = default;
                variable.Get!(r, variable, ref value);
            };
        }
        _server!.Probe(_path);
    }

    /// <summary>A server on the in-memory engine with one connection to it.</summary>
    private sealed class Served : IDisposable
    {
        private readonly InMemoryLoop _loop = new() { WindowBytes = 1 << 20 };
        private readonly WebServer _server;
        private readonly InMemoryPeer _peer;
        private readonly ProbeHandler _probe = new();
        private readonly byte[] _request = System.Text.Encoding.Latin1.GetBytes(Request);
        private readonly byte[] _answer = new byte[4096];

        internal Served(string http, string server)
        {
            _loop.Adopt();
            string text = $"error_log stderr; events {{}} http {{ keepalive_requests 1000000000; {http} server {{ "
                + $"listen 127.0.0.1:80; server_name www.example.org; {server} {Locations} }} }}";
            _server = WebServer.TryStart(_loop, WebServerOptions.FromText(text, "/nonexistent"), out ConfErrors errors)
                ?? throw new InvalidOperationException(string.Join('\n', errors.All.Select(static e => e.Format())));
            _server.Http.Configuration!.LogHandlers.Add(_probe);
            _peer = _loop.Connect(SocketAddress.Parse("127.0.0.1:80").Native);
        }

        internal void Exchange()
        {
            _peer.Send(_request);
            while (_peer.Read(_answer) == 0)
            {
                _loop.RunTurn(0);
            }
        }

        internal VariableTable Variables => _server.Http.Configuration!.Variables;

        internal void Probe(Action<HttpRequest> path)
        {
            _probe.Path = path;
            Exchange();
        }

        public void Dispose()
        {
            _server.Dispose();
            _loop.Dispose();
        }
    }

    private sealed class ProbeHandler : LogHandler
    {
        internal Action<HttpRequest>? Path { get; set; }

        public override void OnLog(HttpRequest r)
        {
            for (int i = 0; Path is { } path && i < PerRequest; i++)
            {
                path(r);
            }
        }
    }
}
