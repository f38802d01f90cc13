// Everything that is wrong with a configuration, collected. One error has nginx's one-line form (Format) and a form for
// people (Render): the source line, a caret under the words meant, and a hint. Filled on the thread that builds the
// configuration.
using System.Text;

namespace Weir.Conf;

public enum ConfLevel
{
    Emerg,
    Warn,

    /// <summary>A known trap: nothing that nginx would speak of.</summary>
    Lint,
}

/// <summary>
/// One finding. <see cref="Span"/> is null when no line is to blame (a missing main file, a missing section).
/// </summary>
public sealed record ConfError(ConfLevel Level, string Message, ConfSpan? Span, string? Hint = null)
{
    /// <summary>Columns of source shown around the caret; longer lines are cut.</summary>
    private const int SourceColumnsMax = 160;

    /// <summary>nginx's form: <c>[emerg] message in FILE:LINE</c>.</summary>
    public string Format()
    {
        string level = Level switch { ConfLevel.Warn => "warn", ConfLevel.Lint => "lint", _ => "emerg" };
        return ConfText.ToUnicode($"[{level}] {Message}{Where()}");
    }

    private string Where() => Span switch
    {
        null => "",
        { File.IsCommandLine: true } => " in command line",
        { } span => $" in {span.File.Path}:{span.ReportLine}",
    };

    /// <summary>
    /// Format, then the source line with a caret line, then the hint; every line ends with a line feed.
    /// </summary>
    public string Render()
    {
        StringBuilder text = new(Format());
        text.Append('\n');
        if (Span is { } span)
        {
            RenderSource(text, span);
        }
        if (Hint is not null)
        {
            text.Append("  hint: ").Append(ConfText.ToUnicode(Hint)).Append('\n');
        }
        return text.ToString();
    }

    private static void RenderSource(StringBuilder text, ConfSpan span)
    {
        string line = span.File.Line(span.Line);
        int caret = Math.Clamp(span.Column - 1, 0, line.Length);
        int length = Math.Clamp(span.Length, 1, Math.Max(1, line.Length - caret));
        int cut = caret > SourceColumnsMax - 40 ? caret - 40 : 0;
        string shown = line.Substring(cut, Math.Min(SourceColumnsMax, line.Length - cut));
        length = Math.Max(1, Math.Min(length, shown.Length - (caret - cut)));
        if (shown.Length == 0)
        {
            return;
        }

        string gutter = span.Line.ToString();
        text.Append("  ").Append(gutter).Append(" | ").Append(Printable(ConfText.ToUnicode(shown))).Append('\n');
        // Tabs count as one column below, so they are shown as one; a UTF-8 sequence is one column as well.
        int before = Width(shown.AsSpan(0, caret - cut));
        int under = Math.Max(1, Width(shown.AsSpan(caret - cut, Math.Min(length, shown.Length - (caret - cut)))));
        text.Append("  ").Append(' ', gutter.Length).Append(" | ").Append(' ', before).Append('^', under).Append('\n');
    }

    private static int Width(ReadOnlySpan<char> byteText)
    {
        int width = 0;
        foreach (char c in byteText)
        {
            width += (c & 0xC0) == 0x80 && c >= 0x80 ? 0 : 1;
        }
        return width;
    }

    private static string Printable(string line)
    {
        StringBuilder printable = new(line.Length);
        foreach (char c in line)
        {
            printable.Append(c == '\t' ? ' ' : char.IsControl(c) ? '?' : c);
        }
        return printable.ToString();
    }
}

/// <summary>The errors of one configuration. A hostile text cannot make it grow without bound.</summary>
public sealed class ConfErrors
{
    /// <summary>More than these are counted, not kept.</summary>
    public const int KeptMax = 1000;

    private readonly List<ConfError> _errors = [];

    /// <summary>At least one error that refuses the configuration.</summary>
    public bool Failed { get; private set; }

    /// <summary>All findings, also those beyond <see cref="KeptMax"/>.</summary>
    public int Count { get; private set; }

    /// <summary>In the order of the text, so that the first one is the one nginx would have stopped at.</summary>
    public IReadOnlyList<ConfError> All
    {
        get
        {
            // A stable sort: two findings about one place keep the order in which they were made.
            return [.. _errors.OrderBy(static e => e.Span?.Order ?? int.MaxValue)];
        }
    }

    public void Add(ConfError error)
    {
        Count++;
        Failed |= error.Level == ConfLevel.Emerg;
        if (_errors.Count < KeptMax || (error.Level == ConfLevel.Emerg && _errors.TrueForAll(IsWarning)))
        {
            _errors.Add(error);
        }
    }

    public void Emerg(string message, ConfSpan? span, string? hint = null) =>
        Add(new ConfError(ConfLevel.Emerg, message, span, hint));

    public void Warn(string message, ConfSpan? span, string? hint = null) =>
        Add(new ConfError(ConfLevel.Warn, message, span, hint));

    private static bool IsWarning(ConfError error) => error.Level != ConfLevel.Emerg;
}
