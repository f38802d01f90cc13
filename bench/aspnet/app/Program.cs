// The application that both servers are measured with: BenchApp kestrel|pool|inline URL DIRECTORY. The same
// pipeline, the same settings, no logging; only the server differs.
using Weir.AspNetCore;
using Weir.Server;

string server = args[0];
WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions
{
    ContentRootPath = args[2],
    WebRootPath = args[2],
    EnvironmentName = "Production",
});
builder.Logging.ClearProviders();
builder.WebHost.UseUrls(args[1]);
if (server != "kestrel")
{
    builder.WebHost.UseWeir(options =>
    {
        bool inline = server.StartsWith("inline", StringComparison.Ordinal);
        options.Requests = inline ? RequestPlacement.Inline : RequestPlacement.ThreadPool;
        options.Loops = 1;
        options.Engine = server.EndsWith("epoll", StringComparison.Ordinal) ? LoopEngine.Epoll : LoopEngine.Best;
        options.Limits.MaxConcurrentConnections = 20_000;
    });
}
WebApplication app = builder.Build();
app.UseStaticFiles();
app.MapGet("/plaintext", static () => "Hello, World!");
app.MapGet("/collect", static () =>
{
    GC.Collect(2, GCCollectionMode.Aggressive, blocking: true, compacting: true);
    return GC.GetTotalMemory(true).ToString(System.Globalization.CultureInfo.InvariantCulture);
});
// How much the JIT has compiled so far: a measurement begins when that no longer grows.
app.MapGet("/compiled", static () => System.Runtime.JitInfo.GetCompiledMethodCount()
    .ToString(System.Globalization.CultureInfo.InvariantCulture));
app.MapGet("/allocated", static () => GC.GetTotalAllocatedBytes(precise: true)
    .ToString(System.Globalization.CultureInfo.InvariantCulture));
app.Run();
