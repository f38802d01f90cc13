// `master_process off`: the worker's loop on the main thread of the only process, and the master beside it on a thread
// of its own, joined by the same channel. So a reload, a log reopening and an end are what they are with processes;
// what needs a second process (other user, limits, an upgrade) does not happen. For development, as in nginx.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>Master and one worker in one process.</summary>
public static class SingleProcess
{
    /// <summary>Runs until told to end; the exit code.</summary>
    public static int Run(MasterLaunch launch, MasterPlan plan, LogSink console)
    {
        var launcher = new ThreadLauncher();
        using var master = new Master(new MasterStart
        {
            Program = new OneWorker(launch.Program),
            WorkerRole = launch.WorkerRole,
            Launcher = launcher,
            Plan = OneWorker.Reduce(plan),
            Version = launch.Version,
            Console = console,
        });
        int exitCode = 0;
        var thread = new Thread(() =>
        {
            exitCode = master.Run();
            launcher.Close();
        })
        {
            IsBackground = true,
            Name = "weir-master",
        };
        thread.Start();
        // The launcher has the worker's end of the channel once everything is open, or nothing if that failed.
        if (launcher.WaitForChannel() is not (>= 0 and int fd))
        {
            thread.Join();
            return exitCode;
        }
        using (var host = new WorkerHost(launch.WorkerRole, new Channel(fd), signalFd: -1))
        {
            exitCode = host.Run(becomeUser: false);
        }
        // A worker that ended by itself ends the process: the master is told as anybody would tell it.
        ProcessControl.Kill(ProcessControl.OwnPid, Signal.Term);
        thread.Join();
        return exitCode;
    }

    /// <summary>Hands the channel to the main thread instead of starting a process.</summary>
    private sealed class ThreadLauncher : IRoleLauncher
    {
        private readonly object _gate = new();
        private int _fd = -1;
        private bool _done;

        public SysResult Launch(
            Role role,
            int channelFd,
            IReadOnlyList<string> environment,
            IReadOnlyList<ulong> affinity,
            out Launched launched)
        {
            launched = new Launched(ProcessControl.OwnPid, -1);
            SysResult copy = Descriptors.Duplicate(channelFd);
            if (copy.IsOk)
            {
                lock (_gate)
                {
                    _fd = copy.Int;
                    _done = true;
                    Monitor.Pulse(_gate);
                }
            }
            return copy;
        }

        public int WaitForChannel()
        {
            lock (_gate)
            {
                while (!_done)
                {
                    Monitor.Wait(_gate);
                }
                return _fd;
            }
        }

        public void Close()
        {
            lock (_gate)
            {
                _done = true;
                Monitor.Pulse(_gate);
            }
        }
    }

    /// <summary>Whatever the configuration says, there is one worker, and it never needs a new process.</summary>
    private sealed class OneWorker(IMasterProgram inner) : IMasterProgram
    {
        public MasterPlan? Load(Log log) => inner.Load(log) is { } plan ? Reduce(plan) : null;

        public MasterPlan? Reread(MasterPlan running, Log log) =>
            inner.Reread(running, log) is { } plan ? Reduce(plan) : null;

        public static MasterPlan Reduce(MasterPlan plan) => plan with
        {
            Affinity = [],
            Environment = [],
            ClassicKey = "",
            Helpers = [],
            Snapshot = plan.Snapshot with
            {
                Settings = new ProcessSettings
                {
                    ShutdownTimeoutMs = plan.Snapshot.Settings.ShutdownTimeoutMs,
                },
            },
        };
    }
}
