// The request head parser: what it accepts and what it says about it, what it refuses and why, and that pieces, splits
// and reuse change nothing.
using System.Text;
using Weir.Protocol.Http1;
using Xunit;

namespace Weir.Tests.Unit.Protocol;

public class RequestHeadTests
{
    private const string Get = "GET / HTTP/1.1\r\nHost: a\r\n";

    private static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

    internal static ParseStep Parse(string text, RequestHead head, ParseOptions options)
    {
        var parser = new RequestHeadParser();
        return parser.Parse(Bytes(text), head, in options);
    }

    private static RequestHead Accept(string text) => Accept(text, new ParseOptions());

    private static RequestHead Accept(string text, ParseOptions options)
    {
        var head = new RequestHead();
        ParseStep step = Parse(text, head, options);
        Assert.True(step == ParseStep.Done, $"{step} {head.Reject}: {text}");
        Assert.Equal(text.Length, head.HeadLength);
        Assert.Equal(Describe(head, Bytes(text)), DescribeSplit(text, options));
        return head;
    }

    /// <summary>Feeds the head split in two at every byte, then byte by byte; all outcomes must agree.</summary>
    private static string DescribeSplit(string text, ParseOptions options)
    {
        byte[] bytes = Bytes(text);
        string? agreed = null;
        for (int split = 0; split <= bytes.Length; split++)
        {
            var head = new RequestHead();
            var parser = new RequestHeadParser();
            ParseStep step = parser.Parse(bytes.AsSpan(0, split), head, in options);
            if (step == ParseStep.NeedMore)
            {
                step = parser.Parse(bytes, head, in options);
            }
            string now = step == ParseStep.Reject ? head.Reject.ToString() : Describe(head, bytes);
            agreed ??= now;
            Assert.True(agreed == now, $"split at {split}: {agreed} / {now}");
        }
        var slow = new RequestHead();
        var slowParser = new RequestHeadParser();
        ParseStep last = ParseStep.NeedMore;
        for (int n = 1; n <= bytes.Length && last == ParseStep.NeedMore; n++)
        {
            last = slowParser.Parse(bytes.AsSpan(0, n), slow, in options);
        }
        Assert.Equal(agreed, last == ParseStep.Reject ? slow.Reject.ToString() : Describe(slow, bytes));
        return agreed!;
    }

    private static string Describe(RequestHead h, byte[] b)
    {
        var s = new StringBuilder();
        s.Append($"{h.Method} {h.MethodRange} {h.Target} {h.Form} {h.UriFlags} {h.Scheme} {h.Path} {h.Query} ");
        s.Append($"{h.RequestLine} {h.Version} {h.Host} {h.HostPort} {h.HostHasUpper} {h.ContentLength} {h.Chunked} ");
        s.Append($"{h.Expect100} {h.Connection} {h.KeepAliveRequested} {h.UpgradeRequested} {h.HeadLength} ");
        s.Append($"{h.RequestStart} {h.HeadersStart}\n");
        foreach (HeaderField f in h.Fields)
        {
            s.Append($"{Text(f.Name(b))}|{Text(f.Value(b))}|{f.Known}|{f.Hash}|{f.Dropped}\n");
        }
        return s.ToString();
    }

    private static string Text(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);

