// One server of an experiment, in a process of its own, so that memory, threads and context switches are its alone. It
// is this binary started with the word "lab-server" by LabServer, which asks it through standard input and reads
// answers from standard output; when standard input ends, so does the process.
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Weir.Kernel;
using Weir.Server;

namespace Weir.Lab;

internal static class LabServerProgram
{
    public const string Word = "lab-server";

    private static readonly CultureInfo _invariant = CultureInfo.InvariantCulture;

    /// <summary>The words that tell a child what to be; <see cref="Run"/> reads them.</summary>
    public static string[] ArgumentsOf(LabRunSpec spec) =>
    [
        Word, spec.Model, Text(spec.Threads), Text(spec.Queue), Text(spec.Loops), Text(spec.Backlog),
        spec.StopsAccepting ? "1" : "0", Text((long)spec.HandlerTimeout.TotalMilliseconds),
        Text((long)spec.HeaderTimeout.TotalMilliseconds),
        Text(spec.Idle + spec.SlowClients + spec.Requests + 100),
    ];

    /// <summary>Serves until standard input ends; the exit code.</summary>
    public static int Run(string[] args)
    {
        if (args.Length != 10)
        {
            Console.Error.WriteLine("weir: \"lab-server\" is for \"weir lab\" to start");
            return 1;
        }
        int connections = Number(args[9]);
        if (!LabLimits.AllowDescriptors(connections))
        {
            Console.Error.WriteLine($"weir: {connections} connections need more descriptors than \"ulimit -n\" allows");
            return 1;
        }
        var spec = new LabRunSpec
        {
            Model = args[1],
            Title = "",
            Threads = Number(args[2]),
            Queue = Number(args[3]),
            Loops = Number(args[4]),
        };
        var ring = new AppEventRing(131072);
        var options = new AppServerOptions
        {
            Concurrency = spec.Concurrency,
            Backlog = Number(args[5]),
            QueueFull = args[6] == "1" ? QueueFull.StopAccepting : QueueFull.Refuse,
            HandlerTimeout = TimeSpan.FromMilliseconds(Number(args[7])),
            HeaderTimeout = TimeSpan.FromMilliseconds(Number(args[8])),
            IdleTimeout = TimeSpan.FromMinutes(10),
            MaxConnections = Math.Max(10_000, connections),
            StopTimeout = TimeSpan.Zero,
            Observer = ring,
            Metrics = false,
        };
        options.Listen.Add("127.0.0.1:0");
        var server = new AppServer(options);
        try
        {
            server.Start(HandleAsync);
        }
        catch (IOException e)
        {
            Console.Error.WriteLine("weir: " + e.Message);
            return 1;
        }
        Converse(server, ring);
        // What still runs has nobody left to answer to.
        Environment.Exit(0);
        return 0;
    }

    private static void Converse(AppServer server, AppEventRing ring)
    {
        using var output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false), 65536);
        output.Write($"{server.Port}\n");
        output.Flush();
        var line = new StringBuilder();
        long from = 0;
        while (Console.In.ReadLine() is not null)
        {
            AppServerMetrics m = server.GetMetrics();
            ResourceUsage used = ProcessControl.Usage();
            line.Clear();
            line.Append(_invariant, $"{AppEventRing.NowUs} {m.Threads} {used.VoluntarySwitches} ");
            line.Append(_invariant, $"{used.InvoluntarySwitches} {used.CpuUs} {m.Connections} {m.Queued} {m.Running} ");
            line.Append(_invariant, $"{m.Stuck} {m.Refused} {m.TimedOut} {m.Answered} ");
            line.Append(_invariant, $"{m.ThreadStackReservedBytes} {m.ThreadStackCommittedBytes}\n");
            foreach (AppServerEvent e in ring.Read(from, out from))
            {
                line.Append(_invariant, $"{(int)e.Kind} {e.Connection} {e.Request} {e.Thread} {e.Loop} ");
                line.Append(_invariant, $"{e.Status} {e.TimeUs}\n");
            }
            line.Append(".\n");
            output.Write(line);
            output.Flush();
        }
    }

    /// <summary>/?delay=MS&amp;cpu=MS&amp;block=1: the one handler of all models.</summary>
    private static async Task HandleAsync(AppRequest request, AppResponse response)
    {
        int delay = Number(request.QueryValue("delay") ?? "0");
        int cpu = Number(request.QueryValue("cpu") ?? "0");
        if (request.QueryValue("block") == "1")
        {
            Thread.Sleep(delay);
        }
        else if (delay > 0)
        {
            await Task.Delay(delay, request.Aborted);
        }
        if (cpu > 0)
        {
            Compute(cpu);
        }
        // By this number a client's marks meet the server's.
        response.Headers["X-Connection"] = request.Connection.ToString(_invariant);
        response.Write("Hello World\n"u8);
    }

    private static void Compute(int milliseconds)
    {
        var watch = Stopwatch.StartNew();
        ulong mixed = 1;
        while (watch.ElapsedMilliseconds < milliseconds)
        {
            for (int i = 0; i < 1000; i++)
            {
                mixed = (mixed * 6364136223846793005) + 1442695040888963407;
            }
        }
        GC.KeepAlive(mixed);
    }

    private static string Text(long number) => number.ToString(_invariant);

    private static int Number(string text) =>
        int.TryParse(text, NumberStyles.None, _invariant, out int number) ? number : 0;
}

/// <summary>What the machine allows a process of the laboratory.</summary>
internal static class LabLimits
{
    /// <summary>False when so many connections cannot be open at once.</summary>
    public static bool AllowDescriptors(int connections)
    {
        long needed = connections + 200;
        SysResult now = ProcessControl.GetLimit(ResourceLimit.OpenFiles);
        return (now.IsOk && now.Value >= needed) || ProcessControl.SetLimit(ResourceLimit.OpenFiles, needed).IsOk;
    }
}
