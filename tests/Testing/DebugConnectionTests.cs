// debug_connection: requests of the clients that it names are told in the error log, whatever level that has.
using Weir.Testing;
using Xunit;

namespace Weir.Tests.Testing;

public sealed class DebugConnectionTests
{
    private static int Told(string events, string client)
    {
        using var conf = NginxConf.Parse($"events {{ {events} }} http {{ server {{ listen 80; return 204; }} }}");
        Assert.Equal(204, conf.Send(new ConfRequest("GET", "/a") { From = client }).Status);
        return conf.Log.Count(static line => line == "[debug] http uri: \"/a\"");
    }

    [Theory]
    [InlineData("debug_connection 192.0.2.7;", "192.0.2.7", 1)]
    [InlineData("debug_connection 192.0.2.7;", "192.0.2.8", 0)]
    [InlineData("debug_connection 192.0.2.0/24; debug_connection 198.51.100.1;", "192.0.2.8", 1)]
    [InlineData("debug_connection localhost;", "127.0.0.1", 1)]
    [InlineData("", "127.0.0.1", 0)]
    public void The_requests_of_the_clients_named_are_told(string events, string client, int lines) =>
        Assert.Equal(lines, Told(events, client));
}
