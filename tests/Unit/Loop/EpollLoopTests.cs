// What only the epoll engine can get wrong: descriptors that are used again, listeners that cannot accept, unix
// sockets, datagrams, foreign descriptors, fairness.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class EpollLoopTests
{
    [Fact(DisplayName = "epoll: a recycled stream never hears of the descriptor it had before")]
    public void Recycled()
    {
        using var rig = new Rig(Rig.Epoll);
        int served = 0;
        byte[] address = rig.Listen(c => Serve(c).Forget());
        const int Clients = 40;
        int done = 0;
        int resets = 0;
        for (int i = 0; i < Clients; i++)
        {
            Client(i).Forget();
        }
        rig.RunUntil(() => done == Clients || rig.Fault is not null);
        Assert.Null(rig.Fault);
        rig.RunUntil(() => rig.Loop.ConnectionCount == 0);
        Assert.Equal(Clients * 50, served + resets);
        Assert.Equal(0, rig.Loop.Buffers.RentedBytes);

        async LoopTask Client(int id)
        {
            for (int round = 0; round < 50; round++)
            {
                Connection c = await rig.Connect(address);
                byte mark = (byte)(id + round);
                await Rig.Write(c, [mark]);
                if ((id + round) % 5 == 0)
                {
                    resets++;
                    // The server hears of bytes, of the reset, or of both in one event.
                    c.Close(reset: true);
                    continue;
                }
                byte[] answer = await Rig.Read(c, 1);
                Assert.Equal((byte)(mark + 1), answer[0]);
                // Closed in the same batch in which the other end's events may be waiting.
                c.Close();
            }
            done++;
        }

        async LoopTask Serve(Connection c)
        {
            long number = c.Number;
            RecvLease lease = await c.ReceiveAsync();
            if (lease.IsError || lease.IsEnd)
            {
                c.Close();
                return;
            }
            byte mark = lease.Span[0];
            lease.Release();
            bool isReset = false;
            IoResult sent = await Rig.Write(c, [(byte)(mark + 1)]);
            if (!sent.IsError)
            {
                lease = await c.ReceiveAsync();
                Assert.True(lease.IsEnd || lease.Error == Errno.ECONNRESET, "bytes of another connection");
                isReset = lease.IsError;
            }
            Assert.Equal(number, c.Number);
            served += sent.IsError || isReset ? 0 : 1;
            c.Close();
        }
    }

    [Fact(DisplayName = "epoll: a stream whose last result nobody took does not keep others from being recycled")]
    public void UntakenResult()
    {
        using var rig = new Rig(Rig.Epoll);
        var accepted = new List<Connection>();
        byte[] address = rig.Listen(accepted.Add);
        rig.Run(async () =>
        {
            Connection lost = await rig.Connect(address);
            LoopTask<RecvLease> never = lost.ReceiveAsync();
            lost.Close();
            Assert.True(never.IsCompleted);
            var seen = new HashSet<Connection>(ReferenceEqualityComparer.Instance);
            for (int i = 0; i < 20; i++)
            {
                Connection c = await rig.Connect(address);
                Assert.NotSame(lost, c);
                seen.Add(c);
                c.Close();
                await rig.Loop.DelayAsync(1);
                foreach (Connection server in accepted)
                {
                    server.Close();
                }
                accepted.Clear();
            }
            Assert.InRange(seen.Count, 1, 10);
            Assert.Equal(Errno.ECANCELED, (await never).Error);
        });
    }

    [Fact(DisplayName = "epoll: a listener that cannot accept says so once, backs off, and accepts again later")]
    public void AcceptFails()
    {
        using var rig = new Rig(Rig.Epoll);
        var alerts = new List<int>();
        rig.Loop.Report = (_, _, errno) => alerts.Add(errno);
        int accepted = 0;
        // A socket that does not listen yet: it is ready, and accepting from it fails, as when descriptors run out.
        int fd = Sys.Socket(Sys.AF_INET, Sys.SOCK_STREAM).Int;
        byte[] address = Bind(fd);
        Listener listener = rig.Loop.Listen(fd, false, _ => accepted++);
        rig.RunUntil(() => alerts.Count > 0);
        for (int i = 0; i < 20; i++)
        {
            rig.Loop.RunTurn(0);
        }
        Assert.Equal([Errno.EINVAL], alerts);
        Assert.True(Sys.Listen(fd, 10).IsOk);
        rig.Run(async () => await rig.Connect(address));
        rig.RunUntil(() => accepted == 1);
        Assert.Single(alerts);
        listener.Stop();
        listener.Stop();
    }

    private static unsafe byte[] Bind(int fd)
    {
        byte[] address = SocketAddress.Inet([127, 0, 0, 1], 0).Native.ToArray();
        fixed (byte* p = address)
        {
            Assert.True(Sys.Bind(fd, p, address.Length).IsOk);
            int length = address.Length;
            Assert.True(Sys.LocalName(fd, p, ref length).IsOk);
        }
        return address;
    }

    [Fact(DisplayName = "epoll: a unix socket carries bytes, and its long path is known on both ends")]
    public void UnixSocket()
    {
        using var rig = new Rig(Rig.Epoll);
        string name = "weir-loop-" + Path.GetRandomFileName() + "-with-a-long-name.sock";
        string path = Path.Combine(Path.GetTempPath(), name);
        SocketAddress address = SocketAddress.Unix(path)!;
        int fd = Sys.Socket(Sys.AF_UNIX, Sys.SOCK_STREAM).Int;
        Assert.True(ListenOn(fd, address.Native));
        string? local = null;
        Listener listener = rig.Loop.Listen(fd, false, c =>
        {
            local = SocketAddress.FromNative(c.LocalAddress).ToString();
            Rig.Echo(c).Forget();
        });
        rig.Run(async () =>
        {
            for (int i = 0; i < 3; i++)
            {
                Connection c = await rig.Connect(address.Native.ToArray());
                await Rig.Write(c, "over a path"u8.ToArray());
                Assert.Equal("over a path"u8.ToArray(), await Rig.Read(c, 11));
                c.Close();
                Assert.Equal("unix:" + path, local);
            }
        });
        listener.Stop();
        File.Delete(path);
    }

    private static unsafe bool ListenOn(int fd, ReadOnlySpan<byte> address)
    {
        fixed (byte* p = address)
        {
            return Sys.Bind(fd, p, address.Length).IsOk && Sys.Listen(fd, 10).IsOk;
        }
    }

    [Fact(DisplayName = "epoll: datagrams go out and come back, each whole")]
    public void Datagrams()
    {
        using var rig = new Rig(Rig.Epoll);
        int echo = Sys.Socket(Sys.AF_INET, Sys.SOCK_DGRAM).Int;
        byte[] address = Bind(echo);
        var got = new List<string>();
        DatagramSocket? socket = rig.Loop.OpenDatagram(
            address, bytes => got.Add(System.Text.Encoding.Latin1.GetString(bytes)), out int errno);
        Assert.Equal(0, errno);
        Assert.NotNull(socket);
        Assert.Equal(0, socket.Send("one"u8));
        Assert.Equal(0, socket.Send("three"u8));
        using IDisposable watch = rig.Loop.WatchReadable(echo, () => Assert.True(EchoDatagram(echo)));
        rig.RunUntil(() => got.Count == 2);
        Assert.Equal(["one", "three"], got);
        socket.Dispose();
        socket.Dispose();
        Sys.Close(echo);
        Assert.Equal(0, rig.Loop.Buffers.RentedBytes);
    }

    private static unsafe bool EchoDatagram(int fd)
    {
        byte* buffer = stackalloc byte[100];
        byte* from = stackalloc byte[128];
        int fromLength = 128;
        SysResult n = Sys.ReceiveFrom(fd, buffer, 100, from, ref fromLength);
        return n.IsOk && Sys.Connect(fd, from, fromLength).IsOk && Sys.Send(fd, buffer, n.Int, false).IsOk;
    }

    [Fact(DisplayName = "epoll: datagrams to a closed port cost nothing but their loss")]
    public void DatagramsRefused()
    {
        using var rig = new Rig(Rig.Epoll);
        int closed = Sys.Socket(Sys.AF_INET, Sys.SOCK_DGRAM).Int;
        byte[] address = Bind(closed);
        Sys.Close(closed);
        using DatagramSocket socket = rig.Loop.OpenDatagram(address, _ => { }, out _)!;
        for (int i = 0; i < 5; i++)
        {
            _ = socket.Send("x"u8);
            rig.Loop.RunTurn(5);
        }
        Assert.Null(rig.Fault);
    }

    [Fact(DisplayName = "epoll: a foreign descriptor is watched until it is let go, level-triggered")]
    public void Watch()
    {
        using var rig = new Rig(Rig.Epoll);
        int fd = Sys.EventFd().Int;
        int calls = 0;
        IDisposable watch = rig.Loop.WatchReadable(fd, () => calls++);
        rig.Loop.RunTurn(0);
        Assert.Equal(0, calls);
        Sys.EventFdSignal(fd);
        rig.Loop.RunTurn(0);
        rig.Loop.RunTurn(0);
        Assert.Equal(2, calls);
        Sys.EventFdDrain(fd);
        rig.Loop.RunTurn(0);
        Assert.Equal(2, calls);
        Sys.EventFdSignal(fd);
        watch.Dispose();
        watch.Dispose();
        rig.Loop.RunTurn(0);
        Assert.Equal(2, calls);
        Sys.Close(fd);
    }

    [Fact(DisplayName = "epoll: a peer that always has more to read does not keep others from their turn")]
    public void Fairness()
    {
        using var rig = new Rig(Rig.Epoll);
        Connection? server = null;
        byte[] address = rig.Listen(c => server = c);
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            while (server is null)
            {
                await rig.Loop.DelayAsync(1);
            }
            await Rig.Write(c, new byte[20_000]);
            await rig.Loop.DelayAsync(20);
            int others = 0;
            int immediate = 0;
            rig.Loop.Ready(() => others++);
            for (int i = 0; i < 200; i++)
            {
                LoopTask<RecvLease> task = server.ReceiveAsync(1);
                immediate += task.IsCompleted ? 1 : 0;
                RecvLease lease = await task;
                Assert.Equal(1, lease.Length);
                lease.Release();
            }
            Assert.Equal(1, others);
            Assert.True(immediate < 200);
            server.Close();
            c.Close();
        });
    }
}
