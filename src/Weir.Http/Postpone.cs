// The order of a response that several requests make: while a subrequest's place in the body is open, what comes after
// it waits. Installed where a module asks for it (addition); a subrequest's answer takes the way from here to the
// client. Holds the subrequests until the request around ends, since what they lent to the output dies with them. One
// loop's thread.
using Weir.Loop;

namespace Weir.Http;

/// <summary>Where the bytes of a subrequest's answer go.</summary>
internal abstract class BodySink
{
    /// <summary>Takes everything from the chain.</summary>
    internal abstract void Write(BufferChain chain);

    /// <summary>Waits until more may be written. False when the client is gone.</summary>
    internal abstract LoopTask<bool> DrainAsync(long keptBytes);

    internal abstract long UnsentBytes { get; }
}

/// <summary>A place in a body that a subrequest fills.</summary>
internal sealed class BodyHole : BodySink
{
    private LoopOperation<bool>? _opened;

    internal PostponeFilter Owner = null!;
    internal BodyHole? Next;
    internal HttpRequest? Sub;
    internal BufferChain? Held;
    internal bool IsEnded;

    /// <summary>What stands before it has been passed on: its bytes go straight through.</summary>
    internal bool IsFirst => Owner.First == this;

    internal override long UnsentBytes => IsFirst ? Owner.Request.Stream.UnsentBytes : Held?.Length ?? 0;

    internal override void Write(BufferChain chain)
    {
        if (IsFirst)
        {
            Owner.Pass(chain, PushFlags.None);
            return;
        }
        chain.MoveTo(Held ??= Owner.Request.Loop.RentChain());
    }

    internal override LoopTask<bool> DrainAsync(long keptBytes)
    {
        if (IsFirst)
        {
            return Owner.Request.DrainedBelow(Owner, keptBytes);
        }
        if (Held is null || Held.Length <= keptBytes)
        {
            return new LoopTask<bool>(true);
        }
        return (_opened ??= new LoopOperation<bool>()).Begin();
    }

    internal void Wake()
    {
        if (_opened is { IsWaiting: true } opened)
        {
            opened.SetResult(Owner.Request.Aborted == AbortReason.None);
        }
    }

    internal void Clear(EventLoop loop)
    {
        if (Held is not null)
        {
            loop.Return(Held);
        }
        Held = null;
        Sub = null;
        Next = null;
        IsEnded = false;
    }
}

/// <summary>Keeps the order of a body. What a request itself pushes is a hole without a subrequest while it waits.
/// </summary>
internal sealed class PostponeFilter : BodyFilter
{
    internal static readonly RequestSlot<PostponeFilter> Slot = new();

    private BodyHole? _last;
    private BodyHole? _free;
    private BodyHole? _done;
    private LoopOperation<bool>? _drained;
    private Kernel.NativeSlice _tail;
    private bool _isLast;

    internal HttpRequest Request { get; private set; } = null!;
    internal BodyHole? First { get; private set; }

    /// <summary>A module asked for it in this response.</summary>
    internal bool IsWanted { get; private set; }

    public override bool NeedsBytes => false;

    internal static PostponeFilter For(HttpRequest r)
    {
        PostponeFilter filter = r.Get(Slot);
        filter.Request = r;
        filter.IsWanted = true;
        return filter;
    }

    /// <summary>Starts a subrequest whose answer stands here. False when there were too many.</summary>
    internal bool Include(Kernel.NativeSlice uri, Kernel.NativeSlice args)
    {
        if (SubRequest.Start(Request, uri, args) is not { } sub)
        {
            return false;
        }
        BodyHole hole = Append();
        hole.Sub = sub;
        sub.SubStream!.Fill(hole);
        Request.Attach();
        RunAsync(hole, sub).Forget();
        return true;
    }

    /// <summary>A subrequest whose answer stands at the end, behind all that filters still hold.</summary>
    internal void IncludeAtEnd(Kernel.NativeSlice uri) => _tail = uri;

    private static async LoopTask<Unit> RunAsync(BodyHole hole, HttpRequest sub)
    {
        PostponeFilter owner = hole.Owner;
        HttpRequest r = owner.Request;
        try
        {
            await SubRequest.RunAsync(sub);
        }
        finally
        {
            SubRequest.Finish(sub);
            hole.IsEnded = true;
            owner.Advance();
            r.Detach();
        }
        return default;
    }

    private BodyHole Append()
    {
        BodyHole hole = _free ?? new BodyHole { Owner = this };
        _free = hole.Next;
        hole.Next = null;
        if (_last is null)
        {
            First = hole;
        }
        else
        {
            _last.Next = hole;
        }
        _last = hole;
        return hole;
    }

    internal void Pass(BufferChain chain, PushFlags flags) => PassOn(Request, chain, flags);

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        bool last = (flags & PushFlags.Last) != 0;
        if (last && !_tail.IsEmpty)
        {
            PushHere(input, PushFlags.None);
            Kernel.NativeSlice tail = _tail;
            _tail = default;
            Include(tail, default);
        }
        PushHere(input, flags);
    }

    private void PushHere(BufferChain input, PushFlags flags)
    {
        if (First is null)
        {
            if (!input.IsEmpty || flags != PushFlags.None)
            {
                Pass(input, flags);
            }
            return;
        }
        if (!input.IsEmpty)
        {
            BodyHole own = _last is { Sub: null } open ? open : Append();
            own.IsEnded = true;
            input.MoveTo(own.Held ??= Request.Loop.RentChain());
        }
        _isLast |= (flags & PushFlags.Last) != 0;
    }

    /// <summary>Passes on what stands before the first place that is still open.</summary>
    private void Advance()
    {
        while (First is { } first)
        {
            if (first.Held is { IsEmpty: false } held)
            {
                Pass(held, PushFlags.None);
            }
            if (!first.IsEnded)
            {
                first.Wake();
                return;
            }
            First = first.Next;
            _last = First is null ? null : _last;
            first.Next = _done;
            _done = first;
        }
        if (_isLast)
        {
            _isLast = false;
            BufferChain nothing = Request.Loop.RentChain();
            Pass(nothing, PushFlags.Last);
            Request.Loop.Return(nothing);
        }
        if (_drained is { IsWaiting: true } drained)
        {
            drained.SetResult(Request.Aborted == AbortReason.None);
        }
    }

    public override long HeldBytes
    {
        get
        {
            long bytes = 0;
            for (BodyHole? hole = First; hole is not null; hole = hole.Next)
            {
                bytes += hole.Sub is null ? hole.Held?.Length ?? 0 : 0;
            }
            return bytes;
        }
    }

    public override LoopTask<bool> DrainAsync(HttpRequest r) =>
        First is null ? new LoopTask<bool>(true) : (_drained ??= new LoopOperation<bool>()).Begin();

    protected internal override void Reset()
    {
        while (First is { } open)
        {
            First = open.Next;
            open.Next = _done;
            _done = open;
        }
        while (_done is { } hole)
        {
            _done = hole.Next;
            if (hole.Sub is { } sub)
            {
                SubRequest.Release(sub);
            }
            hole.Clear(Request.Loop);
            hole.Next = _free;
            _free = hole;
        }
        _last = null;
        _tail = default;
        _isLast = false;
        IsWanted = false;
    }
}

/// <summary>Puts the order into a response that needs one.</summary>
internal sealed class PostponeHeadFilter : HeadFilter
{
    internal static readonly PostponeHeadFilter Instance = new();

    public override void OnHead(HttpRequest r)
    {
        if (r.Find(PostponeFilter.Slot) is { IsWanted: true } filter)
        {
            r.AddBodyFilter(filter);
        }
    }
}
