// How a client's connection lives: persistence, pipelining, pieces, half-close, bodies, 100-continue, idle ends.
// Everything that does not depend on timing is asked of one worker without a master, of one with, and of two.
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class ConnectionTests
{
    private const string Answer = "location / { return 200 \"$request_method $uri\"; }";

    /// <summary>Workers, and whether a master runs them.</summary>
    public static TheoryData<int, bool> Shapes => Conf.Engine == "portable"
        ? new() { { 1, false } }
        : new() { { 1, false }, { 1, true }, { 2, true } };

    [Theory, MemberData(nameof(Shapes))]
    public void A_connection_carries_many_requests(int workers, bool master)
    {
        using var weir = ServerProcess.Weir(Conf.Server(Answer, workers: workers, master: master));
        using RawClient client = weir.Connect();
        for (int i = 0; i < 100; i++)
        {
            HttpResponse response = client.Get($"/{i}");
            Assert.Equal(200, response.Status);
            Assert.Equal($"GET /{i}", response.Text);
            Assert.Equal("keep-alive", response["Connection"]);
        }
    }

    [Theory, MemberData(nameof(Shapes))]
    public void Many_connections_are_answered_side_by_side(int workers, bool master)
    {
        using var weir = ServerProcess.Weir(Conf.Server(Answer, workers: workers, master: master));
        RawClient[] clients = Enumerable.Range(0, 200).Select(_ => weir.Connect()).ToArray();
        foreach (RawClient client in clients)
        {
            client.Send(RawClient.Request("GET", "/x", []));
        }

        Assert.All(clients, client => Assert.Equal("GET /x", client.ReadResponse().Text));
        foreach (RawClient client in clients)
        {
            client.Dispose();
        }
    }

    [Fact]
    public void Pipelined_requests_are_answered_in_order_and_in_few_writes()
    {
        using var weir = ServerProcess.Weir(Conf.Server(Answer));
        using RawClient client = weir.Connect();
        client.Send(string.Concat(Enumerable.Range(0, 64).Select(i => RawClient.Request("GET", $"/{i}", []))));
        for (int i = 0; i < 64; i++)
        {
            Assert.Equal($"GET /{i}", client.ReadResponse().Text);
        }
    }

    [Fact]
    public void A_request_may_be_split_at_every_byte()
    {
        using var weir = ServerProcess.Weir(Conf.Server(Answer));
        using RawClient client = weir.Connect();
        byte[] request = Encoding.Latin1.GetBytes(RawClient.Request("POST", "/p?q", ["A: b"], "body"));
        for (int at = 1; at < request.Length; at++)
        {
            client.SendSplit(request, at);
            Assert.Equal("POST /p", client.ReadResponse().Text);
        }
    }

    [Fact]
    public void A_half_closed_client_gets_its_answer_and_then_the_end()
    {
        using var weir = ServerProcess.Weir(Conf.Server(Answer));
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/half", [])).HalfClose();
        Assert.Equal("GET /half", client.ReadResponse().Text);
        Assert.True(client.WaitClosed());
    }

    [Fact]
    public void A_body_nobody_asked_for_does_not_cost_the_connection()
    {
        using var weir = ServerProcess.Weir(Conf.Server(Answer));
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/1", [], new string('b', 200_000)));
        Assert.Equal("POST /1", client.ReadResponse().Text);
        client.Send("POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n");
        Assert.Equal("POST /2", client.ReadResponse().Text);
        Assert.Equal("GET /3", client.Get("/3").Text);
    }

    [Fact]
    public void A_client_that_expects_100_gets_it_before_the_body_is_read()
    {
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Body));
        using var weir = ServerProcess.Weir(
            Conf.Server("location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }"), upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        Assert.Equal(100, client.ReadResponse().Status);
        client.Send("hello");
        Assert.Equal("hello", client.ReadResponse().Text);
    }

    [Fact]
    public void A_body_over_the_limit_is_refused_before_it_is_sent()
    {
        using var weir = ServerProcess.Weir(
            Conf.Server("client_max_body_size 10; location / { proxy_pass http://127.0.0.1:1; }"));
        using RawClient client = weir.Connect();
        client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n");
        Assert.Equal(413, client.ReadResponse().Status);
    }

    [Fact]
    public void An_idle_connection_is_closed_after_its_time()
    {
        using var weir = ServerProcess.Weir(Conf.Server("keepalive_timeout 1s;" + Answer));
        using RawClient client = weir.Connect();
        client.Get("/");
        Assert.True(client.WaitClosed(10_000));
    }

    [Fact]
    public void A_head_that_never_ends_is_given_up()
    {
        using var weir = ServerProcess.Weir(Conf.Server("client_header_timeout 1s;" + Answer));
        using RawClient client = weir.Connect();
        client.Send("GET / HTTP/1.1\r\nHost: x\r\nA: ");
        client.ReadToEnd(10_000);
    }

    [Theory, MemberData(nameof(Shapes))]
    public void A_large_answer_arrives_whole_at_a_slow_reader(int workers, bool master)
    {
        using var files = new TempDir();
        byte[] content = new byte[4_000_000];
        new Random(1).NextBytes(content);
        files.Write("big.bin", content);
        using var weir = ServerProcess.Weir(
            Conf.Server("location / { root %FILES%; }", workers: workers, master: master), files);
        using RawClient client = weir.Connect();
        client.Socket.ReceiveBufferSize = 256 * 1024;
        client.Send(RawClient.Request("GET", "/big.bin", []));
        // The server has filled what the sockets hold and waits.
        Wait.For("a full socket", () => client.Socket.Available > 200_000);
        Assert.Equal(content, client.ReadResponse().Body);
        Assert.Equal(content.AsSpan(1_000_000, 500).ToArray(),
            client.Get("/big.bin", "Range: bytes=1000000-1000499").Body);
    }

    [Fact]
    public void A_unix_socket_and_IPv6_are_listened_on()
    {
        using var weir = ServerProcess.Weir(Conf.Http("""
            server {
                listen 127.0.0.1:%PORT%; listen unix:%DIR%/s.sock; listen [::1]:%PORT%;
                return 200 "$server_addr"; }
            """));
        // Ready is the first listener; the answer on it comes when all are.
        Assert.Equal(200, weir.Get("/").Status);
        using (RawClient unix =
            RawClient.Connect(new System.Net.Sockets.UnixDomainSocketEndPoint(weir.Dir.At("s.sock"))))
        {
            Assert.Equal(200, unix.Get("/").Status);
        }

        using RawClient six = RawClient.Connect(new System.Net.IPEndPoint(System.Net.IPAddress.IPv6Loopback,
            weir.Port));
        Assert.Equal("::1", six.Get("/").Text.Trim('[', ']'));
    }

    [Fact]
    public void The_PROXY_protocol_names_the_client()
    {
        using var weir = ServerProcess.Weir(Conf.Http("""
            server {
                listen 127.0.0.1:%PORT% proxy_protocol;
                set_real_ip_from 127.0.0.0/8; real_ip_header proxy_protocol;
                return 200 "$proxy_protocol_addr $proxy_protocol_port $remote_addr";
            }
            """));
        using (RawClient first = weir.Connect())
        {
            first.Send("PROXY TCP4 203.0.113.7 192.0.2.1 4567 80\r\n");
            Assert.Equal("203.0.113.7 4567 203.0.113.7", first.Get("/").Text);
        }

        using RawClient second = weir.Connect();
        second.Send([0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12,
            203, 0, 113, 8, 192, 0, 2, 1, 0x12, 0x34, 0, 80]);
        Assert.Equal("203.0.113.8 4660 203.0.113.8", second.Get("/").Text);
    }
}
