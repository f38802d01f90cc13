// The request's body, the answer's body and an upgraded connection as streams. Thin: everything happens in the features
// they belong to. The stream of one request refuses to serve when that has ended.
using System.IO.Pipelines;

namespace Weir.AspNetCore;

/// <summary>What the three have in common: no seeking, no lengths.</summary>
internal abstract class BodyStream : Stream
{
    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override bool CanRead => false;

    public override bool CanWrite => false;

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override int Read(Span<byte> buffer) => throw new NotSupportedException();

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer) => throw new NotSupportedException();

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        throw new NotSupportedException();

    public override void Flush()
    {
    }
}

/// <summary>The body of a request.</summary>
internal sealed class RequestStream(HttpFeatures features) : BodyStream
{
    public override bool CanRead => true;

    public override int Read(Span<byte> buffer) => features.ReadBody(buffer);

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        features.ReadBodyAsync(buffer, cancellationToken);
}

/// <summary>The body of an answer.</summary>
internal sealed class ResponseStream(ResponseBody body) : BodyStream
{
    public override bool CanWrite => true;

    public override void Write(ReadOnlySpan<byte> buffer) => body.WriteNow(buffer);

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ValueTask<FlushResult> written = body.WriteAsync(buffer, cancellationToken);
        if (written.IsCompletedSuccessfully)
        {
            _ = written.Result;
            return default;
        }
        return Await(written);

        static async ValueTask Await(ValueTask<FlushResult> written) => await written;
    }

    public override void Flush() => body.FlushNow();

    public override Task FlushAsync(CancellationToken cancellationToken) =>
        body.FlushAsync(cancellationToken).AsTask();
}

/// <summary>A connection that speaks another protocol now, in both directions at the same time.</summary>
internal sealed class UpgradedStream(HttpFeatures features) : BodyStream
{
    private bool _disposed;

    public override bool CanRead => true;

    public override bool CanWrite => true;

    public override int Read(Span<byte> buffer)
    {
        features.CheckSynchronous("Read");
        return features.Exchange.Read(buffer);
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        Server.GuestExchange exchange = features.Exchange;
        using CancellationTokenRegistration registration = !cancellationToken.CanBeCanceled
            || cancellationToken == exchange.Aborted ? default
            : cancellationToken.UnsafeRegister(static x => ((Server.GuestExchange)x!).CancelRead(), exchange);
        try
        {
            return await exchange.ReadAsync(buffer);
        }
        catch (Server.RequestBodyException e)
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw new Microsoft.AspNetCore.Connections.ConnectionResetException("the client went", e);
        }
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        features.CheckSynchronous("Write");
        features.Exchange.Write(buffer);
        features.Exchange.Flush();
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer,
        CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        features.Exchange.Write(buffer.Span);
        if (!await features.Exchange.FlushAsync())
        {
            throw new Microsoft.AspNetCore.Connections.ConnectionResetException("the client went");
        }
    }

    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    protected override void Dispose(bool disposing)
    {
        _disposed = true;
        base.Dispose(disposing);
    }
}
