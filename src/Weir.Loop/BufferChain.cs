// A queue of bytes on their way out: slices of memory (in slabs that the chain references, or in memory that outlives
// it) and slices of files. One loop's thread. Every append is matched by Consume, MoveTo or Clear, which give the
// references back. Small appends are copied together into one slab so that many answers leave in one write.
using System.Runtime.CompilerServices;
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>An open file that several chains may hold; the last Release closes it.</summary>
public sealed class FileRef
{
    [ThreadStatic]
    private static Pool? t_pool;

    private const int PageBytes = 4096;

    private FileRef? _next;

    private sealed class Pool : SparePool
    {
        internal FileRef? First;

        protected override void Drop(int kept)
        {
            for (; Count > kept; Count--)
            {
                First = First!._next;
            }
        }
    }

    /// <summary>For so long, milliseconds, what was in the page cache is taken to be there still.</summary>
    internal const int SeenMsMax = 1000;

    private int _references;
    private long _seenFrom, _seenTo;

    /// <summary>Loop milliseconds when <see cref="IsCached"/> last asked the kernel and found what it asked
    /// for.</summary>
    internal long SeenMs { get; private set; }

    public int Fd { get; private set; } = -1;

    /// <summary>Wraps a descriptor; the caller holds the first reference.</summary>
    public static FileRef Own(int fd)
    {
        Pool pool = t_pool ??= new Pool();
        FileRef? file = pool.First;
        if (file is null)
        {
            file = new FileRef();
        }
        else
        {
            pool.First = file._next;
            pool.Count--;
            file._next = null;
        }
        file.Fd = fd;
        file._references = 1;
        file._seenTo = file._seenFrom = 0;
        return file;
    }

    public void AddReference() => _references++;

    /// <summary>Whether sending the range would not wait for a disk: all of it is in the page cache, or the kernel
    /// cannot tell (before Linux 6.5) and reads ahead by itself. What was seen in the last second counts.</summary>
    public bool IsCached(long offset, long length, long nowMs)
    {
        if (offset >= _seenFrom && offset + length <= _seenTo && nowMs - SeenMs < SeenMsMax)
        {
            return true;
        }
        long pages = (offset + length - 1) / PageBytes - offset / PageBytes + 1;
        SysResult cached = Sys.CachedPages(Fd, offset, length);
        if (cached.IsOk && cached.Value < pages)
        {
            return false;
        }
        _seenFrom = offset;
        _seenTo = offset + length;
        SeenMs = nowMs;
        return true;
    }

    public void Release()
    {
        System.Diagnostics.Debug.Assert(_references > 0, "a file was given back twice");
        if (--_references == 0)
        {
            Sys.Close(Fd);
            Fd = -1;
            Pool pool = t_pool ??= new Pool();
            if (pool.Count < SparePool.Max)
            {
                _next = pool.First;
                pool.First = this;
                pool.Count++;
            }
        }
    }
}

/// <summary>One element of a chain: memory, or (when <see cref="File"/> is set) a range of a file.</summary>
public unsafe struct ChainSegment
{
    internal byte* Pointer;
    public long Length;
    public long FileOffset;
    internal BufferSlab? Slab;
    public FileRef? File;

    public readonly NativeSlice Memory => new(Pointer, (int)Length);
    public readonly bool IsFile => File is not null;

    /// <summary>Somebody who counts references holds the bytes; else they are borrowed.</summary>
    public readonly bool IsOwned => Slab is not null || File is not null;

    internal readonly void Release()
    {
        Slab?.Release();
        File?.Release();
    }
}

/// <summary>A first-in first-out chain of memory and file slices.</summary>
public sealed unsafe class BufferChain
{
    private readonly BufferPool _pool;
    private ChainSegment[] _items = new ChainSegment[8];
    private int _head;
    private int _count;

    // The slab that small appends go to; the chain holds a reference of its own while it is set.
    private BufferSlab? _tail;
    private int _tailUsed;

    public BufferChain(BufferPool pool) => _pool = pool;

    /// <summary>Bytes in the chain, memory and files together.</summary>
    public long Length { get; private set; }

    /// <summary>Bytes of the chain that are memory.</summary>
    public long MemoryBytes { get; private set; }

    public int Count => _count;
    public bool IsEmpty => _count == 0;

    /// <summary>How big the slab is that a first small append rents.</summary>
    public int TailSize { get; set; } = DefaultTailSize;

    internal const int DefaultTailSize = 4096;

    public ref ChainSegment this[int index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => ref _items[(_head + index) & (_items.Length - 1)];
    }

