// What one request asks of the server, timed on a request that is alive: the in-memory engine serves it, and a handler
// of its log phase runs each path again and again. Whole requests, with and without a log line, come last.
using Weir.Conf;
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Server;
using Weir.Session;

namespace Weir.Bench.Micro;

internal static class RequestPaths
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

    internal static void Time()
    {
        const string used = "'$request_uri $http_x_own $arg_b $cookie_theme $mapped $remote_addr'";
        using (var server = new Served($"log_format used {used};"
            + "map $uri $mapped { default 0; ~^/docs/ docs; }", "access_log /dev/null used;"))
        {
            server.Probe(static r =>
            {
                VariableTable variables = r.Configuration.Variables;
                LocationTree locations = r.Server.Locations;
                Batches.Time("header lookup, known", () => r.Header(KnownHeader.UserAgent));
                Batches.Time("header lookup, by name", () => Get(r, variables.Use("http_x_own")));
                Batches.Time("location, 20 of which 5 are regex", () => locations.Find(r));
                foreach (string name in (string[])["request_uri", "arg_b", "cookie_theme", "mapped", "remote_addr"])
                {
                    Variable variable = variables.Use(name);
                    Batches.Time("variable, $" + name, () => Get(r, variable), 10_000);
                }
            });
        }
        using (var plain = new Served("", "access_log off;"))
        {
            plain.Exchange();
            Batches.Time("a whole request, no log", plain.Exchange, 10_000);
        }
        using (var logged = new Served("", "access_log /dev/null combined;"))
        {
            logged.Exchange();
            Batches.Time("a whole request, combined log line", logged.Exchange, 10_000);
        }
    }

    private static void Get(HttpRequest r, Variable variable)
    {
        // Past the cache of values that a request has.
        NativeSlice value = default;
        variable.Get!(r, variable, ref value);
    }

    /// <summary>A server on the in-memory engine with one connection to it.</summary>
    private sealed class Served : IDisposable
    {
        private readonly InMemoryLoop _loop = new() { WindowBytes = 1 << 20 };
        private readonly WebServer _server;
        private readonly InMemoryPeer _peer;
        private readonly byte[] _request = System.Text.Encoding.Latin1.GetBytes(Request);
        private readonly byte[] _answer = new byte[4096];

        internal Served(string http, string server)
        {
            _loop.Adopt();
            string text = $"error_log stderr; events {{}} http {{ keepalive_requests 1000000000; {http} server {{ "
                + $"listen 127.0.0.1:80; server_name www.example.org; {server} {Locations} }} }}";
            _server = WebServer.TryStart(_loop, WebServerOptions.FromText(text, "/nonexistent"), out ConfErrors errors)
                ?? throw new InvalidOperationException(string.Join('\n', errors.All.Select(static e => e.Format())));
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

        internal void Probe(Action<HttpRequest> paths)
        {
            _server.Http.Configuration!.LogHandlers.Add(new ProbeHandler(paths));
            Exchange();
        }

        public void Dispose()
        {
            _server.Dispose();
            _loop.Dispose();
        }
    }

    private sealed class ProbeHandler(Action<HttpRequest> paths) : LogHandler
    {
        public override void OnLog(HttpRequest r) => paths(r);
    }
}
