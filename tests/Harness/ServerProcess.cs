// A server under test: the published Weir binary or a real nginx, started with a configuration text in a directory of
// its own, ready when it accepts a connection, stopped by its pid. Both have the same command line, so they share
// this class.
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;

namespace Weir.Tests.Harness;

/// <summary>A running server.</summary>
public sealed partial class ServerProcess : IDisposable
{
    // A packaged nginx was built with absolute paths; Weir's lie below the prefix, as a plain build's do.
    private const string _tempPaths = """
        client_body_temp_path %DIR%/body; proxy_temp_path %DIR%/proxy; fastcgi_temp_path %DIR%/fastcgi;
            uwsgi_temp_path %DIR%/uwsgi; scgi_temp_path %DIR%/scgi;
        """;

    private readonly List<Port> _ports = [];
    private readonly TempDir? _ownFiles;
    private readonly int _upstreamPort;

    private ServerProcess(string binary, Conf conf, TempDir? files, int upstreamPort, bool waitReady,
        string[] arguments)
    {
        Binary = binary;
        Dir = new TempDir();
        _ownFiles = files is null ? new TempDir() : null;
        Files = files ?? _ownFiles!;
        _upstreamPort = upstreamPort;
        ConfPath = Dir.At("nginx.conf");
        ConfText = Expand(conf.Text);
        File.WriteAllText(ConfPath, ConfText);
        Process = new ChildProcess(binary, ["-p", Dir.Path + "/", "-c", ConfPath, .. arguments]);
        if (waitReady)
        {
            try
            {
                WaitReady();
            }
            catch
            {
                Dispose();
                throw;
            }
        }
    }

    public string Binary { get; }

    private bool IsNginx => Path.GetFileName(Binary) == "nginx";

    /// <summary>The server's own directory: configuration, logs, pid file.</summary>
    public TempDir Dir { get; }

    /// <summary>What %FILES% stands for.</summary>
    public TempDir Files { get; }

    public string ConfPath { get; }

    public string ConfText { get; private set; }

    public ChildProcess Process { get; private set; }

    /// <summary>The number behind %PORT% (1) or %PORT2% … (2 …).</summary>
    public int Port => PortOf(1);

    public string ErrorLog => Dir.Read("error.log");

    public string AccessLog => Dir.Read("access.log");

    public string Url(string path = "/") => $"http://127.0.0.1:{Port.ToString(CultureInfo.InvariantCulture)}{path}";

    /// <summary>The binary under test: WEIR_BINARY, or artifacts/bin/weir.</summary>
    public static string WeirBinary { get; } = FindWeir();

    /// <summary>Starts Weir and waits until it accepts connections.</summary>
    public static ServerProcess Weir(Conf conf, TempDir? files = null, int upstreamPort = 0, bool waitReady = true,
        params string[] arguments) => new(WeirBinary, conf, files, upstreamPort, waitReady, arguments);

    /// <summary>Starts a real nginx.</summary>
    public static ServerProcess Nginx(Conf conf, TempDir? files = null, int upstreamPort = 0, bool waitReady = true,
        params string[] arguments) => new(Tools.Require("nginx"), conf, files, upstreamPort, waitReady, arguments);

    public static ServerProcess Start(string binary, Conf conf, TempDir? files = null, int upstreamPort = 0) =>
        new(binary, conf, files, upstreamPort, waitReady: true, []);

    public int PortOf(int index)
    {
        while (_ports.Count < index)
        {
            _ports.Add(Harness.Port.Lease());
        }

        return _ports[index - 1].Number;
    }

    /// <summary>Opens a connection to %PORT%.</summary>
    public RawClient Connect(int portIndex = 1) => RawClient.Connect(PortOf(portIndex));

    /// <summary>One request on a connection of its own.</summary>
    public HttpResponse Get(string path, params string[] headers)
    {
        using RawClient client = Connect();
        client.Send(RawClient.Request("GET", path, headers));
        return client.ReadResponse();
    }

    /// <summary>Writes another configuration over the first, with the same ports and directories.</summary>
    public void Rewrite(Conf conf)
    {
        ConfText = Expand(conf.Text);
        File.WriteAllText(ConfPath, ConfText);
    }

    public void Send(Signal signal) => Process.Send(signal);

    /// <summary>The pids of the workers (the children of the master).</summary>
    public int[] Workers() => Process.Children();

    /// <summary>The pids of those of them whose title begins so.</summary>
    public int[] Named(string title) =>
        [.. Workers().Where(pid => ChildProcess.Title(pid).StartsWith(title, StringComparison.Ordinal))];

