// Reads an upstream's response head from bytes that may come in any pieces: with a status line, or in CGI form
// (FastCGI, SCGI, uwsgi) where a Status field stands for it. What could be read two ways is refused, not repaired: it
// is 502.
namespace Weir.Protocol.Http1;

/// <summary>A resumable reader of response heads. Embed it by value and reset it before every head.</summary>
public struct ResponseHeadParser
{
    private bool _started;
    private bool _cgi;
    private bool _inHeaders;
    private int _lineStart;
    private int _scan;

    /// <summary>Where the line begins that is being read.</summary>
    public readonly int LineStart => _lineStart;

    /// <summary>Prepares for the next head (also after a 1xx).</summary>
    public void Reset(bool cgi)
    {
        _started = false;
        _cgi = cgi;
        _inHeaders = cgi;
        _lineStart = 0;
        _scan = 0;
    }

    /// <summary>Reads on. The buffer always begins at the head's first byte and only ever grows until the head is done.
    /// Of the options only the number of headers counts: unusual names are kept, names that are no token
    /// refused.</summary>
    public ParseStep Parse(ReadOnlySpan<byte> buffer, ResponseHead head, in ParseOptions options)
    {
        if (!_started)
        {
            head.Reset();
            _started = true;
        }
        else if (_scan > _lineStart)
        {
            if (FieldLine.IndexOfStop(buffer, _scan) < 0)
            {
                _scan = buffer.Length;
                return ParseStep.NeedMore;
            }
        }
        if (!_inHeaders)
        {
            ParseStep step = ParseStatusLine(buffer, head);
            if (step != ParseStep.Done)
            {
                return step;
            }
            _inHeaders = true;
        }
        return ParseHeaders(buffer, head, in options);
    }

    private ParseStep ParseStatusLine(ReadOnlySpan<byte> buffer, ResponseHead head)
    {
        ReadOnlySpan<byte> start = "HTTP/1."u8;
        int common = buffer.CommonPrefixLength(start);
        if (common < start.Length)
        {
            return common == buffer.Length ? More(buffer.Length) : Reject(head, RejectReason.InvalidStatusLine);
        }
        int i = start.Length;
        if (i >= buffer.Length)
        {
            return More(buffer.Length);
        }
        int minor = buffer[i++] - '0';
        if ((uint)minor > 9)
        {
            return Reject(head, RejectReason.InvalidStatusLine);
        }
        int spaces = i;
        while (i < buffer.Length && buffer[i] == ' ')
        {
            i++;
        }
        int status = 0;
        for (int digits = 0; digits < 3; digits++, i++)
        {
            if (i >= buffer.Length)
            {
                return More(buffer.Length);
            }
            uint digit = (uint)(buffer[i] - '0');
            if (digit > 9 || i == spaces)
            {
                return Reject(head, RejectReason.InvalidStatusLine);
            }
            status = status * 10 + (int)digit;
        }
        if (status < 100)
        {
            return Reject(head, RejectReason.InvalidStatusLine);
        }
        int end = FieldLine.IndexOfStop(buffer, i);
        if (end < 0)
        {
            return i < buffer.Length && buffer[i] != ' '
                ? Reject(head, RejectReason.InvalidStatusLine)
                : More(buffer.Length);
        }
        int next = end + 1;
        if (end > i && buffer[i] != ' ')
        {
            return Reject(head, RejectReason.InvalidStatusLine);
        }
        if (buffer[end] == '\r')
        {
            if (next >= buffer.Length)
            {
                return More(end);
            }
            next++;
        }
        if (buffer[next - 1] != '\n')
        {
            return Reject(head, RejectReason.InvalidStatusLine);
        }
        head.Version = 10 + minor;
        head.Status = status;
        int reason = Math.Min(i + 1, end);
        head.Reason = new TextRange(reason, end - reason);
        head.StatusLine = new TextRange(0, end);
        head.HeadersStart = next;
        _lineStart = next;
        _scan = next;
        return ParseStep.Done;
    }

