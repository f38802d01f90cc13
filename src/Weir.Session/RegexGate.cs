// What every text that a regular expression matches must begin with, end with or hold, read off the expression where it
// is plain enough: most expressions of a configuration are asked about paths that they do not match, and a few compares
// say so sooner than the engine. Sound: a text that it turns away is never matched. Pure; made with the configuration.
namespace Weir.Session;

/// <summary>A cheap test before an expression.</summary>
internal sealed class RegexGate
{
    private const int EndingsMax = 16;

    private readonly byte[] _start;
    private readonly byte[][] _endings;
    private readonly byte[] _inside;
    private readonly bool _caseless;

    private RegexGate(byte[] start, byte[][] endings, byte[] inside, bool caseless)
    {
        _start = start;
        _endings = endings;
        _inside = inside;
        _caseless = caseless;
    }

    /// <summary>Null where the expression tells nothing, or is written in a way that this does not read.</summary>
    internal static RegexGate? Of(string pattern, bool caseless)
    {
        bool atStart = pattern.StartsWith('^');
        bool atEnd = false;
        var pieces = new List<Piece>();
        for (int at = atStart ? 1 : 0; at < pattern.Length && !atEnd;)
        {
            atEnd = pattern[at] == '$' && at == pattern.Length - 1;
            if (!atEnd && !TryRead(pattern, ref at, pieces))
            {
                return null;
            }
        }
        int first = pieces.FindIndex(static p => p.Kind != PieceKind.Literal);
        byte[] start = atStart ? Run(pieces, 0, first < 0 ? pieces.Count : first) : [];
        byte[][] endings = atEnd ? Endings(pieces) : [];
        // Letters in any case anywhere in the text are not found faster than by the engine.
        byte[] inside = start.Length == 0 && endings.Length == 0 && !caseless ? Longest(pieces) : [];
        return start.Length + endings.Length + inside.Length == 0 ? null
            : new RegexGate(start, endings, inside, caseless);
    }

    /// <summary>False: the expression does not match this text.</summary>
    internal bool MayMatch(ReadOnlySpan<byte> text)
    {
        if (_start.Length > 0 && (text.Length < _start.Length || !Same(text[.._start.Length], _start)))
        {
            return false;
        }
        if (_endings.Length > 0)
        {
            // `$` also matches before a line end that is the last byte.
            return EndsRight(text) || text.Length > 0 && text[^1] == '\n' && EndsRight(text[..^1]);
        }
        return _inside.Length == 0 || text.IndexOf(_inside) >= 0;
    }

    private bool EndsRight(ReadOnlySpan<byte> text)
    {
        foreach (byte[] ending in _endings)
        {
            if (text.Length >= ending.Length && Same(text[^ending.Length..], ending))
            {
                return true;
            }
        }
        return false;
    }

    private bool Same(ReadOnlySpan<byte> text, byte[] literal)
    {
        if (!_caseless)
        {
            return text.SequenceEqual(literal);
        }
        for (int i = literal.Length - 1; i >= 0; i--)
        {
            // Equal, or the same letter in another case.
            int difference = text[i] ^ literal[i];
            if (difference != 0 && (difference != 0x20 || (uint)((literal[i] | 0x20) - 'a') > 'z' - 'a'))
            {
                return false;
            }
        }
        return true;
    }

    private enum PieceKind
    {
        Literal,

        /// <summary>One of several texts.</summary>
        Choices,

        Other,
    }

    /// <summary>Of the outermost level of an expression.</summary>
    private readonly record struct Piece(PieceKind Kind, byte Value, List<byte[]>? Choices);

    private static byte[] Run(List<Piece> pieces, int from, int to) =>
        [.. pieces.Skip(from).Take(to - from).Select(static p => p.Value)];

    private static byte[][] Endings(List<Piece> pieces)
    {
        bool choices = pieces.Count > 0 && pieces[^1].Kind == PieceKind.Choices;
        int end = choices ? pieces.Count - 1 : pieces.Count;
        int from = end;
        while (from > 0 && pieces[from - 1].Kind == PieceKind.Literal)
        {
            from--;
        }
        byte[] run = Run(pieces, from, end);
        byte[][] all = choices ? [.. pieces[^1].Choices!.Select(choice => (byte[])[.. run, .. choice])] : [run];
        return Array.TrueForAll(all, static e => e.Length > 0) ? all : [];
    }

    private static byte[] Longest(List<Piece> pieces)
    {
        byte[] longest = [];
        for (int from = 0; from < pieces.Count; from++)
        {
            int to = from;
            while (to < pieces.Count && pieces[to].Kind == PieceKind.Literal)
            {
                to++;
            }
            if (to - from > longest.Length)
            {
                longest = Run(pieces, from, to);
            }
            from = to;
        }
        return longest;
    }

