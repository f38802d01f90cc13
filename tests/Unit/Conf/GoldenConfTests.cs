// Golden configurations: golden/*.txt is a text, a line of dashes, and what must come of it: the canonical tree, or the
// rendered errors. More files follow lines "=== path"; a first line "-g TEXT" is the command line's text.
// WEIR_GOLDEN_UPDATE=1 writes the expectations anew; read the difference before committing it.
using Weir.Conf;
using Xunit;

namespace Weir.Tests.Unit.Conf;

public sealed class GoldenConfTests
{
    private const string Dashes = "\n----------\n";

    public static string Folder { get; } = Path.Combine(RepositoryRoot(), "tests/Unit/Conf/golden");

    public static TheoryData<string> Cases() =>
        [.. Directory.GetFiles(Folder, "*.txt").Select(static p => Path.GetFileNameWithoutExtension(p)!).Order()];

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_golden_configuration_comes_out_as_written(string name)
    {
        string path = Path.Combine(Folder, name + ".txt");
        string text = File.ReadAllText(path);
        int dashes = text.LastIndexOf(Dashes, StringComparison.Ordinal);
        Assert.True(dashes >= 0, "a line of dashes separates the two halves");
        string input = text[..(dashes + 1)];
        string expected = text[(dashes + Dashes.Length)..];

        string actual = Run(input);
        if (Environment.GetEnvironmentVariable("WEIR_GOLDEN_UPDATE") == "1")
        {
            File.WriteAllText(path, input + Dashes[1..] + actual);
            return;
        }
        Assert.Equal(expected, actual);
    }

    [Fact]
    public void Half_of_the_golden_configurations_are_faulty()
    {
        string[] texts = [.. Directory.GetFiles(Folder, "*.txt").Select(File.ReadAllText)];
        int faulty = texts.Count(static t => t.Contains(Dashes + "[emerg]", StringComparison.Ordinal));
        Assert.True(texts.Length >= 60 && faulty * 2 >= texts.Length - 10, $"{faulty} of {texts.Length}");
    }

    internal static string RepositoryRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "Weir.slnx")))
        {
            folder = Path.GetDirectoryName(folder);
        }
        return folder ?? throw new InvalidOperationException("the tests run inside the repository");
    }

    private static string Run(string input)
    {
        string? globals = null;
        if (input.StartsWith("-g ", StringComparison.Ordinal))
        {
            int end = input.IndexOf('\n');
            globals = input[3..end];
            input = input[(end + 1)..];
        }
        MemoryConfFiles files = new();
        string[] sections = ("=== nginx.conf\n" + input).Split("=== ", StringSplitOptions.RemoveEmptyEntries);
        foreach (string section in sections)
        {
            int end = section.IndexOf('\n');
            files.Add("/c/" + section[..end], section[(end + 1)..]);
        }
        ConfTree tree = ConfSample.Walk(files, globals);
        string errors = string.Concat(tree.Errors.All.Select(static e => e.Render()));
        return tree.Errors.Failed ? errors : errors + ConfText.ToUnicode(tree.ToCanonicalText());
    }
}
