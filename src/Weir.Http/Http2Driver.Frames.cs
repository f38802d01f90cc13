// The reading half of an HTTP/2 connection: frames become requests, pieces of bodies, windows and settings; what breaks
// the protocol ends a stream or the connection with the code that RFC 9113 names, and what floods it is counted.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Protocol.Http2;

namespace Weir.Http;

internal sealed partial class Http2Driver
{
    private const int ContinuationsMax = 32;

    /// <summary>Heads that are a little too large are still read, to be answered in words.</summary>
    private const int BlockBytesMore = 16 * 1024;

    private readonly HpackDecoder _decoder = new();
    private readonly ConfBufs _headerBuffers;
    private Http2RecentResets _resets;
    private FrameReader _reader = new(fromClient: true);
    private HeaderBlock _block;
    private StreamNumbers _numbers;
    private Http2SkippedNumbers _skipped;
    private Http2Floods _floods;
    private int _prefaceSeen;
    private int _answered;
    private bool _isAcknowledged;
    private bool _isProcessing;
    private bool _speaksPriorities;
    private Http2EarlyPriorities? _early;

    // Of the header block under way.
    private uint _headStream;
    private bool _headEnds;

    private long HeadBytesMax => _headerBuffers.Count * _headerBuffers.Bytes;

    /// <summary>Looks at all of what was received.</summary>
    private void Process(BufferSlab slab, int start, int end)
    {
        _isProcessing = true;
        ReadOnlySpan<byte> input = slab.Span[start..end];
        if (_prefaceSeen < Http2Limits.Preface.Length && !TakePreface(ref input))
        {
            Fail(Http2Reason.InvalidPreface);
        }
        while (!_isFailed)
        {
            FrameEvent e = _reader.Read(ref input, out FramePiece piece);
            if (e == FrameEvent.NeedMore)
            {
                break;
            }
            Take(e, in piece, slab);
        }
        _isProcessing = false;
    }

    private bool TakePreface(ref ReadOnlySpan<byte> input)
    {
        ReadOnlySpan<byte> rest = Http2Limits.Preface[_prefaceSeen..];
        int n = Math.Min(rest.Length, input.Length);
        bool same = input[..n].SequenceEqual(rest[..n]);
        _prefaceSeen += n;
        input = input[n..];
        return same;
    }

    private void Take(FrameEvent e, in FramePiece piece, BufferSlab slab)
    {
        switch (e)
        {
            case FrameEvent.Data:
                TakeData(in piece, slab);
                break;
            case FrameEvent.Headers:
                TakeHeaders(in piece);
                break;
            case FrameEvent.Setting:
                TakeSetting(piece.Id, piece.Value);
                break;
            case FrameEvent.SettingsEnd when Count(Http2Glitch.Settings):
                WriteSettingsAck();
                break;
            case FrameEvent.SettingsAck:
                _isAcknowledged = Count(Http2Glitch.Settings);
                break;
            case FrameEvent.Ping:
                TakePing(in piece);
                break;
            case FrameEvent.WindowUpdate:
                TakeWindowUpdate(piece.StreamId, piece.Value);
                break;
            case FrameEvent.RstStream:
                TakeReset(piece.StreamId);
                break;
            case FrameEvent.Priority:
                Count(Http2Glitch.Priority);
                break;
            case FrameEvent.PriorityUpdate:
                TakePriorityUpdate(piece.StreamId, piece.Priority);
                break;
            case FrameEvent.GoAway or FrameEvent.Unknown:
                Count(Http2Glitch.Unknown);
                break;
            case FrameEvent.Fault:
                Refuse(piece.StreamId, piece.Reason);
                break;
        }
    }

    // What is wrong.

    /// <summary>Counts a frame that does no work. False when there were too many, which ends the connection.</summary>
    private bool Count(Http2Glitch kind)
    {
        _counts.Glitches[(int)kind]++;
        int allowed = Http2Floods.Allowance(kind) + kind switch
        {
            Http2Glitch.Reset or Http2Glitch.BadStream => _answered / 2,
            Http2Glitch.WindowUpdate => _framesSent * 4,
            _ => 0,
        };
        if (_floods.Note(kind, Loop.NowMs, allowed))
        {
            return true;
        }
        _counts.Floods++;
        End(Http2Error.EnhanceYourCalm, 
            $"client sent too many frames of the kind \"{Encoding.ASCII.GetString(Http2Counts.Name(kind))}\"");
        return false;
    }

