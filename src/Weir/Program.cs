// The executable: nginx's command line, the verbs, and the one place where a role meets its work.
using Weir.Conf;
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;
using Weir.Server;
using Weir.Zones;

string conf = "/etc/nginx/nginx.conf";
string prefix = "/usr/share/nginx";
string? globals = null;
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
var counters = CounterSlots.CreatePrivate();
ConfTree tree = ConfParser.Parse(new DiskConfFiles(), conf, globals);
var resources = new OwnResources(prefix, Path.GetDirectoryName(conf)!, counters);
var build = new HttpBuild(resources, tree.Errors);
HttpConfiguration configuration = build.Run(tree);
foreach (ConfError error in tree.Errors.All)
{
    Console.Error.WriteLine("weir: " + error.Render());
}
if (tree.Errors.Failed)
{
    return 1;
}
var loop = new EpollLoop();
string? failed = null;
WebServer.Start(loop, build, configuration, counters[counters.Claim()], spec =>
{
    int fd = ListenSocket.Open(spec, spec.ReusePort, out ListenFailure failure);
    if (fd < 0)
    {
        failed = $"{failure.Call} to {spec.Address} failed ({failure.Errno}: {Errno.Describe(failure.Errno)})";
        return [];
    }
    return [fd];
});
if (failed is not null)
{
    Console.Error.WriteLine($"weir: [emerg] {failed}");
    return 1;
}
loop.Run();
return 0;
