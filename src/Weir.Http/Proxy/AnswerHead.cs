// From an upstream's head to the client's: which fields pass, which are acted on (X-Accel-*), which are rewritten. The
// fields are slices of the head's copy in the request's arena. Stateless; one loop's thread.
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Protocol.Digests;
using Weir.Protocol.Http1;
using Weir.Loop;

namespace Weir.Http.Proxy;

internal static class AnswerHead
{
    /// <summary>An interim answer: 103 is passed on where `early_hints` allows it, others are skipped.</summary>
    internal static void PassInterim(Exchange x)
    {
        HttpRequest r = x.Request;
        if (x.Head.Status != 103 || r.Location.EarlyHints.Value is not { Length: > 0 } conditions || !IsOn(r,
            conditions))
        {
            return;
        }
        ResponseHead response = r.Response;
        int before = response.Count;
        for (int i = 0; i < x.Head.Count; i++)
        {
            ref readonly HeaderField field = ref x.Head[i];
            if (!IsHopByHop(field.KnownResponse) && field.KnownResponse != KnownResponseHeader.ContentLength)
            {
                response.Add(NameOf(x, in field), ValueOf(x, in field), field.KnownResponse);
            }
        }
        r.Stream.WriteInterim(r, 103, response.Fields[before..]);
        for (int i = before; i < response.Count; i++)
        {
            response[i].Removed = true;
        }
    }

