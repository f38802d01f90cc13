// An exchange whose connection lives on a loop. Each flush, read and end is one message to the loop's mailbox (one wake
// per turn, however many come); on the loop's own thread the same work is done at once, without messages. The fields
// are the guest's while it runs, the answer's buffers are slabs lent by the loop. The loop keeps the watch: the peer,
// and the deadline. Time up: the loop takes the request back, answers for it, and leaves this object to its guest.
using System.Runtime.ExceptionServices;
using Weir.Http;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Server;

internal sealed partial class LoopExchange : GuestExchange, IPeerWatcher, IThreadPoolWorkItem
{
    private const int FirstSlabBytes = 4096;

    // Who may answer: the guest (Owned, then Begun), the watch (Abandoned), nobody any more (Over). Sending, Sent: the
    // guest's own thread gives the answer to the kernel, or has.
    private const int Owned = 0, Begun = 1, Abandoned = 2, Over = 3, Sending = 4, Sent = 5;

    // The handler's first step, until it first awaits: a flush in it waits for the step's end, because most handlers
    // are done by then and their answer leaves whole. A second flush, or one that holds its thread, makes it leave.
    private const int FirstStep = 0, FirstStepFlushed = 1, LaterStep = 2;
    private const int LullMs = 50;

    // Whether the handler was called; a time that is up before that calls it off.
    private const int Running = 1, CalledOff = 2;

    private readonly EventLoop _loop;
    private readonly LoopOperation<PhaseResult> _finished = new();
    private readonly GuestWait _flushWait = new();
    private readonly GuestWait _readWait = new();
    private readonly Deadline _deadline;
    private readonly GuestContext _context;
    private readonly Action _flushMessage, _readMessage, _endMessage, _abortMessage, _lateMessage, _completeMessage;
    private readonly object _outside = new();
    private readonly List<WrittenPart> _parts = [];
    private readonly Lock _partsGate = new();
    private readonly LullTimer _lull;
    private HttpRequest? _r;
    private BufferSlab? _slab;
    private int _used;
    private int _taken;
    private int _step;
    private int _state = Over;
    private int _run;
    private bool _begun;
    private bool _upgraded;
    private bool _draining;
    private bool _reading;
    private bool _ending;
    private PhaseResult _result;
    private ExceptionDispatchInfo? _failure;
    private long _dueMs;

    internal LoopExchange(GuestLoop guests)
    {
        Guests = guests;
        _loop = guests.Loop;
        _deadline = new Deadline(this);
        _context = new GuestContext(this);
        _flushMessage = ProcessFlush;
        _readMessage = ProcessRead;
        _endMessage = ProcessEnd;
        _abortMessage = ProcessAbort;
        _lateMessage = ProcessLateFlush;
        _completeMessage = ProcessComplete;
        _lull = new LullTimer(this);
    }

    internal GuestLoop Guests { get; }

    internal EventLoop Loop => _loop;

    // The guests of its loop.
    internal LoopExchange? Next;
    internal LoopExchange? Previous;

    internal void HurryUp() => SignalAborted();

    public override bool IsAbandoned => Volatile.Read(ref _state) == Abandoned;

    // The loop's side: beginning.

