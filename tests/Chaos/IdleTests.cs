// Ten thousand idle keep-alive connections on one worker: another client is served meanwhile, each of them answers
// again.
using System.Net;
using System.Net.Sockets;
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed class IdleTests
{
    private static int Connections => Environment.GetEnvironmentVariable("WEIR_CHAOS_SHORT") is null ? 10_000 : 4_000;

    [Fact]
    public void Ten_thousand_idle_connections_answer_once_more()
    {
        using var weir = ServerProcess.Weir(Conf.Full("""
            daemon off;
            worker_processes 1;
            worker_rlimit_nofile 20000;
            user root;
            pid %DIR%/server.pid;
            error_log %DIR%/error.log info;
            events { worker_connections 19000; }
            http {
                access_log off;
                server { listen 127.0.0.1:%PORT% backlog=4096; keepalive_timeout 300s; location / { return 200 ok; } }
            }
            """));
        byte[] request = Encoding.Latin1.GetBytes(RawClient.Request("GET", "/", []));
        var to = new IPEndPoint(IPAddress.Loopback, weir.Port);
        var sockets = new List<Socket>();
        try
        {
            for (int i = 0; i < Connections; i++)
            {
                var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                socket.Connect(to);
                sockets.Add(socket);
                Assert.EndsWith("ok", Ask(socket, request), StringComparison.Ordinal);
            }
            using (RawClient active = weir.Connect())
            {
                for (int i = 0; i < 200; i++)
                {
                    Assert.Equal("ok", active.Get("/").Text);
                }
            }
            foreach (Socket socket in sockets)
            {
                Assert.EndsWith("ok", Ask(socket, request), StringComparison.Ordinal);
            }
        }
        finally
        {
            sockets.ForEach(static s => s.Dispose());
        }
    }

    [Fact]
    public void When_connections_run_out_the_longest_idle_makes_room()
    {
        using var weir = ServerProcess.Weir(Conf.Full("""
            daemon off;
            worker_processes 1;
            user root;
            pid %DIR%/server.pid;
            error_log %DIR%/error.log info;
            events { worker_connections 32; }
            http { access_log off; server { listen 127.0.0.1:%PORT%; location / { return 200 ok; } } }
            """));
        var clients = new List<RawClient>();
        for (int i = 0; i < 100; i++)
        {
            RawClient client = weir.Connect();
            clients.Add(client);
            Assert.Equal("ok", client.Get("/").Text);
        }
        Assert.Equal("ok", clients[^1].Get("/").Text);
        Assert.ThrowsAny<Exception>(() => clients[0].Get("/"));
        clients.ForEach(static c => c.Dispose());
    }

    private static string Ask(Socket socket, byte[] request)
    {
        socket.Send(request);
        byte[] buffer = new byte[2048];
        int n = 0;
        while (true)
        {
            int got = socket.Receive(buffer, n, buffer.Length - n, SocketFlags.None);
            n += got;
            string text = Encoding.Latin1.GetString(buffer, 0, n);
            if (got == 0 || text.EndsWith("ok", StringComparison.Ordinal))
            {
                return text;
            }
        }
    }
}
