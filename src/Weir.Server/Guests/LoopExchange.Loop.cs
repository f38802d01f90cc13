// The loop's half of an exchange: what happens to the request when a message of its guest arrives. One loop's thread
// throughout. The request is gone from here (null) once it was finished.
using System.Text;
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using ResponseHead = Weir.Http.ResponseHead;

namespace Weir.Server;

internal sealed partial class LoopExchange
{
    private Memory<byte> _into;
    private BodyPiece _piece;
    private int _pieceAt;
    private bool _hasPiece;
    private bool _bodyEnded;
    private BufferChain? _collected;
    private bool _completed;

    // Writing.

    private void ProcessFlush()
    {
        if (_r is not { } r || !Send(out bool mustWait))
        {
            _flushWait.Set(0);
            return;
        }
        if (mustWait)
        {
            _draining = true;
            DrainAsync(r).Forget();
            return;
        }
        _flushWait.Set(1);
    }

    /// <summary>A flush that nobody waits for.</summary>
    private void ProcessLateFlush()
    {
        if (_r is not null && Volatile.Read(ref _state) is (Owned or Begun))
        {
            Send(out _);
        }
    }

    /// <summary>The answer is complete although its guest goes on.</summary>
    private void ProcessComplete()
    {
        if (_r is not { } r || _completed || Volatile.Read(ref _state) is not (Owned or Begun)
            || !Begin(_begun ? -1 : LengthOfWhole()))
        {
            _flushWait.Set(0);
            return;
        }
        _completed = true;
        PushWritten(r, PushFlags.Last);
        if (!r.Stream.Flush(r))
        {
            SignalAborted();
            _flushWait.Set(0);
            return;
        }
        if (r.PendingBytes > UnsentBytesMax)
        {
            _draining = true;
            DrainAsync(r).Forget();
            return;
        }
        _flushWait.Set(1);
    }

    private void ProcessCancelRead()
    {
        if (_reading && _r is { } r)
        {
            r.Stream.CancelRead();
        }
    }

    /// <summary>Passes on what was written. False when nobody takes it.</summary>
    private bool Send(out bool mustWait)
    {
        mustWait = false;
        if (_r is not { } r || !Begin(ContentLength))
        {
            return false;
        }
        PushWritten(r, PushFlags.Flush);
        if (!r.Stream.Flush(r))
        {
            SignalAborted();
            return false;
        }
        mustWait = r.PendingBytes > UnsentBytesMax;
        return true;
    }

    private async LoopTask<Unit> DrainAsync(HttpRequest r)
    {
        bool fine = await r.Drained(UnsentBytesMax);
        _draining = false;
        if (!fine)
        {
            SignalAborted();
        }
        _flushWait.Set(fine ? 1 : 0);
        FinishIfEnding();
        return default;
    }

    /// <summary>The head leaves, once. False when the watch has answered already.</summary>
    private bool Begin(long contentLength)
    {
        if (_begun)
        {
            return !IsAbandoned;
        }
        // Over: the guest has returned in time and nobody else may answer.
        int before = Interlocked.CompareExchange(ref _state, Begun, Owned);
        if (before is not (Owned or Over))
        {
            return false;
        }
        _begun = true;
        PrepareHead(_r!, contentLength);
        _r!.SendHead();
        return true;
    }

    private void PrepareHead(HttpRequest r, long contentLength)
    {
        ResponseHead head = r.Response;
        head.Status = Status;
        head.ContentLength = contentLength;
        if (Reason is { } reason)
        {
            head.StatusText = r.Arena.Store(Encoding.Latin1.GetBytes($"{Status} {reason.ReplaceLineEndings(" ")}"));
        }
        head.NotModifiedDisabled = true;
        head.ExpectTrailers = ExpectsTrailers || Trailers.Count > 0;
        head.IsUpgrade = BeginsUpgrade();
        if (Guests.ServerName is { } server)
        {
            head.Server = r.Arena.Store(server);
            head.HidesServer = server.Length == 0;
        }
        GuestFields fields = Fields;
        NativeSlice text = r.Arena.Store(fields.Text);
        for (int i = 0; i < fields.Count; i++)
        {
            GuestFields.Place place = fields.PlaceOf(i);
            NativeSlice name = text.Slice(place.NameStart, place.NameLength);
            NativeSlice value = text.Slice(place.ValueStart, place.ValueLength);
            KnownResponseHeader known = HeaderName.FindResponse(name.Span);
            switch (known)
            {
                case KnownResponseHeader.ContentType:
                    head.ContentType = value;
                    break;
                case KnownResponseHeader.Server:
                    head.Server = value;
                    head.HidesServer = false;
                    break;
                case KnownResponseHeader.Date:
                    head.Date = value;
                    break;
                case KnownResponseHeader.Connection:
                    r.KeepAlive &= !HeaderName.Same(value.Span, "close"u8);
                    break;
                case KnownResponseHeader.ContentLength or KnownResponseHeader.TransferEncoding
                    or KnownResponseHeader.KeepAlive:
                    break;
                default:
                    head.Add(name, value, known);
                    break;
            }
        }
    }

