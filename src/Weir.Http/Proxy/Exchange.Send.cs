// What an exchange sends beyond its first write: the rest of a large request, a body that is streamed from the client,
// and the two directions of a tunnel after an upgrade. Each runs as a loop task of its own beside the reader; the
// exchange waits for its end before the connection is given back.
using Weir.Kernel;
using Weir.Loop;

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
        bool fine = true;
        while (StreamsBody && fine && !_stopSending)
        {
            IoResult room = await stream.DrainAsync(output, 64 * 1024);
            if (room.IsError || _stopSending)
            {
                fine = false;
                break;
            }
            _readingClient = true;
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
}
