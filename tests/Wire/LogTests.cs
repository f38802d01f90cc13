// Access logs: formats, conditions, buffers, several logs at once; the error log's form.
using System.Text.RegularExpressions;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class LogTests
{
    [Fact]
    public void The_combined_format_reads_as_nginx_writes_it()
    {
        using var weir =
            ServerProcess.Weir(Conf.Server("access_log %DIR%/access.log; location / { return 200 hello; }"));
        weir.Get("/a?b", "User-Agent: ua \"x\"", "Referer: http://r/");
        Wait.For("the line", () => weir.AccessLog.EndsWith('\n'));
        Assert.Matches(new Regex(
            @"^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] ""GET /a\?b HTTP/1\.1"" 200 5 "
            + @"""http://r/"" ""ua \\x22x\\x22""\n$"), weir.AccessLog);
    }

    [Fact]
    public void Lines_go_to_a_syslog_server_as_it_reads_them()
    {
        using var syslog = new System.Net.Sockets.UdpClient(
            new System.Net.IPEndPoint(System.Net.IPAddress.Loopback, 0));
        syslog.Client.ReceiveTimeout = 30_000;
        int port = ((System.Net.IPEndPoint)syslog.Client.LocalEndPoint!).Port;
        using var weir = ServerProcess.Weir(Conf.Server($$"""
            access_log syslog:server=127.0.0.1:{{port}},facility=local7,tag=edge,severity=info short;
            error_log syslog:server=127.0.0.1:{{port}},facility=daemon,tag=edge,nohostname error;
            location / { return 200 a; }
            location /file { root %FILES%; }
            """, "log_format short \"$request_method $uri $status\";"));
        var from = new System.Net.IPEndPoint(System.Net.IPAddress.Any, 0);
        string Next() => System.Text.Encoding.Latin1.GetString(syslog.Receive(ref from));
        weir.Get("/told");
        // local7 (23) * 8 + info (6), the host's name, the tag.
        Assert.Matches(@"^<190>\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ edge: GET /told 200$", Next());
        weir.Get("/file");
        // daemon (3) * 8 + error (3), no host name.
        Assert.Matches(
            @"^<27>\w{3} [ \d]\d \d\d:\d\d:\d\d edge: .*open\(\) "".*/file"" failed \(2: No such file", Next());
        Assert.Matches(@"^<190>.* edge: GET /file 404$", Next());
    }

    [Fact]
    public void A_buffered_log_is_written_when_the_server_quits()
    {
        using var weir = ServerProcess.Weir(Conf.Server(
            "access_log %DIR%/access.log l buffer=64k flush=1h; location / { return 200 a; }", "log_format l $uri;"));
        weir.Get("/1");
        weir.Get("/2");
        weir.Stop();
        Assert.Equal("/1\n/2\n", weir.AccessLog);
    }

    [Fact]
    public void A_flushed_log_is_written_after_its_time()
    {
        using var weir = ServerProcess.Weir(Conf.Server(
            "access_log %DIR%/access.log l buffer=64k flush=200ms; location / { return 200 a; }",
            "log_format l $uri;"));
        weir.Get("/1");
        Wait.For("the flush", () => weir.AccessLog == "/1\n");
    }

    [Fact]
    public void A_JSON_log_is_JSON_whatever_a_client_sends()
    {
        using var weir = ServerProcess.Weir(Conf.Server("access_log %DIR%/access.log j; location / { return 200 a; }",
            "log_format j escape=json '{\"u\":\"$http_user_agent\",\"s\":$status}';"));
        weir.Get("/", "User-Agent: \"\\\tä");
        Wait.For("the line", () => weir.AccessLog.EndsWith('\n'));
        using var document = System.Text.Json.JsonDocument.Parse(
            System.Text.Encoding.UTF8.GetBytes(weir.AccessLog.Replace('\ufffd', '?')));
        Assert.Equal(200, document.RootElement.GetProperty("s").GetInt32());
        Assert.StartsWith("\"\\\t", document.RootElement.GetProperty("u").GetString());
    }

    [Fact]
    public void An_error_names_the_request_it_was_in()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { root %FILES%; }"));
        weir.Get("/none");
        Wait.For("the line", () => weir.ErrorLog.Contains("none", StringComparison.Ordinal));
        Assert.Matches(new Regex(
            @"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ open\(\) "".*/none"" failed "
            + @"\(2: No such file or directory\), client: 127\.0\.0\.1, server: localhost, "
            + @"request: ""GET /none HTTP/1\.1"", host: ""localhost"""), weir.ErrorLog);
    }
}
