// HTTP/2 and gRPC beside nginx, frame by frame: the same configuration, the same frames; what comes back is decoded and
// compared: fields in their order, bodies, trailers, resets, GOAWAY, and the access log. Both servers are started once.
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Weir.Protocol.Http2;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Differential;

/// <summary>Both servers under one configuration, with an HTTP/1 and a gRPC server behind them.</summary>
public sealed class Http2Servers : IDisposable
{
    private const string Configuration = """
        types { text/plain txt; text/html html; }
        log_format h2 '$http_x_case|$request|$status|$body_bytes_sent|$server_protocol|$http2|$scheme|$host|$https|'
            '$request_completion|$upstream_status';
        large_client_header_buffers 4 8k; client_max_body_size 100k; client_header_timeout 5s; gzip_min_length 1;
        proxy_http_version 1.1; proxy_next_upstream off; grpc_next_upstream off;
        upstream calls { server 127.0.0.1:{grpc}; keepalive 4; }
        server {
            listen 127.0.0.1:%PORT% http2 default_server; listen 127.0.0.1:%PORT2% ssl http2;
            ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key;
            ssl_protocols TLSv1.3;
            server_name localhost; root %FILES%; access_log %DIR%/access.log h2; error_page 404 /lost.html;
            location /zip/ { gzip on; alias %FILES%/; }
            location /plain404/ { error_page 404 /none.html; }
            location /to { return 301 /there; }
            location /away { return 302 https://other.test/; }
            location /none { return 204; }
            location /text { return 200 "some text\n"; }
            location /asks { return 200 "$request_method $uri $args $scheme $http_user_agent $http_cookie $host"; }
            location /fields { add_header X-One one; add_header X-Two "two two" always; expires 1h; return 200 x; }
            location /seen { return 200 "$http_x_a $http_te $content_length $content_type $request_uri $is_args"; }
            location /secret { auth_basic closed; auth_basic_user_file %FILES%/users; }
            location /denied { deny all; }
            location /reads { limit_except GET { deny all; } alias %FILES%/file.txt; }
            location /rewritten { rewrite ^ /text last; }
            location /tries { try_files /no /file.txt; }
            location /inside { internal; }
            location /caught { error_page 403 =200 /text; deny all; }
            location /499 { return 444; }
            location /up/ { proxy_pass http://127.0.0.1:{up}; proxy_set_header Host up; }
            location /unbuffered/ { proxy_pass http://127.0.0.1:{up}; proxy_buffering off; proxy_set_header Host up; }
            location /streamed/ { proxy_pass http://127.0.0.1:{up}/up/; proxy_request_buffering off;
                proxy_set_header Host up; }
            location /dead { proxy_pass http://127.0.0.1:1; }
            location /t.T/ { grpc_pass grpc://calls; grpc_set_header X-Set set; }
            location /hides/ { grpc_pass grpc://calls; grpc_hide_header x-initial; }
            location /passes/ { grpc_pass grpc://calls; grpc_pass_header Server; grpc_pass_header Date; }
            location /late/ { grpc_pass grpc://calls; grpc_read_timeout 200ms; }
            location /gone/ { grpc_pass grpc://127.0.0.1:1; }
            location /page/ { grpc_pass grpc://127.0.0.1:1; error_page 502 =200 /text; }
            location /catches/ { grpc_pass grpc://calls; grpc_intercept_errors on; error_page 404 =200 /text; }
            location /ssl { return 200 "$ssl_protocol $ssl_server_name $http2 $scheme"; }
        }
        server { listen 127.0.0.1:%PORT% http2; server_name named.test; access_log %DIR%/access.log h2;
            return 200 "named $host $server_port"; }
        server { listen 127.0.0.1:%PORT3% http2; keepalive_requests 2; access_log %DIR%/access.log h2;
            return 200 two; }
        """;

    private readonly TempDir _files = new();
    private readonly Upstream _up = Upstream.Answering(static r => Answer(r));
    private readonly Upstream _grpc = new(static c => Http2CaseTests.Serve(new Http2Script(c)));

