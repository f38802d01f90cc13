// Looks every few seconds whether files that a configuration was made of (certificates, keys) are others than they
// were, and says so once nothing has changed between two looks: a certificate and its key are two files and are not
// replaced in one moment. The master's thread. A configuration without such files never wakes the master.
using Weir.Kernel.Net;

namespace Weir.Process;

internal sealed class FileWatch
{
    private const int LookMs = 1000;

    private readonly Dictionary<string, FileStatus> _seen = new(StringComparer.Ordinal);
    private bool _isChanging;

    /// <summary>When to look next; long.MaxValue for never.</summary>
    public long DueMs { get; private set; } = long.MaxValue;

    /// <summary>Watches these files as they were when they were read: what changed since then has changed.</summary>
    public void Start(IReadOnlyList<SecretContent> files, long nowMs)
    {
        _seen.Clear();
        foreach (SecretContent file in files)
        {
            _seen[file.Spec.Path] = file.Seen;
        }
        _isChanging = false;
        DueMs = _seen.Count == 0 ? long.MaxValue : nowMs + LookMs;
    }

    /// <summary>True when files have changed and have come to rest.</summary>
    public bool HasChanged(long nowMs)
    {
        if (nowMs < DueMs)
        {
            return false;
        }
        DueMs = nowMs + LookMs;
        bool moved = false;
        foreach ((string path, FileStatus before) in _seen.ToArray())
        {
            FileStatus now = Look(path);
            if (now != before)
            {
                _seen[path] = now;
                moved = true;
            }
        }
        bool settled = _isChanging && !moved;
        _isChanging = moved;
        return settled;
    }

    private static FileStatus Look(string path) =>
        path.StartsWith('/') && Sys.Status(path, out FileStatus status).IsOk ? status : default;
}
