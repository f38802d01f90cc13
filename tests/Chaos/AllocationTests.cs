// No managed byte per request on warm connections: read inside the published binary, over real sockets, between request
// 1,000 and 11,000, with 64 requests in flight at once.
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Chaos;

public sealed partial class AllocationTests
{
    private const int InFlight = 64;
    private const int WarmRequests = 1_000;
    private const int CountedRequests = 10_000;
    private const int WindowsMax = 4;

    private const string Status = "location = /status { weir_status json; }";

    [Fact]
    public void A_return_allocates_nothing()
    {
        using var weir = ServerProcess.Weir(Conf.Server(Status + " location / { return 200 hello; }", master: true));
        AssertNothing(AllocatedBy(weir, "/"));
    }

    [Fact]
    public void A_cached_file_allocates_nothing()
    {
        using var files = new TempDir();
        files.Write("f.txt", new string('x', 1024));
        using var weir = ServerProcess.Weir(Conf.Server(
            Status + " open_file_cache max=100; location / { }", master: true), files);
        AssertNothing(AllocatedBy(weir, "/f.txt"));
    }

    [Fact]
    public void A_file_without_cache_allocates_nothing()
    {
        using var files = new TempDir();
        files.Write("f.txt", new string('x', 1024));
        using var weir = ServerProcess.Weir(Conf.Server(Status + " location / { }", master: true), files);
        AssertNothing(AllocatedBy(weir, "/f.txt"));
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("brotli")]
    [InlineData("zstd")]
    public void A_compressed_answer_allocates_nothing(string encoding)
    {
        using var files = new TempDir();
        files.Write("f.html", string.Concat(Enumerable.Range(0, 200).Select(static i => $"<p>line {i}\n")));
        using var weir = ServerProcess.Weir(Conf.Server(
            Status + $" open_file_cache max=100; {encoding} on; brotli_comp_level 1; brotli_window 64k;"
            + " default_type text/html; location / { }", master: true), files);
        string coding = encoding == "brotli" ? "br" : encoding;
        // The smallest object of a request would be 24 bytes; a pool that is trimmed in a slow run is none of it.
        Assert.InRange(AllocatedBy(weir, "/f.html", $"Accept-Encoding: {coding}"), 0, CountedRequests);
        using RawClient client = weir.Connect();
        Assert.Equal(coding, client.Get("/f.html", $"Accept-Encoding: {coding}")["Content-Encoding"]);
        // What compressed them waits for the next.
        Assert.Matches("\"encoders\":[1-9]", client.Get("/status").Text);
    }

    [Fact]
    public void A_proxied_request_allocates_nothing()
    {
        using var upstream = ServerProcess.Weir(Conf.Server("location / { return 200 hello; }"));
        using var weir = ServerProcess.Weir(Conf.Server(
            Status + " location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }",
            http: "upstream app { server 127.0.0.1:%UPSTREAM%; keepalive 128; }", master: true),
            upstreamPort: upstream.Port);
        AssertNothing(AllocatedBy(weir, "/"));
    }

    [Fact]
    public void A_cache_hit_allocates_nothing()
    {
        using var upstream = ServerProcess.Weir(Conf.Server("location / { expires 1h; return 200 hello; }"));
        using var weir = ServerProcess.Weir(Conf.Server(
            Status + " location / { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_cache one; }",
            http: "proxy_cache_path %DIR%/cache keys_zone=one:1m use_temp_path=off;", master: true),
            upstreamPort: upstream.Port);
        AssertNothing(AllocatedBy(weir, "/"));
    }

    [Fact]
    public void A_logged_request_allocates_nothing()
    {
        using var weir = ServerProcess.Weir(Conf.Server(
            Status + " access_log %DIR%/access.log combined; location / { return 200 hello; }", master: true));
        AssertNothing(AllocatedBy(weir, "/"));
    }

    [Fact]
    public void An_HTTP2_stream_allocates_nothing()
    {
        using var files = new TempDir();
        files.Write("f.txt", new string('x', 1024));
        using var weir = ServerProcess.Weir(Conf.Server(
            Status + " http2 on; keepalive_requests 1000000; open_file_cache max=100; location / { }", master: true),
            files);
        AssertNothing(AllocatedByStreams(weir, "/f.txt"));
    }

