// The library seat: a configuration text in this process, on each engine that has sockets.
using System.Net.Sockets;
using System.Text;
using Weir.Conf;
using Weir.Loop;
using Weir.Server;
using Xunit;

namespace Weir.Tests.Unit.Server;

public sealed class WebServerTests
{
    [Theory]
    [InlineData("epoll")]
    [InlineData("portable")]
    public void A_text_is_served_in_this_process_read_again_and_ended(string engine)
    {
        string path = Path.Combine(Path.GetTempPath(), "weir-library-" + Path.GetRandomFileName());
        using var ready = new ManualResetEventSlim();
        EventLoop? loop = null;
        WebServer? server = null;
        string failure = "";
        var thread = new Thread(() =>
        {
            loop = Engines.Open(engine, out _);
            server = WebServer.TryStart(loop!, Options(path, "first"), out ConfErrors errors);
            failure = string.Join('\n', errors.All.Select(static e => e.Format()));
            if (server is not null)
            {
                server.Drained = loop!.Stop;
            }
            ready.Set();
            if (server is not null)
            {
                loop!.Run();
                server.Dispose();
            }
            loop!.Dispose();
        });
        thread.Start();
        Assert.True(ready.Wait(30_000));
        Assert.True(server is not null, failure);
        Assert.EndsWith("first", Get(path));
        using var read = new ManualResetEventSlim();
        loop!.Post(() =>
        {
            Assert.True(server.TryReload(Options(path, "second"), out _));
            read.Set();
        });
        Assert.True(read.Wait(30_000));
        Assert.EndsWith("second", Get(path));
        loop.Post(server.Quit);
        Assert.True(thread.Join(30_000), "the server ends when the last connection has");
        File.Delete(path);
    }

    /// <summary>The kernel is asked about the server's end of the connection, which is in this process too.</summary>
    [Theory]
    [InlineData("on", 1 << 20, true)]
    [InlineData("on", 100 * 1024, true)]
    [InlineData("off", 1 << 20, false)]
    [InlineData("off", 100 * 1024, false)]
    public void An_answer_in_several_writes_does_not_wait_for_acknowledgements(string tcpNoDelay, int bytes, bool isSet)
    {
        string folder = Directory.CreateTempSubdirectory("weir-library-").FullName;
        File.WriteAllBytes(Path.Combine(folder, "large"), new byte[bytes]);
        using var free = new TcpListener(System.Net.IPAddress.Loopback, 0);
        free.Start();
        int port = ((System.Net.IPEndPoint)free.LocalEndpoint).Port;
        free.Stop();
        using var ready = new ManualResetEventSlim();
        EventLoop? loop = null;
        WebServer? server = null;
        string failure = "";
        var thread = new Thread(() =>
        {
            loop = Engines.Open("epoll", out _);
            server = WebServer.TryStart(loop!, WebServerOptions.FromText($$"""
                error_log /dev/null; events { }
                http { server { listen 127.0.0.1:{{port}}; root {{folder}}; tcp_nodelay {{tcpNoDelay}}; } }
                """), out ConfErrors errors);
            failure = string.Join('\n', errors.All.Select(static e => e.Format()));
            ready.Set();
            if (server is not null)
            {
                server.Drained = loop!.Stop;
                loop.Run();
                server.Dispose();
            }
            loop!.Dispose();
        });
        thread.Start();
        Assert.True(ready.Wait(30_000));
        Assert.True(server is not null, failure);
        using (var client = new TcpClient("127.0.0.1", port))
        {
            client.Client.Send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n"u8);
            byte[] buffer = new byte[65536];
            for (int got = 0; got < bytes;)
            {
                got += client.Client.Receive(buffer);
            }
            int own = ((System.Net.IPEndPoint)client.Client.LocalEndPoint!).Port;
            Assert.Equal(isSet, NoDelayOf(port, own));
        }
        loop!.Post(server!.Quit);
        Assert.True(thread.Join(30_000), "the server ends when the last connection has");
        Directory.Delete(folder, recursive: true);
    }

    /// <summary>What the end with these ports has.</summary>
    private static bool NoDelayOf(int local, int remote)
    {
        string key = $"0100007F:{local:X4} 0100007F:{remote:X4} ";
        string line = File.ReadLines("/proc/net/tcp").Single(l => l.Contains(key));
        string inode = line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[9];
        string path = Directory.GetFiles("/proc/self/fd").Single(f =>
            new FileInfo(f).LinkTarget == $"socket:[{inode}]");
        using var handle = new SafeSocketHandle(nint.Parse(Path.GetFileName(path),
            System.Globalization.CultureInfo.InvariantCulture), ownsHandle: false);
        using var socket = new Socket(handle);
        return socket.NoDelay;
    }

    [Fact]
    public void A_text_with_errors_is_not_served_and_all_of_them_are_told()
    {
        using var loop = new InMemoryLoop();
        var options = WebServerOptions.FromText("events { } http { nonsense on; server { listen 80; more off; } }");
        Assert.Null(WebServer.TryStart(loop, options, out ConfErrors errors));
        Assert.Equal(2, errors.All.Count);
    }

    [Fact]
    public void An_address_that_is_taken_is_told_as_nginx_tells_it()
    {
        using var loop = new InMemoryLoop();
        var options = WebServerOptions.FromText("events { } http { server { listen 127.0.0.1:80; } }");
        using WebServer? first = WebServer.TryStart(loop, options, out _);
        Assert.NotNull(first);
        Assert.Null(WebServer.TryStart(loop, options, out ConfErrors errors));
        Assert.Contains("bind() to 127.0.0.1:80 failed (98: Address already in use)", errors.All[0].Message);
    }

    private static WebServerOptions Options(string path, string answer) => WebServerOptions.FromText(
        $"error_log /dev/null; events {{ }} http {{ server {{ listen unix:{path}; return 200 {answer}; }} }}");

    private static string Get(string path)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(path));
        socket.Send("GET / HTTP/1.0\r\n\r\n"u8);
        var text = new StringBuilder();
        byte[] buffer = new byte[4096];
        int count;
        while ((count = socket.Receive(buffer)) > 0)
        {
            text.Append(Encoding.Latin1.GetString(buffer, 0, count));
        }
        return text.ToString();
    }
}
