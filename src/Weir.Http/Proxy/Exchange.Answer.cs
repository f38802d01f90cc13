// The answer's half of an exchange: the head with its interim answers, what it decides, and the body on its way to the
// client, with back-pressure or through a spill file when the client is slower than the server.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session.Upstream;

namespace Weir.Http.Proxy;

public sealed partial class Exchange
{
    private const int InterimMax = 100;

    private bool _keep;
    private bool _bodyFailed;
    private bool _buffered;
    private FileRef? _spillFile;
    private SpillWrite? _spillWrite;
    private BufferChain? _spillChain;
    private long _spillOffset;
    private bool _spillFailed;
    private long _rateBytes;

    private int _interims;

    /// <summary>Before each receive while the head is read: the deadline, unless waiting has no point.</summary>
    private UpstreamFault AwaitMore()
    {
        if (IsAbandoned || _senderStatus != 0)
        {
            return FailHead(RecvLease.Failed(Errno.ECANCELED));
        }
        Stream.SetReadDeadline(Request.Loop.NowMs + Settings.ReadTimeoutMs.Value);
        return default;
    }

    /// <summary>Takes what came for the head. True when it is whole; else, without a fault, more is to be
    /// received.</summary>
    private bool TakeHead(in RecvLease lease, out UpstreamFault fault)
    {
        if (lease.IsError || lease.IsEnd)
        {
            fault = lease.Error == Errno.ETIMEDOUT && _senderActive ? AwaitMore() : FailHead(lease);
            return false;
        }
        TakeInput(lease);
        fault = default;
        if (_holdsHead)
        {
            return true;
        }
        while (true)
        {
            ReadStep step = Protocol.ReadHead(this);
            if (step == ReadStep.Reject)
            {
                fault = Stream is UpstreamStream { IsUnprocessed: true } ? Unprocessed()
                    : new UpstreamFault(FaultKind.InvalidHeader, FaultLeg.Head);
                return false;
            }
            if (step == ReadStep.NeedMore)
            {
                break;
            }
            if (Head.Status is >= 200 or 101)
            {
                ref UpstreamAttempt attempt = ref _record.Current;
                attempt.HeaderMs = Request.Loop.NowMs - attempt.StartMs;
                attempt.Status = Head.Status;
                if (_start < _end || !MayHoldHead())
                {
                    return true;
                }
                _holdsHead = true;
                Group.Group.Sticky?.HeadCame(Request, _peer!);
                break;
            }
            if (++_interims > InterimMax)
            {
                LogWith(LogLevel.Error, "upstream sent too many interim responses", 0,
                    "reading response header from upstream");
                fault = new UpstreamFault(FaultKind.InvalidHeader, FaultLeg.Head);
                return false;
            }
            AnswerHead.PassInterim(this);
            Protocol.StartAnswer(this);
            if (_start == _end)
            {
                break;
            }
        }
        fault = AwaitMore();
        return false;
    }

    /// <summary>Whether the head waits for the first bytes of its body. A buffered head would not leave before them
    /// anyway (postpone_output), and until they come another server may still be asked.</summary>
    private bool MayHoldHead() => Head.Status is >= 200 and < 300 && !Protocol.IsBodyless(this)
        && !Protocol.EndsWithClose(this) && Request.Location.PostponeOutput.Value > 0
        && AnswerHead.DecideBuffering(this);

    private bool _holdsHead;

    /// <summary>The server has said that it did not work on the request.</summary>
    private UpstreamFault Unprocessed()
    {
        LogWith(LogLevel.Info, "upstream did not process the request", 0, "reading response header from upstream");
        _unprocessed = true;
        return new UpstreamFault(FaultKind.Error, FaultLeg.Head);
    }