    internal LoopTask<PhaseResult> Run(HttpRequest r)
    {
        _r = r;
        Guests.Add(this);
        BeginExchange(r.HandlerHeadBytes.Span, r.HandlerHead, r.Version, r.Uri.Span, r.Args.Span, r.RemoteAddress,
            r.Connection.LocalAddress);
        _hasTrailers = false;
        if (r.Body.IsCollected)
        {
            TakeTrailers(r);
        }
        if (r.Tls is { } tls)
        {
            Security = ConnectionSecurity.Of(tls.Session);
        }
        ConnectionNumber = Guests.ConnectionNumber(r.Connection);
        RequestNumber = r.ConnectionRequests;
        Volatile.Write(ref _run, 0);
        _begun = false;
        _answeredOutside = false;
        _hasPiece = false;
        _bodyEnded = false;
        _draining = false;
        _reading = false;
        _ending = false;
        _failure = null;
        _collected = null;
        _used = 0;
        _taken = 0;
        _completed = false;
        _directBytes = 0;
        _lendsSending = false;
        Volatile.Write(ref _step, FirstStep);
        Volatile.Write(ref _state, Owned);
        r.Stream.Watcher = this;
        if (r.Stream.IsClientGone)
        {
            SignalAborted();
        }
        _dueMs = 0;
        if (Guests.HandlerTimeoutMs > 0)
        {
            _dueMs = _loop.NowMs + Guests.HandlerTimeoutMs;
            _loop.Timers.Set(_deadline, _dueMs);
        }
        LoopTask<PhaseResult> task = _finished.Begin();
        if (Guests.IsInline)
        {
            Guests.WentOut();
            BeginRun();
            LoopExchange? before = Guests.Enter(this);
            _ = InvokeAsync();
            Guests.Leave(before);
        }
        else
        {
            Guests.WentOut();
            _slab = _loop.Buffers.Rent(FirstSlabBytes);
            if (Guests.OwnsLoop && r.Stream.MayLendSending(r))
            {
                _lendsSending = true;
                _used = _taken = DirectAnswer.HeadBytesMax;
            }
            _loop.Buffers.Stock(4);
            _loop.Timers.Set(_lull, _loop.NowMs + LullMs);
            if (!Guests.Schedule(this))
            {
                Refuse();
            }
        }
        return task;
    }

    private void Refuse()
    {
        HttpRequest r = _r!;
        Guests.Counters.Refuse();
        Guests.Tell(AppServerEventKind.Refused, r, 503);
        Volatile.Write(ref _state, Over);
        ReleaseSlabs();
        Finish(AnswerLater(r));
        Guests.CameBack();
    }

    private bool BeginsUpgrade()
    {
        if (Status == 101 && !_upgraded)
        {
            _upgraded = true;
            Guests.Counters.Upgrade(1);
        }
        return Status == 101;
    }

    private void Leave()
    {
        if (_upgraded)
        {
            _upgraded = false;
            Guests.Counters.Upgrade(-1);
        }
        Guests.Remove(this);
    }

    /// <summary>503 with Retry-After: come again.</summary>
    private PhaseResult AnswerLater(HttpRequest r)
    {
        r.Response.Add(NativeSlice.Literal("Retry-After"u8), r.Arena.Store(Guests.RetryAfter),
            KnownResponseHeader.RetryAfter);
        return PhaseResult.Answer(503);
    }

    internal void WasQueued() => Guests.Tell(AppServerEventKind.Queued, _r!);

    // The guest's side: running.

    /// <summary>On a thread of the pool, which the handler holds until it is done.</summary>
    internal void RunHere()
    {
        if (!BeginRun())
        {
            return;
        }
        InvokeAsync().GetAwaiter().GetResult();
    }

    void IThreadPoolWorkItem.Execute()
    {
        if (BeginRun())
        {
            _ = InvokeAsync();
        }
    }

    private bool BeginRun()
    {
        if (Interlocked.CompareExchange(ref _run, Running, 0) != 0)
        {
            // Its time was up while it waited.
            _loop.Post(NeverRan);
            return false;
        }
        Guests.Counters.Run(1);
        Guests.Counters.Tell(AppServerEventKind.Started, ConnectionNumber, RequestNumber, Guests.Index);
        return true;
    }

    internal void NeverRan()
    {
        ReleaseSlabs();
        Guests.CameBack();
    }

    /// <summary>The one way into guest code: an ordinary async method, which restores the execution context and the
    /// synchronization context when it returns, so that nothing of a guest leaks into the next connection.</summary>
    private async Task InvokeAsync()
    {
        try
        {
            if (Guests.IsInline)
            {
                // What the guest awaits continues on the loop.
                SynchronizationContext.SetSynchronizationContext(_context);
            }
            Task task = Guests.Application.RunAsync(this);
            if (!task.IsCompleted)
            {
                EndFirstStep();
            }
            await task;
        }
        catch (Exception e)
        {
            _failure = ExceptionDispatchInfo.Capture(e);
        }
        Guests.Counters.Run(-1);
        if (_loop.IsOnThread)
        {
            ProcessEnd();
        }
        else if (_lendsSending && TryAnswerDirectly())
        {
            // The client knows all; the loop hears of it when the client says something, or at the next lull. Unless it
            // has said something already.
            Connection connection = _r!.Connection;
            _loop.PostQuietly(_endMessage);
            if (connection.MayHaveInput)
            {
                _loop.Knock();
            }
        }
        else
        {
            _loop.Post(_endMessage);
        }
    }

