// The writing half of an HTTP/1 connection: the head in nginx's order of fields, bodies with or without chunks.
// Small bodies are copied behind their head so that one send takes both.
using System.Runtime.CompilerServices;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

internal sealed partial class Http1Driver
{
    /// <summary>Memory up to this size is copied into the output instead of referenced: cheaper than a gathered
    /// write.</summary>
    private const int CopyBytesMax = 4096;

    private BufferChain Out => _out ??= _loop.RentChain();

    public override void WriteHead(HttpRequest r)
    {
        ResponseHead head = r.Response;
        LocationConf location = r.Location;
        if (r.Version < 10)
        {
            // HTTP/0.9 has no heads; the end of the connection is the end of the answer.
            r.KeepAlive = false;
            return;
        }
        DecideFraming(r, head, location);
        bool usual = head.IsUsual && r.KeepAlive && location.KeepAliveHeaderSec.Value <= 0;
        if (usual)
        {
            ReadOnlySpan<byte> known = _server.Clock.FindUsual(
                location.ServerHeader, head.ContentType, head.ContentLength);
            if (!known.IsEmpty)
            {
                r.HeadBytesSent += known.Length;
                Out.Append(known);
                return;
            }
        }
        WriteFields(r, head, location, usual);
    }

    private void WriteFields(HttpRequest r, ResponseHead head, LocationConf location, bool usual)
    {
        int room = 512 + location.ServerHeader.Length + head.Location.Length + head.ContentType.Length
            + head.Charset.Length + head.Server.Length + head.StatusText.Length + r.Host.Length
            + r.Server.PrimaryNameBytes.Length;
        foreach (ref readonly ResponseField field in head.Fields)
        {
            room += field.Name.Length + field.Value.Length + 4;
        }
        var w = new SpanWriter(Out.GetSpan(room));
        WriteStart(ref w, head, location);
        int typeStart = 0;
        if (!head.ContentType.IsEmpty)
        {
            w.Write("Content-Type: "u8);
            typeStart = w.Written;
            w.Text(head.ContentType.Span);
            if (!head.Charset.IsEmpty)
            {
                w.Write("; charset="u8);
                w.Text(head.Charset.Span);
            }
            w.Write("\r\n"u8);
        }
        if (head.ContentLength >= 0)
        {
            w.Write("Content-Length: "u8);
            w.Number(head.ContentLength);
            w.Write("\r\n"u8);
        }
        if (head.LastModified >= 0 && head.Status is 200 or 206 or 304
            && head.Find(KnownResponseHeader.LastModified) < 0)
        {
            w.Write("Last-Modified: "u8);
            w.Write(_server.Clock.DateOf(head.LastModified));
            w.Write("\r\n"u8);
        }
        bool rebased = !head.Location.IsEmpty && head.Location.Span[0] == '/' && location.AbsoluteRedirect.Value;
        if (rebased)
        {
            // What was sent is what $sent_http_location says.
            head.Location = AbsoluteLocation.Of(r, head.Location.Span);
            w.Field("Location: "u8, head.Location.Span);
        }
        if (head.Chunked)
        {
            w.Write("Transfer-Encoding: chunked\r\n"u8);
        }
        if (head.IsUpgrade)
        {
            w.Write("Connection: upgrade\r\n"u8);
        }
        else if (r.KeepAlive)
        {
            w.Write("Connection: keep-alive\r\n"u8);
            if (location.KeepAliveHeaderSec.Value > 0)
            {
                w.Write("Keep-Alive: timeout="u8);
                w.Number(location.KeepAliveHeaderSec.Value);
                w.Write("\r\n"u8);
            }
        }
        else
        {
            w.Write("Connection: close\r\n"u8);
        }
        if (head.VaryAcceptEncoding)
        {
            w.Write("Vary: Accept-Encoding\r\n"u8);
        }
        if (!rebased && !head.Location.IsEmpty)
        {
            w.Field("Location: "u8, head.Location.Span);
        }
        foreach (ref readonly ResponseField field in head.Fields)
        {
            if (!field.Removed)
            {
                w.Text(field.Name.Span);
                w.Write(": "u8);
                w.Text(field.Value.Span);
                w.Write("\r\n"u8);
            }
        }
        w.Write("\r\n"u8);
        if (usual)
        {
            _server.Clock.KeepUsual(w.Since(0), location.ServerHeader, typeStart, head.ContentType.Length,
                head.ContentLength);
        }
        r.HeadBytesSent += w.Written;
        _out!.Advance(w.Written);
    }

