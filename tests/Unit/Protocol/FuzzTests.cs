// Fuzzing in the small: inputs that are known to be interesting are mutated a bounded number of times, with a seed that
// a failure prints. Nothing may throw, and cutting an input into pieces may not change what is said about it.
using System.Text;
using Weir.Protocol.Dns;
using Weir.Protocol.FastCgi;
using Weir.Protocol.Http1;
using Weir.Protocol.Proxy;
using Xunit;

namespace Weir.Tests.Unit.Protocol;

public class FuzzTests
{
    private const int Rounds = 20_000;

    private static readonly string[] Pieces =
    [
        "\r\n", "\n", "\r", "\0", " ", "\t", ":", ",", ";", "=", "\"", "\\", "%", "%2e", "%00", "/", "/../", "//", "?",
        "#",
        "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "GET ", "http://", "[::1]", "Host: a\r\n", "Host:", "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "0\r\n\r\n", "5\r\nhello\r\n", "ffffffffffffffff",
        "-", "+",
        "\u00ff", "\u0080", "\u007f", "99999999999999999999", "chunked", "Status: 200\r\n", "PROXY TCP4 ",
    ];

    private static readonly string[] Requests =
    [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /a/../b//c%41?x=y#z HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 5\r\nCookie: a=b\r\n\r\nhello",
        "GET http://[::1]:80/x HTTP/1.0\r\nConnection: keep-alive, upgrade\r\nUpgrade: x\r\nA_B: c\r\n\r\n",
        "GET /\r\n", "\r\n\r\nCONNECT a:1 HTTP/1.1\nHost: a\n\n",
    ];

