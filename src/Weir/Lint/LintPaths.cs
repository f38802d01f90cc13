// Rules about where a request goes: locations that no request reaches, rewrites that come back to themselves, names of
// places that are not there. Start-up only.
using Weir.Conf;

namespace Weir.Lint;

internal static class LintPaths
{
    private static readonly string[] s_everything =
        ["^", ".", ".*", "^.*", "^.*$", "(.*)", "^(.*)", "^(.*)$", "^/", "^/.*$", "^/(.*)", "^/(.*)$", "^/?(.*)$"];

    private static readonly string[] s_errorPages =
        ["404.html", "404.htm", "40x.html", "50x.html", "500.html", "502.html", "503.html", "error.html",
            "not_found.html", "notfound.html"];

    /// <summary>A rewrite that takes every path.</summary>
    public static bool IsOfEverything(ConfDirective rewrite) =>
        rewrite.Args.Length > 0 && s_everything.Contains(rewrite[0]);

    /// <summary>Paths begin with a slash, and the query is not in them.</summary>
    public static void CheckReach(Linter linter, LintScope location)
    {
        string pattern = location.Pattern;
        if (pattern.Length == 0 || location.Block is null)
        {
            return;
        }
        if (location.Modifier is "~" or "~*")
        {
            CheckQuery(linter, location.Block, pattern, "a location");
        }
        else if (pattern[0] is not ('/' or '@'))
        {
            bool isRegex = pattern[0] is '^' or '\\' or '(' || pattern.EndsWith('$') || pattern[0] == '.';
            linter.Say("location-unreachable", location.Block, $"no request reaches \"{pattern}\": every path begins "
                + "with \"/\"", isRegex ? $"location ~ {pattern}" : $"location {location.Modifier}{(
                    location.Modifier.Length > 0 ? " " : "")}/{pattern}; a host belongs to \"server_name\"");
        }
        else if (pattern[0] == '/' && pattern.IndexOf('?') is var mark and > 0)
        {
            linter.Say("args-in-pattern", location.Block, $"\"{pattern}\" is compared with the path, and the query "
                + "string is no part of it", $"location {pattern[..mark]} {{ if ($arg_NAME = …) {{ … }} }}, or a "
                + "\"map\" of $args");
        }
    }

    public static void CheckRewrite(Linter linter, LintScope scope, ConfDirective rewrite)
    {
        if (rewrite.Args.Length < 2)
        {
            return;
        }
        CheckQuery(linter, rewrite, rewrite[0], "\"rewrite\"");
        string flag = rewrite.Args.Length > 2 ? rewrite[2] : "";
        string target = rewrite[1];
        if (target.StartsWith('/') && scope.IsPrefixLocation && flag is "last"
            && !scope.Inside.Any(static d => d.Name is "if" or "break" or "return"))
        {
            CheckLoop(linter, scope, rewrite, target);
        }
        bool redirects = flag is "redirect" or "permanent" || target.StartsWith("http://", StringComparison.Ordinal)
            || target.StartsWith("https://", StringComparison.Ordinal)
            || target.StartsWith("$scheme", StringComparison.Ordinal);
        if (redirects && LintRewrites.UsesUri(target) is { } name)
        {
            linter.Say("uri-in-header", rewrite, $"\"{name}\" is decoded: \"%0d%0a\" in a request's path becomes a "
                + "line end in the Location of the answer", "$1 of the expression, or \"return 301 "
                + "…$request_uri;\"");
        }
    }

    private static void CheckQuery(Linter linter, ConfDirective at, string pattern, string who)
    {
        int mark = pattern.IndexOf("\\?", StringComparison.Ordinal);
        if (mark > 0 && mark + 2 < pattern.Length && pattern.AsSpan(mark + 2).Contains('=')
            && char.IsAsciiLetter(pattern[mark + 2]))
        {
            linter.Say("args-in-pattern", at, $"\"{pattern}\" never matches a query string: {who} sees the path alone",
                "if ($args ~ \"…\") or a \"map\" of $request_uri");
        }
    }

    /// <summary>Sure only where nothing else could take the new path.</summary>
    private static void CheckLoop(Linter linter, LintScope location, ConfDirective rewrite, string target)
    {
        int variable = target.IndexOf('$');
        string known = variable < 0 ? target.Split('?')[0] : target[..variable];
        if (!IsOfEverything(rewrite) || !known.StartsWith(location.Pattern, StringComparison.Ordinal)
            || location.Around?.Name != "server" || location.Own("location") is not null)
        {
            return;
        }
        foreach (ConfDirective other in location.Around.All("location"))
        {
            var scope = new LintScope(other, other.Block!, location.Around);
            bool mayTake = scope.Modifier is "~" or "~*" || scope.Pattern.Length > location.Pattern.Length
                && (known.StartsWith(scope.Pattern, StringComparison.Ordinal)
                    || variable >= 0 && scope.Pattern.StartsWith(known, StringComparison.Ordinal))
                || scope.Modifier == "=" && scope.Pattern == known;
            if (other != location.Block && mayTake)
            {
                return;
            }
        }
        linter.Say("rewrite-loop", rewrite, $"\"{known}\" is found in this location again, and rewritten again: after "
            + "ten rounds the answer is 500", $"rewrite {rewrite[0]} {target} break;");
    }

    public static void CheckTryFiles(Linter linter, LintScope scope, ConfDirective directive)
    {
        for (int i = 0; i < directive.Args.Length; i++)
        {
            ConfArg arg = directive.Args[i];
            if (i == directive.Args.Length - 1)
            {
                CheckName(linter, scope, directive, arg);
            }
            else if (arg.Text is ['=', _, _, _] or ['@', ..])
            {
                linter.Say("try-files-order", arg.Span, $"\"{arg.Text}\" is taken for the name of a file here: only "
                    + "the last word of \"try_files\" may be a status or a named location",
                    $"try_files {string.Join(' ', directive.Args.Select(static a => a.Text)
                        .Where(t => t != arg.Text))}; or end it with {arg.Text}");
            }
        }
    }

    public static void CheckErrorPage(Linter linter, LintScope scope, ConfDirective directive)
    {
        if (directive.Args.Length < 2)
        {
            return;
        }
        ConfArg target = directive.Args[^1];
        CheckName(linter, scope, directive, target);
        if (directive.Args.Length > 2 && directive.Args[^2].Text is "=" or "=200"
            && s_errorPages.Contains(target.Text[(target.Text.LastIndexOf('/') + 1)..]))
        {
            linter.Say("error-page-status", directive, $"the page of an error goes out with status 200 "
                + $"(\"{directive.Args[^2].Text}\"): search engines and caches keep it, monitors see nothing",
                $"error_page {string.Join(' ', directive.Args.Take(directive.Args.Length - 2)
                    .Select(static a => a.Text))} {target.Text};");
        }
    }

    /// <summary>Named locations belong to their server.</summary>
    private static void CheckName(Linter linter, LintScope scope, ConfDirective directive, ConfArg name)
    {
        if (name.Text is not ['@', ..] || name.Text.Contains('$') || scope.Within("server") is not { } server)
        {
            return;
        }
        foreach (ConfDirective location in server.All("location"))
        {
            if (location.Args.Length == 1 && location[0] == name.Text)
            {
                return;
            }
        }
        linter.Say("named-missing", name.Span, $"this server has no \"location {name.Text}\": the request ends with "
            + "500", $"location {name.Text} {{ … }}, beside the other locations of the server");
    }
}
