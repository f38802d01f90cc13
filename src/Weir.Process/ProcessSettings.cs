// What a worker process is, apart from its configuration: identity, limits, priority, place. Read once by the worker
// from its first snapshot, before it builds anything; a change of any of it takes the classic road of a reload.
namespace Weir.Process;

/// <summary>The process-level settings of nginx.conf's main context that a worker applies to itself.</summary>
public sealed record ProcessSettings
{
    /// <summary>The user to become when started as root, or null to stay.</summary>
    public string? UserName { get; init; }

    public uint UserId { get; init; }

    public uint GroupId { get; init; }

    /// <summary>CAP_NET_RAW stays when root goes (`proxy_bind … transparent`).</summary>
    public bool KeepsNetRaw { get; init; }

    /// <summary>worker_rlimit_nofile, or -1.</summary>
    public long OpenFilesMax { get; init; } = -1;

    /// <summary>worker_rlimit_core in bytes, or -1.</summary>
    public long CoreBytesMax { get; init; } = -1;

    /// <summary>worker_priority.</summary>
    public int Priority { get; init; }

    public string? WorkingDirectory { get; init; }

    /// <summary>worker_processes, already counted for `auto`.</summary>
    public int WorkerCount { get; init; } = 1;

    /// <summary>worker_shutdown_timeout, or 0 for none.</summary>
    public long ShutdownTimeoutMs { get; init; }
}
