// Where things stand in a configuration: the blocks around a directive, and which directives of a name are in force in
// a block. For telling people only: what a configuration means is decided by the server itself. Pure.
using Weir.Conf;

namespace Weir.Explain;

internal sealed class ConfScopes
{
    private readonly Dictionary<ConfDirective, ConfDirective> _around = [];

    public ConfScopes(ConfTree tree)
    {
        foreach (ConfDirective directive in tree.Directives)
        {
            Visit(directive);
        }
        Top = tree.Directives;
    }

    public IReadOnlyList<ConfDirective> Top { get; }

    /// <summary>The block around; null at the main level.</summary>
    public ConfDirective? Around(ConfDirective directive) => _around.GetValueOrDefault(directive);

    /// <summary>FILE:LINE.</summary>
    public static string At(ConfDirective directive) => At(directive.Span);

    public static string At(ConfSpan span) => span.File.IsCommandLine ? "command line"
        : $"{ConfText.ToUnicode(span.File.Path)}:{span.Line}";

    /// <summary>The directive on one line, as people write it.</summary>
    public static string Text(ConfDirective directive)
    {
        var text = new System.Text.StringBuilder(directive.Name);
        foreach (ConfArg arg in directive.Args)
        {
            bool isPlain = arg.Text.Length > 0 && arg.Text.AsSpan().IndexOfAny(' ', '\t', ';') < 0;
            text.Append(' ').Append(isPlain ? arg.Text : $"\"{arg.Text}\"");
        }
        return ConfText.ToUnicode(text.ToString());
    }

    /// <summary>The directives of this name that are in force in a block: those of the nearest level that has
    /// any.</summary>
    public IReadOnlyList<ConfDirective> InForce(ConfDirective? block, params ReadOnlySpan<string> names)
    {
        for (ConfDirective? level = block; level is not null; level = Around(level))
        {
            var found = new List<ConfDirective>();
            foreach (ConfDirective inside in level.Block ?? [])
            {
                if (names.Contains(inside.Name))
                {
                    found.Add(inside);
                }
            }
            if (found.Count > 0)
            {
                return found;
            }
        }
        return [];
    }

    /// <summary>The first of this name and first argument anywhere in `http`.</summary>
    public ConfDirective? Find(string name, string argument) =>
        _around.Keys.FirstOrDefault(d => d.Name == name && d.Args.Length > 0 && d[0] == argument);

    private void Visit(ConfDirective directive)
    {
        foreach (ConfDirective inside in directive.Block ?? [])
        {
            _around[inside] = directive;
            Visit(inside);
        }
    }
}
