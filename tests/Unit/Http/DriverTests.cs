// The HTTP/1 driver on the in-memory engine: what one connection may expect of it.
using Weir.Http;
using Weir.Loop;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class DriverTests
{
    private const string Site = "server { listen 127.0.0.1:80; location / { return 200 \"hello\"; } "
        + "location /post { return 204; } }";

    private const string Get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    [Fact]
    public void A_connection_is_kept_and_answers_again()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer peer = server.Connect();
        for (int i = 0; i < 3; i++)
        {
            string answer = server.Exchange(peer, Get);
            Assert.StartsWith("HTTP/1.1 200 OK\r\n", answer);
            Assert.EndsWith("\r\n\r\nhello", answer);
            Assert.Contains("Connection: keep-alive\r\n", answer);
        }
        Assert.False(peer.IsEnded);
    }

    [Fact]
    public void A_head_in_pieces_of_one_byte_is_the_same_request()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer peer = server.Connect();
        foreach (char c in Get)
        {
            Assert.Equal("", peer.ReadText());
            peer.Send(c.ToString());
            server.Settle();
        }
        Assert.EndsWith("hello", peer.ReadText());
    }

    [Fact]
    public void A_head_of_megabytes_is_not_copied_for_every_piece_of_it()
    {
        using var server = new MemoryServer("server { listen 127.0.0.1:80; large_client_header_buffers 2 8m; "
            + "location / { return 200 \"hello\"; } }");
        InMemoryPeer peer = server.Connect();
        peer.Send("GET / HTTP/1.1\r\nHost: a\r\nLong: ");
        string piece = new('k', 4096);
        for (int i = 0; i < 1024; i++)
        {
            peer.Send(piece);
            server.Loop.RunTurn(0);
        }
        Assert.InRange(server.Loop.Buffers.LargeCount, 1, 12);
        Assert.EndsWith("hello", server.Exchange(peer, "\r\n\r\n"));
    }

    [Fact]
    public void Pipelined_requests_are_answered_in_order_and_all()
    {
        using var server = new MemoryServer("server { listen 127.0.0.1:80; location / { return 200 $uri; } }");
        InMemoryPeer peer = server.Connect();
        string requests = string.Concat(Enumerable.Range(0, 40).Select(i => $"GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n"));
        string answer = server.Exchange(peer, requests);
        int at = 0;
        for (int i = 0; i < 40; i++)
        {
            int found = answer.IndexOf($"\r\n\r\n/{i}", at, StringComparison.Ordinal);
            Assert.True(found > at || i == 0, $"answer {i} is missing or out of order");
            at = found;
        }
    }

    [Fact]
    public void Pipelined_answers_that_a_slow_client_takes_later_are_not_overwritten()
    {
        // Bodies beyond what is copied live in their request's arena: it may not die before they have left.
        string half = new('x', 3000);
        string big = half + half;
        using var server = new MemoryServer(
            $"server {{ listen 127.0.0.1:80; location / {{ set $x {half}; return 200 \"$uri $x$x $uri\"; }} }}");
        server.Loop.WindowBytes = 4096;
        InMemoryPeer peer = server.Connect();
        peer.WindowBytes = 4096;
        peer.Send(string.Concat(Enumerable.Range(0, 8).Select(i => $"GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")));
        var answer = new System.Text.StringBuilder();
        for (int i = 0; i < 200; i++)
        {
            server.Settle();
            answer.Append(peer.ReadText());
        }
        string text = answer.ToString();
        for (int i = 0; i < 8; i++)
        {
            Assert.Contains($"\r\n\r\n/{i} {big} /{i}", text);
        }
    }

    [Theory]
    [InlineData("sendfile on; sendfile_max_chunk 256k;", 256, 1)]
    [InlineData("sendfile on; sendfile_max_chunk 1m;", 1024, 1)]
    [InlineData("sendfile on;", 2048, 1)]
    [InlineData("sendfile on; sendfile_max_chunk 0;", 4096, 1)]
    [InlineData("sendfile off; sendfile_max_chunk 256k;", 256, 2)]
    public void A_client_that_takes_a_file_at_once_gets_a_chunk_a_turn(string directives, int chunkKilobytes,
        int chunksOfFirstTurn)
    {
        string folder = Directory.CreateTempSubdirectory("weir-chunk").FullName;
        File.WriteAllBytes(Path.Combine(folder, "large"), new byte[8 << 20]);
        try
        {
            using var server = new MemoryServer($"server {{ listen 127.0.0.1:80; root {folder}; {directives} }}");
            server.Loop.WindowBytes = 64 << 20;
            InMemoryPeer peer = server.Connect();
            peer.Send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");

            List<int> taken = [];
            for (int turn = 0; turn < 200; turn++)
            {
                server.Loop.RunTurn(0);
                int bytes = peer.ReadText().Length;
                if (bytes > 0)
                {
                    taken.Add(bytes);
                }
            }

            Assert.InRange(taken.Sum(), 8 << 20, (8 << 20) + 1024);
            // A reader that yields in the turn that began the answer goes on at its end: two chunks leave in the first.
            Assert.InRange(taken[0], 1, chunksOfFirstTurn * chunkKilobytes * 1024 + 1024);
            Assert.All(taken.Skip(1), n => Assert.InRange(n, 1, chunkKilobytes * 1024 + 1024));
            Assert.Equal(8192 / chunkKilobytes - chunksOfFirstTurn + 1, taken.Count);
            Assert.Null(server.Fault);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void An_idle_connection_holds_no_buffer()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer[] peers = [.. Enumerable.Range(0, 100).Select(_ => server.Connect())];
        foreach (InMemoryPeer peer in peers)
        {
            Assert.EndsWith("hello", server.Exchange(peer, Get));
        }
        Assert.Equal(0, server.Loop.Buffers.RentedBytes);
        Assert.Equal(100, server.Http.ActiveCount);
    }

    [Fact]
    public void A_connection_is_parked_when_it_was_silent_for_a_while_and_answers_again()
    {
        using var server = new MemoryServer("keepalive_timeout 10s;" + Site);
        InMemoryPeer peer = server.Connect();
        Assert.EndsWith("hello", server.Exchange(peer, Get));
        Assert.Equal(0, Parked(server));
        for (int i = 0; i < 3; i++)
        {
            server.Loop.AdvanceClock(1_100);
            server.Settle();
        }
        Assert.Equal(1, Parked(server));
        Assert.EndsWith("hello", server.Exchange(peer, Get));
        Assert.Equal(0, Parked(server));
        for (int i = 0; i < 4; i++)
        {
            server.Loop.AdvanceClock(2_200);
            server.Settle();
        }
        Assert.Equal(1, Parked(server));
        Assert.False(peer.IsEnded);
        server.Loop.AdvanceClock(2_000);
        server.Settle();
        Assert.True(peer.IsEnded);
    }

    [Fact]
    public void Beyond_the_seats_a_connection_is_parked_at_once()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer[] peers = [.. Enumerable.Range(0, 300).Select(_ => server.Connect())];
        for (int i = 0; i < 2; i++)
        {
            foreach (InMemoryPeer peer in peers)
            {
                Assert.EndsWith("hello", server.Exchange(peer, Get));
            }
            Assert.Equal(44, Parked(server));
        }
        for (int i = 0; i < 3; i++)
        {
            server.Loop.AdvanceClock(1_100);
            server.Settle();
        }
        Assert.Equal(300, Parked(server));
        Assert.EndsWith("hello", server.Exchange(peers[299], Get));
        Assert.Equal(299, Parked(server));
        server.Http.Quit();
        server.Settle();
        Assert.EndsWith("hello", server.Exchange(peers[0], Get));
    }

    /// <summary>How many connections wait without a driver.</summary>
    private static int Parked(MemoryServer server)
    {
        int count = 0;
        server.Loop.ForEachIdle(c => count += c.Owner is ListenBinding ? 1 : 0);
        return count;
    }

    [Fact]
    public void Half_a_head_ends_at_client_header_timeout()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer peer = server.Connect();
        server.Exchange(peer, "GET / HT");
        server.Loop.AdvanceClock(59_000);
        server.Settle();
        Assert.False(peer.IsEnded);
        server.Loop.AdvanceClock(2_000);
        server.Settle();
        Assert.True(peer.IsEnded || peer.IsReset);
        Assert.Equal(0, server.Http.ActiveCount);
    }

    [Fact]
    public void A_head_that_trickles_ends_at_client_header_timeout()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer peer = server.Connect();
        foreach (string piece in new[] { "GET / HT", "TP/1.1\r\n", "Host: a\r\n", "A: b" })
        {
            server.Exchange(peer, piece);
            server.Loop.AdvanceClock(14_000);
        }
        server.Loop.AdvanceClock(5_000);
        server.Settle();
        Assert.True(peer.IsEnded || peer.IsReset);
        Assert.Equal(0, server.Http.ActiveCount);
    }

    [Fact]
    public void A_PROXY_header_that_trickles_ends_at_client_header_timeout()
    {
        using var server = new MemoryServer("server { listen 127.0.0.1:80 proxy_protocol; return 204; }");
        InMemoryPeer peer = server.Connect();
        foreach (string piece in new[] { "PROXY ", "TCP4 ", "192.0.2.1 " })
        {
            server.Exchange(peer, piece);
            server.Loop.AdvanceClock(14_000);
        }
        server.Loop.AdvanceClock(20_000);
        server.Settle();
        Assert.True(peer.IsEnded || peer.IsReset);
        Assert.Equal(0, server.Http.ActiveCount);
    }

    [Theory]
    [InlineData("error_page 413 /big; location = /big { return 200 sorry; }")]
    [InlineData("error_page 413 =200 @big; location @big { return 200 sorry; }")]
    public void A_body_that_is_too_large_may_have_a_page_of_its_own(string page)
    {
        using var server = new MemoryServer(
            $"server {{ listen 127.0.0.1:80; client_max_body_size 5; {page} location / {{ return 200 never; }} }}");
        InMemoryPeer peer = server.Connect();
        string answer = server.Exchange(peer, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        Assert.EndsWith("\r\n\r\nsorry", answer);
    }

    [Fact]
    public void An_idle_connection_ends_at_keepalive_timeout()
    {
        using var server = new MemoryServer("keepalive_timeout 10s;" + Site);
        InMemoryPeer peer = server.Connect();
        server.Exchange(peer, Get);
        server.Loop.AdvanceClock(9_000);
        server.Settle();
        Assert.False(peer.IsEnded);
        server.Loop.AdvanceClock(2_000);
        server.Settle();
        Assert.True(peer.IsEnded);
    }

    [Fact]
    public void A_body_that_nobody_reads_is_discarded_and_the_connection_goes_on()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer peer = server.Connect();
        string first = server.Exchange(peer, "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
        string rest = server.Exchange(peer, "def" + Get);
        Assert.Contains("204 No Content", first + rest);
        Assert.EndsWith("hello", first + rest);
    }

    [Fact]
    public void A_chunked_body_that_nobody_reads_is_discarded()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer peer = server.Connect();
        string answer = server.Exchange(peer,
            "POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + Get);
        Assert.Contains("204 No Content", answer);
        Assert.EndsWith("hello", answer);
    }

    [Theory]
    [InlineData("GET / HTTP/1.1\r\n\r\n", "400")]
    [InlineData("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400")]
    [InlineData("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400")]
    [InlineData("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400")]
    [InlineData("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "400")]
    [InlineData("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "400")]
    [InlineData("GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", "400")]
    [InlineData("get / HTTP/1.1\r\nHost: a\r\n\r\n", "400")]
    [InlineData("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505")]
    [InlineData("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501")]
    public void What_rfc_9112_refuses_is_refused_and_the_connection_closed(string bytes, string status)
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer peer = server.Connect();
        string answer = server.Exchange(peer, bytes);
        Assert.StartsWith($"HTTP/1.1 {status} ", answer);
        Assert.Contains("Connection: close\r\n", answer);
        server.Loop.AdvanceClock(40_000);
        server.Settle();
        Assert.Equal(0, server.Http.ActiveCount);
    }

    [Fact]
    public void A_request_line_over_the_large_buffer_is_414()
    {
        using var server = new MemoryServer(Site);
        string Path(int length) => $"GET /{new string('x', length)} HTTP/1.1\r\nHost: a\r\n\r\n";
        // The request line with its line end fills the buffer of 8,192 bytes exactly.
        int exact = 8192 - "GET / HTTP/1.1\r\n".Length;
        Assert.StartsWith("HTTP/1.1 200", server.Exchange(server.Connect(), Path(exact - 1)));
        Assert.StartsWith("HTTP/1.1 414", server.Exchange(server.Connect(), Path(exact + 1)));
    }

    [Fact]
    public void A_reload_is_seen_by_the_next_request_of_a_kept_connection()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer peer = server.Connect();
        Assert.EndsWith("hello", server.Exchange(peer, Get));
        HttpConfiguration first = server.Http.Configuration!;
        server.Apply("server { listen 127.0.0.1:80; location / { return 200 \"changed\"; } }");
        Assert.True(first.IsDisposed);
        Assert.EndsWith("changed", server.Exchange(peer, Get));
        Assert.Equal(1, server.Http.ActiveCount);
    }

    [Fact]
    public void A_reload_without_the_address_ends_its_connections()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer peer = server.Connect();
        server.Exchange(peer, Get);
        server.Apply("server { listen 127.0.0.1:81; location / { return 200 \"other\"; } }");
        server.Settle();
        Assert.True(peer.IsEnded);
        Assert.True(server.Connect().IsRefused || server.Http.ActiveCount == 0);
    }

    [Fact]
    public void Quitting_answers_one_more_request_with_close()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer asks = server.Connect();
        InMemoryPeer silent = server.Connect();
        server.Exchange(asks, Get);
        server.Exchange(silent, Get);
        bool drained = false;
        server.Http.Drained = () => drained = true;
        server.Http.Quit();
        string answer = server.Exchange(asks, Get);
        Assert.Contains("Connection: close\r\n", answer);
        Assert.False(drained);
        server.Loop.AdvanceClock(5_000);
        server.Settle();
        Assert.True(drained);
        Assert.True(silent.IsEnded);
    }

    [Fact]
    public void The_state_counters_return_to_nothing()
    {
        using var server = new MemoryServer(Site);
        InMemoryPeer kept = server.Connect();
        server.Exchange(kept, Get);
        Assert.Equal(1, server.Counters.Read(StatusCounter.Waiting));
        Assert.Equal(1, server.Counters.Read(StatusCounter.Active));
        InMemoryPeer half = server.Connect();
        server.Exchange(half, "GET / ");
        Assert.Equal(1, server.Counters.Read(StatusCounter.Reading));
        kept.Close();
        half.Close();
        server.Settle();
        foreach (StatusCounter gauge in (StatusCounter[])
            [StatusCounter.Active, StatusCounter.Reading, StatusCounter.Writing, StatusCounter.Waiting])
        {
            Assert.Equal(0, server.Counters.Read(gauge));
        }
        Assert.Equal(2, server.Counters.Read(StatusCounter.Accepted));
    }
}
