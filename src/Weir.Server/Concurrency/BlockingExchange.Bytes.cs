// The bytes of a blocking exchange: bodies read as they come, heads and bodies written. Its own thread throughout.
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using Weir.Kernel.Net;
using Weir.Protocol.Http1;

namespace Weir.Server;

internal sealed partial class BlockingExchange
{
    /// <summary>What a guest wrote into the buffer leaves by itself when it is this much.</summary>
    private const int HeldBytesMax = 256 * 1024;

    internal override long UnsentBytesMax => Math.Max(0, _options.MaxUnsentBytes);

    public override bool IsRequestBodyEnded => _bodyEnded;

    private const int LingerMs = 5000;

    private long _bodyLeft;
    private long _bodyRead;
    private int _runLeft;
    private bool _bodyEnded;
    private bool _sentContinue;
    private byte[] _body = new byte[4096];
    private int _bodyUsed;
    private byte[] _wire = new byte[2048];
    private int _wireUsed;
    private bool _begun;
    private bool _chunked;

    // Reading.

    private void BeginBody()
    {
        _bodyLeft = Math.Max(0, Head.ContentLength);
        _bodyRead = 0;
        _runLeft = 0;
        _bodyEnded = !HasRequestBody;
        _sentContinue = false;
        _chunks.Reset();
        _chunks.TrailerBytesMax = _headMax;
    }

    public override ValueTask<int> ReadAsync(Memory<byte> into) => new(Read(into.Span));

    public override int Read(Span<byte> into)
    {
        if (IsAbandoned)
        {
            throw Refused(499);
        }
        if (_upgraded)
        {
            return ReadTunnel(into);
        }
        while (!_bodyEnded && into.Length > 0)
        {
            if (_start < _end || _runLeft > 0)
            {
                int n = Head.Chunked ? TakeChunked(into) : TakeCounted(into);
                if (n > 0)
                {
                    return n;
                }
                continue;
            }
            AskForBody();
            if (!HasInput && !BlockingModel.WaitReadable(Fd, BlockingModel.ToMilliseconds(_options.BodyTimeout)))
            {
                throw Refused(408);
            }
            if (ReceiveBody() == 0)
            {
                SignalAborted();
                throw Refused(IsAbandoned ? 499 : 400);
            }
        }
        return 0;
    }

    private int ReceiveBody()
    {
        try
        {
            return Fill();
        }
        catch (SocketException)
        {
            SignalAborted();
            throw Refused(499);
        }
    }

    private void AskForBody()
    {
        if (Head.Expect100 && !_sentContinue && Version >= 11)
        {
            _sentContinue = true;
            if (!_begun)
            {
                SendAll("HTTP/1.1 100 Continue\r\n\r\n"u8);
            }
        }
    }

    private int TakeCounted(Span<byte> into)
    {
        int n = (int)Math.Min(Math.Min(_bodyLeft, _end - _start), into.Length);
        _in.AsSpan(_start, n).CopyTo(into);
        _start += n;
        _bodyLeft -= n;
        _bodyEnded = _bodyLeft == 0;
        return n;
    }

    private int TakeChunked(Span<byte> into)
    {
        if (_runLeft == 0)
        {
            ChunkEvent e = _chunks.Decode(_in.AsSpan(_start, _end - _start), out int consumed, out TextRange data,
                out TextRange trailers);
            AddTrailerLines(trailers.Of(_in.AsSpan(_start)));
            switch (e)
            {
                case ChunkEvent.Data:
                    // What is behind the data stays consumed; the data itself is taken in pieces.
                    _start += data.Start;
                    _runLeft = data.Length;
                    break;
                case ChunkEvent.End:
                    _start += consumed;
                    _bodyEnded = true;
                    return 0;
                case ChunkEvent.Reject:
                    _start = _end;
                    throw Refused(RejectReasons.Status(_chunks.Reason));
                default:
                    _start += consumed;
                    return 0;
            }
        }
        int n = Math.Min(_runLeft, into.Length);
        _in.AsSpan(_start, n).CopyTo(into);
        _start += n;
        _runLeft -= n;
        _bodyRead += n;
        if (_options.MaxBodyBytes > 0 && _bodyRead > _options.MaxBodyBytes)
        {
            throw Refused(413);
        }
        return n;
    }

    private int ReadTunnel(Span<byte> into)
    {
        if (_start < _end)
        {
            int n = Math.Min(_end - _start, into.Length);
            _in.AsSpan(_start, n).CopyTo(into);
            _start += n;
            return n;
        }
        if (_tls is not { } tls)
        {
            return _socket.Receive(into);
        }
        int count;
        do
        {
            count = tls.Receive(into);
        }
        while (count < 0);
        return count;
    }

