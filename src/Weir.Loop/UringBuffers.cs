// The buffers that the kernel receives into, shared by all streams of a loop: a ring of slabs from which the kernel
// takes one when bytes have come. A taken slab goes to the stream and a fresh one takes its place, so that only streams
// with bytes in hand hold memory. Small at first; doubled when the kernel ran out, halved when little of it was used
// for a while. One loop's thread; slabs in the ring belong to the kernel until a completion names them.
using System.Runtime.InteropServices;
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

internal sealed unsafe class UringBuffers
{
    internal const int BufferBytes = 8192;
    internal const ushort Group = 1;
    private const int EntriesMax = 1024;
    private const int EntryBytes = 16;
    private const long ReviewMs = 10_000;

    private readonly BufferPool _pool;
    private readonly BufferSlab?[] _slabs = new BufferSlab?[EntriesMax];
    private readonly ushort[] _vacant = new ushort[EntriesMax];
    private readonly byte* _ring;
    private int _vacantCount;
    private ushort _tail;
    private ushort _published;
    private bool _grewInTurn;
    private bool _isMissing;
    private int _takenInTurn;
    private int _takenMost;
    private long _reviewMs;
    private readonly int _first;

    internal UringBuffers(BufferPool pool, int firstCount)
    {
        _pool = pool;
        _first = firstCount;
        Wanted = firstCount;
        _ring = (byte*)NativeMemory.AlignedAlloc(EntriesMax * EntryBytes, (nuint)Environment.SystemPageSize);
        NativeMemory.Clear(_ring, EntriesMax * EntryBytes);
        for (int id = EntriesMax - 1; id >= 0; id--)
        {
            _vacant[_vacantCount++] = (ushort)id;
        }
        Fill();
        Publish(0);
    }

    /// <summary>How many buffers the kernel should have at hand.</summary>
    internal int Wanted { get; private set; }

    /// <summary>How many it has, or will have with the next <see cref="Publish"/>.</summary>
    internal int Count => EntriesMax - _vacantCount;

    /// <summary>How often the kernel found none.</summary>
    internal long StarvedCount { get; private set; }

    internal SysResult Register(IoUring ring) => ring.RegisterBuffers(_ring, EntriesMax, Group);

    /// <summary>The slab that the kernel filled; the caller gets its reference. Another one takes its place.</summary>
    internal BufferSlab Take(int id, int filled)
    {
        BufferSlab slab = _slabs[id]!;
        _pool.TakeBack(slab);
        slab.Filled = filled;
        _takenInTurn++;
        _slabs[id] = null;
        if (Count > Wanted)
        {
            _vacant[_vacantCount++] = (ushort)id;
        }
        else
        {
            Put(id);
        }
        return slab;
    }

    /// <summary>A stream found the ring empty: more are needed at once than there are. However many found it so in
    /// one turn, it is doubled once: they ask again.</summary>
    internal void Starved()
    {
        StarvedCount++;
        if (!_grewInTurn && Count >= Wanted && Wanted < EntriesMax)
        {
            _grewInTurn = true;
            Wanted = Math.Min(Wanted * 2, EntriesMax);
        }
        Fill();
    }

    /// <summary>The loop has nothing to do: a ring that grew is exchanged for a small one. What is armed finds the new
    /// one by its group.</summary>
    internal void Renew(IoUring ring)
    {
        if (Count <= _first * 2 || ring.Ready > 0 || ring.UnregisterBuffers(Group).IsError)
        {
            return;
        }
        ReleaseAll();
        NativeMemory.Clear(_ring, EntriesMax * EntryBytes);
        _tail = 0;
        _published = 0;
        Wanted = _first;
        Fill();
        _isMissing = Register(ring).IsError;
        Publish(0);
    }

    /// <summary>The kernel had no memory for the new ring: until it has, every receive says that it found
    /// none.</summary>
    internal void RegisterIfMissing(IoUring ring)
    {
        if (_isMissing)
        {
            _isMissing = Register(ring).IsError;
        }
    }

    private void Fill()
    {
        while (Count < Wanted)
        {
            Put(_vacant[--_vacantCount]);
        }
    }

    private void Put(int id)
    {
        BufferSlab slab = _pool.Rent(BufferBytes);
        _pool.Lend(slab);
        _slabs[id] = slab;
        // The tail lies in the last field of the first description, so that field is never written here.
        byte* at = _ring + (_tail++ & (EntriesMax - 1)) * EntryBytes;
        *(ulong*)at = (ulong)slab.Pointer;
        *(uint*)(at + 8) = BufferBytes;
        *(ushort*)(at + 12) = (ushort)id;
    }

    /// <summary>Shows the kernel what was put in since the last time. Once a turn, before the wait.</summary>
    internal void Publish(long nowMs)
    {
        if (_tail != _published)
        {
            _published = _tail;
            Volatile.Write(ref *(ushort*)(_ring + 14), _tail);
        }
        _takenMost = Math.Max(_takenMost, _takenInTurn);
        _takenInTurn = 0;
        _grewInTurn = false;
        if (nowMs >= _reviewMs)
        {
            _reviewMs = nowMs + ReviewMs;
            if (Wanted > _first && _takenMost < Wanted / 4)
            {
                // The surplus leaves as it is used.
                Wanted /= 2;
            }
            _takenMost = 0;
        }
    }

    /// <summary>The kernel is done with the ring: all of it is ours again.</summary>
    internal void Free()
    {
        ReleaseAll();
        NativeMemory.AlignedFree(_ring);
    }

    private void ReleaseAll()
    {
        _vacantCount = 0;
        for (int id = EntriesMax - 1; id >= 0; id--)
        {
            _vacant[_vacantCount++] = (ushort)id;
            if (_slabs[id] is { } slab)
            {
                _slabs[id] = null;
                _pool.TakeBack(slab);
                slab.Release();
            }
        }
    }
}
