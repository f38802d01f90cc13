// The error queue of OpenSSL as text, in nginx's form: `(SSL: error:0A000086:SSL routines::certificate verify failed)`.
// Reading it empties it. The queue belongs to the calling thread.
using System.Text;

namespace Weir.Tls;

/// <summary>Texts of errors.</summary>
public static unsafe class TlsErrors
{
    private const int HasText = 1;
    private const int LineBytesMax = 256;

    /// <summary>All errors of the queue in nginx's parentheses, with a space before; empty where there is
    /// none.</summary>
    public static string Take()
    {
        var text = new StringBuilder();
        byte* line = stackalloc byte[LineBytesMax];
        while (true)
        {
            byte* data = null;
            int flags = 0;
            nuint code = Native.ERR_get_error_all(null, null, null, &data, &flags);
            if (code == 0)
            {
                break;
            }
            Native.ERR_error_string_n(code, line, LineBytesMax);
            text.Append(text.Length == 0 ? " (SSL: " : " ");
            text.Append(Text(line));
            if ((flags & HasText) != 0 && data != null && *data != 0)
            {
                text.Append(':').Append(Text(data));
            }
        }
        return text.Length == 0 ? "" : text.Append(')').ToString();
    }

    /// <summary>The library and reason number of the last error in the queue, without taking it.</summary>
    internal static int LastReason => (int)(Native.ERR_peek_last_error() & 0x7FFFFF);

    internal static int FirstReason => (int)(Native.ERR_peek_error() & 0x7FFFFF);

    internal static string Text(byte* text)
    {
        int length = 0;
        while (text[length] != 0)
        {
            length++;
        }
        return Encoding.UTF8.GetString(text, length);
    }
}
