// One way to run the same test on both engines: a loop, a listener, and a body that runs on the loop to its end.
// Both ends of a connection live on the one loop; the in-memory engine moves its clock when nothing else is to be done.
using System.Diagnostics;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

internal sealed class Rig : IDisposable
{
    public const string Epoll = "epoll";
    public const string Memory = "memory";
    public const string Portable = "portable";
    public const string Uring = "io_uring";

    private readonly List<Listener> _listeners = [];
    private readonly List<string> _files = [];

    public Rig(string engine) : this(Open(engine))
    {
    }

    public Rig(EventLoop loop)
    {
        Loop = loop;
        Loop.Adopt();
        Loop.Fault = e => Fault = e;
    }

    private static EventLoop Open(string engine) => engine switch
    {
        Epoll => new EpollLoop(),
        Portable => new PortableLoop(),
        Uring => UringLoop.TryCreate(out string reason) ?? throw new InvalidOperationException(reason),
        _ => new InMemoryLoop { WindowBytes = 64 * 1024 },
    };

    public EventLoop Loop { get; }

    public Exception? Fault { get; set; }

    public bool IsMemory => Loop is InMemoryLoop;

    /// <summary>Listens on an address of its own and returns it.</summary>
    public byte[] Listen(Action<Connection> accepted) => Listen(accepted, out _);

    public byte[] Listen(Action<Connection> accepted, out Listener listener)
    {
        byte[] address;
        int fd;
        if (Loop is InMemoryLoop memory)
        {
            address = SocketAddress.Inet([127, 0, 0, 1], 1000 + _listeners.Count).Native.ToArray();
            fd = memory.Bind(address);
        }
        else
        {
            (fd, address) = OpenListening(511);
        }
        listener = Loop.Listen(fd, false, accepted);
        _listeners.Add(listener);
        return address;
    }

    /// <summary>A listening TCP socket on a free loopback port.</summary>
    public static unsafe (int Fd, byte[] Address) OpenListening(int backlog)
    {
        int fd = Sys.Socket(Sys.AF_INET, Sys.SOCK_STREAM).Int;
        byte[] address = SocketAddress.Inet([127, 0, 0, 1], 0).Native.ToArray();
        fixed (byte* p = address)
        {
            Assert.True(Sys.Bind(fd, p, address.Length).IsOk);
            Assert.True(Sys.Listen(fd, backlog).IsOk);
            int length = address.Length;
            Assert.True(Sys.LocalName(fd, p, ref length).IsOk);
        }
        return (fd, address);
    }

    /// <summary>An address where nobody listens.</summary>
    public byte[] Nowhere()
    {
        (int fd, byte[] address) = OpenListening(1);
        Sys.Close(fd);
        return address;
    }

    public string TempFile(byte[] content)
    {
        string path = Path.Combine(Path.GetTempPath(), "weir-loop-" + Path.GetRandomFileName());
        File.WriteAllBytes(path, content);
        _files.Add(path);
        return path;
    }

    /// <summary>Runs the body on the loop until it has ended.</summary>
    public void Run(Func<LoopTask> body)
    {
        Exception? failure = null;
        bool done = false;
        Wrap().Forget();
        RunUntil(() => done || Fault is not null);
        if (failure is not null)
        {
            throw new InvalidOperationException("the body failed: " + failure.Message, failure);
        }
        Assert.Null(Fault);

        async LoopTask Wrap()
        {
            try
            {
                await body();
            }
            catch (Exception e)
            {
                failure = e;
            }
            done = true;
        }
    }

    public void RunUntil(Func<bool> condition)
    {
        if (Loop is InMemoryLoop memory)
        {
            Assert.True(memory.RunUntil(condition), "nothing more happens");
            return;
        }
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(30), "the loop does not get there");
            Loop.RunTurn(20);
        }
    }

    public async LoopTask<Connection> Connect(byte[] address)
    {
        LoopTask<ConnectOutcome> task = Loop.ConnectAsync(address, default, 5000, out Connection connection);
        ConnectOutcome outcome = await task;
        Assert.Equal(0, outcome.Error);
        return connection;
    }

    /// <summary>Receives until the end or an error; the error number, 0 at the end.</summary>
    public static async LoopTask<int> ReadAll(Connection connection, MemoryStream into)
    {
        while (true)
        {
            RecvLease lease = await connection.ReceiveAsync();
            if (lease.IsError)
            {
                return lease.Error;
            }
            if (lease.IsEnd)
            {
                return 0;
            }
            into.Write(lease.Span);
            lease.Release();
        }
    }

    /// <summary>Receives exactly so many bytes.</summary>
    public static async LoopTask<byte[]> Read(Connection connection, int count)
    {
        var bytes = new MemoryStream();
        while (bytes.Length < count)
        {
            RecvLease lease = await connection.ReceiveAsync(count - (int)bytes.Length);
            Assert.False(lease.IsError || lease.IsEnd, $"ended after {bytes.Length} bytes: {lease.Error}");
            bytes.Write(lease.Span);
            lease.Release();
        }
        return bytes.ToArray();
    }

    /// <summary>Sends bytes and waits until all of them have left.</summary>
    public static async LoopTask<IoResult> Write(Connection connection, byte[] bytes)
    {
        BufferChain chain = connection.Loop.RentChain();
        chain.Append(bytes);
        connection.Send(chain);
        IoResult result = await connection.DrainAsync(chain);
        connection.Loop.Return(chain);
        return result;
    }

    /// <summary>Answers every byte with itself until the peer's end, then closes.</summary>
    public static async LoopTask Echo(Connection connection)
    {
        while (true)
        {
            RecvLease lease = await connection.ReceiveAsync();
            if (lease.IsError || lease.IsEnd)
            {
                break;
            }
            BufferChain chain = connection.Loop.RentChain();
            chain.AppendSlice(lease.Memory, lease.Slab);
            lease.Release();
            bool sent = connection.Send(chain) && !(await connection.DrainAsync(chain)).IsError;
            connection.Loop.Return(chain);
            if (!sent)
            {
                break;
            }
        }
        connection.Close();
    }

    public static byte[] Pattern(int count, int seed = 7)
    {
        byte[] bytes = new byte[count];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    public void Dispose()
    {
        foreach (Listener listener in _listeners)
        {
            listener.Stop();
        }
        foreach (string file in _files)
        {
            File.Delete(file);
        }
        Loop.Dispose();
    }
}
