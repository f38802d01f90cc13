// Starts a process of a role: the same binary, from /proc/self/exe unless the caller says otherwise, with the channel
// as descriptor 3, its CPUs and blocked signals from birth, and only the environment it is meant to have. Master's
// thread only.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>
/// How the own binary is started: its path, and what must stand before arguments (a .dll under `dotnet`).
/// </summary>
public sealed record SelfCommand(string Path, IReadOnlyList<string> LeadingArguments)
{
    /// <summary>This process's own way of being started.</summary>
    public static SelfCommand Own { get; } = Detect();

    private static SelfCommand Detect()
    {
        string[] line = CommandLine();
        bool hosted = System.IO.Path.GetFileName(Environment.ProcessPath) == "dotnet"
            && line.Length > 1 && line[1].EndsWith(".dll", StringComparison.Ordinal);
        return new SelfCommand(ProcessSpawn.OwnBinary, hosted ? [System.IO.Path.GetFullPath(line[1])] : []);
    }

    /// <summary>The arguments this process was started with, argv[0] first.</summary>
    public static string[] CommandLine()
    {
        try
        {
            return File.ReadAllText("/proc/self/cmdline").TrimEnd('\0').Split('\0');
        }
        catch (IOException)
        {
            return Environment.GetCommandLineArgs();
        }
    }
}

/// <summary>A started process.</summary>
public readonly record struct Launched(int Pid, int PidFd);

/// <summary>What a master needs in order to get a process of a role.</summary>
public interface IRoleLauncher
{
    SysResult Launch(
        Role role,
        int channelFd,
        IReadOnlyList<string> environment,
        IReadOnlyList<ulong> affinity,
        out Launched launched);
}

/// <summary>Starts roles as processes.</summary>
public sealed class Spawner(SelfCommand self) : IRoleLauncher
{
    // Empty arguments are room for a longer title (" is shutting down") without anything to see in ps.
    private const int TitleRoomBytes = 24;

    private readonly SelfCommand _self = self;

    public SysResult Launch(
        Role role,
        int channelFd,
        IReadOnlyList<string> environment,
        IReadOnlyList<ulong> affinity,
        out Launched launched)
    {
        launched = default;
        SysResult pid = ProcessSpawn.Start(new SpawnRequest
        {
            Path = _self.Path,
            Arguments =
            [
                role.Title, .. _self.LeadingArguments, .. Enumerable.Repeat("", TitleRoomBytes),
            ],
            Environment = [.. environment, .. RuntimeEnvironment(), RoleEntry.RoleVariable + "=" + role.Name],
            Descriptors = [channelFd],
            Affinity = affinity,
        });
        if (pid.IsError)
        {
            return pid;
        }
        SysResult pidFd = ProcessControl.OpenPidFd(pid.Int);
        launched = new Launched(pid.Int, pidFd.IsOk ? pidFd.Int : -1);
        return pidFd;
    }

    /// <summary>What the runtime itself may need when it is not compiled in (development).</summary>
    internal static IEnumerable<string> RuntimeEnvironment()
    {
        foreach (System.Collections.DictionaryEntry variable in Environment.GetEnvironmentVariables())
        {
            if (variable.Key is string name && name.StartsWith("DOTNET_", StringComparison.Ordinal))
            {
                yield return name + "=" + variable.Value;
            }
        }
    }
}
