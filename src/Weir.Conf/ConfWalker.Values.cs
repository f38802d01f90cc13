// The walker as a directive's Apply uses it: reporting, and the arguments read as the types nginx's directives have,
// with nginx's messages when they are not. Used on the thread of the walk.
namespace Weir.Conf;

public sealed partial class ConfWalker
{
    /// <summary>Reports something that refuses the configuration.</summary>
    public void Error(ConfSpan span, string message, string? hint = null) => Errors.Emerg(message, span, hint);

    public void Error(ConfDirective directive, string message, string? hint = null) =>
        Errors.Emerg(message, directive.Span, hint);

    public void Error(ConfArg arg, string message, string? hint = null) => Errors.Emerg(message, arg.Span, hint);

    public void Warn(ConfSpan span, string message, string? hint = null) => Errors.Warn(message, span, hint);

    public void Warn(ConfDirective directive, string message, string? hint = null) =>
        Errors.Warn(message, directive.Span, hint);

    /// <summary>nginx's form for a directive's own complaint: <c>"name" directive is duplicate</c>.</summary>
    public void Complain(ConfDirective directive, string complaint, ConfSpan? at = null, string? hint = null) =>
        Errors.Emerg($"\"{directive.Name}\" directive {complaint}", at ?? directive.Span, hint);

    public void Duplicate(ConfDirective directive) => Complain(directive, "is duplicate");

    /// <summary>False, and reported, when the setting has been made on this level before.</summary>
    public bool Fresh<T>(ConfDirective directive, in Inherited<T> setting)
    {
        if (setting.IsSet)
        {
            Duplicate(directive);
        }
        return !setting.IsSet;
    }

    /// <summary>"on" or "off".</summary>
    public bool TryFlag(ConfDirective directive, out bool value)
    {
        ConfArg arg = directive.Args[0];
        if (ConfValues.TryFlag(arg.Text, out value))
        {
            return true;
        }
        Error(arg, $"invalid value \"{arg.Text}\" in \"{directive.Name}\" directive, it must be \"on\" or \"off\"");
        return false;
    }

    public bool TryNumber(ConfDirective directive, out long value, int arg = 0) =>
        ConfValues.TryNumber(directive[arg], out value) || Invalid(directive, arg, "invalid number");

    /// <summary>A size in memory: plain, k, m.</summary>
    public bool TrySize(ConfDirective directive, out long bytes, int arg = 0) =>
        ConfValues.TrySize(directive[arg], out bytes) || Invalid(directive, arg, "invalid value");

    /// <summary>A size in a file: plain, k, m, g.</summary>
    public bool TryOffset(ConfDirective directive, out long bytes, int arg = 0) =>
        ConfValues.TryOffset(directive[arg], out bytes) || Invalid(directive, arg, "invalid value");

    public bool TryMsec(ConfDirective directive, out long ms, int arg = 0) =>
        ConfValues.TryMsec(directive[arg], out ms) || Invalid(directive, arg, "invalid value");

    public bool TrySec(ConfDirective directive, out long seconds, int arg = 0) =>
        ConfValues.TrySec(directive[arg], out seconds) || Invalid(directive, arg, "invalid value");

    /// <summary>Number and size of buffers, neither of them zero.</summary>
    public bool TryBufs(ConfDirective directive, out ConfBufs bufs)
    {
        if (ConfValues.TryBufs(directive[0], directive[1], out bufs))
        {
            return true;
        }
        bool number = ConfValues.TryNumber(directive[0], out long count) && count > 0;
        return Invalid(directive, number ? 1 : 0, "invalid value");
    }

    /// <summary>One of a set of words.</summary>
    public bool TryEnum<T>(ConfDirective directive, ReadOnlySpan<ConfChoice<T>> choices, out T value, int arg = 0)
    {
        if (ConfValues.TryEnum(directive[arg], choices, out value))
        {
            return true;
        }
        string text = directive[arg];
        Error(directive.Args[arg], $"invalid value \"{text}\"", NearestName.Hint(Words(choices), text));
        return false;
    }

    /// <summary>
    /// All arguments from <paramref name="from"/> on, each one bit of a mask; a repeated one is a warning.
    /// </summary>
    public bool TryBitmask(ConfDirective directive, ReadOnlySpan<ConfChoice<int>> choices, out int mask, int from = 0)
    {
        mask = 0;
        bool good = true;
        for (int i = from; i < directive.Args.Length; i++)
        {
            if (!TryEnum(directive, choices, out int bits, i))
            {
                good = false;
                continue;
            }
            if ((mask & bits) != 0)
            {
                Warn(directive.Args[i].Span, $"duplicate value \"{directive[i]}\"");
                continue;
            }
            mask |= bits;
        }
        return good;
    }

    private bool Invalid(ConfDirective directive, int arg, string complaint)
    {
        Complain(directive, complaint, directive.Args[arg].Span);
        return false;
    }

    private static List<string> Words<T>(ReadOnlySpan<ConfChoice<T>> choices)
    {
        List<string> words = [];
        foreach (ConfChoice<T> choice in choices)
        {
            words.Add(choice.Word);
        }
        return words;
    }
}
