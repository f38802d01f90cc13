// The server as its host sees it: addresses, start and stop, the configuration around an application.
using System.Net.Sockets;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Weir.AspNetCore;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;
using HttpResponse = Weir.Tests.Harness.HttpResponse;

namespace Weir.Tests.AspNetCore;

public sealed class ServerTests
{
    public static TheoryData<RequestPlacement> Everywhere => Hosted.Everywhere;

    private static void Hello(WebApplication app) => app.Run(static c => c.Response.WriteAsync("hello"));

    [Fact]
    public async Task A_port_of_0_becomes_the_port_that_is_served()
    {
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, Hello);
        Assert.Matches("^http://127.0.0.1:[1-9][0-9]*$", hosted.Url);
        Assert.Equal("hello", await hosted.Client.GetStringAsync("/"));
        await hosted.WaitForLogAsync("Now listening on: " + hosted.Url);
    }

    [Theory]
    [InlineData("http://*:0")]
    [InlineData("http://+:0")]
    [InlineData("http://localhost:0")]
    [InlineData("http://0.0.0.0:0")]
    public async Task Hosts_with_a_meaning_of_their_own_are_served(string url)
    {
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, Hello, url: url);
        Assert.Equal("hello", await hosted.Client.GetStringAsync("/"));
    }

    [Fact]
    public async Task Addresses_of_the_options_are_served_and_more_than_one()
    {
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, Hello, set: static o =>
        {
            o.Listen.Add("http://127.0.0.1:0");
            o.Listen.Add("http://127.0.0.2:0");
        }, url: null);
        Assert.Equal(2, hosted.App.Urls.Count);
        foreach (string url in hosted.App.Urls)
        {
            Assert.Equal("hello", await hosted.Client.GetStringAsync(new Uri(url)));
        }
    }

    [Fact]
    public async Task A_unix_socket_is_served_and_removed()
    {
        using var directory = new TempDir();
        string path = directory.At("app.sock");
        await using (Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, static app =>
            app.Run(static c => c.Response.WriteAsync($"{c.Connection.RemoteIpAddress?.ToString() ?? "none"}")),
            url: "http://unix:" + path))
        {
            using var client = new HttpClient(new SocketsHttpHandler
            {
                ConnectCallback = async (_, cancel) =>
                {
                    var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancel);
                    return new NetworkStream(socket, ownsSocket: true);
                },
            });
            Assert.Equal("none", await client.GetStringAsync("http://unix/"));
        }
        Assert.False(File.Exists(path));
    }

    [Theory]
    [InlineData("https://127.0.0.1:0", "needs a certificate")]
    [InlineData("http://127.0.0.1:0/base", "UsePathBase")]
    [InlineData("ftp://127.0.0.1:0", "scheme")]
    public async Task An_address_that_cannot_be_served_is_refused_with_a_reason(string url, string reason)
    {
        InvalidOperationException refused = await Assert.ThrowsAsync<InvalidOperationException>(() =>
            Hosted.StartAsync(RequestPlacement.ThreadPool, Hello, url: url));
        Assert.Contains(reason, refused.Message);
    }

    [Fact]
    public async Task A_port_in_use_is_refused_by_name()
    {
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, Hello);
        IOException refused = await Assert.ThrowsAsync<IOException>(() =>
            Hosted.StartAsync(RequestPlacement.ThreadPool, Hello, url: hosted.Url));
        Assert.Contains($"in use by {System.Diagnostics.Process.GetCurrentProcess().ProcessName}", refused.Message);
        Assert.Contains($"(pid {Environment.ProcessId})", refused.Message);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_stop_lets_requests_that_run_end(RequestPlacement placement)
    {
        var inside = new TaskCompletionSource();
        var goOn = new TaskCompletionSource();
        await using Hosted hosted = await Hosted.StartAsync(placement, app => app.Run(async c =>
        {
            inside.TrySetResult();
            await goOn.Task;
            await c.Response.WriteAsync("finished");
        }));
        Task<string> request = hosted.Client.GetStringAsync("/");
        await inside.Task.WaitAsync(TimeSpan.FromSeconds(30));
        Task stopping = hosted.App.StopAsync();
        goOn.SetResult();
        Assert.Equal("finished", await request.WaitAsync(TimeSpan.FromSeconds(30)));
        await stopping.WaitAsync(TimeSpan.FromSeconds(30));
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => hosted.Client.GetStringAsync("/"));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_stop_during_load_answers_every_request_that_was_accepted(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static async c =>
        {
            await Task.Delay(5);
            await c.Response.WriteAsync("done");
        }));
        int answered = 0, broken = 0;
        Task[] clients = [.. Enumerable.Range(0, 8).Select(_ => Task.Run(() =>
        {
            using RawClient client = hosted.Connect();
            while (true)
            {
                if (!client.TrySend(System.Text.Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: a\r\n\r\n")))
                {
                    return;
                }
                HttpResponse answer;
                try
                {
                    answer = client.ReadResponse(timeoutMs: 30_000);
                }
                catch (Exception e) when (e is IOException or SocketException or Xunit.Sdk.XunitException
                    or InvalidOperationException or TimeoutException)
                {
                    // Nothing of an answer: the connection had been closed between two requests.
                    Interlocked.Add(ref broken, client.PendingBytes);
                    return;
                }
                Assert.Equal("done", answer.Text);
                Interlocked.Increment(ref answered);
                if (answer["Connection"] == "close")
                {
                    return;
                }
            }
        }))];
        while (Volatile.Read(ref answered) < 20)
        {
            await Task.Delay(10);
        }
        await hosted.App.StopAsync().WaitAsync(TimeSpan.FromSeconds(30));
        await Task.WhenAll(clients).WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(0, broken);
    }

    [Fact]
    public async Task A_stop_without_patience_cuts_off_what_runs()
    {
        var aborted = new TaskCompletionSource();
        var inside = new TaskCompletionSource();
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, app => app.Run(async c =>
        {
            c.RequestAborted.Register(() => aborted.TrySetResult());
            inside.SetResult();
            await aborted.Task;
        }));
        using RawClient client = hosted.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        await inside.Task.WaitAsync(TimeSpan.FromSeconds(30));
        using var now = new CancellationTokenSource(100);
        await hosted.App.StopAsync(now.Token).WaitAsync(TimeSpan.FromSeconds(30));
        client.ReadToEnd(30_000);
    }

    [Theory]
    [InlineData(RequestPlacement.ThreadPool, false)]
    [InlineData(RequestPlacement.Inline, false)]
    [InlineData(RequestPlacement.ThreadPool, true)]
    [InlineData(RequestPlacement.Inline, true)]
    public async Task Code_that_comes_back_after_a_stop_without_patience_still_runs_to_its_end(
        RequestPlacement placement, bool configured)
    {
        var goOn = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var inside = new TaskCompletionSource();
        var ended = new TaskCompletionSource();
        using Port lease = Port.Lease();
        int own = lease.Number;
        await using Hosted hosted = await Hosted.StartAsync(placement, app => app.Run(async c =>
        {
            inside.SetResult();
            await goOn.Task;
            await Task.Yield();
            await c.Response.WriteAsync("too late");
            ended.SetResult();
        }), set: o => o.Configuration = !configured ? null : WebServerOptions.FromText(
            "events { } http { access_log off; server { "
            + $"listen 127.0.0.1:{own}; location / {{ app_pass aspnetcore; }} }} }}"));
        using RawClient client = RawClient.Connect(configured ? own : hosted.Port);
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        await inside.Task.WaitAsync(TimeSpan.FromSeconds(30));
        using var now = new CancellationTokenSource(100);
        await hosted.App.StopAsync(now.Token).WaitAsync(TimeSpan.FromSeconds(30));
        Assert.Empty(client.ReadToEnd(30_000));
        goOn.SetResult();
        await ended.Task.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task A_collection_of_services_takes_Weir_as_well()
    {
        using IHost host = new HostBuilder().ConfigureWebHost(static web => web.UseUrls("http://127.0.0.1:0")
            .ConfigureServices(static services => services.AddWeir(static o => o.ServerHeader = ""))
            .Configure(static app => app.Run(static c => c.Response.WriteAsync("services")))).Build();
        await host.StartAsync();
        string url = host.Services.GetRequiredService<IServer>().Features
            .Get<Microsoft.AspNetCore.Hosting.Server.Features.IServerAddressesFeature>()!.Addresses.First();
        using RawClient client = RawClient.Connect(new Uri(url).Port);
        HttpResponse answer = client.Get("/");
        Assert.Equal("services", answer.Text);
        Assert.Null(answer["Server"]);
        await host.StopAsync();
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Connections_heads_bodies_and_idle_times_have_the_limits_of_the_options(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static async c =>
        {
            await c.Request.Body.CopyToAsync(Stream.Null);
            await c.Response.WriteAsync("whole");
        }), set: static o =>
        {
            o.Loops = 1;
            o.Limits.MaxConcurrentConnections = 2;
            o.Limits.RequestHeadTimeout = TimeSpan.FromMilliseconds(300);
            o.Limits.RequestBodyTimeout = TimeSpan.FromMilliseconds(300);
            o.Limits.KeepAliveTimeout = TimeSpan.FromMilliseconds(300);
        });
        using (RawClient head = hosted.Connect().Send("GET / HTTP/1.1\r\nHo"))
        {
            head.ReadToEnd(30_000);
        }
        using (RawClient body = hosted.Connect())
        {
            body.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
            Assert.Equal("", System.Text.Encoding.ASCII.GetString(body.ReadToEnd(30_000)));
        }
        using (RawClient idle = hosted.Connect())
        {
            Assert.Equal("whole", idle.Get("/").Text);
            Assert.True(idle.WaitClosed(30_000));
        }
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_connection_beyond_the_most_allowed_is_closed(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, Hello, set: static o =>
        {
            o.Loops = 1;
            o.Limits.MaxConcurrentConnections = 1;
        });
        using RawClient within = hosted.Connect().Send("GET / HTTP/1.1\r\nHost: a\r\n");
        // Accepted in order: the first is within its request when the second comes.
        using RawClient beyond = hosted.Connect();
        Assert.Empty(beyond.ReadToEnd(30_000));
        Assert.Equal("hello", within.Send("\r\n").ReadResponse(timeoutMs: 30_000).Text);
    }

    [Fact]
    public async Task The_servers_instruments_and_the_standard_ones_tell_of_requests()
    {
        var seen = new System.Collections.Concurrent.ConcurrentDictionary<string, double>();
        var published = new System.Collections.Concurrent.ConcurrentBag<string>();
        using var listener = new System.Diagnostics.Metrics.MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                published.Add($"{instrument.Meter.Name} {instrument.Name}");
                if (instrument.Meter.Name is "Weir.Server" or "Microsoft.AspNetCore.Hosting")
                {
                    l.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) =>
        {
            foreach (KeyValuePair<string, object?> tag in tags)
            {
                if (tag is { Key: "http.response.status_code", Value: 418 })
                {
                    seen[$"{instrument.Meter.Name} {instrument.Name}"] = value;
                }
            }
        });
        listener.SetMeasurementEventCallback<long>((instrument, value, _, _) =>
            seen.AddOrUpdate($"{instrument.Meter.Name} {instrument.Name}", value, (_, most) => Math.Max(most, value)));
        listener.Start();
        var inside = new TaskCompletionSource();
        var goOn = new TaskCompletionSource();
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, app => app.Run(async c =>
        {
            c.Response.StatusCode = 418;
            inside.SetResult();
            await goOn.Task;
        }));
        Task<HttpResponseMessage> asked = hosted.Client.GetAsync(new Uri(hosted.Url));
        await inside.Task.WaitAsync(TimeSpan.FromSeconds(30));
        listener.RecordObservableInstruments();
        goOn.SetResult();
        using HttpResponseMessage answer = await asked;
        Assert.Equal(418, (int)answer.StatusCode);
        // Once each: what the framework measures is not measured again beneath it.
        Assert.DoesNotContain(published, static name => name.StartsWith("Weir.Server http.", StringComparison.Ordinal));
        Assert.Contains("Weir.Server weir.server.connection.duration", published);
        Assert.Contains("Weir.Server weir.server.upgraded", published);
        foreach (string name in new[] { "weir.server.connections", "weir.server.accepted" })
        {
            Assert.InRange(seen["Weir.Server " + name], 1, long.MaxValue);
        }
        Assert.InRange(seen["Microsoft.AspNetCore.Hosting http.server.active_requests"], 1, long.MaxValue);
        // It is recorded when the request is disposed of, which may be after its answer.
        for (int i = 0; i < 3000 && !seen.ContainsKey("Microsoft.AspNetCore.Hosting http.server.request.duration"); i++)
        {
            await Task.Delay(10);
        }
        Assert.Contains("Microsoft.AspNetCore.Hosting http.server.request.duration", seen.Keys);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_configuration_around_an_application_limits_and_logs(RequestPlacement placement)
    {
        using var directory = new TempDir();
        directory.Write("a.txt", "from a file");
        using var lease = Port.Lease();
        int port = lease.Number;
        await using Hosted hosted = await Hosted.StartAsync(placement, static app =>
        {
            app.MapGet("/app/hello", static (HttpContext c) =>
                $"hello {c.Request.Headers["X-Real-IP"]} {c.Connection.RemoteIpAddress}");
            app.MapGet("/app/kept/{name}", static (string name, HttpContext c) =>
            {
                c.Response.Headers.CacheControl = "max-age=100";
                return Results.Text($"kept {name} {c.Request.Headers.IfNoneMatch}");
            });
            app.MapPost("/app/echo", static async (HttpContext c) => await c.Request.Body.CopyToAsync(c.Response.Body));
            app.MapGet("/app/throw", (Func<string>)(static () => throw new InvalidOperationException("on purpose")));
        }, set: o => o.Configuration = WebServerOptions.FromText($$"""
            error_log {{directory.At("error.log")}};
            events { }
            http {
                log_format short '$status $uri';
                access_log {{directory.At("access.log")}} short;
                proxy_cache_path {{directory.At("cache")}} keys_zone=kept:1m;
                server {
                    listen 127.0.0.1:{{port}};
                    root {{directory.Path}};
                    error_page 500 /a.txt;
                    location /app/ { app_pass aspnetcore; client_max_body_size 4; add_header X-Around yes; }
                    location /app/kept/ {
                        app_pass aspnetcore; proxy_cache kept; add_header X-Around $upstream_cache_status;
                    }
                }
            }
            """));
        using RawClient client = RawClient.Connect(port);
        HttpResponse hello = client.Get("/app/hello");
        Assert.Equal("hello  127.0.0.1", hello.Text);
        Assert.Equal("yes", hello["X-Around"]);
        Assert.Equal("from a file", client.Get("/a.txt").Text);
        HttpResponse failed = client.Get("/app/throw");
        Assert.Equal(500, failed.Status);
        Assert.Equal("from a file", failed.Text);
        using RawClient second = RawClient.Connect(port);
        Assert.Equal("four", second.Send("POST /app/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour")
            .ReadResponse().Text);
        Assert.Equal(413, second.Send("POST /app/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .ReadResponse().Status);
        using RawClient third = RawClient.Connect(port);
        Assert.Equal("kept a ", third.Get("/app/kept/a", "If-None-Match: \"x\"").Text);
        Wait.For("it is stored", () => third.Get("/app/kept/a") is { Text: "kept a " } kept
            && kept["X-Around"] == "HIT");
        // Else what is left of its body is waited for.
        second.Dispose();
        await hosted.App.StopAsync();
        Assert.StartsWith("200 /app/hello\n200 /a.txt\n500 /a.txt\n200 /app/echo\n413 /app/echo\n200 /app/kept/a\n",
            directory.Read("access.log"));
    }

    [Fact]
    public async Task A_configuration_with_a_mistake_is_refused_with_its_place()
    {
        InvalidOperationException refused = await Assert.ThrowsAsync<InvalidOperationException>(() =>
            Hosted.StartAsync(RequestPlacement.ThreadPool, Hello, set: static o => o.Configuration =
                WebServerOptions.FromText("events { }\nhttp { server { location / { app_pass other; } } }\n")));
        Assert.Contains("no application \"other\"", refused.Message);
        Assert.Contains(":2", refused.Message);
    }
}
