// The reading half of a multiplexed connection: frames become news for streams, which are woken when all that came at
// once has been read; what breaks the protocol ends a stream or the connection, and what the peer never worked on may
// be sent again elsewhere.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http2;
using Weir.Tls;

namespace Weir.Session.Upstream;

public sealed partial class Http2Upstream
{
    private uint _blockStream;
    private bool _blockEndsStream;
    private bool _isReading;
    private bool _wakes;
    private Action? _wakeAll;

    private async LoopTask<Unit> ReadAsync()
    {
        while (!_isClosed)
        {
            RecvLease lease = await Inner.ReceiveAsync();
            if (lease.IsError || lease.IsEnd)
            {
                if (!_isClosed && Inner is TlsConnection { Session.HasRenegotiated: true })
                {
                    Fail(Http2Reason.Renegotiation);
                }
                else if (!_isClosed)
                {
                    Fail(lease.Error);
                }
                break;
            }
            _isReading = true;
            if (!_isClosed)
            {
                Take(lease);
            }
            lease.Release();
            WakeAll();
            _isReading = false;
        }
        return default;
    }

    internal void WakeLater(UpstreamStream stream)
    {
        if (stream.IsToWake)
        {
            return;
        }
        stream.IsToWake = true;
        stream.NextToWake = null;
        if (_lastToWake is { } last)
        {
            last.NextToWake = stream;
        }
        else
        {
            _toWake = stream;
        }
        _lastToWake = stream;
        if (!_isReading && !_wakes)
        {
            _wakes = true;
            Loop.Ready(_wakeAll ??= WakeAll);
        }
    }

    private void WakeAll()
    {
        _wakes = false;
        while (_toWake is { } stream)
        {
            _toWake = stream.NextToWake;
            if (_toWake is null)
            {
                _lastToWake = null;
            }
            stream.NextToWake = null;
            stream.IsToWake = false;
            if (!stream.IsClosed)
            {
                stream.Wake();
            }
            else if (!stream.IsBlocked)
            {
                GiveBack(stream);
            }
        }
    }

    private void Take(RecvLease lease)
    {
        ReadOnlySpan<byte> input = lease.Span;
        while (!_isClosed)
        {
            FrameEvent e = _reader.Read(ref input, out FramePiece piece);
            switch (e)
            {
                case FrameEvent.NeedMore:
                    return;
                case FrameEvent.Data:
                    TakeData(in piece, lease);
                    break;
                case FrameEvent.Headers:
                    TakeHeaders(in piece);
                    break;
                case FrameEvent.Fault when Http2Reasons.IsConnectionError(piece.Reason):
                    Fail(piece.Reason);
                    break;
                case FrameEvent.Fault:
                    Fail(piece.StreamId, piece.Reason);
                    break;
                default:
                    TakeControl(e, in piece);
                    break;
            }
        }
    }

    private void TakeControl(FrameEvent e, in FramePiece piece)
    {
        if (e is not (FrameEvent.WindowUpdate or FrameEvent.Setting) && ++_glitches > GlitchesMax)
        {
            Fail(Http2Reason.TooManyGlitches);
            return;
        }
        switch (e)
        {
            case FrameEvent.Setting:
                Apply(piece.Id, piece.Value);
                break;
            case FrameEvent.SettingsEnd:
                _output.Advance(FrameWriter.SettingsAck(_output.GetSpan(Http2Limits.FrameHeaderBytes)));
                FlushLater();
                break;
            case FrameEvent.Ping when !piece.Header.Has(FrameFlags.Ack):
                _output.Advance(FrameWriter.Ping(_output.GetSpan(FrameWriter.PingBytes), true, piece.Opaque));
                FlushLater();
                break;
            case FrameEvent.WindowUpdate:
                Grow(piece.StreamId, piece.Value);
                break;
            case FrameEvent.RstStream:
                if (Find(piece.StreamId) is { } reset)
                {
                    reset.TakeReset(piece.Error);
                }
                break;
            case FrameEvent.GoAway:
                TakeGoAway(piece.StreamId, piece.Error);
                break;
        }
    }

