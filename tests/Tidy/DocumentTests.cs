// Documents are true where a machine can tell: what they name exists, and nothing in the tree names a workplace.
using System.Text.RegularExpressions;
using Xunit;

namespace Weir.Tests.Tidy;

public sealed partial class DocumentTests
{
    [Fact]
    public void Every_link_of_a_document_leads_to_a_file() =>
        Tree.None("a link that leads nowhere", Documents()
            .SelectMany(doc => Link().Matches(doc.Text).Select(m => (doc, Target: m.Groups[1].Value)))
            .Where(x => !x.Target.Contains("://") && !x.Target.StartsWith('#') && !x.Target.StartsWith("mailto:"))
            .Where(x => !Exists(Path.Combine(Path.GetDirectoryName(x.doc.Path) ?? "", x.Target.Split('#')[0])))
            .Select(x => $"{x.doc.Path}: {x.Target}"));

    [Fact]
    public void Every_path_that_a_document_quotes_exists() =>
        Tree.None("a path that is not there", Documents()
            .SelectMany(doc => QuotedPath().Matches(doc.Text).Select(m => (doc.Path, Target: m.Groups[1].Value)))
            .Where(x => !x.Target.Contains('*') && !x.Target.Contains('…') && !x.Target.StartsWith("artifacts"))
            .Where(x => !Exists(x.Target.TrimEnd('/')))
            .Select(x => $"{x.Path}: {x.Target}"));

    [Fact]
    public void The_first_documents_are_there() =>
        Tree.None("missing", new[] { "README.md", "LICENSE", "docs/MAP.md", ".editorconfig", "global.json" }
            .Where(path => !Exists(path)));

    [Fact]
    public void The_map_names_every_project()
    {
        string map = File.ReadAllText(Path.Combine(Tree.Root, "docs/MAP.md"));
        Tree.None("a project that docs/MAP.md does not name", Tree.Files
            .Where(f => f.Path.EndsWith(".csproj") && (f.IsUnder("src") || f.IsUnder("tests")))
            .Select(f => Path.GetDirectoryName(f.Path)!)
            .Where(folder => !map.Contains(folder + "/", StringComparison.Ordinal)));
    }

    [Fact]
    public void The_tree_names_no_workplace()
    {
        // Written in pieces, so that this file does not offend against itself.
        string[] words = ["/work" + "/", "/root" + "/.", "clau" + "de", "anthro" + "pic", "issue" + " #"];
        Tree.None("a word of a workplace", Tree.Files
            .SelectMany(f => f.Lines.Select((line, i) => (f.Path, line, i)))
            .Where(x => words.Any(w => x.line.Contains(w, StringComparison.OrdinalIgnoreCase)))
            .Select(x => $"{x.Path}:{x.i + 1}: {x.line.Trim()}"));
    }

    [Fact]
    public void Scripts_can_be_started() =>
        Tree.None("not executable", new[] { "weir", "test", ".ci/run", "bench/run" }
            .Where(path => File.Exists(Path.Combine(Tree.Root, path)))
            .Where(path => !OperatingSystem.IsWindows()
                && (File.GetUnixFileMode(Path.Combine(Tree.Root, path)) & UnixFileMode.UserExecute) == 0));

    private static IEnumerable<SourceFile> Documents() =>
        Tree.Files.Where(f => f.Path.EndsWith(".md") && !f.IsUnder("bench/results"));

    private static bool Exists(string path)
    {
        string full = Path.Combine(Tree.Root, path);
        return path.Length == 0 || File.Exists(full) || Directory.Exists(full);
    }

    [GeneratedRegex(@"\[[^\]\n]*\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"`((?:src|tests|docs|bench|samples)/[\w./*…-]*)`")]
    private static partial Regex QuotedPath();
}
