// proxy_cache_path and fastcgi_cache_path: where a cache's files lie, the zone of its keys, and how the cache processes
// pace themselves. Read with the configuration, frozen afterwards.
using System.Text;
using Weir.Conf;
using Weir.Zones;

namespace Weir.Http.Cache;

/// <summary>One cache.</summary>
public sealed class CachePath
{
    public required string Family { get; init; }

    /// <summary>The directory, without a slash at its end.</summary>
    public required string Directory { get; init; }
    public string ZoneName { get; set; } = "";
    public long ZoneBytes { get; set; }

    /// <summary>Digits of each level of directories.</summary>
    public int[] Levels { get; set; } = [];
    public long InactiveSec { get; set; } = 600;

    /// <summary>Bytes of files, long.MaxValue for no limit.</summary>
    public long MaxBytes { get; set; } = long.MaxValue;

    /// <summary>Bytes that stay free in the file system; 0 for no limit.</summary>
    public long MinFreeBytes { get; set; }
    public int ManagerFiles { get; set; } = 100;
    public long ManagerSleepMs { get; set; } = 50;
    public long ManagerThresholdMs { get; set; } = 200;

    /// <summary>Files that a purge by beginning or tag may mean are looked into at a pace of their own, else at the
    /// manager's.</summary>
    public bool HasPurger { get; set; }
    public int PurgerFiles { get; set; } = 10;
    public long PurgerSleepMs { get; set; } = 50;
    public long PurgerThresholdMs { get; set; } = 50;
    public int LoaderFiles { get; set; } = 100;
    public long LoaderSleepMs { get; set; } = 50;
    public long LoaderThresholdMs { get; set; } = 200;

    /// <summary>Files grow under the cache's own directory until they are complete (off), or under the temporary path
    /// (on).</summary>
    public bool UsesTempPath { get; set; } = true;

    /// <summary>Bytes of small responses that each worker keeps in memory.</summary>
    public long MemoryBytes { get; set; } = 8 * 1024 * 1024;

    /// <summary>Its keys; null while a master only collects.</summary>
    public CacheIndex? Index { get; internal set; }

    /// <summary>The loader has seen all files: what has no entry has no file. Once true it stays so.</summary>
    internal bool HasBeenLoaded => _isLoaded || (_isLoaded = Index!.IsLoaded);

    private bool _isLoaded;

    /// <summary>The path of a key's file.</summary>
    public string FileOf(CacheKey key)
    {
        Span<byte> name = stackalloc byte[CacheKey.NameLength];
        key.WriteName(name);
        var text = new StringBuilder(Directory.Length + 48);
        text.Append(Directory);
        int end = name.Length;
        foreach (int digits in Levels)
        {
            end -= digits;
            text.Append('/').Append(Encoding.ASCII.GetString(name.Slice(end, digits)));
        }
        return text.Append('/').Append(Encoding.ASCII.GetString(name)).ToString();
    }

    /// <summary>The zone's name: its own for as long as directory and levels are what they were.</summary>
    internal string ZoneIdentity => $"cache:{Family}:{ZoneName}:{Directory}:{string.Join(':', Levels)}";

    /// <summary>Reads a `cache_path` directive; null after reporting what is wrong.</summary>
    internal static CachePath? Parse(DirectiveUse use, string family)
    {
        string directory = use.Build.Resources.TempPath(use.Build.FullPath(use[0])).TrimEnd('/');
        var path = new CachePath { Family = family, Directory = directory };
        for (int i = 1; i < use.Count; i++)
        {
            string word = use[i];
            int equals = word.IndexOf('=');
            string name = equals < 0 ? word : word[..equals];
            if (equals < 0)
            {
                use.InvalidParameter(i);
                return null;
            }
            if (!path.TrySet(use, i, name, word[(equals + 1)..]))
            {
                return null;
            }
        }
        if (path.ZoneName.Length == 0)
        {
            use.Complain("must have \"keys_zone\" parameter");
            return null;
        }
        return path;
    }

