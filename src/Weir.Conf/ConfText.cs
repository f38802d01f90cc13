// Byte text: how this room keeps the text of a configuration. One char is one byte (Latin-1), so that what was read can
// be written back byte for byte whatever its encoding. Here are the ways in, out, and to quote a word for a dump.
// Pure functions, any thread.
using System.Text;

namespace Weir.Conf;

public static class ConfText
{
    /// <summary>Text as typed by a C# program (or found in a file system) to byte text.</summary>
    public static string FromUnicode(string text)
    {
        foreach (char c in text)
        {
            if (c >= 0x80)
            {
                return Encoding.Latin1.GetString(Encoding.UTF8.GetBytes(text));
            }
        }
        return text;
    }

    /// <summary>Byte text to text for people: its bytes read as UTF-8.</summary>
    public static string ToUnicode(string byteText)
    {
        bool plain = true;
        foreach (char c in byteText)
        {
            if (c > 0xFF)
            {
                return byteText;
            }
            plain &= c < 0x80;
        }
        return plain ? byteText : Encoding.UTF8.GetString(Encoding.Latin1.GetBytes(byteText));
    }

    public static byte[] Bytes(string byteText) => Encoding.Latin1.GetBytes(byteText);

    public static string FromBytes(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);

    /// <summary>
    /// The word as it can be written in a configuration: bare where that reads back the same, else quoted.
    /// </summary>
    public static string Quote(string word)
    {
        if (IsBare(word))
        {
            return word;
        }
        StringBuilder quoted = new(word.Length + 8);
        quoted.Append('"');
        foreach (char c in word)
        {
            if (c is '"' or '\\')
            {
                quoted.Append('\\');
            }
            quoted.Append(c);
        }
        return quoted.Append('"').ToString();
    }

    private static bool IsBare(string word)
    {
        if (word.Length == 0 || word[0] is '}' or '#' or '"' or '\'' or '{' or ')')
        {
            return false;
        }
        for (int i = 0; i < word.Length; i++)
        {
            bool special = word[i] is ' ' or '\t' or '\r' or '\n' or ';' or '\\';
            if (special || (word[i] == '{' && !(i > 0 && IsVariableBrace(word, i))))
            {
                return false;
            }
        }
        return true;
    }

    private static bool IsVariableBrace(string word, int at) => word[at - 1] == '$';
}
