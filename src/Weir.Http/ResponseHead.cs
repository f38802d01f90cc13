// The head of a response before it is written: status, the fields that filters look at as values of their own, and a
// list of other header fields as slices (arena, configuration or literal memory). One per request, reused.
using Weir.Kernel;
using Weir.Protocol.Http1;

namespace Weir.Http;

/// <summary>A header field of a response. Value memory lives at least as long as the request.</summary>
public struct ResponseField
{
    public NativeSlice Name;
    public NativeSlice Value;
    public KnownResponseHeader Known;

    /// <summary>Not written any more.</summary>
    public bool Removed;
}

/// <summary>A response's head.</summary>
public sealed class ResponseHead
{
    private ResponseField[] _fields = new ResponseField[16];
    private int _count;
    private ResponseField[] _trailers = [];
    private int _trailerCount;

    public int Status { get; set; }

    /// <summary>Status code and reason as an upstream sent them ("200 Fine"); empty for the standard text.</summary>
    public NativeSlice StatusText { get; set; }

    /// <summary>Content-Type without charset; empty for none.</summary>
    public NativeSlice ContentType { get; set; }

    /// <summary>Appended as `; charset=…` when not empty.</summary>
    public NativeSlice Charset { get; set; }

    /// <summary>The character set that an upstream wants the body to be given in (X-Accel-Charset).</summary>
    public NativeSlice OverrideCharset { get; set; }

    /// <summary>Bytes of the body, or -1 when not known.</summary>
    public long ContentLength { get; set; } = -1;

    /// <summary>Seconds since 1970, or -1.</summary>
    public long LastModified { get; set; } = -1;

    /// <summary>The Last-Modified text when an upstream sent it, which stands among the fields; wins over
    /// <see cref="LastModified"/>.</summary>
    public NativeSlice LastModifiedText => Value(KnownResponseHeader.LastModified);

    public NativeSlice Location { get; set; }

    /// <summary>A Server or Date of an upstream that is passed through; empty for ours.</summary>
    public NativeSlice Server { get; set; }
    public NativeSlice Date { get; set; }

    /// <summary>No Server field at all.</summary>
    public bool HidesServer { get; set; }

    /// <summary>Conditional requests were the upstream's to answer: the not-modified filter leaves it alone.</summary>
    public bool NotModifiedDisabled { get; set; }

    /// <summary>Whether the body may be cut into ranges (Accept-Ranges, Range).</summary>
    public bool AllowRanges { get; set; }

    /// <summary>Where in the whole the first byte of the body stands.</summary>
    public long ContentOffset { get; set; }

    /// <summary>A range response to a part of the body was made already.</summary>
    public bool SingleRange { get; set; }

    /// <summary>Trailers will follow the body: it has to be chunked where the client can take that.</summary>
    public bool ExpectTrailers { get; set; }

    /// <summary>Set by the driver: the body is sent chunked.</summary>
    public bool Chunked { get; set; }

    /// <summary>Content-Encoding was applied by us or the origin: no further compression.</summary>
    public bool HasEncoding => Find(KnownResponseHeader.ContentEncoding) >= 0;

    /// <summary>The head has been written.</summary>
    public bool IsSent { get; set; }

    /// <summary>Vary: Accept-Encoding has to be said (gzip_vary).</summary>
    public bool VaryAcceptEncoding { get; set; }

    /// <summary>There is no body whatever was pushed (HEAD, 204, 304).</summary>
    public bool HeaderOnly { get; set; }

    /// <summary>An upgrade: the connection becomes a tunnel after the head (101).</summary>
    public bool IsUpgrade { get; set; }

    /// <summary>A 200 with a length and nothing of its own but a type: its head is known in advance.</summary>
    internal bool IsUsual => Status == 200 && ContentLength >= 0 && LastModified < 0
        && (_count | StatusText.Length | Server.Length | Date.Length | Charset.Length | Location.Length) == 0
        && !(Chunked | IsUpgrade | HidesServer | VaryAcceptEncoding);

    public int Count => _count;

    public ref ResponseField this[int index] => ref _fields[index];

    public ReadOnlySpan<ResponseField> Fields => new(_fields, 0, _count);

    public ReadOnlySpan<ResponseField> Trailers => new(_trailers, 0, _trailerCount);

    public ref ResponseField Add(NativeSlice name, NativeSlice value, KnownResponseHeader known =
        KnownResponseHeader.None)
    {
        if (_count == _fields.Length)
        {
            Array.Resize(ref _fields, _count * 2);
        }
        ref ResponseField field = ref _fields[_count++];
        field.Name = name;
        field.Value = value;
        field.Known = known;
        field.Removed = false;
        return ref field;
    }

    public void AddTrailer(NativeSlice name, NativeSlice value)
    {
        if (_trailerCount == _trailers.Length)
        {
            Array.Resize(ref _trailers, Math.Max(4, _trailerCount * 2));
        }
        _trailers[_trailerCount++] = new ResponseField { Name = name, Value = value };
    }

    /// <summary>Index of the first field with this number that is not removed, or -1.</summary>
    public int Find(KnownResponseHeader known)
    {
        for (int i = 0; i < _count; i++)
        {
            if (_fields[i].Known == known && !_fields[i].Removed)
            {
                return i;
            }
        }
        return -1;
    }

    /// <summary>Index of the first field with this name (any case) at or after <paramref name="from"/>, or
    /// -1.</summary>
    public int Find(ReadOnlySpan<byte> name, int from = 0)
    {
        for (int i = from; i < _count; i++)
        {
            if (!_fields[i].Removed && HeaderName.Same(_fields[i].Name.Span, name))
            {
                return i;
            }
        }
        return -1;
    }

    public NativeSlice Value(KnownResponseHeader known)
    {
        int i = Find(known);
        return i < 0 ? default : _fields[i].Value;
    }

    /// <summary>Removes all fields with this number.</summary>
    public void Remove(KnownResponseHeader known)
    {
        for (int i = 0; i < _count; i++)
        {
            if (_fields[i].Known == known)
            {
                _fields[i].Removed = true;
            }
        }
    }

    /// <summary>As nginx before an error page or a new response: content headers and validators go.</summary>
    public void ClearContent()
    {
        ContentLength = -1;
        ContentType = default;
        Charset = default;
        LastModified = -1;
        Remove(KnownResponseHeader.LastModified);
        AllowRanges = false;
        NotModifiedDisabled = false;
        Remove(KnownResponseHeader.AcceptRanges);
        Remove(KnownResponseHeader.ContentEncoding);
        Remove(KnownResponseHeader.ETag);
    }

    public void Reset()
    {
        _count = 0;
        _trailerCount = 0;
        Status = 0;
        StatusText = default;
        ContentType = default;
        Charset = default;
        OverrideCharset = default;
        ContentLength = -1;
        LastModified = -1;
        Location = default;
        Server = default;
        Date = default;
        AllowRanges = false;
        NotModifiedDisabled = false;
        SingleRange = false;
        ContentOffset = 0;
        Chunked = false;
        ExpectTrailers = false;
        IsSent = false;
        VaryAcceptEncoding = false;
        HeaderOnly = false;
        IsUpgrade = false;
        HidesServer = false;
    }
}
