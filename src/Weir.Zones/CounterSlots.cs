// The status counters of all workers: one page-aligned table with a slot of two cache lines per worker, written by that
// worker alone, without a lock. Slot 0 is the master's: totals of slots whose owner is gone. The master folds a dead
// worker's totals into it between two steps of a sequence word, so a sum never counts twice and never goes backwards;
// what it is about to write is in a journal first, from which sums and the next master go on when it is killed.
// Who may call what: a worker adds to its own slot; the master claims and releases; anybody sums.
using System.Diagnostics;
using System.Runtime.CompilerServices;
using Weir.Kernel;

namespace Weir.Zones;

/// <summary>What is counted. The first three only grow; the others are gauges.</summary>
public enum StatusCounter
{
    Accepted,
    Handled,
    Requests,
    Active,
    Reading,
    Writing,
    Waiting,
    Spare0,
    Spare1,
    Spare2,
    Spare3,
}

/// <summary>The table of counter slots in shared memory.</summary>
public sealed class CounterSlots : IDisposable
{
    /// <summary>The zone's name in a snapshot.</summary>
    public const string ZoneName = "weir:counters";

    /// <summary>Counters that are totals (the rest are gauges and vanish with their owner).</summary>
    public const int TotalsCount = 3;

    public const int CountersPerSlot = 11;

    /// <summary>Workers alive at the same time, old generations of a reload included.</summary>
    public const int SlotsMax = 1023;

    private const int SlotBytes = 128, LifeOffset = 112, OwnerOffset = 120, HeaderBytes = 256, GateOffset = 128;
    private const int RegistryOffset = 192, MasterOffset = 96;

    // Whose a slot is: nobody's, a worker's, that of somebody who does not serve, or of a worker whose master is gone.
    private const long Free = 0, Serves = 1, Assists = 2, Abandoned = 3;
    private const int DeparturesOffset = 80, UsedOffset = 88;

    // The journal: whose totals are being folded (0 for nobody), and what slot 0's totals will be.
    private const int FoldedOffset = 8, FoldedTotalsOffset = 16;
    private const long TableBytes = HeaderBytes + ((SlotsMax + 1L) * SlotBytes);
    private const long Magic = 0x34544e5543524957; // "WIRCUNT4"

    private NativeSlice _memory;

    private CounterSlots(NativeSlice memory) => _memory = memory;

    /// <summary>The specification under which the table travels in a snapshot.</summary>
    public static ZoneSpec Spec { get; } = new(ZoneName, (TableBytes + 4095) & ~4095L, Magic);

    /// <summary>Makes the table; the value is its descriptor, owned by the caller.</summary>
    public static SysResult Create()
    {
        SysResult fd = SharedMemory.Create(ZoneName, Spec.SizeBytes);
        if (fd.IsError)
        {
            return fd;
        }
        SysResult mapped = SharedMemory.Map(fd.Int, (int)Spec.SizeBytes, out NativeSlice memory);
        if (mapped.IsError)
        {
            Descriptors.Close(fd.Int);
            return mapped;
        }
        BitConverter.TryWriteBytes(memory.Span, Magic);
        BitConverter.TryWriteBytes(memory.Span[72..], Weir.Kernel.Net.Sys.UnixMs());
        SysResult mutex = RobustMutex.Initialize(memory.Slice(GateOffset, RobustMutex.SizeBytes));
        if (mutex.IsOk)
        {
            mutex = RobustMutex.Initialize(memory.Slice(RegistryOffset, RobustMutex.SizeBytes));
        }
        SharedMemory.Unmap(memory);
        if (mutex.IsError)
        {
            Descriptors.Close(fd.Int);
            return mutex;
        }
        return fd;
    }

    /// <summary>A robust mutex for whoever accepts connections: nginx's accept_mutex. The kernel frees it when its
    /// holder dies.</summary>
    public NativeSlice AcceptMutex => _memory.Slice(GateOffset, RobustMutex.SizeBytes);

    /// <summary>Maps the table; EINVAL when the descriptor holds none. The descriptor stays the caller's.</summary>
    public static SysResult Map(int fd, out CounterSlots? slots)
    {
        slots = null;
        if (SharedMemory.SizeOf(fd) != Spec.SizeBytes)
        {
            return SysResult.Error(Errno.EINVAL);
        }
        SysResult mapped = SharedMemory.Map(fd, (int)Spec.SizeBytes, out NativeSlice memory);
        if (mapped.IsOk && BitConverter.ToInt64(memory.Span) != Magic)
        {
            SharedMemory.Unmap(memory);
            return SysResult.Error(Errno.EINVAL);
        }
        slots = mapped.IsOk ? new CounterSlots(memory) : null;
        return mapped;
    }

    /// <summary>A table of this process alone.</summary>
    public static CounterSlots CreatePrivate()
    {
        SysResult fd = Create();
        CounterSlots? slots = null;
        if (fd.IsOk)
        {
            Map(fd.Int, out slots);
            Descriptors.Close(fd.Int);
        }
        return slots ?? throw new InvalidOperationException($"the status counters cannot be mapped {fd}");
    }