    /// <summary>Copies bytes to the end.</summary>
    public void Append(ReadOnlySpan<byte> bytes)
    {
        if (_tail is { } tail && tail.Capacity - _tailUsed >= bytes.Length)
        {
            bytes.CopyTo(new Span<byte>(tail.Pointer + _tailUsed, bytes.Length));
            Advance(bytes.Length);
            return;
        }
        while (bytes.Length > 0)
        {
            Span<byte> space = GetSpan(1);
            int n = Math.Min(space.Length, bytes.Length);
            bytes[..n].CopyTo(space);
            Advance(n);
            bytes = bytes[n..];
        }
    }

    /// <summary>Writable space at the end, at least <paramref name="minimum"/> bytes (at most 64 KiB). What is
    /// written counts after <see cref="Advance"/>.</summary>
    public Span<byte> GetSpan(int minimum)
    {
        if (_tail is null || _tail.Capacity - _tailUsed < minimum)
        {
            _tail?.Release();
            _tail = _pool.Rent(Math.Max(minimum, _count > 0 ? BufferPool.StandardSize : TailSize));
            _tailUsed = 0;
        }
        return new Span<byte>(_tail.Pointer + _tailUsed, _tail.Capacity - _tailUsed);
    }

    /// <summary>The same as <see cref="GetSpan"/>, for writers of native code.</summary>
    public NativeSlice GetSlice(int minimum)
    {
        GetSpan(minimum);
        return new NativeSlice(_tail!.Pointer + _tailUsed, _tail.Capacity - _tailUsed);
    }

    /// <summary>Makes <paramref name="count"/> bytes of the last <see cref="GetSpan"/> part of the chain.</summary>
    public void Advance(int count)
    {
        if (count == 0)
        {
            return;
        }
        BufferSlab tail = _tail!;
        byte* start = tail.Pointer + _tailUsed;
        _tailUsed += count;
        Length += count;
        MemoryBytes += count;
        if (_count > 0)
        {
            ref ChainSegment last = ref this[_count - 1];
            if (last.Pointer + last.Length == start && last.Slab == tail)
            {
                last.Length += count;
                return;
            }
        }
        AddPart(tail, start, count);
    }

    private void AddPart(BufferSlab tail, byte* start, int count)
    {
        tail.AddReference();
        ref ChainSegment added = ref Add();
        added.Pointer = start;
        added.Length = count;
        added.Slab = tail;
    }

    /// <summary>Appends a slice without copying. With an owner the chain takes a reference of its own; without, the
    /// memory must outlive the chain (configuration, constants).</summary>
    public void AppendSlice(NativeSlice slice, BufferSlab? owner)
    {
        if (slice.Length == 0)
        {
            return;
        }
        owner?.AddReference();
        Length += slice.Length;
        MemoryBytes += slice.Length;
        Add() = new ChainSegment { Pointer = slice.Pointer, Length = slice.Length, Slab = owner };
    }

    /// <summary>Appends a range of a file; the chain takes a reference of its own.</summary>
    public void AppendFile(FileRef file, long offset, long length)
    {
        if (length == 0)
        {
            return;
        }
        file.AddReference();
        Length += length;
        Add() = new ChainSegment { File = file, FileOffset = offset, Length = length };
    }

    /// <summary>Appends a segment of another chain, which keeps its own: the bytes are shared.</summary>
    public void AppendShared(ref ChainSegment segment)
    {
        segment.Slab?.AddReference();
        segment.File?.AddReference();
        Take(ref segment);
    }

    /// <summary>Appends a part of another chain, which keeps its own: the bytes are shared.</summary>
    public void AppendRangeOf(BufferChain source, long offset, long length)
    {
        for (int i = 0; i < source._count && length > 0; i++)
        {
            ChainSegment part = source[i];
            if (offset >= part.Length)
            {
                offset -= part.Length;
                continue;
            }
            part.Length = Math.Min(part.Length - offset, length);
            if (part.File is null)
            {
                part.Pointer += offset;
            }
            else
            {
                part.FileOffset += offset;
            }
            offset = 0;
            length -= part.Length;
            AppendShared(ref part);
        }
    }

    /// <summary>Whether a slice belongs to somebody else (an arena, a configuration) who must outlive the
    /// chain.</summary>
    public bool HasBorrowed
    {
        get
        {
            for (int i = 0; i < _count; i++)
            {
                ref ChainSegment item = ref this[i];
                if (item.Slab is null && item.File is null)
                {
                    return true;
                }
            }
            return false;
        }
    }

    /// <summary>Moves everything to the end of another chain.</summary>
    public void MoveTo(BufferChain target) => MoveTo(target, long.MaxValue);