    public Http2Servers()
    {
        new TestAuthority().Write(_files, "ec");
        _files.Write("file.txt", string.Concat(Enumerable.Range(0, 500).Select(static i => $"line {i}\n")));
        _files.Write("large.txt", string.Concat(Enumerable.Range(0, 30_000).Select(static i => $"line {i}\n")));
        _files.Write("empty.txt", "");
        _files.Write("lost.html", "lost");
        _files.Write("folder/x.txt", "x");
        _files.Write("users", "me:{PLAIN}word\n");
        _files.SetFolderTimes();
        var conf = Harness.Conf.Http(Configuration
            .Replace("{grpc}", _grpc.Port.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal)
            .Replace("{up}", _up.Port.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal));
        Ours = ServerProcess.Weir(conf, _files);
        Theirs = ServerProcess.Nginx(conf, _files);
    }

    public ServerProcess Ours { get; }
    public ServerProcess Theirs { get; }

    private static string Answer(UpstreamRequest r)
    {
        string path = r.Line.Split(' ')[1];
        path = path[(path.IndexOf('/', 1) + 1)..];
        return path switch
        {
            "chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Up: yes\r\n\r\n"
                + "5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n",
            "304" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            "cookies" => Upstream.Ok("c", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2", "Server: hidden"),
            "hop" => Upstream.Ok("h", "Connection: keep-alive", "Keep-Alive: timeout=5", "X-Kept: yes"),
            "500" => "HTTP/1.1 500 Broken\r\nContent-Length: 3\r\n\r\n500",
            "large" => Upstream.Ok(new string('l', 70_000)),
            "head" => "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
            "location" => "HTTP/1.1 302 Found\r\nLocation: http://up/elsewhere\r\nContent-Length: 0\r\n\r\n",
            _ => Upstream.Ok($"{r.Line} {r.Header("Host")} {r.Header("Cookie")} {r.Header("Content-Length")} "
                + $"{r.Body.Length} {r.Body[..Math.Min(r.Body.Length, 20)]}", "X-Up: yes"),
        };
    }

    public void Dispose()
    {
        Ours.Dispose();
        Theirs.Dispose();
        _up.Dispose();
        _grpc.Dispose();
        _files.Dispose();
    }
}

public sealed partial class Http2CaseTests(Http2Servers servers) : IClassFixture<Http2Servers>
{
    /// <summary>What is done on a fresh connection to one of the ports, after which all streams' answers are read.
    /// </summary>
    private sealed record One(string Id, Action<Http2Client, string> Do, int Streams = 1, int Port = 1, int Logged = -1,
        (SettingId, uint)[]? Settings = null);

    private static byte[] Ask(string id, int stream, string path, string method = "GET", bool end = true,
        params string[] more) =>
        Http2Client.Headers(stream, end, Http2Client.Request(path, method, [.. more, "x-case: " + id]));

    private static One Get(string id, string path, params string[] more) =>
        new(id, (c, _) => c.Send(Ask(id, 1, path, "GET", true, more)));

    private static One With(string id, string method, string path, params string[] more) =>
        new(id, (c, _) => c.Send(Ask(id, 1, path, method, true, more)));

    private static One Post(string id, string path, string body, params string[] more) =>
        new(id, (c, _) => c.Send(Ask(id, 1, path, "POST", false, more)).SendBody(1, body));

    private static One Bytes(string id, Func<byte[]> bytes, int streams = 1, int logged = 0) =>
        new(id, (c, _) => c.TrySend(bytes()), streams, Logged: logged);

    private static readonly string[] _calls = ["content-type: application/grpc", "te: trailers"];

    private const string Message = "\0\0\0\0\u0005hello";

    private static One Call(string id, string path, string body = Message, params string[] more) =>
        Post(id, path, body, [.. _calls, .. more]);

