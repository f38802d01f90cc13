// One health check: a request without a client goes through an exchange to one server, and what comes back is judged by
// a `match` or by gRPC's health protocol (grpc.health.v1.Health/Check). The answer goes nowhere; of a body no more than
// 256 KiB are looked at, and a check takes no longer than the location's timeouts for connecting and reading together.
// One loop's thread.
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session.Upstream;

namespace Weir.Http.Proxy;

/// <summary>What a gRPC server is asked: the health of a service, or whether it answers with this status.</summary>
internal sealed record GrpcCheck(byte[] Message, int Status);

/// <summary>Watches the answer to a check.</summary>
internal sealed class HealthCheck : AnswerTee
{
    private const int BodyBytesMax = 256 * 1024;
    private const int GrpcOk = 0, GrpcHeadBytes = 5;

    private readonly HealthRule _rule;
    private readonly CallbackTimer _timer;
    private byte[] _body = [];
    private int _length;
    private Exchange? _exchange;
    private string? _fault;
    private bool _isJudged;
    private bool _isLate;
    private bool _isCut;

    private HealthCheck(HealthRule rule)
    {
        _rule = rule;
        _timer = new CallbackTimer(GiveUp);
    }

    /// <summary>Asks; null when the check is passed, else why not.</summary>
    public static async LoopTask<string?> AskAsync(EventLoop loop, HttpConfiguration configuration, HealthRule rule,
        UpstreamGroup way)
    {
        HttpRequest r = DetachedRequest.Start(loop, configuration, rule.Server, rule.Location, rule.Head);
        var check = new HealthCheck(rule);
        try
        {
            if (rule.IsTcp)
            {
                return await ConnectAsync(loop, rule, way.Primary[0].Address, r);
            }
            Exchange x = r.Get(Exchange.Slot);
            x.Begin(r, rule.Settings, rule.Protocol);
            x.Group = UpstreamStates.Of(loop).For(way);
            x.TargetHost = rule.TargetHost;
            x.TargetPort = rule.TargetPort;
            x.TargetUri = r.UnparsedUri;
            x.Tls = rule.Tls;
            x.HasOwnBody = true;
            x.OwnBody = rule.Grpc is { } grpc ? r.Arena.Store(grpc.Message) : default;
            x.Tee = check;
            check._exchange = x;
            long limitMs = rule.Settings.ConnectTimeoutMs.Value + rule.Settings.ReadTimeoutMs.Value;
            loop.Timers.Set(check._timer, loop.NowMs + limitMs);
            await x.RunAsync();
            loop.Timers.Cancel(check._timer);
            return check.Verdict(r, x);
        }
        finally
        {
            check._exchange = null;
            loop.Timers.Cancel(check._timer);
            DetachedRequest.End(r);
        }
    }

    /// <summary>Makes a connection and closes it.</summary>
    private static async LoopTask<string?> ConnectAsync(EventLoop loop, HealthRule rule, byte[] address, HttpRequest r)
    {
        BindAddress? bind = rule.Settings.Bind.Value;
        LoopTask<ConnectOutcome> connecting = loop.ConnectAsync(address,
            bind is null ? default : new LocalEnd(bind.Of(r), bind.IsTransparent),
            (int)rule.Settings.ConnectTimeoutMs.Value, out Connection connection);
        ConnectOutcome outcome = await connecting;
        if (outcome.IsError)
        {
            return outcome.Error == Errno.ETIMEDOUT ? "timed out" : "it cannot be connected to";
        }
        connection.Close();
        return null;
    }

    /// <summary>The time is over, or enough was read.</summary>
    private void GiveUp()
    {
        _isLate = !_isCut;
        if (_exchange is { } exchange)
        {
            ((IPeerWatcher)exchange).PeerGone(exchange.Request.Connection, reset: false);
        }
    }

