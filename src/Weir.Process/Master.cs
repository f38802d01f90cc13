// The master: holds what is open, watches its processes, and turns signals into nginx's actions. One thread with a
// small poll loop over a signalfd, the pidfds and the channels; it never serves a byte and never sees a directive.
// This file: start, loop, signals, end. Master.Reload.cs: the two roads of a reload. Master.Workers.cs: the processes.
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Process;

/// <summary>How a master is started.</summary>
public sealed record MasterStart
{
    public required IMasterProgram Program { get; init; }

    public required Role WorkerRole { get; init; }

    public required IRoleLauncher Launcher { get; init; }

    /// <summary>The first reading of the configuration.</summary>
    public required MasterPlan Plan { get; init; }

    /// <summary>Name and version for the log ("weir/0.1.0").</summary>
    public string Version { get; init; } = "weir";

    /// <summary>Sockets of an older binary ("5;6;"), or null.</summary>
    public string? InheritedListeners { get; init; }

    /// <summary>The zones of a binary that this one takes over from.</summary>
    public string? InheritedZones { get; init; }

    /// <summary>Runs detached from a terminal: WINCH is obeyed.</summary>
    public bool Daemonized { get; init; }

    /// <summary>The write end of a pipe that learns of readiness, or -1.</summary>
    public int ReadyFd { get; init; } = -1;

    /// <summary>Messages of the start go here besides the error log.</summary>
    public LogSink? Console { get; init; }

    /// <summary>How the next binary is started on USR2; null where that is impossible.</summary>
    public UpgradeCommand? Upgrade { get; init; }

    /// <summary>Whether ended children that nobody here started are collected (a process of its own: yes).</summary>
    public bool ReapsStrangers { get; init; } = true;
}

/// <summary>The master process.</summary>
public sealed partial class Master : IDisposable
{
    private const int TerminateStepMs = 50, KillAfterMs = 1000;

    private const int SettleDelayMs = 500;

    private readonly MasterStart _start;
    private readonly MasterTables _tables = new();
    private readonly List<WorkerProcess> _workers = [];
    private readonly int _parentPid = ProcessControl.ParentPid;
    private CounterSlots? _counters;

    /// <summary>Tells when the binary before this one has ended; -1 when there is none (any more).</summary>
    private int _predecessor = -1;
    private LiveSnapshot? _running;
    private Upgrade? _upgrade;
    private Log _log;
    private uint _generation;
    private int _signalFd = -1;
    private readonly FileWatch _files = new();
    private bool _quit, _terminate, _noAccepting, _reloadWanted;
    private long _terminateSinceMs = -1, _terminateNextMs;

    private long _settleAtMs = long.MaxValue;

    public Master(MasterStart start)
    {
        _start = start;
        _log = new Log(start.Console is null ? [] : [start.Console]);
    }

    /// <summary>Runs until told to end; the exit code.</summary>
    public int Run()
    {
        if (!Start())
        {
            _tables.Listens.CloseAll(unlinkUnix: _start.InheritedListeners is null);
            return 1;
        }
        SettleSoon();
        while (!Turn())
        {
        }
        End();
        return 0;
    }

    public void Dispose()
    {
        _upgrade?.Close();
        foreach (WorkerProcess worker in _workers)
        {
            worker.Close();
        }
        _workers.Clear();
        _pending?.Live.Dispose();
        _running?.Dispose();
        _counters?.Dispose();
        if (_predecessor >= 0)
        {
            Descriptors.Close(_predecessor);
        }
        _tables.Dispose();
        if (_signalFd >= 0)
        {
            Descriptors.Close(_signalFd);
        }
    }

