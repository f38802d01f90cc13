// Sizes whose default follows a level's buffers: what a directive gave goes through every level below it.
using Weir.Http.Proxy;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class InheritedBuffersTests
{
    private static UpstreamSettings[] Proxies(string outer, string middle, string inner)
    {
        using var server = new MemoryServer($"{outer} server {{ listen 127.0.0.1:80; {middle} "
            + $"location @x {{ proxy_pass http://127.0.0.1:1; {inner} }} }}");
        return [.. server.Http.Configuration!.Servers[0].Locations.FindNamed("@x"u8)!.Modules.OfType<UpstreamSettings>()
            .Where(static s => s.GetType().Name == "ProxySettings")];
    }

    [Theory]
    [InlineData("proxy_busy_buffers_size 20k; proxy_temp_file_write_size 12k;", "", "")]
    [InlineData("proxy_busy_buffers_size 20k; proxy_temp_file_write_size 12k;", "", "proxy_read_timeout 5s;")]
    [InlineData("proxy_busy_buffers_size 20k; proxy_temp_file_write_size 12k;", "proxy_read_timeout 5s;", "")]
    [InlineData("proxy_busy_buffers_size 20k; proxy_temp_file_write_size 12k;", "proxy_read_timeout 5s;",
        "proxy_send_timeout 5s;")]
    [InlineData("", "proxy_busy_buffers_size 20k; proxy_temp_file_write_size 12k;", "proxy_send_timeout 5s;")]
    public void A_given_size_is_inherited_through_every_level(string outer, string middle, string inner)
    {
        UpstreamSettings settings = Assert.Single(Proxies(outer, middle, inner));
        Assert.Equal(20 * 1024, settings.BusyBuffersBytes.Value);
        Assert.Equal(12 * 1024, settings.TempWriteBytes.Value);
    }

    [Fact]
    public void A_default_follows_the_buffers_of_its_own_level()
    {
        UpstreamSettings settings = Assert.Single(Proxies("proxy_buffers 8 8k;", "proxy_read_timeout 5s;",
            "proxy_buffers 8 16k;"));
        Assert.Equal(32 * 1024, settings.BusyBuffersBytes.Value);
        Assert.Equal(32 * 1024, settings.TempWriteBytes.Value);
    }
}
