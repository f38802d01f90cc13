// Runs one step of the road from one request at a time to event-driven (docs/concurrency.md):
//   dotnet run --project samples/concurrency -- 3        then, elsewhere: time curl localhost:8080
using Samples;
using Weir.Server;

TimeSpan work = TimeSpan.FromSeconds(args.Length > 1 ? int.Parse(args[1]) : 1);
const string listen = "127.0.0.1:8080";
AppServer? server = args.FirstOrDefault() switch
{
    "1" => Step1Sequential.Start(listen, work),
    "2" => Step2ThreadPerConnection.Start(listen, work),
    "3" => Step3ThreadPool.Start(listen, work),
    "4" => Step4EventDrivenBlocked.Start(listen, work),
    "5" => Step5EventDriven.Start(listen, work),
    "6" => Step6EventDrivenWithThreadPool.Start(listen, work),
    _ => null,
};
if (server is null)
{
    Console.Error.WriteLine("which step? 1 to 6, then the seconds that each request takes");
    return 1;
}
Console.WriteLine($"{server.Concurrency.Name} on http://{server.Addresses[0]}/, {work.TotalSeconds} s a request");
Console.CancelKeyPress += (_, e) =>
{
    e.Cancel = true;
    server.StopAsync();
};
await server.Stopped;
return 0;
