// What the rewrite module does that a comparison with an older nginx cannot tell: loops, ids, many logs by name.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class RewriteTests
{
    [Fact]
    public void A_rewrite_in_a_circle_is_told_and_ends_with_500()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { rewrite ^ /again last; }"));
        Assert.Equal(500, weir.Get("/").Status);
        Wait.For("the line", () =>
            weir.ErrorLog.Contains("rewrite or internal redirection cycle while processing \"/again\""));
    }

    [Fact]
    public void Every_request_has_an_id_of_its_own()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 \"$request_id $request_id\"; }"));
        string[] first = weir.Get("/").Text.Split(' ');
        string[] second = weir.Get("/").Text.Split(' ');
        Assert.Matches("^[0-9a-f]{32}$", first[0]);
        Assert.Equal(first[0], first[1]);
        Assert.NotEqual(first[0], second[0]);
    }

    [Fact]
    public void A_repeated_header_is_one_list()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 \"$http_x_y|$http_cookie\"; }"));
        Assert.Equal("1, 2|a=b; c=d", weir.Get("/", "X-Y: 1", "Cookie: a=b", "X-Y: 2", "Cookie: c=d").Text);
    }

    [Fact]
    public void A_log_may_be_named_by_the_request()
    {
        using var weir = ServerProcess.Weir(Conf.Server("""
            access_log %DIR%/by-$arg_n.log l; location / { return 200 a; }
            location /kept { open_log_file_cache max=2; access_log %DIR%/by-$arg_n.log l; return 200 a; }
            """, "log_format l $uri;"));
        weir.Get("/1?n=x");
        weir.Get("/kept?n=y");
        weir.Get("/kept?n=x");
        Wait.For("the lines", () => weir.Dir.Read("by-x.log") == "/1\n/kept\n"
            && weir.Dir.Read("by-y.log") == "/kept\n");
    }

    [Theory]
    [InlineData("off", "/2\n")]
    [InlineData("max=2 inactive=1h valid=1h", "")]
    public void A_log_named_by_the_request_stays_open_as_long_as_the_cache_says(string cache, string afterMove)
    {
        using var weir = ServerProcess.Weir(Conf.Server(
            $"open_log_file_cache {cache}; access_log %DIR%/by-$arg_n.log l; location / {{ return 200 a; }}",
            "log_format l $uri;"));
        weir.Get("/1?n=x");
        Wait.For("the line", () => weir.Dir.Read("by-x.log") == "/1\n");
        File.Move(weir.Dir.At("by-x.log"), weir.Dir.At("moved.log"));
        weir.Get("/2?n=x");
        Wait.For("the second line",
            () => weir.Dir.Read("moved.log") + weir.Dir.Read("by-x.log") == "/1\n/2\n");
        Assert.Equal(afterMove, weir.Dir.Read("by-x.log"));
    }

    [Fact]
    public void A_compressed_log_is_gzip()
    {
        using var weir = ServerProcess.Weir(Conf.Server(
            "access_log %DIR%/access.log l gzip=9; location / { return 200 a; }", "log_format l $uri;"));
        weir.Get("/1");
        weir.Get("/2");
        weir.Stop();
        using var gzip = new System.IO.Compression.GZipStream(File.OpenRead(weir.Dir.At("access.log")),
            System.IO.Compression.CompressionMode.Decompress);
        Assert.Equal("/1\n/2\n", new StreamReader(gzip).ReadToEnd());
    }
}
