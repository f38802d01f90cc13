// The reading half of an HTTP/1 exchange: waiting for a request, the input buffer, request bodies, what is left of
// them, lingering close, the PROXY protocol's head, and the way into TLS.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Protocol.Proxy;

namespace Weir.Http;

internal sealed partial class Http1Driver
{
    private long _bodyLeft;
    private bool _bodyChunked;
    private ChunkedDecoder _chunks = new();

    // Waiting for the next request.

    /// <summary>From here to <see cref="TakeInput"/> the connection holds no buffer.</summary>
    private void BeginWait()
    {
        ReleaseInput();
        ReleaseOut();
        bool first = _requests == 0;
        if (_server.IsQuitting && !first && !_connection.MayHaveInput)
        {
            // One more request may be on its way; it is answered with Connection: close.
            _connection.SetReadDeadline(_loop.NowMs + _server.QuitGraceMs);
        }
        else
        {
            long wait = first ? _binding.Group.DefaultServer.ClientHeaderTimeoutMs.Value : _idleTimeoutMs;
            _connection.SetReadDeadline(_loop.NowMs + wait);
        }
        _connection.OwnerCount = _requests;
        _waitsSince = _server.Waiting.Sweep;
        // One that never sent a request is the first to go too: nobody holds all slots by saying nothing.
        _loop.EnterIdle(_connection, Reclaim, fresh: first);
        Enter(ConnectionState.Waiting);
    }

    /// <summary>Nothing is under way and nothing was received: the connection waits alone, and this driver serves
    /// another one. Only what the PROXY protocol told about the client keeps it.</summary>
    private void Park()
    {
        Connection connection = _connection;
        _server.Waiting.Leave(this);
        if (_proxy is null)
        {
            connection.Owner = _binding;
            _connection = null!;
            _server.Return(this);
        }
        connection.Park(_server);
    }

    /// <summary>Ends the wait for a request that began before the sweep: the connection is parked.</summary>
    public void ParkIfWaiting(uint sweep)
    {
        if (_state == ConnectionState.Waiting && _waitsSince != sweep)
        {
            _parks = true;
            _connection.CancelReceive();
        }
    }

    private void LogLostWait(int error, bool first)
    {
        string what = error == Errno.ETIMEDOUT ? "client timed out" : HttpRequest.Failure(_connection);
        string number = HttpRequest.FailureNumber(_connection, error) is var n and not 0
            ? $" ({n}: {Errno.Describe(n)})" : "";
        _server.Log.Write(LogLevel.Info, $"{what}{number} while {(first ? "waiting for request" : "keepalive")}"
            + $", client: {ClientText()}", 0, _connection.Number);
    }

    private bool TakeInput(RecvLease lease)
    {
        if (_parks && lease.Error == Errno.ECANCELED)
        {
            return false;
        }
        _parks = false;
        _loop.LeaveIdle(_connection);
        if (lease.IsError || lease.IsEnd)
        {
            bool first = _requests == 0;
            if (lease.IsError && lease.Error != Errno.ECANCELED && (first || _connection.Fault is not null))
            {
                LogLostWait(lease.Error, first);
            }
            _reset |= lease.Error == Errno.ETIMEDOUT && first
                && _binding.Group.DefaultServer.Location.ResetTimedOutConnection.Value;
            return false;
        }
        _input = lease.Slab;
        _start = 0;
        _end = lease.Length;
        return true;
    }

    // Bodies.

    private void BeginBody(RequestHead head, long trailerBytesMax)
    {
        _sentContinue = false;
        _bodyChunked = head.Chunked;
        _bodyLeft = head.Chunked ? -1 : Math.Max(0, head.ContentLength);
        if (head.Chunked)
        {
            _chunks.Reset();
            // What stands behind a body is header fields too.
            _chunks.TrailerBytesMax = (int)Math.Min(trailerBytesMax, int.MaxValue);
        }
    }

    /// <summary>Makes sure more bytes can be joined to what is buffered.</summary>
    private void MakeRoom()
    {
        _repeatable = false;
        if (_start > 0)
        {
            int left = _end - _start;
            if (_input!.IsExclusive)
            {
                _input.Span[_start.._end].CopyTo(_input.Span);
            }
            else
            {
                BufferSlab fresh = _loop.Buffers.Rent(Math.Max(left, BufferPool.StandardSize));
                _input.Span[_start.._end].CopyTo(fresh.Span);
                _input.Release();
                _input = fresh;
            }
            _start = 0;
            _end = left;
        }
    }

