// The allocator inside a zone: pages of 4 KiB cut into blocks of one power-of-two size, and runs of whole pages.
// A block is named by its offset in 64-byte units (0 is none) and begins with a tag: 0 while nobody has finished it.
// What is free is decided by each page's own word and bit map alone, written last; lists are conveniences that Rebuild
// makes anew. Call under the zone's lock only. Never grows: a full zone says so.
using System.Numerics;
using System.Runtime.CompilerServices;
using Weir.Kernel;

namespace Weir.Zones;

/// <summary>The allocator's heads in page 0.</summary>
internal struct SlabHeader
{
    public int PageCount;
    public int FirstPage;
    public int FreeHead;
    public int FreePages;
    public SlabHeads Partial;
}

[InlineArray(8)]
internal struct SlabHeads
{
    private int _first;
}

/// <summary>
/// One page: which blocks are used, its neighbours in a list, its class and (for a run) how many pages.
/// </summary>
internal struct PageInfo
{
    public ulong Used;
    public int Next;
    public int Previous;
    public uint ClassAndRun;
    private readonly uint _padding;
}

/// <summary>Blocks and runs of pages in a zone.</summary>
public sealed class ZoneSlab
{
    /// <summary>The unit of block names, and the smallest block.</summary>
    public const int UnitBytes = 64;

    public const int BlockBytesMax = 2048;

    /// <summary>The tag of a block that a repair must keep although no table links it.</summary>
    public const uint PermanentTag = uint.MaxValue;

    private const int InfoBytes = 24;
    private const int Free = 0, LargestClass = 6, Run = 7, Continuation = 8;

    private readonly Zone _zone;

    internal ZoneSlab(Zone zone) => _zone = zone;

    /// <summary>Pages that hold nothing.</summary>
    public int FreePages => Header.FreePages;

    private ref SlabHeader Header => ref _zone.Header.Slab;

    /// <summary>A block of at least this many bytes (zero-filled, tag 0), or 0 when the zone is full.</summary>
    public uint Allocate(int bytes)
    {
        if (bytes > BlockBytesMax)
        {
            return AllocateRun((bytes + Zone.PageBytes - 1) / Zone.PageBytes);
        }
        int c = ClassOf(bytes);
        int page = Header.Partial[c];
        if (page == 0)
        {
            page = TakeFreePage();
            if (page == 0)
            {
                return 0;
            }
            ref PageInfo fresh = ref Info(page);
            fresh.Used = 0;
            _zone.Wrote();
            Volatile.Write(ref fresh.ClassAndRun, (uint)c);
            _zone.Wrote();
            Push(ref Header.Partial[c], page);
        }
        ref PageInfo info = ref Info(page);
        int bit = BitOperations.TrailingZeroCount(~info.Used);
        int blockBytes = UnitBytes << (c - 1);
        long offset = ((long)page * Zone.PageBytes) + ((long)bit * blockBytes);
        _zone.Bytes(offset, blockBytes).Clear();
        _zone.WroteMany();
        Volatile.Write(ref info.Used, info.Used | (1ul << bit));
        _zone.Wrote();
        if (info.Used == FullMask(c))
        {
            Remove(ref Header.Partial[c], page);
        }
        return (uint)(offset / UnitBytes);
    }

    /// <summary>Gives a block back.</summary>
    public void Release(uint block)
    {
        long offset = (long)block * UnitBytes;
        int page = (int)(offset / Zone.PageBytes);
        ref PageInfo info = ref Info(page);
        int c = (int)(info.ClassAndRun & 0xf);
        Tag(block) = 0;
        _zone.Wrote();
        if (c == Run)
        {
            ReleaseRun(page, (int)(info.ClassAndRun >> 4));
            return;
        }
        if (c is < 1 or > LargestClass)
        {
            throw new InvalidOperationException("a block is released that was not allocated");
        }
        bool wasFull = info.Used == FullMask(c);
        int bit = (int)(offset % Zone.PageBytes) / (UnitBytes << (c - 1));
        Volatile.Write(ref info.Used, info.Used & ~(1ul << bit));
        _zone.Wrote();
        if (wasFull)
        {
            Push(ref Header.Partial[c], page);
        }
        if (info.Used == 0)
        {
            Remove(ref Header.Partial[c], page);
            Volatile.Write(ref info.ClassAndRun, Free);
            _zone.Wrote();
            PushFree(page);
        }
    }

    /// <summary>Who finished this block; 0 is nobody, and a repair takes it back.</summary>
    public ref uint Tag(uint block) => ref _zone.At<uint>((long)block * UnitBytes);

    /// <summary>The bytes behind a block's tag and up to its end are the caller's.</summary>
    public int SizeOf(uint block)
    {
        uint word = Info((int)((long)block * UnitBytes / Zone.PageBytes)).ClassAndRun;
        int c = (int)(word & 0xf);
        return c == Run ? (int)(word >> 4) * Zone.PageBytes : UnitBytes << (c - 1);
    }

    /// <summary>Divides a fresh zone into page table and pages.</summary>
    internal void Format()
    {
        int pages = _zone.SizeBytes / Zone.PageBytes;
        Header.PageCount = pages;
        Header.FirstPage = 1 + (((pages * InfoBytes) + Zone.PageBytes - 1) / Zone.PageBytes);
        Rebuild();
    }