    /// <summary>Starts again after an end, with the same directory and ports.</summary>
    public void Restart()
    {
        Stop();
        Process = new ChildProcess(Binary, ["-p", Dir.Path + "/", "-c", ConfPath]);
        WaitReady();
    }

    public void Stop(Signal signal = Signal.Quit, int graceMs = 5000) => Process.Stop(signal, graceMs);

    /// <summary>What a failed test wants to see.</summary>
    public string Describe() =>
        $"{Binary} (pid {Process.Pid})\n--- configuration\n{ConfText}\n--- standard error\n{Process.Errors}"
        + $"\n--- error.log\n{ErrorLog}";

    public void Dispose()
    {
        // A server that crashed shows in its client as a connection that was reset and nothing more.
        string? crash = Process.Crash is not null || !IsNginx && CrashOfWorker().IsMatch(ErrorLog)
            ? $"the server or a worker crashed\n{Describe()}" : null;
        Stop(Signal.Quit, 2000);
        Process.Dispose();
        foreach (Port port in _ports)
        {
            port.Dispose();
        }

        Dir.Dispose();
        _ownFiles?.Dispose();
        if (crash is not null)
        {
            throw new InvalidOperationException(crash);
        }
    }

    private void WaitReady()
    {
        if (_ports.Count == 0)
        {
            return;
        }

        // A server opens its listeners one after the other: that one accepts says nothing about the next.
        int[] others = [.. ListenPort().Matches(ConfText).Select(static m => int.Parse(m.Groups[1].Value,
            CultureInfo.InvariantCulture)).Where(p => p != Port && _ports.Exists(port => port.Number == p))];
        bool ready = Wait.Until(() => Process.HasExited || Accepts(Port) && Array.TrueForAll(others, Listens), 20_000);
        if (!ready || Process.HasExited)
        {
            Process.WaitForExit(1000);
            throw new InvalidOperationException($"the server did not start\n{Describe()}");
        }
    }

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

    /// <summary>Without a connection, which the server would count: state 0A is LISTEN.</summary>
    private static bool Listens(int port)
    {
        string local = $":{port:X4} ";
        return ((string[])["tcp", "tcp6"]).SelectMany(static f => File.ReadLines($"/proc/net/{f}"))
            .Any(l => l.Contains(local, StringComparison.Ordinal) && l.Split(' ', StringSplitOptions.RemoveEmptyEntries)
                is [_, var address, _, "0A", ..] && address.EndsWith(local[..^1], StringComparison.Ordinal));
    }

    private string Expand(string text)
    {
        if (!IsNginx && Conf.Engine is { } engine && !UseDirective().IsMatch(text))
        {
            text = EventsBlock().Replace(text, m => $"{m.Value} use {engine};", 1);
            if (engine == "portable" && !text.Contains("master_process", StringComparison.Ordinal))
            {
                text = "master_process off;\n" + text;
            }
        }
        text = text.Replace("%TEMP_PATHS%", IsNginx ? _tempPaths : "").Replace("%DIR%", Dir.Path).Replace("%FILES%",
            Files.Path)
            .Replace("%UPSTREAM%", _upstreamPort.ToString(CultureInfo.InvariantCulture));
        return PortName().Replace(text, m => PortOf(m.Groups[1].Length == 0 ? 1 : m.Groups[1].Value[0] - '0')
            .ToString(CultureInfo.InvariantCulture));
    }

    private static string FindWeir()
    {
        if (Environment.GetEnvironmentVariable("WEIR_BINARY") is { Length: > 0 } given)
        {
            return given;
        }

        string? directory = AppContext.BaseDirectory;
        while (directory is not null && !File.Exists(Path.Combine(directory, "Weir.slnx")))
        {
            directory = Path.GetDirectoryName(directory);
        }

        string binary = Path.Combine(directory ?? ".", "artifacts/bin/weir");
        return File.Exists(binary)
            ? binary
            : throw new InvalidOperationException($"{binary} is missing; WEIR_BUILD_ONLY=1 ./weir builds it");
    }

    [GeneratedRegex(@"\bevents\s*\{")]
    private static partial Regex EventsBlock();

    [GeneratedRegex(@"\buse\s+\w+\s*;")]
    private static partial Regex UseDirective();

    [GeneratedRegex("exited on signal (4|6|7|8|11)")]
    private static partial Regex CrashOfWorker();

    [GeneratedRegex(@"\blisten\s+(?:[^\s;]*:)?(\d+)(?![^;]*\b(?:udp|quic)\b)[^;]*;")]
    private static partial Regex ListenPort();

    [GeneratedRegex("%PORT([1-9]?)%")]
    private static partial Regex PortName();
}