    private string? Verdict(HttpRequest r, Exchange x)
    {
        if (_isLate)
        {
            return "timed out";
        }
        if (!_isJudged && !x.Fault.IsNone)
        {
            return x.Fault.Kind switch
            {
                FaultKind.Timeout => "timed out",
                FaultKind.InvalidHeader => "an invalid answer",
                _ => x.Fault.Leg == FaultLeg.Connect ? "it cannot be connected to" : "no whole answer",
            };
        }
        if (!_isJudged)
        {
            _fault ??= _rule.Grpc is { } grpc ? GrpcFault(x, grpc)
                : _rule.Match.Fault(x.Head, x.HeadBytes.Span, _body.AsSpan(0, _length), r);
        }
        return _fault;
    }

    private string? GrpcFault(Exchange x, GrpcCheck grpc)
    {
        if (x.Head.Status != 200)
        {
            return $"status {x.Head.Status}";
        }
        string status = Field(x.Head, x.HeadBytes.Span, "grpc-status"u8);
        if (status.Length == 0 && x.TrailerSlab is { } trailers)
        {
            status = Trailer(trailers.Span[..x.TrailerLength]);
        }
        if (!int.TryParse(status, out int code) || code != grpc.Status)
        {
            return status.Length == 0 ? "no grpc-status" : $"grpc-status {status}";
        }
        // HealthCheckResponse: field 1 is the status, of which 1 is SERVING.
        ReadOnlySpan<byte> message = _length > GrpcHeadBytes ? _body.AsSpan(GrpcHeadBytes, _length - GrpcHeadBytes)
            : default;
        return grpc.Status != GrpcOk || message.StartsWith((ReadOnlySpan<byte>)[8, 1]) ? null : "not serving";
    }

    private static string Field(Protocol.Http1.ResponseHead head, ReadOnlySpan<byte> bytes, ReadOnlySpan<byte> name)
    {
        foreach (ref readonly HeaderField field in head.Fields)
        {
            if (HeaderName.Same(field.Name(bytes), name))
            {
                return System.Text.Encoding.Latin1.GetString(field.Value(bytes));
            }
        }
        return "";
    }

    private static string Trailer(ReadOnlySpan<byte> lines)
    {
        foreach (string line in System.Text.Encoding.Latin1.GetString(lines).Split("\r\n"))
        {
            if (line.StartsWith("grpc-status:", StringComparison.OrdinalIgnoreCase))
            {
                return line["grpc-status:".Length..].Trim();
            }
        }
        return "";
    }

    // The answer.

    public override bool GoesOnAlone => !_isLate && !_isCut;

    public override bool IsFull => false;

    /// <summary>Where the head says it all the body is not waited for; a connection that is kept has to be read to its
    /// end.</summary>
    public override bool TakesOver(Exchange x)
    {
        if (_rule.Grpc is not null || _rule.Match.NeedsBody || _rule.KeepAliveMs > 0)
        {
            return false;
        }
        _isJudged = true;
        _fault = _rule.Match.Fault(x.Head, x.HeadBytes.Span, default, x.Request);
        return true;
    }

    public override void OnHead(Exchange x)
    {
    }

    public override void OnBody(BufferChain body)
    {
        int n = (int)Math.Min(body.Length, BodyBytesMax - _length);
        if (n > 0)
        {
            if (_length + n > _body.Length)
            {
                Array.Resize(ref _body, Math.Max(_body.Length * 2, _length + n));
            }
            body.CopyTo(_body.AsSpan(_length, n));
            _length += n;
        }
        if (_length == BodyBytesMax && !_isCut)
        {
            _isCut = true;
            _fault = _rule.Match.Fault(_exchange!.Head, _exchange.HeadBytes.Span, _body, _exchange.Request);
            _isJudged = true;
            // Later: the exchange is in the middle of handing this piece over.
            _exchange.Request.Loop.Timers.Set(_timer, _exchange.Request.Loop.NowMs + 1);
        }
    }

    public override LoopTask<Unit> RoomAsync() => new(default(Unit));

    public override void OnEnd(bool whole)
    {
        if (!whole && !_isCut)
        {
            _fault ??= "no whole answer";
        }
    }

    protected internal override void Reset()
    {
    }
}
