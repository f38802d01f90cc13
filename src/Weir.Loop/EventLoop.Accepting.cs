// A loop's listeners together: they fall quiet when connection slots run out and come back when one is free, and with
// an accept gate only one worker's listeners are armed at a time. One loop's thread.
using Weir.Kernel;

namespace Weir.Loop;

public abstract partial class EventLoop
{
    private readonly List<Listener> _listeners = [];
    private bool _roomRanOut;
    private CallbackTimer? _roomTimer;
    private bool _gateHeld;
    private bool _gateWasMine = true;
    private int _gateSkips;
    private long _roomLoggedMs = long.MinValue / 2;
    private long _reuseLoggedMs = long.MinValue / 2;

    /// <summary>Lines about connections and descriptors that ran out: level, text, error number or 0.</summary>
    public Action<LogLevel, string, int>? Report { get; set; }

    /// <summary>Take all that waits in a listener's queue at once (nginx's multi_accept).</summary>
    public bool MultiAccept { get; set; }

    /// <summary>The most connections that one turn took since start.</summary>
    public int MostAcceptedInTurn { get; private set; }

    private long _acceptedTurn;
    private int _acceptedInTurn;

    /// <summary>Set before listening: shared sockets are accepted from inside the gate only.</summary>
    public AcceptGate? AcceptGate { get; set; }

    /// <summary>Turns since the loop began: two in a row mean that a queue was not emptied.</summary>
    public long TurnCount { get; private set; }

    internal AcceptPressure Pressure { get; } = new();
    internal SpareDescriptor Spare { get; } = new();

    /// <summary>Other workers accept from the shared sockets too.</summary>
    public bool HasSiblings { get; set; }

    /// <summary>Connections that clients may have: the last slot is kept for what a request will open.</summary>
    private int ClientsMax => Math.Max(1, ConnectionsMax - 1);

    /// <summary>One more client takes the last slot that clients may have, or there is none.</summary>
    internal bool IsNearlyFull => ConnectionCount >= ClientsMax;

    /// <summary>An engine's listener begins its life. False when it has to wait for the gate.</summary>
    internal bool Enlist(Listener listener)
    {
        _listeners.Add(listener);
        Spare.Hold();
        if (_roomRanOut)
        {
            listener.StartHeld(AcceptHold.Room);
        }
        if (AcceptGate is not null && listener.IsShared && !_gateHeld)
        {
            _gateWasMine = false;
            listener.StartHeld(AcceptHold.Gate);
        }
        return listener.Holds == AcceptHold.None;
    }

    internal void Delist(Listener listener) => _listeners.Remove(listener);

    /// <summary>Whether one more client may be accepted; the longest-idle connection goes for it when slots are
    /// few.</summary>
    protected internal bool MakeRoom()
    {
        if (ConnectionCount < ClientsMax)
        {
            return true;
        }
        if (ReclaimIdle(1) == 0)
        {
            return false;
        }
        if (NowMs - _reuseLoggedMs >= 1000)
        {
            _reuseLoggedMs = NowMs;
            Report?.Invoke(LogLevel.Warn,
                $"{ConnectionsMax} worker_connections are not enough, reusing connections", 0);
        }
        return true;
    }

    /// <summary>All slots are taken by work: clients wait in the queue, for this worker or another.</summary>
    internal void HoldForRoom()
    {
        if (_roomRanOut)
        {
            return;
        }
        _roomRanOut = true;
        if (NowMs - _roomLoggedMs >= 1000)
        {
            _roomLoggedMs = NowMs;
            Report?.Invoke(LogLevel.Alert, $"{ConnectionsMax} worker_connections are not enough", 0);
        }
        foreach (Listener listener in _listeners)
        {
            listener.Hold(AcceptHold.Room);
        }
        // Who is fresh now may be reclaimed then; the turn that the timer brings looks.
        _roomTimer ??= new CallbackTimer(static () => { });
        Timers.Set(_roomTimer, NowMs + FreshMs);
    }

    private void ResumeIfRoom()
    {
        if (ConnectionCount < ClientsMax || OldestToReclaim() is not null)
        {
            _roomRanOut = false;
            LetAllGo(AcceptHold.Room);
        }
        else if (!_roomTimer!.IsSet)
        {
            Timers.Set(_roomTimer, NowMs + FreshMs);
        }
    }

    internal void NotePressure(int errno)
    {
        if (Pressure.Begin(NowMs))
        {
            LogLevel level = errno is Errno.EMFILE or Errno.ENFILE ? LogLevel.Crit : LogLevel.Alert;
            Report?.Invoke(level, "accept4() failed", errno);
        }
    }

    internal void NoteAccepted()
    {
        _acceptedInTurn = _acceptedTurn == TurnCount ? _acceptedInTurn + 1 : 1;
        _acceptedTurn = TurnCount;
        MostAcceptedInTurn = Math.Max(MostAcceptedInTurn, _acceptedInTurn);
        if (Pressure.IsOn && Pressure.End(NowMs))
        {
            Report?.Invoke(LogLevel.Notice,
                $"accepting again, {Pressure.RefusedCount} connections were turned away", 0);
        }
    }

    /// <summary>Before the wait. A worker that is nearly full leaves the gate to the others for some turns, as nginx
    /// does; one that finds it taken looks again after the gate's delay.</summary>
    private int EnterGate(int timeoutMs)
    {
        if (_gateHeld)
        {
            return timeoutMs;
        }
        if (!WantsGate())
        {
            return timeoutMs;
        }
        if (_gateSkips > 0)
        {
            _gateSkips--;
        }
        else if (AcceptGate!.TryEnter())
        {
            _gateHeld = true;
            if (!_gateWasMine)
            {
                _gateWasMine = true;
                LetAllGo(AcceptHold.Gate);
            }
            return timeoutMs;
        }
        if (_gateWasMine)
        {
            _gateWasMine = false;
            foreach (Listener listener in _listeners)
            {
                if (listener.IsShared)
                {
                    listener.Hold(AcceptHold.Gate);
                }
            }
        }
        return timeoutMs < 0 ? AcceptGate!.DelayMs : Math.Min(timeoutMs, AcceptGate!.DelayMs);
    }

    /// <summary>Whoever could not accept anyway must not keep the others out.</summary>
    private bool WantsGate()
    {
        foreach (Listener listener in _listeners)
        {
            if (listener.IsShared && (listener.Holds & ~AcceptHold.Gate) == AcceptHold.None)
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>This turn's accepting is done (or nothing was held): the next worker may enter.</summary>
    protected void LeaveGate()
    {
        if (_gateHeld)
        {
            _gateHeld = false;
            AcceptGate!.Leave();
            _gateSkips = Math.Max(0, ConnectionsMax / 8 - (ConnectionsMax - ConnectionCount));
        }
    }

    /// <summary>The gate is held: accepting comes first in this turn, so that it can be left early.</summary>
    protected bool IsInGate => _gateHeld;

    private void LetAllGo(AcceptHold why)
    {
        for (int i = 0; i < _listeners.Count; i++)
        {
            _listeners[i].LetGo(why);
        }
    }
}