    /// <summary>Ends the stream or the connection for what is wrong, as the table of reasons says.</summary>
    private void Refuse(uint streamId, Http2Reason reason)
    {
        if (Http2Reasons.IsConnectionError(reason))
        {
            Fail(reason);
            return;
        }
        Http2Error error = Http2Reasons.ErrorOf(reason);
        if (_server.Log.Enabled(LogLevel.Info))
        {
            LogInfo($"client sent {Http2Reasons.Of(reason).Text} on stream {streamId}");
        }
        if (!Count(Http2Glitch.BadStream))
        {
            return;
        }
        if (_numbers.IsIdle(streamId))
        {
            // A stream that is not there cannot be reset.
            Fail(Http2Reason.StreamIdle);
        }
        else if (Streams.Find(streamId) is { } stream)
        {
            ResetStream(stream, error);
            stream.Fail(reset: true, malformed: true);
        }
        else if (!_resets.Remembers(streamId))
        {
            // One RST_STREAM is enough (RFC 9113 §5.4.2).
            WriteReset(streamId, error);
            _resets.Add(streamId);
        }
    }

    private void Fail(Http2Reason reason)
    {
        _counts.Glitches[(int)Http2Glitch.Violation]++;
        if (reason is Http2Reason.HeaderBlockTooLarge or Http2Reason.TooManyContinuations)
        {
            _counts.Glitches[(int)Http2Glitch.HeaderBlock]++;
        }
        End(Http2Reasons.ErrorOf(reason), $"client sent {Http2Reasons.Of(reason).Text}");
    }

    private void End(Http2Error error, string text)
    {
        if (!_isFailed)
        {
            _isFailed = true;
            LogInfo(text);
            WriteGoAway(_numbers.Last, error);
        }
    }

    private void LogInfo(string text) => _server.Log.Write(LogLevel.Info,
        $"{text} while processing HTTP/2 connection, client: {ClientText}, server: {_binding.Spec.Address}", 0,
        _connection.Number);

    // Header blocks.

    private void TakeHeaders(in FramePiece piece)
    {
        if (piece.Header.Type == FrameType.Headers && piece.First)
        {
            _headStream = piece.StreamId;
            _headEnds = piece.Header.Has(FrameFlags.EndStream);
        }
        if (piece.Header.Type == FrameType.Continuation && piece.First && piece.Header.Length == 0
            && !Count(Http2Glitch.EmptyData))
        {
            return;
        }
        Http2Reason reason = _block.Add(in piece, out ReadOnlySpan<byte> block);
        if (reason != Http2Reason.None)
        {
            Fail(reason);
        }
        else if (piece.EndsBlock)
        {
            TakeBlock(_headStream, block, _headEnds);
            _block.Clear();
        }
    }

    private void TakeBlock(uint id, ReadOnlySpan<byte> block, bool ends)
    {
        if (Streams.Find(id) is { } known)
        {
            TakeTrailers(known, block, ends);
            return;
        }
        if (id <= _numbers.Last && (id & 1) != 0)
        {
            bool late = _resets.Contains(id);
            Skip(block);
            if (!late && !_isFailed)
            {
                Fail(_skipped.Contains(id) ? Http2Reason.StreamIdNotGrowing : Http2Reason.StreamClosed);
            }
            return;
        }
        if (id > _numbers.Last + 2)
        {
            _skipped.Add(_numbers.Last == 0 ? 1 : _numbers.Last + 2, id - 2);
        }
        Http2Reason reason = _numbers.Open(id);
        if (reason != Http2Reason.None)
        {
            Fail(reason);
        }
        else if (_hasLeft)
        {
            // Beyond what GOAWAY said: the client knows that nobody looked at it.
            Skip(block);
            _resets.Add(id);
        }
        else if (_streamCount >= _streamsMax)
        {
            Skip(block);
            if (!_isFailed)
            {
                Refuse(id, Http2Reason.TooManyStreams);
            }
        }
        else
        {
            BeginRequest(id, block, ends);
        }
    }

    /// <summary>Nobody wants these fields, but the table must not fall behind.</summary>
    private void Skip(ReadOnlySpan<byte> block)
    {
        var nobody = new Http2NoSink();
        Http2Reason reason = _decoder.Decode(block, _server.Http2Scratch, int.MaxValue, ref nobody);
        if (reason != Http2Reason.None && Http2Reasons.IsConnectionError(reason))
        {
            Fail(reason);
        }
    }

