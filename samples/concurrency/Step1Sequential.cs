// Step 1: one thread does everything. Who comes second waits until the first has been answered.
using Weir.Server;

namespace Samples;

public static class Step1Sequential
{
    public static AppServer Start(string listen, TimeSpan work)
    {
        var options = new AppServerOptions
        {
            Concurrency = Concurrency.Sequential,
        };
        options.Listen.Add(listen);
        var server = new AppServer(options);
        server.Start((request, response) =>
        {
            Thread.Sleep(work);
            response.Write("Hello World\n");
        });
        return server;
    }
}
