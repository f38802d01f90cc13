// A role is what a Weir process can be besides a master: its name, how ps shows it, whether it is started again when it
// ends, and its work. A process learns its role from its environment, before anything else of the program runs.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>What the master does when a process of a role ends by itself.</summary>
public enum RestartPolicy : byte
{
    Always,
    Never,

    /// <summary>Until it has done its work: when it was killed, or failed.</summary>
    OnFailure,
}

/// <summary>One kind of process.</summary>
/// <param name="Name">The name in the environment and in log lines ("worker process").</param>
/// <param name="Title">What ps shows ("weir: worker process").</param>
/// <param name="Restart">What to do when it ends.</param>
/// <param name="Run">The work; returns the exit code (2: cannot work, do not start again).</param>
public sealed record Role(string Name, string Title, RestartPolicy Restart, Func<WorkerHost, int> Run)
{
    /// <summary>Gives way to workers that share a processor with it.</summary>
    public bool GivesWay { get; init; }

    /// <summary>Exit code of a process that must not be started again.</summary>
    public const int FatalExitCode = 2;

    public const string WorkerName = "worker process";
}

/// <summary>How a Weir process is told what it is: variables that are taken out of the environment at once.</summary>
public static class RoleEntry
{
    internal const string RoleVariable = "WEIR_ROLE", ArgumentsVariable = "WEIR_ARGV", PathVariable = "WEIR_PATH",
        DetachedVariable = "WEIR_DETACHED", ListenersVariable = "WEIR",
        ZonesVariable = "WEIR_ZONES";

    internal const string MasterRole = "master";

    internal const char Separator = '\u001f';

    /// <summary>The channel of a worker, or the readiness pipe of a detached master.</summary>
    internal const int FirstInheritedFd = 3;

    /// <summary>
    /// To be called first in Main. True when this process was started as one of <paramref name="roles"/> and has
    /// done its work.
    /// </summary>
    public static bool TryRun(IReadOnlyList<Role> roles, out int exitCode)
    {
        exitCode = 0;
        string? name = Environment.GetEnvironmentVariable(RoleVariable);
        if (name is null or MasterRole)
        {
            return false;
        }
        Environment.SetEnvironmentVariable(RoleVariable, null);
        foreach (Role role in roles)
        {
            if (role.Name == name)
            {
                exitCode = WorkerHost.RunRole(role);
                return true;
            }
        }
        new Log(new ConsoleLogSink()).Write(LogLevel.Emerg, $"there is no role \"{name}\"");
        exitCode = Role.FatalExitCode;
        return true;
    }

    /// <summary>The command line of this program: a master that was executed again has it in its environment.</summary>
    public static string[] Arguments(string[] args)
    {
        string? kept = Environment.GetEnvironmentVariable(RoleVariable) == MasterRole
            ? Environment.GetEnvironmentVariable(ArgumentsVariable)
            : null;
        return kept is null ? args : kept.Length == 0 ? [] : kept.Split(Separator);
    }
}
