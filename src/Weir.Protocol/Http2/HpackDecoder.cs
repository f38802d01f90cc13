// Decodes HPACK header blocks (RFC 7541) and pushes each field into a sink of the caller's. Fields lie in the block, in
// the table or in scratch memory of the caller's, and are good for the duration of the call. The table stays in step
// with the peer's even when a list is too large to be kept. One per connection; allocates as its table grows.
namespace Weir.Protocol.Http2;

/// <summary>Takes the fields of a header block.</summary>
public interface IHpackSink
{
    /// <summary>A field. The index is that of the static table whose name this is, or 0; a sensitive field must stay
    /// a literal that is never indexed when it is passed on (RFC 7541 §6.2.3).</summary>
    void Field(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, int staticName, bool sensitive);
}

/// <summary>A decoder of header blocks.</summary>
public sealed class HpackDecoder
{
    private readonly HpackHuffman _huffman = HpackHuffman.Instance;
    private readonly HpackTable _table;
    // What our SETTINGS allow, and the lowest of it since the last block: the peer has to say that it went so low.
    private int _sizeAllowed;
    private int _sizeOwed = int.MaxValue;

    /// <param name="tableSizeMax">What our SETTINGS_HEADER_TABLE_SIZE says; the default until it is
    /// acknowledged.</param>
    public HpackDecoder(int tableSizeMax = Http2Limits.TableSizeDefault)
    {
        _sizeAllowed = tableSizeMax;
        _table = new HpackTable(tableSizeMax);
    }

    /// <summary>Bytes the dynamic table counts now.</summary>
    public int TableSize => _table.Size;
    public int TableSizeMax => _table.SizeMax;
    public int TableCount => _table.Count;

    /// <summary>The peer has acknowledged a SETTINGS_HEADER_TABLE_SIZE of ours. When that is less than its table, its
    /// next block has to begin with an update (§4.2).</summary>
    public void Allow(int tableSizeMax)
    {
        _sizeAllowed = tableSizeMax;
        if (tableSizeMax < _table.SizeMax)
        {
            _sizeOwed = Math.Min(_sizeOwed, tableSizeMax);
        }
    }

    /// <summary>Decodes one whole header block. Fields whose list is larger than <paramref name="listBytesMax"/>
    /// (RFC 9113 §6.5.2: 32 bytes each beyond their own) are decoded and not passed on, and the answer is
    /// <see cref="Http2Reason.HeaderListTooLarge"/>; every other answer but None ends the connection.
    /// <paramref name="scratch"/> has room for one field; one that does not fit is too large as well. It must not be
    /// smaller than the table may be.</summary>
    public Http2Reason Decode<TSink>(
        ReadOnlySpan<byte> block, Span<byte> scratch, int listBytesMax, ref TSink sink)
        where TSink : IHpackSink, allows ref struct
    {
        long list = 0;
        bool tooLarge = false;
        bool atStart = true;
        int i = 0;
        while (i < block.Length)
        {
            byte b = block[i];
            if ((b & 0xe0) == 0x20)
            {
                Http2Reason resized = Resize(block, ref i, atStart);
                if (resized != Http2Reason.None)
                {
                    return resized;
                }
                continue;
            }
            if (atStart && _sizeOwed != int.MaxValue)
            {
                return Http2Reason.HpackUpdateMissing;
            }
            atStart = false;
            if (b >= 0x80)
            {
                int index = HpackInteger.Read(block, ref i, 7);
                if (index <= 0 || index > HpackStaticTable.Count + _table.Count)
                {
                    return BadIndex(index);
                }
                ReadOnlySpan<byte> name = Name(index, out int staticName);
                ReadOnlySpan<byte> value = Value(index);
                list += name.Length + value.Length + HpackTable.Overhead;
                tooLarge |= list > listBytesMax;
                if (!tooLarge)
                {
                    sink.Field(name, value, staticName, sensitive: false);
                }
                continue;
            }
            Http2Reason literal = Literal(block, ref i, b, scratch, listBytesMax, ref list, ref tooLarge, ref sink);
            if (literal != Http2Reason.None)
            {
                return literal;
            }
        }
        if (atStart && _sizeOwed != int.MaxValue)
        {
            return Http2Reason.HpackUpdateMissing;
        }
        return tooLarge ? Http2Reason.HeaderListTooLarge : Http2Reason.None;
    }

