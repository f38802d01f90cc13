// The command line as nginx's users know it: flags, exit codes and messages.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class CommandLineTests : IDisposable
{
    private readonly TempDir _dir = new();

    public void Dispose() => _dir.Dispose();

    [Fact]
    public void Small_v_prints_the_version_and_large_V_what_tools_read()
    {
        (int code, _, string errors) = Run("-v");
        Assert.Equal(0, code);
        Assert.Contains("nginx version: nginx/", errors);
        (code, _, errors) = Run("-V");
        Assert.Equal(0, code);
        Assert.Contains("configure arguments:", errors);
    }

    [Fact]
    public void A_good_file_is_told_to_be_good()
    {
        string path = Write("events { } http { server { listen 127.0.0.1:8080; } }");
        (int code, _, string errors) = Run("-t", "-p", _dir.Path, "-c", path);
        Assert.True(code == 0, errors);
        Assert.Contains($"the configuration file {path} syntax is ok", errors);
        Assert.Contains($"configuration file {path} test is successful", errors);
    }

    [Fact]
    public void A_trap_is_told_beside_and_changes_no_exit_code()
    {
        string path = Write("events { }\nhttp { server { listen 127.0.0.1:8080;\nlocation /a { alias /srv/; } } }");
        (int code, _, string errors) = Run("-t", "-p", _dir.Path, "-c", path);
        Assert.True(code == 0, errors);
        Assert.Matches(@"weir: \[lint\] .*\[alias-slash\] in " + path + ":3\n", errors);
        Assert.Contains("hint: location /a/ { alias /srv/; }", errors);
        Assert.DoesNotContain("[lint]", Run("-t", "--no-lint", "-p", _dir.Path, "-c", path).Item3);
        Assert.Equal("", Run("-tq", "-p", _dir.Path, "-c", path).Item3);
    }

    [Fact]
    public void A_request_is_explained_without_a_server()
    {
        string path = Write("events { }\nhttp { server { listen 127.0.0.1:8080;\nlocation = /a { return 204; } } }");
        (int code, string text, string errors) = Run("explain", "-c", path, "/a");
        Assert.True(code == 0, errors);
        Assert.Contains($"location = /a    {path}:3\n            -> exact match for \"/a\"\n", text);
        Assert.Contains("\n204, 0 bytes", text);
    }

    [Fact]
    public void A_bad_file_is_told_with_its_line_and_exit_code_1()
    {
        string path = Write("events { }\nhttp {\n  nonsense on;\n}\n");
        (int code, _, string errors) = Run("-t", "-p", _dir.Path, "-c", path);
        Assert.Equal(1, code);
        Assert.Contains($"[emerg] unknown directive \"nonsense\" in {path}:3", errors);
        Assert.Contains($"configuration file {path} test failed", errors);
    }

    [Fact]
    public void An_application_is_refused_with_what_it_needs()
    {
        string path = Write("events { }\nhttp { server {\n  location / { app_pass shop; }\n} }\n");
        (int code, _, string errors) = Run("-t", "-p", _dir.Path, "-c", path);
        Assert.Equal(1, code);
        Assert.Contains("no application \"shop\" in this process", errors);
        Assert.Contains("needs the library", errors);
    }

    [Fact]
    public void Large_T_prints_the_files_it_read()
    {
        _dir.Write("inner.conf", "# inner\n");
        string path = Write("events { }\ninclude inner.conf;\n");
        (int code, string output, _) = Run("-T", "-p", _dir.Path, "-c", path);
        Assert.Equal(0, code);
        Assert.Contains($"# configuration file {path}:", output);
        Assert.Contains("# inner", output);
    }

    [Fact]
    public void An_unknown_flag_ends_with_1()
    {
        (int code, _, string errors) = Run("-Z");
        Assert.Equal(1, code);
        Assert.Contains("invalid option", errors);
    }

    [Trait("Needs", "master")]
    [Theory]
    [InlineData("stop"), InlineData("quit")]
    public void A_signal_flag_reaches_the_running_server(string signal)
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 a; }", master: true));
        Wait.For("the pid file", () => weir.Dir.Read("server.pid").Length > 0);
        (int code, _, string errors) = Run("-p", weir.Dir.Path + "/", "-c", weir.ConfPath, "-s", signal);
        Assert.True(code == 0, errors);
        Assert.True(weir.Process.WaitForExit(5000));
        Assert.Equal(0, weir.Process.ExitCode);
    }

    [Fact]
    public void A_port_that_is_taken_is_named()
    {
        using var weir = ServerProcess.Weir(Conf.Server("location / { return 200 a; }"));
        string path =
            Write("daemon off; pid p.pid; error_log e.log; events { } http { access_log off; server { listen 127.0.0.1:"
            + weir.Port + "; } }");
        (int code, _, string errors) = Run("-p", _dir.Path + "/", "-c", path);
        Assert.Equal(1, code);
        Assert.Contains($"bind() to 127.0.0.1:{weir.Port} failed (98: Address already in use)", errors);
    }

    [Fact]
    public void The_path_of_a_unix_socket_that_is_taken_is_named_with_its_holder()
    {
        string socket = _dir.At("held.sock");
        using var holder = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.Unix,
            System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Unspecified);
        holder.Bind(new System.Net.Sockets.UnixDomainSocketEndPoint(socket));
        holder.Listen();
        string path = Write("daemon off; pid p.pid; error_log e.log; events { } http { access_log off; server { "
            + $"listen unix:{socket}; }} }}");
        (int code, _, string errors) = Run("-p", _dir.Path + "/", "-c", path);
        Assert.Equal(1, code);
        Assert.Contains($"bind() to unix:{socket} failed (98: Address already in use)", errors);
        Assert.Matches($"unix:{socket} is in use by .* \\(pid {Environment.ProcessId}\\)", errors);
    }

    [Fact]
    public void A_daemon_leaves_the_terminal_and_its_pid_file_behind()
    {
        using Port port = Port.Lease();
        string path = Write("pid p.pid; error_log e.log; events { } http { access_log off; client_body_temp_path b; "
            + "proxy_temp_path p; fastcgi_temp_path f; server { listen 127.0.0.1:"
            + port.Number + "; return 200 daemon; } }");
        (int code, _, string errors) = Run("-p", _dir.Path + "/", "-c", path);
        Assert.True(code == 0, errors);
        Wait.For("the pid file", () => _dir.Read("p.pid").Trim().Length > 0);
        int pid = int.Parse(_dir.Read("p.pid"), System.Globalization.CultureInfo.InvariantCulture);
        try
        {
            using RawClient client = RawClient.Connect(port.Number);
            Assert.Equal("daemon", client.Get("/").Text);
        }
        finally
        {
            ChildProcess.Send(pid, Signal.Term);
            Wait.Until(() => !Directory.Exists($"/proc/{pid}"));
        }
    }

    private string Write(string text) => _dir.Write("nginx.conf", text);

    private static (int ExitCode, string Output, string Errors) Run(params string[] arguments) =>
        ChildProcess.Run(ServerProcess.WeirBinary, arguments);
}
