// The verb `weir explain`: its options, and the start of its work. Start-up only.
using System.Globalization;
using Weir.Conf;

namespace Weir.Explain;

internal static class ExplainVerb
{
    private const string Conf = "--conf";
    private const string Prefix = "--prefix";
    private const string Globals = "--global";
    private const string Header = "--header";
    private const string Variable = "--variable";
    private const string From = "--from";
    private const string To = "--to";
    private const string Body = "--data";
    private const string Upstream = "--upstream-status";
    private const string Json = "--json";

    public static VerbOption[] Options { get; } =
    [
        new(Conf, 'c', "FILE", $"the configuration (default {Invocation.DefaultConfPath})"),
        new(Prefix, 'p', "PREFIX", "where relative paths belong"),
        new(Globals, 'g', "TEXT", "directives of the main level"),
        new(Header, 'H', "LINE", "a header line, \"Name: value\"; may be repeated"),
        new(Variable, 'V', "NAME", "show this variable at the end of the request; may be repeated"),
        new(From, null, "ADDR", "the client's address (default 127.0.0.1)"),
        new(To, null, "ADDR", "the listening address, as \"0.0.0.0:8080\" (default: what the URL says)"),
        new(Body, 'd', "TEXT", "the request's body"),
        new(Upstream, null, "STATUS", "what upstream servers are taken to answer (default 200)"),
        new(Json, null, null, "as JSON"),
    ];

    public static Invocation Finish(List<string> operands, List<(string Name, string Value)> given,
        IReadOnlySet<string> switches)
    {
        if (operands.Count is 0 or > 2)
        {
            return CommandLine.Complain("\"weir explain\" needs a URL, with or without a method before it",
                "for example: weir explain GET http://example.org/path");
        }
        string url = operands[^1];
        if (!url.StartsWith('/') && !url.Contains("://", StringComparison.Ordinal))
        {
            return CommandLine.Complain($"\"{url}\" is neither a URL nor a path",
                "http://…, https://… or /path");
        }
        string? Last(string name) => given.FindLast(g => g.Name == name).Value;
        List<string> All(string name) => [.. given.Where(g => g.Name == name).Select(static g => g.Value)];
        if (All(Header).Find(static h => !h.Contains(':')) is { } header)
        {
            return CommandLine.Complain($"\"{header}\" is no header line", "\"Name: value\"");
        }
        if (!int.TryParse(Last(Upstream) ?? "200", NumberStyles.None, CultureInfo.InvariantCulture, out int status)
            || status is < 200 or > 599)
        {
            return CommandLine.Complain($"invalid status \"{Last(Upstream)}\" of \"{Upstream}\"", "200 to 599");
        }
        string prefix = Last(Prefix) is { } given1 ? Path.GetFullPath(given1).TrimEnd('/') + "/"
            : Invocation.DefaultPrefix;
        string? conf = Last(Conf);
        return new Invocation
        {
            Action = InvocationAction.VerbExplain,
            Explain = new ExplainOptions
            {
                Method = operands.Count == 2 ? operands[0].ToUpperInvariant() : "GET",
                Url = url,
                ConfPath = conf is null ? Invocation.DefaultConfPath
                    : File.Exists(Path.GetFullPath(conf)) ? Path.GetFullPath(conf) : Path.GetFullPath(conf, prefix),
                Prefix = prefix,
                Globals = Last(Globals) ?? "",
                Headers = All(Header),
                Variables = [.. All(Variable).Select(static v => v.TrimStart('$'))],
                From = Last(From) ?? "127.0.0.1",
                To = Last(To) ?? "",
                Body = Last(Body) ?? "",
                UpstreamStatus = status,
                Json = switches.Contains(Json),
            },
        };
    }

    public static int Run(ExplainOptions options)
    {
        if (Explainer.Explain(options, new DiskConfFiles(), out string complaint) is not { } report)
        {
            foreach (string line in complaint.TrimEnd('\n').Split('\n'))
            {
                Console.Error.WriteLine(line.StartsWith("  ", StringComparison.Ordinal) ? line : "weir: " + line);
            }
            return 1;
        }
        Console.Out.Write(options.Json ? ExplainText.ForPrograms(report) : ExplainText.ForPeople(report));
        return 0;
    }
}