    /// <summary>Status line, Server and Date: in one piece where they are the usual ones.</summary>
    private void WriteStart(ref SpanWriter w, ResponseHead head, LocationConf location)
    {
        bool usual = head.Status == 200 && head.StatusText.IsEmpty && head.Server.IsEmpty && head.Date.IsEmpty
            && !head.HidesServer;
        ReadOnlySpan<byte> start = usual ? _server.Clock.Start200(location.ServerHeader) : default;
        if (!start.IsEmpty)
        {
            w.Text(start);
            return;
        }
        if (head.StatusText.IsEmpty)
        {
            w.Skip(StatusLines.Write(head.Status, w.Rest));
        }
        else
        {
            w.Write("HTTP/1.1 "u8);
            w.Text(head.StatusText.Span);
            w.Write("\r\n"u8);
        }
        if (head.Server.IsEmpty)
        {
            w.Text(head.HidesServer ? default : location.ServerHeader.Span);
        }
        else
        {
            w.Field("Server: "u8, head.Server.Span);
        }
        if (head.Date.IsEmpty)
        {
            w.Text(_server.Clock.DateLine());
        }
        else
        {
            w.Field("Date: "u8, head.Date.Span);
        }
    }

    private static void DecideFraming(HttpRequest r, ResponseHead head, LocationConf location)
    {
        if (head.IsUpgrade)
        {
            r.KeepAlive = false;
            return;
        }
        if (head.ExpectTrailers && head.ContentLength >= 0 && r.Version >= 11 && location.ChunkedTransferEncoding.Value
            && !head.HeaderOnly)
        {
            head.ContentLength = -1;
        }
        if (head.ContentLength >= 0 || head.Status is 204 or 304 || r.Method == HttpMethod.Head)
        {
            if (head.Status == 204 && head.ContentLength <= 0)
            {
                // RFC 9110 §8.6: no Content-Length in a 204; nginx writes none either, and no type.
                head.ContentLength = -1;
                head.ContentType = default;
            }
            if (head.Status == 304 && head.ContentLength > 0)
            {
                head.ContentLength = -1;
                head.ContentType = default;
            }
            return;
        }
        if (r.Version >= 11 && location.ChunkedTransferEncoding.Value)
        {
            head.Chunked = true;
        }
        else
        {
            r.KeepAlive = false;
        }
    }

    public override bool TryWriteSmall(HttpRequest r, ReadOnlySpan<byte> body)
    {
        if (_aborted || r.Response.HeaderOnly || r.Response.Chunked || body.Length > CopyBytesMax)
        {
            return false;
        }
        Out.Append(body);
        r.BodyBytesSent += body.Length;
        r.WireBodyBytes += body.Length;
        return true;
    }

