// HTTP/1.1, byte for byte over real sockets, as one table: what every server of applications here must do, under each
// concurrency model and beneath ASP.NET Core. A case talks to an application that does by path what Paths says; each
// test project writes that application once and runs the table.
using System.Text;
using Xunit;

namespace Weir.Tests.Harness;

/// <summary>A server that runs the application of the cases.</summary>
/// <param name="Connect">A new connection to it.</param>
/// <param name="SeesWholeAnswers">An answer that was never flushed leaves whole, with its length. Where the framework
/// flushes by itself and code runs beside the loop, it may be caught on its way, and is then in chunks.</param>
public sealed record HttpSubject(Func<RawClient> Connect, bool SeesWholeAnswers);

/// <summary>Limits that a case needs; 0 for the server's own.</summary>
public readonly record struct HttpLimits(long MaxBodyBytes = 0, int MaxHeadBytes = 0, int RequestsPerConnection = 0);

/// <summary>A case of the table.</summary>
public sealed record HttpCase(string Name, Action<HttpSubject> Run)
{
    public HttpLimits Limits { get; init; }
}

public static class HttpCases
{
    private const int Long = 30_000;

    public const int LargeBlocks = 24, LargeBlockBytes = 64 * 1024;

    /// <summary>What the application does.</summary>
    public static class Paths
    {
        /// <summary>"Hello World\n" as text/plain.</summary>
        public const string Hello = "/hello";

        /// <summary>The request's body.</summary>
        public const string Echo = "/echo";

        /// <summary>"piece 0\n", "piece 1\n", "piece 2\n", each flushed.</summary>
        public const string Chunks = "/chunks";

        /// <summary>"body" flushed, with a trailer X-Sum: 4 behind it.</summary>
        public const string Trailers = "/trailers";

        /// <summary>The request's body, a blank, and its trailer X-Sum.</summary>
        public const string RequestTrailers = "/request-trailers";

        /// <summary>Blocks of 64 KiB: the first all 'a', the next 'b'.</summary>
        public const string Large = "/large";

        /// <summary>"later\n" after a moment.</summary>
        public const string Delay = "/delay";

        /// <summary>Throws "on purpose".</summary>
        public const string Throw = "/throw";

        /// <summary>Writes and flushes "begun", then throws.</summary>
        public const string ThrowLate = "/throw-late";

        /// <summary>Promises 10 bytes and writes none.</summary>
        public const string Short = "/short";

        /// <summary>The status in ?code, Set-Cookie a=1 and b=2, X-Query the query.</summary>
        public const string Status = "/status";

        /// <summary>Method, path?query, version, host without its port, X-Test.</summary>
        public const string Who = "/who";
    }

    private static readonly Dictionary<string, HttpCase> _cases = Table().ToDictionary(static c => c.Name);

    public static IEnumerable<string> Names => _cases.Keys;

    public static HttpCase Of(string name) => _cases[name];

    private static HttpResponse Read(RawClient client) => client.ReadResponse(timeoutMs: Long);

    private static HttpResponse Ask(HttpSubject server, string request)
    {
        using RawClient client = server.Connect();
        return Read(client.Send(request));
    }

    private static string All(RawClient client) => Encoding.Latin1.GetString(client.ReadToEnd(Long));

