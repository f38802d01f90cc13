// What a peer can do wrong with TLS: bounded time, one line in the log, an alert where there is somebody to tell.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class TlsBadInputTests
{
    private static readonly TestAuthority _authority = new();

    private static ServerProcess Serve()
    {
        var files = new TempDir();
        _authority.Write(files, "ec");
        return ServerProcess.Weir(Conf.Http("""
            server {
                listen 127.0.0.1:%PORT% ssl; client_header_timeout 1s;
                ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key; return 200 ok;
            }
            """), files);
    }

    private static int Count(ServerProcess weir, string text) =>
        weir.ErrorLog.Split('\n').Count(line => line.Contains(text, StringComparison.Ordinal));

    /// <summary>Level 2 (fatal) of a record of type 21.</summary>
    private static bool IsAlert(byte[] bytes) => bytes is [21, 3, _, 0, 2, 2, _];

    [Theory]
    [InlineData("\u0016garbage that is no ClientHello at all, but long enough to be read as a record of some length")]
    [InlineData("\u0016\u0003\u0001\u0000\u0004\u0001\u0000\u0000\u0000")]
    [InlineData("\u0016\u0003\u0001\u0000\u0004\u0002\u0000\u0000\u0000")]
    public void Garbage_instead_of_a_ClientHello_is_told_with_an_alert_and_one_line(string garbage)
    {
        using ServerProcess weir = Serve();
        using RawClient client = weir.Connect();
        client.Send(garbage);
        client.WaitForBytes(30_000);
        byte[] answer = client.ReadUntilQuiet(500);
        Assert.True(IsAlert(answer) || answer.Length == 0, Convert.ToHexString(answer));
        Assert.NotEqual(Ending.Open, client.Ending);
        Wait.For("the line", () => Count(weir, "SSL_do_handshake() failed") == 1);
    }

    [Fact]
    public void A_handshake_that_never_ends_is_ended()
    {
        using ServerProcess weir = Serve();
        using RawClient client = weir.Connect();
        client.Send("\u0016\u0003\u0001");
        Wait.For("the line", () => Count(weir, "client timed out") == 1);
        client.WaitForBytes(30_000);
        client.ReadUntilQuiet(500);
        Assert.NotEqual(Ending.Open, client.Ending);
    }

    [Fact]
    public void A_record_cut_in_the_middle_is_one_line()
    {
        using ServerProcess weir = Serve();
        using RawClient client = weir.Connect();
        client.Send("\u0016\u0003\u0001\u0001\u0000\u0001\u0000");
        client.HalfClose();
        Wait.For("the line", () => Count(weir, "peer closed connection in SSL handshake") == 1);
    }
}
