// One run of the HTTP/2 fuzzers on the in-memory engine: a server, an origin, clients whose frames a seed draws. One
// client breaks the rules, another keeps them at the same time and must notice nothing. Or an upstream server breaks
// them (Http2OriginDraw.cs), and clients of HTTP/1 must get sound answers. Then time passes, and nothing may be left.
using System.Globalization;
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http2;
using Weir.Server;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;

namespace Weir.Tests.Simulation;

internal sealed class Http2World : IDisposable
{
    /// <summary>Bytes of buffers that one connection of each kind may make the server hold, whatever it
    /// does.</summary>
    private const long RentedBytesMax = 24L * 1024 * 1024;

    private const long TalkMsMax = 100L * 3600 * 1000;
    private const int OriginPort = 19000, HostilePort = 19001;

    private static readonly string[] _paths =
        ["/", "/file", "/big", "/zip", "/up", "/stream", "/auth", "/limit", "/h2", "/grpc", "/late", "/lost", "/to",
        "/mirror", "/post", "/slice"];

    private const string Locations = """
        server {
            listen 127.0.0.1:18080;
            http2 on;
            server_name localhost;
            root %FILES%;
            large_client_header_buffers 4 8k;
            error_page 404 /lost.html;
            location = / { return 200 hello; }
            location = /file { try_files /file.txt =404; }
            location = /big { try_files /big.txt =404; http2_chunk_size 5000; }
            location = /zip { gzip on; gzip_min_length 1; gzip_types *; try_files /big.txt =404; }
            location = /up { proxy_pass http://127.0.0.1:19000; proxy_http_version 1.1; }
            location = /stream {
                proxy_pass http://127.0.0.1:19000; proxy_http_version 1.1;
                proxy_request_buffering off; proxy_buffering off;
            }
            location = /auth { auth_request /yes; return 200 allowed; }
            location = /yes { proxy_pass http://127.0.0.1:19000; proxy_pass_request_body off; }
            location = /limit { limit_rate 20k; limit_rate_after 1k; try_files /big.txt =404; }
            location = /h2 { proxy_pass http://127.0.0.1:18080/up; proxy_http_version 2; }
            location = /grpc { rewrite ^ /stream break; grpc_pass grpc://127.0.0.1:18080; }
            location = /late { proxy_pass http://127.0.0.1:19000/never; proxy_read_timeout 1s; }
            location = /to { return 302 /there; }
            location = /mirror { mirror /copy; proxy_pass http://127.0.0.1:19000; }
            location = /copy { internal; proxy_pass http://127.0.0.1:19000; }
            location = /post { post_action /copy; try_files /file.txt =404; }
            location = /slice {
                sub_filter line LINE; sub_filter_once off; sub_filter_types *; try_files /file.txt =404;
            }
        }
        """;

    private static readonly Case _case = new("http2", "fuzz")
    {
        Server = "",
        Files = [("file.txt", Lines(500)), ("big.txt", Lines(20_000)), ("lost.html", "lost")],
    };

    private readonly Place _place;
    private readonly SeededRandom _draw;
    private readonly InMemoryLoop _loop;
    private readonly List<string> _violations = [];
    private readonly List<SimulatedPeer> _origins = [];
    private readonly List<byte[]> _requests = [];
    private int _running;
    private long _peakBytes;

    private Http2World(ulong seed, Place place)
    {
        _place = place;
        _draw = new SeededRandom(seed * 0x9E3779B97F4A7C15 + 5);
        _loop = new InMemoryLoop(_draw.Chance(700) ? SimulationPlan.Weather(seed) : null);
    }

    private static string Lines(int count) =>
        string.Concat(Enumerable.Range(0, count).Select(static i => $"line {i % 1000:d3}\n"));

    public void Dispose() => _loop.Dispose();

    /// <summary>A hostile client beside one that keeps the rules. Null, or what is wrong.</summary>
    internal static string? PlayClients(ulong seed, Place place)
    {
        using var world = new Http2World(seed, place);
        return world.Play(Locations, world.Clients);
    }

