// An HTTP/2 connection to an upstream server that many exchanges share, each with a stream of its own: frames in,
// frames out, windows, settings, GOAWAY. It reads all the time and holds no buffer meanwhile; what streams write in one
// turn of the loop leaves in one write. One loop's thread.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http2;

namespace Weir.Session.Upstream;

/// <summary>A multiplexed connection.</summary>
public sealed partial class Http2Upstream : LoopTimer
{
    /// <summary>What a stream may have received and not passed on.</summary>
    private const int StreamWindow = 256 * 1024;

    /// <summary>What all streams may send together before anything is given back: no limit of its own.</summary>
    private const int ConnectionWindow = 64 * 1024 * 1024;

    /// <summary>Streams at a time until the peer has said how many it takes, and at most.</summary>
    private const int StreamsMax = 128;

    /// <summary>Bytes written and not sent beyond which streams wait.</summary>
    private const int OutputMax = 256 * 1024;

    private const int HeaderBlockMax = 256 * 1024, ContinuationsMax = 64, GlitchesMax = 1000;

    private readonly Dictionary<uint, UpstreamStream> _streams = [];
    private readonly HpackDecoder _decoder = new();
    private readonly HpackEncoder _encoder = new();
    private readonly BufferChain _output;
    private readonly MultiplexedConnections _list;
    private readonly Action _flush;
    private FrameReader _reader = new(fromClient: false);
    private HeaderBlock _block = new(HeaderBlockMax, ContinuationsMax);
    private StreamNumbers _numbers;
    private SendWindow _sendWindow = new(Http2Limits.WindowDefault);
    private ReceiveWindow _receiveWindow = new(ConnectionWindow);
    private UpstreamStream? _free;
    private UpstreamStream? _toWake;
    private UpstreamStream? _lastToWake;
    private UpstreamStream? _blocked;
    private int _peerWindow = Http2Limits.WindowDefault;
    private int _peerFrameMax = Http2Limits.FrameSizeDefault;
    private int _peerStreamsMax = StreamsMax;
    private int _active;
    private int _glitches;
    private bool _flushes;
    private bool _drains;
    private bool _isLeaving;
    private bool _isClosed;

    internal Http2Upstream(MultiplexedConnections list, Connection inner, Peer peer, object tag)
    {
        _list = list;
        Inner = inner;
        Peer = peer;
        Tag = tag;
        OpenedMs = Loop.NowMs;
        _output = Loop.RentChain();
        _flush = Flush;
        Token = Loop.Buffers.Rent(1024);
        Greet();
        ReadAsync().Forget();
    }

    public EventLoop Loop => Inner.Loop;
    public Connection Inner { get; }
    public Peer Peer { get; }
    public object Tag { get; }
    public long OpenedMs { get; }

    /// <summary>Streams opened on it so far.</summary>
    public int Requests { get; private set; }
    public int ActiveStreams => _active;

    /// <summary>A receive's lease when what came is not in it.</summary>
    internal BufferSlab Token { get; }

    /// <summary>Whether one more stream can be opened.</summary>
    internal bool CanOpen => !_isLeaving && !_isClosed && _active < Math.Min(_peerStreamsMax, StreamsMax)
        && !_list.IsWornOut(this);

    /// <summary>A stream for one exchange.</summary>
    public UpstreamStream Open()
    {
        Loop.Timers.Cancel(this);
        _active++;
        Requests++;
        UpstreamStream stream = _free ?? new UpstreamStream(this);
        _free = stream.NextFree;
        stream.NextFree = null;
        stream.Start(_peerWindow, StreamWindow);
        return stream;
    }

    // Writing.

    private void Greet()
    {
        Span<byte> to = _output.GetSpan(128);
        Http2Limits.Preface.CopyTo(to);
        int n = Http2Limits.Preface.Length;
        n += FrameWriter.Settings(to[n..], 3);
        n += FrameWriter.Setting(to[n..], SettingId.EnablePush, 0);
        n += FrameWriter.Setting(to[n..], SettingId.InitialWindowSize, StreamWindow);
        n += FrameWriter.Setting(to[n..], SettingId.MaxFrameSize, Http2Limits.FrameSizeDefault);
        n += FrameWriter.WindowUpdate(to[n..], 0, ConnectionWindow - Http2Limits.WindowDefault);
        _output.Advance(n);
        FlushLater();
    }

    /// <summary>Begins a request's header block of at most so many bytes: fields go to
    /// <paramref name="block"/>.</summary>
    public HpackEncoder BeginHead(UpstreamStream stream, int room, out Span<byte> block)
    {
        stream.Id = _numbers.TakeNext();
        if (stream.Id >= Http2Limits.StreamIdMax - 2)
        {
            _isLeaving = true;
        }
        _streams.Add(stream.Id, stream);
        block = _output.GetSpan(Http2Limits.FrameHeaderBytes + room)[Http2Limits.FrameHeaderBytes..];
        return _encoder;
    }

