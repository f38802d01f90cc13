// proxy_cache and proxy_store around app_pass: what an application answers is kept as what a server answers is, and the
// application is asked as a cache asks a server.
using System.Globalization;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AppServer;

public sealed class AppCacheTests
{
    private const int PatientMs = 30_000;

    /// <summary>An application "shop" behind a cache, and what it was asked.</summary>
    private sealed class Shop : IDisposable
    {
        private readonly Port _port = Port.Lease();
        private readonly Configured _configured;
        private readonly List<string> _asked = [];

        public Shop(bool inline, Func<AppRequest, AppResponse, Task> answer, string location = "", string http = "",
            int handlerTimeoutMs = 0)
        {
            var shop = new HostedApplication(async (request, response) =>
            {
                lock (_asked)
                {
                    string?[] conditions =
                    [
                        request.Headers["If-None-Match"], request.Headers["If-Modified-Since"],
                        request.Headers["Range"], request.Headers["If-Range"], request.Headers["X-Own"],
                    ];
                    _asked.Add(string.Join(' ', [request.Method, request.Target,
                        .. conditions.Where(static c => !string.IsNullOrEmpty(c))]));
                }
                await answer(request, response);
            }, inline)
            {
                HandlerTimeout = TimeSpan.FromMilliseconds(handlerTimeoutMs),
            };
            _configured = new Configured($$"""
                error_log {{Files.At("error.log")}};
                events { }
                http {
                    log_format short '$status $upstream_cache_status';
                    access_log {{Files.At("access.log")}} short;
                    proxy_cache_path {{Files.At("cache")}} keys_zone=one:1m;
                    proxy_temp_path {{Files.At("temp")}};
                    {{http}}
                    server {
                        listen 127.0.0.1:{{_port.Number}};
                        http2 on;
                        location / {
                            app_pass shop; {{(location.Contains("proxy_") ? "" : "proxy_cache one; ")}}
                            {{location}}
                            add_header X-Cache $upstream_cache_status always;
                        }
                    }
                }
                """, new() { ["shop"] = shop });
        }

        public TempDir Files { get; } = new();

        public int PortNumber => _port.Number;

        public string[] Asked
        {
            get
            {
                lock (_asked)
                {
                    return [.. _asked];
                }
            }
        }

        public HttpResponse Ask(string path, string fields = "", string method = "GET")
        {
            using RawClient client = RawClient.Connect(_port.Number);
            return client.Send($"{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
                .ReadResponse(method == "HEAD", timeoutMs: PatientMs);
        }

        public void Dispose()
        {
            _configured.Dispose();
            _port.Dispose();
            Files.Dispose();
        }
    }