    [Fact]
    public void A_proxied_HTTP2_stream_allocates_nothing()
    {
        using var upstream = ServerProcess.Weir(Conf.Server("location / { return 200 hello; }"));
        using var weir = ServerProcess.Weir(Conf.Server(Status + """
            http2 on; keepalive_requests 1000000;
            location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
            """, http: "upstream app { server 127.0.0.1:%UPSTREAM%; keepalive 128; }", master: true),
            upstreamPort: upstream.Port);
        AssertNothing(AllocatedByStreams(weir, "/"));
    }

    /// <summary>The same over HTTP/2: 64 streams in flight on each of two connections.</summary>
    private static long AllocatedByStreams(ServerProcess weir, string path)
    {
        using RawClient status = weir.Connect();
        Http2Client[] clients = [Http2Client.Connect(weir.Port), Http2Client.Connect(weir.Port)];
        RoundsOfStreams(clients, path, WarmRequests / InFlight + 1);
        Allocated(status);
        Allocated(status);
        RoundsOfStreams(clients, path, 2);
        long allocated = long.MaxValue;
        for (int window = 0; window < WindowsMax && allocated != 0; window++)
        {
            long before = Allocated(status);
            RoundsOfStreams(clients, path, CountedRequests / InFlight / clients.Length);
            allocated = Allocated(status) - before;
        }
        foreach (Http2Client client in clients)
        {
            client.Dispose();
        }
        return allocated;
    }

    private static void RoundsOfStreams(Http2Client[] clients, string path, int rounds)
    {
        for (int i = 0; i < rounds; i++)
        {
            int[][] ids = [.. clients.Select(c => Enumerable.Range(0, InFlight).Select(_ => c.Begin(path)).ToArray())];
            for (int c = 0; c < clients.Length; c++)
            {
                foreach (int id in ids[c])
                {
                    Assert.Equal(200, clients[c].ReadAnswer(id).Status);
                    clients[c].Forget(id);
                }
            }
        }
    }

    private static void AssertNothing(long bytes) => Assert.Equal(0, bytes);

    /// <summary>Bytes the worker's loop allocated while it answered the counted requests. A pool that grows once
    /// because more is under way than ever before is warming up, not a byte per request: then the next window counts.
    /// What allocates per request has no window without a byte.</summary>
    private static long AllocatedBy(ServerProcess weir, string path, params string[] headers)
    {
        byte[] request = Encoding.Latin1.GetBytes(RawClient.Request("GET", path, headers));
        using RawClient status = weir.Connect();
        RawClient[] clients = [.. Enumerable.Range(0, InFlight).Select(_ => weir.Connect())];
        Rounds(clients, request, WarmRequests / InFlight + 1);
        // The question itself has to be warm too.
        Allocated(status);
        Allocated(status);
        Rounds(clients, request, 2);
        long allocated = long.MaxValue;
        for (int window = 0; window < WindowsMax && allocated != 0; window++)
        {
            long before = Allocated(status);
            Rounds(clients, request, CountedRequests / InFlight);
            allocated = Allocated(status) - before;
        }
        foreach (RawClient client in clients)
        {
            client.Dispose();
        }
        return allocated;
    }

    /// <summary>Every client sends, then every client reads: all requests are in flight together.</summary>
    private static void Rounds(RawClient[] clients, byte[] request, int rounds)
    {
        for (int i = 0; i < rounds; i++)
        {
            foreach (RawClient client in clients)
            {
                client.Send(request);
            }
            foreach (RawClient client in clients)
            {
                HttpResponse answer = client.ReadResponse();
                Assert.Equal(200, answer.Status);
            }
        }
    }

    private static long Allocated(RawClient status) => long.Parse(
        Counter().Match(status.Get("/status").Text).Groups[1].Value, CultureInfo.InvariantCulture);

    [GeneratedRegex("\"allocated_bytes\":([0-9]+)")]
    private static partial Regex Counter();
}
