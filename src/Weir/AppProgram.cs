// What `weir app` runs: the application server with a handler that says hello after waiting or computing, so that the
// concurrency models can be tried from two terminals. In this process, without a master; signals stop it.
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Weir.Server;

namespace Weir;

internal sealed class AppProgram
{
    private readonly AppOptions _options;
    private readonly AppServer _server;

    private AppProgram(AppOptions options)
    {
        _options = options;
        _server = new AppServer(options.Server);
    }

    /// <summary>Serves until a signal; the exit code.</summary>
    public static int Run(AppOptions options) => new AppProgram(options).Run();

    private int Run()
    {
        try
        {
            // A handler that never awaits is a synchronous one: on a loop its body is read for it.
            if (_options.Awaits)
            {
                _server.Start(AnswerAsync);
            }
            else
            {
                _server.Start(Answer);
            }
        }
        catch (Exception e) when (e is IOException or ArgumentException)
        {
            Console.Error.WriteLine("weir: [emerg] " + e.Message);
            return 1;
        }
        Console.Error.WriteLine(Banner());
        void Stop(PosixSignalContext context)
        {
            context.Cancel = true;
            // A second signal ends it now.
            if (_server.StopAsync().IsCompleted || _stopping)
            {
                Environment.Exit(1);
            }
            _stopping = true;
        }

        using PosixSignalRegistration term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration quit = PosixSignalRegistration.Create(PosixSignal.SIGQUIT, Stop);
        _server.Stopped.GetAwaiter().GetResult();
        return 0;
    }

    private bool _stopping;

    private string Banner()
    {
        Concurrency model = _options.Server.Concurrency;
        string numbers = model.Kind switch
        {
            ConcurrencyKind.Sequential => "",
            ConcurrencyKind.ThreadPerConnection => $", at most {model.Threads} threads",
            ConcurrencyKind.ThreadPool => $", {model.Threads} threads, queue {model.Queue}",
            ConcurrencyKind.EventDrivenWithThreadPool =>
                $", {model.Loops} loop(s), {model.Threads} threads, queue {model.Queue}",
            _ => $", {model.Loops} loop(s)",
        };
        string addresses = string.Join(", ", _server.Addresses.Select(static a =>
            a.StartsWith("unix:", StringComparison.Ordinal) ? a
            : a.StartsWith("https:", StringComparison.Ordinal) ? a + "/" : $"http://{a}/"));
        string trust = _options.Certificate is not { } certificate ? ""
            : certificate.IsNew ? certificate.HowToTrust + "\n"
            : $"Certificate: {certificate.CertificatePath} (\"weir help https\" says how to trust it)\n";
        return $"An application server ({model.Name}{numbers}) on {addresses}\n{trust}"
            + "/?delay=2s and /?cpu=10ms ask for other times, /status says what it is doing. Stop it with Ctrl-C.";
    }

    private void Answer(AppRequest request, AppResponse response)
    {
        if (Begin(request, response, out TimeSpan delay, out TimeSpan cpu))
        {
            if (delay > TimeSpan.Zero)
            {
                Thread.Sleep(delay);
            }
            Compute(cpu);
            End(response);
        }
    }

    private async Task AnswerAsync(AppRequest request, AppResponse response)
    {
        if (Begin(request, response, out TimeSpan delay, out TimeSpan cpu))
        {
            if (delay > TimeSpan.Zero)
            {
                await Task.Delay(delay, request.Aborted);
            }
            Compute(cpu);
            End(response);
        }
    }

    /// <summary>False when the answer is made already.</summary>
    private bool Begin(AppRequest request, AppResponse response, out TimeSpan delay, out TimeSpan cpu)
    {
        delay = _options.Delay;
        cpu = _options.Cpu;
        response.ContentType = "text/plain";
        if (request.Path == "/status")
        {
            response.ContentType = "application/json";
            response.Write(Status());
            return false;
        }
        if (!TryTake(request, "delay", ref delay) || !TryTake(request, "cpu", ref cpu))
        {
            response.StatusCode = 400;
            response.Write("a time is 500ms, 10s or 2m, an hour at most\n");
            return false;
        }
        return true;
    }

    private static bool TryTake(AppRequest request, string name, ref TimeSpan time) =>
        request.Query.Length == 0 || request.QueryValue(name) is not { } text
        || AppVerb.TryTime(text, out time) && time <= AppVerb.LongestWait;

    private static void End(AppResponse response)
    {
        response.Headers["X-Thread"] = Environment.CurrentManagedThreadId.ToString(CultureInfo.InvariantCulture);
        response.Write("Hello World\n"u8);
    }

    private static void Compute(TimeSpan time)
    {
        if (time <= TimeSpan.Zero)
        {
            return;
        }
        var watch = Stopwatch.StartNew();
        ulong mixed = 0;
        while (watch.Elapsed < time)
        {
            for (int i = 0; i < 1000; i++)
            {
                mixed = (mixed * 6364136223846793005) + 1442695040888963407;
            }
        }
        GC.KeepAlive(mixed);
    }

    private string Status()
    {
        AppServerMetrics m = _server.GetMetrics();
        return string.Create(CultureInfo.InvariantCulture, $$"""
            {"model":"{{_options.Server.Concurrency.Name}}","connections":{{m.Connections}},"idle":{{m.Idle}},
            """ + $$"""
            "queued":{{m.Queued}},"running":{{m.Running}},"threads":{{m.Threads}},"stuck":{{m.Stuck}},
            """ + $$"""
            "timed_out":{{m.TimedOut}},"refused":{{m.Refused}},"accepted":{{m.Accepted}},"answered":{{m.Answered}},
            """ + $$"""
            "failed":{{m.Failed}},"thread_stack_reserved":{{m.ThreadStackReservedBytes}},
            """ + $$"""
            "thread_stack_committed":{{m.ThreadStackCommittedBytes}}}

            """);
    }
}
