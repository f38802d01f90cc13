// Writes the framing of a chunked body around data that is sent from where it lies. Pure; the caller owns the
// destination.
namespace Weir.Protocol.Http1;

/// <summary>Writes chunk framing.</summary>
public static class ChunkedEncoder
{
    /// <summary>Room for any size line.</summary>
    public const int SizeLineMax = 18;

    /// <summary>What follows a chunk's data.</summary>
    public static ReadOnlySpan<byte> ChunkEnd => "\r\n"u8;

    /// <summary>The last chunk and the end of a body without trailers.</summary>
    public static ReadOnlySpan<byte> LastChunk => "0\r\n\r\n"u8;

    /// <summary>The last chunk when trailer lines follow; an empty line ends them.</summary>
    public static ReadOnlySpan<byte> LastChunkBeforeTrailers => "0\r\n"u8;

    /// <summary>Writes a chunk's size line and returns its length. A size of 0 would end the body: it is not
    /// allowed.</summary>
    public static int WriteSizeLine(long size, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(size);
        int digits = (67 - System.Numerics.BitOperations.LeadingZeroCount((ulong)size)) / 4;
        for (int i = digits - 1; i >= 0; i--)
        {
            destination[i] = Hex.LowerCase[(int)(size & 15)];
            size >>= 4;
        }
        destination[digits] = (byte)'\r';
        destination[digits + 1] = (byte)'\n';
        return digits + 2;
    }
}
