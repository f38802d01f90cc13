// An answer as a handler makes it. What is written before the first flush leaves together with the head, and with a
// Content-Length when that was all. Made for one request, like AppRequest.
using System.Text;

namespace Weir.Server;

/// <summary>An HTTP response.</summary>
public sealed class AppResponse
{
    /// <summary>What is written without a flush is kept up to this much, then it leaves.</summary>
    private const int HeldBytesMax = 64 * 1024;

    private readonly GuestExchange _exchange;
    private bool _ended;
    private long _flushedBytes;
    private AppResponseHeaders? _headers;
    private AppResponseHeaders? _trailers;
    private ResponseBodyStream? _body;

    internal AppResponse(GuestExchange exchange) => _exchange = exchange;

    internal GuestExchange Exchange => !_ended ? _exchange
        : throw new ObjectDisposedException(nameof(AppResponse), "the request has ended");

    /// <summary>The status; 200 unless set.</summary>
    public int StatusCode
    {
        get => Exchange.Status;
        set
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 101);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 999);
            CheckOpen();
            Exchange.Status = value;
        }
    }

    /// <summary>The header fields.</summary>
    public AppResponseHeaders Headers => _headers ??= new AppResponseHeaders(Exchange.Fields);

    /// <summary>Fields after the body. Added before the first flush (or announced with <see cref="ExpectTrailers"/>)
    /// they make the body leave in chunks; a client that takes no chunks does not get them.</summary>
    public AppResponseHeaders Trailers => _trailers ??= new AppResponseHeaders(Exchange.Trailers);

    /// <summary>Says before the first flush that trailers will be added later.</summary>
    public void ExpectTrailers()
    {
        CheckOpen();
        Exchange.ExpectsTrailers = true;
    }

    /// <summary>The type of the body.</summary>
    public string? ContentType
    {
        get => Headers["Content-Type"];
        set => Headers["Content-Type"] = value;
    }

    /// <summary>Bytes of the body, where they are known before the first flush.</summary>
    public long? ContentLength
    {
        get => Exchange.ContentLength >= 0 ? Exchange.ContentLength : null;
        set
        {
            CheckOpen();
            ArgumentOutOfRangeException.ThrowIfNegative(value ?? 0);
            Exchange.ContentLength = value ?? -1;
        }
    }

    /// <summary>The head has left: status and fields are fixed.</summary>
    public bool HasStarted => Exchange.HasStarted;

    /// <summary>The body as a stream.</summary>
    public Stream Body => _body ??= new ResponseBodyStream(this);

    /// <summary>Writes text as UTF-8. While the client has too much of it ahead
    /// (<see cref="AppServerOptions.MaxUnsentBytes"/>) this holds the thread; on a loop that is everyone's.</summary>
    public void Write(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        Write(Encoding.UTF8.GetBytes(text));
    }

    /// <summary>Writes bytes; see <see cref="Write(string)"/>.</summary>
    public void Write(ReadOnlySpan<byte> bytes)
    {
        // In pieces: one large write is bounded like many small ones.
        while (bytes.Length > HeldBytesMax)
        {
            Exchange.Write(bytes[..HeldBytesMax]);
            bytes = bytes[HeldBytesMax..];
            Flush();
        }
        Exchange.Write(bytes);
        if (IsFull)
        {
            Flush();
        }
    }

    private bool IsFull =>
        Exchange.BodyBytes - _flushedBytes > Math.Min(HeldBytesMax, Exchange.UnsentBytesMax);

    /// <summary>Writes text as UTF-8 and waits while the client has too much of it ahead.</summary>
    public Task WriteAsync(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return WriteAsync(Encoding.UTF8.GetBytes(text)).AsTask();
    }

    /// <summary>Writes bytes and waits while the client has too much of them ahead.</summary>
    /// <exception cref="IOException">The client is gone.</exception>
    public ValueTask WriteAsync(ReadOnlyMemory<byte> bytes)
    {
        if (bytes.Length > HeldBytesMax)
        {
            return WritePiecesAsync(bytes);
        }
        Exchange.Write(bytes.Span);
        return IsFull ? new ValueTask(FlushAsync()) : default;
    }

    private async ValueTask WritePiecesAsync(ReadOnlyMemory<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            int length = Math.Min(bytes.Length, HeldBytesMax);
            Exchange.Write(bytes.Span[..length]);
            bytes = bytes[length..];
            if (bytes.Length > 0 || IsFull)
            {
                await FlushAsync();
            }
        }
    }

    /// <summary>Sends what was written.</summary>
    /// <exception cref="IOException">The client is gone.</exception>
    public void Flush()
    {
        _flushedBytes = Exchange.BodyBytes;
        Check(Exchange.Flush());
    }

    /// <summary>Sends what was written and waits until the client has taken enough that more may be
    /// written.</summary>
    /// <exception cref="IOException">The client is gone.</exception>
    public async Task FlushAsync()
    {
        _flushedBytes = Exchange.BodyBytes;
        Check(await Exchange.FlushAsync());
    }

    /// <summary>Sends an interim answer now: 103 with Link fields.</summary>
    public void SendInterim(int status, params ReadOnlySpan<KeyValuePair<string, string>> fields)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(status, 102);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(status, 199);
        GuestFields list = GuestExchange.NewFields();
        foreach (KeyValuePair<string, string> field in fields)
        {
            list.Add(field.Key, field.Value);
        }
        Exchange.SendInterim(status, list);
    }

    /// <summary>Ends the connection without completing the answer.</summary>
    public void Abort() => Exchange.Abort();

    /// <summary>Ends the answer without completing it. Over HTTP/2 only this request's stream ends, with this error
    /// code (RFC 9113 §7); otherwise as <see cref="Abort"/>.</summary>
    public void Reset(int errorCode) => Exchange.Reset(errorCode);

    internal void End() => _ended = true;

    private static void Check(bool fine)
    {
        if (!fine)
        {
            throw new IOException("nobody takes this answer any more: the client is gone or was answered already");
        }
    }

    private void CheckOpen()
    {
        if (Exchange.HasStarted)
        {
            throw new InvalidOperationException("the head of the answer has left already");
        }
    }
}

/// <summary>The body of an answer as a stream.</summary>
internal sealed class ResponseBodyStream(AppResponse response) : Stream
{
    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => response.Exchange.BodyBytes;
        set => throw new NotSupportedException();
    }

    public override void Write(byte[] buffer, int offset, int count) => response.Write(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer) => response.Write(buffer);

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        response.WriteAsync(buffer);

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        response.WriteAsync(buffer.AsMemory(offset, count)).AsTask();

    public override void Flush() => response.Flush();

    public override Task FlushAsync(CancellationToken cancellationToken) => response.FlushAsync();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();
}
