// A shared zone: a memfd that master, workers and cache processes each map at their own address, so everything inside
// is an offset. Page 0 holds the header (magic, layout id, size), the robust lock, the allocator's and the tables'
// heads. Whoever finds the lock's holder dead rebuilds the zone before going on; content of half-made entries is
// dropped. The lock is the one lock a loop may take: hold it for a few hundred instructions, allocate nothing, await
// nothing.
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Weir.Kernel;

namespace Weir.Zones;

/// <summary>
/// A mapped shared zone. Not thread-safe in itself: take <see cref="Lock"/> around every use of its content.
/// </summary>
public sealed class Zone : IDisposable
{
    public const int PageBytes = 4096;

    /// <summary>nginx's smallest zone: eight pages.</summary>
    public const long SizeBytesMin = 8 * PageBytes;

    /// <summary>Offsets are 32 bits of 64-byte units, but a mapping is held as one span.</summary>
    public const long SizeBytesMax = int.MaxValue & ~(PageBytes - 1);

    private const ulong Magic = 0x31454e4f5a524957; // "WIRZONE1"

    private NativeSlice _memory;

    private Zone(ZoneSpec spec, NativeSlice memory, DescriptorIdentity identity)
    {
        Spec = spec;
        _memory = memory;
        Identity = identity;
        Slab = new ZoneSlab(this);
    }

    public ZoneSpec Spec { get; }

    /// <summary>Which memfd this maps; two mappings of one zone compare equal.</summary>
    public DescriptorIdentity Identity { get; }

    public ZoneSlab Slab { get; }

    /// <summary>How often the zone was rebuilt after a holder of its lock had died.</summary>
    public int RepairCount => Header.Repairs;

    /// <summary>Words of the feature that uses the zone; under the lock.</summary>
    public ref ZoneUserWords UserWords => ref Header.User;

    internal ref ZoneHeader Header => ref At<ZoneHeader>(0);

    internal int SizeBytes => _memory.Length;

    /// <summary>Makes a fresh zone; the value is its descriptor, close-on-exec, owned by the caller.</summary>
    public static SysResult Create(ZoneSpec spec)
    {
        if (spec.SizeBytes is < SizeBytesMin or > SizeBytesMax)
        {
            return SysResult.Error(Errno.EINVAL);
        }
        long size = spec.SizeBytes & ~(PageBytes - 1L);
        SysResult fd = SharedMemory.Create("weir:" + spec.Name, size);
        if (fd.IsError)
        {
            return fd;
        }
        SysResult mapped = SharedMemory.Map(fd.Int, (int)size, out NativeSlice memory);
        if (mapped.IsError)
        {
            Descriptors.Close(fd.Int);
            return mapped;
        }
        using (var zone = new Zone(spec, memory, default))
        {
            SysResult mutex = RobustMutex.Initialize(zone.Mutex);
            if (mutex.IsError)
            {
                Descriptors.Close(fd.Int);
                return mutex;
            }
            ref ZoneHeader header = ref zone.Header;
            header.LayoutId = spec.LayoutId;
            header.SizeBytes = size;
            zone.Slab.Format();
            Volatile.Write(ref header.Magic, Magic);
        }
        return fd;
    }

    /// <summary>
    /// Maps a zone. EILSEQ-like refusals are values: EINVAL when the descriptor holds no zone of this layout and size.
    /// The descriptor stays the caller's and may be closed at once.
    /// </summary>
    public static SysResult Map(int fd, ZoneSpec spec, out Zone? zone)
    {
        zone = null;
        long size = SharedMemory.SizeOf(fd);
        if (size < SizeBytesMin || size > SizeBytesMax || size != (spec.SizeBytes & ~(PageBytes - 1L)))
        {
            return SysResult.Error(Errno.EINVAL);
        }
        SysResult mapped = SharedMemory.Map(fd, (int)size, out NativeSlice memory);
        if (mapped.IsError)
        {
            return mapped;
        }
        var candidate = new Zone(spec, memory, Descriptors.Identity(fd));
        ref ZoneHeader header = ref candidate.Header;
        if (Volatile.Read(ref header.Magic) != Magic || header.LayoutId != spec.LayoutId || header.SizeBytes != size)
        {
            candidate.Dispose();
            return SysResult.Error(Errno.EINVAL);
        }
        zone = candidate;
        return default;
    }

    /// <summary>A zone of this process alone (a library program, a test).</summary>
    public static Zone CreatePrivate(ZoneSpec spec)
    {
        SysResult fd = Create(spec);
        Zone? zone = null;
        SysResult mapped = fd.IsOk ? Map(fd.Int, spec, out zone) : fd;
        if (fd.IsOk)
        {
            Descriptors.Close(fd.Int);
        }
        return zone ?? throw new InvalidOperationException($"zone \"{spec.Name}\" cannot be made {mapped}");
    }