    private UpstreamFault FailHead(RecvLease lease)
    {
        string action = _holdsHead ? "reading upstream" : "reading response header from upstream";
        if (IsAbandoned)
        {
            return ClientGone();
        }
        if (_senderStatus != 0)
        {
            return new UpstreamFault(FaultKind.Client, FaultLeg.Send, _senderStatus);
        }
        if (Stream is UpstreamStream { IsUnprocessed: true })
        {
            return Unprocessed();
        }
        if (lease.Error == Errno.ETIMEDOUT)
        {
            LogWith(LogLevel.Error, "upstream timed out", Errno.ETIMEDOUT, action);
            return new UpstreamFault(FaultKind.Timeout, FaultLeg.Head);
        }
        if (Stream.SendError != 0 && Stream.SendError == Errno.ETIMEDOUT)
        {
            LogWith(LogLevel.Error, "upstream timed out", Errno.ETIMEDOUT, "sending request to upstream");
            return new UpstreamFault(FaultKind.Timeout, FaultLeg.Send);
        }
        if (lease.IsEnd)
        {
            LogWith(LogLevel.Error, "upstream prematurely closed connection", 0, action);
        }
        else
        {
            LogWith(LogLevel.Error, HttpRequest.Failure(Stream), HttpRequest.FailureNumber(Stream, lease.Error),
                action);
        }
        return new UpstreamFault(FaultKind.Error, FaultLeg.Head);
    }

    /// <summary>The head is there: passes the answer on, unless another server or another page answers.</summary>
    private LoopTask<UpstreamFault> AnswerAsync()
    {
        HttpRequest r = Request;
        int status = Head.Status;
        DropKept();
        if (status == 101 && r.Stream.NeedsHandshakeCheck && !AnswerHead.FitsKey(this))
        {
            LogWith(LogLevel.Error, "upstream sent invalid \"Sec-WebSocket-Accept\" header", 0,
                "reading response header from upstream");
            return new LoopTask<UpstreamFault>(new UpstreamFault(FaultKind.InvalidHeader, FaultLeg.Head));
        }
        if (status >= 300 && PassesOver(status))
        {
            return new LoopTask<UpstreamFault>(new UpstreamFault(FaultKind.Status, FaultLeg.Head, status));
        }
        if (Tee is not null)
        {
            BodyEnded = Protocol.IsBodyless(this);
            _keep = BodyEnded && Protocol.CanKeep(this) && !_senderActive;
        }
        if (Tee?.TakesOver(this) == true)
        {
            _result = PhaseResult.Done;
            return default;
        }
        if (status >= 300
            && (Protocol.IsOwnAnswer(this) || Settings.InterceptErrors.Value && AnswerHead.Intercepts(this)))
        {
            _keep = Protocol.IsOwnAnswer(this) && Protocol.CanKeep(this);
            _result = PhaseResult.Answer(status);
            return default;
        }
        if (AnswerHead.TryRedirect(this, out _result))
        {
            _keep = false;
            return default;
        }
        AnswerHead.Pass(this);
        Group.Group.Sticky?.Answered(r, _peer!, _walk.IsBound);
        _buffered = AnswerHead.DecideBuffering(this);
        if (status == 101)
        {
            return TunnelAsync();
        }
        Tee?.OnHead(this);
        r.SendHead();
        _result = PhaseResult.Done;
        _body ??= r.Loop.RentChain();
        BodyEnded = Protocol.IsBodyless(this);
        if (!BodyEnded)
        {
            ReadStep step = Protocol.ReadBody(this, _body);
            if (step == ReadStep.Reject)
            {
                return FailBodyAsync(FaultKind.InvalidHeader);
            }
            BodyEnded = step == ReadStep.Done;
        }
        if (BodyEnded)
        {
            // It came with the head.
            _record.Current.ResponseBytes += _body.Length;
            Tee?.OnBody(_body);
            return FinishAsync();
        }
        return RelayAsync();
    }