    private void AppendInput(RecvLease lease)
    {
        _repeatable = false;
        int need = _end - _start + lease.Length;
        if (_input is null)
        {
            _input = lease.Slab;
            _start = 0;
            _end = lease.Length;
            return;
        }
        if (_end + lease.Length > _input.Capacity || !_input.IsExclusive)
        {
            // Twice the size once it is large: a head of megabytes is not copied again for every piece of it.
            int least = need > BufferPool.StandardSize ? Math.Max(need, 2 * (_end - _start)) : BufferPool.StandardSize;
            BufferSlab bigger = _loop.Buffers.Rent(least);
            _input.Span[_start.._end].CopyTo(bigger.Span);
            _input.Release();
            _input = bigger;
            _end -= _start;
            _start = 0;
        }
        lease.Span.CopyTo(_input.Span[_end..]);
        _end += lease.Length;
        lease.Release();
    }

    private void ReleaseInput()
    {
        _input?.Release();
        ForgetInput();
    }

    private void ForgetInput()
    {
        _repeatable = false;
        _input = null;
        _start = 0;
        _end = 0;
    }

    public override async LoopTask<BodyPiece> ReadBodyAsync(HttpRequest r)
    {
        while (true)
        {
            if (_start < _end)
            {
                BodyPiece piece = _bodyChunked ? TakeChunked(r, out bool more) : TakeCounted(out more);
                if (!more)
                {
                    return piece;
                }
            }
            if (!_bodyChunked && _bodyLeft == 0)
            {
                return new BodyPiece(default, 0, 0, true, 0);
            }
            if (r.Head.Expect100 && !_sentContinue && r.Version >= 11)
            {
                _sentContinue = true;
                if (!r.Response.IsSent)
                {
                    Out.Append("HTTP/1.1 100 Continue\r\n\r\n"u8);
                }
            }
            if (!Flush(r))
            {
                return new BodyPiece(default, 0, 0, false, 499);
            }
            if (_start == _end)
            {
                ReleaseInput();
            }
            _connection.SetReadDeadline(_loop.NowMs + r.Location.ClientBodyTimeoutMs.Value);
            RecvLease lease = await _connection.ReceiveAsync(BodyReceiveBytes());
            if (lease.IsError || lease.IsEnd)
            {
                return FailBody(r, lease);
            }
            r.RequestBytes += lease.Length;
            AppendInput(lease);
        }
    }

    private int BodyReceiveBytes() => _bodyChunked || _bodyLeft > 32 * 1024 ? 64 * 1024 : BufferPool.StandardSize;

    private static BodyPiece FailBody(HttpRequest r, RecvLease lease)
    {
        r.LogAction = "reading client request body";
        int status;
        if (lease.Error == Errno.ETIMEDOUT)
        {
            r.LogError(LogLevel.Info, "client timed out", Errno.ETIMEDOUT);
            status = 408;
        }
        else if (lease.IsEnd)
        {
            r.LogError(LogLevel.Info, "client prematurely closed connection");
            status = 400;
        }
        else
        {
            if (lease.Error != Errno.ECANCELED)
            {
                r.LogError(LogLevel.Info, HttpRequest.Failure(r.Connection),
                    HttpRequest.FailureNumber(r.Connection, lease.Error));
            }
            status = 499;
        }
        r.LogAction = null;
        return new BodyPiece(default, 0, 0, false, status);
    }

    private BodyPiece TakeCounted(out bool more)
    {
        more = false;
        int n = (int)Math.Min(_bodyLeft, _end - _start);
        if (n == 0)
        {
            return new BodyPiece(default, 0, 0, true, 0);
        }
        _bodyLeft -= n;
        return Take(_start, n, n, _bodyLeft == 0);
    }

