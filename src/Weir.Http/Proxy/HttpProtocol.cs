// HTTP/1.x towards upstream servers: the request head from templates that were compiled once, in one pass; answers read
// with strict framing. Hop-by-hop headers of the client do not pass, and the framing of a request is always written
// anew.
using System.Buffers.Text;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Proxy;

/// <summary>A header that is set on requests to upstream servers.</summary>
internal readonly record struct SetHeader(NativeSlice Name, uint Hash, Template Value);

/// <summary>HTTP/1.0 or 1.1 with one location's settings.</summary>
internal abstract class HttpProtocol(SetHeader[] headers, bool version11, Template? method,
    bool passTrailers) : UpstreamProtocol
{
    private static ReadOnlySpan<byte> Version11 => " HTTP/1.1\r\n"u8;
    private static ReadOnlySpan<byte> Version10 => " HTTP/1.0\r\n"u8;

    private readonly int _upgradeIndex =
        Array.FindIndex(headers, static h => HeaderName.Same(h.Name.Span, "Upgrade"u8) && h.Name.Length == 7);

    public override string Scheme => "http://";

    /// <summary>A target without spaces and controls: where a variable brought some, they are escaped, or the server
    /// would
    /// read another request line than was meant.</summary>
    internal static NativeSlice Printable(HttpRequest r, NativeSlice target)
    {
        ReadOnlySpan<byte> text = target.Span;
        if (text.IndexOfAnyInRange((byte)0, (byte)0x20) < 0 && text.IndexOf((byte)0x7f) < 0)
        {
            return target;
        }
        NativeSlice escaped = r.Arena.Allocate(text.Length * 3);
        int n = 0;
        foreach (byte c in text)
        {
            if (c is > 0x20 and not 0x7f)
            {
                escaped.Span[n++] = c;
                continue;
            }
            escaped.Span[n++] = (byte)'%';
            escaped.Span[n++] = "0123456789ABCDEF"u8[c >> 4];
            escaped.Span[n++] = "0123456789ABCDEF"u8[c & 15];
        }
        return escaped.Slice(0, n);
    }

    public override int WriteRequest(Exchange x, BufferChain output)
    {
        HttpRequest r = x.Request;
        NativeSlice verb = method is not null ? method.Evaluate(r)
            : x.MethodInstead == HttpMethod.Other ? r.MethodName
            : NativeSlice.Literal(HttpMethods.Name(x.MethodInstead));
        x.MethodAsked = method is not null ? HttpMethods.Parse(verb.Span)
            : x.MethodInstead == HttpMethod.Other ? r.Method : x.MethodInstead;
        NativeSlice target = Printable(r, x.TargetUri);
        x.AsksForUpgrade = false;
        int room = verb.Length + target.Length + 16 + 64;
        if (x.Values.Length < headers.Length)
        {
            x.Values = new NativeSlice[headers.Length * 2];
        }
        for (int i = 0; i < headers.Length; i++)
        {
            NativeSlice value = headers[i].Value.Evaluate(r);
            x.Values[i] = value;
            x.AsksForUpgrade |= i == _upgradeIndex && !value.IsEmpty;
            room += headers[i].Name.Length + value.Length + 4;
        }
        bool passes = x.Settings.PassRequestHeaders.Value;
        room += passes ? r.HeadBytes.Length + r.Head.Count * 4 : 0;
        if (room > 65536)
        {
            r.LogError(LogLevel.Error, "the request head for the upstream is larger than 64k");
            return 500;
        }
        var w = new SpanWriter(output.GetSpan(room));
        w.Write(verb.Span);
        w.Write(" "u8);
        w.Write(target.Span);
        w.Write(version11 ? Version11 : Version10);
        WriteSetHeaders(x, ref w);
        WriteFraming(x, ref w);
        if (passes)
        {
            PassHeaders(r, ref w);
        }
        w.Write("\r\n"u8);
        output.Advance(w.Written);
        if (!x.StreamsBody && x.HasBody)
        {
            if (x.HasOwnBody)
            {
                output.AppendSlice(x.OwnBody, null);
            }
            else
            {
                r.Body.AppendTo(output);
            }
        }
        return 0;
    }

    private void WriteSetHeaders(Exchange x, ref SpanWriter w)
    {
        for (int i = 0; i < headers.Length; i++)
        {
            NativeSlice value = x.Values[i];
            if (value.IsEmpty)
            {
                continue;
            }
            // A line end inside a value would start another header.
            if (value.Span.IndexOfAny((byte)'\r', (byte)'\n', (byte)0) >= 0)
            {
                continue;
            }
            w.Write(headers[i].Name.Span);
            w.Write(": "u8);
            w.Write(value.Span);
            w.Write("\r\n"u8);
        }
    }

    private static void WriteFraming(Exchange x, ref SpanWriter w)
    {
        if (!x.HasBody)
        {
            return;
        }
        if (x.BodyBytes < 0)
        {
            w.Write("Transfer-Encoding: chunked\r\n"u8);
            return;
        }
        w.Write("Content-Length: "u8);
        w.Number(x.BodyBytes);
        w.Write("\r\n"u8);
    }

    private void PassHeaders(HttpRequest r, ref SpanWriter w)
    {
        ReadOnlySpan<byte> bytes = r.HeadBytes.Span;
        RequestHead head = r.Head;
        bool nominates = (head.Connection & ConnectionTokens.Other) != 0;
        foreach (ref readonly HeaderField field in head.Fields)
        {
            if (field.Dropped || IsNeverPassed(field.Known))
            {
                continue;
            }
            ReadOnlySpan<byte> name = field.Name(bytes);
            if (IsSet(headers, name, field.Hash) || nominates && IsNominated(head, name, bytes))
            {
                continue;
            }
            w.Write(name);
            w.Write(": "u8);
            w.Write(field.Value(bytes));
            w.Write("\r\n"u8);
        }
    }

    internal static bool IsSet(SetHeader[] headers, ReadOnlySpan<byte> name, uint hash)
    {
        foreach (ref readonly SetHeader header in headers.AsSpan())
        {
            if (header.Hash == hash && HeaderName.Same(header.Name.Span, name))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Whether the client's Connection header makes this one hop-by-hop (RFC 9110 §7.6.1).</summary>
    internal static bool IsNominated(RequestHead head, ReadOnlySpan<byte> name, ReadOnlySpan<byte> bytes)
    {
        for (int i = head.Find(KnownHeader.Connection); i >= 0; i = head.FindNext(i))
        {
            if (HeaderTokens.Contains(head[i].Value(bytes), name))
            {
                return true;
            }
        }
        return false;
    }

    internal static bool IsNeverPassed(KnownHeader known) => known is KnownHeader.Host or KnownHeader.Connection
        or KnownHeader.ContentLength or KnownHeader.TransferEncoding or KnownHeader.Expect or KnownHeader.Upgrade
        or KnownHeader.KeepAlive or KnownHeader.Te or KnownHeader.Trailer or KnownHeader.ProxyConnection;

    // A streamed body.

    public override void WritePiece(Exchange x, NativeSlice piece, BufferSlab owner, BufferChain output)
    {
        if (x.BodyBytes >= 0)
        {
            output.AppendSlice(piece, owner);
            return;
        }
        Span<byte> size = stackalloc byte[ChunkedEncoder.SizeLineMax];
        output.Append(size[..ChunkedEncoder.WriteSizeLine(piece.Length, size)]);
        output.AppendSlice(piece, owner);
        output.Append("\r\n"u8);
    }

    public override void WriteEnd(Exchange x, BufferChain output)
    {
        if (x.BodyBytes < 0)
        {
            output.Append(ChunkedEncoder.LastChunk);
        }
    }

    // The answer.

    public override void StartAnswer(Exchange x)
    {
        x.Parser.Reset(cgi: false);
        x.Chunks.Reset();
        x.TrailerLength = 0;
        x.PassesTrailers = passTrailers;
    }

    public override ReadStep ReadHead(Exchange x)
    {
        ReadOnlySpan<byte> input = x.Input;
        ParseStep step = x.Parser.Parse(input, x.Head, new ParseOptions { MaxHeaders = 1000 });
        long limit = x.Settings.BufferSizeBytes.Value;
        if (step == ParseStep.Reject)
        {
            x.LogWith(LogLevel.Error, RejectReasons.LogText(x.Head.Reject), 0, "reading response header from upstream");
            return ReadStep.Reject;
        }
        if (step == ParseStep.NeedMore ? input.Length >= limit : x.Head.HeadLength > limit)
        {
            x.LogWith(LogLevel.Error, "upstream sent too big header", 0, "reading response header from upstream");
            return ReadStep.Reject;
        }
        if (step == ParseStep.NeedMore)
        {
            return ReadStep.NeedMore;
        }
        x.HeadBytes = x.Request.Arena.Store(input[..x.Head.HeadLength]);
        x.Consume(x.Head.HeadLength);
        x.BodyLeft = x.Head.ContentLength;
        if (x.Head.Status == 101 && !x.AsksForUpgrade)
        {
            x.LogWith(LogLevel.Error, "upstream sent unexpected 101 response", 0,
                "reading response header from upstream");
            return ReadStep.Reject;
        }
        return ReadStep.Done;
    }

    public override ReadStep ReadBody(Exchange x, BufferChain output)
    {
        switch (x.Head.Framing(MethodAsked(x)))
        {
            case BodyFraming.Chunked:
                return ReadChunks(x, output);
            case BodyFraming.Length:
                int n = (int)Math.Min(x.BodyLeft, x.Input.Length);
                output.AppendSlice(x.InputMemory.Slice(0, n), n == 0 ? null : x.InputSlab);
                x.Consume(n);
                x.BodyLeft -= n;
                return x.BodyLeft == 0 ? ReadStep.Done : ReadStep.NeedMore;
            case BodyFraming.UntilClose:
                NativeSlice all = x.InputMemory;
                output.AppendSlice(all, all.IsEmpty ? null : x.InputSlab);
                x.Consume(all.Length);
                return ReadStep.NeedMore;
            default:
                return ReadStep.Done;
        }
    }

    private static ReadStep ReadChunks(Exchange x, BufferChain output)
    {
        while (true)
        {
            ChunkEvent e = x.Chunks.Decode(x.Input, out int consumed, out TextRange data, out TextRange trailers);
            switch (e)
            {
                case ChunkEvent.Data:
                    output.AppendSlice(x.InputMemory.Slice(data.Start, data.Length), x.InputSlab);
                    break;
                case ChunkEvent.Reject:
                    x.LogWith(LogLevel.Error, "upstream sent invalid chunked response", 0, "reading upstream");
                    return ReadStep.Reject;
            }
            if (trailers.Length > 0)
            {
                KeepTrailers(x, trailers.Of(x.Input));
            }
            x.Consume(consumed);
            if (e == ChunkEvent.End)
            {
                return ReadStep.Done;
            }
            if (e == ChunkEvent.NeedMore)
            {
                return ReadStep.NeedMore;
            }
        }
    }

    private static void KeepTrailers(Exchange x, ReadOnlySpan<byte> lines)
    {
        // The decoder bounds them.
        x.TrailerSlab ??= x.Request.Loop.Buffers.Rent(x.Chunks.TrailerBytesMax);
        int n = Math.Min(lines.Length, x.TrailerSlab.Capacity - x.TrailerLength);
        lines[..n].CopyTo(x.TrailerSlab.Span[x.TrailerLength..]);
        x.TrailerLength += n;
    }

    public override bool EndsWithClose(Exchange x) => x.Head.Framing(MethodAsked(x)) == BodyFraming.UntilClose;

    public override bool CanKeep(Exchange x) => x.Head.KeepAlive && x.BodyEnded
        && x.Head.Framing(MethodAsked(x)) is BodyFraming.None or BodyFraming.Length or BodyFraming.Chunked;

    public override long BodyLength(Exchange x) => x.Head.Chunked ? -1 : x.Head.ContentLength;

    public override bool IsBodyless(Exchange x) => x.Head.Framing(MethodAsked(x)) == BodyFraming.None
        || x.Head is { ContentLength: 0, Chunked: false };

    /// <summary>The method the server was asked with: `proxy_method` may have made it another than the
    /// client's.</summary>
    private static HttpMethod MethodAsked(Exchange x) => x.MethodAsked;
}