    public override void WriteBody(HttpRequest r, BufferChain chain, PushFlags flags)
    {
        if (_aborted || r.Response.HeaderOnly)
        {
            chain.Clear();
            return;
        }
        long bytes = chain.Length;
        BufferChain output = Out;
        if (!r.Response.Chunked)
        {
            if (bytes > 0)
            {
                r.BodyBytesSent += bytes;
                r.WireBodyBytes += bytes;
                Transfer(chain, output);
            }
            return;
        }
        long before = output.Length;
        if (bytes > 0)
        {
            Span<byte> size = stackalloc byte[ChunkedEncoder.SizeLineMax];
            output.Append(size[..ChunkedEncoder.WriteSizeLine(bytes, size)]);
            Transfer(chain, output);
            if ((flags & PushFlags.Last) == 0)
            {
                output.Append("\r\n"u8);
            }
        }
        if ((flags & PushFlags.Last) != 0)
        {
            WriteLastChunk(r, output, bytes > 0);
        }
        r.BodyBytesSent += output.Length - before;
        r.WireBodyBytes += output.Length - before;
    }

    private static void WriteLastChunk(HttpRequest r, BufferChain output, bool afterData)
    {
        if (afterData)
        {
            output.Append("\r\n"u8);
        }
        ReadOnlySpan<ResponseField> trailers = r.Response.Trailers;
        if (trailers.IsEmpty)
        {
            output.Append(ChunkedEncoder.LastChunk);
            return;
        }
        output.Append(ChunkedEncoder.LastChunkBeforeTrailers);
        foreach (ref readonly ResponseField field in trailers)
        {
            output.Append(field.Name.Span);
            output.Append(": "u8);
            output.Append(field.Value.Span);
            output.Append("\r\n"u8);
        }
        output.Append("\r\n"u8);
    }

    private static void Transfer(BufferChain chain, BufferChain output)
    {
        if (chain.Length <= CopyBytesMax && chain.MemoryBytes == chain.Length)
        {
            for (int i = 0; i < chain.Count; i++)
            {
                output.Append(chain[i].Memory.Span);
            }
            chain.Clear();
        }
        else
        {
            chain.MoveTo(output);
        }
    }

    public override void WriteInterim(HttpRequest r, int status, ReadOnlySpan<ResponseField> fields)
    {
        if (_aborted || r.Response.IsSent || r.Version < 11)
        {
            return;
        }
        BufferChain output = Out;
        Span<byte> line = stackalloc byte[StatusLines.LengthMax];
        output.Append(line[..StatusLines.Write(status, line)]);
        foreach (ref readonly ResponseField field in fields)
        {
            if (!field.Removed)
            {
                output.Append(field.Name.Span);
                output.Append(": "u8);
                output.Append(field.Value.Span);
                output.Append("\r\n"u8);
            }
        }
        output.Append("\r\n"u8);
        Flush(r);
    }

    public override bool MayLendSending(HttpRequest r) => !_aborted && _out is null or { IsEmpty: true }
        && _start == _end && r.KeepAlive && r.Version >= 10 && !r.IsTold && _connection.MayLendSending;

    public override void WriteRest(NativeSlice rest, BufferSlab owner) => Out.AppendSlice(rest, owner);

    public override bool Flush(HttpRequest r)
    {
        if (_aborted)
        {
            return false;
        }
        if (_out is { IsEmpty: false } output)
        {
            _connection.SendTimeoutMs = (int)r.Location.SendTimeoutMs.Value;
            if (r.Location.TcpNoDelay.Value)
            {
                // An answer in several writes: the next small one must not wait for the client's acknowledgement.
                _connection.SetNoDelay();
            }
            if (!_connection.Send(output))
            {
                NoteSendFailure(r, _connection.SendError);
                return false;
            }
        }
        return true;
    }

    public override bool SendHolding(HttpRequest r, long keptBytes)
    {
        if (!_aborted && _out is { } output && !_connection.SendHolding(output, keptBytes))
        {
            NoteSendFailure(r, _connection.SendError);
        }
        return !_aborted;
    }

    public override bool BeginFile(long turnBytes, bool holdsHead)
    {
        _connection.SendTurnBytes = turnBytes;
        _connection.HeldFileBytes = holdsHead ? Connection.HeldFileBytesMax : 0;
        return _connection.LooksAgain;
    }

