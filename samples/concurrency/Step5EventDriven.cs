// Step 5: the same loop, and a handler that awaits: all wait together, on one thread.
using Weir.Server;

namespace Samples;

public static class Step5EventDriven
{
    public static AppServer Start(string listen, TimeSpan work)
    {
        var options = new AppServerOptions
        {
            Concurrency = Concurrency.EventDriven(loops: 1),
        };
        options.Listen.Add(listen);
        var server = new AppServer(options);
        server.Start(async (request, response) =>
        {
            await Task.Delay(work, request.Aborted);
            response.Write("Hello World\n");
        });
        return server;
    }
}
