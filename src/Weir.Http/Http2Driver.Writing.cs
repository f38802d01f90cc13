// The writing half of an HTTP/2 connection. Heads and control frames go into one output chain at once, in the order in
// which the compression's table needs them; bodies follow frame by frame as priorities and windows allow, never more
// ahead than a send or two. What streams write during one turn of the loop leaves in one gathered send.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Weir.Protocol.Http2;

namespace Weir.Http;

internal sealed partial class Http2Driver
{
    /// <summary>Frames of bodies are made until the output is this long.</summary>
    private const int FillBytes = 64 * 1024;

    /// <summary>Bytes sent in a row before others get their turn.</summary>
    private const long TurnBytesMax = 1024 * 1024;

    /// <summary>Memory up to this size is copied behind its frame's head: cheaper than a piece of its own.</summary>
    private const int CopyBytesMax = 4096;

    private Http2Tools? _tools;
    private Http2Rest _rest = Http2Rest.New;
    private BufferChain? _out;
    private SendWindow _window = new(Http2Limits.WindowDefault);
    private ReceiveWindow _receiveWindow = new(ConnectionWindowBytes);
    private int _peerWindow = Http2Limits.WindowDefault;
    private int _peerFrameMax = Http2Limits.FrameSizeDefault;
    private int _framesSent;
    private bool _isFlushing;
    private bool _isPumping;
    private bool _isDraining;

    private Http2Tools Tools => _tools ??= _server.RentTools(this, in _rest);

    internal Http2Schedule Schedule => _work.Schedule;

    private BufferChain Out => _out ??= Loop.RentChain();

    private long UnsentBytes => _out?.Length ?? 0;

    // Control frames.

    private void WriteSettings()
    {
        Span<byte> to = Out.GetSpan(128);
        int n = FrameWriter.Settings(to, 5);
        n += FrameWriter.Setting(to[n..], SettingId.MaxConcurrentStreams, (uint)_streamsMax);
        n += FrameWriter.Setting(to[n..], SettingId.InitialWindowSize, (uint)PrereadBytes);
        n += FrameWriter.Setting(to[n..], SettingId.MaxHeaderListSize, (uint)Math.Min(HeadBytesMax, int.MaxValue));
        n += FrameWriter.Setting(to[n..], SettingId.EnableConnectProtocol, 1);
        n += FrameWriter.Setting(to[n..], SettingId.NoRfc7540Priorities, 1);
        n += FrameWriter.WindowUpdate(to[n..], 0, ConnectionWindowBytes - Http2Limits.WindowDefault);
        Out.Advance(n);
    }

    private void WriteSettingsAck() =>
        Out.Advance(FrameWriter.SettingsAck(Out.GetSpan(Http2Limits.FrameHeaderBytes)));

    private void WritePing(ulong opaque) =>
        Out.Advance(FrameWriter.Ping(Out.GetSpan(FrameWriter.PingBytes), ack: false, opaque));

    private void WritePingAck(ulong opaque) =>
        Out.Advance(FrameWriter.Ping(Out.GetSpan(FrameWriter.PingBytes), ack: true, opaque));

    internal void WriteWindowUpdate(uint streamId, int increment)
    {
        Out.Advance(FrameWriter.WindowUpdate(Out.GetSpan(FrameWriter.WindowUpdateBytes), streamId, increment));
        FlushLater();
    }

    private void WriteReset(uint streamId, Http2Error error)
    {
        Out.Advance(FrameWriter.RstStream(Out.GetSpan(FrameWriter.RstStreamBytes), streamId, error));
        FlushLater();
    }

    private void WriteGoAway(uint lastStream, Http2Error error) =>
        Out.Advance(FrameWriter.GoAway(Out.GetSpan(FrameWriter.GoAwayBytes), lastStream, error));

    /// <summary>Ends a stream from this side; frames of it that are on their way are ignored.</summary>
    internal void ResetStream(Http2Stream stream, Http2Error error)
    {
        if (stream.State.IsReset || stream.IsGone)
        {
            return;
        }
        stream.State.SendReset();
        _resets.Add(stream.Id);
        WriteReset(stream.Id, error);
    }

    // Heads.

