// Rules about lists that a level has either whole from around or not at all: add_header and its kind. Start-up only.
using Weir.Conf;

namespace Weir.Lint;

internal static class LintHeaders
{
    private static readonly string[] s_lists =
    [
        "add_header", "add_trailer", "proxy_set_header", "fastcgi_param", "grpc_set_header", "uwsgi_param",
        "scgi_param",
    ];

    private static readonly string[] s_security =
    [
        "Strict-Transport-Security", "X-Frame-Options", "X-Content-Type-Options", "Content-Security-Policy",
        "Referrer-Policy", "Permissions-Policy",
    ];

    private static readonly string[] s_passes = ["proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass"];

    private static readonly string[] s_fixed =
        ["200", "201", "204", "206", "301", "302", "303", "304", "307", "308"];

    public static void Check(Linter linter, LintScope scope)
    {
        if (scope.Around is null || scope.Name is "map" or "upstream")
        {
            return;
        }
        foreach (string name in s_lists)
        {
            if (scope.Own(name) is not { } first || scope.Around.LevelOf(name) is not { } outer
                || scope.InForce(name + "_inherit") is { Args.Length: > 0 } how && how[0] == "merge")
            {
                continue;
            }
            HashSet<string> own = [.. scope.All(name).Where(static d => d.Args.Length > 0)
                .Select(static d => d[0].ToLowerInvariant())];
            List<ConfDirective> lost = [.. outer.All(name).Where(d => d.Args.Length > 0
                && !own.Contains(d[0].ToLowerInvariant()))];
            if (lost.Count > 0)
            {
                string names = string.Join(", ", lost.Select(static d => d[0]).Distinct());
                linter.Say("header-lost", first, $"a \"{name}\" here drops all of those around: {names} "
                    + $"(from line {lost[0].Span.Line}{(lost[0].File.Path == first.File.Path ? "" : " of "
                        + lost[0].File.Path)})",
                    name is "add_header" or "add_trailer"
                        ? $"repeat them here, or \"{name}_inherit merge;\" (nginx 1.29.3)"
                        : "repeat them here, for example with an include");
            }
        }
    }

    public static void CheckAdded(Linter linter, LintScope scope, ConfDirective directive)
    {
        if (directive.Args.Length < 2)
        {
            return;
        }
        bool matters = Array.Exists(s_security, s => s.Equals(directive[0], StringComparison.OrdinalIgnoreCase))
            // A page may read errors of an application; a font that is missing is nobody's to read.
            || directive[0].Equals("Access-Control-Allow-Origin", StringComparison.OrdinalIgnoreCase)
                && scope.Within("location") is { } location && Array.Exists(s_passes, p => location.Own(p) is not null);
        bool isSure = scope.Own("return") is { Args.Length: > 0 } answer && s_fixed.Contains(answer[0]);
        if (directive.Args.Length == 2 && matters && !isSure)
        {
            linter.Say("header-always", directive, $"{directive[0]} is missing from error pages: without \"always\" "
                + "only answers 200, 201, 204, 206, 301–304, 307 and 308 have it",
                $"add_header {directive[0]} … always;");
        }
        if (LintRewrites.UsesUri(directive[1]) is { } name)
        {
            linter.Say("uri-in-header", directive, $"\"{name}\" is decoded: a request's path could put line ends into "
                + "the answer's head", "use $request_uri");
        }
    }
}
