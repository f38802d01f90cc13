// The laboratory's hold on one server: a child process of this binary that is asked for its events and counters. What
// the kernel knows about it (memory, threads) is read from /proc. One caller at a time.
using System.Diagnostics;
using System.Globalization;
using Weir.Server;
using ChildProcess = System.Diagnostics.Process;

namespace Weir.Lab;

/// <summary>A server at one moment.</summary>
internal readonly record struct LabSample
{
    public long TimeUs { get; init; }

    /// <summary>Threads of the process; <see cref="ServerThreads"/> are those of the model.</summary>
    public long Threads { get; init; }
    public long ServerThreads { get; init; }
    public long MemoryBytes { get; init; }
    public long AddressSpaceBytes { get; init; }
    public long VoluntarySwitches { get; init; }
    public long InvoluntarySwitches { get; init; }
    public long CpuUs { get; init; }
    public long Connections { get; init; }
    public long Queued { get; init; }
    public long Running { get; init; }
    public long Stuck { get; init; }
    public long Refused { get; init; }
    public long TimedOut { get; init; }
    public long Answered { get; init; }
    public long StackReservedBytes { get; init; }
    public long StackCommittedBytes { get; init; }

    public long Switches => VoluntarySwitches + InvoluntarySwitches;
}

internal sealed class LabServer : IDisposable
{
    private readonly ChildProcess _process;

    private LabServer(ChildProcess process, int port)
    {
        _process = process;
        Port = port;
    }

    public int Port { get; }

    /// <exception cref="IOException">It did not start; the message says why.</exception>
    public static async Task<LabServer> StartAsync(LabRunSpec spec, CancellationToken stop)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath ?? "/proc/self/exe")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string word in LabServerProgram.ArgumentsOf(spec))
        {
            start.ArgumentList.Add(word);
        }
        ChildProcess process = ChildProcess.Start(start) ?? throw new IOException("the server's process did not start");
        string? line = await process.StandardOutput.ReadLineAsync(stop);
        if (line is null || !int.TryParse(line, NumberStyles.None, CultureInfo.InvariantCulture, out int port))
        {
            string why = (await process.StandardError.ReadToEndAsync(stop)).Trim();
            process.Dispose();
            throw new IOException($"the server did not start: {why}");
        }
        process.ErrorDataReceived += static (_, _) => { };
        process.BeginErrorReadLine();
        return new LabServer(process, port);
    }

    /// <summary>Asks for what happened since the last time, and how things stand.</summary>
    /// <exception cref="IOException">The server is gone.</exception>
    public async Task<LabSample> PollAsync(List<AppServerEvent> events)
    {
        await _process.StandardInput.WriteAsync("?\n");
        await _process.StandardInput.FlushAsync();
        long[] numbers = new long[16];
        string head = await LineAsync();
        Split(head, numbers);
        (long Memory, long Space, long Threads) seen = ReadStatus(_process.Id);
        var sample = new LabSample
        {
            TimeUs = numbers[0],
            ServerThreads = numbers[1],
            VoluntarySwitches = numbers[2],
            InvoluntarySwitches = numbers[3],
            CpuUs = numbers[4],
            Connections = numbers[5],
            Queued = numbers[6],
            Running = numbers[7],
            Stuck = numbers[8],
            Refused = numbers[9],
            TimedOut = numbers[10],
            Answered = numbers[11],
            StackReservedBytes = numbers[12],
            StackCommittedBytes = numbers[13],
            MemoryBytes = seen.Memory,
            AddressSpaceBytes = seen.Space,
            Threads = seen.Threads,
        };
        while (await LineAsync() is var line && line != ".")
        {
            Split(line, numbers);
            events.Add(new AppServerEvent((AppServerEventKind)numbers[0], numbers[1], (int)numbers[2],
                (int)numbers[3], (int)numbers[4], (int)numbers[5], numbers[6]));
        }
        return sample;
    }

    public void Dispose()
    {
        try
        {
            _process.StandardInput.Close();
            if (!_process.WaitForExit(2000))
            {
                _process.Kill();
            }
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // It has ended by itself.
        }
        _process.Dispose();
    }

    private async Task<string> LineAsync() => await _process.StandardOutput.ReadLineAsync()
        ?? throw new IOException("the server's process has ended");

    private static void Split(string line, long[] numbers)
    {
        int i = 0;
        foreach (Range word in line.AsSpan().Split(' '))
        {
            numbers[i++] = long.Parse(line.AsSpan(word), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        }
    }

    private static (long Memory, long Space, long Threads) ReadStatus(int pid)
    {
        long memory = 0, space = 0, threads = 0;
        try
        {
            foreach (string line in File.ReadLines($"/proc/{pid}/status"))
            {
                if (line.StartsWith("VmRSS:", StringComparison.Ordinal))
                {
                    memory = NumberIn(line) * 1024;
                }
                else if (line.StartsWith("VmSize:", StringComparison.Ordinal))
                {
                    space = NumberIn(line) * 1024;
                }
                else if (line.StartsWith("Threads:", StringComparison.Ordinal))
                {
                    threads = NumberIn(line);
                }
            }
        }
        catch (IOException)
        {
            // It has ended: the zeros say so.
        }
        return (memory, space, threads);
    }

    private static long NumberIn(string line)
    {
        long number = 0;
        foreach (char c in line)
        {
            number = char.IsAsciiDigit(c) ? (number * 10) + c - '0' : number;
        }
        return number;
    }
}
