// The task type of a loop: LoopTask and LoopTask<T>, resumed inline on the loop's own thread.
// A method that finishes without suspending allocates nothing; one that suspends rents its box from a free list of
// its thread, so a warm loop allocates nothing however many requests are suspended at once. A task is awaited exactly
// once (or given to Forget). Nothing here captures an ExecutionContext: guests are called through a plain async Task.
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;

namespace Weir.Loop;

/// <summary>What an awaiting method waits for: something that completes once and then resumes whoever waits.</summary>
public abstract class LoopSource
{
    internal LoopSource? Continuation;

    /// <summary>Whether the result can be taken.</summary>
    public bool IsCompleted { get; protected set; }

    /// <summary>Continues the method in this box. Only boxes implement it.</summary>
    internal virtual void Resume() => throw new InvalidOperationException("not a method's box");

    /// <summary>Marks the result as there and continues the waiting method, before this call returns.</summary>
    protected void Complete()
    {
        IsCompleted = true;
        LoopSource? waiting = Continuation;
        if (waiting is not null)
        {
            Continuation = null;
            waiting.Resume();
        }
    }

    protected void Reset()
    {
        IsCompleted = false;
        Continuation = null;
    }
}

/// <summary>A <see cref="LoopSource"/> with a result, which is taken exactly once.</summary>
public abstract class LoopSource<T> : LoopSource
{
    /// <summary>Gives the result away and makes the source free for its next use.</summary>
    internal abstract T TakeResult();
}

/// <summary>The result type of a <see cref="LoopTask"/>.</summary>
public readonly struct Unit;