    /// <summary>A client that sends PINGs and takes none of their answers, beside one that keeps the rules.</summary>
    internal static string? PlayDeafClient(Place place)
    {
        using var world = new Http2World(1, place);
        return world.Play(Locations, _ =>
        {
            InMemoryPeer deaf = world._loop.Connect(Address(18080));
            deaf.WindowBytes = 300;
            deaf.Send(new Http2Draw(world._draw, _paths).Hello());
            for (int i = 0; i < 100; i++)
            {
                deaf.Send(Http2Client.Ping((ulong)i));
                world._loop.RunUntilIdle();
            }
            world.PoliteAsync(new Http2Draw(world._draw, _paths), 20).Forget();
            world.Finish();
            world._checks.Add(deaf.Close);
        });
    }

    /// <summary>A hostile upstream server beside one that keeps the rules. Null, or what is wrong.</summary>
    internal static string? PlayUpstream(ulong seed, Place place)
    {
        using var world = new Http2World(seed, place);
        return world.Play($$"""
            upstream hostile { server 127.0.0.1:{{HostilePort}}; keepalive 2; }
            server {
                listen 127.0.0.1:18080;
                http2 on;
                client_max_body_size 0;
                proxy_read_timeout 5s; grpc_read_timeout 5s; proxy_send_timeout 5s; grpc_send_timeout 5s;
                location /h2 { proxy_pass http://hostile; proxy_http_version 2; }
                location /raw {
                    proxy_pass http://hostile; proxy_http_version 2; proxy_request_buffering off; proxy_buffering off;
                }
                location /grpc { grpc_pass grpc://hostile; }
                location /up { proxy_pass http://127.0.0.1:{{OriginPort}}; }
            }
            """, world.Upstreams);
    }

    private string? Play(string http, Action<WebServer> act)
    {
        _loop.Adopt();
        _loop.Fault = e => _violations.Add("an exception reached the loop: " + e);
        string errorLog = Path.Combine(_place.Dir, "error.log");
        File.Delete(errorLog);
        string level = Environment.GetEnvironmentVariable("WEIR_SIMULATION_LOG") ?? "error";
        string text = Harness.Conf.Http(http).Text.Replace("error.log info;", $"error.log {level};")
            .Replace("%TEMP_PATHS%", "").Replace("%DIR%", _place.Dir).Replace("%FILES%", _place.FilesOf(_case));
        WebServer? server = WebServer.TryStart(_loop, WebServerOptions.FromText(text, _place.Dir + "/"),
            out ConfErrors errors);
        if (server is null)
        {
            return "the configuration is refused: " + string.Join('\n', errors.All.Select(static e => e.Format()));
        }
        Origin origin = Origin.Answering(static r => r.Line.Contains(" /never", StringComparison.Ordinal)
            ? "" : Upstream.Ok($"{r.Body.Length}"));
        InMemoryListener listener = _loop.ListenPeers(Address(OriginPort), peer =>
        {
            var end = new SimulatedPeer(_loop, peer);
            _origins.Add(end);
            end.PlayAsync(origin, 0, OriginPort, _requests).Forget();
        });
        if (_draw.Chance(100))
        {
            _loop.Timers.Set(new CallbackTimer(() => Reload(server, text)), _loop.NowMs + 1 + _draw.Below(30));
        }
        act(server);
        Aftermath.Settle(_loop, server, _origins, _violations);
        foreach (Action check in _checks)
        {
            check();
        }
        server.Dispose();
        listener.Stop();
        Aftermath.Expect(_violations, "connections after the end", _loop.ConnectionCount, 0);
        Aftermath.Expect(_violations, "bytes of rented buffers", _loop.Buffers.RentedBytes, 0);
        if (_peakBytes > RentedBytesMax)
        {
            _violations.Add($"{_peakBytes} bytes of buffers were in use at once");
        }
        string log = File.Exists(errorLog) ? File.ReadAllText(errorLog) : "";
        if (log.Contains("[alert]", StringComparison.Ordinal) || log.Contains("Exception", StringComparison.Ordinal))
        {
            _violations.Add("the log tells of a broken invariant");
        }
        return _violations.Count == 0 ? null : string.Join('\n', _violations.Distinct()) + "\n--- error.log\n" + log;
    }

    private void Reload(WebServer server, string text)
    {
        if (!server.TryReload(WebServerOptions.FromText(text, _place.Dir + "/"), out ConfErrors errors))
        {
            _violations.Add("the second reading fails: " + errors.All[0].Format());
        }
    }

