// `weir explain`: what it says of a request through a configuration that is a text. The phases are the server's own, so
// these tests are about what is told of them.
using Weir.Conf;
using Weir.Explain;
using Xunit;

namespace Weir.Tests.Unit.CommandLine;

public sealed class ExplainTests
{
    private const string Path = "/conf/nginx.conf";

    private const string Conf = """
        events {}
        http {
            upstream app { server 10.0.0.1:8080; server app2.internal:8080; }
            map $arg_a $mapped { default none; x yes; }
            limit_req_zone $binary_remote_addr zone=one:1m rate=10r/s;
            server {
                listen 8001 default_server;
                server_name other.org;
                return 404;
            }
            server {
                listen 8001;
                server_name example.org *.example.org;
                root /nonexistent;
                error_page 502 404 /oops.html;
                add_header X-A 1;
                rewrite ^/old/(.*)$ /new/$1?b=2 last;
                location /new/ {
                    set $x q$mapped;
                    if ($arg_b = 2) {
                        add_header X-If 1;
                        return 302 https://$host$uri;
                    }
                }
                location / { try_files $uri @app; }
                location @app {
                    limit_req zone=one burst=3;
                    proxy_set_header X-M $mapped;
                    proxy_pass http://app;
                    add_header X-Up yes always;
                }
                location ^~ /priv { internal; }
                location /adm { allow 192.0.2.0/24; deny all; }
                location ~ \.php$ { fastcgi_pass 127.0.0.1:9000; fastcgi_param SCRIPT_FILENAME /srv$uri; }
                location /secure { proxy_pass https://inside.example; }
                location /named { resolver 192.0.2.53; proxy_pass http://$arg_h:81; }
                location = /oops.html { return 200 oops; }
            }
        }
        """;

    private static ExplainReport Explain(string url, string conf = Conf, string method = "GET",
        string from = "127.0.0.1", int upstream = 200, string[]? variables = null, string[]? headers = null)
    {
        ExplainReport? report = Explainer.Explain(
            new ExplainOptions
            {
                Method = method,
                Url = url,
                ConfPath = Path,
                From = from,
                UpstreamStatus = upstream,
                Variables = variables ?? [],
                Headers = headers ?? [],
            },
            new MemoryConfFiles().Add(Path, conf), out string complaint);
        Assert.True(report is not null, complaint);
        return report;
    }

    private static string[] Told(ExplainReport report) =>
        [.. report.Steps.Select(static s => $"{s.Kind}|{s.Text}|{Line(s.Where)}|{s.Outcome}")];

    private static string? Line(string? where) => where?[(where.LastIndexOf(':') + 1)..];

    [Fact]
    public void Listen_server_rewrite_location_if_and_return_come_with_their_lines()
    {
        ExplainReport report = Explain("http://www.example.org:8001/old/z?a=x", variables: ["mapped", "nothing_here"]);
        Assert.Equal(
        [
            "listen|listen 8001|12|",
            "server|server_name example.org *.example.org|13|the longest wildcard at the start that fits",
            "rewrite|rewrite ^/old/(.*)$ /new/$1?b=2 last|17|\"/old/z?a=x\" becomes \"/new/z?b=2&a=x\"",
            "location|location /new/|18|the longest prefix; no regular expression matches for \"/new/z\"",
            "set|set $x q$mapped|19|\"qyes\"",
            "if|if ($arg_b = 2)|20|holds",
            "return|return 302 https://$host$uri|22|answers 302 to https://www.example.org/new/z",
        ], Told(report));
        Assert.Equal(302, report.Status);
        Assert.Contains(new ExplainField("X-If", "1", "add_header X-If 1", Path + ":21"), report.Fields);
        Assert.DoesNotContain(report.Fields, static f => f.Name == "X-A");
        Assert.Equal([("mapped", "yes"), ("nothing_here", null)], report.Variables);
    }