    [Theory]
    [InlineData("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\nHost: localhost\n\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: localhost\n\r\n")]
    [InlineData("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("\r\n\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET / HTTP/1.0\r\n\r\n")]
    [InlineData("GET /path\r\n")]
    [InlineData("GET /path\n")]
    [InlineData("GET /path \r\n")]
    [InlineData("GET  /  HTTP/1.1 \r\nHost: a\r\n\r\n")]
    [InlineData("GET / HTTP/1.2\r\nHost: a\r\n\r\n")]
    [InlineData("GET / HTTP/1.9\r\nHost: a\r\n\r\n")]
    [InlineData("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("FOO_BAR / HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("X / HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET /a%20b?c=%41#frag HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET /\u00e9\u00ff HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET /\"<>\\^`{|} HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET http://example.com/x?y HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET http://example.com HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET http://example.com?x HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET HTTPS://Example.COM:8443/ HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET http://[::1]:80/ HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("GET a+b-c.d1://h/ HTTP/1.1\r\nHost: a\r\n\r\n")]
    [InlineData("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: [v1.fe:x]:8080\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a.b.c.:\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: under_score.x\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: a%41b\r\n\r\n")]
    [InlineData(Get + "Empty:\r\n\r\n")]
    [InlineData(Get + "Spaces:   \t  \r\n\r\n")]
    [InlineData(Get + "Tabs:\ta\tb\t\r\n\r\n")]
    [InlineData(Get + "Obs: \u0080\u00ff\r\n\r\n")]
    [InlineData(Get + "Colons: a:b:c\r\n\r\n")]
    [InlineData(Get + "A:b\r\nA:c\r\nA:d\r\n\r\n")]
    [InlineData(Get + "Cookie: a=1\r\nCookie: b=2\r\ncookie: c=3\r\n\r\n")]
    [InlineData(Get + "X_Y: dropped\r\n\r\n")]
    [InlineData(Get + "X.Y: dropped\r\n\r\n")]
    [InlineData(Get + "X(Y): dropped\r\n\r\n")]
    [InlineData(Get + "\u00e9: dropped\r\n\r\n")]
    [InlineData(Get + "Content-Length: 0\r\n\r\n")]
    [InlineData(Get + "Content-Length: 000005\r\n\r\n")]
    [InlineData(Get + "Content-Length: 9223372036854775807\r\n\r\n")]
    [InlineData(Get + "Transfer-Encoding: chunked\r\n\r\n")]
    [InlineData(Get + "Transfer-Encoding: CHUNKED \r\n\r\n")]
    [InlineData(Get + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")]
    [InlineData(Get + "Connection: close\r\nConnection: keep-alive\r\n\r\n")]
    [InlineData(Get + "Connection: ,, Upgrade ,\tfoo\r\nUpgrade: websocket\r\n\r\n")]
    [InlineData("GET / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n")]
    [InlineData("GET /index.html?a=b&c=/../d HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0\r\n"
        + "Accept: */*\r\nAccept-Language: en\r\nAccept-Encoding: gzip, br\r\nReferer: http://x/\r\nCookie: a=b\r\n"
        + "If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 22 Nov 2026 10:17:59 GMT\r\nRange: bytes=0-\r\n\r\n")]
    public void AcceptedHowEverItArrives(string text) => Accept(text);

    [Theory]
    [InlineData("get / HTTP/1.1\r\n\r\n", RejectReason.InvalidMethod)]
    [InlineData("GeT / HTTP/1.1\r\n\r\n", RejectReason.InvalidMethod)]
    [InlineData(" GET / HTTP/1.1\r\n\r\n", RejectReason.InvalidMethod)]
    [InlineData("GET\t/ HTTP/1.1\r\n\r\n", RejectReason.InvalidMethod)]
    [InlineData("GET\r\n\r\n", RejectReason.InvalidMethod)]
    [InlineData("G@T / HTTP/1.1\r\n\r\n", RejectReason.InvalidMethod)]
    [InlineData("G\0T / HTTP/1.1\r\n\r\n", RejectReason.InvalidMethod)]
    [InlineData("\u0016\u0003\u0001\u0002", RejectReason.InvalidMethod)]
    [InlineData("/ HTTP/1.1\r\n\r\n", RejectReason.InvalidMethod)]
    [InlineData("\rGET / HTTP/1.1\r\n\r\n", RejectReason.BareCrInRequestLine)]
    [InlineData("\r\rGET / HTTP/1.1\r\n\r\n", RejectReason.BareCrInRequestLine)]
    [InlineData("GET / HTTP/1.1\rHost: a\r\n\r\n", RejectReason.BareCrInRequestLine)]
    [InlineData("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", RejectReason.BareCrInRequestLine)]
    [InlineData("GET /\rx HTTP/1.1\r\n\r\n", RejectReason.BareCrInRequestLine)]
    [InlineData("GET * HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET index.html HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET \r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET 1http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTargetHost)]
    [InlineData("GET http://u@h/x HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTargetHost)]
    [InlineData("GET http://h:x/ HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTargetHost)]
    [InlineData("GET http://h:65536/ HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTargetHost)]
    [InlineData("GET http://h\\x/ HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTargetHost)]
    [InlineData("CONNECT example.com HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTargetHost)]
    [InlineData("CONNECT example.com:443/x HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTargetHost)]
    [InlineData("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET /\u0001 HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET /\u007f HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET /?\u0007 HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET /#\u0007 HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidTarget)]
    [InlineData("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidRequestLine)]
    [InlineData("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidRequestLine)]
    [InlineData("GET / http/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidRequestLine)]
    [InlineData("GET / HTTP 1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidRequestLine)]
    [InlineData("GET / HTTPS/1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidRequestLine)]
    [InlineData("GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", RejectReason.InvalidRequestLine)]
    [InlineData("GET / HTTP/0.9\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/.1\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/1\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/1,1\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/1.\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/1.x\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/1.10\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/1.1a\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/+1.1\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/01.1\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/1.1\t\r\nHost: a\r\n\r\n", RejectReason.InvalidVersion)]
    [InlineData("GET / HTTP/2.0\r\nHost: a\r\n\r\n", RejectReason.UnsupportedVersion)]
    [InlineData("GET / HTTP/2\r\nHost: a\r\n\r\n", RejectReason.UnsupportedVersion)]
    [InlineData("GET / HTTP/3.0\r\nHost: a\r\n\r\n", RejectReason.UnsupportedVersion)]
    [InlineData("GET / HTTP/10.0\r\nHost: a\r\n\r\n", RejectReason.UnsupportedVersion)]
    [InlineData("POST /\r\n", RejectReason.InvalidMethodIn09)]
    [InlineData("HEAD /\r\n", RejectReason.InvalidMethodIn09)]
    [InlineData("GET / HTTP/1.1\r\n\r\n", RejectReason.MissingHost)]
    [InlineData("GET / HTTP/1.2\r\n\r\n", RejectReason.MissingHost)]
    [InlineData("GET http://a/ HTTP/1.1\r\n\r\n", RejectReason.MissingHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", RejectReason.DuplicateHost)]
    [InlineData("GET / HTTP/1.0\r\nHost: a\r\nhOST: b\r\n\r\n", RejectReason.DuplicateHost)]
    [InlineData("GET / HTTP/1.1\r\nHost:\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: .\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: []\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a%4\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a,\u00e9\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: \"a\"\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", RejectReason.InvalidHost)]
    [InlineData("GET / HTTP/1.1\r\n Host: a\r\n\r\n", RejectReason.FoldedHeader)]
    [InlineData(Get + " fold\r\n\r\n", RejectReason.FoldedHeader)]
    [InlineData(Get + "A: b\r\n\tfold\r\n\r\n", RejectReason.FoldedHeader)]
    [InlineData(Get + "A : b\r\n\r\n", RejectReason.SpaceInHeaderName)]
    [InlineData(Get + "A\t: b\r\n\r\n", RejectReason.SpaceInHeaderName)]
    [InlineData(Get + "A b: c\r\n\r\n", RejectReason.SpaceInHeaderName)]
    [InlineData(Get + ": b\r\n\r\n", RejectReason.EmptyHeaderName)]
    [InlineData(Get + "A\r\n\r\n", RejectReason.NoColon)]
    [InlineData(Get + "A\n\n", RejectReason.NoColon)]
    [InlineData(Get + "A\0: b\r\n\r\n", RejectReason.ControlInHeaderName)]
    [InlineData(Get + "A\u007f: b\r\n\r\n", RejectReason.ControlInHeaderName)]
    [InlineData(Get + "\u000bA: b\r\n\r\n", RejectReason.ControlInHeaderName)]
    [InlineData(Get + "A\r: b\r\n\r\n", RejectReason.BareCrInHeader)]
    [InlineData(Get + "A: b\rc\r\n\r\n", RejectReason.BareCrInHeader)]
    [InlineData(Get + "A: b\r\r\n\r\n", RejectReason.BareCrInHeader)]
    [InlineData(Get + "\rA: b\r\n\r\n", RejectReason.BareCrInHeader)]
    [InlineData(Get + "A: b\0\r\n\r\n", RejectReason.ControlInHeaderValue)]
    [InlineData(Get + "A: \u001fb\r\n\r\n", RejectReason.ControlInHeaderValue)]
    [InlineData(Get + "A: b\u007f\r\n\r\n", RejectReason.ControlInHeaderValue)]
    [InlineData(Get + "A: b\u000c\r\n\r\n", RejectReason.ControlInHeaderValue)]
    [InlineData(Get + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", RejectReason.DuplicateContentLength)]
    [InlineData(Get + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", RejectReason.DuplicateContentLength)]
    [InlineData(Get + "Content-Length:\r\n\r\n", RejectReason.InvalidContentLength)]
    [InlineData(Get + "Content-Length: +5\r\n\r\n", RejectReason.InvalidContentLength)]
    [InlineData(Get + "Content-Length: -5\r\n\r\n", RejectReason.InvalidContentLength)]
    [InlineData(Get + "Content-Length: 5 5\r\n\r\n", RejectReason.InvalidContentLength)]
    [InlineData(Get + "Content-Length: 5,5\r\n\r\n", RejectReason.InvalidContentLength)]
    [InlineData(Get + "Content-Length: 0x5\r\n\r\n", RejectReason.InvalidContentLength)]
    [InlineData(Get + "Content-Length: 9223372036854775808\r\n\r\n", RejectReason.InvalidContentLength)]
    [InlineData(Get + "Content-Length: 99999999999999999999\r\n\r\n", RejectReason.InvalidContentLength)]
    [InlineData(Get + "Transfer-Encoding: gzip\r\n\r\n", RejectReason.UnknownTransferEncoding)]
    [InlineData(Get + "Transfer-Encoding: gzip, chunked\r\n\r\n", RejectReason.UnknownTransferEncoding)]
    [InlineData(Get + "Transfer-Encoding: chunked, chunked\r\n\r\n", RejectReason.UnknownTransferEncoding)]
    [InlineData(Get + "Transfer-Encoding: \"chunked\"\r\n\r\n", RejectReason.UnknownTransferEncoding)]
    [InlineData(Get + "Transfer-Encoding: xchunked\r\n\r\n", RejectReason.UnknownTransferEncoding)]
    [InlineData(Get + "Transfer-Encoding: identity\r\n\r\n", RejectReason.UnknownTransferEncoding)]
    [InlineData(Get + "Transfer-Encoding:\r\n\r\n", RejectReason.UnknownTransferEncoding)]
    [InlineData(Get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        RejectReason.DuplicateTransferEncoding)]
    [InlineData(Get + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        RejectReason.LengthAndTransferEncoding)]
    [InlineData(Get + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        RejectReason.LengthAndTransferEncoding)]
    [InlineData("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", RejectReason.TransferEncodingIn10)]
    [InlineData(Get + "Authorization: a\r\nAuthorization: b\r\n\r\n", RejectReason.DuplicateHeader)]
    [InlineData(Get + "If-Match: a\r\nIf-Match: b\r\n\r\n", RejectReason.DuplicateHeader)]
    [InlineData(Get + "Expect: x\r\nExpect: 100-continue\r\n\r\n", RejectReason.DuplicateHeader)]
    public void RefusedHowEverItArrives(string text, RejectReason reason)
    {
        var head = new RequestHead();
        Assert.Equal(ParseStep.Reject, Parse(text, head, new ParseOptions()));
        Assert.Equal(reason, head.Reject);
        Assert.Equal(reason.ToString(), DescribeSplit(text, new ParseOptions()));
        Assert.NotEqual("", RejectReasons.LogText(reason));
        Assert.InRange(RejectReasons.Status(reason), 400, 505);
    }

    [Fact]
    public void TargetIsTakenApart()
    {
        string text = "GET /a//b/.c/%41+?x=1?y#z?w HTTP/1.1\r\nHost: Ex.com:81\r\n\r\n";
        byte[] b = Bytes(text);
        RequestHead h = Accept(text);
        Assert.Equal("/a//b/.c/%41+", Text(h.Path.Of(b)));
        Assert.Equal("x=1?y", Text(h.Query.Of(b)));
        Assert.Equal("/a//b/.c/%41+?x=1?y#z?w", Text(h.Target.Of(b)));
        Assert.Equal("GET /a//b/.c/%41+?x=1?y#z?w HTTP/1.1", Text(h.RequestLine.Of(b)));
        Assert.Equal(UriFlags.DoubleSlash | UriFlags.SlashDot | UriFlags.Percent | UriFlags.Plus | UriFlags.Query
            | UriFlags.Fragment, h.UriFlags);
        Assert.Equal("Ex.com", Text(h.Host.Of(b)));
        Assert.Equal("81", Text(h.HostPort.Of(b)));
        Assert.True(h.HostHasUpper);
    }

    [Fact]
    public void AbsoluteTargetWinsOverTheHostHeader()
    {
        string text = "GET http://one.example:8080?q HTTP/1.1\r\nHost: two\r\n\r\n";
        byte[] b = Bytes(text);
        RequestHead h = Accept(text);
        Assert.Equal(TargetForm.Absolute, h.Form);
        Assert.Equal("http", Text(h.Scheme.Of(b)));
        Assert.Equal("one.example", Text(h.Host.Of(b)));
        Assert.Equal("8080", Text(h.HostPort.Of(b)));
        Assert.True(h.Path.IsEmpty);
        Assert.Equal("q", Text(h.Query.Of(b)));
    }

    [Fact]
    public void PlainPathHasNoFlags() =>
        Assert.Equal(UriFlags.None, Accept("GET /a/b.html HTTP/1.1\r\nHost: a\r\n\r\n").UriFlags);

    [Fact]
    public void KeepAliveFollowsVersionAndConnection()
    {
        Assert.True(Accept(Get + "\r\n").KeepAliveRequested);
        Assert.False(Accept(Get + "Connection: Close\r\n\r\n").KeepAliveRequested);
        Assert.False(Accept(Get + "Connection: keep-alive, close\r\n\r\n").KeepAliveRequested);
        Assert.False(Accept("GET / HTTP/1.0\r\n\r\n").KeepAliveRequested);
        Assert.True(Accept("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").KeepAliveRequested);
        Assert.False(Accept("GET /\r\n").KeepAliveRequested);
    }

    [Fact]
    public void ExpectAndUpgradeCountFrom11On()
    {
        Assert.True(Accept(Get + "Expect: 100-Continue\r\n\r\n").Expect100);
        Assert.False(Accept("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").Expect100);
        Assert.True(Accept(Get + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n").UpgradeRequested);
        Assert.False(Accept(Get + "Upgrade: websocket\r\n\r\n").UpgradeRequested);
        Assert.False(Accept(Get + "Connection: upgrade\r\n\r\n").UpgradeRequested);
    }

    [Fact]
    public void FieldsAreFoundByNumberAndByName()
    {
        string text = Get + "X-A: 1\r\nCookie: a\r\nx-a: 2\r\nCookie: b\r\nAccept: c\r\nCOOKIE: d\r\n\r\n";
        byte[] b = Bytes(text);
        RequestHead h = Accept(text);
        int cookie = h.Find(KnownHeader.Cookie);
        Assert.Equal("a", Text(h[cookie].Value(b)));
        cookie = h.FindNext(cookie);
        Assert.Equal("b", Text(h[cookie].Value(b)));
        cookie = h.FindNext(cookie, b);
        Assert.Equal("d", Text(h[cookie].Value(b)));
        Assert.Equal(-1, h.FindNext(cookie));
        int other = h.Find("X-a"u8, HeaderName.Hash("X-a"u8), b);
        Assert.Equal("1", Text(h[other].Value(b)));
        other = h.FindNext(other, b);
        Assert.Equal("2", Text(h[other].Value(b)));
        Assert.Equal(-1, h.FindNext(other, b));
        Assert.Equal(-1, h.Find(KnownHeader.Range));
        Assert.Equal("c", Text(h.Value(KnownHeader.Accept, b)));
    }

    [Fact]
    public void UnusualNamesFollowTheOptions()
    {
        string underscore = Get + "A_B: 1\r\n\r\n", dot = Get + "A.B: 1\r\n\r\n", paren = Get + "A(B: 1\r\n\r\n";
        Assert.Equal(1, Accept(underscore).DroppedCount);
        Assert.True(Accept(underscore)[1].Dropped);
        Assert.Equal(0, Accept(underscore, new ParseOptions { UnderscoresInHeaders = true }).DroppedCount);
        Assert.Equal(1, Accept(dot, new ParseOptions { UnderscoresInHeaders = true }).DroppedCount);
        Assert.Equal(0, Accept(dot, new ParseOptions { IgnoreInvalidHeaders = false }).DroppedCount);
        Assert.Equal(1, Accept(paren).DroppedCount);
        var head = new RequestHead();
        Assert.Equal(ParseStep.Reject, Parse(paren, head, new ParseOptions { IgnoreInvalidHeaders = false }));
        Assert.Equal(RejectReason.InvalidHeaderName, head.Reject);
    }

    [Fact]
    public void TooManyHeadersAreRefusedExactlyAboveTheLimit()
    {
        string At(int n) => Get + string.Concat(Enumerable.Repeat("A: b\r\n", n - 1)) + "\r\n";
        var options = new ParseOptions { MaxHeaders = 40 };
        Accept(At(39), options);
        Accept(At(40), options);
        var head = new RequestHead();
        Assert.Equal(ParseStep.Reject, Parse(At(41), head, options));
        Assert.Equal(RejectReason.TooManyHeaders, head.Reject);
        Assert.Equal(494, RejectReasons.Status(head.Reject));
    }

    [Fact]
    public void NeedMoreTellsWhichLineIsOpen()
    {
        var parser = new RequestHeadParser();
        var head = new RequestHead();
        var options = new ParseOptions();
        Assert.Equal(ParseStep.NeedMore, parser.Parse(Bytes("\r\n"), head, in options));
        Assert.True(parser.IsIdle);
        Assert.Equal(ParseStep.NeedMore, parser.Parse(Bytes("\r\nGET / HT"), head, in options));
        Assert.True(parser.InRequestLine);
        Assert.Equal(2, parser.LineStart);
        Assert.Equal(ParseStep.NeedMore, parser.Parse(Bytes("\r\nGET / HTTP/1.1\r\nHost: a\r\nCoo"), head, in options));
        Assert.False(parser.InRequestLine);
        Assert.Equal(27, parser.LineStart);
    }

    [Fact]
    public void BytesAfterTheHeadAreLeftAlone()
    {
        string text = Get + "\r\nGET /next HTTP/1.1\r\n";
        var head = new RequestHead();
        Assert.Equal(ParseStep.Done, Parse(text, head, new ParseOptions()));
        Assert.Equal(Get.Length + 2, head.HeadLength);
    }

    [Fact]
    public void EveryKnownNameIsFoundInAnyCase()
    {
        foreach (KnownHeader known in Enum.GetValues<KnownHeader>().Skip(1))
        {
            string name = Encoding.ASCII.GetString(KnownHeaders.Name(known));
            Assert.Equal(known, HeaderName.Find(Bytes(name.ToUpperInvariant())));
            Assert.Equal(known, HeaderName.Find(Bytes(name.ToLowerInvariant())));
            Assert.Equal(known.ToString(), name.Replace("-", ""), ignoreCase: true);
        }
        foreach (KnownResponseHeader known in Enum.GetValues<KnownResponseHeader>().Skip(1))
        {
            string name = Encoding.ASCII.GetString(KnownHeaders.Name(known));
            Assert.Equal(known, HeaderName.FindResponse(Bytes(name.ToUpperInvariant())));
            Assert.Equal(known.ToString(), name.Replace("-", ""), ignoreCase: true);
        }
        Assert.Equal(KnownHeader.None, HeaderName.Find("X-Unknown"u8));
    }

    [Fact]
    public void WarmParsesAllocateNothing()
    {
        byte[] bytes = Bytes(
            Get + "Cookie: a=b\r\nAccept: */*\r\nX-Any: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\n");
        var head = new RequestHead();
        var parser = new RequestHeadParser();
        var options = new ParseOptions();
        long before = 0;
        for (int i = 0; i < 10_100; i++)
        {
            if (i == 100)
            {
                before = GC.GetAllocatedBytesForCurrentThread();
            }
            parser.Reset();
            if (parser.Parse(bytes, head, in options) != ParseStep.Done)
            {
                throw new InvalidOperationException();
            }
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }
}
