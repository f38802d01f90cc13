// What only the io_uring engine can get wrong: buffers that run out, a full submission ring, receives that end by
// themselves, memory and slots that are used again too early, sends that are continued twice.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class UringLoopTests
{
    [Fact(DisplayName = "io_uring: what is added while a send is under way leaves once, behind it")]
    public void AddedWhileFlying()
    {
        using var rig = new Rig(Rig.Uring);
        byte[] sent = Rig.Pattern(200_000);
        byte[] address = rig.Listen(c => Serve(c).Forget());
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            var got = new MemoryStream();
            Assert.Equal(0, await Rig.ReadAll(c, got));
            Assert.True(sent.AsSpan().SequenceEqual(got.ToArray()));
            c.Close();
        });
        rig.RunUntil(() => rig.Loop.Buffers.RentedBytes == 0);

        async LoopTask Serve(Connection c)
        {
            BufferChain chain = rig.Loop.RentChain();
            for (int at = 0; at < sent.Length; at += 1000)
            {
                chain.Append(sent.AsSpan(at, 1000));
                Assert.True(c.Send(chain));
                if (at % 7000 == 0)
                {
                    await rig.Loop.YieldAsync();
                }
            }
            Assert.False((await c.DrainAsync(chain)).IsError);
            Assert.Equal(sent.Length, c.SentBytes);
            rig.Loop.Return(chain);
            c.Close();
        }
    }

    [Fact(DisplayName = "io_uring: more clients speak at once than there are buffers: all are heard, buffers grow")]
    public void StarvedBuffers()
    {
        using var rig = new Rig(Rig.Uring);
        var loop = (UringLoop)rig.Loop;
        int before = loop.ReceiveBuffers.Wanted;
        SpeakAtOnce(rig, before * 6);
        Assert.True(loop.ReceiveBuffers.StarvedCount > 0);
        Assert.True(loop.ReceiveBuffers.Wanted > before);
        Assert.Equal(0, loop.Buffers.RentedBytes);
        Assert.Equal(0, loop.LateCount);
    }

    [Fact(DisplayName = "io_uring: buffers double once a turn, and an idle loop has few again, with streams armed")]
    public void BuffersOfAnIdleLoop()
    {
        using var rig = new Rig(Rig.Uring);
        var loop = (UringLoop)rig.Loop;
        int first = loop.ReceiveBuffers.Wanted;
        byte[] address = rig.Listen(c => Rig.Echo(c).Forget());
        var clients = new List<Connection>();
        rig.Run(async () =>
        {
            for (int i = 0; i < first * 3; i++)
            {
                Connection c = await rig.Connect(address);
                clients.Add(c);
                await Answer(c, i);
            }
        });
        // All speak before the loop looks: each of those that find no buffer says so.
        rig.Run(async () =>
        {
            foreach (Connection c in clients)
            {
                Assert.False((await Rig.Write(c, Rig.Pattern(100))).IsError);
            }
            foreach (Connection c in clients)
            {
                Assert.Equal(Rig.Pattern(100), await Rig.Read(c, 100));
            }
        });
        Assert.InRange(loop.ReceiveBuffers.Wanted, first * 2, first * 8);
        Assert.True(loop.ReceiveBuffers.StarvedCount > 3);

        loop.Trim();
        Assert.Equal(first, loop.ReceiveBuffers.Count);
        Assert.Equal(first * UringBuffers.BufferBytes, loop.Buffers.LentBytes);
        rig.Run(async () =>
        {
            for (int i = 0; i < clients.Count; i++)
            {
                await Answer(clients[i], i);
                clients[i].Close();
            }
        });
        Assert.Equal(0, loop.LateCount);

        static async LoopTask Answer(Connection c, int seed)
        {
            Assert.False((await Rig.Write(c, Rig.Pattern(100, seed))).IsError);
            Assert.Equal(Rig.Pattern(100, seed), await Rig.Read(c, 100));
        }
    }

    [Fact(DisplayName = "io_uring: a submission ring that is full in mid-turn is handed over, and nothing is lost")]
    public void FullSubmissionRing()
    {
        using var rig = new Rig(UringLoop.TryCreate(8, 4096, out string _)!);
        SpeakAtOnce(rig, 60);
        Assert.True(((UringLoop)rig.Loop).FullCount > 0);
        Assert.Equal(0, ((UringLoop)rig.Loop).LateCount);
    }

    [Fact(DisplayName = "io_uring: a multishot receive that ends by itself begins again, and nothing is lost")]
    public void SilentEnd()
    {
        // With room for few completions the kernel ends multishots instead of losing one.
        using var rig = new Rig(UringLoop.TryCreate(8, 16, out string _)!);
        var loop = (UringLoop)rig.Loop;
        for (int round = 0; round < 20 && loop.SilentEndCount == 0; round++)
        {
            SpeakAtOnce(rig, 100);
        }
        Assert.True(loop.SilentEndCount > 0);
        Assert.Equal(0, loop.LateCount);
    }

    /// <summary>Every client sends before the loop looks, and reads its echo, several times.</summary>
    private static void SpeakAtOnce(Rig rig, int clients)
    {
        byte[] address = rig.Listen(c => Rig.Echo(c).Forget());
        int connected = 0;
        int done = 0;
        for (int i = 0; i < clients; i++)
        {
            Client(i).Forget();
        }
        rig.RunUntil(() => (done == clients && rig.Loop.ConnectionCount == 0) || rig.Fault is not null);
        Assert.Null(rig.Fault);
        rig.RunUntil(() => rig.Loop.Buffers.RentedBytes == 0);

        async LoopTask Client(int id)
        {
            Connection c = await rig.Connect(address);
            connected++;
            while (connected < clients)
            {
                await rig.Loop.DelayAsync(1);
            }
            for (int round = 0; round < 4; round++)
            {
                byte[] sent = Rig.Pattern(300 + id, id * 7 + round);
                Assert.False((await Rig.Write(c, sent)).IsError);
                Assert.Equal(sent, await Rig.Read(c, sent.Length));
            }
            c.Close();
            done++;
        }
    }

    [Fact(DisplayName = "io_uring: the memory of a send that a close overtakes is not used again before it ended")]
    public void CancelledSend()
    {
        using var rig = new Rig(Rig.Uring);
        var loop = (UringLoop)rig.Loop;
        Connection? server = null;
        byte[] address = rig.Listen(c => server = c);
        rig.Run(async () =>
        {
            for (int round = 0; round < 50; round++)
            {
                server = null;
                Connection c = await rig.Connect(address);
                while (server is null)
                {
                    await loop.DelayAsync(1);
                }
                BufferChain chain = loop.RentChain();
                chain.Append(new byte[3000]);
                Assert.True(server.Send(chain));
                Assert.Equal(1, loop.OwedCount);
                server.Close(reset: round % 2 == 0);
                loop.Return(chain);
                // Whoever rents now must not get what the kernel still reads.
                BufferSlab other = loop.Buffers.Rent(4096);
                other.Span.Fill(0xFF);
                RecvLease lease = await c.ReceiveAsync();
                Assert.True(lease.IsError || lease.IsEnd || !lease.Span.Contains((byte)0xFF));
                lease.Release();
                other.Release();
                c.Close();
                while (loop.OwedCount > 0)
                {
                    await loop.DelayAsync(1);
                }
            }
        });
        rig.RunUntil(() => loop.Buffers.RentedBytes == 0);
    }

    [Fact(DisplayName = "io_uring: a closed stream keeps its slot until its last completion")]
    public void LateCompletion()
    {
        using var rig = new Rig(Rig.Uring);
        var loop = (UringLoop)rig.Loop;
        byte[] address = rig.Listen(c => Rig.Echo(c).Forget());
        rig.Run(async () =>
        {
            await loop.DelayAsync(1);
            int before = loop.SlotCount;
            for (int round = 0; round < 100; round++)
            {
                Connection c = await rig.Connect(address);
                byte[] sent = Rig.Pattern(100, round);
                await Rig.Write(c, sent);
                Assert.Equal(sent, await Rig.Read(c, sent.Length));
                int open = loop.SlotCount;
                // Its receive is under way: only the slot's last completion frees it.
                c.Close();
                Assert.Equal(open, loop.SlotCount);
                LoopTask<ConnectOutcome> next = loop.ConnectAsync(address, default, 5000, out Connection other);
                Assert.Equal(open + 1, loop.SlotCount);
                Assert.NotSame(c, other);
                Assert.Equal(0, (await next).Error);
                other.Close();
            }
            while (loop.SlotCount > before)
            {
                await loop.DelayAsync(1);
            }
        });
        Assert.Equal(0, loop.LateCount);
        rig.RunUntil(() => loop.Buffers.RentedBytes == 0);
    }

    [Fact(DisplayName = "io_uring: a reader that stops reading stops its sender, and loses nothing when it goes on")]
    public void BackPressure()
    {
        using var rig = new Rig(Rig.Uring);
        byte[] sent = Rig.Pattern(8 * 1024 * 1024);
        Connection? server = null;
        byte[] address = rig.Listen(c => server = c);
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            BufferChain chain = rig.Loop.RentChain();
            chain.Append(sent);
            Assert.True(c.Send(chain));
            for (int i = 0; i < 200; i++)
            {
                await rig.Loop.DelayAsync(1);
            }
            // What waits is bounded, whatever the peer sends: the rest is in the sockets and with the sender.
            Assert.True(chain.Length > 0);
            Assert.True(rig.Loop.Buffers.RentedBytes - chain.MemoryBytes < 1024 * 1024);
            var got = new MemoryStream(sent.Length);
            LoopTask<int> reading = Rig.ReadAll(server!, got);
            Assert.False((await c.DrainAsync(chain)).IsError);
            rig.Loop.Return(chain);
            c.Close();
            Assert.Equal(0, await reading);
            Assert.True(sent.AsSpan().SequenceEqual(got.ToArray()));
            server!.Close();
        });
        rig.RunUntil(() => rig.Loop.Buffers.RentedBytes == 0);
    }

    [Fact(DisplayName = "io_uring: a file is read by the ring, up to its end and from any place")]
    public void FileReads()
    {
        using var rig = new Rig(Rig.Uring);
        byte[] content = Rig.Pattern(100_000);
        int fd = Sys.Open(rig.TempFile(content), Sys.O_RDONLY).Int;
        rig.Run(async () =>
        {
            BufferSlab slab = rig.Loop.Buffers.Rent(65536);
            SysResult n = await rig.Loop.ReadFileAsync(fd, slab.Memory, 50_000);
            Assert.Equal(50_000, n.Value);
            Assert.True(content.AsSpan(50_000).SequenceEqual(slab.Span[..50_000]));
            Assert.Equal(0, (await rig.Loop.ReadFileAsync(fd, slab.Memory, 100_000)).Value);
            Assert.Equal(Errno.EBADF, (await rig.Loop.ReadFileAsync(-1, slab.Memory, 0)).Errno);
            slab.Release();
        });
        Sys.Close(fd);
    }
}
