// Mistakes that any directive can be given, made mechanically from nginx's table (data/nginx-directives.tsv): the
// wrong place, too few and too many arguments, a block where none is and none where one is, values that say nothing.
// What nginx answers to each is nginx's to say.
using System.Runtime.CompilerServices;

namespace Weir.Tests.Harness;

/// <summary>One directive of nginx's table in all the places where it may stand.</summary>
public sealed record DirectiveRow(string Module, string Name, string[] Contexts, string[] Arities, bool IsFlag,
    bool IsBlock)
{
    /// <summary>Rows by module file; one name may have several with different contexts.</summary>
    public static IReadOnlyList<DirectiveRow> All { get; } = Read();

    public bool Takes(int count) => IsFlag
        ? count == 1
        : Arities.Any(a => a.EndsWith('+') ? count >= a[0] - '0' : a == $"{count}");

    private static DirectiveRow[] Read([CallerFilePath] string here = "")
    {
        string path = Path.Combine(Path.GetDirectoryName(here)!, "../../data/nginx-directives.tsv");
        return
        [
            .. File.ReadLines(path).Skip(1).Select(static l => l.Split('\t')).Where(static c => c.Length > 4)
                .Select(static c => new DirectiveRow(c[0], c[1], c[2].Split(','),
                    c[3].Replace("0,1", "0/1").Split('/', StringSplitOptions.RemoveEmptyEntries), c[4].Contains("flag"),
                    c[4].Contains("block"))),
        ];
    }
}

/// <summary>A faulty configuration, and what kind of fault it is.</summary>
public sealed record Mistake(string Kind, string Directive, string Context, string Text)
{
    private static readonly string[] _places =
        ["main", "events", "http", "server", "location", "if-in-server", "if-in-location", "limit_except", "upstream"];

    public string Id => $"{Kind}: {Directive} in {Context}";

    /// <summary>Every mistake for the directives of these modules.</summary>
    public static IEnumerable<Mistake> Of(IReadOnlyCollection<string> modules, string[] values)
    {
        foreach (IGrouping<string, DirectiveRow> rows in DirectiveRow.All.Where(r => modules.Contains(r.Module))
            .GroupBy(static r => r.Name))
        {
            string name = rows.Key;
            var everywhere = DirectiveRow.All.Where(r => r.Name == name).ToArray();
            foreach (DirectiveRow row in rows.DistinctBy(static r => r.Contexts[0]))
            {
                string at = row.Contexts[0] == "any" ? "http" : row.Contexts[0];
                int least = Enumerable.Range(0, 9).First(row.Takes);
                var here = everywhere.Where(r => r.Contexts.Contains(at)).ToArray();
                foreach (int count in Enumerable.Range(0, 9).Where(n => here.All(r => !r.Takes(n))).Take(9)
                    .Where(n => n == least - 1 || n > least).Take(2))
                {
                    yield return new("arity " + count, name, at, At(at, Write(name, Many("x", count), row.IsBlock)));
                }
                yield return new("form", name, at, At(at, Write(name, Many("x", least), !row.IsBlock)));
                if (!row.IsBlock && least > 0)
                {
                    foreach (string value in values)
                    {
                        yield return new("value " + value, name, at, At(at, Write(name, Many(value, least), false)));
                        if (row.Takes(least + 1) && !row.IsFlag)
                        {
                            yield return new("values " + value, name, at,
                                At(at, Write(name, Many(value, least + 1), false)));
                        }
                    }
                }
            }
            // Two of the wrong places, other ones for each name.
            int turn = name.Sum(static c => c);
            foreach (string place in _places.Select((_, i) => _places[(i + turn) % _places.Length])
                .Where(p => everywhere.All(r => !r.Contexts.Contains(p) && r.Contexts[0] != "any")).Take(2))
            {
                DirectiveRow row = rows.First();
                int least = Enumerable.Range(0, 9).First(row.Takes);
                yield return new("context", name, place, At(place, Write(name, Many("x", least), row.IsBlock)));
            }
        }
    }

    private static string Many(string value, int count) => string.Concat(Enumerable.Repeat(" " + value, count));

    private static string Write(string name, string values, bool isBlock) => name + values + (isBlock ? " { }" : ";");

    /// <summary>The directive in the fourth line of a whole configuration.</summary>
    private static string At(string place, string text) => place switch
    {
        "main" => $"\n\n\n{text}\nevents {{ }} http {{ server {{ listen 127.0.0.1:%PORT%; }} }}\n",
        "events" => $"\nevents {{\n\n{text}\n}} http {{ server {{ listen 127.0.0.1:%PORT%; }} }}\n",
        "http" => $"events {{ }}\nhttp {{\n\n{text}\nserver {{ listen 127.0.0.1:%PORT%; }} }}\n",
        "upstream" => $"events {{ }} http {{\nserver {{ listen 127.0.0.1:%PORT%; }}\nupstream u {{\n{text}\n"
            + "server 127.0.0.1; } }\n",
        "server" => Server(text, "server { listen 127.0.0.1:%PORT%;", "}"),
        "location" => Server(text, "server { listen 127.0.0.1:%PORT%; location / {", "} }"),
        "if-in-server" => Server(text, "server { listen 127.0.0.1:%PORT%; if ($uri) {", "} }"),
        "if-in-location" => Server(text, "server { listen 127.0.0.1:%PORT%; location / { if ($uri) {", "} } }"),
        _ => Server(text, "server { listen 127.0.0.1:%PORT%; location / { limit_except GET {", "} } }"),
    };

    private static string Server(string text, string before, string after) =>
        $"events {{ }}\nhttp {{\n{before}\n{text}\n{after} }}\n";
}