    internal void WriteHead(Http2Stream stream, HttpRequest r, bool ends)
    {
        ResponseHead head = r.Response;
        if (!head.Location.IsEmpty && head.Location.Span[0] == '/' && r.Location.AbsoluteRedirect.Value)
        {
            head.Location = AbsoluteLocation.Of(r, head.Location.Span);
        }
        BufferSlab? large = null;
        Span<byte> to = BeginBlock(Http2Heads.Room(r), ref large);
        int n = Http2Heads.Write(Tools.Encoder, to, r, _server.Clock, stream.IsTunnel);
        r.HeadBytesSent += EndBlock(stream, n, ends, large);
    }

    internal void WriteInterim(Http2Stream stream, HttpRequest r, int status, ReadOnlySpan<ResponseField> fields)
    {
        BufferSlab? large = null;
        Span<byte> to = BeginBlock(64 + Http2Heads.RoomOf(fields), ref large);
        HpackEncoder encoder = Tools.Encoder;
        int n = encoder.Begin(to);
        n += encoder.Status(to[n..], status);
        n += Http2Heads.WriteFields(encoder, to[n..], fields);
        r.HeadBytesSent += EndBlock(stream, n, ends: false, large);
        FlushLater();
    }

    /// <summary>Room for a header block: in the output behind a frame's head, or in a slab of its own when it may need
    /// several frames.</summary>
    private Span<byte> BeginBlock(int room, ref BufferSlab? large)
    {
        if (room > Http2Limits.FrameSizeDefault)
        {
            large = Loop.Buffers.Rent(room);
            return large.Span;
        }
        return Out.GetSpan(room + Http2Limits.FrameHeaderBytes)[Http2Limits.FrameHeaderBytes..];
    }

    /// <summary>Returns what the frames took.</summary>
    private int EndBlock(Http2Stream stream, int length, bool ends, BufferSlab? large)
    {
        stream.State.Send(ends);
        _framesSent++;
        FrameFlags flags = ends ? FrameFlags.EndStream : FrameFlags.None;
        BufferChain output = Out;
        if (large is null)
        {
            FrameWriter.Header(output.GetSpan(Http2Limits.FrameHeaderBytes + length), FrameType.Headers,
                flags | FrameFlags.EndHeaders, stream.Id, length);
            output.Advance(Http2Limits.FrameHeaderBytes + length);
            return Http2Limits.FrameHeaderBytes + length;
        }
        int written = 0;
        FrameType type = FrameType.Headers;
        for (int at = 0; at < length || at == 0;)
        {
            int part = Math.Min(length - at, _peerFrameMax);
            flags |= at + part == length ? FrameFlags.EndHeaders : FrameFlags.None;
            output.Advance(FrameWriter.Header(output.GetSpan(Http2Limits.FrameHeaderBytes), type, flags, stream.Id,
                part));
            output.Append(large.Span.Slice(at, part));
            written += Http2Limits.FrameHeaderBytes + part;
            at += part;
            type = FrameType.Continuation;
            flags = FrameFlags.None;
        }
        large.Release();
        return written;
    }

    // Bodies.

    /// <summary>Whether a frame of this length may go out now: nobody waits before it, both windows let it.</summary>
    private bool HasRoom(Http2Stream stream, long length) =>
        Schedule.IsEmpty && UnsentBytes < FillBytes && length <= _peerFrameMax && length <= stream.Window.Size
        && length <= _window.Size;

    /// <summary>A whole body in one frame that ends the stream. False when it has to wait.</summary>
    internal bool TryWriteData(Http2Stream stream, HttpRequest r, ReadOnlySpan<byte> body)
    {
        if (!HasRoom(stream, body.Length))
        {
            return false;
        }
        int bytes = Http2Limits.FrameHeaderBytes + body.Length;
        BufferChain output = Out;
        Span<byte> to = output.GetSpan(bytes);
        FrameWriter.Header(to, FrameType.Data, FrameFlags.EndStream, stream.Id, body.Length);
        body.CopyTo(to[Http2Limits.FrameHeaderBytes..]);
        output.Advance(bytes);
        Sent(stream, r, body.Length, ends: true);
        return true;
    }

    /// <summary>The same for what is pushed; more may follow.</summary>
    internal bool TryWriteData(Http2Stream stream, HttpRequest r, BufferChain chain)
    {
        long length = chain.Length;
        if (length > stream.ChunkBytes || length != chain.MemoryBytes || !HasRoom(stream, length))
        {
            return false;
        }
        FrameData(stream, r, chain, (int)length);
        return true;
    }

