// The repository as the tidy tests see it: its root, its own text files (no build output), and the verdict of a rule.
// Files are found by walking the tree, not by asking git: a file counts before it is committed.
using Xunit;

namespace Weir.Tests.Tidy;

/// <summary>One text file of the repository.</summary>
internal sealed record SourceFile(string Path, string[] Lines)
{
    public string Text => string.Join('\n', Lines);

    public bool IsUnder(string folder) => Path.StartsWith(folder + "/", StringComparison.Ordinal);
}

/// <summary>The repository's files, read once.</summary>
internal static class Tree
{
    private static readonly string[] _textEndings =
    [
        ".cs", ".csproj", ".props", ".targets", ".slnx", ".json", ".md", ".conf", ".html", ".css", ".js", ".lua", ".py",
        ".sh", ".editorconfig", ".gitignore", ".txt",
    ];

    // Scripts without an ending.
    private static readonly string[] _textNames = ["weir", "test", "run", "doors", "smoke", "LICENSE"];

    private static readonly string[] _foreign = [".git", "artifacts", "bin", "obj", "node_modules", ".vs", ".idea"];

    public static string Root { get; } = FindRoot();

    public static IReadOnlyList<SourceFile> Files { get; } = Read();

    public static IEnumerable<SourceFile> CSharp => Files.Where(f => f.Path.EndsWith(".cs", StringComparison.Ordinal));

    /// <summary>Fails with all offences at once, each on a line of its own.</summary>
    public static void None(string rule, IEnumerable<string> offences)
    {
        string[] found = offences.ToArray();
        Assert.True(found.Length == 0, $"{rule} ({found.Length}):\n" + string.Join('\n', found.Take(200)));
    }

    private static string FindRoot()
    {
        string? directory = AppContext.BaseDirectory;
        while (directory is not null && !File.Exists(Path.Combine(directory, "Weir.slnx")))
        {
            directory = Path.GetDirectoryName(directory);
        }

        return directory ?? throw new InvalidOperationException("the tests do not run inside the repository");
    }

    private static List<SourceFile> Read()
    {
        var files = new List<SourceFile>();
        Walk(Root, files);
        files.Sort((a, b) => string.CompareOrdinal(a.Path, b.Path));
        return files;
    }

    private static void Walk(string directory, List<SourceFile> into)
    {
        foreach (string child in Directory.GetDirectories(directory))
        {
            if (!_foreign.Contains(Path.GetFileName(child)) && new DirectoryInfo(child).LinkTarget is null)
            {
                Walk(child, into);
            }
        }

        foreach (string file in Directory.GetFiles(directory))
        {
            string name = Path.GetFileName(file);
            if (_textNames.Contains(name) || _textEndings.Any(e => name.EndsWith(e, StringComparison.Ordinal)))
            {
                into.Add(new SourceFile(Path.GetRelativePath(Root, file).Replace('\\', '/'), File.ReadAllLines(file)));
            }
        }
    }
}
