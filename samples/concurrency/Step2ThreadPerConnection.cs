// Step 2: a thread for every connection. Nobody waits for anybody, and every connection costs a stack.
using Weir.Server;

namespace Samples;

public static class Step2ThreadPerConnection
{
    public static AppServer Start(string listen, TimeSpan work)
    {
        var options = new AppServerOptions
        {
            Concurrency = Concurrency.ThreadPerConnection(limit: 1000),
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
