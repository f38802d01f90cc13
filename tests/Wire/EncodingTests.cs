// brotli and zstd beside gzip: which one a client gets, what directives change, files that were compressed before.
using System.IO.Compression;
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class EncodingTests
{
    private static readonly string _page =
        string.Concat(Enumerable.Range(0, 400).Select(i => $"line {i % 17} of it\n"));

    private const string All = """
        default_type text/html; gzip_vary on; gzip on; brotli on; zstd on;
        location /short { return 200 short; }
        location /min { brotli_min_length 3; return 200 short; }
        location /plain { default_type text/plain; root %FILES%; }
        location /types { default_type text/plain; brotli_types text/plain; alias %FILES%/page; }
        location /level0 { brotli_comp_level 0; alias %FILES%/page; }
        location /level11 { brotli_comp_level 11; alias %FILES%/page; }
        location /window { brotli_window 1k; alias %FILES%/page; }
        location /z1 { brotli off; alias %FILES%/page; }
        location /z19 { brotli off; zstd_comp_level 19; alias %FILES%/page; }
        location /zmin { brotli off; zstd_min_length 3; return 200 short; }
        location /ratio { alias %FILES%/page; access_log %DIR%/ratio.log ratio; }
        location /static/ { alias %FILES%/; gzip off; brotli off; zstd off; gzip_static on; brotli_static on;
            zstd_static on; default_type text/plain; }
        location /always/ { alias %FILES%/; brotli_static always; }
        """;

    private static ServerProcess Start(TempDir files)
    {
        files.Write("page", _page);
        files.Write("pre.txt", "plain");
        files.Write("pre.txt.br", "as br");
        files.Write("pre.txt.gz", "as gz");
        files.Write("pre.txt.zst", "as zst");
        files.Write("one.txt", "plain");
        files.Write("one.txt.br", "as br");
        return ServerProcess.Weir(Conf.Server(All, "log_format ratio '$brotli_ratio $zstd_ratio';"), files);
    }

    private static string Brotli(byte[] body)
    {
        using var stream = new BrotliStream(new MemoryStream(body), CompressionMode.Decompress);
        using var reader = new StreamReader(stream, Encoding.Latin1);
        return reader.ReadToEnd();
    }

    [Theory]
    [InlineData("gzip, deflate, br, zstd", "br")]
    [InlineData("gzip, zstd", "zstd")]
    [InlineData("gzip", "gzip")]
    [InlineData("br;q=0.5, gzip;q=0.8", "gzip")]
    [InlineData("br;q=0.5, zstd;q=0.6, gzip;q=0.4", "zstd")]
    [InlineData("br;q=0, zstd;q=0, gzip", "gzip")]
    [InlineData("*", "br")]
    [InlineData("*;q=0, zstd", "zstd")]
    [InlineData("BR", "br")]
    [InlineData("brx, xbr", null)]
    [InlineData("identity", null)]
    [InlineData("br;q=2", null)]
    public void The_client_gets_what_it_likes_best(string accepted, string? coding)
    {
        using var files = new TempDir();
        using ServerProcess server = Start(files);
        using RawClient client = server.Connect();
        HttpResponse response = client.Get("/page", "Accept-Encoding: " + accepted);
        Assert.Equal(coding, response["Content-Encoding"]);
        Assert.Equal("Accept-Encoding", response["Vary"]);
        if (coding is null)
        {
            Assert.Equal(_page, response.Text);
        }
    }

    [Fact]
    public void A_body_comes_back_as_it_was()
    {
        using var files = new TempDir();
        using ServerProcess server = Start(files);
        using RawClient client = server.Connect();
        HttpResponse response = client.Get("/page", "Accept-Encoding: br");
        Assert.Equal(_page, Brotli(response.Body));
        Assert.Null(response["Content-Length"]);
        Assert.Null(response["Accept-Ranges"]);
        Assert.StartsWith("W/", response["ETag"]);
        HttpResponse zstd = client.Get("/page", "Accept-Encoding: zstd");
        // The frame's magic number; unpacking it is the tool's where the machine has it.
        Assert.Equal([0x28, 0xB5, 0x2F, 0xFD], zstd.Body[..4]);
        Assert.True(zstd.Body.Length < _page.Length / 4);
    }

    [Fact]
    public void Directives_change_what_is_sent()
    {
        using var files = new TempDir();
        using ServerProcess server = Start(files);
        using RawClient client = server.Connect();
        int Size(string target, string coding) => client.Get(target, "Accept-Encoding: " + coding).Body.Length;
        Assert.Null(client.Get("/short", "Accept-Encoding: br")["Content-Encoding"]);
        Assert.Equal("br", client.Get("/min", "Accept-Encoding: br")["Content-Encoding"]);
        Assert.Equal("zstd", client.Get("/zmin", "Accept-Encoding: zstd")["Content-Encoding"]);
        Assert.Equal("br", client.Get("/types", "Accept-Encoding: br")["Content-Encoding"]);
        Assert.Null(client.Get("/types", "Accept-Encoding: zstd")["Content-Encoding"]);
        Assert.True(Size("/level11", "br") < Size("/level0", "br"));
        Assert.True(Size("/z19", "zstd") <= Size("/z1", "zstd"));
        Assert.Equal(_page, Brotli(client.Get("/window", "Accept-Encoding: br").Body));
        client.Get("/ratio", "Accept-Encoding: br");
        server.Stop();
        Assert.Matches(@"^\d+\.\d\d -\n$", server.Dir.Read("ratio.log"));
    }

    [Theory]
    [InlineData("gzip, br, zstd", "br", "as br")]
    [InlineData("gzip, zstd", "zstd", "as zst")]
    [InlineData("gzip", "gzip", "as gz")]
    [InlineData("br;q=0.1, gzip", "gzip", "as gz")]
    [InlineData("", null, "plain")]
    public void A_file_compressed_before_is_sent_as_it_is(string accepted, string? coding, string text)
    {
        using var files = new TempDir();
        using ServerProcess server = Start(files);
        using RawClient client = server.Connect();
        HttpResponse response = client.Get("/static/pre.txt", "Accept-Encoding: " + accepted);
        Assert.Equal(coding, response["Content-Encoding"]);
        Assert.Equal(text, response.Text);
        Assert.Equal("Accept-Encoding", response["Vary"]);
        Assert.Equal("plain", client.Get("/static/one.txt", "Accept-Encoding: gzip").Text);
        Assert.Equal("as br", client.Get("/always/one.txt").Text);
    }

    [Theory]
    [InlineData("brotli_comp_level 12;", "\"brotli_comp_level\" directive value must be between 0 and 11")]
    [InlineData("zstd_comp_level 0;", "\"zstd_comp_level\" directive value must be between 1 and 22")]
    [InlineData("brotli_window 3k;", "\"brotli_window\" directive must be 1k, 2k")]
    [InlineData("brotli_static maybe;", "invalid value \"maybe\"")]
    [InlineData("zstd maybe;", "invalid value \"maybe\" in \"zstd\" directive")]
    public void A_wrong_value_is_refused(string line, string message)
    {
        using ServerProcess server = ServerProcess.Weir(Conf.Server(line), waitReady: false, arguments: "-t");
        Assert.True(server.Process.WaitForExit(30_000));
        Assert.Contains(message, server.Process.Errors);
    }
}
