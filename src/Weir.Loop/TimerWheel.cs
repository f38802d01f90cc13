// Timers of a loop: a hierarchical wheel of 1 ms ticks, six levels of 64 slots (about two years), intrusive lists,
// one occupancy word per level. Setting, moving and cancelling are O(1) and allocate nothing.
// A deadline that only moves later does not touch the wheel: the entry fires early, sees the later due time and goes
// back in (a keep-alive connection sets its deadline on every request and would pay for it otherwise).
using System.Numerics;

namespace Weir.Loop;

/// <summary>Something that happens at a time. Derive, or use <see cref="CallbackTimer"/>.</summary>
public abstract class LoopTimer
{
    internal LoopTimer? Previous;
    internal LoopTimer? Next;
    internal int Slot = -1;
    internal long ScheduledMs;

    /// <summary>When it is due, in the loop's monotonic milliseconds; 0 when it is not set.</summary>
    public long DueMs { get; internal set; }

    public bool IsSet => DueMs != 0;

    /// <summary>Called on the loop when the time has come. The timer is already unset.</summary>
    protected internal abstract void Fire();
}

/// <summary>A timer that calls a delegate.</summary>
public sealed class CallbackTimer(Action callback) : LoopTimer
{
    protected internal override void Fire() => callback();
}

/// <summary>The timers of one loop.</summary>
public sealed class TimerWheel
{
    private const int Levels = 6;
    private readonly LoopTimer?[] _heads = new LoopTimer?[Levels * 64];
    private readonly ulong[] _occupied = new ulong[Levels];
    /// <summary>How far ahead the wheel can tell slots apart; what is due later goes round once more.</summary>
    private const long HorizonMs = 63L << 30;

    private long _nowMs;
    private long _floorMs;

    public TimerWheel(long nowMs) => _nowMs = nowMs;

    /// <summary>Timers that are set.</summary>
    public int Count { get; private set; }

    /// <summary>Sets or moves a timer to <paramref name="dueMs"/>; a time that has passed fires in the next
    /// turn.</summary>
    public void Set(LoopTimer timer, long dueMs)
    {
        if (timer.Slot >= 0)
        {
            if (dueMs >= timer.ScheduledMs)
            {
                timer.DueMs = dueMs;
                return;
            }
            Unlink(timer);
        }
        else
        {
            Count++;
        }
        timer.DueMs = dueMs;
        Link(timer, Math.Max(dueMs, _floorMs));
    }

    /// <summary>Unsets a timer; nothing happens when it is not set.</summary>
    public void Cancel(LoopTimer timer)
    {
        timer.DueMs = 0;
        if (timer.Slot >= 0)
        {
            Unlink(timer);
            Count--;
        }
    }

    /// <summary>Unsets a timer without touching the wheel: for timers that will be set again soon.</summary>
    public void Disarm(LoopTimer timer) => timer.DueMs = 0;

    /// <summary>Milliseconds from <paramref name="nowMs"/> until something may be due; -1 when nothing is
    /// set.</summary>
    public int NextDelayMs(long nowMs)
    {
        if (_detached is not null)
        {
            return 0;
        }
        long next = NextExpiry();
        if (next < 0)
        {
            return -1;
        }
        return (int)Math.Clamp(next - nowMs, 0, int.MaxValue);
    }

    /// <summary>Fires what is due at <paramref name="nowMs"/>.</summary>
    public void Advance(long nowMs)
    {
        // What is set while timers fire is due in a later turn, so that a timer that sets itself cannot hold the loop.
        _floorMs = nowMs + 1;
        try
        {
            // Something is left of the last turn when a timer threw.
            FireDetached();
            while (true)
            {
                long next = NextExpiry();
                if (next < 0 || next > nowMs)
                {
                    break;
                }
                _nowMs = Math.Max(_nowMs, next);
                // The list is detached first: what fires may set timers into the very same slot.
                _detached = _heads[_nextIndex];
                _heads[_nextIndex] = null;
                _occupied[_nextLevel] &= ~(1UL << (_nextIndex & 63));
                FireDetached();
            }
            _nowMs = Math.Max(_nowMs, nowMs);
        }
        finally
        {
            _floorMs = 0;
        }
    }

    private LoopTimer? _detached;

    private void FireDetached()
    {
        while (_detached is { } timer)
        {
            _detached = timer.Next;
            if (timer.Next is not null)
            {
                timer.Next.Previous = null;
                timer.Next = null;
            }
            timer.Slot = -1;
            if (timer.DueMs > _nowMs)
            {
                Link(timer, timer.DueMs);
                continue;
            }
            Count--;
            if (timer.DueMs != 0)
            {
                timer.DueMs = 0;
                timer.Fire();
            }
        }
    }

    private int _nextLevel;
    private int _nextIndex;

    private long NextExpiry()
    {
        for (int level = 0; level < Levels; level++)
        {
            ulong occupied = _occupied[level];
            if (occupied == 0)
            {
                continue;
            }
            int shift = level * 6;
            int current = (int)(_nowMs >> shift) & 63;
            ulong rotated = BitOperations.RotateRight(occupied, current);
            int distance = BitOperations.TrailingZeroCount(rotated);
            int slot = (current + distance) & 63;
            long range = 1L << (shift + 6);
            long start = (_nowMs & ~(range - 1)) + ((long)slot << shift);
            if (start < (_nowMs & ~((1L << shift) - 1)))
            {
                start += range;
            }
            _nextLevel = level;
            _nextIndex = (level << 6) + slot;
            return Math.Max(start, _nowMs);
        }
        return -1;
    }

    private void Link(LoopTimer timer, long dueMs)
    {
        long when = Math.Clamp(dueMs, _nowMs, _nowMs + HorizonMs);
        ulong differs = (ulong)(when ^ _nowMs) | 63;
        int level = Math.Min((63 - BitOperations.LeadingZeroCount(differs)) / 6, Levels - 1);
        int index = (level << 6) + ((int)(when >> (level * 6)) & 63);
        LoopTimer? head = _heads[index];
        timer.Previous = null;
        timer.Next = head;
        if (head is not null)
        {
            head.Previous = timer;
        }
        _heads[index] = timer;
        _occupied[level] |= 1UL << (index & 63);
        timer.Slot = index;
        timer.ScheduledMs = when;
    }

    private void Unlink(LoopTimer timer)
    {
        int index = timer.Slot;
        if (timer.Previous is not null)
        {
            timer.Previous.Next = timer.Next;
        }
        else if (_detached == timer)
        {
            // It waits in the list that is being fired right now.
            _detached = timer.Next;
        }
        else if (_heads[index] == timer)
        {
            _heads[index] = timer.Next;
            if (timer.Next is null)
            {
                _occupied[index >> 6] &= ~(1UL << (index & 63));
            }
        }
        if (timer.Next is not null)
        {
            timer.Next.Previous = timer.Previous;
        }
        timer.Next = null;
        timer.Previous = null;
        timer.Slot = -1;
    }
}
