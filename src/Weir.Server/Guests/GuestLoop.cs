// What the guests of one loop share: the application, where its handlers run, the counters, and which guest has the
// loop's thread right now (the watchdog reads that from its own thread). Otherwise the loop's thread.
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Server;

/// <summary>Where handlers of a loop run.</summary>
internal enum GuestPlace : byte
{
    Inline,
    Threads,
    TaskPool,
}

/// <summary>The guests of one loop.</summary>
internal sealed class GuestLoop
{
    private readonly Queue<LoopExchange> _waiting = new();
    private LoopExchange? _inside;
    private bool _paused;

    internal required EventLoop Loop { get; init; }
    internal required int Index { get; init; }
    internal required int LoopCount { get; init; }
    internal required GuestApplication Application { get; init; }
    internal required GuestPlace Place { get; init; }
    internal required AppCounters Counters { get; init; }
    internal required int HandlerTimeoutMs { get; init; }
    internal required QueueFull QueueFull { get; init; }
    internal required byte[] RetryAfter { get; init; }
    internal required byte[] LateAnswer { get; init; }

    /// <summary>What may be on its way to a client before its guest has to wait.</summary>
    internal long UnsentBytesMax { get; init; } = 64 * 1024;

    /// <summary>The Server field of answers; null leaves the configuration's, empty has none.</summary>
    internal required byte[]? ServerName { get; init; }

    /// <summary>The threads of <see cref="GuestPlace.Threads"/>.</summary>
    internal HandlerPool? Pool { get; init; }

    /// <summary>Where listeners are held back while the pool has no room.</summary>
    internal HttpServer? Http { get; set; }

    /// <summary>The loop serves nothing but this application: no configuration has a say in its answers, so a guest
    /// may send a small one itself.</summary>
    internal bool OwnsLoop { get; init; }

    /// <summary>Whether somebody measures when a request ended, so that its end may not wait to be noticed.</summary>
    internal Func<bool> IsTimed { get; init; } = static () => true;

    /// <summary>Server and Date, for answers that guests send themselves.</summary>
    internal HeadStart HeadStart => HeadStart.Now(ref _headStart, ServerName);

    private HeadStart? _headStart;

    internal bool IsInline => Place == GuestPlace.Inline;

    /// <summary>The guest whose code runs on the loop's thread, or null.</summary>
    internal LoopExchange? Inside => Volatile.Read(ref _inside);

    internal LoopExchange? Enter(LoopExchange exchange)
    {
        LoopExchange? before = _inside;
        Volatile.Write(ref _inside, exchange);
        return before;
    }

    internal void Leave(LoopExchange? before) => Volatile.Write(ref _inside, before);

    // Exchanges that guests have, for a stop that has no more patience.
    private LoopExchange? _first;

    /// <summary>Handlers that were called, or wait to be, and have not come back: answered for or not, what they await
    /// goes on here, and the memory they write into is this loop's.</summary>
    internal int Out { get; private set; }

    /// <summary>Called when none is out any more.</summary>
    internal Action? AllBack { get; set; }

    internal void WentOut() => Out++;

    internal void CameBack()
    {
        Out--;
        if (Out == 0)
        {
            AllBack?.Invoke();
        }
    }

    internal void Add(LoopExchange exchange)
    {
        exchange.Next = _first;
        exchange.Previous = null;
        if (_first is not null)
        {
            _first.Previous = exchange;
        }
        _first = exchange;
    }

    internal void Remove(LoopExchange exchange)
    {
        if (exchange.Previous is null)
        {
            _first = exchange.Next;
        }
        else
        {
            exchange.Previous.Next = exchange.Next;
        }
        if (exchange.Next is not null)
        {
            exchange.Next.Previous = exchange.Previous;
        }
        exchange.Next = null;
        exchange.Previous = null;
    }

    /// <summary>Tells every guest that nobody waits for it any more.</summary>
    internal void AbortAll()
    {
        for (LoopExchange? x = _first; x is not null; x = x.Next)
        {
            x.HurryUp();
        }
    }

    /// <summary>Takes every request back, unanswered; guests go on alone. False while one of them is giving its answer
    /// to the kernel: that one ends by itself.</summary>
    internal bool CutOffAll()
    {
        var guests = new List<LoopExchange>();
        for (LoopExchange? x = _first; x is not null; x = x.Next)
        {
            guests.Add(x);
        }
        bool all = true;
        foreach (LoopExchange guest in guests)
        {
            all &= guest.CutOff();
        }
        while (_waiting.TryDequeue(out LoopExchange? waits))
        {
            Counters.Queue(-1);
            waits.NeverRan();
        }
        return all;
    }

