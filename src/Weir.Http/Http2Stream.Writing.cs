// The writing half of a stream: body bytes wait here until the connection's schedule and both windows let them go.
// Small ones go straight into the connection's output where nothing is before them. What is lent is copied when it is
// framed, so a request whose bytes are all framed may end.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

internal sealed partial class Http2Stream
{
    private long _drainKept;
    private bool _isAborted;

    /// <summary>Body bytes that were not framed yet; null for none.</summary>
    internal BufferChain? Pending { get; private set; }

    /// <summary>No more body bytes will be written.</summary>
    internal bool IsLast { get; private set; }

    /// <summary>Bytes of a DATA frame at most.</summary>
    internal int ChunkBytes { get; private set; }

    /// <summary>A read that waits for a disk is under way, or was: the bytes are in the cache now.</summary>
    internal bool IsWarming { get; set; }
    internal bool IsWarm { get; set; }

    internal bool HasPending => Pending is { IsEmpty: false };

    private void StartWriting()
    {
        IsLast = false;
        IsWarm = false;
        IsWarming = false;
        _isAborted = false;
        _drainKept = 0;
    }

    private void EndWriting()
    {
        if (Pending is { } pending)
        {
            Pending = null;
            _driver.Loop.Return(pending);
        }
    }

    public override long UnsentBytes => Pending?.Length ?? 0;

    private bool IsDead => IsGone || _isAborted || State.LocalEnded;

    public override void WriteHead(HttpRequest r)
    {
        if (IsDead)
        {
            return;
        }
        ChunkBytes = r.Location.Http2ChunkBytes;
        ResponseHead head = r.Response;
        DecideFraming(head);
        bool ends = head.HeaderOnly || head.ContentLength == 0 && !head.ExpectTrailers && head.Trailers.IsEmpty;
        _driver.WriteHead(this, r, ends && !head.IsUpgrade);
    }

    private static void DecideFraming(ResponseHead head)
    {
        if (head.Status == 204 || head.Status == 304 && head.ContentLength > 0)
        {
            head.ContentLength = -1;
            head.ContentType = default;
        }
    }

    public override void WriteInterim(HttpRequest r, int status, ReadOnlySpan<ResponseField> fields)
    {
        if (!IsDead && !r.Response.IsSent)
        {
            _driver.WriteInterim(this, r, status, fields);
        }
    }

    public override bool TryWriteSmall(HttpRequest r, ReadOnlySpan<byte> body)
    {
        if (IsDead || r.Response.HeaderOnly || HasPending || !r.Response.Trailers.IsEmpty
            || body.Length > ChunkBytes || !_driver.TryWriteData(this, r, body))
        {
            return false;
        }
        IsLast = true;
        return true;
    }

    public override void WriteBody(HttpRequest r, BufferChain chain, PushFlags flags)
    {
        if (IsDead || r.Response.HeaderOnly)
        {
            chain.Clear();
            return;
        }
        IsLast |= (flags & PushFlags.Last) != 0;
        if (chain.Length > 0)
        {
            if (!HasPending && _driver.TryWriteData(this, r, chain))
            {
                return;
            }
            Pending ??= _driver.Loop.RentChain();
            chain.MoveTo(Pending);
            _driver.Offer(this);
        }
        else if (IsLast && !HasPending)
        {
            _driver.WriteEnd(this, r);
        }
        _driver.FlushLater();
    }

    public override bool Flush(HttpRequest r)
    {
        if (IsGone || _isAborted)
        {
            return false;
        }
        _driver.FlushLater();
        return true;
    }

    public override LoopTask<bool> DrainAsync(HttpRequest r, long keptBytes)
    {
        if (!Flush(r))
        {
            return new LoopTask<bool>(false);
        }
        if (UnsentBytes <= keptBytes)
        {
            return new LoopTask<bool>(true);
        }
        _drainKept = keptBytes;
        StartSendTimer();
        return _drained.Begin();
    }

    /// <summary>Bytes were framed: who waits for that goes on. The stream may have ended when this returns.</summary>
    internal void Framed()
    {
        if (!_drained.IsWaiting)
        {
            return;
        }
        if (UnsentBytes <= _drainKept)
        {
            _driver.Loop.Timers.Cancel(_sendTimer);
            _drained.SetResult(true);
        }
        else
        {
            StartSendTimer();
        }
    }

    private void StartSendTimer()
    {
        if (Request is { } r)
        {
            _driver.Loop.Timers.Set(_sendTimer, _driver.Loop.NowMs + r.Location.SendTimeoutMs.Value);
        }
    }

    private sealed class SendTimer(Http2Stream stream) : LoopTimer
    {
        protected override void Fire() => stream.TimeOutSending();
    }

    /// <summary>The client does not open its window, or does not read at all.</summary>
    private void TimeOutSending()
    {
        if (!_drained.IsWaiting || Request is not { } r)
        {
            return;
        }
        r.LogError(LogLevel.Info, "client timed out", Errno.ETIMEDOUT);
        Abort(r);
    }

    public override void Abort(HttpRequest r) => Reset(r, (uint)Weir.Protocol.Http2.Http2Error.InternalError);

    public override void Reset(HttpRequest r, uint code)
    {
        if (_isAborted || IsGone)
        {
            return;
        }
        _isAborted = true;
        _driver.Schedule.Remove(this);
        Pending?.Clear();
        if (!State.LocalEnded)
        {
            _driver.ResetStream(this, (Weir.Protocol.Http2.Http2Error)code);
        }
        if (_drained.IsWaiting)
        {
            _drained.SetResult(false);
        }
    }
}
