// Becoming a worker: limits, priority, identity, directory, in nginx's order and with its words. Runs once, early, in a
// process of its own; what fails fatally ends the process with code 2.
using Weir.Kernel;

namespace Weir.Process;

/// <summary>Applies <see cref="ProcessSettings"/> to the process it runs in.</summary>
public static class Privileges
{
    /// <summary>By so much a process that gives way is nicer: about a tenth of a worker's weight. Not more, since it
    /// takes locks that workers wait for, and has to come to their release beside whatever else the machine runs.
    /// </summary>
    private const int NiceIncrement = 10;

    /// <summary>False when the process must not go on (the reason is in the log).</summary>
    public static bool Apply(ProcessSettings settings, bool givesWay, Log log)
    {
        // Workers that are to go before others do not take along who gives way to them.
        if (givesWay ? settings.Priority > 0 : settings.Priority != 0)
        {
            Note(ProcessControl.SetPriority(settings.Priority), $"setpriority({settings.Priority}) failed");
        }
        if (givesWay)
        {
            Note(ProcessControl.GiveWay(NiceIncrement), $"nice({NiceIncrement}) failed");
        }
        if (settings.OpenFilesMax >= 0)
        {
            Note(
                ProcessControl.SetLimit(ResourceLimit.OpenFiles, settings.OpenFilesMax),
                $"setrlimit(RLIMIT_NOFILE, {settings.OpenFilesMax}) failed");
        }
        if (settings.CoreBytesMax >= 0)
        {
            Note(
                ProcessControl.SetLimit(ResourceLimit.Core, settings.CoreBytesMax),
                $"setrlimit(RLIMIT_CORE, {settings.CoreBytesMax}) failed");
        }
        if (Identity.IsRoot && settings.UserName is { } user)
        {
            if (!Must(Identity.SetGroup(settings.GroupId), $"setgid({settings.GroupId}) failed"))
            {
                return false;
            }
            SysResult groups = Identity.SetSupplementaryGroups(user, settings.GroupId);
            if (groups.IsError)
            {
                log.Write(LogLevel.Emerg, $"initgroups({user}, {settings.GroupId}) failed", groups.Errno);
            }
            if (settings.KeepsNetRaw && !Must(Identity.KeepCapabilities(), "prctl(PR_SET_KEEPCAPS, 1) failed"))
            {
                return false;
            }
            if (!Must(Identity.SetUser(settings.UserId), $"setuid({settings.UserId}) failed"))
            {
                return false;
            }
            if (settings.KeepsNetRaw && !Must(Identity.TakeNetRaw(), "capset() failed"))
            {
                return false;
            }
        }
        Note(ProcessControl.SetDumpable(), "prctl(PR_SET_DUMPABLE) failed");
        return settings.WorkingDirectory is not { } directory
            || Must(ProcessControl.ChangeDirectory(directory), $"chdir(\"{directory}\") failed");

        void Note(SysResult result, string words)
        {
            if (result.IsError)
            {
                log.Write(LogLevel.Alert, words, result.Errno);
            }
        }

        bool Must(SysResult result, string words)
        {
            if (result.IsError)
            {
                log.Write(LogLevel.Emerg, words, result.Errno);
            }
            return result.IsOk;
        }
    }
}
