// An ASP.NET Core application as a guest of the server: makes the context, runs the pipeline, ends the answer. What it
// throws is logged here, with its type and stack, and becomes an answer or the end of the connection at the border.
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Weir.Server;

namespace Weir.AspNetCore;

internal sealed partial class AspNetApplication<TContext>(IHttpApplication<TContext> application,
    AspNetServerSettings settings) : GuestApplication where TContext : notnull
{
    public override Task RunAsync(GuestExchange exchange)
    {
        if (exchange.Tag is not HttpFeatures<TContext> features || features.Settings != settings)
        {
            features = new HttpFeatures<TContext>(settings);
            exchange.Tag = features;
        }
        features.Begin(exchange);
        TContext context = application.CreateContext(features);
        Task running;
        try
        {
            running = application.ProcessRequestAsync(context);
            if (running.IsCompletedSuccessfully && !features.HasCallbacks)
            {
                EndAnswer(features);
                application.DisposeContext(context, null);
                features.End();
                return Task.CompletedTask;
            }
        }
        catch (Exception e)
        {
            running = Task.FromException(e);
        }
        return RunSlowAsync(features, context, running);
    }

    private static void EndAnswer(HttpFeatures features)
    {
        ValueTask starting = features.StartResponseAsync();
        System.Diagnostics.Debug.Assert(starting.IsCompletedSuccessfully, "a callback of the start was overlooked");
        features.CheckLength();
        features.CopyTrailers();
    }

    private async Task RunSlowAsync(HttpFeatures<TContext> features, TContext context, Task running)
    {
        Exception? failure = null;
        try
        {
            await running;
            await features.StartResponseAsync();
            features.CheckLength();
            features.CopyTrailers();
            if (features.HasCompletedCallbacks)
            {
                // They may take their time: the client does not wait for them.
                await features.CompleteAsync();
            }
        }
        catch (Exception e)
        {
            failure = e;
        }
        RequestBodyException? outcome = failure is null ? null : OutcomeOf(failure, features);
        await features.FireCompletedAsync(e => LogCallbackFailed(settings.Log, e, features.TraceIdentifier));
        application.DisposeContext(context, failure);
        features.End();
        if (outcome is not null)
        {
            throw outcome;
        }
    }

    private RequestBodyException OutcomeOf(Exception failure, HttpFeatures features)
    {
        if (failure is BadHttpRequestException bad)
        {
            LogBadRequest(settings.Log, bad.StatusCode, features.TraceIdentifier, bad.Message);
            return new RequestBodyException(bad.StatusCode, bad.Message);
        }
        if (features.Exchange.IsAborted && failure is OperationCanceledException or IOException)
        {
            LogClientGone(settings.Log, features.TraceIdentifier);
            return new RequestBodyException(499, "the client went");
        }
        LogFailed(settings.Log, failure, features.TraceIdentifier);
        return new RequestBodyException(500, "the application failed");
    }

    [LoggerMessage(1, LogLevel.Error, "Request {TraceIdentifier}: the application threw, and nobody caught it")]
    private static partial void LogFailed(ILogger log, Exception e, string traceIdentifier);

    [LoggerMessage(2, LogLevel.Error, "Request {TraceIdentifier}: a callback of OnCompleted threw an exception")]
    private static partial void LogCallbackFailed(ILogger log, Exception e, string traceIdentifier);

    [LoggerMessage(3, LogLevel.Information, "Request {TraceIdentifier}: refused with {Status}: {Reason}")]
    private static partial void LogBadRequest(ILogger log, int status, string traceIdentifier, string reason);

    [LoggerMessage(4, LogLevel.Debug, "Request {TraceIdentifier}: the client went before its answer")]
    private static partial void LogClientGone(ILogger log, string traceIdentifier);
}
