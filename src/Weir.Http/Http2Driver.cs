// One HTTP/2 connection: a single task reads it, every stream's request runs as a task of its own, and what they all
// write leaves in few sends. Frames come in Http2Driver.Frames.cs and go out in Http2Driver.Writing.cs; here the
// connection lives and ends. While it is idle it holds no buffer. One loop's thread; one object per connection.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http2;
using Weir.Zones;

namespace Weir.Http;

/// <summary>The driver of an HTTP/2 connection.</summary>
internal sealed partial class Http2Driver : IParkOwner, IWaitingDriver
{
    internal const int ReceiveBytesMax = 64 * 1024;

    /// <summary>What the client may send before anything of it was looked at; given back as it comes, because each
    /// stream's window bounds what is kept.</summary>
    private const int ConnectionWindowBytes = 4 * 1024 * 1024;

    /// <summary>Unsent bytes at which nothing more is read: frames that are not flow controlled count too.</summary>
    private const int UnsentBytesMax = 512 * 1024;

    private const ulong GoAwayPing = 0x5765_6972_2147_4f21;
    private const ulong FarewellPing = 0x5765_6972_2142_5945;

    private readonly HttpServer _server;
    private readonly ListenBinding _binding;
    private readonly Http2Counts _counts;
    private readonly int _receiveBytes;
    private readonly int _streamsMax;
    private Connection _connection;
    private Http2Work _work;
    private ConnectionState _state;
    private int _streamCount;
    private int _requests;
    private long _headDueMs;
    private bool _isFailed;
    private bool _isLeaving;
    private bool _hasLeft;
    private bool _isEnded;
    private bool _reset;
    private bool _isResting;
    private bool _parks;
    private uint _waitsSince;
    private long _idleDueMs;

    public int Seat { get; set; } = -1;

    // Among the connections of its server.
    internal Http2Driver? Next;
    internal Http2Driver? Previous;

    internal Http2Driver(HttpServer server, Connection connection, ListenBinding binding, ProxyClient? proxy)
    {
        _server = server;
        _connection = connection;
        _binding = binding;
        Proxy = proxy;
        Loop = server.Loop;
        _work = server.Http2Idle;
        _counts = Http2Counts.Of(Loop);
        ListenGroup group = binding.Group.Of(connection);
        Modules.Http2Settings settings = group.DefaultServer.Http2;
        _receiveBytes = settings.ReceiveBytes;
        _streamsMax = settings.StreamsMax.Value;
        PrereadBytes = (int)settings.PrereadBytes.Value;
        _headerBuffers = group.DefaultServer.LargeClientHeaderBuffers.Value;
        _block = new HeaderBlock((int)Math.Min(HeadBytesMax * 2 + BlockBytesMore, int.MaxValue / 2), ContinuationsMax);
        server.EnsureHttp2Memory(HeadBytesMax);
        if (connection is Tls.TlsConnection tls)
        {
            tls.Session.EndsAtRenegotiation = true;
        }
    }

    private Http2StreamTable Streams => _work.Streams;

    internal EventLoop Loop { get; }
    internal Connection Connection => _connection;
    internal ProxyClient? Proxy { get; }
    internal ListenBinding Binding => _binding;
    internal int PrereadBytes { get; }

    /// <summary>Nobody's request is under way.</summary>
    internal bool IsIdle => _streamCount == 0;

    /// <summary>Takes over a connection with what was received of it.</summary>
    internal void Start(BufferSlab? input, int start, int end)
    {
        _connection.Owner = this;
        _connection.OwnerCount = 0;
        _counts.Connections++;
        Enter(ConnectionState.Reading);
        _server.Add(this);
        RunAsync(input, start, end, default, isNew: true).Forget();
    }

    private void Enter(ConnectionState state)
    {
        _server.Count(_state, state);
        _state = state;
    }

    private async LoopTask<Unit> RunAsync(BufferSlab? input, int start, int end, RecvLease heard, bool isNew)
    {
        try
        {
            if (isNew)
            {
                WriteSettings();
                Review();
                if (input is not null)
                {
                    Process(input, start, end);
                    input.Release();
                }
            }
            if ((isNew || Take(in heard)) && await ServeAsync())
            {
                Rest();
                return default;
            }
        }
        catch (Exception e)
        {
            // A broken invariant costs this connection, not the others.
            _server.Log.Write(LogLevel.Alert,
                $"unexpected {e.GetType().Name} on an HTTP/2 connection: {e.Message} {e.StackTrace}", 0,
                _connection.Number);
            _reset = true;
        }
        _isEnded = true;
        Pump();
        FailStreams();
        if (_streamCount > 0)
        {
            await Tools.LastEnded.Begin();
        }
        if (_hasLeft && !_isFailed)
        {
            WritePing(FarewellPing);
        }
        await SendRestAsync();
        if ((_isFailed || _hasLeft) && !_reset && _connection.SendError == 0)
        {
            await LingerAsync();
        }
        Finish();
        return default;
    }

