// Reads a configuration for the master: every byte through a recording source, a build that only collects, and the plan
// that comes out of it. Errors are written in nginx's form, all of them, with their line and a caret.
using System.Globalization;
using Weir.Conf;
using Weir.Http;
using Weir.Http.Cache;
using Weir.Kernel;
using Weir.Loop;
using Weir.Process;
using Weir.Tls;

namespace Weir;

/// <summary>Where a configuration comes from.</summary>
/// <param name="Files">The disk, or texts in memory for a verb.</param>
/// <param name="Path">The path of the main file.</param>
/// <param name="Prefix">-p, or the default.</param>
/// <param name="Globals">-g.</param>
/// <param name="ErrorLog">-e: the error log before and unless the configuration names one; "stderr" or a path.</param>
internal sealed record ConfigurationSource(IConfFiles Files, string Path, string Prefix, string Globals,
    string ErrorLog)
{
    public string ConfPrefix => System.IO.Path.GetDirectoryName(Path) is { Length: > 0 } directory ? directory : "/";
}

/// <summary>What one reading gave.</summary>
internal sealed record Reading(ConfTree Tree, MasterPlan? Plan);

internal sealed class ConfigurationReader(ConfigurationSource source) : IMasterProgram
{
    public MasterPlan? Load(Log log) => Tell(Read(), log);

    public MasterPlan? Reread(MasterPlan running, Log log)
    {
        Snapshot snapshot = running.Snapshot;
        var known = new ConfigurationReader(source with { Files = MemoryConfFiles.Deserialize(snapshot.Files) });
        return Tell(known.Read(snapshot.Names), log);
    }

    private static MasterPlan? Tell(Reading reading, Log log)
    {
        if (log.Sinks.Any(static sink => sink is ConsoleLogSink))
        {
            // Somebody watches the start: the source line and a caret help. A daemon has shown its warnings before.
            Report(reading.Tree.Errors, quiet: !log.Enabled(LogLevel.Warn));
        }
        else
        {
            Write(reading.Tree.Errors, log);
        }
        return reading.Plan;
    }

    /// <summary>A reload's findings go where nginx's go: into the error log, a line each.</summary>
    private static void Write(ConfErrors errors, Log log)
    {
        foreach (ConfError error in errors.All)
        {
            // The log's own line names the level.
            string text = error.Format();
            log.Write(
                error.Level == ConfLevel.Emerg ? LogLevel.Emerg : LogLevel.Warn, text[(text.IndexOf(']') + 2)..]);
        }
    }

    /// <summary>Shows what was found on standard error; warnings too unless quiet.</summary>
    public static void Report(ConfErrors errors, bool quiet)
    {
        foreach (ConfError error in errors.All)
        {
            if (!quiet || error.Level == ConfLevel.Emerg)
            {
                Console.Error.WriteLine("weir: " + error.Render());
            }
        }
    }

    /// <param name="names">Addresses of names that are known already; others are looked up.</param>
    public Reading Read(IReadOnlyList<ResolvedName>? names = null)
    {
        var recording = new RecordingConfFiles(source.Files);
        ConfTree tree = ConfParser.Parse(recording, source.Path, source.Globals);
        var resources = new CollectResources(source.Prefix, source.ConfPrefix, names ?? []);
        var build = new HttpBuild(resources, tree.Errors);
        if (source.ErrorLog.Length > 0)
        {
            build.DefaultErrorLog = source.ErrorLog;
        }
        HttpConfiguration configuration = build.Run(tree);
        MainSettings main = build.Main;
        if (!main.HasEvents && !tree.Errors.Failed)
        {
            tree.Errors.Emerg("no \"events\" section in configuration", null);
        }
        if (main.Use.ValueOr("") == PortableLoop.Name && main.MasterProcess.ValueOr(true))
        {
            tree.Errors.Emerg("\"use portable\" serves in a single process only", null,
                "add \"master_process off;\", or leave \"use\" out");
        }
        ProcessSettings? settings = ToSettings(main, tree.Errors);
        MasterPlan? plan = tree.Errors.Failed || settings is null ? null : new MasterPlan
        {
            PidPath = Full(main.Pid.ValueOr(DefaultPidPath)),
            Daemon = main.Daemon.ValueOr(true),
            MasterProcess = main.MasterProcess.ValueOr(true),
            ClassicKey = main.ClassicKey,
            Affinity = Affinity(main, settings.WorkerCount),
            Environment = EnvironmentOf(main),
            Directories = resources.Directories,
            Secrets = resources.Secrets,
            Helpers = CachePaths.Of(configuration).Count > 0 ? [CacheProgram.Manager, CacheProgram.Loader] : [],
            Snapshot = new Snapshot
            {
                ConfPath = source.Path,
                Prefix = source.Prefix,
                GlobalText = source.Globals,
                Files = recording.Recorded.Serialize(),
                Names = resources.Names,
                Settings = settings,
                Listens = [.. configuration.Groups.Select(static g => g.Spec)],
                Logs = resources.Logs,
                ErrorLogs = [.. main.ErrorLogsOr(build.DefaultErrorLog).Select(t => ToLog(t, resources))],
                Zones = resources.Zones,
                Secrets = [.. resources.Secrets.Select(static s => s.Spec)],
            },
        };
        configuration.Release();
        return new Reading(tree, plan);
    }