    private void BeginRequest(uint id, ReadOnlySpan<byte> block, bool ends)
    {
        Http2Stream stream = Open(id);
        HttpRequest r = _server.RentRequest();
        ListenGroup group = _binding.Group;
        r.Begin(group.Configuration, group, stream, Loop);
        stream.Request = r;
        int limit = (int)Math.Min(HeadBytesMax, _server.Http2Text.Length);
        Span<byte> text = _server.Http2Text.AsSpan(0, limit);
        var sink = new Http2HeadSink(new RequestFields(text, r.OwnHead, r.Server.ParseOptions, extendedConnect: true));
        Http2Reason reason = _decoder.Decode(block, _server.Http2Scratch, limit, ref sink);
        if (reason == Http2Reason.None)
        {
            if (sink.IsWebSocket && !sink.HasKey)
            {
                AddWebSocketKey(ref sink.Fields);
            }
            reason = sink.Fields.Finish(ends);
        }
        else if (Http2Reasons.IsConnectionError(reason))
        {
            // Nothing of it is known: it never was a request.
            Fail(reason);
            Discard(stream, r);
            return;
        }
        stream.State.ReceiveHeaders(ends);
        RequestHead head = r.OwnHead;
        if (reason != Http2Reason.None)
        {
            if (Http2Reasons.Of(reason).Scope != FaultScope.Message)
            {
                Refuse(id, reason);
                Discard(stream, r);
                return;
            }
            // Understood, and more than is allowed: answered in words.
            _counts.Glitches[(int)Http2Glitch.HeaderBlock]++;
            head.Refuse(RejectReason.HeadersTooLarge);
        }
        else if (Http2Heads.LongLine(head, _headerBuffers.Bytes) is var tooLong and not RejectReason.None)
        {
            head.Refuse(tooLong);
        }
        if (head.Reject == RejectReason.None)
        {
            r.SetHead(r.Arena.Store(text[..head.HeadLength]));
        }
        else
        {
            r.SetRejectedHead(r.Arena.Store(text[..head.HeadersStart]));
        }
        // As nginx counts: what came, compressed, without the heads of frames.
        r.RequestBytes = block.Length;
        stream.IsTunnel = !sink.Fields.Protocol.IsEmpty;
        stream.BeginBody(head.ContentLength, ends);
        SetPriority(stream, sink.Priority, sink.HasPriority);
        _requests++;
        LocationConf location = r.Server.Location;
        if (_requests >= location.KeepAliveRequests || Loop.NowMs - _connection.StartMs > location.KeepAliveTimeMs)
        {
            LeaveNow();
        }
        RunStreamAsync(stream, r).Forget();
    }

    /// <summary>RFC 8441 needs no key, an HTTP/1.1 server does.</summary>
    private void AddWebSocketKey(ref RequestFields fields)
    {
        Span<byte> random = stackalloc byte[16];
        Loop.FillRandom(random);
        Span<byte> text = stackalloc byte[24];
        System.Buffers.Text.Base64.EncodeToUtf8(random, text, out int _, out int _);
        fields.Field("sec-websocket-key"u8, text, 0, sensitive: false);
    }

    private void TakeTrailers(Http2Stream stream, ReadOnlySpan<byte> block, bool ends)
    {
        Http2Reason state = stream.State.ReceiveHeaders(ends);
        if (state == Http2Reason.None && !ends)
        {
            state = Http2Reason.TrailersNotLast;
        }
        if (state != Http2Reason.None)
        {
            Skip(block);
            if (!_isFailed && !(stream.State.IsReset && _resets.Contains(stream.Id)))
            {
                Refuse(stream.Id, state);
            }
            return;
        }
        var fields = new TrailerFields(_server.Http2Text);
        Http2Reason reason = _decoder.Decode(block, _server.Http2Scratch, (int)HeadBytesMax, ref fields);
        if (reason == Http2Reason.None)
        {
            reason = fields.Reason;
        }
        if (reason == Http2Reason.None)
        {
            reason = stream.Measure(0, ends: true);
        }
        if (reason != Http2Reason.None)
        {
            Refuse(stream.Id, reason);
            return;
        }
        stream.Request?.Body.AddTrailers(_server.Http2Text.AsSpan(0, fields.Length));
        stream.EndBody();
    }

    // Bodies.

    private void TakeData(in FramePiece piece, BufferSlab slab)
    {
        if (!_receiveWindow.TryReceive(piece.FlowBytes))
        {
            Fail(Http2Reason.ConnectionWindowExceeded);
            return;
        }
        // Each stream's window bounds what is kept of it; the connection's only what is on its way.
        int more = _receiveWindow.Consume(piece.FlowBytes);
        if (more > 0)
        {
            WriteWindowUpdate(0, more);
        }
        Http2Stream? stream = Streams.Find(piece.StreamId);
        if (piece.First && piece.Header.Length == 0 && !piece.EndsStream && !Count(Http2Glitch.EmptyData))
        {
            return;
        }
        if (stream is null)
        {
            TakeLateData(piece.StreamId);
            return;
        }
        Http2Reason reason = stream.State.ReceiveData(piece.EndsStream);
        if (reason == Http2Reason.None && !stream.TryReceive(piece.FlowBytes))
        {
            reason = Http2Reason.WindowExceeded;
        }
        if (reason == Http2Reason.None)
        {
            reason = stream.Measure(piece.Bytes.Length, piece.EndsStream);
        }
        if (reason != Http2Reason.None)
        {
            if (!stream.State.IsReset)
            {
                Refuse(piece.StreamId, reason);
            }
            return;
        }
        if (stream.Request is { } r)
        {
            r.RequestBytes += piece.FlowBytes;
        }
        int offset = piece.Bytes.IsEmpty ? 0 : (int)Unsafe.ByteOffset(ref MemoryMarshal.GetReference(slab.Span),
            ref MemoryMarshal.GetReference(piece.Bytes));
        stream.TakeData(slab, offset, piece.Bytes.Length, piece.FlowBytes, piece.EndsStream);
    }