    /// <summary>The slot's counters; only its owner may add to them.</summary>
    public CounterSlot this[int slot] => new(_memory.Slice(HeaderBytes + (slot * SlotBytes), SlotBytes));

    /// <summary>Master: a free slot for a new owner, or -1. One that does not serve holds its slot for what it signs in
    /// zones and is not counted among the workers.</summary>
    public int Claim(bool serves = true)
    {
        EnterRegistry();
        int claimed = -1;
        for (int slot = 1; slot <= SlotsMax; slot++)
        {
            ref long owner = ref Word(slot, OwnerOffset);
            if (owner == Free)
            {
                // A new life first: what the last owner held must not look alive for a moment.
                Word(slot, LifeOffset)++;
                Wrote();
                Word(slot, MasterOffset) = Environment.ProcessId;
                Wrote();
                Header(UsedOffset) = Math.Max(Header(UsedOffset), slot);
                Wrote();
                Volatile.Write(ref owner, serves ? Serves : Assists);
                Wrote();
                claimed = slot;
                break;
            }
        }
        LeaveRegistry();
        return claimed;
    }

    /// <summary>Master: the owner is gone. Its totals move to slot 0, its gauges vanish, the slot is free.</summary>
    public void Release(int slot)
    {
        EnterRegistry();
        CounterSlot dead = this[slot];
        CounterSlot kept = this[0];
        for (int i = 0; i < TotalsCount; i++)
        {
            var counter = (StatusCounter)i;
            Header(FoldedTotalsOffset + (i * sizeof(long))) = kept.Read(counter) + dead.Read(counter);
            Wrote();
        }
        Sequence++;
        Wrote();
        // From here on it will be done, whoever does it.
        Volatile.Write(ref Header(FoldedOffset), slot);
        Wrote();
        Fold();
        LeaveRegistry();
    }

    /// <summary>Does what the journal says, from its beginning, and leaves the sequence even.</summary>
    private void Fold()
    {
        int slot = (int)Header(FoldedOffset);
        Interlocked.MemoryBarrier();
        if (slot != 0)
        {
            for (int i = 0; i < TotalsCount; i++)
            {
                this[0].Set((StatusCounter)i, Header(FoldedTotalsOffset + (i * sizeof(long))));
                Wrote();
            }
            for (int i = 0; i < CountersPerSlot; i++)
            {
                this[slot].Set((StatusCounter)i, 0);
                Wrote();
            }
            Volatile.Write(ref Word(slot, OwnerOffset), Free);
            Wrote();
            Header(DeparturesOffset)++;
            Wrote();
            Volatile.Write(ref Header(FoldedOffset), 0);
            Wrote();
        }
        Interlocked.MemoryBarrier();
        Volatile.Write(ref Sequence, Sequence + (Sequence & 1));
        Wrote();
    }

    /// <summary>Another master has ended and left its workers' slots behind (an upgrade's other half, killed): what
    /// they hold counts nothing from now on. They may still write what they count, so nobody gets their slots.
    /// </summary>
    public void Abandon(int masterPid)
    {
        EnterRegistry();
        for (int slot = 1; slot <= SlotsMax; slot++)
        {
            ref long owner = ref Word(slot, OwnerOffset);
            if (owner is Serves or Assists && Word(slot, MasterOffset) == masterPid)
            {
                Volatile.Write(ref owner, Abandoned);
                Wrote();
                Header(DeparturesOffset)++;
                Wrote();
            }
        }
        LeaveRegistry();
    }

    /// <summary>Two masters share the table while one binary takes over from another.</summary>
    private void EnterRegistry()
    {
        bool died = RobustMutex.Lock(Registry) == LockOutcome.TakenFromDead;
        Audit();
        if (died)
        {
            Fold();
            // Who died may have let an owner go and not yet said so: counting once too often does no harm.
            Header(DeparturesOffset)++;
            Wrote();
            RobustMutex.MarkRepaired(Registry);
        }
    }

    private void LeaveRegistry()
    {
#if DEBUG
        UnmarkedWriteException? unmarked = Faults.End(_memory.Span);
        RobustMutex.Unlock(Registry);
        if (unmarked is not null)
        {
            throw unmarked;
        }
#else
        RobustMutex.Unlock(Registry);
#endif
    }

    private NativeSlice Registry => _memory.Slice(RegistryOffset, RobustMutex.SizeBytes);

#if DEBUG
    /// <summary>Where a master may be made to die. In debug builds only.</summary>
    internal FaultPoints Faults => field ??= new FaultPoints(ZoneName, (GateOffset, RobustMutex.SizeBytes),
        (RegistryOffset, RobustMutex.SizeBytes));
#endif

    [Conditional("DEBUG")]
    private void Audit()
    {
#if DEBUG
        Faults.Begin(_memory.Span);
#endif
    }

