// Who holds an address, in words: the owner of a unix socket's path, and a file that a server left behind.
using System.Net.Sockets;
using Weir.Kernel;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Unit.Kernel;

public sealed class PortOwnerTests
{
    [Fact]
    public void A_unix_socket_has_an_owner_while_somebody_listens_on_it()
    {
        using var directory = new TempDir();
        string path = directory.At("one.sock");
        SocketAddress address = SocketAddress.Unix(path)!;
        using (var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            socket.Bind(new UnixDomainSocketEndPoint(path));
            socket.Listen();
            Assert.Contains($"(pid {Environment.ProcessId})", PortOwner.Describe(address));
        }
        // .NET removes the file of a socket it closes; one whose server was killed stays.
        File.WriteAllText(path, "");
        Assert.Equal("is there and nobody listens on it: remove the file", PortOwner.Describe(address));
    }
}
