// Makes a request's head of the fields of an HTTP/2 header block: the text an HTTP/1 request would have had, in memory
// of the caller's, and its offsets in a RequestHead, so that everything behind it reads one form. Refuses what RFC 9113
// §8 calls malformed. What has to wait (pseudo-headers, cookies) is kept at the far end of the same memory meanwhile.
using System.Buffers.Binary;
using Weir.Protocol.Http1;

namespace Weir.Protocol.Http2;

/// <summary>A sink for one request's header block. After the block call <see cref="Finish"/>.</summary>
public ref struct RequestFields : IHpackSink
{
    [Flags]
    private enum Pseudo : byte
    {
        None = 0, Method = 1, Scheme = 2, Path = 4, Authority = 8, Protocol = 16,
    }

    private readonly Span<byte> _text;
    private readonly RequestHead _head;
    private readonly ParseOptions _options;
    private readonly bool _extendedConnect;
    private Pseudo _seen;
    private bool _lineWritten;
    private int _end;
    // Where the things that wait begin.
    private int _tail;
    private TextRange _method, _scheme, _path, _authority, _protocol;
    private int _cookies;
    private int _cookieBytes;

    /// <param name="text">Where the head's text goes; its length is a limit.</param>
    /// <param name="head">Is filled with offsets into the text.</param>
    /// <param name="options">As for HTTP/1 heads.</param>
    /// <param name="extendedConnect">We sent SETTINGS_ENABLE_CONNECT_PROTOCOL: :protocol may come (RFC 8441).</param>
    public RequestFields(Span<byte> text, RequestHead head, in ParseOptions options, bool extendedConnect)
    {
        _text = text;
        _head = head;
        _options = options;
        _extendedConnect = extendedConnect;
        _tail = text.Length;
        head.Reset();
    }

    /// <summary>What is wrong with the fields, or None.</summary>
    public Http2Reason Reason { get; private set; }

    /// <summary>What is wrong with the request beyond its form (a duplicate, a bad length): answered with the reason's
    /// status.</summary>
    public readonly RejectReason Reject => _head.Reject;

    /// <summary>What <c>:protocol</c> says, within the text, or empty. The head is then that of a GET with Upgrade, as
    /// HTTP/1 would ask for the same.</summary>
    public TextRange Protocol { get; private set; }

    /// <summary>What <c>:scheme</c> says is "https".</summary>
    public bool IsHttps { get; private set; }

    public void Field(
        scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, int staticName, bool sensitive)
    {
        if (Reason != Http2Reason.None)
        {
            return;
        }
        if (name.Length > 0 && name[0] == ':')
        {
            Reason = TakePseudo(name, value);
            return;
        }
        if (!_lineWritten)
        {
            Reason = WriteLine();
            if (Reason != Http2Reason.None)
            {
                return;
            }
        }
        Reason = TakeField(name, value, staticName);
    }

    /// <summary>The block is complete. <paramref name="endStream"/>: no body follows. On None the head is complete;
    /// see <see cref="Reject"/>.</summary>
    public Http2Reason Finish(bool endStream)
    {
        if (Reason == Http2Reason.None && !_lineWritten)
        {
            Reason = WriteLine();
        }
        if (Reason == Http2Reason.None && _cookies > 0)
        {
            Reason = JoinCookies();
        }
        if (Reason == Http2Reason.None && !_protocol.IsEmpty)
        {
            Reason = AsUpgrade();
        }
        if (Reason != Http2Reason.None)
        {
            return Reason;
        }
        if (_end + 2 > _tail)
        {
            return Reason = Http2Reason.HeaderListTooLarge;
        }
        "\r\n"u8.CopyTo(_text[_end..]);
        _end += 2;
        _head.HeadLength = _end;
        _head.KeepAliveRequested = true;
        if (_head.Reject == RejectReason.None && _head.Form == TargetForm.Origin && !_head.Has(KnownHeader.Host))
        {
            // Neither :authority nor host: as nginx, an error of the request and not of its form.
            _head.Reject = RejectReason.MissingHost;
        }
        if (endStream)
        {
            return _head.ContentLength > 0 ? Reason = Http2Reason.ContentLengthMismatch : Http2Reason.None;
        }
        // A body whose length nobody has said: what HTTP/1 needs chunks for.
        _head.Chunked = _head.ContentLength < 0 && Protocol.IsEmpty;
        return Http2Reason.None;
    }

    private Http2Reason TakePseudo(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value)
    {
        if (_lineWritten)
        {
            return Http2Reason.PseudoAfterField;
        }
        Pseudo which = name.Length switch
        {
            5 when name.SequenceEqual(":path"u8) => Pseudo.Path,
            7 when name.SequenceEqual(":method"u8) => Pseudo.Method,
            7 when name.SequenceEqual(":scheme"u8) => Pseudo.Scheme,
            9 when name.SequenceEqual(":protocol"u8) && _extendedConnect => Pseudo.Protocol,
            10 when name.SequenceEqual(":authority"u8) => Pseudo.Authority,
            _ => Pseudo.None,
        };
        if (which == Pseudo.None)
        {
            return Http2Reason.UnknownPseudo;
        }
        if ((_seen & which) != 0)
        {
            return Http2Reason.DuplicatePseudo;
        }
        _seen |= which;
        if (value.Length > _tail - _end)
        {
            return Http2Reason.HeaderListTooLarge;
        }
        _tail -= value.Length;
        value.CopyTo(_text[_tail..]);
        var range = new TextRange(_tail, value.Length);
        switch (which)
        {
            case Pseudo.Method:
                _method = range;
                return IsToken(value) ? Http2Reason.None : Http2Reason.InvalidMethod;
            case Pseudo.Scheme:
                _scheme = range;
                IsHttps = HeaderName.Same(value, "https"u8);
                return IsScheme(value) ? Http2Reason.None : Http2Reason.InvalidScheme;
            case Pseudo.Path:
                _path = range;
                return value.IsEmpty ? Http2Reason.InvalidPath : Http2Reason.None;
            case Pseudo.Authority:
                _authority = range;
                return FieldRules.Value(value) == Http2Reason.None ? Http2Reason.None : Http2Reason.InvalidAuthority;
            default:
                _protocol = range;
                return IsToken(value) ? Http2Reason.None : Http2Reason.InvalidProtocol;
        }
    }

    /// <summary>All pseudo-headers are here: the request line, and a Host line from :authority.</summary>
    private Http2Reason WriteLine()
    {
        _lineWritten = true;
        if ((_seen & Pseudo.Method) == 0)
        {
            return Http2Reason.MissingMethod;
        }
        bool connect = _method.Of(_text).SequenceEqual("CONNECT"u8);
        if (connect && (_seen & Pseudo.Protocol) == 0)
        {
            if (_seen != (Pseudo.Method | Pseudo.Authority))
            {
                return Http2Reason.InvalidConnect;
            }
            _path = _authority;
        }
        else if ((_seen & Pseudo.Protocol) != 0 && !connect)
        {
            return Http2Reason.InvalidProtocol;
        }
        else if ((_seen & Pseudo.Scheme) == 0)
        {
            return Http2Reason.MissingScheme;
        }
        else if ((_seen & Pseudo.Path) == 0)
        {
            return Http2Reason.MissingPath;
        }
        ReadOnlySpan<byte> version = " HTTP/2.0\r\n"u8;
        ReadOnlySpan<byte> method = _protocol.IsEmpty ? _method.Of(_text) : "GET"u8;
        if (method.Length + 1 + _path.Length + version.Length > _tail)
        {
            return Http2Reason.HeaderListTooLarge;
        }
        method.CopyTo(_text);
        int target = method.Length + 1;
        _text[method.Length] = (byte)' ';
        _path.Of(_text).CopyTo(_text[target..]);
        int lineEnd = target + _path.Length;
        version.CopyTo(_text[lineEnd..]);
        _end = lineEnd + version.Length;
        RequestHead head = _head;
        head.MethodRange = new TextRange(0, method.Length);
        head.Method = HttpMethods.Parse(method);
        head.Target = new TextRange(target, _path.Length);
        head.RequestLine = new TextRange(0, _end - 2);
        head.HeadersStart = _end;
        head.VersionMajor = 2;
        head.VersionMinor = 0;
        if (!RequestHeadParser.ReadTarget(_text[.._end], head, target, lineEnd))
        {
            if (head.Method == HttpMethod.Options && _path.Of(_text) is [(byte)'*'])
            {
                // Well-formed (§8.3.1), and answered in words as over HTTP/1.
                return Http2Reason.None;
            }
            return connect && _protocol.IsEmpty ? Http2Reason.InvalidAuthority : Http2Reason.InvalidPath;
        }
        if ((_seen & Pseudo.Authority) == 0 || head.Form == TargetForm.Authority)
        {
            return Http2Reason.None;
        }
        return _authority.IsEmpty ? Http2Reason.None : Append("host"u8, _authority.Of(_text), KnownHeader.Host, false);
    }

    private Http2Reason TakeField(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, int staticName)
    {
        bool unusual = false;
        if (staticName == 0)
        {
            Http2Reason wrong = FieldRules.Name(name, _options.UnderscoresInHeaders, out unusual);
            if (wrong != Http2Reason.None)
            {
                return wrong;
            }
        }
        Http2Reason reason = FieldRules.Value(value);
        if (reason != Http2Reason.None)
        {
            return reason;
        }
        reason = FieldRules.Connection(name, value);
        if (reason != Http2Reason.None)
        {
            return reason;
        }
        KnownHeader known = unusual ? KnownHeader.None : HeaderName.Find(name);
        if (known == KnownHeader.Cookie)
        {
            return KeepCookie(value);
        }
        if (known == KnownHeader.Host && (_seen & Pseudo.Authority) != 0 && !_authority.IsEmpty
            && _head.Form == TargetForm.Origin)
        {
            // The same again says nothing new (§8.3.1).
            return HeaderName.Same(value, _authority.Of(_text))
                ? Http2Reason.None
                : Http2Reason.AuthorityDiffersFromHost;
        }
        return Append(name, value, known, unusual);
    }

    private Http2Reason Append(
        scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, KnownHeader known, bool unusual)
    {
        if (_head.Count >= _options.MaxHeaders)
        {
            return Http2Reason.TooManyFields;
        }
        if (name.Length + value.Length + 4 > _tail - _end)
        {
            return Http2Reason.HeaderListTooLarge;
        }
        ref HeaderField field = ref FieldText.Write(_text, ref _end, name, value, _head);
        field.Dropped = unusual && _options.IgnoreInvalidHeaders;
        _head.DroppedCount += field.Dropped ? 1 : 0;
        int previous = _head.Append((byte)known);
        if (known != KnownHeader.None && _head.Reject == RejectReason.None)
        {
            RejectReason reject = RequestHeadParser.Note(_text, _head, in field, previous);
            if (reject != RejectReason.None)
            {
                _head.Reject = reject;
                _head.RejectPrevious = previous;
                _head.RejectLineStart = field.NameStart;
            }
        }
        return Http2Reason.None;
    }

    /// <summary>Cookies may come as many fields and are one line for everybody else (§8.2.3). They wait one before the
    /// other, each with its length before it.</summary>
    private Http2Reason KeepCookie(scoped ReadOnlySpan<byte> value)
    {
        if (value.Length + sizeof(int) > _tail - _end)
        {
            return Http2Reason.HeaderListTooLarge;
        }
        _tail -= value.Length;
        value.CopyTo(_text[_tail..]);
        _tail -= sizeof(int);
        BinaryPrimitives.WriteInt32LittleEndian(_text[_tail..], value.Length);
        _cookieBytes += value.Length + (_cookies > 0 ? 2 : 0);
        _cookies++;
        return Http2Reason.None;
    }

    private Http2Reason JoinCookies()
    {
        ReadOnlySpan<byte> name = "cookie: "u8;
        if (_head.Count >= _options.MaxHeaders)
        {
            return Http2Reason.TooManyFields;
        }
        if (name.Length + _cookieBytes + 2 > _tail - _end)
        {
            return Http2Reason.HeaderListTooLarge;
        }
        name.CopyTo(_text[_end..]);
        ref HeaderField field = ref _head.NextSlot();
        field.NameStart = _end;
        field.NameLength = name.Length - 2;
        field.Hash = HeaderName.Hash(name[..^2]);
        field.ValueStart = _end + name.Length;
        field.ValueLength = _cookieBytes;
        // The one that came last lies first.
        int to = field.ValueStart + _cookieBytes;
        int from = _tail;
        for (int i = 0; i < _cookies; i++)
        {
            int length = BinaryPrimitives.ReadInt32LittleEndian(_text[from..]);
            to -= length;
            _text.Slice(from + sizeof(int), length).CopyTo(_text[to..]);
            from += sizeof(int) + length;
            if (i < _cookies - 1)
            {
                to -= 2;
                "; "u8.CopyTo(_text[to..]);
            }
        }
        _end = field.ValueStart + _cookieBytes;
        "\r\n"u8.CopyTo(_text[_end..]);
        _end += 2;
        _head.Append((byte)KnownHeader.Cookie);
        return Http2Reason.None;
    }

    /// <summary>An extended CONNECT as the request that HTTP/1 would have sent.</summary>
    private Http2Reason AsUpgrade()
    {
        int line = _end;
        Http2Reason reason = Append("upgrade"u8, _protocol.Of(_text), KnownHeader.Upgrade, false);
        if (reason != Http2Reason.None)
        {
            return reason;
        }
        Protocol = new TextRange(line + "upgrade: ".Length, _protocol.Length);
        _head.UpgradeRequested = true;
        return Append("connection"u8, "upgrade"u8, KnownHeader.Connection, false);
    }

    private static bool IsToken(scoped ReadOnlySpan<byte> text)
    {
        foreach (byte c in text)
        {
            if (!FieldLine.IsToken(c))
            {
                return false;
            }
        }
        return !text.IsEmpty;
    }

    private static bool IsScheme(scoped ReadOnlySpan<byte> text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            byte c = text[i];
            if ((uint)((c | 0x20) - 'a') > 'z' - 'a'
                && (i == 0 || (uint)(c - '0') > 9 && c is not ((byte)'+' or (byte)'-' or (byte)'.')))
            {
                return false;
            }
        }
        return !text.IsEmpty;
    }
}

/// <summary>Writes fields as the lines HTTP/1 has.</summary>
internal static class FieldText
{
    /// <summary>Writes a line and returns the slot that says where; there is room.</summary>
    public static ref HeaderField Write(Span<byte> text, scoped ref int end,
        scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, HeaderFields fields)
    {
        ref HeaderField field = ref fields.NextSlot();
        name.CopyTo(text[end..]);
        field.NameStart = end;
        field.NameLength = name.Length;
        field.Hash = HeaderName.Hash(name);
        end += name.Length;
        text[end++] = (byte)':';
        text[end++] = (byte)' ';
        field.ValueStart = end;
        field.ValueLength = value.Length;
        value.CopyTo(text[end..]);
        end += value.Length;
        text[end++] = (byte)'\r';
        text[end++] = (byte)'\n';
        return ref field;
    }
}