    private static readonly string[] Responses =
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a\r\n\r\nhello",
        "HTTP/1.0 404\r\nTransfer-Encoding: chunked\r\n\r\n", "Status: 404 Not Found\r\nLocation: /\r\n\r\n",
    ];

    private static readonly string[] Chunks =
    [
        "5\r\nhello\r\n0\r\n\r\n", "1;a=b;c=\"d\\\"e\"\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", 
        "a ; x\r\n0123456789\r\n00\r\n\r\n",
    ];

    private static readonly string[] Others =
    [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY TCP6 ::1 1:2::3 1 2\r\n",
        "\r\n\r\n\0\r\nQUIT\n\u0021\u0011\0\u0011\u0001\u0002\u0003\u0004"
            + "\u0005\u0006\u0007\u0008\0\u0001\0\u0002\u0020\0\u0002xx",
        "\u0001\u0006\0\u0001\0\u0003\u0001\0abc\0\u0001\u0003\0\u0001\0\u0008\0\0\0\0\0\0\0\0\0\0",
        "\u0012\u0034\u0081\u0080\0\u0001\0\u0002\0\0\0\0\u0001a\u0001b\0\0\u0001\0\u0001"
            + "\u00c0\u000c\0\u0005\0\u0001\0\0\0\u0009\0"
            + "\u0004\u0001c\u00c0\u000e\u00c0\u0025\0\u0001\0\u0001\0\0\0\u0009\0\u0004\u0001\u0002\u0003\u0004",
        "bytes=0-1,2-,-3", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "/a/./../b//%2e%2e/c", "[v1.a]:80", "a.b:65535",
    ];

    private static byte[] Mutate(Random random, string[] corpus)
    {
        List<byte> bytes = [.. Encoding.Latin1.GetBytes(corpus[random.Next(corpus.Length)])];
        for (int n = random.Next(6); n > 0; n--)
        {
            int at = random.Next(bytes.Count + 1);
            switch (random.Next(6))
            {
                case 0:
                    bytes.InsertRange(at, Encoding.Latin1.GetBytes(Pieces[random.Next(Pieces.Length)]));
                    break;
                case 1 when bytes.Count > 0:
                    at = Math.Min(at, bytes.Count - 1);
                    bytes.RemoveRange(at, random.Next(Math.Min(8, bytes.Count - at)) + 1 - (at == bytes.Count ? 1 : 0));
                    break;
                case 2 when bytes.Count > 0:
                    bytes[Math.Min(at, bytes.Count - 1)] = (byte)random.Next(256);
                    break;
                case 3 when bytes.Count > 0:
                    bytes[Math.Min(at, bytes.Count - 1)] ^= (byte)(1 << random.Next(8));
                    break;
                case 4:
                    int from = random.Next(bytes.Count + 1);
                    bytes.InsertRange(at, [.. bytes.Skip(from).Take(random.Next(20))]);
                    break;
                default:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
            }
        }
        return [.. bytes];
    }

    private static void Fuzz(string[] corpus, int salt, Action<byte[], Random> check)
    {
        for (int round = 0; round < Rounds; round++)
        {
            int seed = salt * 1_000_003 + round;
            var random = new Random(seed);
            byte[] bytes = Mutate(random, corpus);
            try
            {
                check(bytes, random);
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}, input {Convert.ToHexString(bytes)}: {e}");
            }
        }
    }

    private static string Say(ParseStep step, RequestHead h) =>
        step == ParseStep.Done
            ? $"{h.Method} {h.Target} {h.Version} {h.Count} {h.HeadLength} {h.ContentLength} {h.Host}"
        : step == ParseStep.Reject ? h.Reject.ToString() : "more";

    [Fact]
    public void RequestHeads() => Fuzz(Requests, 1, (bytes, random) =>
    {
        var options = new ParseOptions { IgnoreInvalidHeaders = random.Next(2) == 0, MaxHeaders = random.Next(1, 6) };
        var head = new RequestHead();
        var parser = new RequestHeadParser();
        ParseStep step = parser.Parse(bytes, head, in options);
        string whole = Say(step, head);
        if (step == ParseStep.Done)
        {
            CheckAccepted(bytes, head);
        }
        var again = new RequestHead();
        parser.Reset();
        ParseStep now = ParseStep.NeedMore;
        for (int n = 0; now == ParseStep.NeedMore && n < bytes.Length;)
        {
            n = Math.Min(bytes.Length, n + random.Next(1, 9));
            now = parser.Parse(bytes.AsSpan(0, n), again, in options);
        }
        // A line that is refused before its end has come may be refused only then when it came in pieces.
        if (now != ParseStep.NeedMore || step != ParseStep.Reject)
        {
            Assert.Equal(whole, Say(now, again));
        }
    });

    private static void CheckAccepted(ReadOnlySpan<byte> bytes, RequestHead head)
    {
        foreach (HeaderField field in head.Fields)
        {
            ReadOnlySpan<byte> value = field.Value(bytes);
            Assert.True(field.NameLength > 0 && value.IndexOfAny((byte)'\r', (byte)'\n', (byte)0) < 0);
            Assert.Equal(HeaderName.Hash(field.Name(bytes)), field.Hash);
        }
        Assert.False(head.Chunked && head.ContentLength >= 0);
        Assert.True(head.Target.Of(bytes).IndexOfAny((byte)' ', (byte)'\r', (byte)'\n') < 0);
        ReadOnlySpan<byte> path = head.Path.Of(bytes);
        byte[] normal = new byte[Math.Max(1, path.Length)];
        bool fine = UriNormalizer.Normalize(path, normal, true, out int n) == UriOutcome.Ok;
        if (fine && (head.UriFlags & UriFlags.Complex) == 0 && path.Length > 0)
        {
            Assert.True(path.SequenceEqual(normal.AsSpan(0, n)));
        }
    }

    [Fact]
    public void ResponseHeads() => Fuzz(Responses, 2, (bytes, random) =>
    {
        var options = new ParseOptions();
        bool cgi = random.Next(2) == 0;
        var head = new ResponseHead();
        var parser = new ResponseHeadParser();
        parser.Reset(cgi);
        ParseStep step = parser.Parse(bytes, head, in options);
        string Say(ParseStep s) =>
            $"{s} {head.Reject} {head.Status} {head.HeadLength} {head.ContentLength} {head.Count}";
        string whole = Say(step);
        parser.Reset(cgi);
        ParseStep now = ParseStep.NeedMore;
        for (int n = 0; now == ParseStep.NeedMore && n < bytes.Length;)
        {
            n = Math.Min(bytes.Length, n + random.Next(1, 9));
            now = parser.Parse(bytes.AsSpan(0, n), head, in options);
        }
        if (now != ParseStep.NeedMore && step == ParseStep.Done)
        {
            Assert.Equal(whole, Say(now));
        }
        Assert.True(now == step || now == ParseStep.NeedMore && step == ParseStep.Reject);
    });

    [Fact]
    public void ChunkedBodies() => Fuzz(Chunks, 3, (bytes, random) =>
    {
        ChunkedTests.Result whole = ChunkedTests.Decode(bytes);
        int[] splits = [.. Enumerable.Range(0, 4).Select(_ => random.Next(bytes.Length + 1)).Order()];
        Assert.Equal(whole, ChunkedTests.Decode(bytes, splits));
    });

    [Fact]
    public void EverythingElse() => Fuzz(Others, 4, (bytes, random) =>
    {
        _ = ProxyProtocol.Read(bytes, out ProxyHeader header);
        Assert.True(header.Length <= bytes.Length || header.Length == 0 || bytes.Length < header.Length);
        var reader = new FastCgiReader();
        ReadOnlySpan<byte> rest = bytes;
        FastCgiEvent e;
        do
        {
            e = reader.Read(rest, out int consumed, out _);
            rest = rest[consumed..];
        }
        while (e is FastCgiEvent.Stdout or FastCgiEvent.Stderr or FastCgiEvent.StdoutEnd);
        var records = new DnsRecord[2];
        _ = DnsCodec.ReadAnswer(bytes, 0x1234, "a.b"u8, DnsType.A, records, out _);
        _ = DnsCodec.ReadName(bytes, random.Next(bytes.Length + 1), new byte[DnsCodec.NameMax], out _, out _);
        _ = RangeHeader.Parse(bytes, random.Next(20), new ByteRange[3], out _);
        if (HttpDate.TryParse(bytes, out long seconds))
        {
            byte[] date = new byte[HttpDate.Length];
            HttpDate.Format(seconds, date);
            Assert.True(HttpDate.TryParse(date, out long back) && back == seconds);
        }
        if (HostSyntax.TryParse(bytes, out HostParts parts))
        {
            Assert.True(parts.HostLength > 0 && parts.PortStart + parts.PortLength <= bytes.Length);
        }
        if (ProxyAddress.TryParse(bytes, 1, out ProxyAddress address))
        {
            byte[] text = new byte[ProxyAddress.TextMax];
            int n = address.Format(text);
            Assert.True(ProxyAddress.TryParse(text.AsSpan(0, n), 1, out ProxyAddress again) && again == address);
        }
        byte[] normal = new byte[Math.Max(1, bytes.Length)];
        _ = UriNormalizer.Normalize(bytes, normal, random.Next(2) == 0, out _);
        _ = UriEscaper.Unescape(bytes, normal);
        _ = HeaderTokens.Connection(bytes);
        _ = HeaderTokens.ContentLength(bytes);
    });
}
