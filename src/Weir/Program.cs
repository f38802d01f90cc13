// The executable: a role when it was started as one, else nginx's command line and the verbs. The one place where a
// role meets its work.
using Weir;
using Weir.Conf;
using Weir.Explain;
using Weir.Kernel;
using Weir.Lab;
using Weir.Process;

Role worker = new(Role.WorkerName, "weir: worker process", RestartPolicy.Always, WorkerProgram.Run);
if (RoleEntry.TryRun([worker, CacheProgram.Manager, CacheProgram.Loader], out int exitCode))
{
    return exitCode;
}
args = RoleEntry.Arguments(args);
if (args is [LabServerProgram.Word, ..])
{
    return LabServerProgram.Run(args);
}
bool isUpgrade = Environment.GetEnvironmentVariable("WEIR_ROLE") is not null;
Invocation invocation = CommandLine.Parse(args);
if (!isUpgrade && CommandAnswers.TryAnswer(invocation, out exitCode))
{
    return exitCode;
}
if (invocation.Lab is { } lab)
{
    return LabProgram.Run(lab);
}
if (invocation.Explain is { } explain)
{
    return ExplainVerb.Run(explain);
}
if (invocation.App is { } app)
{
    return AppProgram.Run(app);
}
var source = new ConfigurationSource(invocation.Files, invocation.ConfPath, invocation.Prefix, invocation.Globals,
    invocation.ErrorLogPath);
var reader = new ConfigurationReader(source);
switch (invocation.Action)
{
    case InvocationAction.Test or InvocationAction.TestDump:
        return ConfigurationTest.Run(reader, invocation);
    case InvocationAction.Signal:
        return ConfigurationTest.Signal(reader, invocation.Signal);
    default:
        if (!isUpgrade && invocation.BuiltIn is { } builtIn)
        {
            Console.Error.WriteLine(builtIn.Banner);
        }
        return MasterEntry.Run(new MasterLaunch
        {
            Program = reader,
            WorkerRole = worker,
            Arguments = args,
            Version = VersionText.Product,
        });
}
