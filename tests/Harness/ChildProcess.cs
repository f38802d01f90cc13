// A process that a test started: its output is kept, it is stopped by its pid and never outlives the test.
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace Weir.Tests.Harness;

/// <summary>Signals by their Linux numbers.</summary>
public enum Signal
{
    Hup = 1,
    Int = 2,
    Quit = 3,
    Kill = 9,
    Usr1 = 10,
    Usr2 = 12,
    Term = 15,
    Cont = 18,
    Stop = 19,
    Winch = 28,
}

/// <summary>A child process with its output captured.</summary>
public sealed partial class ChildProcess : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly StringBuilder _errors = new();
    private readonly ManualResetEventSlim _outputEnded = new();
    private readonly ManualResetEventSlim _errorsEnded = new();

    /// <summary>How long the readers of a process that has ended may lag behind.</summary>
    private const int LastWordsMs = 3000;

    // Tests block threads of the pool; the readers of pipes must not wait for the pool to grow.
    static ChildProcess() => ThreadPool.SetMinThreads(64, 64);

    public ChildProcess(string file, IEnumerable<string> arguments, string? directory = null,
        IReadOnlyDictionary<string, string>? environment = null)
    {
        var start = new ProcessStartInfo(file)
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = directory ?? "",
        };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, e) => Append(_output, e.Data, _outputEnded);
        _process.ErrorDataReceived += (_, e) => Append(_errors, e.Data, _errorsEnded);
        _process.Start();
        Pid = _process.Id;
        _process.StandardInput.Close();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public int Pid { get; }

    public bool HasExited => _process.HasExited;

    public int ExitCode => _process.ExitCode;

    /// <summary>The signal of a crash (SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV) that it ended by; null if it runs or
    /// ended otherwise.</summary>
    public int? Crash => _process.HasExited && _process.ExitCode - 128 is 4 or 6 or 7 or 8 or 11
        ? _process.ExitCode - 128 : null;

    /// <summary>What it wrote to standard output so far.</summary>
    public string Output => Read(_output);

    /// <summary>What it wrote to standard error so far.</summary>
    public string Errors => Read(_errors);

    /// <summary>Its children's pids (a master's workers), in the order of their start.</summary>
    public int[] Children() => ChildrenOf(Pid);

    public static int[] ChildrenOf(int pid)
    {
        // A child belongs to the thread that forked it.
        try
        {
            return Directory.GetDirectories($"/proc/{pid}/task")
                .SelectMany(task => File.ReadAllText(task + "/children").Split(' ',
                    StringSplitOptions.RemoveEmptyEntries))
                .Select(int.Parse)
                .Order()
                .ToArray();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    /// <summary>What a process is called in ps; empty when it has gone.</summary>
    public static string Title(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/cmdline").TrimEnd('\0').Replace('\0', ' ');
        }
        catch (IOException)
        {
            return "";
        }
    }

    public void Send(Signal signal) => Send(Pid, signal);

    public static void Send(int pid, Signal signal) => kill(pid, (int)signal);

    /// <summary>Waits for its end; false after the time given.</summary>
    public bool WaitForExit(int timeoutMs)
    {
        if (!_process.WaitForExit(timeoutMs))
        {
            return false;
        }

        // Its last words are still on the way; a grandchild may hold the pipes open for ever.
        _outputEnded.Wait(LastWordsMs);
        _errorsEnded.Wait(LastWordsMs);
        return true;
    }

    /// <summary>Asks it to end, then makes it end, with all its children.</summary>
    public void Stop(Signal signal = Signal.Quit, int graceMs = 5000)
    {
        int[] children = Descendants(Pid);
        if (!_process.HasExited)
        {
            Send(signal);
            if (!WaitForExit(graceMs))
            {
                children = [.. children.Union(Descendants(Pid))];
                Send(Signal.Kill);
                WaitForExit(2000);
            }
        }

        foreach (int child in children.Where(IsOurs))
        {
            Send(child, Signal.Kill);
        }
    }

    public void Dispose()
    {
        Stop(Signal.Term, 2000);
        _process.Dispose();
    }

    /// <summary>Runs a program to its end.</summary>
    public static (int ExitCode, string Output, string Errors) Run(string file, params string[] arguments) =>
        Run(file, 30_000, arguments);

    public static (int ExitCode, string Output, string Errors) Run(string file, int timeoutMs, string[] arguments)
    {
        using var process = new ChildProcess(file, arguments);
        if (!process.WaitForExit(timeoutMs))
        {
            throw new TimeoutException($"{file} {string.Join(' ', arguments)} did not end\n{process.Errors}");
        }

        return (process.ExitCode, process.Output, process.Errors);
    }

    private static int[] Descendants(int pid)
    {
        int[] children = ChildrenOf(pid);
        return [.. children, .. children.SelectMany(Descendants)];
    }

    // An orphan of ours was adopted by init (or a subreaper) a moment ago; a pid that was given anew has another
    // parent.
    private bool IsOurs(int pid)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{pid}/stat");
            string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return fields[0] != "Z" && int.Parse(fields[1]) is 1 or 0 || int.Parse(fields[1]) == Pid;
        }
        catch (IOException)
        {
            return false;
        }
    }

    private static void Append(StringBuilder to, string? line, ManualResetEventSlim ended)
    {
        if (line is null)
        {
            ended.Set();
            return;
        }

        lock (to)
        {
            to.Append(line).Append('\n');
        }
    }

    private static string Read(StringBuilder from)
    {
        lock (from)
        {
            return from.ToString();
        }
    }

    [LibraryImport("libc")]
    private static partial int kill(int pid, int signal);
}
