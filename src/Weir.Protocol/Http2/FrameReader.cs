// Cuts what a peer sends into frames, whatever pieces it comes in, and checks what a frame alone can break: sizes,
// stream numbers, padding, the order of header blocks (RFC 9113 §4, §6). Takes every byte it is given: small payloads
// are gathered inside, DATA and header fragments are handed out as they come. Owned by one connection.
using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Weir.Protocol.Http2;

/// <summary>What the reader found.</summary>
public enum FrameEvent : byte
{
    /// <summary>All bytes are taken.</summary>
    NeedMore,
    /// <summary>A piece of a DATA frame, maybe empty; FlowBytes of it count for flow control.</summary>
    Data,
    /// <summary>A piece of the header block of a HEADERS frame or of a CONTINUATION.</summary>
    Headers,
    /// <summary>One setting: Id and Value.</summary>
    Setting,
    /// <summary>A SETTINGS frame is complete: acknowledge it.</summary>
    SettingsEnd,
    SettingsAck,
    /// <summary>A PING (or its acknowledgement, see the flags) with Opaque.</summary>
    Ping,
    /// <summary>StreamId is the last stream that was or may be worked on, Error why.</summary>
    GoAway,
    /// <summary>Value more bytes may be sent.</summary>
    WindowUpdate,
    /// <summary>The peer gave up the stream, for Error.</summary>
    RstStream,
    /// <summary>A PRIORITY frame of old: to be ignored, and counted.</summary>
    Priority,
    /// <summary>Priority is the new one of StreamId (RFC 9218 §7.1).</summary>
    PriorityUpdate,
    /// <summary>A frame of an unknown type was skipped: to be ignored, and counted.</summary>
    Unknown,
    /// <summary>Reason says what is wrong. When it is not the connection's error the frame is skipped and reading goes
    /// on.</summary>
    Fault,
}

/// <summary>What belongs to an event.</summary>
public ref struct FramePiece
{
    /// <summary>The frame's head.</summary>
    public FrameHeader Header;
    /// <summary>The stream the event is about.</summary>
    public uint StreamId;
    /// <summary>Data or a fragment of a header block, within the input.</summary>
    public ReadOnlySpan<byte> Bytes;
    /// <summary>For data: how many bytes this piece takes from the flow control windows, padding included.</summary>
    public int FlowBytes;
    /// <summary>This is the first piece of the frame.</summary>
    public bool First;
    /// <summary>The frame ends with this piece.</summary>
    public bool Last;
    public SettingId Id;
    public uint Value;
    public ulong Opaque;
    public StreamPriority Priority;
    public Http2Error Error;
    public Http2Reason Reason;

    /// <summary>DATA: the last piece of the last frame. HEADERS: the frame says that no more follows the
    /// block.</summary>
    public readonly bool EndsStream => Last && Header.EndsStream;

    /// <summary>The header block is complete with this piece.</summary>
    public readonly bool EndsBlock => Last && Header.Has(FrameFlags.EndHeaders);
}

/// <summary>A resumable reader of frames. Embed it by value.</summary>
public struct FrameReader
{
    private const int GatherMax = 68;

    private enum State : byte
    {
        Header, Gather, Stream, Settings, Padding, Skip, Failed,
    }

    [InlineArray(GatherMax)]
    private struct Gathered
    {
        private byte _first;
    }

    private readonly bool _fromClient;
    private State _state;
    private bool _started;
    private bool _first;
    private bool _counted;
    private FrameHeader _header;
    private Gathered _gathered;
    private int _have;
    private int _want;
    // Payload bytes not seen yet, without padding; and padding not seen yet.
    private int _left;
    private int _padding;
    // The stream whose header block is open, or 0.
    private uint _blockStream;

    /// <summary>The largest payload we said we take.</summary>
    public int FrameSizeMax { get; set; }

    /// <param name="fromClient">Whether the peer is a client.</param>
    public FrameReader(bool fromClient)
    {
        _fromClient = fromClient;
        FrameSizeMax = Http2Limits.FrameSizeDefault;
        _want = Http2Limits.FrameHeaderBytes;
    }

    /// <summary>A header block has begun and not ended.</summary>
    public readonly bool InHeaderBlock => _blockStream != 0;

    /// <summary>Between frames: the end of input here cuts nothing.</summary>
    public readonly bool IsIdle => _state == State.Header && _have == 0 && _blockStream == 0;

    /// <summary>The first frame's header has come.</summary>
    public readonly bool IsStarted => _started;

