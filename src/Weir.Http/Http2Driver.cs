// One HTTP/2 connection: a single task reads it, every stream's request runs as a task of its own, and what they all
// write leaves in few sends. Frames come in Http2Driver.Frames.cs and go out in Http2Driver.Writing.cs; here the
// connection lives and ends. While it is idle it holds no buffer. One loop's thread; one object per connection.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http2;
using Weir.Zones;

namespace Weir.Http;

/// <summary>The driver of an HTTP/2 connection.</summary>
internal sealed partial class Http2Driver
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
    private readonly LoopOperation<Unit> _lastEnded = new();
    private readonly LoopOperation<Unit> _room = new();
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
        _work = server.Http2Rest;
        _counts = Http2Counts.Of(Loop);
        ListenGroup group = binding.Group.Of(connection);
        Modules.Http2Settings settings = group.DefaultServer.Http2;
        _receiveBytes = settings.ReceiveBytes;
        _streamsMax = settings.StreamsMax.Value;
        PrereadBytes = (int)settings.PrereadBytes.Value;
        _headerBuffers = group.DefaultServer.LargeClientHeaderBuffers.Value;
        _block = new HeaderBlock((int)Math.Min(HeadBytesMax * 2 + BlockBytesMore, int.MaxValue / 2), ContinuationsMax);
        server.EnsureHttp2Memory(HeadBytesMax);
        _flush = FlushNow;
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
        RunAsync(input, start, end).Forget();
    }

    private void Enter(ConnectionState state)
    {
        _server.Count(_state, state);
        _state = state;
    }

    private async LoopTask<Unit> RunAsync(BufferSlab? input, int start, int end)
    {
        try
        {
            await ServeAsync(input, start, end);
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
            await _lastEnded.Begin();
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

    private async LoopTask<Unit> ServeAsync(BufferSlab? input, int start, int end)
    {
        WriteSettings();
        Review();
        if (input is not null)
        {
            Process(input, start, end);
            input.Release();
        }
        while (true)
        {
            Pump();
            if (_isFailed || _connection.SendError != 0 || _hasLeft && _streamCount == 0)
            {
                return default;
            }
            if (UnsentBytes >= UnsentBytesMax)
            {
                await _room.Begin();
                continue;
            }
            BeginWait();
            RecvLease lease = await _connection.ReceiveAsync(_receiveBytes);
            Loop.LeaveIdle(_connection);
            if (lease.IsError || lease.IsEnd)
            {
                EndInput(in lease);
                return default;
            }
            Process(lease.Slab!, 0, lease.Length);
            lease.Release();
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
        _connection.SetReadDeadline(_isLeaving ? Math.Min(due, Loop.NowMs + _server.QuitGraceMs) : due);
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
        _work = _server.Http2Rest;
        if (_isEnded)
        {
            if (_lastEnded.IsWaiting)
            {
                _lastEnded.SetResult(default);
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

    private async LoopTask<Unit> SendRestAsync()
    {
        while (_out is { IsEmpty: false } output && _connection.SendError == 0)
        {
            if (!_connection.Send(output))
            {
                break;
            }
            if (_isDraining)
            {
                // The writer has it; the last bytes end its wait.
                await _room.Begin();
                continue;
            }
            IoResult sent = await _connection.DrainAsync(output);
            if (sent.IsError)
            {
                break;
            }
        }
        return default;
    }

    /// <summary>Closing with unread bytes resets the connection, and what the client has not read yet. Who answers the
    /// last PING has read all there was: nothing is lost by closing then.</summary>
    private async LoopTask<Unit> LingerAsync()
    {
        LocationConf location = _binding.Group.DefaultServer.Location;
        if (location.LingeringClose.Value == LingeringClose.Off || _connection.PeerClosed || _connection.IsClosed)
        {
            return default;
        }
        _connection.ShutdownSend();
        long due = Loop.NowMs + location.LingeringTimeMs.Value;
        while (Loop.NowMs < due)
        {
            _connection.SetReadDeadline(Math.Min(due, Loop.NowMs + location.LingeringTimeoutMs.Value));
            RecvLease lease = await _connection.ReceiveAsync(_receiveBytes);
            if (lease.IsError || lease.IsEnd)
            {
                break;
            }
            bool isHeard = HasFarewell(lease.Slab!.Span[..lease.Length]);
            lease.Release();
            if (isHeard)
            {
                break;
            }
        }
        return default;
    }

    private static bool HasFarewell(ReadOnlySpan<byte> received)
    {
        Span<byte> answer = stackalloc byte[FrameWriter.PingBytes];
        FrameWriter.Ping(answer, ack: true, FarewellPing);
        return received.IndexOf(answer) >= 0;
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
        Enter(ConnectionState.None);
        _server.Observer?.Closed(_connection);
        _connection.Close(_reset);
        _server.Closed(this);
    }
}
