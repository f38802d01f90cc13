// A text as one word of nginx.conf. Pure.
using System.Text;

namespace Weir;

internal static class ConfQuote
{
    /// <summary>The word, in quotes where it needs them; null when it has a "$", which cannot be escaped.</summary>
    public static string? Of(string text)
    {
        if (text.Contains('$'))
        {
            return null;
        }
        if (text.Length > 0 && text.All(static c => char.IsAsciiLetterOrDigit(c) || "/._-:@%+,".Contains(c) || c > 127))
        {
            return text;
        }
        var quoted = new StringBuilder("\"");
        foreach (char c in text)
        {
            quoted.Append(c switch
            {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                '\t' => "\\t",
                '\r' => "\\r",
                _ => $"{c}",
            });
        }
        return quoted.Append('"').ToString();
    }
}
