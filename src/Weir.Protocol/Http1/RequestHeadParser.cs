// Reads a request's head from bytes that may come in any pieces. State is two positions and a phase, so that no byte is
// looked at twice while a head trickles in; a whole head is read in one pass. Refuses what RFC 9112 leaves no choice
// about, and what nginx refuses; accepts a bare LF as line end (§2.2 allows it) and empty lines before the request
// line.
namespace Weir.Protocol.Http1;

/// <summary>A resumable reader of request heads. Embed it by value and call <see cref="Reset"/> between
/// requests.</summary>
public partial struct RequestHeadParser
{
    private enum Phase : byte
    {
        Start, RequestLine, Headers, Finished,
    }

    /// <summary>Headers that must not be repeated, besides Host, Content-Length and Transfer-Encoding (as
    /// nginx).</summary>
    private const ulong OnceOnly = 1UL << (int)KnownHeader.IfModifiedSince | 1UL << (int)KnownHeader.IfUnmodifiedSince
        | 1UL << (int)KnownHeader.IfMatch | 1UL << (int)KnownHeader.IfNoneMatch | 1UL << (int)KnownHeader.ContentRange
        | 1UL << (int)KnownHeader.Expect | 1UL << (int)KnownHeader.Authorization;

    /// <summary>Headers that change what the head means; bit 0, for names without a number, is not set.</summary>
    private const ulong Steering = 1UL << (int)KnownHeader.Host | 1UL << (int)KnownHeader.Connection
        | 1UL << (int)KnownHeader.ContentLength | 1UL << (int)KnownHeader.TransferEncoding
        | 1UL << (int)KnownHeader.Expect;

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

    /// <summary>Reads on. The buffer always begins at the head's first byte and only ever grows until the head is done;
    /// it may have moved in memory. After Done and Reject the parser wants a <see cref="Reset"/>.</summary>
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
            // A piece of this line was here before: look at the new bytes only, and go on when its end may be among
            // them.
            if (FieldLine.IndexOfStop(buffer, _scan) < 0)
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

    /// <summary>As <see cref="Parse"/>, for a head that follows another whose header lines it most likely repeats, as
    /// pipelined requests do. <paramref name="head"/> still says what the earlier one was (and that it
    /// <see cref="RequestHead.IsRepeatable"/>), <paramref name="headers"/> are its lines up to the end of the empty
    /// one: where the same bytes follow the new request line, what they say is known already.</summary>
    public ParseStep ParseAgain(ReadOnlySpan<byte> buffer, RequestHead head, ReadOnlySpan<byte> headers,
        in ParseOptions options, out bool repeats)
    {
        int before = head.HeadersStart;
        repeats = _phase == Phase.Start && SkipEmptyLines(buffer, head) == ParseStep.Done
            && ParseRequestLine(buffer, head) == ParseStep.Done
            && head.Version == 11 && head.Form == TargetForm.Origin
            && buffer[head.HeadersStart..].StartsWith(headers);
        if (!repeats)
        {
            Reset();
            return Parse(buffer, head, in options);
        }
        head.MoveHeaders(head.HeadersStart - before);
        head.HeadLength = head.HeadersStart + headers.Length;
        _phase = Phase.Finished;
        return ParseStep.Done;
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

    private ParseStep ParseHeaders(ReadOnlySpan<byte> buffer, RequestHead head, in ParseOptions options)
    {
        int pos = _lineStart;
        while (true)
        {
            ref HeaderField field = ref head.NextSlot();
            FieldOutcome outcome = FieldLine.Read(buffer, pos, options.UnderscoresInHeaders, ref field, out int next);
            if (outcome == FieldOutcome.Field)
            {
                byte known = KnownNames.Request.FindPlain(buffer.Slice(pos, field.NameLength), field.Hash);
                if (head.Count >= options.MaxHeaders)
                {
                    return RejectAt(head, RejectReason.TooManyHeaders, pos);
                }
                int previous = head.Append(known);
                if (previous >= 0 || (Steering >> known & 1) != 0)
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
                return Finish(head, next);
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
    internal static RejectReason Note(ReadOnlySpan<byte> buffer, RequestHead head, in HeaderField field, int previous)
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

    private ParseStep Finish(RequestHead head, int end)
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
