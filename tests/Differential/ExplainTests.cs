// What `weir explain` says of a request against what nginx does with it: the location, the status, the place of a
// redirect, the upstream server. Each location of a script is given a number that nginx writes into a log; explain is
// asked about the same file. Requests of a script go one after the other to one nginx.
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Weir.Conf;
using Weir.Explain;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;
using Xunit;

namespace Weir.Tests.Differential;

public sealed partial class ExplainTests
{
    /// <summary>Scripts whose point is which block answers.</summary>
    private static readonly Case[] _scripts =
    [
        .. LocationCases.All, .. UriCases.All.Where(static c => c.Name != "targets with slashes that count"),
        .. RoutingCases.All.Where(static c => c.Origin is null), .. RewriteMoreCases.All.Where(static c =>
            c.Area == "rewrite"), .. RewriteCases.All, .. AccessCases.All.Where(static c => c.Origin is null),
        .. ProxyFormCases.All,
    ];

    /// <summary>Scripts whose answers depend on what was before, or on the clock.</summary>
    private static readonly string[] _apart = ["routing: stub_status counts"];

    public static TheoryData<string> Ids =>
        [.. _scripts.Select(static c => c.Id).Where(static id => !_apart.Contains(id))];

    [GeneratedRegex(@"(?<=^|[;{}\s])(location\s[^{]*?|server\s*)\{(?=\s)")]
    private static partial Regex BlockPattern();

    /// <summary>What one request came to.</summary>
    private sealed record Truth(string[] Lines, string Body, HttpResponse Answer, string At, string Status,
        string Upstream, string UpstreamStatus);

    [NeedsTheory("nginx"), MemberData(nameof(Ids))]
    public void Explain_names_the_block_and_the_answer_that_nginx_chooses(string id)
    {
        Case one = _scripts.Single(c => c.Id == id);
        using var files = new TempDir();
        foreach ((string name, string content) in one.Files)
        {
            files.Write(name, content);
        }
        files.SetFolderTimes();
        using Upstream? upstream = one.Origin is { } origin ? Upstream.Playing(origin) : null;
        var conf = Harness.Conf.Full(Numbered(one.Configuration.Text, out List<string> heads));
        using ServerProcess server = ServerProcess.Nginx(conf, files, upstream?.Port ?? 0);
        List<Truth> truths = Ask(server, one);
        foreach (Truth truth in truths)
        {
            ExplainReport report = Explain(server, truth);
            string which = $"{id}: {truth.Lines[0]}\n{ExplainText.ForPeople(report)}";
            Assert.True(truth.Status == report.Status.ToString(CultureInfo.InvariantCulture),
                $"the status is {truth.Status}\n{which}");
            (string _, string? at) = Assert.Single(report.Variables);
            Assert.True((at ?? "") == truth.At, $"the block is {truth.At}\n{which}");
            if (int.TryParse(truth.At, out int number)
                && heads[number].StartsWith("location", StringComparison.Ordinal))
            {
                ExplainStep step = report.Steps.Last(static s => s.Kind == "location");
                Assert.Equal(Bare(heads[number]), Bare(step.Text));
                Assert.Contains("explain.conf:", step.Where);
            }
            Assert.Equal(truth.Answer["Location"],
                report.Fields.Find(static f => f.Name == "Location")?.Value);
            Assert.True(truth.Upstream.Length == 0 == (report.Upstreams.Count == 0),
                $"upstream {truth.Upstream}\n{which}");
            if (truth.Upstream.Length > 0)
            {
                Assert.Equal(truth.Upstream, report.Upstreams[^1].Address);
            }
        }
    }

    [Fact]
    public void Enough_requests_are_explained() =>
        Assert.True(_scripts.Sum(static c => c.Talks.Sum(static t => Requests(t).Count())) >= 400, "four hundred");

    private static string Bare(string text) => string.Concat(text.Where(static c => c is not ('"' or '\'' or ' ' or '\\'
        or '\n')));

    private static string Numbered(string text, out List<string> heads)
    {
        var found = new List<string>();
        string numbered = BlockPattern().Replace(text, m =>
        {
            found.Add(m.Groups[1].Value.Trim());
            return m.Value + $" set $weir_at \"{found.Count - 1}\";";
        });
        heads = found;
        int http = numbered.IndexOf("access_log off;", StringComparison.Ordinal);
        return numbered[..http] + "log_format truth '$remote_port|$connection_requests|$weir_at|$status|$upstream_addr|"
            + "$upstream_status'; access_log %DIR%/truth.log truth;" + numbered[(http + "access_log off;".Length)..];
    }

