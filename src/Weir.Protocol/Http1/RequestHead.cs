// A request's head as offsets into its bytes: request line, header fields and what they say about framing and the
// connection. One object per connection, reused for every request; it allocates only when a head has more fields than any
// before it. It never holds the bytes themselves: who keeps the head keeps them.
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
public sealed class RequestHead
{
    private readonly ushort[] _first = new ushort[KnownNames.CountMax];
    private readonly ushort[] _last = new ushort[KnownNames.CountMax];
    private HeaderField[] _fields = new HeaderField[32];
    private int _count;

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
    /// <summary>The path as sent, without query and fragment. Empty (an absolute target with no path) means "/".</summary>
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

    /// <summary>The host the request is for, without port: from an absolute target, else from the Host header.</summary>
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

    /// <summary>All fields in the order they came, dropped ones included.</summary>
    public ReadOnlySpan<HeaderField> Fields => new(_fields, 0, _count);
    public int Count => _count;
    public ref readonly HeaderField this[int index] => ref Fields[index];

    /// <summary>Index of the first field with this name, or -1.</summary>
    public int Find(KnownHeader header) => _first[(int)header] - 1;

    public bool Has(KnownHeader header) => _first[(int)header] != 0;

    /// <summary>Index of the next field with the same name as that at <paramref name="index"/>, or -1. For names without
    /// a number this compares names.</summary>
    public int FindNext(int index, ReadOnlySpan<byte> head)
    {
        ref readonly HeaderField field = ref Fields[index];
        if (field.KnownId != 0)
        {
            return field.NextSame == 0 ? -1 : field.NextSame;
        }
        return FindFrom(index + 1, field.Name(head), field.Hash, head);
    }

    /// <summary>Index of the next field with the same known name, or -1.</summary>
    public int FindNext(int index)
    {
        int next = Fields[index].NextSame;
        return next == 0 ? -1 : next;
    }

    /// <summary>Index of the first field, not dropped, of any name, or -1. The hash is <see cref="HeaderName.Hash"/>.</summary>
    public int Find(ReadOnlySpan<byte> name, uint hash, ReadOnlySpan<byte> head) => FindFrom(0, name, hash, head);

    /// <summary>The value of the first field with this name; empty when there is none.</summary>
    public ReadOnlySpan<byte> Value(KnownHeader header, ReadOnlySpan<byte> head)
    {
        int index = Find(header);
        return index < 0 ? default : _fields[index].Value(head);
    }

    private int FindFrom(int start, ReadOnlySpan<byte> name, uint hash, ReadOnlySpan<byte> head)
    {
        ReadOnlySpan<HeaderField> fields = Fields;
        for (int i = start; i < fields.Length; i++)
        {
            ref readonly HeaderField field = ref fields[i];
            if (field.Hash == hash && !field.Dropped && HeaderName.Same(field.Name(head), name))
            {
                return i;
            }
        }
        return -1;
    }

    internal void Reset()
    {
        Array.Clear(_first);
        _count = 0;
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

    /// <summary>The slot the next field is read into. It counts only after <see cref="Append"/>.</summary>
    internal ref HeaderField NextSlot()
    {
        if (_count == _fields.Length)
        {
            Array.Resize(ref _fields, _fields.Length * 2);
        }
        ref HeaderField field = ref _fields[_count];
        field.KnownId = 0;
        field.NextSame = 0;
        field.Dropped = false;
        return ref field;
    }

    /// <summary>Takes the slot as a field. Returns the index of the first field of the same known name, or -1.</summary>
    internal int Append(byte knownId)
    {
        int index = _count++;
        if (knownId == 0)
        {
            return -1;
        }
        _fields[index].KnownId = knownId;
        int first = _first[knownId] - 1;
        if (first < 0)
        {
            _first[knownId] = (ushort)(index + 1);
        }
        else
        {
            _fields[_last[knownId]].NextSame = (ushort)index;
        }
        _last[knownId] = (ushort)index;
        return first;
    }
}