    private bool TrySet(DirectiveUse use, int arg, string name, string value)
    {
        switch (name)
        {
            case "levels":
                return TryLevels(use, arg, value);
            case "use_temp_path":
                if (!ConfValues.TryFlag(value, out bool uses))
                {
                    use.Error(arg, $"invalid use_temp_path value \"{use[arg]}\", it must be \"on\" or \"off\"");
                    return false;
                }
                UsesTempPath = uses;
                return true;
            case "keys_zone":
                return TryZone(use, arg, value);
            case "inactive":
                return ConfValues.TrySec(value, out long inactive) ? Take(() => InactiveSec = inactive)
                    : Refuse(use, arg, "inactive value");
            case "max_size":
                return ConfValues.TryOffset(value, out long most) ? Take(() => MaxBytes = most)
                    : Refuse(use, arg, "max_size value");
            case "min_free":
                return ConfValues.TryOffset(value, out long free) ? Take(() => MinFreeBytes = free)
                    : Refuse(use, arg, "min_free value");
            case "memory":
                return ConfValues.TrySize(value, out long memory) ? Take(() => MemoryBytes = memory)
                    : Refuse(use, arg, "memory value");
            case "purger":
                if (!ConfValues.TryFlag(value, out bool purger))
                {
                    use.Error(arg, $"invalid purger value \"{use[arg]}\", it must be \"on\" or \"off\"");
                    return false;
                }
                HasPurger = purger;
                return true;
            case "purger_files":
                return TryFiles(use, arg, value, "purger_files", v => PurgerFiles = v);
            case "purger_sleep":
                return TryMs(use, arg, value, "purger_sleep", v => PurgerSleepMs = v);
            case "purger_threshold":
                return TryMs(use, arg, value, "purger_threshold", v => PurgerThresholdMs = v);
            case "loader_files":
                return TryFiles(use, arg, value, "loader_files", v => LoaderFiles = v);
            case "manager_files":
                return TryFiles(use, arg, value, "manager_files", v => ManagerFiles = v);
            case "loader_sleep":
                return TryMs(use, arg, value, "loader_sleep", v => LoaderSleepMs = v);
            case "loader_threshold":
                return TryMs(use, arg, value, "loader_threshold", v => LoaderThresholdMs = v);
            case "manager_sleep":
                return TryMs(use, arg, value, "manager_sleep", v => ManagerSleepMs = v);
            case "manager_threshold":
                return TryMs(use, arg, value, "manager_threshold", v => ManagerThresholdMs = v);
            default:
                use.InvalidParameter(arg);
                return false;
        }
    }

    private static bool Take(Action set)
    {
        set();
        return true;
    }

    private static bool Refuse(DirectiveUse use, int arg, string what)
    {
        use.Error(arg, $"invalid {what} \"{use[arg]}\"");
        return false;
    }

    private static bool TryFiles(DirectiveUse use, int arg, string value, string name, Action<int> set) =>
        ConfValues.TryNumber(value, out long n) && n is > 0 and <= int.MaxValue ? Take(() => set((int)n))
            : Refuse(use, arg, name + " value");

    private static bool TryMs(DirectiveUse use, int arg, string value, string name, Action<long> set) =>
        ConfValues.TryMsec(value, out long ms) ? Take(() => set(ms)) : Refuse(use, arg, name + " value");

    private bool TryLevels(DirectiveUse use, int arg, string value)
    {
        string[] parts = value.Split(':');
        if (parts.Length > 3 || parts.Any(static p => p is not ("1" or "2")))
        {
            return Refuse(use, arg, "\"levels\"");
        }
        Levels = [.. parts.Select(static p => p[0] - '0')];
        return true;
    }

    private bool TryZone(DirectiveUse use, int arg, string value)
    {
        int colon = value.IndexOf(':');
        if (colon <= 0 || !ConfValues.TrySize(value[(colon + 1)..], out long bytes))
        {
            return Refuse(use, arg, "keys zone size");
        }
        if (bytes < 2 * Zone.PageBytes)
        {
            use.Error(arg, $"keys zone \"{value}\" is too small");
            return false;
        }
        ZoneName = value[..colon];
        // The smallest that holds the tables.
        ZoneBytes = Math.Clamp(bytes & ~(Zone.PageBytes - 1L), Zone.SizeBytesMin * 2, Zone.SizeBytesMax);
        return true;
    }
}

/// <summary>All caches of a configuration.</summary>
public sealed class CachePaths
{
    private readonly List<CachePath> _all = [];

    public IReadOnlyList<CachePath> All => _all;

    /// <summary>Adds a cache; false when its family has one of that name.</summary>
    internal bool TryAdd(CachePath path)
    {
        if (Find(path.Family, path.ZoneName) is not null)
        {
            return false;
        }
        _all.Add(path);
        return true;
    }

    internal CachePath? Find(string family, string zone) =>
        _all.Find(p => p.Family == family && p.ZoneName == zone);

    /// <summary>The caches of a built configuration.</summary>
    public static IReadOnlyList<CachePath> Of(HttpConfiguration configuration)
    {
        foreach (object? main in configuration.MainConfs)
        {
            if (main is CachePaths paths)
            {
                return paths.All;
            }
        }
        return [];
    }
}
