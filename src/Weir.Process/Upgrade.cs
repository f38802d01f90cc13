// A binary upgrade (USR2): the pid file steps aside to .oldbin, the binary at the original path is started with all
// listening sockets and zones, and both serve until an operator ends one of them. If the new one dies, the pid file
// steps back. Belongs to a running master, on its thread.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>How the next binary is started.</summary>
/// <param name="Path">The path this program was started by, looked up anew each time.</param>
/// <param name="LeadingArguments">What stands before arguments (a .dll under `dotnet`).</param>
/// <param name="Arguments">The command line of this program.</param>
/// <param name="Title">The master's title.</param>
public sealed record UpgradeCommand(
    string Path, IReadOnlyList<string> LeadingArguments, IReadOnlyList<string> Arguments, string Title);

/// <summary>A new binary that runs beside this one.</summary>
internal sealed class Upgrade
{
    private readonly string _pidPath;

    private Upgrade(string pidPath, int pid, int pidFd)
    {
        _pidPath = pidPath;
        Pid = pid;
        PidFd = pidFd;
    }

    public int Pid { get; }

    public int PidFd { get; }

    /// <summary>Starts the new binary; null after the reason was logged, with the pid file where it was.</summary>
    public static Upgrade? Start(UpgradeCommand command, string pidPath, IReadOnlyList<int> sockets,
        ZoneTable zones, Log log)
    {
        SysResult renamed = Descriptors.Rename(pidPath, pidPath + PidFile.OldSuffix);
        if (renamed.IsError)
        {
            log.Write(
                LogLevel.Alert,
                $"rename() {pidPath} to {pidPath}{PidFile.OldSuffix} failed before executing new binary process "
                + $"\"{command.Path}\"",
                renamed.Errno);
            return null;
        }
        string list = string.Concat(sockets.Select(static (_, i) => (RoleEntry.FirstInheritedFd + i) + ";"));
        string zoneList = zones.Describe(RoleEntry.FirstInheritedFd + sockets.Count, out int[] zoneFds);
        SysResult pid = ProcessSpawn.Start(new SpawnRequest
        {
            Path = command.Path,
            Arguments = [command.Title, .. command.LeadingArguments],
            Environment = MasterEntry.Environment(
                command.Arguments, command.Path, RoleEntry.ListenersVariable + "=" + list,
                RoleEntry.ZonesVariable + "=" + zoneList),
            Descriptors = [.. sockets, .. zoneFds],
        });
        SysResult pidFd = pid.IsOk ? ProcessControl.OpenPidFd(pid.Int) : pid;
        if (pidFd.IsError)
        {
            log.Write(
                LogLevel.Alert, $"posix_spawn() failed while executing new binary \"{command.Path}\"", pidFd.Errno);
            RestorePidFile(pidPath, log);
            return null;
        }
        log.Write(LogLevel.Notice, $"start new binary process {pid.Int}");
        return new Upgrade(pidPath, pid.Int, pidFd.Int);
    }

    /// <summary>True when the new binary has ended; the pid file is back then and the object of no more use.</summary>
    public bool TryCollect(Log log)
    {
        SysResult waited = ProcessControl.TryWait(PidFd, out ExitInfo exit);
        if (waited.IsOk && exit.IsNone)
        {
            return false;
        }
        log.Write(
            exit.Signaled ? LogLevel.Alert : LogLevel.Notice,
            $"new binary process {Pid} exited {(exit.Signaled ? "on signal" : "with code")} {exit.Code}");
        RestorePidFile(_pidPath, log);
        Close();
        return true;
    }

    public void Close() => Descriptors.Close(PidFd);

    private static void RestorePidFile(string pidPath, Log log)
    {
        SysResult renamed = Descriptors.Rename(pidPath + PidFile.OldSuffix, pidPath);
        if (renamed.IsError)
        {
            log.Write(
                LogLevel.Alert,
                $"rename() {pidPath}{PidFile.OldSuffix} back to {pidPath} failed after the new binary process exited",
                renamed.Errno);
        }
    }
}
