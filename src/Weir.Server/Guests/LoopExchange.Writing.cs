// The guest's half of writing: memory of slabs that the loop lends, files, and when what was written is handed
// over. The guest may go on writing while the loop takes what was flushed: only where a slab changes do they meet,
// under a gate.
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Server;

internal sealed partial class LoopExchange
{
    internal override long UnsentBytesMax => Guests.UnsentBytesMax;

    public override bool IsRequestBodyEnded => !HasRequestBody || Volatile.Read(ref _hasTrailers);

    private bool _hasTrailers;

    /// <summary>What was flushed in the handler's first step leaves now.</summary>
    private void EndFirstStep()
    {
        if (Interlocked.Exchange(ref _step, LaterStep) != FirstStepFlushed)
        {
            return;
        }
        if (_loop.IsOnThread)
        {
            ProcessLateFlush();
        }
        else
        {
            _lendsSending = false;
            _loop.Post(_lateMessage);
        }
    }

    // Sending that is lent: the loop saw that nothing waits before this answer, and the guest asked for nothing since.
    private bool _lendsSending;
    private int _directBytes;
    private int _directStart;
    private int _directSent;

    /// <summary>On the guest's thread, at its end: gives a small answer that is complete to the kernel. True when the
    /// loop need not hurry to hear of it.</summary>
    private bool TryAnswerDirectly()
    {
        if (_failure is not null || _slab is null || _parts.Count > 0 || IsShort || Reason is not null
            || !DirectAnswer.MayHaveStatus(Status) || Head.Method == HttpMethod.Head || ExpectsTrailers
            || Trailers.Count > 0)
        {
            return false;
        }
        Span<byte> head = stackalloc byte[DirectAnswer.HeadBytesMax];
        int length = DirectAnswer.WriteHead(head, Status, Fields, BodyBytes, Guests.HeadStart);
        if (length == 0 || Interlocked.CompareExchange(ref _state, Sending, Owned) != Owned)
        {
            return false;
        }
        HttpRequest r = _r!;
        Span<byte> memory = _slab.Span;
        _directStart = DirectAnswer.HeadBytesMax - length;
        head[..length].CopyTo(memory[_directStart..]);
        _directBytes = _used - _directStart;
        _directSent = r.Connection.SendLent(memory[_directStart.._used]);
        Volatile.Write(ref _state, Sent);
        // After that store, so that the lull's timer, which is this message's alarm, cannot end unseen.
        return _directSent == _directBytes && Volatile.Read(ref _step) != LaterStep && !Head.HasBody
            && !Guests.IsTimed();
    }

    /// <summary>On the loop: what the guest's thread sent is accounted for, and what the kernel did not take
    /// follows.</summary>
    private void EndDirect(HttpRequest r)
    {
        int headBytes = DirectAnswer.HeadBytesMax - _directStart;
        r.Response.Status = Status;
        r.Response.ContentLength = BodyBytes;
        r.Response.IsSent = true;
        r.HeadBytesSent += headBytes;
        r.BodyBytesSent += BodyBytes;
        r.WireBodyBytes += BodyBytes;
        r.Connection.EndLending(_directSent);
        if (_directSent < _directBytes)
        {
            r.Stream.WriteRest(_slab!.Memory.Slice(_directStart + _directSent, _directBytes - _directSent), _slab);
        }
        ReleaseSlabs();
    }

    private sealed class LullTimer(LoopExchange exchange) : LoopTimer
    {
        protected override void Fire() => exchange.LookAtLull();
    }

    /// <summary>On the loop: what a handler flushed leaves, also when it then holds its thread.</summary>
    private void LookAtLull()
    {
        if (_r is null || Volatile.Read(ref _step) == LaterStep)
        {
            return;
        }
        if (Interlocked.CompareExchange(ref _step, LaterStep, FirstStepFlushed) == FirstStepFlushed)
        {
            ProcessLateFlush();
        }
        if (Volatile.Read(ref _step) != LaterStep || Volatile.Read(ref _state) is Sending or Sent)
        {
            _loop.Timers.Set(_lull, _loop.NowMs + LullMs);
        }
    }

    /// <summary>Memory, or a range of a file where <see cref="Slab"/> is null.</summary>
    private readonly record struct WrittenPart(BufferSlab? Slab, int Start, int Length, int Fd, long Offset,
        long Bytes);

    public override Memory<byte> GetMemory(int sizeHint = 0)
    {
        int need = Math.Max(sizeHint, 1);
        if (_slab is null || _slab.Capacity - _used < need)
        {
            BufferSlab fresh = _loop.IsOnThread
                ? _loop.Buffers.Rent(Math.Max(need, _slab is null ? FirstSlabBytes : BufferPool.StandardSize))
                : _loop.Buffers.RentOutside(need);
            // The loop may be taking what was flushed before.
            lock (_partsGate)
            {
                KeepSlab();
                _slab = fresh;
            }
        }
        return _slab.AsMemory()[_used..];
    }