    [Fact]
    public void A_request_that_is_passed_on_shows_the_server_chosen_and_what_it_is_sent()
    {
        ExplainReport report = Explain("http://example.org:8001/shop");
        Assert.Contains("server|server_name example.org *.example.org|13|the name is exactly this", Told(report));
        Assert.Contains("file|/nonexistent/shop||is not there", Told(report));
        Assert.Contains("try_files|try_files $uri @app|25|goes to the last argument", Told(report));
        Assert.Contains("limit|limit_req zone=one burst=3|27|lets pass", Told(report));
        Assert.Contains("content|proxy_pass http://app|29|", Told(report));
        ExplainUpstream upstream = Assert.Single(report.Upstreams);
        Assert.Equal(("10.0.0.1:8080", "app", Path + ":3", "GET /shop HTTP/1.1"),
            (upstream.Address, upstream.Group, upstream.Where, upstream.Line));
        Assert.Contains("X-M: none", upstream.Fields);
        Assert.Contains(new ExplainField("X-Up", "yes", "add_header X-Up yes always", Path + ":30"), report.Fields);
    }

    [Fact]
    public void A_status_that_upstreams_are_taken_to_answer_leads_to_the_error_page_for_it()
    {
        ExplainReport report = Explain("http://example.org:8001/secure", upstream: 502,
            conf: Conf.Replace("location /secure {", "location /secure { proxy_intercept_errors on;"));
        Assert.Contains("error_page|error_page 502 404 /oops.html|15|502 goes to \"/oops.html\"", Told(report));
        Assert.Contains("again|/oops.html||an internal redirect: from the server's phases on", Told(report));
        Assert.Contains("location|location = /oops.html|37|exact match for \"/oops.html\"", Told(report));
        Assert.Equal(502, report.Status);
    }

    [Fact]
    public void The_access_rule_that_decides_is_named()
    {
        Assert.Contains("access|deny all|33|refuses with 403", Told(Explain("http://example.org:8001/adm")));
        ExplainReport allowed = Explain("http://example.org:8001/adm", from: "192.0.2.7");
        Assert.Contains("access|allow 192.0.2.0/24|33|allows", Told(allowed));
    }

    [Fact]
    public void An_add_header_that_is_not_added_says_why()
    {
        ExplainReport report = Explain("http://example.org:8001/adm");
        ExplainStep missing = Assert.Single(report.Missing);
        Assert.Equal(("add_header X-A 1", "not added: the status is 403 and \"always\" is not given"),
            (missing.Text, missing.Outcome));
    }

    [Fact]
    public void An_internal_location_answers_404_and_says_so()
    {
        ExplainReport report = Explain("http://example.org:8001/priv/x", conf: Conf.Replace("502 404", "502"));
        Assert.Contains("internal|location ^~ /priv|32|is for internal redirects only: answers 404", Told(report));
    }

    [Fact]
    public void FastCgi_parameters_are_shown()
    {
        ExplainReport report = Explain("http://example.org:8001/a.php");
        Assert.Contains("location|location ~ \\.php$|34|the first regular expression that matches, in order of "
            + "appearance for \"/a.php\"", Told(report));
        Assert.Contains("SCRIPT_FILENAME: /srv/a.php", Assert.Single(report.Upstreams).Fields);
    }

    [Fact]
    public void A_name_of_an_upstream_is_not_looked_up_but_told()
    {
        ExplainReport report = Explain("http://example.org:8001/named?h=somewhere.example");
        Assert.Equal("somewhere.example:81 (the name was not looked up)", Assert.Single(report.Upstreams).Address);
        Assert.Equal(200, Explain("http://example.org:8001/secure").Status);
    }

    [Fact]
    public void An_unknown_name_goes_to_the_default_server()
    {
        ExplainReport report = Explain("http://nobody:8001/");
        Assert.Contains("server|server|6|no name fits \"nobody\": the default server of the address", Told(report));
        Assert.Contains("return|return 404|9|answers 404", Told(report));
        Assert.Equal(404, report.Status);
    }

