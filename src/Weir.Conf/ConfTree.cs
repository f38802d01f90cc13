// What a configuration is after parsing: directives with arguments, blocks and places. Includes have already been
// replaced by what they named. Built once by ConfParser and not changed afterwards.
using System.Text;

namespace Weir.Conf;

/// <summary>One argument. <see cref="Text"/> is byte text with quotes and escapes resolved.</summary>
public readonly record struct ConfArg(string Text, ConfSpan Span, bool Quoted)
{
    /// <summary>The bytes as they stood in the file (usually UTF-8).</summary>
    public byte[] Utf8 => ConfText.Bytes(Text);

    public override string ToString() => Text;
}

/// <summary>A directive, or a line of a free block (then <see cref="Name"/> is simply its first word).</summary>
public sealed class ConfDirective
{
    public required string Name { get; init; }

    /// <summary>The arguments; the name is not among them.</summary>
    public required ConfArg[] Args { get; init; }

    /// <summary>The place of the name.</summary>
    public required ConfSpan Span { get; init; }

    /// <summary>What stands between the braces, or null for a directive ended by ';'.</summary>
    public List<ConfDirective>? Block { get; init; }

    /// <summary>The place of the ';' or '{' that ended the directive's words.</summary>
    public ConfSpan End { get; init; }

    /// <summary>The place of the '}' that closed the block.</summary>
    public ConfSpan BlockEnd { get; internal set; }

    /// <summary>The name was written in quotes.</summary>
    public bool NameQuoted { get; init; }

    /// <summary>
    /// A syntax error was reported inside its words: its meaning is unknown and a walk passes over it.
    /// </summary>
    public bool Broken { get; init; }

    public ConfFile File => Span.File;

    /// <summary>The text of an argument, counted from 0.</summary>
    public string this[int arg] => Args[arg].Text;

    /// <summary>Name and arguments on one line, quoted where needed, without ';' or '{'.</summary>
    public string QuotedForDump
    {
        get
        {
            StringBuilder line = new(ConfText.Quote(Name));
            foreach (ConfArg arg in Args)
            {
                line.Append(' ').Append(ConfText.Quote(arg.Text));
            }
            return line.ToString();
        }
    }

    public override string ToString() => QuotedForDump;
}

/// <summary>A whole configuration: its directives, the files in the order they were read, and what was wrong.</summary>
public sealed class ConfTree(List<ConfDirective> directives, List<ConfFile> files, ConfErrors errors)
{
    public IReadOnlyList<ConfDirective> Directives { get; } = directives;

    /// <summary>Each file once, in the order of first reading; a <c>-g</c> text is not among them.</summary>
    public IReadOnlyList<ConfFile> Files { get; } = files;

    /// <summary>What the parser found; a walk adds to the same list.</summary>
    public ConfErrors Errors { get; } = errors;

    /// <summary>Lets the texts go once everything was built and no error is left to be shown.</summary>
    public void ForgetTexts()
    {
        foreach (ConfFile file in Files)
        {
            file.Forget();
        }
    }

    /// <summary>The tree written again in one canonical form: four spaces a level, one directive a line.</summary>
    public string ToCanonicalText()
    {
        StringBuilder text = new();
        Write(text, Directives, 0);
        return text.ToString();
    }

    private static void Write(StringBuilder text, IReadOnlyList<ConfDirective> directives, int depth)
    {
        foreach (ConfDirective directive in directives)
        {
            text.Append(' ', depth * 4).Append(directive.QuotedForDump);
            if (directive.Block is null)
            {
                text.Append(";\n");
                continue;
            }
            text.Append(" {\n");
            Write(text, directive.Block, depth + 1);
            text.Append(' ', depth * 4).Append("}\n");
        }
    }
}
