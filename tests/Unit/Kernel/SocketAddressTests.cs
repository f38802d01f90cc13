// Socket addresses: what is accepted, what is refused, and nginx's text form.
using Weir.Kernel;
using Xunit;

namespace Weir.Tests.Unit.Kernel;

public sealed class SocketAddressTests
{
    [Theory(DisplayName = "address: text goes in and nginx's form comes out")]
    [InlineData("127.0.0.1:80", "127.0.0.1:80")]
    [InlineData("127.0.0.1", "127.0.0.1:80")]
    [InlineData("8080", "0.0.0.0:8080")]
    [InlineData("*:81", "0.0.0.0:81")]
    [InlineData("*", "0.0.0.0:80")]
    [InlineData("[::]:80", "[::]:80")]
    [InlineData("[::1]", "[::1]:80")]
    [InlineData("[2001:db8:0:0:1:0:0:1]:65535", "[2001:db8::1:0:0:1]:65535")]
    [InlineData("[1:2:3:4:5:6:7:8]:1", "[1:2:3:4:5:6:7:8]:1")]
    [InlineData("[1::]:1", "[1::]:1")]
    [InlineData("[1:0:3::8]:1", "[1:0:3::8]:1")]
    [InlineData("[::ffff:1.2.3.4]:1", "[::ffff:1.2.3.4]:1")]
    [InlineData("unix:/run/a.sock", "unix:/run/a.sock")]
    [InlineData("unix:@abstract", "unix:@abstract")]
    public void Accepted(string text, string expected) => Assert.Equal(expected, SocketAddress.Parse(text).ToString());

    [Theory(DisplayName = "address: a malformed text is refused with nginx's words")]
    [InlineData("127.0.0.1:0", "invalid port")]
    [InlineData("127.0.0.1:65536", "invalid port")]
    [InlineData("127.0.0.1:", "no port")]
    [InlineData("127.0.0.1:8a", "invalid port")]
    [InlineData("65536", "invalid port")]
    [InlineData("256.0.0.1:80", "host not found")]
    [InlineData("1.2.3:80", "host not found")]
    [InlineData("1.2.3.4.5", "host not found")]
    [InlineData("localhost:80", "host not found")]
    [InlineData(":80", "no host")]
    [InlineData("[::1", "invalid host")]
    [InlineData("[::1]80", "invalid host")]
    [InlineData("[:::1]:80", "invalid IPv6 address")]
    [InlineData("[1:2:3:4:5:6:7:8:9]:80", "invalid IPv6 address")]
    [InlineData("[1::2::3]:80", "invalid IPv6 address")]
    [InlineData("[1:2:3:4:5:6:7:]:80", "invalid IPv6 address")]
    [InlineData("[12345::]:80", "invalid IPv6 address")]
    [InlineData("[::1%eth0]:80", "invalid IPv6 address")]
    [InlineData("unix:", "no path in the unix domain socket")]
    public void Refused(string text, string expected)
    {
        Assert.False(SocketAddress.TryParse(text, 80, out _, out string error));
        Assert.Equal(expected, error);
    }

    [Fact(DisplayName = "address: a unix path of 107 bytes is accepted and one of 108 is refused")]
    public void UnixLimit()
    {
        Assert.True(SocketAddress.TryParse("unix:/" + new string('a', 106), 0, out _, out _));
        Assert.False(SocketAddress.TryParse("unix:/" + new string('a', 107), 0, out _, out string error));
        Assert.Equal("too long path in the unix domain socket", error);
    }

    [Fact(DisplayName = "address: equality and native bytes survive a copy through the kernel's form")]
    public void NativeRoundTrip()
    {
        foreach (string text in new[] { "127.0.0.1:8080", "[fe80::1]:443", "unix:/x", "unix:@y" })
        {
            SocketAddress a = SocketAddress.Parse(text), b = SocketAddress.FromNative(a.Native);
            Assert.Equal(a, b);
            Assert.Equal(a.GetHashCode(), b.GetHashCode());
        }
        Assert.NotEqual(SocketAddress.Parse("127.0.0.1:1"), SocketAddress.Parse("127.0.0.1:2"));
    }

    [Fact(DisplayName = "address: without the port there are no brackets")]
    public void TextWithoutPort()
    {
        Assert.Equal("::1", SocketAddress.Parse("[::1]:80").ToText(withPort: false));
        Assert.Equal("1.2.3.4", SocketAddress.Parse("1.2.3.4:80").ToText(withPort: false));
    }

    [Fact(DisplayName = "listen: two specifications of one address are equal whatever their options")]
    public void ListenEquality()
    {
        var a = new ListenSpec { Address = SocketAddress.Parse("80") };
        ListenSpec b = a with { Backlog = 10, ReusePort = true };
        Assert.Equal(a, b);
        Assert.False(a.SameOptions(b));
        Assert.NotEqual(a, a with { Datagram = true });
    }
}
