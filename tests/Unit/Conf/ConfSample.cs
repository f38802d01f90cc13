// A registry that knows all of nginx's directives, a few of them typed as in nginx, and short ways to parse and walk.
// For the tests of this folder only.
using System.Text;
using Weir.Conf;

namespace Weir.Tests.Unit.Conf;

internal static class ConfSample
{
    private static readonly string[] s_sizes = ["client_body_buffer_size", "client_header_buffer_size"];
    private static readonly string[] s_offsets = ["client_max_body_size"];
    private static readonly string[] s_times = ["client_body_timeout", "send_timeout", "resolver_timeout"];
    private static readonly string[] s_numbers = ["worker_rlimit_nofile", "types_hash_max_size"];
    private static readonly string[] s_bufs = ["proxy_buffers", "gzip_buffers", "output_buffers"];
    private static readonly string[] s_templates = ["return", "add_header", "set"];
    private static readonly ConfChoice<int>[] s_satisfy = [new("all", 0), new("any", 1)];

    private static readonly ConfChoice<int>[] s_nextUpstream =
        [new("error", 1), new("timeout", 2), new("http_502", 4), new("off", 8)];

    /// <summary>Everything nginx has, except what a build may lack in a test: mail.</summary>
    public static DirectiveRegistry Registry()
    {
        DirectiveRegistry registry = new();
        HashSet<string> added = [];
        for (int i = 0; i < NginxDirectives.Count; i++)
        {
            string name = NginxDirectives.Row(i).Name;
            ConfContext contexts = NginxDirectives.ContextsOf(name) & ~ConfContext.MailAny;
            if (name is not ("include" or "mail") && contexts != ConfContext.None && added.Add(name))
            {
                registry.AddNginx(name, contexts, Apply);
            }
        }
        return registry;
    }

    /// <summary>The set of names seen on one level, as a scope.</summary>
    private sealed class Names : HashSet<string>;

    public static ConfTree Walk(string text) => Walk(new MemoryConfFiles().Add("/c/nginx.conf", text));

    public static ConfTree Walk(IConfFiles files, string? globals = null, string path = "/c/nginx.conf")
    {
        ConfTree tree = ConfParser.Parse(files, path, globals);
        new ConfWalker(Registry(), tree.Errors).Walk(tree, new Names());
        return tree;
    }

    public static ConfTree Parse(string text) =>
        ConfParser.Parse(new MemoryConfFiles().Add("/c/nginx.conf", Encoding.Latin1.GetBytes(text)), "/c/nginx.conf");

    public static string[] Messages(ConfTree tree) => [.. tree.Errors.All.Select(static e => e.Format())];

    private static void Apply(ConfWalker walker, ConfDirective directive)
    {
        string name = directive.Name;
        bool once = directive.Block is null
            && NginxDirectives.TryFind(name, walker.Context, out NginxDirective row)
            && row.Arity is ConfArity.Flag or ConfArity.One && name is not ("allow" or "deny" or "set_real_ip_from");
        if (once && !walker.Need<Names>().Add(name))
        {
            walker.Duplicate(directive);
            return;
        }
        if (directive.Block is not null)
        {
            if (NginxDirectives.Opens(name, walker.Context) != ConfContext.None)
            {
                walker.WalkBlock(directive, new Names());
            }
            return;
        }
        ApplyValue(walker, directive);
    }

    private static void ApplyValue(ConfWalker walker, ConfDirective directive)
    {
        string name = directive.Name;
        if (NginxDirectives.TryFind(name, walker.Context, out NginxDirective row) && row.Arity == ConfArity.Flag)
        {
            walker.TryFlag(directive, out _);
        }
        else if (s_sizes.Contains(name))
        {
            walker.TrySize(directive, out _);
        }
        else if (s_offsets.Contains(name))
        {
            walker.TryOffset(directive, out _);
        }
        else if (s_times.Contains(name))
        {
            walker.TryMsec(directive, out _);
        }
        else if (s_numbers.Contains(name))
        {
            walker.TryNumber(directive, out _);
        }
        else if (s_bufs.Contains(name))
        {
            walker.TryBufs(directive, out _);
        }
        else if (name == "satisfy")
        {
            walker.TryEnum(directive, s_satisfy, out _);
        }
        else if (name == "proxy_next_upstream")
        {
            walker.TryBitmask(directive, s_nextUpstream, out _);
        }
        else if (s_templates.Contains(name)
            && !ConfTemplateScanner.TryScan(directive.Args[^1].Text, [], out string? error))
        {
            walker.Error(directive.Args[^1], error!);
        }
    }
}
