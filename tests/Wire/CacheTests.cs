// The cache over real sockets: what is stored, what is served, what is asked for again. Answers that must be stale at
// once come with an Age, so that no test waits for a clock.
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class CacheTests
{
    internal const string Path = "proxy_cache_path %DIR%/cache levels=1:2 keys_zone=one:1m use_temp_path=off;";

    internal const string Pass = """
        location / {
            proxy_pass http://127.0.0.1:%UPSTREAM%;
            proxy_cache one;
            add_header X-Cache $upstream_cache_status always;
            %MORE%
        }
        """;

    internal static ServerProcess Start(Upstream upstream, string more = "", string path = Path, int workers = 1,
        bool master = false, string outside = "") => ServerProcess.Weir(
            Conf.Server(Pass.Replace("%MORE%", more) + outside, path, workers, master), upstreamPort: upstream.Port);

    internal static string CacheOf(HttpResponse response) => response["X-Cache"] ?? "";

    [Fact]
    public void A_response_that_may_be_stored_is_asked_for_once()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("hello", "Cache-Control: max-age=100"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        HttpResponse first = client.Get("/a");
        HttpResponse second = client.Get("/a");
        HttpResponse third = client.Get("/a");

        Assert.Equal("MISS", CacheOf(first));
        Assert.Equal("HIT", CacheOf(second));
        Assert.Equal("HIT", CacheOf(third));
        Assert.Equal("hello", third.Text);
        Assert.NotNull(third["Age"]);
        Assert.Single(upstream.Requests);
    }

    [Fact]
    public void A_large_response_is_stored_whole_and_served_from_its_file()
    {
        string body = new([.. Enumerable.Range(0, 700_000).Select(static i => (char)('a' + i % 26))]);
        using Upstream upstream = Upstream.Answering(Upstream.Ok(body, "Cache-Control: max-age=100"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        Assert.Equal(body, client.Get("/large").Text);
        HttpResponse hit = client.Get("/large");

        Assert.Equal("HIT", CacheOf(hit));
        Assert.Equal(body, hit.Text);
        Assert.Single(upstream.Requests);
    }

    [Fact]
    public void A_response_without_a_length_is_stored_when_it_came_to_its_end()
    {
        using Upstream upstream = Upstream.Answering("HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\n"
            + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        Assert.Equal("hello world", Encoding.Latin1.GetString(client.Get("/").Decoded()));
        HttpResponse hit = client.Get("/");

        Assert.Equal("HIT", CacheOf(hit));
        Assert.Equal("hello world", hit.Text);
        Assert.Equal("11", hit["Content-Length"]);
    }

    [Fact]
    public void A_response_that_ends_too_early_is_not_stored()
    {
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            c.Send("HTTP/1.1 200 OK\r\nCache-Control: max-age=100\r\nContent-Length: 100\r\n\r\nhalf");
        });
        using ServerProcess weir = Start(upstream);
        for (int i = 0; i < 2; i++)
        {
            using RawClient client = weir.Connect();
            client.Send(RawClient.Request("GET", "/", []));
            client.ReadToEnd();
        }

        Assert.Equal(2, upstream.Connections);
    }

    [Fact]
    public void A_stored_response_survives_a_restart()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("kept", "Cache-Control: max-age=1000"));
        using ServerProcess weir = Start(upstream);
        Assert.Equal("MISS", CacheOf(weir.Get("/")));
        Wait.For("the file", () => Files(weir).Length == 1);
        weir.Restart();
        HttpResponse hit = weir.Get("/");

        Assert.Equal("HIT", CacheOf(hit));
        Assert.Equal("kept", hit.Text);
    }

    [Fact]
    public void A_corrupt_file_is_dropped_and_fetched_again()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("whole", "Cache-Control: max-age=1000"));
        using ServerProcess weir = Start(upstream);
        weir.Get("/");
        Wait.For("the file", () => Files(weir).Length == 1);
        weir.Stop();
        string file = Files(weir)[0];
        byte[] bytes = File.ReadAllBytes(file);
        bytes[160] ^= 1;
        File.WriteAllBytes(file, bytes);
        weir.Restart();
        HttpResponse again = weir.Get("/");

        Assert.Equal("MISS", CacheOf(again));
        Assert.Equal("whole", again.Text);
        Wait.For("the log", () => weir.ErrorLog.Contains("is not whole", StringComparison.Ordinal));
    }

    internal static string[] Files(ServerProcess weir) => Directory.Exists(weir.Dir.At("cache"))
        ? [.. Directory.GetFiles(weir.Dir.At("cache"), "*", SearchOption.AllDirectories)
            .Where(static f => System.IO.Path.GetFileName(f).Length == 32)] : [];

    [Fact]
    public void A_stale_response_is_validated_and_lives_on()
    {
        using Upstream upstream = Upstream.Answering(r => r.Header("If-None-Match") == "\"v1\""
            ? "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nCache-Control: max-age=100\r\nX-New: yes\r\n\r\n"
            : Upstream.Ok("body", "ETag: \"v1\"", "Cache-Control: max-age=5", "Age: 10"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        Assert.Equal("MISS", CacheOf(client.Get("/")));
        HttpResponse validated = client.Get("/");
        HttpResponse hit = client.Get("/");

        Assert.Equal("REVALIDATED", CacheOf(validated));
        Assert.Equal("body", validated.Text);
        Assert.Equal("HIT", CacheOf(hit));
        Assert.Equal("yes", hit["X-New"]);
        Assert.Equal("body", hit.Text);
        Assert.Equal(2, upstream.Requests.Count);
    }

    [Fact]
    public void A_stale_response_that_changed_is_replaced()
    {
        int asked = 0;
        using Upstream upstream = Upstream.Answering(_ => Interlocked.Increment(ref asked) == 1
            ? Upstream.Ok("old", "ETag: \"v1\"", "Cache-Control: max-age=5", "Age: 10")
            : Upstream.Ok("new", "ETag: \"v2\"", "Cache-Control: max-age=100"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        client.Get("/");
        HttpResponse changed = client.Get("/");
        HttpResponse hit = client.Get("/");

        Assert.Equal("EXPIRED", CacheOf(changed));
        Assert.Equal("new", changed.Text);
        Assert.Equal("HIT", CacheOf(hit));
        Assert.Equal("new", hit.Text);
    }

    [Fact]
    public void Variants_are_stored_apart()
    {
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Header("Accept-Language") ?? "none",
            "Vary: Accept-Language", "Cache-Control: max-age=100"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        Assert.Equal("MISS", CacheOf(client.Get("/", "Accept-Language: de")));
        Assert.Equal("MISS", CacheOf(client.Get("/", "Accept-Language: fr")));
        HttpResponse german = client.Get("/", "Accept-Language: de");
        HttpResponse french = client.Get("/", "Accept-Language:  fr ");

        Assert.Equal(("HIT", "de"), (CacheOf(german), german.Text));
        Assert.Equal(("HIT", "fr"), (CacheOf(french), french.Text));
        Assert.Equal(2, upstream.Requests.Count);
    }

    [Fact]
    public void Ranges_conditions_and_heads_are_answered_from_what_is_stored()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("0123456789", "Cache-Control: max-age=100",
            "ETag: \"v1\"", "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        client.Get("/");
        HttpResponse part = client.Get("/", "Range: bytes=2-4");
        HttpResponse beyond = client.Get("/", "Range: bytes=20-");
        HttpResponse same = client.Get("/", "If-None-Match: \"v1\"");
        HttpResponse since = client.Get("/", "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT");
        client.Send(RawClient.Request("HEAD", "/", []));
        HttpResponse head = client.ReadResponse(answersHead: true);

        Assert.Equal((206, "234"), (part.Status, part.Text));
        Assert.Equal(416, beyond.Status);
        Assert.Equal(304, same.Status);
        Assert.Equal(304, since.Status);
        Assert.Equal((200, "10"), (head.Status, head["Content-Length"]));
        Assert.Single(upstream.Requests);
    }

    [Fact]
    public void A_range_that_misses_fetches_the_whole_and_answers_the_part()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("0123456789", "Cache-Control: max-age=100"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        HttpResponse part = client.Get("/", "Range: bytes=2-4");
        HttpResponse whole = client.Get("/");

        Assert.Equal((206, "234"), (part.Status, part.Text));
        Assert.Equal(("HIT", "0123456789"), (CacheOf(whole), whole.Text));
        Assert.DoesNotContain("Range", Encoding.Latin1.GetString(upstream.Requests[0]), StringComparison.Ordinal);
    }

    [Fact]
    public void A_head_that_misses_fetches_the_whole()
    {
        using Upstream upstream = Upstream.Answering(Upstream.Ok("body", "Cache-Control: max-age=100"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("HEAD", "/", []));
        Assert.Equal("4", client.ReadResponse(answersHead: true)["Content-Length"]);
        HttpResponse hit = client.Get("/");

        Assert.Equal(("HIT", "body"), (CacheOf(hit), hit.Text));
        Assert.StartsWith("GET", Encoding.Latin1.GetString(upstream.Requests[0]), StringComparison.Ordinal);
    }

    [Fact]
    public void An_error_leaves_the_stale_response_in_use()
    {
        int asked = 0;
        using Upstream upstream = Upstream.Answering(_ => Interlocked.Increment(ref asked) == 1
            ? Upstream.Ok("old", "ETag: \"a\"", "Cache-Control: max-age=5, stale-if-error=600", "Age: 10")
            : "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        client.Get("/");
        HttpResponse stale = client.Get("/");

        Assert.Equal(("STALE", "old", 200), (CacheOf(stale), stale.Text, stale.Status));
    }

    [Fact]
    public void A_dead_server_leaves_the_stale_response_in_use()
    {
        using var upstream = new Upstream(c =>
        {
            c.ReadRequest();
            if (c.Index == 0)
            {
                c.Send(Upstream.Ok("old", "ETag: \"a\"", "Cache-Control: max-age=5", "Age: 10"));
            }
        });
        using ServerProcess weir = Start(upstream, "proxy_cache_use_stale error;");
        using RawClient client = weir.Connect();
        client.Get("/");
        HttpResponse stale = client.Get("/");

        Assert.Equal(("STALE", "old"), (CacheOf(stale), stale.Text));
    }

    [Fact]
    public void A_stale_response_serves_while_it_is_updated_behind()
    {
        int asked = 0;
        using Upstream upstream = Upstream.Answering(_ => Interlocked.Increment(ref asked) == 1
            ? Upstream.Ok("old", "Cache-Control: max-age=5, stale-while-revalidate=600", "Age: 10")
            : Upstream.Ok("new", "Cache-Control: max-age=100"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        client.Get("/");
        HttpResponse stale = client.Get("/");
        Wait.For("the update", () => CacheOf(client.Get("/")) == "HIT");

        Assert.Equal(("STALE", "old"), (CacheOf(stale), stale.Text));
        Assert.Equal("new", client.Get("/").Text);
        Assert.Equal(2, upstream.Requests.Count);
    }

    [Fact]
    public void Bypassed_requests_are_asked_and_stored()
    {
        int asked = 0;
        using Upstream upstream = Upstream.Answering(_ =>
            Upstream.Ok($"{Interlocked.Increment(ref asked)}", "Cache-Control: max-age=100"));
        using ServerProcess weir = Start(upstream, "proxy_cache_bypass $http_x_fresh;");
        using RawClient client = weir.Connect();
        client.Get("/");
        HttpResponse bypassed = client.Get("/", "X-Fresh: 1");

        Assert.Equal(("BYPASS", "2"), (CacheOf(bypassed), bypassed.Text));
        Wait.For("the new response", () => client.Get("/") is { Text: "2" } hit && CacheOf(hit) == "HIT");
        Assert.Equal(2, upstream.Requests.Count);
    }

    [Fact]
    public void An_answer_that_was_asked_for_earlier_does_not_take_the_place_of_a_newer_one()
    {
        using var go = new ManualResetEventSlim();
        string half = new('o', 300_000);
        int asked = 0;
        using var upstream = new Upstream(c =>
        {
            while (c.ReadRequest() is not null)
            {
                if (Interlocked.Increment(ref asked) > 1)
                {
                    c.Send(Upstream.Ok("new", "Cache-Control: max-age=100"));
                    continue;
                }
                c.Send($"HTTP/1.1 200 OK\r\nCache-Control: max-age=100\r\nContent-Length: {half.Length * 2}\r\n\r\n");
                c.Send(half);
                go.Wait(30_000);
                c.Send(half);
            }
        });
        using ServerProcess weir = Start(upstream, "proxy_cache_bypass $http_x_fresh;");
        using RawClient slow = weir.Connect();
        slow.Send(RawClient.Request("GET", "/", []));
        slow.ReadBytes(1000);
        Wait.For("what grows", () => Directory.Exists(weir.Dir.At("cache"))
            && Directory.GetFiles(weir.Dir.At("cache"), "*", SearchOption.AllDirectories).Length == 1);
        Assert.Equal("BYPASS", CacheOf(weir.Get("/", "X-Fresh: 1")));
        Wait.For("the new response", () => Files(weir).Length == 1);
        go.Set();
        Wait.For("the end of what grew", () =>
            Directory.GetFiles(weir.Dir.At("cache"), "*", SearchOption.AllDirectories).Length == 1);

        Assert.Equal(("HIT", "new"), weir.Get("/") is var hit ? (CacheOf(hit), hit.Text) : default);
        Assert.Equal(2, upstream.Requests.Count);
    }

    [Fact]
    public void A_change_by_another_method_makes_what_is_stored_worthless()
    {
        int asked = 0;
        using Upstream upstream = Upstream.Answering(_ =>
            Upstream.Ok($"{Interlocked.Increment(ref asked)}", "Cache-Control: max-age=100"));
        using ServerProcess weir = Start(upstream);
        using RawClient client = weir.Connect();
        client.Get("/");
        client.Send(RawClient.Request("DELETE", "/", [])).ReadResponse();
        HttpResponse after = client.Get("/");

        Assert.Equal(("MISS", "3"), (CacheOf(after), after.Text));
    }
}
