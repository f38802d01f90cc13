// Native memory for bytes in flight: slabs of a few fixed sizes, kept in free lists of one loop.
// A slab is rented with one reference; chains that point into it add references; the last Release returns it.
// The pool is capped: what comes back beyond the cap is freed, and Trim gives idle memory to the system.
using System.Runtime.InteropServices;
using Weir.Kernel;

namespace Weir.Loop;

/// <summary>A piece of native memory with a reference count and an owner pool.</summary>
public sealed unsafe class BufferSlab
{
    internal readonly BufferPool Pool;
    internal readonly int ClassIndex;

    /// <summary>For lists of a stream's own.</summary>
    internal BufferSlab? NextFree;

    /// <summary>Bytes that the kernel put into it while it waits for its reader.</summary>
    internal int Filled;
    private int _references;

    internal BufferSlab(BufferPool pool, int classIndex, int size)
    {
        Pool = pool;
        ClassIndex = classIndex;
        Capacity = size;
        Pointer = (byte*)NativeMemory.Alloc((nuint)size);
    }

    internal byte* Pointer { get; private set; }

    public int Capacity { get; }

    /// <summary>All of the slab.</summary>
    public NativeSlice Memory => new(Pointer, Capacity);

    public Span<byte> Span => new(Pointer, Capacity);

    internal void Start() => _references = 1;

    /// <summary>The slab for code that wants managed memory (guests). Valid while a reference is held.</summary>
    public Memory<byte> AsMemory() => (_manager ??= new SlabMemory(this)).Memory;

    private SlabMemory? _manager;

    private sealed class SlabMemory(BufferSlab slab) : System.Buffers.MemoryManager<byte>
    {
        public override Span<byte> GetSpan() => slab.Span;

        public override System.Buffers.MemoryHandle Pin(int elementIndex = 0) => new(slab.Pointer + elementIndex);

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }

    public void AddReference()
    {
        System.Diagnostics.Debug.Assert(_references > 0, "a slab that was given back gained a reference");
        _references++;
    }

    /// <summary>Whether only one holder is left, so that it may write into what is free.</summary>
    public bool IsExclusive => _references == 1;

    public void Release()
    {
        System.Diagnostics.Debug.Assert(_references > 0, "a slab was given back twice");
        if (--_references == 0)
        {
            Pool.Return(this);
        }
    }

    internal void Free()
    {
        NativeMemory.Free(Pointer);
        Pointer = null;
    }
}

/// <summary>Slabs of 1, 4, 8, 16 and 64 KiB of one loop; larger ones are allocated and freed as asked.</summary>
public sealed class BufferPool
{
    /// <summary>The default size of a receive buffer and of a response's tail, bytes.</summary>
    public const int StandardSize = 16 * 1024;

    private static ReadOnlySpan<int> Sizes => [1024, 4096, 8192, 16 * 1024, 64 * 1024];

    /// <summary>The class of slabs that are larger than all sizes.</summary>
    private const int Unkept = 5;
    private const int Standard = 3, Largest = 4;

    // Stacks that keep what was popped: who comes back to the place it left costs no store of a reference.
    private readonly FreeList[] _free = new FreeList[Unkept];

    private struct FreeList
    {
        internal BufferSlab?[]? Items;
        internal int Count;
    }

    /// <summary>Bytes of free slabs that are kept per size at most.</summary>
    public long KeptBytesMaxPerSize { get; init; } = 4 * 1024 * 1024;

    /// <summary>Bytes in use by holders.</summary>
    public long RentedBytes { get; private set; }

    /// <summary>Bytes kept for the next renter.</summary>
    public long FreeBytes { get; private set; }

    /// <summary>Slabs larger than all sizes that were made since the start; each is allocated for its renter.</summary>
    public long LargeCount { get; private set; }

