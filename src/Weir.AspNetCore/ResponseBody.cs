// The body of an answer as a PipeWriter: memory comes from the server's slabs, so what is written here is what is sent.
// Reused for every request of an exchange; between requests it refuses to be used.
using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Weir.Server;

namespace Weir.AspNetCore;

internal sealed class ResponseBody(HttpFeatures features) : PipeWriter
{
    /// <summary>More than this is sent before more is written.</summary>
    private const long HeldBytesMax = 32 * 1024;

    private GuestExchange? _exchange;
    private long _flushedBytes;
    private bool _isFlushCanceled;

    internal bool IsComplete { get; set; }

    internal void Begin(GuestExchange exchange)
    {
        _exchange = exchange;
        _flushedBytes = 0;
        _isFlushCanceled = false;
        IsComplete = false;
    }

    internal void End() => _exchange = null;

    private GuestExchange Exchange => _exchange ?? throw new ObjectDisposedException(nameof(HttpResponse),
        "the request has ended");

    public override bool CanGetUnflushedBytes => true;

    public override long UnflushedBytes => Exchange.BodyBytes - _flushedBytes;

    public override Memory<byte> GetMemory(int sizeHint = 0)
    {
        CheckMayWrite();
        return Exchange.GetMemory(sizeHint);
    }

    public override Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

    public override void Advance(int bytes) => Exchange.Advance(bytes);

    public override ValueTask<FlushResult> WriteAsync(ReadOnlyMemory<byte> source,
        CancellationToken cancellationToken = default)
    {
        CheckMayWrite();
        if (features.HasStarted)
        {
            Exchange.Write(source.Span);
            return FlushAsync(cancellationToken);
        }
        ValueTask starting = features.StartResponseAsync();
        if (!starting.IsCompletedSuccessfully)
        {
            return WriteSlowAsync(starting, source, cancellationToken);
        }
        Exchange.Write(source.Span);
        return FlushAsync(cancellationToken);
    }

    private async ValueTask<FlushResult> WriteSlowAsync(ValueTask starting, ReadOnlyMemory<byte> source,
        CancellationToken cancellationToken)
    {
        await starting;
        Exchange.Write(source.Span);
        return await FlushAsync(cancellationToken);
    }

    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default)
    {
        GuestExchange exchange = Exchange;
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<FlushResult>(cancellationToken);
        }
        if (!features.HasStarted)
        {
            ValueTask starting = features.StartResponseAsync();
            if (!starting.IsCompletedSuccessfully)
            {
                return FlushSlowAsync(starting, cancellationToken);
            }
        }
        long unflushed = exchange.BodyBytes - _flushedBytes;
        _flushedBytes = exchange.BodyBytes;
        ValueTask<bool> flushing = unflushed > HeldBytesMax ? exchange.FlushAsync() : exchange.FlushSoonAsync();
        return flushing.IsCompletedSuccessfully ? new ValueTask<FlushResult>(Result(flushing.Result))
            : AwaitFlushAsync(flushing, exchange, cancellationToken);
    }

    private async ValueTask<FlushResult> FlushSlowAsync(ValueTask starting, CancellationToken cancellationToken)
    {
        await starting;
        return await FlushAsync(cancellationToken);
    }

    private async ValueTask<FlushResult> AwaitFlushAsync(ValueTask<bool> flushing, GuestExchange exchange,
        CancellationToken cancellationToken)
    {
        if (!cancellationToken.CanBeCanceled || cancellationToken == exchange.Aborted)
        {
            return Result(await flushing);
        }
        // Bytes that are half on their way cannot be taken back: who stops waiting for them ends the connection.
        using CancellationTokenRegistration registration =
            cancellationToken.UnsafeRegister(static x => ((GuestExchange)x!).Abort(), exchange);
        bool sent = await flushing;
        if (!sent)
        {
            cancellationToken.ThrowIfCancellationRequested();
        }
        return Result(sent);
    }

    private FlushResult Result(bool sent)
    {
        bool canceled = _isFlushCanceled;
        _isFlushCanceled = false;
        return new FlushResult(canceled, isCompleted: !sent);
    }

    public override void CancelPendingFlush() => _isFlushCanceled = true;

    public override void Complete(Exception? exception = null)
    {
        if (exception is not null)
        {
            Exchange.Abort();
        }
        IsComplete = true;
    }

    internal void WriteNow(ReadOnlySpan<byte> bytes)
    {
        features.CheckSynchronous("Write");
        CheckMayWrite();
        StartNow();
        Exchange.Write(bytes);
        if (UnflushedBytes > HeldBytesMax)
        {
            FlushNow();
        }
    }

    internal void FlushNow()
    {
        features.CheckSynchronous("Flush");
        StartNow();
        _flushedBytes = Exchange.BodyBytes;
        Exchange.Flush();
    }

    private void StartNow()
    {
        ValueTask starting = features.StartResponseAsync();
        if (!starting.IsCompletedSuccessfully)
        {
            starting.AsTask().GetAwaiter().GetResult();
        }
    }

    internal void CheckMayWrite()
    {
        if (IsComplete)
        {
            throw new InvalidOperationException("the answer is complete: nothing can be written any more");
        }
        if (!HttpFeatures.MayHaveBody(features.StatusCode))
        {
            throw new InvalidOperationException($"an answer of status {features.StatusCode} has no body");
        }
    }
}