    private BodyPiece TakeChunked(HttpRequest r, out bool more)
    {
        more = false;
        while (_start < _end)
        {
            ChunkEvent e = _chunks.Decode(_input!.Span[_start.._end], out int consumed, out TextRange data,
                out TextRange trailers);
            r.Body.AddTrailers(trailers.Of(_input.Span[_start.._end]));
            switch (e)
            {
                case ChunkEvent.Data:
                    return Take(_start + data.Start, data.Length, consumed, false);
                case ChunkEvent.End:
                    _start += consumed;
                    return new BodyPiece(default, 0, 0, true, 0);
                case ChunkEvent.Reject:
                    _start = _end;
                    _needsLingering = true;
                    r.LogAction = "reading client request body";
                    r.LogError(LogLevel.Info, RejectReasons.LogText(_chunks.Reason));
                    r.LogAction = null;
                    return new BodyPiece(default, 0, 0, false, RejectReasons.Status(_chunks.Reason));
                default:
                    _start += consumed;
                    break;
            }
        }
        more = true;
        return default;
    }

    private BodyPiece Take(int offset, int length, int consumed, bool last)
    {
        BufferSlab slab = _input!;
        slab.AddReference();
        _start += consumed;
        return new BodyPiece(RecvLease.Bytes(slab, _end), offset, length, last, 0);
    }

    public override async LoopTask<RecvLease> ReadTunnelAsync(HttpRequest r)
    {
        if (_start < _end)
        {
            // What came behind the head belongs to the tunnel: hand it over as if it had just been received.
            RecvLease copy;
            BufferSlab slab = _loop.Buffers.Rent(_end - _start);
            _input!.Span[_start.._end].CopyTo(slab.Span);
            copy = RecvLease.Bytes(slab, _end - _start);
            ReleaseInput();
            return copy;
        }
        ReleaseInput();
        _connection.SetReadDeadline(0);
        return await _connection.ReceiveAsync();
    }

    /// <summary>Reads what is left of a body that nobody wanted, so that the connection may go on. False to close
    /// it.</summary>
    private async LoopTask<bool> DiscardBodyAsync(HttpRequest r)
    {
        if (r.Head.Expect100 && !_sentContinue && _start == _end)
        {
            // The client waits for a word and may or may not send: only closing is unambiguous (RFC 9110 §10.1.1).
            _needsLingering = true;
            return await DowngradeAsync(r);
        }
        r.Body.StartDiscarding();
        long deadline = _loop.NowMs + r.Location.LingeringTimeMs.Value;
        while (true)
        {
            if (_start < _end)
            {
                BodyPiece piece = _bodyChunked ? TakeChunked(r, out bool more) : TakeCounted(out more);
                piece.Release();
                if (piece.Status != 0)
                {
                    return false;
                }
                if (piece.IsLast && !more)
                {
                    return true;
                }
                continue;
            }
            if (!_bodyChunked && _bodyLeft == 0)
            {
                return true;
            }
            if (!Flush(r) || _loop.NowMs >= deadline)
            {
                return false;
            }
            ReleaseInput();
            _connection.SetReadDeadline(Math.Min(deadline, _loop.NowMs + r.Location.LingeringTimeoutMs.Value));
            RecvLease lease = await _connection.ReceiveAsync(64 * 1024);
            if (lease.IsError || lease.IsEnd)
            {
                return false;
            }
            r.RequestBytes += lease.Length;
            AppendInput(lease);
        }
    }

    private static LoopTask<bool> DowngradeAsync(HttpRequest r)
    {
        r.KeepAlive = false;
        return new LoopTask<bool>(false);
    }

    /// <summary>Whether closing now could reset bytes that the client is still sending, and with them our
    /// answer.</summary>
    private bool ShouldLinger(HttpRequest r) => r.Location.LingeringClose.Value switch
    {
        LingeringClose.Off => false,
        LingeringClose.Always => true,
        _ => _needsLingering || _start < _end || !r.Body.IsComplete && r.Head.HasBody || _connection.MayHaveInput,
    };

    private async LoopTask<Unit> LingerAsync(int timeMs, int timeoutMs)
    {
        ReleaseInput();
        if (_connection.PeerClosed && !_connection.MayHaveInput)
        {
            return default;
        }
        _connection.ShutdownSend();
        long deadline = _loop.NowMs + timeMs;
        while (_loop.NowMs < deadline)
        {
            _connection.SetReadDeadline(Math.Min(deadline, _loop.NowMs + timeoutMs));
            RecvLease lease = await _connection.ReceiveAsync(64 * 1024);
            if (lease.IsError || lease.IsEnd)
            {
                break;
            }
            lease.Release();
        }
        return default;
    }

    /// <summary>What comes before the first request. False to close the connection.</summary>
    private async LoopTask<bool> EnterAsync() =>
        (!_binding.Group.ProxyProtocol || await ReadProxyHeaderAsync())
            && (!_binding.Group.Of(_connection).Tls || await SecureAsync());

