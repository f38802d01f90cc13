// What middleware asks a server for: each feature, on the thread pool and on the loop.
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Weir.AspNetCore;
using Weir.Tests.Harness;
using Xunit;
using HttpResponse = Weir.Tests.Harness.HttpResponse;

namespace Weir.Tests.AspNetCore;

public sealed class FeatureTests
{
    public static TheoryData<RequestPlacement> Everywhere => Hosted.Everywhere;

    private const int Long = 30_000;

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task OnStarting_runs_last_first_and_may_set_fields_and_OnCompleted_runs_after_the_answer(
        RequestPlacement placement)
    {
        var completed = new TaskCompletionSource<bool>();
        var mayComplete = new TaskCompletionSource();
        await using Hosted hosted = await Hosted.StartAsync(placement, app => app.Run(async c =>
        {
            c.Response.OnStarting(() =>
            {
                c.Response.Headers.Append("X-Order", "first");
                return Task.CompletedTask;
            });
            c.Response.OnStarting(async () =>
            {
                await Task.Yield();
                c.Response.Headers.Append("X-Order", "second");
            });
            c.Response.OnCompleted(async () =>
            {
                await mayComplete.Task;
                completed.TrySetResult(c.Response.HasStarted);
            });
            await c.Response.WriteAsync("body");
            Assert.Throws<InvalidOperationException>(() => c.Response.StatusCode = 201);
            Assert.Throws<InvalidOperationException>(() => c.Response.Headers["X"] = "y");
            Assert.Throws<InvalidOperationException>(() => c.Response.OnStarting(() => Task.CompletedTask));
        }));
        using RawClient client = hosted.Connect();
        HttpResponse answer = client.Get("/");
        Assert.Equal(["second", "first"], answer.All("X-Order"));
        Assert.Equal("body", answer.Text);
        mayComplete.SetResult();
        Assert.True(await completed.Task.WaitAsync(TimeSpan.FromSeconds(30)));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_client_that_goes_cancels_RequestAborted(RequestPlacement placement)
    {
        var gone = new TaskCompletionSource();
        var inside = new TaskCompletionSource();
        await using Hosted hosted = await Hosted.StartAsync(placement, app => app.Run(async c =>
        {
            inside.TrySetResult();
            try
            {
                await Task.Delay(Timeout.Infinite, c.RequestAborted);
            }
            finally
            {
                gone.TrySetResult();
            }
        }));
        using (RawClient client = hosted.Connect())
        {
            client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            await inside.Task.WaitAsync(TimeSpan.FromSeconds(30));
        }
        await gone.Task.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Abort_ends_the_connection(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static async c =>
        {
            await c.Response.WriteAsync("some");
            await c.Response.Body.FlushAsync();
            c.Abort();
        }));
        using RawClient client = hosted.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.DoesNotContain("0\r\n\r\n", Encoding.Latin1.GetString(client.ReadToEnd(Long)));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task The_connection_has_addresses_an_identity_and_a_memory(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static async c =>
        {
            IDictionary<object, object?> state = c.Features.Get<IPersistentStateFeature>()!.State;
            int count = state.TryGetValue("count", out object? before) ? (int)before! + 1 : 1;
            state["count"] = count;
            await c.Response.WriteAsync($"{c.Connection.RemoteIpAddress} {c.Connection.LocalPort} "
                + $"{c.Connection.Id == c.TraceIdentifier.Split(':')[0]} {count} {c.Connection.RemotePort > 0}");
        }));
        using RawClient client = hosted.Connect();
        Assert.Equal($"127.0.0.1 {hosted.Port} True 1 True", client.Get("/").Text);
        Assert.Equal($"127.0.0.1 {hosted.Port} True 2 True", client.Get("/").Text);
        using RawClient other = hosted.Connect();
        Assert.Equal($"127.0.0.1 {hosted.Port} True 1 True", other.Get("/").Text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Synchronous_bodies_are_refused_unless_they_are_allowed(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static async c =>
        {
            if (c.Request.Path == "/allowed")
            {
                c.Features.Get<IHttpBodyControlFeature>()!.AllowSynchronousIO = true;
                c.Response.Body.Write("written"u8);
                c.Response.Body.Flush();
                return;
            }
            Assert.Throws<InvalidOperationException>(() => c.Response.Body.Write("x"u8));
            Assert.Throws<InvalidOperationException>(() => c.Request.Body.Read(new byte[1]));
            await c.Response.WriteAsync("refused");
        }));
        using RawClient client = hosted.Connect();
        Assert.Equal("refused", client.Get("/").Text);
        Assert.Equal("written", client.Get("/allowed").Text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task The_largest_body_may_be_changed_until_it_is_read(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static async c =>
        {
            IHttpMaxRequestBodySizeFeature size = c.Features.Get<IHttpMaxRequestBodySizeFeature>()!;
            size.MaxRequestBodySize = 10;
            using var reader = new StreamReader(c.Request.Body);
            string text = await reader.ReadToEndAsync();
            await c.Response.WriteAsync($"{text} {size.IsReadOnly} "
                + c.Features.Get<IHttpRequestBodyDetectionFeature>()!.CanHaveBody);
        }), set: static o => o.Limits.MaxRequestBodySize = 2);
        using RawClient client = hosted.Connect();
        Assert.Equal("0123456789 True True", client.Send(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789").ReadResponse(timeoutMs: Long).Text);
        Assert.Equal(413, client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n01234567890")
            .ReadResponse(timeoutMs: Long).Status);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task CompleteAsync_ends_the_answer_while_the_request_goes_on(RequestPlacement placement)
    {
        var goOn = new TaskCompletionSource();
        await using Hosted hosted = await Hosted.StartAsync(placement, app => app.Run(async c =>
        {
            await c.Response.WriteAsync("all of it");
            await c.Response.CompleteAsync();
            await goOn.Task;
        }));
        using RawClient client = hosted.Connect();
        Assert.Equal("all of it", client.Get("/").Text);
        goOn.SetResult();
        Assert.Equal("all of it", client.Get("/").Text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task What_was_flushed_leaves_although_the_code_holds_its_thread_afterwards(RequestPlacement placement)
    {
        if (placement == RequestPlacement.Inline)
        {
            // There the loop itself would be held.
            placement = RequestPlacement.ThreadPool;
        }
        using var mayEnd = new ManualResetEventSlim();
        await using Hosted hosted = await Hosted.StartAsync(placement, app => app.Run(async c =>
        {
            await c.Response.WriteAsync("first");
            mayEnd.Wait(Long);
        }));
        using RawClient client = hosted.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        Assert.True(client.WaitForBytes(Long));
        mayEnd.Set();
        Assert.Contains("first", Encoding.Latin1.GetString(client.ReadToEnd(Long)));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_reason_phrase_and_a_server_field_of_the_application_win(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static c =>
        {
            c.Features.Get<IHttpResponseFeature>()!.ReasonPhrase = "Fine";
            c.Response.Headers.Server = "mine";
            return Task.CompletedTask;
        }));
        using RawClient client = hosted.Connect();
        HttpResponse answer = client.Get("/");
        Assert.Equal("Fine", answer.Reason);
        Assert.Equal("mine", answer["Server"]);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_line_end_in_a_field_is_refused(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static async c =>
        {
            Assert.Throws<InvalidOperationException>(() => c.Response.Headers["X"] = "a\r\nSet-Cookie: b");
            Assert.Throws<InvalidOperationException>(() => c.Response.Headers["X Y"] = "a");
            await c.Response.WriteAsync("refused");
        }));
        using RawClient client = hosted.Connect();
        HttpResponse answer = client.Get("/");
        Assert.Equal("refused", answer.Text);
        Assert.Null(answer["Set-Cookie"]);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task AsyncLocals_of_one_request_are_not_seen_by_the_next(RequestPlacement placement)
    {
        var local = new AsyncLocal<string>();
        await using Hosted hosted = await Hosted.StartAsync(placement, app => app.Run(async c =>
        {
            string before = local.Value ?? "nothing";
            local.Value = c.Request.Path;
            await c.Response.WriteAsync(before);
        }));
        using RawClient client = hosted.Connect();
        Assert.Equal("nothing", client.Get("/a").Text);
        Assert.Equal("nothing", client.Get("/b").Text);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Trailers_of_a_request_are_there_when_its_body_was_read(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static async c =>
        {
            bool before = c.Request.CheckTrailersAvailable();
            using var reader = new StreamReader(c.Request.Body);
            string text = await reader.ReadToEndAsync();
            await c.Response.WriteAsync($"{text} {before} {c.Request.CheckTrailersAvailable()} "
                + c.Request.GetTrailer("X-Sum") + c.Request.GetTrailer("x-other"));
        }));
        using RawClient client = hosted.Connect();
        for (int i = 0; i < 2; i++)
        {
            client.Send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Su");
            client.Send("m: 3\r\nX-Other:y\r\n\r\n");
            Assert.Equal("abc False True 3y", client.ReadResponse(timeoutMs: Long).Text);
        }
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Request_fields_are_found_in_any_case_and_listed(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static async c =>
        {
            IHeaderDictionary h = c.Request.Headers;
            await c.Response.WriteAsync($"{h.UserAgent}|{h["x-a"]}|{h["missing"].Count}|{h.ContentLength}|"
                + $"{h["content-length"]}|{string.Join(',', h.Keys)}");
        }));
        using RawClient client = hosted.Connect();
        for (int i = 0; i < 2; i++)
        {
            client.Send($"POST / HTTP/1.1\r\nhost: a\r\nUSER-AGENT: u{i}\r\nX-A: {i}\r\nContent-Length: 0\r\n\r\n");
            Assert.Equal($"u{i}|{i}|0|0|0|Content-Length,Host,User-Agent,X-A",
                client.ReadResponse(timeoutMs: Long).Text);
        }
    }
}
