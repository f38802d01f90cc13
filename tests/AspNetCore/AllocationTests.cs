// What a plaintext request leaves on the managed heap: nothing, on the thread pool and inline. Counted over the whole
// process while a client that allocates nothing itself asks over and over.
using System.IO.Pipelines;
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Weir.AspNetCore;
using Xunit;

namespace Weir.Tests.AspNetCore;

/// <summary>Alone: what other tests allocate would be counted.</summary>
[CollectionDefinition(nameof(AllocationTests), DisableParallelization = true)]
public sealed class AllocationCollection;

[Collection(nameof(AllocationTests))]
public sealed class AllocationTests
{
    private const int Requests = 1000;

    public static TheoryData<RequestPlacement> Everywhere => Hosted.Everywhere;

    private static readonly byte[] s_hello = "Hello, World!"u8.ToArray();

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_plaintext_request_allocates_nothing(RequestPlacement placement)
    {
        await using Hosted hosted = await Hosted.StartAsync(placement, static app => app.Run(static c =>
        {
            c.Response.ContentType = "text/plain";
            c.Response.ContentLength = s_hello.Length;
            ValueTask<FlushResult> written = c.Response.BodyWriter.WriteAsync(s_hello);
            return written.IsCompletedSuccessfully ? Task.CompletedTask : (Task)written.AsTask();
        }), static b => b.Logging.ClearProviders());
        using Socket socket = Connected(hosted.Port);
        byte[] request = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n"u8.ToArray();
        byte[] answer = new byte[4096];
        Ask(1000);
        double least = double.MaxValue;
        // Code that the JIT has not optimized yet may box a value or two: it is asked until that has been done.
        for (int round = 0; round < 100 && least >= 4; round++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            Ask(Requests);
            least = Math.Min(least, (GC.GetTotalAllocatedBytes(precise: true) - before) / (double)Requests);
        }
        // The smallest object has 24 bytes: one of them in six requests would be more. What the process does beside
        // (a timer, the pool's own thread) is less than that.
        Assert.InRange(least, 0, 4);

        void Ask(int count)
        {
            for (int i = 0; i < count; i++)
            {
                socket.Send(request);
                int got = 0;
                do
                {
                    int n = socket.Receive(answer.AsSpan(got));
                    got += n > 0 ? n : throw new EndOfStreamException();
                }
                while (!answer.AsSpan(0, got).EndsWith(s_hello));
            }
        }
    }
    /// <summary>Connected without await: else the socket would stay one that does not block, and each call on it
    /// allocate.</summary>
    private static Socket Connected(int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(IPAddress.Loopback, port);
        return socket;
    }
}
