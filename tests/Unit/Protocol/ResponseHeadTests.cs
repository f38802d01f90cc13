// Upstream response heads: which are accepted, which are refused, how their bodies are framed, and the CGI form.
using System.Text;
using Weir.Protocol.Http1;
using Xunit;
using HttpMethod = Weir.Protocol.Http1.HttpMethod;

namespace Weir.Tests.Unit.Protocol;

public class ResponseHeadTests
{
    private const string Ok = "HTTP/1.1 200 OK\r\n";

    private static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

    private static string Describe(ParseStep step, ResponseHead h, byte[] b)
    {
        if (step != ParseStep.Done)
        {
            return $"{step} {h.Reject}";
        }
        var s = new StringBuilder($"{h.Version} {h.Status} {h.StatusLine} {h.Reason} {h.ContentLength} {h.Chunked} ");
        s.Append($"{h.Connection} {h.KeepAlive} {h.HeadLength} {h.HeadersStart}\n");
        foreach (HeaderField f in h.Fields)
        {
            s.Append($"{Encoding.Latin1.GetString(f.Name(b))}|{Encoding.Latin1.GetString(f.Value(b))}|");
            s.Append($"{f.KnownResponse}\n");
        }
        return s.ToString();
    }

    private static ResponseHead EverySplit(string text, bool cgi, out ParseStep step)
    {
        byte[] bytes = Bytes(text);
        var options = new ParseOptions();
        var whole = new ResponseHead();
        var parser = new ResponseHeadParser();
        parser.Reset(cgi);
        step = parser.Parse(bytes, whole, in options);
        string expected = Describe(step, whole, bytes);
        for (int split = 0; split <= bytes.Length; split++)
        {
            var head = new ResponseHead();
            parser.Reset(cgi);
            ParseStep now = parser.Parse(bytes.AsSpan(0, split), head, in options);
            now = now == ParseStep.NeedMore ? parser.Parse(bytes, head, in options) : now;
            Assert.Equal(expected, Describe(now, head, bytes));
        }
        var slow = new ResponseHead();
        parser.Reset(cgi);
        ParseStep last = ParseStep.NeedMore;
        for (int n = 1; n <= bytes.Length && last == ParseStep.NeedMore; n++)
        {
            last = parser.Parse(bytes.AsSpan(0, n), slow, in options);
        }
        Assert.Equal(expected, Describe(last, slow, bytes));
        return whole;
    }