    private void PushWritten(HttpRequest r, PushFlags flags)
    {
        BufferChain chain = _loop.RentChain();
        lock (_partsGate)
        {
            foreach (WrittenPart part in _parts)
            {
                Append(chain, part);
            }
            _parts.Clear();
            // The guest may go on writing behind what is taken of its slab.
            int used = Volatile.Read(ref _used);
            if (_slab is not null && used > _taken)
            {
                chain.AppendSlice(_slab.Memory.Slice(_taken, used - _taken), _slab);
                _taken = used;
            }
            if ((flags & PushFlags.Last) != 0)
            {
                _slab?.Release();
                _slab = null;
                _used = 0;
                _taken = 0;
            }
        }
        if ((flags & PushFlags.Last) != 0)
        {
            for (int i = 0; i < Trailers.Count; i++)
            {
                r.Response.AddTrailer(r.Arena.Store(Trailers.Name(i)), r.Arena.Store(Trailers.Value(i)));
            }
        }
        if (chain.Length > 0 && MustSpill(r))
        {
            Spill(r, chain);
        }
        if (chain.Length > 0 || (flags & PushFlags.Last) != 0)
        {
            r.Push(chain, flags);
        }
        _loop.Return(chain);
        if (!Guests.IsInline && (flags & PushFlags.Last) == 0)
        {
            _loop.Buffers.Stock(4);
        }
    }

    private static void Append(BufferChain chain, WrittenPart part)
    {
        if (part.Slab is { } slab)
        {
            chain.AppendSlice(slab.Memory.Slice(part.Start, part.Length), slab);
            slab.Release();
            return;
        }
        FileRef file = FileRef.Own(part.Fd);
        chain.AppendFile(file, part.Offset, part.Bytes);
        file.Release();
    }

    private void ProcessInterim(int status, GuestFields fields)
    {
        if (_r is not { } r || Volatile.Read(ref _state) != Owned)
        {
            return;
        }
        NativeSlice text = r.Arena.Store(fields.Text);
        var list = new ResponseField[fields.Count];
        for (int i = 0; i < list.Length; i++)
        {
            GuestFields.Place place = fields.PlaceOf(i);
            list[i] = new ResponseField
            {
                Name = text.Slice(place.NameStart, place.NameLength),
                Value = text.Slice(place.ValueStart, place.ValueLength),
            };
        }
        r.Stream.WriteInterim(r, status, list);
    }

    private void ProcessAbort()
    {
        if (_r is { } r && Volatile.Read(ref _state) is (Owned or Begun))
        {
            r.Abort(AbortReason.Failed);
            SignalAborted();
        }
    }

    /// <summary>As an abort; the stream hears the code before the request ends.</summary>
    private void ProcessReset(uint code)
    {
        if (_r is { } r && Volatile.Read(ref _state) is (Owned or Begun))
        {
            r.Stream.Reset(r, code);
            r.Abort(AbortReason.Failed);
            SignalAborted();
        }
    }

    // Reading.

    /// <summary>On the guest's side: what is left of the piece it was lent.</summary>
    private bool TryTakePiece(Span<byte> into, out int count)
    {
        count = 0;
        if (into.IsEmpty)
        {
            return true;
        }
        if (_hasPiece && _pieceAt < _piece.Length)
        {
            count = Math.Min(into.Length, _piece.Length - _pieceAt);
            _piece.Span.Slice(_pieceAt, count).CopyTo(into);
            _pieceAt += count;
            return true;
        }
        return _bodyEnded;
    }

