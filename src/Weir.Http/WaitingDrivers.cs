// Drivers that stay with their connection while it waits for its next request: to let go and come back costs more
// than many a request, so only connections that have been silent for a while are parked, and those for which no seat
// is left. The seats bound what waiting costs in memory. One loop's thread; holds drivers, owns nothing.
using Weir.Loop;

namespace Weir.Http;

/// <summary>A driver that may be asked to let go of a connection that is silent.</summary>
internal interface IWaitingDriver
{
    /// <summary>Its seat; -1 when it has none.</summary>
    int Seat { get; set; }

    /// <summary>Lets go when it has waited since before the sweep.</summary>
    void ParkIfWaiting(uint sweep);
}

/// <summary>The seats of one server's waiting drivers, and the sweep that parks those that wait long.</summary>
internal sealed class WaitingDrivers(EventLoop loop) : LoopTimer
{
    /// <summary>Drivers that keep their connection while it waits; any more are parked at once.</summary>
    internal const int SeatsMax = 256;

    private const int SweepMs = 1000;

    private readonly IWaitingDriver?[] _seats = new IWaitingDriver?[SeatsMax];
    private int _count;
    private bool _sweeps;

    /// <summary>Which sweep comes next: who began to wait before the last one has waited for a whole turn.</summary>
    internal uint Sweep { get; private set; }

    /// <summary>A seat for a driver that has none. False when all are taken.</summary>
    internal bool Enter(IWaitingDriver driver)
    {
        if (_count == SeatsMax)
        {
            return false;
        }
        driver.Seat = _count;
        _seats[_count++] = driver;
        if (!_sweeps)
        {
            _sweeps = true;
            loop.Timers.Set(this, loop.NowMs + SweepMs);
        }
        return true;
    }

    internal void Leave(IWaitingDriver driver)
    {
        int seat = driver.Seat;
        if (seat >= 0)
        {
            driver.Seat = -1;
            IWaitingDriver last = _seats[--_count]!;
            _seats[_count] = null;
            if (last != driver)
            {
                _seats[seat] = last;
                last.Seat = seat;
            }
        }
    }

    protected override void Fire()
    {
        uint now = Sweep;
        Sweep = now + 1;
        for (int i = _count - 1; i >= 0; i--)
        {
            // One that parks gives its seat to the last, which has been looked at.
            if (i < _count)
            {
                _seats[i]!.ParkIfWaiting(now);
            }
        }
        _sweeps = _count > 0;
        if (_sweeps)
        {
            loop.Timers.Set(this, loop.NowMs + SweepMs);
        }
    }
}
