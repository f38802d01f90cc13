// Splits a text with variables, "a$b${c}d", into its parts by nginx's rules and with nginx's errors. What a variable is
// worth is not known here: a name is a name, and $1 to $9 are captures of the last regular expression. Pure.
namespace Weir.Conf;

public enum ConfTemplatePartKind
{
    Literal,
    Variable,

    /// <summary>$1 … $9; the text is the digit.</summary>
    Capture,

    /// <summary>The '?' where a rewrite's arguments begin; only when asked for.</summary>
    Arguments,
}

public readonly record struct ConfTemplatePart(ConfTemplatePartKind Kind, string Text);

public static class ConfTemplateScanner
{
    /// <summary>False when there is no '$': the text stands for itself.</summary>
    public static bool HasVariables(string text) => text.Contains('$');

    /// <summary>
    /// The parts in order; an empty text has none. False with nginx's message when the text is malformed. With
    /// <paramref name="splitArguments"/> the first '?' becomes a part of its own.
    /// </summary>
    public static bool TryScan(string text, List<ConfTemplatePart> parts, out string? error,
        bool splitArguments = false)
    {
        parts.Clear();
        error = null;
        int i = 0;
        while (i < text.Length)
        {
            if (text[i] == '$')
            {
                if (!TryVariable(text, ref i, parts, out error))
                {
                    return false;
                }
                continue;
            }
            if (splitArguments && text[i] == '?')
            {
                splitArguments = false;
                parts.Add(new ConfTemplatePart(ConfTemplatePartKind.Arguments, "?"));
                i++;
                continue;
            }
            int length = splitArguments ? text.AsSpan(i).IndexOfAny('$', '?') : text.AsSpan(i).IndexOf('$');
            int end = length < 0 ? text.Length : i + length;
            parts.Add(new ConfTemplatePart(ConfTemplatePartKind.Literal, text[i..end]));
            i = end;
        }
        return true;
    }

    private static bool TryVariable(string text, ref int i, List<ConfTemplatePart> parts, out string? error)
    {
        error = null;
        i++;
        if (i < text.Length && text[i] is >= '1' and <= '9')
        {
            parts.Add(new ConfTemplatePart(ConfTemplatePartKind.Capture, text[i..(i + 1)]));
            i++;
            return true;
        }
        bool bracket = i < text.Length && text[i] == '{';
        int start = bracket ? i + 1 : i;
        i = start;
        while (i < text.Length && (char.IsAsciiLetterOrDigit(text[i]) || text[i] == '_'))
        {
            i++;
        }
        string name = text[start..i];
        if (bracket && start == text.Length)
        {
            error = "invalid variable name";
            return false;
        }
        if (bracket && (i == text.Length || text[i] != '}'))
        {
            error = $"the closing bracket in \"{name}\" variable is missing";
            return false;
        }
        if (name.Length == 0)
        {
            error = "invalid variable name";
            return false;
        }
        i += bracket ? 1 : 0;
        parts.Add(new ConfTemplatePart(ConfTemplatePartKind.Variable, name));
        return true;
    }
}
