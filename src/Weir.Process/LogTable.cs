// The log files of a process, one descriptor each, whose number never changes while the path is in use: reopening puts
// the new file under the old number, so every sink and every snapshot follows without being told.
// Used on both sides: the master opens files, a worker takes descriptors it was sent. One thread.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>Paths and their stable descriptors.</summary>
public sealed class LogTable : IDisposable
{
    private readonly Dictionary<string, int> _stable = new(StringComparer.Ordinal);
    private Dictionary<string, int>? _prepared;

    public IEnumerable<string> Paths => _stable.Keys;

    /// <summary>The stable descriptor of a path, or -1.</summary>
    public int FdOf(string path) => path == LogSpec.StandardError ? 2 : _stable.GetValueOrDefault(path, -1);

    /// <summary>The freshly opened descriptor of a path while a reload is prepared; else the stable one.</summary>
    public int PreparedFdOf(string path) =>
        _prepared is not null && _prepared.TryGetValue(path, out int fd) ? fd : FdOf(path);

    /// <summary>
    /// What a sink of the prepared configuration writes to, now and after the commit: the stable number of a path that
    /// stays, the fresh one of a path that is new.
    /// </summary>
    public int SinkFdOf(string path) => FdOf(path) is >= 0 and int fd ? fd : PreparedFdOf(path);

    /// <summary>Opens every file anew, as nginx does on a reload. False after nginx's words were logged.</summary>
    public bool Prepare(IEnumerable<LogSpec> specs, Log log)
    {
        Abort();
        _prepared = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (LogSpec spec in specs)
        {
            if (spec.IsStandardError || _prepared.ContainsKey(spec.Path))
            {
                continue;
            }
            SysResult fd = Descriptors.OpenAppend(spec.Path);
            if (fd.IsError)
            {
                log.Write(LogLevel.Emerg, $"open() \"{spec.Path}\" failed", fd.Errno);
                Abort();
                return false;
            }
            _prepared.Add(spec.Path, fd.Int);
        }
        return true;
    }

    /// <summary>Takes descriptors that were opened elsewhere; they belong to the table from now on.</summary>
    public void PrepareReceived(IReadOnlyDictionary<string, int> received)
    {
        Abort();
        _prepared = new Dictionary<string, int>(received, StringComparer.Ordinal);
    }

    /// <summary>The prepared files take the stable numbers; paths that only the past knew are closed.</summary>
    public void Commit(IReadOnlySet<string>? keep = null)
    {
        if (_prepared is null)
        {
            return;
        }
        foreach ((string path, int fd) in _prepared)
        {
            Put(path, fd);
        }
        HashSet<string> named = [.. _prepared.Keys, .. keep ?? new HashSet<string>()];
        _prepared = null;
        KeepOnly(named);
    }

    /// <summary>Closes the files of all other paths.</summary>
    public void KeepOnly(IReadOnlySet<string> paths)
    {
        foreach (string gone in _stable.Keys.Where(path => !paths.Contains(path)).ToList())
        {
            Descriptors.Close(_stable[gone]);
            _stable.Remove(gone);
        }
    }

    public void Abort()
    {
        foreach (int fd in _prepared?.Values ?? Enumerable.Empty<int>())
        {
            Descriptors.Close(fd);
        }
        _prepared = null;
    }

    /// <summary>Opens every file again (USR1); one that cannot be opened keeps its old descriptor.</summary>
    public void Reopen(Log log)
    {
        foreach (string path in _stable.Keys.ToList())
        {
            SysResult fd = Descriptors.OpenAppend(path);
            if (fd.IsError)
            {
                log.Write(LogLevel.Emerg, $"open() \"{path}\" failed", fd.Errno);
                continue;
            }
            Put(path, fd.Int);
        }
    }

    /// <summary>Puts a freshly opened descriptor under the path's stable number, or makes it that.</summary>
    public void Put(string path, int fd)
    {
        if (_stable.TryGetValue(path, out int stable))
        {
            Descriptors.Replace(fd, stable);
            Descriptors.Close(fd);
        }
        else
        {
            _stable.Add(path, fd);
        }
    }

    public void Dispose()
    {
        Abort();
        foreach (int fd in _stable.Values)
        {
            Descriptors.Close(fd);
        }
        _stable.Clear();
    }
}
