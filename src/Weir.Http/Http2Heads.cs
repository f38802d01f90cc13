// Response heads as HPACK fields, in nginx's order, and what of a request's fields the connection itself wants to know.
// The encoder and the memory are the connection's. One loop's thread; keeps nothing.
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Protocol.Http2;

namespace Weir.Http;

/// <summary>Watches the fields of a request go by for what the connection itself wants to know.</summary>
internal ref struct Http2HeadSink(RequestFields fields) : IHpackSink
{
    internal RequestFields Fields = fields;
    internal StreamPriority Priority = StreamPriority.Default;
    internal bool HasPriority;
    internal bool IsWebSocket;
    internal bool HasKey;

    public void Field(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, int staticName,
        bool sensitive)
    {
        Fields.Field(name, value, staticName, sensitive);
        if (staticName != 0)
        {
            return;
        }
        switch (name.Length)
        {
            case 8 when name.SequenceEqual("priority"u8):
                HasPriority = true;
                Priority = StreamPriority.Parse(value);
                break;
            case 9 when name.SequenceEqual(":protocol"u8):
                IsWebSocket = HeaderName.Same(value, "websocket"u8);
                break;
            case 17 when name.SequenceEqual("sec-websocket-key"u8):
                HasKey = true;
                break;
        }
    }
}

/// <summary>Takes the fields of a block that nobody wants.</summary>
internal readonly struct Http2NoSink : IHpackSink
{
    public void Field(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, int staticName, bool sensitive)
    {
    }
}

/// <summary>Encodes response heads.</summary>
internal static class Http2Heads
{
    private const int FieldOverhead = 18;

    /// <summary>large_client_header_buffers bounds each line as it does in HTTP/1.</summary>
    internal static RejectReason LongLine(RequestHead head, long max)
    {
        if (head.HeadLength <= max)
        {
            return RejectReason.None;
        }
        if (head.RequestLine.Length + 2 > max)
        {
            return RejectReason.RequestLineTooLong;
        }
        foreach (ref readonly HeaderField field in head.Fields)
        {
            if (field.NameLength + field.ValueLength + 4 > max)
            {
                return RejectReason.HeaderLineTooLong;
            }
        }
        return RejectReason.None;
    }

    /// <summary>What a response's head takes at most.</summary>
    internal static int Room(HttpRequest r)
    {
        ResponseHead head = r.Response;
        return 512 + r.Location.ServerHeader.Length + head.Location.Length + head.LastModifiedText.Length
            + head.ContentType.Length + head.Charset.Length + head.Server.Length + RoomOf(head.Fields);
    }

    /// <summary>Writes a response's head. Returns its bytes.</summary>
    internal static int Write(HpackEncoder encoder, Span<byte> to, HttpRequest r, HttpClock clock, bool isTunnel)
    {
        ResponseHead head = r.Response;
        int n = encoder.Begin(to);
        n += encoder.Status(to[n..], isTunnel && head.IsUpgrade ? 200 : head.Status);
        n += WriteServer(encoder, to[n..], head, r.Location, clock);
        if (!head.ContentType.IsEmpty)
        {
            n += WriteType(encoder, to[n..], r, head);
        }
        Span<byte> number = stackalloc byte[20];
        if (head.ContentLength >= 0)
        {
            System.Buffers.Text.Utf8Formatter.TryFormat(head.ContentLength, number, out int digits);
            n += encoder.Field(to[n..], "content-length"u8, number[..digits], HpackIndexing.Literal);
        }
        if (head.LastModified >= 0 && head.Status is 200 or 206 or 304
            && head.Find(KnownResponseHeader.LastModified) < 0)
        {
            n += encoder.Field(to[n..], "last-modified"u8, clock.DateOf(head.LastModified), HpackIndexing.Literal);
        }
        if (!head.Location.IsEmpty)
        {
            n += encoder.Field(to[n..], "location"u8, head.Location.Span, HpackIndexing.Literal);
        }
        if (head.VaryAcceptEncoding)
        {
            n += encoder.Field(to[n..], "vary"u8, "Accept-Encoding"u8, HpackIndexing.Add);
        }
        return n + WriteFields(encoder, to[n..], head.Fields, head.IsUpgrade);
    }

    internal static int RoomOf(ReadOnlySpan<ResponseField> fields)
    {
        int room = FieldOverhead;
        foreach (ref readonly ResponseField field in fields)
        {
            room += field.Name.Length + field.Value.Length + FieldOverhead;
        }
        return room;
    }
    private static int WriteServer(HpackEncoder encoder, Span<byte> to, ResponseHead head,
        LocationConf location, HttpClock clock)
    {
        int n = 0;
        if (!head.Server.IsEmpty)
        {
            n = encoder.Field(to, "server"u8, head.Server.Span, HpackIndexing.Add);
        }
        else if (!head.HidesServer && location.ServerHeader.Length > "Server: \r\n"u8.Length)
        {
            n = encoder.Field(to, "server"u8, location.ServerHeader.Span["Server: ".Length..^2], HpackIndexing.Add);
        }
        ReadOnlySpan<byte> date = head.Date.IsEmpty ? clock.DateLine()["Date: ".Length..^2] : head.Date.Span;
        return n + encoder.Field(to[n..], "date"u8, date, HpackIndexing.Add);
    }

    private static int WriteType(HpackEncoder encoder, Span<byte> to, HttpRequest r, ResponseHead head)
    {
        if (head.Charset.IsEmpty)
        {
            return encoder.Field(to, "content-type"u8, head.ContentType.Span, HpackIndexing.Add);
        }
        NativeSlice both = r.Arena.Allocate(head.ContentType.Length + "; charset=".Length + head.Charset.Length);
        var w = new SpanWriter(both.Span);
        w.Text(head.ContentType.Span);
        w.Write("; charset="u8);
        w.Text(head.Charset.Span);
        return encoder.Field(to, "content-type"u8, both.Span, HpackIndexing.Add);
    }

    /// <summary>Fields but for those that speak of an HTTP/1 connection (RFC 9113 §8.2.2).</summary>
    internal static int WriteFields(HpackEncoder encoder, Span<byte> to, ReadOnlySpan<ResponseField> fields,
        bool isUpgrade = false)
    {
        int n = 0;
        foreach (ref readonly ResponseField field in fields)
        {
            ReadOnlySpan<byte> name = field.Name.Span;
            if (field.Removed || FieldRules.IsOfConnection(name)
                || isUpgrade && HeaderName.Same(name, "sec-websocket-accept"u8))
            {
                continue;
            }
            n += encoder.Field(to[n..], name, field.Value.Span, IndexingOf(field.Known));
        }
        return n;
    }

    /// <summary>What is another one in most answers does not push out of the table what is the same in all.</summary>
    private static HpackIndexing IndexingOf(KnownResponseHeader known) => known switch
    {
        KnownResponseHeader.SetCookie => HpackIndexing.Never,
        KnownResponseHeader.ETag or KnownResponseHeader.LastModified or KnownResponseHeader.ContentLength
            or KnownResponseHeader.ContentRange or KnownResponseHeader.Location or KnownResponseHeader.Expires
            or KnownResponseHeader.Date or KnownResponseHeader.Age => HpackIndexing.Literal,
        _ => HpackIndexing.Add,
    };
}