    /// <summary>Takes bytes off the input up to the next event. Call until it says NeedMore. </summary>
    public FrameEvent Read(ref ReadOnlySpan<byte> input, out FramePiece piece)
    {
        piece = default;
        while (true)
        {
            switch (_state)
            {
                case State.Header:
                    if (!TryHeader(ref input))
                    {
                        return FrameEvent.NeedMore;
                    }
                    Http2Reason reason = Begin();
                    piece.Header = _header;
                    piece.StreamId = _header.StreamId;
                    if (reason != Http2Reason.None)
                    {
                        return Fault(ref piece, reason);
                    }
                    break;
                case State.Gather:
                    if (!TryGather(ref input))
                    {
                        return FrameEvent.NeedMore;
                    }
                    FrameEvent gathered = Decide(ref piece);
                    if (gathered != FrameEvent.NeedMore)
                    {
                        return gathered;
                    }
                    break;
                case State.Stream:
                    if (input.IsEmpty && _left > 0)
                    {
                        return FrameEvent.NeedMore;
                    }
                    FrameEvent read = Piece(input, ref piece, out int consumed);
                    input = input[consumed..];
                    return read;
                case State.Settings:
                    if (_left == 0 && _have == 0)
                    {
                        EndFrame();
                        piece.Header = _header;
                        return FrameEvent.SettingsEnd;
                    }
                    if (!TryGather(ref input))
                    {
                        return FrameEvent.NeedMore;
                    }
                    return Setting(ref piece);
                case State.Padding:
                    int padding = Math.Min(_padding, input.Length);
                    input = input[padding..];
                    _padding -= padding;
                    if (_padding > 0)
                    {
                        if (padding == 0 || _header.Type != FrameType.Data)
                        {
                            return FrameEvent.NeedMore;
                        }
                    }
                    else
                    {
                        EndFrame();
                    }
                    piece.Header = _header;
                    piece.StreamId = _header.StreamId;
                    piece.FlowBytes = _header.Type == FrameType.Data ? padding : 0;
                    piece.Last = _padding == 0;
                    return _header.Type == FrameType.Data ? FrameEvent.Data : FrameEvent.Headers;
                case State.Skip:
                    int skipped = Math.Min(_left, input.Length);
                    input = input[skipped..];
                    _left -= skipped;
                    if (_left > 0)
                    {
                        return FrameEvent.NeedMore;
                    }
                    EndFrame();
                    if (_counted)
                    {
                        break;
                    }
                    piece.Header = _header;
                    piece.StreamId = _header.StreamId;
                    return FrameEvent.Unknown;
                default:
                    input = default;
                    return FrameEvent.NeedMore;
            }
        }
    }

    private bool TryHeader(scoped ref ReadOnlySpan<byte> input)
    {
        if (_have == 0 && input.Length >= Http2Limits.FrameHeaderBytes)
        {
            _header = FrameHeader.Read(input);
            input = input[Http2Limits.FrameHeaderBytes..];
            return true;
        }
        _want = Http2Limits.FrameHeaderBytes;
        if (!TryFill(ref input))
        {
            return false;
        }
        _header = FrameHeader.Read(_gathered);
        _have = 0;
        return true;
    }

    /// <summary>Checks the head and decides how the payload is read.</summary>
    private Http2Reason Begin()
    {
        int length = _header.Length;
        bool started = _started;
        _started = true;
        _counted = false;
        _left = length;
        _padding = 0;
        _first = true;
        _have = 0;
        if (length > FrameSizeMax)
        {
            return Http2Reason.FrameTooLarge;
        }
        if (!started && (_header.Type != FrameType.Settings || _header.Has(FrameFlags.Ack)))
        {
            return Http2Reason.FirstFrameNotSettings;
        }
        if (_blockStream != 0 && (_header.Type != FrameType.Continuation || _header.StreamId != _blockStream))
        {
            return Http2Reason.ContinuationExpected;
        }
        uint stream = _header.StreamId;
        switch (_header.Type)
        {
            case FrameType.Data or FrameType.Headers:
                return stream == 0 ? Http2Reason.StreamIdZero : BeginStream(length);
            case FrameType.Continuation:
                if (stream == 0)
                {
                    return Http2Reason.StreamIdZero;
                }
                if (_blockStream == 0)
                {
                    return Http2Reason.ContinuationUnexpected;
                }
                _blockStream = _header.Has(FrameFlags.EndHeaders) ? 0 : stream;
                _state = State.Stream;
                return Http2Reason.None;
            case FrameType.Priority:
                return Fixed(5, stream != 0, Http2Reason.StreamIdZero, Http2Reason.PriorityLength);
            case FrameType.RstStream:
                return Fixed(4, stream != 0, Http2Reason.StreamIdZero, Http2Reason.RstStreamLength);
            case FrameType.Settings:
                return BeginSettings(length, stream);
            case FrameType.PushPromise:
                return Http2Reason.PushPromise;
            case FrameType.Ping:
                return Fixed(8, stream == 0, Http2Reason.StreamIdNotZero, Http2Reason.PingLength);
            case FrameType.GoAway:
                return AtLeast(8, stream == 0, Http2Reason.StreamIdNotZero, Http2Reason.FrameTooShort, 8);
            case FrameType.WindowUpdate:
                return Fixed(4, true, Http2Reason.None, Http2Reason.WindowUpdateLength);
            case FrameType.PriorityUpdate when _fromClient:
                return AtLeast(
                    4, stream == 0, Http2Reason.StreamIdNotZero, Http2Reason.PriorityUpdateLength, GatherMax);
            default:
                _state = State.Skip;
                return Http2Reason.None;
        }
    }

