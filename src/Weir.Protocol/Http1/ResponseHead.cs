// An upstream's response head as offsets into its bytes, and how its body is framed (RFC 9112 §6.3). Reused for every
// exchange; never holds the bytes themselves.
namespace Weir.Protocol.Http1;

/// <summary>How the end of a response's body is found.</summary>
public enum BodyFraming : byte
{
    /// <summary>There is no body, whatever the fields say.</summary>
    None,
    /// <summary><see cref="ResponseHead.ContentLength"/> bytes.</summary>
    Length,
    Chunked,
    /// <summary>Until the connection (or the stream it comes in) ends.</summary>
    UntilClose,
    /// <summary>The connection is no longer HTTP: 101, or a 2xx to CONNECT.</summary>
    Tunnel,
}

/// <summary>A parsed response head: offsets into bytes that somebody else holds.</summary>
public sealed class ResponseHead : HeaderFields
{
    /// <summary>Bytes of the whole head.</summary>
    public int HeadLength { get; internal set; }
    /// <summary>Where the header lines start.</summary>
    public int HeadersStart { get; internal set; }
    /// <summary>The status line without its line end; empty in CGI mode.</summary>
    public TextRange StatusLine { get; internal set; }
    /// <summary>10 to 19; 0 in CGI mode.</summary>
    public int Version { get; internal set; }
    public int Status { get; internal set; }
    /// <summary>The reason phrase, maybe empty.</summary>
    public TextRange Reason { get; internal set; }
    /// <summary>The Content-Length, or -1.</summary>
    public long ContentLength { get; internal set; }
    public bool Chunked { get; internal set; }
    public ConnectionTokens Connection { get; internal set; }
    /// <summary>The upstream keeps the connection open after this response, if its body ends in itself.</summary>
    public bool KeepAlive { get; internal set; }

    public RejectReason Reject { get; internal set; }
    /// <summary>Where the line begins that the head was refused for.</summary>
    public int RejectLineStart { get; internal set; }
    /// <summary>For duplicates: index of the first field of that name, else -1.</summary>
    public int RejectPrevious { get; internal set; }

    /// <summary>Index of the first field with this name, or -1.</summary>
    public int Find(KnownResponseHeader header) => FindKnown((int)header);

    public bool Has(KnownResponseHeader header) => FindKnown((int)header) >= 0;

    /// <summary>The value of the first field with this name; empty when there is none.</summary>
    public ReadOnlySpan<byte> Value(KnownResponseHeader header, ReadOnlySpan<byte> head)
    {
        int index = Find(header);
        return index < 0 ? default : Fields[index].Value(head);
    }

    /// <summary>How the body is framed when the request had this method.</summary>
    public BodyFraming Framing(HttpMethod requestMethod)
    {
        if (Status == 101 || requestMethod == HttpMethod.Connect && Status / 100 == 2)
        {
            return BodyFraming.Tunnel;
        }
        if (requestMethod == HttpMethod.Head || Status / 100 == 1 || Status is 204 or 304)
        {
            return BodyFraming.None;
        }
        return Chunked ? BodyFraming.Chunked
            : ContentLength >= 0 ? BodyFraming.Length
            : BodyFraming.UntilClose;
    }

    internal void Reset()
    {
        ClearFields();
        HeadLength = HeadersStart = Version = Status = RejectLineStart = 0;
        StatusLine = Reason = default;
        ContentLength = -1;
        Chunked = KeepAlive = false;
        Connection = ConnectionTokens.None;
        Reject = RejectReason.None;
        RejectPrevious = -1;
    }
}
