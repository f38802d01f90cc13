// app_pass: locations of a configuration in this process that are handlers of this process.
using Weir.Conf;
using Weir.Loop;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class AppPassTests
{
    private static string Of(Version version) => version.Major == 2 ? " over HTTP/2" : "";

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Locations_hand_requests_to_handlers_and_the_configuration_holds_around_them(bool inline)
    {
        using Port port = Port.Lease();
        using var directory = new TempDir();
        var async = new HostedApplication(static async (request, response) =>
        {
            string text = await request.ReadTextAsync();
            await response.WriteAsync($"{request.Method} {request.Path} {text}{Of(request.HttpVersion)}");
        }, inline);
        var sync = new HostedApplication(static (request, response) =>
        {
            response.Headers["X-App"] = "sync";
            response.Write(request.Query);
        }, inline);
        var slow = new HostedApplication(static (_, _) => Task.Delay(Timeout.Infinite), inline)
        {
            HandlerTimeout = TimeSpan.FromMilliseconds(100),
        };
        WebServerOptions options = WebServerOptions.FromText($$"""
            error_log {{directory.At("error.log")}};
            events { }
            http {
                log_format short '$status $uri $body_bytes_sent';
                access_log {{directory.At("access.log")}} short;
                server {
                    listen 127.0.0.1:{{port.Number}};
                    http2 on;
                    location /async { app_pass async; client_max_body_size 3; }
                    location /sync { app_pass sync; add_header X-Around yes; gzip off; }
                    location /slow { app_pass slow; }
                    location /moved { rewrite ^ /sync?b=2? last; }
                }
            }
            """) with
        {
            Applications = new Dictionary<string, HostedApplication>
            {
                ["async"] = async, ["sync"] = sync, ["slow"] = slow,
            },
        };
        using var ready = new ManualResetEventSlim();
        var loop = new EpollLoop();
        WebServer? server = null;
        string errors = "";
        var thread = new Thread(() =>
        {
            server = WebServer.TryStart(loop, options, out ConfErrors found);
            errors = string.Join('\n', found.All.Select(static e => e.Format()));
            ready.Set();
            if (server is not null)
            {
                server.Drained = loop.Stop;
                loop.Run();
                loop.CloseConnections();
                server.Dispose();
            }
        });
        thread.Start();
        Assert.True(ready.Wait(30_000));
        Assert.True(server is not null, errors);
        using (RawClient client = RawClient.Connect(port.Number))
        {
            client.Send("POST /async HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
            Assert.Equal("POST /async abc", client.ReadResponse(timeoutMs: 30_000).Text);
            HttpResponse answer = client.Get("/sync?a=1");
            Assert.Equal("a=1", answer.Text);
            Assert.Equal("sync", answer["X-App"]);
            Assert.Equal("yes", answer["X-Around"]);
            Assert.Equal("b=2", client.Get("/moved").Text);
            Assert.Equal(413, client.Send("POST /async HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd")
                .ReadResponse(timeoutMs: 30_000).Status);
        }
        using (RawClient client = RawClient.Connect(port.Number))
        {
            client.Send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
            Assert.Equal(503, client.ReadResponse(timeoutMs: 30_000).Status);
        }
        using (Http2Client client = Http2Client.Connect(port.Number))
        {
            Assert.Equal("POST /async abc over HTTP/2", client.Post("/async", "abc").Text);
            int slowStream = client.Begin("/slow");
            Http2Answer answer = client.Get("/sync?a=1");
            Assert.Equal(("a=1", "sync", "yes"), (answer.Text, answer["x-app"], answer["x-around"]));
            Assert.Equal(503, client.ReadAnswer(slowStream).Status);
        }
        Assert.Equal(2, slow.GetMetrics().TimedOut);
        loop.Post(server!.Quit);
        Assert.True(thread.Join(30_000));
        loop.Dispose();
        string[] log = directory.Read("access.log").Split('\n');
        Assert.Equal("200 /async 15", log[0]);
        Assert.Equal("200 /sync 3", log[1]);
        Assert.StartsWith("413 /async ", log[3]);
        Assert.StartsWith("503 /slow ", log[4]);
    }

    [Fact]
    public void A_name_that_no_application_has_is_an_error_with_its_place()
    {
        using var loop = new EpollLoop();
        WebServer? server = WebServer.TryStart(loop, WebServerOptions.FromText(
            "events { }\nhttp { server { listen 127.0.0.1:1;\n location / { app_pass nobody; } } }\n"),
            out ConfErrors errors);
        Assert.Null(server);
        string text = string.Join('\n', errors.All.Select(static e => e.Format()));
        Assert.Contains("no application \"nobody\" in this process", text);
        Assert.Contains(":3", text);
    }
}
