// HTTP/2 between Weir and clients that others wrote: curl, nghttp and h2load (nghttp2), .NET's HttpClient, Chromium;
// over TLS with ALPN and without TLS by prior knowledge.
using System.Net;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class Http2RealPartiesTests
{
    private static readonly TestAuthority _authority = new();

    private static ServerProcess Serve(string server, TempDir files, string http = "", int upstreamPort = 0,
        int workers = 1, bool master = false)
    {
        _authority.Write(files, "ec");
        files.Write("ca.crt", _authority.Pem);
        return ServerProcess.Weir(Conf.Http($$"""
            {{http}}
            server {
                listen 127.0.0.1:%PORT%;
                listen 127.0.0.1:%PORT2% ssl;
                server_name localhost;
                http2 on;
                ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key;
                root %FILES%;
                {{server}}
            }
            """, workers, master), files, upstreamPort);
    }

    [NeedsTheory("curl")]
    [InlineData("--http2-prior-knowledge", "http", 1, "HTTP/2.0 h2c")]
    [InlineData("--http2", "https", 2, "HTTP/2.0 h2")]
    [InlineData("--http1.1", "https", 2, "HTTP/1.1 ")]
    public void Curl_asks_sends_and_receives(string option, string scheme, int port, string protocol)
    {
        using var files = new TempDir();
        byte[] blob = new byte[3_000_000];
        new Random(1).NextBytes(blob);
        files.Write("blob", blob);
        using Upstream app = Upstream.Answering(static r => Upstream.Ok($"{r.Bytes.Length - r.HeadBytes} "));
        using ServerProcess weir = Serve("""
            client_max_body_size 10m;
            location /say { return 200 "$server_protocol $http2"; }
            location /up { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1; }
            """, files, upstreamPort: app.Port);
        string url = $"{scheme}://localhost:{weir.PortOf(port)}";
        string[] common = ["-s", option, "--cacert", files.At("ca.crt")];
        Assert.Equal(protocol, ChildProcess.Run("curl", [.. common, url + "/say"]).Output.TrimEnd('\n'));
        string fetched = files.At("fetched");
        Assert.Equal(0, ChildProcess.Run("curl", [.. common, "-o", fetched, url + "/blob"]).ExitCode);
        Assert.Equal(blob, File.ReadAllBytes(fetched));
        (int code, string output, string _) = ChildProcess.Run("curl",
            [.. common, "--data-binary", "@" + files.At("blob"), "-w", "%{http_code}", url + "/up"]);
        Assert.Equal(0, code);
        Assert.Equal($"{blob.Length} 200", output.TrimEnd('\n'));
    }

    [NeedsFact("nghttp")]
    public void Nghttp_fetches_many_at_once()
    {
        using var files = new TempDir();
        string[] urls = new string[50];
        using ServerProcess weir = Serve("", files);
        for (int i = 0; i < urls.Length; i++)
        {
            files.Write($"f{i}", new string((char)('a' + i % 26), 1000 * i));
            urls[i] = $"http://127.0.0.1:{weir.Port}/f{i}";
        }

        (int code, string output, string errors) = ChildProcess.Run("nghttp", ["-n", "-s", .. urls]);
        Assert.True(code == 0, errors);
        Assert.Equal(urls.Length, output.Split('\n').Count(static l => l.Contains(" 200 ", StringComparison.Ordinal)));
        (_, string frames, _) = ChildProcess.Run("nghttp", ["-nv", "--expect-continue", "-d", files.At("f3"), urls[0]]);
        Assert.Contains("405", frames, StringComparison.Ordinal);
    }

    /// <summary>Workers, and whether a master runs them.</summary>
    public static TheoryData<int, bool> Shapes => Conf.Engine == "portable"
        ? new() { { 1, false } }
        : new() { { 1, false }, { 2, true } };

    [NeedsTheory("h2load"), MemberData(nameof(Shapes))]
    public void H2load_finds_every_answer(int workers, bool master)
    {
        using var files = new TempDir();
        files.Write("small", new string('s', 1024));
        files.Write("large", new string('l', 300_000));
        using ServerProcess weir = Serve("keepalive_requests 100000;", files, workers: workers, master: master);
        foreach ((string url, int count) in (ReadOnlySpan<(string, int)>)
            [($"http://127.0.0.1:{weir.Port}/small", 4000), ($"https://127.0.0.1:{weir.PortOf(2)}/small", 2000),
            ($"http://127.0.0.1:{weir.Port}/large", 200), ($"https://127.0.0.1:{weir.PortOf(2)}/large", 200)])
        {
            (int code, string output, string errors) = ChildProcess.Run("h2load",
                ["-n", $"{count}", "-c", "8", "-m", "32", url]);
            Assert.True(code == 0, errors);
            Assert.Contains($"{count} succeeded, 0 failed, 0 errored, 0 timeout", output, StringComparison.Ordinal);
            Assert.Contains($"status codes: {count} 2xx", output, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("http", 1)]
    [InlineData("https", 2)]
    public async Task HttpClient_shares_a_connection(string scheme, int port)
    {
        using var files = new TempDir();
        files.Write("file", new string('f', 100_000));
        using Upstream upstream = Upstream.Answering(static r =>
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + $"{r.Body.Count(static c => c == 'X'):x}\r\n{new string('y', r.Body.Count(static c => c == 'X'))}\r\n"
            + "0\r\nX-Sum: 9\r\n\r\n");
        using ServerProcess weir = Serve("""
            client_max_body_size 10m;
            location /up { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1; proxy_pass_trailers on; }
            location /who { return 200 $connection; }
            """, files, upstreamPort: upstream.Port);
        using var handler = new SocketsHttpHandler();
        handler.SslOptions.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
        using var client = new HttpClient(handler)
        {
            BaseAddress = new Uri($"{scheme}://localhost:{weir.PortOf(port)}"),
            DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        string[] who = await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => client.GetStringAsync("/who")));
        Assert.Single(who.Distinct());
        string[] all = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => client.GetStringAsync("/file")));
        Assert.All(all, static text => Assert.Equal(100_000, text.Length));
        foreach (int length in (int[])[1, 1000, 500_000])
        {
            using var body = new StringContent(new string('X', length));
            using HttpResponseMessage answer = await client.PostAsync("/up", body);
            string text = await answer.Content.ReadAsStringAsync();
            Assert.Equal((HttpVersion.Version20, length), (answer.Version, text.Length));
            Assert.Equal("9", answer.TrailingHeaders.GetValues("x-sum").Single());
        }
    }

    private const string Page = """
        <!doctype html><title>h2</title><div id=out></div><script>
        const all = [...Array(40).keys()].map(i => fetch('/item?' + i).then(r => r.text()));
        window.done = Promise.all(all).then(texts => {
          const hops = new Set(performance.getEntriesByType('resource').map(e => e.nextHopProtocol));
          window.items = texts.join(',') + ' ' + [...hops];
        });
        const socket = new WebSocket('wss://' + location.host + '/chat');
        socket.onopen = () => socket.send('hello');
        socket.onmessage = e => { window.said = e.data; socket.close(); };
        socket.onerror = () => { window.said = 'failed'; };
        </script>
        """;

    [NeedsFact("chromium", "node")]
    public async Task Chromium_loads_a_page_and_chats_over_one_connection()
    {
        using var app = AppProcess.Node(SamplesTests.App("chat.js"));
        using var files = new TempDir();
        files.Write("index.html", Page);
        using ServerProcess weir = Serve("""
            types { text/html html; }
            access_log %DIR%/access.log chat;
            location /item { return 200 $args; }
            location /chat {
                proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
            }
            """, files, "log_format chat '$connection $server_protocol $uri $status';", app.Port);
        using Browser browser = await Task.Run(static () => new Browser("--ignore-certificate-errors"));
        await Task.Run(() => browser.Open($"https://localhost:{weir.PortOf(2)}/index.html"));
        await browser.WaitForAsync("window.items !== undefined && window.said !== undefined");
        Assert.Equal(string.Join(',', Enumerable.Range(0, 40)) + " h2", await browser.EvaluateAsync("window.items"));
        Assert.Equal("hello", await browser.EvaluateAsync("window.said"));
        Wait.For("the log", () => weir.AccessLog.Contains("/chat", StringComparison.Ordinal));
        string[] lines = weir.AccessLog.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.All(lines, static l => Assert.Contains(" HTTP/2.0 ", l));
        string chat = lines.Single(static l => l.Contains("/chat", StringComparison.Ordinal));
        Assert.StartsWith(lines[0].Split(' ')[0] + " ", chat, StringComparison.Ordinal);
    }
}
