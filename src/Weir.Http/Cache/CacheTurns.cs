// Files of one resource go into their places one after the other: each commit of this loop takes a turn before its
// last write and ends it when the index knows of the file, so that file and index cannot come to be of different
// answers. Between workers the numbers of files decide (CacheIndex.Publish). One loop's thread; nobody waits who is
// alone.
using Weir.Loop;

namespace Weir.Http.Cache;

/// <summary>Whose turn it is, by resource.</summary>
internal sealed class CacheTurns
{
    private readonly Queue<Turn> _nobody = new();
    private readonly Dictionary<(CacheIndex, CacheKey), Queue<Turn>> _taken = [];

    private sealed class Turn : LoopOperation<Unit>;

    /// <summary>Waits until nobody else is putting a file of this resource into its place.</summary>
    internal LoopTask<Unit> TakeAsync(CacheIndex index, CacheKey key)
    {
        if (_taken.TryAdd((index, key), _nobody))
        {
            return default;
        }
        Queue<Turn> waiting = _taken[(index, key)];
        if (waiting == _nobody)
        {
            _taken[(index, key)] = waiting = new Queue<Turn>();
        }
        var turn = new Turn();
        waiting.Enqueue(turn);
        return turn.Begin();
    }

    internal void End(CacheIndex index, CacheKey key)
    {
        if (_taken[(index, key)] is { Count: > 0 } waiting)
        {
            waiting.Dequeue().SetResult(default);
        }
        else
        {
            _taken.Remove((index, key));
        }
    }
}
