// Reads one flat JSON object, field by field, without exceptions: texts, numbers, true, false and null; what is nested
// is reported as such. Texts come back as bytes in chars, escapes resolved to UTF-8. Pure.
using System.Globalization;
using System.Text;

namespace Weir.Http.Api;

/// <summary>What a field's value is.</summary>
internal enum JsonKind
{
    Text,
    Number,
    True,
    False,
    Null,
    Nested,
}

/// <summary>What was read last.</summary>
internal enum JsonStep
{
    Field,
    End,
    Broken,
}

internal ref struct FlatJson(ReadOnlySpan<byte> json)
{
    private readonly ReadOnlySpan<byte> _json = json;
    private int _at;
    private bool _began;

    public string Name { get; private set; } = "";
    public JsonKind Kind { get; private set; }

    /// <summary>A text's content, or a number as it stands.</summary>
    public string Value { get; private set; } = "";

    /// <summary>The next field; the end when the object and nothing behind it was read.</summary>
    public JsonStep Next()
    {
        SkipSpace();
        if (!_began)
        {
            if (!Take('{'))
            {
                return JsonStep.Broken;
            }
            SkipSpace();
            if (Take('}'))
            {
                return AtEnd();
            }
            _began = true;
        }
        else if (Take('}'))
        {
            return AtEnd();
        }
        else if (!Take(','))
        {
            return JsonStep.Broken;
        }
        SkipSpace();
        if (!TryText(out string name))
        {
            return JsonStep.Broken;
        }
        Name = name;
        SkipSpace();
        if (!Take(':'))
        {
            return JsonStep.Broken;
        }
        SkipSpace();
        return TryValue() ? JsonStep.Field : JsonStep.Broken;
    }

    private JsonStep AtEnd()
    {
        SkipSpace();
        return _at == _json.Length ? JsonStep.End : JsonStep.Broken;
    }

    private bool TryValue()
    {
        Value = "";
        switch (_at < _json.Length ? (char)_json[_at] : '\0')
        {
            case '{' or '[':
                Kind = JsonKind.Nested;
                return true;
            case '"':
                Kind = JsonKind.Text;
                bool whole = TryText(out string text);
                Value = text;
                return whole;
            case 't':
                Kind = JsonKind.True;
                return TakeWord("true"u8);
            case 'f':
                Kind = JsonKind.False;
                return TakeWord("false"u8);
            case 'n':
                Kind = JsonKind.Null;
                return TakeWord("null"u8);
            default:
                return TryNumber();
        }
    }

    /// <summary>A number of RFC 8259 §6; what it is worth is not looked at.</summary>
    private bool TryNumber()
    {
        int start = _at;
        Take('-');
        int whole = SkipDigits();
        bool good = whole > 0 && (whole == 1 || _json[_at - whole] != '0');
        if (good && Take('.'))
        {
            good = SkipDigits() > 0;
        }
        if (good && (Take('e') || Take('E')))
        {
            _ = Take('+') || Take('-');
            good = SkipDigits() > 0;
        }
        Kind = JsonKind.Number;
        Value = Encoding.ASCII.GetString(_json[start.._at]);
        return good;
    }

    private bool TryText(out string text)
    {
        text = "";
        if (!Take('"'))
        {
            return false;
        }
        var bytes = new StringBuilder();
        while (_at < _json.Length)
        {
            byte c = _json[_at++];
            if (c == '"')
            {
                text = bytes.ToString();
                return true;
            }
            if (c < 0x20 || c == '\\' && !TryEscape(bytes))
            {
                return false;
            }
            if (c != '\\')
            {
                bytes.Append((char)c);
            }
        }
        return false;
    }

    private bool TryEscape(StringBuilder bytes)
    {
        char c = _at < _json.Length ? (char)_json[_at++] : '\0';
        int at = "\"\\/bfnrt".IndexOf(c, StringComparison.Ordinal);
        if (at >= 0)
        {
            bytes.Append("\"\\/\b\f\n\r\t"[at]);
            return true;
        }
        if (c != 'u' || _at + 4 > _json.Length || !ushort.TryParse(_json.Slice(_at, 4),
            NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort unit)
            || char.IsSurrogate((char)unit))
        {
            return false;
        }
        _at += 4;
        Span<byte> utf8 = stackalloc byte[4];
        foreach (byte b in utf8[..Encoding.UTF8.GetBytes([(char)unit], utf8)])
        {
            bytes.Append((char)b);
        }
        return true;
    }

    private bool Take(char c)
    {
        bool there = _at < _json.Length && _json[_at] == c;
        _at += there ? 1 : 0;
        return there;
    }

    private bool TakeWord(ReadOnlySpan<byte> word)
    {
        bool there = _json[_at..].StartsWith(word);
        _at += there ? word.Length : 0;
        return there;
    }

    private int SkipDigits()
    {
        int start = _at;
        while (_at < _json.Length && _json[_at] is >= (byte)'0' and <= (byte)'9')
        {
            _at++;
        }
        return _at - start;
    }

    private void SkipSpace()
    {
        while (_at < _json.Length && (_json[_at] is (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n'))
        {
            _at++;
        }
    }
}
