// A request as a handler sees it. Made for one request and cut off from the server when that has ended: who keeps it
// sees an exception, never somebody else's request.
using System.Net;
using System.Text;

namespace Weir.Server;

/// <summary>An HTTP request.</summary>
public sealed class AppRequest
{
    private readonly GuestExchange _exchange;
    private bool _ended;
    private AppRequestHeaders? _headers;
    private AppRequestTrailers? _trailers;
    private RequestBodyStream? _body;

    internal AppRequest(GuestExchange exchange) => _exchange = exchange;

    internal GuestExchange Exchange => !_ended ? _exchange
        : throw new ObjectDisposedException(nameof(AppRequest), "the request has ended");

    /// <summary>GET, POST, …</summary>
    public string Method => field ??= Encoding.ASCII.GetString(Exchange.Method);

    /// <summary>The path, decoded and normalised.</summary>
    public string Path => field ??= Encoding.UTF8.GetString(Exchange.Path);

    /// <summary>The query as sent, without its question mark.</summary>
    public string Query => field ??= Encoding.UTF8.GetString(Exchange.Query);

    /// <summary>The target as sent.</summary>
    public string Target => field ??= Encoding.UTF8.GetString(Exchange.Target);

    /// <summary>1.0, 1.1 or 2.0.</summary>
    public Version HttpVersion => Exchange.Version switch
    {
        >= 20 => System.Net.HttpVersion.Version20,
        >= 11 => System.Net.HttpVersion.Version11,
        _ => System.Net.HttpVersion.Version10,
    };

    /// <summary>The host the client asked for, without its port; empty where it named none.</summary>
    public string Host => field ??= Encoding.ASCII.GetString(Exchange.Head.Host.Of(Exchange.HeadBytes));

    /// <summary>"http" or "https".</summary>
    public string Scheme => Exchange.Security is null ? "http" : "https";

    /// <summary>The TLS of the connection; null where it is plain.</summary>
    public ConnectionSecurity? Security => Exchange.Security;

    /// <summary>The header fields.</summary>
    public AppRequestHeaders Headers => _headers ??= new AppRequestHeaders(Exchange);

    /// <summary>Bytes of the body as announced; null when it comes in chunks or not at all.</summary>
    public long? ContentLength => Exchange.Head.ContentLength >= 0 ? Exchange.Head.ContentLength : null;

    /// <summary>A body follows the head.</summary>
    public bool HasBody => Exchange.HasRequestBody;

    /// <summary>The body, decoded, as it comes. Where the client waits to be asked for it (100-continue), the first
    /// read asks.</summary>
    public Stream Body => _body ??= new RequestBodyStream(this);

    /// <summary>The fields behind a body that came in chunks (HTTP/1.1) or in frames (HTTP/2), once the body has been
    /// read to its end; together they are bounded as a head is.</summary>
    /// <exception cref="InvalidOperationException">The body has not been read to its end.</exception>
    public AppRequestTrailers Trailers
    {
        get
        {
            if (!Exchange.IsRequestBodyEnded)
            {
                throw new InvalidOperationException("trailers come after the body: read it to its end first");
            }
            return _trailers ??= new AppRequestTrailers(Exchange.RequestTrailerLines);
        }
    }

    /// <summary>Cancelled when the client goes, when the handler's time is up, or when a stop has no more
    /// patience.</summary>
    public CancellationToken Aborted => _exchange.Aborted;

    /// <summary>The client's address.</summary>
    public EndPoint? RemoteEndPoint => Exchange.RemoteEndPoint;

    /// <summary>The address it connected to.</summary>
    public EndPoint? LocalEndPoint => Exchange.LocalEndPoint;

    /// <summary>The connection's number, as events have it.</summary>
    public long Connection => Exchange.ConnectionNumber;

    /// <summary>The decoded value of a query parameter; null when it is not there.</summary>
    public string? QueryValue(string name)
    {
        foreach (string part in Query.Split('&'))
        {
            int equals = part.IndexOf('=');
            string key = equals < 0 ? part : part[..equals];
            if (Decode(key) == name)
            {
                return equals < 0 ? "" : Decode(part[(equals + 1)..]);
            }
        }
        return null;

        static string Decode(string text) => Uri.UnescapeDataString(text.Replace('+', ' '));
    }

    /// <summary>The whole body as text (UTF-8).</summary>
    public async Task<string> ReadTextAsync()
    {
        using var reader = new StreamReader(Body, Encoding.UTF8, leaveOpen: true);
        return await reader.ReadToEndAsync(Aborted);
    }

    internal void End() => _ended = true;
}

/// <summary>The body of a request as a stream.</summary>
internal sealed class RequestBodyStream(AppRequest request) : Stream
{
    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(byte[] buffer, int offset, int count) =>
        request.Exchange.Read(buffer.AsSpan(offset, count));

    public override int Read(Span<byte> buffer) => request.Exchange.Read(buffer);

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        request.Exchange.ReadAsync(buffer);

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        request.Exchange.ReadAsync(buffer.AsMemory(offset, count)).AsTask();

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