    public override LoopTask<bool> DrainAsync(HttpRequest r, long keptBytes)
    {
        if (!Flush(r))
        {
            return new LoopTask<bool>(false);
        }
        if (_out is null || _out.Length <= keptBytes)
        {
            return new LoopTask<bool>(true);
        }
        return WaitDrainedAsync(r, keptBytes);
    }

    private async LoopTask<bool> WaitDrainedAsync(HttpRequest r, long keptBytes)
    {
        IoResult result = await _connection.DrainAsync(_out!, keptBytes);
        if (result.IsError)
        {
            NoteSendFailure(r, result.Error);
            return false;
        }
        return !_aborted;
    }

    private void NoteSendFailure(HttpRequest r, int error)
    {
        _aborted = true;
        r.WireBodyBytes = Math.Max(0, r.WireBodyBytes - UnsentBytes);
        r.BodyBytesSent = Math.Max(0, r.BodyBytesSent - UnsentBytes);
        if (error == Errno.ETIMEDOUT)
        {
            r.LogError(LogLevel.Info, "client timed out", Errno.ETIMEDOUT);
            _reset = r.Location.ResetTimedOutConnection.Value;
        }
        else if (error == Errno.EIO)
        {
            // What the disk says, or the end of a file that became shorter than was promised: not the client's doing.
            r.LogError(LogLevel.Alert, "sendfile() found the file truncated or unreadable", error);
        }
        else if (error != Errno.ECANCELED)
        {
            r.LogError(LogLevel.Info, _connection.Fault ?? "writev() failed",
                HttpRequest.FailureNumber(_connection, error));
        }
    }

    /// <summary>TLS was given up with an answer to send: nobody will read to be told.</summary>
    private void NoteFault(HttpRequest r)
    {
        if (_connection.Fault is { } fault)
        {
            r.LogError(LogLevel.Info, fault);
        }
    }

    public override void Abort(HttpRequest r)
    {
        if (_aborted)
        {
            return;
        }
        _aborted = true;
        // A response that was begun cannot be taken back. Its length or a missing last chunk tells a client that it is
        // not whole; where neither does, only a reset can. A reset may cost what is on its way.
        _reset |= r.Response.IsSent && r.Response.ContentLength < 0 && !r.Response.Chunked;
        _connection.CancelDrain();
    }
}

/// <summary>Writes bytes one after the other into a span that was made large enough.</summary>
internal ref struct SpanWriter(Span<byte> target)
{
    private readonly Span<byte> _target = target;
    private int _written;

    public readonly int Written => _written;

    public readonly ReadOnlySpan<byte> Since(int start) => _target[start.._written];

    public readonly Span<byte> Rest => _target[_written..];

    public void Skip(int count) => _written += count;

    /// <summary>For literals: where the length is known to the compiler a copy is a few moves.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write(scoped ReadOnlySpan<byte> literal)
    {
        literal.CopyTo(_target[_written..]);
        _written += literal.Length;
    }

    public void Text(scoped ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(_target[_written..]);
        _written += bytes.Length;
    }

    public void Field(scoped ReadOnlySpan<byte> nameAndColon, scoped ReadOnlySpan<byte> value)
    {
        Text(nameAndColon);
        Text(value);
        Write("\r\n"u8);
    }

    public void Number(long value)
    {
        if ((ulong)value < 10_000)
        {
            uint n4 = (uint)value;
            uint high = n4 / 100;
            if (high > 0)
            {
                Two(high, high < 10);
                Two(n4 - high * 100, false);
            }
            else
            {
                Two(n4, n4 < 10);
            }
            return;
        }
        System.Buffers.Text.Utf8Formatter.TryFormat(value, Rest, out int n);
        _written += n;
    }

    private void Two(uint value, bool one)
    {
        uint tens = value * 205 >> 11;
        if (!one)
        {
            _target[_written++] = (byte)('0' + tens);
        }
        _target[_written++] = (byte)('0' + value - tens * 10);
    }
}