    /// <summary>Whether an answer with this status is passed over in favour of another server.</summary>
    private bool PassesOver(int status)
    {
        NextUpstream reason = UpstreamFault.ReasonOf(status);
        if (reason == NextUpstream.None || _walk.TriesLeft <= 1)
        {
            return false;
        }
        if (Request.Method is HttpMethod.Post or HttpMethod.Lock or HttpMethod.Patch)
        {
            reason |= NextUpstream.NonIdempotent;
        }
        long timeoutMs = Settings.NextTimeoutMs.Value;
        return (Settings.Next.Value & reason) == reason && !StreamsBody
            && (timeoutMs == 0 || Request.Loop.NowMs - _startedMs < timeoutMs) && Group.HasRetry();
    }

    // The body.

    private async LoopTask<UpstreamFault> RelayAsync()
    {
        HttpRequest r = Request;
        Connection stream = Stream;
        _spillOffset = 0;
        long rate = RateOf(r);
        _rateBytes = 0;
        long startMs = r.Loop.NowMs;
        while (true)
        {
            ReadStep step = Protocol.ReadBody(this, _body!);
            if (step == ReadStep.Reject)
            {
                return await FailBodyAsync(FaultKind.InvalidHeader);
            }
            BodyEnded = step == ReadStep.Done;
            _record.Current.ResponseBytes += _body!.Length;
            if (Tee is { } tee)
            {
                tee.OnBody(_body);
                if (tee.IsFull)
                {
                    await tee.RoomAsync();
                }
            }
            if (BodyEnded)
            {
                break;
            }
            if (_body.Length > 0 && (_alone || !await DeliverAsync()) && !GoOnAlone())
            {
                return Gone();
            }
            if (_start == _end)
            {
                ReleaseInput();
            }
            if (rate > 0)
            {
                await PaceAsync(rate, startMs);
            }
            if (IsAbandoned)
            {
                return Gone();
            }
            stream.SetReadDeadline(r.Loop.NowMs + Settings.ReadTimeoutMs.Value);
            RecvLease lease = await stream.ReceiveAsync(ReceiveBytes());
            if (lease.IsEnd && Protocol.EndsWithClose(this))
            {
                BodyEnded = true;
                break;
            }
            if (lease.IsError || lease.IsEnd)
            {
                if (_clientGone || _alone)
                {
                    return Gone();
                }
                LogBodyFailure(lease);
                return await FailBodyAsync(lease.Error == Errno.ETIMEDOUT ? FaultKind.Timeout : FaultKind.Error);
            }
            _rateBytes += lease.Length;
            TakeInput(lease);
        }
        return await FinishAsync();
    }

    private int ReceiveBytes() =>
        Protocol.BodyLength(this) > 64 * 1024 || _record.Current.ReceivedBytes > 32 * 1024 ? 64 * 1024
            : BufferPool.StandardSize;

    /// <summary>The body is complete: the server is free before the last bytes leave for the client.</summary>
    private LoopTask<UpstreamFault> FinishAsync()
    {
        HttpRequest r = Request;
        if (_start < _end)
        {
            LogWith(LogLevel.Warn, "upstream sent more data than specified in \"Content-Length\" header", 0,
                "reading upstream");
        }
        _keep = Protocol.CanKeep(this) && !_senderActive && _senderStatus == 0 && Stream.SendError == 0;
        Tee?.OnEnd(whole: true);
        if (_alone)
        {
            _body!.Clear();
            r.Abort(AbortReason.ClientGone);
            return default;
        }
        AnswerHead.PassTrailers(this);
        if (_spillChain is null or { IsEmpty: true })
        {
            r.Push(_body!, PushFlags.Last);
            return default;
        }
        return FinishSpilledAsync();
    }

    private async LoopTask<UpstreamFault> FinishSpilledAsync()
    {
        _body!.MoveTo(_spillChain!);
        if (!await WriteSpillAsync())
        {
            _keep = false;
        }
        Request.Push(_body, PushFlags.Last);
        return default;
    }

    private bool _alone;

    /// <summary>The client takes nothing more: the answer is read on for whoever watches it.</summary>
    private bool GoOnAlone()
    {
        if (Tee is not { GoesOnAlone: true })
        {
            return false;
        }
        _alone = true;
        _body!.Clear();
        ResetSpill();
        return true;
    }