    private static readonly One[] _cases =
    [
        Get("http2: a file", "/file.txt"),
        Get("http2: a large file", "/large.txt"),
        With("http2: HEAD of a file", "HEAD", "/file.txt"),
        Get("http2: a range", "/file.txt", "range: bytes=3-9"),
        Get("http2: the last bytes", "/file.txt", "range: bytes=-5"),
        Get("http2: several ranges", "/file.txt", "range: bytes=1-2,5-6"),
        Get("http2: a range beyond the end", "/file.txt", "range: bytes=9000-"),
        Get("http2: an etag that does not fit", "/file.txt", "if-none-match: \"no\""),
        Get("http2: not modified", "/file.txt", "if-none-match: *"),
        Get("http2: a condition that fails", "/file.txt", "if-match: \"no\""),
        Get("http2: an empty file", "/empty.txt"),
        Get("http2: a page for what is missing", "/lost"),
        Get("http2: a page that is missing too", "/plain404/x"),
        Get("http2: a folder without its slash", "/folder"),
        Get("http2: gzip", "/zip/file.txt", "accept-encoding: gzip"),
        Get("http2: gzip that nobody asked for", "/zip/file.txt"),
        Get("http2: a redirect", "/to"),
        Get("http2: a redirect elsewhere", "/away"),
        Get("http2: no content", "/none"),
        Get("http2: a text", "/text"),
        With("http2: HEAD of a text", "HEAD", "/text"),
        Get("http2: variables", "/asks?a=b&c", "user-agent: me", "cookie: a=1"),
        Get("http2: crumbs of a cookie", "/asks", "cookie: a=1", "cookie: b=2", "cookie: c=3"),
        With("http2: DELETE", "DELETE", "/asks"),
        With("http2: a method of one's own", "FROB", "/asks"),
        Get("http2: an escaped path", "/asks/%41/../b//c%20d"),
        Get("http2: a path that leaves the root", "/../../etc/passwd") with { Logged = 0 },
        Get("http2: fields that a configuration adds", "/fields"),
        Get("http2: fields that a client sends", "/seen?", "x-a: one", "te: trailers"),
        Get("http2: a field twice", "/seen", "x-a: one", "x-a: two"),
        Get("http2: a password is asked for", "/secret"),
        Get("http2: a wrong password", "/secret", "authorization: Basic bWU6bm8="),
        Get("http2: forbidden", "/denied"),
        With("http2: a method that is not allowed", "POST", "/reads"),
        With("http2: POST to a file", "POST", "/file.txt"),
        With("http2: PUT", "PUT", "/file.txt"),
        With("http2: TRACE", "TRACE", "/file.txt"),
        With("http2: OPTIONS", "OPTIONS", "/file.txt"),
        Get("http2: a rewrite", "/rewritten"),
        Get("http2: try_files", "/tries"),
        Get("http2: an internal location", "/inside"),
        Get("http2: a caught error", "/caught"),
        Get("http2: 444", "/499"),
        Get("http2: a proxied request", "/up/x?y", "cookie: a=1", "cookie: b=2"),
        Post("http2: a proxied body", "/up/x", "body"),
        Post("http2: a proxied body with its length", "/up/x", "body", "content-length: 4"),
        Post("http2: a large proxied body", "/up/x", new string('b', 90_000)),
        Post("http2: an empty body", "/up/x", ""),
        Post("http2: a streamed body", "/streamed/x", "body", "content-length: 4"),
        Post("http2: a body that is too large", "/up/x", "body", "content-length: 200000"),
        Get("http2: chunks of an upstream server", "/up/chunked"),
        Get("http2: chunks, unbuffered", "/unbuffered/chunked"),
        Get("http2: 304 of an upstream server", "/up/304"),
        Get("http2: cookies of an upstream server", "/up/cookies"),
        Get("http2: fields for one hop", "/up/hop"),
        Get("http2: an error of an upstream server", "/up/500"),
        Get("http2: a large answer", "/up/large"),
        Get("http2: a large answer, unbuffered", "/unbuffered/large"),
        With("http2: a proxied HEAD", "HEAD", "/up/head"),
        Get("http2: a redirect of an upstream server", "/up/location"),
        Get("http2: a dead upstream server", "/dead"),
        Get("http2: TLS", "/ssl") with { Port = 2 },
        Get("http2: a file over TLS", "/large.txt") with { Port = 2 },
        new("http2: a name of another server", static (c, id) => c.Send(Http2Client.Headers(1, true, ":method: GET",
            ":scheme: http", ":path: /", ":authority: named.test:99", "x-case: " + id))),
        new("http2: host without an authority", static (c, id) => c.Send(Http2Client.Headers(1, true, ":method: GET",
            ":scheme: http", ":path: /", "host: named.test", "x-case: " + id))),
        new("http2: an authority and its host", static (c, id) => c.Send(Http2Client.Headers(1, true, ":method: GET",
            ":scheme: http", ":path: /", ":authority: named.test", "host: named.test", "x-case: " + id)), Logged: 0),
        new("http2: no authority at all", static (c, id) => c.Send(Http2Client.Headers(1, true, ":method: GET",
            ":scheme: http", ":path: /text", "x-case: " + id)), Logged: 0),
        new("http2: three requests at once", static (c, id) => c.Send([.. Ask(id, 1, "/text"),
            .. Ask(id, 3, "/file.txt"), .. Ask(id, 5, "/none")]), 3),
        new("http2: a request after another", static (c, id) =>
        {
            c.Send(Ask(id, 1, "/fields")).ReadAnswer(1);
            c.Send(Ask(id, 3, "/fields")).ReadAnswer(3);
            c.Send(Ask(id, 5, "/up/cookies"));
        }, 3),
        new("http2: as many requests as a connection may have", static (c, id) =>
        {
            c.Send(Ask(id, 1, "/")).ReadAnswer(1);
            c.Send(Ask(id, 3, "/"));
        }, 2, 3),
        new("http2: a header block in pieces", static (c, id) =>
        {
            byte[] block = Http2Client.Block(Http2Client.Request("/asks", "GET", "cookie: a=1", "x-case: " + id));
            c.Send([.. Http2Client.Frame(FrameType.Headers, FrameFlags.EndStream, 1, block[..10]),
                .. Http2Client.Frame(FrameType.Continuation, FrameFlags.None, 1, block[10..20]),
                .. Http2Client.Frame(FrameType.Continuation, FrameFlags.EndHeaders, 1, block[20..])]);
        }),
        new("http2: padding and an old priority", static (c, id) =>
        {
            byte[] block = Http2Client.Block(Http2Client.Request("/text", "GET", "x-case: " + id));
            c.Send(Http2Client.Frame(FrameType.Headers, FrameFlags.EndStream | FrameFlags.EndHeaders
                | FrameFlags.Padded | FrameFlags.Priority, 1, [3, 0, 0, 0, 0, 15, .. block, 0, 0, 0]));
        }),
        new("http2: padded data", static (c, id) => c.Send([.. Ask(id, 1, "/up/x", "POST", false),
            .. Http2Client.Frame(FrameType.Data, FrameFlags.EndStream | FrameFlags.Padded, 1,
                [2, .. "body"u8, 0, 0])])),
        new("http2: a small window", static (c, id) => c.Send(Ask(id, 1, "/file.txt")),
            Settings: [(SettingId.InitialWindowSize, 100)]),
        new("http2: no compression table", static (c, id) => c.Send(Ask(id, 1, "/fields")),
            Settings: [(SettingId.HeaderTableSize, 0)]),
        new("http2: larger frames", static (c, id) => c.Send(Ask(id, 1, "/large.txt")),
            Settings: [(SettingId.MaxFrameSize, 65_536)]),
        new("http2: an unknown setting and an unknown frame", static (c, id) => c.Send([
            .. Http2Client.Settings(((SettingId)0x77, 1)), .. Http2Client.Frame((FrameType)0x77, FrameFlags.None, 0, 1),
            .. Ask(id, 1, "/text")])),
        new("http2: a stream that the client gives up", static (c, id) =>
            c.Send([.. Ask(id, 1, "/text"), .. Ask(id, 3, "/up/x", "POST", false),
                .. Http2Client.RstStream(3, Http2Error.Cancel)]), Logged: 2),
        Bytes("http2: a window that grows by nothing", static () => Http2Client.WindowUpdate(0, 0), 0),
        Bytes("http2: a window that overflows", static () => Http2Client.WindowUpdate(0, int.MaxValue), 0),
        Bytes("http2: a setting that is too large",
            static () => Http2Client.Settings((SettingId.InitialWindowSize, uint.MaxValue)), 0),
        Bytes("http2: a frame size that is too small",
            static () => Http2Client.Settings((SettingId.MaxFrameSize, 1)), 0),
        Bytes("http2: SETTINGS of an odd length", static () => Http2Client.Frame(FrameType.Settings, FrameFlags.None, 0,
            1, 2, 3), 0),
        Bytes("http2: a PING of an odd length",
            static () => Http2Client.Frame(FrameType.Ping, FrameFlags.None, 0, 1), 0),
        Bytes("http2: an even stream", static () => Ask("", 2, "/text"), 0),
        Bytes("http2: DATA on no stream", static () => Http2Client.Data(0, "x"), 0),
        Bytes("http2: DATA on an idle stream", static () => Http2Client.Data(9, "x"), 0),
        Bytes("http2: a frame that is too large", static () => Http2Client.Frame(FrameType.Data, FrameFlags.None, 1,
            new byte[20_000]), 0),
        Bytes("http2: a push by the client", static () => Http2Client.Frame(FrameType.PushPromise,
            FrameFlags.EndHeaders, 1, 0, 0, 0, 2), 0),
        Bytes("http2: CONTINUATION without HEADERS", static () => Http2Client.Frame(FrameType.Continuation,
            FrameFlags.EndHeaders, 1, 0x82), 0),
        Bytes("http2: a block that cannot be read", static () => Http2Client.Frame(FrameType.Headers,
            FrameFlags.EndHeaders | FrameFlags.EndStream, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), 0),
        Bytes("http2: a stream that goes backwards", static () => [.. Ask("", 5, "/text"), .. Ask("", 3, "/text")], 0),
        new("http2: a name in capitals", static (c, id) => c.Send(Ask(id, 1, "/text", "GET", true, "X-Big: 1")),
            Logged: 0),
        new("http2: connection: close", static (c, id) => c.Send(Ask(id, 1, "/text", "GET", true, "connection: close")),
            Logged: 0),
        new("http2: no path", static (c, id) => c.Send(Http2Client.Headers(1, true, ":method: GET", ":scheme: http",
            ":authority: localhost", "x-case: " + id)), Logged: 0),
        new("http2: a pseudo-header twice", static (c, id) => c.Send(Http2Client.Headers(1, true, ":method: GET",
            ":method: GET", ":scheme: http", ":path: /text", ":authority: localhost", "x-case: " + id)), Logged: 0),
        new("http2: an unknown pseudo-header", static (c, id) => c.Send(Http2Client.Headers(1, true, ":method: GET",
            ":scheme: http", ":path: /text", ":what: x", ":authority: localhost", "x-case: " + id)), Logged: 0),
        new("http2: a body longer than it says", static (c, id) => c.Send([.. Ask(id, 1, "/up/x", "POST", false,
            "content-length: 2"), .. Http2Client.Data(1, "body")]), Logged: 0),
        new("http2: a body shorter than it says", static (c, id) => c.Send([.. Ask(id, 1, "/up/x", "POST", false,
            "content-length: 20"), .. Http2Client.Data(1, "body")]), Logged: 0),
        new("http2: fields that are too large", static (c, id) => c.Send([.. Http2Client.Frame(FrameType.Headers,
            FrameFlags.EndStream, 1, Http2Client.Block(Http2Client.Request("/text"))),
            .. Http2Client.Frame(FrameType.Continuation, FrameFlags.None, 1,
                Http2Client.Block("x-large: " + new string('x', 10_000))),
            .. Http2Client.Frame(FrameType.Continuation, FrameFlags.EndHeaders, 1,
                Http2Client.Block("x-case: " + id))]),
            Logged: 0),

        Call("grpc: a call", "/t.T/Unary"),
        Call("grpc: a call that fails at once", "/t.T/Fails"),
        Call("grpc: messages from the server", "/t.T/Streams"),
        Call("grpc: what the server sees", "/t.T/Sees", Message, "x-mine: mine", "grpc-timeout: 5S", "bin-bin: AAE"),
        Call("grpc: a large message", "/t.T/Length", new string('m', 90_000)),
        Call("grpc: no message", "/t.T/Length", ""),
        Call("grpc: a large answer", "/t.T/Large"),
        Call("grpc: metadata that is hidden", "/hides/Unary"),
        Call("grpc: Server and Date that are passed", "/passes/Unary"),
        Call("grpc: a server that resets", "/t.T/Resets"),
        Call("grpc: a server that resets in the middle", "/t.T/Breaks"),
        Call("grpc: a server that closes", "/t.T/Closes"),
        Call("grpc: a server that sends GOAWAY and answers", "/t.T/Leaves"),
        Call("grpc: a server that is late", "/late/Hangs"),
        Call("grpc: a server that is not there", "/gone/Unary"),
        Call("grpc: a page for a server that is not there", "/page/Unary"),
        Call("grpc: a status of HTTP", "/t.T/404"),
        Call("grpc: a caught status of HTTP", "/catches/404"),
        Call("grpc: an answer without trailers", "/t.T/Bare"),
        Call("grpc: an interim answer", "/t.T/Interim"),
        Get("grpc: GET", "/t.T/Unary"),
        With("grpc: HEAD", "HEAD", "/t.T/Bare"),
        Call("grpc: a length that is known", "/t.T/Sees", Message, "content-length: 10"),
        new("grpc: two calls on a connection", static (c, id) =>
        {
            c.Send([.. Ask(id, 1, "/t.T/Unary", "POST", false, _calls), .. Http2Client.Data(1, Message)]).ReadAnswer(1);
            c.Send([.. Ask(id, 3, "/t.T/Fails", "POST", false, _calls), .. Http2Client.Data(3, Message)]);
        }, 2),
        Call("grpc: a call over TLS", "/t.T/Unary") with { Port = 2 },
    ];

