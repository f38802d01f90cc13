// Kestrel as a peer of the benches: the same answers, on a port of 127.0.0.1, without logging and without middleware.
//   kestrel PORT FILES
using System.Net;

int port = int.Parse(args[0]);
string files = args[1];
var builder = WebApplication.CreateSlimBuilder();
builder.Logging.ClearProviders();
builder.WebHost.ConfigureKestrel(o => o.Listen(IPAddress.Loopback, port));
WebApplication app = builder.Build();
byte[] hello = "hello, world\n"u8.ToArray();
app.Run(async context =>
{
    string path = context.Request.Path.Value!;
    if (path.StartsWith("/r/", StringComparison.Ordinal) || path == "/")
    {
        context.Response.ContentType = "text/plain";
        context.Response.ContentLength = hello.Length;
        await context.Response.Body.WriteAsync(hello);
        return;
    }
    string file = files + path;
    if (!File.Exists(file))
    {
        context.Response.StatusCode = 404;
        return;
    }
    context.Response.ContentType = path.EndsWith(".html", StringComparison.Ordinal)
        ? "text/html" : "application/octet-stream";
    await context.Response.SendFileAsync(file);
});
app.Run();
