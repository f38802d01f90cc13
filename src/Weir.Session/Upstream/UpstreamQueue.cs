// Requests that wait until some server of a group has room (`queue`): first come, first served, each with a time limit.
// Room that this loop makes wakes the first at once; room that other workers make in a shared zone is looked for every
// few milliseconds while somebody waits. One loop's thread.
using Weir.Loop;

namespace Weir.Session.Upstream;

/// <summary>`queue NUMBER [timeout=TIME]`.</summary>
public sealed record QueueRule(int Max, long TimeoutMs);

/// <summary>How a wait ended.</summary>
public enum QueueEnd
{
    Room,
    Timeout,
    Overflow,
    Cancelled,
}

/// <summary>One exchange's place in the queue. Reused.</summary>
public sealed class QueuePlace : LoopOperation<QueueEnd>
{
    internal long DeadlineMs;
    
    /// <summary>It is in the queue.</summary>
    public bool IsQueued { get; internal set; }
}

/// <summary>The queue of one group on one loop.</summary>
public sealed class UpstreamQueue
{
    private const int LookMs = 10;

    private readonly GroupState _group;
    private readonly QueueRule _rule;
    private readonly List<QueuePlace> _places = [];
    private readonly CallbackTimer _timer;
    private bool _isWaking;

    internal UpstreamQueue(GroupState group, QueueRule rule)
    {
        _group = group;
        _rule = rule;
        _timer = new CallbackTimer(Look);
    }

    public int Count => _places.Count;

    /// <summary>How many may wait.</summary>
    public int Max => _rule.Max;

    /// <summary>Whether a request has to wait: there is no room, or others wait for it.</summary>
    public bool MustWait => _places.Count > 0 && !_isWaking || !_group.HasRoom();

    /// <summary>Waits for room.</summary>
    public LoopTask<QueueEnd> WaitAsync(QueuePlace place)
    {
        if (_places.Count >= _rule.Max)
        {
            _group.CountOverflow();
            return new LoopTask<QueueEnd>(QueueEnd.Overflow);
        }
        place.DeadlineMs = _group.Loop.NowMs + _rule.TimeoutMs;
        place.IsQueued = true;
        _places.Add(place);
        _group.TellHeld();
        if (_places.Count == 1)
        {
            _group.Loop.Timers.Set(_timer, _group.Loop.NowMs + LookMs);
        }
        return place.Begin();
    }

    /// <summary>Gives a place up: its client has gone.</summary>
    public void Cancel(QueuePlace place) => End(place, QueueEnd.Cancelled);

    /// <summary>Takes a place out whose waiter is no more.</summary>
    public void Drop(QueuePlace place)
    {
        place.IsQueued = false;
        _places.Remove(place);
        _group.TellHeld();
    }

    /// <summary>There may be room.</summary>
    internal void Wake()
    {
        if (_isWaking)
        {
            return;
        }
        _isWaking = true;
        while (_places.Count > 0 && _group.HasRoom())
        {
            End(_places[0], QueueEnd.Room);
        }
        _isWaking = false;
    }

    private void Look()
    {
        long nowMs = _group.Loop.NowMs;
        while (_places.Count > 0 && _places[0].DeadlineMs <= nowMs)
        {
            End(_places[0], QueueEnd.Timeout);
        }
        Wake();
        if (_places.Count > 0)
        {
            _group.Loop.Timers.Set(_timer, nowMs + LookMs);
        }
    }

    private void End(QueuePlace place, QueueEnd end)
    {
        if (place.IsQueued)
        {
            place.IsQueued = false;
            _places.Remove(place);
            _group.TellHeld();
            place.SetResult(end);
        }
    }
}
