// The words of nginx.conf, by the rules of nginx's own reader: what separates, what quotes, what escapes, where a
// comment may start, and how long a word may be. One lexer reads one text once, front to back; it never throws and
// always advances. It reports what it saw and leaves what it means to ConfParser.
using System.Text;

namespace Weir.Conf;

internal enum LexKind
{
    /// <summary>Words ended by ';'.</summary>
    Words,

    /// <summary>Words ended by '{'.</summary>
    BlockStart,

    /// <summary>A '}' on its own.</summary>
    BlockEnd,

    /// <summary>The end of the text.</summary>
    End,

    /// <summary>A syntax error; see <see cref="ConfLexer.Error"/>.</summary>
    Error,
}

/// <summary>How the text goes on after a syntax error.</summary>
internal enum LexResume
{
    /// <summary>After the statement that was wrong.</summary>
    NextStatement,

    /// <summary>Inside a block whose opening words were wrong.</summary>
    InsideBlock,

    /// <summary>There is nothing more.</summary>
    End,
}

internal struct LexWord
{
    public string Text;
    public ConfSpan Span;
    public bool Quoted;
}

internal sealed class ConfLexer(ConfFile file, WordPool words)
{
    /// <summary>nginx reads through a buffer of this size, and no word or comment may be longer.</summary>
    public const int WordBytesMax = 4096;

    private readonly byte[] _text = file.Bytes;
    private readonly StringBuilder _builder = new();
    private int _at;
    private int _line = 1;
    private int _lineStart;

    // The word under way: where nginx counts its length from, and where it visibly starts (at its quote).
    private int _start;
    private int _startLine;
    private int _startColumn;

    public ConfFile File { get; } = file;

    /// <summary>Words of the last statement. Their spans lack ReportLine and Order, which the parser knows.</summary>
    public List<LexWord> Words { get; } = [];

    /// <summary>nginx's message after <see cref="LexKind.Error"/>.</summary>
    public string Error { get; private set; } = "";

    public string? Hint { get; private set; }

    public ConfSpan ErrorSpan { get; private set; }

    /// <summary>The place of the ';', '{' or '}' just read, or of the end of the text.</summary>
    public ConfSpan Mark { get; private set; }

    public int Line => _line;

    public LexKind Next()
    {
        Words.Clear();
        bool lastSpace = true;
        bool needSpace = false;
        bool comment = false;
        bool variable = false;
        bool escaped = false;
        byte quote = 0;
        StartWord(0);

        while (true)
        {
            if (_at >= _text.Length)
            {
                return AtEnd(inWord: !lastSpace, quote);
            }
            if (_at - _start == WordBytesMax && !File.IsCommandLine)
            {
                return TooLong(quote);
            }

            byte c = _text[_at++];
            if (c == '\n')
            {
                _line++;
                _lineStart = _at;
                comment = false;
            }
            if (comment)
            {
                continue;
            }
            if (escaped)
            {
                escaped = false;
                continue;
            }
            if (needSpace)
            {
                if (IsSpace(c))
                {
                    lastSpace = true;
                    needSpace = false;
                    continue;
                }
                if (c is (byte)';' or (byte)'{')
                {
                    return Ended(c);
                }
                if (c != ')')
                {
                    return Unexpected(c, "a space or \";\" is missing after the closing quote");
                }
                lastSpace = true;
                needSpace = false;
            }

            if (lastSpace)
            {
                if (IsSpace(c))
                {
                    StartWord(0);
                    continue;
                }
                StartWord(1);
                switch (c)
                {
                    case (byte)';' or (byte)'{':
                        return Words.Count == 0 ? Unexpected(c, null) : Ended(c);
                    case (byte)'}':
                        return Words.Count == 0 ? Closed() : Unexpected(c, "a \";\" is missing before it");
                    case (byte)'#':
                        comment = true;
                        continue;
                    case (byte)'\\':
                        escaped = true;
                        break;
                    case (byte)'"' or (byte)'\'':
                        quote = c;
                        _start = _at;
                        break;
                    case (byte)'$':
                        variable = true;
                        break;
                }
                lastSpace = false;
                continue;
            }

            if (c == '{' && variable)
            {
                continue;
            }
            variable = c == '$';
            if (c is (byte)'\\' or (byte)'$')
            {
                escaped = c == '\\';
                continue;
            }
            if (quote != 0)
            {
                if (c == quote)
                {
                    AddWord(_at - 1, quoted: true);
                    quote = 0;
                    needSpace = true;
                }
                continue;
            }
            if (!IsSpace(c) && c is not ((byte)';' or (byte)'{'))
            {
                continue;
            }
            AddWord(_at - 1, quoted: false);
            lastSpace = true;
            if (!IsSpace(c))
            {
                return Ended(c);
            }
        }
    }

