// Objects of one loop that wait for their next use: a stack with a cap, trimmed when the loop has been idle. One loop's
// thread. What comes back beyond the cap, and what trimming drops, is the collector's.
namespace Weir.Loop;

/// <summary>A pool as the loop and its status see it.</summary>
public abstract class LoopPool
{
    private readonly byte[] _name;

    protected LoopPool(EventLoop loop, string name)
    {
        _name = System.Text.Encoding.UTF8.GetBytes(name);
        loop.Pools.Add(this);
    }

    /// <summary>What it is called in the status.</summary>
    public ReadOnlySpan<byte> Name => _name;

    /// <summary>Objects that wait.</summary>
    public abstract int Count { get; }

    /// <summary>Drops what is more than <paramref name="kept"/>; returns how many that were.</summary>
    protected internal abstract int TrimTo(int kept);
}

/// <summary>Free objects of one kind.</summary>
public sealed class LoopPool<T> : LoopPool where T : class
{
    /// <summary>Objects kept by default, at most.</summary>
    public const int DefaultMax = 4096;

    private readonly EventLoop _loop;
    private readonly int _max;
    private T?[] _items = new T?[16];
    private int _count;

    public LoopPool(EventLoop loop, string name, int max = DefaultMax) : base(loop, name)
    {
        _loop = loop;
        _max = max;
    }

    public override int Count => _count;

    /// <summary>One that waits, or null.</summary>
    public T? TryTake()
    {
        // The place keeps its reference: who comes back to where it was costs no store of one.
        int count = _count - 1;
        if (count < 0)
        {
            return null;
        }
        _count = count;
        return _items[count];
    }

    public void Return(T item)
    {
        int count = _count;
        if (count >= EventLoop.PoolKept)
        {
            if (count >= _max)
            {
                return;
            }
            _loop.TrimLater();
        }
        if (count == _items.Length)
        {
            Array.Resize(ref _items, count * 2);
        }
        ref T? place = ref _items[count];
        if (place != item)
        {
            place = item;
        }
        _count = count + 1;
    }

    /// <summary>Forgets everything.</summary>
    public void Clear() => TrimTo(0);

    protected internal override int TrimTo(int kept)
    {
        int dropped = Math.Max(0, _count - kept);
        _count -= dropped;
        if (_items.Length > Math.Max(16, kept * 2))
        {
            Array.Resize(ref _items, Math.Max(16, kept));
        }
        // Places above what waits may still hold what is in use elsewhere, or was dropped.
        Array.Clear(_items, _count, _items.Length - _count);
        return dropped;
    }
}
