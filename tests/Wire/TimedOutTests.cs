// How a connection ends whose client took too long: with an end, or with a reset where that is asked for.
using System.Net.Sockets;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class TimedOutTests
{
    /// <summary>Asks for more than the sockets between hold, does not read until the server has given up, then reads
    /// to the end of it.</summary>
    private static Ending EndOf(string directive)
    {
        using var files = new TempDir();
        files.Write("large", new string('x', 32 * 1024 * 1024));
        using var weir = ServerProcess.Weir(Conf.Server(
            $"access_log %DIR%/access.log s; send_timeout 200ms; {directive} location / {{ }}",
            "log_format s $status;"), files);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("GET", "/large", []));
        Wait.For("the server to give up", () => weir.AccessLog.Length > 0, 30_000);
        byte[] got = client.ReadToEnd(30_000);
        Assert.InRange(got.Length, 0, 32 * 1024 * 1024 - 1);
        return client.Ending;
    }

    [Fact]
    public void A_client_that_does_not_read_is_reset_where_that_is_asked_for() =>
        Assert.Equal(Ending.Reset, EndOf("reset_timedout_connection on;"));

    [Fact]
    public void A_client_that_does_not_read_finds_the_end_behind_what_was_sent() =>
        Assert.Equal(Ending.Closed, EndOf(""));

    [Fact]
    public void A_refused_client_may_still_read_why_while_it_sends_on()
    {
        using var weir = ServerProcess.Weir(Conf.Server(
            "client_max_body_size 1k; lingering_timeout 30s; location / { return 200; }"));
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/", ["Content-Length: 4000000"]));
        Assert.True(client.WaitForBytes(30_000));
        // Were it closed at once, what is on its way would be answered with a reset that destroys the answer.
        for (int i = 0; i < 20; i++)
        {
            client.Send(new byte[64 * 1024]);
        }
        Assert.Equal(413, client.ReadResponse().Status);
    }
}
