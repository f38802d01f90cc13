// Header fields as ASP.NET Core sees them: a small table in the order of the wire, reused for every request. A
// request's fields are read from the copy of its head when somebody first asks, and a name or value that is the
// same as before in its place is the same string as before. Used by one request's code at a time, as every
// HttpContext.
using System.Buffers;
using System.Collections;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;
using Weir.Protocol.Http1;

namespace Weir.AspNetCore;

/// <summary>A dictionary of few fields, compared without case.</summary>
internal class HeaderTable : IHeaderDictionary
{
    private static readonly SearchValues<char> s_tokens = SearchValues.Create(
        "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

    private Entry[] _entries = new Entry[12];
    private int _count;
    private long _contentLength = -1;

    private protected struct Entry
    {
        internal string Name;
        internal StringValues Value;
    }

    /// <summary>The fields have left, or are not the application's to change.</summary>
    internal bool IsSealed { get; set; }

    private protected Span<Entry> Entries => _entries.AsSpan(0, _count);

    /// <summary>Called before anything is read or written.</summary>
    private protected virtual void Fill()
    {
    }

    internal virtual void Reset()
    {
        // Names stay where they are: the next request likely has the same in the same places.
        for (int i = 0; i < _count; i++)
        {
            _entries[i].Value = default;
        }
        _count = 0;
        _contentLength = -1;
        IsSealed = false;
    }

    /// <summary>Bytes of the body, or -1.</summary>
    internal long Length
    {
        get => _contentLength;
        set => _contentLength = value;
    }

    public long? ContentLength
    {
        get
        {
            Fill();
            return _contentLength >= 0 ? _contentLength : null;
        }

        set
        {
            CheckOpen();
            if (value < 0)
            {
                throw new ArgumentOutOfRangeException(nameof(value), value, "a length is not negative");
            }
            _contentLength = value ?? -1;
        }
    }

    public StringValues this[string key]
    {
        get
        {
            Fill();
            if (IsContentLength(key))
            {
                return LengthText();
            }
            int i = Find(key);
            return i < 0 ? StringValues.Empty : _entries[i].Value;
        }

        set
        {
            CheckOpen();
            if (value.Count == 0)
            {
                Remove(key);
                return;
            }
            if (IsContentLength(key))
            {
                _contentLength = ParseLength(value);
                return;
            }
            CheckValue(value);
            int i = Find(key);
            if (i >= 0)
            {
                _entries[i].Value = value;
            }
            else
            {
                CheckName(key);
                Append(key, value);
            }
        }
    }

    public int Count
    {
        get
        {
            Fill();
            return _count + (_contentLength >= 0 ? 1 : 0);
        }
    }

    public bool IsReadOnly => IsSealed;

    public ICollection<string> Keys => [.. this.Select(static pair => pair.Key)];

    public ICollection<StringValues> Values => [.. this.Select(static pair => pair.Value)];

    public void Add(string key, StringValues value)
    {
        CheckOpen();
        if (ContainsKey(key))
        {
            throw new ArgumentException($"there is a field \"{key}\" already", nameof(key));
        }
        this[key] = value;
    }

    public void Add(KeyValuePair<string, StringValues> item) => Add(item.Key, item.Value);

    public bool ContainsKey(string key) => TryGetValue(key, out _);

    public bool Contains(KeyValuePair<string, StringValues> item) =>
        TryGetValue(item.Key, out StringValues value) && value == item.Value;

    public bool TryGetValue(string key, [MaybeNullWhen(false)] out StringValues value)
    {
        Fill();
        if (IsContentLength(key))
        {
            value = LengthText();
            return _contentLength >= 0;
        }
        int i = Find(key);
        value = i < 0 ? default : _entries[i].Value;
        return i >= 0;
    }

    public bool Remove(string key)
    {
        CheckOpen();
        if (IsContentLength(key))
        {
            bool was = _contentLength >= 0;
            _contentLength = -1;
            return was;
        }
        int i = Find(key);
        if (i < 0)
        {
            return false;
        }
        _entries.AsSpan(i + 1, _count - i - 1).CopyTo(_entries.AsSpan(i));
        _entries[--_count] = default;
        return true;
    }

    public bool Remove(KeyValuePair<string, StringValues> item) => Contains(item) && Remove(item.Key);

    public void Clear()
    {
        CheckOpen();
        Entries.Clear();
        _count = 0;
        _contentLength = -1;
    }

    public void CopyTo(KeyValuePair<string, StringValues>[] array, int arrayIndex)
    {
        foreach (KeyValuePair<string, StringValues> pair in this)
        {
            array[arrayIndex++] = pair;
        }
    }

    public IEnumerator<KeyValuePair<string, StringValues>> GetEnumerator()
    {
        Fill();
        if (_contentLength >= 0)
        {
            yield return new KeyValuePair<string, StringValues>(HeaderNames.ContentLength, LengthText());
        }
        for (int i = 0; i < _count; i++)
        {
            yield return new KeyValuePair<string, StringValues>(_entries[i].Name, _entries[i].Value);
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private protected void Append(string name, StringValues value)
    {
        Grow();
        _entries[_count++] = new Entry { Name = name, Value = value };
    }

    /// <summary>The entry that comes next, with the name that was there before; <see cref="Take"/> keeps
    /// it.</summary>
    private protected ref Entry Next()
    {
        Grow();
        return ref _entries[_count];
    }

    private protected void Take() => _count++;

    private void Grow()
    {
        if (_count == _entries.Length)
        {
            Array.Resize(ref _entries, _count * 2);
        }
    }

    private protected int Find(string key)
    {
        ReadOnlySpan<Entry> entries = Entries;
        for (int i = 0; i < entries.Length; i++)
        {
            string name = entries[i].Name;
            if (ReferenceEquals(name, key)
                || (name.Length == key.Length && name.Equals(key, StringComparison.OrdinalIgnoreCase)))
            {
                return i;
            }
        }
        return -1;
    }

    private void CheckOpen()
    {
        if (IsSealed)
        {
            throw new InvalidOperationException("the header fields are read-only: the answer has started");
        }
        Fill();
    }

    private static bool IsContentLength(string key) =>
        key.Length == 14 && key.Equals("Content-Length", StringComparison.OrdinalIgnoreCase);

    private StringValues LengthText() => _contentLength < 0 ? StringValues.Empty
        : _contentLength.ToString(CultureInfo.InvariantCulture);

    private static long ParseLength(StringValues value) =>
        long.TryParse(value.ToString(), NumberStyles.None, CultureInfo.InvariantCulture, out long length)
            ? length : throw new InvalidOperationException($"\"{value}\" is no Content-Length");

    private static void CheckName(string name)
    {
        if (name.Length == 0 || name.AsSpan().ContainsAnyExcept(s_tokens))
        {
            throw new InvalidOperationException($"\"{name}\" is no name of a header field");
        }
    }

    private static void CheckValue(StringValues value)
    {
        for (int i = 0; i < value.Count; i++)
        {
            if (value[i].AsSpan().IndexOfAny('\r', '\n', '\0') >= 0)
            {
                throw new InvalidOperationException("the value of a header field holds a line end or a NUL");
            }
        }
    }
}

/// <summary>The fields of an answer, or its trailers.</summary>
internal sealed class ResponseHeaderTable : HeaderTable
{
    /// <summary>Hands the fields to the server, which sends them.</summary>
    internal void CopyTo(Server.GuestFields fields)
    {
        foreach (ref readonly Entry entry in Entries)
        {
            for (int i = 0; i < entry.Value.Count; i++)
            {
                if (entry.Value[i] is { } value)
                {
                    fields.Add(entry.Name, value);
                }
            }
        }
    }
}

/// <summary>The fields of a request.</summary>
internal sealed class RequestHeaderTable : HeaderTable
{
    private static readonly UTF8Encoding s_strict = new(false, throwOnInvalidBytes: true);

    // In the order of KnownHeader.
    private static readonly string[] s_known =
    [
        "", HeaderNames.Host, HeaderNames.Connection, HeaderNames.ContentLength, HeaderNames.TransferEncoding,
        HeaderNames.Expect, HeaderNames.Upgrade, HeaderNames.KeepAlive, HeaderNames.TE, HeaderNames.Trailer,
        HeaderNames.UserAgent, HeaderNames.Accept, HeaderNames.AcceptEncoding, HeaderNames.AcceptLanguage,
        HeaderNames.AcceptCharset, HeaderNames.Referer, HeaderNames.Cookie, HeaderNames.Authorization,
        HeaderNames.ProxyAuthorization, HeaderNames.ProxyConnection, HeaderNames.ContentType,
        HeaderNames.ContentRange, HeaderNames.ContentEncoding, HeaderNames.Range, HeaderNames.IfRange,
        HeaderNames.IfMatch, HeaderNames.IfNoneMatch, HeaderNames.IfModifiedSince, HeaderNames.IfUnmodifiedSince,
        HeaderNames.CacheControl, HeaderNames.Pragma, HeaderNames.Origin, "X-Forwarded-For", "X-Forwarded-Proto",
        "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP", "X-Request-ID", HeaderNames.XRequestedWith, "Forwarded",
        HeaderNames.Via, HeaderNames.Date, HeaderNames.DNT, "Priority", HeaderNames.UpgradeInsecureRequests,
        "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User", "Sec-CH-UA", "Sec-CH-UA-Mobile",
        "Sec-CH-UA-Platform", HeaderNames.SecWebSocketKey, HeaderNames.SecWebSocketVersion,
        HeaderNames.SecWebSocketProtocol, HeaderNames.SecWebSocketExtensions, "Destination", "Depth", "Overwrite",
        "HTTP2-Settings", "Early-Data", HeaderNames.TraceParent,
    ];

    // Values that were here before, by place.
    private string?[] _before = new string?[12];
    private Server.GuestExchange? _exchange;

    internal void Begin(Server.GuestExchange exchange) => _exchange = exchange;

    internal override void Reset()
    {
        _exchange = null;
        base.Reset();
    }

    /// <summary>Reads the lines behind a chunked body; they were checked when they came.</summary>
    internal void Read(ReadOnlySpan<byte> lines)
    {
        foreach (Range line in lines.Split((byte)'\n'))
        {
            int colon = lines[line].IndexOf((byte)':');
            if (colon <= 0)
            {
                continue;
            }
            string name = Encoding.Latin1.GetString(lines[line][..colon]);
            string value = Decode(lines[line][(colon + 1)..].Trim(" \t\r"u8));
            int same = Find(name);
            if (same >= 0)
            {
                Entries[same].Value = StringValues.Concat(Entries[same].Value, value);
            }
            else
            {
                Append(name, value);
            }
        }
        IsSealed = true;
    }

    private protected override void Fill()
    {
        if (_exchange is not { } exchange)
        {
            return;
        }
        _exchange = null;
        ReadOnlySpan<byte> head = exchange.HeadBytes;
        int place = 0;
        foreach (ref readonly HeaderField field in exchange.Head.Fields)
        {
            if (field.Dropped || field.KnownId == (byte)KnownHeader.ContentLength)
            {
                continue;
            }
            // RFC 9112 §3.2.2: the host of an absolute target stands for what the field says.
            bool isNamed = field.KnownId == (byte)KnownHeader.Host && exchange.Head.Form == TargetForm.Absolute;
            string value = ValueAt(place++, isNamed ? HostOf(exchange.Head, head) : field.Value(head));
            ref Entry entry = ref Next();
            string name = field.KnownId != 0 ? s_known[field.KnownId] : Name(entry.Name, field.Name(head));
            int same = Find(name);
            if (same >= 0)
            {
                Entries[same].Value = StringValues.Concat(Entries[same].Value, value);
                continue;
            }
            entry.Name = name;
            entry.Value = value;
            Take();
        }
        Length = exchange.Head.ContentLength;
    }

    private static ReadOnlySpan<byte> HostOf(RequestHead head, ReadOnlySpan<byte> bytes)
    {
        TextRange port = head.HostPort;
        return port.Length == 0 ? head.Host.Of(bytes) : bytes[head.Host.Start..(port.Start + port.Length)];
    }

    private string ValueAt(int place, ReadOnlySpan<byte> bytes)
    {
        if (place >= _before.Length)
        {
            Array.Resize(ref _before, place * 2);
        }
        if (_before[place] is { } before && Ascii.Equals(bytes, before))
        {
            return before;
        }
        string text = Decode(bytes);
        // A large one is not worth keeping for a request that may never come.
        _before[place] = text.Length <= 256 ? text : null;
        return text;
    }

    private static string Name(string? before, ReadOnlySpan<byte> bytes) =>
        before is not null && Ascii.Equals(bytes, before) ? before : Encoding.Latin1.GetString(bytes);

    /// <summary>UTF-8 where it is that, else each byte is a character.</summary>
    internal static string Decode(ReadOnlySpan<byte> bytes)
    {
        if (Ascii.IsValid(bytes))
        {
            return Encoding.ASCII.GetString(bytes);
        }
        try
        {
            return s_strict.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            return Encoding.Latin1.GetString(bytes);
        }
    }
}
