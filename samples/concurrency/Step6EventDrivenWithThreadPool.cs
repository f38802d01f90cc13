// Step 6: loops for connections, threads for handlers: idle and slow clients cost nothing, code may block.
using Weir.Server;

namespace Samples;

public static class Step6EventDrivenWithThreadPool
{
    public static AppServer Start(string listen, TimeSpan work)
    {
        var options = new AppServerOptions
        {
            Concurrency = Concurrency.EventDrivenWithThreadPool(loops: 1, threads: 10, queue: 100),
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
