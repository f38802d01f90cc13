// One HTTP/1 connection: bytes in, requests through the phases, bytes out, again. Pipelined answers are collected and
// leave in few writes. While the connection waits for its next request it holds no buffer. One loop's thread; rented.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Zones;

namespace Weir.Http;

/// <summary>The driver of an HTTP/1.0 and 1.1 connection.</summary>
internal sealed partial class Http1Driver : ClientStream, IWaitingDriver
{
    /// <summary>Answers of pipelined requests are held back up to this much.</summary>
    private const long CoalesceBytesMax = 64 * 1024;

    private readonly HttpServer _server;
    private readonly EventLoop _loop;
    private Connection _connection = null!;
    private ListenBinding _binding = null!;
    private BufferChain? _out;
    private BufferSlab? _input;
    private int _start;
    private int _end;
    private RequestHeadParser _parser;

    // Where the header lines of the request before lie in the input, when the next may have the same.
    private int _headersAt;
    private int _headersLength;
    private bool _repeatable;
    private int _requests;
    private bool _aborted;
    private bool _reset;
    private bool _ended;
    private bool _parks;
    private bool _sentContinue;
    private bool _needsLingering;
    private bool _isHttp2;
    private HttpRequest? _current;

    /// <summary>Among the <see cref="WaitingDrivers"/>; -1 for none.</summary>
    public int Seat { get; set; } = -1;
    private uint _waitsSince;
    private ProxyClient? _proxy;

    public override ProxyClient? Proxy => _proxy;

    internal Http1Driver(HttpServer server)
    {
        _server = server;
        _loop = server.Loop;
    }

    internal static readonly Action<Connection> Reclaim = static c => c.Close();

    public override Connection Transport => _connection;

    public override long UnsentBytes => _out?.Length ?? 0;

    internal ListenBinding Binding => _binding;

    internal void Start(Connection connection, ListenBinding binding)
    {
        _state = ConnectionState.None;
        Attach(connection, binding);
        Enter(ConnectionState.Reading);
        RunAsync(mayServe: !binding.Group.IsGuarded).Forget();
    }

    /// <summary>Takes up a connection that was parked, with what it heard.</summary>
    internal void Resume(Connection connection, ListenBinding binding, RecvLease lease)
    {
        _state = ConnectionState.Waiting;
        Attach(connection, binding);
        _requests = connection.OwnerCount;
        if (TakeInput(lease))
        {
            RunAsync(mayServe: true).Forget();
        }
        else
        {
            Finish();
        }
    }

    private void Attach(Connection connection, ListenBinding binding)
    {
        _connection = connection;
        _binding = binding;
        _requests = 0;
        _aborted = false;
        _reset = false;
        _ended = false;
        _parks = false;
        _needsLingering = false;
        _isHttp2 = false;
        _parser.Reset();
        connection.Owner = this;
    }

    private async LoopTask<Unit> RunAsync(bool mayServe)
    {
        try
        {
            if ((mayServe || await EnterAsync()) && !SpeaksHttp2())
            {
                await ServeAsync();
            }
        }
        catch (Exception e)
        {
            // A broken invariant in one request: it costs this connection, not the others.
            _server.Log.Write(LogLevel.Alert,
                $"unexpected {e.GetType().Name} on a connection: {e.Message} {e.StackTrace}", 0,
                _connection.Number);
            _reset = true;
            if (_current is { } broken)
            {
                _current = null;
                _server.Drop();
                if (!broken.HasChildren)
                {
                    broken.End();
                }
            }
        }
        if (_isHttp2)
        {
            HandOver();
        }
        else if (_parks)
        {
            Park();
        }
        else
        {
            Finish();
        }
        return default;
    }

