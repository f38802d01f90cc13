// Rules about servers, clients and the process: names, ports, TLS, addresses, limits. Start-up only.
using System.Globalization;
using Weir.Conf;

namespace Weir.Lint;

internal static class LintServers
{
    private static readonly string[] s_weakCiphers =
        ["RC4", "DES", "3DES", "MD5", "EXPORT", "EXP", "NULL", "aNULL", "eNULL", "LOW", "ADH"];

    public static void CheckMain(Linter linter, LintScope main)
    {
        ConfDirective? events = main.Own("events");
        if (events?.Block?.Find(static d => d.Name == "worker_connections") is not { Args.Length: 1 } connections
            || !long.TryParse(connections[0], NumberStyles.None, CultureInfo.InvariantCulture, out long wanted))
        {
            return;
        }
        long limit = main.Own("worker_rlimit_nofile") is { Args.Length: 1 } given
            && long.TryParse(given[0], NumberStyles.None, CultureInfo.InvariantCulture, out long set) ? set
            : linter.Settings.DescriptorsMax;
        if (limit > 0 && wanted > limit)
        {
            linter.Say("worker-connections", connections, $"{wanted} connections need more descriptors than the "
                + $"{limit} "
                + "that a worker may have", $"worker_rlimit_nofile {wanted * 2};");
        }
    }

    public static void CheckHttp(Linter linter, LintScope http) => CheckAllow(linter, http);

    public static void Check(Linter linter, LintScope server)
    {
        CheckAllow(linter, server);
        foreach (ConfDirective names in server.All("server_name"))
        {
            foreach (ConfArg name in names.Args)
            {
                bool hasScheme = name.Text.Contains("://", StringComparison.Ordinal);
                if (name.Text.StartsWith('~') || !hasScheme && !name.Text.Contains(':'))
                {
                    continue;
                }
                int from = hasScheme ? name.Text.IndexOf("://", StringComparison.Ordinal) + 3 : 0;
                string bare = name.Text[from..].Split(':', '/')[0];
                linter.Say("server-name", name.Span, $"\"{name.Text}\" never matches: names are compared without "
                    + $"scheme "
                    + "and port", $"server_name {bare}; the port belongs to \"listen\"");
            }
        }
        foreach (ConfDirective listen in server.All("listen"))
        {
            if (listen.Args.Length > 0 && (listen[0] == "443" || listen[0].EndsWith(":443", StringComparison.Ordinal))
                && !listen.Args.Any(static a => a.Text is "ssl" or "quic"))
            {
                linter.Say("tls-missing", listen, "port 443 speaks plain HTTP here",
                    $"listen {string.Join(' ', listen.Args.Select(static a => a.Text))} ssl;");
            }
        }
        if (server.InForce("merge_slashes") is { Args.Length: 1 } merge && merge[0] == "off"
            && server.Inside.FirstOrDefault(static d => d.Name == "location" && d.Block is not null
                && d.Block.Exists(static i => i.Name is "deny" or "auth_basic" or "auth_request" or "internal"))
                is { } guarded)
        {
            linter.Say("merge-slashes", merge, $"\"/{guarded.Args[^1].Text}\" is not in the guarded location of line "
                + $"{guarded.Span.Line}, and may well be the same file or the same page of an application",
                "merge_slashes on;");
        }
    }

    /// <summary>allow alone shuts nobody out.</summary>
    public static void CheckAllow(Linter linter, LintScope scope)
    {
        LintGuards.CheckOrder(linter, scope);
        if (scope.Own("allow") is { Args.Length: 1 } allow && allow[0] != "all" && scope.Own("deny") is null
            && (scope.InForce("satisfy") is not { Args.Length: 1 } satisfy || satisfy[0] != "any"))
        {
            linter.Say("allow-without-deny", allow, "nobody is refused: \"allow\" without \"deny\" lets everybody in",
                "deny all; behind the last allow");
        }
    }

    public static void CheckTls(Linter linter, ConfDirective directive)
    {
        foreach (ConfArg arg in directive.Args)
        {
            if (directive.Name.EndsWith("protocols", StringComparison.Ordinal))
            {
                if (arg.Text is "SSLv2" or "SSLv3" or "TLSv1" or "TLSv1.1")
                {
                    linter.Say("tls-weak", arg.Span, $"{arg.Text} has been withdrawn (RFC 8996, RFC 7568)",
                        $"{directive.Name} TLSv1.2 TLSv1.3;");
                    return;
                }
                continue;
            }
            foreach (string cipher in arg.Text.Split(':', ',', ' ', '+'))
            {
                if (s_weakCiphers.Contains(cipher)
                    || cipher.Contains("RC4", StringComparison.Ordinal) && cipher[0] is not ('!' or '-'))
                {
                    linter.Say("tls-weak", arg.Span, $"\"{cipher}\" names ciphers that are broken",
                        $"leave \"{directive.Name}\" out: the default is sound");
                    return;
                }
            }
        }
    }

    public static void CheckRealIp(Linter linter, ConfDirective directive)
    {
        if (directive.Args.Length == 1 && directive[0] is "0.0.0.0/0" or "::/0")
        {
            linter.Say("real-ip-from-all", directive, "everybody may say who he is: limits, rules and logs believe the "
                + "header of any client", "name the addresses of your own proxies");
        }
    }

    public static void CheckLimitKey(Linter linter, ConfDirective directive)
    {
        if (directive.Args.Length > 0 && directive[0].StartsWith("$http_", StringComparison.Ordinal)
            || directive.Args.Length > 0 && directive[0] is "$proxy_add_x_forwarded_for")
        {
            linter.Say("limit-key", directive, $"the client chooses \"{directive[0]}\": another one with each request "
                + "passes every limit", "$binary_remote_addr, with set_real_ip_from where a proxy stands in front");
        }
    }
}