    /// <summary>Makes a frame of memory at the front of a chain.</summary>
    private void FrameData(Http2Stream stream, HttpRequest r, BufferChain chain, int length)
    {
        bool whole = stream.IsLast && chain.Length == length;
        bool ends = whole && r.Response.Trailers.IsEmpty;
        BufferChain output = Out;
        int room = Http2Limits.FrameHeaderBytes + (length <= CopyBytesMax ? length : 0);
        output.Advance(FrameWriter.Header(output.GetSpan(room), FrameType.Data,
            ends ? FrameFlags.EndStream : FrameFlags.None, stream.Id, length));
        chain.MoveOwned(output, length, CopyBytesMax);
        Sent(stream, r, length, ends);
        if (whole && !ends)
        {
            WriteEnd(stream, r);
        }
    }

    private void Sent(Http2Stream stream, HttpRequest r, int length, bool ends)
    {
        stream.Window.Take(length);
        _window.Take(length);
        stream.State.Send(ends);
        _framesSent++;
        r.HeadBytesSent += Http2Limits.FrameHeaderBytes;
        r.WireBodyBytes += length;
        r.BodyBytesSent += length;
        if (ends)
        {
            _answered++;
        }
        FlushLater();
    }

    /// <summary>Ends a stream whose bytes are all framed: with trailers where there are any.</summary>
    internal void WriteEnd(Http2Stream stream, HttpRequest r)
    {
        if (stream.State.LocalEnded || stream.IsGone)
        {
            return;
        }
        _answered++;
        ReadOnlySpan<ResponseField> trailers = r.Response.Trailers;
        if (trailers.IsEmpty)
        {
            Out.Advance(FrameWriter.Header(Out.GetSpan(Http2Limits.FrameHeaderBytes), FrameType.Data,
                FrameFlags.EndStream, stream.Id, 0));
            r.HeadBytesSent += Http2Limits.FrameHeaderBytes;
            stream.State.Send(endStream: true);
            _framesSent++;
        }
        else
        {
            BufferSlab? large = null;
            Span<byte> to = BeginBlock(Http2Heads.RoomOf(trailers), ref large);
            int n = Tools.Encoder.Begin(to);
            n += Http2Heads.WriteFields(Tools.Encoder, to[n..], trailers);
            r.HeadBytesSent += EndBlock(stream, n, ends: true, large);
        }
        FlushLater();
    }

    /// <summary>The stream may have something to send: it takes its place among those that do.</summary>
    internal void Offer(Http2Stream stream)
    {
        if (stream.HasPending && stream.Window.IsOpen && !stream.IsWarming && !stream.State.LocalEnded)
        {
            Schedule.Add(stream);
        }
    }

    // Sending.

    /// <summary>What is written now leaves at the end of this turn.</summary>
    internal void FlushLater()
    {
        if (!_isFlushing && !_isProcessing && !_isPumping)
        {
            _isFlushing = true;
            Loop.Ready(Tools.Flush);
        }
    }

    internal void FlushNow()
    {
        _isFlushing = false;
        if (_connection.IsClosed)
        {
            return;
        }
        Pump();
        NoteIdle();
    }

    /// <summary>Frames what may go and sends it, until nothing is left, the kernel takes no more, or others are to have
    /// their turn.</summary>
    private void Pump()
    {
        if (_isPumping || _connection.IsClosed)
        {
            return;
        }
        _isPumping = true;
        long stopAt = _connection.SentBytes + TurnBytesMax;
        bool isLate = false;
        while (true)
        {
            Fill();
            if (_out is not { IsEmpty: false } output)
            {
                break;
            }
            _connection.SendTimeoutMs = (int)_binding.Group.DefaultServer.Location.SendTimeoutMs.Value;
            if (!_connection.Send(output))
            {
                FailSending();
                break;
            }
            if (!output.IsEmpty || Schedule.IsEmpty || !_window.IsOpen)
            {
                break;
            }
            if (_connection.SentBytes >= stopAt)
            {
                isLate = true;
                break;
            }
        }
        _isPumping = false;
        if (_out is { } rest)
        {
            if (rest.IsEmpty)
            {
                _out = null;
                Loop.Return(rest);
            }
            else if (!_isDraining && _connection.SendError == 0)
            {
                _isDraining = true;
                DrainAsync(rest).Forget();
            }
        }
        if (isLate)
        {
            FlushLater();
        }
    }