    /// <summary>Until the connection has to end, or (true) rests.</summary>
    private async LoopTask<bool> ServeAsync()
    {
        while (true)
        {
            Pump();
            if (_isFailed || _connection.SendError != 0 || _hasLeft && _streamCount == 0)
            {
                LogFault();
                return false;
            }
            if (UnsentBytes >= UnsentBytesMax)
            {
                await Tools.Room.Begin();
                continue;
            }
            BeginWait();
            if (MayRest && Seat < 0 && !_connection.MayHaveInput && !_server.WaitingHttp2.Enter(this))
            {
                return true;
            }
            RecvLease lease = await _connection.ReceiveAsync(_receiveBytes);
            if (_parks && lease.Error == Errno.ECANCELED && MayRest)
            {
                return true;
            }
            if (!Take(in lease))
            {
                return false;
            }
        }
    }

    private bool Take(in RecvLease lease)
    {
        bool parked = _parks && lease.Error == Errno.ECANCELED && !_connection.IsClosed && !_isFailed;
        _parks = false;
        Loop.LeaveIdle(_connection);
        if (parked && !(_hasLeft && _streamCount == 0))
        {
            // Meanwhile there is something to wait for.
            return true;
        }
        if (lease.IsError || lease.IsEnd)
        {
            EndInput(in lease);
            return false;
        }
        Process(lease.Slab!, 0, lease.Length);
        lease.Release();
        return true;
    }

    // Resting: a client that is silent costs neither tasks nor tools.

    private bool MayRest => _streamCount == 0 && _headDueMs == 0 && _reader.IsIdle && _out is null && !_isDraining
        && !_isFlushing && !_isFailed && !_isLeaving && !_isEnded && _requests > 0 && !_connection.IsClosed;

    private void Rest()
    {
        _parks = false;
        _isResting = true;
        _server.WaitingHttp2.Leave(this);
        ReturnTools();
        _connection.SetReadDeadline(_idleDueMs);
        _connection.Park(this);
    }

    private void ReturnTools()
    {
        if (_tools is { } tools)
        {
            _tools = null;
            _rest.Keep(tools);
            _server.Return(tools);
        }
    }

    void IParkOwner.Unpark(Connection connection, RecvLease lease)
    {
        _isResting = false;
        RunAsync(null, 0, 0, lease, isNew: false).Forget();
    }

    /// <summary>Ends the wait of a client that has been silent since before the sweep.</summary>
    public void ParkIfWaiting(uint sweep)
    {
        if (MayRest && !_isResting && _waitsSince != sweep)
        {
            _parks = true;
            _connection.CancelReceive();
        }
    }

    /// <summary>How long the client may be silent depends on whose turn it is.</summary>
    private void BeginWait()
    {
        ServerConf server = _binding.Group.Of(_connection).DefaultServer;
        if (_reader.IsIdle && (_requests > 0 || _streamCount > 0))
        {
            _headDueMs = 0;
        }
        else if (_headDueMs == 0)
        {
            // The time is for the whole frame, however small the pieces are in which it trickles.
            _headDueMs = Loop.NowMs + server.ClientHeaderTimeoutMs.Value;
        }
        if (_streamCount > 0)
        {
            _connection.SetReadDeadline(_reader.InHeaderBlock ? _headDueMs : 0);
            return;
        }
        BeginIdle(server);
    }

    private void BeginIdle(ServerConf server)
    {
        long due = _headDueMs != 0 ? _headDueMs : Loop.NowMs + server.Location.KeepAliveTimeoutMs;
        _idleDueMs = _isLeaving ? Math.Min(due, Loop.NowMs + _server.QuitGraceMs) : due;
        _waitsSince = _server.WaitingHttp2.Sweep;
        _connection.SetReadDeadline(_idleDueMs);
        Enter(_requests == 0 ? ConnectionState.Reading : ConnectionState.Waiting);
        Loop.EnterIdle(_connection, Http1Driver.Reclaim, fresh: _requests == 0);
    }

