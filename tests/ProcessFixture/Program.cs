// A server of ten lines under the real master: its configuration is a few words, its workers answer each connection
// with "pid generation answer" and log it. So master, channel, snapshot and both roads of a reload are tested as
// processes, without a web server. Usage: process-fixture FILE
using Weir.Process;
using Weir.Tests.ProcessFixture;

Role worker = new(
    Role.WorkerName, "weir: worker process", RestartPolicy.Always, static host => new EchoWorker(host).Run());
if (RoleEntry.TryRun([worker], out int code))
{
    return code;
}
args = RoleEntry.Arguments(args);
return MasterEntry.Run(new MasterLaunch
{
    Program = new EchoMaster(args[0]),
    WorkerRole = worker,
    Arguments = args,
    Version = "fixture/1",
});
