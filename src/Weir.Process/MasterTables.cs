// Everything a master holds open, prepared and settled together: sockets, logs, zones. A step that fails undoes the
// steps before it, so that a refused reload leaves no trace. One thread.
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Process;

/// <summary>The three tables as one.</summary>
internal sealed class MasterTables : IDisposable
{
    public ListenTable Listens { get; } = new();

    public LogTable Logs { get; } = new();

    public ZoneTable Zones { get; } = new();

    /// <summary>
    /// Opens what a plan needs. Null after the reason was logged; then nothing has changed. The snapshot gets its
    /// generation and the counters' table here.
    /// </summary>
    public LiveSnapshot? Prepare(MasterPlan plan, uint generation, Log log)
    {
        Snapshot snapshot = plan.Snapshot with
        {
            Generation = generation,
            Zones = [.. plan.Snapshot.Zones.Where(z => z != CounterSlots.Spec).Distinct(), CounterSlots.Spec],
            Listens = [.. plan.Snapshot.Listens.Distinct()],
            Logs = [.. plan.Snapshot.Logs.Concat(ErrorFiles(plan)).Distinct()],
            Secrets = [.. plan.Secrets.Select(static secret => secret.Spec)],
        };
        if (!Logs.Prepare(snapshot.Logs, log)
            || !MakeDirectories(plan, log)
            || !Zones.Prepare(snapshot.Zones, log)
            || !Listens.Prepare(snapshot.Listens, Math.Max(1, snapshot.Settings.WorkerCount), log)
            || LiveSnapshot.Create(snapshot, plan, log) is not { } live)
        {
            Abort();
            return null;
        }
        return live;
    }

    public void Commit(bool unlinkUnix)
    {
        Listens.Commit(unlinkUnix);
        Logs.Commit();
        Zones.Commit();
    }

    public void Abort()
    {
        Listens.Abort();
        Logs.Abort();
        Zones.Abort();
    }

    /// <summary>The error log of a plan over the descriptors of this table.</summary>
    public static Log CreateLog(IReadOnlyList<ErrorLogSpec> specs, LogTable logs, params LogSink[] more)
    {
        var sinks = new List<LogSink>(more);
        foreach (ErrorLogSpec spec in specs)
        {
            if (spec.File is { } file && logs.SinkFdOf(file.Path) is >= 0 and int fd)
            {
                sinks.Add(new FileLogSink(fd, spec.Level));
            }
            if (spec.Syslog is { } syslog)
            {
                sinks.Add(new SyslogSink(syslog, spec.Level));
            }
        }
        return new Log([.. sinks]);
    }

    public void Dispose()
    {
        Listens.Dispose();
        Logs.Dispose();
        Zones.Dispose();
    }

    private static IEnumerable<LogSpec> ErrorFiles(MasterPlan plan) =>
        plan.Snapshot.ErrorLogs.Where(static log => log.File is not null).Select(static log => log.File!);

    private static bool MakeDirectories(MasterPlan plan, Log log)
    {
        ProcessSettings settings = plan.Snapshot.Settings;
        foreach (DirectorySpec directory in plan.Directories)
        {
            SysResult made = Descriptors.MakeDirectory(directory.Path, 0x1c0);
            if (made.IsError && made.Errno != Errno.EEXIST)
            {
                log.Write(LogLevel.Emerg, $"mkdir() \"{directory.Path}\" failed", made.Errno);
                return false;
            }
            if (Identity.IsRoot && settings.UserName is not null)
            {
                SysResult owned = Descriptors.ChangeOwner(directory.Path, settings.UserId);
                if (owned.IsError)
                {
                    log.Write(LogLevel.Emerg, $"chown(\"{directory.Path}\", {settings.UserId}) failed", owned.Errno);
                    return false;
                }
            }
        }
        return true;
    }
}
