// From a command line to a running master. A start executes its own binary once more with the handled signals blocked
// from birth (the runtime's threads exist before Main, and a mask only reaches those that come after it) and with the
// title as argv[0]; a daemon is that binary started detached, and the first process waits until it is ready.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>A start as the command line asked for it.</summary>
public sealed record MasterLaunch
{
    public required IMasterProgram Program { get; init; }

    public required Role WorkerRole { get; init; }

    /// <summary>This program's arguments, without argv[0].</summary>
    public required IReadOnlyList<string> Arguments { get; init; }

    public string Version { get; init; } = "weir";
}

/// <summary>Starts masters.</summary>
public static class MasterEntry
{
    private const int ExecFailedExitCode = 1;

    /// <summary>
    /// To be called for a start before anything expensive: executes the own binary with signals blocked unless that has
    /// been done. Returns only in the process that shall go on.
    /// </summary>
    public static void Settle(IReadOnlyList<string> arguments)
    {
        if (Environment_(RoleEntry.RoleVariable) == RoleEntry.MasterRole || Signals.HandledAreBlocked())
        {
            return;
        }
        string path = OriginalPath();
        Signals.BlockHandled();
        SysResult failed = ProcessSpawn.Become(
            SelfCommand.Own.Path,
            [TitleOf(path, arguments), .. SelfCommand.Own.LeadingArguments],
            Environment(arguments, path));
        // Without /proc the path itself must do; without that, this process goes on, deaf to early signals.
        failed = failed.IsError && System.Environment.ProcessPath is { } own
            ? ProcessSpawn.Become(
                own, [TitleOf(path, arguments), .. SelfCommand.Own.LeadingArguments], Environment(arguments, path))
            : failed;
        new Log(new ConsoleLogSink()).Write(LogLevel.Warn, "execve() of the own binary failed", failed.Errno);
    }

    /// <summary>Reads the configuration, becomes a daemon if it says so, and runs the master; the exit code.</summary>
    public static int Run(MasterLaunch launch)
    {
        Settle(launch.Arguments);
        string path = Environment_(RoleEntry.PathVariable) ?? OriginalPath();
        string? inherited = Environment_(RoleEntry.ListenersVariable);
        string? inheritedZones = Environment_(RoleEntry.ZonesVariable);
        bool detached = Environment_(RoleEntry.DetachedVariable) is not null;
        foreach (string name in (string[])
            [
                RoleEntry.RoleVariable, RoleEntry.ArgumentsVariable, RoleEntry.PathVariable,
                RoleEntry.ListenersVariable, RoleEntry.ZonesVariable, RoleEntry.DetachedVariable,
            ])
        {
            System.Environment.SetEnvironmentVariable(name, null);
        }
        ProcessControl.SetThreadName("weir");
        string title = TitleOf(path, launch.Arguments);
        if (SelfCommand.CommandLine()[0] != title)
        {
            ProcessTitle.Set(title);
        }
        // The first process has shown the warnings already.
        var console = new ConsoleLogSink(level: detached ? LogLevel.Error : LogLevel.Warn);
        var log = new Log(console);
        MasterPlan? plan = launch.Program.Load(log);
        if (plan is null)
        {
            return 1;
        }
        if (!plan.MasterProcess)
        {
            return SingleProcess.Run(launch, plan, console);
        }
        if (plan.Daemon && !detached && inherited is null)
        {
            return Detach(path, title, launch.Arguments, log);
        }
        if (detached)
        {
            Descriptors.SetCloseOnExec(RoleEntry.FirstInheritedFd, on: true);
            ProcessControl.SetUmask(0);
        }
        using var master = new Master(new MasterStart
        {
            Program = launch.Program,
            WorkerRole = launch.WorkerRole,
            Launcher = new Spawner(SelfCommand.Own),
            Plan = plan,
            Version = launch.Version,
            InheritedListeners = inherited,
            InheritedZones = inheritedZones,
            Daemonized = detached || inherited is not null,
            ReadyFd = detached ? RoleEntry.FirstInheritedFd : -1,
            Console = console,
            Upgrade = new UpgradeCommand(path, SelfCommand.Own.LeadingArguments, launch.Arguments, title),
        });
        return master.Run();
    }

