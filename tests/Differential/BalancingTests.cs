// Which server is asked, beside nginx with the same servers: both get the same requests one after the other, and choose
// the same servers in the same order.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Differential;

public sealed class BalancingTests
{
    private const string Fails = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

    /// <summary>Servers that answer with their letter; a request for /fail/LETTER is refused by that server.</summary>
    private static Upstream[] Servers(int count) => [.. Enumerable.Range(0, count).Select(static i =>
    {
        string name = ((char)('A' + i)).ToString();
        return Upstream.Answering(r => r.Target.Contains("fail/" + name, StringComparison.Ordinal) ? Fails
            : Upstream.Ok(name));
    })];

    private static string Sequence(ServerProcess server, IEnumerable<string> paths, Func<string, string[]> headers)
    {
        using RawClient client = server.Connect();
        return string.Concat(paths.Select(p => client.Get(p, headers(p)) is { Status: 200 } answer ? answer.Text
            : "-"));
    }

    private static void Compare(string group, string[] parameters, IEnumerable<string> paths,
        Func<string, string[]>? headers = null)
    {
        Upstream[] servers = Servers(parameters.Length);
        string lines = string.Concat(servers.Select((s, i) => string.Create(CultureInfo.InvariantCulture,
            $"server 127.0.0.1:{s.Port} {parameters[i]};\n")));
        var conf = Harness.Conf.Server("""
            set_real_ip_from 127.0.0.1; real_ip_header X-From;
            location / { proxy_pass http://g; proxy_http_version 1.1; proxy_set_header Connection "";
                proxy_next_upstream error timeout http_503; }
            """, $"upstream g {{ {group}\n{lines} }}");
        using ServerProcess ours = ServerProcess.Weir(conf);
        using ServerProcess theirs = ServerProcess.Nginx(conf);
        headers ??= static _ => [];
        List<string> all = [.. paths];
        string expected = Sequence(theirs, all, headers);
        Assert.Equal(expected, Sequence(ours, all, headers));
        Assert.True(expected.Distinct().Count() > 1, "one server answered everything: " + expected);
        foreach (Upstream server in servers)
        {
            server.Dispose();
        }
    }

    private static IEnumerable<string> Keys(int count) =>
        Enumerable.Range(0, count).Select(static i => string.Create(CultureInfo.InvariantCulture, $"/key{i * 7919}"));

    [NeedsTheory("nginx")]
    [InlineData("", "weight=5|weight=3|weight=1")]
    [InlineData("zone z 64k;", "weight=5|weight=3|weight=1")]
    [InlineData("least_conn;", "weight=5|weight=3|weight=1")]
    [InlineData("least_conn;", "||down|weight=2")]
    [InlineData("", "|weight=7|||||weight=2||||||weight=3|||")]
    public void Weights_take_turns_as_in_nginx(string method, string parameters) =>
        Compare(method, parameters.Split('|'), Keys(60));

    [NeedsTheory("nginx")]
    [InlineData("hash $uri;", "weight=5|weight=3|weight=1")]
    [InlineData("hash $uri;", "||down||")]
    [InlineData("hash $uri consistent;", "weight=5|weight=3|weight=1")]
    [InlineData("hash $uri consistent;", "||||down||")]
    [InlineData("zone z 128k; hash $uri consistent;", "|weight=2|")]
    [InlineData("hash $arg_nothing;", "weight=2||")]
    public void A_key_leads_to_the_server_that_nginx_chooses(string method, string parameters) =>
        Compare(method, parameters.Split('|'), Keys(150));

    [NeedsTheory("nginx")]
    [InlineData("||weight=3|")]
    [InlineData("|down|weight=3|")]
    public void An_address_leads_to_the_server_that_nginx_chooses(string parameters) =>
        Compare("ip_hash;", parameters.Split('|'), Keys(120), static path =>
        {
            int n = path.Sum(static c => c) * 31;
            return [n % 3 == 0 ? $"X-From: 2001:db8::{n % 9999:x}"
                : string.Create(CultureInfo.InvariantCulture, $"X-From: {n % 223}.{n % 251}.{n % 241}.{n % 7}")];
        });

    [NeedsTheory("nginx")]
    [InlineData("")]
    [InlineData("least_conn;")]
    [InlineData("hash $arg_k;")]
    [InlineData("hash $arg_k consistent;")]
    [InlineData("ip_hash;")]
    public void Failures_change_the_order_as_in_nginx(string method) =>
        Compare(method, ["weight=4 max_fails=3 fail_timeout=1h", "weight=2 fail_timeout=1h", "max_fails=0", ""],
            Enumerable.Range(0, 80).Select(static i => i switch
            {
                5 or 9 or 11 => "/fail/A?k=a",
                20 => "/fail/B?k=b",
                30 or 40 => "/fail/C?k=c",
                _ => string.Create(CultureInfo.InvariantCulture, $"/ok?k={i * 31}"),
            }));
}
