// The two kinds of handler as guest applications: requests and answers in their comfortable form, made for one exchange
// and cut off when it ends.
namespace Weir.Server;

/// <summary>A handler that awaits.</summary>
internal sealed class AsyncHandlerApplication(Func<AppRequest, AppResponse, Task> handler) : GuestApplication
{
    public override async Task RunAsync(GuestExchange exchange)
    {
        var request = new AppRequest(exchange);
        var response = new AppResponse(exchange);
        try
        {
            await handler(request, response);
        }
        finally
        {
            request.End();
            response.End();
        }
    }
}

/// <summary>A handler that returns when it is done.</summary>
internal sealed class SyncHandlerApplication(Action<AppRequest, AppResponse> handler) : GuestApplication
{
    public override bool WantsWholeBody => true;

    public override Task RunAsync(GuestExchange exchange)
    {
        var request = new AppRequest(exchange);
        var response = new AppResponse(exchange);
        try
        {
            handler(request, response);
        }
        finally
        {
            request.End();
            response.End();
        }
        return Task.CompletedTask;
    }
}
