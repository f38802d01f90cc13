// Where log lines go: a descriptor, the console of a starting program, a syslog server. A sink never blocks for long,
// never throws and keeps nothing; it owns no descriptor but syslog its socket. Any thread.
using System.Text;

namespace Weir.Kernel;

/// <summary>One destination of a log, with the level it admits.</summary>
public abstract class LogSink(LogLevel level)
{
    public LogLevel Level { get; } = level;

    /// <summary>Takes one line, line end included; the message begins at <paramref name="messageStart"/>.</summary>
    public abstract void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart);
}

/// <summary>Hands every line to a sink that would admit fewer.</summary>
internal sealed class EverythingSink(LogSink inner) : LogSink(LogLevel.Debug)
{
    public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart) =>
        inner.Write(level, line, messageStart);
}

/// <summary>A log file by its descriptor, which keeps its number when the log is reopened.</summary>
public sealed class FileLogSink(int fd, LogLevel level) : LogSink(level)
{
    private long _diskFullSecond;

    public int Descriptor { get; } = fd;

    public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart)
    {
        // On a full disk a write may take long: leave it alone for the rest of the second, as nginx does.
        if (_diskFullSecond != 0 && _diskFullSecond == WallClock.NowSeconds())
        {
            return;
        }
        SysResult written = Descriptors.Write(Descriptor, line);
        _diskFullSecond = written.Errno == Errno.ENOSPC ? WallClock.NowSeconds() : 0;
    }
}

/// <summary>The terminal of somebody who starts Weir: "weir: [emerg] message", without time and process.</summary>
public sealed class ConsoleLogSink(string program = "weir", LogLevel level = LogLevel.Warn) : LogSink(level)
{
    private readonly string _program = program;

    public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart)
    {
        byte[] head = Encoding.UTF8.GetBytes($"{_program}: [{LogLevels.Name(level)}] ");
        Descriptors.WriteAll(2, [.. head, .. line[messageStart..]]);
    }
}

/// <summary>Where and how a `syslog:` log is sent (the parameters of nginx's syslog: prefix).</summary>
public sealed record SyslogTarget
{
    public const int DefaultPort = 514;

    public required SocketAddress Server { get; init; }

    /// <summary>0 (kern) to 23 (local7).</summary>
    public int Facility { get; init; } = 23;

    public string Tag { get; init; } = "nginx";

    public bool WithHostName { get; init; } = true;

    /// <summary>The facility number of a name, or -1.</summary>
    public static int FacilityOf(string name) => Array.IndexOf(s_facilities, name);

    private static readonly string[] s_facilities =
    [
        "kern", "user", "mail", "daemon", "auth", "intern", "lpr", "news", "uucp", "clock", "authpriv", "ftp", "ntp",
        "audit", "alert", "cron", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ];
}

/// <summary>
/// A syslog server reached by datagrams over UDP or a unix socket; a message that cannot be sent is lost.
/// </summary>
public sealed class SyslogSink : LogSink, IDisposable
{
    private readonly SyslogTarget _target;
    private readonly byte[] _host;
    private readonly WallClock _clock = new();
    private readonly Lock _gate = new();
    private int _fd = -1;

    public SyslogSink(SyslogTarget target, LogLevel level)
        : base(level)
    {
        _target = target;
        string tail = target.WithHostName ? " " + Environment.MachineName.ToLowerInvariant() + " " : " ";
        _host = Encoding.UTF8.GetBytes(tail + target.Tag + ": ");
    }

    public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart) =>
        Send((int)level - 1, line[..^1]);

    /// <summary>Sends one message without its line end (also what an access log does).</summary>
    public void Send(int severity, ReadOnlySpan<byte> message)
    {
        Span<byte> packet = stackalloc byte[Log.LineBytesMax + 512];
        int used = FormatHeader(severity, packet);
        int fit = Math.Min(message.Length, packet.Length - used);
        message[..fit].CopyTo(packet[used..]);
        packet = packet[..(used + fit)];
        lock (_gate)
        {
            // A server that went away (ECONNREFUSED, ENOTCONN) is tried once more with a fresh socket.
            if (!Connect() || DatagramSocket.Send(_fd, packet).Errno is not (0 or Errno.EAGAIN))
            {
                Dispose();
                if (Connect())
                {
                    DatagramSocket.Send(_fd, packet);
                }
            }
        }
    }

    public void Dispose()
    {
        if (_fd >= 0)
        {
            Descriptors.Close(_fd);
            _fd = -1;
        }
    }

    private int FormatHeader(int severity, Span<byte> text)
    {
        text[0] = (byte)'<';
        int used = 1;
        ((_target.Facility * 8) + severity).TryFormat(text[used..], out int digits);
        used += digits;
        text[used++] = (byte)'>';
        used += _clock.FormatSyslogTime(WallClock.NowSeconds(), text[used..]);
        int host = Math.Min(_host.Length, 400);
        _host.AsSpan(0, host).CopyTo(text[used..]);
        return used + host;
    }

    private bool Connect()
    {
        if (_fd < 0)
        {
            SysResult opened = DatagramSocket.Connect(_target.Server);
            _fd = opened.IsOk ? opened.Int : -1;
        }
        return _fd >= 0;
    }
}
