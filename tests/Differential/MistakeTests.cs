// Every directive given every mistake that can be made mechanically: both refuse with the same words at the same line,
// or both accept. Weir names every mistake, nginx the first. A directive that the machine's nginx does not know yet is
// not asked.
using System.Collections.Concurrent;
using System.Text.RegularExpressions;
using Weir.Conf;
using Weir.Http;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Differential;

public sealed partial class MistakeTests
{
    private const string Named = "the directive is named";
    private const string Line = "nginx names the line after the block, where nothing is wrong";
    private const string NoNumber = "what is wrong is that it is no number";
    private const string Newer = "is newer than the machine's nginx";
    private const string Unused = "settings that no location uses are not checked";

    /// <summary>Directives that say something else for one of the mistakes, and why.</summary>
    private static readonly Dictionary<string, string> _known = new()
    {
        ["gzip_comp_level"] = Named, ["limit_conn_status"] = Named, ["limit_req_status"] = Named,
        ["worker_connections"] = Named, ["worker_processes"] = NoNumber,
        ["proxy_busy_buffers_size"] = Line, ["fastcgi_busy_buffers_size"] = Line,
        ["proxy_temp_file_write_size"] = Line, ["fastcgi_temp_file_write_size"] = Line,
        ["resolver"] = Newer, ["resolver_timeout"] = Newer, ["keepalive"] = Newer, ["proxy_cookie_flags"] = Newer,
        ["proxy_cache"] = Line, ["fastcgi_cache"] = Line, ["proxy_ssl_password_file"] = Unused,
        ["modern_browser"] = "nginx says nothing",
        ["thread_pool"] = "the wrong parameter is named",
        ["worker_cpu_affinity"] = "nginx reads the mask from its end",
        ["user"] = "names are looked up by the master, which is not asked here",
        ["pid"] = "is given to nginx here",
        ["load_module"] = "a binary for nginx cannot be loaded into another program",
        ["include"] = "nginx reads a folder",
    };

    [NeedsFact("nginx")]
    public void Every_mistake_is_refused_in_nginx_s_words()
    {
        if (Harness.Conf.Engine == "epoll")
        {
            // Nothing of it knows of engines.
            return;
        }
        Compare(Mistake.Of(CoreModules.Files, ["bad", "\"\"", "0"]), 1500, _known);
    }

    /// <summary>Above what a small range holds, above 16 bits, above 64 bits.</summary>
    private static readonly string[] s_edges = ["10", "65536", "9223372036854775808"];

    private const string NoPool = "memory comes from the worker's buffers, there is no pool to be larger than";
    private const string NoHash = "nothing is hashed into buckets";

    /// <summary>Directives that differ for one of the numbers, and why.</summary>
    private static readonly Dictionary<string, string> s_knownEdges = new()
    {
        ["connection_pool_size"] = NoPool, ["large_client_header_buffers"] = NoPool,
        ["types_hash_bucket_size"] = NoHash, ["variables_hash_bucket_size"] = NoHash,
        ["proxy_headers_hash_bucket_size"] = NoHash,
        ["worker_processes"] = "a thousand are the most",
        ["listen"] = "a number that is too large is a port, not a name",
        ["proxy_buffers"] = Line, ["proxy_buffer_size"] = Line, ["proxy_max_temp_file_size"] = Line,
        ["fastcgi_buffers"] = Line, ["fastcgi_buffer_size"] = Line, ["fastcgi_max_temp_file_size"] = Line,
        ["gzip_comp_level"] = Named, ["limit_conn_status"] = Named, ["limit_req_status"] = Named,
        ["worker_connections"] = Named,
        ["proxy_busy_buffers_size"] = Line, ["fastcgi_busy_buffers_size"] = Line,
        ["proxy_temp_file_write_size"] = Line, ["fastcgi_temp_file_write_size"] = Line,
        ["proxy_cache"] = Line, ["fastcgi_cache"] = Line,
        ["resolver"] = Newer, ["resolver_timeout"] = Newer, ["keepalive"] = Newer, ["proxy_cookie_flags"] = Newer,
        ["proxy_ssl_password_file"] = Unused,
        ["modern_browser"] = _known["modern_browser"], ["thread_pool"] = _known["thread_pool"],
        ["worker_cpu_affinity"] = _known["worker_cpu_affinity"], ["user"] = _known["user"], ["pid"] = _known["pid"],
        ["load_module"] = _known["load_module"],
    };

    /// <summary>A number at the edge of its range is taken or refused as nginx takes or refuses it.</summary>
    [NeedsFact("nginx")]
    public void Every_number_at_the_edge_of_its_range_is_taken_or_refused_as_by_nginx()
    {
        if (Harness.Conf.Engine == "epoll")
        {
            return;
        }
        Compare(Mistake.Of(CoreModules.Files, s_edges)
            .Where(static m => m.Kind.StartsWith("value", StringComparison.Ordinal)), 800, s_knownEdges);
    }

    private static void Compare(IEnumerable<Mistake> mistakes, int least, Dictionary<string, string> known)
    {
        using var place = new TempDir();
        using Port port = Port.Lease();
        int number = 0, compared = 0;
        var differences = new ConcurrentBag<(string Directive, string Text)>();
        Parallel.ForEach(mistakes,
            new ParallelOptions { MaxDegreeOfParallelism = 4 }, mistake =>
            {
                // A folder for each: what one makes (a log named 10) is not there for another to include.
                string folder = place.At($"{Interlocked.Increment(ref number)}");
                Directory.CreateDirectory(folder);
                string file = Path.Combine(folder, "nginx.conf");
                string text = mistake.Text.Replace("%PORT%", $"{port.Number}", StringComparison.Ordinal);
                File.WriteAllText(file, text);
                string theirs = Nginx(folder, file);
                if (theirs.Contains("unknown directive"))
                {
                    return;
                }
                Interlocked.Increment(ref compared);
                string[] ours = Weir(folder, file, text);
                if (!ours.Contains(theirs))
                {
                    differences.Add((mistake.Directive,
                        $"{mistake.Id}\n  nginx: {theirs}\n  weir:  {string.Join("\n         ", ours)}"));
                }
            });
        Assert.True(compared > least, $"{compared} compared");
        Assert.Equal("", string.Join('\n', differences.Where(d => !known.ContainsKey(d.Directive))
            .Select(static d => d.Text).Order()));
        Assert.Equal("", string.Join(' ', known.Keys.Except(differences.Select(static d => d.Directive))));
    }

    private static string Nginx(string folder, string file)
    {
        (int exit, _, string errors) = ChildProcess.Run(Tools.Require("nginx"), "-t", "-p", folder + "/", "-c",
            file, "-e", "stderr", "-g", $"pid {file}.pid;");
        return exit == 0 ? "accepted" : errors.Split('\n').Select(static l => MessagePattern().Match(l))
            .LastOrDefault(static m => m.Success)?.Groups[1].Value ?? errors;
    }

    private static string[] Weir(string folder, string file, string text)
    {
        ConfTree tree = ConfParser.Parse(new MemoryConfFiles().Add(file, text), file, null);
        var build = new HttpBuild(new CollectResources(folder + "/", folder + "/", []), tree.Errors);
        build.Run(tree);
        string[] refusals =
        [
            .. tree.Errors.All.Where(static e => e.Level == ConfLevel.Emerg).Select(static e =>
                e.Format()["[emerg] ".Length..]),
        ];
        return refusals.Length == 0 ? ["accepted"] : refusals;
    }

    [GeneratedRegex(@"\[emerg\] (?:\d+#\d+: )?(.*)$")]
    private static partial Regex MessagePattern();
}
