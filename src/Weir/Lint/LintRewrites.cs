// Rules about `if` and `return`: what looks like a branch of a program and is not one. Start-up only.
using Weir.Conf;

namespace Weir.Lint;

internal static class LintRewrites
{
    private static bool IsRewriting(ConfDirective directive) =>
        directive.Name is "rewrite" or "return" or "set" or "break" or "if" or "rewrite_log";

    /// <summary>The block ends the rewriting: what the location around says of content does not matter then.</summary>
    private static bool Ends(ConfDirective block) => block.Block!.Exists(static d => d.Name is "return"
        || d.Name == "rewrite" && d.Args.Length > 1 && (d.Args.Length > 2 && d[2] is not "break"
            || d[1].StartsWith("http", StringComparison.Ordinal)
            || d[1].StartsWith("$scheme", StringComparison.Ordinal)));

    public static void CheckIfs(Linter linter, LintScope location)
    {
        ConfDirective? before = null;
        foreach (ConfDirective block in location.All("if"))
        {
            if (block.Block is null || Ends(block))
            {
                continue;
            }
            if (location.Own("try_files") is { } tried)
            {
                linter.Say("if-try-files", block, $"where this \"if\" holds, \"try_files\" of line "
                    + $"{tried.Span.Line} is not asked: the location goes on with the settings of the \"if\"",
                    "put the condition into a \"map\" and its result into \"try_files\", or end the block with "
                    + "\"return\" or \"rewrite … last\"");
            }
            if (block.Block.TrueForAll(IsRewriting))
            {
                continue;
            }
            if (before is not null)
            {
                linter.Say("if-settings", block, "where this \"if\" and that of line "
                    + $"{before.Span.Line} both hold, only the settings of this one are in force",
                    "use a \"map\" for each value, or a location of its own for each case");
            }
            before = block;
        }
    }

    public static void CheckCondition(Linter linter, ConfDirective block)
    {
        string[] words = [.. block.Args.Select(static a => a.Text)];
        if (words.Length == 0)
        {
            return;
        }
        words[0] = words[0].TrimStart('(');
        words[^1] = words[^1].EndsWith(')') ? words[^1][..^1] : words[^1];
        words = [.. words.Where(static w => w.Length > 0)];
        if (words is ["!-f" or "!-e" or "!-d", "$request_filename" or "$document_root$uri", ..]
            && block.Block is { } lines && (lines.Exists(static d => d.Name is "return" or "proxy_pass"
                or "fastcgi_pass") || lines.Count(static d => d.Name == "rewrite") == 1
                && LintPaths.IsOfEverything(lines.Find(static d => d.Name == "rewrite")!)))
        {
            linter.Say("if-file", block, "a file that is missing is better asked for with \"try_files\"",
                "try_files $uri $uri/ /index.php?$args; (whatever the \"if\" goes to comes last)");
        }
        if (words is [['$', ..], "=" or "!=", { Length: > 1 } value]
            && (value[0] == '^' || value[^1] == '$' || value.Contains('|') || value.Contains(".*")))
        {
            linter.Say("if-equals-regex", block, $"\"{words[1]}\" compares texts: \"{value}\" is not read as a regular "
                + "expression", $"if ({words[0]} {(words[1] == "=" ? "~" : "!~")} {value})");
        }
    }

    public static void CheckReturn(Linter linter, LintScope scope, ConfDirective directive)
    {
        if (scope.IsLocation)
        {
            foreach (string rule in (string[])["deny", "auth_basic", "auth_request"])
            {
                if (scope.Own(rule) is { } access && !(access.Args.Length > 0 && access[0] == "off"))
                {
                    linter.Say("return-before-access", access, $"\"{rule}\" is never asked here: \"return\" of line "
                        + $"{directive.Span.Line} answers first",
                        "serve the answer in another way: try_files /nonexistent =204; or an error_page");
                }
            }
        }
        string url = directive.Args.Length == 1 ? directive[0] : directive.Args.Length == 2 ? directive[1] : "";
        bool redirects = directive.Args.Length == 1 ? url.Contains("://", StringComparison.Ordinal)
            : directive.Args.Length == 2 && directive[0] is "301" or "302" or "303" or "307" or "308";
        if (redirects && UsesUri(url) is { } name)
        {
            linter.Say("uri-in-header", directive, $"\"{name}\" is decoded: \"%0d%0a\" in a request's path becomes a "
                + "line end in the Location of the answer", $"{url.Replace(name, "$request_uri")} keeps it as it "
                + $"was sent");
        }
    }

    /// <summary>The variable of the decoded path in a text, or null.</summary>
    internal static string? UsesUri(string text)
    {
        foreach (string name in (string[])["$document_uri", "$uri", "${uri}", "${document_uri}"])
        {
            int at = text.IndexOf(name, StringComparison.Ordinal);
            if (at >= 0 && (name[^1] == '}' || at + name.Length == text.Length
                || !(char.IsAsciiLetterOrDigit(text[at + name.Length]) || text[at + name.Length] == '_')))
            {
                return name;
            }
        }
        return null;
    }
}
