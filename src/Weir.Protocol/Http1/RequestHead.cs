// A request's head as offsets into its bytes: request line, header fields and what they say about framing and the
// connection. One object per connection, reused for every request; it allocates only when a head has more fields than
// any before it. It never holds the bytes themselves: who keeps the head keeps them.
namespace Weir.Protocol.Http1;

/// <summary>The form of a request target (RFC 9112 §3.2).</summary>
public enum TargetForm : byte
{
    /// <summary><c>/path?query</c></summary>
    Origin,
    /// <summary><c>http://host/path?query</c></summary>
    Absolute,
    /// <summary><c>host:port</c>, only with CONNECT.</summary>
    Authority,
}

/// <summary>What stands in a target beyond plain characters.</summary>
[Flags]
public enum UriFlags : byte
{
    None = 0,
    /// <summary>A percent sign in the path.</summary>
    Percent = 1,
    /// <summary>Two slashes in a row in the path.</summary>
    DoubleSlash = 2,
    /// <summary>A segment of the path begins with a dot.</summary>
    SlashDot = 4,
    /// <summary>A plus sign in the path.</summary>
    Plus = 8,
    /// <summary>A fragment follows; neither path nor query contain it.</summary>
    Fragment = 16,
    /// <summary>There is a question mark, even if nothing follows it.</summary>
    Query = 32,
    /// <summary>The path is not its own normal form and has to go through the normaliser.</summary>
    Complex = Percent | DoubleSlash | SlashDot,
}

/// <summary>Tokens of the Connection header that mean something to a server.</summary>
[Flags]
public enum ConnectionTokens : byte
{
    None = 0, Close = 1, KeepAlive = 2, Upgrade = 4, Te = 8,
    /// <summary>There is a token beyond these: a header nominated as hop-by-hop.</summary>
    Other = 16,
}

/// <summary>A parsed request head: offsets into bytes that somebody else holds.</summary>
public sealed class RequestHead : HeaderFields
{
    /// <summary>Where the request line starts: 0, or after empty lines that were skipped.</summary>
    public int RequestStart { get; internal set; }
    /// <summary>Bytes of the whole head, from the buffer's start to after the empty line.</summary>
    public int HeadLength { get; internal set; }
    /// <summary>Where the header lines start: right after the request line's end.</summary>
    public int HeadersStart { get; internal set; }

    public HttpMethod Method { get; internal set; }
    public TextRange MethodRange { get; internal set; }
    /// <summary>The target as sent (nginx's <c>$request_uri</c> is its path and query).</summary>
    public TextRange Target { get; internal set; }
    public TargetForm Form { get; internal set; }
    public UriFlags UriFlags { get; internal set; }
    /// <summary>The scheme of an absolute target.</summary>
    public TextRange Scheme { get; internal set; }
    /// <summary>The path as sent, without query and fragment. Empty (an absolute target with no path) means
    /// "/".</summary>
    public TextRange Path { get; internal set; }
    /// <summary>What follows the question mark, without the fragment.</summary>
    public TextRange Query { get; internal set; }
    /// <summary>The request line without its line end, for logs (<c>$request</c>).</summary>
    public TextRange RequestLine { get; internal set; }

    /// <summary>0 and 9 for a request without a version.</summary>
    public byte VersionMajor { get; internal set; }
    public byte VersionMinor { get; internal set; }
    /// <summary>9, 10, 11 (and up to 19, to be treated as 11).</summary>
    public int Version => VersionMajor * 10 + VersionMinor;

    /// <summary>The host the request is for, without port: from an absolute target, else from the Host
    /// header.</summary>
    public TextRange Host { get; internal set; }
    /// <summary>The port's digits in the same place, or empty.</summary>
    public TextRange HostPort { get; internal set; }
    /// <summary>The host has letters in upper case.</summary>
    public bool HostHasUpper { get; internal set; }

