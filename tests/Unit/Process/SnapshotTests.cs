// Snapshots as bytes, channels as packets, the tables of a master.
using Weir.Kernel;
using Weir.Process;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Process;

public sealed class SnapshotTests
{
    [Fact(DisplayName = "snapshot: everything that goes in comes out")]
    public void RoundTrip()
    {
        Snapshot before = Sample();
        Snapshot after = Snapshot.Deserialize(before.Serialize());
        Assert.Equal(before.Serialize(), after.Serialize());
        Assert.Equal(before.Settings, after.Settings);
        Assert.Equal(before.Listens[0], after.Listens[0]);
        Assert.True(before.Listens[0].SameOptions(after.Listens[0]));
        Assert.Equal(before.ErrorLogs[1].Syslog, after.ErrorLogs[1].Syslog);
        Assert.Equal(before.Names[0].Addresses, after.Names[0].Addresses);
        Assert.Equal(5, after.DescriptorCount);
    }

    [Fact(DisplayName = "snapshot: cut off at any byte it is refused, never misread")]
    public void Truncated()
    {
        byte[] bytes = Sample().Serialize();
        for (int length = 0; length < bytes.Length; length++)
        {
            Assert.ThrowsAny<Exception>(() => Snapshot.Deserialize(bytes[..length]));
        }
    }

    [Fact(DisplayName = "channel: a message with 600 descriptors arrives whole over several packets")]
    public void ManyDescriptors()
    {
        Assert.True(Channel.CreatePair(out Channel? master, out int childFd).IsOk);
        using var worker = new Channel(childFd);
        using (master)
        {
            int memfd = SharedMemory.CreateSealed("x", "y"u8).Int;
            master!.Send(new ChannelMessage(ChannelMessageKind.Prepare, 7)
            {
                Running = true,
                Text = "0 1",
                Descriptors = [.. Enumerable.Repeat(memfd, 600)],
            });
            master.Send(new ChannelMessage(ChannelMessageKind.Commit, 7));
            Assert.Equal(ReceiveOutcome.Message, worker.TryReceive(out ChannelMessage? message));
            Assert.Equal(
                (ChannelMessageKind.Prepare, 7u, true, "0 1"),
                (message!.Kind, message.Generation, message.Running, message.Text));
            Assert.Equal(600, message.Descriptors.Distinct().Count());
            message.CloseDescriptors();
            Assert.Equal(ReceiveOutcome.Message, worker.TryReceive(out message));
            Assert.Equal(ChannelMessageKind.Commit, message!.Kind);
            Assert.Equal(ReceiveOutcome.Empty, worker.TryReceive(out _));
            Descriptors.Close(memfd);
        }
        Assert.Equal(ReceiveOutcome.Ended, worker.TryReceive(out _));
    }

    [Fact(DisplayName = "channel: what the other side has not read waits in order and is not lost")]
    public void Outbox()
    {
        Channel.CreatePair(out Channel? master, out int childFd);
        using var worker = new Channel(childFd);
        using (master)
        {
            const int messages = 2000;
            for (uint i = 0; i < messages; i++)
            {
                var message = new ChannelMessage(ChannelMessageKind.Refused, i) { Text = new string('x', 1000) };
                Assert.True(master!.Send(message).IsOk);
            }
            Assert.True(master!.HasUnsent);
            for (uint i = 0; i < messages; i++)
            {
                ReceiveOutcome outcome;
                ChannelMessage? message;
                while ((outcome = worker.TryReceive(out message)) == ReceiveOutcome.Empty)
                {
                    master.Flush();
                }
                Assert.Equal(ReceiveOutcome.Message, outcome);
                Assert.Equal(i, message!.Generation);
            }
            Assert.False(master.HasUnsent);
        }
    }

    [Fact(DisplayName = "listen table: an abort closes only what was opened for it, a commit only what nobody names")]
    public void ListenTableRoads()
    {
        using var table = new ListenTable();
        ListenSpec a = Listen("127.0.0.1:18420"), b = Listen("127.0.0.1:18421") with { ReusePort = true };
        Assert.True(table.Prepare([a], 2, Log.None));
        table.Commit(unlinkUnix: true);
        int fd = table.Open[0].Fds[0];
        Assert.True(table.Prepare([b, a], 2, Log.None));
        Assert.Equal(2, table.Prepared[0].Fds.Count);
        Assert.Equal(fd, table.Prepared[1].Fds[0]);
        table.Abort();
        Assert.Equal([a], table.Open.Select(o => o.Spec));
        Assert.True(Descriptors.IsOpen(fd));
        Assert.True(table.Prepare([b], 3, Log.None));
        Assert.Equal(3, table.Prepared[0].Fds.Count);
        table.Commit(unlinkUnix: true);
        Assert.Null(ListenSocket.AddressOf(fd, out _));
    }

    [Fact(DisplayName = "listen table: a unix socket's file goes when it is closed, and stays over an abort")]
    public void UnixPaths()
    {
        string path = Path.GetTempPath() + "weir-listen-" + Guid.NewGuid().ToString("N"), other = path + "2";
        using var table = new ListenTable();
        table.Prepare([Listen("unix:" + path)], 1, Log.None);
        table.Commit(unlinkUnix: true);
        table.Prepare([Listen("unix:" + path), Listen("unix:" + other)], 1, Log.None);
        Assert.True(File.Exists(other));
        table.Abort();
        Assert.True(File.Exists(path));
        Assert.False(File.Exists(other));
        table.CloseAll(unlinkUnix: true);
        Assert.False(File.Exists(path));
    }

