// Puts a header block together that comes in pieces, within limits of bytes and of CONTINUATION frames (RFC 9113 §4.3,
// §10.5.1). A block that came whole in one piece is used where it lies. Owned by one connection; holds memory only
// while a block is under way.
namespace Weir.Protocol.Http2;

/// <summary>A header block under way.</summary>
public struct HeaderBlock(int bytesMax, int continuationsMax)
{
    private byte[]? _bytes;
    private int _length;
    private int _continuations;

    /// <summary>Bytes a block may have, encoded.</summary>
    public int BytesMax { get; } = bytesMax;
    /// <summary>CONTINUATION frames a block may have.</summary>
    public int ContinuationsMax { get; } = continuationsMax;

    /// <summary>Takes a piece. When it ends the block, <paramref name="block"/> is all of it: the piece itself, or
    /// memory of this object that is good until <see cref="Clear"/>. Every answer but None ends the
    /// connection.</summary>
    public Http2Reason Add(in FramePiece piece, out ReadOnlySpan<byte> block)
    {
        block = default;
        if (piece.Header.Type == FrameType.Continuation && piece.First && ++_continuations > ContinuationsMax)
        {
            return Http2Reason.TooManyContinuations;
        }
        if (piece.Bytes.Length > BytesMax - _length)
        {
            return Http2Reason.HeaderBlockTooLarge;
        }
        if (_length == 0 && piece.EndsBlock)
        {
            block = piece.Bytes;
            return Http2Reason.None;
        }
        int length = _length + piece.Bytes.Length;
        if (_bytes is null || length > _bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Min(BytesMax, Math.Max(1024, length * 2)));
        }
        piece.Bytes.CopyTo(_bytes.AsSpan(_length));
        _length = length;
        if (piece.EndsBlock)
        {
            block = _bytes.AsSpan(0, _length);
        }
        return Http2Reason.None;
    }

    /// <summary>The block was used.</summary>
    public void Clear()
    {
        _bytes = null;
        _length = 0;
        _continuations = 0;
    }
}
