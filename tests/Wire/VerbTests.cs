// The verbs and the built-in configuration: no file, no root, a whole server.
using System.Globalization;
using System.Text.Json;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class VerbTests : IDisposable
{
    private readonly TempDir _files = new();
    private readonly Dictionary<string, string> _data;

    public VerbTests() => _data = new() { ["XDG_DATA_HOME"] = _files.Path };

    public void Dispose() => _files.Dispose();

    [Fact]
    public void Serve_has_index_files_listings_and_types()
    {
        _files.Write("index.html", "<h1>here</h1>");
        _files.Write("sub/a.txt", "text");
        _files.Write(".git/config", "secret");
        using var weir = new VerbProcess("serve", _files.Path);
        Assert.Equal("<h1>here</h1>", weir.Get("/").Text);
        Assert.Contains("a.txt", weir.Get("/sub/").Text);
        Assert.Equal("text/plain", weir.Get("/sub/a.txt")["Content-Type"]);
        Assert.Equal(301, weir.Get("/sub").Status);
        Assert.Equal(404, weir.Get("/.git/config").Status);
        Assert.Equal(404, weir.Get("/none").Status);
        Assert.Contains($"Serving {_files.Path} on http://localhost:{weir.Port}/", weir.Process.Errors);
    }

    [Fact]
    public void Serve_without_listings_refuses_them_and_with_spa_answers_every_path()
    {
        _files.Write("sub/a.txt", "text");
        using (var weir = new VerbProcess("serve", _files.Path, "--no-list"))
        {
            Assert.Equal(403, weir.Get("/sub/").Status);
        }

        _files.Write("index.html", "app");
        using var spa = new VerbProcess("serve", _files.Path, "--spa");
        Assert.Equal("app", spa.Get("/settings/profile").Text);
        Assert.Equal("text", spa.Get("/sub/a.txt").Text);
    }

    [Fact]
    public void Serve_logs_requests_on_standard_output_when_asked()
    {
        _files.Write("index.html", "here");
        using var weir = new VerbProcess("serve", _files.Path, "--log", "--workers", "1");
        weir.Get("/?logged");
        Wait.For("the line", () => weir.Process.Output.Contains("\"GET /?logged HTTP/1.1\" 200 4"), 20_000);
    }

    [Fact]
    public void Proxy_balances_and_tells_who_asked()
    {
        using Upstream one = Upstream.Answering(r => Upstream.Ok($"one {r.Header("X-Forwarded-For")} {r.Target}"));
        using Upstream two = Upstream.Answering(r => Upstream.Ok($"two {r.Header("X-Forwarded-For")} {r.Target}"));
        using var weir = new VerbProcess("proxy", Text(one.Port), "http://127.0.0.1:" + Text(two.Port));
        HashSet<string> seen = [.. Enumerable.Range(0, 12).Select(_ => weir.Get("/x?y=1").Text)];
        Assert.Equal(["one 127.0.0.1 /x?y=1", "two 127.0.0.1 /x?y=1"], seen.Order());
    }

    [Fact]
    public void App_answers_behind_a_proxy_and_says_what_it_is_doing()
    {
        using var app = new VerbProcess("app", "--model", "thread-pool", "--threads", "3", "--delay", "10ms");
        Assert.Equal("Hello World\n", app.Get("/").Text);
        Assert.Equal(400, app.Get("/?delay=soon").Status);
        using var weir = new VerbProcess("proxy", Text(app.Port), "--workers", "1");
        Assert.Equal("Hello World\n", weir.Get("/?cpu=1ms").Text);
        // An answer is counted after it was sent, by the thread that sent it.
        Wait.For("three answers", () =>
        {
            using JsonDocument status = JsonDocument.Parse(app.Get("/status").Text);
            Assert.Equal("thread-pool", status.RootElement.GetProperty("model").GetString());
            return status.RootElement.GetProperty("answered").GetInt64() >= 3;
        });
        Assert.Contains("3 threads", app.Process.Errors);
    }

    [Theory]
    [InlineData("sequential")]
    [InlineData("thread-per-connection")]
    [InlineData("event-driven")]
    [InlineData("event-driven-thread-pool")]
    [InlineData("event-driven-task-pool")]
    public void App_runs_under_every_model_and_ends_in_order(string model)
    {
        using var app = new VerbProcess("app", "--model", model, "--await");
        Assert.Equal("Hello World\n", app.Get("/").Text);
        app.Process.Stop(Signal.Quit, 20_000);
        Assert.True(app.Process.HasExited);
    }

    [NeedsFact("ss")]
    public void App_has_the_threads_the_queue_and_the_backlog_it_was_told()
    {
        using var app = new VerbProcess("app", "--model", "event-driven-thread-pool", "--loops", "2", "--threads", "1",
            "--queue", "1", "--backlog", "7", "--delay", "1h");
        Wait.For("what it says of itself",
            () => app.Process.Errors.Contains("(event-driven-thread-pool, 2 loop(s), 1 threads, queue 1)"));
        (_, string listening, _) = ChildProcess.Run("ss", "-Hltn", "sport", "=", ":" + Text(app.Port));
        Assert.Matches("^LISTEN +0 +7 ", listening);
        RawClient[] three = [.. Enumerable.Range(0, 3).Select(_ => Ask(app, "/"))];
        // One runs, one waits, one is told to come again; which one is the kernel's to say.
        int refused = -1;
        Wait.For("a refusal", () => (refused = Array.FindIndex(three, static c => c.WaitForBytes(10))) >= 0);
        HttpResponse answer = three[refused].ReadResponse(timeoutMs: 30_000);
        Assert.Equal((503, "1"), (answer.Status, answer["Retry-After"]));
        Assert.DoesNotContain(three, c => c != three[refused] && c.WaitForBytes(10));
        app.Process.Stop(Signal.Kill, 10_000);
    }

    [Fact]
    public void App_answers_for_a_handler_past_its_time_and_shows_that_it_is_stuck()
    {
        using var app = new VerbProcess("app", "--model", "thread-pool", "--threads", "2", "--timeout", "300ms");
        using RawClient stuck = Ask(app, "/?delay=1h");
        Assert.Equal(503, stuck.ReadResponse(timeoutMs: 60_000).Status);
        Wait.For("a stuck thread, and what a thread costs", () =>
        {
            using JsonDocument status = JsonDocument.Parse(app.Get("/status").Text);
            return status.RootElement.GetProperty("stuck").GetInt32() == 1
                && status.RootElement.GetProperty("timed_out").GetInt32() == 1
                && status.RootElement.GetProperty("thread_stack_reserved").GetInt64() > 0;
        });
        app.Process.Stop(Signal.Kill, 10_000);
    }

    [Fact]
    public void App_accepts_nobody_when_its_queue_is_full_and_that_was_asked_for()
    {
        using var app = new VerbProcess("app", "--model", "thread-pool", "--threads", "1", "--queue", "0", "--full",
            "stop", "--delay", "100ms", "--cpu", "1ms");
        List<RawClient> clients = [.. Enumerable.Range(0, 4).Select(_ => Ask(app, "/"))];
        foreach (RawClient client in clients)
        {
            Assert.Equal("Hello World\n", client.ReadResponse(timeoutMs: 60_000).Text);
            client.Dispose();
        }
    }

    [Fact]
    public void App_closes_half_a_request_and_an_idle_connection_at_their_times()
    {
        using var app = new VerbProcess("app", "--model", "thread-per-connection", "--threads", "5",
            "--header-timeout", "200ms", "--idle-timeout", "100ms");
        using RawClient half = RawClient.Connect(app.Port).Send("GET / HTTP/1.1\r\nHo");
        Assert.True(half.WaitClosed(60_000));
        using RawClient idle = RawClient.Connect(app.Port);
        Assert.Equal(200, idle.Get("/").Status);
        Assert.True(idle.WaitClosed(60_000));
    }

    private static RawClient Ask(VerbProcess app, string path) =>
        RawClient.Connect(app.Port).Send($"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");

    [NeedsFact("curl")]
    public void Https_shows_a_certificate_that_is_made_once_and_says_how_to_trust_it()
    {
        _files.Write("public/index.html", "secret\n");
        string certificate = _files.At("weir/localhost.crt");
        for (int start = 0; start < 2; start++)
        {
            using var weir = new VerbProcess(_data, "serve", _files.At("public"), "--https", "--workers", "1");
            string url = $"https://localhost:{weir.Port}/";
            Assert.Contains($"on {url}", weir.Process.Errors);
            Assert.Contains(certificate, weir.Process.Errors);
            Assert.Equal(start == 0, weir.Process.Errors.Contains("update-ca-certificates"));
            foreach (string version in (string[])["--http1.1", "--http2"])
            {
                (_, string output, string errors) = ChildProcess.Run("curl", "-sS", version, "--cacert",
                    certificate, "-w", "%{http_version}", url);
                Assert.Equal($"secret\n{(version == "--http2" ? "2" : "1.1")}", (output + errors).TrimEnd());
            }
            // Who asks without TLS is shown the way.
            Assert.Equal($"https://127.0.0.1:{weir.Port}/x", Location(weir.Port));
        }
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite,
            File.GetUnixFileMode(_files.At("weir/localhost.key")));
    }

    private static string? Location(int port)
    {
        using RawClient client = RawClient.Connect(port);
        return client.Send($"GET /x HTTP/1.1\r\nHost: 127.0.0.1:{Text(port)}\r\n\r\n").ReadResponse()["Location"];
    }

    [Fact]
    public void A_proxy_and_an_application_speak_HTTPS_too()
    {
        using var app = new VerbProcess(_data, "app", "--https");
        using (TlsClient client = TlsClient.Connect(app.Port))
        {
            Assert.Equal("Hello World\n", client.Get("/").Text);
        }
        Assert.Contains($"https://127.0.0.1:{app.Port}/", app.Process.Errors);
        using (Http2Client client = Http2Client.ConnectTls(app.Port))
        {
            Assert.Equal("Hello World\n", client.Get("/").Text);
        }
        using Upstream upstream = Upstream.Answering(static r => Upstream.Ok(r.Header("X-Forwarded-Proto") ?? ""));
        using var weir = new VerbProcess(_data, "proxy", Text(upstream.Port), "--https", "--workers", "1");
        using Http2Client proxied = Http2Client.ConnectTls(weir.Port);
        Assert.Equal("https", proxied.Get("/").Text);
    }

    [Fact]
    public void The_printed_configuration_runs_as_it_is()
    {
        _files.Write("index.html", "printed");
        (int code, string text, _) = ChildProcess.Run(ServerProcess.WeirBinary, "serve", _files.Path, "--listen",
            "127.0.0.1:18080", "--print-conf");
        Assert.Equal(0, code);
        using var weir = ServerProcess.Weir(Conf.Full(text.Replace("127.0.0.1:18080", "127.0.0.1:%PORT%")));
        Assert.Equal("printed", weir.Get("/").Text);
    }

    [Fact]
    public void A_port_that_is_taken_is_named_with_its_holder()
    {
        using var first = new VerbProcess("serve", _files.Path);
        (int code, _, string errors) =
            ChildProcess.Run(ServerProcess.WeirBinary, "serve", _files.Path, "--port", Text(first.Port));
        Assert.Equal(1, code);
        Assert.Contains($"127.0.0.1:{first.Port} is in use by weir (pid {first.Process.Pid})", errors);
    }

    [NeedsFact("unshare", "ip", "curl")]
    public void No_argument_is_the_welcome_page_with_live_status()
    {
        // In a network of its own, where port 8080 is free.
        string script = $"""
            ip link set lo up
            {ServerProcess.WeirBinary} 2>{_files.At("errors")} &
            weir=$!
            curl -sS --retry 50 --retry-connrefused --retry-delay 0 --retry-max-time 20 -o {_files.At("page")} \
                http://localhost:8080/
            curl -sS -o {_files.At("status")} http://localhost:8080/status.json
            kill -QUIT $weir
            wait $weir
            """;
        (int code, string output, string errors) =
            ChildProcess.Run(Tools.Require("unshare"), 60_000, ["-n", "sh", "-c", script]);
        Assert.True(code == 0, output + errors + _files.Read("errors"));
        Assert.Contains("<h1>Weir is running</h1>", _files.Read("page"));
        using JsonDocument status = JsonDocument.Parse(_files.Read("status"));
        Assert.True(status.RootElement.GetProperty("requests").GetInt64() >= 1);
        Assert.True(status.RootElement.GetProperty("workers").GetInt32() >= 1);
        Assert.Equal(1, status.RootElement.GetProperty("connections").GetProperty("active").GetInt32());
        Assert.Contains("http://localhost:8080/", _files.Read("errors"));
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    /// <summary>A verb on a port of its own.</summary>
    private sealed class VerbProcess : IDisposable
    {
        private readonly Port _port = Harness.Port.Lease();

        public VerbProcess(params string[] arguments)
            : this(null, arguments)
        {
        }

        public VerbProcess(Dictionary<string, string>? environment, params string[] arguments)
        {
            Process = new ChildProcess(ServerProcess.WeirBinary, [.. arguments, "--port", Text(Port)],
                environment: environment);
            bool ready = Wait.Until(() => Process.HasExited || Answers(), 20_000);
            if (!ready || Process.HasExited)
            {
                string story = Process.Errors;
                Dispose();
                throw new InvalidOperationException("the verb did not start\n" + story);
            }
        }

        public int Port => _port.Number;

        public ChildProcess Process { get; }

        public HttpResponse Get(string path)
        {
            using RawClient client = RawClient.Connect(Port);
            return client.Get(path);
        }

        public void Dispose()
        {
            Process.Stop(Signal.Quit, 3000);
            Process.Dispose();
            _port.Dispose();
        }

        private bool Answers()
        {
            try
            {
                RawClient.Connect(Port).Dispose();
                return true;
            }
            catch (System.Net.Sockets.SocketException)
            {
                return false;
            }
        }
    }
}
