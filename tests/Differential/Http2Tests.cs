// HTTP/2 answers of both servers as real clients see them: the same configuration, the same requests through curl and
// nghttp. The machine's nginx knows HTTP/2 as a parameter of `listen` alone.
using System.Text.RegularExpressions;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Differential;

public sealed partial class Http2Tests
{
    private const string Configuration = """
        types { text/plain txt; text/html html; }
        log_format h2 '$request|$status|$body_bytes_sent|$server_protocol|$http2|$request_length|$host';
        server {
            listen 127.0.0.1:%PORT% http2;
            server_name localhost;
            root %FILES%;
            access_log %DIR%/access.log h2;
            error_page 404 /lost.html;
            location /zip/ { gzip on; gzip_min_length 1; alias %FILES%/; }
            location /to { return 301 /there; }
            location /none { return 204; }
            location /asks { return 200 "$request_method $uri $args $scheme $http_user_agent $http_cookie"; }
            location /up { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_set_header Host up; proxy_http_version 1.1; }
        }
        """;

    private const string Limits = """
        server {
            listen 127.0.0.1:%PORT% http2; client_max_body_size 10; keepalive_requests 3;
            location / { return 200 ok; }
            location /up { proxy_pass http://127.0.0.1:%UPSTREAM%; }
        }
        server {
            listen 127.0.0.1:%PORT2% http2; http2_max_concurrent_streams 3;
            location /up { proxy_pass http://127.0.0.1:%UPSTREAM%; }
        }
        """;

    /// <summary>What is said to so many bytes, requests or streams.</summary>
    private static string Tell(ServerProcess server, string limit, int number)
    {
        using Http2Client client = Http2Client.Connect(limit == "streams" ? server.PortOf(2) : server.Port);
        string Said(Http2Answer answer) => answer.Reset is { } reset ? reset.ToString() : $"{answer.Status}";
        switch (limit)
        {
            case "body":
                return Said(client.Post("/up", new string('b', number), $"content-length: {number}"));
            case "body without its length":
                return Said(client.Post("/up", new string('b', number)));
            case "requests":
                return string.Join(' ', Enumerable.Range(0, number).Select(_ => client.IsEnded ? "ended"
                    : client.GoAway is not null ? "gone" : Said(client.Get("/"))));
            default:
                int[] ids = [.. Enumerable.Range(0, number).Select(_ => client.Begin("/up", "POST", end: false))];
                client.Send([.. ids.SelectMany(static id => Http2Client.Data(id, "", end: true))]);
                return string.Join(' ', ids.Select(id => Said(client.ReadAnswer(id))));
        }
    }

    [NeedsTheory("nginx")]
    [InlineData("body", 10, 3)]
    [InlineData("body without its length", 10, 3)]
    [InlineData("requests", 3, 2)]
    [InlineData("streams", 3, 1)]
    public void A_limit_over_HTTP_2_is_where_nginx_has_it(string limit, int number, int around)
    {
        using Upstream upstream = Upstream.Answering(static _ => Upstream.Ok("up"));
        Harness.Conf conf = Harness.Conf.Http(Limits);
        using ServerProcess theirs = ServerProcess.Start(Tools.Require("nginx"), conf, upstreamPort: upstream.Port);
        using ServerProcess ours = ServerProcess.Start(ServerProcess.WeirBinary, conf, upstreamPort: upstream.Port);
        string[] Told(ServerProcess server) => [.. Enumerable.Range(number - around, (2 * around) + 1)
            .Select(n => $"{n}: {Tell(server, limit, n)}")];
        string[] told = Told(theirs);
        Assert.Equal(told, Told(ours));
        // The limit lies among them.
        Assert.True(told.Select(static t => t[(t.IndexOf(' ') + 1)..]).Distinct().Count() > 1, string.Join('\n', told));
    }

    /// <summary>What curl is told beyond the address.</summary>
    public static TheoryData<string, string> Requests => new()
    {
        { "/file.txt", "" },
        { "/file.txt", "-I" },
        { "/file.txt", "-r 3-9" },
        { "/file.txt", "-r 1-2,5-6" },
        { "/file.txt", "-r 9000-" },
        { "/file.txt", "-H If-Modified-Since:@" },
        { "/empty.txt", "" },
        { "/lost", "" },
        { "/folder", "" },
        { "/zip/file.txt", "-H Accept-Encoding:gzip" },
        { "/to", "" },
        { "/none", "" },
        { "/asks?a=b", "-A me -b a=1;b=2" },
        { "/asks", "-X DELETE" },
        { "/asks/%41/../b//c", "--path-as-is" },
        { "/up?x", "" },
        { "/up", "-d body" },
        { "/file.txt", "-X TRACE" },
    };

    [NeedsTheory("nginx", "curl"), MemberData(nameof(Requests))]
    public void Curl_gets_the_same_answer_from_both(string target, string options)
    {
        using var files = new TempDir();
        files.Write("file.txt", string.Concat(Enumerable.Range(0, 500).Select(static i => $"line {i}\n")));
        files.Write("empty.txt", "");
        files.Write("lost.html", "lost");
        files.Write("folder/x.txt", "x");
        files.SetFolderTimes();
        string ours = Ask(ServerProcess.WeirBinary, files, target, options);
        string theirs = Ask(Tools.Require("nginx"), files, target, options);
        Assert.Equal(theirs, ours);
    }

    private static string Ask(string binary, TempDir files, string target, string options)
    {
        using Upstream upstream = Upstream.Answering(static r => Upstream.Ok($"{r.Line} {r.Header("Host")} {r.Body}",
            "X-Up: yes", "Connection: x", "Set-Cookie: a=b"));
        var conf = Harness.Conf.Http(Configuration);
        using ServerProcess server = ServerProcess.Start(binary, conf, files, upstream.Port);
        string date = File.GetLastWriteTimeUtc(files.At("file.txt")).ToString("R",
            System.Globalization.CultureInfo.InvariantCulture);
        string[] more = [.. options.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(o => o.Replace("@", date,
            StringComparison.Ordinal))];
        (int code, string output, string errors) = ChildProcess.Run("curl",
            ["-s", "-S", "-i", "--http2-prior-knowledge", .. more, server.Url(target)]);
        server.Stop();
        string text = $"{code} {errors}\n{output}\n--- access.log\n{server.AccessLog}";
        text = Changing().Replace(text, "$1: *");
        text = Boundary().Replace(text, "*");
        text = text.Replace(server.Port.ToString(System.Globalization.CultureInfo.InvariantCulture), "PORT",
            StringComparison.Ordinal);
        if (text.Contains("<center>", StringComparison.Ordinal))
        {
            // A page of the server's own is as long as its name.
            text = Length().Replace(text, "$1*");
        }

        return Product().Replace(text, "server/x");
    }

    [GeneratedRegex("(?im)^(date|server): [^\r\n]*")]
    private static partial Regex Changing();

    [GeneratedRegex("[0-9]{20}")]
    private static partial Regex Boundary();

    [GeneratedRegex("(?im)(^content-length: |[|][0-9]{3}[|])[0-9]+")]
    private static partial Regex Length();

    [GeneratedRegex("(nginx|weir)/[0-9.]+")]
    private static partial Regex Product();
}
