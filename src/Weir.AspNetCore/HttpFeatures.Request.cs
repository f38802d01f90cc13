// The request's side: request line, fields, body. Strings are made when somebody asks, and one that is the same as that
// of the request before is the same object. The body is read from the exchange as it comes.
using System.IO.Pipelines;
using System.Text;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Weir.Protocol.Http1;
using Weir.Server;
using HttpMethod = Weir.Protocol.Http1.HttpMethod;
using HttpMethods = Microsoft.AspNetCore.Http.HttpMethods;

namespace Weir.AspNetCore;

internal partial class HttpFeatures : IHttpRequestFeature, IRequestBodyPipeFeature, IHttpRequestBodyDetectionFeature,
    IHttpMaxRequestBodySizeFeature, IHttpRequestTrailersFeature, IHttpUpgradeFeature, IBadRequestExceptionFeature
{
    private readonly RequestHeaderTable _requestHeaders = new();
    private readonly RequestHeaderTable _requestTrailers = new();
    private bool _trailersRead;
    private IHeaderDictionary? _requestHeadersSet;
    private string? _method, _path, _query, _rawTarget, _protocol, _scheme;
    private string _methodBefore = "", _pathBefore = "", _queryBefore = "", _targetBefore = "";
    private RequestStream? _requestStream;
    private Stream? _requestBodySet;
    private PipeReader? _requestReader;
    private long? _maxBodyBytes;
    private long _bodyBytesRead;
    private bool _bodyTouched;
    private bool _bodyAtEnd;
    private bool _isOpen;
    private bool _upgraded;
    private BadHttpRequestException? _badRequest;

    private void BeginRequest(GuestExchange exchange)
    {
        _requestHeaders.Begin(exchange);
        _maxBodyBytes = Settings.MaxRequestBodySize;
        _isOpen = true;
    }

    private void EndRequest()
    {
        _isOpen = false;
        _requestReader?.Complete();
        _requestReader = null;
        _requestStream = null;
        _requestBodySet = null;
        _requestHeaders.Reset();
        _requestHeadersSet = null;
        _requestTrailers.Reset();
        _trailersRead = false;
        _method = _path = _query = _rawTarget = _protocol = _scheme = null;
        PathBase = "";
        _bodyBytesRead = 0;
        _bodyTouched = false;
        _bodyAtEnd = false;
        _upgraded = false;
        _badRequest = null;
    }

    /// <summary>What was wrong with the request's body, once somebody has found it: a bad head never comes
    /// here.</summary>
    Exception? IBadRequestExceptionFeature.Error => _badRequest;

    public string Protocol
    {
        get => _protocol ?? (Exchange.Version >= 20 ? HttpProtocol.Http2
            : Exchange.Version >= 11 ? HttpProtocol.Http11 : HttpProtocol.Http10);
        set => _protocol = value;
    }

    public string Scheme
    {
        get => _scheme ?? (Exchange.Security is null ? "http" : "https");
        set => _scheme = value;
    }

    public string Method
    {
        get => _method ??= Exchange.Head.Method switch
        {
            // The head shows a tunnel as the upgrade that it is in HTTP/1.
            HttpMethod.Get => Exchange.IsExtendedConnect ? HttpMethods.Connect : HttpMethods.Get,
            HttpMethod.Post => HttpMethods.Post,
            HttpMethod.Head => HttpMethods.Head,
            HttpMethod.Put => HttpMethods.Put,
            HttpMethod.Delete => HttpMethods.Delete,
            HttpMethod.Options => HttpMethods.Options,
            HttpMethod.Patch => HttpMethods.Patch,
            _ => Same(ref _methodBefore, Exchange.Method),
        };
        set => _method = value;
    }

    public string PathBase { get; set; } = "";

    public string Path
    {
        get => _path ??= DecodePath();
        set => _path = value;
    }

    public string QueryString
    {
        get => _query ??= Exchange.Head.Query.Length == 0 ? "" : SameQuery(Exchange.Head.Query.Of(Exchange.HeadBytes));
        set => _query = value;
    }

    public string RawTarget
    {
        get => _rawTarget ??= Same(ref _targetBefore, Exchange.Target);
        set => _rawTarget = value;
    }

    IHeaderDictionary IHttpRequestFeature.Headers
    {
        get => _requestHeadersSet ?? _requestHeaders;
        set => _requestHeadersSet = value;
    }

    Stream IHttpRequestFeature.Body
    {
        get => _requestBodySet ?? (_requestStream ??= new RequestStream(this));
        set => _requestBodySet = value;
    }

    PipeReader IRequestBodyPipeFeature.Reader => _requestReader ??= PipeReader.Create(
        ((IHttpRequestFeature)this).Body, new StreamPipeReaderOptions(leaveOpen: true));

    bool IHttpRequestBodyDetectionFeature.CanHaveBody => Exchange.HasRequestBody;

    bool IHttpMaxRequestBodySizeFeature.IsReadOnly => _bodyTouched || _upgraded;

    long? IHttpMaxRequestBodySizeFeature.MaxRequestBodySize
    {
        get => _maxBodyBytes;
        set
        {
            if (_bodyTouched || _upgraded)
            {
                throw new InvalidOperationException("the body is being read: its largest size is fixed");
            }
            if (value < 0)
            {
                throw new ArgumentOutOfRangeException(nameof(value), value, "a size is not negative");
            }
            _maxBodyBytes = value;
        }
    }

    bool IHttpRequestTrailersFeature.Available => !Exchange.HasRequestBody || _bodyAtEnd;

    IHeaderDictionary IHttpRequestTrailersFeature.Trailers
    {
        get
        {
            if (Exchange.HasRequestBody && !_bodyAtEnd)
            {
                throw new InvalidOperationException("trailers come after the body: read it to its end first");
            }
            if (!_trailersRead)
            {
                _trailersRead = true;
                _requestTrailers.Read(Exchange.RequestTrailerLines);
            }
            return _requestTrailers;
        }
    }

    bool IHttpUpgradeFeature.IsUpgradableRequest =>
        Exchange.Head.UpgradeRequested && !Exchange.HasRequestBody && Exchange.Version < 20;

    async Task<Stream> IHttpUpgradeFeature.UpgradeAsync()
    {
        if (!((IHttpUpgradeFeature)this).IsUpgradableRequest)
        {
            throw new InvalidOperationException("the client did not ask for another protocol on this connection");
        }
        return await OpenTunnelAsync();
    }

    /// <summary>Accepts the tunnel that an HTTP/2 client asks for.</summary>
    internal async ValueTask<Stream> AcceptConnectAsync()
    {
        if (!Exchange.IsExtendedConnect)
        {
            throw new InvalidOperationException("the client did not ask for a tunnel");
        }
        Stream tunnel = await OpenTunnelAsync();
        // What the client sees.
        _status = StatusCodes.Status200OK;
        return tunnel;
    }

    private async Task<Stream> OpenTunnelAsync()
    {
        if (_upgraded || HasStarted)
        {
            throw new InvalidOperationException("an answer that has started cannot be upgraded");
        }
        _upgraded = true;
        _status = StatusCodes.Status101SwitchingProtocols;
        await StartResponseAsync();
        await Exchange.FlushAsync();
        return new UpgradedStream(this);
    }

    // The body.

    /// <summary>Reads bytes of the body; the limits hold here.</summary>
    internal async ValueTask<int> ReadBodyAsync(Memory<byte> into, CancellationToken cancel)
    {
        cancel.ThrowIfCancellationRequested();
        if (!BeginRead() || into.IsEmpty)
        {
            return 0;
        }
        GuestExchange exchange = Exchange;
        try
        {
            ValueTask<int> reading = exchange.ReadAsync(into);
            if (reading.IsCompleted || !cancel.CanBeCanceled || cancel == exchange.Aborted)
            {
                return Count(await reading);
            }
            using CancellationTokenRegistration registration =
                cancel.UnsafeRegister(static x => ((GuestExchange)x!).CancelRead(), exchange);
            return Count(await reading);
        }
        catch (RequestBodyException e)
        {
            cancel.ThrowIfCancellationRequested();
            throw Translate(e);
        }
    }

    internal int ReadBody(Span<byte> into)
    {
        CheckSynchronous("Read");
        if (!BeginRead() || into.IsEmpty)
        {
            return 0;
        }
        try
        {
            return Count(Exchange.Read(into));
        }
        catch (RequestBodyException e)
        {
            throw Translate(e);
        }
    }

    private bool BeginRead()
    {
        ObjectDisposedException.ThrowIf(!_isOpen, typeof(HttpRequest));
        if (!Exchange.HasRequestBody || _upgraded || _bodyAtEnd)
        {
            return false;
        }
        if (!_bodyTouched)
        {
            _bodyTouched = true;
            if (_maxBodyBytes is { } most && Exchange.Head.ContentLength > most)
            {
                throw TooLarge();
            }
        }
        return true;
    }

    private int Count(int bytes)
    {
        _bodyAtEnd |= bytes == 0;
        _bodyBytesRead += bytes;
        return _maxBodyBytes is { } most && _bodyBytesRead > most ? throw TooLarge() : bytes;
    }

    private BadHttpRequestException TooLarge() =>
        _badRequest = new("Request body too large.", StatusCodes.Status413PayloadTooLarge);

    private IOException Translate(RequestBodyException e) => e.Status == 499
        ? new ConnectionResetException(e.Message, e)
        : _badRequest = new BadHttpRequestException(e.Message, e.Status, e);

    // Text.

    private static string Same(ref string before, ReadOnlySpan<byte> bytes)
    {
        if (!Ascii.Equals(bytes, before))
        {
            before = RequestHeaderTable.Decode(bytes);
        }
        return before;
    }

    private string SameQuery(ReadOnlySpan<byte> bytes)
    {
        if (_queryBefore.Length != bytes.Length + 1 || !Ascii.Equals(bytes, _queryBefore.AsSpan(1)))
        {
            _queryBefore = "?" + RequestHeaderTable.Decode(bytes);
        }
        return _queryBefore;
    }

    private string DecodePath()
    {
        RequestHead head = Exchange.Head;
        if (head.Form == TargetForm.Authority || head.Path.Length == 0)
        {
            return head.Form == TargetForm.Absolute ? "/" : "";
        }
        ReadOnlySpan<byte> path = head.Path.Of(Exchange.HeadBytes);
        if (path is [(byte)'*'])
        {
            return "";
        }
        return (head.UriFlags & (UriFlags.Percent | UriFlags.SlashDot)) == 0
            ? Same(ref _pathBefore, path) : RequestPath.Decode(path);
    }
}