    private void ProcessRead()
    {
        ReleasePiece();
        if (_r is not { } r || Volatile.Read(ref _state) is not (Owned or Begun))
        {
            _readWait.Fail(new RequestBodyException(499, "nobody waits for this answer any more"));
            return;
        }
        if (r.Body.IsCollected && !r.Response.IsUpgrade)
        {
            _readWait.Set(ReadCollected(_into.Span));
            return;
        }
        _reading = true;
        if (r.Response.IsUpgrade)
        {
            ReadTunnelAsync(r).Forget();
        }
        else
        {
            ReadBodyAsync(r).Forget();
        }
    }

    private async LoopTask<Unit> ReadBodyAsync(HttpRequest r)
    {
        BodyPiece piece = await r.Body.ReadAsync();
        while (piece.Status == 0 && piece.Length == 0 && !piece.IsLast)
        {
            piece.Release();
            piece = await r.Body.ReadAsync();
        }
        EndRead(piece);
        return default;
    }

    private async LoopTask<Unit> ReadTunnelAsync(HttpRequest r)
    {
        RecvLease lease = await r.Stream.ReadTunnelAsync(r);
        EndRead(lease.IsError ? new BodyPiece(default, 0, 0, false, 499)
            : lease.IsEnd ? new BodyPiece(default, 0, 0, true, 0)
            : new BodyPiece(lease, 0, lease.Length, false, 0));
        return default;
    }

    private void EndRead(BodyPiece piece)
    {
        _reading = false;
        if (piece.Status != 0)
        {
            if (piece.Status is 499 or 400 && _r is { } r && r.Stream.IsClientGone)
            {
                SignalAborted();
            }
            _readWait.Fail(new RequestBodyException(piece.Status, piece.Status switch
            {
                408 => "the client was too slow with the body",
                413 => "the body is larger than is allowed",
                499 => "the client went before the body was complete",
                _ => "the body is malformed or incomplete",
            }));
        }
        else
        {
            _bodyEnded = piece.IsLast;
            if (piece.IsLast && _r is { } ended)
            {
                TakeTrailers(ended);
            }
            _piece = piece;
            _pieceAt = 0;
            _hasPiece = true;
            int count = Math.Min(_into.Length, piece.Length);
            if (count > 0)
            {
                piece.Span[..count].CopyTo(_into.Span);
                _pieceAt = count;
            }
            // A body that came whole leaves the way out as it was.
            _lendsSending = _bodyEnded && Guests.OwnsLoop && !_begun && _taken == DirectAnswer.HeadBytesMax
                && _r is { } asked && asked.Stream.MayLendSending(asked);
            _readWait.Set(count);
        }
        FinishIfEnding();
    }

    /// <summary>From a body that was read before the guest was called; on the loop's thread, without waiting.</summary>
    private int ReadCollected(Span<byte> into)
    {
        if (_r is not { } r || !r.Body.IsExpected)
        {
            return 0;
        }
        if (!r.Body.IsCollected)
        {
            throw new InvalidOperationException(
                "on an event loop a body is read with await: holding the thread would wait for the loop itself");
        }
        if (_collected is null)
        {
            _collected = _loop.RentChain();
            r.Body.AppendTo(_collected);
        }
        if (_collected.IsEmpty)
        {
            return 0;
        }
        ref ChainSegment first = ref _collected[0];
        int count = (int)Math.Min(into.Length, first.Length);
        if (first.IsFile)
        {
            count = Math.Max(0, Descriptors.ReadAt(first.File!.Fd, into[..count], first.FileOffset).Int);
        }
        else
        {
            first.Memory.Span[..count].CopyTo(into);
        }
        _collected.Consume(count);
        return count;
    }

    private void ReleasePiece()
    {
        if (_hasPiece)
        {
            _hasPiece = false;
            _piece.Release();
            _piece = default;
        }
    }

    // The end.