    /// <summary>On the loop the thread is held like any other: whoever writes faster than the client reads and does not
    /// await stalls its loop rather than fill the memory.</summary>
    public override bool Flush()
    {
        Volatile.Write(ref _step, LaterStep);
        if (!_loop.IsOnThread)
        {
            return FlushAsync().AsTask().GetAwaiter().GetResult();
        }
        if (IsAbandoned)
        {
            return false;
        }
        SealHead();
        bool sent = Send(out _);
        if (sent && !_r!.Stream.SendHolding(_r, UnsentBytesMax))
        {
            SignalAborted();
            sent = false;
        }
        _r?.ReleaseCapture();
        _loop.SubmitNow();
        return sent;
    }

    public override ValueTask<int> ReadAsync(Memory<byte> into)
    {
        if (TryTakePiece(into.Span, out int count))
        {
            return new ValueTask<int>(count);
        }
        if (IsAbandoned)
        {
            throw new RequestBodyException(499, "nobody waits for this answer any more");
        }
        if (Volatile.Read(ref _step) == FirstStepFlushed)
        {
            // Who reads on may be waiting for what the client says to what was written: an upgrade, an echo.
            EndFirstStep();
        }
        _readWait.Begin(continueElsewhere: !Guests.IsInline);
        _into = into;
        _lendsSending = false;
        if (_loop.IsOnThread)
        {
            ProcessRead();
        }
        else
        {
            _loop.Post(_readMessage);
        }
        return _readWait.Number;
    }

    public override ValueTask<bool> CompleteAsync()
    {
        if (IsAbandoned || IsShort)
        {
            return FlushAsync();
        }
        SealHead();
        Volatile.Write(ref _step, LaterStep);
        _flushWait.Begin(continueElsewhere: !Guests.IsInline);
        _lendsSending = false;
        if (_loop.IsOnThread)
        {
            ProcessComplete();
        }
        else
        {
            _loop.Post(_completeMessage);
        }
        return _flushWait.Truth;
    }

    public override void CancelRead()
    {
        _lendsSending = false;
        if (_loop.IsOnThread)
        {
            ProcessCancelRead();
        }
        else
        {
            _loop.Post(ProcessCancelRead);
        }
    }

    public override object? ConnectionState
    {
        // Streams of one connection run side by side: each keeps what is its own.
        get => IsShared ? base.ConnectionState : _r?.Connection.Guest;
        set
        {
            if (IsShared)
            {
                base.ConnectionState = value;
                return;
            }
            _r?.Connection.Guest = value;
        }
    }

    private bool IsShared => Version >= 20;

    public override int Read(Span<byte> into)
    {
        EndFirstStep();
        if (TryTakePiece(into, out int count))
        {
            return count;
        }
        if (_loop.IsOnThread)
        {
            return ReadCollected(into);
        }
        byte[] copy = new byte[into.Length];
        int read = ReadAsync(copy).AsTask().GetAwaiter().GetResult();
        copy.AsSpan(0, read).CopyTo(into);
        return read;
    }

    public override void SendInterim(int status, GuestFields fields)
    {
        if (IsAbandoned || HasStarted)
        {
            return;
        }
        if (_loop.IsOnThread)
        {
            ProcessInterim(status, fields);
        }
        else
        {
            _lendsSending = false;
            fields.IsSealed = true;
            _loop.Post(() => ProcessInterim(status, fields));
        }
    }

    public override void Abort()
    {
        _lendsSending = false;
        if (_loop.IsOnThread)
        {
            ProcessAbort();
        }
        else
        {
            _loop.Post(_abortMessage);
        }
    }

    public override void Reset(int errorCode)
    {
        _lendsSending = false;
        if (_loop.IsOnThread)
        {
            ProcessReset((uint)errorCode);
        }
        else
        {
            _loop.Post(() => ProcessReset((uint)errorCode));
        }
    }

