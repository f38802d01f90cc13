// What modules make reaches a client of HTTP/2 as it does one of HTTP/1: gateways of other protocols, the cache,
// filters that need bytes, subrequests, internal redirects.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class Http2ModuleTests : IDisposable
{
    private readonly TempDir _files = new();
    private readonly Upstream _upstream = Upstream.Answering(static r =>
        r.Line.Contains("/deny", StringComparison.Ordinal) ? "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        : Upstream.Ok($"{r.Line.Split(' ')[1]} {r.Body.Length}", "Cache-Control: max-age=60"));

    public void Dispose()
    {
        _files.Dispose();
        _upstream.Dispose();
    }

    [Fact]
    public void Answers_of_modules_are_the_same_as_over_http1()
    {
        _files.Write("a.txt", string.Concat(Enumerable.Repeat("some words here\n", 2000)));
        _files.Write("head.txt", "HEAD ");
        _files.Write("lost.txt", "lost");
        using ServerProcess weir = ServerProcess.Weir(Conf.Server("""
            http2 on;
            error_page 404 /lost.txt;
            location = /gzip { gzip on; gzip_types *; try_files /a.txt =404; }
            location = /add { add_before_body /head.txt; addition_types *; try_files /a.txt =404; }
            location = /sub { sub_filter words WORDS; sub_filter_once off; sub_filter_types *; try_files /a.txt =404; }
            location = /tried { try_files /none /a.txt; }
            location = /lost { try_files /none =404; }
            location = /mirror { mirror /copy; proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location = /copy { internal; proxy_pass http://127.0.0.1:%UPSTREAM%/copied; }
            location = /auth { auth_request /yes; return 200 allowed; }
            location = /yes { internal; proxy_pass http://127.0.0.1:%UPSTREAM%/yes; }
            location = /denied { auth_request /no; return 200 allowed; }
            location = /no { internal; proxy_pass http://127.0.0.1:%UPSTREAM%/deny; }
            location = /cached { proxy_cache c; proxy_pass http://127.0.0.1:%UPSTREAM%;
                add_header X-Cache $upstream_cache_status; }
            location = /sliced {
                slice 4k; proxy_set_header Range $slice_range; proxy_pass http://127.0.0.1:%PORT%/a.txt;
            }
            location = /post { post_action /copy; return 200 posted; }
            """, http: "proxy_cache_path %DIR%/cache keys_zone=c:1m;"), _files, _upstream.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        foreach (string path in (ReadOnlySpan<string>)
            ["/add", "/sub", "/tried", "/lost", "/mirror", "/auth", "/denied", "/cached", "/sliced", "/post",
            "/a.txt"])
        {
            HttpResponse one = weir.Get(path);
            Http2Answer two = client.Get(path);
            Assert.Null(two.Reset);
            Assert.Equal((path, one.Status, one["Content-Type"]), (path, two.Status, two["content-type"]));
            if (path != "/denied")
            {
                Assert.Equal(one.Text, two.Text);
            }
        }
        Assert.Equal("HIT", client.Get("/cached")["x-cache"]);
        Http2Answer zipped = client.Get("/gzip", "accept-encoding: gzip");
        Assert.Equal("gzip", zipped["content-encoding"]);
        using var plain = new StreamReader(new System.IO.Compression.GZipStream(
            new MemoryStream([.. zipped.Body]), System.IO.Compression.CompressionMode.Decompress));
        Assert.Equal(32_000, plain.ReadToEnd().Length);
    }

    [Fact]
    public void Memcached_values_and_misses_arrive()
    {
        using var memcached = new Upstream(static c =>
        {
            while (c.Read() is { Length: > 0 } asked)
            {
                bool knows = asked.AsSpan().StartsWith("get /key"u8);
                c.Send(knows ? "VALUE /key 0 5\r\nvalue\r\nEND\r\n" : "END\r\n");
            }
        });
        using ServerProcess weir = ServerProcess.Weir(Conf.Server("""
            http2 on;
            location / { set $memcached_key $uri; memcached_pass 127.0.0.1:%UPSTREAM%; }
            """), upstreamPort: memcached.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        Assert.Equal("value", client.Get("/key").Text);
        Assert.Equal(404, client.Get("/none").Status);
    }

    [Fact]
    public void FastCGI_answers_arrive_with_their_bodies()
    {
        static byte[] Record(byte type, string content) => [1, type, 0, 1, (byte)(content.Length >> 8),
            (byte)content.Length, 0, 0, .. System.Text.Encoding.Latin1.GetBytes(content)];
        using var app = new Upstream(static c =>
        {
            c.Read();
            c.Send([.. Record(6, "Status: 201 Made\r\nContent-Type: text/plain\r\n\r\nfrom fastcgi"), .. Record(6, ""),
                .. Record(3, "\0\0\0\0\0\0\0\0")]);
        });
        using ServerProcess weir = ServerProcess.Weir(Conf.Server("""
            http2 on;
            location / { fastcgi_pass 127.0.0.1:%UPSTREAM%; fastcgi_param REQUEST_METHOD $request_method; }
            """), upstreamPort: app.Port);
        using Http2Client client = Http2Client.Connect(weir.Port);
        Http2Answer answer = client.Get("/x");
        Assert.Equal((201, "text/plain", "from fastcgi"), (answer.Status, answer["content-type"], answer.Text));
    }
}
