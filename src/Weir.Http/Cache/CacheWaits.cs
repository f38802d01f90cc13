// Requests that wait until somebody else has fetched what they want. One object per key and loop, however many wait:
// it is woken when a fetch of this loop ends, and looks into the index now and then for fetches of other workers. One
// loop's thread.
using Weir.Loop;

namespace Weir.Http.Cache;

/// <summary>Who waits for which key.</summary>
internal sealed class CacheWaits(EventLoop loop)
{
    private const int LookMsMin = 5, LookMsMax = 100;

    private readonly Dictionary<(CacheIndex, CacheKey), KeyWait> _keys = [];
    private readonly Dictionary<(CacheIndex, CacheKey), int> _writing = [];
    private KeyWait? _freeKey;
    private Waiter? _freeWaiter;

    /// <summary>An answer is complete and on its way to the disk: who wants it need not ask again.</summary>
    internal void BeginWriting(CacheIndex index, CacheKey key) =>
        _writing[(index, key)] = _writing.GetValueOrDefault((index, key)) + 1;

    internal void EndWriting(CacheIndex index, CacheKey key)
    {
        int left = _writing.GetValueOrDefault((index, key)) - 1;
        if (left > 0)
        {
            _writing[(index, key)] = left;
        }
        else
        {
            _writing.Remove((index, key));
        }
    }

    internal bool IsWriting(CacheIndex index, CacheKey key) => _writing.ContainsKey((index, key));

    /// <summary>Waits until the fetch of a key has ended, or <paramref name="timeoutMs"/> are over. True when it has
    /// ended.</summary>
    internal async LoopTask<bool> WaitAsync(CacheIndex index, CacheKey key, long timeoutMs)
    {
        if (!_keys.TryGetValue((index, key), out KeyWait? wait))
        {
            wait = _freeKey ?? new KeyWait(this);
            _freeKey = wait.NextFree;
            wait.Start(index, key);
            _keys.Add((index, key), wait);
        }
        Waiter waiter = _freeWaiter ?? new Waiter();
        _freeWaiter = waiter.Next;
        waiter.UntilMs = loop.NowMs + timeoutMs;
        LoopTask<bool> task = waiter.Begin();
        wait.Add(waiter);
        bool ended = await task;
        waiter.Next = _freeWaiter;
        _freeWaiter = waiter;
        return ended;
    }

    /// <summary>A fetch of this loop has ended.</summary>
    internal void Wake(CacheIndex index, CacheKey key)
    {
        if (_keys.TryGetValue((index, key), out KeyWait? wait))
        {
            wait.Look();
        }
    }

    private sealed class Waiter : LoopOperation<bool>
    {
        internal Waiter? Next;
        internal long UntilMs;
    }

    /// <summary>All that wait for one key.</summary>
    private sealed class KeyWait
    {
        private readonly CacheWaits _owner;
        private readonly CallbackTimer _timer;
        private readonly List<Waiter> _waiters = [];
        private readonly List<Waiter> _woken = [];
        private CacheIndex _index = null!;
        private CacheKey _key;
        private int _lookMs;
        internal KeyWait? NextFree;

        internal KeyWait(CacheWaits owner)
        {
            _owner = owner;
            _timer = new CallbackTimer(Look);
        }

        internal void Start(CacheIndex index, CacheKey key)
        {
            _index = index;
            _key = key;
            _lookMs = LookMsMin;
        }

        internal void Add(Waiter waiter)
        {
            _waiters.Add(waiter);
            if (!_timer.IsSet)
            {
                _owner.SetTimer(_timer, _lookMs);
            }
        }

        internal void Look()
        {
            bool ended = !_owner.IsWriting(_index, _key) && !_index.IsFetched(_key, _owner.NowMs);
            long nowMs = _owner.NowMs;
            for (int i = _waiters.Count - 1; i >= 0; i--)
            {
                if (ended || nowMs >= _waiters[i].UntilMs)
                {
                    _woken.Add(_waiters[i]);
                    _waiters[i] = _waiters[^1];
                    _waiters.RemoveAt(_waiters.Count - 1);
                }
            }
            bool done = _waiters.Count == 0;
            if (done)
            {
                _owner.CancelTimer(_timer);
                _owner._keys.Remove((_index, _key));
            }
            else
            {
                _lookMs = Math.Min(_lookMs * 2, LookMsMax);
                _owner.SetTimer(_timer, _lookMs);
            }
            // One that goes on may end another's wait from inside of here.
            while (_woken.Count > 0)
            {
                Waiter waiter = _woken[^1];
                _woken.RemoveAt(_woken.Count - 1);
                waiter.SetResult(ended);
            }
            if (done)
            {
                NextFree = _owner._freeKey;
                _owner._freeKey = this;
            }
        }
    }

    private void SetTimer(CallbackTimer timer, int afterMs) => loop.Timers.Set(timer, loop.NowMs + afterMs);

    private void CancelTimer(CallbackTimer timer) => loop.Timers.Cancel(timer);

    private long NowMs => loop.NowMs;
}
