// Networks as access rules and trusted proxies name them.
using Weir.Http;
using Weir.Kernel;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class CidrTests
{
    [Theory]
    [InlineData("10.0.0.0/8", "10.255.255.255", true)]
    [InlineData("10.0.0.0/8", "11.0.0.0", false)]
    [InlineData("192.168.1.7", "192.168.1.7", true)]
    [InlineData("192.168.1.7", "192.168.1.8", false)]
    [InlineData("0.0.0.0/0", "1.2.3.4", true)]
    [InlineData("2001:db8::/32", "[2001:db8:ffff::1]", true)]
    [InlineData("2001:db8::/32", "[2001:db9::1]", false)]
    [InlineData("::/0", "[::1]", true)]
    [InlineData("::/0", "1.2.3.4", false)]
    [InlineData("10.0.0.0/8", "[::ffff:10.1.2.3]", true)]
    public void A_network_holds_its_addresses_and_no_other(string network, string address, bool expected)
    {
        Assert.True(Cidr.TryParse(network, out Cidr cidr, out bool _));
        Assert.Equal(expected, Cidr.ContainsAny([cidr], SocketAddress.Parse(address).Native));
    }

    [Theory]
    [InlineData("10.0.0.0/33")]
    [InlineData("::/129")]
    [InlineData("10.0.0.0/")]
    [InlineData("10.0.0.0/-1")]
    [InlineData("ten")]
    [InlineData("")]
    public void What_is_no_network_is_refused(string text) => Assert.False(Cidr.TryParse(text, out Cidr _, out bool _));

    [Fact]
    public void Bits_below_the_mask_are_dropped_and_told()
    {
        Assert.True(Cidr.TryParse("10.1.2.3/8", out Cidr cidr, out bool low));
        Assert.True(low);
        Assert.Equal((UInt128)0x0A000000, cidr.Address);
        Assert.Equal(8, cidr.PrefixLength);
    }
}