    private static Func<AppRequest, AppResponse, Task> Answering(string control, Func<AppRequest, string> text) =>
        async (request, response) =>
        {
            response.ContentType = "text/plain";
            response.Headers["Cache-Control"] = control;
            response.Headers["ETag"] = "\"v1\"";
            response.Headers["Last-Modified"] = "Thu, 29 Feb 2024 12:34:56 GMT";
            await response.WriteAsync(text(request));
        };

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_an_application_answers_is_kept_and_answered_without_it(bool inline)
    {
        using var shop = new Shop(inline, Answering("max-age=100", static r => "about " + r.Path));
        HttpResponse first = shop.Ask("/a"), second = shop.Ask("/a");
        Assert.Equal((200, "about /a", "MISS", "text/plain"),
            (first.Status, first.Text, first["X-Cache"], first["Content-Type"]));
        Assert.Equal((200, "about /a", "HIT", "text/plain"),
            (second.Status, second.Text, second["X-Cache"], second["Content-Type"]));
        Assert.NotNull(second["Age"]);
        Assert.Equal(first["ETag"], second["ETag"]);
        // The client's conditions and ranges are answered here.
        Assert.Equal(304, shop.Ask("/a", "If-None-Match: \"v1\"\r\n").Status);
        HttpResponse part = shop.Ask("/a", "Range: bytes=6-7\r\n");
        Assert.Equal((206, "/a"), (part.Status, part.Text));
        HttpResponse head = shop.Ask("/a", method: "HEAD");
        Assert.Equal((200, "8", "HIT"), (head.Status, head["Content-Length"], head["X-Cache"]));
        using (Http2Client client = Http2Client.Connect(shop.PortNumber))
        {
            Assert.Equal("about /a", client.Get("/a").Text);
        }
        Assert.Equal(["GET /a"], shop.Asked);
        const string Log = "200 MISS\n200 HIT\n304 HIT\n206 HIT\n200 HIT\n200 HIT\n";
        Wait.Until(() => shop.Files.Read("access.log").Length >= Log.Length);
        Assert.Equal(Log, shop.Files.Read("access.log"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void It_is_asked_for_the_whole_whatever_the_client_wants_of_it(bool inline)
    {
        using var shop = new Shop(inline, Answering("max-age=100", static r => "about " + r.Path));
        HttpResponse part = shop.Ask("/a", "Range: bytes=0-4\r\nIf-Range: \"v1\"\r\nX-Own: kept\r\n");
        Assert.Equal((206, "about"), (part.Status, part.Text));
        Assert.Equal(304, shop.Ask("/b", "If-None-Match: \"v1\"\r\n").Status);
        Assert.Equal("8", shop.Ask("/c", method: "HEAD")["Content-Length"]);
        using (Http2Client client = Http2Client.Connect(shop.PortNumber))
        {
            Assert.Equal(304, client.Get("/d", "if-none-match: \"v1\"").Status);
        }
        Assert.Equal(["GET /a kept", "GET /b", "GET /c", "GET /d"], shop.Asked);
        Assert.Equal("about /b", shop.Ask("/b").Text);
        Assert.Equal("about /c", shop.Ask("/c").Text);
        Assert.Equal("about /d", shop.Ask("/d").Text);
        Assert.Equal(4, shop.Asked.Length);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void It_says_whether_what_is_stored_is_still_right(bool inline)
    {
        using var shop = new Shop(inline, static async (request, response) =>
        {
            response.Headers["Cache-Control"] = "no-cache";
            response.Headers["ETag"] = "\"v1\"";
            if (request.Headers["If-None-Match"] == "\"v1\"")
            {
                response.StatusCode = 304;
                return;
            }
            await response.WriteAsync("version one");
        });
        Assert.Equal("MISS", shop.Ask("/a")["X-Cache"]);
        Wait.For("it is stored", () => shop.Ask("/a")["X-Cache"] == "REVALIDATED");
        HttpResponse again = shop.Ask("/a");
        Assert.Equal((200, "version one", "REVALIDATED"), (again.Status, again.Text, again["X-Cache"]));
        Assert.Equal("GET /a \"v1\"", shop.Asked[^1]);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void One_that_fails_or_is_slow_is_stood_in_for_by_what_is_stored(bool inline)
    {
        bool fails = false;
        using var shop = new Shop(inline, async (request, response) =>
        {
            if (Volatile.Read(ref fails) && request.Path == "/hangs")
            {
                await Task.Delay(Timeout.Infinite, request.Aborted);
            }
            if (Volatile.Read(ref fails) && request.Path != "/slow")
            {
                throw new InvalidOperationException("on purpose");
            }
            response.Headers["Cache-Control"] = request.Path == "/slow"
                ? "max-age=0, stale-while-revalidate=1000" : "max-age=0, stale-if-error=1000";
            await response.WriteAsync("the answer");
        }, handlerTimeoutMs: 2000);
        Assert.Equal("the answer", shop.Ask("/a").Text);
        Assert.Equal("the answer", shop.Ask("/hangs").Text);
        Assert.Equal("MISS", shop.Ask("/slow")["X-Cache"]);
        Wait.For("all are stored", () => shop.Ask("/a")["X-Cache"] == "EXPIRED"
            && shop.Ask("/hangs")["X-Cache"] == "EXPIRED"
            && shop.Ask("/slow")["X-Cache"] is "STALE" or "UPDATING");
        Volatile.Write(ref fails, true);
        HttpResponse stale = shop.Ask("/a");
        Assert.Equal((200, "the answer", "STALE", null),
            (stale.Status, stale.Text, stale["X-Cache"], stale["Retry-After"]));
        HttpResponse late = shop.Ask("/hangs");
        Assert.Equal((200, "the answer", "STALE", null),
            (late.Status, late.Text, late["X-Cache"], late["Retry-After"]));
        Assert.Equal(500, shop.Ask("/never-stored").Status);
        // Updated behind the client's back, by a request of the server's own.
        int before = shop.Asked.Length;
        Wait.For("an update", () =>
        {
            // While one is under way none is begun.
            Assert.Equal("the answer", shop.Ask("/slow").Text);
            return shop.Asked.Length > before;
        });
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Whatever_is_written_in_pieces_is_kept_whole_and_what_breaks_off_is_not_kept(bool inline)
    {
        const int Pieces = 300, PieceBytes = 10_000;
        byte[] piece = new byte[PieceBytes];
        piece.AsSpan().Fill((byte)'p');
        using var shop = new Shop(inline, async (request, response) =>
        {
            response.Headers["Cache-Control"] = "max-age=100";
            for (int i = 0; i < Pieces; i++)
            {
                await response.WriteAsync(piece);
                await response.FlushAsync();
                if (i == 3 && request.Path == "/broken")
                {
                    response.Abort();
                    return;
                }
            }
        });
        Assert.Equal(Pieces * PieceBytes, shop.Ask("/whole").Body.Length);
        HttpResponse? hit = null;
        Wait.For("it is stored", () => (hit = shop.Ask("/whole"))["X-Cache"] == "HIT");
        Assert.Equal(Pieces * PieceBytes, hit!.Body.Length);
        Assert.False(hit.Body.AsSpan().ContainsAnyExcept((byte)'p'));
        for (int i = 0; i < 2; i++)
        {
            using RawClient client = RawClient.Connect(shop.PortNumber);
            client.Send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n");
            Assert.InRange(client.ReadUntilQuiet(1000).Length, 1, Pieces * PieceBytes - 1);
        }
        Assert.Equal(2, shop.Asked.Count(static a => a == "GET /broken"));
        Assert.Empty(Directory.EnumerateFiles(shop.Files.At("cache"), "*.tmp*", SearchOption.AllDirectories));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Many_at_once_ask_it_once_and_who_varies_is_told_apart(bool inline)
    {
        using var shop = new Shop(inline, static async (request, response) =>
        {
            await Task.Delay(request.Path == "/herd" ? 300 : 0);
            response.Headers["Cache-Control"] = "max-age=100";
            response.Headers["Vary"] = "X-Own";
            await response.WriteAsync("for " + request.Headers["X-Own"]);
        }, "proxy_cache one; proxy_cache_lock on;");
        // On threads of their own: those of the pool are the application's.
        string[] herd = new string[20];
        Thread[] clients = [.. Enumerable.Range(0, herd.Length).Select(i => new Thread(() =>
            herd[i] = shop.Ask("/herd", "X-Own: all\r\n").Text))];
        Array.ForEach(clients, static c => c.Start());
        Array.ForEach(clients, static c => c.Join());
        Assert.All(herd, static text => Assert.Equal("for all", text));
        Assert.Single(shop.Asked);
        foreach (string who in (string[])["me", "you", "me", "you"])
        {
            Assert.Equal("for " + who, shop.Ask("/v", $"X-Own: {who}\r\n").Text);
        }
        Assert.Equal(3, shop.Asked.Length);
    }

    [Fact]
    public void What_changes_a_resource_takes_it_out_of_the_cache_and_other_methods_pass()
    {
        int version = 1;
        using var shop = new Shop(inline: true, async (request, response) =>
        {
            if (request.Method == "POST")
            {
                version++;
                await response.WriteAsync(await request.ReadTextAsync());
                return;
            }
            response.Headers["Cache-Control"] = "max-age=100";
            await response.WriteAsync(string.Create(CultureInfo.InvariantCulture, $"version {version}"));
        });
        Assert.Equal("version 1", shop.Ask("/a").Text);
        Wait.For("it is stored", () => shop.Ask("/a")["X-Cache"] == "HIT");
        Assert.Equal("new", shop.Ask("/a", "Content-Length: 3\r\n\r\nnew", "POST").Text);
        HttpResponse fresh = shop.Ask("/a");
        Assert.Equal(("version 2", "MISS"), (fresh.Text, fresh["X-Cache"]));
    }

    [Fact]
    public void The_settings_of_the_cache_hold_and_come_from_around()
    {
        using var shop = new Shop(inline: true, static async (request, response) =>
        {
            response.StatusCode = request.Path == "/gone" ? 404 : 200;
            response.Headers["X-Accel-Redirect"] = "/b";
            response.Headers["Server"] = "own";
            await response.WriteAsync(request.Path);
        }, "proxy_cache_key $uri; proxy_cache_bypass $arg_new; proxy_cache_purge $arg_purge; "
                + "if ($arg_x) { set $y $arg_x; }",
            "proxy_cache one; proxy_cache_valid 200 404 1h;");
        // Inside of an "if" too, which has settings of its own.
        Assert.Equal("MISS", shop.Ask("/a?x=1")["X-Cache"]);
        HttpResponse? hit = null;
        Wait.For("it is stored", () => (hit = shop.Ask("/a?x=2"))["X-Cache"] == "HIT");
        Assert.Equal(("/a", "own", "/b"), (hit!.Text, hit["Server"], hit["X-Accel-Redirect"]));
        Assert.Equal("BYPASS", shop.Ask("/a?new=1")["X-Cache"]);
        Assert.Equal(404, shop.Ask("/gone").Status);
        Wait.For("it is stored", () => shop.Ask("/gone") is { Status: 404 } gone && gone["X-Cache"] == "HIT");
        Assert.Equal(204, shop.Ask("/a?purge=1").Status);
        Assert.Equal("MISS", shop.Ask("/a")["X-Cache"]);
    }

    [Fact]
    public void An_answer_is_kept_as_a_plain_file_where_that_is_said()
    {
        using var place = new TempDir();
        using var shop = new Shop(inline: true, static (request, response) =>
            response.WriteAsync("text of " + request.Path), $"proxy_store {place.Path}/kept$uri;");
        Assert.Equal("text of /a/b.txt", shop.Ask("/a/b.txt").Text);
        Wait.For("the file", () => place.Read("kept/a/b.txt").Length > 0);
        Assert.Equal("text of /a/b.txt", place.Read("kept/a/b.txt"));
        Assert.Equal(["GET /a/b.txt"], shop.Asked);
    }

    [Fact]
    public void One_that_holds_the_loop_while_it_writes_is_answered_for_whole()
    {
        const int Pieces = 400, PieceBytes = 10_000;
        byte[] piece = new byte[PieceBytes];
        piece.AsSpan().Fill((byte)'p');
        using var shop = new Shop(inline: true, (_, response) =>
        {
            response.Headers["Cache-Control"] = "max-age=100";
            for (int i = 0; i < Pieces; i++)
            {
                response.Write(piece);
                response.Flush();
            }
            return Task.CompletedTask;
        });
        for (int i = 0; i < 2; i++)
        {
            byte[] body = shop.Ask("/").Body;
            Assert.Equal(Pieces * PieceBytes, body.Length);
            Assert.False(body.AsSpan().ContainsAnyExcept((byte)'p'));
        }
        // More than the disk was given time for: it is not kept, and no part of it is.
        Assert.Equal(2, shop.Asked.Length);
        Assert.Empty(Directory.EnumerateFiles(shop.Files.At("cache"), "*", SearchOption.AllDirectories));
    }
}
