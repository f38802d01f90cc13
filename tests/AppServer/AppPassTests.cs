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
        var configured = new Configured($$"""
            error_log {{directory.At("error.log")}};
            events { }
            http {
                log_format short '$status $uri $body_bytes_sent';
                access_log {{directory.At("access.log")}} short;
                server {
                    listen 127.0.0.1:{{port.Number}};
                    http2 on;
                    location /async { app_pass async; client_max_body_size 3; }
                    location /sync {
                        app_pass sync; add_header X-Around yes; gzip off;
                        if ($arg_if) { add_header X-Around chosen; }
                        limit_except GET { deny 127.0.0.9; }
                    }
                    location /slow { app_pass slow; }
                    location /moved { rewrite ^ /sync?b=2? last; }
                }
            }
            """, new() { ["async"] = async, ["sync"] = sync, ["slow"] = slow });
        using (RawClient client = RawClient.Connect(port.Number))
        {
            client.Send("POST /async HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
            Assert.Equal("POST /async abc", client.ReadResponse(timeoutMs: 30_000).Text);
            HttpResponse answer = client.Get("/sync?a=1");
            Assert.Equal("a=1", answer.Text);
            Assert.Equal("sync", answer["X-App"]);
            Assert.Equal("yes", answer["X-Around"]);
            Assert.Equal("b=2", client.Get("/moved").Text);
            HttpResponse chosen = client.Get("/sync?if=1");
            Assert.Equal(("if=1", "chosen"), (chosen.Text, chosen["X-Around"]));
            Assert.Equal("", client.Send("PUT /sync HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                .ReadResponse(timeoutMs: 30_000).Text);
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
        configured.Dispose();
        string[] log = directory.Read("access.log").Split('\n');
        Assert.Equal("200 /async 15", log[0]);
        Assert.Equal("200 /sync 3", log[1]);
        Assert.StartsWith("413 /async ", log[5]);
        Assert.StartsWith("503 /slow ", log[6]);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Rates_connections_passwords_pages_and_compression_of_the_configuration_hold(bool inline)
    {
        using Port port = Port.Lease();
        using var directory = new TempDir();
        directory.Write("users", "ann:{PLAIN}secret\n");
        directory.Write("sorry.txt", "come again");
        int calls = 0;
        using var inside = new ManualResetEventSlim();
        using var goOn = new ManualResetEventSlim();
        var shop = new HostedApplication((request, response) =>
        {
            Interlocked.Increment(ref calls);
            if (request.Path == "/wait")
            {
                inside.Set();
                goOn.Wait();
            }
            if (request.Path == "/broken")
            {
                throw new InvalidOperationException("on purpose");
            }
            response.ContentType = "text/plain";
            response.Write(new string('a', 5000) + request.Headers["Authorization"]);
        }, inline);
        using var configured = new Configured($$"""
            error_log {{directory.At("error.log")}};
            events { }
            http {
                log_format short '$status $uri $remote_user $limit_req_status';
                access_log {{directory.At("access.log")}} short;
                limit_req_zone $uri zone=rate:64k rate=1r/m;
                limit_conn_zone $uri zone=open:64k;
                gzip_types text/plain;
                server {
                    listen 127.0.0.1:{{port.Number}};
                    root {{directory.Path}};
                    error_page 500 503 /sorry.txt;
                    location = /sorry.txt { }
                    location / { app_pass shop; gzip on; }
                    location /limited { app_pass shop; limit_req zone=rate; }
                    location /wait { app_pass shop; limit_conn open 1; }
                    location /secret {
                        app_pass shop; auth_basic "inside"; auth_basic_user_file {{directory.At("users")}};
                    }
                    location /forbidden { app_pass shop; deny all; }
                }
            }
            """, new() { ["shop"] = shop });
        HttpResponse Ask(string path, string fields = "")
        {
            using RawClient client = RawClient.Connect(port.Number);
            return client.Send($"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").ReadResponse(timeoutMs: 30_000);
        }

        Assert.Equal(200, Ask("/limited").Status);
        HttpResponse beyond = Ask("/limited");
        Assert.Equal((503, "come again"), (beyond.Status, beyond.Text));
        Assert.Equal(401, Ask("/secret").Status);
        Assert.Equal(403, Ask("/forbidden").Status);
        Assert.Equal(1, calls);
        string known = "Authorization: Basic " + Convert.ToBase64String("ann:secret"u8);
        Assert.EndsWith(known[15..], Ask("/secret", known + "\r\n").Text);
        HttpResponse small = Ask("/", "Accept-Encoding: gzip\r\n");
        Assert.Equal("gzip", small["Content-Encoding"]);
        Assert.InRange(small.Body.Length, 1, 500);
        HttpResponse broken = Ask("/broken");
        Assert.Equal((500, "come again"), (broken.Status, broken.Text));
        if (!inline)
        {
            using RawClient waits = RawClient.Connect(port.Number).Send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
            Assert.True(inside.Wait(30_000));
            Assert.Equal(503, Ask("/wait").Status);
            goOn.Set();
            Assert.Equal(200, waits.ReadResponse(timeoutMs: 30_000).Status);
        }
        string[] log = directory.Read("access.log").Split('\n');
        Assert.Equal("200 /limited - PASSED", log[0]);
        Assert.Equal("503 /sorry.txt - REJECTED", log[1]);
        Assert.Contains("200 /secret ann -", log);
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

    [Theory]
    [InlineData("fastcgi_cache two")]
    [InlineData("fastcgi_store on")]
    public void A_cache_of_fastcgi_answers_beside_an_application_is_an_error_with_its_place(string directive)
    {
        using var directory = new TempDir();
        string text = string.Create(System.Globalization.CultureInfo.InvariantCulture, $$"""
            events { }
            http {
                proxy_cache_path {{directory.At("one")}} keys_zone=one:1m;
                fastcgi_cache_path {{directory.At("two")}} keys_zone=two:1m;
                fastcgi_cache two;
                server { listen 127.0.0.1:1; location / { app_pass app;
                    {{directive}}; } }
            }
            """);
        string name = directive[..directive.IndexOf(' ')];
        string said = Refused(text);
        Assert.Contains($"\"{name}\" keeps nothing of what an application answers", said);
        Assert.Contains(":7", said);
        Assert.DoesNotContain(":5", said);
        Assert.DoesNotContain("keeps nothing", Refused(text.Replace(directive, name + " off") + "nonsense"));
    }

    private static string Refused(string text)
    {
        using var loop = new EpollLoop();
        WebServer? server = WebServer.TryStart(loop, WebServerOptions.FromText(text) with
        {
            Applications = new Dictionary<string, HostedApplication>
            {
                ["app"] = new HostedApplication(static (_, response) => response.Write("answer")),
            },
        }, out ConfErrors errors);
        Assert.Null(server);
        return string.Join('\n', errors.All.Select(static e => e.Format()));
    }
}
