// The verbs: what they accept and the configurations they stand for, built as a master would build them.
using Weir;
using Weir.Conf;
using Weir.Server;
using Xunit;

namespace Weir.Tests.Unit.CommandLine;

public sealed class VerbTests
{
    private static Invocation Parse(params string[] args) => Weir.CommandLine.Parse(args);

    private static string Text(params string[] args)
    {
        Invocation invocation = Parse(args);
        Assert.True(invocation.BuiltIn is not null, invocation.Message);
        ConfTree tree = ConfParser.Parse(invocation.Files, invocation.ConfPath, invocation.Globals);
        Assert.False(tree.Errors.Failed);
        return invocation.BuiltIn.Text;
    }

    [Fact]
    public void A_folder_is_served_on_localhost_with_listings()
    {
        string text = Text("serve", "/tmp");
        Assert.Contains("root /tmp;", text);
        Assert.Contains("listen 127.0.0.1:8080;", text);
        Assert.Contains("autoindex on;", text);
        Assert.Contains("daemon off;", text);
    }

    [Fact]
    public void App_takes_a_model_with_its_numbers_and_times()
    {
        AppOptions app = Parse("app", "--model", "event-driven-thread-pool", "--threads=7", "--queue", "0", "--loops",
            "2", "--backlog", "9", "--timeout", "30s", "--delay", "250ms", "--cpu", "2m", "--full", "stop",
            "--port", "9002").App!;
        Assert.Equal(Concurrency.EventDrivenWithThreadPool(2, 7, 0), app.Server.Concurrency);
        Assert.Equal(QueueFull.StopAccepting, app.Server.QueueFull);
        Assert.Equal(9, app.Server.Backlog);
        Assert.Equal(TimeSpan.FromSeconds(30), app.Server.HandlerTimeout);
        Assert.Equal(TimeSpan.FromMilliseconds(250), app.Delay);
        Assert.Equal(TimeSpan.FromMinutes(2), app.Cpu);
        Assert.Contains("127.0.0.1:9002", app.Server.Listen);
    }

    [Theory]
    [InlineData("invalid word \"treads\" of \"--model\"", "--model", "treads")]
    [InlineData("invalid number \"0\" of \"--threads\"\n1 to 100000", "--threads", "0")]
    [InlineData("invalid time \"5x\" of \"--delay\"\nsuch as 500ms, 10s or 2m", "--delay", "5x")]
    [InlineData("\"weir app\" takes options only, not \"dir\"", "dir")]
    public void App_says_what_it_does_not_understand(string complaint, params string[] args)
    {
        Invocation invocation = Parse(["app", .. args]);
        Assert.Equal(InvocationAction.Error, invocation.Action);
        Assert.StartsWith(complaint, invocation.Message);
    }

    [Fact]
    public void Options_of_serve_may_stand_anywhere()
    {
        string text = Text("serve", "--port=9001", "--spa", "/tmp", "--workers", "3");
        Assert.Contains("listen 127.0.0.1:9001;", text);
        Assert.Contains("try_files $uri $uri/index.html /index.html =404;", text);
        Assert.Contains("worker_processes 3;", text);
        Assert.DoesNotContain("autoindex", text);
        Assert.DoesNotContain("autoindex", Text("serve", "/tmp", "--no-list"));
    }

    [Fact]
    public void A_listen_address_replaces_localhost()
    {
        string text = Text("serve", "/tmp", "--listen", "0.0.0.0:9002", "--listen", "unix:/tmp/w.sock");
        Assert.Contains("listen 0.0.0.0:9002;", text);
        Assert.Contains("listen unix:/tmp/w.sock;", text);
        Assert.DoesNotContain("127.0.0.1", text);
    }

    [Fact]
    public void A_folder_with_odd_letters_is_quoted()
    {
        string folder = Directory.CreateTempSubdirectory("weir \"odd\" {x}; ").FullName;
        try
        {
            string text = Text("serve", folder);
            Assert.Contains("root \"" + folder.Replace("\"", "\\\"") + "\";", text);
        }
        finally
        {
            Directory.Delete(folder);
        }
    }

    [Theory]
    [InlineData("3000", "server localhost:3000;", "")]
    [InlineData(":3000", "server localhost:3000;", "")]
    [InlineData("http://app", "server app;", "")]
    [InlineData("http://app:81/", "server app:81;", "")]
    [InlineData("HTTP://[::1]:81/base/", "server [::1]:81;", "/base/")]
    [InlineData("unix:/run/a.sock", "server unix:/run/a.sock;", "")]
    public void An_application_is_named_in_any_usual_form(string url, string server, string uri)
    {
        string text = Text("proxy", url);
        Assert.Contains(server, text);
        Assert.Contains($"proxy_pass http://application{uri};", text);
    }

    [Fact]
    public void Several_applications_share_a_group()
    {
        string text = Text("proxy", "3001", "3002", "--listen", "9003");
        Assert.Contains("server localhost:3001;\n        server localhost:3002;\n        keepalive 32;", text);
        Assert.Contains("listen 9003;", text);
    }

    [Theory]
    [InlineData("is not supported", "proxy", "https://app")]
    [InlineData("is not a protocol", "proxy", "ftp://app")]
    [InlineData("is no port", "proxy", "http://app:99999")]
    [InlineData("needs the URL", "proxy")]
    [InlineData("differ in their paths", "proxy", "http://a/x", "http://b/y")]
    [InlineData("this is no host name", "proxy", "http://a;b")]
    [InlineData("there is no folder", "serve", "/nowhere/at/all")]
    [InlineData("serves one folder", "serve", "/tmp", "/usr")]
    [InlineData("invalid number \"0\"", "serve", "--port", "0")]
    [InlineData("invalid number \"70000\"", "serve", "--port", "70000")]
    [InlineData("requires a value", "serve", "--port")]
    [InlineData("takes no value", "serve", "--spa=yes")]
    [InlineData("invalid address", "serve", "--listen", "nonsense:x")]
    [InlineData("no help on \"x\"", "help", "x")]
    public void What_makes_no_sense_is_told(string message, params string[] args)
    {
        Invocation invocation = Parse(args);
        Assert.Equal(InvocationAction.Error, invocation.Action);
        Assert.Contains(message, invocation.Message);
    }

    [Fact]
    public void Help_is_had_both_ways()
    {
        Assert.Equal(Parse("help", "serve").Message, Parse("serve", "--help").Message);
        Assert.Contains("weir serve", Parse("help").Message);
        Assert.Contains("--no-list", Parse("serve", "-h").Message);
    }

    [Fact]
    public void The_configuration_is_printed_on_request() => Assert.True(Parse("serve", "/tmp",
        "--print-conf").PrintConf);

    [Fact]
    public void The_media_types_of_the_samples_are_those_of_the_verbs()
    {
        string? root = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(root!, "Weir.slnx")))
        {
            root = Path.GetDirectoryName(root);
        }
        string sample = File.ReadAllText(Path.Combine(root!, "samples/mime.types"));
        Assert.Equal(MimeTypes.Text.Trim(), sample[sample.IndexOf("types {", StringComparison.Ordinal)..].Trim());
    }
}