    private readonly List<Action> _checks = [];

    private static byte[] Address(int port) => SocketAddress.Inet([127, 0, 0, 1], port).Native.ToArray();

    private void Finish()
    {
        if (!_loop.RunUntil(() => _running == 0, TalkMsMax))
        {
            _violations.Add($"{_running} clients still wait when nothing more can happen");
        }
    }

    private SimulatedPeer Connect(bool isSlow)
    {
        InMemoryPeer end = _loop.Connect(Address(18080));
        end.WindowBytes = isSlow ? 512 + _draw.Size(1 << 18) : int.MaxValue;
        _running++;
        return new SimulatedPeer(_loop, end);
    }

    private void Look() => _peakBytes = Math.Max(_peakBytes, _loop.Buffers.RentedBytes);

    // Clients.

    private void Clients(WebServer server)
    {
        int broken = _draw.Below(4) switch { 0 => 20, 1 => 100, _ => 300 };
        HostileAsync(new Http2Draw(_draw, _paths), 10 + _draw.Below(60), broken).Forget();
        PoliteAsync(new Http2Draw(_draw, _paths), 5 + _draw.Below(30)).Forget();
        Finish();
    }

    private async LoopTask HostileAsync(Http2Draw script, int steps, int broken)
    {
        SimulatedPeer peer = Connect(_draw.Chance(300));
        var ear = new Http2Ear();
        byte[] hello = script.Hello();
        peer.Send(_draw.Chance(50) ? script.Broken(hello) : hello);
        for (int i = 0; i < steps && !peer.IsOver; i++)
        {
            byte[] bytes = script.Next();
            peer.Send(_draw.Chance(broken) ? script.Broken(bytes) : bytes);
            await PauseAsync(peer, ear);
        }
        int end = _draw.Below(5);
        switch (end)
        {
            case 0:
                peer.Close();
                break;
            case 1:
                peer.Reset();
                break;
            case 2:
                peer.HalfClose();
                break;
            case 3:
                peer.Send(script.Farewell());
                break;
        }
        while (end > 1 && !peer.IsOver && await peer.ArrivedAsync(1000))
        {
            Hear(peer, ear);
        }
        Hear(peer, ear);
        Judge(ear, "to the hostile client");
        _running--;
        _checks.Add(() =>
        {
            Hear(peer, ear);
            Judge(ear, "to the hostile client, later");
            if (end > 1 && !peer.IsOver)
            {
                _violations.Add("the hostile client's connection never ended");
            }
            if (end > 2 && !ear.IsHttp1 && ear.GoAways.Count == 0)
            {
                _violations.Add("the hostile client's connection ended without GOAWAY");
            }
            peer.Close();
        });
    }

    private async LoopTask PauseAsync(SimulatedPeer peer, Http2Ear ear)
    {
        if (_draw.Chance(500))
        {
            await _loop.DelayAsync(_draw.Below(6));
            Hear(peer, ear);
        }
    }

    private void Hear(SimulatedPeer peer, Http2Ear ear)
    {
        ear.Take(peer.Bytes[ear.Taken..]);
        Look();
    }

    private void Judge(Http2Ear ear, string whom)
    {
        if (ear.Wrong is { } wrong)
        {
            _violations.Add($"the server said {whom}: {wrong}");
        }
    }

    private async LoopTask PoliteAsync(Http2Draw script, int steps)
    {
        SimulatedPeer peer = Connect(isSlow: false);
        var ear = new Http2Ear { AllowedBytes = 0 };
        byte[] hello = script.Hello();
        ear.AllowedBytes = script.AllowedBytes;
        peer.Send(hello);
        for (int i = 0; i < steps; i++)
        {
            byte[] bytes = script.Next();
            ear.AllowedBytes = script.AllowedBytes;
            peer.Send(bytes);
            await PauseAsync(peer, ear);
        }
        byte[] farewell = script.Farewell();
        ear.AllowedBytes = script.AllowedBytes;
        peer.Send(farewell);
        while (!peer.IsOver && !IsDone(script, ear) && await peer.ArrivedAsync(120_000))
        {
            Hear(peer, ear);
        }
        Hear(peer, ear);
        Judge(ear, "to the polite client");
        Check(script, ear);
        peer.Close();
        _running--;
    }