    private UpstreamFault Gone()
    {
        Tee?.OnEnd(whole: false);
        _body!.Clear();
        _keep = false;
        if (_clientGone)
        {
            ClientGone();
        }
        Request.Abort(AbortReason.ClientGone);
        _result = PhaseResult.Done;
        return default;
    }

    private void LogBodyFailure(RecvLease lease)
    {
        const string Action = "reading upstream";
        if (lease.Error == Errno.ETIMEDOUT)
        {
            LogWith(LogLevel.Error, "upstream timed out", lease.Error, Action);
        }
        else if (lease.IsEnd)
        {
            LogWith(LogLevel.Error, "upstream prematurely closed connection", 0, Action);
        }
        else
        {
            LogWith(LogLevel.Error, HttpRequest.Failure(Stream), HttpRequest.FailureNumber(Stream, lease.Error),
                Action);
        }
    }

    /// <summary>The answer was begun and cannot be completed: what came is passed on, then the connection
    /// ends.</summary>
    private async LoopTask<UpstreamFault> FailBodyAsync(FaultKind kind)
    {
        _keep = false;
        _bodyFailed = kind != FaultKind.InvalidHeader;
        Tee?.OnEnd(whole: false);
        HttpRequest r = Request;
        r.Push(_body!, PushFlags.Flush);
        if (_spillChain is { IsEmpty: false })
        {
            r.Push(_spillChain, PushFlags.Flush);
        }
        await r.Drained(0);
        r.Abort(AbortReason.Failed);
        _result = PhaseResult.Done;
        return default;
    }

    /// <summary>Passes what was read on. May wait for the client. False when it is gone.</summary>
    private LoopTask<bool> DeliverAsync()
    {
        HttpRequest r = Request;
        if (!_buffered)
        {
            r.Push(_body!, PushFlags.Flush);
            if (!r.Stream.Flush(r))
            {
                return new LoopTask<bool>(false);
            }
            return r.Drained(Settings.BufferSizeBytes.Value);
        }
        long pending = r.PendingBytes;
        if (_spillChain is null or { IsEmpty: true } && pending + _body!.Length <= Settings.MemoryBytesMax)
        {
            r.Push(_body!, PushFlags.None);
            bool fine = r.PendingBytes < Settings.BufferSizeBytes.Value || r.Stream.Flush(r);
            return new LoopTask<bool>(fine);
        }
        return DeliverSlowAsync();
    }

    /// <summary>The client is behind: memory is bounded by waiting, or by a file where that is allowed.</summary>
    private async LoopTask<bool> DeliverSlowAsync()
    {
        HttpRequest r = Request;
        if (!r.Stream.Flush(r))
        {
            return false;
        }
        long memory = Settings.MemoryBytesMax;
        bool pending = _spillChain is { IsEmpty: false };
        if (!pending && r.PendingBytes + _body!.Length <= memory)
        {
            r.Push(_body, PushFlags.None);
            return r.Stream.Flush(r);
        }
        // A filter that must see the bytes holds the server back instead: it cannot read them from a file.
        long room = r.BodyNeedsBytes || _spillFailed ? 0
            : Settings.TempFileBytesMax.Value - _spillOffset - (_spillChain?.Length ?? 0);
        if (room < _body!.Length)
        {
            if (room > 0)
            {
                _spillChain ??= r.Loop.RentChain();
                _body.MoveTo(_spillChain, room);
            }
            if ((pending || room > 0) && !await WriteSpillAsync(_spillFailed))
            {
                return false;
            }
            r.Push(_body!, PushFlags.None);
            bool fine = await r.Drained(memory / 2);
            if (r.PendingBytes == 0)
            {
                _spillOffset = 0;
            }
            return fine;
        }
        _spillChain ??= r.Loop.RentChain();
        _body.MoveTo(_spillChain);
        if (r.PendingBytes <= memory / 2)
        {
            // It caught up: straight from memory again.
            r.Push(_spillChain, PushFlags.None);
            return r.Stream.Flush(r);
        }
        return _spillChain.Length < Settings.TempWriteBytes.Value || await WriteSpillAsync();
    }