    /// <summary>Stands behind every write that a killed master could have been the last to make.</summary>
    [Conditional("DEBUG")]
    private void Wrote([CallerFilePath] string file = "", [CallerLineNumber] int line = 0)
    {
#if DEBUG
        Faults.Point(_memory.Span, many: false, file, line);
#endif
    }

    /// <summary>Which life a slot is in: how often it was given out.</summary>
    public uint LifeOf(int slot) => (uint)Volatile.Read(ref Word(slot, LifeOffset));

    /// <summary>Whether this life of a slot has an owner.</summary>
    public bool IsLive(int slot, uint life) =>
        Volatile.Read(ref Word(slot, OwnerOffset)) is Serves or Assists && LifeOf(slot) == life;

    /// <summary>Owners that have gone.</summary>
    public long Departures => Volatile.Read(ref Header(DeparturesOffset));

    /// <summary>The highest slot that was ever given out.</summary>
    public int SlotsUsed => (int)Volatile.Read(ref Header(UsedOffset));

    /// <summary>
    /// Sums of all counters over all owners, past ones included; <paramref name="sums"/> by counter number.
    /// </summary>
    public void Sum(Span<long> sums)
    {
        sums = sums[..CountersPerSlot];
        for (int attempt = 0; ; attempt++)
        {
            long before = Volatile.Read(ref Sequence);
            sums.Clear();
            for (int slot = 0; slot <= SlotsMax; slot++)
            {
                long owner = slot == 0 ? Serves : Volatile.Read(ref Word(slot, OwnerOffset));
                if (owner == Free)
                {
                    continue;
                }
                CounterSlot at = this[slot];
                int counters = owner == Abandoned ? TotalsCount : CountersPerSlot;
                for (int i = 0; i < counters; i++)
                {
                    sums[i] += at.Read((StatusCounter)i);
                }
            }
            Interlocked.MemoryBarrier();
            if ((before & 1) == 0 && before == Volatile.Read(ref Sequence))
            {
                return;
            }
            // A master killed in mid-fold leaves an odd sequence behind: the journal says what will be.
            if (attempt == AttemptsMax)
            {
                AsFolded(sums);
                return;
            }
        }
    }

    private const int AttemptsMax = 100;

    /// <summary>The sums as they are once the journal is carried out.</summary>
    private void AsFolded(Span<long> sums)
    {
        int folded = (int)Volatile.Read(ref Header(FoldedOffset));
        if (folded == 0)
        {
            return;
        }
        for (int i = 0; i < CountersPerSlot; i++)
        {
            bool isTotal = i < TotalsCount;
            sums[i] = isTotal ? Header(FoldedTotalsOffset + (i * sizeof(long))) : 0;
            for (int slot = 1; slot <= SlotsMax; slot++)
            {
                long owner = Volatile.Read(ref Word(slot, OwnerOffset));
                bool counts = slot != folded && owner != Free && (isTotal || owner != Abandoned);
                sums[i] += counts ? this[slot].Read((StatusCounter)i) : 0;
            }
        }
    }

    /// <summary>When the table was made: the server's start, milliseconds since 1970.</summary>
    public long CreatedUnixMs => BitConverter.ToInt64(_memory.Span[72..]);

    /// <summary>Slots that have an owner: the workers that are alive.</summary>
    public int OwnerCount
    {
        get
        {
            int count = 0;
            for (int slot = 1; slot <= SlotsMax; slot++)
            {
                count += Volatile.Read(ref Word(slot, OwnerOffset)) == Serves ? 1 : 0;
            }
            return count;
        }
    }

    /// <summary>One counter over all owners.</summary>
    public long Sum(StatusCounter counter)
    {
        Span<long> sums = stackalloc long[CountersPerSlot];
        Sum(sums);
        return sums[(int)counter];
    }

    public void Dispose()
    {
        if (!_memory.IsEmpty)
        {
            SharedMemory.Unmap(_memory);
            _memory = default;
        }
    }

    private ref long Sequence => ref Unsafe.As<byte, long>(ref _memory.Span[64]);

    private ref long Header(int offset) => ref Unsafe.As<byte, long>(ref _memory.Span[offset]);

    private ref long Word(int slot, int offset) =>
        ref Unsafe.As<byte, long>(ref _memory.Span[HeaderBytes + (slot * SlotBytes) + offset]);
}

/// <summary>One worker's counters: a single writer, any number of readers, no lock.</summary>
public readonly struct CounterSlot
{
    private readonly NativeSlice _memory;

    internal CounterSlot(NativeSlice memory) => _memory = memory;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Add(StatusCounter counter, long amount)
    {
        ref long word = ref Word(counter);
        Volatile.Write(ref word, word + amount);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Set(StatusCounter counter, long value) => Volatile.Write(ref Word(counter), value);

    public long Read(StatusCounter counter) => Volatile.Read(ref Word(counter));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ref long Word(StatusCounter counter) => ref Unsafe.As<byte, long>(ref _memory.Span[(int)counter * 8]);
}
