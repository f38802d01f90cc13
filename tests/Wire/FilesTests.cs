// Files over real sockets: what is served, what a cache may keep, what a rate allows, what never leaves the root.
using System.Diagnostics;
using System.IO.Compression;
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class FilesTests
{
    private const string Types = "types { text/html html; text/plain txt; }";

    [Theory]
    [InlineData("/../secret")]
    [InlineData("/%2e%2e/secret")]
    [InlineData("/dir/%2e%2e/%2e%2e/secret")]
    [InlineData("/dir/..%2f..%2fsecret")]
    [InlineData("/dir%2f..%2f..%2fsecret")]
    [InlineData("/al../secret")]
    [InlineData("/dir/.../secret")]
    public void No_path_leaves_the_root(string path)
    {
        using var files = new TempDir();
        files.Write("root/dir/a.txt", "inside");
        files.Write("secret", "outside");
        using var weir = Start(files, $"location / {{ root {files.At("root")}; }} "
            + $"location /al {{ alias {files.At("root")}/; }}");
        Assert.DoesNotContain("outside", weir.Get(path).Text);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(4096)]
    [InlineData(65535)]
    [InlineData(65536)]
    [InlineData(65537)]
    [InlineData(524288)]
    [InlineData(524289)]
    [InlineData(3000000)]
    public void A_file_of_any_size_arrives_whole(int size)
    {
        using var files = new TempDir();
        byte[] bytes = Noise(size);
        files.Write("f.txt", bytes);
        using var weir = Start(files, "");
        using RawClient client = weir.Connect();
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(bytes, client.Get("/f.txt").Body);
        }
    }

    /// <summary>A small file is read into memory, a large one leaves by sendfile once it is there, and one that a
    /// filter wants to see piece by piece.</summary>
    [Theory]
    [InlineData(3000, "")]
    [InlineData(60_000, "gzip")]
    [InlineData(200_000, "")]
    [InlineData(200_000, "gzip")]
    [InlineData(3_000_000, "")]
    public void A_file_that_is_not_in_the_page_cache_arrives_whole(int size, string filter)
    {
        using var files = new TempDir();
        byte[] bytes = Noise(size);
        files.Write("f.txt", bytes);
        using var weir = Start(files, filter.Length > 0 ? "gzip on; gzip_min_length 1; gzip_types text/plain;" : "");
        using RawClient client = weir.Connect();
        string[] accept = filter.Length > 0 ? ["Accept-Encoding: gzip"] : [];
        for (int i = 0; i < 3; i++)
        {
            // coreutils' way to say posix_fadvise(POSIX_FADV_DONTNEED); a dirty page would stay.
            ChildProcess.Run("dd", $"of={files.At("f.txt")}", "oflag=nocache", "conv=notrunc,fdatasync", "count=0");
            byte[] body = client.Get("/f.txt", accept).Body;
            Assert.Equal(bytes, filter.Length > 0 ? Unzipped(body) : body);
        }
        if (Conf.Engine == "io_uring")
        {
            // The ring reads: no thread was started for it.
            Assert.DoesNotContain(Directory.GetDirectories($"/proc/{weir.Process.Pid}/task"),
                static task => File.ReadAllText(task + "/comm").StartsWith("weir-blocking", StringComparison.Ordinal));
        }
    }

    private static byte[] Unzipped(byte[] body)
    {
        using var gzip = new GZipStream(new MemoryStream(body), CompressionMode.Decompress);
        using var all = new MemoryStream();
        gzip.CopyTo(all);
        return all.ToArray();
    }

    [Fact]
    public void Without_a_file_cache_every_answer_is_what_the_file_is_now()
    {
        using var files = new TempDir();
        using var weir = Start(files, "");
        using RawClient client = weir.Connect();
        for (int i = 0; i < 20; i++)
        {
            // Same length, same modification time: only the change itself tells them apart.
            files.Write("f.txt", $"version {i:00}");
            Assert.Equal($"version {i:00}", client.Get("/f.txt").Text);
            Assert.Equal($"version {i:00}", client.Get("/f.txt").Text);
        }

        File.Delete(files.At("f.txt"));
        Assert.Equal(404, client.Get("/f.txt").Status);
    }

    [Fact]
    public void A_replaced_file_is_seen_when_open_file_cache_valid_has_passed()
    {
        using var files = new TempDir();
        files.Write("f.txt", "old");
        using var weir = Start(files, "open_file_cache max=10; open_file_cache_valid 1s;");
        Assert.Equal("old", weir.Get("/f.txt").Text);
        File.Delete(files.At("f.txt"));
        files.Write("f.txt", "new");
        Wait.For("the new file", () => weir.Get("/f.txt").Text == "new");
    }

    [Fact]
    public void A_missing_file_is_remembered_only_when_errors_are_cached()
    {
        using var files = new TempDir();
        files.Write("x.txt", "");
        using var weir = Start(files,
            "open_file_cache max=10; open_file_cache_valid 1h; location /e { open_file_cache_errors on; }");
        Assert.Equal(404, weir.Get("/a.txt").Status);
        Assert.Equal(404, weir.Get("/e.txt").Status);
        files.Write("a.txt", "a");
        files.Write("e.txt", "e");
        Assert.Equal(200, weir.Get("/a.txt").Status);
        Assert.Equal(404, weir.Get("/e.txt").Status);
    }

    [Fact]
    public void A_full_file_cache_still_serves_every_file()
    {
        using var files = new TempDir();
        for (int i = 0; i < 30; i++)
        {
            files.Write($"{i}.txt", $"file {i}");
        }

        using var weir = Start(files, "open_file_cache max=4 inactive=1s;");
        using RawClient client = weir.Connect();
        for (int i = 0; i < 120; i++)
        {
            Assert.Equal($"file {i % 30}", client.Get($"/{i % 30}.txt").Text);
        }
    }

    /// <summary>What sendfile has queued are the file's own pages: a change that comes before the client reads is in
    /// them. What was read is not changed any more.</summary>
    [Theory]
    [InlineData("sendfile on", true)]
    [InlineData("sendfile off", false)]
    public void Sendfile_sends_the_pages_of_the_file_themselves(string directive, bool isChanged)
    {
        // The portable engine has no sendfile: it reads always.
        Assert.Equal(isChanged && Conf.Engine != "portable", ReadChanged(directive).Contains('b'));
    }

    /// <summary>With tcp_nopush the head of a short file waits for it, and both leave in one segment; that of a longer
    /// one does not, which would make a burst.</summary>
    [Theory]
    [InlineData("tcp_nopush on", 20 * 1024, true)]
    [InlineData("tcp_nopush off", 20 * 1024, false)]
    [InlineData("tcp_nopush on", 61 * 1024, false)]
    public void A_short_file_leaves_with_its_head_where_nothing_is_pushed(string directive, int bytes, bool isOne)
    {
        using var files = new TempDir();
        files.Write("a", new string('a', bytes));
        // Of a file that stays open; others of this length are read.
        using var weir = ServerProcess.Weir(
            Conf.Server($"{directive}; open_file_cache max=10; location / {{ }}"), files);
        using RawClient client = weir.Connect();
        for (int i = 1; i <= 3; i++)
        {
            Assert.Equal(bytes, client.Get("/a").Body.Length);
            int segments = SegmentsReceived(client.Socket);
            // The portable engine has no sendfile, and sends each piece by itself.
            bool isExpected = isOne && Conf.Engine != "portable";
            Assert.True(segments == i == isExpected, $"{segments} segments for {i} answers");
        }
    }

    /// <summary>What was promised cannot be sent: the connection ends, the log says whose doing it is, and others are
    /// served.</summary>
    [Fact]
    public void A_file_that_became_shorter_while_it_is_open_ends_the_connection_with_an_alert()
    {
        using var files = new TempDir();
        files.Write("a", new string('a', 100 * 1024));
        files.Write("b", "b");
        using var weir = ServerProcess.Weir(
            Conf.Server("open_file_cache max=10; open_file_cache_valid 600s; location / { }"), files);
        Assert.Equal(100 * 1024, weir.Get("/a").Body.Length);
        using (FileStream file = File.OpenWrite(files.At("a")))
        {
            file.SetLength(40 * 1024);
        }
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/a", []));
        byte[] got = client.ReadToEnd();
        Assert.InRange(got.Length, 40 * 1024, 41 * 1024);
        Wait.For("the alert", () => weir.ErrorLog.Contains("found the file truncated", StringComparison.Ordinal));
        Assert.Contains("[alert]", weir.ErrorLog);
        Assert.Equal("b", weir.Get("/b").Text);
    }

    /// <summary><c>tcpi_data_segs_in</c> of Linux' <c>TCP_INFO</c>.</summary>
    private static int SegmentsReceived(System.Net.Sockets.Socket socket)
    {
        byte[] info = new byte[256];
        int length = socket.GetRawSocketOption(6, 11, info);
        Assert.True(length >= 156, $"TCP_INFO of {length} bytes");
        return BitConverter.ToInt32(info, 152);
    }

    /// <summary>A file of a's, as a client reads it that waits until all of it was sent and became b's.</summary>
    private static string ReadChanged(string directive)
    {
        const int bytes = 100 * 1024;
        using var files = new TempDir();
        files.Write("a", new string('a', bytes));
        using var weir = ServerProcess.Weir(Conf.Server(
            $"{directive}; access_log %DIR%/access.log l; location / {{ }}", "log_format l $body_bytes_sent;"), files);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/a", []));
        Wait.For("all of it to be sent", () => weir.AccessLog == $"{bytes}\n");
        using (FileStream file = File.OpenWrite(files.At("a")))
        {
            file.Write(Encoding.ASCII.GetBytes(new string('b', bytes)));
        }
        return client.ReadResponse().Text;
    }

    [Fact]
    public void A_link_is_refused_where_links_are_disabled()
    {
        using var files = new TempDir();
        files.Write("a.txt", "a");
        File.CreateSymbolicLink(files.At("link.txt"), "a.txt");
        using var weir = Start(files, "location /l { disable_symlinks on from=$document_root; }");
        Assert.Equal(403, weir.Get("/link.txt").Status);
        Wait.For("the log", () => weir.ErrorLog.Contains("openat()", StringComparison.Ordinal));
        Assert.Equal(200, weir.Get("/a.txt").Status);
    }

    [Fact]
    public void A_link_is_followed_to_what_its_own_owner_owns()
    {
        using var files = new TempDir();
        files.Write("mine.txt", "mine");
        File.CreateSymbolicLink(files.At("link.txt"), "mine.txt");
        File.CreateSymbolicLink(files.At("other.txt"), "mine.txt");
        // The link alone changes hands: who plants a link to another's file gets nothing by it.
        ChildProcess.Run("chown", "-h", "65534", files.At("other.txt"));
        using var weir = Start(files, "location /l { } disable_symlinks if_not_owner from=$document_root;");
        Assert.Equal("mine", weir.Get("/link.txt").Text);
        Assert.Equal(403, weir.Get("/other.txt").Status);
    }

    [Fact]
    public void A_gzipped_answer_unpacks_to_the_file()
    {
        using var files = new TempDir();
        byte[] text = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Range(0, 40_000).Select(i => $"{i} ")));
        files.Write("f.txt", text);
        using var weir = Start(files, "gzip on; gzip_types text/plain; gzip_vary on;");
        HttpResponse answer = weir.Get("/f.txt", "Accept-Encoding: gzip");
        Assert.Equal("gzip", answer["Content-Encoding"]);
        Assert.Equal("Accept-Encoding", answer["Vary"]);
        Assert.StartsWith("W/\"", answer["ETag"]);
        Assert.Equal(text, answer.Decoded());
        Assert.Null(weir.Get("/f.txt")["Content-Encoding"]);
    }

    [Fact]
    public void A_packed_file_is_unpacked_for_a_client_that_takes_no_gzip()
    {
        using var files = new TempDir();
        byte[] text = Noise(100_000);
        using var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true))
        {
            gzip.Write(text);
        }

        files.Write("f.txt.gz", packed.ToArray());
        using var weir = Start(files, "gzip_static always; gunzip on;");
        Assert.Equal(text, weir.Get("/f.txt").Body);
        HttpResponse answer = weir.Get("/f.txt", "Accept-Encoding: gzip");
        Assert.Equal(packed.ToArray(), answer.Body);
    }

    [Fact]
    public void A_limited_rate_takes_its_time_and_loses_nothing()
    {
        using var files = new TempDir();
        byte[] bytes = Noise(300_000);
        files.Write("f.txt", bytes);
        using var weir = Start(files, "location / { limit_rate 100k; limit_rate_after 50k; }");
        using RawClient client = weir.Connect();
        var watch = Stopwatch.StartNew();
        Assert.Equal(bytes, client.Get("/f.txt").Body);
        // 300,000 bytes less the free 51,200 at 102,400 a second: 2.4 s; sooner than 2 would mean no limit.
        Assert.True(watch.ElapsedMilliseconds > 2000, $"{watch.ElapsedMilliseconds} ms");
        Assert.Equal(bytes, client.Get("/f.txt").Body);
    }

    [Fact]
    public void A_client_that_leaves_a_limited_answer_costs_the_others_nothing()
    {
        using var files = new TempDir();
        files.Write("f.txt", Noise(300_000));
        files.Write("a.txt", "a");
        using var weir = Start(files, "location /f { limit_rate 10k; }");
        for (int i = 0; i < 5; i++)
        {
            RawClient client = weir.Connect();
            client.Send(RawClient.Request("GET", "/f.txt", []));
            client.ReadBytes(100);
            client.Reset();
            client.Dispose();
        }

        Assert.Equal("a", weir.Get("/a.txt").Text);
        Assert.DoesNotContain("[alert]", weir.ErrorLog);
    }

    [Fact]
    public void Trailers_follow_a_chunked_file()
    {
        using var files = new TempDir();
        files.Write("f.txt", "body");
        using var weir = Start(files, "add_trailer X-After $uri;");
        HttpResponse answer = weir.Get("/f.txt");
        Assert.True(answer.IsChunked);
        Assert.Equal("body", answer.Text);
        Assert.Contains(answer.Trailers, t => t is { Key: "X-After", Value: "/f.txt" });
    }

    [Fact]
    public void Header_inheritance_merges_when_it_is_told_to()
    {
        using var files = new TempDir();
        files.Write("m.txt", "");
        files.Write("o.txt", "");
        files.Write("n.txt", "");
        using var weir = Start(files, """
            add_header X-Outer 1;
            location /m { add_header_inherit merge; add_header X-Inner 2; }
            location /o { add_header_inherit off; }
            location /n { add_header X-Inner 2; }
            """);
        HttpResponse merged = weir.Get("/m.txt");
        Assert.Equal("1", merged["X-Outer"]);
        Assert.Equal("2", merged["X-Inner"]);
        Assert.Null(weir.Get("/o.txt")["X-Outer"]);
        Assert.Null(weir.Get("/n.txt")["X-Outer"]);
    }

    [Fact]
    public void The_status_page_is_json_of_this_server()
    {
        using var files = new TempDir();
        using var weir = Start(files, "location = /s { weir_status json; } location = /t { stub_status; }");
        using RawClient client = weir.Connect();
        Assert.StartsWith("Active connections: ", client.Get("/t").Text);
        using var status = System.Text.Json.JsonDocument.Parse(client.Get("/s").Body);
        Assert.Equal(2, status.RootElement.GetProperty("requests").GetInt32());
        Assert.True(status.RootElement.GetProperty("connections").GetProperty("active").GetInt32() >= 1);
        Assert.Equal(1, status.RootElement.GetProperty("workers").GetInt32());
    }

    [Fact]
    public void Cached_bytes_serve_a_slow_reader_many_times_over()
    {
        using var files = new TempDir();
        byte[] bytes = Noise(60_000);
        files.Write("f.txt", bytes);
        using var weir = Start(files, "open_file_cache max=10;");
        using RawClient slow = weir.Connect();
        // Many pipelined answers share the cached bytes while none of them is read.
        slow.Send(string.Concat(Enumerable.Repeat(RawClient.Request("GET", "/f.txt", []), 100)));
        Assert.Equal(bytes, weir.Get("/f.txt").Body);
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(bytes, slow.ReadResponse().Body);
        }
    }

    private static ServerProcess Start(TempDir files, string server) =>
        ServerProcess.Weir(Conf.Server(server, Types), files);

    private static byte[] Noise(int size)
    {
        var bytes = new byte[size];
        new Random(size).NextBytes(bytes);
        return bytes;
    }
}