    /// <summary>The Content-Length, or -1.</summary>
    public long ContentLength { get; internal set; }
    public bool Chunked { get; internal set; }
    /// <summary>A body follows the head.</summary>
    public bool HasBody => Chunked || ContentLength > 0;
    public bool Expect100 { get; internal set; }
    public ConnectionTokens Connection { get; internal set; }
    /// <summary>The client may send another request on this connection, as far as it is concerned.</summary>
    public bool KeepAliveRequested { get; internal set; }
    /// <summary>Connection has "upgrade" and an Upgrade header is there.</summary>
    public bool UpgradeRequested { get; internal set; }
    /// <summary>How many fields have an unusual name and are dropped.</summary>
    public int DroppedCount { get; internal set; }

    /// <summary>Why the head was refused.</summary>
    public RejectReason Reject { get; internal set; }
    /// <summary>Where the line begins that it was refused for.</summary>
    public int RejectLineStart { get; internal set; }
    /// <summary>For duplicates: index of the first field of that name, else -1.</summary>
    public int RejectPrevious { get; internal set; }

    /// <summary>Index of the first field with this name, or -1.</summary>
    public int Find(KnownHeader header) => FindKnown((int)header);

    public bool Has(KnownHeader header) => FindKnown((int)header) >= 0;

    /// <summary>Whether one of these headers is there; a bit for each <see cref="KnownHeader"/>.</summary>
    public bool HasAny(ulong headers) => HasAnyKnown(headers);

    /// <summary>The value of the first field with this name; empty when there is none.</summary>
    public ReadOnlySpan<byte> Value(KnownHeader header, ReadOnlySpan<byte> head)
    {
        int index = Find(header);
        return index < 0 ? default : Fields[index].Value(head);
    }

    /// <summary>Marks the head as refused for a limit that its reader enforces.</summary>
    public void Refuse(RejectReason reason) => Reject = reason;

    /// <summary>Takes over another head's offsets: for who keeps the head's bytes longer than its reader.</summary>
    public void CopyFrom(RequestHead other)
    {
        CopyFieldsFrom(other);
        RequestStart = other.RequestStart;
        HeadLength = other.HeadLength;
        HeadersStart = other.HeadersStart;
        Method = other.Method;
        MethodRange = other.MethodRange;
        Target = other.Target;
        Form = other.Form;
        UriFlags = other.UriFlags;
        Scheme = other.Scheme;
        Path = other.Path;
        Query = other.Query;
        RequestLine = other.RequestLine;
        VersionMajor = other.VersionMajor;
        VersionMinor = other.VersionMinor;
        Host = other.Host;
        HostPort = other.HostPort;
        HostHasUpper = other.HostHasUpper;
        ContentLength = other.ContentLength;
        Chunked = other.Chunked;
        Expect100 = other.Expect100;
        Connection = other.Connection;
        KeepAliveRequested = other.KeepAliveRequested;
        UpgradeRequested = other.UpgradeRequested;
        DroppedCount = other.DroppedCount;
        Reject = other.Reject;
        RejectLineStart = other.RejectLineStart;
        RejectPrevious = other.RejectPrevious;
    }

    /// <summary>A plain HTTP/1.1 head without a body: one with the same header lines says the same but for its request
    /// line.</summary>
    public bool IsRepeatable => Version == 11 && Form == TargetForm.Origin && Reject == RejectReason.None
        && ContentLength < 0 && !Chunked && !Expect100 && !UpgradeRequested && DroppedCount == 0;

    /// <summary>The header lines stand <paramref name="by"/> bytes further on than in the head before.</summary>
    internal void MoveHeaders(int by)
    {
        if (by != 0)
        {
            MoveFields(by);
            Host = new TextRange(Host.Start + by, Host.Length);
            HostPort = new TextRange(HostPort.Start + by, HostPort.Length);
        }
    }

    internal void Reset()
    {
        ClearFields();
        RequestStart = HeadLength = HeadersStart = 0;
        Method = HttpMethod.Other;
        MethodRange = Target = Scheme = Path = Query = RequestLine = Host = HostPort = default;
        Form = TargetForm.Origin;
        UriFlags = UriFlags.None;
        VersionMajor = VersionMinor = 0;
        HostHasUpper = Chunked = Expect100 = KeepAliveRequested = UpgradeRequested = false;
        ContentLength = -1;
        Connection = ConnectionTokens.None;
        DroppedCount = 0;
        Reject = RejectReason.None;
        RejectLineStart = 0;
        RejectPrevious = -1;
    }
}
