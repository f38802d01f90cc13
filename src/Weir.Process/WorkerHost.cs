// A worker's side of its process: receives the first snapshot, becomes its user, then turns what comes through the
// channel and the signalfd into calls on the program. Two descriptors belong into the program's event loop; whenever
// one is readable the loop calls the method named after it. Everything happens on the loop's thread.
using System.Globalization;
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Process;

/// <summary>What a master, or a signal, asks of the program in a worker.</summary>
public interface IWorkerProgram
{
    /// <summary>
    /// Build a configuration (off the loop, if it takes long), then call <see cref="WorkerHost.Acknowledge"/> or
    /// <see cref="WorkerHost.Refuse"/> from the loop's thread. The snapshot is the program's until it disposes it.
    /// </summary>
    void Prepare(WorkerSnapshot snapshot);

    /// <summary>
    /// Switch to the acknowledged snapshot. Listeners that it does not name must not be used after this returns: the
    /// host closes them then.
    /// </summary>
    void Commit(uint generation);

    /// <summary>The prepared snapshot will not run. The host disposes it; drop what was built.</summary>
    void Abort(uint generation);

    /// <summary>Write out what log buffers hold: the files behind the descriptors change when this returns.</summary>
    void FlushLogs();

    /// <summary>Finish what is under way, listeners first, then leave the loop. May come more than once.</summary>
    void Quit();

    /// <summary>Leave the loop now.</summary>
    void Terminate();
}

/// <summary>The process around a worker program.</summary>
public sealed class WorkerHost : IDisposable
{
    private readonly Channel _channel;
    private readonly WorkerDescriptors _descriptors = new();
    private readonly Role _role;
    private WorkerSnapshot? _pending;
    private bool _acknowledged;
    private bool _ended;

    internal WorkerHost(Role role, Channel channel, int signalFd)
    {
        _role = role;
        _channel = channel;
        SignalFd = signalFd;
    }

    /// <summary>The program the events go to; set before the loop turns.</summary>
    public IWorkerProgram? Program { get; set; }

    /// <summary>Where the host itself logs; the program replaces it when its error_log changes.</summary>
    public Log Log { get; set; } = Log.None;

    /// <summary>The snapshot to start from.</summary>
    public WorkerSnapshot First { get; private set; } = null!;

    /// <summary>0 for the first worker, and so on; a worker started again keeps the number.</summary>
    public int Index { get; private set; }

    /// <summary>This worker's counters.</summary>
    public CounterSlot Counters { get; private set; }

    /// <summary>As whom this worker counts in zones.</summary>
    public ZoneOwner Owner { get; private set; } = ZoneOwner.Alone;

    /// <summary>Everybody's counters.</summary>
    public CounterSlots AllCounters => _descriptors.Counters!;

    /// <summary>Snapshots not disposed yet, the running one included.</summary>
    public int LivingSnapshots => _descriptors.LivingCount;

    /// <summary>When readable: <see cref="OnChannelReadable"/>.</summary>
    public int ChannelFd => _channel.Fd;

    /// <summary>
    /// When readable: <see cref="OnSignalReadable"/>; -1 when signals are the master's (single process).
    /// </summary>
    public int SignalFd { get; }

    public bool IsQuitting { get; private set; }

    /// <summary>The program runs on this snapshot, or is ready to.</summary>
    public void Acknowledge(uint generation)
    {
        _acknowledged = true;
        _channel.Send(new ChannelMessage(ChannelMessageKind.Acknowledged, generation));
    }

    /// <summary>The snapshot cannot be built; everybody keeps the old one.</summary>
    public void Refuse(uint generation, string error)
    {
        if (_pending?.Generation == generation)
        {
            WorkerSnapshot refused = _pending;
            _pending = null;
            _descriptors.Abort(refused);
        }
        _channel.Send(new ChannelMessage(ChannelMessageKind.Refused, generation) { Text = error });
    }

    public void OnChannelReadable()
    {
        while (!_ended)
        {
            switch (_channel.TryReceive(out ChannelMessage? message))
            {
                case ReceiveOutcome.Message:
                    Handle(message!);
                    break;
                case ReceiveOutcome.Ended:
                    // The master is gone: nobody will ever ask again.
                    _ended = true;
                    Quit();
                    return;
                default:
                    return;
            }
        }
    }

    /// <summary>True once the master has gone: the channel stays readable for ever, take it out of the loop.</summary>
    public bool MasterIsGone => _ended;

