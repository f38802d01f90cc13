// Messages with descriptors between a master and its workers: a SOCK_SEQPACKET socket pair and SCM_RIGHTS.
// A message keeps its boundaries; received descriptors are close-on-exec from birth and belong to the receiver at once.
// The kernel takes at most 253 descriptors in one message.
namespace Weir.Kernel;

/// <summary>sendmsg and recvmsg with descriptors.</summary>
public static unsafe class Ancillary
{
    public const int DescriptorsMax = 253;

    private const int AF_UNIX = 1, SOCK_SEQPACKET = 5, SOCK_CLOEXEC = 0x80000, SOCK_NONBLOCK = 0x800;
    private const int SOL_SOCKET = 1, SCM_RIGHTS = 1;
    private const int MSG_DONTWAIT = 0x40, MSG_NOSIGNAL = 0x4000, MSG_CMSG_CLOEXEC = 0x40000000;
    private const int MSG_TRUNC = 0x20, MSG_CTRUNC = 8;

    // struct cmsghdr: size_t length, int level, int type; then the data.
    private const int HeaderBytes = 16;

    /// <summary>A pair of connected packet sockets, close-on-exec.</summary>
    public static SysResult Pair(out int first, out int second)
    {
        int* fds = stackalloc int[2];
        SysResult result =
            LibcProcess.Of(LibcProcess.socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
        (first, second) = result.IsOk ? (fds[0], fds[1]) : (-1, -1);
        return result;
    }

    /// <summary>Sends one message without blocking; EAGAIN when the other side has not kept up.</summary>
    public static SysResult Send(int fd, ReadOnlySpan<byte> payload, ReadOnlySpan<int> descriptors)
    {
        if (descriptors.Length > DescriptorsMax)
        {
            return SysResult.Error(Errno.EINVAL);
        }
        long* control = stackalloc long[(HeaderBytes + (DescriptorsMax * 4) + 8) / 8];
        fixed (byte* data = payload)
        {
            var vector = new IoVector { Base = data, Length = (nuint)payload.Length };
            var message = new MessageHeader { Vectors = &vector, VectorCount = 1 };
            if (descriptors.Length > 0)
            {
                int bytes = HeaderBytes + (descriptors.Length * 4);
                control[0] = bytes;
                ((int*)control)[2] = SOL_SOCKET;
                ((int*)control)[3] = SCM_RIGHTS;
                descriptors.CopyTo(new Span<int>((int*)control + 4, descriptors.Length));
                message.Control = control;
                message.ControlLength = (nuint)((bytes + 7) & ~7);
            }
            SysResult result;
            do
            {
                result = LibcProcess.Of(LibcProcess.sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
            }
            while (result.Errno == Errno.EINTR);
            return result;
        }
    }

    /// <summary>
    /// Receives one message: the value is its bytes, 0 when the other side is gone. EMSGSIZE when it did not fit
    /// (its descriptors are closed then).
    /// </summary>
    public static SysResult Receive(
        int fd, Span<byte> payload, Span<int> descriptors, out int descriptorCount, bool wait = false)
    {
        const int controlBytes = HeaderBytes + (DescriptorsMax * 4) + 8;
        long* control = stackalloc long[controlBytes / 8];
        descriptorCount = 0;
        fixed (byte* data = payload)
        {
            var vector = new IoVector { Base = data, Length = (nuint)payload.Length };
            var message = new MessageHeader
            {
                Vectors = &vector,
                VectorCount = 1,
                Control = control,
                ControlLength = controlBytes,
            };
            SysResult result;
            do
            {
                result = LibcProcess.Of(
                    LibcProcess.recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT)));
            }
            while (result.Errno == Errno.EINTR);
            if (result.IsError)
            {
                return result;
            }
            int received = 0;
            int* table = (int*)control + 4;
            if (message.ControlLength >= HeaderBytes && ((int*)control)[3] == SCM_RIGHTS)
            {
                received = (int)(control[0] - HeaderBytes) / 4;
            }
            if ((message.Flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || received > descriptors.Length)
            {
                for (int i = 0; i < received; i++)
                {
                    Descriptors.Close(table[i]);
                }
                return SysResult.Error(Errno.EMSGSIZE);
            }
            new Span<int>(table, received).CopyTo(descriptors);
            descriptorCount = received;
            return result;
        }
    }

    // The kernel's struct iovec and struct msghdr on 64-bit machines.
    private struct IoVector
    {
        public void* Base;
        public nuint Length;
    }

    private struct MessageHeader
    {
        public void* Name;
        public int NameLength;
        public IoVector* Vectors;
        public nuint VectorCount;
        public void* Control;
        public nuint ControlLength;
        public int Flags;
    }
}
