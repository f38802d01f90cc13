// The table of variables (Harness/Rows) against both servers: each row's request makes each say what the row says, and
// the same where the row leaves something open. Every variable of nginx's table that Weir has stands in a row.
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Weir.Conf;
using Weir.Http;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Rows;
using Xunit;

namespace Weir.Tests.Differential;

public sealed partial class VariableTableTests
{
    /// <summary>Variables of modules that are not here, and one that nginx compiles nowhere.</summary>
    private static readonly string[] _absent = ["geoip_", "date_local", "date_gmt", "http3", "proxy_add_via"];

    private static readonly VariableRow[] _rows = VariableRows.All;

    [NeedsFact("nginx")]
    public void A_variable_says_what_its_row_says_and_what_nginx_says()
    {
        using var files = new TempDir();
        var authority = new TestAuthority();
        authority.Write(files, "rsa", TestKey.Rsa);
        TestCertificate client = authority.Issue(TestKey.Rsa, false, "client.test");
        files.Write("ca.crt", authority.Pem);
        files.Write("place/f.txt", "four");
        files.Write("index.html", "index");
        files.Write("words.txt", string.Concat(Enumerable.Range(0, 900).Select(static i => $"{i * 7919 % 1009} ")));
        File.CreateSymbolicLink(files.At("link"), files.At("place"));
        files.SetFolderTimes();

        using var theirs = new Side(Tools.Require("nginx"), files, client, authority);
        using var ours = new Side(ServerProcess.WeirBinary, files, client, authority);
        (string? Fault, Match Match)[] us = [], they = [];
        Parallel.Invoke(() => us = [.. _rows.Select((_, i) => (ours.Ask(i, out Match match), match))],
            () => they = [.. _rows.Select((row, i) =>
                row.IsNewer ? default : (theirs.Ask(i, out Match match), match))]);
        var wrong = new List<string>();
        for (int i = 0; i < _rows.Length; i++)
        {
            string? fault = us[i].Fault ?? they[i].Fault;
            for (int g = 1; fault is null && !_rows[i].IsNewer && g < us[i].Match.Groups.Count; g++)
            {
                (string our, string their) = (us[i].Match.Groups[g].Value, they[i].Match.Groups[g].Value);
                fault = our == their ? null : $"Weir says {our}, nginx {their}";
            }
            if (fault is not null)
            {
                wrong.Add($"{_rows[i].Show}\n   {fault}");
            }
        }
        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    [Fact]
    public void Every_variable_of_nginx_s_table_has_a_row()
    {
        string[] shown =
        [
            .. _rows.SelectMany(static r => NamePattern().Matches(r.Show)).Select(static m => m.Groups[1].Value),
        ];
        var build = new HttpBuild(new CollectResources("/", "/", []), new ConfErrors());
        string tests = Path.GetDirectoryName(Path.GetDirectoryName(Here()))!;
        string[] all =
        [
            .. File.ReadLines(Path.Combine(Path.GetDirectoryName(tests)!, "data/nginx-variables.md"))
                .TakeWhile(static l => l != "## stream").Where(static l => l.StartsWith("| http/"))
                .SelectMany(static l => TablePattern().Matches(l)).Select(static m => m.Groups[1].Value).Distinct(),
        ];
        Assert.True(all.Length > 150, $"{all.Length}");
        foreach (string name in all.Where(static n => !_absent.Any(n.StartsWith)))
        {
            bool isFamily = name.EndsWith('*');
            Assert.True(isFamily ? shown.Any(s => s.StartsWith(name[..^1]) && !all.Contains(s)) : shown.Contains(name),
                $"${name} has no row");
        }
        Assert.All(_absent, name => Assert.False(build.Configuration.Variables.IsDeclared(name), $"${name} is here"));
    }

    /// <summary>A server with every row, its upstream, and what its own marks stand for.</summary>
    private sealed class Side : IDisposable
    {
        private readonly Upstream _upstream;
        private readonly ServerProcess _server;
        private readonly TestCertificate _client;
        private readonly Dictionary<string, string> _marks;

        public Side(string binary, TempDir files, TestCertificate client, TestAuthority authority)
        {
            bool isNginx = Path.GetFileName(binary) == "nginx";
            _client = client;
            _upstream = Upstream.Answering(static request =>
                request.Head.Contains("/trailers") ? VariableRows.Trailing : VariableRows.Answer);
            var text = new StringBuilder("""
                types { } default_type text/plain; variables_hash_max_size 4096; variables_hash_bucket_size 128;
                server_names_hash_bucket_size 128; server { listen 127.0.0.1:%PORT%; return 204; }

                """);
            for (int i = 0; i < _rows.Length; i++)
            {
                VariableRow row = _rows[i];
                if (row.IsNewer && isNginx)
                {
                    continue;
                }
                string show = $"<<{row.Show}>>";
                text.Append($"{row.Http}\nlog_format f{i} escape=none '{show}';\n")
                    .Append($"server {{ listen {Host(i)}:%PORT% {row.Listen}; server_name row.test; ")
                    .Append(row.AtLog ? $"access_log %DIR%/r{i}.log f{i}; " : "")
                    .Append(row.Server.Replace("%SHOW%", show).Replace("%HOST%", Host(i))).Append(" }\n");
            }
            _server = ServerProcess.Start(binary, Harness.Conf.Http(text.ToString()), files, _upstream.Port);
            string tabbed = client.Pem.TrimEnd().Replace("\n", "\n\t");
            _marks = new Dictionary<string, string>
            {
                ["%PORT%"] = Text(_server.Port), ["%UPSTREAM%"] = Text(_upstream.Port), ["%FILES%"] = files.Path,
                ["%DIR%"] = _server.Dir.Path, ["%PID%"] = Text(_server.Process.Pid),
                ["%NAME%"] = Environment.MachineName, ["%VERSION%"] = isNginx ? "1.22.1" : "1.31.5",
                ["%SUBJECT%"] = client.Certificate.Subject, ["%ISSUER%"] = authority.Certificate.Subject,
                ["%LEGACY-SUBJECT%"] = "/" + client.Certificate.Subject,
                ["%LEGACY-ISSUER%"] = "/" + authority.Certificate.Subject,
                ["%SERIAL%"] = client.Certificate.SerialNumber,
                ["%FINGERPRINT%"] = client.Certificate.GetCertHashString(HashAlgorithmName.SHA1).ToLowerInvariant(),
                ["%PEM%"] = client.Pem, ["%TABBED%"] = tabbed,
                ["%ESCAPED%"] = Escaped(client.Pem),
            };
        }

        /// <summary>Null when the row holds.</summary>
        public string? Ask(int index, out Match match)
        {
            VariableRow row = _rows[index];
            for (int attempt = 0; ; attempt++)
            {
                string told;
                int peer = 0;
                try
                {
                    told = Tell(index, out peer);
                }
                catch (Exception e) when (e is IOException or TimeoutException
                    or System.Security.Authentication.AuthenticationException)
                {
                    told = e.Message;
                }
                if (row.AtLog)
                {
                    string log = _server.Dir.At($"r{index}.log");
                    int requests = Regex.Count(row.Send, " HTTP/1");
                    Wait.Until(() => File.Exists(log) && Regex.Count(Read(log), ">>") >= Math.Min(requests, 2),
                        30_000);
                    told = Read(log);
                }
                string shown = ShownPattern().Matches(told).LastOrDefault()?.Groups[1].Value
                    ?? "nothing: " + told[..Math.Min(told.Length, 300)];
                string says = Pattern(row.Says.Replace("%HOST%", Host(index)).Replace("%PEER%", Text(peer)));
                match = Regex.Match(shown, $"^{says}$", RegexOptions.Singleline);
                if (match.Success)
                {
                    return null;
                }
                if (!row.Settles || attempt == 600)
                {
                    return $"{Path.GetFileName(_server.Binary)} says {shown}\n   and not {says}";
                }
                _server.Process.WaitForExit(50);
            }
        }

        private string Tell(int index, out int peer)
        {
            VariableRow row = _rows[index];
            IPAddress address = IPAddress.Parse(Host(index));
            peer = 0;
            switch (row.Travel)
            {
                case Travel.Http2:
                {
                    using Http2Client client = Http2Client.ConnectRaw(_server.Port, address).SendPreface();
                    return client.ReadAnswer(client.Begin("/", "GET", true)).Text;
                }
                case Travel.Tls:
                {
                    using TlsClient client = TlsClient.Connect(_server.Port, "name.test", certificate: _client,
                        alpn: ["http/1.1"], address: address);
                    return client.Get("/").Text;
                }
                default:
                {
                    using RawClient client = RawClient.Connect(new IPEndPoint(address, _server.Port));
                    peer = ((IPEndPoint)client.Socket.LocalEndPoint!).Port;
                    string send = row.Send.Replace("%SECURE%", Hash("k4102444800")).Replace("%SECRET%",
                        Convert.ToHexStringLower(MD5.HashData("/les"u8)));
                    // The second piece comes when the first has been read.
                    int cut = row.Listen == "" ? send.IndexOf(Row.Wait, StringComparison.Ordinal) : -1;
                    client.Send(cut < 0 ? send : send[..cut]);
                    if (cut >= 0)
                    {
                        client.WaitForBytes(250);
                        client.Send(send[(cut + 1)..]);
                    }
                    return send.Contains("Connection: close") || send.Contains("HTTP/1.0")
                        ? Encoding.Latin1.GetString(client.ReadToEnd())
                        : Encoding.Latin1.GetString(client.ReadResponse().Raw);
                }
            }
        }

        public void Dispose()
        {
            _server.Dispose();
            _upstream.Dispose();
        }

        private string Pattern(string says)
        {
            foreach ((string mark, string value) in _marks)
            {
                says = says.Replace(mark, value);
            }
            says = says.StartsWith("[0-9") || says.StartsWith("[a-z") ? says : Regex.Escape(says);
            return says.Replace("<n>", "[0-9]+").Replace("<t>", @"[0-9]+\.[0-9]{3}").Replace("<h>", "[0-9a-fA-F]{32}")
                .Replace("<file>", "[0-9a-f]+")
                .Replace("<iso>", @"20[0-9-]{8}T[0-9:]{8}[+-][0-9:]{5}").Replace("<same>", "(.*?)")
                .Replace("<local>", @"[0-9]{2}/[A-Z][a-z]{2}/20[0-9:]{11}\ [+-][0-9]{4}");
        }

        private static string Host(int index) => $"127.5.{index}.1";

        private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

        private static string Read(string file) => Encoding.Latin1.GetString(File.ReadAllBytes(file));

        private static string Hash(string text) => Convert.ToBase64String(MD5.HashData(Encoding.Latin1.GetBytes(text)))
            .Replace('+', '-').Replace('/', '_').TrimEnd('=');

        /// <summary>As a component of a URI: letters, digits and "-._~" stay.</summary>
        private static string Escaped(string text) => string.Concat(text.Select(static c =>
            char.IsAsciiLetterOrDigit(c) || "-._~".Contains(c) ? c.ToString() : $"%{(int)c:X2}"));
    }

    private static string Here([System.Runtime.CompilerServices.CallerFilePath] string path = "") => path;

    [GeneratedRegex("<<(.*?)>>", RegexOptions.Singleline)]
    private static partial Regex ShownPattern();

    [GeneratedRegex(@"\$([a-z0-9_]+)")]
    private static partial Regex NamePattern();

    [GeneratedRegex(@"`\$([a-z0-9_*]+)`")]
    private static partial Regex TablePattern();
}
