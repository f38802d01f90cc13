// Rules about who may have what: guards that guard nothing, folders that should not be served, answers that belong to
// one client. Start-up only.
using Weir.Conf;

namespace Weir.Lint;

internal static class LintGuards
{
    private static readonly string[] s_systemFolders =
        ["/", "/bin", "/etc", "/etc/nginx", "/home", "/lib", "/opt", "/proc", "/root", "/sys", "/usr", "/var"];

    /// <summary>What follows "all" is not asked.</summary>
    public static void CheckOrder(Linter linter, LintScope scope)
    {
        ConfDirective? all = null;
        foreach (ConfDirective directive in scope.Inside)
        {
            if (directive.Name is not ("allow" or "deny") || directive.Args.Length != 1)
            {
                continue;
            }
            if (all is not null)
            {
                linter.Say("access-order", directive, $"never asked: \"{all.Name} all\" of line {all.Span.Line} has "
                    + "decided before", $"put it before \"{all.Name} all;\"");
                return;
            }
            all = directive[0] == "all" ? directive : null;
        }
    }

    public static void CheckPassword(Linter linter, LintScope scope, ConfDirective directive)
    {
        if (directive.Args.Length == 1 && directive[0] != "off" && scope.InForce("auth_basic_user_file") is null
            && !Has(scope.Inside, "auth_basic_user_file"))
        {
            linter.Say("auth-basic-open", directive, "nobody is asked for a password: \"auth_basic\" without "
                + "\"auth_basic_user_file\" does nothing", "auth_basic_user_file /etc/nginx/htpasswd;");
        }
    }

    private static bool Has(IReadOnlyList<ConfDirective> inside, string name)
    {
        foreach (ConfDirective directive in inside)
        {
            if (directive.Name == name || directive.Block is { } block && Has(block, name))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>A server whose every path is a file of the system.</summary>
    public static void CheckRoot(Linter linter, LintScope scope, ConfDirective directive)
    {
        if (directive.Args.Length != 1)
        {
            return;
        }
        string path = directive[0].Length > 1 ? directive[0].TrimEnd('/') : directive[0];
        if (!s_systemFolders.Contains(path))
        {
            return;
        }
        LintScope? all = scope.IsLocation && scope.Modifier.Length == 0 && scope.Pattern == "/" ? scope
            : scope.Name == "server" ? Everything(scope) ?? scope : null;
        if (all is not null && !all.Inside.Any(d => d.Name is "return" or "internal" or "deny" or "rewrite"
            || d.Name == "root" && d != directive || d.Name.EndsWith("_pass", StringComparison.Ordinal)))
        {
            linter.Say("root-exposed", directive, $"everybody may read what the workers may read below \"{path}\"",
                "root /var/www/html; or a folder that holds nothing else");
        }
    }

    private static LintScope? Everything(LintScope server)
    {
        foreach (ConfDirective location in server.All("location"))
        {
            if (location is { Args.Length: 1, Block: not null } && location[0] == "/")
            {
                return new LintScope(location, location.Block, server);
            }
        }
        return null;
    }

    public static void CheckCookies(Linter linter, LintScope scope, ConfDirective cache)
    {
        string family = cache.Name[..cache.Name.IndexOf('_')];
        if (cache.Args.Length != 1 || cache[0] == "off"
            || scope.InForce(family + "_ignore_headers") is not { } ignored
            || !ignored.Args.Any(static a => a.Text.Equals("Set-Cookie", StringComparison.OrdinalIgnoreCase)))
        {
            return;
        }
        bool hidden = scope.LevelOf(family + "_hide_header")?.All(family + "_hide_header").Any(static d =>
            d.Args.Length == 1 && d[0].Equals("Set-Cookie", StringComparison.OrdinalIgnoreCase)) ?? false;
        if (!hidden)
        {
            linter.Say("cache-cookie", ignored, "an answer that sets a cookie is stored with it: everybody gets the "
                + "first client's session", $"{family}_hide_header Set-Cookie;");
        }
    }

    public static void CheckErrorLog(Linter linter, ConfDirective directive)
    {
        if (directive.Args.Length > 0 && directive[0] is "off" or "none")
        {
            linter.Say("error-log-off", directive, $"errors are written to a file of the name \"{directive[0]}\"",
                "error_log /dev/null crit;");
        }
    }
}
