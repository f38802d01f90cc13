// A storable slice of native memory: a pointer and a length. Spans cannot live in fields or cross an await, and
// Memory<byte> costs a type check per access; this costs neither. It owns nothing: whoever rented the memory
// keeps it alive for as long as a slice of it is stored.
using System.Runtime.CompilerServices;

namespace Weir.Kernel;

/// <summary>A pointer and a length over memory that somebody else owns.</summary>
public readonly unsafe struct NativeSlice(byte* pointer, int length)
{
    public readonly byte* Pointer = pointer;
    public readonly int Length = length;

    /// <summary>Whether both are the same place of the same length.</summary>
    public bool IsSameAs(NativeSlice other) => Pointer == other.Pointer && Length == other.Length;

    public bool IsEmpty => Length == 0;

    /// <summary>A slice over a <c>u8</c> literal or other memory that never moves and never dies. Nothing else may be
    /// passed: a span over a managed array would dangle.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static NativeSlice Literal(ReadOnlySpan<byte> literal) =>
        new((byte*)Unsafe.AsPointer(ref System.Runtime.InteropServices.MemoryMarshal.GetReference(literal)),
            literal.Length);

    public Span<byte> Span
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => new(Pointer, Length);
    }

    public NativeSlice Slice(int start) => Slice(start, Length - start);

    public NativeSlice Slice(int start, int length)
    {
        if ((uint)start > (uint)Length || (uint)length > (uint)(Length - start))
        {
            throw new ArgumentOutOfRangeException(nameof(start));
        }
        return new NativeSlice(Pointer + start, length);
    }

    /// <summary>The same bytes as a string, one char per byte; for logs and start-up, never on the data path.</summary>
    public override string ToString() => System.Text.Encoding.Latin1.GetString(Span);
}
