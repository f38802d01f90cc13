// Answers that a status alone describes: error_page redirects, else nginx's built-in page. Also what nginx does to the
// connection for each status.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

internal static class SpecialResponse
{
    /// <summary>Answers the request with a status. May redirect internally; otherwise the response is
    /// complete.</summary>
    internal static LoopTask<PhaseResult> RunAsync(HttpRequest r, int status)
    {
        if (r.Response.IsSent)
        {
            // Too late for another answer: the connection's end is the only message left.
            r.Abort(AbortReason.Failed);
            return PhaseResult.Done;
        }
        if (r.Aborted != AbortReason.None || status is 444 or 499 or 408)
        {
            r.Response.Status = status;
            r.Abort(status == 499 ? AbortReason.ClientGone : AbortReason.Failed);
            return PhaseResult.Done;
        }
        switch (status)
        {
            case 400 or 413 or 414 or 497 or 495 or 496 or 500 or 501 or 494 or 408 or 505:
                r.KeepAlive = false;
                break;
        }
        if (r.Method == HttpMethod.Trace && status is 400 or 405)
        {
            r.KeepAlive = false;
        }
        if (status >= 300 && (!r.IsErrorPage || r.Location.RecursiveErrorPages.Value))
        {
            foreach (ErrorPage page in r.Location.ErrorPages.Items)
            {
                if (page.Status == status)
                {
                    r.IsErrorPage = true;
                    r.Configuration.Trace?.OnAnswer(r, status, page);
                    return SendErrorPage(r, page, status);
                }
            }
        }
        r.Configuration.Trace?.OnAnswer(r, status, null);
        return SendBuiltIn(r, status);
    }

    private static PhaseResult SendErrorPage(HttpRequest r, ErrorPage page, int status)
    {
        int overwrite = page.Overwrite >= 0 ? page.Overwrite : ErrorPages.WireStatus(status);
        r.ErrorStatus = overwrite;
        r.Response.Status = 0;
        if (status is not (206 or 304 or 416))
        {
            r.Response.ClearContent();
        }
        NativeSlice target = page.Target.Evaluate(r);
        ReadOnlySpan<byte> text = target.Span;
        if (text.Length > 0 && text[0] == '/')
        {
            if (r.Method is not (HttpMethod.Head or HttpMethod.Get))
            {
                r.Method = HttpMethod.Get;
                r.MethodName = NativeSlice.Literal("GET"u8);
            }
            NativeSlice args = r.Args;
            NativeSlice uri = target;
            int question = page.Target.IsConstant ? text.IndexOf((byte)'?') : -1;
            if (question >= 0)
            {
                args = target.Slice(question + 1);
                uri = target.Slice(0, question);
            }
            else if (page.Args is not null)
            {
                args = page.Args.Evaluate(r);
            }
            return r.RedirectInternally(uri, args);
        }
        if (text.Length > 0 && text[0] == '@')
        {
            return r.GoToNamed(target);
        }
        // An absolute URL: a redirect, 302 unless another redirect status was asked for.
        r.ErrorStatus = 0;
        int redirect = page.Overwrite is 301 or 302 or 303 or 307 or 308 ? page.Overwrite : 302;
        r.Response.Location = target;
        return SendBuiltIn(r, redirect);
    }

    private static PhaseResult SendBuiltIn(HttpRequest r, int status)
    {
        if (r.ErrorStatus != 0 && status >= 300)
        {
            r.ErrorStatus = ErrorPages.WireStatus(status);
        }
        ResponseHead response = r.Response;
        response.Status = ErrorPages.WireStatus(status);
        if (!r.IsMain && !r.SubStream!.IsWanted)
        {
            // The parent looks at the status alone.
            return PhaseResult.Done;
        }
        response.StatusText = default;
        response.ClearContent();
        if (status is 301 or 302 && r.Location.MsieRefresh.Value && UserAgents.IsMsie(r))
        {
            return SendRefresh(r);
        }
        ReadOnlySpan<byte> page = ErrorPages.Head(status);
        if (page.IsEmpty)
        {
            // 204, 304, and a status without a page (return 418): nginx sends no body.
            return r.SendComplete(default);
        }
        response.ContentType = NativeSlice.Literal("text/html"u8);
        ReadOnlySpan<byte> tail = ServerTail(r.Location.ServerTokens.Value);
        ReadOnlySpan<byte> padding = default;
        if (r.Location.MsiePadding.Value && status >= 400 && r.Version >= 10 && UserAgents.WantsPadding(r))
        {
            padding = ErrorPages.MsiePadding;
        }
        NativeSlice body = r.Arena.Allocate(page.Length + tail.Length + padding.Length);
        page.CopyTo(body.Span);
        tail.CopyTo(body.Span[page.Length..]);
        padding.CopyTo(body.Span[(page.Length + tail.Length)..]);
        BufferChain chain = r.Loop.RentChain();
        response.ContentLength = body.Length;
        r.SendHead();
        chain.Append(body.Span);
        r.Push(chain, PushFlags.Last);
        r.Loop.Return(chain);
        return PhaseResult.Done;
    }

    /// <summary>msie_refresh: a page that leads on, instead of a redirect.</summary>
    private static PhaseResult SendRefresh(HttpRequest r)
    {
        ResponseHead response = r.Response;
        ReadOnlySpan<byte> head = "<html><head><meta http-equiv=\"Refresh\" content=\"0; URL="u8;
        ReadOnlySpan<byte> tail = "\"></head><body></body></html>\r\n"u8;
        NativeSlice body = r.Arena.Allocate(head.Length + UriEscaper.EscapedMax(response.Location.Length)
            + tail.Length);
        head.CopyTo(body.Span);
        int length = head.Length + UriEscaper.EscapeRefresh(response.Location.Span, body.Span[head.Length..]);
        tail.CopyTo(body.Span[length..]);
        response.Status = 200;
        r.ErrorStatus = 0;
        response.Location = default;
        response.ContentType = NativeSlice.Literal("text/html"u8);
        return r.SendComplete(body.Slice(0, length + tail.Length));
    }

    private static ReadOnlySpan<byte> ServerTail(ServerTokens tokens) => tokens == ServerTokens.Off
        ? "<hr><center>weir</center>\r\n</body>\r\n</html>\r\n"u8
        : "<hr><center>weir/0.1.0</center>\r\n</body>\r\n</html>\r\n"u8;
}
