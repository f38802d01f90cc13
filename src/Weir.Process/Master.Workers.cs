// The master's processes: starting them, hearing from them, collecting them, starting them again.
// A process that dies while running is replaced at once from the running snapshot; one that dies while starting, or in
// its first second, is replaced after a growing delay; one that says code 2 is not replaced.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>A process of a role as its master knows it.</summary>
internal sealed class WorkerProcess(Role role, int index, int counterSlot, Launched launched, Channel channel)
{
    private readonly long _startedMs = Environment.TickCount64;

    public Role Role { get; } = role;

    public int Index { get; } = index;

    public int CounterSlot { get; } = counterSlot;

    public int Pid { get; } = launched.Pid;

    public int PidFd { get; } = launched.PidFd;

    public Channel Channel { get; } = channel;

    public long AgeMs => Environment.TickCount64 - _startedMs;

    /// <summary>It has acknowledged its first snapshot.</summary>
    public bool IsRunning { get; set; }

    /// <summary>It was told to end.</summary>
    public bool IsExiting { get; set; }

    /// <summary>It is of a configuration that is not the running one yet (the classic road).</summary>
    public bool IsOfPending { get; set; }

    public bool ChannelEnded { get; set; }

    public void Quit()
    {
        IsExiting = true;
        Channel.Send(new ChannelMessage(ChannelMessageKind.Quit));
    }

    public void Terminate(bool kill)
    {
        bool again = IsExiting;
        IsExiting = true;
        if (kill && PidFd >= 0)
        {
            ProcessControl.SendSignal(PidFd, Signal.Kill);
            return;
        }
        Channel.Send(new ChannelMessage(ChannelMessageKind.Terminate));
        if (again && PidFd >= 0)
        {
            ProcessControl.SendSignal(PidFd, Signal.Term);
        }
    }

    public void Close()
    {
        Channel.Dispose();
        if (PidFd >= 0)
        {
            Descriptors.Close(PidFd);
        }
    }
}

/// <summary>A process to be started again later.</summary>
internal sealed record Respawn(Role Role, int Index, long AtMs);

public sealed partial class Master
{
    private const int BackOffMsMin = 100, BackOffMsMax = 10_000, SettledAfterMs = 1000;

    private readonly List<Respawn> _respawns = [];
    private readonly Dictionary<(string Role, int Index), int> _failures = [];

    private void StartWorkers(LiveSnapshot live, bool prepared)
    {
        for (int i = 0; i < live.Snapshot.Settings.WorkerCount; i++)
        {
            StartProcess(live, _start.WorkerRole, i, prepared);
        }
        for (int i = 0; i < live.Plan.Helpers.Count; i++)
        {
            StartProcess(live, live.Plan.Helpers[i], i, prepared);
        }
    }

    /// <summary>Starts what the running snapshot wants and nobody does: more workers, or all after a WINCH.</summary>
    private void StartMissing()
    {
        if (_quit || _terminate || _noAccepting)
        {
            return;
        }
        ProcessSettings settings = _running!.Snapshot.Settings;
        for (int i = 0; i < settings.WorkerCount; i++)
        {
            StartIfMissing(_start.WorkerRole, i);
        }
        for (int i = 0; i < _running.Plan.Helpers.Count; i++)
        {
            StartIfMissing(_running.Plan.Helpers[i], i);
        }

        void StartIfMissing(Role role, int index)
        {
            bool exists = _workers.Exists(w => !w.IsExiting && w.Index == index && w.Role.Name == role.Name)
                || _respawns.Exists(r => r.Index == index && r.Role.Name == role.Name);
            if (!exists && (role == _start.WorkerRole || role.Restart != RestartPolicy.Never))
            {
                StartProcess(_running, role, index, prepared: false);
            }
        }
    }

    private WorkerProcess? StartProcess(LiveSnapshot live, Role role, int index, bool prepared)
    {
        int slot = _counters!.Claim(serves: role == _start.WorkerRole);
        SysResult pair = Channel.CreatePair(out Channel? channel, out int childFd);
        if (slot < 0 || channel is null)
        {
            _log.Write(LogLevel.Alert, $"no room for another {role.Name}", pair.Errno);
            channel?.Dispose();
            return null;
        }
        MasterPlan plan = live.Plan;
        IReadOnlyList<ulong> affinity = role == _start.WorkerRole && plan.Affinity.Count > 0
            ? plan.Affinity[Math.Min(index, plan.Affinity.Count - 1)]
            : [];
        SysResult started = _start.Launcher.Launch(role, childFd, plan.Environment, affinity, out Launched launched);
        Descriptors.Close(childFd);
        if (started.IsError)
        {
            _log.Write(LogLevel.Alert, $"posix_spawn() failed while spawning \"{role.Name}\"", started.Errno);
            channel.Dispose();
            _counters.Release(slot);
            Delay(role, index);
            return null;
        }
        var worker = new WorkerProcess(role, index, slot, launched, channel) { IsOfPending = prepared };
        _workers.Add(worker);
        _log.Write(LogLevel.Notice, $"start {role.Name} {worker.Pid}");
        channel.Send(live.ToMessage(_tables, index, slot, prepared, running: true));
        if (_pending is { IsClassic: false } pending && !prepared)
        {
            // Born into a reload under way: it takes part.
            channel.Send(pending.Live.ToMessage(_tables, index, slot, prepared: true, running: false));
            pending.Waiting.Add(worker);
        }
        return worker;
    }