    private async LoopTask<Unit> ServeAsync()
    {
        HttpRequest? kept = null;
        while (true)
        {
            bool buffered = _start != _end && _requests > 0;
            if (_start == _end)
            {
                BeginWait();
                _parks = !_connection.MayHaveInput && Seat < 0 && !_server.Waiting.Enter(this);
                if (_parks || !TakeInput(await _connection.ReceiveAsync()))
                {
                    return default;
                }
            }
            if (_requests == 0 && MayBeHttp2() && await IsHttp2Async())
            {
                return default;
            }
            // The request that was answered last serves the next one that is here already, memory and all.
            HttpRequest r = kept ?? _server.RentRequest();
            _repeatable &= kept is not null;
            kept = null;
            _current = r;
            r.Begin(_binding.Group.Configuration, _binding.Group, this, _loop);
            r.IsPipelined = buffered;
            if (!ParseBuffered(r, out bool rejected) && !rejected)
            {
                if (!await ReadHeadAsync(r))
                {
                    // Where the answers before it found no way out, a head that is not whole was never asked.
                    EndRequest(r, log: !_aborted && (r.Head.Reject != RejectReason.None || _parser.LineStart > 0));
                    return default;
                }
            }
            LoopTask<PhaseResult> run = RunRequestAsync(r);
            while (true)
            {
                if (!run.IsCompleted && buffered && !r.Response.IsSent)
                {
                    // Answers that are ready do not wait for one that is not.
                    Flush(r);
                }
                PhaseResult result = await run;
                if (r.IsOver(ref result))
                {
                    break;
                }
                run = r.Follow(result);
            }
            if (r.HasChildren)
            {
                await r.JoinAsync();
            }
            if (r.HoldsBody)
            {
                await r.Drained();
            }
            if (!r.Location.Settings.PostActionBytes.IsEmpty)
            {
                await PostAction.RunAsync(r);
            }
            bool keep = r.KeepAlive && !_aborted;
            if (!r.Body.IsComplete && r.Head.HasBody && keep)
            {
                keep = await DiscardBodyAsync(r);
            }
            if (keep && _start != _end && _out is { } pending && pending.Length < CoalesceBytesMax
                && !pending.HasBorrowed)
            {
                // What the request lends to the output dies with it, so borrowed memory would have to leave first.
                EndRequest(r, log: true, keepsMemory: true);
                kept = r;
                continue;
            }
            if (!_aborted && _out is { IsEmpty: false } output)
            {
                _connection.SendTimeoutMs = (int)r.Location.SendTimeoutMs.Value;
                if (output.MemoryBytes != output.Length && r.Location.TcpNoDelay.Value)
                {
                    // A file is a write of its own: its end must not wait for the client's acknowledgement.
                    _connection.SetNoDelay();
                }
                if (!_connection.Send(output))
                {
                    _aborted = true;
                    NoteFault(r);
                }
                else if (!output.IsEmpty)
                {
                    IoResult sent = await _connection.DrainAsync(output);
                    if (sent.IsError)
                    {
                        NoteSendFailure(r, sent.Error);
                    }
                }
            }
            bool linger = !keep && !_aborted && ShouldLinger(r);
            int lingerTimeMs = (int)r.Location.LingeringTimeMs.Value;
            int lingerTimeoutMs = (int)r.Location.LingeringTimeoutMs.Value;
            EndRequest(r, log: true);
            if (!keep || _aborted)
            {
                if (linger)
                {
                    await LingerAsync(lingerTimeMs, lingerTimeoutMs);
                }
                return default;
            }
        }
    }

    private LoopTask<PhaseResult> RunRequestAsync(HttpRequest r)
    {
        Enter(ConnectionState.Writing);
        _requests++;
        r.ConnectionRequests = _requests;
        _server.Counters.Add(StatusCounter.Requests, 1);
        RejectReason reject = r.Head.Reject;
        if (reject != RejectReason.None)
        {
            return RefuseAsync(r, reject);
        }
        r.BeginWalk();
        if (!RequestEntry.ChooseServer(r, out int status))
        {
            if (status == TlsEntrance.TooEarly && r.Head.KeepAliveRequested)
            {
                // The same again on this connection is welcome.
                r.KeepAlive = true;
                return SpecialResponse.RunAsync(r, status);
            }
            return AnswerAsync(r, status);
        }
        LocationConf location = r.Location;
        r.KeepAlive = r.Head.KeepAliveRequested && location.KeepAliveTimeoutMs > 0
            && !_server.IsQuitting && !_binding.IsGone;
        status = RequestEntry.CheckTarget(r);
        if (status != 0)
        {
            return AnswerAsync(r, status);
        }
        return r.StartAsync();
    }

