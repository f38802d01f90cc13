// The page that driver and actors share beside the zones: whether to pause, and for each actor its journal. An actor
// writes what it is about to do before it does it, and what it has after it has done it, so that the driver knows after
// a kill what must be true, but for the one operation that was under way. Single writers, no lock.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Weir.Kernel;

namespace Weir.Tests.ZoneFire;

/// <summary>What an actor was doing.</summary>
internal enum Work
{
    None,
    Count,
    Table,
    Cache,
    Group,
    Sticky,
}

/// <summary>One actor's journal.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Journal
{
    public const int Keys = 16;

    public int Slot;
    public int Paused;
    public long Operations;

    /// <summary>The operation under way, and its key.</summary>
    public int DoingNow;
    public int DoingKey;
    public JournalWords Counts;
    public JournalWords Values;
    public JournalWords Bytes;
    public JournalWords Connections;
    public JournalWords Bound;
    public long Gauge;

    public Work Doing
    {
        readonly get => (Work)DoingNow;
        set => Volatile.Write(ref DoingNow, (int)value);
    }
}

[InlineArray(Journal.Keys)]
internal struct JournalWords
{
    private long _first;
}

/// <summary>The page.</summary>
internal sealed class Board(NativeSlice memory)
{
    public const int ActorsMax = 8;
    public const int Bytes = 16 * 4096;

    private const int JournalBytes = 4096;

    /// <summary>The driver looks: no actor begins an operation.</summary>
    public ref int Pause => ref Unsafe.As<byte, int>(ref memory.Span[0]);

    public ref Journal this[int actor] =>
        ref MemoryMarshal.AsRef<Journal>(memory.Span.Slice((actor + 1) * JournalBytes, Unsafe.SizeOf<Journal>()));

    public void Clear(int actor) => memory.Span.Slice((actor + 1) * JournalBytes, JournalBytes).Clear();

    /// <summary>Maps it from a descriptor.</summary>
    public static Board Map(int fd)
    {
        SharedMemory.Map(fd, Bytes, out NativeSlice memory);
        return new Board(memory);
    }
}
