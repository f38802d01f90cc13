// The disk as a source of configurations, with nginx's words for what fails and glob(3)'s order. Only the process that
// reads configurations uses it (a master, a test, `-t`); a worker reads a snapshot instead.
namespace Weir.Conf;

public sealed class DiskConfFiles : IConfFiles
{
    public ConfFile? Read(string absolutePath, out string? error)
    {
        string path = ConfText.ToUnicode(absolutePath);
        try
        {
            if (Directory.Exists(path))
            {
                error = $"pread() \"{absolutePath}\" failed (21: Is a directory)";
                return null;
            }
            byte[] bytes = File.ReadAllBytes(path);
            error = null;
            return new ConfFile(absolutePath, bytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            error = $"open() \"{absolutePath}\" failed ({Reason(e)})";
            return null;
        }
    }

    public IReadOnlyList<string> Glob(string pattern)
    {
        List<string> found = [pattern.StartsWith('/') ? "/" : ""];
        string[] parts = pattern.Split('/', StringSplitOptions.RemoveEmptyEntries);
        for (int i = 0; i < parts.Length; i++)
        {
            found = Expand(found, parts[i], last: i == parts.Length - 1);
        }
        found.Sort(StringComparer.Ordinal);
        return parts.Length == 0 ? [] : found;
    }

    private static List<string> Expand(List<string> folders, string part, bool last)
    {
        List<string> found = [];
        foreach (string folder in folders)
        {
            string prefix = folder is "" or "/" ? folder : folder + "/";
            if (!GlobPattern.HasMagic(part))
            {
                string path = ConfText.ToUnicode(prefix + part);
                if (last ? File.Exists(path) || Directory.Exists(path) : Directory.Exists(path))
                {
                    found.Add(prefix + part);
                }
                continue;
            }
            foreach (string name in Names(folder == "" ? "." : folder))
            {
                if (GlobPattern.MatchesName(part, name)
                    && (last || Directory.Exists(ConfText.ToUnicode(prefix + name))))
                {
                    found.Add(prefix + name);
                }
            }
        }
        return found;
    }

    /// <summary>A folder that cannot be read holds nothing, as for glob(3).</summary>
    private static List<string> Names(string folder)
    {
        List<string> names = [];
        try
        {
            // The default options would hide dot files and what is not accessible; the pattern decides here.
            EnumerationOptions all = new() { AttributesToSkip = 0, IgnoreInaccessible = false };
            foreach (string path in Directory.EnumerateFileSystemEntries(ConfText.ToUnicode(folder), "*", all))
            {
                names.Add(ConfText.FromUnicode(Path.GetFileName(path)));
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
        return names;
    }

    private static string Reason(Exception e) => e switch
    {
        FileNotFoundException or DirectoryNotFoundException => "2: No such file or directory",
        UnauthorizedAccessException => "13: Permission denied",
        PathTooLongException => "36: File name too long",
        ArgumentException => "22: Invalid argument",
        IOException { HResult: > 0 and < 4096 and int errno } => $"{errno}: {Words(errno, e)}",
        _ => $"5: {e.Message}",
    };

    private static string Words(int errno, Exception e) => errno switch
    {
        6 => "No such device or address",
        13 => "Permission denied",
        20 => "Not a directory",
        21 => "Is a directory",
        23 => "Too many open files in system",
        24 => "Too many open files",
        40 => "Too many levels of symbolic links",
        _ => e.Message,
    };
}