    private static LoopTask<PhaseResult> AnswerAsync(HttpRequest r, int status)
    {
        r.KeepAlive = false;
        return SpecialResponse.RunAsync(r, status);
    }

    private LoopTask<PhaseResult> RefuseAsync(HttpRequest r, RejectReason reason)
    {
        r.SetRejectedHead(_input is null ? default : _input.Memory.Slice(_start, _end - _start));
        r.LogAction = RejectReasons.Action(reason);
        string text = RejectReasons.LogText(reason);
        r.LogError(LogLevel.Info, text);
        r.LogAction = null;
        _start = _end;
        _needsLingering = true;
        return AnswerAsync(r, RejectReasons.Status(reason));
    }

    // Receiving heads.

    private long _idleTimeoutMs = 75_000;
    private ConnectionState _state;

    private void Enter(ConnectionState state)
    {
        _server.Count(_state, state);
        _state = state;
    }

    /// <summary>Parses what is buffered. True when a head is complete (or refused).</summary>
    private bool ParseBuffered(HttpRequest r, out bool rejected)
    {
        rejected = false;
        ServerConf server = r.Server;
        ReadOnlySpan<byte> buffered = _input!.Span[_start.._end];
        ParseStep step;
        bool repeats = false;
        if (_repeatable)
        {
            step = _parser.ParseAgain(buffered, r.OwnHead, _input.Span.Slice(_headersAt, _headersLength),
                server.ParseOptions, out repeats);
            r.RepeatsHost = repeats && r.ServerBefore is not null;
            _repeatable = false;
        }
        else
        {
            step = _parser.Parse(buffered, r.OwnHead, server.ParseOptions);
        }
        switch (step)
        {
            case ParseStep.Done:
                RequestHead head = r.OwnHead;
                int length = head.HeadLength;
                int lineMax = LineBytesMax(server);
                if (length > lineMax && TooLong(head, server, lineMax))
                {
                    rejected = true;
                    return true;
                }
                r.SetHead(r.Arena.Store(buffered[..length]));
                _repeatable = repeats || head.IsRepeatable;
                _headersAt = _start + head.HeadersStart;
                _headersLength = length - head.HeadersStart;
                _start += length;
                _parser.Reset();
                BeginBody(head, HeadBytesMax(server));
                return true;
            case ParseStep.Reject:
                rejected = true;
                _parser.Reset();
                return true;
            default:
                RejectReason tooLarge = CheckLimits(server, buffered.Length);
                if (tooLarge != RejectReason.None)
                {
                    r.OwnHead.Refuse(tooLarge);
                    _parser.Reset();
                    rejected = true;
                    return true;
                }
                return false;
        }
    }

    private static int LineBytesMax(ServerConf server) =>
        (int)Math.Max(server.LargeClientHeaderBuffers.Value.Bytes, server.ClientHeaderBufferSize.Value);

    private RejectReason CheckLimits(ServerConf server, int buffered)
    {
        int lineMax = LineBytesMax(server);
        if (buffered - _parser.LineStart >= lineMax)
        {
            return _parser.InRequestLine ? RejectReason.RequestLineTooLong : RejectReason.HeaderLineTooLong;
        }
        return buffered >= HeadBytesMax(server) ? RejectReason.HeadersTooLarge : RejectReason.None;
    }

    private static bool TooLong(RequestHead head, ServerConf server, int lineMax)
    {
        if (head.RequestLine.Length + 2 > lineMax)
        {
            head.Refuse(RejectReason.RequestLineTooLong);
            return true;
        }
        foreach (ref readonly HeaderField field in head.Fields)
        {
            if (field.ValueStart + field.ValueLength - field.NameStart + 2 > lineMax)
            {
                head.Refuse(RejectReason.HeaderLineTooLong);
                return true;
            }
        }
        if (head.HeadLength > HeadBytesMax(server))
        {
            head.Refuse(RejectReason.HeadersTooLarge);
            return true;
        }
        return false;
    }