    private void TakeLateData(uint streamId)
    {
        if (_numbers.IsIdle(streamId))
        {
            Fail(Http2Reason.StreamIdle);
        }
        else if (!_resets.Contains(streamId) && !(_hasLeft && streamId > _numbers.Last))
        {
            Fail(Http2Reason.StreamClosed);
        }
    }

    // The rest.

    private void TakeSetting(SettingId id, uint value)
    {
        switch (id)
        {
            case SettingId.HeaderTableSize:
                _rest.Allow(value);
                Tools.Encoder.Allow(value);
                break;
            case SettingId.InitialWindowSize:
                ChangeWindows((int)value);
                break;
            case SettingId.MaxFrameSize:
                _peerFrameMax = (int)value;
                break;
            case SettingId.NoRfc7540Priorities:
                _speaksPriorities |= value == 1;
                break;
        }
    }

    private void ChangeWindows(int size)
    {
        int before = _peerWindow;
        _peerWindow = size;
        for (Http2Stream? stream = Streams.First; stream is not null; stream = Streams.After(stream))
        {
            if (!stream.Window.TryAdjust(before, size))
            {
                Fail(Http2Reason.InitialWindowOverflow);
                return;
            }
            Offer(stream);
        }
    }

    private void TakePing(in FramePiece piece)
    {
        if (!piece.Header.Has(FrameFlags.Ack))
        {
            if (Count(Http2Glitch.Ping))
            {
                WritePingAck(piece.Opaque);
            }
        }
        else if (piece.Opaque == GoAwayPing && _isLeaving)
        {
            // The client has heard the first GOAWAY: what it sends from here on it sends knowing.
            LeaveNow();
        }
    }

    private void TakeWindowUpdate(uint streamId, uint increment)
    {
        if (!Count(Http2Glitch.WindowUpdate))
        {
            return;
        }
        if (streamId == 0)
        {
            if (!_window.TryGrow(increment))
            {
                Fail(Http2Reason.ConnectionWindowOverflow);
            }
            return;
        }
        if (Streams.Find(streamId) is { } stream)
        {
            if (!stream.Window.TryGrow(increment))
            {
                Refuse(streamId, Http2Reason.WindowOverflow);
                return;
            }
            Offer(stream);
        }
        else if (_numbers.IsIdle(streamId))
        {
            Fail(Http2Reason.StreamIdle);
        }
    }

    private void TakeReset(uint streamId)
    {
        if (_numbers.IsIdle(streamId))
        {
            Fail(Http2Reason.StreamIdle);
            return;
        }
        if (Streams.Find(streamId) is not { } stream || stream.State.IsReset)
        {
            return;
        }
        bool early = !stream.State.LocalEnded;
        stream.State.ReceiveReset();
        if (early && !Count(Http2Glitch.Reset))
        {
            return;
        }
        stream.Fail(reset: true);
    }

    // Priorities.

    private void TakePriorityUpdate(uint streamId, StreamPriority priority)
    {
        if (!Count(Http2Glitch.Priority))
        {
            return;
        }
        _speaksPriorities = true;
        if (Streams.Find(streamId) is { } stream)
        {
            bool waits = stream.Line >= 0;
            Schedule.Remove(stream);
            SetPriority(stream, priority, said: true);
            if (waits)
            {
                Schedule.Add(stream);
            }
        }
        else if (_numbers.IsIdle(streamId) && (streamId & 1) != 0)
        {
            (_early ??= new Http2EarlyPriorities()).Add(streamId, priority);
        }
    }

    private void SetPriority(Http2Stream stream, StreamPriority priority, bool said)
    {
        _speaksPriorities |= said;
        _early?.Take(stream.Id, ref priority);
        stream.Urgency = priority.Urgency;
        // Who never speaks of priorities does not know that the default is to wait for each other.
        stream.TakesTurns = priority.Incremental || !_speaksPriorities;
    }
}
