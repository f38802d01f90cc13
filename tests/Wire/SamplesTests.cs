// Every file of samples/ does what it says, with the programs it names. A sample is started as it lies there, with its
// well-known places (ports, folders) exchanged for the test's own.
using System.Globalization;
using System.Text;
using System.Text.Json;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class SamplesTests : IDisposable
{
    private static readonly string _samples = FindSamples();
    private readonly TempDir _files = new();

    public void Dispose() => _files.Dispose();

    [Fact]
    public void Every_sample_names_its_test()
    {
        string tests = File.ReadAllText(Path.Combine(_samples, "../tests/Wire/SamplesTests.cs"));
        Assert.All(Directory.GetFiles(_samples, "*.conf"), path =>
            Assert.Contains($"Start(\"{Path.GetFileName(path)}\"", tests));
    }

    [Fact]
    public void A_static_site_has_pages_assets_listings_and_an_error_page()
    {
        _files.Write("index.html", "<h1>home</h1>");
        _files.Write("about.html", "<h1>about</h1>");
        _files.Write("404.html", "<h1>lost</h1>");
        _files.Write("assets/app.1.js", new string('x', 4000));
        _files.Write("downloads/one.zip", "zip");
        using ServerProcess weir = Start("static-site.conf", ("/srv/site", _files.Path));
        Assert.Equal("<h1>home</h1>", weir.Get("/").Text);
        Assert.Equal("<h1>about</h1>", weir.Get("/about").Text);
        HttpResponse lost = weir.Get("/nowhere");
        Assert.Equal((404, "<h1>lost</h1>"), (lost.Status, lost.Text));
        HttpResponse asset = weir.Get("/assets/app.1.js", "Accept-Encoding: gzip");
        Assert.Equal("gzip", asset["Content-Encoding"]);
        Assert.Equal("text/javascript", asset["Content-Type"]);
        Assert.Contains(asset.All("Cache-Control"), value => value.Contains("immutable"));
        Assert.Contains("one.zip", weir.Get("/downloads/").Text);
        Assert.Equal(404, weir.Get("/404.html").Status);
        Assert.Equal(304, weir.Get("/about.html", "If-None-Match: " + weir.Get("/about.html")["ETag"]).Status);
    }

    [Fact]
    public void A_caching_proxy_asks_once_and_answers_for_an_application_that_is_down()
    {
        using var app = new Upstream(static c =>
        {
            while (c.ReadRequest() is { } request)
            {
                c.Send(request.Target == "/stale"
                    ? Upstream.Ok("page", "Cache-Control: max-age=5", "Age: 10", "ETag: \"1\"", "Connection: close")
                    : Upstream.Ok("page", "Cache-Tag: article-17"));
            }
        });
        using ServerProcess weir = Start("caching-proxy.conf", ("127.0.0.1:3000", $"127.0.0.1:{app.Port}"),
            ("/var/cache/weir", _files.At("cache")));
        Assert.Equal("MISS", weir.Get("/a")["X-Cache"]);
        Wait.For("a hit", () => weir.Get("/a")["X-Cache"] == "HIT");
        Assert.Equal("BYPASS", weir.Get("/a", "Cookie: session=1")["X-Cache"]);
        Assert.Equal(204, weir.Get("/.purge", "X-Tags: article-17").Status);
        Assert.Equal("MISS", weir.Get("/a")["X-Cache"]);
        Wait.For("a stored page", () => weir.Get("/stale")["X-Cache"] is not "MISS");
        app.Dispose();
        HttpResponse stale = weir.Get("/stale");
        Assert.Equal((200, "page"), (stale.Status, stale.Text));
    }

    [Fact]
    public void A_pool_leaves_out_what_is_ill_tries_the_canary_on_some_and_is_changed_while_it_serves()
    {
        string ill = "";
        Upstream Server(string name) => Upstream.Answering(r => r.Target != "/health" ? Upstream.Ok(name)
            : Volatile.Read(ref ill).Contains(name, StringComparison.Ordinal)
                ? Upstream.Ok("ill", "X-Maintenance: 1") : Upstream.Ok("well"));
        using Upstream one = Server("one"), two = Server("two"), spare = Server("spare"), canary = Server("canary");
        string At(Upstream upstream) => string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{upstream.Port}");
        using ServerProcess weir = Start("balanced-pool.conf", ("10.0.0.1:8000", At(one)), ("10.0.0.2:8000", At(two)),
            ("10.0.0.3:8000", At(spare)), ("10.0.0.9:8000", At(canary)), ("127.0.0.1:8080", "127.0.0.1:%PORT2%"),
            ("interval=5s jitter=1s", "interval=50ms"), ("interval=2s", "interval=50ms"), ("slow_start=30s", ""));
        string Asked(string cookie) => string.Concat(Enumerable.Range(0, 12)
            .Select(_ => weir.Get("/", "Cookie: canary=" + cookie).Text).Distinct().Order());
        Wait.For("the canary is well", () => Asked("1") == "canary");
        Assert.Equal("onetwo", Asked("0"));
        Assert.Contains(weir.Get("/")["X-Pool"], (string[])["stable", "canary"]);

        Volatile.Write(ref ill, "canary two");
        Wait.For("they are left out", () => Asked("0") == "one" && Asked("1") == "one");
        Volatile.Write(ref ill, "one two");
        Wait.For("the spare serves", () => Asked("0") == "spare");
        Volatile.Write(ref ill, "");
        Wait.For("all are well", () => Asked("0") == "onetwo" && Asked("1") == "canary");

        using RawClient operators = RawClient.Connect(weir.PortOf(2));
        operators.Send(RawClient.Request("PATCH", "/api/9/http/upstreams/stable/servers/0", [], "{\"drain\":true}"));
        Assert.Equal(200, operators.ReadResponse().Status);
        Wait.For("one is drained", () => Asked("0") == "two");
    }

    [Fact]
    public void A_site_over_HTTPS_sends_plain_requests_there_and_refuses_strange_names()
    {
        _files.Write("index.html", "<h1>safe</h1>");
        new TestAuthority().Write(_files, "example.com", TestKey.Ecdsa, "example.com");
        using ServerProcess weir = Start("https-site.conf", ("/srv/site", _files.Path),
            ("/etc/weir/tls", _files.Path), ("listen 443", "listen 127.0.0.1:%PORT2%"));
        HttpResponse plain = weir.Get("/page?x=1");
        Assert.Equal((301, "https://example.com/page?x=1"), (plain.Status, plain["Location"]));
        using TlsClient client = TlsClient.Connect(weir.PortOf(2), "example.com");
        HttpResponse safe = client.Send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").ReadResponse();
        Assert.Equal((200, "<h1>safe</h1>"), (safe.Status, safe.Text));
        Assert.Equal("max-age=31536000", safe["Strict-Transport-Security"]);
        Assert.Throws<System.Security.Authentication.AuthenticationException>(() =>
            TlsClient.Connect(weir.PortOf(2), "strange.com"));
    }

    [NeedsFact("curl")]
    public void A_download_from_a_static_site_is_resumed_in_the_middle()
    {
        byte[] bytes = new byte[3_000_000];
        new Random(7).NextBytes(bytes);
        _files.Write("downloads/big.iso", bytes);
        _files.Write("part.iso", bytes[..1_234_567]);
        using ServerProcess weir = Start("static-site.conf", ("/srv/site", _files.Path));
        (int code, string output, string errors) = ChildProcess.Run(Tools.Require("curl"), "-sS", "-C", "-", "-o",
            _files.At("part.iso"), "-w", "%{http_code} %{size_download}", weir.Url("/downloads/big.iso"));
        Assert.True(code == 0, errors);
        Assert.Equal("206 1765433", output.Trim());
        Assert.Equal(bytes, File.ReadAllBytes(_files.At("part.iso")));
    }

    [NeedsFact("node")]
    public void An_application_in_the_browser_has_its_API_and_its_events()
    {
        _files.Write("index.html", "<div id=app></div>");
        _files.Write("assets/app.js", "start()");
        using AppProcess api = AppProcess.Node(App("api.js"));
        using ServerProcess weir = Start("spa-api.conf", ("/srv/app", _files.Path), ("127.0.0.1:3000", Local(api)));
        Assert.Equal("<div id=app></div>", weir.Get("/").Text);
        HttpResponse deep = weir.Get("/settings/profile");
        Assert.Equal((200, "<div id=app></div>"), (deep.Status, deep.Text));
        Assert.Equal("no-cache", deep["Cache-Control"]);
        Assert.Equal("start()", weir.Get("/assets/app.js").Text);
        Assert.Equal(404, weir.Get("/assets/none.js").Status);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/api/items", ["Content-Type: application/json"], "{\"text\":\"new\"}"));
        Assert.Equal(201, client.ReadResponse().Status);
        Assert.Contains("\"new\"", client.Get("/api/items").Text);
        using JsonDocument who = JsonDocument.Parse(client.Get("/api/whoami?x=1").Body);
        Assert.Equal("127.0.0.1", who.RootElement.GetProperty("client").GetString());
        Assert.Equal("/api/whoami?x=1", who.RootElement.GetProperty("path").GetString());
        using RawClient events = weir.Connect();
        events.Send(RawClient.Request("GET", "/api/events?every=50", []));
        string seen = "";
        Wait.For("three events while the answer is open", () =>
        {
            seen += Encoding.ASCII.GetString(events.ReadUntilQuiet(20));
            return seen.Contains("data: 3");
        });
    }

    [NeedsFact("chromium", "node")]
    public void A_browser_loads_the_application_with_fifty_assets()
    {
        var page = new StringBuilder("<!doctype html><title>-</title><body>");
        for (int i = 0; i < 50; i++)
        {
            string padding = new('-', i * 97);
            _files.Write($"assets/part{i}.js", $"window.loaded = (window.loaded || 0) + 1; // {padding}");
            page.Append(CultureInfo.InvariantCulture, $"<script src=\"/assets/part{i}.js\"></script>");
        }
        page.Append("<script>document.title = document.body.className = 'loaded-' + window.loaded;</script>");
        _files.Write("index.html", page.ToString());
        using AppProcess api = AppProcess.Node(App("api.js"));
        using ServerProcess weir = Start("spa-api.conf", ("/srv/app", _files.Path), ("127.0.0.1:3000", Local(api)));
        using var profile = new TempDir();
        (_, string dom, string errors) = ChildProcess.Run(Tools.Require("chromium"), 60_000,
        [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir=" + profile.Path,
            "--dump-dom", weir.Url("/deep/link"),
        ]);
        Assert.True(dom.Contains("class=\"loaded-50\"", StringComparison.Ordinal), dom + errors + weir.Describe());
    }

    [NeedsFact("gunicorn", "flask")]
    public async Task Flask_on_three_servers_loses_one_under_load_and_no_request()
    {
        AppProcess[] apps = [.. Enumerable.Range(0, 3).Select(_ => AppProcess.Gunicorn(App("flask_app.py")))];
        try
        {
            using ServerProcess weir = Start("flask-upstreams.conf", ("127.0.0.1:8001", Local(apps[0])),
                ("127.0.0.1:8002", Local(apps[1])), ("127.0.0.1:8003", Local(apps[2])));
            int failed = 0, done = 0;
            var servers = new System.Collections.Concurrent.ConcurrentDictionary<string, int>();
            using var end = new CancellationTokenSource();
            Task[] load = [.. Enumerable.Range(0, 6).Select(_ => Task.Run(() =>
            {
                while (!end.IsCancellationRequested)
                {
                    using RawClient client = weir.Connect();
                    bool kept = true;
                    while (kept && !end.IsCancellationRequested)
                    {
                        HttpResponse response = client.Get("/");
                        Interlocked.Increment(ref response.Status == 200 ? ref done : ref failed);
                        servers.AddOrUpdate(response.Text, 1, static (_, n) => n + 1);
                        // keepalive_requests: the thousandth answer is the last on its connection.
                        kept = response["Connection"] != "close";
                    }
                }
            }))];
            Wait.For("all three to answer", () => servers.Count >= 3, 20_000);
            // Gunicorn's master, with its worker: whatever listens is gone at once.
            int[] workers = apps[1].Process.Children();
            apps[1].Process.Send(Signal.Kill);
            foreach (int pid in workers)
            {
                ChildProcess.Send(pid, Signal.Kill);
            }
            int then = Volatile.Read(ref done);
            Wait.For("load after the end of one", () => Volatile.Read(ref done) > then + 300, 30_000);
            end.Cancel();
            await Task.WhenAll(load);
            Assert.True(failed == 0, $"{failed} of {done} failed\n{weir.Describe()}\n{weir.AccessLog}");
            Assert.Equal("ABC", Post(weir, "/upper", "abc"));
        }
        finally
        {
            foreach (AppProcess app in apps)
            {
                app.Dispose();
            }
        }
    }

    [NeedsFact("php-fpm")]
    public void WordPress_locations_reach_PHP_and_nothing_that_must_not_run()
    {
        _files.Write("index.php", App("index.php"));
        _files.Write("wp-admin/index.php", App("index.php"));
        _files.Write("wp-content/style.css", "a { }");
        _files.Write("wp-content/uploads/evil.php", "<?php echo 'ran';");
        _files.Write(".git/config", "secret");
        using AppProcess php = AppProcess.PhpFpm();
        using ServerProcess weir = Start("wordpress-php.conf", ("/srv/wordpress", _files.Path),
            ("127.0.0.1:9000", Local(php)));
        JsonElement Ask(string path) => JsonDocument.Parse(weir.Get(path).Body).RootElement;
        Assert.Equal("/index.php", Ask("/").GetProperty("script").GetString());
        JsonElement pretty = Ask("/2024/02/hello/?page=2");
        Assert.Equal("/2024/02/hello/?page=2", pretty.GetProperty("uri").GetString());
        Assert.Equal("2", pretty.GetProperty("query").GetProperty("page").GetString());
        Assert.Equal("/wp-admin/index.php", Ask("/wp-admin/").GetProperty("script").GetString());
        Assert.Equal("/rest/route", Ask("/index.php/rest/route").GetProperty("path").GetString());
        Assert.Contains("\"name\":\"v\"", Post(weir, "/wp-login", "name=v", "application/x-www-form-urlencoded"));
        Assert.Equal("a { }", weir.Get("/wp-content/style.css").Text);
        Assert.Equal(403, weir.Get("/wp-content/uploads/evil.php").Status);
        Assert.Equal(403, weir.Get("/.git/config").Status);
        Assert.Equal(404, weir.Get("/none.php").Status);
    }

    [NeedsFact("node")]
    public void What_one_says_in_the_chat_all_hear()
    {
        using AppProcess chat = AppProcess.Node(App("chat.js"));
        using ServerProcess weir = Start("websocket-chat.conf", ("127.0.0.1:3000", Local(chat)));
        Assert.Contains("<title>Chat</title>", weir.Get("/").Text);
        using RawClient one = Join(weir);
        using RawClient other = Join(weir);
        foreach (string text in (string[])["hello", "Ünïcode", new string('l', 300)])
        {
            byte[] expected = Frame(text);
            one.Send(Masked(text));
            Assert.Equal(expected, one.ReadBytes(expected.Length));
            Assert.Equal(expected, other.ReadBytes(expected.Length));
        }
    }

    [Fact]
    public void In_a_container_the_logs_are_the_containers()
    {
        _files.Write("index.html", "in a container");
        using ServerProcess weir = Start("container.conf", ("/srv/www", _files.Path));
        Assert.Equal("in a container", weir.Get("/").Text);
        Assert.Equal(204, weir.Get("/healthz").Status);
        Assert.Contains("Active connections:", weir.Get("/status").Text);
        Wait.For("the log lines", () => weir.Process.Output.Split('\n').Length > 1);
        using JsonDocument line = JsonDocument.Parse(weir.Process.Output.Split('\n')[0]);
        Assert.Equal("/", line.RootElement.GetProperty("uri").GetString());
        Assert.Equal(200, line.RootElement.GetProperty("status").GetInt32());
        Assert.DoesNotContain("healthz", weir.Process.Output);
    }

    [NeedsFact("unshare")]
    public void As_process_1_of_a_container_it_answers_and_quits_in_order()
    {
        _files.Write("index.html", "process 1");
        using Port port = Port.Lease();
        string number = port.Number.ToString(CultureInfo.InvariantCulture);
        string text = File.ReadAllText(Path.Combine(_samples, "container.conf"))
            .Replace("/tmp/", _files.Path + "/").Replace("/srv/www", _files.Path)
            .Replace("include mime.types", $"include {_samples}/mime.types")
            .Replace("listen 8080", "listen 127.0.0.1:" + number);
        string conf = _files.Write("nginx.conf", text);
        using var outside = new ChildProcess(Tools.Require("unshare"),
            ["--pid", "--fork", "--mount-proc", ServerProcess.WeirBinary, "-c", conf]);
        string answer = "";
        Wait.For("an answer", () =>
        {
            try
            {
                using RawClient client = RawClient.Connect(port.Number);
                answer = client.Get("/").Text;
                return true;
            }
            catch (System.Net.Sockets.SocketException)
            {
                return false;
            }
        }, 20_000);
        Assert.Equal("process 1", answer);
        int inside = Assert.Single(outside.Children());
        Assert.EndsWith("\t1", File.ReadLines($"/proc/{inside}/status").First(line => line.StartsWith("NSpid")));
        ChildProcess.Send(inside, Signal.Quit);
        Assert.True(outside.WaitForExit(10_000));
        Assert.Equal(0, outside.ExitCode);
    }

    private static ServerProcess Start(string sample, params (string From, string To)[] changes)
    {
        string text = File.ReadAllText(Path.Combine(_samples, sample)).Replace("/tmp/", "%DIR%/");
        var all = new List<(string From, string To)>(changes)
        {
            ("include mime.types;", $"include {_samples}/mime.types;"),
            (text.Contains("/run/weir.pid") ? "/run/weir.pid" : "%DIR%/weir.pid", "%DIR%/server.pid"),
            (text.Contains("listen 8080;") ? "listen 8080;" : "listen 80;", "listen 127.0.0.1:%PORT%;"),
        };
        foreach ((string from, string to) in all)
        {
            // The chat needs no media types, but what a test exchanges has to be there.
            Assert.True(text.Contains(from) || from.StartsWith("include"), $"{sample} has no {from}");
            text = text.Replace(from, to);
        }
        text = text.Replace("/var/log/weir", "%DIR%").Replace("user www-data;", "user root;")
            .Replace("listen [::]:80;", "");
        string daemon = text.Contains("daemon off;") ? "" : "daemon off;";
        return ServerProcess.Weir(Conf.Full(daemon + text));
    }

    /// <summary>The text of an application of the samples.</summary>
    internal static string App(string name) => File.ReadAllText(Path.Combine(_samples, "apps", name));

    private static string Local(AppProcess app) => "127.0.0.1:" + app.Port.ToString(CultureInfo.InvariantCulture);

    private static string Post(ServerProcess weir, string path, string body, string type = "text/plain")
    {
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", path, ["Content-Type: " + type], body));
        return client.ReadResponse().Text;
    }

    private static RawClient Join(ServerProcess weir)
    {
        RawClient client = weir.Connect();
        client.Send("GET /chat HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        HttpResponse response = client.ReadResponse();
        Assert.Equal(101, response.Status);
        Assert.Equal("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", response["Sec-WebSocket-Accept"]);
        return client;
    }

    private static byte[] Frame(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        byte[] head = bytes.Length < 126 ? [0x81, (byte)bytes.Length]
            : [0x81, 126, (byte)(bytes.Length >> 8), (byte)bytes.Length];
        return [.. head, .. bytes];
    }

    private static byte[] Masked(string text)
    {
        byte[] frame = Frame(text);
        int head = frame[1] == 126 ? 4 : 2;
        byte[] mask = [1, 2, 3, 4];
        byte[] masked = [.. frame[..head], .. mask, .. frame[head..].Select((b, i) => (byte)(b ^ mask[i % 4]))];
        masked[1] |= 0x80;
        return masked;
    }

    private static string FindSamples()
    {
        string? directory = AppContext.BaseDirectory;
        while (directory is not null && !File.Exists(Path.Combine(directory, "Weir.slnx")))
        {
            directory = Path.GetDirectoryName(directory);
        }
        return Path.Combine(directory ?? ".", "samples");
    }
}
