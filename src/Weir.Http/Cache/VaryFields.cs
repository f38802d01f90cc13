// Vary: the names of the fields that select among the responses of a resource, in one canonical spelling, and what a
// request says in them. Lines of one name are joined, spaces around commas do not count (RFC 9111 §4.1). Into the
// request's arena; no other memory.
using Weir.Kernel;
using Weir.Protocol.Http1;

namespace Weir.Http.Cache;

internal static class VaryFields
{
    /// <summary>Names of fields that are kept, canonical: lower case, commas between them, no spaces. Empty for
    /// none.</summary>
    internal static NativeSlice Names(HttpRequest r, ReadOnlySpan<byte> value)
    {
        NativeSlice text = r.Arena.Allocate(value.Length);
        int n = 0;
        while (HeaderTokens.Next(ref value, out ReadOnlySpan<byte> name))
        {
            if (n > 0)
            {
                text.Span[n++] = (byte)',';
            }
            foreach (byte c in name)
            {
                text.Span[n++] = HeaderName.Lower(c);
            }
        }
        return text.Slice(0, n);
    }

    /// <summary>What a request says in these fields: a line for each.</summary>
    internal static NativeSlice Values(HttpRequest r, NativeSlice names)
    {
        ReadOnlySpan<byte> head = r.HeadBytes.Span;
        int room = names.Length + 2;
        foreach (ref readonly HeaderField field in r.Head.Fields)
        {
            room += field.ValueLength + 2;
        }
        NativeSlice text = r.Arena.Allocate(room);
        var w = new SpanWriter(text.Span);
        ReadOnlySpan<byte> list = names.Span;
        while (HeaderTokens.Next(ref list, out ReadOnlySpan<byte> name))
        {
            uint hash = HeaderName.Hash(name);
            bool first = true;
            foreach (ref readonly HeaderField field in r.Head.Fields)
            {
                if (field.Hash != hash || field.Dropped || !HeaderName.Same(field.Name(head), name))
                {
                    continue;
                }
                ReadOnlySpan<byte> values = field.Value(head);
                while (HeaderTokens.Next(ref values, out ReadOnlySpan<byte> value) && w.Rest.Length > value.Length + 1)
                {
                    w.Write(first ? default : ","u8);
                    w.Write(value);
                    first = false;
                }
            }
            if (w.Rest.Length > 0)
            {
                w.Write("\n"u8);
            }
        }
        return text.Slice(0, w.Written);
    }
}
