// Memory of one session or request: a bump allocator over pooled slabs. Everything in it dies at once when the request
// ends; slices of it must not be kept longer. One loop's thread.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Session;

/// <summary>Bump-allocated memory of one request.</summary>
public sealed class Arena
{
    private const int FirstBytes = 4096;

    private BufferPool? _pool;
    private BufferSlab[] _slabs = new BufferSlab[4];
    private int _count;
    private NativeSlice _rest;

    /// <summary>Binds the arena to the pool of its loop; memory is rented with the first allocation.</summary>
    public void Start(BufferPool pool)
    {
        if (_pool != pool)
        {
            _pool = pool;
        }
    }

    /// <summary>Memory that is not cleared.</summary>
    public NativeSlice Allocate(int length)
    {
        if (length > _rest.Length)
        {
            Grow(length);
        }
        NativeSlice slice = _rest.Slice(0, length);
        int step = Math.Min((length + 7) & ~7, _rest.Length);
        _rest = _rest.Slice(step);
        return slice;
    }

    public NativeSlice Store(ReadOnlySpan<byte> bytes)
    {
        NativeSlice slice = Allocate(bytes.Length);
        bytes.CopyTo(slice.Span);
        return slice;
    }

    /// <summary>Stores two texts one behind the other.</summary>
    public NativeSlice Concat(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b)
    {
        NativeSlice slice = Allocate(a.Length + b.Length);
        a.CopyTo(slice.Span);
        b.CopyTo(slice.Span[a.Length..]);
        return slice;
    }

    public NativeSlice StoreNumber(long value)
    {
        Span<byte> digits = stackalloc byte[20];
        System.Buffers.Text.Utf8Formatter.TryFormat(value, digits, out int n);
        return Store(digits[..n]);
    }

    /// <summary>A copy with a NUL behind it, for system calls; the NUL is not counted.</summary>
    public NativeSlice StorePath(ReadOnlySpan<byte> path)
    {
        NativeSlice slice = Allocate(path.Length + 1);
        path.CopyTo(slice.Span);
        slice.Span[path.Length] = 0;
        return slice.Slice(0, path.Length);
    }

    /// <summary>Gives everything back, or (with <paramref name="keepsFirst"/>) all but the first slab, which is free
    /// again.</summary>
    public void Reset(bool keepsFirst = false)
    {
        int kept = keepsFirst && _count > 0 ? 1 : 0;
        for (int i = kept; i < _count; i++)
        {
            // The stale reference stays: the pool's next slab is most often the same one.
            _slabs[i].Release();
        }
        _count = kept;
        _rest = kept > 0 ? _slabs[0].Memory : default;
    }

    private void Grow(int length)
    {
        BufferSlab slab = _pool!.Rent(Math.Max(length + 8, _count == 0 ? FirstBytes : BufferPool.StandardSize));
        if (_count == _slabs.Length)
        {
            Array.Resize(ref _slabs, _count * 2);
        }
        ref BufferSlab place = ref _slabs[_count++];
        if (place != slab)
        {
            place = slab;
        }
        _rest = slab.Memory;
    }
}