    /// <summary>Under the gate: the current slab takes its place among what waits.</summary>
    private void KeepSlab()
    {
        if (_slab is not null)
        {
            _parts.Add(new WrittenPart(_slab, _taken, _used - _taken, -1, 0, 0));
            _slab = null;
        }
        _used = 0;
        _taken = 0;
    }

    private protected override bool AddFile(int fd, long offset, long count)
    {
        lock (_partsGate)
        {
            KeepSlab();
            _parts.Add(new WrittenPart(null, 0, 0, fd, offset, count));
        }
        return true;
    }

    private protected override void AdvanceBuffer(int count)
    {
        if (_slab is null || (uint)count > (uint)(_slab.Capacity - _used))
        {
            throw new ArgumentOutOfRangeException(nameof(count));
        }
        // The bytes before the count: the loop may look at any time.
        Volatile.Write(ref _used, _used + count);
    }

    public override ValueTask<bool> FlushAsync()
    {
        if (IsAbandoned)
        {
            return new ValueTask<bool>(false);
        }
        SealHead();
        if (Interlocked.CompareExchange(ref _step, FirstStepFlushed, FirstStep) == FirstStep)
        {
            return new ValueTask<bool>(!IsAborted);
        }
        Volatile.Write(ref _step, LaterStep);
        _flushWait.Begin(continueElsewhere: !Guests.IsInline);
        _lendsSending = false;
        if (_loop.IsOnThread)
        {
            ProcessFlush();
        }
        else
        {
            _loop.Post(_flushMessage);
        }
        return _flushWait.Truth;
    }

    public override ValueTask<bool> FlushSoonAsync()
    {
        int step = Volatile.Read(ref _step);
        if (step == LaterStep || IsAbandoned)
        {
            return FlushAsync();
        }
        SealHead();
        return step == FirstStepFlushed
            || Interlocked.CompareExchange(ref _step, FirstStepFlushed, FirstStep) == FirstStep
            ? new ValueTask<bool>(!IsAborted) : FlushAsync();
    }

    private void ReleaseSlabs()
    {
        lock (_partsGate)
        {
            foreach (WrittenPart part in _parts)
            {
                part.Slab?.Release();
                if (part.Slab is null)
                {
                    Descriptors.Close(part.Fd);
                }
            }
            _parts.Clear();
            _slab?.Release();
            _slab = null;
            _used = 0;
            _taken = 0;
        }
    }

    // What comes behind a request's body.

    private void TakeTrailers(HttpRequest r)
    {
        if (!_hasTrailers)
        {
            AddTrailerLines(r.Body.TrailerLines);
            Volatile.Write(ref _hasTrailers, true);
        }
    }

    // A guest that holds the loop's thread keeps the loop from hearing that the client of an HTTP/2 stream makes room.
    // What it writes beyond the bound waits in a file: memory is bounded, and so is how long the others wait.

    private FileRef? _spill;
    private long _spilled;

    /// <summary>Whether what is written now would wait in memory without a bound.</summary>
    private bool MustSpill(HttpRequest r) =>
        Guests.IsInline && r.Stream.IsShared && r.PendingBytes > UnsentBytesMax;

    /// <summary>Puts memory of the chain into the file. On an error the chain is dropped with its request.</summary>
    private void Spill(HttpRequest r, BufferChain chain)
    {
        SysResult result = default;
        if (_spill is null)
        {
            result = SpillFile.Create(System.IO.Path.GetTempPath(), keepName: false, out _);
            if (result.IsOk)
            {
                _spill = FileRef.Own(result.Int);
                _spilled = 0;
            }
        }
        BufferChain filed = _loop.RentChain();
        for (int i = 0; i < chain.Count && !result.IsError; i++)
        {
            ref ChainSegment segment = ref chain[i];
            if (segment.IsFile)
            {
                filed.AppendFile(segment.File!, segment.FileOffset, segment.Length);
                continue;
            }
            result = Descriptors.WriteAll(_spill!.Fd, segment.Memory.Span);
            filed.AppendFile(_spill, _spilled, segment.Length);
            _spilled += segment.Length;
        }
        chain.Clear();
        if (result.IsError)
        {
            Guests.Complain(r, $"what a handler wrote found no place in {System.IO.Path.GetTempPath()} "
                + $"({result.Errno}: {Errno.Describe(result.Errno)})");
            r.Abort(AbortReason.Failed);
            SignalAborted();
        }
        else
        {
            filed.MoveTo(chain);
        }
        _loop.Return(filed);
    }

    private void EndSpilling()
    {
        _spill?.Release();
        _spill = null;
    }
}