    private static RequestBodyException Refused(int status) => new(status, status switch
    {
        408 => "the client was too slow with the body",
        413 => "the body is larger than is allowed",
        499 => "the client went before the body was complete, or was answered already",
        _ => "the body is malformed or incomplete",
    });

    /// <summary>Reads what is left of a body that nobody wanted. False to close the connection.</summary>
    private bool DiscardBody()
    {
        if (_bodyEnded)
        {
            return true;
        }
        if (Head.Expect100 && !_sentContinue && _start == _end)
        {
            // The client waits for a word and may or may not send.
            return false;
        }
        Span<byte> waste = stackalloc byte[4096];
        long deadline = Sys.MonotonicMs() + LingerMs;
        _sentContinue = true;
        try
        {
            while (!_bodyEnded)
            {
                if (_start == _end && _runLeft == 0 && !HasInput
                    && (Sys.MonotonicMs() >= deadline || !BlockingModel.WaitReadable(Fd, LingerMs)))
                {
                    return false;
                }
                Read(waste);
            }
            return true;
        }
        catch (RequestBodyException)
        {
            return false;
        }
    }

    // Writing.

    private bool _upgraded;

    private void BeginUpgrade()
    {
        if (Status == 101 && !_upgraded)
        {
            _upgraded = true;
            _counters.Upgrade(1);
        }
    }

    /// <summary>The connection ends; another request never comes on one that was upgraded.</summary>
    private void EndUpgrade()
    {
        if (_upgraded)
        {
            _upgraded = false;
            _counters.Upgrade(-1);
        }
    }

    private void BeginAnswer()
    {
        _begun = false;
        _chunked = false;
        _upgraded = false;
        _bodyUsed = 0;
        _wireUsed = 0;
    }

    public override Memory<byte> GetMemory(int sizeHint = 0)
    {
        int need = Math.Max(sizeHint, 1);
        if (_body.Length - _bodyUsed < need)
        {
            Array.Resize(ref _body, Math.Max(_body.Length * 2, _bodyUsed + need));
        }
        return _body.AsMemory(_bodyUsed);
    }