    private void ProcessEnd()
    {
        bool inTime;
        // Whoever answers from outside has finished doing so when this lock is held.
        lock (_outside)
        {
            inTime = Volatile.Read(ref _state) != Abandoned;
            if (inTime)
            {
                Volatile.Write(ref _state, Over);
            }
        }
        if (inTime)
        {
            End();
        }
        else
        {
            CameBack();
        }
        Guests.CameBack();
    }

    /// <summary>The guest has returned in time.</summary>
    private void End()
    {
        HttpRequest r = _r!;
        PhaseResult result = PhaseResult.Done;
        if (_directBytes > 0)
        {
            EndDirect(r);
        }
        else if (r.Aborted != AbortReason.None)
        {
            ReleaseSlabs();
        }
        else if (_failure is { } failure)
        {
            result = Fail(r, failure.SourceException);
        }
        else if (IsShort)
        {
            Guests.Complain(r, $"the handler wrote {BodyBytes} of the {ContentLength} bytes it had promised");
            result = Broken(r, 500);
        }
        else if (_completed)
        {
            ReleaseSlabs();
        }
        else if (!_begun)
        {
            SealHead();
            Begin(LengthOfWhole());
            PushWritten(r, PushFlags.Last);
        }
        else
        {
            PushWritten(r, PushFlags.Last);
        }
        Finish(result);
    }

    /// <summary>The length of an answer that was complete before any of it left; -1 where none is said.</summary>
    private long LengthOfWhole()
    {
        if (ContentLength >= 0)
        {
            return ContentLength;
        }
        return Status is < 200 or 204 or 304 || ExpectsTrailers || Trailers.Count > 0
            || Head.Method == HttpMethod.Head && BodyBytes == 0 ? -1 : BodyBytes;
    }

    private PhaseResult Fail(HttpRequest r, Exception e)
    {
        if (e is RequestBodyException refused)
        {
            if (refused.Status >= 500)
            {
                Guests.Counters.Fail();
                Guests.Tell(AppServerEventKind.Failed, r, refused.Status);
            }
            return Broken(r, refused.Status);
        }
        if (e is OperationCanceledException or IOException && IsAborted)
        {
            // It stopped because the client had gone: nobody's fault.
            return Broken(r, 499);
        }
        Guests.Counters.Fail();
        Guests.Tell(AppServerEventKind.Failed, r, 500);
        Guests.Complain(r, $"the handler failed: {e}");
        return Broken(r, 500);
    }

    /// <summary>Answers with a status if nothing has left yet, else ends the connection.</summary>
    private PhaseResult Broken(HttpRequest r, int status)
    {
        if (!_begun && HasStarted && status != 499 && Begin(ContentLength))
        {
            // What was flushed counts as sent: no other answer can take its place.
            PushWritten(r, PushFlags.Flush);
            r.Stream.Flush(r);
        }
        ReleaseSlabs();
        if (_begun || status == 499)
        {
            r.Abort(status == 499 ? AbortReason.ClientGone : AbortReason.Failed);
            return PhaseResult.Done;
        }
        return PhaseResult.Answer(status);
    }

    private void Finish(PhaseResult result)
    {
        _result = result;
        _ending = true;
        _loop.Timers.Disarm(_deadline);
        _loop.Timers.Disarm(_lull);
        HttpRequest r = _r!;
        if (r.Stream.Watcher == this)
        {
            r.Stream.Watcher = null;
        }
        if (_reading)
        {
            r.Stream.CancelRead();
        }
        FinishIfEnding();
    }

    /// <summary>The request goes on when nothing of the guest's is under way on its connection.</summary>
    private void FinishIfEnding()
    {
        if (!_ending || _reading || _draining)
        {
            return;
        }
        _ending = false;
        if (_collected is not null)
        {
            _loop.Return(_collected);
            _collected = null;
        }
        if (Volatile.Read(ref _state) != Abandoned)
        {
            // Else the guest may be looking at it: it is given back when the guest is.
            ReleasePiece();
        }
        EndSpilling();
        _r = null;
        Leave();
        _finished.SetResult(_result);
    }

    /// <summary>The guest of an exchange that was answered for.</summary>
    private void CameBack()
    {
        Guests.Counters.Stick(-1);
        Guests.Counters.Tell(AppServerEventKind.CameBack, ConnectionNumber, RequestNumber, Guests.Index);
        ReleaseSlabs();
        ReleasePiece();
    }
}
