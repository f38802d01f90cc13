// Whether one regular expression matches everything that another one matches, for the plain kind that locations are
// made of: anchors, literals, alternatives, `.*` between. Sound and not complete: what it does not understand it does
// not judge. Pure.
using System.Text;

namespace Weir.Lint;

/// <summary>An expression as alternatives of literal pieces.</summary>
internal sealed class RegexCover
{
    private const int AlternativesMax = 64;

    /// <summary>Pieces with anything between them.</summary>
    private sealed record Alternative(bool AtStart, bool AtEnd, List<string> Pieces);

    private readonly List<Alternative> _alternatives;
    private readonly bool _caseless;

    private RegexCover(List<Alternative> alternatives, bool caseless)
    {
        _alternatives = alternatives;
        _caseless = caseless;
    }

    /// <summary>Null for an expression that is not of the plain kind.</summary>
    public static RegexCover? Of(string pattern, bool caseless)
    {
        var texts = new List<string>();
        if (!Expand(pattern, texts))
        {
            return null;
        }
        var alternatives = new List<Alternative>();
        foreach (string text in texts)
        {
            if (Read(text) is not { } alternative)
            {
                return null;
            }
            alternatives.Add(alternative);
        }
        return new RegexCover(alternatives, caseless);
    }

    /// <summary>Every text that the other one matches is matched by this one.</summary>
    public bool Covers(RegexCover other) =>
        other._alternatives.TrueForAll(narrow => _alternatives.Exists(wide => Covers(wide, narrow, other._caseless)));

    private bool Covers(Alternative wide, Alternative narrow, bool narrowCaseless)
    {
        bool isLetterless = wide.Pieces.TrueForAll(static p => !p.Any(char.IsAsciiLetter));
        if (narrowCaseless && !_caseless && !isLetterless)
        {
            return false;
        }
        StringComparison how = _caseless ? StringComparison.OrdinalIgnoreCase : StringComparison.Ordinal;
        if (wide.Pieces.Count == 0)
        {
            // "^", "$", ".*": anything at all, as long as nothing has to be empty.
            return !(wide.AtStart && wide.AtEnd);
        }
        if (wide.Pieces.Count > 1 || wide.AtStart && wide.AtEnd || narrow.Pieces.Count == 0)
        {
            return false;
        }
        string piece = wide.Pieces[0];
        return wide.AtStart ? narrow.AtStart && narrow.Pieces[0].StartsWith(piece, how)
            : wide.AtEnd ? narrow.AtEnd && narrow.Pieces[^1].EndsWith(piece, how)
            : narrow.Pieces.Exists(p => p.Contains(piece, how));
    }

    /// <summary>Groups of alternatives become alternatives of the whole.</summary>
    private static bool Expand(string pattern, List<string> into)
    {
        int depth = 0, open = -1;
        var bars = new List<int>();
        for (int i = 0; i < pattern.Length; i++)
        {
            switch (pattern[i])
            {
                case '\\':
                    i++;
                    break;
                case '(':
                    if (depth++ == 0 && open < 0)
                    {
                        open = i;
                    }
                    break;
                case ')':
                    if (--depth == 0 && open >= 0)
                    {
                        return ExpandGroup(pattern, open, i, into);
                    }
                    break;
                case '|' when depth == 0:
                    bars.Add(i);
                    break;
            }
        }
        if (depth != 0)
        {
            return false;
        }
        int from = 0;
        foreach (int bar in bars)
        {
            into.Add(pattern[from..bar]);
            from = bar + 1;
        }
        into.Add(pattern[from..]);
        return into.Count <= AlternativesMax;
    }

    private static bool ExpandGroup(string pattern, int open, int close, List<string> into)
    {
        string inner = pattern[(open + 1)..close];
        string before = pattern[..open];
        string after = pattern[(close + 1)..];
        if (inner.StartsWith("?:", StringComparison.Ordinal))
        {
            inner = inner[2..];
        }
        if (inner.StartsWith('?') || after.Length > 0 && after[0] is '*' or '+' or '{' || before.Contains('|'))
        {
            return false;
        }
        var choices = new List<string>();
        if (!Expand(inner, choices))
        {
            return false;
        }
        if (after.Length > 0 && after[0] == '?')
        {
            choices.Add("");
            after = after[1..];
        }
        foreach (string choice in choices)
        {
            if (!Expand(before + choice + after, into))
            {
                return false;
            }
        }
        return into.Count <= AlternativesMax;
    }

    private static Alternative? Read(string text)
    {
        var pieces = new List<string>();
        var piece = new StringBuilder();
        bool start = false, end = false, loose = false;
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            char next = i + 1 < text.Length ? text[i + 1] : '\0';
            if (end)
            {
                return null;
            }
            if (c == '^' && i == 0)
            {
                start = true;
            }
            else if (c == '$')
            {
                end = true;
            }
            else if (c == '.' && next is '*' or '+' || c == '[' && text.IndexOf(']', i) is var close and > 0
                && close + 1 < text.Length && text[close + 1] is '*' or '+')
            {
                // Something between, which an end in front of it or behind it does not touch.
                i = c == '.' ? i + 1 : text.IndexOf(']', i) + 1;
                loose |= pieces.Count == 0 && piece.Length == 0;
                Cut();
                pieces.Add("");
            }
            else if (c == '\\' && next != '\0' && !char.IsAsciiLetterOrDigit(next))
            {
                piece.Append(next);
                i++;
            }
            else if (c is '\\' or '.' or '[' or ']' or '*' or '+' or '?' or '{' or '(' or ')' or '|')
            {
                return null;
            }
            else
            {
                piece.Append(c);
            }
            if (i + 1 < text.Length && text[i + 1] is '*' or '?' or '{' && piece.Length > 0)
            {
                return null;
            }
        }
        bool tight = piece.Length > 0 || pieces.Count == 0;
        Cut();
        pieces.RemoveAll(static p => p.Length == 0);
        return new Alternative(start && !loose, end && tight, pieces);

        void Cut()
        {
            if (piece.Length > 0)
            {
                pieces.Add(piece.ToString());
                piece.Clear();
            }
        }
    }
}
