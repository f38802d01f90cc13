// Finds one field in the text of a stored head, which this server wrote itself: lines with CRLF, a colon and one space.
using Weir.Kernel;
using Weir.Protocol.Http1;

namespace Weir.Http.Cache;

internal static class StoredFields
{
    /// <summary>The value of the first field of this name; empty for none.</summary>
    internal static NativeSlice Find(NativeSlice head, ReadOnlySpan<byte> name)
    {
        while (head.Length > 0)
        {
            int end = head.Span.IndexOf("\r\n"u8);
            int length = end < 0 ? head.Length : end;
            if (length > name.Length + 1 && head.Span[name.Length] == ':'
                && HeaderName.Same(head.Span[..name.Length], name))
            {
                return head.Slice(name.Length + 2, length - name.Length - 2);
            }
            head = end < 0 ? default : head.Slice(end + 2);
        }
        return default;
    }
}