    private Http2Reason BeginStream(int length)
    {
        bool headers = _header.Type == FrameType.Headers;
        bool padded = _header.Has(FrameFlags.Padded);
        int prefix = (padded ? 1 : 0) + (headers && _header.Has(FrameFlags.Priority) ? 5 : 0);
        if (prefix > length)
        {
            return Http2Reason.FrameTooShort;
        }
        _blockStream = headers && !_header.Has(FrameFlags.EndHeaders) ? _header.StreamId : 0;
        _want = prefix;
        _state = prefix > 0 ? State.Gather : State.Stream;
        return Http2Reason.None;
    }

    private Http2Reason BeginSettings(int length, uint stream)
    {
        if (stream != 0)
        {
            return Http2Reason.StreamIdNotZero;
        }
        if (_header.Has(FrameFlags.Ack))
        {
            _want = 0;
            _state = State.Gather;
            return length == 0 ? Http2Reason.None : Http2Reason.SettingsAckLength;
        }
        _want = FrameWriter.SettingBytes;
        _state = State.Settings;
        return length % FrameWriter.SettingBytes == 0 ? Http2Reason.None : Http2Reason.SettingsLength;
    }

    private Http2Reason Fixed(int length, bool streamFits, Http2Reason wrongStream, Http2Reason wrongLength)
    {
        _want = length;
        _state = State.Gather;
        return !streamFits ? wrongStream : _header.Length != length ? wrongLength : Http2Reason.None;
    }

    private Http2Reason AtLeast(int length, bool streamFits, Http2Reason wrongStream, Http2Reason wrongLength, int most)
    {
        _want = Math.Min(_header.Length, most);
        _state = State.Gather;
        return !streamFits ? wrongStream : _header.Length < length ? wrongLength : Http2Reason.None;
    }

    private bool TryFill(scoped ref ReadOnlySpan<byte> input)
    {
        int taken = Math.Min(_want - _have, input.Length);
        input[..taken].CopyTo(((Span<byte>)_gathered)[_have..]);
        input = input[taken..];
        _have += taken;
        return _have == _want;
    }

    private bool TryGather(scoped ref ReadOnlySpan<byte> input)
    {
        int before = _have;
        bool whole = TryFill(ref input);
        _left -= _have - before;
        return whole;
    }

    /// <summary>The part of the payload that decides is here.</summary>
    private FrameEvent Decide(ref FramePiece piece)
    {
        piece.Header = _header;
        piece.StreamId = _header.StreamId;
        ReadOnlySpan<byte> bytes = _gathered;
        bytes = bytes[.._have];
        switch (_header.Type)
        {
            case FrameType.Data or FrameType.Headers:
                return Prefix(bytes, ref piece);
            case FrameType.Priority:
                EndFrame();
                return FrameEvent.Priority;
            case FrameType.RstStream:
                piece.Error = (Http2Error)BinaryPrimitives.ReadUInt32BigEndian(bytes);
                EndFrame();
                return FrameEvent.RstStream;
            case FrameType.Settings:
                EndFrame();
                return FrameEvent.SettingsAck;
            case FrameType.Ping:
                piece.Opaque = BinaryPrimitives.ReadUInt64BigEndian(bytes);
                EndFrame();
                return FrameEvent.Ping;
            case FrameType.GoAway:
                piece.StreamId = BinaryPrimitives.ReadUInt32BigEndian(bytes) & Http2Limits.StreamIdMax;
                piece.Error = (Http2Error)BinaryPrimitives.ReadUInt32BigEndian(bytes[4..]);
                SkipRest();
                return FrameEvent.GoAway;
            case FrameType.WindowUpdate:
                piece.Value = BinaryPrimitives.ReadUInt32BigEndian(bytes) & Http2Limits.StreamIdMax;
                EndFrame();
                return piece.Value != 0 ? FrameEvent.WindowUpdate
                    : Fault(ref piece, piece.StreamId == 0
                        ? Http2Reason.ConnectionIncrementZero : Http2Reason.WindowIncrementZero);
            default:
                return PriorityUpdate(ref piece);
        }
    }

