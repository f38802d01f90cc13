// Words of a configuration that come again and again (names of directives, addresses, paths) as one string each. One
// pool serves one reading on one thread; a word that meets another in its place takes the place, so it cannot grow.
namespace Weir.Conf;

internal sealed class WordPool
{
    private const int Places = 1024;
    private const int WordBytesMax = 64;

    private readonly string?[] _words = new string?[Places];

    /// <summary>The text of these bytes, one char each.</summary>
    public string Take(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > WordBytesMax)
        {
            return ConfText.FromBytes(bytes);
        }
        uint hash = 2166136261;
        foreach (byte b in bytes)
        {
            hash = (hash ^ b) * 16777619;
        }
        ref string? place = ref _words[(hash ^ hash >> 16) % Places];
        if (place is null || !Same(place, bytes))
        {
            place = ConfText.FromBytes(bytes);
        }
        return place;
    }

    private static bool Same(string word, ReadOnlySpan<byte> bytes)
    {
        if (word.Length != bytes.Length)
        {
            return false;
        }
        for (int i = 0; i < bytes.Length; i++)
        {
            if (word[i] != bytes[i])
            {
                return false;
            }
        }
        return true;
    }
}
