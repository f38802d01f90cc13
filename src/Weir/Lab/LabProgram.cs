// What `weir lab` runs: experiments in the terminal, or the page. In this process; each server under test is a process
// of its own.
using System.Runtime.InteropServices;
using System.Text;

namespace Weir.Lab;

internal static class LabProgram
{
    /// <summary>Runs to the end; the exit code.</summary>
    public static int Run(LabOptions options)
    {
        using var stop = new CancellationTokenSource();
        void Stop(PosixSignalContext context)
        {
            context.Cancel = true;
            stop.Cancel();
        }

        using PosixSignalRegistration term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration quit = PosixSignalRegistration.Create(PosixSignal.SIGQUIT, Stop);
        try
        {
            return (options.IsWeb ? LabWeb.RunAsync(options, stop.Token) : RunAsync(options, stop.Token))
                .GetAwaiter().GetResult();
        }
        catch (IOException e)
        {
            Console.Error.WriteLine("weir: [emerg] " + e.Message);
            return 1;
        }
    }

    private static async Task<int> RunAsync(LabOptions options, CancellationToken stop)
    {
        // Said before anything is measured, not after.
        foreach (string? path in new[] { options.JsonPath, options.SvgPath })
        {
            if (path is not null && Path.GetDirectoryName(path) is { Length: > 0 } folder && !Directory.Exists(folder))
            {
                throw new IOException($"there is no folder \"{folder}\" to save in");
            }
        }
        bool coloured = LabTerminal.IsTerminal;
        bool many = options.Experiments.Count() > 1;
        int failed = 0;
        foreach (string name in options.Experiments)
        {
            LabPlan plan = LabPlan.Of(name, options);
            var session = new LabSession(plan);
            Write(LabTerminal.Bold(plan.Title, coloured) + "\n", plan.Question + "\n\n");
            Task run = session.RunAsync(stop);
            if (coloured)
            {
                await LabTerminal.LiveAsync(session);
            }
            await run;
            LabView[] views = session.Views();
            if (!coloured)
            {
                Write(LabTerminal.Table(views));
            }
            foreach (LabView view in views)
            {
                Write("\n", LabTerminal.Timeline(view, LabTerminal.Columns, coloured));
                failed += view.State == LabState.Failed ? 1 : 0;
            }
            Write("\n", LabTerminal.Legend(coloured), many ? "\n" : "");
            Save(options.JsonPath, many ? name : "", LabJson.Result(plan, views));
            Save(options.SvgPath, many ? name : "",
                Encoding.UTF8.GetBytes(LabSvg.File(plan.Title, plan.Question, views)));
            if (stop.IsCancellationRequested)
            {
                return 1;
            }
        }
        return failed > 0 ? 1 : 0;
    }

    /// <summary>Several experiments make several files: the name goes before the extension.</summary>
    private static void Save(string? path, string name, byte[] content)
    {
        if (path is null)
        {
            return;
        }
        string file = name.Length == 0 ? path
            : Path.Combine(Path.GetDirectoryName(path) ?? "",
                $"{Path.GetFileNameWithoutExtension(path)}-{name}{Path.GetExtension(path)}");
        try
        {
            File.WriteAllBytes(file, content);
        }
        catch (Exception e) when (e is UnauthorizedAccessException or IOException)
        {
            throw new IOException($"cannot write \"{file}\"", e);
        }
        Console.Error.WriteLine($"saved {file}");
    }

    private static void Write(params ReadOnlySpan<string> texts)
    {
        foreach (string text in texts)
        {
            Console.Out.Write(text);
        }
        Console.Out.Flush();
    }
}
