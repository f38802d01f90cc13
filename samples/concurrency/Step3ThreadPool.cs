// Step 3: ten threads, whoever comes. Thirty requests come in three waves; slow clients hold threads too.
using Weir.Server;

namespace Samples;

public static class Step3ThreadPool
{
    public static AppServer Start(string listen, TimeSpan work)
    {
        var options = new AppServerOptions
        {
            Concurrency = Concurrency.ThreadPool(threads: 10, queue: 100),
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
