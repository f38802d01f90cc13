// What a master needs to know of a configuration, and nothing more: the content of the snapshot and the processes to
// run. Made by the program that can read configurations; the master itself never sees a directive.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Process;

/// <summary>A secret the master read, to be sealed and handed over.</summary>
/// <param name="Seen">The file as it was before it was read; whatever comes later is a change.</param>
public sealed record SecretContent(SecretSpec Spec, byte[] Bytes, FileStatus Seen = default);

/// <summary>One destination of the main context's error_log: a file, or a syslog server.</summary>
public sealed record ErrorLogSpec(LogLevel Level, LogSpec? File, SyslogTarget? Syslog = null);

/// <summary>
/// A directory to be made at start and given to the workers' user (client_body_temp_path and the like).
/// </summary>
public sealed record DirectorySpec(string Path);

/// <summary>One reading of the configuration.</summary>
public sealed record MasterPlan
{
    /// <summary>
    /// Content without generation, descriptors' specifications included (the master adds its own zones).
    /// </summary>
    public required Snapshot Snapshot { get; init; }

    public IReadOnlyList<SecretContent> Secrets { get; init; } = [];

    public IReadOnlyList<DirectorySpec> Directories { get; init; } = [];

    public required string PidPath { get; init; }

    public bool Daemon { get; init; } = true;

    /// <summary>master_process.</summary>
    public bool MasterProcess { get; init; } = true;

    /// <summary>
    /// CPU masks (64-bit words) by worker; a worker beyond the end takes the last; empty for no binding.
    /// </summary>
    public IReadOnlyList<IReadOnlyList<ulong>> Affinity { get; init; } = [];

    /// <summary>Environment of workers as NAME=value: TZ and what `env` names.</summary>
    public IReadOnlyList<string> Environment { get; init; } = [];

    /// <summary>
    /// Settings that a living worker cannot change, as text: another text takes the classic road (new workers start,
    /// old ones quit). The master itself adds <see cref="ProcessSettings"/>, affinity, environment and fewer workers.
    /// </summary>
    public string ClassicKey { get; init; } = "";

    /// <summary>Processes besides the workers (a cache manager), started with the snapshot like them.</summary>
    public IReadOnlyList<Role> Helpers { get; init; } = [];
}

/// <summary>The program behind a master: it reads configurations.</summary>
public interface IMasterProgram
{
    /// <summary>
    /// Reads the configuration anew. Null when it is refused; then the errors have been written to
    /// <paramref name="log"/>. Everything a worker will need has been read when this returns.
    /// </summary>
    MasterPlan? Load(Log log);

    /// <summary>The running configuration again: its text as it was read, the files that it names (certificates, keys)
    /// as they are now. Null when it is refused, as with <see cref="Load"/>.</summary>
    MasterPlan? Reread(MasterPlan running, Log log) => Load(log);
}
