// What may block (a cold file, a spill file, a lookup in libc) runs on a few threads of its own, bounded in number and
// in queue length, and its result comes back through the loop's mailbox. Threads start with the first piece of work.
using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;

namespace Weir.Loop;

/// <summary>A piece of work that may block, and the wait for it. Reused by its owner.</summary>
public abstract class BlockingOperation : LoopOperation<Unit>
{
    internal readonly Action Deliver;

    protected BlockingOperation() => Deliver = () => SetResult(default);

    internal EventLoop? Loop;
    internal ExceptionDispatchInfo? WorkFault;

    internal override Unit TakeResult()
    {
        ExceptionDispatchInfo? fault = WorkFault;
        WorkFault = null;
        base.TakeResult();
        fault?.Throw();
        return default;
    }

    /// <summary>Runs the work; what it throws reaches whoever awaits the operation.</summary>
    internal void RunWork()
    {
        try
        {
            Work();
        }
        catch (Exception e)
        {
            WorkFault = ExceptionDispatchInfo.Capture(e);
        }
    }

    /// <summary>Runs on a thread of the pool. Touches nothing of the loop; leaves its result in fields.</summary>
    protected internal abstract void Work();
}

/// <summary>The blocking threads of one loop.</summary>
public sealed class BlockingWork(EventLoop loop)
{
    private readonly BlockingCollection<BlockingOperation> _queue = new(65536);
    private int _threads;

    // Pieces queued or running. Compared with the threads, not with the threads seen waiting: between a thread's taking
    // a piece and its saying so, a second piece would count on a thread that is about to be busy.
    private int _unfinished;

    /// <summary>Threads at most (nginx's thread_pool default is 32); 0 runs all work at once on the loop.</summary>
    public int ThreadsMax { get; set; } = 32;

    public int ThreadCount => Volatile.Read(ref _threads);

    /// <summary>Queues the work and waits for it without blocking the loop. When the queue is full it runs at once,
    /// on the loop: slower is better than failing.</summary>
    public LoopTask<Unit> RunAsync(BlockingOperation operation)
    {
        operation.Loop = loop;
        LoopTask<Unit> task = operation.Begin();
        if (loop.TakesWork(operation))
        {
            return task;
        }
        int unfinished = Interlocked.Increment(ref _unfinished);
        if (ThreadsMax == 0 || !_queue.TryAdd(operation))
        {
            operation.RunWork();
            Interlocked.Decrement(ref _unfinished);
            operation.SetResult(default);
            return task;
        }
        // One idle thread must not become the queue of a whole burst.
        if (unfinished > _threads && _threads < ThreadsMax)
        {
            _threads++;
            new Thread(RunThread, 256 * 1024) { IsBackground = true, Name = "weir-blocking" }.Start();
        }
        return task;
    }

    private void RunThread()
    {
        while (true)
        {
            BlockingOperation operation = _queue.Take();
            operation.RunWork();
            Interlocked.Decrement(ref _unfinished);
            operation.Loop!.Post(operation.Deliver);
        }
    }
}
