// Real application servers that tests put behind the server: a Node script, PHP-FPM, a Python application on Gunicorn.
// Each runs in a directory of its own on a leased port and is stopped by its pid.
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Weir.Tests.Harness;

/// <summary>A running application server.</summary>
public sealed class AppProcess : IDisposable
{
    private readonly Port _port;

    private AppProcess(Func<TempDir, int, ChildProcess> start)
    {
        _port = Harness.Port.Lease();
        Dir = new TempDir();
        Process = start(Dir, _port.Number);
        if (!Wait.Until(() => Process.HasExited || Accepts(Port), 20_000) || Process.HasExited)
        {
            Process.WaitForExit(1000);
            string story = Process.Output + Process.Errors;
            Dispose();
            throw new InvalidOperationException("the application did not start\n" + story);
        }
    }

    public TempDir Dir { get; }

    public int Port => _port.Number;

    public ChildProcess Process { get; }

    /// <summary>A Node script; its port is in process.env.PORT.</summary>
    public static AppProcess Node(string script) => new((dir, port) =>
    {
        dir.Write("app.js", script);
        return new ChildProcess(Tools.Require("node"), [dir.At("app.js")], dir.Path, Environment(port));
    });

    /// <summary>A WSGI module with a callable named `app`, with threads.</summary>
    public static AppProcess Gunicorn(string module, int threads = 4) => new((dir, port) =>
    {
        dir.Write("app.py", module);
        return new ChildProcess(Tools.Require("gunicorn"),
            ["--bind", "127.0.0.1:" + Text(port), "--workers", "1", "--threads", Text(threads), "app:app"],
            dir.Path, Environment(port));
    });

    /// <summary>A script for Debian's Python; its port is in the environment's PORT.</summary>
    public static AppProcess Python(string script) => new((dir, port) =>
    {
        dir.Write("app.py", script);
        return new ChildProcess("/usr/bin/python3", [dir.At("app.py")], dir.Path, Environment(port));
    });

    /// <summary>PHP-FPM on a TCP port; scripts are wherever the configuration's SCRIPT_FILENAME says.</summary>
    public static AppProcess PhpFpm(int children = 2) => new((dir, port) =>
    {
        string conf = dir.Write("fpm.conf", $"""
            [global]
            error_log = {dir.At("fpm.log")}
            daemonize = no
            [www]
            user = root
            group = root
            listen = 127.0.0.1:{Text(port)}
            pm = static
            pm.max_children = {Text(children)}
            catch_workers_output = yes

            """);
        return new ChildProcess(Tools.Require("php-fpm"), ["-R", "-F", "-y", conf], dir.Path);
    });

    public void Dispose()
    {
        Process.Stop(Signal.Term, 3000);
        Process.Dispose();
        Dir.Dispose();
        _port.Dispose();
    }

    private static Dictionary<string, string> Environment(int port) => new() { ["PORT"] = Text(port) };

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static bool Accepts(int port)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Connect(IPAddress.Loopback, port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
