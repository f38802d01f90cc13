// Response filters. Head filters look at a response's head once, before it is written, and may put a body filter into
// the request's chain; body filters are synchronous pushes. The order is the enum below, written once: nginx's order,
// first the ones that see the response first.
using Weir.Loop;

namespace Weir.Http;

/// <summary>Where a filter stands: from the producer's side towards the client.</summary>
public enum FilterPlace
{
    Slice,
    NotModified,
    Headers,
    UserId,
    Gunzip,
    Addition,
    Sub,
    Charset,
    Ssi,
    Compression,
    Range,
    LimitRate,
    SliceEnd,
}

/// <summary>What a push carries besides bytes.</summary>
[Flags]
public enum PushFlags : byte
{
    None = 0,

    /// <summary>What is held back should leave now.</summary>
    Flush = 1,

    /// <summary>Nothing follows.</summary>
    Last = 2,
}

/// <summary>Looks at a response's head. One per location, with its configuration in a field.</summary>
public abstract class HeadFilter
{
    /// <summary>May change the head and call <see cref="HttpRequest.AddBodyFilter"/>.</summary>
    public abstract void OnHead(HttpRequest r);
}

/// <summary>Transforms a body. Rented per response (see <see cref="HttpRequest.Rent{T}"/>), linked by the
/// request.</summary>
public abstract class BodyFilter : RequestState
{
    internal BodyFilter? Downstream;

    /// <summary>Takes everything from <paramref name="input"/> (leaves it empty), passes on what it can with
    /// <see cref="PassOn"/> and keeps the rest. Never throws; a failure calls <see
    /// cref="HttpRequest.Abort"/>.</summary>
    public abstract void Push(HttpRequest r, BufferChain input, PushFlags flags);

    /// <summary>Whether it must see the bytes: a file is then read instead of sent by the kernel.</summary>
    public virtual bool NeedsBytes => true;

    /// <summary>Bytes kept because they may not leave yet (limit_rate). What is kept for a transformation does not
    /// count.</summary>
    public virtual long HeldBytes => 0;

    /// <summary>Waits until what is held has been passed on. False when the client is gone.</summary>
    public virtual LoopTask<bool> DrainAsync(HttpRequest r) => new(true);

    protected void PassOn(HttpRequest r, BufferChain chain, PushFlags flags) => r.PushFrom(Downstream, chain, flags);
}

/// <summary>A module's state in one request: rented from the loop, given back when the request ends.</summary>
public abstract class RequestState
{
    internal RequestState? NextFree;
    internal RequestState? NextInRequest;
    internal RequestStatePool? Pool;

    /// <summary>Whether it stays the request's own across internal redirects.</summary>
    protected internal virtual bool SurvivesRedirect => false;

    /// <summary>Gives back what it holds and makes it as new. Called when the request ends.</summary>
    protected internal abstract void Reset();
}

/// <summary>Free states of one kind on one loop.</summary>
internal sealed class RequestStatePool(EventLoop loop, string name) : LoopPool(loop, name)
{
    /// <summary>As many as requests are kept.</summary>
    internal const int Max = 1024;

    private readonly EventLoop _loop = loop;
    private RequestState? _free;
    private int _count;

    public override int Count => _count;

    internal RequestState? TryTake()
    {
        RequestState? state = _free;
        if (state is not null)
        {
            _free = state.NextFree;
            state.NextFree = null;
            _count--;
        }
        return state;
    }

    internal void Return(RequestState state)
    {
        if (_count < Max)
        {
            state.NextFree = _free;
            _free = state;
            if (++_count > EventLoop.PoolKept)
            {
                _loop.TrimLater();
            }
        }
    }

    protected override int TrimTo(int kept)
    {
        int before = _count;
        for (; _count > kept; _count--)
        {
            _free = _free!.NextFree;
        }
        return before - _count;
    }
}

/// <summary>Names a module's state in requests. One static readonly instance per use.</summary>
public sealed class RequestSlot<T> where T : RequestState, new()
{
    private readonly LoopSlot<RequestStatePool> _pool = new();

    internal int Index => _pool.Index;

    internal T Rent(EventLoop loop)
    {
        RequestStatePool pool = loop.Slot(_pool, static loop => new RequestStatePool(loop, typeof(T).Name));
        return (T?)pool.TryTake() ?? new T { Pool = pool };
    }
}
