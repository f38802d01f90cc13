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
            if (HeaderTokens.Contains(text.Span[..n], name))
            {
                // Named twice, it would be written twice where requests are told apart, and there is room for once.
                continue;
            }
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

    /// <summary>What a request says in these fields: a line for each name.</summary>
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
                // Empty is not the same as absent.
                w.Write(first ? ":"u8 : ","u8);
                first = false;
                ReadOnlySpan<byte> values = field.Value(head);
                for (int n = 0; HeaderTokens.Next(ref values, out ReadOnlySpan<byte> value); n++)
                {
                    w.Write(n == 0 ? default : ","u8);
                    w.Write(value);
                }
            }
            w.Write("\n"u8);
        }
        return text.Slice(0, w.Written);
    }
}