    /// <summary>The handshake, unless the client speaks plain HTTP: that is answered.</summary>
    private async LoopTask<bool> SecureAsync()
    {
        var entrance = new TlsEntrance(_server, _connection, _binding.Group.Of(_connection), _input, _start, _end);
        ForgetInput();
        bool entered = await entrance.EnterAsync();
        _connection = entrance.Connection;
        _connection.Owner = this;
        _input = entrance.Input;
        _start = entrance.Start;
        _end = entrance.End;
        return entered;
    }

    // The way to HTTP/2: chosen by ALPN, or by what a client without TLS sends first (RFC 9113 §3.3, §3.4).

    private bool SpeaksHttp2() => _isHttp2 = _connection is Tls.TlsConnection tls
        && tls.Session.Alpn.SequenceEqual("h2"u8);

    private bool MayBeHttp2() => _input!.Span[_start] == 'P' && _connection is not Tls.TlsConnection
        && _binding.Group.Of(_connection) is var group && (group.Http2 || group.DefaultServer.Http2.Enabled.Value);

    /// <summary>Whether the client's first bytes are HTTP/2's preface; its first line decides.</summary>
    private async LoopTask<bool> IsHttp2Async()
    {
        long due = _loop.NowMs + _binding.Group.DefaultServer.ClientHeaderTimeoutMs.Value;
        while (true)
        {
            if (!LooksLikePreface(out bool whole) || whole)
            {
                return _isHttp2 = whole;
            }
            MakeRoom();
            _connection.SetReadDeadline(due);
            RecvLease lease = await _connection.ReceiveAsync();
            if (lease.IsError || lease.IsEnd)
            {
                // Nothing was asked: who goes on finds the same end again.
                return false;
            }
            AppendInput(lease);
        }
    }

    private bool LooksLikePreface(out bool whole)
    {
        const int lineBytes = 16;
        ReadOnlySpan<byte> line = Weir.Protocol.Http2.Http2Limits.Preface[..lineBytes];
        ReadOnlySpan<byte> input = _input!.Span[_start.._end];
        int n = Math.Min(line.Length, input.Length);
        bool same = input[..n].SequenceEqual(line[..n]);
        whole = same && n == line.Length;
        return same;
    }

    /// <summary>The connection goes on as HTTP/2; this driver serves another.</summary>
    private void HandOver()
    {
        _server.Waiting.Leave(this);
        Enter(ConnectionState.None);
        ReleaseOut();
        _server.StartHttp2(_connection, _binding, _proxy, _input, _start, _end);
        ForgetInput();
        _connection = null!;
        _proxy = null;
        _server.Return(this);
    }

    /// <summary>The PROXY protocol's header, before the first request. False when there is none: the connection
    /// ends.</summary>
    private async LoopTask<bool> ReadProxyHeaderAsync()
    {
        long deadline = _loop.NowMs + _binding.Group.DefaultServer.ClientHeaderTimeoutMs.Value;
        while (true)
        {
            _connection.SetReadDeadline(deadline);
            RecvLease lease = await _connection.ReceiveAsync();
            if (lease.IsEnd || lease.IsError)
            {
                return false;
            }
            AppendInput(lease);
            ReadOnlySpan<byte> bytes = _input!.Span[_start.._end];
            ParseStep step = ProxyProtocol.Read(bytes, out ProxyHeader header);
            if (step == ParseStep.Done)
            {
                _proxy = new ProxyClient(header, bytes[..header.Length]);
                _start += header.Length;
                return true;
            }
            if (step == ParseStep.Reject)
            {
                _server.Log.Write(LogLevel.Error,
                    $"broken header while reading PROXY protocol, client: {ClientText()}", 0,
                    _connection.Number);
                return false;
            }
        }
    }
}

/// <summary>What the PROXY protocol's header said, kept for the connection's life.</summary>
public sealed class ProxyClient(ProxyHeader header, ReadOnlySpan<byte> bytes)
{
    private readonly byte[] _bytes = bytes.ToArray();

    public ProxyHeader Header { get; } = header;

    /// <summary>The type-length-value fields of version 2.</summary>
    public ReadOnlySpan<byte> Tlvs => _bytes.AsSpan(Header.Tlvs.Start, Header.Tlvs.Length);
}
