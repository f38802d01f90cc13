// Children: what they inherit, how they end, descriptors through a channel, identity.
using Weir.Kernel;
using Xunit;

namespace Weir.Tests.Unit.Kernel;

public sealed class ProcessSpawnTests
{
    [Fact(DisplayName = "spawn: a child has exactly the listed descriptors and environment")]
    public void Inheritance()
    {
        Descriptors.Pipe(out int readFd, out int writeFd);
        SysResult pid = ProcessSpawn.Start(new SpawnRequest
        {
            Path = "/bin/sh",
            Arguments = ["weir: a title", "-c", "ls /proc/self/fd | tr '\\n' ' ' >&3; env | grep -v ^PWD >&3; "
                + "head -c 13 /proc/$$/cmdline >&3"],
            Environment = ["A=b c"],
            Descriptors = [writeFd],
        });
        Descriptors.Close(writeFd);
        Assert.True(pid.IsOk, pid.ToString());
        string text = ReadAll(readFd);
        int pidFd = ProcessControl.OpenPidFd(pid.Int).Int;
        Assert.True(ProcessControl.WaitFor(pidFd, out ExitInfo exit).IsOk);
        Descriptors.Close(pidFd);
        Assert.Equal(new ExitInfo(pid.Int, false, 0), exit);
        // 0, 1, 2 and the one passed; the last number is ls' own directory handle.
        Assert.StartsWith("0 1 2 3 4 ", text);
        Assert.Contains("A=b c\n", text);
        Assert.DoesNotContain("PATH=", text);
        Assert.EndsWith("weir: a title", text);
    }

    [Fact(DisplayName = "spawn: a child has the handled signals blocked and runs on the CPUs it was given")]
    public void MaskAndAffinity()
    {
        Descriptors.Pipe(out int readFd, out int writeFd);
        ulong[] own = ProcessControl.GetAffinity();
        SysResult pid = ProcessSpawn.Start(new SpawnRequest
        {
            Path = "/bin/cat",
            Arguments = ["cat", "/proc/self/status"],
            Environment = [],
            StandardOutput = writeFd,
            Affinity = [1],
        });
        Descriptors.Close(writeFd);
        string text = ReadAll(readFd);
        int pidFd = ProcessControl.OpenPidFd(pid.Int).Int;
        ProcessControl.WaitFor(pidFd, out _);
        Descriptors.Close(pidFd);
        Assert.Matches(@"Cpus_allowed:\s*0*1\n", text);
        ulong blocked = Convert.ToUInt64(text.Split("SigBlk:\t")[1][..16], 16);
        foreach (Signal signal in Signals.Handled)
        {
            Assert.NotEqual(0ul, blocked & (1ul << ((int)signal - 1)));
        }
        Assert.Equal(own, ProcessControl.GetAffinity());
    }

    [Fact(DisplayName = "spawn: a binary that is not there is an error value")]
    public void Missing() =>
        Assert.Equal(
            Errno.ENOENT,
            ProcessSpawn.Start(new SpawnRequest { Path = "/no/such", Arguments = ["x"], Environment = [] }).Errno);

    [Fact(DisplayName = "spawn: a pidfd kills the child it names and tells how it ended")]
    public void KillThroughPidFd()
    {
        int pid = ProcessSpawn.Start(
            new SpawnRequest { Path = "/bin/sleep", Arguments = ["sleep", "60"], Environment = [] }).Int;
        int pidFd = ProcessControl.OpenPidFd(pid).Int;
        ProcessControl.TryWait(pidFd, out ExitInfo alive);
        Assert.True(alive.IsNone);
        Assert.True(ProcessControl.SendSignal(pidFd, Signal.Kill).IsOk);
        Assert.True(ProcessControl.WaitFor(pidFd, out ExitInfo exit).IsOk);
        Assert.Equal(new ExitInfo(pid, true, (int)Signal.Kill), exit);
        Descriptors.Close(pidFd);
    }

    [Fact(DisplayName = "ancillary: a message arrives whole with its descriptors, and an end is zero bytes")]
    public void DescriptorPassing()
    {
        Ancillary.Pair(out int a, out int b);
        int memfd = SharedMemory.CreateSealed("t", "content"u8).Int;
        Assert.True(SharedMemory.IsSealed(memfd));
        int[] many = Enumerable.Repeat(memfd, Ancillary.DescriptorsMax).ToArray();
        Assert.True(Ancillary.Send(a, "hello"u8, many).IsOk);
        Assert.Equal(Errno.EINVAL, Ancillary.Send(a, "x"u8, [.. many, memfd]).Errno);
        byte[] buffer = new byte[100];
        int[] received = new int[Ancillary.DescriptorsMax];
        Assert.Equal(5, Ancillary.Receive(b, buffer, received, out int count).Value);
        Assert.Equal(Ancillary.DescriptorsMax, count);
        Assert.Equal(Descriptors.Identity(memfd), Descriptors.Identity(received[^1]));
        Assert.True(SharedMemory.ReadAll(received[0], out byte[] content).IsOk);
        Assert.Equal("content"u8, content);
        Assert.Equal(Errno.EAGAIN, Ancillary.Receive(b, buffer, received, out _).Errno);
        Descriptors.Close(a);
        Assert.Equal(0, Ancillary.Receive(b, buffer, received, out _).Value);
    }

    [Fact(DisplayName = "identity: root is user 0, and a name nobody has is ENOENT")]
    public void Users()
    {
        Assert.True(Identity.FindUser("root", out UserEntry root).IsOk);
        Assert.Equal(new UserEntry("root", 0, 0), root);
        Assert.True(Identity.FindGroup("root", out uint group).IsOk);
        Assert.Equal(0u, group);
        Assert.Equal(Errno.ENOENT, Identity.FindUser("no-such-user", out _).Errno);
        Assert.Equal(Errno.ENOENT, Identity.FindGroup("no-such-group", out _).Errno);
    }

    [Fact(DisplayName = "listen: a socket is bound as specified, and a taken address is named with its errno")]
    public void Listening()
    {
        var spec = new ListenSpec { Address = SocketAddress.Parse("127.0.0.1:18401"), DeferAccept = true };
        int fd = ListenSocket.Open(spec, reusePort: false, out ListenFailure failure);
        Assert.True(failure.IsNone, failure.ToString());
        Assert.Equal(spec.Address, ListenSocket.AddressOf(fd, out bool datagram));
        Assert.False(datagram);
        Assert.Equal(-1, ListenSocket.Open(spec, reusePort: false, out failure));
        Assert.Equal(new ListenFailure("bind()", Errno.EADDRINUSE), failure);
        // A plain socket may join a reuseport group later.
        Assert.True(ListenSocket.Reconfigure(fd, spec, reusePort: true).IsNone);
        int second = ListenSocket.Open(spec, reusePort: true, out failure);
        Assert.True(failure.IsNone, failure.ToString());
        Descriptors.Close(second);
        Descriptors.Close(fd);
    }

    private static string ReadAll(int fd)
    {
        var bytes = new List<byte>();
        Span<byte> buffer = stackalloc byte[512];
        while (Descriptors.Read(fd, buffer) is { Value: > 0 } read)
        {
            bytes.AddRange(buffer[..read.Int]);
        }
        Descriptors.Close(fd);
        return System.Text.Encoding.UTF8.GetString([.. bytes]);
    }
}
