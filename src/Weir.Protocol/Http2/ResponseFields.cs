// Makes a response's head, or the lines of trailers, of the fields of an HTTP/2 header block: text as HTTP/1 has it, in
// memory of the caller's, and offsets. Refuses what RFC 9113 §8 calls malformed.
using Weir.Protocol.Http1;

namespace Weir.Protocol.Http2;

/// <summary>A sink for one response's header block. After the block call <see cref="Finish"/>.</summary>
public ref struct ResponseFields : IHpackSink
{
    private readonly Span<byte> _text;
    private readonly ResponseHead _head;
    private readonly int _fieldsMax;
    private int _end;

    /// <param name="text">Where the head's text goes; its length is a limit.</param>
    /// <param name="head">Is filled with offsets into the text.</param>
    /// <param name="fieldsMax">How many fields there may be.</param>
    public ResponseFields(Span<byte> text, ResponseHead head, int fieldsMax)
    {
        _text = text;
        _head = head;
        _fieldsMax = fieldsMax;
        head.Reset();
    }

    /// <summary>What is wrong with the fields, or None.</summary>
    public Http2Reason Reason { get; private set; }

    public void Field(
        scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, int staticName, bool sensitive)
    {
        if (Reason == Http2Reason.None)
        {
            Reason = name.Length > 0 && name[0] == ':' ? TakeStatus(name, value) : TakeField(name, value);
        }
    }

    /// <summary>The block is complete. On None the head is complete, but for what its Reject says.</summary>
    public Http2Reason Finish()
    {
        if (Reason != Http2Reason.None)
        {
            return Reason;
        }
        if (_head.Status == 0)
        {
            return Reason = Http2Reason.MissingStatus;
        }
        if (_end + 2 > _text.Length)
        {
            return Reason = Http2Reason.HeaderListTooLarge;
        }
        "\r\n"u8.CopyTo(_text[_end..]);
        _head.HeadLength = _end + 2;
        _head.KeepAlive = true;
        return Http2Reason.None;
    }

    private Http2Reason TakeStatus(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value)
    {
        if (!name.SequenceEqual(":status"u8))
        {
            return Http2Reason.UnknownPseudo;
        }
        if (_end != 0)
        {
            return _head.Count == 0 ? Http2Reason.DuplicatePseudo : Http2Reason.PseudoAfterField;
        }
        if (value.Length != 3 || value[0] is < (byte)'1' or > (byte)'9' || !IsDigit(value[1]) || !IsDigit(value[2]))
        {
            return Http2Reason.InvalidStatus;
        }
        ReadOnlySpan<byte> version = "HTTP/2.0 "u8;
        if (version.Length + 5 > _text.Length)
        {
            return Http2Reason.HeaderListTooLarge;
        }
        version.CopyTo(_text);
        value.CopyTo(_text[version.Length..]);
        int lineEnd = version.Length + 3;
        "\r\n"u8.CopyTo(_text[lineEnd..]);
        _head.Status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0';
        _head.Version = 20;
        _end = lineEnd + 2;
        _head.HeadersStart = _end;
        // HTTP/2 cannot change protocols on a connection (§8.6).
        return _head.Status == 101 ? Http2Reason.InvalidStatus : Http2Reason.None;
    }

    private Http2Reason TakeField(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value)
    {
        if (_end == 0)
        {
            return Http2Reason.MissingStatus;
        }
        Http2Reason reason = TrailerFields.Check(name, value);
        if (reason != Http2Reason.None)
        {
            return reason;
        }
        if (_head.Count >= _fieldsMax)
        {
            return Http2Reason.TooManyFields;
        }
        if (name.Length + value.Length + 4 > _text.Length - _end)
        {
            return Http2Reason.HeaderListTooLarge;
        }
        ref HeaderField field = ref FieldText.Write(_text, ref _end, name, value, _head);
        KnownResponseHeader known = HeaderName.FindResponse(name);
        int previous = _head.Append((byte)known);
        if (known == KnownResponseHeader.ContentLength)
        {
            _head.ContentLength = previous >= 0 ? -1 : HeaderTokens.ContentLength(value);
            return _head.ContentLength < 0 ? Http2Reason.InvalidContentLength : Http2Reason.None;
        }
        return Http2Reason.None;
    }

    private static bool IsDigit(byte c) => (uint)(c - '0') <= 9;
}

/// <summary>A sink for trailers: lines of text, checked.</summary>
public ref struct TrailerFields(Span<byte> text) : IHpackSink
{
    private readonly Span<byte> _text = text;

    /// <summary>What is wrong with the fields, or None.</summary>
    public Http2Reason Reason { get; private set; }

    /// <summary>Bytes of text so far: lines as HTTP/1 has them, without the empty one.</summary>
    public int Length { get; private set; }

    public void Field(
        scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, int staticName, bool sensitive)
    {
        if (Reason != Http2Reason.None)
        {
            return;
        }
        Reason = name.Length > 0 && name[0] == ':' ? Http2Reason.PseudoInTrailers : Check(name, value);
        if (Reason != Http2Reason.None)
        {
            return;
        }
        if (name.Length + value.Length + 4 > _text.Length - Length)
        {
            Reason = Http2Reason.HeaderListTooLarge;
            return;
        }
        int end = Length;
        name.CopyTo(_text[end..]);
        end += name.Length;
        ": "u8.CopyTo(_text[end..]);
        value.CopyTo(_text[(end + 2)..]);
        end += 2 + value.Length;
        "\r\n"u8.CopyTo(_text[end..]);
        Length = end + 2;
    }

    /// <summary>The rules every field that is no pseudo-header has to keep.</summary>
    internal static Http2Reason Check(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value)
    {
        Http2Reason reason = FieldRules.Name(name, underscores: true, out _);
        if (reason == Http2Reason.None)
        {
            reason = FieldRules.Value(value);
        }
        return reason == Http2Reason.None ? FieldRules.Connection(name, value) : reason;
    }
}