    private bool Start()
    {
        SysResult signalFd = Signals.OpenDescriptor();
        if (signalFd.IsError)
        {
            _log.Write(LogLevel.Emerg, "signalfd() failed", signalFd.Errno);
            return false;
        }
        _signalFd = signalFd.Int;
        if (_start.InheritedListeners is { } inherited)
        {
            _tables.Listens.Inherit(inherited, _log);
        }
        if (_start.InheritedZones is { } zones)
        {
            _tables.Zones.Inherit(zones, _log);
            _predecessor = ProcessControl.OpenPidFd(_parentPid) is { IsOk: true } watched ? watched.Int : -1;
        }
        _running = _tables.Prepare(_start.Plan, ++_generation, _log);
        if (_running is null || !PidFile.Write(_start.Plan.PidPath, _log))
        {
            return false;
        }
        _tables.Commit(unlinkUnix: false);
        SysResult counters = CounterSlots.Map(_tables.Zones.FdOf(CounterSlots.Spec), out _counters);
        if (counters.IsError)
        {
            _log.Write(LogLevel.Emerg, "mmap() of the status counters failed", counters.Errno);
            return false;
        }
        _log = MasterTables.CreateLog(_running.Snapshot.ErrorLogs, _tables.Logs);
        _log.Write(LogLevel.Notice, _start.Version);
        _log.Write(LogLevel.Notice, $"OS: Linux {Environment.OSVersion.Version}");
        _log.Write(
            LogLevel.Notice, $"getrlimit(RLIMIT_NOFILE): {ProcessControl.GetLimit(ResourceLimit.OpenFiles).Value}");
        if (_start.ReadyFd >= 0)
        {
            DetachConsole();
            Descriptors.Write(_start.ReadyFd, "R"u8);
            Descriptors.Close(_start.ReadyFd);
        }
        _files.Start(_start.Plan.Secrets, Environment.TickCount64);
        _log.Write(LogLevel.Notice, "start worker processes");
        StartWorkers(_running, prepared: false);
        return true;
    }

    /// <summary>One wait and what came of it; true when the master shall end.</summary>
    private bool Turn()
    {
        // The last is the other binary: the next one, or the one before. There is never both.
        int otherFd = _upgrade?.PidFd ?? _predecessor;
        var entries = new PollEntry[1 + (_workers.Count * 2) + (otherFd < 0 ? 0 : 1)];
        entries[0] = new PollEntry(_signalFd, PollEntry.Readable);
        WorkerProcess[] watched = [.. _workers];
        for (int i = 0; i < watched.Length; i++)
        {
            WorkerProcess worker = watched[i];
            entries[1 + (i * 2)] = new PollEntry(worker.PidFd, PollEntry.Readable);
            entries[2 + (i * 2)] = new PollEntry(
                worker.ChannelEnded ? -1 : worker.Channel.Fd,
                (short)(PollEntry.Readable | (worker.Channel.HasUnsent ? PollEntry.Writable : 0)));
        }
        if (otherFd >= 0)
        {
            entries[^1] = new PollEntry(otherFd, PollEntry.Readable);
        }
        Descriptors.Poll(entries, WaitMs());

        // Channels before exits: an answer that was sent before dying still counts.
        for (int i = 0; i < watched.Length; i++)
        {
            if (entries[2 + (i * 2)].Returned != 0)
            {
                ServeChannel(watched[i]);
            }
        }
        for (int i = 0; i < watched.Length; i++)
        {
            if (entries[1 + (i * 2)].Returned != 0)
            {
                Collect(watched[i]);
            }
        }
        if (otherFd >= 0 && entries[^1].Returned != 0)
        {
            if (_upgrade is not null)
            {
                CollectUpgrade();
            }
            else
            {
                CollectPredecessor();
            }
        }
        if (entries[0].Returned != 0)
        {
            while (Signals.TryRead(_signalFd, out SignalInfo signal))
            {
                Handle(signal);
            }
        }
        RunTimers();
        if (_reloadWanted && _pending is null && !_quit && !_terminate)
        {
            _reloadWanted = false;
            Reload(rereads: false);
            SettleSoon();
        }
        else if (_pending is null && !_quit && !_terminate && _files.HasChanged(Environment.TickCount64))
        {
            Reload(rereads: true);
            SettleSoon();
        }
        return (_quit || _terminate) && _workers.Count == 0;
    }

