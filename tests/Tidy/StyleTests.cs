// Style that a machine can check: lengths, headers, words that promise work instead of doing it, banned calls.
using System.Text.RegularExpressions;
using Xunit;

namespace Weir.Tests.Tidy;

public sealed partial class StyleTests
{
    private const int LineCharsMax = 120;
    private const int FileLinesMax = 600;
    private const int HeaderLinesMin = 1;

    // path -> why it may be longer than FileLinesMax.
    private static readonly Dictionary<string, string> _longFiles = new()
    {
    };

    // The calls that are not for the data path: clocks and randomness come from the engine, waiting is the loop's.
    private static readonly (string Call, string Instead)[] _banned =
    [
        ("Task.Run(", "BlockingWork"),
        (".Wait()", "await"),
        ("Thread.Sleep(", "a timer of the loop"),
        ("DateTime.Now", "the loop's clock"),
        ("DateTime.UtcNow", "the loop's clock"),
        ("Stopwatch", "the loop's clock"),
        ("Environment.TickCount", "the loop's clock"),
        ("Random.Shared", "the engine's randomness"),
        ("Guid.NewGuid", "the engine's randomness"),
        ("ArrayPool", "the loop's BufferPool"),
        ("ConfigureAwait", "LoopTask"),
        ("CancelAfter", "a deadline of the operation"),
        ("System.Net.Sockets", "Weir.Kernel"),
        ("Console.", "the log"),
    ];

    private static readonly string[] _dataPath =
        ["src/Weir.Loop", "src/Weir.Protocol", "src/Weir.Zones", "src/Weir.Session", "src/Weir.Http"];

    // path -> why it may make a call that the data path may not.
    private static readonly Dictionary<string, string> _bannedExceptions = new()
    {
        ["src/Weir.Loop/BlockingWork.cs"] = "its threads are the ones that may wait",
        ["src/Weir.Loop/PortableLoop.cs"] = "the engine that is made of the framework's sockets and clocks",
        ["src/Weir.Loop/PortableListener.cs"] = "the engine that is made of the framework's sockets",
        ["src/Weir.Loop/PortableStream.cs"] = "the engine that is made of the framework's sockets",
        ["src/Weir.Loop/PortableStream.Sending.cs"] = "the engine that is made of the framework's sockets",
        ["src/Weir.Loop/InMemoryLoop.cs"] = "a test engine: it refuses to run for ever",
    };

    private static readonly string[] _promises =
        ["TO" + "DO", "FIX" + "ME", "HA" + "CK", "NotImplemented" + "Exception", "Skip" + " ="];

    // path -> why it may carry such a word.
    private static readonly Dictionary<string, string> _promiseExceptions = new()
    {
        ["tests/Harness/Tools.cs"] = "the one place where a test that lacks a tool is skipped, visibly",
    };

    [Fact]
    public void No_line_is_longer_than_120_columns() =>
        Tree.None("too long", Tree.Files
            .Where(f => !f.IsUnder("bench/results") && !f.IsUnder("docs/lab") && !f.IsUnder("tests/Unit/Conf/golden")
                && !f.IsUnder("tests/Harness/Golden") && !f.Path.EndsWith(".json") && !f.Path.EndsWith(".md"))
            .SelectMany(f => f.Lines.Select((line, i) => (f.Path, Line: i + 1, line.Length)))
            .Where(x => x.Length > LineCharsMax)
            .Select(x => $"{x.Path}:{x.Line}: {x.Length} columns"));

    [Fact]
    public void No_source_file_is_longer_than_600_lines_without_a_reason() =>
        Tree.None("too long", Tree.CSharp
            .Where(f => f.IsUnder("src") && f.Lines.Length > FileLinesMax && !_longFiles.ContainsKey(f.Path))
            .Select(f => $"{f.Path}: {f.Lines.Length} lines"));

    [Fact]
    public void Every_exception_names_a_file_that_still_needs_it()
    {
        Tree.None("a stale exception", _longFiles.Keys
            .Where(path => Tree.Files.All(f => f.Path != path || f.Lines.Length <= FileLinesMax)));
    }

    [Fact]
    public void Every_source_file_says_first_what_lives_in_it() =>
        Tree.None("no header comment", Tree.CSharp
            .Where(f => f.Lines.Length > 0 && f.Lines.TakeWhile(l => l.StartsWith("//")).Count() < HeaderLinesMin)
            .Select(f => f.Path));

    [Fact]
    public void Nothing_is_promised_instead_of_done() =>
        Tree.None("a word that stands for work not done", Tree.Files
            .Where(f => !_promiseExceptions.ContainsKey(f.Path) && !f.Path.EndsWith(".md"))
            .SelectMany(f => f.Lines.Select((line, i) => (f.Path, line, i)))
            .Where(x => _promises.Any(word => Promises(x.line, word)))
            .Select(x => $"{x.Path}:{x.i + 1}: {x.line.Trim()}"));