    /// <summary>The header block is written: so many bytes behind the space for its frame's head.</summary>
    public void EndHead(UpstreamStream stream, int length, bool endStream)
    {
        stream.State.Send(endStream);
        stream.CountSent(length + Http2Limits.FrameHeaderBytes);
        FrameFlags flags = endStream ? FrameFlags.EndStream : FrameFlags.None;
        if (length <= _peerFrameMax)
        {
            FrameWriter.Header(_output.GetSpan(Http2Limits.FrameHeaderBytes), FrameType.Headers,
                flags | FrameFlags.EndHeaders, stream.Id, length);
            _output.Advance(Http2Limits.FrameHeaderBytes + length);
        }
        else
        {
            WriteContinued(stream, length, flags);
        }
        FlushLater();
    }

    /// <summary>A block larger than a frame: made anew from a copy.</summary>
    private void WriteContinued(UpstreamStream stream, int length, FrameFlags flags)
    {
        BufferSlab copy = Loop.Buffers.Rent(length);
        _output.GetSpan(Http2Limits.FrameHeaderBytes + length).Slice(Http2Limits.FrameHeaderBytes, length)
            .CopyTo(copy.Span);
        for (int at = 0; at < length;)
        {
            int n = Math.Min(_peerFrameMax, length - at);
            FrameFlags end = at + n == length ? FrameFlags.EndHeaders : FrameFlags.None;
            Span<byte> head = _output.GetSpan(Http2Limits.FrameHeaderBytes);
            _output.Advance(FrameWriter.Header(head, at == 0 ? FrameType.Headers : FrameType.Continuation,
                (at == 0 ? flags : FrameFlags.None) | end, stream.Id, n));
            _output.Append(copy.Span.Slice(at, n));
            at += n;
        }
        copy.Release();
    }

    /// <summary>Moves bytes of a body into a DATA frame, as many as windows and this connection take now. Returns how
    /// many.</summary>
    internal int WriteData(UpstreamStream stream, BufferChain body, bool endsAfter)
    {
        int bytes = (int)Math.Min(Math.Min(body.Length, _peerFrameMax), stream.SendWindow.Size);
        if (bytes <= 0)
        {
            // The stream's own window: its update pumps it.
            return 0;
        }
        bytes = Math.Min(bytes, Math.Min(_sendWindow.Size, OutputMax - (int)Math.Min(_output.Length, OutputMax)));
        if (bytes <= 0)
        {
            Block(stream);
            return 0;
        }
        stream.SendWindow.Take(bytes);
        _sendWindow.Take(bytes);
        bool ends = endsAfter && bytes == body.Length;
        FrameFlags flags = ends ? FrameFlags.EndStream : FrameFlags.None;
        _output.Advance(FrameWriter.Header(_output.GetSpan(Http2Limits.FrameHeaderBytes), FrameType.Data, flags,
            stream.Id, bytes));
        MoveOwned(body, bytes);
        if (ends)
        {
            stream.State.Send(endStream: true);
        }
        FlushLater();
        return bytes;
    }

    internal void WriteEnd(UpstreamStream stream)
    {
        stream.State.Send(endStream: true);
        _output.Advance(FrameWriter.Header(_output.GetSpan(Http2Limits.FrameHeaderBytes), FrameType.Data,
            FrameFlags.EndStream, stream.Id, 0));
        FlushLater();
    }

    /// <summary>What belongs to a request (its arena) is copied: the request may end before this connection has sent
    /// it.</summary>
    private void MoveOwned(BufferChain body, int bytes)
    {
        bool borrowed = body.HasBorrowed;
        while (bytes > 0)
        {
            ref ChainSegment first = ref body[0];
            int n = (int)Math.Min(first.Length, bytes);
            if (borrowed && !first.IsFile)
            {
                _output.Append(first.Memory.Span[..n]);
                body.Consume(n);
            }
            else
            {
                body.MoveTo(_output, n);
            }
            bytes -= n;
        }
    }

    private void Block(UpstreamStream stream)
    {
        if (stream.IsBlocked)
        {
            return;
        }
        stream.IsBlocked = true;
        // The one that waits longest is last: it goes first when there is room.
        stream.NextBlocked = _blocked;
        _blocked = stream;
    }