    internal long ConnectionNumber(Connection connection) => connection.Number * LoopCount + Index;

    internal void Tell(AppServerEventKind kind, HttpRequest r, int status = 0)
    {
        if (Counters.Observer is not null)
        {
            Counters.Tell(kind, ConnectionNumber(r.Connection), r.ConnectionRequests, Index, status);
        }
    }

    internal void Complain(HttpRequest r, string what) => r.LogError(LogLevel.Error, what);

    internal void Complain(Exception e) =>
        Http?.Log.Write(LogLevel.Error, $"a handler failed outside of its task: {e}");

    /// <summary>Gives the exchange to a thread, or lets it wait in order. False: there is no room.</summary>
    internal bool Schedule(LoopExchange exchange)
    {
        if (Place == GuestPlace.TaskPool)
        {
            if (OwnsLoop)
            {
                // Those of a turn go together at its end: a thread that is woken early only takes the processor away.
                _turn.Add(exchange);
                return true;
            }
            ThreadPool.UnsafeQueueUserWorkItem(exchange, preferLocal: false);
            return true;
        }
        if (_waiting.Count == 0 && Pool!.TryAdd(exchange))
        {
            return true;
        }
        if (QueueFull == QueueFull.Refuse)
        {
            return false;
        }
        _waiting.Enqueue(exchange);
        Counters.Queue(1);
        PauseListening(true);
        Pool!.WantRoom(_roomAgain ??= () => Loop.Post(RoomAgain));
        return true;
    }

    private readonly List<LoopExchange> _turn = [];

    /// <summary>At the end of a turn.</summary>
    internal void HandOver()
    {
        foreach (LoopExchange exchange in _turn)
        {
            ThreadPool.UnsafeQueueUserWorkItem(exchange, preferLocal: false);
        }
        if (_turn.Count > 0)
        {
            _turn.Clear();
            if (Environment.ProcessorCount == 1)
            {
                // Handlers and loop share the processor: what they answer in a row brings the loop many events at once,
                // while a loop that went to sleep now would be woken by each and take the processor back.
                Thread.Yield();
            }
        }
    }

    private Action? _roomAgain;

    private void RoomAgain()
    {
        while (_waiting.TryPeek(out LoopExchange? first))
        {
            if (first.IsAbandoned)
            {
                _waiting.Dequeue();
                Counters.Queue(-1);
                first.NeverRan();
                continue;
            }
            if (!Pool!.TryAdd(first))
            {
                Pool.WantRoom(_roomAgain!);
                return;
            }
            _waiting.Dequeue();
            Counters.Queue(-1);
        }
        PauseListening(false);
    }

    private void PauseListening(bool pause)
    {
        if (_paused == pause || Http is null)
        {
            return;
        }
        _paused = pause;
        Http.HoldListeners(pause);
    }
}

/// <summary>Hands the requests of a location to guests.</summary>
internal sealed class GuestHandler(GuestLoop guests) : PhaseHandler
{
    private static readonly RequestSlot<GuestState> s_slot = new();

    internal GuestLoop Guests => guests;

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        guests.Tell(AppServerEventKind.Received, r);
        r.Body.KeepsTrailers = true;
        if (guests.Application.WantsWholeBody && guests.IsInline && r.Body.IsExpected && !r.Body.IsCollected)
        {
            return CollectAsync(r);
        }
        return Run(r);
    }

    private LoopTask<PhaseResult> Run(HttpRequest r)
    {
        // What was answered before leaves before a guest may hold the thread.
        if (!r.Stream.Flush(r))
        {
            r.Abort(AbortReason.ClientGone);
            return PhaseResult.Done;
        }
        if (guests.IsInline && r.IsPipelined)
        {
            r.Stream.SendHolding(r, long.MaxValue);
            guests.Loop.SubmitNow();
        }
        GuestState state = r.Rent(s_slot);
        if (state.Exchange is null || state.Exchange.Guests != guests)
        {
            state.Exchange = new LoopExchange(guests);
        }
        return state.Exchange.Run(r);
    }

    private async LoopTask<PhaseResult> CollectAsync(HttpRequest r)
    {
        int status = await r.Body.CollectAsync();
        return status != 0 ? PhaseResult.Answer(status) : await Run(r);
    }
}

/// <summary>The exchange of one request, kept with the request's other states.</summary>
internal sealed class GuestState : RequestState
{
    internal LoopExchange? Exchange;

    protected override void Reset()
    {
        if (Exchange is { IsAbandoned: true })
        {
            // The guest has it, for good.
            Exchange = null;
        }
    }
}
