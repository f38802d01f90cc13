// The rules of caching as data: an answer, two requests, and what the second of them gets. Under RFC 9111, and where
// nginx differs, under nginx's rules. Purges, stores and a disk that is full beside them.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class CacheRuleTests : IClassFixture<CacheRuleTests.Shared>
{
    private static Action? s_end;

    /// <summary>Ends what the tests share, when the last of them has run.</summary>
    public sealed class Shared : IDisposable
    {
        public void Dispose() => s_end?.Invoke();
    }

    /// <summary>Conformance, the answer's fields, the first and the second request's fields, what the second
    /// is.</summary>
    public static TheoryData<string, string, string, string, string> Rows => new()
    {
        // Lifetimes.
        { "rfc9111", "Cache-Control: max-age=60", "", "", "HIT" },
        { "rfc9111", "Cache-Control: max-age=60|Age: 61|ETag: \"a\"", "", "", "EXPIRED" },
        { "rfc9111", "Cache-Control: max-age=1, s-maxage=60|Age: 2", "", "", "HIT" },
        { "rfc9111", "Cache-Control: s-maxage=1, max-age=60|Age: 2|ETag: \"a\"", "", "", "EXPIRED" },
        { "rfc9111", "Expires: Thu, 01 Jan 2099 00:00:00 GMT", "", "", "HIT" },
        { "rfc9111", "Expires: 0", "", "", "MISS" },
        { "rfc9111", "Cache-Control: max-age=60|Expires: 0", "", "", "HIT" },
        { "rfc9111", "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT", "", "", "HIT" },
        { "rfc9111", "X-None: 1", "", "", "MISS" },
        { "rfc9111", "X-Accel-Expires: 60|Cache-Control: no-store, private", "", "", "MISS" },
        { "rfc9111", "X-Accel-Expires: 60|Cache-Control: max-age=0", "", "", "HIT" },
        { "rfc9111", "X-Accel-Expires: 0|Cache-Control: max-age=60", "", "", "MISS" },
        // What must not be stored, or not be used.
        { "rfc9111", "Cache-Control: no-store", "", "", "MISS" },
        { "rfc9111", "Cache-Control: no-store, must-understand, max-age=60", "", "", "HIT" },
        { "rfc9111", "Cache-Control: private, max-age=60", "", "", "MISS" },
        { "rfc9111", "Cache-Control: private=\"X-Secret\", max-age=60|X-Secret: 1", "", "", "HIT" },
        { "rfc9111", "Cache-Control: no-cache, max-age=60|ETag: \"a\"", "", "", "EXPIRED" },
        { "rfc9111", "Cache-Control: max-age=60|Vary: *", "", "", "MISS" },
        { "rfc9111", "Cache-Control: max-age=60|Set-Cookie: a=b", "", "", "MISS" },
        { "rfc9111", "Cache-Control: max-age=60", "Authorization: x", "", "MISS" },
        { "rfc9111", "Cache-Control: public, max-age=60", "Authorization: x", "", "HIT" },
        { "rfc9111", "Cache-Control: s-maxage=60", "Authorization: x", "", "HIT" },
        // Targeted fields.
        { "rfc9111", "CDN-Cache-Control: max-age=60|Cache-Control: no-store", "", "", "HIT" },
        { "rfc9111", "CDN-Cache-Control: no-store|Cache-Control: max-age=60", "", "", "MISS" },
        { "rfc9111", "CDN-Cache-Control: max-age=\"60\"|Cache-Control: no-store", "", "", "MISS" },
        // Requests.
        { "rfc9111", "Cache-Control: max-age=60", "Cache-Control: no-store", "", "MISS" },
        { "rfc9111", "Cache-Control: max-age=60|ETag: \"a\"", "", "Cache-Control: no-cache", "EXPIRED" },
        { "rfc9111", "Cache-Control: max-age=60|ETag: \"a\"", "", "Pragma: no-cache", "EXPIRED" },
        { "rfc9111", "Cache-Control: max-age=60|Age: 10|ETag: \"a\"", "", "Cache-Control: max-age=5", "EXPIRED" },
        { "rfc9111", "Cache-Control: max-age=60|ETag: \"a\"", "", "Cache-Control: min-fresh=61", "EXPIRED" },
        { "rfc9111", "Cache-Control: max-age=60|Age: 70|ETag: \"a\"", "", "Cache-Control: max-stale=60", "HIT" },
        { "rfc9111", "Cache-Control: max-age=60, must-revalidate|Age: 70|ETag: \"a\"", "",
            "Cache-Control: max-stale=60", "EXPIRED" },
        { "rfc9111", "Cache-Control: no-store", "", "Cache-Control: only-if-cached", "504" },
        { "rfc9111", "Cache-Control: max-age=60", "", "Cache-Control: only-if-cached", "HIT" },
        // Variants.
        { "rfc9111", "Cache-Control: max-age=60|Vary: X-A", "X-A: 1", "X-A: 2", "MISS" },
        { "rfc9111", "Cache-Control: max-age=60|Vary: X-A, X-B", "X-A: 1", "X-A: 1", "HIT" },
        { "rfc9111", "Cache-Control: max-age=60|Vary: X-A", "X-A: 1,2", "X-A: 1, 2", "HIT" },
        // nginx's own ways.
        { "nginx", "Cache-Control: max-age=60", "", "", "HIT" },
        { "nginx", "Cache-Control: max-age=60|Age: 61", "", "", "HIT" },
        { "nginx", "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT", "", "", "MISS" },
        { "nginx", "Cache-Control: no-cache, max-age=60|ETag: \"a\"", "", "", "MISS" },
        { "nginx", "Cache-Control: max-age=60", "", "Cache-Control: no-cache", "HIT" },
        { "nginx", "Cache-Control: max-age=60", "Authorization: x", "", "HIT" },
        { "nginx", "Cache-Control: max-age=60|Vary: X-A", "X-A: 1", "X-A: 2", "MISS" },
        { "nginx", "Cache-Control: max-age=60|Set-Cookie: a=b", "", "", "MISS" },
        { "nginx", "X-Accel-Expires: 60|Cache-Control: no-store", "", "", "HIT" },
    };

    private static readonly Lazy<(Upstream Upstream, ServerProcess Weir)> s_shared = new(() =>
    {
        Upstream upstream = Upstream.Answering(static r => Upstream.Ok("body",
            Uri.UnescapeDataString(r.Target.Split('?')[1].Split('&')[0]).Split('|')));
        var weir = ServerProcess.Weir(Conf.Server("""
            add_header X-Cache $upstream_cache_status always;
            location /rfc9111/ { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_cache one; }
            location /nginx/ {
                proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_cache one; proxy_cache_conformance nginx;
            }
            """, CacheTests.Path), upstreamPort: upstream.Port);
        s_end = () =>
        {
            weir.Dispose();
            upstream.Dispose();
        };
        return (upstream, weir);
    });

    [Theory]
    [MemberData(nameof(Rows))]
    public void A_row_of_the_rules(string conformance, string answer, string first, string second, string expected)
    {
        using RawClient client = s_shared.Value.Weir.Connect();
        string target = $"/{conformance}/?{Uri.EscapeDataString(answer)}&{Guid.NewGuid():n}";
        client.Get(target, Fields(first));
        HttpResponse then = client.Get(target, Fields(second));

        Assert.Equal(expected, then.Status == 200 ? CacheTests.CacheOf(then) : $"{then.Status}");
        Assert.Null(then["X-Secret"]);
    }

    private static string[] Fields(string text) => text.Length == 0 ? [] : text.Split('|');

    [Fact]
    public void Configured_times_hold_for_answers_that_say_nothing()
    {
        using Upstream upstream = Upstream.Answering(r => r.Target == "/404"
            ? "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" : Upstream.Ok("x"));
        using ServerProcess weir = CacheTests.Start(upstream, "proxy_cache_valid 1m; proxy_cache_valid 404 1m;");
        using RawClient client = weir.Connect();
        client.Get("/");
        client.Get("/404");

        Assert.Equal("HIT", CacheTests.CacheOf(client.Get("/")));
        Assert.Equal((404, "HIT"), client.Get("/404") is var r ? (r.Status, CacheTests.CacheOf(r)) : default);
    }

    [Fact]
    public void What_is_asked_for_too_seldom_is_not_stored()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("x", "Cache-Control: max-age=60"));
        using ServerProcess weir = CacheTests.Start(upstream, "proxy_cache_min_uses 3;");
        using RawClient client = weir.Connect();

        Assert.Equal(["MISS", "MISS", "MISS", "HIT"],
            Enumerable.Range(0, 4).Select(_ => CacheTests.CacheOf(client.Get("/"))));
    }

    [Fact]
    public void Predicates_keep_answers_out()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("x", "Cache-Control: max-age=60"));
        using ServerProcess weir = CacheTests.Start(upstream, "proxy_no_cache $arg_private;");
        using RawClient client = weir.Connect();
        client.Get("/?private=1");
        client.Get("/?private=0");

        Assert.Equal("MISS", CacheTests.CacheOf(client.Get("/?private=1")));
        Assert.Equal("HIT", CacheTests.CacheOf(client.Get("/?private=0")));
    }

    // Purges.

    [Fact]
    public void A_purge_removes_a_key_or_all_that_begin_so()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("x", "Cache-Control: max-age=60"));
        using ServerProcess weir = CacheTests.Start(upstream,
            "proxy_cache_key $uri; proxy_cache_purge $http_x_purge;");
        using RawClient client = weir.Connect();
        foreach (string path in (string[])["/a/1", "/a/2", "/b/1"])
        {
            client.Get(path);
        }
        Assert.Equal(204, client.Get("/a/1", "X-Purge: 1").Status);
        Assert.Equal(404, client.Get("/nothing", "X-Purge: 1").Status);
        Assert.Equal("MISS", CacheTests.CacheOf(client.Get("/a/1")));
        Assert.Equal("HIT", CacheTests.CacheOf(client.Get("/a/2")));
        Assert.Equal(204, client.Get("/a/*", "X-Purge: 1").Status);
        Assert.Equal("MISS", CacheTests.CacheOf(client.Get("/a/2")));
        Assert.Equal("HIT", CacheTests.CacheOf(client.Get("/b/1")));
    }

    [Fact]
    public void A_purge_by_tag_removes_what_carries_it_and_outlives_a_restart()
    {
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok("x", "Cache-Control: max-age=600",
            r.Target == "/red" ? "Surrogate-Key: red all" : "Cache-Tag: blue,all"));
        using ServerProcess weir = CacheTests.Start(upstream, "proxy_cache_purge_tags $http_x_tags;");
        weir.Get("/red");
        weir.Get("/blue");
        Wait.For("the files", () => CacheTests.Files(weir).Length == 2);
        Assert.Equal(204, weir.Get("/", "X-Tags: red").Status);
        weir.Restart();

        Assert.Equal("MISS", CacheTests.CacheOf(weir.Get("/red")));
        Assert.Equal("HIT", CacheTests.CacheOf(weir.Get("/blue")));
    }

    /// <summary>Their heads came before the purge; the body of one ends while the purge's mark is there, that of the
    /// other when it has gone: neither is served.</summary>
    [Fact]
    public void An_answer_under_way_does_not_outlive_its_purge()
    {
        using var early = new ManualResetEventSlim();
        using var late = new ManualResetEventSlim();
        using var upstream = new Upstream(connection =>
        {
            while (connection.ReadRequest() is { } request)
            {
                connection.Send("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nSurrogate-Key: red\r\n"
                    + "Content-Length: 100003\r\n\r\n" + new string('x', 100_000));
                (request.Target == "/early" ? early : late).Wait(60_000);
                connection.Send("end");
            }
        });
        using ServerProcess weir = CacheTests.Start(upstream, "proxy_cache_purge_tags $http_x_tags;");
        using RawClient first = weir.Connect(), second = weir.Connect();
        first.Send(RawClient.Request("GET", "/early", []));
        second.Send(RawClient.Request("GET", "/late", []));
        Assert.True(first.WaitForBytes(10_000) && second.WaitForBytes(10_000));
        Assert.Equal(204, weir.Get("/", "X-Tags: red").Status);
        string taken = weir.Dir.At("cache/purges.taken");
        Wait.For("the manager", () => File.Exists(taken), 30_000);
        early.Set();
        Assert.EndsWith("xend", first.ReadResponse().Text);
        Wait.For("the mark's end", () => !File.Exists(taken), 30_000);
        late.Set();
        Assert.EndsWith("xend", second.ReadResponse().Text);
        Assert.Equal(("MISS", "MISS"), (CacheTests.CacheOf(weir.Get("/early")), CacheTests.CacheOf(weir.Get("/late"))));
    }

    // Stores.

    [Fact]
    public void A_stored_file_is_the_answer_with_its_time_and_rights()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("kept",
            "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"));
        using var weir = ServerProcess.Weir(Conf.Server("""
            location / {
                root %DIR%/store;
                proxy_pass http://127.0.0.1:%UPSTREAM%;
                proxy_store on;
                proxy_store_access user:rw group:rw all:r;
                proxy_temp_path %DIR%/store-temp;
            }
            """), upstreamPort: upstream.Port);
        Assert.Equal("kept", weir.Get("/a/b.txt").Text);
        string file = weir.Dir.At("store/a/b.txt");
        Wait.For("the file", () => File.Exists(file));

        Assert.Equal("kept", File.ReadAllText(file));
        Assert.Equal(new DateTime(2015, 1, 1, 0, 0, 0, DateTimeKind.Utc), File.GetLastWriteTimeUtc(file));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite
            | UnixFileMode.OtherRead, File.GetUnixFileMode(file));
    }

    // Disks.

    [Fact]
    public void A_disk_that_takes_nothing_costs_the_stored_response_and_nothing_else()
    {
        string body = new('x', 300_000);
        using Upstream upstream = Upstream.Answering(Upstream.Ok(body, "Cache-Control: max-age=60"));
        using ServerProcess weir = CacheTests.Start(upstream,
            path: "proxy_cache_path %DIR%/cache keys_zone=one:1m use_temp_path=off;");
        using RawClient client = weir.Connect();
        Directory.Delete(weir.Dir.At("cache"), recursive: true);
        File.WriteAllText(weir.Dir.At("cache"), "no directory");
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(("MISS", body), client.Get("/") is var r ? (CacheTests.CacheOf(r), r.Text) : default);
        }
        Wait.For("the log", () => weir.ErrorLog.Contains("failed", StringComparison.Ordinal));
        File.Delete(weir.Dir.At("cache"));
        client.Get("/");
        Wait.For("the cache at work again", () => CacheTests.CacheOf(client.Get("/")) == "HIT");
    }

    [Fact]
    public void A_client_that_leaves_does_not_cost_the_stored_response()
    {
        using var go = new ManualResetEventSlim();
        string half = new('x', 200_000);
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            c.Send($"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {half.Length * 2}\r\n\r\n{half}");
            go.Wait(30_000);
            c.Send(half);
            c.ReadRequest();
        });
        using ServerProcess weir = CacheTests.Start(upstream);
        using (RawClient client = weir.Connect())
        {
            client.Send(RawClient.Request("GET", "/", []));
            client.ReadBytes(1000);
            client.Reset();
        }
        go.Set();
        // The key is known to have a file a moment after the file is there; until then nobody asks the server again.
        HttpResponse? hit = null;
        Wait.For("the stored response",
            () => (hit = weir.Get("/", "Cache-Control: only-if-cached")).Status == 200);
        Assert.Equal(("HIT", half.Length * 2), (CacheTests.CacheOf(hit!), hit!.Text.Length));
        Assert.Single(upstream.Requests);
    }
}
