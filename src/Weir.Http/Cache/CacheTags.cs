// Lists of tags (Surrogate-Key, Cache-Tag): words between spaces or commas, as they stand in a stored head and in a
// purge. Pure: text in, words out; no memory of its own. Must never keep what it was given.
namespace Weir.Http.Cache;

/// <summary>Lists of tags.</summary>
internal static class CacheTags
{
    /// <summary>Whether a list has this word.</summary>
    internal static bool Has(ReadOnlySpan<byte> tags, ReadOnlySpan<byte> tag)
    {
        while (Next(ref tags, out ReadOnlySpan<byte> word))
        {
            if (word.SequenceEqual(tag))
            {
                return true;
            }
        }
        return false;
    }

    internal static bool Next(ref ReadOnlySpan<byte> tags, out ReadOnlySpan<byte> word)
    {
        tags = tags.TrimStart(" \t,\r\n"u8);
        int end = tags.IndexOfAny(" \t,\r\n"u8);
        word = end < 0 ? tags : tags[..end];
        tags = end < 0 ? default : tags[end..];
        return !word.IsEmpty;
    }
}
