// gRPC for ASP.NET Core on Weir, with the client of the same makers: calls of all four kinds, deadlines, cancellation,
// errors as status. The service is bound by hand, so that no code has to be generated.
using System.Text;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Weir.AspNetCore;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AspNetCore;

/// <summary>The methods of a service whose messages are texts.</summary>
[BindServiceMethod(typeof(EchoServiceBase), nameof(Bind))]
public abstract class EchoServiceBase
{
    private static readonly Marshaller<string> _text = new(static t => Encoding.UTF8.GetBytes(t),
        static b => Encoding.UTF8.GetString(b));

    internal static readonly Method<string, string> SayMethod = Of(MethodType.Unary, "Say");
    internal static readonly Method<string, string> CountMethod = Of(MethodType.ServerStreaming, "Count");
    internal static readonly Method<string, string> JoinMethod = Of(MethodType.ClientStreaming, "Join");
    internal static readonly Method<string, string> TalkMethod = Of(MethodType.DuplexStreaming, "Talk");

    private static Method<string, string> Of(MethodType type, string name) =>
        new(type, "test.Echo", name, _text, _text);

    public abstract Task<string> Say(string request, ServerCallContext context);

    public abstract Task Count(string request, IServerStreamWriter<string> answers, ServerCallContext context);

    public abstract Task<string> Join(IAsyncStreamReader<string> requests, ServerCallContext context);

    public abstract Task Talk(IAsyncStreamReader<string> requests, IServerStreamWriter<string> answers,
        ServerCallContext context);

    public static void Bind(ServiceBinderBase binder, EchoServiceBase? service)
    {
        binder.AddMethod(SayMethod, service is null ? null : new UnaryServerMethod<string, string>(service.Say));
        binder.AddMethod(CountMethod,
            service is null ? null : new ServerStreamingServerMethod<string, string>(service.Count));
        binder.AddMethod(JoinMethod,
            service is null ? null : new ClientStreamingServerMethod<string, string>(service.Join));
        binder.AddMethod(TalkMethod,
            service is null ? null : new DuplexStreamingServerMethod<string, string>(service.Talk));
    }
}

public sealed class EchoService : EchoServiceBase
{
    /// <summary>How many calls ended because nobody waited for them any more.</summary>
    internal static readonly SemaphoreSlim Cancelled = new(0);

    public override async Task<string> Say(string request, ServerCallContext context)
    {
        switch (request)
        {
            case "fail":
                throw new RpcException(new Status(StatusCode.FailedPrecondition, "on purpose"),
                    new Metadata { { "x-why", "because" } });
            case "wait":
                try
                {
                    await Task.Delay(Timeout.Infinite, context.CancellationToken);
                }
                finally
                {
                    Cancelled.Release();
                }
                break;
        }
        context.ResponseTrailers.Add("x-seen", context.RequestHeaders.GetValue("x-asked") ?? "");
        return "you said " + request;
    }

    public override async Task Count(string request, IServerStreamWriter<string> answers, ServerCallContext context)
    {
        for (int i = 0; i < int.Parse(request); i++)
        {
            await answers.WriteAsync($"{i}");
        }
    }

    public override async Task<string> Join(IAsyncStreamReader<string> requests, ServerCallContext context)
    {
        var all = new List<string>();
        await foreach (string one in requests.ReadAllAsync())
        {
            all.Add(one);
        }
        return string.Join(',', all);
    }

    public override async Task Talk(IAsyncStreamReader<string> requests, IServerStreamWriter<string> answers,
        ServerCallContext context)
    {
        await foreach (string one in requests.ReadAllAsync())
        {
            await answers.WriteAsync("re: " + one);
        }
    }
}

public sealed class GrpcTests
{
    public static TheoryData<RequestPlacement, string> Everywhere => new()
    {
        { RequestPlacement.ThreadPool, "https" }, { RequestPlacement.Inline, "https" },
        { RequestPlacement.ThreadPool, "http" }, { RequestPlacement.Inline, "http" },
    };

    private static Task<Hosted> StartAsync(RequestPlacement placement, string scheme) => Hosted.StartAsync(placement,
        scheme, "2.0", static app => app.MapGrpcService<EchoService>(), static builder => builder.Services.AddGrpc());

    private static GrpcChannel ChannelTo(Hosted hosted) => GrpcChannel.ForAddress(hosted.Url,
        new GrpcChannelOptions { HttpHandler = Hosted.AnyCertificate(), DisposeHttpClient = true });

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Calls_of_all_kinds_are_answered(RequestPlacement placement, string scheme)
    {
        await using Hosted hosted = await StartAsync(placement, scheme);
        using GrpcChannel channel = ChannelTo(hosted);
        CallInvoker calls = channel.CreateCallInvoker();

        using (AsyncUnaryCall<string> say = calls.AsyncUnaryCall(EchoServiceBase.SayMethod, null,
            new CallOptions(new Metadata { { "x-asked", "yes" } }), "hello"))
        {
            Assert.Equal("you said hello", await say);
            Assert.Equal(StatusCode.OK, say.GetStatus().StatusCode);
            Assert.Equal("yes", say.GetTrailers().GetValue("x-seen"));
        }
        using (AsyncServerStreamingCall<string> count = calls.AsyncServerStreamingCall(
            EchoServiceBase.CountMethod, null, default, "1000"))
        {
            int expected = 0;
            await foreach (string number in count.ResponseStream.ReadAllAsync())
            {
                Assert.Equal($"{expected++}", number);
            }
            Assert.Equal(1000, expected);
        }
        using (AsyncClientStreamingCall<string, string> join = calls.AsyncClientStreamingCall(
            EchoServiceBase.JoinMethod, null, default))
        {
            await join.RequestStream.WriteAsync("a");
            await join.RequestStream.WriteAsync("b");
            await join.RequestStream.CompleteAsync();
            Assert.Equal("a,b", await join);
        }
        using AsyncDuplexStreamingCall<string, string> talk = calls.AsyncDuplexStreamingCall(
            EchoServiceBase.TalkMethod, null, default);
        foreach (string text in (string[])["one", new string('x', 100_000), "three"])
        {
            await talk.RequestStream.WriteAsync(text);
            Assert.True(await talk.ResponseStream.MoveNext(default));
            Assert.Equal("re: " + text, talk.ResponseStream.Current);
        }
        await talk.RequestStream.CompleteAsync();
        Assert.False(await talk.ResponseStream.MoveNext(default));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Errors_are_a_status_and_who_gives_up_cancels_the_call(RequestPlacement placement, string scheme)
    {
        await using Hosted hosted = await StartAsync(placement, scheme);
        using GrpcChannel channel = ChannelTo(hosted);
        CallInvoker calls = channel.CreateCallInvoker();
        RpcException failed = await Assert.ThrowsAsync<RpcException>(async () =>
            await calls.AsyncUnaryCall(EchoServiceBase.SayMethod, null, default, "fail"));
        Assert.Equal(StatusCode.FailedPrecondition, failed.StatusCode);
        Assert.Equal("on purpose", failed.Status.Detail);
        Assert.Equal("because", failed.Trailers.GetValue("x-why"));
        RpcException late = await Assert.ThrowsAsync<RpcException>(async () => await calls.AsyncUnaryCall(
            EchoServiceBase.SayMethod, null,
            new CallOptions(deadline: DateTime.UtcNow.AddMilliseconds(200)), "wait"));
        Assert.Equal(StatusCode.DeadlineExceeded, late.StatusCode);
        Assert.True(await EchoService.Cancelled.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal("you said again",
            await calls.AsyncUnaryCall(EchoServiceBase.SayMethod, null, default, "again"));
    }
}
