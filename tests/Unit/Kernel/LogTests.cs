// The error log's lines: nginx's form, levels, limits.
using Weir.Kernel;
using Xunit;

namespace Weir.Tests.Unit.Kernel;

public sealed class LogTests
{
    [Fact(DisplayName = "log: a line has nginx's form, with connection and errno")]
    public void LineForm()
    {
        var (log, lines) = Make(LogLevel.Error);
        log.Write(LogLevel.Error, "open() \"/x\" failed", Errno.ENOENT, connection: 5);
        Assert.Matches(
            @"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*5 open\(\) ""/x"" failed "
            + @"\(2: No such file or directory\)\n$",
            Assert.Single(lines));
    }

    [Fact(DisplayName = "log: a level that is off writes nothing and formats nothing")]
    public void LevelOff()
    {
        var (log, lines) = Make(LogLevel.Warn);
        int formatted = 0;
        log.Write(LogLevel.Notice, $"never {Touch()}");
        Assert.False(log.Enabled(LogLevel.Notice));
        Assert.Empty(lines);
        Assert.Equal(0, formatted);
        log.Write(LogLevel.Warn, $"once {Touch()}");
        Assert.EndsWith(": once 1\n", Assert.Single(lines));

        int Touch() => ++formatted;
    }

    [Theory(DisplayName = "log: a line is never longer than 2048 bytes and keeps its errno")]
    [InlineData(1900)]
    [InlineData(2040)]
    [InlineData(5000)]
    public void LineLimit(int length)
    {
        var (log, lines) = Make(LogLevel.Debug);
        log.Write(LogLevel.Debug, new string('x', length), Errno.ENOENT);
        string line = Assert.Single(lines);
        Assert.True(line.Length <= Log.LineBytesMax);
        Assert.EndsWith("(2: No such file or directory)\n", line);
    }

    [Fact(DisplayName = "log: every sink has its own level")]
    public void TwoSinks()
    {
        var quiet = new ListSink(LogLevel.Error);
        var loud = new ListSink(LogLevel.Debug);
        var log = new Log(quiet, loud);
        log.Write(LogLevel.Info, "x");
        log.Write(LogLevel.Crit, "y");
        Assert.Single(quiet.Lines);
        Assert.Equal(2, loud.Lines.Count);
    }

    [Fact(DisplayName = "log: a file sink follows its descriptor when the file is reopened")]
    public void Reopen()
    {
        string directory = Directory.CreateTempSubdirectory().FullName, path = directory + "/e.log";
        int fd = Descriptors.OpenAppend(path).Int;
        var log = new Log(new FileLogSink(fd, LogLevel.Error));
        log.Write(LogLevel.Error, "one");
        File.Move(path, path + ".1");
        int fresh = Descriptors.OpenAppend(path).Int;
        Assert.True(Descriptors.Replace(fresh, fd).IsOk);
        Descriptors.Close(fresh);
        log.Write(LogLevel.Error, "two");
        Assert.EndsWith(": one\n", File.ReadAllText(path + ".1"));
        Assert.EndsWith(": two\n", File.ReadAllText(path));
        Descriptors.Close(fd);
        Directory.Delete(directory, recursive: true);
    }

    [Fact(DisplayName = "log: syslog packets carry priority, time, host and tag before nginx's line")]
    public void Syslog()
    {
        string path = Path.GetTempPath() + "weir-syslog-" + Guid.NewGuid().ToString("N");
        using var server = new System.Net.Sockets.Socket(
            System.Net.Sockets.AddressFamily.Unix, System.Net.Sockets.SocketType.Dgram, 0);
        server.Bind(new System.Net.Sockets.UnixDomainSocketEndPoint(path));
        using var sink = new SyslogSink(
            new SyslogTarget { Server = SocketAddress.Unix(path)!, Facility = 16, Tag = "web" }, LogLevel.Warn);
        new Log(sink).Write(LogLevel.Warn, "hello");
        byte[] buffer = new byte[4096];
        string packet = System.Text.Encoding.ASCII.GetString(buffer, 0, server.Receive(buffer));
        File.Delete(path);
        Assert.Matches(@"^<132>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ web: \d{4}/.*\[warn\] .*: hello$", packet);
    }

    private static (Log Log, List<string> Lines) Make(LogLevel level)
    {
        var sink = new ListSink(level);
        return (new Log(sink), sink.Lines);
    }

    private sealed class ListSink(LogLevel level) : LogSink(level)
    {
        public List<string> Lines { get; } = [];

        public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart) =>
            Lines.Add(System.Text.Encoding.UTF8.GetString(line));
    }
}
