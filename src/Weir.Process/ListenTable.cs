// The listening sockets a master holds. A reload prepares the sockets of the new configuration beside the old ones,
// keeps what compares equal, and settles only when all workers agree; until then nothing of the old is touched.
// With reuseport there is one socket per worker, and the master keeps them all, so that a queue outlives its worker.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>One specification and its sockets (one, or one per worker).</summary>
public sealed class OpenListen(ListenSpec spec)
{
    public ListenSpec Spec { get; set; } = spec;

    public List<int> Fds { get; } = [];

    /// <summary>Came from an older binary: its unix path is not ours to unlink while that one lives.</summary>
    public bool Inherited { get; init; }
}

/// <summary>What is open, and what a prepared reload would have open.</summary>
public sealed class ListenTable : IDisposable
{
    private const int AttemptsMax = 5, RetryDelayMs = 500;

    private readonly List<OpenListen> _open = [];
    private readonly List<int> _added = [];
    private List<OpenListen>? _prepared;

    public IReadOnlyList<OpenListen> Open => _open;

    /// <summary>Takes over the sockets of the older binary that started this one ("WEIR=5;6;").</summary>
    public void Inherit(string listeners, Log log)
    {
        log.Write(LogLevel.Notice, $"using inherited sockets from \"{listeners}\"");
        foreach (string number in listeners.Split(';', StringSplitOptions.RemoveEmptyEntries))
        {
            if (!int.TryParse(number, out int fd) || fd < RoleEntry.FirstInheritedFd)
            {
                log.Write(LogLevel.Emerg, $"invalid socket number \"{number}\" in WEIR environment variable, "
                    + "ignoring the rest of the variable");
                return;
            }
            Descriptors.SetCloseOnExec(fd, on: true);
            if (ListenSocket.AddressOf(fd, out bool datagram) is not { } address)
            {
                log.Write(LogLevel.Crit, $"the inherited socket #{fd} is no listening socket, ignored");
                continue;
            }
            var spec = new ListenSpec { Address = address, Datagram = datagram };
            OpenListen? entry = _open.Find(o => o.Spec.Equals(spec));
            if (entry is null)
            {
                entry = new OpenListen(spec) { Inherited = true };
                _open.Add(entry);
            }
            entry.Fds.Add(fd);
        }
    }

    /// <summary>
    /// Opens what the specifications need and is not open yet. False after nginx's words were logged.
    /// </summary>
    public bool Prepare(IReadOnlyList<ListenSpec> specs, int workers, Log log)
    {
        Abort();
        _prepared = [];
        for (int attempt = 1; ; attempt++)
        {
            ListenSpec? taken = null;
            foreach (ListenSpec spec in specs)
            {
                switch (PrepareOne(spec, workers, log))
                {
                    case Outcome.Failed:
                        Abort();
                        return false;
                    case Outcome.InUse:
                        taken ??= spec;
                        break;
                    default:
                        break;
                }
            }
            if (taken is null)
            {
                return true;
            }
            if (attempt == AttemptsMax)
            {
                log.Write(LogLevel.Emerg, "still could not bind()");
                if (!taken.Datagram)
                {
                    log.Write(LogLevel.Emerg, $"{taken.Address} {PortOwner.Describe(taken.Address)}");
                }
                Abort();
                return false;
            }
            log.Write(LogLevel.Notice, $"try again to bind() after {RetryDelayMs}ms");
            Thread.Sleep(RetryDelayMs);
        }
    }

    /// <summary>The sockets of the prepared (else the settled) specifications, in the order they were given.</summary>
    public IReadOnlyList<OpenListen> Prepared => _prepared ?? _open;

    /// <summary>The prepared sockets are the running ones now; what nobody names any more is closed.</summary>
    public void Commit(bool unlinkUnix)
    {
        if (_prepared is null)
        {
            return;
        }
        foreach (OpenListen old in _open)
        {
            if (!_prepared.Exists(p => p.Spec.Equals(old.Spec)))
            {
                Close(old, unlinkUnix);
            }
        }
        _open.Clear();
        _open.AddRange(_prepared);
        _prepared = null;
        _added.Clear();
    }

    /// <summary>Closes what only the prepared configuration needed.</summary>
    public void Abort()
    {
        if (_prepared is null)
        {
            return;
        }
        foreach (OpenListen entry in _prepared)
        {
            // Only a path that this preparation bound is its to take away.
            if (entry.Spec.Address.UnixPath is { } path && entry.Fds.Exists(_added.Contains))
            {
                UnlinkPath(path);
            }
        }
        foreach (int fd in _added)
        {
            Descriptors.Close(fd);
        }
        _added.Clear();
        _prepared = null;
    }

    /// <summary>Stops listening altogether.</summary>
    public void CloseAll(bool unlinkUnix)
    {
        Abort();
        foreach (OpenListen entry in _open)
        {
            Close(entry, unlinkUnix);
        }
        _open.Clear();
    }

    public void Dispose() => CloseAll(unlinkUnix: false);

    private enum Outcome
    {
        Ready,
        InUse,
        Failed,
    }

    private Outcome PrepareOne(ListenSpec spec, int workers, Log log)
    {
        OpenListen? entry = _prepared!.Find(o => o.Spec.Equals(spec));
        if (entry is null)
        {
            OpenListen? old = _open.Find(o => o.Spec.Equals(spec));
            entry = new OpenListen(spec) { Inherited = old?.Inherited ?? false };
            _prepared.Add(entry);
            if (old is not null)
            {
                entry.Fds.AddRange(old.Fds);
                Reconfigure(old, spec, log);
            }
        }
        int wanted = spec.ReusePort && spec.Address.Family != SocketFamily.Unix ? workers : 1;
        while (entry.Fds.Count < wanted)
        {
            int fd = ListenSocket.Open(spec, spec.ReusePort, out ListenFailure failure);
            if (fd < 0)
            {
                log.Write(LogLevel.Emerg, $"{failure.Call} to {spec.Address} failed", failure.Errno);
                return failure is { Call: "bind()", Errno: Errno.EADDRINUSE } ? Outcome.InUse : Outcome.Failed;
            }
            entry.Fds.Add(fd);
            _added.Add(fd);
        }
        return Outcome.Ready;
    }

    private static void Reconfigure(OpenListen old, ListenSpec spec, Log log)
    {
        if (!old.Inherited && old.Spec.SameOptions(spec))
        {
            return;
        }
        foreach (int fd in old.Fds)
        {
            ListenFailure failure = ListenSocket.Reconfigure(fd, spec, spec.ReusePort);
            if (!failure.IsNone)
            {
                log.Write(LogLevel.Alert, $"{failure.Call} to {spec.Address} failed", failure.Errno);
            }
        }
    }

    private static void Close(OpenListen entry, bool unlinkUnix)
    {
        foreach (int fd in entry.Fds)
        {
            Descriptors.Close(fd);
        }
        if (unlinkUnix && entry.Spec.Address.UnixPath is { } path)
        {
            UnlinkPath(path);
        }
    }

    private static void UnlinkPath(string path)
    {
        if (path[0] != '@')
        {
            Descriptors.Unlink(path);
        }
    }
}