    public void OnSignalReadable()
    {
        while (SignalFd >= 0 && Signals.TryRead(SignalFd, out SignalInfo signal))
        {
            switch (signal.Signal)
            {
                case Signal.Term or Signal.Int:
                    Note(signal, ", exiting");
                    Program?.Terminate();
                    break;
                case Signal.Quit:
                    Note(signal, ", shutting down");
                    Quit();
                    break;
                case Signal.Usr1:
                    Note(signal, ", reopening logs");
                    Program?.FlushLogs();
                    _descriptors.Logs.Reopen(Log);
                    break;
                case Signal.Hup or Signal.Usr2 or Signal.Io or Signal.Winch:
                    Note(signal, ", ignoring");
                    break;
                default:
                    break;
            }
        }
    }

    public void Dispose()
    {
        _channel.Dispose();
        _descriptors.Dispose();
        if (SignalFd >= 0)
        {
            Descriptors.Close(SignalFd);
        }
    }

    /// <summary>A process of a role, from its first instruction to its exit code.</summary>
    internal static int RunRole(Role role)
    {
        Descriptors.SetCloseOnExec(RoleEntry.FirstInheritedFd, on: true);
        ProcessControl.SetThreadName("weir");
        SysResult signalFd = Signals.OpenDescriptor();
        using var host = new WorkerHost(
            role, new Channel(RoleEntry.FirstInheritedFd), signalFd.IsOk ? signalFd.Int : -1);
        return host.Run(becomeUser: true);
    }

    internal int Run(bool becomeUser)
    {
        try
        {
            if (!ReceiveFirst())
            {
                return Role.FatalExitCode;
            }
            if (becomeUser && !Privileges.Apply(First.Content.Settings, _role.GivesWay, Log))
            {
                return Role.FatalExitCode;
            }
            return _role.Run(this);
        }
        catch (Exception e) when (!_acknowledged)
        {
            // Nothing is served yet: say why, and do not be started again.
            Log.Write(LogLevel.Emerg, $"{_role.Name} cannot start: {e}");
            Refuse(First?.Generation ?? 0, e.Message);
            return Role.FatalExitCode;
        }
    }

    private bool ReceiveFirst()
    {
        if (_channel.TryReceive(out ChannelMessage? message, wait: true) != ReceiveOutcome.Message
            || message!.Kind != ChannelMessageKind.Prepare)
        {
            return false;
        }
        First = _descriptors.Take(message);
        _descriptors.Commit(First);
        string[] words = message.Text.Split(' ');
        Index = int.Parse(words[0], CultureInfo.InvariantCulture);
        int slot = int.Parse(words[1], CultureInfo.InvariantCulture);
        Counters = AllCounters[slot];
        Owner = new ZoneOwner(AllCounters, slot);
        Log = First.CreateErrorLog();
        return true;
    }

    private void Handle(ChannelMessage message)
    {
        switch (message.Kind)
        {
            case ChannelMessageKind.Prepare:
                Prepare(message);
                break;
            case ChannelMessageKind.Commit when _pending?.Generation == message.Generation:
                // The program first: it stops using the listeners that are closed after.
                WorkerSnapshot committed = _pending;
                _pending = null;
                Program?.FlushLogs();
                Program?.Commit(message.Generation);
                _descriptors.Commit(committed);
                break;
            case ChannelMessageKind.Abort when _pending?.Generation == message.Generation:
                WorkerSnapshot aborted = _pending;
                _pending = null;
                Program?.Abort(message.Generation);
                _descriptors.Abort(aborted);
                break;
            case ChannelMessageKind.ReopenLogs:
                Program?.FlushLogs();
                string[] paths = message.Text.Split('\n');
                for (int i = 0; i < message.Descriptors.Length; i++)
                {
                    Reopen(paths[i], message.Descriptors[i]);
                }
                break;
            case ChannelMessageKind.Quit:
                Quit();
                break;
            case ChannelMessageKind.Terminate:
                Program?.Terminate();
                break;
            default:
                message.CloseDescriptors();
                break;
        }
    }

    private void Prepare(ChannelMessage message)
    {
        try
        {
            _pending = _descriptors.Take(message);
            Program?.Prepare(_pending);
        }
        catch (Exception e)
        {
            Refuse(message.Generation, e.Message);
        }
    }

    private void Reopen(string path, int fd)
    {
        if (_descriptors.Logs.FdOf(path) >= 0)
        {
            _descriptors.Logs.Put(path, fd);
        }
        else
        {
            Descriptors.Close(fd);
        }
    }

    private void Quit()
    {
        if (!IsQuitting)
        {
            IsQuitting = true;
            Log.Write(LogLevel.Notice, "gracefully shutting down");
            if (SignalFd >= 0)
            {
                ProcessTitle.Set(_role.Title + " is shutting down");
            }
        }
        Program?.Quit();
    }

    private void Note(SignalInfo signal, string action) => Log.Write(
        LogLevel.Notice, $"signal {(int)signal.Signal} ({signal.Name}) received from {signal.SenderPid}{action}");
}
