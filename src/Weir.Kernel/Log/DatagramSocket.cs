// The small connected datagram socket that syslog needs: non-blocking, close-on-exec. The caller owns it.
namespace Weir.Kernel;

internal static unsafe class DatagramSocket
{
    private const int SOCK_DGRAM = 2, SOCK_CLOEXEC = 0x80000, SOCK_NONBLOCK = 0x800;
    private const int MSG_NOSIGNAL = 0x4000, MSG_DONTWAIT = 0x40;

    internal static SysResult Connect(SocketAddress server)
    {
        SysResult fd = LibcProcess.Of(
            LibcProcess.socket((int)server.Family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (fd.IsError)
        {
            return fd;
        }
        fixed (byte* address = server.Native)
        {
            SysResult connected = LibcProcess.Of(LibcProcess.connect(fd.Int, address, (uint)server.Native.Length));
            if (connected.IsError)
            {
                Descriptors.Close(fd.Int);
                return connected;
            }
        }
        return fd;
    }

    internal static SysResult Send(int fd, ReadOnlySpan<byte> packet)
    {
        fixed (byte* bytes = packet)
        {
            SysResult sent;
            do
            {
                sent = LibcProcess.Of(LibcProcess.send(fd, bytes, packet.Length, MSG_NOSIGNAL | MSG_DONTWAIT));
            }
            while (sent.Errno == Errno.EINTR);
            return sent;
        }
    }
}