    private ParseStep ParseHeaders(ReadOnlySpan<byte> buffer, ResponseHead head, in ParseOptions options)
    {
        int pos = _lineStart;
        while (true)
        {
            ref HeaderField field = ref head.NextSlot();
            FieldOutcome outcome = FieldLine.Read(buffer, pos, underscores: false, ref field, out int next);
            if (outcome is FieldOutcome.Field or FieldOutcome.Unusual)
            {
                if (head.Count >= options.MaxHeaders)
                {
                    return RejectAt(head, RejectReason.UpstreamTooManyHeaders, pos);
                }
                // No known name is unusual, and only of the others may the comparison be the quick one.
                byte known = outcome == FieldOutcome.Field
                    ? KnownNames.Response.FindPlain(buffer.Slice(pos, field.NameLength), field.Hash)
                    : (byte)0;
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
                return RejectAt(head, RejectReason.InvalidUpstreamHeader, pos);
            }
            pos = next;
        }
    }

    private readonly RejectReason Note(
        ReadOnlySpan<byte> buffer, ResponseHead head, in HeaderField field, int previous)
    {
        ReadOnlySpan<byte> value = field.Value(buffer);
        switch (field.KnownResponse)
        {
            case KnownResponseHeader.Connection:
                head.Connection |= HeaderTokens.Connection(value);
                return RejectReason.None;
            case KnownResponseHeader.ContentLength:
                // Even an equal repetition: nginx refuses it, and who sends it has been led astray by somebody.
                if (previous >= 0)
                {
                    return RejectReason.UpstreamDuplicateHeader;
                }
                head.ContentLength = HeaderTokens.ContentLength(value);
                return head.ContentLength < 0 ? RejectReason.UpstreamInvalidContentLength : RejectReason.None;
            case KnownResponseHeader.TransferEncoding when !_cgi:
                if (previous >= 0)
                {
                    return RejectReason.UpstreamDuplicateHeader;
                }
                head.Chunked = HeaderName.Same(value, "chunked"u8);
                return head.Chunked ? RejectReason.None : RejectReason.UpstreamUnknownTransferEncoding;
            case KnownResponseHeader.Status when _cgi:
                return previous >= 0 ? RejectReason.UpstreamDuplicateHeader : NoteStatus(value, field.ValueStart, head);
            default:
                return RejectReason.None;
        }
    }

    private static RejectReason NoteStatus(ReadOnlySpan<byte> value, int start, ResponseHead head)
    {
        if (value.Length < 3 || value.Length > 3 && value[3] != ' ')
        {
            return RejectReason.UpstreamInvalidStatus;
        }
        int status = 0;
        foreach (byte c in value[..3])
        {
            uint digit = (uint)(c - '0');
            if (digit > 9)
            {
                return RejectReason.UpstreamInvalidStatus;
            }
            status = status * 10 + (int)digit;
        }
        head.Status = status;
        int skip = Math.Min(4, value.Length);
        head.Reason = new TextRange(start + skip, value.Length - skip);
        return status < 100 ? RejectReason.UpstreamInvalidStatus : RejectReason.None;
    }

    private ParseStep Finish(ResponseHead head, int end)
    {
        if (_cgi)
        {
            if (head.Status == 0)
            {
                // RFC 3875 §6.2: a Location without a status is a redirect.
                head.Status = head.Has(KnownResponseHeader.Location) ? 302 : 200;
            }
        }
        else
        {
            if (head.Chunked && head.ContentLength >= 0)
            {
                return Reject(head, RejectReason.UpstreamLengthAndTransferEncoding);
            }
            bool modern = head.Version >= 11;
            // RFC 9112 §6.1: Transfer-Encoding in HTTP/1.0 is faulty framing, to be believed once and then closed.
            head.KeepAlive = (head.Connection & ConnectionTokens.Close) == 0
                && (modern || !head.Chunked && (head.Connection & ConnectionTokens.KeepAlive) != 0);
        }
        head.HeadLength = end;
        return ParseStep.Done;
    }

    private ParseStep More(int scan)
    {
        _scan = scan;
        return ParseStep.NeedMore;
    }

    private readonly ParseStep Reject(ResponseHead head, RejectReason reason) => RejectAt(head, reason, _lineStart);

    private readonly ParseStep RejectAt(ResponseHead head, RejectReason reason, int line)
    {
        head.Reject = reason;
        head.RejectLineStart = line;
        return ParseStep.Reject;
    }
}
