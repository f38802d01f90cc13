// What seeds of the simulation found in the server, each as a test of its own: tests/Simulation plays the seeds.
using Weir.Kernel;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class SeedTests
{
    private static readonly byte[] s_origin = SocketAddress.Parse("127.0.0.1:9000").Native.ToArray();

    /// <summary>Seed 8369: the log line of a head that never came whole read the head of an earlier request, whose
    /// memory was given back.</summary>
    [Fact]
    public void A_head_that_times_out_is_not_logged_with_the_memory_of_an_earlier_one()
    {
        using var server = new MemoryServer(
            "client_header_timeout 5s; server { listen 127.0.0.1:80; location / { return 204; } }");
        InMemoryPeer first = server.Connect();
        Assert.StartsWith("HTTP/1.1 204", server.Exchange(first, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        first.Close();
        server.Settle();
        InMemoryPeer second = server.Connect();
        server.Exchange(second, $"GET /{new string('l', 200)} HTTP/1.1\r\nHost: b\r\nA: ");
        server.Loop.AdvanceClock(6_000);
        server.Settle();
        Assert.Equal(0, server.Http.RequestsInUse);
        Assert.DoesNotContain("Exception", server.ErrorLog);
        Assert.DoesNotContain("host:", server.ErrorLog);
        Assert.Contains("client timed out", server.ErrorLog);
    }

    /// <summary>Seed 27263: a client that was gone when the origin agreed to the upgrade.</summary>
    [Fact]
    public void An_upgrade_for_a_client_that_has_gone_ends_without_an_exception()
    {
        using var server = new MemoryServer("""
            server { listen 127.0.0.1:80; location / {
                proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
                proxy_ignore_client_abort on; proxy_pass http://127.0.0.1:9000; } }
            """);
        InMemoryPeer? origin = null;
        server.Loop.ListenPeers(s_origin, peer => origin = peer);
        InMemoryPeer client = server.Connect();
        server.Exchange(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        client.Reset();
        server.Settle();
        origin!.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        server.Settle();
        origin.Close();
        server.Loop.AdvanceClock(100_000);
        Assert.DoesNotContain("Exception", server.ErrorLog);
        Assert.Equal(0, server.Http.RequestsInUse);
        Assert.Equal(0, server.Http.ActiveCount);
    }

    /// <summary>Seed 22852: a reset may overtake the bytes before it; nginx ends with FIN, and the length tells the
    /// client that the rest is missing.</summary>
    [Theory]
    [InlineData("Content-Length: 10\r\n\r\nhalf", "half")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n5\r\nhal", "hal")]
    public void An_answer_cut_short_ends_without_a_reset_where_its_framing_tells(string answer, string passed)
    {
        using var server = new MemoryServer(
            "server { listen 127.0.0.1:80; location / { proxy_pass http://127.0.0.1:9000; } }");
        server.Loop.ListenPeers(s_origin, peer => peer.Arrived = p =>
        {
            if (p.ReadText().Length > 0)
            {
                p.Send($"HTTP/1.1 200 OK\r\n{answer}");
                p.Close();
            }
        });
        InMemoryPeer client = server.Connect();
        string heard = server.Exchange(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        Assert.Contains(passed, heard);
        Assert.DoesNotContain("\r\n0\r\n", heard);
        Assert.True(client.IsEnded);
        Assert.False(client.IsReset);
    }
}
