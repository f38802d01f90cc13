// Where access log lines go: a file by its descriptor, files whose names hold variables, syslog. Without `buffer=` the
// lines of one turn of the loop leave together at its end: as prompt as a write per line, and cheaper. One loop's
// thread; descriptors of fixed paths belong to the process and keep their numbers when logs are reopened.
using Weir.Conf;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>buffer=, flush=, gzip= of an access_log.</summary>
internal sealed class LogFileOptions
{
    private const int GzipBufferBytes = 64 * 1024;

    internal int BufferBytes { get; private set; }
    internal long FlushMs { get; private set; }

    /// <summary>0 for plain text.</summary>
    internal int GzipLevel { get; private set; }

    internal bool TryParse(string text, out string? error)
    {
        error = null;
        if (text.StartsWith("buffer=", StringComparison.Ordinal))
        {
            if (ConfValues.TrySize(text[7..], out long size) && size > 0)
            {
                BufferBytes = (int)Math.Min(size, 1 << 30);
                return true;
            }
            error = $"invalid buffer size \"{text[7..]}\"";
            return false;
        }
        if (text.StartsWith("flush=", StringComparison.Ordinal))
        {
            if (ConfValues.TryMsec(text[6..], out long ms) && ms > 0)
            {
                FlushMs = ms;
                return true;
            }
            error = $"invalid flush time \"{text[6..]}\"";
            return false;
        }
        if (text == "gzip" || text.StartsWith("gzip=", StringComparison.Ordinal))
        {
            GzipLevel = 1;
            if (text.Length > 5)
            {
                if (!ConfValues.TryNumber(text[5..], out long level) || level is < 1 or > 9)
                {
                    error = $"invalid compression level \"{text[5..]}\"";
                    return false;
                }
                GzipLevel = (int)level;
            }
            BufferBytes = BufferBytes == 0 ? GzipBufferBytes : BufferBytes;
            return true;
        }
        error = $"invalid parameter \"{text}\"";
        return false;
    }
}

/// <summary>A log file with the lines that wait for it.</summary>
internal sealed class LogFile(string path, int fd, LogFileOptions options) : IDisposable
{
    /// <summary>Lines of one turn are written out early beyond this.</summary>
    private const int TurnBytesMax = 64 * 1024;
    private const int FirstCapacity = 4096;

    private EventLoop? _loop;
    private CallbackTimer? _timer;
    private int _lineStart;
    private bool _isDirty;
    private LogWriteErrors _errors;

    internal LogFileOptions Options { get; set; } = options;

    /// <summary>Where complaints about the file go.</summary>
    internal void Bind(Log log) => _errors.Log = log;

    internal LogLines Lines { get; } = new(FirstCapacity);

    internal void Begin(EventLoop loop)
    {
        _loop = loop;
        _lineStart = Lines.Used;
    }

    internal void End()
    {
        Lines.Put((byte)'\n');
        if (Options.BufferBytes == 0)
        {
            if (Lines.Used >= TurnBytesMax)
            {
                Flush();
            }
            else if (!_isDirty)
            {
                _isDirty = true;
                LogFlusher.Of(_loop!).Add(this);
            }
            return;
        }
        if (Lines.Used > Options.BufferBytes)
        {
            // What was there leaves; a line that is bigger than the buffer by itself follows at once.
            WriteOut(_lineStart);
            if (Lines.Used > Options.BufferBytes)
            {
                WriteOut(Lines.Used);
            }
        }
        if (Options.FlushMs > 0 && Lines.Used > 0)
        {
            _timer ??= new CallbackTimer(Flush);
            if (!_timer.IsSet)
            {
                _loop!.Timers.Set(_timer, _loop.NowMs + Options.FlushMs);
            }
        }
    }

    /// <summary>Writes out everything.</summary>
    internal void Flush()
    {
        _isDirty = false;
        WriteOut(Lines.Used);
        if (_timer is { IsSet: true })
        {
            _loop!.Timers.Cancel(_timer);
        }
    }

    private void WriteOut(int count)
    {
        if (count == 0)
        {
            return;
        }
        ReadOnlySpan<byte> bytes = Lines.Written[..count];
        if (fd >= 0)
        {
            _errors.Write(fd, path, Options.GzipLevel > 0 ? LogGzip.Compress(bytes, Options.GzipLevel) : bytes);
        }
        Lines.Consume(count);
    }

    public void Dispose() => Flush();
}

/// <summary>Writing to a log and what goes wrong with it.</summary>
internal struct LogWriteErrors
{
    private long _diskFullSecond;
    private long _lastComplaintSecond;

    internal void Write(int fd, string path, ReadOnlySpan<byte> bytes)
    {
        long now = WallClock.NowSeconds();
        // On a full disk a write may take long: leave it alone for the rest of the second, as nginx does.
        if (_diskFullSecond == now)
        {
            return;
        }
        while (bytes.Length > 0)
        {
            SysResult written = Sys.Write(fd, bytes);
            if (written.IsError && written.Errno == Errno.EINTR)
            {
                continue;
            }
            if (written.IsError)
            {
                _diskFullSecond = written.Errno == Errno.ENOSPC ? now : 0;
                const int quietSeconds = 60;
                if (now - _lastComplaintSecond >= quietSeconds)
                {
                    _lastComplaintSecond = now;
                    Log?.Write(LogLevel.Alert, $"write() to \"{path}\" failed", written.Errno);
                }
                return;
            }
            bytes = bytes[written.Int..];
        }
    }