    internal static IEnumerable<string> Names => _cases.Select(static c => c.Id);

    public static TheoryData<string> Ids => [.. _cases.Select(static c => c.Id)];

    [NeedsTheory("nginx"), MemberData(nameof(Ids))]
    public void Frames_of_both_servers_say_the_same(string id)
    {
        One one = _cases.Single(c => c.Id == id);
        string theirs = Talk(servers.Theirs, one), ours = Talk(servers.Ours, one);
        bool isKnown = KnownDifferences.Reasons.TryGetValue(id, out string? reason);
        if (isKnown && ours == theirs && !KnownDifferences.Varying.Contains(id))
        {
            Assert.Fail($"no longer a difference; take it from the list ({reason})\n{ours}");
        }
        Assert.True(isKnown || ours == theirs, $"{id}\n--- Weir\n{ours}\n--- nginx\n{theirs}");
    }

    private static string Talk(ServerProcess server, One one)
    {
        int port = server.PortOf(one.Port);
        (SettingId, uint)[] settings = one.Settings ?? [];
        using Http2Client client = one.Port == 2 ? Http2Client.ConnectTls(port, settings)
            : Http2Client.Connect(port, settings);
        var text = new StringBuilder();
        try
        {
            one.Do(client, one.Id);
            for (int i = 0; i < one.Streams; i++)
            {
                client.ReadAnswer(1 + (2 * i));
            }
            // What follows of it at once.
            client.Settle();
        }
        catch (Exception e) when (e is IOException or EndOfStreamException)
        {
            text.Append("<the connection ended>\n");
        }
        for (int i = 0; i < one.Streams; i++)
        {
            Write(text, 1 + (2 * i), client.Answer(1 + (2 * i)));
        }
        text.Append(client.GoAway is { } leaving ? $"GOAWAY {leaving.Error}\n" : "").Append(
            client.IsEnded ? "<closed>\n" : "<open>\n");
        int lines = one.Logged < 0 ? one.Streams : one.Logged;
        string[] logged = [];
        Wait.Until(() =>
        {
            logged = [.. server.AccessLog.Split('\n').Where(l => l.StartsWith(one.Id + "|", StringComparison.Ordinal))];
            return logged.Length >= lines;
        }, 5000);
        text.Append("----- access.log\n").Append(string.Join('\n', logged.Order(StringComparer.Ordinal)));
        string all = text.ToString().Replace(server.Files.Path, "%FILES%", StringComparison.Ordinal);
        for (int i = 1; i <= 3; i++)
        {
            string number = server.PortOf(i).ToString(CultureInfo.InvariantCulture);
            all = all.Replace(":" + number, ":PORT", StringComparison.Ordinal).Replace(" " + number, " PORT",
                StringComparison.Ordinal);
        }
        all = Boundary().Replace(Changing().Replace(all, "$1: *"), "*");
        // A page of the server's own is as long as its name.
        all = all.Contains("<center>", StringComparison.Ordinal) ? Length().Replace(all, "$1*") : all;
        return Product().Replace(all, "server/x");
    }

