// A reload. The new configuration is read and everything it needs is opened beside the old. Then one of two roads:
// living workers build it and switch when all have said yes; or, when a setting changed that a living process cannot
// change, new workers start with it and the old ones quit once the new ones are ready. A no leaves the old untouched.
using Weir.Kernel;

namespace Weir.Process;

public sealed partial class Master
{
    private const int PrepareTimeoutMs = 60_000;

    private Pending? _pending;

    /// <summary>The configuration from its file, or the running one with the files that it names read anew.</summary>
    private void Reload(bool rereads)
    {
        _log.Write(LogLevel.Notice,
            rereads ? "files of the configuration have changed, reading them" : "reconfiguring");
        MasterPlan? plan = rereads ? _start.Program.Reread(_running!.Plan, _log) : _start.Program.Load(_log);
        if (plan is not null)
        {
            _files.Start(plan.Secrets, Environment.TickCount64);
        }
        LiveSnapshot? live = plan is null ? null : _tables.Prepare(plan, ++_generation, _log);
        if (plan is null || live is null)
        {
            StartMissing();
            return;
        }
        LiveSnapshot running = _running!;
        bool classic = ClassicKey(plan) != ClassicKey(running.Plan)
            || plan.Snapshot.Settings.WorkerCount < running.Snapshot.Settings.WorkerCount;
        _pending = new Pending(live, classic, Environment.TickCount64 + PrepareTimeoutMs);
        if (classic)
        {
            _log.Write(LogLevel.Notice, "start worker processes");
            StartWorkers(live, prepared: true);
            _pending.Waiting.AddRange(_workers.Where(static w => w.IsOfPending));
            if (_pending.Waiting.Count == 0)
            {
                AbortPending("no process could be started");
            }
            return;
        }
        foreach (WorkerProcess worker in _workers.Where(static w => !w.IsExiting))
        {
            _pending.Waiting.Add(worker);
            worker.Channel.Send(
                live.ToMessage(_tables, worker.Index, worker.CounterSlot, prepared: true, running: false));
        }
        CommitIfAllAcknowledged();
    }

    private void Acknowledged(WorkerProcess worker, uint generation)
    {
        if (_pending?.Generation == generation && _pending.Waiting.Remove(worker))
        {
            CommitIfAllAcknowledged();
        }
    }

    private void CommitIfAllAcknowledged()
    {
        if (_pending is not { Waiting.Count: 0 } pending)
        {
            return;
        }
        if (_quit || _terminate)
        {
            AbortPending("the server is shutting down");
            return;
        }
        LiveSnapshot old = _running!;
        _pending = null;
        _running = pending.Live;
        if (old.Plan.PidPath != pending.Live.Plan.PidPath && PidFile.Write(pending.Live.Plan.PidPath, _log))
        {
            PidFile.Remove(old.Plan.PidPath, _log);
        }
        _log = MasterTables.CreateLog(pending.Live.Snapshot.ErrorLogs, _tables.Logs);
        if (pending.IsClassic)
        {
            QuitWorkers(static w => !w.IsOfPending && !w.IsExiting);
            foreach (WorkerProcess worker in _workers)
            {
                worker.IsOfPending = false;
            }
            _tables.Commit(UnlinksUnix);
        }
        else
        {
            foreach (WorkerProcess worker in _workers.Where(static w => !w.IsExiting))
            {
                worker.Channel.Send(new ChannelMessage(ChannelMessageKind.Commit, pending.Generation));
            }
            _tables.Commit(UnlinksUnix);
            StartMissing();
        }
        old.Dispose();
        string road = pending.IsClassic ? ", new processes" : "";
        _log.Write(LogLevel.Notice, $"reconfigured, generation {pending.Generation}{road}");
    }

    private void AbortPending(string reason)
    {
        Pending pending = _pending!;
        _pending = null;
        _log.Write(LogLevel.Emerg, $"the new configuration is not applied: {reason}");
        foreach (WorkerProcess worker in _workers)
        {
            if (pending.IsClassic)
            {
                if (worker.IsOfPending)
                {
                    worker.Terminate(kill: false);
                    worker.IsOfPending = false;
                }
            }
            else if (!worker.IsExiting)
            {
                worker.Channel.Send(new ChannelMessage(ChannelMessageKind.Abort, pending.Generation));
            }
        }
        _tables.Abort();
        pending.Live.Dispose();
    }

    /// <summary>What a living process cannot change, as text.</summary>
    private static string ClassicKey(MasterPlan plan)
    {
        ProcessSettings settings = plan.Snapshot.Settings with { WorkerCount = 0, ShutdownTimeoutMs = 0 };
        return string.Join(
            '\n',
            settings.ToString(),
            plan.ClassicKey,
            string.Join('\n', plan.Environment),
            string.Join(';', plan.Affinity.Select(static mask => string.Join(',', mask))),
            string.Join(';', plan.Helpers.Select(static helper => helper.Name)));
    }

    /// <summary>A configuration that is being taken up.</summary>
    private sealed class Pending(LiveSnapshot live, bool isClassic, long deadlineMs)
    {
        public LiveSnapshot Live { get; } = live;

        public bool IsClassic { get; } = isClassic;

        public long DeadlineMs { get; } = deadlineMs;

        public uint Generation => Live.Snapshot.Generation;

        /// <summary>Processes that have not answered yet.</summary>
        public List<WorkerProcess> Waiting { get; } = [];
    }
}