    private FrameEvent PriorityUpdate(ref FramePiece piece)
    {
        int have = _have;
        piece.StreamId = BinaryPrimitives.ReadUInt32BigEndian(_gathered) & Http2Limits.StreamIdMax;
        SkipRest();
        if (piece.StreamId == 0)
        {
            return Fault(ref piece, Http2Reason.PriorityUpdateStream);
        }
        ReadOnlySpan<byte> bytes = _gathered;
        piece.Priority = StreamPriority.Parse(bytes[4..have]);
        return FrameEvent.PriorityUpdate;
    }

    /// <summary>Pad length and the priority of old, before data or a fragment.</summary>
    private FrameEvent Prefix(scoped ReadOnlySpan<byte> bytes, ref FramePiece piece)
    {
        bool padded = _header.Has(FrameFlags.Padded);
        _padding = padded ? bytes[0] : 0;
        if (_padding > _left)
        {
            return Fault(ref piece, Http2Reason.PaddingTooLong);
        }
        _left -= _padding;
        _have = 0;
        _state = State.Stream;
        return FrameEvent.NeedMore;
    }

    private FrameEvent Piece(ReadOnlySpan<byte> input, ref FramePiece piece, out int consumed)
    {
        bool data = _header.Type == FrameType.Data;
        int taken = Math.Min(_left, input.Length);
        piece.Header = _header;
        piece.StreamId = _header.StreamId;
        piece.Bytes = input[..taken];
        piece.First = _first;
        // The pad length counts as well (§6.9.1).
        piece.FlowBytes = data ? taken + (_first && _header.Has(FrameFlags.Padded) ? 1 : 0) : 0;
        consumed = taken;
        _left -= taken;
        _first = false;
        if (_left == 0)
        {
            int padding = Math.Min(_padding, input.Length - taken);
            consumed += padding;
            _padding -= padding;
            piece.FlowBytes += data ? padding : 0;
            piece.Last = _padding == 0;
            _state = State.Padding;
            if (_padding == 0)
            {
                EndFrame();
            }
        }
        return data ? FrameEvent.Data : FrameEvent.Headers;
    }

    private FrameEvent Setting(ref FramePiece piece)
    {
        ReadOnlySpan<byte> bytes = _gathered;
        piece.Header = _header;
        piece.Id = (SettingId)BinaryPrimitives.ReadUInt16BigEndian(bytes);
        piece.Value = BinaryPrimitives.ReadUInt32BigEndian(bytes[2..]);
        _have = 0;
        Http2Reason reason = SettingRules.Check(piece.Id, piece.Value, _fromClient);
        return reason == Http2Reason.None ? FrameEvent.Setting : Fault(ref piece, reason);
    }

    private FrameEvent Fault(ref FramePiece piece, Http2Reason reason)
    {
        piece.Reason = reason;
        if (Http2Reasons.IsConnectionError(reason))
        {
            _state = State.Failed;
        }
        else if (_state != State.Header)
        {
            SkipRest();
        }
        return FrameEvent.Fault;
    }

    private void SkipRest()
    {
        _have = 0;
        _counted = true;
        _state = State.Skip;
        if (_left == 0)
        {
            EndFrame();
        }
    }

    private void EndFrame()
    {
        _have = 0;
        _state = State.Header;
    }
}

/// <summary>Which values settings may have.</summary>
public static class SettingRules
{
    public static Http2Reason Check(SettingId id, uint value, bool fromClient) => id switch
    {
        // A server must not ask to be pushed to (§6.5.2).
        SettingId.EnablePush when value > (fromClient ? 1u : 0u) => Http2Reason.SettingEnablePush,
        SettingId.InitialWindowSize when value > Http2Limits.WindowMax => Http2Reason.SettingInitialWindow,
        SettingId.MaxFrameSize when value is < Http2Limits.FrameSizeDefault or > Http2Limits.FrameSizeMax =>
            Http2Reason.SettingMaxFrameSize,
        SettingId.EnableConnectProtocol when value > 1 => Http2Reason.SettingEnableConnect,
        SettingId.NoRfc7540Priorities when value > 1 => Http2Reason.SettingNoPriorities,
        _ => Http2Reason.None,
    };
}