    private static void Write(StringBuilder text, int stream, Http2Answer answer)
    {
        text.Append(CultureInfo.InvariantCulture, $"stream {stream}\n");
        foreach (List<(string Name, string Value)> head in answer.Heads)
        {
            foreach ((string name, string value) in head)
            {
                text.Append(name).Append(": ").Append(value).Append('\n');
            }
            text.Append("--\n");
        }
        string body = answer.Text;
        text.Append(body.Length <= 2000 ? body : $"{body.Length} bytes, "
            + Convert.ToHexString(System.Security.Cryptography.SHA256.HashData([.. answer.Body]))).Append('\n');
        // RST_STREAM with NO_ERROR behind a whole answer says that the rest of the request is not wanted (RFC 9113,
        // 8.1): whether there was a rest is a matter of moments.
        bool isWhole = answer.IsComplete && answer.Reset is null or Http2Error.NoError;
        text.Append(isWhole ? "complete\n" : answer.Reset is { } reset ? $"reset {reset}\n" : "cut\n");
    }

    // The gRPC server behind both.

    internal static void Serve(Http2Script http)
    {
        string[] fields = [];
        var body = new List<byte>();
        while (true)
        {
            // One call at a time; one that was given up may be followed by the next.
            ScriptFrame frame = http.Read();
            if (frame.Type == ScriptFrame.Headers)
            {
                fields = http.Fields(frame);
                body.Clear();
            }
            else if (frame.Payload.Length > 0)
            {
                body.AddRange(frame.Payload);
                http.Open(frame.Stream, frame.Payload.Length);
            }
            if (!frame.EndsStream)
            {
                continue;
            }
            string path = fields.First(static f => f.StartsWith(":path: ", StringComparison.Ordinal));
            if (!Answer(http, frame.Stream, path[(path.LastIndexOf('/') + 1)..], fields, [.. body]))
            {
                return;
            }
        }
    }