    private void PumpBlocked()
    {
        UpstreamStream? all = null;
        while (_blocked is { } stream)
        {
            _blocked = stream.NextBlocked;
            stream.NextBlocked = all;
            all = stream;
        }
        while (all is { } stream)
        {
            all = stream.NextBlocked;
            stream.NextBlocked = null;
            stream.IsBlocked = false;
            if (!stream.IsClosed)
            {
                stream.Pump();
            }
            else if (!stream.IsToWake)
            {
                GiveBack(stream);
            }
        }
    }

    private void FlushLater()
    {
        if (!_flushes && !_drains)
        {
            _flushes = true;
            Loop.Ready(_flush);
        }
    }

    private void Flush()
    {
        _flushes = false;
        if (_isClosed || _output.IsEmpty || _drains)
        {
            return;
        }
        Inner.SendTimeoutMs = 60_000;
        if (Send() && !_output.IsEmpty)
        {
            _drains = true;
            DrainAsync().Forget();
        }
    }

    /// <summary>Sends until the kernel takes no more, or nobody has more: what has left makes room for streams that
    /// wait for it, and nobody else would tell them. False when sending has failed.</summary>
    private bool Send()
    {
        while (true)
        {
            if (!Inner.Send(_output))
            {
                Fail(Inner.SendError);
                return false;
            }
            if (_isClosed || _blocked is null || _output.Length > OutputMax / 4)
            {
                return !_isClosed;
            }
            long before = _output.Length;
            PumpBlocked();
            if (_isClosed || _output.Length == before)
            {
                // It is a window that they wait for.
                return !_isClosed;
            }
        }
    }

    private async LoopTask<Unit> DrainAsync()
    {
        while (!_isClosed && !_output.IsEmpty)
        {
            // Less than that may have been refused by the kernel already: then all of it is waited for.
            IoResult result = await Inner.DrainAsync(_output, _output.Length > OutputMax / 4 ? OutputMax / 4 : 0);
            if (_isClosed)
            {
                return default;
            }
            if (result.IsError)
            {
                Fail(Inner.SendError);
                return default;
            }
            if (!Send())
            {
                return default;
            }
        }
        _drains = false;
        return default;
    }

    // Streams end.

    /// <summary>The exchange has taken so many bytes of a stream.</summary>
    internal void Credit(UpstreamStream stream, int bytes)
    {
        int increment = stream.ReceiveWindow.Consume(bytes);
        if (increment > 0 && !stream.State.RemoteEnded && !_isClosed)
        {
            _output.Advance(FrameWriter.WindowUpdate(_output.GetSpan(FrameWriter.WindowUpdateBytes), stream.Id,
                increment));
            FlushLater();
        }
    }

    /// <summary>The exchange is done with a stream.</summary>
    internal void Leave(UpstreamStream stream)
    {
        if (stream.Id != 0 && _streams.Remove(stream.Id) && !stream.State.IsClosed && !_isClosed)
        {
            Reset(stream.Id, stream.State.RemoteEnded ? Http2Error.NoError : Http2Error.Cancel);
        }
        _active--;
        // One that still waits in a list must not be rented meanwhile.
        if (!stream.IsBlocked && !stream.IsToWake)
        {
            GiveBack(stream);
        }
        if (_active == 0)
        {
            Rest();
        }
    }

    private void GiveBack(UpstreamStream stream)
    {
        stream.NextFree = _free;
        _free = stream;
    }

    /// <summary>Nobody uses it: it waits for the next exchange, or is closed.</summary>
    private void Rest()
    {
        if (_isClosed)
        {
            Release();
            return;
        }
        long timeoutMs = _list.RestMs(this);
        if (_isLeaving || timeoutMs < 0)
        {
            // What is still to be said goes out first.
            Flush();
            Close();
            return;
        }
        if (timeoutMs > 0)
        {
            Loop.Timers.Set(this, Loop.NowMs + timeoutMs);
        }
    }

    protected override void Fire()
    {
        if (_active == 0)
        {
            Close();
        }
    }

    /// <summary>No more streams: it closes when the last one has ended.</summary>
    internal void Retire()
    {
        _isLeaving = true;
        if (_active == 0)
        {
            Close();
        }
    }

    private void Reset(uint streamId, Http2Error error)
    {
        _output.Advance(FrameWriter.RstStream(_output.GetSpan(FrameWriter.RstStreamBytes), streamId, error));
        FlushLater();
    }

    internal void Close()
    {
        if (_isClosed)
        {
            return;
        }
        _isClosed = true;
        _list.Remove(this);
        Loop.Timers.Cancel(this);
        _output.Clear();
        Inner.Close();
        if (_active == 0)
        {
            Release();
        }
    }

    private bool _isReleased;

    private void Release()
    {
        if (!_isReleased)
        {
            _isReleased = true;
            Token.Release();
            Loop.Return(_output);
        }
    }
}