    private static IEnumerable<HttpCase> Table()
    {
        yield return new("an answer has its fields and the connection stays", static server =>
        {
            using RawClient client = server.Connect();
            for (int i = 0; i < 5; i++)
            {
                HttpResponse answer = client.Get(Paths.Hello);
                Assert.Equal(200, answer.Status);
                Assert.Equal("Hello World\n", answer.Text);
                if (server.SeesWholeAnswers)
                {
                    Assert.Equal("12", answer["Content-Length"]);
                }
                Assert.Equal("text/plain", answer["Content-Type"]);
                Assert.Equal("weir", answer["Server"]);
                Assert.NotNull(answer["Date"]);
            }
        });
        yield return new("pipelined requests are answered in order", static server =>
        {
            using RawClient client = server.Connect();
            client.Send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /delay HTTP/1.1\r\nHost: a\r\n\r\n"
                + "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                + "GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n");
            Assert.Equal("Hello World\n", Read(client).Text);
            Assert.Equal("later\n", Read(client).Text);
            Assert.Equal("abc", Read(client).Text);
            Assert.Equal("piece 0\npiece 1\npiece 2\n", Read(client).Text);
        });
        yield return new("a chunked body is read and an answer in steps is chunked", static server =>
        {
            using RawClient client = server.Connect();
            client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.Send("3\r\nabc\r\n");
            client.Send("5;x=y\r\ndefgh\r\n0\r\nX-T: v\r\n\r\n");
            Assert.Equal("abcdefgh", Read(client).Text);
            HttpResponse chunks = client.Get(Paths.Chunks);
            Assert.Equal("chunked", chunks["Transfer-Encoding"]);
            Assert.Equal("piece 0\npiece 1\npiece 2\n", chunks.Text);
            Assert.Equal(200, client.Get(Paths.Hello).Status);
        });
        yield return new("trailers follow a chunked answer", static server =>
        {
            using RawClient client = server.Connect();
            client.Send("GET /trailers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            Assert.EndsWith("4\r\nbody\r\n0\r\nX-Sum: 4\r\n\r\n", All(client));
        });
        yield return new("trailers of a request are read behind its body", static server =>
        {
            using RawClient client = server.Connect();
            const string chunked = "POST /request-trailers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            Assert.Equal("abc 3", Read(client.Send(chunked + "3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n")).Text);
            Assert.Equal("d ", Read(client.Send(chunked + "1\r\nd\r\n0\r\n\r\n")).Text);
        });
        yield return new("a large body goes both ways", static server =>
        {
            using RawClient client = server.Connect();
            HttpResponse large = Read(client.Send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n"));
            Assert.Equal(LargeBlocks * LargeBlockBytes, large.Body.Length);
            Assert.Equal('x', (char)large.Body[^1]);
            byte[] body = new byte[600_000];
            new Random(1).NextBytes(body);
            // Sent beside the reading: an echo of this size would fill both directions.
            var sender = new Thread(() =>
            {
                client.Send($"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {body.Length}\r\n\r\n");
                client.Send(body);
            });
            sender.Start();
            HttpResponse echoed = Read(client);
            sender.Join();
            Assert.Equal(body, echoed.Body);
        });
        yield return new("HEAD has the length and no body", static server =>
        {
            using RawClient client = server.Connect();
            client.Send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
            HttpResponse head = client.ReadResponse(answersHead: true, timeoutMs: Long);
            if (server.SeesWholeAnswers)
            {
                Assert.Equal("12", head["Content-Length"]);
            }
            Assert.Equal("Hello World\n", client.Get(Paths.Hello).Text);
        });
        yield return new("HTTP/1.0 is answered without chunks and closed", static server =>
        {
            using RawClient client = server.Connect();
            string text = All(client.Send("GET /chunks HTTP/1.0\r\n\r\n"));
            Assert.DoesNotContain("chunked", text);
            Assert.EndsWith("\r\n\r\npiece 0\npiece 1\npiece 2\n", text);
        });
        yield return new("a client that asks first is told to continue when the body is read", static server =>
        {
            using RawClient client = server.Connect();
            client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
            Assert.Equal(100, Read(client).Status);
            Assert.Equal("hello", Read(client.Send("hello")).Text);
        });
        yield return new("a client that asks first and is not wanted gets the answer and no continue", static server =>
            Assert.Equal(404, Ask(server,
                "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").Status));
        yield return new("a body that nobody read does not disturb the next request", static server =>
        {
            using RawClient client = server.Connect();
            client.Send("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
                + "GET /who/../who?x=1%202 HTTP/1.1\r\nHost: example:80\r\nX-Test: t\r\n\r\n");
            Assert.Equal("Hello World\n", Read(client).Text);
            Assert.Equal("GET /who?x=1%202 1.1 example t", Read(client).Text);
        });
        yield return new("what is no request is answered 400 and closed", static server =>
        {
            foreach (string bad in new[]
            {
                "GET /hello HTTP/1.1\r\n\r\n",
                "GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                "G<T /hello HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /hello HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
            })
            {
                using RawClient client = server.Connect();
                HttpResponse answer = Read(client.Send(bad));
                Assert.Equal(400, answer.Status);
                Assert.Equal("close", answer["Connection"]);
                client.ReadToEnd(Long);
            }
            Assert.Equal(200, Ask(server, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").Status);
        });
        yield return new("a malformed chunk is answered 400 and closed", static server =>
        {
            using RawClient client = server.Connect();
            client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
            Assert.Equal(400, Read(client).Status);
            client.ReadToEnd(Long);
        });
        yield return new("a head that is too large is refused", static server =>
        {
            string much = new('a', 9000);
            Assert.Equal(414, Ask(server, $"GET /{much} HTTP/1.1\r\nHost: a\r\n\r\n").Status);
            Assert.Equal(400, Ask(server, $"GET / HTTP/1.1\r\nHost: a\r\nX: {much}\r\n\r\n").Status);
        }) { Limits = new HttpLimits(MaxHeadBytes: 8192) };
        yield return new("a body larger than allowed is answered 413", static server =>
        {
            Assert.Equal(413, Ask(server, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").Status);
            Assert.Equal(413, Ask(server, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "5\r\nhello\r\n0\r\n\r\n").Status);
            Assert.Equal("four", Ask(server,
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour").Text);
        }) { Limits = new HttpLimits(MaxBodyBytes: 4) };
        yield return new("a handler that throws answers 500 and costs nobody else", static server =>
        {
            Assert.Equal(500, Ask(server, "GET /throw HTTP/1.1\r\nHost: a\r\n\r\n").Status);
            Assert.Equal(200, Ask(server, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").Status);
        });
        yield return new("a handler that throws after the head left ends the connection and not the body",
            static server =>
        {
            using RawClient client = server.Connect();
            string text = All(client.Send("GET /throw-late HTTP/1.1\r\nHost: a\r\n\r\n"));
            Assert.DoesNotContain(" 500 ", text);
            Assert.DoesNotContain("0\r\n\r\n", text);
            Assert.Equal(200, Ask(server, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").Status);
        });
        yield return new("an answer that falls short of its length does not look complete", static server =>
            Assert.Equal(500, Ask(server, "GET /short HTTP/1.1\r\nHost: a\r\n\r\n").Status));
        yield return new("status, fields and repeated fields arrive", static server =>
        {
            using RawClient client = server.Connect();
            HttpResponse answer = client.Get("/status?code=201");
            Assert.Equal(201, answer.Status);
            Assert.Equal(["a=1", "b=2"], answer.All("Set-Cookie"));
            Assert.Equal("code=201", answer["X-Query"]);
            Assert.Equal("0", answer["Content-Length"]);
            Assert.Null(client.Get("/status?code=204")["Content-Length"]);
            Assert.Equal(304, client.Get("/status?code=304").Status);
            Assert.Equal(200, client.Get(Paths.Hello).Status);
        });
        yield return new("a head in single bytes is one request", static server =>
        {
            using RawClient client = server.Connect();
            byte[] bytes = Encoding.ASCII.GetBytes("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
            client.SendSplit(bytes, [.. Enumerable.Range(1, bytes.Length - 1)]);
            Assert.Equal("ok", Read(client).Text);
        });
        yield return new("the last request allowed is answered with close", static server =>
        {
            using RawClient client = server.Connect();
            Assert.Equal("keep-alive", client.Get(Paths.Hello)["Connection"]);
            Assert.Equal("close", client.Get(Paths.Hello)["Connection"]);
            Assert.True(client.WaitClosed(Long));
        }) { Limits = new HttpLimits(RequestsPerConnection: 2) };
    }
}