    /// <summary>Waits until most of the output has left, then goes on.</summary>
    private async LoopTask<Unit> DrainAsync(BufferChain output)
    {
        // Less than that may have been refused by the kernel already: then all of it is waited for.
        long kept = _isEnded || output.Length <= FillBytes / 4 ? 0 : FillBytes / 4;
        IoResult sent = await _connection.DrainAsync(output, kept);
        _isDraining = false;
        if (sent.IsError)
        {
            FailSending();
        }
        else
        {
            Pump();
        }
        if (Tools.Room.IsWaiting && (_isEnded || UnsentBytes < UnsentBytesMax))
        {
            Tools.Room.SetResult(default);
        }
        else if (!_isEnded)
        {
            NoteIdle();
        }
        return default;
    }

    private void FailSending()
    {
        if (_isEnded)
        {
            return;
        }
        if (_connection.SendError == Errno.ETIMEDOUT)
        {
            LogInfo("client timed out");
            _reset = _binding.Group.DefaultServer.Location.ResetTimedOutConnection.Value;
        }
        LogFault();
        _isFailed = true;
        FailStreams();
        _connection.CancelReceive();
    }

    private void Fill()
    {
        while (UnsentBytes < FillBytes && _window.IsOpen && Schedule.Next() is { } stream)
        {
            SendOne(stream);
        }
    }

    /// <summary>The next frame of a stream. The stream may be over when this returns.</summary>
    private void SendOne(Http2Stream stream)
    {
        HttpRequest r = stream.Request!;
        BufferChain pending = stream.Pending!;
        int most = Math.Min(Math.Min(stream.ChunkBytes, _peerFrameMax), Math.Min(stream.Window.Size, _window.Size));
        if (pending[0].IsFile)
        {
            if (!FrameFile(stream, r, pending, (int)Math.Min(most, pending[0].Length)))
            {
                return;
            }
        }
        else
        {
            int memory = 0;
            for (int i = 0; i < pending.Count && memory < most && !pending[i].IsFile; i++)
            {
                memory += (int)Math.Min(most - memory, pending[i].Length);
            }
            FrameData(stream, r, pending, memory);
        }
        if (!stream.HasPending || !stream.Window.IsOpen)
        {
            Schedule.Remove(stream);
        }
        else
        {
            Schedule.Turn(stream);
        }
        stream.Framed();
    }

    /// <summary>A frame of bytes that are in a file: read behind the frame's head. False when they have to be waited
    /// for, or cannot be had.</summary>
    private bool FrameFile(Http2Stream stream, HttpRequest r, BufferChain pending, int length)
    {
        int fd = pending[0].File!.Fd;
        long offset = pending[0].FileOffset;
        NativeSlice to = Out.GetSlice(Http2Limits.FrameHeaderBytes + length);
        NativeSlice payload = to.Slice(Http2Limits.FrameHeaderBytes, length);
        SysResult read = stream.IsWarm ? Sys.ReadAt(fd, payload, offset) : Modules.FileSender.ReadNow(fd, payload,
            offset);
        if (read.Errno == Errno.EAGAIN)
        {
            Schedule.Remove(stream);
            stream.IsWarming = true;
            WarmAsync(stream, fd, offset, length).Forget();
            return false;
        }
        if (read.Value <= 0)
        {
            r.LogError(LogLevel.Alert,
                read.IsError ? "pread() failed" : $"pread() found the file truncated at {offset}", read.Errno);
            r.Abort(AbortReason.Failed);
            return false;
        }
        length = read.Int;
        pending.Consume(length);
        bool whole = stream.IsLast && pending.IsEmpty;
        bool ends = whole && r.Response.Trailers.IsEmpty;
        FrameWriter.Header(to.Span, FrameType.Data, ends ? FrameFlags.EndStream : FrameFlags.None, stream.Id, length);
        Out.Advance(Http2Limits.FrameHeaderBytes + length);
        Sent(stream, r, length, ends);
        if (whole && !ends)
        {
            WriteEnd(stream, r);
        }
        return true;
    }

    /// <summary>Reads what a stream will send next, so that it is in the cache. The file is the stream's request's,
    /// which does not end meanwhile: its bytes wait here.</summary>
    private async LoopTask<Unit> WarmAsync(Http2Stream stream, int fd, long offset, int length)
    {
        uint id = stream.Id;
        BufferSlab scratch = Loop.Buffers.Rent(length);
        await Loop.ReadFileAsync(fd, scratch.Memory.Slice(0, length), offset);
        scratch.Release();
        if (Streams.Find(id) == stream)
        {
            stream.IsWarming = false;
            stream.IsWarm = true;
            Offer(stream);
            FlushLater();
        }
        return default;
    }

    // At the end.

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
                await Tools.Room.Begin();
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
}
