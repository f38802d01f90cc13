// A loop's pools together: how long an idle loop keeps what a busy time left in them. One loop's thread.
namespace Weir.Loop;

public abstract partial class EventLoop
{
    /// <summary>Objects that a pool keeps however long nobody wants them.</summary>
    public const int PoolKept = 64;

    /// <summary>Bytes of free buffers that a loop keeps in the same way.</summary>
    private const long BuffersKept = 1024 * 1024;

    private const int TrimEveryMs = 10_000;

    /// <summary>Fewer turns than this between two looks, and the loop was idle.</summary>
    private const int IdleTurnsMax = 200;

    private CallbackTimer? _trim;
    private long _turnsAtTrim;

    /// <summary>All pools of this loop, for its status.</summary>
    public List<LoopPool> Pools { get; } = [];

    /// <summary>Told how many objects a trim dropped: their owner may want them collected.</summary>
    public Action<int>? Trimmed { get; set; }

    /// <summary>There is something to trim, once the loop is idle.</summary>
    public void TrimLater()
    {
        if (_trim is not { IsSet: true })
        {
            _trim ??= new CallbackTimer(TrimIfIdle);
            _turnsAtTrim = TurnCount;
            Timers.Set(_trim, NowMs + TrimEveryMs);
        }
    }

    /// <summary>The engine lets go of what a busy time left.</summary>
    protected virtual void OnTrim()
    {
    }

    private void TrimIfIdle()
    {
        bool idle = TurnCount - _turnsAtTrim < IdleTurnsMax;
        if (!idle)
        {
            TrimLater();
            return;
        }
        Trim();
    }

    /// <summary>Lets go of what a busy time left.</summary>
    internal void Trim()
    {
        int dropped = 0;
        foreach (LoopPool pool in Pools)
        {
            dropped += pool.TrimTo(PoolKept);
        }
        OnTrim();
        if (Buffers.FreeBytes > BuffersKept)
        {
            Buffers.Trim();
        }
        Trimmed?.Invoke(dropped);
    }
}
