// HTTP/2 towards upstream servers, for gRPC and for proxy_http_version 2: a request's head goes straight into its
// connection's header compression, bodies travel as they are (frames and windows are the stream's), trailers reach the
// client. One object per location, without state.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Protocol.Http2;
using Weir.Session;
using Weir.Session.Upstream;

namespace Weir.Http.Proxy;

/// <summary>HTTP/2 with one location's settings.</summary>
/// <param name="headers">What is set; a Host among them is the authority.</param>
/// <param name="method">Takes the place of the client's method; null for none.</param>
/// <param name="passTrailers">Trailers of answers reach the client.</param>
/// <param name="rewrites">Who rewrites redirects and cookies; null for nobody.</param>
internal sealed class Http2Protocol(SetHeader[] headers, Template? method, bool passTrailers,
    UpstreamProtocol? rewrites) : UpstreamProtocol
{
    private const string ReadingHead = "reading response header from upstream", ReadingBody = "reading upstream";
    private const int HeadBytesMax = 60_000;

    private readonly int _host = Array.FindIndex(headers, static h => HeaderName.Same(h.Name.Span, "Host"u8));
    private readonly HpackIndexing[] _indexing =
        [.. headers.Select(static h => IndexingOf(HeaderName.Find(h.Name.Span)))];

    public override string Scheme => rewrites is null ? "grpc://" : "http://";
    public override string SecureScheme => rewrites is null ? "grpcs://" : "https://";
    public override bool IsMultiplexed => true;

    public override NativeSlice RewriteLocation(Exchange x, NativeSlice value) =>
        rewrites is null ? value : rewrites.RewriteLocation(x, value);

    public override NativeSlice RewriteRefresh(Exchange x, NativeSlice value) =>
        rewrites is null ? value : rewrites.RewriteRefresh(x, value);

    public override NativeSlice RewriteCookie(Exchange x, NativeSlice value) =>
        rewrites is null ? value : rewrites.RewriteCookie(x, value);

    // The request.

    public override int WriteRequest(Exchange x, BufferChain output)
    {
        HttpRequest r = x.Request;
        NativeSlice verb = method is null ? r.MethodName : method.Evaluate(r);
        x.MethodAsked = method is null ? r.Method : HttpMethods.Parse(verb.Span);
        x.AsksForUpgrade = false;
        int room = HpackEncoder.BytesMax(10, verb.Length) + HpackEncoder.BytesMax(10, x.TargetUri.Length)
            + HpackEncoder.BytesMax(10, x.TargetHost.Length) + 256;
        if (x.Values.Length < headers.Length)
        {
            x.Values = new NativeSlice[headers.Length * 2];
        }
        for (int i = 0; i < headers.Length; i++)
        {
            x.Values[i] = headers[i].Value.Evaluate(r);
            room += HpackEncoder.BytesMax(headers[i].Name.Length, x.Values[i].Length);
        }
        bool passes = x.Settings.PassRequestHeaders.Value;
        room += passes ? r.HeadBytes.Length + r.Head.Count * HpackEncoder.BytesMax(0, 0) : 0;
        if (room > HeadBytesMax)
        {
            r.LogError(LogLevel.Error, "the request head for the upstream is larger than 60k");
            return 500;
        }
        var stream = (UpstreamStream)x.Stream;
        stream.BeginRequest(x.Head, (int)Math.Min(x.Settings.BufferSizeBytes.Value, HeadBytesMax));
        HpackEncoder encoder = stream.Upstream.BeginHead(stream, room, out Span<byte> block);
        int n = encoder.Begin(block);
        n += WritePseudo(x, encoder, block[n..], verb.Span);
        n += WriteSetHeaders(x, encoder, block[n..]);
        if (x.HasBody && x.BodyBytes >= 0)
        {
            Span<byte> digits = stackalloc byte[20];
            System.Buffers.Text.Utf8Formatter.TryFormat(x.BodyBytes, digits, out int length);
            n += encoder.Field(block[n..], "content-length"u8, digits[..length], HpackIndexing.Literal);
        }
        if (passes)
        {
            n += PassHeaders(r, encoder, block[n..]);
        }
        bool ends = !x.StreamsBody && (!x.HasBody || x.BodyBytes == 0);
        stream.Upstream.EndHead(stream, n, ends);
        if (!ends && !x.StreamsBody)
        {
            if (x.HasOwnBody)
            {
                output.AppendSlice(x.OwnBody, null);
            }
            else
            {
                r.Body.AppendTo(output);
            }
            stream.EndAfterChain();
        }
        return 0;
    }

    private int WritePseudo(Exchange x, HpackEncoder encoder, Span<byte> block, ReadOnlySpan<byte> verb)
    {
        int n = encoder.Field(block, ":method"u8, verb, HpackIndexing.Literal);
        n += HpackEncoder.Indexed(block[n..],
            x.Tls is null ? HpackStaticTable.SchemeHttp : HpackStaticTable.SchemeHttps);
        NativeSlice target = HttpProtocol.Printable(x.Request, x.TargetUri);
        n += encoder.Field(block[n..], ":path"u8, target.Span, HpackIndexing.Literal);
        NativeSlice host = _host >= 0 ? x.Values[_host] : x.TargetHost;
        return host.IsEmpty || !IsPlain(host.Span) ? n
            : n + encoder.Field(block[n..], ":authority"u8, host.Span, HpackIndexing.Add);
    }

    private int WriteSetHeaders(Exchange x, HpackEncoder encoder, Span<byte> block)
    {
        int n = 0;
        for (int i = 0; i < headers.Length; i++)
        {
            ReadOnlySpan<byte> value = x.Values[i].Span.Trim(" \t"u8);
            ReadOnlySpan<byte> name = headers[i].Name.Span;
            // A line end inside a value would be another field to who passes it on over HTTP/1.
            if (i == _host || value.IsEmpty || !IsPlain(value) || FieldRules.IsOfConnection(name)
                || name.Length == 2 && HeaderName.Same(name, "te"u8) && !HeaderName.Same(value, "trailers"u8))
            {
                continue;
            }
            n += encoder.Field(block[n..], name, value, _indexing[i]);
        }
        return n;
    }

    private static bool IsPlain(ReadOnlySpan<byte> value) => value.IndexOfAny((byte)'\r', (byte)'\n', (byte)0) < 0;

    private int PassHeaders(HttpRequest r, HpackEncoder encoder, Span<byte> block)
    {
        ReadOnlySpan<byte> bytes = r.HeadBytes.Span;
        RequestHead head = r.Head;
        bool nominates = (head.Connection & ConnectionTokens.Other) != 0;
        int n = 0;
        foreach (ref readonly HeaderField field in head.Fields)
        {
            KnownHeader known = field.Known;
            ReadOnlySpan<byte> name = field.Name(bytes);
            ReadOnlySpan<byte> value = field.Value(bytes);
            if (field.Dropped || HttpProtocol.IsSet(headers, name, field.Hash))
            {
                continue;
            }
            if (known == KnownHeader.Te)
            {
                // Whether the client takes trailers is for the server to know (RFC 9113 §8.2.2).
                if (passTrailers && HeaderTokens.Contains(value, "trailers"u8))
                {
                    n += encoder.Field(block[n..], "te"u8, "trailers"u8, HpackIndexing.Add);
                }
                continue;
            }
            if (HttpProtocol.IsNeverPassed(known) || FieldRules.IsOfConnection(name)
                || nominates && HttpProtocol.IsNominated(head, name, bytes))
            {
                continue;
            }
            n += encoder.Field(block[n..], name, value, IndexingOf(known));
        }
        return n;
    }

    /// <summary>What comes again with other requests goes into the connection's table; secrets never do.</summary>
    private static HpackIndexing IndexingOf(KnownHeader known) => known switch
    {
        KnownHeader.Authorization or KnownHeader.Cookie or KnownHeader.ProxyAuthorization => HpackIndexing.Never,
        KnownHeader.UserAgent or KnownHeader.Accept or KnownHeader.AcceptEncoding or KnownHeader.AcceptLanguage
            or KnownHeader.ContentType or KnownHeader.Host or KnownHeader.Origin or KnownHeader.Te
            or KnownHeader.XForwardedProto or KnownHeader.XForwardedHost => HpackIndexing.Add,
        _ => HpackIndexing.Literal,
    };

    public override void WritePiece(Exchange x, NativeSlice piece, BufferSlab owner, BufferChain output) =>
        output.AppendSlice(piece, owner);

    public override void WriteEnd(Exchange x, BufferChain output) => ((UpstreamStream)x.Stream).EndAfterChain();

    // The answer.

    public override void StartAnswer(Exchange x)
    {
        x.ReleaseSlabs();
        x.PassesTrailers = passTrailers;
    }

    public override ReadStep ReadHead(Exchange x)
    {
        var stream = (UpstreamStream)x.Stream;
        if (stream.Reason != Http2Reason.None)
        {
            LogReason(x, stream.Reason, ReadingHead);
            return ReadStep.Reject;
        }
        if (!stream.HasHead)
        {
            if (!stream.IsReset)
            {
                return ReadStep.NeedMore;
            }
            if (!stream.IsUnprocessed)
            {
                LogReset(x, stream, ReadingHead);
            }
            return ReadStep.Reject;
        }
        ReadOnlySpan<byte> text = stream.TakeHead();
        x.HeadBytes = x.Request.Arena.Store(text);
        x.Count(text.Length);
        stream.ReleaseHead();
        x.BodyLeft = x.Head.ContentLength;
        return ReadStep.Done;
    }

    public override ReadStep ReadBody(Exchange x, BufferChain output)
    {
        var stream = (UpstreamStream)x.Stream;
        long bytes = stream.MoveBody(output);
        x.Count(bytes);
        bool hasLength = x.Head.ContentLength >= 0 && !IsEmptyByNature(x);
        if (hasLength)
        {
            x.BodyLeft -= bytes;
        }
        if (stream.Reason != Http2Reason.None)
        {
            LogReason(x, stream.Reason, ReadingBody);
            return ReadStep.Reject;
        }
        if (stream.IsReset)
        {
            LogReset(x, stream, ReadingBody);
            return ReadStep.Reject;
        }
        if (hasLength && (x.BodyLeft < 0 || x.BodyLeft > 0 && stream.IsFinished))
        {
            LogReason(x, Http2Reason.ContentLengthMismatch, ReadingBody);
            if (x.BodyLeft < 0)
            {
                // Never more than the head has said: behind it a client looks for the next answer.
                output.Clear();
            }
            return ReadStep.Reject;
        }
        if (!stream.IsFinished)
        {
            return ReadStep.NeedMore;
        }
        if (stream.TrailerLength > 0)
        {
            x.TrailerSlab = stream.TrailerText;
            x.TrailerSlab!.AddReference();
            x.TrailerLength = stream.TrailerLength;
        }
        return ReadStep.Done;
    }

    private static void LogReason(Exchange x, Http2Reason reason, string action)
    {
        Http2Fault fault = Http2Reasons.Of(reason);
        x.LogWith(LogLevel.Error, reason is Http2Reason.HeaderListTooLarge or Http2Reason.TooManyFields
            ? "upstream sent too big header" : $"upstream sent {fault.Text} ({fault.Section})", 0, action);
    }

    private static void LogReset(Exchange x, UpstreamStream stream, string action) =>
        x.LogWith(LogLevel.Error, $"upstream rejected request with error {(uint)stream.ResetError} "
            + $"({Http2Errors.Name(stream.ResetError)})", 0, action);

    private static bool IsEmptyByNature(Exchange x) => x.MethodAsked == HttpMethod.Head || x.Head.Status is 204 or 304;

    public override bool EndsWithClose(Exchange x) => false;

    public override bool CanKeep(Exchange x) => x.BodyEnded;

    public override long BodyLength(Exchange x) => x.Head.ContentLength < 0 && EndsWithHead(x) && !IsEmptyByNature(x)
        ? 0 : x.Head.ContentLength;

    public override bool IsBodyless(Exchange x) =>
        EndsWithHead(x) && (x.Head.ContentLength <= 0 || IsEmptyByNature(x));

    private static bool EndsWithHead(Exchange x) =>
        x.Stream is UpstreamStream { EndedWithHead: true, TrailerLength: 0, Reason: Http2Reason.None };
}