    private void SealHead()
    {
        HasStarted = true;
        Fields.IsSealed = true;
    }

    // The watch.

    void IPeerWatcher.PeerGone(Connection connection, bool reset)
    {
        if (_r is { } r && Volatile.Read(ref _state) is (Owned or Begun))
        {
            Guests.Tell(AppServerEventKind.ClientGone, r);
            SignalAborted();
        }
    }

    private sealed class Deadline(LoopExchange exchange) : LoopTimer
    {
        protected override void Fire() => exchange.TimeIsUp();
    }

    /// <summary>On the loop, which is free: the guest is elsewhere, or awaits.</summary>
    private void TimeIsUp()
    {
        int before = Volatile.Read(ref _state);
        if (before is not (Owned or Begun) || Interlocked.CompareExchange(ref _state, Abandoned, before) != before)
        {
            return;
        }
        GiveUp();
        HttpRequest r = _r!;
        PhaseResult result = PhaseResult.Done;
        if (before == Begun)
        {
            r.Abort(AbortReason.Timeout);
        }
        else
        {
            r.KeepAlive = false;
            result = AnswerLater(r);
        }
        Finish(result);
    }

    /// <summary>On the loop: the server stops and waits no longer. False while the guest gives its answer to the
    /// kernel: then its end is on its way.</summary>
    internal bool CutOff()
    {
        int before = Volatile.Read(ref _state);
        if (_r is { } r && before is (Owned or Begun)
            && Interlocked.CompareExchange(ref _state, Abandoned, before) == before)
        {
            if (Interlocked.CompareExchange(ref _run, CalledOff, 0) == Running)
            {
                Guests.Counters.Stick(1);
            }
            SignalAborted();
            r.Abort(AbortReason.Failed);
            Finish(PhaseResult.Done);
        }
        return Volatile.Read(ref _state) is not (Sending or Sent);
    }

    /// <summary>On another thread: the server stops and waits no longer, but the guest holds the loop's
    /// thread.</summary>
    internal void CutOffOutside()
    {
        if (TakeBackOutside(answers: false))
        {
            if (Interlocked.CompareExchange(ref _run, CalledOff, 0) == Running)
            {
                Guests.Counters.Stick(1);
            }
            SignalAborted();
            _loop.Post(CloseAnswered);
        }
    }

    /// <summary>On the watchdog's thread: the guest holds the loop's thread past its time. True when this exchange was
    /// answered for.</summary>
    internal bool TimeIsUpOutside(long nowMs)
    {
        if (_dueMs == 0 || nowMs < _dueMs || !TakeBackOutside(answers: true))
        {
            return false;
        }
        GiveUp();
        _loop.Post(CloseAnswered);
        return true;
    }

    private bool TakeBackOutside(bool answers)
    {
        lock (_outside)
        {
            int before = Volatile.Read(ref _state);
            if (before is not (Owned or Begun)
                || Interlocked.CompareExchange(ref _state, Abandoned, before) != before)
            {
                return false;
            }
            HttpRequest r = _r!;
            r.Stream.AnswerFromOutside(answers && before == Owned && r.Stream.UnsentBytes == 0
                ? Guests.LateAnswer : default);
            _answeredOutside = true;
        }
        return true;
    }

    private bool _answeredOutside;

    /// <summary>The loop is free again, and the client has had its answer: all that is left is to close.</summary>
    private void CloseAnswered()
    {
        if (!_answeredOutside || _r is not { } r)
        {
            return;
        }
        if (!_begun && (r.Stream.IsShared || r.Tls is not null))
        {
            // Frames and records are the loop's alone to write: nobody could answer while it was held. It does so now.
            r.KeepAlive = false;
            Finish(AnswerLater(r));
            return;
        }
        r.Abort(AbortReason.Timeout);
        Finish(PhaseResult.Done);
    }

    private void GiveUp()
    {
        Guests.Counters.GaveUp();
        if (Interlocked.CompareExchange(ref _run, CalledOff, 0) == Running)
        {
            Guests.Counters.Stick(1);
        }
        Guests.Counters.Tell(AppServerEventKind.TimedOut, ConnectionNumber, RequestNumber, Guests.Index, 503);
        SignalAborted();
    }
}