    private void Apply(SettingId id, uint value)
    {
        switch (id)
        {
            case SettingId.HeaderTableSize:
                _encoder.Allow(value);
                break;
            case SettingId.MaxConcurrentStreams:
                _peerStreamsMax = (int)Math.Min(value, int.MaxValue);
                break;
            case SettingId.MaxFrameSize:
                _peerFrameMax = (int)Math.Min(value, 64 * 1024);
                break;
            case SettingId.InitialWindowSize:
                int before = _peerWindow;
                _peerWindow = (int)value;
                foreach (UpstreamStream stream in _streams.Values)
                {
                    if (!stream.SendWindow.TryAdjust(before, _peerWindow))
                    {
                        Fail(Http2Reason.InitialWindowOverflow);
                        return;
                    }
                }
                foreach (UpstreamStream stream in _streams.Values)
                {
                    stream.Pump();
                }
                break;
        }
    }

    private void Grow(uint streamId, uint increment)
    {
        if (streamId == 0)
        {
            if (!_sendWindow.TryGrow(increment))
            {
                Fail(Http2Reason.ConnectionWindowOverflow);
                return;
            }
            PumpBlocked();
        }
        else if (Find(streamId) is { } stream)
        {
            if (!stream.SendWindow.TryGrow(increment))
            {
                Fail(streamId, Http2Reason.WindowOverflow);
                return;
            }
            stream.Pump();
        }
    }

    /// <summary>A stream that an exchange still has. A frame for one that was never opened ends the
    /// connection.</summary>
    private UpstreamStream? Find(uint streamId)
    {
        if (_streams.TryGetValue(streamId, out UpstreamStream? stream))
        {
            return stream;
        }
        if (_numbers.IsIdle(streamId))
        {
            Fail(Http2Reason.StreamIdle);
        }
        return null;
    }

    private void TakeData(in FramePiece piece, RecvLease lease)
    {
        _glitches = piece.Bytes.IsEmpty ? _glitches + 1 : 0;
        if (!_receiveWindow.TryReceive(piece.FlowBytes))
        {
            Fail(Http2Reason.ConnectionWindowExceeded);
            return;
        }
        int increment = _receiveWindow.Consume(piece.FlowBytes);
        if (increment > 0)
        {
            _output.Advance(FrameWriter.WindowUpdate(_output.GetSpan(FrameWriter.WindowUpdateBytes), 0, increment));
            FlushLater();
        }
        if (Find(piece.StreamId) is not { } stream || stream.IsReset)
        {
            return;
        }
        Http2Reason reason = stream.State.ReceiveData(piece.EndsStream);
        if (reason == Http2Reason.None && !stream.ReceiveWindow.TryReceive(piece.FlowBytes))
        {
            reason = Http2Reason.WindowExceeded;
        }
        if (reason == Http2Reason.None && !stream.HasFinalHead)
        {
            reason = Http2Reason.MissingStatus;
        }
        if (reason != Http2Reason.None)
        {
            Fail(stream, reason);
            return;
        }
        if (piece.FlowBytes > piece.Bytes.Length)
        {
            Credit(stream, piece.FlowBytes - piece.Bytes.Length);
        }
        if (!piece.Bytes.IsEmpty)
        {
            lease.Span.Overlaps(piece.Bytes, out int offset);
            stream.TakeData(piece.Bytes, lease.Memory.Slice(offset, piece.Bytes.Length), lease.Slab!);
        }
        else if (piece.EndsStream)
        {
            stream.News();
        }
    }

