// What stands around the exchange's own steps: whom to ask where that takes a lookup of a name or a place in a queue,
// how a connection or a stream of one is had, and beside the reader, as loop tasks of their own whose end the exchange
// waits for, the rest of a large request, a body that is streamed from the client, a tunnel's two directions.
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;
using Weir.Tls;

namespace Weir.Http.Proxy;

public sealed partial class Exchange
{
    private readonly LoopOperation<Unit> _senderEnd = new();
    private bool _senderActive;
    private bool _stopSending;
    private bool _readingClient;
    private int _senderStatus;

    private async LoopTask<Unit> SendRestAsync()
    {
        Connection stream = Stream;
        BufferChain output = _output!;
        bool fine = !StreamsBody || Replay(output);
        while (StreamsBody && fine && !_stopSending)
        {
            IoResult room = await stream.DrainAsync(output, 64 * 1024);
            if (room.IsError || _stopSending)
            {
                fine = false;
                break;
            }
            _readingClient = true;
            _keptAlive = Request.KeepAlive;
            BodyPiece piece = await Request.Body.ReadAsync();
            _readingClient = false;
            if (piece.Status != 0)
            {
                if (!_stopSending)
                {
                    _senderStatus = piece.Status;
                    stream.CancelReceive();
                }
                fine = false;
                break;
            }
            if (piece.Length > 0)
            {
                Keep(in piece);
                Protocol.WritePiece(this, piece.Memory, piece.Lease.Slab!, output);
            }
            if (piece.IsLast)
            {
                Protocol.WriteEnd(this, output);
            }
            piece.Release();
            fine = stream.Send(output);
            if (piece.IsLast)
            {
                break;
            }
        }
        if (fine && !_stopSending)
        {
            IoResult sent = await stream.DrainAsync(output);
            fine = !sent.IsError;
        }
        if (fine && !_stopSending)
        {
            // The whole request is out: from now on the answer is waited for.
            stream.SetReadDeadline(Request.Loop.NowMs + Settings.ReadTimeoutMs.Value);
        }
        else if (stream.SendError == Errno.ETIMEDOUT)
        {
            stream.CancelReceive();
        }
        _senderActive = false;
        if (_senderEnd.IsWaiting)
        {
            _senderEnd.SetResult(default);
        }
        return default;
    }

    // A streamed body, as long as the server may still say that it did not look at the request: what was sent of it is
    // kept, within a bound, and sent again to the next.

    private const int KeptBytesMax = 64 * 1024, KeptByReferenceBytesMin = 2048;
    private BufferChain? _kept;
    private bool _isBeyondKept;
    private bool _keptAlive;

    private void Keep(in BodyPiece piece)
    {
        if (!Protocol.IsMultiplexed || _isBeyondKept)
        {
            return;
        }
        _kept ??= Request.Loop.RentChain();
        if (_kept.Length + piece.Length > KeptBytesMax)
        {
            DropKept();
        }
        else if (piece.Length < KeptByReferenceBytesMin)
        {
            _kept.Append(piece.Span);
        }
        else
        {
            _kept.AppendSlice(piece.Memory, piece.Lease.Slab);
        }
    }

    /// <summary>Sends what was kept. False when sending has failed.</summary>
    private bool Replay(BufferChain output)
    {
        if (_kept is not { IsEmpty: false } kept)
        {
            return true;
        }
        for (int i = 0; i < kept.Count; i++)
        {
            output.AppendShared(ref kept[i]);
        }
        return Stream.Send(output);
    }

    /// <summary>The body that was streamed so far is still all here; the client can be asked for the rest.</summary>
    private bool CanSendAgain()
    {
        if (!StreamsBody)
        {
            return true;
        }
        if (_isBeyondKept || _senderStatus != 0)
        {
            return false;
        }
        // To stop waiting for the client's next bytes was not the client's fault.
        Request.KeepAlive = _keptAlive;
        return true;
    }

    private void DropKept()
    {
        _isBeyondKept = true;
        if (_kept is { } kept)
        {
            _kept = null;
            Request.Loop.Return(kept);
        }
    }

    private void PlanBody(HttpRequest r, bool ownsBody)
    {
        if (ownsBody)
        {
            HasBody = HasOwnBody;
            BodyBytes = OwnBody.Length;
            return;
        }
        HasBody = r.Body.IsExpected || r.IsMain && r.Head.ContentLength == 0;
        BodyBytes = StreamsBody ? r.Head.Chunked ? -1 : r.Head.ContentLength : r.Body.Bytes;
    }

    /// <summary>Ends the sender before the connection changes hands.</summary>
    private async LoopTask<Unit> StopSenderAsync()
    {
        if (!_senderActive)
        {
            return default;
        }
        _keep = false;
        _stopSending = true;
        if (_readingClient)
        {
            Request.Stream.CancelRead();
        }
        else
        {
            Stream.CancelDrain();
        }
        if (_senderActive)
        {
            await _senderEnd.Begin();
        }
        _stopSending = false;
        return default;
    }

