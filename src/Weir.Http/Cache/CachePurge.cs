// Removing what is stored: by key at once, by the beginning of keys or by tag with a mark that every use looks at and
// that the manager carries out on the disk. Marks are written to a file beside the cache, so that they outlive the
// server. One loop's thread; the disk is touched on blocking threads.
using System.Text;
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http.Cache;

internal static class CachePurge
{
    /// <summary>The marks of a cache, one a line: time, kind, text.</summary>
    internal const string MarksName = "purges";

    /// <summary>`cache_purge`: the key's response goes; with an asterisk at the end, all whose keys begin so.</summary>
    internal static async LoopTask<PhaseResult> ByKeyAsync(HttpRequest r, CachePath path, CacheIndex index,
        CacheMemory memory, NativeSlice key)
    {
        if (!key.IsEmpty && key.Span[^1] == '*')
        {
            return await MarkAsync(r, path, index, PurgeKind.Prefix, key.Slice(0, key.Length - 1))
                ? PhaseResult.Answer(204) : PhaseResult.Answer(500);
        }
        CacheKey known = CacheKey.Of(key.Span);
        var unlink = new CacheUnlink();
        unlink.Add(path.FileOf(known));
        memory.Forget(known);
        bool existed = index.Forget(known, 0);
        await r.Loop.Blocking.RunAsync(unlink);
        // Somebody may have found the file on the disk before it went.
        memory.Forget(known);
        index.Forget(known, 0);
        return PhaseResult.Answer(existed || unlink.Removed > 0 ? 204 : 404);
    }

    /// <summary>`cache_purge_tags`: everything that carries one of the tags goes.</summary>
    internal static async LoopTask<PhaseResult> ByTagsAsync(HttpRequest r, CachePath path, CacheIndex index,
        NativeSlice tags)
    {
        int at = 0;
        while (TryTag(tags, ref at, out NativeSlice tag))
        {
            if (!await MarkAsync(r, path, index, PurgeKind.Tag, tag))
            {
                return PhaseResult.Answer(500);
            }
        }
        return PhaseResult.Answer(204);
    }

    private static bool TryTag(NativeSlice tags, ref int at, out NativeSlice tag)
    {
        ReadOnlySpan<byte> rest = tags.Span[at..];
        if (!CacheTags.Next(ref rest, out ReadOnlySpan<byte> word))
        {
            tag = default;
            return false;
        }
        int end = tags.Length - rest.Length;
        tag = tags.Slice(end - word.Length, word.Length);
        at = end;
        return true;
    }

    private static async LoopTask<bool> MarkAsync(HttpRequest r, CachePath path, CacheIndex index, PurgeKind kind,
        NativeSlice text)
    {
        if (text.Length > CacheIndex.MarkBytesMax)
        {
            r.LogError(LogLevel.Error, "the text of a purge is too long");
            return false;
        }
        long nowMs = r.Loop.UnixMs;
        // In memory first: a manager that takes the file aside in between has then carried this one out as well.
        if (index.Mark(kind, text.Span, nowMs) == 0)
        {
            r.LogError(LogLevel.Crit, $"no room for a purge in cache keys zone \"{path.ZoneName}\"");
            return false;
        }
        var write = new WriteMark(path, kind, text.ToString(), nowMs);
        await r.Loop.Blocking.RunAsync(write);
        if (write.Error != 0)
        {
            r.LogError(LogLevel.Crit, $"writing \"{path.Directory}/{MarksName}\" failed", write.Error);
        }
        return true;
    }

    /// <summary>Forgets a key's response and removes its file, without waiting for the disk.</summary>
    internal static void Forget(EventLoop loop, CachePath path, CacheIndex index, CacheMemory memory, CacheKey key)
    {
        memory.Forget(key);
        if (index.Forget(key, 0) || !path.HasBeenLoaded)
        {
            Unlink(loop, path.FileOf(key));
        }
    }

    internal static void Unlink(EventLoop loop, string path)
    {
        var unlink = new CacheUnlink();
        unlink.Add(path);
        loop.Blocking.RunAsync(unlink).Forget();
    }

    // Marks on the disk. `purges` grows; the manager takes it aside before it goes through the files, and removes what
    // it took when it has been through all of them.

    private const string TakenName = "purges.taken";

    /// <summary>Reads the marks that an earlier server left behind, once for all processes. Blocking.</summary>
    internal static void EnsureMarks(CachePath path, CacheIndex index)
    {
        if (index.HasReadMarks)
        {
            return;
        }
        ReadMarks($"{path.Directory}/{TakenName}", index);
        ReadMarks($"{path.Directory}/{MarksName}", index);
        index.HasReadMarks = true;
    }

    private static void ReadMarks(string file, CacheIndex index)
    {
        string[] lines;
        try
        {
            lines = File.ReadAllLines(file, Encoding.Latin1);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // None, or a manager has taken them aside, which has read them before.
            return;
        }
        foreach (string line in lines)
        {
            string[] parts = line.Split(' ', 3);
            if (parts.Length == 3 && long.TryParse(parts[0], out long atMs) && parts[1] is "1" or "2")
            {
                index.Mark(parts[1] == "1" ? PurgeKind.Prefix : PurgeKind.Tag, Encoding.Latin1.GetBytes(parts[2]),
                    atMs);
            }
        }
    }

    /// <summary>False where marks that were taken before are still there.</summary>
    internal static bool TakeMarks(CachePath path)
    {
        if (File.Exists($"{path.Directory}/{TakenName}"))
        {
            return false;
        }
        Descriptors.Rename($"{path.Directory}/{MarksName}", $"{path.Directory}/{TakenName}");
        return true;
    }

    internal static void DropTakenMarks(CachePath path) => Descriptors.Unlink($"{path.Directory}/{TakenName}");

    /// <summary>Reads the marks, off the loop.</summary>
    internal static LoopTask<Unit> EnsureMarksAsync(EventLoop loop, CachePath path, CacheIndex index) =>
        index.HasReadMarks ? default : loop.Blocking.RunAsync(new ReadMarksWork(path, index));

    private sealed class ReadMarksWork(CachePath path, CacheIndex index) : BlockingOperation
    {
        protected override void Work() => EnsureMarks(path, index);
    }

    private sealed class WriteMark(CachePath path, PurgeKind kind, string text, long atMs) : BlockingOperation
    {
        internal int Error { get; private set; }

        protected override void Work()
        {
            SysResult opened = Descriptors.OpenAppend($"{path.Directory}/{MarksName}");
            if (opened.IsError)
            {
                Error = opened.Errno;
                return;
            }
            Error = Descriptors.WriteAll(opened.Int,
                Encoding.Latin1.GetBytes($"{atMs} {(int)kind} {text.Replace('\n', ' ')}\n")).Errno;
            Descriptors.Close(opened.Int);
        }
    }
}
