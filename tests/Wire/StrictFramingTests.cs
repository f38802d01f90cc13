// Where RFC 9112 leaves no choice, a request is refused with 400 and the connection closed; nothing of it reaches an
// upstream.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class StrictFramingTests
{
    private const string Host = "Host: x\r\n";

    public static TheoryData<string, string> Refused => new()
    {
        { "no Host", "GET / HTTP/1.1\r\n\r\n" },
        { "two Hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n" },
        { "a Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n" },
        { "two lengths that differ", $"POST / HTTP/1.1\r\n{Host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab" },
        { "two lengths that agree", $"POST / HTTP/1.1\r\n{Host}Content-Length: 1\r\nContent-Length: 1\r\n\r\na" },
        { "a list of lengths", $"POST / HTTP/1.1\r\n{Host}Content-Length: 1, 1\r\n\r\na" },
        { "a length with a sign", $"POST / HTTP/1.1\r\n{Host}Content-Length: +1\r\n\r\na" },
        { "a length that overflows", $"POST / HTTP/1.1\r\n{Host}Content-Length: 99999999999999999999\r\n\r\na" },
        { "a length and chunks",
            $"POST / HTTP/1.1\r\n{Host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
        { "two transfer codings",
            $"POST / HTTP/1.1\r\n{Host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" },
        { "a bare CR in a value", $"GET / HTTP/1.1\r\n{Host}A: b\rc\r\n\r\n" },
        { "a NUL in a value", $"GET / HTTP/1.1\r\n{Host}A: b\0c\r\n\r\n" },
        { "a folded line", $"GET / HTTP/1.1\r\n{Host}A: b\r\n c\r\n\r\n" },
        { "a space before a colon", $"GET / HTTP/1.1\r\n{Host}A : b\r\n\r\n" },
        { "a space before the first name", $"GET / HTTP/1.1\r\n {Host}\r\n" },
        { "a tab in the request line", $"GET\t/ HTTP/1.1\r\n{Host}\r\n" },
        { "a control byte in the target", $"GET /\x01 HTTP/1.1\r\n{Host}\r\n" },
        { "a lower-case method", $"get / HTTP/1.1\r\n{Host}\r\n" },
        { "a chunk size with a sign",
            $"POST / HTTP/1.1\r\n{Host}Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n" },
        { "a chunk size with a prefix",
            $"POST / HTTP/1.1\r\n{Host}Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n" },
        { "a chunk that is longer than it says",
            $"POST / HTTP/1.1\r\n{Host}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" },
        { "a chunk size that overflows",
            $"POST / HTTP/1.1\r\n{Host}Transfer-Encoding: chunked\r\n\r\n{new string('f', 17)}\r\n" },
    };

    [Theory, MemberData(nameof(Refused))]
    public void A_request_that_two_parsers_could_read_two_ways_is_refused(string what, string request)
    {
        Assert.NotEmpty(what);
        using Upstream upstream = Upstream.Answering(_ => Upstream.Ok("reached"));
        using var weir = ServerProcess.Weir(
            Conf.Server("location / { proxy_pass http://127.0.0.1:%UPSTREAM%; }"), upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        client.Send(request);
        HttpResponse response = client.ReadResponse();
        Assert.Equal(400, response.Status);
        Assert.Equal("close", response["Connection"]);
        Assert.True(client.WaitClosed());
        Assert.Empty(upstream.Requests);
    }

    public static TheoryData<string> Unusual => new() { "A_B: c", "A!#$%&'*+-.^`|~: c", "Ä: c" };

    [Theory, MemberData(nameof(Unusual))]
    public void A_name_that_is_only_unusual_does_not_cost_the_request(string header)
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 ok; }"));
        Assert.Equal(200, weir.Get("/", header).Status);
    }

    [Fact]
    public void Lines_may_end_with_LF_alone_as_in_nginx()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 ok; }"));
        using RawClient client = weir.Connect();
        Assert.Equal(200, client.Send("GET / HTTP/1.1\nHost: x\n\n").ReadResponse().Status);
    }
}
