// The requests of a loop's turns on their way to the thread pool: one work item asks for a thread, and whoever comes
// takes one request after the other. A hundred work items would ask for a hundred threads, which then look for work in
// vain. The loop's thread adds; threads of the pool take.
using System.Collections.Concurrent;
using Weir.Loop;

namespace Weir.Server;

internal sealed class TurnRunner : IThreadPoolWorkItem
{
    /// <summary>What one thread takes before other work of the pool has its turn.</summary>
    private const int InARowMax = 64;

    /// <summary>How long a request may wait behind a handler that holds the only thread.</summary>
    private const int StuckMs = 2;

    // Handlers and loop share the processor.
    private readonly bool _isAlone;

    private readonly EventLoop _loop;
    private readonly ConcurrentQueue<IThreadPoolWorkItem> _queue = new();
    private readonly StuckTimer _stuck;
    private int _asked;

    internal TurnRunner(EventLoop loop, bool isAlone)
    {
        _loop = loop;
        _isAlone = isAlone;
        _stuck = new StuckTimer(this);
    }

    internal void Add(IThreadPoolWorkItem request) => _queue.Enqueue(request);

    /// <summary>At the end of a turn that added something.</summary>
    internal void Start()
    {
        Ask();
        if (_isAlone)
        {
            // What they answer in a row brings the loop many events at once, while a loop that went to sleep now would
            // be woken by each and take the processor back.
            Thread.Yield();
            LookIfStuck();
        }
    }

    /// <summary>One thread that has not come yet is enough: it asks for the next when it leaves something.</summary>
    private void Ask()
    {
        if (Interlocked.Exchange(ref _asked, 1) == 0)
        {
            ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
        }
    }

    void IThreadPoolWorkItem.Execute()
    {
        Interlocked.Exchange(ref _asked, 0);
        for (int i = 0; i < InARowMax; i++)
        {
            if (!_queue.TryDequeue(out IThreadPoolWorkItem? request))
            {
                return;
            }
            // A second thread on the same processor would only take turns with this one; the loop looks whether it is
            // held.
            if (!_isAlone && !_queue.IsEmpty)
            {
                Ask();
            }
            request.Execute();
        }
        if (!_queue.IsEmpty)
        {
            Ask();
        }
    }

    private void LookIfStuck()
    {
        if (!_queue.IsEmpty)
        {
            Ask();
            _loop.Timers.Set(_stuck, _loop.NowMs + StuckMs);
        }
    }

    private sealed class StuckTimer(TurnRunner runner) : LoopTimer
    {
        protected override void Fire() => runner.LookIfStuck();
    }
}
