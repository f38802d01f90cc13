// Weir among the programs that operators run it with: Node, Flask on Gunicorn, PHP-FPM, WebSockets, curl, Chromium, and
// Debian's own unmodified nginx configuration.
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class RealPartiesTests
{
    private const string NodeApi = """
        const http = require('http'), crypto = require('crypto');
        const server = http.createServer((q, r) => {
          let body = '';
          q.on('data', d => body += d).on('end', () => {
            r.setHeader('Content-Type', 'application/json');
            r.end(JSON.stringify({ url: q.url, method: q.method, body, host: q.headers.host,
              ip: q.headers['x-real-ip'] }));
          });
        });
        server.on('upgrade', (q, s) => {
          const accept = crypto.createHash('sha1')
            .update(q.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
          s.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
            + 'Sec-WebSocket-Accept: ' + accept + '\r\n\r\n');
          s.on('data', d => {
            // A short masked text frame comes back unmasked.
            const n = d[1] & 127, mask = d.subarray(2, 6), text = Buffer.alloc(n);
            for (let i = 0; i < n; i++) text[i] = d[6 + i] ^ mask[i % 4];
            if ((d[0] & 15) === 8) return s.end();
            s.write(Buffer.concat([Buffer.from([0x81, n]), text]));
          });
          s.on('error', () => {});
        });
        server.listen(process.env.PORT, '127.0.0.1');
        """;

    private const string FlaskApp = """
        import os
        from flask import Flask, request
        app = Flask(__name__)
        @app.route('/who')
        def who():
            return str(os.getpid())
        @app.route('/form', methods=['POST'])
        def form():
            return request.form['name'].upper()
        """;

    [NeedsFact("node")]
    public void A_single_page_application_with_its_API_on_Node()
    {
        using var app = AppProcess.Node(NodeApi);
        using var files = new TempDir();
        files.Write("index.html", "<div id=app></div>");
        files.Write("assets/app.js", "console.log('app')");
        using var weir = ServerProcess.Weir(Conf.Server("""
            index index.html;
            location / { try_files $uri /index.html; }
            location /api/ {
                proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_set_header Host $host;
                proxy_set_header X-Real-IP $remote_addr;
            }
            """, "types { text/html html; text/javascript js; }"), files, app.Port);
        Assert.Equal("<div id=app></div>", weir.Get("/deep/link").Text);
        Assert.Equal("text/javascript", weir.Get("/assets/app.js")["Content-Type"]);
        HttpResponse answer = weir.Get("/api/x?y=1");
        Assert.Contains("\"url\":\"/api/x?y=1\"", answer.Text);
        Assert.Contains("\"host\":\"localhost\"", answer.Text);
        Assert.Contains("\"ip\":\"127.0.0.1\"", answer.Text);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/api/p", [], new string('n', 50_000)));
        Assert.Contains(new string('n', 50_000), client.ReadResponse().Text);
    }

    [NeedsFact("node")]
    public void A_chat_over_a_WebSocket()
    {
        using var app = AppProcess.Node(NodeApi);
        using var weir = ServerProcess.Weir(Conf.Server("""
            location / {
                proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
            }
            """, "map $http_upgrade $connection_upgrade { default upgrade; '' close; }"), upstreamPort: app.Port);
        using var socket = new System.Net.WebSockets.ClientWebSocket();
        using var timeout = new CancellationTokenSource(15_000);
        socket.ConnectAsync(new Uri($"ws://127.0.0.1:{weir.Port}/chat"), timeout.Token).GetAwaiter().GetResult();
        byte[] buffer = new byte[200];
        for (int i = 0; i < 20; i++)
        {
            byte[] message = Encoding.UTF8.GetBytes($"message {i}");
            socket.SendAsync(message, System.Net.WebSockets.WebSocketMessageType.Text, true, timeout.Token)
                .GetAwaiter().GetResult();
            var received = socket.ReceiveAsync(buffer, timeout.Token).GetAwaiter().GetResult();
            Assert.Equal(message, buffer.AsSpan(0, received.Count).ToArray());
        }
    }

    [NeedsFact("gunicorn", "flask", "wrk")]
    public void A_Flask_upstream_of_three_loses_one_under_load_and_no_request()
    {
        using var first = AppProcess.Gunicorn(FlaskApp);
        using var second = AppProcess.Gunicorn(FlaskApp);
        using var third = AppProcess.Gunicorn(FlaskApp);
        using var weir = ServerProcess.Weir(Conf.Server("""
            location / { proxy_pass http://flask; proxy_next_upstream error timeout non_idempotent; }
            """, $$"""
            upstream flask {
                server 127.0.0.1:{{first.Port}}; server 127.0.0.1:{{second.Port}}; server 127.0.0.1:{{third.Port}};
            }
            """));
        var seen = new HashSet<string>();
        for (int i = 0; i < 12; i++)
        {
            seen.Add(weir.Get("/who").Text);
        }

        Assert.Equal(3, seen.Count);
        using var load = new ChildProcess(Tools.Require("wrk"), ["-t1", "-c8", "-d3s", weir.Url("/who")]);
        Wait.For("requests", () => load.HasExited || first.Process.Children().Length > 0);
        first.Process.Stop(Signal.Kill, 0);
        Assert.True(load.WaitForExit(20_000));
        Assert.DoesNotContain("Non-2xx", load.Output);
        Assert.Contains("requests in", load.Output);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/form", ["Content-Type: application/x-www-form-urlencoded"],
            "name=weir"));
        Assert.Equal("WEIR", client.ReadResponse().Text);
    }

    [NeedsFact("php-fpm")]
    public void Locations_as_WordPress_wants_them_on_PHP_FPM()
    {
        using var php = AppProcess.PhpFpm();
        using var files = new TempDir();
        files.Write("index.php", "<?php header('X-P: 1'); echo $_SERVER['REQUEST_URI'] . ' ' . ($_GET['q'] ?? '') . "
            + "' ' . strlen(file_get_contents('php://input')) . ' ' . ($_POST['a'] ?? '');");
        files.Write("missing.php", "<?php http_response_code(410); echo 'gone';");
        files.Write("wp-content/style.css", "p{}");
        using var weir = ServerProcess.Weir(Conf.Server("""
            index index.php;
            location / { try_files $uri $uri/ /index.php?$args; }
            location ~ \.php$ {
                fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
                fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method;
                fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
                fastcgi_param REQUEST_URI $request_uri; fastcgi_param SERVER_PROTOCOL $server_protocol;
                fastcgi_pass 127.0.0.1:%UPSTREAM%;
            }
            location ~* \.(css|js)$ { expires max; }
            """, "types { text/css css; }"), files, php.Port);
        HttpResponse page = weir.Get("/2024/hello-world/?q=x");
        Assert.Equal("/2024/hello-world/?q=x x 0 ", page.Text);
        Assert.Equal("1", page["X-P"]);
        Assert.Equal(410, weir.Get("/missing.php").Status);
        Assert.Equal("text/css", weir.Get("/wp-content/style.css")["Content-Type"]);
        using RawClient client = weir.Connect();
        string form = "a=" + new string('f', 40_000);
        client.Send(RawClient.Request("POST", "/index.php", ["Content-Type: application/x-www-form-urlencoded"], form));
        Assert.Contains($" {form.Length} {form[2..]}", client.ReadResponse().Text);
    }

    [NeedsFact("curl")]
    public void Curl_resumes_a_download_in_the_middle()
    {
        using var files = new TempDir();
        byte[] content = new byte[3_000_000];
        new Random(2).NextBytes(content);
        files.Write("image.iso", content);
        using var weir = ServerProcess.Weir(Conf.Server("location / { }"), files);
        string part = weir.Dir.At("part");
        File.WriteAllBytes(part, content[..1_234_567]);
        (int code, string output, string errors) = ChildProcess.Run(Tools.Require("curl"), "-sS", "-C", "-", "-o", part,
            "-w", "%{http_code}", weir.Url("/image.iso"));
        Assert.True(code == 0, errors);
        Assert.Equal("206", output.Trim());
        Assert.Equal(content, File.ReadAllBytes(part));
    }

    [Trait("Needs", "master")]
    [NeedsFact("chromium")]
    public void Chromium_loads_a_page_with_fifty_assets()
    {
        using var files = new TempDir();
        var page = new StringBuilder("<!doctype html><title>page</title><script>var loaded = 0;</script>");
        for (int i = 0; i < 25; i++)
        {
            files.Write($"s{i}.js", "loaded++;" + new string(' ', i * 400));
            files.Write($"i{i}.svg", "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>");
            page.Append($"<script src=s{i}.js></script><img src=i{i}.svg onload=loaded++>");
        }

        page.Append("<script>onload = () => document.body.append('assets: ' + loaded);</script>");
        files.Write("index.html", page.ToString());
        using var weir = ServerProcess.Weir(Conf.Server(
            "access_log %DIR%/access.log s; gzip on; gzip_types text/javascript image/svg+xml; location / { }",
            "log_format s '$status $uri'; types { text/html html; text/javascript js; image/svg+xml svg; }",
            2, true), files);
        using var home = new TempDir();
        (int code, string output, string errors) = ChildProcess.Run(Tools.Require("chromium"), 60_000,
            ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir=" + home.Path,
            "--no-first-run", "--disable-background-networking", "--dump-dom", weir.Url()]);
        Assert.True(code == 0, errors);
        Assert.Contains("assets: 50", output);
        string[] lines = weir.AccessLog.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(lines.Count(l => l.StartsWith("200 /", StringComparison.Ordinal)) >= 51, weir.AccessLog);
    }

    [NeedsFact("root", "nginx", "curl")]
    public void Debians_unmodified_configuration_serves_its_default_site()
    {
        // In namespaces of its own: port 80 is free there, and /run and the logs are not the machine's. Modules of
        // others that a package of nginx's brings along (nginx-light has one) are no part of the configuration.
        using var server = new ChildProcess("/usr/bin/unshare", ["--mount", "--net", "--pid", "--fork", "--kill-child",
            "/bin/sh", "-c", """
            mount --make-rprivate /; mount -t proc proc /proc
            mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/log/nginx; ip link set lo up
            mount -t tmpfs tmpfs /etc/nginx/modules-enabled
            "$0" -c /etc/nginx/nginx.conf || exit 1
            curl -sS --retry 20 --retry-connrefused --retry-delay 1 http://localhost/
            curl -sS -o /dev/null -w '%{http_code}\n' http://[::1]/none
            "$0" -c /etc/nginx/nginx.conf -s quit
            cat /var/log/nginx/access.log
            """, ServerProcess.WeirBinary]);
        Assert.True(server.WaitForExit(60_000), server.Errors);
        // The site's own order of index files; another package may have put an index.html beside nginx's page.
        string page = new[] { "index.html", "index.htm", "index.nginx-debian.html" }
            .Select(static name => "/var/www/html/" + name).First(File.Exists);
        Assert.Contains(File.ReadAllText(page), server.Output);
        Assert.Contains("\n404\n", server.Output);
        Assert.Contains("\"GET / HTTP/1.1\" 200", server.Output);
    }
}
