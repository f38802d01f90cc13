// What a guest awaits at the border: a reusable source of ValueTask<int>. Started by the guest, completed by the loop;
// where guests live on other threads the continuation never runs on the loop.
using System.Threading.Tasks.Sources;

namespace Weir.Server;

internal sealed class GuestWait : IValueTaskSource<int>, IValueTaskSource<bool>
{
    private ManualResetValueTaskSourceCore<int> _core;

    internal bool IsPending { get; private set; }

    /// <summary>On the guest's side, before the loop hears of it.</summary>
    internal void Begin(bool continueElsewhere)
    {
        if (IsPending)
        {
            throw new InvalidOperationException("one operation of this kind is under way already");
        }
        _core.Reset();
        _core.RunContinuationsAsynchronously = continueElsewhere;
        IsPending = true;
    }

    internal ValueTask<int> Number => new(this, _core.Version);

    internal ValueTask<bool> Truth => new(this, _core.Version);

    internal void Set(int result)
    {
        if (IsPending)
        {
            IsPending = false;
            _core.SetResult(result);
        }
    }

    internal void Fail(Exception e)
    {
        if (IsPending)
        {
            IsPending = false;
            _core.SetException(e);
        }
    }

    int IValueTaskSource<int>.GetResult(short token) => _core.GetResult(token);

    bool IValueTaskSource<bool>.GetResult(short token) => _core.GetResult(token) != 0;

    ValueTaskSourceStatus IValueTaskSource<int>.GetStatus(short token) => _core.GetStatus(token);

    ValueTaskSourceStatus IValueTaskSource<bool>.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource<int>.OnCompleted(Action<object?> continuation, object? state, short token,
        ValueTaskSourceOnCompletedFlags flags) => _core.OnCompleted(continuation, state, token, flags);

    void IValueTaskSource<bool>.OnCompleted(Action<object?> continuation, object? state, short token,
        ValueTaskSourceOnCompletedFlags flags) => _core.OnCompleted(continuation, state, token, flags);
}