    /// <summary>After an error: passes over the rest of the statement. A '}' is left for the next call.</summary>
    public LexResume Resync()
    {
        bool comment = false;
        for (; _at < _text.Length; _at++)
        {
            byte c = _text[_at];
            if (c == '\n')
            {
                _line++;
                _lineStart = _at + 1;
                comment = false;
            }
            if (comment)
            {
                continue;
            }
            switch (c)
            {
                case (byte)'#' when _at > 0 && IsSpace(_text[_at - 1]):
                    comment = true;
                    break;
                case (byte)';':
                    _at++;
                    return LexResume.NextStatement;
                case (byte)'{':
                    _at++;
                    return LexResume.InsideBlock;
                case (byte)'}':
                    return LexResume.NextStatement;
            }
        }
        return LexResume.End;
    }

    private static bool IsSpace(byte c) => c is (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n';

    private void StartWord(int back)
    {
        _start = _at - back;
        _startLine = _line;
        _startColumn = _start - _lineStart + 1;
    }

    private void AddWord(int end, bool quoted)
    {
        int visible = end - _start + (quoted ? 2 : 0);
        Words.Add(new LexWord
        {
            Text = Unescape(_text.AsSpan(_start, end - _start)),
            Span = new ConfSpan(File, _startLine, _startColumn, visible, 0, 0),
            Quoted = quoted,
        });
    }

    /// <summary>Only \" \' \\ \t \r \n mean something; any other backslash stays as it is.</summary>
    private string Unescape(ReadOnlySpan<byte> raw)
    {
        if (raw.IndexOf((byte)'\\') < 0)
        {
            return words.Take(raw);
        }
        _builder.Clear();
        for (int i = 0; i < raw.Length; i++)
        {
            if (raw[i] == '\\' && i + 1 < raw.Length && Escape(raw[i + 1]) is var meant and not '\0')
            {
                _builder.Append(meant);
                i++;
                continue;
            }
            _builder.Append((char)raw[i]);
        }
        return _builder.ToString();
    }

    private static char Escape(byte c) => c switch
    {
        (byte)'"' or (byte)'\'' or (byte)'\\' => (char)c,
        (byte)'t' => '\t',
        (byte)'r' => '\r',
        (byte)'n' => '\n',
        _ => '\0',
    };

    private ConfSpan Here(int back, int length) =>
        new(File, _line, _at - back - _lineStart + 1, length, _line, 0);

    private LexKind Ended(byte c)
    {
        Mark = Here(1, 1);
        return c == ';' ? LexKind.Words : LexKind.BlockStart;
    }

    private LexKind Closed()
    {
        Mark = Here(1, 1);
        return LexKind.BlockEnd;
    }

    private LexKind AtEnd(bool inWord, byte quote)
    {
        Mark = Here(0, 1);
        if (Words.Count == 0 && !inWord)
        {
            return LexKind.End;
        }
        string message = File.IsCommandLine
            ? "unexpected end of parameter, expecting \";\""
            : "unexpected end of file, expecting \";\" or \"}\"";
        string? hint = quote == 0
            ? null
            : $"the {(char)quote} that opens a word on line {_startLine} has no closing {(char)quote}";
        ConfSpan span = Mark;
        if (quote != 0 && !File.IsCommandLine)
        {
            RewindToLineOfQuote();
        }
        return Fail(message, span, hint);
    }

    private LexKind TooLong(byte quote)
    {
        ConfSpan span = new(File, _startLine, _startColumn, 10, _startLine, 0);
        if (quote != 0)
        {
            RewindToLineOfQuote();
        }
        return quote != 0
            ? Fail($"too long parameter, probably missing terminating \"{(char)quote}\" character", span, null)
            : Fail($"too long parameter \"{ConfText.FromBytes(_text.AsSpan(_start, 10))}...\" started", span, null);
    }

    private LexKind Unexpected(byte c, string? hint)
    {
        _at--; // looked at again by Resync
        return Fail($"unexpected \"{(char)c}\"", Here(0, 1), hint);
    }

    /// <summary>
    /// An unclosed quote has swallowed what follows: back to the end of the line where it began, so that the rest of
    /// the text is still checked.
    /// </summary>
    private void RewindToLineOfQuote()
    {
        int end = _text.AsSpan(_start).IndexOf((byte)'\n');
        if (end < 0 || _start + end >= _at)
        {
            return;
        }
        _at = _start + end;
        _line = _startLine;
        _lineStart = _start - _startColumn; // the quote itself stands at _start - 1
        int last = _at - 1;
        while (last > _start && IsSpace(_text[last]))
        {
            last--;
        }
        if (last >= _start && _text[last] is ((byte)';' or (byte)'{'))
        {
            _at = last;
        }
    }

    private LexKind Fail(string message, ConfSpan span, string? hint)
    {
        Error = message;
        ErrorSpan = span;
        Hint = hint;
        return LexKind.Error;
    }
}
