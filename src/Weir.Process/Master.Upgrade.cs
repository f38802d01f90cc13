// A binary upgrade (USR2): the pid file steps aside to .oldbin, the binary at the original path is started with all
// listening sockets, and both serve until an operator ends one of them. If the new one dies, the pid file steps back.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>How the next binary is started.</summary>
/// <param name="Path">The path this program was started by, looked up anew each time.</param>
/// <param name="LeadingArguments">What stands before arguments (a .dll under `dotnet`).</param>
/// <param name="Arguments">The command line of this program.</param>
/// <param name="Title">The master's title.</param>
public sealed record UpgradeCommand(
    string Path, IReadOnlyList<string> LeadingArguments, IReadOnlyList<string> Arguments, string Title);

public sealed partial class Master
{
    private NewBinary? _upgrade;

    private void ChangeBinary()
    {
        if (_start.Upgrade is not { } command)
        {
            _log.Write(LogLevel.Alert, "this process cannot change its binary");
            return;
        }
        string pidPath = _running!.Plan.PidPath;
        SysResult renamed = Descriptors.Rename(pidPath, pidPath + PidFile.OldSuffix);
        if (renamed.IsError)
        {
            _log.Write(
                LogLevel.Alert,
                $"rename() {pidPath} to {pidPath}{PidFile.OldSuffix} failed before executing new binary process "
                + $"\"{command.Path}\"",
                renamed.Errno);
            return;
        }
        int[] sockets = [.. _tables.Listens.Open.SelectMany(static open => open.Fds)];
        string list = string.Concat(sockets.Select(static (_, i) => (RoleEntry.FirstInheritedFd + i) + ";"));
        SysResult pid = ProcessSpawn.Start(new SpawnRequest
        {
            Path = command.Path,
            Arguments = [command.Title, .. command.LeadingArguments],
            Environment = MasterEntry.Environment(
                command.Arguments, command.Path, RoleEntry.ListenersVariable + "=" + list),
            Descriptors = sockets,
        });
        SysResult pidFd = pid.IsOk ? ProcessControl.OpenPidFd(pid.Int) : pid;
        if (pidFd.IsError)
        {
            _log.Write(LogLevel.Alert, $"posix_spawn() failed while executing new binary \"{command.Path}\"", pidFd.Errno);
            RestorePidFile();
            return;
        }
        _upgrade = new NewBinary(pid.Int, pidFd.Int);
        _log.Write(LogLevel.Notice, $"start new binary process {pid.Int}");
    }

    private void CollectUpgrade()
    {
        SysResult waited = ProcessControl.TryWait(_upgrade!.PidFd, out ExitInfo exit);
        if (waited.IsOk && exit.IsNone)
        {
            return;
        }
        _log.Write(
            exit.Signaled ? LogLevel.Alert : LogLevel.Notice,
            $"new binary process {_upgrade.Pid} exited {(exit.Signaled ? "on signal" : "with code")} {exit.Code}");
        _upgrade.Close();
        _upgrade = null;
        RestorePidFile();
        if (_noAccepting)
        {
            _noAccepting = false;
            _log.Write(LogLevel.Notice, "start worker processes");
            StartWorkers(_running!, prepared: false);
        }
    }

    private void RestorePidFile()
    {
        string pidPath = _running!.Plan.PidPath;
        SysResult renamed = Descriptors.Rename(pidPath + PidFile.OldSuffix, pidPath);
        if (renamed.IsError)
        {
            _log.Write(
                LogLevel.Alert,
                $"rename() {pidPath}{PidFile.OldSuffix} back to {pidPath} failed after the new binary process exited",
                renamed.Errno);
        }
    }

    private sealed record NewBinary(int Pid, int PidFd)
    {
        public void Close() => Descriptors.Close(PidFd);
    }
}