    [Fact]
    public void The_host_header_given_chooses_the_server()
    {
        ExplainReport report = Explain("/adm", headers: ["Host: example.org"]);
        Assert.Equal("example.org", report.Host);
        Assert.Contains("location|location /adm|33|the longest prefix; no regular expression matches for \"/adm\"",
            Told(report));
    }

    [Fact]
    public void A_cycle_ends_as_in_the_server_and_its_log_line_is_shown()
    {
        ExplainReport report = Explain("http://a:80/", conf:
            "events {} http { server { listen 80; location / { rewrite ^ / last; } } }");
        Assert.Equal(500, report.Status);
        Assert.Contains(report.Log, static l => l.StartsWith("[error] rewrite or internal redirection cycle"));
        Assert.Equal(11, report.Steps.Count(static s => s.Kind == "rewrite"));
    }

    [Theory]
    [InlineData("http://a:81/", "", "nobody listens for http on port 81; the configuration listens on 0.0.0.0:80")]
    [InlineData("http://a/", "nope", "\"nope\" is no address: ")]
    public void What_cannot_be_explained_is_said(string url, string from, string complaint)
    {
        ExplainReport? report = Explainer.Explain(
            new ExplainOptions { Method = "GET", Url = url, ConfPath = Path, From = from.Length > 0 ? from : "::1" },
            new MemoryConfFiles().Add(Path, "events {} http { server { listen 80; } }"), out string said);
        Assert.Null(report);
        Assert.StartsWith(complaint, said);
    }

    [Fact]
    public void A_faulty_configuration_is_complained_of_in_the_words_of_the_test()
    {
        Assert.Null(Explainer.Explain(new ExplainOptions { Method = "GET", Url = "/", ConfPath = Path },
            new MemoryConfFiles().Add(Path, "events {} http { server { listne 80; } }"), out string said));
        Assert.StartsWith("[emerg] unknown directive \"listne\" in /conf/nginx.conf:1", said);
    }

    [Fact]
    public void The_text_and_the_json_say_the_same()
    {
        ExplainReport report = Explain("http://example.org:8001/shop", variables: ["mapped"]);
        string text = ExplainText.ForPeople(report);
        Assert.Contains("location    location @app    /conf/nginx.conf:26\n            -> named\n", text);
        Assert.Contains("$mapped = \"none\"\n", text);
        using var json = System.Text.Json.JsonDocument.Parse(ExplainText.ForPrograms(report));
        Assert.Equal(200, json.RootElement.GetProperty("status").GetInt32());
        Assert.Equal("10.0.0.1:8080", json.RootElement.GetProperty("upstreams")[0].GetProperty("address").GetString());
        Assert.Equal("none", json.RootElement.GetProperty("variables").GetProperty("mapped").GetString());
    }

    [Theory]
    [InlineData("explain", "\"weir explain\" needs a URL, with or without a method before it")]
    [InlineData("explain x", "\"x\" is neither a URL nor a path")]
    [InlineData("explain / -H nocolon", "\"nocolon\" is no header line")]
    [InlineData("explain / --upstream-status 99", "invalid status \"99\" of \"--upstream-status\"")]
    public void A_command_line_without_sense_is_refused(string line, string complaint) =>
        Assert.StartsWith(complaint, Weir.CommandLine.Parse(line.Split(' ')).Message);

    [Fact]
    public void The_command_line_is_understood()
    {
        ExplainOptions options = Weir.CommandLine.Parse(["explain", "-c", "/x/n.conf", "post", "https://a/b?c=d", "-H",
            "A: 1", "-H", "B: 2", "-V", "$uri", "--from", "192.0.2.1", "-d", "x", "--upstream-status", "404",
            "--json"]).Explain!;
        Assert.Equal(("POST", "https://a/b?c=d", "/x/n.conf", "192.0.2.1", "x", 404, true),
            (options.Method, options.Url, options.ConfPath, options.From, options.Body, options.UpstreamStatus,
                options.Json));
        Assert.Equal(["A: 1", "B: 2"], options.Headers);
        Assert.Equal(["uri"], options.Variables);
    }
}
