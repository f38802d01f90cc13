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

    /// <summary>Watches these files as they are now.</summary>
    public void Start(IEnumerable<string> paths, long nowMs)
    {
        _seen.Clear();
        foreach (string path in paths)
        {
            _seen[path] = Look(path);
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
