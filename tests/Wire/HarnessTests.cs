// The harness itself, proven against a real nginx: what it starts it stops, what it reads it reads by its framing.
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class HarnessTests
{
    [NeedsFact("nginx")]
    public void A_server_starts_answers_and_stops_with_its_workers()
    {
        int[] workers;
        ServerProcess server;
        using (server = ServerProcess.Nginx(Conf.Server("location / { return 200 hi; }", workers: 2, master: true)))
        {
            Assert.Equal("hi", server.Get("/").Text);
            Wait.For("two workers", () => server.Workers().Length == 2);
            workers = server.Workers();
        }

        Assert.All(workers, pid => Assert.False(Directory.Exists($"/proc/{pid}/task/{pid}/children"), $"{pid} lives"));
        Assert.False(Directory.Exists(server.Dir.Path));
    }

    [NeedsFact("nginx")]
    public void A_configuration_that_is_refused_is_told_with_its_message()
    {
        var refused = Assert.Throws<InvalidOperationException>(
            () => ServerProcess.Nginx(Conf.Server("location / { nonsense; }")));
        Assert.Contains("unknown directive \"nonsense\"", refused.Message);
    }

    [NeedsFact("nginx")]
    public void A_client_reads_responses_one_by_one_and_the_end()
    {
        using var server = ServerProcess.Nginx(Conf.Server("location / { return 200 $uri; }"));
        using RawClient client = server.Connect();
        byte[] bytes = Encoding.Latin1.GetBytes(RawClient.Request("GET", "/a", [])
            + RawClient.Request("GET", "/bc", ["Connection: close"]));
        client.SendSplit(bytes, 1, 5, bytes.Length - 3);
        Assert.Equal("/a", client.ReadResponse().Text);
        Assert.Equal("/bc", client.ReadResponse().Text);
        Assert.True(client.WaitClosed());
        Assert.Equal(Ending.Closed, client.Ending);
    }

    [NeedsFact("nginx")]
    public void An_upstream_counts_what_reaches_it()
    {
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Target, "X-Seen: " + r.Header("x-a")));
        using var server = ServerProcess.Nginx(
            Conf.Server("location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }"), upstreamPort: upstream.Port);
        HttpResponse response = server.Get("/x?y", "X-A: b");
        Assert.Equal("/x?y", response.Text);
        Assert.Equal("b", response["X-Seen"]);
        Assert.Single(upstream.Requests);
        Assert.Equal(1, upstream.Connections);
    }

    [Fact]
    public void A_chunked_response_is_read_with_its_trailers()
    {
        byte[] bytes = Encoding.Latin1.GetBytes(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nT: u\r\n\r\nrest");
        HttpResponse response = HttpResponse.Parse(bytes, answersHead: false, ended: false)!;
        Assert.Equal("abcd", response.Text);
        Assert.Equal("u", response.Trailers[0].Value);
        Assert.Equal(bytes.Length - 4, response.Raw.Length);
        Assert.Null(HttpResponse.Parse(bytes.AsSpan(0, 20), false, false));
        Assert.False(HttpResponse.Parse(bytes.AsSpan(0, bytes.Length - 10), false, false)!.IsComplete);
    }

    [NeedsFact("node")]
    public void A_node_application_runs()
    {
        using var app = AppProcess.Node("""
            require('http').createServer((q, r) => r.end('node ' + q.url)).listen(process.env.PORT, '127.0.0.1');
            """);
        Assert.Equal("node /x", Get(app.Port, "/x").Text);
    }

    [NeedsFact("gunicorn", "flask")]
    public void A_flask_application_runs()
    {
        using var app = AppProcess.Gunicorn("""
            from flask import Flask
            app = Flask(__name__)
            @app.route('/x')
            def x():
                return 'flask'
            """);
        Assert.Equal("flask", Get(app.Port, "/x").Text);
    }

    [NeedsFact("php-fpm", "nginx")]
    public void PHP_runs_behind_a_server()
    {
        using var php = AppProcess.PhpFpm();
        using var files = new TempDir();
        files.Write("i.php", "<?php echo 'php ' . $_SERVER['REQUEST_URI'];");
        using var server = ServerProcess.Nginx(Conf.Server("""
            location ~ \.php$ {
                fastcgi_param SCRIPT_FILENAME %FILES%$fastcgi_script_name;
                fastcgi_param REQUEST_METHOD $request_method;
                fastcgi_param REQUEST_URI $request_uri;
                fastcgi_pass 127.0.0.1:%UPSTREAM%;
            }
            """), files, php.Port);
        Assert.Equal("php /i.php?a", server.Get("/i.php?a").Text);
    }

    private static HttpResponse Get(int port, string target)
    {
        using RawClient client = RawClient.Connect(port);
        return client.Get(target, "Connection: close");
    }
}
