// The answer's side: status, fields, body, and when it starts. Starting fixes status and fields; the bytes leave with a
// flush, or when the request ends. In the first step of a request (until its code first awaits something unfinished) a
// flush is only noted: most answers are complete by then and leave whole, with a length.
using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Weir.Server;
using HttpMethod = Weir.Protocol.Http1.HttpMethod;

namespace Weir.AspNetCore;

internal partial class HttpFeatures : IHttpResponseFeature, IHttpResponseBodyFeature, IHttpResponseTrailersFeature
{
    private readonly ResponseHeaderTable _responseHeaders = new();
    private readonly ResponseHeaderTable _trailers = new();
    private readonly ResponseBody _responseBody;
    private readonly ResponseStream _responseStream;
    private IHeaderDictionary? _responseHeadersSet;
    private IHeaderDictionary? _trailersSet;
    private Stream? _responseStreamSet;
    private List<(Func<object, Task> Call, object State)>? _onStarting;
    private List<(Func<object, Task> Call, object State)>? _onCompleted;
    private int _status;
    private string? _reason;
    private bool _isComplete;
    private bool _trailersLeft;

    private void BeginResponse(GuestExchange exchange)
    {
        _status = StatusCodes.Status200OK;
        _responseBody.Begin(exchange);
    }

    private void EndResponse()
    {
        _responseBody.End();
        _responseHeaders.Reset();
        _trailers.Reset();
        _responseHeadersSet = null;
        _trailersSet = null;
        _responseStreamSet = null;
        _onStarting?.Clear();
        _onCompleted?.Clear();
        _reason = null;
        _isComplete = false;
        _trailersLeft = false;
        HasStarted = false;
    }

    public bool HasStarted { get; private set; }

    /// <summary>An end of this request needs more than its status and fields.</summary>
    internal bool HasCallbacks => _onStarting is { Count: > 0 } || _onCompleted is { Count: > 0 };

    internal bool HasCompletedCallbacks => _onCompleted is { Count: > 0 };