    /// <summary>
    /// What `-t` does beyond reading: opens what a start would open, says what fails, and closes it again. An address
    /// in use is no failure, since it usually is the running master's.
    /// </summary>
    public static bool Test(MasterPlan plan, Log log)
    {
        using var tables = new MasterTables();
        MasterPlan withoutSockets = plan with { Snapshot = plan.Snapshot with { Listens = [] } };
        using LiveSnapshot? live = tables.Prepare(withoutSockets, 1, log);
        if (live is null)
        {
            return false;
        }
        foreach (ListenSpec spec in plan.Snapshot.Listens.Distinct())
        {
            ListenFailure failure = ListenSocket.Probe(spec, spec.ReusePort);
            if (failure.IsNone)
            {
                if (spec.Address.UnixPath is { } socketPath && socketPath[0] != '@')
                {
                    Descriptors.Unlink(socketPath);
                }
            }
            else if (failure.Errno != Errno.EADDRINUSE)
            {
                log.Write(LogLevel.Emerg, $"{failure.Call} to {spec.Address} failed", failure.Errno);
                return false;
            }
        }
        return true;
    }

    /// <summary>"weir: master process /path/weir -c file", as nginx titles itself.</summary>
    public static string TitleOf(string path, IReadOnlyList<string> arguments) =>
        string.Join(' ', (IEnumerable<string>)["weir: master process " + path, .. arguments]);

    /// <summary>This process's environment, with what a master of the same command line needs to know.</summary>
    internal static IReadOnlyList<string> Environment(
        IReadOnlyList<string> arguments, string path, params string[] more)
    {
        var list = new List<string>();
        foreach (System.Collections.DictionaryEntry variable in System.Environment.GetEnvironmentVariables())
        {
            if (variable.Key is string name
                && !(name is RoleEntry.ListenersVariable or RoleEntry.ZonesVariable && more.Length > 0)
                && name is not (RoleEntry.RoleVariable or RoleEntry.ArgumentsVariable or RoleEntry.PathVariable))
            {
                list.Add(name + "=" + variable.Value);
            }
        }
        list.Add(RoleEntry.RoleVariable + "=" + RoleEntry.MasterRole);
        list.Add(RoleEntry.ArgumentsVariable + "=" + string.Join(RoleEntry.Separator, arguments));
        list.Add(RoleEntry.PathVariable + "=" + path);
        list.AddRange(more);
        return list;
    }

    private static int Detach(string path, string title, IReadOnlyList<string> arguments, Log log)
    {
        SysResult pipe = Descriptors.Pipe(out int readyRead, out int readyWrite);
        SysResult nothing = Descriptors.OpenReadWrite("/dev/null");
        if (pipe.IsError || nothing.IsError)
        {
            log.Write(LogLevel.Emerg, "open(\"/dev/null\") failed", nothing.Errno);
            return ExecFailedExitCode;
        }
        SysResult pid = ProcessSpawn.Start(new SpawnRequest
        {
            Path = SelfCommand.Own.Path,
            Arguments = [title, .. SelfCommand.Own.LeadingArguments],
            Environment = Environment(arguments, path, RoleEntry.DetachedVariable + "=1"),
            Descriptors = [readyWrite],
            StandardInput = nothing.Int,
            StandardOutput = nothing.Int,
            NewSession = true,
        });
        Descriptors.Close(readyWrite);
        Descriptors.Close(nothing.Int);
        if (pid.IsError)
        {
            log.Write(LogLevel.Emerg, "posix_spawn() of the daemon failed", pid.Errno);
            return ExecFailedExitCode;
        }
        // One byte says ready; an end without it says that the daemon has told why and is gone.
        Span<byte> ready = stackalloc byte[1];
        SysResult read = Descriptors.Read(readyRead, ready);
        Descriptors.Close(readyRead);
        return read.Value == 1 ? 0 : 1;
    }

    /// <summary>The path by which this program was started; a symbolic link stays one, for the next binary.</summary>
    private static string OriginalPath()
    {
        string own = System.Environment.ProcessPath ?? SelfCommand.Own.Path;
        if (SelfCommand.Own.LeadingArguments.Count > 0)
        {
            return own;
        }
        string called = SelfCommand.CommandLine()[0];
        if (called.Contains('/'))
        {
            string full = Path.GetFullPath(called);
            return File.Exists(full) ? full : own;
        }
        foreach (string directory in (Environment_("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries))
        {
            string candidate = Path.Combine(directory, called);
            if (File.Exists(candidate))
            {
                return candidate;
            }
        }
        return own;
    }

    private static string? Environment_(string name) => System.Environment.GetEnvironmentVariable(name);
}
