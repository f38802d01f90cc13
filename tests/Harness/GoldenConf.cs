// Configurations and what nginx's -t says of them: Golden/*.txt. A case is a line "=== name kind", the text, and a
// line "--- accepted" or "--- refused: message". A line "+++ …" says what Weir says instead, and behind "##" why.
// The kind is the block that the text stands in: server, http, or main for a whole file. Behind it the origin may
// stand: the package of Debian 12 and the file in it that the text was cut out of (without comments, and without what
// hangs on the machine: certificates, includes, logs, addresses). Some of those are broken in one place, which their
// names say.
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;

namespace Weir.Tests.Harness;

/// <summary>One golden configuration.</summary>
public sealed partial record GoldenConf(string Source, string Name, string Kind, string Text, string Nginx,
    string? Weir, string? Reason, string Origin)
{
    /// <summary>Shapes of sites that are about.</summary>
    public static IReadOnlyList<GoldenConf> Sites { get; } = Read("sites.txt");

    /// <summary>Cut out of configurations that packages of Debian ship.</summary>
    public static IReadOnlyList<GoldenConf> Debian { get; } = Read("debian.txt");

    /// <summary>Mistakes.</summary>
    public static IReadOnlyList<GoldenConf> Faulty { get; } = Read("faulty.txt");

    public static IEnumerable<GoldenConf> All => Sites.Concat(Debian).Concat(Faulty);

    public string Id => Path.GetFileNameWithoutExtension(Source) + ": " + Name;

    /// <summary>Lines before the text in the whole file.</summary>
    private int LinesBefore => Kind switch { "server" => 4, "http" => 2, _ => 0 };

    /// <summary>The whole file.</summary>
    public string Whole => Kind switch
    {
        "server" => "events { }\nhttp {\nserver {\n" + (Text.StartsWith("listen 80", StringComparison.Ordinal) ? "\n"
            : "listen 80;\n") + Text + "\n}\n}\n",
        "http" => "events { }\nhttp {\n" + Text + "\n}\n",
        _ => Text + "\n",
    };

    /// <summary>An outcome in the form of the files: lines count from the text's first, places are as in the text.
    /// </summary>
    public string Outcome(bool accepted, string? message, string file, string directory)
    {
        if (accepted)
        {
            return "accepted";
        }
        string text = message ?? "";
        Match place = PlacePattern().Match(text);
        if (place.Success && place.Groups[2].Value == file)
        {
            int line = int.Parse(place.Groups[3].Value, System.Globalization.CultureInfo.InvariantCulture);
            text = $"{place.Groups[1].Value} in line {line - LinesBefore}";
        }
        return "refused: " + text.Replace(directory, "%DIR%", StringComparison.Ordinal);
    }

    [GeneratedRegex(@"^(.*) in ([^ ]+):(\d+)$", RegexOptions.Singleline)]
    private static partial Regex PlacePattern();

    private static List<GoldenConf> Read(string name, [CallerFilePath] string here = "")
    {
        var cases = new List<GoldenConf>();
        string all = File.ReadAllText(Path.Combine(Path.GetDirectoryName(here)!, "Golden", name));
        foreach (string part in all.Split("=== ", StringSplitOptions.RemoveEmptyEntries))
        {
            string[] lines = part.TrimEnd('\n').Split('\n');
            string[] head = lines[0].Split(' ');
            int said = Array.FindLastIndex(lines, static l => l.StartsWith("--- ", StringComparison.Ordinal));
            string[]? ours = said + 1 < lines.Length ? lines[said + 1][4..].Split(" ## ") : null;
            cases.Add(new GoldenConf(name, head[0], head[1], string.Join('\n', lines[1..said]), lines[said][4..],
                ours?[0], ours?[1], head.Length > 2 ? head[2] : ""));
        }
        return cases;
    }
}