    /// <summary>One piece with what repeats it. False for what is not read here, among it `|` of this level, after
    /// which nothing is needed any more, and whatever could change the meaning of the rest.</summary>
    private static bool TryRead(string pattern, ref int at, List<Piece> pieces)
    {
        var piece = new Piece(PieceKind.Other, 0, null);
        char c = pattern[at];
        if (TryLiteral(pattern, ref at, out byte value))
        {
            piece = new Piece(PieceKind.Literal, value, null);
        }
        else if (c == '(')
        {
            if (!TryGroup(pattern, ref at, out List<byte[]>? choices))
            {
                return false;
            }
            piece = choices is null ? piece : new Piece(PieceKind.Choices, 0, choices);
        }
        else if (c == '[')
        {
            if (!SkipClass(pattern, ref at))
            {
                return false;
            }
        }
        else if (c == '\\' && at + 1 < pattern.Length && "dDsSwWbBhHvV".Contains(pattern[at + 1]))
        {
            at += 2;
        }
        else if (c == '.')
        {
            at++;
        }
        else
        {
            return false;
        }
        int before = at;
        if (!SkipRepetition(pattern, ref at))
        {
            return false;
        }
        pieces.Add(at == before ? piece : new Piece(PieceKind.Other, 0, null));
        return true;
    }

    private static bool TryLiteral(string pattern, ref int at, out byte value)
    {
        char c = pattern[at];
        value = (byte)c;
        if (c is >= ' ' and <= '~' && !@"\^$.[]|()?*+{}".Contains(c))
        {
            at++;
            return true;
        }
        if (c == '\\' && at + 1 < pattern.Length && pattern[at + 1] is >= ' ' and <= '~'
            && !char.IsAsciiLetterOrDigit(pattern[at + 1]))
        {
            value = (byte)pattern[at + 1];
            at += 2;
            return true;
        }
        return false;
    }

    /// <summary>`*`, `+`, `?`, each perhaps lazy or possessive; a brace is not read.</summary>
    private static bool SkipRepetition(string pattern, ref int at)
    {
        if (at < pattern.Length && pattern[at] is '*' or '+' or '?')
        {
            at++;
            if (at < pattern.Length && pattern[at] is '+' or '?')
            {
                at++;
            }
        }
        return at >= pattern.Length || pattern[at] is not ('{' or '}' or '*' or '+' or '?');
    }

    private static bool SkipClass(string pattern, ref int at)
    {
        int i = at + 1;
        if (i < pattern.Length && pattern[i] == '^')
        {
            i++;
        }
        // A bracket at the beginning is one of the class.
        for (bool isFirst = true; i < pattern.Length && (isFirst || pattern[i] != ']'); isFirst = false)
        {
            if (pattern[i] == '[' || pattern[i] == '\\' && i + 1 < pattern.Length && pattern[i + 1] is 'Q' or 'E')
            {
                return false;
            }
            i += pattern[i] == '\\' ? 2 : 1;
        }
        at = i + 1;
        return i < pattern.Length;
    }

    /// <summary>A group of any content; its texts where it holds nothing else.</summary>
    private static bool TryGroup(string pattern, ref int at, out List<byte[]>? choices)
    {
        choices = [];
        int i = at + 1;
        if (i < pattern.Length && pattern[i] is '?' or '*')
        {
            // (?:…) and named ones; anything else may set options or look around.
            int name = pattern.IndexOf('>', i);
            bool isNamed = i + 2 < pattern.Length && name > 0 && (pattern[i + 1] == '<' && IsName(pattern[i + 2])
                || pattern[i + 1] == 'P' && pattern[i + 2] == '<');
            bool isPlain = pattern[i] == '?' && i + 1 < pattern.Length && pattern[i + 1] == ':';
            if (pattern[i] == '*' || !isNamed && !isPlain)
            {
                return false;
            }
            i = isPlain ? i + 2 : name + 1;
        }
        var one = new List<byte>();
        var more = new List<Piece>();
        while (i < pattern.Length && pattern[i] != ')')
        {
            if (pattern[i] == '|')
            {
                choices?.Add([.. one]);
                one.Clear();
                i++;
                continue;
            }
            if (pattern[i] is '^' or '$')
            {
                choices = null;
                i++;
                continue;
            }
            more.Clear();
            if (!TryRead(pattern, ref i, more))
            {
                return false;
            }
            if (more[0].Kind == PieceKind.Literal)
            {
                one.Add(more[0].Value);
            }
            else
            {
                choices = null;
            }
        }
        choices?.Add([.. one]);
        if (choices?.Count > EndingsMax)
        {
            choices = null;
        }
        at = i + 1;
        return i < pattern.Length;
    }

    private static bool IsName(char c) => char.IsAsciiLetter(c) || c == '_';
}