    [Fact(DisplayName = "log table: a path keeps its number over reload and reopening, and a refusal changes nothing")]
    public void LogTableNumbers()
    {
        string directory = Directory.CreateTempSubdirectory().FullName;
        using var table = new LogTable();
        var a = new LogSpec(directory + "/a");
        Assert.True(table.Prepare([a, new LogSpec(LogSpec.StandardError)], Log.None));
        table.Commit();
        int fd = table.FdOf(a.Path);
        Assert.False(table.Prepare([a, new LogSpec(directory + "/no/such")], Log.None));
        Assert.Equal(fd, table.FdOf(a.Path));
        File.Move(a.Path, a.Path + ".1");
        table.Reopen(Log.None);
        Assert.Equal(fd, table.FdOf(a.Path));
        Descriptors.Write(fd, "new"u8);
        Assert.Equal("new", File.ReadAllText(a.Path));
        Assert.Equal("", File.ReadAllText(a.Path + ".1"));
        Assert.Equal(2, table.FdOf(LogSpec.StandardError));
        Directory.Delete(directory, recursive: true);
    }

    [Fact(DisplayName = "zone table: an equal zone keeps its memory, another size is fresh, an abort keeps the old")]
    public void ZoneTableRoads()
    {
        using var table = new ZoneTable();
        var spec = new ZoneSpec("z", 64 * 1024, 1);
        table.Prepare([spec, CounterSlots.Spec], Log.None);
        table.Commit();
        int fd = table.FdOf(spec);
        ZoneSpec bigger = spec with { SizeBytes = 128 * 1024 };
        Assert.True(table.Prepare([bigger], Log.None));
        Assert.NotEqual(fd, table.FdOf(bigger, prepared: true));
        table.Abort();
        Assert.Equal(fd, table.FdOf(spec));
        table.Prepare([spec], Log.None);
        table.Commit();
        Assert.Equal(fd, table.FdOf(spec));
        Assert.Equal(1, table.OpenCount);
    }

    [Fact(DisplayName = "pid file: -s reports a missing file, a wrong number and a dead process in nginx's words")]
    public void SignalCommandErrors()
    {
        string path = Path.GetTempFileName();
        var lines = new List<string>();
        var log = new Log(new Capture(lines));
        Assert.Equal(1, SignalCommand.Send("reload", path + ".none", log));
        Assert.EndsWith($"open() \"{path}.none\" failed (2: No such file or directory)\n", lines[^1]);
        File.WriteAllText(path, "abc\n");
        Assert.Equal(1, SignalCommand.Send("stop", path, log));
        Assert.EndsWith($"invalid PID number \"abc\" in \"{path}\"\n", lines[^1]);
        File.WriteAllText(path, "4194305\n");
        Assert.Equal(1, SignalCommand.Send("quit", path, log));
        Assert.EndsWith("kill(4194305, 3) failed (3: No such process)\n", lines[^1]);
        File.Delete(path);
    }

    private static ListenSpec Listen(string text) => new() { Address = SocketAddress.Parse(text) };

    private static Snapshot Sample() => new()
    {
        Generation = 3,
        ConfPath = "/etc/nginx/nginx.conf",
        Prefix = "/etc/nginx/",
        GlobalText = "daemon off;",
        Files = [1, 2, 3],
        Names = [new ResolvedName("app", [SocketAddress.Parse("127.0.0.1:1"), SocketAddress.Parse("[::1]:1")])],
        Settings = new ProcessSettings
        {
            UserName = "www-data",
            UserId = 33,
            GroupId = 33,
            OpenFilesMax = 1024,
            Priority = -5,
            WorkingDirectory = "/tmp",
            WorkerCount = 4, ShutdownTimeoutMs = 5000,
        },
        Listens =
        [
            Listen("127.0.0.1:80") with
            {
                Backlog = 5,
                ReceiveBufferBytes = 1,
                SendBufferBytes = 2,
                ReusePort = true,
                DeferAccept = true,
                Ipv6Only = false,
                KeepAlive = ListenKeepAlive.Off,
                KeepIdleSeconds = 3,
                KeepIntervalSeconds = 4,
                KeepCount = 5,
                FastOpenQueue = 6,
            },
            Listen("unix:/x"),
        ],
        Logs = [new LogSpec("/var/log/a"), new LogSpec(LogSpec.StandardError)],
        ErrorLogs =
        [
            new ErrorLogSpec(LogLevel.Error, new LogSpec("/var/log/e")),
            new ErrorLogSpec(
                LogLevel.Crit, null, new SyslogTarget { Server = SocketAddress.Parse("127.0.0.1:514"), Tag = "t" }),
        ],
        Zones = [new ZoneSpec("z", 65536, ulong.MaxValue)],
        Secrets = [new SecretSpec("/key")],
    };

    private sealed class Capture(List<string> lines) : LogSink(LogLevel.Debug)
    {
        public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart) =>
            lines.Add(System.Text.Encoding.UTF8.GetString(line));
    }
}