    /// <summary>Moves up to <paramref name="bytes"/> from the front to the end of another chain.</summary>
    public void MoveTo(BufferChain target, long bytes)
    {
        while (bytes > 0 && _count > 0)
        {
            ref ChainSegment first = ref this[0];
            if (first.Length <= bytes)
            {
                bytes -= first.Length;
                target.Take(ref first);
                RemoveFirst(ref first);
            }
            else
            {
                ChainSegment part = first;
                part.Length = bytes;
                part.Slab?.AddReference();
                part.File?.AddReference();
                target.Take(ref part);
                Consume(bytes);
                return;
            }
        }
        if (_count == 0)
        {
            DropTail();
        }
    }

    /// <summary>Moves memory from the front to the end of another chain, where nothing of it is borrowed any more: what
    /// has no slab, and pieces of up to <paramref name="copyBytesMax"/>, are copied. No file is among the
    /// bytes.</summary>
    public void MoveOwned(BufferChain target, int bytes, int copyBytesMax)
    {
        while (bytes > 0)
        {
            ref ChainSegment first = ref this[0];
            int part = (int)Math.Min(bytes, first.Length);
            if (first.Slab is null || part <= copyBytesMax)
            {
                target.Append(new ReadOnlySpan<byte>(first.Pointer, part));
                Consume(part);
            }
            else
            {
                MoveTo(target, part);
            }
            bytes -= part;
        }
    }

    /// <summary>Removes bytes from the front: they were sent.</summary>
    public void Consume(long bytes)
    {
        System.Diagnostics.Debug.Assert(bytes <= Length, "more was sent than there was");
        if (bytes == Length)
        {
            Clear();
            return;
        }
        while (bytes > 0)
        {
            ref ChainSegment first = ref this[0];
            if (first.Length <= bytes)
            {
                bytes -= first.Length;
                first.Release();
                RemoveFirst(ref first);
                continue;
            }
            Length -= bytes;
            first.Length -= bytes;
            if (first.File is null)
            {
                MemoryBytes -= bytes;
                first.Pointer += bytes;
            }
            else
            {
                first.FileOffset += bytes;
            }
            return;
        }
        if (_count == 0)
        {
            DropTail();
        }
    }

    /// <summary>Drops everything.</summary>
    public void Clear()
    {
        while (_count > 0)
        {
            ref ChainSegment first = ref this[0];
            first.Release();
            RemoveFirst(ref first);
        }
        DropTail();
    }

    /// <summary>Copies memory bytes from the front without removing them; stops at a file slice.</summary>
    public int CopyTo(Span<byte> into)
    {
        int copied = 0;
        for (int i = 0; i < _count && copied < into.Length; i++)
        {
            ref ChainSegment item = ref this[i];
            if (item.IsFile)
            {
                break;
            }
            int n = (int)Math.Min(item.Length, into.Length - copied);
            new ReadOnlySpan<byte>(item.Pointer, n).CopyTo(into[copied..]);
            copied += n;
        }
        return copied;
    }

    /// <summary>Collects the memory at the front for a gathered write; how many pieces, of how many bytes. Stops at a
    /// file slice.</summary>
    public int Gather(IoVec* into, int max, out long bytes)
    {
        int n = 0;
        bytes = 0;
        for (; n < max && n < _count; n++)
        {
            ref ChainSegment item = ref this[n];
            if (item.IsFile)
            {
                break;
            }
            into[n].Base = (nint)item.Pointer;
            into[n].Length = (nuint)item.Length;
            bytes += item.Length;
        }
        return n;
    }

    private void Take(ref ChainSegment segment)
    {
        Length += segment.Length;
        if (segment.File is null)
        {
            MemoryBytes += segment.Length;
        }
        Add() = segment;
    }

    private void RemoveFirst(ref ChainSegment first)
    {
        Length -= first.Length;
        if (first.File is null)
        {
            MemoryBytes -= first.Length;
        }
        // What Add hands out is as new but for these.
        first.Slab = null;
        first.File = null;
        first.FileOffset = 0;
        _head = (_head + 1) & (_items.Length - 1);
        _count--;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ref ChainSegment Add()
    {
        if (_count == _items.Length)
        {
            Grow();
        }
        return ref _items[(_head + _count++) & (_items.Length - 1)];
    }

    private void Grow()
    {
        var bigger = new ChainSegment[_items.Length * 2];
        for (int i = 0; i < _count; i++)
        {
            bigger[i] = this[i];
        }
        _items = bigger;
        _head = 0;
    }

    private void DropTail()
    {
        if (_tail is not null)
        {
            _tail.Release();
            _tail = null;
        }
    }
}
