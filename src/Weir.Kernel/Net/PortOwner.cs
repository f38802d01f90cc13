// Who listens on a TCP port or a unix socket of this machine: /proc/net/tcp and /proc/net/unix name the socket's
// inode, the descriptors of /proc/PID/fd name its owner. For messages to people at start-up; sees only what the caller
// may see, and says so.
using System.Globalization;

namespace Weir.Kernel;

/// <summary>Finds the process that holds a port or a path.</summary>
public static class PortOwner
{
    private const string ListenState = "0A";

    /// <summary>"nginx (pid 123)", or "another process" when it cannot be seen.</summary>
    public static string Describe(int port)
    {
        string? inode = FindInode("/proc/net/tcp", port) ?? FindInode("/proc/net/tcp6", port);
        return (inode is null ? null : FindProcess($"socket:[{inode}]")) ?? "another process";
    }

    /// <summary>What is wrong with an address that is in use, as the end of a sentence about it.</summary>
    public static string Describe(SocketAddress address)
    {
        if (address.UnixPath is not { } path)
        {
            return "is in use by " + Describe(address.Port);
        }
        string? inode = FindPath(path);
        return inode is not null ? "is in use by " + (FindProcess($"socket:[{inode}]") ?? "another process")
            : "is there and nobody listens on it: remove the file";
    }

    private static string? FindPath(string path)
    {
        foreach (string line in Lines("/proc/net/unix"))
        {
            // Num RefCount Protocol Flags Type St Inode Path; the path may hold blanks. The flag is that of listen().
            string[] columns = line.Split(' ', 8, StringSplitOptions.RemoveEmptyEntries);
            if (columns.Length == 8 && columns[3] == "00010000" && columns[7] == path)
            {
                return columns[6];
            }
        }
        return null;
    }

    private static string? FindInode(string table, int port)
    {
        string wanted = ":" + port.ToString("X4", CultureInfo.InvariantCulture);
        foreach (string line in Lines(table))
        {
            // sl local remote state tx:rx tr:when retransmits uid timeout inode
            string[] columns = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (columns.Length >= 10 && columns[3] == ListenState
                && columns[1].EndsWith(wanted, StringComparison.Ordinal))
            {
                return columns[9];
            }
        }
        return null;
    }

    private static string? FindProcess(string link)
    {
        try
        {
            // The lowest pid first: a master before the workers that inherited its sockets.
            IEnumerable<int> pids = Directory.EnumerateDirectories("/proc")
                .Select(static d => int.TryParse(Path.GetFileName(d), NumberStyles.None, null, out int pid) ? pid : 0)
                .Where(static pid => pid > 0)
                .Order();
            foreach (int pid in pids)
            {
                string directory = string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}");
                if (Holds(directory, link))
                {
                    string name = Lines(directory + "/comm").FirstOrDefault("a process");
                    return string.Create(CultureInfo.InvariantCulture, $"{name} (pid {pid})");
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A process list that cannot be read names nobody.
        }
        return null;
    }

    private static bool Holds(string process, string link)
    {
        try
        {
            foreach (string descriptor in Directory.EnumerateFileSystemEntries(process + "/fd"))
            {
                if (new FileInfo(descriptor).LinkTarget == link)
                {
                    return true;
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Somebody else's process, or one that has just ended.
        }
        return false;
    }

    private static string[] Lines(string path)
    {
        try
        {
            return File.ReadAllLines(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