    // The tunnel.

    private async LoopTask<UpstreamFault> TunnelAsync()
    {
        HttpRequest r = Request;
        Watch(false);
        _keep = false;
        _buffered = false;
        _result = PhaseResult.Done;
        _body ??= r.Loop.RentChain();
        r.SendHead();
        if (!r.Stream.Flush(r))
        {
            return Gone();
        }
        _senderActive = true;
        SendTunnelAsync().Forget();
        Connection stream = Stream;
        if (_start < _end)
        {
            _body.AppendSlice(InputMemory, _input);
            _start = _end;
        }
        while (true)
        {
            if (_body.Length > 0)
            {
                _record.Current.ResponseBytes += _body.Length;
                r.Push(_body, PushFlags.Flush);
                if (!await r.Drained(Settings.BufferSizeBytes.Value))
                {
                    break;
                }
            }
            ReleaseInput();
            if (!_senderActive)
            {
                break;
            }
            stream.SetReadDeadline(r.Loop.NowMs + Settings.ReadTimeoutMs.Value);
            RecvLease lease = await stream.ReceiveAsync();
            if (lease.IsError || lease.IsEnd)
            {
                if (lease.Error == Errno.ETIMEDOUT)
                {
                    LogWith(LogLevel.Info, "upstream timed out", lease.Error, "proxying upgraded connection");
                }
                break;
            }
            _record.Current.ReceivedBytes += lease.Length;
            _body.AppendSlice(lease.Memory, lease.Slab);
            lease.Release();
        }
        await r.Drained(0);
        return default;
    }

    private async LoopTask<Unit> SendTunnelAsync()
    {
        HttpRequest r = Request;
        Connection stream = Stream;
        BufferChain output = _output!;
        while (!_stopSending)
        {
            _readingClient = true;
            RecvLease lease = await r.Stream.ReadTunnelAsync(r);
            _readingClient = false;
            if (lease.IsError || lease.IsEnd)
            {
                break;
            }
            output.AppendSlice(lease.Memory, lease.Slab);
            lease.Release();
            stream.SetReadDeadline(r.Loop.NowMs + Settings.ReadTimeoutMs.Value);
            if (!stream.Send(output) || (await stream.DrainAsync(output, 16 * 1024)).IsError)
            {
                break;
            }
        }
        if (!_stopSending)
        {
            await stream.DrainAsync(output);
        }
        _senderActive = false;
        stream.CancelReceive();
        if (_senderEnd.IsWaiting)
        {
            _senderEnd.SetResult(default);
        }
        return default;
    }

    // Whom to ask: addresses that only now become known, and a place in the queue of a group.

    /// <summary>A host that a variable named: its addresses are a group for this exchange alone.</summary>
    private async LoopTask<int> FindGroupAsync()
    {
        HttpRequest r = Request;
        if (Resolver is null)
        {
            r.LogError(LogLevel.Error, $"no resolver defined to resolve {TargetName}");
            return 502;
        }
        ResolveOutcome outcome = await Session.Upstream.Resolver.Of(r.Loop, Resolver).ResolveAsync(TargetName.Span);
        if (outcome.Name is not { } name)
        {
            r.LogError(LogLevel.Error, $"{TargetName} could not be resolved ({outcome.Code}: {outcome.Message})");
            return 502;
        }
        Use(name.Peers(TargetPortNumber));
        return 0;
    }

    /// <summary>Asks these addresses, in this exchange only.</summary>
    internal void Use(ReadOnlySpan<PeerSpec> addresses)
    {
        _own ??= new GroupState(Request.Loop);
        _own.Restart(addresses);
        Group = _own;
    }

    private GroupState? _own;

    private QueuePlace? _place;
    private Peer? _entered;

    /// <summary>Takes a server, waiting for one where none has room. False when there is none in time.</summary>
    private async LoopTask<bool> EnterQueuedAsync(UpstreamQueue queue)
    {
        while (true)
        {
            bool fresh = _walk.IsFresh;
            if (!fresh || !queue.MustWait)
            {
                _entered = Group.Enter(ref _walk);
                if (_entered is not null || !fresh)
                {
                    return true;
                }
            }
            if (IsAbandoned)
            {
                return false;
            }
            _walk.Restart();
            _place ??= new QueuePlace();
            QueueEnd end = await queue.WaitAsync(_place);
            if (end != QueueEnd.Room)
            {
                string? why = end switch
                {
                    QueueEnd.Timeout => "upstream queue timed out",
                    QueueEnd.Overflow => "upstream queue is full",
                    _ => null,
                };
                if (why is not null)
                {
                    LogWith(LogLevel.Error, why, 0, "connecting to upstream", Group.Group.Name.ToString());
                }
                return false;
            }
        }
    }

