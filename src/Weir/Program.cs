// The executable: a role when it was started as one, else nginx's command line and the verbs. The one place where a role
// meets its work.
using Weir;
using Weir.Conf;
using Weir.Process;

Role worker = new(Role.WorkerName, "weir: worker process", RestartPolicy.Always, WorkerProgram.Run);
if (RoleEntry.TryRun([worker], out int exitCode))
{
    return exitCode;
}
args = RoleEntry.Arguments(args);
string conf = "/etc/nginx/nginx.conf";
string prefix = "/usr/share/nginx";
string globals = "";
for (int i = 0; i + 1 < args.Length; i++)
{
    switch (args[i])
    {
        case "-c":
            conf = Path.GetFullPath(args[++i]);
            break;
        case "-p":
            prefix = Path.GetFullPath(args[++i]);
            break;
        case "-g":
            globals = args[++i];
            break;
    }
}
var source = new ConfigurationSource(new DiskConfFiles(), conf, prefix, globals, "");
return MasterEntry.Run(new MasterLaunch
{
    Program = new ConfigurationReader(source),
    WorkerRole = worker,
    Arguments = args,
    Version = "weir/0.1.0",
});
