// What one worker keeps of a cache in memory: small responses whole, of larger ones the head and the open file. A hit
// asks the index for the number in force and serves from here when it is the same, so another worker's newer file is
// noticed at the next request. Bounded by the cache's memory= and by a number of open files; what is not used for a
// while goes. One loop's thread.
using Weir.Kernel;
using Weir.Loop;
using Weir.Zones;

namespace Weir.Http.Cache;

/// <summary>Responses of one cache in one worker's memory.</summary>
internal sealed class CacheMemory(EventLoop loop)
{
    /// <summary>Larger files are not kept in memory but open.</summary>
    internal const int WholeBytesMax = 64 * 1024;
    private const int FilesMax = 256;
    private const long IdleMs = 10_000;

    private readonly Dictionary<CacheKey, StoredResponse> _byKey = [];
    private StoredResponse? _newest;
    private StoredResponse? _oldest;
    private CallbackTimer? _sweep;

    internal long Bytes { get; private set; }
    internal int Files { get; private set; }

    /// <summary>The response of this number, or null.</summary>
    internal StoredResponse? Find(CacheKey key, ulong id)
    {
        if (!_byKey.TryGetValue(key, out StoredResponse? found))
        {
            return null;
        }
        if (found.Head.Id != id)
        {
            Drop(found);
            return null;
        }
        found.UsedMs = loop.NowMs;
        if (_newest != found)
        {
            Unlink(found);
            LinkFirst(found);
        }
        return found;
    }

    /// <summary>Keeps a response, in place of what was kept under its key.</summary>
    internal void Keep(StoredResponse response, long bytesMax)
    {
        if (_byKey.TryGetValue(response.Key, out StoredResponse? before))
        {
            Drop(before);
        }
        if (bytesMax < response.MemoryBytes)
        {
            return;
        }
        response.AddReference();
        response.IsKept = true;
        response.UsedMs = loop.NowMs;
        _byKey.Add(response.Key, response);
        LinkFirst(response);
        Bytes += response.MemoryBytes;
        Files += response.File is null ? 0 : 1;
        while (_oldest is { } last && last != response && (Bytes > bytesMax || Files > FilesMax))
        {
            Drop(last);
        }
        _sweep ??= new CallbackTimer(Sweep);
        if (!_sweep.IsSet)
        {
            loop.Timers.Set(_sweep, loop.NowMs + IdleMs);
        }
    }

    internal void Forget(CacheKey key)
    {
        if (_byKey.TryGetValue(key, out StoredResponse? found))
        {
            Drop(found);
        }
    }

    private void Drop(StoredResponse response)
    {
        _byKey.Remove(response.Key);
        Unlink(response);
        Bytes -= response.MemoryBytes;
        Files -= response.File is null ? 0 : 1;
        response.IsKept = false;
        response.Release();
    }

    private void Sweep()
    {
        while (_oldest is { } last && loop.NowMs - last.UsedMs >= IdleMs)
        {
            Drop(last);
        }
        if (_oldest is not null)
        {
            loop.Timers.Set(_sweep!, loop.NowMs + IdleMs);
        }
    }

    private void LinkFirst(StoredResponse response)
    {
        response.Newer = null;
        response.Older = _newest;
        if (_newest is not null)
        {
            _newest.Newer = response;
        }
        _newest = response;
        _oldest ??= response;
    }

    private void Unlink(StoredResponse response)
    {
        if (response.Newer is { } newer)
        {
            newer.Older = response.Older;
        }
        else
        {
            _newest = response.Older;
        }
        if (response.Older is { } older)
        {
            older.Newer = response.Newer;
        }
        else
        {
            _oldest = response.Newer;
        }
        response.Newer = response.Older = null;
    }
}

/// <summary>What a loop has of caches: their memory, and who waits for what.</summary>
internal sealed class CacheLoop(EventLoop loop)
{
    private static readonly LoopSlot<CacheLoop> s_slot = new();
    private readonly Dictionary<Zone, CacheMemory> _memories = [];

    internal static CacheLoop Of(EventLoop loop) => loop.Slot(s_slot, static l => new CacheLoop(l));

    internal CacheWaits Waits { get; } = new(loop);

    internal CacheTurns Turns { get; } = new();

    internal CacheMemory MemoryOf(CacheIndex index)
    {
        if (!_memories.TryGetValue(index.Zone, out CacheMemory? memory))
        {
            memory = new CacheMemory(loop);
            _memories.Add(index.Zone, memory);
        }
        return memory;
    }

    private ulong _lastId;

    /// <summary>Numbers for files, in the order in which their answers were asked for: the time, and random bits so
    /// that
    /// no two processes choose the same.</summary>
    internal ulong NewId()
    {
        Span<byte> random = stackalloc byte[4];
        loop.FillRandom(random);
        ulong id = (ulong)loop.UnixMs << CacheIndex.IdTimeShift | BitConverter.ToUInt32(random) >> 12;
        // A clock that was set back begins anew.
        return _lastId = id > _lastId || (_lastId - id) >> CacheIndex.IdTimeShift > 1000 ? id : _lastId + 1;
    }
}