    /// <summary>The requests of a connection that explain can be asked about: whole, plain, of HTTP/1.1.</summary>
    private static IEnumerable<(string[] Lines, string Body)> Requests(Talk talk)
    {
        if (talk.Pieces.Length != 1 || Array.Exists(talk.Pieces[0], static b => b is > 126 or 9))
        {
            yield break;
        }
        string text = Encoding.Latin1.GetString(talk.Pieces[0]);
        while (text.IndexOf("\r\n\r\n", StringComparison.Ordinal) is var end and > 0)
        {
            string[] lines = text[..end].Split("\r\n");
            text = text[(end + 4)..];
            int length = lines.Skip(1).Where(static l => l.StartsWith("Content-Length: ", StringComparison.Ordinal))
                .Select(static l => int.TryParse(l["Content-Length: ".Length..], out int n) ? n : -1)
                .FirstOrDefault();
            string[] words = lines[0].Split(' ');
            if (length < 0 || length > text.Length || words.Length != 3 || words[2] != "HTTP/1.1"
                || !words[1].StartsWith('/') || words[1].Contains('#') || !lines.Any(static l =>
                    l.StartsWith("Host: ", StringComparison.Ordinal))
                || lines.Any(static l => l.StartsWith("Transfer-Encoding", StringComparison.OrdinalIgnoreCase)
                    || l.StartsWith("Expect", StringComparison.OrdinalIgnoreCase)))
            {
                yield break;
            }
            yield return (lines, text[..length]);
            text = text[length..];
        }
    }

    private static List<Truth> Ask(ServerProcess server, Case one)
    {
        var asked = new List<(string[] Lines, string Body, HttpResponse Answer, string Key)>();
        foreach ((string[] lines, string body) in one.Talks.SelectMany(Requests))
        {
            using RawClient client = server.Connect();
            int port = ((System.Net.IPEndPoint)client.Socket.LocalEndPoint!).Port;
            string[] sent = [.. lines.Where(static l =>
                !l.StartsWith("Connection:", StringComparison.OrdinalIgnoreCase))];
            client.Send(string.Join("\r\n", [.. sent, "Connection: close"]) + "\r\n\r\n" + body);
            HttpResponse answer;
            try
            {
                answer = client.ReadResponse(answersHead: lines[0].StartsWith("HEAD", StringComparison.Ordinal));
            }
            catch (EndOfStreamException)
            {
                // Closed without an answer, which is said in the log as well.
                continue;
            }
            asked.Add((sent, body, answer, port.ToString(CultureInfo.InvariantCulture) + "|1|"));
        }
        server.Stop();
        string[] log = server.Dir.Read("truth.log").Split('\n');
        var truths = new List<Truth>();
        foreach ((string[] lines, string body, HttpResponse answer, string key) in asked)
        {
            if (Array.FindLast(log, l => l.StartsWith(key, StringComparison.Ordinal)) is { } line)
            {
                string[] fields = line.Split('|');
                truths.Add(new Truth(lines, body, answer, fields[2], fields[3], fields[4].Trim('-'), fields[5]));
            }
        }
        return truths;
    }

    private static ExplainReport Explain(ServerProcess server, Truth truth)
    {
        string[] words = truth.Lines[0].Split(' ');
        // What the machine's nginx has to be told of and Weir does not have.
        string text = string.Join('\n', server.ConfText.Split('\n').Select(static l => string.Join(';', l.Split(';')
            .Where(static d => d.Trim() is not ['u', 'w', 's', 'g', 'i', '_', ..]
                and not ['s', 'c', 'g', 'i', '_', ..]))));
        string path = server.Dir.Write("explain.conf", Encoding.UTF8.GetBytes(text));
        ExplainReport? report = Explainer.Explain(
            new ExplainOptions
            {
                Method = words[0],
                Url = words[1],
                ConfPath = path,
                Prefix = server.Dir.Path + "/",
                Headers = [.. truth.Lines.Skip(1).Where(static l =>
                    !l.StartsWith("Content-Length", StringComparison.OrdinalIgnoreCase)), "Connection: close"],
                Body = truth.Body,
                Variables = ["weir_at"],
                UpstreamStatus = int.TryParse(truth.UpstreamStatus.Split(' ', ',')[0], out int status) ? status : 200,
            },
            new DiskConfFiles(), out string complaint);
        Assert.True(report is not null, complaint);
        return report;
    }
}