    private Http2Reason Literal<TSink>(ReadOnlySpan<byte> block, scoped ref int i, byte first, Span<byte> scratch,
        int listBytesMax, ref long list, ref bool tooLarge, ref TSink sink)
        where TSink : IHpackSink, allows ref struct
    {
        bool indexed = (first & 0x40) != 0;
        int index = HpackInteger.Read(block, ref i, indexed ? 6 : 4);
        if (index < 0 || index > HpackStaticTable.Count + _table.Count)
        {
            return BadIndex(index);
        }
        ReadOnlySpan<byte> name;
        int staticName = 0;
        bool fits = true;
        if (index == 0)
        {
            Http2Reason reason = Text(block, ref i, ref scratch, out name, ref fits);
            if (reason != Http2Reason.None)
            {
                return reason;
            }
        }
        else
        {
            name = Name(index, out staticName);
            if (indexed && staticName == 0)
            {
                // Its entry may have to go to make room for the new one (§4.4).
                if (name.Length > scratch.Length)
                {
                    fits = false;
                }
                else
                {
                    name.CopyTo(scratch);
                    name = scratch[..name.Length];
                    scratch = scratch[name.Length..];
                }
            }
        }
        Http2Reason valueReason = Text(block, ref i, ref scratch, out ReadOnlySpan<byte> value, ref fits);
        if (valueReason != Http2Reason.None)
        {
            return valueReason;
        }
        list += name.Length + value.Length + HpackTable.Overhead;
        tooLarge |= list > listBytesMax || !fits;
        if (!tooLarge)
        {
            sink.Field(name, value, staticName, sensitive: (first & 0xf0) == 0x10);
        }
        if (indexed)
        {
            if (fits)
            {
                _table.Add(name, value, staticName);
            }
            else
            {
                // It is larger than the scratch memory, hence than the table.
                _table.Clear();
            }
        }
        return Http2Reason.None;
    }

    /// <summary>A string literal (§5.2). What has no room is skipped.</summary>
    private Http2Reason Text(
        ReadOnlySpan<byte> block, scoped ref int i, scoped ref Span<byte> scratch, out ReadOnlySpan<byte> text,
        scoped ref bool fits)
    {
        text = default;
        if (i >= block.Length)
        {
            return Http2Reason.HpackTruncated;
        }
        bool huffman = block[i] >= 0x80;
        int length = HpackInteger.Read(block, ref i, 7);
        if (length < 0)
        {
            return length == HpackInteger.Truncated ? Http2Reason.HpackTruncated : Http2Reason.HpackInteger;
        }
        if (length > block.Length - i)
        {
            return Http2Reason.HpackTruncated;
        }
        ReadOnlySpan<byte> raw = block.Slice(i, length);
        i += length;
        if (!huffman)
        {
            text = raw;
            return Http2Reason.None;
        }
        int decoded = _huffman.Decode(raw, scratch);
        if (decoded >= 0)
        {
            text = scratch[..decoded];
            scratch = scratch[decoded..];
            return Http2Reason.None;
        }
        fits &= decoded != HpackHuffman.NoRoom;
        return decoded == HpackHuffman.NoRoom ? Http2Reason.None : Http2Reason.HpackHuffman;
    }

    private Http2Reason Resize(ReadOnlySpan<byte> block, scoped ref int i, bool atStart)
    {
        int size = HpackInteger.Read(block, ref i, 5);
        if (size < 0)
        {
            return size == HpackInteger.Truncated ? Http2Reason.HpackTruncated : Http2Reason.HpackInteger;
        }
        if (!atStart)
        {
            return Http2Reason.HpackUpdateMisplaced;
        }
        if (size > _sizeAllowed)
        {
            return Http2Reason.HpackUpdateTooLarge;
        }
        if (size <= _sizeOwed)
        {
            _sizeOwed = int.MaxValue;
        }
        _table.Resize(size);
        return Http2Reason.None;
    }

    private ReadOnlySpan<byte> Name(int index, out int staticName)
    {
        if (index <= HpackStaticTable.Count)
        {
            staticName = index;
            return HpackStaticTable.Name(index);
        }
        staticName = _table.Tag(index - HpackStaticTable.Count - 1);
        return _table.Name(index - HpackStaticTable.Count - 1);
    }

    private ReadOnlySpan<byte> Value(int index) =>
        index <= HpackStaticTable.Count
            ? HpackStaticTable.Value(index)
            : _table.Value(index - HpackStaticTable.Count - 1);

    private static Http2Reason BadIndex(int index) => index switch
    {
        HpackInteger.Truncated => Http2Reason.HpackTruncated,
        HpackInteger.Overflow => Http2Reason.HpackInteger,
        _ => Http2Reason.HpackIndex,
    };
}