    private void TakeHeaders(in FramePiece piece)
    {
        if (piece.First && piece.Header.Type == FrameType.Headers)
        {
            _blockStream = piece.StreamId;
            _blockEndsStream = piece.Header.Has(FrameFlags.EndStream);
        }
        Http2Reason reason = _block.Add(in piece, out ReadOnlySpan<byte> bytes);
        if (reason != Http2Reason.None)
        {
            Fail(reason);
            return;
        }
        if (!piece.EndsBlock)
        {
            return;
        }
        _glitches = 0;
        BufferSlab scratch = Loop.Buffers.Rent();
        Decode(bytes, scratch.Span);
        scratch.Release();
        _block.Clear();
    }

    private void Decode(ReadOnlySpan<byte> bytes, Span<byte> scratch)
    {
        UpstreamStream? stream = Find(_blockStream);
        if (_isClosed)
        {
            return;
        }
        Http2Reason reason;
        if (stream is null || stream.IsReset || stream.State.RemoteEnded)
        {
            // Nobody wants it; the table has to know it all the same.
            var nothing = default(Nothing);
            reason = _decoder.Decode(bytes, scratch, 0, ref nothing);
            reason = reason == Http2Reason.HeaderListTooLarge ? Http2Reason.None : reason;
            if (reason == Http2Reason.None && stream is { IsReset: false })
            {
                reason = stream.State.ReceiveHeaders(_blockEndsStream);
            }
        }
        else
        {
            reason = stream.TakeFields(_decoder, bytes, scratch, _blockEndsStream);
            if (reason == Http2Reason.None)
            {
                stream.State.ReceiveHeaders(_blockEndsStream);
                stream.News();
                if (stream.HasInterimHead)
                {
                    stream.Wake();
                }
            }
        }
        if (reason == Http2Reason.None)
        {
            return;
        }
        if (Http2Reasons.IsConnectionError(reason) || stream is null)
        {
            Fail(reason);
        }
        else
        {
            Fail(stream, reason);
        }
    }

    private struct Nothing : IHpackSink
    {
        public readonly void Field(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, int staticName,
            bool sensitive)
        {
        }
    }

    // Ends.

    /// <summary>No more streams here. Those above the last one were not worked on, and may be tried
    /// elsewhere.</summary>
    private void TakeGoAway(uint last, Http2Error error)
    {
        _isLeaving = true;
        _list.Remove(this);
        foreach (UpstreamStream stream in _streams.Values)
        {
            if (stream.Id > last)
            {
                stream.Break(Errno.ECONNRESET, unprocessed: true);
            }
        }
        if (error != Http2Error.NoError && _active > 0)
        {
            Report(LogLevel.Warn, $"upstream sent GOAWAY with error {Http2Errors.Name(error)}");
        }
        if (_active == 0)
        {
            Close();
        }
    }

    private void Fail(uint streamId, Http2Reason reason)
    {
        if (Find(streamId) is { } stream)
        {
            Fail(stream, reason);
        }
    }

    private void Fail(UpstreamStream stream, Http2Reason reason)
    {
        if (!stream.State.IsReset)
        {
            stream.State.SendReset();
            Reset(stream.Id, Http2Reasons.ErrorOf(reason));
        }
        stream.Refuse(reason);
    }

    /// <summary>The peer broke the protocol: it is told, and every stream ends.</summary>
    private void Fail(Http2Reason reason)
    {
        if (_isClosed)
        {
            return;
        }
        Http2Fault fault = Http2Reasons.Of(reason);
        Report(LogLevel.Error, $"upstream sent {fault.Text} ({fault.Section}), HTTP/2 connection closed");
        _output.Advance(FrameWriter.GoAway(_output.GetSpan(FrameWriter.GoAwayBytes), 0, fault.Error));
        Inner.Send(_output);
        Fail(Errno.EPROTO);
    }

    private void Fail(int errno)
    {
        if (_isClosed)
        {
            return;
        }
        Close();
        foreach (UpstreamStream stream in _streams.Values)
        {
            stream.Break(errno, unprocessed: false);
        }
    }

    private void Report(LogLevel level, string text) => Loop.Report?.Invoke(level, text, 0);
}