    private void Handle(SignalInfo signal)
    {
        bool ignoresUpgrade = _upgrade is not null
            || (_start.InheritedListeners is not null && ProcessControl.ParentPid == _parentPid && _parentPid > 1);
        string? action = signal.Signal switch
        {
            Signal.Quit => ", shutting down",
            Signal.Term or Signal.Int => ", exiting",
            Signal.Hup => ", reconfiguring",
            Signal.Usr1 => ", reopening logs",
            Signal.Usr2 => ignoresUpgrade ? ", ignoring" : ", changing binary",
            Signal.Winch when _start.Daemonized => ", stop accepting connections",
            Signal.Chld => "",
            _ => null,
        };
        if (action is not null)
        {
            _log.Write(
                LogLevel.Notice,
                $"signal {(int)signal.Signal} ({signal.Name}) received from {signal.SenderPid}{action}");
        }
        switch (signal.Signal)
        {
            case Signal.Term or Signal.Int:
                _terminate = true;
                _terminateNextMs = 0;
                break;
            case Signal.Quit when !_quit && !_terminate:
                _quit = true;
                QuitWorkers(static _ => true);
                _tables.Listens.CloseAll(UnlinksUnix);
                break;
            case Signal.Hup:
                // While a successor runs the old workers come back as they were; else the file is read again.
                bool stopped = _noAccepting;
                _noAccepting = false;
                if (stopped && _upgrade is not null)
                {
                    _log.Write(LogLevel.Notice, "start worker processes");
                    StartMissing();
                }
                else
                {
                    _reloadWanted = true;
                }
                break;
            case Signal.Usr1:
                _log.Write(LogLevel.Notice, "reopening logs");
                ReopenLogs();
                break;
            case Signal.Usr2 when ignoresUpgrade:
                _log.Write(
                    LogLevel.Crit,
                    "the changing binary signal is ignored: you should shutdown or terminate before either old or "
                    + "new binary's process");
                break;
            case Signal.Usr2:
                _log.Write(LogLevel.Notice, "changing binary");
                ChangeBinary();
                break;
            case Signal.Winch when _start.Daemonized && !_noAccepting:
                _noAccepting = true;
                QuitWorkers(static _ => true);
                break;
            case Signal.Chld:
                ReapStrangers();
                break;
            default:
                break;
        }
    }

    private void RunTimers()
    {
        long now = Environment.TickCount64;
        if (_terminate && now >= _terminateNextMs)
        {
            if (_terminateSinceMs < 0)
            {
                _terminateSinceMs = now;
            }
            // Ask at once, again after a while, and after a second there is no asking.
            bool kill = now - _terminateSinceMs >= KillAfterMs;
            foreach (WorkerProcess worker in _workers)
            {
                worker.Terminate(kill);
            }
            _terminateNextMs = now + (TerminateStepMs << Math.Min(4, (int)((now - _terminateSinceMs) / 100)));
        }
        if (_pending is { } pending && now >= pending.DeadlineMs)
        {
            AbortPending("no answer in time");
        }
        RunRespawns(now);
        if (now >= _settleAtMs)
        {
            _settleAtMs = long.MaxValue;
            ManagedHeap.Settle();
        }
    }

    /// <summary>What reading a configuration left behind is collected when nobody waits for the master.</summary>
    private void SettleSoon() => _settleAtMs = Environment.TickCount64 + SettleDelayMs;

    private int WaitMs()
    {
        long now = Environment.TickCount64;
        long until = Math.Min(_settleAtMs, _pending is null && !_quit ? _files.DueMs : long.MaxValue);
        if (_terminate)
        {
            until = Math.Min(until, _terminateNextMs);
        }
        if (_pending is { } pending)
        {
            until = Math.Min(until, pending.DeadlineMs);
        }
        foreach (Respawn respawn in _respawns)
        {
            until = Math.Min(until, respawn.AtMs);
        }
        return until == long.MaxValue ? -1 : (int)Math.Clamp(until - now, 0, 60_000);
    }

