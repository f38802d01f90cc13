// Reads a request's head from bytes that may come in any pieces. State is two positions and a phase, so that no byte is
// looked at twice while a head trickles in; a whole head is read in one pass. Refuses what RFC 9112 leaves no choice about,
// and what nginx refuses; accepts a bare LF as line end (§2.2 allows it) and empty lines before the request line.
namespace Weir.Protocol.Http1;

/// <summary>A resumable reader of request heads. Embed it by value and call <see cref="Reset"/> between requests.</summary>
public struct RequestHeadParser
{
    private enum Phase : byte
    {
        Start, RequestLine, Headers, Finished,
    }

    /// <summary>0 plain, 1 refused, 2 space, 3 slash, 4 dot, 5 percent, 6 question mark, 7 hash, 8 plus, 9 CR, 10 LF.</summary>
    private static ReadOnlySpan<byte> TargetClass =>
    [
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 10, 1, 1, 9, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        2, 0, 0, 7, 0, 5, 0, 0, 0, 0, 0, 8, 0, 0, 4, 3,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    /// <summary>Headers that must not be repeated, besides Host, Content-Length and Transfer-Encoding (as nginx).</summary>
    private const ulong OnceOnly = 1UL << (int)KnownHeader.IfModifiedSince | 1UL << (int)KnownHeader.IfUnmodifiedSince
        | 1UL << (int)KnownHeader.IfMatch | 1UL << (int)KnownHeader.IfNoneMatch | 1UL << (int)KnownHeader.ContentRange
        | 1UL << (int)KnownHeader.Expect | 1UL << (int)KnownHeader.Authorization;

    private Phase _phase;
    private int _lineStart;
    private int _scan;

    /// <summary>The request line is not complete yet.</summary>
    public readonly bool InRequestLine => _phase <= Phase.RequestLine;

    /// <summary>Where the line begins that is being read; after NeedMore all before it is parsed.</summary>
    public readonly int LineStart => _lineStart;

    /// <summary>Nothing but empty lines has come yet.</summary>
    public readonly bool IsIdle => _phase == Phase.Start;

    public void Reset()
    {
        _phase = Phase.Start;
        _lineStart = 0;
        _scan = 0;
    }

    /// <summary>Reads on. The buffer always begins at the head's first byte and only ever grows until the head is done; it
    /// may have moved in memory. After Done and Reject the parser wants a <see cref="Reset"/>.</summary>
    public ParseStep Parse(ReadOnlySpan<byte> buffer, RequestHead head, in ParseOptions options)
    {
        if (_phase == Phase.Start)
        {
            if (_lineStart == 0)
            {
                head.Reset();
            }
            ParseStep skipped = SkipEmptyLines(buffer, head);
            if (skipped != ParseStep.Done)
            {
                return skipped;
            }
        }
        else if (_scan > _lineStart)
        {
            // A piece of this line was here before: look at the new bytes only, and go on when its end may be among them.
            int stop = buffer[_scan..].IndexOfAny(FieldLine.Stops);
            if (stop < 0)
            {
                _scan = buffer.Length;
                return ParseStep.NeedMore;
            }
        }
        if (_phase == Phase.RequestLine)
        {
            ParseStep step = ParseRequestLine(buffer, head);
            if (step != ParseStep.Done)
            {
                return step;
            }
            if (head.VersionMajor == 0)
            {
                _phase = Phase.Finished;
                head.HeadLength = _lineStart;
                return ParseStep.Done;
            }
            _phase = Phase.Headers;
        }
        return ParseHeaders(buffer, head, in options);
    }

    private ParseStep SkipEmptyLines(ReadOnlySpan<byte> buffer, RequestHead head)
    {
        int i = _lineStart;
        while (true)
        {
            if (i >= buffer.Length)
            {
                _lineStart = i;
                return ParseStep.NeedMore;
            }
            if (buffer[i] == '\n')
            {
                i++;
                continue;
            }
            if (buffer[i] != '\r')
            {
                break;
            }
            if (i + 1 >= buffer.Length)
            {
                _lineStart = i;
                return ParseStep.NeedMore;
            }
            if (buffer[i + 1] != '\n')
            {
                return Reject(head, RejectReason.BareCrInRequestLine);
            }
            i += 2;
        }
        _lineStart = i;
        _scan = i;
        head.RequestStart = i;
        _phase = Phase.RequestLine;
        return ParseStep.Done;
    }

    private ParseStep ParseRequestLine(ReadOnlySpan<byte> buffer, RequestHead head)
    {
        int start = _lineStart;
        int i = start;
        while (true)
        {
            if (i >= buffer.Length)
            {
                return More(buffer.Length);
            }
            byte c = buffer[i];
            if ((uint)(c - 'A') > 'Z' - 'A' && c != '_' && c != '-')
            {
                break;
            }
            i++;
        }
        if (buffer[i] != ' ' || i == start)
        {
            return Reject(head, RejectReason.InvalidMethod);
        }
        head.MethodRange = new TextRange(start, i - start);
        head.Method = HttpMethods.Parse(buffer[start..i]);
        while (i < buffer.Length && buffer[i] == ' ')
        {
            i++;
        }
        if (i >= buffer.Length)
        {
            return More(buffer.Length);
        }
        int target = i;
        if (buffer[i] != '/')
        {
            ParseStep authority = ParseAuthority(buffer, head, ref i);
            if (authority != ParseStep.Done)
            {
                return authority;
            }
        }
        ParseStep step = ParsePath(buffer, head, ref i);
        if (step != ParseStep.Done)
        {
            return step;
        }
        head.Target = new TextRange(target, i - target);
        return ParseVersion(buffer, head, i);
    }

    /// <summary>Path and query from <paramref name="i"/> to the space or line end, where it leaves it.</summary>
    private ParseStep ParsePath(ReadOnlySpan<byte> buffer, RequestHead head, ref int i)
    {
        ReadOnlySpan<byte> classes = TargetClass;
        int start = i;
        UriFlags flags = UriFlags.None;
        bool afterSlash = false;
        for (; (uint)i < (uint)buffer.Length; i++)
        {
            byte k = classes[buffer[i]];
            if (k == 0)
            {
                afterSlash = false;
                continue;
            }
            switch (k)
            {
                case 3:
                    flags |= afterSlash ? UriFlags.DoubleSlash : UriFlags.None;
                    afterSlash = true;
                    continue;
                case 4:
                    flags |= afterSlash ? UriFlags.SlashDot : UriFlags.None;
                    break;
                case 5:
                    flags |= UriFlags.Percent;
                    break;
                case 8:
                    flags |= UriFlags.Plus;
                    break;
                case 1:
                    return Reject(head, RejectReason.InvalidTarget);
                default:
                    head.Path = new TextRange(start, i - start);
                    head.Query = default;
                    if (k == 6 || k == 7)
                    {
                        return ParseQuery(buffer, head, flags, ref i);
                    }
                    head.UriFlags = flags;
                    return ParseStep.Done;
            }
            afterSlash = false;
        }
        return More(buffer.Length);
    }

    /// <summary>From the question mark or hash to the space or line end.</summary>
    private ParseStep ParseQuery(ReadOnlySpan<byte> buffer, RequestHead head, UriFlags flags, ref int i)
    {
        ReadOnlySpan<byte> classes = TargetClass;
        bool fragment = buffer[i] == '#';
        flags |= fragment ? UriFlags.Fragment : UriFlags.Query;
        int start = ++i;
        int end = -1;
        for (; (uint)i < (uint)buffer.Length; i++)
        {
            byte k = classes[buffer[i]];
            if (k == 0 || k is >= 3 and <= 8 and not 7)
            {
                continue;
            }
            if (k == 1)
            {
                return Reject(head, RejectReason.InvalidTarget);
            }
            if (k == 7)
            {
                if (!fragment && end < 0)
                {
                    end = i;
                    flags |= UriFlags.Fragment;
                }
                continue;
            }
            if (!fragment)
            {
                head.Query = new TextRange(start, (end < 0 ? i : end) - start);
            }
            head.UriFlags = flags;
            return ParseStep.Done;
        }
        return More(buffer.Length);
    }

    /// <summary>Scheme and host of an absolute target, or the host and port of CONNECT.</summary>
    private ParseStep ParseAuthority(ReadOnlySpan<byte> buffer, RequestHead head, ref int i)
    {
        int start = i;
        int host;
        if (head.Method == HttpMethod.Connect)
        {
            head.Form = TargetForm.Authority;
            host = i;
        }
        else
        {
            head.Form = TargetForm.Absolute;
            while (i < buffer.Length && IsSchemeByte(buffer[i], i == start))
            {
                i++;
            }
            int schemeEnd = i;
            for (int k = 0; k < 3; k++, i++)
            {
                if (i >= buffer.Length)
                {
                    return More(buffer.Length);
                }
                if (schemeEnd == start || buffer[i] != "://"u8[k])
                {
                    return Reject(head, RejectReason.InvalidTarget);
                }
            }
            head.Scheme = new TextRange(start, schemeEnd - start);
            host = i;
        }
        int length = buffer[i..].IndexOfAny(HostEnds);
        if (length < 0)
        {
            return More(buffer.Length);
        }
        i += length;
        ReadOnlySpan<byte> authority = buffer[host..i];
        if (!HostSyntax.TryParse(authority, out HostParts parts)
            || head.Form == TargetForm.Authority && (parts.PortLength == 0 || buffer[i] is not (byte)' '))
        {
            return Reject(head, RejectReason.InvalidTargetHost);
        }
        SetHost(head, host, in parts);
        return ParseStep.Done;
    }

    private static readonly System.Buffers.SearchValues<byte> HostEnds = System.Buffers.SearchValues.Create(
    [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
        30, 31, 0x7f, (byte)' ', (byte)'/', (byte)'?', (byte)'#',
    ]);

    private static bool IsSchemeByte(byte c, bool first)
    {
        if ((uint)((c | 0x20) - 'a') <= 'z' - 'a')
        {
            return true;
        }
        return !first && ((uint)(c - '0') <= 9 || c is (byte)'+' or (byte)'-' or (byte)'.');
    }

    private ParseStep ParseVersion(ReadOnlySpan<byte> buffer, RequestHead head, int i)
    {
        int lineEnd = i;
        while (i < buffer.Length && buffer[i] == ' ')
        {
            i++;
        }
        if (i >= buffer.Length)
        {
            return More(buffer.Length);
        }
        ReadOnlySpan<byte> rest = buffer[i..];
        if (rest.Length >= 10 && rest[..10].SequenceEqual("HTTP/1.1\r\n"u8))
        {
            head.VersionMajor = 1;
            head.VersionMinor = 1;
            return EndRequestLine(head, i + 8, i + 10);
        }
        if (rest[0] is (byte)'\r' or (byte)'\n')
        {
            return ParseSimpleRequest(buffer, head, i, lineEnd);
        }
        ReadOnlySpan<byte> http = "HTTP/"u8;
        for (int k = 0; k < http.Length; k++)
        {
            if (k >= rest.Length)
            {
                return More(buffer.Length);
            }
            if (rest[k] != http[k])
            {
                return Reject(head, RejectReason.InvalidRequestLine);
            }
        }
        if (rest.Length < 6)
        {
            return More(buffer.Length);
        }
        if (rest[5] is < (byte)'1' or > (byte)'9')
        {
            return Reject(head, RejectReason.InvalidVersion);
        }
        if (rest[5] != '1')
        {
            return Reject(head, RejectReason.UnsupportedVersion);
        }
        if (rest.Length < 8)
        {
            return rest.Length == 7 && rest[6] != '.'
                ? Reject(head, (uint)(rest[6] - '0') <= 9 ? RejectReason.UnsupportedVersion : RejectReason.InvalidVersion)
                : More(buffer.Length);
        }
        if (rest[6] != '.')
        {
            return Reject(head,
                (uint)(rest[6] - '0') <= 9 ? RejectReason.UnsupportedVersion : RejectReason.InvalidVersion);
        }
        if ((uint)(rest[7] - '0') > 9)
        {
            return Reject(head, RejectReason.InvalidVersion);
        }
        head.VersionMajor = 1;
        head.VersionMinor = (byte)(rest[7] - '0');
        i += 8;
        lineEnd = i;
        while (i < buffer.Length && buffer[i] == ' ')
        {
            i++;
        }
        if (i >= buffer.Length)
        {
            return More(buffer.Length);
        }
        if (buffer[i] == '\n')
        {
            return EndRequestLine(head, lineEnd, i + 1);
        }
        if (buffer[i] != '\r')
        {
            return Reject(head, i == lineEnd ? RejectReason.InvalidVersion : RejectReason.InvalidRequestLine);
        }
        if (i + 1 >= buffer.Length)
        {
            return More(i);
        }
        return buffer[i + 1] == '\n'
            ? EndRequestLine(head, lineEnd, i + 2)
            : Reject(head, RejectReason.BareCrInRequestLine);
    }

    private ParseStep ParseSimpleRequest(ReadOnlySpan<byte> buffer, RequestHead head, int i, int lineEnd)
    {
        if (buffer[i] == '\r')
        {
            if (i + 1 >= buffer.Length)
            {
                return More(i);
            }
            if (buffer[i + 1] != '\n')
            {
                return Reject(head, RejectReason.BareCrInRequestLine);
            }
            i++;
        }
        if (head.Method != HttpMethod.Get)
        {
            return Reject(head, RejectReason.InvalidMethodIn09);
        }
        head.VersionMajor = 0;
        head.VersionMinor = 9;
        return EndRequestLine(head, lineEnd, i + 1);
    }

    private ParseStep EndRequestLine(RequestHead head, int lineEnd, int next)
    {
        head.RequestLine = new TextRange(_lineStart, lineEnd - _lineStart);
        head.HeadersStart = next;
        _lineStart = next;
        _scan = next;
        return ParseStep.Done;
    }

    private ParseStep ParseHeaders(ReadOnlySpan<byte> buffer, RequestHead head, in ParseOptions options)
    {
        int pos = _lineStart;
        while (true)
        {
            ref HeaderField field = ref head.NextSlot();
            FieldOutcome outcome = FieldLine.Read(buffer, pos, options.UnderscoresInHeaders, ref field, out int next);
            if (outcome == FieldOutcome.Field)
            {
                byte known = KnownNames.Request.Find(buffer.Slice(pos, field.NameLength), field.Hash);
                if (head.Count >= options.MaxHeaders)
                {
                    return RejectAt(head, RejectReason.TooManyHeaders, pos);
                }
                int previous = head.Append(known);
                if (known != 0)
                {
                    RejectReason reason = Note(buffer, head, in field, previous);
                    if (reason != RejectReason.None)
                    {
                        head.RejectPrevious = previous;
                        return RejectAt(head, reason, pos);
                    }
                }
            }
            else if (outcome is FieldOutcome.Unusual or FieldOutcome.NotToken)
            {
                if (head.Count >= options.MaxHeaders)
                {
                    return RejectAt(head, RejectReason.TooManyHeaders, pos);
                }
                // A name that is no token (RFC 9110 §5.1) is never passed on: two parsers may read it two ways.
                if (!options.IgnoreInvalidHeaders && outcome == FieldOutcome.NotToken)
                {
                    return RejectAt(head, RejectReason.InvalidHeaderName, pos);
                }
                field.Dropped = options.IgnoreInvalidHeaders;
                head.DroppedCount += field.Dropped ? 1 : 0;
                head.Append(0);
            }
            else if (outcome == FieldOutcome.End)
            {
                _lineStart = pos;
                return Finish(buffer, head, next);
            }
            else if (outcome == FieldOutcome.More)
            {
                _lineStart = pos;
                return More(next);
            }
            else
            {
                return RejectAt(head, ReasonOf(outcome), pos);
            }
            pos = next;
        }
    }

    internal static RejectReason ReasonOf(FieldOutcome outcome) => outcome switch
    {
        FieldOutcome.BareCr => RejectReason.BareCrInHeader,
        FieldOutcome.Fold => RejectReason.FoldedHeader,
        FieldOutcome.EmptyName => RejectReason.EmptyHeaderName,
        FieldOutcome.SpaceInName => RejectReason.SpaceInHeaderName,
        FieldOutcome.ControlInName => RejectReason.ControlInHeaderName,
        FieldOutcome.NoColon => RejectReason.NoColon,
        _ => RejectReason.ControlInHeaderValue,
    };

    /// <summary>What a known field changes. None, or why the head is refused.</summary>
    private static RejectReason Note(ReadOnlySpan<byte> buffer, RequestHead head, in HeaderField field, int previous)
    {
        ReadOnlySpan<byte> value = field.Value(buffer);
        switch (field.Known)
        {
            case KnownHeader.Host:
                if (previous >= 0)
                {
                    return RejectReason.DuplicateHost;
                }
                if (!HostSyntax.TryParse(value, out HostParts parts))
                {
                    return RejectReason.InvalidHost;
                }
                if (head.Form == TargetForm.Origin)
                {
                    SetHost(head, field.ValueStart, in parts);
                }
                return RejectReason.None;
            case KnownHeader.Connection:
                head.Connection |= HeaderTokens.Connection(value);
                return RejectReason.None;
            case KnownHeader.ContentLength:
                if (previous >= 0)
                {
                    return RejectReason.DuplicateContentLength;
                }
                head.ContentLength = HeaderTokens.ContentLength(value);
                return head.ContentLength < 0 ? RejectReason.InvalidContentLength : RejectReason.None;
            case KnownHeader.TransferEncoding:
                if (previous >= 0)
                {
                    return RejectReason.DuplicateTransferEncoding;
                }
                head.Chunked = HeaderName.Same(value, "chunked"u8);
                return head.Chunked ? RejectReason.None : RejectReason.UnknownTransferEncoding;
            default:
                if (previous >= 0 && (OnceOnly >> field.KnownId & 1) != 0)
                {
                    return RejectReason.DuplicateHeader;
                }
                if (field.Known == KnownHeader.Expect && HeaderName.Same(value, "100-continue"u8))
                {
                    head.Expect100 = true;
                }
                return RejectReason.None;
        }
    }

    private ParseStep Finish(ReadOnlySpan<byte> buffer, RequestHead head, int end)
    {
        bool modern = head.VersionMinor >= 1;
        if (modern && !head.Has(KnownHeader.Host))
        {
            return Reject(head, RejectReason.MissingHost);
        }
        if (head.Chunked)
        {
            if (!modern)
            {
                return Reject(head, RejectReason.TransferEncodingIn10);
            }
            if (head.ContentLength >= 0)
            {
                return Reject(head, RejectReason.LengthAndTransferEncoding);
            }
        }
        head.Expect100 &= modern;
        head.KeepAliveRequested = (head.Connection & ConnectionTokens.Close) == 0
            && (modern || (head.Connection & ConnectionTokens.KeepAlive) != 0);
        head.UpgradeRequested = modern && (head.Connection & ConnectionTokens.Upgrade) != 0
            && head.Has(KnownHeader.Upgrade);
        head.HeadLength = end;
        _phase = Phase.Finished;
        return ParseStep.Done;
    }

    private static void SetHost(RequestHead head, int start, in HostParts parts)
    {
        head.Host = new TextRange(start, parts.HostLength);
        head.HostPort = new TextRange(start + parts.PortStart, parts.PortLength);
        head.HostHasUpper = parts.HasUpper;
    }

    private ParseStep More(int scan)
    {
        _scan = scan;
        return ParseStep.NeedMore;
    }

    private readonly ParseStep Reject(RequestHead head, RejectReason reason) => RejectAt(head, reason, _lineStart);

    private readonly ParseStep RejectAt(RequestHead head, RejectReason reason, int line)
    {
        head.Reject = reason;
        head.RejectLineStart = line;
        return ParseStep.Reject;
    }
}
