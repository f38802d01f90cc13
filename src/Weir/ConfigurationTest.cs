// -t, -T and -s: what reads a configuration without serving it. Texts and exit codes are nginx's.
using Weir.Conf;
using Weir.Kernel;
using Weir.Lint;
using Weir.Process;

namespace Weir;

internal static class ConfigurationTest
{
    public static int Run(ConfigurationReader reader, Invocation invocation)
    {
        Reading reading = reader.Read();
        ConfigurationReader.Report(reading.Tree.Errors, invocation.Quiet);
        if (reading.Plan is not null && !invocation.Quiet && invocation.LintOff is { } off)
        {
            Lint(reading.Tree, invocation, off);
        }
        var log = new Log(new ConsoleLogSink());
        if (reading.Plan is null)
        {
            Console.Error.WriteLine($"weir: configuration file {invocation.ConfPath} test failed");
            return 1;
        }
        if (!invocation.Quiet)
        {
            Console.Error.WriteLine($"weir: the configuration file {invocation.ConfPath} syntax is ok");
        }
        if (!MasterEntry.Test(reading.Plan, log))
        {
            Console.Error.WriteLine($"weir: configuration file {invocation.ConfPath} test failed");
            return 1;
        }
        if (!invocation.Quiet)
        {
            Console.Error.WriteLine($"weir: configuration file {invocation.ConfPath} test is successful");
        }
        if (invocation.Action == InvocationAction.TestDump)
        {
            using Stream output = Console.OpenStandardOutput();
            ConfDump.Write(reading.Tree, output);
        }
        return 0;
    }

    private static void Lint(ConfTree tree, Invocation invocation, IReadOnlyList<string> off)
    {
        long descriptors = ProcessControl.GetLimit(ResourceLimit.OpenFiles).Value;
        var settings = new LintSettings(Path.GetDirectoryName(invocation.ConfPath) ?? "/", descriptors,
            new HashSet<string>(off));
        foreach (ConfError finding in Linter.Check(tree, settings))
        {
            Console.Error.WriteLine("weir: " + finding.Render().TrimEnd('\n'));
        }
    }

    /// <summary>Tells the master whose id the configuration's pid file holds.</summary>
    public static int Signal(ConfigurationReader reader, string word)
    {
        Reading reading = reader.Read();
        ConfigurationReader.Report(reading.Tree.Errors, quiet: true);
        return reading.Plan is null ? 1 : SignalCommand.Send(word, reading.Plan.PidPath, new Log(new ConsoleLogSink()));
    }
}