    private void EndInput(in RecvLease lease)
    {
        if (_connection is Tls.TlsConnection { Session.HasRenegotiated: true })
        {
            Fail(Http2Reason.Renegotiation);
            return;
        }
        if (lease.Error == Errno.ETIMEDOUT && _streamCount == 0)
        {
            if (_requests == 0 || !_reader.IsIdle)
            {
                _reset = _binding.Group.DefaultServer.Location.ResetTimedOutConnection.Value;
            }
            WriteGoAway(_numbers.Last, Http2Error.NoError);
            return;
        }
        if (lease.IsError && lease.Error is not (Errno.ECANCELED or Errno.ETIMEDOUT))
        {
            _server.Log.Write(LogLevel.Info, $"{HttpRequest.Failure(_connection)} while processing HTTP/2 connection, "
                + $"client: {ClientText}", HttpRequest.FailureNumber(_connection, lease.Error), _connection.Number);
        }
        if (lease.Error == Errno.ETIMEDOUT)
        {
            _server.Log.Write(LogLevel.Info, $"client timed out while sending a header block, client: {ClientText}",
                Errno.ETIMEDOUT, _connection.Number);
            WriteGoAway(_numbers.Last, Http2Error.ProtocolError);
        }
    }

    /// <summary>TLS was given up while there was something to send: nobody will read to be told.</summary>
    private void LogFault()
    {
        if (!_isFailed && _connection.SendError != 0 && _connection.Fault is { } fault)
        {
            _server.Log.Write(LogLevel.Info, $"{fault} while processing HTTP/2 connection, client: {ClientText}", 0,
                _connection.Number);
        }
    }

    private string ClientText => HttpRequest.FormatAddress(_connection.PeerAddress);

    // Streams.

    private Http2Stream Open(uint id)
    {
        if (_streamCount == 0)
        {
            _work = _server.RentWork();
        }
        Http2Stream stream = _server.RentStream();
        int receives = _isAcknowledged ? PrereadBytes : Math.Max(PrereadBytes, Http2Limits.WindowDefault);
        stream.Start(this, id, _peerWindow, receives, PrereadBytes);
        Streams.Add(stream);
        if (_streamCount++ == 0)
        {
            Enter(ConnectionState.Writing);
        }
        return stream;
    }

    private void Close(Http2Stream stream)
    {
        Schedule.Remove(stream);
        Streams.Remove(stream);
        stream.End();
        _server.Return(stream);
        if (--_streamCount > 0)
        {
            return;
        }
        _server.Return(_work);
        _work = _server.Http2Idle;
        if (_isEnded)
        {
            if (Tools.LastEnded.IsWaiting)
            {
                Tools.LastEnded.SetResult(default);
            }
            return;
        }
        FlushLater();
    }

    /// <summary>The last stream has ended while the connection waits for its client.</summary>
    private void NoteIdle()
    {
        if (_isEnded || _streamCount > 0)
        {
            return;
        }
        if (_hasLeft)
        {
            _connection.CancelReceive();
        }
        else
        {
            BeginIdle(_binding.Group.Of(_connection).DefaultServer);
            if (!_isResting && Seat < 0 && MayRest && !_server.WaitingHttp2.Enter(this))
            {
                _parks = true;
                _connection.CancelReceive();
            }
        }
    }

