// $upstream_*: what the attempts at upstream servers came to, joined as nginx does: a comma between attempts of one
// exchange, a colon after an internal redirect.
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal static class UpstreamVariables
{
    private enum Field
    {
        Address, Status, ConnectTime, HeaderTime, ResponseTime, ResponseLength, Received, Sent,
    }

    internal static void Declare(HttpDeclarations d)
    {
        Add(d, "upstream_addr", Field.Address);
        Add(d, "upstream_status", Field.Status);
        Add(d, "upstream_connect_time", Field.ConnectTime);
        Add(d, "upstream_header_time", Field.HeaderTime);
        Add(d, "upstream_response_time", Field.ResponseTime);
        Add(d, "upstream_response_length", Field.ResponseLength);
        Add(d, "upstream_bytes_received", Field.Received);
        Add(d, "upstream_bytes_sent", Field.Sent);
        d.VariablePrefix("upstream_http_", static (Session.Session s, Variable v, ref NativeSlice value) =>
            Header((HttpRequest)s, v.Rest, ref value), VariableFlags.NoCache);
        d.VariablePrefix("upstream_trailer_", static (Session.Session s, Variable v, ref NativeSlice value) =>
            Trailer((HttpRequest)s, v.Rest, ref value), VariableFlags.NoCache);
        d.VariablePrefix("upstream_cookie_", static (Session.Session s, Variable v, ref NativeSlice value) =>
            Cookie((HttpRequest)s, v.Rest, ref value), VariableFlags.NoCache);
    }

    private static void Add(HttpDeclarations d, string name, Field field) =>
        d.Variable(name, (Session.Session s, Variable _, ref NativeSlice value) => Join((HttpRequest)s, field,
            ref value),
            VariableFlags.NoCache);

    private static bool Join(HttpRequest r, Field field, ref NativeSlice value)
    {
        if (r.Find(UpstreamRecord.Slot) is not { Count: > 0 } record)
        {
            return false;
        }
        int room = 0;
        for (int i = 0; i < record.Count; i++)
        {
            room += 3 + Math.Max(24, field == Field.Address ? record[i].Address.Length : 0);
        }
        NativeSlice text = r.Arena.Allocate(room);
        var w = new SpanWriter(text.Span);
        for (int i = 0; i < record.Count; i++)
        {
            ref UpstreamAttempt a = ref record[i];
            if (i > 0)
            {
                w.Write(a.AfterRedirect ? " : "u8 : ", "u8);
            }
            switch (field)
            {
                case Field.Address:
                    w.Write(a.Address.Span);
                    break;
                case Field.Status:
                    Number(ref w, a.Status == 0 ? -1 : a.Status);
                    break;
                case Field.ConnectTime:
                    Time(ref w, a.ConnectMs);
                    break;
                case Field.HeaderTime:
                    Time(ref w, a.HeaderMs);
                    break;
                case Field.ResponseTime:
                    Time(ref w, a.ResponseMs);
                    break;
                case Field.ResponseLength:
                    w.Number(a.ResponseBytes);
                    break;
                case Field.Received:
                    w.Number(a.ReceivedBytes);
                    break;
                default:
                    w.Number(a.SentBytes);
                    break;
            }
        }
        value = text.Slice(0, w.Written);
        return true;
    }

    private static void Number(ref SpanWriter w, long value)
    {
        if (value < 0)
        {
            w.Write("-"u8);
        }
        else
        {
            w.Number(value);
        }
    }

    /// <summary>Seconds with three digits behind the point; "-" for what did not happen.</summary>
    private static void Time(ref SpanWriter w, long ms)
    {
        if (ms < 0)
        {
            w.Write("-"u8);
            return;
        }
        w.Number(ms / 1000);
        long rest = ms % 1000;
        ReadOnlySpan<byte> digits = [(byte)'.', (byte)('0' + rest / 100), (byte)('0' + rest / 10 % 10),
            (byte)('0' + rest % 10)];
        w.Write(digits);
    }

    private static bool Header(HttpRequest r, NativeSlice wanted, ref NativeSlice value)
    {
        if (r.Find(UpstreamRecord.Slot)?.Last is not { } x || x.HeadBytes.IsEmpty)
        {
            return false;
        }
        for (int i = 0; i < x.Head.Count; i++)
        {
            ref readonly HeaderField field = ref x.Head[i];
            if (SameWithHyphens(AnswerHead.NameOf(x, in field).Span, wanted.Span))
            {
                value = AnswerHead.ValueOf(x, in field);
                return true;
            }
        }
        return false;
    }

    private static bool Trailer(HttpRequest r, NativeSlice wanted, ref NativeSlice value)
    {
        foreach (ref readonly ResponseField field in r.Response.Trailers)
        {
            if (SameWithHyphens(field.Name.Span, wanted.Span))
            {
                value = field.Value;
                return true;
            }
        }
        return false;
    }

    private static bool Cookie(HttpRequest r, NativeSlice wanted, ref NativeSlice value)
    {
        if (r.Find(UpstreamRecord.Slot)?.Last is not { } x || x.HeadBytes.IsEmpty)
        {
            return false;
        }
        for (int i = x.Head.Find(KnownResponseHeader.SetCookie); i >= 0; i = x.Head.FindNext(i))
        {
            NativeSlice line = AnswerHead.ValueOf(x, in x.Head[i]);
            int equals = line.Span.IndexOf((byte)'=');
            if (equals > 0 && HeaderName.Same(line.Span[..equals], wanted.Span))
            {
                NativeSlice rest = line.Slice(equals + 1);
                int end = rest.Span.IndexOf((byte)';');
                value = end < 0 ? rest : rest.Slice(0, end);
                return true;
            }
        }
        return false;
    }

    /// <summary>A header name against a variable's: lower case, with underscores for hyphens.</summary>
    private static bool SameWithHyphens(ReadOnlySpan<byte> name, ReadOnlySpan<byte> variable)
    {
        if (name.Length != variable.Length)
        {
            return false;
        }
        for (int i = 0; i < name.Length; i++)
        {
            byte c = name[i] == '-' ? (byte)'_' : HeaderName.Lower(name[i]);
            if (c != variable[i])
            {
                return false;
            }
        }
        return true;
    }
}