/// <summary>Paths with escapes or dots in them.</summary>
internal static class RequestPath
{
    /// <summary>Decodes escapes except that of a slash, which would make another path of it, and removes dot
    /// segments.</summary>
    internal static string Decode(ReadOnlySpan<byte> path)
    {
        byte[] bytes = new byte[path.Length];
        int length = 0;
        for (int i = 0; i < path.Length; i++)
        {
            bytes[length++] = path[i] == '%' && TryEscape(path[i..], out byte decoded) && decoded != '/'
                ? Skip(ref i, decoded) : path[i];
        }
        return RequestHeaderTable.Decode(bytes.AsSpan(0, RemoveDots(bytes.AsSpan(0, length))));
    }

    private static byte Skip(ref int i, byte decoded)
    {
        i += 2;
        return decoded;
    }

    private static bool TryEscape(ReadOnlySpan<byte> text, out byte decoded)
    {
        decoded = 0;
        if (text.Length < 3 || !char.IsAsciiHexDigit((char)text[1]) || !char.IsAsciiHexDigit((char)text[2]))
        {
            return false;
        }
        decoded = (byte)(Hex(text[1]) * 16 + Hex(text[2]));
        return true;
    }

    private static int Hex(byte digit) => digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;

    /// <summary>In place (RFC 3986 §5.2.4); returns the length.</summary>
    private static int RemoveDots(Span<byte> path)
    {
        int length = 0;
        int i = 0;
        while (i < path.Length)
        {
            int next = path[(i + 1)..].IndexOf((byte)'/');
            int end = next < 0 ? path.Length : i + 1 + next;
            ReadOnlySpan<byte> segment = path[(i + 1)..end];
            bool isLast = end == path.Length;
            if (segment.SequenceEqual("."u8) || segment.SequenceEqual(".."u8))
            {
                if (segment.Length == 2 && length > 0)
                {
                    length = path[..length].LastIndexOf((byte)'/');
                }
                if (isLast)
                {
                    path[length++] = (byte)'/';
                }
            }
            else
            {
                path[i..end].CopyTo(path[length..]);
                length += end - i;
            }
            i = end;
        }
        return length;
    }
}