    /// <summary>Rents a slab of at least <paramref name="minimumBytes"/>, with one reference held by the
    /// caller.</summary>
    public BufferSlab Rent(int minimumBytes = StandardSize)
    {
        int index = minimumBytes <= 1024 ? 0 : minimumBytes <= 4096 ? 1 : minimumBytes <= 8192 ? 2
            : minimumBytes <= StandardSize ? Standard : minimumBytes <= 65536 ? Largest : Unkept;
        BufferSlab slab;
        if (index == Unkept)
        {
            slab = new BufferSlab(this, Unkept, minimumBytes);
            LargeCount++;
        }
        else
        {
            ref FreeList free = ref _free[index];
            int count = free.Count - 1;
            if (count >= 0)
            {
                free.Count = count;
                slab = free.Items![count]!;
                FreeBytes -= slab.Capacity;
            }
            else
            {
                slab = new BufferSlab(this, index, Sizes[index]);
            }
        }
        slab.Start();
        RentedBytes += slab.Capacity;
        return slab;
    }

    internal void Return(BufferSlab slab)
    {
        RentedBytes -= slab.Capacity;
        int index = slab.ClassIndex;
        if (index == Unkept || (long)_free[index].Count * slab.Capacity >= KeptBytesMaxPerSize)
        {
            slab.Free();
            return;
        }
        ref FreeList free = ref _free[index];
        BufferSlab?[] items = free.Items ??= new BufferSlab?[16];
        if (free.Count == items.Length)
        {
            Array.Resize(ref items, free.Count * 2);
            free.Items = items;
        }
        ref BufferSlab? place = ref items[free.Count++];
        if (place != slab)
        {
            place = slab;
        }
        FreeBytes += slab.Capacity;
    }

    // Slabs for guests on other threads: a small stock that the loop fills and anybody takes from.

    private const int StockMax = 64;
    private readonly Lock _stockGate = new();
    private readonly Stack<BufferSlab> _stock = new();
    private long _madeOutsideBytes;

    /// <summary>Rents a slab from any thread, of 16 KiB or what is asked if that is more. It is released on the
    /// loop.</summary>
    public BufferSlab RentOutside(int minimumBytes = StandardSize)
    {
        if (minimumBytes <= StandardSize)
        {
            lock (_stockGate)
            {
                if (_stock.TryPop(out BufferSlab? kept))
                {
                    return kept;
                }
            }
            minimumBytes = StandardSize;
        }
        int index = minimumBytes <= StandardSize ? Standard : minimumBytes <= 65536 ? Largest : Unkept;
        var slab = new BufferSlab(this, index, index == Unkept ? minimumBytes : Sizes[index]);
        slab.Start();
        Interlocked.Add(ref _madeOutsideBytes, slab.Capacity);
        return slab;
    }

    /// <summary>On the loop: puts up to <paramref name="count"/> free slabs into the stock for other
    /// threads.</summary>
    public void Stock(int count)
    {
        RentedBytes += Interlocked.Exchange(ref _madeOutsideBytes, 0);
        lock (_stockGate)
        {
            while (count-- > 0 && _stock.Count < StockMax && _free[Standard].Count > 0)
            {
                _stock.Push(Rent());
            }
        }
    }

    /// <summary>A rented slab waits in the kernel's hands for bytes that nobody asked for yet: it counts as lent to the
    /// kernel, not as rented.</summary>
    internal void Lend(BufferSlab slab)
    {
        RentedBytes -= slab.Capacity;
        LentBytes += slab.Capacity;
    }

    /// <summary>The kernel gave a slab back: it is rented again.</summary>
    internal void TakeBack(BufferSlab slab)
    {
        LentBytes -= slab.Capacity;
        RentedBytes += slab.Capacity;
    }

    /// <summary>Bytes of slabs that the kernel receives into, shared by all streams.</summary>
    public long LentBytes { get; private set; }

    /// <summary>Frees all slabs that nobody holds.</summary>
    public void Trim()
    {
        lock (_stockGate)
        {
            while (_stock.TryPop(out BufferSlab? kept))
            {
                kept.Release();
            }
        }
        foreach (ref FreeList free in _free.AsSpan())
        {
            for (int i = 0; i < free.Count; i++)
            {
                free.Items![i]!.Free();
            }
            free = default;
        }
        FreeBytes = 0;
    }
}