    private void ReopenLogs()
    {
        _tables.Logs.Reopen(_log);
        const int perMessage = 200;
        string[] paths = [.. _tables.Logs.Paths];
        for (int from = 0; from < paths.Length; from += perMessage)
        {
            string[] part = paths[from..Math.Min(paths.Length, from + perMessage)];
            var message = new ChannelMessage(ChannelMessageKind.ReopenLogs)
            {
                Text = string.Join('\n', part),
                Descriptors = [.. part.Select(_tables.Logs.FdOf)],
            };
            foreach (WorkerProcess worker in _workers)
            {
                worker.Channel.Send(message);
            }
        }
    }

    private void ReapStrangers()
    {
        // As PID 1, and as anybody's adopted parent: collect who is nobody's. Our own are left to their pidfds.
        while (_start.ReapsStrangers)
        {
            SysResult looked = ProcessControl.TryWaitAny(collect: false, out ExitInfo exit);
            if (looked.IsError || exit.IsNone)
            {
                return;
            }
            if (_upgrade?.Pid == exit.Pid)
            {
                CollectUpgrade();
            }
            else if (_workers.Find(w => w.Pid == exit.Pid) is { } worker)
            {
                Collect(worker);
            }
            else
            {
                ProcessControl.TryWaitAny(collect: true, out _);
            }
        }
    }

    /// <summary>
    /// Whether closing a unix listener also removes its path: not while another binary listens on it.
    /// </summary>
    private bool UnlinksUnix =>
        _upgrade is null && (_start.InheritedListeners is null || ProcessControl.ParentPid != _parentPid);

    private void End()
    {
        string pidPath = _running!.Plan.PidPath;
        _tables.Listens.CloseAll(UnlinksUnix);
        PidFile.Remove(_upgrade is null ? pidPath : pidPath + PidFile.OldSuffix, _log);
        _log.Write(LogLevel.Notice, "exit");
    }

    private void ChangeBinary()
    {
        if (_start.Upgrade is not { } command)
        {
            _log.Write(LogLevel.Alert, "this process cannot change its binary");
            return;
        }
        int[] sockets = [.. _tables.Listens.Open.SelectMany(static open => open.Fds)];
        _upgrade = Upgrade.Start(command, _running!.Plan.PidPath, sockets, _tables.Zones, _log);
    }

    /// <summary>The binary before this one has ended. What its workers held is theirs no more.</summary>
    private void CollectPredecessor()
    {
        Descriptors.Close(_predecessor);
        _predecessor = -1;
        _counters!.Abandon(_parentPid);
    }

    private void CollectUpgrade()
    {
        int pid = _upgrade!.Pid;
        if (!_upgrade.TryCollect(_log))
        {
            return;
        }
        _counters!.Abandon(pid);
        _upgrade = null;
        if (_noAccepting)
        {
            _noAccepting = false;
            _log.Write(LogLevel.Notice, "start worker processes");
            StartMissing();
        }
    }

    private void DetachConsole()
    {
        // Standard error becomes the error log, so that what the runtime itself may say is not lost.
        ErrorLogSpec? file = _running!.Snapshot.ErrorLogs.FirstOrDefault(
            static l => l.File is { IsStandardError: false });
        if (file is not null)
        {
            Descriptors.Replace(_tables.Logs.FdOf(file.File!.Path), 2, inheritable: true);
            return;
        }
        SysResult nothing = Descriptors.OpenReadWrite("/dev/null");
        if (nothing.IsOk && !_running.Snapshot.ErrorLogs.Any(static l => l.File is { IsStandardError: true }))
        {
            Descriptors.Replace(nothing.Int, 2, inheritable: true);
        }
        if (nothing.IsOk)
        {
            Descriptors.Close(nothing.Int);
        }
    }
}
