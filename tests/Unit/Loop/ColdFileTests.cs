// A file that was in the page cache when its slice was given to a stream, and is not any more when the client, after a
// pause, takes the rest: the stream has it read beside the loop.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class ColdFileTests
{
    private const int FileBytes = 24 << 20;

    [Theory]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    public void What_a_slow_client_left_is_read_beside_the_loop_when_it_is_gone(string engine)
    {
        using var rig = new Rig(engine);
        byte[] content = Rig.Pattern(FileBytes);
        string path = rig.TempFile(content);
        rig.Run(async () =>
        {
            (Connection client, Connection server, FileRef file, BufferChain chain) = await Begin(rig, path);
            Evict(path);
            Assert.False(file.IsCached(0, FileBytes, rig.Loop.NowMs));

            var got = new MemoryStream();
            LoopTask<int> reading = Rig.ReadAll(client, got);
            Assert.False((await server.DrainAsync(chain)).IsError);
            Assert.Equal(-1, file.Fd);
            rig.Loop.Return(chain);
            server.Close();
            Assert.Equal(0, await reading);
            client.Close();

            Assert.True(content.AsSpan().SequenceEqual(got.GetBuffer().AsSpan(0, (int)got.Length)));
        });
        Assert.Equal(0, rig.Loop.Buffers.RentedBytes);
        // Threads read for epoll, the ring for itself.
        Assert.Equal(engine == Rig.Epoll, rig.Loop.Blocking.ThreadCount > 0);
    }

    /// <summary>The stream's object serves the next connection while the read for the last is under way.</summary>
    [Theory]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    public void Who_closes_meanwhile_leaves_nothing_behind(string engine)
    {
        using var rig = new Rig(engine);
        string path = rig.TempFile(Rig.Pattern(FileBytes));
        rig.Run(async () =>
        {
            (Connection client, Connection server, FileRef file, BufferChain chain) = await Begin(rig, path);
            Evict(path);
            int taken = 0;
            while (taken < 3 << 20)
            {
                // There is room then, and the read has begun.
                RecvLease lease = await client.ReceiveAsync();
                taken += lease.Length;
                lease.Release();
            }
            server.Close(reset: true);
            chain.Clear();
            rig.Loop.Return(chain);
            client.Close();

            (client, server, _, chain) = await Begin(rig, path, pauseMs: 0);
            byte[] first = await Rig.Read(client, 1000);
            Assert.True(Rig.Pattern(1000).AsSpan().SequenceEqual(first));
            server.Close(reset: true);
            chain.Clear();
            rig.Loop.Return(chain);
            client.Close();
            while (file.Fd >= 0 || rig.Loop.Buffers.RentedBytes > 0)
            {
                await rig.Loop.DelayAsync(1);
            }
        });
    }

    /// <summary>A connection whose server sends the file, blocked for longer than it believes what it saw.</summary>
    private static async LoopTask<(Connection Client, Connection Server, FileRef File, BufferChain Chain)> Begin(
        Rig rig, string path, int pauseMs = 1200)
    {
        Connection? server = null;
        byte[] address = rig.Listen(c => server = c);
        Connection client = await rig.Connect(address);
        while (server is null)
        {
            await rig.Loop.DelayAsync(1);
        }
        FileRef file = FileRef.Own(Sys.Open(path, Sys.O_RDONLY).Int);
        BufferChain chain = rig.Loop.RentChain();
        chain.AppendFile(file, 0, FileBytes);
        file.Release();
        Assert.True(server.Send(chain));
        Assert.False(chain.IsEmpty);
        await rig.Loop.DelayAsync(Math.Max(pauseMs, 1));
        return (client, server, file, chain);
    }

    /// <summary>coreutils' way to say posix_fadvise(POSIX_FADV_DONTNEED); a dirty page would stay.</summary>
    private static void Evict(string path)
    {
        using var dd = System.Diagnostics.Process.Start("dd",
            [$"of={path}", "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
        dd.WaitForExit();
        Assert.Equal(0, dd.ExitCode);
    }
}