    private protected override void AdvanceBuffer(int count)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, _body.Length - _bodyUsed);
        _bodyUsed += count;
        if (_bodyUsed > HeldBytesMax)
        {
            Flush();
        }
    }

    public override ValueTask<bool> FlushAsync() => new(Flush());

    public override bool Flush() => !IsAbandoned && Send(last: false);

    public override void SendInterim(int status, GuestFields fields)
    {
        if (_begun || IsAbandoned || Version < 11)
        {
            return;
        }
        AppendStatusLine(status);
        for (int i = 0; i < fields.Count; i++)
        {
            AppendField(fields.Name(i), fields.Value(i));
        }
        Append("\r\n"u8);
        SendWire();
    }

    /// <summary>Sends what was written, the head before it the first time. False when nobody takes it.</summary>
    private bool Send(bool last)
    {
        if (!_begun && !BeginHead(last))
        {
            return false;
        }
        ReadOnlySpan<byte> body = HasBody || _upgraded ? _body.AsSpan(0, _bodyUsed) : default;
        _bodyUsed = 0;
        if (_chunked && body.Length > 0)
        {
            Span<byte> line = stackalloc byte[ChunkedEncoder.SizeLineMax];
            Append(line[..ChunkedEncoder.WriteSizeLine(body.Length, line)]);
        }
        if (body.Length <= 16 * 1024)
        {
            Append(body);
        }
        else if (!SendWire() || !SendAll(body))
        {
            return false;
        }
        if (_chunked && body.Length > 0)
        {
            Append("\r\n"u8);
        }
        if (_chunked && last)
        {
            AppendLastChunk();
        }
        if (_body.Length > HeldBytesMax)
        {
            _body = new byte[4096];
        }
        return SendWire();
    }

    private void AppendLastChunk()
    {
        if (Trailers.Count == 0)
        {
            Append(ChunkedEncoder.LastChunk);
            return;
        }
        Append(ChunkedEncoder.LastChunkBeforeTrailers);
        for (int i = 0; i < Trailers.Count; i++)
        {
            AppendField(Trailers.Name(i), Trailers.Value(i));
        }
        Append("\r\n"u8);
    }

    private bool BeginHead(bool whole)
    {
        int before = Interlocked.CompareExchange(ref _state, Begun, Owned);
        if (before is not (Owned or Over))
        {
            return false;
        }
        _begun = true;
        HasStarted = true;
        Fields.IsSealed = true;
        bool trailers = ExpectsTrailers || Trailers.Count > 0;
        long length = trailers && Version >= 11 && HasBody ? -1
            : ContentLength >= 0 ? ContentLength
            : whole && Status is >= 200 and not (204 or 304) && !(Head.Method == HttpMethod.Head && BodyBytes == 0)
                ? BodyBytes : -1;
        if (Status == 204 && length <= 0 || Status == 304)
        {
            length = -1;
        }
        BeginUpgrade();
        if (length < 0 && HasBody)
        {
            _chunked = Version >= 11;
            _keep &= _chunked;
        }
        WriteHead(length);
        return true;
    }

    private void WriteHead(long length)
    {
        if (Version < 10)
        {
            _keep = false;
            return;
        }
        AppendStatusLine(Status);
        bool server = _options.ServerName.Length > 0;
        bool date = true;
        for (int i = 0; i < Fields.Count; i++)
        {
            KnownResponseHeader known = HeaderName.FindResponse(Fields.Name(i));
            server &= known != KnownResponseHeader.Server;
            date &= known != KnownResponseHeader.Date;
            _keep &= known != KnownResponseHeader.Connection || !HeaderName.Same(Fields.Value(i), "close"u8);
        }
        if (server)
        {
            AppendField("Server"u8, Encoding.ASCII.GetBytes(_options.ServerName));
        }
        if (date)
        {
            Span<byte> now = stackalloc byte[64];
            AppendField("Date"u8, now[..HttpDate.Format(Sys.UnixMs() / 1000, now)]);
        }
        if (length >= 0)
        {
            Span<byte> digits = stackalloc byte[20];
            length.TryFormat(digits, out int n, default, CultureInfo.InvariantCulture);
            AppendField("Content-Length"u8, digits[..n]);
        }
        if (_chunked)
        {
            AppendField("Transfer-Encoding"u8, "chunked"u8);
        }
        AppendField("Connection"u8, _upgraded ? "upgrade"u8 : _keep ? "keep-alive"u8 : "close"u8);
        _keep &= !_upgraded;
        for (int i = 0; i < Fields.Count; i++)
        {
            if (HeaderName.FindResponse(Fields.Name(i)) is not (KnownResponseHeader.Connection
                or KnownResponseHeader.ContentLength or KnownResponseHeader.TransferEncoding
                or KnownResponseHeader.KeepAlive))
            {
                AppendField(Fields.Name(i), Fields.Value(i));
            }
        }
        Append("\r\n"u8);
    }

    /// <summary>An answer of the server's own, with its built-in page; the connection ends.</summary>
    private void Refuse(int status)
    {
        _keep = false;
        _begun = true;
        Status = ErrorPages.WireStatus(status);
        byte[] page = [.. ErrorPages.Head(status), .. ErrorPages.Tail];
        _wireUsed = 0;
        AppendStatusLine(Status);
        AppendField("Content-Type"u8, "text/html"u8);
        AppendField("Content-Length"u8, Encoding.ASCII.GetBytes(page.Length.ToString(CultureInfo.InvariantCulture)));
        AppendField("Connection"u8, "close"u8);
        Append("\r\n"u8);
        if (_parsed.Method != HttpMethod.Head)
        {
            Append(page);
        }
        SendWire();
        if (RequestNumber != _requests)
        {
            // Its head was refused: nobody else counts it.
            _counters.Answer();
            Tell(AppServerEventKind.Answered, Status);
        }
    }

    private void AppendStatusLine(int status)
    {
        Span<byte> line = stackalloc byte[StatusLines.LengthMax];
        Append(line[..StatusLines.Write(status, line)]);
    }

    private void AppendField(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        Append(name);
        Append(": "u8);
        Append(value);
        Append("\r\n"u8);
    }

    private void Append(ReadOnlySpan<byte> bytes)
    {
        if (_wireUsed + bytes.Length > _wire.Length)
        {
            Array.Resize(ref _wire, Math.Max(_wire.Length * 2, _wireUsed + bytes.Length));
        }
        bytes.CopyTo(_wire.AsSpan(_wireUsed));
        _wireUsed += bytes.Length;
    }

    private bool SendWire()
    {
        int used = _wireUsed;
        _wireUsed = 0;
        return SendAll(_wire.AsSpan(0, used));
    }

    private bool SendAll(ReadOnlySpan<byte> bytes)
    {
        try
        {
            if (_tls is { } tls)
            {
                _broken = _broken || !tls.Send(bytes);
                return !_broken;
            }
            while (bytes.Length > 0 && !_broken)
            {
                bytes = bytes[_socket.Send(bytes)..];
            }
            return !_broken;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            _broken = true;
            _keep = false;
            SignalAborted();
            return false;
        }
    }
}
