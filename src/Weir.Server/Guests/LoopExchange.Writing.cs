// The guest's half of writing: memory of slabs that the loop lends, files, and when what was written is handed
// over. The guest may go on writing while the loop takes what was flushed: only where a slab changes do they meet,
// under a gate.
using Weir.Loop;

namespace Weir.Server;

internal sealed partial class LoopExchange
{
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
            _loop.Post(_lateMessage);
        }
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
        else
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
}
