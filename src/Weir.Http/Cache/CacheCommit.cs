// The end of a fetch: when the file is in its place the index learns of it, a small response goes into this worker's
// memory, the right to fetch is given back and those who wait are woken. Also when nothing came of it. Outlives its
// request; one loop's thread.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http.Cache;

/// <summary>What is known of a file while it is written.</summary>
internal sealed class CacheCommit : ICacheWriterOwner
{
    internal required EventLoop EventLoop { get; init; }
    internal required CachePath Path { get; init; }
    internal required CacheIndex Index { get; init; }
    internal required CacheLoop Loop { get; init; }
    internal required CacheMemory Memory { get; init; }
    internal required CacheKey Key { get; init; }

    /// <summary>The key that others look up for this response; another than <see cref="Key"/> where a response begins
    /// to
    /// vary.</summary>
    internal required CacheKey LookedUp { get; init; }
    internal required CacheKey LockedKey { get; init; }
    internal required long Token { get; init; }
    internal required uint Purges { get; init; }

    /// <summary>The key without what it varies by, and how often it had been forgotten when this was asked
    /// for.</summary>
    internal required CacheKey MainKey { get; init; }
    internal required ushort Forgotten { get; init; }
    internal required Log Log { get; init; }
    internal CacheKey MarkerKey { get; set; }
    internal ulong MarkerId { get; set; }
    internal long MarkerBytes { get; set; }
    internal CacheFileHead Head;
    private bool _announced;

    /// <summary>The answer is complete: who asks for it in this worker waits for the disk.</summary>
    internal void BeginWriting()
    {
        _announced = true;
        Loop.Waits.BeginWriting(Index, LookedUp);
    }

    private bool _hasTurn;

    async LoopTask<bool> ICacheWriterOwner.TurnAsync()
    {
        await Loop.Turns.TakeAsync(Index, MainKey);
        _hasTurn = true;
        // Whoever asked later has a newer answer.
        return !Index.IsOvertaken(Key, Head.Id, EventLoop.UnixMs)
            && (MarkerId == 0 || !Index.IsOvertaken(MarkerKey, MarkerId, EventLoop.UnixMs));
    }

    void ICacheWriterOwner.Written(CacheWriter writer, bool complete)
    {
        long usedSec = EventLoop.NowMs / 1000, unixMs = EventLoop.UnixMs;
        if (complete)
        {
            bool kept = !IsPurged(writer, unixMs, out uint seen) && (MarkerId == 0 || Index.Publish(
                MarkerKey, MarkerId, MarkerBytes, usedSec, seen, MainKey, Forgotten, unixMs, Purges));
            if (kept && Index.Publish(
                Key, Head.Id, Head.FileBytes, usedSec, seen, MainKey, Forgotten, unixMs, Purges))
            {
                KeepSmall(writer);
            }
            else
            {
                CachePurge.Unlink(EventLoop, Path.FileOf(Key));
            }
            if (!kept && MarkerId != 0)
            {
                CachePurge.Unlink(EventLoop, Path.FileOf(MarkerKey));
            }
            DropEvicted();
        }
        else if (writer.Error != Errno.ECANCELED && Log.Enabled(LogLevel.Crit))
        {
            Log.Write(LogLevel.Crit, $"{writer.FailedCall} of cache file \"{writer.Path}\" failed", writer.Error);
        }
        if (_hasTurn)
        {
            Loop.Turns.End(Index, MainKey);
        }
        if (_announced)
        {
            Loop.Waits.EndWriting(Index, LookedUp);
        }
        if (Token != 0)
        {
            Index.Unlock(LockedKey, Token);
        }
        Loop.Waits.Wake(Index, LookedUp);
        if (LockedKey != LookedUp)
        {
            Loop.Waits.Wake(Index, LockedKey);
        }
    }

    /// <summary>Whether a purge since it was asked for means it. Now, not at its first use: the mark may have gone by
    /// then.</summary>
    private bool IsPurged(CacheWriter writer, long unixMs, out uint seen)
    {
        seen = Index.Purges;
        if (seen == Purges)
        {
            return false;
        }
        var texts = new CacheFileTexts(writer.HeadSlab!.Memory, in Head);
        return Index.IsPurged(texts.Key.Span, texts.Tags.Span, Head.StoredMs, unixMs, out seen);
    }

    private void KeepSmall(CacheWriter writer)
    {
        if (writer.SmallBody is not { } body || Head.FileBytes > CacheMemory.WholeBytesMax || Path.MemoryBytes == 0)
        {
            return;
        }
        BufferSlab slab = EventLoop.Buffers.Rent((int)Head.FileBytes);
        writer.HeadSlab!.Span[..Head.BodyStart].CopyTo(slab.Span);
        body.CopyTo(slab.Span.Slice(Head.BodyStart, (int)Head.BodyBytes));
        StoredResponse response = StoredResponse.Make(Key, in Head, slab, hasBody: true, null);
        Memory.Keep(response, Path.MemoryBytes);
        response.Release();
    }

    private void DropEvicted()
    {
        while (Index.TryTakeEvicted(out CacheKey evicted))
        {
            Memory.Forget(evicted);
            CachePurge.Unlink(EventLoop, Path.FileOf(evicted));
        }
    }
}