    /// <summary>False: the connection ends.</summary>
    private static bool Answer(Http2Script http, int stream, string method, string[] fields, byte[] body)
    {
        const string type = "content-type: application/grpc";
        switch (method)
        {
            case "Fails":
                http.Head(stream, true, ":status: 200", type, "grpc-status: 9", "grpc-message: not%20today");
                return true;
            case "Resets":
                http.Reset(stream, 8);
                return true;
            case "Breaks":
                http.Head(stream, false, ":status: 200", type);
                http.Data(stream, false, Message);
                http.Reset(stream, 2);
                return true;
            case "Closes":
                return false;
            case "Hangs":
                return true;
            case "404":
                http.Head(stream, false, ":status: 404", "content-type: text/plain");
                http.Data(stream, true, "no such method");
                return true;
            case "Bare":
                http.Answer(stream, "bare");
                return true;
            case "Interim":
                http.Head(stream, false, ":status: 103", "link: </a>");
                break;
            case "Leaves":
                http.GoAway(stream, 0);
                break;
        }
        http.Head(stream, false, ":status: 200", type, "x-initial: first", "server: theirs", "date: today");
        switch (method)
        {
            case "Streams":
                http.Data(stream, false, Message);
                http.Data(stream, false, Message);
                http.Data(stream, false, Message);
                break;
            case "Sees":
                http.Data(stream, false, string.Join('\n', fields.Order(StringComparer.Ordinal)));
                break;
            case "Length":
                http.Data(stream, false, body.Length.ToString(CultureInfo.InvariantCulture));
                break;
            case "Large":
                for (int i = 0; i < 4; i++)
                {
                    http.Data(stream, false, new string((char)('a' + i), 10_000));
                }
                break;
            default:
                http.Data(stream, false, Encoding.Latin1.GetString(body));
                break;
        }
        http.Head(stream, true, "grpc-status: 0", "x-trailer: last");
        return true;
    }

    [GeneratedRegex("(?im)^(date|server|last-modified|etag|expires): [^\n]*")]
    private static partial Regex Changing();

    [GeneratedRegex("[0-9]{20}")]
    private static partial Regex Boundary();

    [GeneratedRegex("(?im)(^content-length: |[|][0-9]{3}[|])[0-9]+")]
    private static partial Regex Length();

    [GeneratedRegex("(nginx|weir)/[0-9.]+")]
    private static partial Regex Product();
}