    private void CancelQueued()
    {
        if (_place is { } place)
        {
            Group.Queue?.Cancel(place);
        }
    }

    /// <summary>The request was torn down: nobody waits in this place any more.</summary>
    private void LeaveQueue()
    {
        if (_place is { IsQueued: true } place)
        {
            Group.Queue?.Drop(place);
            _place = null;
        }
        if (_entered is { } peer)
        {
            _entered = null;
            Group.Leave(ref _walk, peer, PeerEnd.Fine);
        }
    }

    // Connecting.

    private async LoopTask<UpstreamFault> ConnectAsync(Peer peer)
    {
        EventLoop loop = Request.Loop;
        BindAddress? bind = Settings.Bind.Value;
        LoopTask<ConnectOutcome> task = loop.ConnectAsync(peer.Spec.Address,
            bind is null ? default : new LocalEnd(bind.Of(Request), bind.IsTransparent),
            (int)Settings.ConnectTimeoutMs.Value, out Connection connection);
        _connecting = connection;
        ConnectOutcome outcome = await task;
        _connecting = null;
        if (outcome.IsError)
        {
            return FailConnect(outcome.Error);
        }
        connection.Tune(Settings.SocketKeepAlive.Value, (int)Settings.SocketReceiveBytes.Value,
            (int)Settings.SocketSendBytes.Value);
        if (Tls is { } tls)
        {
            _connecting = connection = tls.Begin(connection, _tlsName!, peer, Protocol.IsMultiplexed);
            UpstreamFault fault = await tls.ShakeAsync(this, (TlsConnection)connection, _tlsName!);
            _connecting = null;
            if (!fault.IsNone)
            {
                connection.Close();
                return LeaveUnconnected(fault);
            }
        }
        if (Protocol.IsMultiplexed)
        {
            connection = Group.Multiplexed.Add(connection, peer, _tag);
        }
        _record.Current.ConnectMs = loop.NowMs - _record.Current.StartMs;
        _lease = UpstreamConnection.Rent(loop, connection, peer);
        _lease.Tag = _tag;
        _lease.Requests = 1;
        return default;
    }

    /// <summary>Takes a stream of a connection that is there.</summary>
    private bool TakeStream(Peer peer)
    {
        if (Group.Multiplexed.Take(peer, _tag) is not { } stream)
        {
            return false;
        }
        _lease = UpstreamConnection.Rent(Request.Loop, stream, peer);
        _lease.Requests = 1;
        _reused = stream.Upstream.Requests > 1;
        _record.Current.ConnectMs = 0;
        return true;
    }

    /// <summary>Connects, or waits for who connects to the same server at this moment.</summary>
    private async LoopTask<UpstreamFault> ConnectSharedAsync(Peer peer)
    {
        MultiplexedConnections shared = Group.Multiplexed;
        object tag = _tag;
        while (!shared.BeginConnecting(peer, tag))
        {
            int errno = await shared.WaitAsync(peer, tag, _sharedConnect);
            if (IsAbandoned)
            {
                return LeaveUnconnected(ClientGone());
            }
            if (errno is not 0 and not Errno.ECANCELED)
            {
                return FailConnect(errno);
            }
            if (TakeStream(peer))
            {
                return default;
            }
        }
        _connectErrno = 0;
        UpstreamFault fault = await ConnectAsync(peer);
        int error = fault.IsNone ? 0 : fault.Kind == FaultKind.Client ? Errno.ECANCELED
            : _connectErrno != 0 ? _connectErrno : Errno.EPROTO;
        shared.EndConnecting(peer, tag, error);
        return fault;
    }

    private LoopOperation<int> _sharedConnect = new();
    private int _connectErrno;

    /// <summary>The request was torn down: nobody waits for another's connection any more.</summary>
    private void LeaveSharedConnect()
    {
        if (_sharedConnect.IsPending)
        {
            Group.Multiplexed.Forget(_sharedConnect);
            _sharedConnect = new LoopOperation<int>();
        }
    }

    private UpstreamFault FailConnect(int errno)
    {
        UpstreamFault fault;
        _connectErrno = errno;
        if (IsAbandoned)
        {
            fault = ClientGone();
        }
        else if (errno == Errno.ETIMEDOUT)
        {
            LogWith(LogLevel.Error, "upstream timed out", errno, "connecting to upstream");
            fault = new UpstreamFault(FaultKind.Timeout, FaultLeg.Connect);
        }
        else
        {
            LogWith(LogLevel.Error, "connect() failed", errno, "connecting to upstream");
            fault = new UpstreamFault(FaultKind.Error, FaultLeg.Connect);
        }
        return LeaveUnconnected(fault);
    }

    private UpstreamFault LeaveUnconnected(UpstreamFault fault)
    {
        EndRecord(fault.Status);
        LeavePeer(fault.Kind == FaultKind.Client ? PeerEnd.Fine : PeerEnd.Failed);
        return fault;
    }
}