    public int StatusCode
    {
        get => _status;
        set
        {
            CheckNotStarted(nameof(StatusCode));
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 100);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 999);
            _status = value;
        }
    }

    public string? ReasonPhrase
    {
        get => _reason;
        set
        {
            CheckNotStarted(nameof(ReasonPhrase));
            _reason = value;
        }
    }

    IHeaderDictionary IHttpResponseFeature.Headers
    {
        get => _responseHeadersSet ?? _responseHeaders;
        set => _responseHeadersSet = value;
    }

    Stream IHttpResponseFeature.Body
    {
        get => _responseStreamSet ?? _responseStream;
        set => _responseStreamSet = value;
    }

    IHeaderDictionary IHttpResponseTrailersFeature.Trailers
    {
        get => _trailersSet ?? _trailers;
        set => _trailersSet = value;
    }

    public void OnStarting(Func<object, Task> callback, object state)
    {
        CheckNotStarted(nameof(OnStarting));
        (_onStarting ??= []).Add((callback, state));
    }

    public void OnCompleted(Func<object, Task> callback, object state) => (_onCompleted ??= []).Add((callback, state));

    // IHttpResponseBodyFeature.

    Stream IHttpResponseBodyFeature.Stream => _responseStream;

    PipeWriter IHttpResponseBodyFeature.Writer => _responseBody;

    void IHttpResponseBodyFeature.DisableBuffering()
    {
    }

    Task IHttpResponseBodyFeature.StartAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return HasStarted ? Task.CompletedTask : StartResponseAsync().AsTask();
    }

    async Task IHttpResponseBodyFeature.SendFileAsync(string path, long offset, long? count,
        CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        ArgumentNullException.ThrowIfNull(path);
        long bytes = count ?? new FileInfo(path).Length - offset;
        _responseBody.CheckMayWrite();
        if (!HasStarted)
        {
            await StartResponseAsync();
        }
        if (!Exchange.WriteFile(path, offset, bytes))
        {
            throw new ArgumentOutOfRangeException(nameof(count), count, $"\"{path}\" is shorter than that");
        }
        await _responseBody.FlushAsync(cancellationToken);
    }

    public async Task CompleteAsync()
    {
        if (_isComplete)
        {
            return;
        }
        await StartResponseAsync();
        CheckLength();
        _isComplete = true;
        CopyTrailers();
        _responseBody.IsComplete = true;
        await Exchange.CompleteAsync();
    }

    // Starting and ending.

    /// <summary>Runs what wants to be run before the fields are fixed, the latest first, and fixes them.</summary>
    internal ValueTask StartResponseAsync()
    {
        if (HasStarted)
        {
            return default;
        }
        if (_onStarting is { Count: > 0 })
        {
            return StartSlowAsync();
        }
        FixHead();
        return default;
    }

    private async ValueTask StartSlowAsync()
    {
        List<(Func<object, Task> Call, object State)> callbacks = _onStarting!;
        _onStarting = null;
        for (int i = callbacks.Count - 1; i >= 0; i--)
        {
            await callbacks[i].Call(callbacks[i].State);
        }
        if (!HasStarted)
        {
            FixHead();
        }
    }

    private void FixHead()
    {
        GuestExchange exchange = Exchange;
        exchange.Status = _status;
        exchange.Reason = _reason;
        if (_responseHeadersSet is { } replaced)
        {
            _responseHeaders.Clear();
            foreach (KeyValuePair<string, Microsoft.Extensions.Primitives.StringValues> pair in replaced)
            {
                _responseHeaders[pair.Key] = pair.Value;
            }
        }
        long length = _responseHeaders.Length;
        if (length >= 0 && exchange.BodyBytes > length && MayHaveBody(_status))
        {
            throw new InvalidOperationException(
                $"{exchange.BodyBytes} bytes were written, Content-Length promises {length}");
        }
        _responseHeaders.CopyTo(exchange.Fields);
        exchange.ContentLength = length;
        exchange.ExpectsTrailers = _responseHeaders.ContainsKey("Trailer")
            || (_trailersSet ?? _trailers).Count > 0;
        _responseHeaders.IsSealed = true;
        HasStarted = true;
    }

    /// <summary>Fewer bytes than promised must be an error before the end, not a client that waits.</summary>
    internal void CheckLength()
    {
        if (Exchange.ContentLength > Exchange.BodyBytes && MayHaveBody(_status)
            && Exchange.Head.Method != HttpMethod.Head && !Exchange.IsAborted)
        {
            throw new InvalidOperationException($"{Exchange.BodyBytes} bytes were written, Content-Length promises "
                + $"{Exchange.ContentLength}");
        }
    }

    /// <summary>Hands trailers over, once: an answer may be completed before its request has ended.</summary>
    internal void CopyTrailers()
    {
        if (_trailersLeft)
        {
            return;
        }
        _trailersLeft = true;
        if (_trailersSet is { } set)
        {
            foreach (KeyValuePair<string, Microsoft.Extensions.Primitives.StringValues> pair in set)
            {
                _trailers[pair.Key] = pair.Value;
            }
        }
        if (_trailers.Count > 0)
        {
            _trailers.CopyTo(Exchange.Trailers);
        }
    }

    internal async Task FireCompletedAsync(Action<Exception> complain)
    {
        while (_onCompleted is { Count: > 0 } callbacks)
        {
            (Func<object, Task> call, object state) = callbacks[^1];
            callbacks.RemoveAt(callbacks.Count - 1);
            try
            {
                await call(state);
            }
            catch (Exception e)
            {
                complain(e);
            }
        }
    }

    internal static bool MayHaveBody(int status) => status is >= 200 and not (204 or 205 or 304);

    private void CheckNotStarted(string what)
    {
        if (HasStarted)
        {
            throw new InvalidOperationException($"{what} cannot be set: the answer has started already");
        }
    }
}
