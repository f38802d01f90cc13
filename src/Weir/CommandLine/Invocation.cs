// What a command line asks for, as a value. Made once by CommandLine.Parse at start, read by the program and by
// CommandAnswers; it opens nothing and prints nothing.
using Weir.Conf;
using Weir.Explain;
using Weir.Lab;

namespace Weir;

/// <summary>The kinds of work a command line can ask for.</summary>
internal enum InvocationAction
{
    /// <summary>Run the configuration at <see cref="Invocation.ConfPath"/>.</summary>
    Run,

    /// <summary>-t: read the configuration, open what it names, say whether a start would succeed.</summary>
    Test,

    /// <summary>-T: the same, then print every file that was read.</summary>
    TestDump,

    /// <summary>-v.</summary>
    Version,

    /// <summary>-V.</summary>
    VersionFull,

    /// <summary>-?, -h.</summary>
    Help,

    /// <summary>-s: tell the running master; the name is in <see cref="Invocation.Signal"/>.</summary>
    Signal,

    /// <summary>`weir serve`: run <see cref="Invocation.BuiltIn"/>.</summary>
    VerbServe,

    /// <summary>`weir proxy`: run <see cref="Invocation.BuiltIn"/>.</summary>
    VerbProxy,

    /// <summary>`weir app`: run <see cref="Invocation.App"/>.</summary>
    VerbApp,

    /// <summary>`weir lab`: run <see cref="Invocation.Lab"/>.</summary>
    VerbLab,

    /// <summary>`weir explain`: explain <see cref="Invocation.Explain"/>.</summary>
    VerbExplain,

    /// <summary>`weir help [TOPIC]`: the text is in <see cref="Invocation.Message"/>.</summary>
    VerbHelp,

    /// <summary>The command line makes no sense; why is in <see cref="Invocation.Message"/>.</summary>
    Error,
}

/// <summary>A command line, understood.</summary>
internal sealed record Invocation
{
    /// <summary>Where Debian's nginx looks, and so its configuration runs without a flag that names it.</summary>
    public const string DefaultConfPath = "/etc/nginx/nginx.conf";

    public const string DefaultPrefix = "/usr/share/nginx/";

    public required InvocationAction Action { get; init; }

    /// <summary>The main file, absolute; for a built-in configuration the name under which its text is known.</summary>
    public string ConfPath { get; init; } = DefaultConfPath;

    /// <summary>-p, absolute and with a slash at the end.</summary>
    public string Prefix { get; init; } = DefaultPrefix;

    /// <summary>-e: a path, "stderr", or empty when not given.</summary>
    public string ErrorLogPath { get; init; } = "";

    /// <summary>-g: directives of the main level, or empty.</summary>
    public string Globals { get; init; } = "";

    /// <summary>-q: `-t` speaks only of errors.</summary>
    public bool Quiet { get; init; }

    /// <summary>Rules of the linter that are off; null for all of them.</summary>
    public IReadOnlyList<string>? LintOff { get; init; } = [];

    /// <summary>stop, quit, reopen or reload.</summary>
    public string Signal { get; init; } = "";

    /// <summary>A configuration without a file: a verb's, or the one for no arguments at all. Else null.</summary>
    public BuiltInConfiguration? BuiltIn { get; init; }

    /// <summary>What `weir app` is to run; else null.</summary>
    public AppOptions? App { get; init; }

    /// <summary>What `weir lab` is to run; else null.</summary>
    public LabOptions? Lab { get; init; }

    /// <summary>What `weir explain` is to explain; else null.</summary>
    public ExplainOptions? Explain { get; init; }

    /// <summary>--print-conf: print the configuration that the verb stands for, and stop.</summary>
    public bool PrintConf { get; init; }

    /// <summary>-v, -V or -h beside -t: what to print first, on standard error.</summary>
    public InvocationAction? Preface { get; init; }

    /// <summary>The complaint, or the help text.</summary>
    public string Message { get; init; } = "";

    /// <summary>The exit code where nothing is run.</summary>
    public int ExitCode { get; init; }

    /// <summary>Whether a server is to be started.</summary>
    public bool IsStart =>
        Action is InvocationAction.Run or InvocationAction.VerbServe or InvocationAction.VerbProxy
            or InvocationAction.VerbApp;

    /// <summary>Where the configuration's bytes come from.</summary>
    public IConfFiles Files => BuiltIn is { } own ? own.Files : new DiskConfFiles();
}