    private void ServeChannel(WorkerProcess worker)
    {
        if (worker.Channel.Flush().IsError)
        {
            worker.ChannelEnded = true;
            if (worker.PidFd < 0)
            {
                // The worker of the only process ended between two signals of one turn; nothing else will tell.
                Remove(worker);
                return;
            }
        }
        while (!worker.ChannelEnded)
        {
            switch (worker.Channel.TryReceive(out ChannelMessage? message))
            {
                case ReceiveOutcome.Message:
                    message!.CloseDescriptors();
                    Hear(worker, message);
                    break;
                case ReceiveOutcome.Ended:
                    // Its exit follows and is heard through the pidfd; without one this is the exit.
                    worker.ChannelEnded = true;
                    if (worker.PidFd < 0)
                    {
                        Remove(worker);
                    }
                    return;
                default:
                    return;
            }
        }
    }

    private void Hear(WorkerProcess worker, ChannelMessage message)
    {
        switch (message.Kind)
        {
            case ChannelMessageKind.Acknowledged:
                if (!worker.IsRunning)
                {
                    worker.IsRunning = true;
                }
                Acknowledged(worker, message.Generation);
                break;
            case ChannelMessageKind.Refused when _pending?.Generation == message.Generation:
                AbortPending($"{worker.Role.Name} {worker.Pid}: {message.Text}");
                break;
            case ChannelMessageKind.Refused:
                _log.Write(LogLevel.Emerg, $"{worker.Role.Name} {worker.Pid} cannot start: {message.Text}");
                break;
            default:
                break;
        }
    }

    private void Collect(WorkerProcess worker)
    {
        SysResult waited = ProcessControl.TryWait(worker.PidFd, out ExitInfo exit);
        if (waited.IsOk && exit.IsNone)
        {
            return;
        }
        ServeChannel(worker);
        bool fatal = false;
        if (exit.Signaled)
        {
            string dumped = exit.CoreDumped ? " (core dumped)" : "";
            _log.Write(LogLevel.Alert, $"{worker.Role.Name} {worker.Pid} exited on signal {exit.Code}{dumped}");
        }
        else
        {
            _log.Write(LogLevel.Notice, $"{worker.Role.Name} {worker.Pid} exited with code {exit.Code}");
            fatal = exit.Code == Role.FatalExitCode && !worker.IsExiting && worker.Role.Restart == RestartPolicy.Always;
            if (fatal)
            {
                _log.Write(
                    LogLevel.Alert,
                    $"{worker.Role.Name} {worker.Pid} exited with fatal code {exit.Code} and cannot be respawned");
            }
        }
        bool isDone = worker.IsRunning && worker.Role.Restart == RestartPolicy.OnFailure && !exit.Signaled
            && exit.Code == 0;
        if (worker.IsOfPending && _pending is not null && !isDone)
        {
            // Its end is a no, also when it was the last to be waited for.
            AbortPending($"{worker.Role.Name} {worker.Pid} ended while starting");
            Remove(worker);
            return;
        }
        Remove(worker);
        bool again = !fatal && !worker.IsExiting && !_quit && !_terminate && !_noAccepting
            && (worker.Role.Restart == RestartPolicy.Always || worker.Role.Restart == RestartPolicy.OnFailure
                && (exit.Signaled || exit.Code != 0))
            && (worker.Role != _start.WorkerRole || worker.Index < _running!.Snapshot.Settings.WorkerCount);
        if (!again)
        {
            return;
        }
        if (worker.AgeMs >= SettledAfterMs)
        {
            _failures.Remove((worker.Role.Name, worker.Index));
        }
        if (worker.IsRunning && worker.AgeMs >= SettledAfterMs)
        {
            StartProcess(_running!, worker.Role, worker.Index, prepared: false);
        }
        else
        {
            Delay(worker.Role, worker.Index);
        }
    }

    private void Remove(WorkerProcess worker)
    {
        if (!_workers.Remove(worker))
        {
            return;
        }
        _counters!.Release(worker.CounterSlot);
        worker.Close();
        if (_pending is { } pending && pending.Waiting.Remove(worker))
        {
            CommitIfAllAcknowledged();
        }
    }

    private void Delay(Role role, int index)
    {
        int failures = _failures.GetValueOrDefault((role.Name, index));
        _failures[(role.Name, index)] = failures + 1;
        long delayMs = Math.Min(BackOffMsMax, (long)BackOffMsMin << Math.Min(failures, 10));
        _respawns.Add(new Respawn(role, index, Environment.TickCount64 + delayMs));
    }

    private void RunRespawns(long nowMs)
    {
        if (_quit || _terminate || _noAccepting)
        {
            _respawns.Clear();
            return;
        }
        foreach (Respawn respawn in _respawns.Where(r => r.AtMs <= nowMs).ToList())
        {
            _respawns.Remove(respawn);
            if (respawn.Role != _start.WorkerRole || respawn.Index < _running!.Snapshot.Settings.WorkerCount)
            {
                StartProcess(_running!, respawn.Role, respawn.Index, prepared: false);
            }
        }
    }

    private void QuitWorkers(Predicate<WorkerProcess> which)
    {
        foreach (WorkerProcess worker in _workers)
        {
            if (which(worker))
            {
                worker.Quit();
            }
        }
    }}
