// WebSockets and SignalR under ASP.NET Core: over an upgrade of HTTP/1.1 and over the extended CONNECT of HTTP/2, with
// TLS and without.
using System.Net.WebSockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.SignalR;
using Microsoft.Extensions.DependencyInjection;
using Weir.AspNetCore;
using Xunit;

namespace Weir.Tests.AspNetCore;

public sealed class EchoHub : Hub
{
    public async Task Say(string text) => await Clients.All.SendAsync("said", text);

    public async IAsyncEnumerable<int> Count(int to)
    {
        for (int i = 0; i < to; i++)
        {
            await Task.Yield();
            yield return i;
        }
    }
}

public sealed class SocketTests
{
    private const int Long = 30_000;

    /// <summary>Placement, scheme, version.</summary>
    public static TheoryData<RequestPlacement, string, string> Everywhere
    {
        get
        {
            var data = new TheoryData<RequestPlacement, string, string>();
            foreach (RequestPlacement placement in Hosted.Placements)
            {
                foreach (string scheme in (string[])["http", "https"])
                {
                    data.Add(placement, scheme, "1.1");
                    data.Add(placement, scheme, "2.0");
                }
            }
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_WebSocket_echoes_both_ways_and_closes(RequestPlacement placement, string scheme, string version)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, scheme, version, static app =>
        {
            app.UseWebSockets();
            app.Run(static async c =>
            {
                IHttpExtendedConnectFeature connect = c.Features.Get<IHttpExtendedConnectFeature>()!;
                Assert.Equal(c.Request.Protocol == "HTTP/2", connect.IsExtendedConnect);
                Assert.Equal(connect.IsExtendedConnect ? "CONNECT" : "GET", c.Request.Method);
                Assert.Equal(connect.IsExtendedConnect ? "websocket" : null, connect.Protocol);
                using WebSocket socket = await c.WebSockets.AcceptWebSocketAsync("echo");
                byte[] buffer = new byte[5000];
                while (true)
                {
                    ValueWebSocketReceiveResult got = await socket.ReceiveAsync(buffer.AsMemory(), default);
                    if (got.MessageType == WebSocketMessageType.Close)
                    {
                        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, "bye", default);
                        return;
                    }
                    await socket.SendAsync(buffer.AsMemory(0, got.Count), got.MessageType, got.EndOfMessage, default);
                }
            });
        });
        using var end = new CancellationTokenSource(Long);
        using var invoker = new HttpMessageInvoker(Hosted.AnyCertificate());
        using ClientWebSocket client = await ConnectAsync(hosted, "/", version, invoker, end.Token, "echo");
        Assert.Equal("echo", client.SubProtocol);
        for (int size = 1; size <= 200_000; size *= 20)
        {
            byte[] message = new byte[size];
            new Random(size).NextBytes(message);
            await client.SendAsync(message, WebSocketMessageType.Binary, true, end.Token);
            Assert.Equal(message, await ReceiveAsync(client, end.Token));
        }
        await client.CloseAsync(WebSocketCloseStatus.NormalClosure, "done", end.Token);
        Assert.Equal("bye", client.CloseStatusDescription);
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_SignalR_hub_answers_calls_streams_and_broadcasts(RequestPlacement placement, string scheme,
        string version)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, scheme, version,
            static app => app.MapHub<EchoHub>("/hub"), static builder => builder.Services.AddSignalR());
        using var end = new CancellationTokenSource(Long);
        using var invoker = new HttpMessageInvoker(Hosted.AnyCertificate());
        using ClientWebSocket one = await JoinAsync(hosted, version, invoker, end.Token);
        using ClientWebSocket two = await JoinAsync(hosted, version, invoker, end.Token);
        await SendAsync(one, """{"type":1,"target":"Say","arguments":["hi"]}""", end.Token);
        foreach (ClientWebSocket client in new[] { one, two })
        {
            Assert.Contains("\"arguments\":[\"hi\"]", await NextAsync(client, "said", end.Token));
        }
        await SendAsync(two, """{"type":4,"invocationId":"7","target":"Count","arguments":[3]}""", end.Token);
        Assert.Contains("\"invocationId\":\"7\"", await NextAsync(two, "\"type\":3", end.Token));
    }

    private static async Task<ClientWebSocket> JoinAsync(Hosted hosted, string version, HttpMessageInvoker invoker,
        CancellationToken cancel)
    {
        using HttpResponseMessage negotiated = await hosted.Client.PostAsync("/hub/negotiate?negotiateVersion=1", null,
            cancel);
        using var json = System.Text.Json.JsonDocument.Parse(await negotiated.Content.ReadAsStringAsync(cancel));
        string token = json.RootElement.GetProperty("connectionToken").GetString()!;
        ClientWebSocket client = await ConnectAsync(hosted, $"/hub?id={token}", version, invoker, cancel);
        await SendAsync(client, """{"protocol":"json","version":1}""", cancel);
        Assert.Equal("{}\u001e", Encoding.UTF8.GetString(await ReceiveAsync(client, cancel)));
        return client;
    }

    private static async Task<ClientWebSocket> ConnectAsync(Hosted hosted, string target, string version,
        HttpMessageInvoker invoker, CancellationToken cancel, string? protocol = null)
    {
        var client = new ClientWebSocket();
        client.Options.HttpVersion = Version.Parse(version);
        client.Options.HttpVersionPolicy = HttpVersionPolicy.RequestVersionExact;
        if (protocol is not null)
        {
            client.Options.AddSubProtocol(protocol);
        }
        await client.ConnectAsync(new Uri(hosted.Url.Replace("http", "ws", StringComparison.Ordinal) + target), invoker,
            cancel);
        return client;
    }

    private static Task SendAsync(ClientWebSocket client, string json, CancellationToken cancel) =>
        client.SendAsync(Encoding.UTF8.GetBytes(json + "\u001e"), WebSocketMessageType.Text, true, cancel);

    private static async Task<string> NextAsync(ClientWebSocket client, string with, CancellationToken cancel)
    {
        while (true)
        {
            string text = Encoding.UTF8.GetString(await ReceiveAsync(client, cancel));
            if (text.Contains(with, StringComparison.Ordinal))
            {
                return text;
            }
        }
    }

    private static async Task<byte[]> ReceiveAsync(ClientWebSocket client, CancellationToken cancel)
    {
        using var message = new MemoryStream();
        byte[] buffer = new byte[8192];
        WebSocketReceiveResult got;
        do
        {
            got = await client.ReceiveAsync(buffer, cancel);
            message.Write(buffer, 0, got.Count);
        }
        while (!got.EndOfMessage);
        return message.ToArray();
    }
}