    private static ResponseHead Accept(string text, bool cgi = false)
    {
        ResponseHead head = EverySplit(text, cgi, out ParseStep step);
        Assert.True(step == ParseStep.Done, $"{step} {head.Reject}: {text}");
        return head;
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\n\r\n", 200)]
    [InlineData("HTTP/1.1 200 OK\n\n", 200)]
    [InlineData("HTTP/1.0 404 Not Found\r\n\r\n", 404)]
    [InlineData("HTTP/1.1 200\r\n\r\n", 200)]
    [InlineData("HTTP/1.1 200 \r\n\r\n", 200)]
    [InlineData("HTTP/1.1  200 OK\r\n\r\n", 200)]
    [InlineData("HTTP/1.1 999 Odd\r\n\r\n", 999)]
    [InlineData("HTTP/1.1 200 \u00e9t\u00e9\tx\r\n\r\n", 200)]
    [InlineData("HTTP/1.2 200 OK\r\n\r\n", 200)]
    [InlineData("HTTP/1.1 100 Continue\r\n\r\n", 100)]
    [InlineData(Ok + "Content-Length: 5\r\n\r\n", 200)]
    [InlineData(Ok + "Transfer-Encoding: Chunked\r\n\r\n", 200)]
    [InlineData(Ok + "Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n", 200)]
    [InlineData(Ok + "X_Under: 1\r\nX.Dot: 2\r\n\r\n", 200)]
    [InlineData(Ok + "Empty:\r\n\r\n", 200)]
    [InlineData(Ok + "A: \u00ff\r\n\r\n", 200)]
    [InlineData(Ok + "Status: 500\r\n\r\n", 200)]
    public void Accepted(string text, int status) => Assert.Equal(status, Accept(text).Status);

    [Theory]
    [InlineData("<html>\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/2.0 200 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/0.9 200 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("http/1.1 200 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1200 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.10 200 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.x 200 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1 20 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1 2000 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1 200OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1 099 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1 -20 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1\t200 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1 200 O\rK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1 200 O\0K\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("HTTP/1.1 \r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData("\r\nHTTP/1.1 200 OK\r\n\r\n", RejectReason.InvalidStatusLine)]
    [InlineData(Ok + " A: b\r\n\r\n", RejectReason.InvalidUpstreamHeader)]
    [InlineData(Ok + "A: b\r\n c\r\n\r\n", RejectReason.InvalidUpstreamHeader)]
    [InlineData(Ok + "A : b\r\n\r\n", RejectReason.InvalidUpstreamHeader)]
    [InlineData(Ok + "A(: b\r\n\r\n", RejectReason.InvalidUpstreamHeader)]
    [InlineData(Ok + "A\r\n\r\n", RejectReason.InvalidUpstreamHeader)]
    [InlineData(Ok + ": b\r\n\r\n", RejectReason.InvalidUpstreamHeader)]
    [InlineData(Ok + "A: b\rc\r\n\r\n", RejectReason.InvalidUpstreamHeader)]
    [InlineData(Ok + "A: b\0\r\n\r\n", RejectReason.InvalidUpstreamHeader)]
    [InlineData(Ok + "A: b\u007f\r\n\r\n", RejectReason.InvalidUpstreamHeader)]
    [InlineData(Ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", RejectReason.UpstreamDuplicateHeader)]
    [InlineData(Ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", RejectReason.UpstreamDuplicateHeader)]
    [InlineData(Ok + "Content-Length: x\r\n\r\n", RejectReason.UpstreamInvalidContentLength)]
    [InlineData(Ok + "Content-Length: -1\r\n\r\n", RejectReason.UpstreamInvalidContentLength)]
    [InlineData(Ok + "Content-Length: 5, 5\r\n\r\n", RejectReason.UpstreamInvalidContentLength)]
    [InlineData(Ok + "Content-Length:\r\n\r\n", RejectReason.UpstreamInvalidContentLength)]
    [InlineData(Ok + "Content-Length: 99999999999999999999\r\n\r\n", RejectReason.UpstreamInvalidContentLength)]
    [InlineData(Ok + "Transfer-Encoding: gzip\r\n\r\n", RejectReason.UpstreamUnknownTransferEncoding)]
    [InlineData(Ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", RejectReason.UpstreamUnknownTransferEncoding)]
    [InlineData(Ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        RejectReason.UpstreamDuplicateHeader)]
    [InlineData(Ok + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        RejectReason.UpstreamLengthAndTransferEncoding)]
    [InlineData(Ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        RejectReason.UpstreamLengthAndTransferEncoding)]
    public void Refused(string text, RejectReason reason)
    {
        ResponseHead head = EverySplit(text, cgi: false, out ParseStep step);
        Assert.Equal(ParseStep.Reject, step);
        Assert.Equal(reason, head.Reject);
        Assert.Equal(502, RejectReasons.Status(reason));
        Assert.StartsWith("upstream sent", RejectReasons.LogText(reason));
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HttpMethod.Get, BodyFraming.Length)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HttpMethod.Head, BodyFraming.None)]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HttpMethod.Get, BodyFraming.Chunked)]
    [InlineData("HTTP/1.1 200 OK\r\n\r\n", HttpMethod.Get, BodyFraming.UntilClose)]
    [InlineData("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", HttpMethod.Get, BodyFraming.None)]
    [InlineData("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", HttpMethod.Get, BodyFraming.None)]
    [InlineData("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", HttpMethod.Get, BodyFraming.None)]
    [InlineData("HTTP/1.1 101 Switching Protocols\r\n\r\n", HttpMethod.Get, BodyFraming.Tunnel)]
    [InlineData("HTTP/1.1 200 OK\r\n\r\n", HttpMethod.Connect, BodyFraming.Tunnel)]
    public void FramingFollowsRfc9112(string text, HttpMethod method, BodyFraming framing) =>
        Assert.Equal(framing, Accept(text).Framing(method));

    [Fact]
    public void KeepAliveFollowsVersionAndConnection()
    {
        Assert.True(Accept(Ok + "\r\n").KeepAlive);
        Assert.False(Accept(Ok + "Connection: close\r\n\r\n").KeepAlive);
        Assert.False(Accept("HTTP/1.0 200 OK\r\n\r\n").KeepAlive);
        Assert.True(Accept("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").KeepAlive);
        Assert.False(
            Accept("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n").KeepAlive);
    }

    [Theory]
    [InlineData("Content-Type: text/html\r\n\r\n", 200)]
    [InlineData("Status: 404 Not Found\r\nContent-Type: text/html\n\n", 404)]
    [InlineData("Status: 404\r\n\r\n", 404)]
    [InlineData("Location: /x\r\n\r\n", 302)]
    [InlineData("Location: /x\r\nStatus: 201 Created\r\n\r\n", 201)]
    [InlineData("Transfer-Encoding: odd\r\n\r\n", 200)]
    [InlineData("\r\n", 200)]
    public void CgiFormTakesTheStatusFromItsField(string text, int status) =>
        Assert.Equal(status, Accept(text, cgi: true).Status);

    [Theory]
    [InlineData("Status: abc\r\n\r\n")]
    [InlineData("Status: 99\r\n\r\n")]
    [InlineData("Status: 2000\r\n\r\n")]
    [InlineData("Status: 099 x\r\n\r\n")]
    [InlineData("Status: 200x\r\n\r\n")]
    [InlineData("Status:\r\n\r\n")]
    public void CgiFormRefusesABrokenStatus(string text)
    {
        ResponseHead head = EverySplit(text, cgi: true, out ParseStep step);
        Assert.Equal(ParseStep.Reject, step);
        Assert.Equal(RejectReason.UpstreamInvalidStatus, head.Reject);
    }

    [Fact]
    public void FieldsAndReasonAreFound()
    {
        string text = "HTTP/1.1 404 Not  Found\r\nset-cookie: a\r\nX-Accel-Buffering: no\r\nSet-Cookie: b\r\n\r\nbody";
        byte[] b = Bytes(text);
        ResponseHead h = Accept(text);
        Assert.Equal("Not  Found", Encoding.ASCII.GetString(h.Reason.Of(b)));
        Assert.Equal("HTTP/1.1 404 Not  Found", Encoding.ASCII.GetString(h.StatusLine.Of(b)));
        Assert.Equal("no", Encoding.ASCII.GetString(h.Value(KnownResponseHeader.XAccelBuffering, b)));
        int second = h.FindNext(h.Find(KnownResponseHeader.SetCookie));
        Assert.Equal("b", Encoding.ASCII.GetString(h[second].Value(b)));
        Assert.Equal(text.Length - 4, h.HeadLength);
    }

    [Fact]
    public void WarmParsesAllocateNothing()
    {
        byte[] bytes = Bytes(Ok + "Content-Type: text/html\r\nContent-Length: 3\r\nSet-Cookie: a\r\nX-Y: z\r\n\r\n");
        var head = new ResponseHead();
        var parser = new ResponseHeadParser();
        var options = new ParseOptions();
        long before = 0;
        for (int i = 0; i < 10_100; i++)
        {
            if (i == 100)
            {
                before = GC.GetAllocatedBytesForCurrentThread();
            }
            parser.Reset(cgi: false);
            if (parser.Parse(bytes, head, in options) != ParseStep.Done)
            {
                throw new InvalidOperationException();
            }
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }
}