    private async LoopTask<Unit> RunStreamAsync(Http2Stream stream, HttpRequest r)
    {
        try
        {
            LoopTask<PhaseResult> run = RunRequest(r);
            while (true)
            {
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
            if (stream.HasPending)
            {
                await stream.DrainAsync(r, 0);
            }
        }
        catch (Exception e)
        {
            _server.Log.Write(LogLevel.Alert,
                $"unexpected {e.GetType().Name} on an HTTP/2 stream: {e.Message} {e.StackTrace}", 0,
                _connection.Number);
            DropRequest(stream, r);
            return default;
        }
        EndRequest(stream, r);
        return default;
    }

    private LoopTask<PhaseResult> RunRequest(HttpRequest r)
    {
        _server.Counters.Add(StatusCounter.Requests, 1);
        _counts.Streams++;
        r.ConnectionRequests = _requests;
        if (r.Head.Reject != Weir.Protocol.Http1.RejectReason.None)
        {
            return RefuseAsync(r);
        }
        r.BeginWalk();
        r.KeepAlive = true;
        if (!RequestEntry.ChooseServer(r, out int status))
        {
            return SpecialResponse.RunAsync(r, status);
        }
        status = RequestEntry.CheckTarget(r);
        return status == 0 ? r.StartAsync() : SpecialResponse.RunAsync(r, status);
    }

    private static LoopTask<PhaseResult> RefuseAsync(HttpRequest r)
    {
        Weir.Protocol.Http1.RejectReason reason = r.Head.Reject;
        r.LogAction = Weir.Protocol.Http1.RejectReasons.Action(reason);
        r.LogError(LogLevel.Info, Weir.Protocol.Http1.RejectReasons.LogText(reason));
        r.LogAction = null;
        return SpecialResponse.RunAsync(r, Weir.Protocol.Http1.RejectReasons.Status(reason));
    }

    private void EndRequest(Http2Stream stream, HttpRequest r)
    {
        if (!stream.IsGone && !stream.State.IsReset)
        {
            EndFrames(stream, r);
        }
        if (r.IsTold)
        {
            r.Tell($"http2 close stream {stream.Id}, sent: {r.HeadBytesSent + r.WireBodyBytes}");
        }
        foreach (LogHandler handler in r.Configuration.LogHandlers)
        {
            handler.OnLog(r);
        }
        r.End();
        _server.Return(r);
        Close(stream);
    }

    private void EndFrames(Http2Stream stream, HttpRequest r)
    {
        if (!stream.State.LocalEnded)
        {
            ResponseHead head = r.Response;
            bool whole = head.IsSent && (stream.IsTunnel || head.ContentLength >= 0
                && r.BodyBytesSent == head.ContentLength);
            if (!whole)
            {
                ResetStream(stream, Http2Error.InternalError);
                return;
            }
            WriteEnd(stream, r);
        }
        if (!stream.State.RemoteEnded)
        {
            // The answer is whole; what else the client has to say of the request is not wanted (RFC 9113 §8.1).
            ResetStream(stream, Http2Error.NoError);
        }
    }

    /// <summary>It never became a request.</summary>
    private void Discard(Http2Stream stream, HttpRequest r)
    {
        r.End();
        _server.Return(r);
        Close(stream);
    }

    private void DropRequest(Http2Stream stream, HttpRequest r)
    {
        if (!stream.IsGone && !stream.State.IsReset)
        {
            ResetStream(stream, Http2Error.InternalError);
        }
        _server.Drop();
        if (!r.HasChildren)
        {
            r.End();
        }
        Close(stream);
    }

    private void FailStreams()
    {
        // Failing one may end it, and others that waited for what it held.
        Http2Stream? stream = Streams.First;
        while (stream is not null)
        {
            if (stream.IsGone)
            {
                stream = Streams.After(stream);
                continue;
            }
            stream.Fail(reset: true);
            stream = Streams.First;
        }
    }

    // Leaving.

    /// <summary>Says that no more streams will be taken, lets those end that are under way, and closes. The client
    /// hears it twice: what it sent before it heard is still answered.</summary>
    internal void Leave()
    {
        if (_isLeaving || _isEnded)
        {
            return;
        }
        _isLeaving = true;
        WriteGoAway(Http2Limits.StreamIdMax, Http2Error.NoError);
        WritePing(GoAwayPing);
        _leaveTimer ??= new CallbackTimer(LeaveNow);
        Loop.Timers.Set(_leaveTimer, Loop.NowMs + Math.Max(1, _server.QuitGraceMs));
        FlushLater();
    }

    private CallbackTimer? _leaveTimer;

    /// <summary>From here on new streams are not looked at.</summary>
    private void LeaveNow()
    {
        if (_hasLeft || _isEnded)
        {
            return;
        }
        _isLeaving = true;
        _hasLeft = true;
        WriteGoAway(_numbers.Last, Http2Error.NoError);
        FlushLater();
    }

    /// <summary>The configuration has changed, or the server is about to stop.</summary>
    internal void Review()
    {
        ListenGroup group = _binding.Group.Of(_connection);
        if (_server.IsQuitting || _binding.IsGone || !(group.Http2 || group.DefaultServer.Http2.Enabled.Value))
        {
            Leave();
        }
    }

    private void Finish()
    {
        if (_leaveTimer is { } timer)
        {
            Loop.Timers.Cancel(timer);
        }
        if (_out is { } output)
        {
            _out = null;
            Loop.Return(output);
        }
        _block.Clear();
        _server.WaitingHttp2.Leave(this);
        ReturnTools();
        Enter(ConnectionState.None);
        _server.Observer?.Closed(_connection);
        _connection.Close(_reset);
        _server.Closed(this);
    }
}
