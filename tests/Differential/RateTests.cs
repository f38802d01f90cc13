// How many bytes leave at once under limit_rate_after, and how many a temporary file of the proxy takes: one below the
// limit, at it and one above, beside nginx.
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Differential;

public sealed class RateTests
{
    /// <summary>The head counts; a rate of a byte a second adds one.</summary>
    [NeedsFact("nginx")]
    public void So_many_bytes_leave_at_once_head_and_body()
    {
        using var files = new TempDir();
        files.Write("f.txt", new string('x', 20_000));
        int[] limits = [0, 4999, 5000, 5001, 20_000];
        Harness.Conf conf = Harness.Conf.Server(string.Concat(limits.Select(static n =>
            $"location /{n}/ {{ alias %FILES%/; "
            + $"limit_rate 1; limit_rate_after {n}; }} ")));
        using var nginx = ServerProcess.Nginx(conf, files);
        using var weir = ServerProcess.Weir(conf, files);
        foreach (int limit in limits)
        {
            int head = HeadBytes(weir, limit);
            // A head is not cut: it leaves whole, and the body waits until the rate has caught up.
            Assert.Equal((limit + 1, Math.Max(limit + 1, head)), (Burst(nginx, limit), Burst(weir, limit)));
        }
    }

    private static int HeadBytes(ServerProcess server, int limit)
    {
        using RawClient client = server.Connect();
        client.Send(RawClient.Request("HEAD", $"/{limit}/f.txt", ["Connection: close"]));
        // Of a HEAD it is the same, but for what says that the connection ends.
        return client.ReadToEnd().Length - "close".Length + "keep-alive".Length;
    }

    /// <summary>The clock adds a byte each second: the least of several tries saw none of that.</summary>
    private static int Burst(ServerProcess server, int limit)
    {
        int least = int.MaxValue;
        for (int i = 0; i < 4; i++)
        {
            using RawClient client = server.Connect();
            client.Send(RawClient.Request("GET", $"/{limit}/f.txt", []));
            Assert.True(client.WaitForBytes(10_000));
            least = Math.Min(least, client.ReadUntilQuiet(150).Length);
        }
        return least;
    }

    /// <summary>A client that reads nothing: the file grows to its limit and no further. nginx writes whole buffers and
    /// never a part of one.</summary>
    [NeedsTheory("nginx")]
    [InlineData(65535)]
    [InlineData(65536)]
    [InlineData(65537)]
    public void A_temporary_file_grows_to_its_limit(int limit)
    {
        const int buffer = 4096;
        using Upstream upstream = Upstream.Answering(Upstream.Ok(new string('x', 20_000_000)));
        Harness.Conf conf = Harness.Conf.Server($$"""
            location / {
                proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_temp_path %DIR%/here;
                proxy_buffer_size {{buffer}}; proxy_buffers 2 {{buffer}}; proxy_busy_buffers_size {{buffer}};
                proxy_max_temp_file_size {{limit}}; proxy_temp_file_write_size 8k;
            }
            """);
        using var nginx = ServerProcess.Nginx(conf, upstreamPort: upstream.Port);
        using var weir = ServerProcess.Weir(conf, upstreamPort: upstream.Port);
        Assert.Equal((limit / buffer * buffer, limit), (Grown(nginx), Grown(weir)));
    }

    /// <summary>The size of the file that the server or a worker has open in that folder, when it grows no
    /// more.</summary>
    private static long Grown(ServerProcess server)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
        {
            ReceiveBufferSize = 4096,
        };
        socket.Connect(IPAddress.Loopback, server.Port);
        socket.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"u8);
        int[] pids = [server.Process.Pid, .. server.Workers()];
        long size = 0;
        for (int quiet = 0; quiet < 10; quiet++)
        {
            Thread.Sleep(100);
            long now = pids.Max(pid => OpenBytes(pid, server.Dir.At("here")));
            quiet = now == size && now > 0 ? quiet : -1;
            size = now;
        }
        return size;
    }

    private static long OpenBytes(int pid, string folder) => Directory.GetFiles($"/proc/{pid}/fd")
        .Where(f => new FileInfo(f).LinkTarget?.StartsWith(folder, StringComparison.Ordinal) == true)
        .Select(static f => long.Parse(ChildProcess.Run("stat", "-L", "-c", "%s", f).Output,
            CultureInfo.InvariantCulture)).DefaultIfEmpty().Max();
}