    /// <summary>Every block that is complete (tag not 0), in no order.</summary>
    internal void CollectTagged(List<uint> blocks)
    {
        for (int page = Header.FirstPage; page < Header.PageCount; page++)
        {
            ref PageInfo info = ref Info(page);
            int c = (int)(info.ClassAndRun & 0xf);
            if (c == Run)
            {
                AddIfTagged((uint)((long)page * Zone.PageBytes / UnitBytes));
            }
            else if (c is >= 1 and <= LargestClass)
            {
                for (ulong left = info.Used; left != 0; left &= left - 1)
                {
                    long offset = ((long)page * Zone.PageBytes)
                        + ((long)BitOperations.TrailingZeroCount(left) * (UnitBytes << (c - 1)));
                    AddIfTagged((uint)(offset / UnitBytes));
                }
            }
        }

        void AddIfTagged(uint block)
        {
            if (Tag(block) != 0)
            {
                blocks.Add(block);
            }
        }
    }

    /// <summary>Frees what was never finished and makes all lists anew.</summary>
    internal void Rebuild()
    {
        ref SlabHeader header = ref Header;
        header.FreeHead = 0;
        header.FreePages = 0;
        _zone.Wrote();
        for (int c = 0; c <= LargestClass; c++)
        {
            header.Partial[c] = 0;
            _zone.Wrote();
        }
        int inRun = 0;
        for (int page = header.FirstPage; page < header.PageCount; page++)
        {
            ref PageInfo info = ref Info(page);
            int c = (int)(info.ClassAndRun & 0xf);
            info.Next = info.Previous = 0;
            _zone.Wrote();
            if (inRun > 0)
            {
                info.ClassAndRun = Continuation;
                _zone.Wrote();
                inRun--;
                continue;
            }
            uint firstBlock = (uint)((long)page * Zone.PageBytes / UnitBytes);
            if (c == Run && Tag(firstBlock) != 0)
            {
                inRun = (int)(info.ClassAndRun >> 4) - 1;
                continue;
            }
            if (c is >= 1 and <= LargestClass)
            {
                for (ulong left = info.Used; left != 0; left &= left - 1)
                {
                    int bit = BitOperations.TrailingZeroCount(left);
                    if (Tag(firstBlock + (uint)(bit << (c - 1))) == 0)
                    {
                        info.Used &= ~(1ul << bit);
                        _zone.Wrote();
                    }
                }
                if (info.Used != 0)
                {
                    if (info.Used != FullMask(c))
                    {
                        Push(ref header.Partial[c], page);
                    }
                    continue;
                }
            }
            info.ClassAndRun = Free;
            _zone.Wrote();
            info.Used = 0;
            _zone.Wrote();
        }
        for (int page = header.PageCount - 1; page >= header.FirstPage; page--)
        {
            if (Info(page).ClassAndRun == Free)
            {
                PushFree(page);
            }
        }
    }

    private static int ClassOf(int bytes) =>
        bytes <= UnitBytes ? 1 : BitOperations.Log2((uint)bytes - 1) - BitOperations.Log2(UnitBytes) + 2;

    private static ulong FullMask(int c)
    {
        int blocks = Zone.PageBytes / (UnitBytes << (c - 1));
        return blocks == 64 ? ulong.MaxValue : (1ul << blocks) - 1;
    }

    private uint AllocateRun(int pages)
    {
        int length = 0;
        for (int page = Header.FirstPage; page < Header.PageCount; page++)
        {
            length = Info(page).ClassAndRun == Free ? length + 1 : 0;
            if (length < pages)
            {
                continue;
            }
            int first = page - pages + 1;
            _zone.Bytes((long)first * Zone.PageBytes, pages * Zone.PageBytes).Clear();
            _zone.WroteMany();
            // The head is written last: until then a repair sees continuations without a head, which are free.
            for (int i = pages - 1; i >= 0; i--)
            {
                RemoveFree(first + i);
                Volatile.Write(
                    ref Info(first + i).ClassAndRun, i == 0 ? ((uint)pages << 4) | Run : Continuation);
                _zone.Wrote();
            }
            return (uint)((long)first * Zone.PageBytes / UnitBytes);
        }
        return 0;
    }

    private void ReleaseRun(int first, int pages)
    {
        for (int i = 0; i < pages; i++)
        {
            Volatile.Write(ref Info(first + i).ClassAndRun, Free);
            _zone.Wrote();
            PushFree(first + i);
        }
    }

    private int TakeFreePage()
    {
        int page = Header.FreeHead;
        if (page != 0)
        {
            RemoveFree(page);
        }
        return page;
    }

    private void PushFree(int page)
    {
        Push(ref Header.FreeHead, page);
        Header.FreePages++;
        _zone.Wrote();
    }

    private void RemoveFree(int page)
    {
        Remove(ref Header.FreeHead, page);
        Header.FreePages--;
        _zone.Wrote();
    }

    private void Push(ref int head, int page)
    {
        ref PageInfo info = ref Info(page);
        info.Previous = 0;
        info.Next = head;
        _zone.Wrote();
        if (head != 0)
        {
            Info(head).Previous = page;
            _zone.Wrote();
        }
        head = page;
        _zone.Wrote();
    }

    private void Remove(ref int head, int page)
    {
        ref PageInfo info = ref Info(page);
        if (info.Previous != 0)
        {
            Info(info.Previous).Next = info.Next;
            _zone.Wrote();
        }
        else
        {
            head = info.Next;
            _zone.Wrote();
        }
        if (info.Next != 0)
        {
            Info(info.Next).Previous = info.Previous;
            _zone.Wrote();
        }
        info.Next = info.Previous = 0;
        _zone.Wrote();
    }

    private ref PageInfo Info(int page) => ref _zone.At<PageInfo>(Zone.PageBytes + ((long)page * InfoBytes));
}
