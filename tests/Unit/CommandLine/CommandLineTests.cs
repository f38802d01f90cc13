// The command line as a value: nginx's flags in every form nginx takes, its complaints, and the verbs.
using Weir;
using Xunit;

namespace Weir.Tests.Unit.CommandLine;

public sealed class CommandLineTests
{
    private static Invocation Parse(params string[] args) => Weir.CommandLine.Parse(args);

    [Fact]
    public void No_arguments_are_the_welcome_page()
    {
        Invocation invocation = Parse();
        Assert.Equal(InvocationAction.Run, invocation.Action);
        Assert.Contains("weir_welcome;", invocation.BuiltIn!.Text);
        Assert.Contains("listen 127.0.0.1:8080;", invocation.BuiltIn.Text);
        Assert.NotNull(invocation.Files.Read(invocation.ConfPath, out _));
    }

    [Theory]
    [InlineData("-t")]
    [InlineData("-tq")]
    [InlineData("-qt")]
    [InlineData("-t", "-q")]
    public void A_test_is_asked_for_in_any_order(params string[] args)
    {
        Assert.Equal(InvocationAction.Test, Parse(args).Action);
        Assert.Equal(args.Any(a => a.Contains('q')), Parse(args).Quiet);
        Assert.Equal("/etc/nginx/nginx.conf", Parse(args).ConfPath);
    }

    [Fact]
    public void A_capital_T_dumps() => Assert.Equal(InvocationAction.TestDump, Parse("-T").Action);

    [Theory]
    [InlineData("-c/x/y.conf")]
    [InlineData("-c", "/x/y.conf")]
    [InlineData("-tc/x/y.conf")]
    [InlineData("-tqc", "/x/y.conf")]
    public void A_value_follows_in_the_same_word_or_the_next(params string[] args) =>
        Assert.Equal("/x/y.conf", Parse(args).ConfPath);

    [Fact]
    public void A_relative_configuration_belongs_to_the_prefix()
    {
        Invocation invocation = Parse("-p", "/srv/w", "-c", "conf/a.conf", "-e", "logs/e.log");
        Assert.Equal("/srv/w/", invocation.Prefix);
        Assert.Equal("/srv/w/conf/a.conf", invocation.ConfPath);
        Assert.Equal("/srv/w/logs/e.log", invocation.ErrorLogPath);
        Assert.Equal("stderr", Parse("-e", "stderr").ErrorLogPath);
    }

    [Theory]
    [InlineData("stop")]
    [InlineData("quit")]
    [InlineData("reopen")]
    [InlineData("reload")]
    public void A_signal_is_one_of_four(string name)
    {
        Assert.Equal(name, Parse("-s", name).Signal);
        Assert.Equal(name, Parse("-s" + name).Signal);
        Assert.Equal(InvocationAction.Signal, Parse("-s" + name, "-c", "/x").Action);
    }

    [Fact]
    public void Main_level_directives_are_taken_as_they_are() =>
        Assert.Equal("daemon off; worker_processes 2;", Parse("-g", "daemon off; worker_processes 2;").Globals);

    [Theory]
    [InlineData("invalid option: \"x\"", "-x")]
    [InlineData("invalid option: \"x\"", "-tx")]
    [InlineData("option \"-c\" requires file name", "-c")]
    [InlineData("option \"-e\" requires file name", "-te")]
    [InlineData("option \"-p\" requires directory name", "-p")]
    [InlineData("option \"-g\" requires parameter", "-g")]
    [InlineData("option \"-s\" requires parameter", "-s")]
    [InlineData("invalid option: \"-s restart\"", "-s", "restart")]
    [InlineData("invalid option: \"file\"", "file")]
    [InlineData("invalid option: \"file\"", "-t", "file")]
    public void What_nginx_refuses_is_refused_in_its_words(string message, params string[] args)
    {
        Invocation invocation = Parse(args);
        Assert.Equal(InvocationAction.Error, invocation.Action);
        Assert.Equal(1, invocation.ExitCode);
        Assert.Equal(message, invocation.Message.Split('\n')[0]);
    }

    [Theory]
    [InlineData("did you mean \"serve\"?", "srve")]
    [InlineData("did you mean \"proxy\"?", "porxy", "http://localhost:3000")]
    [InlineData("did you mean \"reload\"?", "-s", "relaod")]
    [InlineData("did you mean \"-c\"?", "-C", "x")]
    [InlineData("did you mean \"--port\"?", "serve", "--prot", "1")]
    [InlineData("did you mean \"--help\"?", "--hepl")]
    [InlineData("did you mean \"proxy\"?", "help", "prxy")]
    [InlineData("\"--port\" belongs to \"weir serve\"", "--port", "1")]
    public void A_slip_gets_the_nearest_name(string hint, params string[] args) =>
        Assert.Contains(hint, Parse(args).Message);

    [Fact]
    public void A_version_ends_it_unless_a_test_is_asked_for()
    {
        Assert.Equal(InvocationAction.Version, Parse("-v").Action);
        Assert.Equal(InvocationAction.VersionFull, Parse("-vV", "-s", "stop").Action);
        Assert.Equal(InvocationAction.Help, Parse("-?").Action);
        Assert.Equal(InvocationAction.Help, Parse("-hV").Action);
        Invocation both = Parse("-Vt");
        Assert.Equal(InvocationAction.Test, both.Action);
        Assert.Equal(InvocationAction.VersionFull, both.Preface);
    }

    [Fact]
    public void The_configure_line_names_what_is_there_and_what_is_not()
    {
        string line = VersionText.Arguments(new HashSet<string> { "http_rewrite", "http_stub_status", "http_core" });
        Assert.Contains("--with-http_stub_status_module", line);
        Assert.Contains("--without-http_gzip_module", line);
        Assert.DoesNotContain("rewrite", line);
        Assert.DoesNotContain("http_core", line);
        Assert.DoesNotContain("http_v3", line);
        Assert.StartsWith("nginx version: nginx/1.31.5 (weir/", VersionText.Full);
        Assert.Contains("\nconfigure arguments: --prefix=", VersionText.Full);
        HashSet<string> present = VersionText.PresentModules();
        Assert.Superset(new HashSet<string> { "http_gzip", "http_upstream_keepalive", "http_proxy", "http_ssl" },
            present);
        Assert.DoesNotContain("http_v3", present);
        Assert.Contains("\nbuilt with OpenSSL 3.", VersionText.Full);
        Assert.Contains("\nTLS SNI support enabled\n", VersionText.Full);
    }

    [Fact]
    public void Every_help_text_fits_80_columns()
    {
        foreach (string topic in HelpText.Topics.Append(""))
        {
            Assert.All(HelpText.Of(topic)!.Split('\n'), line => Assert.True(line.Length <= 80, line));
        }
    }
}