[AsyncMethodBuilder(typeof(LoopTaskMethodBuilder<>))]
public readonly struct LoopTask<T>
{
    private readonly LoopSource<T>? _source;
    private readonly T _result;

    public LoopTask(T result)
    {
        _source = null;
        _result = result;
    }

    public LoopTask(LoopSource<T> source)
    {
        _source = source;
        _result = default!;
    }

    /// <summary>True when the result is already there, without a suspension.</summary>
    public bool IsCompleted => _source is null || _source.IsCompleted;

    /// <summary>The result of a completed task; takes it.</summary>
    public T Result => _source is null ? _result : _source.TakeResult();

    public Awaiter GetAwaiter() => new(_source, _result);

    /// <summary>Lets the method run to its end with nobody waiting; an exception goes to the loop's fault
    /// handler.</summary>
    public void Forget()
    {
        if (_source is not null)
        {
            Forgotten<T>.Watch(_source);
        }
    }

    public readonly struct Awaiter(LoopSource<T>? source, T result) : ICriticalNotifyCompletion, ILoopAwaiter
    {
        private readonly LoopSource<T>? _source = source;
        private readonly T _result = result;

        public bool IsCompleted
        {
            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            get => _source is null || _source.IsCompleted;
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T GetResult() => _source is null ? _result : _source.TakeResult();

        public void OnCompleted(Action continuation) => UnsafeOnCompleted(continuation);

        public void UnsafeOnCompleted(Action continuation) =>
            _source!.Continuation = new ActionContinuation(continuation);
    }
}

[AsyncMethodBuilder(typeof(LoopTaskMethodBuilder))]
public readonly struct LoopTask
{
    private readonly LoopSource<Unit>? _source;

    public LoopTask(LoopSource<Unit> source) => _source = source;

    public static LoopTask Completed => default;

    public bool IsCompleted => _source is null || _source.IsCompleted;

    public LoopTask<Unit>.Awaiter GetAwaiter() => new(_source, default);

    public void Forget()
    {
        if (_source is not null)
        {
            Forgotten<Unit>.Watch(_source);
        }
    }
}

/// <summary>Marks <see cref="LoopTask{T}.Awaiter"/> for the builder. Whoever implements it begins with its source:
/// references are where the runtime lays a value out first, and a test holds it to that.</summary>
internal interface ILoopAwaiter;

internal sealed class ActionContinuation(Action action) : LoopSource
{
    internal override void Resume() => action();
}

/// <summary>Takes the result that nobody waits for, so that the box goes back to its list.</summary>
internal sealed class Forgotten<T> : LoopSource
{
    [ThreadStatic]
    private static Pool? t_pool;

    private readonly Pool _pool;
    private LoopSource<T>? _source;
    private Forgotten<T>? _next;

    private Forgotten(Pool pool) => _pool = pool;

    private sealed class Pool : SparePool
    {
        internal Forgotten<T>? First;

        protected override void Drop(int kept)
        {
            for (; Count > kept; Count--)
            {
                First = First!._next;
            }
        }
    }

    internal static void Watch(LoopSource<T> source)
    {
        if (source.IsCompleted)
        {
            Take(source);
            return;
        }
        Pool pool = t_pool ??= new Pool();
        Forgotten<T>? watcher = pool.First;
        if (watcher is null)
        {
            watcher = new Forgotten<T>(pool);
        }
        else
        {
            pool.First = watcher._next;
            pool.Count--;
        }
        watcher._source = source;
        source.Continuation = watcher;
    }

    internal override void Resume()
    {
        LoopSource<T> source = _source!;
        _source = null;
        Pool pool = _pool;
        if (pool.Count < SparePool.Max)
        {
            _next = pool.First;
            pool.First = this;
            pool.Count++;
        }
        Take(source);
    }

    private static void Take(LoopSource<T> source)
    {
        try
        {
            source.TakeResult();
        }
        catch (Exception e)
        {
            EventLoop.ReportFault(e);
        }
    }
}

/// <summary>The result side of a suspended method's box; all that the builder needs to know of it.</summary>
internal abstract class LoopMethodBox<T> : LoopSource<T>
{
    protected T Value = default!;
    protected ExceptionDispatchInfo? Fault;

    internal void SetResult(T result)
    {
        Value = result;
        Complete();
    }

    internal void SetFault(Exception fault)
    {
        Fault = ExceptionDispatchInfo.Capture(fault);
        Complete();
    }
}

/// <summary>The box of a suspended async method: its state machine, its result, and a place in the free list.</summary>
internal sealed class LoopBox<TStateMachine, T> : LoopMethodBox<T> where TStateMachine : IAsyncStateMachine
{
    [ThreadStatic]
    private static Pool? t_pool;

    internal TStateMachine Machine = default!;
    private readonly Pool _pool;
    private LoopBox<TStateMachine, T>? _next;

    private LoopBox(Pool pool) => _pool = pool;

    private sealed class Pool : SparePool
    {
        internal LoopBox<TStateMachine, T>? First;

        protected override void Drop(int kept)
        {
            for (; Count > kept; Count--)
            {
                First = First!._next;
            }
        }
    }

    internal static LoopBox<TStateMachine, T> Rent()
    {
        Pool pool = t_pool ??= new Pool();
        LoopBox<TStateMachine, T>? box = pool.First;
        if (box is null)
        {
            return new LoopBox<TStateMachine, T>(pool);
        }
        pool.First = box._next;
        pool.Count--;
        return box;
    }

    internal override void Resume() => Machine.MoveNext();

    internal override T TakeResult()
    {
        T result = Value;
        ExceptionDispatchInfo? fault = Fault;
        Value = default!;
        Fault = null;
        Machine = default!;
        Reset();
        Pool pool = _pool;
        if (pool.Count < SparePool.Max)
        {
            _next = pool.First;
            pool.First = this;
            pool.Count++;
        }
        fault?.Throw();
        return result;
    }
}

/// <summary>A method that threw before it ever suspended.</summary>
internal sealed class FaultedBox<T> : LoopMethodBox<T>
{
    internal override T TakeResult()
    {
        Fault!.Throw();
        return Value;
    }
}

/// <summary>The compiler's side of <see cref="LoopTask{T}"/>.</summary>
public struct LoopTaskMethodBuilder<T>
{
    private LoopMethodBox<T>? _box;
    private T _result;

    public static LoopTaskMethodBuilder<T> Create() => default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Start<TStateMachine>(ref TStateMachine machine) where TStateMachine : IAsyncStateMachine =>
        machine.MoveNext();

    public void SetStateMachine(IAsyncStateMachine machine)
    {
    }

    public LoopTask<T> Task => _box is null ? new LoopTask<T>(_result) : new LoopTask<T>(_box);

    internal LoopSource<T>? Source => _box;

    public void SetResult(T result)
    {
        if (_box is null)
        {
            _result = result;
        }
        else
        {
            _box.SetResult(result);
        }
    }

    public void SetException(Exception fault)
    {
        _box ??= new FaultedBox<T>();
        _box.SetFault(fault);
    }

    public void AwaitOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine machine)
        where TAwaiter : INotifyCompletion where TStateMachine : IAsyncStateMachine =>
        awaiter.OnCompleted(Box(ref machine).Resume);

    public void AwaitUnsafeOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine machine)
        where TAwaiter : ICriticalNotifyCompletion where TStateMachine : IAsyncStateMachine
    {
        if (default(TAwaiter) is not null && awaiter is ILoopAwaiter)
        {
            // Read before the machine moves into its box: the awaiter lives inside it. A call through an interface
            // would box the awaiter: always in code that the JIT has not optimized, and for some results in the rest.
            LoopSource source = Unsafe.As<TAwaiter, LoopSource>(ref awaiter);
            source.Continuation = Box(ref machine);
            return;
        }
        awaiter.UnsafeOnCompleted(Box(ref machine).Resume);
    }

    private LoopBox<TStateMachine, T> Box<TStateMachine>(ref TStateMachine machine)
        where TStateMachine : IAsyncStateMachine
    {
        if (_box is not null)
        {
            return Unsafe.As<LoopBox<TStateMachine, T>>(_box);
        }
        var box = LoopBox<TStateMachine, T>.Rent();
        _box = box;
        box.Machine = machine;
        return box;
    }
}

/// <summary>The compiler's side of <see cref="LoopTask"/>.</summary>
public struct LoopTaskMethodBuilder
{
    private LoopTaskMethodBuilder<Unit> _inner;

    public static LoopTaskMethodBuilder Create() => default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Start<TStateMachine>(ref TStateMachine machine) where TStateMachine : IAsyncStateMachine =>
        machine.MoveNext();

    public void SetStateMachine(IAsyncStateMachine machine)
    {
    }

    public LoopTask Task
    {
        get
        {
            LoopSource<Unit>? source = _inner.Source;
            return source is null ? default : new LoopTask(source);
        }
    }

    public void SetResult() => _inner.SetResult(default);

    public void SetException(Exception fault) => _inner.SetException(fault);

    public void AwaitOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine machine)
        where TAwaiter : INotifyCompletion where TStateMachine : IAsyncStateMachine =>
        _inner.AwaitOnCompleted(ref awaiter, ref machine);

    public void AwaitUnsafeOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine machine)
        where TAwaiter : ICriticalNotifyCompletion where TStateMachine : IAsyncStateMachine =>
        _inner.AwaitUnsafeOnCompleted(ref awaiter, ref machine);
}
