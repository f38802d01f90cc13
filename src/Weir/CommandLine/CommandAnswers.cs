// What a command line gets as an answer without a server being started: versions, help, complaints, a printed
// configuration, and the name of whoever holds the port that a verb wants. Writes to the console; start-up only.
using Weir.Kernel;

namespace Weir;

internal static class CommandAnswers
{
    /// <summary>True when the invocation is answered and the process shall end with <paramref name="exitCode"/>.
    /// Otherwise what precedes the work (the version of `-vt`) has been printed.</summary>
    public static bool TryAnswer(Invocation invocation, out int exitCode)
    {
        exitCode = invocation.ExitCode;
        if (invocation.Preface is { } preface)
        {
            Console.Error.Write(TextOf(preface));
        }
        switch (invocation.Action)
        {
            case InvocationAction.Version or InvocationAction.VersionFull or InvocationAction.Help:
                // To standard error, as nginx: scripts read `nginx -V 2>&1`.
                Console.Error.Write(TextOf(invocation.Action));
                return true;
            case InvocationAction.VerbHelp:
                Console.Out.Write(invocation.Message);
                return true;
            case InvocationAction.Error:
                foreach (string line in invocation.Message.Split('\n'))
                {
                    Console.Error.WriteLine("weir: " + line);
                }
                return true;
            default:
                break;
        }
        if (invocation.BuiltIn is not { } builtIn)
        {
            return false;
        }
        if (invocation.PrintConf)
        {
            Console.Out.Write(builtIn.Text);
            return true;
        }
        if (HeldBy(builtIn) is { } complaint)
        {
            Console.Error.WriteLine("weir: [emerg] " + complaint);
            exitCode = 1;
            return true;
        }
        return false;
    }

    /// <summary>A new binary beside a running one inherits the very sockets that are in use.</summary>
    private static bool TakesOver => Environment.GetEnvironmentVariable("WEIR") is { Length: > 0 };

    private static string TextOf(InvocationAction action) => action switch
    {
        InvocationAction.Help => VersionText.Short + HelpText.Of("flags")
            + "\nWithout flags: \"weir serve\", \"weir proxy\" and \"weir help\".\n",
        InvocationAction.VersionFull => VersionText.Full,
        _ => VersionText.Short,
    };

    /// <summary>Who listens already where a built-in configuration wants to; null when nobody does.</summary>
    private static string? HeldBy(BuiltInConfiguration configuration)
    {
        if (TakesOver)
        {
            return null;
        }
        foreach (string listen in configuration.Listens)
        {
            if (!SocketAddress.TryParse(listen, 80, out SocketAddress? address, out string _)
                || address!.UnixPath is not null)
            {
                continue;
            }
            ListenFailure failure = ListenSocket.Probe(new ListenSpec { Address = address }, false);
            if (failure.Errno == Errno.EADDRINUSE)
            {
                return $"{address} is in use by {PortOwner.Describe(address.Port)}\nweir: another port: "
                    + (configuration.Path.Contains("welcome", StringComparison.Ordinal)
                        ? "weir serve DIR --port N" : "--port N or --listen ADDR");
            }
        }
        return null;
    }
}
