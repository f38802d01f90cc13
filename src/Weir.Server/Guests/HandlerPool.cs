// A fixed number of threads that run handlers for the loops, and the bounded queue before them. A handler holds its
// thread until its task is complete. Any thread adds; the pool's own threads take.
using Weir.Kernel;

namespace Weir.Server;

internal sealed class HandlerPool
{
    private readonly Queue<LoopExchange> _queue = new();
    private readonly object _gate = new();
    private readonly List<Action> _wantRoom = [];
    private readonly Thread[] _threads;
    private readonly int _queueMax;
    private readonly AppCounters _counters;
    private int _idle;
    private bool _stopped;
    private bool _measured;

    internal HandlerPool(int threads, int queueMax, AppCounters counters)
    {
        _queueMax = queueMax;
        _counters = counters;
        _threads = new Thread[threads];
        // All of them count as idle from the start: work that comes before they wait is theirs.
        _idle = threads;
        for (int i = 0; i < threads; i++)
        {
            _threads[i] = new Thread(Run) { IsBackground = true, Name = "weir-handler" };
        }
    }

    internal void Start()
    {
        foreach (Thread thread in _threads)
        {
            _counters.Thread(1);
            thread.Start();
        }
    }

    /// <summary>Says what a thread costs, once it is known.</summary>
    internal Action<ThreadStack>? Measured { get; set; }

    /// <summary>False when all threads are busy and the queue is full.</summary>
    internal bool TryAdd(LoopExchange exchange)
    {
        lock (_gate)
        {
            if (_stopped || _queue.Count >= _queueMax + _idle)
            {
                return false;
            }
            _counters.Queue(1);
            exchange.WasQueued();
            _queue.Enqueue(exchange);
            Monitor.Pulse(_gate);
        }
        return true;
    }

    /// <summary>Calls <paramref name="again"/> once when a thread has taken something.</summary>
    internal void WantRoom(Action again)
    {
        lock (_gate)
        {
            if (_queue.Count >= _queueMax + _idle)
            {
                _wantRoom.Add(again);
                return;
            }
        }
        again();
    }

    internal void Stop()
    {
        lock (_gate)
        {
            _stopped = true;
            Monitor.PulseAll(_gate);
        }
    }

    private void Run()
    {
        while (true)
        {
            LoopExchange exchange;
            Action[] again = [];
            lock (_gate)
            {
                while (_queue.Count == 0 && !_stopped)
                {
                    Monitor.Wait(_gate);
                }
                if (!_queue.TryDequeue(out exchange!))
                {
                    break;
                }
                _idle--;
                if (_wantRoom.Count > 0)
                {
                    again = [.. _wantRoom];
                    _wantRoom.Clear();
                }
            }
            foreach (Action call in again)
            {
                call();
            }
            _counters.Queue(-1);
            exchange.RunHere();
            if (!_measured)
            {
                _measured = true;
                ThreadStack stack = ThreadStack.OfThisThread();
                _counters.Measured(stack);
                Measured?.Invoke(stack);
            }
            lock (_gate)
            {
                _idle++;
                if (_wantRoom.Count > 0)
                {
                    again = [.. _wantRoom];
                    _wantRoom.Clear();
                }
                else
                {
                    again = [];
                }
            }
            foreach (Action call in again)
            {
                call();
            }
        }
        _counters.Thread(-1);
    }
}