    /// <summary>Writes what is set aside to the file and passes it on as a slice of it. A disk that takes nothing costs
    /// no answer: what cannot be written is passed on from memory, and from then on the server is held back.</summary>
    private async LoopTask<bool> WriteSpillAsync(bool hasFailed = false)
    {
        HttpRequest r = Request;
        if (hasFailed)
        {
            r.Push(_spillChain!, PushFlags.None);
            return await r.Drained(Settings.MemoryBytesMax / 2);
        }
        if (_spillFile is null)
        {
            string directory = Settings.TempPath.Value;
            SysResult fd = SpillFile.Create(directory, keepName: false, out string? _);
            if (fd.IsError)
            {
                LogWith(LogLevel.Crit, $"open() \"{directory}\" failed", fd.Errno, "reading upstream");
                _spillFailed = true;
                return await WriteSpillAsync(hasFailed: true);
            }
            _spillFile = FileRef.Own(fd.Int);
            LogWith(LogLevel.Warn, $"an upstream response is buffered to a temporary file {directory}", 0,
                "reading upstream");
        }
        _spillWrite ??= new SpillWrite();
        _spillWrite.Start(_spillFile.Fd, _spillOffset, _spillChain!);
        await r.Loop.Blocking.RunAsync(_spillWrite);
        if (_spillWrite.Error != 0)
        {
            LogWith(LogLevel.Crit, "pwrite() to a temporary file failed", _spillWrite.Error, "reading upstream");
            _spillFailed = true;
            return await WriteSpillAsync(hasFailed: true);
        }
        long written = _spillWrite.Bytes;
        _spillChain!.Clear();
        _spillChain.AppendFile(_spillFile, _spillOffset, written);
        _spillOffset += written;
        r.Push(_spillChain, PushFlags.None);
        return r.Stream.Flush(r);
    }

    private void ResetSpill()
    {
        _spillFile?.Release();
        _spillFile = null;
        _spillFailed = false;
        if (_spillChain is not null)
        {
            Request.Loop.Return(_spillChain);
            _spillChain = null;
        }
    }

    // proxy_limit_rate.

    private long RateOf(HttpRequest r)
    {
        if (!_buffered || Settings.LimitRate.Value is not { } template)
        {
            return 0;
        }
        return Modules.LimitRateModule.Size(template.Evaluate(r).Span);
    }

    private async LoopTask<Unit> PaceAsync(long rate, long startMs)
    {
        EventLoop loop = Request.Loop;
        while (!_clientGone)
        {
            long allowed = rate * ((loop.NowMs - startMs) / 1000 + 1);
            if (_rateBytes < allowed)
            {
                break;
            }
            long waitMs = (_rateBytes - allowed) * 1000 / rate + 1;
            await loop.DelayAsync((int)Math.Min(waitMs, 1000));
        }
        return default;
    }

    private void TakeInput(RecvLease lease)
    {
        _record.Current.ReceivedBytes += lease.Length;
        if (_input is null || _start == _end)
        {
            _input?.Release();
            _input = lease.Slab;
            _start = 0;
            _end = lease.Length;
            return;
        }
        int have = _end - _start;
        int need = have + lease.Length;
        if (_start + need > _input.Capacity || !_input.IsExclusive)
        {
            BufferSlab bigger = Request.Loop.Buffers.Rent(need);
            _input.Span[_start.._end].CopyTo(bigger.Span);
            _input.Release();
            _input = bigger;
            _start = 0;
            _end = have;
        }
        lease.Span.CopyTo(_input.Span[_end..]);
        _end += lease.Length;
        lease.Release();
    }

    private void ReleaseInput()
    {
        _input?.Release();
        _input = null;
        _start = 0;
        _end = 0;
    }
}