    /// <summary>Where complaints go.</summary>
    internal Log? Log { get; set; }
}

/// <summary>Writes out, at the end of a loop's turn, the files that got lines in it.</summary>
internal sealed class LogFlusher
{
    private static readonly LoopSlot<LogFlusher> s_slot = new();

    private readonly List<LogFile> _dirty = [];

    private LogFlusher(EventLoop loop) => loop.TurnEnded += Flush;

    internal static LogFlusher Of(EventLoop loop) => loop.Slot(s_slot, static l => new LogFlusher(l));

    internal void Add(LogFile file) => _dirty.Add(file);

    private void Flush()
    {
        foreach (LogFile file in _dirty)
        {
            file.Flush();
        }
        _dirty.Clear();
    }
}

/// <summary>An access_log whose path holds variables: opened per line, or kept open by open_log_file_cache.</summary>
internal sealed class LogPathFiles(Template path)
{
    private sealed class Entry
    {
        internal required byte[] Path;
        internal int Fd;
        internal long OpenedMs;
        internal long UsedMs;
        internal int Uses;
    }

    private readonly LogLines _line = new(1024);
    private readonly List<Entry> _open = [];
    private LogFileCache _cache = new(0, 0, 0, 0);
    private LogWriteErrors _errors;

    internal void SetCache(LogFileCache cache) => _cache = cache;

    internal void Write(HttpRequest r, LogFormat format)
    {
        NativeSlice name = path.EvaluatePath(r);
        if (name.Span.Contains((byte)0))
        {
            return;
        }
        format.Write(r, _line);
        _line.Put((byte)'\n');
        Entry? kept = _cache.Max > 0 ? Find(r, name) : null;
        int fd = kept is { Fd: >= 0 } ? kept.Fd : Open(r, name);
        if (fd >= 0)
        {
            _errors.Log ??= r.Log;
            _errors.Write(fd, path.Source, _line.Written);
            if (kept?.Fd != fd && (_cache.Max == 0 || !Keep(r, name, fd, kept)))
            {
                Sys.Close(fd);
            }
        }
        _line.Consume(_line.Used);
    }

    private static int Open(HttpRequest r, NativeSlice name)
    {
        const int mode = 0x1A4;
        SysResult fd = Sys.Open(name, Sys.O_WRONLY | Sys.O_CREAT | Sys.O_APPEND | Sys.O_CLOEXEC, mode);
        if (fd.IsError)
        {
            r.LogError(LogLevel.Crit, $"open() \"{name}\" failed", fd.Errno);
            return -1;
        }
        return fd.Int;
    }

    private Entry? Find(HttpRequest r, NativeSlice name)
    {
        long now = r.Loop.NowMs;
        for (int i = _open.Count - 1; i >= 0; i--)
        {
            Entry entry = _open[i];
            if (now - entry.UsedMs > _cache.InactiveMs || now - entry.OpenedMs > _cache.ValidMs)
            {
                Drop(i);
            }
            else if (name.Span.SequenceEqual(entry.Path))
            {
                entry.UsedMs = now;
                entry.Uses++;
                return entry;
            }
        }
        return null;
    }

    private void Drop(int index)
    {
        if (_open[index].Fd >= 0)
        {
            Sys.Close(_open[index].Fd);
        }
        _open.RemoveAt(index);
    }

    /// <summary>Remembers a file; whether it stays open is a matter of how often it was used.</summary>
    private bool Keep(HttpRequest r, NativeSlice name, int fd, Entry? known)
    {
        if (known is not null)
        {
            bool stays = known.Uses >= _cache.MinUses;
            known.Fd = stays ? fd : -1;
            known.OpenedMs = r.Loop.NowMs;
            return stays;
        }
        if (_open.Count >= _cache.Max)
        {
            int oldest = 0;
            for (int i = 1; i < _open.Count; i++)
            {
                oldest = _open[i].UsedMs < _open[oldest].UsedMs ? i : oldest;
            }
            Drop(oldest);
        }
        bool keep = _cache.MinUses <= 1;
        _open.Add(new Entry { Path = name.Span.ToArray(), Fd = keep ? fd : -1, OpenedMs = r.Loop.NowMs,
            UsedMs = r.Loop.NowMs, Uses = 1 });
        return keep;
    }

    /// <summary>Closes what is kept open: the files may be renamed.</summary>
    internal void Close()
    {
        while (_open.Count > 0)
        {
            Drop(_open.Count - 1);
        }
    }
}

/// <summary>An access_log that goes to syslog.</summary>
internal sealed class SyslogLines(SyslogTarget target, int severity)
{
    private readonly SyslogSink _sink = new(target, LogLevel.Info);
    private readonly LogLines _line = new(1024);

    internal void Write(HttpRequest r, LogFormat format)
    {
        format.Write(r, _line);
        _sink.Send(severity, _line.Written);
        _line.Consume(_line.Used);
    }
}