    private static long HeadBytesMax(ServerConf server) => server.ClientHeaderBufferSize.Value
        + server.LargeClientHeaderBuffers.Value.Count * server.LargeClientHeaderBuffers.Value.Bytes;

    /// <summary>The head did not come in one piece: waits for the rest under client_header_timeout.</summary>
    private async LoopTask<bool> ReadHeadAsync(HttpRequest r)
    {
        Enter(ConnectionState.Reading);
        // Earlier answers must not wait for this client's slowness.
        _connection.SendTimeoutMs = (int)r.Location.SendTimeoutMs.Value;
        if (_out is { IsEmpty: false } output && !_connection.Send(output))
        {
            _aborted = true;
            NoteFault(r);
            return false;
        }
        // The time is for the whole head, however small the pieces are in which a client lets it trickle.
        long deadline = _loop.NowMs + r.Server.ClientHeaderTimeoutMs.Value;
        while (true)
        {
            MakeRoom();
            _connection.SetReadDeadline(deadline);
            RecvLease lease = await _connection.ReceiveAsync();
            if (lease.IsEnd || lease.IsError)
            {
                return FailHead(r, lease);
            }
            AppendInput(lease);
            if (ParseBuffered(r, out bool _))
            {
                return true;
            }
        }
    }

    private bool FailHead(HttpRequest r, RecvLease lease)
    {
        if (lease.Error == Errno.ETIMEDOUT)
        {
            r.LogAction = _parser.InRequestLine ? "reading client request line" : "reading client request headers";
            r.LogError(LogLevel.Info, "client timed out", Errno.ETIMEDOUT);
            r.Response.Status = 408;
            _reset = r.Location.ResetTimedOutConnection.Value;
            return false;
        }
        r.LogAction = _parser.InRequestLine ? "reading client request line" : "reading client request headers";
        if (lease.IsEnd)
        {
            r.LogError(LogLevel.Info, "client prematurely closed connection");
        }
        else if (lease.Error != Errno.ECANCELED)
        {
            r.LogError(LogLevel.Info, HttpRequest.Failure(_connection),
                HttpRequest.FailureNumber(_connection, lease.Error));
        }
        r.Response.Status = 400;
        return false;
    }

    private void ReleaseOut()
    {
        if (_out is { IsEmpty: true } chain)
        {
            _loop.Return(chain);
            _out = null;
        }
    }

    // The end of a request and of the connection.

    private void EndRequest(HttpRequest r, bool log, bool keepsMemory = false)
    {
        if (r.IsTold)
        {
            long sent = r.HeadBytesSent + r.WireBodyBytes;
            r.Tell($"http close request, keepalive: {(r.KeepAlive ? 1 : 0)}, sent: {sent}");
        }
        _current = null;
        _idleTimeoutMs = r.Location.KeepAliveTimeoutMs;
        if (log)
        {
            // As nginx, which has decided about the connection by then: $sent_http_connection says close.
            r.KeepAlive = false;
            foreach (LogHandler handler in r.Configuration.LogHandlers)
            {
                handler.OnLog(r);
            }
        }
        r.End(keepsMemory);
        if (!keepsMemory)
        {
            _server.Return(r);
        }
    }

    private void Finish()
    {
        ReleaseInput();
        if (_out is not null)
        {
            _loop.Return(_out);
            _out = null;
        }
        if (!_ended)
        {
            _ended = true;
            _server.Waiting.Leave(this);
            Enter(ConnectionState.None);
            _server.Observer?.Closed(_connection);
            _connection.Close(_reset);
            _connection = null!;
            _proxy = null;
            _server.Closed(this);
        }
    }

    private string ClientText() => HttpRequest.FormatAddress(_connection.PeerAddress);
}
