// The families of variables over header fields: $http_, $cookie_, $sent_http_, $sent_trailer_, and the response fields
// that exist as values until the head is written. Names compare with '-' as '_', without regard to case; repeated
// fields are joined with ", " (cookies with "; "), as nginx does.
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal static class VariablesHeaders
{
    internal static void Declare(HttpDeclarations d)
    {
        d.VariablePrefix("http_", Request, number: static name =>
            (int)HeaderName.Find(System.Text.Encoding.Latin1.GetBytes(name.Replace('_', '-'))));
        d.VariablePrefix("cookie_", Cookie);
        d.VariablePrefix("sent_http_", Sent);
        d.VariablePrefix("sent_trailer_", Trailer);
        d.Variable("content_length", ContentLength);
        d.Variable("content_type", static (Session.Session s, Variable _, ref NativeSlice v) =>
            First(R(s), KnownHeader.ContentType, ref v));
        d.Variable("sent_http_content_type", SentContentType);
        d.Variable("sent_http_content_length", static (Session.Session s, Variable _, ref NativeSlice v) =>
            R(s).Response.ContentLength >= 0 && Is(s.Arena.StoreNumber(R(s).Response.ContentLength), ref v));
        d.Variable("sent_http_location", SentLocation);
        d.Variable("sent_http_last_modified", SentLastModified);
        d.Variable("sent_http_connection", static (Session.Session s, Variable _, ref NativeSlice v) =>
            Is(R(s).Response.IsUpgrade
            ? NativeSlice.Literal("upgrade"u8)
            : R(s).Main.KeepAlive ? NativeSlice.Literal("keep-alive"u8) : NativeSlice.Literal("close"u8), ref v));
        d.Variable("sent_http_keep_alive", SentKeepAlive);
        d.Variable("sent_http_transfer_encoding", static (Session.Session s, Variable _, ref NativeSlice v) =>
            R(s).Response.Chunked && Is(NativeSlice.Literal("chunked"u8), ref v));
    }

    private static HttpRequest R(Session.Session s) => (HttpRequest)s;

    private static bool Is(NativeSlice text, ref NativeSlice value)
    {
        value = text;
        return true;
    }

    private static bool First(HttpRequest r, KnownHeader header, ref NativeSlice value)
    {
        int i = r.HeadBytes.IsEmpty ? -1 : r.Head.Find(header);
        return i >= 0 && Is(r.HeadBytes.Slice(r.Head[i].ValueStart, r.Head[i].ValueLength), ref value);
    }

    private static bool Request(Session.Session s, Variable variable, ref NativeSlice value)
    {
        HttpRequest r = R(s);
        if (r.HeadBytes.IsEmpty)
        {
            return false;
        }
        int known = variable.RestNumber;
        if (known != 0 && !r.Head.HasUnknown)
        {
            // No field can be it under another spelling, and most fields come once.
            int only = r.Head.Find((KnownHeader)known);
            if (only < 0)
            {
                return false;
            }
            if (r.Head.FindNext(only) < 0)
            {
                ref readonly HeaderField one = ref r.Head[only];
                return Is(r.HeadBytes.Slice(one.ValueStart, one.ValueLength), ref value);
            }
        }
        ReadOnlySpan<byte> name = variable.Rest.Span;
        NativeSlice separator = name.SequenceEqual("cookie"u8) ? NativeSlice.Literal("; "u8)
            : NativeSlice.Literal(", "u8);
        ReadOnlySpan<byte> head = r.HeadBytes.Span;
        bool found = false;
        foreach (ref readonly HeaderField field in r.Head.Fields)
        {
            if (field.NameLength == name.Length && !field.Dropped && SameName(field.Name(head), name))
            {
                NativeSlice text = r.HeadBytes.Slice(field.ValueStart, field.ValueLength);
                value = found ? Join(s.Arena, value, separator, text) : text;
                found = true;
            }
        }
        return found;
    }

    /// <summary>Whether a field's name is the one of a variable: lower case, '_' for '-'.</summary>
    internal static bool SameName(ReadOnlySpan<byte> field, ReadOnlySpan<byte> variable)
    {
        if (field.Length != variable.Length)
        {
            return false;
        }
        for (int i = 0; i < field.Length; i++)
        {
            byte c = HeaderName.Lower(field[i]);
            if ((c == '-' ? (byte)'_' : c) != variable[i])
            {
                return false;
            }
        }
        return true;
    }

    private static NativeSlice Join(Arena arena, NativeSlice a, NativeSlice separator, NativeSlice b)
    {
        NativeSlice joined = arena.Allocate(a.Length + separator.Length + b.Length);
        a.Span.CopyTo(joined.Span);
        separator.Span.CopyTo(joined.Span[a.Length..]);
        b.Span.CopyTo(joined.Span[(a.Length + separator.Length)..]);
        return joined;
    }

    private static bool Cookie(Session.Session s, Variable variable, ref NativeSlice value) =>
        TryCookie(R(s), variable.Rest.Span, ref value);

    /// <summary>The value of a cookie of the request.</summary>
    internal static bool TryCookie(HttpRequest r, ReadOnlySpan<byte> name, ref NativeSlice value)
    {
        for (int i = r.HeadBytes.IsEmpty ? -1 : r.Head.Find(KnownHeader.Cookie); i >= 0; i = r.Head.FindNext(i))
        {
            NativeSlice text = r.HeadBytes.Slice(r.Head[i].ValueStart, r.Head[i].ValueLength);
            if (FindPair(text, name, ref value))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>The value of `name=value` in a list separated by ';' or ','.</summary>
    internal static bool FindPair(NativeSlice list, ReadOnlySpan<byte> name, ref NativeSlice value)
    {
        ReadOnlySpan<byte> text = list.Span;
        int at = 0;
        while (at < text.Length)
        {
            if (text.Length - at >= name.Length && HeaderName.Same(text.Slice(at, name.Length), name))
            {
                int i = SkipSpaces(text, at + name.Length);
                if (i < text.Length && text[i] == '=')
                {
                    i = SkipSpaces(text, i + 1);
                    int length = text[i..].IndexOf((byte)';');
                    value = length < 0 ? list.Slice(i) : list.Slice(i, length);
                    return true;
                }
                at = i;
            }
            int next = text[at..].IndexOfAny((byte)';', (byte)',');
            if (next < 0)
            {
                return false;
            }
            at = SkipSpaces(text, at + next + 1);
        }
        return false;
    }

    private static int SkipSpaces(ReadOnlySpan<byte> text, int at)
    {
        while (at < text.Length && text[at] == ' ')
        {
            at++;
        }
        return at;
    }

    private static bool ContentLength(Session.Session s, Variable variable, ref NativeSlice value)
    {
        HttpRequest r = R(s);
        if (First(r, KnownHeader.ContentLength, ref value))
        {
            return true;
        }
        // A chunked body has a length once it was read.
        return r.IsMain && r.Head.Chunked && r.Body.IsComplete && Is(s.Arena.StoreNumber(r.Body.Bytes), ref value);
    }

    // The response.

    private static bool Sent(Session.Session s, Variable variable, ref NativeSlice value)
    {
        ResponseHead response = R(s).Response;
        ReadOnlySpan<byte> name = variable.Rest.Span;
        bool found = false;
        if (!response.Server.IsEmpty && name.SequenceEqual("server"u8))
        {
            return Is(response.Server, ref value);
        }
        if (!response.Date.IsEmpty && name.SequenceEqual("date"u8))
        {
            return Is(response.Date, ref value);
        }
        foreach (ref readonly ResponseField field in response.Fields)
        {
            if (!field.Removed && SameName(field.Name.Span, name))
            {
                value = found ? Join(s.Arena, value, NativeSlice.Literal(", "u8), field.Value) : field.Value;
                found = true;
            }
        }
        return found;
    }

    private static bool Trailer(Session.Session s, Variable variable, ref NativeSlice value)
    {
        bool found = false;
        foreach (ref readonly ResponseField field in R(s).Response.Trailers)
        {
            if (SameName(field.Name.Span, variable.Rest.Span))
            {
                value = found ? Join(s.Arena, value, NativeSlice.Literal(", "u8), field.Value) : field.Value;
                found = true;
            }
        }
        return found;
    }

    private static bool SentContentType(Session.Session s, Variable variable, ref NativeSlice value)
    {
        ResponseHead response = R(s).Response;
        if (response.ContentType.IsEmpty)
        {
            return false;
        }
        return Is(response.IsSent && !response.Charset.IsEmpty
            ? Join(s.Arena, response.ContentType, NativeSlice.Literal("; charset="u8), response.Charset)
            : response.ContentType, ref value);
    }

    private static bool SentLocation(Session.Session s, Variable variable, ref NativeSlice value)
    {
        ResponseHead response = R(s).Response;
        if (!response.Location.IsEmpty)
        {
            return Is(response.Location, ref value);
        }
        int i = response.Find(KnownResponseHeader.Location);
        return i >= 0 && Is(response[i].Value, ref value);
    }

    private static bool SentLastModified(Session.Session s, Variable variable, ref NativeSlice value)
    {
        ResponseHead response = R(s).Response;
        if (!response.LastModifiedText.IsEmpty)
        {
            return Is(response.LastModifiedText, ref value);
        }
        if (response.LastModified < 0)
        {
            return false;
        }
        NativeSlice text = s.Arena.Allocate(HttpDate.Length);
        HttpDate.Format(response.LastModified, text.Span);
        return Is(text, ref value);
    }

    private static bool SentKeepAlive(Session.Session s, Variable variable, ref NativeSlice value)
    {
        HttpRequest r = R(s);
        if (!r.Main.KeepAlive || r.Location.KeepAliveHeaderSec.Value <= 0)
        {
            return false;
        }
        return Is(Join(s.Arena, NativeSlice.Literal("timeout"u8), NativeSlice.Literal("="u8),
            s.Arena.StoreNumber(r.Location.KeepAliveHeaderSec.Value)), ref value);
    }
}