    [Fact]
    public void No_region_folds_code_away() =>
        Tree.None("a region", Tree.CSharp.Where(f => f.Lines.Any(l => l.TrimStart().StartsWith("#region")))
            .Select(f => f.Path));

    [Fact]
    public void The_data_path_makes_no_banned_call() =>
        Tree.None("a banned call", Tree.CSharp
            .Where(f => _dataPath.Any(f.IsUnder) && !_bannedExceptions.ContainsKey(f.Path))
            .SelectMany(f => f.Lines.Select((line, i) => (f.Path, Line: WithoutComment(line), i)))
            .SelectMany(x => _banned.Where(b => x.Line.Contains(b.Call))
                .Select(b => $"{x.Path}:{x.i + 1}: {b.Call} (instead: {b.Instead})")));

    [Fact]
    public void A_class_that_nobody_derives_from_is_sealed_or_static()
    {
        HashSet<string> bases = Tree.CSharp.SelectMany(f => f.Lines)
            .Select(line => BaseClass().Match(line))
            .Where(m => m.Success)
            .Select(m => m.Groups[1].Value)
            .ToHashSet();
        Tree.None("an open class", Tree.CSharp
            .Where(f => f.IsUnder("src"))
            .SelectMany(f => f.Lines.Select((line, i) => (f, line, i, Match: OpenClass().Match(line))))
            .Where(x => x.Match.Success && !bases.Contains(x.Match.Groups[1].Value))
            .Where(x => !IsPartialElsewhere(x.f, x.line))
            .Select(x => $"{x.f.Path}:{x.i + 1}: {x.line.Trim()}"));
    }

    [Fact]
    public void Namespaces_are_file_scoped() =>
        Tree.None("a namespace with a block", Tree.CSharp
            .SelectMany(f => f.Lines.Select((line, i) => (f.Path, line, i)))
            // Beside top-level statements a namespace needs its block.
            .Where(x => !x.Path.EndsWith("/Program.cs", StringComparison.Ordinal))
            .Where(x => x.line.StartsWith("namespace ") && !x.line.TrimEnd().EndsWith(';'))
            .Select(x => $"{x.Path}:{x.i + 1}"));

    [Fact]
    public void A_type_spans_three_files_at_most() =>
        Tree.None("a type in too many files", Tree.CSharp
            .Where(f => f.IsUnder("src"))
            .SelectMany(f => f.Lines
                .Select(line => PartialType().Match(line))
                .Where(m => m.Success)
                .Select(m => (Folder: Path.GetDirectoryName(f.Path), Name: m.Groups[1].Value, f.Path))
                .Distinct())
            .GroupBy(x => (x.Folder, x.Name))
            .Where(g => g.Select(x => x.Path).Distinct().Count() > 3 && !_wideTypes.ContainsKey(g.Key.Name))
            .Select(g => $"{g.Key.Name}: {string.Join(", ", g.Select(x => x.Path).Distinct())}"));

    // type -> why it may span more files.
    private static readonly Dictionary<string, string> _wideTypes = new()
    {
        ["Syscalls"] = "one import per system call, a file per family of them",
        ["Libc"] = "one import per system call, a file per family of them",
        ["Native"] = "one import per system call, a file per family of them",
    };

    // A whole word in capitals; the lower-case word in prose is none of it.
    private static bool Promises(string line, string word)
    {
        int at = line.IndexOf(word, StringComparison.Ordinal);
        return at >= 0 && (at == 0 || !char.IsLetter(line[at - 1]))
            && (at + word.Length >= line.Length || !char.IsLetter(line[at + word.Length]));
    }

    private static string WithoutComment(string line)
    {
        int comment = line.IndexOf("//", StringComparison.Ordinal);
        return comment < 0 ? line : line[..comment];
    }

    // A partial class is sealed or static by any one of its parts.
    private static bool IsPartialElsewhere(SourceFile file, string line)
    {
        Match name = PartialType().Match(line);
        string? folder = Path.GetDirectoryName(file.Path);
        return name.Success && Tree.CSharp.Any(f => Path.GetDirectoryName(f.Path) == folder && f.Lines.Any(l =>
            (l.Contains("sealed ") || l.Contains("static ") || l.Contains("abstract "))
            && PartialType().Match(l) is { Success: true } other && other.Groups[1].Value == name.Groups[1].Value));
    }

    [GeneratedRegex(@"^\s*(?:public |internal |private |protected |file |unsafe |partial )*class (\w+)")]
    private static partial Regex OpenClass();

    [GeneratedRegex(@"\bclass \w+[^:]*: (\w+)")]
    private static partial Regex BaseClass();

    [GeneratedRegex(@"\bpartial (?:class|struct|record|interface) (\w+)")]
    private static partial Regex PartialType();
}
