// JSON that the API answers with: objects whose fields stand in the order in which they were added, and the text of
// them. Small and rare, so it allocates; never on the way of a request that is passed on.
using System.Globalization;
using System.Text;

namespace Weir.Http.Api;

/// <summary>A JSON object with its fields in order.</summary>
internal sealed class ApiObject
{
    private readonly List<(string Name, object Value)> _fields = [];

    public ApiObject Add(string name, object value)
    {
        _fields.Add((name, value));
        return this;
    }

    /// <summary>Only the fields of these names, in the object's order; null for all.</summary>
    public ApiObject Only(string[]? names)
    {
        if (names is not null)
        {
            _fields.RemoveAll(f => !names.Contains(f.Name));
        }
        return this;
    }

    /// <summary>The text of a value: an object, a list of values, a text, a number or a truth.</summary>
    public static string Text(object value)
    {
        var text = new StringBuilder();
        Write(text, value);
        return text.ToString();
    }

    private static void Write(StringBuilder text, object value)
    {
        switch (value)
        {
            case ApiObject { _fields: var fields }:
                text.Append('{');
                for (int i = 0; i < fields.Count; i++)
                {
                    Quote(text.Append(i == 0 ? "" : ","), fields[i].Name);
                    Write(text.Append(':'), fields[i].Value);
                }
                text.Append('}');
                break;
            case string s:
                Quote(text, s);
                break;
            case bool b:
                text.Append(b ? "true" : "false");
                break;
            case System.Collections.IEnumerable list:
                text.Append('[');
                bool first = true;
                foreach (object item in list)
                {
                    Write(first ? text : text.Append(','), item);
                    first = false;
                }
                text.Append(']');
                break;
            default:
                text.Append(Convert.ToString(value, CultureInfo.InvariantCulture));
                break;
        }
    }

    /// <summary>Texts are bytes, one in each char; what is not ASCII is written as an escape.</summary>
    private static void Quote(StringBuilder text, string value)
    {
        text.Append('"');
        foreach (char c in value)
        {
            if (c is '"' or '\\')
            {
                text.Append('\\').Append(c);
            }
            else if (c is < ' ' or > '~')
            {
                text.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}");
            }
            else
            {
                text.Append(c);
            }
        }
        text.Append('"');
    }
}