    private static bool IsDone(Http2Draw script, Http2Ear ear) => ear.Pongs == script.Pings && script.Requests.All(r =>
        r.Value.IsReset || ear.Streams.TryGetValue(r.Key, out HeardStream? stream) && stream.IsOver);

    private void Check(Http2Draw script, Http2Ear ear)
    {
        foreach (Http2Error error in ear.GoAways)
        {
            _violations.Add($"the polite client got GOAWAY with {Http2Errors.Name(error)}");
        }
        if (ear.Pongs != script.Pings)
        {
            _violations.Add($"the polite client got {ear.Pongs} answers to {script.Pings} PINGs");
        }
        foreach ((int id, DrawnRequest request) in script.Requests)
        {
            if (request.IsReset)
            {
                continue;
            }
            string who = $"the polite client's {request.Method} {request.Path} on stream {id}";
            if (!ear.Streams.TryGetValue(id, out HeardStream? stream) || !stream.IsEnded)
            {
                _violations.Add($"{who} has no whole answer" + (stream is null ? ""
                    : $": {stream.Status}, {stream.Bytes} of {stream.Length}, {stream.IsReset} {stream.Error}"));
            }
            else if (!Statuses(request).Contains(stream.Status))
            {
                _violations.Add($"{who} got {stream.Status}");
            }
            else if (stream.Length >= 0 && stream.Bytes != stream.Length && stream.Bytes != 0)
            {
                _violations.Add($"{who} got {stream.Bytes} bytes of {stream.Length}");
            }
        }
    }

    private static int[] Statuses(DrawnRequest request) => request.Path switch
    {
        "/lost" => [404],
        "/to" => [302],
        "/late" => [504],
        "/file" or "/big" or "/zip" or "/limit" or "/post" or "/slice" =>
            request.Method == "POST" ? [405] : [200, 206],
        "/grpc" => [200, 204],
        _ => [200, 206],
    };

    // Upstream servers.

    private void Upstreams(WebServer server)
    {
        int broken = _draw.Below(5) switch { 0 => 0, 1 => 20, 2 => 100, _ => 300 };
        int connections = 0;
        InMemoryListener hostile = _loop.ListenPeers(Address(HostilePort), peer =>
        {
            var end = new SimulatedPeer(_loop, peer);
            _origins.Add(end);
            connections++;
            new Http2OriginDraw(_loop, _draw, end, broken, connections > 40 ? 0 : 60).PlayAsync().Forget();
        });
        string[] paths = ["/h2", "/raw", "/grpc"];
        for (int i = 3 + _draw.Below(8); i > 0; i--)
        {
            AskAsync(paths[_draw.Below(3)], broken == 0).Forget();
        }
        AskAsync("/up", isCalm: true).Forget();
        Finish();
        _loop.AdvanceClock(3_600_000);
        hostile.Stop();
    }

    private async LoopTask AskAsync(string path, bool isCalm)
    {
        SimulatedPeer peer = Connect(isSlow: false);
        int body = _draw.Chance(500) ? 0 : _draw.Size(100_000);
        peer.Send(Say.Bytes(body == 0 ? $"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"
            : $"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {Number(body)}\r\n\r\n" + new string('b', body)));
        HttpResponse? answer = null;
        while (true)
        {
            try
            {
                answer = HttpResponse.Parse(peer.Bytes, false, peer.IsOver);
            }
            catch (FormatException e)
            {
                _violations.Add($"the answer to {path} is malformed: {e.Message}");
            }
            Look();
            if (answer is { IsComplete: true } || peer.IsOver || !await peer.ArrivedAsync(60_000))
            {
                break;
            }
        }
        if (isCalm && answer is not { IsComplete: true, Status: 200 })
        {
            _violations.Add($"{path} got {answer?.Status} although nothing was wrong");
        }
        if (answer is null && !peer.IsOver)
        {
            _violations.Add($"{path} got no answer at all");
        }
        peer.Close();
        _running--;
    }

    private static string Number(int n) => n.ToString(CultureInfo.InvariantCulture);
}