    /// <summary>Takes the lock, repairing first when its last holder died. Dispose gives it back.</summary>
    public ZoneLock Lock()
    {
        switch (RobustMutex.Lock(Mutex))
        {
            case LockOutcome.Taken:
                Audit();
                break;
            case LockOutcome.TakenFromDead:
                Audit();
                Repair();
                RobustMutex.MarkRepaired(Mutex);
                break;
            default:
                throw new InvalidOperationException($"the lock of zone \"{Spec.Name}\" is beyond repair");
        }
        return new ZoneLock(this);
    }

    /// <summary>A reference into the zone; an offset out of it throws instead of touching foreign memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public ref T At<T>(long offset)
        where T : unmanaged =>
        ref MemoryMarshal.AsRef<T>(_memory.Span.Slice((int)offset, Unsafe.SizeOf<T>()));

    /// <summary>Bytes of the zone.</summary>
    public Span<byte> Bytes(long offset, int length) => _memory.Span.Slice((int)offset, length);

    /// <summary>Rebuilds lists, chains and free pages from what was completely written.</summary>
    internal void Repair()
    {
        Header.Repairs++;
        Wrote();
        for (int i = 0; i < ZoneHeader.TablesMax; i++)
        {
            SharedTable.Unlink(this, i);
            Wrote();
        }
        var blocks = new List<uint>();
        Slab.CollectTagged(blocks);
        foreach (uint block in blocks)
        {
            if (Slab.Tag(block) == ZoneSlab.PermanentTag && !SharedTable.IsBuckets(this, block))
            {
                Slab.Tag(block) = 0;
                Wrote();
            }
        }
        Slab.Rebuild();
    }

    public void Dispose()
    {
        if (!_memory.IsEmpty)
        {
            SharedMemory.Unmap(_memory);
            _memory = default;
        }
    }

    internal void Unlock()
    {
#if DEBUG
        if (Faults.IsDead)
        {
            return;
        }
        UnmarkedWriteException? unmarked = Faults.End(_memory.Span);
        RobustMutex.Unlock(Mutex);
        if (unmarked is not null)
        {
            throw unmarked;
        }
#else
        RobustMutex.Unlock(Mutex);
#endif
    }

#if DEBUG
    private int _writesOfHolder;

    /// <summary>The most writes that one holder of the lock made: what others may have had to wait for.</summary>
    internal int MostWritesOfHolder { get; set; }

    /// <summary>Where a holder of the lock may be made to die. In debug builds only.</summary>
    internal FaultPoints Faults => field ??=
        new FaultPoints(Spec.Name, (ZoneHeader.MutexOffset, RobustMutex.SizeBytes));
#endif

    [Conditional("DEBUG")]
    private void Audit()
    {
#if DEBUG
        _writesOfHolder = 0;
        Faults.Begin(_memory.Span);
#endif
    }

    /// <summary>Stands behind every write that a killed holder could have been the last to make: one aligned word of
    /// eight bytes.</summary>
    [Conditional("DEBUG")]
    public void Wrote([CallerFilePath] string file = "", [CallerLineNumber] int line = 0)
    {
#if DEBUG
        MostWritesOfHolder = Math.Max(MostWritesOfHolder, ++_writesOfHolder);
        Faults.Point(_memory.Span, many: false, file, line);
#endif
    }

    /// <summary>Stands behind many writes at once, of which a killed holder may have made any: nobody looks at them
    /// before a word that is written later, or ever again after a repair.</summary>
    [Conditional("DEBUG")]
    public void WroteMany([CallerFilePath] string file = "", [CallerLineNumber] int line = 0)
    {
#if DEBUG
        MostWritesOfHolder = Math.Max(MostWritesOfHolder, ++_writesOfHolder);
        Faults.Point(_memory.Span, many: true, file, line);
#endif
    }

    private NativeSlice Mutex => _memory.Slice(ZoneHeader.MutexOffset, RobustMutex.SizeBytes);
}

/// <summary>A zone's lock being held; dispose it in the method that took it. The default holds none.</summary>
public readonly ref struct ZoneLock
{
    private readonly Zone? _zone;

    internal ZoneLock(Zone zone) => _zone = zone;

    public void Dispose() => _zone?.Unlock();
}

/// <summary>Words for whoever lays out a zone's content: how it did, and what it has taken account of.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct ZoneUserWords
{
    public long Layout;
    public long SeenDepartures;
    public long SeenRepairs;
}

/// <summary>Page 0 of a zone.</summary>
[StructLayout(LayoutKind.Explicit, Size = Zone.PageBytes)]
internal struct ZoneHeader
{
    public const int MutexOffset = 64;
    public const int TablesOffset = 512;
    public const int TablesMax = 8;

    [FieldOffset(0)]
    public ulong Magic;

    [FieldOffset(8)]
    public ulong LayoutId;

    [FieldOffset(16)]
    public long SizeBytes;

    [FieldOffset(24)]
    public int Repairs;

    /// <summary>The last stamp given out: entries are ordered by it.</summary>
    [FieldOffset(32)]
    public ulong Stamp;

    /// <summary>Whoever lays out the zone's content keeps these.</summary>
    [FieldOffset(40)]
    public ZoneUserWords User;

    [FieldOffset(128)]
    public SlabHeader Slab;
}
