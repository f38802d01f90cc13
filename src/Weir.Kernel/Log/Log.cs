// The error log: one line per message, exactly as nginx writes it, to every sink whose level admits it.
//   2026/11/22 10:17:59 [error] 1234#1235: *5 open() "/x" failed (2: No such file or directory)
// Usable from any thread: a line is built on the caller's stack and written with one system call. A level that is off
// costs one comparison: guard with Enabled, or pass an interpolated string, which is not even formatted then.
using System.Runtime.CompilerServices;
using System.Text;

namespace Weir.Kernel;

/// <summary>An error log with any number of sinks, each with its own level.</summary>
public sealed class Log
{
    /// <summary>nginx's limit of one line, line end included.</summary>
    public const int LineBytesMax = 2048;

    /// <summary>A log that drops everything.</summary>
    public static readonly Log None = new();

    private readonly LogSink[] _sinks;
    private readonly LogLevel _level;
    private readonly WallClock _clock = new();

    public Log(params LogSink[] sinks)
    {
        _sinks = sinks;
        foreach (LogSink sink in sinks)
        {
            _level = sink.Level > _level ? sink.Level : _level;
        }
    }

    /// <summary>The most talkative level of all sinks.</summary>
    public LogLevel Level => _level;

    public IReadOnlyList<LogSink> Sinks => _sinks;

    /// <summary>The same sinks, all of which take every line.</summary>
    public Log Everything => _everything ??= _level == LogLevel.Debug && _sinks.Length == 1 ? this
        : new Log([.. _sinks.Select(static s => new EverythingSink(s))]);

    private Log? _everything;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Enabled(LogLevel level) => level <= _level;

    /// <summary>
    /// Writes a line; <paramref name="connection"/> above 0 is shown as "*5 ", an errno as "(2: text)".
    /// </summary>
    public void Write(LogLevel level, string message, int errno = 0, long connection = 0)
    {
        if (!Enabled(level))
        {
            return;
        }
        Span<byte> line = stackalloc byte[LineBytesMax];
        var writer = new LineWriter(line, _clock, level, connection);
        writer.Append(message);
        Emit(ref writer, level, errno);
    }

    /// <summary>As the string form, without a string.</summary>
    public void Write(LogLevel level, ReadOnlySpan<byte> message, int errno = 0, long connection = 0)
    {
        if (!Enabled(level))
        {
            return;
        }
        Span<byte> line = stackalloc byte[LineBytesMax];
        var writer = new LineWriter(line, _clock, level, connection);
        writer.Append(message);
        Emit(ref writer, level, errno);
    }

    /// <summary>
    /// An interpolated message, formatted only when the level is on. Not for the data path: it allocates.
    /// </summary>
    public void Write(
        LogLevel level,
        [InterpolatedStringHandlerArgument("", "level")] ref LogText message,
        int errno = 0,
        long connection = 0)
    {
        if (message.IsOn)
        {
            Write(level, message.ToStringAndClear(), errno, connection);
        }
    }

    private void Emit(ref LineWriter writer, LogLevel level, int errno)
    {
        if (errno != 0)
        {
            writer.AppendErrno(errno);
        }
        ReadOnlySpan<byte> line = writer.Finish();
        foreach (LogSink sink in _sinks)
        {
            if (level <= sink.Level)
            {
                sink.Write(level, line, writer.MessageStart);
            }
        }
    }

    private ref struct LineWriter
    {
        private readonly Span<byte> _line;
        private int _used;

        public LineWriter(Span<byte> line, WallClock clock, LogLevel level, long connection)
        {
            _line = line;
            _used = clock.FormatLogTime(WallClock.NowSeconds(), line);
            Append(" ["u8);
            Append(LogLevels.Utf8Name(level));
            Append("] "u8);
            Append(ProcessControl.OwnPid);
            Append("#"u8);
            Append(ProcessControl.OwnThreadId);
            Append(": "u8);
            if (connection > 0)
            {
                Append("*"u8);
                Append(connection);
                Append(" "u8);
            }
            MessageStart = _used;
        }

        public int MessageStart { get; }

        public void Append(ReadOnlySpan<byte> bytes)
        {
            // The last byte is the line end's.
            int fit = Math.Min(bytes.Length, _line.Length - 1 - _used);
            bytes[..fit].CopyTo(_line[_used..]);
            _used += fit;
        }

        public void Append(string text)
        {
            Encoding.UTF8.GetEncoder().Convert(
                text, _line[_used..^1], flush: true, out _, out int bytes, out _);
            _used += bytes;
        }

        public void Append(long number)
        {
            if (number.TryFormat(_line[_used..^1], out int bytes))
            {
                _used += bytes;
            }
        }

        public void AppendErrno(int errno)
        {
            // nginx keeps room for the error: a message that is too long loses its own end instead.
            const int room = 50;
            if (_used > _line.Length - room)
            {
                _used = _line.Length - room;
                Append("..."u8);
            }
            Append(" ("u8);
            Append(errno);
            Append(": "u8);
            Append(Errno.Describe(errno));
            Append(")"u8);
        }

        public ReadOnlySpan<byte> Finish()
        {
            _line[_used++] = (byte)'\n';
            return _line[.._used];
        }
    }
}

/// <summary>Interpolated text that is only put together when its level is on.</summary>
[InterpolatedStringHandler]
public ref struct LogText
{
    private DefaultInterpolatedStringHandler _inner;

    public LogText(int literalLength, int formattedCount, Log log, LogLevel level, out bool isOn)
    {
        isOn = IsOn = log.Enabled(level);
        _inner = isOn ? new DefaultInterpolatedStringHandler(literalLength, formattedCount) : default;
    }

    public bool IsOn { get; }

    public void AppendLiteral(string text) => _inner.AppendLiteral(text);

    public void AppendFormatted<T>(T value) => _inner.AppendFormatted(value);

    public void AppendFormatted(ReadOnlySpan<char> value) => _inner.AppendFormatted(value);

    public void AppendFormatted(string? value) => _inner.AppendFormatted(value);

    internal string ToStringAndClear() => _inner.ToStringAndClear();
}
