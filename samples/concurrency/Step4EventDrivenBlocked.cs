// Step 4: one thread watches all sockets, and runs the handlers. One that blocks stalls everyone.
using Weir.Server;

namespace Samples;

public static class Step4EventDrivenBlocked
{
    public static AppServer Start(string listen, TimeSpan work)
    {
        var options = new AppServerOptions
        {
            Concurrency = Concurrency.EventDriven(loops: 1),
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
