// What the in-memory engine offers tests beyond the common promises: a clock that is told, peers held by test code,
// pieces and windows, responders.
using Weir.Kernel;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class InMemoryLoopTests
{
    private static readonly byte[] s_address = SocketAddress.Inet([127, 0, 0, 1], 80).Native.ToArray();

    [Fact(DisplayName = "memory: time stands until it is told to pass, and each timer fires at its own time")]
    public void Clock()
    {
        var loop = new InMemoryLoop();
        var fired = new List<long>();
        long start = loop.NowMs;
        foreach (int ms in new[] { 5000, 10, 70_000 })
        {
            loop.Timers.Set(new CallbackTimer(() => fired.Add(loop.NowMs - start)), start + ms);
        }
        loop.RunUntilIdle();
        Assert.Equal(start, loop.NowMs);
        loop.AdvanceClock(9);
        Assert.Empty(fired);
        loop.AdvanceClock(1);
        Assert.Equal([10], fired);
        loop.AdvanceClock(100_000);
        Assert.Equal([10, 5000, 70_000], fired);
        Assert.Equal(start + 100_010, loop.NowMs);
        Assert.Equal(InMemoryLoop.FirstUnixMs + 100_010, loop.UnixMs);
    }

    [Fact(DisplayName = "memory: RunUntil moves the clock only as far as it must, and says when nothing can happen")]
    public void RunUntil()
    {
        var loop = new InMemoryLoop();
        long start = loop.NowMs;
        bool rang = false;
        loop.Timers.Set(new CallbackTimer(() => rang = true), start + 3000);
        Assert.False(loop.RunUntil(() => rang, 2999));
        Assert.True(loop.RunUntil(() => rang));
        Assert.Equal(start + 3000, loop.NowMs);
        Assert.False(loop.RunUntil(() => false));
    }

    [Fact(DisplayName = "memory: a peer talks to a server and reads what it answered")]
    public void Peer()
    {
        var loop = new InMemoryLoop();
        loop.Listen(s_address, c => Rig.Echo(c).Forget());
        InMemoryPeer peer = loop.Connect(s_address);
        peer.Send("hello ");
        peer.Send("world");
        Assert.Equal(0, peer.Available);
        loop.RunUntilIdle();
        Assert.Equal("hello", peer.ReadText(5));
        Assert.Equal(" world", peer.ReadText());
        Assert.False(peer.IsEnded);
        peer.ShutdownSend();
        loop.RunUntilIdle();
        Assert.True(peer.IsEnded);
        Assert.False(peer.IsReset);
        Assert.Equal(0, loop.ConnectionCount);
        Assert.True(loop.Connect(SocketAddress.Inet([127, 0, 0, 1], 81).Native).IsRefused);
    }

    [Fact(DisplayName = "memory: bytes can arrive in pieces of any size, one per turn")]
    public void Pieces()
    {
        for (int size = 1; size <= 12; size++)
        {
            var loop = new InMemoryLoop();
            var pieces = new List<int>();
            loop.Listen(s_address, c => Serve(c).Forget());
            InMemoryPeer peer = loop.Connect(s_address);
            peer.ChunkBytes = size;
            peer.Send("0123456789a");
            peer.ShutdownSend();
            loop.RunUntilIdle();
            Assert.Equal("0123456789a", peer.ReadText());
            Assert.True(peer.IsEnded);
            Assert.All(pieces, n => Assert.InRange(n, 1, size));
            Assert.Equal((11 + size - 1) / size, pieces.Count);

            async LoopTask Serve(Connection c)
            {
                while (true)
                {
                    RecvLease lease = await c.ReceiveAsync();
                    if (lease.IsEnd)
                    {
                        break;
                    }
                    pieces.Add(lease.Length);
                    await Rig.Write(c, lease.Span.ToArray());
                    lease.Release();
                }
                c.Close();
            }
        }
    }

    [Fact(DisplayName = "memory: a full window blocks the server's send until the peer reads")]
    public void Window()
    {
        var loop = new InMemoryLoop();
        bool drained = false;
        loop.Listen(s_address, c => Serve(c).Forget());
        InMemoryPeer peer = loop.Connect(s_address);
        peer.WindowBytes = 10;
        loop.RunUntilIdle();
        Assert.Equal(10, peer.Available);
        Assert.False(drained);
        string all = peer.ReadText(4);
        loop.RunUntilIdle();
        Assert.Equal(10, peer.Available);
        while (!drained)
        {
            Assert.NotEqual(0, peer.Available);
            all += peer.ReadText();
            loop.RunUntilIdle();
        }
        Assert.Equal("The quick brown fox jumps over the lazy dog.", all + peer.ReadText());

        async LoopTask Serve(Connection c)
        {
            await Rig.Write(c, "The quick brown fox jumps over the lazy dog."u8.ToArray());
            drained = true;
        }
    }

    [Fact(DisplayName =
        "memory: closing with unread bytes is a reset to the peer, as on Linux, and what was sent can be read")]
    public void CloseWithUnreadBytes()
    {
        var loop = new InMemoryLoop();
        loop.Listen(s_address, c =>
        {
            BufferChain chain = loop.RentChain();
            chain.Append("413"u8);
            c.Send(chain);
            loop.Return(chain);
            c.Close();
        });
        InMemoryPeer peer = loop.Connect(s_address);
        peer.Send("too much");
        loop.RunUntilIdle();
        Assert.Equal("413", peer.ReadText());
        Assert.True(peer.IsReset);
    }

    [Fact(DisplayName = "memory: test code serves what a server connects to")]
    public void UpstreamPeer()
    {
        var loop = new InMemoryLoop();
        loop.ListenPeers(s_address, upstream => upstream.Arrived = p => p.Send("got " + p.ReadText()));
        string answer = "";
        Ask().Forget();
        loop.RunUntilIdle();
        Assert.Equal("got question", answer);

        async LoopTask Ask()
        {
            LoopTask<ConnectOutcome> task = loop.ConnectAsync(s_address, default, 1000, out Connection c);
            Assert.False((await task).IsError);
            await Rig.Write(c, "question"u8.ToArray());
            answer = System.Text.Encoding.Latin1.GetString(await Rig.Read(c, 12));
            c.Close();
        }
    }

    [Fact(DisplayName = "memory: a listener can refuse with any error, and connects wait for one that is bound only")]
    public void ConnectErrors()
    {
        var loop = new InMemoryLoop();
        int handle = loop.Bind(s_address);
        InMemoryPeer early = loop.Connect(s_address);
        loop.RunUntilIdle();
        Assert.False(early.IsRefused);
        int accepted = 0;
        var listener = (InMemoryListener)loop.Listen(handle, false, _ => accepted++);
        loop.RunUntilIdle();
        Assert.Equal(1, accepted);
        listener.ConnectError = Errno.EHOSTUNREACH;
        LoopTask<ConnectOutcome> task = loop.ConnectAsync(s_address, default, 1000, out _);
        loop.RunUntilIdle();
        Assert.Equal(Errno.EHOSTUNREACH, task.Result.Error);
    }

    [Fact(DisplayName = "memory: datagrams reach a responder and its answers come back in later turns")]
    public void Datagrams()
    {
        var loop = new InMemoryLoop();
        loop.Respond(s_address, (datagram, reply) =>
        {
            reply([.. datagram, 1]);
            reply([.. datagram, 2]);
        });
        var got = new List<byte[]>();
        DatagramSocket socket = loop.OpenDatagram(s_address, bytes => got.Add(bytes.ToArray()), out int errno)!;
        Assert.Equal(0, errno);
        Assert.Equal(0, socket.Send([7]));
        Assert.Empty(got);
        loop.RunUntilIdle();
        Assert.Equal(new byte[][] { [7, 1], [7, 2] }, got);
        Assert.Equal(0, socket.Send([8]));
        socket.Dispose();
        loop.RunUntilIdle();
        Assert.Equal(2, got.Count);
    }

    [Fact(DisplayName = "memory: a watched number is called once per signal until it is let go")]
    public void Watch()
    {
        var loop = new InMemoryLoop();
        int calls = 0;
        IDisposable watch = loop.WatchReadable(5, () => calls++);
        loop.Signal(5);
        loop.RunUntilIdle();
        Assert.Equal(1, calls);
        loop.Signal(5);
        watch.Dispose();
        loop.RunUntilIdle();
        loop.Signal(5);
        loop.RunUntilIdle();
        Assert.Equal(1, calls);
    }
}
