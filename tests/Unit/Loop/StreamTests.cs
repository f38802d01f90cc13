// What a stream promises on every engine: bytes in order, the peer's end and its reset, deadlines, blocked sends,
// file slices, connecting, and what happens when connections run out.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class StreamTests
{
    [Theory(DisplayName = "stream: what is sent comes back, in order, over many connections")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void EchoOverManyConnections(string engine)
    {
        using var rig = new Rig(engine);
        byte[] address = rig.Listen(c => Rig.Echo(c).Forget());
        const int Clients = 100;
        int done = 0;
        for (int i = 0; i < Clients; i++)
        {
            Client(i).Forget();
        }
        rig.RunUntil(() => (done == Clients && rig.Loop.ConnectionCount == 0) || rig.Fault is not null);
        Assert.Null(rig.Fault);
        Assert.Equal(0, rig.Loop.Buffers.RentedBytes);

        async LoopTask Client(int seed)
        {
            Connection c = await rig.Connect(address);
            for (int round = 0; round < 5; round++)
            {
                byte[] sent = Rig.Pattern(1 + (seed * 37 % 3000), seed + round);
                Assert.False((await Rig.Write(c, sent)).IsError);
                Assert.Equal(sent, await Rig.Read(c, sent.Length));
            }
            c.Close();
            done++;
        }
    }

    [Theory(DisplayName = "stream: after the peer's FIN the answer can still be sent, and both ends see the end")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void HalfClose(string engine)
    {
        using var rig = new Rig(engine);
        byte[] address = rig.Listen(c => Serve(c).Forget());
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            await Rig.Write(c, "question"u8.ToArray());
            c.ShutdownSend();
            var answer = new MemoryStream();
            Assert.Equal(0, await Rig.ReadAll(c, answer));
            Assert.Equal("question and answer"u8.ToArray(), answer.ToArray());
            Assert.True(c.PeerClosed);
            c.Close();
        });
        Assert.Equal(0, rig.Loop.Buffers.RentedBytes);

        async LoopTask Serve(Connection c)
        {
            var got = new MemoryStream();
            Assert.Equal(0, await Rig.ReadAll(c, got));
            Assert.True(c.PeerClosed);
            got.Write(" and answer"u8);
            Assert.False((await Rig.Write(c, got.ToArray())).IsError);
            c.Close();
        }
    }

    [Theory(DisplayName = "stream: a reset by the peer is ECONNRESET to the receiver")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void Reset(string engine)
    {
        using var rig = new Rig(engine);
        int error = -1;
        byte[] address = rig.Listen(c => Serve(c).Forget());
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            await Rig.Write(c, "x"u8.ToArray());
            Assert.Equal("y"u8.ToArray(), await Rig.Read(c, 1));
            c.Close(reset: true);
        });
        rig.RunUntil(() => error >= 0);
        Assert.Equal(Errno.ECONNRESET, error);

        async LoopTask Serve(Connection c)
        {
            await Rig.Read(c, 1);
            await Rig.Write(c, "y"u8.ToArray());
            RecvLease lease = await c.ReceiveAsync();
            error = lease.Error;
            Assert.True(c.PeerClosed);
            c.Close();
        }
    }

    [Theory(DisplayName = "stream: a receive that waits past its deadline ends with ETIMEDOUT, and the next one works")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void ReadDeadline(string engine)
    {
        using var rig = new Rig(engine);
        Connection? server = null;
        byte[] address = rig.Listen(c => server = c);
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            while (server is null)
            {
                await rig.Loop.DelayAsync(1);
            }
            server.SetReadDeadline(rig.Loop.NowMs + 20);
            RecvLease lease = await server.ReceiveAsync();
            Assert.Equal(Errno.ETIMEDOUT, lease.Error);
            Assert.False(lease.IsEnd);
            server.SetReadDeadline(rig.Loop.NowMs + 60_000);
            LoopTask<RecvLease> wait = server.ReceiveAsync();
            await Rig.Write(c, "late"u8.ToArray());
            lease = await wait;
            Assert.Equal(4, lease.Length);
            lease.Release();
            c.Close();
            server.Close();
        });
    }

    [Theory(DisplayName = "stream: a send that a slow reader blocks goes on when it reads, and nothing is lost")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void BlockedSend(string engine)
    {
        using var rig = new Rig(engine);
        byte[] sent = Rig.Pattern(24 * 1024 * 1024);
        bool blocked = false;
        bool drained = false;
        byte[] address = rig.Listen(c => Serve(c).Forget());
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            while (!blocked)
            {
                await rig.Loop.DelayAsync(1);
            }
            Assert.False(drained);
            var got = new MemoryStream(sent.Length);
            Assert.Equal(0, await Rig.ReadAll(c, got));
            Assert.True(sent.AsSpan().SequenceEqual(got.GetBuffer().AsSpan(0, (int)got.Length)));
            c.Close();
        });
        Assert.True(drained);
        Assert.Equal(0, rig.Loop.Buffers.RentedBytes);

        async LoopTask Serve(Connection c)
        {
            BufferChain chain = rig.Loop.RentChain();
            chain.Append(sent.AsSpan(0, 1000));
            Assert.True(c.Send(chain));
            chain.Append(sent.AsSpan(1000));
            Assert.True(c.Send(chain));
            LoopTask<IoResult> half = c.DrainAsync(chain, sent.Length / 2);
            blocked = !half.IsCompleted;
            Assert.False((await half).IsError);
            Assert.True(chain.Length <= sent.Length / 2);
            Assert.False((await c.DrainAsync(chain)).IsError);
            Assert.Equal(sent.Length, c.SentBytes);
            Assert.True(chain.IsEmpty);
            drained = true;
            rig.Loop.Return(chain);
            c.Close();
        }
    }

    [Theory(DisplayName =
        "stream: a send without progress for send_timeout ends with ETIMEDOUT and gives its buffers back")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void SendTimeout(string engine)
    {
        using var rig = new Rig(engine);
        Connection? server = null;
        byte[] address = rig.Listen(c => server = c);
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            while (server is null)
            {
                await rig.Loop.DelayAsync(1);
            }
            server.SendTimeoutMs = 30;
            BufferChain chain = rig.Loop.RentChain();
            chain.Append(new byte[24 * 1024 * 1024]);
            server.Send(chain);
            IoResult result = await server.DrainAsync(chain);
            Assert.Equal(Errno.ETIMEDOUT, result.Error);
            Assert.Equal(Errno.ETIMEDOUT, server.SendError);
            Assert.True(chain.IsEmpty);
            chain.Append("more"u8);
            Assert.False(server.Send(chain));
            Assert.True(chain.IsEmpty);
            rig.Loop.Return(chain);
            server.Close(reset: true);
            c.Close();
        });
        Assert.Equal(0, rig.Loop.Buffers.RentedBytes);
    }

    [Theory(DisplayName = "stream: memory and file slices leave in the chain's order, from any offset")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void FileSlices(string engine)
    {
        using var rig = new Rig(engine);
        byte[] content = Rig.Pattern(9 * 1024 * 1024);
        string path = rig.TempFile(content);
        byte[] address = rig.Listen(c => Serve(c).Forget());
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            var got = new MemoryStream();
            Assert.Equal(0, await Rig.ReadAll(c, got));
            var expected = new MemoryStream();
            expected.Write("head"u8);
            expected.Write(content, 3, content.Length - 3);
            expected.Write("middle"u8);
            expected.Write(content, 0, 10);
            expected.Write("tail"u8);
            Assert.True(expected.ToArray().AsSpan().SequenceEqual(got.ToArray()));
            c.Close();
        });
        Assert.Equal(0, rig.Loop.Buffers.RentedBytes);

        async LoopTask Serve(Connection c)
        {
            FileRef file = FileRef.Own(Sys.Open(path, Sys.O_RDONLY).Int);
            BufferChain chain = rig.Loop.RentChain();
            chain.Append("head"u8);
            chain.AppendFile(file, 3, content.Length - 3);
            chain.Append("middle"u8);
            chain.AppendFile(file, 0, 10);
            chain.Append("tail"u8);
            file.Release();
            c.Send(chain);
            Assert.False((await c.DrainAsync(chain)).IsError);
            Assert.Equal(-1, file.Fd);
            rig.Loop.Return(chain);
            c.Close();
        }
    }

    [Theory(DisplayName = "stream: a file that became shorter than promised ends sending with EIO")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void ShortFile(string engine)
    {
        using var rig = new Rig(engine);
        string path = rig.TempFile(new byte[100]);
        Connection? server = null;
        byte[] address = rig.Listen(c => server = c);
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            while (server is null)
            {
                await rig.Loop.DelayAsync(1);
            }
            FileRef file = FileRef.Own(Sys.Open(path, Sys.O_RDONLY).Int);
            BufferChain chain = rig.Loop.RentChain();
            chain.AppendFile(file, 0, 200);
            file.Release();
            server.Send(chain);
            Assert.Equal(Errno.EIO, (await server.DrainAsync(chain)).Error);
            Assert.Equal(Errno.EIO, server.SendError);
            Assert.Equal(-1, file.Fd);
            rig.Loop.Return(chain);
            server.Close();
            c.Close();
        });
    }

    [Theory(DisplayName = "stream: connecting where nobody listens is ECONNREFUSED and leaves no connection")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void ConnectRefused(string engine)
    {
        using var rig = new Rig(engine);
        rig.Run(async () =>
        {
            LoopTask<ConnectOutcome> task = rig.Loop.ConnectAsync(rig.Nowhere(), default, 5000, out Connection c);
            Assert.Equal(Errno.ECONNREFUSED, (await task).Error);
            Assert.True(c.IsClosed);
            Assert.Equal(0, rig.Loop.ConnectionCount);
        });
    }

    [Theory(DisplayName = "stream: connecting to a full backlog ends with ETIMEDOUT after its timeout")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void ConnectTimeout(string engine)
    {
        using var rig = new Rig(engine);
        byte[] address;
        int fd = -1;
        if (rig.Loop is InMemoryLoop memory)
        {
            address = rig.Nowhere();
            memory.ListenPeers(address, _ => { }).IsSilent = true;
        }
        else
        {
            (fd, address) = Rig.OpenListening(0);
        }
        rig.Run(async () =>
        {
            // The first ones fill the queue of the kernel.
            int timedOut = 0;
            for (int i = 0; i < 4 && timedOut == 0; i++)
            {
                LoopTask<ConnectOutcome> task = rig.Loop.ConnectAsync(address, default, 200, out Connection c);
                ConnectOutcome outcome = await task;
                Assert.True(outcome.Error is 0 or Errno.ETIMEDOUT);
                timedOut += outcome.Error == Errno.ETIMEDOUT ? 1 : 0;
                Assert.Equal(outcome.IsError, c.IsClosed);
            }
            Assert.Equal(1, timedOut);
        });
        Sys.Close(fd);
    }

    [Theory(DisplayName = "stream: the bytes of a server that speaks first are there after connecting")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void ServerSpeaksFirst(string engine)
    {
        using var rig = new Rig(engine);
        byte[] address = rig.Listen(c =>
        {
            BufferChain chain = rig.Loop.RentChain();
            chain.Append("220 ready"u8);
            c.Send(chain);
            rig.Loop.Return(chain);
            c.Close();
        });
        rig.Run(async () =>
        {
            for (int i = 0; i < 50; i++)
            {
                Connection c = await rig.Connect(address);
                await rig.Loop.YieldAsync();
                var got = new MemoryStream();
                c.SetReadDeadline(rig.Loop.NowMs + 5000);
                Assert.Equal(0, await Rig.ReadAll(c, got));
                Assert.Equal("220 ready"u8.ToArray(), got.ToArray());
                c.Close();
            }
        });
    }

    [Theory(DisplayName = "stream: cancelling and closing end waits with ECANCELED, also one that begins later")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void Cancel(string engine)
    {
        using var rig = new Rig(engine);
        byte[] address = rig.Listen(_ => { });
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            LoopTask<RecvLease> wait = c.ReceiveAsync();
            c.CancelReceive();
            Assert.Equal(Errno.ECANCELED, (await wait).Error);
            BufferChain chain = rig.Loop.RentChain();
            chain.Append(new byte[24 * 1024 * 1024]);
            Assert.True(c.Send(chain));
            LoopTask<IoResult> drain = c.DrainAsync(chain);
            c.CancelDrain();
            Assert.Equal(Errno.ECANCELED, (await drain).Error);
            drain = c.DrainAsync(chain);
            wait = c.ReceiveAsync();
            c.Close();
            Assert.Equal(Errno.ECANCELED, (await wait).Error);
            Assert.Equal(Errno.ECANCELED, (await drain).Error);
            Assert.Equal(Errno.ECANCELED, (await c.ReceiveAsync()).Error);
            Assert.Equal(Errno.ECANCELED, (await c.DrainAsync(chain)).Error);
            Assert.False(c.Send(chain));
            Assert.True(chain.IsEmpty);
            rig.Loop.Return(chain);
        });
    }

    [Theory(DisplayName = "stream: a watcher hears once that the peer has closed while nobody receives")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void Watcher(string engine)
    {
        using var rig = new Rig(engine);
        var watcher = new PeerWatcher();
        byte[] address = rig.Listen(c => c.Watcher = watcher);
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            await Rig.Write(c, "pipelined"u8.ToArray());
            await rig.Loop.DelayAsync(5);
            Assert.Equal(0, watcher.Calls);
            c.ShutdownSend();
            while (watcher.Calls == 0)
            {
                await rig.Loop.DelayAsync(1);
            }
            Assert.False(watcher.WasReset);
            await rig.Loop.DelayAsync(5);
            Assert.Equal(1, watcher.Calls);
            c.Close(reset: true);
            while (!watcher.WasReset)
            {
                await rig.Loop.DelayAsync(1);
            }
            Assert.Equal(2, watcher.Calls);
        });
    }

    private sealed class PeerWatcher : IPeerWatcher
    {
        public int Calls { get; private set; }
        public bool WasReset { get; private set; }

        public void PeerGone(Connection connection, bool reset)
        {
            Calls++;
            WasReset = reset;
        }
    }

    [Theory(DisplayName = "stream: sending to a peer that has gone ends in an error, never in a signal or a hang")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void SendToClosedPeer(string engine)
    {
        using var rig = new Rig(engine);
        Connection? server = null;
        byte[] address = rig.Listen(c => server = c);
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            while (server is null)
            {
                await rig.Loop.DelayAsync(1);
            }
            c.Close();
            int rounds = 0;
            while (!(await Rig.Write(server, "x"u8.ToArray())).IsError)
            {
                Assert.True(++rounds < 100);
                await rig.Loop.DelayAsync(1);
            }
            Assert.True(server.SendError is Errno.EPIPE or Errno.ECONNRESET);
            server.Close();
        });
    }

    [Theory(DisplayName =
        "connections: when they run out the longest idle goes first, and without idle ones the new one")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void ConnectionsRunOut(string engine)
    {
        using var rig = new Rig(engine);
        var alerts = new List<string>();
        rig.Loop.Report = (_, text, _) => alerts.Add(text);
        var accepted = new List<Connection>();
        var reclaimed = new List<Connection>();
        byte[] address = rig.Listen(accepted.Add);
        rig.Loop.ConnectionsMax = 8;
        var clients = new List<Connection>();
        rig.Run(async () =>
        {
            for (int i = 0; i < 3; i++)
            {
                clients.Add(await rig.Connect(address));
                while (accepted.Count <= i)
                {
                    await rig.Loop.DelayAsync(1);
                }
            }
            // Six of seven are taken. The second and then the first become idle.
            rig.Loop.EnterIdle(accepted[1], Reclaim);
            rig.Loop.EnterIdle(accepted[0], Reclaim);
            Assert.Equal(2, rig.Loop.IdleCount);
            rig.Loop.ConnectionsMax = 7;
            clients.Add(await rig.Connect(address));
            while (accepted.Count < 4)
            {
                await rig.Loop.DelayAsync(1);
            }
            Assert.Equal([accepted[1]], reclaimed);
            rig.Loop.LeaveIdle(accepted[0]);
            Assert.Equal(0, rig.Loop.IdleCount);
            Assert.Contains("reusing connections", Assert.Single(alerts));
            rig.Loop.ConnectionsMax = rig.Loop.ConnectionCount + 1;
            alerts.Clear();
            // Nobody is idle now: one more waits in the queue until somebody leaves.
            Connection late = await rig.Connect(address);
            await rig.Loop.DelayAsync(20);
            Assert.Equal(4, accepted.Count);
            Assert.Equal($"{rig.Loop.ConnectionsMax} worker_connections are not enough", Assert.Single(alerts));
            accepted[0].Close();
            accepted[2].Close();
            clients[0].Close();
            while (accepted.Count < 5)
            {
                await rig.Loop.DelayAsync(1);
            }
            late.Close();
        });

        void Reclaim(Connection c)
        {
            reclaimed.Add(c);
            c.Close();
        }
    }

    [Theory(DisplayName = "listener: paused it accepts nothing, resumed it accepts what waited, stopped it refuses")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void PauseAndStop(string engine)
    {
        using var rig = new Rig(engine);
        int accepted = 0;
        byte[] address = rig.Listen(_ => accepted++, out Listener listener);
        rig.Run(async () =>
        {
            listener.Pause();
            await rig.Connect(address);
            await rig.Loop.DelayAsync(10);
            Assert.Equal(0, accepted);
            listener.Resume();
            while (accepted == 0)
            {
                await rig.Loop.DelayAsync(1);
            }
            listener.Stop();
            ConnectOutcome outcome = await rig.Loop.ConnectAsync(address, default, 5000, out _);
            Assert.Equal(Errno.ECONNREFUSED, outcome.Error);
        });
    }

    [Theory(DisplayName = "stream: both ends know both addresses")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void Addresses(string engine)
    {
        using var rig = new Rig(engine);
        Connection? server = null;
        byte[] address = rig.Listen(c => server = c, out Listener listener);
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            while (server is null)
            {
                await rig.Loop.DelayAsync(1);
            }
            Assert.Equal(address, c.PeerAddress.ToArray());
            Assert.Equal(address, server.LocalAddress.ToArray());
            Assert.Equal(c.LocalAddress.ToArray(), server.PeerAddress.ToArray());
            Assert.Same(listener, server.Listener);
            Assert.Null(c.Listener);
            Assert.NotEqual(c.Number, server.Number);
        });
    }

    [Theory(DisplayName = "files: pieces are read from any place, a range is read through to its end")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void FileReads(string engine)
    {
        using var rig = new Rig(engine);
        byte[] content = Rig.Pattern(300_000);
        int fd = Sys.Open(rig.TempFile(content), Sys.O_RDONLY).Int;
        rig.Run(async () =>
        {
            BufferSlab slab = rig.Loop.Buffers.Rent(65536);
            Assert.Equal(65536, (await rig.Loop.ReadFileAsync(fd, slab.Memory, 1000)).Value);
            Assert.True(content.AsSpan(1000, 65536).SequenceEqual(slab.Span));
            Assert.Equal(100, (await rig.Loop.ReadFileAsync(fd, slab.Memory, 299_900)).Value);
            Assert.Equal(0, (await rig.Loop.ReadFileAsync(fd, slab.Memory, 300_000)).Value);

            Assert.Equal(250_000, (await rig.Loop.WarmFileAsync(fd, slab.Memory, 0, 250_000)).Value);
            Assert.Equal(200_000, (await rig.Loop.WarmFileAsync(fd, slab.Memory, 100_000, 250_000)).Value);
            Assert.Equal(Errno.EBADF, (await rig.Loop.WarmFileAsync(-1, slab.Memory, 0, 1)).Errno);
            slab.Release();
        });
        Sys.Close(fd);
        Assert.Equal(engine is Rig.Epoll or Rig.Portable, rig.Loop.Blocking.ThreadCount > 0);
    }
}