    /// <summary>The answer to a WebSocket's handshake fits the key that the request was sent with (RFC 6455
    /// §4.2.2).</summary>
    internal static bool FitsKey(Exchange x)
    {
        HttpRequest r = x.Request;
        ReadOnlySpan<byte> key = r.Head.Value(KnownHeader.SecWebSocketKey, r.HeadBytes.Span);
        ReadOnlySpan<byte> name = "sec-websocket-accept"u8;
        ReadOnlySpan<byte> head = x.HeadBytes.Span;
        int at = key.IsEmpty ? -1 : x.Head.Find(name, HeaderName.Hash(name), head);
        if (at < 0)
        {
            // Another protocol than WebSocket has no handshake.
            return key.IsEmpty;
        }
        Span<byte> digest = stackalloc byte[Sha1.Length];
        Sha1.Hash(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"u8, digest);
        Span<byte> accept = stackalloc byte[28];
        System.Buffers.Text.Base64.EncodeToUtf8(digest, accept, out int _, out int _);
        return x.Head[at].Value(head).SequenceEqual(accept);
    }

    private static bool IsOn(HttpRequest r, Session.Template[] conditions)
    {
        foreach (Session.Template condition in conditions)
        {
            NativeSlice value = condition.Evaluate(r);
            if (value.Length > 0 && !value.Span.SequenceEqual("0"u8))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Whether error_page names the status (`intercept_errors`). Keeps what a 401 must carry.</summary>
    internal static bool Intercepts(Exchange x)
    {
        HttpRequest r = x.Request;
        int status = x.Head.Status;
        if (r.IsErrorPage && !r.Location.RecursiveErrorPages.Value)
        {
            return false;
        }
        foreach (ErrorPage page in r.Location.ErrorPages.Items)
        {
            if (page.Status == status)
            {
                int challenge = status == 401 ? x.Head.Find(KnownResponseHeader.WwwAuthenticate) : -1;
                if (challenge >= 0)
                {
                    ref readonly HeaderField field = ref x.Head[challenge];
                    r.Response.Add(NameOf(x, in field), ValueOf(x, in field), field.KnownResponse);
                }
                return true;
            }
        }
        return false;
    }

    /// <summary>X-Accel-Redirect: another location answers, with some of this answer's fields.</summary>
    internal static bool TryRedirect(Exchange x, out PhaseResult result)
    {
        result = default;
        int index = x.Head.Find(KnownResponseHeader.XAccelRedirect);
        if (index < 0 || x.Protocol.IsOfThisProcess
            || (x.Settings.IgnoreHeaders.Value & IgnoredHeaders.XAccelRedirect) != 0)
        {
            return false;
        }
        HttpRequest r = x.Request;
        NativeSlice target = ValueOf(x, in x.Head[index]);
        if (target.Length == 0)
        {
            return false;
        }
        for (int i = 0; i < x.Head.Count; i++)
        {
            ref readonly HeaderField field = ref x.Head[i];
            switch (field.KnownResponse)
            {
                case KnownResponseHeader.ContentType:
                    r.Response.ContentType = ValueOf(x, in field);
                    break;
                case KnownResponseHeader.SetCookie or KnownResponseHeader.ContentDisposition
                    or KnownResponseHeader.CacheControl or KnownResponseHeader.Expires or KnownResponseHeader.P3p:
                    r.Response.Add(NameOf(x, in field), ValueOf(x, in field), field.KnownResponse);
                    break;
            }
        }
        if (target.Span[0] == '@')
        {
            result = r.GoToNamed(target);
            return true;
        }
        int question = target.Span.IndexOf((byte)'?');
        NativeSlice args = question < 0 ? default : target.Slice(question + 1);
        NativeSlice path = question < 0 ? target : target.Slice(0, question);
        NativeSlice decoded = r.Arena.Allocate(path.Length + 1);
        if (path.IsEmpty || path.Span[0] != '/'
            || UriNormalizer.Normalize(path.Span, decoded.Span, r.Server.MergeSlashes.Value,
                out int length) != UriOutcome.Ok)
        {
            r.LogError(LogLevel.Error, $"unsafe URI \"{target}\" was detected");
            result = PhaseResult.Answer(404);
            return true;
        }
        if (r.Method != HttpMethod.Head)
        {
            r.Method = HttpMethod.Get;
            r.MethodName = NativeSlice.Literal("GET"u8);
        }
        result = r.RedirectInternally(decoded.Slice(0, length), args);
        return true;
    }

    /// <summary>Fills the response's head.</summary>
    internal static void Pass(Exchange x)
    {
        HttpRequest r = x.Request;
        ResponseHead response = r.Response;
        response.Status = x.Head.Status;
        response.StatusText = StatusText(x);
        response.NotModifiedDisabled = true;
        response.IsUpgrade = x.Head.Status == 101;
        response.AllowRanges = x.Settings.ForceRanges.Value && x.Head.Status == 200;
        for (int i = 0; i < x.Head.Count; i++)
        {
            ref readonly HeaderField field = ref x.Head[i];
            PassField(x, response, in field);
        }
        long length = x.Protocol.BodyLength(x);
        response.ContentLength = x.Head.Status is 101 or 204 ? -1 : length;
    }

    private static void PassField(Exchange x, ResponseHead response, in HeaderField field)
    {
        KnownResponseHeader known = field.KnownResponse;
        NativeSlice name = NameOf(x, in field);
        NativeSlice value = ValueOf(x, in field);
        switch (known)
        {
            case KnownResponseHeader.Upgrade when x.Head.Status is 101 or 426:
                break;
            case KnownResponseHeader.ContentLength:
                return;
            case KnownResponseHeader.Trailer when x.PassesTrailers:
                break;
            case KnownResponseHeader.XAccelLimitRate:
                if (x.Obeys(IgnoredHeaders.XAccelLimitRate))
                {
                    x.Request.Get(LimitRateFilter.Slot).SetRate(LimitRateModule.Size(value.Span));
                }
                break;
            case KnownResponseHeader.XAccelCharset:
                if (x.Obeys(IgnoredHeaders.XAccelCharset))
                {
                    response.OverrideCharset = value;
                }
                break;
            default:
                if (IsHopByHop(known))
                {
                    return;
                }
                break;
        }
        if (!x.Protocol.IsOfThisProcess && x.Settings.Hidden.Contains(known, name.Span))
        {
            return;
        }
        switch (known)
        {
            case KnownResponseHeader.ContentType:
                PassContentType(response, value);
                return;
            case KnownResponseHeader.Server:
                response.Server = value;
                return;
            case KnownResponseHeader.Date:
                response.Date = value;
                return;
            case KnownResponseHeader.AcceptRanges when x.Settings.ForceRanges.Value:
                return;
            case KnownResponseHeader.Location:
                PassLocation(x, response, name, value);
                return;
            case KnownResponseHeader.Refresh:
                response.Add(name, PassRefresh(x, value), known);
                return;
            case KnownResponseHeader.SetCookie:
                response.Add(name, x.Protocol.RewriteCookie(x, value), known);
                return;
            default:
                response.Add(name, value, known);
                return;
        }
    }

    private static void PassContentType(ResponseHead response, NativeSlice value)
    {
        // Only the exact form that is written again later is taken apart.
        ReadOnlySpan<byte> text = value.Span;
        ReadOnlySpan<byte> mark = "; charset="u8;
        int at = text.IndexOf(mark);
        if (at > 0 && text[(at + mark.Length)..].IndexOfAny("; \""u8) < 0 && at + mark.Length < text.Length
            && response.Charset.IsEmpty && text[..at].IndexOf((byte)';') < 0)
        {
            response.ContentType = value.Slice(0, at);
            response.Charset = value.Slice(at + mark.Length);
            return;
        }
        response.ContentType = value;
    }

    private static void PassLocation(Exchange x, ResponseHead response, NativeSlice name, NativeSlice value)
    {
        NativeSlice rewritten = x.Protocol.RewriteLocation(x, value);
        bool changed = rewritten.Pointers(value);
        if (changed || value.Length > 0 && value.Span[0] != '/')
        {
            response.Location = rewritten;
            return;
        }
        // A relative redirect stays one, as nginx leaves it.
        response.Add(name, value, KnownResponseHeader.Location);
    }

    /// <summary>Whether two slices are different memory.</summary>
    private static bool Pointers(this NativeSlice a, NativeSlice b) => !System.Runtime.CompilerServices.Unsafe.AreSame(
        ref System.Runtime.InteropServices.MemoryMarshal.GetReference(a.Span),
        ref System.Runtime.InteropServices.MemoryMarshal.GetReference(b.Span));

    private static NativeSlice PassRefresh(Exchange x, NativeSlice value)
    {
        int at = value.Span.IndexOf("url="u8);
        if (at < 0)
        {
            return value;
        }
        NativeSlice url = value.Slice(at + 4);
        NativeSlice rewritten = x.Protocol.RewriteRefresh(x, url);
        return rewritten.Pointers(url) ? x.Request.Arena.Concat(value.Span[..(at + 4)], rewritten.Span) : value;
    }

    /// <summary>Whether the answer is buffered: by the settings, or as X-Accel-Buffering says.</summary>
    internal static bool DecideBuffering(Exchange x)
    {
        int index = x.Head.Find(KnownResponseHeader.XAccelBuffering);
        if (index >= 0 && x.Obeys(IgnoredHeaders.XAccelBuffering))
        {
            ReadOnlySpan<byte> value = ValueOf(x, in x.Head[index]).Span;
            if (HeaderName.Same(value, "no"u8))
            {
                return false;
            }
            if (HeaderName.Same(value, "yes"u8))
            {
                return true;
            }
        }
        return x.Settings.Buffering.Value;
    }

    /// <summary>Trailer fields of a chunked answer, when they are passed.</summary>
    internal static void PassTrailers(Exchange x)
    {
        if (x.TrailerLength == 0 || !x.PassesTrailers)
        {
            return;
        }
        HttpRequest r = x.Request;
        NativeSlice text = r.Arena.Store(x.TrailerSlab!.Span[..x.TrailerLength]);
        while (text.Length > 0)
        {
            int end = text.Span.IndexOf((byte)'\n');
            NativeSlice line = end < 0 ? text : text.Slice(0, end);
            text = end < 0 ? default : text.Slice(end + 1);
            int colon = line.Span.IndexOf((byte)':');
            if (colon <= 0)
            {
                continue;
            }
            ReadOnlySpan<byte> rest = line.Span[(colon + 1)..];
            int skipped = rest.Length - rest.TrimStart(" \t"u8).Length;
            int kept = rest.Trim(" \t\r"u8).Length;
            r.Response.AddTrailer(line.Slice(0, colon), line.Slice(colon + 1 + skipped, kept));
        }
    }

    private static NativeSlice StatusText(Exchange x)
    {
        if (x.Head.StatusLine.Length > 9)
        {
            // "HTTP/1.1 200 OK" without the version.
            NativeSlice line = x.HeadBytes.Slice(x.Head.StatusLine.Start, x.Head.StatusLine.Length).Slice(8);
            int skip = line.Span.IndexOfAnyExcept((byte)' ');
            return line.Slice(Math.Max(skip, 0));
        }
        int status = x.Head.Find(KnownResponseHeader.Status);
        return x.Head.Version == 0 && status >= 0 && x.Head[status].ValueLength > 4 ? ValueOf(x,
            in x.Head[status]) : default;
    }

    internal static NativeSlice NameOf(Exchange x, in HeaderField field) => x.HeadBytes.Slice(field.NameStart,
        field.NameLength);

    internal static NativeSlice ValueOf(Exchange x, in HeaderField field) =>
        x.HeadBytes.Slice(field.ValueStart, field.ValueLength);

    private static bool IsHopByHop(KnownResponseHeader known) => known is KnownResponseHeader.Connection
        or KnownResponseHeader.KeepAlive or KnownResponseHeader.TransferEncoding or KnownResponseHeader.Upgrade
        or KnownResponseHeader.Trailer or KnownResponseHeader.ProxyConnection;
}