    /// <summary>Where the process id goes when no directive says so.</summary>
    private static string DefaultPidPath => Environment.IsPrivilegedProcess ? "/run/nginx.pid" : "/tmp/weir.pid";

    private string Full(string path) => path.StartsWith('/') ? path : System.IO.Path.Join(source.Prefix, path);

    private static ErrorLogSpec ToLog(LogTarget target, CollectResources resources)
    {
        if (target.Destination.StartsWith("syslog:", StringComparison.Ordinal)
            && SyslogSettings.TryParse(target.Destination[7..], resources, out SyslogTarget? syslog, out string? _))
        {
            return new ErrorLogSpec(target.Level, null, syslog);
        }
        var spec = new LogSpec(target.Destination);
        resources.LogDescriptor(spec);
        return new ErrorLogSpec(target.Level, spec);
    }

    private static ProcessSettings? ToSettings(MainSettings main, ConfErrors errors)
    {
        var settings = new ProcessSettings
        {
            OpenFilesMax = main.WorkerRlimitNofile.ValueOr(-1),
            CoreBytesMax = main.WorkerRlimitCore.ValueOr(-1),
            Priority = main.WorkerPriority.ValueOr(0),
            WorkingDirectory = main.WorkingDirectory.ValueOr(null!),
            WorkerCount = main.EffectiveWorkers,
            ShutdownTimeoutMs = main.WorkerShutdownTimeoutMs.ValueOr(0),
        };
        if (!Identity.IsRoot)
        {
            if (main.User.IsSet)
            {
                errors.Warn("the \"user\" directive makes sense only if the master process runs "
                    + "with super-user privileges, ignored",
                    null);
            }
            return settings;
        }
        string name = main.User.ValueOr("nobody");
        if (Identity.FindUser(name, out UserEntry user).IsError)
        {
            errors.Emerg($"getpwnam(\"{name}\") failed", null);
            return null;
        }
        uint group = user.GroupId;
        if (main.User.IsSet && main.Group.Value != name && Identity.FindGroup(main.Group.Value, out group).IsError)
        {
            errors.Emerg($"getgrnam(\"{main.Group.Value}\") failed", null);
            return null;
        }
        return settings with
        {
            UserName = user.Name, UserId = user.UserId, GroupId = group, KeepsNetRaw = main.KeepsNetRaw,
        };
    }

    private static List<string> EnvironmentOf(MainSettings main)
    {
        var result = new List<string>();
        foreach (string entry in (IEnumerable<string>)[.. main.Env, "TZ", .. TlsKeyPlaces.Environment])
        {
            if (entry.Contains('='))
            {
                result.Add(entry);
            }
            else if (Environment.GetEnvironmentVariable(entry) is { } value)
            {
                result.Add($"{entry}={value}");
            }
        }
        return result;
    }

    private static IReadOnlyList<IReadOnlyList<ulong>> Affinity(MainSettings main, int workers)
    {
        if (main.AffinityAuto)
        {
            ulong allowed = main.WorkerCpuAffinity.Count > 0 ? Mask(main.WorkerCpuAffinity[0])
                : Environment.ProcessorCount >= 64 ? ulong.MaxValue : (1UL << Environment.ProcessorCount) - 1;
            var cpus = Enumerable.Range(0, 64).Where(i => (allowed >> i & 1) != 0).ToArray();
            return [.. Enumerable.Range(0, workers).Select(i => (IReadOnlyList<ulong>)[1UL << cpus[i % cpus.Length]])];
        }
        return [.. main.WorkerCpuAffinity.Select(static m => (IReadOnlyList<ulong>)[Mask(m)])];
    }

    private static ulong Mask(string bits) => ulong.Parse(bits.Length > 64 ? bits[^64..] : bits,
        NumberStyles.BinaryNumber,
        CultureInfo.InvariantCulture);
}
