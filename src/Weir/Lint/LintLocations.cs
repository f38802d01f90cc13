// Rules about locations: alias, the order of regular expressions, expressions that say something else than was meant.
// Start-up only.
using Weir.Conf;

namespace Weir.Lint;

internal static class LintLocations
{
    private static readonly string[] s_extensions =
        ["php", "html", "htm", "css", "js", "jpg", "jpeg", "png", "gif", "ico", "svg", "txt", "xml", "json", "asp",
            "aspx", "jsp", "cgi", "py", "pl", "woff", "woff2", "ttf", "pdf", "zip", "gz", "well-known", "git", "ht"];

    public static void Check(Linter linter, LintScope scope)
    {
        CheckAlias(linter, scope);
        if (scope.Modifier is "~" or "~*")
        {
            CheckDot(linter, scope.Block!, scope.Pattern);
        }
        if (scope.Inside.Any(static d => d.Name == "location"))
        {
            CheckRegexes(linter, scope);
        }
        LintServers.CheckAllow(linter, scope);
    }

    private static void CheckAlias(Linter linter, LintScope scope)
    {
        if (scope.Own("alias") is not { Args.Length: 1 } alias || !scope.IsPrefixLocation || scope.Pattern.Length < 2)
        {
            return;
        }
        bool location = scope.Pattern.EndsWith('/');
        bool path = alias[0].EndsWith('/');
        if (!location && path)
        {
            linter.Say("alias-slash", alias, $"\"{scope.Pattern}../\" leads above \"{alias[0]}\": what stands behind "
                + "the location's name is put behind the alias as it is",
                $"location {scope.Pattern}/ {{ alias {alias[0]}; }}");
        }
        else if (location && !path)
        {
            linter.Say("alias-slash", alias, $"\"{scope.Pattern}x\" becomes \"{alias[0]}x\", without a slash between",
                $"alias {alias[0]}/;");
        }
    }

    /// <summary>`~ .php$`: the dot is any character.</summary>
    private static void CheckDot(Linter linter, ConfDirective at, string pattern)
    {
        for (int i = pattern.IndexOf('.'); i >= 0; i = pattern.IndexOf('.', i + 1))
        {
            string rest = pattern[(i + 1)..].TrimStart('(', '?', ':');
            string word = new([.. rest.TakeWhile(static c => char.IsAsciiLetterOrDigit(c) || c == '-')]);
            char after = word.Length < rest.Length ? rest[word.Length] : '$';
            if ((i == 0 || pattern[i - 1] is not ('\\' or '[')) && after is '$' or '|' or ')' or '/' or '('
                && !pattern[..i].Contains('[') && s_extensions.Contains(word.ToLowerInvariant()))
            {
                linter.Say("regex-dot", at, $"the dot in \"{pattern}\" is any character: \"x{word}\" matches as well",
                    $"{pattern[..i]}\\{pattern[i..]}");
                return;
            }
        }
    }

    public static void CheckPhp(Linter linter, LintScope scope)
    {
        if (scope.Within("location") is { Modifier: "~" or "~*" } location
            && location.Pattern.Contains("php", StringComparison.Ordinal)
            && !location.Pattern.TrimEnd(')').EndsWith('$') && scope.InForce("fastcgi_split_path_info") is null)
        {
            linter.Say("php-anchor", location.Block!, $"\"/upload.jpg/x.php/y\" is handed to the interpreter: "
                + $"\"{location.Pattern}\" does not end at the script's name",
                "end the expression with \\.php$ and ask with \"try_files $uri =404;\" whether the script is there");
        }
    }

    /// <summary>Expressions are asked in their order: one that an earlier one covers is never reached.</summary>
    public static void CheckRegexes(Linter linter, LintScope level)
    {
        List<(LintScope Scope, RegexCover? Cover)>? earlier = null;
        foreach (ConfDirective directive in level.Inside)
        {
            if (directive.Name != "location" || directive.Block is null)
            {
                continue;
            }
            var scope = new LintScope(directive, directive.Block, level);
            if (scope.Modifier is not ("~" or "~*"))
            {
                continue;
            }
            var cover = RegexCover.Of(scope.Pattern, caseless: scope.Modifier == "~*");
            foreach ((LintScope before, RegexCover? wider) in earlier ?? [])
            {
                bool same = before.Pattern == scope.Pattern
                    && (before.Modifier == scope.Modifier || before.Modifier == "~*");
                if (same || wider is not null && cover is not null && wider.Covers(cover))
                {
                    linter.Say("regex-shadowed", directive, $"never reached: \"{before.Modifier} {before.Pattern}\" of "
                        + $"line {before.Block!.Span.Line} matches everything that this one matches, and comes first",
                        "put the narrower expression before the wider one");
                    break;
                }
            }
            (earlier ??= []).Add((scope, cover));
        }
    }
}
